//! What a section costs, in instructions: the pair is four, and nothing around them.
//!
//! Compiled from the public header as a program would, linked, and read back; each function is
//! held against its twin without sections.

mod common;

use std::path::{Path, PathBuf};

use common::disassembly::{Binary, Function, Instruction};
use common::{Compiler, Tool};

/// A function of tests/c/sections.c, and how many pairs are in it.
const FUNCTIONS: [(&str, usize); 3] = [("one_load", 1), ("nested", 2), ("loop", 1)];

/// The state word.
const WORD: &str = "rcu_notrace_reader";

/// How the word is addressed.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Link {
    /// By a constant: the archive in an executable.
    Archive,
    /// By a register, loaded from the GOT: a shared object with the shared library.
    Shared,
}

impl Link {
    fn build(self, compiler: &Compiler, build: &Path, bare: bool) -> Binary {
        let name = if compiler.is_clang { "clang" } else { "gcc" };
        let twin = if bare { "bare" } else { "sections" };
        let scratch = common::scratch(&format!("section_instructions-{name}-{self:?}-{twin}"));
        let output = scratch.join("sections");
        let mut run = compiler.run().args(["-O2", "-fcf-protection=none", "-fno-stack-protector"]);
        if bare {
            run = run.arg("-DBARE");
        }
        run = run.arg("-o").args([&output, &common::c_source("sections.c")]);
        run = match self {
            Link::Archive => {
                let archive: PathBuf = build.join("librcu_notrace.a");
                run.args(["-DRCU_NOTRACE_STATIC", "-DPROGRAM"]).arg(archive)
            }
            Link::Shared => {
                run.args(["-fPIC", "-shared", "-Wl,-z,now", "-L"]).arg(build).arg("-lrcu_notrace")
            }
        };
        run.output();
        if self == Link::Archive && !bare {
            // It also works.
            Tool::new(&output.display().to_string()).output();
        }
        Binary::read(&output, None)
    }
}

fn is_lock(at: &Instruction) -> bool {
    at.mnemonic == "incl" && at.operands.starts_with("%fs:")
}

fn is_unlock(at: &Instruction) -> bool {
    at.mnemonic == "decl" && at.operands.starts_with("%fs:")
}

fn listing(code: &[&Instruction]) -> String {
    let line = |at: &&Instruction| format!("    {:x}: {}\n", at.address, at.text());
    code.iter().map(line).collect()
}

/// A function's code, and what of it runs while no section is flagged.
struct Paths<'b> {
    binary: &'b Binary,
    name: String,
    code: &'b [Instruction],
    /// Of `code`.
    fast: Vec<usize>,
}

impl<'b> Paths<'b> {
    fn of(binary: &'b Binary, name: &str) -> Self {
        let function: &Function =
            binary.function_named(name).unwrap_or_else(|| panic!("{name} was not compiled"));
        let code = binary.code_of(function);
        let mut paths = Paths { binary, name: name.to_owned(), code, fast: Vec::new() };
        paths.fast = paths.reachable(vec![0]);
        paths
    }

    fn at(&self, index: usize) -> &'b Instruction {
        self.code.get(index).unwrap_or_else(|| panic!("{} runs past its end", self.name))
    }

    fn index_of(&self, address: u64) -> Option<usize> {
        self.code.binary_search_by_key(&address, |at| at.address).ok()
    }

    /// Whether it leads to a slow path: the branch after `incl` or `decl` of the word.
    fn is_slow_branch(&self, index: usize) -> bool {
        let before = index.checked_sub(1).map(|before| self.at(before));
        before.is_some_and(|before| {
            let at = self.at(index).mnemonic.as_str();
            (is_lock(before) && at == "jns") || (is_unlock(before) && at == "je")
        })
    }

    /// What can follow, slow paths left aside.
    fn next(&self, index: usize) -> Vec<usize> {
        let at = self.at(index);
        let mut next = Vec::new();
        if at.falls_through() {
            next.push(index + 1);
        }
        if at.is_jump() && !self.is_slow_branch(index) {
            next.extend(at.target().and_then(|target| self.index_of(target)));
        }
        next
    }

    fn reachable(&self, mut queue: Vec<usize>) -> Vec<usize> {
        let mut found = Vec::new();
        while let Some(index) = queue.pop() {
            if !found.contains(&index) {
                found.push(index);
                queue.extend(self.next(index));
            }
        }
        found.retain(|index| {
            let at = self.at(*index);
            !at.is_padding() && at.mnemonic != "endbr64"
        });
        found.sort_unstable();
        found
    }

    fn fast(&self) -> Vec<&'b Instruction> {
        self.fast.iter().map(|index| self.at(*index)).collect()
    }

    /// What a loop repeats.
    fn repeated(&self) -> Vec<&'b Instruction> {
        let on_a_cycle = |index: &&usize| self.reachable(self.next(**index)).contains(*index);
        self.fast.iter().filter(on_a_cycle).map(|index| self.at(*index)).collect()
    }

    /// The symbol whose address or offset a GOT slot holds.
    fn slot(&self, at: &Instruction) -> Option<&'b str> {
        let relocation = self.binary.relocations.get(&at.refers_to?)?;
        Some(relocation.symbol.as_str())
    }

    /// Each branch to a slow path leads to: step over the red zone, one call that is not lazily
    /// bound, and back.
    fn check_slow_paths(&self, pairs: usize, link: Link) {
        let mut slow_branches = 0;
        for index in (0..self.code.len()).filter(|index| self.is_slow_branch(*index)) {
            slow_branches += 1;
            let wanted = match self.at(index).mnemonic.as_str() {
                "jns" => "rcu_notrace_lock_slow",
                _ => "rcu_notrace_unlock_slow",
            };
            let start = self.at(index).target().and_then(|target| self.index_of(target));
            let start = start.unwrap_or_else(|| panic!("{}: a branch that leaves it", self.name));
            let path: Vec<_> = self.code.iter().skip(start).take(3).collect();
            let [down, call, up] = path.as_slice() else {
                panic!("{}: a slow path of {} instructions", self.name, path.len());
            };
            let way = format!("{}, {link:?}: its slow path is\n{}", self.name, listing(&path));
            assert_eq!(down.text(), "lea -0x80(%rsp),%rsp", "{way}");
            assert_eq!(up.text(), "lea 0x80(%rsp),%rsp", "{way}");
            assert!(call.is_call() && !call.label().contains("plt"), "{way}");
            match link {
                // The linker made it a direct call.
                Link::Archive => assert_eq!(call.label(), wanted, "{way}"),
                Link::Shared => {
                    assert!(call.is_indirect(), "{way}");
                    assert_eq!(self.slot(call), Some(wanted), "{way}");
                }
            }
        }
        assert_eq!(slow_branches, 2 * pairs, "{}: branches to slow paths", self.name);
    }
}

