//! The grace-period sequence, after the kernel's `rcu_seq`: even while idle, odd while a grace
//! period runs. Comparisons wrap.

use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};

/// A cookie that was reached long ago: odd, as no other is.
pub const COMPLETED: u64 = 1;

/// A counter of grace periods.
pub struct Seq(AtomicU64);

impl Seq {
    /// No grace period yet, at a count that wraps soon, as the kernel starts its own.
    pub const fn new() -> Self {
        Seq(AtomicU64::new(0u64.wrapping_sub(600)))
    }

    /// What the sequence will have reached when a full grace period has passed from now on.
    pub fn snap(&self) -> u64 {
        let margin = if broken!("cookie") { 2 } else { 3 };
        self.0.load(SeqCst).wrapping_add(margin) & !1
    }

    /// Whether it has reached `snap`. Acquires what that grace period made visible (SEQ; partner:
    /// [`end`](Self::end)).
    pub fn done(&self, snap: u64) -> bool {
        if broken!("cookie-wrap") {
            return self.0.load(Acquire) >= snap;
        }
        self.0.load(Acquire).wrapping_sub(snap) < 1 << 63 || snap == COMPLETED
    }

    /// The counter, for people to read.
    pub fn now(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// A grace period starts. By the one thread that runs it.
    pub fn start(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_add(1), SeqCst);
    }

    /// It ends: releases to those who find it done (SEQ).
    pub fn end(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_add(1), Release);
    }

    /// A non-zero mark of the grace period that runs.
    pub fn tag(&self) -> u32 {
        if broken!("request-tag") {
            return 1;
        }
        self.0.load(Relaxed) as u32 | 1
    }

    /// Takes back what another thread of the parent had started: for a forked child. It has not
    /// passed: the forking thread's own section may be open, and older than a cookie.
    pub fn reset(&self) {
        let up = u64::from(broken!("fork-seq"));
        self.0.store(self.0.load(SeqCst).wrapping_add(up) & !1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_while_idle_needs_one_grace_period_and_one_while_running_needs_the_next_too() {
        for start in [0, 2, u64::MAX - 1, u64::MAX - 3, 1 << 63, (1 << 63) - 2] {
            let seq = Seq(AtomicU64::new(start));
            let idle = seq.snap();
            assert!(!seq.done(idle));
            seq.start();
            let running = seq.snap();
            assert!(!seq.done(idle));
            seq.end();
            assert!(seq.done(idle));
            assert!(!seq.done(running), "the running grace period may have begun too early");
            seq.start();
            assert!(!seq.done(running));
            seq.end();
            assert!(seq.done(running) && seq.done(idle));
        }
    }

    #[test]
    fn tags_are_never_zero_and_neighbours_differ() {
        let seq = Seq(AtomicU64::new(u64::from(u32::MAX) - 1));
        let mut last = 0;
        for _ in 0..4 {
            seq.start();
            assert!(seq.tag() != 0 && seq.tag() != last);
            last = seq.tag();
            seq.end();
        }
    }
}
