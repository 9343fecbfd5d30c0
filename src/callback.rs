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

use core::ffi::{c_long, c_ulong, c_void, CStr};
use core::ptr;
use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};

use crate::bug::{self, Decimal};
use crate::chain::{Chain, Link};
use crate::event;
use crate::flavour::{self, Flavour};
use crate::grace_period::{refuse_deadlock, Urgency};
use crate::holdout;
use crate::reader::{role, Reader};
use crate::sys::futex::{self, Lock};
use crate::worker::Worker;
use crate::{fork, proc, start, sys};

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

/// How long a fork waits for a callback to return.
const HOLD_NS: u64 = 100_000_000;

/// And for the next callback to be sorted, while lists are not whole.
const SORT_NS: u64 = 10_000_000_000;

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
}

/// What callers touch.
#[repr(align(64))]
struct Shard {
    chain: Chain<Head>,
    queued: AtomicU64,
}

/// What only the worker changes.
struct Progress {
    /// Taken off the chain, in order, and not yet called.
    batch: AtomicPtr<Head>,
    /// How many have been called, and have returned.
    done: AtomicU64,
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
                Progress { batch: AtomicPtr::new(ptr::null_mut()), done: AtomicU64::new(0) }
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

    /// Takes everything off the chains, in order, behind what was taken off before. True if there is
    /// anything to call. By the runner.
    fn collect(&self) -> bool {
        self.lists.lock();
        let mut sorting = 1u32;
        self.sorting.store(sorting, Relaxed);
        let mut any = false;
        for (shard, progress) in self.shards.iter().zip(&self.progress) {
            let before = progress.batch.load(Relaxed);
            if before.is_null() && !shard.chain.is_empty() {
                let mut first: *mut Head = ptr::null_mut();
                for head in shard.chain.take() {
                    // SAFETY: a head is ours from when it was queued until it is called.
                    unsafe { &*head }.next.store(first, Relaxed);
                    first = head;
                    sorting = sorting.wrapping_add(2);
                    self.sorting.store(sorting, Relaxed);
                }
                progress.batch.store(first, Relaxed);
            }
            any |= !progress.batch.load(Relaxed).is_null();
        }
        self.sorting.store(0, Relaxed);
        self.lists.unlock();
        any
    }

    /// Calls what was collected. By the runner.
    fn run(&self, flavour: &Flavour) {
        let role = &flavour.reader().role;
        if event::enabled::rcu_batch_start() {
            event::rcu_batch_start(flavour.name(), self.collected());
            // Its probe may have forked behind our back.
            fork::check();
        }
        let mut called = 0;
        self.lists.lock();
        role.fetch_or(role::RUNS, Relaxed);
        for (index, progress) in self.progress.iter().enumerate() {
            let mut head = progress.batch.load(Relaxed);
            while !head.is_null() {
                // SAFETY: as in `collect`; from here on it is the callback's.
                let next = unsafe { &*head }.next.load(Relaxed);
                progress.batch.store(next, Relaxed);
                self.calling.store(index + 1, Relaxed);
                if broken!("done-order") {
                    progress.done.fetch_add(1, Release);
                }
                // SAFETY: as its caller promised in `call_rcu()`.
                unsafe { call(head, flavour) };
                called += 1;
                // It may have forked behind our back: the child starts over before it goes on.
                fork::check();
                event::rcu_callback_done(flavour.name(), head.cast());
                // DONE: what the callback did comes before the count (partner: `barrier`).
                if !broken!("done-order") {
                    let done = progress.done.load(Relaxed);
                    progress.done.store(done.wrapping_add(1), Release);
                }
                self.calling.store(0, Relaxed);
                // The callback may have forked, and this be the child.
                head = progress.batch.load(Relaxed);
                if self.holders.load(Relaxed) != 0 {
                    self.let_fork();
                }
            }
        }
        role.fetch_and(!role::RUNS, Relaxed);
        self.lists.unlock();
        event::rcu_batch_end(flavour.name(), called);
    }

    /// How many are about to be called. By the runner.
    fn collected(&self) -> c_long {
        let mut count = 0;
        for progress in &self.progress {
            let mut head = progress.batch.load(Relaxed);
            while !head.is_null() {
                count += 1;
                // SAFETY: as in `collect`.
                head = unsafe { &*head }.next.load(Relaxed);
            }
        }
        count
    }

