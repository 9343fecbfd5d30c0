/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Finds the real functions: see real.h.
 */
#include "real.h"
#include "../tracers/sys.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

/* An older C library may not have them all. */
#define EARLY(result, name, types, parameters, arguments) \
    __attribute__((cold)) static result early_##name parameters \
    { \
        find_real_functions(); \
        if (real.name == early_##name) { \
            errno = ENOSYS; \
            return (result)-1; \
        } \
        return real.name arguments; \
    }
REAL_FUNCTIONS(EARLY)

struct real_functions real = {
#define INITIAL(result, name, types, parameters, arguments) early_##name,
    REAL_FUNCTIONS(INITIAL)
};

static __thread bool finding;

static long answer(long result)
{
    if (result >= 0)
        return result;
    errno = (int)-result;
    return -1;
}

/* What dlsym(3) comes back with: a malloc that blocks signals or reads a file while the first of its callers
 * finds the functions. */
static int raw_sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
    return (int)answer(sys_call(SYS_rt_sigprocmask, how, (long)set, (long)old, 8, 0, 0));
}

static int raw_pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
    return (int)-sys_call(SYS_rt_sigprocmask, how, (long)set, (long)old, 8, 0, 0);
}

static ssize_t raw_read(int fd, void *bytes, size_t size)
{
    return answer(sys_call(SYS_read, fd, (long)bytes, (long)size, 0, 0, 0));
}

__attribute__((cold, noreturn)) static void die(void)
{
    static const char message[] = "rcu-notrace: preload: dlsym calls what cannot be had yet\n";

    sys_call(SYS_write, 2, (long)message, sizeof(message) - 1, 0, 0, 0);
    abort();
}

static void find(void **function, const char *name)
{
    void *address = dlsym(RTLD_NEXT, name);

    if (address)
        __atomic_store_n(function, address, __ATOMIC_RELEASE);
}

__attribute__((cold)) void find_real_functions(void)
{
    int error = errno;

    if (finding) {
        if (real.read == raw_read)
            die();
        real.sigprocmask = raw_sigprocmask;
        real.pthread_sigmask = raw_pthread_sigmask;
        real.read = raw_read;
        return;
    }
    finding = true;
#define FIND(result, name, types, parameters, arguments) find((void **)(void *)&real.name, #name);
    REAL_FUNCTIONS(FIND)
    finding = false;
    errno = error;
}
