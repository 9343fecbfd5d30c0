//! The worker: the thread that runs a flavour's callbacks.
//!
//! It is created where that is safe (a call that may block anyway, a thread's exit), never in a
//! `call_rcu()`, which may run under malloc's lock. Between rounds it naps, so that callbacks that
//! come one by one share a grace period; when nothing came for a while it sleeps until it is woken.

use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU8,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};

use crate::bug;
use crate::exit_hook;
use crate::flavour::Flavour;
use crate::reader::role;
use crate::sys::{self, futex};
use crate::{fork, ipi};

/// How long the worker naps between rounds, and how often in vain before it sleeps.
const NAP_NS: u64 = 1_000_000;
const NAPS: u32 = 10;

/// How long it sleeps at most: to wake it may be refused to all those who have something for it.
const LONGEST_REST_NS: u64 = 10_000_000_000;

/// clone(2) fails with EAGAIN at a limit, which stays, and while another thread of the process is in
/// execve(2), which ends the process or fails: so it is asked again before anything is said.
const ATTEMPTS: u32 = 100;
const BETWEEN_ATTEMPTS_NS: u32 = 1_000_000;

/// So long others wait for who creates it.
const CREATION_NS: u64 = 1_000_000_000;

/// A flavour's worker.
pub struct Worker {
    state: AtomicU8,
    /// A futex, apart from what changes more often: every `call_rcu()` looks at it.
    rest: Rest,
}

#[repr(align(64))]
struct Rest(AtomicU32);

mod state {
    pub const NONE: u8 = 0;
    pub const STARTING: u8 = 1;
    pub const EXISTS: u8 = 2;
}

mod rest {
    pub const AWAKE: u32 = 0;
    pub const NAPS: u32 = 1;
    pub const SLEEPS: u32 = 2;
}

impl Worker {
    /// None.
    pub const fn new() -> Self {
        Worker { state: AtomicU8::new(state::NONE), rest: Rest(AtomicU32::new(rest::AWAKE)) }
    }

    /// Whether there is one.
    pub fn exists(&self) -> bool {
        self.state.load(Acquire) == state::EXISTS
    }

    /// Creates it unless it exists; false if that fails. May allocate.
    pub fn start(&self, flavour: &'static Flavour) -> bool {
        let begin = sys::monotonic_ns();
        loop {
            if self.start_unless_starting(flavour) {
                return true;
            }
            match self.state.load(Acquire) {
                state::STARTING => {}
                now => return now == state::EXISTS && !broken!("worker-just-created"),
            }
            // Somebody interposed `pthread_create`, and comes back here in it; or the new thread does, and he waits
            // for that.
            let creates = flavour.reader().role.load(Relaxed) & role::CREATES != 0;
            let is_late = sys::monotonic_ns().wrapping_sub(begin) > CREATION_NS;
            if (creates || is_late) && !broken!("worker-creator") {
                return false;
            }
            // In real time a yield would keep the creator from its processor.
            sys::sleep_ns(50_000);
        }
    }

    /// The same, and false at once if somebody is creating it: perhaps the caller itself, by a
    /// `pthread_create` that somebody interposed, or the new thread, which its creator waits for.
    pub fn start_unless_starting(&self, flavour: &'static Flavour) -> bool {
        match self.state.compare_exchange(state::NONE, state::STARTING, SeqCst, Acquire) {
            Ok(_) => {}
            Err(now) => return now == state::EXISTS,
        }
        let role = &flavour.reader().role;
        role.fetch_or(role::CREATES, Relaxed);
        let created = fork::is_our_process() && create(flavour);
        role.fetch_and(!role::CREATES, Relaxed);
        self.state.store(if created { state::EXISTS } else { state::NONE }, Release);
        created
    }

    /// Wakes it if it sleeps; `now`: also from a nap.
    #[inline(always)]
    pub fn wake(&self, now: bool) {
        let at_rest = self.rest.0.load(SeqCst);
        let sleeps = at_rest == rest::SLEEPS || (at_rest == rest::NAPS && now);
        let taken = sleeps && self.rest.0.swap(rest::AWAKE, SeqCst) != rest::AWAKE;
        if taken && !futex::wake_all(&self.rest.0) {
            // Refused to this thread (a sandbox of its own): the next one shall try.
            let _ = self.rest.0.compare_exchange(rest::AWAKE, at_rest, SeqCst, Relaxed);
        }
    }

