/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Sections: where they may begin, what they nest in, and that grace periods see them all. */
#include "test.h"

/* ---- a waiter beside the test ---------------------------------------------------------------- */

static atomic_bool waiting, waited;

static void *wait_for_grace_period(void *unused)
{
    (void)unused;
    waiting = true;
    synchronize_rcu();
    waited = true;
    return NULL;
}

/* Starts a waiter, and makes sure that it does not return while the caller's section lasts. */
static pthread_t start_waiter_that_must_wait(void)
{
    pthread_t waiter;

    waiting = waited = false;
    waiter = start(wait_for_grace_period, NULL);
    while (!waiting)
        ;
    sleep_ms(30);
    if (waited)
        fail("the grace period did not wait for the section");
    return waiter;
}

/* Waits for it in a thread of its own accord: after the caller's section. */
static void join_waiter(pthread_t waiter)
{
    pthread_join(waiter, NULL);
    CHECK(waited);
}

/* ---- scenarios ------------------------------------------------------------------------------- */

static int early_held, early_after;

/* Runs before the constructors of all libraries. */
static void before_everything(int argc, char **argv, char **environment)
{
    (void)argc;
    (void)argv;
    (void)environment;
    rcu_read_lock_notrace();
    rcu_read_lock_notrace();
    early_held = rcu_read_lock_held();
    rcu_read_unlock_notrace();
    rcu_read_unlock_notrace();
    early_after = rcu_read_lock_held();
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit)(int, char **, char **) =
    before_everything;

static void a_section_before_any_constructor_ran(void)
{
    CHECK(early_held == 1);
    CHECK(early_after == 0);
}

static void sections_nest_and_are_held_until_the_outermost_ends(void)
{
    CHECK(!rcu_read_lock_held());
    for (int i = 0; i < 100000; i++) {
        rcu_read_lock_notrace();
        CHECK(rcu_read_lock_held());
    }
    for (int i = 0; i < 100000; i++) {
        CHECK(rcu_read_lock_held());
        rcu_read_unlock_notrace();
    }
    CHECK(!rcu_read_lock_held());
    synchronize_rcu();
}

static int leave_early(int how)
{
    guard(rcu_notrace)();
    CHECK(rcu_read_lock_held());
    if (how)
        return 1;
    scoped_guard (rcu_notrace)
        CHECK(rcu_read_lock_held());
    return 0;
}

static void guards_end_with_their_block_however_it_is_left(void)
{
    int rounds = 0;

    CHECK(leave_early(1) == 1 && !rcu_read_lock_held());
    CHECK(leave_early(0) == 0 && !rcu_read_lock_held());
    for (int i = 0; i < 3; i++) {
        scoped_guard (rcu_notrace) {
            rounds++;
            CHECK(rcu_read_lock_held());
            if (i == 1)
                break;
        }
        CHECK(!rcu_read_lock_held());
    }
    CHECK(rounds == 3);
}

static void pointers_are_loaded_published_exchanged_and_compared(void)
{
    static int one = 1, two = 2, three = 3;
    static int *shared;
    int **address = &shared;

    rcu_assign_pointer(shared, &one);
    CHECK(rcu_dereference(shared) == &one && rcu_access_pointer(shared) == &one);
    CHECK(rcu_xchg_pointer(&shared, &two) == &one);
    CHECK(rcu_cmpxchg_pointer(&shared, &one, &three) == &two);
    CHECK(rcu_cmpxchg_pointer(&shared, &two, &three) == &two);
    CHECK(rcu_notrace_dereference((void **)address) == &three);
    rcu_notrace_assign((void **)address, &one);
    CHECK(rcu_notrace_xchg((void **)address, &two) == &one);
    CHECK(rcu_notrace_cmpxchg((void **)address, &two, NULL) == &two);
    CHECK(shared == NULL);
}

static void a_thread_registers_and_unregisters_any_number_of_times(void)
{
    for (int i = 0; i < 1000; i++) {
        rcu_register_thread();
        rcu_register_thread();
        rcu_read_lock_notrace();
        rcu_read_unlock_notrace();
        rcu_unregister_thread();
        rcu_unregister_thread();
        if (i % 3 == 0) {
            rcu_read_lock_notrace();
            rcu_read_unlock_notrace();
        }
    }
    synchronize_rcu();
}

static void *hold_a_first_section(void *unused)
{
    pthread_t waiter;

    (void)unused;
    rcu_read_lock_notrace();
    waiter = start_waiter_that_must_wait();
    rcu_read_unlock_notrace();
    join_waiter(waiter);
    return NULL;
}

