//! SASL's packets before a client has logged in (memcached's doc/protocol-binary.txt, "SASL").
//!
//! Only PLAIN is known. Until it has succeeded every other opcode but the version and the list of
//! mechanisms ends the connection, as in memcached with `-S`.

use super::header::{HEADER_BYTES, Header, MAGIC_REQUEST, Reply, Status};
use super::opcode;
use crate::base::limits::KEY_BYTES_MAX;
use crate::protocol::{Fixed, VERSION};

const MECHANISM: &[u8] = b"PLAIN";

/// A packet of a client that has not logged in.
#[derive(Debug)]
#[allow(missing_docs, reason = "each variant's text names its fields")]
pub enum LoginPacket<'a> {
    /// PLAIN's message.
    Plain { message: &'a [u8], opaque: u32, consumed: usize },
    /// Anything else: answered, and then the connection is closed if `close`.
    Other { reply: Fixed, consumed: usize, close: bool },
}

/// Parses the packet at the start of `input`; None if it is incomplete. One with a body longer than
/// `body_bytes_max` is refused.
pub fn parse_login(input: &[u8], body_bytes_max: usize) -> Option<LoginPacket<'_>> {
    let header = Header::read(input)?;
    let Header { opcode, opaque, key_bytes, extras_bytes, body_bytes, .. } = header;
    if header.magic != MAGIC_REQUEST {
        let reply = Fixed::NONE;
        return Some(LoginPacket::Other { reply, consumed: HEADER_BYTES, close: true });
    }
    let refused = Status::Auth.fixed(&header);
    let is_known = matches!(
        opcode,
        opcode::SASL_LIST_MECHS | opcode::SASL_AUTH | opcode::SASL_STEP | opcode::VERSION
    );
    let is_sound = extras_bytes == 0
        && key_bytes <= body_bytes.min(KEY_BYTES_MAX)
        && body_bytes <= body_bytes_max;
    if !is_known || !is_sound {
        return Some(LoginPacket::Other { reply: refused, consumed: HEADER_BYTES, close: true });
    }
    let consumed = HEADER_BYTES + body_bytes;
    let (key, message) = input.get(HEADER_BYTES..consumed)?.split_at(key_bytes);
    let other = |reply| LoginPacket::Other { reply, consumed, close: false };
    Some(match opcode {
        opcode::SASL_LIST_MECHS => other(done(opcode, opaque, MECHANISM)),
        opcode::VERSION => other(done(opcode, opaque, VERSION.as_bytes())),
        opcode::SASL_AUTH if key == MECHANISM => LoginPacket::Plain { message, opaque, consumed },
        // PLAIN has no second step.
        _ => other(refused),
    })
}

/// The reply to PLAIN with the right password.
pub fn login_admitted(opaque: u32) -> Fixed {
    done(opcode::SASL_AUTH, opaque, b"Authenticated")
}

/// The reply to PLAIN with a wrong name or password.
pub fn login_refused(opaque: u32) -> Fixed {
    Status::Auth.fixed_for(opcode::SASL_AUTH, opaque)
}

/// A packet that reports success.
fn done(opcode: u8, opaque: u32, body: &[u8]) -> Fixed {
    let header = Reply { opcode, opaque, body_bytes: body.len(), ..Reply::default() }.bytes();
    let mut bytes = [0; Fixed::BYTES_MAX];
    bytes[..HEADER_BYTES].copy_from_slice(&header);
    bytes[HEADER_BYTES..][..body.len()].copy_from_slice(body);
    Fixed::new(&bytes[..HEADER_BYTES + body.len()])
}
