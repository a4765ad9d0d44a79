//! The wire formats, without any I/O.
//!
//! A parser borrows the start of the input and returns a [`Step`]. It keeps no state, so a request
//! may be cut anywhere and parsed again when more has arrived. Both protocols yield the same
//! [`Request`]; a [`Form`] beside it says how its outcome is encoded. Where Rend and memcached
//! differ, memcached is right. Values are opaque: nothing here interprets them.
//!
//! ```text
//! bytes ── text::parse / binary::parse ──> Step: Request + Form ──> (executed) Outcome
//!                                                                    Form + Outcome ── encode ──>
//! bytes
//! ```

pub mod binary;
pub mod login;
pub mod rights;
pub mod stats;
#[cfg(test)]
mod testing;
pub mod text;
pub mod watch;

use crate::base::clock::{Expiry, Now};
use crate::base::limits::{ITEM_BYTES_MAX_DEFAULT, KEY_BYTES_MAX, item_bytes};
use crate::orchestrator::Action;
use crate::tier::Outcome;

/// The answer to `version`: the memcached version whose commands these are, and nothing else,
/// because clients parse it.
pub const VERSION: &str = "1.6.18";

/// Limits and switches that decide which requests are accepted.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest item, including its header as memcached counts it, in bytes.
    pub item_bytes_max: usize,
    /// Whether `shutdown` is allowed.
    pub shutdown: bool,
    /// Whether `flush_all` is allowed.
    pub flush: bool,
    /// Whether `lru_crawler metadump` and `mgdump` are allowed.
    pub dump: bool,
    /// Whether `watch` is allowed.
    pub watch: bool,
    /// Whether the tiers have meta commands; without, they are no commands.
    pub meta: bool,
}

impl Limits {
    /// memcached's without flags, and of tiers without meta commands.
    pub const DEFAULT: Limits = Limits {
        item_bytes_max: ITEM_BYTES_MAX_DEFAULT,
        shutdown: false,
        flush: true,
        dump: true,
        watch: true,
        meta: false,
    };

    /// Whether an item with these parts is within the limit, as memcached counts it: including what
    /// it stores beside the item, the key's NUL, flags other than 0, and the value's `\\r\
    /// `.
    #[inline]
    pub fn fits(&self, key_bytes: usize, flags: u32, value_bytes: usize) -> bool {
        value_bytes <= self.item_bytes_max.saturating_sub(item_bytes(key_bytes, flags, 0))
    }
}

/// An operation on one key (or, for [`Action::FlushAll`], on all), borrowed from the input.
#[derive(Debug)]
pub struct Request<'a> {
    /// At most 250 bytes; empty for [`Action::FlushAll`].
    pub key: &'a [u8],
    /// The operation. A store's value follows as a body.
    pub action: Action,
    /// How the outcome is encoded.
    pub form: Form,
}

/// The parsed start of the input.
#[derive(Debug)]
#[allow(missing_docs, reason = "each variant's text names its fields")]
pub enum Step<'a> {
    /// Not yet a complete command line or header; more input is needed.
    NeedMore,
    /// A command. Its line or header, with extras and key, is the first `consumed` bytes.
    Done { command: Command<'a>, consumed: usize },
}

