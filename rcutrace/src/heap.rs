// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which blocks are live: allocations matched with what frees them, across threads.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::merge::Event;
use crate::schema::{Bindings, Values};
use crate::sites::Sites;
use crate::trace::Trace;

/// The functions that are traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// malloc
    Malloc,
    /// calloc
    Calloc,
    /// realloc and reallocarray
    Realloc,
    /// Those that align.
    Memalign,
    /// free
    Free,
}

impl Function {
    /// In the order of a report.
    pub const ALL: [Function; 5] =
        [Self::Malloc, Self::Calloc, Self::Realloc, Self::Memalign, Self::Free];

    /// What people call it.
    pub fn name(self) -> &'static str {
        ["malloc", "calloc", "realloc", "memalign", "free"][self as usize]
    }
}

/// An allocated block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its bytes.
    pub size: u64,
    /// Who allocated it.
    pub site: u32,
}

/// What a call did.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// The function called.
    pub function: Function,
    /// By whom; not asked of free.
    pub site: Option<u32>,
    /// The block that is new.
    pub allocated: Option<Block>,
    /// The block that went.
    pub freed: Option<Block>,
    /// It freed a block of which nothing is known: from before the recording or the fork.
    pub unmatched: bool,
    /// It asked for memory and got none.
    pub failed: bool,
}

/// The live blocks of all images.
#[derive(Debug)]
pub struct Heap {
    bindings: Bindings<Function>,
    blocks: HashMap<(u32, u64), Block, RandomState>,
    /// Blocks handed out anew before the realloc that gave them back was recorded: a realloc is
    /// recorded when it is over, and another thread may be quicker.
    overtaken: HashMap<(u32, u64), u32, RandomState>,
    /// Of each image, live bytes now and at most.
    bytes: Vec<(u64, u64)>,
    /// Who called.
    pub sites: Sites,
}

impl Heap {
    /// Nothing is live.
    pub fn new(trace: &Trace) -> Self {
        use Function::*;
        let known: [(Function, &str, &[&str]); 5] = [
            (Malloc, "heap:malloc", &["block", "size", "caller", "stack"]),
            (Calloc, "heap:calloc", &["block", "size", "caller", "stack", "count"]),
            (Realloc, "heap:realloc", &["block", "size", "caller", "stack", "old"]),
            (Memalign, "heap:memalign", &["block", "size", "caller", "stack"]),
            (Free, "heap:free", &["block"]),
        ];
        Heap {
            bindings: Bindings::new(&trace.types, &known),
            blocks: HashMap::default(),
            overtaken: HashMap::default(),
            bytes: vec![(0, 0); trace.images.len()],
            sites: Sites::default(),
        }
    }

    /// The trace may have such events.
    pub fn any(&self) -> bool {
        self.bindings.any()
    }

    /// Takes an event; none if it is not the heap's.
    pub fn event(&mut self, event: &Event<'_>) -> Option<Change> {
        let (function, values) = self.bindings.get(event.event_type, event.payload)?;
        let image = event.image;
        let block = values.word(0);
        let mut change = Change {
            function,
            site: None,
            allocated: None,
            freed: None,
            unmatched: false,
            failed: false,
        };
        if function == Function::Free {
            if block != 0 {
                self.free(image, block, &mut change);
            }
            return Some(change);
        }
        let size = size(function, &values);
        let site = self.sites.number(image, values.word(2), values.rest(3));
        change.site = Some(site);
        let old = if function == Function::Realloc { values.word(4) } else { 0 };
        // A realloc to nothing frees and may answer null; any other null is a failure, which
        // leaves the old block as it was.
        change.failed = block == 0 && (old == 0 || size != 0);
        if old != 0 && !change.failed && !self.was_overtaken(image, old) {
            self.free(image, old, &mut change);
        }
        if block != 0 {
            change.allocated = Some(Block { size, site });
            let bytes = &mut self.bytes[image as usize];
            bytes.0 = bytes.0.saturating_add(size);
            if let Some(gone) = self.blocks.insert((image, block), Block { size, site }) {
                bytes.0 = bytes.0.saturating_sub(gone.size);
                change.freed = Some(gone);
                *self.overtaken.entry((image, block)).or_default() += 1;
            }
            bytes.1 = bytes.1.max(bytes.0);
        }
        Some(change)
    }

    fn was_overtaken(&mut self, image: u32, old: u64) -> bool {
        if self.overtaken.is_empty() {
            return false;
        }
        let Some(times) = self.overtaken.get_mut(&(image, old)) else { return false };
        *times -= 1;
        if *times == 0 {
            self.overtaken.remove(&(image, old));
        }
        true
    }

    fn free(&mut self, image: u32, block: u64, change: &mut Change) {
        change.freed = self.blocks.remove(&(image, block));
        match change.freed {
            Some(gone) => {
                let bytes = &mut self.bytes[image as usize];
                bytes.0 = bytes.0.saturating_sub(gone.size);
            }
            None => change.unmatched = true,
        }
    }

    /// Live bytes of an image.
    pub fn live_bytes(&self, image: u32) -> u64 {
        self.bytes[image as usize].0
    }

    /// The most that an image ever had.
    pub fn peak_bytes(&self, image: u32) -> u64 {
        self.bytes[image as usize].1
    }

    /// The blocks that are live.
    pub fn blocks(&self) -> impl Iterator<Item = Block> + '_ {
        self.blocks.values().copied()
    }
}

fn size(function: Function, values: &Values<'_>) -> u64 {
    match function {
        Function::Calloc => values.word(1).saturating_mul(values.word(4)),
        _ => values.word(1),
    }
}
