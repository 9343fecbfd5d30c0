#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The preloadable tracers: tracers.sh [BUILD-DIRECTORY]
#
# Programs whose calls are known, recorded: the file must have exactly those; then the same programs while the tracers
# are attached and detached, and real programs: their output must be as without the tracers.
set -u
shopt -s lastpipe

source=$(cd "$(dirname "$0")" && pwd)
build=$(realpath -- "${1:-build}")
unset LD_PRELOAD ${!RCUTRACE_*} ${!RCU_NOTRACE_*}
export LC_ALL=C RCUTRACE_CONTROL=0
passed=0 failed=0 skipped=0
work=$(mktemp -d) || exit 1
trap 'rm -rf -- "$work"' EXIT
trap 'exit 1' INT TERM HUP
cd "$work" || exit 1

libraries() { # TRACER...
    local tracer list=
    for tracer; do list="$list $build/tracers/librcutrace_$tracer.so"; done
    echo "${list# }"
}

# verdict NAME WHY - WHY is empty if it is well
verdict() {
    if [ -z "$2" ]; then
        echo "ok tracers: $1"
        passed=$((passed + 1))
    else
        echo "not ok tracers: $1: $2"
        failed=$((failed + 1))
    fi
}

skip() { # NAME WHY
    echo "ok tracers: $1 # SKIP: $2"
    skipped=$((skipped + 1))
}

# record "TRACER..." COMMAND... - into the file `trace`; what was lost goes to standard error
record() {
    local tracers=$1
    shift
    ./dump new trace 20000
    RCUTRACE_FILE=$work/trace LD_PRELOAD=$(libraries $tracers) "$@"
}

# expect NAME EXPECTED - compares with standard input
expect() {
    local got
    got=$(cat)
    if [ "$got" = "$2" ]; then
        verdict "$1" ''
    else
        verdict "$1" "$(diff <(echo "$2") <(echo "$got") | grep '^[<>]' | tr '\n' ' ')"
    fi
}

gcc -O1 -I"$source/../include" -o dump "$source/traced/dump.c" -L"$build" -lrcu_notrace \
    -Wl,-rpath,"$build" -pthread || exit 1

# ---- heap ----------------------------------------------------------------------------------------
gcc -O1 -fno-builtin -o heap "$source/traced/heap.c" -pthread || exit 1
record heap ./heap || verdict 'heap: the program' "status $?"
./dump show trace > shown 2> lost
awk '$2 == "heap:malloc" && $4 == "size=1900545" { on = 1 } on { n[$2]++ }
    $2 == "heap:malloc" && $4 == "size=1900546" { exit } END { for (i in n) print i, n[i] }' shown |
    sort | expect 'heap: calls of one thread' 'heap:calloc 1000
heap:free 2008
heap:malloc 1004
heap:memalign 6
heap:realloc 2001'
awk '$2 == "heap:malloc" && on { n[$1]++ } $4 == "size=1900546" { on = 1 }
    END { for (i in n) if (n[i] == 1000) threads++; print threads, "threads" }' shown |
    expect 'heap: calls of threads' '4 threads'
# Every block that is freed is one that was had.
awk '{ split($3, block, "="); split($4, old, "=") }
    $2 == "heap:free" { if (block[2] != "0" && !(block[2] in live)) wrong++; delete live[block[2]]; next }
    $2 == "heap:realloc" && block[2] != "0" { if (old[2] != "0" && !(old[2] in live)) wrong++; delete live[old[2]] }
    block[2] != "0" { if (block[2] in live) wrong++; live[block[2]] = 1 }
    END { print wrong + 0 }' <(sed 's/.*/& &/; s/^.* time=\([0-9]*\) /\1 /' shown |
        sort -n -s -k 1,1 | cut -d ' ' -f 2- | sed 's/ time=[0-9]*$//') |
    expect 'heap: blocks come and go' 0
expect 'heap: nothing is lost' '' < lost
RCUTRACE_STACK=16 record heap ./heap
./dump show trace | awk '$2 == "heap:malloc" && $4 == "size=1900546" { split($6, depth, "="); print(depth[2] >= 2) }' |
    expect 'heap: stacks' 1
why=$(RCUTRACE_TOGGLE_MS=1 RCUTRACE_FILE=$work/trace LD_PRELOAD=$(libraries heap) ./heap) ||
    why="status $?"
verdict 'heap: attached and detached' "$why"

# ---- locks ---------------------------------------------------------------------------------------
# With -fexceptions a cancellation unwinds our wrapper.
gcc -O2 -fexceptions -o locks "$source/traced/locks.c" -pthread || exit 1
record locks ./locks > names || verdict 'locks: the program' "status $?"
./dump show trace | awk 'NR == FNR { for (i = 1; i <= NF; i++) { split($i, name, "="); lock[name[2]] = name[1] } next }
    { split($3, address, "="); split($4, kind, "="); split($5, wait, "=") }
    !(address[2] in lock) { next }
    $2 == "locks:acquire" { what = wait[2] > 0 ? "waited-for" : "had" }
    $2 == "locks:release" { what = "released" }
    $2 == "locks:failed" { what = "failed" }
    $2 == "locks:wait" { what = "waits"; kind[2] = "" }
    $2 == "locks:signal" { what = "signals"; kind[2] = "" }
    { n[lock[address[2]] " " what " " ($2 == "locks:failed" ? "" : kind[2])]++ }
    END { for (i in n) print i, n[i] }' names - | tr -s ' ' | sort |
    expect 'locks: calls' 'checking failed 4
