/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Polled grace periods: cookies that the worker redeems by itself, in all their forms. */
#include "test.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool passes_soon(unsigned long cookie)
{
    for (int i = 0; i < 5000 && !poll_state_synchronize_rcu(cookie); i++)
        sleep_ms(1);
    return poll_state_synchronize_rcu(cookie);
}

static unsigned long start_full(void)
{
    struct rcu_gp_oldstate cookie;

    start_poll_synchronize_rcu_full(&cookie);
    return cookie.rgos_norm;
}

static unsigned long start_expedited_full(void)
{
    struct rcu_gp_oldstate cookie;

    start_poll_synchronize_rcu_expedited_full(&cookie);
    return cookie.rgos_norm;
}

static unsigned long (*const starters[])(void) = {
    start_poll_synchronize_rcu, start_poll_synchronize_rcu_expedited, start_full,
    start_expedited_full,
};

static atomic_bool inside, leave, left;

static void *hold(void *unused)
{
    rcu_read_lock_notrace();
    inside = true;
    while (!leave)
        sleep_ms(1);
    left = true;
    rcu_read_unlock_notrace();
    return unused;
}

static pthread_t enter(void)
{
    pthread_t holder;

    inside = leave = left = false;
    holder = start(hold, NULL);
    while (!inside)
        sleep_ms(1);
    return holder;
}

static void grace_periods_that_were_started_end_by_themselves(void)
{
    CHECK(rcu_notrace_start_worker() == 0);
    for (int i = 0; i < 40; i++) {
        /* Whether the worker naps or sleeps. */
        unsigned long cookie;

        if (i % 8 < 4)
            sleep_ms(i % 8 < 2 ? 3 : 30);
        cookie = starters[i % 4]();
        CHECK(passes_soon(cookie));
    }
    CHECK(stats().grace_periods >= 20);
}

static void and_not_before_the_sections_that_were_open(void)
{
    CHECK(rcu_notrace_start_worker() == 0);
    for (size_t i = 0; i < COUNT(starters); i++) {
        pthread_t holder = enter();
        unsigned long cookie = starters[i]();

        sleep_ms(30);
        CHECK(!poll_state_synchronize_rcu(cookie));
        leave = true;
        CHECK(passes_soon(cookie) && left);
        pthread_join(holder, NULL);
    }
}

static void without_a_worker_they_wait_for_one(void)
{
    unsigned long cookie = start_poll_synchronize_rcu();

    sleep_ms(30);
    CHECK(!poll_state_synchronize_rcu(cookie));
    CHECK(rcu_notrace_start_worker() == 0);
    CHECK(passes_soon(cookie));
    CHECK(stats().grace_periods == 1);
}

static atomic_ulong from_handler;

static void on_signal(int signal)
{
    (void)signal;
    from_handler = start_poll_synchronize_rcu();
}

static void a_handler_may_start_one_even_in_a_section(void)
{
    struct sigaction action = {.sa_handler = on_signal};

    sigaction(SIGUSR1, &action, NULL);
    CHECK(rcu_notrace_start_worker() == 0);
    for (int i = 0; i < 20; i++) {
        sleep_ms(i % 2 ? 20 : 0);
        rcu_read_lock_notrace();
        raise(SIGUSR1);
        if (i % 4 == 0)
            sleep_ms(5);
        CHECK(!poll_state_synchronize_rcu(from_handler));
        rcu_read_unlock_notrace();
        CHECK(passes_soon(from_handler));
    }
}

static void completed_cookies_have_always_passed(void)
{
    struct rcu_gp_oldstate full;

    get_completed_synchronize_rcu_full(&full);
    for (int i = 0; i < 700; i++) {
        CHECK(poll_state_synchronize_rcu(get_completed_synchronize_rcu()));
        CHECK(poll_state_synchronize_rcu_full(&full));
        cond_synchronize_rcu(get_completed_synchronize_rcu());
        cond_synchronize_rcu_expedited(get_completed_synchronize_rcu());
        cond_synchronize_rcu_full(&full);
        cond_synchronize_rcu_expedited_full(&full);
        CHECK(stats().grace_periods == (unsigned)i);
        CHECK(!same_state_synchronize_rcu(get_state_synchronize_rcu(),
                                          get_completed_synchronize_rcu()));
        synchronize_rcu();
    }
}

