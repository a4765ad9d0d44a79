//! Quit, Flush, Noop, Version, Stat, and the list of SASL mechanisms, which is empty.

use super::header::{Reply, Status};
use super::{Packet, answer, opcode};
use crate::base::clock::Now;
use crate::orchestrator::Action;
use crate::protocol::{Command, Control, Fixed, Limits, flush_at};

pub(super) fn parse<'a>(packet: &Packet<'a>, limits: &Limits, now: Now) -> Command<'a> {
    let header = &packet.header;
    match header.opcode {
        opcode::NOOP => control(packet, Control::Noop),
        opcode::VERSION => control(packet, Control::Version),
        opcode::STAT => control(packet, Control::Stats(packet.key)),
        opcode::QUIT => Command::Quit { reply: done(packet) },
        opcode::QUITQ => Command::Quit { reply: Fixed::NONE },
        opcode::FLUSH | opcode::FLUSHQ if !limits.flush => answer(header, Status::Auth, 0),
        opcode::FLUSH | opcode::FLUSHQ => {
            let exptime = if packet.extras.is_empty() { 0 } else { packet.extra_32(0) };
            match flush_at(exptime.into(), now) {
                Some(at) => packet.operation(Action::FlushAll { at }),
                None => {
                    let is_quiet = header.opcode == opcode::FLUSHQ;
                    let reply = if is_quiet { Fixed::NONE } else { done(packet) };
                    Command::Bad { reply, skip_bytes: 0, close: false }
                }
            }
        }
        _ => answer(header, Status::Unknown, 0),
    }
}

/// A response header that reports success.
fn done(packet: &Packet<'_>) -> Fixed {
    let opcode = packet.header.opcode;
    let opaque = packet.header.opaque;
    Fixed::new(&Reply { opcode, opaque, ..Reply::default() }.bytes())
}

fn control<'a>(packet: &Packet<'a>, control: Control<'a>) -> Command<'a> {
    Command::Control { control, form: packet.form() }
}
