//! mg, ms, md, ma, me and mn (protocol.txt, "Meta Commands"), as memcached 1.6.45 speaks them.
//!
//! A line is read into a [`MetaCommand`] that borrows key and opaque from it; the flags to return
//! are kept in the order of the request, packed. Meta commands are parsed apart from all others,
//! whose types stay small. Nothing here executes a flag or looks at an item.

use arrayvec::ArrayVec;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::line::{Words, find_low, signed_32, unsigned};
use super::store::VALUE_BYTES_MAX;
use super::{BAD_FORMAT, ERROR, is_key};
use crate::base::clock::{Expiry, Now};
use crate::base::limits::{KEY_BYTES_MAX, OPAQUE_BYTES_MAX};
use crate::protocol::{Fixed, Limits};
use crate::tier::{Meta, MetaFlags, MetaVerb, StoreMode};

const DUPLICATE: Fixed = Fixed::new(b"CLIENT_ERROR duplicate flag\r\n");
const INVALID: Fixed = Fixed::new(b"CLIENT_ERROR invalid flag\r\n");
const BAD_TOKEN: Fixed = Fixed::new(b"CLIENT_ERROR bad token in command line format\r\n");
const BAD_KEY: Fixed = Fixed::new(b"CLIENT_ERROR error decoding key\r\n");
const TOO_MANY: Fixed = Fixed::new(b"CLIENT_ERROR options flags are too long\r\n");
const OPAQUE_TOO_LONG: Fixed = Fixed::new(b"CLIENT_ERROR opaque token too long\r\n");
const BAD_MS_MODE: Fixed = Fixed::new(b"CLIENT_ERROR invalid mode for ms M token\r\n");
const BAD_MA_MODE: Fixed = Fixed::new(b"CLIENT_ERROR invalid mode for ma M token\r\n");
/// Whatever is wrong with a flag of ma.
const BAD_MA_FLAG: Fixed = Fixed::new(b"CLIENT_ERROR invalid or duplicate flag\r\n");
const NOOP: Fixed = Fixed::new(b"MN\r\n");

/// Most words of a line, the command included.
const WORDS_MAX: usize = 20;

/// The largest cas that an item can have: tiers mark cas numbers in the bits above.
const CAS_MAX: u64 = (1 << 62) - 1;

/// A meta command on a key, borrowed from its line.
#[derive(Debug)]
pub struct MetaCommand<'a> {
    /// The key as it was sent: in base64 if the form says so.
    pub key: &'a [u8],
    /// What followed O.
    pub opaque: &'a [u8],
    /// The operation.
    pub meta: Meta,
    /// How its outcome is encoded.
    pub form: MetaForm,
    /// Of a store: the length of the value that follows.
    pub value_bytes: usize,
    /// Of a store: the value exceeds the limit, and is skipped.
    pub is_too_large: bool,
}

impl<'a> MetaCommand<'a> {
    /// The item's key, decoded into `room` if it was sent in base64.
    pub fn key_in<'r>(&self, room: &'r mut [u8; KEY_BYTES_MAX]) -> &'r [u8]
    where
        'a: 'r,
    {
        if !self.form.is_base64 {
            return self.key;
        }
        match STANDARD.decode_slice(self.key, room) {
            Ok(bytes) => &room[..bytes],
            Err(_) => unreachable!("decoded once when it was parsed"),
        }
    }
}

/// A flag that is returned with an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Returned {
    Opaque = 1,
    Key,
    Cas,
    Flags,
    Fetched,
    Idle,
    Size,
    Left,
}

impl Returned {
    const ALL: [Returned; 8] = [
        Returned::Opaque,
        Returned::Key,
        Returned::Cas,
        Returned::Flags,
        Returned::Fetched,
        Returned::Idle,
        Returned::Size,
        Returned::Left,
    ];

    /// That of a flag of `verb`.
    fn of(flag: u8, verb: MetaVerb) -> Option<Returned> {
        let is_get = verb == MetaVerb::Get;
        let is_store = matches!(verb, MetaVerb::Store(_));
        let is_count = matches!(verb, MetaVerb::Count { .. });
        match flag {
            b'O' => Some(Returned::Opaque),
            b'k' => Some(Returned::Key),
            b'c' if is_get || is_store || is_count => Some(Returned::Cas),
            b's' if is_get || is_store => Some(Returned::Size),
            b't' if is_get || is_count => Some(Returned::Left),
            b'f' if is_get => Some(Returned::Flags),
            b'h' if is_get => Some(Returned::Fetched),
            b'l' if is_get => Some(Returned::Idle),
            _ => None,
        }
    }
}

/// What the reply to a meta command needs of its request beside the key.
#[derive(Clone, Debug, Default)]
pub struct MetaReply {
    /// How the outcome is encoded.
    pub form: MetaForm,
    /// What the client wants back.
    pub opaque: ArrayVec<u8, OPAQUE_BYTES_MAX>,
}

