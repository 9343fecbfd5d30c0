/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * librcutrace_locks.so: mutexes, rwlocks, spin locks and condition variables, wrapped. To be preloaded
 * into unmodified programs.
 *
 * Detached, a wrapper is a test that is patched away and a jump to the real function. Enabled, a lock is tried
 * first: what is had at once, or refused for another reason than being taken, is as the
 * real function would have it; for the rest the real function is called, and its time taken. So a mutex
 * of any type (recursive, error-checking, robust, with priority inheritance) behaves as ever.
 *
 * No section is open while a real function runs, so that it may block, and be cancelled. A wait that is
 * cancelled is not told of.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdbool.h>

#include "locks_events.h"
#include "locks_real.h"
#include "rcutrace.h"

#define EXPORT __attribute__((visibility("default")))
#define APART __attribute__((noinline)) /* what follows is not in the way of the disabled case */
#define CALLER __builtin_extract_return_addr(__builtin_return_address(0))

DEFINE_TRACE(lock_acquire, TP_PROTO(const volatile void *lock, enum lock_kind kind, uint64_t wait, void *caller),
             TP_ARGS(lock, kind, wait, caller));
DEFINE_TRACE(lock_release, TP_PROTO(const volatile void *lock, enum lock_kind kind, void *caller),
             TP_ARGS(lock, kind, caller));
DEFINE_TRACE(lock_failed,
             TP_PROTO(const volatile void *lock, enum lock_kind kind, uint64_t wait, int error, void *caller),
             TP_ARGS(lock, kind, wait, error, caller));
DEFINE_TRACE(lock_wait,
             TP_PROTO(const void *cond, const void *lock, uint64_t wait, int result, void *caller),
             TP_ARGS(cond, lock, wait, result, caller));
DEFINE_TRACE(lock_signal, TP_PROTO(const void *cond, int broadcast, void *caller),
             TP_ARGS(cond, broadcast, caller));

/* ---- telling --------------------------------------------------------------------------------- */

/* At least 1: 0 says that there was no wait. */
static uint64_t since(uint64_t start)
{
    uint64_t now = rcutrace_clock();

    return now > start ? now - start : 1;
}

/* EOWNERDEAD: the lock is held, and its last owner has died with it. */
static int tell(const volatile void *lock, enum lock_kind kind, uint64_t wait, int error, void *caller)
{
    if (!error || error == EOWNERDEAD)
        trace_lock_acquire(lock, kind, wait, caller);
    else
        trace_lock_failed(lock, kind, wait, error, caller);
    return error;
}

/*
 * What a wrapper is, and its slow half, which begins with what `how` says (below). Locks are told of as long
 * as lock_acquire is enabled: its fellows are attached before it, and detached after it.
 */
