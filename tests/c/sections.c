/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Sections whose instructions tests/section_instructions.rs reads. With BARE, the same functions
 * without sections: what they have over that is what a section costs. */
#include <rcu_notrace.h>

struct config {
    long value;
};

extern struct config *current_config;
long one_load(void);
long nested(void);
long loop(long rounds);

struct config *current_config;

#ifdef BARE
#define LOCK() __asm__ volatile("" ::: "memory")
#define UNLOCK() __asm__ volatile("" ::: "memory")
#else
#define LOCK() rcu_read_lock_notrace()
#define UNLOCK() rcu_read_unlock_notrace()
#endif

long one_load(void)
{
    long value;

    LOCK();
    value = rcu_dereference(current_config)->value;
    UNLOCK();
    return value;
}

long nested(void)
{
    long value;

    LOCK();
    LOCK();
    value = rcu_dereference(current_config)->value;
    UNLOCK();
    UNLOCK();
    return value;
}

long loop(long rounds)
{
    long sum = 0;

    for (long round = 0; round < rounds; round++) {
        LOCK();
        sum += rcu_dereference(current_config)->value;
        UNLOCK();
    }
    return sum;
}

#ifdef PROGRAM
int main(void)
{
    struct config config = {1};

    current_config = &config;
    return one_load() + nested() + loop(3) == 5 ? 0 : 1;
}
#endif
