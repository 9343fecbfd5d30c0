//! What the read side can come to execute is this library's own code, all of it.
//!
//! "Never instrumented" is a property of everything that lock, unlock, their slow paths and the
//! IPI handler reach: a call of libc's memcpy that the compiler put there is as bad as one of
//! malloc. So these tests read the instructions of the built library, not its source.

mod common;

use std::fs;

use common::closure::{Closure, Exception, Stack};
use common::disassembly::{Binary, Function};

/// Roots by their exported names; whichever variant has them.
const READ_SIDE: [&str; 25] = [
    "rcu_notrace_lock_slow",
    "rcu_notrace_unlock_slow",
    "rcu_notrace_lock_slow2",
    "rcu_notrace_unlock_slow2",
    "rcu_trace_lock_slow",
    "rcu_trace_unlock_slow",
    "rcu_trace_lock_slow2",
    "rcu_trace_unlock_slow2",
    "rcu_read_lock_trace",
    "rcu_read_unlock_trace",
    "call_rcu",
    "call_rcu_tasks_trace",
    "rcu_notrace_free",
    "get_state_synchronize_rcu",
    "start_poll_synchronize_rcu",
    "start_poll_synchronize_rcu_expedited",
    "poll_state_synchronize_rcu",
    "rcu_read_lock_notrace",
    "rcu_read_unlock_notrace",
    "rcu_read_lock_held",
    "rcu_notrace_check_unlock",
    "rcu_notrace_dereference",
    "rcu_notrace_assign",
    "rcu_notrace_xchg",
    "rcu_notrace_cmpxchg",
];

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
        // Of one argument, and of three; and the hook.
        most: 3,
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

/// Most stack, in bytes, that our part of the IPI handler may take: a thread's alternate signal
/// stack may be MINSIGSTKSZ, 2048 bytes, and the kernel's frame needs the rest of it.
const HANDLER_STACK: i64 = 1024;

