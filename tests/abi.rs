//! The binary interface: the generated header, the exported names, and what a program that loads
//! the library gets with it.

mod common;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;

use common::{Tool, Variant};

const VERSION: &str = "RCU_NOTRACE_0.1";

/// Sizes that belong to the contract (docs/DESIGN.md): small enough to be in every process, and
/// for `dlopen`, whose static thread-local storage is scarce and shared by all libraries.
const MOST_STRIPPED_BYTES: u64 = 160 * 1024;
const MOST_TLS_BYTES: u64 = 128;

/// The C view of the ABI.
fn generated() -> String {
    let config = cbindgen::Config::from_file(common::root().join("cbindgen.toml"))
        .unwrap_or_else(|error| panic!("cbindgen.toml: {error}"));
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in ["src/capi.rs", "src/stats.rs", "src/stall/event.rs"] {
        builder = builder.with_src(common::root().join(source));
    }
    let mut header = Vec::new();
    builder.generate().unwrap_or_else(|error| panic!("cbindgen: {error}")).write(&mut header);
    String::from_utf8(header).expect("from sources in UTF-8")
}

#[test]
fn the_committed_header_is_what_cbindgen_makes_of_the_source() {
    let committed = common::root().join("include/rcu_notrace/abi.h");
    let generated = generated();
    if env::var("RCU_NOTRACE_BLESS").is_ok_and(|bless| bless == "1") {
        fs::write(&committed, &generated)
            .unwrap_or_else(|error| panic!("{}: {error}", committed.display()));
        common::say(&format!("{} was written", committed.display()));
        return;
    }
    let text = fs::read_to_string(&committed)
        .unwrap_or_else(|error| panic!("{}: {error}: run `make abi`", committed.display()));
    if text != generated {
        let differs = text.lines().zip(generated.lines()).position(|(old, new)| old != new);
        let line = differs.unwrap_or(text.lines().count().min(generated.lines().count()));
        panic!(
            "{}:{}: differs from what src/ says now: run `make abi`, look at the difference, and \
             commit it\n  there: {}\n  now:   {}",
            committed.display(),
            line + 1,
            text.lines().nth(line).unwrap_or("(its end)"),
            generated.lines().nth(line).unwrap_or("(its end)")
        );
    }
}

/// The names of abi/symbols that a variant has.
fn wanted(variant: &Variant) -> BTreeSet<String> {
    let path = common::root().join("abi/symbols");
    let list = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut names = BTreeSet::new();
    for line in list.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => continue,
            [name] => names.insert((*name).to_owned()),
            [name, only] if *only == variant.name => names.insert((*name).to_owned()),
            [_, "one" | "two"] => continue,
            _ => panic!("{}: `{line}` is neither a name nor a name and a variant", path.display()),
        };
    }
    names
}

fn assert_same(file: &Path, found: &BTreeSet<String>, wanted: &BTreeSet<String>) {
    let extra: Vec<_> = found.difference(wanted).collect();
    let missing: Vec<_> = wanted.difference(found).collect();
    assert!(
        extra.is_empty() && missing.is_empty(),
        "{} and abi/symbols differ: exported without being listed: {extra:?}; listed without \
         being exported: {missing:?}",
        file.display()
    );
}

#[test]
fn the_shared_library_exports_the_listed_names_under_their_version_and_no_other() {
    let test = "exported names";
    let Some(build) = common::build_or_skip(test) else { return };
    for variant in common::variants(test, &build) {
        let file = variant.shared();
        let mut found = BTreeSet::new();
        for line in Tool::new("nm").args(["-D", "--defined-only"]).arg(&file).output().lines() {
            let name = line.split_whitespace().last().unwrap_or_default();
            if name == VERSION {
                continue;
            }
            let (name, version) = name.split_once('@').unwrap_or((name, ""));
            // Two of them: the default version, which the linker takes.
            assert_eq!(
                version,
                format!("@{VERSION}"),
                "{}: {name} has another version, or none",
                file.display()
            );
            found.insert(name.to_owned());
        }
        assert_same(&file, &found, &wanted(&variant));
    }
}

#[test]
fn the_archive_defines_the_listed_names_and_no_other() {
    let test = "the archive's names";
    let Some(build) = common::build_or_skip(test) else { return };
    for variant in common::variants(test, &build) {
        let file = variant.archive();
        let names = Tool::new("nm").args(["-g", "--defined-only"]).arg(&file).output();
        // A member's heading has one word, a symbol three.
        let symbols = names.lines().filter(|line| line.split_whitespace().count() == 3);
        let found = symbols.filter_map(|line| line.split_whitespace().last());
        assert_same(&file, &found.map(str::to_owned).collect(), &wanted(&variant));
    }
}

#[test]
fn the_archive_asks_the_linker_for_nothing_that_the_library_does_not_use() {
    // What is left of std's references would drag libgcc_s and the loader into every program,
    // and half of libc into a static one.
    let test = "the archive's undefined names";
    let Some(build) = common::build_or_skip(test) else { return };
    for variant in common::variants(test, &build) {
        let names = |arguments: &[&str], file: &Path| -> BTreeSet<String> {
            let names = Tool::new("nm").args(arguments).arg("--undefined-only").arg(file).output();
            let names = names.lines().filter(|line| line.split_whitespace().count() == 2);
            let names = names.filter_map(|line| line.split_whitespace().last()?.split('@').next());
            names.map(str::to_owned).collect()
        };
        let mut used = names(&["-D"], &variant.shared());
        // libc's static part makes __register_atfork and __cxa_atexit of the first two; the last
        // is the linker's.
        used.extend(["pthread_atfork", "atexit", "_GLOBAL_OFFSET_TABLE_"].map(str::to_owned));
        let wanted = names(&["-g"], &variant.archive());
        let idle: Vec<_> = wanted.difference(&used).collect();
        assert!(
            idle.is_empty(),
            "{}: {} undefined names that its code does not use: {idle:?}",
            variant.archive().display(),
            idle.len()
        );
    }
}

