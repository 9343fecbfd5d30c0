// SPDX-License-Identifier: MIT OR Apache-2.0
//! Functions: how often they are called, and where the time goes.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use super::table::{count, mean, time, word, Cell, Fact, Report, Table};
use super::Analysis;
use crate::calls::{Call, Calls, Node};
use crate::merge::Event;
use crate::symbols::{Of, Symbols};
use crate::trace::Trace;

#[derive(Clone, Copy, Debug)]
struct Function {
    calls: u64,
    total: u64,
    own: u64,
    min: u64,
    max: u64,
    /// For the average: of all calls, recursive ones too.
    all: u64,
}

impl Default for Function {
    fn default() -> Self {
        Function { calls: 0, total: 0, own: 0, min: u64::MAX, max: 0, all: 0 }
    }
}

impl Function {
    fn join(&mut self, other: Function) {
        self.calls += other.calls;
        self.total = self.total.saturating_add(other.total);
        self.own = self.own.saturating_add(other.own);
        self.all = self.all.saturating_add(other.all);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }
}

/// Counts while the events pass.
#[derive(Debug)]
pub struct FunctionsReport {
    calls: Calls,
    functions: HashMap<(u32, u64), Function, RandomState>,
    graph: bool,
}

impl FunctionsReport {
    /// Nothing counted yet; `graph`: the tree of calls is wanted too.
    pub fn new(trace: &Trace, graph: bool) -> Self {
        FunctionsReport { calls: Calls::new(trace), functions: HashMap::default(), graph }
    }
}

fn add(functions: &mut HashMap<(u32, u64), Function, RandomState>, call: Call) {
    functions.entry((call.image, call.function)).or_default().join(Function {
        calls: 1,
        total: if call.recursive { 0 } else { call.total },
        own: call.own,
        min: call.total,
        max: call.total,
        all: call.total,
    });
}

impl Analysis for FunctionsReport {
    fn relevant(&self) -> bool {
        self.calls.any()
    }

    fn event(&mut self, event: &Event<'_>) {
        let functions = &mut self.functions;
        self.calls.event(event, |call| add(functions, call));
    }

    fn finish(mut self: Box<Self>, symbols: &Symbols<'_>) -> Report {
        let functions = &mut self.functions;
        self.calls.finish(symbols.trace(), |call| add(functions, call));
        let all = functions.values().fold(0, |sum: u64, function| sum + function.calls);
        let facts = vec![
            Fact { key: "calls", label: "calls", value: count(all) },
            Fact {
                key: "unfinished",
                label: "calls that did not return",
                value: count(self.calls.unfinished),
            },
            Fact {
                key: "unmatched_exits",
                label: "exits without an entry",
                value: count(self.calls.unmatched),
            },
        ];
        let mut tables = vec![functions_table(functions, symbols)];
        if self.graph {
            tables.push(graph_table(&self.calls.nodes, symbols));
        }
        Report { name: "functions", facts, tables }
    }
}

fn functions_table(
    functions: &HashMap<(u32, u64), Function, RandomState>,
    symbols: &Symbols<'_>,
) -> Table {
    let scale = symbols.trace().scale;
    let mut joined = BTreeMap::<String, Function>::new();
    for (&(image, address), function) in functions {
        let name = symbols.name(image, address, Of::Function).short.to_string();
        joined.entry(name).or_default().join(*function);
    }
    let row = |(name, function): (String, Function)| {
        let ns = |ticks| time(scale.duration(ticks));
        vec![
            count(function.calls),
            ns(function.total),
            ns(function.own),
            ns(function.min),
            ns(mean(function.all, function.calls)),
            ns(function.max),
            word(name),
        ]
    };
    Table {
        key: "functions",
        title: "By function",
        columns: &["calls", "total", "self", "min", "avg", "max", "function"],
        rows: joined.into_iter().map(row).collect(),
        sorted: Some("self"),
    }
}

/// The tree in its order, a row a node, what took longest first.
fn graph_table(nodes: &[Node], symbols: &Symbols<'_>) -> Table {
    let scale = symbols.trace().scale;
    let mut roots = Vec::new();
    let mut inner = vec![Vec::new(); nodes.len()];
    for (number, node) in nodes.iter().enumerate() {
        match node.parent as usize {
            parent if parent == number => roots.push(number),
            parent => inner[parent].push(number),
        }
    }
    // The last is the next: so the longest stands last.
    let by_time = |list: &mut Vec<usize>| list.sort_by_key(|&n| (nodes[n].total, usize::MAX - n));
    inner.iter_mut().for_each(by_time);
    by_time(&mut roots);
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    let mut waiting = roots;
    while let Some(number) = waiting.pop() {
        let node = &nodes[number];
        let name = symbols.name(node.image, node.function, Of::Function);
        let indent = "  ".repeat(node.depth as usize);
        rows.push(vec![
            time(scale.duration(node.total)),
            time(scale.duration(node.own)),
            count(node.calls),
            count(node.depth.into()),
            word(format!("{indent}{}", name.short)),
        ]);
        waiting.append(&mut inner[number]);
    }
    Table {
        key: "graph",
        title: "Who calls whom",
        columns: &["total", "self", "calls", "depth", "function"],
        rows,
        sorted: None,
    }
}
