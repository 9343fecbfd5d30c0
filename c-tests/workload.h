/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Readers of objects that are poisoned once a grace period has passed, who does that, and callbacks that count:
 * what runs while a test is hostile to it. */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#include "test.h"

enum { ALIVE = 0x600d600d, POISON = 0x5eadbeef, OBJECTS = 64 };

static struct {
    atomic_uint a, b;
} objects[OBJECTS], *shared_object = objects;
static atomic_bool stop;
static atomic_int ready;
static atomic_ulong sections, poisoned;

/* Before the readers start. */
__attribute__((unused)) static void make_objects(void)
{
    for (int i = 0; i < OBJECTS; i++)
        objects[i].a = objects[i].b = ALIVE;
}

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

__attribute__((unused)) static void *read_shortly(void *unused)
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

__attribute__((unused)) static void *read_at_length(void *unused)
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

__attribute__((unused)) static void *be_idle(void *unused)
{
    rcu_register_thread();
    ready++;
    while (!stop)
        usleep(1000);
    return unused;
}

enum { CALLBACKS = 64 };

struct counted {
    struct rcu_head head;
    atomic_int calls;
};

__attribute__((unused)) static struct counted counted[CALLBACKS];

__attribute__((unused)) static void called(struct rcu_head *head)
{
    ((struct counted *)head)->calls++;
}

__attribute__((unused)) static void check_callbacks(void)
{
    for (int i = 0; i < CALLBACKS; i++)
        call_rcu(&counted[i].head, called);
    rcu_barrier();
    for (int i = 0; i < CALLBACKS; i++)
        CHECK(counted[i].calls == 1);
}

__attribute__((unused)) static void update(void)
{
    static unsigned next;
    __typeof__(shared_object) fresh = &objects[++next % OBJECTS], old;

    fresh->a = fresh->b = ALIVE;
    old = rcu_xchg_pointer(&shared_object, fresh);
    synchronize_rcu();
    old->a = old->b = POISON;
}

#endif
