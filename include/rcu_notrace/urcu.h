/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * liburcu's data structures (hash tables, lists, queues) on rcu-notrace.
 *
 *     #include <rcu_notrace/urcu.h>
 *     #include <urcu/rculfhash.h>
 *
 *     table = cds_lfht_new_flavor(1, 1, 0, CDS_LFHT_AUTO_RESIZE, &rcu_notrace_flavor, NULL);
 *
 * with rcu_read_lock_notrace(), call_rcu() and synchronize_rcu() around it. Whoever includes this
 * needs liburcu's headers (Debian: liburcu-dev, 0.11 or later) and links with -lurcu-cds
 * -lurcu-common; nobody else does. It comes before <rcu_notrace.h>, which it includes, because `struct
 * rcu_head` is liburcu's then; rcu_dereference() and the other pointer operations are rcu-notrace's,
 * in liburcu's lists too. Not in one source file with <urcu.h>, whose synchronize_rcu() is liburcu's.
 *
 * fork(): tables go on in parent and child, without the program calling anything. Not in a section,
 * which the tables' worker thread may be waiting for; the child of _Fork() or vfork() leaves tables
 * alone.
 */
#ifndef RCU_NOTRACE_URCU_H
#define RCU_NOTRACE_URCU_H

#ifdef RCU_NOTRACE_H
#error "include <rcu_notrace/urcu.h> before <rcu_notrace.h>, which it includes"
#endif

#ifdef URCU_API_MAP
#error "<rcu_notrace/urcu.h> beside a flavour header of liburcu: both define call_rcu() and others"
#endif

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

/* liburcu's declarations of call_rcu() and rcu_barrier() are of these, whichever they are. */
#include <rcu_notrace/tsan.h>

#include <urcu/call-rcu.h>
#include <urcu/flavor.h>
#include <urcu/pointer.h>
#ifdef __has_include
#if __has_include(<urcu/urcu-poll.h>)
#define RCU_NOTRACE_URCU_POLLS 1
#endif
#endif

/* liburcu's are calls, of functions that only its flavours' libraries have. */
#undef rcu_dereference
#undef rcu_assign_pointer
#undef rcu_xchg_pointer
#undef rcu_cmpxchg_pointer
#undef rcu_set_pointer
#define rcu_set_pointer(p, v) rcu_assign_pointer(*(p), v)

#include <rcu_notrace.h>

/* The library uses a link and an action in it, 8 bytes each. */
RCU_NOTRACE_STATIC_ASSERT(sizeof(struct rcu_head) == 16 && offsetof(struct rcu_head, next) == 0 &&
                              sizeof(((struct rcu_head *)0)->next) == 8 &&
                              offsetof(struct rcu_head, func) == 8,
                          "liburcu's struct rcu_head");

