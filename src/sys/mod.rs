//! Everything below the library: inline system calls and the other instructions that Rust cannot
//! express. One file an architecture; what is above them here is shared.
//!
//! Nothing in this module calls libc, but its clocks: the read side and the IPI handler
//! use the rest, and they must not run code that somebody may have instrumented or interposed.

use core::ptr;
use core::sync::atomic::AtomicU32;

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
use x86_64 as arch;

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "aarch64")]
use aarch64 as arch;

#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    target_endian = "little",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!(
    "rcu-notrace runs on 64-bit Linux on x86-64 and aarch64; a port is one file in src/sys/"
);

#[cfg(not(any(feature = "portable-reader", not(target_arch = "x86_64"))))]
pub use arch::{add_to_word, set_top_byte, tls_lock, tls_unlock};
pub use arch::{here, reader, sigreturn};

mod clock;
pub mod file;
pub mod futex;
mod usdt;

pub use clock::monotonic_ns;
pub(crate) use usdt::usdt;

/// A system call's answer: a value, or the negated errno.
type Answer = isize;

fn succeeded(answer: Answer) -> bool {
    !(-4095..0).contains(&answer)
}

/// `tgkill(2)` to a thread of this process.
#[inline(always)]
pub fn tgkill(pid: i32, tid: i32, signal: i32) -> Result<(), i32> {
    // SAFETY: tgkill touches no memory of this process.
    match unsafe { arch::syscall3(libc::SYS_tgkill, pid as usize, tid as usize, signal as usize) } {
        0 => Ok(()),
        error => Err(-error as i32),
    }
}

/// What the kernel passes of a signal that a process has sent; its own structure is longer.
#[repr(C, align(8))]
pub struct SentInfo {
    pub signal: i32,
    pub errno: i32,
    pub code: i32,
    gap: i32,
    pub pid: i32,
    pub uid: u32,
    pub value: usize,
    rest: [usize; 12],
}

const _: () = assert!(size_of::<SentInfo>() == size_of::<libc::siginfo_t>());

