//! What a client may say before it has logged in, as memcached with `-Y` and `-S` takes it.
//!
//! A text client sends a set of any key with the value `user password` (protocol.txt,
//! "Authentication"), a binary client SASL's PLAIN (RFC 4616) in the opcodes of
//! protocol-binary-SASL. Everything else is refused. Nothing here knows who is admitted, or keeps
//! what was sent.

use super::binary::{self, LoginPacket};
use super::{Fixed, LoginForm, text};

/// Longest line, in bytes; and longest `user password`.
pub const LOGIN_BYTES_MAX: usize = 2048;

/// What the start of the input of a client is that has not logged in.
#[derive(Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant's text names its fields")]
pub enum Login<'a> {
    /// More input is needed.
    NeedMore,
    /// A user and a password.
    Attempt { user: &'a [u8], password: &'a [u8], form: LoginForm, consumed: usize },
    /// The line of a text client's set; its value of `value_bytes` bytes follows, for
    /// [`parse_value`].
    Value { value_bytes: usize, consumed: usize },
    /// Anything else: answered, and then the connection is closed if `close`.
    Refused { reply: Fixed, consumed: usize, close: bool },
}

const UNAUTHENTICATED: Fixed = Fixed::new(b"CLIENT_ERROR unauthenticated\r\n");
const BAD_END: Fixed = Fixed::new(b"CLIENT_ERROR bad command line termination\r\n");
const BAD_TOKEN: Fixed = Fixed::new(b"CLIENT_ERROR bad authentication token format\r\n");
const TOO_LONG: Fixed = Fixed::new(b"CLIENT_ERROR auth token too long\r\n");

/// Parses the start of the input.
pub fn parse(is_binary: bool, input: &[u8]) -> Login<'_> {
    match is_binary {
        _ if input.is_empty() => Login::NeedMore,
        true => parse_binary(input),
        false => parse_line(input),
    }
}

fn parse_line(input: &[u8]) -> Login<'_> {
    let within = &input[..input.len().min(LOGIN_BYTES_MAX)];
    let Some(newline) = memchr::memchr(b'\n', within) else {
        return match input.len() < LOGIN_BYTES_MAX {
            true => Login::NeedMore,
            false => Login::Refused { reply: Fixed::NONE, consumed: input.len(), close: true },
        };
    };
    let consumed = newline + 1;
    match text::login_value_bytes(&input[..consumed]) {
        None => Login::Refused { reply: UNAUTHENTICATED, consumed, close: false },
        // Its end cannot be waited for within bounds.
        Some(value_bytes) if value_bytes > LOGIN_BYTES_MAX => {
            Login::Refused { reply: TOO_LONG, consumed, close: true }
        }
        Some(value_bytes) => Login::Value { value_bytes, consumed },
    }
}

/// Parses the value of a text client's set, with what follows it.
pub fn parse_value(input: &[u8], value_bytes: usize) -> Login<'_> {
    let consumed = value_bytes + 2;
    let Some((value, end)) = input.get(..consumed).map(|whole| whole.split_at(value_bytes)) else {
        return Login::NeedMore;
    };
    if end != b"\r\n" {
        return Login::Refused { reply: BAD_END, consumed, close: false };
    }
    // memcached's words: a NUL ends the value early.
    let value = value.split(|&byte| byte == 0).next().unwrap_or_default();
    let mut words = value.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    match (words.next(), words.next()) {
        (Some(user), Some(password)) => {
            Login::Attempt { user, password, form: LoginForm::Text, consumed }
        }
        _ => Login::Refused { reply: BAD_TOKEN, consumed, close: false },
    }
}

