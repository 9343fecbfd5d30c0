//! What a tracepoint costs that is disabled, in instructions: a compare and a branch as compiled, and
//! in the running process one that does nothing, and a nop. Enabled, a jump: one byte apart. And
//! code whose every function is instrumented has no hook in it.

mod common;

use std::path::Path;

use common::disassembly::{Binary, Instruction};
use common::{Compiler, Tool};

fn compile(compiler: &Compiler, build: &Path, options: &[&str], name: &str) -> std::path::PathBuf {
    let family = if compiler.is_clang { "clang" } else { "gcc" };
    let output = common::scratch(&format!("tracepoint-{family}-{name}")).join("program");
    let mut run = compiler.run().args(["-O2", "-fcf-protection=none", "-fno-stack-protector"]);
    run = run.args(options).arg("-o").args([&output, &common::c_source("tracepoints.c")]);
    run.arg("-L")
        .arg(build)
        .arg("-lrcu_notrace")
        .arg(format!("-Wl,-rpath,{}", build.display()))
        .output();
    output
}

/// Bytes of `with()` after that word.
fn bytes(output: &str, word: &str) -> Vec<u8> {
    let line = output.lines().find(|line| line.split(' ').next() == Some(word));
    let line = line.unwrap_or_else(|| panic!("the program did not say `{word}`: {output}"));
    line.split(' ').skip(1).map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal")).collect()
}

#[test]
fn a_disabled_tracepoint_is_compare_and_branch_and_then_nothing_and_a_nop() {
    let test = "a tracepoint's instructions";
    let Some(build) = common::x86_64_build_or_skip(test) else { return };
    for compiler in common::compilers(test) {
        let program = compile(&compiler, &build, &["-DWITH_MAIN"], "plain");
        let binary = Binary::read(&program, None);
        let function = binary.function_named("with").expect("it was compiled");
        let code: Vec<&Instruction> = binary.code_of(function).iter().collect();
        let texts: Vec<_> = code.iter().map(|at| at.text()).collect();
        let what = format!("{} -O2:\n    {}", compiler.program, texts.join("\n    "));
        let site = code.iter().position(|at| at.mnemonic == "cmpb");
        let site = site.unwrap_or_else(|| panic!("no cmpb: {what}"));
        assert!(
            code[site].operands.starts_with("$0x0,") && code[site].refers_to.is_some(),
            "{what}"
        );
        assert_eq!(code[site + 1].mnemonic, "jne", "{what}");
        let end = code.iter().position(|at| at.is_return()).expect("it returns");
        // Up to the return nothing else but the function's own work: no call, no stack, no load.
        for at in code[..end].iter().filter(|at| !at.operands.contains("0(,")) {
            let is_site = at.mnemonic == "cmpb";
            let loads = at.mnemonic.starts_with("mov") && at.operands.contains('(');
            assert!(!at.is_call() && !at.operands.contains("%rsp"), "`{}`: {what}", at.text());
            assert!(is_site || !loads, "`{}` loads: {what}", at.text());
        }

        let output = Tool::new("timeout").args(["20"]).arg(&program).output();
        let (disabled, enabled) = (bytes(&output, "disabled"), bytes(&output, "enabled"));
        let at = (code[site].address - function.start) as usize;
        assert_eq!(disabled[at], 0xa9, "test $offset, %eax: {what}");
        assert_eq!(disabled[at + 5..at + 13], [0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0], "a nop: {what}");
        assert_eq!(enabled[at], 0xe9, "jmp: {what}");
        let differ = disabled.iter().zip(&enabled).filter(|(a, b)| a != b).count();
        assert_eq!(differ, 1, "bytes that differ: {what}");
        // Where it jumps is where the branch went.
        let offset = i32::from_le_bytes(enabled[at + 1..at + 5].try_into().expect("four"));
        let target = code[site].address.wrapping_add(5).wrapping_add_signed(offset.into());
        assert_eq!(Some(target), code[site + 1].target(), "{what}");
    }
}

#[test]
fn instrumented_functions_have_no_hook_in_a_tracepoint() {
    let test = "hooks in tracepoints";
    let Some(build) = common::x86_64_build_or_skip(test) else { return };
    let ways: [(&str, &[&str]); 3] = [
        ("cyg", &["-finstrument-functions"]),
        ("pg", &["-pg", "-mfentry"]),
        ("patchable", &["-fpatchable-function-entry=5"]),
    ];
    for compiler in common::compilers(test) {
        for (name, options) in ways {
            for level in ["-O0", "-O2"] {
                let mut options = options.to_vec();
                options.extend([level, "-shared", "-fPIC"]);
                let program = compile(&compiler, &build, &options, &format!("{name}{level}"));
                let binary = Binary::read(&program, None);
                let function = binary.function_named("with").expect("it was compiled");
                let hooks = |at: &&Instruction| {
                    let text = at.text();
                    ["cyg_profile", "__fentry__", "mcount"].iter().any(|hook| text.contains(hook))
                };
                let count = binary.code_of(function).iter().filter(hooks).count();
                // The function's own: entry, exits.
                let most = if name == "cyg" { 3 } else { 1 };
                assert!(count <= most, "{} {name} {level}: {count} hooks", compiler.program);
                // And no function of the tracepoint is left that could have one.
                for part in ["trace_event", "__do_trace", "class_rcu", "rcu_notrace_tracepoint_"] {
                    let found =
                        binary.functions.iter().find(|function| function.name.contains(part));
                    assert!(
                        found.is_none_or(|function| function.name.starts_with("register")
                            || function.name.starts_with("unregister")),
                        "{} {name} {level}: {part} is a function",
                        compiler.program
                    );
                }
            }
        }
    }
}
