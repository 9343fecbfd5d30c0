/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Threads answer IPIs whatever the program does with their signal, in mode `signal`, where nothing but the answer is
 * a barrier; and none of the program's own signals is lost, or made up, meanwhile. To be run with the preloaded library:
 * without it these fail.
 */
#include "../c-tests/seccomp.h"
#include "../c-tests/test.h"

/* The old ones too. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

#include <poll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

enum { SIGNAL = SIGURG };

static sigset_t it, all;

/* ---- what the kernel has ----------------------------------------------------------------------------------- */

struct kernel_action {
    uintptr_t handler;
    unsigned long flags;
    uintptr_t restorer;
    uint64_t mask;
};

static uintptr_t kernel_handler_of(int signal)
{
    struct kernel_action now = {0, 0, 0, 0};

    syscall(SYS_rt_sigaction, signal, NULL, &now, 8);
    return now.handler;
}

static uintptr_t kernel_handler(void)
{
    return kernel_handler_of(SIGNAL);
}

/* The library's, before any scenario. */
static uintptr_t first_handler;

/* The signal is the library's, and this thread has not blocked it. What it says otherwise test.sh looks for. */
static void check_kept(void)
{
    uint64_t mask = 0;
    uintptr_t handler = kernel_handler();

    syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8);
    if (mask >> (SIGNAL - 1) & 1)
        fail("the signal is blocked in the kernel's mask");
    if (handler == (uintptr_t)SIG_IGN)
        fail("the kernel ignores the signal");
    if (handler == (uintptr_t)SIG_DFL)
        fail("the kernel does what it does by default on the signal");
    if (handler != first_handler)
        fail("the signal's handler is not the library's");
}

static bool is_blocked(void)
{
    sigset_t now;

    pthread_sigmask(SIG_BLOCK, NULL, &now);
    return sigismember(&now, SIGNAL);
}

/* ---- who waits ------------------------------------------------------------------------------------------------ */

static atomic_bool stop;

static void *wait_all_the_time(void *unused)
{
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    while (!stop)
        synchronize_rcu();
    return unused;
}

/* ---- ways to keep a signal from coming ------------------------------------------------------------------------- */

static atomic_int strangers;

static void on_it(int signal)
{
    (void)signal;
    strangers++;
}

static void on_it_too(int signal)
{
    (void)signal;
    strangers++;
}

/* Told how often it was called; does one thing of its kind. */
struct way {
    void (*prepare)(void);
    void (*act)(unsigned turn);
    /* Its thread may not end: who leaves the registry asks which process it is. */
    bool stays;
};

static void nothing(void)
{
}

static void no_act(unsigned turn)
{
    (void)turn;
}

static void block(void)
{
    pthread_sigmask(SIG_BLOCK, &it, NULL);
    CHECK(is_blocked());
}

static void block_all(void)
{
    sigprocmask(SIG_SETMASK, &all, NULL);
    CHECK(is_blocked());
}

static void ignore(void)
{
    signal(SIGNAL, SIG_IGN);
    CHECK(signal(SIGNAL, SIG_IGN) == SIG_IGN);
}

static void leave_to_default(void)
{
    signal(SIGNAL, SIG_DFL);
}

static void replace(unsigned turn)
{
    struct sigaction action = {.sa_handler = turn & 1 ? on_it : on_it_too}, old;

    if (turn & 2)
        sigfillset(&action.sa_mask);
    sigaction(SIGNAL, &action, &old);
}

static void wait_for_it(unsigned turn)
{
    struct timespec soon = {0, 200000};

    (void)turn;
    if (sigtimedwait(&it, NULL, &soon) == SIGNAL)
        strangers++;
}

static int file;

static void block_and_open(void)
{
    block();
    file = signalfd(-1, &it, SFD_NONBLOCK | SFD_CLOEXEC);
    CHECK(file >= 0);
}

static void read_it(unsigned turn)
{
    struct signalfd_siginfo got;

    (void)turn;
    if (read(file, &got, sizeof(got)) == sizeof(got))
        strangers++;
}

static pid_t polling;
static atomic_bool was_interrupted;

/* As IPIs are sent. */
static void *send_to_who_polls(void *unused)
{
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    while (!was_interrupted) {
        syscall(SYS_tgkill, getpid(), polling, SIGNAL);
        sleep_ms(1);
    }
    return unused;
}

