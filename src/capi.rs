//! The functions of the C ABI: checks, then one call inwards. What they promise stands in
//! `include/rcu_notrace.h`.

use core::ffi::{c_int, c_ulong, c_void};
use core::ptr;
use core::sync::atomic::{
    AtomicPtr,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use crate::callback::{self, Head, MOST_OFFSET};
use crate::event;
use crate::flavour::{self, Flavour, NOTRACE, NOTRACE_INDEX, TRACE, TRACE_INDEX};
use crate::grace_period::Urgency;
use crate::ipi::{self, Mode};
use crate::reader::{busy, Reader, PROBATION};
use crate::section;
use crate::seq::COMPLETED;
use crate::stall::{self, rcu_notrace_stall, Answer};
use crate::stats::rcu_notrace_stats;
use crate::word::Word;
use crate::{bug, exit, start, sys};

/// Barrier by membarrier(2), signals to readers that stay in a section.
pub const RCU_NOTRACE_IPI_AUTO: c_int = 0;
/// A signal to every reader that was active lately.
pub const RCU_NOTRACE_IPI_SIGNAL: c_int = 1;
/// Barrier by membarrier(2), requests flagged remotely; no signal, as long as membarrier(2) works.
pub const RCU_NOTRACE_IPI_MEMBARRIER: c_int = 2;

/// A cookie for which a grace period has always passed.
pub const RCU_NOTRACE_COMPLETED: c_ulong = 1;

/// A thread's reader of a flavour. The inlined read side knows its first two words; the rest is the library's.
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
    assert!(RCU_NOTRACE_EXIT_LEAVE == exit::LEAVE && RCU_NOTRACE_EXIT_RUN == exit::RUN);
    assert!(RCU_NOTRACE_COMPLETED == COMPLETED);
    assert!(RCU_NOTRACE_STALL_IPI_NOT_SENT == Answer::NotSent as c_int);
    assert!(RCU_NOTRACE_STALL_IPI_ANSWERED == Answer::Answered as c_int);
    assert!(RCU_NOTRACE_STALL_IPI_BLOCKED == Answer::Blocked as c_int);
    assert!(RCU_NOTRACE_STALL_IPI_IGNORED == Answer::Ignored as c_int);
    assert!(RCU_NOTRACE_STALL_IPI_REPLACED == Answer::Replaced as c_int);
    assert!(RCU_NOTRACE_STALL_IPI_PENDING == Answer::Pending as c_int);
    assert!(RCU_NOTRACE_STALL_IPI_STOLEN == Answer::Stolen as c_int);
    assert!(RCU_NOTRACE_STALL_IPI_DEAD == Answer::Dead as c_int);
    assert!(RCU_NOTRACE_IPI_AUTO == Mode::Auto as c_int);
    assert!(RCU_NOTRACE_IPI_SIGNAL == Mode::Signal as c_int);
    assert!(RCU_NOTRACE_IPI_MEMBARRIER == Mode::Membarrier as c_int);
};

/// The read side's lock, as a function.
#[no_mangle]
pub extern "C" fn rcu_read_lock_notrace() {
    Word::lock_current_thread(NOTRACE_INDEX);
}

/// The read side's unlock, as a function.
#[no_mangle]
pub extern "C" fn rcu_read_unlock_notrace() {
    Word::unlock_current_thread(NOTRACE_INDEX);
}

/// Ends the process with a message unless the caller is in a section.
#[no_mangle]
pub extern "C" fn rcu_notrace_check_unlock() {
    NOTRACE.check_unlock();
}

/// Non-zero in a section.
#[no_mangle]
pub extern "C" fn rcu_read_lock_held() -> c_int {
    c_int::from(section::read_lock_held())
}

/// Waits for a grace period.
#[no_mangle]
pub extern "C" fn synchronize_rcu() {
    NOTRACE.synchronize(NOTRACE.names.synchronize, Urgency::Normal);
}

/// Waits for a grace period, which is hurried along.
#[no_mangle]
pub extern "C" fn synchronize_rcu_expedited() {
    NOTRACE.synchronize(b"synchronize_rcu_expedited() ", Urgency::Expedited);
}

/// A cookie: a grace period from now on.
#[no_mangle]
pub extern "C" fn get_state_synchronize_rcu() -> c_ulong {
    NOTRACE.state()
}

