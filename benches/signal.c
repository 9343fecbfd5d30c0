/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* This library in the mode that signals every active reader, against liburcu's signal flavour. */
#include "bench.h"

static const struct peer *const peers[] = {&peer_notrace, &peer_signal};

/* Grace periods beside 1, 64 and 1,000 sleepers, and what each costs from one count to the next. */
static void sleepers(bool active)
{
    static const int counts[] = {1, 64, 1000};
    double median[COUNT(counts)][COUNT(peers)];

    for (int i = 0; i < COUNT(counts); i++)
        beside_crowd(&(struct crowd){.bench = active ? "signal, active" : "signal, idle",
                                     .threads = counts[i],
                                     .active = active,
                                     .rounds = 31,
                                     .peers = COUNT(peers),
                                     .peer = peers},
                     median[i]);
    for (int i = 1; i < COUNT(counts); i++) {
        printf("    each from %2d to %-8d", counts[i - 1], counts[i]);
        for (int p = 0; p < COUNT(peers); p++)
            printf(" %12.3f", (median[i][p] - median[i - 1][p]) / (counts[i] - counts[i - 1]));
        printf("\n");
    }
}

void bench_signal(void)
{
    rcu_notrace_set_ipi_mode(RCU_NOTRACE_IPI_SIGNAL);
    print_peers("signals, a running reader", peers, COUNT(peers), 20, "median / p99, us");
    for (int i = 0; i < 2; i++)
        against_readers(&(struct readers){.bench = "signal, running",
                                          .length = i ? "10 us" : "0",
                                          .section_ns = i ? 1e4 : 0,
                                          .readers = 1,
                                          .peers = COUNT(peers),
                                          .peer = peers,
                                          .turn_ns = 20000000});
    /* Idle for eight grace periods, a thread is parked, and gets no signal; a section between
     * grace periods undoes it. */
    print_peers("signals, sleeping threads", peers, COUNT(peers), 12, "median, us");
    sleepers(false);
    sleepers(true);
    rcu_notrace_set_ipi_mode(RCU_NOTRACE_IPI_AUTO);
}
