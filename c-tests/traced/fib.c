/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* fib(N): calls 2 * fib(N + 1) - 1 functions. Prints the result and the ns of processor time for each. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

__attribute__((noinline)) static long fib(int n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

int main(int argc, char **argv)
{
    struct timespec start, end;
    int n = argc > 1 ? atoi(argv[1]) : 20;
    long result, calls[2] = {1, 1};

    for (int i = 2; i <= n; i++) {
        long next = calls[0] + calls[1] + 1;

        calls[0] = calls[1];
        calls[1] = next;
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
    result = fib(n);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    printf("%ld\n", result);
    fprintf(stderr, "%.2f\n", ((double)(end.tv_sec - start.tv_sec) * 1e9 +
                                (double)(end.tv_nsec - start.tv_nsec)) / (double)calls[1]);
    return 0;
}
