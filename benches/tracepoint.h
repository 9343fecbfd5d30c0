/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A tracepoint under measurement. Each is a shared object of its own, loaded when its form needs it. */
#ifndef BENCH_TRACEPOINT_H
#define BENCH_TRACEPOINT_H

struct bench_tracepoint {
    /* `count` times a step of work that does not wait for the tracepoint beside it, and that. */
    unsigned long (*work)(unsigned long count);
    /* `count` times the tracepoint. */
    void (*alone)(unsigned long count);
    /* Registers and unregisters a probe that does nothing. */
    int (*attach)(void);
    int (*detach)(void);
};

#define DEFINE_TRACEPOINT_UNIT(HIT, ATTACH, DETACH) \
    static unsigned long work(unsigned long count) \
    { \
        unsigned long x = count; \
        for (unsigned long i = 0; i < count; i++) { \
            HIT(i); \
            x = x * 6364136223846793005ul + 1442695040888963407ul; \
        } \
        return x; \
    } \
    static void alone(unsigned long count) \
    { \
        for (unsigned long i = 0; i < count; i++) \
            HIT(i); \
    } \
    static int attach(void) \
    { \
        return ATTACH; \
    } \
    static int detach(void) \
    { \
        return DETACH; \
    } \
    extern const struct bench_tracepoint bench_tracepoint; \
    const struct bench_tracepoint bench_tracepoint = {work, alone, attach, detach}

static void __attribute__((noinline, unused)) empty_probe(void *data, unsigned long n)
{
    __asm__ volatile("" : : "r"(data), "r"(n));
}

#endif
