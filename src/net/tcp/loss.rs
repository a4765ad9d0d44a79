//! Losses reported by the peer's selective acknowledgements.
//!
//! smoltcp retransmits a segment immediately after three duplicate acknowledgements, and considers
//! one a duplicate only if its window equals that of the previous acknowledgement. Linux changes
//! its window while it holds segments out of order, sends three such acknowledgements and then
//! merges the others: counted smoltcp's way there are seldom three, and many losses waited for the
//! retransmission time-out. Therefore RFC 6675's count is translated for smoltcp here: the window
//! as it was, and as many duplicates as the SACK blocks justify.
//!
//! Nothing here decides what is sent, and a lying peer only makes us retransmit what it requested.

use super::headers::{IPV4_BYTES, IPV6_BYTES, TCP_BYTES, be32, flag};
use super::segment::Segment;

/// Duplicates that request a retransmission (RFC 5681, 3.2; RFC 6675's DupThresh).
const DUPLICATES: u8 = 3;

/// Longest packet that [`Acks::count`] rewrites: headers with the maximum of options.
pub(super) const PURE_ACK_BYTES_MAX: usize = IPV6_BYTES + 60;

/// The newest acknowledgement of a peer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Acks {
    ack: u32,
    window: u16,
    /// How often smoltcp has received it after the first time.
    duplicates: u8,
}

/// How an acknowledgement is passed to smoltcp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retold {
    /// With this window.
    pub window: u16,
    /// This many times.
    pub times: u8,
}

impl Acks {
    /// The peer's first one, of our SYN.
    pub fn starting(ack: u32, window: u16) -> Acks {
        Acks { ack, window, duplicates: 0 }
    }

    /// The number of the first byte that the peer has not acknowledged.
    pub fn newest(&self) -> u32 {
        self.ack
    }

    /// Checks a segment in the receive window, in its `packet`; `segment_bytes` is the maximum
    /// payload of one segment of ours. Returns how to pass it to smoltcp, if not unchanged.
    #[inline(always)]
    pub fn count(
        &mut self,
        segment: &Segment,
        packet: &[u8],
        segment_bytes: usize,
    ) -> Option<Retold> {
        let Segment { ack, window, .. } = *segment;
        let is_pure =
            segment.payload_bytes == 0 && segment.flags & (flag::SYN | flag::FIN | flag::RST) == 0;
        if is_pure && segment.has(flag::ACK) {
            let tcp = &packet[if segment.key.is_v4() { IPV4_BYTES } else { IPV6_BYTES }..];
            if tcp.len() > TCP_BYTES {
                return self.count_pure(ack, window, tcp, segment_bytes);
            }
        }
        *self = Acks { ack, window, duplicates: 0 };
        None
    }

    #[inline(never)]
    fn count_pure(
        &mut self,
        ack: u32,
        window: u16,
        tcp: &[u8],
        segment_bytes: usize,
    ) -> Option<Retold> {
        let sacked_bytes = sacked_bytes(&tcp[TCP_BYTES..], ack);
        let is_fresh = ack != self.ack;
        // A closed window is not a loss, and smoltcp has to see it.
        if sacked_bytes == 0 || window == 0 || (self.window == 0 && !is_fresh) {
            *self = Acks { ack, window, duplicates: 0 };
            return None;
        }
        if is_fresh {
            *self = Acks { ack, window, duplicates: 0 };
        }
        let already = self.duplicates;
        self.duplicates = already.saturating_add(u8::from(!is_fresh));
        // RFC 6675, 4, IsLost: that many bytes beyond it have arrived.
        if sacked_bytes > usize::from(DUPLICATES - 1) * segment_bytes {
            self.duplicates = self.duplicates.max(DUPLICATES);
        }
        let times = (self.duplicates - already).max(1) + u8::from(is_fresh && self.duplicates > 0);
        Some(Retold { window: self.window, times })
    }
}

/// Bytes beyond `ack` that the SACK blocks in `options` report as arrived, if plausible: of
/// well-formed options that [`super::segment::parse`] has accepted.
fn sacked_bytes(mut options: &[u8], ack: u32) -> usize {
    while let [kind, rest @ ..] = options {
        match (kind, rest) {
            (0, _) => break,
            (1, _) => options = rest,
            (5, [length, blocks @ ..]) => {
                let blocks = &blocks[..usize::from(*length) - 2];
                return blocks.chunks_exact(8).map(|block| block_bytes(block, ack)).sum();
            }
            (_, [length, ..]) => options = &options[usize::from(*length)..],
            (_, []) => break,
        }
    }
    0
}

