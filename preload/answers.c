/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A program that uses the IPI's signal in every way that there is, and prints what it is told. What it prints with
 * the preloaded library, while IPIs arrive, is what it prints without.
 *
 *   answers [-i] SCENARIO...    -i: with grace periods all the time, 20 us between two
 *   answers -l                  lists the scenarios
 *   answers -r TEXT             says what this image has inherited
 *   answers -f NUMBER           reads a signal from this file
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <rcu_notrace.h>

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

/* Not in every header, or only where the compiler puts them in: -D_FORTIFY_SOURCE. */
sighandler_t bsd_signal(int, sighandler_t);
int __ppoll_chk(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t);
ssize_t __read_chk(int, void *, size_t, size_t);

/* The IPI's signal. */
static int it;
static char *self;

/* ---- what is printed ------------------------------------------------------------------------------------- */

static atomic_ullong rounds_of_waiter;

/* Whoever has sections is sent IPIs; an idle reader is not. A grace period or two pass between any two answers. */
static void stay_active(void)
{
    unsigned long long until = rounds_of_waiter + 2;

    for (int i = 0; i < 200; i++) {
        rcu_read_lock_notrace();
        rcu_read_unlock_notrace();
        if (!rounds_of_waiter || rounds_of_waiter >= until)
            return;
        if (i >= 100)
            sched_yield();
    }
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    va_list list;

    stay_active();
    va_start(list, format);
    printf("  ");
    vprintf(format, list);
    printf("\n");
    va_end(list);
    fflush(stdout);
}

__attribute__((noreturn)) static void give_up(const char *what)
{
    printf("  cannot go on: %s: %s\n", what, strerror(errno));
    fflush(stdout);
    _exit(1);
}

#define MUST(condition) \
    do { \
        if (!(condition)) \
            give_up(#condition); \
    } while (0)

static const char *name_of(void (*handler)(int));

/* Which signals are in it: up to 31, those that the C library lets one use. */
static void say_set(const char *what, const sigset_t *set)
{
    char text[256] = "";
    size_t used = 0;

    for (int signal = 1; signal < 32; signal++)
        if (sigismember(set, signal))
            used += (size_t)snprintf(text + used, sizeof(text) - used, " %d", signal);
    say("%s:%s", what, text);
}

static void say_mask(const char *what)
{
    sigset_t set;

    MUST(!pthread_sigmask(SIG_BLOCK, NULL, &set));
    say_set(what, &set);
}

static bool is_blocked(void)
{
    sigset_t set;

    MUST(!sigprocmask(SIG_BLOCK, NULL, &set));
    return sigismember(&set, it);
}

static bool is_pending(void)
{
    sigset_t set;

    MUST(!sigpending(&set));
    return sigismember(&set, it);
}

static sigset_t only(int signal)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, signal);
    return set;
}

static void block(void)
{
    sigset_t set = only(it);

    MUST(!sigprocmask(SIG_BLOCK, &set, NULL));
}

static void unblock(void)
{
    sigset_t set = only(it);

    MUST(!sigprocmask(SIG_UNBLOCK, &set, NULL));
}

/* What a program has no use for, and this library has. */
static int stand_in(void)
{
    return it < 34 ? SIGSTKFLT : 64;
}

static int status_of(pid_t child)
{
    int status;

    MUST(child > 0);
    while (waitpid(child, &status, 0) < 0)
        MUST(errno == EINTR);
    return status;
}

static void sleep_ms(unsigned ms)
{
    struct timespec left = {ms / 1000, (long)(ms % 1000) * 1000000};

    while (nanosleep(&left, &left) && errno == EINTR)
        ;
}

/* ---- handlers ------------------------------------------------------------------------------------------------ */

static atomic_int called;
static atomic_int code, value, from, thread, number, held;

static void reset(void)
{
    called = code = value = from = thread = number = 0;
}

static const char *sender(void)
{
    return from == 0 ? "nobody" : from == getpid() ? "us" : "another";
}

static void on_it(int signal)
{
    number = signal;
    called++;
}

static void on_it_with_info(int signal, siginfo_t *info, void *context)
{
    (void)context;
    number = signal;
    code = info->si_code;
    from = info->si_pid;
    value = info->si_value.sival_int;
    thread = (int)syscall(SYS_gettid);
    if (info->si_signo != signal || info->si_errno)
        code = -1000;
    called++;
}

static const char *name_of(void (*handler)(int))
{
    return handler == SIG_DFL         ? "default"
           : handler == SIG_IGN       ? "ignore"
           : handler == SIG_ERR       ? "error"
           : handler == SIG_HOLD      ? "hold"
           : handler == on_it         ? "on_it"
           : (void *)(uintptr_t)handler == (void *)(uintptr_t)on_it_with_info ? "on_it_with_info"
                                      : "another";
}

static void handle(int flags)
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_flags = flags | SA_SIGINFO;
    action.sa_sigaction = on_it_with_info;
    MUST(!sigaction(it, &action, NULL));
}

/* What was handled since reset(). A queue's value means something only where there is one. */
static void say_handled(const char *what)
{
    say("%s: called %d, number %d, code %d, from %s, value %d, %s", what, called, number == it ? 1 : number, code,
        sender(), code == SI_QUEUE ? value : 0,
        !called                                 ? "-"
        : thread == (int)syscall(SYS_gettid) ? "here"
                                                : "elsewhere");
    reset();
}

static void say_action(const char *what)
{
    struct sigaction action;

    MUST(!sigaction(it, NULL, &action));
    /* Not the restorer's flag, which is the C library's. */
    say("%s: %s, flags %#x", what, name_of(action.sa_handler), (unsigned)action.sa_flags & ~0x04000000u);
    say_set("  its mask", &action.sa_mask);
}

/* ---- scenarios ----------------------------------------------------------------------------------------------- */

static void dispositions(void)
{
    struct sigaction action, old;

    say_action("at the start");
    say("signal: %s", name_of(signal(it, on_it)));
    say_action("signal");
    say("signal again: %s", name_of(signal(it, SIG_IGN)));
    say_action("ignored");
    say("siginterrupt: %d", siginterrupt(it, 1));
    say("signal: %s", name_of(signal(it, on_it)));
    say_action("interrupting");
    say("siginterrupt: %d", siginterrupt(it, 0));
    say_action("not interrupting");
    say("sysv_signal: %s", name_of(sysv_signal(it, on_it)));
    say_action("sysv_signal");
    say("bsd_signal: %s", name_of(bsd_signal(it, on_it)));
    say_action("bsd_signal");
    say("ssignal: %s", name_of(ssignal(it, SIG_DFL)));
    say_action("ssignal");
    say("another's: %s, %s", name_of(bsd_signal(SIGUSR2, on_it)), name_of(ssignal(SIGUSR2, SIG_DFL)));
    say("sigset: %s", name_of(sigset(it, on_it)));
    say_action("sigset");
    say("sigset hold: %s", name_of(sigset(it, SIG_HOLD)));
    say("blocked %d", is_blocked());
    say("sigset default: %s", name_of(sigset(it, SIG_DFL)));
    say("blocked %d", is_blocked());
    say("sigignore: %d", sigignore(it));
    say_action("sigignore");
    say("error: %s", name_of(signal(it, SIG_ERR)));
    memset(&action, 0, sizeof(action));
    action.sa_sigaction = on_it_with_info;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigfillset(&action.sa_mask);
    say("sigaction: %d", sigaction(it, &action, &old));
    say("before: %s", name_of(old.sa_handler));
    say_action("sigaction");
    sigdelset(&action.sa_mask, it);
    action.sa_flags |= SA_RESETHAND;
    say("sigaction: %d", sigaction(it, &action, &old));
    say_action("to be reset");
    MUST(!raise(it));
    say_handled("raised");
    say_action("was reset");
    /* Others are left as they are. */
    sigaddset(&action.sa_mask, it);
    say("another's: %d", sigaction(SIGUSR2, &action, NULL));
    MUST(!sigaction(SIGUSR2, NULL, &old));
    say_set("its mask", &old.sa_mask);
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGHUP);
    say("another's: %d", sigaction(SIGUSR2, &action, NULL));
    MUST(!sigaction(SIGUSR2, NULL, &old));
    say_set("its mask", &old.sa_mask);
    errno = 0;
    say("SIGKILL: %d, %s", sigaction(SIGKILL, &action, NULL), strerror(errno));
}

/* Not by its name: the linker warns of that one. */
static int mask_of_bsd(void)
{
    void *address = dlsym(RTLD_DEFAULT, "siggetmask");
    int (*get)(void);

    MUST(address);
    memcpy(&get, &address, sizeof(get));
    return get();
}

