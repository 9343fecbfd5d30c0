//! What a single instruction, or a function's beginning, says against a function that must not be
//! traced and may run anywhere.

use super::disassembly::{Function, Instruction};

/// Functions that instrumentation calls; and libc's, where a static link has them.
pub fn is_hook(name: &str) -> bool {
    const NAMES: [&str; 10] = [
        "mcount",
        "_mcount",
        "__fentry__",
        "__tls_get_addr",
        "memcpy",
        "memset",
        "memmove",
        "memcmp",
        "bcmp",
        "strlen",
    ];
    const BEGINNINGS: [&str; 5] =
        ["__cyg_profile", "__xray", "__sanitizer_cov", "__asan", "__tsan"];
    NAMES.contains(&name) || BEGINNINGS.iter().any(|start| name.starts_with(start))
}

/// Registers that nobody saves for us.
///
/// The slow paths save the general ones and xmm0 to 15, once, for code that has live values in all of
/// them. The handler may change what it likes, as the kernel's signal frame holds the whole of the
/// extended state; it shares its functions with the slow paths, and so it has to do with SSE as well.
/// What its return restores is MXCSR and the flags, too: but a slow path's does not.
pub fn unsaved_state(at: &Instruction) -> Option<String> {
    const WIDE: [&str; 7] = ["%ymm", "%zmm", "%st", "%mm", "%k", "%tmm", "%bnd"];
    if let Some(register) = WIDE.iter().find(|register| at.operands.contains(*register)) {
        return Some(format!("uses {register} registers, which nobody saved"));
    }
    let mnemonic = at.mnemonic.as_str();
    // All mnemonics that begin so; a VEX instruction clears the upper half of a ymm register.
    let x87 = mnemonic.starts_with('f') || ["emms", "wait"].contains(&mnemonic);
    let vex = mnemonic.starts_with('v') && !mnemonic.starts_with("ver");
    // xmm16 to 31, which only EVEX instructions reach, have such mnemonics, too.
    if x87 || vex {
        return Some("uses x87 or AVX, whose state nobody saved".into());
    }
    let control = ["ldmxcsr", "std", "sti", "cli", "wrfsbase", "wrgsbase", "wrpkru"];
    let is_control = control.contains(&mnemonic)
        || mnemonic.starts_with("xrstor")
        || mnemonic.starts_with("xsave")
        || mnemonic.starts_with("xsetbv");
    is_control.then(|| format!("changes or saves the thread's control state by {mnemonic}"))
}

/// Whether code writes or reads a vector register.
pub fn uses_vectors(at: &Instruction) -> bool {
    at.operands.contains("mm")
}

/// What can be told of a function's first instructions: room that a tracer patches to a call.
pub fn room_for_a_hook(function: &Function, code: &[Instruction]) -> Option<String> {
    let code = match code.first() {
        Some(first) if first.mnemonic.starts_with("endbr") => code.get(1..)?,
        _ => code,
    };
    let first = code.first()?;
    // XRay: a jump over a long nop.
    if let Some(target) = first.target().filter(|_| first.is_unconditional_jump()) {
        let mut over = code.iter().skip(1).take_while(|at| at.address < target).peekable();
        let is_inside = (function.start..function.end).contains(&target);
        if is_inside && over.peek().is_some() && over.all(Instruction::is_padding) {
            return Some("begins with an XRay sled".into());
        }
    }
    // A single byte may stand there for other reasons: behind it begins what a signal returns to.
    let behind = code.iter().find(|at| !at.is_padding())?;
    let nops = behind.address - first.address;
    (nops >= 2).then(|| format!("begins with {nops} bytes of nops, room for a hook"))
}

/// The number of each system call that a function makes; none where it cannot be told.
pub fn system_calls(code: &[Instruction]) -> Vec<(u64, Option<i64>)> {
    let calls = code.iter().enumerate().filter(|(_, at)| at.mnemonic == "syscall");
    calls.map(|(index, at)| (at.address, number_before(&code[..index]))).collect()
}

fn number_before(code: &[Instruction]) -> Option<i64> {
    const READS: [&str; 4] = ["test", "cmp", "push", "bt"];
    let writes = |at: &&Instruction| {
        let target = at.operands.rsplit(',').next().unwrap_or_default();
        let is_it = ["%rax", "%eax", "%ax", "%al"].contains(&target);
        let reads = READS.contains(&at.mnemonic.trim_end_matches(['b', 'w', 'l', 'q']));
        is_it && !reads || at.is_call() || at.mnemonic == "syscall"
    };
    let last = code.iter().rev().find(writes)?;
    let (source, target) = last.operands.split_once(',')?;
    match last.mnemonic.trim_end_matches(['l', 'q']) {
        "xor" if source == target => Some(0),
        "mov" => i64::from_str_radix(source.strip_prefix("$0x")?, 16).ok(),
        _ => None,
    }
}
