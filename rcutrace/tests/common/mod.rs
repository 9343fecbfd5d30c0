// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes trace files by docs/TRACES.md, independently of the code that reads them.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

use rcutrace::progress::Progress;
use rcutrace::report::{self, table::View};
use rcutrace::trace::Trace;
use serde_json::Value;

pub const CHUNK: usize = 4096;

/// The events of our tracers, by the number that the tests give them as a type.
pub const TYPES: [(u8, &str); 14] = [
    (16, "heap:malloc block:x size:u caller:a stack:a*"),
    (17, "heap:calloc block:x count:u size:u caller:a stack:a*"),
    (18, "heap:realloc block:x old:x size:u caller:a stack:a*"),
    (19, "heap:memalign block:x alignment:u size:u caller:a stack:a*"),
    (20, "heap:free block:x"),
    (21, "locks:acquire lock:x kind:u wait:t caller:a"),
    (22, "locks:release lock:x kind:u caller:a"),
    (23, "locks:failed lock:x kind:u wait:t error:i caller:a"),
    (24, "locks:wait cond:x lock:x wait:t result:i caller:a"),
    (25, "locks:signal cond:x broadcast:u caller:a"),
    (26, "functions:entry function:a site:a"),
    (27, "functions:exit function:a"),
    (30, "fd:open fd:i caller:a path:s"),
    (31, "fd:close fd:i result:i caller:a"),
];
pub const MALLOC: u8 = 16;
pub const CALLOC: u8 = 17;
pub const REALLOC: u8 = 18;
pub const MEMALIGN: u8 = 19;
pub const FREE: u8 = 20;
pub const ACQUIRE: u8 = 21;
pub const RELEASE: u8 = 22;
pub const FAILED: u8 = 23;
pub const WAIT: u8 = 24;
pub const SIGNAL: u8 = 25;
pub const ENTRY: u8 = 26;
pub const EXIT: u8 = 27;
pub const FD_OPEN: u8 = 30;
pub const FD_CLOSE: u8 = 31;

/// A file in the making. A tick is a nanosecond.
pub struct Writer {
    pub bytes: Vec<u8>,
    chunk: usize,
    place: usize,
    who: (u32, u32, u64),
}

impl Writer {
    pub fn new() -> Self {
        let mut bytes = vec![0; 4096];
        bytes[..8].copy_from_slice(b"RCUTRACE");
        let mut writer = Writer { bytes, chunk: 0, place: 0, who: (0, 0, 0) };
        for (at, value) in [(8, 1), (12, CHUNK as u32), (20, 0)] {
            writer.put32(at, value);
        }
        writer.put64(24, 1 << 20);
        writer.moment(40, 1_000_000);
        writer.moment(64, 2_000_000_000);
        writer.bytes[104..109].copy_from_slice(b"./cmd");
        writer
    }

