/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A thread's ring: the slow half of reserve and commit. It runs in any context: inline system calls
 * only, no lock, no allocation.
 *
 * A writer that finds no room has taken some all the same: `next` is beyond `end` then, and is not
 * `committed`. So whatever handlers do meanwhile is neither outermost nor fits: they drop, take back
 * what they took, and leave everything else alone. This is the lock under which a thread's place
 * changes; `settle` ends it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <string.h>

#include "recorder.h"
#include "sys.h"

EXPORT __thread struct rcutrace_thread rcutrace_thread;
EXPORT uint32_t rcutrace_tsc;

/* A thread's exit hook. A thread in passing has none, or it has run: each of its events borrows a ring. */
enum { UNARMED, ARMED, ARMED_AGAIN, PASSING };

/* What stands before a thread's first record in a chunk: CONTEXT, THREAD, LOST. */
enum { PREAMBLE = (4 + 3 + 2) * 8 };
/* A ring with less room than this is of no use to a next thread. */
enum { USABLE = 512 };

/* ---- stacks of rings ------------------------------------------------------------------------- */

static void push(struct session *session, uint64_t *stack, struct ring *ring)
{
    uint64_t top = __atomic_load_n(stack, __ATOMIC_RELAXED);
    uint64_t fresh;

    do {
        __atomic_store_n(&ring->below, (uint32_t)top, __ATOMIC_RELAXED);
        fresh = (top & ~(uint64_t)UINT32_MAX) + ((uint64_t)1 << 32) +
                (uint64_t)(ring - session->ring) + 1;
        /* Release: the ring's contents. Pairs with pop(). */
    } while (!__atomic_compare_exchange_n(stack, &top, fresh, true, __ATOMIC_RELEASE,
                                          __ATOMIC_RELAXED));
}

static struct ring *pop(struct session *session, uint64_t *stack)
{
    uint64_t top = __atomic_load_n(stack, __ATOMIC_ACQUIRE);
    uint64_t fresh;

    do {
        if (!(uint32_t)top)
            return NULL;
        fresh = (top & ~(uint64_t)UINT32_MAX) + ((uint64_t)1 << 32) +
                __atomic_load_n(&session->ring[(uint32_t)top - 1].below, __ATOMIC_RELAXED);
    } while (!__atomic_compare_exchange_n(stack, &top, fresh, true, __ATOMIC_ACQUIRE,
                                          __ATOMIC_ACQUIRE));
    return &session->ring[(uint32_t)top - 1];
}

static bool has_room(const struct session *session, const struct ring *ring, uintptr_t bytes)
{
    return ring->chunk && ring->next + bytes <= ring->chunk + session->chunk_size;
}

static struct ring *get_ring(struct session *session)
{
    struct ring *ring = pop(session, &session->usable);
    uint32_t number;

    if (!ring)
        ring = pop(session, &session->spent);
    if (ring)
        return ring;
    if (__atomic_load_n(&session->rings, __ATOMIC_RELAXED) >= MOST_RINGS)
        return NULL;
    number = __atomic_fetch_add(&session->rings, 1, __ATOMIC_RELAXED);
    return number < MOST_RINGS ? &session->ring[number] : NULL;
}

static void put_ring(struct session *session, struct ring *ring)
{
    /* In overwrite mode a ring always goes on. */
    if (session->mode == RCUTRACE_DROP_NEWEST && !has_room(session, ring, USABLE)) {
        session_leave_chunk(session, ring);
        push(session, &session->spent, ring);
    } else {
        push(session, ring->chunk ? &session->usable : &session->spent, ring);
    }
}

/* ---- a thread's place ------------------------------------------------------------------------ */

#define BARRIER() __atomic_signal_fence(__ATOMIC_SEQ_CST)

/* As rcutrace_take() is one instruction, so is this. */
static inline void give_back(struct rcutrace_thread *thread, uintptr_t bytes)
{
    rcutrace_take(&thread->next, -bytes);
}

/* A thread without a place, `bytes` of it taken. */
static void settle_nowhere(struct rcutrace_thread *thread, uintptr_t bytes)
{
    BARRIER();
    thread->end = 0;
    BARRIER();
    thread->ring = 0;
    thread->chunk = 0;
    if (bytes) {
        thread->committed = 0;
        BARRIER();
        thread->next = bytes;
    } else {
        thread->next = 0;
        BARRIER();
        thread->committed = 0;
    }
    BARRIER();
}

static uint64_t *put_head(uint64_t *word, unsigned type, unsigned words)
{
    *word = rcutrace_clock() << 16 | (uint64_t)(words + 1) << 8 | type;
    return word + 1;
}

