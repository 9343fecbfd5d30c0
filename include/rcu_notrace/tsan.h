/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What ThreadSanitizer is told in programs that are compiled with -fsanitize=thread; nothing otherwise.
 *
 * The library is not instrumented, so ThreadSanitizer sees none of the order that it makes. rcu_notrace.h's
 * functions are wrapped here, each in the edges of happens-before that it gives, and in no others:
 *
 *   the end of a section                -> the return of a grace period's waiter, the callback, the poll that
 *                                          says yes; of that flavour
 *   what comes before a wait, a         -> the sections of that flavour that begin later: those that see what
 *     call_rcu(), a cookie                 is done after it see what was done before
 *   call_rcu(), free_rcu()              -> the callback, the free
 *   the return of a callback            -> the next one, and rcu_barrier()
 *   a cookie is taken                   -> the poll that says yes
 *   register_trace_NAME()               -> the probe
 *
 * rcu_assign_pointer() and rcu_dereference() need none: they are the compiler's atomics. An edge's address, by which
 * ThreadSanitizer knows it, is that of the library's function that makes it: one in a process.
 *
 * The pair of a section is the library's two functions then, which are never instrumented, each beside one call of
 * the runtime's. That allocates and takes locks of its own; it is right in signal handlers that were installed by
 * sigaction(3) or signal(3), which the runtime holds back until it can be called, and nowhere else where the pair
 * goes beyond what other functions may: under the runtime's own locks, in handlers that were installed by a raw system call.
 *
 * RCU_NOTRACE_NO_TSAN, before the header is included: none of this.
 *
 * Not annotated: what the library calls by itself other than callbacks, that is probes of RCU's own tracepoints
 * and the stall handler; and code that is not compiled with -fsanitize=thread. See docs/SANITIZERS.md.
 */
#ifndef RCU_NOTRACE_TSAN_H
#define RCU_NOTRACE_TSAN_H

#ifndef RCU_NOTRACE_NO_TSAN
#ifdef __SANITIZE_THREAD__
#define RCU_NOTRACE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RCU_NOTRACE_TSAN 1
#endif
#endif
#endif

#ifdef RCU_NOTRACE_TSAN
#ifdef RCU_NOTRACE_ABI_H
#error "include <rcu_notrace.h> before <rcu_notrace/abi.h>, which it includes"
#endif

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

struct rcu_head;

#ifdef __cplusplus
extern "C" {
#endif

void __tsan_acquire(void *address);
void __tsan_release(void *address);

/* ---- the library's functions, under other names ---------------------------------------------- */

#define RCU_NOTRACE_REAL(name) rcu_notrace_real_##name
#define RCU_NOTRACE_DECLARE_REAL(type, name, parameters) type RCU_NOTRACE_REAL(name) parameters __asm__(#name)

RCU_NOTRACE_DECLARE_REAL(void, rcu_read_lock_notrace, (void));
RCU_NOTRACE_DECLARE_REAL(void, rcu_read_unlock_notrace, (void));
RCU_NOTRACE_DECLARE_REAL(void, rcu_read_lock_trace, (void));
RCU_NOTRACE_DECLARE_REAL(void, rcu_read_unlock_trace, (void));
RCU_NOTRACE_DECLARE_REAL(void, synchronize_rcu, (void));
RCU_NOTRACE_DECLARE_REAL(void, synchronize_rcu_expedited, (void));
RCU_NOTRACE_DECLARE_REAL(void, synchronize_rcu_tasks_trace, (void));
RCU_NOTRACE_DECLARE_REAL(void, cond_synchronize_rcu, (unsigned long));
RCU_NOTRACE_DECLARE_REAL(void, cond_synchronize_rcu_expedited, (unsigned long));
RCU_NOTRACE_DECLARE_REAL(unsigned long, get_state_synchronize_rcu, (void));
RCU_NOTRACE_DECLARE_REAL(unsigned long, start_poll_synchronize_rcu, (void));
RCU_NOTRACE_DECLARE_REAL(unsigned long, start_poll_synchronize_rcu_expedited, (void));
RCU_NOTRACE_DECLARE_REAL(int, poll_state_synchronize_rcu, (unsigned long));
RCU_NOTRACE_DECLARE_REAL(void, call_rcu, (struct rcu_head *, void (*)(struct rcu_head *)));
RCU_NOTRACE_DECLARE_REAL(void, call_rcu_tasks_trace, (struct rcu_head *, void (*)(struct rcu_head *)));
RCU_NOTRACE_DECLARE_REAL(int, rcu_notrace_free, (struct rcu_head *, size_t));
RCU_NOTRACE_DECLARE_REAL(void, rcu_barrier, (void));
RCU_NOTRACE_DECLARE_REAL(void, rcu_barrier_tasks_trace, (void));

#ifdef __cplusplus
}
#endif

