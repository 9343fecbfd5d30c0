// SPDX-License-Identifier: MIT OR Apache-2.0
//! Traces for other programs.

pub mod chrome;
pub mod flame;
pub mod late;
