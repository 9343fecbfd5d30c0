//! How deep a function's stack can become.

use std::collections::HashMap;

use super::disassembly::{Binary, Function, Instruction};

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
