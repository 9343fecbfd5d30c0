/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* For those who look from outside (gdb, valgrind): threads, locks, the heap, a timer's signal, waits in poll(2).
 * busy ROUNDS PID-FILE [while-there]: once, or as often as the file is still there; the same sum each time. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

enum { THREADS = 3 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static int turn, rounds;
static long sum;
static volatile sig_atomic_t ticks;

static void on_tick(int signal)
{
    (void)signal;
    ticks++;
}

/* In turns. */
static void *work(void *argument)
{
    const int me = *(int *)argument;

    for (int i = 0; i < rounds; i++) {
        char *block = malloc((size_t)(100 + i % 1000));

        memset(block, i, 100);
        pthread_mutex_lock(&lock);
        while (turn != me)
            pthread_cond_wait(&turned, &lock);
        sum += (unsigned char)block[99];
        turn = (me + 1) % THREADS;
        pthread_cond_broadcast(&turned);
        pthread_mutex_unlock(&lock);
        free(block);
        if (i % 8 == 0 && poll(NULL, 0, 1) < 0 && errno != EINTR)
            abort();
    }
    return argument;
}

int main(int argc, char **argv)
{
    const struct itimerval rate = {{0, 2000}, {0, 2000}};
    struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    pthread_t threads[THREADS];
    int numbers[THREADS];
    FILE *file;

    if (argc < 3 || !(file = fopen(argv[2], "w")))
        return 2;
    rounds = atoi(argv[1]);
    fprintf(file, "%d\n", getpid());
    fclose(file);
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &rate, NULL);
    do {
        const long before = sum;

        sum = 0;
        for (int i = 0; i < THREADS; i++) {
            numbers[i] = i;
            if (pthread_create(&threads[i], NULL, work, &numbers[i]))
                return 3;
        }
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        if (before && sum != before)
            return 4;
    } while (argc > 3 && !access(argv[2], F_OK));
    printf("sum %ld, %s\n", sum, ticks > 10 ? "ticks" : "no ticks");
    return 11;
}
