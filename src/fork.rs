//! fork: the child has one thread, and the parent's bookkeeping of many.
//!
//! The child starts that bookkeeping anew: from an atfork handler or, where fork was bypassed
//! (`_Fork`, raw clone), at its first wait, told by a page that the kernel wipes in children. A
//! section that the forking thread was in goes on in both.

use core::ptr;
use core::sync::atomic::{
    AtomicI32, AtomicPtr, AtomicU32, AtomicU8,
    Ordering::{Acquire, Relaxed, SeqCst},
};

use crate::callback::forks;
use crate::flavour::{self, Flavour};
use crate::reader::{busy, ipi as ipi_state, mark, Reader};
use crate::sys;
use crate::{bug, ipi, proc, stall, tracepoint, worker};

const PAGE: usize = 4096;

/// What the kernel makes zero in each child.
struct Wiped {
    /// 1 in a process that this library's state describes.
    witness: AtomicU32,
    /// 1 once somebody makes it so.
    begun: AtomicU32,
    /// 1 if another thread than the first had a section before: it is in counts that are forgotten.
    strangers: AtomicU32,
}

/// Its page; null where the kernel cannot.
static WIPED: AtomicPtr<Wiped> = AtomicPtr::new(ptr::null_mut());

/// The process that this library's state describes.
static PROCESS: AtomicI32 = AtomicI32::new(0);

/// How often a child has started over, between the first process and this one.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// How many threads are between the two ends of a fork.
static FORKING: AtomicU32 = AtomicU32::new(0);

/// The id of the process that this library's state describes, also in a child of vfork.
pub fn process() -> i32 {
    PROCESS.load(Relaxed)
}

/// Another number in each child: in PID namespaces of their own they may have their parents' id.
pub fn generation() -> u32 {
    GENERATION.load(Relaxed)
}

/// False in a child of vfork, and in a forked child that nobody told us of yet.
pub fn is_our_process() -> bool {
    // In a PID namespace of its own a child may have its parent's number.
    if unannounced().is_some() && !broken!("fork-namespace") {
        return false;
    }
    let pid = sys::getpid();
    // Refused, in a sandbox that was entered on the way: nothing is known then, and a thread that left its
    // reader behind in the registry would do more harm than a child of vfork.
    pid == process() || pid < 0
}

/// Prepares for both ways of learning of a fork. Once.
pub fn start() {
    PROCESS.store(sys::getpid(), Relaxed);
    // SAFETY: the handlers may run between fork and anything: they touch our own statics and this
    // thread's readers.
    unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(announced)) };
    if let Some(page) = sys::map(PAGE) {
        if sys::wipe_on_fork(page.as_ptr(), PAGE) {
            let wiped = page.as_ptr().cast::<Wiped>();
            // SAFETY: a fresh page of zeros, aligned, never unmapped.
            unsafe { (*wiped).witness.store(1, Relaxed) };
            WIPED.store(wiped, SeqCst);
        } else {
            // SAFETY: fresh, and nobody's.
            unsafe { sys::unmap(page.as_ptr(), PAGE) };
        }
    }
}

fn wiped() -> Option<&'static Wiped> {
    // SAFETY: null, or the page of `start`, which is never unmapped.
    unsafe { WIPED.load(Relaxed).as_ref() }
}

/// The page, in a child that has not started over.
fn unannounced() -> Option<&'static Wiped> {
    wiped().filter(|wiped| wiped.witness.load(Relaxed) == 0)
}

/// This thread is about to be counted without a name, in a process that is not, or not yet, ours.
///
/// STRANGERS: the note, then the count (both full fences); who starts over forgets the counts, then looks for
/// notes. So a count that was forgotten was noted.
pub fn note_a_stranger() {
    if let Some(wiped) = unannounced() {
        if sys::gettid() != sys::getpid() {
            wiped.strangers.store(1, SeqCst);
        }
    }
}

/// Starts over if this is a child that nobody told us of.
#[inline]
pub fn check() {
    if let Some(wiped) = wiped() {
        if wiped.witness.load(Acquire) == 0 && !broken!("fork-witness") {
            start_over_unannounced(wiped);
        }
    } else if !is_our_process() {
        start_over_unwitnessed();
    }
}

