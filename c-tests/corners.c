/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Corners of a process's life in which readers were once lost, found twice or waited for in vain. */
#include "seccomp.h"
#include "steps.h"
#include "test.h"

#include <dirent.h>
#include <dlfcn.h>
#include <limits.h>
#include <setjmp.h>
#include <sys/mman.h>

static void section(void)
{
    rcu_read_lock_notrace();
    rcu_read_unlock_notrace();
}

static atomic_bool stop;
static atomic_ulong grace_periods;

static void *reads(void *unused)
{
    while (!stop) {
        rcu_read_lock_notrace();
        for (int i = 0; i < 500; i++)
            __asm__ volatile("pause");
        rcu_read_unlock_notrace();
    }
    return unused;
}

static void *waits(void *unused)
{
    while (!stop) {
        synchronize_rcu();
        grace_periods++;
    }
    return unused;
}

/* ---- vfork ----------------------------------------------------------------------------------- */

static atomic_bool inside, ended;

static pid_t sections_in_a_vfork_child(void)
{
    pid_t child = vfork();

    if (!child) {
        join_by_sections();
        _exit(0);
    }
    return child;
}

static void *first_sections_in_a_vfork_child(void *unused)
{
    waitpid(sections_in_a_vfork_child(), NULL, 0);
    join_by_sections();
    rcu_read_lock_notrace();
    inside = true;
    sleep_ms(100);
    ended = true;
    rcu_read_unlock_notrace();
    return unused;
}

static void sections_in_a_vfork_child_do_not_lend_their_thread_id(void)
{
    pthread_t thread = start(first_sections_in_a_vfork_child, NULL);

    while (!inside)
        ;
    synchronize_rcu();
    CHECK(ended);
    CHECK(stats().died == 0);
    pthread_join(thread, NULL);
}

/* ---- a child that nobody told the library of ------------------------------------------------- */

static void *wait_first(void *unused)
{
    synchronize_rcu();
    return unused;
}

static void a_second_thread_of_an_unannounced_child_is_told_who_must_call_first(void)
{
    section();
    synchronize_rcu();
    if (syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL) == 0) {
        pthread_join(start(wait_first, NULL), NULL);
        _exit(FAIL);
    }
    /* The child aborts; what it said is in the pipe that we share. */
    wait(NULL);
}

static void *stays_in_a_section(void *unused)
{
    rcu_read_lock_notrace();
    inside = true;
    while (!ended)
        sleep_ms(1);
    rcu_read_unlock_notrace();
    return unused;
}

/* The first thread may not forget what it cannot count. */
static void a_section_of_a_second_thread_of_an_unannounced_child_is_not_forgotten(void)
{
    section();
    synchronize_rcu();
    if (syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL) == 0) {
        alarm(10);
        start(stays_in_a_section, NULL);
        while (!inside)
            sleep_ms(1);
        synchronize_rcu();
        _exit(FAIL);
    }
    wait(NULL);
}

static void *joins_and_stays_in_a_section(void *unused)
{
    join_by_sections();
    return stays_in_a_section(unused);
}

/* The first process of a PID namespace, and its child in another one, have one number: 1. */
static void nor_where_the_child_has_its_parents_number(void)
{
    pid_t first;
    int status;

    if (unshare(CLONE_NEWPID))
        skip("no PID namespaces here: %s", strerror(errno));
    synchronize_rcu();
    first = fork();
    if (!first) {
        synchronize_rcu();
        if (syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, NULL) == 0) {
            alarm(10);
            start(joins_and_stays_in_a_section, NULL);
            while (!inside)
                sleep_ms(1);
            synchronize_rcu();
            _exit(FAIL);
        }
        wait(NULL);
        _exit(PASS);
    }
    CHECK(first > 0 && waitpid(first, &status, 0) == first);
}

static void *ends_its_sections(void *unused)
{
    section();
    return unused;
}

