//! membarrier(2), private and expedited.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::sys;

static AVAILABLE: AtomicBool = AtomicBool::new(false);

/// Registers the process. Cheap while it has one thread; inherited by fork, lost by exec.
pub fn start() {
    let available = sys::membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED).is_ok();
    AVAILABLE.store(available, Relaxed);
}

/// Whether the kernel obliged so far.
pub fn is_available() -> bool {
    AVAILABLE.load(Relaxed)
}

/// A full barrier on every processor that runs a thread of this process; false, and not
/// available ever after, if it is refused for good.
pub fn barrier() -> bool {
    let answer = sys::membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED);
    // Short of memory it may be now and not the next time.
    if answer.is_err_and(|error| error != libc::ENOMEM) {
        AVAILABLE.store(false, Relaxed);
    }
    answer.is_ok()
}
