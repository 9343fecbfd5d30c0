// SPDX-License-Identifier: MIT OR Apache-2.0
//! A drained file (docs/TRACES.md): in memory, shared with the traced processes, and ours.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{flock, FlockOperation};

use crate::clock;
use crate::file::{Clock, Header, HEADER_SIZE};

/// Where it is, if not in /dev/shm; empty: nowhere, programs write the output themselves.
const DIRECTORY: &str = "RCUTRACE_SHM";
/// Less free room than this is left alone.
const ROOM_MIN: u64 = 64 << 20;
/// It takes so much at most.
const BUFFER_MAX: u64 = 1 << 30;
const MOST_SLOTS: u64 = 8192;

// tracers/format.h has these.
const DRAINED: u32 = 1;
const CLOSED: u32 = 2;
const FLAGS: u64 = 36;
const LOST: u64 = 96;
const PID_NAMESPACE: u64 = 1128;
const SLOTS: u64 = 1144;
const FREE_BITS: u64 = 1152;
const FULL_BITS: u64 = FREE_BITS + MOST_SLOTS / 8;
const ASLEEP: u64 = FULL_BITS + MOST_SLOTS / 8;

/// Whose a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A process's.
    InUse,
    /// Ours, to be copied.
    Full,
    /// Nobody's.
    Free,
}

/// What stands at the beginning of a slot.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Whose it is.
    pub state: State,
    /// The process.
    pub pid: u32,
    /// We see by its pid whether it is dead.
    pub reachable: bool,
    /// The process's image.
    pub image: u64,
    /// The image that this one has replaced; or 0.
    pub before: u64,
    /// How much is valid.
    pub committed: u64,
}

/// The file, mapped.
#[derive(Debug)]
pub struct Shared {
    file: File,
    path: PathBuf,
    map: *mut u8,
    size: u64,
    chunk_size: u64,
}

// SAFETY: what is mapped is reached by atomics, and by copies that the kernel makes.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

fn directory() -> Option<PathBuf> {
    let given = std::env::var_os(DIRECTORY).unwrap_or_else(|| "/dev/shm".into());
    Some(PathBuf::from(given)).filter(|path| path.is_absolute())
}

/// How much memory there may be for it; none: too little.
pub fn buffer(wanted: Option<u64>) -> Option<u64> {
    let directory = directory()?;
    rustix::fs::access(&directory, rustix::fs::Access::WRITE_OK).ok()?;
    let fs = rustix::fs::statvfs(&directory).ok()?;
    let room = fs.f_bavail.saturating_mul(fs.f_frsize).min(available_memory());
    let buffer = match wanted {
        _ if room < ROOM_MIN => return None,
        Some(wanted) => wanted.min(room / 2),
        None => (room / 4).min(BUFFER_MAX),
    };
    // Beyond it there would be a SIGXFSZ.
    let longest = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
    Some(buffer.min(longest.unwrap_or(u64::MAX).saturating_sub(HEADER_SIZE)))
}

/// Of the machine and of our control groups, whose limits the pages count for.
fn available_memory() -> u64 {
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let number = |text: String| text.trim().parse::<u64>().ok();
    let meminfo = read("/proc/meminfo".into());
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    let groups = read("/proc/self/cgroup".into());
    let ours = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let limits = Path::new(ours).ancestors().filter_map(|group| {
        let group = Path::new("/sys/fs/cgroup").join(group);
        let most = number(read(group.join("memory.max")))?;
        Some(most.saturating_sub(number(read(group.join("memory.current"))).unwrap_or(0)))
    });
    limits.chain(kilobytes.map(|kilobytes| kilobytes << 10)).min().unwrap_or(u64::MAX)
}

/// Those of rcutraces that are no more: who lives holds a lock.
fn remove_stale(directory: &Path, prefix: &str) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(prefix) {
            continue;
        }
        let path = entry.path();
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(&path) else {
            continue;
        };
        let ours = file.metadata().is_ok_and(|it| it.is_file() && it.uid() == user());
        if ours && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = std::fs::remove_file(&path);
        }
    }
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

