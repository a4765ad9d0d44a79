//! A segment that is being filled: its bytes in memory until they are on the disk.
//!
//! ```text
//! |<── on the disk ──>|<── on its way ──>|<── gathered ──>|
//!                 completed          submitted           head
//!              [ window          ][ window                  ]
//! ```
//!
//! Windows are buffers of the disk, one after another. A record lies in memory from its first byte
//! to its last or else it is on the disk wholly: a window goes only when everything that begins in
//! it is written. No block is ever written twice in one use of a segment, but for what follows an
//! error. This must never wait, and knows nothing of other segments.

use std::collections::VecDeque;

use super::disk::{Buffer, Frozen};
use super::format::{Entry, SEAL_BLOCKS, summary_blocks};
use crate::base::limits::{
    SSD_BLOCK_BYTES, SSD_CROSSING_ROOM_BYTES, SSD_PADDING_SHARE, SSD_UNIT_BYTES,
};

const BLOCK: u32 = SSD_BLOCK_BYTES as u32;

/// What is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Records are added.
    Filling,
    /// Its summary is added, from this block of it on.
    Summing {
        /// The next block.
        block: u32,
    },
    /// Everything but the seal is written or on its way.
    Unsealed,
    /// The same, and it was durable when this many checkpoints had been made.
    Waiting {
        /// How many.
        checkpoints: u64,
    },
    /// The seal is on its way.
    Sealing,
}

#[derive(Debug)]
struct Window {
    start: u32,
    end: u32,
    buffer: Buffer,
    /// Where the last record that begins in it ends.
    record_end: u32,
}

/// A segment that is being filled.
#[derive(Debug)]
pub struct Open {
    /// Which.
    pub segment: u32,
    /// The class of lifetimes in it.
    pub class: u8,
    /// What is done with it.
    pub phase: Phase,
    /// Its records, in order.
    pub entries: Vec<Entry>,
    /// How many of the last of them a failed write has lost. They are yet to be forgotten.
    pub lost: usize,
    /// Where its records end, once there are no more to come.
    pub records_end: u32,
    /// The same in whole blocks: there its summary begins.
    pub data_end: u32,
    segment_bytes: u32,
    head: u32,
    submitted: u32,
    completed: u32,
    in_flight: Vec<(u32, u32, bool)>,
    windows: VecDeque<Window>,
    is_cut: bool,
    /// What records would not go across, in bytes.
    padding_bytes: u32,
    /// Longer ones begin with a block.
    crossing_bytes_max: usize,
}

impl Open {
    /// An empty one.
    pub fn new(segment: u32, class: u8, segment_bytes: u32, crossing_bytes_max: usize) -> Open {
        Open {
            segment,
            class,
            phase: Phase::Filling,
            entries: Vec::new(),
            lost: 0,
            records_end: 0,
            data_end: 0,
            segment_bytes,
            head: 0,
            submitted: 0,
            completed: 0,
            in_flight: Vec::new(),
            windows: VecDeque::new(),
            is_cut: false,
            padding_bytes: 0,
            crossing_bytes_max,
        }
    }

    /// Where the next byte goes.
    pub fn head(&self) -> u32 {
        self.head
    }

    /// Up to where it was handed to the disk.
    #[cfg(test)]
    fn submitted(&self) -> u32 {
        self.submitted
    }

    /// Up to where it is on the disk, though perhaps not durably.
    pub fn completed(&self) -> u32 {
        self.completed
    }