/// The bytes reported by one block; 0 if it reports a duplicate (RFC 2883) or is implausible.
fn block_bytes(block: &[u8], ack: u32) -> usize {
    let (left, right) = (be32(block, 0), be32(block, 4));
    let is_beyond = left.wrapping_sub(ack) as i32 > 0 && right.wrapping_sub(left) as i32 > 0;
    if is_beyond { right.wrapping_sub(left) as usize } else { 0 }
}

/// Copies `packet`, an acknowledgement without data, with another window to `out`; returns it. Its
/// checksum is wrong afterwards, but is not verified any more.
pub(super) fn with_window<'o>(
    packet: &[u8],
    is_v4: bool,
    window: u16,
    out: &'o mut [u8; PURE_ACK_BYTES_MAX],
) -> &'o [u8] {
    let out = &mut out[..packet.len()];
    out.copy_from_slice(packet);
    let at = if is_v4 { IPV4_BYTES } else { IPV6_BYTES } + 14;
    out[at..at + 2].copy_from_slice(&window.to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tcp::flows::FlowKey;

    const MSS: usize = 1460;

    /// The peer acknowledges `ack` with `window` and SACK blocks; what is passed to smoltcp.
    fn count(acks: &mut Acks, ack: u32, window: u16, blocks: &[(u32, u32)]) -> Option<Retold> {
        let mut tcp = vec![0; TCP_BYTES];
        tcp[14..16].copy_from_slice(&window.to_be_bytes());
        if !blocks.is_empty() {
            tcp.extend([1, 1, 5, 2 + 8 * blocks.len() as u8]);
            for (left, right) in blocks {
                tcp.extend(left.to_be_bytes());
                tcp.extend(right.to_be_bytes());
            }
        }
        let packet = [vec![0; IPV4_BYTES], tcp].concat();
        let key = FlowKey::v4(1, 2, 3);
        let ip_bytes = packet.len() as u16;
        let (flags, payload_bytes) = (flag::ACK, 0);
        let segment = Segment { key, seq: 0, ack, flags, window, ip_bytes, payload_bytes };
        acks.count(&segment, &packet, MSS)
    }

    #[test]
    fn three_duplicates_count_although_their_windows_differ() {
        let mut acks = Acks::default();
        assert_eq!(count(&mut acks, 1000, 63, &[]), None);
        let told = |window, times| Some(Retold { window, times });
        assert_eq!(count(&mut acks, 1000, 62, &[(1100, 1200)]), told(63, 1));
        assert_eq!(count(&mut acks, 1000, 61, &[(1100, 1300)]), told(63, 1));
        assert_eq!(count(&mut acks, 1000, 70, &[(1100, 1400)]), told(63, 1));
        assert_eq!(acks.duplicates, 3);
        // The next acknowledgement has its own window.
        assert_eq!(count(&mut acks, 1400, 70, &[]), None);
        assert_eq!((acks.window, acks.duplicates), (70, 0));
    }

    #[test]
    fn one_acknowledgement_for_many_segments_counts_as_three() {
        let mut acks = Acks::default();
        count(&mut acks, 1000, 63, &[]);
        let blocks = [(6000, 9000), (3000, 4000)];
        assert_eq!(count(&mut acks, 1000, 63, &blocks), Some(Retold { window: 63, times: 3 }));
        assert_eq!(count(&mut acks, 1000, 63, &blocks), Some(Retold { window: 63, times: 1 }));
        // One with new information, and of a second hole: once unchanged, and three more times.
        assert_eq!(count(&mut acks, 2000, 64, &blocks), Some(Retold { window: 64, times: 4 }));
    }

    #[test]
    fn duplicates_and_implausible_blocks_do_not_count() {
        let mut acks = Acks::default();
        count(&mut acks, 10_000, 63, &[]);
        for blocks in [[(1000, 9000)], [(10_000, 9000)], [(30_000, 20_000)], [(10_000, 50_000)]] {
            assert_eq!(count(&mut acks, 10_000, 63, &blocks), None, "{blocks:?}");
        }
        assert_eq!(count(&mut acks, 10_000, 0, &[(20_000, 30_000)]), None, "a closed window");
        assert_eq!(count(&mut acks, 10_000, 63, &[(20_000, 30_000)]), None, "it opens");
    }
}
