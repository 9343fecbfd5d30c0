/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the C tests share: named scenarios, each in a process of its own and bounded in time. */
#ifndef TEST_H
#define TEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <rcu_notrace.h>

/* A scenario's verdicts. A scenario runs in a child process and exits with one of them. */
enum { PASS = 0, FAIL = 1, SKIP = 77 };

struct scenario {
    const char *name;
    void (*run)(void);
    /* A signal that is meant to end it, and what it says on standard error; 0 and NULL: it ends
     * by returning, whatever it says. */
    int dies_of;
    const char *saying;
};

/* One that ends by returning. */
#define SCENARIO(name) {#name, name, 0, NULL}

/* Most seconds a scenario may take; the environment's SCENARIO_SECONDS overrides it. */
enum { SCENARIO_SECONDS = 60 };

static const char *const mode_names[] = {"auto", "signal", "membarrier"};

__attribute__((format(printf, 1, 2), noreturn, unused)) static void fail(const char *format, ...)
{
    va_list list;

    va_start(list, format);
    printf("    FAILED: ");
    vprintf(format, list);
    printf("\n");
    va_end(list);
    fflush(stdout);
    _exit(FAIL);
}

__attribute__((format(printf, 1, 2), noreturn, unused)) static void skip(const char *format, ...)
{
    va_list list;

    va_start(list, format);
    printf("    SKIP: ");
    vprintf(format, list);
    printf("\n");
    va_end(list);
    fflush(stdout);
    _exit(SKIP);
}

#define CHECK(condition) \
    do { \
        if (!(condition)) \
            fail("%s:%d: %s", __FILE__, __LINE__, #condition); \
    } while (0)

__attribute__((unused)) static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

__attribute__((unused)) static void sleep_ms(unsigned ms)
{
    struct timespec left = {ms / 1000, (long)(ms % 1000) * 1000000};

    while (nanosleep(&left, &left) && errno == EINTR)
        ;
}

/* A thread's first sections are counted; if they block no signal, so many of them. */
enum { FIRST_SECTIONS = 32 };

/* Until the thread is listed. */
__attribute__((unused)) static void join_by_sections(void)
{
    for (int i = 0; i <= FIRST_SECTIONS; i++) {
        rcu_read_lock_notrace();
        rcu_read_unlock_notrace();
    }
}

__attribute__((unused)) static void pin(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

__attribute__((unused)) static struct rcu_notrace_stats stats(void)
{
    struct rcu_notrace_stats now;

    rcu_notrace_get_stats(&now, sizeof(now));
    return now;
}

__attribute__((unused)) static pthread_t start(void *(*run)(void *), void *argument)
{
    pthread_t thread;
    int error = pthread_create(&thread, NULL, run, argument);

    if (error)
        fail("pthread_create: %s", strerror(error));
    return thread;
}

/* SIGUSR2 every 20 us to this thread, by a timer of its own, so that the storm hits threads and not just
 * the process. */
__attribute__((unused)) static timer_t storm_here(void)
{
    struct sigevent event;
    struct itimerspec rate = {{0, 20000}, {0, 20000}};
    timer_t timer;

    memset(&event, 0, sizeof(event));
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGUSR2;
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &rate, NULL))
        fail("timer: %s", strerror(errno));
    return timer;
}

__attribute__((unused)) static void print_stats(void)
{
    struct rcu_notrace_stats s = stats();

    printf("    grace periods %llu, shared %llu, barriers %llu, IPIs %llu, holdouts %llu, "
           "rescues %llu, reports %llu by section %llu by handler, wakes %llu, parks %llu, "
           "transient waits %llu\n",
           (unsigned long long)s.grace_periods, (unsigned long long)s.shared,
           (unsigned long long)s.barriers, (unsigned long long)s.ipis,
           (unsigned long long)s.holdouts, (unsigned long long)s.rescues,
           (unsigned long long)s.reports_by_section, (unsigned long long)s.reports_by_handler,
           (unsigned long long)s.wakes, (unsigned long long)s.parks,
           (unsigned long long)s.transient_waits);
    fflush(stdout);
}

