/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Masks, and waiting with another mask or for signals: the sets are translated, the rest is the kernel's.
 */
#include "preload.h"
#include "real.h"
#include "../tracers/sys.h"

#include <errno.h>
#include <stdatomic.h>
#include <unistd.h>

static void translate_back(sigset_t *set)
{
    if (set && ipi_signal)
        set_word(set, for_program(word_of(set)));
}

/* What to change a mask by. Who unblocks the IPI's signal unblocks it also where it was really blocked: by a raw
 * system call, or before we started. A mask with the stand-in alone is the kernel's own, from a handler's context; not
 * if it looks like one of all signals but the IPI's. */
static const sigset_t *change_of(int how, const sigset_t *set, sigset_t *copy)
{
    const sigset_t *change = kernel_set(set, copy);
    uint64_t both = bit(ipi_signal) | bit(stand_in);

    if (change != copy)
        return change;
    if (how == SIG_UNBLOCK && word_of(set) & bit(ipi_signal))
        set_word(copy, word_of(copy) | bit(ipi_signal));
    if (how == SIG_SETMASK && (word_of(set) & (both | bit(neighbour()))) == bit(stand_in))
        set_word(copy, word_of(set));
    return change;
}

EXPORT int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
    sigset_t copy;
    int result = real.sigprocmask(how, change_of(how, set, &copy), old);

    if (!result)
        translate_back(old);
    return result;
}

EXPORT int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
    sigset_t copy;
    int error = real.pthread_sigmask(how, change_of(how, set, &copy), old);

    if (!error)
        translate_back(old);
    return error;
}

EXPORT int pthread_attr_setsigmask_np(pthread_attr_t *attributes, const sigset_t *set)
{
    sigset_t copy;

    return real.pthread_attr_setsigmask_np(attributes, kernel_set(set, &copy));
}

EXPORT int pthread_attr_getsigmask_np(const pthread_attr_t *attributes, sigset_t *set)
{
    int result = real.pthread_attr_getsigmask_np(attributes, set);

    if (!result)
        translate_back(set);
    return result;
}

EXPORT int sigpending(sigset_t *set)
{
    int result = real.sigpending(set);

    if (!result && ipi_signal && word_of(set) & bit(stand_in))
        set_word(set, (word_of(set) & ~bit(stand_in)) | bit(ipi_signal));
    return result;
}

/* ---- one signal, and masks of BSD -------------------------------------------------------------------------- */

static int change_one(int how, int signal)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, signal);
    return sigprocmask(how, &set, NULL);
}

EXPORT int sighold(int signal)
{
    return is_one_of_both(signal) ? change_one(SIG_BLOCK, signal) : real.sighold(signal);
}

EXPORT int sigrelse(int signal)
{
    return is_one_of_both(signal) ? change_one(SIG_UNBLOCK, signal) : real.sigrelse(signal);
}

static int change_bsd(int how, int mask)
{
    sigset_t set, old;

    sigemptyset(&set);
    set_word(&set, (unsigned)mask);
    if (sigprocmask(how, &set, &old))
        return -1;
    return (int)word_of(&old);
}

EXPORT int sigblock(int mask);
EXPORT int sigsetmask(int mask);
EXPORT int siggetmask(void);

int sigblock(int mask)
{
    return change_bsd(SIG_BLOCK, mask);
}

int sigsetmask(int mask)
{
    return change_bsd(SIG_SETMASK, mask);
}

int siggetmask(void)
{
    return change_bsd(SIG_BLOCK, 0);
}

/* ---- waiting with another mask --------------------------------------------------------------------------------- */

/* A signal of the program's that came while the program waited with this mask was sent on as the stand-in; but
 * the mask that is in force again after the wait may block that, which the other did not. It was to be handled
 * before the wait returned. */
