//! What an embedder's stall handler is told.

use core::ffi::{c_char, c_int, c_void};

/// What a stall handler is told about one reader.
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct rcu_notrace_stall {
    /// The size of this structure, for later versions to append to.
    pub size: usize,
    /// How long the grace period has waited so far, in milliseconds.
    pub waited_ms: u64,
    /// The reader's thread id; 0: the text is about the whole grace period, or about its waiter.
    pub tid: c_int,
    /// How deep in sections the reader is; 0 if that is not known.
    pub nesting: u32,
    /// What became of its IPI: one of RCU_NOTRACE_STALL_IPI_*.
    pub ipi: c_int,
    /// The report as it would be printed, terminated; good until the handler returns.
    pub text: *const c_char,
}

/// An embedder's: returns non-zero if the report shall not be printed.
pub type Handler = unsafe extern "C" fn(*const rcu_notrace_stall, *mut c_void) -> c_int;
