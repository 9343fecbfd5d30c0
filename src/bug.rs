//! What bad use gets: one line on standard error by one inline system call, and where going on
//! would corrupt or hang, an abort. No formatting machinery, no allocation, any context.

use core::ptr;

use crate::sys;

/// A number in decimal.
pub struct Decimal {
    digits: [u8; 20],
    first: usize,
}

impl Decimal {
    /// Of any number.
    #[inline(never)]
    pub fn new(number: u64) -> Self {
        let mut decimal = Decimal { digits: [b'0'; 20], first: 20 };
        let mut rest = number;
        for (position, digit) in decimal.digits.iter_mut().enumerate().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
            decimal.first = position;
            if rest == 0 {
                break;
            }
        }
        decimal
    }

    /// Its digits.
    pub fn text(&self) -> &[u8] {
        self.digits.get(self.first..).unwrap_or_default()
    }
}

const MOST_PARTS: usize = 8;

/// Writes `rcu-notrace: `, the parts (six at most) and a new line, at once.
#[inline(never)]
pub fn warn(parts: &[&[u8]]) {
    const NOTHING: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
    let mut line = [NOTHING; MOST_PARTS];
    let texts = [b"rcu-notrace: ".as_slice()].into_iter();
    let texts = texts.chain(parts.iter().copied().take(MOST_PARTS - 2)).chain([b"\n".as_slice()]);
    for (place, text) in line.iter_mut().zip(texts) {
        let part = libc::iovec { iov_base: text.as_ptr().cast_mut().cast(), iov_len: text.len() };
        // SAFETY: a live local. Volatile, or the compiler makes this loop a call of memcpy, and
        // this function must call nothing outside the library.
        unsafe { ptr::write_volatile(place, part) };
    }
    sys::write_stderr(&line);
}

/// Writes the line and ends the process by SIGABRT.
#[cold]
#[inline(always)]
pub fn die(parts: &[&[u8]]) -> ! {
    warn(parts);
    sys::abort()
}

/// `thread N` and the rest, and the end.
#[cold]
pub fn die_in_thread(tid: i32, rest: &[&[u8]; 2]) -> ! {
    die(&[b"thread ", Decimal::new(tid as u64).text(), b": ", rest[0], rest[1]])
}

/// `thread N` and the rest.
#[cold]
pub fn warn_of_thread(tid: i32, rest: &[u8]) {
    warn(&[b"thread ", Decimal::new(tid as u64).text(), rest]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_have_no_leading_zeros_and_never_none_at_all() {
        for number in [0, 7, 10, 12345, u64::MAX] {
            assert_eq!(Decimal::new(number).text(), number.to_string().as_bytes());
        }
    }
}
