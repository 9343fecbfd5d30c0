/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Wake-ups and orders between two threads, where a few instructions decide. A wake-up that is lost is a delay only: who
 * sleeps looks again after half a millisecond, or after a second. So sleeps are counted, or timed against that second.
 *
 * With the breakable library the window is made wide (c-tests/broken.sh), and each scenario sees to it that something
 * happens in the window; what shows nothing without that is skipped then.
 */
#include "inject.h"
#include "test.h"

#include <sys/resource.h>

/* futex::LONGEST_SLEEP_NS is a second: who was late by half of that was not woken. */
enum { LATE_MS = 500, ROUNDS = 4 };

static bool is_wide(void)
{
    return getenv("RCU_NOTRACE_WIDEN") || getenv("RCU_NOTRACE_BROKEN");
}

static uint64_t ms_between(uint64_t from, uint64_t to)
{
    return to > from ? (to - from) / 1000000 : 0;
}

static void spin_until(uint64_t when)
{
    while (now_ns() < when)
        ;
}

/* ---- threads ----------------------------------------------------------------------------------------- */

struct thread {
    pthread_t thread;
    atomic_int tid;
    atomic_bool inside, go;
    /* When its section, or its wait, was over. */
    _Atomic uint64_t began, ended;
};

static bool is_asleep(const struct thread *t)
{
    char path[64], text[512] = "";
    const char *rest;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", t->tid);
    file = fopen(path, "r");
    CHECK(file && fgets(text, sizeof(text), file));
    fclose(file);
    rest = strrchr(text, ')');
    return rest && rest[2] == 'S';
}

static void await_sleep(const struct thread *t)
{
    while (!t->tid || !is_asleep(t))
        usleep(100);
}

static void section(struct thread *t)
{
    rcu_read_lock_notrace();
    t->inside = true;
    while (!t->go)
        usleep(50);
    t->ended = now_ns();
    rcu_read_unlock_notrace();
}

static void *read_listed(void *argument)
{
    rcu_register_thread();
    section(argument);
    return NULL;
}

/* A thread's first section is counted. */
static void *read_counted(void *argument)
{
    section(argument);
    return NULL;
}

static void *wait_once(void *argument)
{
    struct thread *t = argument;

    t->began = now_ns();
    t->tid = (int)syscall(SYS_gettid);
    synchronize_rcu();
    t->ended = now_ns();
    return NULL;
}

static void begin(struct thread *t, void *(*run)(void *))
{
    memset(t, 0, sizeof(*t));
    t->thread = start(run, t);
}

static void begin_section(struct thread *t, void *(*run)(void *))
{
    begin(t, run);
    while (!t->inside)
        usleep(50);
}

static void end_section(struct thread *t)
{
    t->go = true;
    pthread_join(t->thread, NULL);
}

/* ---- who waits for a leader ---------------------------------------------------------------------------- */

/* What the second caller is doing when the leader's grace period ends. */
enum when { ASLEEP, ON_ITS_WAY, NOT_YET_THERE };

static void second_caller(enum when when)
{
    int late = 0, met = 0, round;
    uint64_t longest = 0;

    for (round = 0; round < ROUNDS && late <= ROUNDS / 2; round++) {
        struct thread reader, leader, second;
        uint64_t ms;

        begin_section(&reader, read_listed);
        begin(&leader, wait_once);
        await_sleep(&leader);
        if (when != NOT_YET_THERE) {
            begin(&second, wait_once);
            if (when == ASLEEP)
                await_sleep(&second);
            else
                sleep_ms(10);
        }
        reader.go = true;
        if (when == NOT_YET_THERE) {
            sleep_ms(10);
            begin(&second, wait_once);
        }
        pthread_join(reader.thread, NULL);
        pthread_join(leader.thread, NULL);
        pthread_join(second.thread, NULL);
        met += second.began < leader.ended;
        ms = ms_between(leader.ended > second.began ? leader.ended : second.began, second.ended);
        longest = ms > longest ? ms : longest;
        late += ms >= LATE_MS;
    }
    printf("    %d rounds, in %d the second came before the leader had gone; late %d, the longest by %llu ms\n", round,
           met, late, (unsigned long long)longest);
    CHECK(late <= ROUNDS / 2);
    /* Else the leader is gone by then. */
    if (when != NOT_YET_THERE || is_wide())
        CHECK(met >= ROUNDS / 2);
}

static void who_sleeps_behind_a_leader_is_woken_at_its_end(void)
{
    second_caller(ASLEEP);
}

static void who_is_about_to_sleep_behind_a_leader_sees_its_end(void)
{
    second_caller(ON_ITS_WAY);
}

static void who_comes_while_a_leader_is_leaving_does_not_sleep(void)
{
    second_caller(NOT_YET_THERE);
}

/* ---- the registry's lock --------------------------------------------------------------------------------- */

enum { LEAVERS = 3, DEPARTURES = 1500 };

static atomic_int departures, late_departures;
static _Atomic uint64_t longest_departure;