/// `rt_tgsigqueueinfo(2)` to a thread of this process: a signal that bears a value.
pub fn tgsigqueue(pid: i32, tid: i32, signal: i32, value: usize) -> Result<(), i32> {
    let info = SentInfo {
        signal,
        errno: 0,
        code: libc::SI_QUEUE,
        gap: 0,
        pid,
        uid: 0,
        value,
        rest: [0; 12],
    };
    let info = ptr::from_ref(&info) as usize;
    // SAFETY: the kernel reads `info`, which is as long as its own.
    let answer = unsafe {
        arch::syscall6(
            libc::SYS_rt_tgsigqueueinfo,
            [pid as usize, tid as usize, signal as usize, info, 0, 0],
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(-answer as i32)
    }
}

/// `getpid(2)`, asked of the kernel each time: right in a child of any kind of fork.
#[inline(always)]
pub fn getpid() -> i32 {
    // SAFETY: no arguments, no memory.
    unsafe { arch::syscall3(libc::SYS_getpid, 0, 0, 0) as i32 }
}

/// `gettid(2)`.
#[inline(always)]
pub fn gettid() -> i32 {
    // SAFETY: no arguments, no memory.
    unsafe { arch::syscall3(libc::SYS_gettid, 0, 0, 0) as i32 }
}

/// `membarrier(2)`, which the kernel or a sandbox may refuse.
pub fn membarrier(command: i32) -> Result<(), i32> {
    // SAFETY: membarrier touches no memory of this process.
    match unsafe { arch::syscall3(libc::SYS_membarrier, command as usize, 0, 0) } {
        0 => Ok(()),
        error => Err(-error as i32),
    }
}

/// `sched_yield(2)`.
pub fn sched_yield() {
    // SAFETY: no arguments, no memory.
    unsafe { arch::syscall3(libc::SYS_sched_yield, 0, 0, 0) };
}

/// Sleeps about that long.
pub fn sleep_ns(ns: u32) {
    let time = libc::timespec { tv_sec: 0, tv_nsec: libc::c_long::from(ns) };
    // SAFETY: the kernel reads a live timespec.
    if unsafe { arch::syscall3(libc::SYS_nanosleep, &raw const time as usize, 0, 0) } == 0 {
        clock::has_passed(u64::from(ns));
    }
}

/// Blocks these signals in this thread too; answers those that were.
pub fn block_signals(mask: u64) -> u64 {
    change_mask(libc::SIG_BLOCK, mask)
}

/// Blocks these signals in this thread and no others; answers those that were.
pub fn set_signal_mask(mask: u64) -> u64 {
    change_mask(libc::SIG_SETMASK, mask)
}

/// Whether this thread blocks any signal; true as well where that may not be asked.
#[inline(always)]
pub fn blocks_signals() -> bool {
    let mut mask = u64::MAX;
    let old = &raw mut mask as usize;
    // SAFETY: the kernel writes eight bytes of a live local.
    unsafe {
        arch::syscall6(libc::SYS_rt_sigprocmask, [libc::SIG_BLOCK as usize, 0, old, 8, 0, 0])
    };
    mask != 0
}

fn change_mask(how: i32, mask: u64) -> u64 {
    let mut before = 0u64;
    let (new, old) = (&raw const mask as usize, &raw mut before as usize);
    // SAFETY: the kernel reads and writes eight bytes of live locals.
    unsafe { arch::syscall6(libc::SYS_rt_sigprocmask, [how as usize, new, old, 8, 0, 0]) };
    before
}

/// Names this thread, in 15 characters.
pub fn set_thread_name(name: &core::ffi::CStr) {
    // SAFETY: the kernel reads a terminated text.
    unsafe {
        arch::syscall3(libc::SYS_prctl, libc::PR_SET_NAME as usize, name.as_ptr() as usize, 0)
    };
}

/// One `writev(2)` to standard error, of [`PIPE_BUF`] bytes at most. What cannot be written within a
/// tenth of a second is lost, by intent: a message must neither hang its process nor end or stop it by a signal, where
/// nobody reads (SIGPIPE), a file may not grow (SIGXFSZ), or a terminal is another job's (SIGTTOU: blocked, it lets
/// the message through). True if it was written.
pub fn write_stderr(parts: &[libc::iovec]) -> bool {
    let (pipe, size) = (bit(libc::SIGPIPE), bit(libc::SIGXFSZ));
    let more = if broken!("message-signals") { 0 } else { size | bit(libc::SIGTTOU) };
    let before = block_signals(pipe | more);
    let mut answer = write_without_waiting(parts);
    if answer == -(libc::EAGAIN as isize) && is_stderr_writable() {
        answer = write_without_waiting(parts);
    }
    let sent = match -answer as i32 {
        libc::EPIPE => pipe,
        libc::EFBIG => size,
        _ => 0,
    };
    if sent & !before != 0 {
        take_signal(sent);
    }
    set_signal_mask(before);
    answer > 0
}

/// So much goes into a pipe at once, if poll(2) says that anything does.
pub const PIPE_BUF: usize = libc::PIPE_BUF;

/// A signal in a mask.
const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

// Functions of their own, for little stack: the IPI handler may come here.
#[inline(never)]
fn write_without_waiting(parts: &[libc::iovec]) -> Answer {
    let (vectors, count) = (parts.as_ptr() as usize, parts.len());
    // A file takes it soon. Of others, pipes know the flag; what does not is asked by poll(2).
    // SAFETY: no memory.
    let is_file = unsafe { arch::syscall3(libc::SYS_lseek, 2, 0, libc::SEEK_CUR as usize) } >= 0;
    if !is_file {
        let any = usize::MAX;
        let no_wait = libc::RWF_NOWAIT as usize;
        // SAFETY: the kernel reads live vectors, of live text.
        let answer =
            unsafe { arch::syscall6(libc::SYS_pwritev2, [2, vectors, count, any, any, no_wait]) };
        if answer >= 0 || matches!(-answer as i32, libc::EAGAIN | libc::EPIPE | libc::EBADF) {
            return answer;
        }
        if !is_stderr_writable() {
            return answer;
        }
        // A terminal has room for a byte, at least. Opened once more it can be told not to wait for more.
        if let Some(answer) = write_to_terminal(parts) {
            return answer;
        }
    }
    // SAFETY: as above.
    unsafe { arch::syscall3(libc::SYS_writev, 2, vectors, count) }
}

/// As much as it has room for, and the rest, part by part, if there is room for it soon. None where one may not open it:
/// another user's terminal.
fn write_to_terminal(parts: &[libc::iovec]) -> Option<Answer> {
    if broken!("message-terminal") {
        return None;
    }
    let answer = write_to_own_terminal(parts)?;
    let Ok(mut written) = usize::try_from(answer) else { return Some(answer) };
    for part in parts {
        if written >= part.iov_len {
            written -= part.iov_len;
            continue;
        }
        let text = part.iov_base.wrapping_byte_add(written);
        let rest = libc::iovec { iov_base: text, iov_len: part.iov_len - written };
        written = 0;
        if !is_stderr_writable() || write_to_own_terminal(&[rest]).is_none_or(|answer| answer < 0) {
            break;
        }
    }
    Some(answer)
}

/// Opened for one write alone, and not while we wait: the program may name the descriptor meanwhile.
#[inline(never)]
fn write_to_own_terminal(parts: &[libc::iovec]) -> Option<Answer> {
    let own = file::File::open_to_write(b"/proc/thread-self/fd/2\0").ok()?;
    Some(own.write(parts))
}

#[inline(never)]
fn is_stderr_writable() -> bool {
    let mut ask = libc::pollfd { fd: 2, events: libc::POLLOUT, revents: 0 };
    let limit = libc::timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    // No signal interrupts it.
    let all = u64::MAX;
    let (fds, limit, mask) =
        (&raw mut ask as usize, &raw const limit as usize, &raw const all as usize);
    // SAFETY: the kernel reads and writes live values.
    unsafe { arch::syscall6(libc::SYS_ppoll, [fds, 1, limit, mask, 8, 0]) != 0 }
}

/// Takes off the signal that our own write caused.
#[inline(never)]
fn take_signal(signal: u64) {
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let (set, limit) = (&raw const signal as usize, &raw const now as usize);
    // SAFETY: the kernel reads live values.
    unsafe { arch::syscall6(libc::SYS_rt_sigtimedwait, [set, 0, limit, 8, 0, 0]) };
}

/// Ends the process by SIGABRT, whatever the program did to that signal.
pub fn abort() -> ! {
    let pid = getpid();
    let tid = gettid();
    let default = KernelSigaction { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };
    let _ = rt_sigaction(libc::SIGABRT, Some(&default), None);
    change_mask(libc::SIG_UNBLOCK, bit(libc::SIGABRT));
    loop {
        let _ = tgkill(pid, tid, libc::SIGABRT);
        // SAFETY: ends the process; no memory.
        unsafe { arch::syscall3(libc::SYS_exit_group, 134, 0, 0) };
    }
}

/// The kernel's `struct sigaction` of these architectures.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KernelSigaction {
    /// Address of the handler, or SIG_DFL, SIG_IGN.
    pub handler: usize,
    /// SA_ flags.
    pub flags: usize,
    /// Where the handler returns to.
    pub restorer: usize,
    /// Signals blocked while it runs.
    pub mask: u64,
}

