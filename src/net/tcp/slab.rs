//! The flows: a connection's socket, its rings, and its state beside them.
//!
//! A flow is built when it is first needed and reused for ever: a closed flow's socket is aborted
//! and listens again on the same rings. Memory is never freed, and nothing moves.

use std::io;
use std::mem::MaybeUninit;

use smoltcp::iface::{SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer};
use smoltcp::time::Duration;

use super::credit::Allowance;
use super::flows::FlowKey;
use super::loss::Acks;
use crate::base::buffer::{HugeVec, huge_slots_forever, map_huge_forever, prefetch_range};
use crate::base::limits::{
    TCP_ACK_DELAY_US, TCP_CLOCK_RATE, TCP_KEEP_ALIVE_US, TCP_PEER_TIMEOUT_US, TCP_RING_SLAB,
    TCP_RING_STAGGER_BYTES, TCP_RX_RING_BYTES, TCP_TX_RING_BYTES,
};

/// Distance from one flow's rings to the next one's.
const RINGS_BYTES: usize = TCP_RX_RING_BYTES + TCP_TX_RING_BYTES + 2 * TCP_RING_STAGGER_BYTES;
/// Distance from a flow's receive ring to its transmit ring.
const TX_RING_AT: usize = TCP_RX_RING_BYTES + TCP_RING_STAGGER_BYTES;
/// Bytes of a ring that are prefetched: of the arrived data, and of the room for a reply.
const RX_AHEAD_BYTES: usize = 256;
const TX_AHEAD_BYTES: usize = 192;

/// The state of a flow, as far as the handler is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Unused.
    Free,
    /// A SYN arrived; the handshake is not complete.
    HalfOpen,
    /// We sent a SYN, or wait for the next hop's address to do so.
    Connecting,
    /// The handler was called with it.
    Open,
    /// The handler closed it; the peer has not, or not everything was sent yet.
    Closing,
    /// Over the limit: it gets the refusal, and the handler is never called.
    Refused,
}

/// One connection.
pub(super) struct Flow<C> {
    pub set: SocketSet<'static>,
    pub key: FlowKey,
    pub hash: u32,
    pub generation: u32,
    /// Sequence number of the first byte in the receive ring.
    pub first_seq: u32,
    /// Sequence number of the peer's next byte that has not arrived in order.
    pub expected: u32,
    /// Sequence number after everything that we ever sent: SND.MAX.
    pub next_seq: u32,
    /// The acknowledgement number of the newest segment.
    pub ack: u32,
    /// The peer's acknowledgements.
    pub acks: Acks,
    pub phase: Phase,
    /// There is something to pass to the handler.
    pub is_stirred: bool,
    /// The number of the listener that it was accepted on.
    pub listener: u8,
    /// The path of its packets, see `path`; 0 for the device's MTU.
    pub path: u8,
    /// The destination MAC of our frames.
    pub next_hop: [u8; 6],
    /// When smoltcp must next be polled.
    pub deadline_us: u64,
    /// When the wheel next wakes this flow; never later than the deadline.
    pub armed_us: u64,
    /// When the last segment arrived.
    pub received_us: u64,
    /// When the phase began.
    pub since_us: u64,
    /// For challenges.
    pub allowance: Allowance,
    pub connection: Option<C>,
}

/// The only socket of a one-socket set.
pub(super) fn handle() -> SocketHandle {
    SocketHandle::default()
}

impl<C> Flow<C> {
    #[inline(always)]
    pub fn socket(&mut self) -> &mut Socket<'static> {
        self.set.get_mut(handle())
    }

    /// Resets the socket to a new state.
    pub fn renew(&mut self) {
        let socket = self.socket();
        socket.abort();
        socket.set_congestion_control(CongestionControl::Cubic);
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(Some(stack_duration(TCP_ACK_DELAY_US)));
        socket.set_keep_alive(Some(stack_duration(TCP_KEEP_ALIVE_US)));
        socket.set_timeout(Some(stack_duration(TCP_PEER_TIMEOUT_US)));
    }
}

/// A duration of real time in smoltcp's time.
pub(super) fn stack_duration(wall_us: u64) -> Duration {
    Duration::from_micros(wall_us * TCP_CLOCK_RATE)
}

/// All flows of a stack, by index.
pub(super) struct Slab<C> {
    pub flows: HugeVec<Flow<C>>,
    free: Vec<u32>,
    /// Memory for sockets that were not built yet.
    sockets: &'static mut [MaybeUninit<SocketStorage<'static>>],
    /// Address of the first socket.
    sockets_at: usize,
    /// The unused part of the newest mapping of rings.
    rings: &'static mut [u8],
    /// Start of each mapping of rings.
    rings_at: Vec<usize>,
}

