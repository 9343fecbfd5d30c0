/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The functions of the C library (or of whoever comes after us).
 *
 * `real` is never without a function: it begins with ones that find the real ones first. That may come before our
 * constructor has run, in several threads at once (all find the same), and again from within dlsym(3), if the
 * program's malloc changes its mask there: see real.c.
 */
#ifndef REAL_H
#define REAL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/types.h>
#include <time.h>

#define POLL_TYPES (struct pollfd *, nfds_t, const struct timespec *, const sigset_t *)
#define SPAWN_TYPES \
    (pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const *, \
     char *const *)
#define SPAWN_PARAMETERS \
    (pid_t * a, const char *b, const posix_spawn_file_actions_t *c, const posix_spawnattr_t *d, char *const *e, \
     char *const *f)

/* A child's descriptor in place of its number. Programs ask whether there are such functions: there are, where the C library's
 * are. */
#if __GLIBC_PREREQ(2, 39)
#define HAS_SPAWN_OF_PIDFD
#define SPAWN_OF_PIDFD(FUNCTION) \
    FUNCTION(int, pidfd_spawn, SPAWN_TYPES, SPAWN_PARAMETERS, (a, b, c, d, e, f)) \
    FUNCTION(int, pidfd_spawnp, SPAWN_TYPES, SPAWN_PARAMETERS, (a, b, c, d, e, f))
#else
#define SPAWN_OF_PIDFD(FUNCTION)
#endif

/* FUNCTION(result, name, types, parameters, arguments) */
#define REAL_FUNCTIONS(FUNCTION) \
    FUNCTION(int, sigaction, (int, const struct sigaction *, struct sigaction *), \
             (int a, const struct sigaction *b, struct sigaction *c), (a, b, c)) \
    FUNCTION(sighandler_t, signal, (int, sighandler_t), (int a, sighandler_t b), (a, b)) \
    FUNCTION(sighandler_t, sysv_signal, (int, sighandler_t), (int a, sighandler_t b), (a, b)) \
    FUNCTION(sighandler_t, sigset, (int, sighandler_t), (int a, sighandler_t b), (a, b)) \
    FUNCTION(int, sigignore, (int), (int a), (a)) \
    FUNCTION(int, sighold, (int), (int a), (a)) \
    FUNCTION(int, sigrelse, (int), (int a), (a)) \
    FUNCTION(int, siginterrupt, (int, int), (int a, int b), (a, b)) \
    FUNCTION(int, __sigpause, (int, int), (int a, int b), (a, b)) \
    FUNCTION(int, sigprocmask, (int, const sigset_t *, sigset_t *), \
             (int a, const sigset_t *b, sigset_t *c), (a, b, c)) \
    FUNCTION(int, pthread_sigmask, (int, const sigset_t *, sigset_t *), \
             (int a, const sigset_t *b, sigset_t *c), (a, b, c)) \
    FUNCTION(int, sigpending, (sigset_t *), (sigset_t * a), (a)) \
    FUNCTION(int, sigsuspend, (const sigset_t *), (const sigset_t *a), (a)) \
    FUNCTION(int, sigwait, (const sigset_t *, int *), (const sigset_t *a, int *b), (a, b)) \
    FUNCTION(int, sigwaitinfo, (const sigset_t *, siginfo_t *), (const sigset_t *a, siginfo_t *b), (a, b)) \
    FUNCTION(int, sigtimedwait, (const sigset_t *, siginfo_t *, const struct timespec *), \
             (const sigset_t *a, siginfo_t *b, const struct timespec *c), (a, b, c)) \
    FUNCTION(int, signalfd, (int, const sigset_t *, int), (int a, const sigset_t *b, int c), (a, b, c)) \
    FUNCTION(ssize_t, read, (int, void *, size_t), (int a, void *b, size_t c), (a, b, c)) \
    FUNCTION(int, ppoll, POLL_TYPES, \
             (struct pollfd * a, nfds_t b, const struct timespec *c, const sigset_t *d), (a, b, c, d)) \
    FUNCTION(int, pselect, \
             (int, fd_set *, fd_set *, fd_set *, const struct timespec *, const sigset_t *), \
             (int a, fd_set *b, fd_set *c, fd_set *d, const struct timespec *e, const sigset_t *f), \
             (a, b, c, d, e, f)) \
    FUNCTION(int, epoll_pwait, (int, struct epoll_event *, int, int, const sigset_t *), \
             (int a, struct epoll_event *b, int c, int d, const sigset_t *e), (a, b, c, d, e)) \
    FUNCTION(int, epoll_pwait2, \
             (int, struct epoll_event *, int, const struct timespec *, const sigset_t *), \
             (int a, struct epoll_event *b, int c, const struct timespec *d, const sigset_t *e), \
             (a, b, c, d, e)) \
    FUNCTION(int, pthread_attr_setsigmask_np, (pthread_attr_t *, const sigset_t *), \
             (pthread_attr_t * a, const sigset_t *b), (a, b)) \
    FUNCTION(int, pthread_attr_getsigmask_np, (const pthread_attr_t *, sigset_t *), \
             (const pthread_attr_t *a, sigset_t *b), (a, b)) \
    FUNCTION(int, raise, (int), (int a), (a)) \
    FUNCTION(int, kill, (pid_t, int), (pid_t a, int b), (a, b)) \
    FUNCTION(int, sigqueue, (pid_t, int, const union sigval), (pid_t a, int b, const union sigval c), \
             (a, b, c)) \
    FUNCTION(int, pthread_kill, (pthread_t, int), (pthread_t a, int b), (a, b)) \
    FUNCTION(int, pthread_sigqueue, (pthread_t, int, const union sigval), \
             (pthread_t a, int b, const union sigval c), (a, b, c)) \
    FUNCTION(int, tgkill, (pid_t, pid_t, int), (pid_t a, pid_t b, int c), (a, b, c)) \
    FUNCTION(int, execve, (const char *, char *const *, char *const *), \
             (const char *a, char *const *b, char *const *c), (a, b, c)) \
    FUNCTION(int, execvpe, (const char *, char *const *, char *const *), \
             (const char *a, char *const *b, char *const *c), (a, b, c)) \
    FUNCTION(int, fexecve, (int, char *const *, char *const *), \
             (int a, char *const *b, char *const *c), (a, b, c)) \
    FUNCTION(int, execveat, (int, const char *, char *const *, char *const *, int), \
             (int a, const char *b, char *const *c, char *const *d, int e), (a, b, c, d, e)) \
    FUNCTION(int, posix_spawn, SPAWN_TYPES, SPAWN_PARAMETERS, (a, b, c, d, e, f)) \
    FUNCTION(int, posix_spawnp, SPAWN_TYPES, SPAWN_PARAMETERS, (a, b, c, d, e, f)) \
    SPAWN_OF_PIDFD(FUNCTION) \
    FUNCTION(FILE *, popen, (const char *, const char *), (const char *a, const char *b), (a, b))

struct real_functions {
#define MEMBER(result, name, types, parameters, arguments) result(*name) types;
    REAL_FUNCTIONS(MEMBER)
#undef MEMBER
};
extern struct real_functions real;

/* Finds them all, so that no signal handler has to. */
void find_real_functions(void);

#endif