    /// Whether writes of it are under way.
    pub fn is_writing(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Where a record of `len_bytes` would start. One that would take a block more begins with the
    /// next block, unless that would waste too much; its header and key are in one block always.
    pub fn next_start(&self, len_bytes: usize) -> u32 {
        let start = self.head.next_multiple_of(SSD_UNIT_BYTES as u32);
        let aligned = start.next_multiple_of(BLOCK);
        let rest = (aligned - start) as usize;
        if len_bytes <= rest {
            return start;
        }
        let may_cross = rest >= SSD_CROSSING_ROOM_BYTES && len_bytes <= self.crossing_bytes_max;
        let blocks = (SSD_BLOCK_BYTES - rest + len_bytes).div_ceil(SSD_BLOCK_BYTES);
        let takes_more = blocks > len_bytes.div_ceil(SSD_BLOCK_BYTES);
        let padding = self.padding_bytes as usize + rest;
        let is_wasteful = padding * SSD_PADDING_SHARE > self.head as usize;
        if may_cross && (is_wasteful || !takes_more) { start } else { aligned }
    }

    /// Whether a record that starts and ends there leaves room for summary and seal.
    pub fn has_room(&self, start: u32, len_bytes: usize) -> bool {
        let end = (start as usize + len_bytes).next_multiple_of(SSD_BLOCK_BYTES);
        let rest = (summary_blocks(self.entries.len() + 1) + SEAL_BLOCKS) * SSD_BLOCK_BYTES;
        end + rest <= self.segment_bytes as usize
    }

    /// Whether memory for the bytes up to `end` is there; `more` gives some.
    pub fn cover(&mut self, end: u32, mut more: impl FnMut() -> Option<Buffer>) -> bool {
        loop {
            let start = self.windows.back().map_or(self.submitted, |window| window.end);
            if end <= start {
                return true;
            }
            let Some(buffer) = more() else { return false };
            let window_end = start.saturating_add(buffer.len() as u32).min(self.segment_bytes);
            self.windows.push_back(Window { start, end: window_end, buffer, record_end: start });
        }
    }

    /// Fills the bytes up to `start` with zeros and says that a record up to `end` follows.
    /// [`Open::cover`] said yes to `end`.
    pub fn begin(&mut self, start: u32, end: u32) {
        const ZEROS: [u8; SSD_BLOCK_BYTES] = [0; SSD_BLOCK_BYTES];
        if start < end && start - self.head >= SSD_UNIT_BYTES as u32 {
            self.padding_bytes += start - self.head;
        }
        while self.head < start {
            let n = (start - self.head).min(BLOCK);
            self.add(&ZEROS[..n as usize]);
        }
        if let Some(window) = self.windows.iter_mut().find(|it| start < it.end) {
            window.record_end = end;
        }
    }

    /// Adds bytes at the head.
    pub fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let head = self.head;
            let Some(window) = self.windows.iter_mut().find(|it| head < it.end) else {
                unreachable!("covered before");
            };
            let n = bytes.len().min((window.end - head) as usize);
            let at = (head - window.start) as usize - window.buffer.frozen_bytes();
            window.buffer.open_mut()[at..at + n].copy_from_slice(&bytes[..n]);
            self.head += n as u32;
            bytes = &bytes[n..];
        }
    }

    /// No more records come.
    pub fn end(&mut self) {
        self.pad();
        self.end_at(self.head);
    }

    /// The records end at `records_end`, and the segment is cut there.
    pub fn end_at(&mut self, records_end: u32) {
        self.records_end = records_end;
        self.data_end = records_end.next_multiple_of(BLOCK);
        self.phase = Phase::Summing { block: 0 };
        if self.data_end < self.head {
            self.cut(self.data_end);
        }
    }

    /// Fills the block of the head with zeros.
    pub fn pad(&mut self) {
        let end = self.head.next_multiple_of(BLOCK);
        self.begin(end, end);
    }

    /// Takes the next piece that is to be written, of at most `max_bytes` and not less if it is not
    /// `forced`: where it goes in the segment, and its bytes. Whole blocks that nothing is added
    /// to.
    pub fn next_write(&mut self, max_bytes: usize, is_forced: bool) -> Option<(u32, Frozen)> {
        if is_forced {
            self.pad();
        }
        let ready = self.head / BLOCK * BLOCK;
        let start = self.submitted;
        let window = self.windows.iter_mut().find(|it| start < it.end)?;
        let end = ready.min(window.end).min(start + max_bytes as u32);
        let is_enough = end == window.end || (end - start) as usize == max_bytes;
        if end <= start || !(is_forced || is_enough) {
            return None;
        }
        let frozen = window.buffer.freeze((end - start) as usize);
        self.submitted = end;
        self.in_flight.push((start, end, false));
        Some((start, frozen))
    }

    /// A piece is written.
    pub fn written(&mut self, start: u32) {
        for piece in &mut self.in_flight {
            piece.2 |= piece.0 == start;
        }
        // Pieces are in order.
        let done = self.in_flight.iter().take_while(|piece| piece.2).count();
        if let Some(last) = self.in_flight.drain(..done).next_back() {
            self.completed = last.1;
        }
        let completed = self.completed;
        while self
            .windows
            .front()
            .is_some_and(|it| it.end <= completed && it.record_end <= completed)
        {
            self.windows.pop_front();
        }
    }

    /// A piece could not be written: takes everything from there on away. What was written of it
    /// before stays. Returns where the segment ends now.
    pub fn failed(&mut self, start: u32) -> u32 {
        // Those behind it that are written already wait for no completion that takes them away.
        self.in_flight.retain(|piece| piece.0 < start || piece.0 > start && !piece.2);
        self.cut(start)
    }

    /// Takes everything from `start` on away, and returns where the segment ends now. Writes of it
    /// stay under way.
    pub fn cut(&mut self, start: u32) -> u32 {
        let end = self.head.min(start);
        self.is_cut = true;
        self.head = end;
        self.windows.retain_mut(|it| {
            it.end = it.end.min(end);
            it.start < it.end
        });
        for window in &mut self.windows {
            window.record_end = window.record_end.min(end);
        }
        end
    }

    /// Whether bytes can be added: always, but for a segment that was cut and has writes of what
    /// was cut off under way.
    pub fn resume(&mut self) -> bool {
        if self.is_cut && self.in_flight.is_empty() {
            self.submitted = self.head;
            self.completed = self.head;
            self.windows.clear();
            self.is_cut = false;
        }
        !self.is_cut
    }

    /// Whether a failed write has lost the record at `offset`.
    pub fn has_lost(&self, offset: u32) -> bool {
        let first = self.entries.len() - self.lost;
        self.entries.get(first).is_some_and(|it| it.unit <= offset / SSD_UNIT_BYTES as u32)
    }

    /// Lets go of the memory of a segment to which nothing is added any more and of which
    /// everything is written: what it waits for may need memory itself.
    pub fn release(&mut self) {
        debug_assert!(self.in_flight.is_empty() && self.completed >= self.head);
        self.windows.clear();
    }

    /// The bytes from `offset` on, piece by piece, if they are in memory.
    pub fn in_memory(&self, offset: u32) -> Option<impl Iterator<Item = &[u8]>> {
        let first = self.windows.iter().position(|it| it.start <= offset && offset < it.end)?;
        Some(self.windows.range(first..).map(move |it| {
            let from = offset.max(it.start) - it.start;
            &it.buffer[from as usize..(it.end - it.start) as usize]
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk::Pool;
    use super::*;

    fn pool() -> Pool {
        Pool::with_buffers(&[(4096, 1)], (16384, 4)).unwrap()
    }

    fn add(open: &mut Open, pool: &Pool, byte: u8, len: usize) -> u32 {
        let start = open.next_start(len);
        assert!(open.has_room(start, len));
        assert!(open.cover(start + len as u32, || pool.write_buffer()));
        open.begin(start, start + len as u32);
        open.add(&vec![byte; len]);
        start
    }

    fn bytes(open: &Open, offset: u32, len: usize) -> Option<Vec<u8>> {
        Some(open.in_memory(offset)?.flatten().copied().take(len).collect())
    }

    #[test]
    fn a_record_takes_no_more_blocks_than_it_must() {
        let (pool, mut open) = (pool(), Open::new(0, 0, 65536, 32768));
        assert_eq!(add(&mut open, &pool, 1, 1000), 0);
        assert_eq!(add(&mut open, &pool, 2, 3000), 1024);
        assert_eq!(add(&mut open, &pool, 3, 65), 4096);
        assert_eq!(add(&mut open, &pool, 4, 20_000), 4224, "five blocks here or there");
        assert_eq!(bytes(&open, 4224, 20_000), Some(vec![4; 20_000]));
        assert_eq!(bytes(&open, 4096, 65), Some(vec![3; 65]));
        assert_eq!(bytes(&open, 4024, 72), Some(vec![0; 72]), "padding is zeros");
        assert!(!open.has_room(40_960, 16_384), "summary and seal need room");
        assert!(open.has_room(40_960, 12_288));
    }

    #[test]
    fn records_cross_blocks_where_padding_would_be_much_and_only_there() {
        for len in [100, 700, 1063, 1400, 2112, 3000, 4000, 4063, 4150, 5000, 9000] {
            let (pool, mut open) = (
                Pool::with_buffers(&[(65536, 1)], (65536, 16)).unwrap(),
                Open::new(0, 0, 1 << 20, 32768),
            );
            let (mut crossing, mut count, mut padding) = (0, 0, 0);
            while open.has_room(open.next_start(len) + 64, len) {
                let head = open.head();
                let start = add(&mut open, &pool, 1, len);
                let blocks = (start % BLOCK + len as u32).div_ceil(BLOCK);
                let more = blocks - (len as u32).div_ceil(BLOCK);
                assert!(more <= 1);
                assert!(len as u32 <= 302 || start % BLOCK <= BLOCK - 302, "header and key");
                crossing += more;
                count += 1;
                padding += start - head;
            }
            let small = (len.next_multiple_of(64) - len) as u32 * count;
            let wasted = f64::from(padding - small.min(padding)) / f64::from(open.head());
            println!("{len}: {crossing} of {count} take a block more, {wasted:.3} is padding");
            assert!(wasted < 0.08, "{len}");
            assert!(!(3500..=4096).contains(&len) || crossing == 0, "{len}");
            assert!(len > 1100 || crossing * 5 <= count, "{len}: {crossing} of {count}");
        }
    }

    #[test]
    fn a_window_stays_until_what_begins_in_it_is_written() {
        let (pool, mut open) = (pool(), Open::new(0, 0, 65536, 32768));
        add(&mut open, &pool, 1, 4096);
        add(&mut open, &pool, 2, 30_000);
        let mut starts = Vec::new();
        while let Some((start, _)) = open.next_write(8192, false) {
            starts.push(start);
        }
        // The rest is less than a piece.
        assert_eq!((starts.as_slice(), open.submitted()), (&[0, 8192, 16384, 24576][..], 32768));
        starts.iter().take(3).for_each(|start| open.written(*start));
        assert_eq!(open.completed(), 24576);
        assert_eq!(bytes(&open, 4096, 30_000), Some(vec![2; 30_000]), "its end is not written");
        open.written(24576);
        let (start, piece) = open.next_write(8192, true).unwrap();
        assert_eq!((start, piece.len()), (32768, 4096));
        open.written(start);
        assert_eq!((bytes(&open, 4096, 1), open.completed()), (None, 36864));
        drop(piece);
        assert_eq!(pool.free(), 1 + 3);
    }

    #[test]
    fn writes_complete_in_any_order() {
        let (pool, mut open) = (pool(), Open::new(0, 0, 65536, 32768));
        add(&mut open, &pool, 1, 16384);
        let first = open.next_write(8192, false).unwrap();
        let second = open.next_write(8192, false).unwrap();
        open.written(second.0);
        assert_eq!((open.completed(), open.is_writing()), (0, true));
        open.written(first.0);
        assert_eq!((open.completed(), open.is_writing()), (16384, false));
    }

    #[test]
    fn after_an_error_it_goes_on_where_it_was_cut() {
        let (pool, mut open) = (pool(), Open::new(0, 0, 65536, 32768));
        add(&mut open, &pool, 1, 8192);
        add(&mut open, &pool, 2, 8192);
        let first = open.next_write(8192, false).unwrap();
        let second = open.next_write(8192, false).unwrap();
        assert_eq!(open.failed(second.0), 8192);
        assert_eq!(bytes(&open, 0, 8192), Some(vec![1; 8192]));
        assert_eq!(bytes(&open, 8192, 1), None);
        assert!(!open.resume(), "a write is under way");
        open.written(first.0);
        assert!(open.resume());
        assert_eq!(add(&mut open, &pool, 3, 4096), 8192);
        let (start, piece) = open.next_write(8192, true).unwrap();
        assert_eq!((start, &piece[..]), (8192, &[3; 4096][..]));
    }

    #[test]
    fn after_an_error_it_waits_for_no_write_that_is_over() {
        let (pool, mut open) = (pool(), Open::new(0, 0, 65536, 32768));
        add(&mut open, &pool, 1, 32768);
        let pieces: Vec<_> = std::iter::from_fn(|| open.next_write(8192, false)).collect();
        let [first, second, third, fourth] = &pieces[..] else { unreachable!("{}", pieces.len()) };
        open.written(third.0);
        open.failed(second.0);
        assert!(open.is_writing(), "the first and the fourth");
        open.written(first.0);
        open.failed(fourth.0);
        assert!(!open.is_writing());
        assert!(open.resume());
    }
}
