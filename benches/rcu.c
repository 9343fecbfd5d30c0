/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * This library and liburcu (its flavours memb, bp, mb and signal), and tracepoints beside LTTng-UST's,
 * side by side in one run, threads pinned. Ratios are what counts: absolute times on shared machines mean little. The peers take
 * turns within each round, and each figure is a median or a quantile over rounds. At the end: what
 * was aimed at, and whether it was met; the exit status does not depend on it.
 *
 *   rcu [section|idle|running|signal|report|callers|readers|callbacks|tracepoints]...      all by default
 */
#include "bench.h"

#include <stdarg.h>

/* ---- targets --------------------------------------------------------------------------------- */

enum relation { AT_MOST, AT_LEAST, EXACTLY };

static const struct target {
    const char *what;
    const char *subject;
    /* The better one of these is 1; none: the figure itself. */
    const char *references[2];
    enum relation relation;
    double limit;
} targets[] = {
    {"idle, 1 thread: median us", "notrace", {"membarrier"}, AT_MOST, 1.3},
    {"idle, 8 threads: median us", "notrace", {"membarrier"}, AT_MOST, 1.4},
    {"idle, 64 threads: median us", "notrace", {"membarrier"}, AT_MOST, 1.8},
    {"idle, 1 thread: median us", "notrace", {"memb", "bp"}, AT_MOST, 0.5},
    {"idle, 8 threads: median us", "notrace", {"memb", "bp"}, AT_MOST, 0.5},
    {"idle, 64 threads: median us", "notrace", {"memb", "bp"}, AT_MOST, 0.5},
    {"idle, 1000 threads: median us", "notrace", {"memb"}, AT_MOST, 0.25},
    {"idle, 1000 threads: median us", "notrace", {"bp"}, AT_MOST, 1},
    {"idle, 4000 threads: median us", "notrace", {"memb"}, AT_MOST, 0.25},
    {"idle, 4000 threads: median us", "notrace", {"bp"}, AT_MOST, 1},

#define RUNNING(length, subject, limit) \
    {"running, " length ": median us", subject, {"memb", "bp"}, AT_MOST, limit}, \
    {"running, " length ": p99 us", subject, {"memb"}, AT_MOST, 1}
#define RUNNING_ALL(subject) \
    RUNNING("0", subject, 0.6), RUNNING("1 us", subject, 0.6), RUNNING("10 us", subject, 0.8), \
        RUNNING("50 us", subject, 0.8), RUNNING("100 us", subject, 0.6), \
        RUNNING("1 ms", subject, 0.6)
    RUNNING_ALL("notrace"),
    RUNNING_ALL("expedited"),

    {"signal, running, 0: median us", "notrace", {"signal"}, AT_MOST, 1. / 50},
    {"signal, running, 10 us: median us", "notrace", {"signal"}, AT_MOST, 1. / 50},
    {"signal, idle, 64 threads: median us", "notrace", {"signal"}, AT_MOST, 1. / 50},

    {"report, at once: p50 us", "notrace", {NULL}, AT_MOST, 1},
    {"report, at once: wakes a report", "notrace", {NULL}, EXACTLY, 0},
    {"report, waiter spins: p50 us", "notrace", {NULL}, AT_MOST, 1},
    {"report, waiter spins: wakes a report", "notrace", {NULL}, EXACTLY, 0},
    {"report, waiter sleeps: wakes a report", "notrace", {NULL}, EXACTLY, 1},

    {"callers: calls a second", "notrace", {"bp"}, AT_LEAST, 1},
    {"callers: calls a second", "expedited", {"bp"}, AT_LEAST, 1},

    {"readers, 1 us: median us", "notrace", {"memb"}, AT_MOST, 1},
    {"readers, 1 us: p99 us", "notrace", {"memb"}, AT_MOST, 1},
    {"readers, 100 us: median us", "notrace", {"memb"}, AT_MOST, 1},
    {"readers, 100 us: p99 us", "notrace", {"memb"}, AT_MOST, 1},

    {"callbacks, one thread: ns a call", "notrace", {"memb"}, AT_MOST, 0.7},
    {"callbacks, two threads: ns a call", "notrace", {"memb"}, AT_MOST, 0.3},
    {"callbacks, malloc to free: a second", "notrace", {"memb"}, AT_LEAST, 1.5},

    {"tracepoints, disabled: ns more than work", "patched", {NULL}, AT_MOST, 0.05},
    /* As fast; this much is noise. */
    {"tracepoints, disabled: ns with work", "loaded", {"lttng"}, AT_MOST, 1.02},
    {"tracepoints, enabled: ns", "patched", {"lttng inlined"}, AT_MOST, 0.75},
    {"tracepoints, enabled: ns", "patched", {"lttng"}, AT_MOST, 0.15},
};

static struct {
    char what[64];
    const char *peer;
    double value;
} figures[512];
static int figure_count;

double figure(const char *peer, double value, const char *what, ...)
{
    va_list arguments;

    if (figure_count == COUNT(figures))
        abort();
    va_start(arguments, what);
    vsnprintf(figures[figure_count].what, sizeof(figures[0].what), what, arguments);
    va_end(arguments);
    figures[figure_count].peer = peer;
    figures[figure_count].value = value;
    figure_count++;
    return value;
}

