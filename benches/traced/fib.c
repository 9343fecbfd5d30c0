/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A function that does next to nothing, often: prints the calls and the nanoseconds of each. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static long calls;

__attribute__((noinline)) static long fib(long n)
{
    calls++;
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

int main(int argc, char **argv)
{
    struct timespec begin, end;
    double ns;

    clock_gettime(CLOCK_MONOTONIC, &begin);
    fib(argc > 1 ? atoi(argv[1]) : 27);
    clock_gettime(CLOCK_MONOTONIC, &end);
    ns = (double)(end.tv_sec - begin.tv_sec) * 1e9 + (double)(end.tv_nsec - begin.tv_nsec);
    printf("%ld %.3f\n", calls, ns / (double)calls);
    return 0;
}
