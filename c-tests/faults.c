/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * System calls that are refused, one kind after the other and with each error that a sandbox or a short
 * system gives: from the process's first instruction, or in the middle, with other threads in sections.
 * Grace periods end, none early; callbacks are called; what is lost is said.
 */
#include "inject.h"
#include "test.h"
#include "text.h"
#include "workload.h"

#include <sys/mount.h>
#include <sys/resource.h>

#include <rcu_notrace/tracepoint.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- what is refused --------------------------------------------------------------------------------- */

struct fault {
    const char *name;
    /* The IPI modes in which something must be refused in the workout: bits. No bit in `later`: the library makes
     * that call when it starts, and there is nothing to refuse afterwards. */
    unsigned from_start, later;
    int calls[MOST_CALLS];
    int errors[5];
};

enum { AUTO = 1, SIGNAL = 2, MEMBARRIER = 4, ALL = 7 };

/* A sandbox's; and those of a system that is short of something. */
#define TWO {EPERM, ENOSYS}
#define ERRORS {EPERM, ENOSYS, EAGAIN, ENOMEM}

static const struct fault faults[] = {
    {"membarrier", ALL, AUTO | MEMBARRIER, {SYS_membarrier, -1}, ERRORS},
    {"futex", ALL, ALL, {SYS_futex, -1}, ERRORS},
    {"tgkill", SIGNAL, SIGNAL, {SYS_tgkill, -1}, ERRORS},
    {"rt_sigaction", SIGNAL, SIGNAL, {SYS_rt_sigaction, -1}, ERRORS},
    {"madvise", ALL, 0, {SYS_madvise, -1}, ERRORS},
    {"mmap", ALL, ALL, {SYS_mmap, -1}, ERRORS},
    {"clone", ALL, ALL, {SYS_clone3, SYS_clone, -1}, ERRORS},
    {"membarrier_and_tgkill", ALL, ALL, {SYS_membarrier, SYS_tgkill, -1}, TWO},
    {"membarrier_and_rt_sigaction", ALL, ALL, {SYS_membarrier, SYS_rt_sigaction, -1}, TWO},
    {"files", ALL, ALL, {SYS_openat, SYS_read, SYS_pread64, SYS_close, -1}, TWO},
    {"rt_sigprocmask", ALL, ALL, {SYS_rt_sigprocmask, -1}, TWO},
    {"getpid_and_gettid", ALL, ALL, {SYS_getpid, SYS_gettid, -1}, TWO},
    {"prctl", ALL, ALL, {SYS_prctl, -1}, TWO},
    {"sched", ALL, ALL, {SYS_sched_getscheduler, SYS_sched_setscheduler, SYS_sched_yield, -1}, TWO},
    {"sleep", ALL, ALL, {SYS_futex, SYS_nanosleep, SYS_sched_yield, -1}, TWO},
    {"messages", ALL, ALL, {SYS_clone, SYS_clone3, SYS_lseek, SYS_pwritev2, SYS_writev, SYS_ppoll, -1}, TWO},
};

static bool has_call(const struct fault *fault, int call)
{
    for (const int *own = fault->calls; *own >= 0; own++)
        if (*own == call)
            return true;
    return false;
}

/* ---- a program's life under that fault ------------------------------------------------------------------ */

static atomic_bool hold, held, leave;
/* What must be refused before that section ends. */
static const int *awaited;

/* In a section when the fault comes. */
static void *hold_a_section(void *unused)
{
    rcu_register_thread();
    ready++;
    while (!hold)
        usleep(500);
    rcu_read_lock_notrace();
    held = true;
    sleep_ms(30);
    /* The waiter may be kept from its processor. */
    for (int i = 0; awaited && injected(awaited) == 0 && i < 1000; i++)
        sleep_ms(5);
    leave = true;
    rcu_read_unlock_notrace();
    while (!stop)
        usleep(1000);
    return unused;
}

static atomic_bool go;

/* Lives on when the fault comes, and ends under it. */
static void *end_under_it(void *unused)
{
    join_by_sections();
    for (int i = 0; i < 10; i++)
        read_once(0, 0);
    ready++;
    while (!go)
        usleep(500);
    for (int i = 0; i < 10; i++)
        read_once(0, 0);
    return unused;
}

static void *one_stack(size_t size)
{
    void *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(stack != MAP_FAILED);
    return stack;
}

static void go_on_in_a_child(void)
{
    pid_t child = fork();
    int status;

    if (!child) {
        memset(counted, 0, sizeof(counted));
        join_by_sections();
        for (int i = 0; i < 10; i++) {
            read_once(0, 0);
            synchronize_rcu();
        }
        check_callbacks();
        _exit(PASS);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == PASS);
}

enum { STACK = 256 << 10, UPDATES = 30 };

