//! Stragglers: readers that are in a section after the grace period's barrier, and not yet bound to
//! report at its end. Each is seen outside (its section was short), or flagged for good.

use core::sync::atomic::Ordering::{Relaxed, SeqCst};

use crate::bug;
use crate::flavour::Flavour;
use crate::grace_period::{Look, Urgency, PARK_AFTER, SPIN_NS};
use crate::holdout::Wait;
use crate::ipi;
use crate::reader::mark;
use crate::registry::Roster;
use crate::stats::count;
use crate::sys;

/// How often a caller in no hurry flags stragglers, a barrier each time, before it sends signals.
/// Flags stick in long sections and are overwritten where sections follow each other closely;
/// but there sampling finds the reader outside.
const FLAG_ROUNDS: u32 = 3;

impl Flavour {
    /// Sees to the first `stragglers` of the roster.
    pub fn settle_stragglers(
        &self,
        roster: &mut Roster,
        tag: u32,
        stragglers: usize,
        wait: &mut Wait,
    ) {
        if stragglers == 0 {
            return;
        }
        wait.begin();
        let mut stragglers = self.sample(roster, tag, stragglers, wait);
        if ipi::mode() != ipi::Mode::Auto {
            return self.flag(roster, tag, stragglers);
        }
        if self.urgency() == Urgency::Normal {
            for _ in 0..FLAG_ROUNDS {
                if stragglers == 0 {
                    return;
                }
                let Some(left) = self.flag_once(roster, tag, stragglers) else { break };
                stragglers = self.sample(roster, tag, left, wait);
            }
        }
        self.interrupt(roster, tag, stragglers, wait);
    }

    /// Samples the stragglers for a while: a short section ends sooner than an IPI arrives.
    /// Answers how many remain, at the front.
    fn sample(
        &self,
        roster: &mut Roster,
        tag: u32,
        mut stragglers: usize,
        wait: &mut Wait,
    ) -> usize {
        let start = sys::monotonic_ns();
        loop {
            for _ in 0..8 {
                stragglers = self.settle(roster, tag, stragglers);
                if stragglers == 0 {
                    break;
                }
                core::hint::spin_loop();
            }
            let spun = sys::monotonic_ns().wrapping_sub(start);
            if stragglers == 0 || spun > SPIN_NS {
                wait.spun += spun;
                return stragglers;
            }
        }
    }

    /// Looks at the first `stragglers` once more, and answers how many of them still are.
    pub fn settle(&self, roster: &mut Roster, tag: u32, mut stragglers: usize) -> usize {
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

    /// Flags the first `stragglers` readers remotely, and looks again after a barrier, after which
    /// a flag that is there is stable (REMOTE-FLAG). Answers how many are left, at the front.
    fn flag_once(&self, roster: &mut Roster, tag: u32, stragglers: usize) -> Option<usize> {
        for entry in roster.entries().iter_mut().take(stragglers) {
            self.ask(entry, tag);
            entry.reader().word.flag();
        }
        if broken!("flag-barrier") {
            return Some(self.settle(roster, tag, stragglers));
        }
        if broken!("flag-recheck") {
            return ipi::heavy_barrier(self).then_some(0);
        }
        ipi::heavy_barrier(self).then(|| self.settle(roster, tag, stragglers))
    }

    /// Flags the first `stragglers` readers until each flag sticks, or its reader is seen outside.
    pub fn flag(&self, roster: &mut Roster, tag: u32, mut stragglers: usize) {
        while stragglers != 0 {
            // Where the barrier is refused suddenly, `Flavour::rescue` goes on without.
            let Some(left) = self.flag_once(roster, tag, stragglers) else { return };
            stragglers = left;
        }
    }

    /// Sends each of the first `stragglers` readers an IPI, unless its section ended meanwhile.
    fn interrupt(&self, roster: &mut Roster, tag: u32, mut stragglers: usize, wait: &mut Wait) {
        let mut index = 0;
        while index < stragglers {
            let Some(entry) = roster.entries().get_mut(index) else { break };
            // A flag counts only if the request was there when the barrier passed (FLAG-REQUEST).
            let fresh = entry.asked != tag;
            self.ask(entry, tag);
            let silent = match self.look(entry, tag) {
                Look::Quiescent => false,
                Look::Holdout => fresh && !broken!("fresh-request"),
                Look::Straggler => true,
            };
            if silent {
                wait.interrupts(entry.reader().tid.load(Relaxed));
                if ipi::send(self, entry.reader(), false) == Err(libc::ESRCH) {
                    self.bury(roster, index, tag);
                    stragglers -= 1;
                    roster.swap(index, stragglers);
                    continue;
                }
            }
            index += 1;
        }
    }

    /// Sends every reader but the caller's an IPI, because there is no other barrier.
    pub fn interrupt_everybody(&self, roster: &mut Roster, tag: u32, wait: &mut Wait) {
        let me = self.reader();
        let mut index = 0;
        while let Some(entry) = roster.entries().get_mut(index) {
            // A mark that stays would have a later grace period park a reader that it has asked.
            entry.parking &= broken!("park-stale");
            let seen = *entry;
            let reader = seen.reader();
            match reader.mark.load(SeqCst) {
                mark::REGISTERED if !core::ptr::eq(me, reader) => {
                    let outside = !reader.state(self).in_section();
                    entry.quiet = if outside { entry.quiet.saturating_add(1) } else { 0 };
                    let may_park = entry.quiet > PARK_AFTER;
                    stop!("interrupt");
                    self.ask(entry, tag);
                    wait.interrupts(reader.tid.load(Relaxed));
                    if ipi::send(self, reader, may_park) == Err(libc::ESRCH) {
                        self.bury(roster, index, tag);
                        continue;
                    }
                }
                parked if mark::is_parked(parked) => {
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

    /// A registered thread is gone without our exit hook having run: a raw exit system call, which
    /// leaves the thread's stack and TLS in place until somebody joins it.
    pub fn bury(&self, roster: &mut Roster, index: usize, tag: u32) {
        if let Some(&entry) = roster.entries().get(index) {
            let reader = entry.reader();
            self.found_dead(reader.tid.load(Relaxed), reader.state(self).in_section());
            self.withdraw(&entry, tag);
        }
        roster.remove_at(index);
    }

    /// Counts a thread whose death was found out, and says so if it was inside a section.
    pub fn found_dead(&self, tid: i32, inside: bool) {
        if inside {
            let how = b" died inside a read-side critical section, which ends with it";
            bug::warn_of_thread(tid, how);
        }
        count(&self.stats.died);
    }
}
