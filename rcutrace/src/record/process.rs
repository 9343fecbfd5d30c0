// SPDX-License-Identifier: MIT OR Apache-2.0
//! A process that runs already, and has the tracers preloaded: attached to for a while.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::process::{pidfd_open, Pid, PidfdFlags};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::control;
use crate::error::{About, Error, Result};

/// A signal ends a wait at once; should it come just before, it is seen so much later.
const LOOK: Duration = Duration::from_millis(100);

/// A process that records.
#[derive(Debug)]
pub struct Attached<'a> {
    pid: u32,
    tracers: &'a str,
    process: OwnedFd,
    stop: Arc<AtomicBool>,
}

impl<'a> Attached<'a> {
    /// From now on signals end the recording, and not us.
    pub fn new(pid: u32, tracers: &'a str, file: &Path, stack: Option<u32>) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, stop.clone())?;
        }
        let id = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let id =
            id.ok_or_else(|| Error::new(format!("process {pid}: there is no such process")))?;
        let process = pidfd_open(id, PidfdFlags::empty())
            .map_err(std::io::Error::from)
            .about(format!("process {pid}"))?;
        control::attach(pid, tracers, file, stack)?;
        Ok(Attached { pid, tracers, process, stop })
    }

    /// Until the process's end, a signal, or the end of the time. An error: it may record on.
    pub fn watch(self, duration: Option<Duration>) -> Result<()> {
        let start = Instant::now();
        let wait = Timespec { tv_sec: 0, tv_nsec: LOOK.as_nanos() as i64 };
        let over = || duration.is_some_and(|duration| start.elapsed() >= duration);
        while !self.stop.load(Ordering::Relaxed) && !over() {
            let ended = poll(&mut [PollFd::new(&self.process, PollFlags::IN)], Some(&wait));
            if ended.is_ok_and(|ready| ready > 0) {
                return Ok(());
            }
        }
        match control::detach(self.pid, self.tracers) {
            // It may have ended meanwhile.
            Err(error) if Path::new(&format!("/proc/{}", self.pid)).exists() => Err(error),
            _ => Ok(()),
        }
    }
}
