/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Priority boosting. All threads are on one processor: a reader of low priority is in a section, a
 * hog of middle priority wants the processor for itself, and a waiter of high priority waits for the
 * reader. Without a loan, the wait would last as long as the hog.
 *
 * Times stay well below the 0.95 s in a second that the kernel leaves to real-time threads.
 */
#include "seccomp.h"
#include "test.h"

#include <sys/resource.h>

enum { READER = 1, HOG = 10, WAITER = 50, MAIN = 90 };
enum { HOG_MS = 300, MOST_READERS = 4 };

/* A thread of this program; priority 0 is SCHED_OTHER. */
static void be(int priority)
{
    struct sched_param parameters = {.sched_priority = priority};

    if (sched_setscheduler(0, priority ? SCHED_FIFO : SCHED_OTHER, &parameters))
        skip("real-time scheduling is not permitted here: %s", strerror(errno));
}

/* What this thread is scheduled by now, loans included, as the kernel's -1 - priority (or 20). */
static long priority_now(void)
{
    char text[1024] = "", path[64];
    char *rest;
    long priority = 0;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/self/task/%ld/stat", (long)syscall(SYS_gettid));
    file = fopen(path, "r");
    CHECK(file && fgets(text, sizeof(text), file));
    fclose(file);
    rest = strrchr(text, ')');
    CHECK(rest && sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*u %*u %ld",
                         &priority) == 1);
    return priority;
}

static uint64_t cpu_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void work_ms(unsigned ms)
{
    uint64_t end = cpu_ns() + ms * UINT64_C(1000000);

    while (cpu_ns() < end)
        ;
}

struct reader {
    pthread_t thread;
    int priority;
    unsigned ms;
    bool transient, exits;
    atomic_bool inside;
    uint64_t left_at, after_at;
    long inside_priority, after_priority;
};

static atomic_bool go;
static struct reader readers[MOST_READERS];
static uint64_t hog_began, hog_ended, waiter_began, waiter_ended, waiter_cpu;
static atomic_bool hog_runs;

static void *read_once(void *argument)
{
    struct reader *r = argument;

    be(r->priority);
    if (!r->transient)
        rcu_register_thread();
    rcu_read_lock_notrace();
    r->inside = true;
    while (!go)
        sleep_ms(1);
    work_ms(r->ms);
    r->inside_priority = priority_now();
    r->left_at = now_ns();
    rcu_read_unlock_notrace();
    if (r->exits)
        return NULL;
    r->after_at = now_ns();
    r->after_priority = priority_now();
    return NULL;
}

static void *hog(void *unused)
{
    uint64_t now;

    be(HOG);
    hog_began = now_ns();
    hog_runs = true;
    do
        now = now_ns();
    while (now < hog_began + HOG_MS * UINT64_C(1000000));
    hog_ended = now;
    return unused;
}

static void *wait_at_high_priority(void *unused)
{
    be(WAITER);
    waiter_began = now_ns();
    synchronize_rcu();
    waiter_ended = now_ns();
    waiter_cpu = cpu_ns();
    return unused;
}

/* Leads a grace period, with no priority to lend; others are to wait for it. */
static void *lead(void *unused)
{
    be(0);
    synchronize_rcu();
    return unused;
}

static bool with_leader;

/* Readers as they are in `readers`, with or without the hog. */
static void run(int count, bool with_hog)
{
    pthread_t hogging, leading = 0, waiting;

    pin(0);
    be(MAIN);
    /* Room for the next scenario's real-time work. */
    sleep_ms(150);
    for (int i = 0; i < count; i++) {
        readers[i].thread = start(read_once, &readers[i]);
        while (!readers[i].inside)
            sleep_ms(1);
    }
    if (with_leader) {
        leading = start(lead, NULL);
        sleep_ms(30);
    }
    if (with_hog) {
        hogging = start(hog, NULL);
        while (!hog_runs)
            sleep_ms(1);
    }
    go = true;
    waiting = start(wait_at_high_priority, NULL);
    pthread_join(waiting, NULL);
    if (with_hog)
        pthread_join(hogging, NULL);
    if (with_leader)
        pthread_join(leading, NULL);
    for (int i = 0; i < count; i++)
        pthread_join(readers[i].thread, NULL);
}