#define synchronize_rcu RCU_NOTRACE_REAL(synchronize_rcu)
#define synchronize_rcu_expedited RCU_NOTRACE_REAL(synchronize_rcu_expedited)
#define synchronize_rcu_tasks_trace RCU_NOTRACE_REAL(synchronize_rcu_tasks_trace)
#define cond_synchronize_rcu RCU_NOTRACE_REAL(cond_synchronize_rcu)
#define cond_synchronize_rcu_expedited RCU_NOTRACE_REAL(cond_synchronize_rcu_expedited)
#define get_state_synchronize_rcu RCU_NOTRACE_REAL(get_state_synchronize_rcu)
#define start_poll_synchronize_rcu RCU_NOTRACE_REAL(start_poll_synchronize_rcu)
#define start_poll_synchronize_rcu_expedited RCU_NOTRACE_REAL(start_poll_synchronize_rcu_expedited)
#define poll_state_synchronize_rcu RCU_NOTRACE_REAL(poll_state_synchronize_rcu)
#define call_rcu RCU_NOTRACE_REAL(call_rcu)
#define call_rcu_tasks_trace RCU_NOTRACE_REAL(call_rcu_tasks_trace)
#define rcu_notrace_free RCU_NOTRACE_REAL(rcu_notrace_free)
#define rcu_barrier RCU_NOTRACE_REAL(rcu_barrier)
#define rcu_barrier_tasks_trace RCU_NOTRACE_REAL(rcu_barrier_tasks_trace)
#include <rcu_notrace/abi.h>
#undef synchronize_rcu
#undef synchronize_rcu_expedited
#undef synchronize_rcu_tasks_trace
#undef cond_synchronize_rcu
#undef cond_synchronize_rcu_expedited
#undef get_state_synchronize_rcu
#undef start_poll_synchronize_rcu
#undef start_poll_synchronize_rcu_expedited
#undef poll_state_synchronize_rcu
#undef call_rcu
#undef call_rcu_tasks_trace
#undef rcu_notrace_free
#undef rcu_barrier
#undef rcu_barrier_tasks_trace

