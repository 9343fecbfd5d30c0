/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * One mistake each, for ThreadSanitizer to find, and the same without it, for it to leave alone.
 *   tsan_racy MISTAKE [mended]
 *
 * The steps of the two threads come one after the other, told by relaxed atomics, which make no order that
 * ThreadSanitizer would know: so what it says does not depend on the moment.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <pthread.h>

#include <rcu_notrace/tracepoint.h>

struct object {
    struct rcu_head head;
    long value;
};

DECLARE_TRACE(event, TP_PROTO(int n), TP_ARGS(n));
DEFINE_TRACE(event, TP_PROTO(int n), TP_ARGS(n));

static struct object *object;
static bool mended;
static atomic_int step;
static atomic_long sum;

static void reach(int next)
{
    atomic_store_explicit(&step, next, memory_order_relaxed);
}

static void await(int wanted)
{
    struct timespec moment = {0, 100000};

    while (atomic_load_explicit(&step, memory_order_relaxed) < wanted)
        nanosleep(&moment, NULL);
}

static struct object *new_object(long value)
{
    struct object *made = malloc(sizeof(*made));

    if (!made)
        abort();
    made->value = value;
    return made;
}

static void see(const struct object *seen)
{
    atomic_fetch_add_explicit(&sum, seen->value, memory_order_relaxed);
}

/* ---- readers: what they do comes before step 1, or after step 2 ------------------------------- */

static void *read_in_a_section(void *unused)
{
    rcu_read_lock_notrace();
    see(rcu_dereference(object));
    rcu_read_unlock_notrace();
    reach(1);
    return unused;
}

static void *read_in_the_second_flavour(void *unused)
{
    rcu_read_lock_trace();
    see(rcu_dereference(object));
    rcu_read_unlock_trace();
    reach(1);
    return unused;
}

static void *read_after_unlock(void *unused)
{
    struct object *seen;

    rcu_read_lock_notrace();
    seen = rcu_dereference(object);
    if (mended)
        see(seen);
    rcu_read_unlock_notrace();
    if (!mended)
        see(seen);
    reach(1);
    return unused;
}

static void *read_in_an_inner_section(void *unused)
{
    rcu_read_lock_notrace();
    reach(1);
    await(2);
    /* The outer one began before the update, and makes no order with it. */
    rcu_read_lock_notrace();
    see(rcu_dereference(object));
    rcu_read_unlock_notrace();
    rcu_read_unlock_notrace();
    reach(3);
    return unused;
}

static void *fire(void *unused)
{
    trace_event(1);
    reach(1);
    return unused;
}

/* ---- mistakes ---------------------------------------------------------------------------------- */

static void no_grace_period(void)
{
    struct object *old = object;

    await(1);
    rcu_assign_pointer(object, NULL);
    if (mended)
        synchronize_rcu();
    free(old);
}

static void a_write_in_place(void)
{
    struct object *old = object;

    await(1);
    if (mended) {
        rcu_assign_pointer(object, new_object(2));
        synchronize_rcu_expedited();
        free(old);
    } else {
        object->value = 2;
    }
}

static void the_other_flavour(void)
{
    struct object *old = object;

    await(1);
    rcu_assign_pointer(object, NULL);
    if (mended)
        synchronize_rcu_tasks_trace();
    else
        synchronize_rcu();
    free(old);
}

static void waits_and_frees(void)
{
    struct object *old = object;

    await(1);
    rcu_assign_pointer(object, NULL);
    synchronize_rcu();
    free(old);
}

static void no_poll(void)
{
    struct timespec moment = {0, 1000000};
    struct object *old = object;
    unsigned long cookie;

    await(1);
    rcu_assign_pointer(object, NULL);
    cookie = start_poll_synchronize_rcu();
    if (mended && rcu_notrace_start_worker())
        abort();
    while (mended && !poll_state_synchronize_rcu(cookie))
        nanosleep(&moment, NULL);
    free(old);
}

/* Within the outer section, which the wait is for. */
static void a_write_under_an_open_section(void)
{
    struct object *changed = object;

    await(1);
    if (mended)
        rcu_assign_pointer(object, new_object(2));
    else
        changed->value = 2;
    reach(2);
    synchronize_rcu();
    await(3);
}

static long told;

static void tell(struct rcu_head *head)
{
    told = ((struct object *)(void *)head)->value;
    free(head);
    reach(1);
}

static void no_barrier(void)
{
    struct object *old = object;

    rcu_assign_pointer(object, NULL);
    if (rcu_notrace_start_worker())
        abort();
    call_rcu(&old->head, tell);
    await(1);
    if (mended)
        rcu_barrier();
    sum = told;
}

static void a_change_behind_call_rcu(void)
{
    struct object *old = object;

    rcu_assign_pointer(object, NULL);
    if (rcu_notrace_start_worker())
        abort();
    if (mended)
        old->value = 2;
    call_rcu(&old->head, tell);
    if (!mended)
        old->value = 2;
    rcu_barrier();
    sum = told;
}

static void probe(void *data, int n)
{
    atomic_fetch_add_explicit(&sum, ((struct object *)data)->value + n, memory_order_relaxed);
}

static void a_probe_still_runs(void)
{
    await(1);
    if (unregister_trace_event(probe, object))
        abort();
    if (mended)
        tracepoint_synchronize_unregister();
    free(object);
}

static const struct mistake {
    const char *name;
    void *(*reader)(void *);
    void (*run)(void);
} mistakes[] = {
    {"no_grace_period", read_in_a_section, no_grace_period},
    {"a_write_in_place", read_in_a_section, a_write_in_place},
    {"use_after_unlock", read_after_unlock, waits_and_frees},
    {"the_other_flavour", read_in_the_second_flavour, the_other_flavour},
    {"no_poll", read_in_a_section, no_poll},
    {"a_write_under_an_open_section", read_in_an_inner_section, a_write_under_an_open_section},
    {"no_barrier", NULL, no_barrier},
    {"a_change_behind_call_rcu", NULL, a_change_behind_call_rcu},
    {"a_probe_still_runs", fire, a_probe_still_runs},
};

int main(int argc, char **argv)
{
    pthread_t reader;

    for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
        const struct mistake *mistake = &mistakes[i];

        if (argc < 2) {
            puts(mistake->name);
            continue;
        }
        if (strcmp(argv[1], mistake->name))
            continue;
        mended = argc > 2;
        object = new_object(1);
        if (mistake->run == a_probe_still_runs && register_trace_event(probe, object))
            abort();
        if (mistake->reader && pthread_create(&reader, NULL, mistake->reader, NULL))
            abort();
        mistake->run();
        if (mistake->reader)
            pthread_join(reader, NULL);
        /* It did what it is about. */
        return sum == 0;
    }
    return argc >= 2;
}