    /// Rests, unless there is something to do.
    fn rest(&self, flavour: &Flavour, how: u32) {
        let too_early = broken!("rest-order") && flavour.callbacks.is_idle();
        if how == rest::SLEEPS {
            widen!("rest-order", 5000);
        }
        // WAKE: partner of `Callbacks::wake`.
        self.rest.0.store(how, SeqCst);
        if how == rest::NAPS && !flavour.callbacks.are_awaited() {
            futex::wait(&self.rest.0, how, NAP_NS);
        } else if how == rest::SLEEPS && (too_early || flavour.callbacks.is_idle()) {
            let limit = if broken!("rest-limit") { 0 } else { LONGEST_REST_NS };
            futex::wait(&self.rest.0, how, limit);
        }
        self.rest.0.store(rest::AWAKE, SeqCst);
    }

    /// In a forked child, where it is not.
    pub fn reset(&self) {
        self.state.store(state::NONE, SeqCst);
        self.rest.0.store(rest::AWAKE, SeqCst);
    }
}

/// All signals but those of a thread's own faults, what a sandbox sends, and the C library's own (32, 33):
/// setuid(3) waits for every thread to answer its.
pub fn others() -> u64 {
    const OWN: [i32; 8] = [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGSYS,
        32,
        33,
    ];
    OWN.iter().fold(!0, |set, signal| set & !(1 << (signal - 1)))
}

/// What a worker blocks.
fn all_others(ipi: i32) -> u64 {
    let faults = if broken!("worker-faults") { (1 << 31) - 1 } else { 0 };
    // Its callbacks may be readers, and where membarrier is refused the IPI is the only barrier.
    (others() | faults) & !(1 << (ipi - 1))
}

fn create(flavour: &'static Flavour) -> bool {
    static WARNED: AtomicBool = AtomicBool::new(false);
    // It inherits the mask: signals are the program's, for its own threads.
    let mask = if broken!("mask-adds") {
        sys::set_signal_mask(others())
    } else {
        sys::block_signals(others())
    };
    let mut error = create_once(flavour);
    let mut attempts = if broken!("exec-retry") { ATTEMPTS } else { 1 };
    while error == libc::EAGAIN && attempts < ATTEMPTS && !WARNED.load(Relaxed) {
        sys::sleep_ns(BETWEEN_ATTEMPTS_NS);
        error = create_once(flavour);
        attempts += 1;
    }
    sys::set_signal_mask(mask);
    if error != 0 && !WARNED.swap(true, Relaxed) {
        bug::warn(&[b"no thread to run callbacks; rcu_barrier() runs them"]);
    }
    error == 0
}

fn create_once(flavour: &'static Flavour) -> i32 {
    let mut thread = MaybeUninit::uninit();
    // SAFETY: `body` takes a flavour's address, and is never unloaded (-z nodelete).
    let error = unsafe {
        libc::pthread_create(
            thread.as_mut_ptr(),
            ptr::null(),
            body,
            ptr::from_ref(flavour).cast_mut().cast(),
        )
    };
    if error == 0 {
        // SAFETY: just created; nobody joins it.
        unsafe { libc::pthread_detach(thread.assume_init()) };
    }
    error
}

extern "C" fn body(flavour: *mut c_void) -> *mut c_void {
    // SAFETY: what `create` passed.
    let flavour = unsafe { &*flavour.cast::<Flavour>() };
    // Not what the thread that created it blocked of the rest: a sandbox may answer calls by a signal.
    let mut ipi = ipi::signal_number();
    sys::set_signal_mask(all_others(ipi));
    sys::set_thread_name(flavour.names.worker);
    // Whatever the thread that created it has.
    sys::leave_real_time();
    flavour.reader().role.fetch_or(role::WORKER, Relaxed);
    exit_hook::arm();
    let worker = &flavour.callbacks.worker;
    let mut naps = 0;
    loop {
        // Created before the environment was read, it may have to learn of another one.
        if ipi != ipi::signal_number() {
            ipi = ipi::signal_number();
            sys::set_signal_mask(all_others(ipi));
        }
        naps = if flavour.advance() { 0 } else { naps + 1 };
        if naps > NAPS {
            worker.rest(flavour, rest::SLEEPS);
            naps = 0;
        } else if !flavour.callbacks.are_many() {
            worker.rest(flavour, rest::NAPS);
        }
    }
}