static void masks(void)
{
    sigset_t set, old;
    pthread_attr_t attributes;

    say_mask("at the start");
    set = only(it);
    say("block: %d", sigprocmask(SIG_BLOCK, &set, &old));
    say_set("before", &old);
    say_mask("now");
    set = only(SIGHUP);
    say("block another: %d", pthread_sigmask(SIG_BLOCK, &set, &old));
    say_set("before", &old);
    set = only(it);
    say("unblock: %d", pthread_sigmask(SIG_UNBLOCK, &set, &old));
    say_set("before", &old);
    say_mask("now");
    sigfillset(&set);
    say("all: %d", sigprocmask(SIG_SETMASK, &set, &old));
    say_mask("now");
    sigdelset(&set, it);
    say("all but it: %d", sigprocmask(SIG_SETMASK, &set, &old));
    say_set("before", &old);
    say("blocked %d", is_blocked());
    sigemptyset(&set);
    say("none: %d", sigprocmask(SIG_SETMASK, &set, &old));
    say_mask("now");
    say("sighold: %d", sighold(it));
    say_mask("now");
    say("sighold another: %d", sighold(SIGHUP));
    say_mask("now");
    say("sigrelse: %d", sigrelse(it));
    say_mask("now");
    say("sigblock: %#x", (unsigned)sigblock(1 << ((it < 32 ? it : SIGTERM) - 1)));
    say_mask("now");
    say("siggetmask: %#x", (unsigned)mask_of_bsd());
    say("sigsetmask: %#x", (unsigned)sigsetmask(1 << (SIGTERM - 1)));
    say("siggetmask: %#x", (unsigned)mask_of_bsd());
    say_mask("now");
    say("no such way: %d", pthread_sigmask(99, &set, NULL));
    errno = 0;
    say("no such way: %d %s", sigprocmask(99, &set, NULL), strerror(errno));
    MUST(!pthread_attr_init(&attributes));
    say("attribute: %d", pthread_attr_getsigmask_np(&attributes, &old));
    set = only(it);
    say("attribute: %d", pthread_attr_setsigmask_np(&attributes, &set));
    say("attribute: %d", pthread_attr_getsigmask_np(&attributes, &old));
    say_set("its mask", &old);
    say("attribute: %d", pthread_attr_setsigmask_np(&attributes, NULL));
    say("attribute: %d", pthread_attr_getsigmask_np(&attributes, &old));
}

static void send_each_way(const char *when)
{
    union sigval v = {.sival_int = 42};

    say("%s", when);
    MUST(!kill(getpid(), it));
    say_handled("kill");
    MUST(!raise(it));
    say_handled("raise");
    MUST(!gsignal(it));
    say_handled("gsignal");
    MUST(!pthread_kill(pthread_self(), it));
    say_handled("pthread_kill");
    MUST(!tgkill(getpid(), gettid(), it));
    say_handled("tgkill");
    MUST(!sigqueue(getpid(), it, v));
    say_handled("sigqueue");
    MUST(!pthread_sigqueue(pthread_self(), it, v));
    say_handled("pthread_sigqueue");
}

static void deliveries(void)
{
    reset();
    handle(0);
    send_each_way("with one handler");
    signal(it, on_it);
    send_each_way("of one argument");
    signal(it, SIG_IGN);
    send_each_way("ignored");
    if (it == SIGURG) {
        signal(it, SIG_DFL);
        send_each_way("by default");
    }
}

/* While it is blocked it waits. */
static void held_back(void)
{
    union sigval v = {.sival_int = 42};
    void *ways[] = {"kill", "raise", "pthread_kill", "sigqueue", "tgkill", "pthread_sigqueue"};

    reset();
    handle(0);
    for (unsigned way = 0; way < 6; way++) {
        block();
        for (int times = 0; times < (it < 32 ? 3 : 1); times++)
            MUST(!(way == 0   ? kill(getpid(), it)
                   : way == 1 ? raise(it)
                   : way == 2 ? pthread_kill(pthread_self(), it)
                   : way == 3 ? sigqueue(getpid(), it, v)
                   : way == 4 ? tgkill(getpid(), gettid(), it)
                              : pthread_sigqueue(pthread_self(), it, v)));
        say("%s: called %d, pending %d, blocked %d", (char *)ways[way], called, is_pending(), is_blocked());
        unblock();
        say_handled("unblocked");
        say("pending %d", is_pending());
    }
    /* A pending one is forgotten when it is ignored. */
    block();
    MUST(!kill(getpid(), it));
    signal(it, SIG_IGN);
    say("ignored: pending %d", is_pending());
    handle(0);
    unblock();
    say_handled("unblocked");
    /* It may be pending while it is ignored and blocked. */
    signal(it, SIG_IGN);
    block();
    MUST(!kill(getpid(), it));
    say("ignored and blocked: pending %d", is_pending());
    handle(0);
    unblock();
    say_handled("unblocked");
}

/* A child sends it; returns its exit status. */
static int child_sends(int times)
{
    pid_t child = fork();
    int status;

    MUST(child >= 0);
    if (!child) {
        union sigval v = {.sival_int = 7};

        while (times--) {
            sleep_ms(10);
            if (times & 1)
                kill(getppid(), it);
            else
                sigqueue(getppid(), it, v);
        }
        _exit(0);
    }
    MUST(waitpid(child, &status, 0) == child || (errno == EINTR && waitpid(child, &status, 0) == child));
    return status;
}

static void from_another_process(void)
{
    reset();
    handle(SA_RESTART);
    say("status %d", child_sends(1));
    say_handled("queued");
    block();
    say("status %d", child_sends(1));
    say("called %d, pending %d", called, is_pending());
    unblock();
    say_handled("unblocked");
}

static void *sends_later(void *to)
{
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    sleep_ms(30);
    if (to)
        pthread_kill(*(pthread_t *)to, it);
    else
        kill(getpid(), it);
    return NULL;
}

static pthread_t sent_later(pthread_t *to)
{
    pthread_t sender;

    MUST(!pthread_create(&sender, NULL, sends_later, to));
    return sender;
}

static void waits_for_signals(void)
{
    sigset_t set = only(it);
    struct timespec soon = {0, 20000000};
    pthread_t me = pthread_self(), later;
    siginfo_t info;
    int got = 0, result;

    block();
    MUST(!kill(getpid(), it));
    result = sigwait(&set, &got);
    say("sigwait: %d, %d", result, got == it);
    MUST(!raise(it));
    result = sigwait(&set, &got);
    say("sigwait: %d, %d", result, got == it);
    for (int process = 0; process < 2; process++) {
        later = sent_later(process ? NULL : &me);
        got = 0;
        result = sigwait(&set, &got);
        say("sigwait, sent later: %d, %d", result, got == it);
        pthread_join(later, NULL);
        later = sent_later(process ? NULL : &me);
        memset(&info, 0, sizeof(info));
        do
            result = sigwaitinfo(&set, &info);
        while (result < 0 && errno == EINTR);
        say("sigwaitinfo, sent later: %d, %d, errno %d, code %d, from us %d", result == it, info.si_signo == it,
            info.si_errno, info.si_code, info.si_pid == getpid());
        pthread_join(later, NULL);
    }
    MUST(!sigqueue(getpid(), it, (union sigval){.sival_int = 5}));
    result = sigtimedwait(&set, &info, &soon);
    say("sigtimedwait: %d, %d, code %d, value %d", result == it, info.si_signo == it, info.si_code,
        info.si_value.sival_int);
    MUST(!pthread_sigqueue(pthread_self(), it, (union sigval){.sival_int = 6}));
    result = sigtimedwait(&set, &info, &soon);
    say("sigtimedwait: %d, %d, code %d, value %d", result == it, info.si_signo == it, info.si_code,
        info.si_value.sival_int);
    do
        result = sigtimedwait(&set, NULL, &soon);
    while (result < 0 && errno == EINTR);
    say("sigtimedwait: %d, %s", result, strerror(errno));
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    MUST(!raise(SIGHUP));
    result = sigwaitinfo(&set, &info);
    say("another: %d, code %d, pending %d", result, info.si_code, is_pending());
    say("status %d", child_sends(1));
    result = sigwaitinfo(&set, &info);
    say("a child's: %d, code %d, value %d, from us %d", result == it, info.si_code, info.si_value.sival_int,
        info.si_pid == getpid());
}

static void signal_files(void)
{
    sigset_t set = only(it);
    struct signalfd_siginfo got[4];
    struct pollfd ask;
    int result;

    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    ask.fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    ask.events = POLLIN;
    MUST(ask.fd >= 0);
    result = (int)read(ask.fd, got, sizeof(got));
    say("nothing: %d, %s", result, strerror(errno));
    for (int way = 0; way < 4; way++) {
        MUST(!(way == 0   ? kill(getpid(), it)
               : way == 1 ? raise(it)
               : way == 2 ? pthread_kill(pthread_self(), it)
                          : sigqueue(getpid(), it, (union sigval){.sival_int = 9})));
        do
            result = poll(&ask, 1, 1000);
        while (result < 0 && errno == EINTR);
        say("poll: %d", result);
        memset(got, 0, sizeof(got));
        result = (int)(read(ask.fd, got, sizeof(got)) / (ssize_t)sizeof(got[0]));
        say("read: %d, %d, errno %d, code %d, from us %d, value %d", result, (int)got[0].ssi_signo == it,
            got[0].ssi_errno, got[0].ssi_code, (pid_t)got[0].ssi_pid == getpid(), got[0].ssi_int);
    }
    MUST(!kill(getpid(), it));
    MUST(!kill(getpid(), SIGHUP));
    result = 0;
    memset(got, 0, sizeof(got));
    while (result < 2) {
        ssize_t more = read(ask.fd, got + result, sizeof(got[0]) * 2);

        if (more > 0)
            result += (int)(more / (ssize_t)sizeof(got[0]));
    }
    say("both: %d", ((int)got[0].ssi_signo == it && got[1].ssi_signo == SIGHUP) ||
                        ((int)got[1].ssi_signo == it && got[0].ssi_signo == SIGHUP));
    MUST(!kill(getpid(), it));
    memset(got, 0, sizeof(got));
    result = (int)(__read_chk(ask.fd, got, sizeof(got[0]), sizeof(got)) / (ssize_t)sizeof(got[0]));
    say("checked read: %d, %d, errno %d, code %d", result, (int)got[0].ssi_signo == it, got[0].ssi_errno,
        got[0].ssi_code);
}

