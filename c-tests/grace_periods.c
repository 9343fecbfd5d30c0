/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Grace periods: whom they wait for, whom they leave alone, and whom they reach how. */
#include "supervise.h"
#include "test.h"

#include <poll.h>

static int mode(void)
{
    return rcu_notrace_get_ipi_mode();
}

/* ---- a reader with one section, which the test opens and closes ------------------------------ */

struct holder {
    pthread_t thread;
    void (*prepare)(void);
    bool spins;
    atomic_bool inside, leave, left;
    uint64_t left_at;
};

static void *hold(void *argument)
{
    struct holder *h = argument;

    if (h->prepare)
        h->prepare();
    rcu_register_thread();
    rcu_read_lock_notrace();
    h->inside = true;
    while (!h->leave)
        if (!h->spins)
            sleep_ms(1);
    h->left_at = now_ns();
    h->left = true;
    rcu_read_unlock_notrace();
    /* It is this unlock that must report: neither the next lock nor the thread's exit. */
    sleep_ms(100);
    return NULL;
}

static void enter(struct holder *h, bool spins, void (*prepare)(void))
{
    memset(h, 0, sizeof(*h));
    h->spins = spins;
    h->prepare = prepare;
    h->thread = start(hold, h);
    while (!h->inside)
        sleep_ms(1);
}

static void *leave_later(void *argument)
{
    struct holder *h = argument;

    sleep_ms(50);
    h->leave = true;
    return NULL;
}

/* Waits for a grace period that the holder's section must hold up for 50 ms. Answers how long the
 * waiter went on after the section had ended. */
static uint64_t wait_out(struct holder *h)
{
    pthread_t leaver = start(leave_later, h);
    uint64_t ended;

    synchronize_rcu();
    ended = now_ns();
    CHECK(h->left);
    pthread_join(leaver, NULL);
    pthread_join(h->thread, NULL);
    return ended - h->left_at;
}

static void report_is_prompt(uint64_t late)
{
    printf("    the waiter went on %llu us after the section's end\n",
           (unsigned long long)late / 1000);
    /* A wake-up takes microseconds; a poll would take its period. Slack for a busy machine. */
    CHECK(late < 50000000);
}

/* Its unlock reports, and by itself: no rescue. On a busy machine a signal may come so late that
 * there is one, but not every time. */
static void unlock_reports(bool spins)
{
    struct rcu_notrace_stats before, after;
    struct holder h;
    int tries = 0;

    do {
        before = stats();
        enter(&h, spins, NULL);
        report_is_prompt(wait_out(&h));
        after = stats();
    } while (after.rescues != before.rescues && ++tries < 5);
    print_stats();
    CHECK(after.reports_by_section > before.reports_by_section);
    CHECK(after.wakes > before.wakes);
    CHECK(after.rescues == before.rescues);
}

static void a_blocked_reader_is_waited_for_and_its_unlock_reports(void)
{
    unlock_reports(false);
}

static void a_running_reader_is_waited_for_and_its_unlock_reports(void)
{
    unlock_reports(true);
}

static void block_ipi(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGURG);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void a_reader_that_blocks_the_ipi_is_rescued_by_a_remote_flag(void)
{
    struct holder h;

    if (mode() != RCU_NOTRACE_IPI_SIGNAL)
        skip("in this mode a section as long as this is flagged without a signal");
    enter(&h, true, block_ipi);
    report_is_prompt(wait_out(&h));
    print_stats();
    CHECK(stats().rescues >= 1);
}

static atomic_int strangers;

static void on_stranger(int signal)
{
    (void)signal;
    strangers++;
}

static void a_reader_whose_program_took_the_signal_over_is_rescued(void)
{
    struct sigaction action = {.sa_handler = on_stranger};
    struct holder h;

    if (mode() != RCU_NOTRACE_IPI_SIGNAL)
        skip("in this mode a section as long as this is flagged without a signal");
    enter(&h, true, NULL);
    wait_out(&h);
    sigaction(SIGURG, &action, NULL);
    enter(&h, true, NULL);
    report_is_prompt(wait_out(&h));
    print_stats();
    CHECK(stats().rescues >= 1);
}

