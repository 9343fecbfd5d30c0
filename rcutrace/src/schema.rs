// SPDX-License-Identifier: MIT OR Apache-2.0
//! Descriptions of events: `heap:malloc block:x size:u caller:a stack:a*`.

use crate::file::u64_at;

/// What a field's words mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `u`, and whatever we do not know.
    Unsigned,
    /// `i`
    Signed,
    /// `x`: an address of data or a handle.
    Hex,
    /// `a`: an address of code.
    Code,
    /// `t`: a duration in ticks.
    Ticks,
    /// `a*`: the rest, a call stack.
    Stack,
    /// `s`: the rest, a text.
    Text,
}

/// One field.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// What it means.
    pub kind: Kind,
}

/// One type of event.
#[derive(Clone, Debug)]
pub struct EventType {
    /// `heap:malloc`.
    pub name: String,
    /// In order; a word each, but a stack or text, which is the last.
    pub fields: Vec<Field>,
}

impl EventType {
    /// Reads a description; what is strange in it is made the best of.
    pub fn parse(description: &str) -> Self {
        let mut words = description.split_ascii_whitespace();
        let name = words.next().unwrap_or("?").to_owned();
        let mut fields: Vec<Field> = Vec::new();
        for word in words {
            let (name, kind) = word.rsplit_once(':').unwrap_or((word, "u"));
            let kind = match kind {
                "i" => Kind::Signed,
                "x" => Kind::Hex,
                "a" => Kind::Code,
                "t" => Kind::Ticks,
                "a*" => Kind::Stack,
                "s" => Kind::Text,
                _ => Kind::Unsigned,
            };
            fields.push(Field { name: name.to_owned(), kind });
            if matches!(kind, Kind::Stack | Kind::Text) {
                break;
            }
        }
        EventType { name, fields }
    }

    /// `heap` of `heap:malloc`.
    pub fn tracer(&self) -> &str {
        self.name.split_once(':').map_or("", |(tracer, _)| tracer)
    }
}

/// Where the fields of the events that a report knows stand in a given file, by the number of the
/// event's type. Fields are found by name: a description may have more than we know.
#[derive(Debug)]
pub struct Bindings<K> {
    by_type: Vec<Option<(K, Places)>>,
}

/// Where one event's fields stand: a word's number; NONE, and it reads as 0.
#[derive(Clone, Copy, Debug)]
pub struct Places([u8; 6]);
const NONE: u8 = 255;

/// An event's fields, in the order in which the report named them.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    places: Places,
    payload: &'a [u8],
}

impl<K: Copy> Bindings<K> {
    /// `known`: the events, and of each the fields (six at most).
    pub fn new(types: &[EventType], known: &[(K, &str, &[&str])]) -> Self {
        let bind = |event: &EventType| {
            let (kind, _, fields) = known.iter().find(|(_, name, _)| *name == event.name)?;
            let mut places = [NONE; 6];
            for (place, wanted) in places.iter_mut().zip(fields.iter()) {
                let found = event.fields.iter().position(|field| field.name == *wanted);
                *place = found.and_then(|found| u8::try_from(found).ok()).unwrap_or(NONE);
            }
            Some((*kind, Places(places)))
        };
        Bindings { by_type: types.iter().map(bind).collect() }
    }

    /// What the event of this type is, and its fields; none if the report does not know it.
    #[inline]
    pub fn get<'a>(&self, kind: Option<u32>, payload: &'a [u8]) -> Option<(K, Values<'a>)> {
        let (known, places) = self.by_type.get(kind? as usize)?.as_ref()?;
        Some((*known, Values { places: *places, payload }))
    }

    /// The file knows such events.
    pub fn any(&self) -> bool {
        self.by_type.iter().any(Option::is_some)
    }
}

impl<'a> Values<'a> {
    /// The field's word.
    #[inline]
    pub fn word(&self, field: usize) -> u64 {
        match self.places.0[field] {
            NONE => 0,
            place => u64_at(self.payload, usize::from(place) * 8),
        }
    }

    /// The field and all that follows.
    #[inline]
    pub fn rest(&self, field: usize) -> &'a [u8] {
        match self.places.0[field] {
            NONE => &[],
            place => self.payload.get(usize::from(place) * 8..).unwrap_or_default(),
        }
    }
}

/// The words of a call stack.
pub fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.chunks_exact(8).map(|word| u64_at(word, 0))
}
