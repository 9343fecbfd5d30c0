/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* RCU's own tracepoints, one line each, as rcu_notrace/rcu.h declares them. */
#ifndef EVENTS_H
#define EVENTS_H

#include <rcu_notrace/rcu.h>

/* X(name, name of the text that says what, or "", its parameters) */
#define EVENTS(X) \
    X(rcu_read_lock, "", const void *caller) \
    X(rcu_read_unlock, "", const void *caller) \
    X(rcu_dereference, "", const void *pointer, int safe, const void *caller) \
    X(rcu_synchronize, event, const char *rcuname, unsigned long gp_seq, const char *event) \
    X(rcu_grace_period, gpevent, const char *rcuname, unsigned long gp_seq, const char *gpevent) \
    X(rcu_exp_grace_period, gpevent, const char *rcuname, unsigned long gp_seq, const char *gpevent) \
    X(rcu_fqs, qsevent, const char *rcuname, unsigned long gp_seq, int tid, const char *qsevent) \
    X(rcu_quiescent_state_report, "", const char *rcuname, unsigned long gp_seq, int readers) \
    X(rcu_stall_warning, msg, const char *rcuname, const char *msg) \
    X(rcu_boost, "", const char *rcuname, int tid) \
    X(rcu_callback, "", const char *rcuname, struct rcu_head *rhp, long qlen) \
    X(rcu_kvfree_callback, "", const char *rcuname, struct rcu_head *rhp, unsigned long offset, long qlen) \
    X(rcu_batch_start, "", const char *rcuname, long qlen) \
    X(rcu_invoke_callback, "", const char *rcuname, struct rcu_head *rhp) \
    X(rcu_invoke_kvfree_callback, "", const char *rcuname, struct rcu_head *rhp, unsigned long offset) \
    X(rcu_callback_done, "", const char *rcuname, const void *rhp) \
    X(rcu_batch_end, "", const char *rcuname, long callbacks_invoked) \
    X(rcu_barrier, s, const char *rcuname, const char *s, long cnt) \
    X(rcu_register_thread, "", int tid) \
    X(rcu_unregister_thread, "", int tid)

enum event {
#define EVENT_NUMBER(name, text, ...) AT_##name,
    EVENTS(EVENT_NUMBER)
#undef EVENT_NUMBER
    EVENT_COUNT
};

__attribute__((unused)) static const char *const event_names[] = {
#define EVENT_NAME(name, text, ...) #name,
    EVENTS(EVENT_NAME)
#undef EVENT_NAME
};

/* What every probe does; each test says what. */
static void happened(enum event event, const char *text, void *data);

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#define EVENT_PROBE(name, text, ...) \
    static void probe_##name(void *data, __VA_ARGS__) \
    { \
        happened(AT_##name, text, data); \
    }
EVENTS(EVENT_PROBE)
#undef EVENT_PROBE
#pragma GCC diagnostic pop

__attribute__((unused)) static void probe_everything(void *data)
{
    int error = 0;

#define EVENT_REGISTER(name, text, ...) error |= register_trace_##name(probe_##name, data);
    EVENTS(EVENT_REGISTER)
#undef EVENT_REGISTER
    if (error)
        fail("a probe is refused");
}

__attribute__((unused)) static void probe_nothing(void *data)
{
    int error = 0;

#define EVENT_UNREGISTER(name, text, ...) error |= unregister_trace_##name(probe_##name, data);
    EVENTS(EVENT_UNREGISTER)
#undef EVENT_UNREGISTER
    if (error)
        fail("a probe was not there");
    tracepoint_synchronize_unregister();
}

#endif
