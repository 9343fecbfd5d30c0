/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Read-side pairs and grace periods, this library and liburcu side by side in one run, threads
 * pinned. Ratios are what counts: absolute times on shared machines mean little. The peers take
 * turns within each round, and each figure is a median over rounds.
 *
 *   rcu [section|idle|running]...      all of them by default
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "peer.h"

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void pin(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu % (int)sysconf(_SC_NPROCESSORS_ONLN), &set);
    pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double quantile(double *values, size_t count, double q)
{
    qsort(values, count, sizeof(*values), by_value);
    return values[(size_t)(q * (double)(count - 1))];
}

/* ---- read-side pairs ------------------------------------------------------------------------- */

static void section(void)
{
    static const struct peer *const peers[] = {&peer_bare, &peer_bare_static,
                                               &peer_notrace, &peer_notrace_static,
                                               &peer_memb, &peer_bp, &peer_mb};
    enum { PEERS = sizeof(peers) / sizeof(peers[0]), ROUNDS = 31 };
    static double times[2][PEERS][ROUNDS];
    const unsigned long count = 2000000;
    double bare = 0;

    pin(1);
    for (int p = 0; p < PEERS; p++)
        peers[p]->register_thread();
    for (int r = 0; r < ROUNDS; r++)
        for (int p = 0; p < PEERS; p++)
            for (int depth = 1; depth <= 2; depth++) {
                /* liburcu's full-barrier flavour is fifty times slower. */
                unsigned long pairs = peers[p] == &peer_mb ? count / 20 : count;
                uint64_t begin = now_ns();

                peers[p]->sections(pairs, depth);
                times[depth - 1][p][r] = (double)(now_ns() - begin) / (double)pairs;
            }
    for (int p = 0; p < PEERS; p++)
        peers[p]->unregister_thread();
    printf("section                         pair, ns   ratio to bare   nested twice, ns\n");
    for (int p = 0; p < PEERS; p++) {
        double one = quantile(times[0][p], ROUNDS, 0.5), two = quantile(times[1][p], ROUNDS, 0.5);

        if (p == 0)
            bare = one;
        printf("  %-28s %9.2f %15.2f %18.2f\n", peers[p]->name, one, one / bare, two);
    }
    printf("\n");
}

/* ---- grace periods beside idle threads ------------------------------------------------------- */

static const struct peer *const waiters[] = {&peer_membarrier, &peer_notrace, &peer_memb, &peer_bp};
enum { WAITERS = sizeof(waiters) / sizeof(waiters[0]) };

static pthread_barrier_t registered, finished;

static void *idle(void *unused)
{
    for (int p = 1; p < WAITERS; p++) {
        waiters[p]->register_thread();
        waiters[p]->sections(1, 1);
    }
    pthread_barrier_wait(&registered);
    pthread_barrier_wait(&finished);
    for (int p = 1; p < WAITERS; p++)
        waiters[p]->unregister_thread();
    return unused;
}

static void idle_threads(int threads)
{
    enum { ROUNDS = 301 };
    static double times[WAITERS][ROUNDS];
    pthread_t *all = calloc((size_t)threads, sizeof(*all));
    pthread_attr_t attributes;
    double median[WAITERS];

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 65536);
    pthread_barrier_init(&registered, NULL, (unsigned)threads + 1);
    pthread_barrier_init(&finished, NULL, (unsigned)threads + 1);
    for (int i = 0; i < threads; i++)
        if (pthread_create(&all[i], &attributes, idle, NULL)) {
            fprintf(stderr, "cannot create %d threads\n", threads);
            exit(1);
        }
    pthread_barrier_wait(&registered);
    usleep(50000);
    pin(0);
    for (int r = -20; r < ROUNDS; r++)
        for (int p = 0; p < WAITERS; p++) {
            /* A few at a time: the clock costs a tenth of the shortest. */
            enum { AT_ONCE = 8 };
            uint64_t begin = now_ns();

            for (int i = 0; i < AT_ONCE; i++)
                waiters[p]->synchronize();
            if (r >= 0)
                times[p][r] = (double)(now_ns() - begin) / AT_ONCE / 1000;
        }
    pthread_barrier_wait(&finished);
    for (int i = 0; i < threads; i++)
        pthread_join(all[i], NULL);
    free(all);
    printf("  %5d idle", threads);
    for (int p = 0; p < WAITERS; p++) {
        median[p] = quantile(times[p], ROUNDS, 0.5);
        printf(" %14.2f", median[p]);
    }
    printf("   notrace to membarrier %.2f, to memb %.2f, to bp %.2f\n", median[1] / median[0],
           median[1] / median[2], median[1] / median[3]);
    fflush(stdout);
}

static void header(const char *what)
{
    printf("%-12s", what);
    for (int p = 0; p < WAITERS; p++)
        printf(" %14s", waiters[p]->name);
    printf("   (median, us)\n");
}

static void idle_bench(void)
{
    static const int counts[] = {1, 8, 64, 1000, 4000};

    header("idle threads");
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
        idle_threads(counts[i]);
    printf("\n");
}

/* ---- grace periods against one running reader ------------------------------------------------ */

static atomic_bool stop;
static const struct peer *running;
static unsigned long length;

static void *run(void *unused)
{
    pin(1);
    running->register_thread();
    while (!atomic_load_explicit(&stop, memory_order_relaxed))
        running->section_of(length);
    running->unregister_thread();
    return unused;
}

static void running_reader(const char *name, unsigned long pauses)
{
    enum { ROUNDS = 401 };
    static double times[ROUNDS];

    printf("  %-10s", name);
    for (int p = 1; p < WAITERS; p++) {
        int rounds = p == 3 && pauses > 50 ? 41 : ROUNDS;
        pthread_t reader;

        running = waiters[p];
        length = pauses;
        stop = false;
        pthread_create(&reader, NULL, run, NULL);
        usleep(20000);
        pin(0);
        for (int r = 0; r < rounds; r++) {
            uint64_t begin = now_ns();

            running->synchronize();
            times[r] = (double)(now_ns() - begin) / 1000;
            /* Not in step with the reader, whose next section begins as the wait ends. */
            bench_pause((unsigned long)rand() % (1000 + 2 * pauses));
        }
        stop = true;
        pthread_join(reader, NULL);
        printf(" %12s %9.1f / %8.1f", waiters[p]->name, quantile(times, (size_t)rounds, 0.5),
               quantile(times, (size_t)rounds, 0.99));
    }
    printf("\n");
    fflush(stdout);
}

static void running_bench(void)
{
    uint64_t begin = now_ns();
    double pause_ns;

    pin(0);
    bench_pause(1000000);
    pause_ns = (double)(now_ns() - begin) / 1000000;
    printf("one running reader, sections of   (median / p99, us)\n");
    running_reader("0", 0);
    running_reader("1 us", (unsigned long)(1000 / pause_ns));
    running_reader("10 us", (unsigned long)(10000 / pause_ns));
    running_reader("100 us", (unsigned long)(100000 / pause_ns));
    running_reader("1 ms", (unsigned long)(1000000 / pause_ns));
    printf("\n");
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } all[] = {{"section", section}, {"idle", idle_bench}, {"running", running_bench}};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        bool wanted = argc == 1;

        for (int a = 1; a < argc; a++)
            wanted |= !strcmp(argv[a], all[i].name);
        if (wanted)
            all[i].run();
    }
    return 0;
}
