//! memcached's meta protocol, as far as a tier uses it: writing requests, parsing heads of answers.
//!
//! The bytes are those of memcached 1.6's protocol.txt. Each request has `O`, the number of the
//! request, as its first flag. Errors are returned without it; the order of answers assigns them. A
//! line that cannot be an answer to our requests is invalid, and never interpreted.
//! are. A line that no request of ours can be answered with is garbage, never guessed at.

pub mod requests;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::memchr;

use super::key::{can_carry, is_text};
use crate::base::clock::{Expiry, Now, RELATIVE_EXPTIME_MAX_S};
use crate::base::limits::KEY_BYTES_MAX;
use crate::tier::link::{Codec, Garbage, Head, Marks, Refusal, RequestWriter, Status};
use crate::tier::{Arithmetic, StoreMode};

/// The meta protocol.
#[derive(Clone, Copy, Debug)]
pub struct Meta;

/// Longest line of an answer, in bytes.
const LINE_MAX: usize = 512;

/// Most bytes of a request besides its key and value: the command, and every flag with the largest
/// number that it can have.
const REQUEST_BYTES_MAX: usize = 192;

/// Bytes of a server's answer that are shown in the reason for refusing it.
const SHOWN_BYTES_MAX: usize = 60;

/// The start of the head of a looked-up value.
const VALUE_START: &[u8] = b"VALUE ";

/// What a get requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Get {
    /// Flags, cas and value.
    Value,
    /// The same, and the expiry.
    ValueAndExpiry,
    /// The value and nothing else.
    ValueAlone,
    /// Whether the item exists.
    Existence,
}

/// How a value is stored.
#[derive(Clone, Copy, Debug)]
pub struct Store {
    /// The condition, and the position in the item.
    pub mode: StoreMode,
    /// The item's flags.
    pub flags: u32,
    /// Its expiry.
    pub expiry: Expiry,
    /// Only if the item has this cas, as the server knows it; 0: any.
    pub cas: u64,
}

/// Most room for a request with this key and a value of this many bytes, in bytes.
#[inline]
pub fn room(key: &[u8], value_bytes: usize) -> usize {
    REQUEST_BYTES_MAX + key.len().max(KEY_BYTES_MAX) + value_bytes
}

/// Starts a request: command, key, and `middle` after it.
#[inline]
fn begin(
    request: &mut RequestWriter<'_>,
    command: &[u8; 3],
    key: &[u8],
    value_bytes: Option<usize>,
) {
    debug_assert!(can_carry(key), "checked before");
    request.put(command);
    let is_text = is_text(key);
    if is_text {
        request.put(key);
    } else {
        put_base64(request, key);
    }
    if let Some(bytes) = value_bytes {
        request.put(b" ");
        request.number(bytes as u64);
    }
    request.put(if is_text { b" O" } else { b" b O" });
    request.number(u64::from(request.opaque()));
}

#[cold]
fn put_base64(request: &mut RequestWriter<'_>, bytes: &[u8]) {
    let mut encoded = [0; KEY_BYTES_MAX.div_ceil(3) * 4];
    let len = STANDARD.encode_slice(bytes, &mut encoded).expect("room for the longest key");
    request.put(&encoded[..len]);
}

/// Appends a flag with an expiry in memcached's form: seconds from now up to 30 days, Unix time
/// above, 0 for never, -1 for past.
fn put_expiry(request: &mut RequestWriter<'_>, flag: &[u8], expiry: Expiry, now: Now) {
    request.put(flag);
    let unix_s = expiry.unix_s();
    let left_s = i64::from(unix_s) - i64::from(now.unix_s);
    if expiry == Expiry::NEVER {
        request.put(b"0");
    } else if left_s <= 0 {
        request.put(b"-1");
    } else if left_s <= RELATIVE_EXPTIME_MAX_S {
        request.number(left_s as u64);
    } else {
        // memcached reads a signed number of 32 bits.
        request.number(u64::from(unix_s.min(i32::MAX as u32)));
    }
}

fn put_number(request: &mut RequestWriter<'_>, flag: &[u8], number: u64) {
    request.put(flag);
    request.number(number);
}

