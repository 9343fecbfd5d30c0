// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names for addresses: through an image's maps to a file, its symbols and its source lines.

mod binary;
mod table;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use foldhash::fast::RandomState;

use crate::maps::Map;
use crate::trace::Trace;
use binary::Binary;

/// More names than this are forgotten and found again.
const CACHED: usize = 1 << 20;

/// What an address is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Of {
    /// Where a call returns to: the call is before.
    Return,
    /// A function's entry.
    Function,
    /// A variable.
    Data,
}

/// What is known of an address.
#[derive(Debug)]
pub struct Name {
    /// The function or variable, demangled; else `file+0xoffset`, else the address.
    pub short: Rc<str>,
    /// With the source line, if it is known: `main (alloc.c:12)`; else with the offset.
    pub long: Rc<str>,
}

type Names = HashMap<(u32, u64, Of), Rc<Name>, RandomState>;
type Binaries = HashMap<(Rc<str>, Rc<[u8]>), Rc<Binary>, RandomState>;

/// Finds names, and remembers them.
#[derive(Debug)]
pub struct Symbols<'a> {
    trace: &'a Trace,
    names: RefCell<Names>,
    binaries: RefCell<Binaries>,
    complaints: RefCell<BTreeSet<String>>,
}

impl<'a> Symbols<'a> {
    /// Of the addresses in a trace.
    pub fn new(trace: &'a Trace) -> Self {
        Symbols {
            trace,
            names: RefCell::default(),
            binaries: RefCell::default(),
            complaints: RefCell::default(),
        }
    }

    /// The trace that it is about.
    pub fn trace(&self) -> &'a Trace {
        self.trace
    }

    /// The name of an address in the image of that number.
    pub fn name(&self, image: u32, address: u64, of: Of) -> Rc<Name> {
        let key = (image, address, of);
        if let Some(name) = self.names.borrow().get(&key) {
            return name.clone();
        }
        let name = Rc::new(self.find(image, address, of));
        let mut names = self.names.borrow_mut();
        if names.len() >= CACHED {
            names.clear();
        }
        names.insert(key, name.clone());
        name
    }

    /// Files that are not what was traced; a line each.
    pub fn complaints(&self) -> Vec<String> {
        self.complaints.borrow().iter().cloned().collect()
    }

    fn find(&self, image: u32, address: u64, of: Of) -> Name {
        let inside = if of == Of::Return { address.wrapping_sub(1) } else { address };
        let map = self.trace.images.get(image as usize).and_then(|image| image.maps.find(inside));
        let Some(map) = map else {
            let text: Rc<str> = format!("{address:#x}").into();
            return Name { short: text.clone(), long: text };
        };
        let offset = map.offset.wrapping_add(inside - map.start);
        let binary = self.binary(map);
        let found = binary.find(offset, of);
        let file = crate::text::printable(map.path.rsplit('/').next().unwrap_or_default());
        let Some(found) = found else {
            let offset = map.offset.wrapping_add(address.wrapping_sub(map.start));
            let text: Rc<str> = format!("{file}+{offset:#x}").into();
            return Name { short: text.clone(), long: text };
        };
        let short: Rc<str> = crate::text::printable(&found.name).into();
        let long = match (&found.line, found.offset) {
            (Some(line), _) => format!("{short} ({})", crate::text::printable(line)).into(),
            (None, 0) if of != Of::Return => short.clone(),
            (None, offset) => {
                let offset = offset + u64::from(of == Of::Return);
                format!("{short}+{offset:#x} ({file})").into()
            }
        };
        Name { short, long }
    }

    fn binary(&self, map: &Map) -> Rc<Binary> {
        let key = (map.path.clone(), map.build_id.clone());
        if let Some(binary) = self.binaries.borrow().get(&key) {
            return binary.clone();
        }
        let binary = Rc::new(Binary::open(&map.path, &map.build_id).unwrap_or_else(|why| {
            // Such as [vdso] were never files.
            if map.path.starts_with('/') {
                self.complaints.borrow_mut().insert(format!("{}: {why}", map.path));
            }
            Binary::default()
        }));
        self.binaries.borrow_mut().insert(key, binary.clone());
        binary
    }
}
