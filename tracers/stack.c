/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Call stacks, by the compiler's unwinder: with glibc 2.35 or later it takes no lock and allocates
 * nothing once it has run.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <unwind.h>

#include "recorder.h"

EXPORT unsigned rcutrace_stack_depth;

struct walk {
    uint64_t *frames;
    unsigned count, most, skip;
};

static _Unwind_Reason_Code step(struct _Unwind_Context *context, void *data)
{
    struct walk *walk = data;
    uint64_t address = _Unwind_GetIP(context);

    if (!address)
        return _URC_END_OF_STACK;
    if (walk->skip)
        walk->skip--;
    else if (walk->count < walk->most)
        walk->frames[walk->count++] = address;
    return walk->count < walk->most ? _URC_NO_REASON : _URC_END_OF_STACK;
}

/* A handler that interrupts a walk gets no stack: not every unwinder may be entered again there. */
EXPORT __attribute__((noinline)) unsigned rcutrace_stack(uint64_t *frames, unsigned most,
                                                         unsigned skip)
{
    struct rcutrace_thread *thread = &rcutrace_thread;
    struct walk walk = {frames, 0, most, skip + 1};

    if (thread->walking || !most)
        return 0;
    thread->walking = 1;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    _Unwind_Backtrace(step, &walk);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    thread->walking = 0;
    return walk.count;
}

void stack_start(void)
{
    uint64_t frames[2];

    /* What the unwinder sets up at its first use, it sets up here. */
    rcutrace_stack(frames, 2, 0);
}
