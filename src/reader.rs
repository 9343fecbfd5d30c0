//! A reader: one thread's block, the slow paths of its lock and unlock, and its reports.
//!
//! Everything here may run in a signal handler, between any two instructions of itself on the
//! same thread. That works because each step is one of three kinds: idempotent; an atomic
//! exchange that hands something (a request, a claim, a count) to exactly one taker; or covered by
//! a transient count that was taken before it ([`crate::transient`]). Handlers nest: when one
//! returns, every section it opened is closed and the nesting is as it was.

use core::sync::atomic::{
    fence, AtomicI32, AtomicPtr, AtomicU16, AtomicU32, AtomicU8,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};

use crate::bug;
use crate::flavour::{Flavour, NOTRACE, NOTRACE_INDEX, TRACE};
use crate::sys;
use crate::word::{State, Word};
use crate::{exit_hook, fork};

/// A thread's reader of one flavour. Zero, which its TLS starts as, is a thread that nobody heard of yet.
#[repr(C, align(64))]
pub struct Reader {
    /// Nesting and flag; offset 0 is known to the inlined read side in C.
    pub word: Word,
    /// The grace period that wants a quiescent state of this reader, as its tag; 0: none does.
    /// Set by the waiter, taken (exchanged for 0) by whoever reports.
    pub request: AtomicU32,
    /// Where the registry lists it; the registry's.
    pub index: AtomicU32,
    /// Link in the registry's chain of newcomers, not null while it is there; the registry's.
    pub next: AtomicPtr<Reader>,
    /// Its thread, for signals.
    pub tid: AtomicI32,
    /// What the registry knows of it: see [`mark`].
    pub mark: AtomicU8,
    /// On which of two sides its open section is counted, plus one; 0: on none.
    pub counted: AtomicU8,
    /// An IPI is on its way: see [`ipi`].
    pub ipi: AtomicU8,
    /// What this thread is in the middle of, in the thread's first reader: see [`busy`].
    busy: AtomicU8,
    /// Whether thread exit will call us, in the thread's first reader: see [`hook`].
    hook: AtomicU8,
    /// Which of the flavour's queues of callbacks is this thread's, plus one; 0: none yet.
    pub shard: AtomicU8,
    /// What this thread does for others: see [`role`].
    pub role: AtomicU8,
    /// Non-zero while this thread runs a probe of RCU's own, in the thread's first reader.
    pub tracing: AtomicU8,
    /// How many calls of fork() this thread is in, one in a handler above another, in the thread's first reader.
    pub forks: AtomicU8,
    /// What the outermost sections that this thread had before it joined count; up to [`PROBATION`].
    pub probation: AtomicU16,
    _reserved: [u8; 20],
}

/// A thread's first outermost sections are transient; it joins the registry once they have counted
/// this much: thirty-two sections, or a thousand with a signal blocked.
///
/// A thread whose first sections come when its exit hooks have already run must not join: nothing
/// would take it out again. It cannot be told from a new thread but by how few sections are still to
/// come: a traced `free` for each block that libc has left to clean up; or any number, in a signal
/// handler there. But a handler has its own signal blocked, so sections in it can be told, and
/// count next to nothing (docs/PROOF.md, 6, says what that leaves). And a thread that lives for a
/// few sections is better off not joining.
pub const PROBATION: u16 = 32 * SECTION;

/// What a section counts.
const SECTION: u16 = 32;

/// What one counts while a signal is blocked. Not nothing: some threads block signals all their life.
const BLOCKED_SECTION: u16 = 1;

/// Values of [`Reader::mark`].
///
/// ```text
/// NEW -------> JOINING --> REGISTERED ---> PARKED, TAKEN_OUT (and on to JOINING at its next lock;
///  ^                        |    ^             |                or TAKEN_OUT back)
///  '------- LEAVING <-------'    '-------------'  (an exiting thread stays LEAVING)
/// ```
pub mod mark {
    /// Not in the registry.
    pub const NEW: u8 = 0;
    /// Putting itself there; its sections count as transient meanwhile.
    pub const JOINING: u8 = 1;
    /// There: grace periods look at its word.
    pub const REGISTERED: u8 = 2;
    /// It was idle, and left the list by itself; flagged, so its next lock rejoins.
    pub const PARKED: u8 = 3;
    /// Taking itself out, or gone for good; its sections count as transient.
    pub const LEAVING: u8 = 4;
    /// As PARKED, but by a waiter, which may have looked before the section that runs now. A mark of its own:
    /// `join` must not take this parking for an earlier one (PARK).
    pub const TAKEN_OUT: u8 = 5;

