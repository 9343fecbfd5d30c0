/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The event, its probes, and the list of them: what the tracer needs RCU for.
 *
 * Every event runs the probes of the published list in a read-side section. Every few milliseconds
 * the list and the probes' objects are replaced by fresh ones; after a grace period the old ones
 * are poisoned and used again. A probe that still runs on a poisoned object ends the process: the
 * traced program's events check RCU.
 *
 * Some list is published at all times, so no event goes uncounted.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rcu_notrace.h>

#include "heap.h"

__thread struct heap_thread heap_thread;
unsigned heap_generation = 1;
_Atomic int64_t heap_live;

/* Written over objects that no section may see any more. */
enum { POISON_BYTE = 0x5a };
#define ALIVE UINT64_C(0x6562f72d616c6976)

/* A probe's object. The mark stands at its end: what lies before it is poisoned after it, and read
 * before it. */
struct probe_object {
    struct heap_table *table;
    _Atomic uint64_t mark;
};

struct probe {
    void (*function)(void *data, const struct heap_event *event);
    void *data;
};

enum { PROBES = 2 };

struct probe_list {
    struct heap_table *table;
    struct probe probes[PROBES];
    _Atomic uint64_t mark;
};

/* A list and its objects live and die together. */
struct probe_set {
    struct probe_list list;
    struct probe_object objects[PROBES];
};

void heap_die(const char *line)
{
    heap_write(2, line, strlen(line));
    abort();
}

static void check(const _Atomic uint64_t *mark)
{
    /* Acquire: what the caller read before is compared with what the mark says after it. */
    atomic_signal_fence(memory_order_seq_cst);
    if (atomic_load_explicit(mark, memory_order_acquire) != ALIVE)
        heap_die("rcu-heap: a probe runs on an object after its grace period: RCU is broken\n");
}

/* The table that a live object counts in. */
static struct heap_table *table_of(const struct probe_object *object)
{
    struct heap_table *table = *(struct heap_table *const volatile *)&object->table;

    check(&object->mark);
    return table;
}

/* The thread's shard of the table; the first call in a process counts the thread. */
static struct heap_shard *shard_of(struct heap_table *table)
{
    struct heap_thread *me = &heap_thread;

    if (__builtin_expect(me->generation != heap_generation, 0)) {
        me->generation = heap_generation;
        me->shard = (unsigned)(atomic_fetch_add_explicit(&table->threads, 1,
                                                         memory_order_relaxed) % HEAP_SHARDS);
    }
    return &table->shards[me->shard];
}

/* Calls by function, bytes, and the peak of live bytes. */
static void probe_calls(void *data, const struct heap_event *event)
{
    const struct probe_object *object = data;
    struct heap_table *table = table_of(object);
    struct heap_shard *shard = shard_of(table);
    int64_t change = (int64_t)(event->allocated - event->freed);

    heap_add(&shard->calls[event->function], 1);
    if (__builtin_expect(event->failed, 0))
        heap_add(&shard->failed, 1);
    if (event->requested)
        heap_add(&shard->requested, event->requested);
    if (event->allocated)
        heap_add(&shard->allocated, event->allocated);
    if (event->freed)
        heap_add(&shard->freed, event->freed);
    if (change) {
        int64_t live =
            atomic_fetch_add_explicit(&heap_live, change, memory_order_relaxed) + change;

        if (live > 0)
            heap_raise(&table->peak, (uint64_t)live);
    }
    check(&object->mark);
}

/* The histogram of requested sizes. */
static void probe_sizes(void *data, const struct heap_event *event)
{
    const struct probe_object *object = data;
    struct heap_shard *shard = shard_of(table_of(object));

    if (event->allocates && !event->failed) {
        unsigned bits = event->requested ? 64 - (unsigned)__builtin_clzll(event->requested) : 0;

        heap_add(&shard->sizes[bits], 1);
    }
    check(&object->mark);
}

/* What stands in a poisoned list in the place of its probes. */
static void probe_poisoned(void *data, const struct heap_event *event)
{
    (void)data;
    (void)event;
    heap_die("rcu-heap: a probe list is used after its grace period: RCU is broken\n");
}

/* Where events are counted that come before the tracer's constructor: the dynamic loader's and
 * those of other libraries' constructors. */
static struct heap_table early_table;

/* The pool, used in turn: the longer a set lies poisoned, the surer a late reader is caught. */
enum { SETS = 8 };
static struct probe_set sets[SETS] = {
    {
        .list = {&early_table, {{probe_calls, &sets[0].objects[0]},
                                {probe_sizes, &sets[0].objects[1]}}, ALIVE},
        .objects = {{&early_table, ALIVE}, {&early_table, ALIVE}},
    },
};

/* RCU-protected. */
static struct probe_list *published = &sets[0].list;

void heap_event(const struct heap_event *event)
{
    const struct probe_list *list;

    if (__builtin_expect(heap_thread.own, 0))
        return;
    rcu_read_lock_notrace();
    list = rcu_dereference(published);
    check(&list->mark);
    heap_add(&shard_of(list->table)->sections, 1);
    for (int i = 0; i < PROBES; i++)
        list->probes[i].function(list->probes[i].data, event);
    check(&list->mark);
    rcu_read_unlock_notrace();
}

static void poison(struct probe_set *set)
{
    atomic_store_explicit(&set->list.mark, 0, memory_order_seq_cst);
    for (int i = 0; i < PROBES; i++)
        atomic_store_explicit(&set->objects[i].mark, 0, memory_order_seq_cst);
    /* A reader that should not be there shall reach a message, not a wild pointer. */
    for (int i = 0; i < PROBES; i++) {
        memset(&set->objects[i].table, POISON_BYTE, sizeof(set->objects[i].table));
        set->list.probes[i].function = probe_poisoned;
        set->list.probes[i].data = NULL;
    }
}

static void prepare(struct probe_set *set, struct heap_table *table)
{
    set->list.table = table;
    set->list.probes[0] = (struct probe){probe_calls, &set->objects[0]};
    set->list.probes[1] = (struct probe){probe_sizes, &set->objects[1]};
    for (int i = 0; i < PROBES; i++) {
        set->objects[i].table = table;
        atomic_store_explicit(&set->objects[i].mark, ALIVE, memory_order_release);
    }
    atomic_store_explicit(&set->list.mark, ALIVE, memory_order_release);
}

struct heap_table *heap_probes_table(void)
{
    return rcu_access_pointer(published)->table;
}

void heap_probes_replace(struct heap_table *table)
{
    static int last;
    struct probe_set *fresh, *old;

    /* A fork may have come anywhere in the parent's replacement, so `last` may be one behind. */
    do
        last = (last + 1) % SETS;
    while (&sets[last].list == rcu_access_pointer(published));
    fresh = &sets[last];

    prepare(fresh, table);
    /* struct probe_set begins with its list. */
    old = (struct probe_set *)(void *)rcu_xchg_pointer(&published, &fresh->list);
#ifndef RCU_HEAP_BROKEN_NO_GRACE_PERIOD
    synchronize_rcu();
#endif
    if (old->list.table == &early_table && table != &early_table)
        heap_table_fold(table, &early_table);
    poison(old);
}
