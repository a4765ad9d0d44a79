//! Lines of text from some threads to one reader, each thread through a ring of its own.
//!
//! A ring has a fixed size, and a line is written whole or not at all: who reads too slowly loses
//! lines, and reads how many before the next one that found room, as from memcached's `watch`
//! (logger.c). Nothing here waits, locks, or allocates after the rings were made.

use std::io::Write;

use arrayvec::ArrayVec;
use rtrb::{Consumer, Producer, RingBuffer};

/// Longest notice of lost lines.
const NOTICE_BYTES_MAX: usize = 32;

/// Makes `writers` rings of `bytes` bytes each, and their reader.
pub fn lines(writers: usize, bytes: usize) -> (Vec<LineWriter>, LineReader) {
    let (writers, rings) = (0..writers)
        .map(|_| {
            let (ring, reader) = RingBuffer::new(bytes);
            (LineWriter { ring, skipped: 0 }, reader)
        })
        .unzip();
    (writers, LineReader { rings, current: 0, left: 0, is_blocked: false })
}

/// One thread's end of its ring.
#[derive(Debug)]
pub struct LineWriter {
    ring: Producer<u8>,
    /// Lines lost since the last one that was written.
    skipped: u64,
}

impl LineWriter {
    /// Writes a line, after a notice of those that were lost before it. Returns whether there was
    /// room. After a lost line there is none until half of the ring is free, so that a slow reader
    /// gets lines in rows and not each alone with a notice.
    pub fn write(&mut self, line: &[u8]) -> bool {
        let mut notice = ArrayVec::<u8, NOTICE_BYTES_MAX>::new();
        if self.skipped > 0 {
            writeln!(notice, "skipped={}", self.skipped).expect("it has room for any number");
        }
        let is_waiting = self.skipped > 0 && self.ring.slots() < self.ring.buffer().capacity() / 2;
        let room = if is_waiting { 0 } else { self.ring.slots() };
        let bytes = notice.len() + line.len();
        if bytes > room {
            self.skipped += 1;
            return false;
        }
        let chunk = self.ring.write_chunk_uninit(bytes).expect("there is room");
        chunk.fill_from_iter(notice.iter().chain(line).copied());
        self.skipped = 0;
        true
    }

    /// Whether the reader is gone.
    pub fn is_abandoned(&self) -> bool {
        self.ring.is_abandoned()
    }
}

/// The reader of all rings.
#[derive(Debug)]
pub struct LineReader {
    rings: Vec<Consumer<u8>>,
    /// The ring that is read.
    current: usize,
    /// Bytes that are read from it before any of another: up to the end of a line.
    left: usize,
    /// There is no room where its lines go. Set and cleared by who moves them.
    pub is_blocked: bool,
}

impl LineReader {
    /// Whether there is something to read.
    pub fn has_lines(&self) -> bool {
        self.left > 0 || self.rings.iter().any(|ring| !ring.is_empty())
    }

    /// Moves as much as fits to `out`; returns how many bytes. A line may end in the next call's.
    pub fn read(&mut self, out: &mut [u8]) -> usize {
        let mut done = 0;
        while done < out.len() && (self.left > 0 || self.choose()) {
            let n = self.left.min(out.len() - done);
            let chunk = self.rings[self.current].read_chunk(n).expect("it was counted");
            let (first, second) = chunk.as_slices();
            out[done..done + first.len()].copy_from_slice(first);
            out[done + first.len()..done + n].copy_from_slice(second);
            chunk.commit_all();
            self.left -= n;
            done += n;
        }
        done
    }

    /// Continues with the next ring that has something. Returns whether there is one.
    fn choose(&mut self) -> bool {
        for _ in 0..self.rings.len() {
            self.current = (self.current + 1) % self.rings.len();
            // Whole lines: each was written at once.
            self.left = self.rings[self.current].slots();
            if self.left > 0 {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that can be read, in pieces of `piece` bytes.
    fn read(reader: &mut LineReader, piece: usize) -> String {
        let mut all = Vec::new();
        let mut out = vec![0; piece];
        while reader.has_lines() {
            let n = reader.read(&mut out);
            assert!(n > 0);
            all.extend_from_slice(&out[..n]);
        }
        String::from_utf8(all).expect("text")
    }

    #[test]
    fn lines_of_all_writers_arrive_whole_in_the_order_of_each() {
        for piece in [1, 3, 7, 100] {
            let (mut writers, mut reader) = lines(3, 64);
            assert!(!reader.has_lines());
            let mut got = String::new();
            for round in 0..100 {
                for (number, writer) in writers.iter_mut().enumerate() {
                    assert!(writer.write(format!("{number}:{round}\n").as_bytes()));
                }
                got += &read(&mut reader, piece);
            }
            for number in 0..3 {
                let of_it = |line: &&str| line.starts_with(&format!("{number}:"));
                let mine: Vec<&str> = got.lines().filter(of_it).collect();
                let sent: Vec<_> = (0..100).map(|round| format!("{number}:{round}")).collect();
                assert_eq!(mine, sent);
            }
            assert_eq!(got.lines().count(), 300);
        }
    }

    #[test]
    fn what_finds_no_room_is_counted_and_told_before_the_next() {
        let (mut writers, mut reader) = lines(1, 100);
        let writer = &mut writers[0];
        let written = (0..20).filter(|n| writer.write(format!("line {n:04}\n").as_bytes())).count();
        assert_eq!(written, 10);
        let mut out = [0; 20];
        assert_eq!(reader.read(&mut out), 20);
        assert!(!writer.write(b"line 0020\n"), "until half of it is free");
        assert_eq!(read(&mut reader, 100).lines().count(), 8);
        assert!(writer.write(b"line 0021\n"));
        assert!(writer.write(b"line 0022\n"));
        assert_eq!(read(&mut reader, 100), "skipped=11\nline 0021\nline 0022\n");
    }

    #[test]
    fn a_line_longer_than_the_ring_is_lost_and_told() {
        let (mut writers, mut reader) = lines(1, 64);
        assert!(!writers[0].write(&[b'x'; 65]));
        assert!(writers[0].write(b"short\n"));
        assert_eq!(read(&mut reader, 5), "skipped=1\nshort\n");
        assert!(!writers[0].is_abandoned());
        drop(reader);
        assert!(writers[0].is_abandoned());
    }
}