/// A cookie, and the worker starts a grace period.
#[no_mangle]
pub extern "C" fn start_poll_synchronize_rcu() -> c_ulong {
    NOTRACE.start_poll(Urgency::Normal)
}

/// A cookie, and the worker starts a grace period, which is hurried along.
#[no_mangle]
pub extern "C" fn start_poll_synchronize_rcu_expedited() -> c_ulong {
    NOTRACE.start_poll(Urgency::Expedited)
}

/// Non-zero if a grace period has passed since the cookie was taken.
#[no_mangle]
pub extern "C" fn poll_state_synchronize_rcu(cookie: c_ulong) -> c_int {
    c_int::from(NOTRACE.poll(cookie))
}

/// Waits for a grace period unless one has passed since the cookie was taken.
#[no_mangle]
pub extern "C" fn cond_synchronize_rcu(cookie: c_ulong) {
    NOTRACE.synchronize_since(cookie, b"cond_synchronize_rcu() ", Urgency::Normal);
}

/// Likewise, and the grace period is hurried along.
#[no_mangle]
pub extern "C" fn cond_synchronize_rcu_expedited(cookie: c_ulong) {
    NOTRACE.synchronize_since(cookie, b"cond_synchronize_rcu_expedited() ", Urgency::Expedited);
}

/// What callers of `call_rcu()` provide; `include/rcu_notrace.h` defines it for C.
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct rcu_head {
    next: *mut rcu_head,
    func: Option<unsafe extern "C" fn(*mut rcu_head)>,
}

const _: () = assert!(size_of::<rcu_head>() == size_of::<Head>());

/// Calls `func(head)` after a grace period.
///
/// # Safety
/// The head stays where it is, and untouched, until it is called.
#[no_mangle]
pub unsafe extern "C" fn call_rcu(
    head: *mut rcu_head,
    func: Option<unsafe extern "C" fn(*mut rcu_head)>,
) {
    // SAFETY: the caller's.
    unsafe { queue(&NOTRACE, head, func) }
}

unsafe fn queue(
    flavour: &Flavour,
    head: *mut rcu_head,
    func: Option<unsafe extern "C" fn(*mut rcu_head)>,
) {
    match func {
        // SAFETY: the caller's.
        Some(func) if !head.is_null() => unsafe {
            flavour.call_and_tell(head.cast(), func as usize)
        },
        _ => bug::die(&[flavour.names.call, b"without a head or without a function"]),
    }
}

/// Frees the block of malloc's in which `head` lies, `offset` bytes from its beginning, after a
/// grace period: 0, or -EINVAL for an offset of 4096 or more.
///
/// # Safety
/// As it says; and the block is not touched from now on.
#[no_mangle]
pub unsafe extern "C" fn rcu_notrace_free(head: *mut rcu_head, offset: usize) -> c_int {
    if offset > MOST_OFFSET {
        bug::warn(&[b"free_rcu(): the head must lie in the first 4096 bytes of its block"]);
        return -libc::EINVAL;
    }
    // As free(NULL).
    if head.addr() == offset {
        return 0;
    }
    // SAFETY: the caller's.
    unsafe { NOTRACE.free_and_tell(head.cast(), offset) };
    0
}

/// Waits until all callbacks that were queued before have run.
#[no_mangle]
pub extern "C" fn rcu_barrier() {
    NOTRACE.barrier();
}

/// Creates the worker thread now: 0, or -EAGAIN.
#[no_mangle]
pub extern "C" fn rcu_notrace_start_worker() -> c_int {
    start::ensure();
    // The other flavour's, if it has something to do.
    callback::at_safe_point();
    if NOTRACE.callbacks.worker.start(&NOTRACE) {
        0
    } else {
        -libc::EAGAIN
    }
}

/// Callbacks that wait when the process exits are left alone.
pub const RCU_NOTRACE_EXIT_LEAVE: c_int = 0;
/// They are run by exit(3), after the program's own exit handlers.
pub const RCU_NOTRACE_EXIT_RUN: c_int = 1;

/// Chooses what becomes of callbacks at exit: 0, or -EINVAL.
#[no_mangle]
pub extern "C" fn rcu_notrace_set_exit_policy(policy: c_int) -> c_int {
    start::ensure();
    if exit::set_policy(policy) {
        return 0;
    }
    bug::warn(&[b"rcu_notrace_set_exit_policy(): no such policy"]);
    -libc::EINVAL
}

