#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# What recording costs, beside what people preload today: ratios of one run, with targets.
#   tracers.sh BUILD-DIRECTORY
# Each of ROUNDS rounds runs all tools once, so that the machine's moods meet them all; the medians count.
set -u
cd "$(dirname "$0")/.." || exit 1
build=$(realpath "$1")
rounds=${ROUNDS:-5}
unset LD_PRELOAD ${!RCUTRACE_*} ${!RCU_NOTRACE_*}
export LC_ALL=C
work=$(mktemp -d "${TMPDIR:-/var/tmp}/rcutrace-bench.XXXXXX")
session=rcutrace-bench-$$
daemon=
missed=0
rcutrace=$build/tracers/rcutrace

finish() {
    lttng destroy "$session" >/dev/null 2>&1
    [ -z "$daemon" ] || kill "$daemon"
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM HUP

need() { # command, package
    command -v "$1" >/dev/null || { echo "SKIP: $1 is missing (apt-get install $2)"; return 1; }
}
calculate() { awk "BEGIN { printf \"%.3f\\n\", $1 }"; }
median() { sort -g "$work/t.$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
added() { calculate "$(median "$1") - $(median "${2:-bare}")"; }
verdict() { # what, value, limit
    if awk "BEGIN { exit !($2 <= $3) }"; then
        printf '  ok     %-66s %8s  (at most %s)\n' "$1" "$2" "$3"
    else
        printf '  MISSED %-66s %8s  (at most %s)\n' "$1" "$2" "$3"
        missed=$((missed + 1))
    fi
}
ratio() { # what, ours, theirs, limit
    verdict "$1" "$(calculate "$2 / $3")" "$4"
}

has_lttng=1 has_heaptrack=1 has_uftrace=1
need lttng lttng-tools || has_lttng=
library() { ldconfig -p | awk -v name="$1" '$1 == name { print $NF; exit }'; }
if [ -z "$(library liblttng-ust-libc-wrapper.so.1)" ]; then
    echo 'SKIP: liblttng-ust-libc-wrapper.so is missing (apt-get install liblttng-ust1)'
    has_lttng=
fi
need heaptrack heaptrack || has_heaptrack=
need uftrace uftrace || has_uftrace=
if [ $has_lttng ] && ! lttng list >/dev/null 2>&1; then
    export LTTNG_HOME=$work
    lttng-sessiond --background --pidfile "$work/daemon" >/dev/null 2>&1
    sleep 1
    daemon=$(cat "$work/daemon" 2>/dev/null)
    lttng list >/dev/null 2>&1 || { echo 'SKIP: lttng-sessiond does not start'; has_lttng=; }
fi

# lttng_start EVENTS [OPTION...] - of the channel; large enough that nothing is discarded
lttng_start() {
    local events=$1
    shift
    lttng create "$session" --output="$work/lttng" >/dev/null 2>&1
    lttng enable-channel -u --subbuf-size=4M --num-subbuf=8 "$@" bench >/dev/null 2>&1
    lttng enable-event -u "$events" -c bench >/dev/null 2>&1
    lttng start "$session" >/dev/null 2>&1
}
lttng_stop() {
    lttng stop "$session" >/dev/null 2>&1
    lttng destroy "$session" >/dev/null 2>&1
    rm -rf "$work/lttng"
}
record() { # tracer, command...
    "$rcutrace" "$1" -o "$work/trace" --max-size 16G -- "${@:2}"
}
preloaded() { # tracer, command...: nothing is recorded
    LD_PRELOAD=$build/tracers/librcutrace_$1.so "${@:2}"
}
wrapped() { # libc or pthread, command...: LTTng-UST's
    LD_PRELOAD=liblttng-ust-$1-wrapper.so "${@:2}"
}
begin() { rm -f "$work"/t.*; }

seconds() { # command...
    local begin=$EPOCHREALTIME
    "$@" >/dev/null 2>"$work/stderr" || { echo "failed: $*" >&2; tail -n 3 "$work/stderr" >&2; }
    calculate "$EPOCHREALTIME - $begin"
}

# ---- real programs ------------------------------------------------------------------------------
program() { # name, command...
    local name=$1 events
    shift
    begin
    for _ in $(seq "$rounds"); do
        seconds "$@" >>"$work/t.bare"
        seconds preloaded heap "$@" >>"$work/t.detached"
        seconds record heap "$@" >>"$work/t.ours"
        events=$(grep -o '[0-9,]* events.*' "$work/stderr" | sed 's/:.*//')
        rm -f "$work/trace"
        if [ $has_lttng ]; then
            seconds wrapped libc "$@" >>"$work/t.wrapper"
            lttng_start 'lttng_ust_libc:*'
            seconds wrapped libc "$@" >>"$work/t.lttng"
            lttng_stop
        fi
        if [ $has_heaptrack ]; then
            seconds heaptrack -r -o "$work/heaptrack" "$@" >>"$work/t.heaptrack"
            rm -f "$work"/heaptrack*
        fi
    done
    printf '%s: s:' "$name"
    for tool in bare detached ours wrapper lttng heaptrack; do
        [ -e "$work/t.$tool" ] && printf ' %s %s' "$tool" "$(median "$tool")"
    done
    echo " ($events)"
    [ $has_lttng ] && ratio "$name: recording, of what LTTng-UST's wrapper adds" "$(added ours)" "$(added lttng)" 0.4
    [ $has_heaptrack ] && ratio "$name: recording, of what heaptrack adds" "$(added ours)" "$(added heaptrack)" 1
}

for i in $(seq 3000); do
    echo "struct s$i { int a; char b[$((i % 50 + 1))]; struct s$i *next; };"
    echo "int f$i(struct s$i *s, int n) { int t = $i; for (; s; s = s->next) t += s->a * n + s->b[0]; return t; }"
done >"$work/big.c"
python=$(python3 -c 'import sys; print(sys.executable)') # not a launcher script of it
program python3 "$python" benches/traced/workload.py
PYTHONMALLOC=malloc program "python3, PYTHONMALLOC=malloc" "$python" benches/traced/workload.py
program 'gcc -O1' "$(gcc -print-prog-name=cc1)" -quiet -O1 "$work/big.c" -o "$work/big.s"

# ---- a call ---------------------------------------------------------------------------------------
call() { # tracer, program, LTTng-UST's wrapper
    ${CC:-cc} -O2 -o "$work/$2" "benches/traced/$2.c" -pthread
    begin
    for _ in $(seq "$rounds"); do
        "$work/$2" >>"$work/t.bare"
        preloaded "$1" "$work/$2" >>"$work/t.detached"
        record "$1" "$work/$2" >>"$work/t.ours" 2>/dev/null
        rm -f "$work/trace"
        if [ $has_lttng ]; then
            wrapped "$3" "$work/$2" >>"$work/t.wrapper"
            lttng_start "lttng_ust_$3:*"
            wrapped "$3" "$work/$2" >>"$work/t.lttng"
            lttng_stop
        fi
    done
    echo "$1, ns a call: bare $(median bare), detached adds $(added detached), recording adds $(added ours)"
    if [ $has_lttng ]; then
        echo "  LTTng-UST's wrapper: no session adds $(added wrapper), recording adds $(added lttng)"
        ratio "$1: detached, of what the wrapper adds without a session" "$(added detached)" "$(added wrapper)" 0.5
        ratio "$1: recording, of what the wrapper adds with one" "$(added ours)" "$(added lttng)" 0.4
    fi
}
call heap loop libc
call locks locks pthread

starts() { # library
    local begin=$EPOCHREALTIME
    for _ in $(seq 100); do LD_PRELOAD=$1 /bin/true; done
    calculate "($EPOCHREALTIME - $begin) * 10"
}
begin
for _ in $(seq "$rounds"); do
    starts "" >>"$work/t.bare"
    starts "$build/tracers/librcutrace_heap.so" >>"$work/t.ours"
    [ $has_lttng ] && starts liblttng-ust-libc-wrapper.so >>"$work/t.lttng"
done
[ $has_lttng ] && echo "start-up: LTTng-UST's wrapper adds $(added lttng) ms"
verdict "start-up, preloaded and detached, ms" "$(added ours)" 3

# ---- an event of one integer, into the ring -------------------------------------------------------
${CC:-cc} -O2 -Iinclude -o "$work/one" benches/traced/one.c -L"$build/tracers" -lrcutrace -L"$build" -lrcu_notrace \
    -Wl,-rpath,"$build/tracers:$build" -Wl,-z,now
if [ $has_lttng ] && echo '#include <lttng/tracepoint.h>' | ${CC:-cc} -xc -E -o /dev/null - 2>/dev/null; then
    ${CC:-cc} -O2 -DLTTNG -Ibenches/traced -o "$work/one_lttng" benches/traced/one.c -llttng-ust -llttng-ust-tracepoint \
        -llttng-ust-common -ldl
    begin
    for _ in $(seq "$rounds"); do
        "$work/one" "$work/trace" >>"$work/t.ours"
        lttng_start 'rcu_notrace_bench:*' --overwrite
        "$work/one_lttng" any >>"$work/t.lttng"
        lttng_stop
    done
    echo "one integer, recorded, overwrite mode, ns: $(median ours); LTTng-UST: $(median lttng)"
    ratio "one integer, recorded: of LTTng-UST's" "$(median ours)" "$(median lttng)" 0.333
else
    echo "one integer, recorded, overwrite mode, ns: $("$work/one" "$work/trace")"
    echo 'SKIP: LTTng-UST or its headers are missing (apt-get install liblttng-ust-dev)'
fi

# ---- functions --------------------------------------------------------------------------------------
functions() { # compiler flags
    local flags=(-O1 -fno-optimize-sibling-calls)
    ${CC:-cc} "${flags[@]}" -o "$work/fib" benches/traced/fib.c
    # shellcheck disable=SC2086
    ${CC:-cc} "${flags[@]}" $1 -o "$work/fib.traced" benches/traced/fib.c
    begin
    for _ in $(seq "$rounds"); do
        "$work/fib" >>"$work/t.bare"
        (cd "$work" && record functions ./fib.traced) >>"$work/t.ours" 2>/dev/null
        rm -f "$work/trace"
        if [ $has_uftrace ]; then
            (cd "$work" && uftrace record --no-libcall -d "$work/uftrace" ./fib.traced) >>"$work/t.uftrace" 2>/dev/null
            rm -rf "$work/uftrace"
        fi
    done
    echo "functions, $1: a call's entry and exit, recorded: $(added ours) ns"
    if [ $has_uftrace ]; then
        echo "  uftrace: $(added uftrace) ns"
        ratio "functions, $1: of uftrace's" "$(added ours)" "$(added uftrace)" 0.5
    fi
}
functions -pg
functions '-pg -mfentry'
functions -finstrument-functions

echo "tracers: $missed targets missed"
[ $missed = 0 ]
