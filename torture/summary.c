/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What is printed while it runs and at its end, after the kernel's; and what must not be zero then. */
#include "torture.h"

#include <stdio.h>

static const char *const cover_names[COVERS] = {
    "nested",
    "handed-over",
    "ordinary",
    "both-flavours",
    "signals-masked",
    "yielded",
    "slept",
    "futex-waited",
    "pipe-read",
    "migrated",
    "preempted",
    "polled-inside",
    "saw-removed",
    "saw-grace-period",
    "handler-section",
    "handler-in-section",
    "handler-in-handler",
    "handler-in-wait",
    "handler-called-rcu",
    "sync",
    "sync-exp",
    "cond",
    "cond-full",
    "cond-exp",
    "cond-exp-full",
    "poll",
    "poll-full",
    "poll-exp",
    "poll-exp-full",
    "call",
    "call-barrier",
    "wait-in-trace",
    "flood",
    "flood-held-up",
    "thread",
    "destructor",
    "last-destructor",
    "unregistered",
    "fork",
    "fork-in-section",
    "vfork",
    "spawn",
    "stutter",
    "shuffle",
    "mode-auto",
    "mode-signal",
    "mode-membarrier",
    "stall-reported",
    "boosted",
    "boost-returned",
    "probed",
};

static struct rcu_notrace_stats first[FLAVOURS];

void summary_begin(void)
{
    for (unsigned f = 0; f < FLAVOURS; f++)
        first[f] = stats_of(&flavours[f]);
}

#define U(x) ((unsigned long long)(x))

static void print_histogram(const char *name, const uint64_t *values)
{
    printf(" %s:", name);
    for (int i = 0; i <= RCU_TORTURE_PIPE_LEN; i++)
        printf(" %llu", U(values[i]));
}

static void print_flavour(unsigned index, const struct counts *sum)
{
    struct flavour *f = &flavours[index];
    const struct rcu_notrace_stats s = stats_of(f);
    uint64_t circulation[RCU_TORTURE_PIPE_LEN + 1];

    for (int i = 0; i <= RCU_TORTURE_PIPE_LEN; i++)
        circulation[i] = f->circulation[i];
    printf("rcu-torture: %s: rtc: %p ver: %llu rta: %llu rtaf: %llu rtf: %llu rtmbe: %llu rtpe: %llu "
           "rtbte: %llu\n",
           f->name, (void *)rcu_access_pointer(f->current), U(f->version), U(f->allocations),
           U(f->allocation_failures), U(f->frees), U(f->marks_wrong), U(f->too_old), U(f->too_many_batches));
    printf("rcu-torture: %s:", f->name);
    print_histogram("Reader Pipe", sum->pipe[index]);
    printf("\nrcu-torture: %s:", f->name);
    print_histogram("Reader Batch", sum->batch[index]);
    printf("\nrcu-torture: %s:", f->name);
    print_histogram("Free-Block Circulation", circulation);
    printf("\nrcu-torture: %s: sections %llu grace-periods %llu shared %llu barriers %llu IPIs %llu holdouts %llu "
           "rescues %llu reports %llu/%llu wakes %llu parks %llu transient-waits %llu died %llu boosts %llu/%llu "
           "stalls %llu callbacks %llu/%llu slowed %llu\n",
           f->name, U(sum->sections[index]), U(s.grace_periods - first[index].grace_periods), U(s.shared),
           U(s.barriers), U(s.ipis), U(s.holdouts), U(s.rescues), U(s.reports_by_section),
           U(s.reports_by_handler), U(s.wakes), U(s.parks), U(s.transient_waits), U(s.died), U(s.boosts),
           U(s.unboosts), U(s.stalls), U(s.callbacks_run), U(s.callbacks_queued), U(s.callbacks_slowed));
}