#[cold]
#[inline(never)]
fn start_over_unwitnessed() {
    if busy::of_this_thread().load(Relaxed) & busy::FORKING != 0 && !broken!("fork-handler") {
        // In a handler of somebody's, which runs before ours in the child of fork().
        return in_child(begin_over());
    }
    // Starting over in a child of vfork would make its parent forget its readers.
    bug::die(&[
        b"a child of vfork, _Fork or clone waits for RCU, and the kernel does not say which it is ",
        b"(no memory for that, or madvise(2) is refused); fork() would do",
    ]);
}

#[cold]
fn start_over_unannounced(wiped: &Wiped) {
    let pid = sys::getpid();
    let is_first = pid < 0 || sys::gettid() == pid;
    if is_first {
        // A handler above may have been faster; or be this one, and goes on: it may not wait.
        let before = begin_over();
        return match wiped.begun.compare_exchange(0, 1, SeqCst, Relaxed) {
            Ok(_) => in_child(before),
            Err(_) => busy::of_this_thread().store(before, Relaxed),
        };
    }
    // What goes on in the child is its first thread's section and registration. From another
    // thread we could not tell whether the first one is in a section.
    if wiped.begun.load(SeqCst) == 0 {
        refuse_a_second_thread(b"a child of _Fork or clone called RCU in a second thread first; ");
    }
    // Others may not use what is about to be forgotten.
    while wiped.witness.load(Acquire) == 0 && !broken!("fork-losers") {
        sys::sleep_ns(50_000);
    }
}

fn refuse_a_second_thread(what: &[u8]) -> ! {
    bug::die_in_thread(sys::gettid(), &[what, b"call rcu_register_thread() before it starts any"])
}

/// After the counts are forgotten. What a stranger had there cannot be told from what the parent's threads had. If they
/// are all gone, so is what they took from counts that did not have it any more.
fn refuse_strangers(wiped: &Wiped) {
    // The kernel wakes who joins a thread a moment before it does not count it any more.
    const LOOKS: u32 = 50;
    const BETWEEN_NS: u32 = 1_000_000;
    for _ in 0..LOOKS {
        if wiped.strangers.load(SeqCst) == 0 || broken!("fork-strangers") {
            return;
        }
        // Where that cannot be read they may be there.
        if proc::threads() == Some(1) {
            if !broken!("strangers-gone") {
                flavour::ALL.iter().for_each(|flavour| flavour.transient.reset(flavour.reader()));
            }
            return;
        }
        sys::sleep_ns(BETWEEN_NS);
    }
    refuse_a_second_thread(b"a child of _Fork or clone has threads with sections that are older than its first call of RCU; ");
}

/// Takes a fork from a count of them: not below zero, where it is an older one, under the one (in a signal
/// handler) that made this process and counted from zero again.
pub fn count_down(forks: &AtomicU32) {
    if broken!("fork-count") {
        forks.fetch_sub(1, SeqCst);
    } else {
        let _ = forks.fetch_update(SeqCst, SeqCst, |forks| forks.checked_sub(1));
    }
}

/// How many forks this thread is in.
fn forks() -> &'static AtomicU8 {
    &sys::reader(0).forks
}

/// Whether there is only one: what it holds, a fork in a signal handler above it holds too, and leaves.
fn is_outermost(forks: u8) -> bool {
    forks == 1 || broken!("fork-depth")
}

/// Takes or gives back a lock together with the note of whose it is. A handler in between that forks would leave its child
/// a lock that nobody holds, or one that is given back twice.
pub fn uninterrupted<R>(act: impl FnOnce() -> R) -> R {
    if broken!("fork-handlers") {
        return act();
    }
    let mask = sys::block_signals(worker::others());
    let answer = act();
    sys::set_signal_mask(mask);
    answer
}

/// A fork is about to happen: the callbacks' lists shall be whole in the child.
extern "C" fn prepare() {
    FORKING.fetch_add(1, SeqCst);
    if is_outermost(forks().fetch_add(1, Relaxed) + 1) {
        busy::of_this_thread().fetch_or(busy::FORKING, Relaxed);
        // A second thread of a child that has not started over: to start over is to let go.
        if unannounced().is_some() && !broken!("fork-second") {
            return;
        }
        hold();
    }
}

