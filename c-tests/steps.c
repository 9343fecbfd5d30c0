/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Every instruction. A thread goes through a piece of RCU with the processor's trap flag set, which
 * raises SIGTRAP after each instruction; in the handler, between that instruction and the next, somebody
 * else acts: another thread has a grace period, or a section; or the handler itself does. Then the thread
 * goes on. Once for each instruction that there is: so each place where a signal or a preemption may come
 * is tried, not waited for.
 *
 * What is checked each time: no grace period ends before a section that had the old object, none is late,
 * and at the end the thread is seen, and can be parked, as any other.
 */
#include "steps.h"

#if !defined(__x86_64__)
int main(void)
{
    printf("ok steps: single steps # SKIP\n    SKIP: no trap flag on this processor\n");
    return 0;
}
#else

enum { MOST_PLACES = 4000 };

/* How long a piece of code is gone through; half of that where seconds are short. */
static uint64_t patience_ns(void)
{
    return getenv("SCENARIO_SECONDS") ? 2000000000 : 1000000000;
}

/* The functions, where the pair is inlined otherwise. */
extern void called_lock(void) __asm__("rcu_read_lock_notrace");
extern void called_unlock(void) __asm__("rcu_read_unlock_notrace");

/* ---- pieces of code in steps ------------------------------------------------------------------------- */

/* Runs a piece of code with `act` between two of its instructions. False if it has fewer. */
static bool with(unsigned long at, void (*act)(void), void (*run)(void))
{
    step = 0;
    target = at;
    at_target = act;
    run();
    return step > target;
}

static void nothing(void)
{
}

/* How many places there are: it is gone through once with nothing happening. */
static unsigned long count_places(void (*run)(void))
{
    with(~0ul >> 1, nothing, run);
    return step;
}

/* ---- the object -------------------------------------------------------------------------------- */

enum { ALIVE = 0x600d600d, POISON = 0x5eadbeef, OBJECTS = 4096 };

static atomic_uint objects[OBJECTS];
static atomic_uint *shared = &objects[0];
static unsigned next_object = 1;

static unsigned long early, met;

/* Publishes a new one; the old one is poisoned by the caller, after a grace period. */
static atomic_uint *replace(void)
{
    atomic_uint *fresh = &objects[next_object++ % OBJECTS];

    *fresh = ALIVE;
    return rcu_xchg_pointer(&shared, fresh);
}

/* What a section has seen is still there. */
static void check_alive(const atomic_uint *seen)
{
    if (*seen == POISON)
        early++;
}

/* ---- a thread that does what it is told ---------------------------------------------------------- */

struct helper {
    pthread_t thread;
    bool exists;
    _Atomic(void (*)(void)) work;
    atomic_ulong asked, done;
};

static void *help(void *argument)
{
    struct helper *h = argument;
    unsigned long round = 0;

    for (;;) {
        while (h->asked == round)
            sched_yield();
        round++;
        h->work();
        h->done = round;
    }
    return NULL;
}

/* It exists from its first work on: one that has none would keep the others from their processors. */
static void tell(struct helper *h, void (*work)(void))
{
    if (!h->exists) {
        h->exists = true;
        h->thread = start(help, h);
    }
    h->work = work;
    h->asked++;
}

static bool is_done(struct helper *h)
{
    return h->done == h->asked;
}

/* Waits until it is done, for so long at most: it may have to wait for us. */
static bool give(struct helper *h, unsigned us)
{
    uint64_t end = now_ns() + us * 1000ull;

    while (!is_done(h)) {
        if (now_ns() > end)
            return false;
        sched_yield();
    }
    return true;
}

/* It must be done soon now: 10 s is for ever. */
static void must_end(struct helper *h, const char *what)
{
    if (!give(h, 10000000))
        fail("%s does not end (place %lu)", what, target);
}

static struct helper waiter, other;

static bool expedited;

static void wait_once(void)
{
    if (expedited)
        synchronize_rcu_expedited();
    else
        synchronize_rcu();
}

