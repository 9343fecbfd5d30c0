/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Functions that do what a notrace function must not, one a kind, and some that are innocent:
 * tests/closure_teeth.rs sees that the audit names each. Never called. */
#include <string.h>

#define HIDDEN __attribute__((visibility("hidden"), noinline))
/* A function of these instructions alone. */
#define ASM(name, text) \
    __asm__(".text\n\t.globl " #name "\n\t.type " #name ", @function\n" #name ":\n\t" \
            ".cfi_startproc\n\t" text "\n\tret\n\t.cfi_endproc\n\t.size " #name ", . - " #name)

/* ---- calls that leave --------------------------------------------------------------------- */

HIDDEN void helper(char *to, const char *from, unsigned long n);
HIDDEN void helper(char *to, const char *from, unsigned long n)
{
    memcpy(to, from, n);
    __asm__ volatile("");
}
void calls_by_plt(char *to, const char *from, unsigned long n) { helper(to, from, n); to[0]++; }
void jumps_by_plt(char *to, const char *from, unsigned long n) { memcpy(to, from, n); }
ASM(calls_by_got, "call *strlen@GOTPCREL(%rip)");
ASM(takes_an_address, "mov malloc@GOTPCREL(%rip), %rax");

void (*variable)(void);
void calls_by_variable(void) { variable(); __asm__ volatile(""); }
void jumps_by_variable(void) { variable(); }
ASM(calls_by_register, "call *%rax");
ASM(calls_by_memory, "call *16(%rax)");

/* A jump table. */
int switches(int x, int y);
int switches(int x, int y)
{
    switch (x) {
    case 0: return y * 7;
    case 1: return y + 19;
    case 2: __asm__ volatile("nop"); return y / 3;
    case 3: return y ^ 0x55;
    case 4: __asm__ volatile("nop"); return y << 3;
    case 5: return y % 11;
    case 6: return y - 1000;
    case 7: return y & 0x7070;
    case 8: return y | 3;
    default: return 0;
    }
}

/* Known to nothing but a pointer that this function hands on. */
HIDDEN void taken(void) { variable(); __asm__ volatile(""); }
void hands_on_a_function(void (**to)(void)) { *to = taken; }
/* A tail of it that lies elsewhere. */
ASM(goes_to_a_far_part, "cmp $1, %edi\n\tjne 1f\n\t.pushsection .text.unlikely\n1:\tcall *%rax\n\tret\n\t"
                        ".popsection");

/* ---- thread-local storage ----------------------------------------------------------------- */

extern __thread int counter;
__thread int counter;
int asks_for_its_tls(void) { return counter; }
ASM(asks_by_a_descriptor, "lea counter@tlsdesc(%rip), %rax\n\tcall *counter@tlscall(%rax)");

/* ---- hooks -------------------------------------------------------------------------------- */

void __cyg_profile_func_enter(void *function, void *site) { (void)function; (void)site; }
void has_a_cyg_hook(void) { __cyg_profile_func_enter(0, 0); __asm__ volatile(""); }
ASM(__fentry__, "nop");
ASM(has_a_fentry_hook, "call __fentry__");
ASM(has_an_mcount_hook, "call *mcount@GOTPCREL(%rip)");
extern void mcount(void);
ASM(has_room_to_patch, "nop\n\tnop\n\tnop\n\tnop\n\tnop");
ASM(has_room_behind_endbr, "endbr64\n\t.byte 0x0f, 0x1f, 0x44, 0, 0");
ASM(has_an_xray_sled, ".byte 0xeb, 9\n\tnopw 512(%rax, %rax, 1)");

/* ---- registers ---------------------------------------------------------------------------- */

ASM(uses_x87, "fldpi\n\tfstp %st(0)");
ASM(uses_mmx, "pxor %mm0, %mm0");
ASM(uses_avx, "vaddps %ymm0, %ymm0, %ymm0");
ASM(uses_vex, "vaddps %xmm0, %xmm0, %xmm0");
ASM(uses_avx512, "vpxorq %zmm17, %zmm17, %zmm17");
ASM(uses_masks, "kxorw %k1, %k1, %k1");
ASM(uses_sse, "movups %xmm0, -16(%rsp)");
ASM(changes_rounding, "ldmxcsr -8(%rsp)");
ASM(changes_direction, "std");
ASM(saves_all, "xsave64 (%rdi)");

/* ---- system calls ------------------------------------------------------------------------- */

ASM(makes_a_known_call, "mov $39, %eax\n\tsyscall");
ASM(makes_any_call, "mov %rdi, %rax\n\tsyscall");

/* ---- stack -------------------------------------------------------------------------------- */

int leaf(int x) { return x + 1; }
HIDDEN int inner(int x)
{
    volatile char room[2000];

    room[x] = 1;
    return room[0];
}
int deep(int x) { return inner(x) + inner(x + 1); }
HIDDEN int recursive(int x) { return x < 2 ? x : recursive(x - 1) + recursive(x - 2); }
int calls_recursive(int x) { return recursive(x) + 1; }
