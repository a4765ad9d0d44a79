//! `sunder password`.

use clap::Args;

use super::value::{Number, Size};
use crate::base::credentials::WORD_BYTES_MAX;
use crate::base::limits::{HASH_KIB_MAX, HASH_PASSES_MAX};
use crate::config::{Parsed, ValueError};

/// Print a line for serve --auth-file with the hash of a password
///
/// The password is asked for on a terminal, and not shown; or it is the first line of standard
/// input. The hash is Argon2id's. Each login costs the server that much memory and time, on a
/// thread of its own.
#[derive(Args, Debug)]
#[command(after_help = "sunder password alice >>users")]
pub(super) struct Password {
    /// The user's name
    #[arg(value_name = "USER", value_parser = user)]
    user: String,
    /// Memory to compute it in
    #[arg(long, value_name = "SIZE", default_value = "19M")]
    memory: Size<{ 8 << 10 }, { (HASH_KIB_MAX as u64) << 10 }>,
    /// Passes over the memory
    #[arg(long, value_name = "N", default_value = "2")]
    passes: Number<1, { HASH_PASSES_MAX as u64 }>,
}

/// A user whose password is to be hashed, and what the hash costs.
#[derive(Debug)]
pub struct NewPassword {
    /// The user.
    pub user: String,
    /// Memory, in KiB.
    pub kib: u32,
    /// Passes over it.
    pub passes: u32,
}

impl Password {
    pub fn new_password(self) -> NewPassword {
        let Password { user, memory, passes } = self;
        NewPassword { user, kib: (memory.0 >> 10) as u32, passes: passes.0 as u32 }
    }
}

fn user(text: &str) -> Parsed<String> {
    let is_name = (1..=WORD_BYTES_MAX).contains(&text.len())
        && !text.contains(|c: char| c == ':' || c == ' ' || c.is_control());
    let expected = format!("a name of at most {WORD_BYTES_MAX} bytes without a colon or a space");
    is_name.then(|| text.to_owned()).ok_or_else(|| ValueError::new(text, expected))
}
