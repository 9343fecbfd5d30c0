/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The tracer of file descriptors, its tracepoints: fd_trace.c calls them, fd_record.c has the probes.
 */
#ifndef FD_EVENTS_H
#define FD_EVENTS_H

#include <rcu_notrace/tracepoint.h>

/* After the real call. `fd`: a negated errno if it failed. `what`: a path, or a word for other things. */
DECLARE_TRACE(fd_open, TP_PROTO(int fd, const char *what, void *caller), TP_ARGS(fd, what, caller));
/* Before the real call, `result` being 0: once that has begun, another thread may get the number. And again
 * after it if it failed: a negated errno. */
DECLARE_TRACE(fd_close, TP_PROTO(int fd, int result, void *caller), TP_ARGS(fd, result, caller));

#endif
