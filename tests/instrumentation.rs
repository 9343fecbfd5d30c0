//! A program whose every function is instrumented finds no function of RCU to instrument.
//!
//! Two views: the hooks of a running program, which must not count one more where there are
//! sections; and the objects, where no function of the header may exist that could have a hook.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use common::{Compiler, Tool};

/// A way of instrumenting all functions, with a call in each.
struct Hooks {
    name: &'static str,
    options: &'static [&'static str],
    /// Calls of hooks a call of a function.
    each: u64,
}

const CYG_PROFILE: Hooks =
    Hooks { name: "cyg_profile", options: &["-finstrument-functions"], each: 2 };
const FENTRY: Hooks = Hooks { name: "fentry", options: &["-pg", "-mfentry"], each: 1 };

/// Functions of the program that every run hooks.
const OWN: [&str; 6] =
    ["main", "section_with", "guard_with", "scoped_with", "pointers_with", "first_with"];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Link {
    Archive,
    Shared,
    /// The shared library, with every function called.
    NotInlined,
}

fn compile(
    compiler: &Compiler,
    options: &[&str],
    source: &str,
    defines: &[&str],
    object: &Path,
) -> PathBuf {
    let mut run = compiler.run().args(options).args(defines).arg("-c");
    if compiler.is_clang {
        // gcc's attribute in code that is for both.
        run = run.arg("-Wno-unknown-attributes");
    }
    run.arg("-o").args([object, &common::c_source(source)]).output();
    object.to_owned()
}

fn run_instrumented(compiler: &Compiler, build: &Path, hooks: &Hooks, level: &str, link: Link) {
    let family = if compiler.is_clang { "clang" } else { "gcc" };
    let what = format!("{}{level}-{family}-{link:?}", hooks.name);
    let scratch = common::scratch(&format!("instrumentation-{what}"));
    let program = scratch.join("program");

    let mut options = vec![level, "-pthread"];
    let defines: &[&str] = match link {
        Link::Archive => &["-DRCU_NOTRACE_STATIC"],
        Link::Shared => &[],
        Link::NotInlined => &["-DRCU_NOTRACE_NO_INLINE"],
    };
    let plain = ["-O2", "-mgeneral-regs-only", "-fno-stack-protector"];
    let hook_object =
        compile(compiler, &plain, "instrumented_hooks.c", &[], &scratch.join("hooks.o"));
    options.extend(hooks.options);
    let object = compile(compiler, &options, "instrumented.c", defines, &scratch.join("program.o"));
    let run = Tool::new(&compiler.program).arg("-pthread").arg("-o");
    let run = run.args([&program, &object, &hook_object]);
    match link {
        Link::Archive => run.arg(build.join("librcu_notrace.a")),
        Link::Shared | Link::NotInlined => run
            .arg("-L")
            .arg(build)
            .arg("-lrcu_notrace")
            .arg(format!("-Wl,-rpath,{}", build.display())),
    }
    .output();

    let output = Tool::new("timeout").arg("30").arg(&program).output();
    check(&what, &output, &functions(&program), hooks);
}

/// Address and name of each function of an executable, in order.
fn functions(program: &Path) -> Vec<(u64, String)> {
    let names = Tool::new("nm").args(["-n", "--defined-only"]).arg(program).output();
    let function = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [address, "t" | "T" | "w" | "W", name] = words.as_slice() else { return None };
        Some((u64::from_str_radix(address, 16).ok()?, (*name).to_owned()))
    };
    names.lines().filter_map(function).collect()
}

fn is_of_rcu(function: &str) -> bool {
    ["rcu_", "class_rcu", "synchronize_rcu", "_ZN11rcu_notrace"]
        .iter()
        .any(|start| function.starts_with(start))
}

fn check(what: &str, output: &str, functions: &[(u64, String)], hooks: &Hooks) {
    let mut hooked = BTreeSet::new();
    let (mut pairs, mut slow) = (0, 0);
    for line in output.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            ["equal", name, with, without] => {
                assert_eq!(with, without, "{what}, {name}: hooks with sections and without");
                let calls = if *name == "first" { 8 } else { 1000 };
                let count: u64 = with.parse().unwrap_or(0);
                assert_eq!(count, calls * hooks.each, "{what}, {name}: the program's own hooks");
                pairs += 1;
            }
            ["slow", mode, reports] => {
                assert_ne!(*reports, "0", "{what}, IPI mode {mode}: no slow path was taken");
                slow += 1;
            }
            ["refused", mode] => common::say(&format!("SKIP: {what}, IPI mode {mode}: refused")),
            ["hooked", offset] => {
                let offset = u64::from_str_radix(offset, 16)
                    .unwrap_or_else(|_| panic!("{what}: `{line}` is no address"));
                let after = functions.partition_point(|(address, _)| *address <= offset);
                let name = after.checked_sub(1).and_then(|index| functions.get(index));
                let (_, name) = name.unwrap_or_else(|| {
                    panic!("{what}: a hook at {offset:x}, outside the program: in the library?")
                });
                hooked.insert(name.as_str());
            }
            _ => panic!("{what}: the program says `{line}`"),
        }
    }
    assert!(pairs >= 6 + 3 && slow >= 1, "{what}: {pairs} pairs and {slow} IPI modes were run");
    for name in OWN {
        assert!(hooked.contains(name), "{what}: {name} was not hooked: {hooked:?}");
    }
    let rcu: Vec<_> = hooked.iter().filter(|name| is_of_rcu(name)).collect();
    assert!(rcu.is_empty(), "{what}: functions of RCU were hooked: {rcu:?}");
}

