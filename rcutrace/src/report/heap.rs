// SPDX-License-Identifier: MIT OR Apache-2.0
//! The heap: who allocates, how much, and what is never freed.

use super::table::{count, word, Fact, Report, Table};
use super::Analysis;
use crate::heap::{Function, Heap};
use crate::merge::Event;
use crate::sites::Sites;
use crate::symbols::Symbols;
use crate::trace::Trace;

#[derive(Clone, Copy, Debug, Default)]
struct Calls {
    calls: u64,
    bytes: u64,
    failed: u64,
}

/// Live at the end.
#[derive(Clone, Copy, Debug, Default)]
struct Live {
    blocks: u64,
    bytes: u64,
}

/// Counts while the events pass.
#[derive(Debug)]
pub struct HeapReport {
    heap: Heap,
    functions: [Calls; 5],
    sites: Vec<Calls>,
    /// By the number of bits of the size.
    sizes: [Calls; 65],
    unmatched: u64,
}

impl HeapReport {
    /// Nothing counted yet.
    pub fn new(trace: &Trace) -> Self {
        HeapReport {
            heap: Heap::new(trace),
            functions: Default::default(),
            sites: Vec::new(),
            sizes: [Calls::default(); 65],
            unmatched: 0,
        }
    }
}

impl Analysis for HeapReport {
    fn relevant(&self) -> bool {
        self.heap.any()
    }

    fn event(&mut self, event: &Event<'_>) {
        let Some(change) = self.heap.event(event) else { return };
        let size = change.allocated.map_or(0, |block| block.size);
        let add = |calls: &mut Calls| {
            calls.calls += 1;
            calls.bytes = calls.bytes.saturating_add(size);
            calls.failed += u64::from(change.failed);
        };
        add(&mut self.functions[change.function as usize]);
        self.unmatched += u64::from(change.unmatched);
        if let Some(site) = change.site {
            if self.sites.len() <= site as usize {
                self.sites.resize(site as usize + 1, Calls::default());
            }
            add(&mut self.sites[site as usize]);
        }
        if change.allocated.is_some() {
            add(&mut self.sizes[(u64::BITS - size.leading_zeros()) as usize]);
        }
    }

    fn finish(self: Box<Self>, symbols: &Symbols<'_>) -> Report {
        let trace = symbols.trace();
        let sites = &self.heap.sites;
        let mut live = vec![Live::default(); sites.len()];
        for block in self.heap.blocks() {
            let live = &mut live[block.site as usize];
            live.blocks += 1;
            live.bytes = live.bytes.saturating_add(block.size);
        }
        let sum = |values: &mut dyn Iterator<Item = u64>| values.fold(0, u64::saturating_add);
        let requested = sum(&mut self.functions.iter().map(|calls| calls.bytes));
        let failed = sum(&mut self.functions.iter().map(|calls| calls.failed));
        let peak = (0..trace.images.len()).map(|image| self.heap.peak_bytes(image as u32)).max();
        let facts = vec![
            fact("requested_bytes", "bytes requested", requested),
            fact("live_bytes", "bytes live at the end", sum(&mut live.iter().map(|l| l.bytes))),
            fact("live_blocks", "blocks live at the end", sum(&mut live.iter().map(|l| l.blocks))),
            fact("peak_bytes", "peak of bytes, a process", peak.unwrap_or(0)),
            fact("failed", "calls that failed", failed),
            fact("unmatched_frees", "frees of unknown blocks", self.unmatched),
        ];
        let mut tables = vec![
            functions_table(&self.functions),
            callers_table(sites, &self.sites, &live, symbols),
        ];
        if sites.any_stacks() {
            tables.push(stacks_table(sites, &self.sites, &live, symbols));
        }
        tables.push(leaks_table(sites, &live, symbols));
        tables.push(sizes_table(&self.sizes));
        if trace.images.len() > 1 {
            tables.push(processes_table(&self.heap, trace));
        }
        Report { name: "heap", facts, tables }
    }
}

fn fact(key: &'static str, label: &'static str, value: u64) -> Fact {
    Fact { key, label, value: count(value) }
}

