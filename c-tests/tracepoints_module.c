/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A shared object that comes and goes: the provider's tracepoint, and one of its own that has the
 * name of one of the provider's; compiled with -fvisibility=hidden. */
#include "tracepoints.h"

DECLARE_TRACE(private_event, TP_PROTO(int n), TP_ARGS(n));
DEFINE_TRACE(private_event, TP_PROTO(int n), TP_ARGS(n));

static void hit(int n)
{
    trace_shared_event(n);
}

static int is_enabled(void)
{
    return trace_shared_event_enabled();
}

static struct tracepoint *private_event(void)
{
    return rcu_notrace_tracepoint_private_event();
}

static void hit_private(int n)
{
    trace_private_event(n);
}

__attribute__((visibility("default"))) extern const struct module module;
const struct module module = {hit, is_enabled, private_event, hit_private};
