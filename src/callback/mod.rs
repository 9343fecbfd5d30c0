//! Callbacks: what is to be called after a grace period.
//!
//! `call_rcu()` puts a callback on one of [`SHARDS`] chains, which its thread was given: wait-free, in
//! any context. A worker thread ([`crate::worker`]) takes them all off, waits for a grace period
//! and runs them. Each shard runs in order, so that two counts say whether all earlier ones ran:
//! that is `rcu_barrier()`.
//!
//! Two locks, of the worker and its stand-ins: `runner` for one round, with its grace period;
//! `lists` while callbacks change lists or run. A fork holds the second, so that it comes between two
//! callbacks and the child finds whole lists.

pub mod forks;
mod rounds;

use core::ffi::{c_long, c_ulong};
use core::iter::successors;
use core::ptr::{self, NonNull};
use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, SeqCst},
};

use crate::bug::{self, Decimal};
use crate::chain::{self, Chain, Link};
use crate::event;
use crate::flavour::{self, Flavour};
use crate::grace_period::Urgency;
use crate::reader::Reader;
use crate::sys::futex::{self, Lock};
use crate::worker::Worker;
use crate::{fork, proc, sys};

/// What callers provide for each callback, and leave alone until it is called.
#[repr(C)]
pub struct Head {
    next: AtomicPtr<Head>,
    /// The function's address; or one more than how far into its memory the head lies.
    action: AtomicUsize,
}

/// A callback function.
pub type Function = unsafe extern "C" fn(*mut Head);

/// A head at most so far into a block of memory may be freed without a function: no function lies
/// at so low an address.
pub const MOST_OFFSET: usize = 4095;

const SHARDS: usize = 64;

/// From so many waiting callbacks of a shard on, its callers are slowed down.
const FLOOD: u64 = 65_536;

/// From so many on, of all shards, the worker does not rest.
const MANY: u64 = FLOOD / 2;

/// Every so many callbacks of a shard somebody looks whether it is flooded.
const LOOK_EVERY: u64 = 1024;

/// A caller sleeps this long at each look, for each [`FLOOD`] that waits.
const FLOOD_NS: u64 = 5_000_000;
const LONGEST_FLOOD_NS: u64 = 100_000_000;

impl Head {
    /// On no queue.
    pub const fn new() -> Self {
        Head { next: AtomicPtr::new(ptr::null_mut()), action: AtomicUsize::new(0) }
    }
}

impl Link for Head {
    fn link(&self) -> &AtomicPtr<Head> {
        &self.next
    }

    const TWICE: &'static [u8] =
        b"call_rcu(), free_rcu(): a head was queued again before it was called";
}

/// What callers touch.
#[repr(align(64))]
struct Shard {
    chain: Chain<Head>,
    queued: AtomicU64,
}

/// What only the worker changes.
struct Progress {
    /// Taken off the chain, in order, and not yet called: the first, or [`chain::end_of_list`].
    batch: AtomicPtr<Head>,
    /// How many have been called, and have returned.
    done: AtomicU64,
}

impl Progress {
    /// What is still to be called. By the runner.
    fn waiting(&self) -> impl Iterator<Item = NonNull<Head>> {
        successors(on_list(self.batch.load(Relaxed)), |head| {
            // SAFETY: a head is ours from when it was queued until it is called.
            on_list(unsafe { head.as_ref() }.next.load(Relaxed))
        })
    }
}

/// A head of a list, unless that ends there. Who comes to the end of a chain, or where one is cut, met a head that was
/// put there while it was on the list: the end of the process, for behind that head nobody knows what follows.
fn on_list(head: *mut Head) -> Option<NonNull<Head>> {
    if head == chain::end_of_list() {
        return None;
    }
    if head.is_null() || head == chain::end() {
        bug::die(&[Head::TWICE]);
    }
    NonNull::new(head)
}

/// The callbacks of a flavour.
pub struct Callbacks {
    shards: [Shard; SHARDS],
    progress: [Progress; SHARDS],
    runner: Lock,
    lists: Lock,
    /// How many forks want `lists`.
    holders: AtomicU32,
    /// While chains are put in order, which a fork waits for however long it takes, not zero, and another number
    /// with each callback.
    sorting: AtomicU32,
    /// The shard of the callback that is being called, plus one; 0: none is.
    calling: AtomicUsize,
    /// Counts rounds, for `rcu_barrier()` and flooding callers to sleep on.
    pub rounds: AtomicU32,
    sleepers: AtomicU32,
    /// A callback was queued, or a grace period asked for, while there is no worker.
    unattended: AtomicBool,
    /// Somebody asked for a grace period without waiting for it; 2: an expedited one.
    poll: AtomicU32,
    /// What a round has taken from there, until it ends.
    polling: AtomicU32,
    /// The worker.
    pub worker: Worker,
}

