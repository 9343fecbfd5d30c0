//! Starting: once a process, by the library's constructor or by whoever waits first.
//!
//! The read side never starts anything and needs nothing started: before, its sections are
//! transient.

use core::ffi::CStr;
use core::sync::atomic::{
    AtomicBool, AtomicU8,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::{exit, exit_hook, fork, ipi, stall, stats, sys};

const NOT: u8 = 0;
const STARTING: u8 = 1;
const STARTED: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(NOT);

/// Starts the library if nobody has, and sees whether this is a forked child.
#[inline]
pub fn ensure() {
    ensure_started();
    fork::check();
}

/// Starts the library if nobody has. Signal handlers may ask for what is true in any child.
#[inline]
pub fn ensure_started() {
    if STATE.load(Acquire) != STARTED {
        start();
    }
}

#[cold]
#[inline(never)]
fn start() {
    if STATE.compare_exchange(NOT, STARTING, Acquire, Relaxed).is_ok() {
        fork::start();
        ipi::start();
        exit_hook::start();
        // In this order: the last comes first, and the counters are printed when callbacks have run.
        stats::start();
        exit::start();
        configure();
        STATE.store(STARTED, Release);
    }
    while STATE.load(Acquire) != STARTED {
        // Not a yield: in real time that would not let the other thread run.
        sys::sleep_ns(50_000);
    }
}

/// Whether the environment was not there yet: the C library finds it in a constructor of its own, and somebody's
/// came before that (`-z initfirst`, `.preinit_array`).
static UNREAD: AtomicBool = AtomicBool::new(false);

/// Does as the environment says.
fn configure() {
    extern "C" {
        static environ: *const *const core::ffi::c_char;
    }
    // SAFETY: the C library's variable, and one aligned load of it. Where the library is started late, by who waits
    // first, another thread may be in setenv(3): it stores a pointer that is not null in place of another.
    UNREAD.store(unsafe { environ }.is_null(), Relaxed);
    ipi::configure();
    exit::configure();
    stall::configure();
    stats::configure();
}

/// Whether the environment can be read by now; a choice that is made once waits for it.
pub fn knows_environment() -> bool {
    ensure_started();
    !UNREAD.load(Relaxed)
}

/// What the environment says; nothing in a program that runs with another's rights.
pub fn environment(name: &CStr) -> Option<&'static [u8]> {
    extern "C" {
        fn secure_getenv(name: *const core::ffi::c_char) -> *const core::ffi::c_char;
    }
    // SAFETY: a terminated name; the value is read at once, before the program can change it.
    let value = unsafe { secure_getenv(name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: not null, terminated.
    Some(unsafe { CStr::from_ptr(value) }.to_bytes())
}

extern "C" fn constructor() {
    ensure();
    if UNREAD.load(Relaxed) {
        configure();
        // A program may take it away again.
        UNREAD.store(false, Relaxed);
    }
}

// Miri runs it, but no system call in it.
#[used]
#[cfg_attr(not(miri), link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = constructor;
