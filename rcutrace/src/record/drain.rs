// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies what programs record in shared memory to the output, while they run.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::shared::{Shared, Slot, State};
use super::NewFile;
use crate::error::{Error, Result};
use crate::file::{Header, CHUNK_HEADER, CHUNK_MAGIC, HEADER_SIZE};

/// Between two looks while there is something to do.
const SOON: Duration = Duration::from_millis(1);
/// Between two looks while there is nothing.
const LATE: Duration = Duration::from_millis(50);
/// Faster than any two threads fill the buffer, in bytes a second.
const FASTEST: f64 = 8e9;

/// The thread that does it.
#[derive(Debug)]
pub struct Drainer {
    shared: Arc<Shared>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drainer {
    /// Begins. None: programs are to write the output themselves.
    pub fn start(output: &NewFile, buffer: u64) -> Result<Option<Self>> {
        let Some(shared) = Shared::create(output.header(), buffer) else { return Ok(None) };
        let shared = Arc::new(shared);
        let over = Arc::new(AtomicBool::new(false));
        let work = Work {
            shared: shared.clone(),
            output: output.file().try_clone()?,
            name: output.path().display().to_string(),
            chunk_size: output.header().chunk_size.into(),
            chunks: 0,
            uncopied: 0,
            replaced: HashSet::new(),
            failed: false,
        };
        let thread = std::thread::spawn({
            let over = over.clone();
            move || work.run(&over)
        });
        Ok(Some(Drainer { shared, over, thread: Some(thread) }))
    }

    /// Where programs record.
    pub fn path(&self) -> &std::path::Path {
        self.shared.path()
    }

    /// Copies all that there is.
    pub fn finish(mut self) -> Result<()> {
        self.over.store(true, Ordering::SeqCst);
        self.shared.wake();
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().map_err(|_| Error::new("the thread that copies the events has panicked"))
    }
}

struct Work {
    shared: Arc<Shared>,
    output: File,
    name: String,
    chunk_size: u64,
    /// In the output.
    chunks: u64,
    /// Events that did not get there.
    uncopied: u64,
    /// Images that have called exec: their processes live, and what they had mapped is let go of.
    replaced: HashSet<u64>,
    failed: bool,
}

impl Work {
    fn run(mut self, over: &AtomicBool) {
        block_file_size_signal();
        let buffer = (self.shared.slot_limit() * self.chunk_size) as f64;
        let late = Duration::from_secs_f64(buffer / FASTEST).clamp(SOON, LATE);
        let (mut wait, mut looked, mut pause) = (SOON, Instant::now(), SOON);
        while !over.load(Ordering::Acquire) {
            let mut copied = self.copy_full();
            let few = self.shared.available() < self.shared.slot_limit() / 4;
            if looked.elapsed() >= if few { pause } else { LATE } {
                let start = Instant::now();
                copied += self.copy_dead();
                looked = Instant::now();
                // A tenth of a processor, though they stay few.
                pause = (looked - start) * 10;
            }
            if copied > 0 {
                self.renew_header();
            }
            wait = if copied > 0 { SOON } else { (wait * 2).min(late) };
            if copied < self.shared.slot_limit() / 8 {
                // While there is much to do, once for many slots.
                self.shared.sleep(wait, wait > SOON, over);
            }
        }
        self.finish();
    }

    /// What is complete; how many slots.
    fn copy_full(&mut self) -> u64 {
        let mut copied = 0;
        for slot in self.shared.take_full() {
            match self.shared.look(slot) {
                Some(look) if look.state == State::Full => {
                    copied += self.copy_and_give_back(slot, &look)
                }
                _ => {}
            }
        }
        copied
    }

    /// What is complete, and what nobody completes any more.
    fn copy_dead(&mut self) -> u64 {
        let (mut copied, mut alive) = (0, HashMap::new());
        for slot in 0..self.shared.slots() {
            let Some(look) = self.shared.look(slot) else { continue };
            let over = match look.state {
                State::Free => false,
                State::Full => true,
                State::InUse => {
                    self.replaced.extend((look.before != 0).then_some(look.before));
                    self.replaced.contains(&look.image)
                        || look.reachable
                            && !*alive.entry(look.pid).or_insert_with(|| lives(look.pid))
                }
            };
            if over {
                copied += self.copy_and_give_back(slot, &look);
            }
        }
        copied
    }

