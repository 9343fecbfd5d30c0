/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What a call of dup or close costs, in ns of processor time: the least of ten rounds. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    long calls = argc > 1 ? atol(argv[1]) : 1000000;
    double least = 1e9;

    for (int round = 0; round < 10; round++) {
        struct timespec start, end;
        double ns;

        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
        for (long i = 0; i < calls; i++)
            close(dup(1));
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
        ns = ((double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec)) /
             (double)(2 * calls);
        if (ns < least)
            least = ns;
    }
    printf("%.2f\n", least);
    return 0;
}
