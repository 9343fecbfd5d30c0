/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What others do to a process, and what it does to itself, while grace periods run: it is stopped, traced,
 * stepped, frozen; its signals are blocked, ignored, taken; it executes, spawns and forks. FAULTS_LONG=N in
 * the environment: an Nth of as often as that takes to be believed.
 */
#include "test.h"
#include "workload.h"

#include <dirent.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

extern char **environ;

static unsigned scale(unsigned quick, unsigned full)
{
    const char *part = getenv("FAULTS_LONG");
    unsigned some = part ? full / (unsigned)atoi(part) : 0;

    return some > quick ? some : quick;
}

/* What the helpers below count; they are processes of their own. */
static struct shared {
    atomic_uint begun, done, seen, passed_on, steps;
    atomic_ulong ipis;
    atomic_bool stop;
} *shared;

static void share(void)
{
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    make_objects();
}

/* A process that acts on this one. A raw fork: nobody's handlers run; it lives when the group is killed, lest it
 * leave something stopped behind, and ends soon by itself. */
static pid_t help(void (*act)(pid_t))
{
    pid_t us = getpid(), helper;

    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    fflush(stdout);
    helper = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (!helper) {
        signal(SIGALRM, SIG_DFL);
        alarm(50);
        act(us);
        shared->done = 1;
        syscall(SYS_exit_group, 0);
    }
    CHECK(helper > 0);
    return helper;
}

