/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What a tracer needs of the recorder: to say which events it has, and to record them.
 *
 * docs/TRACES.md describes the whole.
 */
#ifndef RCUTRACE_H
#define RCUTRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* An event's type. The description stays where it is. */
struct rcutrace_event {
    const char *description; /* "heap:malloc block:x size:u caller:a" */
    uint8_t id;              /* given by rcutrace_add_tracer() */
};

struct rcutrace_tracer {
    const char *name; /* "heap" */
    struct rcutrace_event *events;
    size_t event_count;
    /* Registers the probes; 0 or a negated errno. */
    int (*attach)(void);
    /* Unregisters them. The recorder waits for the grace period. */
    void (*detach)(void);
    /* The recorder's. */
    struct rcutrace_tracer *next;
    bool attached;
    bool fresh; /* attached by the request that is being served */
};

/* The call stack of the caller, the innermost frame first: how many were stored. `skip` the first ones. */
unsigned rcutrace_stack(uint64_t *frames, unsigned most, unsigned skip);

/* How many frames the session wants of a call stack. */
extern unsigned rcutrace_stack_depth;

/*
 * From a tracer's constructor: makes it known, and attaches it at once if the environment says so.
 * The recorder's own constructor has run by then.
 */
void rcutrace_add_tracer(struct rcutrace_tracer *tracer);

/* main() is about to begin: see main.c, which tracers are linked with. */
void rcutrace_main(void);

/* ---- what the inlined functions need; not for direct use ------------------------------------- */

#define RCUTRACE_INLINE static inline __attribute__((always_inline, no_instrument_function, unused))
#define RCUTRACE_UNLIKELY(condition) __builtin_expect(!!(condition), 0)

/*
 * The thread's place in its chunk. Records stand up to `committed`; from there to `next`, those that
 * are being written: by the outermost writer, which began at `committed`, and by signal handlers that
 * interrupted it. Only the outermost commits, for all of them.
 *
 * All fields zero: a thread that has no chunk. `next` beyond `end` and not `committed`: one that is
 * about to get another; what handlers record meanwhile is dropped.
 */
struct rcutrace_thread {
    uintptr_t next, end, committed;
    uintptr_t chunk;
    const uint32_t *now; /* the process's generation: changes with the session, zero in a new child */
    uint32_t generation; /* the one that the above belongs to */
    uint32_t own;        /* rcutrace_begin_own(), how deep */
    /* The recorder's. */
    uint32_t session, ring;
    uint32_t tid, name;
    uint32_t lost;
    uint32_t armed;
    uint32_t transient;
    uint32_t walking;
};
extern __thread struct rcutrace_thread rcutrace_thread __attribute__((tls_model("initial-exec")));

/* Whether a tick is one of the TSC, else it is a nanosecond. */
extern uint32_t rcutrace_tsc;

/* Lazy binding runs the dynamic loader, which is not async-signal-safe. clang needs -z now for this. */
#if defined(__has_attribute)
#if __has_attribute(noplt)
#define RCUTRACE_NOPLT __attribute__((noplt))
#endif
#endif
#ifndef RCUTRACE_NOPLT
#define RCUTRACE_NOPLT
#endif
RCUTRACE_NOPLT uint64_t *rcutrace_reserve_slowly(uintptr_t start, uint64_t head);
RCUTRACE_NOPLT void rcutrace_commit_slowly(void);

/* One instruction on x86-64: a signal handler comes before or after. */
RCUTRACE_INLINE uintptr_t rcutrace_take(uintptr_t *next, uintptr_t bytes)
{
#ifdef __x86_64__
    __asm__ volatile("xaddq %0, %1" : "+r"(bytes), "+m"(*next) : : "memory", "cc");
    return bytes;
#else
    uintptr_t start = __atomic_fetch_add(next, bytes, __ATOMIC_RELAXED);

    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return start;
#endif
}

