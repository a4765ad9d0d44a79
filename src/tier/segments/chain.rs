//! Values too long for one record: a head with the places of pieces.
//!
//! A piece is at most a quarter of a segment, so none of the steps in which segments are emptied
//! copies more than that. Pieces fill what is left of open segments. A piece names its head by the
//! hash of its key and is live if the head lists it, so a head moves without its pieces; when a
//! piece moves, its head is changed in place, or, while a reader holds it, made anew.

use super::record::{
    self, LIST_BYTES, PIECE_EXTRA_BYTES, PIECE_KEY_BYTES, PLACE_BYTES, RecordHead, RecordKind,
    RecordShape,
};
use super::store::{FoundRecord, MadeRecord, NewRecord, OpenedRecord, SegmentStore};
use super::table::SegmentQueue;
use crate::base::clock::{Expiry, Now};

/// Smallest piece but the last of a value, as a part (1/n) of a segment.
const PIECE_SHARE_MIN: usize = 64;

/// Where in its value, and in which of its pieces, a reader or writer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PieceCursor {
    piece: u32,
    /// Offset in the value of the first byte that lies in the piece.
    offset: u32,
}

/// Bytes before the places of pieces, and of so many.
fn list_bytes(pieces: usize) -> usize {
    LIST_BYTES + pieces * PLACE_BYTES
}

/// How many pieces a chain's head lists. It may be dead, and only be read any more.
pub(super) fn pieces_of(head: RecordHead) -> usize {
    (head.body_bytes() - LIST_BYTES) / PLACE_BYTES
}

impl SegmentStore {
    /// Makes a value in pieces. They are held, since making the next may empty segments.
    pub(super) fn make_chain(
        &mut self,
        new: &NewRecord<'_>,
        to: (SegmentQueue, u8),
        now: Now,
    ) -> Option<MadeRecord> {
        self.pieces.clear();
        let made = self.make_pieces(new, to, now).and_then(|()| self.make_head(new, to, now));
        if made.is_none() {
            for i in 0..self.pieces.len() {
                self.add_draft(self.pieces[i], -1);
            }
        }
        made
    }

    fn make_pieces(&mut self, new: &NewRecord<'_>, to: (SegmentQueue, u8), now: Now) -> Option<()> {
        let segment_bytes = self.table.segment_bytes();
        let mut left = new.value_bytes;
        while left > 0 {
            if self.pieces.len() == self.pieces.capacity() {
                return None;
            }
            let room = match self.room(to.0, to.1) {
                room if room >= segment_bytes / PIECE_SHARE_MIN => room,
                _ => self.room_max(),
            };
            let n = left.min(room.min(segment_bytes / 4) - PIECE_EXTRA_BYTES);
            // Its head says when it expires.
            let fields = (0, Expiry::NEVER, false);
            let piece = RecordShape::new(RecordKind::Piece, fields, PIECE_KEY_BYTES, n);
            let place = self.append_paying(to, piece.bytes(&self.region), new.expiry, now)?;
            let mut key = [0; PIECE_KEY_BYTES];
            key[..8].copy_from_slice(&new.hash.to_le_bytes());
            key[8..].copy_from_slice(&(self.pieces.len() as u32).to_le_bytes());
            piece.write(&mut self.region, place, &key);
            self.table.commit(&mut self.region, self.table.of(place));
            self.add_draft(place, 1);
            self.note_chain(place);
            self.pieces.push(place);
            left -= n;
        }
        Some(())
    }

    fn make_head(
        &mut self,
        new: &NewRecord<'_>,
        to: (SegmentQueue, u8),
        now: Now,
    ) -> Option<MadeRecord> {
        let body_bytes = list_bytes(self.pieces.len());
        let fields = (new.flags, new.expiry, new.is_counter);
        let shape = RecordShape::new(RecordKind::Chain, fields, new.key.len(), body_bytes);
        let place = self.append_paying(to, shape.bytes(&self.region), shape.expiry, now)?;
        shape.write(&mut self.region, place, new.key);
        let list = shape.head().body_at(place);
        self.region.set_u32(list, new.value_bytes as u32);
        record::forget_pins(&mut self.region, list);
        for (i, &piece) in self.pieces.iter().enumerate() {
            record::set_place(&mut self.region, list + list_bytes(i), piece);
        }
        self.table.commit(&mut self.region, self.table.of(place));
        self.add_draft(place, 1);
        self.note_chain(place);
        Some(MadeRecord { place, head: shape.head(), is_held: true })
    }

