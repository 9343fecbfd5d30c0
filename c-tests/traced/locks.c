/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Locks of all kinds, in known numbers; each result is checked. The mutexes' addresses go to standard output. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define EXPECT(call, result) \
    do { \
        int got = call; \
        if (got != (result)) { \
            fprintf(stderr, "%s: %d, not %d\n", #call, got, result); \
            exit(1); \
        } \
    } while (0)

static pthread_mutex_t plain = PTHREAD_MUTEX_INITIALIZER, contended = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t recursive, checking, robust, inheriting, waiting = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_spinlock_t spin;
static int cleaned, ready;

static struct timespec in_ms(clockid_t clock, long ms)
{
    struct timespec time;

    clock_gettime(clock, &time);
    time.tv_nsec += ms * 1000000;
    if (time.tv_nsec >= 1000000000) {
        time.tv_nsec -= 1000000000;
        time.tv_sec++;
    }
    return time;
}

static void make(pthread_mutex_t *mutex, int type, int is_robust, int protocol)
{
    pthread_mutexattr_t attributes;

    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, type);
    pthread_mutexattr_setrobust(&attributes, is_robust);
    pthread_mutexattr_setprotocol(&attributes, protocol);
    EXPECT(pthread_mutex_init(mutex, &attributes), 0);
}

static void *hold_for_50ms(void *unused)
{
    pthread_mutex_lock(&contended);
    __atomic_store_n(&ready, 1, __ATOMIC_RELEASE);
    usleep(50000);
    pthread_mutex_unlock(&contended);
    return unused;
}

static void *die_with_robust(void *unused)
{
    pthread_mutex_lock(&robust);
    return unused;
}

static void *try_everything_taken(void *unused)
{
    struct timespec soon = in_ms(CLOCK_REALTIME, 10), wrong = {0, -1};

    EXPECT(pthread_mutex_trylock(&plain), EBUSY);
    EXPECT(pthread_mutex_timedlock(&plain, &soon), ETIMEDOUT);
    EXPECT(pthread_mutex_timedlock(&plain, &wrong), EINVAL);
    soon = in_ms(CLOCK_MONOTONIC, 10);
    EXPECT(pthread_mutex_clocklock(&plain, CLOCK_MONOTONIC, &soon), ETIMEDOUT);
    EXPECT(pthread_mutex_unlock(&checking), EPERM);
    EXPECT(pthread_rwlock_tryrdlock(&rwlock), EBUSY);
    EXPECT(pthread_rwlock_trywrlock(&rwlock), EBUSY);
    soon = in_ms(CLOCK_REALTIME, 10);
    EXPECT(pthread_rwlock_timedrdlock(&rwlock, &soon), ETIMEDOUT);
    soon = in_ms(CLOCK_MONOTONIC, 10);
    EXPECT(pthread_rwlock_clockwrlock(&rwlock, CLOCK_MONOTONIC, &soon), ETIMEDOUT);
    EXPECT(pthread_spin_trylock(&spin), EBUSY);
    return unused;
}

static void clean(void *mutex)
{
    cleaned++;
    pthread_mutex_unlock(mutex);
}

static void *wait_for_ever(void *unused)
{
    pthread_mutex_lock(&waiting);
    pthread_cleanup_push(clean, &waiting);
    ready = 1;
    for (;;)
        pthread_cond_wait(&cond, &waiting);
    pthread_cleanup_pop(1);
    return unused;
}

static void *wait_once(void *unused)
{
    pthread_mutex_lock(&waiting);
    ready = 1;
    while (ready)
        pthread_cond_wait(&cond, &waiting);
    pthread_mutex_unlock(&waiting);
    return unused;
}

static void in_thread(void *(*function)(void *))
{
    pthread_t thread;

    EXPECT(pthread_create(&thread, NULL, function, NULL), 0);
    EXPECT(pthread_join(thread, NULL), 0);
}

static void await_ready(void)
{
    pthread_mutex_lock(&waiting);
    while (!ready) {
        pthread_mutex_unlock(&waiting);
        usleep(1000);
        pthread_mutex_lock(&waiting);
    }
}

