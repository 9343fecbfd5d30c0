//! Everything that a function can come to execute, and what of it a notrace function must not.
//!
//! The walk is conservative: all code of a function counts, whether a path leads there or not,
//! and a function whose address is taken counts as called.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::disassembly::{Binary, Function, Instruction};

/// A call that leaves the closure by intent.
pub struct Exception {
    /// Where it may stand: the last parts of a function's path, or a module of ours, with a `::` at
    /// its end.
    pub within: &'static [&'static str],
    /// What may be called through the GOT, if the compiler saw through the pointer.
    pub symbol: Option<&'static str>,
    /// How many calls in one function.
    pub most: usize,
    pub reason: &'static str,
}

impl Exception {
    fn covers(&self, function: &Function, symbol: Option<&str>) -> bool {
        let named = |end: &&str| {
            function.name.split(" or ").all(|name| {
                if end.ends_with("::") {
                    return name.starts_with(&format!("rcu_notrace::{end}"));
                }
                name.strip_suffix(*end).is_some_and(|rest| rest.is_empty() || rest.ends_with("::"))
            })
        };
        self.within.iter().any(named) && (symbol.is_none() || symbol == self.symbol)
    }
}

/// What a walk found.
#[derive(Default)]
pub struct Closure {
    /// Start address of each function, and who led there: a caller, or none for a root.
    pub functions: BTreeMap<u64, Option<u64>>,
    /// Call chain and offence, one line each.
    pub offences: Vec<String>,
    /// The exceptions that were used: function's start, address, reason.
    pub exceptions: Vec<(u64, u64, &'static str)>,
}

impl Closure {
    /// Walks everything that the roots can reach.
    pub fn of(binary: &Binary, roots: &[&Function], exceptions: &[Exception]) -> Closure {
        let mut closure = Closure::default();
        let mut queue = VecDeque::new();
        for root in roots {
            closure.functions.insert(root.start, None);
            queue.push_back((*root).clone());
        }
        while let Some(function) = queue.pop_front() {
            let mut used: HashMap<&'static str, usize> = HashMap::new();
            for instruction in binary.code_of(&function) {
                for consequence in consequences(binary, &function, instruction) {
                    match consequence {
                        Consequence::Reaches(next) => {
                            if let Some(next) = binary.function_at(next) {
                                closure.functions.entry(next.start).or_insert_with(|| {
                                    queue.push_back(next.clone());
                                    Some(function.start)
                                });
                            }
                        }
                        Consequence::Leaves(what, symbol) => {
                            let exception = exceptions
                                .iter()
                                .find(|exception| exception.covers(&function, symbol.as_deref()));
                            let uses = exception.map(|exception| {
                                let uses = used.entry(exception.reason).or_default();
                                *uses += 1;
                                (*uses <= exception.most, exception.reason)
                            });
                            if let Some((true, reason)) = uses {
                                let place = (function.start, instruction.address, reason);
                                closure.exceptions.push(place);
                            } else {
                                closure.offend(binary, &function, instruction, &what);
                            }
                        }
                        Consequence::Offends(what) => {
                            closure.offend(binary, &function, instruction, &what);
                        }
                    }
                }
            }
        }
        closure
    }

    fn offend(&mut self, binary: &Binary, function: &Function, at: &Instruction, what: &str) {
        let mut chain = vec![function.name.clone()];
        let mut current = function.start;
        while let Some(Some(caller)) = self.functions.get(&current) {
            chain.push(binary.function_at(*caller).map_or("?".into(), |f| f.name.clone()));
            current = *caller;
        }
        chain.reverse();
        self.offences.push(format!(
            "{} {what}\n    at {:x}: {}",
            chain.join(" -> "),
            at.address,
            at.text()
        ));
    }

