/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The ordinary API, which can be traced, and RCU's own tracepoints.
 *
 * rcu_read_lock() and rcu_read_unlock() are rcu_read_lock_notrace() and rcu_read_unlock_notrace() with a
 * tracepoint each. They are for programs; tracers use the notrace pair. Everything else of the ordinary API
 * (synchronize_rcu(), call_rcu(), rcu_barrier(), ...) is in rcu_notrace.h, and has tracepoints too.
 *
 *     static void probe(void *data, const char *rcuname, unsigned long gp_seq, const char *gpevent);
 *     register_trace_rcu_grace_period(probe, NULL);
 *
 * Probes of these tracepoints may do whatever a tracer's probe may: open sections (the notrace pair; what the
 * ordinary one would tell is dropped), walk the stack, allocate, call call_rcu(), fork. They must not wait for
 * a grace period: message and abort. While a thread runs one, no other event of RCU's own is told on that thread,
 * nor in a signal handler that interrupts it; rcu_notrace_get_tracepoint_stats() has the number of those that
 * were dropped. Nothing is told by the notrace pair, its slow paths and the IPI's handler, nor under a lock
 * that the ends of threads wait for. Two things are a probe's own affair: a callback for each callback that is
 * told of never comes to an end; and as in any section, it must not want a lock under which somebody calls
 * synchronize_rcu().
 *
 * The child of a probe that forks goes on where its parent was, alone: a grace period starts over.
 *
 * The same places have USDT notes of provider `rcu`, which perf(1), gdb and bpftrace know: in the library
 * always, with semaphores, also of what comes up in probes; in rcu_read_lock() and rcu_read_unlock() if
 * RCU_NOTRACE_USDT is defined before this is included, which wants sys/sdt.h (Debian: systemtap-sdt-dev).
 *
 *                                            signal   under locks   allocates  blocks
 *                                            handler
 *   rcu_read_lock, rcu_read_unlock,
 *   rcu_dereference_check                    yes      yes           no (1)     no (1)
 *
 *   (1) its probes decide for themselves
 *
 * Probes of rcu_read_lock, rcu_read_unlock, rcu_dereference, rcu_callback and rcu_kvfree_callback run where
 * their caller is, in a signal handler or under malloc's locks perhaps: there they must not allocate.
 *
 * Not in files that include liburcu's headers, which give these names another meaning.
 */
#ifndef RCU_NOTRACE_RCU_H
#define RCU_NOTRACE_RCU_H

#include <rcu_notrace/tracepoint.h>

#ifdef RCU_NOTRACE_USDT
#include <sys/sdt.h>
#define RCU_NOTRACE_NOTE(name, caller) DTRACE_PROBE1(rcu, name, caller)
#else
#define RCU_NOTRACE_NOTE(name, caller) (void)0
#endif

/* ---- the tracepoints ------------------------------------------------------------------------- */

#define RCU_NOTRACE_DECLARE_EVENT(name, proto) \
    RCU_NOTRACE_DECLARE_PROBES(name, 0u, RCU_NOTRACE_PARAMS(void *data, proto)) \
    RCU_NOTRACE_INLINE int trace_##name##_enabled(void) \
    { \
        RCU_NOTRACE_ENABLED(name); \
    } \
    RCU_NOTRACE_UNTIL_SEMICOLON

/*
 * As in the kernel's trace/events/rcu.h, where that has them, without the parameters that have no meaning here.
 * `rcuname` is "rcu_notrace" or "rcu_tasks_trace", `gp_seq` the sequence of grace periods: odd while one runs.
 */

/* A section of the ordinary API has begun. */
RCU_NOTRACE_DECLARE_EVENT(rcu_read_lock, TP_PROTO(const void *caller));

/* One is about to end. */
RCU_NOTRACE_DECLARE_EVENT(rcu_read_unlock, TP_PROTO(const void *caller));

