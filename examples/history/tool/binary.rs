//! The binary protocol: one operation to bytes, bytes to its outcome.
//!
//! Says the same as `text` in the same words: an add that finds something is NotStored, as is a
//! replace that finds nothing. Never waits and never believes a length beyond [`VALUE_BYTES_MAX`].

use super::operation::{Command, Hit, Operation, Outcome, key_name};
use super::text::{Answer, VALUE_BYTES_MAX};

const HEADER_BYTES: usize = 24;

/// The exptime with which incr and decr make no item.
const NO_ITEM: u32 = u32::MAX;

fn opcode(command: Command) -> u8 {
    match command {
        Command::Get | Command::Gets => 0x00,
        Command::Set { .. } | Command::Cas => 0x01,
        Command::Add => 0x02,
        Command::Replace => 0x03,
        Command::Delete => 0x04,
        Command::Incr => 0x05,
        Command::Decr => 0x06,
        Command::Flush => 0x08,
        Command::Append => 0x0e,
        Command::Prepend => 0x0f,
        Command::Touch { .. } => 0x1c,
        Command::Gat { .. } | Command::Gats { .. } => 0x1d,
    }
}

/// Adds the request's bytes to `out`. The operation has at most one key.
pub fn encode(operation: &Operation, out: &mut Vec<u8>) {
    let Operation { command, flags, exptime, value, .. } = operation;
    let key = operation.keys.first().map(|&key| key_name(key)).unwrap_or_default();
    let mut extras = vec![];
    match command {
        Command::Gat { .. } | Command::Gats { .. } | Command::Touch { .. } => {
            extras.extend(exptime.to_be_bytes());
        }
        Command::Incr | Command::Decr => {
            extras.extend(1_u64.to_be_bytes());
            extras.extend(0_u64.to_be_bytes());
            extras.extend(NO_ITEM.to_be_bytes());
        }
        _ if command.is_base_write() => {
            extras.extend(flags.to_be_bytes());
            extras.extend(exptime.to_be_bytes());
        }
        _ => {}
    }
    let body = extras.len() + key.len() + value.len();
    out.extend([0x80, opcode(*command)]);
    out.extend((key.len() as u16).to_be_bytes());
    out.extend([extras.len() as u8, 0, 0, 0]);
    out.extend((body as u32).to_be_bytes());
    out.extend((operation.version as u32).to_be_bytes());
    out.extend(operation.unique.to_be_bytes());
    out.extend(extras);
    out.extend(key.as_bytes());
    out.extend(value);
}

/// Reads the answer to `operation` at the start of `input`.
pub fn parse<'a>(operation: &Operation, input: &'a [u8]) -> Answer<'a> {
    let Some((header, rest)) = input.split_first_chunk::<HEADER_BYTES>() else {
        return Answer::Incomplete;
    };
    let short = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let word = |at: usize| u32::from_be_bytes(*header[at..].first_chunk().expect("in the header"));
    let (magic, got, extras) = (header[0], header[1], usize::from(header[4]));
    let (body, key) = (word(8) as usize, usize::from(short(2)));
    let expected = opcode(operation.command);
    if magic != 0x81 || got != expected || body > VALUE_BYTES_MAX || extras + key > body {
        return Answer::Lost(format!("a head {}", header.escape_ascii()));
    }
    if word(12) != operation.version as u32 {
        return Answer::Lost(format!("opaque {:#x}", word(12)));
    }
    let Some(body) = rest.get(..body) else { return Answer::Incomplete };
    let (head, value) = body.split_at(extras + key);
    let unique = u64::from_be_bytes(*header[16..].first_chunk().expect("in the header"));
    let outcome = outcome(operation, short(6), head, value, unique);
    Answer::Whole(outcome, HEADER_BYTES + body.len())
}

fn outcome<'a>(
    operation: &Operation,
    status: u16,
    head: &[u8],
    value: &'a [u8],
    unique: u64,
) -> Outcome<'a> {
    let command = operation.command;
    match status {
        0 if command.is_retrieval() => {
            let Some(flags) = head.first_chunk().filter(|_| head.len() == 4) else {
                return Outcome::Nonsense(format!("answered with extras {}", head.escape_ascii()));
            };
            let flags = u32::from_be_bytes(*flags);
            let key = operation.keys[0];
            Outcome::Values(vec![Hit { key, flags, value, unique }])
        }
        0 => match (command, value.first_chunk()) {
            (Command::Incr | Command::Decr, Some(number)) => {
                Outcome::Number(u64::from_be_bytes(*number))
            }
            (Command::Delete, _) => Outcome::Deleted,
            (Command::Touch { .. }, _) => Outcome::Touched,
            (Command::Flush, _) => Outcome::Ok,
            _ => Outcome::Stored,
        },
        1 if command.is_retrieval() => Outcome::Values(vec![]),
        1 if command == Command::Replace => Outcome::NotStored,
        1 => Outcome::NotFound,
        2 if command == Command::Add => Outcome::NotStored,
        2 => Outcome::Exists,
        5 => Outcome::NotStored,
        // Out of memory, internal error, busy, temporary failure; and too large.
        3 | 0x82 | 0x84 | 0x85 | 0x86 => {
            Outcome::Failed(format!("status {status:#x} {}", value.escape_ascii()))
        }
        _ => Outcome::Nonsense(format!("status {status:#x} {}", value.escape_ascii())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(opcode: u8, status: u8, extras: &[u8], value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x81, opcode, 0, 0, extras.len() as u8, 0, 0, status];
        bytes.extend(((extras.len() + value.len()) as u32).to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(99_u64.to_be_bytes());
        bytes.extend(extras);
        bytes.extend(value);
        bytes
    }

    #[test]
    fn a_request_has_its_lengths() {
        let mut set = Operation::on(Command::Cas, 3);
        (set.flags, set.unique, set.version) = (7, 9, 5);
        set.value = b"abc".to_vec();
        let mut out = vec![];
        encode(&set, &mut out);
        let head = b"\x80\x01\x00\x09\x08\0\0\0\0\0\0\x14\0\0\0\x05\0\0\0\0\0\0\0\x09";
        assert_eq!(&out[..24], head);
        assert_eq!(&out[24..], b"\0\0\0\x07\0\0\0\0history-3abc");
    }

    #[test]
    fn answers() {
        let get = Operation::on(Command::Gets, 3);
        let hit = answer(0, 0, &[0, 0, 0, 5], b"abc");
        for cut in 0..hit.len() {
            assert!(matches!(parse(&get, &hit[..cut]), Answer::Incomplete), "{cut}");
        }
        let Answer::Whole(Outcome::Values(hits), 31) = parse(&get, &hit) else {
            panic!("{:?}", parse(&get, &hit))
        };
        assert_eq!((hits[0].key, hits[0].flags, hits[0].unique), (3, 5, 99));
        assert_eq!(hits[0].value, b"abc");
        let add = Operation::on(Command::Add, 3);
        let there = answer(2, 2, &[], b"Data exists for key.");
        assert!(matches!(parse(&add, &there), Answer::Whole(Outcome::NotStored, 44)));
        let other = answer(3, 0, &[], b"");
        assert!(matches!(parse(&add, &other), Answer::Lost(_)));
        let incr = Operation::on(Command::Incr, 3);
        let number = answer(5, 0, &[], &7_u64.to_be_bytes());
        assert!(matches!(parse(&incr, &number), Answer::Whole(Outcome::Number(7), 32)));
    }
}
