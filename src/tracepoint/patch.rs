//! What it takes to change code: pages that are writable for a moment, and processors that fetch anew.

use core::sync::atomic::{
    AtomicU64, AtomicU8,
    Ordering::{Relaxed, SeqCst},
};

use crate::{bug, proc, start, sys};

const PAGE: usize = 4096;

const UNKNOWN: u8 = 0;
const REFUSED: u8 = 1;
const GRANTED: u8 = 2;

/// Whether code may be patched here at all.
static PERMISSION: AtomicU8 = AtomicU8::new(UNKNOWN);

static BARRIERS: AtomicU64 = AtomicU64::new(0);

/// Whether more than a byte of code may be changed: it may be patched here, and nobody else runs.
pub fn is_safe_now() -> bool {
    if PERMISSION.load(Relaxed) == UNKNOWN {
        // Who comes first makes do with sites that load.
        if !start::knows_environment() {
            return false;
        }
        let granted = cfg!(target_arch = "x86_64") && is_wanted() && register();
        PERMISSION.store(if granted { GRANTED } else { REFUSED }, Relaxed);
    }
    PERMISSION.load(Relaxed) == GRANTED
        && proc::status(sys::gettid()).is_some_and(|status| status.threads == Some(1))
}

fn is_wanted() -> bool {
    match start::environment(c"RCU_NOTRACE_KEYS") {
        None | Some(b"" | b"patch") => true,
        Some(b"load") => false,
        Some(other) => {
            bug::warn(&[b"RCU_NOTRACE_KEYS=", other, b" is neither patch nor load; using patch"]);
            true
        }
    }
}

fn register() -> bool {
    sys::membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE).is_ok()
}

/// Has every processor that runs a thread of this process fetch its code anew. Where that has come to
/// be refused (a sandbox), x86's caches are coherent all the same, and what a processor had fetched is soon gone.
pub fn synchronize() {
    if PERMISSION.load(SeqCst) == GRANTED {
        BARRIERS.fetch_add(1, Relaxed);
        let _ = sys::membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE);
    }
}

/// How often that was done.
pub fn barriers() -> u64 {
    BARRIERS.load(Relaxed)
}

/// Pages of code that are writable until this is dropped. They stay executable meanwhile.
pub struct Writable {
    begin: usize,
    end: usize,
}

impl Writable {
    /// None yet.
    pub fn none() -> Self {
        Writable { begin: 0, end: 0 }
    }

    /// Makes the pages of these bytes writable, instead of those before. False if that is refused.
    pub fn cover(&mut self, address: *mut u8, bytes: usize) -> bool {
        let begin = address as usize & !(PAGE - 1);
        let end = (address as usize + bytes).next_multiple_of(PAGE);
        if self.begin <= begin && end <= self.end {
            return true;
        }
        self.close();
        if !sys::protect_code(begin, end - begin, true) {
            return false;
        }
        (self.begin, self.end) = (begin, end);
        true
    }

    fn close(&mut self) {
        if self.begin != self.end {
            // It was so before, so it is not refused; and if it is, the code runs all the same.
            sys::protect_code(self.begin, self.end - self.begin, false);
            (self.begin, self.end) = (0, 0);
        }
    }
}

impl Drop for Writable {
    fn drop(&mut self) {
        self.close();
    }
}
