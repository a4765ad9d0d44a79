//! memcached's meta commands, as a client speaks them (its doc/protocol.txt, "Meta Commands").
//!
//! Every request asks for its opaque and its key back, so that a reply names what it answers. A
//! flush_all is the text protocol's.

use super::{
    ClientRequest, Decoded, Garbage, Item, Reply, Step, Verb, line, number, put_number, value,
};
use memchr::memchr;

/// What a server that does not know a command answers, to any of them.
pub const UNKNOWN: &[u8] = b"ERROR";

/// The error for a server that answers so to a meta command.
pub const LACKING: &str =
    "the server has no meta commands (it answers ERROR): use the text or the binary protocol";

/// Adds the request's bytes to `out`.
#[inline]
pub fn encode(request: &ClientRequest<'_>, out: &mut Vec<u8>) {
    let ClientRequest { verb, key, exptime, .. } = *request;
    let command: &[u8] = match verb {
        Verb::Get | Verb::Gets | Verb::Gat | Verb::Gats | Verb::Touch => b"mg ",
        Verb::Incr | Verb::Decr => b"ma ",
        Verb::Delete => b"md ",
        Verb::Flush => return out.extend_from_slice(b"flush_all\r\n"),
        _ => b"ms ",
    };
    out.extend_from_slice(command);
    out.extend_from_slice(key);
    if verb.is_store() {
        out.push(b' ');
        put_number(out, request.value.len());
        put(out, b" F", request.flags);
        if exptime != 0 {
            put(out, b" T", exptime);
        }
    }
    if matches!(verb, Verb::Gat | Verb::Gats | Verb::Touch) {
        put(out, b" T", exptime);
    }
    match verb {
        Verb::Add => out.extend_from_slice(b" ME"),
        Verb::Replace => out.extend_from_slice(b" MR"),
        Verb::Append => out.extend_from_slice(b" MA"),
        Verb::Prepend => out.extend_from_slice(b" MP"),
        Verb::Cas => put(out, b" C", request.unique),
        Verb::Incr => out.extend_from_slice(b" v"),
        Verb::Decr => out.extend_from_slice(b" MD v"),
        Verb::Get | Verb::Gat => out.extend_from_slice(b" f v"),
        Verb::Gets | Verb::Gats => out.extend_from_slice(b" f c v"),
        _ => {}
    }
    put(out, b" k O", request.opaque);
    out.extend_from_slice(b"\r\n");
    if verb.is_store() {
        out.extend_from_slice(request.value);
        out.extend_from_slice(b"\r\n");
    }
}

/// See [`super::encode_many`].
#[inline]
pub fn encode_many<'a>(verb: Verb, keys: impl IntoIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    let flags: &[u8] = if verb == Verb::Gets { b" f c v k q O" } else { b" f v k q O" };
    for (opaque, key) in keys.into_iter().enumerate() {
        out.extend_from_slice(b"mg ");
        out.extend_from_slice(key);
        put(out, flags, opaque);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"mn\r\n");
}

#[inline]
fn put(out: &mut Vec<u8>, flag: &[u8], number: impl itoa::Integer) {
    out.extend_from_slice(flag);
    put_number(out, number);
}

/// Reads the reply at the start of `input`.
///
/// # Errors
/// It is none.
#[inline]
pub fn decode(input: &[u8]) -> Decoded<'_> {
    let Some(line) = line(input)? else { return Ok(Step::NeedMore(1)) };
    let head_bytes = line.len() + 2;
    let mut item = Item { key: b"", flags: 0, value: b"", unique: 0 };
    let code =
        line.split_at_checked(2).filter(|(_, rest)| matches!(rest.first(), None | Some(b' ')));
    let Some((code, rest)) = code else {
        let reply = if line == b"END" { Reply::End } else { super::word(line)? };
        return Ok(Step::Reply { reply, opaque: None, consumed: head_bytes });
    };
    let reply = match code {
        b"VA" => {
            let (bytes, rest) =
                rest.get(1..).and_then(number).ok_or(Garbage("a value without a length"))?;
            let opaque = flags(rest, &mut item)?;
            let value = match value(input, head_bytes, bytes)? {
                Ok(value) => value,
                Err(missing_bytes) => return Ok(Step::NeedMore(missing_bytes)),
            };
            let consumed = head_bytes + value.len() + 2;
            return Ok(Step::Reply {
                reply: Reply::Item(Item { value, ..item }),
                opaque,
                consumed,
            });
        }
        b"HD" => Reply::Done,
        b"OK" => Reply::Ok,
        b"EN" => Reply::Miss,
        b"MN" => Reply::End,
        b"NF" => Reply::NotFound,
        b"NS" => Reply::NotStored,
        b"EX" => Reply::Exists,
        _ => return Err(Garbage("a line that is no reply")),
    };
    let opaque = flags(rest, &mut item)?;
    Ok(Step::Reply { reply, opaque, consumed: head_bytes })
}

/// Reads the flags behind a code: what they say of the item, and the opaque.
#[inline]
fn flags<'a>(mut rest: &'a [u8], item: &mut Item<'a>) -> Result<Option<u32>, Garbage> {
    const WRONG: Garbage = Garbage("a flag that was not requested");
    let mut opaque = None;
    while let [b' ', flag, token @ ..] = rest {
        let end = memchr(b' ', token).unwrap_or(token.len());
        let (token, behind) = token.split_at(end);
        rest = behind;
        let number = || number(token).filter(|(_, rest)| rest.is_empty()).map(|(number, _)| number);
        let short = || number().and_then(|number| u32::try_from(number).ok()).ok_or(WRONG);
        match flag {
            b'f' => item.flags = short()?,
            b'c' => item.unique = number().ok_or(WRONG)?,
            b'k' => item.key = token,
            b'O' => opaque = Some(short()?),
            // Marks on items that other clients made stale.
            b'W' | b'X' | b'Z' if token.is_empty() => {}
            _ => return Err(WRONG),
        }
    }
    if rest.is_empty() { Ok(opaque) } else { Err(WRONG) }
}
