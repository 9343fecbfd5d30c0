//! Rounds: callbacks are taken off their chains, wait for a grace period, and are called.

use core::ffi::{c_long, c_ulong, c_void, CStr};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

use super::forks::HOLD_NS;
use super::{on_list, Callbacks, Function, Head, MOST_OFFSET, SHARDS};
use crate::bug;
use crate::chain;
use crate::event;
use crate::exit_hook;
use crate::flavour::Flavour;
use crate::grace_period::{refuse_deadlock, Urgency};
use crate::holdout;
use crate::reader::role;
use crate::sys::futex;
use crate::{fork, start, sys};

impl Callbacks {
    /// Takes everything off the chains, in order, behind what was taken off before. True if there is
    /// anything to call. By the runner.
    fn collect(&self) -> bool {
        self.lists.lock();
        let mut sorting = 1u32;
        self.sorting.store(sorting, Relaxed);
        let mut any = false;
        for (shard, progress) in self.shards.iter().zip(&self.progress) {
            let before = on_list(progress.batch.load(Relaxed));
            if before.is_none() && !shard.chain.is_empty() {
                let mut first: *mut Head = chain::end_of_list();
                for head in shard.chain.take() {
                    // SAFETY: a head is ours from when it was queued until it is called.
                    unsafe { &*head }.next.store(first, Relaxed);
                    first = head;
                    sorting = sorting.wrapping_add(2);
                    self.sorting.store(sorting, Relaxed);
                }
                progress.batch.store(first, Relaxed);
            }
            any |= on_list(progress.batch.load(Relaxed)).is_some();
        }
        self.sorting.store(0, Relaxed);
        self.lists.unlock();
        any
    }

    /// Takes what was asked for without waiting. Noted first: a fork in between shall find it in one
    /// of the two places. By the runner.
    fn take_poll(&self) -> u32 {
        loop {
            let poll = self.poll.load(SeqCst);
            self.polling.store(poll, SeqCst);
            if self.poll.compare_exchange(poll, 0, SeqCst, Relaxed).is_ok() {
                return poll;
            }
        }
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
        // Whose callback ends the thread shall hear of it.
        exit_hook::arm_without_allocating();
        self.lists.lock();
        role.fetch_or(role::RUNS, Relaxed);
        for (index, progress) in self.progress.iter().enumerate() {
            while let Some(head) = on_list(progress.batch.load(Relaxed)) {
                // SAFETY: as in `collect`; from here on it is the callback's.
                let next = unsafe { head.as_ref() }.next.load(Relaxed);
                // Queued again? Heard before it is called, which may be the end of it.
                on_list(next);
                progress.batch.store(next, Relaxed);
                let head = head.as_ptr();
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
                if self.holders.load(Relaxed) != 0 {
                    self.let_fork();
                }
            }
        }
        role.fetch_and(!role::RUNS, Relaxed);
        self.lists.unlock();
        event::rcu_batch_end(flavour.name(), called);
    }

    /// How many were queued, of each shard.
    fn queued(&self) -> [u64; SHARDS] {
        core::array::from_fn(|index| self.shards[index].queued.load(SeqCst))
    }

    /// Whether so many of each shard have run.
    fn have_run(&self, goals: &[u64; SHARDS]) -> bool {
        let mut progress = self.progress.iter().zip(goals);
        progress.all(|(progress, goal)| {
            // DONE.
            progress.done.load(Acquire).wrapping_sub(*goal) < 1 << 63
        })
    }

    /// How many are about to be called. By the runner.
    fn collected(&self) -> c_long {
        self.progress.iter().map(|progress| progress.waiting().count() as c_long).sum()
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
    /// One round: what is queued now is called after a grace period. False if there was nothing to
    /// do. By the worker, or in its place.
    pub fn advance(&self) -> bool {
        let callbacks = &self.callbacks;
        callbacks.runner.lock();
        let role = &self.reader().role;
        role.fetch_or(role::ROUND, Relaxed);
        let poll = callbacks.take_poll();
        let too_early = if broken!("callback-cookie") { self.state() } else { 0 };
        widen!("callback-cookie", 300);
        let any = callbacks.collect();
        if any || poll != 0 {
            // Whoever waited for a grace period meanwhile may have waited for us.
            let cookie = if broken!("callback-cookie") { too_early } else { self.state() };
            let urgent = poll == 2 || callbacks.are_many();
            let urgency = if urgent { Urgency::Expedited } else { Urgency::Normal };
            if !broken!("callback-grace-period") {
                self.synchronize_since(cookie, b"the worker ", urgency);
            }
            callbacks.run(self);
        }
        callbacks.polling.store(0, SeqCst);
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
        let _released = fork::let_go();
        let tell = |s: &CStr| {
            if event::enabled::rcu_barrier() {
                event::rcu_barrier(self.name(), s.as_ptr(), callbacks.waiting());
                fork::check();
            }
        };
        // Before the goals are set: a probe that forks has other ones in its child.
        tell(c"Begin");
        let mut generation = fork::generation();
        let mut goals = callbacks.queued();
        while !broken!("callback-barrier") {
            // A callback that was called below may have forked, and the child counts anew.
            if generation != fork::generation() && !broken!("barrier-goals") {
                generation = fork::generation();
                goals = callbacks.queued();
            }
            let seen = callbacks.rounds.load(SeqCst);
            if callbacks.have_run(&goals) {
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
}
