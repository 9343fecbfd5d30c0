// SPDX-License-Identifier: MIT OR Apache-2.0
//! File descriptors: what is opened and closed.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use super::table::{count, word, Fact, Report, Table};
use super::Analysis;
use crate::file::text_at;
use crate::merge::Event;
use crate::schema::Bindings;
use crate::sites::Sites;
use crate::symbols::Symbols;
use crate::trace::Trace;

#[derive(Clone, Copy, Debug)]
enum What {
    Open,
    Close,
}

#[derive(Clone, Copy, Debug, Default)]
struct Opened {
    opens: u64,
    failed: u64,
    closed: u64,
    left: u64,
}

/// What is open, and who opened it.
#[derive(Clone, Copy, Debug)]
struct Open {
    path: u32,
    site: u32,
}

/// Counts while the events pass.
#[derive(Debug)]
pub struct FilesReport {
    bindings: Bindings<What>,
    paths: Vec<(String, Opened)>,
    path_numbers: HashMap<Box<[u8]>, u32, RandomState>,
    open: HashMap<(u32, u64), Open, RandomState>,
    sites: Sites,
    opens: u64,
    closes: u64,
    failed_closes: u64,
    unmatched: u64,
    /// By thread: the descriptor that counted as such.
    last_unmatched: HashMap<u32, u64, RandomState>,
}

impl FilesReport {
    /// Nothing counted yet.
    pub fn new(trace: &Trace) -> Self {
        let known: [(What, &str, &[&str]); 2] = [
            (What::Open, "fd:open", &["fd", "caller", "path"]),
            (What::Close, "fd:close", &["fd", "result"]),
        ];
        FilesReport {
            bindings: Bindings::new(&trace.types, &known),
            paths: Vec::new(),
            path_numbers: HashMap::default(),
            open: HashMap::default(),
            sites: Sites::default(),
            opens: 0,
            closes: 0,
            failed_closes: 0,
            unmatched: 0,
            last_unmatched: HashMap::default(),
        }
    }

    fn path(&mut self, bytes: &[u8]) -> u32 {
        let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        if let Some(&number) = self.path_numbers.get(bytes) {
            return number;
        }
        let number = self.paths.len() as u32;
        self.paths.push((text_at(bytes).0, Opened::default()));
        self.path_numbers.insert(bytes.into(), number);
        number
    }

    fn opened(&mut self, image: u32, number: u64, path: u32, site: u32) {
        let failed = (number as i64) < 0;
        self.opens += 1;
        let counts = &mut self.paths[path as usize].1;
        counts.opens += 1;
        counts.failed += u64::from(failed);
        if failed {
            return;
        }
        // A descriptor is given anew only when it was closed, by whatever call that is not traced.
        if let Some(before) = self.open.insert((image, number), Open { path, site }) {
            self.paths[before.path as usize].1.closed += 1;
        }
    }

    /// Each close is told of before it happens, with 0, and again should it have failed.
    fn closed(&mut self, (image, thread): (u32, u32), number: u64, result: u64) {
        if result == 0 {
            self.closes += 1;
            match self.open.remove(&(image, number)) {
                Some(open) => self.paths[open.path as usize].1.closed += 1,
                None => {
                    self.unmatched += 1;
                    self.last_unmatched.insert(thread, number);
                }
            }
            return;
        }
        self.failed_closes += 1;
        // Nothing was closed. After any other error the descriptor is gone nevertheless.
        let not_open = result as i64 == -i64::from(libc::EBADF);
        if not_open && self.last_unmatched.remove(&thread) == Some(number) {
            self.unmatched -= 1;
        }
    }
}

impl Analysis for FilesReport {
    fn relevant(&self) -> bool {
        self.bindings.any()
    }

    fn event(&mut self, event: &Event<'_>) {
        let Some((what, values)) = self.bindings.get(event.event_type, event.payload) else {
            return;
        };
        let (image, number) = (event.image, values.word(0));
        match what {
            What::Open => {
                let path = self.path(values.rest(2));
                let site = self.sites.number(image, values.word(1), &[]);
                self.opened(image, number, path, site);
            }
            What::Close => self.closed((image, event.thread), number, values.word(1)),
        }
    }

    fn finish(mut self: Box<Self>, symbols: &Symbols<'_>) -> Report {
        let mut left = BTreeMap::<(String, String), u64>::new();
        for open in self.open.values() {
            let (path, counts) = &mut self.paths[open.path as usize];
            counts.left += 1;
            let caller = self.sites.caller(open.site, symbols);
            *left.entry((path.clone(), caller)).or_default() += 1;
        }
        let failed = self.paths.iter().fold(0, |sum, (_, counts)| sum + counts.failed);
        let fact = |key, label, value| Fact { key, label, value: count(value) };
        let facts = vec![
            fact("opens", "opens", self.opens),
            fact("failed", "that failed", failed),
            fact("closes", "closes", self.closes),
            fact("failed_closes", "closes that failed", self.failed_closes),
            fact("unmatched_closes", "closes of what was open before", self.unmatched),
            fact("never_closed", "never closed", left.values().sum()),
        ];
        let by_path = |(path, counts): (String, Opened)| {
            let Opened { opens, failed, closed, left } = counts;
            vec![count(opens), count(failed), count(closed), count(left), word(path)]
        };
        let by_caller = |((path, caller), times)| vec![count(times), word(path), word(caller)];
        let tables = vec![
            Table {
                key: "paths",
                title: "By path",
                columns: &["opens", "failed", "closed", "left", "path"],
                rows: self.paths.into_iter().map(by_path).collect(),
                sorted: Some("opens"),
            },
            Table {
                key: "left_open",
                title: "Never closed",
                columns: &["times", "path", "opened_by"],
                rows: left.into_iter().map(by_caller).collect(),
                sorted: Some("times"),
            },
        ];
        Report { name: "fd", facts, tables }
    }
}