static void work_under(const struct fault *fault, int error, bool from_start)
{
    static void *(*const bodies[])(void *) = {read_shortly, read_shortly, read_at_length, be_idle, hold_a_section};
    unsigned expected = from_start ? fault->from_start : fault->later;
    int mode = rcu_notrace_get_ipi_mode();
    struct rcu_notrace_stats before;
    pthread_attr_t attributes;
    uint64_t begin = now_ns();
    pthread_t ender, thread;
    void *stack;

    /* What the test itself does is not to be refused. */
    inject_arm(false);
    make_objects();
    for (size_t i = 0; i < COUNT(bodies); i++)
        thread = start(bodies[i], NULL);
    (void)thread;
    stack = one_stack(STACK);
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, STACK);
    CHECK(pthread_create(&ender, &attributes, end_under_it, NULL) == 0);
    while (ready < (int)COUNT(bodies) + 1)
        usleep(500);
    /* The handler of the IPIs is installed by the first wait that needs it. */
    if (!from_start && !has_call(fault, SYS_rt_sigaction))
        for (int i = 0; i < 5; i++)
            update();
    /* Files are read for a report of a stall. */
    if (has_call(fault, SYS_openat)) {
        rcu_notrace_set_stall_ms(10);
        awaited = fault->calls;
    }
    before = stats();
    hold = true;
    while (!held)
        usleep(500);
    if (from_start)
        inject_arm(true);
    else if (!inject_prepare() || !inject(fault->calls, error, true))
        skip("no seccomp supervision here: %s", strerror(errno));
    synchronize_rcu();
    CHECK(leave);
    for (unsigned i = 0; i < UPDATES || now_ns() - begin < 60000000; i++)
        update();
    synchronize_rcu_expedited();
    synchronize_rcu_tasks_trace();
    check_callbacks();
    go = true;
    while (pthread_tryjoin_np(ender, NULL))
        usleep(500);
    /* Who looks at its TLS now, dies of it. */
    inject_arm(false);
    mprotect(stack, STACK, PROT_NONE);
    inject_arm(true);
    for (unsigned i = 0; i < 5; i++)
        update();
    if (!has_call(fault, SYS_clone))
        go_on_in_a_child();
    stop = true;
    inject_arm(false);
    usleep(5000);
    printf("    %s, errno %d, %s: %lu calls refused, %lu let through; %llu grace periods, %llu IPIs, "
           "%llu barriers, %llu rescues, %lu sections, %llu ms\n",
           fault->name, error, from_start ? "from the start" : "in the middle", injected(fault->calls),
           injection->passed, (unsigned long long)(stats().grace_periods - before.grace_periods),
           (unsigned long long)(stats().ipis - before.ipis),
           (unsigned long long)(stats().barriers - before.barriers),
           (unsigned long long)(stats().rescues - before.rescues), sections,
           (unsigned long long)(now_ns() - begin) / 1000000);
    CHECK(poisoned == 0);
    CHECK(stats().grace_periods - before.grace_periods >= UPDATES + 5);
    if (expected & 1u << mode)
        CHECK(injected(fault->calls) > 0);
}

/* ---- from the first instruction on ---------------------------------------------------------------------------- */

static int from_start_error;
static const struct fault *from_start_fault;

static void allow_from_the_start(int argc, char **argv);

static int waits_around_forks = -1;

/* Between the library's own handlers, which were registered later. */
static void wait_around_a_fork(void)
{
    if (waits_around_forks >= 0) {
        synchronize_rcu();
        rcu_barrier();
        waits_around_forks++;
    }
}

/* Before the constructors of libraries, the library's among them. */
static void refuse_from_the_start(int argc, char **argv, char **environment)
{
    (void)environment;
    pthread_atfork(wait_around_a_fork, wait_around_a_fork, wait_around_a_fork);
    allow_from_the_start(argc, argv);
    if (argc < 4 || strcmp(argv[1], "--from-start"))
        return;
    from_start_fault = &faults[atoi(argv[2])];
    from_start_error = atoi(argv[3]);
    if (!inject_prepare() || !inject(from_start_fault->calls, from_start_error, true))
        _exit(SKIP);
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit)(int, char **, char **) =
    refuse_from_the_start;

static void expect(pid_t child)
{
    int status;

    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == SKIP)
        skip("no seccomp supervision here");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != PASS)
        fail("it ended with status %#x", (unsigned)status);
}

static void try_each_error(const char *name)
{
    const char *part = getenv("FAULTS_LONG");
    size_t number = 0;
    const struct fault *fault;

    while (strcmp(faults[number].name, name))
        number++;
    fault = &faults[number];
    /* In the other modes the first does, but where `make check-faults-long` wants all. */
    for (const int *error = fault->errors; *error; error++) {
        char which[16], how[16];
        pid_t child;

        if (error != fault->errors && rcu_notrace_get_ipi_mode() != RCU_NOTRACE_IPI_AUTO &&
            (!part || strcmp(part, "1")))
            break;
        fflush(stdout);
        child = fork();
        if (!child) {
            setenv("RCU_NOTRACE_IPI", mode_names[rcu_notrace_get_ipi_mode()], 1);
            sprintf(which, "%zu", number);
            sprintf(how, "%d", *error);
            execl("/proc/self/exe", "faults", "--from-start", which, how, (char *)NULL);
            _exit(FAIL);
        }
        expect(child);
        if (!fault->later)
            continue;
        fflush(stdout);
        child = fork();
        if (!child) {
            work_under(fault, *error, false);
            fflush(stdout);
            _exit(PASS);
        }
        expect(child);
    }
}

