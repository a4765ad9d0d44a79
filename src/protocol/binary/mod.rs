//! The binary protocol (memcached's doc/protocol-binary.txt), as memcached 1.6.18 speaks it, and
//! Rend's GETE and GETEQ.
//!
//! One file per family of commands. An invalid header is recognized from the header alone; the
//! reply follows the bytes that are skipped, which are not kept. Nothing here may depend on earlier
//! input of the connection.

mod admin;
mod get;
mod header;
mod login;
pub mod opcode;
mod store;
mod update;

use super::{Command, Control, Encoded, Fixed, Form as AnyForm, Head, Limits, Request, Sink, Step};
use crate::base::buffer::Gather;
use crate::base::clock::{Expiry, Now};
use crate::base::limits::{BINARY_BODY_BYTES_MAX, KEY_BYTES_MAX};
use crate::orchestrator::Action;
use crate::tier::Outcome;
pub use header::MAGIC_REQUEST;
use header::{HEADER_BYTES, Header, Reply, Status};
pub use login::{LoginPacket, login_admitted, login_refused, parse_login};

/// How an outcome is encoded in binary; determined by the request's opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// The request's opcode.
    pub opcode: u8,
    /// Chosen by the client; returned unchanged.
    pub opaque: u32,
}

impl Form {
    /// Whether the reply repeats the key.
    #[inline]
    pub fn needs_key(self) -> bool {
        matches!(self.opcode, opcode::GETK | opcode::GETKQ | opcode::GATK | opcode::GATKQ)
    }
}

/// Parses the start of `input`. `limits` decide what is too large and what is allowed; `now` is the
/// base of a relative exptime.
#[inline]
pub fn parse<'a>(input: &'a [u8], limits: &Limits, now: Now) -> Step<'a> {
    let Some(header) = Header::read(input) else { return Step::NeedMore };
    if header.magic != MAGIC_REQUEST {
        return hang_up(input.len());
    }
    if let Some(command) = wrong_lengths(&header) {
        return Step::Done { command, consumed: HEADER_BYTES };
    }
    let packet = match Packet::read(input, header) {
        Ok(Some(packet)) => packet,
        Ok(None) => return Step::NeedMore,
        Err(command) => return Step::Done { command, consumed: HEADER_BYTES },
    };
    let consumed = packet.consumed();
    Step::Done { command: packet.command(limits, now), consumed }
}

/// Longest header, extras and key of a packet: the size of memcached's read buffer.
const PACKET_BYTES_MAX: usize = 16 * 1024;

fn hang_up<'a>(consumed: usize) -> Step<'a> {
    let command = Command::Bad { reply: Fixed::NONE, skip_bytes: 0, close: true };
    Step::Done { command, consumed }
}

/// The reply to impossible lengths, whatever the opcode.
#[inline]
fn wrong_lengths<'a>(header: &Header) -> Option<Command<'a>> {
    if header.key_bytes > PACKET_BYTES_MAX - HEADER_BYTES - header.extras_bytes {
        // memcached can never read it completely, and never answers.
        return Some(Command::Bad { reply: Fixed::NONE, skip_bytes: 0, close: true });
    }
    if header.key_bytes + header.extras_bytes > header.body_bytes {
        return Some(refuse(header, Status::Unknown));
    }
    if header.key_bytes > KEY_BYTES_MAX || header.body_bytes > BINARY_BODY_BYTES_MAX {
        return Some(refuse(header, Status::Invalid));
    }
    None
}

/// An error after which the connection is closed. As in memcached, it is sent when extras and key
/// have arrived, however long the header says they are.
fn refuse<'a>(header: &Header, status: Status) -> Command<'a> {
    let skip_bytes = header.extras_bytes + header.key_bytes;
    Command::Bad { reply: status.fixed(header), skip_bytes, close: true }
}

/// An error after which the connection continues, `skip_bytes` further.
fn answer<'a>(header: &Header, status: Status, skip_bytes: usize) -> Command<'a> {
    Command::Bad { reply: status.fixed(header), skip_bytes, close: false }
}

/// The required extras, key and value of an opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// A key and nothing else.
    Key,
    /// Extras of this many bytes and a key. A longer body is not part of the packet: memcached
    /// leaves the rest in the stream.
    Touch,
    /// 8 bytes of extras, a key and a value.
    Store,
    /// A key and a value.
    Append,
    /// 20 bytes of extras and a key.
    Arithmetic,
    /// Nothing.
    Empty,
    /// Nothing, or 4 bytes of extras.
    Flush,
    /// A key or none; a longer body is treated as in [`Shape::Touch`].
    Stat,
    /// A key and a value, both ignored.
    Sasl,
    /// Not a command; any shape.
    Unknown,
}