fn run_all(test: &str, compilers: &[Compiler], build: &Path, hooks: &Hooks) {
    for compiler in compilers {
        for level in ["-O0", "-O2"] {
            for link in [Link::Archive, Link::Shared, Link::NotInlined] {
                run_instrumented(compiler, build, hooks, level, link);
            }
        }
        println!("{test}: no hook of RCU with {}", compiler.program);
    }
}

#[test]
fn with_finstrument_functions_sections_and_their_slow_paths_call_no_hook() {
    let test = "-finstrument-functions";
    let Some(build) = common::x86_64_build_or_skip(test) else { return };
    run_all(test, &common::compilers(test), &build, &CYG_PROFILE);
}

#[test]
fn with_pg_and_mfentry_sections_and_their_slow_paths_call_no_hook() {
    let test = "-pg -mfentry";
    let Some(build) = common::x86_64_build_or_skip(test) else { return };
    run_all(test, &common::compilers(test), &build, &FENTRY);
}

/// A program's functions, per its object.
fn functions_of_object(object: &Path) -> BTreeSet<String> {
    let names = Tool::new("nm").args(["--defined-only", "-f", "posix"]).arg(object).output();
    let function = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, kind) = (words.next()?, words.next()?);
        // Parts of functions that gcc put elsewhere are not functions.
        let whole = !name.contains(".cold") && !name.contains(".part");
        (["t", "T", "w", "W"].contains(&kind) && whole).then(|| name.to_owned())
    };
    names.lines().filter_map(function).collect()
}

/// Bytes of a section, over all sections of that name.
fn section_bytes(object: &Path, section: &str) -> u64 {
    let sections = Tool::new("readelf").arg("-SW").arg(object).output();
    let bytes = |line: &str| {
        let mut words = line.split_once(']')?.1.split_whitespace();
        // Name, type, address, offset, size.
        (words.next()? == section).then(|| u64::from_str_radix(words.nth(3)?, 16).ok())?
    };
    sections.lines().filter_map(bytes).sum()
}

#[test]
fn with_fpatchable_function_entry_there_is_one_entry_for_each_function_of_the_program() {
    let test = "-fpatchable-function-entry";
    let Some(_build) = common::x86_64_build_or_skip(test) else { return };
    for compiler in common::compilers(test) {
        for level in ["-O0", "-O2"] {
            let scratch = common::scratch(&format!("instrumentation-patchable{level}"));
            let options = [level, "-fpatchable-function-entry=2"];
            let object =
                compile(&compiler, &options, "instrumented.c", &[], &scratch.join("program.o"));
            let functions = functions_of_object(&object);
            let entries = section_bytes(&object, "__patchable_function_entries") / 8;
            let what = format!("{} {level} {test}", compiler.program);
            assert!(functions.contains("section_with"), "{what}: {functions:?}");
            assert_eq!(entries, functions.len() as u64, "{what}: entries, for {functions:?}");
            let rcu: Vec<_> = functions.iter().filter(|name| is_of_rcu(name)).collect();
            assert!(rcu.is_empty(), "{what}: functions of the header in the object: {rcu:?}");
        }
    }
}

#[test]
fn with_xray_there_is_no_function_of_the_header_that_could_have_a_sled() {
    let test = "-fxray-instrument";
    let Some(_build) = common::x86_64_build_or_skip(test) else { return };
    for compiler in common::compilers(test).into_iter().filter(|compiler| compiler.is_clang) {
        for level in ["-O0", "-O2"] {
            let scratch = common::scratch(&format!("instrumentation-xray{level}"));
            let options = [level, "-fxray-instrument", "-fxray-instruction-threshold=1"];
            let object =
                compile(&compiler, &options, "instrumented.c", &[], &scratch.join("program.o"));
            let what = format!("{} {level} {test}", compiler.program);
            assert_ne!(section_bytes(&object, "xray_instr_map"), 0, "{what}: no sled at all");
            let functions = functions_of_object(&object);
            assert!(functions.contains("section_with"), "{what}: {functions:?}");
            let rcu: Vec<_> = functions.iter().filter(|name| is_of_rcu(name)).collect();
            assert!(rcu.is_empty(), "{what}: functions of the header in the object: {rcu:?}");
        }
    }
}
