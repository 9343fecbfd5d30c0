/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A traced process's life: start, fork and exit, and the thread that replaces the probe list.
 *
 * Under the launcher the table is the launcher's, and the launcher prints it. With a bare
 * LD_PRELOAD the table is an anonymous mapping, which children share until they exec, and the
 * process that made it prints it from its destructor.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <rcu_notrace.h>

#include "heap.h"

static unsigned toggle_ms = HEAP_TOGGLE_DEFAULT;

/* Who prints, and where. */
static struct {
    pid_t pid; /* 0: nobody, the launcher will */
    int fd;
    dev_t device;
    ino_t inode;
    struct timespec start;
} printer = {.fd = -1};

/* ---- the library's numbers ------------------------------------------------------------------- */

/* What the table has of them already. */
static heap_counter reported[HEAP_STATS];

static void read_stats(uint64_t now[HEAP_STATS])
{
    struct rcu_notrace_stats stats;

    rcu_notrace_get_stats(&stats, sizeof(stats));
    now[HEAP_GRACE_PERIODS] = stats.grace_periods;
    now[HEAP_IPIS] = stats.ipis;
    now[HEAP_HOLDOUTS] = stats.holdouts;
    now[HEAP_RESCUES] = stats.rescues;
    now[HEAP_PARKS] = stats.parks;
}

/* The exchange lets the exiting thread and the replacing one both come here. */
static void report_stats(struct heap_table *table)
{
    uint64_t now[HEAP_STATS];

    read_stats(now);
    for (int i = 0; i < HEAP_STATS; i++)
        heap_add(&table->stats[i], now[i] - atomic_exchange(&reported[i], now[i]));
}

/* A process whose main thread has called pthread_exit ends with its last other thread: that must
 * not be ours. The main thread's destructor tells; it runs in no other way of ending. */
static atomic_bool main_has_left;
static pthread_key_t main_key;

static void on_main_exit(void *unused)
{
    (void)unused;
    main_has_left = true;
}

static void watch_main_thread(void)
{
    main_has_left = false;
    pthread_setspecific(main_key, &main_key);
}

/* Beside us there is only what is left of the main thread. */
static bool is_last_thread(void)
{
    struct stat tasks;

    return !stat("/proc/self/task", &tasks) && tasks.st_nlink == 2 + 2;
}

/* ---- the thread that replaces the list ------------------------------------------------------- */

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void *replace_for_ever(void *unused)
{
    const uint64_t period = (uint64_t)toggle_ms * 1000000;
    uint64_t next = now_ns();

    (void)unused;
    heap_thread.own = true;
    prctl(PR_SET_NAME, "rcu-heap");
    /* In a forked child: the forking thread may still be in a section that began before the fork
     * and uses a list that the parent had replaced. */
    synchronize_rcu();
    for (;;) {
        struct heap_table *table = heap_probes_table();
        uint64_t now = now_ns();
        struct timespec until;

        next += period;
        if (next < now)
            next = now + period;
        until.tv_sec = (time_t)(next / 1000000000);
        until.tv_nsec = (long)(next % 1000000000);
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        heap_probes_replace(table);
        heap_add(&table->toggles, 1);
        report_stats(table);
        if (main_has_left && is_last_thread())
            return NULL;
    }
}

/* With all signals blocked, which the thread inherits. Where no thread can be had the list stays
 * as it is; the counting does not depend on it. */
static void start_thread(void)
{
    const size_t stack = 256 * 1024;
    pthread_attr_t attributes;
    pthread_t thread;

    if (!toggle_ms || pthread_attr_init(&attributes))
        return;
    watch_main_thread();
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, stack);
    if (pthread_create(&thread, &attributes, replace_for_ever, NULL) == EINVAL) {
        /* A program with a large thread-local segment, for which the stack is too small. */
        pthread_attr_destroy(&attributes);
        if (pthread_attr_init(&attributes))
            return;
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        pthread_create(&thread, &attributes, replace_for_ever, NULL);
    }
    pthread_attr_destroy(&attributes);
}

/* ---- the table ------------------------------------------------------------------------------- */

static struct heap_table *map_table(int fd)
{
    struct heap_table *table =
        mmap(NULL, sizeof(*table), PROT_READ | PROT_WRITE,
             fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED, fd, 0);

    return table == MAP_FAILED ? NULL : table;
}

/* The launcher's, or NULL. The path comes from the environment, so nothing is believed of it.
 * `orphan`: there is or was a launcher, which alone prints. */
static struct heap_table *open_table(bool *orphan)
{
    const char *path = secure_getenv(HEAP_ENV_TABLE);
    struct heap_table *table = NULL;
    struct stat file;
    int fd;

    *orphan = false;
    if (!path || !*path)
        return NULL;
    /* Whatever goes wrong from here on (the launcher has ended, this process has another user, no
     * descriptor or memory is left): the program's standard error is not ours to print on. */
    *orphan = true;
    fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return NULL;
    if (!fstat(fd, &file) && S_ISREG(file.st_mode) && file.st_uid == geteuid() &&
        !(file.st_mode & 077) && file.st_size == (off_t)sizeof(*table))
        table = map_table(fd);
    close(fd);
    if (table && (table->magic != HEAP_MAGIC || table->size != sizeof(*table))) {
        munmap(table, sizeof(*table));
        table = NULL;
    }
    return table;
}

