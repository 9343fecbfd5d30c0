/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * librcutrace_heap.so: the malloc family, wrapped. To be preloaded into unmodified programs.
 *
 * Detached, a wrapper is a test that is patched away and a jump to the real function: `real` is never
 * without one, because it begins with functions that find the real ones first. What dlsym(3) itself
 * allocates meanwhile comes from the arena.
 *
 * Telling touches no errno: it makes no system call through the C library and calls nothing of it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "heap_events.h"

#define EXPORT __attribute__((visibility("default")))
#define COLD __attribute__((noinline, cold))
#define APART __attribute__((noinline)) /* what follows is not in the way of the disabled case */
#define CALLER __builtin_extract_return_addr(__builtin_return_address(0))

DEFINE_TRACE(heap_malloc, TP_PROTO(void *block, size_t size, void *caller), TP_ARGS(block, size, caller));
DEFINE_TRACE(heap_calloc, TP_PROTO(void *block, size_t count, size_t size, void *caller),
             TP_ARGS(block, count, size, caller));
DEFINE_TRACE(heap_realloc, TP_PROTO(void *block, uintptr_t old, size_t size, void *caller),
             TP_ARGS(block, old, size, caller));
DEFINE_TRACE(heap_memalign, TP_PROTO(void *block, size_t alignment, size_t size, void *caller),
             TP_ARGS(block, alignment, size, caller));
DEFINE_TRACE(heap_free, TP_PROTO(void *block, void *caller), TP_ARGS(block, caller));

/* ---- the bootstrap arena --------------------------------------------------------------------- */

/* Nothing of it is given back. */
enum { ARENA_SIZE = 65536, ALIGNMENT = 16 };
static _Alignas(ALIGNMENT) char arena[ARENA_SIZE];
static _Atomic size_t arena_used;

static void watch_arena(void);

static inline bool is_of_arena(const void *block)
{
    return (uintptr_t)block - (uintptr_t)arena < ARENA_SIZE;
}

