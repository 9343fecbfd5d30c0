// SPDX-License-Identifier: MIT OR Apache-2.0
//! One mapped file, with its debug file if there is one.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use addr2line::{demangle_auto, Loader};

use super::table::Table;
use super::Of;

/// A file that was mapped.
#[derive(Default)]
pub struct Binary {
    /// Its own.
    table: Table,
    /// Its debug file's, if that has more.
    debug: Option<Table>,
    /// Which of the two can say source lines.
    lines_from: Option<PathBuf>,
    lines: OnceCell<Option<Loader>>,
}

impl std::fmt::Debug for Binary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Binary").field("lines_from", &self.lines_from).finish_non_exhaustive()
    }
}

/// What a file knows of an address.
pub struct Found {
    /// Demangled.
    pub name: String,
    /// `alloc.c:12`
    pub line: Option<String>,
    /// From the symbol's beginning.
    pub offset: u64,
}

impl Binary {
    /// Reads the file's symbols, if it is still the one that was mapped.
    pub fn open(path: &str, build_id: &[u8]) -> Result<Self, String> {
        let table = Table::read(Path::new(path))?;
        if !build_id.is_empty() && table.build_id != build_id {
            return Err("not the file that was traced (its build id differs); addresses stay raw"
                .to_owned());
        }
        let debug_path = debug_file(&table.build_id);
        let debug = debug_path.as_deref().and_then(|path| Table::read(path).ok());
        let debug = debug.filter(|debug| debug.build_id == table.build_id);
        let lines_from = match &debug {
            _ if table.lines => Some(PathBuf::from(path)),
            Some(debug) if debug.lines => debug_path,
            _ => None,
        };
        let debug = debug.filter(Table::any);
        Ok(Binary { table, debug, lines_from, lines: OnceCell::new() })
    }

    /// What lies at a place in the file.
    pub fn find(&self, offset: u64, of: Of) -> Option<Found> {
        let address = self.table.address(offset)?;
        let symbol = self.debug.as_ref().and_then(|debug| debug.find(address));
        let symbol = symbol.or_else(|| self.table.find(address));
        let symbol = symbol.map(|(symbol, name)| Found {
            name: demangle_auto(Cow::Borrowed(name), None).into_owned(),
            line: None,
            offset: address - symbol.address,
        });
        if of != Of::Return {
            return symbol;
        }
        let Some((name, line)) = self.source(address) else { return symbol };
        let offset = symbol.as_ref().map_or(0, |symbol| symbol.offset);
        let name = name.or_else(|| symbol.map(|symbol| symbol.name))?;
        Some(Found { name, line, offset })
    }

    /// The innermost function, which may be inlined, and its line.
    fn source(&self, address: u64) -> Option<(Option<String>, Option<String>)> {
        let path = self.lines_from.as_ref()?;
        let loader = self.lines.get_or_init(|| Loader::new(path).ok()).as_ref()?;
        let frame = loader.find_frames(address).ok()?.next().ok()??;
        let function = frame.function.as_ref().and_then(|function| function.demangle().ok());
        let line = frame.location.and_then(|location| {
            let file = location.file?.rsplit('/').next()?;
            Some(match location.line {
                Some(line) => format!("{file}:{line}"),
                None => file.to_owned(),
            })
        });
        line.is_some().then(|| (function.map(Cow::into_owned), line))
    }
}

fn debug_file(build_id: &[u8]) -> Option<PathBuf> {
    let (first, rest) = build_id.split_first()?;
    let mut path = format!("/usr/lib/debug/.build-id/{first:02x}/");
    for byte in rest.iter().take(64) {
        let _ = write!(path, "{byte:02x}");
    }
    path.push_str(".debug");
    let path = PathBuf::from(path);
    path.is_file().then_some(path)
}