/* rcu_dereference_check() loaded a pointer; whether it was in a section, or said to be safe. */
RCU_NOTRACE_DECLARE_EVENT(rcu_dereference, TP_PROTO(const void *pointer, int safe, const void *caller));

/* synchronize_rcu() and the like: "begin", "end". */
RCU_NOTRACE_DECLARE_EVENT(rcu_synchronize, TP_PROTO(const char *rcuname, unsigned long gp_seq, const char *event));

/*
 * A grace period: "start"; "select": all readers in the way were found and asked; "startwait": some have not
 * reported; "wake": the last one did, and woke the waiter; "end"; "endwake": others were woken that waited.
 * One beside nobody has "start" and "end" only.
 */
RCU_NOTRACE_DECLARE_EVENT(rcu_grace_period, TP_PROTO(const char *rcuname, unsigned long gp_seq, const char *gpevent));

/* The same of one that somebody wanted expedited when it started. */
RCU_NOTRACE_DECLARE_EVENT(rcu_exp_grace_period, TP_PROTO(const char *rcuname, unsigned long gp_seq, const char *gpevent));

/* What was done to a reader in the way: "ipi". Told after "select"; the first sixteen of a grace period. */
RCU_NOTRACE_DECLARE_EVENT(rcu_fqs, TP_PROTO(const char *rcuname, unsigned long gp_seq, int tid, const char *qsevent));

/* All readers that were asked have reported. */
RCU_NOTRACE_DECLARE_EVENT(rcu_quiescent_state_report, TP_PROTO(const char *rcuname, unsigned long gp_seq, int readers));

/* A grace period takes too long. */
RCU_NOTRACE_DECLARE_EVENT(rcu_stall_warning, TP_PROTO(const char *rcuname, const char *msg));

/* A reader was lent the waiter's priority, until it reported or the waiter looked around again. */
RCU_NOTRACE_DECLARE_EVENT(rcu_boost, TP_PROTO(const char *rcuname, int tid));

/* A callback is queued. */
RCU_NOTRACE_DECLARE_EVENT(rcu_callback, TP_PROTO(const char *rcuname, struct rcu_head *rhp, long qlen));

/* A block is queued to be freed. */
RCU_NOTRACE_DECLARE_EVENT(rcu_kvfree_callback, TP_PROTO(const char *rcuname, struct rcu_head *rhp, unsigned long offset, long qlen));

/* Callbacks are about to be called; how many. */
RCU_NOTRACE_DECLARE_EVENT(rcu_batch_start, TP_PROTO(const char *rcuname, long qlen));

/* One is about to be called. */
RCU_NOTRACE_DECLARE_EVENT(rcu_invoke_callback, TP_PROTO(const char *rcuname, struct rcu_head *rhp));

/* A block is about to be freed. */
RCU_NOTRACE_DECLARE_EVENT(rcu_invoke_kvfree_callback, TP_PROTO(const char *rcuname, struct rcu_head *rhp, unsigned long offset));

/* A callback has returned, or a block was freed; the head is gone. */
RCU_NOTRACE_DECLARE_EVENT(rcu_callback_done, TP_PROTO(const char *rcuname, const void *rhp));

/* They have been called; how many. */
RCU_NOTRACE_DECLARE_EVENT(rcu_batch_end, TP_PROTO(const char *rcuname, long callbacks_invoked));

/* rcu_barrier(): "Begin", "End"; how many callbacks wait meanwhile. */
RCU_NOTRACE_DECLARE_EVENT(rcu_barrier, TP_PROTO(const char *rcuname, const char *s, long cnt));

/* rcu_register_thread(). */
RCU_NOTRACE_DECLARE_EVENT(rcu_register_thread, TP_PROTO(int tid));

/* rcu_unregister_thread() begins, or a thread that was a reader ends. */
RCU_NOTRACE_DECLARE_EVENT(rcu_unregister_thread, TP_PROTO(int tid));

