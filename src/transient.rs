//! Readers that the registry does not list, counted.
//!
//! A thread is listed only after its first outermost sections ([`crate::reader::PROBATION`]), until
//! its exit; and while it enters the list or leaves it, signal handlers may open sections. All other
//! outermost sections are *transient*: counted on one of two sides, as in SRCU. A grace period
//! waits until each side was empty once. No thread that counts need ever be found, so none need
//! be listed: this is what lets the registry refer to live TLS only.
//!
//! Who counts also leaves its thread's id in a slot, if it finds one free: a waiter that waits for
//! long can name it, lend it its priority, and see that it died. Whoever empties the slot counts
//! down: the thread at the end of its section, or the waiter that found it dead.
//!
//! Threads pay four locked instructions on shared lines (and a system call) in their first sections, and
//! when they come back from parking; those that cannot be listed (no exit hook yet, or no longer) in every one.

use core::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};

use crate::flavour::Flavour;
use crate::reader::{busy, Reader};
use crate::sys::futex::Countdown;

const SLOTS: usize = 64;

/// How many slots a section tries.
const PROBES: usize = 4;

/// In place of a slot's index.
const NO_SLOT: usize = 126;

/// The sides and the slots.
pub struct Transient {
    sides: [Countdown; 2],
    current: AtomicUsize,
    slots: [AtomicU64; SLOTS],
}

/// A slot: the thread's id in the low half, its side, and above it how often the slot was taken, so
/// that no two sections look alike. Without an id it is free.
mod slot {
    pub const TID: u64 = 0xffff_ffff;
    pub const SIDE: u64 = 1 << 32;
    pub const TAKEN: u64 = 1 << 33;

    pub fn taken(free: u64, tid: i32, side: usize) -> u64 {
        (free & !(TID | SIDE)).wrapping_add(TAKEN) | (side as u64) << 32 | u64::from(tid as u32)
    }

    pub fn freed(slot: u64) -> u64 {
        slot & !(TID | SIDE)
    }

    pub fn side(slot: u64) -> usize {
        usize::from(slot & SIDE != 0)
    }

    pub fn tid(slot: u64) -> i32 {
        (slot & TID) as i32
    }
}

/// Where a section is counted, as a byte that is not zero.
#[derive(Clone, Copy)]
struct Place {
    side: usize,
    slot: usize,
}

impl Place {
    fn code(self) -> u8 {
        (1 + self.side + 2 * self.slot) as u8
    }

    fn from_code(code: u8) -> Self {
        let code = usize::from(code) - 1;
        Place { side: code & 1, slot: code >> 1 }
    }
}

impl Transient {
    /// Nobody.
    pub const fn new() -> Self {
        Transient {
            sides: [const { Countdown::new() }; 2],
            current: AtomicUsize::new(0),
            slots: [const { AtomicU64::new(0) }; SLOTS],
        }
    }

    /// One of the sides.
    pub fn side(&self, index: usize) -> &Countdown {
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
        let has_a_name = reader.knows_its_thread();
        let side = self.current.load(Relaxed) & 1;
        stop!("transient-side");
        // STRANGERS: after the note, if there is one (partner: `fork::refuse_strangers`).
        self.side(side).add();
        let slot = if has_a_name { self.take_slot(reader, side) } else { NO_SLOT };
        let place = Place { side, slot };
        // A signal handler may have counted the section before us: then it is counted twice, and
        // ours goes.
        if broken!("counted-claim") {
            reader.counted.store(place.code(), Relaxed);
        } else if reader.counted.compare_exchange(0, place.code(), SeqCst, Relaxed).is_err() {
            self.give_up(place);
        }
    }

    /// Takes this thread's section from the count, if it is there.
    #[inline(always)]
    pub fn exit(&self, reader: &Reader, flavour: &Flavour) {
        if reader.counted.load(Relaxed) == 0 {
            return;
        }
        // A signal handler that waits for a grace period in between would wait for us: the mark
        // lets it be refused.
        let busy = busy::of_this_thread();
        let before = busy.load(Relaxed);
        busy.store(before | busy::REPORTING, Relaxed);
        let counted = if broken!("counted-exchange") {
            let seen = reader.counted.load(Relaxed);
            reader.counted.store(0, Relaxed);
            seen
        } else {
            reader.counted.swap(0, SeqCst)
        };
        if counted != 0 {
            self.give_up(Place::from_code(counted));
            flavour.boost.give_back(flavour, reader.tid.load(Relaxed));
        }
        busy.store(before, Relaxed);
    }

