/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * rcutorture: what its files share. After the kernel's kernel/rcu/rcutorture.c: elements that are
 * replaced all the time and grow older by a grace period at a time, and readers that look how old the
 * element is that they hold: one grace period is too old.
 *
 *   main.c        options, the threads, the end
 *   summary.c     the lines that are printed; the verdict
 *   tally.c       counters, a block for each thread
 *   elements.c    the pipe: elements, who is current, ageing; the two flavours
 *   readers.c     sections of all shapes, and tight ones
 *   timers.c      sections in signal handlers
 *   writers.c     updates, by every form of grace period
 *   callbacks.c   floods, rcu_barrier(), forward progress
 *   churn.c       threads that come and go
 *   forks.c       processes that do
 *   disturb.c     modes, processors, pauses
 *   stalls.c      sections that take too long, and are to be reported
 *   boost.c       real-time waiters
 */
#ifndef TORTURE_H
#define TORTURE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <rcu_notrace/rcu.h>

/* ---- options (main.c) ---------------------------------------------------------------------------- */

/* What may be left out by --no-NAME. */
enum feature {
    CALLBACKS,
    POLLING,
    BARRIERS,
    FLOODS,
    TIMERS,
    BLOCKING,
    THREADS,
    FORKS,
    STUTTER,
    SHUFFLE,
    STALLS,
    BOOST,
    PROBES,
    FEATURES
};

enum { ANY_MODE = -1 };

struct options {
    unsigned seconds, watchdog, stats, stall_ms;
    unsigned readers, bulk, idle, writers, updaters, fakewriters;
    uint64_t seed;
    int mode;      /* one of RCU_NOTRACE_IPI_*, or ANY_MODE: they are switched at random */
    unsigned type; /* bits of enum flavour */
    bool with[FEATURES];
};

extern struct options options;
extern const char *const feature_names[FEATURES], *const mode_names[3];

/* ---- counters (tally.c) -------------------------------------------------------------------------- */

enum { NOTRACE, TRACE, FLAVOURS };
enum { RCU_TORTURE_PIPE_LEN = 10 };

/* What must have come to pass, unless it was left out. */
enum cover {
    NESTED,
    HANDED_OVER,
    ORDINARY,
    BOTH_FLAVOURS,
    SIGNALS_MASKED,
    YIELDED,
    SLEPT,
    FUTEX_WAITED,
    PIPE_READ,
    MIGRATED,
    PREEMPTED,
    POLLED_INSIDE,
    SAW_REMOVED,
    SAW_GRACE_PERIOD,
    HANDLER_SECTION,
    HANDLER_IN_SECTION,
    HANDLER_IN_HANDLER,
    HANDLER_IN_WAIT,
    HANDLER_CALLED_RCU,
    DID_SYNC,
    DID_SYNC_EXPEDITED,
    DID_COND,
    DID_COND_FULL,
    DID_COND_EXPEDITED,
    DID_COND_EXPEDITED_FULL,
    DID_POLL,
    DID_POLL_FULL,
    DID_POLL_EXPEDITED,
    DID_POLL_EXPEDITED_FULL,
    DID_CALL,
    DID_BARRIER,
    WAITED_IN_TRACE_SECTION,
    FLOODED,
    FLOOD_HELD_UP,
    THREAD_RAN,
    READ_IN_DESTRUCTOR,
    READ_IN_LAST_DESTRUCTOR,
    UNREGISTERED,
    FORKED,
    FORKED_IN_SECTION,
    VFORKED,
    SPAWNED,
    STUTTERED,
    SHUFFLED,
    MODE_AUTO,
    MODE_SIGNAL,
    MODE_MEMBARRIER,
    STALL_REPORTED,
    BOOSTED,
    BOOST_RETURNED,
    PROBED,
    COVERS
};

/* One level of a thread: itself, or one of its two handlers, which may interrupt it between any two of
 * its instructions. Each is written by nobody else. */
struct counts {
    uint64_t sections[FLAVOURS];
    uint64_t pipe[FLAVOURS][RCU_TORTURE_PIPE_LEN + 1], batch[FLAVOURS][RCU_TORTURE_PIPE_LEN + 1];
    uint64_t signals, updates, cover[COVERS];
};

