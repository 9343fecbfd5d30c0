#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Each public header compiles alone, in each language version, by each compiler that is here; programs of
# its macros (those in headers/ and one in here) link and run, and what they should refuse is refused.
#   headers.sh [long]      programs in an old and a new version of each language, not in one of them only
set -u
cd "$(dirname "$0")/.." || exit 1
passed=0 failed=0 skipped=0
of_c="gnu99" of_cxx="c++20"
if [ "${1-}" = long ]; then of_c+=" c11" of_cxx+=" c++11"; fi

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

headers="rcu_notrace.h rcu_notrace/abi.h rcu_notrace/tsan.h"
headers="$headers rcu_notrace/tracepoint.h rcu_notrace/rcu.h"
usdt=()
if echo '#include <sys/sdt.h>' | ${CC:-cc} -xc -E -o /dev/null - 2>/dev/null; then
    usdt=(-DRCU_NOTRACE_USDT)
else
    echo "ok headers: SKIP, -DRCU_NOTRACE_USDT wants sys/sdt.h (apt-get install systemtap-sdt-dev)"
    skipped=$((skipped + 1))
fi
later=()
mock=$(mktemp -d)
trap 'rm -rf "$mock"' EXIT
if echo '#include <urcu/rculfhash.h>' | ${CC:-cc} -xc -E -o /dev/null - 2>/dev/null; then
    headers="$headers rcu_notrace/urcu.h"
    # As liburcu 0.14 has them: two members more, and the header by which it is told.
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

# All macros of tracepoints, as a program uses them; in C++ also in functions that two files have.
cat >"$mock/events.h" <<'C'
#ifndef EVENTS_H
#define EVENTS_H
#include <rcu_notrace/tracepoint.h>
DECLARE_TRACE(two, TP_PROTO(int id, const char *what), TP_ARGS(id, what));
DECLARE_TRACE_CONDITION(odd, TP_PROTO(int id), TP_ARGS(id), TP_CONDITION(id & 1));
DECLARE_TRACE_SYSCALL(faults, TP_PROTO(long number), TP_ARGS(number));
DECLARE_TRACE_NOARGS(none);
/* Names that the macros might have wanted for themselves. */
DECLARE_TRACE(names, TP_PROTO(int data, void *probe, long guard, int prio), TP_ARGS(data, probe, guard, prio));
void all_of_them(int n);
#ifdef __cplusplus
inline int in_both(int n)
{
    trace_odd(n);
    return trace_none_enabled() && n > 0 ? in_both(n - 1) : n;
}
template <class T> T in_both_too(T n)
{
    trace_faults(n);
    return n;
}
#endif
#endif
C
cat >"$mock/use.c" <<'C'
#include "events.h"
void all_of_them(int n)
{
    trace_two(n, "text");
    if (trace_odd_enabled())
        trace_odd(n);
    trace_faults(n);
    trace_none();
    trace_names(n, &n, 3, 4);
#ifdef __cplusplus
    in_both(in_both_too(n));
#endif
}
C
cat >"$mock/define.c" <<'C'
#include "events.h"
static int on(void) { return 0; }
static void off(void) {}
EXPORT_TRACEPOINT_SYMBOL(two);
DEFINE_TRACE(two, TP_PROTO(int id, const char *what), TP_ARGS(id, what));
DEFINE_TRACE_FN(odd, on, off, TP_PROTO(int id), TP_ARGS(id));
DEFINE_TRACE(faults, TP_PROTO(long number), TP_ARGS(number));
DEFINE_TRACE_NOARGS(none);
DEFINE_TRACE(names, TP_PROTO(int data, void *probe, long guard, int prio), TP_ARGS(data, probe, guard, prio));
static int seen;
static void probe(void *data, int id, const char *what)
{
    (void)what;
    seen += *(int *)data == id;
}
static void of_none(void *data) { ++*(int *)data; }
static void of_names(void *data, int a, void *b, long c, int d) { *(int *)data += a == 7 && b && c == 3 && d == 4; }
int main(void)
{
    int seven = 7, nones = 0, names = 0;
    check_trace_callback_type_two(probe);
    if (register_trace_two(probe, &seven) || register_trace_prio_none(of_none, &nones, 5) ||
        register_trace_names(of_names, &names))
        return 1;
    all_of_them(7);
#ifdef __cplusplus
    in_both(0);
    in_both_too(7);
#endif
    if (!rcu_notrace_find_tracepoint("two") || !rcu_notrace_find_tracepoint("faults"))
        return 3;
    if (unregister_trace_two(probe, &seven) || unregister_trace_none(of_none, &nones))
        return 2;
    tracepoint_synchronize_unregister();
    all_of_them(7);
    return !(seen == 1 && nones == 1 && names == 2);
}
C

