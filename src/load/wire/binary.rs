//! The binary protocol, as a client speaks it (memcached's doc/protocol-binary.txt).
//!
//! Says the same as `text` where the protocols say the same in other ways: see [`decode`]. Never
//! asks quietly but in [`encode_many`].

use super::{ClientRequest, Decoded, Garbage, Item, Reply, Step, VALUE_BYTES_MAX, Verb};

const HEADER_BYTES: usize = 24;

const GET: u8 = 0x00;
const NOOP: u8 = 0x0a;
const GETKQ: u8 = 0x0d;
const GAT: u8 = 0x1d;

/// The exptime with which incr and decr make no item.
const NO_ITEM: u32 = u32::MAX;

fn opcode(verb: Verb) -> u8 {
    match verb {
        Verb::Get | Verb::Gets => GET,
        Verb::Set | Verb::Cas => 0x01,
        Verb::Add => 0x02,
        Verb::Replace => 0x03,
        Verb::Delete => 0x04,
        Verb::Incr => 0x05,
        Verb::Decr => 0x06,
        Verb::Flush => 0x08,
        Verb::Append => 0x0e,
        Verb::Prepend => 0x0f,
        Verb::Touch => 0x1c,
        Verb::Gat | Verb::Gats => GAT,
    }
}

/// Adds the request's bytes to `out`.
#[inline]
pub fn encode(request: &ClientRequest<'_>, out: &mut Vec<u8>) {
    let mut extras = arrayvec::ArrayVec::<u8, 20>::new();
    let mut put = |bytes: &[u8]| extras.try_extend_from_slice(bytes).expect("20 at most");
    match request.verb {
        Verb::Gat | Verb::Gats | Verb::Touch => put(&request.exptime.to_be_bytes()),
        Verb::Incr | Verb::Decr => {
            put(&1_u64.to_be_bytes());
            put(&0_u64.to_be_bytes());
            put(&NO_ITEM.to_be_bytes());
        }
        Verb::Set | Verb::Add | Verb::Replace | Verb::Cas => {
            put(&request.flags.to_be_bytes());
            put(&request.exptime.to_be_bytes());
        }
        _ => {}
    }
    let ClientRequest { key, value, opaque, unique, .. } = *request;
    let unique = if request.verb == Verb::Cas { unique } else { 0 };
    let value = if request.verb.is_store() { value } else { b"" };
    header(out, opcode(request.verb), key, extras.len(), value.len(), opaque, unique);
    out.extend_from_slice(&extras);
    out.extend_from_slice(key);
    out.extend_from_slice(value);
}

#[inline]
fn header(
    out: &mut Vec<u8>,
    opcode: u8,
    key: &[u8],
    extras_bytes: usize,
    value_bytes: usize,
    opaque: u32,
    unique: u64,
) {
    let body_bytes = extras_bytes + key.len() + value_bytes;
    let mut header = [0; HEADER_BYTES];
    header[0] = 0x80;
    header[1] = opcode;
    header[2..4].copy_from_slice(&(key.len() as u16).to_be_bytes());
    header[4] = extras_bytes as u8;
    header[8..12].copy_from_slice(&(body_bytes as u32).to_be_bytes());
    header[12..16].copy_from_slice(&opaque.to_be_bytes());
    header[16..].copy_from_slice(&unique.to_be_bytes());
    out.extend_from_slice(&header);
}

/// See [`super::encode_many`].
#[inline]
pub fn encode_many<'a>(keys: impl IntoIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    let mut opaque = 0;
    for key in keys {
        header(out, GETKQ, key, 0, 0, opaque, 0);
        out.extend_from_slice(key);
        opaque += 1;
    }
    header(out, NOOP, b"", 0, 0, opaque, 0);
}

/// Reads the reply at the start of `input`. An add that finds something is [`Reply::NotStored`] as
/// in text, and so is a replace, append or prepend that finds nothing.
///
/// # Errors
/// It is none.
#[inline]
pub fn decode(input: &[u8]) -> Decoded<'_> {
    let Some((header, rest)) = input.split_first_chunk::<HEADER_BYTES>() else {
        let is_reply = input.first().is_none_or(|&magic| magic == 0x81);
        let missing_bytes = HEADER_BYTES - input.len();
        return if is_reply { Ok(Step::NeedMore(missing_bytes)) } else { Err(NO_HEAD) };
    };
    let short = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let word = |at: usize| u32::from_be_bytes(*header[at..].first_chunk().expect("in the header"));
    let (key_bytes, extras_bytes) = (usize::from(short(2)), usize::from(header[4]));
    let body_bytes = word(8) as usize;
    if header[0] != 0x81 || extras_bytes + key_bytes > body_bytes {
        return Err(NO_HEAD);
    }
    if body_bytes > VALUE_BYTES_MAX {
        return Err(Garbage("a value longer than any"));
    }
    let Some(body) = rest.get(..body_bytes) else {
        return Ok(Step::NeedMore(body_bytes - rest.len()));
    };
    let (extras, body) = body.split_at(extras_bytes);
    let (key, value) = body.split_at(key_bytes);
    let unique = u64::from_be_bytes(*header[16..].first_chunk().expect("in the header"));
    let reply = reply(header[1], short(6), extras, Item { key, flags: 0, value, unique })?;
    Ok(Step::Reply { reply, opaque: Some(word(12)), consumed: HEADER_BYTES + body_bytes })
}

const NO_HEAD: Garbage = Garbage("no head of a binary reply");

fn is_retrieval(opcode: u8) -> bool {
    // get, getq, getk, getkq; gat, gatq; gatk, gatkq.
    matches!(opcode, GET | 0x09 | 0x0c | GETKQ | GAT | 0x1e | 0x23 | 0x24)
}

#[inline]
fn reply<'a>(opcode: u8, status: u16, extras: &[u8], item: Item<'a>) -> Result<Reply<'a>, Garbage> {
    match status {
        0 if is_retrieval(opcode) => match extras.first_chunk() {
            Some(flags) if extras.len() == 4 => {
                Ok(Reply::Item(Item { flags: u32::from_be_bytes(*flags), ..item }))
            }
            _ => Err(Garbage("an item without its flags")),
        },
        0 => done(opcode, item.value),
        1 if is_retrieval(opcode) => Ok(Reply::Miss),
        1 if matches!(opcode, 0x03 | 0x0e | 0x0f) => Ok(Reply::NotStored),
        1 => Ok(Reply::NotFound),
        2 if opcode == 0x02 => Ok(Reply::NotStored),
        2 => Ok(Reply::Exists),
        3 => Ok(Reply::TooLarge),
        5 => Ok(Reply::NotStored),
        // Out of memory, internal error, busy, temporary failure.
        0x82 | 0x84..=0x86 => Ok(Reply::Failed(item.value)),
        _ => Ok(Reply::Refused(item.value)),
    }
}

/// What success means.
fn done(opcode: u8, value: &[u8]) -> Result<Reply<'_>, Garbage> {
    match opcode {
        0x05 | 0x06 => match value.first_chunk() {
            Some(number) if value.len() == 8 => Ok(Reply::Number(u64::from_be_bytes(*number))),
            _ => Err(Garbage("a number that has not 8 bytes")),
        },
        0x01..=0x03 | 0x0e | 0x0f => Ok(Reply::Stored),
        0x04 => Ok(Reply::Deleted),
        0x08 => Ok(Reply::Ok),
        NOOP => Ok(Reply::End),
        0x1c => Ok(Reply::Touched),
        _ => Err(Garbage("an opcode that was not requested")),
    }
}
