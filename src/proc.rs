//! What the kernel says of a thread of this process, in /proc. Inline system calls, no memory, and
//! little stack.

use crate::bug::Decimal;
use crate::sys::{self, file::File};

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

/// What was read of a status so far.
struct Reading {
    tid: i32,
    status: Status,
    is_ours: bool,
    voluntary: Option<u64>,
    forced: Option<u64>,
}

impl Reading {
    fn new(tid: i32) -> Self {
        let status = Status {
            state: Short::new(),
            pending: 0,
            blocked: 0,
            ignored: 0,
            threads: None,
            switches: None,
        };
        Reading { tid, status, is_ours: true, voluntary: None, forced: None }
    }

    fn take(&mut self, line: &[u8]) {
        let status = &mut self.status;
        let value = |name| line.strip_prefix::<[u8]>(name).map(<[u8]>::trim_ascii);
        if let Some(text) = value(b"State:") {
            text.iter().for_each(|byte| status.state.push(*byte));
        } else if let Some(ids) = value(b"NSpid:") {
            // The innermost is the last.
            let innermost = ids.rsplit(|byte| *byte == b'\t').next();
            self.is_ours = innermost == Some(Decimal::new(self.tid as u64).text());
        } else if let Some(count) = value(b"Threads:") {
            status.threads = number(count);
        } else if let Some(set) = value(b"SigPnd:") {
            status.pending = hexadecimal(set);
        } else if let Some(set) = value(b"SigBlk:") {
            status.blocked = hexadecimal(set);
        } else if let Some(set) = value(b"SigIgn:") {
            status.ignored = hexadecimal(set);
        } else if let Some(count) = value(b"voluntary_ctxt_switches:") {
            self.voluntary = number(count);
        } else if let Some(count) = value(b"nonvoluntary_ctxt_switches:") {
            self.forced = number(count);
        }
    }

    fn end(mut self) -> Option<Status> {
        self.status.switches =
            self.voluntary.zip(self.forced).map(|(own, forced)| own.wrapping_add(forced));
        self.is_ours.then_some(self.status)
    }
}

/// The status of a thread; nothing if there is none, or if that /proc numbers threads otherwise than
/// we do (it is of another pid namespace).
pub fn status(tid: i32) -> Option<Status> {
    let mut reading = Reading::new(tid);
    if each_line(tid, b"status", |line| reading.take(line.text())).is_err() {
        return None;
    }
    reading.end()
}

/// How many threads this process has, in whichever PID namespace. Nothing where that cannot be read.
pub fn threads() -> Option<u64> {
    let file = File::open(b"/proc/self/status\0").ok()?;
    let mut reading = Reading::new(sys::getpid());
    each_line_of(&file, |line| reading.take(line.text()));
    reading.status.threads
}

/// Whether a /proc that lists this thread lists no such other. Not being told is no answer: a process may be
/// out of descriptors.
pub fn lacks(tid: i32) -> bool {
    let answer = open(tid, b"status").err();
    if broken!("proc-answer") {
        return answer.is_some();
    }
    answer == Some(libc::ENOENT) && status(sys::gettid()).is_some()
}

/// The first line of `/proc/self/task/TID/NAME`; the caller has seen the thread's status.
pub fn first_line(tid: i32, name: &[u8]) -> Option<Short> {
    let mut first = None;
    each_line(tid, name, |line| {
        first.get_or_insert(line);
    })
    .ok()?;
    first
}

/// That file.
#[inline(never)]
fn open(tid: i32, name: &[u8]) -> Result<File, i32> {
    let mut path = [0u8; 64];
    let decimal = Decimal::new(tid as u64);
    let parts = [b"/proc/self/task/".as_slice(), decimal.text(), b"/", name];
    let text = parts.iter().flat_map(|part| part.iter());
    // The last byte stays a zero, and so do those behind the text.
    for (place, byte) in path.iter_mut().take(63).zip(text) {
        *place = *byte;
    }
    File::open(&path)
}

/// Shows each line of that file. An error if it cannot be opened.
fn each_line(tid: i32, name: &[u8], visit: impl FnMut(Short)) -> Result<(), i32> {
    each_line_of(&open(tid, name)?, visit);
    Ok(())
}

/// Shows each line of a file, cut off where it is too long (a list of groups may be).
fn each_line_of(file: &File, mut visit: impl FnMut(Short)) {
    let mut piece = [0; 256];
    let mut line = Short::new();
    loop {
        let length = file.read(&mut piece);
        if length == 0 {
            break;
        }
        split(&mut line, piece.get(..length).unwrap_or_default(), &mut visit);
    }
    if line.used != 0 {
        visit(line);
    }
}

/// Shows the lines that end in this piece of a file; `line` is what the last one has of the next.
fn split(line: &mut Short, piece: &[u8], mut visit: impl FnMut(Short)) {
    for byte in piece {
        if *byte == b'\n' {
            visit(core::mem::replace(line, Short::new()));
        } else {
            line.push(*byte);
        }
    }
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
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

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

    /// What a status may hold, in pieces as reads may give them.
    fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let name = select(vec![
            "State:",
            "NSpid:",
            "Threads:",
            "SigPnd:",
            "SigBlk:",
            "SigIgn:",
            "voluntary_ctxt_switches:",
            "nonvoluntary_ctxt_switches:",
            "Groups:",
            "",
            "\n\n",
        ]);
        let value = prop_oneof![
            "[0-9a-f]{0,40}",
            "\t[0-9]{1,30}\t[0-9]{1,30}",
            " *",
            "[ -~]{0,300}",
            "\tR \\(running\\)",
        ];
        let end = select(vec!["\n", "", "\r\n", "\0\n"]);
        let piece = (name, value, end).prop_map(|(name, value, end)| [name, &value, end].concat());
        let bytes = vec(any::<u8>(), 0..300);
        vec(prop_oneof![4 => piece.prop_map(String::into_bytes), 1 => bytes], 0..20)
    }

    proptest! {
        #[test]
        fn hostile_statuses_are_read_to_their_ends_however_they_are_cut(
            pieces in pieces(), tid in any::<i32>(),
        ) {
            let mut lines = Vec::new();
            let mut line = Short::new();
            for piece in &pieces {
                split(&mut line, piece, |line| lines.push(line));
            }
            let whole = pieces.concat();
            prop_assert_eq!(lines.len(), whole.iter().filter(|byte| **byte == b'\n').count());
            // A line is the same wherever reads cut it, and what is too long is cut off.
            for (ours, theirs) in lines.iter().zip(whole.split(|byte| *byte == b'\n')) {
                let kept = &theirs[..theirs.len().min(128)];
                prop_assert_eq!(ours.text(), kept.trim_ascii());
            }
            let mut reading = Reading::new(tid);
            for line in &lines {
                reading.take(line.text());
            }
            if let Some(status) = reading.end() {
                prop_assert!(status.state.text().len() <= 128);
                let _ = status.is_dead();
                for signal in 1..=64 {
                    has_signal(status.blocked, signal);
                }
            }
        }

        #[test]
        fn hostile_numbers_are_those_that_the_standard_library_reads(text in "[0-9]{0,19}|.{0,12}") {
            let theirs = text.parse::<u64>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
            prop_assert_eq!(number(text.as_bytes()), theirs);
        }
    }

    #[test]
    fn numbers_are_decimal_and_nothing_else() {
        assert_eq!(number(b"120"), Some(120));
        assert_eq!(number(b""), None);
        assert_eq!(number(b"12x"), None);
    }
}
