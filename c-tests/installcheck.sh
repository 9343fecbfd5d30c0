#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Installs into a staging directory and builds programs from there, by pkg-config alone: C and
# C++, shared and static, and one that loads the library by dlopen when it has threads already.
set -eu
cd "$(dirname "$0")/.."
command -v pkg-config >/dev/null || {
    echo "installcheck: pkg-config is missing: apt-get install pkg-config" >&2
    exit 1
}
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
prefix=/opt/rcu-notrace
# Elsewhere first: what one installation wrote must not be found in the next.
${MAKE:-make} --no-print-directory install PREFIX=/elsewhere DESTDIR="$stage/other place" >/dev/null
${MAKE:-make} --no-print-directory install PREFIX=$prefix DESTDIR="$stage" >/dev/null
export PKG_CONFIG_PATH=$stage$prefix/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$stage
passed=0

cat >"$stage/program.c" <<'C'
#include <rcu_notrace.h>
#include <stdio.h>
static int one = 1, two = 2, *shared = &one;
int main(void)
{
    int *old;
    rcu_read_lock_notrace();
    old = rcu_dereference(shared);
    rcu_read_unlock_notrace();
    rcu_assign_pointer(shared, &two);
    synchronize_rcu();
    printf("%d %d\n", *old, *rcu_dereference(shared));
    return 0;
}
C
cat >"$stage/program.cc" <<'C'
#include <rcu_notrace.h>
#include <cstdio>
static int one = 1, two = 2, *shared = &one;
int main()
{
    int *old;
    {
        rcu_notrace::section section;
        old = rcu_dereference(shared);
        if (!rcu_read_lock_held())
            return 1;
    }
    if (rcu_read_lock_held() || rcu_cmpxchg_pointer(&shared, old, &two) != old)
        return 1;
    if (rcu_xchg_pointer(&shared, old) != &two || rcu_access_pointer(shared) != old)
        return 1;
    rcu_assign_pointer(shared, &two);
    synchronize_rcu();
    std::printf("%d %d\n", *old, *rcu_dereference(shared));
    return 0;
}
C
cat >"$stage/loads.c" <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
static void *library;
static pthread_barrier_t loaded, done;
static void *find(const char *name)
{
    void *symbol = dlsym(library, name);
    if (!symbol) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    return symbol;
}
static void *thread(void *unused)
{
    void (*lock)(void), (*unlock)(void);
    pthread_barrier_wait(&loaded);
    *(void **)&lock = find("rcu_read_lock_notrace");
    *(void **)&unlock = find("rcu_read_unlock_notrace");
    for (int i = 0; i < 100000; i++) {
        lock();
        unlock();
    }
    pthread_barrier_wait(&done);
    return unused;
}
int main(int argc, char **argv)
{
    pthread_t threads[8];
    void (*synchronize)(void);
    pthread_barrier_init(&loaded, NULL, 9);
    pthread_barrier_init(&done, NULL, 9);
    for (int i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, thread, NULL);
    library = dlopen(argv[argc - 1], RTLD_NOW);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    *(void **)&synchronize = find("synchronize_rcu");
    pthread_barrier_wait(&loaded);
    for (int i = 0; i < 1000; i++)
        synchronize();
    pthread_barrier_wait(&done);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    dlclose(library);
    printf("1 2\n");
    return 0;
}
C

cat >"$stage/table.c" <<'C'
#include <rcu_notrace/urcu.h>
#include <stdio.h>
#include <urcu/rculfhash.h>
struct entry {
    struct cds_lfht_node node;
    struct rcu_head head;
    int value;
};
extern struct cds_lfht *make_table(void);
static int matches(struct cds_lfht_node *node, const void *key)
{
    return ((struct entry *)(void *)node)->value == *(const int *)key;
}
int main(void)
{
    static struct entry entries[2];
    struct cds_lfht *table = make_table();
    struct cds_lfht_iter found;
    int values[2] = {1, 2};
    for (int i = 0; i < 2; i++) {
        entries[i].value = values[i];
        rcu_read_lock_notrace();
        cds_lfht_add(table, (unsigned long)values[i], &entries[i].node);
        cds_lfht_lookup(table, (unsigned long)values[i], matches, &values[i], &found);
        printf(i ? " %d\n" : "%d", ((struct entry *)(void *)cds_lfht_iter_get_node(&found))->value);
        cds_lfht_del(table, &entries[i].node);
        rcu_read_unlock_notrace();
    }
    synchronize_rcu();
    return cds_lfht_destroy(table, NULL);
}
C
# A second source file with the header, in C++.
cat >"$stage/make_table.cc" <<'C'
#include <rcu_notrace/urcu.h>
#include <urcu/rculfhash.h>
extern "C" struct cds_lfht *make_table(void)
{
    return cds_lfht_new_flavor(1, 1, 0, CDS_LFHT_AUTO_RESIZE, &rcu_notrace_flavor, NULL);
}
C

try() { # name, command...
    local name=$1
    shift
    if [ "$("$@")" = "1 2" ]; then
        echo "ok installcheck: $name"
        passed=$((passed + 1))
    else
        echo "not ok installcheck: $name"
        exit 1
    fi
}

flags=$(pkg-config --cflags rcu_notrace)
shared=$(pkg-config --libs rcu_notrace)
static=$(pkg-config --static --libs rcu_notrace)
lib=$stage$prefix/lib
export LD_LIBRARY_PATH=$lib
# shellcheck disable=SC2086 # flags are words
{
    ${CC:-cc} -std=c99 -Wall -Wextra -Wpedantic -Werror $flags "$stage/program.c" -o "$stage/c" $shared
    ${CXX:-c++} -std=c++11 -Wall -Wextra -Wpedantic -Werror $flags "$stage/program.cc" -o "$stage/cc" $shared
    ${CC:-cc} -std=c99 -static $flags "$stage/program.c" -o "$stage/c-static" $static
    ${CXX:-c++} -std=c++11 -static $flags "$stage/program.cc" -o "$stage/cc-static" $static
    ${CC:-cc} "$stage/loads.c" -o "$stage/loads" -ldl -pthread
}
try "a C program, shared" "$stage/c"
try "a C++ program, shared" "$stage/cc"
try "a C program, static" "$stage/c-static"
try "a C++ program, static" "$stage/cc-static"
try "dlopen after threads exist" "$stage/loads" "$lib/librcu_notrace.so.0"
if echo '#include <urcu/rculfhash.h>' | ${CC:-cc} -xc -E -o /dev/null - 2>/dev/null; then
    # shellcheck disable=SC2086
    {
        ${CC:-cc} -std=c99 -Wall -Wextra -Wpedantic -Werror $flags -c "$stage/table.c" -o "$stage/table.o"
        ${CXX:-c++} -std=c++11 -Wall -Wextra -Wpedantic -Werror $flags "$stage/table.o" \
            "$stage/make_table.cc" -o "$stage/table" $shared -lurcu-cds -lurcu-common -pthread
    }
    try "liburcu's hash table, from C and C++" "$stage/table"
else
    echo "ok installcheck: SKIP liburcu's hash table (apt-get install liburcu-dev)"
fi
${MAKE:-make} --no-print-directory uninstall PREFIX=$prefix DESTDIR="$stage" >/dev/null
left=$(find "$stage$prefix" -type f -o -type l | wc -l)
if [ "$left" = 0 ]; then
    echo "ok installcheck: uninstall leaves nothing"
    passed=$((passed + 1))
else
    echo "not ok installcheck: uninstall leaves $left files"
    exit 1
fi
echo "installcheck: $passed passed, 0 failed"