/* The mask of a wait is over when the thread can ask for it; what gets in can be told. */
static void poll_and_be_interrupted(void)
{
    struct timespec long_time = {5, 0};
    pthread_t sender;
    int result;

    polling = (pid_t)syscall(SYS_gettid);
    sender = start(send_to_who_polls, NULL);
    result = ppoll(NULL, 0, &long_time, &all);
    if (result != -1 || errno != EINTR)
        fail("the signal does not get into a wait with all blocked");
    was_interrupted = true;
    pthread_join(sender, NULL);
}

static void poll_without(unsigned turn)
{
    struct timespec soon = {0, 200000};

    (void)turn;
    ppoll(NULL, 0, &soon, &all);
}

static void in_handler(int signal)
{
    (void)signal;
    CHECK(is_blocked());
    check_kept();
    for (int i = 0; i < 50; i++) {
        rcu_read_lock_notrace();
        rcu_read_unlock_notrace();
    }
}

static void handle_another(void)
{
    struct sigaction action = {.sa_handler = in_handler};

    sigfillset(&action.sa_mask);
    sigaction(SIGUSR2, &action, NULL);
}

static void raise_another(unsigned turn)
{
    (void)turn;
    raise(SIGUSR2);
}

static void mask_and_unmask(unsigned turn)
{
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, turn & 1 ? &all : &none, NULL);
    sighold(SIGNAL);
    if (turn & 2)
        sigrelse(SIGNAL);
}

/* From now on the thread may not ask who it is: its first sections do. */
static void enter_sandbox(void)
{
    static struct sock_filter filter[] = {
        LOAD_NUMBER,
        ON(SYS_getpid, SECCOMP_RET_KILL_PROCESS),
        ON(SYS_gettid, SECCOMP_RET_KILL_PROCESS),
        ANSWER(SECCOMP_RET_ALLOW),
    };

    join_by_sections();
    if (install_filter(filter, sizeof(filter) / sizeof(filter[0]), 0) < 0)
        skip("no seccomp here: %s", strerror(errno));
}

/* Nothing comes with an IPI, then. */
static void enter_sandbox_without_room(void)
{
    struct rlimit none;

    CHECK(!getrlimit(RLIMIT_SIGPENDING, &none));
    none.rlim_cur = 0;
    CHECK(!setrlimit(RLIMIT_SIGPENDING, &none));
    enter_sandbox();
}

static pid_t process, thread_in_sandbox;

static void ignore_and_enter_sandbox(void)
{
    ignore();
    process = getpid();
    thread_in_sandbox = (pid_t)syscall(SYS_gettid);
    enter_sandbox();
}

static void send_to_itself(unsigned turn)
{
    (void)turn;
    CHECK(!syscall(SYS_tgkill, process, thread_in_sandbox, SIGNAL));
}

static const struct way blocked_it = {block, no_act, false};
static const struct way blocked_all = {block_all, no_act, false};
static const struct way ignores_it = {ignore, no_act, false};
static const struct way by_default = {leave_to_default, no_act, false};
static const struct way replaces_handlers = {nothing, replace, false};
static const struct way waits_for_it = {block, wait_for_it, false};
static const struct way reads_it_from_a_file = {block_and_open, read_it, false};
static const struct way polls_without_it = {poll_and_be_interrupted, poll_without, false};
static const struct way handles_others = {handle_another, raise_another, false};
static const struct way masks_all_the_time = {nothing, mask_and_unmask, false};
static const struct way is_in_a_sandbox = {enter_sandbox, no_act, true};
static const struct way has_no_room = {enter_sandbox_without_room, no_act, true};
static const struct way gets_what_it_ignores = {ignore_and_enter_sandbox, send_to_itself, true};

/* ---- one reader of each kind ------------------------------------------------------------------------------------- */

enum { WANTED_ANSWERS = 50 };

static void *be_active(void *argument)
{
    const struct way *way = argument;

    way->prepare();
    for (unsigned turn = 0; !stop || way->stays; turn++) {
        for (int i = 0; i < 8; i++) {
            rcu_read_lock_notrace();
            rcu_read_unlock_notrace();
        }
        way->act(turn);
        check_kept();
        if (turn % 8 == 0)
            sched_yield();
    }
    return NULL;
}

/* Grace periods until enough IPIs were answered. Not all are: a busy machine may keep a reader off its processor for
 * longer than the waiter is patient. */
