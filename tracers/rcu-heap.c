/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* rcu-heap: runs a command with the heap tracer preloaded, and prints the table at its end. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "heap_table.h"

/* As env, nohup and timeout have it. */
enum { OUR_ERROR = 125, CANNOT_EXECUTE = 126, NOT_FOUND = 127 };

static const char usage[] =
    "Usage: rcu-heap [--toggle MS] [-o FILE] [--] COMMAND [ARG...]\n"
    "Runs COMMAND with every malloc, calloc, realloc, reallocarray, free, posix_memalign,\n"
    "aligned_alloc, memalign (and [p]valloc) of it and of its children traced, and prints a table at its end.\n"
    "\n"
    "  -t, --toggle=MS    replace the list of probes every MS milliseconds, each time with a grace\n"
    "                     period of RCU (default 10). That adds a thread to each process: give 0\n"
    "                     for programs that must have one thread, change their user or\n"
    "                     capabilities, or fork in signal handlers; then the list stays\n"
    "  -o, --output=FILE  print the table to FILE instead of standard error\n"
    "  -h, --help         print this\n"
    "\n"
    "Environment:\n"
    "  RCU_HEAP_TOGGLE    default of --toggle\n"
    "  RCU_HEAP_OUT       default of --output\n"
    "  RCU_HEAP_LIBRARY   librcu_heap.so, if it is not beside rcu-heap\n"
    "  RCU_NOTRACE_IPI    how grace periods reach readers: auto, signal or membarrier\n"
    "\n"
    "Exit status: the command's; if a signal ended it, rcu-heap dies of the same; 125 if rcu-heap\n"
    "itself fails, 126 if the command cannot be executed, 127 if it is not found.\n"
    "\n"
    "Without rcu-heap: LD_PRELOAD=librcu_heap.so COMMAND traces each program by itself.\n";

__attribute__((format(printf, 2, 3), noreturn)) static void fail(int status, const char *format,
                                                                 ...)
{
    va_list list;

    fprintf(stderr, "rcu-heap: ");
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fprintf(stderr, "\n");
    exit(status);
}

struct options {
    unsigned toggle_ms;
    const char *output;
    char **command;
};

