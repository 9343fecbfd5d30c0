//! Stall reports: where a reader is that keeps a grace period waiting.

mod image;
mod line;
mod rows;
mod symbols;
mod unwind;

#[cfg(test)]
mod tests;

pub use image::Images;
pub use line::Line;
pub use unwind::{unwind, Frames, Snapshot, REGISTERS, STACK_COPY};