impl Shape {
    #[inline]
    fn of(opcode: u8) -> Shape {
        match opcode {
            opcode::GET | opcode::GETQ | opcode::GETK | opcode::GETKQ => Shape::Key,
            opcode::GETE | opcode::GETEQ => Shape::Key,
            opcode::DELETE | opcode::DELETEQ => Shape::Key,
            opcode::SET | opcode::ADD | opcode::REPLACE => Shape::Store,
            opcode::SETQ | opcode::ADDQ | opcode::REPLACEQ => Shape::Store,
            opcode::APPEND | opcode::PREPEND | opcode::APPENDQ | opcode::PREPENDQ => Shape::Append,
            opcode::INCREMENT | opcode::DECREMENT => Shape::Arithmetic,
            opcode::INCREMENTQ | opcode::DECREMENTQ => Shape::Arithmetic,
            opcode::TOUCH | opcode::GAT | opcode::GATQ | opcode::GATK | opcode::GATKQ => {
                Shape::Touch
            }
            opcode::QUIT | opcode::QUITQ | opcode::NOOP | opcode::VERSION => Shape::Empty,
            opcode::SASL_LIST_MECHS => Shape::Empty,
            opcode::FLUSH | opcode::FLUSHQ => Shape::Flush,
            opcode::STAT => Shape::Stat,
            opcode::SASL_AUTH | opcode::SASL_STEP => Shape::Sasl,
            _ => Shape::Unknown,
        }
    }

    /// Whether a packet with these lengths has this shape.
    #[inline]
    fn fits(self, header: &Header) -> bool {
        let Header { key_bytes, extras_bytes, body_bytes, .. } = *header;
        match self {
            Shape::Key => extras_bytes == 0 && key_bytes > 0 && body_bytes == key_bytes,
            Shape::Touch => extras_bytes == 4 && key_bytes > 0,
            Shape::Store => extras_bytes == 8 && key_bytes > 0,
            Shape::Append | Shape::Sasl => extras_bytes == 0 && key_bytes > 0,
            Shape::Arithmetic => {
                extras_bytes == 20 && key_bytes > 0 && body_bytes == key_bytes + extras_bytes
            }
            Shape::Empty => body_bytes == 0,
            Shape::Flush => (extras_bytes == 0 || extras_bytes == 4) && body_bytes == extras_bytes,
            Shape::Stat => extras_bytes == 0,
            Shape::Unknown => true,
        }
    }
}

/// A request with the shape required by its opcode, up to its value.
#[derive(Debug)]
struct Packet<'a> {
    header: Header,
    extras: &'a [u8],
    key: &'a [u8],
}

impl<'a> Packet<'a> {
    /// None if extras and key are incomplete; Err with the reply if it does not depend on them.
    #[inline]
    fn read(input: &'a [u8], header: Header) -> Result<Option<Packet<'a>>, Command<'a>> {
        let shape = Shape::of(header.opcode);
        if !shape.fits(&header) {
            return Err(refuse(&header, Status::Invalid));
        }
        if matches!(shape, Shape::Unknown | Shape::Sasl) {
            return Err(answer(&header, Status::Unknown, header.body_bytes));
        }
        let body = &input[HEADER_BYTES..];
        let Some((extras, rest)) = body.split_at_checked(header.extras_bytes) else {
            return Ok(None);
        };
        let Some(key) = rest.get(..header.key_bytes) else { return Ok(None) };
        Ok(Some(Packet { header, extras, key }))
    }

    #[inline]
    fn consumed(&self) -> usize {
        HEADER_BYTES + self.extras.len() + self.key.len()
    }

    /// Length of the value, which follows.
    #[inline]
    fn value_bytes(&self) -> usize {
        self.header.body_bytes - self.extras.len() - self.key.len()
    }

    fn form(&self) -> AnyForm {
        AnyForm::Binary(Form { opcode: self.header.opcode, opaque: self.header.opaque })
    }

    #[inline]
    fn operation(&self, action: Action) -> Command<'a> {
        let request = Request { key: self.key, action, form: self.form() };
        Command::Operation { request, skip_bytes: 0 }
    }

    /// The 32 bits of the extras from `at` on. The packet's shape ensures that they exist.
    #[inline]
    fn extra_32(&self, at: usize) -> u32 {
        let Some(&bytes) = self.extras[at..].first_chunk() else { unreachable!("checked shape") };
        u32::from_be_bytes(bytes)
    }

    #[inline]
    fn extra_64(&self, at: usize) -> u64 {
        let Some(&bytes) = self.extras[at..].first_chunk() else { unreachable!("checked shape") };
        u64::from_be_bytes(bytes)
    }

    /// The exptime in the extras from `at` on: unsigned here, so never negative.
    #[inline]
    fn expiry(&self, at: usize, now: Now) -> Expiry {
        Expiry::from_exptime(self.extra_32(at).into(), now)
    }

    #[inline]
    fn command(&self, limits: &Limits, now: Now) -> Command<'a> {
        match Shape::of(self.header.opcode) {
            Shape::Key if matches!(self.header.opcode, opcode::DELETE | opcode::DELETEQ) => {
                self.operation(Action::Delete { cas: self.header.cas })
            }
            Shape::Key => get::parse(self),
            Shape::Touch => get::parse_touch(self, now),
            Shape::Store => store::parse(self, limits, now),
            Shape::Append => store::parse_append(self, limits),
            Shape::Arithmetic => update::parse_arithmetic(self, now),
            Shape::Empty | Shape::Flush | Shape::Stat => admin::parse(self, limits, now),
            Shape::Sasl | Shape::Unknown => unreachable!("answered from their header"),
        }
    }
}