int main(void)
{
    struct timespec soon, wrong = {0, -1};
    pthread_t thread;
    void *result;

    make(&recursive, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
    make(&checking, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
    make(&robust, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE);
    make(&inheriting, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_INHERIT);
    pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE);
    printf("plain=%lx contended=%lx recursive=%lx checking=%lx robust=%lx inheriting=%lx rwlock=%lx "
           "spin=%lx cond=%lx\n", (long)&plain, (long)&contended, (long)&recursive, (long)&checking,
           (long)&robust, (long)&inheriting, (long)&rwlock, (long)&spin, (long)&cond);

    /* plain: 1001 acquired here; then 4 times refused. */
    for (int i = 0; i < 1000; i++) {
        EXPECT(pthread_mutex_lock(&plain), 0);
        EXPECT(pthread_mutex_unlock(&plain), 0);
    }
    /* A free mutex is had whatever the time; the clock must be one. */
    EXPECT(pthread_mutex_timedlock(&plain, &wrong), 0);
    /* checking: 1 acquired, EDEADLK, released, EPERM twice. */
    EXPECT(pthread_mutex_lock(&checking), 0);
    EXPECT(pthread_mutex_lock(&checking), EDEADLK);
    EXPECT(pthread_mutex_trylock(&checking), EBUSY);
    EXPECT(pthread_spin_lock(&spin), 0);
    EXPECT(pthread_rwlock_wrlock(&rwlock), 0);
    EXPECT(pthread_rwlock_rdlock(&rwlock), EDEADLK);
    in_thread(try_everything_taken);
    EXPECT(pthread_spin_unlock(&spin), 0);
    EXPECT(pthread_rwlock_unlock(&rwlock), 0);
    EXPECT(pthread_mutex_unlock(&checking), 0);
    EXPECT(pthread_mutex_unlock(&checking), EPERM);
    EXPECT(pthread_mutex_unlock(&plain), 0);
    EXPECT(pthread_mutex_clocklock(&plain, CLOCK_PROCESS_CPUTIME_ID, &wrong), EINVAL);

    for (int i = 0; i < 10; i++)
        EXPECT(pthread_mutex_lock(&recursive), 0);
    EXPECT(pthread_mutex_trylock(&recursive), 0);
    for (int i = 0; i < 11; i++)
        EXPECT(pthread_mutex_unlock(&recursive), 0);

    EXPECT(pthread_mutex_lock(&inheriting), 0);
    EXPECT(pthread_mutex_lock(&inheriting), EDEADLK);
    EXPECT(pthread_mutex_unlock(&inheriting), 0);

    in_thread(die_with_robust);
    EXPECT(pthread_mutex_lock(&robust), EOWNERDEAD);
    EXPECT(pthread_mutex_consistent(&robust), 0);
    EXPECT(pthread_mutex_unlock(&robust), 0);
    in_thread(die_with_robust);
    EXPECT(pthread_mutex_lock(&robust), EOWNERDEAD);
    EXPECT(pthread_mutex_unlock(&robust), 0);
    EXPECT(pthread_mutex_lock(&robust), ENOTRECOVERABLE);

    /* rwlock: 1 written above, 2 read, 1 written by time. */
    EXPECT(pthread_rwlock_rdlock(&rwlock), 0);
    EXPECT(pthread_rwlock_tryrdlock(&rwlock), 0);
    EXPECT(pthread_rwlock_unlock(&rwlock), 0);
    EXPECT(pthread_rwlock_unlock(&rwlock), 0);
    EXPECT(pthread_rwlock_timedwrlock(&rwlock, &wrong), EINVAL);
    soon = in_ms(CLOCK_REALTIME, 10);
    EXPECT(pthread_rwlock_timedwrlock(&rwlock, &soon), 0);
    EXPECT(pthread_rwlock_unlock(&rwlock), 0);

    pthread_create(&thread, NULL, hold_for_50ms, NULL);
    while (!__atomic_load_n(&ready, __ATOMIC_ACQUIRE))
        usleep(100);
    EXPECT(pthread_mutex_lock(&contended), 0);
    EXPECT(pthread_mutex_unlock(&contended), 0);
    pthread_join(thread, NULL);

    /* cond: a wait that is cancelled, one that times out, one that is signalled. */
    ready = 0;
    pthread_create(&thread, NULL, wait_for_ever, NULL);
    await_ready();
    EXPECT(pthread_cancel(thread), 0);
    pthread_mutex_unlock(&waiting);
    EXPECT(pthread_join(thread, &result), 0);
    if (result != PTHREAD_CANCELED || cleaned != 1)
        return 1;
    pthread_mutex_lock(&waiting);
    soon = in_ms(CLOCK_REALTIME, 10);
    EXPECT(pthread_cond_timedwait(&cond, &waiting, &soon), ETIMEDOUT);
    soon = in_ms(CLOCK_MONOTONIC, 10);
    EXPECT(pthread_cond_clockwait(&cond, &waiting, CLOCK_MONOTONIC, &soon), ETIMEDOUT);
    pthread_mutex_unlock(&waiting);
    ready = 0;
    pthread_create(&thread, NULL, wait_once, NULL);
    await_ready();
    ready = 0;
    EXPECT(pthread_cond_signal(&cond), 0);
    pthread_mutex_unlock(&waiting);
    pthread_join(thread, NULL);
    EXPECT(pthread_cond_broadcast(&cond), 0);
    return 0;
}