impl MetaReply {
    /// Of a request with this opaque, which the parsers have checked.
    pub fn set(&mut self, form: MetaForm, opaque: &[u8]) {
        self.form = form;
        self.opaque.clear();
        self.opaque.try_extend_from_slice(opaque).expect("the parser refuses longer ones");
    }
}

/// How the outcome of a meta command is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetaForm {
    /// The flags to return, four bits each, the first one lowest. No flag comes twice.
    returned: u32,
    /// Length of the value that was sent.
    pub(super) sent_bytes: u32,
    pub(super) kind: MetaKind,
    /// The usual outcome is not answered.
    pub(super) is_quiet: bool,
    /// The value is returned.
    pub(super) with_value: bool,
    /// The key was sent in base64.
    pub(super) is_base64: bool,
}

/// The commands, as far as replies differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum MetaKind {
    #[default]
    Get,
    Store,
    Delete,
    Count,
    Debug,
}

impl MetaForm {
    fn new(verb: MetaVerb) -> MetaForm {
        let kind = match verb {
            MetaVerb::Get => MetaKind::Get,
            MetaVerb::Store(_) => MetaKind::Store,
            MetaVerb::Delete => MetaKind::Delete,
            MetaVerb::Count { .. } => MetaKind::Count,
            MetaVerb::Debug => MetaKind::Debug,
        };
        MetaForm {
            returned: 0,
            sent_bytes: 0,
            kind,
            is_quiet: false,
            with_value: false,
            is_base64: false,
        }
    }

    /// The flags to return, in their order.
    pub(super) fn returned(self) -> impl Iterator<Item = Returned> {
        let mut rest = self.returned;
        std::iter::from_fn(move || {
            let index = (rest & 15) as usize;
            rest >>= 4;
            index.checked_sub(1).map(|index| Returned::ALL[index])
        })
    }

    fn push(&mut self, returned: Returned) {
        let used = (u32::BITS - self.returned.leading_zeros()).div_ceil(4);
        self.returned |= u32::from(returned as u8) << (4 * used);
    }
}

/// Whether a line or a word begins with a meta command.
#[inline]
pub(super) fn is_meta(start: &[u8]) -> bool {
    match *start {
        [b'm', b'g' | b's' | b'd' | b'a' | b'e' | b'n'] => true,
        [b'm', b'g' | b's' | b'd' | b'a' | b'e' | b'n', behind, ..] => {
            matches!(behind, b' ' | b'\r' | b'\n' | 0)
        }
        _ => false,
    }
}

/// A line that is answered without a tier.
#[derive(Debug, PartialEq, Eq)]
pub struct MetaRefusal {
    /// The reply.
    pub reply: Fixed,
    /// Length of a value behind the line that is discarded.
    pub skip_bytes: usize,
}

impl From<Fixed> for MetaRefusal {
    fn from(reply: Fixed) -> MetaRefusal {
        MetaRefusal { reply, skip_bytes: 0 }
    }
}

/// Parses the line of a [`Command::Meta`](crate::protocol::Command::Meta). An error: it is answered
/// with that.
pub fn parse<'a>(
    line: &'a [u8],
    limits: &Limits,
    now: Now,
) -> Result<MetaCommand<'a>, MetaRefusal> {
    let mut words = Words::new();
    words.read(line).expect("a line has an end");
    let verb = match words.get(0) {
        b"mg" => MetaVerb::Get,
        b"ms" => return parse_store(&words, limits, now),
        b"md" => MetaVerb::Delete,
        b"ma" => MetaVerb::Count { decrement: false },
        b"me" => MetaVerb::Debug,
        b"mn" => return Err(NOOP.into()),
        _ => return Err(ERROR.into()),
    };
    if words.count() < 2 {
        return Err(BAD_FORMAT.into());
    }
    match read(&words, 1, verb, now) {
        Ok(command) => checked(command, 0),
        Err(reply) if matches!(verb, MetaVerb::Count { .. }) && reply != BAD_MA_MODE => {
            Err(BAD_MA_FLAG.into())
        }
        Err(reply) => Err(reply.into()),
    }
}

/// `ms <key> <bytes> <flags>*`: if the line says how long its value is, that is discarded with a
/// line that is refused.
fn parse_store<'a>(
    words: &Words<'a>,
    limits: &Limits,
    now: Now,
) -> Result<MetaCommand<'a>, MetaRefusal> {
    let announced = match words.count() {
        0..3 => None,
        _ => signed_32(words.get(2)).and_then(|bytes| usize::try_from(bytes).ok()),
    };
    let Some(value_bytes) = announced.filter(|&bytes| bytes <= VALUE_BYTES_MAX) else {
        return Err(BAD_FORMAT.into());
    };
    let skip_bytes = value_bytes + 2;
    match read(words, 2, MetaVerb::Store(StoreMode::Set), now) {
        Ok(mut command) => {
            command.value_bytes = value_bytes;
            command.form.sent_bytes = value_bytes as u32;
            let key_bytes = command.key_in(&mut [0; KEY_BYTES_MAX]).len();
            command.is_too_large = !limits.fits(key_bytes, command.meta.flags, value_bytes);
            checked(command, skip_bytes)
        }
        Err(reply) => Err(MetaRefusal { reply, skip_bytes }),
    }
}

