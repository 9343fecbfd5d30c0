//! What the headers say of where each function may be called: the tables at their beginnings.
//!
//! A table begins below `signal ... / handler ...` and ends at an empty line. Names are separated by
//! commas; the line of the last one has the columns.

use std::fs;

use super::root;

/// The headers that have such a table.
pub const HEADERS: [&str; 3] = ["rcu_notrace.h", "rcu_notrace/rcu.h", "rcu_notrace/tracepoint.h"];

/// Some functions, and whether signal handlers may call them.
#[derive(Debug)]
pub struct Row {
    pub names: Vec<String>,
    pub in_handlers: bool,
}

/// The rows of all headers.
pub fn rows() -> Vec<Row> {
    HEADERS.iter().flat_map(|header| rows_of(header)).collect()
}

fn rows_of(header: &str) -> Vec<Row> {
    let path = root().join("include").join(header);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut lines = text.lines().map(|line| line.strip_prefix(" *").unwrap_or_default());
    assert!(
        lines.any(|line| line.trim_start().starts_with("handler")),
        "{header} has no table of where its functions may be called"
    );
    let (mut rows, mut names) = (Vec::new(), Vec::new());
    for line in lines.take_while(|line| !line.trim().is_empty()) {
        let (left, columns) = columns(line.trim());
        names.extend(left.split(',').filter_map(name).map(str::to_owned));
        let Some(first) = columns.split_whitespace().next() else { continue };
        let in_handlers = match first {
            "yes" => true,
            "no" => false,
            _ => panic!("{header}: `{line}`: may signal handlers call it, yes or no?"),
        };
        assert!(!names.is_empty(), "{header}: `{line}`: of what?");
        rows.push(Row { names: std::mem::take(&mut names), in_handlers });
    }
    assert!(names.is_empty(), "{header}: {names:?}: no columns");
    assert!(!rows.is_empty(), "{header}: its table is empty");
    rows
}

/// The names, and what stands behind them.
fn columns(line: &str) -> (&str, &str) {
    let is_column = |at: &usize| {
        let rest = line.get(*at..).unwrap_or_default();
        rest.starts_with(" yes") || rest.starts_with(" no ")
    };
    let at = (0..line.len()).find(is_column).unwrap_or(line.len());
    line.split_at(at)
}

/// `same_state_synchronize_rcu; and their _full` is of that name.
fn name(text: &str) -> Option<&str> {
    let name = text.split(';').next().unwrap_or_default().trim();
    (!name.is_empty()).then_some(name)
}
