#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The tracers under real, unmodified programs: traced_programs.sh [BUILD-DIRECTORY]
#
# Each program runs once without them, then under the tracers of heap and locks in each IPI mode, their
# probes being detached and attached every millisecond. Standard output, standard error, exit status and
# what the program wrote must be the same to the byte; the trace must open, show the program's
# calls, have lost none, and, of a run of more than 20 ms, show that the probes came and went.
set -u

build=$(realpath -- "${1:-build}")
rcutrace=$build/tracers/rcutrace
unset RCU_NOTRACE_IPI RCU_NOTRACE_SIGNAL
export LC_ALL=C
passed=0 failed=0 skipped=0
# What each program is meant to do, or the comparison compares nothing.
declare -A exit_status=([git_log]=0 [python]=5 [gcc]=0 [sort]=0 [tar_xz]=0 [bash]=42 [killed]=137
    [main_leaves]=0)
declare -A least_threads=([python]=8 [sort]=2 [tar_xz]=5 [main_leaves]=2)

work=$(mktemp -d) || exit 1
trap 'rm -rf -- "$work"' EXIT
trap 'exit 1' INT TERM HUP
cd "$work" || exit 1
mkdir out plain traced

# number LABEL - what the report's summary says of LABEL
number() {
    sed -n '/^  "trace": {/,/^  }/s/^    "'"$1"'": \([0-9]*\),\{0,1\}$/\1/p' report
}

# run DIRECTORY NAME [PREFIX...] - runs program_NAME, every command of its under PREFIX
run() {
    local directory=$1 name=$2
    shift 2
    rm -rf out && mkdir out
    "program_$name" "$@" > "$directory/stdout" 2> "$directory/stderr" < /dev/null
    echo $? > "$directory/status"
    rm -rf "$directory/out" && mv out "$directory/out"
}

# compare - says what differs between the two runs
compare() {
    local what
    for what in stdout stderr status; do
        cmp -s "plain/$what" "traced/$what" || {
            echo "$what differs: $(diff "plain/$what" "traced/$what" 2>&1 | head -n 4 | tr '\n' ' ')"
            return
        }
    done
    diff -r plain/out traced/out > diff.txt 2>&1 || echo "output differs: $(head -n 1 diff.txt)"
}

# check NAME - the program, in all modes
check() {
    local name=$1 mode why start ms mallocs attached
    run plain "$name" timeout 60
    if [ "$(cat plain/status)" -ne "${exit_status[$name]}" ]; then
        echo "not ok traced_programs: $name without the tracers: status $(cat plain/status)," \
            "expected ${exit_status[$name]}: $(head -n 1 plain/stderr)"
        failed=$((failed + 1))
        return
    fi
    for mode in auto signal membarrier; do
        rm -f trace report dump
        start=$(date +%s%N)
        RCU_NOTRACE_IPI=$mode RCUTRACE_TOGGLE_MS=1 run traced "$name" \
            timeout 60 "$rcutrace" record --quiet -t heap,locks -o "$work/trace" --
        ms=$((($(date +%s%N) - start) / 1000000))
        why=$(compare)
        mallocs=0 attached=0
        if [ -z "$why" ]; then
            if ! "$rcutrace" report --json trace > report 2> diff.txt ||
                ! "$rcutrace" dump trace > dump 2> diff.txt; then
                why="the trace does not open: $(head -n 1 diff.txt)"
            fi
        fi
        if [ -z "$why" ]; then
            mallocs=$(grep -c ' heap:malloc ' dump)
            attached=$(grep -c ' STATE "heap" attached' dump)
            [ "$mallocs" -gt 0 ] || why='no call of malloc seen'
            [ "$(number lost)" = 0 ] || why="$(number lost) events lost"
            [ "$(number threads)" -ge "${least_threads[$name]:-1}" ] || why="threads $(number threads)"
            if [ "$ms" -gt 60 ] && [ "$attached" -lt 2 ]; then
                why="attached $attached times in $ms ms"
            fi
        fi
        if [ -n "$why" ]; then
            echo "not ok traced_programs: $name in mode $mode: $why"
            failed=$((failed + 1))
            continue
        fi
        echo "ok traced_programs: $name in mode $mode ($(number events) events, attached $attached times," \
            "threads $(number threads), images $(number processes))"
        passed=$((passed + 1))
    done
}

# test_program NAME COMMAND... - the program, if the commands that it needs are there
test_program() {
    local name=$1 needed
    shift
    for needed; do
        if ! command -v "$needed" > /dev/null 2>&1; then
            echo "ok traced_programs: $name # SKIP: no $needed here"
            skipped=$((skipped + 1))
            return
        fi
    done
    check "$name"
}

if [ ! -x "$rcutrace" ]; then
    echo "not ok traced_programs: no $rcutrace"
    echo 'traced_programs: 0 passed, 1 failed, 0 skipped'
    exit 1
fi

