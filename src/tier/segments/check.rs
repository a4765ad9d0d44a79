//! Walks a whole store: what a later start would find, and whether all figures are true.

use std::collections::BTreeMap;

use super::header::{self, Found};
use super::record::{self, RecordKind};
use super::store::{OpenedRecord, SegmentStore};
use super::table::{self, SEGMENT_HEADER_BYTES, SegmentQueue, SegmentState};

/// An item that a later start finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Items.
    pub items: usize,
    /// Records, pieces included.
    pub records: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl SegmentStore {
    /// Calls `visit` with the place of each record that the segments' own headers lead to.
    fn walk(&self, mut visit: impl FnMut(&SegmentStore, usize)) {
        assert!(matches!(header::geometry(&self.region), Found::Store(_)), "it is a store's");
        for segment in 0..header::segments(&self.region) {
            let start = self.table.start(segment);
            let (sequence, used) = table::header(&self.region, start);
            if sequence == 0 || sequence < header::flushed_below(&self.region) {
                continue;
            }
            let mut offset = SEGMENT_HEADER_BYTES;
            while offset < used as usize {
                let head = record::head(&self.region, start + offset);
                assert!(head.is_known(), "a state at {}", start + offset);
                visit(self, start + offset);
                offset += head.bytes(&self.region);
            }
            assert_eq!(offset, used as usize, "records tile segment {segment}");
        }
    }

    /// The items that a later start would find, each with the number of records that claim its key.
    ///
    /// # Panics
    /// If the region is not what a store leaves behind.
    pub fn survivors(&self) -> BTreeMap<Vec<u8>, Vec<Survivor>> {
        let mut pieces = BTreeMap::new();
        self.walk(|store, place| {
            let head = record::head(&store.region, place);
            if head.is_live() && head.kind() == RecordKind::Piece {
                pieces.insert(place, store.owner_of_piece(place, head));
            }
        });
        let mut items: BTreeMap<Vec<u8>, Vec<Survivor>> = BTreeMap::new();
        self.walk(|store, place| {
            let head = record::head(&store.region, place);
            if !head.is_live() || head.kind() == RecordKind::Piece {
                return;
            }
            let key = head.key(&store.region, place).to_vec();
            let value = match head.kind() {
                RecordKind::Chain => {
                    let hash = store.hash(&key);
                    match store.gather(place, |at, i| pieces.get(&at) == Some(&(hash, i))) {
                        Some(value) => value,
                        None => return,
                    }
                }
                _ => head.body(&store.region, place).to_vec(),
            };
            items.entry(key.clone()).or_default().push(Survivor { key, value });
        });
        items
    }

    /// The value of a chain whose pieces are all there.
    fn gather(&self, place: usize, is_piece: impl Fn(usize, usize) -> bool) -> Option<Vec<u8>> {
        let body = record::head(&self.region, place).body(&self.region, place);
        let (start, list) = body.split_first_chunk::<{ record::LIST_BYTES }>()?;
        let length = start.first_chunk::<4>()?;
        let mut value = Vec::new();
        for (i, piece) in list.chunks(record::PLACE_BYTES).enumerate() {
            let mut bytes = [0; 8];
            bytes[..piece.len()].copy_from_slice(piece);
            let at = u64::from_le_bytes(bytes) as usize;
            if !is_piece(at, i) {
                return None;
            }
            value.extend_from_slice(record::head(&self.region, at).body(&self.region, at));
        }
        (value.len() == u32::from_le_bytes(*length) as usize).then_some(value)
    }

    /// Compares every figure with what is there.
    ///
    /// # Panics
    /// If one is wrong.
    pub fn check(&self) -> Checked {
        let mut all = Checked::default();
        let mut queue_bytes = [0_u64; 2];
        let (mut free, mut drafted) = (0, 0);
        let swept = self.listed_by_segment();
        for segment in 0..self.table.count() {
            let entry = self.table.get(segment);
            let (sequence, used) = table::header(&self.region, self.table.start(segment));
            drafted += u32::from(entry.drafts > 0);
            if entry.state == SegmentState::Swept {
                assert_eq!((sequence, entry.live_bytes, entry.drafts), (0, 0, 0));
                assert_eq!(swept.get(&segment).copied().unwrap_or(0), entry.live_records);
                all.items += entry.live_records as usize;
                all.records += entry.live_records as usize;
                continue;
            }
            if !matches!(entry.state, SegmentState::Open | SegmentState::Sealed) {
                assert_eq!((sequence, entry.live_records), (0, 0));
                free += u32::from(entry.state == SegmentState::Free);
                assert_eq!(entry.state == SegmentState::Held, entry.pins > 0);
                continue;
            }
            assert_eq!((sequence, used), (entry.sequence, entry.used));
            let is_open = self.open[entry.queue as usize].contains(&segment);
            assert_eq!(entry.state == SegmentState::Open, is_open);
            let (records, bytes, items) = self.check_records(segment);
            assert_eq!((entry.live_records, entry.live_bytes), (records, bytes));
            queue_bytes[entry.queue as usize] += u64::from(bytes);
            all.items += items;
            all.records += records as usize;
            all.bytes += u64::from(bytes);
        }
        assert_eq!(free, self.table.free());
        assert_eq!(drafted, self.drafted);
        for queue in [SegmentQueue::Small, SegmentQueue::Main] {
            assert_eq!(queue_bytes[queue as usize], self.table.queue_live_bytes(queue));
        }
        assert_eq!(all.items, self.index.entries());
        let listed = (0..self.index.buckets())
            .map(|bucket| self.index.places(&self.region, bucket))
            .map(|places| places.iter().filter(|&&place| place != 0).count())
            .sum::<usize>();
        assert_eq!(listed, self.index.entries());
        all
    }

    /// Compares the pins with those that these readers, who are all, must have.
    ///
    /// # Panics
    /// If there is one more or less.
    pub fn check_readers<'r>(&self, readers: impl Iterator<Item = &'r OpenedRecord>) {
        let segments = self.table.count() as usize;
        let mut pins = vec![0; segments];
        let mut heads = BTreeMap::new();
        for opened in readers {
            let place = opened.place;
            if self.sequence_of(place) as u32 != opened.sequence {
                continue;
            }
            pins[self.table.of(place) as usize] += 1;
            if opened.is_chain() {
                let head = record::head(&self.region, place);
                *heads.entry(place).or_insert(0) += 1;
                let (_, below) = record::pins(&self.region, head.body_at(place));
                let pieces = self.pieces_of(place).map(|piece| self.table.of(piece));
                pieces
                    .filter(|&segment| self.is_pinned_below(segment, below))
                    .for_each(|segment| pins[segment as usize] += 1);
            }
        }
        let (mut held, mut kept) = (0, 0);
        for segment in 0..self.table.count() {
            let entry = self.table.get(segment);
            assert_eq!(entry.pins, pins[segment as usize], "of segment {segment}");
            let mut offset = entry.pinned_head;
            while offset != 0 {
                let place = self.table.start(segment) + offset as usize;
                let list = record::head(&self.region, place).body_at(place);
                let (readers, _) = record::pins(&self.region, list);
                assert_eq!(heads.remove(&place), Some(readers), "of the chain at {place}");
                offset = record::next_pinned(&self.region, list);
            }
            held += u32::from(entry.state == SegmentState::Held);
            kept += u32::from(entry.read_us > 0);
            assert!(entry.pins > 0 || entry.read_us == 0);
        }
        assert!(heads.is_empty(), "a head with readers is listed");
        assert_eq!((self.table.held, self.table.kept), (held, kept));
    }

    /// How many entries of the index name records of each segment.
    fn listed_by_segment(&self) -> BTreeMap<u32, u32> {
        let mut listed = BTreeMap::new();
        for bucket in 0..self.index.buckets() {
            for place in self.index.places(&self.region, bucket) {
                if place != 0 {
                    *listed.entry(self.table.of(place)).or_default() += 1;
                }
            }
        }
        listed
    }

    /// Live records, their bytes and the items among them.
    fn check_records(&self, segment: u32) -> (u32, u32, usize) {
        let start = self.table.start(segment);
        let entry = self.table.get(segment);
        let (mut records, mut bytes, mut items) = (0, 0, 0);
        let mut offset = SEGMENT_HEADER_BYTES;
        while offset < entry.used as usize {
            let place = start + offset;
            let head = record::head(&self.region, place);
            offset += head.bytes(&self.region);
            if !head.is_live() {
                continue;
            }
            records += 1;
            bytes += head.bytes(&self.region) as u32;
            if head.kind() == RecordKind::Piece {
                let (hash, position) = self.owner_of_piece(place, head);
                let address = self.index.address(hash);
                let owner = self.index.find(&self.region, address, |owner| {
                    self.listed_at(owner, position, place).is_some()
                });
                assert!(owner.is_some(), "a live piece has a head");
                continue;
            }
            items += 1;
            let expiry = head.expiry(&self.region, place).unix_s();
            assert!(expiry <= entry.expiry_max_s, "a segment expires last");
            let address = self.index.address(self.hash(head.key(&self.region, place)));
            assert!(self.index.entry_of(&self.region, address, place).is_some());
        }
        assert_eq!(offset, entry.used as usize);
        (records, bytes, items)
    }
}
