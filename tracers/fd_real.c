/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Finds the real functions: see fd_real.h.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "fd_real.h"
#include "sys.h"

static void resolve(void);

#define EARLY(result, name, types, parameters, arguments) \
    __attribute__((cold)) static result early_##name parameters \
    { \
        resolve(); \
        return real.name arguments; \
    }
FD_FUNCTIONS(EARLY)

struct fd_functions real = {
/* What is passed for `...` is where the named parameter would be, on the machines that there is a tracer for. */
#define INITIAL(result, name, types, parameters, arguments) (result(*) types)(void (*)(void)) early_##name,
    FD_FUNCTIONS(INITIAL)
};

static __thread bool resolving;

static int answer(long result)
{
    if (result >= 0)
        return (int)result;
    errno = (int)-result;
    return -1;
}

/* What dlsym(3) comes back with: a malloc that reads a file while the first of its callers finds the functions. */
static int raw_openat(int directory, const char *path, int flags, mode_t mode)
{
    return answer(sys_call(SYS_openat, directory, (long)path, flags, mode, 0, 0));
}

static int raw_open(const char *path, int flags, mode_t mode)
{
    return raw_openat(AT_FDCWD, path, flags, mode);
}

static int raw_close(int fd)
{
    return answer(sys_call(SYS_close, fd, 0, 0, 0, 0, 0));
}

__attribute__((cold, noreturn)) static void die(void)
{
    static const char message[] = "rcutrace: dlsym opens a descriptor in a way that cannot be had yet\n";

    sys_call(SYS_write, 2, (long)message, sizeof(message) - 1, 0, 0, 0);
    abort();
}

static void find(void **function, const char *name)
{
    void *address = dlsym(RTLD_NEXT, name);

    /* A function that an older C library has not got stays as it is: nobody can be linked to it. */
    if (address)
        __atomic_store_n(function, address, __ATOMIC_RELEASE);
}

__attribute__((cold)) static void resolve(void)
{
    typedef int open_function(const char *, int, ...);
    typedef int openat_function(int, const char *, int, ...);
    int error = errno;

    if (resolving) {
        if (real.close == raw_close)
            die();
        real.open = real.open64 = (open_function *)(void (*)(void))raw_open;
        real.openat = real.openat64 = (openat_function *)(void (*)(void))raw_openat;
        real.close = raw_close;
        return;
    }
    resolving = true;
#define FIND(result, name, types, parameters, arguments) find((void **)(void *)&real.name, #name);
    FD_FUNCTIONS(FIND)
    resolving = false;
    errno = error;
}

__attribute__((constructor)) static void resolve_at_start(void)
{
    resolve();
}
