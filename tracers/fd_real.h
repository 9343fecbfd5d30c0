/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The functions that open and close file descriptors, of the C library (or of another tracer that comes after us).
 *
 * `real` is never without a function: it begins with ones that find the real ones first. That may
 * come before our constructor has run, in several threads at once (all find the same), and again from
 * within dlsym(3), if the program's malloc opens a file there: see fd_real.c.
 */
#ifndef FD_REAL_H
#define FD_REAL_H

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/types.h>

/* FUNCTION(result, name, types, parameters, arguments). The types are those of a pointer to it: `...` is
 * passed otherwise than what is named. */
#define SAME(FUNCTION, result, name, parameters, arguments) \
    FUNCTION(result, name, parameters, parameters, arguments)
#define PATH_FLAGS_P (const char *path, int flags)
#define AT_FLAGS_P (int directory, const char *path, int flags)
#define CREAT_P (const char *path, mode_t mode)
#define TEMPLATE_P (char *path)
#define TEMPLATE_FLAGS_P (char *path, int flags)
#define SOCKADDR_P int fd, __SOCKADDR_ARG address, socklen_t *length
#define STDIO_P (const char *path, const char *mode)

#define FD_FUNCTIONS(FUNCTION) \
    FUNCTION(int, open, (const char *, int, ...), (const char *path, int flags, mode_t mode), (path, flags, mode)) \
    FUNCTION(int, open64, (const char *, int, ...), (const char *path, int flags, mode_t mode), (path, flags, mode)) \
    FUNCTION(int, openat, (int, const char *, int, ...), \
             (int directory, const char *path, int flags, mode_t mode), (directory, path, flags, mode)) \
    FUNCTION(int, openat64, (int, const char *, int, ...), \
             (int directory, const char *path, int flags, mode_t mode), (directory, path, flags, mode)) \
    FUNCTION(int, fcntl, (int, int, ...), (int fd, int command, void *argument), (fd, command, argument)) \
    FUNCTION(int, fcntl64, (int, int, ...), (int fd, int command, void *argument), (fd, command, argument)) \
    SAME(FUNCTION, int, __open_2, PATH_FLAGS_P, (path, flags)) \
    SAME(FUNCTION, int, __open64_2, PATH_FLAGS_P, (path, flags)) \
    SAME(FUNCTION, int, __openat_2, AT_FLAGS_P, (directory, path, flags)) \
    SAME(FUNCTION, int, __openat64_2, AT_FLAGS_P, (directory, path, flags)) \
    SAME(FUNCTION, int, creat, CREAT_P, (path, mode)) \
    SAME(FUNCTION, int, creat64, CREAT_P, (path, mode)) \
    SAME(FUNCTION, int, mkstemp, TEMPLATE_P, (path)) \
    SAME(FUNCTION, int, mkstemp64, TEMPLATE_P, (path)) \
    SAME(FUNCTION, int, mkostemp, TEMPLATE_FLAGS_P, (path, flags)) \
    SAME(FUNCTION, int, mkostemp64, TEMPLATE_FLAGS_P, (path, flags)) \
    SAME(FUNCTION, int, dup, (int fd), (fd)) \
    SAME(FUNCTION, int, dup2, (int fd, int to), (fd, to)) \
    SAME(FUNCTION, int, dup3, (int fd, int to, int flags), (fd, to, flags)) \
    SAME(FUNCTION, int, socket, (int domain, int type, int protocol), (domain, type, protocol)) \
    SAME(FUNCTION, int, accept, (SOCKADDR_P), (fd, address, length)) \
    SAME(FUNCTION, int, accept4, (SOCKADDR_P, int flags), (fd, address, length, flags)) \
    SAME(FUNCTION, int, socketpair, (int domain, int type, int protocol, int two[2]), (domain, type, protocol, two)) \
    SAME(FUNCTION, int, pipe, (int two[2]), (two)) \
    SAME(FUNCTION, int, pipe2, (int two[2], int flags), (two, flags)) \
    SAME(FUNCTION, int, eventfd, (unsigned count, int flags), (count, flags)) \
    SAME(FUNCTION, int, epoll_create, (int size), (size)) \
    SAME(FUNCTION, int, epoll_create1, (int flags), (flags)) \
    SAME(FUNCTION, int, timerfd_create, (clockid_t clock, int flags), (clock, flags)) \
    SAME(FUNCTION, int, signalfd, (int fd, const sigset_t *set, int flags), (fd, set, flags)) \
    SAME(FUNCTION, int, inotify_init, (void), ()) \
    SAME(FUNCTION, int, inotify_init1, (int flags), (flags)) \
    SAME(FUNCTION, int, memfd_create, (const char *name, unsigned flags), (name, flags)) \
    SAME(FUNCTION, int, close, (int fd), (fd)) \
    SAME(FUNCTION, FILE *, fopen, STDIO_P, (path, mode)) \
    SAME(FUNCTION, FILE *, fopen64, STDIO_P, (path, mode)) \
    SAME(FUNCTION, int, fclose, (FILE *file), (file)) \
    SAME(FUNCTION, DIR *, opendir, (const char *path), (path)) \
    SAME(FUNCTION, int, closedir, (DIR *directory), (directory))

struct fd_functions {
#define MEMBER(result, name, types, parameters, arguments) result(*name) types;
    FD_FUNCTIONS(MEMBER)
#undef MEMBER
};
extern struct fd_functions real;

#endif
