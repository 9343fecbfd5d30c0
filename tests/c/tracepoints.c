/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A function with a tracepoint, and with WITH_MAIN a program that shows its code as it has become: the
 * bytes before a probe was registered, and after. tests/tracepoint_instructions.rs reads both. */
#include <rcu_notrace/tracepoint.h>
#include <stdio.h>

DECLARE_TRACE(event, TP_PROTO(long n), TP_ARGS(n));
DEFINE_TRACE(event, TP_PROTO(long n), TP_ARGS(n));
long with(long n);

long with(long n)
{
    trace_event(n);
    return n * 3;
}

#ifdef WITH_MAIN
static void probe(void *data, long n)
{
    (void)data;
    (void)n;
}

static void show(const char *what)
{
    const unsigned char *code = (const unsigned char *)(uintptr_t)with;

    printf("%s", what);
    for (int i = 0; i < 64; i++)
        printf(" %02x", code[i]);
    printf("\n");
}

int main(void)
{
    show("disabled");
    if (register_trace_event(probe, NULL))
        return 1;
    show("enabled");
    with(3);
    return 0;
}
#endif
