//! How an item lies in the arena.
//!
//! An item is an extent, or, where the arena is in pieces, a chain of them. The first holds the
//! header, the whole key and the start of the value; the others hold nothing but value. Fields are
//! in the machine's byte order: nothing here outlives the process.
//!
//! ```text
//! first:  | extent 8 | header 42 | key | value ... |      others: | extent 8 | value ... |
//! ```
//!
//! This must never look at the index, the LRU list or the time: it knows one item at a time.

use super::arena::{Arena, EXTENT_HEADER_BYTES, NIL, UNIT_BYTES, units_for};
use crate::base::buffer;
use crate::base::clock::Expiry;
use crate::tier::Hit;

/// Bytes of the first extent before the key.
pub const HEADER_BYTES: usize = 50;

/// What of an item is asked for in advance: all of one with a short value.
const ITEM_AHEAD_BYTES: usize = 192;

const CAS: usize = 8;
const NEWER: usize = 16;
const OLDER: usize = 20;
const EXPIRY: usize = 24;
const FLAGS: usize = 28;
const VALUE_BYTES: usize = 32;
const PINS: usize = 36;
const STAMP: usize = 40;
const USED: usize = 44;
const KEY_BYTES: usize = 48;
const BITS: usize = 49;

/// The item is in the index and the LRU list.
pub const LINKED: u8 = 1;
/// Somebody has read the item.
pub const FETCHED: u8 = 2;
/// A reply holds the item that could not leave at once.
pub const KEPT: u8 = 4;
/// The value's memory was taken from its readers: only the first extent is left, cut off behind
/// the key.
pub const LOST: u8 = 8;
/// There is something to do when the last reader lets go: the item is not linked, or is kept.
pub const CARE: u8 = 16;

/// What an item is made with.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    pub cas: u64,
    pub expiry: Expiry,
    pub flags: u32,
    pub value_bytes: u32,
    /// The store's count when it was last moved to the front of its list.
    pub stamp: u32,
    /// Unix time in seconds when it was last used.
    pub used_s: u32,
}

/// Units of an item in one extent.
pub fn units_of_item(key_bytes: usize, value_bytes: usize) -> u32 {
    units_for(HEADER_BYTES + key_bytes + value_bytes)
}

/// Smallest first extent of an item, in units: header and key are never cut.
pub fn units_of_head(key_bytes: usize) -> u32 {
    units_for(HEADER_BYTES + key_bytes)
}

/// Units of an extent that carries `value_bytes` more of a value.
pub fn units_of_piece(value_bytes: usize) -> u32 {
    units_for(EXTENT_HEADER_BYTES + value_bytes)
}

/// Bytes of a value that a first extent of `units` has room for.
pub fn room_in_head(units: u32, key_bytes: usize) -> usize {
    units as usize * UNIT_BYTES - HEADER_BYTES - key_bytes
}

/// Bytes of a value that another extent of `units` has room for.
pub fn room_in_piece(units: u32) -> usize {
    units as usize * UNIT_BYTES - EXTENT_HEADER_BYTES
}

/// What a reader needs to know of an item.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    pub cas: u64,
    pub expiry: Expiry,
    pub flags: u32,
    pub value_bytes: u32,
    pub stamp: u32,
}

/// The `N` bytes of a header from `at` on.
#[inline]
fn part<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}

/// Where in its value, and where in its extents, a reader or writer of an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The extent.
    pub extent: u32,
    /// Offset in the value of the first byte that lies in the extent.
    pub offset: u32,
}

