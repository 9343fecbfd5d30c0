//! What sleeps and wakes: a [`Countdown`] that readers finish and a waiter awaits, and the
//! [`Lock`] of waiters among themselves.
//!
//! Both call the kernel inline: a probe on `pthread_mutex_lock` must not see RCU's own locks.

use core::ptr;
use core::sync::atomic::{
    AtomicBool, AtomicU32,
    Ordering::{Acquire, Relaxed, SeqCst},
};

use super::clock::{deadline, has_passed, monotonic_ns, timespec};
use super::{futex, futex_bitset, sleep_ns, Answer};

/// Whether the kernel, or a sandbox, has refused futex(2).
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Whether futex(2) was refused so far: then sleepers wake up by themselves, and those who fell asleep
/// before may not be woken.
pub fn is_refused() -> bool {
    REFUSED.load(Relaxed)
}

/// Who waits for something that is certain to come looks after it this often all the same: a sandbox that is
/// entered meanwhile may keep others from waking it.
pub const LONGEST_SLEEP_NS: u64 = 1_000_000_000;

/// How long somebody sleeps who cannot sleep on a word.
const BLIND_NS: u32 = 200_000;

/// Sleeps while the word holds `value`, at most `timeout_ns` (0: no limit).
pub fn wait(word: &AtomicU32, value: u32, timeout_ns: u64) {
    let limit = timespec(timeout_ns);
    let limit = if timeout_ns == 0 { ptr::null() } else { &raw const limit };
    let answer = futex(word, libc::FUTEX_WAIT, value, limit);
    if answer == -(libc::ETIMEDOUT as isize) {
        has_passed(timeout_ns);
    }
    sleep_if_refused(answer, word, value);
}

/// An error while the word has not changed is a refusal, whatever it is called: not to be asked again at
/// once, and for ever.
fn sleep_if_refused(answer: Answer, word: &AtomicU32, value: u32) {
    let error = -answer as i32;
    if answer < 0 && !matches!(error, libc::EINTR | libc::ETIMEDOUT) && word.load(Relaxed) == value
    {
        // It may have changed, and changed back.
        if error != libc::EAGAIN {
            REFUSED.store(true, Relaxed);
        }
        sleep_ns(BLIND_NS);
    }
}

/// Wakes everybody who sleeps on the word. False if that is refused.
#[inline(always)]
pub fn wake_all(word: &AtomicU32) -> bool {
    let woken = futex(word, libc::FUTEX_WAKE, i32::MAX as u32, ptr::null()) >= 0;
    if !woken {
        REFUSED.store(true, Relaxed);
    }
    woken
}

const FUTEX_LOCK_PI2: i32 = 13;

/// Locks a priority-inheriting futex, in at most `timeout_ns`: while the caller sleeps, the thread
/// whose id the word holds has the caller's priority.
pub fn lock_pi(word: &AtomicU32, timeout_ns: u64) -> Result<(), i32> {
    let limit = deadline(libc::CLOCK_MONOTONIC, timeout_ns);
    let mut answer = futex(word, FUTEX_LOCK_PI2, 0, &raw const limit);
    if answer == -(libc::ENOSYS as isize) {
        // Before Linux 5.14 only by the clock of the day.
        let limit = deadline(libc::CLOCK_REALTIME, timeout_ns);
        answer = futex(word, libc::FUTEX_LOCK_PI, 0, &raw const limit);
    }
    match answer {
        0 => Ok(()),
        error => Err(-error as i32),
    }
}

/// Unlocks it, if it is the caller's, whose id is `tid`; wakes who sleeps for it. False if that is refused.
#[inline(always)]
pub fn unlock_pi(word: &AtomicU32, tid: u32) -> bool {
    word.compare_exchange(tid, 0, SeqCst, Relaxed).is_ok()
        || futex(word, libc::FUTEX_UNLOCK_PI, 0, ptr::null()) == 0
}

