/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A shared object with a tracepoint for others and one of its own; compiled with -fvisibility=hidden. */
#include "tracepoints.h"

EXPORT_TRACEPOINT_SYMBOL(shared_event);
DEFINE_TRACE(shared_event, TP_PROTO(int n), TP_ARGS(n));
DECLARE_TRACE(private_event, TP_PROTO(int n), TP_ARGS(n));
DEFINE_TRACE(private_event, TP_PROTO(int n), TP_ARGS(n));

void provider_hit(int n)
{
    trace_shared_event(n);
}

struct tracepoint *provider_private(void)
{
    return rcu_notrace_tracepoint_private_event();
}

void provider_hit_private(int n)
{
    trace_private_event(n);
}
