#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Unmodified programs of Debian under librcu_notrace_preload.so: programs.sh [BUILD-DIRECTORY [NAME...]]
#
# Each runs once as it is, and then in each IPI mode of $PRELOAD_MODES (auto, signal, membarrier, switching)
# with grace periods all the time (storm.c: back to back, or $pause_us microseconds between two) and the tracers of heap and locks, whose
# probes are detached and attached every millisecond. Its own results must be the same: output, exit status, files; of a test
# suite every verdict; of a benchmark the requests that were answered, with no error, and nothing of a crash
# in the server's log. The storm must have been there: see `judge_storm`.
#
# A test of a suite that fails as well in one of three more plain runs is not held against the library, and is
# said. `programs.sh packages` prints what to install.
set -u

if [ "${1:-}" = packages ]; then
    echo 'apt-get install --no-install-recommends bash git gcc make xz-utils perl python3' \
        'libpython3.11-testsuite redis-server redis-tools postgresql-15 nginx-light wrk sqlite3 ruby' \
        'nodejs openjdk-17-jdk-headless golang-go stress-ng valgrind gdb'
    exit 0
fi

here=$(cd "$(dirname "$0")" && pwd)
build=$(realpath -- "${1:-build}")
shift
modes=${PRELOAD_MODES:-auto signal}
wanted=" $* "
libraries=
for library in preload/librcu_notrace_preload.so tracers/librcutrace_heap.so tracers/librcutrace_locks.so \
    preload/librcu_notrace_storm.so; do
    [ -e "$build/$library" ] || { echo "programs: no $build/$library" >&2; exit 1; }
    libraries+="${libraries:+ }$build/$library"
done
# Unbuffered, python takes a write that a signal cut short for a whole one.
unset LD_PRELOAD ${!RCUTRACE_*} ${!RCU_NOTRACE_*} ${!PYTHON*}
. "$here/../c-tests/programs.sh"
# For the server that does not run as root.
chmod 755 "$work"
passed=0 failed=0 skipped=0
results=$build/preload/programs.tsv
[ "$wanted" = '  ' ] && : > "$results"
gcc -O1 -I"$here/../include" -o dump "$here/../c-tests/traced/dump.c" -L"$build" -lrcu_notrace \
    -Wl,-rpath,"$build" -pthread || exit 1

# What is compared of a run is what normalise_NAME leaves of it, where there is one.
declare -A limit pause_us needs
exit_status+=([make]=0 [perl]=6 [ruby]=8 [node]=4 [java]=7 [go]=9 [go_static]=9 [sqlite]=0 [redis]=0 [postgres]=0
    [nginx]=0 [stress_ng]=0 [valgrind]=11 [gdb]=11 [python_threads]=0 [python_processes]=0 [python_forkserver]=0
    [python_spawn]=0 [python_main]=0)

# under MODE NAME [LIBRARIES [TOGGLE_MS]] - the prefix of a run in that mode, in `prefix`
under() {
    local mode=$1
    prefix=(env "LD_PRELOAD=${3:-$libraries}" "RCUTRACE_FILE=$work/trace" "RCUTRACE_TOGGLE_MS=${4:-1}" RCUTRACE_CONTROL=0
        "RCU_NOTRACE_STORM=$work/storm" "RCU_NOTRACE_STORM_PAUSE_US=${pause_us[$2]:-0}")
    if [ "$mode" = switching ]; then
        prefix+=(RCU_NOTRACE_STORM_SWITCH=1)
    else
        prefix+=("RCU_NOTRACE_IPI=$mode")
    fi
}

declare -A count toggles
read_storm() {
    local names=(images forks refused grace_periods trace_grace_periods ipis holdouts rescues stalls
        callbacks switches preloaded kept) i=0 number
    count=()
    for number in $(od -An -v -t u8 -w8 storm); do
        count[${names[i++]}]=$number
    done
}

# judge_preload MODE - says in how many of the processes the library that is tested was missing
judge_preload() {
    local processes=$((${count[images]:-0} + ${count[forks]:-0}))
    [ "${count[preloaded]:-0}" -ge $processes ] ||
        echo "librcu_notrace_preload.so is in ${count[preloaded]} of $processes processes"
    # Without IPIs it keeps no signal.
    [ "$1" = membarrier ] || [ "${count[kept]:-0}" -ge $processes ] ||
        echo "the signal is kept in ${count[kept]} of $processes processes"
}