static void update(void)
{
    atomic_uint *old = replace();

    wait_once();
    *old = POISON;
}

static void update_often(void)
{
    for (int i = 0; i < 12; i++)
        update();
}

/* ---- the reader in steps ------------------------------------------------------------------------- */

enum { PATIENCE_US = 300 };

static void (*lock_it)(void), (*unlock_it)(void);

static void lock_inlined(void)
{
    rcu_read_lock_notrace();
}

static void unlock_inlined(void)
{
    rcu_read_unlock_notrace();
}

static void quick_section(void)
{
    rcu_read_lock_notrace();
    check_alive(rcu_dereference(shared));
    rcu_read_unlock_notrace();
}

static void one_grace_period(void)
{
    tell(&waiter, update);
    met += give(&waiter, PATIENCE_US);
}

static void many_grace_periods(void)
{
    tell(&waiter, update_often);
    met += give(&waiter, 4 * PATIENCE_US);
}

/* A section of the handler's, with a grace period in it. */
static void a_section_that_is_waited_for(void)
{
    atomic_uint *seen;

    quick_section();
    rcu_read_lock_notrace();
    seen = rcu_dereference(shared);
    if (is_done(&waiter))
        tell(&waiter, update);
    met += !give(&waiter, PATIENCE_US);
    check_alive(seen);
    rcu_read_unlock_notrace();
}

static void many_grace_periods_and_a_section(void)
{
    quick_section();
    many_grace_periods();
    quick_section();
}

/* What every thread can rely on: a section is waited for, and its end lets the waiter go. */
static void check_reader(void)
{
    atomic_uint *seen;

    must_end(&waiter, "a grace period");
    rcu_read_lock_notrace();
    seen = rcu_dereference(shared);
    tell(&waiter, update);
    if (give(&waiter, PATIENCE_US / 3))
        early++;
    check_alive(seen);
    rcu_read_unlock_notrace();
    must_end(&waiter, "a grace period after the section");
}

static void section_in_steps(void)
{
    atomic_uint *seen;

    STEPS_ON();
    lock_it();
    STEPS_OFF();
    seen = rcu_dereference(shared);
    if (is_done(&waiter))
        tell(&waiter, update);
    give(&waiter, PATIENCE_US);
    check_alive(seen);
    STEPS_ON();
    unlock_it();
    STEPS_OFF();
}

static void nested_sections(void)
{
    STEPS_ON();
    lock_it();
    lock_it();
    unlock_it();
    unlock_it();
    STEPS_OFF();
}

static void leaves(void)
{
    STEPS_ON();
    rcu_unregister_thread();
    STEPS_OFF();
}

static void registers(void)
{
    STEPS_ON();
    rcu_register_thread();
    STEPS_OFF();
}

/* The states in which a thread may be before. */
static void registered(void)
{
    rcu_register_thread();
    quick_section();
}

static void parked(void)
{
    registered();
    tell(&waiter, update_often);
    must_end(&waiter, "an idle thread's grace period");
}

/* The flag of an answered request is left: the next lock clears it. */
static void flagged(void)
{
    registered();
    rcu_read_lock_notrace();
    tell(&waiter, update);
    give(&waiter, PATIENCE_US);
    rcu_read_unlock_notrace();
    must_end(&waiter, "the flagged reader's grace period");
}

static void unregistered(void)
{
    rcu_register_thread();
    quick_section();
    rcu_unregister_thread();
}

struct reading {
    const char *name;
    void (*before)(void), (*run)(void), (*each)(void), (*act)(void);
};

static void report(const char *name, unsigned long rounds, unsigned long places,
                   const struct rcu_notrace_stats *before)
{
    struct rcu_notrace_stats after = stats();
    unsigned long long rescues = after.rescues - before->rescues;

    printf("    %s: %lu of %lu places, acted upon %lu, early %lu, rescues %llu, parks %llu\n", name, rounds, places,
           met, early, rescues, (unsigned long long)(after.parks - before->parks));
    fflush(stdout);
    CHECK(early == 0);
    CHECK(rounds >= 10 && met > 0);
    /* Who relies on nothing but flags need not rescue anybody. */
    if (rcu_notrace_get_ipi_mode() == RCU_NOTRACE_IPI_MEMBARRIER)
        CHECK(rescues == 0);
}

