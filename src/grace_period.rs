//! Grace periods, modelled on the kernel's expedited ones: snapshot, IPI, deferred report, wait.
//!
//! [`Flavour::synchronize`] elects a leader, who runs a grace period for all callers that came
//! before it began; [`Flavour::run`] is that grace period, top to bottom.

use core::ffi::{c_int, CStr};
use core::sync::atomic::{
    fence,
    Ordering::{Relaxed, SeqCst},
};

use crate::boost::Boost;
use crate::bug;
use crate::callback;
use crate::event;
use crate::flavour::{self, Flavour};
use crate::fork;
use crate::holdout::Wait;
use crate::ipi;
use crate::reader::{busy, mark, Reader};
use crate::registry::{Entry, Roster};
use crate::stats::count;
use crate::sys::{self, futex, futex::Waited};
use crate::word::State;

/// How long a waiter samples readers in short sections before it pays for more barriers, signals
/// and sleep: about what an IPI costs (`make bench`: a signal's round trip).
pub const SPIN_NS: u64 = 20_000;

/// A reader that was outside at this many grace periods in a row is parked. Its next lock then
/// costs about 0.1 us more, so an eighth of that a grace period at most.
pub const PARK_AFTER: u32 = 8;

/// How long a real-time caller waits for a leader before it looks again whom to lend to.
const A_WHILE_NS: u64 = 5_000_000;

/// What a look at a reader, after the barrier, says about it.
#[derive(PartialEq)]
pub enum Look {
    /// Not in a section that is older than the grace period.
    Quiescent,
    /// Asked, and flagged for good: it will report.
    Holdout,
    /// In a section, and not (yet, or any more) flagged.
    Straggler,
}

/// How soon a caller wants its grace period.
#[derive(Clone, Copy, PartialEq)]
pub enum Urgency {
    /// Signals and sleep only where flags do not do.
    Normal,
    /// Signals at once, and more processor time.
    Expedited,
}

impl Flavour {
    /// Waits until every section that is open now has ended. `function` is its caller, for a message.
    pub fn synchronize(&self, function: &[u8], urgency: Urgency) {
        refuse_deadlock(self, function);
        crate::start::ensure();
        callback::at_safe_point();
        event::rcu_synchronize(self.name(), self.seq.now(), c"begin".as_ptr());
        while !self.synchronize_here(urgency) {}
        event::rcu_synchronize(self.name(), self.seq.now(), c"end".as_ptr());
        // What the caller does next (freeing, say) comes after the last section's last load.
        fence(SeqCst);
    }

