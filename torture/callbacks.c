/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Callbacks: floods of them while grace periods are held up, and after; and rcu_barrier() over callbacks
 * whose threads have gone.
 */
#include "torture.h"

enum { HOLD_MS = 30, FLOOD_MS = 100 };

/* The library says: a few times 65,536 for each thread that floods. */
enum { MOST_WAITING = 8 * 65536 };

_Atomic uint64_t flood_most, flood_rate, barrier_attempts, barrier_successes;

/* ---- floods ------------------------------------------------------------------------------------------ */

struct drop {
    struct rcu_head head;
    struct flood *flood;
    uint64_t serial;
};

/* One for each flavour: its callbacks are those of one thread, and are called in order. */
static struct flood {
    struct flavour *f;
    uint64_t queued;
    _Atomic uint64_t called;
    atomic_bool held, release;
    bool cut;
} floods[FLAVOURS];

static void drop_called(struct rcu_head *head)
{
    struct drop *drop = (struct drop *)(void *)head;
    struct flood *flood = drop->flood;

    /* The parent was in the middle of the one before, for longer than a fork waits: that one is the parent's alone. */
    if (in_child && fork_was_impatient && !flood->cut && drop->serial == flood->called + 1) {
        flood->cut = true;
        flood->called++;
    }
    if (drop->serial != flood->called)
        failure("%s: callback %llu of one thread was called as number %llu", flood->f->name,
                (unsigned long long)drop->serial, (unsigned long long)flood->called);
    flood->called++;
    flood->f->called++;
    free(drop);
}

static void *hold(void *argument)
{
    struct flood *flood = argument;
    const bool first = flood->f == &flavours[NOTRACE];

    tally_begin("holding up grace periods");
    if (first)
        rcu_read_lock_notrace();
    else
        rcu_read_lock_trace();
    flood->held = true;
    while (!flood->release) {
        beat("holding up grace periods");
        sleep_us(200);
    }
    flood->release = false;
    flood->held = false;
    if (first)
        rcu_read_unlock_notrace();
    else
        rcu_read_unlock_trace();
    tally_end();
    return NULL;
}

static uint64_t pour(struct flood *flood, unsigned ms)
{
    const uint64_t end = now_ns() + ms * UINT64_C(1000000), before = flood->queued;

    while (now_ns() < end && !stopping()) {
        uint64_t waiting;

        beat("flooding");
        for (int n = 0; n < 64; n++) {
            struct drop *drop = malloc(sizeof(*drop));

            if (!drop) {
                failure("no memory for a callback: %llu wait",
                        (unsigned long long)(flood->queued - flood->called));
                return 0;
            }
            drop->flood = flood;
            drop->serial = flood->queued++;
            flood->f->queued++;
            flood->f->call(&drop->head, drop_called);
        }
        waiting = flood->queued - flood->called;
        if (waiting > flood_most)
            flood_most = waiting;
        if (waiting > MOST_WAITING)
            failure("%s: %llu callbacks of one thread wait", flood->f->name, (unsigned long long)waiting);
    }
    return flood->queued - before;
}

static void flood_once(struct flood *flood)
{
    /* Some floods come while a section holds up all grace periods. */
    const bool held_up = pthread_mutex_trylock(&long_sections) == 0;
    uint64_t begin, before;
    pthread_t holder;

    if (held_up) {
        holder = start(hold, flood);
        while (!flood->held)
            sleep_us(100);
        before = flood->queued;
        pour(flood, HOLD_MS);
        /* What was queued after the section began waits for its end. */
        if (flood->called > before)
            failure("%s: a callback was called before the end of a section that was open when it was queued",
                    flood->f->name);
        else if (flood->queued > before)
            cover(FLOOD_HELD_UP);
        flood->release = true;
        pthread_join(holder, NULL);
        pthread_mutex_unlock(&long_sections);
    }
    begin = now_ns();
    before = pour(flood, FLOOD_MS) * UINT64_C(1000000) / ((now_ns() - begin) / 1000 + 1);
    if (before > flood_rate)
        flood_rate = before;
    beat("rcu_barrier after a flood");
    flood->f->barrier();
    if (flood->called != flood->queued)
        failure("%s: %llu callbacks flooded, %llu called after rcu_barrier", flood->f->name,
                (unsigned long long)flood->queued, (unsigned long long)flood->called);
    cover(FLOODED);
}

void *flooder(void *argument)
{
    struct flavour *f = argument;
    struct flood *flood = &floods[f - flavours];

    flood->f = f;
    while (!stopping()) {
        beat("between floods");
        rest_ms(100 + below(1000));
        stutter_wait();
        if (!stopping())
            flood_once(flood);
    }
    return NULL;
}

/* ---- rcu_barrier() -------------------------------------------------------------------------------------- */

enum { CALLERS = 4 };

struct caller {
    struct rcu_head head;
    struct flavour *f;
    _Atomic unsigned *called;
};

static void caller_called(struct rcu_head *head)
{
    struct caller *caller = (struct caller *)(void *)head;

    atomic_fetch_add(caller->called, 1);
    caller->f->called++;
}

static void *call_and_go(void *argument)
{
    struct caller *caller = argument;

    caller->f->queued++;
    caller->f->call(&caller->head, caller_called);
    return NULL;
}

void *barrier_tester(void *argument)
{
    struct flavour *f = argument;
    /* Not on the stack: other threads fork. */
    struct caller *callers = calloc(CALLERS, sizeof(*callers));
    _Atomic unsigned *called = calloc(1, sizeof(*called));

    if (!callers || !called)
        abort();
    while (!stopping()) {
        pthread_t threads[CALLERS];

        beat("callbacks of threads that go");
        stutter_wait();
        *called = 0;
        for (int i = 0; i < CALLERS; i++) {
            callers[i] = (struct caller){.f = f, .called = called};
            threads[i] = start(call_and_go, &callers[i]);
        }
        for (int i = 0; i < CALLERS; i++)
            pthread_join(threads[i], NULL);
        barrier_attempts++;
        f->barrier();
        if (*called == CALLERS)
            barrier_successes++;
        else
            failure("%s: rcu_barrier returned after %u of %d callbacks", f->name, *called, CALLERS);
        rest_ms(below(50));
    }
    free(callers);
    free((void *)called);
    return NULL;
}
