/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A function that does next to nothing, often: prints the nanoseconds of a call. */
#include "clock.h"

static long calls;

__attribute__((noinline)) static long fib(long n)
{
    calls++;
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

int main(void)
{
    double begin = now_ns();

    fib(30);
    printf("%.3f\n", (now_ns() - begin) / (double)calls);
    return 0;
}
