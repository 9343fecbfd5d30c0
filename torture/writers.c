/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Those who update. A writer removes the current element, waits for a grace period in one of all the ways that
 * there are, and ages what it has removed so far; or it leaves the element to callbacks. A fake writer waits
 * in the same ways, with nothing to age, to bring grace periods together. An updater does it at full speed.
 */
#include "torture.h"

#include <sched.h>

/* Each as its own coverage counter; DID_CALL is not a wait. */
static unsigned random_way(const struct flavour *f)
{
    const bool second = f == &flavours[TRACE];

    for (;;) {
        const unsigned way = DID_SYNC + below(DID_BARRIER - DID_SYNC + 1);

        if (way >= DID_POLL && way <= DID_POLL_EXPEDITED_FULL && (second || !options.with[POLLING]))
            continue;
        if (way >= DID_COND && way < DID_POLL && second)
            continue;
        if (way == DID_CALL && !options.with[CALLBACKS])
            continue;
        if (way == DID_BARRIER && !(options.with[BARRIERS] && options.with[CALLBACKS] && one_in(4)))
            continue;
        return way;
    }
}

static void pause_before_cond(void)
{
    spin(below(2000));
    if (one_in(8))
        sched_yield();
}

static void poll_until(bool (*passed)(const void *), const void *cookie)
{
    for (unsigned n = 0; !passed(cookie); n++) {
        if (n % 64 == 63) {
            /* Not a beat: one that never passes is to be found. */
            sleep_us(100 + below(1000));
        } else {
            sched_yield();
        }
    }
}

static bool has_passed(const void *cookie)
{
    return poll_state_synchronize_rcu(*(const unsigned long *)cookie) != 0;
}

static bool has_passed_full(const void *cookie)
{
    struct rcu_gp_oldstate copy = *(const struct rcu_gp_oldstate *)cookie;

    return poll_state_synchronize_rcu_full(&copy) != 0;
}

static bool by_cookie(unsigned way)
{
    struct rcu_gp_oldstate full;
    unsigned long cookie;

    switch (way) {
    case DID_COND:
    case DID_COND_EXPEDITED:
        cookie = get_state_synchronize_rcu();
        pause_before_cond();
        if (way == DID_COND)
            cond_synchronize_rcu(cookie);
        else
            cond_synchronize_rcu_expedited(cookie);
        return has_passed(&cookie);
    case DID_COND_FULL:
    case DID_COND_EXPEDITED_FULL:
        get_state_synchronize_rcu_full(&full);
        pause_before_cond();
        if (way == DID_COND_FULL)
            cond_synchronize_rcu_full(&full);
        else
            cond_synchronize_rcu_expedited_full(&full);
        return has_passed_full(&full);
    case DID_POLL:
    case DID_POLL_EXPEDITED:
        cookie = way == DID_POLL ? start_poll_synchronize_rcu() : start_poll_synchronize_rcu_expedited();
        poll_until(has_passed, &cookie);
        return has_passed(&cookie);
    default:
        if (way == DID_POLL_FULL)
            start_poll_synchronize_rcu_full(&full);
        else
            start_poll_synchronize_rcu_expedited_full(&full);
        poll_until(has_passed_full, &full);
        return has_passed_full(&full);
    }
}

struct awaited {
    struct rcu_head head;
    struct flavour *f;
    atomic_bool called;
    struct awaited *next;
};

static void awaited_called(struct rcu_head *head)
{
    struct awaited *awaited = (struct awaited *)(void *)head;

    atomic_store(&awaited->called, true);
    awaited->f->called++;
}

/* One callback a thread, which outlives it: another thread may fork. */
static struct awaited *_Atomic all_awaited;

static void by_barrier(struct flavour *f)
{
    static __thread struct awaited *awaited;

    if (!awaited) {
        if (!(awaited = calloc(1, sizeof(*awaited))))
            abort();
        awaited->next = atomic_exchange(&all_awaited, awaited);
    }
    awaited->f = f;
    awaited->called = false;
    f->queued++;
    f->call(&awaited->head, awaited_called);
    f->barrier();
    if (!awaited->called)
        failure("%s: rcu_barrier returned before an earlier callback", f->name);
}

/* Returns after a grace period. */
static void wait_in_a_way(struct flavour *f, unsigned way)
{
    /* The first flavour may be waited for in a section of the second. */
    const bool inside = f == &flavours[NOTRACE] && way <= DID_COND_EXPEDITED_FULL && has(TRACE) && one_in(16);

    if (inside) {
        rcu_read_lock_trace();
        cover(WAITED_IN_TRACE_SECTION);
    }
    mine->waiting = 1;
    if (way == DID_SYNC)
        f->synchronize();
    else if (way == DID_SYNC_EXPEDITED)
        f->synchronize_expedited();
    else if (way == DID_BARRIER)
        by_barrier(f);
    else if (!by_cookie(way))
        failure("a cookie that was waited for has not passed");
    mine->waiting = 0;
    if (inside)
        rcu_read_unlock_trace();
}

