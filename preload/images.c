/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * New images, of exec and of spawning: they get what the program means, and not what the kernel has in its place.
 */
#include "preload.h"
#include "real.h"
#include "../tracers/sys.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- exec ------------------------------------------------------------------------------------------------- */

/* Others may send without end. */
enum { MOST_SENT_BACK = 100000 };

static bool take_pending(int signal, siginfo_t *info)
{
    uint64_t set = bit(signal);
    struct timespec now = {0, 0};

    return sys_call(SYS_rt_sigtimedwait, (long)&set, (long)info, (long)&now, 8, 0, 0) == signal;
}

/* Signals that are pending for the thread or the process stay so in the new image; as themselves. None may be left: the
 * handler would be called for it, with the signal blocked. The first would merge with an IPI that is pending, and be lost:
 * so that is taken away, and rescued. */
static void send_back_pending(void)
{
    uint32_t process = sys_getpid(), thread = sys_gettid();
    siginfo_t info, ipis;

    for (int i = 0; i < MOST_SENT_BACK; i++) {
        if (!take_pending(stand_in, &info))
            return;
        restore_info(&info);
        info.si_signo = ipi_signal;
        if (i == 0 && ipi_signal < 34)
            take_pending(ipi_signal, &ipis);
        if (sys_call(SYS_rt_tgsigqueueinfo, process, thread, ipi_signal, (long)&info, 0, 0))
            sys_call(SYS_tgkill, process, thread, ipi_signal, 0, 0, 0);
    }
}

struct before_exec {
    uint64_t mask;
    bool is_blocked, is_ignored, ignores_stand_in;
};

static void before_exec(struct before_exec *before)
{
    before->is_blocked = before->is_ignored = before->ignores_stand_in = false;
    if (!ipi_signal || BROKEN == MASKS_OF_IMAGES)
        return;
    sys_call(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&before->mask, 8, 0, 0);
    before->is_ignored = begin_image();
    before->is_blocked = before->mask & bit(stand_in);
    if (before->is_blocked) {
        sys_restore_signals(before->mask | bit(ipi_signal));
        send_back_pending();
        sys_restore_signals(for_program(before->mask));
    }
    /* Not before what is pending of it was sent back. */
    before->ignores_stand_in = ignore_stand_in();
}

static int after_exec(const struct before_exec *before, int result)
{
    int error = errno;

    if (before->ignores_stand_in)
        handle_stand_in();
    if (before->is_ignored)
        end_image();
    if (before->is_blocked)
        sys_restore_signals(before->mask);
    errno = error;
    return result;
}

#define EXEC(call) \
    struct before_exec before; \
    int result; \
\
    before_exec(&before); \
    result = call; \
    return after_exec(&before, result)

EXPORT int execve(const char *path, char *const *arguments, char *const *environment)
{
    EXEC(real.execve(path, arguments, environment));
}

EXPORT int execv(const char *path, char *const *arguments)
{
    return execve(path, arguments, environ);
}

EXPORT int execvpe(const char *file, char *const *arguments, char *const *environment)
{
    EXEC(real.execvpe(file, arguments, environment));
}

EXPORT int execvp(const char *file, char *const *arguments)
{
    return execvpe(file, arguments, environ);
}

EXPORT int fexecve(int fd, char *const *arguments, char *const *environment)
{
    EXEC(real.fexecve(fd, arguments, environment));
}

EXPORT int execveat(int fd, const char *path, char *const *arguments, char *const *environment, int flags)
{
    EXEC(real.execveat(fd, path, arguments, environment, flags));
}

/* The arguments are on the stack, as a vector: no memory is asked for between fork and exec. */
#define LISTED(first, list, call) \
    va_list list; \
    size_t count = 1; \
