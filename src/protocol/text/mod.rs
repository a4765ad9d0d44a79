//! The text protocol.

use super::{Encoded, Head};
use crate::tier::Outcome;

/// How an outcome goes into text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A get's.
    Get {
        /// With cas.
        with_cas: bool,
    },
}

impl Form {
    /// Whether the reply repeats the key.
    pub fn needs_key(self) -> bool {
        true
    }
}

/// Encodes.
pub fn encode<V>(_: Form, _: &[u8], _: &Outcome<V>, _: usize, _: &mut Head) -> Encoded {
    Encoded { with_value: false, tail: b"" }
}
