/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* One RCU under measurement. Each is a unit of its own, so that each read side is inlined. */
#ifndef PEER_H
#define PEER_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct peer {
    const char *name;
    /* Read-side pairs, `count` of them, nested `depth` deep (1 or 2), each around a load. */
    void (*sections)(unsigned long count, int depth);
    /* One section that lasts about `iterations` of a pause. */
    void (*section_of)(unsigned long iterations);
    void (*synchronize)(void);
    void (*register_thread)(void);
    void (*unregister_thread)(void);
};

extern const struct peer peer_bare, peer_bare_static, peer_notrace, peer_notrace_static,
    peer_expedited, peer_memb, peer_bp, peer_mb, peer_signal, peer_membarrier;

/* Each unit's own, all of one size. */
struct rcu_head;
typedef void callback(struct rcu_head *head);
enum { HEAD_BYTES = 16 };

struct peer_callbacks {
    const char *name;
    /* Enqueues `count` heads, an array. */
    void (*enqueue)(void *heads, size_t count, callback *function);
    void (*barrier)(void);
    void (*register_thread)(void);
    void (*unregister_thread)(void);
};

extern const struct peer_callbacks callbacks_notrace, callbacks_memb, callbacks_bp;

extern int *volatile bench_pointer;

static inline void bench_pause(unsigned long iterations)
{
    for (unsigned long i = 0; i < iterations; i++)
        __asm__ volatile("pause");
}

#define DEFINE_PEER(symbol, title, LOCK, UNLOCK, SYNCHRONIZE, REGISTER, UNREGISTER) \
    static void symbol##_sections(unsigned long count, int depth) \
    { \
        if (depth == 1) { \
            for (unsigned long i = 0; i < count; i++) { \
                LOCK; \
                (void)bench_pointer; \
                UNLOCK; \
            } \
        } else { \
            for (unsigned long i = 0; i < count; i++) { \
                LOCK; \
                LOCK; \
                (void)bench_pointer; \
                UNLOCK; \
                UNLOCK; \
            } \
        } \
    } \
    static void symbol##_section_of(unsigned long iterations) \
    { \
        LOCK; \
        bench_pause(iterations); \
        UNLOCK; \
    } \
    static void symbol##_synchronize(void) \
    { \
        SYNCHRONIZE; \
    } \
    static void symbol##_register(void) \
    { \
        REGISTER; \
    } \
    static void symbol##_unregister(void) \
    { \
        UNREGISTER; \
    } \
    const struct peer peer_##symbol = {title, symbol##_sections, symbol##_section_of, \
                                       symbol##_synchronize, symbol##_register, \
                                       symbol##_unregister}

/* After DEFINE_PEER of the same symbol. */
#define DEFINE_CALLBACKS(symbol, CALL, BARRIER) \
    _Static_assert(sizeof(struct rcu_head) == HEAD_BYTES, "as the benchmark lays them out"); \
    static void symbol##_enqueue(void *heads, size_t count, callback *function) \
    { \
        for (size_t i = 0; i < count; i++) \
            CALL((struct rcu_head *)heads + i, function); \
    } \
    static void symbol##_barrier(void) \
    { \
        BARRIER(); \
    } \
    const struct peer_callbacks callbacks_##symbol = {#symbol, symbol##_enqueue, symbol##_barrier, \
                                                      symbol##_register, symbol##_unregister}

#endif
