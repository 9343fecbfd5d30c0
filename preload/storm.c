/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * librcu_notrace_storm.so: grace periods without end in a program that knows nothing of it. To be preloaded,
 * for programs.sh: one hidden thread in each process, from before main() or since a fork, waits in every
 * way there is.
 *
 *   RCU_NOTRACE_STORM           the file of the counts below, which all processes share and which outlives a
 *                               process however it ends; without it there is no storm
 *   RCU_NOTRACE_STORM_PAUSE_US  the pause between two waits, in microseconds (20): other threads want to run too
 *   RCU_NOTRACE_STORM_SWITCH    1: from one IPI mode to the next every few waits
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <rcu_notrace.h>

/* What programs.sh reads: numbers of 64 bits, in this order. */
struct counts {
    uint64_t images, forks; /* storms that began before main(), and in forked children */
    uint64_t refused;       /* those for which no thread could be had */
    uint64_t grace_periods, trace_grace_periods; /* of the two flavours */
    uint64_t ipis, holdouts, rescues, stalls;    /* of both */
    uint64_t callbacks;                          /* called */
    uint64_t switches;                           /* of the IPI mode */
    uint64_t preloaded; /* of images and forks, those in which librcu_notrace_preload.so is what the program calls */
    uint64_t kept;      /* and those in which the stand-in's handler in the kernel is its own */
};
static struct counts *counts;
static long pause_ns = 20000;
static bool switching;

#define COUNT(field, more) __atomic_fetch_add(&counts->field, (more), __ATOMIC_RELAXED)

/* ---- callbacks -------------------------------------------------------------------------------- */

enum { HEADS = 64 };
static struct load {
    struct rcu_head head; /* first: a callback is given its address */
    bool queued;
} loads[2][HEADS];

static void on_callback(struct rcu_head *head)
{
    COUNT(callbacks, 1);
    __atomic_store_n(&((struct load *)head)->queued, false, __ATOMIC_RELEASE);
}

static void queue(struct load *loads_of_flavour, void (*call)(struct rcu_head *, void (*)(struct rcu_head *)))
{
    for (unsigned i = 0; i < HEADS; i++) {
        struct load *load = &loads_of_flavour[i];

        if (__atomic_load_n(&load->queued, __ATOMIC_ACQUIRE))
            continue;
        load->queued = true;
        call(&load->head, on_callback);
    }
}

/* ---- the storm -------------------------------------------------------------------------------- */

struct seen {
    struct rcu_notrace_stats notrace, trace;
};

static struct seen look(void)
{
    struct seen now;

    rcu_notrace_get_stats(&now.notrace, sizeof(now.notrace));
    rcu_tasks_trace_get_stats(&now.trace, sizeof(now.trace));
    return now;
}

/* Counts what was new since the last look, whoever waited. */
static void count_since(struct seen *last)
{
    const struct seen now = look();
#define MORE(flavour, field) (now.flavour.field - last->flavour.field)

    COUNT(grace_periods, MORE(notrace, grace_periods));
    COUNT(trace_grace_periods, MORE(trace, grace_periods));
    COUNT(ipis, MORE(notrace, ipis) + MORE(trace, ipis));
    COUNT(holdouts, MORE(notrace, holdouts) + MORE(trace, holdouts));
    COUNT(rescues, MORE(notrace, rescues) + MORE(trace, rescues));
    COUNT(stalls, MORE(notrace, stalls) + MORE(trace, stalls));
#undef MORE
    *last = now;
}

static void switch_mode(unsigned long round)
{
    static const int modes[] = {RCU_NOTRACE_IPI_AUTO, RCU_NOTRACE_IPI_SIGNAL, RCU_NOTRACE_IPI_MEMBARRIER};

    if (!rcu_notrace_set_ipi_mode(modes[round / 32 % 3]))
        COUNT(switches, 1);
}

static void wait_somehow(unsigned long round)
{
    switch (round % 32) {
    case 3:
    case 19:
        synchronize_rcu_tasks_trace();
        break;
    case 7:
        queue(loads[0], call_rcu);
        break;
    case 15:
        queue(loads[1], call_rcu_tasks_trace);
        break;
    case 23:
        cond_synchronize_rcu_expedited(start_poll_synchronize_rcu());
        break;
    case 27:
        rcu_barrier();
        break;
    case 31:
        rcu_barrier_tasks_trace();
        break;
    default:
        if (round % 2)
            synchronize_rcu();
        else
            synchronize_rcu_expedited();
    }
}

/* ---- the end ------------------------------------------------------------------------------------ */

static pthread_key_t main_key;
static bool has_main_key, main_has_left;

static void on_main_exit(void *unused)
{
    (void)unused;
    __atomic_store_n(&main_has_left, true, __ATOMIC_RELAXED);
}

/* By the main thread. */
static void watch_main(void)
{
    main_has_left = false;
    if (has_main_key)
        pthread_setspecific(main_key, &main_key);
}

/* Whether there is nobody but the main thread, which has left, us, the recorder's thread and RCU's two: what stays as long
 * as the process does must not be what keeps it. */
