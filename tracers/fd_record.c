/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The tracer of file descriptors, its probes: what they record. docs/TRACES.md has the events.
 */
#include <string.h>

#include "fd_events.h"
#include "rcutrace.h"

enum { OPEN, CLOSE, EVENTS };
static struct rcutrace_event events[EVENTS] = {
    [OPEN] = {"fd:open fd:i caller:a path:s", 0},
    [CLOSE] = {"fd:close fd:i result:i caller:a", 0},
};

/* A record's payload has 254 words, two of which are fields. */
enum { MOST_BYTES = 252 * 8 - 1 };

/* The wrappers leave the recorder's own business alone. */
static void probe_open(void *data, int fd, const char *what, void *caller)
{
    size_t length = strnlen(what, MOST_BYTES);
    unsigned text_words = (unsigned)(length / 8) + 1;
    uint64_t *word = rcutrace_reserve(&events[OPEN], 2 + text_words);

    (void)data;
    if (!word)
        return;
    word[0] = (uint64_t)fd;
    word[1] = (uintptr_t)caller;
    /* It ends with a zero, whatever another thread makes of the text meanwhile. */
    word[1 + text_words] = 0;
    memcpy(&word[2], what, length);
    rcutrace_commit(word);
}

static void probe_close(void *data, int fd, int result, void *caller)
{
    uint64_t *word = rcutrace_reserve(&events[CLOSE], 3);

    (void)data;
    if (!word)
        return;
    word[0] = (uint64_t)fd;
    word[1] = (uint64_t)result;
    word[2] = (uintptr_t)caller;
    rcutrace_commit(word);
}

static void detach(void)
{
    unregister_trace_fd_open(probe_open, NULL);
    unregister_trace_fd_close(probe_close, NULL);
}

/* close first, and detached last: a descriptor that was seen to come is seen to go. */
static int attach(void)
{
    int error = register_trace_fd_close(probe_close, NULL);

    if (!error)
        error = register_trace_fd_open(probe_open, NULL);
    if (error)
        detach();
    return error;
}

RCUTRACE_TRACER("fd");
