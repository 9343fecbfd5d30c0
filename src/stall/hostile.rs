//! What is read of anybody's program, made hostile: no panic, no endless loop, nothing beyond the end.
//! (tests.rs has threads that are caught, and files that are gone.)

use std::os::unix::fs::FileExt;
use std::ptr;

use proptest::collection::vec;
use proptest::prelude::*;

use super::image::{parse, Images};
use super::rows::{Cursor, Index};
use super::unwind::{Frame, Registers, Snapshot, REGISTERS};
use super::Line;

/// Bytes that call frame information is made of, and others.
fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        any::<u8>(),
        prop::sample::select(vec![
            0, 1, 3, 4, 8, 0x0a, 0x0b, 0x0c, 0x0e, 0x0f, 0x10, 0x1b, 0x3b, 0x7f
        ]),
        prop::sample::select(vec![0x80, 0x87, 0x90, 0xff, b'z', b'R', b'S', b'P', b'L']),
    ];
    vec(byte, 0..most)
}

/// A record, or a damaged one: a length, an id, and what is behind.
fn record() -> impl Strategy<Value = Vec<u8>> {
    let common = (bytes(20), 0..200_u32).prop_map(|(program, code)| {
        let body =
            [&[0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0x1b, 0x0c, 7, 8][..], &program];
        let length = body.concat().len() as u32 + u32::from(code == 0);
        [&length.to_le_bytes()[..], &body.concat()].concat()
    });
    let entry = (0..200_u32, bytes(60)).prop_map(|(back, program)| {
        let body = [&back.to_le_bytes()[..], &[0, 0, 0, 0, 0xff, 0xff, 0, 0, 0], &program].concat();
        [&(body.len() as u32).to_le_bytes()[..], &body].concat()
    });
    let any = (prop_oneof![0..100_u32, any::<u32>()], bytes(60))
        .prop_map(|(length, body)| [&length.to_le_bytes()[..], &body].concat());
    prop_oneof![3 => common, 4 => entry, 1 => any]
}

fn address() -> impl Strategy<Value = u64> {
    prop_oneof![0..0x2000_u64, any::<u64>(), Just(0), Just(u64::MAX)]
}

proptest! {
    #[test]
    fn hostile_indexes_and_entries_give_rows_or_none(
        header in bytes(80), records in vec(record(), 0..8), base in address(), wanted in vec(address(), 1..8),
        place in 0..64_u64,
    ) {
        let entries = records.concat();
        // As found, and with a header that is one.
        let sound = [&[1, 0x04, 0x04, 0x3b][..], &base.to_le_bytes(), &place.to_le_bytes(), &header].concat();
        let headers = [&header, &sound];
        let indexes = headers.iter().filter_map(|header| Index::new(header, base));
        for index in indexes.chain([Index::without_table(base)]) {
            for address in &wanted {
                for address in [*address, base.wrapping_add(*address)] {
                    if let Some(entry) = index.find(&entries, address) {
                        let _ = (entry.row(address), entry.is_signal(), entry.return_register());
                    }
                }
            }
        }
    }

    #[test]
    fn hostile_expressions_have_a_value_or_none(
        code in bytes(64), values in vec(any::<u64>(), REGISTERS), known in any::<u64>(), length in any::<usize>(),
    ) {
        let mut snapshot = Box::new(Snapshot::new());
        snapshot.registers.copy_from_slice(&values);
        snapshot.stack_start = values[7];
        snapshot.stack_len = length;
        let registers = Registers { values: snapshot.registers, known };
        let frame = Frame { snapshot: &snapshot, registers: &registers, exact: true, first: false };
        let _ = frame.evaluate(&code, None);
        let _ = frame.evaluate(&code, Some(values[0]));
    }

    #[test]
    fn hostile_numbers_end_with_their_bytes(bytes in bytes(30)) {
        let mut cursor = Cursor::new(&bytes, u64::MAX - 3);
        let mut count = 0;
        while cursor.unsigned().is_some() || cursor.signed().is_some() || cursor.byte().is_some() {
            count += 1;
        }
        prop_assert!(count <= bytes.len());
    }

    #[test]
    fn hostile_lines_of_maps_name_what_is_in_them(
        line in prop_oneof![
            "[0-9a-f]{0,20}-[0-9a-f]{0,20} [r-][w-][x-][ps] [0-9a-f]{0,10} [0-9a-f:]{0,8} [0-9]{0,24} *[ -~]{0,40}",
            "[ -~]{0,100}",
        ],
        position in 0..4096_usize, address in address(),
    ) {
        let mut before = None;
        for address in [address, 0, u64::MAX] {
            if let Some(mapping) = parse(line.as_bytes(), position, address, &mut before) {
                prop_assert!(mapping.range.contains(&address));
                let name = line.as_bytes().get(mapping.name.start - position..mapping.name.end - position);
                prop_assert!(name.is_some());
            }
        }
    }
}

