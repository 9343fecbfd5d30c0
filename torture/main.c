/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Options, the threads, the watchdog, the end. */
#include "torture.h"

#include <getopt.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

struct options options = {
    .seconds = 30,
    .watchdog = 60,
    .stats = 10,
    .stall_ms = 100,
    .readers = 4,
    .bulk = 1,
    .idle = 2,
    .writers = 1,
    .fakewriters = 4,
    .mode = ANY_MODE,
    .type = 3,
};

const char *const mode_names[3] = {"auto", "signal", "membarrier"};
const char *const feature_names[FEATURES] = {"callbacks", "polling", "barriers", "floods",  "timers",
                                             "blocking",  "threads", "forks",    "stutter", "shuffle",
                                             "stalls",    "boost",   "probes"};

atomic_bool stop;
bool in_child, fork_was_impatient;
_Atomic uint64_t failures;
static uint64_t begin_ns;

uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void sleep_us(unsigned us)
{
    struct timespec left = {us / 1000000, (long)(us % 1000000) * 1000};

    while (nanosleep(&left, &left) && errno == EINTR)
        ;
}

void rest_ms(unsigned ms)
{
    for (unsigned slept = 0; slept < ms && !stopping(); slept += 10)
        sleep_us((ms - slept < 10 ? ms - slept : 10) * 1000);
}

pthread_t start(void *(*run)(void *), void *argument)
{
    pthread_t thread;
    int error;

    /* Limits on threads are shared with the rest of the machine. */
    for (int i = 0; (error = pthread_create(&thread, NULL, run, argument)) == EAGAIN && i < 1000; i++)
        sleep_us(10000);
    if (error) {
        fprintf(stderr, "rcu-torture: pthread_create: %s\n", strerror(error));
        _exit(1);
    }
    return thread;
}

void failure(const char *format, ...)
{
    enum { MOST_SAID = 10 };
    char text[512];
    va_list list;
    int length;

    if (failures++ < MOST_SAID) {
        length = snprintf(text, sizeof(text), "rcu-torture: FAILURE after %.3f s: ",
                          (double)(now_ns() - begin_ns) / 1e9);
        va_start(list, format);
        length += vsnprintf(text + length, sizeof(text) - 1 - (size_t)length, format, list);
        va_end(list);
        if (length > (int)sizeof(text) - 2)
            length = sizeof(text) - 2;
        text[length++] = '\n';
        if (write(2, text, (size_t)length) < 0)
            abort();
    }
    stop = true;
}

/* ---- the watchdog ------------------------------------------------------------------------------------------ */

/* After a failure the rest is to end soon. */
enum { SECONDS_AFTER_FAILURE = 10 };

static atomic_bool over;

static void give_up(unsigned seconds)
{
    for (unsigned i = 0; i < __atomic_load_n(&tallies, __ATOMIC_ACQUIRE); i++) {
        struct tally *t = tally_at(i);

        if (t->tid)
            dprintf(2, "rcu-torture: thread %d: %s, beat %llu\n", (int)t->tid, (const char *)t->phase,
                    (unsigned long long)t->beat);
    }
    dump_stats(2);
    dprintf(2, "rcu-torture: a thread made no progress for %u s\n--- End of test: FAILURE\n", seconds);
    _exit(1);
}

static void *watchdog(void *unused)
{
    enum { MOST = 1024 };
    static uint64_t beats[MOST], since[MOST];

    while (!over) {
        const unsigned limit =
            failures && options.watchdog > SECONDS_AFTER_FAILURE ? SECONDS_AFTER_FAILURE : options.watchdog;

        for (unsigned i = 0; i < __atomic_load_n(&tallies, __ATOMIC_ACQUIRE); i++) {
            struct tally *t = tally_at(i);
            const uint64_t seen = t->beat;

            if (!t->tid || seen != beats[i] || !since[i]) {
                beats[i] = seen;
                since[i] = now_ns();
            } else if (now_ns() - since[i] > limit * UINT64_C(1000000000)) {
                dprintf(2, "rcu-torture: FAILURE: thread %d hangs: %s\n", (int)t->tid, (const char *)t->phase);
                give_up(limit);
            }
        }
        sleep_us(100000);
    }
    return unused;
}