static const char *phase_of(unsigned way)
{
    static const char *const phases[] = {
        "synchronize_rcu",     "synchronize_rcu_expedited",      "cond_synchronize_rcu",
        "cond_.._full",        "cond_.._expedited",              "cond_.._expedited_full",
        "start_poll and poll", "start_poll_full",                "start_poll_expedited",
        "start_poll_exp_full", "call_rcu",                       "call_rcu and rcu_barrier",
    };

    return phases[way - DID_SYNC];
}

/* ---- what a writer has removed -------------------------------------------------------------------------- */

enum { MOST_REMOVED = 2 * RCU_TORTURE_PIPE_LEN };

struct removed {
    struct element *elements[MOST_REMOVED];
    unsigned count;
};

/* One more, and a grace period has passed for all. */
static void age_all(struct flavour *f, struct removed *removed, struct element *old)
{
    unsigned kept = 0;

    if (old)
        removed->elements[removed->count++] = old;
    for (unsigned i = 0; i < removed->count; i++)
        if (!element_age(f, removed->elements[i]))
            removed->elements[kept++] = removed->elements[i];
    removed->count = kept;
}

static void drain(struct flavour *f, struct removed *removed)
{
    while (removed->count) {
        beat("draining the pipe");
        f->synchronize();
        age_all(f, removed, NULL);
    }
}

void *writer(void *argument)
{
    struct flavour *f = argument;
    struct removed removed = {.count = 0};
    struct timers timers;

    timers_start(&timers);
    while (!stopping()) {
        struct element *fresh = element_get(f), *old;
        const unsigned way = random_way(f);

        beat(phase_of(way));
        stutter_wait();
        if (!fresh) {
            f->synchronize();
            age_all(f, &removed, NULL);
            if (!removed.count)
                sleep_us(1000);
            continue;
        }
        old = element_replace(f, fresh);
        bump(&counts()->updates);
        if (way == DID_CALL) {
            element_call(f, old);
            /* Callbacks take their time: elements are to be left for others. */
            sleep_us(below(100));
        } else {
            wait_in_a_way(f, way);
            age_all(f, &removed, old);
        }
        cover(way);
        spin(below(1000));
        if (one_in(256))
            sleep_us(below(5000));
    }
    timers_stop(&timers);
    drain(f, &removed);
    return NULL;
}

/* Every eighth grace period is expedited. */
void *updater(void *argument)
{
    struct flavour *f = argument;
    struct removed removed = {.count = 0};

    for (unsigned n = 0; !stopping(); n++) {
        struct element *fresh = element_get(f), *old = NULL;

        if (n % 256 == 0) {
            beat("updating at full speed");
            stutter_wait();
        }
        fill_store_buffer();
        if (fresh) {
            old = element_replace(f, fresh);
            bump(&counts()->updates);
        }
        if (n % 8)
            f->synchronize();
        else
            f->synchronize_expedited();
        age_all(f, &removed, old);
    }
    drain(f, &removed);
    return NULL;
}

static void check_cookies(void)
{
    struct rcu_gp_oldstate full, copy;
    const unsigned long cookie = get_state_synchronize_rcu();

    get_completed_synchronize_rcu_full(&full);
    copy = full;
    if (!poll_state_synchronize_rcu(get_completed_synchronize_rcu()) || !poll_state_synchronize_rcu_full(&full) ||
        !same_state_synchronize_rcu_full(&full, &copy) || !same_state_synchronize_rcu(cookie, cookie))
        failure("a completed cookie has not passed, or one differs from itself");
    synchronize_rcu();
    if (!poll_state_synchronize_rcu(cookie))
        failure("a cookie has not passed after synchronize_rcu");
}

void *fakewriter(void *unused)
{
    struct timers timers;

    timers_start(&timers);
    while (!stopping()) {
        struct flavour *f = &flavours[options.type == 3 ? below(2) : options.type - 1];
        unsigned way;

        do
            way = random_way(f);
        while (way == DID_CALL);
        beat(phase_of(way));
        stutter_wait();
        if (has(NOTRACE) && one_in(16)) {
            check_cookies();
        } else {
            wait_in_a_way(f, way);
            cover(way);
        }
        sleep_us(below(2000));
    }
    timers_stop(&timers);
    return unused;
}