# count_toggles - how often each tracer was detached, by the states in what is left of the trace: nothing but toggling
# detaches them here, while each process attaches them at its start
count_toggles() {
    local tracer
    for tracer in heap locks; do
        toggles[$tracer]=$(grep -c " STATE \"$tracer\" detached" dumped)
    done
}

# judge_tracers - says which tracer was not there, or did not come and go
judge_tracers() {
    local tracer
    for tracer in heap locks; do
        grep -q " STATE \"$tracer\" attached" dumped || echo "$tracer was never attached"
        # A process of a few milliseconds may end before the first time.
        [ "$tenths" = 0 ] || [ "${toggles[$tracer]}" -ge 2 ] ||
            echo "$tracer was detached ${toggles[$tracer]} times in $seconds s"
    done
}

# judge_storm NAME MODE - says what was missing
judge_storm() {
    if [ "$1" = go_static ]; then
        # No dynamic loader, nothing preloaded: left alone, but for the five shells that it starts.
        [ "${count[images]:-0}" -le 5 ] || echo "${count[images]} storms"
        return
    fi
    [ "${count[images]:-0}" -ge 1 ] || { echo 'no storm in any process'; return; }
    # Some programs end within milliseconds; valgrind lets one thread run at a time.
    local least=$((1 + 5 * tenths))
    [ "$1" != valgrind ] || least=20
    [ "${count[grace_periods]}" -ge $least ] && [ "${count[trace_grace_periods]}" -ge $((tenths > 0)) ] ||
        echo "too few grace periods: ${count[grace_periods]} and ${count[trace_grace_periods]}"
    [ "$tenths" -lt 5 ] || [ "${count[callbacks]}" -ge 1 ] || echo 'no callback was called'
    [ "${count[stalls]}" = 0 ] || echo "${count[stalls]} stalls"
    case $2 in
        signal) [ "${count[ipis]}" -ge 1 ] || echo 'no IPI' ;;
        membarrier) [ "${count[ipis]}" = 0 ] || echo "${count[ipis]} IPIs" ;;
        switching) [ "${count[switches]}" -ge 3 ] || echo "${count[switches]} switches" ;;
    esac
}

# normalised DIRECTORY NAME
normalised() {
    if [ "$(type -t "normalise_$2")" = function ]; then
        (cd "$1" && "normalise_$2")
    fi
}

# excused NAME - true if every verdict that is different was also heard in a plain run
excused() {
    local name=$1 attempt
    [ -s plain/out/verdicts ] && [ -s traced/out/verdicts ] || return 1
    # One that has no verdict at all, for its process has crashed, is not excused.
    cmp -s <(cut -d' ' -f1 plain/out/verdicts) <(cut -d' ' -f1 traced/out/verdicts) || return 1
    cp plain/out/verdicts heard
    for attempt in 1 2 3; do
        comm -13 <(sort heard) <(sort traced/out/verdicts) > odd
        [ -s odd ] || return 0
        run again "$name" timeout -k 10 "${limit[$name]:-120}"
        normalised again "$name"
        sort -u heard again/out/verdicts -o heard
    done
    comm -13 heard <(sort traced/out/verdicts) > odd
    ! [ -s odd ]
}

# measure - the time since `start`, in `tenths` of a second and in `seconds`
measure() {
    tenths=$((($(date +%s%N) - start) / 100000000))
    seconds=$((tenths / 10)).$((tenths % 10))
}

# run_under MODE NAME [LIBRARIES [TOGGLE_MS]] - leaves a trace, and a storm's counts in `count`
run_under() {
    local prefix start
    ./dump ring trace
    rm -f storm && : > storm
    chmod 666 trace storm
    under "$@"
    start=$(date +%s%N)
    run traced "$2" timeout -k 10 "${limit[$2]:-120}" "${prefix[@]}"
    measure
    read_storm
}

# open_trace - as a report and as a dump; says why that cannot be
open_trace() {
    "$build/tracers/rcutrace" report --json trace > report 2> diff.txt &&
        "$build/tracers/rcutrace" dump trace > dumped 2> diff.txt ||
        echo "the trace does not open: $(head -n 1 diff.txt)"
}

