#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# What programs record through shared memory: drained.sh [BUILD-DIRECTORY]
#
# A command that is killed, an rcutrace that is killed, processes by the thousand, chains of exec, children
# that outlive the command, files that are full: the trace opens, and has all that it can have.
set -u

build=$(realpath -- "${1:-build}")
rcutrace=$build/tracers/rcutrace
unset LD_PRELOAD ${!RCUTRACE_*}
export LC_ALL=C
passed=0 failed=0
shm=/dev/shm
[ -w $shm ] || shm=${TMPDIR:-/tmp}
work=$(mktemp -d) || exit 1
RCUTRACE_SHM=$(mktemp -d "$shm/rcutrace-test-XXXXXX") || exit 1
export RCUTRACE_SHM
place=$RCUTRACE_SHM
trap 'rm -rf -- "$work" "$place"' EXIT
trap 'exit 1' INT TERM HUP
cd "$work" || exit 1

cat > calls.c << 'END'
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>
static void *call(void *calls)
{
    for (long i = 0; i != (long)calls; i++) {
        void *volatile block = malloc(24);
        free(block);
    }
    return NULL;
}
/* calls COUNT: two threads, each so many; -1: for ever. */
int main(int argc, char **argv)
{
    long calls = atol(argv[argc - 1]);
    pthread_t thread;
    pthread_create(&thread, NULL, call, (void *)calls);
    call((void *)calls);
    pthread_join(thread, NULL);
    return 7;
}
END
gcc -O1 -o calls calls.c -pthread || exit 1

tell() { # NAME WHY
    if [ -z "$2" ]; then
        echo "ok drained: $1"
        passed=$((passed + 1))
    else
        echo "not ok drained: $1: $2"
        failed=$((failed + 1))
    fi
}
# number LABEL - what the report's summary says
number() { sed -n '/^  "trace": {/,/^  }/s/^    "'"$1"'": \([0-9]*\),\{0,1\}$/\1/p' report; }
# opens - says what is wrong with the trace
opens() {
    "$rcutrace" report --json trace > report 2> why || echo "it does not open: $(head -n 1 why)"
    grep -q damaged why && cat why
}
left() { find "$place" -type f | wc -l; }
# expect STATUS - of the command before
expect() {
    local status=$?
    [ $status -eq "$1" ] || echo "status $status"
}

all_events() {
    "$rcutrace" heap "$@" -o trace -- ./calls 500000 2> err
    expect 7
    opens
    [ $(($(number events) + $(number lost))) -ge 2000000 ] || echo "$(number events) events"
    [ "$(left)" -eq 0 ] || echo "files are left"
}
tell 'all events, or they are counted' "$(all_events)"
tell 'through little memory' "$(all_events --buffer 1M)"
tell 'directly' "$(RCUTRACE_SHM='' all_events)"

little_address_space() {
    "$rcutrace" heap -o trace -- bash -c 'ulimit -v 300000; exec ./calls 500000' 2> err
    expect 7
    opens
    [ $(($(number events) + $(number lost))) -ge 2000000 ] && [ "$(number events)" -gt 100000 ] ||
        echo "$(number events) events: $(cat err)"
}
tell 'where the file cannot be mapped as a whole' "$(little_address_space)"

max_size() {
    all_events --max-size 4M
    [ "$(stat -c %s trace)" -le 4194304 ] && [ "$(number lost)" -gt 1000000 ] || echo "not full"
}
tell 'no larger than it may be' "$(max_size)"

output_full() {
    (ulimit -f 3000 && exec "$rcutrace" heap -o trace -- ./calls 500000 2> err)
    expect 7
    grep -q 'File too large' err || echo "nothing is said"
    opens
    [ $(($(number events) + $(number lost))) -ge 2000000 ] || echo "$(number events) events"
}
tell 'an output that cannot grow' "$(output_full)"