static void *come_and_go(void *unused)
{
    for (int i = 0; i < DEPARTURES && late_departures < ROUNDS; i++) {
        uint64_t begun, ms;

        rcu_register_thread();
        begun = now_ns();
        rcu_unregister_thread();
        ms = ms_between(begun, now_ns());
        departures++;
        late_departures += ms >= LATE_MS;
        if (ms > longest_departure)
            longest_departure = ms;
    }
    return unused;
}

static void who_queues_for_the_registrys_lock_is_woken(void)
{
    pthread_t threads[LEAVERS];

    for (int i = 0; i < LEAVERS; i++)
        threads[i] = start(come_and_go, NULL);
    for (int i = 0; i < LEAVERS; i++)
        pthread_join(threads[i], NULL);
    printf("    %d departures, late %d, the longest %llu ms\n", departures, late_departures,
           (unsigned long long)longest_departure);
    CHECK(late_departures < ROUNDS);
    CHECK(departures == LEAVERS * DEPARTURES);
}

/* ---- the waiter and the last report -------------------------------------------------------------------------- */

static _Atomic uint64_t leave_at;

/* Leaves its section at that time, on a processor of its own. */
static void *leave_on_time(void *argument)
{
    struct thread *t = argument;

    rcu_register_thread();
    rcu_read_lock_notrace();
    t->inside = true;
    while (!leave_at)
        ;
    spin_until(leave_at);
    t->ended = now_ns();
    rcu_read_unlock_notrace();
    return NULL;
}

static long voluntary_switches(void)
{
    struct rusage usage;

    CHECK(getrusage(RUSAGE_THREAD, &usage) == 0);
    return usage.ru_nvcsw;
}

/*
 * The window, 2 ms, is between the end of the waiter's spinning, 0.2 ms at most, and its falling asleep. A section that
 * ends in it, even before the waiter was there, leaves nothing to sleep for: however busy the machine is.
 */
static void a_waiter_does_not_sleep_when_the_last_report_is_in(void)
{
    enum { SECTIONS = 150 };
    int met = 0, slept = 0;

    if (!is_wide())
        skip("where the window is not wide a section does not end in it");
    for (int i = 0; i < SECTIONS; i++) {
        struct thread reader;
        uint64_t begun;
        long before;

        leave_at = 0;
        begin_section(&reader, leave_on_time);
        before = voluntary_switches();
        begun = now_ns();
        leave_at = begun + 700000;
        synchronize_rcu();
        before = voluntary_switches() - before;
        pthread_join(reader.thread, NULL);
        if (reader.ended < begun + 400000 || reader.ended > begun + 1500000)
            continue;
        met++;
        slept += before > 0;
    }
    printf("    of %d sections %d ended in the window; the waiter slept in %d of these\n", SECTIONS, met, slept);
    CHECK(met >= 10 && slept * 4 <= met);
}

/* ---- an IPI and its mark ---------------------------------------------------------------------------------------- */

static atomic_int asked_for, was_in;

static void *be_outside(void *unused)
{
    rcu_register_thread();
    was_in = 1;
    while (!asked_for)
        ;
    return unused;
}

/*
 * The handler may run before the call that sends the signal returns: that lasts 3 ms here. A thread's first IPI: a mark
 * that came too late for one would do for the next.
 */
static void an_ipi_is_answered_however_early_it_comes(void)
{
    enum { IPIS = 40 };
    struct rcu_notrace_stats before = stats();
    unsigned long long answered;

    if (rcu_notrace_get_ipi_mode() != RCU_NOTRACE_IPI_SIGNAL)
        skip("IPIs are rare in this mode");
    if (!is_wide())
        skip("where the window is not wide a busy machine's thread is late for it");
    for (int round = 0; round < IPIS; round++) {
        pthread_t thread;

        asked_for = was_in = 0;
        thread = start(be_outside, NULL);
        while (!was_in)
            ;
        synchronize_rcu();
        asked_for = 1;
        pthread_join(thread, NULL);
    }
    answered = stats().reports_by_handler - before.reports_by_handler;
    printf("    %llu IPIs, %llu of %d requests answered by the handler\n",
           (unsigned long long)(stats().ipis - before.ipis), answered, IPIS);
    CHECK(stats().ipis - before.ipis >= IPIS);
    CHECK(answered >= IPIS / 2);
}

/* ---- a mark that stays -------------------------------------------------------------------------------------------- */

static const int barriers[] = {SYS_membarrier, -1};

static atomic_bool no_more;

static void *read_through_a_refusal(void *argument)
{
    struct thread *t = argument;
    unsigned long refused;

    for (int round = 1;; round += 2) {
        while (asked_for < round) {
            if (no_more)
                return NULL;
            usleep(50);
        }
        /* Listed anew. */
        rcu_register_thread();
        rcu_read_lock_notrace();
        rcu_read_unlock_notrace();
        was_in = round;
        while (!t->go)
            usleep(50);
        refused = injected(barriers);
        rcu_read_lock_notrace();
        t->inside = true;
        while (injected(barriers) == refused)
            usleep(50);
        sleep_ms(2);
        rcu_read_unlock_notrace();
        while (asked_for < round + 1)
            usleep(50);
        rcu_read_lock_notrace();
        was_in = round + 1;
        while (!leave_at)
            ;
        spin_until(leave_at);
        t->ended = now_ns();
        rcu_read_unlock_notrace();
    }
}

