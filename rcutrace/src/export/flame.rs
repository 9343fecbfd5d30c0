// SPDX-License-Identifier: MIT OR Apache-2.0
//! Flame graphs, drawn by inferno: where the bytes, the waits or the time go.

use std::collections::BTreeMap;
use std::io::Write;

use inferno::flamegraph;

use crate::calls::Calls;
use crate::error::{Error, Result};
use crate::heap::Heap;
use crate::locks::{Locks, Step};
use crate::merge;
use crate::progress::Progress;
use crate::sites::Sites;
use crate::symbols::{Of, Symbols};
use crate::trace::Trace;

/// What the widths mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Measure {
    /// Heap: bytes allocated.
    Bytes,
    /// Heap: bytes never freed.
    Live,
    /// Heap: calls that allocate.
    Calls,
    /// Locks: time waited.
    Wait,
    /// Functions: their own time.
    Time,
}

impl Measure {
    /// What fits the trace.
    fn of(trace: &Trace) -> Result<Self> {
        let has = |tracer| trace.types.iter().any(|event_type| event_type.tracer() == tracer);
        match (has("functions"), has("heap"), has("locks")) {
            (true, _, _) => Ok(Measure::Time),
            (_, true, _) => Ok(Measure::Bytes),
            (_, _, true) => Ok(Measure::Wait),
            _ => Err(Error::new("a flame graph needs events of functions, heap or locks")),
        }
    }

    fn title_and_unit(self) -> (&'static str, &'static str) {
        match self {
            Measure::Bytes => ("Bytes allocated", "bytes"),
            Measure::Live => ("Bytes never freed", "bytes"),
            Measure::Calls => ("Allocations", "calls"),
            Measure::Wait => ("Time waited for locks", "ns"),
            Measure::Time => ("Time in functions", "ns"),
        }
    }
}

/// Stacks, the outermost first, and their weights.
pub type Folded = BTreeMap<String, u64>;

/// Draws the graph as SVG; of what fits the trace, if `measure` does not say.
pub fn write(
    trace: &Trace,
    measure: Option<Measure>,
    progress: &mut Progress,
    out: &mut dyn Write,
) -> Result<()> {
    let measure = measure.map_or_else(|| Measure::of(trace), Ok)?;
    let folded = fold(trace, measure, progress)?;
    let lines: Vec<String> = folded
        .iter()
        .filter(|(_, weight)| **weight > 0)
        .map(|(stack, weight)| format!("{stack} {weight}"))
        .collect();
    if lines.is_empty() {
        return Err(Error::new("nothing to draw: no event of this kind counts anything"));
    }
    let (title, unit) = measure.title_and_unit();
    let mut options = flamegraph::Options::default();
    options.title = format!("{title}: {}", crate::text::printable(&trace.header.command));
    options.count_name = unit.to_owned();
    options.min_width = LEAST_WIDTH;
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut *out)?;
    out.flush()?;
    Ok(())
}

/// Frames below this percentage of the whole are left out: they are less than a pixel wide.
const LEAST_WIDTH: f64 = 0.1;

/// The stacks that the graph is drawn from.
pub fn fold(trace: &Trace, measure: Measure, progress: &mut Progress) -> Result<Folded> {
    let symbols = Symbols::new(trace);
    match measure {
        Measure::Bytes | Measure::Live | Measure::Calls => heap(&symbols, measure, progress),
        Measure::Wait => locks(&symbols, progress),
        Measure::Time => functions(&symbols, progress),
    }
}

/// A frame's name may not have what separates frames and weights.
fn frame(name: &str) -> String {
    name.replace([';', '\n'], ":")
}

/// Process and call stack of a site, the outermost first.
fn site(sites: &Sites, site: u32, symbols: &Symbols<'_>) -> String {
    let image = sites.image(site);
    let mut text = frame(symbols.trace().images[image as usize].name());
    for address in sites.frames(site).into_iter().rev() {
        text.push(';');
        text += &frame(&symbols.name(image, address, Of::Return).short);
    }
    text
}

fn heap(symbols: &Symbols<'_>, measure: Measure, progress: &mut Progress) -> Result<Folded> {
    let mut heap = Heap::new(symbols.trace());
    let mut weights: Vec<u64> = Vec::new();
    merge::for_each(symbols.trace(), progress, |event| {
        let change = heap.event(event);
        if let Some(block) = change.and_then(|change| change.allocated) {
            let place = block.site as usize;
            weights.resize(weights.len().max(place + 1), 0);
            let weight = if measure == Measure::Calls { 1 } else { block.size };
            weights[place] = weights[place].saturating_add(weight);
        }
        Ok(())
    })?;
    if measure == Measure::Live {
        weights.fill(0);
        for block in heap.blocks() {
            let weight = &mut weights[block.site as usize];
            *weight = weight.saturating_add(block.size);
        }
    }
    let mut folded = Folded::new();
    for (number, weight) in (0..).zip(weights) {
        let weights = folded.entry(site(&heap.sites, number, symbols)).or_default();
        *weights = weights.saturating_add(weight);
    }
    Ok(folded)
}

fn locks(symbols: &Symbols<'_>, progress: &mut Progress) -> Result<Folded> {
    let mut locks = Locks::new(symbols.trace());
    let mut folded = Folded::new();
    merge::for_each(symbols.trace(), progress, |event| {
        let (lock, wait, caller) = match locks.event(event) {
            Some(
                Step::Acquired { lock, wait, site, .. } | Step::Failed { lock, wait, site, .. },
            ) => (lock, wait, site),
            Some(Step::Waited { cond, wait, site, .. }) => (cond, wait, site),
            _ => return Ok(()),
        };
        if wait > 0 {
            let name = symbols.name(event.image, lock, Of::Data);
            let stack = format!("{};{}", site(&locks.sites, caller, symbols), frame(&name.short));
            let weight = folded.entry(stack).or_default();
            *weight = weight.saturating_add(symbols.trace().scale.duration(wait));
        }
        Ok(())
    })?;
    Ok(folded)
}

fn functions(symbols: &Symbols<'_>, progress: &mut Progress) -> Result<Folded> {
    let trace = symbols.trace();
    let mut calls = Calls::new(trace);
    merge::for_each(trace, progress, |event| {
        calls.event(event, |_| ());
        Ok(())
    })?;
    calls.finish(trace, |_| ());
    let mut folded = Folded::new();
    let process = |image: u32| frame(trace.images[image as usize].name());
    for number in 0..calls.nodes.len() {
        let (mut names, mut at) = (Vec::new(), number);
        loop {
            let node = &calls.nodes[at];
            names.push(frame(&symbols.name(node.image, node.function, Of::Function).short));
            if node.parent as usize == at {
                break;
            }
            at = node.parent as usize;
        }
        names.push(process(calls.nodes[number].image));
        names.reverse();
        let weight = folded.entry(names.join(";")).or_default();
        *weight = weight.saturating_add(trace.scale.duration(calls.nodes[number].own));
    }
    Ok(folded)
}