impl Shared {
    /// For what is to go to a file with this header. None: programs shall write it themselves.
    pub fn create(header: &Header, buffer: u64) -> Option<Self> {
        Self::create_in(&directory()?, header, buffer).ok()
    }

    pub(super) fn create_in(directory: &Path, header: &Header, buffer: u64) -> io::Result<Self> {
        let prefix = format!("rcutrace-{}-", user());
        remove_stale(directory, &prefix);
        let time = clock::now(Clock::Monotonic).realtime_ns;
        let path = directory.join(format!("{prefix}{}-{time:x}", std::process::id()));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        let filled = flock(&file, FlockOperation::LockExclusive)
            .map_err(io::Error::from)
            .and_then(|()| Self::fill(file, path.clone(), header, buffer));
        if filled.is_err() {
            let _ = std::fs::remove_file(&path);
        }
        filled
    }

    fn fill(file: File, path: PathBuf, header: &Header, buffer: u64) -> io::Result<Self> {
        let chunk_size = u64::from(header.chunk_size);
        let slots = (buffer / chunk_size).min(MOST_SLOTS);
        if slots < 2 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let size = HEADER_SIZE + slots * chunk_size;
        let namespace = std::fs::metadata("/proc/self/ns/pid").map_or(0, |it| it.ino());
        let mut bytes = header.to_bytes();
        bytes[FLAGS as usize..][..4].copy_from_slice(&DRAINED.to_le_bytes());
        bytes[PID_NAMESPACE as usize..][..8].copy_from_slice(&namespace.to_le_bytes());
        bytes[PID_NAMESPACE as usize + 8..][..8].copy_from_slice(&slots.to_le_bytes());
        file.write_all_at(&bytes, 0)?;
        file.set_len(size)?;
        // Somebody who started at the same moment may have taken it for a stale one.
        if file.metadata()?.nlink() == 0 {
            return Err(io::ErrorKind::NotFound.into());
        }
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, of all of the file.
        let map = unsafe {
            let (flags, fd) = (libc::MAP_SHARED | libc::MAP_NORESERVE, file.as_raw_fd());
            libc::mmap(std::ptr::null_mut(), size as usize, protection, flags, fd, 0)
        };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Shared { file, path, map: map.cast(), size, chunk_size })
    }

    /// Absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn word(&self, at: u64) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at + 8 <= self.size);
        // SAFETY: in the mapping, which is page-aligned and as long as we are.
        unsafe { AtomicU64::from_ptr(self.map.add(at as usize).cast()) }
    }

    fn half(&self, at: u64) -> &AtomicU32 {
        assert!(at.is_multiple_of(4) && at + 4 <= self.size);
        // SAFETY: as above.
        unsafe { AtomicU32::from_ptr(self.map.add(at as usize).cast()) }
    }

    fn place(&self, slot: u64) -> u64 {
        HEADER_SIZE + slot * self.chunk_size
    }

    /// How many there can be.
    pub fn slot_limit(&self) -> u64 {
        (self.size - HEADER_SIZE) / self.chunk_size
    }

    /// How many have been used at all.
    pub fn slots(&self) -> u64 {
        self.word(SLOTS).load(Ordering::Acquire).min(self.slot_limit())
    }

    /// How many could be handed out now.
    pub fn available(&self) -> u64 {
        let slots = self.slots();
        let words = (0..slots.div_ceil(64)).map(|number| self.word(FREE_BITS + number * 8));
        let free =
            words.map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum::<u64>();
        self.slot_limit() - slots + free
    }

    /// Events of threads that had no chunk.
    pub fn lost(&self) -> u64 {
        self.word(LOST).load(Ordering::Relaxed)
    }

    /// No more slots are handed out.
    pub fn close(&self) {
        self.half(FLAGS).fetch_or(CLOSED, Ordering::Relaxed);
    }

    /// Those that were given to us since the last time.
    pub fn take_full(&self) -> Vec<u64> {
        let mut found = Vec::new();
        for number in 0..self.slots().div_ceil(64) {
            let word = self.word(FULL_BITS + number * 8);
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            // Acquire: pairs with who set the bit; the state tells of the rest.
            let bits = word.swap(0, Ordering::Acquire);
            found.extend((0..64).filter(|bit| bits & 1 << bit != 0).map(|bit| number * 64 + bit));
        }
        found.retain(|&slot| slot < self.slot_limit());
        found
    }

    /// Sleeps; until there is a full slot, if that shall end it.
    pub fn sleep(&self, time: Duration, lightly: bool, over: &AtomicBool) {
        let word = self.half(ASLEEP);
        let value = if lightly { 1 } else { 2 };
        // SeqCst: pairs with who sets a bit and then looks whether we sleep.
        word.store(value, Ordering::SeqCst);
        let full = (0..self.slots().div_ceil(64))
            .any(|number| self.word(FULL_BITS + number * 8).load(Ordering::SeqCst) != 0);
        if !(lightly && full || over.load(Ordering::SeqCst)) {
            let time = libc::timespec {
                tv_sec: time.as_secs() as libc::time_t,
                tv_nsec: time.subsec_nanos().into(),
            };
            // SAFETY: a word in the mapping, which lives as long as we do.
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    word.as_ptr(),
                    libc::FUTEX_WAIT,
                    value,
                    &raw const time,
                )
            };
        }
        word.store(0, Ordering::Relaxed);
    }

    /// Ends a sleep.
    pub fn wake(&self) {
        let word = self.half(ASLEEP);
        word.store(0, Ordering::SeqCst);
        // SAFETY: as above.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
    }

    /// None: it has not been begun.
    pub fn look(&self, slot: u64) -> Option<Slot> {
        let at = self.place(slot);
        if self.half(at).load(Ordering::Acquire) != crate::file::CHUNK_MAGIC {
            return None;
        }
        // Acquire: with FULL everything that was committed, with IN_USE whose it is.
        let state = match self.half(at + 48).load(Ordering::Acquire) {
            0 => State::InUse,
            1 => State::Full,
            _ => State::Free,
        };
        let committed = self.word(at + 16).load(Ordering::Acquire);
        Some(Slot {
            state,
            pid: self.half(at + 4).load(Ordering::Relaxed),
            reachable: self.half(at + 52).load(Ordering::Relaxed) != 0,
            image: self.word(at + 8).load(Ordering::Relaxed),
            before: self.word(at + 56).load(Ordering::Relaxed),
            committed: committed.clamp(crate::file::CHUNK_HEADER, self.chunk_size) & !7,
        })
    }

    /// How much is committed now: who was alive at the look may have gone on and died.
    pub fn committed(&self, slot: u64) -> u64 {
        let committed = self.word(self.place(slot) + 16).load(Ordering::Acquire);
        committed.clamp(crate::file::CHUNK_HEADER, self.chunk_size) & !7
    }

    /// Its records, copied to `at` of a file behind this header.
    pub fn copy(
        &self,
        slot: u64,
        committed: u64,
        header: &[u8; 64],
        to: &File,
        at: u64,
    ) -> io::Result<()> {
        let body = self.place(slot) + header.len() as u64;
        let end = self.place(slot) + committed;
        assert!(committed <= self.chunk_size && end <= self.size);
        to.write_all_at(header, at)?;
        let mut done = 0;
        while body + done < end {
            let offset = (at + header.len() as u64 + done) as libc::off_t;
            // SAFETY: in the mapping; the kernel reads it, whatever others do there.
            let wrote = unsafe {
                let from = self.map.add((body + done) as usize);
                libc::pwrite(to.as_raw_fd(), from.cast(), (end - body - done) as usize, offset)
            };
            match wrote {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                1.. => done += wrote as u64,
                _ => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// How many events stand in it, those included that it says were dropped.
    pub fn events(&self, slot: u64, committed: u64) -> u64 {
        let mut at = self.place(slot) + crate::file::CHUNK_HEADER;
        let end = self.place(slot) + committed;
        let mut events = 0;
        while at < end {
            let head = self.word(at).load(Ordering::Relaxed);
            let length = (head >> 8 & 255) * 8;
            if length == 0 || at + length > end {
                break;
            }
            if head as u8 >= crate::file::kind::FIRST_EVENT {
                events += 1;
            } else if head as u8 == crate::file::kind::LOST && length >= 16 {
                events += self.word(at + 8).load(Ordering::Relaxed);
            }
            at += length;
        }
        events
    }

    /// Anybody may use it again.
    pub fn give_back(&self, slot: u64) {
        self.half(self.place(slot) + 48).store(2, Ordering::Relaxed);
        // Release: our reading of it, and the state. Pairs with who clears the bit.
        self.word(FREE_BITS + slot / 64 * 8).fetch_or(1 << (slot % 64), Ordering::Release);
    }

    /// Its memory, which processes that live on would keep.
    pub fn punch(&self, slot: u64) {
        let (at, size) = (self.place(slot) as libc::off_t, self.chunk_size as libc::off_t);
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: a system call on a file of ours.
        unsafe { libc::fallocate(self.file.as_raw_fd(), mode, at, size) };
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        // SAFETY: nobody has a reference into it any more.
        unsafe { libc::munmap(self.map.cast(), self.size as usize) };
    }
}

#[cfg(test)]
impl Shared {
    pub(super) fn write_as_a_process_does(&self, slot: u64, pid: u32, image: u64, words: &[u64]) {
        let at = self.place(slot);
        self.word(SLOTS).fetch_max(slot + 1, Ordering::Relaxed);
        self.word(FREE_BITS + slot / 64 * 8).fetch_and(!(1 << (slot % 64)), Ordering::Acquire);
        self.word(at + 8).store(image, Ordering::Relaxed);
        self.half(at + 4).store(pid, Ordering::Relaxed);
        self.half(at + 52).store(1, Ordering::Relaxed);
        self.half(at + 48).store(0, Ordering::Release);
        self.half(at).store(crate::file::CHUNK_MAGIC, Ordering::Release);
        for (place, word) in (at + 64..).step_by(8).zip(words) {
            self.word(place).store(*word, Ordering::Relaxed);
        }
        self.word(at + 16).store(64 + words.len() as u64 * 8, Ordering::Release);
    }

    pub(super) fn leave_as_a_process_does(&self, slot: u64) {
        self.half(self.place(slot) + 48).store(1, Ordering::Release);
        self.word(FULL_BITS + slot / 64 * 8).fetch_or(1 << (slot % 64), Ordering::Release);
    }

    pub(super) fn replaces_as_a_process_does(&self, slot: u64, before: u64) {
        self.word(self.place(slot) + 56).store(before, Ordering::Relaxed);
    }

    pub(super) fn empty_as_a_process_does(&self, slot: u64) {
        self.word(self.place(slot) + 16).store(64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_rcutrace_has_left_is_removed_and_nothing_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let room = super::super::Room { max_size: 1 << 20, overwrite: None, shared: None };
        let output = super::super::NewFile::create(Some(&directory.path().join("x")), room, "");
        let output = output.expect("created");
        let create = || Shared::create_in(directory.path(), output.header(), 1 << 20);
        let living = create().expect("created");
        let stale = directory.path().join(format!("rcutrace-{}-1-abc", user()));
        let other = directory.path().join("rcutrace-x");
        std::fs::write(&stale, "").expect("written");
        std::fs::write(&other, "").expect("written");
        let second = create().expect("created");
        assert!(living.path().exists() && second.path().exists() && other.exists());
        assert!(!stale.exists());
        assert_eq!(std::fs::metadata(living.path()).expect("there").mode() & 0o777, 0o600);
        let path = living.path().to_owned();
        drop(living);
        assert!(!path.exists());
    }
}
