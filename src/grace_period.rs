//! Grace periods, modelled on the kernel's expedited ones: snapshot, IPI, deferred report, wait.
//!
//! [`Flavour::synchronize`] elects a leader, who runs a grace period for all callers that came
//! before it began; [`Flavour::run`] is that grace period, top to bottom.

use core::sync::atomic::{
    fence,
    Ordering::{Relaxed, SeqCst},
};

use crate::bug;
use crate::flavour::Flavour;
use crate::ipi;
use crate::reader::{busy, mark, Reader};
use crate::registry::{Entry, Roster};
use crate::stats::count;
use crate::sys::{self, futex};
use crate::word::State;

/// How long a waiter samples readers in short sections, and how long it spins for reports, before
/// it pays for signals and sleep: about what an IPI costs (`make bench`: a signal's round trip).
const SPIN_NS: u64 = 20_000;

/// How long a signal may go unanswered before its thread is flagged remotely.
const FIRST_PATIENCE_NS: u64 = 1_000_000;
const LAST_PATIENCE_NS: u64 = 100_000_000;

/// A reader that was outside at this many grace periods in a row is parked. Its next lock then
/// costs about 0.1 us more, so an eighth of that a grace period at most.
const PARK_AFTER: u32 = 8;

/// What a look at a reader, after the barrier, says about it.
#[derive(PartialEq)]
enum Look {
    /// Not in a section that is older than the grace period.
    Quiescent,
    /// Asked, and flagged for good: it will report.
    Holdout,
    /// In a section, and not (yet, or any more) flagged.
    Straggler,
}

impl Flavour {
    /// Waits until every section that is open now has ended.
    pub fn synchronize(&self) {
        let me = Reader::current();
        refuse_deadlock(me);
        crate::start::ensure();
        // The caller's updates come before the snapshot of the sequence: who finds the sequence
        // advanced relies on a grace period that began after them.
        fence(SeqCst);
        let goal = self.seq.snap();
        let before = me.busy.fetch_or(busy::WAITING, Relaxed);
        loop {
            let ended = self.ended.load(SeqCst);
            if self.seq.done(goal) {
                self.stats.shared.fetch_add(1, Relaxed);
                break;
            }
            if self.leader.try_lock() {
                let led = !self.seq.done(goal);
                if led {
                    self.run(me);
                }
                self.leader.unlock();
                // After the unlock: a caller that found the lock taken sleeps on the old count,
                // and must not do so once the lock is free (LEADER).
                self.ended.fetch_add(1, SeqCst);
                if self.sleepers.load(SeqCst) != 0 {
                    futex::wake_all(&self.ended);
                }
                if led {
                    break;
                }
            } else {
                // LEADER: the count was read before the lock was found taken.
                self.sleepers.fetch_add(1, SeqCst);
                futex::wait(&self.ended, ended, 0);
                self.sleepers.fetch_sub(1, SeqCst);
            }
        }
        me.busy.store(before, Relaxed);
        // What the caller does next (freeing, say) comes after the last section's last load.
        fence(SeqCst);
    }

    /// A cookie for [`poll`](Self::poll): a grace period from now on.
    pub fn state(&self) -> u64 {
        // As in `synchronize`.
        fence(SeqCst);
        self.seq.snap()
    }

    /// Whether a full grace period has passed since the cookie was taken; if so, ordered as after
    /// `synchronize`.
    pub fn poll(&self, cookie: u64) -> bool {
        let passed = self.seq.done(cookie);
        if passed {
            fence(SeqCst);
        }
        passed
    }

    /// Waits for one unless it has.
    pub fn synchronize_since(&self, cookie: u64) {
        if !self.poll(cookie) {
            self.synchronize();
        }
    }

