//! A chain: many put things on it from any context, one takes all of them off.
//!
//! Putting is wait-free and needs no memory: the link is in the thing. A few attempts at a
//! compare-exchange keep the chain whole at every moment, which is what a forked child finds. Who
//! loses them all to others exchanges the head and links behind it: between the two the chain is
//! cut there, and who takes it off waits for that one store.

use core::ptr;
use core::sync::atomic::{
    AtomicPtr,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};

use crate::{bug, sys};

/// What can be put on a chain.
pub trait Link: Sized {
    /// The link: null while nobody put it on a chain.
    fn link(&self) -> &AtomicPtr<Self>;

    /// What the process ends with where one is put on a chain that was not taken off before.
    const TWICE: &'static [u8];
}

/// A chain, last in first out.
pub struct Chain<T>(AtomicPtr<T>);

/// The end of every chain: an address that nothing has.
pub const fn end<T>() -> *mut T {
    ptr::without_provenance_mut(1)
}

/// For whoever lists what he took off by the same links: the end of such a list. Another address than
/// the chain's, or who comes from one to the other would not hear of a thing that is on both.
pub const fn end_of_list<T>() -> *mut T {
    ptr::without_provenance_mut(2)
}

const ATTEMPTS: u32 = 16;

impl<T: Link> Chain<T> {
    /// With nothing on it.
    pub const fn new() -> Self {
        Chain(AtomicPtr::new(end()))
    }

    /// Puts `item` there. Any context; wait-free.
    ///
    /// Ordering: a full fence, before which come the caller's stores (CHAIN-PUT; partner:
    /// [`take`](Self::take)).
    ///
    /// # Safety
    /// The item is on no chain, and stays where it is until it was taken off.
    #[inline(always)]
    pub unsafe fn put(&self, item: *mut T) {
        // SAFETY: the caller's.
        let link = unsafe { &*item }.link();
        let mut head = self.0.load(Relaxed);
        for _ in 0..ATTEMPTS {
            link.store(head, Relaxed);
            if broken!("chain-put") {
                return self.0.store(item, Relaxed);
            }
            match self.0.compare_exchange(head, item, SeqCst, Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
        link.store(ptr::null_mut(), Relaxed);
        let rest = self.0.swap(item, SeqCst);
        link.store(rest, Release);
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.0.load(SeqCst) == end()
    }

    /// Takes everything off, the last put first.
    pub fn take(&self) -> Taken<T> {
        if self.is_empty() {
            return Taken(end());
        }
        if broken!("chain-take") {
            let all = self.0.load(Acquire);
            widen!("chain-take", 20);
            self.0.store(end(), Relaxed);
            return Taken(all);
        }
        // CHAIN-PUT: acquires what came before the puts.
        Taken(self.0.swap(end(), SeqCst))
    }

    /// Drops everything: for the only thread of a forked child.
    pub fn reset(&self) {
        self.0.store(end(), SeqCst);
    }

    /// Ends the chain where another thread of the parent was about to link, and answers how long it
    /// is: for the only thread of a forked child.
    pub fn mend(&self) -> u64 {
        let mut length = 0u64;
        let mut at = self.0.load(SeqCst);
        // What was put there twice has made a ring of it, or leads to what was taken off: one of those that were
        // passed, each twice as far as the one before, comes again.
        let mut passed = ptr::null_mut();
        while at != end() {
            if at == end_of_list() || at == passed {
                bug::die(&[T::TWICE]);
            }
            if length.is_power_of_two() {
                passed = at;
            }
            length += 1;
            // SAFETY: what is on the chain stays where it is.
            let link = unsafe { &*at }.link();
            if link.load(Relaxed).is_null() {
                link.store(end(), Relaxed);
            }
            at = link.load(Relaxed);
        }
        length
    }
}

/// What was taken off a chain.
pub struct Taken<T>(*mut T);

impl<T: Link> Iterator for Taken<T> {
    type Item = *mut T;

    fn next(&mut self) -> Option<*mut T> {
        if self.0 == end() {
            return None;
        }
        let item = self.0;
        if item == end_of_list() && !broken!("queued-twice") {
            bug::die(&[T::TWICE]);
        }
        // SAFETY: nobody but us, who took it off, may do away with it.
        self.0 = behind(unsafe { &*item });
        Some(item)
    }
}

/// What is behind an item, once whoever put it there has said so.
fn behind<T: Link>(item: &T) -> *mut T {
    let mut spins = 0u32;
    loop {
        let next = item.link().load(Acquire);
        if !next.is_null() {
            return next;
        }
        if broken!("chain-cut") {
            return end();
        }
        spins = spins.saturating_add(1);
        // Its thread may be preempted there, even by us: if we run at a real-time priority it
        // needs more than a yield.
        if spins > 1000 {
            sys::sleep_ns(50_000);
        }
        core::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Item(AtomicPtr<Item>, u32);

    impl Link for Item {
        fn link(&self) -> &AtomicPtr<Item> {
            &self.0
        }

        const TWICE: &'static [u8] = b"an item was put there twice";
    }

    fn numbers(taken: Taken<Item>) -> Vec<u32> {
        // SAFETY: the items below outlive their chain.
        taken.map(|item| unsafe { (*item).1 }).collect()
    }

    #[test]
    fn what_was_put_comes_off_once_the_last_first() {
        let items: Vec<_> = (0..3).map(|n| Item(AtomicPtr::default(), n)).collect();
        let chain = Chain::new();
        assert!(chain.is_empty());
        for item in &items {
            // SAFETY: each once, and it outlives the chain.
            unsafe { chain.put(ptr::from_ref(item).cast_mut()) };
        }
        assert_eq!(chain.mend(), 3);
        assert_eq!(numbers(chain.take()), [2, 1, 0]);
        assert_eq!(numbers(chain.take()), []);
    }

    #[test]
    fn a_chain_that_was_cut_by_a_fork_ends_there() {
        let items: Vec<_> = (0..3).map(|n| Item(AtomicPtr::default(), n)).collect();
        let chain = Chain::new();
        for item in &items {
            // SAFETY: each once, and it outlives the chain.
            unsafe { chain.put(ptr::from_ref(item).cast_mut()) };
        }
        items[1].0.store(ptr::null_mut(), Relaxed);
        assert_eq!(chain.mend(), 2);
        assert_eq!(numbers(chain.take()), [2, 1]);
    }

    #[test]
    fn nothing_is_lost_or_taken_twice_among_threads_that_put_and_one_that_takes() {
        const EACH: usize = if cfg!(miri) { 100 } else { 20_000 };
        let items: Vec<_> = (0..4 * EACH).map(|n| Item(AtomicPtr::default(), n as u32)).collect();
        let chain = Chain::new();
        let mut seen = vec![0; items.len()];
        std::thread::scope(|scope| {
            for part in items.chunks(EACH) {
                let chain = &chain;
                scope.spawn(move || {
                    for item in part {
                        // SAFETY: each once, and it outlives the chain.
                        unsafe { chain.put(ptr::from_ref(item).cast_mut()) };
                    }
                });
            }
            let mut count = 0;
            while count < items.len() {
                for number in numbers(chain.take()) {
                    seen[number as usize] += 1;
                    count += 1;
                }
            }
        });
        assert!(seen.iter().all(|times| *times == 1));
    }
}