/* ---- threads --------------------------------------------------------------------------------------------------- */

enum { MOST_THREADS = 512, EXTENSIONS = 2 };

static struct job {
    const char *name;
    void *(*run)(void *);
    void *argument;
    pthread_t thread;
} jobs[MOST_THREADS];
static unsigned job_count;

static void *run_job(void *argument)
{
    struct job *job = argument;

    tally_begin(job->name);
    job->run(job->argument);
    tally_end();
    return NULL;
}

static void plan(const char *name, void *(*run)(void *), void *argument, unsigned count)
{
    for (unsigned n = 0; n < count && job_count < MOST_THREADS; n++)
        jobs[job_count++] = (struct job){.name = name, .run = run, .argument = argument};
}

static void plan_all(void)
{
    const bool *with = options.with;

    plan("reader", reader, NULL, options.readers);
    plan("bulk reader", bulk_reader, NULL, options.bulk);
    plan("idle reader", idle_reader, NULL, options.idle);
    plan("fake writer", fakewriter, NULL, options.fakewriters);
    for (unsigned f = 0; f < FLAVOURS; f++) {
        if (!has(f))
            continue;
        plan("writer", writer, &flavours[f], options.writers);
        plan("updater", updater, &flavours[f], options.updaters);
        plan("flooder", flooder, &flavours[f], with[FLOODS] && with[CALLBACKS]);
        plan("barrier tester", barrier_tester, &flavours[f], with[BARRIERS] && with[CALLBACKS]);
    }
    plan("feeder", feeder, NULL, with[BLOCKING]);
    plan("thread churner", thread_churner, NULL, with[THREADS]);
    plan("forker", forker, NULL, with[FORKS]);
    plan("stutterer", stutterer, NULL, with[STUTTER]);
    plan("shuffler", shuffler, NULL, with[SHUFFLE]);
    plan("staller", staller, NULL, with[STALLS]);
    plan("booster", booster, NULL, with[BOOST] && has(NOTRACE));
    plan("prober", prober, NULL, with[PROBES] && has(NOTRACE));
    plan("mode switcher", mode_switcher, NULL, options.mode == ANY_MODE);
}

/* What cannot be done here is said, and left out. */
static void skip_what_is_refused(void)
{
    const char *why;
    cpu_set_t all;

    if (sched_getaffinity(0, sizeof(all), &all) == 0 && CPU_COUNT(&all) < 2 && options.with[SHUFFLE]) {
        printf("rcu-torture: SKIP: shuffle: one processor\n");
        options.with[SHUFFLE] = false;
    }
    if (options.with[BOOST] && (why = boost_refused())) {
        printf("rcu-torture: SKIP: boost: real-time scheduling is not permitted here: %s\n", why);
        options.with[BOOST] = false;
    }
    if ((options.mode == ANY_MODE || options.mode == RCU_NOTRACE_IPI_MEMBARRIER) &&
        !mode_set(RCU_NOTRACE_IPI_MEMBARRIER)) {
        printf("rcu-torture: SKIP: modes auto and membarrier: membarrier(2) is refused here\n");
        options.mode = RCU_NOTRACE_IPI_SIGNAL;
    }
    mode_set(options.mode == ANY_MODE ? RCU_NOTRACE_IPI_AUTO : options.mode);
}