fn read_side(binary: &Binary) -> Vec<&Function> {
    let roots: Vec<_> = READ_SIDE.iter().filter_map(|name| binary.function_named(name)).collect();
    assert_eq!(roots.len(), READ_SIDE.len() - 4, "a variant has one of each pair of slow paths");
    roots
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
    for variant in common::variants(test, &build) {
        let binary = Binary::read(&variant.shared(), Some(&variant.archive()));
        let mut roots = read_side(&binary);
        roots.extend(handler(&binary));
        let closure = Closure::of(&binary, &roots, &EXCEPTIONS);
        let table = closure.table(&binary);
        println!("closure of {}:\n{table}", variant.shared().display());
        let total = table.lines().last().unwrap_or_default().trim();
        common::say(&format!("notrace closure, variant {}: {total}", variant.name));
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
        for root in read_side(&binary) {
            bound(root);
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

/// One function for each offence, and some that are innocent.
const BAD: &str = r#"
#include <string.h>

__attribute__((noinline)) static void helper(char *to, const char *from, unsigned long n)
{
    memcpy(to, from, n);
    __asm__ volatile("");
}
void calls_by_plt(char *to, const char *from, unsigned long n) { helper(to, from, n); to[0]++; }
void jumps_by_plt(char *to, const char *from, unsigned long n) { memcpy(to, from, n); }
void calls_by_got(void) { __asm__ volatile("call *strlen@GOTPCREL(%rip)"); }
void takes_an_address(void) { __asm__ volatile("mov malloc@GOTPCREL(%rip), %rax"); }

void (*variable)(void);
void calls_by_variable(void) { variable(); __asm__ volatile(""); }
void jumps_by_variable(void) { variable(); }

extern __thread int counter;
__thread int counter;
int asks_for_its_tls(void) { return counter; }

void __cyg_profile_func_enter(void *function, void *site) { (void)function; (void)site; }
void has_a_hook(void) { __cyg_profile_func_enter(0, 0); __asm__ volatile(""); }

long double uses_x87(long double x) { return x * 2; }
void uses_avx(void) { __asm__ volatile("vaddps %ymm0, %ymm0, %ymm0"); }
void uses_vex(void) { __asm__ volatile("vaddps %xmm0, %xmm0, %xmm0"); }

/* Known to nothing but a pointer that this function hands on. */
__attribute__((visibility("hidden"), noinline)) void taken(void) { variable(); __asm__ volatile(""); }
void hands_on_a_function(void (**to)(void)) { *to = taken; }

int leaf(int x) { return x + 1; }
__attribute__((visibility("hidden"), noinline)) int inner(int x)
{
    volatile char room[2000];
    room[x] = 1;
    return room[0];
}
int deep(int x) { return inner(x) + inner(x + 1); }
__attribute__((visibility("hidden"), noinline)) int recursive(int x)
{
    return x < 2 ? x : recursive(x - 1) + recursive(x - 2);
}
int calls_recursive(int x) { return recursive(x) + 1; }
"#;

fn bad(test: &str) -> Binary {
    let scratch = common::scratch(test);
    let (source, object) = (scratch.join("bad.c"), scratch.join("bad.so"));
    fs::write(&source, BAD).expect("target/ is writable");
    let options = ["-O2", "-fPIC", "-shared", "-fcf-protection=none", "-fno-stack-protector", "-o"];
    common::Tool::new(&common::compiler().program)
        .args(options)
        .args([&object, &source])
        .args(["-Wl,-z,now", "-Wl,-Bsymbolic"])
        .output();
    Binary::read(&object, None)
}

fn function<'b>(binary: &'b Binary, name: &str) -> &'b Function {
    binary.function_named(name).unwrap_or_else(|| panic!("the bad object has no {name}"))
}

#[test]
fn a_walk_over_a_bad_object_finds_every_kind_of_offence_with_its_call_chain() {
    let test = "a_walk_over_a_bad_object";
    if common::x86_64_build_or_skip(test).is_none() {
        return;
    }
    let binary = bad(test);
    let offences = |root: &str, exceptions: &[Exception]| {
        Closure::of(&binary, &[function(&binary, root)], exceptions).offences
    };
    let cases = [
        ("calls_by_plt", "calls_by_plt -> helper calls memcpy through the PLT"),
        ("jumps_by_plt", "jumps_by_plt calls memcpy through the PLT"),
        ("calls_by_got", "calls or refers to strlen through the GOT"),
        ("takes_an_address", "calls or refers to malloc through the GOT"),
        ("calls_by_variable", "calls_by_variable calls by a"),
        ("jumps_by_variable", "jumps_by_variable calls by a"),
        ("asks_for_its_tls", "asks the loader for a thread-local address"),
        ("has_a_hook", "calls the instrumentation hook __cyg_profile_func_enter"),
        ("uses_x87", "uses x87"),
        ("uses_avx", "uses %ymm registers"),
        ("uses_vex", "uses x87 or AVX"),
        ("hands_on_a_function", "hands_on_a_function -> taken calls by a"),
    ];
    for (root, wanted) in cases {
        let found = offences(root, &[]);
        assert!(
            found.iter().any(|offence| offence.contains(wanted)),
            "{root}: `{wanted}` is not among {found:?}"
        );
    }
    for innocent in ["leaf", "deep"] {
        assert_eq!(offences(innocent, &[]), Vec::<String>::new(), "{innocent}");
    }

    // An exception is for a place, a symbol and a number of calls, and for no more.
    let exception = |within, symbol, most| Exception { within, symbol, most, reason: "a test" };
    let covers = |root, exception| offences(root, &[exception]).is_empty();
    assert!(covers("calls_by_variable", exception(&["calls_by_variable"], None, 1)));
    assert!(!covers("calls_by_variable", exception(&["calls_by_variable"], None, 0)));
    assert!(!covers("calls_by_variable", exception(&["by_variable"], None, 1)));
    assert!(covers("calls_by_got", exception(&["calls_by_got"], Some("strlen"), 1)));
    assert!(!covers("calls_by_got", exception(&["calls_by_got"], Some("pthread_setspecific"), 1)));
    assert!(!covers("calls_by_got", exception(&["calls_by_got"], None, 1)));
}

#[test]
fn the_stack_bound_sees_a_deep_callee_and_refuses_recursion() {
    let test = "the_stack_bound_sees";
    if common::x86_64_build_or_skip(test).is_none() {
        return;
    }
    let binary = bad(test);
    let mut stack = Stack::new(&binary);
    let (leaf, _) = stack.need_of(function(&binary, "leaf")).expect("a leaf has a bound");
    assert!(leaf <= 16, "a leaf of one addition takes {leaf} bytes");
    let (deep, chain) = stack.need_of(function(&binary, "deep")).expect("no recursion there");
    assert!((2008..2200).contains(&deep), "2000 bytes in a callee are measured as {deep}");
    assert_eq!(chain, ["deep", "inner"]);
    let unknown = stack.need_of(function(&binary, "calls_recursive"));
    assert!(
        unknown.as_ref().is_err_and(|why| why.contains("recursive")),
        "recursion has no bound, but: {unknown:?}"
    );
}
