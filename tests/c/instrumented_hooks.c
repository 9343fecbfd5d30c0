/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What instrumented.c's functions are made to call. Itself compiled without instrumentation, and
 * with general registers alone: a hook comes before a function has saved any. */
#include <stdio.h>

#define SLOTS 4096

extern const char __executable_start[];

__thread unsigned long hooks_of_this_thread;
static unsigned long seen[SLOTS];

void hook(unsigned long address);
void report_hooked(void);
void __cyg_profile_func_enter(void *function, void *site);
void __cyg_profile_func_exit(void *function, void *site);

/* A set: open addressing. */
__attribute__((used)) void hook(unsigned long address)
{
    hooks_of_this_thread++;
    for (unsigned long probe = address;; probe++) {
        unsigned long *slot = &seen[probe % SLOTS];
        unsigned long empty = 0;

        if (*slot == address)
            return;
        if (*slot == 0 && __atomic_compare_exchange_n(slot, &empty, address, 0, __ATOMIC_RELAXED,
                                                      __ATOMIC_RELAXED))
            return;
    }
}

void __cyg_profile_func_enter(void *function, void *site)
{
    (void)site;
    hook((unsigned long)function);
}

void __cyg_profile_func_exit(void *function, void *site)
{
    (void)site;
    hook((unsigned long)function);
}

/* Called before the prologue: preserves every register; its return address lies in the function. */
__asm__(".text\n"
        ".globl __fentry__\n"
        ".type __fentry__, @function\n"
        "__fentry__:\n\t"
        "push %rax\n\tpush %rcx\n\tpush %rdx\n\tpush %rsi\n\tpush %rdi\n\t"
        "push %r8\n\tpush %r9\n\tpush %r10\n\tpush %r11\n\tpush %rbp\n\t"
        "mov %rsp, %rbp\n\t"
        "mov 80(%rsp), %rdi\n\t"
        "and $-16, %rsp\n\t"
        "call hook\n\t"
        "mov %rbp, %rsp\n\t"
        "pop %rbp\n\tpop %r11\n\tpop %r10\n\tpop %r9\n\tpop %r8\n\t"
        "pop %rdi\n\tpop %rsi\n\tpop %rdx\n\tpop %rcx\n\tpop %rax\n\t"
        "ret\n\t"
        ".size __fentry__, . - __fentry__\n");

void report_hooked(void)
{
    for (int slot = 0; slot < SLOTS; slot++)
        if (seen[slot] != 0)
            printf("hooked %lx\n", seen[slot] - (unsigned long)__executable_start);
}
