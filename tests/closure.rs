//! What the read side can come to execute is this library's own code, all of it.
//!
//! "Never instrumented" is a property of everything that lock, unlock, their slow paths and the
//! IPI handler reach: a call of libc's memcpy that the compiler put there is as bad as one of
//! malloc. So these tests read the instructions of the built library, not its source.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use common::closure::{Boundary, Closure, Exception, Rules};
use common::contexts;
use common::disassembly::{Binary, Function};
use common::stack::Stack;
use common::Variant;

/// What the kernel enters: the IPI handler, and what it returns to, under either of its names.
const HANDLER: [&[&str]; 2] = [&["on_ipi"], &["restorer", "sigreturn"]];

const EXCEPTIONS: [Exception; 3] = [
    Exception {
        within: &["exit_hook::set"],
        symbol: Some("pthread_setspecific"),
        most: 1,
        reason: "arms the exit hook by pthread_setspecific, once in a thread's life",
    },
    Exception {
        within: &["signal::on_ipi", "signal::chain"],
        symbol: None,
        // Of one argument, and of three; and the hook, twice.
        most: 4,
        reason: "passes a signal that is not ours on to the program's own handler, or to the hook",
    },
    Exception {
        within: &["event::"],
        symbol: None,
        most: 1,
        reason:
            "call_rcu() and free_rcu() run the probes of their own tracepoints, if there are any",
    },
];

/// The system calls of all that: none of them waits for another thread, but for call_rcu()'s brake.
const SYSTEM_CALLS: [(i64, &str, &str); 19] = [
    (
        libc::SYS_futex,
        "futex",
        "a report wakes the waiter, gives back a loan; the brake of call_rcu()",
    ),
    (libc::SYS_nanosleep, "nanosleep", "that brake, where futex is refused"),
    (libc::SYS_gettid, "gettid", "a reader learns its thread"),
    (libc::SYS_getpid, "getpid", "and whether it is a child of vfork"),
    (libc::SYS_rt_sigreturn, "rt_sigreturn", "the end of the handler"),
    (
        libc::SYS_rt_sigprocmask,
        "rt_sigprocmask",
        "what the program wants blocked in its own handler",
    ),
    (libc::SYS_process_vm_readv, "process_vm_readv", "a stalled reader's stack"),
    (libc::SYS_ppoll, "ppoll", "last words, and the end:"),
    (libc::SYS_pwritev2, "pwritev2", "without waiting for a pipe to be read"),
    (libc::SYS_lseek, "lseek", "on what is no pipe"),
    (libc::SYS_writev, "writev", "on what has no other call"),
    (libc::SYS_openat, "openat", "a terminal once more, not to wait for it"),
    (libc::SYS_fstat, "fstat", "which must be ours still to be closed:"),
    (libc::SYS_fcntl, "fcntl", "and nobody else's:"),
    (libc::SYS_close, "close", "that"),
    (libc::SYS_rt_sigtimedwait, "rt_sigtimedwait", "takes back the SIGPIPE or SIGXFSZ of it"),
    (libc::SYS_rt_sigaction, "rt_sigaction", "SIGABRT's handler"),
    (libc::SYS_tgkill, "tgkill", "SIGABRT"),
    (libc::SYS_exit_group, "exit_group", "what came after it"),
];

const BOUNDARIES: [Boundary; 1] = [Boundary {
    function: "start::start",
    within: &["rcu_notrace_get_ipi_mode"],
    reason: "starts the library: rcu_notrace_get_ipi_mode() before any thread has",
}];

/// Most stack, in bytes, that our part of the IPI handler may take: a thread's alternate signal
/// stack may be MINSIGSTKSZ, 2048 bytes, and the kernel's frame needs the rest of it.
const HANDLER_STACK: i64 = 1024;

/// Most stack of any other function, from where it is called to its last words: the handlers of anybody's
/// program may run on no more.
const ROOT_STACK: i64 = 1536;

/// What of a variant's exported functions may be called by signal handlers, under any lock, by
/// probes: all but those of which the headers say otherwise.
fn roots<'b>(binary: &'b Binary, variant: &Variant) -> Vec<&'b Function> {
    let no: BTreeSet<String> = contexts::rows()
        .into_iter()
        .filter(|row| !row.in_handlers)
        .flat_map(|row| row.names)
        .collect();
    let names = common::exported_functions(&variant.shared());
    let named = |name: &String| {
        binary.function_named(name).unwrap_or_else(|| panic!("no code of {name} was found"))
    };
    names.difference(&no).map(named).collect()
}

