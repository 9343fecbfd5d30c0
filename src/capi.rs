//! The functions of the C ABI: checks, then one call inwards. What they promise stands in
//! `include/rcu_notrace.h`.

use core::ffi::{c_int, c_ulong, c_void};
use core::ptr;
use core::sync::atomic::{
    AtomicPtr,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use crate::bug;
use crate::flavour::NOTRACE;
use crate::ipi::{self, Mode};
use crate::reader::Reader;
use crate::section;
use crate::stats::rcu_notrace_stats;
use crate::word::Word;
use crate::{start, sys};

/// Barrier by membarrier(2), signals to readers that stay in a section.
pub const RCU_NOTRACE_IPI_AUTO: c_int = 0;
/// A signal to every reader that was active lately.
pub const RCU_NOTRACE_IPI_SIGNAL: c_int = 1;
/// Barrier by membarrier(2), requests flagged remotely, no signal ever.
pub const RCU_NOTRACE_IPI_MEMBARRIER: c_int = 2;

/// A thread's block. The inlined read side knows its first two words; the rest is the library's.
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct rcu_notrace_reader {
    /// The state word (portable build: the nesting).
    pub state: i32,
    /// Portable build: 1 while the fast path suffices.
    pub settled: i32,
    /// The library's.
    pub reserved: [u64; 7],
}

const _: () = {
    assert!(size_of::<rcu_notrace_reader>() == size_of::<Reader>());
    assert!(core::mem::offset_of!(Reader, word) == 0);
    assert!(core::mem::offset_of!(rcu_notrace_reader, settled) == 4);
    assert!(size_of::<Word>() == 8);
    assert!(RCU_NOTRACE_IPI_AUTO == Mode::Auto as c_int);
    assert!(RCU_NOTRACE_IPI_SIGNAL == Mode::Signal as c_int);
    assert!(RCU_NOTRACE_IPI_MEMBARRIER == Mode::Membarrier as c_int);
};

/// The read side's lock, as a function.
#[no_mangle]
pub extern "C" fn rcu_read_lock_notrace() {
    Word::lock_current_thread();
}

/// The read side's unlock, as a function.
#[no_mangle]
pub extern "C" fn rcu_read_unlock_notrace() {
    Word::unlock_current_thread();
}

/// Ends the process with a message unless the caller is in a section.
#[no_mangle]
pub extern "C" fn rcu_notrace_check_unlock() {
    section::check_unlock();
}

/// Non-zero in a section.
#[no_mangle]
pub extern "C" fn rcu_read_lock_held() -> c_int {
    c_int::from(section::read_lock_held())
}

/// Waits for a grace period.
#[no_mangle]
pub extern "C" fn synchronize_rcu() {
    NOTRACE.synchronize();
}

/// A cookie: a grace period from now on.
#[no_mangle]
pub extern "C" fn get_state_synchronize_rcu() -> c_ulong {
    NOTRACE.state()
}

/// Non-zero if a grace period has passed since the cookie was taken.
#[no_mangle]
pub extern "C" fn poll_state_synchronize_rcu(cookie: c_ulong) -> c_int {
    c_int::from(NOTRACE.poll(cookie))
}

/// Waits for a grace period unless one has passed since the cookie was taken.
#[no_mangle]
pub extern "C" fn cond_synchronize_rcu(cookie: c_ulong) {
    NOTRACE.synchronize_since(cookie);
}

/// Registers the calling thread now.
#[no_mangle]
pub extern "C" fn rcu_register_thread() {
    start::ensure();
    Reader::current().register();
}

/// Unregisters the calling thread, until its next section.
#[no_mangle]
pub extern "C" fn rcu_unregister_thread() {
    let me = Reader::current();
    let why = if me.state().in_section() {
        b"inside a read-side critical section".as_slice()
    } else if me.busy.load(Relaxed) != 0 {
        b"in a signal handler that interrupted RCU itself"
    } else {
        return me.leave(&NOTRACE, false);
    };
    bug::die_in_thread(sys::gettid(), &[b"rcu_unregister_thread() ", why])
}

/// Chooses the IPI mode: 0, or a negated errno.
#[no_mangle]
pub extern "C" fn rcu_notrace_set_ipi_mode(mode: c_int) -> c_int {
    match Mode::from_number(mode) {
        Some(mode) if ipi::set_mode(mode) => 0,
        Some(_) => {
            bug::warn(&[b"IPI mode membarrier: membarrier(2) is refused here"]);
            -libc::ENOSYS
        }
        None => {
            bug::warn(&[b"rcu_notrace_set_ipi_mode(): no such mode"]);
            -libc::EINVAL
        }
    }
}

/// The IPI mode in force.
#[no_mangle]
pub extern "C" fn rcu_notrace_get_ipi_mode() -> c_int {
    start::ensure();
    ipi::mode() as c_int
}

/// Copies the counters, as many as both sides know; those that only the caller knows are 0.
///
/// # Safety
/// `stats` points to `size` writable bytes.
#[no_mangle]
pub unsafe extern "C" fn rcu_notrace_get_stats(stats: *mut rcu_notrace_stats, size: usize) {
    let now = NOTRACE.stats.read();
    let known = size.min(size_of::<rcu_notrace_stats>());
    // SAFETY: `known` bytes are within `now` and, by the caller, `size` within `stats`.
    unsafe {
        ptr::copy_nonoverlapping((&raw const now).cast::<u8>(), stats.cast::<u8>(), known);
        ptr::write_bytes(stats.cast::<u8>().add(known), 0, size - known);
    }
}

/// Loads a protected pointer, given its address.
///
/// # Safety
/// `pointer` is the aligned address of a pointer.
#[no_mangle]
pub unsafe extern "C" fn rcu_notrace_dereference(pointer: *mut *mut c_void) -> *mut c_void {
    // SAFETY: the caller's.
    unsafe { AtomicPtr::from_ptr(pointer) }.load(Acquire)
}

/// Stores a protected pointer, given its address.
///
/// # Safety
/// As [`rcu_notrace_dereference`].
#[no_mangle]
pub unsafe extern "C" fn rcu_notrace_assign(pointer: *mut *mut c_void, value: *mut c_void) {
    // SAFETY: the caller's.
    unsafe { AtomicPtr::from_ptr(pointer) }.store(value, Release);
}

/// Exchanges a protected pointer, given its address.
///
/// # Safety
/// As [`rcu_notrace_dereference`].
#[no_mangle]
pub unsafe extern "C" fn rcu_notrace_xchg(
    pointer: *mut *mut c_void,
    value: *mut c_void,
) -> *mut c_void {
    // SAFETY: the caller's.
    unsafe { AtomicPtr::from_ptr(pointer) }.swap(value, AcqRel)
}

/// Compares and exchanges a protected pointer, given its address; returns what was there.
///
/// # Safety
/// As [`rcu_notrace_dereference`].
#[no_mangle]
pub unsafe extern "C" fn rcu_notrace_cmpxchg(
    pointer: *mut *mut c_void,
    old: *mut c_void,
    new: *mut c_void,
) -> *mut c_void {
    // SAFETY: the caller's.
    match unsafe { AtomicPtr::from_ptr(pointer) }.compare_exchange(old, new, AcqRel, Acquire) {
        Ok(was) | Err(was) => was,
    }
}

/// The portable read side's way into the slow path of lock.
#[cfg(any(feature = "portable-reader", not(target_arch = "x86_64")))]
#[no_mangle]
pub extern "C" fn rcu_notrace_lock_slow2() {
    crate::reader::lock_slow();
}

/// The portable read side's way into the slow path of unlock.
#[cfg(any(feature = "portable-reader", not(target_arch = "x86_64")))]
#[no_mangle]
pub extern "C" fn rcu_notrace_unlock_slow2() {
    crate::reader::unlock_slow();
}