static void go_through(const struct reading *r)
{
    unsigned long round, places;
    struct rcu_notrace_stats before = stats();
    uint64_t end = now_ns() + patience_ns();

    early = met = 0;
    r->before();
    places = count_places(r->run);
    must_end(&waiter, "a grace period");
    CHECK(places < MOST_PLACES);
    /* Once more, and longer, where other processes have kept the waiter from its processor at all of a few places. */
    for (round = 0; (round < places || !met) && !early &&
                    (round < 10 || now_ns() < end + (met ? 0 : 5 * patience_ns()));
         round++) {
        r->before();
        must_end(&waiter, "a grace period");
        at_each = r->each;
        with(place_of(round % places, places), r->act, r->run);
        at_each = NULL;
        check_reader();
    }
    report(r->name, round < places ? round : places, places, &before);
}

static void go_through_all(const struct reading *list, size_t count)
{
    catch_traps(SA_NODEFER);
    for (int i = 0; i < OBJECTS; i++)
        objects[i] = ALIVE;
    for (size_t i = 0; i < count; i++)
        go_through(&list[i]);
}

#define GO_THROUGH(...) \
    do { \
        static const struct reading list[] = {__VA_ARGS__}; \
        go_through_all(list, sizeof(list) / sizeof(list[0])); \
    } while (0)

#define INLINED() lock_it = lock_inlined, unlock_it = unlock_inlined
#define CALLED() lock_it = called_lock, unlock_it = called_unlock

static void a_grace_period_at_each_step_of_a_section(void)
{
    INLINED();
    GO_THROUGH({"registered", registered, section_in_steps, NULL, one_grace_period},
               {"parked", parked, section_in_steps, NULL, one_grace_period},
               {"unregistered", unregistered, section_in_steps, NULL, one_grace_period});
}

static void a_hurried_one(void)
{
    expedited = true;
    a_grace_period_at_each_step_of_a_section();
}

static void and_of_a_section_by_functions(void)
{
    CALLED();
    GO_THROUGH({"registered", registered, section_in_steps, NULL, one_grace_period},
               {"parked", parked, section_in_steps, NULL, one_grace_period},
               {"often", registered, section_in_steps, NULL, many_grace_periods});
}

static void grace_periods_that_park_at_each_step(void)
{
    INLINED();
    GO_THROUGH({"registered", registered, section_in_steps, NULL, many_grace_periods},
               {"parked", parked, section_in_steps, NULL, many_grace_periods},
               {"unregistered", unregistered, section_in_steps, NULL, many_grace_periods});
}

static void a_grace_period_at_each_step_of_a_flagged_section(void)
{
    INLINED();
    GO_THROUGH({"flagged", flagged, section_in_steps, NULL, one_grace_period},
               {"flagged, often", flagged, section_in_steps, NULL, many_grace_periods});
}

/* Of a thread that has just begun: its sections are counted. */
static unsigned long first_place;
static void (*first_act)(void), (*first_run)(void);

static void *first_section_in_steps(void *count)
{
    INLINED();
    if (count)
        *(unsigned long *)count = count_places(first_run);
    else
        with(first_place, first_act, first_run);
    return NULL;
}

static void go_through_first_sections(void (*run)(void), void (*act)(void))
{
    unsigned long round, places;
    struct rcu_notrace_stats before = stats();
    uint64_t end = now_ns() + 2 * patience_ns();

    go_through_all(NULL, 0);
    first_run = run;
    first_act = act;
    pthread_join(start(first_section_in_steps, &places), NULL);
    must_end(&waiter, "a grace period");
    for (round = 0; round < places && !early && (round < 10 || now_ns() < end); round++) {
        first_place = place_of(round, places);
        pthread_join(start(first_section_in_steps, NULL), NULL);
        must_end(&waiter, "a grace period");
        /* What is counted still, though nobody is there, would be waited for. */
        tell(&waiter, update);
        must_end(&waiter, "the next grace period");
    }
    report("first", round, places, &before);
    /* Nobody's count was left behind. */
    CHECK(stats().died == 0);
}