    fn copy_and_give_back(&mut self, slot: u64, look: &Slot) -> u64 {
        if look.before != 0 {
            self.replaced.insert(look.before);
        }
        if !self.copy(slot, look) {
            return 0;
        }
        self.shared.give_back(slot);
        1
    }

    /// False: the output is full.
    fn copy(&mut self, slot: u64, look: &Slot) -> bool {
        let committed = self.shared.committed(slot);
        if committed <= CHUNK_HEADER || self.failed {
            return !self.failed;
        }
        let mut header = [0; CHUNK_HEADER as usize];
        header[..4].copy_from_slice(&CHUNK_MAGIC.to_le_bytes());
        header[4..8].copy_from_slice(&look.pid.to_le_bytes());
        header[8..16].copy_from_slice(&look.image.to_le_bytes());
        header[16..24].copy_from_slice(&committed.to_le_bytes());
        let at = HEADER_SIZE + self.chunks * self.chunk_size;
        match self.shared.copy(slot, committed, &header, &self.output, at) {
            Ok(()) => self.chunks += 1,
            Err(error) => {
                eprintln!("rcutrace: {}: {error}; the rest is not recorded", self.name);
                self.failed = true;
                self.shared.close();
            }
        }
        !self.failed
    }

    /// So that the file can be read should we be killed.
    fn renew_header(&self) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.chunks.to_le_bytes());
        bytes[8..].copy_from_slice(&(self.shared.lost() + self.uncopied).to_le_bytes());
        if let Err(error) = self.output.write_all_at(&bytes, Header::CHUNKS) {
            eprintln!("rcutrace: {}: {error}", self.name);
        }
    }

    /// Each slot once, whoever uses it. Those who live on keep their last one, and get no other.
    fn finish(&mut self) {
        self.shared.close();
        let mut kept = false;
        for slot in 0..self.shared.slots() {
            let Some(look) = self.shared.look(slot) else { continue };
            if look.state == State::Free {
                continue;
            }
            if !self.copy(slot, &look) {
                self.uncopied += self.shared.events(slot, look.committed);
            }
            kept |= look.state == State::InUse && (!look.reachable || lives(look.pid));
        }
        self.renew_header();
        if let Err(error) = self.output.set_len(HEADER_SIZE + self.chunks * self.chunk_size) {
            eprintln!("rcutrace: {}: {error}", self.name);
        }
        for slot in 0..if kept { self.shared.slots() } else { 0 } {
            if self.shared.look(slot).is_some_and(|look| look.state != State::InUse) {
                self.shared.punch(slot);
            }
        }
    }
}

