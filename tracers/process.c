/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A traced process's life: start, exec, fork and exit, and what it says of itself in the file.
 *
 * A forked child is told by an atfork handler, or, where fork was bypassed (_Fork, raw clone), notices at
 * its first event: the page with the generation is wiped there. Either way it forgets the parent's chunks
 * before it writes anything. A child of vfork shares the page, and records as the thread that it stands for.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>
#include <unistd.h>

#include "recorder.h"
#include "sys.h"

struct process process = {.why = "start"};
uint32_t *process_generation;
pthread_mutex_t recorder_lock = PTHREAD_MUTEX_INITIALIZER;

/* The generation while a child begins. */
#define BEGINNING UINT32_MAX

static uint32_t generations;
static bool follow = true;

/* In the environment: what the image is that a program was executed by. Written in place, so that a
 * forked child can in any context. */
#define IMAGE_VARIABLE "RCUTRACE_IMAGE"
static char image_variable[] = IMAGE_VARIABLE "=0000000000000000";

void process_complain(const char *format, ...)
{
    char line[600];
    va_list list;
    int length;

    va_start(list, format);
    length = vsnprintf(line, sizeof(line) - 1, format, list);
    va_end(list);
    if (length > (int)sizeof(line) - 2)
        length = (int)sizeof(line) - 2;
    line[length++] = '\n';
    if (write(2, line, (size_t)length) < 0)
        return;
}

/* What stands in between has cancellation points, exit() and fork() have none: a thread that is cancelled there would
 * hold the lock for ever, a child never execute. In glibc the change is one atomic operation, fit for any context. */
void own_begin(struct own *before)
{
    before->error = errno;
    pthread_setcancelstate(BROKEN == NO_CANCELLATION ? PTHREAD_CANCEL_ENABLE : PTHREAD_CANCEL_DISABLE,
                           &before->cancel);
    before->signals = sys_block_signals(HELD_BACK & ~LIBRARYS_SIGNALS);
    rcutrace_begin_own();
}

void own_end(const struct own *before)
{
    rcutrace_end_own();
    sys_restore_signals(before->signals);
    errno = before->error;
    /* The last: where cancellation is asynchronous it may come here. */
    pthread_setcancelstate(before->cancel, NULL);
}

/* Not for ever: its holder may wait for a section that only goes on when the caller does. */
static bool lock_in_time(void)
{
    struct timespec until;

    if (rcu_read_lock_held() || rcu_read_lock_trace_held())
        return !pthread_mutex_trylock(&recorder_lock);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec++;
    return !pthread_mutex_timedlock(&recorder_lock, &until);
}

/* ---- images and generations ------------------------------------------------------------------ */

void process_renew_generation(void)
{
    uint32_t next;

    do
        next = __atomic_add_fetch(&generations, 1, __ATOMIC_RELAXED);
    while (next == 0 || next == BEGINNING);
    __atomic_store_n(process_generation, next, __ATOMIC_RELEASE);
}

