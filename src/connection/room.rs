//! What a connection does while there is no room for another request.
//!
//! Nothing here takes a slot or hands an operation in.

use super::{Connection, Engine, Protocol, State, Visit, parse, reply};
use crate::buffer::Gather;
use crate::connection::slots::Content;
use crate::net::Stream;
use crate::protocol::{Command, Step, binary};
use crate::tier::{Outcome, Value};

impl Connection {
    /// Whether a step can be done although no request may start. If not, the connection will be
    /// visited again.
    #[inline(never)]
    pub(super) fn may_go_on<S: Stream, E: Engine>(&self, visit: &mut Visit<'_, S, E>) -> bool {
        match self.state {
            State::Skip { .. } | State::Line => return true,
            State::Body { .. } if visit.engine.has_room(0) => return true,
            State::Body { .. } | State::Command | State::Keys(_) => (),
        }
        let is_next = matches!(self.state, State::Command) && self.queue.is_empty();
        if is_next && self.answer_about_server(visit) {
            return true;
        }
        // Otherwise an outcome will come for what is before it.
        if self.queue.first() == self.unfinished() {
            visit.engine.revisit(visit.id);
        }
        false
    }

    /// Answers what is next if it asks about the server and its reply needs no slot. Whoever looks
    /// what is wrong gets an answer also when nobody else does.
    fn answer_about_server<S: Stream, E: Engine>(&self, visit: &mut Visit<'_, S, E>) -> bool {
        let Visit { stream, engine, scratch, now, .. } = visit;
        let bytes = stream.peek(&mut scratch.stitched[..]);
        let input = &scratch.stitched[..bytes];
        let is_binary = match self.protocol {
            Some(protocol) => matches!(protocol, Protocol::Binary),
            None => input.first() == Some(&binary::MAGIC_REQUEST),
        };
        let limits = *engine.limits();
        let Step::Done { command: Command::Control { control, form }, consumed } =
            parse(is_binary, input, &limits, *now)
        else {
            return false;
        };
        let mut reply = Gather::new();
        engine.control(control, form, *now, &mut reply);
        let reply = reply.finish();
        if stream.room_bytes() < reply.len() {
            return false;
        }
        stream.consume(consumed);
        reply::write_chain(*stream, &reply, &mut 0);
        true
    }

    /// Length of the value in the reply that is next.
    pub(super) fn front_bytes<E: Engine>(&self, engine: &mut E) -> usize {
        match self.queue.first().map(|slot| engine.slots().content(slot)) {
            Some(Content::Ready { outcome: Outcome::Hit(hit), .. }) => hit.value.len(),
            Some(Content::Encoded { value: Some(value), .. }) => value.len(),
            _ => 0,
        }
    }
}