void summary_print(uint64_t elapsed_ns)
{
    struct counts sum;
    uint64_t sections = 0, grace_periods = 0, holdouts = 0, ipis = 0, rescues = 0, callbacks = 0;

    tally_sum(&sum);
    printf("rcu-torture: ---- %.1f s\n", (double)elapsed_ns / 1e9);
    for (unsigned f = 0; f < FLAVOURS; f++) {
        const struct rcu_notrace_stats s = stats_of(&flavours[f]);

        if (!has(f))
            continue;
        print_flavour(f, &sum);
        sections += sum.sections[f];
        grace_periods += s.grace_periods - first[f].grace_periods;
        holdouts += s.holdouts;
        ipis += s.ipis;
        rescues += s.rescues;
        callbacks += s.callbacks_run;
    }
    printf("rcu-torture: nt: %llu barrier: %llu/%llu:%llu read-exits: %llu rtb: %llu rtbf: %llu stalls: %llu+%llu "
           "flood: most %llu waiting, %llu/s forks: %llu+%llu+%llu in children: sections %llu grace-periods %llu "
           "callbacks %llu\n",
           U(sum.signals), U(barrier_successes), U(barrier_attempts), U(barrier_attempts - barrier_successes),
           U(sum.cover[THREAD_RAN]), U(boost_tests), U(boost_failures), U(stall_reports),
           U(stall_reports_unasked), U(flood_most), U(flood_rate), U(sum.cover[FORKED]), U(sum.cover[VFORKED]),
           U(sum.cover[SPAWNED]), U(children->sections), U(children->grace_periods), U(children->callbacks));
    printf("rcu-torture: coverage:");
    for (unsigned i = 0; i < COVERS; i++)
        printf(" %s %llu", cover_names[i], U(sum.cover[i]));
    printf("\n");
    /* What run.sh adds up. */
    printf("rcu-torture: total: sections %llu grace-periods %llu holdouts %llu ipis %llu rescues %llu "
           "callbacks %llu forks %llu threads %llu signals %llu\n",
           U(sections + children->sections), U(grace_periods + children->grace_periods), U(holdouts),
           U(ipis), U(rescues), U(callbacks + children->callbacks),
           U(sum.cover[FORKED] + sum.cover[VFORKED] + sum.cover[SPAWNED]), U(sum.cover[THREAD_RAN]), U(sum.signals));
    fflush(stdout);
}

/* Whether that was enabled. */
static bool is_expected(unsigned what)
{
    const bool *with = options.with, readers = options.readers > 0;
    const bool both = options.type == 3, waits = options.fakewriters > 0;
    const bool notrace = has(NOTRACE), bulk = options.bulk > 0;

    switch (what) {
    case NESTED:
    case HANDED_OVER:
    case SIGNALS_MASKED:
    case YIELDED:
    case UNREGISTERED:
        return readers;
    case PREEMPTED:
        return options.readers > 1;
    case MIGRATED:
        return readers && with[SHUFFLE];
    case SAW_REMOVED:
        return (readers && options.writers > 0) || (bulk && (options.writers > 0 || options.updaters > 0));
    case SAW_GRACE_PERIOD:
        return readers && waits;
    case ORDINARY:
        return readers && notrace;
    case BOTH_FLAVOURS:
        return readers && both;
    case SLEPT:
    case FUTEX_WAITED:
    case PIPE_READ:
        return readers && with[BLOCKING];
    case POLLED_INSIDE:
        return readers && notrace && with[POLLING];
    case HANDLER_SECTION:
    case HANDLER_IN_SECTION:
    case HANDLER_IN_HANDLER:
        return readers && with[TIMERS];
    case HANDLER_IN_WAIT:
        return waits && with[TIMERS];
    case HANDLER_CALLED_RCU:
        return readers && with[TIMERS] && with[CALLBACKS];
    case DID_SYNC:
    case DID_SYNC_EXPEDITED:
        return waits;
    case DID_COND:
    case DID_COND_FULL:
    case DID_COND_EXPEDITED:
    case DID_COND_EXPEDITED_FULL:
        return waits && notrace;
    case DID_POLL:
    case DID_POLL_FULL:
    case DID_POLL_EXPEDITED:
    case DID_POLL_EXPEDITED_FULL:
        return waits && notrace && with[POLLING];
    case DID_CALL:
        return options.writers > 0 && with[CALLBACKS];
    case DID_BARRIER:
        return waits && with[CALLBACKS] && with[BARRIERS];
    case WAITED_IN_TRACE_SECTION:
        return waits && both;
    case FLOODED:
    case FLOOD_HELD_UP:
        return with[FLOODS] && with[CALLBACKS];
    case THREAD_RAN:
    case READ_IN_DESTRUCTOR:
    case READ_IN_LAST_DESTRUCTOR:
        return with[THREADS];
    case FORKED:
    case FORKED_IN_SECTION:
    case VFORKED:
    case SPAWNED:
        return with[FORKS];
    case STUTTERED:
        return with[STUTTER];
    case SHUFFLED:
        return with[SHUFFLE];
    case MODE_AUTO:
    case MODE_SIGNAL:
    case MODE_MEMBARRIER:
        return options.mode == ANY_MODE;
    case STALL_REPORTED:
        return with[STALLS];
    case BOOSTED:
    case BOOST_RETURNED:
        return with[BOOST] && notrace;
    case PROBED:
        return with[PROBES] && notrace;
    default:
        return false;
    }
}

