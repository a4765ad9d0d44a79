//! `sunder top` and `sunder stat`: what the admin port of a server says, on a terminal and as
//! lines.
//!
//! Clients of `/feed`, as the live page is. They ask and show, and change nothing.
//!
//! ```text
//! http ──> source: the feed, and the seconds not seen yet ──┬─> stat: a line for some of them
//!                                                           └─> terminal ──> screen: all at once
//! ```

mod attention;
mod figures;
mod http;
mod screen;
mod source;
mod stat;
mod terminal;

use std::process::ExitCode;

pub use stat::{StatRequest, stat};
pub use terminal::top;

use crate::base::console::complain;

/// Says in one line why a command cannot go on.
fn fail(command: &str, reason: impl std::fmt::Display) -> ExitCode {
    complain(format_args!("sunder {command}: {reason}"));
    ExitCode::FAILURE
}
