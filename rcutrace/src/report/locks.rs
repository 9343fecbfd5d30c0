// SPDX-License-Identifier: MIT OR Apache-2.0
//! Locks: which are waited for, where, and who holds them so long.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use foldhash::fast::RandomState;

use super::table::{count, mean, time, word, Cell, Fact, Report, Table};
use super::Analysis;
use crate::clock::Scale;
use crate::locks::{kind_name, Hold, Locks, Step};
use crate::merge::Event;
use crate::symbols::{Of, Symbols};
use crate::trace::Trace;

/// Durations in ticks.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    number: u64,
    total: u64,
    max: u64,
}

impl Times {
    fn add(&mut self, ticks: u64) {
        self.join(Times { number: 1, total: ticks, max: ticks });
    }

    fn join(&mut self, other: Times) {
        self.number += other.number;
        self.total = self.total.saturating_add(other.total);
        self.max = self.max.max(other.max);
    }

    /// Total, average and longest.
    fn cells(&self, scale: Scale) -> [Cell; 3] {
        [self.total, mean(self.total, self.number), self.max]
            .map(|ticks| time(scale.duration(ticks)))
    }
}

/// Of a lock, or of a place that acquires.
#[derive(Clone, Copy, Debug, Default)]
struct Use {
    kind: u64,
    acquired: u64,
    failed: u64,
    /// Those that waited.
    waits: Times,
    holds: Times,
}

impl Use {
    fn join(&mut self, other: Use) {
        self.kind = other.kind;
        self.acquired += other.acquired;
        self.failed += other.failed;
        self.waits.join(other.waits);
        self.holds.join(other.holds);
    }

    fn row(&self, scale: Scale, last: impl IntoIterator<Item = Cell>) -> Vec<Cell> {
        let mut row = vec![count(self.acquired), count(self.waits.number), count(self.failed)];
        row.extend(self.waits.cells(scale));
        row.extend(self.holds.cells(scale));
        row.extend(last);
        row
    }
}

/// Of a condition variable.
#[derive(Clone, Copy, Debug, Default)]
struct Condition {
    waits: Times,
    not_woken: u64,
    signals: u64,
    broadcasts: u64,
}

type ByAddress<T> = HashMap<(u32, u64), T, RandomState>;

/// Counts while the events pass.
#[derive(Debug)]
pub struct LocksReport {
    locks: Locks,
    by_lock: ByAddress<Use>,
    by_site: HashMap<u32, Use, RandomState>,
    conditions: ByAddress<Condition>,
    unmatched: u64,
}

fn at<K: Eq + Hash, V: Default>(map: &mut HashMap<K, V, RandomState>, key: K) -> &mut V {
    map.entry(key).or_default()
}

impl LocksReport {
    /// Nothing counted yet.
    pub fn new(trace: &Trace) -> Self {
        LocksReport {
            locks: Locks::new(trace),
            by_lock: HashMap::default(),
            by_site: HashMap::default(),
            conditions: HashMap::default(),
            unmatched: 0,
        }
    }

    /// For a lock and for a site at once.
    fn count(&mut self, image: u32, lock: u64, site: u32, add: impl Fn(&mut Use)) {
        add(at(&mut self.by_lock, (image, lock)));
        add(at(&mut self.by_site, site));
    }

    fn hold(&mut self, image: u32, lock: u64, hold: Option<Hold>) {
        if let Some(hold) = hold {
            let ticks = hold.until.saturating_sub(hold.since);
            self.count(image, lock, hold.site, |uses| uses.holds.add(ticks));
        }
    }
}

impl Analysis for LocksReport {
    fn relevant(&self) -> bool {
        self.locks.any()
    }