/* The thread's name, and a hash of it, by which a change is noticed. */
static uint32_t read_name(char name[16])
{
    uint32_t hash = 0;

    sys_thread_name(name);
    for (unsigned i = 0; i < 16; i++)
        hash = hash * 31 + (unsigned char)name[i];
    return hash;
}

/* At most PREAMBLE bytes; returns behind them. */
static uint64_t *put_preamble(struct session *session, struct rcutrace_thread *thread,
                              struct ring *ring, uint64_t *word)
{
    uint32_t lost = __atomic_exchange_n(&thread->lost, 0, __ATOMIC_RELAXED);
    bool other = ring->tid != thread->tid;
    char name[16] = "";
    uint32_t hash = read_name(name);

    word = put_head(word, RCUTRACE_CONTEXT, 3);
    word[0] = (uint64_t)thread->tid << 32 | process.pid;
    word[1] = rcutrace_clock();
    word[2] = process.image;
    word += 3;
    ring->tid = thread->tid;
    if (other || hash != thread->name) {
        word = put_head(word, RCUTRACE_THREAD, 2);
        memcpy(word, name, sizeof(name));
        word += 2;
        thread->name = hash;
    }
    if (lost) {
        word = put_head(word, RCUTRACE_LOST, 1);
        *word++ = lost;
        __atomic_fetch_sub(&session->header->lost, lost, __ATOMIC_RELAXED);
    }
    return word;
}

/* The thread goes on in the ring, behind a preamble. */
static void settle(struct session *session, struct rcutrace_thread *thread, struct ring *ring,
                   uint32_t generation)
{
    uint64_t *start = (uint64_t *)ring->next;
    uint64_t *behind = put_preamble(session, thread, ring, start);

    BARRIER();
    thread->end = 0;
    BARRIER();
    thread->ring = (uint32_t)(ring - session->ring) + 1;
    thread->chunk = ring->chunk;
    thread->now = process_generation;
    thread->generation = generation;
    thread->committed = 0;
    BARRIER();
    thread->next = (uintptr_t)behind;
    BARRIER();
    thread->committed = (uintptr_t)start;
    BARRIER();
    thread->end = ring->end;
    rcutrace_commit(start + 1);
}

/* ---- thread exit ----------------------------------------------------------------------------- */

/* Keys below this one have their values in the thread's descriptor; for others pthread_setspecific
 * allocates (glibc's PTHREAD_KEY_2NDLEVEL_SIZE). */
enum { KEYS_WITHOUT_ALLOCATION = 32 };

static pthread_key_t key;
static bool has_key;

static void arm(struct rcutrace_thread *thread)
{
    if (has_key && !pthread_setspecific(key, thread))
        thread->armed = ARMED;
    else
        /* The main thread's ring may as well stay its own for ever. */
        thread->armed = thread->tid == process.pid ? ARMED : PASSING;
}

EXPORT __attribute__((noinline)) void rcutrace_commit_slowly(void)
{
    struct rcutrace_thread *thread = &rcutrace_thread;
    struct session *session;
    struct ring *ring;

    if (!thread->transient)
        return;
    rcu_read_lock_notrace();
    session = rcu_dereference(session_current);
    /* A fork may have come between. */
    if (session && session->serial == thread->session) {
        ring = &session->ring[thread->transient - 1];
        ring->next += ring->pending;
        __atomic_store_n(&((struct rcutrace_chunk *)ring->chunk)->committed,
                         ring->next - ring->chunk, __ATOMIC_RELEASE);
        put_ring(session, ring);
    }
    rcu_read_unlock_notrace();
    thread->transient = 0;
    BARRIER();
    thread->next = 0;
}

/* The place is given up, what handlers have begun and not ended included: they do not come back. */
static void leave(struct session *session, struct rcutrace_thread *thread)
{
    struct ring *ring;

    /* Beyond any end: the lock. */
    rcutrace_take(&thread->next, (uintptr_t)1 << 62);
    ring = thread->ring && thread->session == session->serial ? &session->ring[thread->ring - 1]
                                                              : NULL;
    if (ring && ring->chunk == thread->chunk)
        ring->next = thread->committed;
    settle_nowhere(thread, 0);
    if (ring)
        put_ring(session, ring);
}

void record_leave(void)
{
    struct rcutrace_thread *thread = &rcutrace_thread;
    struct session *session;

    rcu_read_lock_notrace();
    session = rcu_dereference(session_current);
    /* In a child that has not begun yet there is nothing of its own to give. */
    if (session && __atomic_load_n(process_generation, __ATOMIC_RELAXED))
        leave(session, thread);
    rcu_read_unlock_notrace();
}

