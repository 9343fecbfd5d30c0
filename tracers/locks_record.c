/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The lock tracer's probes: what they record. docs/TRACES.md has the events.
 */
#include "locks_events.h"
#include "rcutrace.h"

enum { ACQUIRE, RELEASE, FAILED, WAIT, SIGNAL, EVENTS };
static struct rcutrace_event events[EVENTS] = {
    [ACQUIRE] = {"locks:acquire lock:x kind:u wait:t caller:a", 0},
    [RELEASE] = {"locks:release lock:x kind:u caller:a", 0},
    [FAILED] = {"locks:failed lock:x kind:u wait:t error:i caller:a", 0},
    [WAIT] = {"locks:wait cond:x lock:x wait:t result:i caller:a", 0},
    [SIGNAL] = {"locks:signal cond:x broadcast:u caller:a", 0},
};

/* The wrappers leave the recorder's own business alone. */
#define RECORD(event, count, ...) \
    do { \
        const uint64_t fields[count] = {__VA_ARGS__}; \
        uint64_t *word = rcutrace_reserve(event, count); \
        if (!word) \
            break; \
        for (unsigned i = 0; i < count; i++) \
            word[i] = fields[i]; \
        rcutrace_commit(word); \
    } while (0)

static void probe_acquire(void *data, const volatile void *lock, enum lock_kind kind, uint64_t wait,
                          void *caller)
{
    (void)data;
    RECORD(&events[ACQUIRE], 4, (uintptr_t)lock, kind, wait, (uintptr_t)caller);
}

static void probe_release(void *data, const volatile void *lock, enum lock_kind kind, void *caller)
{
    (void)data;
    RECORD(&events[RELEASE], 3, (uintptr_t)lock, kind, (uintptr_t)caller);
}

static void probe_failed(void *data, const volatile void *lock, enum lock_kind kind, uint64_t wait,
                         int error, void *caller)
{
    (void)data;
    RECORD(&events[FAILED], 5, (uintptr_t)lock, kind, wait, (uint64_t)error, (uintptr_t)caller);
}

static void probe_wait(void *data, const void *cond, const void *lock, uint64_t wait, int result,
                       void *caller)
{
    (void)data;
    RECORD(&events[WAIT], 5, (uintptr_t)cond, (uintptr_t)lock, wait, (uint64_t)result, (uintptr_t)caller);
}

static void probe_signal(void *data, const void *cond, int broadcast, void *caller)
{
    (void)data;
    RECORD(&events[SIGNAL], 3, (uintptr_t)cond, (uint64_t)broadcast, (uintptr_t)caller);
}

static void detach(void)
{
    unregister_trace_lock_acquire(probe_acquire, NULL);
    unregister_trace_lock_release(probe_release, NULL);
    unregister_trace_lock_failed(probe_failed, NULL);
    unregister_trace_lock_wait(probe_wait, NULL);
    unregister_trace_lock_signal(probe_signal, NULL);
}

/* release first, and detached last: a lock that was seen to be taken is seen to be given up. */
static int attach(void)
{
    int error = register_trace_lock_release(probe_release, NULL);

    if (!error)
        error = register_trace_lock_failed(probe_failed, NULL);
    if (!error)
        error = register_trace_lock_wait(probe_wait, NULL);
    if (!error)
        error = register_trace_lock_signal(probe_signal, NULL);
    if (!error)
        error = register_trace_lock_acquire(probe_acquire, NULL);
    if (error)
        detach();
    return error;
}

RCUTRACE_TRACER("locks");
