# SPDX-License-Identifier: MIT OR Apache-2.0
#
# For scripts that run real programs once as they are and once under something, and compare: sourced by
# traced_programs.sh and ../preload/programs.sh. Goes to a working directory of its own, $work.
#
# A program is a function program_NAME [PREFIX...], which runs every command of its under PREFIX and writes
# its files in out/. What it is meant to do stands in exit_status[NAME], or the comparison compares nothing.

export LC_ALL=C
declare -A exit_status=([git_log]=0 [python]=5 [gcc]=0 [sort]=0 [tar_xz]=0 [bash]=42 [killed]=137
    [main_leaves]=0)

work=$(mktemp -d) || exit 1
trap 'rm -rf -- "$work"' EXIT
trap 'exit 1' INT TERM HUP
cd "$work" || exit 1
mkdir out plain traced

# run DIRECTORY NAME [PREFIX...] - leaves in DIRECTORY what the program did
run() {
    local directory=$1 name=$2
    shift 2
    rm -rf out && mkdir out
    "program_$name" "$@" > "$directory/stdout" 2> "$directory/stderr" < /dev/null
    echo $? > "$directory/status"
    rm -rf "$directory/out" && mv out "$directory/out"
}

# compare - says what differs between plain/ and traced/
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

# fails_plainly NAME - runs it as it is; says what is wrong, if anything is
fails_plainly() {
    run plain "$1" timeout -k 10 "${2:-60}"
    [ "$(cat plain/status)" -eq "${exit_status[$1]}" ] ||
        echo "status $(cat plain/status), expected ${exit_status[$1]}: $(head -n 1 plain/stderr)"
}

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
make_main_leaves > main_leaves.c
gcc -O2 -o main_leaves main_leaves.c -pthread 2> /dev/null
# Not a launcher script of it: the interpreter itself.
python=$(python3 -c 'import sys; print(sys.executable)' 2> /dev/null)
