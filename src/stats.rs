//! What the library counted, none of it on the read side's fast path.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::bug::{self, Decimal};
use crate::flavour::NOTRACE;
use crate::{start, sys};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters of a flavour, live.
        pub struct Counters { $($(#[$doc])* pub $name: AtomicU64,)* }

        impl Counters {
            /// All zero.
            pub const fn new() -> Self {
                Counters { $($name: AtomicU64::new(0),)* }
            }

            /// Each as it is now; not one moment's picture.
            pub fn read(&self) -> rcu_notrace_stats {
                rcu_notrace_stats { $($name: self.$name.load(Relaxed),)* }
            }
        }

        impl rcu_notrace_stats {
            fn each(&self, mut visit: impl FnMut(&str, u64)) {
                $(visit(stringify!($name), self.$name);)*
            }
        }
    };
}

counters! {
    grace_periods,
    shared,
    barriers,
    ipis,
    holdouts,
    rescues,
    reports_by_section,
    reports_by_handler,
    wakes,
    parks,
    transient_waits,
    died,
}

/// Counters since the process started (a forked child goes on from its parent's).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(non_camel_case_types)]
pub struct rcu_notrace_stats {
    /// Grace periods run.
    pub grace_periods: u64,
    /// Callers of `synchronize_rcu()` that found another caller's grace period enough.
    pub shared: u64,
    /// membarrier(2) calls.
    pub barriers: u64,
    /// IPIs (signals) sent.
    pub ipis: u64,
    /// Readers that a grace period had to ask for a quiescent state.
    pub holdouts: u64,
    /// Holdouts that did not answer an IPI and were flagged remotely.
    pub rescues: u64,
    /// Requests answered by the end of a section.
    pub reports_by_section: u64,
    /// Requests answered by the IPI handler, between sections.
    pub reports_by_handler: u64,
    /// Reports that had to wake a sleeping waiter (one system call each).
    pub wakes: u64,
    /// Idle threads taken out of the waiters' sight until their next section.
    pub parks: u64,
    /// Grace periods that found sections of threads that are not registered (yet, or any more).
    pub transient_waits: u64,
    /// Registered threads that died without their exit being seen (a raw exit system call).
    pub died: u64,
}

/// Arranges for the counters to be printed at exit if `RCU_NOTRACE_STATS` is 1. Once.
pub fn start() {
    match start::environment(c"RCU_NOTRACE_STATS") {
        None | Some(b"" | b"0") => {}
        Some(b"1") => {
            // SAFETY: the function stays loaded (-z nodelete).
            unsafe { libc::atexit(print) };
        }
        Some(other) => bug::warn(&[b"RCU_NOTRACE_STATS=", other, b" is neither 0 nor 1; using 0"]),
    }
}

/// One line a counter, with the process's id: children of a fork print theirs.
extern "C" fn print() {
    let process = Decimal::new(sys::getpid() as u64);
    NOTRACE.stats.read().each(|name, value| {
        let value = Decimal::new(value);
        bug::warn(&[process.text(), b": ", name.as_bytes(), b" ", value.text()]);
    });
}

/// Adds one, where only one thread at a time does so.
pub fn count(counter: &AtomicU64) {
    counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
}
