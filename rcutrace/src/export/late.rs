// SPDX-License-Identifier: MIT OR Apache-2.0
//! A file that is created when there is something to write into it: what fails before leaves one that
//! is there as it is.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

/// The file, or where it will be.
#[derive(Debug)]
pub struct Late {
    path: PathBuf,
    file: Option<File>,
}

impl Late {
    /// Will be at `path`.
    pub fn new(path: PathBuf) -> Self {
        Late { path, file: None }
    }
}

impl Write for Late {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::create(&self.path)?),
        };
        file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