/// Registers the calling thread now.
#[no_mangle]
pub extern "C" fn rcu_register_thread() {
    start::ensure();
    callback::at_safe_point();
    NOTRACE.reader().register(&NOTRACE);
    if event::enabled::rcu_register_thread() {
        event::rcu_register_thread(sys::gettid());
    }
    // The exit hook is armed, so the first section of the other flavour may join.
    TRACE.reader().probation.store(PROBATION, Relaxed);
}

/// Unregisters the calling thread, until its next section.
#[no_mangle]
pub extern "C" fn rcu_unregister_thread() {
    let why = if flavour::ALL.iter().any(|flavour| flavour.reader().state(flavour).in_section()) {
        b"inside a read-side critical section".as_slice()
    } else if busy::of_this_thread().load(Relaxed) & !busy::FORKING != 0 {
        b"in a signal handler that interrupted RCU itself"
    } else {
        // Before: a probe's section afterwards would register the thread again.
        if event::enabled::rcu_unregister_thread() {
            event::rcu_unregister_thread(sys::gettid());
        }
        for flavour in flavour::ALL {
            flavour.reader().leave(flavour, false);
        }
        return;
    };
    bug::die_in_thread(sys::gettid(), &[b"rcu_unregister_thread() ", why])
}

/// The read side of the flavour for sections that may block for long.
#[no_mangle]
pub extern "C" fn rcu_read_lock_trace() {
    Word::lock_current_thread(TRACE_INDEX);
}

/// Its unlock.
#[no_mangle]
pub extern "C" fn rcu_read_unlock_trace() {
    Word::unlock_current_thread(TRACE_INDEX);
}

/// Ends the process with a message unless the caller is in a section of that flavour.
#[no_mangle]
pub extern "C" fn rcu_trace_check_unlock() {
    TRACE.check_unlock();
}

/// Non-zero in a section of that flavour.
#[no_mangle]
pub extern "C" fn rcu_read_lock_trace_held() -> c_int {
    c_int::from(TRACE.reader().state(&TRACE).in_section())
}

/// Waits for a grace period of that flavour.
#[no_mangle]
pub extern "C" fn synchronize_rcu_tasks_trace() {
    TRACE.synchronize(TRACE.names.synchronize, Urgency::Normal);
}

/// Calls `func(head)` after a grace period of that flavour.
///
/// # Safety
/// As [`call_rcu`].
#[no_mangle]
pub unsafe extern "C" fn call_rcu_tasks_trace(
    head: *mut rcu_head,
    func: Option<unsafe extern "C" fn(*mut rcu_head)>,
) {
    // SAFETY: the caller's.
    unsafe { queue(&TRACE, head, func) }
}

/// Waits until all callbacks of that flavour that were queued before have run.
#[no_mangle]
pub extern "C" fn rcu_barrier_tasks_trace() {
    TRACE.barrier();
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
    start::ensure_started();
    ipi::mode() as c_int
}

/// Copies the counters, as many as both sides know; those that only the caller knows are 0.
///
/// # Safety
/// `stats` points to `size` writable bytes.
#[no_mangle]
pub unsafe extern "C" fn rcu_notrace_get_stats(stats: *mut rcu_notrace_stats, size: usize) {
    // SAFETY: the caller's.
    unsafe { copy_stats(&NOTRACE, stats, size) }
}

/// Those of the flavour for sections that may block for long.
///
/// # Safety
/// As [`rcu_notrace_get_stats`].
#[no_mangle]
pub unsafe extern "C" fn rcu_tasks_trace_get_stats(stats: *mut rcu_notrace_stats, size: usize) {
    // SAFETY: the caller's.
    unsafe { copy_stats(&TRACE, stats, size) }
}

unsafe fn copy_stats(flavour: &Flavour, stats: *mut rcu_notrace_stats, size: usize) {
    let now = flavour.stats();
    // SAFETY: the caller's.
    unsafe { copy_known(&now, stats, size) };
}

