/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Prints the nanoseconds of a malloc() and a free(), each. */
#include "clock.h"

int main(void)
{
    const long rounds = 10000000;
    double begin = now_ns();

    for (long i = 0; i < rounds; i++) {
        void *block = malloc(64);

        __asm__ volatile("" : "+r"(block));
        free(block);
    }
    printf("%.3f\n", (now_ns() - begin) / (double)rounds / 2);
    return 0;
}
