// SPDX-License-Identifier: MIT OR Apache-2.0
//! A trace file as a whole: what its definitions say, found in one pass over it. The events are
//! then streamed by [`crate::merge`].

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use foldhash::fast::RandomState;

use crate::clock::Scale;
use crate::error::{About, Error, Result};
use crate::file::{self, kind, ChunkHeader, ChunkReader, Header, Mode, Record};
use crate::maps::{Map, Maps};
use crate::progress::Progress;
use crate::schema::EventType;

/// More images or threads than any machine has at once; what a damaged file names beyond them is
/// taken together, so that it cannot use up the memory.
const MOST: usize = 1 << 20;
const WINDOW: usize = 256 * 1024;

/// One process between fork or exec and exec or exit.
#[derive(Debug, Default)]
pub struct Image {
    /// As the file names it.
    pub id: u64,
    /// Its process.
    pub pid: u32,
    /// `start`, `exec`, `fork` or `attach`; empty if its PROCESS record is lost.
    pub why: String,
    /// The executable's path.
    pub executable: String,
    /// The command line.
    pub arguments: String,
    /// Its exit handlers ran.
    pub exited: bool,
    /// Its mapped files.
    pub maps: Maps,
    /// By type id: one more than a number in [`Trace::types`]; empty until there is one.
    types: Vec<u32>,
}

impl Image {
    /// The number in [`Trace::types`] of this image's type.
    #[inline]
    pub fn event_type(&self, kind: u8) -> Option<u32> {
        self.types.get(usize::from(kind))?.checked_sub(1)
    }

    /// A name for people.
    pub fn name(&self) -> &str {
        match self.executable.rsplit('/').next() {
            Some(name) if !name.is_empty() => name,
            _ => "?",
        }
    }
}

/// One thread of one image.
#[derive(Debug)]
pub struct Thread {
    /// Its image's number in [`Trace::images`].
    pub image: u32,
    /// Its id.
    pub tid: u32,
    /// Its last name.
    pub name: String,
}

/// A chunk that has records, and its place in time.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Its first record's offset in the file.
    pub at: u64,
    /// Behind its last record.
    pub end: u64,
    /// Its first CONTEXT record's time.
    pub time: u64,
    /// The threads of its first and its last CONTEXT record.
    pub first_thread: u32,
    /// See above.
    pub last_thread: u32,
}

/// What is not as it should be.
#[derive(Debug, Default)]
pub struct Flaws {
    /// Chunks that were handed out and are not there, or were never begun.
    pub missing_chunks: u64,
    /// Chunks that end in something that cannot be a record.
    pub damaged_chunks: u64,
    /// Records that stand before any CONTEXT, or are of a type that was not described.
    pub strange_records: u64,
}

/// A trace file.
#[derive(Debug)]
pub struct Trace {
    pub(crate) file: File,
    /// Its first bytes.
    pub header: Header,
    /// From ticks to time.
    pub scale: Scale,
    /// Its processes.
    pub images: Vec<Image>,
    /// Their threads.
    pub threads: Vec<Thread>,
    /// The descriptions, each once.
    pub types: Vec<EventType>,
    /// The chunks, by time.
    pub chunks: Vec<Chunk>,
    /// Tracers' events.
    pub events: u64,
    /// Events that were dropped.
    pub lost: u64,
    /// When the first process became known, or its first event came, and the latest time of a record, in ticks.
    pub span: (u64, u64),
    /// What is not as it should be.
    pub flaws: Flaws,
    image_numbers: HashMap<u64, u32, RandomState>,
    thread_numbers: HashMap<(u32, u32), u32, RandomState>,
}

/// Who wrote a record and when: what CONTEXT records say. Shared by this pass and the merge.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The number of the image.
    pub image: u32,
    /// The number of the thread.
    pub thread: u32,
    /// The last record's full time.
    pub time: u64,
}

impl Context {
    /// The full time of a record that follows, from its low 48 bits. The record before is at
    /// least as good a base as the CONTEXT: they differ by less.
    #[inline]
    pub fn full_time(&self, low: u64) -> u64 {
        let ahead = ((low.wrapping_sub(self.time) << 16) as i64) >> 16;
        self.time.wrapping_add_signed(ahead)
    }
}

/// The fields of a CONTEXT record: process, thread, time, image.
fn context_fields(payload: &[u8]) -> Option<(u32, u32, u64, u64)> {
    (payload.len() >= 24).then(|| {
        let word = |at| file::u64_at(payload, at);
        (file::u32_at(payload, 0), file::u32_at(payload, 4), word(8), word(16))
    })
}

impl Trace {
    /// Opens a file and reads its definitions.
    pub fn open(path: &Path, progress: &mut Progress) -> Result<Self> {
        Self::open_file(path, progress).about(path.display())
    }

