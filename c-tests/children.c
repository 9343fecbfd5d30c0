/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Children of forks that come where another fork waits, or where a callback runs: what they have of the parent's
 * callbacks is whole, counted, and called. */
#include "test.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <rcu_notrace/rcu.h>
#include <sys/time.h>

/* ---- threads that may be refused --------------------------------------------------------------- */

static atomic_bool refuses_threads;

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

    if (refuses_threads)
        return EAGAIN;
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    return real(thread, attributes, run, argument);
}

/* Of which the library is not told. */
static pid_t fork_unannounced(void)
{
    return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
}

static void nothing(struct rcu_head *head)
{
    (void)head;
}

/* ---- a fork in a handler, above one that waits ------------------------------------------------- */

static pid_t inner = -1;
static atomic_bool begun;

static void fork_above(int signal)
{
    (void)signal;
    inner = fork();
}

static void run_for_long(struct rcu_head *head)
{
    (void)head;
    begun = true;
    sleep_ms(600);
}

static void look_for_long(struct tracepoint *tracepoint, void *unused)
{
    (void)tracepoint, (void)unused;
    if (!begun) {
        begun = true;
        sleep_ms(600);
    }
}

static void *lists_tracepoints(void *unused)
{
    for_each_tracepoint(look_for_long, NULL);
    return unused;
}

/* A fork that is taken for one that waits still: callbacks and tracepoints let it go first, for a while each time. */
static void expect_nobody_waits(void)
{
    static struct rcu_head heads[20];
    struct rcu_notrace_tracepoint_stats tracepoints;
    uint64_t begin = now_ns();

    for (int i = 0; i < 20; i++)
        call_rcu(&heads[i], nothing);
    rcu_barrier();
    rcu_notrace_get_tracepoint_stats(&tracepoints, sizeof(tracepoints));
    if (now_ns() - begin > 900000000)
        fail("20 callbacks and a look at tracepoints took %llu ms", (unsigned long long)(now_ns() - begin) / 1000000);
}

static void fork_waits_and_a_handler_forks(void (*hold_up)(void))
{
    const struct sigaction action = {.sa_handler = fork_above, .sa_flags = SA_RESTART};
    const struct itimerval soon = {.it_value = {.tv_usec = 30000}};
    int status = 0;
    pid_t outer;

    sigaction(SIGALRM, &action, NULL);
    expect_nobody_waits();
    hold_up();
    while (!begun)
        sleep_ms(1);
    setitimer(ITIMER_REAL, &soon, NULL);
    /* It waits in its handler; the signal comes then. */
    outer = fork();
    if (outer == 0) {
        signal(SIGALRM, SIG_DFL);
        alarm(20);
        expect_nobody_waits();
        _exit(inner == 0 ? PASS : SKIP);
    }
    CHECK(waitpid(outer, &status, 0) == outer);
    if (inner == 0) {
        /* This is the handler's child, in which the first fork has gone on. */
        expect_nobody_waits();
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : FAIL);
    }
    if (inner < 0)
        fail("no signal came while a fork waited");
    CHECK(waitpid(inner, &status, 0) == inner);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == PASS);
}

static void queue_one_that_takes_long(void)
{
    static struct rcu_head head;

    CHECK(rcu_notrace_start_worker() == 0);
    call_rcu(&head, run_for_long);
}

static void start_a_long_list(void)
{
    start(lists_tracepoints, NULL);
}

static void a_fork_above_one_that_waits_for_a_callback_is_not_waited_for_in_children(void)
{
    fork_waits_and_a_handler_forks(queue_one_that_takes_long);
}

static void a_fork_above_one_that_waits_for_the_lock_of_tracepoints_is_not_waited_for_in_children(void)
{
    fork_waits_and_a_handler_forks(start_a_long_list);
}

static void clone_above(int signal)
{
    (void)signal;
    inner = fork_unannounced();
    if (!inner)
        alarm(3);
}

/* It has the lock's holder no more, and goes on in the middle of the wait. */
static void a_child_that_a_handler_made_unannounced_above_a_wait_for_the_lock_of_tracepoints_has_it(void)
{
    const struct sigaction action = {.sa_handler = clone_above, .sa_flags = SA_RESETHAND};
    const struct itimerval soon = {.it_value = {.tv_usec = 30000}};
    struct rcu_notrace_tracepoint_stats tracepoints;
    int status;

    sigaction(SIGALRM, &action, NULL);
    start_a_long_list();
    while (!begun)
        sleep_ms(1);
    setitimer(ITIMER_REAL, &soon, NULL);
    rcu_notrace_get_tracepoint_stats(&tracepoints, sizeof(tracepoints));
    if (!inner)
        _exit(PASS);
    if (inner < 0)
        fail("no signal came while it waited");
    CHECK(waitpid(inner, &status, 0) == inner && status == PASS);
}

