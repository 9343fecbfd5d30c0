//! What the library counted, none of it on the read side's fast path.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::bug::{self, Decimal};
use crate::flavour::{Flavour, ALL};
use crate::{start, sys, tracepoint};

macro_rules! counters {
    ($($name:ident,)*) => {
        /// The counters of a flavour, live.
        pub struct Counters {
            $(pub $name: AtomicU64,)*
            waits: [AtomicU64; RCU_NOTRACE_WAITS],
        }

        impl Counters {
            /// All zero.
            pub const fn new() -> Self {
                Counters {
                    $($name: AtomicU64::new(0),)*
                    waits: [const { AtomicU64::new(0) }; RCU_NOTRACE_WAITS],
                }
            }

            fn read(&self) -> rcu_notrace_stats {
                rcu_notrace_stats {
                    $($name: self.$name.load(Relaxed),)*
                    waits: core::array::from_fn(|index| self.waits[index].load(Relaxed)),
                    ..Default::default()
                }
            }
        }

        impl rcu_notrace_stats {
            fn each(&self, mut visit: impl FnMut(&str, u64)) {
                let all = [
                    $((stringify!($name), self.$name),)*
                    ("callbacks_queued", self.callbacks_queued),
                    ("callbacks_run", self.callbacks_run),
                ];
                for (name, value) in all {
                    visit(name, value);
                }
            }
        }
    };
}

counters! {
    grace_periods,
    shared,
    barriers,
    ipis,
    holdouts,
    rescues,
    reports_by_section,
    reports_by_handler,
    wakes,
    parks,
    transient_waits,
    died,
    boosts,
    unboosts,
    stalls,
    callbacks_slowed,
    spin_ns,
}

/// How many classes of waiting times there are.
pub const RCU_NOTRACE_WAITS: usize = 16;

/// Counters since the process started (a forked child goes on from its parent's).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(non_camel_case_types)]
pub struct rcu_notrace_stats {
    /// Grace periods run.
    pub grace_periods: u64,
    /// Callers of `synchronize_rcu()` that found another caller's grace period enough.
    pub shared: u64,
    /// membarrier(2) calls.
    pub barriers: u64,
    /// IPIs (signals) sent.
    pub ipis: u64,
    /// Readers that a grace period had to ask for a quiescent state.
    pub holdouts: u64,
    /// Holdouts that did not answer an IPI and were flagged remotely.
    pub rescues: u64,
    /// Requests answered by the end of a section.
    pub reports_by_section: u64,
    /// Requests answered by the IPI handler, between sections.
    pub reports_by_handler: u64,
    /// Reports that had to wake a sleeping waiter (one system call each).
    pub wakes: u64,
    /// Idle threads taken out of the waiters' sight until their next section.
    pub parks: u64,
    /// Grace periods that found sections of threads that are not registered (yet, or any more).
    pub transient_waits: u64,
    /// Threads whose exit was not seen (a raw exit system call), found dead.
    pub died: u64,
    /// Holdouts that were lent a real-time waiter's priority.
    pub boosts: u64,
    /// Loans that were given back by the end of a section.
    pub unboosts: u64,
    /// Reports of grace periods that take too long.
    pub stalls: u64,
    /// Calls of `call_rcu()` that slept because too many callbacks wait.
    pub callbacks_slowed: u64,
    /// Nanoseconds that waiters spent spinning.
    pub spin_ns: u64,
    /// Grace periods by how long readers were in the way, in microseconds: [0] not at all,
    /// [n] less than 4^(n-1) (n from 1 on), the last longer.
    pub waits: [u64; RCU_NOTRACE_WAITS],
    /// Callbacks that were queued.
    pub callbacks_queued: u64,
    /// Callbacks that were called.
    pub callbacks_run: u64,
}

/// The class of a waiting time.
fn class_of(ns: u64) -> usize {
    let us = ns / 1000;
    // 0: 1, 1 to 3: 2, 4 to 15: 3, and so on.
    let class = 1 + (u64::BITS - us.leading_zeros()).div_ceil(2) as usize;
    class.min(RCU_NOTRACE_WAITS - 1)
}

