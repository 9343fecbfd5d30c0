//! AArch64 Linux: system calls and the signal return. The reader is the portable one.

use core::arch::{asm, naked_asm};

use crate::reader::Reader;

extern "C" {
    fn rcu_notrace_self() -> *const Reader;
}

/// This thread's reader of a flavour.
#[inline(always)]
pub fn reader(index: usize) -> &'static Reader {
    debug_assert!(index < crate::flavour::FLAVOURS);
    // SAFETY: the blocks of the running thread, one a flavour, live as long as the thread, and a
    // caller has no longer use for them (crate::reader).
    unsafe { &*rcu_notrace_self().add(index) }
}

/// A system call of up to three arguments.
///
/// # Safety
/// As the call itself.
#[inline(always)]
pub unsafe fn syscall3(number: i64, a: usize, b: usize, c: usize) -> isize {
    // SAFETY: the caller's.
    unsafe { syscall6(number, [a, b, c, 0, 0, 0]) }
}

/// A system call of up to six arguments.
///
/// # Safety
/// As the call itself.
#[inline(always)]
pub unsafe fn syscall6(number: i64, a: [usize; 6]) -> isize {
    let answer: isize;
    // SAFETY: the caller's; the kernel preserves every register but x0.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a[0] => answer,
            in("x1") a[1],
            in("x2") a[2],
            in("x3") a[3],
            in("x4") a[4],
            in("x5") a[5],
            options(nostack)
        );
    }
    answer
}

/// Program counter, stack pointer and frame pointer of the function that this is inlined into.
#[inline(always)]
pub fn here() -> (u64, u64, u64) {
    let (pc, sp, fp): (u64, u64, u64);
    // SAFETY: reads registers.
    unsafe {
        asm!(
            "adr {}, .",
            "mov {}, sp",
            "mov {}, x29",
            out(reg) pc,
            out(reg) sp,
            out(reg) fp,
            options(nomem, nostack, preserves_flags)
        );
    }
    (pc, sp, fp)
}

/// What a signal handler returns to.
pub fn sigreturn() -> usize {
    restorer as *const () as usize + 4
}

#[unsafe(naked)]
extern "C" fn restorer() {
    naked_asm!("nop", "mov x8, #139", "svc #0")
}