#define REFUSED(call) \
    static void where_##call##_is_refused_grace_periods_end(void) \
    { \
        try_each_error(#call); \
    }

REFUSED(membarrier)
REFUSED(futex)
REFUSED(tgkill)
REFUSED(rt_sigaction)
REFUSED(madvise)
REFUSED(mmap)
REFUSED(clone)
REFUSED(membarrier_and_tgkill)
REFUSED(membarrier_and_rt_sigaction)
REFUSED(files)
REFUSED(rt_sigprocmask)
REFUSED(getpid_and_gettid)
REFUSED(prctl)
REFUSED(sched)
REFUSED(sleep)
REFUSED(messages)

/* ---- what is lost, and said -------------------------------------------------------------------------------- */

static void refuse(const int *calls, int error)
{
    if (!inject_prepare() || !inject(calls, error, true))
        skip("no seccomp supervision here: %s", strerror(errno));
}

static atomic_bool ended;

static void *wait_once(void *unused)
{
    synchronize_rcu();
    ended = true;
    return unused;
}

static void *die_in_a_section(void *unused)
{
    rcu_register_thread();
    rcu_read_lock_notrace();
    ready++;
    while (!go)
        usleep(500);
    syscall(SYS_exit, 0);
    return unused;
}

static void a_reader_that_died_is_found_where_tgkill_is_refused(void)
{
    static const int calls[] = {SYS_tgkill, -1};

    start(die_in_a_section, NULL);
    while (!ready)
        usleep(500);
    refuse(calls, EPERM);
    go = true;
    synchronize_rcu();
    printf("    %lu calls refused, %llu found dead\n", injected(calls), (unsigned long long)stats().died);
    CHECK(injected(calls) > 0 && stats().died == 1);
}

/* Nor is one that sleeps in its section taken for dead. */
static void a_reader_that_lives_is_waited_for_where_tgkill_is_refused(void)
{
    static const int calls[] = {SYS_tgkill, -1};

    awaited = calls;
    start(hold_a_section, NULL);
    refuse(calls, ENOSYS);
    hold = true;
    while (!held)
        usleep(500);
    synchronize_rcu();
    printf("    %lu calls refused\n", injected(calls));
    CHECK(leave && stats().died == 0 && injected(calls) > 0);
}

static void a_mode_without_signals_that_ends_is_said_to(void)
{
    static const int calls[] = {SYS_membarrier, -1};

    CHECK(rcu_notrace_set_ipi_mode(RCU_NOTRACE_IPI_MEMBARRIER) == 0);
    start(be_idle, NULL);
    while (!ready)
        usleep(500);
    synchronize_rcu();
    refuse(calls, EPERM);
    for (int i = 0; i < 5; i++)
        synchronize_rcu();
    CHECK(injected(calls) == 1 && rcu_notrace_get_ipi_mode() == RCU_NOTRACE_IPI_SIGNAL);
    stop = true;
}

static void a_handler_that_is_refused_is_said_to_be(void)
{
    static const int calls[] = {SYS_rt_sigaction, -1};

    rcu_notrace_set_ipi_mode(RCU_NOTRACE_IPI_SIGNAL);
    start(hold_a_section, NULL);
    refuse(calls, EPERM);
    hold = true;
    while (!held)
        usleep(500);
    synchronize_rcu();
    CHECK(leave && injected(calls) == 1);
}

/* Asleep when the sandbox is entered, so that nobody can wake them: the worker, and a caller of
 * synchronize_rcu() behind another. */
static void who_slept_when_futex_came_to_be_refused_goes_on(void)
{
    static const int calls[] = {SYS_futex, -1};
    pthread_t waiters[3];

    check_callbacks();
    memset(counted, 0, sizeof(counted));
    /* The worker naps ten times in vain, a millisecond each, and then sleeps. */
    usleep(100000);
    start(die_in_a_section, NULL);
    while (!ready)
        usleep(500);
    for (int i = 0; i < 3; i++)
        waiters[i] = start(wait_once, NULL);
    usleep(100000);
    refuse(calls, EPERM);
    go = true;
    for (int i = 0; i < 3; i++)
        while (pthread_tryjoin_np(waiters[i], NULL))
            usleep(500);
    check_callbacks();
    printf("    %lu calls refused\n", injected(calls));
    CHECK(injected(calls) > 0);
}

/* Of the program's one thread, which does nothing more for it, and nobody else comes. */
static void a_worker_that_nobody_may_wake_looks_for_itself(void)
{
    static struct counted one;
    uint64_t begin;

    if (!getenv("FAULTS_LONG") && !getenv("RCU_NOTRACE_WIDEN") && !getenv("RCU_NOTRACE_BROKEN"))
        skip("it does so after ten seconds (FAULTS_LONG=1)");
    CHECK(rcu_notrace_start_worker() == 0);
    /* The worker naps ten times in vain, a millisecond each, and then sleeps. */
    usleep(200000);
    refuse_futex(FUTEX_WAKE, FUTEX_WAKE_BITSET);
    begin = now_ns();
    call_rcu(&one.head, called);
    while (!one.calls && now_ns() - begin < 25000000000ull)
        usleep(10000);
    printf("    called after %llu ms\n", (unsigned long long)(now_ns() - begin) / 1000000);
    CHECK(one.calls == 1);
}

/* Neither a barrier nor a signal, nor a word of the scheduler's. */
static void with_no_barrier_at_all_a_wait_says_so_and_ends_with_the_next_section(void)
{
    static const int calls[] = {SYS_membarrier, SYS_tgkill, SYS_openat, -1};
    pthread_t waiter;

    rcu_notrace_set_stall_ms(150);
    start(end_under_it, NULL);
    while (!ready)
        usleep(500);
    refuse(calls, EPERM);
    waiter = start(wait_once, NULL);
    while (stats().stalls == 0)
        usleep(10000);
    usleep(100000);
    CHECK(!ended);
    go = true;
    while (pthread_tryjoin_np(waiter, NULL))
        usleep(500);
    printf("    %lu calls refused, %llu stalls\n", injected(calls), (unsigned long long)stats().stalls);
    CHECK(injected(calls) > 10);
}

static pid_t clone_behind_its_back(void)
{
    return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
}

/* In a new program, whose library starts without its page: the child cannot be told from one of vfork. */
static void a_child_that_nobody_told_of_ends_where_madvise_is_refused(void)
{
    setenv("RCU_NOTRACE_IPI", mode_names[rcu_notrace_get_ipi_mode()], 1);
    /* The fault of madvise, and its first error; the third argument is for that. */
    execl("/proc/self/exe", "faults", "--from-start", "4", "1", "--clone", (char *)NULL);
    fail("exec: %s", strerror(errno));
}

static int clone_without_madvise(void)
{
    pid_t child;
    int status;

    CHECK(injected(from_start_fault->calls) == 1);
    synchronize_rcu();
    child = clone_behind_its_back();
    if (!child) {
        synchronize_rcu();
        _exit(FAIL);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    synchronize_rcu();
    /* What it was told of goes on. */
    go_on_in_a_child();
    return PASS;
}

static void fork_and_wait_in_handlers(void)
{
    waits_around_forks = 0;
    for (int i = 0; i < 3; i++)
        go_on_in_a_child();
    synchronize_rcu();
    CHECK(waits_around_forks == 6);
}

static void fork_handlers_may_wait(void)
{
    start(be_idle, NULL);
    while (!ready)
        usleep(500);
    fork_and_wait_in_handlers();
    stop = true;
}

static void a_fork_handler_may_wait_where_madvise_is_refused(void)
{
    setenv("RCU_NOTRACE_IPI", mode_names[rcu_notrace_get_ipi_mode()], 1);
    execl("/proc/self/exe", "faults", "--from-start", "4", "1", "--fork", (char *)NULL);
    fail("exec: %s", strerror(errno));
}

static int fork_without_madvise(void)
{
    CHECK(injected(from_start_fault->calls) == 1);
    synchronize_rcu();
    fork_and_wait_in_handlers();
    return PASS;
}

static void a_stall_is_reported_without_calls_where_memory_is_not_read(void)
{
    static const int calls[] = {SYS_process_vm_readv, -1};

    rcu_notrace_set_stall_ms(10);
    awaited = calls;
    start(hold_a_section, NULL);
    refuse(calls, EPERM);
    hold = true;
    while (!held)
        usleep(500);
    synchronize_rcu();
    printf("    %lu calls refused, %llu stalls\n", injected(calls), (unsigned long long)stats().stalls);
    CHECK(leave && injected(calls) > 0 && stats().stalls > 0);
}

static void *be_deaf(void *unused)
{
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    return be_idle(unused);
}

static void *hold_a_section_for_long(void *ms)
{
    rcu_read_lock_notrace();
    held = true;
    sleep_ms((unsigned)(uintptr_t)ms);
    leave = true;
    rcu_read_unlock_notrace();
    return NULL;
}

/* ---- a clock that is refused, or stands still ---------------------------------------------------------------- */

static atomic_bool clock_refused, clock_stands_still;
static struct timespec stands_at;
static atomic_ulong clock_refusals;

/* The library's comes here too. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (clock_refused) {
        clock_refusals++;
        errno = EPERM;
        return -1;
    }
    if (clock_stands_still && clock == CLOCK_MONOTONIC) {
        *now = stands_at;
        return 0;
    }
    return (int)syscall(SYS_clock_gettime, clock, now);
}

/* As libfaketime's does by default, from the program's beginning or later. Nobody may wait for it: a deaf thread is
 * rescued, and a section that lasts is reported. */
static void stand_still(struct timespec at)
{
    enum { LAST_MS = 500 };

    alarm(20);
    rcu_notrace_set_ipi_mode(RCU_NOTRACE_IPI_SIGNAL);
    rcu_notrace_set_stall_ms(100);
    start(be_deaf, NULL);
    while (!ready)
        usleep(500);
    stands_at = at;
    clock_stands_still = true;
    for (int i = 0; i < 5; i++)
        synchronize_rcu();
    CHECK(stats().ipis > 0);
    start(hold_a_section_for_long, (void *)(uintptr_t)LAST_MS);
    while (!held)
        usleep(500);
    synchronize_rcu();
    CHECK(leave);
    check_callbacks();
    printf("    %llu IPIs, %llu stalls\n", (unsigned long long)stats().ipis, (unsigned long long)stats().stalls);
    CHECK(stats().stalls > 0);
    stop = true;
}

static void beside_a_clock_that_stands_still_waits_end_and_stalls_are_reported(void)
{
    stand_still((struct timespec){1000, 0});
}

/* Half a millisecond later than it was seen last. */
static void and_where_it_stops_while_one_looks_at_it(void)
{
    struct timespec at;

    synchronize_rcu();
    CHECK(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &at) == 0);
    stands_at = at;
    clock_stands_still = true;
    synchronize_rcu();
    at.tv_nsec += 500000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_nsec -= 1000000000;
        at.tv_sec++;
    }
    stand_still(at);
}

