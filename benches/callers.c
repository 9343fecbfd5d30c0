/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Many waiters at once, on two processors. */
#include "bench.h"

enum { CALLERS = 8, TURNS = 5, TURN_US = 300000 };

static const struct peer *const peers[] = {OURS, &peer_memb, &peer_bp, &peer_mb};

static pthread_barrier_t meeting;
static const struct peer *calling;
static atomic_bool stop;
static struct {
    _Alignas(128) double calls;
} of[CALLERS];

static void *call(void *number)
{
    int me = (int)(intptr_t)number;

    pin(me);
    for (int p = 0; p < COUNT(peers); p++)
        peers[p]->register_thread();
    while (pthread_barrier_wait(&meeting), calling) {
        double calls = 0;

        for (; !atomic_load_explicit(&stop, memory_order_relaxed); calls++)
            calling->synchronize();
        of[me].calls = calls;
        pthread_barrier_wait(&meeting);
    }
    for (int p = 0; p < COUNT(peers); p++)
        peers[p]->unregister_thread();
    return NULL;
}

/* Calls a second. */
static double turn(const struct peer *peer)
{
    double calls = 0;
    uint64_t begin;

    calling = peer;
    stop = false;
    pthread_barrier_wait(&meeting);
    begin = now_ns();
    usleep(TURN_US);
    stop = true;
    pthread_barrier_wait(&meeting);
    for (int i = 0; i < CALLERS; i++)
        calls += of[i].calls;
    return calls * 1e9 / (double)(now_ns() - begin);
}

void bench_callers(void)
{
    static double rates[COUNT(peers)][TURNS];
    double median[COUNT(peers)], memb = 0;
    pthread_t threads[CALLERS];

    pthread_barrier_init(&meeting, NULL, CALLERS + 1);
    for (int i = 0; i < CALLERS; i++)
        threads[i] = start(call, (void *)(intptr_t)i);
    for (int t = 0; t < TURNS; t++)
        for (int p = 0; p < COUNT(peers); p++)
            rates[p][t] = turn(peers[p]);
    calling = NULL;
    pthread_barrier_wait(&meeting);
    for (int i = 0; i < CALLERS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&meeting);

    print_peers("eight callers", peers, COUNT(peers), 12, "calls a second");
    printf("  %-24s", "synchronize");
    for (int p = 0; p < COUNT(peers); p++) {
        median[p] = figure(peers[p]->name, quantile(rates[p], TURNS, 0.5),
                           "callers: calls a second");
        if (peers[p] == &peer_memb)
            memb = median[p];
        printf(" %12.0f", median[p]);
    }
    printf("\n  %-24s", "ratio to memb");
    for (int p = 0; p < COUNT(peers); p++)
        printf(" %12.2f", median[p] / memb);
    printf("\n");
}