impl<C> Slab<C> {
    /// Room for `capacity` flows.
    ///
    /// # Errors
    /// If the kernel does not have that much address space.
    pub fn with_capacity(capacity: usize) -> io::Result<Slab<C>> {
        let sockets = huge_slots_forever(capacity)?;
        Ok(Slab {
            flows: HugeVec::with_capacity(capacity)?,
            free: Vec::with_capacity(capacity),
            sockets_at: sockets.as_ptr() as usize,
            sockets,
            rings: &mut [],
            rings_at: Vec::with_capacity(capacity.div_ceil(TCP_RING_SLAB)),
        })
    }

    /// A free flow, or None if all are in use or there is no memory for another.
    pub fn claim(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| self.build())
    }

    /// Releases `index`, whose flow is free again.
    pub fn give_back(&mut self, index: u32) {
        self.free.push(index);
    }

    fn build(&mut self) -> Option<u32> {
        if self.sockets.is_empty() {
            return None;
        }
        if self.rings.len() < RINGS_BYTES {
            let slab = TCP_RING_SLAB.min(self.sockets.len());
            self.rings = map_huge_forever(slab * RINGS_BYTES).ok()?;
            self.rings_at.push(self.rings.as_ptr() as usize);
        }
        let (rings, rest) = std::mem::take(&mut self.rings).split_at_mut(RINGS_BYTES);
        self.rings = rest;
        let (rx, tx) = rings.split_at_mut(TX_RING_AT);
        let rx = SocketBuffer::new(&mut rx[..TCP_RX_RING_BYTES]);
        let tx = SocketBuffer::new(&mut tx[..TCP_TX_RING_BYTES]);

        let (place, rest) = std::mem::take(&mut self.sockets).split_first_mut()?;
        self.sockets = rest;
        let storage = place.write(SocketStorage::EMPTY);
        let mut set = SocketSet::new(std::slice::from_mut(storage));
        assert_eq!(set.add(Socket::new(rx, tx)), handle());

        let index = self.flows.len() as u32;
        self.flows.push(Flow {
            set,
            key: FlowKey::default(),
            hash: 0,
            generation: 0,
            first_seq: 0,
            expected: 0,
            next_seq: 0,
            ack: 0,
            acks: Acks::default(),
            phase: Phase::Free,
            is_stirred: false,
            listener: 0,
            path: 0,
            next_hop: [0; 6],
            deadline_us: u64::MAX,
            armed_us: u64::MAX,
            received_us: 0,
            since_us: 0,
            allowance: Allowance::default(),
            connection: None,
        });
        Some(index)
    }

    /// Prefetches the flow, without its socket. Any `index` is valid.
    #[inline(always)]
    pub fn prefetch_flow(&self, index: u32) {
        let at = self.flows.address(index as usize);
        // The rest belongs to a large `C`, which prefetches parts of it itself.
        prefetch_range::<256>(at);
    }

    /// Prefetches the flow and its socket. Any `index` is valid.
    #[inline(always)]
    pub fn prefetch(&self, index: u32) {
        self.prefetch_flow(index);
        let at = self.sockets_at.wrapping_add(index as usize * SOCKET_BYTES);
        prefetch_range::<SOCKET_BYTES>(at);
    }

    /// Start of the rings of flow `index`, if it was built.
    #[inline(always)]
    fn rings(&self, index: usize) -> Option<usize> {
        let slab = self.rings_at.get(index / TCP_RING_SLAB)?;
        Some(slab + index % TCP_RING_SLAB * RINGS_BYTES)
    }

    /// Prefetches the start of the transmit ring, where a reply is written when nothing else is
    /// unacknowledged. Any `index` is valid.
    #[inline(always)]
    pub fn prefetch_tx_ring(&self, index: u32) {
        if let Some(rings) = self.rings(index as usize) {
            prefetch_range::<TX_AHEAD_BYTES>(rings + TX_RING_AT);
        }
    }

    /// Prefetches the position in the receive ring of a segment of `bytes` bytes with sequence
    /// number `seq`, if that pays off. Any `index` is valid.
    #[inline(always)]
    pub fn prefetch_rx_ring(&self, index: u32, seq: u32, bytes: usize) {
        let index = index as usize;
        let (Some(flow), Some(rings)) = (self.flows.get(index), self.rings(index)) else { return };
        let offset = seq.wrapping_sub(flow.first_seq) as usize % TCP_RX_RING_BYTES;
        let start = rings + offset;
        let end = start + bytes.min(RX_AHEAD_BYTES);
        (start & !63..end).step_by(64).for_each(prefetch_range::<1>);
    }
}

const SOCKET_BYTES: usize = size_of::<SocketStorage<'static>>();

/// Memory of a connection besides the rings and the handler's state.
const STATE_BYTES: usize = size_of::<Flow<()>>() + SOCKET_BYTES + 64;
const _: () = assert!(RINGS_BYTES + STATE_BYTES <= 35 * 1024);
