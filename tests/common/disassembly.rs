//! An ELF file as binutils show it: instructions, functions and run-time relocations.
//!
//! binutils rather than a parser of our own: what a test says about the library is then what a
//! reader of `objdump -d` sees.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::Tool;

/// One instruction, in AT&T syntax.
#[derive(Clone, Debug)]
pub struct Instruction {
    pub address: u64,
    pub section: String,
    /// Without prefixes such as `lock`.
    pub mnemonic: String,
    pub operands: String,
    /// The address that an operand relative to %rip comes to.
    pub refers_to: Option<u64>,
}

impl Instruction {
    /// Parses `    1050:\tpush   %rbx`.
    fn parse(line: &str, section: &str) -> Option<Instruction> {
        const PREFIXES: [&str; 18] = [
            "lock", "rep", "repz", "repnz", "notrack", "bnd", "data16", "addr32", "cs", "ds", "es",
            "fs", "gs", "ss", "rex", "rex.W", "xacquire", "xrelease",
        ];
        let (address, text) = line.split_once(":\t")?;
        let address = u64::from_str_radix(address.trim(), 16).ok()?;
        let (text, comment) = match text.split_once(" # ") {
            Some((text, comment)) => (text, comment.split_whitespace().next()),
            None => (text, None),
        };
        let mut words = text.trim();
        let mnemonic = loop {
            let (word, rest) = words.split_once(' ').unwrap_or((words, ""));
            words = rest.trim_start();
            if words.is_empty() || !PREFIXES.contains(&word) {
                break word;
            }
        };
        Some(Instruction {
            address,
            section: section.to_owned(),
            mnemonic: mnemonic.to_owned(),
            operands: words.to_owned(),
            refers_to: comment.and_then(|address| u64::from_str_radix(address, 16).ok()),
        })
    }

    pub fn is_call(&self) -> bool {
        self.mnemonic.starts_with("call")
    }

    pub fn is_jump(&self) -> bool {
        self.mnemonic.starts_with('j') || self.mnemonic.starts_with("loop")
    }

    pub fn is_unconditional_jump(&self) -> bool {
        self.mnemonic.starts_with("jmp")
    }

    pub fn is_return(&self) -> bool {
        self.mnemonic.starts_with("ret")
    }

    /// Whether it only fills up space.
    pub fn is_padding(&self) -> bool {
        self.mnemonic.starts_with("nop")
            || self.mnemonic == "data16"
            || (self.mnemonic == "xchg" && self.operands == "%ax,%ax")
            || self.mnemonic == "int3"
    }

    /// Whether the next instruction can follow it, as far as it alone can tell.
    pub fn falls_through(&self) -> bool {
        !self.is_unconditional_jump() && !self.is_return() && !self.mnemonic.starts_with("ud")
    }

    /// Where a direct call or jump goes.
    pub fn target(&self) -> Option<u64> {
        if !(self.is_call() || self.is_jump()) || self.operands.starts_with('*') {
            return None;
        }
        u64::from_str_radix(self.operands.split_whitespace().next()?, 16).ok()
    }

    /// Whether it calls or jumps to where a register or memory says.
    pub fn is_indirect(&self) -> bool {
        (self.is_call() || self.is_jump()) && self.operands.starts_with('*')
    }

    /// What stands in the angle brackets of a direct call or jump.
    pub fn label(&self) -> &str {
        let label = self.operands.split_once('<').map_or("", |(_, label)| label);
        label.trim_end_matches('>')
    }

    pub fn text(&self) -> String {
        format!("{} {}", self.mnemonic, self.operands).trim_end().to_owned()
    }
}

/// Disassembles a file; of each section, in the order of the addresses.
pub fn disassemble(file: &Path) -> Vec<Instruction> {
    let listing = Tool::new("objdump").args(["-d", "-w", "--no-show-raw-insn"]).arg(file).output();
    let mut section = String::new();
    let mut instructions = Vec::new();
    for line in listing.lines() {
        if let Some(name) = line.strip_prefix("Disassembly of section ") {
            section = name.trim_end_matches(':').to_owned();
        } else if let Some(instruction) = Instruction::parse(line, &section) {
            instructions.push(instruction);
        }
    }
    instructions
}