static long ms_between(uint64_t from, uint64_t to)
{
    return (long)((int64_t)(to - from) / 1000000);
}

/* The wait was over long before the hog, and the readers went on only after it. */
static void check_loans(int count)
{
    struct rcu_notrace_stats s = stats();
    uint64_t left = 0;

    for (int i = 0; i < count; i++)
        if (readers[i].left_at > left)
            left = readers[i].left_at;
    printf("    waited %ld ms, %ld us after the last section's end and %ld ms before the hog's; "
           "priority inside %ld, after %ld; boosts %llu, unboosts %llu\n",
           ms_between(waiter_began, waiter_ended), (long)((int64_t)(waiter_ended - left) / 1000),
           ms_between(waiter_ended, hog_ended), readers[0].inside_priority,
           readers[0].after_priority, (unsigned long long)s.boosts,
           (unsigned long long)s.unboosts);
    CHECK(waiter_ended > left && waiter_ended - left < 10000000);
    CHECK(waiter_ended + 100000000 < hog_ended);
    for (int i = 0; i < count; i++) {
        CHECK(readers[i].inside_priority == -1 - WAITER);
        if (readers[i].exits)
            continue;
        CHECK(readers[i].after_at >= hog_ended);
        CHECK(readers[i].after_priority ==
              (readers[i].priority ? -1 - readers[i].priority : 20 + getpriority(PRIO_PROCESS, 0)));
    }
    CHECK(s.boosts >= (uint64_t)count && s.unboosts >= (uint64_t)count);
}

static void a_preempted_reader_is_lent_the_waiters_priority_until_its_unlock(void)
{
    readers[0] = (struct reader){.priority = READER, .ms = 20};
    run(1, true);
    check_loans(1);
}

static void an_ordinary_reader_too(void)
{
    readers[0] = (struct reader){.priority = 0, .ms = 20};
    run(1, true);
    check_loans(1);
}

static void a_reader_in_its_very_first_section_too(void)
{
    readers[0] = (struct reader){.priority = READER, .ms = 20, .transient = true};
    run(1, true);
    CHECK(stats().transient_waits >= 1);
    check_loans(1);
}

static void by_a_leader_of_low_priority_that_the_waiter_waits_for(void)
{
    readers[0] = (struct reader){.priority = READER, .ms = 20};
    with_leader = true;
    run(1, true);
    check_loans(1);
}

static void a_first_section_by_a_leader_of_low_priority(void)
{
    readers[0] = (struct reader){.priority = 0, .ms = 20, .transient = true};
    with_leader = true;
    run(1, true);
    check_loans(1);
}

static void several_readers_in_turn(void)
{
    for (int i = 0; i < MOST_READERS; i++)
        readers[i] = (struct reader){.priority = i % 2, .ms = 5, .transient = i >= 2};
    run(MOST_READERS, true);
    check_loans(MOST_READERS);
}

static void a_reader_that_exits_right_after_its_report(void)
{
    readers[0] = (struct reader){.priority = READER, .ms = 5, .exits = true};
    run(1, true);
    check_loans(1);
}

static void *read_and_exit(void *argument)
{
    be(READER);
    if (argument)
        rcu_register_thread();
    rcu_read_lock_notrace();
    go = true;
    work_ms(2);
    rcu_read_unlock_notrace();
    return NULL;
}

