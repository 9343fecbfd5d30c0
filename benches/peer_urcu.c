/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* liburcu, read side inlined; compiled once a flavour, with -DPEER_MEMB, -DPEER_MB, -DPEER_BP or
 * -DPEER_SIGNAL. */
#define _LGPL_SOURCE
#define URCU_INLINE_SMALL_FUNCTIONS

#include "peer.h"

#if defined(PEER_MEMB)
#include <urcu/urcu-memb.h>
DEFINE_PEER(memb, "memb", urcu_memb_read_lock(), urcu_memb_read_unlock(),
            urcu_memb_synchronize_rcu(), urcu_memb_register_thread(),
            urcu_memb_unregister_thread());
DEFINE_CALLBACKS(memb, urcu_memb_call_rcu, urcu_memb_barrier);
#elif defined(PEER_MB)
#include <urcu/urcu-mb.h>
DEFINE_PEER(mb, "mb", urcu_mb_read_lock(), urcu_mb_read_unlock(), urcu_mb_synchronize_rcu(),
            urcu_mb_register_thread(), urcu_mb_unregister_thread());
#elif defined(PEER_SIGNAL)
#include <urcu/urcu-signal.h>
DEFINE_PEER(signal, "signal", urcu_signal_read_lock(), urcu_signal_read_unlock(),
            urcu_signal_synchronize_rcu(), urcu_signal_register_thread(),
            urcu_signal_unregister_thread());
#else
#include <urcu/urcu-bp.h>
DEFINE_PEER(bp, "bp", urcu_bp_read_lock(), urcu_bp_read_unlock(), urcu_bp_synchronize_rcu(),
            urcu_bp_register_thread(), urcu_bp_unregister_thread());
DEFINE_CALLBACKS(bp, urcu_bp_call_rcu, urcu_bp_barrier);
#endif
