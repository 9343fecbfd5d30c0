/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Reports of grace periods that take too long: who, why, where, and nothing else changes. */
#include "test.h"

#include <link.h>

/* ---- what is reported, caught by a stall handler --------------------------------------------- */

enum { MOST = 64, ROOM = 16384 };

static struct {
    struct rcu_notrace_stall stall;
    char text[ROOM];
} reports[MOST];
static _Atomic int count;

static int catch(const struct rcu_notrace_stall *stall, void *data)
{
    if (count < MOST) {
        reports[count].stall = *stall;
        snprintf(reports[count].text, ROOM, "%s", stall->text);
        count++;
    }
    CHECK(stall->size == sizeof(*stall));
    return *(int *)data;
}

/* The report about a thread, with that in it, waited for for a while. Where others keep the processors busy, a later
 * one: the signal had not been delivered when the first was made, or the sleeper was about to sleep again. */
static int report_of(pid_t tid, const char *with)
{
    for (int round = 0; round < 5000; round++) {
        for (int r = 0; r < count; r++)
            if (reports[r].stall.tid == tid && reports[r].stall.ipi != RCU_NOTRACE_STALL_IPI_PENDING &&
                strstr(reports[r].text, with))
                return r;
        sleep_ms(1);
    }
    fail("no report about thread %d", tid);
}

static void expect(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail("\"%s\" is not in: %s", part, text);
}

/* ---- a reader that stalls -------------------------------------------------------------------- */

enum how { SLEEPS, SPINS, BLOCKS, WAITS_FOR_SIGNALS, FIRST_SECTION };

static _Atomic pid_t tid;
static atomic_bool go_on;
static enum how how;

__attribute__((noinline, used)) void stalled_function(void)
{
    sigset_t urgent;

    sigemptyset(&urgent);
    sigaddset(&urgent, SIGURG);
    tid = (pid_t)syscall(SYS_gettid);
    while (!go_on)
        if (how == WAITS_FOR_SIGNALS) {
            struct timespec limit = {0, 1000000};

            sigtimedwait(&urgent, NULL, &limit);
        } else if (how != SPINS) {
            /* Long: it is to be asleep when it is looked at, on a busy machine too. */
            sleep_ms(50);
        }
    __asm__ volatile("");
}

__attribute__((noinline, used)) void its_caller(void)
{
    stalled_function();
    __asm__ volatile("");
}

static void *reader(void *unused)
{
    sigset_t urgent;

    sigemptyset(&urgent);
    sigaddset(&urgent, SIGURG);
    if (how == BLOCKS || how == WAITS_FOR_SIGNALS)
        pthread_sigmask(SIG_BLOCK, &urgent, NULL);
    pthread_setname_np(pthread_self(), "the culprit");
    if (how != FIRST_SECTION)
        rcu_register_thread();
    rcu_read_lock_notrace();
    rcu_read_lock_notrace();
    its_caller();
    rcu_read_unlock_notrace();
    rcu_read_unlock_notrace();
    return unused;
}

static void *waiter(void *unused)
{
    synchronize_rcu();
    return unused;
}

/* Lets a reader stall and a waiter report it; the report's number. */
static int stall(enum how as)
{
    static int quiet = 1;
    pthread_t r, w;
    int number;

    how = as;
    rcu_notrace_set_stall_ms(50);
    rcu_notrace_set_stall_handler(catch, &quiet);
    r = start(reader, NULL);
    while (!tid)
        sleep_ms(1);
    w = start(waiter, NULL);
    number = report_of(tid, as == SLEEPS ? "state S (sleeping)" : "");
    go_on = true;
    pthread_join(r, NULL);
    pthread_join(w, NULL);
    CHECK(stats().stalls > 0);
    printf("%s", reports[number].text);
    return number;
}

static void a_sleeping_reader_is_named_with_its_state_and_its_calls(void)
{
    const char *text = reports[stall(SLEEPS)].text;

    expect(text, "the culprit");
    expect(text, "nesting 2");
    expect(text, "state S (sleeping)");
    if (rcu_notrace_get_ipi_mode() == RCU_NOTRACE_IPI_MEMBARRIER) {
        expect(text, "IPI not sent");
        return;
    }
    expect(text, "IPI answered");
    expect(text, "stalled_function");
    expect(text, "its_caller");
    CHECK(strstr(text, "stalled_function") < strstr(text, "its_caller"));
}