/// A number of things still open, and in its top bit whether somebody sleeps until it is zero.
pub struct Countdown(AtomicU32);

const SLEEPER: u32 = 1 << 31;

impl Countdown {
    /// Nothing open, nobody asleep.
    pub const fn new() -> Self {
        Countdown(AtomicU32::new(0))
    }

    /// One more is open. A full fence.
    #[inline(always)]
    pub fn add(&self) {
        if broken!("count-atomic") {
            let open = self.0.load(Relaxed);
            widen!("count-atomic", 2);
            return self.0.store(open.wrapping_add(1), Relaxed);
        }
        self.0.fetch_add(1, SeqCst);
    }

    /// One is done; true if that took a system call, because it was the last and somebody slept.
    /// A full fence, before the count changes.
    #[inline(always)]
    pub fn finish(&self) -> bool {
        let last = self.0.fetch_sub(1, SeqCst) == SLEEPER | 1 && !broken!("report-wake");
        if last {
            wake_all(&self.0);
        }
        last
    }

    /// Wakes the sleeper, if there is one, to look again.
    pub fn nudge(&self) {
        if self.0.load(SeqCst) & SLEEPER != 0 {
            wake_all(&self.0);
        }
    }

    /// How many are open.
    pub fn open(&self) -> u32 {
        self.0.load(SeqCst) & !SLEEPER
    }

    /// Spins until nothing is open, for about `spin_ns` at most. True if nothing is.
    pub fn spin(&self, spin_ns: u64) -> bool {
        let start = monotonic_ns();
        loop {
            for _ in 0..32 {
                if self.open() == 0 {
                    return true;
                }
                core::hint::spin_loop();
            }
            if monotonic_ns().wrapping_sub(start) >= spin_ns {
                return self.open() == 0;
            }
        }
    }

    /// Sleeps until nothing is open, for `timeout_ns` at most. True if nothing is. One waiter at a
    /// time.
    pub fn sleep(&self, timeout_ns: u64) -> bool {
        let too_early = broken!("sleep-order") && self.open() != 0;
        widen!("sleep-order", 2000);
        let seen = self.0.fetch_or(SLEEPER, SeqCst) | SLEEPER;
        if seen != SLEEPER || too_early {
            wait(&self.0, seen, timeout_ns);
        }
        self.0.fetch_and(!SLEEPER, SeqCst) & !SLEEPER == 0
    }

    /// Forgets all but `open`: for the only thread of a forked child.
    pub fn reset(&self, open: u32) {
        self.0.store(open, SeqCst);
    }
}

/// Mutual exclusion of callers whose priority may be worth lending: the holder's thread id, and
/// whether any of them waits. The kernel lends their priority to the holder.
pub struct PiLock(AtomicU32);

/// How waiting for a [`PiLock`] ended.
#[derive(PartialEq)]
pub enum Waited {
    /// The caller holds it.
    Acquired,
    /// Time ran out.
    InVain,
    /// There is no waiting in this way.
    Refused,
}

impl PiLock {
    /// Free.
    pub const fn new() -> Self {
        PiLock(AtomicU32::new(0))
    }

    /// Takes it if it is free, for the calling thread, whose id is `me`.
    pub fn try_lock(&self, me: u32) -> bool {
        self.0.load(Relaxed) == 0 && self.0.compare_exchange(0, me, SeqCst, Relaxed).is_ok()
    }

    /// Whether somebody has it.
    pub fn is_taken(&self) -> bool {
        self.0.load(SeqCst) != 0
    }

    /// Whether somebody lends the holder a priority, or is about to.
    pub fn is_lent(&self) -> bool {
        self.0.load(Relaxed) & libc::FUTEX_WAITERS != 0
    }