static bool is_left_over(void)
{
    enum { STATE = 3, THREADS = 20, NOBODYS = 5 };
    char text[1024];
    const char *at;
    ssize_t length;
    int fd;

    if (!__atomic_load_n(&main_has_left, __ATOMIC_RELAXED))
        return false;
    fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    length = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[length > 0 ? length : 0] = 0;
    at = strrchr(text, ')');
    if (!at || strncmp(at, ") Z", 3))
        return false;
    for (int field = STATE; at && field <= THREADS; field++)
        at = strchr(at + 1, ' ');
    return at && strtol(at, NULL, 10) <= NOBODYS;
}

static void *storm(void *unused)
{
    const struct timespec pause = {pause_ns / 1000000000, pause_ns % 1000000000};
    struct seen last = look();

    prctl(PR_SET_NAME, "rcu_notrace");
    prctl(PR_SET_TIMERSLACK, 1);
    /* By the time that it asks RCU's two are there. */
    for (unsigned long round = 0; round < 64 || round % 32 || !is_left_over(); round++) {
        if (switching && round % 32 == 0)
            switch_mode(round);
        wait_somehow(round);
        count_since(&last);
        if (pause_ns)
            nanosleep(&pause, NULL);
    }
    return unused;
}

/* ---- whether the library that is tested is there ------------------------------------------------ */

/* Its stand-in, with what the environment of a storm says. */
enum { STAND_IN = SIGSTKFLT };

static bool is_of_the_preload(const void *address)
{
    Dl_info found;
    const char *name;

    if (!address || !dladdr(address, &found) || !found.dli_fname)
        return false;
    name = strrchr(found.dli_fname, '/');
    return !strcmp(name ? name + 1 : found.dli_fname, "librcu_notrace_preload.so");
}

/* Asked of the kernel: what sigaction() says is what the library wants the program to hear. */
static void count_preload(void)
{
    struct {
        void *handler;
        unsigned long flags;
        void *restorer;
        uint64_t mask;
    } now = {0};
    int error = errno;

    if (is_of_the_preload(dlsym(RTLD_DEFAULT, "sigaction")))
        COUNT(preloaded, 1);
    if (!syscall(SYS_rt_sigaction, STAND_IN, NULL, &now, 8) && is_of_the_preload(now.handler))
        COUNT(kept, 1);
    errno = error;
}

/* ---- where it begins ------------------------------------------------------------------------------ */

/* With all signals blocked, which the thread inherits. */
static bool start(void)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    int error = errno;
    bool started;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    started = !pthread_create(&thread, &attributes, storm, NULL);
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!started)
        COUNT(refused, 1);
    errno = error;
    return started;
}

/* What is to be there is counted first: whoever ends the process in between takes nothing from it. */
static void in_child(void)
{
    count_preload();
    watch_main();
    if (start())
        COUNT(forks, 1);
}

/* ---- the beginning ---------------------------------------------------------------------------- */

static struct counts *map_counts(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *map = MAP_FAILED;

    if (fd < 0)
        return NULL;
    if (!ftruncate(fd, sizeof(struct counts)))
        map = mmap(NULL, sizeof(struct counts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return map == MAP_FAILED ? NULL : map;
}

/* Not by getenv(3): bash has one of its own, which may look elsewhere. */
static const char *variable(const char *name)
{
    const size_t length = strlen(name);

    for (char **entry = environ; entry && *entry; entry++)
        if (!strncmp(*entry, name, length) && (*entry)[length] == '=')
            return *entry + length + 1;
    return NULL;
}

__attribute__((constructor)) static void prepare(void)
{
    const char *path = variable("RCU_NOTRACE_STORM"), *pause = variable("RCU_NOTRACE_STORM_PAUSE_US"),
               *change = variable("RCU_NOTRACE_STORM_SWITCH");
    int error = errno;

    if (!path || getauxval(AT_SECURE))
        return;
    if (pause)
        pause_ns = strtol(pause, NULL, 10) * 1000;
    switching = change && *change == '1';
    counts = map_counts(path);
    errno = error;
}

typedef int main_function(int, char **, char **);
typedef int start_function(main_function *, int, char **, void (*)(void), void (*)(void),
                           void (*)(void), void *);

/* After all libraries' constructors, which may take it that theirs is the only thread. */
__attribute__((visibility("default"))) start_function __libc_start_main;

int __libc_start_main(main_function *main, int count, char **arguments, void (*initialise)(void),
                      void (*finish)(void), void (*finish_loader)(void), void *stack_end)
{
    void *address = dlsym(RTLD_NEXT, "__libc_start_main");
    start_function *real;

    if (!address)
        abort();
    memcpy(&real, &address, sizeof(real));
    if (counts) {
        count_preload();
        has_main_key = !pthread_key_create(&main_key, on_main_exit);
        watch_main();
        if (start()) {
            COUNT(images, 1);
            pthread_atfork(NULL, NULL, in_child);
        }
    }
    return real(main, count, arguments, initialise, finish, finish_loader, stack_end);
}