static void without_a_clock_grace_periods_end(void)
{
    static const int calls[] = {SYS_tgkill, -1};

    /* Nobody is flagged but by who looks after some time. */
    rcu_notrace_set_ipi_mode(RCU_NOTRACE_IPI_SIGNAL);
    start(hold_a_section, NULL);
    start(be_idle, NULL);
    while (ready < 2)
        usleep(500);
    refuse(calls, EPERM);
    hold = true;
    while (!held)
        usleep(500);
    clock_refused = true;
    synchronize_rcu();
    CHECK(leave);
    for (int i = 0; i < 20; i++)
        synchronize_rcu();
    check_callbacks();
    clock_refused = false;
    printf("    %lu looks at it in vain\n", clock_refusals);
    CHECK(clock_refusals > 0);
    stop = true;
}

/* A section is open when the clock goes: nobody takes that for a wait of years, and reports a stall. */
static void a_clock_that_goes_in_the_middle_of_a_wait_makes_it_no_longer(void)
{
    pthread_t waiter;

    start(hold_a_section, NULL);
    hold = true;
    while (!held)
        usleep(500);
    waiter = start(wait_once, NULL);
    while (stats().holdouts + stats().transient_waits == 0 && !leave)
        usleep(500);
    clock_refused = true;
    while (pthread_tryjoin_np(waiter, NULL))
        usleep(500);
    for (int i = 0; i < 5; i++)
        synchronize_rcu();
    clock_refused = false;
    synchronize_rcu();
    stop = true;
    printf("    %lu looks at it in vain, %llu stalls\n", clock_refusals, (unsigned long long)stats().stalls);
    CHECK(leave && stats().stalls == 0);
    if (clock_refusals == 0)
        skip("the machine is too busy: the section had ended before");
}

/* Each of the waits sleeps for half a millisecond before it looks after who is silent. If sleeps did not count, it
 * would sleep some hundred times. */
