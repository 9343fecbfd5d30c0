/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A child of fork() starts the library's bookkeeping over. It is the only thread there is, but signal handlers come:
 * glibc has given the child its mask back by then. Here one comes at each instruction of it, in a child of its
 * own each time, and has a section or queues a callback; then the child's sections must be waited for, and let go, and
 * its callbacks called.
 */
#include "steps.h"
#include "text.h"

#include <rcu_notrace/tracepoint.h>

#include <dlfcn.h>
#include <sys/mman.h>

#if !defined(__x86_64__)
int main(void)
{
    printf("ok forks: single steps # SKIP\n    SKIP: no trap flag on this processor\n");
    return 0;
}
#else

/* ---- the child in steps -------------------------------------------------------------------------- */

static bool child_steps;

static void child_begins(void)
{
    if (child_steps)
        STEPS_ON();
}

/* The library has prepared itself, and the fork is still to come. */
static void (*amid_the_fork)(void);

static void parent_forks(void)
{
    void (*act)(void) = amid_the_fork;

    amid_the_fork = NULL;
    if (act)
        act();
}

/* In the child handlers run in the order in which they were registered: ours before the library's; and what prepares
 * for it the other way round. */
static void come_first(void)
{
    pthread_atfork(parent_forks, NULL, child_begins);
}

__attribute__((section(".preinit_array"), used)) static void (*before_constructors)(void) = come_first;

enum { MOST_STEPS = 20000 };

/* What the children tell. */
static struct shared {
    atomic_ulong steps, acted, early, lost;
    unsigned long instruction[MOST_STEPS]; /* of each step */
} *shared;

static void note_instruction(void)
{
    if (step < MOST_STEPS)
        shared->instruction[step] = trapped_at;
}

/* ---- what a section and a callback may rely on ------------------------------------------------------ */

static atomic_bool has_waited;

static void *waits(void *unused)
{
    synchronize_rcu();
    has_waited = true;
    return unused;
}

static void quick_section(void)
{
    rcu_read_lock_notrace();
    rcu_read_unlock_notrace();
}

static void check_section(void)
{
    pthread_t waiter;

    has_waited = false;
    rcu_read_lock_notrace();
    waiter = start(waits, NULL);
    for (int i = 0; i < 20 && !has_waited; i++)
        usleep(100);
    shared->early += has_waited;
    rcu_read_unlock_notrace();
    for (int i = 0; i < 8000 && !has_waited; i++)
        usleep(500);
    if (!has_waited)
        fail("a grace period does not end in the child (place %lu)", target);
    pthread_join(waiter, NULL);
}

/* So often that whoever is idle is parked. */
static void *waits_often(void *unused)
{
    for (int i = 0; i < 14; i++)
        synchronize_rcu();
    return unused;
}

static void be_parked(void)
{
    pthread_join(start(waits_often, NULL), NULL);
}

static struct rcu_head head;
static atomic_bool called;

static void call_slowly(struct rcu_head *unused)
{
    (void)unused;
    usleep(2000);
    called = true;
}

/* ---- what handlers do ------------------------------------------------------------------------------- */

static bool acted;

static void a_section(void)
{
    acted = true;
    shared->acted++;
    quick_section();
}

static void a_callback(void)
{
    acted = true;
    shared->acted++;
    call_rcu(&head, call_slowly);
}

/* ---- places ----------------------------------------------------------------------------------------- */

struct forking {
    const char *name;
    /* The state of the thread that forks. */
    void (*before)(void);
    /* What the handler does; and what the child does then. */
    void (*act)(void), (*after)(void);
};

static void in_child(const struct forking *f)
{
    alarm(20);
    f->after();
    fflush(stdout);
    _exit(0);
}

