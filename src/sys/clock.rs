//! Time, for waiters: by libc's clock, which needs no system call, as long as that can be believed.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use super::arch;

/// What the clock said last, or a little before; where it is refused, what is known to have passed since.
static LAST: AtomicU64 = AtomicU64::new(0);

/// Whether it was refused when last asked.
static CLOCKLESS: AtomicBool = AtomicBool::new(false);

/// So much more than [`LAST`] the clock may have said: it is stored that seldom.
const STEP_NS: u64 = 1_000_000;

/// Where the clock is refused, a look at it is taken for so long: nobody may wait for a time that does not come.
const LOOK_NS: u64 = 1000;

/// How many looks in a row were within a step, about.
static STILL: AtomicU32 = AtomicU32::new(0);

/// After so many that saw [`LAST`] itself, or less, the clock stands still: somebody has put one of his own in the place of
/// libc's (libfaketime), or this is an earlier time namespace. No harm is done if it is a coarse one.
const MOST_STILL: u32 = 100;

/// What is added to the kernel's clock, which is asked then in the place of libc's; 0: it is not.
static AHEAD: AtomicU64 = AtomicU64::new(0);

/// CLOCK_MONOTONIC in nanoseconds, by the vDSO. For waiters only: it is libc's function. Where it is refused
/// (a sandbox, and no vDSO) looks and sleeps are counted, from what it said last; where it stands still, or goes back, the
/// kernel's goes on from there.
pub fn monotonic_ns() -> u64 {
    let ahead = AHEAD.load(Relaxed);
    if ahead != 0 {
        if let Some(now) = kernel_clock_ns(libc::CLOCK_MONOTONIC) {
            return now.wrapping_add(ahead);
        }
    }
    let last = LAST.load(Relaxed);
    let Some(now) = clock_ns(libc::CLOCK_MONOTONIC) else {
        CLOCKLESS.store(true, Relaxed);
        return LAST.fetch_add(LOOK_NS, Relaxed) + STEP_NS + LOOK_NS;
    };
    if now > last + STEP_NS {
        LAST.fetch_max(now, Relaxed);
        if CLOCKLESS.load(Relaxed) {
            CLOCKLESS.store(false, Relaxed);
        }
        if STILL.load(Relaxed) != 0 {
            STILL.store(0, Relaxed);
        }
    } else {
        let still = STILL.load(Relaxed) + 1;
        STILL.store(still % MOST_STILL, Relaxed);
        if still == MOST_STILL {
            look_whether_it_goes(last, now);
        }
    }
    now.max(last)
}

/// After many looks within one step: if it goes, the next ones tell.
#[cold]
fn look_whether_it_goes(last: u64, now: u64) {
    if now > last {
        LAST.fetch_max(now, Relaxed);
    } else if let (Some(now), false) =
        (kernel_clock_ns(libc::CLOCK_MONOTONIC), broken!("clock-still"))
    {
        // Never 0; and once, or time might go back.
        let _ = AHEAD.compare_exchange(0, last.wrapping_sub(now) | 1, Relaxed, Relaxed);
    }
}

/// The caller slept so long.
pub fn has_passed(ns: u64) {
    if CLOCKLESS.load(Relaxed) {
        LAST.fetch_add(ns, Relaxed);
    }
}

/// The same by a system call.
fn kernel_clock_ns(clock: libc::clockid_t) -> Option<u64> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let (clock, to) = (clock as usize, &raw mut now as usize);
    // SAFETY: the kernel writes into a live local.
    let answer = unsafe { arch::syscall3(libc::SYS_clock_gettime, clock, to, 0) };
    (answer == 0).then(|| nanoseconds(&now))
}

fn nanoseconds(time: &libc::timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn clock_ns(clock: libc::clockid_t) -> Option<u64> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes into a live local.
    let answer = unsafe { libc::clock_gettime(clock, &raw mut now) };
    (answer == 0).then(|| nanoseconds(&now))
}

/// A time of the kernel's clock, so much later than now.
pub fn deadline(clock: libc::clockid_t, ns: u64) -> libc::timespec {
    let is_false = AHEAD.load(Relaxed) != 0;
    let now = if is_false { kernel_clock_ns(clock) } else { clock_ns(clock) };
    timespec(now.unwrap_or_else(monotonic_ns).wrapping_add(ns))
}

/// As the kernel has it.
pub fn timespec(ns: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: (ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (ns % 1_000_000_000) as libc::c_long,
    }
}
