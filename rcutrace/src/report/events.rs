// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many events there are of each type, also of types that no other report knows.

use super::table::{count, word, Report, Table};
use super::Analysis;
use crate::merge::Event;
use crate::symbols::Symbols;
use crate::trace::Trace;

/// Counts while the events pass.
#[derive(Debug)]
pub struct EventsReport {
    by_type: Vec<u64>,
}

impl EventsReport {
    /// Nothing counted yet.
    pub fn new(trace: &Trace) -> Self {
        EventsReport { by_type: vec![0; trace.types.len()] }
    }
}

impl Analysis for EventsReport {
    fn relevant(&self) -> bool {
        true
    }

    fn event(&mut self, event: &Event<'_>) {
        if let Some(number) = event.event_type {
            self.by_type[number as usize] += 1;
        }
    }

    fn finish(self: Box<Self>, symbols: &Symbols<'_>) -> Report {
        let types = symbols.trace().types.iter().zip(&self.by_type);
        let seen = types.filter(|(_, number)| **number > 0);
        let table = Table {
            key: "types",
            title: "By type",
            columns: &["events", "type"],
            rows: seen.map(|(event, number)| vec![count(*number), word(&*event.name)]).collect(),
            sorted: Some("events"),
        };
        Report { name: "events", facts: Vec::new(), tables: vec![table] }
    }
}