    /// In how many pieces a made item's value lies.
    pub fn pieces(&self, made: MadeRecord) -> usize {
        match made.head.kind() {
            RecordKind::Chain => pieces_of(made.head),
            _ => 1,
        }
    }

    /// The record at `place` is a piece or a head.
    pub(super) fn note_chain(&mut self, place: usize) {
        let segment = self.table.of(place);
        self.table.get_mut(segment).has_chains = true;
    }

    #[inline]
    pub(super) fn piece(&self, place: usize, head: RecordHead, i: usize) -> usize {
        record::place(&self.region, head.body_at(place) + list_bytes(i))
    }

    /// Where the pieces of the chain at `place` lie.
    pub(super) fn pieces_of(&self, place: usize) -> impl Iterator<Item = usize> {
        let head = record::head(&self.region, place);
        (0..pieces_of(head)).map(move |i| self.piece(place, head, i))
    }

    pub(super) fn for_pieces(&mut self, place: usize, mut f: impl FnMut(&mut SegmentStore, usize)) {
        let head = record::head(&self.region, place);
        for i in 0..pieces_of(head) {
            let piece = self.piece(place, head, i);
            f(self, piece);
        }
    }

    #[cold]
    pub(super) fn release_pieces(&mut self, place: usize) {
        self.for_pieces(place, |store, piece| store.add_draft(piece, -1));
    }

    #[cold]
    pub(super) fn publish_pieces(&mut self, place: usize) {
        self.for_pieces(place, |store, piece| {
            let head = record::head(&store.region, piece);
            head.publish(&mut store.region, piece);
            store.table.add_live(piece, head.bytes(&store.region));
        });
    }

    #[cold]
    pub(super) fn kill_pieces(&mut self, place: usize) {
        self.for_pieces(place, |store, piece| {
            let head = record::head(&store.region, piece);
            debug_assert!(head.is_live() && head.kind() == RecordKind::Piece);
            head.bury(&mut store.region, piece);
            if store.table.remove_live(piece, head.bytes(&store.region)) {
                store.retire_if_empty(store.table.of(piece));
            }
        });
    }

    /// Where a held item is, and its start as it was when it was opened: it may be dead now.
    #[inline(always)]
    fn opened(&self, opened: &OpenedRecord) -> (usize, RecordHead) {
        let head = record::head(&self.region, opened.place);
        (opened.place, head.of_value(opened.is_chain()))
    }

    /// Where the value's byte `offset` lies and how many bytes follow it there. `cursor` is one at
    /// or before `offset`; that of the byte is returned.
    #[inline(always)]
    fn seek(
        &self,
        (place, head): (usize, RecordHead),
        cursor: PieceCursor,
        offset: usize,
    ) -> (usize, usize, PieceCursor) {
        if head.kind() == RecordKind::Chain {
            return self.seek_piece(place, head, cursor, offset);
        }
        (head.body_at(place) + offset, head.body_bytes().saturating_sub(offset), cursor)
    }

    #[inline(never)]
    fn seek_piece(
        &self,
        place: usize,
        head: RecordHead,
        mut cursor: PieceCursor,
        offset: usize,
    ) -> (usize, usize, PieceCursor) {
        if offset < cursor.offset as usize {
            cursor = PieceCursor::default();
        }
        while (cursor.piece as usize) < pieces_of(head) {
            let piece = self.piece(place, head, cursor.piece as usize);
            let piece_head = record::head(&self.region, piece);
            let n = piece_head.body_bytes();
            let skip = offset - cursor.offset as usize;
            if skip < n {
                return (piece_head.body_at(piece) + skip, n - skip, cursor);
            }
            cursor.offset += n as u32;
            cursor.piece += 1;
        }
        (place, 0, cursor)
    }

