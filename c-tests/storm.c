/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Readers, threads that come and go, and a timer signal at the highest rate the machine gives,
 * whose handler enters nested sections; over grace periods as fast as they go. Each object that a
 * grace period retires is poisoned at once: a section that sees poison is a grace period that
 * ended too early.
 */
#include "test.h"

/* The environment's STORM_SECONDS overrides it. */
enum { SECONDS = 2 };
#define READERS 3
#define OBJECTS 64

enum { ALIVE = 0x600d600d, POISON = 0x5eadbeef };

struct object {
    atomic_uint a, b;
};

static struct object objects[OBJECTS];
static struct object *shared_object;
static atomic_bool stop;
static atomic_ulong sections, handler_sections, storms_in_sections, threads_run, poisoned;

static unsigned seconds(void)
{
    const char *wanted = getenv("STORM_SECONDS");

    return wanted ? (unsigned)atoi(wanted) : SECONDS;
}

static void look(void)
{
    struct object *seen;

    rcu_read_lock_notrace();
    seen = rcu_dereference(shared_object);
    if (atomic_load_explicit(&seen->a, memory_order_relaxed) != ALIVE)
        atomic_fetch_add(&poisoned, 1);
    /* Give signals and grace periods something to land in. */
    for (int i = 0; i < 50; i++)
        __asm__ volatile("pause");
    if (atomic_load_explicit(&seen->b, memory_order_relaxed) != ALIVE)
        atomic_fetch_add(&poisoned, 1);
    rcu_read_unlock_notrace();
}

static void on_timer(int signal)
{
    int saved = errno;

    (void)signal;
    if (rcu_read_lock_held())
        atomic_fetch_add_explicit(&storms_in_sections, 1, memory_order_relaxed);
    rcu_read_lock_notrace();
    look();
    rcu_read_unlock_notrace();
    atomic_fetch_add_explicit(&handler_sections, 1, memory_order_relaxed);
    errno = saved;
}

static void *reader(void *unused)
{
    timer_t timer = storm_here();
    unsigned long count = 0;

    (void)unused;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        rcu_read_lock_notrace();
        look();
        rcu_read_unlock_notrace();
        count += 2;
    }
    timer_delete(timer);
    atomic_fetch_add(&sections, count);
    return NULL;
}

static void *short_life(void *unused)
{
    timer_t timer = storm_here();

    (void)unused;
    for (int i = 0; i < 20; i++) {
        look();
        if (i % 5 == 4)
            rcu_unregister_thread();
    }
    timer_delete(timer);
    atomic_fetch_add(&sections, 20);
    atomic_fetch_add(&threads_run, 1);
    return NULL;
}

static void *churn(void *unused)
{
    while (!atomic_load_explicit(&stop, memory_order_relaxed))
        pthread_join(start(short_life, unused), NULL);
    return NULL;
}

static void *updater(void *unused)
{
    unsigned next = 1;

    (void)unused;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        struct object *fresh = &objects[next % OBJECTS], *old;

        next++;
        if (fresh == shared_object)
            continue;
        atomic_store_explicit(&fresh->a, ALIVE, memory_order_relaxed);
        atomic_store_explicit(&fresh->b, ALIVE, memory_order_relaxed);
        old = rcu_xchg_pointer(&shared_object, fresh);
        /* One in a hurry sends signals where the other flags readers remotely. */
        if (next % 2)
            synchronize_rcu();
        else
            synchronize_rcu_expedited();
        atomic_store_explicit(&old->a, POISON, memory_order_relaxed);
        atomic_store_explicit(&old->b, POISON, memory_order_relaxed);
    }
    return NULL;
}

