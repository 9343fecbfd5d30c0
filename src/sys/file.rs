//! Reading files, and this process's memory as one reads a file: at an address where there may
//! be nothing any more, without a fault.

use core::cell::Cell;
use core::mem::MaybeUninit;
use core::ptr;

use super::{arch, getpid, succeeded, Answer};

/// A file that was opened, for reading mostly.
///
/// The program may put a file of its own in this descriptor's place meanwhile: one that it has closed
/// before, and names (`dup2` to 0, 1 or 2). That one must neither be read from, where reading takes
/// something away, nor closed: it is another file, or the same (a terminal) and not to be closed by exec.
pub struct File {
    descriptor: usize,
    /// Which file it is.
    file: Option<Identity>,
    /// How much was read.
    position: Cell<u64>,
}

/// Device and inode.
type Identity = (u64, u64);

fn identity(descriptor: usize) -> Option<Identity> {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the kernel fills in its structure, which is libc's on the architectures that we run on.
    let answer =
        unsafe { arch::syscall3(libc::SYS_fstat, descriptor, status.as_mut_ptr() as usize, 0) };
    // SAFETY: it did.
    (answer == 0)
        .then(|| unsafe { status.assume_init() })
        .map(|status| (status.st_dev, status.st_ino))
}

impl File {
    /// Opens it, if that can be done without waiting. The path ends with a zero.
    pub fn open(path: &[u8]) -> Result<Self, i32> {
        Self::open_for(libc::O_RDONLY, path)
    }

    /// The same for writing, where that too is not to wait.
    pub fn open_to_write(path: &[u8]) -> Result<Self, i32> {
        Self::open_for(libc::O_WRONLY, path)
    }

    fn open_for(access: i32, path: &[u8]) -> Result<Self, i32> {
        if path.last() != Some(&0) {
            return Err(libc::EINVAL);
        }
        let flags = access | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
        // SAFETY: the kernel reads a live, terminated path.
        let answer = unsafe {
            arch::syscall6(
                libc::SYS_openat,
                [libc::AT_FDCWD as usize, path.as_ptr() as usize, flags as usize, 0, 0, 0],
            )
        };
        if !succeeded(answer) {
            return Err(-answer as i32);
        }
        let descriptor = answer as usize;
        Ok(File { descriptor, file: identity(descriptor), position: Cell::new(0) })
    }

    /// What comes next; the number of bytes, zero at the end and where reading fails.
    pub fn read(&self, to: &mut [u8]) -> usize {
        let position = self.position.get();
        let read = self.read_some(position, to);
        self.position.set(position.wrapping_add(read as u64));
        read
    }

    /// One `writev(2)`.
    pub fn write(&self, parts: &[libc::iovec]) -> Answer {
        // SAFETY: the kernel reads live vectors, of live text.
        unsafe {
            arch::syscall3(libc::SYS_writev, self.descriptor, parts.as_ptr() as usize, parts.len())
        }
    }

    /// What is at that offset, as much as the kernel gives at once.
    fn read_some(&self, offset: u64, to: &mut [u8]) -> usize {
        let (address, bytes) = (to.as_mut_ptr() as usize, to.len());
        // SAFETY: the kernel writes into a live buffer.
        let answer = unsafe {
            arch::syscall6(
                libc::SYS_pread64,
                [self.descriptor, address, bytes, offset as usize, 0, 0],
            )
        };
        usize::try_from(answer).unwrap_or(0)
    }

    /// Fills the buffer from that offset on, or says that it could not.
    #[must_use]
    pub fn read_at(&self, offset: u64, to: &mut [u8]) -> bool {
        let mut done = 0;
        while let Some(rest @ [_, ..]) = to.get_mut(done..) {
            match self.read_some(offset.wrapping_add(done as u64), rest) {
                0 => return false,
                bytes => done += bytes,
            }
        }
        true
    }
}

/// Whether exec closes it; if that is refused, too.
fn is_closed_by_exec(descriptor: usize) -> bool {
    // SAFETY: no memory.
    let flags = unsafe { arch::syscall3(libc::SYS_fcntl, descriptor, libc::F_GETFD as usize, 0) };
    flags < 0 || flags & libc::FD_CLOEXEC as Answer != 0
}