/*
 * A reader that was idle for long is about to be parked when the barrier fails for want of memory, once. The next grace
 * period asks it just as its section has ended, and takes its request back, or waits for ever.
 */
static void a_mark_that_a_failing_barrier_left_drops_no_request(void)
{
    struct thread reader;
    unsigned long refused;
    int met = 0, round;

    if (rcu_notrace_get_ipi_mode() != RCU_NOTRACE_IPI_AUTO)
        skip("only in mode auto");
    if (!inject_prepare() || !inject(barriers, ENOMEM, false))
        skip("no seccomp supervision here: %s", strerror(errno));
    begin(&reader, read_through_a_refusal);
    /* On a busy machine the window may be missed more often. */
    for (round = 1; round <= 2 * ROUNDS || (is_wide() && !met && round <= 20 * ROUNDS); round += 2) {
        uint64_t begun;

        reader.go = reader.inside = false;
        leave_at = 0;
        /* Parked by now. */
        for (int i = 0; i < 20; i++)
            synchronize_rcu();
        asked_for = round;
        while (was_in < round)
            usleep(50);
        /* PARK_AFTER. */
        for (int i = 0; i < 8; i++)
            synchronize_rcu();
        reader.go = true;
        while (!reader.inside)
            usleep(50);
        refused = injected(barriers);
        inject_arm(true);
        synchronize_rcu();
        inject_arm(false);
        CHECK(injected(barriers) > refused);
        asked_for = round + 1;
        while (was_in < round + 1)
            usleep(50);
        begun = now_ns();
        leave_at = begun + 700000;
        synchronize_rcu();
        met += reader.ended > begun + 200000 && reader.ended < begun + 2000000;
    }
    no_more = true;
    pthread_join(reader.thread, NULL);
    printf("    %lu barriers refused; in %d of %d rounds the section ended in the window\n", injected(barriers), met,
           round / 2);
    CHECK(!is_wide() || met >= 1);
}

/* ---- cookies ----------------------------------------------------------------------------------------------------------- */

/* The section is older than the cookie, and listed: reported. */
static void a_poll_says_no_as_long_as_the_section_lasts(void)
{
    unsigned long polls = 0;

    for (int round = 0; round < ROUNDS; round++) {
        struct thread reader, waiter;
        unsigned long cookie;

        begin_section(&reader, read_listed);
        cookie = get_state_synchronize_rcu();
        begin(&waiter, wait_once);
        await_sleep(&waiter);
        for (int i = 0; i < 1000; i++, polls++)
            CHECK(!poll_state_synchronize_rcu(cookie));
        CHECK(!waiter.ended);
        end_section(&reader);
        pthread_join(waiter.thread, NULL);
        CHECK(poll_state_synchronize_rcu(cookie));
    }
    printf("    %lu polls of %d cookies in vain, while a waiter slept\n", polls, ROUNDS);
}

/*
 * A grace period waits for counted sections when another begins, which it need not wait for. A cookie that is taken
 * then is younger than that section: the end of this grace period is not enough for it.
 */
static void a_cookie_that_is_taken_while_counted_sections_end_wants_the_next_grace_period(void)
{
    int met = 0;

    for (int round = 0; round < ROUNDS; round++) {
        struct thread first, second, waiter;
        unsigned long cookie;
        uint64_t begun;

        begin_section(&first, read_counted);
        begin(&waiter, wait_once);
        await_sleep(&waiter);
        begin_section(&second, read_counted);
        cookie = get_state_synchronize_rcu();
        end_section(&first);
        begun = now_ns();
        while (!waiter.ended && ms_between(begun, now_ns()) < 1000)
            usleep(100);
        met += waiter.ended != 0;
        CHECK(!poll_state_synchronize_rcu(cookie));
        end_section(&second);
        pthread_join(waiter.thread, NULL);
        synchronize_rcu();
        CHECK(poll_state_synchronize_rcu(cookie));
    }
    printf("    in %d of %d rounds the grace period ended, and the cookie's had not\n", met, ROUNDS);
    CHECK(met > 0);
}

int main(int argc, char **argv)
{
    static const struct scenario list[] = {
        SCENARIO(who_sleeps_behind_a_leader_is_woken_at_its_end),
        SCENARIO(who_is_about_to_sleep_behind_a_leader_sees_its_end),
        SCENARIO(who_comes_while_a_leader_is_leaving_does_not_sleep),
        SCENARIO(who_queues_for_the_registrys_lock_is_woken),
        SCENARIO(a_waiter_does_not_sleep_when_the_last_report_is_in),
        SCENARIO(an_ipi_is_answered_however_early_it_comes),
        SCENARIO(a_mark_that_a_failing_barrier_left_drops_no_request),
        SCENARIO(a_poll_says_no_as_long_as_the_section_lasts),
        SCENARIO(a_cookie_that_is_taken_while_counted_sections_end_wants_the_next_grace_period),
    };

    return RUN_SCENARIOS("waits", list, argc, argv);
}
