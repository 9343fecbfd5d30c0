//! Safeguards that can be removed one at a time, to see that a test notices.
//!
//! `broken!("NAME")` stands where a safeguard does its work, and is the constant false: a release has
//! nothing of it. Built with `--cfg breakable` it is true if the environment's `RCU_NOTRACE_BROKEN` is NAME
//! (or two names with a comma between, where one safeguard stands behind another): one build, in which each
//! can be removed (`make check-broken`, c-tests/broken.table).
//!
//! `widen!("NAME", us)` stands in a window that the safeguard closes and that is rarely hit, and spins in
//! it, if the safeguard is removed, or if `RCU_NOTRACE_WIDEN` is NAME: so the delay is tried alone, too.
//!
//! `stop!("PLACE")` calls the hook that a test has set by `rcu_notrace_set_stop_hook()`, which only such a build
//! has: there the test stops a thread until others have come to places of theirs, or does what a signal
//! handler would do (c-tests/schedules.c).

#[cfg(not(breakable))]
macro_rules! broken {
    ($name:literal) => {
        false
    };
}

#[cfg(not(breakable))]
macro_rules! widen {
    ($name:literal, $us:literal) => {};
}

#[cfg(not(breakable))]
macro_rules! stop {
    ($place:literal) => {};
}

#[cfg(breakable)]
macro_rules! broken {
    ($name:literal) => {
        crate::broken::REMOVED.is(const { crate::broken::id($name.as_bytes()) })
    };
}

#[cfg(breakable)]
macro_rules! widen {
    ($name:literal, $us:literal) => {
        crate::broken::widen(const { crate::broken::id($name.as_bytes()) }, $us)
    };
}

#[cfg(breakable)]
macro_rules! stop {
    ($place:literal) => {
        crate::broken::stop(concat!($place, "\0"))
    };
}

#[cfg(breakable)]
pub use breakable::{id, stop, widen, REMOVED};

#[cfg(breakable)]
mod breakable {
    use core::ffi::{c_char, CStr};
    use core::sync::atomic::{
        AtomicU64, AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    };

    use crate::{start, sys};

    /// What the environment names, read when it is first asked for.
    pub struct Named(AtomicU64, AtomicU64, &'static CStr);

    const UNREAD: u64 = 0;
    const NONE: u64 = 1;

    /// The safeguard that is removed.
    pub static REMOVED: Named =
        Named(AtomicU64::new(UNREAD), AtomicU64::new(NONE), c"RCU_NOTRACE_BROKEN");
    /// The one whose window is wide.
    static WIDENED: Named =
        Named(AtomicU64::new(UNREAD), AtomicU64::new(NONE), c"RCU_NOTRACE_WIDEN");

    /// A name as a number (FNV-1a); neither of the two above.
    pub const fn id(mut name: &[u8]) -> u64 {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        while let [first, rest @ ..] = name {
            hash = (hash ^ *first as u64).wrapping_mul(0x0100_0000_01b3);
            name = rest;
        }
        hash | 2
    }

    impl Named {
        /// Whether it is one of them.
        #[inline(always)]
        pub fn is(&self, id: u64) -> bool {
            if self.0.load(Acquire) == UNREAD {
                self.read();
            }
            self.0.load(Relaxed) == id || self.1.load(Relaxed) == id
        }

        #[cold]
        fn read(&self) {
            extern "C" {
                static environ: *const *const core::ffi::c_char;
            }
            // SAFETY: libc's own, a pointer; null before libc has started: asked again then.
            if unsafe { environ }.is_null() {
                return;
            }
            let named = start::environment(self.2).unwrap_or_default();
            let mut names = named.split(|byte| *byte == b',');
            let mut next = || names.next().map_or(NONE, id);
            let first = next();
            self.1.store(next(), Relaxed);
            self.0.store(first, Release);
        }
    }

    type Hook = extern "C" fn(*const c_char);

    /// The test's hook, or 0.
    static HOOK: AtomicUsize = AtomicUsize::new(0);

    #[export_name = "rcu_notrace_set_stop_hook"]
    extern "C" fn set_stop_hook(hook: Hook) {
        HOOK.store(hook as usize, Release);
    }

    /// Calls it with the name of the place, which ends with a zero.
    pub fn stop(place: &'static str) {
        let hook = HOOK.load(Acquire);
        if hook != 0 {
            // SAFETY: a function of this type was stored.
            let hook = unsafe { core::mem::transmute::<usize, Hook>(hook) };
            hook(place.as_ptr().cast());
        }
    }

    /// Spins that long if that window is wide.
    pub fn widen(name: u64, us: u64) {
        if REMOVED.is(name) || WIDENED.is(name) {
            let begin = sys::monotonic_ns();
            while sys::monotonic_ns().wrapping_sub(begin) < us * 1000 {
                core::hint::spin_loop();
            }
        }
    }
}