/* They are over, and so is their thread. */
static void but_sections_of_threads_that_have_ended_there_are_no_matter(void)
{
    pid_t child;
    int status;

    section();
    synchronize_rcu();
    child = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (!child) {
        alarm(10);
        pthread_join(start(ends_its_sections, NULL), NULL);
        /* As long as the kernel counts it. */
        sleep_ms(50);
        synchronize_rcu();
        synchronize_rcu();
        _exit(PASS);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == PASS);
}

/* ---- the exit hook is traced ------------------------------------------------------------------ */

static atomic_bool trace_setspecific;
static atomic_int traced_setspecifics;

static int (*real_setspecific)(pthread_key_t, const void *);

/* Early: a raw clone may come while another thread holds the loader's lock. */
__attribute__((constructor)) static void find_setspecific(void)
{
    *(void **)&real_setspecific = dlsym(RTLD_NEXT, "pthread_setspecific");
}

int pthread_setspecific(pthread_key_t which, const void *value)
{
    if (!real_setspecific)
        find_setspecific();
    if (trace_setspecific) {
        section();
        traced_setspecifics++;
    }
    return real_setspecific(which, value);
}

static void *joins(void *unused)
{
    join_by_sections();
    return unused;
}

static void a_traced_pthread_setspecific_does_not_recurse(void)
{
    trace_setspecific = true;
    pthread_join(start(joins, NULL), NULL);
    trace_setspecific = false;
    printf("    traced %d calls\n", traced_setspecifics);
    synchronize_rcu();
}

/* ---- signals and barriers --------------------------------------------------------------------- */

static atomic_int phase, others;

static void on_other(int signal)
{
    (void)signal;
    others++;
}

static void *blocks_for_a_while(void *unused)
{
    sigset_t set;

    rcu_register_thread();
    sigemptyset(&set);
    sigaddset(&set, SIGURG);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    phase = 1;
    while (phase < 2)
        sleep_ms(1);
    sleep_ms(50);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    while (phase < 3)
        sleep_ms(1);
    return unused;
}

static void an_ipi_that_merged_into_anothers_signal_is_answered(void)
{
    union sigval value = {0};
    pthread_t thread;

    signal(SIGURG, on_other);
    refuse_membarrier();
    thread = start(blocks_for_a_while, NULL);
    while (phase < 1)
        sleep_ms(1);
    /* One that is not ours waits for the thread already. */
    pthread_sigqueue(thread, SIGURG, value);
    phase = 2;
    synchronize_rcu();
    CHECK(rcu_notrace_get_ipi_mode() == RCU_NOTRACE_IPI_SIGNAL);
    CHECK(stats().ipis >= 1);
    phase = 3;
    pthread_join(thread, NULL);
    CHECK(others >= 1);
}

static void a_signal_of_the_program_that_merged_into_an_ipi_reaches_its_handler(void)
{
    pthread_t thread, waiter;

    if (rcu_notrace_get_ipi_mode() != RCU_NOTRACE_IPI_SIGNAL)
        skip("only mode signal sends one to an idle thread");
    signal(SIGURG, on_other);
    thread = start(blocks_for_a_while, NULL);
    while (phase < 1)
        sleep_ms(1);
    waiter = start(wait_first, NULL);
    while (stats().ipis < 1)
        sleep_ms(1);
    /* Ours waits for the thread; this one is sent the same way, and is lost in it. */
    others = 0;
    pthread_kill(thread, SIGURG);
    phase = 2;
    pthread_join(waiter, NULL);
    phase = 3;
    pthread_join(thread, NULL);
    CHECK(others >= 1);
}

/* ---- more keys than the first section can use -------------------------------------------------- */

static void registering_works_where_the_first_section_could_not(void)
{
    execl("/proc/self/exe", "corners", "--many-keys", (char *)NULL);
    fail("exec: %s", strerror(errno));
}

