/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * librcu_heap.so: a heap tracer to be preloaded into unmodified programs.
 *
 * Each wrapped function does the real call and tells of it. The section is around the probes only,
 * not around the real call. The telling touches no errno: it makes no system call and calls
 * nothing of the C library but malloc_usable_size().
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "heap.h"

#define EXPORT __attribute__((visibility("default")))
#define likely(condition) __builtin_expect(!!(condition), 1)

/* ---- the real functions ---------------------------------------------------------------------- */

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
    size_t (*malloc_usable_size)(void *);
} real;

enum { UNRESOLVED, RESOLVING, RESOLVED };
static _Atomic int resolution = UNRESOLVED;

static void find(void *function, const char *name)
{
    void *address = dlsym(RTLD_NEXT, name);

    if (!address)
        heap_die("rcu-heap: no malloc, or one without all of its functions, comes after us\n");
    /* As POSIX has it for dlsym, and as ISO C allows. */
    memcpy(function, &address, sizeof(address));
}

/* False: somebody is at it, perhaps the caller himself, whose dlsym allocates. */
__attribute__((noinline, cold)) static bool resolve(void)
{
    int expected = UNRESOLVED, error = errno;

    if (!atomic_compare_exchange_strong(&resolution, &expected, RESOLVING))
        return expected == RESOLVED;
    find(&real.malloc, "malloc");
    find(&real.calloc, "calloc");
    find(&real.realloc, "realloc");
    find(&real.free, "free");
    find(&real.posix_memalign, "posix_memalign");
    find(&real.aligned_alloc, "aligned_alloc");
    find(&real.memalign, "memalign");
    find(&real.valloc, "valloc");
    find(&real.pvalloc, "pvalloc");
    find(&real.malloc_usable_size, "malloc_usable_size");
    atomic_store_explicit(&resolution, RESOLVED, memory_order_release);
    errno = error;
    return true;
}

static inline bool ready(void)
{
    return likely(atomic_load_explicit(&resolution, memory_order_acquire) == RESOLVED) ||
           resolve();
}

/* ---- the bootstrap arena --------------------------------------------------------------------- */

/* For what dlsym allocates while it finds malloc. Nothing is given back. */
enum { ARENA_SIZE = 65536, ALIGNMENT = 16 };
static _Alignas(ALIGNMENT) char arena[ARENA_SIZE];
static _Atomic size_t arena_used;

static inline bool is_of_arena(const void *block)
{
    return (uintptr_t)block - (uintptr_t)arena < ARENA_SIZE;
}

/* A block's size stands in the ALIGNMENT bytes before it. The memory is zero. */
static void *arena_get(size_t alignment, size_t size)
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
    return (void *)block;
}

static size_t arena_size(const void *block)
{
    size_t size;

    memcpy(&size, (const char *)block - ALIGNMENT, sizeof(size));
    return size;
}

/* ---- telling --------------------------------------------------------------------------------- */

static inline size_t usable(void *block)
{
    return block ? real.malloc_usable_size(block) : 0;
}

/* A call that asked for `size` bytes, got `block` for it (NULL: it failed) and gave back `freed`. */
static inline void tell(enum heap_function function, void *block, size_t size, size_t freed)
{
    const struct heap_event event = {
        .function = function,
        .failed = !block,
        .allocates = true,
        .requested = block ? size : 0,
        .allocated = usable(block),
        .freed = freed,
    };

    heap_event(&event);
}

static inline void tell_free(enum heap_function function, size_t freed)
{
    const struct heap_event event = {.function = function, .freed = freed};

    heap_event(&event);
}

/* ---- the wrapped functions ------------------------------------------------------------------- */

EXPORT void *malloc(size_t size)
{
    void *block;

    if (!ready())
        return arena_get(ALIGNMENT, size);
    block = real.malloc(size);
    tell(HEAP_MALLOC, block, size, 0);
    return block;
}

EXPORT void *calloc(size_t count, size_t size)
{
    size_t bytes;
    void *block;

    if (!ready()) {
        if (__builtin_mul_overflow(count, size, &bytes)) {
            errno = ENOMEM;
            return NULL;
        }
        return arena_get(ALIGNMENT, bytes);
    }
    block = real.calloc(count, size);
    tell(HEAP_CALLOC, block, count * size, 0);
    return block;
}

/* realloc() of a block of the arena, or while there is no real one. */
__attribute__((noinline, cold)) static void *realloc_arena(enum heap_function function, void *block,
                                                           size_t size)
{
    size_t old = block ? arena_size(block) : 0;
    void *copy = NULL;

    if (!block || size) {
        if (!ready()) {
            copy = arena_get(ALIGNMENT, size);
        } else {
            copy = real.malloc(size);
            tell(function, copy, size, 0);
        }
    }
    if (copy && old)
        memcpy(copy, block, old < size ? old : size);
    return copy;
}

static void *reallocate(enum heap_function function, void *block, size_t size)
{
    size_t old;
    void *result;

    if (!ready() || is_of_arena(block))
        return realloc_arena(function, block, size);
    old = usable(block);
    result = real.realloc(block, size);
    if (!result && block && !size)
        tell_free(function, old); /* glibc's realloc(block, 0) is free(block) */
    else
        tell(function, result, size, result ? old : 0);
    return result;
}

EXPORT void *realloc(void *block, size_t size)
{
    return reallocate(HEAP_REALLOC, block, size);
}

/* glibc's reallocarray() calls realloc() through the PLT, which would be told of as well. */
EXPORT void *reallocarray(void *block, size_t count, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes)) {
        if (ready())
            tell(HEAP_REALLOCARRAY, NULL, 0, 0);
        errno = ENOMEM;
        return NULL;
    }
    return reallocate(HEAP_REALLOCARRAY, block, bytes);
}

/* Told of before the real call: once that has begun, another thread may get the block. */
EXPORT void free(void *block)
{
    if (!ready() || is_of_arena(block))
        return;
    tell_free(HEAP_FREE, usable(block));
    real.free(block);
}

EXPORT int posix_memalign(void **pointer, size_t alignment, size_t size)
{
    void *block;
    int error;

    if (!ready()) {
        block = arena_get(alignment, size);
        if (!block)
            return ENOMEM;
        *pointer = block;
        return 0;
    }
    error = real.posix_memalign(pointer, alignment, size);
    tell(HEAP_POSIX_MEMALIGN, error ? NULL : *pointer, size, 0);
    return error;
}

EXPORT void *aligned_alloc(size_t alignment, size_t size)
{
    void *block;

    if (!ready())
        return arena_get(alignment, size);
    block = real.aligned_alloc(alignment, size);
    tell(HEAP_ALIGNED_ALLOC, block, size, 0);
    return block;
}

EXPORT void *memalign(size_t alignment, size_t size)
{
    void *block;

    if (!ready())
        return arena_get(alignment, size);
    block = real.memalign(alignment, size);
    tell(HEAP_MEMALIGN, block, size, 0);
    return block;
}

/* Counted as memalign, of which they are old forms. */
EXPORT void *valloc(size_t size)
{
    void *block;

    if (!ready())
        return arena_get((size_t)sysconf(_SC_PAGESIZE), size);
    block = real.valloc(size);
    tell(HEAP_MEMALIGN, block, size, 0);
    return block;
}

EXPORT void *pvalloc(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *block;

    if (!ready())
        return arena_get(page, (size + page - 1) / page * page);
    block = real.pvalloc(size);
    tell(HEAP_MEMALIGN, block, size, 0);
    return block;
}
