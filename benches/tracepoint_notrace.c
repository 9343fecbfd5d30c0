/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* This library's tracepoint, or with -DBARE none; its form is that of the moment when it is loaded. */
#ifdef BARE
#include "tracepoint.h"

#define HIT(n) __asm__ volatile("" : : "r"(n))
DEFINE_TRACEPOINT_UNIT(HIT, 0, 0);
#else
#include <rcu_notrace/tracepoint.h>

#include "tracepoint.h"

DECLARE_TRACE(bench, TP_PROTO(unsigned long n), TP_ARGS(n));
DEFINE_TRACE(bench, TP_PROTO(unsigned long n), TP_ARGS(n));
DEFINE_TRACEPOINT_UNIT(trace_bench, register_trace_bench(empty_probe, NULL),
                       unregister_trace_bench(empty_probe, NULL));
#endif