    /// A table: function, bytes, instructions, exceptions.
    pub fn table(&self, binary: &Binary) -> String {
        let mut table = String::new();
        let (mut bytes, mut instructions) = (0, 0);
        for start in self.functions.keys() {
            let Some(function) = binary.function_at(*start) else { continue };
            let code = binary.code_of(function);
            let size = function.end - function.start;
            let systems = code.iter().filter(|i| i.mnemonic == "syscall").count();
            table += &format!(
                "  {size:5} bytes {:4} instructions {systems:2} system calls  {}\n",
                code.len(),
                function.name
            );
            for (within, address, reason) in &self.exceptions {
                if within == start {
                    table += &format!("        calls out at {address:x}: {reason}\n");
                }
            }
            bytes += size;
            instructions += code.len();
        }
        table
            + &format!(
                "  {bytes:5} bytes {instructions:4} instructions in {} functions, {} calls out",
                self.functions.len(),
                self.exceptions.len()
            )
    }
}

enum Consequence {
    /// The code at this address is, or may be, executed.
    Reaches(u64),
    /// It calls what is not in this file, or what cannot be told; the symbol if there is one.
    Leaves(String, Option<String>),
    /// It must not be there at all.
    Offends(String),
}

fn consequences(binary: &Binary, function: &Function, at: &Instruction) -> Vec<Consequence> {
    let mut found = Vec::new();
    if let Some(what) = unsaved_registers(at) {
        found.push(Consequence::Offends(what));
    }
    if at.mnemonic == "(bad)" {
        found.push(Consequence::Offends("is not all instructions".into()));
    }
    if let Some(target) = at.target() {
        found.extend(direct(binary, function, at, target));
    } else if let Some(place) = at.refers_to {
        found.extend(reference(binary, at, place));
    } else if at.is_indirect() {
        found.push(Consequence::Leaves("calls by a register".into(), None));
    }
    found
}

fn direct(
    binary: &Binary,
    function: &Function,
    at: &Instruction,
    target: u64,
) -> Option<Consequence> {
    if (function.start..function.end).contains(&target) {
        return None;
    }
    if binary.section_at(target).starts_with(".plt") {
        let symbol = at.label().split('@').next().unwrap_or_default();
        let what = format!("calls {symbol} through the PLT");
        return Some(Consequence::Leaves(what, Some(symbol.to_owned())));
    }
    Some(match binary.function_at(target) {
        Some(next) if hook(&next.name) => {
            Consequence::Offends(format!("calls the instrumentation hook {}", next.name))
        }
        Some(_) => Consequence::Reaches(target),
        None => Consequence::Offends("goes where no function is known".into()),
    })
}

/// An operand relative to %rip: what is there when the program runs?
fn reference(binary: &Binary, at: &Instruction, place: u64) -> Option<Consequence> {
    let Some(relocation) = binary.relocations.get(&place) else {
        if at.is_indirect() {
            return Some(Consequence::Leaves("calls by a variable".into(), None));
        }
        // An address taken: code there may be called.
        return binary.function_at(place).map(|_| Consequence::Reaches(place));
    };
    match relocation.kind.as_str() {
        "R_X86_64_RELATIVE" => {
            binary.function_at(relocation.addend).map(|_| Consequence::Reaches(relocation.addend))
        }
        "R_X86_64_TPOFF64" => None,
        "R_X86_64_DTPMOD64" | "R_X86_64_TLSDESC" => {
            Some(Consequence::Offends("asks the loader for a thread-local address".into()))
        }
        _ => Some(Consequence::Leaves(
            format!("calls or refers to {} through the GOT", relocation.symbol),
            Some(relocation.symbol.clone()),
        )),
    }
}

fn hook(name: &str) -> bool {
    ["mcount", "_mcount", "__fentry__", "__tls_get_addr", "memcpy", "memset", "memmove", "memcmp"]
        .contains(&name)
        || ["__cyg_profile", "__xray", "__sanitizer_cov", "strlen"]
            .iter()
            .any(|start| name.starts_with(start))
}

/// Registers that the slow paths do not preserve: they save the general ones and xmm0 to 15.
fn unsaved_registers(at: &Instruction) -> Option<String> {
    const WIDE: [&str; 6] = ["%ymm", "%zmm", "%st", "%mm", "%k", "%tmm"];
    if let Some(register) = WIDE.iter().find(|register| at.operands.contains(*register)) {
        return Some(format!("uses {register} registers, which nobody saved"));
    }
    // All mnemonics that begin so; a VEX instruction clears the upper half of a ymm register.
    let x87 = at.mnemonic.starts_with('f') || at.mnemonic == "emms" || at.mnemonic == "wait";
    let vex = at.mnemonic.starts_with('v') && !at.mnemonic.starts_with("ver");
    (x87 || vex).then(|| "uses x87 or AVX, whose state nobody saved".into())
}

/// The most stack that a function and what it calls in this file can use, in bytes, its own
/// return address not included.
pub struct Stack<'b> {
    binary: &'b Binary,
    known: HashMap<u64, Need>,
    open: Vec<u64>,
}

#[derive(Clone)]
struct Need {
    bytes: i64,
    returns: bool,
    /// The functions of the deepest chain, from here on.
    chain: Vec<String>,
}

/// Bytes below the return address, and as many when %rbp became the frame pointer.
#[derive(Clone, Copy, PartialEq)]
struct Depth {
    bytes: i64,
    frame: Option<i64>,
}

impl<'b> Stack<'b> {
    pub fn new(binary: &'b Binary) -> Self {
        Stack { binary, known: HashMap::new(), open: Vec::new() }
    }

    /// The bound, and the chain of functions that reaches it; or what makes it unknown.
    pub fn need_of(&mut self, function: &Function) -> Result<(i64, Vec<String>), String> {
        let need = self.measure(function)?;
        Ok((need.bytes, need.chain))
    }

    fn measure(&mut self, function: &Function) -> Result<Need, String> {
        if let Some(need) = self.known.get(&function.start) {
            return Ok(need.clone());
        }
        if self.open.contains(&function.start) {
            return Err(format!("{} is recursive: no bound", function.name));
        }
        self.open.push(function.start);
        let need = self.follow(function)?;
        self.open.pop();
        self.known.insert(function.start, need.clone());
        Ok(need)
    }

