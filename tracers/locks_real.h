/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The lock functions of the C library (or of another tracer that comes after us).
 *
 * `real` is never without a function: it begins with ones that find the real ones first. That may
 * come before our constructor has run, in several threads at once (all find the same), and again from
 * within dlsym(3), if the program's malloc takes a lock there: see locks_real.c.
 */
#ifndef LOCKS_REAL_H
#define LOCKS_REAL_H

#include <pthread.h>
#include <time.h>

/* FUNCTION(name, symbol's version or NULL, parameters, arguments). All return an int. */
#define MUTEX_P pthread_mutex_t *lock
#define MUTEX_TIMED_P pthread_mutex_t *lock, const struct timespec *until
#define MUTEX_CLOCK_P pthread_mutex_t *lock, clockid_t clock, const struct timespec *until
#define RWLOCK_P pthread_rwlock_t *lock
#define RWLOCK_TIMED_P pthread_rwlock_t *lock, const struct timespec *until
#define RWLOCK_CLOCK_P pthread_rwlock_t *lock, clockid_t clock, const struct timespec *until
#define SPIN_P pthread_spinlock_t *lock
#define COND_P pthread_cond_t *cond
#define COND_WAIT_P pthread_cond_t *cond, pthread_mutex_t *lock
#define COND_TIMED_P pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *until
#define COND_CLOCK_P \
    pthread_cond_t *cond, pthread_mutex_t *lock, clockid_t clock, const struct timespec *until

/* x86-64's first condition variables were others, and a plain dlsym(3) may find those. */
#ifdef __x86_64__
#define COND_VERSION "GLIBC_2.3.2"
#else
#define COND_VERSION NULL
#endif

#define LOCK_FUNCTIONS(FUNCTION) \
    FUNCTION(pthread_mutex_lock, NULL, MUTEX_P, (lock)) \
    FUNCTION(pthread_mutex_trylock, NULL, MUTEX_P, (lock)) \
    FUNCTION(pthread_mutex_timedlock, NULL, MUTEX_TIMED_P, (lock, until)) \
    FUNCTION(pthread_mutex_clocklock, NULL, MUTEX_CLOCK_P, (lock, clock, until)) \
    FUNCTION(pthread_mutex_unlock, NULL, MUTEX_P, (lock)) \
    FUNCTION(pthread_rwlock_rdlock, NULL, RWLOCK_P, (lock)) \
    FUNCTION(pthread_rwlock_tryrdlock, NULL, RWLOCK_P, (lock)) \
    FUNCTION(pthread_rwlock_timedrdlock, NULL, RWLOCK_TIMED_P, (lock, until)) \
    FUNCTION(pthread_rwlock_clockrdlock, NULL, RWLOCK_CLOCK_P, (lock, clock, until)) \
    FUNCTION(pthread_rwlock_wrlock, NULL, RWLOCK_P, (lock)) \
    FUNCTION(pthread_rwlock_trywrlock, NULL, RWLOCK_P, (lock)) \
    FUNCTION(pthread_rwlock_timedwrlock, NULL, RWLOCK_TIMED_P, (lock, until)) \
    FUNCTION(pthread_rwlock_clockwrlock, NULL, RWLOCK_CLOCK_P, (lock, clock, until)) \
    FUNCTION(pthread_rwlock_unlock, NULL, RWLOCK_P, (lock)) \
    FUNCTION(pthread_spin_lock, NULL, SPIN_P, (lock)) \
    FUNCTION(pthread_spin_trylock, NULL, SPIN_P, (lock)) \
    FUNCTION(pthread_spin_unlock, NULL, SPIN_P, (lock)) \
    FUNCTION(pthread_cond_wait, COND_VERSION, COND_WAIT_P, (cond, lock)) \
    FUNCTION(pthread_cond_timedwait, COND_VERSION, COND_TIMED_P, (cond, lock, until)) \
    FUNCTION(pthread_cond_clockwait, NULL, COND_CLOCK_P, (cond, lock, clock, until)) \
    FUNCTION(pthread_cond_signal, COND_VERSION, COND_P, (cond)) \
    FUNCTION(pthread_cond_broadcast, COND_VERSION, COND_P, (cond))

struct lock_functions {
#define MEMBER(name, version, parameters, arguments) int (*name)(parameters);
    LOCK_FUNCTIONS(MEMBER)
#undef MEMBER
};
extern struct lock_functions real;

#endif