/* What other files hold is theirs, also where it looks like signals that a file told of. */
static void files_that_look_like_signals(void)
{
    static const char *const kinds[] = {"file", "pipe", "socket", "end of a terminal"};
    struct signalfd_siginfo there[3], got[3];
    sigset_t set = only(it);
    int fds[2], of_signals;

    block();
    of_signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    MUST(of_signals >= 0);
    memset(there, 0, sizeof(there));
    for (int i = 0; i < 3; i++)
        there[i].ssi_signo = (uint32_t)stand_in();
    there[1].ssi_errno = 0x52430000;
    there[2].ssi_errno = 0x52440000;
    for (int kind = 0; kind < 4; kind++) {
        ssize_t result;

        if (kind == 0) {
            fds[0] = fds[1] = memfd_create("signals", MFD_CLOEXEC);
        } else if (kind == 1) {
            MUST(!pipe(fds));
        } else if (kind == 2) {
            MUST(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
        } else {
            struct termios raw;

            fds[1] = posix_openpt(O_RDWR | O_NOCTTY);
            MUST(!grantpt(fds[1]) && !unlockpt(fds[1]));
            fds[0] = open(ptsname(fds[1]), O_RDWR | O_NOCTTY);
            MUST(!tcgetattr(fds[0], &raw));
            cfmakeraw(&raw);
            MUST(!tcsetattr(fds[0], TCSANOW, &raw));
        }
        MUST(write(fds[1], there, sizeof(there)) == sizeof(there));
        if (kind == 0)
            MUST(!lseek(fds[0], 0, SEEK_SET));
        memset(got, 0, sizeof(got));
        errno = ENOTTY;
        do
            result = read(fds[0], got, sizeof(got));
        while (result < 0 && errno == EINTR);
        say("%s: %d, %s, the same %d", kinds[kind], (int)result, strerror(errno), !memcmp(there, got, sizeof(got)));
    }
    MUST(!raise(it));
    errno = ENOTTY;
    MUST(read(of_signals, got, sizeof(got)) == sizeof(got[0]));
    say("of signals: %d, %s", (int)got[0].ssi_signo == it, strerror(errno));
}

static void says_what_it_reads(int fd)
{
    struct signalfd_siginfo got;

    memset(&got, 0, sizeof(got));
    MUST(!raise(it));
    MUST(read(fd, &got, sizeof(got)) == sizeof(got));
    say("read: %d, errno %d, code %d, from us %d", (int)got.ssi_signo == it, got.ssi_errno, got.ssi_code,
        (pid_t)got.ssi_pid == getpid());
}

/* A new image reads a file that it has not made. */
static void inherited_signal_file(void)
{
    sigset_t set = only(it);
    char number_of_file[16];

    block();
    snprintf(number_of_file, sizeof(number_of_file), "%d", signalfd(-1, &set, SFD_NONBLOCK));
    execl(self, "answers", "-f", number_of_file, (char *)NULL);
}

/* Waits of all kinds, with a mask that lets the signal in. */
static int wait_with(int way, const sigset_t *mask, int ms)
{
    struct timespec timeout = {ms / 1000, (long)(ms % 1000) * 1000000};
    struct epoll_event event;
    int fd, result, error;

    switch (way) {
    case 0:
        return ppoll(NULL, 0, &timeout, mask);
    case 1:
        return pselect(0, NULL, NULL, NULL, &timeout, mask);
    case 2:
    case 3:
        fd = epoll_create1(EPOLL_CLOEXEC);
        MUST(fd >= 0);
        result = way == 2 ? epoll_pwait(fd, &event, 1, ms, mask)
                          : epoll_pwait2(fd, &event, 1, &timeout, mask);
        error = errno;
        close(fd);
        errno = error;
        return result;
    case 4:
        return __ppoll_chk(NULL, 0, &timeout, mask, 0);
    case 5:
        return sigsuspend(mask);
    default:
        /* Of one signal that is blocked. */
        return sigpause(it);
    }
}

enum { SIGSUSPEND = 5, SIGPAUSE, WAITS };
static const char *const names_of_waits[] = {"ppoll",        "pselect",    "epoll_pwait", "epoll_pwait2",
                                             "checked ppoll", "sigsuspend", "sigpause"};

/* An IPI ends a wait as well, and first where it comes with what is waited for. */
static int wait_until_called(int way, const sigset_t *mask, int ms)
{
    int result;

    do
        result = wait_with(way, mask, ms);
    while (result < 0 && errno == EINTR && !called);
    return result;
}

static void waits_with_a_mask(void)
{
    const char *const *names = names_of_waits;
    sigset_t none, with = only(it);
    pthread_t me = pthread_self(), later;
    int result;

    sigemptyset(&none);
    for (int way = 0; way < WAITS; way++) {
        handle(0);
        reset();
        block();
        if (way == SIGPAUSE && it != SIGURG)
            continue;
        /* It is pending already: handled within. */
        MUST(!kill(getpid(), it));
        result = wait_until_called(way, &none, 500);
        say("%s, pending: %d, %s", names[way], result, strerror(errno));
        say_handled("handled");
        say("blocked %d, pending %d", is_blocked(), is_pending());
        for (int process = 0; process < 2; process++) {
            later = sent_later(process ? NULL : &me);
            result = wait_until_called(way, &none, 5000);
            say("%s, later: %d, %s", names[way], result, strerror(errno));
            say_handled("handled");
            say("blocked %d, pending %d", is_blocked(), is_pending());
            pthread_join(later, NULL);
        }
        if (way >= SIGSUSPEND)
            continue;
        /* It stays pending if the mask does not let it in. */
        MUST(!raise(it));
        do
            result = wait_with(way, &with, 20);
        while (result < 0 && errno == EINTR);
        say("%s, blocked: %d, called %d, pending %d", names[way], result, called, is_pending());
        unblock();
        say_handled("unblocked");
    }
}

/* One wait, that ends by what another process sends: it is handled when the wait returns, though it is blocked then. What
 * comes between a wait that an IPI has ended and the next stays pending, and that is right: so it may be, but not each time. */
static void handled_before_a_wait_returns(void)
{
    enum { TIMES = 5 };
    sigset_t none;

    sigemptyset(&none);
    handle(0);
    block();
    for (int way = 0; way < WAITS; way++) {
        int result = 0, error = 0, status;

        if (way == SIGPAUSE && it != SIGURG)
            continue;
        reset();
        for (int times = 0; times < TIMES && !called; times++) {
            pid_t sending = fork();

            MUST(sending >= 0);
            if (!sending) {
                sleep_ms(20);
                _exit(kill(getppid(), it));
            }
            do {
                result = wait_with(way, &none, 5000);
                error = errno;
            } while (result < 0 && error == EINTR && !called && !is_pending());
            while (waitpid(sending, &status, 0) < 0)
                MUST(errno == EINTR);
            if (called)
                break;
            unblock();
            reset();
            block();
        }
        say("%s: %d, %s", names_of_waits[way], result, strerror(error));
        say_handled("handled");
    }
}

/* What asks for more than there is room for ends the process, as the C library has it. */
static void too_long_for_its_buffer(void)
{
    static struct pollfd asks[1];
    static char bytes[4];
    int status;

    for (int way = 0; way < 2; way++) {
        pid_t child = fork();

        MUST(child >= 0);
        if (!child) {
            struct rlimit none = {0, 0};

            setrlimit(RLIMIT_CORE, &none);
            MUST(dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), 2) == 2);
            if (way)
                __read_chk(0, bytes, sizeof(bytes) + 1, sizeof(bytes));
            else
                __ppoll_chk(asks, 2, NULL, NULL, sizeof(asks));
            _exit(0);
        }
        while (waitpid(child, &status, 0) < 0)
            MUST(errno == EINTR);
        say("%s: ended by %d", way ? "read" : "ppoll", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    }
}

/* ---- pause() --------------------------------------------------------------------------------------------------- */

static jmp_buf out_of_pause;
static int way_out;
enum { RETURNS, JUMPS, EXECUTES, SPAWNS, STARTS_A_SHELL, STARTS_A_THREAD, PAUSES, CHANGES_ITS_CONTEXT, WAYS_OUT };

static void *says_its_mask(void *what);
static pthread_t interrupted_later(void);