static void answers_while(const struct way *way, bool born_so)
{
    struct rcu_notrace_stats before, after;
    uint64_t answered = 0, sent = 0;
    pthread_attr_t attributes;
    pthread_t reader;

    CHECK(!pthread_attr_init(&attributes));
    if (born_so)
        CHECK(!pthread_attr_setsigmask_np(&attributes, &all));
    CHECK(!pthread_create(&reader, &attributes, be_active, (void *)(uintptr_t)way));
    before = stats();
    while (answered < WANTED_ANSWERS) {
        synchronize_rcu();
        after = stats();
        sent = after.ipis - before.ipis;
        answered = after.reports_by_handler + after.reports_by_section - before.reports_by_handler -
                   before.reports_by_section;
    }
    stop = true;
    if (!way->stays)
        pthread_join(reader, NULL);
    printf("    %llu IPIs, %llu answered, %llu rescues, %d signals that nobody sent\n", (unsigned long long)sent,
           (unsigned long long)answered, (unsigned long long)(after.rescues - before.rescues), strangers);
    CHECK(strangers == 0);
}

#define ANSWERS(name, way, born_so) \
    static void name(void) \
    { \
        answers_while(&way, born_so); \
    }
ANSWERS(a_thread_that_blocks_the_signal_answers, blocked_it, false)
ANSWERS(a_thread_that_blocks_all_signals_answers, blocked_all, false)
ANSWERS(a_thread_that_was_created_with_all_blocked_answers, masks_all_the_time, true)
ANSWERS(a_thread_answers_where_the_signal_is_ignored, ignores_it, false)
ANSWERS(a_thread_answers_where_the_signal_is_left_to_default, by_default, false)
ANSWERS(a_thread_that_replaces_the_handler_all_the_time_answers, replaces_handlers, false)
ANSWERS(a_thread_in_sigtimedwait_answers, waits_for_it, false)
ANSWERS(a_thread_that_reads_a_signalfd_answers, reads_it_from_a_file, false)
ANSWERS(a_thread_in_ppoll_with_all_blocked_answers, polls_without_it, false)
ANSWERS(handlers_of_other_signals_that_block_all_answer, handles_others, false)
ANSWERS(a_thread_that_masks_all_the_time_answers, masks_all_the_time, false)
ANSWERS(a_thread_in_a_sandbox_that_kills_answers, is_in_a_sandbox, false)
ANSWERS(where_nothing_comes_with_signals_it_answers_too, has_no_room, false)
ANSWERS(and_where_it_gets_what_it_ignores, gets_what_it_ignores, false)

/* ---- storms ---------------------------------------------------------------------------------------------------------- */

enum { WORKERS = 4 };

/* How long a storm lasts; the environment's STORM_MS overrides it. */
static uint64_t storm_ms = 3000;

static atomic_uint got[WORKERS], operations, ready;
static __thread int me = -1;
static atomic_int late;

static void count_it(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (number != SIGNAL || info->si_signo != SIGNAL || info->si_errno)
        late = -1000;
    if (me >= 0)
        got[me]++;
    else
        late--;
}

static void install(int flags)
{
    struct sigaction action = {.sa_sigaction = count_it, .sa_flags = SA_SIGINFO | flags};

    CHECK(!sigaction(SIGNAL, &action, NULL));
}

static void *thrive(void *argument)
{
    unsigned seed = (unsigned)(uintptr_t)argument + 1;
    sigset_t none;
    struct timespec now = {0, 0}, soon = {0, 50000};

    sigemptyset(&none);
    me = (int)(uintptr_t)argument;
    ready++;
    while (!stop) {
        rcu_read_lock_notrace();
        switch (rand_r(&seed) % 12) {
        case 0:
            pthread_sigmask(SIG_SETMASK, &all, NULL);
            break;
        case 1:
            sigprocmask(SIG_SETMASK, &none, NULL);
            break;
        case 2:
            sighold(SIGNAL);
            break;
        case 3:
            sigrelse(SIGNAL);
            break;
        case 4:
            install(0);
            break;
        case 5:
            install(SA_RESTART | SA_NODEFER);
            break;
        case 6:
            if (is_blocked() && sigtimedwait(&it, NULL, &now) == SIGNAL)
                got[me]++;
            break;
        case 7:
            ppoll(NULL, 0, &soon, &none);
            break;
        case 8:
            ppoll(NULL, 0, &soon, &all);
            break;
        case 9:
            raise(SIGUSR2);
            break;
        default:
            block();
            pthread_sigmask(SIG_UNBLOCK, &it, NULL);
        }
        check_kept();
        rcu_read_unlock_notrace();
        operations++;
    }
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    return NULL;
}