# ---- git -----------------------------------------------------------------------------------------
make_repository() {
    export GIT_AUTHOR_NAME=author GIT_AUTHOR_EMAIL=author@example.org
    export GIT_COMMITTER_NAME=author GIT_COMMITTER_EMAIL=author@example.org
    export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_PAGER=cat
    local i file
    git init -q repository || return
    # A stream of commits, for speed.
    for ((i = 1; i <= 120; i++)); do
        echo 'commit refs/heads/main'
        echo "committer author <author@example.org> $((1700000000 + i * 60)) +0000"
        printf 'data <<END\nCommit %d\n\nSome words on what it is for.\nEND\n' "$i"
        for file in $((i % 7)) $((i % 11)) $((i % 13)); do
            printf 'M 100644 inline src/file%d\ndata <<END\n' "$file"
            seq "$((i % 5))" "$((i * 3))"
            echo END
        done
        echo
    done | git -C repository fast-import --quiet
    git -C repository symbolic-ref HEAD refs/heads/main
}
program_git_log() { "$@" git -C repository log --stat; }

# ---- python --------------------------------------------------------------------------------------
cat > script.py <<'END'
import multiprocessing, subprocess, sys, threading

def work(n):
    return sum(len(str(i) * (i % 50)) for i in range(n))

def main():
    results = [None] * 4
    def run(i):
        results[i] = work(10000 + i)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    print(results)
    with multiprocessing.get_context('fork').Pool(3) as pool:
        print(pool.map(work, range(1000, 9000, 1000)))
    print(subprocess.run(['sh', '-c', 'echo from a shell; exit 4'], capture_output=True))
    print('to standard error', file=sys.stderr)
    sys.exit(5)

if __name__ == '__main__':
    main()
END
program_python() {
    PYTHONMALLOC=malloc PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0 "$@" "$python" script.py
}

# ---- gcc -----------------------------------------------------------------------------------------
make_source() {
    local i
    echo '#include <stdio.h>'
    for ((i = 0; i < 400; i++)); do
        cat << END
static int function$i(int a, int b)
{
    int unused$i, sum = $i;

    for (int k = a; k < b; k++)
        sum += (k * $i) ^ (sum >> 3);
    return sum;
}
END
    done
    echo 'int main(void)'; echo '{'
    for ((i = 0; i < 400; i++)); do
        echo "    printf(\"%d\\n\", function$i($i, 10));"
    done
    echo '}'
}
program_gcc() { "$@" gcc -O1 -Wunused-variable -c source.c -o out/source.o; }

# ---- sort, tar and xz ----------------------------------------------------------------------------
program_sort() { "$@" sort --parallel=2 -S 64M lines -o out/sorted; }
program_tar_xz() {
    "$@" bash -c 'set -o pipefail
        tar --sort=name --mtime=@0 --owner=0 --group=0 -cf - repository lines |
            xz -T2 -0 --block-size=1MiB > out/archive.tar.xz'
}

# ---- bash ----------------------------------------------------------------------------------------
cat > script.sh <<'END'
declare -A count
for i in {1..300}; do
    words+=("word$((i * 7919 % 101))")
    count[word$((i % 17))]=$((${count[word$((i % 17))]:-0} + 1))
done
printf '%s\n' "${words[@]}" | sort | uniq -c | head -n 5
for i in {1..12}; do
    (echo "subshell $i: $(echo "$i" | tr 1-9 a-i)"; exit "$i") || echo "status $?"
done
trap 'echo "on exit"' EXIT
(sleep 0.02; echo background) & wait $!
cat <(echo substituted) <<< here > /dev/stderr
echo "${count[word3]}"
exit 42
END
program_bash() { "$@" bash script.sh; }

# ---- a death by signal ---------------------------------------------------------------------------
# What bash tells of it bears a process id.
program_killed() {
    "$@" bash -c 'for i in {1..2000}; do list+=("$i $i"); done
        echo before; echo before >&2; kill -KILL $$; echo after' 2> out/stderr
} 2> /dev/null

# ---- a main thread that leaves before the others -------------------------------------------------
make_main_leaves() {
    cat << 'END'
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *work(void *unused)
{
    for (int i = 0; i < 500; i++) {
        char *volatile block = i % 2 ? valloc(100) : malloc(100);

        free(block);
        usleep(100);
    }
    puts("the last thread");
    return unused;
}

int main(void)
{
    pthread_t thread;

    pthread_create(&thread, NULL, work, NULL);
    pthread_exit(NULL);
}
END
}
program_main_leaves() { "$@" ./main_leaves; }

make_lines() {
    awk 'BEGIN {
        for (i = 0; i < 300000; i++) {
            x = (x * 1103515245 + 12345) % 2147483648
            print x
        }
    }'
}

command -v git > /dev/null 2>&1 && make_repository
make_source > source.c
make_lines > lines
# Not a launcher script of it: the interpreter itself.
python=$(python3 -c 'import sys; print(sys.executable)' 2> /dev/null)

test_program git_log git
test_program python "${python:-python3}"
test_program gcc gcc
test_program sort sort
test_program tar_xz tar xz git
test_program bash bash
test_program killed bash
make_main_leaves > main_leaves.c
gcc -O2 -o main_leaves main_leaves.c -pthread 2> /dev/null
test_program main_leaves gcc

echo "traced_programs: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
