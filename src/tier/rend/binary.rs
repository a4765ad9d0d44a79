//! memcached's binary protocol as a client of a Rend-based server speaks it, GETE included
//! (memcached's doc/protocol-binary.txt, "Packet structure").
//!
//! Requests are encoded up to their value, which the caller sends after them; responses are parsed
//! up to theirs. Rend sends the wrong opcode in some responses, so a response is recognized by its
//! shape and its order, never by its opcode. Nothing here may send an opcode that a Rend does not
//! know without the caller having checked: Rend closes the connection.

use arrayvec::ArrayVec;
use bytes::{Buf, BufMut};

use crate::base::buffer::Chain;
use crate::base::clock::{Expiry, Now, RELATIVE_EXPTIME_MAX_S};
use crate::base::limits::{ERROR_TEXT_BYTES_MAX, KEY_BYTES_MAX, LINK_VALUE_BYTES_MAX};
use crate::tier::link::{self, Codec, Garbage, Head, Refusal, Status};
use crate::tier::{Arithmetic, StoreMode};

const HEADER_BYTES: usize = 24;
const MAGIC_REQUEST: u8 = 0x80;
const MAGIC_RESPONSE: u8 = 0x81;

/// Delta, initial value and exptime: the longest extras of a request.
const EXTRAS_BYTES_MAX: usize = 20;

/// The longest request without its value, in bytes.
pub const REQUEST_HEAD_BYTES_MAX: usize = HEADER_BYTES + EXTRAS_BYTES_MAX + KEY_BYTES_MAX;

/// The exptime that requests a miss instead of a new item from an incr or decr.
const EXPTIME_NO_ITEM: u32 = u32::MAX;

/// Opcodes of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Opcode {
    Set = 0x01,
    Add = 0x02,
    Replace = 0x03,
    Delete = 0x04,
    Increment = 0x05,
    Decrement = 0x06,
    Flush = 0x08,
    Noop = 0x0a,
    Version = 0x0b,
    Append = 0x0e,
    Prepend = 0x0f,
    Touch = 0x1c,
    GetAndTouch = 0x1d,
    /// Rend's extension.
    GetWithExpiry = 0x40,
}

/// A request, except its opaque and the bytes of its value.
#[derive(Clone, Debug)]
pub struct BinaryRequest<'a> {
    opcode: Opcode,
    extras: ArrayVec<u8, EXTRAS_BYTES_MAX>,
    key: &'a [u8],
    cas: u64,
    value_bytes: usize,
}

impl<'a> BinaryRequest<'a> {
    fn new(opcode: Opcode, key: &'a [u8]) -> BinaryRequest<'a> {
        BinaryRequest { opcode, extras: ArrayVec::new(), key, cas: 0, value_bytes: 0 }
    }

    fn with_extras(mut self, bytes: &[u8]) -> BinaryRequest<'a> {
        let has_room = self.extras.try_extend_from_slice(bytes).is_ok();
        assert!(has_room, "no request of ours has longer extras");
        self
    }