static void two_cookies_are_the_same_until_a_grace_period_passes(void)
{
    for (int i = 0; i < 700; i++) {
        unsigned long first = get_state_synchronize_rcu(), second = get_state_synchronize_rcu();
        struct rcu_gp_oldstate a, b;

        get_state_synchronize_rcu_full(&a);
        get_state_synchronize_rcu_full(&b);
        CHECK(same_state_synchronize_rcu(first, second));
        CHECK(same_state_synchronize_rcu_full(&a, &b) && a.rgos_norm == first);
        synchronize_rcu();
        get_state_synchronize_rcu_full(&b);
        CHECK(!same_state_synchronize_rcu(first, get_state_synchronize_rcu()));
        CHECK(!same_state_synchronize_rcu_full(&a, &b));
    }
}

/* Old ones stay passed and young ones are not, also where the count wraps. */
static void cookies_of_many_grace_periods_keep_their_order(void)
{
    enum { COOKIES = 1200 };
    static unsigned long cookies[COOKIES];
    unsigned wraps = 0;

    for (int i = 0; i < COOKIES; i++) {
        struct rcu_gp_oldstate full;
        uint64_t before = stats().grace_periods;

        cookies[i] = get_state_synchronize_rcu();
        full.rgos_norm = cookies[i];
        CHECK(!poll_state_synchronize_rcu_full(&full));
        if (i % 4 == 0)
            cond_synchronize_rcu_expedited(cookies[i]);
        else if (i % 4 == 1)
            cond_synchronize_rcu_full(&full);
        else if (i % 4 == 2)
            cond_synchronize_rcu_expedited_full(&full);
        else
            synchronize_rcu_expedited();
        CHECK(stats().grace_periods == before + 1);
        cond_synchronize_rcu_expedited(cookies[i]);
        CHECK(stats().grace_periods == before + 1);
        for (int j = i; j >= 0; j -= 1 + (i - j) / 4)
            CHECK(poll_state_synchronize_rcu(cookies[j]));
        wraps += i > 0 && cookies[i] < cookies[i - 1];
    }
    printf("    the sequence wrapped %u times\n", wraps);
    CHECK(wraps == 1);
}

/* ---- updaters that poll, and readers ------------------------------------------------------------- */

enum { ALIVE = 0x600d600d, POISON = 0x5eadbeef, OBJECTS = 64 };

struct object {
    atomic_uint a;
    unsigned long cookie;
};

static struct object objects[OBJECTS];
static struct object *shared_object;
static atomic_bool stop;
static atomic_ulong poisoned, sections, begun;

static void *read_often(void *unused)
{
    unsigned long count = 0;

    begun++;
    while (!stop) {
        struct object *seen;

        rcu_read_lock_notrace();
        seen = rcu_dereference(shared_object);
        for (int i = 0; i < 50; i++)
            if (seen->a != ALIVE)
                poisoned++;
        rcu_read_unlock_notrace();
        count++;
    }
    sections += count;
    return unused;
}

static void what_a_poll_lets_go_nobody_uses(void)
{
    unsigned long redeemed = 0;
    pthread_t readers[2];
    uint64_t end;

    CHECK(rcu_notrace_start_worker() == 0);
    for (int i = 0; i < OBJECTS; i++)
        objects[i].cookie = get_completed_synchronize_rcu();
    objects[0].a = ALIVE;
    shared_object = &objects[0];
    for (size_t i = 0; i < COUNT(readers); i++)
        readers[i] = start(read_often, NULL);
    while (begun < COUNT(readers))
        sleep_ms(1);
    end = now_ns() + 500000000;
    for (unsigned next = 1; now_ns() < end; next++) {
        struct object *fresh = &objects[next % OBJECTS], *old;

        if (fresh == shared_object)
            continue;
        if (!poll_state_synchronize_rcu(fresh->cookie)) {
            sched_yield();
            continue;
        }
        fresh->a = POISON;
        fresh->a = ALIVE;
        old = rcu_xchg_pointer(&shared_object, fresh);
        old->cookie = starters[next % 4]();
        redeemed++;
    }
    stop = true;
    for (size_t i = 0; i < COUNT(readers); i++)
        pthread_join(readers[i], NULL);
    printf("    %lu objects let go by polls beside %lu sections, poisoned %lu\n", redeemed, sections,
           poisoned);
    CHECK(poisoned == 0 && redeemed > 50 && sections > 100);
}