static void a_grace_period_at_each_step_of_a_first_section(void)
{
    go_through_first_sections(section_in_steps, one_grace_period);
}

static void a_quick_section(void)
{
    quick_section();
    met++;
}

static void lock_in_steps(void)
{
    STEPS_ON();
    lock_it();
    STEPS_OFF();
    unlock_it();
}

static void unlock_in_steps(void)
{
    lock_it();
    STEPS_ON();
    unlock_it();
    STEPS_OFF();
}

static void a_handlers_section_at_each_step_of_a_first_section(void)
{
    go_through_first_sections(unlock_in_steps, a_quick_section);
    go_through_first_sections(lock_in_steps, a_quick_section);
}

static void a_handlers_section_at_each_step(void)
{
    INLINED();
    GO_THROUGH({"registered", registered, nested_sections, NULL, a_section_that_is_waited_for},
               {"parked", parked, nested_sections, NULL, a_section_that_is_waited_for},
               {"unregistered", unregistered, nested_sections, NULL, a_section_that_is_waited_for},
               {"leaving", registered, leaves, NULL, a_section_that_is_waited_for},
               {"registering", unregistered, registers, NULL, a_section_that_is_waited_for});
}

static void handlers_sections_at_all_steps(void)
{
    INLINED();
    GO_THROUGH({"parked", parked, nested_sections, quick_section, a_section_that_is_waited_for},
               {"unregistered", unregistered, nested_sections, quick_section, a_section_that_is_waited_for},
               {"leaving", registered, leaves, quick_section, a_section_that_is_waited_for});
}

static void a_handler_that_is_parked_in_between(void)
{
    INLINED();
    GO_THROUGH({"parked", parked, section_in_steps, NULL, many_grace_periods_and_a_section},
               {"unregistered", unregistered, section_in_steps, NULL, many_grace_periods_and_a_section},
               {"leaving", registered, leaves, NULL, many_grace_periods_and_a_section});
}

/* ---- the waiter in steps -------------------------------------------------------------------------- */

/* The reader is `other`; it says where it is, and goes on when it is told to, or after a while: the waiter
 * may wait for it. */
static atomic_bool may_go_on, has_begun, wait_has_ended;

static void begin_section(atomic_uint **seen)
{
    rcu_read_lock_notrace();
    *seen = rcu_dereference(shared);
}

static void end_section(atomic_uint *seen)
{
    check_alive(seen);
    rcu_read_unlock_notrace();
}

static void pause_until(atomic_bool *flag, unsigned us)
{
    uint64_t end = now_ns() + us * 1000ull;

    while (!*flag && now_ns() < end)
        sched_yield();
}

/* A section that begins in the middle of the grace period; whoever retires what it saw while it lasts has
 * not waited for it. */
static void begins_a_section(void)
{
    atomic_uint *seen;

    begin_section(&seen);
    has_begun = true;
    pause_until(&wait_has_ended, PATIENCE_US);
    end_section(seen);
}

static void let_a_section_begin(void)
{
    tell(&other, begins_a_section);
    /* Unless it waits for what we hold. */
    pause_until(&has_begun, PATIENCE_US);
    met += has_begun;
}

/* A section that ends in the middle of it. */
static void ends_a_section(void)
{
    atomic_uint *seen;

    begin_section(&seen);
    has_begun = true;
    pause_until(&may_go_on, 3000);
    end_section(seen);
}

/* The same, of a thread that has not joined the registry: counted. */
static void ends_a_counted_section(void)
{
    rcu_unregister_thread();
    ends_a_section();
}

static void let_the_section_end(void)
{
    met += !is_done(&other);
    may_go_on = true;
    give(&other, PATIENCE_US);
}