static atomic_int worker_thread;

static void *be_active_and_count(void *unused)
{
    me = 0;
    worker_thread = (int)syscall(SYS_gettid);
    while (!stop) {
        rcu_read_lock_notrace();
        rcu_read_unlock_notrace();
    }
    return unused;
}

enum { MIN_SIGNALS = 100, MIN_IPIS = 100 };

/* Not before it has shown something: a machine may be busy. */
static bool storm_is_over(uint64_t began, uint64_t lasts_ms, unsigned sent)
{
    uint64_t ms = (now_ns() - began) / 1000000;

    return ms >= lasts_ms && ((sent > MIN_SIGNALS && stats().ipis > MIN_IPIS) || ms >= 20 * lasts_ms);
}

/* Every signal that is sent to a thread arrives there, once, and nothing else does. The next is sent when the one before
 * has arrived: two that are pending are one. */
static void no_signal_is_lost_or_made_up_in_a_storm(void)
{
    pthread_t workers[WORKERS], waiter;
    unsigned sent[WORKERS] = {0}, total = 0;
    uint64_t begin = now_ns();

    install(0);
    handle_another();
    for (uintptr_t i = 0; i < WORKERS; i++)
        workers[i] = start(thrive, (void *)i);
    while (ready < WORKERS)
        sched_yield();
    waiter = start(wait_all_the_time, NULL);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    for (unsigned turn = 0; !storm_is_over(begin, storm_ms, total); turn++) {
        unsigned i = turn % WORKERS;

        if (got[i] == sent[i]) {
            sent[i]++;
            total++;
            CHECK(!(turn / WORKERS & 1 ? pthread_kill(workers[i], SIGNAL)
                                       : pthread_sigqueue(workers[i], SIGNAL, (union sigval){.sival_int = 1})));
        }
        if (got[i] > sent[i])
            fail("thread %u got %u signals of %u", i, got[i], sent[i]);
        sched_yield();
    }
    stop = true;
    for (unsigned i = 0; i < WORKERS; i++)
        pthread_join(workers[i], NULL);
    pthread_join(waiter, NULL);
    print_stats();
    printf("    %u signals among %u changes of masks and handlers\n", total, operations);
    for (unsigned i = 0; i < WORKERS; i++)
        if (got[i] != sent[i])
            fail("thread %u got %u signals of %u", i, got[i], sent[i]);
    CHECK(late == 0);
    CHECK(total > MIN_SIGNALS && operations > 1000 && stats().ipis > MIN_IPIS);
}

