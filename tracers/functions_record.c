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
    [ENTRY] = {"functions:entry function:a site:a", 0},
    [EXIT] = {"functions:exit function:a", 0},
};

unsigned char functions_enabled;

static void probe_entry(void *data, uintptr_t function, uintptr_t site)
{
    uint64_t *word;

    (void)data;
    if (rcutrace_is_own())
        return;
    word = rcutrace_reserve(&events[ENTRY], 2);
    if (!word)
        return;
    word[0] = function;
    word[1] = site;
    rcutrace_commit(word);
}

static void probe_exit(void *data, uintptr_t function)
{
    uint64_t *word;

    (void)data;
    if (rcutrace_is_own())
        return;
    word = rcutrace_reserve(&events[EXIT], 1);
    if (!word)
        return;
    word[0] = function;
    rcutrace_commit(word);
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

static struct rcutrace_tracer tracer = {
    .name = "functions",
    .events = events,
    .event_count = EVENTS,
    .attach = attach,
    .detach = detach,
};

__attribute__((constructor)) static void add(void)
{
    rcutrace_add_tracer(&tracer);
}
