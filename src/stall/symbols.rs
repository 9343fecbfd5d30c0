//! The name of what a program counter is in.

use object::elf;
use object::elf::{STT_FUNC, STT_GNU_IFUNC};
use object::read::elf::{FileHeader, SectionHeader, Sym};

use super::image::{Bytes, Header, Image, Images, Place};
use super::Line;

impl Images {
    /// Appends `name+0xOFFSET (file)`, `file+0xADDRESS` where no symbol covers it (the address
    /// as the file has it, which addr2line takes), or the bare address.
    ///
    /// `exact`: the pc is where the thread was, and not where a call returns to, which may be
    /// past the end of the function that called.
    pub fn describe(&mut self, pc: u64, exact: bool, out: &mut Line) {
        let place = self.find(pc.wrapping_sub(u64::from(!exact)));
        let image = match place {
            Place::Image(number) => self.get(number),
            _ => None,
        };
        match image {
            Some(image) => image.describe(pc, exact, out),
            None => out.push_hex(pc),
        }
    }
}

impl Image {
    fn describe(&self, pc: u64, exact: bool, out: &mut Line) {
        let path = self.path();
        let file = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        let pc = self.address_in_file(pc);
        // The vDSO is in memory alone, all of it.
        let named = if path == b"[vdso]" {
            name_symbol(self.mapped(), pc, exact, out)
        } else if path.starts_with(b"/") {
            self.open().is_some_and(|opened| name_symbol(self.contents(&opened), pc, exact, out))
        } else {
            false
        };
        if named {
            out.push(b" (");
            out.push(file);
            out.push(b")");
        } else {
            out.push(file);
            out.push(b"+");
            out.push_hex(pc);
        }
    }
}

/// Appends the symbol and the offset in it, if there is one.
fn name_symbol(bytes: Bytes<'_>, pc: u64, exact: bool, out: &mut Line) -> bool {
    let Some((name, start)) = symbol(bytes, pc.wrapping_sub(u64::from(!exact))) else {
        return false;
    };
    out.push(name);
    out.push(b"+");
    out.push_hex(pc.wrapping_sub(start));
    true
}

/// The function that has the address: its name and where it starts.
fn symbol(bytes: Bytes<'_>, address: u64) -> Option<(&[u8], u64)> {
    let header = Header::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, bytes).ok()?;
    let mut symbols = sections.symbols(endian, bytes, elf::SHT_SYMTAB).ok()?;
    if symbols.is_empty() {
        symbols = sections.symbols(endian, bytes, elf::SHT_DYNSYM).ok()?;
    }
    let is_function = |symbol: &&Symbol| {
        matches!(symbol.st_type(), STT_FUNC | STT_GNU_IFUNC) && !symbol.is_undefined(endian)
    };
    let mut inside: Option<&Symbol> = None;
    let mut before: Option<&Symbol> = None;
    for symbol in symbols.iter().filter(is_function) {
        let Some(offset) = address.checked_sub(symbol.st_value(endian)) else { continue };
        let (best, fits) = match symbol.st_size(endian) {
            0 => (&mut before, true),
            size => (&mut inside, offset < size),
        };
        // Of several names of one function, the first that is not local.
        let rank = |of: &Symbol| (of.st_value(endian), !of.is_local());
        if fits && best.is_none_or(|best| rank(symbol) > rank(best)) {
            *best = Some(symbol);
        }
    }
    // A function that does not say how long it is goes on to the next, or to its section's end.
    let reaches = |start: &&Symbol| {
        let start = start.st_value(endian);
        let between = start..=address;
        let is_next =
            |next: &Symbol| next.st_size(endian) != 0 && between.contains(&next.st_value(endian));
        let together = sections.iter().any(|section| {
            let from = section.sh_addr(endian);
            let to = from.wrapping_add(section.sh_size(endian));
            (from..to).contains(&start) && (from..to).contains(&address)
        });
        together && !symbols.iter().filter(is_function).any(is_next)
    };
    let symbol = inside.or_else(|| before.filter(reaches))?;
    let name = symbol.name(endian, symbols.strings()).ok()?;
    (!name.is_empty()).then(|| (name, symbol.st_value(endian)))
}

type Symbol = <Header as FileHeader>::Sym;
