/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A whole program on the library, for valgrind: sections, waits, callbacks, cookies, tracepoints, forks, exits. */
#include "../test.h"

#include <rcu_notrace/tracepoint.h>

struct object {
    struct rcu_head head;
    long value;
};

enum { READERS = 3, ROUNDS = 100 };

DECLARE_TRACE(fired, TP_PROTO(int n), TP_ARGS(n));
DEFINE_TRACE(fired, TP_PROTO(int n), TP_ARGS(n));

static struct object *object;
static atomic_long reads, callbacks, told;
static atomic_bool stop;

static void discard(struct rcu_head *head)
{
    struct object *old = (struct object *)(void *)head;

    old->value = -1;
    free(old);
    callbacks++;
}

static void probe(void *data, int n)
{
    told += n == *(int *)data;
}

static void *reader(void *unused)
{
    while (!stop) {
        rcu_read_lock_notrace();
        rcu_read_lock_trace();
        CHECK(rcu_dereference(object)->value > 0);
        rcu_read_unlock_trace();
        rcu_read_unlock_notrace();
        trace_fired(1);
        reads++;
        /* valgrind runs one thread at a time. */
        sched_yield();
    }
    return unused;
}

static void replace(int round)
{
    struct object *made = malloc(sizeof(*made)), *old;
    unsigned long cookie;

    CHECK(made);
    made->value = round + 1;
    old = rcu_xchg_pointer(&object, made);
    if (!old)
        return;
    switch (round % 6) {
    case 0:
        synchronize_rcu();
        discard(&old->head);
        break;
    case 1:
        synchronize_rcu_expedited();
        discard(&old->head);
        break;
    case 2:
        call_rcu(&old->head, discard);
        break;
    case 3:
        synchronize_rcu();
        call_rcu_tasks_trace(&old->head, discard);
        break;
    case 4:
        cookie = start_poll_synchronize_rcu();
        while (!poll_state_synchronize_rcu(cookie))
            sleep_ms(1);
        discard(&old->head);
        break;
    case 5:
        free_rcu(old, head);
        callbacks++;
        break;
    }
}

/* Until the readers have called the probe that there is now: surely if sites load their keys. That they are
 * patched, valgrind may overlook. */
static void await_probe(long before)
{
    const char *keys = getenv("RCU_NOTRACE_KEYS");

    while (keys && !strcmp(keys, "load") && told == before)
        sched_yield();
}

static int whole_program(void)
{
    pthread_t threads[READERS];
    struct rcu_notrace_stats now;
    int one = 1, status;
    long before = 0;
    pid_t child;

    CHECK(!rcu_notrace_start_worker());
    replace(0);
    for (int i = 0; i < READERS; i++)
        threads[i] = start(reader, NULL);
    for (int i = 1; i <= ROUNDS; i++) {
        if (i % 20 == 0)
            CHECK(!register_trace_fired(probe, &one));
        replace(i);
        if (i % 20 == 0) {
            await_probe(before);
            CHECK(!unregister_trace_fired(probe, &one));
            tracepoint_synchronize_unregister();
            before = told;
        }
    }
    while (reads <= ROUNDS)
        sched_yield();
    stop = true;
    for (int i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    rcu_barrier();
    rcu_barrier_tasks_trace();
    CHECK(callbacks == ROUNDS);
    child = fork();
    CHECK(child >= 0);
    if (!child) {
        replace(2);
        rcu_barrier();
        free(object);
        object = NULL;
        exit(callbacks == ROUNDS + 1 ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    now = stats();
    printf("    %ld reads, %ld callbacks, %ld told, mode %s, %llu grace periods, %llu IPIs, %llu parks\n", (long)reads,
           (long)callbacks, (long)told, mode_names[rcu_notrace_get_ipi_mode()],
           (unsigned long long)now.grace_periods, (unsigned long long)now.ipis, (unsigned long long)now.parks);
    CHECK(told == before && now.grace_periods > ROUNDS / 2);
    free(object);
    object = NULL;
    return 0;
}

/* What memcheck must find, so that its silence says something: a read after the grace period. */
static int use_after_free(void)
{
    struct object *seen, *volatile hidden;

    replace(0);
    rcu_read_lock_notrace();
    seen = rcu_dereference(object);
    rcu_read_unlock_notrace();
    rcu_assign_pointer(object, NULL);
    synchronize_rcu();
    /* From the compiler, which would see it too. */
    hidden = seen;
    free(seen);
    return hidden->value == 12345;
}

int main(int argc, char **argv)
{
    (void)argv;
    return argc > 1 ? use_after_free() : whole_program();
}
