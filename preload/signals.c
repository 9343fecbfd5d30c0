/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The functions that say what is done on a signal, and those that send one to the process itself or to its threads.
 */
#include "preload.h"
#include "real.h"
#include "../tracers/sys.h"

#include <errno.h>
#include <stdatomic.h>

/* ---- actions ---------------------------------------------------------------------------------------------- */

EXPORT int sigaction(int signal, const struct sigaction *new, struct sigaction *old)
{
    struct sigaction copy;
    int result;

    if (!ipi_signal)
        return real.sigaction(signal, new, old);
    if (signal == ipi_signal || signal == stand_in)
        return change_action(signal, new, old);
    if (new && BROKEN != MASKS_OF_ACTIONS) {
        copy = *new;
        set_word(&copy.sa_mask, for_kernel(word_of(&new->sa_mask)));
        new = &copy;
    }
    result = real.sigaction(signal, new, old);
    if (!result && old)
        set_word(&old->sa_mask, for_program(word_of(&old->sa_mask)));
    return result;
}

EXPORT int __sigaction(int, const struct sigaction *, struct sigaction *);

int __sigaction(int signal, const struct sigaction *new, struct sigaction *old)
{
    return sigaction(signal, new, old);
}

/* siginterrupt(3) of one of both: what signal(2) does later. */
static atomic_bool interrupts[2];

static sighandler_t set_handler(int signal, sighandler_t handler, int flags, bool blocks_itself)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags}, old;

    if (handler == SIG_ERR) {
        errno = EINVAL;
        return SIG_ERR;
    }
    if (blocks_itself)
        sigaddset(&action.sa_mask, signal);
    return sigaction(signal, &action, &old) ? SIG_ERR : old.sa_handler;
}

EXPORT sighandler_t signal(int number, sighandler_t handler)
{
    if (!is_one_of_both(number))
        return real.signal(number, handler);
    return set_handler(number, handler, interrupts[number == stand_in] ? 0 : SA_RESTART, true);
}

EXPORT sighandler_t bsd_signal(int, sighandler_t);

sighandler_t bsd_signal(int number, sighandler_t handler)
{
    return signal(number, handler);
}

EXPORT sighandler_t ssignal(int number, sighandler_t handler)
{
    return signal(number, handler);
}

EXPORT sighandler_t sysv_signal(int number, sighandler_t handler)
{
    if (!is_one_of_both(number))
        return real.sysv_signal(number, handler);
    return set_handler(number, handler, SA_RESETHAND | SA_NODEFER, false);
}

EXPORT sighandler_t __sysv_signal(int number, sighandler_t handler)
{
    return sysv_signal(number, handler);
}

EXPORT int siginterrupt(int number, int interrupt)
{
    struct sigaction action;

    if (!is_one_of_both(number))
        return real.siginterrupt(number, interrupt);
    sigaction(number, NULL, &action);
    interrupts[number == stand_in] = interrupt != 0;
    action.sa_flags = interrupt ? action.sa_flags & ~SA_RESTART : action.sa_flags | SA_RESTART;
    return sigaction(number, &action, NULL);
}

EXPORT int sigignore(int number)
{
    if (!is_one_of_both(number))
        return real.sigignore(number);
    return set_handler(number, SIG_IGN, 0, false) == SIG_ERR ? -1 : 0;
}

EXPORT sighandler_t sigset(int number, sighandler_t handler)
{
    struct sigaction old;
    sigset_t set, before;
    sighandler_t was;

    if (!is_one_of_both(number))
        return real.sigset(number, handler);
    sigemptyset(&set);
    sigaddset(&set, number);
    if (handler == SIG_HOLD) {
        sigprocmask(SIG_BLOCK, &set, &before);
        sigaction(number, NULL, &old);
        was = old.sa_handler;
    } else {
        was = set_handler(number, handler, 0, false);
        if (was == SIG_ERR)
            return was;
        sigprocmask(SIG_UNBLOCK, &set, &before);
    }
    return sigismember(&before, number) ? SIG_HOLD : was;
}

/* ---- signals that the program sends to itself ------------------------------------------------------------------ */

/* Those of its threads would merge with IPIs, those of the process be taken by another thread while an IPI is
 * answered, and not be handled when the call returns: they are sent as the stand-in at once. */

static long send_to(uint32_t thread, int code, union sigval value, int mark)
{
    siginfo_t info;

    memset(&info, 0, sizeof(info));
    info.si_signo = stand_in;
    info.si_code = code;
    info.si_pid = (pid_t)sys_getpid();
    info.si_uid = (uid_t)sys_call(SYS_getuid, 0, 0, 0, 0, 0, 0);
    if (code == SI_QUEUE)
        info.si_value = value;
    mark_as_sent(&info, mark);
    if (!thread)
        return sys_call(SYS_rt_sigqueueinfo, info.si_pid, stand_in, (long)&info, 0, 0, 0);
    return sys_call(SYS_rt_tgsigqueueinfo, info.si_pid, thread, stand_in, (long)&info, 0, 0);
}

static const union sigval no_value;

EXPORT int raise(int number)
{
    if (is_ipi_signal(number) && !send_to(sys_gettid(), SI_TKILL, no_value, SENT_ON))
        return 0;
    return real.raise(number);
}

EXPORT int kill(pid_t process, int number)
{
    if (is_ipi_signal(number) && process == (pid_t)sys_getpid() && !send_to(0, SI_USER, no_value, SENT_ON))
        return 0;
    return real.kill(process, number);
}

EXPORT int sigqueue(pid_t process, int number, const union sigval value)
{
    int mark = number == stand_in ? SENT_AS_ITSELF : SENT_ON;

    if (is_one_of_both(number) && process == (pid_t)sys_getpid() && !send_to(0, SI_QUEUE, value, mark))
        return 0;
    return real.sigqueue(process, number, value);
}

EXPORT int gsignal(int number)
{
    return raise(number);
}

EXPORT int tgkill(pid_t process, pid_t thread, int number)
{
    if (is_ipi_signal(number) && process == (pid_t)sys_getpid() &&
        thread > 0 && !send_to((uint32_t)thread, SI_TKILL, no_value, SENT_ON))
        return 0;
    return real.tgkill(process, thread, number);
}

EXPORT int pthread_kill(pthread_t thread, int number)
{
    union sigval mark = {.sival_ptr = (void *)(uintptr_t)&sent_by_pthread_kill};

    if (BROKEN != THREADS_SIGNALS && is_ipi_signal(number) && !real.pthread_sigqueue(thread, stand_in, mark))
        return 0;
    return real.pthread_kill(thread, number);
}

EXPORT int pthread_sigqueue(pthread_t thread, int number, const union sigval value)
{
    return real.pthread_sigqueue(thread, is_ipi_signal(number) ? stand_in : number, value);
}
