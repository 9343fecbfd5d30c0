//! The state word in 32 bits.
//!
//! | value | meaning |
//! |---|---|
//! | 0 | outside, flagged |
//! | INT32_MIN + n | n sections deep, not flagged |
//! | n >= 1 | n sections deep, flagged |
//!
//! The top byte is the flag (0x00) or its absence (0x80), the rest is the nesting. Lock is one
//! increment, whose result is negative exactly when the word is not flagged. Unlock is one
//! decrement, whose result is zero exactly when it ends the outermost section of a flagged word.
//! 2^24 nested sections, or an unlock too many, leave a top byte that is neither: [`Word::load`]
//! tells.

use core::sync::atomic::{AtomicI32, Ordering::Relaxed};

use super::State;
use crate::sys;

const NOT_FLAGGED: i32 = i32::MIN;
const NESTING: i32 = 0x00ff_ffff;

/// A thread's state word.
#[repr(C)]
pub struct Word {
    state: AtomicI32,
    _unused: i32,
}

/// The algebra of a lock: the word after it, and whether the slow path follows.
#[cfg(test)]
const fn after_lock(word: i32) -> (i32, bool) {
    let next = word.wrapping_add(1);
    (next, next >= 0)
}

/// The algebra of an unlock.
#[cfg(test)]
const fn after_unlock(word: i32) -> (i32, bool) {
    let next = word.wrapping_sub(1);
    (next, next == 0)
}

const fn decode(word: i32) -> Option<State> {
    let nesting = (word & NESTING) as u32;
    match word & !NESTING {
        0 => Some(State { nesting, flagged: true }),
        NOT_FLAGGED => Some(State { nesting, flagged: false }),
        _ => None,
    }
}

/// A lock as portable code would do it, on one word.
fn lock_in_steps(index: usize) {
    let state = &sys::reader(index).word.state;
    let next = state.load(Relaxed).wrapping_add(1);
    state.store(next, Relaxed);
    if next >= 0 {
        crate::reader::lock_slow_of(index);
    }
}

impl Word {
    /// This thread enters a section; the slow path included. A compiler barrier, which a waiter's
    /// heavy barrier makes a full one when it matters (BARRIER).
    #[inline(always)]
    pub fn lock_current_thread(index: usize) {
        if broken!("one-instruction") {
            return lock_in_steps(index);
        }
        sys::tls_lock(index);
    }

    /// This thread leaves a section; the slow path included. A release.
    #[inline(always)]
    pub fn unlock_current_thread(index: usize) {
        sys::tls_unlock(index);
    }

    /// Enters a section without ever taking the slow path. By the thread itself, on its own word.
    #[inline(always)]
    pub fn open_quietly(&self) {
        // SAFETY: our own word.
        unsafe { sys::add_to_word(self.state.as_ptr(), 1) }
    }

    /// Leaves it likewise.
    #[inline(always)]
    pub fn close_quietly(&self) {
        // SAFETY: our own word.
        unsafe { sys::add_to_word(self.state.as_ptr(), -1) }
    }

    /// What it says; `None` for a value that no balanced use reaches.
    #[inline(always)]
    pub fn load(&self) -> Option<State> {
        decode(self.state.load(Relaxed))
    }

    /// Sets the flag; by the thread itself or remotely. A remote store may be lost to an
    /// increment in flight, and is stable once it was seen after a heavy barrier (REMOTE-FLAG).
    #[inline(always)]
    pub fn flag(&self) {
        if broken!("flag-one-byte") {
            let seen = self.state.load(Relaxed);
            widen!("flag-one-byte", 2);
            return self.state.store(seen & NESTING, Relaxed);
        }
        // SAFETY: our own word.
        unsafe { sys::set_top_byte(self.state.as_ptr(), 0x00) }
    }

    /// Clears the flag; by the thread itself only.
    #[inline(always)]
    pub fn clear_flag(&self) {
        // SAFETY: our own word.
        unsafe { sys::set_top_byte(self.state.as_ptr(), 0x80) }
    }

    /// Back to how a thread is born; by the thread itself, or in a forked child.
    pub fn reset(&self) {
        self.state.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every value that balanced use can reach, near both ends of the nesting and around zero.
    fn words() -> impl Iterator<Item = i32> {
        (0..=1000).chain(NESTING - 1000..NESTING).flat_map(|n| [n, NOT_FLAGGED + n])
    }

    #[test]
    fn a_lock_deepens_by_one_keeps_the_flag_and_is_slow_exactly_when_flagged() {
        for word in words() {
            let before = decode(word).unwrap();
            let (next, slow) = after_lock(word);
            let after = decode(next).unwrap();
            assert_eq!(after.nesting, before.nesting + 1, "{word:#x}");
            assert_eq!(after.flagged, before.flagged, "{word:#x}");
            assert_eq!(slow, before.flagged, "{word:#x}");
        }
    }

    #[test]
    fn an_unlock_undoes_a_lock_and_is_slow_exactly_when_it_ends_a_flagged_outermost_section() {
        for word in words() {
            let (locked, _) = after_lock(word);
            let (next, slow) = after_unlock(locked);
            let state = decode(next).unwrap();
            assert_eq!(next, word);
            assert_eq!(slow, state.flagged && state.nesting == 0, "{word:#x}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore)] // a byte is set by an instruction of its own
    fn the_flag_is_the_top_byte_and_setting_it_keeps_the_nesting() {
        for value in words() {
            let word = Word { state: AtomicI32::new(value), _unused: 0 };
            let nesting = word.load().unwrap().nesting;
            word.flag();
            assert_eq!(word.load(), Some(State { nesting, flagged: true }));
            word.clear_flag();
            assert_eq!(word.load(), Some(State { nesting, flagged: false }));
        }
    }

    #[test]
    fn an_unlock_too_many_is_a_value_that_load_refuses() {
        let (registered, _) = after_unlock(NOT_FLAGGED);
        let (born, _) = after_unlock(0);
        assert_eq!(decode(registered), None);
        assert_eq!(decode(born), None);
    }

    #[test]
    fn every_word_decodes_to_a_state_or_is_refused_by_its_top_byte_alone() {
        for top in 0..=255u8 {
            let word = ((top as u32) << 24 | 5) as i32;
            assert_eq!(decode(word).is_some(), top == 0x00 || top == 0x80, "{top:#x}");
        }
    }
}
