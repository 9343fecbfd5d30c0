// SPDX-License-Identifier: MIT OR Apache-2.0
//! All events of a file in the order of time.
//!
//! Each chunk is one thread's stretch of time, nearly sorted. The chunks that are open at a time
//! are as many as the threads that were at work then; each is read through a window, so that the
//! memory needed depends on neither the file's length nor the number of its threads. Within a
//! chunk the order of the file stands, also where a signal handler's record is older by some
//! ticks; and a chunk in which a thread goes on waits for the end of the one in which it began.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use foldhash::fast::RandomState;

use crate::error::Result;
use crate::file::{kind, ChunkReader};
use crate::progress::Progress;
use crate::trace::{Chunk, Context, Trace};

/// All windows together.
const MEMORY: usize = 64 << 20;
const WINDOW_MAX: usize = 256 * 1024;
const WINDOW_MIN: usize = 4096;
/// Between two looks at the progress.
const PROGRESS_EVERY: u64 = 1 << 16;

/// A record and its circumstances.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// In ticks.
    pub time: u64,
    /// The image's number.
    pub image: u32,
    /// The thread's number.
    pub thread: u32,
    /// The record's type.
    pub kind: u8,
    /// A tracer's event: its type's number in [`Trace::types`].
    pub event_type: Option<u32>,
    /// What follows the record's first word.
    pub payload: &'a [u8],
}

struct Cursor {
    reader: ChunkReader,
    context: Option<Context>,
    /// The current record's place in the order: never before that of the one before.
    key: u64,
}

impl Cursor {
    fn open(chunk: &Chunk, window: usize) -> Self {
        let reader = ChunkReader::new(chunk.at, chunk.end, window);
        Cursor { reader, context: None, key: 0 }
    }

    /// Goes to the next record that is not a CONTEXT.
    #[inline]
    fn advance(&mut self, trace: &Trace) -> Result<bool> {
        while self.reader.advance(&trace.file)? {
            let record = self.reader.record();
            if record.kind == kind::CONTEXT {
                self.context = trace.known_context(record.payload);
            } else if let Some(context) = &mut self.context {
                context.time = context.full_time(record.time);
                self.key = self.key.max(context.time);
                return Ok(true);
            }
        }
        Ok(false)
    }

    #[inline]
    fn event(&self, trace: &Trace) -> Option<Event<'_>> {
        let record = self.reader.record();
        let Context { image, thread, time } = self.context?;
        let event_type = trace.images[image as usize].event_type(record.kind);
        Some(Event { time, image, thread, kind: record.kind, event_type, payload: record.payload })
    }
}

/// For each chunk, those in which a thread of it goes on; and the chunks with no such before them.
fn chain(chunks: &[Chunk]) -> (Vec<Vec<u32>>, Vec<usize>) {
    let mut next = vec![Vec::new(); chunks.len()];
    let mut first = Vec::new();
    let mut last_of: HashMap<u32, usize, RandomState> = HashMap::default();
    for (number, chunk) in chunks.iter().enumerate() {
        match last_of.get(&chunk.first_thread) {
            Some(&before) => next[before].push(number as u32),
            None => first.push(number),
        }
        last_of.insert(chunk.first_thread, number);
        last_of.insert(chunk.last_thread, number);
    }
    (next, first)
}

/// Hands every record but the CONTEXTs to `take`, in order.
pub fn for_each(
    trace: &Trace,
    progress: &mut Progress,
    mut take: impl FnMut(&Event<'_>) -> Result<()>,
) -> Result<()> {
    let chunks = &trace.chunks;
    let (next, first) = chain(chunks);
    // By time, then by chunk. A chunk is opened when its time has come.
    let mut queue: BinaryHeap<Reverse<(u64, usize)>> =
        first.into_iter().map(|number| Reverse((chunks[number].time, number))).collect();
    let mut cursors: Vec<Option<Box<Cursor>>> = chunks.iter().map(|_| None).collect();
    let mut open = 0;
    let mut seen = 0_u64;
    progress.begin("processing", trace.events);
    while let Some(Reverse((_, number))) = queue.pop() {
        let limit = queue.peek().map_or(u64::MAX, |Reverse((key, _))| *key);
        let (mut cursor, mut more) = match cursors[number].take() {
            Some(cursor) => (cursor, true),
            None => {
                open += 1;
                let window = (MEMORY / open).clamp(WINDOW_MIN, WINDOW_MAX);
                let mut cursor = Box::new(Cursor::open(&chunks[number], window));
                let more = cursor.advance(trace)?;
                (cursor, more)
            }
        };
        while more && cursor.key <= limit {
            if let Some(event) = cursor.event(trace) {
                take(&event)?;
            }
            seen += 1;
            if seen.is_multiple_of(PROGRESS_EVERY) {
                progress.at(seen);
            }
            more = cursor.advance(trace)?;
        }
        if more {
            queue.push(Reverse((cursor.key, number)));
            cursors[number] = Some(cursor);
        } else {
            open -= 1;
            for &after in &next[number] {
                let time = chunks[after as usize].time.max(cursor.key);
                queue.push(Reverse((time, after as usize)));
            }
        }
    }
    progress.end();
    Ok(())
}
