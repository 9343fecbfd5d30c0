// SPDX-License-Identifier: MIT OR Apache-2.0
//! A new trace file, with its header; the traced processes do the rest.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::clock;
use crate::error::{About, Error, Result};
use crate::file::{Clock, Header, Mode, CHUNK_DEFAULT, CHUNK_MIN, HEADER_SIZE};

/// How much is recorded.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Bytes of the file at most; not counted when threads overwrite their own.
    pub max_size: u64,
    /// Each thread overwrites its oldest events, within so many bytes.
    pub overwrite: Option<u64>,
    /// Bytes of the memory between the program and the file, if there shall be any.
    pub shared: Option<u64>,
}

impl Room {
    /// Small files have small chunks, for several threads to have one.
    fn chunk_size(self) -> u32 {
        let wanted = match self.overwrite {
            Some(buffer) => buffer / 4,
            None => self.max_size.min(self.shared.unwrap_or(u64::MAX)) / 64,
        };
        let limited = wanted.clamp(CHUNK_MIN.into(), CHUNK_DEFAULT.into()) as u32;
        1 << limited.ilog2()
    }

    fn header(self, command: &str) -> Header {
        let clock: Clock = clock::best();
        let (start, now) = clock::calibrate(clock);
        let chunk_size = self.chunk_size();
        let chunks = |bytes: u64| bytes / u64::from(chunk_size);
        Header {
            chunk_size,
            mode: if self.overwrite.is_some() { Mode::Overwrite } else { Mode::DropNewest },
            clock,
            chunk_limit: chunks(self.max_size.saturating_sub(HEADER_SIZE)).max(1),
            thread_chunks: chunks(self.overwrite.unwrap_or(0)).clamp(2, u32::MAX.into()) as u32,
            start,
            now,
            chunks: 0,
            lost: 0,
            command: command.to_owned(),
        }
    }
}

/// A file that was created by us.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    path: PathBuf,
    header: Header,
    buffer: Option<u64>,
    temporary: bool,
    /// Where the file that had the name before is, if one had it, until recording begins.
    before: PathBuf,
}

impl NewFile {
    /// At `output`, or a temporary one.
    pub fn create(output: Option<&Path>, room: Room, command: &str) -> Result<Self> {
        let (path, temporary) = match output {
            Some(path) => (path.to_owned(), false),
            None => (temporary_path()?, true),
        };
        Self::create_at(&path, temporary, room, command).about(path.display())
    }

    fn create_at(path: &Path, temporary: bool, room: Room, command: &str) -> Result<Self> {
        let before = put_aside(path)?;
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create_new(true).mode(0o600).open(path);
        let file = opened.inspect_err(|_| put_back(&before, path))?;
        let (path, header) = (path.to_owned(), room.header(command));
        let mut new = NewFile { file, path, header, buffer: room.shared, temporary, before };
        if let Err(error) = new.write_header() {
            new.discard();
            return Err(error);
        }
        Ok(new)
    }

    fn write_header(&mut self) -> Result<()> {
        self.path = self.path.canonicalize()?;
        Ok(self.file.write_all_at(&self.header.to_bytes(), 0)?)
    }

    /// Absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// As it was created.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How much memory is to be between the program and it.
    pub fn buffer(&self) -> Option<u64> {
        self.buffer
    }

    /// For who writes into it.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Writes the present moment into the header.
    pub fn renew(&self) -> Result<()> {
        let now = clock::now(self.header.clock);
        self.file.write_all_at(&now.to_bytes(), Header::NOW).about(self.path.display())
    }

    /// Who has it open keeps it.
    pub fn remove_if_temporary(&self) {
        if self.temporary {
            let _ = std::fs::remove_file(&self.path);
        }
    }

    /// Recording has begun: what had the name before goes.
    pub fn keep(&self) {
        let _ = std::fs::remove_file(&self.before);
    }

    /// Nothing was recorded: what had the name before has it again.
    pub fn discard(self) {
        let identity = |file: std::fs::Metadata| (file.dev(), file.ino());
        let ours = self.file.metadata().map(identity).ok();
        // Another one may record there by now.
        if std::fs::symlink_metadata(&self.path).map(identity).ok() == ours {
            let _ = std::fs::remove_file(&self.path);
        }
        put_back(&self.before, &self.path);
    }
}

/// Neither removed, as recording may fail to begin, nor truncated: a process that still writes into it would be killed.
/// But where room is scarce it is removed.
fn put_aside(path: &Path) -> Result<PathBuf> {
    const SCARCE: u64 = 64 << 20;
    let name = format!(".rcutrace-old-{:x}", clock::now(Clock::Monotonic).realtime_ns);
    let aside = path.with_file_name(name);
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            return Err(Error::new("exists, and is not a regular file"))
        }
        Ok(_) if available(path) < SCARCE => std::fs::remove_file(path)?,
        Ok(_) => std::fs::rename(path, &aside)?,
        Err(_) => {}
    }
    Ok(aside)
}

/// Unless another one has the name by now.
fn put_back(aside: &Path, path: &Path) {
    use rustix::fs::{renameat_with, RenameFlags, CWD};
    use rustix::io::Errno;
    let renamed = renameat_with(CWD, aside, CWD, path, RenameFlags::NOREPLACE);
    // A file system that does not know this.
    if matches!(renamed, Err(Errno::INVAL | Errno::NOSYS)) && !path.exists() {
        let _ = std::fs::rename(aside, path);
    }
}

/// In bytes; 0 if that cannot be told.
fn available(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize))
}

/// In the directory that has the most room: /tmp may be small and in memory.
fn temporary_path() -> Result<PathBuf> {
    let given = std::env::var_os("TMPDIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let candidates = given.into_iter().chain(["/var/tmp".into(), "/tmp".into()]);
    let room = |path: &PathBuf| {
        let space = available(path);
        let writable = rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
        if writable {
            space
        } else {
            0
        }
    };
    // Of equals the first: max_by_key answers the last.
    let mut all: Vec<PathBuf> = candidates.collect();
    all.reverse();
    let directory = all.into_iter().max_by_key(room).filter(|path| room(path) > 0);
    let directory = directory.ok_or_else(|| {
        Error::new("no room for a temporary file in $TMPDIR, /var/tmp or /tmp; give -o FILE")
    })?;
    let time = clock::now(Clock::Monotonic).realtime_ns;
    Ok(directory.join(format!("rcutrace-{}-{time:x}", std::process::id())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_has_the_header_that_was_asked_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("x");
        let room = Room { max_size: 2 << 30, overwrite: None, shared: None };
        NewFile::create(Some(&path), room, "cat /etc/passwd").expect("created");
        let header = Header::parse(&std::fs::read(&path).expect("read")).expect("a header");
        assert_eq!(header.chunk_size, CHUNK_DEFAULT);
        assert_eq!(header.chunk_limit, (2 << 30) / u64::from(CHUNK_DEFAULT) - 1);
        assert_eq!(header.command, "cat /etc/passwd");
        assert_eq!(header.mode, Mode::DropNewest);
        // Again, in another mode: the old one goes.
        let room = Room { max_size: 0, overwrite: Some(1 << 20), shared: None };
        NewFile::create(Some(&path), room, "").expect("created");
        let header = Header::parse(&std::fs::read(&path).expect("read")).expect("a header");
        assert_eq!((header.mode, header.thread_chunks), (Mode::Overwrite, 4));
        assert!(NewFile::create(Some(directory.path()), room, "").is_err());
    }
}