/* ---- a child that nobody announced, with a second thread ---------------------------------------- */

enum { WITHIN = 10 };

static atomic_bool go_on, inside, let_go, has_waited;
static int delay;

static void *has_a_section_then(void *unused)
{
    while (!go_on)
        ;
    for (int i = 0; i < delay; i++)
        __asm__ volatile("");
    rcu_read_lock_notrace();
    inside = true;
    while (!let_go)
        ;
    rcu_read_unlock_notrace();
    return unused;
}

static void *waits_once(void *unused)
{
    synchronize_rcu();
    has_waited = true;
    return unused;
}

/* A grace period beside the section of that thread, which must not end before it. Ends the child. */
static void wait_beside_its_section(pthread_t reader, unsigned ms)
{
    pthread_t waiter;

    while (!inside)
        ;
    waiter = start(waits_once, NULL);
    sleep_ms(ms);
    if (has_waited)
        _exit(WITHIN);
    let_go = true;
    pthread_join(waiter, NULL);
    pthread_join(reader, NULL);
    synchronize_rcu();
    _exit(PASS);
}

/* Its first section, while the first thread starts over. */
static void section_meanwhile(void)
{
    pthread_t reader = start(has_a_section_then, NULL);

    usleep(200);
    go_on = true;
    rcu_register_thread();
    wait_beside_its_section(reader, 2);
}

static void *waits_then(void *unused)
{
    while (!go_on)
        ;
    for (int i = 0; i < delay; i++)
        __asm__ volatile("");
    return waits_once(unused);
}

static void wait_meanwhile(void)
{
    pthread_t waiter = start(waits_then, NULL);

    usleep(100);
    go_on = true;
    for (int i = 0; i < 20; i++)
        synchronize_rcu();
    pthread_join(waiter, NULL);
    _exit(PASS);
}

/* Either it ends with the message, or nothing of the second thread's is forgotten. */
static void second_threads(void (*run)(void))
{
    enum { CHILDREN = 300 };
    unsigned refused = 0, passed = 0;

    synchronize_rcu();
    for (int i = 0; i < CHILDREN; i++) {
        pid_t child;
        int status;

        delay = (int)(i * 7919u % 6000);
        child = fork_unannounced();
        if (!child) {
            int quiet = open("/dev/null", O_WRONLY);

            dup2(quiet, 2);
            alarm(20);
            run();
        }
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        refused += WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
        passed += WIFEXITED(status) && WEXITSTATUS(status) == PASS;
        if (WIFEXITED(status) && WEXITSTATUS(status) == WITHIN)
            fail("child %d: a grace period ended within a section", i);
        if (WIFSIGNALED(status) && WTERMSIG(status) != SIGABRT)
            fail("child %d: ended by signal %d", i, WTERMSIG(status));
    }
    printf("    %u children went on, %u were refused\n", passed, refused);
    /* Whether any comes at the moment at which it is refused is luck. */
    CHECK(passed + refused == CHILDREN && passed > 0);
}

static void a_second_threads_first_section_while_the_first_starts_over_is_waited_for_or_refused(void)
{
    second_threads(section_meanwhile);
}

static void a_second_thread_that_waits_while_the_first_starts_over_waits_or_is_refused(void)
{
    second_threads(wait_meanwhile);
}

static atomic_bool is_inside;

static void *has_a_section_for_20_ms(void *unused)
{
    rcu_read_lock_notrace();
    is_inside = true;
    sleep_ms(20);
    rcu_read_unlock_notrace();
    return unused;
}

/* Its section is in a count that is forgotten, and it is gone before anybody looks for it. */
static void start_over_amid_a_section(void)
{
    pthread_t reader = start(has_a_section_for_20_ms, NULL);

    while (!is_inside)
        ;
    rcu_register_thread();
    pthread_join(reader, NULL);
    go_on = true;
    wait_beside_its_section(start(has_a_section_then, NULL), 20);
}

static pid_t unannounced(void (*run)(void))
{
    pid_t child = fork_unannounced();

    if (!child) {
        alarm(10);
        run();
        _exit(PASS);
    }
    return child;
}

static void expect_child(pid_t child)
{
    int status;

    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status))
        fail("ended by signal %d", WTERMSIG(status));
    if (WEXITSTATUS(status) == WITHIN)
        fail("a grace period ended within a section");
    CHECK(WEXITSTATUS(status) == PASS);
}

