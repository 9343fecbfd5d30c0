/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * System calls that are refused, one kind after the other and with each error that a sandbox or a short
 * system gives: from the process's first instruction, or in the middle, with other threads in sections.
 * Grace periods end, none early; callbacks are called; what is lost is said.
 */
#include "inject.h"
#include "test.h"

#include <linux/membarrier.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool in_full(void)
{
    return getenv("FAULTS_LONG") != NULL;
}

/* ---- what is refused --------------------------------------------------------------------------------- */

struct fault {
    const char *name;
    /* The IPI modes in which the library makes that call in the workout: bits. */
    unsigned from_start, later;
    int calls[MOST_CALLS];
    int errors[5];
};

enum { AUTO = 1, SIGNAL = 2, MEMBARRIER = 4, ALL = 7 };

#define ERRORS {EPERM, ENOSYS, EAGAIN, ENOMEM}

static const struct fault faults[] = {
    {"membarrier", ALL, AUTO | MEMBARRIER, {SYS_membarrier, -1}, ERRORS},
    {"futex", ALL, ALL, {SYS_futex, -1}, ERRORS},
    {"tgkill", SIGNAL, SIGNAL, {SYS_tgkill, -1}, ERRORS},
    {"rt_sigaction", SIGNAL, 0, {SYS_rt_sigaction, -1}, ERRORS},
    {"madvise", ALL, 0, {SYS_madvise, -1}, ERRORS},
    {"mmap", ALL, ALL, {SYS_mmap, -1}, ERRORS},
    {"clone", ALL, ALL, {SYS_clone3, SYS_clone, -1}, {EPERM, ENOSYS, EAGAIN}},
    {"membarrier_and_tgkill", ALL, ALL, {SYS_membarrier, SYS_tgkill, -1}, {EPERM, ENOSYS}},
    {"membarrier_and_rt_sigaction", ALL, AUTO | MEMBARRIER, {SYS_membarrier, SYS_rt_sigaction, -1}, {EPERM, ENOSYS}},
    {"files", 0, 0, {SYS_openat, SYS_read, SYS_pread64, SYS_close, -1}, {EPERM, ENOSYS}},
    {"rt_sigprocmask", ALL, ALL, {SYS_rt_sigprocmask, -1}, {EPERM, ENOSYS}},
    {"getpid_and_gettid", ALL, ALL, {SYS_getpid, SYS_gettid, -1}, {EPERM, ENOSYS}},
    {"prctl", ALL, ALL, {SYS_prctl, -1}, {EPERM}},
    {"sched", ALL, ALL, {SYS_sched_getscheduler, SYS_sched_setscheduler, SYS_sched_yield, -1}, {EPERM, ENOSYS}},
    {"sleep", 0, 0, {SYS_futex, SYS_nanosleep, SYS_sched_yield, -1}, {EPERM}},
    {"messages", ALL, ALL, {SYS_clone, SYS_clone3, SYS_lseek, SYS_pwritev2, SYS_writev, SYS_ppoll, -1}, {EPERM}},
};

static bool has_call(const struct fault *fault, int call)
{
    for (const int *own = fault->calls; *own >= 0; own++)
        if (*own == call)
            return true;
    return false;
}

/* ---- a program's life under that fault ------------------------------------------------------------------ */

enum { ALIVE = 0x600d600d, POISON = 0x5eadbeef, OBJECTS = 64, CALLBACKS = 64, UPDATES = 30 };

static struct {
    atomic_uint a, b;
} objects[OBJECTS], *shared_object = objects;
static atomic_bool stop, hold, held, leave;
static atomic_int ready;
static atomic_ulong sections, poisoned;

static void read_once(unsigned spin, unsigned us)
{
    rcu_read_lock_notrace();
    __typeof__(shared_object) seen = rcu_dereference(shared_object);
    if (atomic_load_explicit(&seen->a, memory_order_relaxed) != ALIVE)
        poisoned++;
    while (spin--)
        __asm__ volatile("" ::: "memory");
    if (us)
        usleep(us);
    if (atomic_load_explicit(&seen->b, memory_order_relaxed) != ALIVE)
        poisoned++;
    rcu_read_unlock_notrace();
}