    /// One grace period. The caller leads.
    fn run(&self, me: &Reader) {
        self.seq.start();
        // GP-START: the updates, a full fence, then the counts and the chain of newcomers. Their
        // partners are TRANSIENT and NEWCOMER: a section that did not see the updates is seen.
        fence(SeqCst);
        // Before the newcomers are taken in: a reader on its way into the registry stays counted
        // until it is there, so it is found by one or the other.
        if self.transient.wait(SPIN_NS) {
            count(&self.stats.transient_waits);
        }
        let tag = self.seq.tag();
        // One for ourselves, so that no report finds the count zero before all are asked.
        self.holdouts.add();
        let mut roster = self.registry.lock();
        for entry in roster.entries() {
            // Tags come again, after 2^31 grace periods.
            entry.asked = 0;
        }
        let barrier = ipi::mode() != ipi::Mode::Signal && {
            self.glance(&mut roster, tag);
            ipi::heavy_barrier(self)
        };
        if barrier {
            let stragglers = self.snapshot(&mut roster, tag);
            let stragglers = self.sample(&mut roster, tag, stragglers);
            if ipi::mode() == ipi::Mode::Auto {
                self.interrupt(&mut roster, tag, stragglers);
            } else {
                self.flag(&mut roster, tag, stragglers);
            }
        } else {
            self.interrupt_everybody(&mut roster, tag, me);
        }
        drop(roster);
        self.await_holdouts(tag);
        self.seq.end();
        count(&self.stats.grace_periods);
    }

    /// Before the barrier, and so before anything is certain: flags those that will most likely
    /// be in the way, that one barrier may serve for all. And flags those that are to be parked.
    fn glance(&self, roster: &mut Roster, tag: u32) {
        for entry in roster.entries() {
            let seen = *entry;
            let reader = seen.reader();
            if entry.quiet >= PARK_AFTER {
                entry.parking = true;
                reader.word.flag();
            } else if entry.quiet == 0 && reader.is_registered() && reader.state().in_section() {
                self.ask(entry, tag);
                reader.word.flag();
            }
        }
    }

    /// After the barrier: sorts the stragglers to the front, and answers how many they are.
    fn snapshot(&self, roster: &mut Roster, tag: u32) -> usize {
        let mut stragglers = 0;
        let mut index = 0;
        while let Some(entry) = roster.entries().get_mut(index) {
            if entry.parking {
                entry.parking = false;
                if self.try_park(entry.reader()) {
                    roster.remove_at(index);
                    continue;
                }
            }
            if entry.reader().mark.load(SeqCst) == mark::PARKED {
                // By itself, in an IPI handler.
                self.withdraw(entry, tag);
                roster.remove_at(index);
                continue;
            }
            match self.look(entry, tag) {
                Look::Quiescent if entry.asked != tag => {
                    entry.quiet = entry.quiet.saturating_add(1)
                }
                Look::Quiescent | Look::Holdout => entry.quiet = 0,
                Look::Straggler => {
                    entry.quiet = 0;
                    roster.swap(index, stragglers);
                    stragglers += 1;
                }
            }
            index += 1;
        }
        stragglers
    }

    /// Parks a reader whose flag the barrier made stable, if it is outside. True if the registry
    /// shall forget it.
    fn try_park(&self, reader: &Reader) -> bool {
        let parkable = reader.state() == State::OUTSIDE_FLAGGED
            || (cfg!(broken = "park-unflagged") && !reader.state().in_section());
        if !parkable || !reader.park() {
            return false;
        }
        // PARK: the mark, a full fence, then the word; see `Reader::lock_slow`.
        fence(SeqCst);
        if reader.state() == State::OUTSIDE_FLAGGED
            || cfg!(broken = "park-unflagged")
            || !reader.unpark()
        {
            self.stats.parks.fetch_add(1, Relaxed);
            return true;
        }
        false
    }

    /// What the reader's word says, a heavy barrier having passed since the grace period began.
    fn look(&self, entry: &Entry, tag: u32) -> Look {
        let reader = entry.reader();
        if entry.asked == tag && reader.request.load(SeqCst) != tag {
            return Look::Quiescent;
        }
        let state = reader.state();
        // A reader that is just joining or leaving counts its sections as transient; those that
        // are older than this grace period have been waited for (JOIN).
        if !state.in_section() || !reader.is_registered() {
            self.withdraw(entry, tag);
            return Look::Quiescent;
        }
        // FLAG-REQUEST: the request was posted before the barrier, and the flag is still there
        // after it. Who clears the flag takes the request afterwards.
        if entry.asked == tag && state.flagged {
            return Look::Holdout;
        }
        Look::Straggler
    }