/* The last of a thread's first sections is counted, and had the old object before; in it, another one begins, which
 * puts the thread on the list: from one sight to the other, in the middle of the grace period. */
static atomic_bool has_joined;

static void *joins_in_a_section(void *unused)
{
    atomic_uint *seen;

    for (int i = 0; i < FIRST_SECTIONS - 1; i++)
        quick_section();
    begin_section(&seen);
    has_begun = true;
    pause_until(&may_go_on, 3000);
    /* Nested: it may join now. */
    quick_section();
    has_joined = true;
    pause_until(&wait_has_ended, PATIENCE_US);
    end_section(seen);
    return unused;
}

static void lives_and_joins(void)
{
    pthread_join(start(joins_in_a_section, NULL), NULL);
}

static void let_it_join(void)
{
    met += !has_joined;
    may_go_on = true;
    pause_until(&has_joined, 3 * PATIENCE_US);
}

struct waiting {
    const char *name;
    /* What the reader does first; and how often it is left alone then: it is parked after nine. */
    void (*before)(void);
    int idle;
    /* What it does when the grace period begins, and in its middle. */
    void (*begin)(void), (*act)(void);
    /* Another thread leads a grace period already, and waits for that reader. */
    bool is_led;
};

/* An object that was retired in the middle, and the cookie of that moment. */
static atomic_uint *retired;
static unsigned long cookie;

static void wait_in_steps(void)
{
    STEPS_ON();
    wait_once();
    STEPS_OFF();
}

static bool wait_at(unsigned long at, const struct waiting *w)
{
    atomic_uint *old;
    bool reached;

    tell(&other, w->before);
    must_end(&other, "the reader's preparation");
    for (int i = 0; i < w->idle; i++)
        synchronize_rcu();
    wait_has_ended = may_go_on = has_begun = has_joined = false;
    if (w->begin) {
        tell(&other, w->begin);
        pause_until(&has_begun, 1000000);
    }
    if (w->is_led) {
        tell(&waiter, wait_once);
        give(&waiter, PATIENCE_US);
    }
    old = replace();
    reached = with(at, w->act, wait_in_steps);
    *old = POISON;
    if (retired && poll_state_synchronize_rcu(cookie))
        *retired = POISON;
    retired = NULL;
    wait_has_ended = may_go_on = true;
    must_end(&other, "the reader");
    must_end(&waiter, "another caller");
    return reached;
}

static void go_through_waiting(const struct waiting *w)
{
    struct rcu_notrace_stats before = stats();
    uint64_t end = now_ns() + patience_ns();
    unsigned long round, places;

    early = met = 0;
    /* Where it spins there is no end of them. */
    wait_at(MOST_PLACES, w);
    places = step < MOST_PLACES ? step : MOST_PLACES;
    for (round = 0; round < places && !early && (round < 10 || now_ns() < end); round++)
        wait_at(place_of(round, places), w);
    report(w->name, round, places, &before);
}

static void go_through_waitings(const struct waiting *list, size_t count)
{
    catch_traps(SA_NODEFER);
    for (int i = 0; i < OBJECTS; i++)
        objects[i] = ALIVE;
    for (size_t i = 0; i < count; i++)
        go_through_waiting(&list[i]);
}

static void a_section_at_each_step_of_a_grace_period(void)
{
    static const struct waiting list[] = {
        {"registered", registered, 1, NULL, let_a_section_begin, false},
        {"about to be parked", registered, 8, NULL, let_a_section_begin, false},
        {"parked", registered, 12, NULL, let_a_section_begin, false},
        {"unregistered", unregistered, 0, NULL, let_a_section_begin, false},
    };

    go_through_waitings(list, sizeof(list) / sizeof(list[0]));
}

static void the_end_of_a_section_at_each_step_of_a_grace_period(void)
{
    static const struct waiting list[] = {
        {"registered", registered, 0, ends_a_section, let_the_section_end, false},
        {"about to be parked", registered, 8, ends_a_section, let_the_section_end, false},
        {"joining", registered, 0, ends_a_counted_section, let_the_section_end, false},
    };

    go_through_waitings(list, sizeof(list) / sizeof(list[0]));
}