fn hold() {
    if broken!("fork-order") {
        tracepoint::hold();
    }
    forks::hold();
    // After the lists, as in a callback that has to do with probes.
    if !broken!("fork-order") {
        tracepoint::hold();
    }
}

extern "C" fn parent() {
    count_down(&FORKING);
    if is_outermost(forks().load(Relaxed)) {
        release();
    }
    end_fork();
}

/// Gives back what this thread's fork holds; whether it held anything.
fn release() -> bool {
    let held = tracepoint::release();
    forks::release() || held
}

/// What this thread's fork held is given back while this lives: for who waits in a fork handler of somebody's, after
/// ours, for a callback, say, that waits for one of these.
pub struct LetGo(bool);

/// For a scope.
pub fn let_go() -> LetGo {
    LetGo(!broken!("fork-release") && release())
}

impl Drop for LetGo {
    fn drop(&mut self) {
        if self.0 && !broken!("fork-hold-again") {
            hold();
        }
    }
}

extern "C" fn announced() {
    // Unless an earlier handler of somebody's called us, and we have started over already.
    if FORKING.load(SeqCst) != 0 || (!is_our_process() && !broken!("fork-nested")) {
        in_child(begin_over());
    }
    end_fork();
}

fn end_fork() {
    if is_outermost(forks().fetch_sub(1, Relaxed)) {
        busy::of_this_thread().fetch_and(!busy::FORKING, Relaxed);
    }
}

/// Starting over: by the only thread there is, but signal handlers come at each step of it. Their sections are
/// transient, for none of them joins meanwhile (START-OVER; partner: `Reader::join`); they may queue callbacks;
/// they may not wait. Answers what this thread was in the middle of.
fn begin_over() -> u8 {
    busy::of_this_thread().fetch_or(busy::FORKING | busy::WAITING, Relaxed)
}

fn in_child(before: u8) {
    if let Some(wiped) = wiped() {
        // In an announced child it is not yet.
        wiped.begun.store(1, SeqCst);
    }
    FORKING.store(0, SeqCst);
    if !broken!("fork-reset") {
        ipi::after_fork();
        stall::after_fork();
        tracepoint::after_fork();
        for flavour in flavour::ALL {
            start_over(flavour, flavour.reader());
        }
        PROCESS.store(sys::getpid(), SeqCst);
        GENERATION.fetch_add(1, SeqCst);
    }
    if let Some(wiped) = wiped() {
        refuse_strangers(wiped);
        // Last: from here on other threads of the child may join, and wait. Emulators there are that accept the
        // wiping and do not do it: the witness alone is not asked.
        wiped.witness.store(1, SeqCst);
    }
    busy::of_this_thread().store(before, Relaxed);
}

/// Forgets every thread but the current one, `me`, which keeps its section and its registration.
fn start_over(flavour: &Flavour, me: &Reader) {
    if me.tid.load(Relaxed) != 0 && !broken!("fork-tid") {
        me.tid.store(sys::gettid(), Relaxed);
    }
    me.request.store(0, Relaxed);
    me.ipi.store(ipi_state::NONE, Relaxed);
    me.next.store(ptr::null_mut(), Relaxed);
    // A waiter of the parent may have been about to park this reader, or to take that back.
    let _ = me.put_back();
    let listed = matches!(me.mark.load(Relaxed), mark::REGISTERED | mark::JOINING);
    if !broken!("fork-registry") {
        flavour.registry.reset(listed.then_some(me));
    }
    if !broken!("fork-transient") {
        flavour.transient.reset(me);
    }
    if !broken!("fork-holdouts") {
        flavour.holdouts.reset(0);
    }
    flavour.boost.reset();
    flavour.seq.reset();
    if !broken!("fork-leader") {
        flavour.leader.reset();
    }
    flavour.urgent.store(0, SeqCst);
    flavour.callers.store(0, SeqCst);
    flavour.sleepers.store(0, SeqCst);
    if !broken!("fork-callbacks") {
        flavour.callbacks.reset(flavour);
    }
}