/// `rt_sigaction(2)`, past whatever interposes libc's.
pub fn rt_sigaction(
    signal: i32,
    new: Option<&KernelSigaction>,
    old: Option<&mut KernelSigaction>,
) -> Result<(), i32> {
    let new = new.map_or(0, |action| action as *const KernelSigaction as usize);
    let old = old.map_or(0, |action| action as *mut KernelSigaction as usize);
    // SAFETY: both addresses are null or those of live structures of the kernel's layout.
    let answer =
        unsafe { arch::syscall6(libc::SYS_rt_sigaction, [signal as usize, new, old, 8, 0, 0]) };
    if succeeded(answer) {
        Ok(())
    } else {
        Err(-answer as i32)
    }
}

/// Fresh, zeroed, private memory; `None` where there is none.
pub fn map(bytes: usize) -> Option<ptr::NonNull<u8>> {
    let protection = (libc::PROT_READ | libc::PROT_WRITE) as usize;
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice harms nobody.
    let answer =
        unsafe { arch::syscall6(libc::SYS_mmap, [0, bytes, protection, flags, usize::MAX, 0]) };
    if succeeded(answer) {
        ptr::NonNull::new(answer as *mut u8)
    } else {
        None
    }
}

/// Gives memory of [`map`] back.
///
/// # Safety
/// Nobody uses those bytes any more.
pub unsafe fn unmap(address: *mut u8, bytes: usize) {
    // SAFETY: the caller's.
    unsafe { arch::syscall3(libc::SYS_munmap, address as usize, bytes, 0) };
}

