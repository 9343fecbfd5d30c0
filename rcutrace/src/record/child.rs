// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command: started with the tracers preloaded, and waited for, with the manners of a shell.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use rustix::process::{kill_process, Pid, Signal};
use signal_hook::consts::{
    SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2,
};
use signal_hook::iterator::Signals;

use super::Settings;
use crate::error::Result;

/// SIGINT and SIGQUIT come from the terminal and reach the command as well; the others are sent to
/// us alone and meant for it.
const TAKEN: [i32; 7] = [SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM];

/// Rust's runtime has us ignore SIGPIPE, whatever was inherited, before main.
static PIPE_IGNORED: AtomicBool = AtomicBool::new(false);

#[used]
#[link_section = ".init_array"]
static BEFORE_THE_RUNTIME: extern "C" fn() = {
    extern "C" fn note() {
        // SAFETY: an action of ours, which all zeros are valid for, is filled in and nothing changed.
        let ignored = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(SIGPIPE, std::ptr::null(), &mut action) == 0
                && action.sa_sigaction == libc::SIG_IGN
        };
        PIPE_IGNORED.store(ignored, Ordering::Relaxed);
    }
    note
};

/// How it ended, as an exit status.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// It ran.
    Exited(i32),
    /// It could not be started, and why.
    NotStarted(i32, String),
}

/// What the command's environment has to say to the tracers.
pub struct Environment<'a> {
    /// What the user wants.
    pub settings: &'a Settings,
    /// The libraries.
    pub preload: &'a str,
    /// Where to record.
    pub file: Option<&'a Path>,
}

impl Environment<'_> {
    fn set(&self, command: &mut Command) {
        let before = std::env::var_os("LD_PRELOAD").unwrap_or_default();
        let mut preload = OsString::from(self.preload);
        if !before.is_empty() {
            preload.push(":");
            preload.push(&before);
        }
        // What an rcutrace around us has set is not for this one.
        for name in ["FILE", "ATTACH", "STACK", "FOLLOW", "CONTROL"] {
            command.env_remove(format!("RCUTRACE_{name}"));
        }
        command.env("LD_PRELOAD", preload).env("RCUTRACE_PRELOAD_BEFORE", before);
        if let Some(file) = self.file {
            command.env("RCUTRACE_FILE", file);
        }
        if let Some(depth) = self.settings.stack {
            command.env("RCUTRACE_STACK", depth.to_string());
        }
        if !self.settings.follow {
            command.env("RCUTRACE_FOLLOW", "0");
        }
        if !self.settings.control {
            command.env("RCUTRACE_CONTROL", "0");
        }
    }
}

/// Runs it to its end; tells when it has begun.
pub fn run(words: &[OsString], environment: &Environment<'_>, begun: impl FnOnce()) -> Result<End> {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    environment.set(&mut command);
    let ignored = ignored_signals();
    let is_ignored = |signal: i32| ignored & (1 << (signal - 1)) != 0;
    // What is ignored, as by nohup, stays so, in the command too. Handlers do not outlive its exec.
    let mut signals = Signals::new(TAKEN.iter().filter(|&&signal| !is_ignored(signal)))?;
    if is_ignored(SIGCHLD) {
        // There would be no status to wait for.
        signal_hook::flag::register(SIGCHLD, Arc::new(AtomicBool::new(false)))?;
        ignore(SIGCHLD, &mut command);
    }
    if PIPE_IGNORED.load(Ordering::Relaxed) {
        ignore(SIGPIPE, &mut command);
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ok(not_started(&words[0], &error)),
    };
    begun();
    let ended = Arc::new(AtomicBool::new(false));
    let pid = Pid::from_child(&child);
    std::thread::spawn({
        let ended = ended.clone();
        move || {
            for signal in signals.forever() {
                pass_on(signal, pid, &ended);
            }
        }
    });
    let status = child.wait();
    ended.store(true, Ordering::Release);
    let status = status?;
    Ok(End::Exited(match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (_, Some(signal)) => 128 + signal,
        _ => 125,
    }))
}

fn pass_on(signal: i32, pid: Pid, ended: &AtomicBool) {
    if ended.load(Ordering::Acquire) {
        // The report is for us to be stopped.
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    } else if let (Some(signal), false) =
        (Signal::from_named_raw(signal), [SIGINT, SIGQUIT].contains(&signal))
    {
        let _ = kill_process(pid, signal);
    }
}

/// A bit for each signal that is ignored.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// For the command, where we have a handler, or std would restore the default action.
fn ignore(signal: i32, command: &mut Command) {
    let ignore = move || {
        // SAFETY: signal is async-signal-safe, and SIG_IGN a valid disposition.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
        Ok(())
    };
    // SAFETY: between fork and exec, behind what std does there, the closure makes one system call
    // and touches no memory but its own.
    unsafe { command.pre_exec(ignore) };
}

/// As shells have it.
fn not_started(name: &OsString, error: &io::Error) -> End {
    let searched = !name.to_string_lossy().contains('/');
    match error.kind() {
        io::ErrorKind::NotFound if searched => End::NotStarted(127, "command not found".to_owned()),
        io::ErrorKind::NotFound => End::NotStarted(127, "no such file or directory".to_owned()),
        io::ErrorKind::PermissionDenied => End::NotStarted(126, "permission denied".to_owned()),
        _ => End::NotStarted(126, error.to_string()),
    }
}