fn handler(binary: &Binary) -> Vec<&Function> {
    let named = |parts: &&[&str]| {
        let is_named = |function: &&Function| parts.iter().any(|part| function.name.contains(part));
        let mut found = binary.functions.iter().filter(is_named);
        match (found.next(), found.next()) {
            (Some(function), None) => function,
            (None, _) => panic!("no function's name contains {parts:?}: inlined, or renamed?"),
            _ => panic!("several functions' names contain {parts:?}"),
        }
    };
    HANDLER.iter().map(named).collect()
}

#[test]
fn the_read_side_and_the_handler_reach_nothing_outside_the_library() {
    let test = "the read side's closure";
    let Some(build) = common::x86_64_build_or_skip(test) else { return };
    let scratch = common::scratch("closure");
    for variant in common::variants(test, &build) {
        let binary = Binary::read(&variant.shared(), Some(&variant.archive()));
        let mut roots = roots(&binary, &variant);
        roots.extend(handler(&binary));
        let rules = Rules { exceptions: &EXCEPTIONS, boundaries: &BOUNDARIES, ..Rules::default() };
        let closure = Closure::of(&binary, &roots, &rules);
        let table = closure.table(&binary);
        let listing = scratch.join(variant.name);
        fs::write(&listing, &table).expect("target/ is writable");
        common::say(&format!(
            "notrace closure of {} roots, variant {}, in {}:\n{table}",
            roots.len(),
            variant.name,
            listing.display()
        ));
        assert!(
            closure.offences.is_empty(),
            "{}: the notrace closure is not closed:\n{}",
            variant.shared().display(),
            closure.offences.join("\n")
        );
        // It is the whole of it: had the walk lost its way, it would have found less.
        let reached = |part: &str| {
            let mut functions = closure.functions.keys().filter_map(|at| binary.function_at(*at));
            functions.any(|function| function.name.contains(part))
        };
        for part in ["lock_slow", "unlock_slow", "unbalanced", "warn", "abort"] {
            assert!(reached(part), "the walk did not come to {part}:\n{table}");
        }
        assert!(!reached("::synchronize"), "the read side can come to wait:\n{table}");
        for (number, by) in &closure.system_calls {
            let known = SYSTEM_CALLS.iter().find(|(known, ..)| known == number);
            let name = known.map_or("a call that is not among those allowed", |(_, name, _)| name);
            println!("  system call {number} {name}: {by:?}");
            assert!(
                known.is_some(),
                "system call {number}, of {by:?}, is not one of those allowed"
            );
        }
        let made = |(number, ..): &&(i64, _, _)| !closure.system_calls.contains_key(number);
        let unused: Vec<_> = SYSTEM_CALLS.iter().filter(made).collect();
        assert!(unused.is_empty(), "system calls that are allowed and not made: {unused:?}");
    }
}

/// The waits of call_rcu()'s brake are of no other root.
#[test]
fn sections_reports_and_the_handler_come_to_no_system_call_that_blocks() {
    let test = "blocking system calls";
    let Some(build) = common::x86_64_build_or_skip(test) else { return };
    for variant in common::variants(test, &build) {
        let binary = Binary::read(&variant.shared(), Some(&variant.archive()));
        let mut roots = roots(&binary, &variant);
        roots.retain(|root| {
            !["call_rcu", "rcu_notrace_free"].iter().any(|n| root.name.starts_with(n))
        });
        roots.extend(handler(&binary));
        let rules = Rules { exceptions: &EXCEPTIONS, boundaries: &BOUNDARIES, ..Rules::default() };
        let closure = Closure::of(&binary, &roots, &rules);
        let names: Vec<_> = closure
            .functions
            .keys()
            .filter_map(|at| binary.function_at(*at))
            .map(|function| function.name.as_str())
            .collect();
        assert!(names.len() > 20, "{names:?}");
        for part in ["slow_down", "lock_pi", "futex::Lock", "::wait"] {
            assert!(!names.iter().any(|name| name.contains(part)), "{part} is among {names:#?}");
        }
    }
}