static void a_second_threads_section_that_ends_while_the_first_starts_over_is_in_no_count(void)
{
    synchronize_rcu();
    for (int i = 0; i < 5; i++)
        expect_child(unannounced(start_over_amid_a_section));
}

static atomic_bool lingers, is_between;
static void (*barrier_in_a_fork)(void);

static void linger(void)
{
    if (lingers) {
        is_between = true;
        sleep_ms(30);
    }
    if (barrier_in_a_fork)
        barrier_in_a_fork();
}

/* Registered before the library's, and so called behind it. */
static void linger_behind_the_library(int argc, char **argv, char **environment)
{
    (void)argc, (void)argv, (void)environment;
    pthread_atfork(linger, NULL, NULL);
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit)(int, char **, char **) =
    linger_behind_the_library;

static void *forks(void *unused)
{
    int status;
    pid_t child = fork();

    if (!child) {
        synchronize_rcu();
        _exit(PASS);
    }
    CHECK(waitpid(child, &status, 0) == child && status == PASS);
    return unused;
}

static void start_over_amid_a_fork(void)
{
    static struct rcu_head head;
    pthread_t forker;

    lingers = true;
    forker = start(forks, NULL);
    while (!is_between)
        ;
    synchronize_rcu();
    pthread_join(forker, NULL);
    lingers = false;
    call_rcu(&head, nothing);
    rcu_barrier();
}

static void a_second_threads_fork_while_the_first_starts_over_leaves_no_lock_behind(void)
{
    synchronize_rcu();
    expect_child(unannounced(start_over_amid_a_fork));
}

static void *waits_in_10_ms(void *unused)
{
    sleep_ms(10);
    waits_once(unused);
    _exit(WITHIN);
}

/* The first thread looks for 50 ms whether that section, which it has forgotten, is gone. */
static void wait_in_a_third_thread_beside_a_section_that_is_forgotten(void)
{
    delay = 0;
    go_on = true;
    start(has_a_section_then, NULL);
    while (!inside)
        ;
    start(waits_in_10_ms, NULL);
    rcu_register_thread();
    _exit(FAIL);
}

static void a_third_threads_wait_while_the_first_starts_over_ends_not_within_a_forgotten_section(void)
{
    synchronize_rcu();
    for (int i = 0; i < 5; i++) {
        int status;
        pid_t child = unannounced(wait_in_a_third_thread_beside_a_section_that_is_forgotten);

        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        if (WIFEXITED(status) && WEXITSTATUS(status) == WITHIN)
            fail("a grace period ended within a section");
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
}

/* ---- a child in which it is earlier ------------------------------------------------------------- */

static void *is_idle_and_blocks_ipis(void *unused)
{
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    rcu_register_thread();
    rcu_read_lock_notrace();
    rcu_read_unlock_notrace();
    is_inside = true;
    for (;;)
        pause();
    return unused;
}

/* Who does not answer is rescued after half a millisecond: of a clock that goes. */
static void wait_beside_one_who_does_not_answer(void)
{
    uint64_t begin;

    rcu_notrace_set_ipi_mode(RCU_NOTRACE_IPI_SIGNAL);
    is_inside = false;
    start(is_idle_and_blocks_ipis, NULL);
    while (!is_inside)
        sleep_ms(1);
    begin = now_ns();
    synchronize_rcu();
    printf("    a wait of %llu us, %llu IPIs\n", (unsigned long long)(now_ns() - begin) / 1000,
           (unsigned long long)stats().ipis);
    CHECK(stats().ipis > 0 && stats().reports_by_handler == 0);
    fflush(stdout);
}

static void where_the_child_of_a_fork_is_in_an_earlier_time_waits_end(void)
{
    static const char earlier[] = "monotonic -5000 0";
    int offsets;
    pid_t child;

    wait_beside_one_who_does_not_answer();
    if (unshare(CLONE_NEWTIME))
        skip("no time namespace: %s", strerror(errno));
    offsets = open("/proc/self/timens_offsets", O_WRONLY);
    if (offsets < 0 || write(offsets, earlier, sizeof(earlier) - 1) < 0)
        skip("no offset of a clock: %s", strerror(errno));
    child = fork();
    if (!child) {
        alarm(10);
        wait_beside_one_who_does_not_answer();
        _exit(PASS);
    }
    expect_child(child);
}

/* ---- a fork beside a callback that has to do with probes ------------------------------------------ */

static atomic_bool has_begun, is_done;

static void probe(void *data, const char *flavour, const char *message)
{
    (void)data, (void)flavour, (void)message;
}

static void begin_in_front_of_a_fork(void)
{
    has_begun = true;
    /* It comes meanwhile. */
    sleep_ms(5);
}

static void switch_a_probe(struct rcu_head *head)
{
    (void)head;
    begin_in_front_of_a_fork();
    register_trace_rcu_stall_warning(probe, NULL);
    unregister_trace_rcu_stall_warning(probe, NULL);
    is_done = true;
}

static struct rcu_head awaited;

static void wait_for_callbacks_of_the_first_flavour(struct rcu_head *head)
{
    (void)head;
    begin_in_front_of_a_fork();
    call_rcu(&awaited, nothing);
    rcu_barrier();
    is_done = true;
}

static void wait_for_callbacks_of_the_second_flavour(struct rcu_head *head)
{
    (void)head;
    begin_in_front_of_a_fork();
    call_rcu_tasks_trace(&awaited, nothing);
    rcu_barrier_tasks_trace();
    is_done = true;
}

static void fork_beside(void (*callback)(struct rcu_head *),
                        void (*queue)(struct rcu_head *, void (*)(struct rcu_head *)), void (*barrier)(void))
{
    enum { ROUNDS = 10, MOST_MS = 90 };
    static struct rcu_head head;
    unsigned whole = 0;
    uint64_t fastest = UINT64_MAX;

    CHECK(rcu_notrace_start_worker() == 0);
    call_rcu_tasks_trace(&head, nothing);
    rcu_barrier_tasks_trace();
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t begin, took;
        int status;
        pid_t child;

        has_begun = is_done = false;
        queue(&head, callback);
        while (!has_begun)
            ;
        begin = now_ns();
        child = fork();
        if (!child)
            _exit(is_done ? PASS : FAIL);
        took = now_ns() - begin;
        CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status));
        whole += WEXITSTATUS(status) == PASS;
        if (took < fastest)
            fastest = took;
        barrier();
    }
    printf("    of %d forks %u came behind the callback; the fastest took %llu us\n", ROUNDS, whole,
           (unsigned long long)fastest / 1000);
    /* On a busy machine a callback may take longer than a fork waits. */
    CHECK(whole > 0 && fastest < MOST_MS * UINT64_C(1000000));
}

