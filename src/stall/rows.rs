//! Call frame information: for an address, the rules by which the caller's registers follow from
//! these. `.eh_frame_hdr` is the index, `.eh_frame` holds the entries and their programs.
//!
//! It comes from memory that may be anything, so nothing here can fail but by `None`; and nothing
//! can panic, which would bring the standard library's panic machinery, ten times the size of
//! everything else, into the library. That is why it does not use a crate.

use super::unwind::REGISTERS;

/// Rows that a program may remember. Compilers need one or two.
const REMEMBERED: usize = 4;

/// Reads forward, and knows the address of what it reads.
#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    address: u64,
}

impl<'a> Cursor<'a> {
    /// Over bytes that are from that address.
    pub fn new(bytes: &'a [u8], address: u64) -> Self {
        Cursor { bytes, address }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        self.address = self.address.wrapping_add(count as u64);
        Some(taken)
    }

    fn skip(&self, count: u64) -> Option<Self> {
        let mut cursor = *self;
        cursor.take(usize::try_from(count).ok()?)?;
        Some(cursor)
    }

    /// So many bytes.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.first_chunk().copied()
    }

    /// One byte.
    pub fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn half(&mut self) -> Option<u64> {
        self.array().map(|bytes| u64::from(u16::from_le_bytes(bytes)))
    }

    fn word(&mut self) -> Option<u64> {
        self.array().map(|bytes| u64::from(u32::from_le_bytes(bytes)))
    }

    /// A number in LEB128, and the number of its bits.
    fn leb(&mut self) -> Option<(u64, u32)> {
        let (mut number, mut bits) = (0, 0);
        loop {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f).checked_shl(bits)?;
            bits += 7;
            if byte & 0x80 == 0 {
                return Some((number, bits));
            }
        }
    }

    /// An unsigned number in LEB128.
    pub fn unsigned(&mut self) -> Option<u64> {
        self.leb().map(|(number, _)| number)
    }

    /// A signed one.
    pub fn signed(&mut self) -> Option<i64> {
        let (number, bits) = self.leb()?;
        let above = 64u32.saturating_sub(bits);
        Some((number << (above & 63)) as i64 >> (above & 63))
    }

    fn block(&mut self) -> Option<&'a [u8]> {
        let length = self.unsigned()?;
        self.take(usize::try_from(length).ok()?)
    }

    /// A pointer in one of the DW_EH_PE_ encodings; `data` is what some of them are relative to.
    fn pointer(&mut self, encoding: u8, data: u64) -> Option<u64> {
        let base = match encoding & 0x70 {
            0x00 => 0,
            0x10 => self.address,
            0x30 => data,
            _ => return None,
        };
        let value = match encoding & 0x0f {
            0x00 | 0x04 | 0x0c => u64::from_le_bytes(self.array()?),
            0x01 => self.unsigned()?,
            0x02 => self.half()?,
            0x03 => self.word()?,
            0x09 => self.signed()? as u64,
            0x0a => self.half()? as i16 as u64,
            0x0b => self.word()? as i32 as u64,
            _ => return None,
        };
        Some(base.wrapping_add(value))
    }
}

/// How a register of the caller is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule<'a> {
    /// Nothing is said: as the ABI has it.
    Default,
    /// Not at all; for the return address: there is no caller.
    Unknown,
    /// It did not change.
    Same,
    /// It is saved at that offset from the frame's base.
    At(i64),
    /// It is the frame's base and that offset.
    Is(i64),
    /// It is in another register.
    Register(usize),
    /// It is saved at the address that the expression gives.
    AtExpression(&'a [u8]),
    /// It is what the expression gives.
    IsExpression(&'a [u8]),
}

/// Where the frame's base is: the canonical frame address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base<'a> {
    /// At an offset from a register.
    Register(usize, i64),
    /// Where the expression says.
    Expression(&'a [u8]),
}

/// The rules at one address.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    /// Where the frame's base is.
    pub frame: Base<'a>,
    /// For each register.
    pub rules: [Rule<'a>; REGISTERS],
}

impl<'a> Row<'a> {
    /// No rules yet.
    pub const EMPTY: Row<'static> =
        Row { frame: Base::Register(0, 0), rules: [Rule::Default; REGISTERS] };

    /// The unwinder keeps no other registers than those that a row has.
    fn set(&mut self, register: u64, rule: Rule<'a>) {
        if let Some(place) = self.rules.get_mut(register as usize) {
            *place = rule;
        }
    }
}

/// What is said of the function that has an address.
pub struct Entry<'a> {
    start: u64,
    common: Common<'a>,
    program: Cursor<'a>,
}