static void a_spinning_reader_is_caught_where_it_spins(void)
{
    int number = stall(SPINS);

    if (rcu_notrace_get_ipi_mode() == RCU_NOTRACE_IPI_MEMBARRIER)
        skip("mode membarrier sends no signal");
    CHECK(reports[number].stall.ipi == RCU_NOTRACE_STALL_IPI_ANSWERED);
    CHECK(reports[number].stall.nesting == 2);
    CHECK(reports[number].stall.waited_ms >= 50);
    expect(reports[number].text, "#0 stalled_function");
}

static void a_reader_in_its_threads_first_section_is_named_too(void)
{
    const char *text = reports[stall(FIRST_SECTION)].text;

    CHECK(stats().transient_waits > 0);
    expect(text, "the culprit");
    if (rcu_notrace_get_ipi_mode() != RCU_NOTRACE_IPI_MEMBARRIER)
        expect(text, "stalled_function");
}

static void a_reader_that_blocks_the_signal_is_told_from_one_that_steals_it(void)
{
    int number;

    if (rcu_notrace_get_ipi_mode() == RCU_NOTRACE_IPI_MEMBARRIER)
        skip("mode membarrier sends no signal");
    number = stall(BLOCKS);
    CHECK(reports[number].stall.ipi == RCU_NOTRACE_STALL_IPI_BLOCKED);
    expect(reports[number].text, "blocked by the thread");
}

static void a_reader_that_waits_for_the_signal_itself_is_said_to_steal_it(void)
{
    int number, ipi;

    if (rcu_notrace_get_ipi_mode() == RCU_NOTRACE_IPI_MEMBARRIER)
        skip("mode membarrier sends no signal");
    number = stall(WAITS_FOR_SIGNALS);
    ipi = reports[number].stall.ipi;
    /* While sigtimedwait runs it unblocks the signal; between two calls the thread blocks it. */
    CHECK(ipi == RCU_NOTRACE_STALL_IPI_STOLEN || ipi == RCU_NOTRACE_STALL_IPI_BLOCKED);
}

static void nothing(int signal)
{
    (void)signal;
}

static void a_program_that_replaces_or_ignores_the_handler_is_told_so(void)
{
    static const struct {
        void (*handler)(int);
        int ipi;
    } cases[] = {{SIG_IGN, RCU_NOTRACE_STALL_IPI_IGNORED},
                 {nothing, RCU_NOTRACE_STALL_IPI_REPLACED}};

    if (rcu_notrace_get_ipi_mode() == RCU_NOTRACE_IPI_MEMBARRIER)
        skip("mode membarrier sends no signal");
    /* Installs the handler. */
    stall(SPINS);
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        int number;

        signal(SIGURG, cases[c].handler);
        count = 0;
        tid = 0;
        go_on = false;
        number = stall(SPINS);
        CHECK(reports[number].stall.ipi == cases[c].ipi);
    }
}

static void reports_come_at_growing_intervals_and_name_the_waiter(void)
{
    static int quiet = 1;
    pthread_t r, w;
    unsigned long long last = 0;
    int heads = 0, waiters = 0;

    how = SLEEPS;
    rcu_notrace_set_stall_ms(100);
    rcu_notrace_set_stall_handler(catch, &quiet);
    r = start(reader, NULL);
    while (!tid)
        sleep_ms(1);
    w = start(waiter, NULL);
    sleep_ms(1500);
    go_on = true;
    pthread_join(r, NULL);
    pthread_join(w, NULL);
    for (int i = 0; i < count; i++) {
        if (strstr(reports[i].text, "sequence")) {
            printf("    at %llu ms\n", (unsigned long long)reports[i].stall.waited_ms);
            CHECK(reports[i].stall.waited_ms >= 2 * last);
            last = reports[i].stall.waited_ms;
            heads++;
        }
        if (strstr(reports[i].text, "waits in synchronize_rcu")) {
            expect(reports[i].text, "waiter");
            waiters++;
        }
    }
    CHECK(heads >= 2 && heads <= 5 && waiters == heads);
    CHECK(stats().stalls == (uint64_t)heads);
}