    /// Takes it, lending the caller's priority to whoever has it meanwhile, for `timeout_ns` at most.
    /// Once the holder can see that it is lent something, `tell` is called.
    pub fn lock(&self, timeout_ns: u64, tell: impl FnOnce()) -> Waited {
        let holder = self.0.load(SeqCst) & libc::FUTEX_TID_MASK;
        let lent = holder | libc::FUTEX_WAITERS;
        // As the kernel does in a moment; it unlocks right, too, if nobody came to wait.
        if holder != 0 && self.0.compare_exchange(holder, lent, SeqCst, SeqCst) != Err(0) {
            tell();
        }
        match lock_pi(&self.0, timeout_ns) {
            Ok(()) => Waited::Acquired,
            Err(libc::ETIMEDOUT) => Waited::InVain,
            Err(_) => Waited::Refused,
        }
    }

    /// Gives it to the caller of the highest priority that waits in [`lock`](Self::lock), if any. A
    /// full fence.
    pub fn unlock(&self, me: u32) {
        if !unlock_pi(&self.0, me) && !broken!("unlock-refused") {
            // A sandbox's doing. It is ours, so it is free now; those who sleep for it do so for a while only.
            self.0.store(0, SeqCst);
        }
    }

    /// Frees it: for the only thread of a forked child.
    pub fn reset(&self) {
        self.0.store(0, SeqCst);
    }
}

/// Mutual exclusion in order of arrival: tickets, and the one being served.
///
/// In order, because grace periods may come back to back: a thread that wants to exit would
/// otherwise find the registry taken whenever it wakes up.
pub struct Lock {
    next: AtomicU32,
    serving: AtomicU32,
}

/// Sleepers are woken by their ticket's bit: one in 32 of them at a time.
fn bit_of(ticket: u32) -> u32 {
    1 << (ticket % 32)
}

impl Lock {
    /// Free.
    pub const fn new() -> Self {
        Lock { next: AtomicU32::new(0), serving: AtomicU32::new(0) }
    }

    /// Takes it if it is free.
    pub fn try_lock(&self) -> bool {
        let serving = self.serving.load(Acquire);
        self.next.compare_exchange(serving, serving.wrapping_add(1), SeqCst, Relaxed).is_ok()
    }

    /// Takes it: spins a little, then sleeps.
    pub fn lock(&self) {
        let ticket = self.next.fetch_add(1, SeqCst);
        let mut spins = 100;
        loop {
            let serving = self.serving.load(Acquire);
            if serving == ticket {
                return;
            }
            if spins > 0 {
                spins -= 1;
                core::hint::spin_loop();
            } else {
                let limit = deadline(libc::CLOCK_MONOTONIC, LONGEST_SLEEP_NS);
                let bit = bit_of(ticket);
                let answer = futex_bitset(
                    &self.serving,
                    libc::FUTEX_WAIT_BITSET,
                    serving,
                    &raw const limit,
                    bit,
                );
                sleep_if_refused(answer, &self.serving, serving);
                if answer == -(libc::ETIMEDOUT as isize) {
                    // At once, if the clock that we read is behind the kernel's: no reason to spin.
                    sleep_ns(BLIND_NS);
                }
            }
        }
    }

    /// Gives it to whoever comes next.
    pub fn unlock(&self) {
        let too_early = broken!("lock-wake-order") && {
            self.next.load(SeqCst) == self.serving.load(Relaxed).wrapping_add(1)
        };
        widen!("lock-wake-order", 50);
        let next = self.serving.fetch_add(1, SeqCst).wrapping_add(1);
        if self.next.load(SeqCst) != next && !too_early {
            let (bit, everybody) = (bit_of(next), i32::MAX as u32);
            if futex_bitset(&self.serving, libc::FUTEX_WAKE_BITSET, everybody, ptr::null(), bit) < 0
            {
                REFUSED.store(true, Relaxed);
            }
        }
    }

    /// Forgets who waits for it, and who holds it unless that is the caller: for the only thread of a
    /// forked child.
    pub fn reset(&self, is_mine: bool) {
        self.serving.store(0, SeqCst);
        self.next.store(u32::from(is_mine), SeqCst);
    }
}
