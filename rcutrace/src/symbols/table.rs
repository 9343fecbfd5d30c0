// SPDX-License-Identifier: MIT OR Apache-2.0
//! An ELF file's symbols, segments and build id.

use std::fs::File;
use std::path::Path;

use object::elf::{PT_LOAD, STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE, STT_OBJECT};
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Endianness, Object, ObjectSymbol, ObjectSymbolTable, ReadCache, SymbolFlags};

/// More than any file that we know has: the rest is left out.
const MOST_SYMBOLS: usize = 1 << 23;

/// A function or a variable.
#[derive(Debug)]
pub struct Symbol {
    /// Where it begins.
    pub address: u64,
    size: u64,
    name: Box<str>,
}

/// Where a part of the file is meant to lie.
#[derive(Debug)]
struct Segment {
    offset: u64,
    size: u64,
    address: u64,
}

/// What we need of an ELF file.
#[derive(Debug, Default)]
pub struct Table {
    /// By address.
    symbols: Vec<Symbol>,
    segments: Vec<Segment>,
    /// What identifies its build.
    pub build_id: Vec<u8>,
    /// It can say source lines.
    pub lines: bool,
}

impl Table {
    /// Reads a file; only the parts needed.
    pub fn read(path: &Path) -> Result<Self, String> {
        // A trace names any path: a FIFO or a device would block, or never end.
        let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
        if !metadata.is_file() {
            return Err("not a regular file".to_owned());
        }
        let cache = ReadCache::new(File::open(path).map_err(|error| error.to_string())?);
        let elf = ElfFile64::<Endianness, _>::parse(&cache).map_err(|error| error.to_string())?;
        let endian = elf.endian();
        let segments =
            elf.elf_program_headers().iter().filter(|header| header.p_type(endian) == PT_LOAD);
        let segments = segments.map(|header| Segment {
            offset: header.p_offset(endian),
            size: header.p_filesz(endian),
            address: header.p_vaddr(endian),
        });
        let segments = segments.collect();
        let build_id = elf.build_id().ok().flatten().unwrap_or_default().to_vec();
        let lines = elf.section_by_name(".debug_line").is_some()
            && elf.section_by_name(".debug_info").is_some();
        let table = elf.symbol_table().filter(|table| table.symbols().next().is_some());
        let mut symbols = Vec::new();
        if let Some(table) = table.or_else(|| elf.dynamic_symbol_table()) {
            symbols.extend(table.symbols().filter_map(|symbol| named(&symbol)).take(MOST_SYMBOLS));
        }
        // Of several names for one place, the longest stretch and then the shortest name.
        symbols.sort_by(|a: &Symbol, b| {
            (a.address, b.size, a.name.len(), &a.name).cmp(&(
                b.address,
                a.size,
                b.name.len(),
                &b.name,
            ))
        });
        symbols.dedup_by_key(|symbol| symbol.address);
        Ok(Table { symbols, segments, build_id, lines })
    }

    /// It has names.
    pub fn any(&self) -> bool {
        !self.symbols.is_empty()
    }

    /// The address that a place in the file is meant to have.
    pub fn address(&self, offset: u64) -> Option<u64> {
        let segment = self
            .segments
            .iter()
            .find(|segment| offset >= segment.offset && offset - segment.offset < segment.size)?;
        Some(segment.address.wrapping_add(offset - segment.offset))
    }

    /// The symbol that an address lies in, and its name. One without a size, as assembly has
    /// them, goes on to the next.
    pub fn find(&self, address: u64) -> Option<(&Symbol, &str)> {
        let after = self.symbols.partition_point(|symbol| symbol.address <= address);
        // A small one may lie in a greater.
        let mut before = self.symbols[..after].iter().rev().take(8);
        let nearest = self.symbols.get(after.checked_sub(1)?)?;
        let holds = |symbol: &&Symbol| address - symbol.address < symbol.size;
        let symbol = before.find(holds).or((nearest.size == 0).then_some(nearest))?;
        Some((symbol, &symbol.name))
    }
}

fn named<'data>(symbol: &impl ObjectSymbol<'data>) -> Option<Symbol> {
    let SymbolFlags::Elf { st_info, .. } = symbol.flags() else { return None };
    let kind = st_info.st_type();
    if symbol.is_undefined() || ![STT_FUNC, STT_OBJECT, STT_NOTYPE, STT_GNU_IFUNC].contains(&kind) {
        return None;
    }
    let name = symbol.name().ok().filter(|name| !name.is_empty() && !name.starts_with('$'))?;
    Some(Symbol { address: symbol.address(), size: symbol.size(), name: name.into() })
}