static void end_of(pid_t helper)
{
    int status;

    CHECK(waitpid(helper, &status, 0) == helper);
    if (WIFEXITED(status) && WEXITSTATUS(status) == SKIP)
        exit(SKIP);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static pthread_t readers[8];
static int reader_count;

static void add_reader(void *(*body)(void *))
{
    readers[reader_count++] = start(body, NULL);
}

static void start_readers(void)
{
    add_reader(read_shortly);
    add_reader(read_at_length);
    add_reader(be_idle);
    while (ready < reader_count)
        usleep(500);
}

static void stop_readers(void)
{
    stop = true;
    for (int i = 0; i < reader_count; i++)
        pthread_join(readers[i], NULL);
    print_stats();
    printf("    %lu sections\n", sections);
    CHECK(poisoned == 0);
    CHECK(sections > 0);
}

/* Grace periods while the helper is at it; how many. */
static unsigned update_meanwhile(void)
{
    unsigned updates = 0;

    while (!shared->done) {
        update();
        updates++;
    }
    return updates;
}

static unsigned some(unsigned below)
{
    static unsigned state = 12345;

    state = state * 1103515245 + 12345;
    return state / 65536 % below;
}

static void sleep_us(unsigned us)
{
    struct timespec left = {0, (long)us * 1000};

    while (nanosleep(&left, &left) && errno == EINTR)
        ;
}

/* ---- stopped ------------------------------------------------------------------------------------------------- */

/* The letter that says what a process or thread does. */
static char state_of(pid_t pid)
{
    char path[64], text[512], *end;
    ssize_t got;
    int file;

    sprintf(path, "/proc/%d/stat", pid);
    file = open(path, O_RDONLY);
    if (file < 0)
        return 0;
    got = read(file, text, sizeof(text) - 1);
    close(file);
    text[got > 0 ? got : 0] = 0;
    end = strrchr(text, ')');
    return end ? end[2] : 0;
}

static void stop_and_continue(pid_t process)
{
    for (unsigned i = 0; i < scale(150, 3000); i++) {
        kill(process, SIGSTOP);
        sleep_us(some(1500));
        shared->seen += state_of(process) == 'T';
        kill(process, SIGCONT);
        sleep_us(some(1500));
        shared->begun++;
    }
}

static void a_storm_of_stops_of_the_process_holds_up_nothing_else(void)
{
    unsigned updates;
    pid_t helper;

    share();
    start_readers();
    helper = help(stop_and_continue);
    updates = update_meanwhile();
    end_of(helper);
    printf("    stopped %u times, found so %u times; %u updates\n", shared->begun, shared->seen, updates);
    stop_readers();
    CHECK(shared->seen > shared->begun / 4 && updates > 20);
}

/* ---- traced -------------------------------------------------------------------------------------------------- */

static pid_t threads[64];
static int thread_count;

static void find_threads(pid_t process)
{
    char path[64];
    struct dirent *entry;
    DIR *directory;

    sprintf(path, "/proc/%d/task", process);
    directory = opendir(path);
    if (!directory)
        _exit(1);
    while ((entry = readdir(directory)) && thread_count < 64)
        if (atoi(entry->d_name))
            threads[thread_count++] = atoi(entry->d_name);
    closedir(directory);
}

/* Until it is stopped because we asked for that; what signals come first, it gets. */
static bool await_stop(pid_t thread)
{
    int status;

    for (;;) {
        if (waitpid(thread, &status, __WALL) != thread || !WIFSTOPPED(status))
            return false;
        if (status >> 16 == PTRACE_EVENT_STOP)
            return true;
        shared->passed_on++;
        ptrace(PTRACE_CONT, thread, 0, WSTOPSIG(status));
    }
}

static void seize_or_skip(pid_t thread)
{
    if (ptrace(PTRACE_SEIZE, thread, 0, 0)) {
        printf("    SKIP: no ptrace here: %s\n", strerror(errno));
        fflush(stdout);
        _exit(SKIP);
    }
}

static void attach_and_detach(pid_t process)
{
    find_threads(process);
    for (unsigned i = 0; i < scale(400, 10000); i++) {
        pid_t thread = threads[some((unsigned)thread_count)];

        seize_or_skip(thread);
        if (ptrace(PTRACE_INTERRUPT, thread, 0, 0) || !await_stop(thread))
            _exit(1);
        shared->begun++;
        sleep_us(some(4) ? some(200) : some(3000));
        if (ptrace(PTRACE_DETACH, thread, 0, 0))
            _exit(1);
        sleep_us(some(300));
    }
}

static void single_threads_that_a_debugger_stops_are_waited_for_and_no_more(void)
{
    unsigned updates;
    pid_t helper;

    share();
    start_readers();
    helper = help(attach_and_detach);
    updates = update_meanwhile();
    end_of(helper);
    printf("    %u stops, %u signals passed on; %u updates\n", shared->begun, shared->passed_on, updates);
    stop_readers();
    CHECK(updates > 20);
}

static atomic_int stepped_thread;

static void *read_to_be_stepped(void *unused)
{
    stepped_thread = (int)syscall(SYS_gettid);
    return read_shortly(unused);
}

static void step(pid_t process)
{
    unsigned steps = scale(4000, 200000);
    pid_t thread = stepped_thread;
    int status, signal = 0;

    (void)process;
    seize_or_skip(thread);
    if (ptrace(PTRACE_INTERRUPT, thread, 0, 0) || !await_stop(thread))
        _exit(1);
    while (shared->steps < steps) {
        if (ptrace(PTRACE_SINGLESTEP, thread, 0, signal) || waitpid(thread, &status, __WALL) != thread ||
            !WIFSTOPPED(status))
            _exit(1);
        /* An IPI, with its handler's frame just built: stepped through as well. */
        signal = status >> 16 || WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
        shared->passed_on += signal != 0;
        shared->steps++;
    }
    ptrace(PTRACE_DETACH, thread, 0, 0);
}

static void a_reader_that_is_single_stepped_is_seen_in_its_sections(void)
{
    unsigned updates;
    pid_t helper;

    share();
    add_reader(read_to_be_stepped);
    start_readers();
    helper = help(step);
    updates = update_meanwhile();
    end_of(helper);
    printf("    %u steps, %u signals among them; %u updates\n", shared->steps, shared->passed_on, updates);
    stop_readers();
    CHECK(updates > 20);
    CHECK(rcu_notrace_get_ipi_mode() != RCU_NOTRACE_IPI_SIGNAL || shared->passed_on > 0);
}

/* ---- frozen -------------------------------------------------------------------------------------------------- */

static char group[128], group_state[192];
static const char *freeze_word, *thaw_word, *group_root;

static bool write_to(const char *path, const char *text)
{
    int file = open(path, O_WRONLY);
    bool done = file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text);

    if (file >= 0)
        close(file);
    return done;
}

