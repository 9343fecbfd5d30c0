//! What the kernel says of a thread of this process, in /proc. Inline system calls, no memory, and
//! little stack.

use crate::bug::Decimal;
use crate::sys::file::File;

/// A short text of the kernel's; what does not fit is cut off.
pub struct Short {
    text: [u8; 128],
    used: usize,
}

impl Short {
    const fn new() -> Self {
        Short { text: [0; 128], used: 0 }
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.text.get_mut(self.used) {
            *place = byte;
            self.used += 1;
        }
    }

    /// The text, without the blanks around.
    pub fn text(&self) -> &[u8] {
        self.text.get(..self.used).unwrap_or_default().trim_ascii()
    }
}

/// A thread's status.
pub struct Status {
    /// A letter and its meaning.
    pub state: Short,
    /// The set of signals that are pending for the thread.
    pub pending: u64,
    /// The set that it blocks.
    pub blocked: u64,
    /// The set that the process ignores.
    pub ignored: u64,
    /// How many threads the process has, those included that have ended and are not gone.
    pub threads: Option<u64>,
    /// How often it was taken off its processor, if the kernel counts that.
    pub switches: Option<u64>,
}

impl Status {
    /// Whether the thread has ended, though its id is still taken.
    pub fn is_dead(&self) -> bool {
        matches!(self.state.text().first(), Some(b'Z' | b'X'))
    }
}

/// Whether a set has a signal.
pub fn has_signal(set: u64, signal: i32) -> bool {
    set >> (signal - 1) & 1 == 1
}

/// The status of a thread; nothing if there is none, or if that /proc numbers threads otherwise than
/// we do (it is of another pid namespace).
pub fn status(tid: i32) -> Option<Status> {
    let mut status = Status {
        state: Short::new(),
        pending: 0,
        blocked: 0,
        ignored: 0,
        threads: None,
        switches: None,
    };
    let (mut is_ours, mut voluntary, mut forced) = (true, None, None);
    let visit = |line: Short| {
        let line = line.text();
        let value = |name| line.strip_prefix::<[u8]>(name).map(<[u8]>::trim_ascii);
        if let Some(text) = value(b"State:") {
            text.iter().for_each(|byte| status.state.push(*byte));
        } else if let Some(ids) = value(b"NSpid:") {
            // The innermost is the last.
            let innermost = ids.rsplit(|byte| *byte == b'\t').next();
            is_ours = innermost == Some(Decimal::new(tid as u64).text());
        } else if let Some(count) = value(b"Threads:") {
            status.threads = number(count);
        } else if let Some(set) = value(b"SigPnd:") {
            status.pending = hexadecimal(set);
        } else if let Some(set) = value(b"SigBlk:") {
            status.blocked = hexadecimal(set);
        } else if let Some(set) = value(b"SigIgn:") {
            status.ignored = hexadecimal(set);
        } else if let Some(count) = value(b"voluntary_ctxt_switches:") {
            voluntary = number(count);
        } else if let Some(count) = value(b"nonvoluntary_ctxt_switches:") {
            forced = number(count);
        }
    };
    if !each_line(tid, b"status", visit) || !is_ours {
        return None;
    }
    status.switches = voluntary.zip(forced).map(|(own, forced)| own.wrapping_add(forced));
    Some(status)
}

/// Whether there is such a thread, says a /proc that numbers threads as we do.
pub fn lists(tid: i32) -> bool {
    status(tid).is_some()
}

/// The first line of `/proc/self/task/TID/NAME`; the caller has seen the thread's status.
pub fn first_line(tid: i32, name: &[u8]) -> Option<Short> {
    let mut first = None;
    each_line(tid, name, |line| {
        first.get_or_insert(line);
    });
    first
}

/// Shows each line of that file, cut off where it is too long (a list of groups may be). False if
/// there is no such file.
fn each_line(tid: i32, name: &[u8], mut visit: impl FnMut(Short)) -> bool {
    let mut path = [0u8; 64];
    let decimal = Decimal::new(tid as u64);
    let parts = [b"/proc/self/task/".as_slice(), decimal.text(), b"/", name];
    let text = parts.iter().flat_map(|part| part.iter());
    // The last byte stays a zero, and so do those behind the text.
    for (place, byte) in path.iter_mut().take(63).zip(text) {
        *place = *byte;
    }
    let Some(file) = File::open(&path) else { return false };
    let mut piece = [0; 256];
    let mut line = Short::new();
    loop {
        let length = file.read(&mut piece);
        for byte in piece.iter().take(length) {
            if *byte == b'\n' {
                visit(core::mem::replace(&mut line, Short::new()));
            } else {
                line.push(*byte);
            }
        }
        if length == 0 {
            break;
        }
    }
    if line.used != 0 {
        visit(line);
    }
    true
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

fn hexadecimal(text: &[u8]) -> u64 {
    let digit = |byte: &u8| u64::from(char::from(*byte).to_digit(16).unwrap_or(0));
    text.iter().fold(0, |value, byte| value << 4 | digit(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_thread_runs_and_was_taken_off_its_processor_some_times() {
        let status = status(crate::sys::gettid()).expect("/proc is mounted");
        assert_eq!(status.state.text().first(), Some(&b'R'));
        assert!(status.switches.is_some());
        assert!(!status.is_dead());
    }

    #[test]
    fn its_name_is_a_line() {
        let name = first_line(crate::sys::gettid(), b"comm").expect("/proc is mounted");
        assert!(!name.text().is_empty() && !name.text().contains(&b'\n'));
    }

    #[test]
    fn a_thread_that_is_not_there_has_no_status() {
        assert!(status(i32::MAX).is_none());
        assert!(first_line(i32::MAX, b"comm").is_none());
    }

    #[test]
    fn signals_are_numbered_from_one() {
        assert!(has_signal(hexadecimal(b"0000000000400000"), 23));
        assert!(!has_signal(hexadecimal(b"0000000000400000"), 22));
        assert!(has_signal(hexadecimal(b"8000000000000000"), 64));
    }

    #[test]
    fn numbers_are_decimal_and_nothing_else() {
        assert_eq!(number(b"120"), Some(120));
        assert_eq!(number(b""), None);
        assert_eq!(number(b"12x"), None);
    }
}
