/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Schedules that luck does not find: threads are stopped at named places of the library (stop!() in src/), until
 * others have come to places of theirs; or do there what a signal handler would do. Each shows what one safeguard is
 * for (c-tests/broken.table). Only libraries from which safeguards can be removed have such places. */
#include "test.h"

#include <dlfcn.h>

/* Longer than anything takes that is not held up; on a busy machine too. */
enum { SOON_MS = 3000, A_WHILE_MS = 60 };

/* A place at which a thread stops. Those of a plan come one after another; the last one has no place. */
struct stop {
    const char *place;
    /* What a signal handler does there. */
    void (*handler)(void);
    atomic_bool reached, go;
};

/* Read by what the read side calls, of which the compiler does not know. */
static __thread struct stop *volatile plan;
static atomic_uint stops;

static void at(const char *place)
{
    struct stop *here = plan;

    if (!here || !here->place || strcmp(place, here->place))
        return;
    plan = NULL;
    stops++;
    here->reached = true;
    if (here->handler)
        here->handler();
    else
        while (!here->go)
            sched_yield();
    plan = here + 1;
}

static void want_stops(void)
{
    void *set = dlsym(RTLD_DEFAULT, "rcu_notrace_set_stop_hook");

    if (!set)
        skip("a release stops nowhere");
    (*(void (**)(void (*)(const char *)))&set)(at);
}

/* True once it is so, false if that takes too long. */
#define SOON(condition) \
    __extension__({ \
        uint64_t begin_ = now_ns(); \
        bool is_so_; \
        while (!(is_so_ = (condition)) && now_ns() - begin_ < SOON_MS * 1000000ull) \
            sched_yield(); \
        is_so_; \
    })

/* A thread that waits for grace periods: as many as are wanted, the next one by this plan. */
static atomic_uint wanted, ended;
static _Atomic(struct stop *) waiters_plan;

static void *waits(void *unused)
{
    for (;;) {
        while (ended == wanted)
            sched_yield();
        plan = atomic_exchange(&waiters_plan, NULL);
        synchronize_rcu();
        plan = NULL;
        ended++;
    }
    return unused;
}

static void want_one(struct stop *stopping)
{
    waiters_plan = stopping;
    wanted++;
}

/* What has been wanted has ended; or does not end. */
static void expect_end(void)
{
    CHECK(SOON(ended == wanted));
}

static void expect_no_end(void)
{
    sleep_ms(A_WHILE_MS);
    CHECK(ended != wanted);
}

/* How often the reader has looked for orders. */
static atomic_ulong turns;

/* Grace periods one after another, until one comes to that place. None begins while the reader is still in the handler of
 * the one before: it would wait for a reader that is about to stop. */
static void wait_until(struct stop *reached, struct stop *by_waiter)
{
    for (int i = 0; i < 1000 && !reached->reached; i++) {
        unsigned long seen;

        want_one(by_waiter);
        while (ended != wanted && !reached->reached)
            sched_yield();
        seen = turns;
        CHECK(SOON(reached->reached || turns > seen + 1));
    }
    CHECK(reached->reached);
}

/* As functions, in which there are places too, where there are two words. */
extern void called_lock(void) __asm__("rcu_read_lock_notrace");
extern void called_unlock(void) __asm__("rcu_read_unlock_notrace");

/* A reader that does as it is told. */
static atomic_int order, obeyed;
enum { ENTER = 1, LEAVE, UNREGISTER, BLOCK, UNBLOCK };
/* Sections before the first order, registered or not. */
static atomic_int sections_before;
static atomic_bool registers;

static void *reads(void *stopping)
{
    sigset_t ipi;

    sigemptyset(&ipi);
    sigaddset(&ipi, SIGURG);
    if (registers)
        rcu_register_thread();
    for (int i = 0; i < sections_before; i++) {
        rcu_read_lock_notrace();
        rcu_read_unlock_notrace();
    }
    plan = stopping;
    for (;;) {
        int what = order;

        turns++;
        if (what == obeyed)
            continue;
        if (what == ENTER)
            called_lock();
        else if (what == LEAVE)
            called_unlock();
        else if (what == UNREGISTER)
            rcu_unregister_thread();
        else
            pthread_sigmask(what == BLOCK ? SIG_BLOCK : SIG_UNBLOCK, &ipi, NULL);
        obeyed = what;
    }
    return NULL;
}

static void start_reader(bool registered, int before, struct stop *stopping)
{
    registers = registered;
    sections_before = before;
    start(reads, stopping);
}

