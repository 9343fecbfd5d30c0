/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Tracepoints: disabled, beside work and against LTTng-UST's; enabled, with a probe that does nothing. */
#include "bench.h"

#include <dlfcn.h>
#include <rcu_notrace/tracepoint.h>

#include "tracepoint.h"

enum { BARE, PATCHED, LOADED, LTTNG, LTTNG_INLINED, KINDS, ROUNDS = 51 };

static struct {
    const char *name, *file;
    const struct bench_tracepoint *tracepoint;
} kinds[KINDS] = {
    {"bare", "bare", NULL},
    {"patched", "patched", NULL},
    {"loaded", "loaded", NULL},
    {"lttng", "lttng", NULL},
    {"lttng inlined", "lttng_inlined", NULL},
};

static void load(int kind)
{
    char path[4200];
    ssize_t length = readlink("/proc/self/exe", path, 4096);
    void *handle;

    path[length > 0 ? length : 0] = 0;
    snprintf(strrchr(path, '/') + 1, 64, "tracepoint_%s.so", kinds[kind].file);
    if (access(path, R_OK))
        return;
    handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        fprintf(stderr, "%s\n", dlerror());
        return;
    }
    kinds[kind].tracepoint = dlsym(handle, "bench_tracepoint");
}

/* While there is one thread: later its code is not patched. */
__attribute__((constructor)) static void load_patched(void)
{
    load(PATCHED);
}

static atomic_bool done;

static void *idle(void *unused)
{
    while (!done)
        usleep(1000);
    return unused;
}

static struct rcu_notrace_tracepoint_stats tracepoint_stats(void)
{
    struct rcu_notrace_tracepoint_stats now;

    rcu_notrace_get_tracepoint_stats(&now, sizeof(now));
    return now;
}

void bench_tracepoints(void)
{
    enum { DISABLED_WORK, DISABLED, ENABLED, COLUMNS };
    static double times[COLUMNS][KINDS][ROUNDS];
    static const char *const columns[] = {"beside work", "disabled", "enabled"};
    const unsigned long count = 300000;
    volatile unsigned long sink = 0;
    pthread_t thread = start(idle, NULL);
    double median[COLUMNS][KINDS];

    load(BARE);
    load(LOADED);
    /* Its constructor would wait for a session daemon. */
    setenv("LTTNG_UST_REGISTER_TIMEOUT", "0", 0);
    load(LTTNG);
    load(LTTNG_INLINED);
    done = true;
    pthread_join(thread, NULL);
    if (tracepoint_stats().sites_patched != 2)
        printf("tracepoints: SKIP patched: code is not patched here\n");
    if (!kinds[LTTNG].tracepoint)
        printf("tracepoints: SKIP lttng: lttng/tracepoint.h is missing (apt-get install "
               "liblttng-ust-dev)\n");
    pin(1);
    for (int column = 0; column < COLUMNS; column++) {
        for (int k = 0; k < KINDS && column == ENABLED; k++)
            if (kinds[k].tracepoint && kinds[k].tracepoint->attach())
                kinds[k].tracepoint = NULL;
        for (int r = -2; r < ROUNDS; r++)
            for (int k = 0; k < KINDS; k++) {
                uint64_t begin = now_ns();

                if (!kinds[k].tracepoint)
                    continue;
                if (column == DISABLED_WORK)
                    sink += kinds[k].tracepoint->work(count);
                else
                    kinds[k].tracepoint->alone(count);
                if (r >= 0)
                    times[column][k][r] = (double)(now_ns() - begin) / (double)count;
            }
    }
    printf("%-22s %14s %14s %14s   (ns a round, with its loop)\n", "tracepoints", columns[0],
           columns[1], columns[2]);
    for (int k = 0; k < KINDS; k++) {
        if (!kinds[k].tracepoint)
            continue;
        kinds[k].tracepoint->detach();
        printf("  %-20s", kinds[k].name);
        for (int column = 0; column < COLUMNS; column++) {
            median[column][k] = quantile(times[column][k], ROUNDS, 0.5);
            printf(" %14.2f", median[column][k]);
        }
        printf("\n");
        if (k == PATCHED && tracepoint_stats().sites_patched != 2)
            continue;
        if (k != BARE)
            figure(kinds[k].name, median[ENABLED][k], "tracepoints, enabled: ns");
        if (k != BARE)
            figure(kinds[k].name, median[DISABLED_WORK][k] - median[DISABLED_WORK][BARE],
                   "tracepoints, disabled: ns more than work");
        figure(kinds[k].name, median[DISABLED_WORK][k], "tracepoints, disabled: ns with work");
    }
}