    /// The same, in the process that this is. False in the child of a probe that forked: there nobody
    /// leads and nobody waits, and the caller starts over.
    fn synchronize_here(&self, urgency: Urgency) -> bool {
        // A probe may just have forked behind our back.
        fork::check();
        let generation = fork::generation();
        // The caller's updates come before the snapshot of the sequence: who finds the sequence
        // advanced relies on a grace period that began after them.
        fence(SeqCst);
        let goal = self.seq.snap();
        let busy = busy::of_this_thread();
        let before = busy.fetch_or(busy::WAITING, Relaxed);
        if urgency == Urgency::Expedited {
            // Whoever leads, for us too, hurries.
            self.urgent.fetch_add(1, SeqCst);
        }
        let me = self.caller_id();
        if self.callers.fetch_add(1, SeqCst) > 0 && !Boost::is_wanted() {
            // Who leads again and again while others come and go shares with few. (In real time a
            // yield lets nobody of lower priority run, and may cost what is left of the period.)
            sys::sched_yield();
        }
        let here = loop {
            let ended = self.ended.load(SeqCst);
            if self.seq.done(goal) {
                self.stats.shared.fetch_add(1, Relaxed);
                break true;
            }
            let waited = if self.leader.try_lock(me) {
                Waited::Acquired
            } else if Boost::is_wanted() {
                self.wait_to_lead()
            } else if self.yield_to_leader(goal) {
                Waited::InVain
            } else {
                Waited::Refused
            };
            match waited {
                Waited::Acquired => {
                    let led = !self.seq.done(goal);
                    let told_as = self.urgency();
                    if led && !self.run(told_as) {
                        break false;
                    }
                    let seq = self.seq.now();
                    if broken!("leader-end-order") {
                        self.ended.fetch_add(1, SeqCst);
                    }
                    widen!("leader-end-order", 30_000);
                    self.leader.unlock(me);
                    // After the unlock: a caller that found the lock taken sleeps on the old count,
                    // and must not do so once the lock is free (LEADER).
                    if !broken!("leader-end-order") {
                        self.ended.fetch_add(1, SeqCst);
                    }
                    if self.sleepers.load(SeqCst) != 0 && !broken!("leader-wake") {
                        futex::wake_all(&self.ended);
                        if led {
                            self.tell(told_as, seq, c"endwake");
                        }
                    }
                    if led {
                        break fork::generation() == generation;
                    }
                }
                Waited::InVain => {}
                Waited::Refused => {
                    widen!("leader-end-order", 60_000);
                    widen!("leader-sleep-order", 30_000);
                    // LEADER: the count was read before the lock was found taken.
                    self.sleepers.fetch_add(1, SeqCst);
                    let late = broken!("leader-sleep-order");
                    let ended = if late { self.ended.load(SeqCst) } else { ended };
                    futex::wait(&self.ended, ended, futex::LONGEST_SLEEP_NS);
                    self.sleepers.fetch_sub(1, SeqCst);
                }
            }
        };
        if here {
            if urgency == Urgency::Expedited {
                self.urgent.fetch_sub(1, SeqCst);
            }
            self.callers.fetch_sub(1, SeqCst);
        }
        busy.store(before, Relaxed);
        here
    }

    /// Tells of a grace period.
    #[inline(always)]
    pub fn tell(&self, urgency: Urgency, gp_seq: u64, gpevent: &CStr) {
        let (enabled, tell): (fn() -> bool, fn(_, _, _)) = match urgency {
            Urgency::Normal => (event::enabled::rcu_grace_period, event::rcu_grace_period),
            Urgency::Expedited => {
                (event::enabled::rcu_exp_grace_period, event::rcu_exp_grace_period)
            }
        };
        if enabled() {
            tell(self.name(), gp_seq, gpevent.as_ptr());
            // A probe may have forked behind our back.
            fork::check();
        }
    }

    /// The calling thread's id.
    fn caller_id(&self) -> u32 {
        let reader = self.reader();
        if reader.knows_its_thread() {
            reader.tid.load(Relaxed) as u32
        } else {
            sys::gettid() as u32
        }
    }

    /// Waits for the lock for a while, lending the caller's priority to whoever has it. The leader is
    /// woken up, for it to lend on.
    fn wait_to_lead(&self) -> Waited {
        self.leader.lock(A_WHILE_NS, || {
            self.holdouts.nudge();
            self.transient.nudge();
        })
    }

    /// Lets others run for a while: a grace period is mostly over before a sleeper would be asleep
    /// and awake again. True if it is worth looking again.
    fn yield_to_leader(&self, goal: u64) -> bool {
        let start = sys::monotonic_ns();
        while sys::monotonic_ns().wrapping_sub(start) < SPIN_NS {
            sys::sched_yield();
            if self.seq.done(goal) || !self.leader.is_taken() {
                return true;
            }
        }
        false
    }