fn mnemonics(code: &[&Instruction]) -> Vec<String> {
    code.iter().map(|at| at.mnemonic.clone()).collect()
}

/// What is left of a path without `incl; jns` and `decl; je`, after counting those.
fn without_pairs<'b>(what: &str, code: &[&'b Instruction], pairs: usize) -> Vec<&'b Instruction> {
    let text = listing(code);
    let (mut locks, mut unlocks) = (0, 0);
    let mut rest = Vec::new();
    let mut code = code.iter();
    while let Some(at) = code.next() {
        let branch = match (is_lock(at), is_unlock(at)) {
            (true, _) => "jns",
            (_, true) => "je",
            _ => {
                assert!(
                    !at.operands.contains("%fs:"),
                    "{what}: another thread-local access\n{text}"
                );
                rest.push(*at);
                continue;
            }
        };
        locks += usize::from(branch == "jns");
        unlocks += usize::from(branch == "je");
        let next = code.next().map_or("", |next| next.mnemonic.as_str());
        assert_eq!(next, branch, "{what}: after `{}`\n{text}", at.text());
    }
    assert_eq!((locks, unlocks), (pairs, pairs), "{what}: locks and unlocks\n{text}");
    rest
}

/// No frame, no spill, no call.
fn check_stack_is_untouched(what: &str, code: &[&Instruction]) {
    for at in code {
        let touches = at.operands.contains("%rsp")
            || at.operands.contains("%rbp")
            || at.is_call()
            || at.mnemonic.starts_with("push")
            || at.mnemonic.starts_with("pop");
        assert!(!touches, "{what}: `{}` uses the stack\n{}", at.text(), listing(code));
    }
}

fn inspect(link: Link, mut compare: impl FnMut(&str, &Paths, &Paths, usize)) {
    let test = format!("the read side's instructions, {link:?}");
    let Some(build) = common::x86_64_build_or_skip(&test) else { return };
    for compiler in common::compilers(&test) {
        let sections = link.build(&compiler, &build, false);
        let bare = link.build(&compiler, &build, true);
        for (name, pairs) in FUNCTIONS {
            let (sections, bare) = (Paths::of(&sections, name), Paths::of(&bare, name));
            let what = format!("{} -O2, {link:?}, {name}()", compiler.program);
            let fast = sections.fast();
            println!("{what}:\n{}", listing(&fast));
            check_stack_is_untouched(&what, &fast);
            sections.check_slow_paths(pairs, link);
            compare(&what, &sections, &bare, pairs);
        }
    }
}

#[test]
fn in_an_executable_with_the_archive_a_section_adds_exactly_four_instructions() {
    inspect(Link::Archive, |what, sections, bare, pairs| {
        let fast = sections.fast();
        // Of a loop, what it repeats: around it, compilers place jumps as they see fit.
        let repeated = sections.repeated();
        let (with, bare) = match what.contains("loop") {
            true => (repeated, bare.repeated()),
            false => (fast.clone(), bare.fast()),
        };
        without_pairs(what, &fast, pairs);
        let rest = without_pairs(what, &with, pairs);
        assert_eq!(
            mnemonics(&rest),
            mnemonics(&bare),
            "{what}: on the left, what is there beside the pair; on the right, what is there \
             without sections\n{}",
            listing(&fast)
        );
    });
}

#[test]
fn in_a_shared_object_a_section_adds_four_instructions_and_one_load_outside_the_loop() {
    inspect(Link::Shared, |what, sections, bare, pairs| {
        let fast = sections.fast();
        let text = listing(&fast);
        let loads = |code: &[&Instruction]| {
            code.iter().filter(|at| sections.slot(at) == Some(WORD)).count()
        };
        assert_eq!(loads(&fast), 1, "{what}: loads of the word's offset\n{text}");

        // The load's register may cost the function a move where it took the result's place.
        let rest = without_pairs(what, &fast, pairs);
        let most = bare.fast().len() + 2;
        assert!(rest.len() <= most, "{what}: {} instructions beside the pair\n{text}", rest.len());

        let repeated = sections.repeated();
        assert_eq!(repeated.is_empty(), !what.contains("loop"), "{what}: what it repeats\n{text}");
        if !repeated.is_empty() {
            assert_eq!(loads(&repeated), 0, "{what}: the load is in the loop\n{text}");
            let rest = without_pairs(what, &repeated, pairs);
            assert_eq!(
                mnemonics(&rest),
                mnemonics(&bare.repeated()),
                "{what}: the loop with sections, without the pair, and the loop without\n{text}"
            );
        }
    });
}