    /// No operation; every server answers.
    pub fn noop() -> BinaryRequest<'static> {
        BinaryRequest::new(Opcode::Noop, b"")
    }

    /// Requests the server's version, which is the value of the answer.
    pub fn version() -> BinaryRequest<'static> {
        BinaryRequest::new(Opcode::Version, b"")
    }

    /// Requests the item, with its expiry: Rend's GETE.
    pub fn get_with_expiry(key: &'a [u8]) -> BinaryRequest<'a> {
        BinaryRequest::new(Opcode::GetWithExpiry, key)
    }

    /// Requests the item and sets its expiry.
    pub fn get_and_touch(key: &'a [u8], exptime: u32) -> BinaryRequest<'a> {
        BinaryRequest::new(Opcode::GetAndTouch, key).with_extras(&exptime.to_be_bytes())
    }

    /// Sets the item's expiry.
    pub fn touch(key: &'a [u8], exptime: u32) -> BinaryRequest<'a> {
        BinaryRequest::new(Opcode::Touch, key).with_extras(&exptime.to_be_bytes())
    }

    /// Deletes the item.
    pub fn delete(key: &'a [u8], cas: u64) -> BinaryRequest<'a> {
        BinaryRequest { cas, ..BinaryRequest::new(Opcode::Delete, key) }
    }

    /// Stores a value of `value_bytes` bytes, which must follow. An append or prepend does not
    /// change `flags` and `exptime`.
    ///
    /// # Panics
    /// If the value is longer than any item may be.
    pub fn store(
        mode: StoreMode,
        key: &'a [u8],
        flags: u32,
        exptime: u32,
        cas: u64,
        value_bytes: usize,
    ) -> BinaryRequest<'a> {
        assert!(value_bytes <= LINK_VALUE_BYTES_MAX, "items are limited");
        let opcode = match mode {
            StoreMode::Set => Opcode::Set,
            StoreMode::Add => Opcode::Add,
            StoreMode::Replace => Opcode::Replace,
            StoreMode::Append => Opcode::Append,
            StoreMode::Prepend => Opcode::Prepend,
        };
        let request = BinaryRequest { cas, value_bytes, ..BinaryRequest::new(opcode, key) };
        match mode {
            StoreMode::Append | StoreMode::Prepend => request,
            StoreMode::Set | StoreMode::Add | StoreMode::Replace => {
                request.with_extras(&flags.to_be_bytes()).with_extras(&exptime.to_be_bytes())
            }
        }
    }

    /// Increments or decrements. The answer's value is eight bytes: [`number`].
    pub fn arithmetic(key: &'a [u8], arithmetic: Arithmetic, now: Now) -> BinaryRequest<'a> {
        let Arithmetic { decrement, delta, initial, cas } = arithmetic;
        let opcode = if decrement { Opcode::Decrement } else { Opcode::Increment };
        let (value, exptime) = match initial {
            Some((value, expiry)) => (value, Exptimes::Memcached.exptime(expiry, now)),
            None => (0, EXPTIME_NO_ITEM),
        };
        BinaryRequest { cas, ..BinaryRequest::new(opcode, key) }
            .with_extras(&delta.to_be_bytes())
            .with_extras(&value.to_be_bytes())
            .with_extras(&exptime.to_be_bytes())
    }

    /// Deletes all items, immediately or from a moment on.
    pub fn flush_all(exptime: u32) -> BinaryRequest<'static> {
        BinaryRequest::new(Opcode::Flush, b"").with_extras(&exptime.to_be_bytes())
    }

    /// Writes the request to the output, up to its value.
    #[inline]
    pub fn put(&self, request: &mut link::RequestWriter<'_>) {
        request.put(&self.head(request.opaque()));
    }

    /// The request's bytes up to its value.
    pub fn head(&self, opaque: u32) -> ArrayVec<u8, REQUEST_HEAD_BYTES_MAX> {
        let body_bytes = self.extras.len() + self.key.len() + self.value_bytes;
        let mut header = [0; HEADER_BYTES];
        let mut put = &mut header[..];
        put.put_u8(MAGIC_REQUEST);
        put.put_u8(self.opcode as u8);
        put.put_u16(self.key.len() as u16);
        put.put_u8(self.extras.len() as u8);
        put.put_slice(&[0; 3]);
        put.put_u32(body_bytes as u32);
        put.put_u32(opaque);
        put.put_u64(self.cas);
        let mut head = ArrayVec::new();
        for part in [&header[..], &self.extras, self.key] {
            let has_room = head.try_extend_from_slice(part).is_ok();
            assert!(has_room, "keys and extras are limited");
        }
        head
    }
}

/// How a server interprets an exptime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exptimes {
    /// As memcached: 0 is never, up to 30 days is relative, above is a Unix time.
    Memcached,
    /// As rend-lmdb and Rend's own memory: always relative. 0 means never in a store, and now in
    /// rend-lmdb's touch.
    Distances,
}

/// Always in the past: 1970.
const EXPTIME_PAST: u32 = RELATIVE_EXPTIME_MAX_S as u32 + 1;

/// Clocks of servers on one host differ by less than this, in seconds.
const CLOCK_SLACK_S: u32 = 24 * 60 * 60;

/// How never is expressed if only relative times are possible: a moment in 2106, in seconds of Unix
/// time.
const FOREVER_UNIX_S: u32 = u32::MAX - CLOCK_SLACK_S;

impl Exptimes {
    /// The exptime to store an item with. The past cannot be expressed as a relative time: with
    /// [`Exptimes::Distances`] an expired item must not be stored.
    pub fn exptime(self, expiry: Expiry, now: Now) -> u32 {
        let seconds = expiry.unix_s().saturating_sub(now.unix_s);
        match self {
            _ if expiry == Expiry::NEVER => 0,
            Exptimes::Memcached if expiry.is_past(now) => EXPTIME_PAST,
            Exptimes::Memcached if i64::from(seconds) > RELATIVE_EXPTIME_MAX_S => expiry.unix_s(),
            Exptimes::Memcached | Exptimes::Distances => seconds,
        }
    }

    /// The exptime to touch an item with: like [`Exptimes::exptime`], but never 0 if relative.
    pub fn exptime_of_touch(self, expiry: Expiry, now: Now) -> u32 {
        match self {
            Exptimes::Distances if expiry == Expiry::NEVER => {
                FOREVER_UNIX_S.saturating_sub(now.unix_s)
            }
            _ => self.exptime(expiry, now),
        }
    }

    /// The meaning of an expiry returned by a server.
    pub fn expiry(self, said: Expiry) -> Expiry {
        match self {
            Exptimes::Distances if said.unix_s() >= FOREVER_UNIX_S - CLOCK_SLACK_S => Expiry::NEVER,
            _ => said,
        }
    }
}

/// The binary protocol.
#[derive(Clone, Copy, Debug)]
pub struct Binary;

impl Codec for Binary {
    const NAME: &'static str = "Rend-based server";

    const TRAILER: &'static [u8] = b"";

    const HEAD_BYTES_MAX: usize = HEADER_BYTES + ERROR_TEXT_BYTES_MAX;

    fn hello(out: &mut Vec<u8>) {
        BinaryRequest::version().put(&mut link::RequestWriter::new(out, 0));
    }

    fn greeting(bytes: &[u8]) -> Result<Option<()>, Refusal> {
        match head(bytes) {
            Ok(Some((head, used))) if head.status == Status::Value => {
                Ok((bytes.len() >= used.saturating_add(head.value_bytes)).then_some(()))
            }
            Ok(None) => Ok(None),
            Ok(Some(_)) | Err(Garbage) => {
                Err(Refusal("it does not speak memcached's binary protocol".into()))
            }
        }
    }

    #[inline]
    fn head(bytes: &[u8], _now: Now) -> Result<Option<(Head, usize)>, Garbage> {
        head(bytes)
    }

    fn delete(request: &mut link::RequestWriter<'_>, key: &[u8]) {
        BinaryRequest::delete(key, 0).put(request);
    }

    /// A Rend closes the connection each time: it stays out of service, as it must if it cannot be
    /// made to delete items.
    fn flush_all(request: &mut link::RequestWriter<'_>) {
        BinaryRequest::flush_all(0).put(request);
    }
}

/// The status of a response with or without a body.
fn status_of(status: u16, has_body: bool) -> Status {
    match status {
        0x00 if has_body => Status::Value,
        0x00 => Status::Done,
        0x01 => Status::Miss,
        0x02 => Status::Exists,
        0x03 => Status::TooLarge,
        0x05 => Status::NotStored,
        0x06 => Status::NonNumeric,
        0x82 => Status::NoMemory,
        _ => Status::Refused,
    }
}

/// The head of the response at the start of `bytes`, and its length in bytes: the response without
/// its value, or including the text of an error. None: more bytes are needed.
///
/// A success without a body is [`Status::Done`], with one [`Status::Value`], even if it is only
/// flags. Rend sends errors of gets with opaque 0 whatever the request had, so a 0 there is
/// ignored.
///
/// # Errors
/// The bytes are not a response, or not one to any of our requests.
pub fn head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Garbage> {
    if bytes.first().is_some_and(|&magic| magic != MAGIC_RESPONSE) {
        return Err(Garbage);
    }
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    // After magic and opcode; a data type, which is ignored, precedes the status.
    let mut take = &header[2..];
    let (key_bytes, extras_bytes) = (take.get_u16(), usize::from(take.get_u8()));
    take.advance(1);
    let (status, body_bytes) = (take.get_u16(), take.get_u32() as usize);
    let (opaque, cas) = (take.get_u32(), take.get_u64());
    // No request of ours is answered with a key.
    if key_bytes != 0 || body_bytes < extras_bytes {
        return Err(Garbage);
    }
    let value_bytes = body_bytes - extras_bytes;
    let status = status_of(status, body_bytes > 0);
    let is_error = !matches!(status, Status::Value | Status::Done);
    let mut head = Head {
        status,
        opaque: (opaque != 0 || !is_error).then_some(opaque),
        cas,
        ..Head::default()
    };
    if is_error {
        if body_bytes > ERROR_TEXT_BYTES_MAX {
            return Err(Garbage);
        }
        let consumed = HEADER_BYTES + body_bytes;
        return Ok((bytes.len() >= consumed).then_some((head, consumed)));
    }
    if !matches!(extras_bytes, 0 | 4 | 8) || value_bytes > LINK_VALUE_BYTES_MAX {
        return Err(Garbage);
    }
    head.value_bytes = value_bytes;
    let consumed = HEADER_BYTES + extras_bytes;
    let Some(mut extras) = bytes.get(HEADER_BYTES..consumed) else { return Ok(None) };
    if let Ok(flags) = extras.try_get_u32() {
        head.flags = flags;
    }
    if let Ok(expiry_s) = extras.try_get_u32() {
        head.expiry = Expiry::from_unix_s(expiry_s);
    }
    Ok(Some((head, consumed)))
}

/// The number in the answer to an incr or decr.
pub fn number(value: &Chain) -> Option<u64> {
    let mut bytes = [0; size_of::<u64>()];
    let n = value.copy_to(0, &mut bytes);
    (n == bytes.len() && value.len() == n).then(|| u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Now = Now { uptime_us: 0, unix_s: 1_800_000_000 };

    fn response(status: u16, extras: &[u8], value: &[u8], opaque: u32, cas: u64) -> Vec<u8> {
        let mut bytes = vec![MAGIC_RESPONSE, 0, 0, 0, extras.len() as u8, 0];
        bytes.extend(status.to_be_bytes());
        bytes.extend(((extras.len() + value.len()) as u32).to_be_bytes());
        bytes.extend(opaque.to_be_bytes());
        bytes.extend(cas.to_be_bytes());
        bytes.extend(extras);
        bytes.extend(value);
        bytes
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn requests_are_those_that_rend_parses() {
        let head = BinaryRequest::get_with_expiry(b"Hello").head(7);
        assert_eq!(
            hex(&head),
            "8040000500000000000000050000000700000000000000004865\
             6c6c6f"
        );
        let store = BinaryRequest::store(StoreMode::Add, b"Hello", 0xdead_beef, 0xe10, 0, 5);
        assert_eq!(
            hex(&store.head(0)),
            "800200050800000000000012000000000000000000000000\
             deadbeef00000e1048656c6c6f"
        );
        let append = BinaryRequest::store(StoreMode::Append, b"k", 7, 7, 0, 3).head(1);
        assert_eq!(hex(&append), "800e000100000000000000040000000100000000000000006b");
        let touch = BinaryRequest::touch(b"k", 0xe10).head(1);
        assert_eq!(hex(&touch), "801c0001040000000000000500000001000000000000000000000e106b");
        let delete = BinaryRequest::delete(b"k", 2).head(1);
        assert_eq!(hex(&delete), "8004000100000000000000010000000100000000000000026b");
        assert_eq!(
            hex(&BinaryRequest::noop().head(9)),
            "800a00000000000000000000000000090000000000000000"
        );
    }

    #[test]
    fn an_incr_contains_its_initial_value() {
        let mut arithmetic = Arithmetic { decrement: false, delta: 1, initial: None, cas: 0 };
        let request = BinaryRequest::arithmetic(b"n", arithmetic, NOW).head(0);
        assert_eq!(hex(&request[24..]), "00000000000000010000000000000000ffffffff6e");
        arithmetic.initial = Some((5, Expiry::from_unix_s(NOW.unix_s + 10)));
        arithmetic.decrement = true;
        let request = BinaryRequest::arithmetic(b"n", arithmetic, NOW).head(0);
        assert_eq!(
            (request[1], hex(&request[24..])),
            (0x06, "000000000000000100000000000000050000000a6e".into())
        );
    }

    #[test]
    fn the_longest_request_fits() {
        let key = [b'k'; KEY_BYTES_MAX];
        let arithmetic = Arithmetic { decrement: true, delta: 1, initial: None, cas: 1 };
        let request = BinaryRequest::arithmetic(&key, arithmetic, NOW);
        assert_eq!(request.head(1).len(), REQUEST_HEAD_BYTES_MAX);
    }

    #[test]
    fn an_expiry_is_encoded_as_the_server_interprets_it() {
        use Exptimes::{Distances, Memcached};
        let at = |seconds: i64| Expiry::from_unix_s((i64::from(NOW.unix_s) + seconds) as u32);
        for (server, expiry, stored, touched) in [
            (Memcached, Expiry::NEVER, 0, 0),
            (Memcached, at(1), 1, 1),
            (Memcached, at(2_592_000), 2_592_000, 2_592_000),
            (Memcached, at(2_592_001), 1_802_592_001, 1_802_592_001),
            (Memcached, at(0), 2_592_001, 2_592_001),
            (Memcached, Expiry::PAST, 2_592_001, 2_592_001),
            (Distances, Expiry::NEVER, 0, u32::MAX - 86_400 - NOW.unix_s),
            (Distances, at(1), 1, 1),
            (Distances, at(2_592_001), 2_592_001, 2_592_001),
        ] {
            assert_eq!(server.exptime(expiry, NOW), stored, "{server:?} {expiry:?}");
            assert_eq!(server.exptime_of_touch(expiry, NOW), touched, "{server:?} {expiry:?}");
        }
        let touched = NOW.unix_s + 1 + Distances.exptime_of_touch(Expiry::NEVER, NOW);
        assert_eq!(Distances.expiry(Expiry::from_unix_s(touched)), Expiry::NEVER);
        assert_eq!(Memcached.expiry(Expiry::from_unix_s(touched)).unix_s(), touched);
        assert_eq!(Distances.expiry(at(5)), at(5));
    }

    #[test]
    fn responses_are_recognized_by_their_shape() {
        let hit = response(0, &[0, 0, 0, 7, 0, 0, 0, 9], b"value", 3, 0);
        let expected = Head {
            status: Status::Value,
            flags: 7,
            expiry: Expiry::from_unix_s(9),
            cas: 0,
            opaque: Some(3),
            value_bytes: 5,
            ..Head::default()
        };
        assert_eq!(head(&hit), Ok(Some((expected, 32))));
        let plain = response(0, &[0, 0, 0, 7], b"value", 3, 8);
        let plain_head = Head { expiry: Expiry::NEVER, cas: 8, ..expected };
        assert_eq!(head(&plain), Ok(Some((plain_head, 28))));
        let empty = response(0, &[0; 8], b"", 3, 0);
        let empty_head = Head { expiry: Expiry::NEVER, flags: 0, value_bytes: 0, ..expected };
        assert_eq!(head(&empty), Ok(Some((empty_head, 32))));
        let done = response(0, b"", b"", 3, 8);
        let done_head = Head { status: Status::Done, cas: 8, ..empty_head };
        assert_eq!(head(&done), Ok(Some((done_head, 24))));
        for (status, meaning) in [
            (0x01, Status::Miss),
            (0x02, Status::Exists),
            (0x03, Status::TooLarge),
            (0x04, Status::Refused),
            (0x05, Status::NotStored),
            (0x06, Status::NonNumeric),
            (0x20, Status::Refused),
            (0x81, Status::Refused),
            (0x82, Status::NoMemory),
            (0xffff, Status::Refused),
        ] {
            // With memcached's text, and without any as from Rend.
            for text in [&b"Some text"[..], b""] {
                let bytes = response(status, b"", text, 3, 0);
                let error = Head { status: meaning, ..empty_head };
                assert_eq!(head(&bytes), Ok(Some((error, 24 + text.len()))));
            }
        }
    }

    #[test]
    fn only_an_errors_opaque_0_is_ignored() {
        let opaque_of = |status, opaque| {
            head(&response(status, b"", b"", opaque, 0)).map(|read| read.expect("whole").0.opaque)
        };
        assert_eq!(opaque_of(0, 0), Ok(Some(0)));
        assert_eq!(opaque_of(0, 5), Ok(Some(5)));
        assert_eq!(opaque_of(1, 5), Ok(Some(5)));
        assert_eq!(opaque_of(1, 0), Ok(None));
        assert_eq!(opaque_of(0xffff, 0), Ok(None));
    }

    #[test]
    fn a_greeting_is_a_version_and_its_text() {
        let version = response(0, b"", b"Rend 0.1", 0, 0);
        assert_eq!(Binary::greeting(&version), Ok(Some(())));
        for end in 0..version.len() {
            assert_eq!(Binary::greeting(&version[..end]), Ok(None), "after {end} bytes");
        }
        for other in [&b"ERROR\r\n"[..], &response(0x81, b"", b"Unknown command", 0, 0)] {
            assert!(Binary::greeting(other).is_err());
        }
    }

    #[test]
    fn wrong_lengths_are_garbage() {
        let hit = response(0, &[0; 8], b"value", 3, 0);
        let with = |at: usize, bytes: &[u8]| {
            let mut changed = hit.clone();
            changed[at..at + bytes.len()].copy_from_slice(bytes);
            head(&changed)
        };
        assert_eq!(with(0, &[0x80]), Err(Garbage), "a request");
        assert_eq!(with(0, b"E"), Err(Garbage), "text");
        assert_eq!(with(2, &[0, 1]), Err(Garbage), "a key");
        assert_eq!(with(4, &[14]), Err(Garbage), "extras longer than the body");
        assert_eq!(with(4, &[5]), Err(Garbage), "extras of nothing known");
        assert_eq!(with(8, &[0, 0, 0, 7]), Err(Garbage), "a body shorter than its extras");
        assert_eq!(with(8, &[0xff; 4]), Err(Garbage), "4 GiB");
        let largest = (LINK_VALUE_BYTES_MAX as u32 + 8).to_be_bytes();
        assert!(matches!(with(8, &largest), Ok(Some((head, 32)))
            if head.value_bytes == LINK_VALUE_BYTES_MAX));
        let larger = (LINK_VALUE_BYTES_MAX as u32 + 9).to_be_bytes();
        assert_eq!(with(8, &larger), Err(Garbage), "one byte more than an item may have");
        let mut error = response(1, b"", &[b'x'; ERROR_TEXT_BYTES_MAX], 3, 0);
        assert!(matches!(head(&error), Ok(Some(_))));
        error[8..12].copy_from_slice(&(ERROR_TEXT_BYTES_MAX as u32 + 1).to_be_bytes());
        assert_eq!(head(&error), Err(Garbage), "an endless error");
    }

    #[test]
    fn a_number_has_eight_bytes() {
        let number = |bytes: &[u8]| number(&Chain::from_slice(bytes));
        assert_eq!(number(&[0, 0, 0, 0, 0, 0, 1, 0]), Some(256));
        assert_eq!(number(b"7"), None);
        assert_eq!(number(&[0; 9]), None);
    }

    proptest! {
        #[test]
        fn a_response_is_the_same_wherever_it_is_cut(
            status in prop::sample::select(vec![0_u16, 1, 2, 3, 5, 0x81, 0xffff]),
            extras in prop::sample::select(vec![0_usize, 4, 8]),
            body in prop::collection::vec(any::<u8>(), 0..64),
            opaque: u32, cas: u64,
        ) {
            let extras = if status == 0 { vec![7; extras] } else { vec![] };
            let bytes = response(status, &extras, &body, opaque, cas);
            let (whole, consumed) = head(&bytes).unwrap().unwrap();
            let said = (opaque != 0 || status == 0).then_some(opaque);
            prop_assert_eq!((whole.opaque, whole.cas), (said, cas));
            prop_assert_eq!(consumed + whole.value_bytes, bytes.len());
            for end in 0..bytes.len() {
                let expected = (end >= consumed).then_some((whole, consumed));
                prop_assert_eq!(head(&bytes[..end]), Ok(expected));
            }
        }

        #[test]
        fn garbage_neither_panics_nor_needs_unbounded_input(
            mut bytes in prop::collection::vec(any::<u8>(), 0..2048),
            has_magic: bool,
        ) {
            if has_magic && !bytes.is_empty() {
                bytes[0] = MAGIC_RESPONSE;
            }
            match head(&bytes) {
                Err(Garbage) => {}
                Ok(None) => prop_assert!(bytes.len() < HEADER_BYTES + ERROR_TEXT_BYTES_MAX),
                Ok(Some((head, consumed))) => {
                    prop_assert!(consumed <= bytes.len());
                    prop_assert!(head.value_bytes <= LINK_VALUE_BYTES_MAX);
                }
            }
        }
    }
}