impl Drop for File {
    fn drop(&mut self) {
        if identity(self.descriptor) != self.file || !is_closed_by_exec(self.descriptor) {
            return;
        }
        // SAFETY: ours, as we have just seen.
        unsafe { arch::syscall3(libc::SYS_close, self.descriptor, 0, 0) };
    }
}

/// Whether a thread has its memory still: it loses that when it ends, be it the first one, which stays as a
/// zombie. Of this process, and alive or a zombie; nothing if the kernel does not say. Opens no file.
pub fn has_memory(tid: i32) -> Option<bool> {
    let from = 0u8;
    let mut to = 0u8;
    let here = libc::iovec { iov_base: (&raw mut to).cast(), iov_len: 1 };
    let there = libc::iovec { iov_base: (&raw const from).cast_mut().cast(), iov_len: 1 };
    let (here, there) = (&raw const here as usize, &raw const there as usize);
    // SAFETY: the kernel reads one live byte and writes the other.
    let answer =
        unsafe { arch::syscall6(libc::SYS_process_vm_readv, [tid as usize, here, 1, there, 1, 0]) };
    match -answer as i32 {
        -1 => Some(true),
        libc::ESRCH => Some(false),
        _ => None,
    }
}

/// Fills the buffer with this process's memory from that address on, as far as there is any, up
/// to the granularity of pages: the number of bytes.
pub fn read_memory(address: u64, to: &mut [u8]) -> usize {
    let here = libc::iovec { iov_base: to.as_mut_ptr().cast(), iov_len: to.len() };
    let there =
        libc::iovec { iov_base: ptr::without_provenance_mut(address as usize), iov_len: to.len() };
    let (here, there) = (&raw const here as usize, &raw const there as usize);
    // SAFETY: the kernel writes into a live buffer; of the other address it takes care itself.
    let answer = unsafe {
        arch::syscall6(libc::SYS_process_vm_readv, [getpid() as usize, here, 1, there, 1, 0])
    };
    usize::try_from(answer).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_at_an_offset_whole_or_not_at_all() {
        let whole = std::fs::read("Cargo.toml").expect("tests run in the package's directory");
        let file = File::open(b"Cargo.toml\0").expect("as above");
        let mut part = [0; 16];
        assert!(file.read_at(3, &mut part));
        assert_eq!(part, whole[3..19]);
        assert!(!file.read_at(whole.len() as u64 - 8, &mut part));
        assert_eq!(file.read(&mut part), 16);
        assert_eq!(part, whole[..16]);
        assert!(File::open(b"no such file\0").is_err());
    }

    #[test]
    fn a_file_that_came_in_its_place_is_not_closed() {
        let file = File::open(b"Cargo.toml\0").expect("tests run in the package's directory");
        let other = std::fs::File::open("Cargo.lock").expect("as above");
        let place = file.descriptor;
        // SAFETY: the program's own descriptors.
        assert!(unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&other), place as i32) } >= 0);
        let programs = identity(place);
        drop(file);
        assert!(programs.is_some() && identity(place) == programs);
        // The very file, as its terminal is at 0, 1 and 2.
        let file = File::open(b"Cargo.lock\0").expect("as above");
        let named = file.descriptor;
        // SAFETY: as above.
        assert!(unsafe { libc::dup2(place as i32, named as i32) } >= 0);
        drop(file);
        assert!(identity(named) == programs);
        for descriptor in [place, named] {
            // SAFETY: as above.
            unsafe { libc::close(descriptor as i32) };
        }
        let file = File::open(b"Cargo.toml\0").expect("as above");
        let place = file.descriptor;
        drop(file);
        assert_ne!(identity(place), identity(std::os::fd::AsRawFd::as_raw_fd(&other) as usize));
    }

    #[test]
    fn a_thread_that_lives_has_memory_and_one_that_there_is_not_has_none() {
        assert_eq!(has_memory(getpid()), Some(true));
        assert_eq!(has_memory(i32::MAX), Some(false));
    }

    #[test]
    fn memory_that_is_not_there_ends_the_copy() {
        let mut copy = [0; 16];
        assert_eq!(read_memory(b"0123456789abcdef".as_ptr() as u64, &mut copy), 16);
        assert_eq!(&copy, b"0123456789abcdef");
        for nowhere in [0, 1, 8 << 47, u64::MAX] {
            assert_eq!(read_memory(nowhere, &mut copy), 0, "{nowhere:#x}");
        }
    }
}