    fn event(&mut self, event: &Event<'_>) {
        let image = event.image;
        match self.locks.event(event) {
            None => {}
            Some(Step::Acquired { lock, kind, wait, site, .. }) => {
                self.count(image, lock, site, |uses| {
                    uses.kind = kind;
                    uses.acquired += 1;
                    if wait > 0 {
                        uses.waits.add(wait);
                    }
                });
            }
            Some(Step::Released { lock, hold, unmatched }) => {
                self.unmatched += u64::from(unmatched);
                self.hold(image, lock, hold);
            }
            Some(Step::Failed { lock, kind, wait, site }) => {
                self.count(image, lock, site, |uses| {
                    uses.kind = kind;
                    uses.failed += 1;
                    if wait > 0 {
                        uses.waits.add(wait);
                    }
                });
            }
            Some(Step::Waited { cond, lock, wait, result, hold, .. }) => {
                let condition = at(&mut self.conditions, (image, cond));
                condition.waits.add(wait);
                condition.not_woken += u64::from(result != 0);
                self.hold(image, lock, hold);
            }
            Some(Step::Signalled { cond, broadcast }) => {
                let condition = at(&mut self.conditions, (image, cond));
                condition.signals += u64::from(!broadcast);
                condition.broadcasts += u64::from(broadcast);
            }
        }
    }

    fn finish(self: Box<Self>, symbols: &Symbols<'_>) -> Report {
        let mut all = Use::default();
        self.by_lock.values().for_each(|uses| all.join(*uses));
        let scale = symbols.trace().scale;
        let facts = vec![
            fact("locks", "locks", count(self.by_lock.len() as u64)),
            fact("acquired", "acquisitions", count(all.acquired)),
            fact("contended", "that waited, or failed after a wait", count(all.waits.number)),
            fact("wait", "time waited, all threads", time(scale.duration(all.waits.total))),
            fact("failed", "that failed", count(all.failed)),
            fact("held_at_end", "never released", count(self.locks.held() as u64)),
            fact("unmatched_releases", "releases without acquisition", count(self.unmatched)),
        ];
        let tables = vec![
            locks_table(&self.by_lock, symbols),
            sites_table(&self, symbols),
            conditions_table(&self.conditions, symbols),
        ];
        Report { name: "locks", facts, tables }
    }
}

fn fact(key: &'static str, label: &'static str, value: Cell) -> Fact {
    Fact { key, label, value }
}

fn locks_table(locks: &ByAddress<Use>, symbols: &Symbols<'_>) -> Table {
    let scale = symbols.trace().scale;
    let row = |(&(image, lock), uses): (&(u32, u64), &Use)| {
        let name = symbols.name(image, lock, Of::Data).short.to_string();
        uses.row(scale, [word(kind_name(uses.kind)), word(name)])
    };
    Table {
        key: "locks",
        title: "By lock",
        columns: &[
            "acquired",
            "contended",
            "failed",
            "wait",
            "wait_avg",
            "wait_max",
            "hold",
            "hold_avg",
            "hold_max",
            "kind",
            "lock",
        ],
        rows: locks.iter().map(row).collect(),
        sorted: Some("wait"),
    }
}

fn sites_table(report: &LocksReport, symbols: &Symbols<'_>) -> Table {
    let scale = symbols.trace().scale;
    let sites = &report.locks.sites;
    let counted = report.by_site.iter().map(|(&site, &uses)| (site, uses));
    let joined: BTreeMap<String, Use> =
        sites.by_name(counted, |site| sites.caller(site, symbols), Use::join);
    Table {
        key: "callers",
        title: "By caller",
        columns: &[
            "acquired",
            "contended",
            "failed",
            "wait",
            "wait_avg",
            "wait_max",
            "hold",
            "hold_avg",
            "hold_max",
            "caller",
        ],
        rows: joined.into_iter().map(|(name, uses)| uses.row(scale, [word(name)])).collect(),
        sorted: Some("wait"),
    }
}

fn conditions_table(conditions: &ByAddress<Condition>, symbols: &Symbols<'_>) -> Table {
    let scale = symbols.trace().scale;
    let row = |(&(image, cond), condition): (&(u32, u64), &Condition)| {
        let mut row = vec![count(condition.waits.number)];
        row.extend(condition.waits.cells(scale));
        row.extend([condition.not_woken, condition.signals, condition.broadcasts].map(count));
        row.push(word(&*symbols.name(image, cond, Of::Data).short));
        row
    };
    Table {
        key: "conditions",
        title: "Condition variables",
        columns: &[
            "waits",
            "wait",
            "wait_avg",
            "wait_max",
            "not_woken",
            "signals",
            "broadcasts",
            "condition",
        ],
        rows: conditions.iter().map(row).collect(),
        sorted: Some("wait"),
    }
}
