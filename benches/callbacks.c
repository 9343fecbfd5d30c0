/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Callbacks after a grace period: what it costs to enqueue them, and how many a second pass. */
#include "bench.h"

enum { ROUNDS = 75, HEADS = 20000, THREADS = 2, PASS_ROUNDS = 9, PASS = 200000, OBJECT_BYTES = 64 };

static const struct peer_callbacks *const peers[] = {
    &callbacks_notrace,
    &callbacks_memb, &callbacks_bp};

static void nothing(struct rcu_head *head)
{
    (void)head;
}

static void release(struct rcu_head *head)
{
    free(head);
}

static pthread_barrier_t meeting;
static const struct peer_callbacks *calling;
static atomic_int ready, together;
static double times[COUNT(peers)][ROUNDS * THREADS];

struct enqueuer {
    pthread_t thread;
    int number;
    double ns;
};

static void *enqueuer(void *argument)
{
    struct enqueuer *me = argument;
    void *heads = calloc(HEADS, HEAD_BYTES);

    pin(me->number);
    for (int p = 0; p < COUNT(peers); p++)
        peers[p]->register_thread();
    while (pthread_barrier_wait(&meeting), calling) {
        uint64_t begin;

        for (ready++; ready < together;)
            ;
        begin = now_ns();
        calling->enqueue(heads, HEADS, nothing);
        me->ns = (double)(now_ns() - begin) / HEADS;
        pthread_barrier_wait(&meeting);
        /* Until the heads may be used again. */
        pthread_barrier_wait(&meeting);
    }
    for (int p = 0; p < COUNT(peers); p++)
        peers[p]->unregister_thread();
    free(heads);
    return NULL;
}

static void print_row(const char *what, double (*values)[ROUNDS * THREADS], size_t count,
                      const char *unit)
{
    printf("  %-24s", what);
    for (int p = 0; p < COUNT(peers); p++)
        printf(" %12.1f", figure(peers[p]->name, quantile(values[p], count, 0.5),
                                 "callbacks, %s: %s", what, unit));
    printf("\n");
    fflush(stdout);
}

static void enqueue(const char *what, int threads)
{
    struct enqueuer enqueuers[THREADS];

    together = threads;
    pthread_barrier_init(&meeting, NULL, (unsigned)threads + 1);
    for (int i = 0; i < threads; i++) {
        enqueuers[i].number = i;
        enqueuers[i].thread = start(enqueuer, &enqueuers[i]);
    }
    for (int r = -1; r < ROUNDS; r++)
        for (int p = 0; p < COUNT(peers); p++) {
            calling = peers[p];
            ready = 0;
            pthread_barrier_wait(&meeting);
            pthread_barrier_wait(&meeting);
            for (int i = 0; i < threads && r >= 0; i++)
                times[p][r * threads + i] = enqueuers[i].ns;
            peers[p]->barrier();
            pthread_barrier_wait(&meeting);
        }
    calling = NULL;
    pthread_barrier_wait(&meeting);
    for (int i = 0; i < threads; i++)
        pthread_join(enqueuers[i].thread, NULL);
    pthread_barrier_destroy(&meeting);
    print_row(what, times, (size_t)(ROUNDS * threads), "ns a call");
}

/* From malloc by here to free in the callback. */
static void pass(void)
{
    for (int p = 0; p < COUNT(peers); p++)
        peers[p]->register_thread();
    for (int r = 0; r < PASS_ROUNDS; r++)
        for (int p = 0; p < COUNT(peers); p++) {
            uint64_t begin = now_ns();

            for (int i = 0; i < PASS; i++)
                peers[p]->enqueue(malloc(OBJECT_BYTES), 1, release);
            peers[p]->barrier();
            times[p][r] = PASS * 1e9 / (double)(now_ns() - begin);
        }
    for (int p = 0; p < COUNT(peers); p++)
        peers[p]->unregister_thread();
    print_row("malloc to free", times, PASS_ROUNDS, "a second");
}

void bench_callbacks(void)
{
    static void *first[COUNT(peers)][HEAD_BYTES / sizeof(void *)];

    /* The workers come into being here, by a thread that may run anywhere: theirs to inherit. */
    rcu_notrace_start_worker();
    for (int p = 0; p < COUNT(peers); p++) {
        peers[p]->register_thread();
        peers[p]->enqueue(first[p], 1, nothing);
        peers[p]->barrier();
        peers[p]->unregister_thread();
    }
    printf("%-26s", "callbacks");
    for (int p = 0; p < COUNT(peers); p++)
        printf(" %12s", peers[p]->name);
    printf("   (ns a call to enqueue, then callbacks a second)\n");
    enqueue("one thread", 1);
    enqueue("two threads", 2);
    pass();
}
