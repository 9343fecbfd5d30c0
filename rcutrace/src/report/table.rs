// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a report says, apart from how it is written: facts and tables, as text or as JSON.

use std::cmp::Ordering;
use std::io::Write;

use serde_json::{json, Map, Value};

use crate::error::{Error, Result};
use crate::text;

/// How a number is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// `1,234`; also for bytes.
    Count,
    /// Nanoseconds.
    Time,
}

/// A place in a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// A number.
    Number(u64, Unit),
    /// A text.
    Text(String),
}

/// A number of something.
pub fn count(number: u64) -> Cell {
    Cell::Number(number, Unit::Count)
}

/// A duration in ns.
pub fn time(ns: u64) -> Cell {
    Cell::Number(ns, Unit::Time)
}

/// A text.
pub fn word(text: impl Into<String>) -> Cell {
    Cell::Text(text.into())
}

/// A mean, 0 of nothing.
pub fn mean(total: u64, number: u64) -> u64 {
    total.checked_div(number).unwrap_or(0)
}

/// A single number with its name.
#[derive(Clone, Debug)]
pub struct Fact {
    /// In JSON.
    pub key: &'static str,
    /// In text.
    pub label: &'static str,
    /// The number.
    pub value: Cell,
}

/// Rows of the same kind.
#[derive(Clone, Debug)]
pub struct Table {
    /// In JSON.
    pub key: &'static str,
    /// In text.
    pub title: &'static str,
    /// In JSON, for --sort, and in capitals in text.
    pub columns: &'static [&'static str],
    /// The rows.
    pub rows: Vec<Vec<Cell>>,
    /// The column it is sorted by; none: it has an order of its own and is shown whole.
    pub sorted: Option<&'static str>,
}

/// One tracer's report.
#[derive(Clone, Debug)]
pub struct Report {
    /// The tracer.
    pub name: &'static str,
    /// Single numbers.
    pub facts: Vec<Fact>,
    /// Tables.
    pub tables: Vec<Table>,
}

/// How much of it is shown, and in which order.
#[derive(Clone, Debug)]
pub struct View {
    /// The column to sort by, where there is such.
    pub sort: Option<String>,
    /// Rows of a table; 0: all.
    pub top: usize,
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Cell::Number(number, Unit::Count) => text::count(*number),
            Cell::Number(number, Unit::Time) => text::time(*number),
            Cell::Text(text) => text::printable(&few_frames(text)),
        }
    }

    fn json(&self) -> Value {
        match self {
            Cell::Number(number, _) => json!(number),
            Cell::Text(text) => json!(text),
        }
    }

    /// Great numbers first, texts by the alphabet.
    fn order(&self, other: &Cell) -> Ordering {
        match (self, other) {
            (Cell::Number(a, _), Cell::Number(b, _)) => b.cmp(a),
            (Cell::Text(a), Cell::Text(b)) => a.cmp(b),
            (Cell::Number(..), Cell::Text(_)) => Ordering::Less,
            (Cell::Text(_), Cell::Number(..)) => Ordering::Greater,
        }
    }
}

/// Between the frames of a call stack.
pub const FRAME_SEPARATOR: &str = " < ";
/// So many frames of a call stack fit a line; JSON has them all.
const FEW_FRAMES: usize = 6;

fn few_frames(text: &str) -> String {
    let frames: Vec<&str> = text.split(FRAME_SEPARATOR).collect();
    match frames.get(..FEW_FRAMES) {
        Some(first) if frames.len() > FEW_FRAMES + 1 => {
            let more = frames.len() - FEW_FRAMES;
            format!("{}{FRAME_SEPARATOR}... {more} more", first.join(FRAME_SEPARATOR))
        }
        _ => text.to_owned(),
    }
}

impl Table {
    fn arrange(&mut self, view: &View) {
        let Some(usual) = self.sorted else { return };
        let wanted = view.sort.as_deref().and_then(|key| self.column(key));
        let Some(column) = wanted.or_else(|| self.column(usual)) else { return };
        self.rows.sort_by(|a, b| {
            let rest = || a.iter().zip(b).map(|(a, b)| a.order(b)).find(|order| order.is_ne());
            a[column].order(&b[column]).then_with(|| rest().unwrap_or(Ordering::Equal))
        });
    }

    fn column(&self, key: &str) -> Option<usize> {
        self.columns.iter().position(|column| *column == key)
    }

    fn shown(&self, view: &View) -> usize {
        match (self.sorted, view.top) {
            (None, _) | (_, 0) => self.rows.len(),
            (_, top) => top.min(self.rows.len()),
        }
    }

