//! The state word: how deep in read-side sections a thread is, and whether it is *flagged*.
//!
//! Flagged means: the next lock, and the unlock that ends the outermost section, take their slow
//! path. Three kinds of thread are flagged: one that was never registered (a thread is born so,
//! its TLS being zero), one that is registered no more, and one of which a grace period wants a
//! quiescent state (the IPI handler or the waiter flagged it).
//!
//! Two encodings, of the same operations:
//! * `one`: both in 32 bits, for architectures whose increment is one instruction;
//! * `two`: a nesting count and a mark beside it, in portable code.
//!
//! The flag is set by the thread itself, when it leaves or in the IPI handler, or remotely by a waiter; it is
//! cleared by the slow path of lock only: an outermost one, or one that joins. What makes a remote flag sound
//! is argued in docs/PROOF.md (REMOTE-FLAG).

#[cfg(not(any(feature = "portable-reader", not(target_arch = "x86_64"))))]
mod one;
#[cfg(not(any(feature = "portable-reader", not(target_arch = "x86_64"))))]
pub use one::Word;

#[cfg(any(feature = "portable-reader", not(target_arch = "x86_64")))]
mod two;
#[cfg(any(feature = "portable-reader", not(target_arch = "x86_64")))]
pub use two::Word;

/// What a word says at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    /// How many sections are open.
    pub nesting: u32,
    /// Whether the next lock or outermost unlock takes its slow path.
    pub flagged: bool,
}

impl State {
    /// Outside, and bound to take the slow path when it enters.
    pub const OUTSIDE_FLAGGED: State = State { nesting: 0, flagged: true };

    /// Whether a section is open.
    pub fn in_section(self) -> bool {
        self.nesting != 0
    }
}