#define LIST(...) __VA_ARGS__
#define WRAPPED(event, name, parameters, arguments, how) \
    APART static int told_##name(parameters, void *caller) \
    { \
        if (rcutrace_is_own()) \
            return real.name arguments; \
        how(real.name arguments); \
    } \
    EXPORT int name(parameters) \
    { \
        if (trace_##event##_enabled()) \
            return told_##name(LIST arguments, CALLER); \
        return real.name arguments; \
    }

/* What is had at once, else the real function's answer and the time that it took. */
#define TRIED(kind, attempt, call) \
    uint64_t start; \
    int error = attempt; \
    if (error != EBUSY) \
        return tell(lock, kind, 0, error, caller); \
    start = rcutrace_clock(); \
    error = call; \
    return tell(lock, kind, since(start), error, caller)

/* Told before: afterwards the lock may be gone. */
#define RELEASED(kind, call) \
    int error; \
    trace_lock_release(lock, kind, caller); \
    error = call; \
    if (error) \
        trace_lock_failed(lock, kind, 0, error, caller); \
    return error

#define WAITED(call) \
    const uint64_t start = rcutrace_clock(); \
    const int result = call; \
    trace_lock_wait(cond, lock, since(start), result, caller); \
    return result

/* ---- mutexes --------------------------------------------------------------------------------- */

#define MUTEX_TRIED(call) TRIED(LOCK_MUTEX, real.pthread_mutex_trylock(lock), call)
#define MUTEX_ATTEMPTED(call) return tell(lock, LOCK_MUTEX, 0, call, caller)
#define MUTEX_RELEASED(call) RELEASED(LOCK_MUTEX, call)

/* The clock is looked at even where there is no wait; the time is not. */
static bool is_clock(clockid_t clock)
{
    return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC;
}
#define MUTEX_CLOCK_TRIED(call) \
    TRIED(LOCK_MUTEX, is_clock(clock) ? real.pthread_mutex_trylock(lock) : EBUSY, call)

WRAPPED(lock_acquire, pthread_mutex_lock, MUTEX_P, (lock), MUTEX_TRIED)
WRAPPED(lock_acquire, pthread_mutex_trylock, MUTEX_P, (lock), MUTEX_ATTEMPTED)
WRAPPED(lock_acquire, pthread_mutex_timedlock, MUTEX_TIMED_P, (lock, until), MUTEX_TRIED)
WRAPPED(lock_acquire, pthread_mutex_clocklock, MUTEX_CLOCK_P, (lock, clock, until), MUTEX_CLOCK_TRIED)
WRAPPED(lock_acquire, pthread_mutex_unlock, MUTEX_P, (lock), MUTEX_RELEASED)

/* ---- rwlocks --------------------------------------------------------------------------------- */

/* Here the time is looked at too. */
static bool is_time(clockid_t clock, const struct timespec *until)
{
    return is_clock(clock) && until && until->tv_nsec >= 0 && until->tv_nsec < 1000000000;
}

#define READ_ATTEMPT(valid) ((valid) ? real.pthread_rwlock_tryrdlock(lock) : EBUSY)
#define READ_TRIED(call) TRIED(LOCK_READ, READ_ATTEMPT(true), call)
#define READ_TIMED_TRIED(call) TRIED(LOCK_READ, READ_ATTEMPT(is_time(CLOCK_REALTIME, until)), call)
#define READ_CLOCK_TRIED(call) TRIED(LOCK_READ, READ_ATTEMPT(is_time(clock, until)), call)
#define READ_ATTEMPTED(call) return tell(lock, LOCK_READ, 0, call, caller)

WRAPPED(lock_acquire, pthread_rwlock_rdlock, RWLOCK_P, (lock), READ_TRIED)
WRAPPED(lock_acquire, pthread_rwlock_tryrdlock, RWLOCK_P, (lock), READ_ATTEMPTED)
WRAPPED(lock_acquire, pthread_rwlock_timedrdlock, RWLOCK_TIMED_P, (lock, until), READ_TIMED_TRIED)
WRAPPED(lock_acquire, pthread_rwlock_clockrdlock, RWLOCK_CLOCK_P, (lock, clock, until), READ_CLOCK_TRIED)

#define WRITE_ATTEMPT(valid) ((valid) ? real.pthread_rwlock_trywrlock(lock) : EBUSY)
#define WRITE_TRIED(call) TRIED(LOCK_WRITE, WRITE_ATTEMPT(true), call)
#define WRITE_TIMED_TRIED(call) TRIED(LOCK_WRITE, WRITE_ATTEMPT(is_time(CLOCK_REALTIME, until)), call)
#define WRITE_CLOCK_TRIED(call) TRIED(LOCK_WRITE, WRITE_ATTEMPT(is_time(clock, until)), call)
#define WRITE_ATTEMPTED(call) return tell(lock, LOCK_WRITE, 0, call, caller)

WRAPPED(lock_acquire, pthread_rwlock_wrlock, RWLOCK_P, (lock), WRITE_TRIED)
WRAPPED(lock_acquire, pthread_rwlock_trywrlock, RWLOCK_P, (lock), WRITE_ATTEMPTED)
WRAPPED(lock_acquire, pthread_rwlock_timedwrlock, RWLOCK_TIMED_P, (lock, until), WRITE_TIMED_TRIED)
WRAPPED(lock_acquire, pthread_rwlock_clockwrlock, RWLOCK_CLOCK_P, (lock, clock, until), WRITE_CLOCK_TRIED)

/* Who gives it up holds it: for writing, or there is no writer. */
static enum lock_kind held_as(const pthread_rwlock_t *lock)
{
    return *(const volatile int *)&lock->__data.__cur_writer ? LOCK_WRITE : LOCK_READ;
}
#define RWLOCK_RELEASED(call) \
    const enum lock_kind kind = held_as(lock); \
    RELEASED(kind, call)

WRAPPED(lock_acquire, pthread_rwlock_unlock, RWLOCK_P, (lock), RWLOCK_RELEASED)

/* ---- spin locks ------------------------------------------------------------------------------ */

#define SPIN_TRIED(call) TRIED(LOCK_SPIN, real.pthread_spin_trylock(lock), call)
#define SPIN_ATTEMPTED(call) return tell(lock, LOCK_SPIN, 0, call, caller)
#define SPIN_RELEASED(call) RELEASED(LOCK_SPIN, call)

WRAPPED(lock_acquire, pthread_spin_lock, SPIN_P, (lock), SPIN_TRIED)
WRAPPED(lock_acquire, pthread_spin_trylock, SPIN_P, (lock), SPIN_ATTEMPTED)
WRAPPED(lock_acquire, pthread_spin_unlock, SPIN_P, (lock), SPIN_RELEASED)

/* ---- condition variables --------------------------------------------------------------------- */

WRAPPED(lock_wait, pthread_cond_wait, COND_WAIT_P, (cond, lock), WAITED)
WRAPPED(lock_wait, pthread_cond_timedwait, COND_TIMED_P, (cond, lock, until), WAITED)
WRAPPED(lock_wait, pthread_cond_clockwait, COND_CLOCK_P, (cond, lock, clock, until), WAITED)

/* Told before, so that it precedes what it brings about. */
#define SIGNALLED(call) \
    trace_lock_signal(cond, 0, caller); \
    return call
#define BROADCAST(call) \
    trace_lock_signal(cond, 1, caller); \
    return call

WRAPPED(lock_signal, pthread_cond_signal, COND_P, (cond), SIGNALLED)
WRAPPED(lock_signal, pthread_cond_broadcast, COND_P, (cond), BROADCAST)
