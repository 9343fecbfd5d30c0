//! Who the readers are.
//!
//! A thread registers by putting itself on the chain of newcomers: wait-free, no memory needed,
//! any context. Waiters, under the lock, move the newcomers into a dense array of pointers, which
//! they scan. A thread that exits takes itself out under the same lock, so whoever holds it may
//! follow every pointer in the array.
//!
//! The array lists the threads that were lately active: grace periods park those that they find
//! idle again and again (`grace_period.rs`), and a parked thread costs a grace period nothing.

use core::cell::UnsafeCell;
use core::ptr;
use core::slice;
use core::sync::atomic::{
    AtomicPtr,
    Ordering::{Relaxed, SeqCst},
};

use crate::bug::{self, Decimal};
use crate::chain::{Chain, Link};
use crate::reader::Reader;
use crate::sys::{self, futex::Lock};

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

const INITIAL: usize = 256;
const _: () = assert!(size_of::<Entry>() == 24, "docs/DESIGN.md says what grows with what");
const EMPTY: Entry =
    Entry { reader: ptr::null(), quiet: 0, parking: false, asked: 0, scheduled: 0 };

impl Link for Reader {
    fn link(&self) -> &AtomicPtr<Reader> {
        &self.next
    }
}

/// Readers, and those that come.
pub struct Registry {
    newcomers: Chain<Reader>,
    lock: Lock,
    dense: UnsafeCell<Dense>,
}

struct Dense {
    initial: [Entry; INITIAL],
    /// More than `initial` holds: a mapping; null before.
    grown: *mut Entry,
    capacity: usize,
    used: usize,
}

// SAFETY: `dense` is touched under `lock` only, or in a forked child's only thread; its pointers
// refer to readers, whose fields are atomics.
unsafe impl Sync for Registry {}

impl Registry {
    /// Nobody.
    pub const fn new() -> Self {
        Registry {
            newcomers: Chain::new(),
            lock: Lock::new(),
            dense: UnsafeCell::new(Dense {
                initial: [EMPTY; INITIAL],
                grown: ptr::null_mut(),
                capacity: INITIAL,
                used: 0,
            }),
        }
    }

    /// Publishes this thread's reader, unless it is in the chain still: a reader may be parked, and
    /// come again, before anybody took it in from there. For the one that claimed JOINING.
    ///
    /// Ordering: a full fence before the section's loads (NEWCOMER; partner: GP-START in
    /// `Flavour::run`, before `Roster::admit`).
    #[inline(always)]
    pub fn push(&self, reader: &Reader) {
        // CHAIN: our claim of JOINING came before this look.
        if !reader.next.load(SeqCst).is_null() && !broken!("double-push") {
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
        let dense = unsafe { &mut *self.dense.get() };
        // Another thread may have been growing the array: what it mapped is left where it is.
        dense.grown = ptr::null_mut();
        dense.capacity = INITIAL;
        dense.used = 0;
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
        unsafe { &mut *self.registry.dense.get() }
    }

    /// The readers listed.
    pub fn entries(&mut self) -> &mut [Entry] {
        let dense = self.dense();
        let first = if dense.grown.is_null() { dense.initial.as_mut_ptr() } else { dense.grown };
        // SAFETY: `used` entries from there are initialised, and borrowed from `self`.
        unsafe { slice::from_raw_parts_mut(first, dense.used) }
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
                return;
            }
        }
        self.make_room();
        let index = self.len();
        self.dense().used = index + 1;
        self.place(index, Entry { reader, ..EMPTY });
    }

    fn make_room(&mut self) {
        let used = self.len();
        if used < self.dense().capacity {
            return;
        }
        let bytes = used * size_of::<Entry>();
        let Some(fresh) = sys::map(2 * bytes) else {
            bug::die(&[b"no memory to list ", Decimal::new(used as u64).text(), b" readers"]);
        };
        let fresh = fresh.as_ptr().cast::<Entry>();
        for (index, entry) in self.entries().iter().enumerate() {
            // SAFETY: `index` is within the new mapping, which nobody else knows.
            unsafe { fresh.add(index).write(*entry) };
        }
        let dense = self.dense();
        let old = dense.grown;
        dense.grown = fresh;
        dense.capacity = 2 * used;
        if !old.is_null() {
            // SAFETY: the old mapping of that size has just been replaced.
            unsafe { sys::unmap(old.cast(), bytes) };
        }
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