static bool make_group(const char *root, const char *state, const char *freeze, const char *thaw)
{
    sprintf(group, "%s/rcu-notrace-%d", root, getpid());
    if (mkdir(group, 0700))
        return false;
    sprintf(group_state, "%s/%s", group, state);
    group_root = root;
    freeze_word = freeze;
    thaw_word = thaw;
    if (access(group_state, W_OK) == 0)
        return true;
    rmdir(group);
    return false;
}

static void move_to(const char *where, pid_t process)
{
    char path[192], text[16];

    sprintf(path, "%s/cgroup.procs", where);
    sprintf(text, "%d", process);
    if (!write_to(path, text))
        _exit(2);
}

static void freeze_and_thaw(pid_t process)
{
    /* Whatever happens to the group, what is frozen thaws. */
    setpgid(0, 0);
    move_to(group, process);
    for (unsigned i = 0; i < scale(60, 1500); i++) {
        if (!write_to(group_state, freeze_word))
            _exit(3);
        sleep_us(500 + some(2000));
        shared->begun++;
        if (!write_to(group_state, thaw_word))
            _exit(4);
        sleep_us(some(3000));
    }
    move_to(group_root, process);
    rmdir(group);
}

static void a_process_that_is_frozen_and_thawed_goes_on(void)
{
    unsigned updates;
    pid_t helper;

    if (!make_group("/sys/fs/cgroup", "cgroup.freeze", "1", "0") &&
        !make_group("/sys/fs/cgroup/unified", "cgroup.freeze", "1", "0") &&
        !make_group("/sys/fs/cgroup/freezer", "freezer.state", "FROZEN", "THAWED"))
        skip("no control group that one could freeze");
    share();
    start_readers();
    helper = help(freeze_and_thaw);
    updates = update_meanwhile();
    end_of(helper);
    printf("    frozen %u times by %s; %u updates\n", shared->begun, group_state, updates);
    stop_readers();
    CHECK(shared->begun >= 60 && updates > 20);
}

/* ---- its signals ----------------------------------------------------------------------------------------------- */

static atomic_uint flips, masks, taken, own_calls;

static void on_own(int signal)
{
    (void)signal;
    own_calls++;
}

