#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# What the tracers cost, beside LTTng's and uftrace where they are installed: cost.sh [BUILD-DIRECTORY]
#
# Nanoseconds of processor time added to a call (heap: malloc or free; locks: lock and unlock; functions:
# entry and exit; fd: dup or close), the median of ROUNDS runs that take turns with each other; the files are on the disk that
# TMPDIR names. Prints; judges nothing.
set -u

source=$(cd "$(dirname "$0")" && pwd)
build=$(realpath -- "${1:-build}")
rounds=${ROUNDS:-7}
unset LD_PRELOAD ${!RCUTRACE_*} ${!RCU_NOTRACE_*}
export LC_ALL=C
work=$(mktemp -d) || exit 1
session=rcutrace-cost-$$ daemon=
finish() {
    lttng destroy "$session" > /dev/null 2>&1
    [ -z "$daemon" ] || kill "$daemon"
    rm -rf -- "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM HUP
cd "$work" || exit 1
export HOME=$work LTTNG_HOME=$work

gcc -O1 -I"$source/../../include" -o dump "$source/dump.c" -L"$build" -lrcu_notrace -Wl,-rpath,"$build" -pthread &&
    gcc -O2 -fno-builtin -o heap "$source/heap_cost.c" &&
    gcc -O2 -o locks "$source/locks_cost.c" -pthread &&
    gcc -O2 -o fd "$source/fd_cost.c" || exit 1
for mode in bare pg fentry instrument; do
    case $mode in
    bare) flags= ;;
    pg) flags=-pg ;;
    fentry) flags='-pg -mfentry' ;;
    instrument) flags=-finstrument-functions ;;
    esac
    gcc -O1 -fno-inline -fno-optimize-sibling-calls $flags -o "fib.$mode" "$source/fib.c" || exit 1
done

ours() { # TRACER PROGRAM - detached
    LD_PRELOAD=$build/tracers/librcutrace_$1.so "${@:2}"
}
ours_recording() {
    rm -f trace
    ./dump new trace 100000
    RCUTRACE_FILE=$work/trace RCUTRACE_CONTROL=0 ours "$@"
}
lttng_preloaded() { # libc or pthread, PROGRAM
    LD_PRELOAD=liblttng-ust-$1-wrapper.so "${@:2}"
}
lttng_recording() {
    lttng create "$session" --output="$work/lttng" > /dev/null 2>&1 &&
        lttng enable-channel -u channel --subbuf-size=1M --num-subbuf=8 > /dev/null 2>&1 &&
        lttng enable-event -u -c channel 'lttng_ust_*' > /dev/null 2>&1 && lttng start > /dev/null 2>&1
    lttng_preloaded "$@"
    lttng destroy "$session" > /dev/null 2>&1
    rm -rf "$work/lttng"
}
uftrace_recording() {
    rm -rf uftrace.data
    uftrace record --no-libcall -d uftrace.data "$@"
}

has_lttng= has_uftrace=
if command -v lttng lttng-sessiond > /dev/null 2>&1 &&
    [ -e /usr/lib/"$(uname -m)"-linux-gnu/liblttng-ust-libc-wrapper.so ]; then
    has_lttng=1
    if ! lttng list > /dev/null 2>&1; then
        lttng-sessiond --background --pidfile "$work/daemon" > /dev/null 2>&1
        sleep 1
        daemon=$(cat daemon 2> /dev/null)
    fi
    lttng list > /dev/null 2>&1 || has_lttng=
fi
command -v uftrace > /dev/null 2>&1 && has_uftrace=1

# start LIBRARY - ms for each of 200 processes that do nothing
start() {
    LD_PRELOAD=$1 bash -c 'TIMEFORMAT=%R; time for i in {1..200}; do /bin/true; done' 2>&1 | awk '{ printf "%.3f\n", $1 * 5 }'
}

# take LABEL COMMAND... - one run's figure into the file of that name
take() {
    local label=$1
    shift
    "$@" 2>&1 | grep -E '^[0-9]+\.[0-9]+$' | tail -n 1 >> "figures.$label"
}
median() {
    sort -n "figures.$1" 2> /dev/null | awk '{ a[NR] = $1 } END { if (NR) print a[int((NR + 1) / 2)] }'
}
added() { # LABEL BASE
    awk -v a="$(median "$1")" -v b="$(median "$2")" 'BEGIN { if (a == "" || b == "") print "-"; else printf "%.2f", a - b }'
}

for ((round = 0; round < rounds; round++)); do
    for what in heap locks; do
        wrapper=$([ $what = heap ] && echo libc || echo pthread)
        take $what.bare ./$what 200000
        take $what.ours ours $what ./$what 200000
        take $what.ours-recording ours_recording $what ./$what 200000
        [ -z "$has_lttng" ] || take $what.lttng lttng_preloaded $wrapper ./$what 200000
        [ -z "$has_lttng" ] || take $what.lttng-recording lttng_recording $wrapper ./$what 200000
    done
    take fd.bare ./fd 200000
    take fd.ours ours fd ./fd 200000
    take fd.ours-recording ours_recording fd ./fd 200000
    take fib.bare ./fib.bare 29
    for mode in pg fentry instrument; do
        take $mode.bare ours functions ./fib.$mode 29
        take $mode.ours ours_recording functions ./fib.$mode 29
        [ -z "$has_uftrace" ] || take $mode.uftrace uftrace_recording ./fib.$mode 29
    done
    take start.bare start ''
    for tracer in heap locks functions fd; do
        take start.$tracer start "$build/tracers/librcutrace_$tracer.so"
    done
    [ -z "$has_lttng" ] || take start.lttng start liblttng-ust-libc-wrapper.so
done

echo '# ns of processor time that are added: ours, theirs'
for what in heap locks; do
    echo "$what, detached: $(added $what.ours $what.bare), LTTng preloaded $(added $what.lttng $what.bare)" \
        "(bare $(median $what.bare))"
    echo "$what, recording: $(added $what.ours-recording $what.bare)," \
        "LTTng recording $(added $what.lttng-recording $what.bare)"
done
echo "fd, detached: $(added fd.ours fd.bare), recording: $(added fd.ours-recording fd.bare) (bare $(median fd.bare))"
for mode in pg fentry instrument; do
    echo "functions, $mode: detached $(added $mode.bare fib.bare), recording $(added $mode.ours fib.bare)," \
        "uftrace recording $(added $mode.uftrace fib.bare)"
done
echo "start of a process, detached, in ms: heap $(added start.heap start.bare), locks $(added start.locks start.bare)," \
    "functions $(added start.functions start.bare), fd $(added start.fd start.bare), LTTng $(added start.lttng start.bare) (bare $(median start.bare))"
[ -n "$has_lttng" ] || echo 'ok cost: LTTng # SKIP: not installed'
[ -n "$has_uftrace" ] || echo 'ok cost: uftrace # SKIP: not installed'
