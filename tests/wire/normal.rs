//! Removes from an answer what two correct servers may answer differently: the version, and the
//! numbers (not the pattern) of cas values. Only here, so that no other difference is ever hidden.
//!
//! An answer that cannot be parsed is kept and compared unchanged.

use crate::table::{Protocol, SENTINEL_OPAQUE};
use std::collections::BTreeSet;

/// Bytes of a binary header.
pub const HEADER_BYTES: usize = 24;

/// A comparable answer, and its last cas.
pub struct Normal {
    pub bytes: Vec<u8>,
    pub last_cas: Option<u64>,
}

/// Numbers cas values in the order in which they first appear, so that equal ones stay equal.
#[derive(Default)]
struct Seen(Vec<u64>);

impl Seen {
    fn number(&mut self, cas: u64) -> u64 {
        let at = self.0.iter().position(|&seen| seen == cas).unwrap_or_else(|| {
            self.0.push(cas);
            self.0.len() - 1
        });
        at as u64 + 1
    }
}

/// Normalises a whole answer.
pub fn normalise(protocol: Protocol, answer: &[u8]) -> Normal {
    let mut seen = Seen::default();
    let bytes = match protocol {
        Protocol::Text => text(answer, &mut seen),
        Protocol::Binary => binary(answer, &mut seen),
    };
    Normal { bytes, last_cas: seen.0.last().copied() }
}

/// The end of the first line, after its `\
/// `.
fn line_end(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| at + 1)
}

fn text(mut rest: &[u8], seen: &mut Seen) -> Vec<u8> {
    let mut out = vec![];
    while !rest.is_empty() {
        let (line, after) = rest.split_at(line_end(rest));
        rest = after;
        if line.starts_with(b"VERSION ") && line.ends_with(b"\r\n") {
            out.extend(b"VERSION *\r\n");
        } else if let Some((head, value_bytes)) = value_head(line, seen) {
            out.extend(head);
            let (value, after) = rest.split_at(rest.len().min(value_bytes + 2));
            out.extend(value);
            rest = after;
        } else {
            out.extend(line);
        }
    }
    out
}

/// The head of a value with its cas numbered, and the value's length.
fn value_head(line: &[u8], seen: &mut Seen) -> Option<(Vec<u8>, usize)> {
    let words: Vec<&[u8]> = line.strip_suffix(b"\r\n")?.split(|&byte| byte == b' ').collect();
    if !(4..=5).contains(&words.len()) || words[0] != b"VALUE" {
        return None;
    }
    let value_bytes = std::str::from_utf8(words[3]).ok()?.parse().ok()?;
    let Some(cas) = words.get(4) else {
        return Some((line.to_vec(), value_bytes));
    };
    let cas = std::str::from_utf8(cas).ok()?.parse().ok()?;
    let mut head = words[..4].join(&b' ');
    head.extend(format!(" cas{}\r\n", seen.number(cas)).into_bytes());
    Some((head, value_bytes))
}

/// The length of one binary response, if it is complete.
pub fn response_bytes(bytes: &[u8]) -> Option<usize> {
    let header = bytes.get(..HEADER_BYTES)?;
    let body = u32::from_be_bytes([header[8], header[9], header[10], header[11]]) as usize;
    (header[0] == 0x81 && bytes.len() - HEADER_BYTES >= body).then_some(HEADER_BYTES + body)
}

fn binary(mut rest: &[u8], seen: &mut Seen) -> Vec<u8> {
    let mut out = vec![];
    while let Some(len) = response_bytes(rest) {
        let (response, after) = rest.split_at(len);
        rest = after;
        let mut response = response.to_vec();
        let (opcode, status) = (response[1], (response[6], response[7]));
        let cas = u64::from_be_bytes(response[16..24].try_into().expect("eight bytes"));
        if cas != 0 {
            response[16..24].copy_from_slice(&seen.number(cas).to_be_bytes());
        }
        if opcode == 0x0b && status == (0, 0) {
            response.truncate(HEADER_BYTES);
            response[8..12].fill(0);
        }
        out.extend(response);
    }
    out.extend(rest);
    out
}

/// Splits an answer to statistics requests into the names, with digits removed (slab classes and
/// descriptors differ), and everything else.
pub fn stat_names(protocol: Protocol, answer: &[u8]) -> (BTreeSet<String>, Vec<u8>) {
    let mut names = BTreeSet::new();
    let mut other = vec![];
    let mut add = |name: &[u8]| {
        let name = String::from_utf8_lossy(name);
        names.insert(name.chars().filter(|c| !c.is_ascii_digit()).collect::<String>());
    };
    let mut rest = answer;
    while !rest.is_empty() {
        let len = match protocol {
            Protocol::Text => line_end(rest),
            Protocol::Binary => response_bytes(rest).unwrap_or(rest.len()),
        };
        let (one, after) = rest.split_at(len);
        rest = after;
        let name = match protocol {
            Protocol::Text => {
                one.strip_prefix(b"STAT ").and_then(|s| s.split(|&b| b == b' ').next())
            }
            Protocol::Binary => binary_stat_name(one),
        };
        match name {
            Some(name) => add(name),
            None => other.extend(one),
        }
    }
    (names, other)
}

fn binary_stat_name(response: &[u8]) -> Option<&[u8]> {
    let key_bytes = usize::from(u16::from_be_bytes([*response.get(2)?, *response.get(3)?]));
    let is_stat = response[1] == 0x10 && response.get(6..8)? == [0, 0] && key_bytes > 0;
    is_stat.then(|| response.get(HEADER_BYTES..HEADER_BYTES + key_bytes)).flatten()
}

/// Start and end of the answer to the sentinel, if it has arrived.
pub fn sentinel_answer(protocol: Protocol, answer: &[u8]) -> Option<(usize, usize)> {
    match protocol {
        Protocol::Text => {
            let start = answer.windows(8).rposition(|window| window == b"VERSION ")?;
            answer[start..].ends_with(b"\r\n").then_some((start, answer.len()))
        }
        Protocol::Binary => {
            let start = answer.len().checked_sub(HEADER_BYTES)?;
            let is_it = answer[start..start + 2] == [0x81, 0x0a]
                && answer[start + 12..start + 16] == SENTINEL_OPAQUE.to_be_bytes();
            is_it.then_some((start, answer.len()))
        }
    }
}
