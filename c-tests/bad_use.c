/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Bad use: each kind gets its message, and what the header says happens then. */
#define RCU_NOTRACE_DEBUG 1
#include "test.h"

#include <rcu_notrace/rcu.h>

static void an_unlock_without_a_lock_is_caught_at_once_in_a_debug_build(void)
{
    rcu_read_lock_notrace();
    rcu_read_unlock_notrace();
    rcu_read_unlock_notrace();
    fail("went on");
}

static void a_dereference_outside_of_a_section_is_caught_in_a_debug_build(void)
{
    static int object, *protected = &object;

    CHECK(rcu_dereference_check(protected, 1) == &object);
    rcu_read_lock();
    CHECK(rcu_dereference_check(protected, 0) == &object);
    rcu_read_unlock();
    (void)rcu_dereference_check(protected, 0);
    fail("went on");
}

static void an_unlock_of_the_second_flavour_is_caught_too(void)
{
    rcu_read_lock_trace();
    CHECK(rcu_read_lock_trace_held());
    rcu_read_unlock_trace();
    CHECK(!rcu_read_lock_trace_held());
    rcu_read_unlock_trace();
    fail("went on");
}

static void an_unlock_in_a_thread_that_never_locked_is_caught_at_once_in_a_debug_build(void)
{
    rcu_read_unlock_notrace();
    fail("went on");
}

/* As a release build does it. */
static void unchecked_unlock(void)
{
    void rcu_read_unlock_notrace_as_function(void) __asm__("rcu_read_unlock_notrace");

    rcu_read_unlock_notrace_as_function();
}

static void in_a_release_build_the_next_grace_period_catches_it(void)
{
    rcu_read_lock_notrace();
    rcu_read_unlock_notrace();
    unchecked_unlock();
    synchronize_rcu();
    fail("went on");
}

static void *unlock_too_many(void *unused)
{
    rcu_register_thread();
    rcu_read_lock_notrace();
    rcu_read_unlock_notrace();
    unchecked_unlock();
    for (;;)
        pause();
    return unused;
}

static void in_a_release_build_another_threads_grace_period_catches_it(void)
{
    start(unlock_too_many, NULL);
    for (int i = 0; i < 1000; i++) {
        synchronize_rcu();
        sleep_ms(1);
    }
    fail("went on");
}

static void in_a_release_build_a_first_lock_after_it_catches_it(void)
{
    unchecked_unlock();
    rcu_read_lock_notrace();
    fail("went on");
}

static void synchronize_rcu_in_a_section(void)
{
    rcu_read_lock_notrace();
    synchronize_rcu();
    fail("went on");
}

static void synchronize_rcu_expedited_in_a_section(void)
{
    rcu_read_lock_notrace();
    synchronize_rcu_expedited();
    fail("went on");
}

static void waiting_for_probes_in_a_section_of_the_first_flavour(void)
{
    rcu_read_lock_notrace();
    tracepoint_synchronize_unregister();
    fail("went on");
}

static void unregistering_in_a_section(void)
{
    rcu_read_lock_notrace();
    rcu_unregister_thread();
    fail("went on");
}

static void on_urg(int signal)
{
    (void)signal;
    synchronize_rcu();
}

static atomic_bool inside, leave;

static void *reader(void *unused)
{
    rcu_register_thread();
    rcu_read_lock_notrace();
    inside = true;
    while (!leave)
        sleep_ms(1);
    rcu_read_unlock_notrace();
    return unused;
}

static void *leave_soon(void *unused)
{
    sleep_ms(20);
    leave = true;
    return unused;
}

static void wait_in_a_hook(int is_ipi, void *info, void *context)
{
    (void)is_ipi;
    (void)info;
    (void)context;
    synchronize_rcu();
}

static void synchronize_rcu_in_a_hook_of_the_ipi_signal(void)
{
    int number = rcu_notrace_set_signal_hook(wait_in_a_hook);

    CHECK(number > 0);
    raise(number);
    fail("went on");
}

static void synchronize_rcu_in_a_handler_of_the_ipi_signal(void)
{
    signal(SIGURG, on_urg);
    rcu_notrace_set_ipi_mode(RCU_NOTRACE_IPI_SIGNAL);
    start(reader, NULL);
    while (!inside)
        sleep_ms(1);
    start(leave_soon, NULL);
    synchronize_rcu();
    raise(SIGURG);
    fail("went on");
}