static void begin_image(void)
{
    static const char digits[] = "0123456789abcdef";
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    process.pid = sys_getpid();
    process.image = (uint64_t)process.pid << 32 ^
                    (uint32_t)((uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
    for (int i = 0; i < 16; i++)
        image_variable[sizeof(IMAGE_VARIABLE) + i] = digits[process.image >> (60 - 4 * i) & 15];
}

/* With the generation at BEGINNING. */
static void begin_child(void)
{
    process.parent_image = process.image;
    process.executed = false;
    process.why = "fork";
    begin_image();
    session_after_fork();
    if (!follow)
        rcu_assign_pointer(session_current, NULL);
    recorder_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    process_renew_generation();
}

bool process_begin_child(void)
{
    uint32_t wiped = __atomic_load_n(process_generation, __ATOMIC_ACQUIRE);

    if (wiped)
        return wiped != BEGINNING;
    if (!__atomic_compare_exchange_n(process_generation, &wiped, BEGINNING, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE))
        return wiped != BEGINNING;
    begin_child();
    return true;
}

/* ---- what it says of itself ------------------------------------------------------------------ */

bool process_announce(struct session *session)
{
    const uint32_t ids[] = {process.pid, sys_getppid()};
    const struct piece pieces[] = {
        {ids, sizeof(ids)},
        {&process.image, 8},
        {&process.parent_image, 8},
        {process.why, strlen(process.why) + 1},
        {process.executable, strnlen(process.executable, 900) + 1},
        {process.arguments, strlen(process.arguments) + 1},
    };

    if (!session->introduced)
        session->introduced = record_own(RCUTRACE_PROCESS, pieces, sizeof(pieces) / sizeof(pieces[0]));
    return session->introduced && tracers_announce() && maps_announce();
}

static void read_own_names(void)
{
    ssize_t length = readlink("/proc/self/exe", process.executable, sizeof(process.executable) - 1);
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    struct stat file = {0};

    process.executable[length > 0 ? length : 0] = 0;
    length = fd < 0 || sys_fstat(fd, &file) ? 0 : pread(fd, process.arguments, sizeof(process.arguments) - 1, 0);
    if (fd >= 0)
        sys_close_if(fd, &file);
    for (ssize_t i = 0; i < length - 1; i++)
        if (!process.arguments[i])
            process.arguments[i] = ' ';
}

/* Defined where a tracer is loaded: see main.c. */
extern const char rcutrace_tells_of_main __attribute__((weak));
static bool control_is_due;

/* ---- fork ------------------------------------------------------------------------------------ */

/* How many forks the thread is in: a signal handler may fork in the middle of one. The outermost has the lock. */
static __thread unsigned forks;
static __thread bool locked_for_fork;

/* What the lock protects shall be whole in the child, and no helper inside the loader. */
static void before_fork(void)
{
    struct own before;

    own_begin(&before);
    if (!forks++ || BROKEN == FORKS_IN_FORKS)
        locked_for_fork = lock_in_time();
    own_end(&before);
}

static void in_parent(void)
{
    struct own before;

    own_begin(&before);
    if (!--forks && locked_for_fork) {
        locked_for_fork = false;
        pthread_mutex_unlock(&recorder_lock);
    }
    own_end(&before);
}

static void in_child(void)
{
    struct own before;

    own_begin(&before);
    /* Unless an event in an earlier handler of somebody's was first. */
    if (process.pid != sys_getpid() || !__atomic_load_n(process_generation, __ATOMIC_RELAXED)) {
        __atomic_store_n(process_generation, BEGINNING, __ATOMIC_RELEASE);
        begin_child();
    }
    /* The lock is a new one. The fork that a handler interrupted goes on here. */
    locked_for_fork = --forks && lock_in_time();
    /* Before main() there is no thread yet. */
    control_mask = before.signals;
    control_after_fork(follow && !control_is_due);
    own_end(&before);
}

/* ---- the environment ------------------------------------------------------------------------- */

/* As `otherwise` says, if it is neither 0 nor 1. */
static bool read_switch(const char *name, bool otherwise)
{
    const char *text = getenv(name);

    if (!text || !*text)
        return otherwise;
    if (strcmp(text, "0") && strcmp(text, "1")) {
        process_complain("rcutrace: %s=%.100s is neither 0 nor 1; using %d", name, text, otherwise);
        return otherwise;
    }
    return *text == '1';
}

static unsigned read_number(const char *name, unsigned long most)
{
    const char *text = getenv(name);
    unsigned long number;
    char *end;

    if (!text || !*text)
        return 0;
    errno = 0;
    number = strtoul(text, &end, 10);
    if (errno || *end || *text < '0' || *text > '9' || number > most) {
        process_complain("rcutrace: %s=%.100s is not a number from 0 to %lu; using 0", name, text,
                         most);
        return 0;
    }
    return (unsigned)number;
}

static void read_parent(void)
{
    const char *text = getenv(IMAGE_VARIABLE);

    if (text)
        process.parent_image = strtoull(text, NULL, 16);
    process.executed = process.parent_image >> 32 == process.pid;
    if (process.executed)
        process.why = "exec";
}

/* Children find nothing of ours in their environment. */
static void clear_environment(void)
{
    static const char *const names[] = {
        "RCUTRACE_FILE",    "RCUTRACE_ATTACH",    "RCUTRACE_STACK",          "RCUTRACE_FOLLOW",
        "RCUTRACE_CONTROL", "RCUTRACE_TOGGLE_MS", "RCUTRACE_PRELOAD_BEFORE", IMAGE_VARIABLE,
    };
    const char *preload = getenv("RCUTRACE_PRELOAD_BEFORE");

    if (preload && *preload)
        setenv("LD_PRELOAD", preload, 1);
    else
        unsetenv("LD_PRELOAD");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unsetenv(names[i]);
}

/* A drained file, in whatever directory, whose rcutrace has ended: this was started by something that it left behind. */
static bool is_over(const char *path)
{
    static const char prefix[] = "/rcutrace-";
    const char *name = strrchr(path, '/');

    return name && !strncmp(name, prefix, sizeof(prefix) - 1) && access(path, F_OK) && errno == ENOENT;
}

static void start_at_once(void)
{
    const char *path = getenv("RCUTRACE_FILE"), *names = getenv("RCUTRACE_ATTACH");
    char why[512];

    if (!path || !*path || is_over(path))
        return;
    if (!session_open(path, why, sizeof(why))) {
        process_complain("rcutrace: nothing is recorded: RCUTRACE_FILE: %s", why);
        return;
    }
    tracers_start = true;
    /* The environment may be taken away or changed before the last tracer is known. */
    tracers_at_start = names ? strdup(names) : NULL;
    record_announce();
}

/* ---- start and exit -------------------------------------------------------------------------- */

__attribute__((constructor)) static void start(void)
{
    struct own before;

    own_begin(&before);
    process_generation = sys_mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                                  -1, 0);
    if (!process_generation) {
        process_complain("rcutrace: nothing is recorded: no memory");
        own_end(&before);
        return;
    }
    if (BROKEN != WIPED_PAGE)
        sys_madvise(process_generation, 4096, MADV_WIPEONFORK);
    process_renew_generation();
    control_mask = before.signals;
    begin_image();
    /* A program that runs with another's rights is not traced. */
    if (getauxval(AT_SECURE)) {
        own_end(&before);
        return;
    }
    read_parent();
    read_own_names();
    record_start();
    stack_start();
    rcutrace_stack_depth = read_number("RCUTRACE_STACK", RCUTRACE_MOST_FRAMES);
    follow = read_switch("RCUTRACE_FOLLOW", true);
    control_wanted = read_switch("RCUTRACE_CONTROL", true);
    control_toggle_ms = read_number("RCUTRACE_TOGGLE_MS", 60000);
    pthread_atfork(before_fork, in_parent, in_child);
    pthread_mutex_lock(&recorder_lock);
    maps_renew(true);
    start_at_once();
    pthread_mutex_unlock(&recorder_lock);
    if (follow)
        putenv(image_variable);
    else
        clear_environment();
    if (&rcutrace_tells_of_main)
        control_is_due = true;
    else
        control_start();
    own_end(&before);
}

EXPORT void rcutrace_main(void)
{
    struct own before;

    if (!control_is_due)
        return;
    control_is_due = false;
    own_begin(&before);
    control_mask = before.signals;
    control_start();
    own_end(&before);
}

__attribute__((destructor)) static void finish(void)
{
    const struct piece image = {&process.image, 8};
    struct own before;

    if (!process_generation || process.pid != sys_getpid() || getauxval(AT_SECURE))
        return;
    own_begin(&before);
    if (lock_in_time()) {
        /* Later tracers may have come until now. Once is enough for all that it starts. */
        if (!process.parent_image)
            tracers_complain();
        maps_renew(false);
        record_own(RCUTRACE_EXIT, &image, 1);
        if (session_current)
            session_mark_time(session_current);
        control_finish();
        pthread_mutex_unlock(&recorder_lock);
    }
    own_end(&before);
}
