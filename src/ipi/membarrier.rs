//! membarrier(2), private and expedited.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::sys;

static AVAILABLE: AtomicBool = AtomicBool::new(false);

/// Registers the process. Cheap while it has one thread; inherited by fork, lost by exec.
pub fn start() -> bool {
    let available = sys::membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
    AVAILABLE.store(available, Relaxed);
    available
}

/// Whether the kernel obliged so far.
pub fn is_available() -> bool {
    AVAILABLE.load(Relaxed)
}

/// A full barrier on every processor that runs a thread of this process; false, and not
/// available ever after, if it is refused.
pub fn barrier() -> bool {
    let passed = sys::membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED);
    if !passed {
        AVAILABLE.store(false, Relaxed);
    }
    passed
}
