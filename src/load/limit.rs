//! What is said of a value that a server refuses as too large: with the server's limit, asked for
//! on a connection of its own. `stats settings` of the text protocol tells it, whatever the tool
//! speaks.
//!
//! It never fails: a server that does not tell is named without its limit.

use std::io::{Read, Write};
use std::time::Duration;

use super::stream::{Target, Waiting};

/// How long the server may take for each piece of its answer, and the longest answer that is read.
const PATIENCE: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Says that the server at `target` takes no value of `value_bytes`.
pub fn too_large(target: &Target, value_bytes: usize) -> String {
    let limit = item_bytes_max(target).map_or_else(
        || "it does not tell its limit".to_owned(),
        |bytes| format!("its limit is {bytes} bytes for an item, key and header included"),
    );
    format!(
        "a value of {value_bytes} bytes is too large for the server: {limit}, set with -I \
         (--max-item-size)"
    )
}

fn item_bytes_max(target: &Target) -> Option<u64> {
    let mut stream = Waiting::connect(target, PATIENCE).ok()?;
    stream.write_all(b"stats settings\r\nquit\r\n").ok()?;
    let mut answer = Vec::new();
    // What was received before a failure counts.
    let _ = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
    told(&answer)
}

fn told(answer: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(answer);
    text.lines().find_map(|line| line.strip_prefix("STAT item_size_max ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_that_of_the_settings() {
        let settings = b"STAT maxbytes 1\r\nSTAT item_size_max 1048576\r\nEND\r\n";
        assert_eq!(told(settings), Some(1_048_576));
        assert_eq!(told(b"ERROR\r\n"), None);
    }
}
