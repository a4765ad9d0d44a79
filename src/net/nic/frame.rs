//! A frame in a device's memory, as an owned value: when dropped, it returns to its pool.
//!
//! Never exposes the mbuf outside of `nic`.

use std::ptr::NonNull;
use std::slice;

use dpdk_sys as dpdk;

use crate::net::tcp::device::{Frame, RxChecksum, TxOffload};

/// An mbuf of our pool with no other owner, alone in its chain: the shim copies any other.
pub struct NicFrame {
    mbuf: NonNull<dpdk::rte_mbuf>,
    data: NonNull<u8>,
    len: u16,
    capacity: u16,
    rx_checksum: RxChecksum,
    tx_offload: Option<TxOffload>,
}

// SAFETY: the mbuf belongs to this value alone, and a mempool takes objects back from any thread:
// its ring is made for many producers and consumers, and its caches are per thread (rte_mempool.h).
unsafe impl Send for NicFrame {}

impl NicFrame {
    /// Takes over what the shim returned.
    ///
    /// # Safety
    /// `frame` is as `shim_rx_burst` or `shim_alloc` filled it, and is taken over only once. Its
    /// pool outlives the value: no pool is ever freed ([`super::ethdev::Device`]).
    pub(super) unsafe fn from_shim(frame: &dpdk::shim_frame) -> NicFrame {
        let (Some(mbuf), Some(data)) = (NonNull::new(frame.mbuf), NonNull::new(frame.data)) else {
            unreachable!("the shim fills both pointers")
        };
        assert!(frame.len <= frame.capacity);
        let mut taken = NicFrame {
            mbuf,
            data,
            len: frame.len,
            capacity: frame.capacity,
            rx_checksum: RxChecksum::Unknown,
            tx_offload: None,
        };
        taken.rx_checksum = rx_checksum(u32::from(frame.flags), taken.bytes());
        taken
    }

    /// Resets the frame for reuse with at least `bytes` bytes; None if it is too short.
    #[inline]
    pub(super) fn renewed(mut self, bytes: usize) -> Option<NicFrame> {
        if self.capacity_bytes() < bytes {
            return None;
        }
        self.len = 0;
        self.rx_checksum = RxChecksum::Unknown;
        self.tx_offload = None;
        Some(self)
    }

    /// Prepares the mbuf for sending and passes it on: to the device, or to [`NicFrame::free`].
    pub(super) fn into_mbuf(self) -> NonNull<dpdk::rte_mbuf> {
        let (flags, ip_header_bytes) = match self.tx_offload {
            None => (0, 0),
            Some(offload) => (tx_flags(offload), offload.ip_header_bytes),
        };
        let mbuf = self.mbuf;
        // SAFETY: the mbuf is this value's; len is at most what its buffer holds.
        unsafe { dpdk::shim_finish(mbuf.as_ptr(), self.len, flags, ip_header_bytes) };
        std::mem::forget(self);
        mbuf
    }

    /// Returns an mbuf from [`NicFrame::into_mbuf`] to its pool.
    ///
    /// # Safety
    /// The device did not take it, and it is not used afterwards.
    pub(super) unsafe fn free(mbuf: NonNull<dpdk::rte_mbuf>) {
        // SAFETY: the caller's promise.
        unsafe { dpdk::shim_free(mbuf.as_ptr()) }
    }
}

impl Drop for NicFrame {
    fn drop(&mut self) {
        // SAFETY: the mbuf is this value's, which ends here; into_mbuf forgets the value.
        unsafe { dpdk::shim_free(self.mbuf.as_ptr()) }
    }
}

impl Frame for NicFrame {
    #[inline]
    fn bytes(&self) -> &[u8] {
        // SAFETY: the shim checked that the buffer holds capacity bytes from data on, and set_len
        // that len is no more. The pool's memory comes zeroed from the kernel.
        unsafe { slice::from_raw_parts(self.data.as_ptr(), usize::from(self.len)) }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in bytes; the mbuf is this value's alone, so that nothing else reads it.
        unsafe { slice::from_raw_parts_mut(self.data.as_ptr(), usize::from(self.len)) }
    }