\
    va_start(list, first); \
    while (va_arg(list, char *)) \
        count++; \
    va_end(list); \
    char *arguments[count + 1]; \
    va_start(list, first); \
    arguments[0] = (char *)(uintptr_t)first; \
    for (size_t i = 1; i <= count; i++) \
        arguments[i] = va_arg(list, char *); \
    char *const *environment = environ; \
    call

EXPORT int execl(const char *path, const char *first, ...)
{
    int result;

    LISTED(first, list, va_end(list); result = execve(path, arguments, environment));
    return result;
}

EXPORT int execlp(const char *file, const char *first, ...)
{
    int result;

    LISTED(first, list, va_end(list); result = execvpe(file, arguments, environment));
    return result;
}

EXPORT int execle(const char *path, const char *first, ...)
{
    int result;

    LISTED(first, list, environment = va_arg(list, char *const *); va_end(list);
           result = execve(path, arguments, environment));
    return result;
}

/* ---- spawning --------------------------------------------------------------------------------------------------- */

typedef int spawn_function SPAWN_TYPES;

/* The child's mask is what the program takes for ours, unless it says which. */
static int spawn_blocking(spawn_function *real_spawn, pid_t *child, const char *path,
                          const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
                          char *const *arguments, char *const *environment)
{
    posix_spawnattr_t copy;
    uint64_t mask = 0;
    sigset_t set;
    short flags;

    sys_call(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&mask, 8, 0, 0);
    if (attributes)
        copy = *attributes;
    else
        posix_spawnattr_init(&copy);
    posix_spawnattr_getflags(&copy, &flags);
    if (mask & bit(stand_in) && !(flags & POSIX_SPAWN_SETSIGMASK)) {
        sigemptyset(&set);
        set_word(&set, for_program(mask));
        posix_spawnattr_setsigmask(&copy, &set);
        posix_spawnattr_setflags(&copy, (short)(flags | POSIX_SPAWN_SETSIGMASK));
        attributes = &copy;
    }
    return real_spawn(child, path, actions, attributes, arguments, environment);
}

static int spawn(spawn_function *real_spawn, pid_t *child, const char *path,
                 const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
                 char *const *arguments, char *const *environment)
{
    bool ignored;
    int error;

    if (!ipi_signal)
        return real_spawn(child, path, actions, attributes, arguments, environment);
    ignored = begin_image();
    error = spawn_blocking(real_spawn, child, path, actions, attributes, arguments, environment);
    if (ignored)
        end_image();
    return error;
}

EXPORT int posix_spawn(pid_t *child, const char *path, const posix_spawn_file_actions_t *actions,
                       const posix_spawnattr_t *attributes, char *const *arguments, char *const *environment)
{
    return spawn(real.posix_spawn, child, path, actions, attributes, arguments, environment);
}

EXPORT int posix_spawnp(pid_t *child, const char *file, const posix_spawn_file_actions_t *actions,
                        const posix_spawnattr_t *attributes, char *const *arguments, char *const *environment)
{
    return spawn(real.posix_spawnp, child, file, actions, attributes, arguments, environment);
}

#ifdef HAS_SPAWN_OF_PIDFD
EXPORT int pidfd_spawn(int *child, const char *path, const posix_spawn_file_actions_t *actions,
                       const posix_spawnattr_t *attributes, char *const *arguments, char *const *environment)
{
    return spawn(real.pidfd_spawn, child, path, actions, attributes, arguments, environment);
}

EXPORT int pidfd_spawnp(int *child, const char *file, const posix_spawn_file_actions_t *actions,
                        const posix_spawnattr_t *attributes, char *const *arguments, char *const *environment)
{
    return spawn(real.pidfd_spawnp, child, file, actions, attributes, arguments, environment);
}
#endif

/* The shell is to ignore what the program ignores. Not so system(3): the kernel would have to ignore IPIs until the shell
 * ends. */
EXPORT FILE *popen(const char *command, const char *type)
{
    bool ignored = ipi_signal && begin_image();
    FILE *file = real.popen(command, type);

    if (ignored)
        end_image();
    return file;
}
