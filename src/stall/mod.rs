//! Stall reports: a grace period that takes too long says who is in its way.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::flavour::Flavour;
use crate::stats::count;

/// When the next report of one grace period is due.
pub struct Stall {
    due: u64,
}

/// Whom a grace period waits for.
pub enum Holdouts {
    /// The transient sections of a side.
    Transient(usize),
    /// The readers with a request of that tag.
    Asked(u32),
}

static AFTER_NS: AtomicU64 = AtomicU64::new(10_000_000_000);

impl Stall {
    pub fn new() -> Self {
        Stall { due: AFTER_NS.load(Relaxed) }
    }

    pub fn is_due(&mut self, waited: u64) -> bool {
        self.due != 0 && waited >= self.due
    }
}

pub fn report(flavour: &Flavour, waited: u64, holdouts: Holdouts) {
    let _ = (waited, holdouts);
    count(&flavour.stats.stalls);
}