program() { # what it is, sources, compiler, language, standard, flags
    local what=$1 sources=$2 compiler=$3 language=$4 standard=$5
    shift 5
    if "$compiler" "-std=$standard" -x "$language" -Wall -Wextra -Wpedantic -Werror "$@" -Iinclude \
        $sources -x none -o "$mock/program" $linked && timeout 10 "$mock/program"; then
        passed=$((passed + 1))
    else
        echo "not ok headers: $what by $compiler -std=$standard $*"
        failed=$((failed + 1))
    fi
}

use() { # compiler, language, standard, flags
    program "a program with tracepoints" "$mock/use.c $mock/define.c" "$@"
    # Where the library's are addressed differently.
    case $* in
    *-O0* | *NO_JUMP_LABELS* | *-no-pie*) program "probes of RCU's own tracepoints" c-tests/headers/own_tracepoints.c "$@" ;;
    esac
}

mistaken() { # statement, compiler, language, standard
    "$2" "-std=$4" -x "$3" -Wall -Wextra -Wpedantic -Werror -Iinclude "-DMISTAKE=$1" -c -o /dev/null \
        c-tests/headers/mistakes.c 2>"$mock/said"
}

refused() { # statement, compiler, language, standard
    if mistaken "$@"; then
        echo "not ok headers: $1 is not refused by $2 -std=$4"
        failed=$((failed + 1))
    else
        passed=$((passed + 1))
    fi
}

# Behind a flavour header of liburcu.
renamed() { # header of liburcu, ours, compiler, language, standard
    if printf '#include <%s>\n#include <%s>\n' "$1" "$2" |
        "$3" "-std=$5" -x "$4" -Iinclude -c -o /dev/null - 2>"$mock/said"; then
        echo "not ok headers: $2 behind $1 is not refused by $3 -std=$5"
        failed=$((failed + 1))
    else
        passed=$((passed + 1))
    fi
}

