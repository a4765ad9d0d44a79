//! Quit, Flush, Noop, Version, Stat, and SASL's list of mechanisms, of which there is none.

use super::header::{Reply, Status};
use super::{Packet, answer, opcode};
use crate::clock::{Expiry, Now};
use crate::orchestrator::Action;
use crate::protocol::{Command, Control, Fixed, Limits};

pub(super) fn parse<'a>(packet: &Packet<'a>, limits: &Limits, now: Now) -> Command<'a> {
    let header = &packet.header;
    match header.opcode {
        opcode::NOOP => control(packet, Control::Noop),
        opcode::VERSION => control(packet, Control::Version),
        opcode::STAT => control(packet, Control::Stats(packet.key)),
        opcode::QUIT => {
            let reply = Reply { opcode: header.opcode, opaque: header.opaque, ..Reply::default() };
            Command::Quit { reply: Fixed::new(&reply.bytes()) }
        }
        opcode::QUITQ => Command::Quit { reply: Fixed::NONE },
        opcode::FLUSH | opcode::FLUSHQ if !limits.flush => answer(header, Status::Auth, 0),
        opcode::FLUSH | opcode::FLUSHQ => {
            let at = match packet.extras {
                [] => Expiry::NEVER,
                _ => packet.expiry(0, now),
            };
            packet.operation(Action::FlushAll { at })
        }
        _ => answer(header, Status::Unknown, 0),
    }
}

fn control<'a>(packet: &Packet<'a>, control: Control<'a>) -> Command<'a> {
    Command::Control { control, form: packet.form() }
}
