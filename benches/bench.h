/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What all benchmarks share. Included first. */
#ifndef BENCH_H
#define BENCH_H

#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rcu_notrace.h>

#include "peer.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

#define OURS &peer_notrace, &peer_expedited

/* The benchmarks, by their names on the command line. */
void bench_section(void), bench_idle(void), bench_running(void), bench_signal(void),
    bench_report(void), bench_callers(void), bench_readers(void), bench_callbacks(void),
    bench_tracepoints(void);

/* Keeps one figure of one peer for the verdicts at the end, and returns it. */
double figure(const char *peer, double value, const char *what, ...)
    __attribute__((format(printf, 3, 4)));

struct rcu_notrace_stats notrace_stats(void);

/* Sorts. */
double quantile(double *values, size_t count, double q);

/* The calling thread, and those that it creates: on one processor of those that the process was
 * given, or on all of them. */
void pin(int cpu);
void unpin(void);

/* How many iterations of bench_pause() last that long. */
unsigned long pauses_of(double ns);

static inline uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* With a small stack: there are thousands. */
pthread_t start(void *(*function)(void *), void *argument);

/* Grace periods beside threads that are outside, and asleep. */
struct crowd {
    const char *bench;
    int threads;
    /* Each thread has one section before each grace period; else none after its first. */
    bool active;
    int rounds;
    int peers;
    const struct peer *const *peer;
};
/* Prints a row; fills in the medians, in us, unless null. */
void beside_crowd(const struct crowd *crowd, double *median);

/* Grace periods against running readers. */
struct readers {
    const char *bench;
    const char *length;
    double section_ns, between_ns;
    int readers;
    int peers;
    const struct peer *const *peer;
    /* A peer's turn is TURN rounds, or what it can do in this time. */
    uint64_t turn_ns;
};
/* Prints a row. */
void against_readers(const struct readers *readers);

void print_peers(const char *what, const struct peer *const *peer, int peers, int width,
                 const char *unit);

#endif