    fn follow(&mut self, function: &Function) -> Result<Need, String> {
        let binary = self.binary;
        let code = binary.code_of(function);
        let mut depths: Vec<Option<Depth>> = vec![None; code.len()];
        let mut queue = vec![(0, Depth { bytes: 0, frame: None })];
        let mut need = Need { bytes: 0, returns: false, chain: Vec::new() };
        while let Some((index, depth)) = queue.pop() {
            let (Some(at), Some(seen)) = (code.get(index), depths.get_mut(index)) else { continue };
            if seen.is_some_and(|seen| seen.bytes >= depth.bytes) {
                continue;
            }
            if depth.bytes > 1 << 20 {
                return Err(format!("{} has no bound", function.name));
            }
            *seen = Some(depth);
            let below = adjust(at, depth).ok_or_else(|| {
                format!(
                    "{}: cannot follow the stack at {:x}: {}",
                    function.name,
                    at.address,
                    at.text()
                )
            })?;
            raise(&mut need, below.bytes.max(depth.bytes + red_zone(at)), &[]);
            let mut goes_on = at.falls_through();
            need.returns |= at.is_return();
            let callee = self.callee(at, function);
            if at.is_call() {
                raise(&mut need, below.bytes + 8, &[]);
            }
            if let Some(callee) = callee {
                let inner = self.measure(&callee)?;
                let return_address = if at.is_call() { 8 } else { 0 };
                raise(&mut need, below.bytes + return_address + inner.bytes, &inner.chain);
                if at.is_call() {
                    goes_on &= inner.returns;
                } else {
                    need.returns |= inner.returns;
                }
            } else if let Some(target) = at.target().filter(|_| at.is_jump()) {
                let index = code.partition_point(|instruction| instruction.address < target);
                queue.push((index, below));
            } else if at.is_unconditional_jump() {
                // By a register: a tail call of what is not in this file.
                need.returns = true;
            }
            if goes_on {
                queue.push((index + 1, below));
            }
        }
        need.chain.insert(0, function.name.clone());
        Ok(need)
    }

    /// The function of this file that a call or a tail jump goes to.
    fn callee(&self, at: &Instruction, from: &Function) -> Option<Function> {
        let target = match (at.target(), at.refers_to) {
            (Some(target), _) => target,
            (None, Some(place)) if at.is_indirect() => {
                let relocation = self.binary.relocations.get(&place)?;
                (relocation.kind == "R_X86_64_RELATIVE").then_some(relocation.addend)?
            }
            _ => return None,
        };
        let inside = (from.start..from.end).contains(&target);
        self.binary.function_at(target).filter(|_| !inside || at.is_call()).cloned()
    }
}

fn raise(need: &mut Need, bytes: i64, chain: &[String]) {
    if bytes > need.bytes {
        need.bytes = bytes;
        need.chain = chain.to_vec();
    }
}

/// What an instruction makes of the depth; `None` if that cannot be told.
fn adjust(at: &Instruction, depth: Depth) -> Option<Depth> {
    let Depth { bytes, frame } = depth;
    let operands = at.operands.as_str();
    let moved = |by: i64| Some(Depth { bytes: bytes + by, frame });
    let mnemonic = at.mnemonic.trim_end_matches('q');
    match (mnemonic, operands) {
        ("push" | "pushf", _) => moved(8),
        ("pop" | "popf", "%rbp") => Some(Depth { bytes: bytes - 8, frame: None }),
        ("pop" | "popf", _) => moved(-8),
        ("mov", "%rsp,%rbp") => Some(Depth { bytes, frame: Some(bytes) }),
        ("mov", "%rbp,%rsp") => Some(Depth { bytes: frame?, frame }),
        ("leave", _) => Some(Depth { bytes: frame? - 8, frame: None }),
        (_, _) if !operands.ends_with(",%rsp") || mnemonic == "cmp" || mnemonic == "test" => {
            moved(0)
        }
        ("sub", _) => moved(number(operands.strip_prefix('$')?)?),
        ("add", _) => moved(-number(operands.strip_prefix('$')?)?),
        // To the next multiple: at most one less than that.
        ("and", _) => moved(-number(operands.strip_prefix('$')?)? - 1),
        ("lea", _) => {
            let (offset, base) = operands.split_once('(')?;
            let offset = if offset.is_empty() { 0 } else { number(offset)? };
            match base {
                "%rsp),%rsp" => moved(-offset),
                "%rbp),%rsp" => Some(Depth { bytes: frame? - offset, frame }),
                _ => None,
            }
        }
        _ => None,
    }
}

/// How far below the stack pointer it reaches.
fn red_zone(at: &Instruction) -> i64 {
    let Some((offset, _)) = at.operands.split_once("(%rsp") else { return 0 };
    let offset = offset.rsplit([',', '*', ':']).next().unwrap_or("");
    number(offset).map_or(0, |offset| (-offset).max(0))
}

/// `0x88`, `-0x80` or `0xfffffffffffffff0`, up to the first comma.
fn number(text: &str) -> Option<i64> {
    let text = text.split(',').next().unwrap_or(text);
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let digits = digits.strip_prefix("0x")?;
    Some(sign * u64::from_str_radix(digits, 16).ok()? as i64)
}
