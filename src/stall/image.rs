//! What a program counter belongs to, by `/proc/thread-self/maps`, and that file's contents.
//!
//! Memory of the program may be unmapped and files may be cut off while they are read here. So
//! nothing is dereferenced but private copies: of memory (the ELF header, the unwinding tables)
//! by process_vm_readv, of files (symbols) by pread. Both answer where a load would fault.
//!
//! The thread that is reported may hold any lock: nothing here allocates, or calls into libc.
//! Copies go into mappings of their own, which are given back at the end of the report.

use core::cell::Cell;
use core::mem::size_of;
use core::ops::Range;
use core::ptr::{self, NonNull};
use core::slice;

use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{LittleEndian, ReadRef};

use crate::sys::file::{read_memory, File};
use crate::sys::{map, unmap};

/// Files of this architecture.
pub type Header = FileHeader64<LittleEndian>;

/// Room for the copies of one image; untouched pages cost nothing. An image that needs more gets
/// no symbols.
pub const ROOM: usize = 64 << 20;

/// Where the program may not have that much: most images need less.
const LITTLE_ROOM: usize = 1 << 20;

/// Copies of an image that are found again; those beyond are made again.
const COPIES: usize = 16;

/// More than the longest line of maps: a path, and its addresses before it.
const LINES: usize = 8192;

/// The longest name of a symbol; the rest is cut off.
const NAME: u64 = 512;

/// A mapping of ours.
struct Memory {
    start: NonNull<u8>,
    bytes: usize,
}

impl Memory {
    fn new(bytes: usize) -> Option<Self> {
        map(bytes).map(|start| Memory { start, bytes })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: what was lent of it borrows its owner, which is at its end.
        unsafe { unmap(self.start.as_ptr(), self.bytes) };
    }
}

/// A mapping of the program that somebody asked for.
pub(super) struct Mapping {
    pub(super) range: Range<u64>,
    /// Where the file's first byte is, or would be.
    base: u64,
    executable: bool,
    /// Its path, in the lines.
    pub(super) name: Range<usize>,
}

/// What is at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Nothing that a processor could execute.
    Nothing,
    /// Code, of no file; or maps cannot be read.
    Code,
    /// Code of the image of that number.
    Image(usize),
}

/// The images of one report, the last two of them at hand. Drop gives all memory back.
pub struct Images {
    lines: Option<Memory>,
    images: [Option<Image>; 2],
    latest: usize,
}

impl Images {
    /// None yet.
    pub const fn new() -> Self {
        Images { lines: None, images: [const { None }; 2], latest: 0 }
    }

    /// Whose address that is.
    pub fn find(&mut self, address: u64) -> Place {
        let known = |image: &Option<Image>| {
            image.as_ref().is_some_and(|image| image.range.contains(&address))
        };
        if let Some(number) = self.images.iter().position(known) {
            self.latest = number;
            return Place::Image(number);
        }
        if self.lines.is_none() {
            self.lines = Memory::new(LINES);
        }
        let Some(lines) = &mut self.lines else { return Place::Code };
        // SAFETY: that mapping, zeroed at first, lent to nobody else meanwhile.
        let lines = unsafe { slice::from_raw_parts_mut(lines.start.as_ptr(), lines.bytes) };
        let Ok(maps) = File::open(b"/proc/thread-self/maps\0") else { return Place::Code };
        let Some(mapping) = find_line(&maps, lines, address) else { return Place::Nothing };
        if !mapping.executable {
            return Place::Nothing;
        }
        let path = lines.get(mapping.name.clone()).unwrap_or_default();
        if path.is_empty() {
            return Place::Code;
        }
        let number = 1 - (self.latest & 1);
        let Some(place) = self.images.get_mut(number) else { return Place::Code };
        let memory = match place.take() {
            Some(image) => image.memory,
            None => match Memory::new(ROOM).or_else(|| Memory::new(LITTLE_ROOM)) {
                Some(memory) => memory,
                None => return Place::Code,
            },
        };
        *place = Some(Image::new(memory, &mapping, path));
        self.latest = number;
        Place::Image(number)
    }

    /// The image of a number that [`Self::find`] answered lately.
    pub fn get(&self, number: usize) -> Option<&Image> {
        self.images.get(number)?.as_ref()
    }
}