    pub fn put32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    pub fn put64(&mut self, at: usize, value: u64) {
        self.bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    fn get64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().unwrap())
    }

    fn moment(&mut self, at: usize, ns: u64) {
        for field in 0..3 {
            self.put64(at + field * 8, ns);
        }
    }

    /// A new chunk, in which this thread goes on.
    pub fn chunk(&mut self, pid: u32, tid: u32, image: u64, time: u64) -> &mut Self {
        self.chunk = self.bytes.len();
        self.bytes.resize(self.chunk + CHUNK, 0);
        self.put32(self.chunk, 0x4b4e_4843);
        self.put32(self.chunk + 4, pid);
        self.put64(self.chunk + 8, image);
        self.put64(self.chunk + 16, 64);
        let chunks = self.get64(88) + 1;
        self.put64(88, chunks);
        self.place = 64;
        self.who = (pid, tid, image);
        self.context(pid, tid, image, time)
    }

    /// What follows is that thread's.
    pub fn context(&mut self, pid: u32, tid: u32, image: u64, time: u64) -> &mut Self {
        self.who = (pid, tid, image);
        self.record(1, time, &[u64::from(pid) | u64::from(tid) << 32, time, image])
    }

    /// Goes to a new chunk of the same thread where there is no more room.
    pub fn record(&mut self, kind: u8, time: u64, words: &[u64]) -> &mut Self {
        let length = (1 + words.len()) * 8;
        if self.place + length > CHUNK {
            let (pid, tid, image) = self.who;
            self.chunk(pid, tid, image, time);
        }
        let at = self.chunk + self.place;
        self.put64(at, u64::from(kind) | (1 + words.len() as u64) << 8 | time << 16);
        for (number, word) in words.iter().enumerate() {
            self.put64(at + 8 + number * 8, *word);
        }
        self.place += length;
        self.put64(self.chunk + 16, self.place as u64);
        self
    }

    /// Words, then bytes.
    pub fn texted(&mut self, kind: u8, time: u64, words: &[u64], text: &[u8]) -> &mut Self {
        let mut all = words.to_vec();
        for part in text.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            all.push(u64::from_le_bytes(word));
        }
        self.record(kind, time, &all)
    }

    /// A process with all types described; in a chunk of its own.
    pub fn process(
        &mut self,
        pid: u32,
        image: u64,
        parent: u64,
        why: &str,
        path: &str,
        time: u64,
    ) -> &mut Self {
        self.chunk(pid, pid, image, time);
        let text = format!("{why}\0{path}\0{path} --all\0");
        self.texted(2, time, &[u64::from(pid) | 1 << 32, image, parent], text.as_bytes());
        for (kind, description) in TYPES {
            let text = format!("{description}\0");
            self.texted(4, time, &[image, kind.into()], text.as_bytes());
        }
        self
    }

    pub fn map(
        &mut self,
        image: u64,
        start: u64,
        end: u64,
        offset: u64,
        build_id: &[u8],
        path: &str,
    ) -> &mut Self {
        let mut text = build_id.to_vec();
        text.extend(path.as_bytes());
        text.push(0);
        let flags = 1 | (build_id.len() as u64) << 32;
        self.texted(3, 1_000_000, &[image, start, end, offset, flags], &text)
    }

    pub fn thread_name(&mut self, name: &str, time: u64) -> &mut Self {
        let mut text = [0; 16];
        text[..name.len()].copy_from_slice(name.as_bytes());
        self.texted(7, time, &[], &text)
    }

    pub fn exit(&mut self, time: u64) -> &mut Self {
        let image = self.who.2;
        self.record(6, time, &[image])
    }

    pub fn save(&self, directory: &Path) -> PathBuf {
        let path = directory.join("test.trace");
        std::fs::write(&path, &self.bytes).expect("written");
        path
    }

    pub fn open(&self) -> rcutrace::error::Result<Trace> {
        let directory = tempfile::tempdir().expect("a directory");
        Trace::open(&self.save(directory.path()), &mut Progress::silent())
    }

    /// The report as JSON.
    pub fn report(&self) -> Value {
        let text = self.text(|options| {
            options.json = true;
            options.graph = true;
        });
        serde_json::from_str(&text).expect("JSON")
    }

    /// The report as text.
    pub fn text(&self, change: impl FnOnce(&mut report::Options)) -> String {
        let view = View { sort: None, top: 0 };
        let mut options = report::Options { view, graph: false, json: false };
        change(&mut options);
        let mut out = Vec::new();
        let trace = self.open().expect("opened");
        report::write(&trace, &options, &mut Progress::silent(), &mut out).expect("reported");
        String::from_utf8(out).expect("text")
    }

    pub fn dump(&self) -> String {
        let mut out = Vec::new();
        let trace = self.open().expect("opened");
        rcutrace::dump::write(&trace, &mut Progress::silent(), &mut out).expect("dumped");
        String::from_utf8(out).expect("text")
    }

    pub fn chrome(&self) -> Value {
        let mut out = Vec::new();
        let trace = self.open().expect("opened");
        rcutrace::export::chrome::write(&trace, &mut Progress::silent(), &mut out)
            .expect("exported");
        serde_json::from_slice(&out).expect("JSON")
    }
}
