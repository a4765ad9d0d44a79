//! How an item lies in a segment.
//!
//! ```text
//! | state 1 | key length 1 | value length 1 or 3 | flags 4? | expiry 4? | cas 8? |
//! | key | value | check 4? |
//! ```
//!
//! What is 0, or follows from where the record lies, takes no room: an item without flags and
//! expiry costs 3 bytes, or 5 if its value has 256 bytes or more. The state's two top bits say
//! whether the record is live: 10 is, everything else is not, and what was never published or is
//! dead is 01. What is dead is chain and piece at once, too, which no record is: three certain bits
//! would have to flip to bring it back.
//!
//! In a region that outlives the process each record ends with a check of four bytes: a later start
//! compares it with what is in the record.
//!
//! A value too long for one record is a *chain*: its head's value is the length and the places of
//! its *pieces*, and each piece names its head by the hash of its key.

use super::checksum::{CHECK_BYTES, Checksum};
use super::region::Region;
use crate::base::clock::Expiry;

/// The value length has three bytes.
const WIDE: u8 = 1;
const FLAGS: u8 = 1 << 1;
const EXPIRY: u8 = 1 << 2;
/// The record has a cas of its own, since it is changed in place.
const CAS: u8 = 1 << 3;
/// The value is a list of pieces.
const CHAIN: u8 = 1 << 4;
/// A piece of a chain.
const PIECE: u8 = 1 << 5;
const STATE: u8 = 0b11 << 6;
const LIVE: u8 = 0b10 << 6;
const DEAD: u8 = 0b01 << 6;

/// Longest value or piece in one record, in bytes.
pub const RECORD_VALUE_BYTES_MAX: usize = (1 << 24) - 1;

/// Bytes that can be read and written at any record's start, however short it is.
pub const WORD_BYTES: usize = 8;

/// Bytes of a piece's key: hash and position.
pub const PIECE_KEY_BYTES: usize = 12;

/// Bytes of a piece beside its part of the value, at most.
pub const PIECE_EXTRA_BYTES: usize = 5 + PIECE_KEY_BYTES + CHECK_BYTES;

/// Bytes of a head's list before the places: length of the value, readers, the next head with
/// readers, and a sequence number above those of all segments that they hold.
pub const LIST_BYTES: usize = 20;
const LENGTH_BYTES: usize = 4;
const PINS_AT: usize = 4;
const NEXT_AT: usize = 8;
const BELOW_AT: usize = 12;

/// Bytes of a place in a head's list.
pub const PLACE_BYTES: usize = 5;

/// Where the key begins, for each combination of the lowest four bits.
const KEY_AT: [u8; 16] = {
    let mut table = [0; 16];
    let mut bits = 0;
    while bits < 16 {
        let wide = if bits & WIDE as usize != 0 { 2 } else { 0 };
        let flags = if bits & FLAGS as usize != 0 { 4 } else { 0 };
        let expiry = if bits & EXPIRY as usize != 0 { 4 } else { 0 };
        let cas = if bits & CAS as usize != 0 { 8 } else { 0 };
        table[bits] = 3 + wide + flags + expiry + cas;
        bits += 1;
    }
    table
};

/// A cas has 62 bits; the others of its field are marks.
const CAS_MASK: u64 = (1 << 62) - 1;
const STALE: u64 = 1 << 62;
const TOKEN_SENT: u64 = 1 << 63;

/// Marks of an item, for which only one with a cas of its own has room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordMarks {
    /// It is not what it should be any more, and may be served until it is replaced.
    pub is_stale: bool,
    /// A client was told to replace it.
    pub is_token_sent: bool,
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// Key and value.
    Plain,
    /// Key and the places of the pieces.
    Chain,
    /// Part of a value.
    Piece,
}

/// What a record is made with.
#[derive(Clone, Copy, Debug)]
pub struct RecordShape {
    state: u8,
    flags: u32,
    pub expiry: Expiry,
    key_bytes: usize,
    body_bytes: usize,
}