checking had 0 1
checking released 0 3
cond signals 2
cond waits 3
contended had 0 1
contended released 0 2
contended waited-for 0 1
inheriting failed 1
inheriting had 0 1
inheriting released 0 1
plain failed 5
plain had 0 1001
plain released 0 1001
recursive had 0 11
recursive released 0 11
robust failed 1
robust had 0 4
robust released 0 2
rwlock failed 6
rwlock had 1 2
rwlock had 2 2
rwlock released 1 2
rwlock released 2 2
spin failed 1
spin had 3 1
spin released 3 1'
why=$(RCUTRACE_TOGGLE_MS=1 RCUTRACE_FILE=$work/trace LD_PRELOAD=$(libraries heap locks) ./locks 2>&1 > /dev/null) ||
    why="status $? $why"
verdict 'locks: attached and detached' "$why"

# ---- fd ------------------------------------------------------------------------------------------
# With -fexceptions a cancellation unwinds our wrapper.
gcc -O2 -fexceptions -o fd "$source/traced/fd.c" -pthread || exit 1
record fd ./fd leak || verdict 'fd: the program' "status $?"
./dump show trace > shown 2> lost
awk '/ path=second mark / { exit }
    on { path = $0; split($3, f, "="); sub(/.* path=/, "", path); sub(/ time=[0-9]*$/, "", path)
        sub(/^n+$/, "nnn", path); sub(/temporary\..*/, "temporary", path)
        n[$2 == "fd:close" ? "close " $4 : "open " path (f[2] < 0 ? " " f[2] : "")]++; long += length($0) > 2000 }
    / path=first mark / { on = 1 }
    END { for (i in n) print i, n[i]; print "long ones", long }' shown | sort |
    expect 'fd: calls of one thread' 'close result=-22 1
close result=-9 2
close result=0 33
long ones 1
open . 1
open ? -14 1
open ? -9 1
open accept 2
open dup of -7 -9 1
open dup of 1 3
open dup of 3 -22 1
open dup of 3 1
open epoll 2
open eventfd 1
open fd.at 6
open fd.creat 1
open fd.new 2
open fd.temporary 1
open inotify 2
open kept 1
open memfd 1
open nnn -36 1
open no such file -2 1
open no such stream -2 1
open pipe -22 1
open pipe 4
open signalfd 1
open socket 5
open timerfd 1'
# By time: a number is not given out before it was closed.
sed 's/.*/& &/; s/^.* time=\([0-9]*\) /\1 /' shown | sort -n -s -k 1,1 | cut -d ' ' -f 2- |
    awk '/ path=second mark / { on = 1; next } !on { next }
        { split($3, f, "=") }
        $2 == "fd:open" && / path=fd.at / { n++; if (f[2] in open) wrong++; open[f[2]] }
        $2 == "fd:close" { if (f[2] in open) closed++; delete open[f[2]] }
        END { print n, closed, wrong + 0 }' | expect 'fd: the order, of threads and a child' '4010 4010 0'
expect 'fd: nothing is lost' '' < lost
"$build/tracers/rcutrace" report trace --top 0 | sed -n '/Never closed/,/^$/p' | sed 's/main+0x[0-9a-f]*/main/' |
    expect 'fd: what is never closed' '  Never closed
    TIMES  PATH    OPENED BY
        3  leaked  main (fd)
        1  kept    main (fd)'
why=$(RCUTRACE_TOGGLE_MS=1 RCUTRACE_FILE=$work/trace LD_PRELOAD=$(libraries fd) ./fd 2>&1) || why="status $? $why"
verdict 'fd: attached and detached' "$why"
why=$(LD_PRELOAD=$(libraries fd) ./fd 2>&1) || why="status $? $why"
verdict 'fd: detached' "$why"
why=$(RCUTRACE_STACK=16 record 'heap locks fd' ./fd 2>&1) || why="status $? $why"
verdict 'fd: with heap and locks' "$why"
# What the recorder opens is not told of, nor what its control thread does.
mkdir -m 700 runtime
why=$(XDG_RUNTIME_DIR=$work/runtime RCUTRACE_CONTROL=1 record fd sleep 0.3 2>&1; ./dump show trace | grep -vE 'locale|fd=[012] ')
verdict 'fd: the recorder itself' "$why"

