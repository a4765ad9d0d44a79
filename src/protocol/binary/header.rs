//! The 24 bytes at the start of every binary packet (memcached's doc/protocol-binary.txt, "Packet
//! structure").
//!
//! Lengths come from the peer: nothing here may assume that they agree with one another.

use crate::protocol::{Fixed, Sink};

/// Length of a header, in bytes.
pub(super) const HEADER_BYTES: usize = 24;

/// First byte of a request.
pub const MAGIC_REQUEST: u8 = 0x80;

/// First byte of a response.
pub const MAGIC_RESPONSE: u8 = 0x81;

/// A request's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub magic: u8,
    pub opcode: u8,
    pub key_bytes: usize,
    pub extras_bytes: usize,
    /// Extras, key and value together.
    pub body_bytes: usize,
    /// Chosen by the client; returned unchanged.
    pub opaque: u32,
    pub cas: u64,
}

impl Header {
    /// Reads the header at the start of `input`; None if it is incomplete. The data type and the
    /// vbucket are ignored, as in memcached.
    #[inline]
    pub(super) fn read(input: &[u8]) -> Option<Header> {
        let bytes: &[u8; HEADER_BYTES] = input.first_chunk()?;
        let [magic, opcode, k0, k1, extras, _, _, _, b0, b1, b2, b3, o0, o1, o2, o3, cas @ ..] =
            *bytes;
        Some(Header {
            magic,
            opcode,
            key_bytes: u16::from_be_bytes([k0, k1]).into(),
            extras_bytes: extras.into(),
            body_bytes: u32::from_be_bytes([b0, b1, b2, b3]) as usize,
            opaque: u32::from_be_bytes([o0, o1, o2, o3]),
            cas: u64::from_be_bytes(cas),
        })
    }
}

/// A response's header.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reply {
    pub opcode: u8,
    pub key_bytes: usize,
    pub extras_bytes: usize,
    pub status: u16,
    /// Extras, key and value together. Values are shorter than 2^32 bytes by their own limit.
    pub body_bytes: usize,
    pub opaque: u32,
    pub cas: u64,
}

impl Reply {
    /// The header's bytes.
    #[inline]
    pub(super) fn bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = MAGIC_RESPONSE;
        bytes[1] = self.opcode;
        bytes[2..4].copy_from_slice(&(self.key_bytes as u16).to_be_bytes());
        bytes[4] = self.extras_bytes as u8;
        bytes[6..8].copy_from_slice(&self.status.to_be_bytes());
        bytes[8..12].copy_from_slice(&(self.body_bytes as u32).to_be_bytes());
        bytes[12..16].copy_from_slice(&self.opaque.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.cas.to_be_bytes());
        bytes
    }
}

/// Status of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Status {
    NotFound = 0x01,
    Exists = 0x02,
    TooLarge = 0x03,
    Invalid = 0x04,
    NotStored = 0x05,
    NonNumeric = 0x06,
    Auth = 0x20,
    Unknown = 0x81,
    OutOfMemory = 0x82,
    Internal = 0x84,
    Busy = 0x85,
}

impl Status {
    /// The text that memcached sends with it.
    pub(super) const fn text(self) -> &'static [u8] {
        match self {
            Status::NotFound => b"Not found",
            Status::Exists => b"Data exists for key.",
            Status::TooLarge => b"Too large.",
            Status::Invalid => b"Invalid arguments",
            Status::NotStored => b"Not stored.",
            Status::NonNumeric => b"Non-numeric server-side value for incr or decr",
            Status::Auth => b"Auth failure.",
            Status::Unknown => b"Unknown command",
            Status::OutOfMemory => b"Out of memory",
            Status::Internal => b"Internal error",
            Status::Busy => b"Temporarily overloaded",
        }
    }

    fn reply(self, opcode: u8, opaque: u32) -> Reply {
        let body_bytes = self.text().len();
        Reply { opcode, opaque, status: self as u16, body_bytes, ..Reply::default() }
    }

    /// The complete error packet for a request with an invalid header.
    pub(super) fn fixed(self, header: &Header) -> Fixed {
        self.fixed_for(header.opcode, header.opaque)
    }

    /// The same for a request of this kind.
    pub(super) fn fixed_for(self, opcode: u8, opaque: u32) -> Fixed {
        self.fixed_with(self.text(), opcode, opaque)
    }

    /// The same with another text.
    pub(super) fn fixed_with(self, text: &[u8], opcode: u8, opaque: u32) -> Fixed {
        let mut bytes = [0; Fixed::BYTES_MAX];
        let packet_bytes = HEADER_BYTES + text.len();
        let reply = Reply { body_bytes: text.len(), ..self.reply(opcode, opaque) };
        bytes[..HEADER_BYTES].copy_from_slice(&reply.bytes());
        bytes[HEADER_BYTES..packet_bytes].copy_from_slice(text);
        Fixed::new(&bytes[..packet_bytes])
    }

    /// The complete error packet for the outcome of an operation.
    pub(super) fn push(self, opcode: u8, opaque: u32, head: &mut impl Sink) {
        head.put(&self.reply(opcode, opaque).bytes());
        head.put(self.text());
    }
}
