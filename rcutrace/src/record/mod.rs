// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recording: a new file, and a command or a process that writes into it.

mod child;
mod create;
mod drain;
mod libraries;
mod process;
mod shared;

use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Result;
use crate::progress::Progress;
use crate::report;
use crate::trace::Trace;
use drain::Drainer;
use process::Attached;

pub use create::{NewFile, Room};
pub use libraries::TRACERS;

/// What to record, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `heap`, `locks`, ...
    pub tracers: Vec<String>,
    /// Where the data stay; none: a temporary file, and a report.
    pub output: Option<PathBuf>,
    /// No line about it.
    pub quiet: bool,
    /// How much of it.
    pub room: Room,
    /// Frames of a call stack.
    pub stack: Option<u32>,
    /// Children are traced too.
    pub follow: bool,
    /// With a control socket.
    pub control: bool,
    /// Preloaded only.
    pub detached: bool,
    /// What the report shows.
    pub report: report::Options,
}

/// Runs a command; answers the exit status that we end with.
pub fn run(settings: &Settings, command: &[OsString]) -> Result<i32> {
    let preload = libraries::preload(&settings.tracers)?;
    let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
    let file = match settings.detached {
        true => None,
        false => Some(NewFile::create(
            settings.output.as_deref(),
            with_buffer(settings),
            &words.join(" "),
        )?),
    };
    let drainer = file.as_ref().and_then(drain);
    let recorded = drainer.as_ref().map(Drainer::path).or(file.as_ref().map(NewFile::path));
    let environment = child::Environment { settings, preload: &preload, file: recorded };
    let end = child::run(command, &environment, || file.iter().for_each(NewFile::keep));
    drainer.map_or(Ok(()), Drainer::finish)?;
    if let (Some(file), Ok(child::End::Exited(_))) = (&file, &end) {
        // The command's exit status is ours, whatever happens to the report.
        if let Err(error) = finish(file, settings) {
            eprintln!("rcutrace: {error}");
        }
    } else if let Some(file) = file {
        file.discard();
    }
    match end? {
        child::End::Exited(status) => Ok(status),
        child::End::NotStarted(status, why) => {
            eprintln!("rcutrace: {}: {why}", words[0]);
            Ok(status)
        }
    }
}

/// With as much memory between as there may be.
fn with_buffer(settings: &Settings) -> Room {
    let room = settings.room;
    // Rings that are overwritten are not copied.
    let shared = room.overwrite.map_or_else(|| shared::buffer(room.shared), |_| None);
    Room { shared, ..room }
}

/// None: programs write the file themselves.
fn drain(file: &NewFile) -> Option<Drainer> {
    Drainer::start(file, file.buffer()?).ok().flatten()
}

/// Records a running process until it ends, Ctrl-C, or the time is over.
pub fn attach(settings: &Settings, pid: u32, duration: Option<Duration>) -> Result<i32> {
    let name = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let name = String::from_utf8_lossy(&name).trim_end_matches('\0').replace('\0', " ");
    let file = NewFile::create(settings.output.as_deref(), with_buffer(settings), &name)?;
    let drainer = drain(&file);
    let path = drainer.as_ref().map_or(file.path(), Drainer::path);
    let tracers = settings.tracers.join(",");
    let recorded = Attached::new(pid, &tracers, path, settings.stack).map(|attached| {
        file.keep();
        attached.watch(duration)
    });
    drainer.map_or(Ok(()), Drainer::finish)?;
    let detached = match recorded {
        Ok(detached) => detached,
        Err(error) => {
            file.discard();
            return Err(error);
        }
    };
    // What was recorded stays, and is told of, though the process could not be told to stop.
    let finished = finish(&file, settings);
    detached.and(finished)?;
    Ok(0)
}

/// The report of a temporary file, or a line about one that stays.
fn finish(file: &NewFile, settings: &Settings) -> Result<()> {
    file.renew()?;
    let mut progress = Progress::new();
    let trace = Trace::open(file.path(), &mut progress);
    file.remove_if_temporary();
    let trace = trace?;
    if trace.images.is_empty() {
        eprintln!(
            "rcutrace: nothing was traced: the program is linked statically, or runs with \
             another's rights"
        );
        return Ok(());
    }
    if let Some(output) = &settings.output {
        let name = Path::display(output);
        if !settings.quiet {
            eprintln!("rcutrace: {}: see rcutrace report {name}", report::summary(&trace));
        }
        for warning in trace.warnings() {
            eprintln!("rcutrace: WARNING: {warning}");
        }
        return Ok(());
    }
    let mut out = BufWriter::new(std::io::stderr().lock());
    writeln!(out)?;
    report::write(&trace, &settings.report, &mut progress, &mut out)
}