static void a_fork_waits_for_a_callback_that_switches_probes_no_longer_than_that_takes(void)
{
    fork_beside(switch_a_probe, call_rcu, rcu_barrier);
}

static void nor_for_one_of_the_second_flavour_that_waits_for_those_of_the_first(void)
{
    fork_beside(wait_for_callbacks_of_the_first_flavour, call_rcu_tasks_trace, rcu_barrier_tasks_trace);
}

static void nor_for_one_of_the_first_that_waits_for_those_of_the_second(void)
{
    fork_beside(wait_for_callbacks_of_the_second_flavour, call_rcu, rcu_barrier);
}

/* Behind the library's, which holds what those callbacks wait for. */
static void wait_in_a_fork(void (*callback)(struct rcu_head *),
                           void (*queue)(struct rcu_head *, void (*)(struct rcu_head *)), void (*barrier)(void))
{
    static struct rcu_head head;

    alarm(10);
    CHECK(rcu_notrace_start_worker() == 0);
    rcu_barrier();
    rcu_barrier_tasks_trace();
    for (int i = 0; i < 10; i++) {
        pid_t child;

        is_done = false;
        barrier_in_a_fork = barrier;
        queue(&head, callback);
        child = fork();
        if (!child)
            _exit(PASS);
        expect_child(child);
        CHECK(is_done);
    }
}

static void a_callback_that_an_older_fork_handler_waits_for_may_wait_for_the_other_flavours(void)
{
    wait_in_a_fork(wait_for_callbacks_of_the_first_flavour, call_rcu_tasks_trace, rcu_barrier_tasks_trace);
    wait_in_a_fork(wait_for_callbacks_of_the_second_flavour, call_rcu, rcu_barrier);
    wait_in_a_fork(switch_a_probe, call_rcu, rcu_barrier);
}

struct item {
    struct rcu_head head;
    unsigned calls;
};

static void count_call(struct rcu_head *head)
{
    ((struct item *)(void *)head)->calls++;
}

static void barrier_and_pause(void)
{
    rcu_barrier();
    usleep(300);
}

