//! Which protocol a port speaks: `--protocol`.

use super::{Parsed, ValueError};
use crate::protocol::Binding;

/// A protocol by memcached's name for it.
///
/// # Errors
/// If it is none.
pub(crate) fn binding(text: &str) -> Parsed<Binding> {
    match text {
        "auto" => Ok(Binding::Auto),
        "ascii" => Ok(Binding::Ascii),
        "binary" => Ok(Binding::Binary),
        _ => Err(ValueError::new(text, "auto, ascii or binary")),
    }
}
