//! The system calls that the library makes: those in the source, those that docs/FAULTS.md lists, and those that
//! a sandbox of the tests allows it (`c-tests/faults.c`) are the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Every name behind `mark`, up to what is no letter, digit or underscore.
fn names_behind<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = String> + 'a {
    text.match_indices(mark).map(move |(at, _)| {
        let rest = &text[at + mark.len()..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        rest[..end].to_string()
    })
}

fn collect(directory: &Path, calls: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).expect("the source is here") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            collect(&path, calls);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            calls.extend(names_behind(&fs::read_to_string(&path).expect("text"), "libc::SYS_"));
        }
    }
}

fn of_the_source() -> BTreeSet<String> {
    let mut calls = BTreeSet::new();
    collect(Path::new("src"), &mut calls);
    // By its number, in assembly: the way back from the handler.
    calls.insert("rt_sigreturn".into());
    calls
}

#[test]
fn every_system_call_of_the_source_is_documented_and_no_other_is() {
    let text = fs::read_to_string("docs/FAULTS.md").expect("docs/FAULTS.md");
    let begin = text.find("\n## System calls\n").expect("the list has a heading");
    let list = &text[begin..];
    let end = list[3..].find("\n## ").map_or(list.len(), |end| end + 3);
    let documented: BTreeSet<String> = list[..end]
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split('|').next())
        .flat_map(|cell| cell.split('`').map(|name| name.trim_matches([',', ' ']).to_string()))
        .filter(|name| !name.is_empty())
        .collect();
    assert_eq!(documented, of_the_source());
}

#[test]
fn the_sandbox_of_the_tests_allows_the_system_calls_of_the_source_and_no_other() {
    let text = fs::read_to_string("c-tests/faults.c").expect("c-tests/faults.c");
    let begin = text.find("#define LIBRARY_CALLS").expect("the list begins");
    let end = text.find("/* end of LIBRARY_CALLS */").expect("the list ends");
    let allowed: BTreeSet<String> = names_behind(&text[begin..end], " X(").collect();
    assert_eq!(allowed, of_the_source());
}
