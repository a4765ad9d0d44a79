//! Get, GetQ, GetK, GetKQ, Touch, GAT, GATQ, GATK, GATKQ and Rend's GETE, GETEQ.

use super::header::{Reply, Status};
use super::{Form, NO_VALUE, Packet, opcode};
use crate::base::clock::Now;
use crate::orchestrator::Action;
use crate::protocol::{Command, Encoded, Sink};
use crate::tier::Hit;

/// The get family, whose replies contain flags and value.
#[inline]
pub(super) fn is_get(opcode: u8) -> bool {
    matches!(
        opcode,
        opcode::GET
            | opcode::GETQ
            | opcode::GETK
            | opcode::GETKQ
            | opcode::GAT
            | opcode::GATQ
            | opcode::GATK
            | opcode::GATKQ
            | opcode::GETE
            | opcode::GETEQ
    )
}

#[inline]
fn is_get_with_expiry(opcode: u8) -> bool {
    matches!(opcode, opcode::GETE | opcode::GETEQ)
}

#[inline]
pub(super) fn parse<'a>(packet: &Packet<'a>) -> Command<'a> {
    match is_get_with_expiry(packet.header.opcode) {
        true => packet.operation(Action::GetWithExpiry),
        false => packet.operation(Action::Get),
    }
}

/// Touch and the get-and-touch family; extras are the exptime. The reply to a touch contains the
/// item's flags, so it is a get-and-touch whose value is not sent.
pub(super) fn parse_touch<'a>(packet: &Packet<'a>, now: Now) -> Command<'a> {
    packet.operation(Action::GetAndTouch { expiry: packet.expiry(0, now) })
}

/// A hit: flags in the extras, for GETE followed by the expiry, then the key if requested.
#[inline(always)]
pub(super) fn encode_hit<V>(
    form: Form,
    key: &[u8],
    hit: &Hit<V>,
    value_bytes: usize,
    head: &mut impl Sink,
) -> Encoded {
    let with_expiry = is_get_with_expiry(form.opcode);
    let key = if form.needs_key() { key } else { b"" };
    let with_value = form.opcode != opcode::TOUCH;
    let value_bytes = if with_value { value_bytes } else { 0 };
    let extras_bytes = if with_expiry { 8 } else { 4 };
    let reply = Reply {
        // Rend answers GETEQ with GETE's opcode.
        opcode: if with_expiry { opcode::GETE } else { form.opcode },
        key_bytes: key.len(),
        extras_bytes,
        status: 0,
        body_bytes: extras_bytes + key.len() + value_bytes,
        opaque: form.opaque,
        cas: hit.cas,
    };
    head.put(&reply.bytes());
    head.put(&hit.flags.to_be_bytes());
    if with_expiry {
        head.put(&hit.expiry.unix_s().to_be_bytes());
    }
    head.put(key);
    Encoded { with_value, ..NO_VALUE }
}

/// A miss: no reply, the key, nothing, or a text.
pub(super) fn encode_miss(form: Form, key: &[u8], head: &mut impl Sink) {
    let Form { opcode, opaque } = form;
    let body = match opcode {
        opcode::GETQ | opcode::GETKQ | opcode::GATQ | opcode::GATKQ | opcode::GETEQ => return,
        opcode::GETK | opcode::GATK => key,
        opcode::GETE => b"",
        _ => return Status::NotFound.push(opcode, opaque, head),
    };
    let reply = Reply {
        opcode,
        opaque,
        key_bytes: body.len(),
        body_bytes: body.len(),
        status: Status::NotFound as u16,
        ..Reply::default()
    };
    head.put(&reply.bytes());
    head.put(body);
}
