// SPDX-License-Identifier: MIT OR Apache-2.0
//! The trace file's layout (docs/TRACES.md, tracers/format.h): header, chunks, records.
//!
//! Whatever a file holds is somebody else's word: every number is checked before it is used, and
//! what cannot be a record ends its chunk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::error::{Error, Result};

/// Bytes before the first chunk.
pub const HEADER_SIZE: u64 = 4096;
/// Bytes of a chunk before its first record.
pub const CHUNK_HEADER: u64 = 64;
/// The chunk size of the files that we create.
pub const CHUNK_DEFAULT: u32 = 262_144;
/// The smallest chunk that a file may have.
pub const CHUNK_MIN: u32 = 4096;
/// The greatest that we read.
pub const CHUNK_MAX: u32 = 1 << 30;
/// The longest record, in bytes.
pub const RECORD_MAX: usize = 255 * 8;

const MAGIC: &[u8; 8] = b"RCUTRACE";
/// What a chunk begins with.
pub const CHUNK_MAGIC: u32 = 0x4b4e_4843;
const VERSION: u32 = 1;
const COMMAND: std::ops::Range<usize> = 104..1128;

/// Types of the recorder's own records.
pub mod kind {
    /// Whose are the records that follow.
    pub const CONTEXT: u8 = 1;
    /// An image began.
    pub const PROCESS: u8 = 2;
    /// A file is mapped.
    pub const MAP: u8 = 3;
    /// An event's description.
    pub const TYPE: u8 = 4;
    /// Events were dropped.
    pub const LOST: u8 = 5;
    /// The process's exit handlers ran.
    pub const EXIT: u8 = 6;
    /// A thread's name.
    pub const THREAD: u8 = 7;
    /// A tracer was attached or detached.
    pub const STATE: u8 = 8;
    /// The first type that tracers define.
    pub const FIRST_EVENT: u8 = 16;
}

/// What happens when there is no more room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// New events are dropped.
    DropNewest,
    /// Each thread overwrites its oldest.
    Overwrite,
}

/// What a tick is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The processor's time stamp counter.
    Tsc,
    /// CLOCK_MONOTONIC, in nanoseconds.
    Monotonic,
}

/// One moment, on three clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// The trace's clock.
    pub ticks: u64,
    /// CLOCK_MONOTONIC.
    pub monotonic_ns: u64,
    /// CLOCK_REALTIME.
    pub realtime_ns: u64,
}

/// The file's first 4096 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of a chunk.
    pub chunk_size: u32,
    /// What happens when there is no more room.
    pub mode: Mode,
    /// What a tick is.
    pub clock: Clock,
    /// Drop newest: so many chunks at most.
    pub chunk_limit: u64,
    /// Overwrite: so many for each thread.
    pub thread_chunks: u32,
    /// When the file was created.
    pub start: Moment,
    /// The latest moment that was written down.
    pub now: Moment,
    /// Chunks handed out; the file may have fewer.
    pub chunks: u64,
    /// Events of threads that had no chunk.
    pub lost: u64,
    /// What was run.
    pub command: String,
}

/// The little-endian word at `at`; 0 if the bytes end before.
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u64::from_le_bytes(*word))
}

/// The little-endian half word at `at`; 0 if the bytes end before.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_le_bytes(*word))
}

/// The text up to a NUL, and what follows the NUL.
pub fn text_at(bytes: &[u8]) -> (String, &[u8]) {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let rest = bytes.get(end + 1..).unwrap_or_default();
    (String::from_utf8_lossy(&bytes[..end]).into_owned(), rest)
}

impl Moment {
    fn parse(bytes: &[u8], at: usize) -> Self {
        Moment {
            ticks: u64_at(bytes, at),
            monotonic_ns: u64_at(bytes, at + 8),
            realtime_ns: u64_at(bytes, at + 16),
        }
    }

    /// As it stands in the file.
    pub fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        for (place, word) in
            bytes.chunks_exact_mut(8).zip([self.ticks, self.monotonic_ns, self.realtime_ns])
        {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

impl Header {
    /// Where `now` stands.
    pub const NOW: u64 = 64;
    /// Where `chunks` stands, and then `lost`.
    pub const CHUNKS: u64 = 88;

    /// Reads it, from as much of the file as there is.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if !bytes.starts_with(MAGIC) {
            return Err(Error::new("not a trace of rcutrace"));
        }
        if (bytes.len() as u64) < HEADER_SIZE {
            return Err(Error::new("cut off in its header"));
        }
        if u32_at(bytes, 8) != VERSION {
            let version = u32_at(bytes, 8);
            return Err(Error::new(format!("a trace of version {version}; I know {VERSION}")));
        }
        let chunk_size = u32_at(bytes, 12);
        if !chunk_size.is_power_of_two() || !(CHUNK_MIN..=CHUNK_MAX).contains(&chunk_size) {
            return Err(Error::new(format!("damaged: a chunk size of {chunk_size}")));
        }
        Ok(Header {
            chunk_size,
            mode: match u32_at(bytes, 16) {
                1 => Mode::Overwrite,
                _ => Mode::DropNewest,
            },
            clock: match u32_at(bytes, 20) {
                0 => Clock::Tsc,
                _ => Clock::Monotonic,
            },
            chunk_limit: u64_at(bytes, 24),
            thread_chunks: u32_at(bytes, 32),
            start: Moment::parse(bytes, 40),
            now: Moment::parse(bytes, 64),
            chunks: u64_at(bytes, 88),
            lost: u64_at(bytes, 96),
            command: text_at(&bytes[COMMAND]).0,
        })
    }

