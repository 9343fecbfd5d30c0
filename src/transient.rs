//! Readers that the registry does not list, counted.
//!
//! A thread is listed only from its fifth outermost section on ([`crate::reader::PROBATION`]), until
//! its exit; and while it enters the list or leaves it, signal handlers may open sections. All other
//! outermost sections are *transient*: counted on one of two sides, as in SRCU. A grace period
//! waits until each side was empty once. No thread that counts need ever be found, so none need
//! be listed: this is what lets the registry refer to live TLS only.
//!
//! The count costs two locked instructions on a shared line. Threads pay it in their first sections
//! and when they come back from parking; those that cannot be listed (no exit hook yet, or no
//! longer) in every one.

use core::sync::atomic::{
    AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};

use crate::reader::Reader;
use crate::sys::futex::Countdown;

/// The two sides.
pub struct Transient {
    sides: [Countdown; 2],
    current: AtomicUsize,
}

impl Transient {
    /// Nobody.
    pub const fn new() -> Self {
        Transient { sides: [Countdown::new(), Countdown::new()], current: AtomicUsize::new(0) }
    }

    fn side(&self, index: usize) -> &Countdown {
        &self.sides[index & 1]
    }

    /// Counts this thread's section, unless it is counted already.
    ///
    /// Ordering: the count is a full fence before the section's loads (TRANSIENT; partner:
    /// GP-START in `Flavour::run`, before [`wait`](Self::wait)).
    #[inline(always)]
    pub fn enter(&self, reader: &Reader) {
        if reader.counted.load(Relaxed) != 0 {
            return;
        }
        let side = self.current.load(Relaxed) & 1;
        self.side(side).add();
        // A signal handler may have counted the section before us: then it is counted twice, and
        // ours goes.
        if reader.counted.compare_exchange(0, side as u8 + 1, SeqCst, Relaxed).is_err() {
            self.side(side).finish();
        }
    }

    /// Takes this thread's section from the count, if it is there.
    #[inline(always)]
    pub fn exit(&self, reader: &Reader) {
        if reader.counted.load(Relaxed) == 0 {
            return;
        }
        let counted = reader.counted.swap(0, SeqCst);
        if counted != 0 {
            self.side(counted as usize - 1).finish();
        }
    }

    /// Returns once every section that was counted when it was called has ended. One caller at a
    /// time. True if it found any.
    pub fn wait(&self, spin_ns: u64) -> bool {
        if cfg!(broken = "transient-wait") {
            return false;
        }
        // A section keeps its side, so two looks suffice when both find nothing.
        if self.side(0).open() == 0 && self.side(1).open() == 0 {
            return false;
        }
        // New sections keep coming to the current side; so let the other run dry, turn, and let
        // the one that was current run dry. A reader that read `current` before the turn and
        // counts after it lands on a side that we do look at, now or in the next grace period.
        let before = self.current.load(Relaxed);
        self.side(before ^ 1).wait(spin_ns, 0);
        self.current.store(before ^ 1, SeqCst);
        self.side(before).wait(spin_ns, 0);
        true
    }

    /// Forgets all but this thread's own section: for the only thread of a forked child.
    pub fn reset(&self, survivor: &Reader) {
        let counted = survivor.counted.load(Relaxed);
        for (index, side) in self.sides.iter().enumerate() {
            side.reset(u32::from(counted as usize == index + 1));
        }
    }
}
