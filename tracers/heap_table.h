/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The heap tracer's table: what the traced processes write and the launcher reads.
 *
 * One table serves a whole tree of processes. It lies in a MAP_SHARED mapping, so what a process
 * counted is there however the process ends: by exit, _exit, exec or SIGKILL.
 */
#ifndef HEAP_TABLE_H
#define HEAP_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The environment of a traced process. */
#define HEAP_ENV_TABLE "RCU_HEAP_TABLE"     /* the launcher's file; the launcher prints then */
#define HEAP_ENV_TOGGLE "RCU_HEAP_TOGGLE"   /* milliseconds between probe lists; 0: one for ever */
#define HEAP_ENV_OUT "RCU_HEAP_OUT"         /* where the table is printed; unset: standard error */
#define HEAP_ENV_LIBRARY "RCU_HEAP_LIBRARY" /* librcu_heap.so, if not beside the launcher */

enum { HEAP_TOGGLE_DEFAULT = 10, HEAP_TOGGLE_MAX = 3600000 };

enum heap_function {
    HEAP_MALLOC,
    HEAP_CALLOC,
    HEAP_REALLOC,
    HEAP_REALLOCARRAY,
    HEAP_FREE,
    HEAP_POSIX_MEMALIGN,
    HEAP_ALIGNED_ALLOC,
    HEAP_MEMALIGN,
    HEAP_FUNCTIONS
};

/* What the tracer takes from rcu_notrace_get_stats(). */
enum heap_stat {
    HEAP_GRACE_PERIODS,
    HEAP_IPIS,
    HEAP_HOLDOUTS,
    HEAP_RESCUES,
    HEAP_PARKS,
    HEAP_STATS
};

enum {
    HEAP_SHARDS = 16,
    /* Bucket 0 is size 0, bucket n holds the sizes of n bits. */
    HEAP_BUCKETS = 65,
    HEAP_PIDS = 16384
};

typedef _Atomic uint64_t heap_counter;

/* The counters that every event adds to. Threads are spread over the shards, so that few of them
 * meet on a cache line. */
struct heap_shard {
    _Alignas(128) heap_counter calls[HEAP_FUNCTIONS];
    heap_counter failed;
    heap_counter sections;
    heap_counter requested; /* bytes asked for */
    heap_counter allocated; /* bytes got, by malloc_usable_size() */
    heap_counter freed;     /* bytes given back, likewise */
    heap_counter sizes[HEAP_BUCKETS];
};

#define HEAP_MAGIC UINT64_C(0x3230706165687563) /* "cuheap02" */

struct heap_table {
    uint64_t magic;
    uint64_t size;
    heap_counter threads; /* that called one of the functions; each process's first in any case */
    heap_counter processes;
    heap_counter programs;  /* images that loaded the tracer */
    heap_counter inherited; /* live bytes that forked children began with */
    heap_counter peak;      /* the most bytes live at a time in one process */
    heap_counter toggles;
    heap_counter ipi_mode; /* the library's number for it, plus one; the last program's to start */
    heap_counter stats[HEAP_STATS];
    struct heap_shard shards[HEAP_SHARDS];
    /* Which process was last seen at a pid modulo HEAP_PIDS, to tell an exec from a new process. */
    _Atomic uint32_t pids[HEAP_PIDS];
};

static inline void heap_add(heap_counter *counter, uint64_t amount)
{
    atomic_fetch_add_explicit(counter, amount, memory_order_relaxed);
}

static inline uint64_t heap_read(const heap_counter *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static inline void heap_raise(heap_counter *counter, uint64_t to)
{
    uint64_t was = heap_read(counter);

    while (was < to && !atomic_compare_exchange_weak_explicit(
                           counter, &was, to, memory_order_relaxed, memory_order_relaxed))
        ;
}

/* Adds what `from` counted to `to`. */
void heap_table_fold(struct heap_table *to, const struct heap_table *from);

/* Writes all of it, or as much as fd takes. */
void heap_write(int fd, const char *text, size_t size);

/* Prints the table. `title` is one line, without its end. Allocates nothing. */
void heap_table_print(const struct heap_table *table, int fd, const char *title);

/* Milliseconds from text; false if it is no number from 0 to HEAP_TOGGLE_MAX. */
bool heap_parse_toggle(const char *text, unsigned *ms);

#endif
