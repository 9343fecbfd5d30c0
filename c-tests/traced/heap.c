/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Calls of the malloc family, between two marks: malloc(0x1d0001) and malloc(0x1d0002). */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *volatile sink;

static void mark(size_t size)
{
    sink = malloc(size);
    free(sink);
}

static void *work(void *unused)
{
    for (int i = 0; i < 1000; i++) {
        char *block = malloc(100 + (size_t)i % 50);

        memset(block, 1, 100);
        sink = block;
        free(block);
    }
    return unused;
}

int main(void)
{
    void *block, *blocks[3] = {0};
    pthread_t threads[4];
    volatile size_t huge = (size_t)1 << 62;

    mark(0x1d0001);
    for (int i = 0; i < 1000; i++) {
        errno = 77;
        sink = malloc((size_t)i);
        free(sink);
        sink = calloc(3, (size_t)i);
        sink = realloc(sink, 4000);
        sink = reallocarray(sink, 100, 7);
        free(sink);
        if (errno != 77)
            return 1;
    }
    if (posix_memalign(&block, 64, 100) || posix_memalign(&blocks[0], 3, 100) != EINVAL)
        return 1;
    free(block);
    free((sink = aligned_alloc(128, 256)));
    free((sink = memalign(256, 256)));
    free((sink = valloc(10)));
    free((sink = pvalloc(10)));
    free(NULL);
    errno = 0;
    sink = malloc(huge);
    if (sink || errno != ENOMEM)
        return 1;
    errno = 0;
    sink = reallocarray(NULL, huge, huge);
    if (sink || errno != ENOMEM)
        return 1;
    sink = malloc(10);
    if (realloc(sink, 0))
        return 1;
    mark(0x1d0002);
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, work, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
