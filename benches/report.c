/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * How long the unlock takes that reports to a waiter: at once, when the waiter is in its membarrier(2)
 * still, which takes several us where it interrupts a running processor; when the waiter spins for the
 * report; and when it sleeps.
 */
#include "bench.h"

#include <x86intrin.h>

enum { ROUNDS = 1000 };

static atomic_int inside;
static uint64_t hold_ns;
static int rounds, counted;
static double wakes, ticks[ROUNDS], nothing[ROUNDS];

static uint64_t timestamp(void)
{
    uint64_t now;

    _mm_lfence();
    now = __rdtsc();
    _mm_lfence();
    return now;
}

/* Sections that end once a waiter has flagged them. */
static void *reader(void *unused)
{
    struct rcu_notrace_stats last;

    pin(1);
    rcu_register_thread();
    last = notrace_stats();
    for (int r = 0; r < rounds; r++) {
        uint64_t flagged, held, begin, middle, end;
        struct rcu_notrace_stats now;

        rcu_read_lock_notrace();
        atomic_store(&inside, 1);
        while (__atomic_load_n(&rcu_notrace_this_reader.state, __ATOMIC_RELAXED) < 0)
            ;
        flagged = now_ns();
        do
            held = now_ns() - flagged;
        while (held < hold_ns);
        begin = timestamp();
        middle = timestamp();
        rcu_read_unlock_notrace();
        end = timestamp();
        now = notrace_stats();
        /* Unless something else ran here meanwhile, or the waiter saw the end by itself. */
        if (held < hold_ns + 5000 && now.reports_by_section != last.reports_by_section) {
            nothing[counted] = (double)(middle - begin);
            ticks[counted] = (double)(end - middle);
            wakes += (double)(now.wakes - last.wakes);
            counted++;
        }
        last = now;
        while (atomic_load(&inside))
            ;
    }
    rcu_unregister_thread();
    return unused;
}

static void reports(const char *when, int wanted, uint64_t hold)
{
    uint64_t begin_ns = now_ns(), begin = timestamp();
    double ns_a_tick;
    pthread_t thread;

    rounds = wanted;
    counted = 0;
    wakes = 0;
    hold_ns = hold;
    thread = start(reader, NULL);
    pin(0);
    for (int r = 0; r < rounds; r++) {
        while (!atomic_load(&inside))
            ;
        synchronize_rcu();
        atomic_store(&inside, 0);
    }
    pthread_join(thread, NULL);
    ns_a_tick = (double)(now_ns() - begin_ns) / (double)(timestamp() - begin);
    if (!counted)
        return;
    figure("notrace", quantile(ticks, (size_t)counted, 0.5) * ns_a_tick / 1000,
           "report, %s: p50 us", when);
    figure("notrace", wakes / counted, "report, %s: wakes a report", when);
    printf("  %-24s p50 %6.0f ns, p99 %6.0f ns (the clock: %.0f ns); %d reports, "
           "%.0f wakes\n",
           when, quantile(ticks, (size_t)counted, 0.5) * ns_a_tick,
           quantile(ticks, (size_t)counted, 0.99) * ns_a_tick,
           quantile(nothing, (size_t)counted, 0.5) * ns_a_tick, counted, wakes);
}

void bench_report(void)
{
    printf("the unlock that reports\n");
    reports("at once", ROUNDS, 0);
    reports("waiter spins", ROUNDS, 15000);
    reports("waiter sleeps", 300, 1000000);
}
