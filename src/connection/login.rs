//! What a connection does before its client has logged in: nothing else.
//!
//! No byte reaches a parser of commands before that, and nothing is kept of what was sent.

use super::slots::Content;
use super::{Connection, Engine, InputState, Progress, Protocol, SCRATCH_BYTES, Verdict, Visit};
use crate::net::Stream;
use crate::protocol::binary;
use crate::protocol::login::{self, LOGIN_BYTES_MAX, Login};

// The longest value with its end, and the longest packet, are assembled in the scratch.
const _: () = assert!(LOGIN_BYTES_MAX + 24 <= SCRATCH_BYTES);

impl Connection {
    /// Processes the next line, value or packet of a client that has not logged in. `value_bytes`:
    /// the line of its set was read.
    #[cold]
    #[inline(never)]
    pub(super) fn log_in<S: Stream, E: Engine>(
        &mut self,
        value_bytes: Option<usize>,
        visit: &mut Visit<'_, S, E>,
    ) -> Progress {
        let bytes = visit.stream.peek(&mut visit.scratch.stitched[..]);
        let input = &visit.scratch.stitched[..bytes];
        let parsed = match value_bytes {
            Some(value_bytes) => login::parse_value(input, value_bytes),
            None => login::parse(input),
        };
        let (reply, consumed) = match parsed {
            Login::NeedMore => {
                self.is_partial = bytes > 0;
                return Progress::Wait;
            }
            Login::Value { value_bytes, consumed } => {
                visit.stream.consume(consumed);
                self.state = InputState::Login(Some(value_bytes));
                return Progress::More;
            }
            Login::Attempt { user, password, replies, consumed } => {
                let peer = visit.stream.peer();
                let verdict = visit.engine.log_in(peer, user, password, visit.now);
                let is_admitted = verdict == Verdict::Admitted;
                if is_admitted {
                    let is_binary = value_bytes.is_none() && input[0] == binary::MAGIC_REQUEST;
                    self.protocol = Some(if is_binary { Protocol::Binary } else { Protocol::Text });
                    self.state = InputState::Command;
                } else {
                    self.state = InputState::Login(None);
                }
                self.is_closing |= verdict == Verdict::Limited;
                (if is_admitted { replies.admitted } else { replies.refused }, consumed)
            }
            Login::Refused { reply, consumed, close } => {
                self.state = InputState::Login(None);
                self.is_closing |= close;
                (reply, consumed)
            }
        };
        visit.scratch.stitched[..bytes].fill(0);
        visit.stream.consume(consumed);
        self.reply(Content::Fixed(reply), visit);
        Progress::More
    }
}