/// A function: from its first byte to the next one's, so that what the assembler put behind it
/// (`.subsection`, which neither its symbol nor its unwind entry covers) counts as its own.
#[derive(Clone, Debug)]
pub struct Function {
    pub name: String,
    pub start: u64,
    pub end: u64,
    /// Its instructions, as a range of [`Binary::instructions`]; without the padding at its end.
    pub first: usize,
    pub last: usize,
}

/// What the dynamic linker writes into a place.
#[derive(Clone, Debug)]
pub struct Relocation {
    /// Such as `R_X86_64_RELATIVE`.
    pub kind: String,
    /// Without its version; empty for a relative one.
    pub symbol: String,
    /// Of a relative one.
    pub addend: u64,
}

/// A linked file.
pub struct Binary {
    pub instructions: Vec<Instruction>,
    pub functions: Vec<Function>,
    pub relocations: HashMap<u64, Relocation>,
}

impl Binary {
    /// Reads a linked file. Functions that have no name there get it from the archive that the
    /// file was linked from, by being the same instructions in the section of that name.
    pub fn read(file: &Path, archive: Option<&Path>) -> Binary {
        let mut instructions = disassemble(file);
        instructions.sort_by_key(|instruction| instruction.address);
        let names = archive.map(names_in_archive).unwrap_or_default();
        let functions = functions(file, &instructions, &names);
        Binary { instructions, functions, relocations: relocations(file) }
    }

    /// The function that an address lies in.
    pub fn function_at(&self, address: u64) -> Option<&Function> {
        let after = self.functions.partition_point(|function| function.start <= address);
        let function = self.functions.get(after.checked_sub(1)?)?;
        (address < function.end).then_some(function)
    }

    /// The section that an address of code lies in.
    pub fn section_at(&self, address: u64) -> &str {
        let after = self.instructions.partition_point(|at| at.address <= address);
        let at = after.checked_sub(1).and_then(|before| self.instructions.get(before));
        at.map_or("", |at| at.section.as_str())
    }

    pub fn function_named(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.name == name)
    }

    pub fn code_of(&self, function: &Function) -> &[Instruction] {
        self.instructions.get(function.first..function.last).unwrap_or_default()
    }
}