/* ---- the read side --------------------------------------------------------------------------- */

#ifdef __cplusplus
extern "C" {
#endif

RCU_NOTRACE_NOPLT void rcu_notrace_tell_lock(const void *caller);
RCU_NOTRACE_NOPLT void rcu_notrace_tell_unlock(const void *caller);
RCU_NOTRACE_NOPLT void rcu_notrace_tell_dereference(const void *pointer, int safe, const void *caller);
RCU_NOTRACE_NOPLT void rcu_notrace_check_dereference(int safe);

/* The place in the code that this becomes part of. */
RCU_NOTRACE_INLINE const void *rcu_notrace_here(void)
{
    const void *here;
#ifdef __x86_64__
    __asm__ volatile("lea{q 0(%%rip), %0| %0, [rip]}" : "=r"(here));
#else
    __asm__ volatile("adr %0, ." : "=r"(here));
#endif
    return here;
}

#if defined(RCU_NOTRACE_USDT) && defined(__clang__)
/* sys/sdt.h's own. */
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wgnu-zero-variadic-macro-arguments"
#endif
#ifndef rcu_read_lock
/*
 * rcu_read_lock, rcu_read_unlock - a section, which can be traced
 *
 * As rcu_read_lock_notrace() and rcu_read_unlock_notrace(), whose sections these are: context, nesting, errors.
 * Cost: theirs and a disabled tracepoint each. Kernel, liburcu: the same names.
 */
RCU_NOTRACE_INLINE void rcu_read_lock(void)
{
    rcu_read_lock_notrace();
    RCU_NOTRACE_NOTE(rcu_read_lock, rcu_notrace_here());
    if (trace_rcu_read_lock_enabled())
        rcu_notrace_tell_lock(rcu_notrace_here());
}

RCU_NOTRACE_INLINE void rcu_read_unlock(void)
{
    RCU_NOTRACE_NOTE(rcu_read_unlock, rcu_notrace_here());
    if (trace_rcu_read_unlock_enabled())
        rcu_notrace_tell_unlock(rcu_notrace_here());
    rcu_read_unlock_notrace();
}
#endif
#if defined(RCU_NOTRACE_USDT) && defined(__clang__)
#pragma clang diagnostic pop
#endif

/* guard(rcu)(), scoped_guard (rcu) { ... }: such a section. Kernel: the same names. */
RCU_NOTRACE_DEFINE_CLASS(rcu, rcu_read_lock, rcu_read_unlock)

/*
 * rcu_dereference_check(p, condition) - rcu_dereference(p), told to the tracepoint rcu_dereference
 *
 * with whether it was safe: in a section, or `condition` holds (the caller has the lock of those who change p).
 * The condition is evaluated if the tracepoint is enabled, or with RCU_NOTRACE_DEBUG; then it is an error, a
 * message and abort, if it was not. Any context. Kernel: the same name.
 */
#define rcu_dereference_check(p, condition) \
    __extension__({ \
        __typeof__(p) rcu_notrace_loaded = rcu_dereference(p); \
        int rcu_notrace_traced = trace_rcu_dereference_enabled(); \
        if (RCU_NOTRACE_CHECKS || rcu_notrace_traced) { \
            int rcu_notrace_safe = (condition) || rcu_read_lock_held(); \
            if (rcu_notrace_traced) \
                rcu_notrace_tell_dereference((const void *)rcu_notrace_loaded, rcu_notrace_safe, \
                                             rcu_notrace_here()); \
            if (RCU_NOTRACE_CHECKS) \
                rcu_notrace_check_dereference(rcu_notrace_safe); \
        } \
        rcu_notrace_loaded; \
    })
#ifdef RCU_NOTRACE_DEBUG
#define RCU_NOTRACE_CHECKS 1
#else
#define RCU_NOTRACE_CHECKS 0
#endif

#ifdef __cplusplus
}
#endif

#endif /* RCU_NOTRACE_RCU_H */