/* All elements are back but the current one, and each went all the way; all callbacks were called. */
static void check_books(void)
{
    for (unsigned i = 0; i < FLAVOURS; i++) {
        struct flavour *f = &flavours[i];
        struct rcu_notrace_stats s;

        if (!has(i) || !callbacks_drain(f))
            continue;
        if (f->allocations - f->frees != 1)
            failure("%s: %llu elements were taken and %llu freed", f->name, (unsigned long long)f->allocations,
                    (unsigned long long)f->frees);
        for (int age = 0; age <= RCU_TORTURE_PIPE_LEN; age++)
            if (f->circulation[age] != f->version)
                failure("%s: %llu elements were replaced, %llu left age %d", f->name,
                        (unsigned long long)f->version, (unsigned long long)f->circulation[age], age);
        s = stats_of(f);
        if (s.callbacks_queued != s.callbacks_run)
            failure("%s: the library has queued %llu callbacks and run %llu", f->name,
                    (unsigned long long)s.callbacks_queued, (unsigned long long)s.callbacks_run);
    }
}

/* ---- options -------------------------------------------------------------------------------------------------- */

static const struct number {
    const char *name;
    unsigned *value, least, most;
    const char *help;
} numbers[] = {
    {"seconds", &options.seconds, 1, 1000000, "how long"},
    {"stats", &options.stats, 1, 1000000, "seconds between two summaries"},
    {"watchdog", &options.watchdog, 2, 100000, "seconds without progress that are a failure"},
    {"stall-ms", &options.stall_ms, 1, 100000, "when a stall is reported"},
    {"readers", &options.readers, 0, 100, "threads with sections of all shapes"},
    {"bulk", &options.bulk, 0, 100, "threads with sections at full speed"},
    {"idle", &options.idle, 0, 100, "threads with a section now and then"},
    {"writers", &options.writers, 0, 20, "threads of each flavour that update in all ways"},
    {"updaters", &options.updaters, 0, 20, "threads of each flavour that update at full speed"},
    {"fakewriters", &options.fakewriters, 0, 100, "threads that wait in all ways"},
};

enum { NUMBERS = sizeof(numbers) / sizeof(numbers[0]) };

static void usage(FILE *to)
{
    fprintf(to, "usage: rcutorture [OPTION...]\n"
                "  --type notrace|trace|both   which flavours (both)\n"
                "  --mode auto|signal|membarrier|random   IPI mode; random: switched while it runs (random)\n"
                "  --seed N           of the random numbers (the time)\n"
                "  --plain            leave out all of these:\n");
    for (unsigned i = 0; i < FEATURES; i++)
        fprintf(to, "  --no-%s\n", feature_names[i]);
    for (unsigned i = 0; i < NUMBERS; i++)
        fprintf(to, "  --%s N   %s (%u)\n", numbers[i].name, numbers[i].help, *numbers[i].value);
}

__attribute__((noreturn)) static void bad_usage(const char *option, const char *value)
{
    fprintf(stderr, "rcutorture: --%s %s: not a value of it\n", option, value);
    usage(stderr);
    exit(2);
}

static uint64_t number_of(const char *option, const char *value, uint64_t least, uint64_t most)
{
    char *rest;
    uint64_t number;

    errno = 0;
    number = strtoull(value, &rest, 0);
    if (errno || *rest || rest == value || *value == '-' || number < least || number > most)
        bad_usage(option, value);
    return number;
}

static unsigned choice_of(const char *option, const char *value, const char *const *names, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (!strcmp(value, names[i]))
            return i;
    bad_usage(option, value);
}