    /// Samples the stragglers for a while: a short section ends sooner than an IPI arrives.
    /// Answers how many remain, at the front.
    fn sample(&self, roster: &mut Roster, tag: u32, mut stragglers: usize) -> usize {
        if stragglers == 0 {
            return 0;
        }
        let start = sys::monotonic_ns();
        loop {
            for _ in 0..8 {
                stragglers = self.settle(roster, tag, stragglers);
                if stragglers == 0 {
                    return 0;
                }
                core::hint::spin_loop();
            }
            if sys::monotonic_ns().wrapping_sub(start) > SPIN_NS {
                return stragglers;
            }
        }
    }

    /// Looks at the first `stragglers` once more, and answers how many of them still are.
    fn settle(&self, roster: &mut Roster, tag: u32, mut stragglers: usize) -> usize {
        let mut index = 0;
        while index < stragglers {
            let Some(entry) = roster.entries().get(index) else { break };
            if self.look(entry, tag) == Look::Straggler {
                index += 1;
            } else {
                stragglers -= 1;
                roster.swap(index, stragglers);
            }
        }
        stragglers
    }

    /// Sends each of the first `stragglers` readers an IPI, unless its section ended meanwhile.
    fn interrupt(&self, roster: &mut Roster, tag: u32, mut stragglers: usize) {
        let mut index = 0;
        while index < stragglers {
            let Some(entry) = roster.entries().get_mut(index) else { break };
            // A flag counts only if the request was there when the barrier passed (FLAG-REQUEST).
            let fresh = entry.asked != tag;
            self.ask(entry, tag);
            let silent = match self.look(entry, tag) {
                Look::Quiescent => false,
                Look::Holdout => fresh,
                Look::Straggler => true,
            };
            if silent && ipi::send(self, entry.reader(), false) == Err(libc::ESRCH) {
                self.bury(roster, index, tag);
                stragglers -= 1;
                roster.swap(index, stragglers);
                continue;
            }
            index += 1;
        }
    }

    /// Sends every reader but `me` an IPI, because there is no other barrier.
    fn interrupt_everybody(&self, roster: &mut Roster, tag: u32, me: &Reader) {
        let mut index = 0;
        while let Some(entry) = roster.entries().get_mut(index) {
            let seen = *entry;
            let reader = seen.reader();
            match reader.mark.load(SeqCst) {
                mark::REGISTERED if !core::ptr::eq(me, reader) => {
                    let outside = !reader.state().in_section();
                    entry.quiet = if outside { entry.quiet.saturating_add(1) } else { 0 };
                    let may_park = entry.quiet > PARK_AFTER;
                    self.ask(entry, tag);
                    if ipi::send(self, reader, may_park) == Err(libc::ESRCH) {
                        self.bury(roster, index, tag);
                        continue;
                    }
                }
                mark::PARKED => {
                    self.withdraw(entry, tag);
                    roster.remove_at(index);
                    continue;
                }
                // The caller itself is outside; one that joins or leaves is counted as transient.
                _ => self.withdraw(entry, tag),
            }
            index += 1;
        }
    }

    /// Flags the first `stragglers` readers remotely until each flag sticks, or its reader is
    /// seen outside. Every round ends in a barrier, after which a flag that is there is stable
    /// (REMOTE-FLAG).
    fn flag(&self, roster: &mut Roster, tag: u32, mut stragglers: usize) {
        while stragglers != 0 {
            for entry in roster.entries().iter_mut().take(stragglers) {
                self.ask(entry, tag);
                entry.reader().word.flag();
            }
            if !ipi::heavy_barrier(self) {
                return;
            }
            stragglers = self.settle(roster, tag, stragglers);
        }
    }

