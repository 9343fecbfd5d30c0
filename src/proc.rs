//! What the kernel says of a thread of this process, in /proc. Inline system calls, no memory.

use crate::bug::Decimal;
use crate::sys::file::File;

/// Room for a thread's `status`, which is the longest file that is read here.
pub const ROOM: usize = 4096;

/// The text of `/proc/self/task/TID/NAME`, as far as there is room; nothing if there is none, or if
/// that /proc numbers threads otherwise than we do (it is of another pid namespace).
pub fn read<'b>(tid: i32, name: &[u8], room: &'b mut [u8; ROOM]) -> Option<&'b [u8]> {
    let status = read_file(tid, b"status", room)?;
    let innermost = field(status, b"NSpid:")?.rsplit(|byte| *byte == b'\t').next()?;
    if innermost != Decimal::new(tid as u64).text() {
        return None;
    }
    read_file(tid, name, room)
}

fn read_file<'b>(tid: i32, name: &[u8], room: &'b mut [u8; ROOM]) -> Option<&'b [u8]> {
    let mut path = [0u8; 64];
    let decimal = Decimal::new(tid as u64);
    let parts = [b"/proc/self/task/".as_slice(), decimal.text(), b"/", name];
    let text = parts.iter().flat_map(|part| part.iter());
    // The last byte stays a zero, and so do those behind the text.
    for (place, byte) in path.iter_mut().take(63).zip(text) {
        *place = *byte;
    }
    let file = File::open(&path)?;
    let mut used = 0;
    while let Some(rest) = room.get_mut(used..) {
        match file.read(rest) {
            0 => break,
            more => used += more,
        }
    }
    room.get(..used)
}

/// What stands behind a name at the start of a line, without the blanks around.
pub fn field<'t>(text: &'t [u8], name: &[u8]) -> Option<&'t [u8]> {
    let mut lines = text.split(|byte| *byte == b'\n');
    lines.find_map(|line| line.strip_prefix(name)).map(<[u8]>::trim_ascii)
}

/// A number in decimal.
pub fn number(text: &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for digit in text {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
    }
    (!text.is_empty()).then_some(value)
}

/// A set of signals, in hexadecimal.
pub fn has_signal(text: &[u8], signal: i32) -> bool {
    let mut value = 0u64;
    for digit in text {
        let digit = char::from(*digit).to_digit(16).unwrap_or(0);
        value = value << 4 | u64::from(digit);
    }
    value >> (signal - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_threads_status_has_its_fields() {
        let mut room = [0; ROOM];
        let status = read(crate::sys::gettid(), b"status", &mut room).expect("/proc is mounted");
        assert_eq!(field(status, b"State:").map(|state| state[0]), Some(b'R'));
        let switches = field(status, b"voluntary_ctxt_switches:").and_then(number);
        assert!(switches.is_some());
        assert_eq!(field(status, b"NoSuchField:"), None);
    }

    #[test]
    fn a_thread_that_is_not_there_has_no_text() {
        assert!(read(i32::MAX, b"status", &mut [0; ROOM]).is_none());
    }

    #[test]
    fn signals_are_numbered_from_one() {
        assert!(has_signal(b"0000000000400000", 23));
        assert!(!has_signal(b"0000000000400000", 22));
        assert!(has_signal(b"8000000000000000", 64));
    }

    #[test]
    fn numbers_are_decimal_and_nothing_else() {
        assert_eq!(number(b"120"), Some(120));
        assert_eq!(number(b""), None);
        assert_eq!(number(b"12x"), None);
    }
}
