//! IPIs: how a waiter makes other threads pass a full memory barrier and answer.
//!
//! | mode | barrier | who is signalled |
//! |---|---|---|
//! | `auto` | membarrier(2) | readers that stay in a section: flags did not stick (expedited: after sampling) |
//! | `signal` | the signals themselves | every registered reader that is not parked |
//! | `membarrier` | membarrier(2) | nobody: requests are flagged remotely |
//!
//! Where membarrier is refused, at the start or later (a sandbox entered on the way), the mode is
//! `signal`; where the kernel has no memory for it just then, that one grace period is as in `signal`.

mod membarrier;
pub mod scheduler;
mod signal;

use core::sync::atomic::{
    AtomicU8,
    Ordering::{Relaxed, SeqCst},
};

use crate::bug;
use crate::flavour::Flavour;
use crate::reader::{ipi, Reader};
use crate::{fork, proc, start, sys};

pub use signal::Hook;

/// How waiters reach readers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Mode {
    /// membarrier, and signals to stragglers.
    Auto = 0,
    /// A signal to every reader that was active lately.
    Signal = 1,
    /// membarrier and remote flags; no signal, as long as membarrier(2) works.
    Membarrier = 2,
}

impl Mode {
    /// By its number in the C header.
    pub fn from_number(number: i32) -> Option<Mode> {
        [Mode::Auto, Mode::Signal, Mode::Membarrier].into_iter().find(|mode| *mode as i32 == number)
    }

    /// As the environment names it.
    pub fn name(self) -> &'static [u8] {
        match self {
            Mode::Auto => b"auto",
            Mode::Signal => b"signal",
            Mode::Membarrier => b"membarrier",
        }
    }

    fn from_name(name: &[u8]) -> Option<Mode> {
        [Mode::Auto, Mode::Signal, Mode::Membarrier].into_iter().find(|mode| mode.name() == name)
    }
}

/// What was asked for; what is done may be less ([`mode`]).
static WANTED: AtomicU8 = AtomicU8::new(Mode::Auto as u8);

/// The mode in force.
pub fn mode() -> Mode {
    if !membarrier::is_available() {
        return Mode::Signal;
    }
    Mode::from_number(i32::from(WANTED.load(Relaxed))).unwrap_or(Mode::Auto)
}

/// Chooses a mode, from the next grace period on. False if it needs what this system refuses.
pub fn set_mode(wanted: Mode) -> bool {
    start::ensure();
    // Asked anew: a sandbox may have been entered since the start.
    if wanted == Mode::Membarrier && !(membarrier::is_available() && membarrier::barrier()) {
        return false;
    }
    WANTED.store(wanted as u8, SeqCst);
    true
}

/// Registers with the kernel. Once.
pub fn start() {
    membarrier::start();
}

/// Reads the environment.
pub fn configure() {
    signal::configure(start::environment(c"RCU_NOTRACE_SIGNAL"));
    if let Some(name) = start::environment(c"RCU_NOTRACE_IPI") {
        match Mode::from_name(name) {
            Some(wanted) => WANTED.store(wanted as u8, SeqCst),
            None => bug::warn(&[
                b"RCU_NOTRACE_IPI=",
                name,
                b" is none of auto, signal, membarrier; using auto",
            ]),
        }
        if name == b"membarrier" && !membarrier::is_available() {
            say_later(NO_BARRIER);
            say();
        }
    }
}

/// The heavy half of the asymmetric barrier: when it returns true, every other thread of this
/// process has executed a full memory barrier since the call (BARRIER; its light half is the
/// compiler barrier in lock and unlock).
pub fn heavy_barrier(flavour: &Flavour) -> bool {
    if broken!("heavy-barrier") {
        return true;
    }
    let passed = membarrier::is_available() && membarrier::barrier();
    if passed {
        flavour.stats.barriers.fetch_add(1, Relaxed);
    } else if WANTED.load(Relaxed) == Mode::Membarrier as u8 && !membarrier::is_available() {
        say_later(NO_BARRIER);
    }
    passed
}

/// What was refused: there is no handler; who asked for a mode without signals gets some.
const NO_HANDLER: u8 = 1;
const NO_BARRIER: u8 = 2;

/// What was refused so far, and what of it is still to be said.
static REFUSED: AtomicU8 = AtomicU8::new(0);
static UNSAID: AtomicU8 = AtomicU8::new(0);

/// Has it said, once: not here, where the registry's lock may be held, and to write may take long.
#[cold]
fn say_later(what: u8) {
    if REFUSED.fetch_or(what, Relaxed) & what == 0 {
        UNSAID.fetch_or(what, Relaxed);
    }
}

/// Says what is to be said. Under no lock.
pub fn say() {
    if UNSAID.load(Relaxed) == 0 {
        return;
    }
    let unsaid = UNSAID.swap(0, Relaxed);
    if unsaid & NO_HANDLER != 0 {
        bug::warn(&[b"rt_sigaction(2) is refused here: no IPIs; readers are flagged instead"]);
    }
    if unsaid & NO_BARRIER != 0 {
        bug::warn(&[b"membarrier(2) is refused here; IPI mode is signal"]);
    }
}

/// Sends the reader's thread an IPI; it was asked before. Err(ESRCH) if there is no such thread.
///
/// Under the registry's lock: the thread cannot exit, and its id not be another's.
pub fn send(flavour: &Flavour, reader: &Reader, may_park: bool) -> Result<(), i32> {
    if !signal::is_handled() {
        return Err(libc::EPERM);
    }
    let kind = if may_park { ipi::SENT_MAY_PARK } else { ipi::SENT };
    if !broken!("ipi-order") {
        reader.ipi.store(kind, SeqCst);
    }
    flavour.stats.ipis.fetch_add(1, Relaxed);
    let answer = signal::send(reader.tid.load(Relaxed));
    widen!("ipi-order", 3000);
    if broken!("ipi-order") {
        reader.ipi.store(kind, SeqCst);
    }
    answer
}

/// In a forked child: what the parent's other threads held is free.
pub fn after_fork() {
    signal::reset();
}

/// Sends a thread the signal, for a stall report; nobody is asked for anything.
pub fn send_to_thread(tid: i32) -> Result<(), i32> {
    if !signal::is_handled() {
        return Err(libc::EPERM);
    }
    signal::send(tid)
}

/// Whether the program has left our handler in its place.
pub fn is_handler_ours() -> bool {
    signal::is_ours()
}

/// Installs the handler now, and has the hook told of each signal: [`signal::set_hook`].
pub fn set_signal_hook(hook: Hook) -> Option<i32> {
    signal::set_hook(hook)
}

/// The signal that is the IPI.
pub fn signal_number() -> i32 {
    signal::number()
}

/// Whether there is no such thread any more.
pub fn is_dead(tid: i32) -> bool {
    let is_zombie = || proc::status(tid).is_some_and(|status| status.is_dead());
    match sys::tgkill(fork::process(), tid, 0) {
        // The first thread stays a zombie until the process ends.
        Ok(()) => {
            tid == fork::process()
                && sys::file::has_memory(tid).map_or_else(is_zombie, |alive| !alive)
        }
        Err(libc::ESRCH) => true,
        // Refused: what /proc says, of our own threads. (An id may be none, for the same reason.)
        Err(_) => tid > 0 && fork::is_our_process() && (is_zombie() || proc::lacks(tid)),
    }
}