# notices LIBRARIES TOGGLE_MS WHAT - a run of bash of which this is to be said
notices() {
    local why tenths seconds
    run_under signal bash "$1" "$2"
    why=$(open_trace; judge_preload signal)
    count_toggles
    why+=" $(judge_tracers)"
    if [[ $why == *"$3"* ]]; then
        echo "ok programs: noticed: $3"
        passed=$((passed + 1))
    else
        echo "not ok programs: not noticed: $3, but:$why"
        failed=$((failed + 1))
    fi
}

# check NAME - the program, as it is and in all modes
check() {
    local name=$1 mode why start tenths seconds events note
    mkdir -p again
    start=$(date +%s%N)
    why=$(fails_plainly "$name" "${limit[$name]:-120}")
    measure
    normalised plain "$name"
    if [ -n "$why" ]; then
        echo "not ok programs: $name without the library: $why"
        failed=$((failed + 1))
        return
    fi
    echo "# $name: plain in $seconds s"
    for mode in $modes; do
        run_under "$mode" "$name"
        rm -f said said_traced
        normalised traced "$name"
        # Plain runs may follow.
        [ ! -e said ] || mv said said_traced
        why=$(compare)
        note=
        if [ "${why#output differs}" != "$why" ] && excused "$name"; then
            note="; also so in a plain run: $(diff plain/out/verdicts traced/out/verdicts | grep '^>' | tr '\n' ' ')"
            why=
        fi
        [ -z "$why" ] || ! [ -s said_traced ] || cat said_traced
        [ -n "$why" ] || why=$(judge_storm "$name" "$mode" | tr '\n' ' ')
        events=0 toggles=([heap]=0 [locks]=0)
        if [ "${#count[@]}" != 0 ] && [ -z "$why" ]; then
            why=$(open_trace)
            count_toggles
            events=$(awk '/^        "events": / { sum += $2 } END { print sum + 0 }' report)
            [ -n "$why" ] || [ "$name" = go_static ] || why=$({ judge_preload "$mode"; judge_tracers; } | tr '\n' ' ')
        fi
        if [ -n "$why" ]; then
            echo "not ok programs: $name in mode $mode: $why"
            [ -z "${PRELOAD_KEEP:-}" ] || cp -r plain traced "$PRELOAD_KEEP/"
            failed=$((failed + 1))
            continue
        fi
        echo "ok programs: $name in mode $mode ($seconds s, images ${count[images]:-0}, forks" \
            "${count[forks]:-0}, grace periods ${count[grace_periods]:-0} + ${count[trace_grace_periods]:-0}," \
            "IPIs ${count[ipis]:-0}, holdouts ${count[holdouts]:-0}, rescues ${count[rescues]:-0}, callbacks" \
            "${count[callbacks]:-0}, heap and locks detached ${toggles[heap]} and ${toggles[locks]} times in the last" \
            "$events events$note)"
        printf '%s\t' "$name" "$mode" "$seconds" "${count[images]:-0}" "${count[forks]:-0}" \
            "${count[grace_periods]:-0}" "${count[trace_grace_periods]:-0}" "${count[ipis]:-0}" \
            "${count[rescues]:-0}" "${count[callbacks]:-0}" >> "$results"
        echo "$note" >> "$results"
        passed=$((passed + 1))
    done
}

# test_program NAME COMMAND:PACKAGE... - the program, if it is wanted and its commands are there
test_program() {
    local name=$1 needed
    [ "$wanted" = '  ' ] || [[ $wanted == *" $name "* ]] || return
    shift
    for needed; do
        if ! command -v "${needed%%:*}" > /dev/null 2>&1; then
            echo "ok programs: $name # SKIP: no ${needed%%:*} here: apt-get install ${needed#*:}"
            skipped=$((skipped + 1))
            return
        fi
    done
    check "$name"
}

# until_true COMMAND... - tried for a minute
until_true() {
    local attempt
    for ((attempt = 0; attempt < 600; attempt++)); do
        "$@" > /dev/null 2>&1 && return 0
        sleep 0.1
    done
    echo "not within a minute: $*"
    return 1
}

# ---- small programs: see programs/ ---------------------------------------------------------------
program_perl() { "$@" perl "$here/programs/script.pl"; }
program_ruby() { "$@" ruby "$here/programs/script.rb"; }
program_node() { "$@" node "$here/programs/script.js"; }
program_java() { "$@" java -Xmx64m -cp "$work" Threads; }
program_go() { "$@" ./go; }
# A library that is preloaded does not come into a static program: nothing is said, nothing is done.
program_go_static() { "$@" ./go_static; }