/// What the entries of several functions have in common.
struct Common<'a> {
    code_factor: u64,
    data_factor: i64,
    return_register: u64,
    encoding: u8,
    has_length: bool,
    is_signal: bool,
    program: Cursor<'a>,
}

/// Where the entries are, and which is for what.
pub struct Index<'a> {
    /// The entries' address.
    pub entries: u64,
    /// The address of the table, how many rows it has, and the rows; if there is a table.
    table: Option<(u64, u64, Cursor<'a>)>,
}

impl<'a> Index<'a> {
    /// Of an `.eh_frame_hdr` that is at that address.
    pub fn new(bytes: &'a [u8], base: u64) -> Option<Self> {
        let mut cursor = Cursor::new(bytes, base);
        let [1, of_entries, of_count, OFFSETS] = cursor.array()? else { return None };
        let entries = cursor.pointer(of_entries, base)?;
        let count = cursor.pointer(of_count, base)?;
        Some(Index { entries, table: Some((base, count, cursor)) })
    }

    /// Of an `.eh_frame` alone, which is read through each time.
    pub fn without_table(entries: u64) -> Self {
        Index { entries, table: None }
    }

    /// The entry for an address; `entries` are the bytes at the address of that name.
    pub fn find(&self, entries: &'a [u8], address: u64) -> Option<Entry<'a>> {
        let entries = Cursor::new(entries, self.entries);
        if let Some((base, count, rows)) = self.table {
            let (_, place) = search(base, count, rows, address)?;
            return record(entries, place)?.entry(entries, address);
        }
        let mut place = self.entries;
        loop {
            let record = record(entries, place)?;
            place = record.end;
            if let Some(entry) = record.entry(entries, address) {
                return Some(entry);
            }
        }
    }
}

/// How a table's rows are written: pairs of offsets from its address. No linker writes others.
const OFFSETS: u8 = 0x3b;

/// The row of the function with the address, or of the last one before it: the function's start,
/// and the place of its entry.
fn search(base: u64, count: u64, rows: Cursor<'_>, address: u64) -> Option<(u64, u64)> {
    let row = |number: u64| {
        let mut cursor = rows.skip(number.checked_mul(8)?)?;
        Some((cursor.pointer(OFFSETS, base)?, cursor.pointer(OFFSETS, base)?))
    };
    let (mut from, mut to) = (0, count);
    while from < to {
        let middle = from + (to - from) / 2;
        if row(middle)?.0 <= address {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    row(from.checked_sub(1)?)
}

/// An entry, or what several have in common: what is behind its id, that, the address of that,
/// and where the next one is.
struct Record<'a> {
    cursor: Cursor<'a>,
    id: u64,
    id_at: u64,
    end: u64,
}

/// The record at an address; at the last one's end there is none.
fn record(entries: Cursor<'_>, place: u64) -> Option<Record<'_>> {
    let mut cursor = entries.skip(place.checked_sub(entries.address)?)?;
    let length = cursor.word()?;
    let id_at = cursor.address;
    let mut cursor = Cursor::new(cursor.take(length as usize)?, id_at);
    let id = cursor.word()?;
    Some(Record { cursor, id, id_at, end: id_at.wrapping_add(length) })
}

impl<'a> Record<'a> {
    /// The entry, if it is one for that address.
    fn entry(self, entries: Cursor<'a>, address: u64) -> Option<Entry<'a>> {
        let mut cursor = self.cursor;
        let common = Common::new(entries, self.id_at.checked_sub(self.id)?)?;
        let start = cursor.pointer(common.encoding, 0)?;
        let length = cursor.pointer(common.encoding & 0x0f, 0)?;
        if common.has_length {
            cursor.block()?;
        }
        let is_it = address.wrapping_sub(start) < length;
        is_it.then_some(Entry { start, common, program: cursor })
    }
}

impl<'a> Common<'a> {
    fn new(entries: Cursor<'a>, place: u64) -> Option<Self> {
        let Record { mut cursor, id: 0, .. } = record(entries, place)? else { return None };
        let version @ (1 | 3) = cursor.byte()? else { return None };
        let mut letters = [0; 8];
        let mut letter_count = 0;
        loop {
            let letter = cursor.byte()?;
            if letter == 0 {
                break;
            }
            *letters.get_mut(letter_count)? = letter;
            letter_count += 1;
        }
        let code_factor = cursor.unsigned()?;
        let data_factor = cursor.signed()?;
        let return_register =
            if version == 1 { u64::from(cursor.byte()?) } else { cursor.unsigned()? };
        let mut common = Common {
            code_factor,
            data_factor,
            return_register,
            encoding: 0,
            has_length: letter_count != 0,
            is_signal: false,
            program: cursor,
        };
        let [first, letters @ ..] = letters;
        if common.has_length {
            let mut data = cursor;
            let b'z' = first else { return None };
            let length = data.unsigned()?;
            common.program.unsigned()?;
            common.program = common.program.skip(length)?;
            for letter in letters {
                match letter {
                    b'R' => common.encoding = data.byte()?,
                    b'S' => common.is_signal = true,
                    b'L' => _ = data.byte()?,
                    b'P' => {
                        let encoding = data.byte()?;
                        data.pointer(encoding & 0x0f, 0)?;
                    }
                    // 0: the end; B: pointers are signed by another key.
                    0 | b'B' => {}
                    _ => return None,
                }
            }
        }
        Some(common)
    }
}

impl<'a> Entry<'a> {
    /// The register that the return address is in, in the caller's row.
    pub fn return_register(&self) -> usize {
        self.common.return_register as usize
    }

    /// Whether the caller was interrupted, and did not call.
    pub fn is_signal(&self) -> bool {
        self.common.is_signal
    }

    /// The rules at an address of this function.
    pub fn row(&self, address: u64) -> Option<Row<'a>> {
        let mut row = Row::EMPTY;
        // The common program moves no location.
        self.run(self.common.program, &mut row, &Row::EMPTY, address)?;
        let initial = row;
        self.run(self.program, &mut row, &initial, address)?;
        Some(row)
    }

    fn run(
        &self,
        mut code: Cursor<'a>,
        row: &mut Row<'a>,
        initial: &Row<'a>,
        address: u64,
    ) -> Option<()> {
        let mut remembered = [Row::EMPTY; REMEMBERED];
        let mut depth = 0usize;
        let mut location = self.start;
        let factored = |offset: u64| (offset as i64).wrapping_mul(self.common.data_factor);
        while let Some(instruction) = code.byte() {
            let operand = u64::from(instruction & 0x3f);
            let advance = match instruction {
                // DW_CFA_advance_loc and its longer forms.
                0x40..=0x7f => operand,
                0x02 => u64::from(code.byte()?),
                0x03 => code.half()?,
                0x04 => code.word()?,
                _ => 0,
            };
            location = location.wrapping_add(advance.wrapping_mul(self.common.code_factor));
            match instruction {
                0x00 | 0x40..=0x7f | 0x02..=0x04 => {}
                // offset, restore.
                0x80..=0xbf => row.set(operand, Rule::At(factored(code.unsigned()?))),
                0xc0.. => row.restore(operand, initial),
                // set_loc.
                0x01 => location = code.pointer(self.common.encoding, 0)?,
                // offset_extended, restore_extended, undefined, same_value, register.
                0x05 => row.set(code.unsigned()?, Rule::At(factored(code.unsigned()?))),
                0x06 => row.restore(code.unsigned()?, initial),
                0x07 => row.set(code.unsigned()?, Rule::Unknown),
                0x08 => row.set(code.unsigned()?, Rule::Same),
                0x09 => row.set(code.unsigned()?, Rule::Register(code.unsigned()? as usize)),
                // remember_state, restore_state.
                0x0a => {
                    *remembered.get_mut(depth)? = *row;
                    depth += 1;
                }
                0x0b => {
                    depth = depth.checked_sub(1)?;
                    *row = *remembered.get(depth)?;
                }
                // def_cfa, its parts, and by expression.
                0x0c => {
                    row.frame = Base::Register(code.unsigned()? as usize, code.unsigned()? as i64)
                }
                0x0d => {
                    let Base::Register(register, _) = &mut row.frame else { return None };
                    *register = code.unsigned()? as usize;
                }
                0x0e => row.set_offset(code.unsigned()? as i64)?,
                0x0f => row.frame = Base::Expression(code.block()?),
                // expression, and the forms with signed offsets.
                0x10 => row.set(code.unsigned()?, Rule::AtExpression(code.block()?)),
                0x11 => row.set(code.unsigned()?, Rule::At(factored(code.signed()? as u64))),
                0x12 => {
                    let register = code.unsigned()? as usize;
                    row.frame = Base::Register(register, factored(code.signed()? as u64));
                }
                0x13 => row.set_offset(factored(code.signed()? as u64))?,
                // val_offset, val_offset_sf, val_expression.
                0x14 => row.set(code.unsigned()?, Rule::Is(factored(code.unsigned()?))),
                0x15 => row.set(code.unsigned()?, Rule::Is(factored(code.signed()? as u64))),
                0x16 => row.set(code.unsigned()?, Rule::IsExpression(code.block()?)),
                // AARCH64_negate_ra_state: whether the return address is signed; it is stripped
                // in any case. GNU_args_size.
                0x2d => {}
                0x2e => _ = code.unsigned()?,
                _ => return None,
            }
            if location > address {
                return Some(());
            }
        }
        Some(())
    }
}

impl<'a> Row<'a> {
    fn restore(&mut self, register: u64, initial: &Row<'a>) {
        if let Some(rule) = initial.rules.get(register as usize) {
            self.set(register, *rule);
        }
    }

    fn set_offset(&mut self, to: i64) -> Option<()> {
        let Base::Register(_, offset) = &mut self.frame else { return None };
        *offset = to;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::image::{Image, Images, Place};
    use super::super::unwind::index_of;
    use super::*;
    use gimli::{
        BaseAddresses, CfaRule, EhFrame, LittleEndian, RegisterRule, UnwindContext,
        UnwindExpression, UnwindSection, UnwindTable,
    };

    fn of_libc(check: impl FnOnce(Index<'_>, &[u8])) {
        let mut images = Images::new();
        let Place::Image(number) = images.find(libc::getppid as *const () as u64) else {
            panic!("libc is of no file")
        };
        let image: &Image = images.get(number).expect("it was found just now");
        let (index, entries) = index_of(image).expect("libc has call frame information");
        check(index, entries);
    }

    fn rule<'a>(theirs: &RegisterRule<usize>, bytes: &'a [u8]) -> Option<Rule<'a>> {
        let code = |code: &UnwindExpression<usize>| &bytes[code.offset..code.offset + code.length];
        Some(match theirs {
            RegisterRule::SameValue => Rule::Same,
            RegisterRule::Offset(offset) => Rule::At(*offset),
            RegisterRule::ValOffset(offset) => Rule::Is(*offset),
            RegisterRule::Register(other) => Rule::Register(usize::from(other.0)),
            RegisterRule::Expression(expression) => Rule::AtExpression(code(expression)),
            RegisterRule::ValExpression(expression) => Rule::IsExpression(code(expression)),
            _ => return None,
        })
    }

    #[test]
    fn every_row_of_libc_is_what_gimli_makes_of_it() {
        of_libc(|index, bytes| {
            let bases = BaseAddresses::default().set_eh_frame(index.entries);
            let section = EhFrame::new(bytes, LittleEndian);
            let mut context = UnwindContext::new();
            let mut entries = section.entries(&bases);
            let (mut functions, mut rows) = (0, 0);
            // The bytes go on behind the section, to what is none of it.
            let (_, count, _) = index.table.expect("libc has one");
            let whole = Index::without_table(index.entries);
            while functions < count {
                let entry = entries.next().expect("libc is sound").expect("as the index says");
                let gimli::CieOrFde::Fde(entry) = entry else { continue };
                let entry = entry.parse(EhFrame::cie_from_offset).expect("libc is sound");
                functions += 1;
                let ours = index.find(bytes, entry.initial_address()).expect("in the index");
                assert_eq!(ours.is_signal(), entry.is_signal_trampoline());
                if functions % 64 == 1 {
                    let same = whole.find(bytes, entry.initial_address()).expect("it is there");
                    assert_eq!(
                        (same.start, same.program.address),
                        (ours.start, ours.program.address)
                    );
                }
                let mut table =
                    UnwindTable::new(&section, &bases, &mut context, &entry).expect("sound");
                while let Some(theirs) = table.next_row().expect("sound") {
                    rows += 1;
                    // A rule at the function's end, for no address.
                    if theirs.start_address() == theirs.end_address() {
                        continue;
                    }
                    for address in [theirs.start_address(), theirs.end_address() - 1] {
                        let ours = ours.row(address).expect("gimli has it");
                        match theirs.cfa() {
                            CfaRule::RegisterAndOffset { register, offset } => {
                                let base = Base::Register(usize::from(register.0), *offset);
                                assert_eq!(ours.frame, base, "{address:#x}");
                            }
                            CfaRule::Expression(code) => {
                                let code = &bytes[code.offset..code.offset + code.length];
                                assert_eq!(ours.frame, Base::Expression(code), "{address:#x}");
                            }
                        }
                        for (number, ours) in ours.rules.iter().enumerate() {
                            let theirs = theirs.register(gimli::Register(number as u16));
                            let ours = Some(*ours)
                                .filter(|rule| !matches!(rule, Rule::Default | Rule::Unknown));
                            assert_eq!(ours, rule(&theirs, bytes), "{address:#x}: {number}");
                        }
                    }
                }
            }
            println!("{functions} functions, {rows} rows");
            assert!(functions > 1000 && rows > functions);
        });
    }

    #[test]
    fn an_address_between_functions_or_outside_has_no_entry() {
        of_libc(|index, bytes| {
            let (base, count, rows) = index.table.expect("libc has one");
            let (first, _) = search(base, count, rows, u64::MAX / 2).expect("the last one");
            for address in [0, first - (1 << 32), u64::MAX] {
                assert!(index.find(bytes, address).is_none(), "{address:#x}");
            }
        });
    }

    #[test]
    fn damaged_entries_give_rows_or_none_but_no_panic() {
        of_libc(|index, bytes| {
            let (base, _, rows) = index.table.expect("libc has one");
            // As much as the first functions take: they are damaged more often.
            let mut damaged = bytes[..bytes.len().min(16 << 10)].to_vec();
            let mut state = 0x2545_f491_4f6c_dd1d_u64;
            let mut found = 0;
            for turn in 0..20_000u64 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(turn | 1);
                let place = (state >> 33) as usize % damaged.len();
                damaged[place] = (state >> 20) as u8;
                let function = (state >> 25) % 200;
                let mut row = rows.skip(function * 8).expect("libc has more");
                let start = row.pointer(OFFSETS, base).expect("as above");
                for address in [start, start + 5, start + 40] {
                    let entry = index.find(&damaged, address);
                    found += u64::from(entry.and_then(|entry| entry.row(address)).is_some());
                }
                if turn % 1000 == 999 {
                    let whole = bytes.iter().zip(damaged.iter_mut());
                    whole.for_each(|(byte, place)| *place = *byte);
                }
            }
            println!("{found} rows");
            assert!(found > 0);
        });
    }

    #[test]
    fn numbers_in_leb128() {
        let unsigned = |bytes: &[u8]| Cursor::new(bytes, 0).unsigned();
        let signed = |bytes: &[u8]| Cursor::new(bytes, 0).signed();
        assert_eq!(unsigned(&[0xe5, 0x8e, 0x26]), Some(624_485));
        assert_eq!(
            unsigned(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
            Some(u64::MAX)
        );
        assert_eq!(unsigned(&[0x80]), None);
        assert_eq!(unsigned(&[0x80; 12]), None);
        assert_eq!(signed(&[0x78]), Some(-8));
        assert_eq!(signed(&[0x3f]), Some(63));
        assert_eq!(signed(&[0xc0, 0xbb, 0x78]), Some(-123_456));
        assert_eq!(
            signed(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x7f]),
            Some(i64::MIN)
        );
    }
}
