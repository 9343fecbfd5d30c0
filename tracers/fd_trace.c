/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * librcutrace_fd.so: what opens and closes file descriptors, wrapped. To be preloaded into unmodified programs.
 *
 * Detached, a wrapper is a test that is patched away and a jump to the real function. Enabled, the real
 * function is called, of any kind: no section is open meanwhile, so that it may block, and be cancelled. An
 * open or accept that is cancelled is not told of; a close is. errno is left as the real function left it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
/* open() is to be open(), no inline function and no open64(). */
#undef _FORTIFY_SOURCE
#undef _FILE_OFFSET_BITS
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "fd_events.h"
#include "fd_real.h"
#include "rcutrace.h"
#include "sys.h"

#define EXPORT __attribute__((visibility("default")))
#define APART __attribute__((noinline)) /* what follows is not in the way of the disabled case */
#define CALLER __builtin_extract_return_addr(__builtin_return_address(0))

DEFINE_TRACE(fd_open, TP_PROTO(int fd, const char *what, void *caller), TP_ARGS(fd, what, caller));
DEFINE_TRACE(fd_close, TP_PROTO(int fd, int result, void *caller), TP_ARGS(fd, result, caller));

/* ---- children of vfork ----------------------------------------------------------------------- */

/*
 * They have our memory, and descriptors of their own, of which nothing is to be told as the parent's. They
 * are who is not the process that stands here; in a child of fork it is zero.
 */
static uint32_t no_process;
static uint32_t *process = &no_process;

static void note_process(void)
{
    if (process != &no_process)
        *(volatile uint32_t *)process = sys_getpid();
}

__attribute__((constructor)) static void begin(void)
{
    uint32_t *page = sys_mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (!page)
        return;
    if (sys_madvise(page, 4096, MADV_WIPEONFORK)) {
        sys_munmap(page, 4096);
        return;
    }
    process = page;
    note_process();
    /* At once: the child may be one that calls vfork before anything else. */
    pthread_atfork(NULL, NULL, note_process);
}

/* The recorder's business is none of the program's either. */
static bool is_to_be_told(void)
{
    if (rcutrace_is_own())
        return false;
    if (process == &no_process)
        return true;
    if (!*(volatile uint32_t *)process)
        note_process();
    return *(volatile uint32_t *)process == sys_getpid();
}

/* ---- telling --------------------------------------------------------------------------------- */

/* Whether the kernel must have read the path to come to this: else it may point nowhere. */
static bool path_was_read(int error)
{
    switch (error) {
    case EACCES: case EEXIST: case EISDIR: case ELOOP: case EMFILE: case ENAMETOOLONG: case ENFILE:
    case ENODEV: case ENOENT: case ENOSPC: case ENOTDIR: case ENXIO: case EROFS: case ETXTBSY:
        return true;
    default:
        return false;
    }
}

/* One place to be patched for each of the two. */
APART static int tell_open(int fd, const char *what, void *caller)
{
    const int error = errno;

    trace_fd_open(fd < 0 ? -error : fd, what, caller);
    return fd;
}

APART static void tell_close(int fd, int result, void *caller)
{
    trace_fd_close(fd, result, caller);
}

static int tell_path(int fd, const char *path, void *caller)
{
    return tell_open(fd, fd >= 0 || path_was_read(errno) ? path : "?", caller);
}

static int tell_two(int result, const int *two, const char *what, void *caller)
{
    if (result)
        return tell_open(result, what, caller);
    tell_open(two[0], what, caller);
    tell_open(two[1], what, caller);
    return result;
}

static int tell_copy(int fd, int of, void *caller)
{
    char text[] = "dup of -2147483648", digits[12];
    char *to = text + sizeof("dup of ") - 1;
    int64_t rest = of;
    int count = 0;

    if (rest < 0) {
        *to++ = '-';
        rest = -rest;
    }
    do
        digits[count++] = (char)('0' + rest % 10);
    while (rest /= 10);
    while (count)
        *to++ = digits[--count];
    *to = 0;
    return tell_open(fd, text, caller);
}

/* Told before: afterwards the number may be another thread's. */
#define CLOSED(number, call) \
    const int fd_ = number; \
    int result; \
    if (fd_ >= 0) \
        tell_close(fd_, 0, caller); \
    result = call; \
    if (result) \
        tell_close(fd_, -errno, caller); \
    return result