static void without_a_clock_who_does_not_hear_is_rescued_as_soon(void)
{
    enum { WAITS = 40 };
    uint64_t took;

    rcu_notrace_set_ipi_mode(RCU_NOTRACE_IPI_SIGNAL);
    start(be_deaf, NULL);
    while (!ready)
        usleep(500);
    clock_refused = true;
    clock_refusals = 0;
    for (int i = 0; i < WAITS; i++)
        synchronize_rcu();
    clock_refused = false;
    took = clock_refusals;
    printf("    %d waits, %llu rescues, %llu looks at the clock\n", WAITS, (unsigned long long)stats().rescues,
           (unsigned long long)took);
    CHECK(took > 0 && stats().ipis >= WAITS);
    /* A look counts as a microsecond: most of them are spent spinning, before the first sleep. */
    CHECK(took < WAITS * 350);
    stop = true;
}

/* ---- more readers than there are places for ------------------------------------------------------------------- */

enum { MANY = 4500, SMALL_STACK = 32768 };

static atomic_int inside_of_many, left_of_many;

static void *be_one_of_too_many(void *unused)
{
    rcu_register_thread();
    ready++;
    while (!go)
        sleep_ms(50);
    /* Twice: who found no place asks again. */
    for (int i = 0; i < 2; i++) {
        rcu_read_lock_notrace();
        rcu_read_unlock_notrace();
    }
    rcu_read_lock_notrace();
    inside_of_many++;
    while (!hold)
        sleep_ms(50);
    left_of_many++;
    rcu_read_unlock_notrace();
    return unused;
}

static void *wait_for_too_many(void *unused)
{
    synchronize_rcu();
    CHECK(left_of_many == inside_of_many);
    ended = true;
    return unused;
}

static void crowd_without_memory(int many)
{
    static const int calls[] = {SYS_mmap, -1};
    char *stacks = one_stack((size_t)many * SMALL_STACK);
    pthread_t *threads = calloc((size_t)many, sizeof(*threads)), waiter;
    pthread_attr_t attributes;

    pthread_attr_init(&attributes);
    for (int i = 0; i < many; i++) {
        pthread_attr_setstack(&attributes, stacks + (size_t)i * SMALL_STACK, SMALL_STACK);
        if (pthread_create(&threads[i], &attributes, be_one_of_too_many, NULL))
            skip("no more than %d threads here", i);
    }
    while (ready < many)
        sleep_ms(5);
    go = true;
    while (inside_of_many < many)
        sleep_ms(5);
    /* Its stack is not to be refused. */
    waiter = start(wait_for_too_many, NULL);
    refuse(calls, ENOMEM);
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    /* The waiter may be kept from its processor. */
    for (int i = 0; stats().holdouts + stats().transient_waits == 0 && i < 1000; i++)
        sleep_ms(10);
    sleep_ms(100);
    CHECK(!ended);
    hold = true;
    while (pthread_tryjoin_np(waiter, NULL))
        usleep(500);
    CHECK(ended && left_of_many == many);
    for (int i = 0; i < many; i++)
        while (pthread_tryjoin_np(threads[i], NULL))
            usleep(500);
    check_callbacks();
    inject_arm(false);
    printf("    %d sections at once; %llu holdouts asked, %llu transient waits, %lu calls refused\n", many,
           (unsigned long long)stats().holdouts, (unsigned long long)stats().transient_waits, injected(calls));
}

static void a_thousand_sections_are_waited_for_where_mmap_is_refused(void)
{
    crowd_without_memory(1000);
    if (rcu_notrace_get_ipi_mode() == RCU_NOTRACE_IPI_AUTO)
        CHECK(stats().holdouts >= 1000);
}

/* Those beyond the places are waited for as transient ones. */
static void more_sections_than_there_are_places_for_are_waited_for(void)
{
    crowd_without_memory(MANY);
    CHECK(stats().transient_waits > 0);
}

/* ---- a list of what may be called ------------------------------------------------------------------------------ */

/* As docs/FAULTS.md lists them; tests/syscalls.rs compares. */
#define LIBRARY_CALLS \
    X(membarrier) X(futex) X(tgkill) X(rt_tgsigqueueinfo) X(rt_sigaction) X(rt_sigprocmask) X(rt_sigreturn) X(rt_sigtimedwait) \
    X(getpid) X(gettid) X(mmap) X(munmap) X(madvise) X(mprotect) X(sched_yield) X(nanosleep) X(clock_gettime) \
    X(sched_getscheduler) X(sched_setscheduler) X(prctl) X(openat) X(fstat) X(pread64) X(fcntl) X(close) \
    X(lseek) X(pwritev2) X(ppoll) X(writev) X(exit_group) X(process_vm_readv)
/* end of LIBRARY_CALLS */

static const struct {
    const char *name;
    int number;
} library_calls[] = {
#define X(name) {#name, SYS_##name},
    LIBRARY_CALLS
#undef X
};

#define LOAD(field, offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field) + (offset))

/* From here on a call from the library's code that is not on the list, or is left out of it, ends the process. */
static bool allow_the_list(const char *but)
{
    struct sock_filter filter[COUNT(library_calls) * 2 + 9];
    size_t used = 0;
    struct text text;

    /* One comparison of the upper half does for both ends. */
    if (!find_text(&text, (void *)(uintptr_t)synchronize_rcu) || text.begin >> 32 != text.end >> 32)
        return false;
    /* Where the instruction behind the call stands. */
    filter[used++] = (struct sock_filter)LOAD(instruction_pointer, 4);
    filter[used++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(text.begin >> 32), 1, 0);
    filter[used++] = (struct sock_filter)ANSWER(SECCOMP_RET_ALLOW);
    filter[used++] = (struct sock_filter)LOAD(instruction_pointer, 0);
    filter[used++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (uint32_t)text.begin, 0, 1);
    filter[used++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, (uint32_t)text.end, 0, 1);
    filter[used++] = (struct sock_filter)ANSWER(SECCOMP_RET_ALLOW);
    filter[used++] = (struct sock_filter)LOAD_NUMBER;
    for (size_t i = 0; i < COUNT(library_calls); i++)
        if (!but || strcmp(but, library_calls[i].name)) {
            filter[used++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
                                                          (unsigned)library_calls[i].number, 0, 1);
            filter[used++] = (struct sock_filter)ANSWER(SECCOMP_RET_ALLOW);
        }
    filter[used++] = (struct sock_filter)ANSWER(SECCOMP_RET_KILL_PROCESS);
    return !install_filter(filter, used, 0);
}