static void tell(int what)
{
    order = what;
    CHECK(SOON(obeyed == what));
}

static void section(void)
{
    rcu_read_lock_notrace();
    rcu_read_unlock_notrace();
}

static void want_signals(void)
{
    if (rcu_notrace_get_ipi_mode() != RCU_NOTRACE_IPI_SIGNAL)
        skip("IPIs are rare in this mode");
}

static void want_barriers(void)
{
    if (rcu_notrace_get_ipi_mode() == RCU_NOTRACE_IPI_SIGNAL)
        skip("readers are not looked at in this mode");
}

/* Where the rescue is removed, too: it would hide the loss, half a millisecond late. */
static void want_no_rescue(void)
{
    const char *removed = getenv("RCU_NOTRACE_BROKEN");

    if (!removed || !strstr(removed, "rescue"))
        skip("the rescue would hide it");
}

static void want_two_words(void)
{
#ifndef RCU_NOTRACE_PORTABLE
    skip("there is one word");
#endif
}

static void finish(void)
{
    printf("    stopped at %u places; grace periods %u\n", stops, ended);
}

/* The handler joins; its thread, which was about to, must leave it at that: it is in a section. */
static void a_handler_joins_before_the_thread_that_it_interrupted(void)
{
    struct stop reader[] = {{.place = "join", .handler = section}, {.place = "join-claimed"}, {.place = NULL}};

    want_stops();
    start(waits, NULL);
    start_reader(false, FIRST_SECTIONS, reader);
    order = ENTER;
    CHECK(SOON(reader[0].reached && (obeyed == ENTER || reader[1].reached)));
    want_one(NULL);
    expect_no_end();
    reader[1].go = true;
    CHECK(SOON(obeyed == ENTER));
    tell(LEAVE);
    expect_end();
    finish();
}

/* It is about to put itself on the list: it is counted. */
static void a_grace_period_while_a_reader_joins(void)
{
    struct stop reader[] = {{.place = "join-counted"}, {.place = NULL}};

    want_stops();
    start(waits, NULL);
    start_reader(false, FIRST_SECTIONS, reader);
    order = ENTER;
    CHECK(SOON(reader[0].reached));
    want_one(NULL);
    expect_no_end();
    reader[0].go = true;
    CHECK(SOON(obeyed == ENTER));
    tell(LEAVE);
    expect_end();
    finish();
}

/* It enters between the waiter's look at its word and the change of its mark. */
static void a_reader_comes_back_while_it_is_being_parked(void)
{
    struct stop waiter[] = {{.place = "park"}, {.place = NULL}};

    want_barriers();
    want_stops();
    start(waits, NULL);
    start_reader(true, 0, NULL);
    wait_until(waiter, waiter);
    tell(ENTER);
    waiter[0].go = true;
    /* One that begins within that section. */
    wanted++;
    expect_no_end();
    tell(LEAVE);
    expect_end();
    finish();
}

/* A handler's section between the flag and the mark, in the handler of the IPI. */
static void a_handler_under_one_that_parks_its_reader(void)
{
    struct stop reader[] = {{.place = "park-itself", .handler = section}, {.place = NULL}};

    want_signals();
    want_stops();
    start(waits, NULL);
    start_reader(true, 0, reader);
    wait_until(reader, NULL);
    expect_end();
    tell(ENTER);
    want_one(NULL);
    expect_no_end();
    tell(LEAVE);
    expect_end();
    finish();
}

/* The waiter saw it registered; then it parked itself, and is just joining when the IPI of that waiter flags it. */
static void a_reader_is_flagged_while_it_joins_again(void)
{
    struct stop reader[] = {{.place = "park-itself"}, {.place = "join-listed"}, {.place = NULL}};
    struct stop waiter[] = {{.place = "interrupt"}, {.place = NULL}};
    unsigned long long ipis;

    want_signals();
    want_no_rescue();
    want_stops();
    start(waits, NULL);
    start_reader(true, 0, reader);
    wait_until(reader, NULL);
    expect_end();
    want_one(waiter);
    CHECK(SOON(waiter[0].reached));
    order = ENTER;
    reader[0].go = true;
    CHECK(SOON(reader[1].reached));
    ipis = stats().ipis;
    waiter[0].go = true;
    CHECK(SOON(stats().ipis > ipis));
    sleep_ms(5);
    reader[1].go = true;
    CHECK(SOON(obeyed == ENTER));
    tell(LEAVE);
    expect_end();
    finish();
}