static void parse(int argc, char **argv)
{
    enum { TYPE = 1000, MODE, SEED, PLAIN, HELP };
    static const char *const types[] = {"notrace", "trace", "both"};
    static const char *const modes[] = {"auto", "signal", "membarrier", "random"};
    static const struct option fixed[] = {{"type", required_argument, NULL, TYPE},
                                          {"mode", required_argument, NULL, MODE},
                                          {"seed", required_argument, NULL, SEED},
                                          {"plain", no_argument, NULL, PLAIN},
                                          {"help", no_argument, NULL, HELP}};
    enum { FIXED = sizeof(fixed) / sizeof(fixed[0]) };
    static struct option all[FIXED + NUMBERS + FEATURES + 1];
    static char names[FEATURES][32];
    int got, mode;

    for (unsigned i = 0; i < FEATURES; i++) {
        options.with[i] = true;
        snprintf(names[i], sizeof(names[i]), "no-%s", feature_names[i]);
        all[FIXED + NUMBERS + i] = (struct option){names[i], no_argument, NULL, 100 + (int)i};
    }
    memcpy(all, fixed, sizeof(fixed));
    for (unsigned i = 0; i < NUMBERS; i++)
        all[FIXED + i] = (struct option){numbers[i].name, required_argument, NULL, 500 + (int)i};
    options.seed = (uint64_t)time(NULL);
    while ((got = getopt_long(argc, argv, "", all, NULL)) != -1) {
        switch (got) {
        case TYPE:
            options.type = 1 + choice_of("type", optarg, types, 3);
            break;
        case MODE:
            mode = (int)choice_of("mode", optarg, modes, 4);
            options.mode = mode == 3 ? ANY_MODE : mode;
            break;
        case SEED:
            options.seed = number_of("seed", optarg, 0, UINT64_MAX);
            break;
        case PLAIN:
            memset(options.with, 0, sizeof(options.with));
            break;
        case HELP:
            usage(stdout);
            exit(0);
        case '?':
            usage(stderr);
            exit(2);
        default:
            if (got < 500)
                options.with[got - 100] = false;
            else
                *numbers[got - 500].value = (unsigned)number_of(numbers[got - 500].name, optarg,
                                                                numbers[got - 500].least, numbers[got - 500].most);
        }
    }
    if (optind < argc) {
        fprintf(stderr, "rcutorture: %s: no arguments but options\n", argv[optind]);
        exit(2);
    }
}

static void print_options(void)
{
    printf("rcu-torture: --- Start of test: type %s, mode %s, %u s, seed %llu;",
           options.type == 3 ? "both" : flavours[options.type - 1].name,
           options.mode == ANY_MODE ? "random" : mode_names[options.mode], options.seconds,
           (unsigned long long)options.seed);
    for (unsigned i = 3; i < NUMBERS; i++)
        printf(" %s %u", numbers[i].name, *numbers[i].value);
    printf("; with");
    for (unsigned i = 0; i < FEATURES; i++)
        if (options.with[i])
            printf(" %s", feature_names[i]);
    printf("\n");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    pthread_t watching;
    uint64_t end, last, next;
    bool success;

    parse(argc, argv);
    skip_what_is_refused();
    tally_begin("main");
    elements_begin();
    forks_begin();
    timers_begin();
    if (options.with[STALLS])
        stalls_begin();
    rcu_notrace_start_worker();
    summary_begin();
    print_options();
    begin_ns = now_ns();
    watching = start(watchdog, NULL);
    plan_all();
    for (unsigned i = 0; i < job_count; i++)
        jobs[i].thread = start(run_job, &jobs[i]);
    end = begin_ns + options.seconds * UINT64_C(1000000000);
    /* What has not come to pass by then, because others keep the processors busy, gets as much time again, twice. */
    last = begin_ns + (1 + EXTENSIONS) * options.seconds * UINT64_C(1000000000);
    next = begin_ns + options.stats * UINT64_C(1000000000);
    while (!stopping() && (now_ns() < end || (now_ns() < last && !summary_covers(false)))) {
        beat("main: waiting");
        sleep_us(20000);
        if (now_ns() >= next && now_ns() < end) {
            summary_print(now_ns() - begin_ns);
            next += options.stats * UINT64_C(1000000000);
        }
    }
    stop = true;
    for (unsigned i = 0; i < job_count; i++) {
        /* They are watched themselves. */
        while (pthread_tryjoin_np(jobs[i].thread, NULL) == EBUSY) {
            beat(jobs[i].name);
            sleep_us(1000);
        }
    }
    check_books();
    summary_print(now_ns() - begin_ns);
    success = summary_covers(true) && !failures;
    over = true;
    pthread_join(watching, NULL);
    printf("rcu-torture: --- End of test: %s\n", success ? "SUCCESS" : "FAILURE");
    return success ? 0 : 1;
}