    /// How many wait.
    fn waiting(&self) -> c_long {
        let (queued, done) = self.counts();
        queued.wrapping_sub(done) as c_long
    }

    /// Lets a fork have the lists.
    #[cold]
    fn let_fork(&self) {
        self.lists.unlock();
        let start = sys::monotonic_ns();
        // Not for ever: some program may fork all the time.
        while self.holders.load(Relaxed) != 0 && sys::monotonic_ns().wrapping_sub(start) < HOLD_NS {
            sys::sleep_ns(20_000);
        }
        self.lists.lock();
    }

    /// Before a fork: from here until [`release`](Self::release) no list changes and no callback
    /// runs, unless one takes very long, or forks itself. Lists that are being sorted are whole
    /// soon, at some 0.1 us a callback, or later on a busy machine; a sort that does not go on waits for a
    /// `call_rcu()` under us.
    pub fn hold(&self, flavour: &Flavour) {
        if flavour.reader().runs_callbacks() || broken!("fork-lists") {
            return;
        }
        self.holders.fetch_add(1, SeqCst);
        let mut since = sys::monotonic_ns();
        let mut seen = 0;
        let held = loop {
            // First the clock: whoever comes back to his processor late looks once more.
            let now = sys::monotonic_ns();
            if self.lists.try_lock() {
                break true;
            }
            let sorting = self.sorting.load(Relaxed);
            let (goes_on, impatient) = (sorting != seen, broken!("sort-patience"));
            let patience = if sorting != 0 && !impatient { SORT_NS } else { HOLD_NS };
            if goes_on && !impatient {
                (seen, since) = (sorting, now);
            } else if now.wrapping_sub(since) >= patience {
                break false;
            }
            sys::sleep_ns(20_000);
        };
        self.holders.fetch_sub(1, SeqCst);
        if held {
            flavour.reader().role.fetch_or(role::FORKS, Relaxed);
        }
    }

    /// After a fork, in the parent.
    pub fn release(&self, flavour: &Flavour) {
        if flavour.reader().role.fetch_and(!role::FORKS, Relaxed) & role::FORKS != 0 {
            self.lists.unlock();
        }
    }

    /// In a forked child. Its callbacks are its own: those that had not begun run here too, once.
    pub fn reset(&self, flavour: &Flavour) {
        let role = flavour.reader().role.fetch_and(!role::FORKS, Relaxed);
        // A callback that forked returns here too, and is counted then.
        let calling = match role & role::RUNS {
            0 => self.calling.swap(0, Relaxed),
            _ => self.calling.load(Relaxed),
        };
        for (index, (shard, progress)) in self.shards.iter().zip(&self.progress).enumerate() {
            loop {
                let before = shard.queued.load(SeqCst);
                let mut waiting = shard.chain.mend();
                if role & role::RUNS != 0 && calling == index + 1 {
                    waiting += 1;
                }
                let mut head = progress.batch.load(Relaxed);
                while !head.is_null() {
                    waiting += 1;
                    // SAFETY: as in `collect`.
                    head = unsafe { &*head }.next.load(Relaxed);
                }
                let queued = progress.done.load(Relaxed).wrapping_add(waiting);
                // A handler may have queued one meanwhile, which was counted or not.
                let counted = shard.queued.compare_exchange(before, queued, SeqCst, Relaxed);
                if counted.is_ok() {
                    break;
                }
                if broken!("fork-queued") {
                    shard.queued.store(queued, Relaxed);
                    break;
                }
            }
        }
        self.holders.store(0, SeqCst);
        self.sleepers.store(0, SeqCst);
        self.sorting.store(0, Relaxed);
        // A callback may have forked, or a probe; then its runner goes on in the child, and holds what it held.
        let round = if broken!("event-fork-round") { role::RUNS } else { role::ROUND };
        self.runner.reset(role & round != 0);
        self.lists.reset(role & role::RUNS != 0);
        if role & role::WORKER != 0 {
            return;
        }
        self.worker.reset();
        // In this order: a handler that queues one now finds no worker, and says so itself.
        self.unattended.store(false, SeqCst);
        let (queued, done) = self.counts();
        if queued != done || !self.is_idle() {
            self.unattended.store(true, SeqCst);
        }
    }
}