/// Copies what both sides know of a structure that grows, all integers; what only the caller knows is 0.
///
/// # Safety
/// `to` points to `size` writable bytes.
pub unsafe fn copy_known<T>(from: &T, to: *mut T, size: usize) {
    let from = ptr::from_ref(from).cast::<u8>();
    for at in 0..size {
        // SAFETY: the byte is one of `from`, by the comparison, and one of `to`, by the caller. Volatile, or
        // the compiler makes this loop a call of memcpy, and signal handlers may call this.
        unsafe {
            let byte = if at < size_of::<T>() { from.add(at).read() } else { 0 };
            to.cast::<u8>().add(at).write_volatile(byte);
        }
    }
}

/// When a grace period that takes long is reported first, in milliseconds; 0: never.
#[no_mangle]
pub extern "C" fn rcu_notrace_set_stall_ms(ms: c_ulong) {
    start::ensure();
    stall::set_after_ms(ms);
}

/// Who is told of grace periods that take long; NULL: nobody but standard error.
#[no_mangle]
pub extern "C" fn rcu_notrace_set_stall_handler(
    handler: Option<unsafe extern "C" fn(*const rcu_notrace_stall, *mut c_void) -> c_int>,
    data: *mut c_void,
) {
    start::ensure();
    stall::set_handler(handler, data);
}

/// Installs the handler of the IPI's signal, and has `hook` told of each such signal in place of the
/// program's handler, for good; NULL: does neither. The signal's number, or -1 if the handler cannot be
/// installed, or there is a hook already.
///
/// The hook is a signal handler: it may do what such may, and must not wait for a grace period. What the kernel
/// passes may be without information (SI_USER of process 0) where its queue of signals is full.
#[no_mangle]
pub extern "C" fn rcu_notrace_set_signal_hook(
    hook: Option<unsafe extern "C" fn(c_int, *mut c_void, *mut c_void)>,
) -> c_int {
    start::ensure();
    hook.map_or(Some(ipi::signal_number()), ipi::set_signal_hook).unwrap_or(-1)
}

/// What became of a stalled reader's IPI: not sent.
pub const RCU_NOTRACE_STALL_IPI_NOT_SENT: c_int = 0;
/// Our handler ran.
pub const RCU_NOTRACE_STALL_IPI_ANSWERED: c_int = 1;
/// The thread blocks the signal.
pub const RCU_NOTRACE_STALL_IPI_BLOCKED: c_int = 2;
/// The process ignores it.
pub const RCU_NOTRACE_STALL_IPI_IGNORED: c_int = 3;
/// The program has put another handler in the place of ours.
pub const RCU_NOTRACE_STALL_IPI_REPLACED: c_int = 4;
/// It is still pending: the thread does not run.
pub const RCU_NOTRACE_STALL_IPI_PENDING: c_int = 5;
/// sigwait(3) or signalfd(2) took it.
pub const RCU_NOTRACE_STALL_IPI_STOLEN: c_int = 6;
/// The thread is gone.
pub const RCU_NOTRACE_STALL_IPI_DEAD: c_int = 7;

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

/// A section of the ordinary API has begun, and its tracepoint is enabled.
#[no_mangle]
pub extern "C" fn rcu_notrace_tell_lock(caller: *const c_void) {
    event::rcu_read_lock(caller);
}

/// One is about to end.
#[no_mangle]
pub extern "C" fn rcu_notrace_tell_unlock(caller: *const c_void) {
    event::rcu_read_unlock(caller);
}

/// A pointer was loaded by the ordinary API.
#[no_mangle]
pub extern "C" fn rcu_notrace_tell_dereference(
    pointer: *const c_void,
    safe: c_int,
    caller: *const c_void,
) {
    event::rcu_dereference(pointer, safe, caller);
}

/// Ends the process with a message unless the load was safe.
#[no_mangle]
pub extern "C" fn rcu_notrace_check_dereference(safe: c_int) {
    if safe == 0 {
        let why = b"rcu_dereference_check() outside of a read-side critical section";
        bug::die_in_thread(sys::gettid(), &[why, b""]);
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

/// The portable read side's way into the slow path of the other flavour's lock.
#[cfg(any(feature = "portable-reader", not(target_arch = "x86_64")))]
#[no_mangle]
pub extern "C" fn rcu_trace_lock_slow2() {
    crate::reader::trace_lock_slow();
}

/// The portable read side's way into the slow path of the other flavour's unlock.
#[cfg(any(feature = "portable-reader", not(target_arch = "x86_64")))]
#[no_mangle]
pub extern "C" fn rcu_trace_unlock_slow2() {
    crate::reader::trace_unlock_slow();
}