impl RecordShape {
    /// A record with a key of `key_bytes` and `body_bytes` behind it; with or without room for a
    /// cas of its own.
    #[inline(always)]
    pub fn new(
        kind: RecordKind,
        (flags, expiry, has_cas): (u32, Expiry, bool),
        key_bytes: usize,
        body_bytes: usize,
    ) -> RecordShape {
        let kind = match kind {
            RecordKind::Plain => 0,
            RecordKind::Chain => CHAIN,
            RecordKind::Piece => PIECE,
        };
        let bit = |has: bool, bit: u8| if has { bit } else { 0 };
        let state = bit(body_bytes > 0xff, WIDE)
            | bit(flags != 0, FLAGS)
            | bit(expiry != Expiry::NEVER, EXPIRY)
            | bit(has_cas, CAS)
            | kind;
        RecordShape { state, flags, expiry, key_bytes, body_bytes }
    }

    #[inline(always)]
    fn key_offset(&self) -> usize {
        usize::from(KEY_AT[usize::from(self.state & 15)])
    }

    /// Bytes of the whole record.
    #[inline(always)]
    pub fn bytes(&self, region: &Region) -> usize {
        self.key_offset() + self.key_bytes + self.body_bytes + region.check_bytes()
    }

    /// What its start says.
    #[inline(always)]
    pub fn head(&self) -> RecordHead {
        RecordHead {
            state: self.state | DEAD,
            key_bytes: self.key_bytes as u8,
            body_bytes: self.body_bytes as u32,
        }
    }

    /// Writes a record at `at` that is not published, up to the end of its key.
    #[inline(always)]
    pub fn write(&self, region: &mut Region, at: usize, key: &[u8]) {
        let word = u64::from(self.state | DEAD)
            | (self.key_bytes as u64) << 8
            | (self.body_bytes as u64) << 16;
        region.set_u64(at, word);
        if self.state & (FLAGS | EXPIRY) != 0 {
            self.write_fields(region, at);
        }
        region.write(at + self.key_offset(), key);
    }

    #[inline(never)]
    fn write_fields(&self, region: &mut Region, at: usize) {
        let mut next = at + 3 + 2 * usize::from(self.state & WIDE);
        if self.flags != 0 {
            region.set_u32(next, self.flags);
            next += 4;
        }
        if self.expiry != Expiry::NEVER {
            region.set_u32(next, self.expiry.unix_s());
        }
    }
}

/// The start of a record, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    state: u8,
    key_bytes: u8,
    body_bytes: u32,
}

/// Reads the start of the record at `at`.
#[inline(always)]
pub fn head(region: &Region, at: usize) -> RecordHead {
    let word = region.u64(at);
    let state = word as u8;
    let mask = if state & WIDE == 0 { 0xff } else { 0xff_ffff };
    RecordHead { state, key_bytes: (word >> 8) as u8, body_bytes: (word >> 16) as u32 & mask }
}

impl RecordHead {
    /// Whether it is to be served.
    #[inline(always)]
    pub fn is_live(self) -> bool {
        self.state & STATE == LIVE
    }

    /// Whether the state is one that this file writes.
    pub fn is_known(self) -> bool {
        let is_both = self.state & (CHAIN | PIECE) == CHAIN | PIECE;
        self.state & STATE == DEAD || self.state & STATE == LIVE && !is_both
    }

    /// What it is.
    #[inline(always)]
    pub fn kind(self) -> RecordKind {
        match self.state & (CHAIN | PIECE) {
            0 => RecordKind::Plain,
            CHAIN => RecordKind::Chain,
            _ => RecordKind::Piece,
        }
    }

    #[inline(always)]
    fn key_offset(self) -> usize {
        usize::from(KEY_AT[usize::from(self.state & 15)])
    }

    /// That of a record which is known to be a chain's head or to have its value in it: one that is
    /// dead does not say so.
    #[inline(always)]
    pub fn of_value(self, is_chain: bool) -> RecordHead {
        let kind = if is_chain { CHAIN } else { 0 };
        RecordHead { state: self.state & !(CHAIN | PIECE) | kind, ..self }
    }

