/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * librcutrace_functions.so: what gcc and clang call at the beginning and end of each function. To be
 * preloaded into programs compiled with
 *
 *     -finstrument-functions   __cyg_profile_func_enter and _exit, below
 *     -pg                      mcount, in functions_x86_64.S; exits by functions_hook.c
 *     -pg -mfentry             __fentry__, likewise
 */
#include "functions_events.h"

#define EXPORT __attribute__((visibility("default")))

DEFINE_TRACE(function_entry, TP_PROTO(uintptr_t function, uintptr_t site), TP_ARGS(function, site));
DEFINE_TRACE(function_exit, TP_PROTO(uintptr_t function), TP_ARGS(function));

EXPORT void __cyg_profile_func_enter(void *function, void *site);
EXPORT void __cyg_profile_func_exit(void *function, void *site);

void __cyg_profile_func_enter(void *function, void *site)
{
    trace_function_entry((uintptr_t)function, (uintptr_t)site);
}

void __cyg_profile_func_exit(void *function, void *site)
{
    (void)site;
    trace_function_exit((uintptr_t)function);
}

/*
 * What a program compiled with -pg starts and ends with: the C library's own profiler, which would write a
 * gmon.out whose call graph is empty, now that mcount is ours, over one that was not.
 */
EXPORT void __monstartup(unsigned long low, unsigned long high);
EXPORT void monstartup(unsigned long low, unsigned long high);
EXPORT void moncontrol(int mode);
EXPORT void _mcleanup(void);

void __monstartup(unsigned long low, unsigned long high)
{
    (void)low;
    (void)high;
}

void monstartup(unsigned long low, unsigned long high)
{
    (void)low;
    (void)high;
}

void moncontrol(int mode)
{
    (void)mode;
}

void _mcleanup(void)
{
}
