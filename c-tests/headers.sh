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

for pair in gcc:g++ clang:clang++; do
    c=${pair%:*} cxx=${pair#*:}
    for header in rcu_notrace.h rcu_notrace/abi.h; do
        if command -v "$c" >/dev/null; then
            for standard in c99 c11 gnu17; do
                try "$c" c $standard $header
                try "$c" c $standard $header -DRCU_NOTRACE_STATIC -DRCU_NOTRACE_DEBUG
                try "$c" c $standard $header -DRCU_NOTRACE_PORTABLE
                try "$c" c $standard $header -DRCU_NOTRACE_NO_INLINE -DRCU_NOTRACE_NO_GUARD
            done
        else
            echo "ok headers: SKIP, $c is missing (apt-get install $c)"
            skipped=$((skipped + 1))
        fi
        if command -v "$cxx" >/dev/null; then
            for standard in c++11 c++20; do
                try "$cxx" c++ $standard $header
                try "$cxx" c++ $standard $header -DRCU_NOTRACE_GUARD -DRCU_NOTRACE_PORTABLE
            done
        else
            echo "ok headers: SKIP, $cxx is missing (apt-get install $cxx)"
            skipped=$((skipped + 1))
        fi
    done
done
echo "headers: $passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
