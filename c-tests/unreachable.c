/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Readers that the IPI does not reach: it is blocked, somebody else's, taken by sigwait, or the thread
 * is stopped. A grace period waits for their sections, no longer, and for nothing else of theirs;
 * also where membarrier is refused, so that the signal was the only barrier.
 */
#include "seccomp.h"
#include "test.h"

#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

static bool has_membarrier = true;

/* How long a grace period may go on after what it waited for. */
static uint64_t limit_ns(void)
{
    return has_membarrier ? 50000000 : 200000000;
}

/* ---- ways to be out of reach --------------------------------------------------------------------- */

struct way {
    void (*prepare)(void);
    /* Stays there until it is told to leave, or by itself after a while. */
    void (*stay)(void);
};

static atomic_bool leave;
static sigset_t ipi;

static void prepare_nothing(void)
{
}

static void block(void)
{
    pthread_sigmask(SIG_BLOCK, &ipi, NULL);
}

static void sleeps(void)
{
    while (!leave)
        sleep_ms(5);
}

static void spins(void)
{
    while (!leave)
        ;
}

static atomic_int strangers;

static void on_stranger(int signal)
{
    (void)signal;
    strangers++;
}

static void take_over(void)
{
    struct sigaction action = {.sa_handler = on_stranger};

    /* After the library's, which is there once an IPI was sent. */
    rcu_read_lock_notrace();
    rcu_read_unlock_notrace();
    sigaction(SIGURG, &action, NULL);
}

static void waits_for_the_signal_itself(void)
{
    struct timespec a_while = {0, 5000000};

    while (!leave)
        if (sigtimedwait(&ipi, NULL, &a_while) == SIGURG)
            strangers++;
}

static void reads_signals_from_a_file(void)
{
    int file = signalfd(-1, &ipi, SFD_NONBLOCK);
    struct signalfd_siginfo got;

    CHECK(file >= 0);
    while (!leave) {
        if (read(file, &got, sizeof(got)) == sizeof(got))
            strangers++;
        sleep_ms(1);
    }
    close(file);
}