    /// Bytes of the whole record.
    #[inline(always)]
    pub fn bytes(self, region: &Region) -> usize {
        self.body_at(0) + self.body_bytes as usize + region.check_bytes()
    }

    /// Bytes behind the key.
    #[inline(always)]
    pub fn body_bytes(self) -> usize {
        self.body_bytes as usize
    }

    /// Where in the record at `at` the bytes behind the key begin.
    #[inline(always)]
    pub fn body_at(self, at: usize) -> usize {
        at + self.key_offset() + usize::from(self.key_bytes)
    }

    /// The key of the record at `at`.
    #[inline(always)]
    pub fn key(self, region: &Region, at: usize) -> &[u8] {
        region.slice(at + self.key_offset(), usize::from(self.key_bytes))
    }

    /// Whether that is `key`.
    #[inline(always)]
    pub fn has_key(self, region: &Region, at: usize, key: &[u8]) -> bool {
        usize::from(self.key_bytes) == key.len() && self.key(region, at) == key
    }

    /// The bytes behind the key of the record at `at`.
    #[inline(always)]
    pub fn body(self, region: &Region, at: usize) -> &[u8] {
        region.slice(self.body_at(at), self.body_bytes as usize)
    }

    /// The client's flags.
    #[inline(always)]
    pub fn flags(self, region: &Region, at: usize) -> u32 {
        if self.state & FLAGS == 0 { 0 } else { region.u32(self.flags_at(at)) }
    }

    #[inline(always)]
    fn flags_at(self, at: usize) -> usize {
        at + 3 + 2 * usize::from(self.state & WIDE)
    }

    #[inline(always)]
    fn expiry_at(self, at: usize) -> usize {
        self.flags_at(at) + 2 * usize::from(self.state & FLAGS)
    }

    /// When it expires.
    #[inline(always)]
    pub fn expiry(self, region: &Region, at: usize) -> Expiry {
        if self.state & EXPIRY == 0 {
            return Expiry::NEVER;
        }
        Expiry::from_unix_s(region.u32(self.expiry_at(at)))
    }

    /// Changes when it expires, if that can be said in place.
    #[inline]
    pub fn set_expiry(self, region: &mut Region, at: usize, expiry: Expiry) -> bool {
        if self.state & EXPIRY == 0 {
            return expiry == Expiry::NEVER;
        }
        region.set_u32(self.expiry_at(at), expiry.unix_s());
        self.write_check(region, at);
        true
    }

    /// Its own cas, if it has one.
    #[inline(always)]
    pub fn cas(self, region: &Region, at: usize) -> Option<u64> {
        if self.state & CAS == 0 {
            return None;
        }
        Some(region.u64(at + self.key_offset() - 8) & CAS_MASK)
    }

    /// The marks beside its own cas; none without one.
    #[inline]
    pub fn marks(self, region: &Region, at: usize) -> RecordMarks {
        if self.state & CAS == 0 {
            return RecordMarks::default();
        }
        let word = region.u64(at + self.key_offset() - 8);
        RecordMarks { is_stale: word & STALE != 0, is_token_sent: word & TOKEN_SENT != 0 }
    }

    /// Changes its own cas and the marks beside it, if it has one.
    pub fn set_cas(self, region: &mut Region, at: usize, cas: u64, marks: RecordMarks) {
        if self.state & CAS != 0 {
            let stale = if marks.is_stale { STALE } else { 0 };
            let token_sent = if marks.is_token_sent { TOKEN_SENT } else { 0 };
            region.set_u64(at + self.key_offset() - 8, cas & CAS_MASK | stale | token_sent);
        }
    }

    /// What a record like it is made with, of another expiry and with a cas of its own.
    pub fn shape_with_cas(self, region: &Region, at: usize, expiry: Expiry) -> RecordShape {
        let fields = (self.flags(region, at), expiry, true);
        RecordShape::new(self.kind(), fields, usize::from(self.key_bytes), self.body_bytes as usize)
    }

    /// Whether it has a cas of its own.
    #[inline(always)]
    pub fn has_cas(self) -> bool {
        self.state & CAS != 0
    }

