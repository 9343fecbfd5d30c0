//! Priority boosting: a real-time waiter lends its priority to a reader that it waits for.
//!
//! A preempted reader of low priority would hold up a real-time waiter for as long as anything in
//! between wants the processor. The kernel lends priority along a futex's owner: so the waiter
//! writes the reader's thread id into a futex, as if the reader had locked it, and locks it
//! (FUTEX_LOCK_PI). The reader knows nothing of it until it reports: there it gives the futex back,
//! which wakes the waiter and ends the loan at once.
//!
//! Who leads a grace period may be of low priority itself, and a real-time caller wait for it: then
//! that caller lends to the leader, by the leader's lock (`PiLock`), and the leader lends on.
//!
//! One loan at a time: the grace period waits for its holdouts in turn. The futex is the flavour's,
//! not the reader's, so nobody refers to the TLS of a thread that may exit meanwhile.

use core::sync::atomic::{
    AtomicU32,
    Ordering::{Relaxed, SeqCst},
};

use crate::event;
use crate::flavour::Flavour;
use crate::sys::{self, futex};

/// The futex: the id of the thread that is lent to, 0 while there is none.
pub struct Boost(AtomicU32);

impl Boost {
    /// No loan.
    pub const fn new() -> Self {
        Boost(AtomicU32::new(0))
    }

    /// Whether the calling thread has a priority that is worth lending.
    pub fn is_wanted() -> bool {
        !broken!("boost") && sys::is_real_time()
    }

    /// Lends the caller's priority to the thread `tid`, which `is_holdout` says is waited for, until
    /// it gives it back; at most for `timeout_ns`. By the one thread that runs a grace period. False
    /// if the kernel refuses, at once: the caller must wait in another way.
    ///
    /// BOOST: the id is written, a full fence, then the question whether it is a holdout still. The
    /// reader takes its request (or leaves its slot), a full fence, then looks at the id. So
    /// either we see that it has reported, or it sees that it has a loan to give back.
    pub fn lend(
        &self,
        flavour: &Flavour,
        tid: i32,
        timeout_ns: u64,
        is_holdout: impl FnOnce() -> bool,
    ) -> bool {
        self.0.store(tid as u32, SeqCst);
        // No holdout any more: the caller finds another, or none.
        let mut lent = true;
        let waited = is_holdout();
        if waited {
            // Given back or out of time, the caller looks again at what it waits for.
            lent = matches!(futex::lock_pi(&self.0, timeout_ns), Ok(()) | Err(libc::ETIMEDOUT));
            flavour.stats.boosts.fetch_add(u64::from(lent), Relaxed);
        }
        let me = sys::gettid() as u32;
        // Ours if it was given back; a sleeper behind us there is none.
        if self.0.load(Relaxed) & libc::FUTEX_TID_MASK == me {
            futex::unlock_pi(&self.0, me);
        } else {
            self.0.store(0, SeqCst);
        }
        if waited && lent {
            event::rcu_boost(flavour.name(), tid);
        }
        lent
    }

    /// Ends the loan to the calling thread, if there is one. It was taken from the holdouts before
    /// (BOOST). To give back what is not, or no more, ours does nothing.
    #[inline(always)]
    pub fn give_back(&self, flavour: &Flavour, tid: i32) {
        let is_ours = tid != 0 && self.0.load(SeqCst) & libc::FUTEX_TID_MASK == tid as u32;
        if is_ours {
            if !broken!("boost-return") {
                futex::unlock_pi(&self.0, tid as u32);
            }
            flavour.stats.unboosts.fetch_add(1, Relaxed);
        }
    }

    /// In a forked child: the lender was the parent's.
    pub fn reset(&self) {
        self.0.store(0, SeqCst);
    }
}
