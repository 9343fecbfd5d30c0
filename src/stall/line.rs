//! A line of text, made without formatting machinery.

use crate::bug::Decimal;

/// Room for a long symbol, a file's name, and what is said about them.
const CAPACITY: usize = 1280;

/// Text of a fixed capacity: what does not fit is cut off.
pub struct Line {
    text: [u8; CAPACITY],
    used: usize,
}

impl Line {
    /// An empty one.
    pub const fn new() -> Self {
        Line { text: [0; CAPACITY], used: 0 }
    }

    /// Makes it empty.
    pub fn clear(&mut self) {
        self.used = 0;
    }

    /// What was pushed so far.
    pub fn text(&self) -> &[u8] {
        self.text.get(..self.used).unwrap_or_default()
    }

    /// Appends text.
    #[inline(never)]
    pub fn push(&mut self, text: &[u8]) {
        for (place, byte) in self.text.iter_mut().skip(self.used).zip(text) {
            *place = *byte;
            self.used += 1;
        }
    }

    /// Appends a number as `0x` and hexadecimal digits.
    #[inline(never)]
    pub fn push_hex(&mut self, number: u64) {
        self.push(b"0x");
        let digits = (64 - (number | 1).leading_zeros()).div_ceil(4);
        for position in (0..digits).rev() {
            let digit = (number >> (position * 4) & 15) as u8;
            self.push(&[if digit < 10 { b'0' + digit } else { b'a' - 10 + digit }]);
        }
    }

    /// Appends a number in decimal.
    #[inline(never)]
    pub fn push_decimal(&mut self, number: u64) {
        self.push(Decimal::new(number).text());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_the_standard_library_writes_them() {
        let mut line = Line::new();
        for number in [0, 1, 9, 10, 15, 16, 255, 256, 0x7fff_1234_abcd, u64::MAX] {
            line.clear();
            line.push_hex(number);
            line.push(b" ");
            line.push_decimal(number);
            assert_eq!(line.text(), format!("{number:#x} {number}").as_bytes());
        }
    }

    #[test]
    fn what_does_not_fit_is_cut_off() {
        let mut line = Line::new();
        line.push(&[b'x'; CAPACITY - 1]);
        line.push(b"yz");
        line.push(b"more");
        assert_eq!(line.text().len(), CAPACITY);
        assert_eq!(line.text().last(), Some(&b'y'));
    }
}
