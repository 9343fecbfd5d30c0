/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <rcu_notrace.h>

#include "peer.h"

int *volatile bench_pointer;

DEFINE_PEER(notrace, "notrace", rcu_read_lock_notrace(), rcu_read_unlock_notrace(),
            synchronize_rcu(), rcu_register_thread(), rcu_unregister_thread());