/// A command whose flags are right, unless its opaque is too long.
fn checked(command: MetaCommand<'_>, skip_bytes: usize) -> Result<MetaCommand<'_>, MetaRefusal> {
    if command.opaque.len() > OPAQUE_BYTES_MAX {
        return Err(MetaRefusal { reply: OPAQUE_TOO_LONG, skip_bytes });
    }
    Ok(command)
}

/// An mg that changes nothing, with flags that only ask for something.
#[derive(Debug)]
pub struct PlainMeta<'a> {
    /// The key.
    pub key: &'a [u8],
    /// What followed O.
    pub opaque: &'a [u8],
    /// How its outcome is encoded.
    pub form: MetaForm,
    /// Bytes of the line with its end.
    pub consumed: usize,
}

/// Parses the commonest mg, which most meta commands are. None: it is something else, or not whole,
/// or wrong, and [`parse`] says which.
#[inline]
pub fn parse_plain(input: &[u8]) -> Option<PlainMeta<'_>> {
    let rest = input.strip_prefix(b"mg ")?;
    let key_bytes = find_low(rest)?;
    let key = &rest[..key_bytes];
    if key.is_empty() || !is_key(key) {
        return None;
    }
    let mut form = MetaForm::new(MetaVerb::Get);
    let mut opaque = &b""[..];
    let (mut seen, mut shift) = (0_u32, 0);
    let mut at = key_bytes;
    loop {
        let flag = match rest[at..] {
            [b' ', flag, ..] => flag,
            [b'\r', b'\n', ..] => {
                return Some(PlainMeta { key, opaque, form, consumed: 3 + at + 2 });
            }
            _ => return None,
        };
        let returned = match flag {
            b'v' => {
                form.with_value = true;
                None
            }
            b'q' => {
                form.is_quiet = true;
                None
            }
            b'c' => Some(Returned::Cas),
            b'f' => Some(Returned::Flags),
            b'h' => Some(Returned::Fetched),
            b'k' => Some(Returned::Key),
            b'l' => Some(Returned::Idle),
            b's' => Some(Returned::Size),
            b't' => Some(Returned::Left),
            b'O' => Some(Returned::Opaque),
            _ => return None,
        };
        let bit = 1 << (flag & 31);
        if seen & bit != 0 {
            return None;
        }
        seen |= bit;
        at += 2;
        if let Some(returned) = returned {
            form.returned |= u32::from(returned as u8) << shift;
            shift += 4;
        }
        if flag == b'O' {
            let bytes = find_low(&rest[at..])?;
            opaque = &rest[at..at + bytes];
            at += bytes;
            if bytes > OPAQUE_BYTES_MAX {
                return None;
            }
        }
    }
}

/// Flags while they are read.
struct Reader<'a> {
    now: Now,
    meta: Meta,
    form: MetaForm,
    key: &'a [u8],
    opaque: &'a [u8],
    mode: Option<u8>,
    /// The reply to a line whose arguments are wrong. A flag that is unknown or comes twice is
    /// answered first, wherever it is.
    fault: Option<Fixed>,
}

/// Reads key and flags; those are the words after word `last`.
fn read<'a>(
    words: &Words<'a>,
    last: usize,
    verb: MetaVerb,
    now: Now,
) -> Result<MetaCommand<'a>, Fixed> {
    let key = words.get(1);
    if !is_key(key) {
        return Err(BAD_FORMAT);
    }
    if words.count() > WORDS_MAX {
        return Err(TOO_MANY);
    }
    let mut reader = Reader {
        now,
        meta: Meta::new(verb),
        form: MetaForm::new(verb),
        key,
        opaque: b"",
        mode: None,
        fault: None,
    };
    let mut seen = 0_u128;
    for word in words.behind(last) {
        let flag = word[0];
        if flag >= 127 || seen & 1 << flag != 0 {
            return Err(DUPLICATE);
        }
        seen |= 1 << flag;
        reader.flag(flag, &word[1..])?;
    }
    match reader.fault {
        Some(fault) => Err(fault),
        None => reader.finish(),
    }
}

