/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Prints the nanoseconds of a pthread_mutex_lock() and an unlock, each. */
#include "clock.h"

#include <pthread.h>

int main(void)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    const long rounds = 10000000;
    double begin = now_ns();

    for (long i = 0; i < rounds; i++) {
        pthread_mutex_lock(&mutex);
        pthread_mutex_unlock(&mutex);
    }
    printf("%.3f\n", (now_ns() - begin) / (double)rounds / 2);
    return 0;
}
