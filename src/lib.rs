//! # rcu-notrace: an RCU whose read side may be called from anywhere
//!
//! A tracer's probe runs inside somebody else's program: under malloc's lock, in a signal
//! handler, in the dynamic loader, in RCU itself. This library gives it read-copy-update with a
//! read side that is async-signal-safe at every instruction, waits for nobody, costs four instructions
//! and calls nothing, but `pthread_setspecific` once a thread ([`exit_hook`]).
//!
//! ## The actors
//!
//! * A **reader** ([`reader`]) is a thread's block in thread-local storage. Its **state word**
//!   ([`word`]) says how many read-side **sections** it has open, and whether it is **flagged**:
//!   bound to take the slow path at its next lock or outermost unlock.
//! * The **registry** ([`registry`]) lists the readers that were lately active. A reader puts
//!   itself there, wait-free, in the slow path of a lock, after its first sections; its thread's exit
//!   ([`exit_hook`]) takes it out. An idle one is **parked**: taken out, and flagged, so that its
//!   next lock puts it in again.
//! * A section of a reader that is not in the registry is **transient** ([`transient`]): counted.
//! * A **waiter** ([`grace_period`]) runs a **grace period**: it waits for the transient
//!   sections, glances at every listed word, executes one heavy barrier (membarrier; none beside nobody) and
//!   looks at what the glance left.
//!   Outside is **quiescent**. Inside is a **holdout**: it gets a **request** and is flagged,
//!   remotely or by an **IPI** ([`ipi`]: a signal), and **reports** in its outermost unlock.
//!   It spins, then sleeps; it lends a real-time priority ([`boost`]), and says who is in its way
//!   if that takes too long ([`stall`]).
//! * A **callback** ([`callback`]) is called after a grace period, by the **worker** ([`worker`]).
//! * A **flavour** ([`flavour`]) is all of that as one value. There are two; each thread has a reader
//!   of each.
//!
//! ## The invariants
//!
//! 1. *Every section that began before a grace period is in that grace period's sight*: its
//!    reader is listed and its word says so, or it is counted as transient. Nothing leaves the
//!    one sight before it is in the other.
//! 2. *A word that is not flagged belongs to a listed reader*, apart from a thread that is just
//!    changing sides, whose sections are counted meanwhile.
//! 3. *Each request is taken once*: by an exchange, by the reader (a report) or by the waiter
//!    (a withdrawal). The grace period ends when all are taken.
//! 4. *A flag seen after a heavy barrier, on a reader that was asked before it, is answered*: the
//!    flag is cleared only by the slow path of a lock, which then takes the request.
//! 5. *Every step of a reader may be interrupted by a signal handler that opens and closes
//!    sections on the same thread.*
//! 6. *Every pointer in the registry points to the TLS of a live thread.*
//! 7. *Each callback that was queued is called once*, after a grace period that began after it was
//!    queued, and after those that its thread queued before.
//!
//! docs/PROOF.md argues each, and names the builds that break it; docs/BROKEN.md, the tests that notice.
//!
//! ## The way through
//!
//! `word` is pure. `reader` is the read side, all of it. `registry` (with `chain`) and `transient`
//! say who is there; `seq` and `grace_period` wait for them, `straggler` and `holdout` deal with
//! those in the way, `ipi` reaches them. `start`, `fork`, `exit_hook` and `exit` tie the library
//! to the process's life, `sys` and `proc` to the machine. [`tracepoint`] is a user of all that, and `event`
//! the library's own tracepoints; `stats` counts, `bug` says what bad use gets. [`section`] is the API for Rust,
//! [`capi`] the one for C.
//!
//! `broken!("NAME")` is the constant false: the branch behind it is what a test build does in that safeguard's
//! absence; `widen!` and `stop!` are nothing outside of such builds (`broken`).

#[macro_use]
mod broken;

mod boost;
mod bug;
mod callback;
mod capi;
mod chain;
mod event;
mod exit;
mod exit_hook;
mod flavour;
mod fork;
mod grace_period;
mod holdout;
mod ipi;
mod proc;
mod reader;
mod registry;
mod section;
mod seq;
mod stall;
mod start;
mod stats;
mod straggler;
mod sys;
mod tracepoint;
mod transient;
mod word;
mod worker;

pub use ipi::Mode as IpiMode;
pub use section::{
    call_rcu, rcu_barrier, read, read_lock_held, synchronize_rcu, synchronize_rcu_expedited,
    Cookie, Rcu, Section,
};
pub use stats::rcu_notrace_stats as Stats;

/// Registers the calling thread now, so that its first sections cost what any other does:
/// liburcu's `rcu_register_thread()`. Not in signal handlers: may allocate.
pub fn register_thread() {
    capi::rcu_register_thread();
}

/// Unregisters the calling thread, until its next section: liburcu's `rcu_unregister_thread()`.
/// Ends the process with a message inside a section. Not in signal handlers.
pub fn unregister_thread() {
    capi::rcu_unregister_thread();
}

/// The IPI mode in force.
pub fn ipi_mode() -> IpiMode {
    start::ensure_started();
    ipi::mode()
}

/// Chooses the IPI mode, from the next grace period on; false if this system refuses it.
pub fn set_ipi_mode(mode: IpiMode) -> bool {
    ipi::set_mode(mode)
}

/// The counters, now.
pub fn stats() -> Stats {
    flavour::NOTRACE.stats()
}