/* ---- fork ---------------------------------------------------------------------------------------- */

static void expect_success(pid_t child)
{
    int status;

    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != PASS)
        fail("a child ended with status %#x", (unsigned)status);
}

static void *redeem(void *cookie)
{
    cond_synchronize_rcu(*(unsigned long *)cookie);
    left = true;
    return NULL;
}

static void *wait_once(void *unused)
{
    synchronize_rcu();
    return unused;
}

/* Whether or not the parent was in the middle of a grace period. */
static void a_section_around_fork_holds_up_cookies_in_the_child(void)
{
    for (int i = 0; i < 40; i++) {
        unsigned long cookie, later;
        pthread_t waiter = pthread_self();
        pid_t child;

        rcu_read_lock_notrace();
        cookie = get_state_synchronize_rcu();
        if (i % 2) {
            waiter = start(wait_once, NULL);
            sleep_ms(5);
        }
        later = get_state_synchronize_rcu();
        child = i % 4 < 2 ? fork() : (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
        if (!child) {
            pthread_t second;

            alarm(10);
            rcu_register_thread();
            CHECK(!poll_state_synchronize_rcu(cookie) && !poll_state_synchronize_rcu(later));
            left = false;
            second = start(redeem, &cookie);
            sleep_ms(5);
            CHECK(!left);
            rcu_read_unlock_notrace();
            pthread_join(second, NULL);
            CHECK(poll_state_synchronize_rcu(cookie));
            cond_synchronize_rcu(later);
            CHECK(poll_state_synchronize_rcu(later));
            _exit(PASS);
        }
        rcu_read_unlock_notrace();
        if (i % 2)
            pthread_join(waiter, NULL);
        expect_success(child);
    }
}

static void one_that_was_asked_for_before_a_fork_passes_in_the_child_too(void)
{
    unsigned long cookie = start_poll_synchronize_rcu();
    pid_t child = fork();

    if (!child) {
        rcu_register_thread();
        CHECK(passes_soon(cookie));
        _exit(PASS);
    }
    expect_success(child);
}

static atomic_bool held, let_go;

static void *holds_a_section(void *unused)
{
    rcu_register_thread();
    rcu_read_lock_notrace();
    held = true;
    while (!let_go)
        sleep_ms(1);
    rcu_read_unlock_notrace();
    return unused;
}

/* The worker has taken it, and waits for a section that the child does not have. */
static void one_that_the_worker_was_at_when_another_thread_forked_passes_in_the_child_too(void)
{
    unsigned long long before = stats().holdouts;
    unsigned long cookie;
    pthread_t reader;
    pid_t child;

    CHECK(rcu_notrace_start_worker() == 0);
    reader = start(holds_a_section, NULL);
    while (!held)
        sleep_ms(1);
    cookie = start_poll_synchronize_rcu();
    while (stats().holdouts == before)
        sleep_ms(1);
    child = fork();
    if (!child) {
        CHECK(!poll_state_synchronize_rcu(cookie));
        rcu_register_thread();
        CHECK(passes_soon(cookie));
        _exit(PASS);
    }
    expect_success(child);
    let_go = true;
    pthread_join(reader, NULL);
    CHECK(passes_soon(cookie));
}

int main(int argc, char **argv)
{
    static const struct scenario list[] = {
        SCENARIO(grace_periods_that_were_started_end_by_themselves),
        SCENARIO(and_not_before_the_sections_that_were_open),
        SCENARIO(without_a_worker_they_wait_for_one),
        SCENARIO(a_handler_may_start_one_even_in_a_section),
        SCENARIO(completed_cookies_have_always_passed),
        SCENARIO(two_cookies_are_the_same_until_a_grace_period_passes),
        SCENARIO(cookies_of_many_grace_periods_keep_their_order),
        SCENARIO(what_a_poll_lets_go_nobody_uses),
        SCENARIO(a_section_around_fork_holds_up_cookies_in_the_child),
        SCENARIO(one_that_was_asked_for_before_a_fork_passes_in_the_child_too),
        SCENARIO(one_that_the_worker_was_at_when_another_thread_forked_passes_in_the_child_too),
    };

    return RUN_SCENARIOS("polled", list, argc, argv);
}
