//! Increment and Decrement and their quiet variants. (Delete has only a key.)

use super::header::Reply;
use super::{Form, Packet, opcode};
use crate::base::clock::Now;
use crate::orchestrator::Action;
use crate::protocol::{Command, Sink};
use crate::tier::Arithmetic;

/// The exptime that requests a miss instead of a new item (protocol-binary.txt, "Increment").
const EXPTIME_NO_ITEM: u32 = 0xffff_ffff;

/// Extras: delta, initial value, exptime of a new item with that value.
pub(super) fn parse_arithmetic<'a>(packet: &Packet<'a>, now: Now) -> Command<'a> {
    let initial = match packet.extra_32(16) {
        EXPTIME_NO_ITEM => None,
        _ => Some((packet.extra_64(8), packet.expiry(16, now))),
    };
    let decrement = matches!(packet.header.opcode, opcode::DECREMENT | opcode::DECREMENTQ);
    let cas = packet.header.cas;
    let delta = packet.extra_64(0);
    packet.operation(Action::Arithmetic(Arithmetic { decrement, delta, initial, cas }))
}

/// The new number in eight bytes, or no reply.
pub(super) fn encode_number(form: Form, value: u64, cas: u64, head: &mut impl Sink) {
    let Form { opcode, opaque } = form;
    if matches!(opcode, opcode::INCREMENTQ | opcode::DECREMENTQ) {
        return;
    }
    head.put(&Reply { opcode, opaque, cas, body_bytes: 8, ..Reply::default() }.bytes());
    head.put(&value.to_be_bytes());
}