static void the_first_section_of_a_thread_holds_up_a_grace_period(void)
{
    pthread_join(start(hold_a_first_section, NULL), NULL);
    print_stats();
}

static pthread_t handler_waiter;

static void on_signal_hold(int signal)
{
    (void)signal;
    rcu_read_lock_notrace();
    handler_waiter = start_waiter_that_must_wait();
    rcu_read_unlock_notrace();
}

static void *first_section_in_a_handler(void *unused)
{
    (void)unused;
    raise(SIGUSR1);
    join_waiter(handler_waiter);
    return NULL;
}

static void the_first_section_of_a_thread_may_be_in_a_signal_handler(void)
{
    signal(SIGUSR1, on_signal_hold);
    pthread_join(start(first_section_in_a_handler, NULL), NULL);
}

static void *unregistered_again(void *unused)
{
    rcu_register_thread();
    rcu_unregister_thread();
    return hold_a_first_section(unused);
}

static void a_section_after_unregistering_registers_again(void)
{
    pthread_join(start(unregistered_again, NULL), NULL);
}

static pthread_key_t key;
static int rounds_run, late_sections;

/* Comes again in each round of destructors, of which glibc runs four; in the last one, long
 * after the library's own, it holds a section. */
static void destructor_of_each_round(void *value)
{
    rounds_run++;
    if (rounds_run < 4) {
        pthread_setspecific(key, value);
        rcu_read_lock_notrace();
        rcu_read_unlock_notrace();
        return;
    }
    rcu_read_lock_notrace();
    rcu_read_lock_notrace();
    handler_waiter = start_waiter_that_must_wait();
    rcu_read_unlock_notrace();
    sleep_ms(10);
    CHECK(!waited);
    late_sections++;
    rcu_read_unlock_notrace();
}

static void *thread_with_destructors(void *unused)
{
    rcu_read_lock_notrace();
    rcu_read_unlock_notrace();
    pthread_setspecific(key, &key);
    return unused;
}

static void a_section_in_the_last_round_of_destructors_holds_up_a_grace_period(void)
{
    struct rcu_notrace_stats before, after;

    pthread_key_create(&key, destructor_of_each_round);
    before = stats();
    pthread_join(start(thread_with_destructors, NULL), NULL);
    join_waiter(handler_waiter);
    after = stats();
    printf("    rounds %d, late sections %d, transient waits %llu\n", rounds_run, late_sections,
           (unsigned long long)(after.transient_waits - before.transient_waits));
    CHECK(rounds_run == 4 && late_sections == 1);
    CHECK(after.transient_waits > before.transient_waits);
}

static void *wait_until_one_is_parked(void *before)
{
    for (int i = 0; i < 100 && stats().parks == *(uint64_t *)before; i++)
        synchronize_rcu();
    return NULL;
}

static void *idle_until_parked(void *unused)
{
    uint64_t before = stats().parks;
    pthread_t waiter;

    (void)unused;
    rcu_register_thread();
    /* By another thread: nobody parks itself by waiting. */
    pthread_join(start(wait_until_one_is_parked, &before), NULL);
    CHECK(stats().parks > before);
    /* Parked now: the next section must be seen all the same. */
    rcu_read_lock_notrace();
    waiter = start_waiter_that_must_wait();
    rcu_read_unlock_notrace();
    join_waiter(waiter);
    return NULL;
}

static void *other_thread(void *done)
{
    /* It registers by itself: the first few sections are counted, and then it joins. */
    join_by_sections();
    while (!*(atomic_bool *)done)
        sleep_ms(1);
    rcu_read_lock_notrace();
    waiting = waited = false;
    handler_waiter = start_waiter_that_must_wait();
    rcu_read_unlock_notrace();
    join_waiter(handler_waiter);
    return NULL;
}

static void an_idle_thread_is_parked_and_its_next_section_is_seen(void)
{
    static atomic_bool done;
    pthread_t other = start(other_thread, &done);
    uint64_t before = stats().parks;

    for (int i = 0; i < 200 && stats().parks == before; i++) {
        synchronize_rcu();
        sleep_ms(1);
    }
    CHECK(stats().parks > before);
    done = true;
    pthread_join(other, NULL);
    if (rcu_notrace_get_ipi_mode() != RCU_NOTRACE_IPI_SIGNAL)
        pthread_join(start(idle_until_parked, NULL), NULL);
    print_stats();
}