static void ends_pause(int signal, siginfo_t *info, void *context)
{
    static char name[] = "answers", option[] = "-r", text[] = "spawned";
    char *arguments[] = {name, option, text, NULL};
    char command[4200];
    pthread_t other;
    pid_t child;

    (void)signal;
    (void)info;
    say("within: blocked %d", is_blocked());
    say_mask("within");
    switch (way_out) {
    case JUMPS:
        longjmp(out_of_pause, 1);
    case EXECUTES:
        execl(self, name, option, "executed", (char *)NULL);
        break;
    case SPAWNS:
        MUST(!posix_spawn(&child, self, NULL, NULL, arguments, environ));
        status_of(child);
        break;
    case STARTS_A_SHELL:
        snprintf(command, sizeof(command), "%s -r 'of a shell'", self);
        MUST(!system(command));
        break;
    case STARTS_A_THREAD:
        MUST(!pthread_create(&other, NULL, says_its_mask, "inherits"));
        pthread_join(other, NULL);
        break;
    case PAUSES:
        way_out = RETURNS;
        other = interrupted_later();
        say("pause within: %d", pause());
        pthread_join(other, NULL);
        break;
    case CHANGES_ITS_CONTEXT:
        sigdelset(&((ucontext_t *)context)->uc_sigmask, SIGHUP);
        break;
    }
}

static int thread_that_pauses;

/* Once the thread sleeps, which it does in pause() alone. */
static void await_sleep(void)
{
    char path[64], line[256], *state;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", thread_that_pauses);
    for (state = NULL; !state || state[2] != 'S';) {
        sleep_ms(1);
        file = fopen(path, "r");
        MUST(file && fgets(line, sizeof(line), file));
        fclose(file);
        state = strrchr(line, ')');
    }
}

static void *interrupts_later(void *unused)
{
    await_sleep();
    MUST(!tgkill(getpid(), thread_that_pauses, SIGUSR2));
    return unused;
}

static pthread_t started_with_all_blocked(void *(*run)(void *))
{
    sigset_t all, before;
    pthread_t other;

    sigfillset(&all);
    MUST(!pthread_sigmask(SIG_SETMASK, &all, &before));
    MUST(!pthread_create(&other, NULL, run, NULL));
    MUST(!pthread_sigmask(SIG_SETMASK, &before, NULL));
    return other;
}

static pthread_t interrupted_later(void)
{
    thread_that_pauses = gettid();
    return started_with_all_blocked(interrupts_later);
}

static void pause_once(void)
{
    pthread_t other = interrupted_later();

    if (!setjmp(out_of_pause)) {
        int result;

        errno = 0;
        result = pause();
        say("pause: %d, %s", result, strerror(errno));
    }
    pthread_join(other, NULL);
}

/* A handler that ends pause() does not know of it, whatever it does; and another process's signal comes afterwards. */
static void handlers_that_end_pause(void)
{
    struct sigaction action;
    sigset_t before;

    memset(&action, 0, sizeof(action));
    action.sa_sigaction = ends_pause;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaddset(&action.sa_mask, SIGTERM);
    MUST(!sigaction(SIGUSR2, &action, NULL));
    MUST(!sighold(SIGHUP));
    MUST(!sigprocmask(SIG_BLOCK, NULL, &before));
    for (int way = 0; way < WAYS_OUT; way++) {
        pid_t child = way == EXECUTES ? fork() : 0;

        MUST(child >= 0);
        if (child) {
            say("status %d", status_of(child));
            continue;
        }
        reset();
        way_out = way;
        /* system() does not hand on that it is ignored. */
        signal(it, way == STARTS_A_SHELL ? SIG_DFL : SIG_IGN);
        pause_once();
        say_mask("afterwards");
        handle(SA_RESTART);
        say("status %d", child_sends(1));
        say_handled("afterwards");
        MUST(!sigprocmask(SIG_SETMASK, &before, NULL));
    }
}

static atomic_bool has_paused;

static void *pauses(void *unused)
{
    sigset_t set = only(SIGUSR2);

    if (unused)
        sigaddset(&set, it);
    MUST(!pthread_sigmask(SIG_UNBLOCK, &set, NULL));
    thread_that_pauses = gettid();
    pause();
    has_paused = true;
    return NULL;
}

/* What has no handler does not end it, nor what is blocked. */
static void what_ends_pause(void)
{
    static const char *const cases[] = {"ignored", "blocked", "handled", "handled only then"};

    for (int which = 0; which < 4; which++) {
        pthread_t other;

        reset();
        has_paused = false;
        thread_that_pauses = 0;
        signal(SIGUSR2, on_it);
        handle(SA_RESTART);
        if (which == 0 || which == 3)
            signal(it, SIG_IGN);
        block();
        MUST(!pthread_create(&other, NULL, pauses, which == 1 ? NULL : &has_paused));
        while (!thread_that_pauses)
            sleep_ms(1);
        await_sleep();
        if (which == 3)
            handle(SA_RESTART);
        MUST(!tgkill(getpid(), thread_that_pauses, it));
        child_sends(1);
        for (int i = 0; i < 1000 && which >= 2 && !has_paused; i++)
            sleep_ms(1);
        say("%s: ended %d, called %d", cases[which], has_paused, called > 0);
        if (!has_paused)
            MUST(!pthread_kill(other, SIGUSR2));
        pthread_join(other, NULL);
        say("at the end: ended %d", has_paused);
        unblock();
    }
}

static int pipe_to_read[2];

static void *writes_later(void *unused)
{
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    /* The signal comes first; if it is lost, the scenario's time ends. */
    while (!called)
        sleep_ms(1);
    sleep_ms(5);
    MUST(write(pipe_to_read[1], "x", 1) == 1);
    return unused;
}

/* Of this thread, of the process, and of the process by another one. */
static void send_later_and_read(int way, pthread_t *me, bool writes)
{
    pthread_t later = 0, writer;
    pid_t child = 0;
    int result, status;
    char byte;

    if (way < 2) {
        later = sent_later(way ? NULL : me);
    } else {
        child = fork();
        MUST(child >= 0);
        if (!child) {
            sleep_ms(30);
            _exit(kill(getppid(), it));
        }
    }
    if (writes)
        MUST(!pthread_create(&writer, NULL, writes_later, NULL));
    do
        result = (int)read(pipe_to_read[0], &byte, 1);
    while (!writes && result < 0 && errno == EINTR && !called);
    say("read: %d, %s", result, result < 0 ? strerror(errno) : "-");
    say_handled("handled");
    if (writes)
        pthread_join(writer, NULL);
    if (way < 2)
        pthread_join(later, NULL);
    else
        while (waitpid(child, &status, 0) < 0)
            MUST(errno == EINTR);
}

/* SA_RESTART is as the program has it. */
static void interrupted_calls(void)
{
    pthread_t me = pthread_self();

    MUST(!pipe(pipe_to_read));
    reset();
    for (int way = 0; way < 3; way++) {
        handle(0);
        send_later_and_read(way, &me, false);
        handle(SA_RESTART);
        send_later_and_read(way, &me, true);
    }
}

static char alternate[65536];
static atomic_int on_alternate;

static void where(int signal)
{
    char here;

    (void)signal;
    on_alternate = &here >= alternate && &here < alternate + sizeof(alternate);
    called++;
}

static atomic_int deep, deepest, rounds;

static void nests(int signal)
{
    int now = ++deep;

    if (now > deepest)
        deepest = now;
    if (++rounds < 3)
        raise(signal);
    held = is_blocked();
    deep--;
}

static void flags_of_handlers(void)
{
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof(alternate)};
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    MUST(!sigaltstack(&stack, NULL));
    action.sa_handler = where;
    MUST(!sigaction(it, &action, NULL));
    MUST(!raise(it));
    say("on its stack %d, called %d", on_alternate, called);
    action.sa_flags = SA_ONSTACK;
    MUST(!sigaction(it, &action, NULL));
    MUST(!kill(getpid(), it));
    say("on its stack %d, called %d", on_alternate, called);
    action.sa_handler = nests;
    action.sa_flags = 0;
    MUST(!sigaction(it, &action, NULL));
    MUST(!raise(it));
    say("deepest %d, blocked within %d", deepest, held);
    deepest = rounds = 0;
    action.sa_flags = SA_NODEFER;
    MUST(!sigaction(it, &action, NULL));
    MUST(!raise(it));
    say("deepest %d, blocked within %d", deepest, held);
}

/* ---- handlers of other signals, jumps and contexts ----------------------------------------------------------- */

static sigjmp_buf jump;
static ucontext_t main_context, other_context;

static void holds_it(int signal)
{
    (void)signal;
    MUST(!raise(it));
    say("within: called %d, blocked %d, pending %d", called, is_blocked(), is_pending());
}

static void changes_its_mask(int signal)
{
    (void)signal;
    block();
    say("within: blocked %d", is_blocked());
}

static void jumps(int signal)
{
    (void)signal;
    block();
    siglongjmp(jump, 1);
}

static void in_a_context(void)
{
    say("there: blocked %d", is_blocked());
    unblock();
    say("there: blocked %d", is_blocked());
}

