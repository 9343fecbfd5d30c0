/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A tracepoint that a member of an archive defines, which nothing else is wanted of. */
#ifndef ARCHIVE_H
#define ARCHIVE_H

#include <rcu_notrace/tracepoint.h>

DECLARE_TRACE(in_an_archive, TP_PROTO(int n), TP_ARGS(n));

#endif