/// Makes pages of code writable, or no longer so. False if that is refused.
pub fn protect_code(address: usize, bytes: usize, writable: bool) -> bool {
    let write = if writable { libc::PROT_WRITE } else { 0 };
    let protection = (libc::PROT_READ | libc::PROT_EXEC | write) as usize;
    // SAFETY: pages that are code stay readable and executable.
    unsafe { arch::syscall3(libc::SYS_mprotect, address, bytes, protection) == 0 }
}

/// Asks the kernel to zero this page in every child of a fork, of whatever kind.
pub fn wipe_on_fork(address: *mut u8, bytes: usize) -> bool {
    // SAFETY: acts on a mapping of ours, and only in children.
    unsafe {
        arch::syscall3(libc::SYS_madvise, address as usize, bytes, libc::MADV_WIPEONFORK as usize)
            == 0
    }
}

/// Whether this thread is scheduled in real time.
pub fn is_real_time() -> bool {
    // SAFETY: no memory.
    let policy = unsafe { arch::syscall3(libc::SYS_sched_getscheduler, 0, 0, 0) } as i32;
    let policy = policy & !libc::SCHED_RESET_ON_FORK;
    matches!(policy, libc::SCHED_FIFO | libc::SCHED_RR | libc::SCHED_DEADLINE)
}

/// This thread is scheduled as ordinary threads are.
pub fn leave_real_time() {
    let priority = 0i32;
    let (policy, priority) = (libc::SCHED_OTHER as usize, &raw const priority as usize);
    // SAFETY: the kernel reads a live structure of one number.
    unsafe { arch::syscall3(libc::SYS_sched_setscheduler, 0, policy, priority) };
}

fn futex(word: &AtomicU32, operation: i32, value: u32, timeout: *const libc::timespec) -> Answer {
    // SAFETY: `timeout` is null or a live timespec.
    unsafe { futex_call(word, operation, value, timeout, 0) }
}

fn futex_bitset(
    word: &AtomicU32,
    operation: i32,
    value: u32,
    limit: *const libc::timespec,
    bits: u32,
) -> Answer {
    // SAFETY: `limit` is null or a live timespec.
    unsafe { futex_call(word, operation, value, limit, bits) }
}

/// # Safety
/// `timeout` is null or points to a live timespec.
unsafe fn futex_call(
    word: &AtomicU32,
    operation: i32,
    value: u32,
    timeout: *const libc::timespec,
    bits: u32,
) -> Answer {
    let operation = (operation | libc::FUTEX_PRIVATE_FLAG) as usize;
    let (word, value, timeout) = (word.as_ptr() as usize, value as usize, timeout as usize);
    // SAFETY: the kernel reads a live word and, by the caller, at most a live timespec.
    unsafe { arch::syscall6(libc::SYS_futex, [word, operation, value, timeout, 0, bits as usize]) }
}