/// A command, from its line or header.
#[derive(Debug)]
#[allow(missing_docs, reason = "each variant's text names its fields")]
pub enum Command<'a> {
    /// An operation. The `skip_bytes` bytes that follow belong to it and are discarded (the value
    /// of a set that is too large) before the reply is sent.
    Operation { request: Request<'a>, skip_bytes: usize },
    /// A store whose value follows: `value_bytes` bytes, and then, if `is_text`, `\\r\
    /// `. If that is missing the reply is [`Form::bad_data_chunk`] instead, and nothing is stored.
    Store { request: Request<'a>, value_bytes: usize, is_text: bool },
    /// A text get, gets, gat or gats; its keys follow up to the end of the line and are read with
    /// [`text::next_key`]. Each is one operation; [`Keys::end`] ends the reply.
    Keys(Keys),
    /// The line of a meta command, with its end, for [`text::parse_meta`].
    Meta { line: &'a [u8] },
    /// The client lists all items.
    Dump { kind: text::DumpKind },
    /// The client watches from now on.
    Watch(watch::Wanted),
    /// A command that the server answers without a tier.
    Control { control: Control<'a>, form: Form },
    /// An invalid request. `skip_bytes` more bytes are discarded, then `reply` is sent (it may be
    /// empty), and then the connection is closed if `close`.
    Bad { reply: Fixed, skip_bytes: usize, close: bool },
    /// An invalid request of text: `reply` is sent, and the rest of its line is discarded.
    BadLine { reply: Fixed },
    /// The client quits: send `reply` (may be empty), then close.
    Quit { reply: Fixed },
}

/// The head of a text multi-get.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    /// Replies include the cas (gets, gats).
    pub with_cas: bool,
    /// Set for gat and gats.
    pub expiry: Option<Expiry>,
}

impl Keys {
    /// The operation on each key.
    pub fn action(&self) -> Action {
        match self.expiry {
            Some(expiry) => Action::GetAndTouch { expiry },
            None => Action::Get,
        }
    }

    /// How each key's outcome is encoded.
    pub fn form(&self) -> Form {
        Form::Text(text::Form::Get { with_cas: self.with_cas, last: false })
    }

    /// The end of the reply, after the last key.
    pub fn end(&self) -> Fixed {
        Fixed::new(b"END\r\n")
    }
}

/// Commands about the server itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control<'a> {
    /// Binary only: its answer shows that all requests before it were answered.
    Noop,
    /// The server's version.
    Version,
    /// This is to be the level of the log.
    Verbosity(u32),
    /// With the words after `stats`, e.g. `items`; empty for the general statistics.
    Stats(&'a [u8]),
    /// The server is to stop.
    Shutdown {
        /// When all connections have been closed, not immediately.
        graceful: bool,
    },
}

/// The time before which a flush_all with this delay invalidates items; None if it has no effect.
/// memcached subtracts a second, so that a delay of 1 is none, and ignores a Unix time before its
/// start. This is the only place that subtracts it.
fn flush_at(exptime: i64, now: Now) -> Option<Expiry> {
    if exptime <= 0 {
        return Some(Expiry::NEVER);
    }
    let at_s = Expiry::from_exptime(exptime, now).unix_s();
    let start_s = u64::from(now.unix_s).saturating_sub(now.uptime_us / 1_000_000);
    (u64::from(at_s) > start_s).then(|| Expiry::from_unix_s(at_s - 1))
}

/// How the outcome of a request is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// In the text protocol.
    Text(text::Form),
    /// In the binary protocol.
    Binary(binary::Form),
}

impl Form {
    /// The reply to a store whose value is not followed by `\\r\
    /// `; empty for noreply. The two bytes in place of `\\r\
    /// ` are consumed nevertheless.
    pub fn bad_data_chunk(self) -> &'static [u8] {
        match self {
            Form::Text(text::Form::Silent) => b"",
            _ => text::BAD_DATA_CHUNK,
        }
    }

    /// Whether it is that of a meta command.
    pub fn is_meta(self) -> bool {
        matches!(self, Form::Text(text::Form::Meta))
    }

    /// Whether the reply repeats the key, so that the key must be kept until then.
    pub fn needs_key(self) -> bool {
        match self {
            Form::Text(form) => form.needs_key(),
            Form::Binary(form) => form.needs_key(),
        }
    }
}

/// The first key in `bytes`, probably: a guess for prefetching, which recognizes text get, set and
/// mg, and any binary request.
#[inline(always)]
pub fn first_key(bytes: &[u8]) -> Option<&[u8]> {
    if let [binary::MAGIC_REQUEST, _, high, low, extras, ..] = *bytes {
        let start = 24 + usize::from(extras);
        return bytes.get(start..start + usize::from(u16::from_be_bytes([high, low])));
    }
    let rest = bytes
        .strip_prefix(b"get ")
        .or_else(|| bytes.strip_prefix(b"set "))
        .or_else(|| bytes.strip_prefix(b"mg "))?;
    let end = text::find_low(&rest[..rest.len().min(KEY_BYTES_MAX + 1)])?;
    Some(&rest[..end])
}

/// Room for any reply that is not a value, and for the head of one that is.
pub type Head = arrayvec::ArrayVec<u8, { crate::base::limits::REPLY_HEAD_BYTES_MAX }>;

/// The destination of a reply's head, written piece by piece.
pub trait Sink {
    /// Appends `bytes`.
    ///
    /// # Panics
    /// If they do not fit: [`crate::base::limits::REPLY_HEAD_BYTES_MAX`] is the sum of the longest
    /// parts.
    fn put(&mut self, bytes: &[u8]);

    /// Appends the first `len` of `bytes`; the rest may be written behind them.
    #[inline]
    fn put_part<const N: usize>(&mut self, bytes: [u8; N], len: usize) {
        self.put(&bytes[..len]);
    }
}

impl Sink for Head {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        match self.try_extend_from_slice(bytes) {
            Ok(()) => {}
            Err(_) => unreachable!("a head has room for the longest reply"),
        }
    }
}

/// The start of a reply written directly to the output, which has room for all of it and at least
/// [`crate::base::limits::REPLY_HEAD_BYTES_MAX`] bytes.
pub struct Direct<'a> {
    out: &'a mut [u8],
    /// Bytes written to it.
    pub len: usize,
}

