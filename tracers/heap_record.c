/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The heap tracer's probes: what they record. docs/TRACES.md has the events.
 */
#include "heap_events.h"
#include "rcutrace.h"

enum { MALLOC, CALLOC, REALLOC, MEMALIGN, FREE, EVENTS };
static struct rcutrace_event events[EVENTS] = {
    [MALLOC] = {"heap:malloc block:x size:u caller:a stack:a*", 0},
    [CALLOC] = {"heap:calloc block:x count:u size:u caller:a stack:a*", 0},
    [REALLOC] = {"heap:realloc block:x old:x size:u caller:a stack:a*", 0},
    [MEMALIGN] = {"heap:memalign block:x alignment:u size:u caller:a stack:a*", 0},
    [FREE] = {"heap:free block:x", 0},
};

/* A record's payload has 254 words, four of which may be fields; our own frames are walked and left out. */
enum { MOST_FRAMES = 250, OWN_FRAMES = 4 };

/* With the call stack, from `caller` on. A function of its own: the array is large. */
__attribute__((noinline, cold)) static void record_with_stack(const struct rcutrace_event *event,
                                                              const uint64_t *fields, unsigned count,
                                                              uint64_t caller)
{
    uint64_t frames[MOST_FRAMES + OWN_FRAMES], *word;
    unsigned most = rcutrace_stack_depth < MOST_FRAMES ? rcutrace_stack_depth : MOST_FRAMES;
    unsigned depth, first = 0;

    rcutrace_begin_own();
    depth = rcutrace_stack(frames, most + OWN_FRAMES, 0);
    rcutrace_end_own();
    while (first < depth && first <= OWN_FRAMES && frames[first] != caller)
        first++;
    if (first == depth || first > OWN_FRAMES)
        first = 0;
    depth = depth - first < most ? depth - first : most;

    word = rcutrace_reserve(event, count + depth);
    if (!word)
        return;
    for (unsigned i = 0; i < count; i++)
        word[i] = fields[i];
    for (unsigned i = 0; i < depth; i++)
        word[count + i] = frames[first + i];
    rcutrace_commit(word);
}

/* The fields, of which the last is the caller. */
#define RECORD(event, count, ...) \
    do { \
        const uint64_t fields[count] = {__VA_ARGS__}; \
        uint64_t *word; \
        if (__builtin_expect(rcutrace_stack_depth != 0, 0)) { \
            record_with_stack(event, fields, count, fields[count - 1]); \
            break; \
        } \
        word = rcutrace_reserve(event, count); \
        if (!word) \
            break; \
        for (unsigned i = 0; i < count; i++) \
            word[i] = fields[i]; \
        rcutrace_commit(word); \
    } while (0)

static void probe_malloc(void *data, void *block, size_t size, void *caller)
{
    (void)data;
    if (!rcutrace_is_own())
        RECORD(&events[MALLOC], 3, (uintptr_t)block, size, (uintptr_t)caller);
}

static void probe_calloc(void *data, void *block, size_t count, size_t size, void *caller)
{
    (void)data;
    if (!rcutrace_is_own())
        RECORD(&events[CALLOC], 4, (uintptr_t)block, count, size, (uintptr_t)caller);
}

static void probe_realloc(void *data, void *block, uintptr_t old, size_t size, void *caller)
{
    (void)data;
    if (!rcutrace_is_own())
        RECORD(&events[REALLOC], 4, (uintptr_t)block, old, size, (uintptr_t)caller);
}

static void probe_memalign(void *data, void *block, size_t alignment, size_t size, void *caller)
{
    (void)data;
    if (!rcutrace_is_own())
        RECORD(&events[MEMALIGN], 4, (uintptr_t)block, alignment, size, (uintptr_t)caller);
}

/* Without the caller: of all events this is the commonest, and a record of 16 bytes is the shortest with a field. */
static void probe_free(void *data, void *block, void *caller)
{
    uint64_t *word;

    (void)data;
    (void)caller;
    if (rcutrace_is_own())
        return;
    word = rcutrace_reserve(&events[FREE], 1);
    if (!word)
        return;
    word[0] = (uintptr_t)block;
    rcutrace_commit(word);
}

static void detach(void)
{
    unregister_trace_heap_malloc(probe_malloc, NULL);
    unregister_trace_heap_calloc(probe_calloc, NULL);
    unregister_trace_heap_realloc(probe_realloc, NULL);
    unregister_trace_heap_memalign(probe_memalign, NULL);
    unregister_trace_heap_free(probe_free, NULL);
}

/* free first, and detached last: a block that was seen to come is seen to go. */
static int attach(void)
{
    int error = register_trace_heap_free(probe_free, NULL);

    if (!error)
        error = register_trace_heap_malloc(probe_malloc, NULL);
    if (!error)
        error = register_trace_heap_calloc(probe_calloc, NULL);
    if (!error)
        error = register_trace_heap_realloc(probe_realloc, NULL);
    if (!error)
        error = register_trace_heap_memalign(probe_memalign, NULL);
    if (error)
        detach();
    return error;
}

RCUTRACE_TRACER("heap");
