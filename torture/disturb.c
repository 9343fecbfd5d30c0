/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What goes on around the readers and writers: other modes, other processors, pauses, probes. */
#include "torture.h"

#include <sched.h>
#include <stdio.h>

/* ---- modes ------------------------------------------------------------------------------------------ */

bool mode_set(int mode)
{
    const int error = rcu_notrace_set_ipi_mode(mode);

    if (error)
        return false;
    if (rcu_notrace_get_ipi_mode() != mode)
        failure("mode %s was set, and is %s", mode_names[mode], mode_names[rcu_notrace_get_ipi_mode()]);
    return true;
}

void *mode_switcher(void *unused)
{
    while (!stopping()) {
        const int mode = (int)below(3);

        beat("switching modes");
        /* Where membarrier is refused there is but one, which main.c has found out. */
        if (mode_set(mode))
            cover(MODE_AUTO + (enum cover)mode);
        sleep_us(500 + below(one_in(4) ? 30000 : 3000));
    }
    return unused;
}

/* ---- pauses ------------------------------------------------------------------------------------------ */

static atomic_bool pausing;

void stutter_wait(void)
{
    bool paused = false;

    if (!atomic_load_explicit(&pausing, memory_order_relaxed) || in_child)
        return;
    while (pausing && !stopping()) {
        beat("stuttering");
        sleep_us(500);
        paused = true;
    }
    if (paused)
        cover(STUTTERED);
}

void *stutterer(void *unused)
{
    while (!stopping()) {
        beat("between pauses");
        rest_ms(200 + below(800));
        pausing = true;
        rest_ms(2 + below(50));
        pausing = false;
    }
    return unused;
}

/* ---- processors ---------------------------------------------------------------------------------------- */

void *shuffler(void *unused)
{
    cpu_set_t all, some;
    unsigned processors;

    if (sched_getaffinity(0, sizeof(all), &all))
        abort();
    processors = (unsigned)CPU_COUNT(&all);
    while (!stopping()) {
        const unsigned how = below(4);
        unsigned picked = below(processors);

        beat("shuffling");
        for (unsigned i = 0; i < __atomic_load_n(&tallies, __ATOMIC_ACQUIRE); i++) {
            const pid_t tid = tally_at(i)->tid;
            unsigned left;

            if (!tid || tally_at(i)->pinned || tally_at(i) == mine)
                continue;
            /* All together, each for itself, or as they like. */
            if (how == 1)
                picked = below(processors);
            left = picked;
            some = all;
            if (how < 2) {
                CPU_ZERO(&some);
                for (int processor = 0; processor < CPU_SETSIZE; processor++)
                    if (CPU_ISSET(processor, &all) && left-- == 0)
                        CPU_SET(processor, &some);
            }
            /* Some have ended meanwhile. */
            if (!sched_setaffinity(tid, sizeof(some), &some))
                cover(SHUFFLED);
        }
        rest_ms(10 + below(60));
    }
    return unused;
}

/* ---- probes on RCU's own tracepoints --------------------------------------------------------------------- */

static _Atomic uint64_t probes_run;

/* The probes' data: poison when nobody may be in a probe any more. */
static atomic_uint probe_mark = ALIVE;

/* A tracer's probe: it reads, by the notrace pair, wherever it is called. */
static void probe(const void *data)
{
    struct flavour *f = &flavours[NOTRACE];
    unsigned pipe_count;
    struct element *e;

    rcu_read_lock_notrace();
    e = rcu_dereference(f->current);
    spin(100);
    pipe_count = e->pipe_count;
    if (pipe_count > 1 || e->mark != ALIVE)
        element_is_bad(f, e, pipe_count);
    rcu_read_unlock_notrace();
    if (data != &probe_mark || probe_mark != ALIVE)
        failure("a probe is called with another's data, or after tracepoint_synchronize_unregister");
    atomic_fetch_add_explicit(&probes_run, 1, memory_order_relaxed);
}

static void on_lock(void *data, const void *caller)
{
    (void)caller;
    probe(data);
}

static void on_grace_period(void *data, const char *name, unsigned long seq, const char *event)
{
    (void)name, (void)seq, (void)event;
    probe(data);
}

static void on_callback(void *data, const char *name, struct rcu_head *head, long waiting)
{
    (void)name, (void)head, (void)waiting;
    probe(data);
}

void *prober(void *unused)
{
    while (!stopping()) {
        const uint64_t before = probes_run;

        beat("probing");
        probe_mark = ALIVE;
        if (register_trace_rcu_read_lock(on_lock, &probe_mark) ||
            register_trace_rcu_read_unlock(on_lock, &probe_mark) ||
            register_trace_rcu_grace_period(on_grace_period, &probe_mark) ||
            register_trace_rcu_callback(on_callback, &probe_mark))
            failure("a probe cannot be registered");
        rest_ms(5 + below(20));
        if (unregister_trace_rcu_read_lock(on_lock, &probe_mark) ||
            unregister_trace_rcu_read_unlock(on_lock, &probe_mark) ||
            unregister_trace_rcu_grace_period(on_grace_period, &probe_mark) ||
            unregister_trace_rcu_callback(on_callback, &probe_mark))
            failure("a probe cannot be unregistered");
        tracepoint_synchronize_unregister();
        probe_mark = POISON;
        if (probes_run != before)
            cover(PROBED);
        rest_ms(50 + below(300));
    }
    return unused;
}