    /// Off the list, to come back.
    pub fn is_parked(mark: u8) -> bool {
        mark == PARKED || mark == TAKEN_OUT
    }
}

/// Values of [`Reader::ipi`].
pub mod ipi {
    /// None was sent.
    pub const NONE: u8 = 0;
    /// One was sent.
    pub const SENT: u8 = 1;
    /// One was sent, and a reader that is outside shall park itself.
    pub const SENT_MAY_PARK: u8 = 2;
}

/// Values of [`Reader::hook`].
pub mod hook {
    use core::sync::atomic::AtomicU8;

    /// This thread's, whatever the flavour.
    #[inline(always)]
    pub fn of_this_thread() -> &'static AtomicU8 {
        &crate::sys::reader(0).hook
    }

    /// Not armed.
    pub const NONE: u8 = 0;
    /// Being armed, by a call out of this library.
    pub const ARMING: u8 = 1;
    /// Armed.
    pub const ARMED: u8 = 2;
}

/// Bits of [`Reader::role`].
pub mod role {
    /// It is the flavour's worker.
    pub const WORKER: u8 = 1;
    /// It runs the flavour's callbacks, and holds the locks that this takes.
    pub const RUNS: u8 = 2;
    /// It forks, and holds the lists of callbacks meanwhile.
    pub const FORKS: u8 = 4;
    /// It holds the lock of a round of callbacks.
    pub const ROUND: u8 = 8;
    /// It creates the worker.
    pub const CREATES: u8 = 16;
}

/// Bits of [`Reader::busy`]. They say what signal handlers above must not wait for.
pub mod busy {
    use core::sync::atomic::AtomicU8;

    /// What this thread is in the middle of, whatever the flavour.
    #[inline(always)]
    pub fn of_this_thread() -> &'static AtomicU8 {
        &crate::sys::reader(0).busy
    }

    /// In the program's own handler, called from ours.
    pub const CHAINED_HANDLER: u8 = 1;
    /// In `synchronize_rcu()` or another function that holds locks of ours.
    pub const WAITING: u8 = 2;
    /// Between taking a request and counting it down.
    pub const REPORTING: u8 = 4;
    /// Leaving the registry.
    pub const LEAVING: u8 = 8;
    /// In `fork()`; with WAITING: in what its child does to start over.
    pub const FORKING: u8 = 16;
}

/// Who reports a quiescent state; for the statistics.
#[derive(Clone, Copy)]
pub enum Reporter {
    /// The outermost unlock, or the next outermost lock.
    Section,
    /// The IPI handler, between sections.
    Handler,
}

/// The calling thread, for locks that say who has them: its reader's address, which a fork does not change, and
/// which is even and not zero.
pub fn this_thread() -> usize {
    core::ptr::from_ref(sys::reader(0)).addr()
}

impl Reader {
    /// What its word says; an impossible word ends the process with a message.
    #[inline(always)]
    pub fn state(&self, flavour: &Flavour) -> State {
        match self.word.load() {
            Some(state) => state,
            None => unbalanced(self, flavour),
        }
    }

    /// Whether its thread is in a callback.
    pub fn runs_callbacks(&self) -> bool {
        self.role.load(Relaxed) & role::RUNS != 0
    }

    /// Whether grace periods look at its word.
    #[inline(always)]
    pub fn is_registered(&self) -> bool {
        self.mark.load(Acquire) == mark::REGISTERED
    }

