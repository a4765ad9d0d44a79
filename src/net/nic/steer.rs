//! Sharing one queue pair among workers: the worker that receives passes whole frames to the worker
//! of their flow, and sends the frames of the others.
//!
//! All frames of a flow go to one worker, in order. Nothing here waits: a worker that does not take
//! its frames loses the newest of them, and delays no other.

use rapidhash::v3::{RapidSecrets, rapidhash_v3_nano_inline};
use rtrb::{Consumer, Producer, PushError, RingBuffer};

use crate::base::limits::{NIC_STEER_BUDGET_FRAMES, NIC_STEER_FRAMES};
use crate::net::tcp::headers::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV4_BYTES, IPV6_BYTES, PROTOCOL_TCP, be16,
};

/// Chooses the worker of a flow, by a hash that a peer cannot predict.
pub(super) struct FlowHash {
    secrets: RapidSecrets,
    workers: usize,
}

impl FlowHash {
    /// A hash over `workers` workers, keyed by `seed`.
    pub(super) fn new(workers: usize, seed: u64) -> FlowHash {
        FlowHash { secrets: RapidSecrets::seed(seed), workers }
    }

    /// The worker of a frame: by its addresses and ports if it is TCP, else worker 0, which answers
    /// for the host.
    pub(super) fn worker(&self, frame: &[u8]) -> usize {
        let mut tuple = [0; 36];
        let Some(len) = flow_tuple(frame, &mut tuple) else { return 0 };
        let hash = rapidhash_v3_nano_inline::<true, false>(&tuple[..len], &self.secrets);
        // The high half times the number of workers: as even as a remainder, without a division.
        ((hash >> 32) as usize * self.workers) >> 32
    }
}

/// Writes addresses and ports of a TCP segment to `tuple`, and returns their length in bytes. None
/// for fragments, for other protocols, and for truncated frames.
fn flow_tuple(frame: &[u8], tuple: &mut [u8; 36]) -> Option<usize> {
    let mut head = frame.get(12..)?;
    // A tag of VLAN 0 is only a priority (IEEE 802.1Q, 6.9), and a flow's frames may differ in it.
    while let [0x81, 0x00, high, 0, rest @ ..] | [0x88, 0xa8, high, 0, rest @ ..] = head
        && high & 0x0f == 0
    {
        head = rest;
    }
    let (ethertype, packet) = head.split_first_chunk::<2>()?;
    let ethertype = *ethertype;
    let (addresses, header_bytes) = if ethertype == ETHERTYPE_IPV4 {
        // RFC 791, section 3.1: version and IHL, fragment offset and MF, protocol, addresses.
        let header = packet.get(..IPV4_BYTES)?;
        let header_bytes = usize::from(header[0] & 0x0f) * 4;
        let is_fragment = be16(header, 6) & 0x3fff != 0;
        let is_tcp = header[0] >> 4 == 4 && header_bytes >= IPV4_BYTES && header[9] == PROTOCOL_TCP;
        if !is_tcp || is_fragment {
            return None;
        }
        (&packet[12..20], header_bytes)
    } else if ethertype == ETHERTYPE_IPV6 {
        // RFC 8200, section 3. A segment after extension headers goes to worker 0.
        let header = packet.get(..IPV6_BYTES)?;
        if header[0] >> 4 != 6 || header[6] != PROTOCOL_TCP {
            return None;
        }
        (&packet[8..40], IPV6_BYTES)
    } else {
        return None;
    };
    let ports = packet.get(header_bytes..header_bytes + 4)?;
    tuple[..addresses.len()].copy_from_slice(addresses);
    tuple[addresses.len()..addresses.len() + 4].copy_from_slice(ports);
    Some(addresses.len() + 4)
}

/// The end of the worker that has the queue pair.
pub(super) struct Hub<F> {
    hash: FlowHash,
    /// Those of worker 1 and up.
    lanes: Box<[Lane<F>]>,
    /// The lane whose output is taken first in the next call.
    first: usize,
}

/// The end of a worker without a queue pair.
pub(super) struct Lane<F> {
    to: Producer<F>,
    from: Consumer<F>,
}