static void *wait_once(void *unused)
{
    synchronize_rcu();
    return unused;
}

static void a_late_ipi_taints_nothing(void)
{
    sigset_t set;

    if (mode() != RCU_NOTRACE_IPI_SIGNAL)
        skip("only mode signal sends one to an idle thread");
    sigemptyset(&set);
    sigaddset(&set, SIGURG);
    for (int i = 0; i < 100; i++) {
        struct holder h;
        uint64_t before;

        /* Blocked here: another thread's IPI stays pending until the request is long gone. */
        pthread_sigmask(SIG_BLOCK, &set, NULL);
        rcu_register_thread();
        enter(&h, false, NULL);
        h.leave = true;
        pthread_join(h.thread, NULL);
        pthread_join(start(wait_once, NULL), NULL);
        before = stats().reports_by_handler;
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);
        CHECK(stats().reports_by_handler == before);
        synchronize_rcu();
    }
    print_stats();
    CHECK(stats().ipis >= 10);
}

static void the_programs_own_handler_misses_nothing(void)
{
    struct sigaction action = {.sa_handler = on_stranger};
    struct holder h;

    if (mode() != RCU_NOTRACE_IPI_SIGNAL)
        skip("in this mode a section as long as this is flagged without a signal");
    sigaction(SIGURG, &action, NULL);
    enter(&h, true, NULL);
    wait_out(&h);
    CHECK(stats().ipis >= 1);
    strangers = 0;
    kill(getpid(), SIGURG);
    CHECK(strangers == 1);
    raise(SIGURG);
    CHECK(strangers == 2);
    print_stats();
}

static atomic_bool idle_done;
static atomic_int interrupted;

static void *idle(void *unused)
{
    (void)unused;
    rcu_register_thread();
    while (!idle_done)
        if (poll(NULL, 0, 20) < 0 && errno == EINTR)
            interrupted++;
    return NULL;
}

static void an_idle_thread_never_sees_a_signal(void)
{
    pthread_t threads[8];

    if (mode() == RCU_NOTRACE_IPI_SIGNAL)
        skip("in this mode the signal is the barrier");
    for (int i = 0; i < 8; i++)
        threads[i] = start(idle, NULL);
    sleep_ms(20);
    for (int i = 0; i < 2000; i++)
        synchronize_rcu();
    idle_done = true;
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    print_stats();
    CHECK(interrupted == 0 && stats().ipis == 0 && stats().grace_periods >= 2000);
}

static void *wait_often(void *unused)
{
    (void)unused;
    for (int i = 0; i < 500; i++)
        synchronize_rcu();
    return NULL;
}

static void concurrent_callers_share_grace_periods(void)
{
    struct holder h;
    pthread_t threads[8];

    enter(&h, true, NULL);
    for (int i = 0; i < 8; i++)
        threads[i] = start(wait_often, NULL);
    sleep_ms(20);
    h.leave = true;
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    pthread_join(h.thread, NULL);
    print_stats();
    CHECK(stats().shared >= 6);
    CHECK(stats().grace_periods + stats().shared == 8 * 500);
}

/* The sequence starts 300 grace periods before its wrap: this goes through it. */
static void cookies_tell_whether_a_grace_period_has_passed_also_through_the_wrap(void)
{
    unsigned wraps = 0;

    for (int i = 0; i < 1000; i++) {
        unsigned long cookie = get_state_synchronize_rcu(), next;
        uint64_t before;

        CHECK(!poll_state_synchronize_rcu(cookie));
        before = stats().grace_periods;
        if (i % 2)
            cond_synchronize_rcu(cookie);
        else
            synchronize_rcu();
        CHECK(stats().grace_periods == before + 1);
        CHECK(poll_state_synchronize_rcu(cookie));
        cond_synchronize_rcu(cookie);
        CHECK(stats().grace_periods == before + 1);
        next = get_state_synchronize_rcu();
        wraps += next < cookie;
    }
    printf("    the sequence wrapped %u times\n", wraps);
    CHECK(wraps == 1);
}

