/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Prints the nanoseconds of an event of one integer, recorded in overwrite mode: by this library's
 * tracepoint and recorder (one FILE, which it makes), or with -DLTTNG by LTTng-UST's, whose session the
 * caller has started.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "clock.h"

#ifdef LTTNG

#define LTTNG_UST_TRACEPOINT_DEFINE
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#include "one_lttng.h"
#define HIT(n) lttng_ust_tracepoint(rcu_notrace_bench, one, n)

static void prepare(char **argv)
{
    (void)argv;
}

#else

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rcu_notrace/tracepoint.h>

#include "../../tracers/format.h"
#include "../../tracers/rcutrace.h"

DECLARE_TRACE(one, TP_PROTO(int n), TP_ARGS(n));
DEFINE_TRACE(one, TP_PROTO(int n), TP_ARGS(n));
#define HIT(n) trace_one(n)

static struct rcutrace_event events[] = {{.description = "bench:one n:u"}};

static void probe(void *data, int n)
{
    uint64_t *word = rcutrace_reserve(&events[0], 1);

    (void)data;
    if (word) {
        word[0] = (uint64_t)n;
        rcutrace_commit(word);
    }
}

static int attach(void)
{
    return register_trace_one(probe, NULL);
}

static void detach(void)
{
    unregister_trace_one(probe, NULL);
}

static struct rcutrace_tracer tracer = {
    .name = "bench", .events = events, .event_count = 1, .attach = attach, .detach = detach};

__attribute__((constructor)) static void add(void)
{
    rcutrace_add_tracer(&tracer);
}

/* The recorder looks at the environment before main(): so it starts again, once the file is there. */
static void prepare(char **argv)
{
    struct rcutrace_header header = {.magic = RCUTRACE_MAGIC,
                                     .version = RCUTRACE_VERSION,
                                     .chunk_size = RCUTRACE_CHUNK_DEFAULT,
                                     .mode = RCUTRACE_OVERWRITE,
                                     .clock = RCUTRACE_CLOCK_TSC,
                                     .chunk_limit = 1024,
                                     .thread_chunks = 16};
    int file;

    if (getenv("RCUTRACE_FILE"))
        return;
    file = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || write(file, &header, sizeof(header)) != sizeof(header) ||
        ftruncate(file, RCUTRACE_HEADER_SIZE)) {
        perror(argv[1]);
        exit(1);
    }
    setenv("RCUTRACE_FILE", argv[1], 1);
    setenv("RCUTRACE_CONTROL", "0", 1);
    execv("/proc/self/exe", argv);
    exit(1);
}

#endif

int main(int argc, char **argv)
{
    const int rounds = 10000000;
    double begin;

    if (argc < 2)
        return 2;
    prepare(argv);
    for (int i = 0; i < 1000000; i++)
        HIT(i);
    begin = now_ns();
    for (int i = 0; i < rounds; i++)
        HIT(i);
    printf("%.3f\n", (now_ns() - begin) / rounds);
    return 0;
}