fn functions(
    file: &Path,
    instructions: &[Instruction],
    names: &HashMap<Fingerprint, Vec<String>>,
) -> Vec<Function> {
    let mut starts: BTreeMap<u64, String> = BTreeMap::new();
    // Unwind entries know every compiled function, also those whose symbol the link removed.
    let frames = Tool::new("readelf").arg("--debug-dump=frames").arg(file).output();
    for line in frames.lines().filter(|line| line.contains(" FDE ")) {
        let range = line.split_once("pc=").and_then(|(_, range)| range.split_once(".."));
        if let Some((start, _)) = range {
            if let Ok(start) = u64::from_str_radix(start, 16) {
                starts.entry(start).or_default();
            }
        }
    }
    for line in Tool::new("nm").arg(file).output().lines() {
        let mut words = line.split_whitespace();
        let (Some(address), Some(kind), Some(name)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Ok(address) = u64::from_str_radix(address, 16) else { continue };
        if kind == "T" || (kind == "t" && starts.get(&address).is_none_or(String::is_empty)) {
            starts.insert(address, demangle(name));
        }
    }
    let starts: Vec<(u64, String)> = starts.into_iter().collect();
    let mut functions = Vec::new();
    for (index, (start, name)) in starts.iter().enumerate() {
        let first = instructions.partition_point(|instruction| instruction.address < *start);
        let Some(section) = instructions.get(first).map(|instruction| &instruction.section) else {
            continue;
        };
        let next = starts.get(index + 1).map_or(u64::MAX, |(next, _)| *next);
        let code = instructions.get(first..).unwrap_or_default();
        let length = code
            .iter()
            .take_while(|instruction| instruction.address < next && &instruction.section == section)
            .count();
        let code = without_padding(code.get(..length).unwrap_or_default());
        let last = first + code.len();
        let end = instructions.get(last).map_or(start + 1, |instruction| instruction.address);
        let name = match name.as_str() {
            "" => names.get(&fingerprint(code)).map_or_else(
                || format!("function_at_{start:x}"),
                |candidates| candidates.join(" or "),
            ),
            name => name.to_owned(),
        };
        functions.push(Function { name, start: *start, end, first, last });
    }
    functions
}

/// Where each instruction lies in its function, and what it does; the link changes neither.
type Fingerprint = Vec<(u64, String)>;

fn fingerprint(code: &[Instruction]) -> Fingerprint {
    let start = code.first().map_or(0, |instruction| instruction.address);
    code.iter()
        .map(|instruction| (instruction.address - start, instruction.mnemonic.clone()))
        .collect()
}

fn without_padding(code: &[Instruction]) -> &[Instruction] {
    let length = code.iter().rposition(|instruction| !instruction.is_padding());
    code.get(..length.map_or(0, |last| last + 1)).unwrap_or_default()
}

/// The functions of an archive whose members have a section for each.
fn names_in_archive(archive: &Path) -> HashMap<Fingerprint, Vec<String>> {
    let code = disassemble(archive);
    let mut names: HashMap<Fingerprint, Vec<String>> = HashMap::new();
    for function in code.chunk_by(|one, next| one.section == next.section) {
        let section = function.first().map_or("", |instruction| instruction.section.as_str());
        let Some(name) = section.strip_prefix(".text.") else { continue };
        let name = demangle(name.strip_prefix("unlikely.").unwrap_or(name));
        names.entry(fingerprint(without_padding(function))).or_default().push(name);
    }
    names
}

fn relocations(file: &Path) -> HashMap<u64, Relocation> {
    let mut relocations = HashMap::new();
    for line in Tool::new("readelf").arg("-rW").arg(file).output().lines() {
        // Offset, info, type; then an addend, or a symbol's value, its name, `+` and an addend.
        let words: Vec<&str> = line.split_whitespace().collect();
        let [offset, _, kind, rest @ ..] = words.as_slice() else { continue };
        let Ok(offset) = u64::from_str_radix(offset, 16) else { continue };
        let relocation = match rest {
            [addend] => Relocation {
                kind: (*kind).to_owned(),
                symbol: String::new(),
                addend: u64::from_str_radix(addend, 16).unwrap_or(0),
            },
            [_, symbol, ..] => Relocation {
                kind: (*kind).to_owned(),
                symbol: symbol.split('@').next().unwrap_or(symbol).to_owned(),
                addend: 0,
            },
            [] => continue,
        };
        relocations.insert(offset, relocation);
    }
    relocations
}

/// `_ZN11rcu_notrace3ipi6signal6on_ipi17h0123456789abcdefE` as `rcu_notrace::ipi::signal::on_ipi`.
fn demangle(name: &str) -> String {
    let mut parts = Vec::new();
    let mut rest = name.strip_prefix("_ZN").unwrap_or("");
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (length, text) = rest.split_at(digits);
        let Some((part, more)) =
            length.parse().ok().and_then(|length| text.split_at_checked(length))
        else {
            break;
        };
        parts.push(part);
        rest = more;
    }
    if parts.is_empty() || !rest.starts_with('E') {
        return name.to_owned();
    }
    if parts.last().is_some_and(|hash| hash.len() == 17 && hash.starts_with('h')) {
        parts.pop();
    }
    let path = parts.join("::");
    [("_$LT$", "<"), ("$LT$", "<"), ("$GT$", ">"), ("$u20$", " "), ("..", "::")]
        .into_iter()
        .fold(path, |path, (from, to)| path.replace(from, to))
}
