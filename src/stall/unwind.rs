//! From the copy of a thread's registers and stack to the program counters of its calls.
//!
//! By call frame information where there is some, by frame pointers where there is none. The
//! stack is read in the copy alone: what is not there ends the walk.

use core::ffi::c_void;

use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::{elf, LittleEndian};

use super::image::{Header, Image, Images, Place};
use super::rows::{Base, Cursor, Entry, Index, Row, Rule};
use crate::sys::file::read_memory;

/// Bytes of stack in a snapshot.
pub const STACK_COPY: usize = 32 * 1024;

/// Most frames of a walk.
const FRAMES: usize = 64;

pub use arch::REGISTERS;

/// Registers by their numbers in DWARF.
#[cfg(target_arch = "x86_64")]
pub mod arch {
    /// 0 to 15, and rip.
    pub const REGISTERS: usize = 17;
    pub const PC: usize = 16;
    pub const SP: usize = 7;
    pub const FP: usize = 6;
    /// Bits of an address in a pointer to code.
    pub const POINTER: u64 = u64::MAX;
    /// `mov $15, %rax; syscall`: what a signal handler returns to, of every C library.
    pub const SIGRETURN: [u8; 9] = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];
    /// From the stack pointer there to the signal's context.
    pub const CONTEXT: u64 = 0;
    /// From there to the saved registers, in this order.
    pub const SAVED_AT: u64 = 40;
    pub const SAVED: [u8; REGISTERS] = [8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7, 16];
}

#[cfg(target_arch = "aarch64")]
pub mod arch {
    /// x0 to x30, sp, pc.
    pub const REGISTERS: usize = 33;
    pub const PC: usize = 32;
    pub const SP: usize = 31;
    pub const FP: usize = 29;
    /// Return addresses may be signed, in the bits above.
    pub const POINTER: u64 = (1 << 48) - 1;
    /// `mov x8, #139; svc #0`.
    pub const SIGRETURN: [u8; 8] = [0x68, 0x11, 0x80, 0xd2, 0x01, 0, 0, 0xd4];
    /// The siginfo is before it.
    pub const CONTEXT: u64 = 128;
    /// Behind the fault's address.
    pub const SAVED_AT: u64 = 176 + 8;
    pub const SAVED: [u8; REGISTERS] = {
        let mut saved = [0; REGISTERS];
        let mut number = 0;
        while number < REGISTERS {
            saved[number] = number as u8;
            number += 1;
        }
        saved
    };
}

/// A thread as a signal found it.
#[repr(C)]
pub struct Snapshot {
    /// By their numbers in DWARF; the program counter is the last one.
    pub registers: [u64; REGISTERS],
    /// The address that `stack` is a copy of.
    pub stack_start: u64,
    /// Bytes of `stack` that are one.
    pub stack_len: usize,
    /// The copy, from the stack pointer (or from below it) on.
    pub stack: [u8; STACK_COPY],
}

impl Snapshot {
    /// Of nothing.
    pub const fn new() -> Self {
        let registers = [0; REGISTERS];
        Snapshot { registers, stack_start: 0, stack_len: 0, stack: [0; STACK_COPY] }
    }

    /// Takes the registers of what a signal interrupted. Async-signal-safe.
    ///
    /// # Safety
    /// The context is what the kernel passed to the signal's handler as the third argument.
    pub unsafe fn set_registers(&mut self, context: *const c_void) {
        for (position, number) in arch::SAVED.iter().enumerate() {
            // SAFETY: so many registers are at that place of a context.
            let value = unsafe {
                context.byte_add(arch::SAVED_AT as usize).cast::<u64>().add(position).read()
            };
            if let Some(place) = self.registers.get_mut(usize::from(*number)) {
                *place = value;
            }
        }
    }

    fn read(&self, address: u64) -> Option<u64> {
        let offset = usize::try_from(address.checked_sub(self.stack_start)?).ok()?;
        let copied = self.stack.get(..self.stack_len)?;
        copied.get(offset..)?.first_chunk().map(|word| u64::from_le_bytes(*word))
    }
}

/// The calls of a thread, the innermost first.
pub struct Frames {
    pcs: [u64; FRAMES],
    /// A bit for each: where the thread was, and not where a call returns to.
    exact: u64,
    used: usize,
}

impl Frames {
    /// Each program counter, and whether it is exact: as [`Images::describe`] takes them.
    pub fn each(&self) -> impl Iterator<Item = (u64, bool)> + '_ {
        let exact = |position: usize| self.exact >> position & 1 == 1;
        let pcs = self.pcs.iter().take(self.used).enumerate();
        pcs.map(move |(position, pc)| (*pc, exact(position)))
    }

    fn push(&mut self, pc: u64, exact: bool) -> bool {
        let Some(place) = self.pcs.get_mut(self.used) else { return false };
        *place = pc;
        self.exact |= u64::from(exact) << self.used;
        self.used += 1;
        true
    }
}

