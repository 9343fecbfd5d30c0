/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the tests of tracepoints share with their shared objects. */
#ifndef TRACEPOINTS_H
#define TRACEPOINTS_H

#ifdef RCU_NOTRACE_PORTABLE
/* As on a machine whose code is not patched. */
#define RCU_NOTRACE_NO_JUMP_LABELS
#endif
#include <rcu_notrace/tracepoint.h>

/* Defined and exported by the provider. */
DECLARE_TRACE(shared_event, TP_PROTO(int n), TP_ARGS(n));

/* tracepoints_provider.c: linked with the test. */
__attribute__((visibility("default"))) void provider_hit(int n);
__attribute__((visibility("default"))) struct tracepoint *provider_private(void);
__attribute__((visibility("default"))) void provider_hit_private(int n);

/* tracepoints_module.c: what dlopen() gets. */
struct module {
    void (*hit)(int n);
    int (*is_enabled)(void);
    struct tracepoint *(*private_event)(void);
    void (*hit_private)(int n);
};

#endif
