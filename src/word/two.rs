//! The state word as two words, in portable code.
//!
//! A load, an add and a store are three instructions, between which a signal may land: so the
//! nesting is written by nobody but its thread (whose signal handlers leave it as they found it),
//! and the flag lives in a word of its own. `settled` is 1 while the thread is not flagged.
//!
//! Lock stores the nesting and then looks at the flag, unlock likewise; a waiter stores the flag,
//! executes its heavy barrier and then looks at the nesting: one of them sees the other.

use core::sync::atomic::{
    compiler_fence, AtomicI32,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};

use super::State;
use crate::{reader, sys};

/// A thread's state word.
#[repr(C)]
pub struct Word {
    nesting: AtomicI32,
    settled: AtomicI32,
}

impl Word {
    /// This thread enters a section; the slow path included. A compiler barrier.
    #[inline(always)]
    pub fn lock_current_thread(index: usize) {
        let word = &sys::reader(index).word;
        let too_early = broken!("two-lock-order") && word.settled.load(Relaxed) != 0;
        word.nesting.store(word.nesting.load(Relaxed).wrapping_add(1), Relaxed);
        compiler_fence(SeqCst);
        if !too_early && word.settled.load(Relaxed) == 0 {
            reader::lock_slow_of(index);
        }
    }

    /// This thread leaves a section; the slow path included. A release.
    #[inline(always)]
    pub fn unlock_current_thread(index: usize) {
        let word = &sys::reader(index).word;
        let nesting = word.nesting.load(Relaxed).wrapping_sub(1);
        let too_early = broken!("two-unlock-order") && word.settled.load(Relaxed) != 0;
        stop!("unlock");
        compiler_fence(SeqCst);
        word.nesting.store(nesting, Release);
        compiler_fence(SeqCst);
        if nesting == 0 && !too_early && word.settled.load(Relaxed) == 0 {
            reader::unlock_slow_of(index);
        }
    }

    /// Enters a section without ever taking the slow path. By the thread itself, on its own word.
    #[inline(always)]
    pub fn open_quietly(&self) {
        self.nesting.store(self.nesting.load(Relaxed).wrapping_add(1), Relaxed);
        compiler_fence(SeqCst);
    }

    /// Leaves it likewise.
    #[inline(always)]
    pub fn close_quietly(&self) {
        compiler_fence(SeqCst);
        self.nesting.store(self.nesting.load(Relaxed).wrapping_sub(1), Release);
        compiler_fence(SeqCst);
    }

    /// What it says; `None` for a value that no balanced use reaches.
    #[inline(always)]
    pub fn load(&self) -> Option<State> {
        // In this order: a reader that cleared its flag and then left a section is not taken for
        // one that is outside and flagged (PARK).
        let too_early = broken!("two-load-order") && self.settled.load(Acquire) == 0;
        if too_early {
            stop!("load");
        }
        let nesting = self.nesting.load(Acquire);
        if !too_early {
            stop!("load");
        }
        let flagged = too_early || self.settled.load(Relaxed) == 0;
        if nesting < 0 {
            return None;
        }
        Some(State { nesting: nesting as u32, flagged })
    }

    /// Sets the flag; by the thread itself or remotely. Stable once a heavy barrier followed.
    #[inline(always)]
    pub fn flag(&self) {
        self.settled.store(0, Relaxed);
    }

    /// Clears the flag; by the thread itself only.
    #[inline(always)]
    pub fn clear_flag(&self) {
        self.settled.store(1, Relaxed);
    }

    /// Back to how a thread is born; by the thread itself, or in a forked child.
    pub fn reset(&self) {
        self.settled.store(0, Relaxed);
        self.nesting.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_born_flagged_and_outside() {
        let word = Word { nesting: AtomicI32::new(0), settled: AtomicI32::new(0) };
        assert_eq!(word.load(), Some(State::OUTSIDE_FLAGGED));
    }

    #[test]
    fn an_unlock_too_many_is_a_value_that_load_refuses() {
        let word = Word { nesting: AtomicI32::new(-1), settled: AtomicI32::new(1) };
        assert_eq!(word.load(), None);
    }
}