static void after_waiting(const sigset_t *set, const sigset_t *mask)
{
    uint64_t pending = 0, before, during;
    int error = errno;

    if (!set || !ipi_signal || error != EINTR || word_of(mask) & bit(stand_in) || BROKEN == AFTER_WAITING)
        return;
    sys_call(SYS_rt_sigpending, (long)&pending, 8, 0, 0, 0, 0);
    if (!(pending & bit(stand_in)))
        return;
    during = word_of(mask);
    sys_call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&during, (long)&before, 8, 0, 0);
    sys_restore_signals(before);
    errno = error;
}

/* WAIT(call with `mask`) */
#define WAIT(call) \
    sigset_t copy; \
    const sigset_t *mask = kernel_set(set, &copy); \
    int result = call; \
\
    if (result < 0) \
        after_waiting(set, mask); \
    return result

EXPORT int sigsuspend(const sigset_t *set)
{
    WAIT(real.sigsuspend(mask));
}

EXPORT int __sigsuspend(const sigset_t *);

int __sigsuspend(const sigset_t *set)
{
    return sigsuspend(set);
}

/* Ends by a handler of the program's and by nothing else. So IPIs wait, unless the program handles what comes as one: this
 * thread does not answer, and is flagged. */
EXPORT int pause(void)
{
    sigset_t mask;
    uint64_t now = 0;

    sys_call(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&now, 8, 0, 0);
    if (ipi_signal && has_no_effect() && BROKEN != PAUSE)
        now |= bit(ipi_signal);
    sigemptyset(&mask);
    set_word(&mask, now);
    return real.sigsuspend(&mask);
}

EXPORT int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *set)
{
    WAIT(real.ppoll(fds, count, timeout, mask));
}

/* What -D_FORTIFY_SOURCE makes of ppoll. */
extern void __chk_fail(void) __attribute__((noreturn));
EXPORT int __ppoll_chk(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t);

int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *set,
                size_t size)
{
    if (size / sizeof(*fds) < count)
        __chk_fail();
    return ppoll(fds, count, timeout, set);
}

EXPORT int pselect(int count, fd_set *in, fd_set *out, fd_set *other, const struct timespec *timeout,
                   const sigset_t *set)
{
    WAIT(real.pselect(count, in, out, other, timeout, mask));
}

EXPORT int epoll_pwait(int fd, struct epoll_event *events, int most, int timeout, const sigset_t *set)
{
    WAIT(real.epoll_pwait(fd, events, most, timeout, mask));
}

EXPORT int epoll_pwait2(int fd, struct epoll_event *events, int most, const struct timespec *timeout,
                        const sigset_t *set)
{
    WAIT(real.epoll_pwait2(fd, events, most, timeout, mask));
}

static int pause_without(int signal_or_mask, int is_signal)
{
    sigset_t set;

    sigemptyset(&set);
    if (!is_signal) {
        set_word(&set, (unsigned)signal_or_mask);
    } else {
        sigprocmask(SIG_BLOCK, NULL, &set);
        sigdelset(&set, signal_or_mask);
    }
    return sigsuspend(&set);
}

/* What <signal.h> calls: sigpause is one of two functions there. */
EXPORT int __xpg_sigpause(int signal);
#undef sigpause
EXPORT int bsd_sigpause(int mask) __asm__("sigpause");

EXPORT int __sigpause(int signal_or_mask, int is_signal)
{
    if (ipi_signal && (!is_signal || is_one_of_both(signal_or_mask)))
        return pause_without(signal_or_mask, is_signal);
    return real.__sigpause(signal_or_mask, is_signal);
}

int __xpg_sigpause(int signal)
{
    return __sigpause(signal, 1);
}

int bsd_sigpause(int mask)
{
    return __sigpause(mask, 0);
}

/* ---- waiting for signals ------------------------------------------------------------------------------------------ */

/* What to wait for. A thread that has blocked the IPI's signal by a raw system call may wait for it: then that
 * is left alone. */