    /// Posts the request of this grace period, once.
    fn ask(&self, entry: &mut Entry, tag: u32) {
        if entry.asked == tag {
            return;
        }
        entry.asked = tag;
        count(&self.stats.holdouts);
        self.holdouts.add();
        if entry.reader().request.swap(tag, SeqCst) != 0 {
            // Its thread's TLS was another's before, which died unseen and is listed still: one
            // request serves for both.
            self.holdouts.finish();
        }
    }

    /// Takes the request back, if it is still there, from a reader that was seen quiescent.
    fn withdraw(&self, entry: &Entry, tag: u32) {
        if entry.asked != tag {
            return;
        }
        if entry.reader().request.compare_exchange(tag, 0, SeqCst, Relaxed).is_ok() {
            self.holdouts.finish();
        }
    }

    /// A registered thread is gone without our exit hook having run: a raw exit system call, which
    /// leaves the thread's stack and TLS in place until somebody joins it.
    fn bury(&self, roster: &mut Roster, index: usize, tag: u32) {
        if let Some(&entry) = roster.entries().get(index) {
            if entry.reader().state().in_section() {
                bug::warn_of_thread(
                    entry.reader().tid.load(Relaxed),
                    b" died inside a read-side critical section, which ends with it",
                );
            }
            self.withdraw(&entry, tag);
        }
        roster.remove_at(index);
        count(&self.stats.died);
    }

    /// Waits for the reports; readers that do not answer are flagged.
    fn await_holdouts(&self, tag: u32) {
        self.holdouts.finish();
        let mut patience = FIRST_PATIENCE_NS;
        // REPORT: the count that we see at zero was counted down by full fences, each after the
        // last load of its section.
        while !self.holdouts.wait(SPIN_NS, patience) {
            self.rescue(tag);
            patience = (2 * patience).min(LAST_PATIENCE_NS);
        }
    }

    /// Looks after the readers that have not reported: the dead are buried, and whoever is not
    /// flagged by now (its signal blocked, stolen, or long in coming) is flagged remotely, where
    /// there is a barrier to do it by. Where there is none, the signal is sent again.
    fn rescue(&self, tag: u32) {
        let mut roster = self.registry.lock();
        let mut silent = 0;
        let mut index = 0;
        while let Some(&entry) = roster.entries().get(index) {
            let reader = entry.reader();
            if entry.asked == tag && reader.request.load(SeqCst) == tag {
                if ipi::is_dead(reader) {
                    self.bury(&mut roster, index, tag);
                    continue;
                }
                let state = reader.state();
                if !(state.flagged && state.in_section()) {
                    roster.swap(index, silent);
                    silent += 1;
                }
            }
            index += 1;
        }
        if silent == 0 {
            return;
        }
        if ipi::heavy_barrier(self) {
            let stragglers = self.settle(&mut roster, tag, silent);
            self.stats.rescues.fetch_add(stragglers as u64, Relaxed);
            self.flag(&mut roster, tag, stragglers);
        } else {
            // No barrier but the signal; the last one may have been stolen, or never sent because
            // membarrier was refused on the way.
            for entry in roster.entries().iter().take(silent) {
                let _ = ipi::send(self, entry.reader(), false);
            }
        }
    }
}

/// A wait that could never end is refused with a message.
fn refuse_deadlock(me: &Reader) {
    let busy = me.busy.load(Relaxed);
    let why = if busy & busy::CHAINED_HANDLER != 0 {
        b"in a handler of the IPI signal: the thread it interrupted may hold RCU's locks".as_slice()
    } else if me.state().in_section() {
        b"inside a read-side critical section: it would wait for its own caller".as_slice()
    } else if busy != 0 || me.counted.load(Relaxed) != 0 {
        b"in a signal handler that interrupted RCU itself in this thread".as_slice()
    } else {
        return;
    };
    bug::die_in_thread(sys::gettid(), &[b"synchronize_rcu() ", why])
}