    /// How soon the grace period that runs is wanted.
    pub fn urgency(&self) -> Urgency {
        if self.urgent.load(Relaxed) != 0 {
            Urgency::Expedited
        } else {
            Urgency::Normal
        }
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
    pub fn synchronize_since(&self, cookie: u64, function: &[u8], urgency: Urgency) {
        if self.poll(cookie) {
            callback::at_safe_point();
        } else {
            self.synchronize(function, urgency);
        }
    }

    /// One grace period. The caller leads. False in the child of a probe that forked.
    fn run(&self, urgency: Urgency) -> bool {
        let generation = fork::generation();
        if !broken!("start-order") {
            self.seq.start();
        }
        let mut wait = Wait::new(urgency);
        wait.tell(self, c"start");
        // GP-START: the updates, a full fence, then the counts and the chain of newcomers. Their
        // partners are TRANSIENT and NEWCOMER: a section that did not see the updates is seen.
        fence(SeqCst);
        // Before the newcomers are taken in: a reader on its way into the registry stays counted
        // until it is there, so it is found by one or the other.
        let too_early = broken!("newcomers-order");
        if too_early {
            self.registry.lock().admit();
        }
        if self.transient.is_any() {
            count(&self.stats.transient_waits);
            self.transient.wait(|side| self.await_transient(side, &mut wait));
        }
        stop!("start");
        if broken!("start-order") {
            self.seq.start();
        }
        let tag = self.seq.tag();
        let asked_before = self.stats.holdouts.load(Relaxed);
        // One for ourselves, so that no report finds the count zero before all are asked.
        self.holdouts.add();
        let mut roster = self.registry.lock();
        for entry in roster.entries() {
            // Tags come again, after 2^31 grace periods.
            if !broken!("request-tag") {
                entry.asked = 0;
            }
        }
        if self.is_alone(&mut roster) {
            drop(roster);
            self.holdouts.finish();
            return self.end(&wait, generation);
        }
        let barrier = ipi::mode() != ipi::Mode::Signal && {
            self.glance(&mut roster, tag);
            ipi::heavy_barrier(self)
        };
        if barrier {
            let stragglers = self.snapshot(&mut roster, tag);
            self.settle_stragglers(&mut roster, tag, stragglers, &mut wait);
        } else {
            self.interrupt_everybody(&mut roster, tag, &mut wait);
        }
        if broken!("event-lock") {
            wait.tell(self, c"select");
        }
        drop(roster);
        self.holdouts.finish();
        ipi::say();
        wait.tell(self, c"select");
        wait.tell_of_ipis(self);
        if self.holdouts.open() != 0 {
            wait.tell(self, c"startwait");
        }
        if broken!("end-order") {
            self.seq.end();
        }
        self.await_holdouts(tag, &mut wait);
        // Nobody else leads, so nobody else asks.
        let asked = self.stats.holdouts.load(Relaxed).wrapping_sub(asked_before);
        if asked != 0 {
            event::rcu_quiescent_state_report(self.name(), self.seq.now(), asked as c_int);
        }
        self.end(&wait, generation)
    }

    /// The end of a grace period, unless this is not the process in which it began any more.
    fn end(&self, wait: &Wait, generation: u32) -> bool {
        fork::check();
        if fork::generation() == generation || broken!("event-fork") {
            if !broken!("end-order") || self.seq.now() & 1 == 1 {
                self.seq.end();
            }
            wait.book(self);
            wait.tell(self, c"end");
        }
        fork::generation() == generation || broken!("event-fork")
    }

    /// Whether nobody but the caller is listed: then every other thread's next section begins with a
    /// full fence in lock's slow path (ALONE; partner: `Reader::lock_slow`), and nobody needs to be made
    /// to pass one. All idle threads are parked, so a process of idle readers makes no system call here.
    fn is_alone(&self, roster: &mut Roster) -> bool {
        let me = self.reader();
        let few = roster.len() <= 1 || broken!("alone");
        let mine = |entry: &Entry| core::ptr::eq(entry.reader(), me) || broken!("alone");
        few && roster.entries().iter().all(mine)
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
            } else if entry.quiet == 0 && reader.is_registered() && reader.state(self).in_section()
            {
                widen!("park-stale", 2000);
                widen!("park-withdraw", 2000);
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
                    // A mark left from a grace period whose barrier was refused: this one may have asked.
                    if !broken!("park-withdraw") {
                        self.withdraw(entry, tag);
                    }
                    roster.remove_at(index);
                    continue;
                }
            }
            if mark::is_parked(entry.reader().mark.load(SeqCst)) {
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
        let parkable = reader.state(self) == State::OUTSIDE_FLAGGED
            || (broken!("park-unflagged") && !reader.state(self).in_section());
        stop!("park");
        if !parkable || !reader.take_out() {
            return false;
        }
        stop!("parked");
        if broken!("park-unflagged") {
            return true;
        }
        // PARK: the mark, a full fence, then the word; see `Reader::lock_slow`.
        fence(SeqCst);
        let unseen = broken!("park-waiter-order");
        if unseen || reader.state(self) == State::OUTSIDE_FLAGGED || !reader.put_back() {
            self.stats.parks.fetch_add(1, Relaxed);
            return true;
        }
        false
    }