static bool find(const char *what, const char *peer, double *value)
{
    for (int i = 0; i < figure_count; i++)
        if (peer && !strcmp(figures[i].peer, peer) && !strcmp(figures[i].what, what)) {
            *value = figures[i].value;
            return true;
        }
    return false;
}

static bool print_verdict(const struct target *target)
{
    static const char *const sign[] = {"<=", ">=", "= "};
    double value, other, best = 0, ratio;
    const char *reference = NULL;
    bool met;

    printf("  %-40s ", target->what);
    if (!find(target->what, target->subject, &value)) {
        printf("%-13s not measured\n", target->subject);
        return false;
    }
    for (int i = 0; i < COUNT(target->references); i++)
        if (find(target->what, target->references[i], &other) &&
            (!reference || (target->relation == AT_LEAST ? other > best : other < best))) {
            best = other;
            reference = target->references[i];
        }
    if (target->references[0] && !reference) {
        printf("%-13s %12.2f   %s not measured\n", target->subject, value, target->references[0]);
        return false;
    }
    ratio = reference ? value / best : value;
    met = target->relation == AT_MOST    ? ratio <= target->limit
          : target->relation == AT_LEAST ? ratio >= target->limit
                                         : ratio == target->limit;
    printf("%-13s %12.2f", target->subject, value);
    if (reference)
        printf("   %-13s %12.2f   ratio", reference, best);
    else
        printf("%37s", "");
    printf(" %7.3f   target %s %5.2f   %s\n", ratio, sign[target->relation], target->limit,
           met ? "met" : "NOT MET");
    return met;
}

struct rcu_notrace_stats notrace_stats(void)
{
    struct rcu_notrace_stats now;

    rcu_notrace_get_stats(&now, sizeof(now));
    return now;
}

/* ---- tools ----------------------------------------------------------------------------------- */

static cpu_set_t given;

void unpin(void)
{
    pthread_setaffinity_np(pthread_self(), sizeof(given), &given);
}

void pin(int cpu)
{
    cpu_set_t set;

    cpu %= CPU_COUNT(&given);
    CPU_ZERO(&set);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &given) && cpu-- == 0)
            CPU_SET(i, &set);
    pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double quantile(double *values, size_t count, double q)
{
    qsort(values, count, sizeof(*values), by_value);
    return values[(size_t)(q * (double)(count - 1))];
}

unsigned long pauses_of(double ns)
{
    static double pause_ns;

    if (pause_ns == 0) {
        double times[9];

        for (int i = 0; i < COUNT(times); i++) {
            uint64_t begin = now_ns();

            bench_pause(100000);
            times[i] = (double)(now_ns() - begin) / 100000;
        }
        pause_ns = quantile(times, (size_t)COUNT(times), 0.5);
    }
    return (unsigned long)(ns / pause_ns);
}

pthread_t start(void *(*function)(void *), void *argument)
{
    pthread_attr_t attributes;
    pthread_t thread;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 65536);
    if (pthread_create(&thread, &attributes, function, argument)) {
        fprintf(stderr, "cannot create so many threads\n");
        exit(1);
    }
    pthread_attr_destroy(&attributes);
    return thread;
}

void print_peers(const char *what, const struct peer *const *peer, int peers, int width,
                 const char *unit)
{
    printf("%-26s", what);
    for (int p = 0; p < peers; p++)
        printf(" %*s", width, peer[p]->name);
    printf("   (%s)\n", unit);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } all[] = {{"section", bench_section}, {"idle", bench_idle},
               {"running", bench_running}, {"signal", bench_signal},
               {"report", bench_report},   {"callers", bench_callers},
               {"readers", bench_readers}, {"callbacks", bench_callbacks},
               {"tracepoints", bench_tracepoints}};
    bool wanted[COUNT(all)];
    int met = 0, of = 0;

    for (int i = 0; i < COUNT(all); i++)
        wanted[i] = argc == 1;
    for (int a = 1; a < argc; a++) {
        int i = 0;

        while (i < COUNT(all) && strcmp(argv[a], all[i].name))
            i++;
        if (i == COUNT(all)) {
            fprintf(stderr, "%s: no benchmark %s\n", argv[0], argv[a]);
            return 2;
        }
        wanted[i] = true;
    }
    pthread_getaffinity_np(pthread_self(), sizeof(given), &given);
    for (int i = 0; i < COUNT(all); i++)
        if (wanted[i]) {
            all[i].run();
            unpin();
            printf("\n");
            fflush(stdout);
        }

    printf("targets\n");
    for (int t = 0; t < COUNT(targets); t++)
        for (int i = 0; i < COUNT(all); i++)
            if (wanted[i] && strcspn(targets[t].what, ",:") == strlen(all[i].name) &&
                !strncmp(targets[t].what, all[i].name, strlen(all[i].name))) {
                met += print_verdict(&targets[t]);
                of++;
            }
    printf("%d of %d met\n", met, of);
    return 0;
}
