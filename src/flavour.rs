//! A flavour: one RCU, as a value. Readers of different flavours do not hold each other up.

use crate::registry::Registry;
use crate::seq::Seq;
use crate::stats::Counters;
use crate::sys::futex::{Countdown, Lock};
use crate::transient::Transient;
use core::sync::atomic::AtomicU32;

/// Everything that readers and waiters of one flavour share.
pub struct Flavour {
    /// The threads that grace periods look at.
    pub registry: Registry,
    /// The sections of all other threads.
    pub transient: Transient,
    /// Requests of the running grace period that nobody has taken yet.
    pub holdouts: Countdown,
    /// Where grace periods stand.
    pub seq: Seq,
    /// Held by the caller who runs a grace period for everybody.
    pub leader: Lock,
    /// Counts ended grace periods, for callers to sleep on.
    pub ended: AtomicU32,
    /// How many callers sleep there.
    pub sleepers: AtomicU32,
    /// What happened.
    pub stats: Counters,
}

/// The flavour of `rcu_read_lock_notrace()`.
pub static NOTRACE: Flavour = Flavour::new();

impl Flavour {
    const fn new() -> Self {
        Flavour {
            registry: Registry::new(),
            transient: Transient::new(),
            holdouts: Countdown::new(),
            seq: Seq::new(),
            leader: Lock::new(),
            ended: AtomicU32::new(0),
            sleepers: AtomicU32::new(0),
            stats: Counters::new(),
        }
    }
}