/* A runtime that sends by raw system calls: such a signal may merge with an IPI, and is not lost for that. */
static void a_runtimes_own_signals_are_not_lost(void)
{
    struct sigaction action = {.sa_sigaction = count_it, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    pthread_t worker, waiter;
    unsigned sent = 0;
    uint64_t begin = now_ns(), since;
    pid_t thread;

    sigfillset(&action.sa_mask);
    CHECK(!sigaction(SIGNAL, &action, NULL));
    worker = start(be_active_and_count, NULL);
    waiter = start(wait_all_the_time, NULL);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    while (!(thread = worker_thread))
        sched_yield();
    while (!storm_is_over(begin, storm_ms / 2, sent)) {
        unsigned before = got[0];

        CHECK(!syscall(SYS_tgkill, getpid(), thread, SIGNAL));
        sent++;
        for (since = now_ns(); got[0] == before;) {
            if (now_ns() - since > 5000000000ull)
                fail("signal %u is lost", sent);
            sched_yield();
        }
    }
    stop = true;
    pthread_join(worker, NULL);
    pthread_join(waiter, NULL);
    print_stats();
    printf("    %u signals, %u calls\n", sent, got[0]);
    CHECK(sent > MIN_SIGNALS && stats().ipis > MIN_IPIS);
}

static unsigned all_got(void)
{
    unsigned sum = 0;

    for (unsigned i = 0; i < WORKERS; i++)
        sum += got[i];
    return sum;
}

/* All that were sent, and no more; a machine may be busy. */
static bool have_arrived(unsigned sent)
{
    uint64_t since = now_ns();

    while (all_got() < sent && now_ns() - since < 20000000000ull)
        sched_yield();
    return all_got() == sent;
}

/* Those that are sent to the process, from another one, go to whoever lets them in. */
static void no_signal_of_the_process_is_lost_in_a_storm(void)
{
    pthread_t workers[WORKERS], waiter;
    unsigned sent = 0;
    uint64_t begin = now_ns();
    int pipes[2];
    pid_t sender;
    char byte = 0;

    install(0);
    handle_another();
    CHECK(!pipe(pipes));
    sender = fork();
    if (!sender) {
        close(pipes[1]);
        while (read(pipes[0], &byte, 1) == 1)
            kill(getppid(), SIGNAL);
        _exit(0);
    }
    for (uintptr_t i = 0; i < WORKERS; i++)
        workers[i] = start(thrive, (void *)i);
    while (ready < WORKERS)
        sched_yield();
    /* Before the waiter, which inherits it, begins: what it gets is not counted. */
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    waiter = start(wait_all_the_time, NULL);
    while (!storm_is_over(begin, storm_ms, sent)) {
        if (!have_arrived(sent))
            fail("%u signals of %u", all_got(), sent);
        sent++;
        CHECK(write(pipes[1], "x", 1) == 1);
    }
    if (!have_arrived(sent))
        fail("%u signals of %u", all_got(), sent);
    stop = true;
    for (unsigned i = 0; i < WORKERS; i++)
        pthread_join(workers[i], NULL);
    pthread_join(waiter, NULL);
    close(pipes[1]);
    waitpid(sender, NULL, 0);
    print_stats();
    printf("    %u signals among %u changes of masks and handlers\n", sent, operations);
    CHECK(sent > MIN_SIGNALS && stats().ipis > MIN_IPIS);
}

static atomic_bool is_blocking;

static void *block_and_wait(void *unused)
{
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    is_blocking = true;
    while (!stop)
        sleep_ms(1);
    return unused;
}

/* One that the kernel gives to a thread that means to block it goes on to the one that lets it in: not the first
 * thread's alone, which may send what others may not. */
static void what_a_thread_that_blocks_gets_goes_to_one_that_does_not(void)
{
    enum { TIMES = 100 };
    uint64_t kernels = 1ull << (SIGNAL - 1);
    pthread_t other;
    pid_t sender;
    int status;

    install(0);
    me = 0;
    other = start(block_and_wait, NULL);
    while (!is_blocking)
        sched_yield();
    /* Nobody else can be chosen. */
    CHECK(!syscall(SYS_rt_sigprocmask, SIG_BLOCK, &kernels, NULL, 8));
    for (unsigned sent = 1; sent <= TIMES; sent++) {
        sender = fork();
        if (!sender)
            _exit(kill(getppid(), SIGNAL));
        while (waitpid(sender, &status, 0) < 0)
            CHECK(errno == EINTR);
        CHECK(!status);
        if (!have_arrived(sent))
            fail("%u signals of %u", all_got(), sent);
    }
    stop = true;
    pthread_join(other, NULL);
    printf("    %d signals\n", TIMES);
    CHECK(late == 0);
}

/* New images survive, whatever is pending or in flight. */
static void new_images_survive_a_storm(void)
{
    enum { IMAGES = 150 };
    static char path[4096];
    char *arguments[] = {path, (char *)(uintptr_t)"-survived", NULL}, *nothing_else[] = {NULL};
    pthread_t waiter, worker;

    CHECK(readlink("/proc/self/exe", path, sizeof(path) - 1) > 0);
    install(0);
    handle_another();
    worker = start(thrive, (void *)0);
    waiter = start(wait_all_the_time, NULL);
    for (int i = 0; i < IMAGES; i++) {
        int status;
        pid_t child = fork();

        if (!child) {
            me = 1;
            sigprocmask(i & 1 ? SIG_BLOCK : SIG_UNBLOCK, &it, NULL);
            raise(SIGNAL);
            kill(getpid(), SIGNAL);
            execve(path, arguments, i & 2 ? nothing_else : environ);
            _exit(99);
        }
        while (waitpid(child, &status, 0) < 0)
            CHECK(errno == EINTR);
        if (status)
            fail("image %d: status %#x", i, (unsigned)status);
    }
    stop = true;
    pthread_join(waiter, NULL);
    pthread_join(worker, NULL);
    print_stats();
    printf("    %d images\n", IMAGES);
}

/* A forked child's threads answer, too. */
static void children_of_fork_answer(void)
{
    pid_t child;
    int status;

    block();
    child = fork();
    if (!child) {
        CHECK(is_blocked());
        check_kept();
        answers_while(&blocked_all, false);
        fflush(stdout);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && !status);
}

static atomic_uint changes;

static void *change_actions(void *unused)
{
    while (!stop) {
        ignore();
        replace(0);
        changes++;
    }
    return unused;
}

/* A child that is forked while another thread changes the action gets what that thread was about to tell the kernel. */
static void children_forked_amid_a_change_keep_the_stand_in(void)
{
    enum { CHILDREN = 300, MOST = 20 * CHILDREN, MIN_AMID = 10 };
    uintptr_t handler = kernel_handler_of(SIGSTKFLT);
    pthread_t changer = start(change_actions, NULL);
    unsigned before = 0, amid = 0;
    int i;

    for (i = 0; i < CHILDREN || (amid <= MIN_AMID && i < MOST); i++) {
        int status;
        pid_t child;

        before = changes;
        child = fork();
        if (!child) {
            check_kept();
            if (kernel_handler_of(SIGSTKFLT) != handler)
                fail("child %d: the stand-in's handler is not the library's", i);
            replace(0);
            raise(SIGNAL);
            CHECK(strangers == 1);
            _exit(0);
        }
        CHECK(child > 0);
        amid += changes != before;
        while (waitpid(child, &status, 0) < 0)
            CHECK(errno == EINTR);
        CHECK(!status);
    }
    stop = true;
    pthread_join(changer, NULL);
    printf("    %d children, %u among changes\n", i, amid);
    CHECK(amid > MIN_AMID);
}

static atomic_bool has_paused;
static atomic_int thread_that_pauses;

static void *pauses(void *unused)
{
    rcu_register_thread();
    thread_that_pauses = (int)syscall(SYS_gettid);
    if (pause() != -1 || errno != EINTR)
        fail("pause() did not end by a signal");
    has_paused = true;
    return unused;
}

static void pause_ends_by_the_programs_handlers_only(void)
{
    struct sigaction handler = {.sa_handler = on_it};
    pthread_t waiter, pauser;

    sigaction(SIGUSR2, &handler, NULL);
    pauser = start(pauses, NULL);
    waiter = start(wait_all_the_time, NULL);
    /* A thread that answers in its pause is sent no more for a while: these are sent as IPIs are. */
    for (int i = 0; i < 100 && (i < 30 || stats().grace_periods <= 20); i++) {
        sleep_ms(10);
        if (thread_that_pauses)
            syscall(SYS_tgkill, getpid(), thread_that_pauses, SIGNAL);
    }
    CHECK(!has_paused);
    printf("    grace periods %llu, IPIs %llu\n", (unsigned long long)stats().grace_periods,
           (unsigned long long)stats().ipis);
    CHECK(stats().grace_periods > 20);
    pthread_kill(pauser, SIGUSR2);
    pthread_join(pauser, NULL);
    CHECK(has_paused && strangers == 1);
    stop = true;
    pthread_join(waiter, NULL);
}

static atomic_uint rounds, handled, returned;

static void count_handled(int signal)
{
    (void)signal;
    handled++;
}

static void *pause_each_round(void *unused)
{
    rcu_register_thread();
    thread_that_pauses = (int)syscall(SYS_gettid);
    while (!stop) {
        rcu_read_lock_notrace();
        rcu_read_unlock_notrace();
        pause();
        returned++;
        while (rounds < returned && !stop)
            sched_yield();
    }
    return unused;
}

/* What the kernel says of a thread that waits for something. */
static bool is_asleep(int thread)
{
    char path[64], line[256] = "";
    const char *name;
    FILE *stat;

    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", thread);
    stat = fopen(path, "r");
    if (!stat)
        return false;
    if (!fgets(line, sizeof(line), stat))
        line[0] = 0;
    fclose(stat);
    name = strrchr(line, ')');
    return name && name[1] && name[2] == 'S';
}

/* As IPIs are sent, and as the program sends it, which has no effect. */
static void *send_to_who_pauses(void *unused)
{
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    for (unsigned turn = 0; !stop; turn++)
        if (!thread_that_pauses)
            sched_yield();
        else if (turn & 1)
            syscall(SYS_tgkill, getpid(), thread_that_pauses, SIGNAL);
        else
            tgkill(getpid(), thread_that_pauses, SIGNAL);
    return unused;
}

enum { MIN_PAUSES = 100, LONGEST_PAUSE_MS = 10000 };

/* A thread that was seen in pause() leaves it by the next signal, also if that comes just when one that has no effect was
 * answered; and by nothing else. */
static void each_pause_is_ended_by_one_signal_in_a_storm(void)
{
    struct sigaction handler = {.sa_handler = count_handled};
    pthread_t pauser, waiter, sender;
    uint64_t begin = now_ns(), since;

    sigaction(SIGUSR2, &handler, NULL);
    pauser = start(pause_each_round, NULL);
    waiter = start(wait_all_the_time, NULL);
    sender = start(send_to_who_pauses, NULL);
    for (rounds = 0; rounds < MIN_PAUSES || now_ns() - begin < storm_ms * 1000000;) {
        unsigned spins = (rounds % 64) * 50;

        while (!thread_that_pauses || !is_asleep(thread_that_pauses))
            CHECK(returned == rounds);
        while (spins--)
            __asm__ volatile("");
        CHECK(returned == rounds);
        pthread_kill(pauser, SIGUSR2);
        for (since = now_ns(); returned == rounds;)
            if (now_ns() - since > LONGEST_PAUSE_MS * 1000000ull)
                fail("a signal was handled, and pause() went on: %u of %u", handled, rounds + 1);
        CHECK(handled == rounds + 1);
        rounds++;
    }
    stop = true;
    pthread_kill(pauser, SIGUSR2);
    pthread_join(pauser, NULL);
    pthread_join(waiter, NULL);
    pthread_join(sender, NULL);
    printf("    %u pauses, %llu IPIs\n", rounds, (unsigned long long)stats().ipis);
    CHECK(stats().ipis > MIN_IPIS);
}

/* What is pending is nothing to a wait in which nothing was sent on. */
static void a_wait_ends_in_a_sandbox_that_kills(void)
{
    static struct sock_filter filter[] = {
        LOAD_NUMBER,
        ON(SYS_rt_sigpending, SECCOMP_RET_KILL_PROCESS),
        ANSWER(SECCOMP_RET_ALLOW),
    };
    sigset_t none;

    sigemptyset(&none);
    signal(SIGUSR2, on_it);
    sighold(SIGUSR2);
    raise(SIGUSR2);
    if (install_filter(filter, sizeof(filter) / sizeof(filter[0]), 0) < 0)
        skip("no seccomp here: %s", strerror(errno));
    CHECK(sigsuspend(&none) == -1 && errno == EINTR);
    CHECK(strangers == 1);
}

/* Where the handler cannot be installed that is said, once, and all is left alone. */
static void in_a_sandbox(void)
{
    static struct sock_filter filter[] = {
        LOAD_NUMBER,
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigaction, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SIGNAL, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1),
        ANSWER(SECCOMP_RET_ALLOW),
        ANSWER(SECCOMP_RET_ERRNO | EPERM),
    };
    static char path[4096];
    char *arguments[] = {path, (char *)(uintptr_t)"-survived", NULL};

    CHECK(readlink("/proc/self/exe", path, sizeof(path) - 1) > 0);
    if (install_filter(filter, sizeof(filter) / sizeof(filter[0]), 0) < 0)
        skip("no seccomp here: %s", strerror(errno));
    execv(path, arguments);
    _exit(99);
}

