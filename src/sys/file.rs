//! Reading files, and this process's memory as one reads a file: at an address where there may
//! be nothing any more, without a fault.

use core::ptr;

use super::{arch, getpid, succeeded};

/// A file open for reading.
pub struct File(usize);

impl File {
    /// Opens it, if that can be done without waiting. The path ends with a zero.
    pub fn open(path: &[u8]) -> Result<Self, i32> {
        if path.last() != Some(&0) {
            return Err(libc::EINVAL);
        }
        let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
        // SAFETY: the kernel reads a live, terminated path.
        let answer = unsafe {
            arch::syscall6(
                libc::SYS_openat,
                [libc::AT_FDCWD as usize, path.as_ptr() as usize, flags as usize, 0, 0, 0],
            )
        };
        succeeded(answer).then_some(File(answer as usize)).ok_or(-answer as i32)
    }

    /// What comes next; the number of bytes, zero at the end and where reading fails.
    pub fn read(&self, to: &mut [u8]) -> usize {
        // SAFETY: the kernel writes into a live buffer.
        let answer =
            unsafe { arch::syscall3(libc::SYS_read, self.0, to.as_mut_ptr() as usize, to.len()) };
        usize::try_from(answer).unwrap_or(0)
    }

    /// Fills the buffer from that offset on, or says that it could not.
    #[must_use]
    pub fn read_at(&self, offset: u64, to: &mut [u8]) -> bool {
        let mut done = 0;
        while let Some(rest @ [_, ..]) = to.get_mut(done..) {
            let (address, bytes) = (rest.as_mut_ptr() as usize, rest.len());
            let offset = (offset as usize).wrapping_add(done);
            // SAFETY: the kernel writes into a live buffer.
            let answer = unsafe {
                arch::syscall6(libc::SYS_pread64, [self.0, address, bytes, offset, 0, 0])
            };
            match usize::try_from(answer) {
                Ok(bytes @ 1..) => done += bytes,
                _ => return false,
            }
        }
        true
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: a descriptor that only this value knows.
        unsafe { arch::syscall3(libc::SYS_close, self.0, 0, 0) };
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
    fn memory_that_is_not_there_ends_the_copy() {
        let mut copy = [0; 16];
        assert_eq!(read_memory(b"0123456789abcdef".as_ptr() as u64, &mut copy), 16);
        assert_eq!(&copy, b"0123456789abcdef");
        for nowhere in [0, 1, 8 << 47, u64::MAX] {
            assert_eq!(read_memory(nowhere, &mut copy), 0, "{nowhere:#x}");
        }
    }
}
