// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each thread's stack of traced functions, from entries and exits; and the tree of all calls.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::file::kind;
use crate::merge::Event;
use crate::schema::Bindings;
use crate::trace::Trace;

/// Deeper calls are counted as their caller's own time, in the tree: it is for people.
const DEPTH: u32 = 256;

#[derive(Clone, Copy, Debug)]
enum What {
    Entry,
    Exit,
}

/// A call that is not over.
#[derive(Clone, Copy, Debug)]
struct Frame {
    function: u64,
    since: u64,
    /// In calls made from here.
    inner: u64,
    node: u32,
    /// The same function is further out: its time is in that one's already.
    recursive: bool,
}

/// One call, when it is over.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The image's number.
    pub image: u32,
    /// The function's address.
    pub function: u64,
    /// Ticks from entry to exit.
    pub total: u64,
    /// Those not spent in traced functions that it called.
    pub own: u64,
    /// The same function is further out.
    pub recursive: bool,
}

/// A function, called by the one above it.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// The caller's number; its own for a root.
    pub parent: u32,
    /// How many are above it.
    pub depth: u32,
    /// The image's number.
    pub image: u32,
    /// The function's address.
    pub function: u64,
    /// How often it was called so.
    pub calls: u64,
    /// Ticks in it and what it called.
    pub total: u64,
    /// Ticks in it alone.
    pub own: u64,
}

#[derive(Debug, Default)]
struct Stack {
    frames: Vec<Frame>,
    active: HashMap<u64, u32, RandomState>,
    last: u64,
}

/// All threads' stacks, and the tree.
#[derive(Debug)]
pub struct Calls {
    bindings: Bindings<What>,
    stacks: HashMap<u32, Stack, RandomState>,
    /// The tree; a caller stands before what it calls.
    pub nodes: Vec<Node>,
    numbers: HashMap<(u32, u32, u64), u32, RandomState>,
    /// Exits whose entries were not seen.
    pub unmatched: u64,
    /// Calls that never returned: the thread ended in them, or events were lost.
    pub unfinished: u64,
}

const ROOT: u32 = u32::MAX;

impl Calls {
    /// No calls yet.
    pub fn new(trace: &Trace) -> Self {
        let known: [(What, &str, &[&str]); 2] = [
            (What::Entry, "functions:entry", &["function"]),
            (What::Exit, "functions:exit", &["function"]),
        ];
        Calls {
            bindings: Bindings::new(&trace.types, &known),
            stacks: HashMap::default(),
            nodes: Vec::new(),
            numbers: HashMap::default(),
            unmatched: 0,
            unfinished: 0,
        }
    }

    /// The trace may have such events.
    pub fn any(&self) -> bool {
        self.bindings.any()
    }

    /// Takes an event; `over` is told of each call that it ends: several after a longjmp.
    pub fn event(&mut self, event: &Event<'_>, over: impl FnMut(Call)) {
        if event.kind == kind::LOST {
            self.end(event.thread, event.image, over);
            return;
        }
        let Some((what, values)) = self.bindings.get(event.event_type, event.payload) else {
            return;
        };
        let function = values.word(0);
        match what {
            What::Entry => self.enter(event, function),
            What::Exit => self.leave(event, function, over),
        }
    }

    fn enter(&mut self, event: &Event<'_>, function: u64) {
        let stack = self.stacks.entry(event.thread).or_default();
        let parent = stack.frames.last().map_or(ROOT, |frame| frame.node);
        let next = self.nodes.len() as u32;
        let depth = self.nodes.get(parent as usize).map_or(0, |node| node.depth + 1);
        let node = if depth >= DEPTH {
            parent
        } else {
            *self.numbers.entry((parent, event.image, function)).or_insert_with(|| {
                self.nodes.push(Node {
                    parent: if parent == ROOT { next } else { parent },
                    depth,
                    image: event.image,
                    function,
                    calls: 0,
                    total: 0,
                    own: 0,
                });
                next
            })
        };
        let active = stack.active.entry(function).or_default();
        let recursive = *active > 0;
        *active += 1;
        stack.frames.push(Frame { function, since: event.time, inner: 0, node, recursive });
        stack.last = event.time;
    }

    fn leave(&mut self, event: &Event<'_>, function: u64, mut over: impl FnMut(Call)) {
        let stack = self.stacks.entry(event.thread).or_default();
        stack.last = event.time;
        if stack.active.get(&function).is_none_or(|active| *active == 0) {
            self.unmatched += 1;
            return;
        }
        while let Some(frame) = pop(stack, &mut self.nodes, event.time) {
            over(frame.call(event.image, event.time));
            if frame.function == function {
                break;
            }
        }
    }

    /// Ends all calls of a thread, at its last event: what comes after is not known.
    fn end(&mut self, thread: u32, image: u32, mut over: impl FnMut(Call)) {
        let Some(stack) = self.stacks.get_mut(&thread) else { return };
        let last = stack.last;
        while let Some(frame) = pop(stack, &mut self.nodes, last) {
            self.unfinished += 1;
            over(frame.call(image, last));
        }
    }

    /// No more events will come.
    pub fn finish(&mut self, trace: &Trace, mut over: impl FnMut(Call)) {
        let mut threads: Vec<u32> = self.stacks.keys().copied().collect();
        threads.sort_unstable();
        for thread in threads {
            self.end(thread, trace.threads[thread as usize].image, &mut over);
        }
    }
}

impl Frame {
    fn call(&self, image: u32, now: u64) -> Call {
        let total = now.saturating_sub(self.since);
        let own = total.saturating_sub(self.inner);
        Call { image, function: self.function, total, own, recursive: self.recursive }
    }
}

fn pop(stack: &mut Stack, nodes: &mut [Node], now: u64) -> Option<Frame> {
    let frame = stack.frames.pop()?;
    if let Some(active) = stack.active.get_mut(&frame.function) {
        *active = active.saturating_sub(1);
    }
    let total = now.saturating_sub(frame.since);
    let own = total.saturating_sub(frame.inner);
    let caller = stack.frames.last_mut();
    // Too deep for the tree: shares its caller's node.
    let shared = caller.as_ref().is_some_and(|caller| caller.node == frame.node);
    if let Some(node) = nodes.get_mut(frame.node as usize) {
        node.own = node.own.saturating_add(own);
        if !shared {
            node.calls += 1;
            node.total = node.total.saturating_add(total);
        }
    }
    if let Some(caller) = caller {
        caller.inner = caller.inner.saturating_add(total);
    }
    Some(frame)
}