/* What it costs, for the documentation: nothing is checked but that it works. */
static void what_it_costs(void)
{
    enum { TIMES = 300000 };
    struct sigaction action;
    sigset_t old;
    uint64_t begin = now_ns();

    for (int i = 0; i < TIMES; i++)
        pthread_sigmask(SIG_BLOCK, &all, &old);
    printf("    pthread_sigmask: %.1f ns\n", (double)(now_ns() - begin) / TIMES);
    begin = now_ns();
    for (int i = 0; i < TIMES; i++)
        sigaction(SIGUSR2, NULL, &action);
    printf("    sigaction of another signal: %.1f ns\n", (double)(now_ns() - begin) / TIMES);
    begin = now_ns();
    for (int i = 0; i < TIMES; i++)
        sigaction(SIGNAL, NULL, &action);
    printf("    sigaction of this signal: %.1f ns\n", (double)(now_ns() - begin) / TIMES);
    begin = now_ns();
    for (int i = 0; i < TIMES; i++)
        CHECK(read(-1, &begin, 0) < 0);
    printf("    read that fails: %.1f ns\n", (double)(now_ns() - begin) / TIMES);
    sigemptyset(&old);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    install(0);
    me = 0;
    begin = now_ns();
    for (int i = 0; i < TIMES / 10; i++)
        raise(SIGNAL);
    printf("    raise, handled: %.1f ns\n", (double)(now_ns() - begin) / (TIMES / 10));
    CHECK(got[0] == TIMES / 10);
    begin = now_ns();
    for (int i = 0; i < TIMES / 10; i++)
        kill(getpid(), SIGNAL);
    printf("    kill of oneself, handled: %.1f ns\n", (double)(now_ns() - begin) / (TIMES / 10));
    CHECK(got[0] == TIMES / 10 * 2);
}

