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
};

/*
 * From a tracer's constructor: makes it known, and attaches it at once if the environment says so.
 * The recorder's own constructor has run by then.
 */
void rcutrace_add_tracer(struct rcutrace_tracer *tracer);

/*
 * True while the calling thread does the recorder's own business (maps a chunk, answers the socket,
 * walks a stack), whose calls of malloc or pthread are not to be traced: probes, and wrappers that would measure,
 * leave at once. Any context.
 */
static inline bool rcutrace_is_own(void);

/* Around code of a tracer's own that calls traced functions. They nest. Any context. */
static inline void rcutrace_begin_own(void);
static inline void rcutrace_end_own(void);

/* The clock, in ticks. Any context. */
static inline uint64_t rcutrace_clock(void);

/*
 * Begins a record of `words` words of payload (254 at most) and returns where they are to be stored; NULL
 * if the event is dropped (it is counted). What follows must be brief, and end with rcutrace_commit(),
 * which makes the record part of the file. Any context, signal handlers too, also between the two.
 *
 *     uint64_t *word = rcutrace_reserve(&events[MALLOC], 3);
 *     if (word) { word[0] = ...; word[1] = ...; word[2] = ...; rcutrace_commit(word); }
 */
static inline uint64_t *rcutrace_reserve(const struct rcutrace_event *event, unsigned words);
static inline void rcutrace_commit(uint64_t *payload);

/* The call stack of the caller, the innermost frame first: how many were stored. `skip` the first ones. */
unsigned rcutrace_stack(uint64_t *frames, unsigned most, unsigned skip);

/* How many frames the session wants of a call stack. */
extern unsigned rcutrace_stack_depth;

#endif