#[test]
fn no_exported_name_is_one_of_the_c_librarys_so_nothing_is_interposed() {
    let test = "interposition";
    let Some(build) = common::build_or_skip(test) else { return };
    let compiler = common::compiler();
    let variants = common::variants(test, &build);
    for library in ["libc.so.6", "libpthread.so.0", "libm.so.6", "libdl.so.2"] {
        let run = Tool::new(&compiler.program).arg(format!("-print-file-name={library}"));
        let path = run.output().trim().to_owned();
        if !Path::new(&path).is_absolute() {
            assert_ne!(library, "libc.so.6", "the compiler does not know where libc is");
            continue;
        }
        let names = Tool::new("nm").args(["-D", "--defined-only"]).arg(&path).output();
        let theirs: BTreeSet<_> = names
            .lines()
            .filter_map(|line| line.split_whitespace().last()?.split('@').next())
            .collect();
        assert!(library != "libc.so.6" || theirs.contains("malloc"), "{path} defines no malloc");
        for variant in &variants {
            for name in wanted(variant) {
                assert!(!theirs.contains(name.as_str()), "{name} would interpose {library}'s");
            }
        }
    }
}

#[test]
fn the_shared_library_is_bound_at_load_stays_loaded_and_needs_libc_alone() {
    let test = "the shared library's dynamic section";
    let Some(build) = common::build_or_skip(test) else { return };
    for variant in common::variants(test, &build) {
        let file = variant.shared();
        let dynamic = Tool::new("readelf").arg("-dW").arg(&file).output();
        let values = |tag: &str| -> Vec<&str> {
            let lines = dynamic.lines().filter(|line| line.contains(&format!("({tag})")));
            lines.filter_map(|line| line.split_once('[')?.1.split(']').next()).collect()
        };
        assert_eq!(values("SONAME"), ["librcu_notrace.so.0"], "{}: SONAME", file.display());
        assert_eq!(values("NEEDED"), ["libc.so.6"], "{}: NEEDED", file.display());
        let flags = |tag: &str| {
            dynamic.lines().find(|line| line.contains(&format!("({tag})"))).unwrap_or_default()
        };
        for (tag, flag, why) in [
            ("FLAGS", "BIND_NOW", "lazy binding in a signal handler is not async-signal-safe"),
            ("FLAGS_1", "NOW", "lazy binding in a signal handler is not async-signal-safe"),
            ("FLAGS_1", "NODELETE", "threads' exits and signals may still come to its code"),
            ("FLAGS", "SYMBOLIC", "nobody may come between the library and itself"),
        ] {
            let has = flags(tag).split_whitespace().any(|word| word == flag);
            assert!(has, "{} lacks {flag}: {why}", file.display());
        }
        assert!(!dynamic.contains("TEXTREL"), "{} has text relocations", file.display());
        for path in ["RPATH", "RUNPATH"] {
            assert!(values(path).is_empty(), "{} has a {path}", file.display());
        }
        let undefined = Tool::new("nm").args(["-D", "--undefined-only"]).arg(&file).output();
        let names: Vec<_> =
            undefined.lines().filter_map(|line| line.split_whitespace().last()).collect();
        println!("{} imports {}", file.display(), names.join(", "));
    }
}

#[test]
fn the_shared_library_is_small_has_a_read_only_got_and_little_static_tls() {
    let test = "the shared library's segments";
    let Some(build) = common::build_or_skip(test) else { return };
    for variant in common::variants(test, &build) {
        let file = variant.shared();
        let headers = Tool::new("readelf").arg("-lW").arg(&file).output();
        let segment = |kind: &str| -> Vec<&str> {
            let line = headers
                .lines()
                .map(str::trim)
                .find(|line| line.split_whitespace().next().is_some_and(|first| first == kind));
            line.map(|line| line.split_whitespace().collect()).unwrap_or_default()
        };
        assert!(!segment("GNU_RELRO").is_empty(), "{}: no GNU_RELRO", file.display());
        let stack = segment("GNU_STACK");
        assert!(stack.contains(&"RW"), "{}: executable stack: {stack:?}", file.display());

        // Type, offset, two addresses, bytes in the file, bytes in memory.
        let tls = segment("TLS");
        let bytes = tls.get(5).and_then(|bytes| bytes.strip_prefix("0x"));
        let bytes = bytes.and_then(|bytes| u64::from_str_radix(bytes, 16).ok());
        let bytes = bytes.unwrap_or_else(|| panic!("{}: no TLS segment", file.display()));
        assert!(
            bytes <= MOST_TLS_BYTES,
            "{}: {bytes} bytes of static TLS; dlopen has little of it to give",
            file.display()
        );

        let stripped = common::scratch(&format!("abi-{}", variant.name)).join("stripped.so");
        Tool::new("strip").arg("-o").args([&stripped, &file]).output();
        let size = fs::metadata(&stripped).map_or(u64::MAX, |metadata| metadata.len());
        common::say(&format!(
            "shared library, variant {}: {size} bytes stripped, {bytes} bytes of TLS",
            variant.name
        ));
        assert!(size < MOST_STRIPPED_BYTES, "{}: {size} bytes stripped", file.display());
    }
}