/* ---- recording ------------------------------------------------------------------------------- */

/*
 * True while the calling thread does the recorder's own business (maps a chunk, answers the socket),
 * whose calls of malloc or pthread are not to be traced: probes, and wrappers that would measure,
 * leave at once. Any context.
 */
RCUTRACE_INLINE bool rcutrace_is_own(void)
{
    return *(volatile uint32_t *)&rcutrace_thread.own;
}

/* Around code of a tracer's own that calls traced functions. They nest. Any context. */
RCUTRACE_INLINE void rcutrace_begin_own(void)
{
    ++*(volatile uint32_t *)&rcutrace_thread.own;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

RCUTRACE_INLINE void rcutrace_end_own(void)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    --*(volatile uint32_t *)&rcutrace_thread.own;
}

/* The clock, in ticks. Any context. */
RCUTRACE_INLINE uint64_t rcutrace_clock(void)
{
    struct timespec time;

#ifdef __x86_64__
    if (__builtin_expect(rcutrace_tsc, 1))
        return __builtin_ia32_rdtsc();
#endif
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/*
 * Begins a record of `words` words of payload (254 at most) and returns where they are to be stored; NULL
 * if the event is dropped (it is counted). What follows must be brief, and end with rcutrace_commit(),
 * which makes the record part of the file. Any context, signal handlers too, also between the two.
 * The caller is in a read-side section, as probes of tracepoints are.
 *
 *     uint64_t *word = rcutrace_reserve(&events[MALLOC], 3);
 *     if (word) { word[0] = ...; word[1] = ...; word[2] = ...; rcutrace_commit(word); }
 */
RCUTRACE_INLINE uint64_t *rcutrace_reserve(const struct rcutrace_event *event, unsigned words)
{
    struct rcutrace_thread *thread = &rcutrace_thread;
    const uintptr_t bytes = (uintptr_t)(words + 1) * 8;
    const uint64_t head = (uint64_t)(words + 1) << 8 | event->id;
    uintptr_t start = rcutrace_take(&thread->next, bytes);

    if (RCUTRACE_UNLIKELY(start + bytes > thread->end) ||
        RCUTRACE_UNLIKELY(*(const volatile uint32_t *)thread->now != thread->generation))
        return rcutrace_reserve_slowly(start, head);
    *(uint64_t *)start = rcutrace_clock() << 16 | head;
    return (uint64_t *)start + 1;
}

RCUTRACE_INLINE void rcutrace_commit(uint64_t *payload)
{
    struct rcutrace_thread *thread = &rcutrace_thread;
    volatile uintptr_t *next = &thread->next, *committed = &thread->committed;
    uintptr_t chunk, end;

    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (RCUTRACE_UNLIKELY((uintptr_t)(payload - 1) != *committed)) {
        if (!*committed)
            rcutrace_commit_slowly();
        return;
    }
    chunk = thread->chunk;
    /* As long as `next` is not `committed`, handlers leave both, and the chunk, to us. One that comes
     * before the second store leaves us its record; one that comes after it is the outermost itself. */
    do {
        end = *next;
        /* 16: struct rcutrace_chunk's `committed`. */
        __atomic_store_n((uint64_t *)(chunk + 16), end - chunk, __ATOMIC_RELEASE);
        *committed = end;
    } while (RCUTRACE_UNLIKELY(*next != end) && *committed == end);
}

/*
 * A tracer by its name, from a file's own events[EVENTS], attach() and detach(): makes it known before
 * main().
 */
#define RCUTRACE_TRACER(tracer_name) \
    static struct rcutrace_tracer tracer = { \
        .name = tracer_name, \
        .events = events, \
        .event_count = EVENTS, \
        .attach = attach, \
        .detach = detach, \
    }; \
    __attribute__((constructor)) static void add(void) \
    { \
        rcutrace_add_tracer(&tracer); \
    } \
    struct rcutrace_tracer

#endif
