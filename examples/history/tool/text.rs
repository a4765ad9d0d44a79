//! The text protocol: one operation to bytes, bytes to its outcome.
//!
//! Never waits and never believes a length beyond [`VALUE_BYTES_MAX`].

use super::operation::{Command, Hit, Operation, Outcome, key_name, key_number};
use std::io::Write;

/// Longest value that an answer may have, in bytes.
pub const VALUE_BYTES_MAX: usize = 64 << 20;

/// Longest line that an answer may have, in bytes.
const LINE_BYTES_MAX: usize = 2048;

/// An answer, or what there is of it.
#[derive(Debug)]
pub enum Answer<'a> {
    /// More bytes are needed.
    Incomplete,
    /// The outcome and how many bytes it took.
    Whole(Outcome<'a>, usize),
    /// Bytes that are no answer; where the next one begins is not known.
    Lost(String),
}

/// Adds the request's bytes to `out`.
pub fn encode(operation: &Operation, out: &mut Vec<u8>) {
    let Operation { command, flags, exptime, unique, value, .. } = operation;
    out.extend(command.name().as_bytes());
    if let Command::Gat { .. } | Command::Gats { .. } = command {
        put(out, exptime);
    }
    for &key in &operation.keys {
        put(out, key_name(key));
    }
    let has_value = command.is_base_write() || command.is_record_write();
    if has_value {
        put(out, format_args!("{flags} {exptime} {}", value.len()));
    }
    match command {
        Command::Cas => put(out, unique),
        Command::Incr | Command::Decr => put(out, 1),
        Command::Touch { .. } => put(out, exptime),
        _ => {}
    }
    out.extend(b"\r\n");
    if has_value {
        out.extend(value);
        out.extend(b"\r\n");
    }
}

fn put(out: &mut Vec<u8>, word: impl std::fmt::Display) {
    write!(out, " {word}").expect("memory takes all");
}

/// Reads the answer to `operation` at the start of `input`.
pub fn parse<'a>(operation: &Operation, input: &'a [u8]) -> Answer<'a> {
    if operation.command.is_retrieval() {
        return parse_values(operation, input);
    }
    let Some(line) = first_line(input) else { return incomplete(input) };
    Answer::Whole(word(line), line.len() + 2)
}

fn incomplete(input: &[u8]) -> Answer<'_> {
    if input.len() < LINE_BYTES_MAX {
        return Answer::Incomplete;
    }
    Answer::Lost(format!("no end of line in {} bytes", input.len()))
}

fn first_line(input: &[u8]) -> Option<&[u8]> {
    let end = memchr::memmem::find(&input[..input.len().min(LINE_BYTES_MAX)], b"\r\n")?;
    Some(&input[..end])
}

fn word(line: &[u8]) -> Outcome<'static> {
    let text = || line.escape_ascii().to_string();
    match line {
        b"STORED" => Outcome::Stored,
        b"NOT_STORED" => Outcome::NotStored,
        b"EXISTS" => Outcome::Exists,
        b"NOT_FOUND" => Outcome::NotFound,
        b"DELETED" => Outcome::Deleted,
        b"TOUCHED" => Outcome::Touched,
        b"OK" => Outcome::Ok,
        _ if line.starts_with(b"SERVER_ERROR") => Outcome::Failed(text()),
        _ => match std::str::from_utf8(line).ok().and_then(|digits| digits.parse().ok()) {
            Some(number) => Outcome::Number(number),
            None => Outcome::Nonsense(format!("answered '{}'", text())),
        },
    }
}

fn parse_values<'a>(operation: &Operation, input: &'a [u8]) -> Answer<'a> {
    let mut hits: Vec<Hit<'a>> = vec![];
    let mut at = 0;
    loop {
        let rest = &input[at..];
        let Some(line) = first_line(rest) else { return incomplete(rest) };
        if line == b"END" {
            return Answer::Whole(Outcome::Values(hits), at + line.len() + 2);
        }
        let Some(head) = line.strip_prefix(b"VALUE ") else {
            // An error in place of the rest says nothing of the keys before it.
            let outcome = match word(line) {
                failed @ Outcome::Failed(_) => failed,
                _ => Outcome::Nonsense(format!("answered '{}'", line.escape_ascii())),
            };
            return Answer::Whole(outcome, at + line.len() + 2);
        };
        let head = parse_head(operation.command, head)
            .ok_or_else(|| format!("a head of a value '{}'", line.escape_ascii()));
        let (key, flags, bytes, unique) = match head {
            Ok(head) => head,
            Err(error) => return Answer::Lost(error),
        };
        let start = at + line.len() + 2;
        let Some(value) = input.get(start..start + bytes + 2) else { return Answer::Incomplete };
        let (value, end) = value.split_at(bytes);
        if end != b"\r\n" {
            return Answer::Lost(format!("{bytes} bytes of {} and no line end", key_name(key)));
        }
        hits.push(Hit { key, flags, value, unique });
        at = start + bytes + 2;
    }
}