/// Walks the snapshot's stack.
pub fn unwind(snapshot: &Snapshot, images: &mut Images) -> Frames {
    let mut frames = Frames { pcs: [0; FRAMES], exact: 0, used: 0 };
    let mut registers = Registers { values: snapshot.registers, known: u64::MAX };
    let mut exact = true;
    while let Some(pc) = registers.get(arch::PC) {
        let place = images.find(pc.wrapping_sub(u64::from(!exact)));
        // What no processor could have returned to is not a frame.
        if frames.used != 0 && place == Place::Nothing || !frames.push(pc, exact) {
            break;
        }
        let image = match place {
            Place::Image(number) => images.get(number),
            _ => None,
        };
        let frame = Frame { snapshot, registers: &registers, exact, first: frames.used == 1 };
        let Some((caller, is_exact)) = frame.caller(image) else { break };
        (registers, exact) = (caller, is_exact);
    }
    frames
}

/// The registers of a frame, as far as they are known.
#[derive(Clone)]
pub struct Registers {
    /// Zero where they are not.
    pub values: [u64; REGISTERS],
    /// A bit for each.
    pub known: u64,
}

impl Registers {
    /// The register of that number, if it is known.
    pub fn get(&self, number: usize) -> Option<u64> {
        let value = self.values.get(number)?;
        (self.known >> number & 1 == 1).then_some(*value)
    }

    /// Sets it; numbers beyond are of registers that no walk needs.
    pub fn set(&mut self, number: usize, value: Option<u64>) {
        let Some(place) = self.values.get_mut(number) else { return };
        *place = value.unwrap_or(0);
        self.known = self.known & !(1 << number) | u64::from(value.is_some()) << number;
    }
}

/// Values on the stack of an expression.
const DEPTH: usize = 8;

/// One step of a walk.
pub struct Frame<'a> {
    /// Of the thread.
    pub snapshot: &'a Snapshot,
    /// In this frame.
    pub registers: &'a Registers,
    /// Whether the program counter among them is.
    pub exact: bool,
    /// Whether it is the innermost frame.
    pub first: bool,
}

