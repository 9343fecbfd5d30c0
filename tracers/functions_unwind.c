/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Stacks are walked through frames whose return addresses are ours: by exceptions, pthread_exit and
 * pthread_cancel, and by those who want a backtrace.
 *
 * To the unwinder, functions_return is a function whose frame has no size: its return address is
 * read at the place that was replaced. So whoever puts back what was there before the unwinder reads it
 * leads it on to the caller. Where frames are to be left, that is the personality routine, and
 * the frame is done with; in a backtrace it is the callback, and the next callback undoes it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <string.h>
#include <unwind.h>

#include "functions_events.h"
#include "functions_hook.h"

#ifdef __x86_64__

#define EXPORT __attribute__((visibility("default")))

/* The place that functions_return was returned to from; NULL: the context is of another frame. */
static uintptr_t *hooked_place(struct _Unwind_Context *context)
{
    uintptr_t *place;

    if (_Unwind_GetIP(context) != (uintptr_t)functions_return)
        return NULL;
    place = (uintptr_t *)_Unwind_GetCFA(context) - 1;
    return functions_is_hooked(place) ? place : NULL;
}

_Unwind_Reason_Code functions_personality(int version, _Unwind_Action actions, uint64_t class,
                                          struct _Unwind_Exception *exception,
                                          struct _Unwind_Context *context);

/* In the first phase of an exception, so that the second does not come by here. */
_Unwind_Reason_Code functions_personality(int version, _Unwind_Action actions, uint64_t class,
                                          struct _Unwind_Exception *exception,
                                          struct _Unwind_Context *context)
{
    uintptr_t *place = hooked_place(context);

    (void)version;
    (void)actions;
    (void)class;
    (void)exception;
    if (place) {
        const struct functions_cell *cell = functions_cell(place);

        *place = cell->site;
        trace_function_exit(cell->function);
    }
    return _URC_CONTINUE_UNWIND;
}

/* ---- backtraces ------------------------------------------------------------------------------ */

static _Unwind_Reason_Code (*real_backtrace)(_Unwind_Trace_Fn, void *);

struct walk {
    _Unwind_Trace_Fn show;
    void *data;
    uintptr_t *unhooked;
    int skip; /* our own frame */
};

static void hook_again(struct walk *walk)
{
    if (walk->unhooked)
        *walk->unhooked = (uintptr_t)functions_return;
    walk->unhooked = NULL;
}

static _Unwind_Reason_Code step(struct _Unwind_Context *context, void *data)
{
    struct walk *walk = data;
    uintptr_t *place;

    hook_again(walk);
    place = hooked_place(context);
    if (place) {
        *place = functions_cell(place)->site;
        walk->unhooked = place;
        return _URC_NO_REASON;
    }
    if (walk->skip) {
        walk->skip = 0;
        return _URC_NO_REASON;
    }
    return walk->show(context, walk->data);
}

EXPORT __attribute__((noinline)) _Unwind_Reason_Code _Unwind_Backtrace(_Unwind_Trace_Fn show, void *data)
{
    struct walk walk = {show, data, NULL, 1};
    _Unwind_Reason_Code result;

    if (!real_backtrace)
        return _URC_FATAL_PHASE1_ERROR;
    result = real_backtrace(step, &walk);
    hook_again(&walk);
    return result;
}

struct frames {
    void **addresses;
    int count, most, skip;
};

static _Unwind_Reason_Code collect(struct _Unwind_Context *context, void *data)
{
    struct frames *frames = data;
    void *address = (void *)_Unwind_GetIP(context);

    if (frames->skip) {
        frames->skip = 0;
        return _URC_NO_REASON;
    }
    if (!address || frames->count == frames->most)
        return _URC_END_OF_STACK;
    frames->addresses[frames->count++] = address;
    return _URC_NO_REASON;
}

/* The C library's does not find the function above. */
EXPORT int backtrace(void **addresses, int most);
EXPORT __attribute__((noinline)) int backtrace(void **addresses, int most)
{
    struct frames frames = {addresses, 0, most, 1};

    _Unwind_Backtrace(collect, &frames);
    return frames.count;
}

__attribute__((constructor)) static void resolve(void)
{
    void *address = dlsym(RTLD_NEXT, "_Unwind_Backtrace");

    memcpy(&real_backtrace, &address, sizeof(address));
}

#endif