/* What the counters of a flavour must be. */
static bool are_as_expected(unsigned f, const struct counts *sum, bool say)
{
    const struct rcu_notrace_stats s = stats_of(&flavours[f]);
    const bool with_readers = options.readers || options.bulk || options.idle;
    const bool with_waiters = options.writers || options.updaters || (options.fakewriters && options.readers);
    const char *wrong = NULL;

    if (!sum->sections[f] || s.grace_periods == first[f].grace_periods)
        wrong = "no sections or no grace periods";
    else if (options.readers && options.fakewriters && !(s.holdouts && s.reports_by_section))
        wrong = "no reader was ever in the way";
    /* Whoever is in the way gets one. In the other modes with signals those get them who stay for long. */
    else if (options.mode == RCU_NOTRACE_IPI_SIGNAL && with_readers && with_waiters && !s.ipis)
        wrong = "mode signal has sent no IPI";
    else if (options.mode != RCU_NOTRACE_IPI_MEMBARRIER && options.readers && options.fakewriters && !s.ipis)
        wrong = "no IPI was sent";
    else if (options.mode == RCU_NOTRACE_IPI_MEMBARRIER && s.ipis)
        wrong = "mode membarrier has sent an IPI";
    if (wrong && say)
        printf("rcu-torture: %s: %s\n", flavours[f].name, wrong);
    return !wrong;
}

bool summary_covers(bool say)
{
    struct counts sum;
    bool all = true;

    tally_sum(&sum);
    for (unsigned i = 0; i < COVERS; i++)
        if (is_expected(i) && !sum.cover[i]) {
            if (say)
                printf("rcu-torture: never taken: %s\n", cover_names[i]);
            all = false;
        }
    for (unsigned f = 0; f < FLAVOURS; f++)
        if (has(f) && !are_as_expected(f, &sum, say))
            all = false;
    if (options.with[FORKS] && !(children->sections && children->grace_periods &&
                                 (children->callbacks || !options.with[CALLBACKS]))) {
        if (say)
            printf("rcu-torture: children had no sections, no grace periods or no callbacks\n");
        all = false;
    }
    return all;
}

/* For the watchdog: no locks. */
void dump_stats(int fd)
{
    for (unsigned f = 0; f < FLAVOURS; f++) {
        const struct rcu_notrace_stats s = stats_of(&flavours[f]);

        if (has(f))
            dprintf(fd,
                    "rcu-torture: %s: grace periods %llu shared %llu barriers %llu IPIs %llu holdouts %llu "
                    "reports %llu/%llu rescues %llu wakes %llu transient waits %llu callbacks %llu/%llu\n",
                    flavours[f].name, U(s.grace_periods), U(s.shared), U(s.barriers), U(s.ipis), U(s.holdouts),
                    U(s.reports_by_section), U(s.reports_by_handler), U(s.rescues), U(s.wakes),
                    U(s.transient_waits), U(s.callbacks_run), U(s.callbacks_queued));
    }
}
