/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Of each name that the headers promise to signal handlers, a function that does nothing else:
 * tests/inlined_closure.rs reads what compilers make of them. */
#include <rcu_notrace/rcu.h>

struct node {
    struct rcu_head head;
    struct node *next;
};

struct node *shared;

DECLARE_TRACE(NAME, TP_PROTO(long n, const char *what), TP_ARGS(n, what));
DEFINE_TRACE(NAME, TP_PROTO(long n, const char *what), TP_ARGS(n, what));
DECLARE_TRACE_SYSCALL(BLOCKING, TP_PROTO(long n), TP_ARGS(n));
DEFINE_TRACE(BLOCKING, TP_PROTO(long n), TP_ARGS(n));

#define ROOT(type, name, parameters, body) \
    type root_##name parameters; \
    type root_##name parameters { body; }

ROOT(void, rcu_read_lock_notrace, (void), rcu_read_lock_notrace())
ROOT(void, rcu_read_unlock_notrace, (void), rcu_read_unlock_notrace())
ROOT(void, rcu_read_lock_trace, (void), rcu_read_lock_trace())
ROOT(void, rcu_read_unlock_trace, (void), rcu_read_unlock_trace())
ROOT(int, rcu_read_lock_held, (void), return rcu_read_lock_held())
ROOT(int, rcu_read_lock_trace_held, (void), return rcu_read_lock_trace_held())
ROOT(struct node *, rcu_dereference, (void), return rcu_dereference(shared))
ROOT(struct node *, rcu_access_pointer, (void), return rcu_access_pointer(shared))
ROOT(void, rcu_assign_pointer, (struct node *n), rcu_assign_pointer(shared, n))
ROOT(struct node *, rcu_xchg_pointer, (struct node *n), return rcu_xchg_pointer(&shared, n))
ROOT(struct node *, rcu_cmpxchg_pointer, (struct node *o, struct node *n),
     return rcu_cmpxchg_pointer(&shared, o, n))
ROOT(unsigned long, get_state_synchronize_rcu, (void), return get_state_synchronize_rcu())
ROOT(void, get_state_synchronize_rcu_full, (struct rcu_gp_oldstate *c), get_state_synchronize_rcu_full(c))
ROOT(unsigned long, start_poll_synchronize_rcu, (void), return start_poll_synchronize_rcu())
ROOT(void, start_poll_synchronize_rcu_full, (struct rcu_gp_oldstate *c), start_poll_synchronize_rcu_full(c))
ROOT(unsigned long, start_poll_synchronize_rcu_expedited, (void),
     return start_poll_synchronize_rcu_expedited())
ROOT(void, start_poll_synchronize_rcu_expedited_full, (struct rcu_gp_oldstate *c),
     start_poll_synchronize_rcu_expedited_full(c))
ROOT(int, poll_state_synchronize_rcu, (unsigned long c), return poll_state_synchronize_rcu(c))
ROOT(int, poll_state_synchronize_rcu_full, (struct rcu_gp_oldstate *c),
     return poll_state_synchronize_rcu_full(c))
ROOT(unsigned long, get_completed_synchronize_rcu, (void), return get_completed_synchronize_rcu())
ROOT(void, get_completed_synchronize_rcu_full, (struct rcu_gp_oldstate *c),
     get_completed_synchronize_rcu_full(c))
ROOT(int, same_state_synchronize_rcu, (unsigned long a, unsigned long b),
     return same_state_synchronize_rcu(a, b))
ROOT(int, same_state_synchronize_rcu_full, (const struct rcu_gp_oldstate *a, const struct rcu_gp_oldstate *b),
     return same_state_synchronize_rcu_full(a, b))
ROOT(void, call_rcu, (struct node *n, void (*f)(struct rcu_head *)), call_rcu(&n->head, f))
ROOT(void, call_rcu_tasks_trace, (struct node *n, void (*f)(struct rcu_head *)),
     call_rcu_tasks_trace(&n->head, f))
ROOT(void, free_rcu, (struct node *n), free_rcu(n, head))
ROOT(int, rcu_notrace_get_ipi_mode, (void), return rcu_notrace_get_ipi_mode())
ROOT(void, rcu_notrace_get_stats, (struct rcu_notrace_stats *s), rcu_notrace_get_stats(s, sizeof(*s)))
ROOT(void, rcu_tasks_trace_get_stats, (struct rcu_notrace_stats *s), rcu_tasks_trace_get_stats(s, sizeof(*s)))
ROOT(void, rcu_read_lock, (void), rcu_read_lock())
ROOT(void, rcu_read_unlock, (void), rcu_read_unlock())
ROOT(struct node *, rcu_dereference_check, (void), return rcu_dereference_check(shared, 0))
ROOT(void, trace_NAME, (long n), trace_NAME(n, "what"))
ROOT(int, trace_NAME_enabled, (void), return trace_NAME_enabled())

/* Not names of their own: what is made of them. */
ROOT(void, trace_BLOCKING, (long n), trace_BLOCKING(n))
ROOT(long, guards, (long most), {
    long sum = 0;

    guard(rcu_notrace)();
    for (long i = 0; i < most; i++)
        scoped_guard (rcu_tasks_trace)
            sum += rcu_dereference(shared) != NULL;
    return sum;
})
/* Loops over arrays around sections, which compilers would make vectors of. */
ROOT(void, list, (long *counts, long most), {
    for (long i = 0; i < most; i++) {
        rcu_read_lock_notrace();
        for (struct node *n = rcu_dereference(shared); n; n = rcu_dereference(n->next))
            counts[i]++;
        rcu_read_unlock_notrace();
    }
})