static const char *left_out;

static void allow_from_the_start(int argc, char **argv)
{
    if (argc < 3 || strcmp(argv[1], "--listed"))
        return;
    left_out = strcmp(argv[2], "-") ? argv[2] : NULL;
    if (!allow_the_list(left_out))
        _exit(SKIP);
}

DECLARE_TRACE(faults_seen, TP_PROTO(int n), TP_ARGS(n));
DEFINE_TRACE(faults_seen, TP_PROTO(int n), TP_ARGS(n));

static atomic_int probes;

static void probe(void *data, int n)
{
    (void)data;
    probes += n;
}

/* As much as one process can show of the library. */
static int live_by_the_list(void)
{
    struct sched_param parameters = {.sched_priority = 1};
    pid_t child;
    int status;

    CHECK(register_trace_faults_seen(probe, NULL) == 0);
    trace_faults_seen(3);
    CHECK(unregister_trace_faults_seen(probe, NULL) == 0);
    tracepoint_synchronize_unregister();
    CHECK(probes == 3);
    for (int mode = 0; mode < 3; mode++) {
        pthread_t threads[5];

        CHECK(rcu_notrace_set_ipi_mode(mode) == 0);
        rcu_notrace_set_stall_ms(10);
        ready = 0;
        stop = hold = held = leave = go = false;
        threads[0] = start(read_shortly, NULL);
        threads[1] = start(read_at_length, NULL);
        threads[2] = start(be_idle, NULL);
        threads[3] = start(hold_a_section, NULL);
        threads[4] = start(end_under_it, NULL);
        while (ready < 5)
            usleep(500);
        hold = true;
        while (!held)
            usleep(500);
        synchronize_rcu();
        CHECK(leave);
        if (!sched_setscheduler(0, SCHED_FIFO, &parameters)) {
            synchronize_rcu();
            parameters.sched_priority = 0;
            sched_setscheduler(0, SCHED_OTHER, &parameters);
        }
        for (int i = 0; i < 50; i++)
            update();
        synchronize_rcu_expedited();
        memset(counted, 0, sizeof(counted));
        check_callbacks();
        go = stop = true;
        for (int i = 0; i < 5; i++)
            pthread_join(threads[i], NULL);
        go_on_in_a_child();
    }
    child = clone_behind_its_back();
    if (!child) {
        synchronize_rcu();
        _exit(PASS);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && !WEXITSTATUS(status));
    /* It is said why, and then SIGABRT. */
    child = fork();
    if (!child) {
        rcu_read_lock_notrace();
        synchronize_rcu();
        _exit(FAIL);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    printf("    %llu grace periods, %llu IPIs, %llu barriers, %llu stalls by %zu system calls\n",
           (unsigned long long)stats().grace_periods, (unsigned long long)stats().ipis,
           (unsigned long long)stats().barriers, (unsigned long long)stats().stalls, COUNT(library_calls));
    fflush(stdout);
    return PASS;
}

static int status_by_the_list_but(const char *but)
{
    pid_t child;
    int status;

    fflush(stdout);
    child = fork();
    if (!child) {
        setenv("RCU_NOTRACE_IPI", mode_names[rcu_notrace_get_ipi_mode()], 1);
        execl("/proc/self/exe", "faults", "--listed", but, (char *)NULL);
        _exit(FAIL);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == SKIP)
        skip("no seccomp here");
    return status;
}

static void a_sandbox_that_kills_for_calls_not_listed_kills_nobody(void)
{
    static const char *const needed[] = {"membarrier", "futex", "tgkill", "rt_sigaction", "rt_sigprocmask",
                                         "getpid", "madvise", "openat", "process_vm_readv", "rt_sigreturn",
                                         "sched_getscheduler"};
    int status = status_by_the_list_but("-");

    if (status)
        fail("it ended with status %#x", (unsigned)status);
    /* And it would, for each of these. */
    for (size_t i = 0; i < COUNT(needed); i++) {
        status = status_by_the_list_but(needed[i]);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
            fail("without %s it ended with status %#x", needed[i], (unsigned)status);
    }
    printf("    and killed it for each of %zu that were left out\n", COUNT(needed));
}

/* ---- limits ---------------------------------------------------------------------------------------------------- */

/* Waits and callbacks among readers, one of them in a section when it begins. */
static void work(void)
{
    uint64_t begin = now_ns();

    CHECK(held);
    synchronize_rcu();
    CHECK(leave);
    for (unsigned i = 0; i < UPDATES || now_ns() - begin < 60000000; i++)
        update();
    check_callbacks();
    stop = true;
    usleep(5000);
    print_stats();
    CHECK(poisoned == 0);
}

static void have_readers(void)
{
    make_objects();
    start(read_shortly, NULL);
    start(read_at_length, NULL);
    start(be_idle, NULL);
    start(hold_a_section, NULL);
    while (ready < 4)
        usleep(500);
    hold = true;
    while (!held)
        usleep(500);
}

static void set_limit(int which, rlim_t most)
{
    struct rlimit limit = {most, most};

    if (setrlimit((__rlimit_resource_t)which, &limit))
        skip("setrlimit: %s", strerror(errno));
}

static void where_no_signal_can_be_queued_ipis_arrive(void)
{
    union sigval value = {0};
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 3);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    set_limit(RLIMIT_SIGPENDING, 0);
    CHECK(sigqueue(getpid(), SIGRTMIN + 3, value) == -1 && errno == EAGAIN);
    rcu_notrace_set_ipi_mode(RCU_NOTRACE_IPI_SIGNAL);
    have_readers();
    work();
    CHECK(stats().ipis > 0 && stats().reports_by_handler > 0);
}