static void a_thread_that_joins_at_each_step_of_a_grace_period(void)
{
    static const struct waiting list[] = {
        {"joining", nothing, 0, lives_and_joins, let_it_join, false},
    };

    go_through_waitings(list, 1);
}

static void let_another_caller_come(void)
{
    tell(&waiter, wait_once);
    met += !give(&waiter, PATIENCE_US);
}

static void another_caller_at_each_step_of_a_grace_period(void)
{
    static const struct waiting list[] = {
        {"another caller", registered, 1, NULL, let_another_caller_come, false},
    };

    go_through_waitings(list, 1);
}

static void let_the_leader_end(void)
{
    met += !is_done(&waiter);
    may_go_on = true;
    give(&waiter, 3 * PATIENCE_US);
}

static void the_leaders_end_at_each_step_of_another_caller(void)
{
    static const struct waiting list[] = {
        {"another leads", registered, 0, ends_a_section, let_the_leader_end, true},
    };

    go_through_waitings(list, 1);
}

static void *first_section(void *unused)
{
    begins_a_section();
    return unused;
}

static void begins_a_first_section(void)
{
    pthread_join(start(first_section, NULL), NULL);
}

/* A section that is older than a cookie. */
static void let_a_cookie_be_taken(void)
{
    tell(&other, begins_a_first_section);
    pause_until(&has_begun, 3 * PATIENCE_US);
    if (has_begun) {
        met++;
        retired = replace();
        cookie = get_state_synchronize_rcu();
    }
}

static void a_cookie_at_each_step_of_a_grace_period(void)
{
    static const struct waiting list[] = {
        {"a cookie", registered, 0, NULL, let_a_cookie_be_taken, false},
    };

    go_through_waitings(list, 1);
}

/* ---- callbacks -------------------------------------------------------------------------------------- */

static struct rcu_head head;
static atomic_ulong called;

static void count_call(struct rcu_head *unused)
{
    (void)unused;
    called++;
}

static void queues(void)
{
    STEPS_ON();
    call_rcu(&head, count_call);
    STEPS_OFF();
}

/* The worker naps ten times before it sleeps. */
static void let_the_worker_sleep(void)
{
    met++;
    sleep_ms(30);
}

static void a_worker_goes_to_sleep_at_each_step_of_call_rcu(void)
{
    unsigned long round, count;
    struct rcu_notrace_stats before = stats();
    uint64_t end = now_ns() + 2 * patience_ns();

    catch_traps(SA_NODEFER);
    CHECK(rcu_notrace_start_worker() == 0);
    count = count_places(queues);
    for (round = 0; round < count && (round < 10 || now_ns() < end); round++) {
        rcu_barrier();
        CHECK(called == round + 1);
        with(place_of(round, count), let_the_worker_sleep, queues);
        for (int i = 0; i < 5000 && called < round + 2; i++)
            sleep_ms(1);
        if (called < round + 2)
            fail("nobody woke the worker (place %lu)", target);
    }
    report("call_rcu", round, count, &before);
}

/* How the worker goes to sleep takes some naps: callbacks come at all moments of it. */
static void a_callback_at_any_moment_of_the_workers_way_to_sleep(void)
{
    unsigned long slept = 0, rounds = 0;
    uint64_t end = now_ns() + 2 * patience_ns();

    CHECK(rcu_notrace_start_worker() == 0);
    while (rounds < 20 || now_ns() < end) {
        /* From the last round's end on; ten naps are 10 ms and a little. */
        usleep((useconds_t)(rounds * 1777 % 25000));
        call_rcu(&head, count_call);
        rounds++;
        for (int i = 0; i < 5000 && called < rounds; i++)
            sleep_ms(1);
        if (called < rounds)
            fail("nobody woke the worker (callback %lu)", rounds);
        slept++;
    }
    printf("    callbacks %lu\n", slept);
}

