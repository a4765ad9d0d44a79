//! A port with a bad wire behind it: loses, repeats, reorders and damages frames, by a seed, so
//! that a run with faults can be had again. For tests and for trials on purpose; never on by
//! itself.

use std::collections::VecDeque;

use arrayvec::ArrayVec;

use super::device::{Capabilities, Frame, Port, RxChecksum, TxOffload};
use super::headers::ETHERNET_BYTES;
use crate::base::limits::{BURST_FRAMES, FAULT_HELD_FRAMES};
use crate::base::random::Random;

/// How bad the wire is: faults in a million frames, each way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Frames that vanish.
    pub drop_ppm: u32,
    /// Frames that come late, behind others.
    pub reorder_ppm: u32,
    /// Frames that come twice.
    pub duplicate_ppm: u32,
    /// Frames of which one bit behind the Ethernet header is wrong.
    pub corrupt_ppm: u32,
    /// What the faults are drawn from.
    pub seed: u64,
}

/// Most turns that a late frame is late.
const LATE_TURNS_MAX: u64 = 4;

/// Frames on their way in one direction.
struct Lane<F> {
    faults: Faults,
    random: Random,
    /// Late frames, with the turns left until they come.
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

    /// Lets `frame` onto the wire; what comes out at once goes to `out`. `spare` gives frames for
    /// copies.
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

    /// A turn went by: gives late frames to `out` while it takes them.
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

/// A port whose wire has faults. Checksums are left to software both ways: no device may mend what
/// was damaged.
pub struct FaultyPort<P: Port> {
    port: P,
    rx: Lane<FaultyFrame<P::Frame>>,
    tx: Lane<FaultyFrame<P::Frame>>,
}

impl<P: Port> FaultyPort<P> {
    /// Puts a bad wire behind `port`.
    pub fn new(port: P, faults: Faults) -> FaultyPort<P> {
        FaultyPort { port, rx: Lane::new(faults, 0), tx: Lane::new(faults, 1) }
    }
}

/// A frame whose checksums nobody vouches for.
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
            // What finds no place in the burst is one more frame lost.
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
