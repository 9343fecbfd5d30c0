//! x86-64 Linux: system calls, the thread's reader, the state word's instructions, and the
//! trampolines into the slow paths.

use core::arch::{asm, naked_asm};

use crate::reader::Reader;

/// A system call of up to three arguments.
///
/// # Safety
/// As the call itself.
#[inline(always)]
pub unsafe fn syscall3(number: i64, a: usize, b: usize, c: usize) -> isize {
    let answer: isize;
    // SAFETY: the caller's; the kernel changes rax, rcx and r11 and nothing else.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack)
        );
    }
    answer
}

/// A system call of up to six arguments.
///
/// # Safety
/// As the call itself.
#[inline(always)]
pub unsafe fn syscall6(number: i64, a: [usize; 6]) -> isize {
    let answer: isize;
    // SAFETY: as in `syscall3`.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") a[0],
            in("rsi") a[1],
            in("rdx") a[2],
            in("r10") a[3],
            in("r8") a[4],
            in("r9") a[5],
            lateout("rcx") _,
            lateout("r11") _,
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
            "lea {}, [rip]",
            "mov {}, rsp",
            "mov {}, rbp",
            out(reg) pc,
            out(reg) sp,
            out(reg) fp,
            options(nomem, nostack, preserves_flags)
        );
    }
    (pc, sp, fp)
}

/// What a signal handler returns to. These very bytes are how gdb and libgcc's unwinder know a
/// signal frame.
pub fn sigreturn() -> usize {
    // Unwinders look up the byte before a return address: a `nop` stands there.
    restorer as *const () as usize + 1
}

#[unsafe(naked)]
extern "C" fn restorer() {
    naked_asm!("nop", ".byte 0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05")
}

#[cfg(feature = "portable-reader")]
extern "C" {
    fn rcu_notrace_self() -> *const Reader;
}

/// This thread's reader of a flavour.
#[cfg(feature = "portable-reader")]
#[inline(always)]
pub fn reader(index: usize) -> &'static Reader {
    debug_assert!(index < crate::flavour::FLAVOURS);
    // SAFETY: the blocks of the running thread, one a flavour, live as long as the thread, and a
    // caller has no longer use for them (crate::reader).
    unsafe { &*rcu_notrace_self().add(index) }
}

#[cfg(not(feature = "portable-reader"))]
pub use word::{add_to_word, reader, set_top_byte, tls_lock, tls_unlock};

#[cfg(not(feature = "portable-reader"))]
mod word {
    use super::{asm, naked_asm, Reader};
    use crate::flavour::FLAVOURS;

    #[cfg(target_feature = "avx")]
    compile_error!(
        "build rcu-notrace for baseline x86-64 (no -C target-cpu): its slow paths preserve the \
         registers that baseline code can change, and no others"
    );

    /// Offset of this thread's first reader from the thread pointer. The linker turns the load
    /// into a constant where the library is part of the executable.
    #[inline(always)]
    fn offset() -> isize {
        let offset: isize;
        // SAFETY: reads one slot of the GOT, which is constant after relocation.
        unsafe {
            asm!(
                "mov {}, qword ptr [rip + rcu_notrace_reader@GOTTPOFF]",
                out(reg) offset,
                options(pure, readonly, nostack, preserves_flags)
            );
        }
        offset
    }

