// SPDX-License-Identifier: MIT OR Apache-2.0
//! # rcutrace: starts programs under the tracers, and says what they saw
//!
//! From a command to a report:
//!
//! * [`record`] creates the file and starts the command with the tracers preloaded, or speaks to a
//!   process that has them ([`control`]). The traced processes write into the file by themselves.
//! * [`file`] knows the file's layout, [`schema`] the descriptions of events; [`trace`] reads all
//!   definitions in one pass, [`merge`] then streams the events in the order of time.
//! * [`heap`], [`locks`] and [`calls`] follow what is live, held or active; [`report`], [`export`]
//!   and [`dump`] tell it. [`symbols`] and [`maps`] give names to addresses, [`clock`] turns ticks
//!   into time.
//!
//! docs/TRACES.md describes the file, the environment and the control socket.

pub mod calls;
pub mod cli;
pub mod clock;
pub mod control;
pub mod dump;
pub mod error;
pub mod export;
pub mod file;
pub mod heap;
pub mod locks;
pub mod maps;
pub mod merge;
pub mod progress;
pub mod record;
pub mod report;
pub mod schema;
pub mod sites;
pub mod symbols;
pub mod text;
pub mod trace;