/// Requests an item: [`Status::Value`], [`Status::Done`] for [`Get::Existence`], or
/// [`Status::Miss`].
#[inline]
pub fn get(request: &mut RequestWriter<'_>, key: &[u8], what: Get) {
    begin(request, b"mg ", key, None);
    request.put(match what {
        Get::Value => b" f c v\r\n",
        Get::ValueAndExpiry => b" f c t v\r\n",
        Get::ValueAlone => b" v\r\n",
        Get::Existence => b"\r\n",
    });
}

/// Requests flags, cas and value, and sets the item's expiry: [`Status::Value`], [`Status::Miss`].
pub fn get_and_touch(request: &mut RequestWriter<'_>, key: &[u8], expiry: Expiry, now: Now) {
    begin(request, b"mg ", key, None);
    put_expiry(request, b" T", expiry, now);
    request.put(b" f c v\r\n");
}

/// Sets an item's expiry: [`Status::Done`] with its cas, [`Status::Miss`].
pub fn touch(request: &mut RequestWriter<'_>, key: &[u8], expiry: Expiry, now: Now) {
    begin(request, b"mg ", key, None);
    put_expiry(request, b" T", expiry, now);
    request.put(b" c\r\n");
}

/// Starts storing a value of this many bytes; [`RequestWriter::value`] or similar follow, and then
/// [`end_of_value`]. The answer is [`Status::Done`] with the item's cas, [`Status::NotStored`],
/// [`Status::Exists`], [`Status::Miss`] (of a cas), [`Status::TooLarge`] or [`Status::NoMemory`].
#[inline]
pub fn store(
    request: &mut RequestWriter<'_>,
    key: &[u8],
    store: &Store,
    value_bytes: usize,
    now: Now,
) {
    begin(request, b"ms ", key, Some(value_bytes));
    if store.flags != 0 {
        put_number(request, b" F", u64::from(store.flags));
    }
    if store.expiry != Expiry::NEVER {
        put_expiry(request, b" T", store.expiry, now);
    }
    if store.cas != 0 {
        put_number(request, b" C", store.cas);
    }
    // memcached executes any set, add or replace with a cas as cas.
    request.put(match store.mode {
        StoreMode::Append => b" MA c\r\n",
        StoreMode::Prepend => b" MP c\r\n",
        StoreMode::Add if store.cas == 0 => b" ME c\r\n",
        StoreMode::Replace if store.cas == 0 => b" MR c\r\n",
        _ => b" c\r\n",
    });
}

/// Ends a value.
#[inline]
pub fn end_of_value(request: &mut RequestWriter<'_>) {
    request.put(b"\r\n");
}

/// Deletes an item, if `cas` is its cas or 0: [`Status::Done`], [`Status::Miss`],
/// [`Status::Exists`].
pub fn delete(request: &mut RequestWriter<'_>, key: &[u8], cas: u64) {
    begin(request, b"md ", key, None);
    if cas != 0 {
        put_number(request, b" C", cas);
    }
    request.put(b"\r\n");
}

/// Marks an item as stale, if `cas` is its cas: [`Status::Done`], [`Status::Miss`],
/// [`Status::Exists`].
pub fn invalidate(request: &mut RequestWriter<'_>, key: &[u8], cas: u64) {
    begin(request, b"md ", key, None);
    put_number(request, b" C", cas);
    request.put(b" I\r\n");
}

/// Increments or decrements: [`Status::Value`] with the new number in digits and the item's cas,
/// [`Status::Miss`], [`Status::Exists`], [`Status::NonNumeric`], [`Status::NoMemory`]. `arithmetic`
/// has its cas as the server knows it.
pub fn arithmetic(request: &mut RequestWriter<'_>, key: &[u8], arithmetic: &Arithmetic, now: Now) {
    begin(request, b"ma ", key, None);
    if let Some((initial, expiry)) = arithmetic.initial {
        put_expiry(request, b" N", expiry, now);
        put_number(request, b" J", initial);
    }
    put_number(request, if arithmetic.decrement { b" MD D" } else { b" MI D" }, arithmetic.delta);
    if arithmetic.cas != 0 {
        put_number(request, b" C", arithmetic.cas);
    }
    request.put(b" c v\r\n");
}