/* The kernel's structure. */
struct raw_action {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

/* Whatever one can do to a disposition, by libc and past it; and at times as it was. */
static void *flip_dispositions(void *unused)
{
    struct sigaction as_it_was;
    struct raw_action raw;

    sigaction(SIGURG, NULL, &as_it_was);
    ready++;
    while (!stop) {
        struct sigaction own = {.sa_handler = on_own};

        signal(SIGURG, SIG_IGN);
        sleep_us(some(300));
        sigaction(SIGURG, &own, NULL);
        sleep_us(some(300));
        signal(SIGURG, SIG_DFL);
        sleep_us(some(300));
        syscall(SYS_rt_sigaction, SIGURG, NULL, &raw, 8);
        raw.handler = SIG_IGN;
        syscall(SYS_rt_sigaction, SIGURG, &raw, NULL, 8);
        sleep_us(some(300));
        sigaction(SIGURG, &as_it_was, NULL);
        sleep_us(some(600));
        flips += 5;
    }
    return unused;
}

static void *read_with_masks_that_change(void *unused)
{
    unsigned long count = 0;
    sigset_t all, before;

    sigfillset(&all);
    ready++;
    while (!stop) {
        pthread_sigmask(SIG_BLOCK, &all, &before);
        for (int i = 0; i < 50; i++)
            read_once(20, 0);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        for (int i = 0; i < 50; i++)
            read_once(20, 0);
        count += 100;
        masks += 2;
        if (count % 2000 == 0)
            sleep_us(300);
    }
    sections += count;
    return unused;
}

/* Takes what was meant for its handler, in and out of sections. */
static void *take_signals(void *unused)
{
    struct timespec a_while = {0, 300000};
    struct signalfd_siginfo got;
    unsigned long count = 0;
    sigset_t set;
    int file;

    rcu_register_thread();
    sigemptyset(&set);
    sigaddset(&set, SIGURG);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    file = signalfd(-1, &set, SFD_NONBLOCK);
    ready++;
    while (!stop) {
        rcu_read_lock_notrace();
        taken += sigtimedwait(&set, NULL, &a_while) == SIGURG;
        rcu_read_unlock_notrace();
        taken += read(file, &got, sizeof(got)) == sizeof(got);
        count++;
    }
    close(file);
    sections += count;
    return unused;
}

static void signals_that_are_blocked_ignored_taken_and_handled_by_others_cost_no_section(void)
{
    uint64_t end = now_ns() + scale(500, 20000) * 1000000ull;
    unsigned updates = 0;

    share();
    add_reader(read_with_masks_that_change);
    add_reader(take_signals);
    start_readers();
    /* The library's handler is there when it is first flipped. */
    for (int i = 0; i < 10; i++)
        update();
    add_reader(flip_dispositions);
    /* On a busy machine for longer. */
    while (now_ns() < end || updates <= 20) {
        if (updates % 2)
            update();
        else
            synchronize_rcu_expedited();
        updates++;
    }
    printf("    %u dispositions, %u masks, %u IPIs taken by others, %u in another's handler; %u waits\n", flips,
           masks, taken, own_calls, updates);
    stop_readers();
    CHECK(flips > 50 && masks > 100 && updates > 20);
    CHECK(rcu_notrace_get_ipi_mode() != RCU_NOTRACE_IPI_SIGNAL || taken > 0);
}

/* ---- handlers in handlers --------------------------------------------------------------------------------------- */

enum { DEPTH = 10 };

static __thread unsigned depth;
static atomic_uint deepest, descents;

static void descend(int signal)
{
    __typeof__(shared_object) seen;

    rcu_read_lock_notrace();
    seen = rcu_dereference(shared_object);
    if (seen->a != ALIVE)
        poisoned++;
    depth++;
    if (depth < DEPTH)
        raise(signal + 1);
    else
        descents++;
    if (depth > deepest)
        deepest = depth;
    depth--;
    if (seen->b != ALIVE)
        poisoned++;
    rcu_read_unlock_notrace();
    /* And one more, outermost where the signal came between sections. */
    read_once(5, 0);
}

static void *read_among_handlers(void *unused)
{
    unsigned long count = 0;

    ready++;
    while (!stop) {
        rcu_read_lock_notrace();
        __typeof__(shared_object) seen = rcu_dereference(shared_object);
        if (count % 2)
            raise(SIGRTMIN + 1);
        if (seen->a != ALIVE)
            poisoned++;
        rcu_read_unlock_notrace();
        if (count % 2 == 0)
            raise(SIGRTMIN + 1);
        count++;
    }
    sections += count;
    return unused;
}

static void handlers_nest_ten_deep_with_a_section_in_each(void)
{
    uint64_t end = now_ns() + scale(400, 20000) * 1000000ull;
    unsigned updates = 0;

    share();
    for (int i = 0; i < DEPTH; i++) {
        struct sigaction action = {.sa_handler = descend};

        sigaction(SIGRTMIN + 1 + i, &action, NULL);
    }
    add_reader(read_among_handlers);
    add_reader(read_among_handlers);
    start_readers();
    /* Where others keep the processors busy, it takes its time. */
    while (now_ns() < end || deepest < DEPTH || descents <= 100 || updates <= 20) {
        update();
        updates++;
    }
    printf("    %u descents to depth %u; %u updates\n", descents, deepest, updates);
    stop_readers();
    CHECK(deepest == DEPTH && descents > 100 && updates > 20);
}

/* ---- another program ---------------------------------------------------------------------------------------------- */

static void *read_for_ever(void *unused)
{
    for (;;) {
        rcu_read_lock_notrace();
        sleep_us(100);
        rcu_read_unlock_notrace();
        for (int i = 0; i < 1000; i++)
            read_once(10, 0);
    }
    return unused;
}

static void *wait_for_ever(void *unused)
{
    for (;;)
        synchronize_rcu_expedited();
    return unused;
}

enum { SURVIVED = 42, HIT = 43 };

static void become_another(unsigned number)
{
    /* In mode auto there are few. */
    if (number % 2 && rcu_notrace_get_ipi_mode() == RCU_NOTRACE_IPI_AUTO)
        rcu_notrace_set_ipi_mode(RCU_NOTRACE_IPI_SIGNAL);
    for (int t = 0; t < 3; t++)
        start(read_for_ever, NULL);
    start(wait_for_ever, NULL);
    /* This thread is signalled too, up to the last instruction of this program. */
    for (uint64_t end = now_ns() + 1000000 + number % 16 * 100000; now_ns() < end;)
        read_once(10, 0);
    shared->ipis += stats().ipis;
    execl("/proc/self/exe", "hostile", "--survive", (char *)NULL);
    _exit(FAIL);
}

static void programs_that_execute_among_ipis_survive_and_get_no_signal(void)
{
    unsigned runs = scale(200, 1000);

    share();
    for (unsigned i = 0; i < runs; i++) {
        pid_t child = fork();
        int status;

        if (!child)
            become_another(i);
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != SURVIVED)
            fail("the new program ended with status %#x", (unsigned)status);
    }
    printf("    %u programs, after %lu IPIs\n", runs, shared->ipis);
    CHECK(rcu_notrace_get_ipi_mode() == RCU_NOTRACE_IPI_MEMBARRIER || shared->ipis > runs);
}

