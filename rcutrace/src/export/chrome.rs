// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Trace Event Format, which Perfetto and chrome://tracing open.
//!
//! Written as the events pass. Functions are slices (B and E) of their thread, waits for locks
//! complete slices (X), holds of locks asynchronous slices (b and e: they need not nest), the
//! heap's live bytes a counter of the process, everything else an instant.

use std::collections::HashMap;
use std::io::Write;

use foldhash::fast::RandomState;
use serde_json::{json, Value};

use crate::error::Result;
use crate::file::{kind, text_at, u64_at};
use crate::heap::Heap;
use crate::locks::{kind_name, Hold, Locks, Step};
use crate::merge::{self, Event};
use crate::progress::Progress;
use crate::schema::{words, Bindings, Kind};
use crate::symbols::{Of, Symbols};
use crate::trace::Trace;

/// A counter is written so often at most: nobody sees more, and the file would be huge.
const COUNTER_NS: i64 = 10_000;

#[derive(Clone, Copy)]
enum Function {
    Entry,
    Exit,
}

/// Writes the whole trace.
pub fn write(trace: &Trace, progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    let symbols = Symbols::new(trace);
    let known: [(Function, &str, &[&str]); 2] = [
        (Function::Entry, "functions:entry", &["function"]),
        (Function::Exit, "functions:exit", &["function"]),
    ];
    let mut chrome = Chrome {
        trace,
        functions: Bindings::new(&trace.types, &known),
        heap: Heap::new(trace),
        locks: Locks::new(trace),
        active: HashMap::default(),
        counters: vec![Counter::default(); trace.images.len()],
        names: HashMap::default(),
        symbols,
        first: true,
        out,
    };
    writeln!(chrome.out, "{{\"displayTimeUnit\":\"ns\",\"traceEvents\":[")?;
    chrome.metadata()?;
    merge::for_each(trace, progress, |event| chrome.event(event))?;
    chrome.last_counters()?;
    let other = json!({
        "command": trace.header.command,
        "lost events": trace.lost,
        "warnings": trace.warnings(),
    });
    writeln!(chrome.out, "\n],\"otherData\":{other}}}")?;
    chrome.out.flush()?;
    Ok(())
}

#[derive(Clone, Copy, Default)]
struct Counter {
    /// When it was written last, and what it was.
    written: Option<(i64, u64)>,
    /// The last change.
    changed: i64,
}

struct Chrome<'a> {
    trace: &'a Trace,
    functions: Bindings<Function>,
    heap: Heap,
    locks: Locks,
    /// Functions that each thread is in.
    active: HashMap<u32, Vec<u64>, RandomState>,
    counters: Vec<Counter>,
    /// As JSON strings.
    names: HashMap<(u32, u64), Box<str>, RandomState>,
    symbols: Symbols<'a>,
    first: bool,
    out: &'a mut dyn Write,
}

/// Microseconds, with the nanoseconds behind the point.
struct Micros(i64);

impl std::fmt::Display for Micros {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let ns = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:03}", ns / 1000, ns % 1000)
    }
}

