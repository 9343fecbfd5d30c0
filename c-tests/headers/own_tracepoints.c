/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Probes of RCU's own tracepoints, which are the library's: registered, they are called. */
#include <rcu_notrace/rcu.h>

#include <signal.h>
#include <stdio.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            printf("    FAILED: %s:%d: %s\n", __FILE__, __LINE__, #condition); \
            return 1; \
        } \
    } while (0)

static volatile sig_atomic_t locks;
static unsigned periods;

static void of_a_period(void *data, const char *rcuname, unsigned long gp_seq, const char *gpevent)
{
    (void)data;
    (void)rcuname;
    (void)gp_seq;
    (void)gpevent;
    periods++;
}

static void of_a_lock(void *data, const void *caller)
{
    (void)data;
    (void)caller;
    locks = locks + 1;
}

static void handler(int signal)
{
    (void)signal;
    rcu_read_lock();
    rcu_read_unlock();
}

int main(void)
{
    CHECK(rcu_notrace_tracepoint_rcu_grace_period() == rcu_notrace_find_tracepoint("rcu_grace_period"));
    CHECK(!trace_rcu_read_lock_enabled());
    CHECK(!register_trace_rcu_grace_period(of_a_period, NULL));
    CHECK(!register_trace_rcu_read_lock(of_a_lock, NULL));
    CHECK(trace_rcu_read_lock_enabled());
    synchronize_rcu();
    CHECK(periods >= 2);
    rcu_read_lock();
    rcu_read_unlock();
    CHECK(locks == 1);
    signal(SIGUSR1, handler);
    raise(SIGUSR1);
    CHECK(locks == 2);
#ifdef guard
    {
        guard(rcu)();
        CHECK(locks == 3 && rcu_read_lock_held());
    }
    CHECK(!rcu_read_lock_held());
#endif
    CHECK(!unregister_trace_rcu_grace_period(of_a_period, NULL));
    CHECK(!unregister_trace_rcu_read_lock(of_a_lock, NULL));
    tracepoint_synchronize_unregister();
    CHECK(!trace_rcu_read_lock_enabled());
    periods = 0;
    locks = 0;
    synchronize_rcu();
    rcu_read_lock();
    rcu_read_unlock();
    CHECK(!periods && !locks);
    return 0;
}