static atomic_int stray;

static void on_stray(int signal)
{
    (void)signal;
    stray++;
}

/* Before anything of the library's runs: what comes now was sent to the program before. */
static void survive(int argc, char **argv, char **environment)
{
    sigset_t pending;

    (void)environment;
    if (argc < 2 || strcmp(argv[1], "--survive"))
        return;
    signal(SIGURG, on_stray);
    sigpending(&pending);
    usleep(500);
    _exit(stray || sigismember(&pending, SIGURG) ? HIT : SURVIVED);
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit)(int, char **, char **) = survive;

/* ---- children ----------------------------------------------------------------------------------------------------- */

static atomic_uint spawned;
static unsigned spawns_each;

static void expect(pid_t child, int wanted)
{
    int status;

    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != wanted)
        fail("a child ended with status %#x", (unsigned)status);
}

static pid_t spawn_by_vfork_in_a_section(char **argv)
{
    pid_t child;

    rcu_read_lock_notrace();
    child = vfork();
    if (!child) {
        read_once(10, 0);
        execv("/proc/self/exe", argv);
        _exit(FAIL);
    }
    rcu_read_unlock_notrace();
    return child;
}

static void *spawn(void *unused)
{
    char *argv[] = {"hostile", "--survive", NULL};

    for (unsigned i = 0; i < spawns_each; i++) {
        pid_t child;

        CHECK(posix_spawn(&child, "/proc/self/exe", NULL, NULL, argv, environ) == 0);
        expect(child, SURVIVED);
        expect(spawn_by_vfork_in_a_section(argv), SURVIVED);
        spawned += 2;
    }
    return unused;
}