static void parse(struct options *options, int argc, char **argv)
{
    static const struct option known[] = {
        {"toggle", required_argument, NULL, 't'},
        {"output", required_argument, NULL, 'o'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *toggle = getenv(HEAP_ENV_TOGGLE), *output = getenv(HEAP_ENV_OUT);
    static char name[] = "rcu-heap";
    bool toggle_given = false;
    int option;

    argv[0] = name; /* for getopt's messages */
    options->toggle_ms = HEAP_TOGGLE_DEFAULT;
    options->output = output && *output ? output : NULL;
    /* "+": the command's options are the command's. */
    while ((option = getopt_long(argc, argv, "+t:o:h", known, NULL)) != -1) {
        switch (option) {
        case 't':
            if (!heap_parse_toggle(optarg, &options->toggle_ms))
                fail(OUR_ERROR, "--toggle: '%s' is not a number of milliseconds from 0 to %d",
                     optarg, HEAP_TOGGLE_MAX);
            toggle_given = true;
            break;
        case 'o':
            options->output = optarg;
            break;
        case 'h':
            fputs(usage, stdout);
            exit(fflush(stdout) ? OUR_ERROR : 0);
        default:
            fprintf(stderr, "Try 'rcu-heap --help'.\n");
            exit(OUR_ERROR);
        }
    }
    if (optind == argc)
        fail(OUR_ERROR, "no command given\nTry 'rcu-heap --help'.");
    options->command = argv + optind;
    if (!toggle_given && toggle && !heap_parse_toggle(toggle, &options->toggle_ms))
        fprintf(stderr,
                "rcu-heap: %s=%s is not a number of milliseconds from 0 to %d; using %d\n",
                HEAP_ENV_TOGGLE, toggle, HEAP_TOGGLE_MAX, HEAP_TOGGLE_DEFAULT);
}

/* ---- before ---------------------------------------------------------------------------------- */

/* The tracer, as LD_PRELOAD wants it. */
static void find_library(char path[PATH_MAX])
{
    const char *given = getenv(HEAP_ENV_LIBRARY);
    ssize_t length;
    char *slash;

    if (given && *given) {
        if (!realpath(given, path))
            fail(OUR_ERROR, "%s=%s: %s", HEAP_ENV_LIBRARY, given, strerror(errno));
    } else {
        static const char name[] = "/librcu_heap.so";

        length = readlink("/proc/self/exe", path, PATH_MAX - sizeof(name));
        if (length < 0)
            fail(OUR_ERROR, "/proc/self/exe: %s", strerror(errno));
        path[length] = 0;
        slash = strrchr(path, '/');
        memcpy(slash ? slash : path, name, sizeof(name));
    }
    if (access(path, R_OK))
        fail(OUR_ERROR, "%s: %s (%s says where the tracer is)", path, strerror(errno),
             HEAP_ENV_LIBRARY);
    if (strpbrk(path, ": "))
        fail(OUR_ERROR, "%s: LD_PRELOAD takes no path with a colon or a blank", path);
}

static struct heap_table *create_table(char path[PATH_MAX])
{
    const char *directories[] = {"/dev/shm", getenv("TMPDIR"), "/tmp"};
    struct heap_table *table;
    int fd = -1, error = ENOENT;

    for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]) && fd < 0; i++) {
        if (!directories[i] || directories[i][0] != '/' ||
            snprintf(path, PATH_MAX, "%s/rcu-heap.XXXXXX", directories[i]) >= PATH_MAX)
            continue;
        fd = mkostemp(path, O_CLOEXEC); /* mode 0600 */
        error = errno;
    }
    if (fd < 0)
        fail(OUR_ERROR, "no table in /dev/shm, $TMPDIR or /tmp: %s", strerror(error));
    /* Allocated now: a full file system is an error here, and not a SIGBUS in a traced process. */
    error = posix_fallocate(fd, 0, sizeof(*table));
    table = error ? MAP_FAILED
                  : mmap(NULL, sizeof(*table), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (table == MAP_FAILED) {
        error = error ? error : errno;
        unlink(path);
        fail(OUR_ERROR, "%s: %s", path, strerror(error));
    }
    close(fd);
    table->size = sizeof(*table);
    table->magic = HEAP_MAGIC;
    return table;
}

/* ---- the command ----------------------------------------------------------------------------- */

static volatile sig_atomic_t child_pid;

/* What is sent to the launcher alone is meant for the command. */
static void pass_on(int number)
{
    int error = errno;

    if (child_pid > 0)
        kill((pid_t)child_pid, number);
    errno = error;
}

/* What the launcher does about signals, to be there for the table: SIGINT and SIGQUIT come from
 * the terminal and reach the command as well; where SIGCHLD is ignored there is no status to wait
 * for. Any other signal that was ignored stays so. */
static const struct {
    int number;
    void (*handler)(int);
} guarded[] = {{SIGINT, SIG_IGN}, {SIGQUIT, SIG_IGN}, {SIGTERM, pass_on}, {SIGHUP, pass_on},
               {SIGUSR1, pass_on}, {SIGUSR2, pass_on}, {SIGALRM, pass_on}, {SIGCHLD, SIG_DFL}};
enum { GUARDED = sizeof(guarded) / sizeof(guarded[0]) };

static void set_environment(const char *library, const char *table, unsigned toggle_ms)
{
    const char *others = getenv("LD_PRELOAD");
    char toggle[16], *preload = NULL;

    snprintf(toggle, sizeof(toggle), "%u", toggle_ms);
    if (others && *others && asprintf(&preload, "%s:%s", library, others) < 0)
        fail(OUR_ERROR, "out of memory");
    if (setenv("LD_PRELOAD", preload ? preload : library, 1) || setenv(HEAP_ENV_TABLE, table, 1) ||
        setenv(HEAP_ENV_TOGGLE, toggle, 1))
        fail(OUR_ERROR, "setenv: %s", strerror(errno));
}

