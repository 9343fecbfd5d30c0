/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A program without mistakes, for ThreadSanitizer to leave alone: plain fields behind pointers that are replaced in every
 * way that the library knows, read by threads and by signal handlers, poisoned before they are freed.
 */
#include "../test.h"

#include <rcu_notrace/rcu.h>

struct object {
    struct rcu_head head;
    long value, same;
};

enum { GOOD = 0, POISON = -1, READERS = 3 };

/* One for each way; replaced by a thread each. */
enum { SYNCHRONIZE, EXPEDITED, CALL, FREE, POLL, CONDITIONAL, BARRIER, TRACE, TRACE_CALL, CHECKED, WAYS,
    /* and for messages alone */
    UNREGISTER, UNREGISTER_TRACE };
static const char *const names[WAYS] = {"synchronize", "expedited", "call", "free", "poll", "conditional",
                                        "barrier", "trace", "trace call", "checked"};

static struct object *objects[WAYS];
static atomic_long reads[WAYS], updates[WAYS], changes[WAYS], handled, callbacks, told;
static atomic_bool stop;

static int rounds(void)
{
    const char *wanted = getenv("TSAN_ROUNDS");

    return wanted ? atoi(wanted) : 200;
}

static bool is_trace(int way)
{
    return way == TRACE || way == TRACE_CALL || way == UNREGISTER_TRACE;
}

static struct object *new_object(long value)
{
    struct object *made = malloc(sizeof(*made));

    CHECK(made);
    made->value = made->same = value;
    return made;
}

static void discard(struct object *old)
{
    old->value = old->same = POISON;
    free(old);
}

static void discard_head(struct rcu_head *head)
{
    discard((struct object *)(void *)head);
    callbacks++;
}

/* ---- readers --------------------------------------------------------------------------------- */

static void look(int way, long *last)
{
    struct object *seen = rcu_dereference(objects[way]);

    CHECK(seen->value > GOOD && seen->value == seen->same);
    reads[way]++;
    /* That updates come between, and not after all reads. */
    if (last && *last != seen->value) {
        changes[way] += *last != 0;
        *last = seen->value;
    }
}

static void read_way(int way, long *last)
{
    if (is_trace(way)) {
        guard(rcu_tasks_trace)();
        look(way, last);
    } else if (way == CHECKED) {
        rcu_read_lock();
        rcu_read_lock();
        CHECK(rcu_dereference_check(objects[way], 0)->value > GOOD);
        rcu_read_unlock();
        look(way, last);
        rcu_read_unlock();
    } else {
        scoped_guard (rcu_notrace)
            look(way, last);
    }
}

static void on_signal(int signal)
{
    (void)signal;
    for (int way = 0; way < WAYS; way++)
        read_way(way, NULL);
    handled++;
}

static void *reader(void *unused)
{
    long last[WAYS] = {0};

    while (!stop)
        for (int way = 0; way < WAYS; way++)
            read_way(way, &last[way]);
    return unused;
}

/* ---- writers --------------------------------------------------------------------------------- */

static void replace(int way, long value)
{
    struct object *old = rcu_xchg_pointer(&objects[way], new_object(value));
    unsigned long cookie;

    switch (way) {
    case SYNCHRONIZE:
    case CHECKED:
        synchronize_rcu();
        discard(old);
        break;
    case EXPEDITED:
        synchronize_rcu_expedited();
        discard(old);
        break;
    case CALL:
        call_rcu(&old->head, discard_head);
        break;
    case FREE:
        free_rcu(old, head);
        break;
    case POLL:
        cookie = start_poll_synchronize_rcu();
        while (!poll_state_synchronize_rcu(cookie))
            sleep_ms(1);
        discard(old);
        break;
    case CONDITIONAL:
        cookie = get_state_synchronize_rcu();
        cond_synchronize_rcu(cookie);
        discard(old);
        break;
    case BARRIER: {
        long before = callbacks;

        call_rcu(&old->head, discard_head);
        rcu_barrier();
        CHECK(callbacks > before);
        break;
    }
    case TRACE:
        synchronize_rcu_tasks_trace();
        discard(old);
        break;
    case TRACE_CALL:
        call_rcu_tasks_trace(&old->head, discard_head);
        break;
    }
    updates[way]++;
}

static void *writer(void *argument)
{
    int way = (int)(uintptr_t)argument;

    for (int i = 0; i < rounds(); i++) {
        replace(way, i + 2);
        /* The others' too; and readers are to see some of it. */
        if (i % 8 == 0)
            sleep_ms(1);
    }
    return NULL;
}