    /// Reports a quiescent state to the grace period that wants one, if one does.
    ///
    /// Ordering: the exchange is a full fence, so everything that the section loaded is loaded
    /// before the waiter sees the countdown move (REPORT; partner: `Countdown::wait` in
    /// `Flavour::await_holdouts`).
    #[inline(always)]
    pub fn report(&self, flavour: &Flavour, by: Reporter) {
        if self.request.load(Relaxed) == 0 {
            return;
        }
        // A signal handler that waits for a grace period in between would wait for us: the mark
        // lets it be refused.
        let busy = busy::of_this_thread();
        let before = busy.load(Relaxed);
        busy.store(before | busy::REPORTING, Relaxed);
        let request = if broken!("report-exchange") {
            let seen = self.request.load(Relaxed);
            widen!("report-exchange", 20);
            self.request.store(0, Relaxed);
            seen
        } else {
            self.request.swap(0, SeqCst)
        };
        if request != 0 {
            let counter = match by {
                Reporter::Section => &flavour.stats.reports_by_section,
                Reporter::Handler => &flavour.stats.reports_by_handler,
            };
            counter.fetch_add(1, Relaxed);
            if flavour.holdouts.finish() {
                flavour.stats.wakes.fetch_add(1, Relaxed);
            }
            flavour.boost.give_back(flavour, self.tid.load(Relaxed));
        }
        busy.store(before, Relaxed);
    }

    /// Takes an idle reader out of the waiters' sight, by the waiter that found its word outside and
    /// flagged for good. The next lock undoes it.
    pub fn take_out(&self) -> bool {
        self.park_as(mark::TAKEN_OUT)
    }

    fn park_as(&self, parked: u8) -> bool {
        let parked = if broken!("park-marks") { mark::PARKED } else { parked };
        self.mark.compare_exchange(mark::REGISTERED, parked, SeqCst, Relaxed).is_ok()
    }

    /// Parks the current thread's reader, in the IPI handler, outside a section.
    ///
    /// The section around it makes sections of further handlers nested ones, which do not clear
    /// the flag; so the mark never says PARKED beside a word that is not flagged. It is opened and
    /// closed without the trampolines, for little stack.
    #[inline(never)]
    pub fn park_itself(&self, flavour: &Flavour) {
        if !broken!("park-itself-section") {
            self.word.open_quietly();
        }
        self.word.flag();
        stop!("park-itself");
        if self.park_as(mark::PARKED) {
            flavour.stats.parks.fetch_add(1, Relaxed);
        }
        if !broken!("park-itself-section") {
            self.word.close_quietly();
        }
        self.unlock_slow(flavour);
    }

    /// Takes [`take_out`](Self::take_out) back; false if the reader was faster and rejoins by itself.
    pub fn put_back(&self) -> bool {
        let parked = if broken!("park-marks") { mark::PARKED } else { mark::TAKEN_OUT };
        self.mark.compare_exchange(parked, mark::REGISTERED, SeqCst, Relaxed).is_ok()
    }

    /// The slow path of a lock: the word is flagged, and already incremented.
    #[inline(always)]
    pub fn lock_slow(&self, flavour: &Flavour) {
        let state = self.state(flavour);
        if state.nesting == 0 {
            unbalanced(self, flavour);
        }
        // PARK: our increment, a full fence, then the mark. The waiter that parks us sets the
        // mark, a full fence, then reads the word (`Flavour::try_park`). So if the mark still
        // says REGISTERED here, a waiter that changes it later sees our section and takes it back.
        // And ALONE: the section's loads come after it, too (partner: `Flavour::is_alone`).
        fence(SeqCst);
        if broken!("park-reader-order") {
            // As if the increment were still on its way.
            self.word.close_quietly();
        }
        let is_registered = self.is_registered();
        if broken!("park-reader-order") {
            self.word.open_quietly();
        }
        stop!("lock-marked");
        if is_registered {
            if state.nesting == 1 {
                if broken!("flag-request-order") {
                    self.report(flavour, Reporter::Section);
                }
                // In this order: a waiter that sees the flag after it posted its request knows
                // that the request is still to be taken (FLAG-REQUEST).
                self.word.clear_flag();
                if !broken!("flag-request-order") {
                    self.report(flavour, Reporter::Section);
                }
            }
        } else {
            if !broken!("transient-count") {
                flavour.transient.enter(self);
            }
            let hooked = exit_hook::arm_without_allocating() || broken!("hook-armed");
            if hooked && self.has_passed_probation(state) {
                self.join(flavour);
            }
        }
        stop!("joined");
        // COUNT-BACK: the unlock gives the count back if the word is flagged, and only then. The mark
        // does not tell: a waiter may be about to take a park back.
        let back = if broken!("count-back-mark") {
            !is_registered && self.is_registered()
        } else {
            !self.state(flavour).flagged
        };
        if back && !broken!("count-back") {
            flavour.transient.exit(self, flavour);
        }
    }