static void programs_are_spawned_and_vforked_among_ipis(void)
{
    pthread_t spawners[4];
    unsigned updates = 0;

    share();
    /* In mode auto there are few. */
    if (rcu_notrace_get_ipi_mode() == RCU_NOTRACE_IPI_AUTO)
        CHECK(rcu_notrace_set_ipi_mode(RCU_NOTRACE_IPI_SIGNAL) == 0);
    start_readers();
    spawns_each = scale(20, 500);
    for (int i = 0; i < 4; i++)
        spawners[i] = start(spawn, NULL);
    while (spawned < 4 * 2 * spawns_each || updates < 20) {
        update();
        updates++;
    }
    for (int i = 0; i < 4; i++)
        pthread_join(spawners[i], NULL);
    printf("    %u programs among %llu IPIs; %u updates\n", spawned, (unsigned long long)stats().ipis, updates);
    CHECK(stats().ipis > 0 || rcu_notrace_get_ipi_mode() == RCU_NOTRACE_IPI_MEMBARRIER);
    stop_readers();
}

static atomic_uint forked;
static unsigned forks_each;

static void go_on_alone(unsigned number)
{
    alarm(20);
    if (!rcu_read_lock_held() || !rcu_read_lock_trace_held())
        _exit(2);
    rcu_read_unlock_notrace();
    rcu_read_unlock_notrace();
    rcu_read_unlock_trace();
    if (rcu_read_lock_held())
        _exit(3);
    synchronize_rcu();
    read_once(0, 0);
    if (number % 8 == 0) {
        synchronize_rcu_tasks_trace();
        memset(counted, 0, sizeof(counted));
        check_callbacks();
    }
    _exit(PASS);
}

static void *fork_in_sections(void *unused)
{
    for (unsigned i = 0; i < forks_each; i++) {
        __typeof__(shared_object) seen;
        pid_t child;

        rcu_read_lock_trace();
        rcu_read_lock_notrace();
        rcu_read_lock_notrace();
        seen = rcu_dereference(shared_object);
        child = fork();
        if (!child)
            go_on_alone(i);
        if (seen->a != ALIVE || seen->b != ALIVE)
            poisoned++;
        rcu_read_unlock_notrace();
        rcu_read_unlock_notrace();
        rcu_read_unlock_trace();
        expect(child, PASS);
        forked++;
    }
    sections += forks_each;
    return unused;
}

static void eight_threads_fork_in_sections_and_both_sides_go_on(void)
{
    pthread_t forkers[8];
    unsigned updates = 0;

    share();
    add_reader(read_shortly);
    while (!ready)
        usleep(500);
    forks_each = scale(40, 1250);
    for (int i = 0; i < 8; i++)
        forkers[i] = start(fork_in_sections, NULL);
    while (forked < 8 * forks_each || updates < 20) {
        update();
        updates++;
    }
    for (int i = 0; i < 8; i++)
        pthread_join(forkers[i], NULL);
    printf("    %u forks; %u updates\n", forked, updates);
    stop_readers();
}

int main(int argc, char **argv)
{
    static const struct scenario list[] = {
        SCENARIO(a_storm_of_stops_of_the_process_holds_up_nothing_else),
        SCENARIO(single_threads_that_a_debugger_stops_are_waited_for_and_no_more),
        SCENARIO(a_reader_that_is_single_stepped_is_seen_in_its_sections),
        SCENARIO(a_process_that_is_frozen_and_thawed_goes_on),
        SCENARIO(signals_that_are_blocked_ignored_taken_and_handled_by_others_cost_no_section),
        SCENARIO(handlers_nest_ten_deep_with_a_section_in_each),
        SCENARIO(programs_that_execute_among_ipis_survive_and_get_no_signal),
        SCENARIO(programs_are_spawned_and_vforked_among_ipis),
        SCENARIO(eight_threads_fork_in_sections_and_both_sides_go_on),
    };

    return RUN_SCENARIOS("hostile", list, argc, argv);
}