static void a_cookie_taken_in_the_middle_of_a_grace_period_needs_the_next_one_too(void)
{
    pthread_t leaver, waiter;
    unsigned long cookie;
    struct holder h;

    enter(&h, false, NULL);
    waiter = start(wait_once, NULL);
    sleep_ms(30);
    cookie = get_state_synchronize_rcu();
    leaver = start(leave_later, &h);
    pthread_join(waiter, NULL);
    CHECK(!poll_state_synchronize_rcu(cookie));
    synchronize_rcu();
    CHECK(poll_state_synchronize_rcu(cookie));
    pthread_join(leaver, NULL);
    pthread_join(h.thread, NULL);
}

/* ---- in a hurry or not -------------------------------------------------------------------------- */

static atomic_bool long_done;
static atomic_uint wanted_sections, begun_sections;

/* One section of 0.3 ms each time that one is wanted. */
static void *long_sections(void *unused)
{
    unsigned sections = 0;

    /* Away from the waiter, whose wake-up would else put it off its processor. */
    pin(1);
    rcu_register_thread();
    while (!long_done) {
        uint64_t begin = now_ns();

        if (wanted_sections == sections)
            continue;
        sections++;
        rcu_read_lock_notrace();
        begun_sections = sections;
        while (now_ns() - begin < 300000)
            ;
        rcu_read_unlock_notrace();
    }
    return unused;
}

enum { LONG_SECTIONS = 100 };

static void count_waits(const char *name, void (*wait)(void), struct rcu_notrace_stats *used)
{
    struct rcu_notrace_stats before = stats(), after;
    uint64_t waited = 0, begin;

    for (int i = 0; i < LONG_SECTIONS; i++) {
        /* One that was in the way the last time is flagged before the barrier; so not this one. */
        synchronize_rcu();
        synchronize_rcu();
        wanted_sections++;
        while (begun_sections != wanted_sections)
            ;
        begin = now_ns();
        wait();
        waited += now_ns() - begin;
    }
    after = stats();
    used->ipis = after.ipis - before.ipis;
    used->barriers = after.barriers - before.barriers;
    printf("    %d of %s: %llu us each, %llu IPIs, %llu barriers\n", LONG_SECTIONS, name,
           (unsigned long long)waited / 1000 / LONG_SECTIONS, (unsigned long long)used->ipis,
           (unsigned long long)used->barriers);
}

static void only_an_expedited_wait_signals_a_reader_that_stays_in_its_section(void)
{
    struct rcu_notrace_stats plain, expedited;
    pthread_t reader;

    if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
        skip("one processor");
    reader = start(long_sections, NULL);
    pin(0);
    count_waits("synchronize_rcu", synchronize_rcu, &plain);
    count_waits("synchronize_rcu_expedited", synchronize_rcu_expedited, &expedited);
    long_done = true;
    pthread_join(reader, NULL);
    if (mode() == RCU_NOTRACE_IPI_AUTO)
        /* On a busy machine some sections end before anybody looks. */
        CHECK(plain.ipis == 0 && expedited.ipis >= 10 && expedited.barriers < plain.barriers);
    else if (mode() == RCU_NOTRACE_IPI_SIGNAL)
        CHECK(plain.ipis >= 10 && expedited.ipis >= 10);
    else
        CHECK(plain.ipis == 0 && expedited.ipis == 0);
}

/* ---- what the kernel is asked, and what it refuses ------------------------------------------- */

enum { COUNTED = 50 };

static void *wait_under_supervision(void *unused)
{
    if (!be_supervised())
        return unused;
    /* In its first wait a thread learns its id. */
    synchronize_rcu();
    counting = true;
    for (int i = 0; i < COUNTED; i++)
        synchronize_rcu();
    counting = false;
    return unused;
}