/// An ELF file that is mapped and damaged in the places that are read of it.
#[test]
#[cfg_attr(miri, ignore)]
fn hostile_files_give_a_name_or_none_and_no_fault() {
    const SIZE: usize = 64 << 10;
    let path = std::env::temp_dir().join(format!("stall-hostile-{}.so", std::process::id()));
    let program = std::fs::read(std::env::current_exe().expect("Linux has it")).expect("as above");
    let word = |at: usize| u64::from_le_bytes(program[at..at + 8].try_into().expect("eight"));
    // Its header and segments; then its sections' headers, moved to where there is room, and for all
    // tables of symbols the bytes in between.
    let mut whole = program[..SIZE].to_vec();
    let (sections, room) = (word(0x28) as usize, 48 << 10);
    let count = usize::from(u16::from_le_bytes([program[0x3c], program[0x3d]]));
    whole[room..room + count * 64].copy_from_slice(&program[sections..sections + count * 64]);
    whole[0x28..0x30].copy_from_slice(&(room as u64).to_le_bytes());
    std::fs::write(&path, &whole).expect("the temporary directory is writable");
    let file = std::fs::File::options().read(true).write(true).open(&path).expect("as above");
    // SAFETY: a new mapping.
    let start = unsafe {
        let protection = libc::PROT_READ | libc::PROT_EXEC;
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        libc::mmap(ptr::null_mut(), SIZE, protection, libc::MAP_SHARED, fd, 0)
    };
    assert_ne!(start, libc::MAP_FAILED);
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let (mut described, mut framed) = (0, 0);
    for _ in 0..cases {
        for _ in 0..1 + random() % 6 {
            // The file's header, a segment's, a section's, or a symbol's, in fields of eight or four bytes.
            let field = match random() % 4 {
                0 => random() % 64,
                1 => 64 + random() % 0x300,
                2 => room as u64 + random() % (count as u64 * 64),
                _ => random() % SIZE as u64,
            };
            let place = field & !3;
            let value = match random() % 4 {
                0 => random(),
                1 => random() % SIZE as u64,
                2 => u64::MAX,
                _ => random() % 8,
            };
            let width = if random() % 2 == 0 { 8 } else { 4 };
            file.write_all_at(&value.to_le_bytes()[..width], place).expect("it was made so");
        }
        let mut images = Images::new();
        let pc = start as u64 + random() % SIZE as u64;
        let mut line = Line::new();
        images.describe(pc, true, &mut line);
        described += u64::from(!line.text().is_empty());
        let mut snapshot = Box::new(Snapshot::new());
        snapshot.registers[REGISTERS - 1] = pc;
        framed += super::unwind::unwind(&snapshot, &mut images).each().count() as u64;
        file.write_all_at(&whole, 0).expect("as above");
        // It may have become longer.
        file.set_len(SIZE as u64).expect("as above");
    }
    // SAFETY: nothing is in it.
    unsafe { libc::munmap(start, SIZE) };
    let _ = std::fs::remove_file(&path);
    println!("{cases} files: {described} descriptions, {framed} frames");
    assert_eq!(described, cases, "an address is always said, if nothing else is");
    assert!(framed >= cases, "and so is the frame that it is in");
}