/* The section ends, and reports, between the waiter's looks at its request and at its word. */
static void a_section_ends_while_it_is_looked_at(void)
{
    struct stop waiter[] = {{.place = "look"}, {.place = NULL}};

    want_barriers();
    want_stops();
    start(waits, NULL);
    start_reader(true, 0, NULL);
    tell(ENTER);
    want_one(waiter);
    CHECK(SOON(waiter[0].reached));
    tell(LEAVE);
    CHECK(stats().reports_by_section == 1);
    waiter[0].go = true;
    expect_end();
    finish();
}

/*
 * An IPI that shall park its reader comes late, when the mode is another: a waiter has looked at the word and is about to
 * park the reader, when that parks itself, comes back and is registered again. So a registered reader is parked that is in a
 * section, and the waiter takes that back.
 */
static struct stop parking[] = {{.place = "park"}, {.place = "parked"}, {.place = NULL}};

static void be_parked_twice(struct stop *reader)
{
    want_signals();
    want_stops();
    start(waits, NULL);
    start_reader(true, 0, reader);
    tell(BLOCK);
    for (int i = 0; i < 20; i++) {
        want_one(NULL);
        expect_end();
    }
    CHECK(rcu_notrace_set_ipi_mode(RCU_NOTRACE_IPI_AUTO) == 0);
    want_one(parking);
    CHECK(SOON(parking[0].reached));
    tell(UNBLOCK);
    order = ENTER;
    CHECK(SOON(reader[0].reached));
}

/* It looks at its mark in that moment. Who keeps a count beside a word that is not flagged does not give it back. */
static void a_reader_that_is_back_is_parked_for_a_moment(void)
{
    struct stop reader[] = {{.place = "joined"}, {.place = NULL}};

    be_parked_twice(reader);
    parking[0].go = true;
    CHECK(SOON(parking[1].reached));
    reader[0].go = true;
    CHECK(SOON(obeyed == ENTER));
    tell(LEAVE);
    parking[1].go = true;
    expect_end();
    want_one(NULL);
    expect_end();
    finish();
}

static void section_that_is_parked(void)
{
    section();
    parking[0].go = true;
    CHECK(SOON(parking[1].reached));
}

/* A handler joined, and gave the count back; then comes that moment, in which its thread joins. */
static void a_thread_joins_when_its_handler_is_parked_for_a_moment(void)
{
    struct stop reader[] = {{.place = "join-begins", .handler = section_that_is_parked}, {.place = "join-claimed"}, {.place = NULL}};

    be_parked_twice(reader);
    CHECK(SOON(reader[1].reached));
    parking[1].go = true;
    expect_end();
    want_one(NULL);
    expect_no_end();
    reader[1].go = true;
    CHECK(SOON(obeyed == ENTER));
    tell(LEAVE);
    expect_end();
    finish();
}

static atomic_bool leaves;

static void *holds_a_first_section(void *unused)
{
    rcu_read_lock_notrace();
    obeyed = LEAVE;
    while (!leaves)
        sched_yield();
    rcu_read_unlock_notrace();
    return unused;
}

/* A first section that is counted on the side that was current when it began; which another grace period has turned
 * since. */
static void a_section_is_counted_on_the_side_that_was_turned_off(void)
{
    struct stop reader[] = {{.place = "transient-side"}, {.place = NULL}};

    want_stops();
    start(waits, NULL);
    start(holds_a_first_section, NULL);
    CHECK(SOON(obeyed == LEAVE));
    obeyed = 0;
    start_reader(false, 0, reader);
    order = ENTER;
    CHECK(SOON(reader[0].reached));
    want_one(NULL);
    CHECK(SOON(stats().transient_waits == 1));
    expect_no_end();
    leaves = true;
    expect_end();
    reader[0].go = true;
    CHECK(SOON(obeyed == ENTER));
    want_one(NULL);
    expect_no_end();
    tell(LEAVE);
    expect_end();
    finish();
}

/* Two words: it has seen that it is registered, and clears its flag and leaves between the waiter's two loads. */
static void a_section_comes_and_goes_while_its_words_are_read(void)
{
    struct stop reader[] = {{.place = "lock-marked"}, {.place = NULL}};
    struct stop waiter[] = {{.place = "park"}, {.place = "load"}, {.place = NULL}};

    want_two_words();
    want_barriers();
    want_stops();
    start(waits, NULL);
    start_reader(true, 0, reader);
    wait_until(waiter, waiter);
    order = ENTER;
    CHECK(SOON(reader[0].reached));
    waiter[0].go = true;
    CHECK(SOON(waiter[1].reached));
    reader[0].go = true;
    CHECK(SOON(obeyed == ENTER));
    tell(LEAVE);
    waiter[1].go = true;
    expect_end();
    tell(ENTER);
    want_one(NULL);
    expect_no_end();
    tell(LEAVE);
    expect_end();
    finish();
}