/* A block's size stands in the ALIGNMENT bytes before it. The memory is zero. */
COLD static void *arena_get(size_t alignment, size_t size)
{
    uintptr_t base = (uintptr_t)arena, block;
    size_t used = atomic_load(&arena_used), end;

    if (alignment < ALIGNMENT)
        alignment = ALIGNMENT;
    do {
        block = (base + used + ALIGNMENT + alignment - 1) & ~(uintptr_t)(alignment - 1);
        if (block < base || block - base > ARENA_SIZE || size > ARENA_SIZE - (block - base)) {
            errno = ENOMEM;
            return NULL;
        }
        end = (block - base + size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    } while (!atomic_compare_exchange_weak(&arena_used, &used, end));
    memcpy((void *)(block - ALIGNMENT), &size, sizeof(size));
    watch_arena();
    return (void *)block;
}

static size_t arena_size(const void *block)
{
    size_t size;

    memcpy(&size, (const char *)block - ALIGNMENT, sizeof(size));
    return size;
}

/* ---- the real functions ---------------------------------------------------------------------- */

static bool resolve(void);

/* Each finds the real function and calls it, or serves from the arena: somebody is at it, perhaps
 * the caller himself, whose dlsym allocates. */
static void *early_malloc(size_t size);
static void *early_calloc(size_t count, size_t size);
static void *early_realloc(void *block, size_t size);
static void early_free(void *block);
static int early_posix_memalign(void **pointer, size_t alignment, size_t size);
static void *early_aligned_alloc(size_t alignment, size_t size);
static void *early_memalign(size_t alignment, size_t size);
static void *early_valloc(size_t size);
static void *early_pvalloc(size_t size);

static struct {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void (*free)(void *);
    int (*posix_memalign)(void **, size_t, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    void *(*memalign)(size_t, size_t);
    void *(*valloc)(size_t);
    void *(*pvalloc)(size_t);
} real = {
    early_malloc, early_calloc, early_realloc, early_free, early_posix_memalign,
    early_aligned_alloc, early_memalign, early_valloc, early_pvalloc,
};

/* What comes after us: set before `real` is. */
static void *(*next_realloc)(void *, size_t);
static void (*next_free)(void *);

static void free_unless_of_arena(void *block)
{
    if (!is_of_arena(block))
        next_free(block);
}

COLD static void *realloc_of_arena(void *block, size_t size)
{
    size_t old = arena_size(block);
    void *copy = size ? real.malloc(size) : NULL;

    if (copy)
        memcpy(copy, block, old < size ? old : size);
    return copy;
}

static void *realloc_unless_of_arena(void *block, size_t size)
{
    return is_of_arena(block) ? realloc_of_arena(block, size) : next_realloc(block, size);
}

/* A program that never had a block of the arena, which is the rule, need not look for one in free(). */
static void watch_arena(void)
{
    if (next_free) {
        __atomic_store_n(&real.realloc, realloc_unless_of_arena, __ATOMIC_RELEASE);
        __atomic_store_n(&real.free, free_unless_of_arena, __ATOMIC_RELEASE);
    }
}

static void *find(const char *name)
{
    static const char message[] = "rcutrace: no malloc, or one without all of its functions, comes after us\n";
    void *address = dlsym(RTLD_NEXT, name);

    if (!address) {
        if (write(2, message, sizeof(message) - 1) < 0)
            abort();
        abort();
    }
    return address;
}

/* As POSIX has it for dlsym, and as ISO C allows. */
#define FIND(function, name) \
    do { \
        void *address = find(name); \
        memcpy(&(function), &address, sizeof(address)); \
    } while (0)

/* False: somebody is at it. */
COLD static bool resolve(void)
{
    enum { UNRESOLVED, RESOLVING, RESOLVED };
    static _Atomic int resolution = UNRESOLVED;
    int expected = UNRESOLVED, error = errno;

    if (!atomic_compare_exchange_strong(&resolution, &expected, RESOLVING))
        return expected == RESOLVED;
    FIND(next_realloc, "realloc");
    FIND(next_free, "free");
    FIND(real.malloc, "malloc");
    FIND(real.calloc, "calloc");
    FIND(real.posix_memalign, "posix_memalign");
    FIND(real.aligned_alloc, "aligned_alloc");
    FIND(real.memalign, "memalign");
    FIND(real.valloc, "valloc");
    FIND(real.pvalloc, "pvalloc");
    __atomic_store_n(&real.realloc, next_realloc, __ATOMIC_RELEASE);
    __atomic_store_n(&real.free, next_free, __ATOMIC_RELEASE);
    if (atomic_load(&arena_used))
        watch_arena();
    atomic_store_explicit(&resolution, RESOLVED, memory_order_release);
    errno = error;
    return true;
}

__attribute__((constructor)) static void resolve_at_start(void)
{
    resolve();
}

COLD static void *early_malloc(size_t size)
{
    return resolve() ? real.malloc(size) : arena_get(ALIGNMENT, size);
}

COLD static void *early_calloc(size_t count, size_t size)
{
    size_t bytes;

    if (resolve())
        return real.calloc(count, size);
    if (__builtin_mul_overflow(count, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return arena_get(ALIGNMENT, bytes);
}

COLD static void *early_realloc(void *block, size_t size)
{
    if (resolve())
        return real.realloc(block, size);
    return block ? realloc_of_arena(block, size) : arena_get(ALIGNMENT, size);
}

/* While it is not resolved all blocks are of the arena. */
COLD static void early_free(void *block)
{
    if (resolve())
        real.free(block);
}

COLD static int early_posix_memalign(void **pointer, size_t alignment, size_t size)
{
    void *block;

    if (resolve())
        return real.posix_memalign(pointer, alignment, size);
    block = arena_get(alignment, size);
    if (!block)
        return ENOMEM;
    *pointer = block;
    return 0;
}

COLD static void *early_aligned_alloc(size_t alignment, size_t size)
{
    return resolve() ? real.aligned_alloc(alignment, size) : arena_get(alignment, size);
}

COLD static void *early_memalign(size_t alignment, size_t size)
{
    return resolve() ? real.memalign(alignment, size) : arena_get(alignment, size);
}

COLD static void *early_valloc(size_t size)
{
    return resolve() ? real.valloc(size) : arena_get((size_t)sysconf(_SC_PAGESIZE), size);
}

COLD static void *early_pvalloc(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return resolve() ? real.pvalloc(size) : arena_get(page, (size + page - 1) / page * page);
}

/* ---- the wrapped functions ------------------------------------------------------------------- */

/* Each stands twice: what is called, and what is gone on with while the tracepoint is enabled. */

APART static void *told_malloc(size_t size, void *caller)
{
    void *block = real.malloc(size);

    __do_trace_heap_malloc(block, size, caller);
    return block;
}

EXPORT void *malloc(size_t size)
{
    return trace_heap_malloc_enabled() ? told_malloc(size, CALLER) : real.malloc(size);
}

APART static void *told_calloc(size_t count, size_t size, void *caller)
{
    void *block = real.calloc(count, size);

    __do_trace_heap_calloc(block, count, size, caller);
    return block;
}

EXPORT void *calloc(size_t count, size_t size)
{
    return trace_heap_calloc_enabled() ? told_calloc(count, size, CALLER) : real.calloc(count, size);
}

/* realloc(block, 0) is free(block), in glibc: that is what is told, since it is no failure. */
APART static void *told_realloc(void *block, size_t size, void *caller)
{
    const uintptr_t old = (uintptr_t)block;
    void *result;

    if (block && !size) {
        trace_heap_free(block, caller);
        result = real.realloc(block, size);
        if (result)
            trace_heap_malloc(result, size, caller);
        return result;
    }
    result = real.realloc(block, size);
    __do_trace_heap_realloc(result, old, size, caller);
    return result;
}

EXPORT void *realloc(void *block, size_t size)
{
    return trace_heap_realloc_enabled() ? told_realloc(block, size, CALLER) : real.realloc(block, size);
}

/* glibc's reallocarray() calls realloc() through the PLT, with itself as the caller. */
EXPORT void *reallocarray(void *block, size_t count, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes)) {
        trace_heap_realloc(NULL, (uintptr_t)block, SIZE_MAX, CALLER);
        errno = ENOMEM;
        return NULL;
    }
    return trace_heap_realloc_enabled() ? told_realloc(block, bytes, CALLER) : real.realloc(block, bytes);
}

APART static void told_free(void *block, void *caller)
{
    __do_trace_heap_free(block, caller);
    real.free(block);
}

EXPORT void free(void *block)
{
    if (trace_heap_free_enabled())
        told_free(block, CALLER);
    else
        real.free(block);
}

EXPORT int posix_memalign(void **pointer, size_t alignment, size_t size)
{
    int error = real.posix_memalign(pointer, alignment, size);

    trace_heap_memalign(error ? NULL : *pointer, alignment, size, CALLER);
    return error;
}

EXPORT void *aligned_alloc(size_t alignment, size_t size)
{
    void *block = real.aligned_alloc(alignment, size);

    trace_heap_memalign(block, alignment, size, CALLER);
    return block;
}

EXPORT void *memalign(size_t alignment, size_t size)
{
    void *block = real.memalign(alignment, size);

    trace_heap_memalign(block, alignment, size, CALLER);
    return block;
}

EXPORT void *valloc(size_t size)
{
    void *block = real.valloc(size);

    trace_heap_memalign(block, (size_t)sysconf(_SC_PAGESIZE), size, CALLER);
    return block;
}

EXPORT void *pvalloc(size_t size)
{
    void *block = real.pvalloc(size);

    trace_heap_memalign(block, (size_t)sysconf(_SC_PAGESIZE), size, CALLER);
    return block;
}