static void idle_readers_cost_a_membarrier_a_wait_until_parked_and_then_no_system_call(void)
{
    pthread_t threads[16];

    if (mode() == RCU_NOTRACE_IPI_SIGNAL)
        skip("in this mode the signals are the barrier");
    for (int i = 0; i < 16; i++)
        threads[i] = start(idle, NULL);
    sleep_ms(20);
    start(supervise, NULL);
    pthread_join(start(wait_under_supervision, NULL), NULL);
    if (listener < 0)
        skip("no seccomp supervision here");
    printf("    %d waits beside 16 idle readers: %d membarrier, %d tgkill, %d other system calls\n",
           COUNTED, membarriers, tgkills, other_calls);
    /* Parked after eight grace periods in which they were idle. */
    CHECK(membarriers >= 8 && membarriers <= 10 && tgkills == 0 && other_calls == 0);
    idle_done = true;
    for (int i = 0; i < 16; i++)
        pthread_join(threads[i], NULL);
}

static void a_sandbox_entered_on_the_way_makes_the_mode_signal(void)
{
    struct holder h;
    uint64_t before;

    synchronize_rcu();
    refuse_membarrier();
    enter(&h, true, NULL);
    before = stats().ipis;
    report_is_prompt(wait_out(&h));
    print_stats();
    CHECK(mode() == RCU_NOTRACE_IPI_SIGNAL);
    CHECK(stats().ipis > before);
    CHECK(rcu_notrace_set_ipi_mode(RCU_NOTRACE_IPI_MEMBARRIER) == -ENOSYS);
    CHECK(mode() == RCU_NOTRACE_IPI_SIGNAL);
}

/* A new program under the filter: the library starts where membarrier is refused. */
static void where_membarrier_is_refused_from_the_start_the_mode_is_signal(void)
{
    refuse_membarrier();
    execl("/proc/self/exe", "grace_periods", "--sandboxed", (char *)NULL);
    fail("exec: %s", strerror(errno));
}

static int sandboxed(void)
{
    struct holder h;

    CHECK(mode() == RCU_NOTRACE_IPI_SIGNAL);
    enter(&h, true, NULL);
    report_is_prompt(wait_out(&h));
    print_stats();
    CHECK(stats().barriers == 0 && stats().ipis >= 1);
    return PASS;
}

static void modes_change_at_run_time(void)
{
    struct holder h;

    for (int i = 0; i < 12; i++) {
        int next = i % 3;

        CHECK(rcu_notrace_set_ipi_mode(next) == 0);
        CHECK(mode() == next);
        enter(&h, i % 2, NULL);
        h.leave = true;
        synchronize_rcu();
        pthread_join(h.thread, NULL);
    }
    print_stats();
}

int main(int argc, char **argv)
{
    static const struct scenario list[] = {
        SCENARIO(a_blocked_reader_is_waited_for_and_its_unlock_reports),
        SCENARIO(a_running_reader_is_waited_for_and_its_unlock_reports),
        SCENARIO(a_reader_that_blocks_the_ipi_is_rescued_by_a_remote_flag),
        SCENARIO(a_reader_whose_program_took_the_signal_over_is_rescued),
        SCENARIO(a_late_ipi_taints_nothing),
        SCENARIO(the_programs_own_handler_misses_nothing),
        SCENARIO(an_idle_thread_never_sees_a_signal),
        SCENARIO(concurrent_callers_share_grace_periods),
        SCENARIO(cookies_tell_whether_a_grace_period_has_passed_also_through_the_wrap),
        SCENARIO(a_cookie_taken_in_the_middle_of_a_grace_period_needs_the_next_one_too),
        SCENARIO(only_an_expedited_wait_signals_a_reader_that_stays_in_its_section),
        SCENARIO(idle_readers_cost_a_membarrier_a_wait_until_parked_and_then_no_system_call),
        SCENARIO(a_sandbox_entered_on_the_way_makes_the_mode_signal),
        SCENARIO(where_membarrier_is_refused_from_the_start_the_mode_is_signal),
        SCENARIO(modes_change_at_run_time),
    };

    if (argc > 1 && !strcmp(argv[1], "--sandboxed"))
        return sandboxed();
    return RUN_SCENARIOS("grace_periods", list, argc, argv);
}