/* The first time asks to be called again, so as to come after most other destructors. */
static void on_thread_exit(void *unused)
{
    struct rcutrace_thread *thread = &rcutrace_thread;
    char name[16] = "";
    uint32_t hash;

    (void)unused;
    if (thread->armed == ARMED) {
        thread->armed = ARMED_AGAIN;
        if (!pthread_setspecific(key, thread))
            return;
    }
    hash = read_name(name);
    if (thread->chunk && hash != thread->name &&
        thread->generation == __atomic_load_n(process_generation, __ATOMIC_RELAXED)) {
        const struct piece piece = {name, sizeof(name)};

        thread->name = hash;
        record_own(RCUTRACE_THREAD, &piece, 1);
    }
    thread->armed = PASSING;
    record_leave();
}

void record_start(void)
{
    if (!pthread_key_create(&key, on_thread_exit)) {
        has_key = key < KEYS_WITHOUT_ALLOCATION;
        if (!has_key)
            pthread_key_delete(key);
    }
}

/* ---- reserving ------------------------------------------------------------------------------- */

static void count_lost(struct session *session, struct rcutrace_thread *thread, uint64_t head)
{
    if (!session || (head & 255) < RCUTRACE_FIRST_EVENT)
        return;
    __atomic_fetch_add(&thread->lost, 1, __ATOMIC_RELAXED);
    if (BROKEN != COUNT_OF_LOST)
        __atomic_fetch_add(&session->header->lost, 1, __ATOMIC_RELAXED);
}

static uint64_t *put_record(uintptr_t start, uint64_t head)
{
    *(uint64_t *)start = rcutrace_clock() << 16 | head;
    return (uint64_t *)start + 1;
}

/* This thread's ring of this session, or one that nobody has; NULL: there are no more. */
static struct ring *find_ring(struct session *session, struct rcutrace_thread *thread)
{
    struct ring *ring;

    if (!thread->ring)
        return get_ring(session);
    ring = &session->ring[thread->ring - 1];
    if (ring->chunk == thread->chunk)
        ring->next = thread->committed;
    return ring;
}

/* A ring with room for `bytes` behind a preamble. */
static bool make_room(struct session *session, struct ring *ring, uintptr_t bytes)
{
    bytes += PREAMBLE;
    if (!has_room(session, ring, bytes) && !session_next_chunk(session, ring))
        return false;
    while (ring->next + bytes > ring->end)
        if (!session_extend(session, ring))
            return false;
    return true;
}

/* Borrows the ring until the commit. */
static uint64_t *write_in_passing(struct session *session, struct rcutrace_thread *thread,
                                  struct ring *ring, uint64_t head, uintptr_t bytes)
{
    uintptr_t start = ring->next;

    if (ring->tid != thread->tid || start == ring->chunk + RCUTRACE_CHUNK_HEADER)
        start = (uintptr_t)put_preamble(session, thread, ring, (uint64_t *)start);
    ring->pending = (uint32_t)(start + bytes - ring->next);
    thread->transient = (uint32_t)(ring - session->ring) + 1;
    return put_record(start, head);
}

static uint64_t *write_behind_preamble(struct session *session, struct rcutrace_thread *thread,
                                       struct ring *ring, uint64_t head, uintptr_t bytes,
                                       uint32_t generation)
{
    settle(session, thread, ring, generation);
    return put_record(rcutrace_take(&thread->next, bytes), head);
}

/* The chunk goes on, further than it was populated. */
static uint64_t *extend(struct session *session, struct rcutrace_thread *thread, uint64_t head,
                        uintptr_t bytes)
{
    struct ring *ring = &session->ring[thread->ring - 1];

    if (thread->committed + bytes > thread->chunk + session->chunk_size ||
        !session_extend(session, ring))
        return NULL;
    thread->end = ring->end;
    return put_record(thread->committed, head);
}

/* `bytes` are taken, from where the thread's records end; so they are when this returns, with or without a
 * record. */
