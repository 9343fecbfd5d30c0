/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Readers. A section of random shape goes through several segments; each holds a set of protections, and
 * what the next one has is taken before what it has not is given up. So the element that was loaded in the first is
 * protected to the end, however often the section was handed over: what the kernel calls extended readers.
 */
#include "torture.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>

enum {
    RDR_NOTRACE_1 = 1 << 0,
    RDR_NOTRACE_2 = 1 << 1,
    RDR_ORDINARY = 1 << 2,
    RDR_TRACE_1 = 1 << 3,
    RDR_TRACE_2 = 1 << 4,
    RDR_MASKED = 1 << 5,
    RDR_ALL = (1 << 6) - 1,
    RDR_MAX_SEGMENTS = 8,
};

static const unsigned protects[FLAVOURS] = {RDR_NOTRACE_1 | RDR_NOTRACE_2 | RDR_ORDINARY,
                                            RDR_TRACE_1 | RDR_TRACE_2};

static unsigned bits(unsigned set)
{
    return (unsigned)__builtin_popcount(set);
}

/* ---- what happens inside ---------------------------------------------------------------------------- */

static int pipe_ends[2] = {-1, -1};
static uint32_t futex_word;

/* Bytes for readers that block on a pipe. They do not rely on it. */
void *feeder(void *unused)
{
    while (!stopping()) {
        beat("feeding the pipe");
        if (write(pipe_ends[1], "xxxx", 4) != 4 && errno != EAGAIN)
            failure("write to the pipe: %s", strerror(errno));
        sleep_us(2000);
    }
    return unused;
}

__attribute__((constructor)) static void open_pipe(void)
{
    if (pipe2(pipe_ends, O_NONBLOCK | O_CLOEXEC))
        abort();
}

static void block(void)
{
    struct timespec moment = {0, 20000 + (long)below(400000)};
    struct pollfd poll_pipe = {pipe_ends[0], POLLIN, 0};
    char byte;

    switch (below(3)) {
    case 0:
        nanosleep(&moment, NULL);
        cover(SLEPT);
        break;
    case 1:
        syscall(SYS_futex, &futex_word, FUTEX_WAIT_PRIVATE, 0, &moment, NULL, 0);
        cover(FUTEX_WAITED);
        break;
    default:
        if (poll(&poll_pipe, 1, 1) == 1 && read(pipe_ends[0], &byte, 1) == 1)
            cover(PIPE_READ);
    }
}

/* Mostly short: sections are what this is about. */
static void delay(bool may_block)
{
    const unsigned what = below(256);

    if (what < 100)
        return;
    if (what < 236) {
        spin(below(what < 200 ? 200 : 5000));
    } else if (what < 240) {
        spin(below(200000));
    } else if (what < 252) {
        sched_yield();
        cover(YIELDED);
    } else if (may_block && options.with[BLOCKING]) {
        block();
    }
}

/* ---- sections of random shape ------------------------------------------------------------------------ */

static void take(unsigned protections)
{
    if (protections & RDR_MASKED)
        timers_mask(true);
    if (protections & RDR_NOTRACE_1)
        rcu_read_lock_notrace();
    if (protections & RDR_TRACE_1)
        rcu_read_lock_trace();
    if (protections & RDR_ORDINARY)
        rcu_read_lock();
    if (protections & RDR_NOTRACE_2)
        rcu_read_lock_notrace();
    if (protections & RDR_TRACE_2)
        rcu_read_lock_trace();
}

static void give_up(unsigned protections)
{
    if (protections & RDR_TRACE_1)
        rcu_read_unlock_trace();
    if (protections & RDR_NOTRACE_1)
        rcu_read_unlock_notrace();
    if (protections & RDR_NOTRACE_2)
        rcu_read_unlock_notrace();
    if (protections & RDR_ORDINARY)
        rcu_read_unlock();
    if (protections & RDR_TRACE_2)
        rcu_read_unlock_trace();
    if (protections & RDR_MASKED)
        timers_mask(false);
}

/* A set that protects those flavours. */
static unsigned random_set(unsigned flavours_held)
{
    unsigned set = (unsigned)next_random(&mine->random[0]) & RDR_ALL;

    /* System calls are for few sections. */
    if (below(16))
        set &= ~(unsigned)RDR_MASKED;
    for (unsigned f = 0; f < FLAVOURS; f++) {
        if (!(flavours_held >> f & 1))
            set &= ~protects[f];
        else if (!(set & protects[f]))
            set |= f == NOTRACE ? RDR_NOTRACE_1 : RDR_TRACE_1;
    }
    return set;
}

static long switches(void)
{
    struct rusage usage;

    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nivcsw;
}

static void cover_set(unsigned held, unsigned next)
{
    for (unsigned f = 0; f < FLAVOURS; f++) {
        const unsigned before = held & protects[f], after = next & protects[f];

        if (bits(after) > 1)
            cover(NESTED);
        if (before && after && !(before & after))
            cover(HANDED_OVER);
    }
    if (next & RDR_ORDINARY)
        cover(ORDINARY);
    if (next & RDR_MASKED)
        cover(SIGNALS_MASKED);
    if (next & protects[NOTRACE] && next & protects[TRACE])
        cover(BOTH_FLAVOURS);
}

