/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Masks, and waiting with another mask or for signals: the sets are translated, the rest is the kernel's.
 */
#include "preload.h"
#include "real.h"
#include "../tracers/sys.h"

#include <errno.h>
#include <sys/stat.h>
#include <ucontext.h>
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

__thread bool has_sent_on;

/* A signal of the program's that came while the program waited with this mask was sent on as the stand-in; but
 * the mask that is in force again after the wait may block that, which the other did not. It was to be handled
 * before the wait returned. */
static void after_waiting(const sigset_t *set, const sigset_t *mask)
{
    uint64_t pending = 0, before, during;
    int error = errno;

    if (!has_sent_on || !set || error != EINTR || word_of(mask) & bit(stand_in) || BROKEN == AFTER_WAITING)
        return;
    has_sent_on = false;
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

static int suspend_without(int signal_or_mask, int is_signal)
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
        return suspend_without(signal_or_mask, is_signal);
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

/* ---- pause() ---------------------------------------------------------------------------------------------------- */

/* Ends by a handler of the program's and by nothing else: it waits again after an IPI. But who was called cannot be told
 * after the wait, when a handler of the program's may have been as well. So our handlers ask for it, if they have
 * interrupted the wait itself: both signals are blocked around the wait, and within as the program has it, so the mask to
 * come back to is the one around it in no other handler's context. From there on all is blocked until the next wait, but
 * for let_in(): what else comes meanwhile ends that one. The program's handlers run with the mask that they would have
 * without us, and may leave by longjmp or make images. */
static __thread struct {
    uint64_t around, within;
    bool again;
} pausing;

static uint64_t until_next_wait(uint64_t within)
{
    return within | ~(let_in() | bit(SIGKILL) | bit(SIGSTOP));
}

static bool is_in_pause(const ucontext_t *context)
{
    return pausing.around && word_of(&context->uc_sigmask) == pausing.around;
}

uint64_t mask_of_interrupted(const void *context)
{
    const ucontext_t *interrupted = context;

    return is_in_pause(interrupted) ? pausing.within : word_of(&interrupted->uc_sigmask);
}

void let_pause_go_on(void *context)
{
    ucontext_t *interrupted = context;

    if (!is_in_pause(interrupted) || BROKEN == PAUSE)
        return;
    set_word(&interrupted->uc_sigmask, until_next_wait(pausing.within));
    pausing.again = true;
}

struct masks_of_pause {
    uint64_t around, within;
};

/* Leaves what a handler has changed in its context. Who comes here from within a handler, by cancellation, has
 * its mask. */
static void leave_pause(struct masks_of_pause *masks)
{
    uint64_t now = 0;

    pausing.around = 0;
    sys_call(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&now, 8, 0, 0);
    if (now & bit(ipi_signal))
        sys_restore_signals((masks->within & now) | (now & ~masks->around));
}

EXPORT int pause(void)
{
    __attribute__((cleanup(leave_pause))) struct masks_of_pause masks = {0, 0};
    uint64_t both = ipi_signal ? bit(ipi_signal) | bit(stand_in) : 0;
    sigset_t within;
    int result;

    sys_call(SYS_rt_sigprocmask, SIG_BLOCK, (long)&both, (long)&masks.within, 8, 0, 0);
    masks.around = masks.within | both;
    sigemptyset(&within);
    set_word(&within, masks.within | (BROKEN == PAUSE_UNBLOCKED ? bit(ipi_signal) : 0));
    do {
        pausing.around = masks.around;
        pausing.within = masks.within;
        pausing.again = false;
        result = real.sigsuspend(&within);
        if (pausing.again)
            masks.around = until_next_wait(masks.within);
    } while (pausing.again);
    return result;
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

EXPORT int signalfd(int fd, const sigset_t *set, int flags)
{
    sigset_t copy;

    return real.signalfd(fd, awaited(set, &copy), flags);
}

enum { RECORD = sizeof(struct signalfd_siginfo) };

/* Of most of what is read from other files no more is looked at. */
static bool may_be_records(const char *bytes, ssize_t size)
{
    uint32_t signal;

    if (size <= 0 || size % RECORD)
        return false;
    memcpy(&signal, bytes, sizeof(signal));
    return signal >= 1 && signal <= 64;
}

/* As what was sent is to be told. False: there is nothing to change. */
static bool restore_record(struct signalfd_siginfo *record)
{
    struct signalfd_siginfo before = *record;
    siginfo_t info;

    if (record->ssi_signo != (uint32_t)stand_in)
        return false;
    memset(&info, 0, sizeof(info));
    info.si_errno = record->ssi_errno;
    info.si_code = record->ssi_code;
    info.si_pid = (pid_t)record->ssi_pid;
    info.si_uid = record->ssi_uid;
    info.si_value.sival_ptr = (void *)(uintptr_t)record->ssi_ptr;
    if (restore_info(&info))
        record->ssi_signo = (uint32_t)ipi_signal;
    record->ssi_errno = info.si_errno;
    record->ssi_code = info.si_code;
    if (!info.si_value.sival_ptr)
        record->ssi_ptr = 0, record->ssi_int = 0;
    return memcmp(&before, record, sizeof(before));
}

static void add_number(char *text, unsigned number)
{
    unsigned power = 1;

    text += strlen(text);
    while (number / power >= 10)
        power *= 10;
    for (; power; power /= 10)
        *text++ = (char)('0' + number / power % 10);
    *text = 0;
}

/* Files, pipes, sockets and devices are of a type, and what is of none has a name. Where /proc does not tell that, the
 * type has to do: no other such file is read in records of this size that look like one of this signal. */
static bool is_signalfd(int fd)
{
    static const char name[] = "anon_inode:[signalfd]";
    char path[40] = "/proc/thread-self/fd/", target[sizeof(name)];
    struct stat file;
    long length;

    if (BROKEN == KINDS_OF_FILES)
        return true;
    if (sys_fstat(fd, &file) || file.st_mode & S_IFMT)
        return false;
    add_number(path, (unsigned)fd);
    length = sys_call(SYS_readlinkat, AT_FDCWD, (long)path, (long)target, sizeof(target), 0, 0);
    return length < 0 || (length == sizeof(name) - 1 && !memcmp(target, name, sizeof(name) - 1));
}

/* Says which signal it was. What other files hold may look like a record, and is theirs. */
static void name_signals(int fd, char *bytes, ssize_t size)
{
    struct signalfd_siginfo record;
    bool is_known = false;

    for (; size; bytes += RECORD, size -= RECORD) {
        memcpy(&record, bytes, RECORD);
        if (!restore_record(&record))
            continue;
        if (!is_known && !is_signalfd(fd))
            return;
        is_known = true;
        memcpy(bytes, &record, RECORD);
    }
}

EXPORT ssize_t read(int fd, void *bytes, size_t size)
{
    ssize_t result = real.read(fd, bytes, size);

    if (may_be_records(bytes, result) && ipi_signal && BROKEN != SIGNALFD)
        name_signals(fd, bytes, result);
    return result;
}

EXPORT ssize_t __read_chk(int, void *, size_t, size_t);

ssize_t __read_chk(int fd, void *bytes, size_t size, size_t room)
{
    if (room < size)
        __chk_fail();
    return read(fd, bytes, size);
}