    /// Lets the record at `at` be served.
    #[inline(always)]
    pub fn publish(self, region: &mut Region, at: usize) {
        self.write_check(region, at);
        region.in_order();
        region.set_u8(at, self.state & !STATE | LIVE);
        region.in_order();
    }

    /// Writes the check of a record that has been changed, if records of the region have one.
    #[inline(always)]
    pub fn write_check(self, region: &mut Region, at: usize) {
        if let Some(checksum) = region.checksum() {
            let sum = self.sum(region, at, checksum);
            region.set_u32(self.body_at(at) + self.body_bytes as usize, sum);
        }
    }

    /// Whether the record's check fits what is in it.
    pub fn is_intact(self, region: &Region, at: usize) -> bool {
        region.checksum().is_none_or(|checksum| {
            let stored = region.u32(self.body_at(at) + self.body_bytes as usize);
            stored == self.sum(region, at, checksum)
        })
    }

    /// The sum over all that is in the record but the two bits that say whether it is live, and who
    /// reads a chain and the places in its list, which the pieces confirm.
    #[inline]
    fn sum(self, region: &Region, at: usize, checksum: &Checksum) -> u32 {
        let body_bytes = match self.kind() {
            RecordKind::Chain => LENGTH_BYTES.min(self.body_bytes as usize),
            _ => self.body_bytes as usize,
        };
        let bytes = region.slice(at + self.key_offset(), usize::from(self.key_bytes) + body_bytes);
        let sequence = region.u64(checksum.segment_start(at));
        let head = u64::from(self.state & !STATE)
            | u64::from(self.key_bytes) << 8
            | u64::from(self.body_bytes) << 16;
        let sum = checksum.of(bytes, head, at as u64, sequence);
        if self.state & (FLAGS | EXPIRY | CAS) == 0 {
            return sum as u32;
        }
        let fields =
            u64::from(self.flags(region, at)) << 32 | u64::from(self.expiry(region, at).unix_s());
        checksum.add(sum, fields, self.cas(region, at).unwrap_or(0)) as u32
    }

    /// Takes back that the record at `at` is served, as it may be published again.
    #[inline(always)]
    pub fn withhold(self, region: &mut Region, at: usize) {
        region.in_order();
        region.set_u8(at, self.state & !STATE | DEAD);
        region.in_order();
    }

    /// Sees to it that the record at `at` is never served again.
    #[inline(always)]
    pub fn bury(self, region: &mut Region, at: usize) {
        region.in_order();
        region.set_u8(at, self.state & !STATE | DEAD | CHAIN | PIECE);
        region.in_order();
    }
}

/// Readers of the chain with its list at `list`, and the sequence number above all that they hold.
pub fn pins(region: &Region, list: usize) -> (u32, u64) {
    (region.u32(list + PINS_AT), region.u64(list + BELOW_AT))
}

/// Changes what [`pins`] returns.
pub fn set_pins(region: &mut Region, list: usize, pins: u32, below: u64) {
    region.set_u32(list + PINS_AT, pins);
    region.set_u64(list + BELOW_AT, below);
}

/// Offset in their segment of the next head with readers; 0 if there is none.
pub fn next_pinned(region: &Region, list: usize) -> u32 {
    region.u32(list + NEXT_AT)
}

/// Changes what [`next_pinned`] returns.
pub fn set_next_pinned(region: &mut Region, list: usize, next: u32) {
    region.set_u32(list + NEXT_AT, next);
}

/// A list that was copied or is new has no readers.
pub fn forget_pins(region: &mut Region, list: usize) {
    set_pins(region, list, 0, 0);
}

/// A place in a head's list.
pub fn place(region: &Region, at: usize) -> usize {
    let low = region.u32(at) as usize;
    usize::from(region.u8(at + 4)) << 32 | low
}

/// Writes a place in a head's list.
pub fn set_place(region: &mut Region, at: usize, place: usize) {
    let bytes = (place as u64).to_le_bytes();
    region.write(at, &bytes[..PLACE_BYTES]);
}
