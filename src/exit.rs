//! What becomes of callbacks when the process exits.
//!
//! By default they are left alone: their memory goes with the process, and to run them after the
//! program's own exit handlers would surprise it. A program that wants their effects says so, or
//! calls `rcu_barrier()` before it exits.

use core::sync::atomic::{AtomicI32, Ordering::Relaxed};

use crate::bug;
use crate::flavour::ALL;
use crate::grace_period::deadlock;
use crate::start;

/// Callbacks that still wait are left alone.
pub const LEAVE: i32 = 0;
/// exit(3), or a return from main, runs what was queued, after the program's own exit handlers.
pub const RUN: i32 = 1;

static POLICY: AtomicI32 = AtomicI32::new(LEAVE);

/// Chooses; false for an unknown policy.
pub fn set_policy(policy: i32) -> bool {
    let known = policy == LEAVE || policy == RUN;
    if known {
        POLICY.store(policy, Relaxed);
    }
    known
}

/// Hooks into exit. Once.
pub fn start() {
    // SAFETY: the function stays loaded (-z nodelete).
    unsafe { libc::atexit(at_exit) };
}

/// Reads the environment.
pub fn configure() {
    match start::environment(c"RCU_NOTRACE_EXIT") {
        None | Some(b"" | b"leave") => {}
        Some(b"run") => POLICY.store(RUN, Relaxed),
        Some(other) => {
            bug::warn(&[b"RCU_NOTRACE_EXIT=", other, b" is neither leave nor run; using leave"]);
        }
    }
}

extern "C" fn at_exit() {
    if POLICY.load(Relaxed) != RUN {
        return;
    }
    for flavour in ALL {
        if !flavour.callbacks.are_waiting() {
            continue;
        }
        // To wait here would be for ever.
        if deadlock(flavour).is_some() || flavour.reader().runs_callbacks() {
            bug::warn(&[b"exit() in a section or a callback: callbacks are not run"]);
            return;
        }
        flavour.barrier();
    }
}
