/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Counters: 64 bits wide, exact, one block for each thread that lives, written by that thread alone. A block
 * that was given back keeps its counts, and the next thread goes on with it.
 */
#include "torture.h"

enum { MOST = 1024 };

static struct tally pool[MOST];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned returned[MOST], returned_count;
unsigned tallies;

__thread struct tally *mine __attribute__((tls_model("initial-exec")));

void tally_begin(const char *phase)
{
    struct tally *t;
    unsigned index;

    pthread_mutex_lock(&lock);
    if (returned_count) {
        index = returned[--returned_count];
    } else {
        if (tallies == MOST)
            abort();
        index = tallies;
        __atomic_store_n(&tallies, tallies + 1, __ATOMIC_RELEASE);
        for (unsigned level = 0; level < LEVELS; level++)
            pool[index].random[level] =
                (options.seed + index * LEVELS + level + 1) * UINT64_C(0x9e3779b97f4a7c15) | 1;
    }
    pthread_mutex_unlock(&lock);
    t = &pool[index];
    t->handlers = t->waiting = 0;
    t->pinned = false;
    t->phase = phase;
    t->beat++;
    t->tid = (pid_t)syscall(SYS_gettid);
    mine = t;
}

void tally_end(void)
{
    struct tally *t = mine;

    t->tid = 0;
    mine = NULL;
    pthread_mutex_lock(&lock);
    returned[returned_count++] = (unsigned)(t - pool);
    pthread_mutex_unlock(&lock);
}

void tally_lock(void)
{
    pthread_mutex_lock(&lock);
}

void tally_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

struct tally *tally_at(unsigned index)
{
    return &pool[index];
}

void tally_sum(struct counts *sum)
{
    const unsigned used = __atomic_load_n(&tallies, __ATOMIC_ACQUIRE);
    uint64_t *to = (uint64_t *)(void *)sum;

    memset(sum, 0, sizeof(*sum));
    for (unsigned i = 0; i < used; i++)
        for (unsigned level = 0; level < LEVELS; level++) {
            const uint64_t *from = (const uint64_t *)(const void *)&pool[i].by[level];

            for (size_t word = 0; word < sizeof(*sum) / sizeof(*to); word++)
                to[word] += __atomic_load_n(&from[word], __ATOMIC_RELAXED);
        }
}