/// Key, flags, bytes and unique of `KEY FLAGS BYTES[ UNIQUE]`.
fn parse_head(command: Command, head: &[u8]) -> Option<(usize, u32, usize, u64)> {
    let mut words = head.split(|&byte| byte == b' ');
    let key = key_number(words.next()?)?;
    let mut number = || std::str::from_utf8(words.next()?).ok()?.parse::<u64>().ok();
    let flags = u32::try_from(number()?).ok()?;
    let bytes = number()? as usize;
    let has_unique = matches!(command, Command::Gets | Command::Gats { .. });
    let unique = if has_unique { number()? } else { 0 };
    (words.next().is_none() && bytes <= VALUE_BYTES_MAX).then_some((key, flags, bytes, unique))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(operation: &Operation) -> String {
        let mut out = vec![];
        encode(operation, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn requests() {
        let mut set = Operation::on(Command::Set { expires: false }, 3);
        set.flags = 7;
        set.value = b"abc".to_vec();
        assert_eq!(encoded(&set), "set history-3 7 0 3\r\nabc\r\n");
        set.command = Command::Cas;
        set.unique = 9;
        assert_eq!(encoded(&set), "cas history-3 7 0 3 9\r\nabc\r\n");
        let gat = Operation::on(Command::Gat { expires: true }, 1);
        assert_eq!(encoded(&gat), "gat 2592001 history-1\r\n");
        assert_eq!(encoded(&Operation::on(Command::Incr, 1)), "incr history-1 1\r\n");
        let touch = Operation::on(Command::Touch { expires: true }, 1);
        assert_eq!(encoded(&touch), "touch history-1 2592001\r\n");
        let mut flush = Operation::on(Command::Flush, 0);
        flush.keys.clear();
        assert_eq!(encoded(&flush), "flush_all\r\n");
    }

    #[test]
    fn values_come_whole_or_not_at_all() {
        let mut gets = Operation::on(Command::Gets, 3);
        gets.keys.push(4);
        let answer = b"VALUE history-3 5 2 77\r\n\r\n\r\nVALUE history-4 6 0 78\r\n\r\nEND\r\n";
        for cut in 0..answer.len() {
            assert!(matches!(parse(&gets, &answer[..cut]), Answer::Incomplete), "{cut}");
        }
        let Answer::Whole(Outcome::Values(hits), 59) = parse(&gets, answer) else {
            panic!("{:?}", parse(&gets, answer))
        };
        assert_eq!((hits[0].key, hits[0].flags, hits[0].unique), (3, 5, 77));
        assert_eq!(hits[0].value, b"\r\n");
        assert_eq!((hits[1].key, hits[1].value.len()), (4, 0));
    }

    #[test]
    fn what_is_no_answer_is_told() {
        let get = Operation::on(Command::Get, 3);
        for bad in [
            &b"VALUE history-3 5 1\r\nabEND\r\n"[..],
            b"VALUE history-3 5 -1\r\n",
            b"VALUE other 5 1\r\na\r\nEND\r\n",
            b"VALUE history-3 5 99999999999\r\n",
            b"VALUE history-3 5 1 1 1\r\na\r\nEND\r\n",
        ] {
            assert!(matches!(parse(&get, bad), Answer::Lost(_)), "{}", bad.escape_ascii());
        }
        let failed = parse(&get, b"SERVER_ERROR no\r\n");
        assert!(matches!(failed, Answer::Whole(Outcome::Failed(_), 17)), "{failed:?}");
        let nonsense = parse(&get, b"STORED\r\n");
        assert!(matches!(nonsense, Answer::Whole(Outcome::Nonsense(_), 8)), "{nonsense:?}");
    }
}