#ifdef __cplusplus
extern "C" {
#endif

/* One of each in a program or shared object, however many source files include this. */
#define RCU_NOTRACE_ONE __attribute__((weak, visibility("hidden")))

RCU_NOTRACE_ONE void rcu_notrace_urcu_lock(void)
{
    rcu_read_lock_notrace();
}

RCU_NOTRACE_ONE void rcu_notrace_urcu_unlock(void)
{
    rcu_read_unlock_notrace();
}

RCU_NOTRACE_ONE int rcu_notrace_urcu_held(void)
{
    return rcu_read_lock_held();
}

/* Quiescent states, offline, online: what only liburcu's qsbr flavour has. */
RCU_NOTRACE_ONE void rcu_notrace_urcu_nothing(void)
{
}

struct rcu_notrace_deferred {
    struct rcu_head head;
    void (*function)(void *);
    void *argument;
};

RCU_NOTRACE_ONE void rcu_notrace_urcu_call_deferred(struct rcu_head *head)
{
    struct rcu_notrace_deferred *deferred = (struct rcu_notrace_deferred *)(void *)head;

    deferred->function(deferred->argument);
    free(deferred);
}

/* liburcu's defer_rcu(): not in sections, where it may wait. Here it does where there is no memory. */
RCU_NOTRACE_ONE void rcu_notrace_urcu_defer(void (*function)(void *), void *argument)
{
    struct rcu_notrace_deferred *deferred =
        (struct rcu_notrace_deferred *)malloc(sizeof(struct rcu_notrace_deferred));

    if (!deferred) {
        synchronize_rcu();
        function(argument);
        return;
    }
    deferred->function = function;
    deferred->argument = argument;
    call_rcu(&deferred->head, rcu_notrace_urcu_call_deferred);
}

/* ---- fork: the tables' worker thread pauses, and the child gets one of its own ----------------- */

struct rcu_notrace_urcu_forks {
    pthread_mutex_t lock; /* held during a fork */
    struct urcu_atfork *tables;
    unsigned long users;
    int handled;
};

RCU_NOTRACE_ONE struct rcu_notrace_urcu_forks rcu_notrace_urcu_forks = {PTHREAD_MUTEX_INITIALIZER,
                                                                        NULL, 0, 0};

RCU_NOTRACE_ONE void rcu_notrace_urcu_before_fork(void)
{
    struct urcu_atfork *tables;

    pthread_mutex_lock(&rcu_notrace_urcu_forks.lock);
    tables = rcu_notrace_urcu_forks.tables;
    if (tables)
        tables->before_fork(tables->priv);
}

RCU_NOTRACE_ONE void rcu_notrace_urcu_after_fork_parent(void)
{
    struct urcu_atfork *tables = rcu_notrace_urcu_forks.tables;

    if (tables)
        tables->after_fork_parent(tables->priv);
    pthread_mutex_unlock(&rcu_notrace_urcu_forks.lock);
}

RCU_NOTRACE_ONE void rcu_notrace_urcu_after_fork_child(void)
{
    struct urcu_atfork *tables = rcu_notrace_urcu_forks.tables;

    if (tables)
        tables->after_fork_child(tables->priv);
    pthread_mutex_unlock(&rcu_notrace_urcu_forks.lock);
}

/* Each table registers, all with the same handlers. */
RCU_NOTRACE_ONE void rcu_notrace_urcu_register_atfork(struct urcu_atfork *tables)
{
    pthread_mutex_lock(&rcu_notrace_urcu_forks.lock);
    if (!rcu_notrace_urcu_forks.handled)
        rcu_notrace_urcu_forks.handled =
            pthread_atfork(rcu_notrace_urcu_before_fork, rcu_notrace_urcu_after_fork_parent,
                           rcu_notrace_urcu_after_fork_child) == 0;
    if (rcu_notrace_urcu_forks.users++ == 0)
        rcu_notrace_urcu_forks.tables = tables;
    pthread_mutex_unlock(&rcu_notrace_urcu_forks.lock);
}

RCU_NOTRACE_ONE void rcu_notrace_urcu_unregister_atfork(struct urcu_atfork *tables)
{
    (void)tables;
    pthread_mutex_lock(&rcu_notrace_urcu_forks.lock);
    if (--rcu_notrace_urcu_forks.users == 0)
        rcu_notrace_urcu_forks.tables = NULL;
    pthread_mutex_unlock(&rcu_notrace_urcu_forks.lock);
}

/* ---- the table ----------------------------------------------------------------------------------
 * liburcu 0.14 appended two members, and kept its soname: whatever version this is compiled against,
 * a later one may be there when it runs, and looks for them. So they are always there: in the struct
 * where that has them, behind it where it has not. */
#ifdef RCU_NOTRACE_URCU_POLLS
typedef struct urcu_gp_poll_state rcu_notrace_urcu_cookie;
#else
typedef struct {
    unsigned long grace_period_id;
} rcu_notrace_urcu_cookie;
#endif

RCU_NOTRACE_ONE rcu_notrace_urcu_cookie rcu_notrace_urcu_start_poll(void)
{
    rcu_notrace_urcu_cookie cookie;

    cookie.grace_period_id = start_poll_synchronize_rcu();
    return cookie;
}

RCU_NOTRACE_ONE bool rcu_notrace_urcu_poll(rcu_notrace_urcu_cookie cookie)
{
    return poll_state_synchronize_rcu(cookie.grace_period_id) != 0;
}

struct rcu_notrace_urcu_table {
    struct rcu_flavor_struct flavor;
#ifndef RCU_NOTRACE_URCU_POLLS
    rcu_notrace_urcu_cookie (*start_poll)(void);
    bool (*poll)(rcu_notrace_urcu_cookie cookie);
#endif
};

RCU_NOTRACE_STATIC_ASSERT(sizeof(struct rcu_notrace_urcu_table) == 16 * sizeof(void (*)(void)),
                          "liburcu's struct rcu_flavor_struct");

/* `struct rcu_flavor_struct rcu_notrace_flavor`, as part of something larger. */
#define rcu_notrace_flavor (rcu_notrace_urcu_table.flavor)

#ifdef RCU_NOTRACE_URCU_POLLS
#define RCU_NOTRACE_URCU_POLL rcu_notrace_urcu_start_poll, rcu_notrace_urcu_poll}
#else
#define RCU_NOTRACE_URCU_POLL }, rcu_notrace_urcu_start_poll, rcu_notrace_urcu_poll
#endif

/* Not const: C++ would make it local to the file. */
RCU_NOTRACE_ONE struct rcu_notrace_urcu_table rcu_notrace_urcu_table = {
    {rcu_notrace_urcu_lock, rcu_notrace_urcu_unlock, rcu_notrace_urcu_held,
     rcu_notrace_urcu_nothing, call_rcu, synchronize_rcu, rcu_notrace_urcu_defer,
     rcu_notrace_urcu_nothing, rcu_notrace_urcu_nothing, rcu_register_thread,
     rcu_unregister_thread, rcu_barrier, rcu_notrace_urcu_register_atfork,
     rcu_notrace_urcu_unregister_atfork, RCU_NOTRACE_URCU_POLL};

#ifdef __cplusplus
}
#endif

#endif /* RCU_NOTRACE_URCU_H */