/* Before the library's constructor, which then gets a late key. */
static void take_many_keys(int argc, char **argv, char **environment)
{
    pthread_key_t taken;

    (void)environment;
    if (argc > 1 && !strcmp(argv[1], "--many-keys"))
        for (int i = 0; i < 40; i++)
            pthread_key_create(&taken, NULL);
    if (argc > 1 && !strcmp(argv[1], "--early-worker"))
        rcu_notrace_start_worker();
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit)(int, char **, char **) =
    take_many_keys;

static void *wait_a_few_times(void *unused)
{
    for (int i = 0; i < 20; i++)
        synchronize_rcu();
    return unused;
}

static void *register_late_key(void *unused)
{
    struct rcu_notrace_stats before;

    /* Nothing would take it out when it exits: it is not listed, and so never parked. */
    join_by_sections();
    before = stats();
    pthread_join(start(wait_a_few_times, NULL), NULL);
    if (stats().parks != before.parks)
        return (void *)1;
    rcu_register_thread();
    /* Registered, it is parked when it stays idle. */
    pthread_join(start(wait_a_few_times, NULL), NULL);
    return stats().parks > before.parks ? unused : (void *)1;
}

static int with_many_keys(void)
{
    pthread_t thread;
    void *failed = NULL;

    if (rcu_notrace_get_ipi_mode() == RCU_NOTRACE_IPI_SIGNAL)
        return SKIP;
    thread = start(register_late_key, NULL);
    pthread_join(thread, &failed);
    CHECK(!failed);
    return PASS;
}

/* ---- leaving, interrupted ----------------------------------------------------------------------- */

static void *exits_in_a_child(void *unused)
{
    section();
    return unused;
}

static void threads_exit_in_an_unannounced_child_of_a_busy_process(void)
{
    pthread_t threads[3];

    for (int i = 0; i < 2; i++)
        threads[i] = start(reads, NULL);
    threads[2] = start(waits, NULL);
    for (int i = 0; i < 30; i++) {
        pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
        int status;

        if (!child) {
            alarm(10);
            pthread_join(start(exits_in_a_child, NULL), NULL);
            _exit(PASS);
        }
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == PASS);
    }
    stop = true;
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}

static void a_barrier_that_is_refused_in_the_middle_hangs_nobody(void)
{
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        int status;

        if (!child) {
            pthread_t reader = start(reads, NULL), waiter = start(waits, NULL);
            unsigned long before;

            alarm(10);
            usleep((useconds_t)(1000 + i * 700));
            refuse_membarrier();
            before = grace_periods;
            while (grace_periods < before + 10)
                sleep_ms(1);
            stop = true;
            pthread_join(reader, NULL);
            pthread_join(waiter, NULL);
            _exit(PASS);
        }
        CHECK(waitpid(child, &status, 0) == child);
        if (WIFEXITED(status) && WEXITSTATUS(status) == SKIP)
            skip("no seccomp here");
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == PASS);
    }
}

/* ---- the worker's creation ---------------------------------------------------------------------- */

static void nothing(struct rcu_head *head)
{
    (void)head;
}

static void a_caller_that_blocks_all_signals_hears_of_none_while_the_worker_is_created(void)
{
    static struct rcu_head head;
    sigset_t all, pending;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    raise(SIGTRAP);
    call_rcu(&head, nothing);
    rcu_barrier();
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGTRAP));
    CHECK(stats().callbacks_run == 1);
}

static void end_well(int signal)
{
    (void)signal;
    _exit(PASS);
}

static void fault(struct rcu_head *head)
{
    volatile int *closed = mmap(NULL, sizeof(int), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)head;
    CHECK(closed != MAP_FAILED);
    *closed = 1;
}

static sigjmp_buf back;

static void jump_back(int signal)
{
    (void)signal;
    siglongjmp(back, 1);
}

/* Whether an address can be read, as some ask. */
static void probe_an_address(struct rcu_head *head)
{
    struct sigaction action, before;
    static volatile bool found;

    memset(&action, 0, sizeof(action));
    action.sa_handler = jump_back;
    sigaction(SIGSEGV, &action, &before);
    if (!sigsetjmp(back, 1))
        fault(head);
    else
        found = true;
    sigaction(SIGSEGV, &before, NULL);
    if (!found)
        fail("no fault");
}