    /// The bytes of a held item's value from `offset` on that lie in one piece; none at its end.
    /// `cursor` is one at or before `offset`, or the default; that of the bytes is returned.
    #[inline(always)]
    pub fn value_at(
        &self,
        opened: &OpenedRecord,
        cursor: PieceCursor,
        offset: usize,
    ) -> (&[u8], PieceCursor) {
        let (at, n, cursor) = self.seek(self.opened(opened), cursor, offset);
        (self.region.slice(at, n), cursor)
    }

    /// Copies bytes of a held item's value from `offset` on, all of which it has. As
    /// [`SegmentStore::value_at`].
    #[inline(always)]
    pub fn read_value(
        &self,
        opened: &OpenedRecord,
        cursor: PieceCursor,
        offset: usize,
        out: &mut [u8],
    ) -> PieceCursor {
        let (place, head) = self.opened(opened);
        if opened.is_chain() {
            return self.read_pieces((place, head), cursor, offset, out);
        }
        out.copy_from_slice(self.region.slice(head.body_at(place) + offset, out.len()));
        cursor
    }

    #[inline(never)]
    fn read_pieces(
        &self,
        record: (usize, RecordHead),
        mut cursor: PieceCursor,
        mut offset: usize,
        mut out: &mut [u8],
    ) -> PieceCursor {
        while !out.is_empty() {
            let (at, n, found) = self.seek(record, cursor, offset);
            let n = n.min(out.len());
            assert!(n > 0, "no more is read than there is");
            out[..n].copy_from_slice(self.region.slice(at, n));
            out = &mut out[n..];
            offset += n;
            cursor = found;
        }
        cursor
    }

    /// The room for a made item's value from `offset` on that is in one piece. As
    /// [`SegmentStore::value_at`].
    #[inline(always)]
    pub fn room_at(
        &mut self,
        made: MadeRecord,
        cursor: PieceCursor,
        offset: usize,
    ) -> (&mut [u8], PieceCursor) {
        let (at, n, cursor) = self.seek((made.place, made.head), cursor, offset);
        (self.region.slice_mut(at, n), cursor)
    }

    /// As [`SegmentStore::room_at`], of up to `N` pieces; those that there are not are empty.
    pub fn rooms_at<const N: usize>(
        &mut self,
        made: MadeRecord,
        cursor: PieceCursor,
        offset: usize,
    ) -> ([&mut [u8]; N], PieceCursor) {
        let (mut ranges, mut first, mut next) = ([(0, 0); N], cursor, (cursor, offset));
        for (i, range) in ranges.iter_mut().enumerate() {
            let (at, n, cursor) = self.seek((made.place, made.head), next.0, next.1);
            if n == 0 || i > 0 && made.head.kind() != RecordKind::Chain {
                break;
            }
            first = if i == 0 { cursor } else { first };
            *range = (at, n);
            next = (cursor, next.1 + n);
        }
        (self.region.slices_mut(ranges), first)
    }

    /// Writes a part of a made item's value. As [`SegmentStore::value_at`].
    #[inline(always)]
    pub fn write_value(
        &mut self,
        made: MadeRecord,
        cursor: PieceCursor,
        offset: usize,
        bytes: &[u8],
    ) -> PieceCursor {
        let MadeRecord { place, head, .. } = made;
        if head.kind() == RecordKind::Chain {
            return self.write_pieces(made, cursor, offset, bytes);
        }
        assert!(
            offset + bytes.len() <= head.body_bytes(),
            "a value has the length it was made with"
        );
        self.region.write(head.body_at(place) + offset, bytes);
        cursor
    }

    #[inline(never)]
    fn write_pieces(
        &mut self,
        made: MadeRecord,
        mut cursor: PieceCursor,
        mut offset: usize,
        mut bytes: &[u8],
    ) -> PieceCursor {
        while !bytes.is_empty() {
            let (at, n, found) = self.seek((made.place, made.head), cursor, offset);
            let n = n.min(bytes.len());
            assert!(n > 0, "a value has the length that it was made with");
            self.region.write(at, &bytes[..n]);
            bytes = &bytes[n..];
            offset += n;
            cursor = found;
        }
        cursor
    }

