// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which thread holds which lock since when: acquisitions matched with releases.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::file::kind;
use crate::merge::Event;
use crate::schema::Bindings;
use crate::sites::Sites;
use crate::trace::Trace;

#[derive(Clone, Copy, Debug)]
enum What {
    Acquire,
    Release,
    Failed,
    Wait,
    Signal,
}

/// A stretch of time in which a lock was held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// When it began.
    pub since: u64,
    /// When it ended.
    pub until: u64,
    /// Who acquired it.
    pub site: u32,
}

/// What an event meant. Times are in ticks; `site` is the caller.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// A lock was acquired.
    Acquired {
        /// The lock's address.
        lock: u64,
        /// Mutex, reading, writing, spin.
        kind: u64,
        /// Before it was had; 0: it was free.
        wait: u64,
        /// Who.
        site: u32,
        /// Not by a thread that holds it already.
        first: bool,
    },
    /// A lock was released.
    Released {
        /// The lock's address.
        lock: u64,
        /// None: still held by an outer acquisition, or its acquisition was not seen.
        hold: Option<Hold>,
        /// Its acquisition was not seen.
        unmatched: bool,
    },
    /// A lock could not be had.
    Failed {
        /// The lock's address.
        lock: u64,
        /// Mutex, reading, writing, spin.
        kind: u64,
        /// Before it was given up.
        wait: u64,
        /// Who.
        site: u32,
    },
    /// A wait on a condition variable is over, and the lock is had again.
    Waited {
        /// The condition variable's address.
        cond: u64,
        /// The lock's address.
        lock: u64,
        /// How long.
        wait: u64,
        /// What it answered; 0: it was woken.
        result: u64,
        /// Who.
        site: u32,
        /// The stretch before the wait.
        hold: Option<Hold>,
    },
    /// A condition variable was signalled.
    Signalled {
        /// The condition variable's address.
        cond: u64,
        /// All that wait were.
        broadcast: bool,
    },
}

#[derive(Clone, Copy, Debug)]
struct Held {
    depth: u32,
    since: u64,
    site: u32,
}

/// Who holds what.
#[derive(Debug)]
pub struct Locks {
    bindings: Bindings<What>,
    held: HashMap<(u32, u64), Held, RandomState>,
    /// Who called.
    pub sites: Sites,
}

impl Locks {
    /// Nothing is held.
    pub fn new(trace: &Trace) -> Self {
        let known: [(What, &str, &[&str]); 5] = [
            (What::Acquire, "locks:acquire", &["lock", "kind", "wait", "caller"]),
            (What::Release, "locks:release", &["lock"]),
            (What::Failed, "locks:failed", &["lock", "kind", "wait", "caller"]),
            (What::Wait, "locks:wait", &["cond", "lock", "wait", "caller", "result"]),
            (What::Signal, "locks:signal", &["cond", "broadcast"]),
        ];
        Locks {
            bindings: Bindings::new(&trace.types, &known),
            held: HashMap::default(),
            sites: Sites::default(),
        }
    }

    /// The trace may have such events.
    pub fn any(&self) -> bool {
        self.bindings.any()
    }

    /// Locks that are held.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes an event; none if it is not of locks.
    pub fn event(&mut self, event: &Event<'_>) -> Option<Step> {
        if event.kind == kind::LOST {
            // A release may be among them: what the thread holds is not known any more.
            self.held.retain(|(thread, _), _| *thread != event.thread);
            return None;
        }
        let (what, values) = self.bindings.get(event.event_type, event.payload)?;
        let now = event.time;
        let [first, second, wait] = [values.word(0), values.word(1), values.word(2)];
        let mut site = || self.sites.number(event.image, values.word(3), &[]);
        Some(match what {
            What::Acquire => {
                let site = site();
                let key = (event.thread, first);
                let held = self.held.entry(key).or_insert(Held { depth: 0, since: now, site });
                held.depth = held.depth.saturating_add(1);
                let first_one = held.depth == 1;
                Step::Acquired { lock: first, kind: second, wait, site, first: first_one }
            }
            What::Release => self.release(event.thread, first, now),
            What::Failed => Step::Failed { lock: first, kind: second, wait, site: site() },
            What::Wait => {
                let site = site();
                let held = self.held.get_mut(&(event.thread, second));
                let hold = held.map(|held| {
                    let until = now.saturating_sub(wait).max(held.since);
                    let hold = Hold { since: held.since, until, site: held.site };
                    held.since = now;
                    hold
                });
                Step::Waited { cond: first, lock: second, wait, result: values.word(4), site, hold }
            }
            What::Signal => Step::Signalled { cond: first, broadcast: second != 0 },
        })
    }

    fn release(&mut self, thread: u32, lock: u64, now: u64) -> Step {
        let Some(held) = self.held.get_mut(&(thread, lock)) else {
            return Step::Released { lock, hold: None, unmatched: true };
        };
        held.depth -= 1;
        let Held { depth, since, site } = *held;
        let hold = (depth == 0).then(|| {
            self.held.remove(&(thread, lock));
            Hold { since, until: now, site }
        });
        Step::Released { lock, hold, unmatched: false }
    }
}

/// What a kind of lock is called.
pub fn kind_name(kind: u64) -> &'static str {
    match kind {
        0 => "mutex",
        1 => "rwlock, reading",
        2 => "rwlock, writing",
        3 => "spin",
        _ => "lock",
    }
}