void random_section(void)
{
    const unsigned segments = one_in(4) ? 1 + below(RDR_MAX_SEGMENTS) : 1;
    const unsigned flavours_held = options.type == 3 && below(3) ? 1 + below(2) : options.type;
    const bool watch_processor = one_in(8), watch_batches = one_in(4);
    const bool polls = watch_batches && flavours_held & 1 << NOTRACE && options.with[POLLING] && one_in(4);
    struct element *held[FLAVOURS] = {NULL, NULL};
    uint64_t batches[FLAVOURS] = {0, 0};
    unsigned set = random_set(flavours_held);
    unsigned long cookie = 0;
    int processor = 0;
    long preemptions = 0;

    if (one_in(4))
        fill_store_buffer();
    take(set);
    cover_set(0, set);
    for (unsigned f = 0; f < FLAVOURS; f++) {
        if (!(flavours_held >> f & 1))
            continue;
        if (watch_batches)
            batches[f] = grace_periods_now(f);
        held[f] = rcu_dereference(flavours[f].current);
    }
    if (polls)
        cookie = one_in(2) ? start_poll_synchronize_rcu() : start_poll_synchronize_rcu_expedited();
    if (watch_processor) {
        processor = sched_getcpu();
        preemptions = switches();
    }
    for (unsigned n = 0;; n++) {
        unsigned next;

        delay(true);
        for (unsigned f = 0; f < FLAVOURS; f++)
            if (held[f] && one_in(2))
                element_judge(counts(), f, held[f]);
        if (n + 1 >= segments)
            break;
        next = random_set(flavours_held);
        take(next & ~set);
        cover_set(set, next);
        give_up(set & ~next);
        set = next;
    }
    if (watch_processor) {
        if (sched_getcpu() != processor)
            cover(MIGRATED);
        if (switches() != preemptions)
            cover(PREEMPTED);
    }
    if (polls) {
        if (poll_state_synchronize_rcu(cookie))
            failure("a cookie has passed in the section in which it was taken");
        cover(POLLED_INSIDE);
    }
    for (unsigned f = 0; f < FLAVOURS; f++) {
        if (!held[f])
            continue;
        element_judge(counts(), f, held[f]);
        if (watch_batches)
            batch_judge(counts(), f, batches[f]);
        bump(&counts()->sections[f]);
    }
    give_up(set);
    if (rcu_read_lock_held() || rcu_read_lock_trace_held())
        failure("a thread is in a section that it has left");
}

/* One section around a load, a moment and a look. */
void short_section(unsigned f)
{
    struct element *e;

    if (f == NOTRACE)
        rcu_read_lock_notrace();
    else
        rcu_read_lock_trace();
    e = rcu_dereference(flavours[f].current);
    spin(below(256));
    element_judge(counts(), f, e);
    bump(&counts()->sections[f]);
    if (f == NOTRACE)
        rcu_read_unlock_notrace();
    else
        rcu_read_unlock_trace();
}

/* ---- the threads --------------------------------------------------------------------------------------- */

void *reader(void *unused)
{
    struct timers timers;

    timers_start(&timers);
    while (!stopping()) {
        beat("reading");
        stutter_wait();
        for (unsigned n = below(64); n; n--)
            random_section();
        delay(false);
        if (one_in(64)) {
            beat("resting");
            sleep_us(below(3000));
        }
        if (one_in(512)) {
            rcu_unregister_thread();
            cover(UNREGISTERED);
        }
        if (one_in(512))
            rcu_register_thread();
    }
    timers_stop(&timers);
    return unused;
}

/* As many sections as there is time for: each loads the pointer and looks at what it finds. One in 256 of them
 * stays for up to 1,024 turns, and another such time goes by before it. */
#define BULK(name, flavour, lock, unlock) \
    static void name(unsigned rounds) \
    { \
        struct counts *c = counts(); \
        struct element **const current = &flavours[flavour].current; \
        uint64_t unremarkable = 0; \
\
        while (rounds--) { \
            const uint64_t random = next_random(&mine->random[0]); \
            struct element *e; \
\
            for (int n = 0; n < 255; n++) { \
                lock(); \
                e = rcu_dereference(*current); \
                if (__builtin_expect(atomic_load_explicit(&e->pipe_count, memory_order_relaxed) != 0 || \
                                         atomic_load_explicit(&e->mark, memory_order_relaxed) != ALIVE, \
                                     0)) \
                    element_judge(c, flavour, e); \
                else \
                    unremarkable++; \
                unlock(); \
            } \
            spin((unsigned)random & 1023); \
            fill_store_buffer(); \
            lock(); \
            e = rcu_dereference(*current); \
            spin((unsigned)(random >> 32) & 1023); \
            element_judge(c, flavour, e); \
            unlock(); \
            add(&c->sections[flavour], 256); \
        } \
        add(&c->pipe[flavour][0], unremarkable); \
    }

BULK(bulk_notrace, NOTRACE, rcu_read_lock_notrace, rcu_read_unlock_notrace)
BULK(bulk_trace, TRACE, rcu_read_lock_trace, rcu_read_unlock_trace)

void *bulk_reader(void *unused)
{
    while (!stopping()) {
        beat("reading at full speed");
        stutter_wait();
        if (has(NOTRACE))
            bulk_notrace(256);
        if (has(TRACE))
            bulk_trace(256);
    }
    return unused;
}

/* A thread that is mostly away, as most threads of most programs are. */
void *idle_reader(void *unused)
{
    while (!stopping()) {
        beat("idle");
        for (unsigned f = 0; f < FLAVOURS; f++)
            if (has(f))
                short_section(f);
        sleep_us(500 + below(2000));
    }
    return unused;
}
