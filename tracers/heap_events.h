/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The heap tracer's tracepoints: heap_trace.c calls them, heap_record.c has the probes.
 */
#ifndef HEAP_EVENTS_H
#define HEAP_EVENTS_H

#include <rcu_notrace/tracepoint.h>

/* After the real call; `block` is NULL if it failed. */
DECLARE_TRACE(heap_malloc, TP_PROTO(void *block, size_t size, void *caller), TP_ARGS(block, size, caller));
DECLARE_TRACE(heap_calloc, TP_PROTO(void *block, size_t count, size_t size, void *caller),
              TP_ARGS(block, count, size, caller));
/* `old` is a number: that block may be another thread's by now. */
DECLARE_TRACE(heap_realloc, TP_PROTO(void *block, uintptr_t old, size_t size, void *caller),
              TP_ARGS(block, old, size, caller));
DECLARE_TRACE(heap_memalign, TP_PROTO(void *block, size_t alignment, size_t size, void *caller),
              TP_ARGS(block, alignment, size, caller));
/* Before the real call: once that has begun, another thread may get the block. */
DECLARE_TRACE(heap_free, TP_PROTO(void *block, void *caller), TP_ARGS(block, caller));

#endif
