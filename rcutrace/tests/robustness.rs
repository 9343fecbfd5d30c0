// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that are cut, torn or hostile: everything that is complete is told, nothing panics. Nor by what a process
//! answers.

mod common;

use std::io::{self, Read};
use std::time::{Duration, Instant};

use common::*;
use proptest::prelude::*;
use rcutrace::control;
use rcutrace::export::{chrome, flame};
use rcutrace::progress::Progress;
use rcutrace::report::{self, table::View};
use rcutrace::trace::Trace;
use serde_json::json;

const IMAGE: u64 = 0xabc;
const T: u64 = 10_000_000;

/// Something of everything.
fn everything() -> Writer {
    let mut writer = Writer::new();
    writer.process(100, IMAGE, 0, "start", "/bin/cmd", 2_000_000);
    writer.map(IMAGE, 0x40_0000, 0x50_0000, 0, &[1, 2, 3, 4], "/bin/true");
    writer.map(IMAGE, 0x60_0000, 0x70_0000, 0, &[], "/bin/true");
    writer.thread_name("main", T);
    writer.record(8, T, &[IMAGE, 1, u64::from_le_bytes(*b"heap\0\0\0\0")]);
    for turn in 0..20 {
        let time = T + turn * 1000;
        writer.record(MALLOC, time, &[0x1000 + turn, 100, 0x40_0100, 0x40_0100, 0x60_2000]);
        writer.record(CALLOC, time + 1, &[0x2000 + turn, 10, 20, 0x60_0100]);
        writer.record(REALLOC, time + 2, &[0x3000 + turn, 0x1000 + turn, 150, 0x53]);
        writer.record(MEMALIGN, time + 3, &[0x4000, 64, 1000, 0x51]);
        writer.record(FREE, time + 4, &[0x4000]);
        writer.record(ACQUIRE, time + 5, &[0x7000, 0, 3, 0x51]);
        writer.record(WAIT, time + 10, &[0x8000, 0x7000, 4, 0, 0x53]);
        writer.record(RELEASE, time + 11, &[0x7000, 0, 0x51]);
        writer.record(FAILED, time + 12, &[0x7000, 0, 1, 16, 0x55]);
        writer.record(SIGNAL, time + 13, &[0x8000, 0, 0x54]);
        writer.record(ENTRY, time + 14, &[0x100 + turn % 3, 0]);
        writer.record(ENTRY, time + 15, &[0x200, 0]);
        writer.record(EXIT, time + 16, &[0x200]);
        writer.texted(FD_OPEN, time + 19, &[turn, 0x51], b"/etc/passwd\0");
        writer.record(FD_CLOSE, time + 20, &[turn, 0, 0x51]);
    }
    writer.record(5, T + 30_000, &[3]);
    writer.process(200, 0xdef, IMAGE, "fork", "/bin/cmd", T + 500);
    writer.chunk(200, 201, 0xdef, T + 600);
    writer.record(MALLOC, T + 700, &[0x1000, 1, 0x51]);
    writer.exit(T + 800);
    writer
}

/// All that reads a trace. Errors are in order; panics are not.
fn use_it(writer: &Writer) {
    let Ok(trace) = writer.open() else { return };
    let silent = &mut Progress::silent();
    for json in [false, true] {
        let view = View { sort: None, top: 3 };
        let options = report::Options { view, graph: true, json };
        let _ = report::write(&trace, &options, silent, &mut Vec::new());
    }
    let _ = rcutrace::dump::write(&trace, silent, &mut Vec::new());
    let mut out = Vec::new();
    if chrome::write(&trace, silent, &mut out).is_ok() {
        serde_json::from_slice::<serde_json::Value>(&out).expect("JSON whatever the trace holds");
    }
    use flame::Measure::*;
    for measure in [Bytes, Live, Calls, Wait, Time] {
        let _ = flame::fold(&trace, measure, silent);
    }
}

/// A word that is likely to do harm.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        Just(0),
        Just(u64::MAX),
        Just(1 << 63),
        0..0x2000_u64,
        Just(64),
        (0..256_u64, 0..256_u64).prop_map(|(kind, length)| kind | length << 8 | T << 16),
    ]
}

/// A socket that gives what it has in pieces of these lengths; 0: a signal comes instead. And how much was read.
struct Socket<'a> {
    bytes: &'a [u8],
    pieces: &'a [usize],
    reads: usize,
    taken: usize,
}

impl<'a> Socket<'a> {
    fn new(bytes: &'a [u8], pieces: &'a [usize]) -> Self {
        Self { bytes, pieces, reads: 0, taken: 0 }
    }

    /// What the process has said, as a command hears it.
    fn hear(&mut self) -> Result<Vec<String>, String> {
        let until = Instant::now() + Duration::from_secs(60);
        let answer = control::read_answer(self, until).map_err(|e| e.to_string())?;
        control::take_apart(&answer)
    }
}

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.pieces[self.reads % self.pieces.len()];
        self.reads += 1;
        if piece == 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let length = piece.min(buffer.len()).min(self.bytes.len());
        buffer[..length].copy_from_slice(&self.bytes[..length]);
        self.bytes = &self.bytes[length..];
        self.taken += length;
        Ok(length)
    }
}

