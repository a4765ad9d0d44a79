//! A port with a simulated faulty wire: loses, duplicates, reorders and corrupts frames, by a seed,
//! so that a run with faults can be repeated. For tests and deliberate trials; never on by default.

use std::collections::VecDeque;

use arrayvec::ArrayVec;

use super::device::{Capabilities, Frame, Port, RxChecksum, TxOffload};
use super::headers::ETHERNET_BYTES;
use crate::base::limits::{BURST_FRAMES, FAULT_HELD_FRAMES};
use crate::base::random::Random;

/// How faulty the wire is: faults per million frames, in each direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Frames dropped.
    pub drop_ppm: u32,
    /// Frames delayed behind others.
    pub reorder_ppm: u32,
    /// Frames delivered twice.
    pub duplicate_ppm: u32,
    /// Frames with one wrong bit behind the Ethernet header.
    pub corrupt_ppm: u32,
    /// The seed of the faults.
    pub seed: u64,
}

/// Longest delay of a frame, in turns.
const LATE_TURNS_MAX: u64 = 4;

/// Frames in flight in one direction.
struct Lane<F> {
    faults: Faults,
    random: Random,
    /// Delayed frames, with the turns left until they are delivered.
    late: VecDeque<(u64, F)>,
}

impl<F: Frame> Lane<F> {
    fn new(faults: Faults, lane: u64) -> Lane<F> {
        let random = Random::new(faults.seed ^ lane << 63);
        Lane { faults, random, late: VecDeque::with_capacity(FAULT_HELD_FRAMES) }
    }

    fn strikes(&mut self, ppm: u32) -> bool {
        self.random.draw() % 1_000_000 < u64::from(ppm)
    }

    /// Passes `frame` to the wire; frames that are delivered immediately go to `out`. `spare`
    /// allocates frames for copies.
    fn pass(&mut self, mut frame: F, spare: impl FnOnce() -> Option<F>, mut out: impl FnMut(F)) {
        if self.strikes(self.faults.drop_ppm) {
            return;
        }
        if self.strikes(self.faults.corrupt_ppm) {
            let bit = self.random.draw();
            if let Some(body) = frame.bytes_mut().get_mut(ETHERNET_BYTES..)
                && !body.is_empty()
            {
                let at = (bit / 8) as usize % body.len();
                body[at] ^= 1 << (bit % 8);
            }
        }
        if self.strikes(self.faults.duplicate_ppm)
            && let Some(mut copy) = spare()
            && copy.capacity_bytes() >= frame.bytes().len()
        {
            copy.set_len(frame.bytes().len());
            copy.bytes_mut().copy_from_slice(frame.bytes());
            out(copy);
        }
        if self.strikes(self.faults.reorder_ppm) && self.late.len() < FAULT_HELD_FRAMES {
            let turns = 1 + self.random.draw() % LATE_TURNS_MAX;
            self.late.push_back((turns, frame));
        } else {
            out(frame);
        }
    }

    /// Ends a turn: passes delayed frames to `out` while it accepts them.
    fn turn(&mut self, mut out: impl FnMut(F) -> Result<(), F>) {
        for _ in 0..self.late.len() {
            let Some((turns, frame)) = self.late.pop_front() else { return };
            if turns > 1 {
                self.late.push_back((turns - 1, frame));
            } else if let Err(frame) = out(frame) {
                self.late.push_back((1, frame));
            }
        }
    }
}

/// A port with a faulty wire. Checksums are left to software in both directions: no device may
/// correct damaged frames.
pub struct FaultyPort<P: Port> {
    port: P,
    rx: Lane<FaultyFrame<P::Frame>>,
    tx: Lane<FaultyFrame<P::Frame>>,
}

impl<P: Port> FaultyPort<P> {
    /// Simulates a faulty wire behind `port`.
    pub fn new(port: P, faults: Faults) -> FaultyPort<P> {
        FaultyPort { port, rx: Lane::new(faults, 0), tx: Lane::new(faults, 1) }
    }
}

/// A frame whose checksums are unverified.
pub struct FaultyFrame<F>(F);

impl<F: Frame> Frame for FaultyFrame<F> {
    fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }

    fn set_len(&mut self, bytes: usize) {
        self.0.set_len(bytes);
    }

    fn capacity_bytes(&self) -> usize {
        self.0.capacity_bytes()
    }

    fn rx_checksum(&self) -> RxChecksum {
        match self.0.rx_checksum() {
            RxChecksum::Bad => RxChecksum::Bad,
            RxChecksum::Good | RxChecksum::Unknown => RxChecksum::Unknown,
        }
    }

    fn set_tx_offload(&mut self, offload: TxOffload) {
        self.0.set_tx_offload(offload);
    }
}

impl<P: Port> Port for FaultyPort<P> {
    type Frame = FaultyFrame<P::Frame>;

    fn capabilities(&self) -> Capabilities {
        Capabilities { tx_checksum: false, ..self.port.capabilities() }
    }

    fn receive(&mut self, burst: &mut ArrayVec<Self::Frame, BURST_FRAMES>) {
        self.rx.turn(|frame| burst.try_push(frame).map_err(|error| error.element()));
        let mut fresh = ArrayVec::<P::Frame, BURST_FRAMES>::new();
        self.port.receive(&mut fresh);
        for frame in fresh {
            let spare = || self.port.allocate().map(FaultyFrame);
            // A frame that does not fit into the burst is lost as well.
            self.rx.pass(FaultyFrame(frame), spare, |frame| drop(burst.try_push(frame)));
        }
    }

    fn allocate(&mut self) -> Option<Self::Frame> {
        self.port.allocate().map(FaultyFrame)
    }

    fn recycle(&mut self, frame: Self::Frame) {
        self.port.recycle(frame.0);
    }

    fn send(&mut self, frame: Self::Frame) -> Result<(), Self::Frame> {
        let spare = self.port.allocate().map(FaultyFrame);
        let mut refused = Ok(());
        self.tx.pass(
            frame,
            || spare,
            |frame| {
                if let Err(FaultyFrame(frame)) = self.port.send(frame.0).map_err(FaultyFrame) {
                    refused = Err(FaultyFrame(frame));
                }
            },
        );
        refused
    }

    fn flush(&mut self) {
        self.tx.turn(|frame| self.port.send(frame.0).map_err(FaultyFrame));
        self.port.flush();
    }

    fn take_forwarded(&mut self) -> usize {
        self.port.take_forwarded()
    }
}
