//! Input of a connection whose output is blocked: removed from its stream, and parsed later.
//!
//! Some clients write a whole long request before they read the first byte of its reply. If only
//! the stream held their input, neither side could continue. Nothing is parsed here, and no
//! connection keeps more than its share.

use std::io::IoSliceMut;
use std::net::IpAddr;

use super::deadlines::{Stall, allowance_us};
use super::scratch::INTAKES_KEPT;
use super::{Connection, Engine, Scratch};
use crate::base::buffer::Fifo;
use crate::base::clock::Now;
use crate::net::{ConnectionId, Stream};

/// A stream, preceded by the input that was removed from it earlier.
pub(super) struct Behind<'s, S> {
    intake: &'s mut Fifo,
    stream: &'s mut S,
}

impl<S: Stream> Stream for Behind<'_, S> {
    fn received(&mut self) -> &[u8] {
        if self.intake.is_empty() { self.stream.received() } else { self.intake.front() }
    }

    fn received_bytes(&self) -> usize {
        self.intake.len() + self.stream.received_bytes()
    }

    fn receive_capacity_bytes(&self) -> usize {
        self.stream.receive_capacity_bytes()
    }

    fn peek(&mut self, out: &mut [u8]) -> usize {
        let n = self.intake.copy_to(out);
        n + self.stream.peek(&mut out[n..])
    }

    fn consume(&mut self, bytes: usize) {
        let n = bytes.min(self.intake.len());
        self.intake.consume(n);
        if bytes > n {
            self.stream.consume(bytes - n);
        }
    }

    fn is_peer_finished(&self) -> bool {
        self.stream.is_peer_finished()
    }

    fn peer(&self) -> Option<IpAddr> {
        self.stream.peer()
    }

    fn room_bytes(&self) -> usize {
        self.stream.room_bytes()
    }

    fn write_with(&mut self, fill: impl FnOnce(&mut [u8]) -> usize) -> usize {
        self.stream.write_with(fill)
    }

    const SENDS_PIECES: bool = S::SENDS_PIECES;

    fn send_pieces<'p>(&mut self, pieces: impl Iterator<Item = &'p [u8]>) -> usize {
        self.stream.send_pieces(pieces)
    }

    const RECEIVES_INTO: bool = S::RECEIVES_INTO;

    fn receive_into(&mut self, pieces: &mut [IoSliceMut<'_>]) -> usize {
        if self.intake.is_empty() { self.stream.receive_into(pieces) } else { 0 }
    }

    fn expect_into(&mut self) {
        if self.intake.is_empty() {
            self.stream.expect_into();
        }
    }

    fn close(&mut self) {
        self.stream.close();
    }

    fn abort(&mut self) {
        self.stream.abort();
    }
}

impl Connection {
    /// Like [`Connection::drive`], for a connection with an intake.
    #[inline(never)]
    pub(super) fn drive_behind<S: Stream, E: Engine>(
        &mut self,
        id: ConnectionId,
        stream: &mut S,
        engine: &mut E,
        scratch: &mut Scratch,
        now: Now,
    ) {
        let mut intake = self.intake.take().expect("the caller saw it");
        let before = intake.held_bytes();
        let mut behind = Behind { intake: &mut intake, stream };
        self.go_on(id, &mut behind, engine, scratch, now);
        if self.is_closing {
            // Nothing more is parsed.
            intake.clear();
        }
        engine.keep_intake(before, intake.held_bytes());
        if !intake.is_empty() {
            self.intake = Some(intake);
        } else if scratch.intakes.len() < INTAKES_KEPT {
            scratch.intakes.push(intake);
        }
    }

    /// Removes received bytes from the stream, up to this connection's share.
    #[inline(never)]
    pub(super) fn take_in<S: Stream, E: Engine>(
        &mut self,
        stream: &mut S,
        engine: &mut E,
        scratch: &mut Scratch,
        now: Now,
    ) {
        if self.is_closing || stream.received_bytes() < stream.receive_capacity_bytes() / 2 {
            return;
        }
        let held = self.intake.as_ref().map_or(0, |intake| intake.held_bytes());
        let room_bytes = engine.intake_room(held);
        if room_bytes == 0 {
            return;
        }
        let intake = self.intake.get_or_insert_with(|| scratch.intakes.pop().unwrap_or_default());
        let mut taken = 0;
        loop {
            let piece = stream.received();
            let n = piece.len().min(room_bytes - taken);
            if n == 0 {
                break;
            }
            intake.push(&piece[..n]);
            stream.consume(n);
            taken += n;
        }
        engine.keep_intake(held, intake.held_bytes());
        // A client that still writes makes progress, so its deadline is extended.
        self.earn_us(allowance_us(taken), now);
        if self.stall == Stall::Output {
            self.deadline_us += allowance_us(taken);
        }
    }
}
