/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The life of processes and threads: fork, exec, and every form of exit. */
#include "test.h"

#include <sched.h>
#include <spawn.h>

extern char **environ;

/* A child must go on with grace periods, alone and with new threads. */
static void *section_and_wait(void *unused)
{
    join_by_sections();
    for (int i = 0; i < 5; i++) {
        rcu_read_lock_notrace();
        rcu_read_unlock_notrace();
        synchronize_rcu();
    }
    return unused;
}

static void go_on(void)
{
    pthread_t threads[2];

    for (int i = 0; i < 2; i++)
        threads[i] = start(section_and_wait, NULL);
    section_and_wait(NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
}

static void expect_success(pid_t child)
{
    int status;

    CHECK(child > 0);
    CHECK(waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != PASS)
        fail("the child ended with status %#x", (unsigned)status);
}

static atomic_bool stop;
static atomic_ulong sections;

static void *busy_reader(void *unused)
{
    while (!stop) {
        rcu_read_lock_notrace();
        for (int i = 0; i < 100; i++)
            __asm__ volatile("pause");
        rcu_read_unlock_notrace();
        sections++;
    }
    return unused;
}

static void *busy_waiter(void *unused)
{
    while (!stop)
        synchronize_rcu();
    return unused;
}

static pthread_t busy[4];

static void get_busy(void)
{
    busy[0] = start(busy_reader, NULL);
    busy[1] = start(busy_reader, NULL);
    busy[2] = start(busy_waiter, NULL);
    busy[3] = start(busy_waiter, NULL);
}

static void rest(void)
{
    stop = true;
    for (int i = 0; i < 4; i++)
        pthread_join(busy[i], NULL);
}

static void children_of_a_busy_process_go_on_alone(void)
{
    enum { FORKS = 30 };

    get_busy();
    for (int i = 0; i < FORKS; i++) {
        pid_t child = fork();

        if (!child) {
            go_on();
            _exit(PASS);
        }
        expect_success(child);
    }
    rest();
    go_on();
    printf("    %d forks beside %lu sections\n", FORKS, sections);
    print_stats();
}

static atomic_bool is_counted;

static void *first_section_during_forks(void *unused)
{
    rcu_read_lock_notrace();
    is_counted = true;
    while (!stop)
        sleep_ms(1);
    rcu_read_unlock_notrace();
    return unused;
}

/* Its thread is not there, and so not waited for, nor found dead. */
static void a_counted_section_of_another_thread_does_not_go_on_in_a_child(void)
{
    pthread_t thread = start(first_section_during_forks, NULL);

    while (!is_counted)
        sleep_ms(1);
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();

        if (!child) {
            unsigned long long before = stats().transient_waits;

            synchronize_rcu();
            CHECK(stats().transient_waits == before && stats().died == 0);
            go_on();
            _exit(PASS);
        }
        expect_success(child);
    }
    stop = true;
    pthread_join(thread, NULL);
}

static atomic_bool waited;

static void *wait_in_child(void *unused)
{
    synchronize_rcu();
    waited = true;
    return unused;
}

static void a_section_around_fork_goes_on_in_both(void)
{
    for (int i = 0; i < 20; i++) {
        pid_t child;

        rcu_read_lock_notrace();
        child = fork();
        if (!child) {
            pthread_t waiter = start(wait_in_child, NULL);

            sleep_ms(5);
            if (waited || !rcu_read_lock_held())
                _exit(FAIL);
            rcu_read_unlock_notrace();
            pthread_join(waiter, NULL);
            go_on();
            _exit(PASS);
        }
        CHECK(rcu_read_lock_held());
        rcu_read_unlock_notrace();
        expect_success(child);
        synchronize_rcu();
    }
}

