/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Grace periods against running readers: one on the other processor, and eight on two processors.
 *
 * The readers change flavour with the waiter, every few rounds, so that what else happens on a
 * shared machine hits all peers. Waits begin at random moments: against one reader that does nothing
 * but sections, no median can be less than half a section.
 */
#include "bench.h"

enum { MAX_PEERS = 8, TURNS = 50, TURN = 16, MAX_READERS = 8 };

/* Whose sections the readers run; null: none any more. */
static _Atomic(const struct peer *) running;
static unsigned long section_pauses, between_pauses;
static const struct readers *shared;

static void *run(void *cpu)
{
    const struct readers *mine = shared;
    const struct peer *peer;

    pin((int)(intptr_t)cpu);
    for (int p = 0; p < mine->peers; p++)
        mine->peer[p]->register_thread();
    while ((peer = atomic_load_explicit(&running, memory_order_relaxed))) {
        peer->section_of(section_pauses);
        bench_pause(between_pauses);
    }
    for (int p = 0; p < mine->peers; p++)
        mine->peer[p]->unregister_thread();
    return NULL;
}

/* What a peer's turns add up to. */
struct sum {
    double times[TURNS * TURN];
    size_t rounds;
    /* This library's own. */
    double grace_periods, ipis, spin_ns;
};

static void take_turn(const struct readers *readers, const struct peer *peer, struct sum *sum)
{
    struct rcu_notrace_stats before, after;
    uint64_t turn_began;

    atomic_store(&running, peer);
    /* Until all readers have changed: those that share a processor take turns of milliseconds. */
    usleep((useconds_t)(readers->section_ns / 500) + (readers->readers > 1 ? 30000 : 200));
    peer->synchronize();
    before = notrace_stats();
    turn_began = now_ns();
    for (int r = 0; r < TURN && now_ns() - turn_began < readers->turn_ns; r++) {
        uint64_t began;

        /* Not in step with the reader, whose next section begins as the wait ends. */
        bench_pause((unsigned long)rand() % (1000 + 2 * section_pauses));
        began = now_ns();
        peer->synchronize();
        sum->times[sum->rounds++] = (double)(now_ns() - began) / 1000;
    }
    after = notrace_stats();
    sum->grace_periods += (double)(after.grace_periods - before.grace_periods);
    sum->ipis += (double)(after.ipis - before.ipis);
    sum->spin_ns += (double)(after.spin_ns - before.spin_ns);
}

void against_readers(const struct readers *readers)
{
    static struct sum sums[MAX_PEERS];
    pthread_t threads[MAX_READERS];

    memset(sums, 0, sizeof(sums));
    shared = readers;
    pin(0);
    section_pauses = pauses_of(readers->section_ns);
    between_pauses = pauses_of(readers->between_ns);
    running = readers->peer[0];
    for (int i = 0; i < readers->readers; i++)
        threads[i] = start(run, (void *)(intptr_t)(i + 1));
    for (int turn = 0; turn < TURNS; turn++)
        for (int p = 0; p < readers->peers; p++)
            take_turn(readers, readers->peer[p], &sums[p]);
    running = NULL;
    for (int i = 0; i < readers->readers; i++)
        pthread_join(threads[i], NULL);

    printf("  sections of %-12s", readers->length);
    for (int p = 0; p < readers->peers; p++) {
        const char *name = readers->peer[p]->name;

        printf(" %9.1f / %8.1f",
               figure(name, quantile(sums[p].times, sums[p].rounds, 0.5), "%s, %s: median us",
                      readers->bench, readers->length),
               figure(name, quantile(sums[p].times, sums[p].rounds, 0.99), "%s, %s: p99 us",
                      readers->bench, readers->length));
    }
    printf("\n");
    if (readers->readers == 1)
        printf("    half a section %5.1f\n", readers->section_ns / 2000);
    for (int p = 0; p < readers->peers; p++)
        if (sums[p].grace_periods > 0) {
            printf("    %-10s a grace period: %.2f IPIs", readers->peer[p]->name,
                   sums[p].ipis / sums[p].grace_periods);
            printf(", %.1f us spun", sums[p].spin_ns / sums[p].grace_periods / 1000);
            printf("\n");
        }
    fflush(stdout);
}

static const struct peer *const peers[] = {OURS, &peer_memb, &peer_bp, &peer_mb};

void bench_running(void)
{
    static const struct {
        const char *name;
        double ns;
    } lengths[] = {{"0", 0},         {"1 us", 1e3},   {"10 us", 1e4},
                   {"50 us", 5e4},   {"100 us", 1e5}, {"1 ms", 1e6}};

    print_peers("one running reader", peers, COUNT(peers), 20, "median / p99, us");
    for (int i = 0; i < COUNT(lengths); i++)
        against_readers(&(struct readers){.bench = "running",
                                          .length = lengths[i].name,
                                          .section_ns = lengths[i].ns,
                                          .readers = 1,
                                          .peers = COUNT(peers),
                                          .peer = peers,
                                          .turn_ns = 20000000});
}

void bench_readers(void)
{
    print_peers("eight readers, two CPUs", peers, COUNT(peers), 20, "median / p99, us");
    for (int i = 0; i < 2; i++)
        against_readers(&(struct readers){.bench = "readers",
                                          .length = i ? "100 us" : "1 us",
                                          .section_ns = i ? 1e5 : 1e3,
                                          .between_ns = i ? 1e4 : 300,
                                          .readers = 8,
                                          .peers = COUNT(peers),
                                          .peer = peers,
                                          .turn_ns = 100000000});
}