# ---- make ----------------------------------------------------------------------------------------
make_project() {
    local i
    mkdir project
    for ((i = 0; i < 24; i++)); do
        { make_source | sed '/function100(/,$d' | sed "s/function/part${i}_/"; echo "int part$i(void) { return $i; }"; } \
            > "project/part$i.c"
    done
    cat > project/Makefile << 'END2'
objects := $(patsubst project/%.c,out/%.o,$(wildcard project/*.c))
out/all.a: $(objects)
	ar rcsD $@ $^
out/%.o: project/%.c
	@echo compiling $<
	gcc -O1 -w -c -o $@ $<
END2
}
program_make() { "$@" make -f project/Makefile -j4; }
# In the order in which they ended.
normalise_make() { sort -o stdout stdout; }

# ---- sqlite --------------------------------------------------------------------------------------
make_sql() {
    cat << 'END2'
.bail on
PRAGMA journal_mode = WAL;
PRAGMA threads = 2;
PRAGMA cache_size = 200;
CREATE TABLE t (id INTEGER PRIMARY KEY, word TEXT, number INTEGER);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
    INSERT INTO t SELECT i, 'word' || (i * 7919 % 1013), i * 31 % 1009 FROM n;
CREATE INDEX by_word ON t (word, number);
SELECT word, count(*), sum(number) FROM t GROUP BY word ORDER BY 2 DESC, 1 LIMIT 5;
BEGIN; UPDATE t SET word = upper(word) WHERE number % 7 = 0; DELETE FROM t WHERE number % 11 = 0; COMMIT;
SELECT count(*), count(DISTINCT word), sum(length(word)) FROM t;
SELECT a.id, b.id FROM t a JOIN t b ON a.word = b.word AND a.number = b.number AND a.id < b.id ORDER BY 1, 2 LIMIT 5;
VACUUM;
PRAGMA integrity_check;
END2
}
program_sqlite() { "$@" sqlite3 out/database < statements.sql; }

# ---- redis ---------------------------------------------------------------------------------------
saved() { redis-cli -p "$port" info persistence | grep -q 'rdb_bgsave_in_progress:0'; }
program_redis() {
    local server
    "$@" redis-server --port "$port" --bind 127.0.0.1 --dir "$work/out" --save '' --appendonly yes --io-threads 2 \
        --daemonize no > out/log 2>&1 &
    server=$!
    until_true redis-cli -p "$port" ping
    "$@" redis-benchmark -p "$port" --csv -n 20000 -c 20 -P 4 -t ping,set,get,incr,lpush,lpop,sadd,hset,lrange_100 \
        > out/benchmark 2> out/benchmark_errors
    echo "redis-benchmark: $?"
    redis-cli -p "$port" bgsave
    until_true saved
    redis-cli -p "$port" info persistence | grep rdb_last_bgsave_status
    redis-cli -p "$port" bgrewriteaof
    redis-cli -p "$port" info commandstats | sed -n 's/^cmdstat_\([a-z]*\):calls=\([0-9]*\),.*failed_calls=\(.*\)$/\1 \2 \3/p' |
        grep -E '^(set|get|incr|lpush|lpop|sadd|hset|lrange) '
    redis-cli -p "$port" dbsize
    redis-cli -p "$port" shutdown nosave
    wait "$server"
}
normalise_redis() {
    tr -d '\r' < stdout | grep -v '^Background' > lines
    { sort lines; grep -cE 'BUG REPORT|ASSERTION|crashed|Guru' out/log; cut -d, -f1 out/benchmark
        cat out/benchmark_errors; } > stdout
    rm -r out lines && mkdir out
}

# ---- postgres ------------------------------------------------------------------------------------
postgres_bin=$(ls -d /usr/lib/postgresql/*/bin 2> /dev/null | tail -n 1)
as_postgres() { runuser -u postgres -- "$@"; }
make_database() {
    mkdir cluster && chown postgres cluster && as_postgres "$postgres_bin/initdb" -D "$work/cluster" -A trust -N \
        > /dev/null 2>&1
}
ask() { psql -X -h 127.0.0.1 -p "$port" -U postgres -At "$@"; }
program_postgres() {
    local server
    rm -rf database && cp -a cluster database
    as_postgres "$@" "$postgres_bin/postgres" -D "$work/database" -c port="$port" -c listen_addresses=127.0.0.1 \
        -c unix_socket_directories= -c fsync=off -c autovacuum_naptime=1 > out/log 2>&1 &
    server=$!
    until_true "$postgres_bin/pg_isready" -h 127.0.0.1 -p "$port" -U postgres
    "$@" "$postgres_bin/pgbench" -h 127.0.0.1 -p "$port" -U postgres -i -q -s 1 postgres > out/initialised 2>&1
    echo "pgbench -i: $?"
    "$@" "$postgres_bin/pgbench" -h 127.0.0.1 -p "$port" -U postgres -n -c 4 -j 2 -t 250 postgres 2> out/errors |
        grep -E '^number of (transactions|failed)'
    cat out/errors
    ask -c 'SELECT count(*) FROM pgbench_history' \
        -c 'SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)' \
        -c 'SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0' \
        -c 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT count(*), sum(aid) FROM pgbench_accounts' \
        -c 'SELECT count(*), sum(aid) FROM pgbench_accounts' \
        -c 'LISTEN news' -c "NOTIFY news, 'heard'" -c 'VACUUM ANALYZE' -c 'CHECKPOINT' -c 'SELECT pg_sleep(0.5)' \
        -c "SET statement_timeout = '100ms'" -c 'SELECT pg_sleep(60)' 2>&1
    as_postgres "$postgres_bin/pg_ctl" stop -m fast -D "$work/database" > /dev/null
    wait "$server"
}
normalise_postgres() {
    # Of the plan, which may be another each time, that processes work in parallel; of the news, not the sender; of the log, not
    # whom the stop found at work.
    sed -i -E '/(->|Heap Fetches|Workers Planned|Finalize|Partial|Buckets|Cond)/d; s/PID [0-9]*/PID N/' stdout
    grep -E 'PANIC|FATAL|terminated by signal|crash' out/log | grep -vE 'starting up|due to administrator command' >> stdout
    rm -r out && mkdir out
}

# ---- nginx ---------------------------------------------------------------------------------------
make_site() {
    mkdir -p site/html
    seq 1 2000 > site/html/small
    seq 1 400000 > site/html/large
    cat > site/nginx.conf << END2
user root;
worker_processes 2;
daemon off;
pid $work/nginx.pid;
error_log $work/out/error_log info;
thread_pool default threads=4;
events { worker_connections 256; }
http {
    access_log off;
    aio threads;
    sendfile off;
    gzip on;
    gzip_types *;
    gzip_min_length 100;
    client_body_temp_path $work/site/1; proxy_temp_path $work/site/2; fastcgi_temp_path $work/site/3;
    uwsgi_temp_path $work/site/4; scgi_temp_path $work/site/5;
    server { listen 127.0.0.1:$port; root $work/site/html; }
    server { listen 127.0.0.1:$((port + 1)); location / { proxy_pass http://127.0.0.1:$port; } }
}
END2
}
# fetch PORT PATH - what comes, without the headers that bear times
fetch() {
    exec 3<> "/dev/tcp/127.0.0.1/$1" || return
    printf 'GET /%s HTTP/1.0\r\n\r\n' "$2" >&3
    sed '1,/^\r$/d' <&3
    exec 3>&-
}
answers() { (fetch "$port" small | cmp -s - site/html/small); }
program_nginx() {
    local server round path
    rm -f nginx.pid
    "$@" nginx -c "$work/site/nginx.conf" -p "$work/site" -e "$work/out/error_log" > out/log 2>&1 &
    server=$!
    until_true answers
    for round in 1 2; do
        "$@" wrk -t2 -c16 -d2s --timeout 20s "http://127.0.0.1:$((port + round - 1))/small" >> out/wrk 2>&1
        echo "wrk: $?"
    done
    # New workers.
    kill -HUP "$(cat nginx.pid)"
    sleep 1
    until_true answers
    for path in small large; do
        fetch "$port" "$path" | md5sum
        fetch "$((port + 1))" "$path" | md5sum
    done
    fetch "$port" nothing | head -n 1
    kill -QUIT "$(cat nginx.pid)"
    wait "$server"
}
normalise_nginx() {
    grep -E 'Socket errors|Non-2xx' out/wrk >> stdout
    awk '/requests in/ { print ($1 > 100 ? "requests" : "no requests") }' out/wrk >> stdout
    grep -E '\[(emerg|alert|crit)\]|exited on signal' out/error_log >> stdout
    cat out/log >> stdout
    rm -r out && mkdir out
}

# ---- stress-ng -----------------------------------------------------------------------------------
program_stress_ng() {
    local stressor
    for stressor in signal:30000 fork:200 vfork:500 clone:40 sigq:30000 timer:20000 timerfd:5000 itimer:300 \
        sigsuspend:10000 sigfd:20000 sigpipe:2000 sigabrt:50 sigfpe:20000 sigsegv:20000 sigrt:10000 sigpending:20000 \
        sigtrap:20000 sigchld:200 pthread:1000 futex:10000 poll:500 zombie:200 malloc:20000; do
        "$@" stress-ng "--${stressor%:*}" 1 "--${stressor%:*}-ops" "${stressor#*:}" --verify --metrics-brief \
            > out/said 2>&1
        echo "${stressor%:*}: status $? $(grep -cE 'fail:|error:' out/said)" \
            "$(sed -n "s/^.*metrc: \[[0-9]*\] ${stressor%:*} *\([0-9]*\) .*/\1/p" out/said)"
        grep -E 'fail:|error:' out/said | head -n 2
    done
    rm out/said
}
# Of those that count what several processes do, until there was enough.
normalise_stress_ng() { sed -i -E 's/^((futex|timer|timerfd|itimer|sigq|sigchld|clone|malloc|pthread): .*) [0-9]+$/\1 enough/' stdout; }

# ---- from outside --------------------------------------------------------------------------------
program_valgrind() {
    "$@" valgrind -q --error-exitcode=99 ./busy 300 pid
}
program_gdb() {
    local program attempt
    rm -f pid
    # As long as that takes: IPIs end its waits early.
    "$@" ./busy 1000 pid while-there &
    program=$!
    until_true test -s pid
    for attempt in 1 2 3; do
        gdb -batch -nx -p "$(cat pid)" -ex 'thread apply all bt 12' -ex 'call (int)getppid() > 0' -ex detach \
            > out/said 2> out/errors
        echo "gdb: $?, $(grep -c '^\$1 = 1$' out/said)," \
            "$(grep -cE '^#[0-9]+ .* in (main|work) ' out/said | sed 's/[1-9][0-9]*/found/')"
        sleep 0.1
    done
    rm out/said out/errors pid
    wait "$program"
}

# ---- python's own tests --------------------------------------------------------------------------
# The distribution's, whose tests are a package; not one that somebody has built.
python_suites() { # SUITES PREFIX...
    local suites=$1 status
    shift
    # Patterns are the suite's.
    set -f
    "$@" /usr/bin/python3 -m test -j2 --timeout 500 --tempdir "$work/out" --junit-xml "$work/verdicts.xml" $suites
    status=$?
    set +f
    return $status
}
# Tests that cannot be the same: their verdicts are not compared. All others are, one by one.
left_alone() {
    cat << 'END2'
left alone: test.test_subprocess.POSIXProcessTestCase.test_pass_fds_redirected: no descriptor but its own may be open; 200 and 201 are the recorder's
END2
}
normalise_suites() {
    /usr/bin/python3 - "$work/verdicts.xml" <(left_alone) "$work/said" > verdicts << 'END2'
import sys
import xml.etree.ElementTree as tree
left_alone = {line.split(': ')[1] for line in open(sys.argv[2])}
said = open(sys.argv[3], 'w')
for case in sorted(tree.parse(sys.argv[1]).iter('testcase'), key=lambda case: case.get('name')):
    if case.get('name') not in left_alone:
        parts = {part.tag for part in case} - {'system-out', 'system-err'}
        print(case.get('name'), case.get('status'), case.get('result'), *sorted(parts))
        # Not compared, but to be read.
        for part in case:
            if part.tag in ('failure', 'error'):
                lines = (part.text or part.get('message') or '').strip().splitlines()
                print('#', case.get('name'), *('\n#   ' + line for line in lines[-12:]), file=said)
END2
    rm -rf out stdout stderr && mkdir out && mv verdicts out/ && touch stdout stderr
    rm -f "$work/verdicts.xml"
    # 2 is a verdict of some test, which is compared; all else is not.
    [ "$(cat status)" != 2 ] || echo 0 > status
    # What a crash of a test's process looks like.
    [ -s out/verdicts ] || echo 'no verdicts' > stdout
}
program_python_threads() { python_suites 'test_threading test_signal test_subprocess' "$@"; }
normalise_python_threads() { normalise_suites; }
program_python_processes() { python_suites 'test_multiprocessing_fork' "$@"; }
normalise_python_processes() { normalise_suites; }
program_python_forkserver() { python_suites 'test_multiprocessing_forkserver' "$@"; }
normalise_python_forkserver() { normalise_suites; }
# Each process is a new interpreter: all of it would take longer than the other suites together. So it is the tests that
# start processes themselves, without the two classes that mostly wait for the last of many.
program_python_spawn() {
    python_suites 'test_multiprocessing_spawn -m WithProcesses* -i WithProcessesTestBarrier -i WithProcessesTestPoolWorkerLifetime' \
        "$@"
}
normalise_python_spawn() { normalise_suites; }
program_python_main() { python_suites 'test_multiprocessing_main_handling' "$@"; }
normalise_python_main() { normalise_suites; }

# ---- all of them ---------------------------------------------------------------------------------
port=$((20000 + $$ % 10000 * 2))
make_project
make_sql > statements.sql
gcc -O1 -o busy "$here/programs/busy.c" -pthread || exit 1
wants() { [ "$wanted" = '  ' ] || [[ $wanted == *" $1 "* ]]; }
wants java && command -v javac > /dev/null 2>&1 && javac -d . "$here/programs/Threads.java" 2> /dev/null
if command -v go > /dev/null 2>&1; then
    export GOCACHE=$work/gocache GOFLAGS=-mod=mod GO111MODULE=off
    wants go && go build -o go "$here/programs/cgo.go"
    # The same without its C.
    wants go_static && sed -e '/^\/\*$/,/^import "C"$/d' -e 's/int(C.work(C.int(n \* 500)))/n * k/' \
        "$here/programs/cgo.go" > static.go && CGO_ENABLED=0 go build -o go_static static.go
fi
wants nginx && make_site
[ -n "$postgres_bin" ] && wants postgres && make_database

limit+=([python_threads]=900 [python_processes]=900 [python_forkserver]=900 [python_spawn]=900 [python_main]=900
    [stress_ng]=300 [postgres]=300)
pause_us+=([python_threads]=200 [python_processes]=2000 [python_forkserver]=2000 [python_spawn]=2000 [python_main]=2000
    [postgres]=100 [make]=100 [stress_ng]=50)
test_program bash bash:bash
if wants bash; then
    notices "${libraries#* }" 1 'librcu_notrace_preload.so is in 0 of'
    notices "${libraries#* }" 1 'the signal is kept in 0 of'
    notices "$libraries" 0 'heap was detached 0 times'
    notices "${libraries/tracers\/librcutrace_locks/tracers\/librcutrace}" 1 'locks was never attached'
fi
test_program git_log git:git
test_program gcc gcc:gcc
test_program make make:make
test_program sort sort:coreutils
test_program tar_xz tar:tar xz:xz-utils git:git
test_program main_leaves gcc:gcc
test_program python "${python:-python3}:python3"
test_program perl perl:perl
test_program ruby ruby:ruby
test_program node node:nodejs
test_program java java:openjdk-17-jre-headless javac:openjdk-17-jdk-headless
test_program go go:golang-go
test_program go_static go:golang-go
test_program sqlite sqlite3:sqlite3
test_program redis redis-server:redis-server redis-benchmark:redis-tools
test_program postgres "${postgres_bin:-/usr/lib/postgresql/15/bin}/postgres:postgresql-15" psql:postgresql-client-15 \
    "${postgres_bin:-/usr/lib/postgresql/15/bin}/pgbench:postgresql-15"
test_program nginx nginx:nginx-light wrk:wrk
test_program stress_ng stress-ng:stress-ng
test_program valgrind valgrind:valgrind gcc:gcc
test_program gdb gdb:gdb gcc:gcc
for suites in python_threads python_processes python_forkserver python_spawn python_main; do
    wants "$suites" || continue
    if /usr/bin/python3 -c 'import test.test_threading' 2> /dev/null; then
        test_program "$suites" /usr/bin/python3:python3
    else
        echo "ok programs: $suites # SKIP: no test suite here: apt-get install libpython3.11-testsuite"
        skipped=$((skipped + 1))
    fi
done
wants python_threads && left_alone
wants python_spawn && echo 'left alone: all of test_multiprocessing_spawn but WithProcessesTest*: minutes of starting interpreters'

echo "programs: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