/// Invalidates every item stored before `at`: [`Status::Done`]. memcached executes it a second
/// before the requested time.
pub fn flush_all(request: &mut RequestWriter<'_>, at: Expiry, now: Now) {
    request.put(b"flush_all");
    if at != Expiry::NEVER && !at.is_past(now) {
        let told = Expiry::from_unix_s(at.unix_s().saturating_add(1));
        put_expiry(request, b" ", told, now);
    }
    request.put(b"\r\n");
}

/// The line at the start of `bytes` without its end, and its length with the end.
#[inline]
fn line(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, Garbage> {
    let bytes = &bytes[..bytes.len().min(LINE_MAX)];
    match memchr(b'\n', bytes) {
        Some(end) => match bytes[..end].strip_suffix(b"\r") {
            Some(line) => Ok(Some((line, end + 1))),
            None => Err(Garbage),
        },
        None if bytes.len() == LINE_MAX => Err(Garbage),
        None => Ok(None),
    }
}

/// The number at the start of `bytes`, and the rest.
#[inline]
fn number(bytes: &[u8]) -> Result<(u64, &[u8]), Garbage> {
    let mut number = 0_u64;
    let mut digits = 0;
    while let Some(digit) = bytes.get(digits).map(|byte| byte.wrapping_sub(b'0'))
        && digit < 10
    {
        let next = number.checked_mul(10).and_then(|number| number.checked_add(u64::from(digit)));
        number = next.ok_or(Garbage)?;
        digits += 1;
    }
    if digits == 0 { Err(Garbage) } else { Ok((number, &bytes[digits..])) }
}

/// The head of one value of a lookup, from the bytes after `VALUE `: key, flags, bytes, cas.
#[inline]
fn head_of_one(item: &[u8]) -> Result<Head, Garbage> {
    let key_end = memchr(b' ', item).ok_or(Garbage)?;
    let (flags, rest) = number(&item[key_end + 1..])?;
    let (bytes, rest) = number(rest.strip_prefix(b" ").ok_or(Garbage)?)?;
    let (cas, rest) = number(rest.strip_prefix(b" ").ok_or(Garbage)?)?;
    if !rest.is_empty() {
        return Err(Garbage);
    }
    Ok(Head {
        status: Status::Value,
        flags: u32::try_from(flags).map_err(|_| Garbage)?,
        cas,
        value_bytes: usize::try_from(bytes).map_err(|_| Garbage)?,
        key_bytes: key_end,
        ..Head::default()
    })
}

/// The meaning of an answer without a two-letter code.
#[cold]
fn error_status(line: &[u8]) -> Result<Status, Garbage> {
    if line == b"CLIENT_ERROR cannot increment or decrement non-numeric value" {
        return Ok(Status::NonNumeric);
    }
    if line == b"CLIENT_ERROR flush_all not allowed" {
        return Ok(Status::Refused);
    }
    // Ours come once.
    if [&b"CLIENT_ERROR invalid flag"[..], b"CLIENT_ERROR invalid or duplicate flag"]
        .contains(&line)
    {
        return Ok(Status::Unsupported);
    }
    match line.strip_prefix(b"SERVER_ERROR ") {
        Some(b"object too large for cache") => Ok(Status::TooLarge),
        Some(why) if why.starts_with(b"out of memory") => Ok(Status::NoMemory),
        Some(_) => Ok(Status::Refused),
        // The server did not understand the request, or the answer belongs to another.
        None => Err(Garbage),
    }
}

impl Codec for Meta {
    const NAME: &'static str = "memcached";
    const TRAILER: &'static [u8] = b"\r\n";
    const HEAD_BYTES_MAX: usize = LINE_MAX;
    // memcached executes 20 requests of a connection, then sends the answers and serves others
    // (`-R`); this is one, however many keys it has.
    const LOOKUP: &'static [u8] = b"gets";
    const LOOKUP_END: &'static [u8] = b"\r\n";
    const LOOKUP_KEY_START: usize = VALUE_START.len();

    fn hello(out: &mut Vec<u8>) {
        out.extend_from_slice(b"version\r\nmn\r\n");
    }

    fn greeting(bytes: &[u8]) -> Result<Option<()>, Refusal> {
        let shown = bytes[..bytes.len().min(SHOWN_BYTES_MAX)].trim_ascii_end().escape_ascii();
        let other =
            || Refusal(format!("the server there is not a memcached: it answers '{shown}'"));
        let start = b"VERSION ";
        if !bytes.starts_with(&start[..bytes.len().min(start.len())]) {
            if bytes.starts_with(b"CLIENT_ERROR unauth") {
                return Err(Refusal("it requires a password, which is not supported".into()));
            }
            return Err(other());
        }
        let Some((first, used)) = line(bytes).map_err(|Garbage| other())? else { return Ok(None) };
        let Some((second, used_second)) = line(&bytes[used..]).map_err(|Garbage| other())? else {
            return Ok(None);
        };
        if second != b"MN" {
            let version = first[start.len().min(first.len())..].escape_ascii();
            return Err(Refusal(format!(
                "memcached {version} has no meta commands; a memcached of 1.6 or later is \
                 needed, or, for another sunder as L2, rend,addr="
            )));
        }
        if used + used_second < bytes.len() { Err(other()) } else { Ok(Some(())) }
    }

    #[inline]
    fn head(bytes: &[u8], now: Now) -> Result<Option<(Head, usize)>, Garbage> {
        let Some((line, used)) = line(bytes)? else { return Ok(None) };
        let mut head = Head::default();
        let Some((code, mut rest)) = line.split_at_checked(2) else { return Err(Garbage) };
        if !matches!(rest.first(), None | Some(b' ')) {
            if let Some(item) = line.strip_prefix(VALUE_START) {
                return Ok(Some((head_of_one(item)?, used)));
            }
            head.status = if line == b"END" { Status::End } else { error_status(line)? };
            return Ok(Some((head, used)));
        }
        head.status = match code {
            b"VA" => Status::Value,
            b"HD" | b"OK" => Status::Done,
            b"EN" | b"NF" => Status::Miss,
            b"NS" => Status::NotStored,
            b"EX" => Status::Exists,
            _ => return Err(Garbage),
        };
        if head.status == Status::Value {
            let (bytes, flags) = number(rest.get(1..).ok_or(Garbage)?)?;
            head.value_bytes = usize::try_from(bytes).map_err(|_| Garbage)?;
            rest = flags;
        }
        while let [b' ', flag, token @ ..] = rest {
            rest = token;
            let mut take = || -> Result<u64, Garbage> {
                let (number, behind) = number(token)?;
                rest = behind;
                Ok(number)
            };
            match flag {
                b'O' => head.opaque = Some(u32::try_from(take()?).map_err(|_| Garbage)?),
                b'f' => head.flags = u32::try_from(take()?).map_err(|_| Garbage)?,
                b'c' => head.cas = take()?,
                b't' if token.starts_with(b"-1") => rest = &token[2..],
                b't' => {
                    let left_s = u32::try_from(take()?).unwrap_or(u32::MAX);
                    head.expiry = Expiry::from_unix_s(now.unix_s.saturating_add(left_s));
                }
                b'h' => head.marks.set(Marks::FETCHED, take()? != 0),
                b'l' => head.idle_s = u32::try_from(take()?).unwrap_or(u32::MAX),
                b'W' => head.marks.set(Marks::WON, true),
                b'X' => head.marks.set(Marks::STALE, true),
                b'Z' => head.marks.set(Marks::TOKEN_SENT, true),
                _ => return Err(Garbage),
            }
        }
        if rest.is_empty() { Ok(Some((head, used))) } else { Err(Garbage) }
    }

    fn delete(request: &mut RequestWriter<'_>, key: &[u8]) {
        delete(request, key, 0);
    }

    fn flush_all(request: &mut RequestWriter<'_>) {
        flush_all(request, Expiry::NEVER, Now::default());
    }
}

#[cfg(test)]
mod tests;
