//! How the tools log in: by the fake `set` of memcached's `-Y` in text and meta, by SASL PLAIN in
//! binary.
//!
//! Never shows a password.

use std::fmt;
use std::path::Path;

use super::wire::Dialect;

/// Longest user and password together, in bytes: what servers take.
const LOGIN_BYTES_MAX: usize = 2048;

/// What a text login is a set of. A server without logins stores it.
const KEY: &str = "sunder-login";

/// Bytes of a header of the binary protocol, and its operation for a login.
const HEADER_BYTES: usize = 24;
const SASL_AUTH: u8 = 0x21;

/// What a server's file has instead of a password if it has only its hash.
const HASH_PREFIX: &str = "$argon2";

/// Bytes of a refusal that are shown.
const SHOWN_BYTES: usize = 80;

/// A user and a password.
#[derive(Clone)]
pub struct Login {
    user: String,
    password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({})", self.user)
    }
}

/// What came of an answer.
#[derive(Debug, Eq, PartialEq)]
pub enum LoginAnswer {
    /// It is not whole yet.
    NeedMore,
    /// Logged in.
    Admitted,
    /// The server's words.
    Refused(String),
}

impl Login {
    /// Reads the first line of `path`, `user:password`.
    ///
    /// # Errors
    /// It cannot be read, or has no such line; in a few words.
    pub fn read(path: &Path) -> Result<Login, String> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
        let login = Login::parse(text.lines().next().unwrap_or_default())
            .ok_or_else(|| format!("{shown}: the first line is not user:password"))?;
        match login.password.starts_with(HASH_PREFIX) {
            true => Err(format!("{shown}: the first line has a hash, and not the password")),
            false => Ok(login),
        }
    }

    /// Reads `user:password`.
    pub(in crate::load) fn parse(line: &str) -> Option<Login> {
        let (user, password) = line.split_once(':')?;
        let is_right = !user.is_empty() && line.len() < LOGIN_BYTES_MAX && !line.contains('\0');
        is_right.then(|| Login { user: user.to_owned(), password: password.to_owned() })
    }

    /// The request's bytes.
    pub fn request(&self, dialect: Dialect) -> Vec<u8> {
        let Login { user, password } = self;
        if dialect != Dialect::Binary {
            let bytes = user.len() + 1 + password.len();
            return format!("set {KEY} 0 0 {bytes}\r\n{user} {password}\r\n").into_bytes();
        }
        let mechanism = b"PLAIN";
        let value = format!("\0{user}\0{password}");
        let mut request = vec![0; HEADER_BYTES];
        (request[0], request[1]) = (0x80, SASL_AUTH);
        request[3] = mechanism.len() as u8;
        let body_bytes = (mechanism.len() + value.len()) as u32;
        request[8..12].copy_from_slice(&body_bytes.to_be_bytes());
        request.extend_from_slice(mechanism);
        request.extend_from_slice(value.as_bytes());
        request
    }

    /// Reads the answer.
    pub fn answer(dialect: Dialect, input: &[u8]) -> LoginAnswer {
        let shown = |words: &[u8]| words[..words.len().min(SHOWN_BYTES)].escape_ascii().to_string();
        if dialect != Dialect::Binary {
            return match input.iter().position(|&byte| byte == b'\n') {
                None if input.len() < LOGIN_BYTES_MAX => LoginAnswer::NeedMore,
                Some(_) if input == b"STORED\r\n" => LoginAnswer::Admitted,
                _ => LoginAnswer::Refused(shown(input.trim_ascii_end())),
            };
        }
        let Some((header, body)) = input.split_at_checked(HEADER_BYTES) else {
            return LoginAnswer::NeedMore;
        };
        let number = |at: usize| u32::from_be_bytes([0, 0, header[at], header[at + 1]]);
        let body_bytes = ((number(8) << 16) | number(10)) as usize;
        if header[..2] != [0x81, SASL_AUTH] || body_bytes > LOGIN_BYTES_MAX {
            return LoginAnswer::Refused(shown(input));
        }
        if body.len() < body_bytes {
            return LoginAnswer::NeedMore;
        }
        match number(6) {
            0 => LoginAnswer::Admitted,
            status => LoginAnswer::Refused(format!("{}, status {status:#x}", shown(body))),
        }
    }
}

/// What can be done about an answer that a server gives to who has not logged in, in words that end
/// a line.
pub fn remedy(line: &str) -> &'static str {
    let has_login = line.contains("(--login)");
    match !has_login && UNAUTHENTICATED.iter().any(|words| line.contains(words)) {
        true => "; clients of this server have to log in: give --login FILE",
        false => "",
    }
}

/// memcached's words, and sunder's, to who has not logged in. A set is taken for a login.
const UNAUTHENTICATED: [&str; 5] = [
    "CLIENT_ERROR unauthenticated",
    "CLIENT_ERROR authentication failure",
    "CLIENT_ERROR bad authentication token format",
    "CLIENT_ERROR auth token too long",
    "Auth failure.",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_user_and_a_password() {
        for line in ["", "alice", ":secret", "a\0:b"] {
            assert!(Login::parse(line).is_none(), "{line}");
        }
        let login = Login::parse("alice:se:cret").expect("it is one");
        assert_eq!(format!("{login:?}"), "Login(alice)");
        let text = login.request(Dialect::Text);
        assert_eq!(text, b"set sunder-login 0 0 13\r\nalice se:cret\r\n");
        let binary = login.request(Dialect::Binary);
        assert_eq!(binary[..12], [0x80, 0x21, 0, 5, 0, 0, 0, 0, 0, 0, 0, 19]);
        assert_eq!(binary[24..], *b"PLAIN\0alice\0se:cret");
    }

    #[test]
    fn an_answer_is_read_at_every_cut() {
        let mut header = [0_u8; 24];
        (header[0], header[1], header[11]) = (0x81, 0x21, 2);
        let admitted = [&header[..], b"ok"].concat();
        header[7] = 0x20;
        let refused = [&header[..], b"no"].concat();
        let text = &b"CLIENT_ERROR authentication failure\r\n"[..];
        let cases = [
            (Dialect::Text, &b"STORED\r\n"[..], None),
            (Dialect::Meta, text, Some("CLIENT_ERROR authentication failure")),
            (Dialect::Binary, &admitted, None),
            (Dialect::Binary, &refused, Some("no, status 0x20")),
        ];
        for (dialect, input, words) in cases {
            for cut in 0..input.len() {
                assert_eq!(Login::answer(dialect, &input[..cut]), LoginAnswer::NeedMore, "{cut}");
            }
            let wanted = words.map_or(LoginAnswer::Admitted, |w| LoginAnswer::Refused(w.into()));
            assert_eq!(Login::answer(dialect, input), wanted);
        }
    }
}