    /// As it stands in the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_SIZE as usize);
        bytes.extend(MAGIC);
        for word in [VERSION, self.chunk_size, self.mode as u32, self.clock as u32] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(self.chunk_limit.to_le_bytes());
        bytes.extend(self.thread_chunks.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.start.to_bytes());
        bytes.extend(self.now.to_bytes());
        bytes.extend(self.chunks.to_le_bytes());
        bytes.extend(self.lost.to_le_bytes());
        debug_assert_eq!(bytes.len(), COMMAND.start);
        let room = COMMAND.len() - 1; // its NUL
        bytes.extend(self.command.bytes().filter(|&byte| byte != 0).take(room));
        bytes.resize(HEADER_SIZE as usize, 0);
        bytes
    }

    /// Where chunk `number` begins, if files can be so long.
    pub fn chunk_at(&self, number: u64) -> Option<u64> {
        number.checked_mul(u64::from(self.chunk_size))?.checked_add(HEADER_SIZE)
    }
}

/// A chunk's first 64 bytes, as far as we use them.
#[derive(Clone, Copy, Debug)]
pub struct ChunkHeader {
    /// Bytes from the chunk's beginning that are valid.
    pub committed: u64,
}

impl ChunkHeader {
    /// None: a chunk that was handed out and never begun.
    pub fn read(file: &File, at: u64) -> io::Result<Option<Self>> {
        let mut bytes = [0; CHUNK_HEADER as usize];
        match file.read_exact_at(&mut bytes, at) {
            Ok(()) if u32_at(&bytes, 0) == CHUNK_MAGIC => {
                Ok(Some(ChunkHeader { committed: u64_at(&bytes, 16) }))
            }
            Ok(()) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its type.
    pub kind: u8,
    /// The low 48 bits of its time.
    pub time: u64,
    /// What follows the first word.
    pub payload: &'a [u8],
}

/// Reads a chunk's records in the order in which they stand, a window of the file at a time.
#[derive(Debug)]
pub struct ChunkReader {
    at: u64,
    end: u64,
    window: Vec<u8>,
    place: usize,
    length: usize,
    size: usize,
    damaged: bool,
}

impl ChunkReader {
    /// The records between two offsets of the file, through a window of `size` bytes.
    pub fn new(at: u64, end: u64, size: usize) -> Self {
        ChunkReader {
            at,
            end: at + (end.saturating_sub(at) & !7),
            window: Vec::new(),
            place: 0,
            length: 0,
            size: size.max(RECORD_MAX),
            damaged: false,
        }
    }

    /// Goes to the next record; false at the end.
    #[inline]
    pub fn advance(&mut self, file: &File) -> io::Result<bool> {
        self.place += self.length;
        self.length = 0;
        if self.window.len() - self.place < RECORD_MAX && self.at < self.end {
            self.refill(file)?;
        }
        let rest = &self.window[self.place..];
        if rest.is_empty() {
            return Ok(false);
        }
        let length = usize::from(rest[1]) * 8;
        if rest[0] == 0 || length == 0 || length > rest.len() {
            self.damaged = true;
            self.place = self.window.len();
            self.at = self.end;
            return Ok(false);
        }
        self.length = length;
        Ok(true)
    }

    /// The record that `advance` went to.
    #[inline]
    pub fn record(&self) -> Record<'_> {
        let bytes = &self.window[self.place..self.place + self.length];
        let first = u64_at(bytes, 0);
        Record { kind: first as u8, time: first >> 16, payload: bytes.get(8..).unwrap_or_default() }
    }

    /// It ended because something in it cannot be a record.
    pub fn damaged(&self) -> bool {
        self.damaged
    }

    #[cold]
    fn refill(&mut self, file: &File) -> io::Result<()> {
        self.window.drain(..self.place);
        self.place = 0;
        let have = self.window.len();
        let more = (self.size.saturating_sub(have)).max(RECORD_MAX) as u64;
        let more = more.min(self.end - self.at) as usize;
        self.window.resize(have + more, 0);
        let mut got = 0;
        while got < more {
            match file.read_at(&mut self.window[have + got..], self.at + got as u64) {
                Ok(0) => break,
                Ok(count) => got += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.window.truncate(have + (got & !7));
        self.at = if got < more { self.end } else { self.at + more as u64 };
        Ok(())
    }
}
