/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Prints the nanoseconds of a malloc() and a free(), each. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int main(void)
{
    const long rounds = 20000000;
    struct timespec begin, end;
    double ns;

    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (long i = 0; i < rounds; i++) {
        void *block = malloc(64);

        __asm__ volatile("" : "+r"(block));
        free(block);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    ns = (double)(end.tv_sec - begin.tv_sec) * 1e9 + (double)(end.tv_nsec - begin.tv_nsec);
    printf("%.3f\n", ns / (double)rounds / 2);
    return 0;
}