    fn has_passed_probation(&self, state: State) -> bool {
        let had = self.probation.load(Relaxed);
        if had < PROBATION && state.nesting == 1 {
            let in_handler = sys::blocks_signals() && !broken!("handler-joins");
            let counts = match in_handler {
                true if broken!("blocked-counts") => 0,
                true => BLOCKED_SECTION,
                false => SECTION,
            };
            // No handler counts in between: its sections are nested in ours.
            self.probation.store(had + counts, Relaxed);
        }
        had >= PROBATION || broken!("probation")
    }

    /// Enters the registry. In a section, which counts as transient; the thread's exit is sure to
    /// take it out again.
    fn join(&self, flavour: &Flavour) {
        stop!("join-begins");
        let before = self.mark.load(Relaxed);
        if before != mark::NEW && !mark::is_parked(before) {
            return;
        }
        // In a handler under `leave`, which relies on a count that joining would give back; or under what a
        // forked child does to start over, which takes it that this reader is listed or is not (START-OVER).
        let busy = busy::of_this_thread().load(Relaxed);
        let leaving = busy & busy::LEAVING != 0 && !broken!("leaving-mark");
        let starting_over = busy & busy::FORKING != 0 && !broken!("fork-mark");
        if leaving || starting_over {
            return;
        }
        if !self.knows_its_thread() || !flavour.registry.claim() {
            return;
        }
        // A handler that joined before that look gave our count back, and a waiter took the reader out since. Now: where the
        // exchange below succeeds no other handler has come in between, so there is no moment without a count.
        if !broken!("join-count") {
            flavour.transient.enter(self);
        }
        stop!("join");
        // One of us and the signal handlers above us wins; the handlers above the winner find
        // JOINING and leave it alone.
        if broken!("join-claim") {
            self.mark.store(mark::JOINING, Relaxed);
        } else if self.mark.compare_exchange(before, mark::JOINING, SeqCst, Relaxed).is_err() {
            flavour.registry.give_up();
            return;
        }
        stop!("join-claimed");
        if broken!("count-back-early") {
            flavour.transient.exit(self, flavour);
        }
        stop!("join-counted");
        flavour.registry.push(self);
        stop!("join-listed");
        // Until the mark says REGISTERED waiters pass it over: its open section is younger than any
        // grace period that finds it here (docs/PROOF.md, JOIN).
        self.word.clear_flag();
        self.mark.store(mark::REGISTERED, Release);
        // JOIN-REPORT: a waiter that saw us REGISTERED before we were parked may have asked since,
        // and its IPI have set the flag that was just cleared. Our section is counted, so it is no
        // older than that request (docs/PROOF.md).
        if !broken!("join-report") {
            self.report(flavour, Reporter::Section);
        }
    }

    /// Learns the thread's id. False in a child of vfork, which runs on its parent's TLS and must
    /// not lend it an id that is gone in a moment; and in a forked child before the library knows.
    pub fn knows_its_thread(&self) -> bool {
        if self.tid.load(Relaxed) == 0 {
            if !fork::is_our_process() && !broken!("vfork-check") {
                fork::note_a_stranger();
                return false;
            }
            self.tid.store(sys::gettid(), Relaxed);
        }
        true
    }

