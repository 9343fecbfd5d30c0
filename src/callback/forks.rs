//! Callbacks where the process forks: the child has whole lists of its own.

use core::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::{Callbacks, Progress, Shard};
use crate::flavour::{Flavour, ALL};
use crate::reader::role;
use crate::{fork, sys};

/// How long a fork waits for a callback to return.
pub const HOLD_NS: u64 = 100_000_000;

/// And for one of the second flavour, while it keeps those of the first from being called.
const BOTH_NS: u64 = 10_000_000;

/// And for the next callback to be sorted, while lists are not whole.
const SORT_NS: u64 = 10_000_000_000;

impl Shard {
    /// Counts anew what the child has: on the chain, in the batch, and the one that is being called.
    fn recount(&self, progress: &Progress, is_being_called: bool) {
        loop {
            let before = self.queued.load(SeqCst);
            let on_chain = self.chain.mend();
            let waiting = on_chain + progress.waiting().count() as u64 + u64::from(is_being_called);
            let queued = progress.done.load(Relaxed).wrapping_add(waiting);
            if broken!("fork-queued") {
                self.queued.store(queued, Relaxed);
                return;
            }
            // A handler may have queued one meanwhile, which was counted or not.
            if self.queued.compare_exchange(before, queued, SeqCst, Relaxed).is_ok() {
                return;
            }
        }
    }
}

/// Before a fork: from here until [`release`] no list changes and no callback runs, unless one takes very long, or forks
/// itself.
pub fn hold() {
    let [first, second] = ALL;
    if !first.callbacks.hold(first, HOLD_NS) {
        second.callbacks.hold(second, HOLD_NS);
        return;
    }
    let patience = if broken!("fork-flavours") { HOLD_NS } else { BOTH_NS };
    if !second.callbacks.hold(second, patience) && !broken!("fork-flavours") {
        // A callback may wait for the first flavour's, in `rcu_barrier()`, that is for us.
        first.callbacks.release(first);
        second.callbacks.hold(second, HOLD_NS);
        first.callbacks.hold(first, HOLD_NS);
    }
}

/// After it, in the parent; whether any was held.
pub fn release() -> bool {
    ALL.map(|flavour| flavour.callbacks.release(flavour)).contains(&true)
}

impl Callbacks {
    /// The same for one flavour; false if a callback took longer. Lists that are being sorted are whole
    /// soon, at some 0.1 us a callback, or later on a busy machine; a sort that does not go on waits for a
    /// `call_rcu()` under us.
    fn hold(&self, flavour: &Flavour, longest: u64) -> bool {
        if flavour.reader().runs_callbacks() || broken!("fork-lists") {
            return true;
        }
        self.holders.fetch_add(1, SeqCst);
        let mut since = sys::monotonic_ns();
        let mut seen = 0;
        let held = loop {
            // First the clock: whoever comes back to his processor late looks once more.
            let now = sys::monotonic_ns();
            if self.try_to_hold(flavour) {
                break true;
            }
            let sorting = self.sorting.load(Relaxed);
            let (goes_on, impatient) = (sorting != seen, broken!("sort-patience"));
            let patience = if sorting != 0 && !impatient { SORT_NS } else { longest };
            if goes_on && !impatient {
                (seen, since) = (sorting, now);
            } else if now.wrapping_sub(since) >= patience {
                break false;
            }
            sys::sleep_ns(20_000);
        };
        fork::count_down(&self.holders);
        held
    }

    fn try_to_hold(&self, flavour: &Flavour) -> bool {
        fork::uninterrupted(|| {
            let held = self.lists.try_lock();
            if held {
                flavour.reader().role.fetch_or(role::FORKS, Relaxed);
            }
            held
        })
    }

    /// Lets them have their lists again; whether this thread's fork held them.
    fn release(&self, flavour: &Flavour) -> bool {
        let role = &flavour.reader().role;
        if role.load(Relaxed) & role::FORKS == 0 {
            return false;
        }
        fork::uninterrupted(|| {
            if role.fetch_and(!role::FORKS, Relaxed) & role::FORKS != 0 {
                self.lists.unlock();
            }
        });
        true
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
            let is_being_called = role & role::RUNS != 0 && calling == index + 1;
            shard.recount(progress, is_being_called);
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
        // A round that does not go on here had taken it.
        if role & role::ROUND == 0 && !broken!("poll-round") {
            self.poll.fetch_max(self.polling.swap(0, SeqCst), SeqCst);
        }
        // In this order: a handler that queues one now finds no worker, and says so itself.
        self.unattended.store(false, SeqCst);
        let (queued, done) = self.counts();
        if queued != done || !self.is_idle() {
            self.unattended.store(true, SeqCst);
        }
    }
}