#ifdef __cplusplus
extern "C" {
#endif

#define RCU_NOTRACE_TSAN_INLINE static inline __attribute__((always_inline, no_instrument_function, unused))

/* What has a name of the library's, for the compiler only. */
#define RCU_NOTRACE_TSAN_WRAPPER(type, name, parameters) \
    RCU_NOTRACE_TSAN_INLINE type name parameters __asm__("rcu_notrace_tsan_" #name); \
    RCU_NOTRACE_TSAN_INLINE type name parameters

/* One in each program or shared object; functions are not instrumented. */
#define RCU_NOTRACE_TSAN_ONE __attribute__((weak, visibility("hidden")))
#define RCU_NOTRACE_TSAN_FUNCTION RCU_NOTRACE_TSAN_ONE __attribute__((no_sanitize_thread, no_instrument_function))

#define RCU_NOTRACE_TSAN_AFTER(function) __tsan_acquire((void *)(uintptr_t)RCU_NOTRACE_REAL(function))
#define RCU_NOTRACE_TSAN_BEFORE(function) __tsan_release((void *)(uintptr_t)RCU_NOTRACE_REAL(function))

/* ---- sections -------------------------------------------------------------------------------- */

/* A flavour's pair: only the outermost makes edges; grace periods do not wait for the inner ones. */
#define RCU_NOTRACE_TSAN_LOCK(lock, synchronize, nesting) \
    do { \
        RCU_NOTRACE_REAL(lock)(); \
        if ((nesting) == 1) \
            RCU_NOTRACE_TSAN_AFTER(synchronize); \
    } while (0)
#define RCU_NOTRACE_TSAN_UNLOCK(unlock, nesting) \
    do { \
        if ((nesting) == 1) \
            RCU_NOTRACE_TSAN_BEFORE(unlock); \
        RCU_NOTRACE_REAL(unlock)(); \
    } while (0)

/* ---- grace periods --------------------------------------------------------------------------- */

RCU_NOTRACE_TSAN_WRAPPER(void, synchronize_rcu, (void))
{
    RCU_NOTRACE_TSAN_BEFORE(synchronize_rcu);
    RCU_NOTRACE_REAL(synchronize_rcu)();
    RCU_NOTRACE_TSAN_AFTER(rcu_read_unlock_notrace);
}

RCU_NOTRACE_TSAN_WRAPPER(void, synchronize_rcu_expedited, (void))
{
    RCU_NOTRACE_TSAN_BEFORE(synchronize_rcu);
    RCU_NOTRACE_REAL(synchronize_rcu_expedited)();
    RCU_NOTRACE_TSAN_AFTER(rcu_read_unlock_notrace);
}

RCU_NOTRACE_TSAN_WRAPPER(void, synchronize_rcu_tasks_trace, (void))
{
    RCU_NOTRACE_TSAN_BEFORE(synchronize_rcu_tasks_trace);
    RCU_NOTRACE_REAL(synchronize_rcu_tasks_trace)();
    RCU_NOTRACE_TSAN_AFTER(rcu_read_unlock_trace);
}

RCU_NOTRACE_TSAN_WRAPPER(unsigned long, get_state_synchronize_rcu, (void))
{
    RCU_NOTRACE_TSAN_BEFORE(synchronize_rcu);
    return RCU_NOTRACE_REAL(get_state_synchronize_rcu)();
}

RCU_NOTRACE_TSAN_WRAPPER(unsigned long, start_poll_synchronize_rcu, (void))
{
    RCU_NOTRACE_TSAN_BEFORE(synchronize_rcu);
    return RCU_NOTRACE_REAL(start_poll_synchronize_rcu)();
}

RCU_NOTRACE_TSAN_WRAPPER(unsigned long, start_poll_synchronize_rcu_expedited, (void))
{
    RCU_NOTRACE_TSAN_BEFORE(synchronize_rcu);
    return RCU_NOTRACE_REAL(start_poll_synchronize_rcu_expedited)();
}

/* A grace period that somebody else's cookie stands for has passed. */
RCU_NOTRACE_TSAN_INLINE void rcu_notrace_tsan_passed(void)
{
    RCU_NOTRACE_TSAN_AFTER(synchronize_rcu);
    RCU_NOTRACE_TSAN_AFTER(rcu_read_unlock_notrace);
}

RCU_NOTRACE_TSAN_WRAPPER(int, poll_state_synchronize_rcu, (unsigned long cookie))
{
    int passed = RCU_NOTRACE_REAL(poll_state_synchronize_rcu)(cookie);

    if (passed)
        rcu_notrace_tsan_passed();
    return passed;
}

RCU_NOTRACE_TSAN_WRAPPER(void, cond_synchronize_rcu, (unsigned long cookie))
{
    RCU_NOTRACE_REAL(cond_synchronize_rcu)(cookie);
    rcu_notrace_tsan_passed();
}

RCU_NOTRACE_TSAN_WRAPPER(void, cond_synchronize_rcu_expedited, (unsigned long cookie))
{
    RCU_NOTRACE_REAL(cond_synchronize_rcu_expedited)(cookie);
    rcu_notrace_tsan_passed();
}

/* ---- callbacks ------------------------------------------------------------------------------- */

/*
 * The worker calls a stand-in, one for each function: that there is no room for both in a head, and that
 * call_rcu() may not allocate. An action is a function's address, or one more than how far into its block
 * the head of a free_rcu() lies; its top bit says that it is of the second flavour.
 */
#define RCU_NOTRACE_TSAN_SECOND ((uintptr_t)1 << 63)
#define RCU_NOTRACE_TSAN_MOST_OFFSET 4095

RCU_NOTRACE_TSAN_ONE uintptr_t rcu_notrace_tsan_actions[64];

RCU_NOTRACE_TSAN_FUNCTION void rcu_notrace_tsan_run(unsigned index, struct rcu_head *head)
{
    uintptr_t action = __atomic_load_n(&rcu_notrace_tsan_actions[index], __ATOMIC_RELAXED);
    uintptr_t function = action & ~RCU_NOTRACE_TSAN_SECOND;

    __tsan_acquire(head);
    /* The callbacks before it, which somebody else may have run: who calls rcu_barrier() where there is no worker. */
    if (action == function) {
        RCU_NOTRACE_TSAN_AFTER(rcu_barrier);
        RCU_NOTRACE_TSAN_AFTER(rcu_read_unlock_notrace);
    } else {
        RCU_NOTRACE_TSAN_AFTER(rcu_barrier_tasks_trace);
        RCU_NOTRACE_TSAN_AFTER(rcu_read_unlock_trace);
    }
    if (function <= RCU_NOTRACE_TSAN_MOST_OFFSET + 1)
        free((char *)head - (function - 1));
    else
        ((void (*)(struct rcu_head *))function)(head);
    if (action == function)
        RCU_NOTRACE_TSAN_BEFORE(rcu_barrier);
    else
        RCU_NOTRACE_TSAN_BEFORE(rcu_barrier_tasks_trace);
}

#define RCU_NOTRACE_TSAN_STAND_IN(n) \
    RCU_NOTRACE_TSAN_FUNCTION void rcu_notrace_tsan_stand_in_##n(struct rcu_head *head) \
    { \
        rcu_notrace_tsan_run(0##n, head); \
    }
#define RCU_NOTRACE_TSAN_STAND_INS(n) \
    RCU_NOTRACE_TSAN_STAND_IN(n##0) \
    RCU_NOTRACE_TSAN_STAND_IN(n##1) \
    RCU_NOTRACE_TSAN_STAND_IN(n##2) \
    RCU_NOTRACE_TSAN_STAND_IN(n##3) \
    RCU_NOTRACE_TSAN_STAND_IN(n##4) \
    RCU_NOTRACE_TSAN_STAND_IN(n##5) \
    RCU_NOTRACE_TSAN_STAND_IN(n##6) \
    RCU_NOTRACE_TSAN_STAND_IN(n##7)
#define RCU_NOTRACE_TSAN_NAMES(n) \
    rcu_notrace_tsan_stand_in_##n##0, rcu_notrace_tsan_stand_in_##n##1, rcu_notrace_tsan_stand_in_##n##2, \
        rcu_notrace_tsan_stand_in_##n##3, rcu_notrace_tsan_stand_in_##n##4, rcu_notrace_tsan_stand_in_##n##5, \
        rcu_notrace_tsan_stand_in_##n##6, rcu_notrace_tsan_stand_in_##n##7
/* Numbered in octal. */
RCU_NOTRACE_TSAN_STAND_INS(0)
RCU_NOTRACE_TSAN_STAND_INS(1)
RCU_NOTRACE_TSAN_STAND_INS(2)
RCU_NOTRACE_TSAN_STAND_INS(3)
RCU_NOTRACE_TSAN_STAND_INS(4)
RCU_NOTRACE_TSAN_STAND_INS(5)
RCU_NOTRACE_TSAN_STAND_INS(6)
RCU_NOTRACE_TSAN_STAND_INS(7)

/* The stand-in that does this, with the edges; the first call for an action gives it the next one. Any context. */
RCU_NOTRACE_TSAN_FUNCTION void (*rcu_notrace_tsan_stand_in(uintptr_t action))(struct rcu_head *)
{
    static void (*const stand_ins[])(struct rcu_head *) = {
        RCU_NOTRACE_TSAN_NAMES(0), RCU_NOTRACE_TSAN_NAMES(1), RCU_NOTRACE_TSAN_NAMES(2), RCU_NOTRACE_TSAN_NAMES(3),
        RCU_NOTRACE_TSAN_NAMES(4), RCU_NOTRACE_TSAN_NAMES(5), RCU_NOTRACE_TSAN_NAMES(6), RCU_NOTRACE_TSAN_NAMES(7)};
    static const char many[] = "rcu-notrace: more than 64 functions given to call_rcu() in one module: "
                               "see rcu_notrace/tsan.h\n";

    for (unsigned i = 0; i < sizeof(stand_ins) / sizeof(stand_ins[0]); i++) {
        uintptr_t there = __atomic_load_n(&rcu_notrace_tsan_actions[i], __ATOMIC_RELAXED);

        if (there == action ||
            (!there && (__atomic_compare_exchange_n(&rcu_notrace_tsan_actions[i], &there, action, 0,
                                                    __ATOMIC_RELAXED, __ATOMIC_RELAXED) ||
                        there == action)))
            return stand_ins[i];
    }
    /* Wrong reports would be worse. */
    if (write(2, many, sizeof(many) - 1) < 0)
        abort();
    abort();
}

RCU_NOTRACE_TSAN_WRAPPER(void, call_rcu, (struct rcu_head *head, void (*func)(struct rcu_head *)))
{
    RCU_NOTRACE_TSAN_BEFORE(synchronize_rcu);
    __tsan_release(head);
    RCU_NOTRACE_REAL(call_rcu)(head, func ? rcu_notrace_tsan_stand_in((uintptr_t)func) : func);
}

RCU_NOTRACE_TSAN_WRAPPER(void, call_rcu_tasks_trace, (struct rcu_head *head, void (*func)(struct rcu_head *)))
{
    RCU_NOTRACE_TSAN_BEFORE(synchronize_rcu_tasks_trace);
    __tsan_release(head);
    RCU_NOTRACE_REAL(call_rcu_tasks_trace)
    (head, func ? rcu_notrace_tsan_stand_in((uintptr_t)func | RCU_NOTRACE_TSAN_SECOND) : func);
}

RCU_NOTRACE_TSAN_WRAPPER(int, rcu_notrace_free, (struct rcu_head *head, size_t offset))
{
    /* An error, or a NULL: the library's affair. */
    if (offset > RCU_NOTRACE_TSAN_MOST_OFFSET || (uintptr_t)head == offset)
        return RCU_NOTRACE_REAL(rcu_notrace_free)(head, offset);
    __tsan_release(head);
    RCU_NOTRACE_REAL(call_rcu)(head, rcu_notrace_tsan_stand_in(offset + 1));
    return 0;
}

RCU_NOTRACE_TSAN_WRAPPER(void, rcu_barrier, (void))
{
    RCU_NOTRACE_REAL(rcu_barrier)();
    RCU_NOTRACE_TSAN_AFTER(rcu_barrier);
}

RCU_NOTRACE_TSAN_WRAPPER(void, rcu_barrier_tasks_trace, (void))
{
    RCU_NOTRACE_REAL(rcu_barrier_tasks_trace)();
    RCU_NOTRACE_TSAN_AFTER(rcu_barrier_tasks_trace);
}

#ifdef __cplusplus
}
#endif
#else
#include <rcu_notrace/abi.h>
#endif /* RCU_NOTRACE_TSAN */

#endif /* RCU_NOTRACE_TSAN_H */