fn functions_table(functions: &[Calls; 5]) -> Table {
    let rows = Function::ALL.iter().zip(functions).filter(|(_, calls)| calls.calls > 0);
    let row = |(function, calls): (&Function, &Calls)| {
        vec![count(calls.calls), count(calls.bytes), count(calls.failed), word(function.name())]
    };
    Table {
        key: "functions",
        title: "By function",
        columns: &["calls", "bytes", "failed", "function"],
        rows: rows.map(row).collect(),
        sorted: None,
    }
}

/// Calls and what of them is live, for each name that sites have.
fn site_rows(
    sites: &Sites,
    calls: &[Calls],
    live: &[Live],
    name: impl Fn(u32) -> String,
) -> Vec<Vec<super::table::Cell>> {
    let both = calls.iter().zip(live).zip(0..).map(|(both, site)| (site, both));
    let joined = sites.by_name(
        both.map(|(site, (calls, live))| (site, (*calls, *live))),
        name,
        |sum: &mut (Calls, Live), (calls, live)| {
            sum.0.calls += calls.calls;
            sum.0.bytes = sum.0.bytes.saturating_add(calls.bytes);
            sum.1.bytes = sum.1.bytes.saturating_add(live.bytes);
        },
    );
    let row = |(name, (calls, live)): (String, (Calls, Live))| {
        let average = super::table::mean(calls.bytes, calls.calls);
        vec![count(calls.calls), count(calls.bytes), count(average), count(live.bytes), word(name)]
    };
    joined.into_iter().map(row).collect()
}

fn callers_table(sites: &Sites, calls: &[Calls], live: &[Live], symbols: &Symbols<'_>) -> Table {
    Table {
        key: "callers",
        title: "By caller",
        columns: &["calls", "bytes", "average", "live", "caller"],
        rows: site_rows(sites, calls, live, |site| sites.caller(site, symbols)),
        sorted: Some("bytes"),
    }
}

fn stacks_table(sites: &Sites, calls: &[Calls], live: &[Live], symbols: &Symbols<'_>) -> Table {
    Table {
        key: "stacks",
        title: "By call stack, the innermost first",
        columns: &["calls", "bytes", "average", "live", "stack"],
        rows: site_rows(sites, calls, live, |site| sites.stack_text(site, symbols)),
        sorted: Some("bytes"),
    }
}

fn leaks_table(sites: &Sites, live: &[Live], symbols: &Symbols<'_>) -> Table {
    let counted = (0..).zip(live.iter().copied()).filter(|(_, live)| live.blocks > 0);
    let joined = sites.by_name(
        counted,
        |site| sites.stack_text(site, symbols),
        |sum: &mut Live, live| {
            sum.blocks += live.blocks;
            sum.bytes = sum.bytes.saturating_add(live.bytes);
        },
    );
    let row =
        |(name, live): (String, Live)| vec![count(live.bytes), count(live.blocks), word(name)];
    Table {
        key: "leaks",
        title: "Never freed",
        columns: &["bytes", "blocks", "allocated_by"],
        rows: joined.into_iter().map(row).collect(),
        sorted: Some("bytes"),
    }
}

fn sizes_table(sizes: &[Calls; 65]) -> Table {
    let rows = sizes.iter().enumerate().filter(|(_, calls)| calls.calls > 0);
    let row = |(bits, calls): (usize, &Calls)| {
        let from = if bits == 0 { 0 } else { 1_u64 << (bits - 1) };
        let to = from.checked_mul(2).map_or(u64::MAX, |end| end.saturating_sub(1));
        vec![count(from), count(to), count(calls.calls), count(calls.bytes)]
    };
    Table {
        key: "sizes",
        title: "By size of the block",
        columns: &["from", "to", "calls", "bytes"],
        rows: rows.map(row).collect(),
        sorted: None,
    }
}

fn processes_table(heap: &Heap, trace: &Trace) -> Table {
    let row = |(number, image): (u32, &crate::trace::Image)| {
        vec![
            count(heap.peak_bytes(number)),
            count(heap.live_bytes(number)),
            count(image.pid.into()),
            word(image.name()),
        ]
    };
    Table {
        key: "processes",
        title: "By process",
        columns: &["peak", "live", "pid", "program"],
        rows: (0..).zip(&trace.images).map(row).collect(),
        sorted: Some("peak"),
    }
}