static void a_stall_with_no_handler_is_printed(void)
{
    pthread_t r, w;

    how = SLEEPS;
    rcu_notrace_set_stall_ms(50);
    r = start(reader, NULL);
    while (!tid)
        sleep_ms(1);
    w = start(waiter, NULL);
    while (!stats().stalls)
        sleep_ms(1);
    sleep_ms(50);
    go_on = true;
    pthread_join(r, NULL);
    pthread_join(w, NULL);
}

static void nothing_is_reported_when_that_is_turned_off(void)
{
    static int quiet = 1;
    pthread_t r, w;

    how = SLEEPS;
    rcu_notrace_set_stall_ms(0);
    rcu_notrace_set_stall_handler(catch, &quiet);
    r = start(reader, NULL);
    while (!tid)
        sleep_ms(1);
    w = start(waiter, NULL);
    sleep_ms(500);
    go_on = true;
    pthread_join(r, NULL);
    pthread_join(w, NULL);
    CHECK(count == 0 && stats().stalls == 0);
}

/* Called with the loader's lock held; a report that wants it would hang. */
static int stall_in_the_loader(struct dl_phdr_info *info, size_t size, void *unused)
{
    (void)info, (void)size, (void)unused;
    flockfile(stderr);
    tid = (pid_t)syscall(SYS_gettid);
    while (!go_on)
        sleep_ms(1);
    funlockfile(stderr);
    return 1;
}

static void *reader_in_the_loader(void *unused)
{
    rcu_register_thread();
    rcu_read_lock_notrace();
    dl_iterate_phdr(stall_in_the_loader, NULL);
    rcu_read_unlock_notrace();
    return unused;
}

static void a_report_takes_no_lock_that_a_stalled_reader_may_hold(void)
{
    pthread_t r, w;

    rcu_notrace_set_stall_ms(50);
    r = start(reader_in_the_loader, NULL);
    while (!tid)
        sleep_ms(1);
    w = start(waiter, NULL);
    for (int round = 0; stats().stalls == 0; round++) {
        if (round > 5000)
            fail("no report while a reader holds the loader's lock");
        sleep_ms(1);
    }
    sleep_ms(100);
    go_on = true;
    pthread_join(r, NULL);
    pthread_join(w, NULL);
}

static void an_unknown_time_in_the_environment_is_reported(void)
{
    char *argv[] = {(char *)"/proc/self/exe", (char *)"--environment", NULL};

    setenv("RCU_NOTRACE_STALL_MS", "soon", 1);
    execv("/proc/self/exe", argv);
    fail("exec: %s", strerror(errno));
}

/* Both flavours stall at once; each is reported. */
static void *trace_reader(void *unused)
{
    rcu_read_lock_trace();
    while (!go_on)
        sleep_ms(1);
    rcu_read_unlock_trace();
    return unused;
}

static void *trace_waiter(void *unused)
{
    synchronize_rcu_tasks_trace();
    return unused;
}

/* ---- a handler that forks ---------------------------------------------------------------------- */

static pid_t forked = -1;

static int forks_once(const struct rcu_notrace_stall *stall, void *unused)
{
    (void)stall;
    (void)unused;
    if (forked < 0)
        forked = fork();
    return 1;
}

static void *stalls_a_little(void *unused)
{
    rcu_read_lock_notrace();
    tid = (pid_t)syscall(SYS_gettid);
    sleep_ms(300);
    rcu_read_unlock_notrace();
    return unused;
}

static pthread_t start_stalling_a_little(void)
{
    pthread_t r;

    tid = 0;
    r = start(stalls_a_little, NULL);
    while (!tid)
        sleep_ms(1);
    return r;
}

/* In a child: a stall is reported. */
__attribute__((noreturn)) static void child_reports(void)
{
    static int quiet = 1;
    pthread_t r;

    alarm(20);
    rcu_notrace_set_stall_handler(catch, &quiet);
    r = start_stalling_a_little();
    synchronize_rcu();
    pthread_join(r, NULL);
    printf("    reports in the child: %d\n", count);
    fflush(stdout);
    _exit(count > 0 ? PASS : FAIL);
}

