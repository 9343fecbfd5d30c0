/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A waiter of high priority, a reader of none, and between them a hog that wants the processor: unless the reader is
 * lent the waiter's priority, the wait lasts as long as the hog.
 */
#include "torture.h"

#include <sched.h>
#include <stdio.h>

/* Well below the 0.95 s in a second that the kernel leaves to real-time threads. */
enum { HOG_MS = 400, WORK_MS = 3, TRIES = 3 };
enum { HOG = 10, WAITER = 50, TESTER = 60 };

_Atomic uint64_t boost_tests, boost_failures;

static atomic_bool inside, hogging, waited;
static int processor;

static int be(int priority)
{
    struct sched_param parameters = {.sched_priority = priority};

    return sched_setscheduler(0, priority ? SCHED_FIFO : SCHED_OTHER, &parameters) ? errno : 0;
}

const char *boost_refused(void)
{
    const int error = be(TESTER);

    if (!error)
        be(0);
    return error ? strerror(error) : NULL;
}

static void stay_here(void)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    sched_setaffinity(0, sizeof(set), &set);
}

/* What this thread is scheduled by now, loans included: -1 - priority, 20 without one; 0 if that is not known. */
static long priority_now(void)
{
    char text[1024] = "", path[64];
    const char *rest;
    long priority = 0;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/self/task/%ld/stat", (long)syscall(SYS_gettid));
    file = fopen(path, "re");
    if (!file)
        return 0;
    if (fgets(text, sizeof(text), file) && (rest = strrchr(text, ')')) != NULL &&
        sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*u %*u %ld", &priority) != 1)
        priority = 0;
    fclose(file);
    return priority;
}

static void *read_and_work(void *unused)
{
    uint64_t end;
    long after;

    stay_here();
    be(0);
    rcu_read_lock_notrace();
    inside = true;
    while (!hogging)
        sleep_us(200);
    end = now_ns() + WORK_MS * UINT64_C(1000000);
    while (now_ns() < end)
        ;
    rcu_read_unlock_notrace();
    /* What was lent was given back there. */
    after = priority_now();
    if (after < 0)
        failure("a reader is still lent priority %ld after its section", -1 - after);
    return unused;
}

static void *hog(void *unused)
{
    const uint64_t end = now_ns() + HOG_MS * UINT64_C(1000000);

    stay_here();
    be(HOG);
    hogging = true;
    while (!waited && now_ns() < end)
        ;
    return unused;
}

static void *wait_in_real_time(void *result)
{
    const uint64_t end = now_ns() + HOG_MS * UINT64_C(1000000);

    stay_here();
    be(WAITER);
    synchronize_rcu();
    *(bool *)result = now_ns() < end;
    waited = true;
    return NULL;
}

/* True if the wait was over before the hog. The caller is of still higher priority. */
static bool boost_once(void)
{
    pthread_t threads[3];
    bool in_time = false;

    inside = hogging = waited = false;
    threads[0] = start(read_and_work, NULL);
    while (!inside)
        sleep_us(200);
    threads[1] = start(hog, NULL);
    while (!hogging)
        sleep_us(200);
    threads[2] = start(wait_in_real_time, &in_time);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    return in_time;
}

void *booster(void *unused)
{
    /* What it starts inherits its processors, and chooses one. */
    mine->pinned = true;
    processor = sched_getcpu();
    while (!stopping()) {
        struct rcu_notrace_stats before, after;
        bool boosted = false;

        beat("waiting for a turn to boost");
        pthread_mutex_lock(&long_sections);
        before = stats_of(&flavours[NOTRACE]);
        be(TESTER);
        /* The machine may have been too busy, once. */
        for (int i = 0; i < TRIES && !boosted && !stopping(); i++) {
            beat("boosting");
            boosted = boost_once();
            boost_tests++;
        }
        be(0);
        pthread_mutex_unlock(&long_sections);
        after = stats_of(&flavours[NOTRACE]);
        if (boosted && after.boosts > before.boosts) {
            cover(BOOSTED);
            if (after.unboosts > before.unboosts)
                cover(BOOST_RETURNED);
        } else if (!boosted && !stopping()) {
            boost_failures++;
            failure("%d waits in real time lasted as long as the hog, each", TRIES);
        }
        beat("between boosts");
        rest_ms(500 + below(2000));
    }
    return unused;
}