    #[inline]
    fn set_len(&mut self, bytes: usize) {
        assert!(bytes <= usize::from(self.capacity));
        self.len = bytes as u16;
    }

    #[inline]
    fn capacity_bytes(&self) -> usize {
        usize::from(self.capacity)
    }

    #[inline]
    fn rx_checksum(&self) -> RxChecksum {
        self.rx_checksum
    }

    #[inline]
    fn set_tx_offload(&mut self, offload: TxOffload) {
        self.tx_offload = Some(offload);
    }
}

/// The meaning of a device's flags for one frame. IPv6 has no header checksum, so for it a device
/// reports nothing.
fn rx_checksum(flags: u32, frame: &[u8]) -> RxChecksum {
    let has = |flag| flags & flag != 0;
    if has(dpdk::SHIM_IP_BAD) || has(dpdk::SHIM_L4_BAD) {
        return RxChecksum::Bad;
    }
    let is_ipv6 = frame.get(12..14) == Some(&[0x86, 0xdd]);
    if has(dpdk::SHIM_L4_GOOD) && (has(dpdk::SHIM_IP_GOOD) || is_ipv6) {
        return RxChecksum::Good;
    }
    RxChecksum::Unknown
}

fn tx_flags(offload: TxOffload) -> u64 {
    let ip = match offload.is_ipv4 {
        true => dpdk::SHIM_TX_IPV4 | dpdk::SHIM_TX_IP_CKSUM,
        false => dpdk::SHIM_TX_IPV6,
    };
    ip | dpdk::SHIM_TX_TCP_CKSUM
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_wins_and_good_needs_both() {
        use dpdk::{SHIM_IP_BAD, SHIM_IP_GOOD, SHIM_L4_BAD, SHIM_L4_GOOD, SHIM_RSS_HASH};
        let mut v4 = [0; 64];
        v4[12..14].copy_from_slice(&[0x08, 0x00]);
        let mut v6 = v4;
        v6[12..14].copy_from_slice(&[0x86, 0xdd]);
        for (flags, on_v4, on_v6) in [
            (0, RxChecksum::Unknown, RxChecksum::Unknown),
            (SHIM_RSS_HASH, RxChecksum::Unknown, RxChecksum::Unknown),
            (SHIM_IP_GOOD, RxChecksum::Unknown, RxChecksum::Unknown),
            (SHIM_L4_GOOD, RxChecksum::Unknown, RxChecksum::Good),
            (SHIM_IP_GOOD | SHIM_L4_GOOD, RxChecksum::Good, RxChecksum::Good),
            (SHIM_IP_BAD | SHIM_L4_GOOD, RxChecksum::Bad, RxChecksum::Bad),
            (SHIM_IP_GOOD | SHIM_L4_BAD, RxChecksum::Bad, RxChecksum::Bad),
            (SHIM_L4_BAD, RxChecksum::Bad, RxChecksum::Bad),
        ] {
            assert_eq!(rx_checksum(flags, &v4), on_v4, "{flags:#x}");
            assert_eq!(rx_checksum(flags, &v6), on_v6, "{flags:#x}");
        }
        assert_eq!(rx_checksum(SHIM_L4_GOOD, &[]), RxChecksum::Unknown);
    }

    #[test]
    fn only_ipv4_requests_a_header_checksum() {
        let flags = |is_ipv4| tx_flags(TxOffload { is_ipv4, ip_header_bytes: 20 });
        assert_ne!(flags(true) & dpdk::SHIM_TX_IP_CKSUM, 0);
        assert_eq!(flags(false) & dpdk::SHIM_TX_IP_CKSUM, 0);
        assert_ne!(flags(true) & flags(false) & dpdk::SHIM_TX_TCP_CKSUM, 0);
    }
}