/* The parent sleeps in the kernel, where no signal but SIGKILL reaches it. */
static void is_the_parent_of_a_vfork(void)
{
    pid_t child = vfork();

    if (!child) {
        while (!leave)
            sleep_ms(1);
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

/* Another process stops this thread for a while. A raw fork: nobody's handlers run. */
static void is_stopped_by_a_debugger(void)
{
    pid_t thread = (pid_t)syscall(SYS_gettid), tracer;
    int status;

    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    tracer = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (!tracer) {
        alarm(20);
        if (ptrace(PTRACE_SEIZE, thread, 0, 0) || ptrace(PTRACE_INTERRUPT, thread, 0, 0) ||
            waitpid(thread, &status, __WALL) != thread)
            _exit(1);
        sleep_ms(300);
        ptrace(PTRACE_DETACH, thread, 0, 0);
        _exit(0);
    }
    /* Stopped somewhere here. */
    CHECK(waitpid(tracer, &status, 0) == tracer);
    if (status)
        skip("no ptrace here");
    while (!leave)
        sleep_ms(1);
}

static const struct way sleeping_with_it_blocked = {block, sleeps};
static const struct way running_with_it_blocked = {block, spins};
static const struct way with_another_handler = {take_over, spins};
static const struct way in_sigwait = {block, waits_for_the_signal_itself};
static const struct way in_signalfd = {block, reads_signals_from_a_file};
static const struct way in_vfork = {prepare_nothing, is_the_parent_of_a_vfork};
static const struct way stopped = {prepare_nothing, is_stopped_by_a_debugger};

/* ---- in a section ---------------------------------------------------------------------------------- */

static atomic_bool there, left, join_me;
static uint64_t left_at;

static void *stay_inside(void *argument)
{
    const struct way *way = argument;

    way->prepare();
    rcu_register_thread();
    rcu_read_lock_notrace();
    there = true;
    way->stay();
    left_at = now_ns();
    left = true;
    rcu_read_unlock_notrace();
    /* It is this section's end that is waited for, not the thread's. */
    while (!join_me)
        sleep_ms(20);
    return NULL;
}

static void *tell_to_leave(void *unused)
{
    sleep_ms(50);
    leave = true;
    return unused;
}

static void begin(void)
{
    sigemptyset(&ipi);
    sigaddset(&ipi, SIGURG);
    there = left = leave = join_me = false;
}

static void wait_for_one_inside(const struct way *way)
{
    uint64_t late = 0;
    int tries = 0;

    /* A busy machine may be late, but not every time. */
    do {
        pthread_t reader, teller;
        uint64_t ended;

        begin();
        reader = start(stay_inside, (void *)(uintptr_t)way);
        while (!there)
            sleep_ms(1);
        teller = start(tell_to_leave, NULL);
        synchronize_rcu();
        ended = now_ns();
        CHECK(left);
        late = ended - left_at;
        join_me = true;
        pthread_join(teller, NULL);
        pthread_join(reader, NULL);
    } while (late > limit_ns() && ++tries < 5);
    printf("    over %llu us after the section's end; %d signals went elsewhere\n",
           (unsigned long long)late / 1000, strangers);
    print_stats();
    CHECK(late <= limit_ns());
}

/* ---- outside ----------------------------------------------------------------------------------------- */

static void *stay_outside(void *argument)
{
    const struct way *way = argument;

    pin(1);
    way->prepare();
    rcu_register_thread();
    there = true;
    way->stay();
    left = true;
    return NULL;
}

static void wait_beside_one_outside(const struct way *way)
{
    uint64_t took;
    int tries = 0;

    do {
        pthread_t reader;

        begin();
        reader = start(stay_outside, (void *)(uintptr_t)way);
        while (!there)
            sleep_ms(1);
        sleep_ms(10);
        took = now_ns();
        synchronize_rcu();
        took = now_ns() - took;
        /* It was there all the time. */
        CHECK(!left);
        leave = true;
        pthread_join(reader, NULL);
    } while (took > limit_ns() && ++tries < 5);
    printf("    took %llu us; %d signals went elsewhere\n", (unsigned long long)took / 1000,
           strangers);
    print_stats();
    CHECK(took <= limit_ns());
}

static void *compete(void *unused)
{
    pin(1);
    while (!join_me)
        ;
    return unused;
}

static void wait_beside_one_that_runs_outside(void)
{
    pthread_t competitor = start(compete, NULL);

    wait_beside_one_outside(&running_with_it_blocked);
    join_me = true;
    pthread_join(competitor, NULL);
}

/* ---- each with membarrier, and without ------------------------------------------------------------------ */

static void refuse(void)
{
    refuse_membarrier();
    has_membarrier = false;
    strangers = 0;
}

#define BOTH(name, what) \
    static void name(void) \
    { \
        what; \
    } \
    static void name##_without_membarrier(void) \
    { \
        refuse(); \
        what; \
        CHECK(rcu_notrace_get_ipi_mode() == RCU_NOTRACE_IPI_SIGNAL); \
    }

BOTH(a_section_asleep_with_the_signal_blocked, wait_for_one_inside(&sleeping_with_it_blocked))
BOTH(a_section_running_with_the_signal_blocked, wait_for_one_inside(&running_with_it_blocked))
BOTH(a_section_under_another_handler, wait_for_one_inside(&with_another_handler))
BOTH(a_section_in_sigwait, wait_for_one_inside(&in_sigwait))
BOTH(a_section_that_reads_a_signalfd, wait_for_one_inside(&in_signalfd))
BOTH(a_section_in_vfork, wait_for_one_inside(&in_vfork))
BOTH(a_section_stopped_by_a_debugger, wait_for_one_inside(&stopped))
BOTH(asleep_outside_with_the_signal_blocked, wait_beside_one_outside(&sleeping_with_it_blocked))
BOTH(running_outside_with_the_signal_blocked, wait_beside_one_that_runs_outside())
BOTH(outside_in_sigwait, wait_beside_one_outside(&in_sigwait))
BOTH(outside_reading_a_signalfd, wait_beside_one_outside(&in_signalfd))
BOTH(outside_in_vfork, wait_beside_one_outside(&in_vfork))
BOTH(outside_stopped_by_a_debugger, wait_beside_one_outside(&stopped))

/* ---- who never leaves its processor is waited for until it does --------------------------------------- */

static long switches_before, switches_after;
static atomic_bool look_now, looked;

static long switches(void)
{
    struct rusage usage;

    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nvcsw + usage.ru_nivcsw;
}

enum { ROUNDS = 5 };

static atomic_int round_wanted, round_begun;

static void *run_without_a_pause(void *unused)
{
    struct sched_param parameters = {.sched_priority = 90};

    block();
    pin(1);
    rcu_register_thread();
    /* Where that is permitted; else it may be preempted, and says so. */
    sched_setscheduler(0, SCHED_FIFO, &parameters);
    for (int i = 1; i <= ROUNDS; i++) {
        uint64_t end;

        /* Off its processor, and often: but before the grace period that counts. */
        while (round_wanted < i)
            sleep_ms(1);
        switches_before = switches();
        end = now_ns() + 150000000;
        round_begun = i;
        while (now_ns() < end && !look_now)
            ;
        switches_after = switches();
        looked = true;
    }
    return unused;
}

static void a_reader_that_never_leaves_its_processor_is_waited_for_until_it_does(void)
{
    pthread_t reader;
    int waited = 0;

    if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
        skip("one processor");
    begin();
    refuse();
    pin(0);
    reader = start(run_without_a_pause, NULL);
    for (int i = 1; i <= ROUNDS; i++) {
        bool early;

        look_now = looked = false;
        round_wanted = i;
        while (round_begun < i)
            sleep_ms(1);
        synchronize_rcu();
        early = !looked;
        look_now = true;
        while (!looked)
            sleep_ms(1);
        printf("    the wait ended %s it was off its processor, which it had left %ld times\n",
               early ? "before it said that" : "after", switches_after - switches_before);
        /* Early only if the kernel says that it was off. */
        CHECK(!early || switches_after - switches_before >= 2);
        waited += !early;
        /* Time for others. */
        sleep_ms(50);
    }
    pthread_join(reader, NULL);
    CHECK(stats().ipis > 0);
    if (waited < 2)
        skip("this machine is too busy to keep a thread on its processor");
}

/* ---- short sections ------------------------------------------------------------------------------------- */

enum { ALIVE = 0x600d600d, POISON = 0x5eadbeef, OBJECTS = 64 };

static struct {
    atomic_uint a, b;
} objects[OBJECTS], *shared_object = objects;
static atomic_bool stop;
static atomic_ulong sections, poisoned;
static atomic_int ready;

static void *read_shortly(void *argument)
{
    unsigned long count = 0;

    pin(1);
    block();
    rcu_register_thread();
    ready++;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        unsigned spin = (unsigned)(count * 7 % 256);

        rcu_read_lock_notrace();
        __typeof__(shared_object) seen = rcu_dereference(shared_object);
        if (atomic_load_explicit(&seen->a, memory_order_relaxed) != ALIVE)
            poisoned++;
        while (spin--)
            __asm__ volatile("" ::: "memory");
        /* Some are preempted by the other in a section, some sleep in one. */
        if (argument && count % 65536 == 1)
            usleep(2000);
        if (atomic_load_explicit(&seen->b, memory_order_relaxed) != ALIVE)
            poisoned++;
        rcu_read_unlock_notrace();
        count++;
        if (argument && count % 32768 == 2)
            usleep(500);
    }
    sections += count;
    return NULL;
}

static void short_sections_with_the_signal_blocked_are_never_missed(void)
{
    pthread_t readers[3];
    uint64_t end, longest = 0;
    unsigned next = 1;

    begin();
    refuse();
    for (int i = 0; i < OBJECTS; i++)
        objects[i].a = objects[i].b = ALIVE;
    for (int i = 0; i < 3; i++)
        readers[i] = start(read_shortly, i ? &stop : NULL);
    while (ready < 3)
        sleep_ms(1);
    end = now_ns() + 3000000000;
    while (now_ns() < end) {
        __typeof__(shared_object) fresh = &objects[next++ % OBJECTS], old;
        uint64_t began = now_ns();

        fresh->a = fresh->b = ALIVE;
        old = rcu_xchg_pointer(&shared_object, fresh);
        synchronize_rcu();
        old->a = old->b = POISON;
        if (now_ns() - began > longest)
            longest = now_ns() - began;
    }
    stop = true;
    for (int i = 0; i < 3; i++)
        pthread_join(readers[i], NULL);
    printf("    %u waits, the longest %llu us; sections %lu, poisoned %lu\n", next,
           (unsigned long long)longest / 1000, sections, poisoned);
    print_stats();
    CHECK(poisoned == 0);
    /* Nobody answered a signal: flags were found by sections, or a thread was off its processor. */
    CHECK(stats().barriers == 0 && stats().reports_by_handler == 0);
    CHECK(stats().holdouts > 50 && next > 20 && sections > 10000);
}

#define TWICE(name) SCENARIO(name), SCENARIO(name##_without_membarrier)

int main(int argc, char **argv)
{
    static const struct scenario list[] = {
        TWICE(a_section_asleep_with_the_signal_blocked),
        TWICE(a_section_running_with_the_signal_blocked),
        TWICE(a_section_under_another_handler),
        TWICE(a_section_in_sigwait),
        TWICE(a_section_that_reads_a_signalfd),
        TWICE(a_section_in_vfork),
        TWICE(a_section_stopped_by_a_debugger),
        TWICE(asleep_outside_with_the_signal_blocked),
        TWICE(running_outside_with_the_signal_blocked),
        TWICE(outside_in_sigwait),
        TWICE(outside_reading_a_signalfd),
        TWICE(outside_in_vfork),
        TWICE(outside_stopped_by_a_debugger),
        SCENARIO(a_reader_that_never_leaves_its_processor_is_waited_for_until_it_does),
        SCENARIO(short_sections_with_the_signal_blocked_are_never_missed),
    };

    return RUN_SCENARIOS("unreachable", list, argc, argv);
}