static uint64_t *reserve_outermost(struct session *session, struct rcutrace_thread *thread,
                                   uint64_t head, uintptr_t bytes)
{
    uint32_t generation = __atomic_load_n(process_generation, __ATOMIC_ACQUIRE);
    uint64_t *payload = NULL, signals;
    struct ring *ring;

    if (thread->session != session->serial && (BROKEN != OTHER_SESSION || !thread->session)) {
        settle_nowhere(thread, bytes);
        thread->tid = sys_gettid();
        thread->session = session->serial;
        /* Those are in the other file's header, or the parent's to report. */
        __atomic_store_n(&thread->lost, 0, __ATOMIC_RELAXED);
    }
    if (thread->armed == UNARMED)
        arm(thread);
    if (thread->armed == PASSING) {
        settle_nowhere(thread, bytes);
    } else if (thread->chunk && thread->generation == generation) {
        payload = extend(session, thread, head, bytes);
        if (payload)
            return payload;
    }
    ring = find_ring(session, thread);
    if (!ring)
        return NULL;
    if (has_room(session, ring, bytes + PREAMBLE) || session_may_have_chunk(session, ring)) {
        /* So that handlers come when the thread has its place, and need not drop. */
        signals = BROKEN == SIGNALS_BLOCKED ? 0 : sys_block_signals(HELD_BACK);
        if (make_room(session, ring, bytes))
            payload = thread->armed == PASSING
                          ? write_in_passing(session, thread, ring, head, bytes)
                          : write_behind_preamble(session, thread, ring, head, bytes, generation);
        if (BROKEN != SIGNALS_BLOCKED)
            sys_restore_signals(signals);
    }
    if (!payload && thread->armed == PASSING)
        put_ring(session, ring);
    else
        thread->ring = (uint32_t)(ring - session->ring) + 1;
    return payload;
}

/* At the image's first event. Again, where nothing found room, with every event that needs some, for a reader must
 * know whose they are; and not too often while a part found none. By one. */
static bool must_announce(struct session *session)
{
    uint64_t at = __atomic_load_n(&session->announce_at, __ATOMIC_RELAXED);

    if (!__atomic_load_n(&session->announced, __ATOMIC_RELAXED))
        return !__atomic_exchange_n(&session->announced, 1, __ATOMIC_RELAXED);
    return at && (int64_t)(rcutrace_clock() - at) > 0 &&
           __atomic_compare_exchange_n(&session->announce_at, &at, 0, false, __ATOMIC_RELAXED,
                                       __ATOMIC_RELAXED);
}

EXPORT __attribute__((noinline)) uint64_t *rcutrace_reserve_slowly(uintptr_t start, uint64_t head)
{
    struct rcutrace_thread *thread = &rcutrace_thread;
    const uintptr_t bytes = (uintptr_t)(head >> 8) * 8;
    struct session *session;
    uint64_t *payload = NULL;
    bool begun;

    rcu_read_lock_notrace();
    begun = process_generation && process_begin_child();
    session = rcu_dereference(session_current);
    if (session && begun && start == thread->committed && !thread->transient) {
        if (must_announce(session)) {
            give_back(thread, bytes);
            if (!process_announce(session))
                __atomic_store_n(&session->announce_at, session->introduced ? rcutrace_clock() + PATIENCE : 1,
                                 __ATOMIC_RELAXED);
            start = rcutrace_take(&thread->next, bytes);
        }
        if (start == thread->committed)
            payload = reserve_outermost(session, thread, head, bytes);
    }
    if (!payload) {
        give_back(thread, bytes);
        count_lost(session, thread, head);
    }
    rcu_read_unlock_notrace();
    return payload;
}

void record_announce(void)
{
    char name[16] = "";
    const struct piece piece = {name, sizeof(name)};

    read_name(name);
    record_own(RCUTRACE_THREAD, &piece, 1);
}

/* What readers cannot do without stays, in overwrite mode too. By the writer of a record, before its commit. */
static void keep(void)
{
    const struct rcutrace_thread *thread = &rcutrace_thread;
    uint32_t ring = thread->transient ? thread->transient : thread->ring;
    struct session *session = rcu_dereference(session_current);

    if (session && session->serial == thread->session && ring && BROKEN != KEPT_CHUNKS)
        session_keep_chunk(session, &session->ring[ring - 1]);
}

bool record_own(unsigned type, const struct piece *pieces, unsigned count)
{
    const struct rcutrace_event event = {NULL, (uint8_t)type};
    size_t size = 0, room;
    unsigned words;
    uint64_t *payload;
    char *at;

    for (unsigned i = 0; i < count; i++)
        size += pieces[i].size;
    if (size > MOST_PAYLOAD)
        size = MOST_PAYLOAD;
    words = (unsigned)((size + 7) / 8);
    rcu_read_lock_notrace();
    payload = rcutrace_reserve(&event, words);
    if (payload) {
        payload[words - 1] = 0;
        at = (char *)payload;
        room = size;
        for (unsigned i = 0; i < count && room; i++) {
            size_t part = pieces[i].size < room ? pieces[i].size : room;

            memcpy(at, pieces[i].bytes, part);
            at += part;
            room -= part;
        }
        /* Each ends with a string, which is ended though it be cut. */
        if (type != RCUTRACE_EXIT && type != RCUTRACE_THREAD)
            ((char *)payload)[size - 1] = 0;
        if (type == RCUTRACE_PROCESS || type == RCUTRACE_MAP || type == RCUTRACE_TYPE)
            keep();
        rcutrace_commit(payload);
    }
    rcu_read_unlock_notrace();
    return payload;
}