impl Chrome<'_> {
    fn separate(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.first) {
            self.out.write_all(b",\n")?;
        }
        Ok(())
    }

    fn metadata(&mut self) -> Result<()> {
        for image in &self.trace.images {
            let args = json!({ "name": format!("{} {}", image.name(), image.arguments) });
            let line = json!({"ph": "M", "name": "process_name", "pid": image.pid, "args": args});
            self.separate()?;
            write!(self.out, "{line}")?;
        }
        for thread in self.trace.threads.iter().filter(|thread| !thread.name.is_empty()) {
            let pid = self.trace.images[thread.image as usize].pid;
            let args = json!({ "name": thread.name });
            let tid = thread.tid;
            let line =
                json!({"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": args});
            self.separate()?;
            write!(self.out, "{line}")?;
        }
        Ok(())
    }

    /// The beginning of a line: what all have. `name` is JSON.
    fn begin(&mut self, event: &Event<'_>, phase: char, name: &str, time: u64) -> Result<()> {
        self.separate()?;
        let pid = self.trace.images[event.image as usize].pid;
        let tid = self.trace.threads[event.thread as usize].tid;
        let at = Micros(self.trace.scale.since_start(time));
        let out = &mut self.out;
        write!(
            out,
            "{{\"ph\":\"{phase}\",\"name\":{name},\"pid\":{pid},\"tid\":{tid},\"ts\":{at}"
        )?;
        Ok(())
    }

    fn event(&mut self, event: &Event<'_>) -> Result<()> {
        if event.kind == kind::LOST {
            // What the thread is in is not known any more.
            self.leave_all(event)?;
            self.locks.event(event);
            self.begin(event, 'i', "\"EVENTS LOST\"", event.time)?;
            let lost = u64_at(event.payload, 0);
            write!(self.out, ",\"s\":\"t\",\"args\":{{\"events\":{lost}}}}}")?;
        } else if let Some((what, values)) = self.functions.get(event.event_type, event.payload) {
            self.function(event, what, values.word(0))?;
        } else if let Some(step) = self.locks.event(event) {
            self.lock(event, step)?;
        } else if let Some(change) = self.heap.event(event) {
            if change.failed {
                self.instant(event)?;
            }
            self.count(event)?;
        } else if event.kind >= kind::FIRST_EVENT {
            self.instant(event)?;
        }
        Ok(())
    }

    fn name(&mut self, image: u32, function: u64) -> Box<str> {
        if self.names.len() > 1 << 20 {
            self.names.clear();
        }
        let symbols = &self.symbols;
        let name = self.names.entry((image, function)).or_insert_with(|| {
            json!(&*symbols.name(image, function, Of::Function).short).to_string().into()
        });
        name.clone()
    }

    fn function(&mut self, event: &Event<'_>, what: Function, function: u64) -> Result<()> {
        let active = self.active.entry(event.thread).or_default();
        match what {
            Function::Entry => {
                active.push(function);
                let name = self.name(event.image, function);
                self.begin(event, 'B', &name, event.time)?;
                write!(self.out, "}}")?;
            }
            Function::Exit => {
                // Those that a longjmp left end too; an exit without an entry is nothing.
                let depth = active.iter().rposition(|&other| other == function);
                let left = depth.map_or(0, |depth| active.len() - depth);
                active.truncate(active.len() - left);
                self.leave(event, left)?;
            }
        }
        Ok(())
    }

    fn leave(&mut self, event: &Event<'_>, functions: usize) -> Result<()> {
        for _ in 0..functions {
            self.begin(event, 'E', "\"\"", event.time)?;
            write!(self.out, "}}")?;
        }
        Ok(())
    }

    fn leave_all(&mut self, event: &Event<'_>) -> Result<()> {
        let left = self.active.remove(&event.thread).map_or(0, |active| active.len());
        self.leave(event, left)
    }

    fn lock(&mut self, event: &Event<'_>, step: Step) -> Result<()> {
        match step {
            Step::Acquired { lock, kind, wait, .. } if wait > 0 => {
                self.wait(event, &format!("wait: {}", kind_name(kind)), lock, wait)
            }
            Step::Failed { lock, kind, wait, .. } => {
                self.wait(event, &format!("failed: {}", kind_name(kind)), lock, wait)
            }
            Step::Waited { cond, lock, wait, hold, .. } => {
                self.wait(event, "wait: condition", cond, wait)?;
                self.hold(event, lock, hold)
            }
            Step::Released { lock, hold, .. } => self.hold(event, lock, hold),
            Step::Signalled { .. } => self.instant(event),
            Step::Acquired { .. } => Ok(()),
        }
    }

    /// A slice that ends now.
    fn wait(&mut self, event: &Event<'_>, what: &str, lock: u64, wait: u64) -> Result<()> {
        let name = self.symbols.name(event.image, lock, Of::Data).short.clone();
        self.begin(event, 'X', &json!(what).to_string(), event.time.wrapping_sub(wait))?;
        let length = Micros(self.trace.scale.duration(wait) as i64);
        let lock = json!(&*name);
        write!(self.out, ",\"dur\":{length},\"cat\":\"locks\",\"args\":{{\"lock\":{lock}}}}}")?;
        Ok(())
    }

    fn hold(&mut self, event: &Event<'_>, lock: u64, hold: Option<Hold>) -> Result<()> {
        let Some(hold) = hold else { return Ok(()) };
        let name = json!(format!("held: {}", self.symbols.name(event.image, lock, Of::Data).short));
        let name = name.to_string();
        let tid = self.trace.threads[event.thread as usize].tid;
        for (phase, time) in [('b', hold.since), ('e', hold.until)] {
            self.begin(event, phase, &name, time)?;
            write!(self.out, ",\"cat\":\"locks\",\"id\":\"{tid}-{lock:x}\"")?;
            if phase == 'b' {
                let site = self.locks.sites.caller(hold.site, &self.symbols);
                write!(self.out, ",\"args\":{{\"acquired by\":{}}}", json!(site))?;
            }
            write!(self.out, "}}")?;
        }
        Ok(())
    }

    fn count(&mut self, event: &Event<'_>) -> Result<()> {
        let now = self.trace.scale.since_start(event.time);
        let live = self.heap.live_bytes(event.image);
        let counter = &mut self.counters[event.image as usize];
        counter.changed = now;
        if counter.written.is_some_and(|(last, _)| now.saturating_sub(last) < COUNTER_NS) {
            return Ok(());
        }
        counter.written = Some((now, live));
        self.counter(event.image, now, live)
    }

    fn counter(&mut self, image: u32, ns: i64, live: u64) -> Result<()> {
        self.separate()?;
        let pid = self.trace.images[image as usize].pid;
        let at = Micros(ns);
        let start = format!("{{\"ph\":\"C\",\"name\":\"live bytes\",\"pid\":{pid},\"ts\":{at}");
        write!(self.out, "{start},\"args\":{{\"bytes\":{live}}}}}")?;
        Ok(())
    }

    fn last_counters(&mut self) -> Result<()> {
        for image in 0..self.counters.len() {
            let Counter { written, changed } = self.counters[image];
            let live = self.heap.live_bytes(image as u32);
            if written.is_some_and(|(_, value)| value != live) {
                self.counter(image as u32, changed, live)?;
            }
        }
        Ok(())
    }

    fn instant(&mut self, event: &Event<'_>) -> Result<()> {
        let described = event.event_type.map(|number| &self.trace.types[number as usize]);
        let Some(event_type) = described else {
            let name = json!(format!("type {}", event.kind)).to_string();
            self.begin(event, 'i', &name, event.time)?;
            return Ok(write!(self.out, ",\"s\":\"t\"}}")?);
        };
        let mut args = serde_json::Map::new();
        for (number, field) in event_type.fields.iter().enumerate() {
            let rest = event.payload.get(number * 8..).unwrap_or_default();
            args.insert(field.name.clone(), self.value(event.image, field.kind, rest));
        }
        self.begin(event, 'i', &json!(event_type.name).to_string(), event.time)?;
        let category = json!(event_type.tracer());
        write!(self.out, ",\"s\":\"t\",\"cat\":{category},\"args\":{}}}", Value::Object(args))?;
        Ok(())
    }

    fn value(&self, image: u32, kind: Kind, rest: &[u8]) -> Value {
        let value = u64_at(rest, 0);
        let name = |address| self.symbols.name(image, address, Of::Return).long.to_string();
        match kind {
            Kind::Unsigned => json!(value),
            Kind::Signed => json!(value as i64),
            Kind::Hex => json!(format!("{value:#x}")),
            Kind::Code => json!(name(value)),
            Kind::Ticks => json!(crate::text::time(self.trace.scale.duration(value))),
            Kind::Stack => json!(words(rest).map(name).collect::<Vec<_>>()),
            Kind::Text => json!(text_at(rest).0),
        }
    }
}
