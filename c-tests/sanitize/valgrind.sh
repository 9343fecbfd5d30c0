#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# A program on the library under valgrind's memcheck, in the three IPI modes: no errors, no leaks, the probes are called;
# a mistake is found.
. "$(dirname "$0")/common.sh"
command -v valgrind >/dev/null || { skip memcheck "valgrind is missing (apt-get install valgrind)"; finish; }
memcheck="timeout 120 valgrind --error-exitcode=9 --leak-check=full --suppressions=c-tests/sanitize/valgrind.supp"
gcc $flags -Iinclude c-tests/sanitize/valgrind.c -o "$work/valgrind" $shared -pthread || { verdict "it builds" 1; finish; }
# Patched sites are translated once, and not again when they are patched.
export RCU_NOTRACE_KEYS=load
for mode in auto signal membarrier; do
    RCU_NOTRACE_IPI=$mode $memcheck "$work/valgrind" >"$work/output" 2>&1
    verdict "memcheck finds nothing in mode $mode" $? "$work/output"
    grep ' reads, ' "$work/output"
    grep -q ' [1-9][0-9]* told' "$work/output"
    verdict "the probes are called in mode $mode" $? "$work/output"
done
$memcheck "$work/valgrind" use-after-free >"$work/output" 2>&1
status=$?
[ $status = 9 ] && grep -q 'Invalid read of size 8' "$work/output"
verdict "memcheck finds a read after the grace period" $? "$work/output"
finish