/// A zombie does, which delays its slots.
fn lives(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// Where a file may not grow, write shall say so.
fn block_file_size_signal() {
    // SAFETY: a set of ours, and this thread's mask.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGXFSZ);
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::super::Room;
    use super::*;
    use crate::file::{kind, CHUNK_MIN};
    use crate::progress::Progress;
    use crate::trace::Trace;

    struct Place {
        output: NewFile,
        work: Work,
        _directory: tempfile::TempDir,
    }

    fn place(slots: u64) -> Place {
        let directory = tempfile::tempdir().expect("a directory");
        let room = Room { max_size: 1 << 20, overwrite: None, shared: Some(1 << 18) };
        let output = NewFile::create(Some(&directory.path().join("x")), room, "").expect("created");
        assert_eq!(output.header().chunk_size, CHUNK_MIN);
        let buffer = slots * u64::from(CHUNK_MIN);
        let shared = Shared::create_in(directory.path(), output.header(), buffer);
        let work = Work {
            shared: Arc::new(shared.expect("shared")),
            output: output.file().try_clone().expect("a file"),
            name: "x".to_owned(),
            chunk_size: CHUNK_MIN.into(),
            chunks: 0,
            uncopied: 0,
            replaced: HashSet::new(),
            failed: false,
        };
        Place { output, work, _directory: directory }
    }

    fn dead_process() -> u32 {
        let mut child = std::process::Command::new("true").spawn().expect("run");
        child.wait().expect("ended");
        child.id()
    }

    fn events(place: &Place) -> (usize, u64, u64) {
        let trace = Trace::open(place.output.path(), &mut Progress::silent()).expect("opened");
        assert_eq!((trace.flaws.missing_chunks, trace.flaws.damaged_chunks), (0, 0));
        (trace.chunks.len(), trace.events + trace.flaws.strange_records, trace.lost)
    }

    /// A chunk of one process with so many events.
    fn write(shared: &Shared, slot: u64, pid: u32, image: u64, count: u64) {
        let word = |kind: u8, words: u64| u64::from(kind) | words << 8 | 5 << 16;
        let mut words =
            vec![word(kind::CONTEXT, 4), u64::from(pid) << 32 | u64::from(pid), 5, image];
        for event in 0..count {
            words.extend([word(kind::FIRST_EVENT, 2), event]);
        }
        shared.write_as_a_process_does(slot, pid, image, &words);
    }

    #[test]
    fn full_slots_are_copied_and_given_back() {
        let mut place = place(8);
        let me = std::process::id();
        for round in 0..10 {
            for slot in 0..4 {
                write(&place.work.shared, slot, me, 7, 10);
            }
            // The last one is still written to.
            for slot in 0..3 {
                place.work.shared.leave_as_a_process_does(slot);
            }
            assert_eq!(place.work.copy_full(), 3);
            assert_eq!(place.work.copy_dead(), 0);
            place.work.renew_header();
            let state = |slot| place.work.shared.look(slot).expect("begun").state;
            assert_eq!([0, 2, 3].map(state), [State::Free, State::Free, State::InUse]);
            assert_eq!(events(&place), ((round + 1) * 3, (round as u64 + 1) * 30, 0));
        }
        place.work.finish();
        let trace = Trace::open(place.output.path(), &mut Progress::silent()).expect("opened");
        assert_eq!((trace.chunks.len(), trace.header.chunks), (31, 31));
        let length = std::fs::metadata(place.output.path()).expect("there").len();
        assert_eq!(length, HEADER_SIZE + 31 * u64::from(CHUNK_MIN));
    }

    #[test]
    fn what_dead_processes_and_replaced_images_have_in_use_is_copied() {
        let mut place = place(8);
        let (me, dead) = (std::process::id(), dead_process());
        write(&place.work.shared, 0, dead, 1, 5);
        write(&place.work.shared, 1, me, 2, 5);
        write(&place.work.shared, 2, me, 3, 5);
        assert_eq!(place.work.copy_dead(), 1);
        place.work.shared.replaces_as_a_process_does(2, 2);
        assert_eq!(place.work.copy_dead() + place.work.copy_dead(), 1);
        assert_eq!(place.work.shared.look(2).expect("begun").state, State::InUse);
        // Empty ones make no chunk.
        write(&place.work.shared, 0, dead, 1, 0);
        place.work.shared.empty_as_a_process_does(0);
        assert_eq!(place.work.copy_dead(), 1);
        place.work.renew_header();
        assert_eq!(events(&place), (2, 10, 0));
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let mut place = place(8);
        write(&place.work.shared, 0, dead_process(), 1, 5);
        assert_eq!(place.work.copy_dead(), 1);
        let file = std::mem::replace(
            &mut place.work.output,
            File::open("/dev/null").expect("a file that cannot be written to"),
        );
        for slot in 1..4 {
            write(&place.work.shared, slot, std::process::id(), 1, 5);
            place.work.shared.leave_as_a_process_does(slot);
        }
        assert_eq!(place.work.copy_full(), 0);
        place.work.output = file;
        place.work.finish();
        assert_eq!(events(&place), (1, 5, 15));
    }
}