    /// Copies a held item's whole value into a made item's, from `offset` on.
    pub fn copy_value(
        &mut self,
        from: &OpenedRecord,
        made: MadeRecord,
        cursor: PieceCursor,
        offset: usize,
    ) -> PieceCursor {
        self.copy_bytes(self.opened(from), from.value_bytes(), made, (cursor, offset))
    }

    /// Copies the value of the record `from` into a made item's.
    fn copy_bytes(
        &mut self,
        from: (usize, RecordHead),
        value_bytes: usize,
        made: MadeRecord,
        (mut cursor, offset): (PieceCursor, usize),
    ) -> PieceCursor {
        let (mut done, mut from_cursor) = (0, PieceCursor::default());
        while done < value_bytes {
            let (source, source_n, source_cursor) = self.seek(from, from_cursor, done);
            let (target, n, target_cursor) =
                self.seek((made.place, made.head), cursor, offset + done);
            let n = n.min(source_n).min(value_bytes - done);
            assert!(n > 0, "a value has the length that it was made with");
            self.region.copy(source, target, n);
            (from_cursor, cursor) = (source_cursor, target_cursor);
            done += n;
        }
        cursor
    }

    /// A held item that is made, or, if a flush came between, another one with the same value: what
    /// is published after a flush was not there before it. None, and the item is given up, if there
    /// is no room for that.
    pub fn renew(&mut self, made: MadeRecord, new: &NewRecord<'_>, now: Now) -> Option<MadeRecord> {
        if self.sequence_of(made.place) >= self.flushed_below {
            return Some(made);
        }
        let renewed = self.make(new, None, now);
        if let Some(renewed) = renewed {
            let from = (made.place, made.head);
            self.copy_bytes(from, new.value_bytes, renewed, (PieceCursor::default(), 0));
        }
        self.abandon(made);
        renewed
    }

    /// The value of an item that was found, piece by piece.
    pub fn value_pieces(&self, found: &FoundRecord) -> impl Iterator<Item = &[u8]> {
        let record = (found.place, found.head);
        self.pieces_from(record, self.value_bytes(found), PieceCursor::default(), 0)
    }

    /// The bytes of a held item's value from `offset` on, piece by piece. As
    /// [`SegmentStore::value_at`].
    pub fn rest_of_value(
        &self,
        opened: &OpenedRecord,
        cursor: PieceCursor,
        offset: usize,
    ) -> impl Iterator<Item = &[u8]> {
        self.pieces_from(self.opened(opened), opened.value_bytes(), cursor, offset)
    }

    fn pieces_from(
        &self,
        record: (usize, RecordHead),
        value_bytes: usize,
        mut cursor: PieceCursor,
        mut offset: usize,
    ) -> impl Iterator<Item = &[u8]> {
        std::iter::from_fn(move || {
            if offset >= value_bytes {
                return None;
            }
            let (at, n, found) = self.seek(record, cursor, offset);
            cursor = found;
            offset += n;
            (n > 0).then(|| self.region.slice(at, n))
        })
    }

    /// The hash of its head's key and its position, of a piece.
    pub(super) fn owner_of_piece(&self, place: usize, head: RecordHead) -> (u64, usize) {
        let key = head.key(&self.region, place);
        let (hash, position) = key.split_first_chunk::<8>().expect("a piece's key");
        let position = position.first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        (u64::from_le_bytes(*hash), position as usize)
    }

    /// Where the place of a piece stands in the list of the head at `place`, if it is that piece's.
    pub(super) fn listed_at(&self, place: usize, position: usize, piece: usize) -> Option<usize> {
        let head = record::head(&self.region, place);
        if head.kind() != RecordKind::Chain || position >= pieces_of(head) {
            return None;
        }
        let at = head.body_at(place) + list_bytes(position);
        (record::place(&self.region, at) == piece).then_some(at)
    }
}
