//! What compilers make of the read side in C, in all their ways: it calls what the audit of the library
//! covers (tests/closure.rs), by the GOT, and touches no vector register, whatever the processor has.

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::closure::{Closure, Exception, Rules};
use common::disassembly::{Binary, Function};
use common::{contexts, Compiler};

const LEVELS: [&str; 4] = ["-O0", "-O2", "-O3", "-Os"];
const PROCESSORS: [&str; 3] = ["-march=x86-64", "-march=x86-64-v3", "-march=native"];

const PROBES: Exception = Exception {
    within: &["root_trace_NAME", "root_trace_BLOCKING"],
    symbol: None,
    most: 1,
    reason: "the tracepoint's probes",
};

/// The portable reader's slow paths are ordinary calls; what is loaded from the GOT is looked at anyhow.
const HOISTED: Exception = Exception {
    within: &["root_guards", "root_list"],
    symbol: None,
    most: 4,
    reason: "clang loads the slow paths' addresses in front of a loop",
};

/// How it is compiled and linked.
struct Way<'a> {
    compiler: &'a Compiler,
    level: &'a str,
    processor: &'a str,
    portable: bool,
}

impl Way<'_> {
    fn name(&self) -> String {
        let family = if self.compiler.is_clang { "clang" } else { "gcc" };
        let reader = if self.portable { "-portable" } else { "" };
        format!("{family}{}{}{reader}", self.level, self.processor)
    }

    fn build(&self, library: &Path) -> Binary {
        let object = common::scratch(&format!("inlined-{}", self.name())).join("roots.so");
        let mut run = self.compiler.run().args([self.level, self.processor]).args([
            "-fPIC",
            "-fvisibility=hidden",
            "-shared",
            "-fcf-protection=none",
            "-fno-stack-protector",
        ]);
        if self.compiler.is_clang {
            // It has no attribute for that.
            run = run.arg("-fno-plt");
        }
        if self.portable {
            run = run.arg("-DRCU_NOTRACE_PORTABLE");
        }
        run = run.arg("-o").args([&object, &common::c_source("notrace_roots.c")]);
        run.arg("-L").arg(library).arg("-lrcu_notrace").output();
        Binary::read(&object, None)
    }
}

/// What the walk over the library had for roots.
fn audited(library: &Path) -> BTreeSet<String> {
    let rows = contexts::rows();
    let no: BTreeSet<_> =
        rows.iter().filter(|row| !row.in_handlers).flat_map(|row| &row.names).collect();
    let mut names = common::exported_functions(library);
    names.retain(|name| !no.contains(name));
    // Data of the library: probes of the ordinary API's own tracepoints.
    for name in ["rcu_read_lock", "rcu_read_unlock", "rcu_dereference"] {
        names.insert(format!("__tracepoint_{name}"));
    }
    names
}

fn roots(binary: &Binary) -> Vec<&Function> {
    let is_root = |function: &&Function| function.name.starts_with("root_");
    binary.functions.iter().filter(is_root).collect()
}

#[test]
fn what_is_inlined_calls_what_is_audited_and_nothing_else_however_it_is_compiled() {
    let test = "the inlined read side's closure";
    let Some(build) = common::x86_64_build_or_skip(test) else { return };
    let mut compiled = 0;
    for variant in common::variants(test, &build) {
        let audited = audited(&variant.shared());
        let portable = variant.directory != build;
        for compiler in &common::compilers(test) {
            for level in LEVELS {
                for processor in PROCESSORS {
                    let way = Way { compiler, level, processor, portable };
                    let binary = way.build(&variant.directory);
                    let roots = roots(&binary);
                    check(&way, &binary, &roots, audited.clone());
                    compiled += 1;
                }
            }
        }
    }
    common::say(&format!("{test}: compiled and walked in {compiled} ways"));
    assert!(compiled >= LEVELS.len() * PROCESSORS.len());
}

fn check(way: &Way, binary: &Binary, roots: &[&Function], audited: BTreeSet<String>) {
    let exceptions = match way.compiler.is_clang && way.portable {
        true => vec![PROBES, HOISTED],
        false => vec![PROBES],
    };
    let rules = Rules { exceptions: &exceptions, audited, no_vectors: true, ..Rules::default() };
    let way = way.name();
    let closure = Closure::of(binary, roots, &rules);
    assert!(closure.offences.is_empty(), "{way}:\n{}", closure.offences.join("\n"));
    // Each was inlined: there is no function but the roots.
    let extra: Vec<_> = closure
        .functions
        .keys()
        .filter_map(|at| binary.function_at(*at))
        .map(|function| function.name.as_str())
        .filter(|name| !name.starts_with("root_"))
        .collect();
    assert!(extra.is_empty(), "{way}: {extra:?} are functions, and not inlined");
    let probes = closure.exceptions.iter().filter(|(.., reason)| *reason == PROBES.reason).count();
    assert_eq!(probes, 2, "{way}: calls of probes");

    // A name that is new in the headers is to have a function there.
    let promised = contexts::rows().into_iter().filter(|row| row.in_handlers);
    for name in promised.flat_map(|row| row.names) {
        let root = format!("root_{name}");
        assert!(
            roots.iter().any(|function| function.name == root),
            "the headers promise {name} to signal handlers: tests/c/notrace_roots.c wants {root}()"
        );
    }
}