impl Counters {
    /// Enters a grace period that waited for readers; `None`: nobody was in the way. By the one
    /// thread that ran it.
    pub fn book_wait(&self, waited: Option<u64>, spun: u64) {
        count(&self.grace_periods);
        if let Some(class) = self.waits.get(waited.map_or(0, class_of)) {
            count(class);
        }
        self.spin_ns.store(self.spin_ns.load(Relaxed).wrapping_add(spun), Relaxed);
    }
}

impl Flavour {
    /// The counters, each as it is now; not one moment's picture.
    pub fn stats(&self) -> rcu_notrace_stats {
        // In this order, so that none seems to have run before it was queued.
        let (_, callbacks_run) = self.callbacks.counts();
        let (callbacks_queued, _) = self.callbacks.counts();
        rcu_notrace_stats { callbacks_queued, callbacks_run, ..self.stats.read() }
    }
}

/// The counters are to be printed at exit.
static WANTED: AtomicBool = AtomicBool::new(false);

/// Hooks into exit. Once.
pub fn start() {
    // SAFETY: the function stays loaded (-z nodelete).
    unsafe { libc::atexit(at_exit) };
}

extern "C" fn at_exit() {
    if WANTED.load(Relaxed) {
        print();
    }
}

/// Has the counters printed at exit if `RCU_NOTRACE_STATS` is 1.
pub fn configure() {
    match start::environment(c"RCU_NOTRACE_STATS") {
        None | Some(b"" | b"0") => {}
        Some(b"1") => WANTED.store(true, Relaxed),
        Some(other) => bug::warn(&[b"RCU_NOTRACE_STATS=", other, b" is neither 0 nor 1; using 0"]),
    }
}

/// One line a counter, with the process's id (children of a fork print theirs); of the first
/// flavour, of others that were used, and of tracepoints if there are any.
fn print() {
    let process = Decimal::new(sys::getpid() as u64);
    for flavour in ALL {
        let stats = flavour.stats();
        if flavour.index != 0 && stats == rcu_notrace_stats::default() {
            continue;
        }
        let of = if flavour.index == 0 { b": ".as_slice() } else { b": tasks_trace " };
        stats.each(|name, value| {
            let value = Decimal::new(value);
            bug::warn(&[process.text(), of, name.as_bytes(), b" ", value.text()]);
        });
        let mut less_than = 1;
        for (class, grace_periods) in stats.waits.iter().enumerate() {
            let number = Decimal::new(*grace_periods);
            let limit = Decimal::new(less_than);
            let (what, limit) = match class {
                0 => (b"waits_for_nobody ".as_slice(), b"".as_slice()),
                _ if class == RCU_NOTRACE_WAITS - 1 => {
                    (b"waits_longer ".as_slice(), b"".as_slice())
                }
                _ => (b"waits_below_us ".as_slice(), limit.text()),
            };
            if class > 0 {
                less_than *= 4;
            }
            if *grace_periods != 0 {
                let blank = if limit.is_empty() { b"".as_slice() } else { b" " };
                bug::warn(&[process.text(), of, what, limit, blank, number.text()]);
            }
        }
    }
    tracepoint::each_counter(|name, value| {
        bug::warn(&[process.text(), b": ", name.as_bytes(), b" ", Decimal::new(value).text()]);
    });
}

/// Adds one, where only one thread at a time does so.
pub fn count(counter: &AtomicU64) {
    counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_of_waits_is_four_times_as_long_as_the_one_before() {
        for (us, class) in [(0, 1), (1, 2), (3, 2), (4, 3), (15, 3), (16, 4), (63, 4), (64, 5)] {
            assert_eq!(class_of(us * 1000), class, "{us}");
        }
        assert_eq!(class_of(u64::MAX), RCU_NOTRACE_WAITS - 1);
    }
}