macro_rules! fields {
    ($($(#[doc = $doc:literal])+ $get:ident, $set:ident, $type:ty, $at:ident;)+) => {
        impl Arena {
            $(
                $(#[doc = $doc])+
                #[inline]
                pub fn $get(&self, item: u32) -> $type {
                    <$type>::from_ne_bytes(self.field(item, $at))
                }

                $(#[doc = $doc])+
                #[inline]
                pub fn $set(&mut self, item: u32, value: $type) {
                    self.set_field(item, $at, value.to_ne_bytes());
                }
            )+
        }
    };
}

fields! {
    /// The item's unique number.
    cas, set_cas, u64, CAS;
    /// The item before it in the LRU list, used more recently.
    newer, set_newer, u32, NEWER;
    /// The item behind it in the LRU list.
    older, set_older, u32, OLDER;
    /// The client's flags.
    flags, set_flags, u32, FLAGS;
    /// Length of the value.
    value_bytes, set_value_bytes, u32, VALUE_BYTES;
    /// Readers that hold the item.
    pins, set_pins, u32, PINS;
    /// The store's count when it was last moved to the front of its list.
    stamp, set_stamp, u32, STAMP;
    /// Unix time in seconds when it was last used.
    used_s, set_used_s, u32, USED;
    /// [`LINKED`], [`FETCHED`], [`KEPT`], [`LOST`], [`CARE`].
    bits, set_bits, u8, BITS;
    /// Length of the key.
    key_bytes, set_key_bytes, u8, KEY_BYTES;
}

impl Arena {
    /// When the item expires.
    #[inline]
    pub fn expiry(&self, item: u32) -> Expiry {
        Expiry::from_unix_s(u32::from_ne_bytes(self.field(item, EXPIRY)))
    }

    /// Changes when the item expires.
    #[inline]
    pub fn set_expiry(&mut self, item: u32, expiry: Expiry) {
        self.set_field(item, EXPIRY, expiry.unix_s().to_ne_bytes());
    }

    /// When the item expires, and its cas: what decides whether it is served.
    #[inline]
    pub fn vitals(&self, item: u32) -> (Expiry, u64) {
        let header = &self.field::<HEADER_BYTES>(item, 0);
        let expiry = Expiry::from_unix_s(u32::from_ne_bytes(part(header, EXPIRY)));
        (expiry, u64::from_ne_bytes(part(header, CAS)))
    }

    /// Counts one more reader, notes that the item was read at `used_s`, and says what is in it;
    /// None if so many hold it that one more could not be counted.
    #[inline(always)]
    pub fn open(&mut self, item: u32, used_s: u32) -> Option<Opened> {
        let header = self.header_mut(item);
        let pins = u32::from_ne_bytes(part(header, PINS)).checked_add(1)?;
        header[PINS..PINS + 4].copy_from_slice(&pins.to_ne_bytes());
        header[USED..USED + 4].copy_from_slice(&used_s.to_ne_bytes());
        header[BITS] |= FETCHED;
        Some(Opened {
            cas: u64::from_ne_bytes(part(header, CAS)),
            expiry: Expiry::from_unix_s(u32::from_ne_bytes(part(header, EXPIRY))),
            flags: u32::from_ne_bytes(part(header, FLAGS)),
            value_bytes: u32::from_ne_bytes(part(header, VALUE_BYTES)),
            stamp: u32::from_ne_bytes(part(header, STAMP)),
        })
    }

    /// Notes that the item was read at `used_s`; returns its stamp.
    #[inline(always)]
    pub fn mark_read(&mut self, item: u32, used_s: u32) -> u32 {
        let header = self.header_mut(item);
        header[USED..USED + 4].copy_from_slice(&used_s.to_ne_bytes());
        header[BITS] |= FETCHED;
        u32::from_ne_bytes(part(header, STAMP))
    }

    /// What is in the item, if its value is in one piece.
    #[inline(always)]
    pub fn whole(&self, item: u32) -> Option<Hit<&[u8]>> {
        let (header, rest) = self.region()[item as usize * UNIT_BYTES..].split_first_chunk()?;
        let value_bytes = u32::from_ne_bytes(part(header, VALUE_BYTES)) as usize;
        let start = usize::from(header[KEY_BYTES]);
        let end = start + value_bytes;
        if HEADER_BYTES + end > self.units_of(item) as usize * UNIT_BYTES {
            return None;
        }
        Some(Hit {
            flags: u32::from_ne_bytes(part(header, FLAGS)),
            expiry: Expiry::from_unix_s(u32::from_ne_bytes(part(header, EXPIRY))),
            cas: u64::from_ne_bytes(part(header, CAS)),
            value: rest.get(start..end)?,
        })
    }

    /// Counts one reader less; true if that was the last one and there is something to do then.
    ///
    /// # Panics
    /// If there was none.
    #[inline]
    pub fn close(&mut self, item: u32) -> bool {
        let header = self.header_mut(item);
        let pins = u32::from_ne_bytes(part(header, PINS));
        assert!(pins > 0, "what is let go of was held");
        header[PINS..PINS + 4].copy_from_slice(&(pins - 1).to_ne_bytes());
        pins == 1 && header[BITS] & CARE != 0
    }

    #[inline(always)]
    fn header_mut(&mut self, item: u32) -> &mut [u8; HEADER_BYTES] {
        let start = item as usize * UNIT_BYTES;
        match self.region_mut()[start..].first_chunk_mut() {
            Some(header) => header,
            None => panic!("an item's header lies in the region"),
        }
    }

    /// Asks the CPU to bring the first lines of an item close.
    #[inline]
    pub fn prefetch(&self, item: u32) {
        let start = self.region().as_ptr() as usize;
        buffer::prefetch_range::<ITEM_AHEAD_BYTES>(start + item as usize * UNIT_BYTES);
    }

    /// Whether `item` is that of `key`.
    #[inline]
    pub fn has_key(&self, item: u32, key: &[u8]) -> bool {
        // What is asked for next lies in the next lines; where exactly, the first one says, so
        // that the CPU would wait for the first before it asks for them.
        self.prefetch(item);
        let start = item as usize * UNIT_BYTES;
        // A shorter key's item may lie so close to the end that this one would not fit there.
        let Some(bytes) = self.region().get(start..start + HEADER_BYTES + key.len()) else {
            return false;
        };
        usize::from(bytes[KEY_BYTES]) == key.len() && &bytes[HEADER_BYTES..] == key
    }

    /// The item's key.
    #[inline]
    pub fn key(&self, item: u32) -> &[u8] {
        let start = item as usize * UNIT_BYTES + HEADER_BYTES;
        &self.region()[start..start + usize::from(self.key_bytes(item))]
    }

    /// Fills in the header and key of an item that is neither linked nor pinned.
    pub fn write_head(&mut self, item: u32, key: &[u8], head: &Head) {
        self.set_cas(item, head.cas);
        self.set_newer(item, NIL);
        self.set_older(item, NIL);
        self.set_expiry(item, head.expiry);
        self.set_flags(item, head.flags);
        self.set_value_bytes(item, head.value_bytes);
        self.set_pins(item, 0);
        self.set_stamp(item, head.stamp);
        self.set_used_s(item, head.used_s);
        // A key has at most KEY_BYTES_MAX = 250 bytes.
        self.set_key_bytes(item, key.len() as u8);
        self.set_bits(item, 0);
        let start = item as usize * UNIT_BYTES + HEADER_BYTES;
        self.region_mut()[start..start + key.len()].copy_from_slice(key);
    }

    /// The start of an item's value.
    #[inline]
    pub fn value_start(&self, item: u32) -> Cursor {
        Cursor { extent: item, offset: 0 }
    }

    /// Where in the region the value bytes of one extent of `item` lie: start and end, the end
    /// being that of the extent.
    #[inline]
    fn value_range(&self, item: u32, extent: u32) -> (usize, usize) {
        let start = extent as usize * UNIT_BYTES;
        let end = start + self.units_of(extent) as usize * UNIT_BYTES;
        if extent == item {
            (start + HEADER_BYTES + usize::from(self.key_bytes(item)), end)
        } else {
            (start + EXTENT_HEADER_BYTES, end)
        }
    }

    /// Where in the region the value's byte `offset` lies, how many bytes follow it in its extent,
    /// and the cursor of that extent. `cursor` is one at or before `offset`.
    #[inline]
    fn seek(&self, item: u32, mut cursor: Cursor, offset: usize) -> (usize, usize, Cursor) {
        loop {
            let (start, end) = self.value_range(item, cursor.extent);
            let skip = offset - cursor.offset as usize;
            if skip < end - start {
                return (start + skip, end - start - skip, cursor);
            }
            cursor.offset += (end - start) as u32;
            cursor.extent = self.link(cursor.extent);
            assert!(cursor.extent != NIL, "an item has room for its value");
        }
    }

    /// Copies the value's bytes from `offset` on into `out`, which must not reach beyond the value.
    /// `cursor` is one at or before `offset`; returns that of the last byte. None: the value is
    /// lost.
    #[inline(always)]
    pub fn read_value(
        &self,
        item: u32,
        cursor: Cursor,
        offset: usize,
        out: &mut [u8],
    ) -> Option<Cursor> {
        if cursor.extent == item {
            let (start, end) = self.value_range(item, item);
            if let Some(bytes) = self.region()[start..end].get(offset..offset + out.len()) {
                out.copy_from_slice(bytes);
                return Some(cursor);
            }
        }
        self.read_pieces(item, cursor, offset, out)
    }

    /// As [`Arena::read_value`], where not all lies in the first extent.
    #[inline(never)]
    fn read_pieces(
        &self,
        item: u32,
        mut cursor: Cursor,
        mut offset: usize,
        mut out: &mut [u8],
    ) -> Option<Cursor> {
        if self.is_lost(item) {
            return None;
        }
        while !out.is_empty() {
            let (at, n, found) = self.seek(item, cursor, offset);
            let n = n.min(out.len());
            out[..n].copy_from_slice(&self.region()[at..at + n]);
            out = &mut out[n..];
            offset += n;
            cursor = found;
        }
        Some(cursor)
    }

    /// Whether the value's memory was taken from its readers.
    #[inline]
    pub fn is_lost(&self, item: u32) -> bool {
        self.bits(item) & LOST != 0
    }

    /// Overwrites the value's bytes from `offset` on. As [`Arena::read_value`].
    pub fn write_value(
        &mut self,
        item: u32,
        mut cursor: Cursor,
        mut offset: usize,
        mut bytes: &[u8],
    ) -> Cursor {
        while !bytes.is_empty() {
            let (at, n, found) = self.seek(item, cursor, offset);
            let n = n.min(bytes.len());
            self.region_mut()[at..at + n].copy_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            offset += n;
            cursor = found;
        }
        cursor
    }

    /// The room of the value's bytes from `offset` on that is in one piece. As
    /// [`Arena::read_value`].
    pub fn value_room(&mut self, item: u32, cursor: Cursor, offset: usize) -> (&mut [u8], Cursor) {
        let (at, room, found) = self.seek(item, cursor, offset);
        let n = room.min(self.value_bytes(item) as usize - offset);
        (&mut self.region_mut()[at..at + n], found)
    }

    /// Overwrites the value's bytes from `offset` on with the whole value of the item `from`. As
    /// [`Arena::read_value`].
    pub fn copy_value(
        &mut self,
        item: u32,
        mut cursor: Cursor,
        mut offset: usize,
        from: u32,
    ) -> Cursor {
        let mut from_cursor = self.value_start(from);
        let mut from_offset = 0;
        let mut left = self.value_bytes(from) as usize;
        while left > 0 {
            let (source, from_n, from_found) = self.seek(from, from_cursor, from_offset);
            let (target, n, found) = self.seek(item, cursor, offset);
            let n = n.min(from_n).min(left);
            self.region_mut().copy_within(source..source + n, target);
            (from_cursor, cursor) = (from_found, found);
            from_offset += n;
            offset += n;
            left -= n;
        }
        cursor
    }

    /// The value's bytes from `offset` on, extent by extent, and the cursor of the first. `cursor`
    /// is one at or before `offset`.
    pub fn value_pieces(
        &self,
        item: u32,
        cursor: Cursor,
        offset: usize,
    ) -> (impl Iterator<Item = &[u8]>, Cursor) {
        let mut at = offset;
        let mut next = cursor;
        let end = self.value_bytes(item) as usize;
        let first = if at < end { self.seek(item, cursor, at).2 } else { cursor };
        let pieces = std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let (start, room, found) = self.seek(item, next, at);
            next = found;
            let n = room.min(end - at);
            at += n;
            Some(&self.region()[start..start + n])
        });
        (pieces, first)
    }

    /// All of the value's bytes, extent by extent.
    pub fn whole_value(&self, item: u32) -> impl Iterator<Item = &[u8]> {
        self.value_pieces(item, self.value_start(item), 0).0
    }
}