/// The result of steering a frame.
pub(super) enum Steered<F> {
    /// It belongs to the receiving worker.
    Own(F),
    /// Passed to its worker.
    Sent,
    /// The ring of its worker is full: the frame is returned, to be dropped.
    Full(F),
}

/// Rings between the worker that receives and `workers - 1` others. The second part has the ends of
/// worker 1 and up, in order.
pub(super) fn connect<F>(workers: usize, seed: u64) -> (Hub<F>, Vec<Lane<F>>) {
    let pairs = (1..workers).map(|_| {
        let (to_worker, from_hub) = RingBuffer::new(NIC_STEER_FRAMES);
        let (to_hub, from_worker) = RingBuffer::new(NIC_STEER_FRAMES);
        (Lane { to: to_worker, from: from_worker }, Lane { to: to_hub, from: from_hub })
    });
    let (lanes, spokes): (Vec<_>, Vec<_>) = pairs.unzip();
    let hub = Hub { hash: FlowHash::new(workers, seed), lanes: lanes.into_boxed_slice(), first: 0 };
    (hub, spokes)
}

impl<F> Hub<F> {
    /// Passes a received frame, whose bytes `bytes` returns, to the worker of its flow.
    pub(super) fn steer(&mut self, frame: F, bytes: impl Fn(&F) -> &[u8]) -> Steered<F> {
        match self.hash.worker(bytes(&frame)) {
            0 => Steered::Own(frame),
            worker => match self.lanes[worker - 1].to.push(frame) {
                Ok(()) => Steered::Sent,
                Err(PushError::Full(frame)) => Steered::Full(frame),
            },
        }
    }

    /// Takes the output of the other workers, at most `room` frames and a budget from each. Returns
    /// how many. The first worker changes from call to call, so that a full device affects them
    /// evenly.
    pub(super) fn collect(&mut self, room: usize, mut push: impl FnMut(F)) -> usize {
        let mut taken = 0;
        for step in 0..self.lanes.len() {
            let lane = (self.first + step) % self.lanes.len();
            for _ in 0..NIC_STEER_BUDGET_FRAMES.min(room - taken) {
                let Ok(frame) = self.lanes[lane].from.pop() else { break };
                push(frame);
                taken += 1;
            }
        }
        self.first = (self.first + 1) % self.lanes.len().max(1);
        taken
    }
}

impl<F> Lane<F> {
    /// The next frame for this worker.
    pub(super) fn receive(&mut self) -> Option<F> {
        self.from.pop().ok()
    }

