//! Holdouts: sections that a grace period waits for, and what the waiter does meanwhile.
//!
//! It spins a little, then sleeps, for longer and longer. Whenever it wakes up it looks after those
//! that have not answered: the dead are buried, the silent are flagged, and a grace period that
//! takes too long is reported.

use core::ffi::CStr;
use core::sync::atomic::{
    fence, AtomicBool,
    Ordering::{Relaxed, SeqCst},
};

use crate::boost::Boost;
use crate::bug;
use crate::event;
use crate::flavour::Flavour;
use crate::fork;
use crate::grace_period::{Look, Urgency, SPIN_NS};
use crate::ipi;
use crate::reader::Reader;
use crate::registry::Roster;
use crate::stall::{self, Stall};
use crate::sys;
use crate::sys::futex::{self, Countdown};

/// How long a waiter sleeps before it looks after those in its way; so often, and then twice as long
/// each time. Short at first because a waiter that wakes up also makes the scheduler choose anew
/// among the readers that it preempted: with eight on two processors a third of the time
/// (`make bench`: readers).
const FIRST_PATIENCE_NS: u64 = 500_000;
const EARLY_LOOKS: u32 = 16;
const LAST_PATIENCE_NS: u64 = 100_000_000;

/// Most that a waiter spins before it sleeps, if the last grace periods say that it is worth it: a
/// sleeper's way back to its processor takes about half of that (`make bench`).
const LONGEST_SPIN_NS: u64 = 200_000;

/// How often a reader is flagged, where there is no barrier after which a flag is there for good.
const FLAG_TRIES: u32 = 200;

/// What one grace period has waited so far.
pub struct Wait {
    /// Since when somebody is in the way; 0: nobody so far.
    since: u64,
    /// For how long the waiter spun.
    pub spun: u64,
    /// For how long it sleeps before it looks after those in the way.
    patience: u64,
    /// How often it did.
    looks: u32,
    stall: Stall,
    /// As what the grace period is told of: what was wanted when it started.
    urgency: Urgency,
    /// Threads that were sent an IPI, the first ones, and how many.
    interrupted: [i32; MOST_TOLD],
    ipis: usize,
}

/// So many IPIs of a grace period are told of.
const MOST_TOLD: usize = 16;

impl Wait {
    /// Nothing yet; reads no clock.
    pub fn new(urgency: Urgency) -> Self {
        Wait {
            since: 0,
            spun: 0,
            patience: FIRST_PATIENCE_NS,
            looks: 0,
            stall: Stall::new(),
            urgency,
            interrupted: [0; MOST_TOLD],
            ipis: 0,
        }
    }

    /// Remembers that an IPI was sent, under the registry's lock.
    pub fn interrupts(&mut self, tid: i32) {
        if let Some(place) = self.interrupted.get_mut(self.ipis) {
            *place = tid;
            self.ipis += 1;
        }
    }

    /// Tells of them, out of it.
    pub fn tell_of_ipis(&self, flavour: &Flavour) {
        for tid in self.interrupted.iter().take(self.ipis) {
            event::rcu_fqs(flavour.name(), flavour.seq.now(), *tid, c"ipi".as_ptr());
        }
    }

    /// Tells of the grace period.
    #[inline(always)]
    pub fn tell(&self, flavour: &Flavour, gpevent: &CStr) {
        flavour.tell(self.urgency, flavour.seq.now(), gpevent);
    }

    /// Somebody is in the way, from now on at the latest.
    pub fn begin(&mut self) {
        if self.since == 0 {
            self.since = sys::monotonic_ns();
        }
    }

    /// Enters the grace period into the books: it has ended.
    pub fn book(&self, flavour: &Flavour) {
        let waited = (self.since != 0).then(|| sys::monotonic_ns().wrapping_sub(self.since));
        flavour.stats.book_wait(waited, self.spun);
        if let Some(waited) = waited {
            flavour.last_wait.store(waited, Relaxed);
        }
    }

    /// Waits until nothing is open; `lend` waits for one of the open ones, lending the caller's
    /// priority, or answers false if there is none that it can wait for so; and `tend` looks after
    /// them all each time that patience ends.
    fn outwait(
        &mut self,
        flavour: &Flavour,
        open: &Countdown,
        lend: &mut dyn FnMut(u64) -> bool,
        tend: &mut dyn FnMut(&mut Stall, u64),
    ) {
        if open.open() == 0 {
            return;
        }
        self.begin();
        let spin = sys::monotonic_ns();
        let done = open.spin(spin_limit(flavour));
        let mut looked = sys::monotonic_ns();
        self.spun += looked.wrapping_sub(spin);
        if done {
            return;
        }
        loop {
            let has_priority = Boost::is_wanted() || flavour.leader.is_lent();
            if has_priority && lend(self.patience) {
                if open.open() == 0 {
                    return;
                }
            } else if open.sleep(self.patience) {
                self.tell(flavour, c"wake");
                // In real time too: who is just reporting, below us, wants the processor for that.
                return;
            }
            // A probe may have forked behind our back.
            fork::check();
            warn_if_sleepless();
            let now = sys::monotonic_ns();
            // A signal may have woken us.
            if now.wrapping_sub(looked) >= self.patience {
                looked = now;
                tend(&mut self.stall, now.wrapping_sub(self.since));
                ipi::say();
                self.looks += 1;
                if self.looks > EARLY_LOOKS {
                    self.patience = (2 * self.patience).min(LAST_PATIENCE_NS);
                }
            }
        }
    }
}

