/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The function tracer's tracepoints: functions_trace.c calls them, functions_record.c has the probes.
 */
#ifndef FUNCTIONS_EVENTS_H
#define FUNCTIONS_EVENTS_H

#include <stdint.h>

#include <rcu_notrace/tracepoint.h>

/* `function`: an address in it. `site`: where it returns to. */
DECLARE_TRACE(function_entry, TP_PROTO(uintptr_t function, uintptr_t site), TP_ARGS(function, site));
/* The same `function`. */
DECLARE_TRACE(function_exit, TP_PROTO(uintptr_t function), TP_ARGS(function));

/* Whether mcount and __fentry__ have anything to do. */
extern unsigned char functions_enabled;

#endif