/* Handlers of a thread that queues a callback queue theirs, at each instruction. */
static struct rcu_head heads[2 * MOST_PLACES];
static unsigned long heads_used;

static void handler_queues(void)
{
    CHECK(heads_used < sizeof(heads) / sizeof(heads[0]));
    call_rcu(&heads[heads_used++], count_call);
}

static void queue_and_let_the_worker_run(void)
{
    handler_queues();
    met++;
    tell(&waiter, rcu_barrier);
    give(&waiter, PATIENCE_US);
}

/* A thread that loses all its attempts to others cuts the chain for a moment: what is behind the cut is not lost. */
static void handlers_callbacks_at_all_steps_of_call_rcu(void)
{
    unsigned long round, count, expected = 0;
    struct rcu_notrace_stats before = stats();
    uint64_t end = now_ns() + 2 * patience_ns();

    catch_traps(SA_NODEFER);
    CHECK(rcu_notrace_start_worker() == 0);
    at_each = handler_queues;
    count = count_places(queues);
    for (round = 0;; round++) {
        expected += heads_used + 1;
        for (int i = 0; i < 5000 && called < expected; i++)
            usleep(100);
        if (called != expected)
            fail("%lu callbacks queued, %lu called (place %lu)", expected, called, target);
        must_end(&waiter, "rcu_barrier()");
        if (round == count || (round >= 10 && now_ns() > end))
            break;
        heads_used = 0;
        with(place_of(round, count), queue_and_let_the_worker_run, queues);
    }
    at_each = NULL;
    report("call_rcu", round, count, &before);
}

/* What one thread queues is called in that order, what its handlers queue included. */
static struct rcu_head in_a_handler, after_it;
static atomic_ulong call_of_the_handlers, call_after_it;

static void note_handlers(struct rcu_head *unused)
{
    (void)unused;
    call_of_the_handlers = ++called;
}

static void note_after_it(struct rcu_head *unused)
{
    (void)unused;
    call_after_it = ++called;
}

static void handler_queues_one(void)
{
    met++;
    call_rcu(&in_a_handler, note_handlers);
}

static void *queues_its_first(void *count)
{
    if (count) {
        *(unsigned long *)count = count_places(queues);
        return NULL;
    }
    if (with(first_place, handler_queues_one, queues))
        call_rcu(&after_it, note_after_it);
    return NULL;
}

static void a_handlers_callback_at_each_step_of_a_first_call_rcu(void)
{
    unsigned long round, places;
    struct rcu_notrace_stats before = stats();
    uint64_t end = now_ns() + 2 * patience_ns();

    catch_traps(SA_NODEFER);
    CHECK(rcu_notrace_start_worker() == 0);
    pthread_join(start(queues_its_first, &places), NULL);
    rcu_barrier();
    for (round = 0; round < places && (round < 10 || now_ns() < end); round++) {
        called = call_of_the_handlers = call_after_it = 0;
        first_place = place_of(round, places);
        pthread_join(start(queues_its_first, NULL), NULL);
        rcu_barrier();
        CHECK(called > 0);
        if (call_of_the_handlers > call_after_it)
            fail("the handler's callback was called after a later one of its thread (place %lu)", first_place);
    }
    report("first call_rcu", round, places, &before);
}

struct retiring {
    struct rcu_head head;
    atomic_uint *object;
};

static void poison(struct rcu_head *queued)
{
    struct retiring *r = (struct retiring *)queued;

    *r->object = POISON;
    free(r);
    called++;
}

static atomic_bool over;

static void read_on(void)
{
    while (!over) {
        atomic_uint *seen;

        begin_section(&seen);
        pause_until(&over, 20);
        end_section(seen);
        met++;
    }
}

static void wait_on(void)
{
    while (!over)
        synchronize_rcu();
}

