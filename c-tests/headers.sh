#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Each public header compiles alone, in each language version, by each compiler that is here.
set -u
cd "$(dirname "$0")/.." || exit 1
passed=0 failed=0 skipped=0

try() { # compiler, language, standard, header
    local compiler=$1 language=$2 standard=$3 header=$4
    shift 4
    if echo "#include <$header>" | "$compiler" "-std=$standard" -x "$language" -Wall -Wextra \
        -Wpedantic -Werror "$@" -Iinclude -c -o /dev/null -; then
        passed=$((passed + 1))
    else
        echo "not ok headers: $header by $compiler -std=$standard $*"
        failed=$((failed + 1))
    fi
}

headers="rcu_notrace.h rcu_notrace/abi.h"
headers="$headers rcu_notrace/rcu.h"
usdt=()
if echo '#include <sys/sdt.h>' | ${CC:-cc} -xc -E -o /dev/null - 2>/dev/null; then
    usdt=(-DRCU_NOTRACE_USDT)
else
    echo "ok headers: SKIP, -DRCU_NOTRACE_USDT wants sys/sdt.h (apt-get install systemtap-sdt-dev)"
    skipped=$((skipped + 1))
fi
later=()
if echo '#include <urcu/rculfhash.h>' | ${CC:-cc} -xc -E -o /dev/null - 2>/dev/null; then
    headers="$headers rcu_notrace/urcu.h"
    # As liburcu 0.14 has them: two members more, and the header by which it is told.
    mock=$(mktemp -d)
    trap 'rm -rf "$mock"' EXIT
    mkdir "$mock/urcu"
    echo 'struct urcu_gp_poll_state { unsigned long grace_period_id; };' >"$mock/urcu/urcu-poll.h"
    theirs=$(echo '#include <urcu/flavor.h>' | ${CC:-cc} -xc -M - | tr ' ' '\n' | grep -m 1 'urcu/flavor\.h$')
    if grep -q update_poll_state "$theirs"; then
        cp "$theirs" "$mock/urcu/flavor.h"
    else
        sed -e 's|^#define _URCU_FLAVOR_H|&\n#include <stdbool.h>\n#include <urcu/urcu-poll.h>|' -e \
            's|.*(\*unregister_rculfhash_atfork).*|&\
struct urcu_gp_poll_state (*update_start_poll_synchronize_rcu)(void);\
bool (*update_poll_state_synchronize_rcu)(struct urcu_gp_poll_state state);|' \
            "$theirs" >"$mock/urcu/flavor.h"
    fi
    later=(-isystem "$mock")
else
    echo "ok headers: SKIP, rcu_notrace/urcu.h wants liburcu's (apt-get install liburcu-dev)"
    skipped=$((skipped + 1))
fi

for pair in gcc:g++ clang:clang++; do
    c=${pair%:*} cxx=${pair#*:}
    for header in $headers; do
        if command -v "$c" >/dev/null; then
            for standard in c99 c11 gnu17; do
                try "$c" c $standard $header
                try "$c" c $standard $header -DRCU_NOTRACE_STATIC -DRCU_NOTRACE_DEBUG
                try "$c" c $standard $header -DRCU_NOTRACE_PORTABLE
                try "$c" c $standard $header -DRCU_NOTRACE_NO_INLINE -DRCU_NOTRACE_NO_GUARD
                case $header in *urcu.h) try "$c" c $standard $header "${later[@]}" ;; esac
                case $header in */rcu.h) try "$c" c $standard $header "${usdt[@]}" -DRCU_NOTRACE_NO_JUMP_LABELS ;; esac
            done
        else
            echo "ok headers: SKIP, $c is missing (apt-get install $c)"
            skipped=$((skipped + 1))
        fi
        if command -v "$cxx" >/dev/null; then
            for standard in c++11 c++20; do
                try "$cxx" c++ $standard $header
                try "$cxx" c++ $standard $header -DRCU_NOTRACE_GUARD -DRCU_NOTRACE_PORTABLE
                case $header in *urcu.h) try "$cxx" c++ $standard $header "${later[@]}" ;; esac
                case $header in */rcu.h) try "$cxx" c++ $standard $header "${usdt[@]}" ;; esac
            done
        else
            echo "ok headers: SKIP, $cxx is missing (apt-get install $cxx)"
            skipped=$((skipped + 1))
        fi
    done
done
echo "headers: $passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