    fn open_file(path: &Path, progress: &mut Progress) -> Result<Self> {
        // A FIFO or device would block, or never end.
        if !std::fs::metadata(path)?.is_file() {
            return Err(Error::new("not a regular file"));
        }
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut bytes = vec![0; length.min(file::HEADER_SIZE) as usize];
        file.read_exact_at(&mut bytes, 0)?;
        let header = Header::parse(&bytes)?;
        let mut trace = Trace {
            scale: Scale::new(&header),
            lost: header.lost,
            file,
            header,
            images: Vec::new(),
            threads: Vec::new(),
            types: Vec::new(),
            chunks: Vec::new(),
            events: 0,
            span: (u64::MAX, 0),
            flaws: Flaws::default(),
            image_numbers: HashMap::default(),
            thread_numbers: HashMap::default(),
        };
        trace.scan(length, progress)?;
        Ok(trace)
    }

    /// How long the traced processes ran, from the first one's PROCESS record (or event) to the last record, in ns.
    pub fn duration_ns(&self) -> u64 {
        self.scale.duration(self.span.1.saturating_sub(self.span.0))
    }

    fn scan(&mut self, length: u64, progress: &mut Progress) -> Result<()> {
        let mut descriptions = HashMap::default();
        // One more, that may be cut off.
        let room = length.saturating_sub(file::HEADER_SIZE).div_ceil(self.header.chunk_size.into());
        // A full file goes on counting; a killed process may have had no time to make room.
        let handed_out = match self.header.mode {
            Mode::DropNewest => self.header.chunks.min(self.header.chunk_limit),
            Mode::Overwrite => self.header.chunks,
        };
        self.flaws.missing_chunks = handed_out.saturating_sub(room);
        progress.begin("reading", length);
        let last = room.min(self.header.chunks);
        let mut number = 0;
        while number < last {
            let Some(at) = self.header.chunk_at(number) else { break };
            progress.at(at);
            let next = match ChunkHeader::read(&self.file, at)? {
                Some(chunk) => {
                    self.scan_chunk(at, chunk, &mut descriptions)?;
                    number + 1
                }
                None => {
                    let next = self.chunk_with_data(at).clamp(number + 1, last);
                    self.flaws.missing_chunks += next - number;
                    next
                }
            };
            number = next;
        }
        progress.end();
        if self.span.0 > self.span.1 {
            self.span = (self.header.start.ticks, self.header.start.ticks);
        }
        self.chunks.sort_by_key(|chunk| (chunk.time, chunk.at));
        for image in &mut self.images {
            image.maps.finish();
        }
        Ok(())
    }

