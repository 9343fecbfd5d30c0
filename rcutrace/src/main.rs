// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command: what the library does, by the command line.

use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use rcutrace::cli::{self, Action, Cli, RecordArgs};
use rcutrace::error::{About, Error, Result};
use rcutrace::export::late::Late;
use rcutrace::export::{chrome, flame};
use rcutrace::progress::Progress;
use rcutrace::record::{self, NewFile};
use rcutrace::trace::Trace;
use rcutrace::{control, dump, report};

/// Our own failures, when the exit status is that of a command; as env and timeout have it.
const OUR_ERROR: u8 = 125;
const BUFFER: usize = 1 << 18;

fn main() -> ExitCode {
    let action = Cli::parse().action;
    let ours = if recording(&action) { OUR_ERROR } else { 1 };
    match act(action) {
        Ok(status) => ExitCode::from(status as u8),
        Err(Error::OutputClosed) => ExitCode::SUCCESS,
        Err(Error::Message(message)) => {
            eprintln!("rcutrace: {message}");
            ExitCode::from(ours)
        }
    }
}

fn recording(action: &Action) -> bool {
    use Action::*;
    matches!(action, Record { .. } | Heap(_) | Locks(_) | Functions(_) | Fd(_))
}

fn act(action: Action) -> Result<i32> {
    let one = |name: &str| vec![name.to_owned()];
    match action {
        Action::Record { tracer, how } => return record(tracer, &how),
        Action::Heap(how) => return record(one("heap"), &how),
        Action::Locks(how) => return record(one("locks"), &how),
        Action::Functions(how) => return record(one("functions"), &how),
        Action::Fd(how) => return record(one("fd"), &how),
        Action::Attach { pid, tracer, output, room } => {
            let file = NewFile::create(Some(&output), room.room(), &format!("process {pid}"))?;
            let attached = control::attach(pid, &tracer.join(","), file.path(), None);
            match attached {
                Ok(()) => file.keep(),
                Err(error) => {
                    file.discard();
                    return Err(error);
                }
            }
        }
        Action::Detach { pid, tracer } => {
            let tracers = if tracer.is_empty() { "all".to_owned() } else { tracer.join(",") };
            control::detach(pid, &tracers)?;
        }
        Action::Status { pid } => status(pid)?,
        Action::Report { file, view, json } => {
            let mut progress = Progress::new();
            let trace = Trace::open(&file, &mut progress)?;
            report::write(&trace, &view.options(json), &mut progress, &mut stdout())?;
        }
        Action::Dump { file } => {
            let mut progress = Progress::new();
            let trace = Trace::open(&file, &mut progress)?;
            dump::write(&trace, &mut progress, &mut stdout())?;
        }
        Action::Export { file, chrome, flame_of, output, .. } => {
            export(&file, chrome, flame_of, output)?;
        }
        Action::Man { directory } => {
            clap_mangen::generate_to(cli::command(), &directory).about(directory.display())?;
        }
    }
    Ok(0)
}

fn record(tracers: Vec<String>, how: &RecordArgs) -> Result<i32> {
    let settings = how.settings(tracers);
    match how.pid {
        Some(pid) => record::attach(&settings, pid, how.duration),
        None => record::run(&settings, &how.command),
    }
}

fn status(pid: Option<u32>) -> Result<()> {
    let mut out = stdout();
    if let Some(pid) = pid {
        writeln!(out, "{}", control::status(pid)?)?;
        return Ok(out.flush()?);
    }
    let processes = control::processes();
    if processes.is_empty() {
        eprintln!("rcutrace: no process has a tracer preloaded");
    }
    for pid in processes {
        // One that ends or does not answer does not hide the others.
        match control::status(pid) {
            Ok(line) => writeln!(out, "{line}")?,
            Err(error) => writeln!(out, "{pid:>7}  ? {error}")?,
        }
    }
    Ok(out.flush()?)
}

fn export(
    file: &Path,
    chrome: bool,
    measure: Option<flame::Measure>,
    output: Option<PathBuf>,
) -> Result<()> {
    let output = output.unwrap_or_else(|| {
        let mut name = file.as_os_str().to_owned();
        name.push(if chrome { ".json" } else { ".svg" });
        name.into()
    });
    if is_same(file, &output) {
        return Err(Error::new(format!("{}: is the trace itself", output.display())));
    }
    let mut progress = Progress::new();
    let trace = Trace::open(file, &mut progress)?;
    let mut out: Box<dyn Write> = match output.to_str() {
        Some("-") => Box::new(stdout()),
        _ => Box::new(BufWriter::with_capacity(BUFFER, Late::new(output.clone()))),
    };
    let written = match chrome {
        true => chrome::write(&trace, &mut progress, &mut out),
        false => flame::write(&trace, measure, &mut progress, &mut out),
    };
    written.about(output.display())?;
    for warning in trace.warnings() {
        eprintln!("rcutrace: WARNING: {warning}");
    }
    Ok(())
}

/// By another name, too.
fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path| std::fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

fn stdout() -> BufWriter<io::StdoutLock<'static>> {
    BufWriter::with_capacity(BUFFER, io::stdout().lock())
}