/* What a wrapper is, and its slow half, which begins with what `how` says. */
#define LIST(...) __VA_ARGS__
#define TOLD(result, name, parameters, arguments, how) \
    APART static result told_##name(LIST parameters, void *caller) \
    { \
        if (!is_to_be_told()) \
            return real.name arguments; \
        how(real.name arguments); \
    }
#define WRAPPED(event, result, name, parameters, arguments, how) \
    TOLD(result, name, parameters, arguments, how) \
    EXPORT result name parameters \
    { \
        if (trace_##event##_enabled()) \
            return told_##name(LIST arguments, CALLER); \
        return real.name arguments; \
    }

/* ---- files ----------------------------------------------------------------------------------- */

#define PATH_OPENED(call) return tell_path(call, path, caller)

/* What is passed for `...`, or nothing, is where a named parameter would be: it goes on as it came. */
#define WRAPPED_VARIADIC(name, parameters, arguments, condition, how) \
    TOLD(int, name, parameters, arguments, how) \
    EXPORT int wrapped_##name parameters __asm__(#name); \
    int wrapped_##name parameters \
    { \
        if (trace_fd_open_enabled() && (condition)) \
            return told_##name(LIST arguments, CALLER); \
        return real.name arguments; \
    }
#define WRAPPED_OPEN(name) \
    WRAPPED_VARIADIC(name, (const char *path, int flags, mode_t mode), (path, flags, mode), true, PATH_OPENED)
#define WRAPPED_OPENAT(name) \
    WRAPPED_VARIADIC(name, (int directory, const char *path, int flags, mode_t mode), \
                     (directory, path, flags, mode), true, PATH_OPENED)
WRAPPED_OPEN(open)
WRAPPED_OPEN(open64)
WRAPPED_OPENAT(openat)
WRAPPED_OPENAT(openat64)

/* What _FORTIFY_SOURCE makes of calls without a mode. */
EXPORT int __open_2 PATH_FLAGS_P;
EXPORT int __open64_2 PATH_FLAGS_P;
EXPORT int __openat_2 AT_FLAGS_P;
EXPORT int __openat64_2 AT_FLAGS_P;
WRAPPED(fd_open, int, __open_2, PATH_FLAGS_P, (path, flags), PATH_OPENED)
WRAPPED(fd_open, int, __open64_2, PATH_FLAGS_P, (path, flags), PATH_OPENED)
WRAPPED(fd_open, int, __openat_2, AT_FLAGS_P, (directory, path, flags), PATH_OPENED)
WRAPPED(fd_open, int, __openat64_2, AT_FLAGS_P, (directory, path, flags), PATH_OPENED)

WRAPPED(fd_open, int, creat, CREAT_P, (path, mode), PATH_OPENED)
WRAPPED(fd_open, int, creat64, CREAT_P, (path, mode), PATH_OPENED)
WRAPPED(fd_open, int, mkstemp, TEMPLATE_P, (path), PATH_OPENED)
WRAPPED(fd_open, int, mkstemp64, TEMPLATE_P, (path), PATH_OPENED)
WRAPPED(fd_open, int, mkostemp, TEMPLATE_FLAGS_P, (path, flags), PATH_OPENED)
WRAPPED(fd_open, int, mkostemp64, TEMPLATE_FLAGS_P, (path, flags), PATH_OPENED)

#define STREAM_OPENED(call) \
    FILE *const file = call; \
    tell_path(file ? fileno(file) : -1, path, caller); \
    return file
#define DIRECTORY_OPENED(call) \
    DIR *const directory = call; \
    tell_path(directory ? dirfd(directory) : -1, path, caller); \
    return directory
WRAPPED(fd_open, FILE *, fopen, STDIO_P, (path, mode), STREAM_OPENED)
WRAPPED(fd_open, FILE *, fopen64, STDIO_P, (path, mode), STREAM_OPENED)
WRAPPED(fd_open, DIR *, opendir, (const char *path), (path), DIRECTORY_OPENED)

/* ---- copies ---------------------------------------------------------------------------------- */

#define COPIED(call) return tell_copy(call, fd, caller)
/* To itself: nothing is opened. */
#define COPIED_TO(call) \
    const int result = call; \
    return result >= 0 && result == fd ? result : tell_copy(result, fd, caller)
WRAPPED(fd_open, int, dup, (int fd), (fd), COPIED)
WRAPPED(fd_open, int, dup2, (int fd, int to), (fd, to), COPIED_TO)
WRAPPED(fd_open, int, dup3, (int fd, int to, int flags), (fd, to, flags), COPIED)

#define WRAPPED_FCNTL(name) \
    WRAPPED_VARIADIC(name, (int fd, int command, void *argument), (fd, command, argument), \
                     command == F_DUPFD || command == F_DUPFD_CLOEXEC, COPIED)
WRAPPED_FCNTL(fcntl)
WRAPPED_FCNTL(fcntl64)

/* ---- what has no name ------------------------------------------------------------------------ */

#define NAMELESS(name, parameters, arguments, how) \
    WRAPPED(fd_open, int, name, parameters, arguments, how)
#define SOCKET_OPENED(call) return tell_open(call, "socket", caller)
#define SOCKETS_OPENED(call) return tell_two(call, two, "socket", caller)
#define CONNECTION_OPENED(call) return tell_open(call, "accept", caller)
#define PIPE_OPENED(call) return tell_two(call, two, "pipe", caller)
#define EVENT_OPENED(call) return tell_open(call, "eventfd", caller)
#define EPOLL_OPENED(call) return tell_open(call, "epoll", caller)
#define TIMER_OPENED(call) return tell_open(call, "timerfd", caller)
#define INOTIFY_OPENED(call) return tell_open(call, "inotify", caller)
#define MEMORY_OPENED(call) return tell_open(call, "memfd", caller)
/* Given a descriptor, it changes that. */
#define SIGNAL_OPENED(call) \
    const int result = call; \
    return fd >= 0 ? result : tell_open(result, "signalfd", caller)
NAMELESS(socket, (int domain, int type, int protocol), (domain, type, protocol), SOCKET_OPENED)
NAMELESS(accept, (SOCKADDR_P), (fd, address, length), CONNECTION_OPENED)
NAMELESS(accept4, (SOCKADDR_P, int flags), (fd, address, length, flags), CONNECTION_OPENED)
NAMELESS(socketpair, (int domain, int type, int protocol, int two[2]), (domain, type, protocol, two), SOCKETS_OPENED)
NAMELESS(pipe, (int two[2]), (two), PIPE_OPENED)
NAMELESS(pipe2, (int two[2], int flags), (two, flags), PIPE_OPENED)
NAMELESS(eventfd, (unsigned count, int flags), (count, flags), EVENT_OPENED)
NAMELESS(epoll_create, (int size), (size), EPOLL_OPENED)
NAMELESS(epoll_create1, (int flags), (flags), EPOLL_OPENED)
NAMELESS(timerfd_create, (clockid_t clock, int flags), (clock, flags), TIMER_OPENED)
NAMELESS(signalfd, (int fd, const sigset_t *set, int flags), (fd, set, flags), SIGNAL_OPENED)
NAMELESS(inotify_init1, (int flags), (flags), INOTIFY_OPENED)
NAMELESS(memfd_create, (const char *name, unsigned flags), (name, flags), MEMORY_OPENED)

APART static int told_inotify_init(void *caller)
{
    return is_to_be_told() ? tell_open(real.inotify_init(), "inotify", caller) : real.inotify_init();
}

EXPORT int inotify_init(void)
{
    return trace_fd_open_enabled() ? told_inotify_init(CALLER) : real.inotify_init();
}

/* ---- closing --------------------------------------------------------------------------------- */

/* -1 of a stream in memory. errno stays. */
static int number_of_stream(FILE *file)
{
    const int error = errno, fd = fileno(file);

    errno = error;
    return fd;
}

/* closedir(NULL) is an error, and no more; its declaration lets the compiler believe that there is none. */
static int number_of_directory(DIR *directory)
{
    __asm__("" : "+r"(directory));
    return directory ? dirfd(directory) : -1;
}

#define NUMBER_CLOSED(call) CLOSED(fd, call)
#define STREAM_CLOSED(call) CLOSED(number_of_stream(file), call)
#define DIRECTORY_CLOSED(call) CLOSED(number_of_directory(directory), call)
WRAPPED(fd_close, int, close, (int fd), (fd), NUMBER_CLOSED)
WRAPPED(fd_close, int, fclose, (FILE *file), (file), STREAM_CLOSED)
WRAPPED(fd_close, int, closedir, (DIR *directory), (directory), DIRECTORY_CLOSED)