static pthread_t main_thread;

static void on_usr1(int signal)
{
    (void)signal;
    synchronize_rcu();
}

static void *interrupt_the_waiter(void *unused)
{
    sleep_ms(50);
    pthread_kill(main_thread, SIGUSR1);
    return unused;
}

static void synchronize_rcu_in_a_handler_that_interrupted_synchronize_rcu(void)
{
    main_thread = pthread_self();
    signal(SIGUSR1, on_usr1);
    start(reader, NULL);
    while (!inside)
        sleep_ms(1);
    start(interrupt_the_waiter, NULL);
    synchronize_rcu();
    fail("went on");
}

static void an_unknown_mode_is_refused(void)
{
    int before = rcu_notrace_get_ipi_mode();

    CHECK(rcu_notrace_set_ipi_mode(3) == -EINVAL);
    CHECK(rcu_notrace_set_ipi_mode(-1) == -EINVAL);
    CHECK(rcu_notrace_get_ipi_mode() == before);
}

/* What a new program says that starts with this in its environment. */
static void start_with(const char *name, const char *value)
{
    setenv(name, value, 1);
    execl("/proc/self/exe", "bad_use", "--started", (char *)NULL);
    fail("exec: %s", strerror(errno));
}

static void an_unknown_mode_in_the_environment_is_reported_and_taken_for_auto(void)
{
    start_with("RCU_NOTRACE_IPI", "smoke");
}

static void an_unknown_signal_in_the_environment_is_reported_and_taken_for_sigurg(void)
{
    start_with("RCU_NOTRACE_SIGNAL", "SIGKILL");
}

static void an_unknown_wish_for_statistics_is_reported_and_taken_for_no(void)
{
    start_with("RCU_NOTRACE_STATS", "maybe");
}

static void statistics_are_printed_at_exit_on_request(void)
{
    start_with("RCU_NOTRACE_STATS", "1");
}

static void count_exit(struct rcu_head *head)
{
    (void)head;
}

static void statistics_at_exit_have_the_callbacks_that_exit_runs(void)
{
    setenv("RCU_NOTRACE_EXIT", "run", 1);
    start_with("RCU_NOTRACE_STATS", "1");
}

static void end_the_thread(struct rcu_head *head)
{
    (void)head;
    pthread_exit(NULL);
}

static void a_callback_that_ends_its_thread(void)
{
    static struct rcu_head head;

    call_rcu(&head, end_the_thread);
    rcu_barrier();
    fail("went on");
}

/* ---- a head that is queued again before it was called --------------------------------------------- */

static struct rcu_head twice, another;

static void queued_twice(void)
{
    call_rcu(&twice, count_exit);
    call_rcu(&another, count_exit);
    call_rcu(&twice, count_exit);
    rcu_barrier();
    fail("went on");
}

static void *queue_again(void *unused)
{
    call_rcu(&twice, count_exit);
    return unused;
}

static void queued_by_two_threads(void)
{
    call_rcu(&another, count_exit);
    call_rcu(&twice, count_exit);
    pthread_join(start(queue_again, NULL), NULL);
    rcu_barrier();
    fail("went on");
}

static void queued_again_while_it_waits_for_its_grace_period(void)
{
    CHECK(rcu_notrace_start_worker() == 0);
    rcu_read_lock_notrace();
    call_rcu(&twice, count_exit);
    call_rcu(&another, count_exit);
    /* The worker takes them off. */
    sleep_ms(100);
    call_rcu(&twice, count_exit);
    rcu_read_unlock_notrace();
    rcu_barrier();
    fail("went on");
}