static const struct scenario list[] = {
    SCENARIO(a_thread_that_blocks_the_signal_answers),
    SCENARIO(a_thread_that_blocks_all_signals_answers),
    SCENARIO(a_thread_that_was_created_with_all_blocked_answers),
    SCENARIO(a_thread_answers_where_the_signal_is_ignored),
    SCENARIO(a_thread_answers_where_the_signal_is_left_to_default),
    SCENARIO(a_thread_that_replaces_the_handler_all_the_time_answers),
    SCENARIO(a_thread_in_sigtimedwait_answers),
    SCENARIO(a_thread_that_reads_a_signalfd_answers),
    SCENARIO(a_thread_in_ppoll_with_all_blocked_answers),
    SCENARIO(handlers_of_other_signals_that_block_all_answer),
    SCENARIO(a_thread_that_masks_all_the_time_answers),
    SCENARIO(a_thread_in_a_sandbox_that_kills_answers),
    SCENARIO(where_nothing_comes_with_signals_it_answers_too),
    SCENARIO(and_where_it_gets_what_it_ignores),
    SCENARIO(no_signal_is_lost_or_made_up_in_a_storm),
    SCENARIO(a_runtimes_own_signals_are_not_lost),
    SCENARIO(no_signal_of_the_process_is_lost_in_a_storm),
    SCENARIO(what_a_thread_that_blocks_gets_goes_to_one_that_does_not),
    SCENARIO(new_images_survive_a_storm),
    SCENARIO(children_of_fork_answer),
    SCENARIO(children_forked_amid_a_change_keep_the_stand_in),
    SCENARIO(pause_ends_by_the_programs_handlers_only),
    SCENARIO(each_pause_is_ended_by_one_signal_in_a_storm),
    SCENARIO(a_wait_ends_in_a_sandbox_that_kills),
    {"where_the_handler_cannot_be_installed_that_is_said", in_a_sandbox, 0,
     "rcu-notrace: preload: no handler can be installed here"},
    SCENARIO(what_it_costs),
};