enum { LEVELS = 3 };

struct tally {
    _Alignas(64) struct counts by[LEVELS];
    uint64_t random[LEVELS];
    volatile int handlers, waiting; /* how many handlers run; whether it waits for a grace period */
    bool pinned;                    /* not to be shuffled */
    _Atomic uint64_t beat;
    _Atomic(const char *) phase;
    _Atomic pid_t tid;
    _Atomic uint32_t next;
};

extern __thread struct tally *mine;

/* A thread has one from tally_begin() to tally_end(). */
void tally_begin(const char *phase);
void tally_end(void);
/* Around a fork: the child begins tallies of its own. */
void tally_lock(void);
void tally_unlock(void);
void tally_sum(struct counts *sum);
struct tally *tally_at(unsigned index);
extern unsigned tallies;

/* Written by one thread or handler, read by others. */
static inline void bump(uint64_t *counter)
{
    __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}

static inline void add(uint64_t *counter, uint64_t more)
{
    __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + more, __ATOMIC_RELAXED);
}

static inline struct counts *counts(void)
{
    return &mine->by[0];
}

static inline void cover(enum cover what)
{
    bump(&counts()->cover[what]);
}

/* xorshift64*: a generator for each thread and handler level. */
static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545f4914f6cdd1d);
}

/* Less than n. */
static inline unsigned below(unsigned n)
{
    return (unsigned)((next_random(&mine->random[0]) >> 32) % n);
}

static inline bool one_in(unsigned n)
{
    return below(n) == 0;
}

/* ---- the end, and progress (main.c) -------------------------------------------------------------- */

extern atomic_bool stop;
extern bool in_child; /* of a fork: no disturbances there */
extern bool fork_was_impatient; /* it took so long that it may not have waited for a callback's end: on a busy machine */
extern _Atomic uint64_t failures;

/* A failure: it is said, and everything ends. From any context. */
__attribute__((format(printf, 1, 2))) void failure(const char *format, ...);

static inline bool stopping(void)
{
    return atomic_load_explicit(&stop, memory_order_relaxed);
}