static void a_callback_may_catch_its_own_faults(void)
{
    static struct rcu_head head;

    CHECK(rcu_notrace_start_worker() == 0);
    call_rcu(&head, probe_an_address);
    rcu_barrier();
    CHECK(stats().callbacks_run == 1);
}

static void a_handler_of_faults_that_is_younger_than_the_worker_hears_of_a_callbacks(void)
{
    static struct rcu_head head;

    CHECK(rcu_notrace_start_worker() == 0);
    rcu_barrier();
    /* It naps for the last time, and sleeps. */
    sleep_ms(50);
    CHECK(signal(SIGSEGV, end_well) != SIG_ERR);
    call_rcu(&head, fault);
    rcu_barrier();
    fail("went on");
}

/* A tracer's, that starts what it needs at the first thread's creation: in this thread, or waits for another that does. */
static enum { LETS, CALLS, WAITS_FOR_A_CALL, WAITS_FOR_LEAVE } creation;
static int worker_started = 1;
static uint64_t called_for_ns;

static void *calls(void *unused)
{
    uint64_t begin = now_ns();

    worker_started = rcu_notrace_start_worker();
    called_for_ns = now_ns() - begin;
    return unused;
}

static atomic_bool is_creating, may_create, has_created;

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    int how = creation;
    pthread_t caller;

    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    creation = LETS;
    if (how == CALLS)
        calls(NULL);
    if (how == WAITS_FOR_A_CALL && !real(&caller, NULL, calls, NULL))
        pthread_join(caller, NULL);
    is_creating = how == WAITS_FOR_LEAVE;
    while (how == WAITS_FOR_LEAVE && !may_create)
        usleep(20);
    return real(thread, attributes, run, argument);
}

static void create_the_worker(int how)
{
    static struct rcu_head head;

    creation = how;
    call_rcu(&head, nothing);
    rcu_barrier();
    printf("    it was told %d, after %llu us\n", worker_started, (unsigned long long)called_for_ns / 1000);
    CHECK(worker_started == -EAGAIN && stats().callbacks_run == 1 && rcu_notrace_start_worker() == 0);
}

static void a_traced_pthread_create_may_want_the_worker_that_it_is_called_for(void)
{
    create_the_worker(CALLS);
    CHECK(called_for_ns < 500000000);
}

static void and_may_wait_for_a_thread_that_does(void)
{
    create_the_worker(WAITS_FOR_A_CALL);
}

#ifdef __x86_64__
static void *creates_it(void *unused)
{
    creation = WAITS_FOR_LEAVE;
    CHECK(rcu_notrace_start_worker() == 0);
    has_created = true;
    return unused;
}

static void let_it_be_created(void)
{
    may_create = true;
    while (!has_created)
        usleep(20);
}

static void at_whichever_step_another_thread_has_created_it_who_starts_the_worker_has_one(void)
{
    /* Into its second sleep. */
    enum { PLACES = 300 };

    for (unsigned long place = 0; place < PLACES; place++) {
        int status;
        pid_t child = fork();

        if (!child) {
            int answer;

            alarm(10);
            start(creates_it, NULL);
            while (!is_creating)
                usleep(20);
            target = place;
            at_target = let_it_be_created;
            catch_traps(0);
            STEPS_ON();
            answer = rcu_notrace_start_worker();
            STEPS_OFF();
            _exit(step <= target ? SKIP : answer ? FAIL : PASS);
        }
        CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status));
        if (WEXITSTATUS(status) != PASS)
            fail("at step %lu: %s", place, WEXITSTATUS(status) == SKIP ? "never got there" : "was told that there is none");
    }
    printf("    %d steps\n", (int)PLACES);
}
#else
static void at_whichever_step_another_thread_has_created_it_who_starts_the_worker_has_one(void)
{
    skip("single steps are x86-64's");
}
#endif

