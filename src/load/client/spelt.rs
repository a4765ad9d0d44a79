//! Meta commands as they are spelt, with every flag of their answers: for the tools that model what
//! [`wire`](crate::load::wire) has no words for.
//!
//! Never says what an answer means; that is the model's to say.

use super::{Client, Trouble};
use std::fmt;
use std::io::Write;

/// One answer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MetaAnswer {
    /// Its first word; of an error the whole line.
    pub code: String,
    /// Its flags, each with its token.
    flags: Vec<(u8, String)>,
    /// What an item has; of a text `get` too.
    pub value: Option<Vec<u8>>,
}

/// Value bytes that are shown.
const SHOWN_BYTES: usize = 40;

impl fmt::Display for MetaAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        for (flag, token) in &self.flags {
            write!(f, " {}{token}", char::from(*flag))?;
        }
        match &self.value {
            Some(value) => {
                let shown = &value[..value.len().min(SHOWN_BYTES)];
                write!(f, " with the value '{}'", shown.escape_ascii())
            }
            None => Ok(()),
        }
    }
}

impl MetaAnswer {
    /// Whether it has this flag.
    pub fn has(&self, flag: u8) -> bool {
        self.flags.iter().any(|(own, _)| *own == flag)
    }

    /// What stands behind a flag.
    pub fn token(&self, flag: u8) -> Option<&str> {
        self.flags.iter().find(|(own, _)| *own == flag).map(|(_, token)| &token[..])
    }

    /// The number behind a flag.
    pub fn number(&self, flag: u8) -> Option<u64> {
        self.token(flag).and_then(|token| token.parse().ok())
    }

    /// The server could not do it.
    pub fn is_failure(&self) -> bool {
        self.code.starts_with("SERVER_ERROR")
    }

    /// An answer for a test: `flags` as they are written.
    #[cfg(test)]
    pub fn of(code: &str, flags: &str, value: Option<&str>) -> MetaAnswer {
        let flag = |word: &str| (word.as_bytes()[0], word[1..].to_owned());
        let flags = flags.split(' ').filter(|word| !word.is_empty()).map(flag).collect();
        let value = value.map(|value| value.as_bytes().to_vec());
        MetaAnswer { code: code.to_owned(), flags, value }
    }

    /// Reads the answer at the start of `input`, and the bytes it took. None: more are needed.
    fn parse(input: &[u8]) -> Result<Option<(MetaAnswer, usize)>, Trouble> {
        let wrong = |why| Trouble::garbage(why, input);
        let Some(end) = memchr::memchr(b'\n', input) else { return Ok(None) };
        let line = input[..end].strip_suffix(b"\r").ok_or(wrong("a line without its end"))?;
        let line = std::str::from_utf8(line).map_err(|_| wrong("a line that is no text"))?;
        let mut words = line.split(' ');
        let code = words.next().unwrap_or_default();
        let (length, tail) = match code {
            "VA" => (words.next(), &b"\r\n"[..]),
            "VALUE" => (words.nth(2), &b"\r\nEND\r\n"[..]),
            "CLIENT_ERROR" | "SERVER_ERROR" | "ERROR" => {
                let answer = MetaAnswer { code: line.to_owned(), ..MetaAnswer::default() };
                return Ok(Some((answer, end + 1)));
            }
            _ => (None, &b""[..]),
        };
        let mut answer = MetaAnswer { code: code.to_owned(), ..MetaAnswer::default() };
        let mut bytes = end + 1;
        if !tail.is_empty() {
            let length = length.and_then(|length| length.parse::<usize>().ok());
            let length = length.ok_or(wrong("a value without a length"))?;
            let Some(value) = input.get(bytes..bytes + length + tail.len()) else {
                return Ok(None);
            };
            let value = value.strip_suffix(tail).ok_or(wrong("a value without its end"))?;
            answer.value = Some(value.to_vec());
            bytes += length + tail.len();
        }
        for word in words {
            let Some((&flag, token)) = word.as_bytes().split_first() else {
                return Err(wrong("two spaces"));
            };
            answer.flags.push((flag, String::from_utf8_lossy(token).into_owned()));
        }
        Ok(Some((answer, bytes)))
    }
}

impl Client {
    /// Sends a request and waits for its answer. A quiet one is followed by `mn`, which is the
    /// answer if there is no other. After an error the connection is of no use.
    ///
    /// # Errors
    /// There is no answer, or more than one.
    pub fn ask(&mut self, request: &[u8], is_quiet: bool) -> Result<MetaAnswer, Trouble> {
        self.output.clear();
        self.input.clear();
        self.output.extend_from_slice(request);
        if is_quiet {
            self.output.extend_from_slice(b"mn\r\n");
        }
        let deadline_ns = self.clock.read_ns() + self.timeout.as_nanos() as u64;
        self.stream.set_timeout(self.timeout).map_err(|error| self.trouble(error))?;
        let mut failed = self.stream.write_all(&self.output).err();
        let mut first: Option<MetaAnswer> = None;
        loop {
            match MetaAnswer::parse(&self.input)? {
                None => self.read(deadline_ns, &mut failed)?,
                Some((answer, bytes)) => {
                    let rest = self.input.split_off(bytes);
                    self.input = rest;
                    let is_last = !is_quiet || answer.code == "MN";
                    if is_last && !self.input.is_empty() || !is_last && first.is_some() {
                        return Err(Trouble::garbage("more than the answer", &self.input));
                    }
                    if is_last {
                        return Ok(first.unwrap_or(answer));
                    }
                    first = Some(answer);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_at_every_cut() {
        for text in
            ["VA 2 c5 W s2\r\nab\r\n", "HD O7\r\n", "VALUE k 0 2\r\nab\r\nEND\r\n", "MN\r\n"]
        {
            for cut in 0..text.len() {
                let parsed = MetaAnswer::parse(&text.as_bytes()[..cut]).expect("no garbage");
                assert_eq!(parsed, None, "{text} {cut}");
            }
            let (answer, bytes) = MetaAnswer::parse(text.as_bytes()).unwrap().expect("whole");
            assert_eq!(bytes, text.len());
            assert_eq!(answer.value.is_some(), text.starts_with("VA"));
        }
        let (answer, _) = MetaAnswer::parse(b"VA 2 c5 W\r\nab\r\n").unwrap().expect("whole");
        assert_eq!(
            (answer.number(b'c'), answer.has(b'W'), answer.has(b'X')),
            (Some(5), true, false)
        );
        let (answer, _) = MetaAnswer::parse(b"SERVER_ERROR a b\r\n").unwrap().expect("whole");
        assert!(answer.is_failure() && answer.code == "SERVER_ERROR a b");
        for wrong in [&b"VA x\r\n"[..], b"VA 1\r\nabc\r\n", b"HD  W\r\n", b"HD\n", b"VALUE k 0\r\n"]
        {
            assert!(MetaAnswer::parse(wrong).is_err(), "{}", wrong.escape_ascii());
        }
    }
}