static void *read_shortly(void *unused)
{
    unsigned long count = 0;

    ready++;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        read_once((unsigned)(count * 7 % 256), 0);
        /* Else it would keep others from two processors. */
        if (++count % 4096 == 0)
            usleep(500);
    }
    sections += count;
    return unused;
}

static void *read_at_length(void *unused)
{
    unsigned long count = 0;

    ready++;
    while (!stop) {
        read_once(0, 1000);
        usleep(100);
        count++;
    }
    sections += count;
    return unused;
}

static void *be_idle(void *unused)
{
    rcu_register_thread();
    ready++;
    while (!stop)
        usleep(1000);
    return unused;
}

/* In a section when the fault comes. */
static void *hold_a_section(void *unused)
{
    rcu_register_thread();
    ready++;
    while (!hold)
        usleep(500);
    rcu_read_lock_notrace();
    held = true;
    usleep(30000);
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
    for (int i = 0; i < 10; i++)
        read_once(0, 0);
    ready++;
    while (!go)
        usleep(500);
    for (int i = 0; i < 10; i++)
        read_once(0, 0);
    return unused;
}

struct counted {
    struct rcu_head head;
    atomic_int calls;
};

static struct counted counted[CALLBACKS];

static void called(struct rcu_head *head)
{
    ((struct counted *)head)->calls++;
}

static void check_callbacks(void)
{
    for (int i = 0; i < CALLBACKS; i++)
        call_rcu(&counted[i].head, called);
    rcu_barrier();
    for (int i = 0; i < CALLBACKS; i++)
        CHECK(counted[i].calls == 1);
}

static void update(void)
{
    static unsigned next;
    __typeof__(shared_object) fresh = &objects[++next % OBJECTS], old;

    fresh->a = fresh->b = ALIVE;
    old = rcu_xchg_pointer(&shared_object, fresh);
    synchronize_rcu();
    old->a = old->b = POISON;
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

enum { STACK = 256 << 10 };

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
    for (int i = 0; i < OBJECTS; i++)
        objects[i].a = objects[i].b = ALIVE;
    for (size_t i = 0; i < COUNT(bodies); i++)
        thread = start(bodies[i], NULL);
    (void)thread;
    stack = one_stack(STACK);
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, STACK);
    CHECK(pthread_create(&ender, &attributes, end_under_it, NULL) == 0);
    while (ready < (int)COUNT(bodies) + 1)
        usleep(500);
    if (!from_start)
        for (int i = 0; i < 5; i++)
            update();
    before = stats();
    if (!from_start)
        hold = true;
    while (!from_start && !held)
        usleep(500);
    if (from_start)
        inject_arm(true);
    else if (!inject_prepare() || !inject(fault->calls, error, true))
        skip("no seccomp supervision here: %s", strerror(errno));
    if (!from_start) {
        synchronize_rcu();
        CHECK(leave);
    }
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

/* Before the constructors of libraries, the library's among them. */
static void refuse_from_the_start(int argc, char **argv, char **environment)
{
    (void)environment;
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
    size_t number = 0;
    const struct fault *fault;

    while (strcmp(faults[number].name, name))
        number++;
    fault = &faults[number];
    for (const int *error = fault->errors; *error; error++) {
        char which[16], how[16];
        pid_t child;

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

#define CASE(call) SCENARIO(where_##call##_is_refused_grace_periods_end)

int main(int argc, char **argv)
{
    static const struct scenario list[] = {
        CASE(membarrier),
        CASE(futex),
        CASE(tgkill),
        CASE(rt_sigaction),
        CASE(madvise),
        CASE(mmap),
        CASE(clone),
        CASE(membarrier_and_tgkill),
        CASE(membarrier_and_rt_sigaction),
        CASE(files),
        CASE(rt_sigprocmask),
        CASE(getpid_and_gettid),
        CASE(prctl),
        CASE(sched),
        CASE(sleep),
        CASE(messages),
    };

    if (from_start_fault) {
        alarm(30);
        work_under(from_start_fault, from_start_error, true);
        return PASS;
    }
    (void)in_full;
    return RUN_SCENARIOS("faults", list, argc, argv);
}