    /// The slow path of an unlock: it ended the outermost section of a flagged word.
    /// The flag stays; the next lock clears it.
    #[inline(always)]
    pub fn unlock_slow(&self, flavour: &Flavour) {
        if !broken!("unlock-report") {
            self.report(flavour, Reporter::Section);
        }
        if broken!("flag-stays") {
            self.word.clear_flag();
        }
        // COUNT-BACK: where lock's slow path has left the word flagged.
        flavour.transient.exit(self, flavour);
        if broken!("event-unlock") {
            crate::event::rcu_quiescent_state_report(flavour.name(), flavour.seq.now(), 1);
        }
    }

    /// Enters the registry now, so that the first sections cost what any other does.
    pub fn register(&self, flavour: &Flavour) {
        exit_hook::arm();
        self.probation.store(PROBATION, Relaxed);
        if !self.is_registered() {
            Word::lock_current_thread(flavour.index);
            Word::unlock_current_thread(flavour.index);
        }
    }

    /// Leaves the registry. Waits for the registry's lock: not for signal handlers.
    ///
    /// The section around it keeps signal handlers from ever reaching an outermost unlock, which
    /// would drop the transient count that covers their sections while the marks change.
    pub fn leave(&self, flavour: &Flavour, for_good: bool) {
        let busy = busy::of_this_thread();
        let was_busy = busy.load(Relaxed);
        busy.store(was_busy | busy::WAITING | busy::LEAVING, Relaxed);
        if !broken!("leave-section") {
            Word::lock_current_thread(flavour.index);
        }
        if !broken!("leave-count") {
            flavour.transient.enter(self);
        }
        stop!("leave-counted");
        let before = self.mark.swap(mark::LEAVING, SeqCst);
        stop!("leave-marked");
        if !broken!("leave-flag") {
            self.word.flag();
        }
        // In a child of a fork that nobody told us of, the lock may be a parent's thread's, and the
        // list is the parent's: there is nothing of this thread's in it until the child starts over.
        if fork::is_our_process() && !broken!("exit-removal") {
            flavour.registry.lock().remove(self);
        }
        if !broken!("leave-report") {
            self.report(flavour, Reporter::Section);
        }
        // A thread that has left for good stays so, whatever its later destructors call.
        if (!for_good && before != mark::LEAVING) || broken!("leave-for-good") {
            self.mark.store(mark::NEW, SeqCst);
        }
        if broken!("leave-section") {
            self.unlock_slow(flavour);
        } else {
            Word::unlock_current_thread(flavour.index);
        }
        busy.store(was_busy, Relaxed);
    }
}

/// The slow path of `rcu_read_lock_notrace()`: called by the trampoline or by portable code.
pub extern "C" fn lock_slow() {
    NOTRACE.reader().lock_slow(&NOTRACE);
}

/// The slow path of `rcu_read_unlock_notrace()`.
pub extern "C" fn unlock_slow() {
    NOTRACE.reader().unlock_slow(&NOTRACE);
}

/// The slow path of `rcu_read_lock_trace()`.
pub extern "C" fn trace_lock_slow() {
    TRACE.reader().lock_slow(&TRACE);
}

/// The slow path of `rcu_read_unlock_trace()`.
pub extern "C" fn trace_unlock_slow() {
    TRACE.reader().unlock_slow(&TRACE);
}

/// The slow path of the lock of the flavour at that index, for portable code.
pub fn lock_slow_of(index: usize) {
    if index == NOTRACE_INDEX {
        lock_slow();
    } else {
        trace_lock_slow();
    }
}

/// The slow path of its unlock.
#[cfg(any(feature = "portable-reader", not(target_arch = "x86_64")))]
pub fn unlock_slow_of(index: usize) {
    if index == NOTRACE_INDEX {
        unlock_slow();
    } else {
        trace_unlock_slow();
    }
}

/// More unlocks than locks, or 2^24 nested locks.
#[cold]
pub fn unbalanced(reader: &Reader, flavour: &Flavour) -> ! {
    let tid = match reader.tid.load(Relaxed) {
        0 => sys::gettid(),
        tid => tid,
    };
    bug::die_in_thread(tid, &[flavour.names.unbalanced, b" (or 2^24 nested sections)"])
}

const _: () = assert!(core::mem::size_of::<Reader>() == 64);
