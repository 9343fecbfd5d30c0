//! Who the readers are.
//!
//! A thread registers by putting itself on the chain of newcomers: wait-free, no memory needed,
//! any context. Waiters, under the lock, move the newcomers into a dense array of pointers, which
//! they scan. A thread that exits takes itself out under the same lock, so whoever holds it may
//! follow every pointer in the array.
//!
//! The array lists the threads that were lately active: grace periods park those that they find
//! idle again and again (`grace_period.rs`), and a parked thread costs a grace period nothing.
//!
//! The array does not grow, so no wait ever needs memory. A thread claims a place in it before it
//! registers; where none is left, its sections stay transient ([`crate::transient`]) until there is one
//! (PLACES).

use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{
    AtomicI32, AtomicPtr,
    Ordering::{Relaxed, SeqCst},
};

use crate::bug;
use crate::chain::{Chain, Link};
use crate::flavour::FLAVOURS;
use crate::reader::Reader;
use crate::sys::futex::Lock;

/// One reader as waiters see it.
#[derive(Clone, Copy)]
pub struct Entry {
    reader: *const Reader,
    /// For how many grace periods in a row it was outside whenever looked at.
    pub quiet: u32,
    /// The reader was flagged, to be parked if it is still outside after the barrier.
    pub parking: bool,
    /// The last grace period, as its tag, that posted a request here.
    pub asked: u32,
    /// How often its thread had been scheduled when it was flagged without a barrier.
    pub scheduled: u32,
}

impl Entry {
    /// The reader.
    pub fn reader(&self) -> &Reader {
        // SAFETY: an entry is reachable only under the registry's lock, and a reader takes its
        // entry out under it before its thread's TLS goes (`exit_hook`).
        unsafe { &*self.reader }
    }
}

/// So many readers of a flavour are listed at once.
const PLACES: i32 = 4096;

/// The array has room for a few more: a child of fork counts its places anew, and its thread may be in
/// the middle of registering, in each of some handlers one above the other.
const ROOM: usize = PLACES as usize + 64;

const _: () = assert!(size_of::<Entry>() == 24, "docs/DESIGN.md says what grows with what");
const EMPTY: Entry =
    Entry { reader: ptr::null(), quiet: 0, parking: false, asked: 0, scheduled: 0 };

impl Link for Reader {
    fn link(&self) -> &AtomicPtr<Reader> {
        &self.next
    }

    const TWICE: &'static [u8] = b"a reader is a newcomer twice";
}

/// Readers, and those that come.
pub struct Registry {
    newcomers: Chain<Reader>,
    /// How many places are claimed: by entries, by newcomers, by those about to be.
    claimed: AtomicI32,
    lock: Lock,
    dense: &'static List,
}

/// The array, and how much of it is used.
struct List(UnsafeCell<Dense>);

struct Dense {
    entries: [Entry; ROOM],
    used: usize,
}

/// Apart from the flavours, and all zero: what is never used takes neither memory nor a file's space.
static LISTS: [List; FLAVOURS] =
    [const { List(UnsafeCell::new(Dense { entries: [EMPTY; ROOM], used: 0 })) }; FLAVOURS];

// SAFETY: a flavour's list is touched under its registry's lock only, or in a forked child's only thread; its pointers
// refer to readers, whose fields are atomics.
unsafe impl Sync for List {}

impl Registry {
    /// Nobody; of the flavour at that index.
    pub const fn new(flavour: usize) -> Self {
        Registry {
            newcomers: Chain::new(),
            claimed: AtomicI32::new(0),
            lock: Lock::new(),
            dense: &LISTS[flavour],
        }
    }

    /// Claims a place, if there is one: before a reader is pushed. Each claim goes to an entry or is given
    /// back, so whoever is pushed finds room (PLACES; partner: `Roster::insert`).
    #[inline(always)]
    pub fn claim(&self) -> bool {
        // A look first: where none is left, each section of those without asks.
        if self.claimed.load(Relaxed) >= PLACES && !broken!("places") {
            return false;
        }
        let is_mine = self.claimed.fetch_add(1, Relaxed) < PLACES || broken!("places");
        if !is_mine {
            self.give_up();
        }
        is_mine
    }

    /// Gives a claim back.
    #[inline(always)]
    pub fn give_up(&self) {
        self.claimed.fetch_sub(1, Relaxed);
    }