    fn write(&self, view: &View, out: &mut dyn Write) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let shown = self.shown(view);
        writeln!(out, "\n  {}", self.title)?;
        let texts: Vec<Vec<String>> =
            self.rows[..shown].iter().map(|row| row.iter().map(Cell::text).collect()).collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                let cells = texts.iter().filter_map(|row| row.get(column));
                let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
                widest.max(self.columns[column].len())
            })
            .collect();
        // Numbers to the right, texts to the left; no blanks at a line's end.
        let numeric = |column: usize| matches!(self.rows[0].get(column), Some(Cell::Number(..)));
        let mut line = |cells: &mut dyn Iterator<Item = String>| -> Result<()> {
            let mut text = String::new();
            for (column, cell) in cells.enumerate() {
                let width = widths[column];
                match numeric(column) {
                    true => text += &format!("  {cell:>width$}"),
                    false => text += &format!("  {cell:<width$}"),
                }
            }
            Ok(writeln!(out, "  {}", text.trim_end())?)
        };
        line(&mut self.columns.iter().map(|column| column.to_ascii_uppercase().replace('_', " ")))?;
        for row in texts {
            line(&mut row.into_iter())?;
        }
        if shown < self.rows.len() {
            let more = text::count((self.rows.len() - shown) as u64);
            writeln!(out, "    ... {more} more (--top 0 shows all)")?;
        }
        Ok(())
    }

    fn json(&self, view: &View) -> Value {
        let row = |row: &Vec<Cell>| {
            let cells = self.columns.iter().zip(row);
            Value::Object(cells.map(|(key, cell)| ((*key).to_owned(), cell.json())).collect())
        };
        Value::Array(self.rows[..self.shown(view)].iter().map(row).collect())
    }
}

impl Report {
    /// A report without anything has no heading either.
    fn write(&self, view: &View, out: &mut dyn Write) -> Result<()> {
        if self.facts.is_empty() && self.tables.iter().all(|table| table.rows.is_empty()) {
            return Ok(());
        }
        writeln!(out, "\n{}", self.name.to_ascii_uppercase())?;
        let label = self.facts.iter().map(|fact| fact.label.len()).max().unwrap_or(0);
        let values: Vec<String> = self.facts.iter().map(|fact| fact.value.text()).collect();
        let value = values.iter().map(String::len).max().unwrap_or(0);
        for (fact, text) in self.facts.iter().zip(&values) {
            writeln!(out, "    {:<label$}  {text:>value$}", fact.label)?;
        }
        self.tables.iter().try_for_each(|table| table.write(view, out))
    }

    fn json(&self, view: &View) -> Value {
        let mut object = Map::new();
        for fact in &self.facts {
            object.insert(fact.key.to_owned(), fact.value.json());
        }
        for table in &self.tables {
            object.insert(table.key.to_owned(), table.json(view));
        }
        Value::Object(object)
    }
}

/// Sorts the tables of all reports; an error if none has the wanted column.
pub fn arrange(reports: &mut [Report], view: &View) -> Result<()> {
    let tables = || reports.iter().flat_map(|report| &report.tables).filter(|t| t.sorted.is_some());
    if let Some(key) = &view.sort {
        if !tables().any(|table| table.column(key).is_some()) {
            let mut keys: Vec<_> = tables().flat_map(|table| table.columns).copied().collect();
            keys.sort_unstable();
            keys.dedup();
            return Err(Error::new(format!("--sort {key}: the columns are {}", keys.join(", "))));
        }
    }
    reports.iter_mut().flat_map(|report| &mut report.tables).for_each(|table| table.arrange(view));
    Ok(())
}

/// As text.
pub fn write(reports: &[Report], view: &View, out: &mut dyn Write) -> Result<()> {
    reports.iter().try_for_each(|report| report.write(view, out))
}

/// As one JSON object.
pub fn json(reports: &[Report], view: &View) -> Map<String, Value> {
    reports.iter().map(|report| (report.name.to_owned(), report.json(view))).collect()
}

#[cfg(test)]
mod tests {
    use super::few_frames;

    #[test]
    fn a_long_stack_is_cut_and_says_how_much_of_it_is_left_out() {
        let stack = |frames: usize| vec!["f"; frames].join(" < ");
        assert_eq!(few_frames("main (main.c:1)"), "main (main.c:1)");
        assert_eq!(few_frames(&stack(7)), stack(7));
        assert_eq!(few_frames(&stack(9)), stack(6) + " < ... 3 more");
    }
}