static atomic_bool all_in, all_out;
static atomic_int in_count, flagged_count;

static bool is_flagged(void)
{
#ifdef RCU_NOTRACE_PORTABLE
    return !__atomic_load_n(&rcu_notrace_this_reader.settled, __ATOMIC_RELAXED);
#else
    return __atomic_load_n(&rcu_notrace_this_reader.state, __ATOMIC_RELAXED) >= 0;
#endif
}

static void *one_of_many(void *unused)
{
    rcu_register_thread();
    rcu_read_lock_notrace();
    CHECK(!is_flagged());
    in_count++;
    while (!is_flagged())
        sleep_ms(5);
    flagged_count++;
    while (!all_in)
        sleep_ms(5);
    rcu_read_unlock_notrace();
    while (!all_out)
        sleep_ms(20);
    return unused;
}

static void a_thousand_threads_in_sections_hold_up_a_grace_period(void)
{
    enum { MANY = 1000 };
    static pthread_t threads[MANY];
    pthread_attr_t attributes;
    pthread_t waiter;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 65536);
    for (int i = 0; i < MANY; i++)
        if (pthread_create(&threads[i], &attributes, one_of_many, NULL))
            skip("cannot create %d threads: %s", MANY, strerror(errno));
    while (in_count < MANY)
        sleep_ms(1);
    waiter = start_waiter_that_must_wait();
    while (flagged_count < MANY)
        sleep_ms(1);
    all_in = true;
    join_waiter(waiter);
    /* The waiter, if it looks just then, may find some outside before their own report. */
    CHECK(stats().holdouts >= MANY && stats().reports_by_section >= MANY - MANY / 100);
    for (int i = 0; i < 20; i++)
        synchronize_rcu();
    all_out = true;
    for (int i = 0; i < MANY; i++)
        pthread_join(threads[i], NULL);
    print_stats();
}

/* ---- first sections without a gap ---------------------------------------------------------------- */

static atomic_ulong links;
static atomic_bool chain_may_end;

/* Each begins in the one before, and goes on until the next has begun; so some section is always counted. */
static void *link_in_a_chain(void *unused)
{
    unsigned long mine;
    pthread_t next;

    rcu_read_lock_notrace();
    mine = ++links;
    if (!chain_may_end) {
        next = start(link_in_a_chain, NULL);
        while (links == mine)
            sched_yield();
        pthread_detach(next);
    }
    rcu_read_unlock_notrace();
    return unused;
}

static atomic_bool outlived;

static void *waits_beside_a_chain(void *unused)
{
    synchronize_rcu();
    outlived = true;
    return unused;
}

static void first_sections_that_follow_each_other_without_a_gap_hold_up_nothing(void)
{
    unsigned long begin;
    pthread_t waiter;
    uint64_t end;

    pthread_detach(start(link_in_a_chain, NULL));
    while (links < 10)
        sched_yield();
    begin = links;
    end = now_ns() + 3000000000ull;
    waiter = start(waits_beside_a_chain, NULL);
    /* A grace period needs the sections that were open, not those that came then. */
    while (!outlived && (links < begin + 2000 || now_ns() < end))
        sched_yield();
    printf("    the grace period was over after %lu sections\n", links - begin);
    CHECK(outlived);
    chain_may_end = true;
    pthread_join(waiter, NULL);
}

int main(int argc, char **argv)
{
    static const struct scenario list[] = {
        SCENARIO(a_section_before_any_constructor_ran),
        SCENARIO(sections_nest_and_are_held_until_the_outermost_ends),
        SCENARIO(guards_end_with_their_block_however_it_is_left),
        SCENARIO(pointers_are_loaded_published_exchanged_and_compared),
        SCENARIO(a_thread_registers_and_unregisters_any_number_of_times),
        SCENARIO(the_first_section_of_a_thread_holds_up_a_grace_period),
        SCENARIO(the_first_section_of_a_thread_may_be_in_a_signal_handler),
        SCENARIO(a_section_after_unregistering_registers_again),
        SCENARIO(a_section_in_the_last_round_of_destructors_holds_up_a_grace_period),
        SCENARIO(an_idle_thread_is_parked_and_its_next_section_is_seen),
        SCENARIO(a_thousand_threads_in_sections_hold_up_a_grace_period),
        SCENARIO(first_sections_that_follow_each_other_without_a_gap_hold_up_nothing),
    };

    return RUN_SCENARIOS("sections", list, argc, argv);
}
