//! The server's side of the dialects of the stub: parsing requests, and encoding answers. A
//! request's first bytes show its dialect.

use std::io::{self, BufRead, Read};

/// The item of a key.
#[derive(Clone, Debug, Default)]
pub struct Item {
    pub flags: u32,
    pub value: Vec<u8>,
}

/// A request in any dialect.
#[derive(Debug)]
pub struct StubRequest {
    /// The name in the text protocol; `noop` ends a multi-get of binary and meta.
    pub verb: String,
    pub keys: Vec<String>,
    /// In a store.
    pub flags: u32,
    pub value: Vec<u8>,
    form: Form,
}

/// How the answer is encoded.
#[derive(Debug)]
enum Form {
    Text,
    Binary {
        opcode: u8,
        opaque: [u8; 4],
    },
    /// Quiet: no answer to a miss.
    Meta {
        opaque: String,
        is_quiet: bool,
    },
}

/// The answer to a request.
#[derive(Debug)]
pub enum Answer {
    /// Keys and items that were found.
    Items(Vec<(String, Item)>),
    /// A line of the text protocol.
    Word(&'static str),
}

/// The binary opcodes that the tools use, getkq being a get.
const OPCODES: [(u8, &str); 11] = [
    (0x00, "get"),
    (0x01, "set"),
    (0x02, "add"),
    (0x03, "replace"),
    (0x04, "delete"),
    (0x0a, "noop"),
    (GETKQ, "get"),
    (0x0e, "append"),
    (0x0f, "prepend"),
    (0x1c, "touch"),
    (0x1d, "gat"),
];

const GETKQ: u8 = 0x0d;

/// The next request; None at the end of the connection.
pub fn read(input: &mut impl BufRead) -> io::Result<Option<StubRequest>> {
    let Some(&first) = input.fill_buf()?.first() else { return Ok(None) };
    if first == 0x80 {
        return read_binary(input).map(Some);
    }
    let mut line = String::new();
    input.read_line(&mut line)?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_meta = words[0].len() == 2 && words[0].starts_with('m');
    if is_meta { read_meta(&words, input) } else { read_text(&words, input) }.map(Some)
}

/// The value after a line.
fn read_value(bytes: &str, input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut value = vec![0; bytes.parse().expect("a length")];
    input.read_exact(&mut value)?;
    input.read_exact(&mut [0; 2])?;
    Ok(value)
}

fn read_text(words: &[&str], input: &mut impl Read) -> io::Result<StubRequest> {
    let (verb, form) = (words[0].to_owned(), Form::Text);
    let keys = |from: usize| words[from..].iter().map(|&key| key.to_owned()).collect();
    Ok(match words[0] {
        "get" => StubRequest { verb, keys: keys(1), flags: 0, value: vec![], form },
        "gat" => StubRequest { verb, keys: keys(2), flags: 0, value: vec![], form },
        "delete" | "touch" => {
            StubRequest { verb, keys: vec![words[1].to_owned()], flags: 0, value: vec![], form }
        }
        _ => {
            let (keys, flags) = (vec![words[1].to_owned()], words[2].parse().expect("flags"));
            StubRequest { verb, keys, flags, value: read_value(words[4], input)?, form }
        }
    })
}

fn read_binary(input: &mut impl Read) -> io::Result<StubRequest> {
    let mut header = [0; 24];
    input.read_exact(&mut header)?;
    let short = |at: usize| usize::from(u16::from_be_bytes([header[at], header[at + 1]]));
    let word = |at: usize| -> [u8; 4] { header[at..at + 4].try_into().expect("four bytes") };
    let mut body = vec![0; u32::from_be_bytes(word(8)) as usize];
    input.read_exact(&mut body)?;
    let (extras, rest) = body.split_at(header[4].into());
    let (key, value) = rest.split_at(short(2));
    let opcode = header[1];
    let known = OPCODES.iter().find(|(known, _)| *known == opcode);
    let flags = extras.first_chunk().filter(|_| extras.len() == 8);
    Ok(StubRequest {
        verb: known.expect("an opcode that the tools use").1.to_owned(),
        keys: if key.is_empty() { vec![] } else { vec![text(key)] },
        flags: flags.map_or(0, |flags| u32::from_be_bytes(*flags)),
        value: value.to_vec(),
        form: Form::Binary { opcode, opaque: word(12) },
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("keys are text")
}

fn read_meta(words: &[&str], input: &mut impl Read) -> io::Result<StubRequest> {
    let marks = &words[if words[0] == "ms" { 3 } else { words.len().min(2) }..];
    let mark = |flag: char| marks.iter().find_map(|mark| mark.strip_prefix(flag));
    let verb = match (words[0], mark('M')) {
        ("mn", _) => "noop",
        ("md", _) => "delete",
        ("mg", _) if mark('v').is_none() => "touch",
        ("mg", _) if mark('T').is_some() => "gat",
        ("mg", _) => "get",
        (_, Some("E")) => "add",
        (_, Some("R")) => "replace",
        (_, Some("A")) => "append",
        (_, Some("P")) => "prepend",
        _ => "set",
    };
    let value = if words[0] == "ms" { read_value(words[2], input)? } else { vec![] };
    Ok(StubRequest {
        verb: verb.to_owned(),
        keys: words.get(1).map(|&key| key.to_owned()).into_iter().collect(),
        flags: mark('F').map_or(0, |flags| flags.parse().expect("flags")),
        value,
        form: Form::Meta {
            opaque: mark('O').unwrap_or_default().to_owned(),
            is_quiet: mark('q').is_some(),
        },
    })
}

impl StubRequest {
    /// The answer's bytes.
    pub fn encode(&self, answer: Answer) -> Vec<u8> {
        match &self.form {
            Form::Text => encode_text(answer),
            Form::Binary { opcode, opaque } => self.encode_binary(*opcode, *opaque, answer),
            Form::Meta { opaque, is_quiet } => encode_meta(opaque, *is_quiet, answer),
        }
    }

    fn encode_binary(&self, opcode: u8, opaque: [u8; 4], answer: Answer) -> Vec<u8> {
        let (status, key, item) = match answer {
            Answer::Items(items) => match items.into_iter().next() {
                Some((key, item)) => (0, key, Some(item)),
                None if opcode == GETKQ => return vec![],
                None => (1, String::new(), None),
            },
            Answer::Word("NOT_FOUND") => (1, String::new(), None),
            Answer::Word("NOT_STORED") => {
                let status = match &self.verb[..] {
                    "add" => 2,
                    "replace" => 1,
                    _ => 5,
                };
                (status, String::new(), None)
            }
            Answer::Word(_) => (0, String::new(), None),
        };
        let key = if opcode == GETKQ { key } else { String::new() };
        let (extras, value) = match item {
            Some(item) => (item.flags.to_be_bytes().to_vec(), item.value),
            None => (vec![], vec![]),
        };
        let body_bytes = (extras.len() + key.len() + value.len()) as u32;
        let mut bytes = vec![0x81, opcode, 0, key.len() as u8, extras.len() as u8, 0, 0, status];
        bytes.extend(body_bytes.to_be_bytes());
        bytes.extend(opaque);
        bytes.extend([0; 8]);
        [bytes, extras, key.into_bytes(), value].concat()
    }
}

fn encode_text(answer: Answer) -> Vec<u8> {
    match answer {
        Answer::Word(word) => format!("{word}\r\n").into_bytes(),
        Answer::Items(items) => {
            let mut bytes = vec![];
            for (key, Item { flags, value }) in items {
                let head = format!("VALUE {key} {flags} {}\r\n", value.len());
                bytes.extend([head.as_bytes(), &value, b"\r\n"].concat());
            }
            bytes.extend(b"END\r\n");
            bytes
        }
    }
}

fn encode_meta(opaque: &str, is_quiet: bool, answer: Answer) -> Vec<u8> {
    let code = match answer {
        Answer::Items(items) => match items.into_iter().next() {
            Some((key, Item { flags, value })) => {
                let head = format!("VA {} f{flags} k{key} O{opaque}\r\n", value.len());
                return [head.as_bytes(), &value, b"\r\n"].concat();
            }
            None if is_quiet => return vec![],
            None => return b"EN\r\n".to_vec(),
        },
        Answer::Word("END") => return b"MN\r\n".to_vec(),
        Answer::Word("NOT_FOUND") => "NF",
        Answer::Word("NOT_STORED") => "NS",
        Answer::Word(_) => "HD",
    };
    format!("{code} O{opaque}\r\n").into_bytes()
}
