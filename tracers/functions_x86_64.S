/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * mcount, __fentry__ and functions_return: called where no call is expected, so they keep all registers.
 * Those for integers here; vector registers by not using them: the C code behind is compiled with
 * -mgeneral-regs-only, the slow paths of RCU keep them, and those of the recorder are wrapped below.
 */
#ifdef __x86_64__

/* Ten registers: 80 bytes. The stack may be aligned in any way. */
        .set    saved, 80
        .macro  save
        pushq   %rax
        pushq   %rcx
        pushq   %rdx
        pushq   %rsi
        pushq   %rdi
        pushq   %r8
        pushq   %r9
        pushq   %r10
        pushq   %r11
        pushq   %rbx
        .cfi_adjust_cfa_offset saved
        .cfi_rel_offset %rbx, 0
        movq    %rsp, %rbx
        .cfi_def_cfa_register %rbx
        andq    $-16, %rsp
        .endm

        .macro  restore
        movq    %rbx, %rsp
        .cfi_def_cfa_register %rsp
        popq    %rbx
        .cfi_restore %rbx
        popq    %r11
        popq    %r10
        popq    %r9
        popq    %r8
        popq    %rdi
        popq    %rsi
        popq    %rdx
        popq    %rcx
        popq    %rax
        .cfi_adjust_cfa_offset -saved
        .endm

        .macro  function name
        .globl  \name
        .type   \name, @function
\name:
        .endm

        .text

/* After the function's prologue, which -pg has set up a frame pointer. */
        .p2align 4
        function _mcount
        function mcount
        .cfi_startproc
        cmpb    $0, functions_enabled(%rip)
        jne     1f
        ret
1:      save
        leaq    8(%rbp), %rdi
        movq    saved(%rbx), %rsi
        call    functions_enter
        restore
        ret
        .cfi_endproc
        .size   mcount, . - mcount
        .size   _mcount, . - _mcount

/* The function's first instruction: below our return address is the function's. */
        .p2align 4
        function __fentry__
        .cfi_startproc
        cmpb    $0, functions_enabled(%rip)
        jne     1f
        ret
1:      save
        leaq    saved + 8(%rbx), %rdi
        movq    saved(%rbx), %rsi
        call    functions_enter
        restore
        ret
        .cfi_endproc
        .size   __fentry__, . - __fentry__

/*
 * Returned to, with the stack as the caller of the function expects it. The return address is still in its place,
 * just below: that is what the unwinder is told, and where the true one is jumped to from, the
 * red zone keeping it. (A jump: a return would take the processor's predicted one of the caller.)
 *
 * The unwinder looks up the instruction before: hence the nop.
 */
        .p2align 4
        .cfi_startproc
        .cfi_personality 0x1b, functions_personality
        .cfi_def_cfa_offset 0
        nop
        .globl  functions_return
        .hidden functions_return
        .type   functions_return, @function
functions_return:
        leaq    -8(%rsp), %rsp
        .cfi_adjust_cfa_offset 8
        save
        leaq    saved(%rbx), %rdi
        call    functions_leave
        movq    %rax, saved(%rbx)
        restore
        leaq    8(%rsp), %rsp
        .cfi_adjust_cfa_offset -8
        jmp     *-8(%rsp)
        .cfi_endproc
        .size   functions_return, . - functions_return

/*
 * The recorder's slow paths, with the whole of the processor's vector state kept: with AVX, by xsave, whose
 * area must have a header of zeros; without, by fxsave. 0xe7: x87, SSE, AVX, AVX-512.
 */
        .set    area, 2688 + 64
        .macro  keeping name, callee
        .p2align 4
        function \name
        .hidden \name
        .cfi_startproc
        pushq   %rbp
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rbp, 0
        movq    %rsp, %rbp
        .cfi_def_cfa_register %rbp
        subq    $area, %rsp
        andq    $-64, %rsp
        xorl    %eax, %eax
        .irp    offset, 512, 520, 528, 536, 544, 552, 560, 568
        movq    %rax, \offset(%rsp)
        .endr
        cmpb    $0, functions_avx(%rip)
        je      1f
        movl    $0xe7, %eax
        xorl    %edx, %edx
        xsave64 (%rsp)
        call    *\callee@GOTPCREL(%rip)
        movq    %rax, %rcx
        movl    $0xe7, %eax
        xorl    %edx, %edx
        xrstor64 (%rsp)
        jmp     2f
1:      fxsave64 (%rsp)
        call    *\callee@GOTPCREL(%rip)
        movq    %rax, %rcx
        fxrstor64 (%rsp)
2:      movq    %rcx, %rax
        leave
        .cfi_def_cfa %rsp, 8
        ret
        .cfi_endproc
        .size   \name, . - \name
        .endm

        keeping functions_reserve_slowly, rcutrace_reserve_slowly
        keeping functions_commit_slowly, rcutrace_commit_slowly

#endif
        .section .note.GNU-stack, "", @progbits
