// SPDX-License-Identifier: MIT OR Apache-2.0
//! The trace's clock: which it is, what time it is, and how long a tick is.

use std::time::Duration;

use rustix::time::{clock_gettime, ClockId};

use crate::file::{Clock, Header, Moment};

/// A base long enough that reading both clocks, some 50 ns apart at worst, errs by 5 in a million.
const CALIBRATION: Duration = Duration::from_millis(10);

/// The time stamp counter if it runs always and everywhere at one rate.
pub fn best() -> Clock {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut flags = text.lines().filter(|line| line.starts_with("flags")).peekable();
    let all = |line: &str| {
        ["constant_tsc", "nonstop_tsc"].iter().all(|flag| line.split(' ').any(|word| word == *flag))
    };
    let usable = cfg!(target_arch = "x86_64") && flags.peek().is_some() && flags.all(all);
    match usable {
        true => Clock::Tsc,
        false => Clock::Monotonic,
    }
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(target_arch = "x86_64")]
fn time_stamp() -> u64 {
    // SAFETY: the instruction is part of every x86-64 processor and touches no memory.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn time_stamp() -> u64 {
    0
}

/// The present moment. Of some readings of both clocks, the one that was interrupted least.
pub fn now(clock: Clock) -> Moment {
    let realtime_ns = nanoseconds(ClockId::Realtime);
    if clock == Clock::Monotonic {
        let now = nanoseconds(ClockId::Monotonic);
        return Moment { ticks: now, monotonic_ns: now, realtime_ns };
    }
    let readings = (0..8).map(|_| {
        let before = time_stamp();
        let monotonic_ns = nanoseconds(ClockId::Monotonic);
        let took = time_stamp().wrapping_sub(before);
        (took, Moment { ticks: before.wrapping_add(took / 2), monotonic_ns, realtime_ns })
    });
    readings.min_by_key(|(took, _)| *took).map(|(_, moment)| moment).unwrap_or_default()
}

/// Two moments far enough apart to tell the length of a tick, for a new file's header.
pub fn calibrate(clock: Clock) -> (Moment, Moment) {
    let start = now(clock);
    if clock == Clock::Monotonic {
        return (start, start);
    }
    std::thread::sleep(CALIBRATION);
    (start, now(clock))
}

/// From ticks to nanoseconds, by a header's two moments.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    start: u64,
    ns_per_tick: f64,
    guessed: bool,
}

impl Scale {
    /// A header's.
    pub fn new(header: &Header) -> Self {
        let ticks = header.now.ticks.wrapping_sub(header.start.ticks) as i64;
        let ns = header.now.monotonic_ns.wrapping_sub(header.start.monotonic_ns) as i64;
        let measured = ns as f64 / ticks as f64;
        let sane = ticks > 0 && ns > 0 && (1e-3..=1e6).contains(&measured);
        let ns_per_tick = match header.clock {
            Clock::Monotonic => 1.0,
            Clock::Tsc if sane => measured,
            Clock::Tsc => 1.0,
        };
        let guessed = header.clock == Clock::Tsc && !sane;
        Scale { start: header.start.ticks, ns_per_tick, guessed }
    }

    /// The moments do not tell.
    pub fn guessed(&self) -> bool {
        self.guessed
    }

    /// A duration, in ns.
    #[inline]
    pub fn duration(&self, ticks: u64) -> u64 {
        (ticks as f64 * self.ns_per_tick) as u64
    }

    /// A time, in ns after the file was created.
    #[inline]
    pub fn since_start(&self, time: u64) -> i64 {
        (time.wrapping_sub(self.start) as i64 as f64 * self.ns_per_tick) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_milliseconds_are_measured_as_ten_milliseconds() {
        let clock = best();
        let (start, now) = calibrate(clock);
        if clock == Clock::Tsc {
            let took = now.monotonic_ns - start.monotonic_ns;
            assert!((10_000_000..1_000_000_000).contains(&took), "{took}");
            assert!(now.ticks > start.ticks);
        }
    }
}
