/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The trace file, as docs/TRACES.md describes it.
 */
#ifndef RCUTRACE_FORMAT_H
#define RCUTRACE_FORMAT_H

#include <stdint.h>

#define RCUTRACE_MAGIC "RCUTRACE"
#define RCUTRACE_CHUNK_MAGIC UINT32_C(0x4b4e4843) /* CHNK */

enum {
    RCUTRACE_VERSION = 1,
    RCUTRACE_HEADER_SIZE = 4096,
    RCUTRACE_CHUNK_HEADER = 64,
    RCUTRACE_CHUNK_DEFAULT = 262144,
    RCUTRACE_MOST_SLOTS = 8192,
};

enum { RCUTRACE_DROP_NEWEST, RCUTRACE_OVERWRITE };
enum { RCUTRACE_CLOCK_TSC, RCUTRACE_CLOCK_MONOTONIC };

/* A header's flags: somebody copies its chunks away and has them used again; nobody does any more. */
enum { RCUTRACE_DRAINED = 1, RCUTRACE_CLOSED = 2 };
/* A chunk's states, in a drained file. */
enum {
    RCUTRACE_IN_USE,
    RCUTRACE_FULL,
    RCUTRACE_FREE,
    RCUTRACE_KEPT, /* overwrite mode: it describes an image, so it is not begun anew */
};

/* One moment, on three clocks. */
struct rcutrace_moment {
    uint64_t ticks;
    uint64_t monotonic_ns;
    uint64_t realtime_ns;
};

struct rcutrace_header {
    char magic[8];
    uint32_t version;
    uint32_t chunk_size;    /* bytes; a power of two, 4096 at least */
    uint32_t mode;
    uint32_t clock;         /* what a tick is */
    uint64_t chunk_limit;   /* drop newest: so many chunks at most */
    uint32_t thread_chunks; /* overwrite: so many for each thread; 2 at least */
    uint32_t flags;         /* atomic */
    /* Ticks are scaled by these two: `now` is renewed by rcutrace at the end, and by traced processes
     * when they start, attach, detach and exit. */
    struct rcutrace_moment start, now;
    uint64_t chunks; /* handed out; atomic */
    uint64_t lost;   /* events of threads that had no chunk; atomic */
    char command[1024]; /* what was run; for people */
    /* What follows is for drained files; a chunk's place there is called a slot. */
    uint64_t pid_namespace; /* the drainer's: /proc/self/ns/pid's inode */
    uint64_t slot_limit;    /* RCUTRACE_MOST_SLOTS at most */
    uint64_t slots;         /* that have been used at all; atomic */
    /* A bit for each slot; atomic. */
    uint64_t free[RCUTRACE_MOST_SLOTS / 64]; /* whoever clears it has the slot */
    uint64_t full[RCUTRACE_MOST_SLOTS / 64]; /* the drainer may want to look at it */
    uint32_t asleep; /* atomic, a futex: 1 if the drainer is to be woken by the next bit in `full` */
};

struct rcutrace_chunk {
    uint32_t magic;
    uint32_t pid;
    uint64_t image;
    uint64_t committed; /* atomic; bytes from the chunk's beginning */
    uint64_t round;     /* overwrite: how often it was begun anew */
    uint64_t next_index; /* overwrite: the chunk that its thread goes on in, the last one the first again */
    uint64_t allocated; /* the writer's: how much of it has room on the disk; its last page has as well */
    uint32_t state;     /* drained: atomic; overwrite: RCUTRACE_KEPT or 0 */
    /* Drained: */
    uint32_t reachable; /* its pid is one in the drainer's namespace */
    uint64_t before;    /* the image that called exec to become this one; 0: none */
};

/* Types of the recorder's own records. */
enum {
    RCUTRACE_CONTEXT = 1,
    RCUTRACE_PROCESS,
    RCUTRACE_MAP,
    RCUTRACE_TYPE,
    RCUTRACE_LOST,
    RCUTRACE_EXIT,
    RCUTRACE_THREAD,
    RCUTRACE_STATE,
    RCUTRACE_FIRST_EVENT = 16,
};

_Static_assert(sizeof(struct rcutrace_header) <= RCUTRACE_HEADER_SIZE, "fits its place");
_Static_assert(sizeof(struct rcutrace_chunk) == RCUTRACE_CHUNK_HEADER, "as documented");

#endif