/// The shard that the next thread gets.
static NEXT_SHARD: AtomicU32 = AtomicU32::new(0);

/// It was said that nobody runs callbacks.
static WARNED: AtomicBool = AtomicBool::new(false);

impl Callbacks {
    /// None.
    pub const fn new() -> Self {
        Callbacks {
            shards: [const { Shard { chain: Chain::new(), queued: AtomicU64::new(0) } }; SHARDS],
            progress: [const {
                Progress { batch: AtomicPtr::new(chain::end_of_list()), done: AtomicU64::new(0) }
            }; SHARDS],
            runner: Lock::new(),
            lists: Lock::new(),
            holders: AtomicU32::new(0),
            sorting: AtomicU32::new(0),
            calling: AtomicUsize::new(0),
            rounds: AtomicU32::new(0),
            sleepers: AtomicU32::new(0),
            unattended: AtomicBool::new(false),
            poll: AtomicU32::new(0),
            polling: AtomicU32::new(0),
            worker: Worker::new(),
        }
    }

    /// Whether anything waits to be taken off.
    pub fn is_idle(&self) -> bool {
        self.poll.load(SeqCst) == 0 && self.shards.iter().all(|shard| shard.chain.is_empty())
    }

    /// Whether somebody waits for the next round.
    pub fn are_awaited(&self) -> bool {
        self.poll.load(SeqCst) != 0 || (self.sleepers.load(SeqCst) != 0 && !self.is_idle())
    }

    /// Whether any is queued that has not run.
    pub fn are_waiting(&self) -> bool {
        let mut both = self.shards.iter().zip(&self.progress);
        both.any(|(shard, progress)| shard.queued.load(SeqCst) != progress.done.load(Acquire))
    }

    /// How many callbacks were queued, and how many have run.
    #[inline(never)]
    pub fn counts(&self) -> (u64, u64) {
        let queued = self.shards.iter().map(|shard| shard.queued.load(Relaxed));
        let done = self.progress.iter().map(|progress| progress.done.load(Relaxed));
        (queued.sum(), done.sum())
    }

    fn shard_of(&self, reader: &Reader) -> usize {
        let mut shard = reader.shard.load(Relaxed);
        if shard == 0 {
            let next = NEXT_SHARD.fetch_add(1, Relaxed) as usize % SHARDS;
            shard = next as u8 + 1;
            // A signal handler may have been given one meanwhile: one thread, one shard.
            if broken!("shard-claim") {
                reader.shard.store(shard, Relaxed);
            } else if let Err(theirs) = reader.shard.compare_exchange(0, shard, Relaxed, Relaxed) {
                shard = theirs;
            }
        }
        usize::from(shard) - 1
    }

    /// How many wait.
    fn waiting(&self) -> c_long {
        let (queued, done) = self.counts();
        queued.wrapping_sub(done) as c_long
    }
}

impl Flavour {
    /// Queues a callback. Any context.
    ///
    /// # Safety
    /// The head is the library's until it is called, and the action fits it.
    #[inline]
    pub unsafe fn call(&self, head: *mut Head, action: usize) {
        let reader = sys::reader(0);
        let index = self.callbacks.shard_of(reader);
        let Some(shard) = self.callbacks.shards.get(index) else { return };
        // SAFETY: the caller's.
        unsafe { &*head }.action.store(action, Relaxed);
        // First the count: who sees the callback run sees that it was queued.
        let before = shard.queued.fetch_add(1, SeqCst);
        if broken!("wake-order") {
            self.callbacks.wake(false);
        }
        // SAFETY: the caller's; it is on no chain yet.
        unsafe { shard.chain.put(head) };
        if !broken!("wake-order") {
            self.callbacks.wake(false);
        }
        if before % LOOK_EVERY == LOOK_EVERY - 1 {
            self.slow_down(index, before);
        }
    }