static void masks_that_come_back(void)
{
    struct sigaction action;
    static char stack[65536];

    reset();
    handle(0);
    memset(&action, 0, sizeof(action));
    action.sa_handler = holds_it;
    sigaddset(&action.sa_mask, it);
    MUST(!sigaction(SIGUSR2, &action, NULL));
    MUST(!raise(SIGUSR2));
    say_handled("after the handler");
    say("blocked %d", is_blocked());
    signal(SIGUSR2, changes_its_mask);
    MUST(!raise(SIGUSR2));
    say("after a handler that blocks: blocked %d", is_blocked());
    signal(SIGUSR2, jumps);
    if (!sigsetjmp(jump, 1))
        raise(SIGUSR2);
    say("after a jump: blocked %d", is_blocked());
    block();
    if (!sigsetjmp(jump, 1)) {
        unblock();
        siglongjmp(jump, 1);
    }
    say("after a jump: blocked %d", is_blocked());
    if (!sigsetjmp(jump, 0)) {
        unblock();
        siglongjmp(jump, 1);
    }
    say("after a jump that leaves the mask: blocked %d", is_blocked());
    /* Out of its own handler. */
    signal(it, jumps);
    unblock();
    if (!sigsetjmp(jump, 1))
        raise(it);
    say("out of its handler: blocked %d", is_blocked());
    if (!sigsetjmp(jump, 0))
        raise(it);
    say("out of its handler, leaving the mask: blocked %d", is_blocked());
    MUST(!getcontext(&other_context));
    other_context.uc_stack.ss_sp = stack;
    other_context.uc_stack.ss_size = sizeof(stack);
    other_context.uc_link = &main_context;
    makecontext(&other_context, in_a_context, 0);
    MUST(!swapcontext(&main_context, &other_context));
    say("back: blocked %d", is_blocked());
}

/* ---- threads --------------------------------------------------------------------------------------------------- */

static void *says_its_mask(void *what)
{
    say_mask(what);
    return NULL;
}

static atomic_bool is_ready, is_over;

static void *lets_it_in(void *unused)
{
    unblock();
    is_ready = true;
    while (!called && !is_over)
        sleep_ms(1);
    return unused;
}

static void threads(void)
{
    pthread_attr_t attributes;
    sigset_t set = only(it);
    pthread_t other;

    block();
    MUST(!pthread_create(&other, NULL, says_its_mask, "inherits it blocked"));
    pthread_join(other, NULL);
    unblock();
    MUST(!pthread_create(&other, NULL, says_its_mask, "inherits it unblocked"));
    pthread_join(other, NULL);
    MUST(!pthread_attr_init(&attributes) && !pthread_attr_setsigmask_np(&attributes, &set));
    MUST(!pthread_create(&other, &attributes, says_its_mask, "told to block it"));
    pthread_join(other, NULL);
    /* The process's goes to the thread that lets it in. */
    block();
    reset();
    handle(SA_RESTART);
    MUST(!pthread_create(&other, NULL, lets_it_in, NULL));
    while (!is_ready)
        sleep_ms(1);
    MUST(!kill(getpid(), it));
    pthread_join(other, NULL);
    say_handled("another thread's");
    say("pending %d", is_pending());
    is_ready = false;
    MUST(!pthread_create(&other, NULL, lets_it_in, NULL));
    while (!is_ready)
        sleep_ms(1);
    /* This thread's does not. */
    MUST(!raise(it));
    sleep_ms(20);
    say("called %d, pending %d", called, is_pending());
    is_over = true;
    pthread_join(other, NULL);
    unblock();
    say_handled("unblocked");
}

/* ---- new processes and images ------------------------------------------------------------------------------------ */

static void inherited(const char *what)
{
    char line[256];
    FILE *file = fopen("/proc/self/status", "r");
    bool blocked = false, ignored = false, pending = false, ignores_stand_in = false;

    while (file && fgets(line, sizeof(line), file)) {
        unsigned long long set = strlen(line) > 8 ? strtoull(line + 7, NULL, 16) : 0;
        bool has = set >> (it - 1) & 1;

        if (!strncmp(line, "SigBlk:", 7))
            blocked = has;
        if (!strncmp(line, "SigIgn:", 7))
            ignored = has, ignores_stand_in = set >> (stand_in() - 1) & 1;
        if (!strncmp(line, "SigPnd:", 7) || !strncmp(line, "ShdPnd:", 7))
            pending |= has;
    }
    if (file)
        fclose(file);
    if (getenv("LD_PRELOAD")) {
        /* What the kernel has is not what we are told. */
        struct sigaction action;

        sigaction(it, NULL, &action);
        blocked = is_blocked();
        ignored = action.sa_handler == SIG_IGN;
        pending = is_pending();
        sigaction(stand_in(), NULL, &action);
        ignores_stand_in = action.sa_handler == SIG_IGN;
    }
    say("%s: blocked %d, ignored %d, pending %d, stand-in ignored %d", what, blocked, ignored, pending, ignores_stand_in);
}

static void starts_images(const char *what)
{
    static char name[] = "answers", option[] = "-r", bare[] = "BARE=1";
    char *arguments[] = {name, option, NULL, NULL}, *alone[] = {bare, NULL};
    char signal_name[64], text[256], directory[4096];
    char **environments[] = {environ, alone};
    int status;
    pid_t child;

    snprintf(signal_name, sizeof(signal_name), "RCU_NOTRACE_SIGNAL=%d", it);
    alone[0] = signal_name;
    snprintf(directory, sizeof(directory), "%.*s", (int)(strrchr(self, '/') - self), self);
    for (int kind = 0; kind < 15; kind++)
        for (int environment = 0; environment < 2; environment++) {
            char **with = environments[environment];
            posix_spawnattr_t attributes;
            sigset_t set;

            snprintf(text, sizeof(text), "%s, %s, with %s environment", what,
                     ((const char *const[]){"execve", "vfork", "posix_spawn", "posix_spawnp",
                                            "spawn with a mask without it", "spawn with a mask with it",
                                            "spawn with the default action", "execv", "execl", "execle",
                                            "fexecve", "execvp", "execvpe", "execlp", "execveat"})[kind],
                     environment ? "no" : "the same");
            arguments[2] = text;
            posix_spawnattr_init(&attributes);
            sigemptyset(&set);
            fflush(stdout);
            switch (kind) {
            case 1:
                child = vfork();
                if (!child) {
                    execve(self, arguments, with);
                    _exit(99);
                }
                break;
            case 2:
                MUST(!posix_spawn(&child, self, NULL, NULL, arguments, with));
                break;
            case 3:
                MUST(!posix_spawnp(&child, self, NULL, &attributes, arguments, with));
                break;
            case 4:
            case 5:
                if (kind == 5)
                    sigaddset(&set, it);
                posix_spawnattr_setsigmask(&attributes, &set);
                posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
                MUST(!posix_spawn(&child, self, NULL, &attributes, arguments, with));
                break;
            case 6:
                sigaddset(&set, it);
                posix_spawnattr_setsigdefault(&attributes, &set);
                posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
                MUST(!posix_spawn(&child, self, NULL, &attributes, arguments, with));
                break;
            default:
                child = fork();
                if (!child) {
                    setenv("PATH", directory, 1);
                    /* Pending for the forked child. */
                    if (is_blocked())
                        raise(it);
                    if (kind == 0)
                        execve(self, arguments, with);
                    if (kind == 9)
                        execle(self, name, option, text, (char *)NULL, with);
                    if (kind == 10)
                        fexecve(open(self, O_RDONLY | O_CLOEXEC), arguments, with);
                    if (kind == 14)
                        execveat(AT_FDCWD, self, arguments, with, 0);
                    /* Found by its name, in the caller's path. */
                    if (kind == 12)
                        execvpe(name, arguments, with);
                    environ = with;
                    setenv("PATH", directory, 1);
                    if (kind == 11)
                        execvp(name, arguments);
                    if (kind == 13)
                        execlp(name, name, option, text, (char *)NULL);
                    if (kind == 7)
                        execv(self, arguments);
                    if (kind == 8)
                        execl(self, name, option, text, (char *)NULL);
                    _exit(99);
                }
            }
            MUST(child > 0);
            while (waitpid(child, &status, 0) < 0)
                MUST(errno == EINTR);
            if (status)
                say("%s: status %d", text, status);
        }
}

static void images(void)
{
    reset();
    starts_images("as it is");
    block();
    starts_images("blocked");
    signal(it, SIG_IGN);
    starts_images("blocked and ignored");
    unblock();
    starts_images("ignored");
    handle(0);
    starts_images("handled");
    send_each_way("afterwards");
    /* An exec that fails leaves all as it was. */
    block();
    MUST(!raise(it));
    errno = 0;
    execl("/nowhere", "nowhere", (char *)NULL);
    say("exec: %s; blocked %d, pending %d", strerror(errno), is_blocked(), is_pending());
    unblock();
    say_handled("unblocked");
}

/* A child of vfork may change its actions and its mask; not its parent's. */
static void child_of_vfork(void)
{
    sigset_t all;
    pid_t child;
    int status;

    handle(0);
    child = vfork();
    if (!child) {
        signal(it, SIG_IGN);
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, NULL);
        _exit(is_blocked() && signal(it, SIG_DFL) == SIG_IGN ? 0 : 1);
    }
    while (waitpid(child, &status, 0) < 0)
        MUST(errno == EINTR);
    say("status %d, blocked %d", status, is_blocked());
    say_action("after it");
    send_each_way("after it");
}