/* Grace periods of others end between a callback's queueing and the worker's own: none of them is its. */
static void callbacks_beside_grace_periods(void)
{
    unsigned long queued = 0;
    uint64_t end = now_ns() + patience_ns();

    for (int i = 0; i < OBJECTS; i++)
        objects[i] = ALIVE;
    CHECK(rcu_notrace_start_worker() == 0);
    tell(&other, read_on);
    tell(&waiter, wait_on);
    while (now_ns() < end || queued < 20) {
        struct retiring *r = malloc(sizeof(*r));

        CHECK(r);
        /* An object comes round again when its callback has long run. */
        while (queued - called > OBJECTS / 2)
            sched_yield();
        r->object = replace();
        call_rcu(&r->head, poison);
        queued++;
        usleep(20);
    }
    over = true;
    must_end(&other, "the reader");
    must_end(&waiter, "the waiter");
    rcu_barrier();
    printf("    callbacks %lu, called %lu, sections %lu, grace periods %llu, early %lu\n", queued, called, met,
           (unsigned long long)stats().grace_periods, early);
    CHECK(called == queued && met > 10 && early == 0);
}

/* ---- signals ---------------------------------------------------------------------------------------- */

static atomic_ulong ours, strays;

static void count_signals(int is_ipi, void *info, void *context)
{
    (void)info;
    (void)context;
    *(is_ipi ? &ours : &strays) += 1;
}

static void *spins_registered(void *unused)
{
    rcu_register_thread();
    has_begun = true;
    while (!wait_has_ended)
        ;
    return unused;
}

/* Nobody else sends that signal: each is known for an IPI when it comes, a thread's first one too. */
static void each_threads_first_ipi_is_known_for_one(void)
{
    enum { THREADS = 300 };

    if (rcu_notrace_get_ipi_mode() != RCU_NOTRACE_IPI_SIGNAL)
        skip("IPIs are rare in this mode");
    CHECK(rcu_notrace_set_signal_hook(count_signals) > 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_t thread;

        has_begun = wait_has_ended = false;
        thread = start(spins_registered, NULL);
        while (!has_begun)
            ;
        synchronize_rcu();
        wait_has_ended = true;
        pthread_join(thread, NULL);
    }
    printf("    signals %lu, strays %lu\n", ours + strays, strays);
    /* One that comes late may find that it was taken back, and another sent. */
    CHECK(ours > THREADS / 2 && strays <= THREADS / 10);
}

int main(int argc, char **argv)
{
    static const struct scenario list[] = {
        SCENARIO(a_grace_period_at_each_step_of_a_section),
        SCENARIO(a_hurried_one),
        SCENARIO(and_of_a_section_by_functions),
        SCENARIO(grace_periods_that_park_at_each_step),
        SCENARIO(a_grace_period_at_each_step_of_a_flagged_section),
        SCENARIO(a_grace_period_at_each_step_of_a_first_section),
        SCENARIO(a_handlers_section_at_each_step),
        SCENARIO(handlers_sections_at_all_steps),
        SCENARIO(a_handlers_section_at_each_step_of_a_first_section),
        SCENARIO(a_handler_that_is_parked_in_between),
        SCENARIO(a_section_at_each_step_of_a_grace_period),
        SCENARIO(the_end_of_a_section_at_each_step_of_a_grace_period),
        SCENARIO(a_thread_that_joins_at_each_step_of_a_grace_period),
        SCENARIO(another_caller_at_each_step_of_a_grace_period),
        SCENARIO(the_leaders_end_at_each_step_of_another_caller),
        SCENARIO(a_cookie_at_each_step_of_a_grace_period),
        SCENARIO(a_worker_goes_to_sleep_at_each_step_of_call_rcu),
        SCENARIO(a_callback_at_any_moment_of_the_workers_way_to_sleep),
        SCENARIO(handlers_callbacks_at_all_steps_of_call_rcu),
        SCENARIO(a_handlers_callback_at_each_step_of_a_first_call_rcu),
        SCENARIO(callbacks_beside_grace_periods),
        SCENARIO(each_threads_first_ipi_is_known_for_one),
    };

    return RUN_SCENARIOS("steps", list, argc, argv);
}
#endif