static void a_child_of_a_stall_handler_goes_on_and_reports(void)
{
    pthread_t r;
    int status;

    rcu_notrace_set_stall_ms(50);
    rcu_notrace_set_stall_handler(forks_once, NULL);
    r = start_stalling_a_little();
    synchronize_rcu();
    if (!forked)
        child_reports();
    CHECK(forked > 0 && waitpid(forked, &status, 0) == forked);
    pthread_join(r, NULL);
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        fail("the child ends with status %#x", (unsigned)status);
}

static void two_flavours_that_stall_at_once_are_both_reported(void)
{
    static int quiet = 1;
    pthread_t t[4];
    bool first = false, second = false;

    how = SLEEPS;
    rcu_notrace_set_stall_ms(50);
    rcu_notrace_set_stall_handler(catch, &quiet);
    t[0] = start(reader, NULL);
    t[1] = start(trace_reader, NULL);
    while (!tid)
        sleep_ms(1);
    sleep_ms(20);
    t[2] = start(waiter, NULL);
    t[3] = start(trace_waiter, NULL);
    sleep_ms(800);
    go_on = true;
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    for (int i = 0; i < count; i++) {
        first |= strstr(reports[i].text, "waits in synchronize_rcu()") != NULL;
        second |= strstr(reports[i].text, "waits in synchronize_rcu_tasks_trace()") != NULL;
    }
    CHECK(first && second);
}

static atomic_bool is_reporting;

static int reports_slowly(const struct rcu_notrace_stall *stall, void *unused)
{
    (void)stall;
    (void)unused;
    is_reporting = true;
    sleep_ms(100);
    return 1;
}

static void a_child_that_is_forked_during_a_report_can_report(void)
{
    pthread_t r, w;
    pid_t child;
    int status;

    rcu_notrace_set_stall_ms(50);
    rcu_notrace_set_stall_handler(reports_slowly, NULL);
    r = start_stalling_a_little();
    w = start(waiter, NULL);
    while (!is_reporting)
        sleep_ms(1);
    child = fork();
    if (!child)
        child_reports();
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    pthread_join(r, NULL);
    pthread_join(w, NULL);
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        fail("the child ends with status %#x", (unsigned)status);
}

int main(int argc, char **argv)
{
    static const struct scenario list[] = {
        SCENARIO(a_sleeping_reader_is_named_with_its_state_and_its_calls),
        SCENARIO(a_spinning_reader_is_caught_where_it_spins),
        SCENARIO(a_reader_in_its_threads_first_section_is_named_too),
        SCENARIO(a_reader_that_blocks_the_signal_is_told_from_one_that_steals_it),
        SCENARIO(a_reader_that_waits_for_the_signal_itself_is_said_to_steal_it),
        SCENARIO(a_program_that_replaces_or_ignores_the_handler_is_told_so),
        SCENARIO(reports_come_at_growing_intervals_and_name_the_waiter),
        {"a_stall_with_no_handler_is_printed", a_stall_with_no_handler_is_printed, 0,
         "in a section for at least"},
        SCENARIO(nothing_is_reported_when_that_is_turned_off),
        {"a_report_takes_no_lock_that_a_stalled_reader_may_hold",
         a_report_takes_no_lock_that_a_stalled_reader_may_hold, 0, "rcu-notrace: stall:"},
        {"an_unknown_time_in_the_environment_is_reported",
         an_unknown_time_in_the_environment_is_reported, 0,
         "RCU_NOTRACE_STALL_MS=soon is no number"},
        SCENARIO(two_flavours_that_stall_at_once_are_both_reported),
        SCENARIO(a_child_of_a_stall_handler_goes_on_and_reports),
        SCENARIO(a_child_that_is_forked_during_a_report_can_report),
    };

    if (argc > 1 && !strcmp(argv[1], "--environment"))
        return 0;
    return RUN_SCENARIOS("stall", list, argc, argv);
}