    /// The chunk in which the file goes on behind a hole: holes cost nothing, and may be endless.
    fn chunk_with_data(&self, at: u64) -> u64 {
        match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => data.saturating_sub(file::HEADER_SIZE) / u64::from(self.header.chunk_size),
            Err(rustix::io::Errno::NXIO) => u64::MAX,
            Err(_) => 0, // a file system without holes: one after the other
        }
    }

    fn scan_chunk(
        &mut self,
        at: u64,
        header: ChunkHeader,
        descriptions: &mut HashMap<Vec<u8>, u32, RandomState>,
    ) -> Result<()> {
        let size = u64::from(self.header.chunk_size);
        if !(file::CHUNK_HEADER..=size).contains(&header.committed)
            || !header.committed.is_multiple_of(8)
        {
            self.flaws.damaged_chunks += 1;
        }
        let end = at + header.committed.min(size);
        let mut reader = ChunkReader::new(at + file::CHUNK_HEADER, end, WINDOW);
        let mut context: Option<Context> = None;
        let mut chunk: Option<Chunk> = None;
        while reader.advance(&self.file)? {
            let record = reader.record();
            if record.kind == kind::CONTEXT {
                context = self.context(record.payload);
                if let Some(context) = context {
                    let thread = context.thread;
                    let at = at + file::CHUNK_HEADER;
                    let time = context.time;
                    chunk
                        .get_or_insert(Chunk {
                            at,
                            end,
                            time,
                            first_thread: thread,
                            last_thread: thread,
                        })
                        .last_thread = thread;
                    continue;
                }
            }
            let Some(context) = context.as_mut() else {
                self.flaws.strange_records += 1;
                continue;
            };
            context.time = context.full_time(record.time);
            self.span.1 = self.span.1.max(context.time);
            if record.kind >= kind::FIRST_EVENT || record.kind == kind::PROCESS {
                self.span.0 = self.span.0.min(context.time);
            }
            if record.kind >= kind::FIRST_EVENT {
                self.events += 1;
            } else {
                self.define(*context, record, descriptions);
            }
        }
        self.flaws.damaged_chunks += u64::from(reader.damaged());
        self.chunks.extend(chunk);
        Ok(())
    }

    /// What a CONTEXT record says; its image and thread are known from then on.
    fn context(&mut self, payload: &[u8]) -> Option<Context> {
        let (pid, tid, time, id) = context_fields(payload)?;
        let image = self.image(id);
        let known = &mut self.images[image as usize];
        if known.pid == 0 {
            known.pid = pid;
        }
        let next = self.threads.len() as u32;
        let thread = match self.thread_numbers.get(&(image, tid)) {
            Some(&thread) => thread,
            None if self.threads.len() >= MOST => 0,
            None => {
                self.threads.push(Thread { image, tid, name: String::new() });
                self.thread_numbers.insert((image, tid), next);
                next
            }
        };
        Some(Context { image, thread, time })
    }

    /// The same, once all are known.
    pub(crate) fn known_context(&self, payload: &[u8]) -> Option<Context> {
        let (_, tid, time, id) = context_fields(payload)?;
        let image = self.image_numbers.get(&id).copied().unwrap_or(0);
        let thread = self.thread_numbers.get(&(image, tid)).copied().unwrap_or(0);
        Some(Context { image, thread, time })
    }

    fn image(&mut self, id: u64) -> u32 {
        let next = self.images.len() as u32;
        match self.image_numbers.get(&id) {
            Some(&image) => image,
            None if self.images.len() >= MOST => 0,
            None => {
                self.images.push(Image { id, ..Image::default() });
                self.image_numbers.insert(id, next);
                next
            }
        }
    }

    fn define(
        &mut self,
        context: Context,
        record: Record<'_>,
        descriptions: &mut HashMap<Vec<u8>, u32, RandomState>,
    ) {
        let payload = record.payload;
        let word = |number: usize| file::u64_at(payload, number * 8);
        let rest = |at: usize| payload.get(at..).unwrap_or_default();
        match record.kind {
            kind::PROCESS => {
                let number = self.image(word(1));
                let image = &mut self.images[number as usize];
                image.pid = file::u32_at(payload, 0);
                let (why, after) = file::text_at(rest(24));
                // Attaching says it again of a process that we know.
                if image.why.is_empty() || why != "attach" {
                    image.why = why;
                }
                let (executable, after) = file::text_at(after);
                image.executable = executable;
                image.arguments = file::text_at(after).0;
            }
            kind::MAP => {
                let image = self.image(word(0));
                let length = file::u32_at(payload, 36) as usize;
                let build_id = rest(40).get(..length).unwrap_or_default();
                let path = file::text_at(rest(40).get(length..).unwrap_or_default()).0;
                let map = Map {
                    start: word(1),
                    end: word(2),
                    offset: word(3),
                    build_id: build_id.into(),
                    path: path.into(),
                };
                self.images[image as usize].maps.add(map);
            }
            kind::TYPE => {
                let text = rest(16).split(|&byte| byte == 0).next().unwrap_or_default();
                let number = *descriptions.entry(text.to_vec()).or_insert_with(|| {
                    self.types.push(EventType::parse(&String::from_utf8_lossy(text)));
                    self.types.len() as u32 // one more than its number
                });
                let image = self.image(word(0));
                let types = &mut self.images[image as usize].types;
                types.resize(256, 0);
                match usize::try_from(word(1)) {
                    Ok(id) if (usize::from(kind::FIRST_EVENT)..256).contains(&id) => {
                        types[id] = number
                    }
                    _ => self.flaws.strange_records += 1,
                }
            }
            kind::LOST => self.lost = self.lost.saturating_add(word(0)),
            kind::EXIT => {
                let image = self.image(word(0));
                self.images[image as usize].exited = true;
            }
            kind::THREAD => {
                self.threads[context.thread as usize].name = file::text_at(payload).0;
            }
            _ => {}
        }
    }

    /// Processes of which the file does not say how they ended.
    pub fn unfinished(&self) -> usize {
        let last: HashMap<u32, &Image, RandomState> =
            self.images.iter().map(|image| (image.pid, image)).collect();
        last.values().filter(|image| !image.exited && !image.why.is_empty()).count()
    }

    /// What people must know before they believe a report; a line each.
    pub fn warnings(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.lost > 0 {
            let all = self.events.saturating_add(self.lost).max(1);
            let part = self.lost as f64 * 100.0 / all as f64;
            lines.push(format!(
                "{} EVENTS WERE LOST ({part:.1} %): what follows is incomplete; --max-size gives more room",
                crate::text::count(self.lost)
            ));
        }
        let Flaws { missing_chunks, damaged_chunks, strange_records } = self.flaws;
        if missing_chunks > 0 || damaged_chunks > 0 {
            lines.push(format!(
                "the file was cut: {missing_chunks} chunks are missing or empty, {damaged_chunks} end early; \
                 this is what is complete"
            ));
        }
        if strange_records > 0 {
            lines.push(format!("{strange_records} records make no sense and were left out"));
        }
        if self.scale.guessed() {
            lines.push("the file's clock is not calibrated: times are guesses".to_owned());
        }
        lines
    }
}