/* It comes amid the second flavour's, if it does not hold them again. */
static void each_callback_is_called_once_in_a_child_behind_an_older_fork_handler_that_waits(void)
{
    enum { ITEMS = 60000, CHILDREN = 40 };
    static struct item items[ITEMS];

    CHECK(rcu_notrace_start_worker() == 0);
    rcu_barrier();
    for (int i = 0; i < CHILDREN; i++) {
        pid_t child;

        memset(items, 0, sizeof(items));
        for (unsigned k = 0; k < ITEMS; k++)
            call_rcu_tasks_trace(&items[k].head, count_call);
        barrier_in_a_fork = barrier_and_pause;
        child = fork();
        barrier_in_a_fork = NULL;
        if (!child) {
            unsigned lost = 0;

            rcu_barrier_tasks_trace();
            for (unsigned k = 0; k < ITEMS; k++)
                lost += items[k].calls != 1;
            if (lost)
                fail("%u callbacks were not called once in child %d", lost, i);
            _exit(PASS);
        }
        expect_child(child);
        rcu_barrier_tasks_trace();
    }
}

/* ---- a barrier that runs the callback that forks ----------------------------------------------- */

enum { QUEUERS = 8, EACH = 300000 };

static struct rcu_head *heads[QUEUERS];
static atomic_bool stop;
static pid_t forked;

static void *queue_all_the_time(void *number)
{
    struct rcu_head *mine = heads[(uintptr_t)number];

    for (int i = 0; i < EACH && !stop; i++) {
        call_rcu(&mine[i], nothing);
        for (int pauses = 0; pauses < 20; pauses++)
            __asm__ volatile("pause");
    }
    return NULL;
}

static void fork_here(struct rcu_head *head)
{
    (void)head;
    forked = fork();
    if (!forked)
        alarm(5);
}

/* What another thread had counted and not yet queued is not the child's. */
static void a_barrier_in_the_child_of_a_callback_that_it_called_waits_for_what_the_child_has(void)
{
    enum { ROUNDS = 25 };
    static struct rcu_head forking;
    pthread_t queuers[QUEUERS];
    int status;

    for (int i = 0; i < QUEUERS; i++)
        CHECK((heads[i] = calloc(EACH, sizeof(struct rcu_head))));
    for (int round = 0; round < ROUNDS; round++) {
        stop = refuses_threads = false;
        for (uintptr_t i = 0; i < QUEUERS; i++)
            queuers[i] = start(queue_all_the_time, (void *)i);
        refuses_threads = true;
        sleep_ms(3);
        call_rcu(&forking, fork_here);
        rcu_barrier();
        if (!forked)
            _exit(PASS);
        stop = true;
        for (int i = 0; i < QUEUERS; i++)
            pthread_join(queuers[i], NULL);
        CHECK(waitpid(forked, &status, 0) == forked);
        if (WIFSIGNALED(status))
            fail("child %d never came out of rcu_barrier(): signal %d", round, WTERMSIG(status));
        rcu_barrier();
    }
    printf("    %d children, %llu callbacks\n", ROUNDS, (unsigned long long)stats().callbacks_run);
}

int main(int argc, char **argv)
{
#define SAYS(name, says) {#name, name, 0, says}
    static const struct scenario list[] = {
        SCENARIO(a_fork_above_one_that_waits_for_a_callback_is_not_waited_for_in_children),
        SCENARIO(a_fork_above_one_that_waits_for_the_lock_of_tracepoints_is_not_waited_for_in_children),
        SCENARIO(a_child_that_a_handler_made_unannounced_above_a_wait_for_the_lock_of_tracepoints_has_it),
        SCENARIO(a_second_threads_first_section_while_the_first_starts_over_is_waited_for_or_refused),
        SCENARIO(a_second_thread_that_waits_while_the_first_starts_over_waits_or_is_refused),
        SCENARIO(a_second_threads_section_that_ends_while_the_first_starts_over_is_in_no_count),
        SCENARIO(a_second_threads_fork_while_the_first_starts_over_leaves_no_lock_behind),
        SAYS(a_third_threads_wait_while_the_first_starts_over_ends_not_within_a_forgotten_section,
             "with sections that are older than its first call of RCU"),
        SCENARIO(where_the_child_of_a_fork_is_in_an_earlier_time_waits_end),
        SCENARIO(a_fork_waits_for_a_callback_that_switches_probes_no_longer_than_that_takes),
        SCENARIO(nor_for_one_of_the_second_flavour_that_waits_for_those_of_the_first),
        SCENARIO(nor_for_one_of_the_first_that_waits_for_those_of_the_second),
        SCENARIO(a_callback_that_an_older_fork_handler_waits_for_may_wait_for_the_other_flavours),
        SCENARIO(each_callback_is_called_once_in_a_child_behind_an_older_fork_handler_that_waits),
        SAYS(a_barrier_in_the_child_of_a_callback_that_it_called_waits_for_what_the_child_has,
             "no thread to run callbacks; rcu_barrier() runs them"),
    };

    return RUN_SCENARIOS("children", list, argc, argv);
}
