//! What the stack needs from something that moves frames: a queue pair of a device, or a test's
//! wire.
//!
//! Frames go in bursts; a frame is an owned value that returns to its pool when dropped. Nothing
//! here waits: what a device does not take stays queued, bounded, with the port.

use arrayvec::ArrayVec;

use crate::base::limits::BURST_FRAMES;
#[cfg(doc)]
use crate::base::limits::TCP_MTU_MAX_BYTES;

/// What a device says of a received frame's checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RxChecksum {
    /// It verified IP header and TCP checksum, and both are right.
    Good,
    /// It found one of them wrong.
    Bad,
    /// It did not look: software has to.
    Unknown,
}

/// What a device shall fill in before it sends a frame. Lengths in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxOffload {
    /// IPv4 (whose header checksum is wanted too) or IPv6.
    pub is_ipv4: bool,
    /// Length of the IP header.
    pub ip_header_bytes: u16,
}

/// One Ethernet frame in memory that a device can reach.
pub trait Frame {
    /// The frame, from the destination address on, without FCS.
    fn bytes(&self) -> &[u8];

    /// The frame, writable.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Sets the length to `bytes`; what is gained has any content.
    ///
    /// # Panics
    /// If `bytes` is more than [`Frame::capacity_bytes`].
    fn set_len(&mut self, bytes: usize);

    /// Most bytes the frame can have.
    fn capacity_bytes(&self) -> usize;

    /// What the device said of its checksums.
    fn rx_checksum(&self) -> RxChecksum;

    /// Asks the device to compute the checksums. The TCP checksum field holds the sum of the
    /// pseudo-header then, the IPv4 header's is zero. Only if [`Capabilities::tx_checksum`].
    fn set_tx_offload(&mut self, offload: TxOffload);
}

/// What a port can do.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// The device's own address.
    pub mac: [u8; 6],
    /// Longest IP packet that the device takes at first, in bytes.
    pub mtu_bytes: usize,
    /// The device computes IPv4 header and TCP checksums.
    pub tx_checksum: bool,
}

/// A queue pair: where one worker's frames come from and go to.
pub trait Port {
    /// What it moves.
    type Frame: Frame;

    /// What it can do; constant.
    fn capabilities(&self) -> Capabilities;

    /// Adds received frames to `burst`, up to its capacity. Bounded, never waits.
    fn receive(&mut self, burst: &mut ArrayVec<Self::Frame, BURST_FRAMES>);

    /// An empty frame that an IP packet of [`TCP_MTU_MAX_BYTES`], or of [`Capabilities::mtu_bytes`]
    /// if that is more, and its Ethernet header fit into, or None if the pool has none left.
    fn allocate(&mut self) -> Option<Self::Frame>;

    /// Takes back a received frame that is done with: the next one allocated may be it.
    #[inline]
    fn recycle(&mut self, frame: Self::Frame) {
        drop(frame);
    }

    /// Queues a frame for [`Port::flush`].
    ///
    /// # Errors
    /// The frame, if the queue is full: the device takes less than is sent. It counts as lost.
    fn send(&mut self, frame: Self::Frame) -> Result<(), Self::Frame>;

    /// Offers all queued frames to the device once. What it does not take stays queued. To be
    /// called every turn: a port may carry other workers' frames too.
    fn flush(&mut self);

    /// Frames moved for other workers since the last call: work of this turn that no frame in a
    /// burst shows.
    fn take_forwarded(&mut self) -> usize {
        0
    }
}