/* Which counts what it has. */
static void queued_twice_in_front_of_a_fork(void)
{
    int status;
    pid_t child;

    call_rcu(&another, count_exit);
    for (int i = 0; i < 2; i++)
        call_rcu(&twice, count_exit);
    child = fork();
    if (!child)
        _exit(FAIL);
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

struct node {
    long before;
    struct rcu_head head;
};

static unsigned looks;

static struct node *find_none(void)
{
    looks++;
    return NULL;
}

/* As free(NULL). Nobody reckons with a member of what is not there: UndefinedBehaviorSanitizer would say so. */
static void free_rcu_passes_null_over(void)
{
    struct node *none = NULL;

    CHECK(free_rcu(none, head) == 0);
    CHECK(free_rcu(find_none(), head) == 0 && looks == 1);
    CHECK(stats().callbacks_queued == 0);
}

static int started(void)
{
    static struct rcu_head head;
    const char *wanted = getenv("RCU_NOTRACE_IPI");

    if (wanted && !strcmp(wanted, "smoke"))
        CHECK(rcu_notrace_get_ipi_mode() == RCU_NOTRACE_IPI_AUTO);
    synchronize_rcu();
    if (getenv("RCU_NOTRACE_EXIT"))
        call_rcu(&head, count_exit);
    return PASS;
}

int main(int argc, char **argv)
{
#define UNBALANCED "rcu_read_unlock_notrace() without rcu_read_lock_notrace()"
#define QUEUED_TWICE "a head was queued again before it was called"
#define ABORTS(name, says) {#name, name, SIGABRT, says}
#define SAYS(name, says) {#name, name, 0, says}
    static const struct scenario list[] = {
        ABORTS(a_dereference_outside_of_a_section_is_caught_in_a_debug_build,
               "rcu_dereference_check() outside of a read-side critical section"),
        ABORTS(an_unlock_without_a_lock_is_caught_at_once_in_a_debug_build, UNBALANCED),
        ABORTS(an_unlock_of_the_second_flavour_is_caught_too, "rcu_read_unlock_trace() without rcu_read_lock_trace()"),
        ABORTS(an_unlock_in_a_thread_that_never_locked_is_caught_at_once_in_a_debug_build,
               UNBALANCED),
        ABORTS(in_a_release_build_the_next_grace_period_catches_it, UNBALANCED),
        ABORTS(in_a_release_build_another_threads_grace_period_catches_it, UNBALANCED),
        ABORTS(in_a_release_build_a_first_lock_after_it_catches_it, UNBALANCED),
        ABORTS(synchronize_rcu_in_a_section,
               "synchronize_rcu() inside a read-side critical section"),
        ABORTS(synchronize_rcu_expedited_in_a_section,
               "synchronize_rcu_expedited() inside a read-side critical section"),
        ABORTS(waiting_for_probes_in_a_section_of_the_first_flavour,
               "tracepoint_synchronize_unregister() inside a section of rcu_read_lock_notrace()"),
        ABORTS(unregistering_in_a_section,
               "rcu_unregister_thread() inside a read-side critical section"),
        ABORTS(synchronize_rcu_in_a_handler_of_the_ipi_signal,
               "synchronize_rcu() in a handler of the IPI signal"),
        ABORTS(synchronize_rcu_in_a_hook_of_the_ipi_signal, "synchronize_rcu() in a handler of the IPI signal"),
        ABORTS(synchronize_rcu_in_a_handler_that_interrupted_synchronize_rcu,
               "synchronize_rcu() in a signal handler that interrupted RCU itself"),
        SAYS(an_unknown_mode_is_refused, "rcu_notrace_set_ipi_mode(): no such mode"),
        SAYS(an_unknown_mode_in_the_environment_is_reported_and_taken_for_auto,
             "RCU_NOTRACE_IPI=smoke is none of auto, signal, membarrier; using auto"),
        SAYS(an_unknown_signal_in_the_environment_is_reported_and_taken_for_sigurg,
             "RCU_NOTRACE_SIGNAL=SIGKILL is no signal that a program can spare (a number, or URG, USR1,"),
        SAYS(an_unknown_wish_for_statistics_is_reported_and_taken_for_no,
             "RCU_NOTRACE_STATS=maybe is neither 0 nor 1; using 0"),
        SAYS(statistics_are_printed_at_exit_on_request, ": grace_periods 1\nrcu-notrace: "),
        SAYS(statistics_at_exit_have_the_callbacks_that_exit_runs, ": callbacks_run 1\nrcu-notrace: "),
        ABORTS(a_callback_that_ends_its_thread, "ended by a callback (pthread_exit?)"),
        ABORTS(queued_twice, QUEUED_TWICE),
        ABORTS(queued_by_two_threads, QUEUED_TWICE),
        ABORTS(queued_again_while_it_waits_for_its_grace_period, QUEUED_TWICE),
        SAYS(queued_twice_in_front_of_a_fork, QUEUED_TWICE),
        SCENARIO(free_rcu_passes_null_over),
    };

    if (argc > 1 && !strcmp(argv[1], "--started"))
        return started();
    return RUN_SCENARIOS("bad_use", list, argc, argv);
}