    /// This thread's reader of a flavour.
    #[inline(always)]
    pub fn reader(index: usize) -> &'static Reader {
        debug_assert!(index < FLAVOURS);
        let thread: usize;
        // SAFETY: %fs:0 holds the thread pointer itself, by the x86-64 TLS ABI.
        unsafe {
            asm!(
                "mov {}, qword ptr fs:[0]",
                out(reg) thread,
                options(pure, readonly, nostack, preserves_flags)
            );
        }
        let first = thread.wrapping_add_signed(offset()) as *const Reader;
        // SAFETY: the blocks of the running thread, one a flavour, live as long as the thread, and
        // a caller has no longer use for them (crate::reader).
        unsafe { &*first.add(index) }
    }

    /// One instruction on this thread's state word of the flavour at `$index`, and the call of a
    /// trampoline, past the red zone and by the GOT, if its result has the condition.
    macro_rules! on_word {
        ($instruction:literal, $condition:literal, $index:literal, $trampoline:literal) => {
            // SAFETY: changes this thread's own state word by one instruction.
            unsafe {
                asm!(
                    concat!($instruction, " dword ptr fs:[{word} + 64 * ", $index, "]"),
                    concat!($condition, " {slow}"),
                    word = in(reg) offset(),
                    slow = label {
                        // SAFETY: the trampoline preserves every register, and the red zone is
                        // stepped over.
                        unsafe {
                            asm!(
                                "lea rsp, [rsp - 128]",
                                concat!("call qword ptr [rip + ", $trampoline, "@GOTPCREL]"),
                                "lea rsp, [rsp + 128]",
                            )
                        }
                    },
                    options(nostack)
                );
            }
        };
    }

    /// The read side's lock: increment, and if the result is not negative the slow path.
    /// A compiler barrier.
    #[inline(always)]
    pub fn tls_lock(index: usize) {
        if index == 0 {
            on_word!("inc", "jns", "0", "rcu_notrace_lock_slow");
        } else {
            on_word!("inc", "jns", "1", "rcu_trace_lock_slow");
        }
    }

    /// The read side's unlock: decrement, and if the result is zero the slow path.
    /// A release: on x86 every store is, and this is a compiler barrier.
    #[inline(always)]
    pub fn tls_unlock(index: usize) {
        if index == 0 {
            on_word!("dec", "jz", "0", "rcu_notrace_unlock_slow");
        } else {
            on_word!("dec", "jz", "1", "rcu_trace_unlock_slow");
        }
    }

    /// Stores the top byte of a state word: one instruction, so atomic against signals here and
    /// against other processors; as a store it may still be overwritten by an increment in
    /// flight there (crate::word).
    ///
    /// # Safety
    /// `word` points to a state word.
    #[inline(always)]
    pub unsafe fn set_top_byte(word: *mut i32, value: u8) {
        // SAFETY: the caller's. In assembly because the memory model of Rust has no name for a
        // byte access that races with accesses to the word around it.
        unsafe {
            asm!(
                "mov byte ptr [{} + 3], {}",
                in(reg) word,
                in(reg_byte) value,
                options(nostack, preserves_flags)
            );
        }
    }

    /// Adds to a state word: one instruction, so atomic against signals on its thread.
    ///
    /// # Safety
    /// `word` points to the calling thread's own state word.
    #[inline(always)]
    pub unsafe fn add_to_word(word: *mut i32, number: i32) {
        // SAFETY: the caller's.
        unsafe { asm!("add dword ptr [{}], {:e}", in(reg) word, in(reg) number, options(nostack)) }
    }

    /// A trampoline: callable as one instruction from inlined code, of which it preserves every
    /// register, so that the fast path around it needs no frame and spills nothing. Its callers
    /// step over their red zone first; the CFI says so, and backtraces come out right.
    macro_rules! trampoline {
        ($name:ident, $slow:path) => {
            #[doc(hidden)]
            #[no_mangle]
            #[unsafe(naked)]
            pub extern "C" fn $name() {
                naked_asm!(
                    ".cfi_startproc",
                    ".cfi_def_cfa_offset 136",
                    ".cfi_offset rip, -136",
                    "endbr64",
                    "push rbp",
                    ".cfi_def_cfa_offset 144",
                    ".cfi_offset rbp, -144",
                    "mov rbp, rsp",
                    ".cfi_def_cfa_register rbp",
                    "push rax",
                    "push rcx",
                    "push rdx",
                    "push rsi",
                    "push rdi",
                    "push r8",
                    "push r9",
                    "push r10",
                    "push r11",
                    "sub rsp, 264",
                    "and rsp, -16",
                    "movaps [rsp], xmm0",
                    "movaps [rsp + 16], xmm1",
                    "movaps [rsp + 32], xmm2",
                    "movaps [rsp + 48], xmm3",
                    "movaps [rsp + 64], xmm4",
                    "movaps [rsp + 80], xmm5",
                    "movaps [rsp + 96], xmm6",
                    "movaps [rsp + 112], xmm7",
                    "movaps [rsp + 128], xmm8",
                    "movaps [rsp + 144], xmm9",
                    "movaps [rsp + 160], xmm10",
                    "movaps [rsp + 176], xmm11",
                    "movaps [rsp + 192], xmm12",
                    "movaps [rsp + 208], xmm13",
                    "movaps [rsp + 224], xmm14",
                    "movaps [rsp + 240], xmm15",
                    "call {slow}",
                    "movaps xmm0, [rsp]",
                    "movaps xmm1, [rsp + 16]",
                    "movaps xmm2, [rsp + 32]",
                    "movaps xmm3, [rsp + 48]",
                    "movaps xmm4, [rsp + 64]",
                    "movaps xmm5, [rsp + 80]",
                    "movaps xmm6, [rsp + 96]",
                    "movaps xmm7, [rsp + 112]",
                    "movaps xmm8, [rsp + 128]",
                    "movaps xmm9, [rsp + 144]",
                    "movaps xmm10, [rsp + 160]",
                    "movaps xmm11, [rsp + 176]",
                    "movaps xmm12, [rsp + 192]",
                    "movaps xmm13, [rsp + 208]",
                    "movaps xmm14, [rsp + 224]",
                    "movaps xmm15, [rsp + 240]",
                    "lea rsp, [rbp - 72]",
                    "pop r11",
                    "pop r10",
                    "pop r9",
                    "pop r8",
                    "pop rdi",
                    "pop rsi",
                    "pop rdx",
                    "pop rcx",
                    "pop rax",
                    "pop rbp",
                    ".cfi_def_cfa rsp, 136",
                    "ret",
                    ".cfi_endproc",
                    slow = sym $slow,
                )
            }
        };
    }

    trampoline!(rcu_notrace_lock_slow, crate::reader::lock_slow);
    trampoline!(rcu_notrace_unlock_slow, crate::reader::unlock_slow);
    trampoline!(rcu_trace_lock_slow, crate::reader::trace_lock_slow);
    trampoline!(rcu_trace_unlock_slow, crate::reader::trace_unlock_slow);
}