/// The line of maps that has the address. The file is read piece by piece, however long it is.
fn find_line(maps: &File, lines: &mut [u8], address: u64) -> Option<Mapping> {
    let mut before = None;
    let mut held = 0;
    let mut is_rest = false;
    loop {
        let got = maps.read(lines.get_mut(held..)?);
        if got == 0 {
            return None;
        }
        held += got;
        let mut from = 0;
        loop {
            let rest = lines.get(from..held)?;
            let Some(length) = rest.iter().position(|byte| *byte == b'\n') else { break };
            if !is_rest {
                let line = rest.get(..length)?;
                if let Some(mapping) = parse(line, from, address, &mut before) {
                    return Some(mapping);
                }
            }
            is_rest = false;
            from += length + 1;
        }
        if from == 0 && held == lines.len() {
            // No such line is known to exist.
            (is_rest, held) = (true, 0);
            continue;
        }
        for (place, byte) in (from..held).enumerate() {
            *lines.get_mut(place)? = *lines.get(byte)?;
        }
        held -= from;
    }
}

/// A mapping of the beginning of a file: the file, and where.
pub(super) type Beginning = ([u64; 3], u64);

/// One line, `start-end perms offset major:minor inode   path`, which is at `position`.
pub(super) fn parse(
    line: &[u8],
    position: usize,
    address: u64,
    before: &mut Option<Beginning>,
) -> Option<Mapping> {
    let mut rest = line;
    let range = number(&mut rest)..number(&mut rest);
    let [_, _, execute, _, b' ', fields @ ..] = rest else { return None };
    rest = fields;
    let offset = number(&mut rest);
    // The inode's digits are decimal; they are only compared.
    let file = [number(&mut rest), number(&mut rest), number(&mut rest)];
    let name = rest.trim_ascii_start();
    if offset == 0 {
        *before = Some((file, range.start));
    }
    if !range.contains(&address) {
        return None;
    }
    let base = match before {
        Some((same, base)) if *same == file => *base,
        _ => range.start.wrapping_sub(offset),
    };
    let end = position + line.len();
    Some(Mapping { range, base, executable: *execute == b'x', name: end - name.len()..end })
}

/// A hexadecimal number, taken off the text together with the character behind it.
fn number(text: &mut &[u8]) -> u64 {
    let mut number = 0;
    while let [first, rest @ ..] = *text {
        *text = rest;
        let digit = match first {
            b'0'..=b'9' => first - b'0',
            b'a'..=b'f' => first - b'a' + 10,
            _ => break,
        };
        number = number << 4 | u64::from(digit);
    }
    number
}

/// A copy: of the file or of memory, of which bytes, and where it is.
#[derive(Clone, Copy)]
struct Copied {
    from_file: bool,
    offset: u64,
    size: usize,
    place: usize,
}

/// A file that is mapped.
pub struct Image {
    memory: Memory,
    /// Bytes of that memory that hold copies.
    used: Cell<usize>,
    copies: [Cell<Copied>; COPIES],
    known: Cell<usize>,
    range: Range<u64>,
    base: u64,
    /// Length of its path, which is the first copy, with a zero behind it.
    path: usize,
}

impl Image {
    fn new(memory: Memory, mapping: &Mapping, path: &[u8]) -> Self {
        const NONE: Copied = Copied { from_file: false, offset: 0, size: 0, place: 0 };
        let length = path.len();
        // SAFETY: the memory is larger than any line of maps, and nobody else's.
        unsafe {
            ptr::copy_nonoverlapping(path.as_ptr(), memory.start.as_ptr(), length);
            memory.start.add(length).write(0);
        }
        Image {
            memory,
            used: Cell::new((length + 16) & !15),
            copies: [const { Cell::new(NONE) }; COPIES],
            known: Cell::new(0),
            range: mapping.range.clone(),
            base: mapping.base,
            path: length,
        }
    }

    /// Its path as maps has it.
    pub fn path(&self) -> &[u8] {
        // SAFETY: so many bytes were written there and are never changed.
        unsafe { slice::from_raw_parts(self.memory.start.as_ptr(), self.path) }
    }

    /// Opens the file, if that path leads to it still.
    pub fn open(&self) -> Option<File> {
        // SAFETY: so many bytes were written there and are never changed.
        let path = unsafe { slice::from_raw_parts(self.memory.start.as_ptr(), self.path + 1) };
        let file = File::open(path).ok()?;
        // The file's header, its program headers and, with every linker, its build id. Other
        // files come to a path by a change of root, or by being written over.
        const BEGINNING: u64 = 1024;
        let mapped = Bytes { image: self, file: None }.read_bytes_at(0, BEGINNING).ok()?;
        let opened = Bytes { image: self, file: Some(&file) }.read_bytes_at(0, BEGINNING).ok()?;
        mapped.iter().eq(opened).then_some(file)
    }

