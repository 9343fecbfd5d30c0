/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Litmus tests of a grace period's memory ordering, as in the kernel's tools/memory-model: one
 * thread has a grace period between two accesses, the other a section around two. Each pattern has
 * four outcomes: the section before the grace period, after it, beside it, and one that would mean that it lay
 * on both sides. The other three must have come to pass, or the two never met.
 * By brute force: the two meet at each round, with a changing distance between them.
 */
#include "test.h"

enum { MILLISECONDS = 500, AT_MOST = 20000, LEAST = 100, PLACES = 1 << 16, OUTCOMES = 4 };

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

/* An outcome is what the two loads saw, as a number: 0 to 3. */
struct pattern {
    void (*wait)(struct place *p);
    void (*section)(struct place *p);
    int (*outcome)(const struct place *p);
    int forbidden;
    const char *names[OUTCOMES];
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

static int mp_outcome(const struct place *p)
{
    return 2 * p->reader_saw[0] + p->reader_saw[1];
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

static int sb_outcome(const struct place *p)
{
    return 2 * p->waiter_saw + p->reader_saw[0];
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

static int lb_outcome(const struct place *p)
{
    return 2 * p->waiter_saw + p->reader_saw[0];
}

static void spin(unsigned long turns)
{
    while (turns--)
        __asm__ volatile("" ::: "memory");
}

/* Both are at round `round` or the test is over: after the other's last round, which counts. */
static bool meet(atomic_ulong *mine, atomic_ulong *other, unsigned long round)
{
    atomic_store(mine, round);
    while (atomic_load(other) < round)
        if (stop)
            return atomic_load(other) >= round;
    return true;
}

/* Stores that take long, because the other thread stores there too: the store of a lock that comes after them
 * is late to be seen. That is what a grace period's barrier is for. */
static struct {
    _Alignas(128) atomic_int word;
} contended[8];

static void fill_store_buffer(void)
{
    for (int i = 0; i < 8; i++)
        store(&contended[i].word);
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
        if (round % 2)
            fill_store_buffer();
        rcu_read_lock_notrace();
        pattern->section(&places[round]);
        rcu_read_unlock_notrace();
    }
    /* The waiter need not wait for rounds that do not come. */
    reader_at = PLACES;
    return NULL;
}

static unsigned long outcomes[OUTCOMES];

static bool all_were_seen(int but)
{
    for (int i = 0; i < OUTCOMES; i++)
        if (i != but && !outcomes[i])
            return false;
    return true;
}

static void run(struct pattern pattern)
{
    unsigned long checked = 0;
    uint64_t begin = now_ns(), end = begin + (uint64_t)MILLISECONDS * 1000000;

    if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
        skip("one processor");
    pin(0);
    places = aligned_alloc(128, PLACES * sizeof(*places));
    CHECK(places);
    /* Where others keep both processors busy, two threads that meet take their time. */
    while (now_ns() < end || checked < LEAST ||
           (!all_were_seen(pattern.forbidden) && now_ns() - begin < (uint64_t)AT_MOST * 1000000)) {
        pthread_t thread;
        unsigned long round;

        memset(places, 0, PLACES * sizeof(*places));
        stop = false;
        waiter_at = reader_at = 0;
        thread = start(reader, &pattern);
        for (round = 1; round < PLACES && (now_ns() < end || round <= LEAST); round++) {
            fill_store_buffer();
            meet(&waiter_at, &reader_at, round);
            spin(round * 13 % 512);
            pattern.wait(&places[round]);
        }
        stop = true;
        pthread_join(thread, NULL);
        for (unsigned long i = 1; i < round; i++, checked++)
            outcomes[pattern.outcome(&places[i])]++;
    }
    printf("    rounds %lu, the section", checked);
    for (int i = 0; i < OUTCOMES; i++)
        printf(" %s %lu%s", pattern.names[i], outcomes[i], i < OUTCOMES - 1 ? "," : "\n");
    print_stats();
    CHECK(outcomes[pattern.forbidden] == 0);
    CHECK(all_were_seen(pattern.forbidden));
}

static void message_passing_across_a_grace_period(void)
{
    run((struct pattern){mp_wait, mp_section, mp_outcome, 1, {"before", "on both sides", "beside", "after"}});
}

static void store_buffering_across_a_grace_period(void)
{
    run((struct pattern){sb_wait, sb_section, sb_outcome, 0, {"on both sides", "after", "before", "beside"}});
}

static void load_buffering_across_a_grace_period(void)
{
    run((struct pattern){lb_wait, lb_section, lb_outcome, 3, {"beside", "after", "before", "on both sides"}});
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