static const sigset_t *awaited(const sigset_t *set, sigset_t *copy)
{
    const sigset_t *wait = kernel_set(set, copy);
    uint64_t blocked = 0;

    if (wait == copy && word_of(set) & bit(ipi_signal)) {
        sys_call(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&blocked, 8, 0, 0);
        set_word(copy, word_of(copy) | (blocked & bit(ipi_signal)));
    }
    return wait;
}

EXPORT int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout)
{
    static const struct timespec now = {0, 0};
    sigset_t copy;
    const sigset_t *wait = awaited(set, &copy);
    siginfo_t own;
    int signal;

    if (wait != &copy)
        return real.sigtimedwait(set, info, timeout);
    if (!info)
        info = &own;
    signal = real.sigtimedwait(wait, info, timeout);
    /* It came as the IPI's signal, which interrupted the wait, and was sent on. */
    if (signal < 0 && errno == EINTR) {
        signal = real.sigtimedwait(wait, info, &now);
        if (signal < 0)
            errno = EINTR;
    }
    if (signal != stand_in || !restore_info(info))
        return signal;
    /* So says the C library. */
    if (info->si_code == SI_TKILL)
        info->si_code = SI_USER;
    return ipi_signal;
}

EXPORT int sigwaitinfo(const sigset_t *set, siginfo_t *info)
{
    return sigtimedwait(set, info, NULL);
}

EXPORT int sigwait(const sigset_t *set, int *signal)
{
    sigset_t copy;
    const sigset_t *wait = awaited(set, &copy);
    int error;

    error = real.sigwait(wait, signal);
    if (!error && wait == &copy && *signal == stand_in && word_of(set) & bit(ipi_signal))
        *signal = ipi_signal;
    return error;
}

/* ---- signalfd -------------------------------------------------------------------------------------------------------- */

/* Whether there is any that reads the IPI's signal. */
static atomic_bool has_signalfd;

EXPORT int signalfd(int fd, const sigset_t *set, int flags)
{
    sigset_t copy;
    const sigset_t *wait = awaited(set, &copy);

    if (wait == &copy && word_of(set) & bit(ipi_signal))
        has_signalfd = true;
    return real.signalfd(fd, wait, flags);
}

/* Says which signal it was, in what was read from such a file. A record says of itself that it was sent on; that
 * other files hold what looks like one is as good as excluded. */
static void name_signals(char *bytes, ssize_t size)
{
    struct signalfd_siginfo record;
    siginfo_t info;

    for (; size >= (ssize_t)sizeof(record); bytes += sizeof(record), size -= (ssize_t)sizeof(record)) {
        memcpy(&record, bytes, sizeof(record));
        if (record.ssi_signo != (uint32_t)stand_in)
            continue;
        memset(&info, 0, sizeof(info));
        info.si_errno = record.ssi_errno;
        info.si_code = record.ssi_code;
        info.si_pid = (pid_t)record.ssi_pid;
        info.si_uid = record.ssi_uid;
        info.si_value.sival_ptr = (void *)(uintptr_t)record.ssi_ptr;
        if (restore_info(&info))
            record.ssi_signo = (uint32_t)ipi_signal;
        record.ssi_errno = info.si_errno;
        record.ssi_code = info.si_code;
        if (!info.si_value.sival_ptr)
            record.ssi_ptr = 0, record.ssi_int = 0;
        memcpy(bytes, &record, sizeof(record));
    }
}

EXPORT ssize_t read(int fd, void *bytes, size_t size)
{
    ssize_t result = real.read(fd, bytes, size);

    if (has_signalfd && BROKEN != SIGNALFD && result >= (ssize_t)sizeof(struct signalfd_siginfo))
        name_signals(bytes, result);
    return result;
}

EXPORT ssize_t __read_chk(int, void *, size_t, size_t);

ssize_t __read_chk(int fd, void *bytes, size_t size, size_t room)
{
    if (room < size)
        __chk_fail();
    return read(fd, bytes, size);
}