static void objects_replaced_in_every_way_are_read_by_threads_and_handlers(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    pthread_t readers[READERS], writers[WAYS];
    union sigval none = {0};

    CHECK(!rcu_notrace_start_worker());
    CHECK(!sigaction(SIGUSR2, &action, NULL));
    for (int way = 0; way < WAYS; way++)
        objects[way] = new_object(1);
    for (int i = 0; i < READERS; i++)
        readers[i] = start(reader, NULL);
    for (uintptr_t way = 0; way < WAYS; way++)
        writers[way] = start(writer, (void *)way);
    for (int i = 0; i < rounds(); i++) {
        for (int j = 0; j < READERS; j++)
            CHECK(!pthread_sigqueue(readers[j], SIGUSR2, none));
        sleep_ms(1);
    }
    for (int way = 0; way < WAYS; way++)
        pthread_join(writers[way], NULL);
    stop = true;
    for (int i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    rcu_barrier();
    rcu_barrier_tasks_trace();
    printf("    handlers %ld, callbacks %ld\n", handled, callbacks);
    for (int way = 0; way < WAYS; way++) {
        printf("    %s: updates %ld, reads %ld, changes seen %ld\n", names[way], updates[way], reads[way],
               changes[way]);
        CHECK(updates[way] == rounds() && reads[way] > rounds() && changes[way] > 0);
        discard(objects[way]);
    }
    CHECK(handled > 0 && callbacks == 3 * rounds());
}

/* ---- tracepoints ----------------------------------------------------------------------------- */

DECLARE_TRACE(fired, TP_PROTO(struct object *object, int n), TP_ARGS(object, n));
DEFINE_TRACE(fired, TP_PROTO(struct object *object, int n), TP_ARGS(object, n));
DECLARE_TRACE_SYSCALL(faulted, TP_PROTO(int n), TP_ARGS(n));
DEFINE_TRACE(faulted, TP_PROTO(int n), TP_ARGS(n));

/* Counted without an order: what the probes read before it is for the grace periods to order. */
static long times_told(long more)
{
    return atomic_fetch_add_explicit(&told, more, memory_order_relaxed);
}

static void on_fired(void *data, struct object *object, int n)
{
    struct object *mine = data;

    CHECK(mine->value > GOOD && mine->value == mine->same && object->value == n);
    times_told(1);
}

static void on_faulted(void *data, int n)
{
    struct object *mine = data;

    CHECK(mine->value > GOOD && mine->value == mine->same && n == 1);
    times_told(1);
}

/* One of them, or the other: a later section of either flavour would give an edge to what was read in the other's. */
static void *firing(void *may_fault)
{
    struct object here = {.value = 7};

    while (!stop)
        if (may_fault)
            trace_faulted(1);
        else
            trace_fired(&here, 7);
    return NULL;
}

static void probes_with_data_of_their_own_come_and_go(void)
{
    pthread_t threads[READERS];
    long before = 0;
    int seen = 0;

    for (int i = 0; i < READERS; i++)
        threads[i] = start(firing, i % 2 ? &told : NULL);
    for (int i = 0; i < rounds() / 4; i++) {
        struct object *one = new_object(i + 1), *other = new_object(i + 1);

        CHECK(!register_trace_fired(on_fired, one));
        CHECK(!register_trace_prio_faulted(on_faulted, other, 3));
        /* It is called; how many times is the scheduler's affair. */
        for (int j = 0; j < 1000 && times_told(0) == before; j++)
            sleep_ms(1);
        seen += times_told(0) > before;
        CHECK(!unregister_trace_fired(on_fired, one));
        CHECK(!unregister_trace_faulted(on_faulted, other));
        tracepoint_synchronize_unregister();
        before = times_told(0);
        discard(one);
        discard(other);
    }
    stop = true;
    for (int i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    printf("    registered %d times, called in %d of them, %ld times\n", rounds() / 4, seen, told);
    CHECK(seen > 0 && told == before);
}

/* ---- what a section that saw the later store knows ----------------------------------------------- */

static long first;
static atomic_long second;

static void publish_later(struct rcu_head *head)
{
    (void)head;
    atomic_store_explicit(&second, 2, memory_order_relaxed);
}

static int way_of_message;

static void *read_both(void *result)
{
    long seen = 0;

    while (seen != 2) {
        /* In one section: it began after the update, or the second store is not there yet. */
        if (is_trace(way_of_message))
            rcu_read_lock_trace();
        else
            rcu_read_lock_notrace();
        for (int i = 0; i < 100 && seen != 2; i++)
            seen = atomic_load_explicit(&second, memory_order_relaxed);
        if (seen == 2)
            *(long *)result = first;
        if (is_trace(way_of_message))
            rcu_read_unlock_trace();
        else
            rcu_read_unlock_notrace();
    }
    return result;
}

static void nothing(struct rcu_head *head)
{
    (void)head;
}

/* Both workers, before other threads: the creation of a thread is an edge too. */
static void start_workers(void)
{
    static struct rcu_head head;

    CHECK(!rcu_notrace_start_worker());
    call_rcu_tasks_trace(&head, nothing);
    rcu_barrier_tasks_trace();
}

static void message(int way)
{
    static struct rcu_head head;
    pthread_t threads[READERS];
    long results[READERS] = {0};
    unsigned long cookie;

    start_workers();
    way_of_message = way;
    first = 0;
    second = 0;
    for (int i = 0; i < READERS; i++)
        threads[i] = start(read_both, &results[i]);
    sleep_ms(5);
    first = 1;
    switch (way) {
    case CALL:
        call_rcu(&head, publish_later);
        break;
    case TRACE_CALL:
        call_rcu_tasks_trace(&head, publish_later);
        break;
    case TRACE:
        synchronize_rcu_tasks_trace();
        break;
    case EXPEDITED:
        synchronize_rcu_expedited();
        break;
    case CONDITIONAL:
        cookie = get_state_synchronize_rcu();
        cond_synchronize_rcu_expedited(cookie);
        break;
    case POLL:
        cookie = start_poll_synchronize_rcu();
        while (!poll_state_synchronize_rcu(cookie))
            sleep_ms(1);
        break;
    case BARRIER: /* that way has no more to offer; this one does */
        cookie = start_poll_synchronize_rcu_expedited();
        while (!poll_state_synchronize_rcu(cookie))
            sleep_ms(1);
        break;
    case UNREGISTER:
    case UNREGISTER_TRACE:
        tracepoint_synchronize_unregister();
        break;
    default:
        synchronize_rcu();
    }
    if (way != CALL && way != TRACE_CALL)
        publish_later(NULL);
    for (int i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
        CHECK(results[i] == 1);
    }
    rcu_barrier();
    rcu_barrier_tasks_trace();
}

static void a_section_that_sees_what_came_after_a_grace_period_sees_what_came_before(void)
{
    static const int ways[] = {SYNCHRONIZE, EXPEDITED, CALL, POLL, BARRIER, CONDITIONAL,
                               TRACE, TRACE_CALL, UNREGISTER, UNREGISTER_TRACE};

    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
        message(ways[i]);
    printf("    %d readers saw the second store, and the first, %zu times\n", READERS, sizeof(ways) / sizeof(ways[0]));
}

/* ---- callbacks and cookies between threads ----------------------------------------------------- */

static long counts[2];

static void count_plainly(struct rcu_head *head)
{
    counts[0]++;
    free(head);
}

static void count_plainly_too(struct rcu_head *head)
{
    counts[1]++;
    free(head);
}

static _Atomic(unsigned long) passed_on;

static void *await_cookie(void *conditional)
{
    unsigned long cookie;

    while (!(cookie = atomic_load_explicit(&passed_on, memory_order_relaxed)))
        sleep_ms(1);
    if (conditional)
        cond_synchronize_rcu(cookie);
    else
        while (!poll_state_synchronize_rcu(cookie))
            sleep_ms(1);
    CHECK(first == 3);
    return NULL;
}

static void what_was_done_before_is_seen_by_callbacks_barriers_and_holders_of_a_cookie(void)
{
    int n = rounds();

    start_workers();
    for (int i = 0; i < n; i++) {
        struct object *freed = new_object(i);

        call_rcu(&new_object(i)->head, count_plainly);
        call_rcu_tasks_trace(&new_object(i)->head, count_plainly_too);
        /* Nobody has seen it: only the queue is between us and who frees it. */
        freed->value++;
        free_rcu(freed, head);
    }
    rcu_barrier();
    CHECK(counts[0] == n);
    rcu_barrier_tasks_trace();
    CHECK(counts[1] == n);
    for (int i = 0; i < 2; i++) {
        pthread_t thread;

        passed_on = 0;
        thread = start(await_cookie, i ? &first : NULL);
        first = 3;
        atomic_store_explicit(&passed_on, start_poll_synchronize_rcu(), memory_order_relaxed);
        pthread_join(thread, NULL);
    }
    printf("    %ld and %ld callbacks, 2 cookies\n", counts[0], counts[1]);
}

static const struct scenario scenarios[] = {
    SCENARIO(objects_replaced_in_every_way_are_read_by_threads_and_handlers),
    SCENARIO(probes_with_data_of_their_own_come_and_go),
    SCENARIO(a_section_that_sees_what_came_after_a_grace_period_sees_what_came_before),
    SCENARIO(what_was_done_before_is_seen_by_callbacks_barriers_and_holders_of_a_cookie),
};

int main(int argc, char **argv)
{
    return RUN_SCENARIOS("tsan_clean", scenarios, argc, argv);
}
