// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can go wrong, as the one line that a user sees.

use std::fmt;
use std::io;

/// Why a command cannot go on.
#[derive(Debug)]
pub enum Error {
    /// A line for standard error.
    Message(String),
    /// Whoever read our output has enough of it: no error, and nothing to say.
    OutputClosed,
}

/// The result of nearly everything here.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `message`.
    pub fn new(message: impl Into<String>) -> Self {
        Error::Message(message.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Message(message) => f.write_str(message),
            Error::OutputClosed => f.write_str("the output was closed"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Error::OutputClosed,
            _ => Error::Message(error.to_string()),
        }
    }
}

/// Says what an input or output error was about.
pub trait About<T> {
    /// `about: the error`.
    fn about(self, about: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<Error>> About<T> for std::result::Result<T, E> {
    fn about(self, about: impl fmt::Display) -> Result<T> {
        self.map_err(|error| match error.into() {
            Error::Message(message) => Error::Message(format!("{about}: {message}")),
            closed => closed,
        })
    }
}
