//! Everything that a function can come to execute, and what of it a notrace function must not.
//!
//! The walk is conservative: all code of a function counts, whether a path leads there or not,
//! and a function whose address is taken counts as called.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::disassembly::{Binary, Function, Instruction};
use super::offences::{is_hook, room_for_a_hook, system_calls, unsaved_state, uses_vectors};

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
        let named = |end: &&str| is_named(function, end);
        self.within.iter().any(named) && (symbol.is_none() || symbol == self.symbol)
    }
}

/// By the last parts of its path; or of that module of ours, with a `::` at its end.
fn is_named(function: &Function, end: &str) -> bool {
    function.name.split(" or ").all(|name| {
        if end.ends_with("::") {
            return name.starts_with(&format!("rcu_notrace::{end}"));
        }
        name.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with("::"))
    })
}

/// A function at which the walk ends by intent, though it is called: by those alone.
pub struct Boundary {
    /// The last parts of its path.
    pub function: &'static str,
    /// And of its callers'.
    pub within: &'static [&'static str],
    pub reason: &'static str,
}

impl Boundary {
    fn stands_between(&self, caller: &Function, function: &Function) -> bool {
        is_named(function, self.function) && self.within.iter().any(|end| is_named(caller, end))
    }
}

/// What a walk allows.
#[derive(Default)]
pub struct Rules<'a> {
    pub exceptions: &'a [Exception],
    pub boundaries: &'a [Boundary],
    /// Names that may be called by the GOT: their own walk is another one.
    pub audited: BTreeSet<String>,
    /// Whether SSE registers are nobody's business either.
    pub no_vectors: bool,
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
    /// The system calls, by number; what made them.
    pub system_calls: BTreeMap<i64, BTreeSet<String>>,
}

impl Closure {
    /// Walks everything that the roots can reach.
    pub fn of(binary: &Binary, roots: &[&Function], rules: &Rules) -> Closure {
        let mut closure = Closure::default();
        let mut queue = VecDeque::new();
        for root in roots {
            closure.functions.insert(root.start, None);
            queue.push_back((*root).clone());
        }
        while let Some(function) = queue.pop_front() {
            closure.visit(binary, &function, rules, &mut queue);
        }
        closure
    }

    fn visit(
        &mut self,
        binary: &Binary,
        function: &Function,
        rules: &Rules,
        queue: &mut VecDeque<Function>,
    ) {
        let code = binary.code_of(function);
        if let (Some(room), Some(first)) = (room_for_a_hook(function, code), code.first()) {
            self.offend(binary, function, first, &room);
        }
        for (address, number) in system_calls(code) {
            match number {
                Some(number) => {
                    self.system_calls.entry(number).or_default().insert(function.name.clone());
                }
                None => {
                    let at = code.iter().find(|at| at.address == address).expect("it is there");
                    self.offend(binary, function, at, "makes a system call, but which?");
                }
            }
        }
        let mut used: HashMap<&'static str, usize> = HashMap::new();
        for instruction in code {
            if rules.no_vectors && uses_vectors(instruction) {
                self.offend(binary, function, instruction, "uses a vector register");
            }
            for consequence in consequences(binary, function, instruction) {
                match consequence {
                    Consequence::Reaches(next) => {
                        let Some(next) = binary.function_at(next) else { continue };
                        let boundary =
                            rules.boundaries.iter().find(|at| at.stands_between(function, next));
                        if let Some(boundary) = boundary {
                            let place = (function.start, instruction.address, boundary.reason);
                            self.exceptions.push(place);
                            continue;
                        }
                        self.functions.entry(next.start).or_insert_with(|| {
                            queue.push_back(next.clone());
                            Some(function.start)
                        });
                    }
                    Consequence::Leaves(what, symbol) => {
                        if symbol.as_ref().is_some_and(|name| rules.audited.contains(name))
                            && !what.contains("PLT")
                        {
                            continue;
                        }
                        let exception = rules
                            .exceptions
                            .iter()
                            .find(|exception| exception.covers(function, symbol.as_deref()));
                        let uses = exception.map(|exception| {
                            let uses = used.entry(exception.reason).or_default();
                            *uses += 1;
                            (*uses <= exception.most, exception.reason)
                        });
                        if let Some((true, reason)) = uses {
                            self.exceptions.push((function.start, instruction.address, reason));
                        } else {
                            self.offend(binary, function, instruction, &what);
                        }
                    }
                    Consequence::Offends(what) => {
                        self.offend(binary, function, instruction, &what);
                    }
                }
            }
        }
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
    if let Some(what) = unsaved_state(at) {
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
        Some(next) if is_hook(&next.name) => {
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