impl<'a> Direct<'a> {
    /// At the start of `out`.
    #[inline(always)]
    pub fn new(out: &'a mut [u8]) -> Direct<'a> {
        Direct { out, len: 0 }
    }
}

impl Sink for Direct<'_> {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        self.out[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    #[inline(always)]
    fn put_part<const N: usize>(&mut self, bytes: [u8; N], len: usize) {
        self.out[self.len..][..N].copy_from_slice(&bytes);
        self.len += len;
    }
}

/// A short reply that is known when the request is parsed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fixed {
    len: u8,
    bytes: [u8; Fixed::BYTES_MAX],
}

impl Fixed {
    /// Longest reply, in bytes: memcached's usage message for delete has 70.
    pub const BYTES_MAX: usize = 71;

    /// No bytes.
    pub const NONE: Fixed = Fixed { len: 0, bytes: [0; Fixed::BYTES_MAX] };

    /// A reply with these bytes.
    ///
    /// # Panics
    /// If there are more than [`Fixed::BYTES_MAX`]: replies are our own texts, never a peer's.
    pub const fn new(bytes: &[u8]) -> Fixed {
        assert!(bytes.len() <= Fixed::BYTES_MAX);
        let mut fixed = Fixed { len: bytes.len() as u8, ..Fixed::NONE };
        let mut i = 0;
        while i < bytes.len() {
            fixed.bytes[i] = bytes[i];
            i += 1;
        }
        fixed
    }

    /// The reply's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl std::fmt::Debug for Fixed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fixed({:?})", String::from_utf8_lossy(self.as_bytes()))
    }
}

/// Which protocol the connections of a port speak: memcached's binding_protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Binding {
    /// That of each connection's first byte.
    #[default]
    Auto,
    /// Text, meta commands included.
    Ascii,
    /// Binary.
    Binary,
}

impl Binding {
    /// Its name in `stats settings`.
    pub fn name(self) -> &'static str {
        match self {
            Binding::Auto => "auto-negotiate",
            Binding::Ascii => "ascii",
            Binding::Binary => "binary",
        }
    }
}

/// How an attempt to log in is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginForm {
    /// As a text client's set.
    Text,
    /// As a binary client's PLAIN.
    Binary {
        /// The request's.
        opaque: u32,
    },
}

impl LoginForm {
    /// The reply to the right password.
    pub fn admitted(self) -> Fixed {
        match self {
            LoginForm::Text => Fixed::new(b"STORED\r\n"),
            LoginForm::Binary { opaque } => binary::login_admitted(opaque),
        }
    }

    /// The reply to a wrong name or password: one for both.
    pub fn refused(self) -> Fixed {
        match self {
            LoginForm::Text => Fixed::new(b"CLIENT_ERROR authentication failure\r\n"),
            LoginForm::Binary { opaque } => binary::login_refused(opaque),
        }
    }
}

/// Longest [`Encoded::tail`], in bytes.
pub const TAIL_BYTES_MAX: usize = 7;

/// Whether the value of a hit follows the head, and the bytes after the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The value is sent after the head.
    pub with_value: bool,
    /// Sent last.
    pub tail: &'static [u8],
}

/// Writes the head of the reply to one operation to `head` (nothing, if there is no reply). `key`
/// is the request's key if [`Form::needs_key`]; `value_bytes` is the length of a hit's value.
#[inline(always)]
pub fn encode<V>(
    form: Form,
    key: &[u8],
    outcome: &Outcome<V>,
    value_bytes: usize,
    head: &mut impl Sink,
) -> Encoded {
    match form {
        Form::Text(form) => text::encode(form, key, outcome, value_bytes, head),
        Form::Binary(form) => binary::encode(form, key, outcome, value_bytes, head),
    }
}

/// Writes the reply to a command about the server to `head` (nothing, if there is no reply);
/// [`stats::write`] writes statistics.
#[cfg(feature = "internals")]
pub fn encode_control(control: Control<'_>, form: Form, head: &mut Head) {
    match form {
        Form::Text(form) => text::encode_control(control, form, head),
        Form::Binary(form) => binary::encode_control(control, form, head),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_is_guessed() {
        assert_eq!(first_key(b"get key\r\n"), Some(&b"key"[..]));
        assert_eq!(first_key(b"get a b c\r\n"), Some(&b"a"[..]));
        assert_eq!(first_key(b"set key 0 0 1\r\nx\r\n"), Some(&b"key"[..]));
        assert_eq!(first_key(b"mg key v\r\n"), Some(&b"key"[..]));
        for other in
            [&b""[..], b"get", b"get key", b"version\r\n", &[0x80], &[0x80, 0, 255, 255, 255]]
        {
            assert_eq!(first_key(other), None, "{}", other.escape_ascii());
        }
        let long = [b"get ", &[b'k'; 300][..], b"\r\n"].concat();
        assert_eq!(first_key(&long), None);
        let mut binary = vec![0x80, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 3];
        binary.extend_from_slice(&[0; 12]);
        binary.extend_from_slice(b"key");
        assert_eq!(first_key(&binary), Some(&b"key"[..]));
    }
}