pointers() { # compiler, language, standard
    local what="what is published is converted as by an assignment," source=c-tests/headers/pointers.c
    linked="-L build -lrcu_notrace -Wl,-rpath,$PWD/build"
    program "$what" $source "$@" -O0
    program "$what" $source "$@" -O2 -Wshadow
    if [ ${#later[@]} -gt 0 ]; then
        program "$what" $source "$@" -DWITH_URCU
        for theirs in urcu.h urcu-bp.h; do
            for ours in rcu_notrace.h rcu_notrace/rcu.h; do renamed $theirs $ours "$@"; done
        done
    fi
    if ! mistaken "rcu_assign_pointer(shared, NULL)" "$@"; then
        cat "$mock/said"
        echo "not ok headers: what is no mistake is refused by $1 -std=$3"
        failed=$((failed + 1))
    fi
    for value in other unchanging integer 'other->number'; do
        refused "rcu_assign_pointer(shared, $value)" "$@"
        refused "(void)rcu_xchg_pointer(&shared, $value)" "$@"
        refused "(void)rcu_cmpxchg_pointer(&shared, NULL, $value)" "$@"
        refused "(void)rcu_cmpxchg_pointer(&shared, $value, NULL)" "$@"
    done
}

# A tracepoint that is defined by a member of an archive which nothing but its use asks for.
archived() { # archiver, linker, compiler, language, standard, flags
    local archiver=$1 linker=$2 compiler=$3 language=$4 standard=$5
    shift 5
    rm -f "$mock/member.o" "$mock/archive.a"
    "$compiler" "-std=$standard" -x "$language" "$@" -Iinclude -c -o "$mock/member.o" c-tests/headers/archive_member.c &&
        "$archiver" rcs "$mock/archive.a" "$mock/member.o"
    linked="$linker $mock/archive.a -L build -lrcu_notrace -Wl,-rpath,$PWD/build"
    program "a tracepoint in an archive" c-tests/headers/archive_use.c "$compiler" "$language" "$standard" "$@"
    program "a tracepoint in an archive that is only asked whether it is enabled" c-tests/headers/archive_use.c \
        "$compiler" "$language" "$standard" "$@" -DASKS_ONLY -Wl,-u,__tracepoint_in_an_archive
}

# The linker that collects tables to which only their bounds refer. Rust's toolchain has one.
lld=$(command -v ld.lld || printf '%s\n' "$(rustc --print sysroot)"/lib/rustlib/*/bin/gcc-ld/ld.lld | head -n 1)
if [ ! -x "$lld" ]; then
    echo "ok headers: SKIP, --gc-sections by ld.lld, which is missing (apt-get install lld)"
    skipped=$((skipped + 1))
    lld=
fi

uses() { # compiler, language, standard
    linked="-L build -lrcu_notrace -Wl,-rpath,$PWD/build"
    use "$@" -O0
    use "$@" -O2
    use "$@" -O2 -fno-pic -no-pie
    use "$@" -O2 -DRCU_NOTRACE_NO_JUMP_LABELS
    use "$@" -O2 -DRCU_NOTRACE_NO_JUMP_LABELS -fno-pic -no-pie
    use "$@" -O2 -flto=auto
    use "$@" -O2 -ffunction-sections -Wl,--gc-sections
    if [ "$lld" ]; then
        use "$@" -O2 -ffunction-sections -fdata-sections -B "${lld%/*}" -fuse-ld=lld -Wl,--gc-sections
    fi
    # By a compiler that does not know the attribute: without a warning.
    use "$@" -O2 -Dretain=unheard_of
    linked=build/librcu_notrace.a
    use "$@" -O2 -DRCU_NOTRACE_STATIC -pthread
    linked="-L build/portable -lrcu_notrace -Wl,-rpath,$PWD/build/portable"
    use "$@" -O2 -DRCU_NOTRACE_PORTABLE
    archived ar "" "$@" -O2
    case $1 in
    g*) archived gcc-ar "" "$@" -O2 -flto=auto ;;
    *) if [ "$lld" ]; then archived ar "-B ${lld%/*} -fuse-ld=lld" "$@" -O2 -flto; fi ;;
    esac
    if [ "$2" = c++ ]; then
        linked="-L build -lrcu_notrace -Wl,-rpath,$PWD/build"
        program "tracepoints in namespaces" c-tests/headers/namespaces.cc "$@" -O2
        program "tracepoints in namespaces" c-tests/headers/namespaces.cc "$@" -DRCU_NOTRACE_NO_JUMP_LABELS
    fi
}

for pair in gcc:g++ clang:clang++; do
    c=${pair%:*} cxx=${pair#*:}
    if command -v "$c" >/dev/null; then
        for standard in $of_c; do uses "$c" c $standard; done
        pointers "$c" c c11
    fi
    if command -v "$cxx" >/dev/null; then
        for standard in $of_cxx; do uses "$cxx" c++ $standard; done
        pointers "$cxx" c++ c++11
    fi
    for header in $headers; do
        if command -v "$c" >/dev/null; then
            for standard in c99 c11 gnu17; do
                try "$c" c $standard $header
                try "$c" c $standard $header -DRCU_NOTRACE_STATIC -DRCU_NOTRACE_DEBUG
                try "$c" c $standard $header -DRCU_NOTRACE_PORTABLE
                try "$c" c $standard $header -DRCU_NOTRACE_NO_INLINE -DRCU_NOTRACE_NO_GUARD
                try "$c" c $standard $header -fsanitize=thread
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
                try "$cxx" c++ $standard $header -fsanitize=thread
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
