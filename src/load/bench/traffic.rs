//! What is asked: which key, get or set, and its bytes.
//!
//! A key is filler and hex digits of its number, so that a request for one key is a prepared line
//! in which eight bytes are written. Key, lengths, flags and value all follow from the number.

use super::plan::Plan;
use super::spread::{LengthTable, Popularity};
use crate::base::limits::KEY_BYTES_MAX;
use crate::base::random::Random;
use crate::load::value::Values;
use crate::load::wire::{self, ClientRequest, Dialect, Verb};

/// Hex digits of a number at the end of a key, where it has room for them.
const DIGITS: usize = 8;

/// What keys begin with, as far as there is room.
const FILLER: &[u8] = b"sunder-bench-";

/// The version of every value: sets write again what is there, so that any answer can be checked.
const VERSION: u32 = 0;

/// Writes the key of `number` into the whole of `out`.
pub fn write_key(number: u32, out: &mut [u8]) {
    let digits_at = out.len().saturating_sub(DIGITS);
    for (n, byte) in out[..digits_at].iter_mut().enumerate() {
        *byte = FILLER[n % FILLER.len()];
    }
    write_digits(number, &mut out[digits_at..]);
}

/// Writes the last `out.len()` hex digits of `number`, all of them at once.
#[inline(always)]
fn write_digits(number: u32, out: &mut [u8]) {
    const BYTES: u64 = 0x0101_0101_0101_0101;
    let mut nibbles = u64::from(number);
    nibbles = (nibbles | nibbles << 16) & 0x0000_ffff_0000_ffff;
    nibbles = (nibbles | nibbles << 8) & 0x00ff_00ff_00ff_00ff;
    nibbles = (nibbles | nibbles << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = (nibbles + 6 * BYTES) >> 4 & BYTES;
    let digits = nibbles + u64::from(b'0') * BYTES + letters * u64::from(b'a' - b'0' - 10);
    out.copy_from_slice(&digits.to_be_bytes()[DIGITS - out.len()..]);
}

/// A get of one key, to be filled in.
#[derive(Clone, Debug)]
struct Template {
    bytes: Box<[u8]>,
    /// Where the key's digits begin, and how many there are.
    digits_at: usize,
    digits: usize,
}

/// Makes requests and knows their answers.
#[derive(Debug)]
pub struct Traffic {
    dialect: Dialect,
    popularity: Popularity,
    key_bytes: LengthTable,
    value_bytes: LengthTable,
    values: Values,
    exptime: i32,
    /// A request is a get if 32 random bits are below.
    gets_below: u64,
    random: Random,
    /// By length of the key; empty where no key has it.
    templates: Box<[Option<Template>]>,
    key: [u8; KEY_BYTES_MAX],
    value: Vec<u8>,
    /// The keys of a get of many, and where each is.
    keys: Vec<u8>,
    ends: Vec<(usize, usize)>,
}

impl Traffic {
    /// The traffic of thread number `thread`.
    pub fn new(plan: &Plan, thread: usize) -> Traffic {
        let (shortest, longest) = plan.key_bytes.bounds();
        let template = |bytes: usize| {
            let is_used = (shortest as usize..=longest as usize).contains(&bytes);
            is_used.then(|| template(plan.dialect, bytes))
        };
        Traffic {
            dialect: plan.dialect,
            popularity: plan.popularity(),
            key_bytes: plan.key_bytes.table(plan.seed ^ 1),
            value_bytes: plan.value_bytes.table(plan.seed ^ 2),
            values: Values::new(plan.seed),
            exptime: plan.ttl_s,
            gets_below: (plan.get_share * f64::from(u32::MAX) + plan.get_share) as u64,
            random: Random::of(plan.seed.wrapping_add(thread as u64 + 1)),
            templates: (0..=KEY_BYTES_MAX).map(template).collect(),
            key: [0; KEY_BYTES_MAX],
            value: Vec::with_capacity(plan.value_bytes.bounds().1 as usize),
            keys: Vec::new(),
            ends: Vec::with_capacity(plan.multi_get),
        }
    }

    /// The number of the next key.
    #[inline(always)]
    pub fn draw_key(&mut self) -> u32 {
        self.popularity.draw(&mut self.random)
    }

    /// Whether the next request is a get.
    #[inline(always)]
    pub fn draw_is_get(&mut self) -> bool {
        // Without a look at chance where there is none.
        self.gets_below > u64::from(u32::MAX) || self.random.draw() >> 32 < self.gets_below
    }

    /// Writes a get of key `number` to the start of `out`; returns its length, or None if it has no
    /// room there.
    #[inline(always)]
    pub fn write_get(&self, number: u32, out: &mut [u8]) -> Option<usize> {
        let template = self.templates[self.key_bytes.of(number) as usize].as_ref()?;
        let out = out.get_mut(..template.bytes.len())?;
        out.copy_from_slice(&template.bytes);
        write_digits(number, &mut out[template.digits_at..][..template.digits]);
        Some(out.len())
    }

    /// Adds a get of key `number` to `out`.
    pub fn put_get(&self, number: u32, out: &mut Vec<u8>) {
        let bytes = self.key_bytes.of(number) as usize;
        let template = self.templates[bytes].as_ref().expect("made for every length");
        let start = out.len();
        out.extend_from_slice(&template.bytes);
        write_digits(number, &mut out[start + template.digits_at..][..template.digits]);
    }

    /// Adds one get of all keys `numbers` to `out`.
    pub fn put_many(&mut self, numbers: &[u32], out: &mut Vec<u8>) {
        // The keys lie behind one another.
        self.keys.clear();
        self.ends.clear();
        for &number in numbers {
            let start = self.keys.len();
            self.keys.resize(start + self.key_bytes.of(number) as usize, 0);
            write_key(number, &mut self.keys[start..]);
            self.ends.push((start, self.keys.len()));
        }
        let keys = &self.keys;
        let each = self.ends.iter().map(|&(start, end)| &keys[start..end]);
        wire::encode_many(self.dialect, Verb::Get, each, out);
    }

    /// Adds a set of key `number` to `out`.
    pub fn put_set(&mut self, number: u32, out: &mut Vec<u8>) {
        let key = &mut self.key[..self.key_bytes.of(number) as usize];
        write_key(number, key);
        self.value.clear();
        let bytes = self.value_bytes.of(number) as usize;
        let flags = self.values.put(key, VERSION, bytes, &mut self.value);
        let store = ClientRequest::store(Verb::Set, key, flags, &self.value);
        wire::encode(self.dialect, &ClientRequest { exptime: self.exptime, ..store }, out);
    }

    /// The item of key `number`, if `input` begins with the whole of text's answer to a get of it,
    /// with the right length, and how long the answer is. None: [`wire::decode`] knows more.
    #[inline(always)]
    pub fn text_hit<'a>(&self, number: u32, input: &'a [u8]) -> Option<(wire::Item<'a>, usize)> {
        let rest = behind(b"VALUE ", input)?;
        let (key, rest) = rest.split_at_checked(self.key_bytes.of(number) as usize)?;
        let (flags, rest) = digits(behind(b" ", rest)?)?;
        let (bytes, rest) = digits(behind(b" ", rest)?)?;
        let (value, rest) = behind(b"\r\n", rest)?.split_at_checked(bytes as usize)?;
        let rest = behind(b"\r\nEND\r\n", rest)?;
        let is_it = bytes == self.value_bytes.of(number) && self.is_key(number, key);
        let item = wire::Item { key, flags, value, unique: 0 };
        is_it.then_some((item, input.len() - rest.len()))
    }

    /// Whether a get's item may be that of key `number`: its key, where the protocol repeats it,
    /// and its length.
    #[inline(always)]
    pub fn fits(&mut self, number: u32, item: &wire::Item<'_>) -> bool {
        item.value.len() == self.value_bytes.of(number) as usize
            && (item.key.is_empty() || self.is_key(number, item.key))
    }

    /// Whether `key` is key `number`'s.
    #[inline(always)]
    pub fn is_key(&self, number: u32, key: &[u8]) -> bool {
        if key.len() != self.key_bytes.of(number) as usize {
            return false;
        }
        let (filler, digits) = key.split_at(key.len().saturating_sub(DIGITS));
        let mut own = [0; DIGITS];
        write_digits(number, &mut own);
        digits == &own[DIGITS - digits.len()..]
            && filler.chunks(FILLER.len()).all(|piece| FILLER.starts_with(piece))
    }

    /// Whether an item is that of key `number`, to the last byte.
    pub fn is_right(&mut self, number: u32, item: &wire::Item<'_>) -> bool {
        let key = &mut self.key[..self.key_bytes.of(number) as usize];
        write_key(number, key);
        self.values.read(key, item.flags, item.value) == Ok(VERSION)
    }
}