    /// What the reader's word says, a heavy barrier having passed since the grace period began.
    pub fn look(&self, entry: &Entry, tag: u32) -> Look {
        let reader = entry.reader();
        if entry.asked == tag && reader.request.load(SeqCst) != tag {
            return Look::Quiescent;
        }
        stop!("look");
        // In this order: a reader that is REGISTERED has cleared the flag of its birth (JOIN).
        let is_registered = reader.is_registered();
        let state = reader.state(self);
        // A reader that is just joining or leaving counts its sections as transient; those that
        // are older than this grace period have been waited for (JOIN).
        if !state.in_section() || !is_registered {
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

    /// Posts the request of this grace period, once. Before an IPI is sent (JOIN-REPORT; partner:
    /// `Reader::join`).
    pub fn ask(&self, entry: &mut Entry, tag: u32) {
        if entry.asked == tag {
            return;
        }
        entry.asked = tag;
        // An older grace period's mark says nothing of this one.
        if !broken!("scheduler-age") {
            entry.scheduled = 0;
        }
        count(&self.stats.holdouts);
        self.holdouts.add();
        if entry.reader().request.swap(tag, SeqCst) != 0 {
            // Its thread's TLS was another's before, which died unseen and is listed still: one
            // request serves for both.
            self.holdouts.finish();
        }
    }

    /// Takes the request back, if it is still there, from a reader that was seen quiescent.
    pub fn withdraw(&self, entry: &Entry, tag: u32) {
        if entry.asked != tag {
            return;
        }
        let taken = entry.reader().request.compare_exchange(tag, 0, SeqCst, Relaxed).is_ok();
        if taken || broken!("withdraw-exchange") {
            self.holdouts.finish();
        }
    }
}

/// A wait that could never end is refused with a message.
pub fn refuse_deadlock(flavour: &Flavour, function: &[u8]) {
    if let Some(why) = deadlock(flavour) {
        bug::die_in_thread(sys::gettid(), &[function, why])
    }
}

/// Why a wait here and now could never end, if so.
pub fn deadlock(flavour: &Flavour) -> Option<&'static [u8]> {
    // In somebody's fork handler one may wait.
    let busy = busy::of_this_thread().load(Relaxed) & !busy::FORKING;
    let shorter = if broken!("flavour-order") { flavour::FLAVOURS } else { flavour.index + 1 };
    let shorter = flavour::ALL.iter().take(shorter);
    let mut sections = shorter.clone().filter(|other| other.reader().state(other).in_section());
    if busy & busy::CHAINED_HANDLER != 0 && !broken!("refuse-handler") {
        Some(b"in a handler of the IPI signal: the thread it interrupted may hold RCU's locks")
    } else if let (Some(section), false) = (sections.next(), broken!("refuse-section")) {
        Some(if section.index == flavour.index {
            b"inside a read-side critical section: it would wait for its own caller"
        } else {
            b"inside a section of rcu_read_lock_notrace(): it may wait for somebody who waits for that"
        })
    } else if broken!("refuse-busy") {
        None
    } else if busy != 0 || shorter.clone().any(|other| other.reader().counted.load(Relaxed) != 0) {
        Some(b"in a signal handler that interrupted RCU itself in this thread")
    } else {
        None
    }
}
