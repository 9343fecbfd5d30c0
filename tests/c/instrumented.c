/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A program of which every function is instrumented. Its workers come in pairs that differ in
 * nothing but the sections, so a hook more in one of them is a hook in RCU.
 *
 * Output: `equal NAME WITH WITHOUT` for each pair, `slow MODE REPORTS` for each IPI mode, and
 * `hooked OFFSET` for each address that a hook reported, from the start of the executable. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <rcu_notrace.h>

/* instrumented_hooks.c */
extern __thread unsigned long hooks_of_this_thread;
void report_hooked(void);

#define ROUNDS 1000
#define NOINLINE __attribute__((noinline, noclone))
#ifdef __clang__
#undef NOINLINE
#define NOINLINE __attribute__((noinline))
#endif

struct item {
    long value;
};

static struct item items[2] = {{1}, {2}};
static struct item *shared = &items[0];
static atomic_int waiting;
static long sink;

#define BARRIER() __asm__ volatile("" ::: "memory")

/* ---- the pairs ------------------------------------------------------------------------------ */

NOINLINE static void section_with(void)
{
    rcu_read_lock_notrace();
    sink += rcu_dereference(shared)->value;
    rcu_read_unlock_notrace();
}

NOINLINE static void section_without(void)
{
    BARRIER();
    sink += shared->value;
    BARRIER();
}

NOINLINE static void nested_with(void)
{
    rcu_read_lock_notrace();
    rcu_read_lock_notrace();
    if (!rcu_read_lock_held())
        abort();
    sink += rcu_dereference(shared)->value;
    rcu_read_unlock_notrace();
    rcu_read_unlock_notrace();
}

NOINLINE static void nested_without(void)
{
    BARRIER();
    sink += shared->value;
    BARRIER();
}

NOINLINE static void guard_with(void)
{
    guard(rcu_notrace)();
    sink += rcu_dereference(shared)->value;
}

NOINLINE static void guard_without(void)
{
    sink += shared->value;
}

NOINLINE static void scoped_with(void)
{
    scoped_guard (rcu_notrace) {
        guard(rcu_notrace)();
        sink += rcu_dereference(shared)->value;
    }
}

NOINLINE static void scoped_without(void)
{
    {
        sink += shared->value;
    }
}

NOINLINE static void pointers_with(void)
{
    struct item *was;

    rcu_assign_pointer(shared, &items[0]);
    was = rcu_xchg_pointer(&shared, &items[1]);
    was = rcu_cmpxchg_pointer(&shared, &items[1], was);
    sink += rcu_access_pointer(shared) == was;
}

NOINLINE static void pointers_without(void)
{
    struct item *was = shared;

    shared = &items[1];
    shared = was;
    sink += shared == was;
}

/* Long enough for a waiter to ask, and to sleep. */
NOINLINE static void long_with(void)
{
    rcu_read_lock_notrace();
    for (int spin = 0; spin < 20000; spin++)
        BARRIER();
    rcu_read_unlock_notrace();
}

NOINLINE static void long_without(void)
{
    for (int spin = 0; spin < 20000; spin++)
        BARRIER();
}

/* ---- counting ------------------------------------------------------------------------------- */

static void compare(const char *name, void (*with)(void), void (*without)(void))
{
    unsigned long start = hooks_of_this_thread, middle;

    for (int round = 0; round < ROUNDS; round++)
        with();
    middle = hooks_of_this_thread;
    for (int round = 0; round < ROUNDS; round++)
        without();
    printf("equal %s %lu %lu\n", name, middle - start, hooks_of_this_thread - middle);
}

/* The first sections of a thread are transient, then it registers itself. */
#define FIRST_SECTIONS 8

static void *first_with(void *result)
{
    unsigned long start = hooks_of_this_thread;

    for (int round = 0; round < FIRST_SECTIONS; round++)
        section_with();
    *(unsigned long *)result = hooks_of_this_thread - start;
    return NULL;
}

static void *first_without(void *result)
{
    unsigned long start = hooks_of_this_thread;

    for (int round = 0; round < FIRST_SECTIONS; round++)
        section_without();
    *(unsigned long *)result = hooks_of_this_thread - start;
    return NULL;
}

static unsigned long in_a_thread(void *(*body)(void *))
{
    unsigned long hooks = 0;
    pthread_t thread;

    if (pthread_create(&thread, NULL, body, &hooks) != 0)
        abort();
    pthread_join(thread, NULL);
    return hooks;
}

static void *wait_again_and_again(void *unused)
{
    while (atomic_load(&waiting))
        synchronize_rcu();
    return unused;
}

static unsigned long reports(void)
{
    struct rcu_notrace_stats stats = {0};

    rcu_notrace_get_stats(&stats, sizeof stats);
    return stats.reports_by_section + stats.reports_by_handler;
}

static void slow_paths(const char *mode_name, int mode)
{
    unsigned long before;
    pthread_t waiter;

    if (rcu_notrace_set_ipi_mode(mode) != 0) {
        printf("refused %s\n", mode_name);
        return;
    }
    before = reports();
    atomic_store(&waiting, 1);
    if (pthread_create(&waiter, NULL, wait_again_and_again, NULL) != 0)
        abort();
    for (int more = 0; more < 50 && reports() == before; more++)
        compare(mode_name, long_with, long_without);
    compare(mode_name, section_with, section_without);
    compare(mode_name, nested_with, nested_without);
    atomic_store(&waiting, 0);
    pthread_join(waiter, NULL);
    printf("slow %s %lu\n", mode_name, reports() - before);
}

int main(void)
{
    unsigned long with, without;

    /* Should it hang, its output says where. */
    setvbuf(stdout, NULL, _IOLBF, 0);
    with = in_a_thread(first_with);
    without = in_a_thread(first_without);
    printf("equal first %lu %lu\n", with, without);
    compare("section", section_with, section_without);
    compare("nested", nested_with, nested_without);
    compare("guard", guard_with, guard_without);
    compare("scoped", scoped_with, scoped_without);
    compare("pointers", pointers_with, pointers_without);
    slow_paths("auto", RCU_NOTRACE_IPI_AUTO);
    slow_paths("signal", RCU_NOTRACE_IPI_SIGNAL);
    slow_paths("membarrier", RCU_NOTRACE_IPI_MEMBARRIER);
    report_hooked();
    return 0;
}
