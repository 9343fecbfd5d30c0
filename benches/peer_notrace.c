/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* This library; compiled once more with -DRCU_NOTRACE_STATIC. */
#include <rcu_notrace.h>

#include "peer.h"

#ifdef RCU_NOTRACE_STATIC
DEFINE_PEER(notrace_static, "the same, constant address", rcu_read_lock_notrace(),
            rcu_read_unlock_notrace(), synchronize_rcu(), rcu_register_thread(),
            rcu_unregister_thread());
#else
int *volatile bench_pointer;

DEFINE_PEER(notrace, "notrace", rcu_read_lock_notrace(), rcu_read_unlock_notrace(),
            synchronize_rcu(), rcu_register_thread(), rcu_unregister_thread());
DEFINE_PEER(expedited, "expedited", rcu_read_lock_notrace(), rcu_read_unlock_notrace(),
            synchronize_rcu_expedited(), rcu_register_thread(), rcu_unregister_thread());
DEFINE_CALLBACKS(notrace, call_rcu, rcu_barrier);
#endif
