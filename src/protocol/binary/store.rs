//! Set, Add, Replace, Append, Prepend and their quiet variants.
//!
//! Only header, extras and key are read here; the value follows as a body, or is discarded.

use super::header::{Reply, Status};
use super::{Form, Packet, answer, opcode};
use crate::base::clock::{Expiry, Now};
use crate::orchestrator::Action;
use crate::protocol::{Command, Limits, Request, Sink};
use crate::tier::{Store, StoreMode};

/// Extras: flags and exptime.
#[inline]
pub(super) fn parse<'a>(packet: &Packet<'a>, limits: &Limits, now: Now) -> Command<'a> {
    let flags = packet.extra_32(0);
    let expiry = packet.expiry(4, now);
    let cas = packet.header.cas;
    let mode = match packet.header.opcode {
        // With a cas, add and replace are executed as set with a cas (memcached,
        // process_bin_update).
        _ if cas != 0 => StoreMode::Set,
        opcode::ADD | opcode::ADDQ => StoreMode::Add,
        opcode::REPLACE | opcode::REPLACEQ => StoreMode::Replace,
        _ => StoreMode::Set,
    };
    follow(packet, limits, Store { mode, flags, expiry, cas })
}

/// No extras: the item keeps its own.
pub(super) fn parse_append<'a>(packet: &Packet<'a>, limits: &Limits) -> Command<'a> {
    let mode = match packet.header.opcode {
        opcode::APPEND | opcode::APPENDQ => StoreMode::Append,
        _ => StoreMode::Prepend,
    };
    let cas = packet.header.cas;
    follow(packet, limits, Store { mode, flags: 0, expiry: Expiry::NEVER, cas })
}

#[inline]
fn follow<'a>(packet: &Packet<'a>, limits: &Limits, store: Store) -> Command<'a> {
    let value_bytes = packet.value_bytes();
    let fits = limits.fits(packet.key.len(), store.flags, value_bytes);
    let action = match (fits, packet.header.opcode) {
        (true, _) => Action::Store(store),
        (false, opcode::SET | opcode::SETQ) => Action::StoreTooLarge,
        (false, _) => return answer(&packet.header, Status::TooLarge, value_bytes),
    };
    let request = Request { key: packet.key, action, form: packet.form() };
    match fits {
        true => Command::Store { request, value_bytes, is_text: false },
        false => Command::Operation { request, skip_bytes: value_bytes },
    }
}

/// Stored: the new cas, or no reply.
#[inline]
pub(super) fn encode_stored(form: Form, cas: u64, head: &mut impl Sink) {
    let Form { opcode, opaque } = form;
    let is_quiet = matches!(
        opcode,
        opcode::SETQ | opcode::ADDQ | opcode::REPLACEQ | opcode::APPENDQ | opcode::PREPENDQ
    );
    if !is_quiet {
        head.put(&Reply { opcode, opaque, cas, ..Reply::default() }.bytes());
    }
}

/// How memcached encodes "not stored": by the reason.
pub(super) fn not_stored_status(opcode: u8) -> Status {
    match opcode {
        opcode::ADD | opcode::ADDQ => Status::Exists,
        opcode::REPLACE | opcode::REPLACEQ => Status::NotFound,
        _ => Status::NotStored,
    }
}