    /// The same, and tells of it first: the head may be gone afterwards.
    ///
    /// # Safety
    /// As [`call`](Self::call).
    #[inline]
    pub unsafe fn call_and_tell(&self, head: *mut Head, function: usize) {
        if event::enabled::rcu_callback() {
            event::rcu_callback(self.name(), head.cast(), self.callbacks.waiting());
        }
        // SAFETY: the caller's.
        unsafe { self.call(head, function) };
    }

    /// Queues a block that is to be freed, and tells of it first.
    ///
    /// # Safety
    /// As [`call`](Self::call).
    #[inline]
    pub unsafe fn free_and_tell(&self, head: *mut Head, offset: usize) {
        if event::enabled::rcu_kvfree_callback() {
            let qlen = self.callbacks.waiting();
            event::rcu_kvfree_callback(self.name(), head.cast(), offset as c_ulong, qlen);
        }
        // SAFETY: the caller's.
        unsafe { self.call(head, offset + 1) };
    }

    /// A caller that floods its shard sleeps a little, so that the worker keeps up; in a section it
    /// would hold up the worker's grace period instead.
    #[cold]
    fn slow_down(&self, index: usize, queued: u64) {
        let Some(progress) = self.callbacks.progress.get(index) else { return };
        let waiting = queued.wrapping_sub(progress.done.load(Relaxed));
        // A child of a fork in a handler that interrupted a `call_rcu()` may count one short.
        if !(FLOOD..u64::MAX / 2).contains(&waiting) {
            return;
        }
        if !self.callbacks.worker.exists() {
            if !WARNED.swap(true, Relaxed) {
                bug::warn(&[
                    Decimal::new(waiting).text(),
                    b" callbacks wait, and nobody runs them: call rcu_notrace_start_worker()",
                ]);
            }
            return;
        }
        let in_section = |flavour: &&Flavour| flavour.reader().state(flavour).in_section();
        if flavour::ALL.iter().any(in_section) || self.reader().runs_callbacks() {
            return;
        }
        self.stats.callbacks_slowed.fetch_add(1, Relaxed);
        let seen = self.callbacks.rounds.load(SeqCst);
        self.callbacks.sleepers.fetch_add(1, SeqCst);
        futex::wait(
            &self.callbacks.rounds,
            seen,
            (waiting / FLOOD * FLOOD_NS).min(LONGEST_FLOOD_NS),
        );
        self.callbacks.sleepers.fetch_sub(1, SeqCst);
    }

    /// Asks for a grace period without waiting for it; its cookie. Any context.
    pub fn start_poll(&self, urgency: Urgency) -> u64 {
        let cookie = self.state();
        let wanted = if urgency == Urgency::Expedited { 2 } else { 1 };
        self.callbacks.poll.fetch_max(wanted, SeqCst);
        self.callbacks.wake(true);
        cookie
    }
}

impl Callbacks {
    /// Wakes the worker if it sleeps; `now`: also from a nap between rounds.
    ///
    /// WAKE: what was queued, a full fence, then whether it sleeps. It says that it does, a full
    /// fence, then looks at what is queued.
    #[inline(always)]
    fn wake(&self, now: bool) {
        self.worker.wake(now);
        if !self.unattended.load(Relaxed) && !self.worker.exists() {
            self.unattended.store(true, SeqCst);
        }
    }

    /// Whether so many wait that the worker hurries.
    pub fn are_many(&self) -> bool {
        let (queued, done) = self.counts();
        queued.wrapping_sub(done) > MANY
    }
}

/// A thread that was a reader ends: a safe point, unless it is the last one. Then the process is
/// about to end, and a worker would keep it alive.
pub fn at_thread_exit() {
    let is_idle = |flavour: &&Flavour| !flavour.callbacks.unattended.load(SeqCst);
    if flavour::ALL.iter().all(is_idle) {
        return;
    }
    let threads = proc::status(sys::gettid()).and_then(|status| status.threads).unwrap_or(1);
    let first_has_ended = proc::status(fork::process()).is_some_and(|status| status.is_dead());
    if threads > 1 + u64::from(first_has_ended) {
        at_safe_point();
    }
}

/// Where it is safe to create a thread: starts the workers that have something to do.
pub fn at_safe_point() {
    for flavour in flavour::ALL {
        let callbacks = &flavour.callbacks;
        // The mark goes once there is a worker, who finds what was queued.
        if callbacks.unattended.load(SeqCst) && callbacks.worker.start_unless_starting(flavour) {
            callbacks.unattended.store(false, SeqCst);
        }
    }
}