static void signals_hit_readers_that_come_and_go(void)
{
    pthread_t threads[READERS + 2];
    struct sigaction action;
    struct rcu_notrace_stats s;
    int mode = rcu_notrace_get_ipi_mode();
    uint64_t began = now_ns();

    memset(&action, 0, sizeof(action));
    action.sa_handler = on_timer;
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR2, &action, NULL);
    for (int i = 0; i < OBJECTS; i++)
        objects[i].a = objects[i].b = ALIVE;
    shared_object = &objects[0];
    for (int i = 0; i < READERS; i++)
        threads[i] = start(reader, NULL);
    threads[READERS] = start(churn, NULL);
    threads[READERS + 1] = start(updater, NULL);
    /* On a busy machine for longer. */
    do
        sleep_ms(seconds() * 1000);
    while (stats().grace_periods <= 20 && now_ns() - began < 20000000000);
    stop = true;
    for (int i = 0; i < READERS + 2; i++)
        pthread_join(threads[i], NULL);

    s = stats();
    printf("    %s: sections %lu, in handlers %lu, signals in sections %lu, threads %lu, "
           "poisoned %lu\n",
           mode_names[mode], sections, handler_sections, storms_in_sections, threads_run,
           poisoned);
    print_stats();
    CHECK(poisoned == 0);
    CHECK(sections > 1000);
    CHECK(handler_sections > 100);
    CHECK(storms_in_sections > 10);
    CHECK(threads_run > 3);
    CHECK(s.grace_periods > 10);
    CHECK(s.holdouts > 3);
    CHECK(s.reports_by_section > 0);
    if (mode == RCU_NOTRACE_IPI_SIGNAL) {
        CHECK(s.ipis > 10);
        CHECK(s.reports_by_handler > 0);
    }
    if (mode == RCU_NOTRACE_IPI_AUTO)
        CHECK(s.ipis > 0);
    if (mode == RCU_NOTRACE_IPI_MEMBARRIER)
        CHECK(s.ipis == 0 && s.barriers > 0);
}

/* ---- no storm: a reader and a waiter, each at full speed on its own processor ----------------- */

/* The store of lock is still on its way when the pointer is loaded: what the barrier is for. */
static void *read_at_full_speed(void *unused)
{
    unsigned long count = 0;

    pin(1);
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        struct object *seen;
        unsigned spin = (unsigned)(count * 7 % 1024), outside = (unsigned)(count * 13 % 2048);

        while (outside--)
            __asm__ volatile("" ::: "memory");
        rcu_read_lock_notrace();
        seen = rcu_dereference(shared_object);
        if (atomic_load_explicit(&seen->a, memory_order_relaxed) != ALIVE)
            atomic_fetch_add(&poisoned, 1);
        while (spin--)
            __asm__ volatile("" ::: "memory");
        if (atomic_load_explicit(&seen->b, memory_order_relaxed) != ALIVE)
            atomic_fetch_add(&poisoned, 1);
        rcu_read_unlock_notrace();
        count++;
    }
    atomic_fetch_add(&sections, count);
    return unused;
}

static void *update_at_full_speed(void *unused)
{
    pin(0);
    return updater(unused);
}

static void short_sections_race_grace_periods(void)
{
    pthread_t threads[2];

    if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
        skip("one processor");
    for (int i = 0; i < OBJECTS; i++)
        objects[i].a = objects[i].b = ALIVE;
    shared_object = &objects[0];
    threads[0] = start(read_at_full_speed, NULL);
    threads[1] = start(update_at_full_speed, NULL);
    sleep_ms(seconds() * 1000);
    stop = true;
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    printf("    sections %lu, poisoned %lu\n", sections, poisoned);
    print_stats();
    CHECK(poisoned == 0);
    CHECK(sections > 1000 && stats().grace_periods > 100);
    /* Every flag that a waiter relies on was seen after a barrier, so none is missing. */
    CHECK(rcu_notrace_get_ipi_mode() != RCU_NOTRACE_IPI_MEMBARRIER || stats().rescues == 0);
}

/* ---- readers that rest between sections --------------------------------------------------------- */

static void *read_and_rest(void *unused)
{
    unsigned long count = 0;

    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        look();
        count++;
        if (count % 4 == 0)
            usleep(50);
    }
    atomic_fetch_add(&sections, count);
    return unused;
}

static void idle_readers_are_parked_and_come_back(void)
{
    pthread_t threads[6];

    for (int i = 0; i < OBJECTS; i++)
        objects[i].a = objects[i].b = ALIVE;
    shared_object = &objects[0];
    for (int i = 0; i < 5; i++)
        threads[i] = start(read_and_rest, NULL);
    threads[5] = start(updater, NULL);
    sleep_ms(seconds() * 500);
    stop = true;
    for (int i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    printf("    sections %lu, poisoned %lu\n", sections, poisoned);
    print_stats();
    CHECK(poisoned == 0);
    CHECK(sections > 100 && stats().grace_periods > 20 && stats().parks > 3);
}

int main(int argc, char **argv)
{
    static const struct scenario list[] = {
        SCENARIO(signals_hit_readers_that_come_and_go),
        SCENARIO(short_sections_race_grace_periods),
        SCENARIO(idle_readers_are_parked_and_come_back),
    };

    return RUN_SCENARIOS("storm", list, argc, argv);
}
