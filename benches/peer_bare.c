/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What no RCU can beat: a thread-local increment and decrement, and membarrier(2) itself. */
#define _GNU_SOURCE
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "peer.h"

static __thread int count;

DEFINE_PEER(bare, "thread-local ++ --", __asm__ volatile("incl %0" : "+m"(count)),
            __asm__ volatile("decl %0" : "+m"(count)), (void)0, (void)0, (void)0);

DEFINE_PEER(membarrier, "membarrier(2)", (void)0, (void)0,
            syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0),
            syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0), (void)0);
