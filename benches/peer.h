/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* One RCU under measurement. Each is a unit of its own, so that each read side is inlined. */
#ifndef PEER_H
#define PEER_H

#include <stdatomic.h>
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
    peer_memb, peer_bp, peer_mb, peer_membarrier;

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

#endif
