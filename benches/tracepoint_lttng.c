/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* LTTng-UST's tracepoint with a probe of one's own; with -D_LGPL_SOURCE its RCU is inlined,
 * and its thread-local variables are then reached as an executable would (-ftls-model=initial-exec). */
#define LTTNG_UST_TRACEPOINT_DEFINE
#define LTTNG_UST_TRACEPOINT_PROBE_DYNAMIC_LINKAGE
#include <lttng/tracepoint.h>

#include "tracepoint.h"

/* A probe goes to all tracepoints of a name. */
#ifdef _LGPL_SOURCE
LTTNG_UST_TRACEPOINT_EVENT(rcu_notrace_bench, inlined, LTTNG_UST_TP_ARGS(unsigned long, n), )
#define HIT(n) lttng_ust_tracepoint(rcu_notrace_bench, inlined, n)
#define SIGNATURE lttng_ust_tracepoint_rcu_notrace_bench___inlined.signature
#define NAMES "rcu_notrace_bench", "inlined", (void (*)(void))empty_probe, NULL
#else
LTTNG_UST_TRACEPOINT_EVENT(rcu_notrace_bench, called, LTTNG_UST_TP_ARGS(unsigned long, n), )
#define HIT(n) lttng_ust_tracepoint(rcu_notrace_bench, called, n)
#define SIGNATURE lttng_ust_tracepoint_rcu_notrace_bench___called.signature
#define NAMES "rcu_notrace_bench", "called", (void (*)(void))empty_probe, NULL
#endif
DEFINE_TRACEPOINT_UNIT(HIT, lttng_ust_tracepoint_provider_register(NAMES, SIGNATURE),
                       lttng_ust_tracepoint_provider_unregister(NAMES));