/* Past pthread_atfork: nobody tells the library. */
static void a_fork_behind_our_back_is_noticed(void)
{
    get_busy();
    for (int i = 0; i < 20; i++) {
        pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

        if (!child) {
            for (int j = 0; j < 10; j++) {
                synchronize_rcu();
                rcu_read_lock_notrace();
                rcu_read_unlock_notrace();
            }
            _exit(PASS);
        }
        expect_success(child);
    }
    rest();
}

static pid_t spawn_by_vfork(char **argv)
{
    pid_t child = vfork();

    if (!child) {
        execvp(argv[0], argv);
        _exit(127);
    }
    return child;
}

static void spawned_programs_run_under_ipis(void)
{
    char *argv[] = {"true", NULL};
    get_busy();
    for (int i = 0; i < 20; i++) {
        pid_t child;
        int status;

        CHECK(posix_spawnp(&child, "true", NULL, NULL, argv, environ) == 0);
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        child = spawn_by_vfork(argv);
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    rest();
    print_stats();
}

static void *long_sections(void *unused)
{
    for (;;) {
        rcu_read_lock_notrace();
        sleep_ms(1);
        rcu_read_unlock_notrace();
    }
    return unused;
}

static void *expedited_waiter(void *unused)
{
    for (;;)
        synchronize_rcu_expedited();
    return unused;
}

/* The new program gets a signal of which it knows nothing, if one was on its way. */
static void a_program_that_becomes_another_under_ipis_survives(void)
{
    char *argv[] = {"true", NULL};

    for (int i = 0; i < 40; i++) {
        pid_t child = fork();

        if (!child) {
            for (int t = 0; t < 3; t++)
                start(long_sections, NULL);
            start(expedited_waiter, NULL);
            start(expedited_waiter, NULL);
            for (int s = 0; s < 20; s++) {
                rcu_read_lock_notrace();
                rcu_read_unlock_notrace();
            }
            sleep_ms((unsigned)(5 + i % 7));
            execvp(argv[0], argv);
            _exit(127);
        }
        expect_success(child);
    }
}

static void a_daemon_goes_on_with_grace_periods(void)
{
    int pipes[2];
    char done = 0;
    pid_t child;

    get_busy();
    CHECK(pipe(pipes) == 0);
    child = fork();
    if (!child) {
        /* Whose child of its own goes on, when it has exited. */
        if (daemon(1, 1))
            _exit(FAIL);
        for (int i = 0; i < 20; i++) {
            rcu_read_lock_notrace();
            rcu_read_unlock_notrace();
            synchronize_rcu();
        }
        rcu_barrier();
        _exit(write(pipes[1], "y", 1) == 1 ? PASS : FAIL);
    }
    close(pipes[1]);
    expect_success(child);
    CHECK(read(pipes[0], &done, 1) == 1 && done == 'y');
    rest();
}

/* ---- thread exit ----------------------------------------------------------------------------- */

static void *returns(void *unused)
{
    join_by_sections();
    return unused;
}

static void *calls_pthread_exit(void *unused)
{
    returns(unused);
    pthread_exit(unused);
}

static void *is_cancelled(void *unused)
{
    returns(unused);
    for (;;)
        pause();
    return unused;
}

static void *leaves_by_raw_exit(void *unused)
{
    returns(unused);
    syscall(SYS_exit, 0);
    return unused;
}

static void threads_that_exit_in_any_way_hold_up_nothing(void)
{
    for (int i = 0; i < 20; i++) {
        pthread_t cancelled = start(is_cancelled, NULL);

        pthread_join(start(returns, NULL), NULL);
        pthread_join(start(calls_pthread_exit, NULL), NULL);
        synchronize_rcu();
        pthread_cancel(cancelled);
        pthread_join(cancelled, NULL);
        synchronize_rcu();
        pthread_join(start(leaves_by_raw_exit, NULL), NULL);
        synchronize_rcu();
    }
    print_stats();
}

static void *exits_in_its_first_section(void *unused)
{
    rcu_read_lock_notrace();
    return unused;
}

static void *exits_inside(void *unused)
{
    rcu_register_thread();
    rcu_read_lock_notrace();
    rcu_read_lock_notrace();
    return unused;
}

static atomic_bool is_inside;

/* Not before a grace period waits for it. */
static void *exits_when_it_is_asked(void *unused)
{
    unsigned long long before = stats().holdouts;

    exits_inside(unused);
    is_inside = true;
    while (stats().holdouts == before)
        sleep_ms(1);
    return unused;
}

static void a_thread_that_exits_in_a_section_is_reported_and_ends_it(void)
{
    pthread_t thread;

    pthread_join(start(exits_inside, NULL), NULL);
    synchronize_rcu();
    pthread_join(start(exits_in_its_first_section, NULL), NULL);
    synchronize_rcu();
    thread = start(exits_when_it_is_asked, NULL);
    while (!is_inside)
        sleep_ms(1);
    synchronize_rcu();
    pthread_join(thread, NULL);
    /* Each left by itself; none was found dead, still counted. */
    CHECK(stats().died == 0 && stats().holdouts > 0);
}

static void *dies_inside(void *unused)
{
    rcu_register_thread();
    rcu_read_lock_notrace();
    is_inside = true;
    syscall(SYS_exit, 0);
    return unused;
}

static void a_thread_that_dies_in_a_section_is_reported_and_ends_it(void)
{
    pthread_t thread = start(dies_inside, NULL);

    while (!is_inside)
        sleep_ms(1);
    synchronize_rcu();
    CHECK(stats().died == 1);
    pthread_join(thread, NULL);
}

static void *dies_in_its_first_section(void *unused)
{
    rcu_read_lock_notrace();
    is_inside = true;
    syscall(SYS_exit, 0);
    return unused;
}

static void a_thread_that_dies_in_its_first_section_is_reported_and_ends_it(void)
{
    pthread_t thread = start(dies_in_its_first_section, NULL);

    while (!is_inside)
        sleep_ms(1);
    synchronize_rcu();
    CHECK(stats().died == 1 && stats().transient_waits == 1);
    pthread_join(thread, NULL);
}

static void *one_short_life(void *unused)
{
    join_by_sections();
    return unused;
}

static void thousands_of_short_threads_leave_nothing_behind(void)
{
    enum { THREADS = 3000 };
    pthread_t waiter;

    waiter = start(busy_waiter, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(start(one_short_life, NULL), NULL);
    stop = true;
    pthread_join(waiter, NULL);
    print_stats();
}

int main(int argc, char **argv)
{
    static const struct scenario list[] = {
        SCENARIO(children_of_a_busy_process_go_on_alone),
        SCENARIO(a_counted_section_of_another_thread_does_not_go_on_in_a_child),
        SCENARIO(a_section_around_fork_goes_on_in_both),
        SCENARIO(a_fork_behind_our_back_is_noticed),
        SCENARIO(spawned_programs_run_under_ipis),
        SCENARIO(a_program_that_becomes_another_under_ipis_survives),
        SCENARIO(a_daemon_goes_on_with_grace_periods),
        SCENARIO(threads_that_exit_in_any_way_hold_up_nothing),
        {"a_thread_that_exits_in_a_section_is_reported_and_ends_it",
         a_thread_that_exits_in_a_section_is_reported_and_ends_it, 0,
         "exits inside a read-side critical section"},
        {"a_thread_that_dies_in_a_section_is_reported_and_ends_it",
         a_thread_that_dies_in_a_section_is_reported_and_ends_it, 0,
         "died inside a read-side critical section"},
        {"a_thread_that_dies_in_its_first_section_is_reported_and_ends_it",
         a_thread_that_dies_in_its_first_section_is_reported_and_ends_it, 0,
         "died inside a read-side critical section"},
        SCENARIO(thousands_of_short_threads_leave_nothing_behind),
    };

    return RUN_SCENARIOS("life", list, argc, argv);
}
