//! `lru_crawler metadump` and `mgdump`: who lists, and how an item is listed (protocol.txt, "LRU
//! Crawler"). memcached's lines of a metadump end in a line feed alone, those of an mgdump and the
//! last one in both.

use super::line::unsigned_32;
use super::{CRAWLER_OFF, ERROR, answer};
use crate::base::buffer::Gather;
use crate::base::clock::Expiry;
use crate::base::limits::item_bytes;
use crate::protocol::{Command, Fixed, Limits};
use crate::tier::{DumpedItem, Outcome};

/// Another connection is listing items.
pub const DUMP_BUSY: Fixed = Fixed::new(b"BUSY currently processing crawler request\r\n");

const BAD_CLASS: Fixed = Fixed::new(b"BADCLASS invalid class id\r\n");
const METADUMP_OFF: Fixed = Fixed::new(b"ERROR metadump not allowed\r\n");
const MGDUMP_OFF: Fixed = Fixed::new(b"ERROR key dump not allowed\r\n");

/// Slab classes that memcached may have. Items here are in the first.
const CLASSES: std::ops::RangeInclusive<u32> = 1..=63;

/// What an item's line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpKind {
    /// What is known of it.
    Metadump,
    /// The command that asks for it.
    Mgdump,
}

/// `lru_crawler metadump|mgdump <class,class..|all|hash>`
pub(super) fn parse<'a>(kind: DumpKind, classes: &[u8], limits: &Limits) -> Command<'a> {
    if !limits.dump {
        return answer(if kind == DumpKind::Metadump { METADUMP_OFF } else { MGDUMP_OFF });
    }
    if matches!(classes, b"all" | b"hash") {
        return Command::Dump { kind };
    }
    let mut has_first = false;
    for class in classes.split(|byte| *byte == b',') {
        match unsigned_32(class) {
            Some(class) if CLASSES.contains(&class) => has_first |= class == 1,
            _ => return answer(BAD_CLASS),
        }
    }
    if has_first { Command::Dump { kind } } else { answer(kind.end()) }
}

/// Why the items cannot be listed.
pub fn dump_failure<V>(outcome: &Outcome<V>) -> Fixed {
    match outcome {
        Outcome::Unsupported => CRAWLER_OFF,
        Outcome::Failed => Fixed::new(b"SERVER_ERROR backend failure\r\n"),
        _ => ERROR,
    }
}

impl DumpKind {
    /// The end of the reply.
    pub fn end(self) -> Fixed {
        match self {
            DumpKind::Metadump => Fixed::new(b"END\r\n"),
            DumpKind::Mgdump => Fixed::new(b"EN\r\n"),
        }
    }

    /// Writes an item's line.
    pub fn write(self, item: &DumpedItem, out: &mut Gather) {
        match self {
            DumpKind::Metadump => write_meta(item, out),
            DumpKind::Mgdump => write_get(item, out),
        }
    }
}

fn write_meta(item: &DumpedItem, out: &mut Gather) {
    let &DumpedItem { ref key, flags, expiry, used_s, cas, is_fetched, value_bytes } = item;
    out.extend(b"key=");
    for byte in key.as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.extend(&[*byte]);
            }
            _ => out.extend(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
    out.extend(b" exp=");
    match expiry {
        Expiry::NEVER => out.extend(b"-1"),
        _ => put(u64::from(expiry.unix_s()), out),
    }
    let bytes = item_bytes(key.as_bytes().len(), flags, value_bytes);
    let fetched: &[u8] = if is_fetched { b" fetch=yes" } else { b" fetch=no" };
    out.extend(b" la=");
    put(u64::from(used_s), out);
    out.extend(b" cas=");
    put(cas, out);
    out.extend(fetched);
    out.extend(b" cls=1 size=");
    put(bytes as u64, out);
    out.extend(b" flags=");
    put(u64::from(flags), out);
    out.extend(b"\n");
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// A key that a text command cannot name is in base64.
fn write_get(item: &DumpedItem, out: &mut Gather) {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let key = item.key.as_bytes();
    out.extend(b"mg ");
    if key.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
        out.extend(STANDARD.encode(key).as_bytes());
        out.extend(b" b");
    } else {
        out.extend(key);
    }
    out.extend(b"\r\n");
}

fn put(number: u64, out: &mut Gather) {
    out.extend(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::buffer::Key;

    fn item(key: &[u8], flags: u32, expiry: Expiry) -> DumpedItem {
        let key = Key::new(key).expect("short");
        DumpedItem { key, flags, expiry, used_s: 17, cas: 3, is_fetched: true, value_bytes: 5 }
    }

    fn line(kind: DumpKind, item: &DumpedItem) -> String {
        let mut out = Gather::new();
        kind.write(item, &mut out);
        let bytes: Vec<u8> = out.finish().pieces().flatten().copied().collect();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn an_item_is_listed_as_memcached_lists_it() {
        let plain = item("a\u{e4}%/+b".as_bytes(), 0, Expiry::NEVER);
        let expected = "key=a%C3%A4%25%2F%2Bb exp=-1 la=17 cas=3 fetch=yes cls=1 size=";
        let size = item_bytes(7, 0, 5);
        assert_eq!(line(DumpKind::Metadump, &plain), format!("{expected}{size} flags=0\n"));
        assert_eq!(line(DumpKind::Mgdump, &plain), "mg a\u{e4}%/+b\r\n");
        let other = item(b"a b", 9, Expiry::from_unix_s(1_800_000_000));
        let expected = "key=a%20b exp=1800000000 la=17 cas=3 fetch=yes cls=1 size=";
        let size = item_bytes(3, 9, 5);
        assert_eq!(line(DumpKind::Metadump, &other), format!("{expected}{size} flags=9\n"));
        assert_eq!(line(DumpKind::Mgdump, &other), "mg YSBi b\r\n");
    }
}
