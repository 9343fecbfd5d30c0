/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Sandboxes for the tests: filters over system calls by their number. */
#ifndef SECCOMP_H
#define SECCOMP_H

#include "test.h"

#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <stddef.h>

#define LOAD_NUMBER BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define ANSWER(what) BPF_STMT(BPF_RET | BPF_K, (what))
#define ON(number, what) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), ANSWER(what)

__attribute__((unused)) static int install_filter(struct sock_filter *filter, size_t count,
                                                  unsigned flags)
{
    struct sock_fprog program = {(unsigned short)count, filter};

    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

/* From now on, in all threads and in programs that this one becomes. */
__attribute__((unused)) static void refuse_membarrier(void)
{
    static struct sock_filter filter[] = {
        LOAD_NUMBER,
        ON(SYS_membarrier, SECCOMP_RET_ERRNO | EPERM),
        ANSWER(SECCOMP_RET_ALLOW),
    };

    if (install_filter(filter, sizeof(filter) / sizeof(filter[0]), SECCOMP_FILTER_FLAG_TSYNC))
        skip("no seccomp here");
}

/* The same for two kinds of futex(2) alone. */
__attribute__((unused)) static void refuse_futex(unsigned one, unsigned other)
{
    struct sock_filter filter[] = {
        LOAD_NUMBER,
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 0, 6),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, (unsigned)FUTEX_CMD_MASK),
        ON(one, SECCOMP_RET_ERRNO | ENOSYS),
        ON(other, SECCOMP_RET_ERRNO | ENOSYS),
        ANSWER(SECCOMP_RET_ALLOW),
    };

    if (install_filter(filter, sizeof(filter) / sizeof(filter[0]), SECCOMP_FILTER_FLAG_TSYNC))
        skip("no seccomp here");
}

#endif