static void a_worker_that_is_older_than_the_signals_name_learns_of_it(void)
{
    setenv("RCU_NOTRACE_SIGNAL", "USR1", 1);
    execl("/proc/self/exe", "corners", "--early-worker", (char *)NULL);
    fail("exec: %s", strerror(errno));
}

/* Which signals the other thread blocks, as a set. */
static unsigned long long blocked_by_the_worker(void)
{
    unsigned long long set = 0;
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *entry;

    CHECK(tasks);
    while ((entry = readdir(tasks))) {
        char path[300], line[300];
        FILE *status;

        if (atoi(entry->d_name) <= 0 || atoi(entry->d_name) == getpid())
            continue;
        snprintf(path, sizeof(path), "/proc/self/task/%s/status", entry->d_name);
        status = fopen(path, "r");
        while (status && fgets(line, sizeof(line), status))
            sscanf(line, "SigBlk: %llx", &set);
        if (status)
            fclose(status);
    }
    closedir(tasks);
    return set;
}

static int with_an_early_worker(void)
{
    unsigned long long set;

    for (int i = 0; i < 3; i++)
        rcu_barrier();
    sleep_ms(50);
    set = blocked_by_the_worker();
    printf("    it blocks %#llx\n", set);
    return set && !(set & 1ull << (SIGUSR1 - 1)) && set & 1ull << (SIGURG - 1) ? PASS : FAIL;
}

int main(int argc, char **argv)
{
#define OLDER_SECTIONS \
    "has threads with sections that are older than its first call of RCU; call rcu_register_thread() before it starts any"
    static const struct scenario list[] = {
        SCENARIO(sections_in_a_vfork_child_do_not_lend_their_thread_id),
        {"a_second_thread_of_an_unannounced_child_is_told_who_must_call_first",
         a_second_thread_of_an_unannounced_child_is_told_who_must_call_first, 0,
         "called RCU in a second thread first; call rcu_register_thread() before it starts any"},
        {"a_section_of_a_second_thread_of_an_unannounced_child_is_not_forgotten",
         a_section_of_a_second_thread_of_an_unannounced_child_is_not_forgotten, 0, OLDER_SECTIONS},
        {"nor_where_the_child_has_its_parents_number", nor_where_the_child_has_its_parents_number, 0, OLDER_SECTIONS},
        SCENARIO(but_sections_of_threads_that_have_ended_there_are_no_matter),
        SCENARIO(a_traced_pthread_setspecific_does_not_recurse),
        SCENARIO(an_ipi_that_merged_into_anothers_signal_is_answered),
        SCENARIO(a_signal_of_the_program_that_merged_into_an_ipi_reaches_its_handler),
        SCENARIO(registering_works_where_the_first_section_could_not),
        SCENARIO(threads_exit_in_an_unannounced_child_of_a_busy_process),
        SCENARIO(a_barrier_that_is_refused_in_the_middle_hangs_nobody),
        SCENARIO(a_caller_that_blocks_all_signals_hears_of_none_while_the_worker_is_created),
        SCENARIO(a_callback_may_catch_its_own_faults),
        SCENARIO(a_handler_of_faults_that_is_younger_than_the_worker_hears_of_a_callbacks),
        SCENARIO(a_traced_pthread_create_may_want_the_worker_that_it_is_called_for),
        SCENARIO(and_may_wait_for_a_thread_that_does),
        SCENARIO(a_worker_that_is_older_than_the_signals_name_learns_of_it),
        SCENARIO(at_whichever_step_another_thread_has_created_it_who_starts_the_worker_has_one),
    };

    if (argc > 1 && !strcmp(argv[1], "--early-worker"))
        return with_an_early_worker();
    if (argc > 1 && !strcmp(argv[1], "--many-keys"))
        return with_many_keys();
    return RUN_SCENARIOS("corners", list, argc, argv);
}
