//! The barrier of last resort: what the kernel's scheduler says of one thread (SCHEDULED).
//!
//! A thread that was taken off its processor has passed a full barrier: all its stores are visible,
//! and when it comes back its loads see what was stored before. The kernel tells in two ways:
//!
//! * `/proc/self/task/TID/syscall` names the system call that a thread sleeps in, having made sure
//!   under the scheduler's lock that it is off its processor. It says `running` otherwise.
//! * `status` counts how often the thread was taken off. A count that grew by one may belong to a
//!   barrier from before the first look, whose count was on its way; when it grew by two, the
//!   second time began after the first was counted, and so after that look.
//!
//! It is for readers that block the IPI signal where membarrier is refused, so it may be slow. A
//! thread that neither sleeps nor is preempted is waited for until it is.

use crate::{proc, sys};

/// What to compare with later: the count, plus two; 1 if the kernel does not tell; never 0. The caller
/// has executed a full fence since it flagged the thread.
pub fn mark(tid: i32) -> u32 {
    times_off(tid).map_or(UNKNOWN, |times| (times as u32).wrapping_add(2).max(2))
}

const UNKNOWN: u32 = 1;

/// Whether the thread was off its processor at some moment after that mark was made. False is no
/// answer.
pub fn was_off_since(tid: i32, mark: u32) -> bool {
    broken!("scheduler-mark")
        || is_off(tid)
        || times_off(tid).is_some_and(|times| {
            let more = (times as u32).wrapping_add(2).wrapping_sub(mark);
            mark != UNKNOWN && (2..1 << 31).contains(&more)
        })
}

fn is_off(tid: i32) -> bool {
    // Of the caller itself it names the call that reads.
    if tid == sys::gettid() {
        return false;
    }
    // Seen through the status first, whether that /proc is ours.
    let call = proc::status(tid).and_then(|_| proc::first_line(tid, b"syscall"));
    call.is_some_and(|call| !call.text().is_empty() && !call.text().starts_with(b"running"))
}

fn times_off(tid: i32) -> Option<u64> {
    proc::status(tid)?.switches
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};
    use std::time::Duration;

    #[test]
    fn a_thread_that_sleeps_was_off_and_one_that_has_not_slept_since_was_not() {
        static TID: AtomicI32 = AtomicI32::new(0);
        static GO: AtomicBool = AtomicBool::new(false);
        let thread = std::thread::spawn(|| {
            TID.store(crate::sys::gettid(), SeqCst);
            while !GO.load(SeqCst) {
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        while TID.load(SeqCst) == 0 {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(20));
        let tid = TID.load(SeqCst);
        assert!(was_off_since(tid, mark(tid)));
        GO.store(true, SeqCst);
        thread.join().unwrap();
        // This thread runs, and reads of itself: a call of `read`, not a sleep. The kernel answers
        // that with the call's number; the count is what is asked here.
        let me = crate::sys::gettid();
        let before = times_off(me).unwrap();
        std::thread::sleep(Duration::from_millis(1));
        std::thread::sleep(Duration::from_millis(1));
        assert!(times_off(me).unwrap() >= before + 2);
    }

    #[test]
    fn a_thread_that_is_gone_says_nothing() {
        assert_eq!(mark(i32::MAX), UNKNOWN);
        assert!(!was_off_since(i32::MAX, 1));
    }
}