/// Calls one callback.
///
/// # Safety
/// The head was queued, a grace period has passed, and it is called once.
unsafe fn call(head: *mut Head, flavour: &Flavour) {
    // SAFETY: the caller's.
    let action = unsafe { &*head }.action.load(Relaxed);
    if action <= MOST_OFFSET + 1 {
        let offset = action - 1;
        let block = head.cast::<u8>().wrapping_sub(if broken!("free-offset") { 0 } else { offset });
        event::rcu_invoke_kvfree_callback(flavour.name(), head.cast(), offset as c_ulong);
        // SAFETY: as `free_rcu()` was promised: a block of malloc's, in which the head lies.
        unsafe { libc::free(block.cast::<c_void>()) };
    } else {
        event::rcu_invoke_callback(flavour.name(), head.cast());
        // SAFETY: as `call_rcu()` was promised: the address of such a function.
        let function = unsafe { core::mem::transmute::<usize, Function>(action) };
        // SAFETY: likewise.
        unsafe { function(head) };
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

    /// One round: what is queued now is called after a grace period. False if there was nothing to
    /// do. By the worker, or in its place.
    pub fn advance(&self) -> bool {
        let callbacks = &self.callbacks;
        callbacks.runner.lock();
        let role = &self.reader().role;
        role.fetch_or(role::ROUND, Relaxed);
        let poll = callbacks.poll.swap(0, SeqCst);
        let too_early = if broken!("callback-cookie") { self.state() } else { 0 };
        widen!("callback-cookie", 300);
        let any = callbacks.collect();
        if any || poll != 0 {
            // Whoever waited for a grace period meanwhile may have waited for us.
            let cookie = if broken!("callback-cookie") { too_early } else { self.state() };
            let urgent = poll == 2 || callbacks.are_many();
            let urgency = if urgent { Urgency::Expedited } else { Urgency::Normal };
            if !broken!("callback-grace-period") {
                self.synchronize_since(cookie, urgency);
            }
            callbacks.run(self);
        }
        role.fetch_and(!role::ROUND, Relaxed);
        callbacks.runner.unlock();
        callbacks.rounds.fetch_add(1, SeqCst);
        if callbacks.sleepers.load(SeqCst) != 0 {
            futex::wake_all(&callbacks.rounds);
        }
        any || poll != 0
    }

    /// Waits until all callbacks that were queued before have run: `rcu_barrier()`.
    pub fn barrier(&'static self) {
        let callbacks = &self.callbacks;
        if self.reader().runs_callbacks() {
            let why = b"in a callback: it would wait for its own return";
            bug::die_in_thread(sys::gettid(), &[self.names.barrier, why]);
        }
        refuse_deadlock(self, self.names.barrier);
        start::ensure();
        // In somebody's fork handler, after ours: the worker wants the lists.
        callbacks.release(self);
        let tell = |s: &CStr| {
            if event::enabled::rcu_barrier() {
                event::rcu_barrier(self.name(), s.as_ptr(), callbacks.waiting());
                fork::check();
            }
        };
        // Before the goals are set: a probe that forks has other ones in its child.
        tell(c"Begin");
        let goals: [u64; SHARDS] =
            core::array::from_fn(|index| callbacks.shards[index].queued.load(SeqCst));
        let have_run = || {
            let mut progress = callbacks.progress.iter().zip(&goals);
            progress.all(|(progress, goal)| {
                // DONE.
                progress.done.load(Acquire).wrapping_sub(*goal) < 1 << 63
            })
        };
        while !broken!("callback-barrier") {
            let seen = callbacks.rounds.load(SeqCst);
            if have_run() {
                break;
            }
            holdout::warn_if_sleepless();
            // A worker that sleeps cannot be woken where that is refused.
            if !callbacks.worker.start(self) || futex::is_refused() {
                self.advance();
                continue;
            }
            callbacks.sleepers.fetch_add(1, SeqCst);
            callbacks.wake(true);
            futex::wait(&callbacks.rounds, seen, futex::LONGEST_SLEEP_NS);
            callbacks.sleepers.fetch_sub(1, SeqCst);
        }
        tell(c"End");
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