/* Two words: it is flagged when it is about to store that it is outside. */
static void a_section_is_flagged_while_it_ends(void)
{
    struct stop reader[] = {{.place = "unlock"}, {.place = NULL}};

    want_two_words();
    want_barriers();
    want_no_rescue();
    want_stops();
    start(waits, NULL);
    start_reader(true, 0, reader);
    tell(ENTER);
    order = LEAVE;
    CHECK(SOON(reader[0].reached));
    want_one(NULL);
    CHECK(SOON(stats().holdouts == 1));
    expect_no_end();
    reader[0].go = true;
    expect_end();
    finish();
}

static atomic_bool inside;

/* A section that a grace period asks to report; and another, that clears the flag. */
static void section_in_the_way(void)
{
    rcu_read_lock_notrace();
    inside = true;
    while (stats().holdouts == 0)
        sched_yield();
    sleep_ms(5);
    rcu_read_unlock_notrace();
    section();
    inside = false;
}

/* A section that grace periods must wait for. */
static void section_that_is_looked_for(void)
{
    rcu_read_lock_notrace();
    inside = true;
    want_one(NULL);
    expect_no_end();
    rcu_read_unlock_notrace();
}

/* The first has the thread report; the second begins when it is on no list any more. */
static void two_handlers_under_a_thread_that_unregisters(void)
{
    struct stop reader[] = {{.place = "leave-counted", .handler = section_in_the_way},
                            {.place = "leave-marked", .handler = section_that_is_looked_for}, {.place = NULL}};
    /* Past the count that the thread takes when it leaves. */
    struct stop waiter[] = {{.place = "start"}, {.place = NULL}};

    want_barriers();
    want_stops();
    start(waits, NULL);
    start_reader(true, 0, reader);
    want_one(waiter);
    CHECK(SOON(waiter[0].reached));
    order = UNREGISTER;
    CHECK(SOON(inside));
    waiter[0].go = true;
    CHECK(SOON(reader[1].reached));
    CHECK(SOON(obeyed == UNREGISTER));
    expect_end();
    finish();
}

/* The first could join: it is the section that ends its thread's probation. */
static void a_handler_under_a_thread_that_leaves_before_it_has_joined(void)
{
    struct stop reader[] = {{.place = "leave-counted", .handler = section},
                            {.place = "leave-marked", .handler = section_that_is_looked_for}, {.place = NULL}};

    want_stops();
    start(waits, NULL);
    start_reader(false, FIRST_SECTIONS - 1, reader);
    order = UNREGISTER;
    CHECK(SOON(reader[1].reached));
    CHECK(SOON(obeyed == UNREGISTER));
    expect_end();
    finish();
}

static _Atomic unsigned long long returns;

static void *comes_back_when_parked(void *unused)
{
    unsigned long long parks = 0;

    rcu_register_thread();
    obeyed = ENTER;
    for (;;) {
        unsigned long long now = stats().parks;

        if (now == parks)
            continue;
        section();
        parks = now;
        returns = now;
    }
    return unused;
}

/* In an IPI handler; and it is back before anybody has seen that it was away. */
static void a_reader_that_parks_itself_is_listed_once(void)
{
    enum { GRACE_PERIODS = 500, THEN = 50 };
    unsigned long long ipis;

    want_signals();
    start(comes_back_when_parked, NULL);
    CHECK(SOON(obeyed == ENTER));
    for (int i = 0; i < GRACE_PERIODS; i++) {
        synchronize_rcu();
        CHECK(SOON(returns == stats().parks));
    }
    ipis = stats().ipis;
    for (int i = 0; i < THEN; i++) {
        synchronize_rcu();
        CHECK(SOON(returns == stats().parks));
    }
    ipis = stats().ipis - ipis;
    printf("    parked %llu times; IPIs %llu in %d grace periods\n", returns, ipis, THEN);
    CHECK(returns >= GRACE_PERIODS / 50);
    CHECK(ipis <= 2 * THEN);
}

/* ---- no place for a moment ------------------------------------------------------------------------------ */

enum { PLACES = 4096, TAKEN = 3 };

static atomic_uint fillers;
static atomic_bool takes, has_given_back;

static void *fills_a_place(void *unused)
{
    rcu_register_thread();
    fillers++;
    for (;;)
        pause();
    return unused;
}