/* Answers the errno of a command that could not be executed, or 0 and its wait status. */
static int run(char **command, int *status)
{
    struct sigaction before[GUARDED], action = {.sa_flags = SA_RESTART};
    int pipes[2], error = 0;
    sigset_t held, mask;
    pid_t child;

    sigemptyset(&held);
    for (int i = 0; i < GUARDED; i++)
        sigaddset(&held, guarded[i].number);
    /* Closed by a successful exec. */
    if (pipe2(pipes, O_CLOEXEC))
        return errno;
    sigprocmask(SIG_BLOCK, &held, &mask);
    for (int i = 0; i < GUARDED; i++) {
        sigaction(guarded[i].number, NULL, &before[i]);
        if (before[i].sa_handler == SIG_IGN && guarded[i].number != SIGCHLD)
            continue;
        action.sa_handler = guarded[i].handler;
        sigaction(guarded[i].number, &action, NULL);
    }
    child = fork();
    if (child == 0) {
        for (int i = 0; i < GUARDED; i++)
            sigaction(guarded[i].number, &before[i], NULL);
        sigprocmask(SIG_SETMASK, &mask, NULL);
        execvp(command[0], command);
        error = errno;
        heap_write(pipes[1], (const char *)&error, sizeof(error));
        _exit(OUR_ERROR);
    }
    if (child < 0)
        error = errno;
    child_pid = child;
    sigprocmask(SIG_SETMASK, &mask, NULL);
    close(pipes[1]);
    if (child > 0) {
        while (read(pipes[0], &error, sizeof(error)) < 0 && errno == EINTR)
            ;
        while (waitpid(child, status, 0) < 0 && errno == EINTR)
            ;
        child_pid = 0;
    }
    close(pipes[0]);
    return error;
}

/* ---- after ----------------------------------------------------------------------------------- */

static void print(const struct heap_table *table, int fd, char **command, uint64_t ms, int status)
{
    char title[256];
    size_t used = 0;

    /* The command, as much of it as a line takes. */
    for (char **word = command; *word && used < 60; word++)
        used += (size_t)snprintf(title + used, 64 - used, "%s%s", word == command ? "" : " ", *word);
    if (used >= 60) {
        used = 60;
        strcpy(title + 57, "...");
    }
    for (size_t i = 0; i < used; i++)
        if ((unsigned char)title[i] < ' ')
            title[i] = ' ';
    snprintf(title + used, sizeof(title) - used, ": %u.%03u s, %s %d", (unsigned)(ms / 1000),
             (unsigned)(ms % 1000), WIFSIGNALED(status) ? "ended by signal" : "exit status",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    if (!heap_read(&table->programs)) {
        char line[sizeof(title) + 160];
        int length = snprintf(line, sizeof(line), "rcu-heap: %s\nrcu-heap: nothing traced: the "
                              "command is linked statically or runs with another's rights\n",
                              title);

        heap_write(fd, line, (size_t)length);
        return;
    }
    heap_table_print(table, fd, title);
}

/* Ends as the command did. */
static _Noreturn void end(int status)
{
    struct rlimit no_core = {0, 0};
    sigset_t all;

    if (!WIFSIGNALED(status))
        exit(WEXITSTATUS(status));
    setrlimit(RLIMIT_CORE, &no_core); /* the command's is enough */
    signal(WTERMSIG(status), SIG_DFL);
    sigemptyset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    raise(WTERMSIG(status));
    exit(128 + WTERMSIG(status));
}

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int main(int argc, char **argv)
{
    char library[PATH_MAX], path[PATH_MAX];
    struct options options;
    struct heap_table *table;
    int output = STDERR_FILENO, status = 0, error;
    uint64_t start;

    parse(&options, argc, argv);
    find_library(library);
    if (options.output) {
        /* Emptied when there is something to print. */
        output = open(options.output, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
        if (output < 0)
            fail(OUR_ERROR, "%s: %s", options.output, strerror(errno));
    }
    table = create_table(path);
    set_environment(library, path, options.toggle_ms);
    start = now_ms();
    error = run(options.command, &status);
    unlink(path);
    if (error)
        fail(error == ENOENT ? NOT_FOUND : CANNOT_EXECUTE, "%s: %s", options.command[0],
             error == ENOENT && !strchr(options.command[0], '/') ? "command not found"
                                                                 : strerror(error));
    if (options.output && ftruncate(output, 0) && errno != EINVAL)
        fail(OUR_ERROR, "%s: %s", options.output, strerror(errno));
    signal(SIGPIPE, SIG_IGN); /* whoever reads the table may have enough of it */
    print(table, output, options.command, now_ms() - start, status);
    end(status);
}