/// What is behind `word` in `bytes`, which begin with it. As std's `strip_prefix`, whose comparison
/// of a length known only at run time is a call.
#[inline(always)]
fn behind<'a, const N: usize>(word: &[u8; N], bytes: &'a [u8]) -> Option<&'a [u8]> {
    let (start, rest) = bytes.split_first_chunk()?;
    (start == word).then_some(rest)
}

/// The number that begins `bytes`, and what is behind it. None for what is longer than 32 bits too.
#[inline(always)]
fn digits(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut number = 0_u64;
    let mut at = 0;
    while at < 10
        && let Some(digit) = bytes.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|&d| d < 10)
    {
        number = number * 10 + u64::from(digit);
        at += 1;
    }
    (at > 0).then_some((u32::try_from(number).ok()?, &bytes[at..]))
}

fn template(dialect: Dialect, key_bytes: usize) -> Template {
    let mut key = vec![0; key_bytes];
    write_key(0, &mut key);
    let mut bytes = Vec::new();
    wire::encode(dialect, &ClientRequest::new(Verb::Get, &key), &mut bytes);
    let key_at = bytes.windows(key_bytes).rposition(|window| window == key);
    // A key of zeros alone may stand elsewhere too, in a binary header it does not: look from the
    // end, where the key is, but for what meta puts behind it.
    let key_at = match dialect {
        Dialect::Meta => Some(b"mg ".len()),
        _ => key_at,
    };
    let digits = key_bytes.min(DIGITS);
    let digits_at = key_at.expect("a get has its key in it") + key_bytes - digits;
    Template { bytes: bytes.into_boxed_slice(), digits_at, digits }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Plan;
    use super::super::spread::Lengths;
    use super::super::tests::plan;
    use super::*;

    fn traffic(change: impl FnOnce(&mut Plan)) -> Traffic {
        Traffic::new(&plan(change), 0)
    }

    #[test]
    fn a_key_is_filler_and_the_digits_of_its_number() {
        let key = |number, bytes| {
            let mut key = vec![0; bytes];
            write_key(number, &mut key);
            String::from_utf8(key).expect("text")
        };
        assert_eq!(key(0x0123_abcf, 16), "sunder-b0123abcf");
        assert_eq!(key(u32::MAX, 8), "ffffffff");
        assert_eq!(key(0x9a0, 3), "9a0");
        assert_eq!(key(7, 30), "sunder-bench-sunder-be00000007");
    }

    #[test]
    fn a_prepared_get_is_what_the_protocol_encodes() {
        for dialect in [Dialect::Text, Dialect::Binary, Dialect::Meta] {
            for bytes in [1, 7, 8, 16, 250] {
                let traffic = traffic(|plan| {
                    (plan.dialect, plan.keys) = (dialect, 16);
                    plan.key_bytes = Lengths::Fixed(bytes as u32);
                });
                for number in [0, 1, 15] {
                    let mut key = vec![0; bytes];
                    write_key(number, &mut key);
                    let mut expected = Vec::new();
                    let get = ClientRequest::new(Verb::Get, &key);
                    wire::encode(traffic.dialect, &get, &mut expected);
                    let mut out = [0xee; 400];
                    let written = traffic.write_get(number, &mut out).expect("room");
                    assert_eq!(
                        out[..written].escape_ascii().to_string(),
                        expected.escape_ascii().to_string()
                    );
                    assert_eq!(traffic.write_get(number, &mut out[..written - 1]), None);
                    let mut put = b"x".to_vec();
                    traffic.put_get(number, &mut put);
                    assert_eq!(put[1..], expected);
                    assert!(traffic.is_key(number, &key) && !traffic.is_key(number ^ 1, &key));
                }
            }
        }
    }

    #[test]
    fn what_was_set_is_told_from_everything_else() {
        let mut traffic = traffic(|plan| {
            (plan.keys, plan.value_bytes) = (1000, Lengths::Range(10, 500));
        });
        for number in [0, 1, 500, 999] {
            let mut set = Vec::new();
            traffic.put_set(number, &mut set);
            let line_end = set.iter().position(|&byte| byte == b'\n').expect("a line");
            let line = String::from_utf8(set[..line_end].to_vec()).expect("text");
            let words: Vec<_> = line.split_whitespace().collect();
            let value = &set[line_end + 1..set.len() - 2];
            assert_eq!(words[4], value.len().to_string());
            let flags = words[2].parse().expect("flags");
            let item = wire::Item { key: words[1].as_bytes(), flags, value, unique: 0 };
            assert!(traffic.fits(number, &item) && traffic.is_right(number, &item));
            assert!(!traffic.fits(number ^ 1, &item) && !traffic.is_right(number ^ 1, &item));
            let head = format!("VALUE {} {flags} {}\r\n", words[1], value.len());
            let answer = [head.as_bytes(), value, b"\r\nEND\r\nVALUE"].concat();
            assert_eq!(traffic.text_hit(number, &answer), Some((item, answer.len() - 5)));
            assert_eq!(traffic.text_hit(number ^ 1, &answer), None);
            for cut in 0..answer.len() - 5 {
                assert_eq!(traffic.text_hit(number, &answer[..cut]), None);
            }
            let short = wire::Item { value: &value[1..], ..item };
            assert!(!traffic.fits(number, &short));
            let mut spoilt = value.to_vec();
            spoilt[value.len() / 2] ^= 1;
            assert!(!traffic.is_right(number, &wire::Item { value: &spoilt, ..item }));
        }
    }

    #[test]
    fn the_share_of_gets_is_as_told() {
        for share in [1.0, 0.0, 0.9, 0.25] {
            let mut traffic = traffic(|plan| plan.get_share = share);
            let gets = (0..100_000).filter(|_| traffic.draw_is_get()).count() as f64 / 1e5;
            assert!((gets - share).abs() < 0.01, "{share}: {gets}");
        }
    }
}
