// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every record as a line: time, process/thread, thread's name, event, fields.

use std::io::Write;

use crate::error::Result;
use crate::file::{kind, text_at, u32_at, u64_at};
use crate::merge::{self, Event};
use crate::progress::Progress;
use crate::schema::{words, EventType, Kind};
use crate::symbols::{Of, Symbols};
use crate::text::{printable, time};
use crate::trace::Trace;

/// Writes all of them.
pub fn write(trace: &Trace, progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    let symbols = Symbols::new(trace);
    for warning in trace.warnings() {
        writeln!(out, "# WARNING: {}", printable(&warning))?;
    }
    merge::for_each(trace, progress, |event| {
        write_place(trace, event, out)?;
        match event.event_type {
            _ if event.kind < kind::FIRST_EVENT => write_own(event, out)?,
            Some(number) => write_event(&trace.types[number as usize], event, &symbols, out)?,
            None => write!(out, "type {} (not described)", event.kind)?,
        }
        Ok(writeln!(out)?)
    })?;
    out.flush()?;
    Ok(())
}

fn write_place(trace: &Trace, event: &Event<'_>, out: &mut dyn Write) -> Result<()> {
    let thread = &trace.threads[event.thread as usize];
    let pid = trace.images[event.image as usize].pid;
    let ns = trace.scale.since_start(event.time);
    let (sign, ns) = (if ns < 0 { "-" } else { "" }, ns.unsigned_abs());
    let (s, ns) = (ns / 1_000_000_000, ns % 1_000_000_000);
    write!(out, "{sign}{s}.{ns:09} {pid}/{} {} ", thread.tid, printable(&thread.name))?;
    Ok(())
}

fn write_event(
    event_type: &EventType,
    event: &Event<'_>,
    symbols: &Symbols<'_>,
    out: &mut dyn Write,
) -> Result<()> {
    write!(out, "{}", printable(&event_type.name))?;
    let name = |address| symbols.name(event.image, address, Of::Return).long.clone();
    for (number, field) in event_type.fields.iter().enumerate() {
        let rest = event.payload.get(number * 8..).unwrap_or_default();
        let value = u64_at(rest, 0);
        write!(out, " {}=", printable(&field.name))?;
        match field.kind {
            Kind::Unsigned => write!(out, "{value}")?,
            Kind::Signed => write!(out, "{}", value as i64)?,
            Kind::Hex => write!(out, "{value:#x}")?,
            // Where a call returns to, but where it says that it is a function.
            Kind::Code if field.name == "function" => {
                write!(out, "{}", symbols.name(event.image, value, Of::Function).short)?;
            }
            Kind::Code => write!(out, "{}", name(value))?,
            Kind::Ticks => write!(out, "{}", time(symbols.trace().scale.duration(value)))?,
            Kind::Stack => {
                let frames: Vec<_> = words(rest).map(name).collect();
                write!(out, "[{}]", frames.join(" < "))?;
            }
            Kind::Text => write!(out, "{:?}", text_at(rest).0)?,
        }
    }
    Ok(())
}

/// The recorder's own records.
fn write_own(event: &Event<'_>, out: &mut dyn Write) -> Result<()> {
    let payload = event.payload;
    let word = |number: usize| u64_at(payload, number * 8);
    let text = |at: usize| text_at(payload.get(at..).unwrap_or_default()).0;
    match event.kind {
        kind::PROCESS => {
            let (why, rest) = text_at(payload.get(24..).unwrap_or_default());
            let (executable, rest) = text_at(rest);
            let arguments = text_at(rest).0;
            let (pid, ppid) = (u32_at(payload, 0), u32_at(payload, 4));
            write!(
                out,
                "PROCESS {} pid={pid} ppid={ppid} {executable:?} {arguments:?}",
                printable(&why)
            )?;
        }
        kind::MAP => {
            let length = u32_at(payload, 36) as usize;
            let path = text(length.saturating_add(40));
            let (start, end, offset) = (word(1), word(2), word(3));
            write!(out, "MAP {start:#x}-{end:#x} offset={offset:#x} {path:?}")?;
        }
        kind::TYPE => write!(out, "TYPE {} {:?}", word(1), text(16))?,
        kind::LOST => write!(out, "LOST {} events", word(0))?,
        kind::EXIT => write!(out, "EXIT")?,
        kind::THREAD => write!(out, "THREAD {:?}", text(0))?,
        kind::STATE => {
            let state = if word(1) == 0 { "detached" } else { "attached" };
            write!(out, "STATE {:?} {state}", text(16))?;
        }
        other => write!(out, "record of unknown type {other}")?,
    }
    Ok(())
}
