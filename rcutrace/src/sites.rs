// SPDX-License-Identifier: MIT OR Apache-2.0
//! Places in the code from which something was called, by numbers.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use crate::report::table::FRAME_SEPARATOR;
use crate::schema::words;
use crate::symbols::{Of, Symbols};

/// A number for each caller, with its call stack if that was recorded.
#[derive(Debug, Default)]
pub struct Sites {
    /// Image, caller, stack.
    all: Vec<(u32, u64, u32)>,
    numbers: HashMap<(u32, u64, u32), u32, RandomState>,
    /// The words as they stand in the file; number 0 is the empty one.
    stacks: Vec<Box<[u8]>>,
    stack_numbers: HashMap<Box<[u8]>, u32, RandomState>,
}

impl Sites {
    /// The number of a site.
    pub fn number(&mut self, image: u32, caller: u64, stack: &[u8]) -> u32 {
        let stack = if stack.is_empty() { 0 } else { self.stack(stack) };
        let next = self.all.len() as u32;
        *self.numbers.entry((image, caller, stack)).or_insert_with(|| {
            self.all.push((image, caller, stack));
            next
        })
    }

    fn stack(&mut self, stack: &[u8]) -> u32 {
        if let Some(&number) = self.stack_numbers.get(stack) {
            return number;
        }
        self.stacks.push(stack.into());
        let number = self.stacks.len() as u32;
        self.stack_numbers.insert(stack.into(), number);
        number
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// A call stack was recorded.
    pub fn any_stacks(&self) -> bool {
        !self.stacks.is_empty()
    }

    /// The site's image.
    pub fn image(&self, site: u32) -> u32 {
        self.all[site as usize].0
    }

    /// Its return addresses, the innermost first.
    pub fn frames(&self, site: u32) -> Vec<u64> {
        let (_, caller, stack) = self.all[site as usize];
        match stack.checked_sub(1).and_then(|stack| self.stacks.get(stack as usize)) {
            Some(stack) => words(stack).collect(),
            None => vec![caller],
        }
    }

    /// The caller, with its source line.
    pub fn caller(&self, site: u32, symbols: &Symbols<'_>) -> String {
        let (image, caller, _) = self.all[site as usize];
        symbols.name(image, caller, Of::Return).long.to_string()
    }

    /// The whole stack, the innermost first.
    pub fn stack_text(&self, site: u32, symbols: &Symbols<'_>) -> String {
        let image = self.image(site);
        let frames = self.frames(site);
        let names = frames.iter().enumerate().map(|(depth, &address)| {
            let name = symbols.name(image, address, Of::Return);
            if depth == 0 {
                name.long.to_string()
            } else {
                name.short.to_string()
            }
        });
        names.collect::<Vec<_>>().join(FRAME_SEPARATOR)
    }

    /// Joins what was counted for sites that have one name: the same code in several processes.
    pub fn by_name<T: Default>(
        &self,
        counted: impl IntoIterator<Item = (u32, T)>,
        name: impl Fn(u32) -> String,
        mut join: impl FnMut(&mut T, T),
    ) -> BTreeMap<String, T> {
        let mut joined = BTreeMap::new();
        for (site, value) in counted {
            join(joined.entry(name(site)).or_default(), value);
        }
        joined
    }
}