static void children(void)
{
    pid_t child;
    int status;

    reset();
    handle(0);
    block();
    MUST(!raise(it));
    for (int kind = 0; kind < 3; kind++) {
        fflush(stdout);
        child = kind == 0 ? fork() : kind == 1 ? _Fork() : (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        if (!child) {
            say("child %d: blocked %d, pending %d", kind, is_blocked(), is_pending());
            say_action("its");
            raise(it);
            unblock();
            say("called %d", called);
            signal(it, on_it);
            raise(it);
            say("called %d", called);
            child = fork();
            if (!child) {
                say_action("its child's");
                raise(it);
                say("called %d", called);
                _exit(0);
            }
            waitpid(child, &status, 0);
            _exit(0);
        }
        while (waitpid(child, &status, 0) < 0)
            MUST(errno == EINTR);
        say("status %d", status);
    }
    say("pending %d", is_pending());
    unblock();
    say_handled("unblocked");
}

/* What the signal does that nobody handles. */
static void by_default(void)
{
    static const int ways = 3;
    pid_t child;
    int status;

    for (int way = 0; way < ways; way++) {
        child = fork();
        if (!child) {
            if (way == 1)
                block();
            if (way == 2)
                handle(SA_RESETHAND);
            kill(getpid(), it);
            if (way == 1)
                unblock();
            if (way == 2)
                kill(getpid(), it);
            _exit(7);
        }
        while (waitpid(child, &status, 0) < 0)
            MUST(errno == EINTR);
        say("way %d: status %#x", way, (unsigned)status);
    }
}

/* ---- urgent data ----------------------------------------------------------------------------------------------------- */

static void urgent_data(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0), there, here;
    struct f_owner_ex owner = {F_OWNER_TID, gettid()};
    char byte = 0;

    MUST(listener >= 0 && !bind(listener, (struct sockaddr *)&address, sizeof(address)));
    MUST(!listen(listener, 1) && !getsockname(listener, (struct sockaddr *)&address, &size));
    there = socket(AF_INET, SOCK_STREAM, 0);
    MUST(!connect(there, (struct sockaddr *)&address, sizeof(address)));
    here = accept(listener, NULL, NULL);
    MUST(here >= 0);
    if (it != SIGURG) {
        say("another signal");
        return;
    }
    reset();
    handle(SA_RESTART);
    MUST(!fcntl(here, F_SETOWN, getpid()));
    MUST(send(there, "a", 1, MSG_OOB) == 1);
    while (!called)
        sleep_ms(1);
    say_handled("urgent");
    MUST(recv(here, &byte, 1, MSG_OOB) == 1);
    say("byte %c", byte);
    block();
    MUST(send(there, "b", 1, MSG_OOB) == 1);
    while (!is_pending())
        sleep_ms(1);
    say("called %d", called);
    unblock();
    say_handled("urgent");
    MUST(!fcntl(here, F_SETOWN_EX, &owner));
    /* One that is for a thread may merge with an IPI. */
    for (int i = 0; !called; i++) {
        if (i % 1000 == 0)
            MUST(send(there, "c", 1, MSG_OOB) == 1);
        sleep_ms(1);
    }
    say_handled("urgent, for this thread");
}

/* ---- what is rare -------------------------------------------------------------------------------------------------------- */

/* A child of vfork changes its action. */
static pid_t child_sets(void (*handler)(int))
{
    pid_t child = vfork();

    if (!child) {
        signal(it, handler);
        _exit(0);
    }
    MUST(!status_of(child));
    return child;
}

/* No room for what comes with a signal. An IPI that comes late cannot be told from a signal then, so how often the
 * handler was called is not said; and kill(2) of oneself has its info only without the library. */
static void queue_is_full(void)
{
    static const char *const ways[] = {"raise", "pthread_kill", "tgkill", "sigqueue", "pthread_sigqueue", "kill"};
    struct rlimit none = {0, 0};
    union sigval v = {.sival_int = 42};
    sigset_t set = only(it);
    struct signalfd_siginfo record;
    siginfo_t info;
    int result, fd;
    pid_t child;

    reset();
    handle(0);
    MUST(!setrlimit(RLIMIT_SIGPENDING, &none));
    for (int way = 0; way < 6; way++) {
        result = way == 0   ? raise(it)
                 : way == 1 ? pthread_kill(pthread_self(), it)
                 : way == 2 ? tgkill(getpid(), gettid(), it)
                 : way == 3 ? sigqueue(getpid(), it, v)
                 : way == 4 ? pthread_sigqueue(pthread_self(), it, v)
                            : kill(getpid(), it);
        say("%s: %d, called %d, number %d", ways[way], result, called > 0, number == it);
        if (way < 5)
            say("code %d, from %s", code, sender());
        reset();
    }
    child = fork();
    if (!child)
        _exit(kill(getppid(), it));
    say("another's: %d", status_of(child));
    say("called %d, number %d", called > 0, number == it);
    block();
    MUST(!kill(getpid(), it));
    result = sigwaitinfo(&set, &info);
    say("sigwaitinfo: %d, %d", result == it, info.si_signo == it);
    fd = signalfd(-1, &set, SFD_CLOEXEC);
    MUST(fd >= 0 && !kill(getpid(), it));
    MUST(read(fd, &record, sizeof(record)) == sizeof(record));
    say("read: %d", (int)record.ssi_signo == it);
}

static void *spawns(void *unused)
{
    static char name[] = "true";
    char *arguments[] = {name, NULL}, *nothing[] = {NULL};
    pid_t child;

    while (!is_over)
        if (!posix_spawn(&child, "/bin/true", NULL, NULL, arguments, nothing))
            status_of(child);
    return unused;
}

/* Images are made while the signal's action changes. */
static void ignored_now_and_then(void)
{
    pthread_t spawners[2];

    reset();
    is_over = false;
    for (int i = 0; i < 2; i++)
        MUST(!pthread_create(&spawners[i], NULL, spawns, NULL));
    for (int i = 0; i < 1000; i++) {
        handle(SA_RESTART);
        signal(it, SIG_IGN);
        if (i % 10 == 0)
            sleep_ms(1);
    }
    is_over = true;
    for (int i = 0; i < 2; i++)
        pthread_join(spawners[i], NULL);
    handle(SA_RESTART);
    say("status %d", child_sends(1));
    say_handled("handled");
}

/* A shell ignores what the program ignores. */
static void of_a_shell(void)
{
    static void (*const handlers[])(int) = {SIG_IGN, SIG_DFL};
    char command[64], line[64];
    FILE *file;

    snprintf(command, sizeof(command), "kill -%d $$; echo it lives", it);
    for (int i = 0; i < 2; i++) {
        signal(it, handlers[i]);
        file = popen(command, "r");
        MUST(file);
        if (!fgets(line, sizeof(line), file))
            strcpy(line, "nothing\n");
        line[strcspn(line, "\n")] = 0;
        say("popen: status %#x, %s", (unsigned)pclose(file), line);
        say_action("afterwards");
    }
}

/* The first process of a namespace has no parent; and the second may have the number of one that is gone. */
static void pid_namespaces(void)
{
    pid_t outer = fork(), child;

    MUST(outer >= 0);
    if (outer) {
        say("status %d", status_of(outer));
        return;
    }
    handle(0);
    if (unshare(CLONE_NEWPID)) {
        say("no namespace: %s", strerror(errno));
        _exit(0);
    }
    child = fork();
    if (!child) {
        char last[16];
        int length, fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);

        say_action("the first's");
        reset();
        MUST(!raise(it));
        say_handled("raised");
        child = child_sets(SIG_DFL);
        length = snprintf(last, sizeof(last), "%d", child - 1);
        say("its number again: %d", fd >= 0 && write(fd, last, (size_t)length) == length);
        child = fork();
        if (!child) {
            say_action("a child's");
            _exit(0);
        }
        _exit(status_of(child));
    }
    _exit(status_of(child) != 0);
}

static void tells_it_is_called(int signal)
{
    (void)signal;
    say("the handler is called, blocked %d", is_blocked());
}

/* For the thread and for the process, and several of a real-time signal. */
static void pending_twice(void)
{
    for (int acts = 0; acts < 2; acts++) {
        pid_t child = fork();

        MUST(child >= 0);
        if (!child) {
            block();
            signal(it, acts ? tells_it_is_called : SIG_DFL);
            MUST(!raise(it) && !kill(getpid(), it) && !raise(it) && !kill(getpid(), it));
            execl(self, "answers", "-r", acts ? "handled" : "by default", (char *)NULL);
            _exit(99);
        }
        say("status %d", status_of(child));
    }
}

static atomic_int changed;

static void *has_a_child(void *handler)
{
    void (*wanted)(int) = (void (*)(int))(uintptr_t)handler;
    pid_t child = vfork();

    if (!child) {
        struct timespec pause = {0, 1000000};

        signal(it, wanted);
        changed++;
        while (changed < 2)
            nanosleep(&pause, NULL);
        _exit(signal(it, wanted) != wanted);
    }
    return (void *)(intptr_t)status_of(child);
}