    /// Passes on a frame to be sent.
    ///
    /// # Errors
    /// The frame, if the ring is full.
    pub(super) fn send(&mut self, frame: F) -> Result<(), F> {
        self.to.push(frame).map_err(|PushError::Full(frame)| frame)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tcp4(source: [u8; 4], port: u16) -> Vec<u8> {
        let mut frame = vec![0; 14 + 40];
        frame[12..14].copy_from_slice(&ETHERTYPE_IPV4);
        frame[14] = 0x45;
        frame[14 + 9] = PROTOCOL_TCP;
        frame[26..30].copy_from_slice(&source);
        frame[30..34].copy_from_slice(&[10, 0, 0, 1]);
        frame[34..36].copy_from_slice(&port.to_be_bytes());
        frame[36..38].copy_from_slice(&11211u16.to_be_bytes());
        frame
    }

    fn tcp6(port: u16) -> Vec<u8> {
        let mut frame = vec![0; 14 + 60];
        frame[12..14].copy_from_slice(&ETHERTYPE_IPV6);
        frame[14] = 0x60;
        frame[14 + 6] = PROTOCOL_TCP;
        frame[54..56].copy_from_slice(&port.to_be_bytes());
        frame
    }

    #[test]
    fn flows_are_distributed_evenly_and_stay() {
        let hash = FlowHash::new(4, 7);
        for make in [|port| tcp4([10, 0, 0, 2], port), tcp6 as fn(u16) -> Vec<u8>] {
            let mut counts = [0; 4];
            for port in 0..4000 {
                let mut frame = make(port);
                let worker = hash.worker(&frame);
                counts[worker] += 1;
                // Fields that do not identify the flow have no effect: length, sequence number,
                // flags.
                let last = frame.len() - 1;
                frame[last] ^= 0xff;
                frame[14 + 2] ^= 1;
                frame.push(1);
                assert_eq!(hash.worker(&frame), worker);
                frame.splice(12..12, [0x81, 0, 0x60, 0]);
                assert_eq!(hash.worker(&frame), worker);
            }
            assert!(counts.iter().all(|&n| (800..1200).contains(&n)), "{counts:?}");
        }
    }

    #[test]
    fn another_seed_gives_another_distribution() {
        let (a, b) = (FlowHash::new(64, 1), FlowHash::new(64, 2));
        let frames: Vec<_> = (0..200).map(|port| tcp4([10, 0, 0, 2], port)).collect();
        let same = frames.iter().filter(|f| a.worker(f) == b.worker(f)).count();
        assert!(same < 20, "{same} of 200 flows on the same worker");
    }

    #[test]
    fn frames_without_tcp_stay_with_worker_0() {
        let hash = FlowHash::new(64, 3);
        let change = |at: usize, to: u8| {
            (0..64).all(|port| {
                let mut frame = tcp4([10, 0, 0, 2], port);
                frame[at] = to;
                hash.worker(&frame) == 0
            })
        };
        assert!(change(12, 0x86), "another ethertype");
        assert!(change(14, 0x65), "another version");
        assert!(change(14, 0x44), "a header too short");
        assert!(change(14, 0x4f), "a header longer than the frame");
        assert!(change(14 + 9, 17), "UDP");
        assert!(change(14 + 6, 0x20), "a first fragment");
        assert!(change(14 + 7, 1), "a later fragment");
        assert!(!change(14 + 6, 0x40), "DF is no fragment");
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_worker(
            mut frame in prop::collection::vec(any::<u8>(), 0..120),
            kind in 0usize..3,
            workers in 1usize..=64,
        ) {
            if let (Some(ethertype), 1..) = (frame.get_mut(12..14), kind) {
                ethertype.copy_from_slice([&ETHERTYPE_IPV4, &ETHERTYPE_IPV6][kind - 1]);
            }
            prop_assert!(FlowHash::new(workers, 5).worker(&frame) < workers);
        }
    }

    #[test]
    fn a_stopped_worker_delays_no_other() {
        let (mut hub, mut spokes) = connect::<Vec<u8>>(3, 9);
        let (mut own, mut full) = (0, 0);
        let mut received = 0;
        // Worker 1 never reads its ring; worker 2 does.
        for port in 0..(8 * NIC_STEER_FRAMES) as u16 {
            match hub.steer(tcp4([10, 0, 0, 2], port), |frame| frame) {
                Steered::Own(_) => own += 1,
                Steered::Sent => {}
                Steered::Full(_) => full += 1,
            }
            received += std::iter::from_fn(|| spokes[1].receive()).count();
        }
        let waiting = std::iter::from_fn(|| spokes[0].receive()).count();
        assert_eq!(waiting, NIC_STEER_FRAMES);
        assert_eq!(own + full + received + waiting, 8 * NIC_STEER_FRAMES);
        assert!(received > 2 * NIC_STEER_FRAMES && full > NIC_STEER_FRAMES);
    }

    #[test]
    fn output_is_collected_in_turn_and_within_the_room() {
        let (mut hub, mut spokes) = connect::<usize>(3, 9);
        for n in 0..NIC_STEER_FRAMES {
            spokes[0].send(n).unwrap();
            spokes[1].send(10_000 + n).unwrap();
        }
        assert_eq!(spokes[0].send(7), Err(7));
        let mut seen = Vec::new();
        assert_eq!(hub.collect(0, |n| seen.push(n)), 0);
        assert_eq!(hub.collect(5, |n| seen.push(n)), 5);
        assert_eq!(hub.collect(5, |n| seen.push(n)), 5);
        assert_eq!(seen, [10_000, 10_001, 10_002, 10_003, 10_004, 0, 1, 2, 3, 4]);
        seen.clear();
        assert_eq!(hub.collect(usize::MAX, |n| seen.push(n)), 2 * NIC_STEER_BUDGET_FRAMES);
        assert_eq!(seen[0], 10_005);
    }
}
