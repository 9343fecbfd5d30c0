/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The pipe. An element is current (pipe_count 0), then removed (1), then grows older with each grace period
 * (2, 3, ...), until it leaves the pipe, is poisoned and free for use again. A reader may see 0 and 1.
 *
 * Free elements are on a stack without locks: callbacks return them in the child of a fork too, which may
 * have been made at any moment.
 */
#include "torture.h"

#include <sched.h>

enum { ELEMENTS = 4096 };

static struct element elements[FLAVOURS][ELEMENTS];
struct contended contended[CONTENDED];

struct flavour flavours[FLAVOURS] = {
    {.name = "rcu_notrace",
     .synchronize = synchronize_rcu,
     .synchronize_expedited = synchronize_rcu_expedited,
     .barrier = rcu_barrier,
     .call = call_rcu,
     .get_stats = rcu_notrace_get_stats},
    {.name = "rcu_tasks_trace",
     .synchronize = synchronize_rcu_tasks_trace,
     .synchronize_expedited = synchronize_rcu_tasks_trace,
     .barrier = rcu_barrier_tasks_trace,
     .call = call_rcu_tasks_trace,
     .get_stats = rcu_tasks_trace_get_stats},
};

struct rcu_notrace_stats stats_of(const struct flavour *f)
{
    struct rcu_notrace_stats now;

    f->get_stats(&now, sizeof(now));
    return now;
}

/* The head of the stack: an index plus one, 0 for none; in the upper half, how often it was changed. */
static void put(struct flavour *f, struct element *e)
{
    const uint32_t index = (uint32_t)(e - elements[f - flavours]);
    uint64_t seen = f->free;

    do
        e->next = (uint32_t)seen;
    while (!atomic_compare_exchange_weak(&f->free, &seen,
                                         ((seen >> 32) + 1) << 32 | (index + 1)));
}

static struct element *get(struct flavour *f)
{
    uint64_t seen = f->free;
    struct element *e;

    do {
        if (!(uint32_t)seen)
            return NULL;
        e = &elements[f - flavours][(uint32_t)seen - 1];
    } while (!atomic_compare_exchange_weak(
        &f->free, &seen,
        ((seen >> 32) + 1) << 32 | __atomic_load_n(&e->next, __ATOMIC_RELAXED)));
    return e;
}

void elements_begin(void)
{
    for (unsigned i = 0; i < FLAVOURS; i++) {
        struct flavour *f = &flavours[i];

        for (unsigned n = 0; n < ELEMENTS; n++) {
            elements[i][n].mark = POISON;
            elements[i][n].flavour = i;
            put(f, &elements[i][n]);
        }
        f->current = element_get(f);
    }
}

struct element *element_get(struct flavour *f)
{
    struct element *e = get(f);

    if (!e) {
        f->allocation_failures++;
        return NULL;
    }
    f->allocations++;
    e->pipe_count = 0;
    e->mark = ALIVE;
    return e;
}

struct element *element_replace(struct flavour *f, struct element *fresh)
{
    struct element *old = rcu_xchg_pointer(&f->current, fresh);

    f->version++;
    atomic_fetch_add_explicit(&f->circulation[0], 1, memory_order_relaxed);
    atomic_store_explicit(&old->pipe_count, 1, memory_order_relaxed);
    return old;
}

bool element_age(struct flavour *f, struct element *e)
{
    const unsigned age = atomic_load_explicit(&e->pipe_count, memory_order_relaxed);

    atomic_fetch_add_explicit(&f->circulation[age], 1, memory_order_relaxed);
    atomic_store_explicit(&e->pipe_count, age + 1, memory_order_relaxed);
    if (age + 1 <= RCU_TORTURE_PIPE_LEN)
        return false;
    atomic_store_explicit(&e->mark, POISON, memory_order_relaxed);
    f->frees++;
    put(f, e);
    return true;
}

static void age_once_more(struct rcu_head *head)
{
    struct element *e = (struct element *)(void *)head;
    struct flavour *f = &flavours[e->flavour];

    if (!element_age(f, e)) {
        f->queued++;
        f->call(head, age_once_more);
    }
    f->called++;
}

void element_call(struct flavour *f, struct element *e)
{
    f->queued++;
    f->call(&e->head, age_once_more);
}

bool callbacks_drain(struct flavour *f)
{
    /* Each round calls those that the round before queued. */
    for (int round = 0; round <= RCU_TORTURE_PIPE_LEN + 1; round++) {
        beat("rcu_barrier");
        f->barrier();
        if (f->queued == f->called)
            return true;
    }
    failure("%s: %llu callbacks queued, %llu called after rcu_barrier", f->name,
            (unsigned long long)f->queued, (unsigned long long)f->called);
    return false;
}

void element_is_bad(struct flavour *f, const struct element *e, unsigned pipe_count)
{
    const unsigned mark = e->mark;

    if (pipe_count > 1)
        f->too_old++;
    if (mark != ALIVE)
        f->marks_wrong++;
    failure("%s: a reader holds an element with pipe count %u and mark %#x", f->name, pipe_count, mark);
}

/* The second flavour has no cookies: its count of grace periods goes up after each one has ended, and before the
 * next begins. */
uint64_t grace_periods_now(unsigned flavour)
{
    return flavour == NOTRACE ? get_state_synchronize_rcu() : 2 * stats_of(&flavours[flavour]).grace_periods;
}

/* One grace period may have been running already. A second would have begun and ended inside. */
void batch_judge(struct counts *c, unsigned flavour, uint64_t before)
{
    const uint64_t passed = (grace_periods_now(flavour) - before) / 2;

    if (passed > 1) {
        flavours[flavour].too_many_batches++;
        failure("%s: %llu grace periods ended during a section", flavours[flavour].name,
                (unsigned long long)passed);
    }
    if (passed == 1)
        bump(&c->cover[SAW_GRACE_PERIOD]);
    bump(&c->batch[flavour][passed > RCU_TORTURE_PIPE_LEN ? RCU_TORTURE_PIPE_LEN : passed]);
}
