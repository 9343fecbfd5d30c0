//! What the tests of built artefacts share: where those are, the tools, and a place for output.
//!
//! Each test is a crate of its own and uses a part of this.
#![allow(dead_code)]

pub mod closure;
pub mod contexts;
pub mod disassembly;
pub mod offences;
pub mod stack;

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One line that is seen even when the test passes: the harness captures `println!`, and a skip
/// or a measurement that nobody sees is worth nothing.
pub fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// The source tree.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The directory with the libraries under test, or `None` after having said how to get it.
pub fn build_or_skip(test: &str) -> Option<PathBuf> {
    let Some(build) = env::var_os("RCU_NOTRACE_BUILD").map(PathBuf::from) else {
        say(&format!(
            "SKIP: {test}: looks at the built library; run `make check`, or `make` and set \
             RCU_NOTRACE_BUILD=$PWD/build"
        ));
        return None;
    };
    assert!(build.is_absolute(), "RCU_NOTRACE_BUILD={}: not an absolute path", build.display());
    for library in ["librcu_notrace.so", "librcu_notrace.a"] {
        let path = build.join(library);
        assert!(path.exists(), "{} is missing: run `make`", path.display());
    }
    Some(build)
}

/// The same for x86-64 alone.
pub fn x86_64_build_or_skip(test: &str) -> Option<PathBuf> {
    if cfg!(target_arch = "x86_64") {
        return build_or_skip(test);
    }
    say(&format!("SKIP: {test}: reads x86-64 instructions; this machine has others"));
    None
}

/// The builds that are there: the default one, then that of the portable reader if it was made.
pub struct Variant {
    /// Its name in the second column of abi/symbols.
    pub name: &'static str,
    pub directory: PathBuf,
}

impl Variant {
    pub fn shared(&self) -> PathBuf {
        self.directory.join("librcu_notrace.so")
    }

    pub fn archive(&self) -> PathBuf {
        self.directory.join("librcu_notrace.a")
    }
}

pub fn variants(test: &str, build: &Path) -> Vec<Variant> {
    let default = if cfg!(target_arch = "x86_64") { "one" } else { "two" };
    let mut variants = vec![Variant { name: default, directory: build.to_owned() }];
    let portable = build.join("portable");
    if portable.join("librcu_notrace.so").exists() {
        variants.push(Variant { name: "two", directory: portable });
    } else {
        say(&format!("SKIP: {test}, portable reader: {} was not built", portable.display()));
    }
    variants
}

/// A command whose messages are in English and whose failure ends the test in one line.
pub struct Tool {
    program: String,
    command: Command,
}

impl Tool {
    pub fn new(program: &str) -> Self {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C").stdin(Stdio::null());
        Tool { program: program.to_owned(), command }
    }

    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Its standard output; the test fails if it is missing or unsuccessful.
    pub fn output(mut self) -> String {
        let program = self.program;
        let output = match self.command.output() {
            Ok(output) => output,
            Err(error) if error.kind() == io::ErrorKind::NotFound => panic!(
                "{program} is missing: these tests need a C compiler and binutils (apt-get \
                 install gcc binutils)"
            ),
            Err(error) => panic!("{program} cannot be run: {error}"),
        };
        assert!(
            output.status.success(),
            "{:?}: {}\n{}{}",
            self.command,
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// A C compiler.
#[derive(Clone)]
pub struct Compiler {
    pub program: String,
    pub is_clang: bool,
}

impl Compiler {
    fn version(program: &str) -> Option<String> {
        let output = Command::new(program).arg("--version").env("LC_ALL", "C").output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn named(program: &str) -> Option<Compiler> {
        let is_clang = Self::version(program)?.contains("clang");
        Some(Compiler { program: program.to_owned(), is_clang })
    }

    /// A run of it, with the library's headers in reach and warnings as errors.
    pub fn run(&self) -> Tool {
        Tool::new(&self.program)
            .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-I"])
            .arg(root().join("include"))
    }
}

/// The user's compiler.
pub fn compiler() -> Compiler {
    let program = env::var("CC").ok().filter(|cc| !cc.is_empty()).unwrap_or_else(|| "cc".into());
    Compiler::named(&program)
        .unwrap_or_else(|| panic!("{program} is missing: these tests need a C compiler (set CC)"))
}

/// The user's compiler, and the other one of gcc and clang if it is installed: the read side is
/// inlined by both, and each has its own ideas.
pub fn compilers(test: &str) -> Vec<Compiler> {
    let first = compiler();
    let other = if first.is_clang { "gcc" } else { "clang" };
    match Compiler::named(other) {
        Some(second) => vec![first, second],
        None => {
            say(&format!("SKIP: {test} with {other}: not installed (apt-get install {other})"));
            vec![first]
        }
    }
}

/// An empty directory of this test's own, under target/.
pub fn scratch(test: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    directory
}

/// A C source of tests/c.
pub fn c_source(name: &str) -> PathBuf {
    root().join("tests/c").join(name)
}

/// The functions that a shared object exports.
pub fn exported_functions(file: &Path) -> BTreeSet<String> {
    let list = Tool::new("nm").args(["-D", "--defined-only"]).arg(file).output();
    let function = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [_, "T", name] = words.as_slice() else { return None };
        Some(name.split('@').next().unwrap_or(name).to_owned())
    };
    list.lines().filter_map(function).collect()
}