/* A signal that needs a queue, unlike SIGURG: in a new program, which takes it for its IPIs from the start. */
static void where_a_real_time_signal_cannot_be_queued_readers_are_flagged(void)
{
    char number[16];

    sprintf(number, "%d", SIGRTMIN + 5);
    setenv("RCU_NOTRACE_SIGNAL", number, 1);
    setenv("RCU_NOTRACE_IPI", "signal", 1);
    execl("/proc/self/exe", "faults", "--real-time", (char *)NULL);
    fail("exec: %s", strerror(errno));
}

static int live_without_a_queue(void)
{
    int number = SIGRTMIN + 5;
    uint64_t rescues, by_handler;
    struct sigaction now;
    pthread_t reader = start(be_idle, NULL);
    sigset_t set;

    while (!ready)
        usleep(500);
    /* It arrives while it can. */
    while (stats().reports_by_handler == 0)
        synchronize_rcu();
    CHECK(sigaction(number, NULL, &now) == 0 && now.sa_handler != SIG_DFL);
    CHECK(sigaction(SIGURG, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
    /* None is left on its way when that ends. */
    stop = true;
    pthread_join(reader, NULL);
    stop = false;
    ready = 0;
    set_limit(RLIMIT_SIGPENDING, 0);
    sigemptyset(&set);
    sigaddset(&set, number);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    CHECK(syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), number) == -1 && errno == EAGAIN);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    rescues = stats().rescues;
    by_handler = stats().reports_by_handler;
    have_readers();
    work();
    CHECK(stats().rescues > rescues && stats().reports_by_handler == by_handler);
    return PASS;
}

/* Nobody's, with no right to be more. */
static void where_no_thread_can_be_created_callbacks_run_in_rcu_barrier(void)
{
    pid_t child;

    if (getuid())
        skip("root may become somebody who is limited");
    have_readers();
    set_limit(RLIMIT_NPROC, 0);
    if (setgid(65534) || setuid(65534))
        skip("setuid: %s", strerror(errno));
    child = fork();
    if (child >= 0) {
        if (!child)
            _exit(0);
        skip("RLIMIT_NPROC does not hold here");
    }
    CHECK(errno == EAGAIN);
    work();
}

/* One that sleeps in its section, and of which neither the kernel nor /proc says anything. */
static void a_reader_that_lives_is_waited_for_where_tgkill_and_files_are_refused(void)
{
    static const int calls[] = {SYS_tgkill, -1};

    start(hold_a_section, NULL);
    refuse(calls, EPERM);
    hold = true;
    while (!held)
        usleep(500);
    set_limit(RLIMIT_NOFILE, 0);
    CHECK(open("/proc/self/status", O_RDONLY) == -1 && errno == EMFILE);
    synchronize_rcu();
    printf("    %lu calls refused, %llu found dead\n", injected(calls), (unsigned long long)stats().died);
    CHECK(leave && stats().died == 0 && injected(calls) > 0);
}

static void where_no_file_can_be_opened_grace_periods_end(void)
{
    have_readers();
    set_limit(RLIMIT_NOFILE, 0);
    CHECK(open("/proc/self/status", O_RDONLY) == -1 && errno == EMFILE);
    work();
}

/* No page more than the process has. */
static void where_no_address_space_is_left_grace_periods_end(void)
{
    unsigned long pages = 0;
    FILE *file;

    have_readers();
    file = fopen("/proc/self/statm", "r");
    CHECK(file && fscanf(file, "%lu", &pages) == 1 && pages > 0);
    fclose(file);
    set_limit(RLIMIT_AS, pages * (rlim_t)sysconf(_SC_PAGESIZE));
    CHECK(mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == ENOMEM);
    work();
}

/* Until there is no room for another byte. */
static void fill_up(const char *path)
{
    static const char much[4096];
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);

    CHECK(file >= 0);
    while (write(file, much, sizeof(much)) > 0)
        ;
    CHECK(write(file, much, 1) == -1 && errno == ENOSPC);
    close(file);
}

static void hide_proc(bool behind_tmpfs)
{
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
        skip("no mount namespace: %s", strerror(errno));
    if (behind_tmpfs ? mount("none", "/proc", "tmpfs", 0, "size=4k") : umount2("/proc", MNT_DETACH))
        skip("/proc stays: %s", strerror(errno));
    if (behind_tmpfs)
        fill_up("/proc/all_there_is");
    CHECK(access("/proc/self/status", R_OK) == -1 && errno == ENOENT);
}

/* A thread that ends wants to know of others whether they are there. */
static void *leave_a_callback(void *unused)
{
    static struct counted one;

    read_once(0, 0);
    call_rcu(&one.head, called);
    return unused;
}

static void without_proc(bool behind_tmpfs)
{
    have_readers();
    hide_proc(behind_tmpfs);
    pthread_join(start(leave_a_callback, NULL), NULL);
    rcu_notrace_set_stall_ms(10);
    work();
}

static void where_proc_is_not_mounted_grace_periods_end(void)
{
    without_proc(false);
}

static void where_proc_is_something_else_that_is_full_grace_periods_end(void)
{
    without_proc(true);
}

/* A report of a stall is the longest text. */
static void stall_with_stderr_on(int file)
{
    int saved = dup(2);

    rcu_notrace_set_stall_ms(5);
    have_readers();
    if (file >= 0)
        CHECK(dup2(file, 2) == 2);
    else
        close(2);
    synchronize_rcu();
    CHECK(leave);
    /* Nothing of the library's has that number now. */
    if (file < 0)
        CHECK(fcntl(2, F_GETFD) == -1 && errno == EBADF);
    dup2(saved, 2);
    stop = true;
    printf("    %llu stalls were reported\n", (unsigned long long)stats().stalls);
    if (stats().stalls == 0)
        skip("the machine is too busy for a stall of 30 ms");
}