/// Says, once, that nobody can sleep.
pub fn warn_if_sleepless() {
    static WARNED: AtomicBool = AtomicBool::new(false);
    if futex::is_refused() && !WARNED.swap(true, Relaxed) {
        bug::warn(&[b"futex(2) is refused here: waiting costs processor time"]);
    }
}

/// How long to spin before sleep.
fn spin_limit(flavour: &Flavour) -> u64 {
    match flavour.urgency() {
        Urgency::Expedited => LONGEST_SPIN_NS,
        Urgency::Normal => {
            let last = flavour.last_wait.load(Relaxed);
            if last > LONGEST_SPIN_NS {
                SPIN_NS
            } else {
                (2 * last).clamp(SPIN_NS, LONGEST_SPIN_NS)
            }
        }
    }
}

impl Flavour {
    /// Waits until a side of the transient sections is empty.
    pub fn await_transient(&self, side: usize, wait: &mut Wait) {
        let mut lend = |timeout| match self.transient.occupants(side).next() {
            Some((slot, seen, tid)) if tid != sys::gettid() => {
                self.boost.lend(self, tid, timeout, || self.transient.occupies(slot, seen))
            }
            _ => false,
        };
        let mut tend = |stall: &mut Stall, waited| {
            for (slot, seen, tid) in self.transient.occupants(side) {
                if ipi::is_dead(tid) && self.transient.bury(slot, seen) {
                    self.found_dead(tid, true);
                }
            }
            if stall.is_due(waited) {
                stall::report(self, waited, stall::Holdouts::Transient(side));
                event::rcu_stall_warning(self.name(), c"StallDetected".as_ptr());
            }
        };
        wait.outwait(self, self.transient.side(side), &mut lend, &mut tend);
    }

    /// Waits for the reports.
    ///
    /// REPORT: the count that is found zero was counted down by full fences, each after the last
    /// load of its section.
    pub fn await_holdouts(&self, tag: u32, wait: &mut Wait) {
        let mut lend = |timeout| self.lend(tag, timeout);
        let mut tend = |stall: &mut Stall, waited| {
            if !broken!("rescue") {
                self.rescue(tag);
            }
            if stall.is_due(waited) {
                stall::report(self, waited, stall::Holdouts::Asked(tag));
                event::rcu_stall_warning(self.name(), c"StallDetected".as_ptr());
            }
        };
        wait.outwait(self, &self.holdouts, &mut lend, &mut tend);
    }

    /// Lends the caller's priority to one of the readers that have not reported, and waits for it.
    /// False if there is none (the last ones are just reporting), or the kernel does not lend.
    fn lend(&self, tag: u32, timeout: u64) -> bool {
        let mut roster = self.registry.lock();
        let mut entries = roster.entries().iter();
        let asked =
            entries.find(|entry| entry.asked == tag && entry.reader().request.load(SeqCst) == tag);
        let Some(&entry) = asked else { return false };
        let tid = entry.reader().tid.load(Relaxed);
        self.boost.lend(self, tid, timeout, || {
            let is_holdout = entry.reader().request.load(SeqCst) == tag;
            // The thread may exit from here on.
            drop(roster);
            is_holdout
        })
    }

    /// Looks after the readers that have not reported: the dead are buried, and whoever is not
    /// flagged by now (its signal blocked, stolen, or long in coming) is flagged remotely.
    fn rescue(&self, tag: u32) {
        let mut roster = self.registry.lock();
        let mut silent = 0;
        let mut index = 0;
        while let Some(&entry) = roster.entries().get(index) {
            let reader = entry.reader();
            if entry.asked == tag && reader.request.load(SeqCst) == tag {
                if ipi::is_dead(reader.tid.load(Relaxed)) && !broken!("bury") {
                    self.bury(&mut roster, index, tag);
                    continue;
                }
                let state = reader.state(self);
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
            self.rescue_without_barrier(&mut roster, tag, silent);
        }
    }

    /// membarrier is refused, and the first `silent` readers have not answered the signal: it may be
    /// on its way, blocked, or stolen. It is sent again; and the scheduler's word is taken for a
    /// barrier (SCHEDULED, `ipi::scheduler`): each reader is flagged, and looked at once its thread
    /// was off its processor since.
    fn rescue_without_barrier(&self, roster: &mut Roster, tag: u32, silent: usize) {
        for entry in roster.entries().iter_mut().take(silent) {
            let seen = *entry;
            let reader = seen.reader();
            let tid = reader.tid.load(Relaxed);
            if seen.scheduled != 0 && ipi::scheduler::was_off_since(tid, seen.scheduled) {
                match self.look(entry, tag) {
                    Look::Quiescent | Look::Holdout => {
                        self.stats.rescues.fetch_add(1, Relaxed);
                        continue;
                    }
                    Look::Straggler => {}
                }
            }
            self.flag_for_a_while(reader, tag);
            // SCHEDULED: the flag, a full fence, then the count.
            fence(SeqCst);
            entry.scheduled = ipi::scheduler::mark(tid);
            let _ = ipi::send(self, reader, false);
        }
    }

    /// Flags a reader in short sections until it answers, or for some microseconds: a lock or unlock
    /// that is just being executed overwrites a flag, and the next rescue is far.
    fn flag_for_a_while(&self, reader: &Reader, tag: u32) {
        for _ in 0..FLAG_TRIES {
            if reader.request.load(SeqCst) != tag {
                return;
            }
            if !reader.state(self).flagged {
                reader.word.flag();
            }
            core::hint::spin_loop();
        }
    }
}
