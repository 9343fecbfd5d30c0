/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Litmus tests of a grace period's memory ordering, as in the kernel's tools/memory-model: one
 * thread has a grace period between two accesses, the other a section around two. Each pattern has
 * one outcome that would mean that the section lay on both sides of the grace period.
 * By brute force: the two meet at each round, with a changing distance between them.
 */
#include "test.h"

enum { MILLISECONDS = 500, LEAST = 100, PLACES = 1 << 16 };

/* One round's variables and results, each pair on a line of its own. */
struct place {
    _Alignas(128) atomic_int x;
    _Alignas(128) atomic_int y;
    _Alignas(128) int waiter_saw, reader_saw[2];
};

static struct place *places;
static _Alignas(128) atomic_ulong waiter_at;
static _Alignas(128) atomic_ulong reader_at;
static atomic_bool stop;

static int load(atomic_int *variable)
{
    return atomic_load_explicit(variable, memory_order_relaxed);
}

static void store(atomic_int *variable)
{
    atomic_store_explicit(variable, 1, memory_order_relaxed);
}

struct pattern {
    void (*wait)(struct place *p);
    void (*section)(struct place *p);
    bool (*forbidden)(const struct place *p);
};

/* Message passing: x before the grace period, y after it. */
static void mp_wait(struct place *p)
{
    store(&p->x);
    synchronize_rcu();
    store(&p->y);
}

/* The section loads them in the order in which a section on both sides would miss x and see y. */
static void mp_section(struct place *p)
{
    p->reader_saw[0] = load(&p->x);
    p->reader_saw[1] = load(&p->y);
}

static bool mp_forbidden(const struct place *p)
{
    return p->reader_saw[0] == 0 && p->reader_saw[1] == 1;
}

/* Store buffering. */
static void sb_wait(struct place *p)
{
    store(&p->x);
    synchronize_rcu();
    p->waiter_saw = load(&p->y);
}

static void sb_section(struct place *p)
{
    store(&p->y);
    p->reader_saw[0] = load(&p->x);
}

static bool sb_forbidden(const struct place *p)
{
    return p->waiter_saw == 0 && p->reader_saw[0] == 0;
}

/* Load buffering. */
static void lb_wait(struct place *p)
{
    p->waiter_saw = load(&p->x);
    synchronize_rcu();
    store(&p->y);
}

static void lb_section(struct place *p)
{
    p->reader_saw[0] = load(&p->y);
    store(&p->x);
}

static bool lb_forbidden(const struct place *p)
{
    return p->waiter_saw == 1 && p->reader_saw[0] == 1;
}

static void spin(unsigned long turns)
{
    while (turns--)
        __asm__ volatile("" ::: "memory");
}

/* Both are at round `round` or the test is over. */
static bool meet(atomic_ulong *mine, atomic_ulong *other, unsigned long round)
{
    atomic_store(mine, round);
    while (atomic_load(other) < round)
        if (stop)
            return false;
    return true;
}

static void *reader(void *argument)
{
    const struct pattern *pattern = argument;

    pin(1);
    rcu_register_thread();
    for (unsigned long round = 1; round < PLACES; round++) {
        if (!meet(&reader_at, &waiter_at, round))
            break;
        spin(round * 7 % 512);
        rcu_read_lock_notrace();
        pattern->section(&places[round]);
        rcu_read_unlock_notrace();
    }
    /* The waiter need not wait for rounds that do not come. */
    reader_at = PLACES;
    return NULL;
}

static void run(struct pattern pattern)
{
    unsigned long rounds = 0, forbidden = 0, checked = 0;
    uint64_t end = now_ns() + (uint64_t)MILLISECONDS * 1000000;

    if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
        skip("one processor");
    pin(0);
    places = aligned_alloc(128, PLACES * sizeof(*places));
    CHECK(places);
    /* Where others keep both processors busy, two threads that meet take their time. */
    while (now_ns() < end || checked < LEAST) {
        pthread_t thread;
        unsigned long round;

        memset(places, 0, PLACES * sizeof(*places));
        stop = false;
        waiter_at = reader_at = 0;
        thread = start(reader, &pattern);
        for (round = 1; round < PLACES && (now_ns() < end || checked + round <= LEAST); round++) {
            meet(&waiter_at, &reader_at, round);
            spin(round * 13 % 512);
            pattern.wait(&places[round]);
        }
        stop = true;
        pthread_join(thread, NULL);
        for (unsigned long i = 1; i < round; i++, checked++)
            forbidden += pattern.forbidden(&places[i]);
        rounds += round;
    }
    printf("    rounds %lu, forbidden outcomes %lu\n", rounds, forbidden);
    print_stats();
    CHECK(forbidden == 0);
}

static void message_passing_across_a_grace_period(void)
{
    run((struct pattern){mp_wait, mp_section, mp_forbidden});
}

static void store_buffering_across_a_grace_period(void)
{
    run((struct pattern){sb_wait, sb_section, sb_forbidden});
}

static void load_buffering_across_a_grace_period(void)
{
    run((struct pattern){lb_wait, lb_section, lb_forbidden});
}

int main(int argc, char **argv)
{
    static const struct scenario list[] = {
        SCENARIO(message_passing_across_a_grace_period),
        SCENARIO(store_buffering_across_a_grace_period),
        SCENARIO(load_buffering_across_a_grace_period),
    };

    return RUN_SCENARIOS("litmus", list, argc, argv);
}