impl Frame<'_> {
    /// The caller's registers, and whether its program counter is exact.
    pub fn caller(&self, image: Option<&Image>) -> Option<(Registers, bool)> {
        if let Some(interrupted) = self.interrupted() {
            return Some((interrupted, true));
        }
        match image.and_then(|image| self.by_table(image)) {
            Some(answer) => answer,
            None => Some((self.by_frame_pointer()?, false)),
        }
    }

    /// Behind a signal handler: what the kernel saved. Programs' own signal returns have no call
    /// frame information, nor has this library's.
    pub fn interrupted(&self) -> Option<Registers> {
        let mut code = [0; arch::SIGRETURN.len()];
        let pc = self.registers.get(arch::PC)?;
        if read_memory(pc, &mut code) != code.len() || code != arch::SIGRETURN {
            return None;
        }
        let stack = self.registers.get(arch::SP)?;
        let saved = stack.wrapping_add(arch::CONTEXT + arch::SAVED_AT);
        let mut interrupted = Registers { values: [0; REGISTERS], known: 0 };
        for (position, number) in (0..).zip(arch::SAVED) {
            let value = self.snapshot.read(saved.wrapping_add(position * 8));
            interrupted.set(usize::from(number), value);
        }
        Some(interrupted)
    }

    /// By the frame pointer: at it the caller's, and behind that the return address.
    fn by_frame_pointer(&self) -> Option<Registers> {
        let frame = self.registers.get(arch::FP)?;
        if frame < self.registers.get(arch::SP)? || frame % 8 != 0 {
            return None;
        }
        let mut caller = Registers { values: [0; REGISTERS], known: 0 };
        caller.set(arch::FP, self.snapshot.read(frame));
        caller.set(arch::PC, self.pointer(self.snapshot.read(frame.wrapping_add(8))));
        caller.set(arch::SP, Some(frame.wrapping_add(16)));
        Some(caller)
    }

    /// A return address; at zero the outermost frame ends.
    fn pointer(&self, value: Option<u64>) -> Option<u64> {
        value.map(|value| value & arch::POINTER).filter(|value| *value != 0)
    }

    /// By call frame information: `None` where there is none, and an answer of `None` where it
    /// says, or its data say, that there is no caller.
    pub fn by_table(&self, image: &Image) -> Option<Option<(Registers, bool)>> {
        let pc = self.registers.get(arch::PC)?;
        let (index, entries) = index_of(image)?;
        let address = pc.wrapping_sub(u64::from(!self.exact));
        let entry = index.find(entries, address)?;
        Some(self.by_entry(&entry, &entry.row(address)?))
    }

    fn by_entry(&self, entry: &Entry<'_>, row: &Row<'_>) -> Option<(Registers, bool)> {
        let frame = match row.frame {
            Base::Register(number, offset) => {
                self.registers.get(number)?.wrapping_add_signed(offset)
            }
            Base::Expression(code) => self.evaluate(code, None)?,
        };
        // The stack of what a signal interrupted may be another one, and lie lower. A function
        // without a frame, where the return address is in a register, is the innermost.
        let stack = self.registers.get(arch::SP)?;
        let grows = if self.first { frame >= stack } else { frame > stack };
        if !grows && !entry.is_signal() {
            return None;
        }
        let mut caller = self.registers.clone();
        caller.set(arch::SP, Some(frame));
        for (number, rule) in row.rules.iter().enumerate() {
            let value = match *rule {
                Rule::Default => continue,
                Rule::Unknown => None,
                Rule::Same => self.registers.get(number),
                Rule::At(offset) => self.snapshot.read(frame.wrapping_add_signed(offset)),
                Rule::Is(offset) => Some(frame.wrapping_add_signed(offset)),
                Rule::Register(other) => self.registers.get(other),
                Rule::AtExpression(code) => {
                    let address = self.evaluate(code, Some(frame));
                    address.and_then(|address| self.snapshot.read(address))
                }
                Rule::IsExpression(code) => self.evaluate(code, Some(frame)),
            };
            caller.set(number, value);
        }
        let pc = self.pointer(caller.get(entry.return_register()))?;
        caller.set(arch::PC, Some(pc));
        Some((caller, entry.is_signal()))
    }

    /// An expression's value: the operations that linkers, compilers and hand-written assembly
    /// use in call frame information.
    pub fn evaluate(&self, code: &[u8], initial: Option<u64>) -> Option<u64> {
        let mut code = Cursor::new(code, 0);
        let mut stack = Values { values: [0; DEPTH], used: 0 };
        if let Some(initial) = initial {
            stack.push(initial)?;
        }
        while let Some(operation) = code.byte() {
            let value = match operation {
                // DW_OP_deref, const1u to const4s, constu, consts.
                0x06 => self.snapshot.read(stack.pop()?)?,
                0x08 => u64::from(code.byte()?),
                0x09 => code.byte()? as i8 as u64,
                0x0a => u64::from(u16::from_le_bytes(code.array()?)),
                0x0b => i16::from_le_bytes(code.array()?) as u64,
                0x0c => u64::from(u32::from_le_bytes(code.array()?)),
                0x0d => i32::from_le_bytes(code.array()?) as u64,
                0x10 => code.unsigned()?,
                0x11 => code.signed()? as u64,
                // and, minus, plus, plus_uconst, shl, ge.
                0x1a => stack.pop()? & stack.pop()?,
                0x1c => {
                    let second = stack.pop()?;
                    stack.pop()?.wrapping_sub(second)
                }
                0x22 => stack.pop()?.wrapping_add(stack.pop()?),
                0x23 => stack.pop()?.wrapping_add(code.unsigned()?),
                0x24 => {
                    let by = stack.pop()?;
                    stack.pop()?.checked_shl(u32::try_from(by).ok()?)?
                }
                0x2a => u64::from(stack.pop()? as i64 <= stack.pop()? as i64),
                // lit0 to lit31, breg0 to breg31.
                0x30..=0x4f => u64::from(operation - 0x30),
                0x70..=0x8f => {
                    let register = self.registers.get(usize::from(operation - 0x70))?;
                    register.wrapping_add_signed(code.signed()?)
                }
                _ => return None,
            };
            stack.push(value)?;
        }
        stack.pop()
    }
}

/// An image's call frame information: the index, and the entries.
pub fn index_of(image: &Image) -> Option<(Index<'_>, &[u8])> {
    let (headers, bias) = image.headers()?;
    let mut headers = headers.iter();
    let index = match headers.find(|header| header.p_type(LittleEndian) == elf::PT_GNU_EH_FRAME) {
        Some(header) => {
            let start = header.p_vaddr(LittleEndian).wrapping_add(bias);
            Index::new(image.segment_from(start, header.p_memsz(LittleEndian))?, start)?
        }
        // Programs that are linked statically have no index, and the file alone says where the
        // entries are.
        None => {
            let file = image.open()?;
            let bytes = image.contents(&file);
            let sections = Header::parse(bytes).ok()?.sections(LittleEndian, bytes).ok()?;
            let (_, section) = sections.section_by_name(LittleEndian, b".eh_frame")?;
            Index::without_table(section.sh_addr(LittleEndian).wrapping_add(bias))
        }
    };
    // A larger one than there is room for serves as far as it goes.
    let entries = image.segment_from(index.entries, u64::MAX)?;
    Some((index, entries))
}

struct Values {
    values: [u64; DEPTH],
    used: usize,
}

impl Values {
    fn push(&mut self, value: u64) -> Option<()> {
        *self.values.get_mut(self.used)? = value;
        self.used += 1;
        Some(())
    }

    fn pop(&mut self) -> Option<u64> {
        self.used = self.used.checked_sub(1)?;
        self.values.get(self.used).copied()
    }
}