    /// Its memory, from where the file's first byte is.
    pub fn mapped(&self) -> Bytes<'_> {
        Bytes { image: self, file: None }
    }

    /// Its file's contents.
    pub fn contents<'a>(&'a self, file: &'a File) -> Bytes<'a> {
        Bytes { image: self, file: Some(file) }
    }

    /// The program headers, and what is to be added to the file's addresses.
    pub fn headers(&self) -> Option<(&[<Header as FileHeader>::ProgramHeader], u64)> {
        let mapped = self.mapped();
        let header = Header::parse(mapped).ok()?;
        let endian = header.endian().ok()?;
        let headers = header.program_headers(endian, mapped).ok()?;
        let first = headers.iter().find(|header| header.p_type(endian) == elf::PT_LOAD)?;
        let first = first.p_vaddr(endian).wrapping_sub(first.p_offset(endian));
        Some((headers, self.base.wrapping_sub(first)))
    }

    /// The address as the file has it; for what is no ELF file, the offset in it.
    pub fn address_in_file(&self, address: u64) -> u64 {
        address.wrapping_sub(self.headers().map_or(self.base, |(_, bias)| bias))
    }

    /// At most that much from this address on to the end of its segment.
    pub fn segment_from(&self, address: u64, most: u64) -> Option<&[u8]> {
        let (headers, bias) = self.headers()?;
        let wanted = address.wrapping_sub(bias);
        let rest = |header: &<Header as FileHeader>::ProgramHeader| {
            let start = header.p_vaddr(LittleEndian);
            let size = header.p_filesz(LittleEndian);
            let offset = wanted.checked_sub(start)?;
            let is_it = header.p_type(LittleEndian) == elf::PT_LOAD && offset < size;
            is_it.then(|| size - offset)
        };
        let size = headers.iter().find_map(rest)?;
        // Leaves room for the symbols.
        let size = size.min(most).min(self.memory.bytes as u64 / 2);
        self.mapped().read_bytes_at(address.wrapping_sub(self.base), size).ok()
    }

    fn copy(&self, file: Option<&File>, offset: u64, size: usize) -> Option<Copied> {
        let place = self.used.get();
        let end = place.checked_add(size)?;
        if end > self.memory.bytes {
            return None;
        }
        // SAFETY: inside of the memory, behind all that was lent.
        let to = unsafe { slice::from_raw_parts_mut(self.memory.start.as_ptr().add(place), size) };
        let complete = match file {
            Some(file) => file.read_at(offset, to),
            None => read_memory(self.base.wrapping_add(offset), to) == size,
        };
        // Aligned for whatever is read next.
        self.used.set(if complete { (end + 15) & !15 } else { place });
        complete.then_some(Copied { from_file: file.is_some(), offset, size, place })
    }

    fn lend(&self, copy: Copied) -> &[u8] {
        // SAFETY: a copy of this image; its bytes do not change while the image is borrowed.
        unsafe { slice::from_raw_parts(self.memory.start.as_ptr().add(copy.place), copy.size) }
    }
}

/// An image's bytes, copied when they are asked for.
#[derive(Clone, Copy)]
pub struct Bytes<'a> {
    image: &'a Image,
    file: Option<&'a File>,
}

impl<'a> ReadRef<'a> for Bytes<'a> {
    fn len(self) -> Result<u64, ()> {
        Ok(u64::MAX)
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        const { assert!(size_of::<usize>() == size_of::<u64>()) };
        let (image, size) = (self.image, size as usize);
        let is_it = |copy: &Copied| {
            (copy.from_file, copy.offset, copy.size) == (self.file.is_some(), offset, size)
        };
        let known = image.known.get();
        let mut copies = image.copies.iter().take(known).map(Cell::get);
        if let Some(copy) = copies.find(is_it) {
            return Ok(image.lend(copy));
        }
        let copy = image.copy(self.file, offset, size).ok_or(())?;
        if let Some(place) = image.copies.get(known) {
            place.set(copy);
            image.known.set(known + 1);
        }
        Ok(image.lend(copy))
    }

    /// Names only: they are many, and not looked for again.
    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        let size = range.end.saturating_sub(range.start).min(NAME) as usize;
        let copy = self.image.copy(self.file, range.start, size).ok_or(())?;
        self.image.lend(copy).split(|byte| *byte == delimiter).next().ok_or(())
    }
}