/// The last one is no signal, so that it comes to an end.
fn pieces() -> impl Strategy<Value = Vec<usize>> {
    let piece = prop_oneof![Just(0), 1..10_usize, Just(4096), 1..100_000_usize];
    (prop::collection::vec(piece, 0..5), 1..100_usize).prop_map(|(mut all, last)| {
        all.push(last);
        all
    })
}

/// Likely words, and what they should not have.
fn answer() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just(b"ok".to_vec()),
        Just(b"error".to_vec()),
        Just(b"pid=1".to_vec()),
        Just(b"\x1b]0;\x07".to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
        (any::<u8>(), 0..70_000_usize).prop_map(|(byte, length)| vec![byte; length]),
    ];
    let between = prop_oneof![4 => Just(b'\t'), 1 => Just(b'\n'), 1 => any::<u8>()];
    prop::collection::vec((word, between), 0..8).prop_map(|words| {
        words.into_iter().flat_map(|(word, between)| [word, vec![between]].concat()).collect()
    })
}

/// More of them by `make fuzz`.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn no_change_of_words_makes_it_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), word()), 1..30)) {
        let mut writer = everything();
        for (place, value) in changes {
            let place = place.index(writer.bytes.len() / 8) * 8;
            // The zeros of the header are not interesting.
            let place = if (128..4096).contains(&place) { place % 128 / 8 * 8 } else { place };
            writer.put64(place, value);
        }
        use_it(&writer);
    }

    #[test]
    fn no_change_of_bytes_makes_it_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..60)) {
        let mut writer = everything();
        for (place, value) in changes {
            let place = 4096 + place.index(writer.bytes.len() - 4096);
            writer.bytes[place] = value;
        }
        use_it(&writer);
    }

    #[test]
    fn no_cut_makes_it_panic(end in any::<prop::sample::Index>()) {
        let mut writer = everything();
        let end = end.index(writer.bytes.len());
        writer.bytes.truncate(end);
        use_it(&writer);
    }

    #[test]
    fn no_answer_of_a_process_makes_it_panic(bytes in answer(), pieces in pieces()) {
        let mut socket = Socket::new(&bytes, &pieces);
        let heard = socket.hear();
        prop_assert!(socket.taken < (64 << 10) + 4096);
        let line = bytes.iter().position(|&byte| byte == b'\n').map(|end| &bytes[..end]);
        match heard {
            Ok(parts) => {
                let whole = String::from_utf8_lossy(line.expect("a whole line"));
                prop_assert_eq!(["ok".to_owned()].into_iter().chain(parts).collect::<Vec<_>>().join("\t"), whole);
            }
            // It goes to a terminal.
            Err(said) => prop_assert!(!said.contains(char::is_control)),
        }
    }

    #[test]
    fn no_cut_of_an_answer_is_taken_for_all_of_it(cut in any::<prop::sample::Index>(), pieces in pieces()) {
        let bytes = b"ok\tpid=5\timage=7\tfile=/tmp/x.trace\theap=attached\tbytes=4096\tlost=0\n";
        prop_assert!(Socket::new(&bytes[..cut.index(bytes.len())], &pieces).hear().is_err());
        prop_assert_eq!(Socket::new(bytes, &pieces).hear().map(|parts| parts.len()), Ok(6));
    }
}

#[test]
fn an_answer_without_an_end_is_read_neither_for_ever_nor_to_the_last() {
    let soon = Instant::now() + Duration::from_secs(60);
    let error = control::read_answer(io::repeat(b'x'), soon).expect_err("endless").to_string();
    assert_eq!(error, "an answer without an end");
    // A byte now and then, and nothing but signals.
    for pieces in [[1], [0]] {
        let mut socket = Socket::new(&[b'x'; 1000], &pieces);
        let error = control::read_answer(&mut socket, Instant::now()).expect_err("too late");
        assert_eq!((error.kind(), socket.reads), (io::ErrorKind::TimedOut, 1));
    }
}

#[test]
fn a_file_that_is_none_of_ours_is_refused_in_one_line() {
    let mut writer = everything();
    writer.bytes[0] = b'X';
    let error = writer.open().expect_err("not ours").to_string();
    assert!(error.ends_with("test.trace: not a trace of rcutrace"), "{error}");
    writer.bytes.truncate(0);
    assert!(writer.open().is_err());
    let silent = &mut Progress::silent();
    let error = Trace::open("/dev/zero".as_ref(), silent).expect_err("endless").to_string();
    assert_eq!(error, "/dev/zero: not a regular file");
    let mut writer = everything();
    writer.put32(8, 2);
    assert!(writer.open().expect_err("another version").to_string().contains("version 2"));
    let mut writer = everything();
    writer.put32(12, 3);
    assert!(writer.open().expect_err("no power of two").to_string().contains("chunk size"));
}

