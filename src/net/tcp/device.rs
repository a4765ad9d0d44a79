//! The interface to a device that moves frames: a queue pair, or a simulated wire in tests.
//!
//! Frames move in bursts; a frame is an owned value that returns to its pool when dropped. Nothing
//! here waits: frames that a device does not accept stay in the port's bounded queue.

use arrayvec::ArrayVec;

use crate::base::limits::BURST_FRAMES;
#[cfg(doc)]
use crate::base::limits::TCP_MTU_MAX_BYTES;

/// The device's verdict on a received frame's checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RxChecksum {
    /// It verified IP header and TCP checksum, and both are right.
    Good,
    /// It found one of them wrong.
    Bad,
    /// It did not check: software must.
    Unknown,
}

/// The fields that a device must fill in before it sends a frame. Lengths in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxOffload {
    /// IPv4 (which also needs a header checksum) or IPv6.
    pub is_ipv4: bool,
    /// Length of the IP header.
    pub ip_header_bytes: u16,
}

/// One Ethernet frame in memory that a device can access.
pub trait Frame {
    /// The frame, from the destination address on, without FCS.
    fn bytes(&self) -> &[u8];

    /// The frame, writable.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Sets the length to `bytes`; added bytes have any content.
    ///
    /// # Panics
    /// If `bytes` is more than [`Frame::capacity_bytes`].
    fn set_len(&mut self, bytes: usize);

    /// Most bytes the frame can have.
    fn capacity_bytes(&self) -> usize;

    /// The device's verdict on its checksums.
    fn rx_checksum(&self) -> RxChecksum;

    /// Requests that the device computes the checksums. The TCP checksum field then holds the sum
    /// of the pseudo-header, the IPv4 header's is zero. Only if [`Capabilities::tx_checksum`].
    fn set_tx_offload(&mut self, offload: TxOffload);
}

/// The capabilities of a port.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// The device's own address.
    pub mac: [u8; 6],
    /// Longest IP packet that the device accepts initially, in bytes.
    pub mtu_bytes: usize,
    /// The device computes IPv4 header and TCP checksums.
    pub tx_checksum: bool,
}

/// A queue pair: one worker's frames are received and sent through it.
pub trait Port {
    /// The type of its frames.
    type Frame: Frame;

    /// Its capabilities; constant.
    fn capabilities(&self) -> Capabilities;

    /// Adds received frames to `burst`, up to its capacity. Bounded, never waits.
    fn receive(&mut self, burst: &mut ArrayVec<Self::Frame, BURST_FRAMES>);

    /// An empty frame that can hold an IP packet of [`TCP_MTU_MAX_BYTES`], or of
    /// [`Capabilities::mtu_bytes`] if that is more, and its Ethernet header. None if the pool has
    /// none left.
    fn allocate(&mut self) -> Option<Self::Frame>;

    /// Returns a received frame that is no longer needed: the next one allocated may be it.
    #[inline]
    fn recycle(&mut self, frame: Self::Frame) {
        drop(frame);
    }

    /// Queues a frame for [`Port::flush`].
    ///
    /// # Errors
    /// The frame, if the queue is full: the device is slower than the sender. It counts as lost.
    fn send(&mut self, frame: Self::Frame) -> Result<(), Self::Frame>;

    /// Offers all queued frames to the device once. Those that it does not accept stay queued. Must
    /// be called every turn: a port may also send other workers' frames.
    fn flush(&mut self);

    /// Frames moved for other workers since the last call: work of this turn that is in no burst.
    fn take_forwarded(&mut self) -> usize {
        0
    }
}