impl<'a> Reader<'a> {
    /// One flag and its argument. An error is answered at once.
    fn flag(&mut self, flag: u8, argument: &'a [u8]) -> Result<(), Fixed> {
        match flag {
            b'b' => {
                let mut room = [0; KEY_BYTES_MAX];
                self.form.is_base64 = true;
                if !matches!(STANDARD.decode_slice(self.key, &mut room), Ok(1..)) {
                    self.fault = Some(BAD_KEY);
                }
            }
            b'T' => {
                self.meta.expiry = self.expiry(argument);
                self.set(MetaFlags::TOUCH);
            }
            b'N' => {
                self.meta.vivify = self.expiry(argument);
                self.set(MetaFlags::VIVIFY);
                if self.meta.has(MetaFlags::TOUCH) {
                    self.set(MetaFlags::VIVIFY_AFTER_TOUCH);
                }
            }
            b'R' => {
                self.meta.recache = self.expiry(argument);
                self.set(MetaFlags::RECACHE);
                if self.meta.has(MetaFlags::TOUCH) {
                    self.set(MetaFlags::RECACHE_AFTER_TOUCH);
                }
            }
            b't' => {
                self.set(MetaFlags::LEFT);
                if self.meta.has(MetaFlags::TOUCH) {
                    self.set(MetaFlags::EXPIRY_AFTER_TOUCH);
                }
                if self.meta.has(MetaFlags::VIVIFY) {
                    self.set(MetaFlags::EXPIRY_AFTER_VIVIFY);
                }
            }
            b'C' => {
                self.meta.cas = self.number(argument, u64::MAX);
                self.set(MetaFlags::CAS);
            }
            b'E' => {
                self.meta.new_cas = self.number(argument, CAS_MAX);
                self.set(MetaFlags::NEW_CAS);
            }
            b'D' => self.meta.delta = self.number(argument, u64::MAX),
            b'J' => self.meta.initial = self.number(argument, u64::MAX),
            b'F' => match unsigned(argument).and_then(|flags| u32::try_from(flags).ok()) {
                Some(flags) => self.meta.flags = flags,
                // It has no message of its own.
                None => self.fault = self.fault.or(Some(BAD_FORMAT)),
            },
            b'M' => self.mode = Some(argument.first().copied().unwrap_or(0)),
            b'O' => self.opaque = argument,
            b'I' => self.set(MetaFlags::INVALIDATE),
            b'x' => self.set(MetaFlags::EMPTY),
            b'u' => self.set(MetaFlags::NO_USE),
            b'q' => self.form.is_quiet = true,
            b'v' | b's' => {
                self.form.with_value |= flag == b'v';
                self.set(MetaFlags::VALUE);
            }
            // L and P are for proxies; the others are flags that only return something.
            b'L' | b'P' | b'c' | b'f' | b'h' | b'k' | b'l' => {}
            _ => return Err(INVALID),
        }
        if let Some(returned) = Returned::of(flag, self.meta.verb) {
            self.form.push(returned);
        }
        Ok(())
    }

    fn set(&mut self, flag: MetaFlags) {
        self.meta.with = self.meta.with.and(flag);
    }

    fn expiry(&mut self, argument: &[u8]) -> Expiry {
        match signed_32(argument) {
            Some(exptime) => Expiry::from_exptime(exptime.into(), self.now),
            None => {
                self.fault = Some(BAD_TOKEN);
                Expiry::NEVER
            }
        }
    }

    fn number(&mut self, argument: &[u8], max: u64) -> u64 {
        unsigned(argument).filter(|&number| number <= max).unwrap_or_else(|| {
            self.fault = Some(BAD_TOKEN);
            0
        })
    }

    fn finish(mut self) -> Result<MetaCommand<'a>, Fixed> {
        if let Some(mode) = self.mode {
            self.meta.verb = match (self.meta.verb, mode) {
                (MetaVerb::Store(_), b'E') => MetaVerb::Store(StoreMode::Add),
                (MetaVerb::Store(_), b'A') => MetaVerb::Store(StoreMode::Append),
                (MetaVerb::Store(_), b'P') => MetaVerb::Store(StoreMode::Prepend),
                (MetaVerb::Store(_), b'R') => MetaVerb::Store(StoreMode::Replace),
                (MetaVerb::Store(_), b'S') => MetaVerb::Store(StoreMode::Set),
                (MetaVerb::Store(_), _) => return Err(BAD_MS_MODE),
                (MetaVerb::Count { .. }, b'I' | b'+') => MetaVerb::Count { decrement: false },
                (MetaVerb::Count { .. }, b'D' | b'-') => MetaVerb::Count { decrement: true },
                (MetaVerb::Count { .. }, _) => return Err(BAD_MA_MODE),
                (verb, _) => verb,
            };
        }
        let Reader { meta, form, key, opaque, .. } = self;
        Ok(MetaCommand { key, opaque, meta, form, value_bytes: 0, is_too_large: false })
    }
}