/* Several have their own actions at once, in their parent's memory. */
static void children_of_vfork(void)
{
    pthread_t other;
    void *status;
    pid_t child;

    signal(it, on_it);
    MUST(!pthread_create(&other, NULL, has_a_child, (void *)(uintptr_t)SIG_IGN));
    say("of this thread: %d", (int)(intptr_t)has_a_child((void *)(uintptr_t)SIG_DFL));
    pthread_join(other, &status);
    say("of the other: %d", (int)(intptr_t)status);
    say_action("after them");
    /* A child of a fork that nobody hears of, and its own one of vfork. */
    child = _Fork();
    if (!child) {
        handle(0);
        child_sets(SIG_IGN);
        say_action("the child's");
        reset();
        MUST(!raise(it));
        say_handled("the child's");
        _exit(0);
    }
    say("status %d", status_of(child));
    /* A handler that is to be called once. */
    handle(SA_RESETHAND);
    child = vfork();
    if (!child) {
        raise(it);
        _exit(0);
    }
    say("status %d", status_of(child));
    say_action("after it");
}

/* A process that nobody hears of begins with a child of vfork, which leaves its parent's actions alone. */
static void child_of_vfork_in_a_clone(void)
{
    for (int raw = 0; raw < 2; raw++) {
        pid_t child;

        handle(0);
        child = raw ? (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : _Fork();
        if (!child) {
            child_sets(SIG_DFL);
            reset();
            MUST(!raise(it));
            say_handled("after it");
            say_action("after it");
            fflush(stdout);
            _exit(0);
        }
        say("status %d", status_of(child));
    }
}

/* As the kernel has it, which is not to be asked in a usual way. */
struct raw_action {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    unsigned long mask;
};

static void actions_by_raw_calls(void)
{
    struct raw_action action;
    pid_t child;
    const int another = it == SIGUSR1 ? SIGUSR2 : SIGUSR1;

    signal(another, on_it);
    MUST(!syscall(SYS_rt_sigaction, another, NULL, &action, 8));
    MUST(!syscall(SYS_rt_sigaction, it, &action, NULL, 8));
    child = fork();
    if (!child) {
        MUST(!syscall(SYS_rt_sigaction, it, NULL, &action, 8));
        say("the child's: %s", action.handler == on_it ? "the same" : "another");
        _exit(0);
    }
    say("status %d", status_of(child));
}

static void *changes_actions(void *action)
{
    while (!is_over) {
        sigaction(it, action, NULL);
        signal(it, SIG_IGN);
    }
    return action;
}

/* A process is forked while another thread changes the action: it has the one or the other, and acts so. */
static void forked_meanwhile(void)
{
    struct sigaction action, now;
    pthread_t other;
    int whole = 0;

    memset(&action, 0, sizeof(action));
    action.sa_sigaction = on_it_with_info;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigfillset(&action.sa_mask);
    signal(it, SIG_IGN);
    reset();
    is_over = false;
    MUST(!pthread_create(&other, NULL, changes_actions, &action));
    for (int i = 0; i < 400; i++) {
        pid_t child = i % 2 ? fork() : _Fork();

        if (!child) {
            bool handled, has_flags, has_mask;

            MUST(!sigaction(it, NULL, &now));
            handled = now.sa_handler != SIG_IGN;
            has_flags = now.sa_flags & SA_SIGINFO && now.sa_flags & SA_ONSTACK;
            has_mask = sigismember(&now.sa_mask, SIGHUP);
            MUST(!raise(it));
            _exit(has_flags != handled || has_mask != handled || called != handled);
        }
        whole += !status_of(child);
    }
    is_over = true;
    pthread_join(other, NULL);
    say("whole %d", whole);
}

/* A language runtime's handler hears of every raw tgkill(2), also of one that comes together with an IPI. */
static void of_a_runtime(void)
{
    uint64_t set = 1ull << (it - 1);
    struct sigaction action;
    int heard = 0;

    memset(&action, 0, sizeof(action));
    action.sa_sigaction = on_it_with_info;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    sigfillset(&action.sa_mask);
    MUST(!sigaction(it, &action, NULL));
    child_sets(SIG_DFL);
    for (int i = 0; i < 20; i++) {
        reset();
        rcu_read_lock_notrace();
        MUST(!syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, NULL, 8));
        sleep_ms(1);
        MUST(!syscall(SYS_tgkill, getpid(), gettid(), it));
        MUST(!syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &set, NULL, 8));
        heard += called > 0;
        rcu_read_unlock_notrace();
    }
    say("heard of %d", heard);
}

/* The signal that serves this library. */
static void the_stand_in(void)
{
    struct sigaction action;
    union sigval v = {.sival_int = 42};
    int got = 0;

    memset(&action, 0, sizeof(action));
    action.sa_sigaction = on_it_with_info;
    action.sa_flags = SA_SIGINFO;
    MUST(!sigaction(stand_in(), &action, NULL));
    handle(0);
    reset();
    for (int way = 0; way < 3; way++) {
        MUST(!(way == 0   ? sigqueue(getpid(), stand_in(), v)
               : way == 1 ? raise(stand_in())
                          : kill(getpid(), stand_in())));
        got = number;
        say_handled("sent");
        say("as itself %d", got == stand_in());
    }
    /* With it alone the IPI's signal is not blocked. */
    MUST(!sighold(stand_in()));
    say("blocked %d", is_blocked());
    MUST(!kill(getpid(), it));
    say_handled("while the stand-in is held");
    MUST(!sigrelse(stand_in()));
}

/* New images ignore it as well; what is pending of the IPI's signal stays so, and after an exec that fails it is handled. */
static void the_stand_in_ignored(void)
{
    static char signal_name[64];
    static char *bare[] = {signal_name, NULL};
    pid_t child;

    snprintf(signal_name, sizeof(signal_name), "RCU_NOTRACE_SIGNAL=%d", it);
    handle(0);
    for (int way = 0; way < 4; way++) {
        child = fork();
        if (!child) {
            signal(stand_in(), way < 3 ? SIG_IGN : SIG_DFL);
            block();
            if (way > 0)
                MUST(!raise(it));
            environ = way == 2 ? bare : environ;
            execl(self, "answers", "-r", "executed", (char *)NULL);
        }
        say("way %d: status %d", way, status_of(child));
    }
    signal(stand_in(), SIG_IGN);
    execl("/nowhere", "nowhere", (char *)NULL);
    MUST(!raise(it));
    say_handled("after an exec that fails");
}

/* A handler makes the mask of what it interrupts its own, before and after it has unblocked the signal. */
static void takes_the_mask(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    MUST(!sigprocmask(SIG_SETMASK, &((ucontext_t *)context)->uc_sigmask, NULL));
    say("within: blocked %d, pending %d", is_blocked(), is_pending());
    unblock();
    MUST(!pthread_sigmask(SIG_SETMASK, &((ucontext_t *)context)->uc_sigmask, NULL));
    say("within: blocked %d", is_blocked());
}

static void masks_of_contexts(void)
{
    struct sigaction action;

    reset();
    handle(0);
    memset(&action, 0, sizeof(action));
    action.sa_sigaction = takes_the_mask;
    action.sa_flags = SA_SIGINFO;
    MUST(!sigaction(SIGUSR2, &action, NULL));
    MUST(!raise(SIGUSR2));
    block();
    MUST(!raise(SIGUSR2));
    MUST(!raise(it));
    say("called %d", called);
    MUST(!raise(SIGUSR2));
    say_handled("within");
    say("blocked %d", is_blocked());
}

static void flags_that_are_none(void)
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_handler = on_it;
    action.sa_flags = 0x21ff0600 | SA_RESTART;
    MUST(!sigaction(it, &action, NULL));
    say_action("with all flags");
}

/* ---- a sandbox that answers by a signal ---------------------------------------------------------------------------- */

/* A call whose last argument this is, is let through: the sandbox's own. */
enum { PASS = 0x52435553 };

static const struct {
    int number;
    const char *name;
} trapped[] = {{SYS_getpid, "getpid"}, {SYS_rt_sigaction, "rt_sigaction"}};
enum { TRAPPED = sizeof(trapped) / sizeof(trapped[0]) };
static atomic_uint answered[TRAPPED];

static pid_t us;
static atomic_bool refuses, comes_in_between;

static long sandboxs_answer(int call, const unsigned long *arguments)
{
    if (call == SYS_getpid)
        return us;
    /* Who answers uses the signal as well. */
    if (atomic_exchange(&comes_in_between, false))
        say("in between: %s", signal(it, SIG_IGN) == SIG_ERR ? "error" : "done");
    if (refuses)
        return -EPERM;
    return syscall(SYS_rt_sigaction, arguments[0], arguments[1], arguments[2], arguments[3], 0ul, (unsigned long)PASS)
               ? -errno
               : 0;
}

static void on_trapped_call(int signal, siginfo_t *info, void *context)
{
    mcontext_t *at = &((ucontext_t *)context)->uc_mcontext;
    int error = errno;

    (void)signal;
    for (int i = 0; i < TRAPPED; i++)
        answered[i] += info->si_syscall == trapped[i].number;
#if defined(__x86_64__)
    at->gregs[REG_RAX] = sandboxs_answer(info->si_syscall, (unsigned long[]){
        (unsigned long)at->gregs[REG_RDI], (unsigned long)at->gregs[REG_RSI], (unsigned long)at->gregs[REG_RDX],
        (unsigned long)at->gregs[REG_R10]});
#elif defined(__aarch64__)
    at->regs[0] = (unsigned long long)sandboxs_answer(info->si_syscall, (unsigned long[]){
        at->regs[0], at->regs[1], at->regs[2], at->regs[3]});
#endif
    errno = error;
}

