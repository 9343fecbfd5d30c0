//! The audit of tests/closure.rs has teeth: an object that does everything that it forbids.

mod common;

use std::collections::BTreeSet;

use common::closure::{Boundary, Closure, Exception, Rules};
use common::disassembly::{Binary, Function};
use common::offences::system_calls;
use common::stack::Stack;

fn bad(test: &str) -> Binary {
    let object = common::scratch(test).join("bad.so");
    let options = ["-O2", "-fPIC", "-shared", "-fcf-protection=none", "-fno-stack-protector", "-o"];
    common::Tool::new(&common::compiler().program)
        .args(options)
        .args([&object, &common::c_source("offences.c")])
        .args(["-Wl,-z,now", "-Wl,-Bsymbolic"])
        .output();
    Binary::read(&object, None)
}

fn function<'b>(binary: &'b Binary, name: &str) -> &'b Function {
    binary.function_named(name).unwrap_or_else(|| panic!("the bad object has no {name}"))
}

fn offences(binary: &Binary, root: &str, rules: &Rules) -> Vec<String> {
    Closure::of(binary, &[function(binary, root)], rules).offences
}

#[test]
fn a_walk_over_a_bad_object_finds_every_kind_of_offence_with_its_call_chain() {
    let test = "a_walk_over_a_bad_object";
    if common::x86_64_build_or_skip(test).is_none() {
        return;
    }
    let binary = bad(test);
    let cases = [
        ("calls_by_plt", "calls_by_plt -> helper calls memcpy through the PLT"),
        ("jumps_by_plt", "jumps_by_plt calls memcpy through the PLT"),
        ("calls_by_got", "calls or refers to strlen through the GOT"),
        ("takes_an_address", "calls or refers to malloc through the GOT"),
        ("calls_by_variable", "calls_by_variable calls by a"),
        ("jumps_by_variable", "jumps_by_variable calls by a"),
        ("calls_by_register", "calls_by_register calls by a register"),
        ("calls_by_memory", "calls_by_memory calls by a register"),
        ("switches", "switches calls by a register"),
        ("hands_on_a_function", "hands_on_a_function -> taken calls by a"),
        ("goes_to_a_far_part", "goes where no function is known"),
        ("asks_for_its_tls", "asks the loader for a thread-local address"),
        ("asks_by_a_descriptor", "asks the loader for a thread-local address"),
        ("has_a_cyg_hook", "calls the instrumentation hook __cyg_profile_func_enter"),
        ("has_a_fentry_hook", "calls the instrumentation hook __fentry__"),
        ("has_an_mcount_hook", "refers to mcount through the GOT"),
        ("has_room_to_patch", "begins with 5 bytes of nops, room for a hook"),
        ("has_room_behind_endbr", "begins with 5 bytes of nops, room for a hook"),
        ("has_an_xray_sled", "begins with an XRay sled"),
        ("uses_x87", "uses x87"),
        ("uses_mmx", "uses %mm registers"),
        ("uses_avx", "uses %ymm registers"),
        ("uses_vex", "uses x87 or AVX"),
        ("uses_avx512", "uses %zmm registers"),
        ("uses_masks", "uses %k registers"),
        ("changes_rounding", "control state by ldmxcsr"),
        ("changes_direction", "control state by std"),
        ("saves_all", "control state by xsave64"),
        ("makes_any_call", "makes a system call, but which?"),
    ];
    for (root, wanted) in cases {
        let found = offences(&binary, root, &Rules::default());
        assert!(
            found.iter().any(|offence| offence.contains(wanted)),
            "{root}: `{wanted}` is not among {found:?}"
        );
    }
    common::say(&format!("{test}: {} kinds of offences are named", cases.len()));
    for innocent in ["leaf", "deep", "uses_sse", "makes_a_known_call"] {
        assert_eq!(
            offences(&binary, innocent, &Rules::default()),
            Vec::<String>::new(),
            "{innocent}"
        );
    }
    let strict = Rules { no_vectors: true, ..Rules::default() };
    assert!(offences(&binary, "uses_sse", &strict).concat().contains("uses a vector register"));
    assert!(offences(&binary, "leaf", &strict).is_empty());

    let code = binary.code_of(function(&binary, "makes_a_known_call"));
    let numbers: Vec<_> = system_calls(code).into_iter().map(|(_, number)| number).collect();
    assert_eq!(numbers, [Some(libc::SYS_getpid)]);
}

#[test]
fn an_exception_is_for_a_place_a_symbol_and_a_number_of_calls_and_for_no_more() {
    let test = "an_exception_is_for_a_place";
    if common::x86_64_build_or_skip(test).is_none() {
        return;
    }
    let binary = bad(test);
    let covers = |root, within, symbol, most| {
        let exceptions = [Exception { within, symbol, most, reason: "a test" }];
        let rules = Rules { exceptions: &exceptions, ..Rules::default() };
        offences(&binary, root, &rules).is_empty()
    };
    assert!(covers("calls_by_variable", &["calls_by_variable"], None, 1));
    assert!(!covers("calls_by_variable", &["calls_by_variable"], None, 0));
    assert!(!covers("calls_by_variable", &["by_variable"], None, 1));
    assert!(covers("calls_by_got", &["calls_by_got"], Some("strlen"), 1));
    assert!(!covers("calls_by_got", &["calls_by_got"], Some("pthread_setspecific"), 1));
    assert!(!covers("calls_by_got", &["calls_by_got"], None, 1));

    let ends = |function, within| {
        let boundaries = [Boundary { function, within, reason: "a test" }];
        let rules = Rules { boundaries: &boundaries, ..Rules::default() };
        offences(&binary, "hands_on_a_function", &rules).is_empty()
    };
    assert!(ends("taken", &["hands_on_a_function"]));
    assert!(!ends("aken", &["hands_on_a_function"]));
    assert!(!ends("taken", &["calls_by_variable"]));

    // What another walk has seen to may be called, but not by the PLT.
    let audited = |root, name: &str| {
        let rules = Rules { audited: BTreeSet::from([name.to_owned()]), ..Rules::default() };
        offences(&binary, root, &rules).is_empty()
    };
    assert!(audited("calls_by_got", "strlen"));
    assert!(!audited("calls_by_got", "strnlen"));
    assert!(!audited("jumps_by_plt", "memcpy"));
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