#[test]
fn every_name_in_the_headers_tables_is_exported_or_stands_in_a_header() {
    let test = "the headers' tables";
    let Some(build) = common::build_or_skip(test) else { return };
    let exported = common::exported_functions(&build.join("librcu_notrace.so"));
    let header = |name| fs::read_to_string(common::root().join("include").join(name));
    let text: String = contexts::HEADERS.map(|name| header(name).expect("it is there")).concat();
    let mut count = 0;
    let mut seen = BTreeSet::new();
    for name in contexts::rows().iter().flat_map(|row| &row.names) {
        count += 1;
        assert!(seen.insert(name.clone()), "{name} stands in two lines");
        let start = name.replace("NAME_", "##name##_").replace("NAME", "##name");
        let is_defined = [format!(" {start}("), format!("define {start}(")]
            .iter()
            .any(|definition| text.contains(definition.as_str()));
        assert!(exported.contains(name) || is_defined, "there is no {name}");
    }
    assert!(count > 40, "the tables have {count} names only");
}

/// Wide registers hold live values where inlined code calls a slow path, and nobody saves them: a library
/// that was built for a processor that has them must not come to be.
#[test]
fn the_library_refuses_to_be_built_for_processors_with_avx() {
    let test = "AVX";
    if !cfg!(target_arch = "x86_64") {
        common::say(&format!("SKIP: {test}: this machine is none of those"));
        return;
    }
    let errors = |cpu: &str| {
        let output = std::process::Command::new(Path::new(env!("CARGO")).with_file_name("rustc"))
            .args([
                "--edition",
                "2021",
                "--crate-type",
                "lib",
                "--emit",
                "metadata",
                "-o",
                "/dev/null",
            ])
            .arg(format!("-Ctarget-cpu={cpu}"))
            .arg(common::root().join("src/lib.rs"))
            .output()
            .expect("cargo's neighbour");
        // Other crates are not there, which are errors, too.
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    const SAYS: &str = "build rcu-notrace for baseline x86-64";
    for cpu in ["x86-64-v3", "x86-64-v4", "haswell"] {
        let errors = errors(cpu);
        assert!(errors.contains(SAYS), "{cpu}: {errors}");
    }
    for cpu in ["x86-64", "x86-64-v2"] {
        let errors = errors(cpu);
        assert!(errors.contains("error") && !errors.contains(SAYS), "{cpu}: {errors}");
    }
}

#[test]
fn the_ipi_handler_takes_less_than_a_kilobyte_of_whatever_stack_it_runs_on() {
    let test = "the handler's stack";
    let Some(build) = common::x86_64_build_or_skip(test) else { return };
    for variant in common::variants(test, &build) {
        let binary = Binary::read(&variant.shared(), Some(&variant.archive()));
        let mut stack = Stack::new(&binary);
        let mut bound = |root: &Function| {
            let (bytes, chain) =
                stack.need_of(root).unwrap_or_else(|unknown| panic!("stack bound: {unknown}"));
            println!("  {bytes:5} bytes  {}", chain.join(" -> "));
            bytes
        };
        println!("deepest stack, {}:", variant.shared().display());
        for root in roots(&binary, &variant) {
            let bytes = bound(root);
            assert!(bytes < ROOT_STACK, "{} may take {bytes} bytes of stack", root.name);
        }
        let deepest = handler(&binary).into_iter().map(&mut bound).max().unwrap_or_default();
        common::say(&format!(
            "IPI handler's stack, variant {}: {deepest} bytes, without the program's own handler \
             and pthread_setspecific",
            variant.name
        ));
        assert!(
            deepest < HANDLER_STACK,
            "the handler may take {deepest} bytes of stack; the bound is {HANDLER_STACK}"
        );
    }
}

#[test]
fn no_code_of_the_library_has_hooks_or_room_for_hooks() {
    let test = "hooks in the library";
    let Some(build) = common::build_or_skip(test) else { return };
    const ROOM: [&str; 4] =
        ["__patchable_function_entries", "xray_instr_map", "__mcount_loc", "sancov"];
    for variant in common::variants(test, &build) {
        for file in [variant.shared(), variant.archive()] {
            let sections = common::Tool::new("readelf").arg("-SW").arg(&file).output();
            let symbols = common::Tool::new("nm").arg(&file).output();
            for room in ROOM {
                assert!(!sections.contains(room), "{} has a section {room}", file.display());
            }
            for hook in ["mcount", "__fentry__", "__cyg_profile", "__tls_get_addr", "__sanitizer"] {
                assert!(!symbols.contains(hook), "{} refers to {hook}", file.display());
            }
        }
    }
}
