/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The lock tracer's tracepoints: locks_trace.c calls them, locks_record.c has the probes.
 */
#ifndef LOCKS_EVENTS_H
#define LOCKS_EVENTS_H

#include <stdint.h>

#include <rcu_notrace/tracepoint.h>

enum lock_kind { LOCK_MUTEX, LOCK_READ, LOCK_WRITE, LOCK_SPIN };

/* The lock is held. `wait`: ticks; 0: it was free. */
DECLARE_TRACE(lock_acquire, TP_PROTO(const volatile void *lock, enum lock_kind kind, uint64_t wait, void *caller),
              TP_ARGS(lock, kind, wait, caller));
/* About to be given up: afterwards another thread may have it, or have freed it. */
DECLARE_TRACE(lock_release, TP_PROTO(const volatile void *lock, enum lock_kind kind, void *caller),
              TP_ARGS(lock, kind, caller));
/* Not acquired; or not released, which follows its lock_release. */
DECLARE_TRACE(lock_failed,
              TP_PROTO(const volatile void *lock, enum lock_kind kind, uint64_t wait, int error, void *caller),
              TP_ARGS(lock, kind, wait, error, caller));
/* A wait on a condition variable has ended; the mutex is held again. */
DECLARE_TRACE(lock_wait,
              TP_PROTO(const void *cond, const void *lock, uint64_t wait, int result, void *caller),
              TP_ARGS(cond, lock, wait, result, caller));
/* About to be signalled. */
DECLARE_TRACE(lock_signal, TP_PROTO(const void *cond, int broadcast, void *caller),
              TP_ARGS(cond, broadcast, caller));

#endif