/* Counts this process and its one thread, unless they were there before their exec. */
static void count_process(struct heap_table *table, bool forked)
{
    uint32_t pid = (uint32_t)getpid();

    if (atomic_exchange(&table->pids[pid % HEAP_PIDS], pid) != pid || forked) {
        heap_add(&table->processes, 1);
        heap_add(&table->threads, 1);
    }
    heap_thread.generation = heap_generation;
    heap_thread.shard = (unsigned)(heap_read(&table->threads) % HEAP_SHARDS);
}

/* ---- printing -------------------------------------------------------------------------------- */

/* Out of the way of a program that counts on low numbers. */
enum { HIGH_FD = 200 };

static int move_high(int fd)
{
    int high = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);

    return high >= 0 ? high : fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

/* Takes hold of the output now: coreutils close standard error in atexit, programs chdir. */
static void start_printer(void)
{
    const char *path = secure_getenv(HEAP_ENV_OUT);
    struct stat file;
    int fd = -1;

    if (path && *path) {
        fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        if (fd < 0)
            dprintf(2, "rcu-heap: %s=%s: %s; the table goes to standard error\n", HEAP_ENV_OUT,
                    path, strerror(errno));
    }
    printer.fd = move_high(fd >= 0 ? fd : 2);
    if (fd >= 0)
        close(fd);
    if (printer.fd < 0 || fstat(printer.fd, &file))
        return;
    printer.device = file.st_dev;
    printer.inode = file.st_ino;
    clock_gettime(CLOCK_MONOTONIC, &printer.start);
    printer.pid = getpid();
}

/* Whether our descriptor is ours still: the program may have closed it, and have another file
 * there by now. */
static bool has_printer_fd(void)
{
    struct stat file;

    return printer.pid && !fstat(printer.fd, &file) && file.st_dev == printer.device &&
           file.st_ino == printer.inode;
}

/* With all signals blocked. */
static void print_table(const struct heap_table *table)
{
    static const struct timespec at_once = {0, 0};
    struct timespec now;
    sigset_t pipe;
    char title[128];
    uint64_t ms;

    if (printer.pid != getpid() || !has_printer_fd())
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    ms = (uint64_t)(now.tv_sec - printer.start.tv_sec) * 1000 +
         (uint64_t)(now.tv_nsec / 1000000) - (uint64_t)(printer.start.tv_nsec / 1000000);
    snprintf(title, sizeof(title), "%.60s (%d): %u.%03u s", program_invocation_short_name,
             (int)printer.pid, (unsigned)(ms / 1000), (unsigned)(ms % 1000));
    heap_table_print(table, printer.fd, title);
    /* A pipe that nobody reads is no reason for the program to die of it, at its exit. */
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    sigtimedwait(&pipe, NULL, &at_once);
}

/* ---- start, fork, exit ----------------------------------------------------------------------- */

static void begin_own(sigset_t *before)
{
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, before);
    heap_thread.own = true;
}

static void end_own(const sigset_t *before)
{
    heap_thread.own = false;
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

static void in_child(void)
{
    struct heap_table *table = heap_probes_table();
    int64_t live = atomic_load_explicit(&heap_live, memory_order_relaxed);
    int error = errno;
    uint64_t now[HEAP_STATS];
    sigset_t before;

    begin_own(&before);
    heap_generation++;
    /* The child does not print. Whoever waits for the end of the file, a pipe perhaps, shall not
     * wait for a child that has closed its own standard error. */
    if (has_printer_fd())
        close(printer.fd);
    printer.pid = 0;
    count_process(table, true);
    heap_add(&table->inherited, (uint64_t)live);
    /* The library goes on from the parent's numbers, which the parent reports. */
    read_stats(now);
    for (int i = 0; i < HEAP_STATS; i++)
        atomic_store(&reported[i], now[i]);
    start_thread();
    end_own(&before);
    errno = error;
}

__attribute__((constructor)) static void start(void)
{
    const char *toggle = secure_getenv(HEAP_ENV_TOGGLE);
    struct heap_table *table;
    int error = errno;
    sigset_t before;
    bool orphan;

    begin_own(&before);
    if (toggle && !heap_parse_toggle(toggle, &toggle_ms))
        dprintf(2, "rcu-heap: %s=%s is not a number of milliseconds from 0 to %d; using %d\n",
                HEAP_ENV_TOGGLE, toggle, HEAP_TOGGLE_MAX, HEAP_TOGGLE_DEFAULT);
    table = open_table(&orphan);
    if (!table) {
        table = map_table(-1);
        if (!orphan)
            start_printer();
    }
    if (table)
        heap_probes_replace(table);
    else
        table = heap_probes_table();
    heap_add(&table->programs, 1);
    atomic_store(&table->ipi_mode, (uint64_t)rcu_notrace_get_ipi_mode() + 1);
    if (heap_thread.generation == heap_generation)
        heap_add(&table->threads, (uint64_t)-1); /* an early event counted this thread */
    count_process(table, false);
    pthread_atfork(NULL, NULL, in_child);
    pthread_key_create(&main_key, on_main_exit);
    start_thread();
    end_own(&before);
    errno = error;
}

__attribute__((destructor)) static void finish(void)
{
    struct heap_table *table = heap_probes_table();
    int error = errno;
    sigset_t before;

    begin_own(&before);
    report_stats(table);
    print_table(table);
    end_own(&before);
    errno = error;
}