#[test]
fn a_killed_programs_file_tells_what_is_complete_and_that_it_was_cut() {
    let mut writer = everything();
    let whole = writer.report();
    assert_eq!(whole["trace"]["warnings"].as_array().map(Vec::len), Some(2), "{}", whole["trace"]); // lost, build id
                                                                                                    // Two chunks were handed out and never begun, and one lies behind the file's end.
    writer.bytes.resize(writer.bytes.len() + CHUNK, 0);
    let chunks = u64::from_le_bytes(writer.bytes[88..96].try_into().unwrap());
    writer.put64(88, chunks + 3);
    let report = writer.report();
    assert_eq!(report["trace"]["missing_chunks"], 3);
    assert_eq!(report["heap"], whole["heap"]);
    assert!(report["trace"]["warnings"].to_string().contains("the file was cut"));
    assert_eq!(report["trace"]["unfinished"], 1);
    // The last chunk, cut in its last record.
    let mut writer = everything();
    let end = writer.bytes.len() - CHUNK + 64 + 32 + 16;
    writer.bytes.truncate(end);
    let report = writer.report();
    assert_eq!(report["trace"]["damaged_chunks"], 1);
    assert_eq!(report["trace"]["processes"], 2);
}

#[test]
fn a_hole_of_a_tebibyte_takes_no_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut writer = everything();
    writer.put64(88, u64::MAX);
    let path = writer.save(directory.path());
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("opened");
    file.set_len(1 << 40).expect("a sparse file");
    let trace = Trace::open(&path, &mut Progress::silent()).expect("opened");
    assert_eq!(trace.images.len(), 2);
    assert_eq!(trace.flaws.missing_chunks, (1 << 28) - writer.bytes.len() as u64 / 4096);
}

#[test]
fn what_lies_behind_committed_is_not_read() {
    let mut writer = Writer::new();
    writer.process(100, IMAGE, 0, "start", "/bin/cmd", 2_000_000);
    writer.chunk(100, 100, IMAGE, T);
    let chunk = writer.bytes.len() - CHUNK;
    writer.record(MALLOC, T, &[0x1000, 100, 0x51]);
    let committed = writer.bytes[chunk + 16..chunk + 24].to_vec();
    writer.record(MALLOC, T + 1, &[0x2000, 100, 0x51]);
    writer.bytes[chunk + 16..chunk + 24].copy_from_slice(&committed);
    assert_eq!(writer.report()["heap"]["requested_bytes"], 100);
}

#[test]
fn a_chunk_goes_on_with_another_thread_and_a_thread_in_another_chunk() {
    let mut writer = Writer::new();
    writer.process(100, IMAGE, 0, "start", "/bin/cmd", 2_000_000);
    writer.chunk(100, 101, IMAGE, T);
    writer.record(ENTRY, T, &[0x100, 0]);
    writer.record(EXIT, T + 10, &[0x100]);
    writer.context(100, 102, IMAGE, T + 20);
    for turn in 0..400 {
        writer.record(ENTRY, T + 20 + turn * 10, &[0x200, 0]);
        writer.record(EXIT, T + 25 + turn * 10, &[0x200]);
    }
    let report = writer.report();
    assert_eq!(report["trace"]["threads"], 3);
    assert_eq!(report["functions"]["calls"], 401);
    assert_eq!(report["functions"]["unmatched_exits"], 0);
}

#[test]
fn a_record_of_a_signal_handler_may_be_older_than_the_one_before_it() {
    let mut writer = Writer::new();
    writer.process(100, IMAGE, 0, "start", "/bin/cmd", 2_000_000);
    writer.chunk(100, 100, IMAGE, T);
    writer.record(ENTRY, T + 10, &[0x100, 0]);
    writer.record(ENTRY, T + 5, &[0x200, 0]);
    writer.record(EXIT, T + 20, &[0x200]);
    writer.record(EXIT, T + 30, &[0x100]);
    let functions = &writer.report()["functions"];
    assert_eq!((&functions["unfinished"], &functions["unmatched_exits"]), (&json!(0), &json!(0)));
}

#[test]
fn times_beyond_48_bits_follow_from_the_context() {
    let high = (7 << 48) - 100;
    let mut writer = Writer::new();
    writer.put64(40, high - 1000); // start.ticks
    writer.put64(64, high - 1000 + 1_999_000_000);
    writer.process(100, IMAGE, 0, "start", "/bin/cmd", high);
    writer.chunk(100, 100, IMAGE, high);
    writer.record(ENTRY, high + 50, &[0x100, 0]);
    writer.record(EXIT, (high + 250) & ((1 << 48) - 1), &[0x100]); // the low bits began anew
    let report = writer.report();
    assert_eq!(report["functions"]["functions"][0]["total"], 200);
    assert_eq!(report["trace"]["duration"], 250);
}

#[test]
fn a_clock_that_was_not_calibrated_is_told() {
    let mut writer = everything();
    let start = writer.bytes[40..64].to_vec();
    writer.bytes[64..88].copy_from_slice(&start);
    assert!(writer.text(|_| ()).contains("WARNING: the file's clock is not calibrated"));
}