/* Runs one scenario in a child; its standard error comes back in `said`. */
static int run_scenario(const struct scenario *s, char *said, size_t size)
{
    const char *wanted = getenv("SCENARIO_SECONDS");
    unsigned limit = wanted ? (unsigned)atoi(wanted) : SCENARIO_SECONDS;
    uint64_t begin = now_ns();
    int pipes[2], status;
    sigset_t none;
    size_t used = 0;
    ssize_t got;
    pid_t child, ended;

    fflush(stdout);
    if (pipe(pipes) || (child = fork()) < 0) {
        perror("fork");
        exit(FAIL);
    }
    if (!child) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setpgid(0, 0);
        close(pipes[0]);
        dup2(pipes[1], 2);
        close(pipes[1]);
        /* A thread that blocks signals is listed later than others. */
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        alarm(limit);
        s->run();
        fflush(stdout);
        _exit(PASS);
    }
    close(pipes[1]);
    fcntl(pipes[0], F_SETFL, O_NONBLOCK);
    do {
        ended = waitpid(child, &status, WNOHANG);
        while (used < size - 1 && (got = read(pipes[0], said + used, size - 1 - used)) > 0)
            used += (size_t)got;
        if (!ended)
            sleep_ms(1);
        /* It may hang with its signals blocked. */
        if (now_ns() - begin > (limit + 5) * 1000000000ull)
            kill(-child, SIGKILL);
    } while (!ended);
    said[used] = 0;
    close(pipes[0]);
    /* What it started and did not end, if it was ended itself. */
    kill(-child, SIGKILL);
    if (s->dies_of) {
        if (WIFSIGNALED(status) && WTERMSIG(status) == s->dies_of && strstr(said, s->saying))
            return PASS;
        printf("    expected signal %d and \"%s\", got status %#x and \"%s\"\n", s->dies_of,
               s->saying, (unsigned)status, said);
        return FAIL;
    }
    if (WIFSIGNALED(status)) {
        printf("    ended by signal %d%s\n", WTERMSIG(status),
               WTERMSIG(status) == SIGALRM ? " (out of time)" : "");
        if (used)
            printf("    said: %s\n", said);
        return FAIL;
    }
    if (WEXITSTATUS(status) == SKIP)
        return SKIP;
    if (s->saying && !strstr(said, s->saying)) {
        printf("    expected \"%s\", heard \"%s\"\n", s->saying, said);
        return FAIL;
    }
    if (WEXITSTATUS(status) && used)
        printf("    said: %s\n", said);
    return WEXITSTATUS(status);
}

/* Runs those scenarios whose names contain argv[1], or all; none that the environment's SCENARIO_EXCEPT names. The
 * last line is the count. */
__attribute__((unused)) static int run_scenarios(const char *suite, const struct scenario *list,
                                                 size_t count, int argc, char **argv)
{
    unsigned passed = 0, failed = 0, skipped = 0;
    static char said[65536];
    const char *mode = mode_names[rcu_notrace_get_ipi_mode()], *except = getenv("SCENARIO_EXCEPT");

    for (size_t i = 0; i < count; i++) {
        int verdict;

        if ((argc > 1 && !strstr(list[i].name, argv[1])) || (except && strstr(except, list[i].name)))
            continue;
        verdict = run_scenario(&list[i], said, sizeof(said));
        printf("%s %s %s: %s%s\n", verdict == PASS || verdict == SKIP ? "ok" : "not ok", suite,
               mode, list[i].name, verdict == SKIP ? " # SKIP" : "");
        fflush(stdout);
        if (verdict == PASS)
            passed++;
        else if (verdict == SKIP)
            skipped++;
        else
            failed++;
    }
    printf("%s: %u passed, %u failed, %u skipped\n", suite, passed, failed, skipped);
    if (argc > 1 && !except && passed + failed + skipped == 0) {
        fprintf(stderr, "%s: no scenario has \"%s\" in its name\n", suite, argv[1]);
        return 2;
    }
    return failed ? 1 : 0;
}

#define RUN_SCENARIOS(suite, list, argc, argv) \
    run_scenarios(suite, list, sizeof(list) / sizeof((list)[0]), argc, argv)

#endif
