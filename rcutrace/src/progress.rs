// SPDX-License-Identifier: MIT OR Apache-2.0
//! How far a long conversion is: a line on standard error, if that is a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Nothing is shown before, nor more often than this.
const PATIENCE: Duration = Duration::from_millis(200);

/// The line.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    what: &'static str,
    total: u64,
    shown: Instant,
    visible: bool,
}

impl Progress {
    /// Shown if standard error is a terminal.
    pub fn new() -> Self {
        Self::if_wanted(io::stderr().is_terminal())
    }

    /// Never shown.
    pub fn silent() -> Self {
        Self::if_wanted(false)
    }

    fn if_wanted(terminal: bool) -> Self {
        Progress { terminal, what: "", total: 0, shown: Instant::now(), visible: false }
    }

    /// Something begins that ends at `total`.
    pub fn begin(&mut self, what: &'static str, total: u64) {
        self.what = what;
        self.total = total;
        self.shown = Instant::now();
    }

    /// It is there. Call it every few milliseconds.
    pub fn at(&mut self, place: u64) {
        if self.terminal && self.shown.elapsed() >= PATIENCE {
            self.shown = Instant::now();
            self.visible = true;
            let percent = place as f64 * 100.0 / self.total.max(1) as f64;
            let _ = write!(io::stderr(), "\r{}: {percent:3.0} %", self.what);
        }
    }

    /// It ended: the line goes.
    pub fn end(&mut self) {
        if std::mem::take(&mut self.visible) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}