killed_command() {
    for wait in 0.02 0.1 0.3; do
        "$rcutrace" heap -o trace -- bash -c "./calls -1 & sleep $wait; kill -9 \$!; kill -9 \$\$" 2> err
        expect 137
        opens
        [ "$(number events)" -gt 1000 ] || echo "$(number events) events"
    done
    [ "$(left)" -eq 0 ] || echo "files are left"
}
tell 'a killed command' "$(killed_command)"

killed_rcutrace() {
    local pid child status
    "$rcutrace" heap --max-size 8G -o trace -- ./calls -1 2> err &
    pid=$!
    sleep 0.5
    child=$(pgrep -P $pid)
    kill -9 $pid
    wait $pid 2> /dev/null
    opens
    [ "$(number events)" -gt 100000 ] || echo "$(number events) events"
    [ "$(left)" -eq 1 ] || echo "$(left) files are left"
    sleep 0.1
    kill -0 "$child" || echo 'the program is dead'
    "$rcutrace" heap -o other -- true 2> err
    [ "$(left)" -eq 0 ] || echo "a stale file is left"
    kill -0 "$child" || echo 'the program is dead'
    kill "$child"
}
tell 'a killed rcutrace, and what it leaves' "$(killed_rcutrace)"

short_processes() {
    "$rcutrace" heap --buffer 8M -o trace -- \
        bash -c 'for i in {1..600}; do /bin/true; done; exit 5' 2> err
    expect 5
    opens
    [ "$(number lost)" -eq 0 ] && [ "$(number processes)" -ge 600 ] ||
        echo "$(number processes) processes, $(number lost) lost"
}
tell 'many short processes' "$(short_processes)"

chain() {
    printf '%s\n' '[ "$1" -gt 0 ] && exec sh chain.sh $(($1 - 1))' 'exit 4' > chain.sh
    "$rcutrace" heap --buffer 8M -o trace -- sh chain.sh 300 2> err
    expect 4
    opens
    [ "$(number lost)" -eq 0 ] && [ "$(number processes)" -eq 301 ] ||
        echo "$(number processes) processes, $(number lost) lost"
}
tell 'a chain of exec' "$(chain)"

outlived() {
    local child
    "$rcutrace" heap -o trace -- bash -c './calls -1 > /dev/null 2>&1 & echo $! > pid; sleep 0.2' 2> err
    expect 0
    opens
    child=$(cat pid)
    [ "$(number events)" -gt 10000 ] || echo "$(number events) events"
    [ "$(left)" -eq 0 ] || echo "files are left"
    cp trace before
    sleep 0.3
    cmp -s trace before || echo 'the file changes'
    kill "$child" || echo 'the child is dead'
}
tell 'a child that outlives the command' "$(outlived)"

# A chain of programs, the last of which begins when the session is gone.
executed_later() {
    local file
    mkdir elsewhere
    RCUTRACE_SHM=$work/elsewhere "$rcutrace" heap -o trace -- bash -c \
        'echo $RCUTRACE_FILE > file
        (while [ -e "$RCUTRACE_FILE" ]; do sleep 0.02; done; /bin/true; echo over >> said) > said 2>&1 &' 2> err
    expect 0
    opens
    file=$(cat file)
    [ "${file#"$work"/elsewhere/}" != "$file" ] || echo "the file was $file"
    for _ in {1..500}; do
        grep -q over said && break
        sleep 0.02
    done
    [ "$(cat said)" = over ] || echo "it was said: $(cat said)"
    rm -r elsewhere
}
tell 'what is executed when the session is gone' "$(executed_later)"

running() {
    local child
    XDG_RUNTIME_DIR=$work "$rcutrace" heap --detached -- ./calls -1 &
    sleep 0.3
    child=$(pgrep -P $!)
    XDG_RUNTIME_DIR=$work "$rcutrace" record -t heap -p "$child" --duration 0.3 -o trace 2> err
    expect 0
    opens
    [ "$(number events)" -gt 10000 ] || echo "$(number events) events: $(cat err)"
    [ "$(left)" -eq 0 ] || echo "files are left"
    kill "$child" || echo 'the program is dead'
}
tell 'a process that runs already' "$(running)"

echo "drained: $passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
