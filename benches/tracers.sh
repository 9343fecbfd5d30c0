#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# What the tracers cost real programs, beside what people preload today: ratios of one run.
#   tracers.sh BUILD-DIRECTORY
# Each round runs all tools once, so that the machine's moods meet them all; the median of the rounds counts.
set -u
cd "$(dirname "$0")/.." || exit 1
build=$(realpath "$1")
rounds=${ROUNDS:-5}
work=$(mktemp -d "${TMPDIR:-/var/tmp}/rcutrace-bench.XXXXXX")
session=rcutrace-bench-$$
missed=0
lttng_ran=

finish() {
    lttng destroy "$session" >/dev/null 2>&1
    rm -rf "$work"
}
trap finish EXIT

need() { # command, package
    command -v "$1" >/dev/null || { echo "SKIP: $1 is missing (apt-get install $2)"; return 1; }
}
median() { sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
calculate() { awk "BEGIN { printf \"%.3f\\n\", $1 }"; }
verdict() { # what, value, limit
    if awk "BEGIN { exit !($2 <= $3) }"; then
        printf '  ok     %-62s %8s  (at most %s)\n' "$1" "$2" "$3"
    else
        printf '  MISSED %-62s %8s  (at most %s)\n' "$1" "$2" "$3"
        missed=$((missed + 1))
    fi
}

has_lttng=1 has_heaptrack=1 has_uftrace=1
wrapper=$(ldconfig -p | awk '/liblttng-ust-libc-wrapper.so/ { print $NF; exit }')
need lttng lttng-tools || has_lttng=
[ -n "$wrapper" ] || { echo 'SKIP: liblttng-ust-libc-wrapper.so is missing (apt-get install liblttng-ust1)'; has_lttng=; }
need heaptrack heaptrack || has_heaptrack=
need uftrace uftrace || has_uftrace=
if [ $has_lttng ] && ! pgrep -x lttng-sessiond >/dev/null; then
    lttng-sessiond -d >/dev/null 2>&1 && lttng_ran=1
    sleep 1
fi

lttng_start() {
    lttng create "$session" --output="$work/lttng" >/dev/null 2>&1
    # Large enough that nothing is discarded, so that the same events are recorded.
    lttng enable-channel -u --subbuf-size=4M --num-subbuf=8 heap >/dev/null 2>&1
    lttng enable-event -u 'lttng_ust_libc:*' -c heap >/dev/null 2>&1
    lttng start "$session" >/dev/null 2>&1
}
lttng_stop() {
    lttng stop "$session" >/dev/null 2>&1
    lttng destroy "$session" >/dev/null 2>&1
    rm -rf "$work/lttng"
}

seconds() { # command...
    local begin=$EPOCHREALTIME
    "$@" >/dev/null 2>"$work/stderr" || { echo "failed: $*" >&2; tail -n 3 "$work/stderr" >&2; }
    calculate "$EPOCHREALTIME - $begin"
}

heap=$build/tracers/librcutrace_heap.so
rcutrace=$build/tracers/rcutrace

# ---- the heap of real programs ----------------------------------------------------------------
program() { # name, limit against heaptrack, command...
    local name=$1
    shift
    rm -f "$work"/t.*
    for _ in $(seq "$rounds"); do
        seconds "$@" >>"$work/t.bare"
        seconds env LD_PRELOAD="$heap" RCUTRACE_CONTROL=0 "$@" >>"$work/t.detached"
        seconds "$rcutrace" heap -o "$work/trace" --max-size 8G -- "$@" >>"$work/t.ours"
        ls -s --block-size=1M "$work/trace" | awk '{ print $1 }' >"$work/size"
        rm -f "$work/trace"
        if [ $has_lttng ]; then
            seconds env LD_PRELOAD="$wrapper" "$@" >>"$work/t.wrapper"
            lttng_start
            seconds env LD_PRELOAD="$wrapper" "$@" >>"$work/t.lttng"
            lttng_stop
        fi
        if [ $has_heaptrack ]; then
            seconds heaptrack -r -o "$work/heaptrack" "$@" >>"$work/t.heaptrack"
            rm -f "$work"/heaptrack*
        fi
    done
    local bare ours
    bare=$(median <"$work/t.bare") ours=$(median <"$work/t.ours")
    printf '%s: bare %s s' "$name" "$bare"
    for tool in detached ours wrapper lttng heaptrack; do
        [ -e "$work/t.$tool" ] && printf ', %s %s' "$tool" "$(median <"$work/t.$tool")"
    done
    printf ' (%s MB)\n' "$(cat "$work/size")"
    local added
    added=$(calculate "$ours - $bare")
    if [ $has_lttng ]; then
        verdict "$name: recording, of what LTTng-UST's wrapper adds" \
            "$(calculate "$added / ($(median <"$work/t.lttng") - $bare)")" 0.4
    fi
    if [ $has_heaptrack ]; then
        verdict "$name: recording, of what heaptrack adds" \
            "$(calculate "$added / ($(median <"$work/t.heaptrack") - $bare)")" 1
    fi
}

for i in $(seq 6000); do
    echo "struct s$i { int a; char b[$((i % 50 + 1))]; struct s$i *next; };"
    echo "int f$i(struct s$i *s, int n) { int t = $i; for (; s; s = s->next) t += s->a * n + s->b[0]; return t; }"
done >"$work/big.c"

python=$(python3 -c "import sys; print(sys.executable)") # not a launcher script of it
program python3 "$python" benches/traced/workload.py
program 'python3, PYTHONMALLOC=malloc' env PYTHONMALLOC=malloc "$python" benches/traced/workload.py
program 'gcc -O1' "$(gcc -print-prog-name=cc1)" -quiet -O1 "$work/big.c" -o "$work/big.s"

# ---- detached: a call, a start ------------------------------------------------------------------
${CC:-cc} -O2 -o "$work/loop" benches/traced/loop.c
rm -f "$work"/t.*
for _ in $(seq "$rounds"); do
    "$work/loop" >>"$work/t.bare"
    LD_PRELOAD=$heap RCUTRACE_CONTROL=0 "$work/loop" >>"$work/t.ours"
    [ $has_lttng ] && LD_PRELOAD=$wrapper "$work/loop" >>"$work/t.lttng"
    "$rcutrace" heap -o "$work/trace" --max-size 8G -- "$work/loop" >>"$work/t.recording" 2>/dev/null
    rm -f "$work/trace"
    if [ $has_lttng ]; then
        lttng_start
        LD_PRELOAD=$wrapper "$work/loop" >>"$work/t.session"
        lttng_stop
    fi
done
bare=$(median <"$work/t.bare")
added=$(calculate "$(median <"$work/t.ours") - $bare")
recording=$(calculate "$(median <"$work/t.recording") - $bare")
echo "malloc and free, ns a call: bare $bare, detached adds $added, recording adds $recording"
if [ $has_lttng ]; then
    lttng_added=$(calculate "$(median <"$work/t.lttng") - $bare")
    session_added=$(calculate "$(median <"$work/t.session") - $bare")
    echo "  LTTng-UST's wrapper: no session adds $lttng_added, recording adds $session_added"
    verdict "detached, of what the wrapper adds without a session" "$(calculate "$added / $lttng_added")" 0.5
    verdict "recording, of what the wrapper adds with one" "$(calculate "$recording / $session_added")" 0.4
fi

starts() { # preload
    local begin=$EPOCHREALTIME
    for _ in $(seq 100); do LD_PRELOAD=$1 /bin/true; done
    calculate "($EPOCHREALTIME - $begin) * 10"
}
rm -f "$work"/t.*
for _ in $(seq "$rounds"); do
    starts "" >>"$work/t.bare"
    starts "$heap" >>"$work/t.ours"
    [ $has_lttng ] && starts "$wrapper" >>"$work/t.lttng"
done
bare=$(median <"$work/t.bare")
[ $has_lttng ] && echo "  (LTTng-UST's wrapper adds $(calculate "$(median <"$work/t.lttng") - $bare") ms)"
verdict "start-up, preloaded and detached, ms" "$(calculate "$(median <"$work/t.ours") - $bare")" 3

# ---- functions ----------------------------------------------------------------------------------
functions() { # kind, flags
    ${CC:-cc} -O2 -o "$work/fib" benches/traced/fib.c
    # shellcheck disable=SC2086
    ${CC:-cc} -O2 $2 -o "$work/fib.traced" benches/traced/fib.c
    rm -f "$work"/t.*
    for _ in $(seq "$rounds"); do
        "$work/fib" | awk '{ print $2 }' >>"$work/t.bare"
        (cd "$work" && "$rcutrace" functions -o "$work/trace" --max-size 8G -- ./fib.traced) 2>/dev/null | awk '{ print $2 }' >>"$work/t.ours"
        rm -f "$work/trace"
        if [ $has_uftrace ]; then
            (cd "$work" && uftrace record --no-libcall -d "$work/uftrace" ./fib.traced 2>/dev/null) | awk '{ print $2 }' >>"$work/t.uftrace"
            rm -rf "$work/uftrace"
        fi
    done
    local bare ours
    bare=$(median <"$work/t.bare")
    ours=$(calculate "$(median <"$work/t.ours") - $bare")
    echo "functions, $1: a call's entry and exit, recorded: $ours ns"
    if [ $has_uftrace ]; then
        local theirs
        theirs=$(calculate "$(median <"$work/t.uftrace") - $bare")
        echo "  uftrace: $theirs ns"
        verdict "functions, $1: of uftrace's" "$(calculate "$ours / $theirs")" 0.5
    fi
}
functions -pg "-pg"
functions '-pg -mfentry' "-pg -mfentry"
functions -finstrument-functions "-finstrument-functions"

[ $lttng_ran ] && pkill -x lttng-sessiond
echo "tracers: $missed targets missed"
[ $missed = 0 ]
