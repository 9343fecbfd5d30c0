/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A piece of code in single steps, with something else done between two of its instructions: by the processor's
 * trap flag, which raises SIGTRAP after each. */
#ifndef STEPS_H
#define STEPS_H

#include "test.h"

#if defined(__x86_64__)
#include <ucontext.h>

enum { TRAP = 0x100 };

static __thread unsigned long step, target;
/* The instruction that comes next. */
static __thread unsigned long trapped_at;
/* At each step up to the target, unless NULL; and at the target. */
static void (*at_each)(void);
static void (*at_target)(void);

static void on_trap(int signal, siginfo_t *info, void *context)
{
    ucontext_t *interrupted = context;
    int saved = errno;

    (void)signal;
    (void)info;
    trapped_at = (unsigned long)interrupted->uc_mcontext.gregs[REG_RIP];
    if (step < target && at_each)
        at_each();
    if (step == target)
        at_target();
    /* Behind the target it runs on freely. */
    if (step++ >= target)
        interrupted->uc_mcontext.gregs[REG_EFL] &= ~TRAP;
    errno = saved;
}

#define SET_TRAP(instruction) \
    __asm__ volatile("leaq -128(%%rsp), %%rsp\n\tpushfq\n\t" instruction ", (%%rsp)\n\tpopfq\n\t" \
                     "leaq 128(%%rsp), %%rsp" ::: "memory", "cc")

/* From here on, and no longer. */
#define STEPS_ON() SET_TRAP("orq $0x100")
#define STEPS_OFF() SET_TRAP("andq $~0x100")

static unsigned long common_divisor(unsigned long a, unsigned long b)
{
    return b ? common_divisor(b, a % b) : a;
}

/* All places, in an order that leaves no wide gaps if time is up before: `round` of so many. By the golden section; each
 * process begins elsewhere, so that several that do not get around meet more of them. */
__attribute__((unused)) static unsigned long place_of(unsigned long round, unsigned long places)
{
    static unsigned long first;
    unsigned long stride = (unsigned long)((double)places * 0.6180339887) + 1;

    while (common_divisor(stride, places) != 1)
        stride++;
    if (!first)
        first = (unsigned long)now_ns() / 1000 % 1000003 + 1;
    return (round * stride + first) % places;
}

/* SA_NODEFER: with no signal blocked a handler's sections may put their thread on the list. */
static void catch_traps(int flags)
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_sigaction = on_trap;
    action.sa_flags = SA_SIGINFO | SA_RESTART | flags;
    sigaction(SIGTRAP, &action, NULL);
}
#endif
#endif