static void fork_at(unsigned long at, const struct forking *f)
{
    pid_t child;
    int status;

    step = 0;
    target = at;
    at_target = f->act;
    fflush(stdout);
    child_steps = true;
    child = fork();
    if (!child)
        STEPS_OFF();
    child_steps = false;
    CHECK(child >= 0);
    if (!child) {
        shared->steps = step;
        in_child(f);
    }
    CHECK(waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        fail("%s: the child ends with status %#x (place %lu)", f->name, (unsigned)status, at);
}

/* Of this library's code; libc's is as good, and there is more of it. */
static bool is_libcs(unsigned long instruction)
{
    Dl_info info;

    return dladdr((void *)instruction, &info) && info.dli_fname && strstr(info.dli_fname, "libc.so");
}

/* The steps at which an instruction is executed for the first and for the last time. */
static unsigned long choose_places(unsigned long *places)
{
    unsigned long count = 0, steps = shared->steps;

    CHECK(steps < MOST_STEPS);
    for (unsigned long i = 0; i < steps; i++) {
        bool is_first = true, is_last = true;

        if (is_libcs(shared->instruction[i]))
            continue;
        for (unsigned long k = 0; k < i && is_first; k++)
            is_first = shared->instruction[k] != shared->instruction[i];
        for (unsigned long k = i + 1; k < steps && is_last; k++)
            is_last = shared->instruction[k] != shared->instruction[i];
        if (is_first || is_last)
            places[count++] = i;
    }
    return count;
}

/* All of them, a child each; where seconds are short, as many as there is time for. */
static uint64_t time_for_places(void)
{
    const uint64_t seconds = getenv("SCENARIO_SECONDS") ? 15 : 3;

    return now_ns() + seconds * 1000000000ull;
}

static void share(void)
{
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
}

static void go_through(const struct forking *f)
{
    static unsigned long places[MOST_STEPS];
    uint64_t end = time_for_places();
    unsigned long round, count;

    share();
    catch_traps(SA_NODEFER);
    f->before();
    at_each = note_instruction;
    fork_at(~0ul >> 1, f);
    at_each = NULL;
    count = choose_places(places);
    CHECK(count > 300);
    for (round = 0; round < count && !shared->early && !shared->lost && (round < 20 || now_ns() < end); round++)
        fork_at(places[place_of(round, count)], f);
    printf("    %s: %lu of %lu places, acted upon %lu, early %lu, lost %lu\n", f->name, round, count,
           (unsigned long)shared->acted, (unsigned long)shared->early, (unsigned long)shared->lost);
    fflush(stdout);
    CHECK(shared->early == 0 && shared->lost == 0);
    /* Not each child takes as many steps: the clock is asked, and who waits is told of. */
    CHECK(round >= 20 && shared->acted > round / 2);
}


/* Its sections are no longer counted as its first ones. */
static void unlisted(void)
{
    rcu_register_thread();
    quick_section();
    rcu_unregister_thread();
}

static void a_handlers_section_at_each_step_of_a_child_that_is_not_listed(void)
{
    static const struct forking f = {"not listed", unlisted, a_section, check_section};

    go_through(&f);
}

static void parked(void)
{
    rcu_register_thread();
    quick_section();
    be_parked();
}

/* Once more. */
static void comes_back_from_parking(void)
{
    check_section();
    be_parked();
    check_section();
}

static void a_handlers_section_at_each_step_of_a_child_that_is_parked(void)
{
    static const struct forking f = {"parked", parked, a_section, comes_back_from_parking};

    go_through(&f);
}

static void listed(void)
{
    rcu_register_thread();
    quick_section();
}

static void a_handlers_section_at_each_step_of_a_child_that_is_listed(void)
{
    static const struct forking f = {"listed", listed, a_section, check_section};

    go_through(&f);
}

/* A section that is older than the child, and counted: its thread may be listed from the next one on. */
static void in_a_counted_section(void)
{
    for (int i = 0; i < FIRST_SECTIONS - 1; i++)
        quick_section();
    rcu_read_lock_notrace();
}

static void ends_its_section(void)
{
    rcu_read_unlock_notrace();
    check_section();
}

static void a_handlers_section_at_each_step_of_a_child_in_a_counted_section(void)
{
    static const struct forking f = {"in a counted section", in_a_counted_section, a_section, ends_its_section};

    go_through(&f);
}

static void has_its_callback_called(void)
{
    rcu_barrier();
    shared->lost += acted && !called;
}

static void a_handlers_callback_at_each_step_of_a_child(void)
{
    static const struct forking f = {"a callback", listed, a_callback, has_its_callback_called};

    go_through(&f);
}

/* ---- a fork in a handler above a fork --------------------------------------------------------------- */

static void *queues_and_waits(void *unused)
{
    call_rcu(&head, call_slowly);
    rcu_barrier();
    synchronize_rcu();
    return unused;
}

/* A second thread is the first to use it, as none may in a process that the library does not know. */
static int second_thread_in_a_child(void)
{
    pid_t child;
    int status;

    called = false;
    child = fork();
    if (!child) {
        alarm(20);
        pthread_join(start(queues_and_waits, NULL), NULL);
        _exit(called ? 0 : 1);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    return status;
}

static pid_t nested;
static uint64_t nested_ns;
static bool leaves;

static void fork_in_a_handler(int unused)
{
    uint64_t begin = now_ns();

    (void)unused;
    nested = fork();
    if (!nested && leaves)
        _exit(0);
    nested_ns = now_ns() - begin;
}

static void raise_above_the_fork(void)
{
    raise(SIGUSR1);
}

/* The handler's child goes on, and so makes the fork that was interrupted; or it leaves at once. */
static void a_fork_in_a_handler_above_fork_has_children_that_go_on(void)
{
    signal(SIGUSR1, fork_in_a_handler);
    listed();
    CHECK(rcu_notrace_start_worker() == 0);
    for (int round = 0; round < 2; round++) {
        int outer, later, status = 0;

        leaves = round;
        amid_the_fork = raise_above_the_fork;
        outer = second_thread_in_a_child();
        later = second_thread_in_a_child();
        /* In the handler's child, too. */
        if (!nested)
            _exit(outer || later);
        CHECK(nested > 0 && waitpid(nested, &status, 0) == nested);
        printf("    %s: the fork's child %#x, a later one %#x, the handler's child %#x; %.1f ms in the handler\n",
               leaves ? "left" : "went on", (unsigned)outer, (unsigned)later, (unsigned)status, (double)nested_ns / 1e6);
        fflush(stdout);
        CHECK(!outer && !later && !status && nested_ns < 100000000);
    }
}

/* ---- and at each step of one ------------------------------------------------------------------------ */

static pid_t steps_in;
static struct text libc;

/* Not in libc's code, which has locks of its own there: a little later. Nor in the fork's child, where those may still be
 * its parent's. */
static void raise_in_the_parent(void)
{
    if (getpid() != steps_in)
        return;
    if (trapped_at >= libc.begin && trapped_at < libc.end)
        target++;
    else
        raise(SIGUSR1);
}

DECLARE_TRACE_NOARGS(stepped);
DEFINE_TRACE_NOARGS(stepped);

static void nothing(void *data)
{
    (void)data;
}

static pid_t fork_and_leave(void)
{
    pid_t child = fork();

    if (!child) {
        STEPS_OFF();
        _exit(0);
    }
    return child;
}

static pid_t switch_a_probe(void)
{
    register_trace_stepped(nothing, NULL);
    unregister_trace_stepped(nothing, NULL);
    return 0;
}

/* The process, or its handler's child, which goes on in the fork that was interrupted. */
static int fork_in_steps(unsigned long at, pid_t (*act)(void))
{
    int status = 0, nested_status = 0, later;
    pid_t child;

    alarm(20);
    nested = -1;
    signal(SIGUSR1, fork_in_a_handler);
    listed();
    CHECK(rcu_notrace_start_worker() == 0);
    catch_traps(0);
    step = 0;
    target = at;
    at_target = raise_in_the_parent;
    steps_in = getpid();
    STEPS_ON();
    child = act();
    STEPS_OFF();
    shared->steps = step;
    /* The handler's child may have come when there was one already. */
    CHECK(!child || waitpid(child, &status, 0) == child || (!nested && errno == ECHILD));
    CHECK(!register_trace_stepped(nothing, NULL) && !unregister_trace_stepped(nothing, NULL));
    call_rcu(&head, call_slowly);
    rcu_barrier();
    rcu_barrier_tasks_trace();
    later = second_thread_in_a_child();
    if (nested > 0) {
        shared->acted++;
        CHECK(waitpid(nested, &nested_status, 0) == nested);
    }
    return status || later || nested_status;
}

static void go_through_forks(pid_t (*act)(void))
{
    static unsigned long places[MOST_STEPS];
    uint64_t end = time_for_places();
    unsigned long round, count = 1;

    share();
    CHECK(find_text(&libc, dlsym(RTLD_NEXT, "fork")));
    at_each = note_instruction;
    places[0] = ~0ul >> 1;
    for (round = 0; round < count && (round < 20 || now_ns() < end); round++) {
        unsigned long at = places[place_of(round, count)];
        pid_t child;
        int status;

        fflush(stdout);
        child = fork();
        if (!child)
            _exit(fork_in_steps(at, act));
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        if (!WIFEXITED(status) || WEXITSTATUS(status))
            fail("a process ends with status %#x (place %lu)", (unsigned)status, at);
        if (at_each) {
            at_each = NULL;
            count = choose_places(places);
            CHECK(count > 300);
        }
    }
    printf("    %lu of %lu places, acted upon %lu\n", round, count, (unsigned long)shared->acted);
    CHECK(round >= 20 && shared->acted > round / 2);
}

static void a_fork_in_a_handler_at_each_step_of_fork_has_children_that_go_on(void)
{
    go_through_forks(fork_and_leave);
}

static void and_at_each_step_of_switching_a_probe(void)
{
    go_through_forks(switch_a_probe);
}

int main(int argc, char **argv)
{
    static const struct scenario list[] = {
        SCENARIO(a_handlers_section_at_each_step_of_a_child_that_is_not_listed),
        SCENARIO(a_handlers_section_at_each_step_of_a_child_that_is_parked),
        SCENARIO(a_handlers_section_at_each_step_of_a_child_that_is_listed),
        SCENARIO(a_handlers_section_at_each_step_of_a_child_in_a_counted_section),
        SCENARIO(a_handlers_callback_at_each_step_of_a_child),
        SCENARIO(a_fork_in_a_handler_above_fork_has_children_that_go_on),
        SCENARIO(a_fork_in_a_handler_at_each_step_of_fork_has_children_that_go_on),
        SCENARIO(and_at_each_step_of_switching_a_probe),
    };

    return RUN_SCENARIOS("forks", list, argc, argv);
}
#endif