    fn take_slot(&self, reader: &Reader, side: usize) -> usize {
        let tid = reader.tid.load(Relaxed);
        for probe in 0..PROBES {
            let index = (tid as usize).wrapping_add(probe) % SLOTS;
            let seen = self.slots[index].load(Relaxed);
            let free = slot::tid(seen) == 0;
            let taken = slot::taken(seen, tid, side);
            if free && self.slots[index].compare_exchange(seen, taken, SeqCst, Relaxed).is_ok() {
                return index;
            }
        }
        NO_SLOT
    }

    fn give_up(&self, place: Place) {
        if let Some(slot) = self.slots.get(place.slot) {
            slot.store(slot::freed(slot.load(Relaxed)), SeqCst);
        }
        self.side(place.side).finish();
    }

    /// Wakes up who waits for a side, to look again.
    pub fn nudge(&self) {
        self.sides.iter().for_each(Countdown::nudge);
    }

    /// Whether any section is open.
    pub fn is_any(&self) -> bool {
        !broken!("transient-wait") && (self.side(0).open() != 0 || self.side(1).open() != 0)
    }

    /// Returns once every section that was counted when it was called has ended; `outwait` returns
    /// once the side of that index was empty. One caller at a time.
    pub fn wait(&self, mut outwait: impl FnMut(usize)) {
        // New sections keep coming to the current side; so let the other run dry, turn, and let
        // the one that was current run dry. A reader that read `current` before the turn and
        // counts after it lands on a side that we do look at, now or in the next grace period.
        let before = self.current.load(Relaxed) & 1;
        if !broken!("transient-other-side") {
            outwait(before ^ 1);
        }
        if !broken!("transient-turn") {
            self.current.store(before ^ 1, SeqCst);
        }
        if !broken!("transient-current-side") {
            outwait(before);
        }
    }

    /// Shows the slots of a side that are taken, as opaque values, with the threads' ids.
    pub fn occupants(&self, side: usize) -> impl Iterator<Item = (usize, u64, i32)> + '_ {
        let slots = self.slots.iter().enumerate().map(|(index, slot)| (index, slot.load(SeqCst)));
        let taken =
            slots.filter(move |(_, seen)| slot::tid(*seen) != 0 && slot::side(*seen) == side);
        taken.map(|(index, seen)| (index, seen, slot::tid(seen)))
    }

    /// Whether that occupant is still there.
    pub fn occupies(&self, index: usize, seen: u64) -> bool {
        self.slots.get(index).is_some_and(|slot| slot.load(SeqCst) == seen)
    }

    /// Takes a dead thread's section from the count. The thread cannot come in between: it is dead,
    /// and no other section looks like its own.
    pub fn bury(&self, index: usize, seen: u64) -> bool {
        let Some(slot) = self.slots.get(index) else { return false };
        let freed = slot::freed(seen);
        let buried = slot.compare_exchange(seen, freed, SeqCst, Relaxed).is_ok();
        if buried && !broken!("transient-bury") {
            self.side(slot::side(seen)).finish();
        }
        buried
    }

    /// Forgets all but this thread's own section: for the only thread of a forked child, whose id
    /// is new.
    pub fn reset(&self, survivor: &Reader) {
        let counted = match survivor.counted.load(Relaxed) {
            0 => None,
            code => Some(Place::from_code(code)),
        };
        for (index, side) in self.sides.iter().enumerate() {
            side.reset(u32::from(counted.is_some_and(|place| place.side == index)));
        }
        let tid = survivor.tid.load(Relaxed);
        for (index, slot) in self.slots.iter().enumerate() {
            let ours = counted.filter(|place| place.slot == index);
            let seen = slot::freed(slot.load(Relaxed));
            slot.store(ours.map_or(seen, |place| slot::taken(seen, tid, place.side)), SeqCst);
        }
    }
}

const _: () = assert!(SLOTS <= NO_SLOT);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_from_its_code_which_is_never_zero() {
        for side in 0..2 {
            for slot in (0..SLOTS).chain([NO_SLOT]) {
                let place = Place { side, slot };
                assert_ne!(place.code(), 0);
                let back = Place::from_code(place.code());
                assert_eq!((back.side, back.slot), (side, slot));
            }
        }
    }

    #[test]
    fn a_slot_says_who_took_it_and_looks_different_each_time() {
        let first = slot::taken(0, 77, 1);
        assert_eq!((slot::tid(first), slot::side(first)), (77, 1));
        let free = slot::freed(first);
        assert_eq!(slot::tid(free), 0);
        let second = slot::taken(free, 77, 1);
        assert_ne!(first, second);
        assert_eq!((slot::tid(second), slot::side(second)), (77, 1));
    }
}
