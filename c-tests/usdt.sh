#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The USDT notes of RCU's own events: all are there, and debuggers and tracers know what to do with them.
#   usdt.sh BUILD-DIRECTORY
set -u
cd "$(dirname "$0")/.." || exit 1
build=$1
passed=0 failed=0 skipped=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LC_ALL=C DEBUGINFOD_URLS=

ok() { echo "ok usdt: $*"; passed=$((passed + 1)); }
not_ok() { echo "not ok usdt: $*"; failed=$((failed + 1)); }
skip() { echo "ok usdt: SKIP $*"; skipped=$((skipped + 1)); }

# Name and semaphore of each note of our provider.
notes() {
    readelf -n "$1" 2>/dev/null | awk '/Provider: / { ours = $2 == "rcu" } /^ +Name: / { name = $2 }
        /Semaphore: / && ours { print name, $NF }'
}

sed -n 's/^RCU_NOTRACE_DECLARE_EVENT(\([a-z_]*\),.*/\1/p' include/rcu_notrace/rcu.h | sort >"$work/declared"
count=$(wc -l <"$work/declared")
[ "$count" -ge 20 ] || not_ok "only $count events in rcu_notrace/rcu.h"
for file in "$build/librcu_notrace.so" "$build/c-tests/usdt.static"; do
    notes "$file" >"$work/notes"
    if ! cut -d' ' -f1 "$work/notes" | sort -u | diff "$work/declared" - >"$work/difference"; then
        not_ok "the notes in $file are not the events of rcu_notrace/rcu.h"
        cat "$work/difference"
    elif grep -q ' 0x0*$' "$work/notes"; then
        not_ok "a note in $file has no semaphore"
    else
        ok "$count events, $(wc -l <"$work/notes") notes with semaphores in ${file##*/}"
    fi
done

if echo '#include <sys/sdt.h>' | ${CC:-cc} -xc -E -o /dev/null - 2>/dev/null; then
    if ${CC:-cc} -O2 -DRCU_NOTRACE_USDT -Iinclude -c -o "$work/usdt.o" c-tests/usdt.c &&
        [ "$(notes "$work/usdt.o" | cut -d' ' -f1 | sort -u | xargs)" = "rcu_read_lock rcu_read_unlock" ]; then
        ok "rcu_read_lock and rcu_read_unlock of a program compiled with -DRCU_NOTRACE_USDT"
    else
        not_ok "no notes in a program compiled with -DRCU_NOTRACE_USDT"
    fi
else
    skip "-DRCU_NOTRACE_USDT: sys/sdt.h is missing (apt-get install systemtap-sdt-dev)"
fi

# gdb stops at a note, in the shared library and in a static program, and shows its arguments.
debug() { # program
    timeout --kill-after=5 60 gdb -nx -batch -ex 'set confirm off' -ex 'set startup-with-shell off' \
        -ex 'break main' -ex run -ex 'info probes stap rcu' \
        -ex 'break -probe-stap rcu:rcu_grace_period' -ex continue \
        -ex 'printf "event: %s %lu %s\n", (char *)$_probe_arg0, $_probe_arg1, (char *)$_probe_arg2' \
        -ex continue \
        -ex 'printf "event: %s %lu %s\n", (char *)$_probe_arg0, $_probe_arg1, (char *)$_probe_arg2' \
        -ex kill "$1" </dev/null >"$work/gdb" 2>&1
}
if ! command -v gdb >/dev/null; then
    skip "gdb is missing (apt-get install gdb)"
else
    for program in usdt usdt.static; do
        debug "$build/c-tests/$program"
        seq=$(sed -n 's/^event: rcu_notrace \([0-9]*[13579]\) start$/\1/p' "$work/gdb")
        if grep -q -i 'operation not permitted\|could not trace' "$work/gdb"; then
            skip "gdb may not trace here: $(grep -i -m 1 'not permitted\|could not trace' "$work/gdb")"
        elif grep -q 'no probe matching\|unrecognized.*probe' "$work/gdb" && ! gdb -nx -batch -ex 'help info probes stap' 2>&1 | grep -q SystemTap; then
            skip "this gdb knows no SystemTap probes"
        elif [ -n "$seq" ] && grep -q "^event: rcu_notrace [0-9]*[02468] end$" "$work/gdb" &&
            [ "$(grep -c '^stap .*rcu_' "$work/gdb")" -ge "$count" ]; then
            ok "gdb stops in $program at rcu:rcu_grace_period: start, end; of $(grep -c '^stap .*rcu_' "$work/gdb") probes"
        else
            not_ok "gdb did not stop in $program at rcu:rcu_grace_period as it should"
            tail -n 15 "$work/gdb"
        fi
    done
fi

if ! command -v perf >/dev/null; then
    skip "perf is missing (apt-get install linux-perf)"
elif ! timeout --kill-after=5 60 perf --buildid-dir "$work/buildid" buildid-cache --add "$build/librcu_notrace.so" \
    >"$work/perf" 2>&1; then
    skip "perf keeps no cache here: $(head -n 1 "$work/perf")"
else
    listed=$(timeout --kill-after=5 60 perf --buildid-dir "$work/buildid" list sdt 2>"$work/perf" </dev/null |
        grep -c 'sdt_rcu:')
    if [ "$listed" -ge "$count" ]; then
        ok "perf lists $listed events"
    elif [ "$listed" = 0 ]; then
        skip "this perf lists no SDT events: $(head -n 1 "$work/perf")"
    else
        not_ok "perf lists $listed events"
    fi
fi

if ! command -v bpftrace >/dev/null; then
    skip "bpftrace is missing (apt-get install bpftrace)"
else
    listed=$(timeout --kill-after=5 60 bpftrace -l "usdt:$build/librcu_notrace.so:rcu:*" 2>"$work/bpf" </dev/null | grep -c rcu_)
    if [ "$listed" -ge "$count" ]; then
        ok "bpftrace lists $listed events"
    elif [ "$listed" = 0 ]; then
        skip "bpftrace may not list them here: $(head -n 1 "$work/bpf")"
    else
        not_ok "bpftrace lists $listed events"
    fi
fi
echo "usdt: $passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