/* On both processors: loans to threads that end meanwhile. */
static void readers_that_come_and_go_under_real_time_waiters(void)
{
    struct rcu_notrace_stats s;
    uint64_t longest = 0;

    be(WAITER);
    for (int i = 0; i < 200; i++) {
        pthread_t thread;
        uint64_t began;

        go = false;
        thread = start(read_and_exit, i % 2 ? &go : NULL);
        while (!go)
            usleep(50);
        began = now_ns();
        synchronize_rcu();
        if (now_ns() - began > longest)
            longest = now_ns() - began;
        pthread_join(thread, NULL);
    }
    s = stats();
    printf("    200 waits, the longest %llu us; boosts %llu, unboosts %llu, died %llu\n",
           (unsigned long long)longest / 1000, (unsigned long long)s.boosts,
           (unsigned long long)s.unboosts, (unsigned long long)s.died);
    CHECK(s.boosts >= 100 && s.unboosts >= 100 && s.died == 0);
    CHECK(longest < 100000000);
}

static atomic_bool stop;

static void *read_all_the_time(void *unused)
{
    while (!stop) {
        rcu_read_lock_notrace();
        for (int i = 0; i < 2000; i++)
            __asm__ volatile("pause");
        rcu_read_unlock_notrace();
    }
    return unused;
}

static void an_ordinary_waiter_lends_nothing(void)
{
    pthread_t thread = start(read_all_the_time, NULL);
    uint64_t end = now_ns() + 300000000;

    while (now_ns() < end)
        synchronize_rcu();
    stop = true;
    pthread_join(thread, NULL);
    print_stats();
    CHECK(stats().holdouts > 0);
    CHECK(stats().boosts == 0 && stats().unboosts == 0);
}

static void refuse_lock_pi(void)
{
    /* FUTEX_LOCK_PI2, which older headers do not know. */
    refuse_futex(FUTEX_LOCK_PI, 13);
}

static void where_the_kernel_lends_nothing_the_waiter_sleeps(void)
{
    refuse_lock_pi();
    for (int i = 0; i < 2; i++)
        readers[i] = (struct reader){.priority = READER, .ms = 50, .transient = i == 0};
    run(2, false);
    printf("    waited %ld ms, which cost %llu us of processor time\n",
           ms_between(waiter_began, waiter_ended), (unsigned long long)waiter_cpu / 1000);
    CHECK(waiter_ended >= readers[0].left_at && waiter_ended >= readers[1].left_at);
    CHECK(waiter_cpu < 20000000);
    CHECK(stats().unboosts == 0);
}

/* The leader's unlock: it has done all that it could, and who waits for it finds the lock free after a while. */
static void where_an_unlock_is_refused_the_lock_is_free_all_the_same(void)
{
    refuse_futex(FUTEX_UNLOCK_PI, FUTEX_UNLOCK_PI);
    readers[0] = (struct reader){.priority = READER, .ms = 20};
    with_leader = true;
    run(1, false);
    printf("    waited %ld ms, %ld ms after the section's end\n", ms_between(waiter_began, waiter_ended),
           ms_between(readers[0].left_at, waiter_ended));
    CHECK(waiter_ended >= readers[0].left_at);
    /* The lock serves the next ones. */
    for (int i = 0; i < 3; i++)
        synchronize_rcu();
}

int main(int argc, char **argv)
{
    static const struct scenario list[] = {
        SCENARIO(a_preempted_reader_is_lent_the_waiters_priority_until_its_unlock),
        SCENARIO(an_ordinary_reader_too),
        SCENARIO(a_reader_in_its_very_first_section_too),
        SCENARIO(by_a_leader_of_low_priority_that_the_waiter_waits_for),
        SCENARIO(a_first_section_by_a_leader_of_low_priority),
        SCENARIO(several_readers_in_turn),
        SCENARIO(a_reader_that_exits_right_after_its_report),
        SCENARIO(readers_that_come_and_go_under_real_time_waiters),
        SCENARIO(an_ordinary_waiter_lends_nothing),
        SCENARIO(where_the_kernel_lends_nothing_the_waiter_sleeps),
        SCENARIO(where_an_unlock_is_refused_the_lock_is_free_all_the_same),
    };

    return RUN_SCENARIOS("boost", list, argc, argv);
}
