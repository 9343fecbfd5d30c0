//! A flavour: one RCU, as a value. Readers of different flavours do not hold each other up.

use core::sync::atomic::{AtomicU32, AtomicU64};

use crate::boost::Boost;
use crate::callback::Callbacks;
use crate::event;
use crate::reader::{self, Reader};
use crate::registry::Registry;
use crate::seq::Seq;
use crate::stats::Counters;
use crate::sys;
use crate::sys::futex::{Countdown, PiLock};
use crate::transient::Transient;

/// How many there are: each thread has a reader of each.
pub const FLAVOURS: usize = 2;

/// The index of [`NOTRACE`], for the read side, which loads nothing of the flavour's.
pub const NOTRACE_INDEX: usize = 0;
/// The index of [`TRACE`].
pub const TRACE_INDEX: usize = 1;

/// Everything that readers and waiters of one flavour share.
pub struct Flavour {
    /// Which of a thread's readers are this flavour's. A waiter must be in no section of its own
    /// flavour, nor of one with a lower index, whose sections are shorter.
    pub index: usize,
    /// What messages call it.
    pub names: Names,
    /// The threads that grace periods look at.
    pub registry: Registry,
    /// The sections of all other threads.
    pub transient: Transient,
    /// Requests of the running grace period that nobody has taken yet.
    pub holdouts: Countdown,
    /// The priority that the running grace period lends to one of its holdouts.
    pub boost: Boost,
    /// Where grace periods stand.
    pub seq: Seq,
    /// Held by the caller who runs a grace period for everybody.
    pub leader: PiLock,
    /// How many callers want it expedited.
    pub urgent: AtomicU32,
    /// How long the last grace period waited that waited at all, in nanoseconds.
    pub last_wait: AtomicU64,
    /// How many callers wait for a grace period, or run one.
    pub callers: AtomicU32,
    /// Counts ended grace periods, for callers to sleep on.
    pub ended: AtomicU32,
    /// How many callers sleep there.
    pub sleepers: AtomicU32,
    /// What is to be called after grace periods.
    pub callbacks: Callbacks,
    /// What happened.
    pub stats: Counters,
}

/// A flavour's functions by their names in C.
pub struct Names {
    /// Waiting.
    pub synchronize: &'static [u8],
    /// Queueing a callback.
    pub call: &'static [u8],
    /// Waiting for callbacks.
    pub barrier: &'static [u8],
    /// An unlock without a lock.
    pub unbalanced: &'static [u8],
    /// The worker thread, as the kernel shows it; terminated, 16 bytes at most.
    pub worker: &'static core::ffi::CStr,
}

/// The flavour of `rcu_read_lock_notrace()`.
pub static NOTRACE: Flavour = Flavour::new(
    NOTRACE_INDEX,
    Names {
        synchronize: b"synchronize_rcu() ",
        call: b"call_rcu() ",
        barrier: b"rcu_barrier() ",
        unbalanced: b"rcu_read_unlock_notrace() without rcu_read_lock_notrace()",
        worker: c"rcu_notrace",
    },
);

/// The flavour of `rcu_read_lock_trace()`, for sections that may block for long.
pub static TRACE: Flavour = Flavour::new(
    TRACE_INDEX,
    Names {
        synchronize: b"synchronize_rcu_tasks_trace() ",
        call: b"call_rcu_tasks_trace() ",
        barrier: b"rcu_barrier_tasks_trace() ",
        unbalanced: b"rcu_read_unlock_trace() without rcu_read_lock_trace()",
        worker: c"rcu_tasks_trace",
    },
);

/// All of them, by their index.
pub static ALL: [&Flavour; FLAVOURS] = [&NOTRACE, &TRACE];

impl Flavour {
    /// Its name, for probes.
    pub fn name(&self) -> event::Text {
        self.names.worker.as_ptr()
    }

    const fn new(index: usize, names: Names) -> Self {
        Flavour {
            index,
            names,
            registry: Registry::new(index),
            transient: Transient::new(),
            holdouts: Countdown::new(),
            boost: Boost::new(),
            seq: Seq::new(),
            leader: PiLock::new(),
            urgent: AtomicU32::new(0),
            last_wait: AtomicU64::new(0),
            callers: AtomicU32::new(0),
            ended: AtomicU32::new(0),
            sleepers: AtomicU32::new(0),
            callbacks: Callbacks::new(),
            stats: Counters::new(),
        }
    }

    /// Ends the process with a message if the current thread is in no section.
    pub fn check_unlock(&self) {
        let reader = self.reader();
        if !reader.state(self).in_section() {
            reader::unbalanced(reader, self);
        }
    }

    /// This thread's reader.
    ///
    /// The reference is good for as long as the thread lives; nothing here lets it leave the
    /// thread but by the registry, which a thread leaves before its TLS goes.
    #[inline(always)]
    pub fn reader(&self) -> &'static Reader {
        sys::reader(if broken!("flavour-reader") { NOTRACE_INDEX } else { self.index })
    }
}