/// Writes the head of the reply to one operation to `head`; see [`super::encode`].
#[inline(always)]
pub fn encode<V>(
    form: Form,
    key: &[u8],
    outcome: &Outcome<V>,
    value_bytes: usize,
    head: &mut impl Sink,
) -> Encoded {
    match outcome {
        Outcome::Hit(hit) => return get::encode_hit(form, key, hit, value_bytes, head),
        Outcome::Miss if get::is_get(form.opcode) => get::encode_miss(form, key, head),
        Outcome::Stored { cas } => store::encode_stored(form, *cas, head),
        other => encode_other(form, other, head),
    }
    NO_VALUE
}

/// The same for less common outcomes.
#[inline(never)]
fn encode_other<V>(form: Form, outcome: &Outcome<V>, head: &mut impl Sink) {
    let Form { opcode, opaque } = form;
    match outcome {
        Outcome::Number { value, cas } => update::encode_number(form, *value, *cas, head),
        Outcome::Deleted if opcode == opcode::DELETEQ => {}
        Outcome::Flushed if opcode == opcode::FLUSHQ => {}
        Outcome::Deleted | Outcome::Flushed => {
            head.put(&Reply { opcode, opaque, ..Reply::default() }.bytes());
        }
        failure => failure_status(opcode, failure).push(opcode, opaque, head),
    }
}

const NO_VALUE: Encoded = Encoded { with_value: false, tail: b"" };

/// The answer to a command that its port does not allow: the status is that of a flush where
/// memcached allows none, whose text would be about a login.
pub fn refusal(form: Form) -> Fixed {
    Status::Auth.fixed_with(b"not allowed on this port", form.opcode, form.opaque)
}

fn failure_status<V>(opcode: u8, outcome: &Outcome<V>) -> Status {
    let is_append = Shape::of(opcode) == Shape::Append;
    match outcome {
        Outcome::Miss => Status::NotFound,
        Outcome::NotStored => store::not_stored_status(opcode),
        Outcome::Exists => Status::Exists,
        Outcome::NonNumeric => Status::NonNumeric,
        // memcached reports an item that an append makes too large as not stored.
        Outcome::TooLarge | Outcome::OutOfMemory if is_append => Status::NotStored,
        Outcome::TooLarge => Status::TooLarge,
        Outcome::OutOfMemory => Status::OutOfMemory,
        Outcome::Throttled => Status::Busy,
        Outcome::Unsupported | Outcome::Failed => Status::Internal,
        Outcome::Hit(_)
        | Outcome::Stored { .. }
        | Outcome::Deleted
        | Outcome::Touched { .. }
        | Outcome::Number { .. }
        | Outcome::Changed(_)
        | Outcome::Dumped(_)
        | Outcome::Flushed => unreachable!("no failure"),
    }
}

/// Writes the reply to a command about the server to `head`; [`super::stats::write`] writes
/// statistics.
pub fn encode_control(control: Control<'_>, form: Form, head: &mut Head) {
    let Form { opcode, opaque } = form;
    let body = match control {
        Control::Version => super::VERSION.as_bytes(),
        Control::Noop => b"",
        // Text only.
        Control::Verbosity(_) | Control::Shutdown { .. } => return,
        Control::Stats(_) => return,
    };
    let body_bytes = body.len();
    head.put(&Reply { opcode, opaque, body_bytes, ..Reply::default() }.bytes());
    head.put(body);
}

/// Writes one statistic to `out`; the last packet has neither name nor value.
pub(super) fn write_stat(form: Form, name: &str, value: &str, out: &mut Gather) {
    let key_bytes = name.len();
    let body_bytes = name.len() + value.len();
    let Form { opcode, opaque } = form;
    out.extend(&Reply { opcode, opaque, key_bytes, body_bytes, ..Reply::default() }.bytes());
    out.extend(name.as_bytes());
    out.extend(value.as_bytes());
}

/// Writes the answer to a request for unknown statistics to `out`.
pub(super) fn write_stat_unknown(form: Form, out: &mut Gather) {
    let mut head = Head::new();
    Status::NotFound.push(form.opcode, form.opaque, &mut head);
    out.extend(&head);
}

#[cfg(test)]
mod tests;