/* This thread goes on; what it does now is a string that lives for ever. */
static inline void beat(const char *phase)
{
    atomic_store_explicit(&mine->beat, atomic_load_explicit(&mine->beat, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    atomic_store_explicit(&mine->phase, phase, memory_order_relaxed);
}

uint64_t now_ns(void);
void sleep_us(unsigned us);
/* Until the end, or for so long. */
void rest_ms(unsigned ms);
pthread_t start(void *(*run)(void *), void *argument);

/* Threads that main.c starts: each has a tally already. */
void *reader(void *);
void *bulk_reader(void *);
void *idle_reader(void *);
void *feeder(void *);
void *writer(void *flavour);
void *updater(void *flavour);
void *fakewriter(void *);
void *flooder(void *flavour);
void *barrier_tester(void *flavour);
void *thread_churner(void *);
void *forker(void *);
void *mode_switcher(void *);
void *stutterer(void *);
void *shuffler(void *);
void *staller(void *);
void *booster(void *);
void *prober(void *);

/* ---- elements (elements.c) ----------------------------------------------------------------------- */

struct element {
    struct rcu_head head;
    atomic_uint pipe_count; /* 0: current; 1: removed; n: and n - 1 grace periods have passed */
    atomic_uint mark;       /* ALIVE until it has left the pipe */
    uint32_t next;          /* on a free list or in a writer's pipe */
    unsigned flavour;
};

enum { ALIVE = 0x600d600d, POISON = 0x5eadbeef };

struct flavour {
    const char *name;
    void (*synchronize)(void), (*synchronize_expedited)(void), (*barrier)(void);
    void (*call)(struct rcu_head *, void (*)(struct rcu_head *));
    void (*get_stats)(struct rcu_notrace_stats *, size_t);
    _Alignas(64) struct element *current;
    _Alignas(64) _Atomic uint64_t free, version, allocations, allocation_failures, frees, empty;
    _Atomic uint64_t circulation[RCU_TORTURE_PIPE_LEN + 1];
    _Atomic uint64_t queued, called; /* callbacks of ours */
    _Atomic uint64_t marks_wrong, too_old, too_many_batches;
};

extern struct flavour flavours[FLAVOURS];

static inline bool has(unsigned flavour)
{
    return options.type >> flavour & 1;
}

void elements_begin(void);
struct element *element_get(struct flavour *f);
/* Who becomes current, who was: removed now. */
struct element *element_replace(struct flavour *f, struct element *fresh);
/* A grace period has passed since the last time: true if it is free again, by now. */
bool element_age(struct flavour *f, struct element *e);
/* Ages it by callbacks until it is free. */
void element_call(struct flavour *f, struct element *e);
/* Waits until all callbacks of ours were called; false, and a failure, if that does not come to pass. */
bool callbacks_drain(struct flavour *f);
struct rcu_notrace_stats stats_of(const struct flavour *f);

/* What the reader found: judged before its section ends. */
void element_is_bad(struct flavour *f, const struct element *e, unsigned pipe_count);

static inline void element_judge(struct counts *c, unsigned flavour, struct element *e)
{
    unsigned pipe_count = atomic_load_explicit(&e->pipe_count, memory_order_relaxed);

    if (pipe_count > 1 || atomic_load_explicit(&e->mark, memory_order_relaxed) != ALIVE)
        element_is_bad(&flavours[flavour], e, pipe_count);
    if (pipe_count == 1)
        bump(&c->cover[SAW_REMOVED]);
    bump(&c->pipe[flavour][pipe_count > RCU_TORTURE_PIPE_LEN ? RCU_TORTURE_PIPE_LEN : pipe_count]);
}

/* Stores that take long, because other processors store there too: what comes after them, the store of a lock for
 * one, is late to be seen, and a grace period without its barrier looks too early. */
enum { CONTENDED = 8 };
struct contended {
    _Alignas(64) atomic_uint word;
};
extern struct contended contended[CONTENDED];

static inline void fill_store_buffer(void)
{
    for (int i = 0; i < CONTENDED; i++)
        atomic_store_explicit(&contended[i].word, 1, memory_order_relaxed);
}

/* The cookie of this moment, of a flavour, and how many grace periods have passed since, whole or not. */
uint64_t grace_periods_now(unsigned flavour);
void batch_judge(struct counts *c, unsigned flavour, uint64_t before);

/* ---- sections (readers.c) ------------------------------------------------------------------------ */

static inline void spin(unsigned turns)
{
    while (turns--)
        __asm__ volatile("" ::: "memory");
}

/* One outermost section of random shape, of the flavours that are tortured. */
void random_section(void);
void short_section(unsigned flavour);

/* ---- signals (timers.c) -------------------------------------------------------------------------- */

void timers_begin(void);
/* Two timers for this thread, until they are stopped. */
struct timers {
    bool run;
    void *ids[2];
};
void timers_start(struct timers *timers);
void timers_stop(struct timers *timers);
void timers_mask(bool blocked);

/* ---- disturbances -------------------------------------------------------------------------------- */

/* Where a thread may pause. */
void stutter_wait(void);
/* Held by what makes grace periods long on purpose, and by what measures how long they are. */
extern pthread_mutex_t long_sections;
/* The modes that are switched to at random. */
bool mode_set(int mode);
void stalls_begin(void);
extern _Atomic uint64_t stall_reports, stall_reports_unasked, boost_tests, boost_failures;
extern _Atomic uint64_t flood_most, flood_rate, barrier_attempts, barrier_successes;
/* NULL if it may be tested, or why not. */
const char *boost_refused(void);

/* ---- children (forks.c) -------------------------------------------------------------------------- */

/* What children did, in memory that they share. */
struct shared {
    _Atomic uint64_t sections, grace_periods, callbacks;
};
extern struct shared *children;
void forks_begin(void);

/* ---- what is printed (summary.c) ----------------------------------------------------------------- */

void summary_begin(void);
void summary_print(uint64_t elapsed_ns);
/* False if something that was to happen did not; what, if that is to be said. */
bool summary_covers(bool say);
void dump_stats(int fd);

#endif
