// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names of addresses, in programs that the compiler makes for the test.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::*;

const IMAGE: u64 = 0xabc;
const T: u64 = 10_000_000;
const BASE: u64 = 0x7f00_0000_0000;

const SOURCE: &str = "\
int counter = 1;
static __attribute__((noinline)) int hidden(int x)
{
    return x + counter;
}
struct S { __attribute__((noinline)) int method(int); };
int S::method(int x)
{
    return hidden(x) + 1;
}
int main() { S s; return s.method(3); }
";

fn compile(directory: &Path, flags: &[&str]) -> PathBuf {
    let source = directory.join("alloc.cc");
    std::fs::write(&source, SOURCE).expect("written");
    let program = directory.join("program");
    let status = Command::new("c++")
        .args(["-O1", "-Wl,--build-id", "-o"])
        .args([&program, &source])
        .args(flags)
        .status()
        .expect("c++ is there");
    assert!(status.success());
    program
}

/// The address of a symbol, by nm.
fn symbol(program: &Path, name: &str) -> u64 {
    let output = Command::new("nm").arg(program).output().expect("nm is there");
    let text = String::from_utf8(output.stdout).expect("text");
    let line = text.lines().find(|line| line.ends_with(&format!(" {name}"))).expect("the symbol");
    u64::from_str_radix(line.split(' ').next().expect("an address"), 16).expect("hexadecimal")
}

fn build_id(program: &Path) -> Vec<u8> {
    let output = Command::new("readelf").arg("-n").arg(program).output().expect("readelf");
    let text = String::from_utf8(output.stdout).expect("text");
    let id = text.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).expect("one");
    (0..id.len()).step_by(2).map(|at| u8::from_str_radix(&id[at..at + 2], 16).unwrap()).collect()
}

/// Mapped as the loader does it, a segment at a time, by the program headers.
fn mapped(program: &Path, build_id: &[u8]) -> Writer {
    let mut writer = Writer::new();
    writer.process(100, IMAGE, 0, "start", &program.to_string_lossy(), 2_000_000);
    let output = Command::new("readelf").arg("-lW").arg(program).output().expect("readelf");
    let text = String::from_utf8(output.stdout).expect("text");
    for line in text.lines().filter(|line| line.trim().starts_with("LOAD")) {
        let field = |number: usize| {
            let text = line.split_whitespace().nth(number).expect("a field");
            u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("hexadecimal")
        };
        let (offset, address, size) = (field(1) & !4095, field(2) & !4095, field(5));
        let end = (field(2) + size + 4095) & !4095;
        let path = program.to_string_lossy();
        writer.map(IMAGE, BASE + address, BASE + end, offset, build_id, &path);
    }
    writer
}

#[test]
fn functions_and_variables_have_demangled_names_and_callers_have_source_lines() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = compile(directory.path(), &["-g"]);
    let mut writer = mapped(&program, &build_id(&program));
    let method = BASE + symbol(&program, "_ZN1S6methodEi");
    writer.record(ENTRY, T, &[method, 0]);
    writer.record(EXIT, T + 1, &[method]);
    writer.record(ACQUIRE, T + 2, &[BASE + symbol(&program, "counter"), 0, 0, method + 5]);
    let report = writer.report();
    assert_eq!(report["functions"]["functions"][0]["function"], "S::method(int)");
    assert_eq!(report["locks"]["locks"][0]["lock"], "counter");
    let caller = report["locks"]["callers"][0]["caller"].as_str().expect("a caller").to_owned();
    assert!(caller.starts_with("S::method(int) (alloc.cc:"), "{caller}");
    assert_eq!(report["trace"]["warnings"], serde_json::json!([]));
}

#[test]
fn without_debugging_information_callers_have_an_offset() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = compile(directory.path(), &[]);
    let mut writer = mapped(&program, &build_id(&program));
    let method = BASE + symbol(&program, "_ZN1S6methodEi");
    writer.record(MALLOC, T, &[0x1000, 1, method + 9]);
    // A return address right behind a function is still that function's.
    writer.record(MALLOC, T, &[0x2000, 2, 0x123]);
    let report = writer.report();
    let callers = report["heap"]["callers"].to_string();
    assert!(callers.contains("S::method(int)+0x9 (program)"), "{callers}");
    assert!(callers.contains("\"0x123\""), "{callers}");
}

#[test]
fn of_a_stripped_program_the_place_in_the_file_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = compile(directory.path(), &["-s"]);
    let mut writer = mapped(&program, &[]);
    writer.record(MALLOC, T, &[0x1000, 1, BASE + 0x1001]);
    let callers = writer.report()["heap"]["callers"].to_string();
    assert!(callers.contains("program+0x1001"), "{callers}");
}

#[test]
fn a_program_that_changed_since_is_named_and_its_addresses_stay_raw() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = compile(directory.path(), &["-g"]);
    let mut writer = mapped(&program, &[1, 2, 3]);
    let method = symbol(&program, "_ZN1S6methodEi");
    writer.record(ENTRY, T, &[BASE + method, 0]);
    let report = writer.report();
    let name = &report["functions"]["functions"][0]["function"];
    assert_eq!(name.as_str(), Some(&*format!("program+{method:#x}")));
    assert!(report["trace"]["warnings"].to_string().contains("its build id differs"));
}
