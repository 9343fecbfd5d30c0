/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The function tracer's probes: what they record. docs/TRACES.md has the events.
 *
 * They run while a function's arguments, or its result, are in vector registers: see
 * functions_x86_64.S for what becomes of those where the recorder is called.
 */
#include "functions_events.h"

#ifdef __x86_64__
#define rcutrace_reserve_slowly functions_reserve_slowly
#define rcutrace_commit_slowly functions_commit_slowly
#endif
#include "rcutrace.h"

enum { ENTRY, EXIT, EVENTS };
static struct rcutrace_event events[EVENTS] = {
    [ENTRY] = {"functions:entry function:a", 0},
    [EXIT] = {"functions:exit function:a", 0},
};

unsigned char functions_enabled;

static inline void record(const struct rcutrace_event *event, uintptr_t function)
{
    uint64_t *word;

    if (rcutrace_is_own())
        return;
    word = rcutrace_reserve(event, 1);
    if (!word)
        return;
    *word = function;
    rcutrace_commit(word);
}

/* The site is not recorded: the caller's entry tells who it was, and a fifth of the file's pages cost more. */
static void probe_entry(void *data, uintptr_t function, uintptr_t site)
{
    (void)data;
    (void)site;
    record(&events[ENTRY], function);
}

static void probe_exit(void *data, uintptr_t function)
{
    (void)data;
    record(&events[EXIT], function);
}

static void detach(void)
{
    __atomic_store_n(&functions_enabled, 0, __ATOMIC_RELAXED);
    unregister_trace_function_entry(probe_entry, NULL);
    unregister_trace_function_exit(probe_exit, NULL);
}

static int attach(void)
{
    int error = register_trace_function_exit(probe_exit, NULL);

    if (!error)
        error = register_trace_function_entry(probe_entry, NULL);
    if (error)
        detach();
    else
        __atomic_store_n(&functions_enabled, 1, __ATOMIC_RELAXED);
    return error;
}

RCUTRACE_TRACER("functions");
