//! A connection without room for another request.
//!
//! Nothing here takes a slot or submits an operation.

use super::requests::parse;
use super::{Connection, Engine, InputState, Protocol, Visit, reply};
use crate::base::buffer::Gather;
use crate::base::limits::{SERVER_REPLY_ROOM_BYTES, SLOTS_PER_CONNECTION};
use crate::net::Stream;
use crate::protocol::{Command, Control, Step, binary};

/// What can be done without room for a request.
pub(super) enum NoRoom {
    /// A step that needs none.
    Step,
    /// The next request was answered; room must be checked again.
    Answered,
    /// Nothing. The connection will be visited again if necessary.
    Wait,
}

impl Connection {
    /// Whether a request that is parsed now can be executed.
    #[inline(always)]
    pub(super) fn may_start<E: Engine>(&self, engine: &mut E) -> bool {
        let own = self.queue.len();
        if own == 0 {
            return engine.slots().next_free().is_some() && engine.has_room(0);
        }
        own < SLOTS_PER_CONNECTION && engine.slots().has_room(own) && engine.has_room(own)
    }

    /// The slot of the request whose bytes are still arriving; it has no reply before they have.
    pub(super) fn unfinished(&self) -> Option<u32> {
        match self.state {
            InputState::Body { slot, .. } | InputState::Skip { slot, .. } => Some(slot),
            InputState::Command
            | InputState::Watch
            | InputState::Login(_)
            | InputState::Verify(_)
            | InputState::Keys(_)
            | InputState::List(_)
            | InputState::Line => None,
        }
    }

    /// Does what is possible although no request may start.
    #[inline(never)]
    pub(super) fn without_room<S: Stream, E: Engine>(
        &mut self,
        visit: &mut Visit<'_, S, E>,
    ) -> NoRoom {
        match self.state {
            InputState::Skip { .. } | InputState::Line | InputState::Watch => return NoRoom::Step,
            InputState::Body { .. } if visit.engine.has_room(0) => return NoRoom::Step,
            InputState::Body { .. } | InputState::List(_) | InputState::Verify(_) => (),
            InputState::Command | InputState::Login(_) | InputState::Keys(_) => {
                if visit.stream.received_bytes() == 0 {
                    return NoRoom::Wait;
                }
            }
        }
        let is_next = matches!(self.state, InputState::Command) && self.queue.is_empty();
        if is_next && self.answer_about_server(visit) {
            return NoRoom::Answered;
        }
        // Otherwise an outcome will arrive for an earlier request.
        if self.queue.first() == self.unfinished() {
            visit.engine.await_room(visit.id);
        }
        NoRoom::Wait
    }

    /// Whether the protocol is binary: its own, or that of the first byte.
    pub(super) fn is_binary(&self, input: &[u8]) -> bool {
        match self.protocol {
            Some(protocol) => matches!(protocol, Protocol::Binary),
            None => input.first() == Some(&binary::MAGIC_REQUEST),
        }
    }

    /// Answers the next request if it is a command about the server, whose reply needs no slot: an
    /// operator who looks for the cause gets an answer even if clients get none.
    fn answer_about_server<S: Stream, E: Engine>(&mut self, visit: &mut Visit<'_, S, E>) -> bool {
        let Visit { stream, engine, scratch, now, .. } = visit;
        // Before it is executed: that must happen once.
        if stream.room_bytes() < SERVER_REPLY_ROOM_BYTES {
            return false;
        }
        let bytes = stream.peek(&mut scratch.stitched[..]);
        let input = &scratch.stitched[..bytes];
        let is_binary = self.is_binary(input);
        let limits = *engine.limits();
        let Step::Done { command, consumed } = parse(is_binary, input, &limits, *now) else {
            return false;
        };
        let Command::Control { control, form } = self.allowed(command, &limits, *now) else {
            return false;
        };
        // The length of others depends on the number of connections.
        if matches!(control, Control::Stats(words) if !words.is_empty()) {
            return false;
        }
        self.protocol = Some(if is_binary { Protocol::Binary } else { Protocol::Text });
        let mut reply = Gather::new();
        engine.control(control, form, *now, &mut reply);
        stream.consume(consumed);
        if !reply::write_chain(*stream, &reply.finish(), &mut 0) {
            // A truncated reply would corrupt the following ones.
            stream.abort();
            self.is_closing = true;
        }
        true
    }
}
