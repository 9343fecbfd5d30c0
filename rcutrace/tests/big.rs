// SPDX-License-Identifier: MIT OR Apache-2.0
//! How fast big files are read:
//! `BIG_EVENTS=100000000 cargo test --profile tool -p rcutrace --test big -- --ignored --nocapture`

mod common;

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Instant;

use common::*;
use rcutrace::export::chrome;
use rcutrace::progress::Progress;
use rcutrace::report::{self, table::View};
use rcutrace::trace::Trace;

const IMAGE: u64 = 0xabc;
const BIG_CHUNK: usize = 262_144;
const THREADS: u64 = 4;
/// Blocks that a thread has at a time.
const LIVE: u64 = 1000;

/// Threads that allocate, and free what they allocated a while ago, all at once.
fn generate(path: &Path, events: u64) {
    let mut small = Writer::new();
    small.process(100, IMAGE, 0, "start", "/bin/cmd", 2_000_000);
    small.put32(12, BIG_CHUNK as u32);
    let mut bytes = small.bytes.clone();
    bytes.resize(4096 + BIG_CHUNK, 0);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).expect("created"));
    out.write_all(&bytes).expect("written");
    let mut turns = [0_u64; THREADS as usize];
    let (mut written, mut chunks) = (0, 1_u64);
    while written < events {
        let thread = chunks % THREADS;
        let turn = &mut turns[thread as usize];
        let mut chunk = Vec::with_capacity(BIG_CHUNK);
        let mut word = |word: u64| chunk.extend(word.to_le_bytes());
        word(0x4b4e_4843 | 100 << 32);
        (0..7).for_each(|_| word(0));
        let time = |turn: u64| 10_000_000 + turn * 100 + thread;
        word(1 | 4 << 8 | time(*turn) << 16);
        word(100 | (200 + thread) << 32);
        word(time(*turn));
        word(IMAGE);
        let block = |turn: u64| (thread + 1) << 40 | (turn % (2 * LIVE)) << 6;
        let mut used = 64 + 32;
        while used + 32 + 16 <= BIG_CHUNK && written < events {
            word(u64::from(MALLOC) | 4 << 8 | time(*turn) << 16);
            [block(*turn), *turn % 5000, 0x40_0000 + *turn % 97].into_iter().for_each(&mut word);
            written += 1;
            used += 32;
            if *turn >= LIVE {
                word(u64::from(FREE) | 2 << 8 | (time(*turn) + 50) << 16);
                word(block(*turn - LIVE));
                written += 1;
                used += 16;
            }
            *turn += 1;
        }
        chunk[16..24].copy_from_slice(&(used as u64).to_le_bytes());
        chunk.resize(BIG_CHUNK, 0);
        out.write_all(&chunk).expect("written");
        chunks += 1;
    }
    out.seek(SeekFrom::Start(88)).expect("sought");
    out.write_all(&chunks.to_le_bytes()).expect("written");
    out.flush().expect("written");
}

#[test]
#[ignore = "a measurement"]
fn events_a_second() {
    let events = std::env::var("BIG_EVENTS").ok().and_then(|text| text.parse().ok());
    let events: u64 = events.unwrap_or(10_000_000);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = directory.path().join("big.trace");
    generate(&path, events);
    let size = std::fs::metadata(&path).expect("there").len();
    println!("{events} events, {} MB", size >> 20);
    let silent = &mut Progress::silent();
    let rate = |what: &str, start: Instant| {
        let took = start.elapsed().as_secs_f64();
        println!("{what}: {took:.2} s, {:.1} million events a second", events as f64 / took / 1e6);
    };
    let start = Instant::now();
    let trace = Trace::open(&path, silent).expect("opened");
    rate("definitions", start);
    assert_eq!(trace.events, events);
    let start = Instant::now();
    rcutrace::merge::for_each(&trace, silent, |_| Ok(())).expect("merged");
    rate("order", start);
    let start = Instant::now();
    let options = report::Options { view: View { sort: None, top: 5 }, graph: false, json: true };
    let mut out = Vec::new();
    report::write(&trace, &options, silent, &mut out).expect("reported");
    rate("report, after the definitions", start);
    let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
    assert_eq!(json["heap"]["unmatched_frees"], 0);
    assert_eq!(json["heap"]["live_blocks"], THREADS * LIVE);
    let start = Instant::now();
    chrome::write(&trace, silent, &mut std::io::sink()).expect("exported");
    rate("chrome, after the definitions", start);
    let start = Instant::now();
    if events <= 10_000_000 {
        rcutrace::dump::write(&trace, silent, &mut std::io::sink()).expect("dumped");
        rate("dump, after the definitions", start);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default());
}
