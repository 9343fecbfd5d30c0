//! The Rust API under load: readers and a writer on one protected value.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rcu_notrace::{guard, read, read_lock_held, set_ipi_mode, Cookie, IpiMode, Rcu};

/// The IPI mode is the process's: tests that choose one take turns.
static MODE: Mutex<()> = Mutex::new(());

fn modes() -> (MutexGuard<'static, ()>, [IpiMode; 3]) {
    let turn = MODE.lock().unwrap_or_else(PoisonError::into_inner);
    (turn, [IpiMode::Auto, IpiMode::Signal, IpiMode::Membarrier])
}

/// Overwrites itself when it is dropped, so that a reader that still holds it sees that.
struct Canary {
    value: AtomicU64,
    check: AtomicU64,
}

impl Canary {
    fn new(value: u64) -> Self {
        Canary { value: AtomicU64::new(value), check: AtomicU64::new(!value) }
    }

    fn is_alive(&self) -> bool {
        self.value.load(Relaxed) == !self.check.load(Relaxed)
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.value.store(0xdead, Relaxed);
        self.check.store(0xdead, Relaxed);
    }
}

#[test]
fn readers_never_see_a_value_that_was_dropped() {
    let (_turn, modes) = modes();
    for mode in modes {
        if !set_ipi_mode(mode) {
            println!("SKIP: mode {mode:?} is refused here");
            continue;
        }
        let protected = Rcu::new(Canary::new(1));
        let stop = AtomicBool::new(false);
        let (sections, replaced) = (AtomicU64::new(0), AtomicU64::new(0));
        let before = rcu_notrace::stats();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !stop.load(Relaxed) {
                        guard!(section);
                        let canary = protected.load(section);
                        assert!(canary.is_alive());
                        read(|inner| assert!(protected.load(inner).is_alive()));
                        std::hint::spin_loop();
                        assert!(canary.is_alive());
                        sections.fetch_add(2, Relaxed);
                    }
                });
            }
            let end = Instant::now() + Duration::from_millis(500);
            while Instant::now() < end {
                drop(protected.replace(Canary::new(replaced.fetch_add(1, Relaxed))));
                // And without waiting: the worker drops the old one.
                protected.set(Canary::new(replaced.fetch_add(1, Relaxed)));
            }
            stop.store(true, Relaxed);
        });
        rcu_notrace::rcu_barrier();
        let after = rcu_notrace::stats();
        println!(
            "{mode:?}: {} sections, {} values, {} grace periods, {} holdouts, {} IPIs",
            sections.load(Relaxed),
            replaced.load(Relaxed),
            after.grace_periods - before.grace_periods,
            after.holdouts - before.holdouts,
            after.ipis - before.ipis,
        );
        assert!(sections.load(Relaxed) > 100 && replaced.load(Relaxed) > 10);
        assert!(after.grace_periods > before.grace_periods);
    }
    set_ipi_mode(IpiMode::Auto);
}

#[test]
fn a_panic_in_a_section_ends_it() {
    let caught = std::panic::catch_unwind(|| {
        read(|_| {
            assert!(read_lock_held());
            std::panic::resume_unwind(Box::new("out"));
        })
    });
    assert!(caught.is_err());
    assert!(!read_lock_held());
    rcu_notrace::synchronize_rcu();
}

#[test]
fn a_cookie_is_due_after_a_grace_period_and_not_before() {
    // Another test's grace periods may pass meanwhile; none can while this section is open.
    let cookie = read(|_| {
        let cookie = Cookie::now();
        thread::sleep(Duration::from_millis(20));
        assert!(!cookie.poll());
        cookie
    });
    cookie.wait();
    assert!(cookie.poll());
}

#[test]
fn callbacks_run_once_each_in_order_and_rcu_barrier_waits_for_them() {
    let order = std::sync::Arc::new(Mutex::new(Vec::new()));
    read(|_| {
        for number in 0..1000 {
            let order = order.clone();
            rcu_notrace::call_rcu(move || order.lock().unwrap().push(number));
        }
        thread::sleep(Duration::from_millis(20));
        assert!(order.lock().unwrap().is_empty(), "a callback ran before the section ended");
    });
    rcu_notrace::rcu_barrier();
    assert!(order.lock().unwrap().iter().copied().eq(0..1000));
}

#[test]
fn a_started_cookie_comes_due_by_itself() {
    // The worker exists once somebody has waited for callbacks.
    rcu_notrace::call_rcu(|| {});
    rcu_notrace::rcu_barrier();
    let cookie = Cookie::start();
    let end = Instant::now() + Duration::from_secs(10);
    while !cookie.poll() {
        assert!(Instant::now() < end, "nobody ran a grace period");
        thread::sleep(Duration::from_millis(1));
    }
}
