//! Where a reader is: asked of its own thread, in the handler of an IPI.
//!
//! The handler copies its registers and what of its stack is there into one static snapshot, which
//! the waiter walks at leisure. One request at a time (the reporter's lock); it goes
//!
//! ```text
//! IDLE -> wanted: the thread's id -> TAKING (in its handler) -> TAKEN -> IDLE
//!                    '-> IDLE (withdrawn by the waiter)
//! ```
//!
//! A handler that takes for ever (its thread was stopped there) keeps the snapshot, and there are
//! no more until it is done.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::sync::atomic::{
    AtomicI32, AtomicU32,
    Ordering::{Acquire, Relaxed, SeqCst},
};

use super::unwind::{arch, Snapshot};
use crate::ipi;
use crate::proc;
use crate::sys::file::read_memory;
use crate::sys::{self, futex};

const IDLE: i32 = 0;
const TAKING: i32 = -1;
const TAKEN: i32 = -2;

/// How long a thread may take to answer.
const PATIENCE_NS: u64 = 20_000_000;

/// Below the stack pointer a function may still have something.
const RED_ZONE: u64 = 128;

static WANTED: AtomicI32 = AtomicI32::new(IDLE);
static DONE: AtomicU32 = AtomicU32::new(0);

struct Shared(UnsafeCell<Snapshot>);

// SAFETY: touched by the handler in TAKING, and by the waiter, under the reporter's lock, in TAKEN.
unsafe impl Sync for Shared {}

static SNAPSHOT: Shared = Shared(UnsafeCell::new(Snapshot::new()));

/// What became of a reader's IPI.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum Answer {
    /// None was sent: the mode forbids it, or no snapshot is free.
    NotSent = 0,
    /// The handler ran.
    Answered = 1,
    /// The thread blocks the signal.
    Blocked = 2,
    /// The process ignores it.
    Ignored = 3,
    /// The program has put another handler in the place of ours.
    Replaced = 4,
    /// Sent, and it is still pending: the thread does not run, or not in user mode.
    Pending = 5,
    /// Gone without our handler: sigwait(3) or signalfd(2) took it.
    Stolen = 6,
    /// The thread is gone.
    Dead = 7,
}

impl Answer {
    /// In words.
    pub fn text(self) -> &'static [u8] {
        match self {
            Answer::NotSent => b"not sent",
            Answer::Answered => b"answered",
            Answer::Blocked => b"blocked by the thread",
            Answer::Ignored => b"ignored by the program",
            Answer::Replaced => b"lost to a handler of the program in place of ours",
            Answer::Pending => b"sent, and not delivered yet",
            Answer::Stolen => b"stolen by sigwait or signalfd",
            Answer::Dead => b"not delivered: the thread is gone",
        }
    }
}

/// Asks a thread for its snapshot, and waits a moment. Whatever the answer, [`finish`] follows.
pub fn ask(tid: i32) -> Answer {
    // A handler that was too late for an earlier report is done by now.
    finish();
    if ipi::mode() == ipi::Mode::Membarrier || WANTED.load(SeqCst) != IDLE {
        return Answer::NotSent;
    }
    WANTED.store(tid, SeqCst);
    match ipi::send_to_thread(tid) {
        Ok(()) => {}
        Err(error) => {
            withdraw(tid);
            return if error == libc::ESRCH { Answer::Dead } else { Answer::NotSent };
        }
    }
    let start = sys::monotonic_ns();
    loop {
        // In this order: the handler says TAKEN, and then counts.
        let done = DONE.load(SeqCst);
        if WANTED.load(SeqCst) == TAKEN {
            return Answer::Answered;
        }
        if sys::monotonic_ns().wrapping_sub(start) > PATIENCE_NS {
            if withdraw(tid) {
                return why_silent(tid);
            }
            // In the handler, and held up there.
            return Answer::Pending;
        }
        futex::wait(&DONE, done, PATIENCE_NS);
    }
}

/// Takes the request back, unless its thread was faster.
fn withdraw(tid: i32) -> bool {
    WANTED.compare_exchange(tid, IDLE, SeqCst, Relaxed).is_ok()
}

fn why_silent(tid: i32) -> Answer {
    let Some(status) = proc::status(tid) else { return Answer::Pending };
    let has = |set| proc::has_signal(set, ipi::signal_number());
    if status.is_dead() {
        Answer::Dead
    } else if has(status.blocked) {
        Answer::Blocked
    } else if has(status.ignored) {
        Answer::Ignored
    } else if has(status.pending) {
        Answer::Pending
    } else if !ipi::is_handler_ours() {
        Answer::Replaced
    } else {
        Answer::Stolen
    }
}

/// In the IPI handler: gives what was asked for; true if anything was.
#[inline(always)]
pub fn answer(context: *const c_void) -> bool {
    let wanted = WANTED.load(Relaxed);
    let is_asked = wanted > 0 && wanted == sys::gettid();
    if is_asked {
        give(wanted, context);
    }
    is_asked
}

#[cold]
#[inline(never)]
fn give(wanted: i32, context: *const c_void) {
    // From here to the end the snapshot is ours.
    if WANTED.compare_exchange(wanted, TAKING, SeqCst, Relaxed).is_err() {
        return;
    }
    // SAFETY: in TAKING.
    let snapshot = unsafe { &mut *SNAPSHOT.0.get() };
    // SAFETY: the caller's is what the kernel passed.
    unsafe { snapshot.set_registers(context) };
    copy_stack(snapshot);
    WANTED.store(TAKEN, SeqCst);
    DONE.fetch_add(1, SeqCst);
    futex::wake_all(&DONE);
}

fn copy_stack(snapshot: &mut Snapshot) {
    snapshot.stack_start = snapshot.registers[arch::SP].wrapping_sub(RED_ZONE);
    snapshot.stack_len = read_memory(snapshot.stack_start, &mut snapshot.stack);
}

/// Takes the calling thread's own snapshot. False if none is free; otherwise [`finish`] follows.
#[inline(never)]
pub fn take_own() -> bool {
    finish();
    if WANTED.compare_exchange(IDLE, TAKEN, SeqCst, Relaxed).is_err() {
        return false;
    }
    // SAFETY: in TAKEN, under the reporter's lock.
    let snapshot = unsafe { &mut *SNAPSHOT.0.get() };
    let (pc, sp, fp) = sys::here();
    snapshot.registers.fill(0);
    snapshot.registers[arch::PC] = pc;
    snapshot.registers[arch::SP] = sp;
    snapshot.registers[arch::FP] = fp;
    copy_stack(snapshot);
    true
}

/// Shows the snapshot that was taken.
pub fn with_snapshot(show: impl FnOnce(&Snapshot)) {
    if WANTED.load(Acquire) == TAKEN {
        // SAFETY: in TAKEN, under the reporter's lock.
        show(unsafe { &*SNAPSHOT.0.get() });
    }
}

/// Frees the snapshot, if one was taken.
pub fn finish() {
    let _ = WANTED.compare_exchange(TAKEN, IDLE, SeqCst, Relaxed);
}

/// In a forked child: whoever was asked is not here.
pub fn reset() {
    WANTED.store(IDLE, SeqCst);
}