static void *be_in_sections(void *unused)
{
    while (!stop) {
        rcu_read_lock_notrace();
        rcu_read_unlock_notrace();
    }
    return unused;
}

/* Without the preloaded library the handler comes with the first straggler. With none there no scenario could tell what
 * its program has done to the signal from that. */
static void have_the_handler_installed(void)
{
    uint64_t begin = now_ns();
    pthread_t reader = start(be_in_sections, NULL);

    while (!stats().ipis && now_ns() - begin < 20000000000ull)
        synchronize_rcu();
    stop = true;
    pthread_join(reader, NULL);
    stop = false;
    first_handler = kernel_handler();
    if (first_handler == (uintptr_t)SIG_DFL || first_handler == (uintptr_t)SIG_IGN) {
        printf("not ok preload: no IPI, or no handler for it\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "-survived")) {
        sigset_t none;

        /* Whatever is pending comes now. */
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        return 0;
    }
    sigemptyset(&it);
    sigaddset(&it, SIGNAL);
    sigfillset(&all);
    /* Faults and the end of a scenario's time are not to be held back. */
    sigdelset(&all, SIGALRM);
    sigdelset(&all, SIGABRT);
    sigdelset(&all, SIGSEGV);
    rcu_notrace_set_ipi_mode(RCU_NOTRACE_IPI_SIGNAL);
    have_the_handler_installed();
    if (getenv("STORM_MS"))
        storm_ms = strtoull(getenv("STORM_MS"), NULL, 10);
    return RUN_SCENARIOS("preload", list, argc, argv);
}