static void what_is_said_on_a_full_disk_is_lost_and_nothing_else(void)
{
    int full = open("/dev/full", O_WRONLY);

    CHECK(full >= 0 && write(full, "x", 1) == -1 && errno == ENOSPC);
    stall_with_stderr_on(full);
}

static int open_unnamed(void)
{
    int file = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (file < 0)
        skip("no unnamed file: %s", strerror(errno));
    return file;
}

/* What else is open gets nothing of it. */
static void what_is_said_on_a_closed_stderr_is_lost_and_nothing_else(void)
{
    int other = open_unnamed();

    stall_with_stderr_on(-1);
    CHECK(lseek(other, 0, SEEK_END) == 0);
}

/* It is standard error, as for perror(3). */
static void what_is_said_goes_to_the_file_that_got_the_number_of_stderr(void)
{
    int file = open_unnamed();
    char text[4096];
    ssize_t length;

    stall_with_stderr_on(file);
    length = pread(file, text, sizeof(text) - 1, 0);
    CHECK(length > 0);
    text[length] = 0;
    CHECK(strstr(text, "rcu-notrace: stall: synchronize_rcu()"));
}

static void what_is_said_to_nobody_ends_nobody(void)
{
    int pipes[2];

    CHECK(pipe(pipes) == 0);
    close(pipes[0]);
    stall_with_stderr_on(pipes[1]);
}

#define CASE(call) SCENARIO(where_##call##_is_refused_grace_periods_end)
#define SAYS(name, text) {#name, name, 0, text}

int main(int argc, char **argv)
{
    static const struct scenario list[] = {
        CASE(membarrier),
        CASE(futex),
        CASE(tgkill),
        CASE(rt_sigaction),
        CASE(madvise),
        CASE(mmap),
        SAYS(where_clone_is_refused_grace_periods_end, "no thread to run callbacks; rcu_barrier() runs them"),
        CASE(membarrier_and_tgkill),
        CASE(membarrier_and_rt_sigaction),
        CASE(files),
        CASE(rt_sigprocmask),
        CASE(getpid_and_gettid),
        CASE(prctl),
        CASE(sched),
        CASE(sleep),
        CASE(messages),
        SAYS(a_reader_that_died_is_found_where_tgkill_is_refused, "died inside a read-side critical section"),
        SCENARIO(a_reader_that_lives_is_waited_for_where_tgkill_is_refused),
        SCENARIO(a_reader_that_lives_is_waited_for_where_tgkill_and_files_are_refused),
        SAYS(a_mode_without_signals_that_ends_is_said_to, "membarrier(2) is refused here; IPI mode is signal"),
        SAYS(a_handler_that_is_refused_is_said_to_be, "rt_sigaction(2) is refused here: no IPIs"),
        SAYS(who_slept_when_futex_came_to_be_refused_goes_on, "futex(2) is refused here"),
        SCENARIO(a_worker_that_nobody_may_wake_looks_for_itself),
        SAYS(with_no_barrier_at_all_a_wait_says_so_and_ends_with_the_next_section, "stall: synchronize_rcu()"),
        SAYS(a_child_that_nobody_told_of_ends_where_madvise_is_refused,
             "the kernel does not say which it is (no memory for that, or madvise(2) is refused)"),
        SCENARIO(fork_handlers_may_wait),
        SCENARIO(a_fork_handler_may_wait_where_madvise_is_refused),
        SCENARIO(a_stall_is_reported_without_calls_where_memory_is_not_read),
        {"beside_a_clock_that_stands_still_waits_end_and_stalls_are_reported",
         beside_a_clock_that_stands_still_waits_end_and_stalls_are_reported, 0, "grace period"},
        {"and_where_it_stops_while_one_looks_at_it", and_where_it_stops_while_one_looks_at_it, 0, "grace period"},
        SCENARIO(without_a_clock_grace_periods_end),
        SCENARIO(a_clock_that_goes_in_the_middle_of_a_wait_makes_it_no_longer),
        SCENARIO(without_a_clock_who_does_not_hear_is_rescued_as_soon),
        SCENARIO(a_thousand_sections_are_waited_for_where_mmap_is_refused),
        SCENARIO(more_sections_than_there_are_places_for_are_waited_for),
        SCENARIO(a_sandbox_that_kills_for_calls_not_listed_kills_nobody),
        SCENARIO(where_no_signal_can_be_queued_ipis_arrive),
        SCENARIO(where_a_real_time_signal_cannot_be_queued_readers_are_flagged),
        SAYS(where_no_thread_can_be_created_callbacks_run_in_rcu_barrier,
             "no thread to run callbacks; rcu_barrier() runs them"),
        SCENARIO(where_no_file_can_be_opened_grace_periods_end),
        SCENARIO(where_no_address_space_is_left_grace_periods_end),
        SCENARIO(where_proc_is_not_mounted_grace_periods_end),
        SCENARIO(where_proc_is_something_else_that_is_full_grace_periods_end),
        SCENARIO(what_is_said_on_a_full_disk_is_lost_and_nothing_else),
        SCENARIO(what_is_said_on_a_closed_stderr_is_lost_and_nothing_else),
        SCENARIO(what_is_said_goes_to_the_file_that_got_the_number_of_stderr),
        SCENARIO(what_is_said_to_nobody_ends_nobody),
    };

    if (argc > 2 && !strcmp(argv[1], "--listed"))
        return live_by_the_list();
    if (argc > 1 && !strcmp(argv[1], "--real-time"))
        return live_without_a_queue();
    if (from_start_fault) {
        alarm(30);
        if (argc > 4)
            return strcmp(argv[4], "--fork") ? clone_without_madvise() : fork_without_madvise();
        work_under(from_start_fault, from_start_error, true);
        return PASS;
    }
    return RUN_SCENARIOS("faults", list, argc, argv);
}
