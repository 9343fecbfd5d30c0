/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Grace periods beside threads that are outside sections, and asleep. */
#include "bench.h"

enum { MAX_PEERS = 8, MAX_ROUNDS = 400 };

static const struct crowd *crowd;
static pthread_barrier_t meeting;
static bool finished;

static void *member(void *unused)
{
    const struct crowd *mine = crowd;

    for (int p = 0; p < mine->peers; p++) {
        mine->peer[p]->register_thread();
        mine->peer[p]->sections(1, 1);
    }
    pthread_barrier_wait(&meeting);
    for (;;) {
        pthread_barrier_wait(&meeting);
        if (finished)
            break;
        for (int p = 0; p < mine->peers; p++)
            mine->peer[p]->sections(1, 1);
        pthread_barrier_wait(&meeting);
    }
    for (int p = 0; p < mine->peers; p++)
        mine->peer[p]->unregister_thread();
    return unused;
}

/* Until all have gone to sleep again. */
static void let_sleep(void)
{
    usleep(1000 + 10 * (useconds_t)crowd->threads);
}

void beside_crowd(const struct crowd *wanted, double *median)
{
    static double times[MAX_PEERS][MAX_ROUNDS];
    pthread_t *all = calloc((size_t)wanted->threads, sizeof(*all));
    /* A few at a time: the clock costs a tenth of the shortest. */
    int at_once = wanted->active ? 1 : 8;
    struct rcu_notrace_stats before = notrace_stats(), after;

    crowd = wanted;
    finished = false;
    pthread_barrier_init(&meeting, NULL, (unsigned)crowd->threads + 1);
    unpin();
    for (int i = 0; i < crowd->threads; i++)
        all[i] = start(member, NULL);
    pthread_barrier_wait(&meeting);
    usleep(50000);
    pin(0);
    for (int r = -3; r < crowd->rounds; r++)
        for (int p = 0; p < crowd->peers; p++) {
            uint64_t begin;

            if (r == 0 && p == 0)
                before = notrace_stats();
            if (crowd->active) {
                pthread_barrier_wait(&meeting);
                pthread_barrier_wait(&meeting);
                let_sleep();
            }
            begin = now_ns();
            for (int i = 0; i < at_once; i++)
                crowd->peer[p]->synchronize();
            if (r >= 0)
                times[p][r] = (double)(now_ns() - begin) / at_once / 1000;
        }
    after = notrace_stats();
    finished = true;
    pthread_barrier_wait(&meeting);
    for (int i = 0; i < crowd->threads; i++)
        pthread_join(all[i], NULL);
    pthread_barrier_destroy(&meeting);
    free(all);
    printf("  %5d%-19s", crowd->threads, crowd->active ? " active between" : " idle");
    for (int p = 0; p < crowd->peers; p++) {
        double here = figure(crowd->peer[p]->name,
                             quantile(times[p], (size_t)crowd->rounds, 0.5),
                             "%s, %d thread%s: median us", crowd->bench, crowd->threads,
                             crowd->threads == 1 ? "" : "s");

        printf(" %12.2f", here);
        if (median)
            median[p] = here;
    }
    if (after.ipis != before.ipis)
        printf("   %.1f IPIs", (double)(after.ipis - before.ipis) /
                                   (double)(after.grace_periods - before.grace_periods));
    printf("\n");
    fflush(stdout);
}

void bench_idle(void)
{
    static const struct peer *const peers[] = {&peer_membarrier, OURS, &peer_memb, &peer_bp,
                                               &peer_mb};
    static const int counts[] = {1, 8, 64, 1000, 4000};

    print_peers("idle threads", peers, COUNT(peers), 12, "median, us");
    for (int i = 0; i < COUNT(counts); i++)
        beside_crowd(&(struct crowd){.bench = "idle",
                                     .threads = counts[i],
                                     .rounds = 301,
                                     .peers = COUNT(peers),
                                     .peer = peers},
                     NULL);
}
