// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports: what a trace says, by tracer, from one pass over its events.

mod events;
mod files;
mod functions;
mod heap;
mod locks;
pub mod table;

use std::io::Write;

use serde_json::{json, Value};

use crate::error::Result;
use crate::merge::{self, Event};
use crate::progress::Progress;
use crate::symbols::Symbols;
use crate::text;
use crate::trace::Trace;
use table::{Report, View};

/// Something that is counted while the events pass, and told at their end.
trait Analysis {
    /// The file's descriptions name events that it knows.
    fn relevant(&self) -> bool;
    /// The next event.
    fn event(&mut self, event: &Event<'_>);
    /// There are no more.
    fn finish(self: Box<Self>, symbols: &Symbols<'_>) -> Report;
}

/// What a report shows.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much of each table, in which order.
    pub view: View,
    /// The tree of calls too.
    pub graph: bool,
    /// JSON, not text.
    pub json: bool,
}

/// Writes the report of a trace.
pub fn write(
    trace: &Trace,
    options: &Options,
    progress: &mut Progress,
    out: &mut dyn Write,
) -> Result<()> {
    let symbols = Symbols::new(trace);
    let mut reports = analyse(&symbols, options.graph, progress)?;
    table::arrange(&mut reports, &options.view)?;
    let mut warnings = trace.warnings();
    warnings.extend(symbols.complaints());
    if options.json {
        let mut all = table::json(&reports, &options.view);
        all.insert("trace".to_owned(), summary_json(trace, &warnings));
        serde_json::to_writer_pretty(&mut *out, &Value::Object(all))
            .map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}", summary(trace))?;
        for warning in warnings {
            writeln!(out, "WARNING: {}", text::printable(&warning))?;
        }
        table::write(&reports, &options.view, out)?;
    }
    out.flush()?;
    Ok(())
}

/// All that the file has events for.
fn analyse(symbols: &Symbols<'_>, graph: bool, progress: &mut Progress) -> Result<Vec<Report>> {
    let trace = symbols.trace();
    let mut analyses: Vec<Box<dyn Analysis>> = vec![
        Box::new(heap::HeapReport::new(trace)),
        Box::new(locks::LocksReport::new(trace)),
        Box::new(functions::FunctionsReport::new(trace, graph)),
        Box::new(files::FilesReport::new(trace)),
        Box::new(events::EventsReport::new(trace)),
    ];
    analyses.retain(|analysis| analysis.relevant());
    merge::for_each(trace, progress, |event| {
        analyses.iter_mut().for_each(|analysis| analysis.event(event));
        Ok(())
    })?;
    Ok(analyses.into_iter().map(|analysis| analysis.finish(symbols)).collect())
}

/// One line about the whole.
pub fn summary(trace: &Trace) -> String {
    let many = |number: usize, one: &str, more: &str| match number {
        1 => format!("1 {one}"),
        _ => format!("{} {more}", text::count(number as u64)),
    };
    let mut line = format!(
        "{}: {}, {}, {}, {} events",
        text::printable(&trace.header.command),
        text::time(trace.duration_ns()),
        many(trace.images.len(), "process", "processes"),
        many(trace.threads.len(), "thread", "threads"),
        text::count(trace.events),
    );
    if trace.lost > 0 {
        line += &format!(", {} LOST", text::count(trace.lost));
    }
    if trace.unfinished() > 0 {
        line += &format!(" ({} without an end: killed, _exit, or still there)", trace.unfinished());
    }
    line
}

fn summary_json(trace: &Trace, warnings: &[String]) -> Value {
    json!({
        "command": trace.header.command,
        "duration": trace.duration_ns(),
        "processes": trace.images.len(),
        "threads": trace.threads.len(),
        "events": trace.events,
        "lost": trace.lost,
        "unfinished": trace.unfinished(),
        "start_realtime_ns": trace.header.start.realtime_ns,
        "missing_chunks": trace.flaws.missing_chunks,
        "damaged_chunks": trace.flaws.damaged_chunks,
        "strange_records": trace.flaws.strange_records,
        "warnings": warnings,
    })
}