/* From now on, in this thread. False: no sandbox can be had. */
static bool trap(int call)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PASS, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};
    struct sigaction action;

    us = getpid();
    memset(&action, 0, sizeof(action));
    action.sa_sigaction = on_trapped_call;
    /* As sandboxes have it, whose handlers make system calls. */
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    MUST(!sigaction(SIGSYS, &action, NULL));
    MUST(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    if (!syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
        return true;
    say("SKIP: no seccomp here: %s", strerror(errno));
    return false;
}

/* Not as often with the preloaded library as without. */
static void say_answered(void)
{
    for (int i = 0; i < TRAPPED; i++) {
        say("the sandbox has answered %s: %d", trapped[i].name, answered[i] > 0);
        if (rounds_of_waiter)
            fprintf(stderr, "the sandbox has answered %s %u times\n", trapped[i].name, answered[i]);
    }
}

static void spawn_true(const char *what)
{
    static char name[] = "true";
    char *arguments[] = {name, NULL}, *nothing_else[] = {NULL};
    pid_t child;

    MUST(!posix_spawn(&child, "/bin/true", NULL, NULL, arguments, nothing_else));
    say("%s: status %#x", what, (unsigned)status_of(child));
}

/* The process lives, and hears what the sandbox answers. */
static void sandbox_that_answers_by_a_signal(void)
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_sigaction = on_it_with_info;
    action.sa_flags = SA_SIGINFO;
    /* Alone: in posix_spawn the C library itself makes the other call with all signals blocked. */
    if (!trap(SYS_getpid))
        return;
    say("the process is this one: %d", getpid() == us);
    spawn_true("spawned by default");
    MUST(signal(it, SIG_IGN) != SIG_ERR);
    spawn_true("spawned ignoring");
    if (!trap(SYS_rt_sigaction))
        return;
    say_answered();
    MUST(execl("/nowhere", "nowhere", (char *)NULL) == -1);
    say("not executed: %s", strerror(errno));
    reset();
    say("allowed: %d", sigaction(it, &action, NULL));
    say_action("allowed");
    MUST(!raise(it));
    say_handled("raised");
    refuses = true;
    errno = 0;
    say("refused: %s", name_of(signal(it, SIG_IGN)));
    say("refused: %s", strerror(errno));
    refuses = false;
    say_action("as before");
    MUST(!raise(it));
    say_handled("raised");
    comes_in_between = true;
    say("both: %d", sigaction(it, &action, NULL));
    say_action("the later one");
    MUST(!raise(it));
    say_handled("raised");
    say_answered();
}

/* The handler is called with all blocked, and once: that takes a call which is the library's own. */
static void sandbox_and_a_handler_that_blocks_all(void)
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_sigaction = on_it_with_info;
    action.sa_flags = SA_SIGINFO | (int)SA_RESETHAND;
    sigfillset(&action.sa_mask);
    if (!trap(SYS_rt_sigaction))
        return;
    reset();
    MUST(!sigaction(it, &action, NULL));
    MUST(!raise(it));
    say_handled("raised");
    say_action("was reset");
    say_mask("afterwards");
}

/* ---- a program that is stepped through by itself --------------------------------------------------------------------- */

static atomic_uint steps;

static void on_step(int signal)
{
    (void)signal;
    steps++;
}

static void change_action_step_by_step(void)
{
    struct sigaction action;
    int result;

    memset(&action, 0, sizeof(action));
    action.sa_sigaction = on_it_with_info;
    action.sa_flags = SA_SIGINFO;
    signal(SIGTRAP, on_step);
#if defined(__x86_64__)
    /* The trap flag. */
    __asm__ volatile("lea -128(%%rsp), %%rsp; pushfq; orq $0x100, (%%rsp); popfq; lea 128(%%rsp), %%rsp" ::: "memory", "cc");
    result = sigaction(it, &action, NULL);
    __asm__ volatile("lea -128(%%rsp), %%rsp; pushfq; andq $~0x100, (%%rsp); popfq; lea 128(%%rsp), %%rsp" ::: "memory", "cc");
    say("changed: %d, step by step: %d", result, steps > 10);
#else
    result = sigaction(it, &action, NULL);
    say("SKIP: no steps here; changed: %d", result);
#endif
    reset();
    MUST(!raise(it));
    say_handled("raised");
}

/* ---- the scenarios, and IPIs -------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*run)(void);
} list[] = {
    {"dispositions", dispositions},
    {"masks", masks},
    {"deliveries", deliveries},
    {"held_back", held_back},
    {"from_another_process", from_another_process},
    {"waits_for_signals", waits_for_signals},
    {"signal_files", signal_files},
    {"files_that_look_like_signals", files_that_look_like_signals},
    {"inherited_signal_file", inherited_signal_file},
    {"waits_with_a_mask", waits_with_a_mask},
    {"handled_before_a_wait_returns", handled_before_a_wait_returns},
    {"too_long_for_its_buffer", too_long_for_its_buffer},
    {"handlers_that_end_pause", handlers_that_end_pause},
    {"what_ends_pause", what_ends_pause},
    {"interrupted_calls", interrupted_calls},
    {"flags_of_handlers", flags_of_handlers},
    {"masks_that_come_back", masks_that_come_back},
    {"threads", threads},
    {"images", images},
    {"child_of_vfork", child_of_vfork},
    {"children", children},
    {"by_default", by_default},
    {"urgent_data", urgent_data},
    {"queue_is_full", queue_is_full},
    {"ignored_now_and_then", ignored_now_and_then},
    {"of_a_shell", of_a_shell},
    {"pid_namespaces", pid_namespaces},
    {"pending_twice", pending_twice},
    {"children_of_vfork", children_of_vfork},
    {"forked_meanwhile", forked_meanwhile},
    {"of_a_runtime", of_a_runtime},
    {"the_stand_in", the_stand_in},
    {"the_stand_in_ignored", the_stand_in_ignored},
    {"masks_of_contexts", masks_of_contexts},
    {"flags_that_are_none", flags_that_are_none},
    {"child_of_vfork_in_a_clone", child_of_vfork_in_a_clone},
    {"actions_by_raw_calls", actions_by_raw_calls},
    {"sandbox_that_answers_by_a_signal", sandbox_that_answers_by_a_signal},
    {"sandbox_and_a_handler_that_blocks_all", sandbox_and_a_handler_that_blocks_all},
    {"change_action_step_by_step", change_action_step_by_step},
};

static atomic_bool waiting, stop;

static void *waiter(void *unused)
{
    struct timespec pause = {0, 20000};

    waiting = true;
    while (!stop) {
        if (unused) {
            synchronize_rcu();
            rounds_of_waiter++;
        }
        nanosleep(&pause, NULL);
    }
    return unused;
}

static int run_one(size_t index, bool with_ipis)
{
    pthread_attr_t attributes;
    sigset_t all;
    pthread_t other;

    sigfillset(&all);
    alarm(30);
    /* Before the first thread: it is not to take the process's signals. */
    MUST(!pthread_attr_init(&attributes) && !pthread_attr_setsigmask_np(&attributes, &all));
    stay_active();
    MUST(!pthread_create(&other, &attributes, waiter, with_ipis ? &stop : NULL));
    while (!waiting)
        sleep_ms(1);
    printf("%s\n", list[index].name);
    list[index].run();
    fflush(stdout);
    stop = true;
    pthread_join(other, NULL);
    if (with_ipis) {
        struct rcu_notrace_stats stats;

        rcu_notrace_get_stats(&stats, sizeof(stats));
        fprintf(stderr, "%s: grace periods %llu, IPIs %llu, reports by handler %llu, rescues %llu\n", list[index].name,
                (unsigned long long)stats.grace_periods, (unsigned long long)stats.ipis,
                (unsigned long long)stats.reports_by_handler, (unsigned long long)stats.rescues);
    }
    return 0;
}

int main(int count, char **arguments)
{
    const char *wanted = getenv("RCU_NOTRACE_SIGNAL");
    static char path[4096];
    bool with_ipis = false;
    ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);
    int failed = 0;

    MUST(length > 0);
    self = path;
    it = wanted ? atoi(wanted) : SIGURG;
    if (count == 3 && !strcmp(arguments[1], "-r")) {
        inherited(arguments[2]);
        return 0;
    }
    if (count == 3 && !strcmp(arguments[1], "-f")) {
        says_what_it_reads(atoi(arguments[2]));
        return 0;
    }
    for (int i = 1; i < count; i++)
        if (!strcmp(arguments[i], "-i"))
            with_ipis = true;
    for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        bool chosen = count - with_ipis == 1;
        pid_t child;
        int status;

        for (int j = 1; j < count; j++)
            chosen |= !strcmp(arguments[j], list[i].name);
        if (!chosen)
            continue;
        fflush(stdout);
        child = fork();
        if (!child)
            exit(run_one(i, with_ipis));
        waitpid(child, &status, 0);
        if (status) {
            printf("%s: status %#x\n", list[i].name, (unsigned)status);
            failed = 1;
        }
    }
    return failed;
}