fn parse_binary(input: &[u8]) -> Login<'_> {
    match binary::parse_login(input, LOGIN_BYTES_MAX) {
        None => Login::NeedMore,
        Some(LoginPacket::Plain { message, opaque, consumed }) => {
            let form = LoginForm::Binary { opaque };
            // RFC 4616: authorization identity, NUL, user, NUL, password.
            let mut parts = message.splitn(3, |&byte| byte == 0);
            match (parts.next(), parts.next(), parts.next()) {
                (Some(_), Some(user), Some(password)) => {
                    Login::Attempt { user, password, form, consumed }
                }
                _ => Login::Refused { reply: form.refused(), consumed, close: false },
            }
        }
        Some(LoginPacket::Other { reply, consumed, close }) => {
            Login::Refused { reply, consumed, close }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the first byte.
    fn parse(input: &[u8]) -> Login<'_> {
        super::parse(input.first() == Some(&binary::MAGIC_REQUEST), input)
    }

    /// The reply to what is no attempt, and whether the connection ends.
    fn refusal(login: &Login<'_>) -> (String, bool) {
        match login {
            Login::Refused { reply, close, .. } => {
                (String::from_utf8_lossy(reply.as_bytes()).trim_end().to_owned(), *close)
            }
            other => panic!("{other:?}"),
        }
    }

    fn pair<'a>(login: &Login<'a>) -> (&'a str, &'a str) {
        match login {
            Login::Attempt { user, password, .. } => (
                std::str::from_utf8(user).expect("ASCII"),
                std::str::from_utf8(password).expect("ASCII"),
            ),
            other => panic!("{other:?}"),
        }
    }

    // What memcached 1.6.18 with -Y answered to the same.
    #[test]
    fn only_the_line_of_a_set_begins_a_login() {
        let sets: [(&[u8], usize); 8] = [
            (b"set auth 0 0 12\r\n", 12),
            (b"set auth 0 0 12\n", 12),
            (b" set auth 0 0 12\r\n", 12),
            (b"set auth 0 0 12 noreply\r\n", 12),
            (b"set auth abc 0 12\r\n", 12),
            (b"set auth 0 0 +12\r\n", 12),
            (b"set a 0 0 12 a b c d e f g h i j k l m n o p q r s t u v w x y z\r\n", 12),
            (b"set a 0 0 0\r\n", 0),
        ];
        for (line, value_bytes) in sets {
            let expected = Login::Value { value_bytes, consumed: line.len() };
            assert_eq!(parse(line), expected, "{}", line.escape_ascii());
            for cut in 0..line.len() {
                assert_eq!(parse(&line[..cut]), Login::NeedMore);
            }
        }
        let others: [&[u8]; 12] = [
            b"get a\r\n",
            b"version\r\n",
            b"quit\r\n",
            b"shutdown\r\n",
            b"add auth 0 0 12\r\n",
            b"SET auth 0 0 12\r\n",
            b"set auth 0 0\r\n",
            b"set\r\n",
            b"\r\n",
            b"set auth 0 0 -1\r\n",
            b"set a 0 0 12x\r\n",
            b"\0\0\0\0\r\n",
        ];
        for line in others {
            let expected = ("CLIENT_ERROR unauthenticated".to_owned(), false);
            assert_eq!(refusal(&parse(line)), expected, "{}", line.escape_ascii());
        }
        assert_eq!(parse(&[b'x'; LOGIN_BYTES_MAX - 1]), Login::NeedMore);
        assert_eq!(refusal(&parse(&[b'x'; LOGIN_BYTES_MAX])), (String::new(), true));
        let long = (String::from("CLIENT_ERROR auth token too long"), true);
        assert_eq!(refusal(&parse(b"set a 0 0 2049\r\n")), long);
        assert_eq!(refusal(&parse(b"set a 0 0 4294967295\r\n")), long);
    }

    #[test]
    fn a_value_is_a_user_and_a_password() {
        let pairs: [(&[u8], (&str, &str)); 6] = [
            (b"alice secret", ("alice", "secret")),
            (b" alice  secret ", ("alice", "secret")),
            (b"alice secret x", ("alice", "secret")),
            (b"bob other:word", ("bob", "other:word")),
            (b"alice secret\0", ("alice", "secret")),
            (b"alice sec\0ret", ("alice", "sec")),
        ];
        for (value, expected) in pairs {
            let sent = [value, b"\r\n"].concat();
            assert_eq!(pair(&parse_value(&sent, value.len())), expected);
            for cut in 0..sent.len() {
                assert_eq!(parse_value(&sent[..cut], value.len()), Login::NeedMore);
            }
        }
        let wrong: [(&[u8], usize, &str); 6] = [
            (b"alice\r\n", 5, "bad authentication token format"),
            (b"alice:secret\r\n", 12, "bad authentication token format"),
            (b"alice\tsecret\r\n", 12, "bad authentication token format"),
            (b"\r\n", 0, "bad authentication token format"),
            (b"alice secretXX", 12, "bad command line termination"),
            (b"alice secret\nx", 12, "bad command line termination"),
        ];
        for (value, bytes, expected) in wrong {
            let (reply, close) = refusal(&parse_value(value, bytes));
            assert_eq!((reply, close), (format!("CLIENT_ERROR {expected}"), false));
        }
    }

    /// A packet with this opcode, key and value.
    fn packet(opcode: u8, key: &[u8], value: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x80, opcode];
        packet.extend((key.len() as u16).to_be_bytes());
        packet.extend([0; 4]);
        packet.extend(((key.len() + value.len()) as u32).to_be_bytes());
        packet.extend([0, 0, 0, 7]);
        packet.extend([0; 8]);
        packet.extend(key);
        packet.extend(value);
        packet
    }

    /// Status and body of a reply.
    fn said(reply: Fixed) -> (u16, Vec<u8>) {
        let bytes = reply.as_bytes();
        assert_eq!((bytes[0], &bytes[12..16]), (0x81, &[0, 0, 0, 7][..]));
        (u16::from_be_bytes([bytes[6], bytes[7]]), bytes[24..].to_vec())
    }

    #[test]
    fn binary_clients_log_in_by_plain() {
        let sent = packet(0x21, b"PLAIN", b"\0alice\0secret");
        let login = parse(&sent);
        assert_eq!(pair(&login), ("alice", "secret"));
        let Login::Attempt { form, consumed, .. } = login else { unreachable!("a pair") };
        assert_eq!(consumed, sent.len());
        assert_eq!(said(form.admitted()), (0, b"Authenticated".to_vec()));
        assert_eq!(said(form.refused()), (0x20, b"Auth failure.".to_vec()));
        for cut in 0..sent.len() {
            assert_eq!(parse(&sent[..cut]), Login::NeedMore);
        }
        let with_zero = packet(0x21, b"PLAIN", b"x\0alice\0sec\0ret");
        assert_eq!(pair(&parse(&with_zero)), ("alice", "sec\0ret"));
    }

    #[test]
    fn other_packets_are_answered_or_end_the_connection() {
        let cases = [
            (packet(0x20, b"", b""), 0, &b"PLAIN"[..], false),
            (packet(0x0b, b"", b""), 0, crate::protocol::VERSION.as_bytes(), false),
            (packet(0x21, b"PLAIN", b"alice"), 0x20, b"Auth failure.", false),
            (packet(0x21, b"CRAM-MD5", b"\0alice\0secret"), 0x20, b"Auth failure.", false),
            (packet(0x22, b"PLAIN", b"\0alice\0secret"), 0x20, b"Auth failure.", false),
            (packet(0x00, b"key", b""), 0x20, b"Auth failure.", true),
            (packet(0x07, b"", b""), 0x20, b"Auth failure.", true),
            (packet(0x0a, b"", b""), 0x20, b"Auth failure.", true),
            (packet(0x21, b"PLAIN", &[b'x'; 3000]), 0x20, b"Auth failure.", true),
            (packet(0x21, &[b'x'; 300], b"\0a\0b"), 0x20, b"Auth failure.", true),
        ];
        for (sent, status, body, ends) in cases {
            match parse(&sent) {
                Login::Refused { reply, consumed, close } => {
                    assert_eq!((said(reply), close), ((status, body.to_vec()), ends));
                    assert!(close || consumed == sent.len());
                }
                other => panic!("{other:?}"),
            }
        }
    }

    // What memcached 1.6.18 with -B ascii -Y, and with -B binary -S, answered to the same.
    #[test]
    fn the_other_protocol_is_a_line_that_is_no_login_or_ends_the_connection() {
        let login = packet(0x21, b"PLAIN", b"\0alice\0secret");
        assert_eq!(super::parse(false, &login), Login::NeedMore);
        let line = [&login[..], b"\n"].concat();
        let refused = ("CLIENT_ERROR unauthenticated".to_owned(), false);
        assert_eq!(refusal(&super::parse(false, &line)), refused);
        let set = b"set auth 0 0 12\r\nalice secret\r\n";
        assert_eq!(super::parse(true, &set[..23]), Login::NeedMore);
        assert_eq!(refusal(&super::parse(true, set)), (String::new(), true));
    }
}
