/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Threads that read and exit. They read in their destructors too, in the last round of them at the latest, and
 * signals come until then.
 */
#include "torture.h"

#include <limits.h>

struct life {
    struct timers timers;
    int round;
};

static pthread_key_t key;

static void sections_of_short_life(unsigned most)
{
    for (unsigned n = below(most + 1); n; n--)
        random_section();
}

/* Once a round, as long as it leaves something behind. */
static void destructor(void *argument)
{
    struct life *life = argument;

    /* glibc leaves the values of a thread that was in its destructors at a fork to that thread of the child
     * which gets its stack. */
    if (in_child)
        return;
    life->round++;
    sections_of_short_life(3);
    for (unsigned f = 0; f < FLAVOURS; f++)
        if (has(f))
            short_section(f);
    cover(READ_IN_DESTRUCTOR);
    if (life->round < PTHREAD_DESTRUCTOR_ITERATIONS && pthread_setspecific(key, life) == 0)
        return;
    cover(READ_IN_LAST_DESTRUCTOR);
    timers_stop(&life->timers);
    free(life);
    tally_end();
}

static void *short_life(void *unused)
{
    struct life *life = calloc(1, sizeof(*life));

    tally_begin("a short life");
    if (!life || pthread_setspecific(key, life))
        abort();
    if (one_in(2))
        timers_start(&life->timers);
    sections_of_short_life(one_in(2) ? 3 : 80);
    if (one_in(4)) {
        rcu_unregister_thread();
        cover(UNREGISTERED);
        sections_of_short_life(40);
    }
    cover(THREAD_RAN);
    if (one_in(2))
        pthread_exit(NULL);
    return unused;
}

void *thread_churner(void *unused)
{
    enum { MOST = 3 };

    if (pthread_key_create(&key, destructor))
        abort();
    while (!stopping()) {
        const unsigned count = 1 + below(MOST);
        pthread_t threads[MOST];

        beat("joining short lives");
        stutter_wait();
        for (unsigned i = 0; i < count; i++)
            threads[i] = start(short_life, NULL);
        for (unsigned i = 0; i < count; i++)
            pthread_join(threads[i], NULL);
        if (one_in(16))
            sleep_us(below(3000));
    }
    return unused;
}
