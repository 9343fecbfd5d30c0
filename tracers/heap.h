/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The heap tracer's parts, and what they need of each other.
 *
 * heap.c          the wrapped functions: each does the real call and tells heap_event() of it
 * heap_probes.c   the event: a section around a list of probes; replacing the list
 * heap_process.c  start, fork and exit of a traced process; the thread that replaces the list
 * heap_table.c    the table that the probes count in, and how it is printed
 */
#ifndef HEAP_H
#define HEAP_H

#include "heap_table.h"

/* One call of a wrapped function, after the fact (before it, for free). */
struct heap_event {
    enum heap_function function;
    bool failed;
    bool allocates;     /* whether `requested` is a size that the program asked for */
    uint64_t requested;
    uint64_t allocated; /* malloc_usable_size() of the new block; 0: there is none */
    uint64_t freed;     /* that of the old one */
};

/* What the tracer knows of a thread. */
struct heap_thread {
    unsigned generation; /* the process that has counted it, see heap_generation; 0: none */
    unsigned shard;
    bool own;            /* it is doing the tracer's own business, which is not traced */
};
extern __thread struct heap_thread heap_thread;

/* Counts forks on the way to this process, so that each counts its threads anew. From 1. */
extern unsigned heap_generation;

/* Bytes live in this process, and with fork, in its copy of its parent's heap. */
extern _Atomic int64_t heap_live;

/* Runs the probes. */
void heap_event(const struct heap_event *event);

/* From now on the probes count in `table`. Blocks for a grace period. One caller at a time. */
void heap_probes_replace(struct heap_table *table);

/* The table in use, for those who replace the list; theirs alone is never out of date. */
struct heap_table *heap_probes_table(void);

/* One line on standard error, and the end. */
_Noreturn void heap_die(const char *line);

#endif
