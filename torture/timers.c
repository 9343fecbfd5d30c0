/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Sections in signal handlers. Each thread has two timers with a signal of its own each, so that one handler
 * interrupts the other; both come at random times, into sections, the library's slow paths and its waits.
 */
#include "torture.h"

#include <sched.h>
#include <signal.h>
#include <time.h>

enum { SHOTS = 1024 };

/* What handlers queue callbacks with: taken by an exchange, given back by the callback. */
static struct shot {
    struct rcu_head head;
    atomic_bool taken;
    unsigned flavour;
} shots[SHOTS];
static atomic_uint next_shot;

static int signals[2];

static void shot_called(struct rcu_head *head)
{
    struct shot *shot = (struct shot *)(void *)head;

    flavours[shot->flavour].called++;
    atomic_store(&shot->taken, false);
}

static void shoot(struct counts *c, unsigned flavour)
{
    struct shot *shot = &shots[atomic_fetch_add(&next_shot, 1) % SHOTS];

    if (atomic_exchange(&shot->taken, true))
        return;
    shot->flavour = flavour;
    flavours[flavour].queued++;
    flavours[flavour].call(&shot->head, shot_called);
    bump(&c->cover[HANDLER_CALLED_RCU]);
}

static void section(struct counts *c, unsigned flavour, uint64_t random)
{
    const bool batches = (random & 7) == 0;
    struct element *e;
    uint64_t before = 0;

    if (flavour == NOTRACE)
        rcu_read_lock_notrace();
    else
        rcu_read_lock_trace();
    if (batches)
        before = grace_periods_now(flavour);
    e = rcu_dereference(flavours[flavour].current);
    spin((unsigned)(random >> 16) & 511);
    if (random & 8) {
        if (flavour == NOTRACE)
            rcu_read_lock();
        else
            rcu_read_lock_trace();
        spin((unsigned)(random >> 32) & 511);
        if (flavour == NOTRACE)
            rcu_read_unlock();
        else
            rcu_read_unlock_trace();
    }
    element_judge(c, flavour, e);
    if (batches)
        batch_judge(c, flavour, before);
    bump(&c->sections[flavour]);
    if (flavour == NOTRACE)
        rcu_read_unlock_notrace();
    else
        rcu_read_unlock_trace();
}

static void on_timer(int signal)
{
    const int saved = errno;
    const unsigned level = signal == signals[0] ? 1 : 2;
    struct tally *t = mine;
    struct counts *c;
    uint64_t random;

    if (!t || in_child)
        return;
    c = &t->by[level];
    random = next_random(&t->random[level]);
    bump(&c->signals);
    if (rcu_read_lock_held() || rcu_read_lock_trace_held())
        bump(&c->cover[HANDLER_IN_SECTION]);
    if (t->handlers)
        bump(&c->cover[HANDLER_IN_HANDLER]);
    if (t->waiting)
        bump(&c->cover[HANDLER_IN_WAIT]);
    t->handlers++;
    for (unsigned f = 0; f < FLAVOURS; f++)
        if (has(f)) {
            section(c, f, random >> (8 * f));
            bump(&c->cover[HANDLER_SECTION]);
            if (options.with[CALLBACKS] && (random >> 60) == 0)
                shoot(c, f);
        }
    t->handlers--;
    errno = saved;
}

void timers_begin(void)
{
    struct sigaction action;

    signals[0] = SIGUSR2;
    signals[1] = SIGRTMIN;
    memset(&action, 0, sizeof(action));
    action.sa_handler = on_timer;
    action.sa_flags = SA_RESTART;
    for (int i = 0; i < 2; i++)
        sigaction(signals[i], &action, NULL);
}

void timers_mask(bool blocked)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, signals[0]);
    sigaddset(&set, signals[1]);
    pthread_sigmask(blocked ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

void timers_start(struct timers *timers)
{
    timers->run = options.with[TIMERS];
    for (int i = 0; timers->run && i < 2; i++) {
        struct sigevent event;
        struct itimerspec rate;
        timer_t timer;

        memset(&event, 0, sizeof(event));
        event.sigev_notify = SIGEV_THREAD_ID;
        event.sigev_signo = signals[i];
        event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
        memset(&rate, 0, sizeof(rate));
        rate.it_interval.tv_nsec = 200000 + (long)below(800000);
        rate.it_value = rate.it_interval;
        if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &rate, NULL)) {
            failure("timer: %s", strerror(errno));
            timers->run = false;
            return;
        }
        timers->ids[i] = timer;
    }
}

void timers_stop(struct timers *timers)
{
    for (int i = 0; timers->run && i < 2; i++)
        timer_delete((timer_t)timers->ids[i]);
    timers->run = false;
}