# ---- functions -----------------------------------------------------------------------------------
# What the program says of its groups of functions, against the trace.
check_functions() { # NAME PROGRAM ARGUMENT
    local why
    why=$(record functions "$2" deep $3 2>&1 > said) || why="status $? $why"
    verdict "$1: results" "$why"
    ./dump show trace 2> lost | awk '{ split($3, f, "="); n[$2 " " f[2]]++ } END { for (k in n) print k, n[k] }' > by-address
    cut -d ' ' -f 2 by-address | addr2line -f -e "$2" | sed -n 'p;n' | paste -d ' ' - by-address |
        awk 'NR == FNR { must[$1] = $2; ends[$1] = $3; next }
            { split($1, group, "_"); n[group[1] " " $2] += $4 }
            END { for (g in must) {
                exits = n[g " functions:exit"] + 0
                if (n[g " functions:entry"] != must[g] || ends[g] == "all" && exits != must[g] || ends[g] == "none" && exits)
                    print g ": " n[g " functions:entry"] + 0 " entries, " exits " exits, of " must[g] } }' said - |
        expect "$1: entries and exits" ''
    expect "$1: nothing is lost" '' < lost
    why=$(RCUTRACE_TOGGLE_MS=1 RCUTRACE_FILE=$work/trace LD_PRELOAD=$(libraries functions) "$2" 2>&1 > /dev/null) ||
        why="status $? $why"
    verdict "$1: attached and detached" "$why"
    why=$(LD_PRELOAD=$(libraries functions) "$2" 2>&1 > /dev/null) || why="status $? $why"
    verdict "$1: detached" "$why"
    why=$(RCUTRACE_STACK=32 record 'heap locks functions' "$2" 2>&1 > /dev/null) || why="status $? $why"
    verdict "$1: with heap and locks" "$why"
}
for compiler in g++ clang++; do
    if ! command -v $compiler > /dev/null 2>&1; then
        skip "functions: $compiler" "no $compiler here"
        continue
    fi
    for flags in -pg '-pg -mfentry' -finstrument-functions; do
        for level in -O0 -O2; do
            name="functions: $compiler $level $flags"
            if ! $compiler -std=c++17 $level -no-pie -fno-optimize-sibling-calls -fno-inline $flags -w -o functions \
                "$source/traced/functions.cc" -pthread 2> error; then
                skip "$name" "$(head -n 1 error)"
                continue
            fi
            case $compiler$flags in
            clang++-finstrument*) check_functions "$name" ./functions no-exits ;;
            *) check_functions "$name" ./functions '' ;;
            esac
        done
    done
done
for flags in -pg '-pg -mfentry' -finstrument-functions; do
    gcc -O1 -fno-optimize-sibling-calls -no-pie $flags -o fib "$source/traced/fib.c" || exit 1
    record functions ./fib 20 > /dev/null 2>&1
    # And main.
    ./dump count trace | cut -d ' ' -f 2- |
        expect "functions: fib(20), gcc $flags" $'functions:entry 21892\nfunctions:exit 21892'
done
verdict 'functions: no gmon.out of the traced' "$(ls gmon.out 2> /dev/null)"

# ---- real programs -------------------------------------------------------------------------------
seq 200000 > lines
cat > source.c << 'END'
#include <stdio.h>
#include <stdlib.h>
int main(void) { for (int i = 0; i < 10; i++) printf("%d %s\n", i, getenv("HOME")); return 0; }
END
if command -v git > /dev/null 2>&1; then
    export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_PAGER=cat
    git init -q repository
    for i in 1 2 3 4 5; do
        seq $((i * 100)) > repository/file$i
        git -C repository add .
        git -C repository -c user.name=a -c user.email=a@example.org commit -q -m "Commit $i"
    done
fi
program() { # NAME COMMAND...
    local name=$1 tracers why
    shift
    if ! command -v "$1" > /dev/null 2>&1; then
        skip "$name" "no $1 here"
        return
    fi
    "$@" > plain.out 2> plain.err < /dev/null
    echo $? > plain.status
    for toggle in 0 1; do
        rm -f trace
        RCUTRACE_TOGGLE_MS=$toggle record 'heap locks functions fd' "$@" > traced.out 2> traced.err < /dev/null
        echo $? > traced.status
        why=
        for what in out err status; do
            cmp -s plain.$what traced.$what || why="$why $what differs: $(diff plain.$what traced.$what | head -n 3 | tr '\n' ' ')"
        done
        [ "$toggle" = 1 ] || ./dump count trace 2> lost | grep -q 'heap:malloc' || why="$why no call of malloc recorded"
        verdict "$name$([ $toggle = 0 ] || echo ', attached and detached')" "$why"
    done
}
program python3 python3 -c 'import threading, json
def work(): print(len(json.dumps(list(range(10000)))))
for t in [threading.Thread(target=work) for i in range(4)]: t.start(); t.join()
import subprocess; print(subprocess.run(["sh", "-c", "echo sh; exit 4"], capture_output=True))'
program 'git log' git -C repository log --stat
program gcc sh -c 'gcc -O1 -c source.c -o - -S'
program xz sh -c 'xz -T2 -0 --block-size=256KiB -c lines | cksum'
program bash bash -c 'for i in {1..20}; do (echo "sub $i"); done; echo $(seq 10 | sort -r); exit 42'
program perl perl -e 'my %h; $h{$_ % 100} .= $_ for 1 .. 20000; print join(",", map { length $h{$_} } sort keys %h), "\n"; fork and wait or exit 3; print $? >> 8, "\n"'

echo "tracers: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