    /// Publishes this thread's reader, unless it is in the chain still: a reader may be parked, and
    /// come again, before anybody took it in from there. For the one that claimed JOINING, and a place,
    /// which goes to its entry.
    ///
    /// Ordering: a full fence before the section's loads (NEWCOMER; partner: GP-START in
    /// `Flavour::run`, before `Roster::admit`).
    #[inline(always)]
    pub fn push(&self, reader: &Reader) {
        // CHAIN: our claim of JOINING came before this look.
        if !reader.next.load(SeqCst).is_null() && !broken!("double-push") {
            self.give_up();
            return;
        }
        // SAFETY: not on the chain, as we have just seen, and only the one that claimed JOINING puts
        // it there. Its thread does not exit before it was taken off (`Roster::admit`).
        unsafe { self.newcomers.put(ptr::from_ref(reader).cast_mut()) };
    }

    /// The array, newcomers included.
    pub fn lock(&self) -> Roster<'_> {
        if !broken!("registry-lock") {
            self.lock.lock();
        }
        let mut roster = Roster { registry: self };
        let is_late = broken!("newcomers-order");
        if !broken!("newcomers") && !is_late {
            roster.admit();
        }
        roster
    }

    /// Starts over with the one thread that a forked child has, if it is registered.
    pub fn reset(&self, survivor: Option<&Reader>) {
        self.lock.reset(false);
        self.newcomers.reset();
        // SAFETY: the caller is the only thread.
        let dense = unsafe { &mut *self.dense.0.get() };
        dense.used = 0;
        self.claimed.store(i32::from(survivor.is_some()), SeqCst);
        if let Some(reader) = survivor {
            self.lock().insert(reader);
        }
    }
}

/// The registry under its lock.
pub struct Roster<'a> {
    registry: &'a Registry,
}

impl Drop for Roster<'_> {
    fn drop(&mut self) {
        if !broken!("registry-lock") {
            self.registry.lock.unlock();
        }
    }
}

impl Roster<'_> {
    fn dense(&mut self) -> &mut Dense {
        // SAFETY: we hold the lock, and `self` is borrowed for as long as the answer.
        unsafe { &mut *self.registry.dense.0.get() }
    }

    /// The readers listed.
    pub fn entries(&mut self) -> &mut [Entry] {
        let Dense { entries, used } = self.dense();
        // Never more than there is room for (`insert`).
        entries.get_mut(..*used).unwrap_or_default()
    }

    /// How many.
    pub fn len(&mut self) -> usize {
        self.dense().used
    }

    /// Moves the newcomers into the array.
    pub fn admit(&mut self) {
        for newcomer in self.registry.newcomers.take() {
            // SAFETY: a newcomer's thread cannot exit before it is out of the chain: it would
            // need the lock that we hold.
            let reader = unsafe { &*newcomer };
            // Out of the chain before anybody looks at its mark: a reader that found itself still
            // there has JOINING as its mark by then, and stays in the array (CHAIN).
            reader.next.store(ptr::null_mut(), SeqCst);
            self.insert(reader);
        }
    }

    fn insert(&mut self, reader: &Reader) {
        let index = reader.index.load(Relaxed) as usize;
        if let Some(entry) = self.entries().get_mut(index) {
            // It parked itself and came back before anybody looked.
            if ptr::eq(entry.reader, reader) && !broken!("listed-once") {
                entry.quiet = 0;
                self.registry.give_up();
                return;
            }
        }
        let index = self.len();
        if index == ROOM {
            // PLACES: whoever is pushed has one.
            bug::die(&[b"more readers than places"]);
        }
        self.dense().used = index + 1;
        self.place(index, Entry { reader, ..EMPTY });
    }

    /// Takes a reader out, if it is listed: everywhere. Where a thread died unseen and its stack
    /// became another's, the same block is listed twice.
    pub fn remove(&mut self, reader: &Reader) {
        let mut index = 0;
        while let Some(entry) = self.entries().get(index) {
            if ptr::eq(entry.reader, reader) {
                self.remove_at(index);
                if broken!("listed-twice") {
                    return;
                }
            } else {
                index += 1;
            }
        }
    }

    /// Takes the reader at `index` out, without looking at it; the last one comes there.
    pub fn remove_at(&mut self, index: usize) {
        let Some(last) = self.len().checked_sub(1) else { return };
        if let Some(&moved) = self.entries().get(last) {
            if index != last {
                self.place(index, moved);
            }
            self.dense().used = last;
            self.registry.give_up();
        }
    }

    /// Exchanges two places.
    pub fn swap(&mut self, a: usize, b: usize) {
        let entries = self.entries();
        if let (Some(&first), Some(&second)) = (entries.get(a), entries.get(b)) {
            self.place(a, second);
            self.place(b, first);
        }
    }

    fn place(&mut self, index: usize, entry: Entry) {
        if let Some(place) = self.entries().get_mut(index) {
            *place = entry;
            entry.reader().index.store(index as u32, Relaxed);
        }
    }
}
