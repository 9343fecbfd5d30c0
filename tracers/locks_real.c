/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Finds the real lock functions: see locks_real.h.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "locks_real.h"

static void resolve(void);

#define EARLY(name, version, parameters, arguments) \
    __attribute__((cold)) static int early_##name(parameters) \
    { \
        resolve(); \
        return real.name arguments; \
    }
LOCK_FUNCTIONS(EARLY)

struct lock_functions real = {
#define INITIAL(name, version, parameters, arguments) early_##name,
    LOCK_FUNCTIONS(INITIAL)
};

/* What dlsym(3) comes back with: a malloc that takes a lock while the first of its callers finds the
 * functions. These are glibc's own other names for them, which need no dlsym. */
extern int internal_lock(pthread_mutex_t *) __asm__("__pthread_mutex_lock");
extern int internal_trylock(pthread_mutex_t *) __asm__("__pthread_mutex_trylock");
extern int internal_unlock(pthread_mutex_t *) __asm__("__pthread_mutex_unlock");
#pragma weak internal_lock
#pragma weak internal_trylock
#pragma weak internal_unlock
static __thread bool resolving;

__attribute__((cold, noreturn)) static void die(const char *message, size_t length)
{
    if (write(2, message, length) < 0)
        abort();
    abort();
}

static void find(void **function, const char *name, const char *version)
{
    void *address = version ? dlvsym(RTLD_NEXT, name, version) : NULL;

    if (!address)
        address = dlsym(RTLD_NEXT, name);
    /* A function that an older C library has not got stays as it is: nobody can be linked to it. */
    if (address)
        __atomic_store_n(function, address, __ATOMIC_RELEASE);
}

__attribute__((cold)) static void resolve(void)
{
    static const char message[] = "rcutrace: dlsym takes a lock of a kind that cannot be had yet\n";
    int error = errno;

    if (resolving) {
        if (!internal_lock || !internal_trylock || !internal_unlock ||
            real.pthread_mutex_lock == internal_lock)
            die(message, sizeof(message) - 1);
        real.pthread_mutex_lock = internal_lock;
        real.pthread_mutex_trylock = internal_trylock;
        real.pthread_mutex_unlock = internal_unlock;
        return;
    }
    resolving = true;
#define FIND(name, version, parameters, arguments) find((void **)(void *)&real.name, #name, version);
    LOCK_FUNCTIONS(FIND)
    resolving = false;
    errno = error;
}

__attribute__((constructor)) static void resolve_at_start(void)
{
    resolve();
}
