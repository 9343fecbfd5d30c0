/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What no RCU can beat: a thread-local increment and decrement, and membarrier(2) itself. */
#define _GNU_SOURCE
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "peer.h"

/* The address in a register, as code of shared objects has it; and as a constant. */
__thread int bench_count __attribute__((tls_model("initial-exec")));

DEFINE_PEER(bare, "thread-local ++ --", __asm__ volatile("incl %0" : "+m"(bench_count)),
            __asm__ volatile("decl %0" : "+m"(bench_count)), (void)0, (void)0, (void)0);

DEFINE_PEER(bare_static, "the same, constant address",
            __asm__ volatile("incl %%fs:bench_count@tpoff" : : : "memory"),
            __asm__ volatile("decl %%fs:bench_count@tpoff" : : : "memory"), (void)0, (void)0,
            (void)0);

DEFINE_PEER(membarrier, "membarrier", (void)0, (void)0,
            syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0),
            syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0), (void)0);