static void fill_places(int count)
{
    pthread_attr_t attributes;
    pthread_t thread;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 32768);
    for (int i = 0; i < count; i++)
        if (pthread_create(&thread, &attributes, fills_a_place, NULL))
            skip("no %d threads here", count);
    while ((int)fillers < count)
        sleep_ms(1);
}

/* A thread and handlers above it are about to join, each with a place of its own. */
static struct stop last_taker[] = {{.place = "join-claimed"}, {.place = NULL}};
static struct stop second_taker[2], first_taker[2];

static void section_by(struct stop *stopping)
{
    plan = stopping;
    section();
    plan = NULL;
}

static void take_the_last(void)
{
    section_by(last_taker);
}

static void take_the_second(void)
{
    second_taker[0] = (struct stop){.place = "join", .handler = take_the_last};
    section_by(second_taker);
}

static void *takes_places(void *unused)
{
    for (int i = 0; i < FIRST_SECTIONS; i++)
        section();
    while (!takes)
        sched_yield();
    first_taker[0] = (struct stop){.place = "join", .handler = take_the_second};
    section_by(first_taker);
    has_given_back = true;
    for (;;)
        pause();
    return unused;
}

static struct stop parker[] = {{.place = "park"}, {.place = "parked"}, {.place = NULL}};

static void join_and_be_parked(void)
{
    section();
    parker[0].go = true;
    while (!parker[1].reached)
        sched_yield();
}

/* A reader that parked itself has a section, counted for want of a place. In it, it is about to join; a handler is faster, and
 * gives the count back; and a waiter parks it for a moment, which looked before the section. That is another
 * parking than the one that the reader has seen. */
static void a_section_for_which_there_was_no_place_is_parked_for_a_moment(void)
{
    struct stop reader[] = {{.place = "join", .handler = join_and_be_parked}, {.place = "join-claimed"}, {.place = NULL}};

    want_barriers();
    want_stops();
    CHECK(rcu_notrace_set_ipi_mode(RCU_NOTRACE_IPI_SIGNAL) == 0);
    start_reader(true, 0, reader);
    tell(BLOCK);
    start(takes_places, NULL);
    start(waits, NULL);
    /* Until an IPI may park it. */
    for (int i = 0; i < 12; i++)
        synchronize_rcu();
    CHECK(rcu_notrace_set_ipi_mode(RCU_NOTRACE_IPI_AUTO) == 0);
    fill_places(PLACES - 1 - TAKEN);
    tell(UNBLOCK);
    want_one(parker);
    CHECK(SOON(parker[0].reached));
    takes = true;
    CHECK(SOON(last_taker[0].reached));
    tell(ENTER);
    last_taker[0].go = true;
    CHECK(SOON(has_given_back));
    /* Nested. */
    obeyed = 0;
    CHECK(SOON(reader[0].reached && parker[1].reached));
    CHECK(SOON(reader[1].reached || obeyed == ENTER));
    parker[1].go = true;
    /* This one may wait for the section too, the next one must. */
    want_one(NULL);
    expect_no_end();
    reader[1].go = true;
    CHECK(SOON(obeyed == ENTER));
    tell(LEAVE);
    obeyed = 0;
    expect_end();
    finish();
}

int main(int argc, char **argv)
{
    static const struct scenario list[] = {
        SCENARIO(a_handler_joins_before_the_thread_that_it_interrupted),
        SCENARIO(a_grace_period_while_a_reader_joins),
        SCENARIO(a_reader_comes_back_while_it_is_being_parked),
        SCENARIO(a_handler_under_one_that_parks_its_reader),
        SCENARIO(a_reader_is_flagged_while_it_joins_again),
        SCENARIO(a_section_ends_while_it_is_looked_at),
        SCENARIO(a_reader_that_is_back_is_parked_for_a_moment),
        SCENARIO(a_thread_joins_when_its_handler_is_parked_for_a_moment),
        SCENARIO(a_section_is_counted_on_the_side_that_was_turned_off),
        SCENARIO(a_section_comes_and_goes_while_its_words_are_read),
        SCENARIO(a_section_is_flagged_while_it_ends),
        SCENARIO(two_handlers_under_a_thread_that_unregisters),
        SCENARIO(a_handler_under_a_thread_that_leaves_before_it_has_joined),
        SCENARIO(a_reader_that_parks_itself_is_listed_once),
        SCENARIO(a_section_for_which_there_was_no_place_is_parked_for_a_moment),
    };

    return RUN_SCENARIOS("schedules", list, argc, argv);
}
