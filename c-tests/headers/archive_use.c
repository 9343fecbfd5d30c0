/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "archive.h"

#ifdef ASKS_ONLY
int main(void)
{
    return trace_in_an_archive_enabled();
}
#else
static int sum;

static void probe(void *data, int n)
{
    (void)data;
    sum += n;
}

int main(void)
{
    trace_in_an_archive(1);
    if (register_trace_in_an_archive(probe, NULL))
        return 1;
    trace_in_an_archive(20);
    return sum == 20 ? 0 : 2;
}
#endif
