//! The path of most requests: a get of one key, copied from its item directly to the output.
//!
//! Nothing is held and nothing is kept for later here. A get that cannot be answered completely and
//! immediately is not started here: it takes the path of all other commands.

use super::parsed::Parsed;
use super::{Connection, Engine, Progress, Visit, reply};
use crate::net::Stream;
use crate::orchestrator::{Action, InL1};
use crate::protocol::{Command, Form, Request};

impl Connection {
    /// Answers a get of the key in the scratch, before which no reply is pending. Its `consumed`
    /// bytes are still in the stream.
    #[inline(always)]
    pub(super) fn get<S: Stream, E: Engine>(
        &mut self,
        form: Form,
        consumed: usize,
        visit: &mut Visit<'_, S, E>,
    ) -> Progress {
        let Visit { stream, engine, scratch, now, .. } = visit;
        let key = &scratch.key;
        match engine.read_now(key, false, *now, |hit| reply::write_at_once(*stream, form, key, hit))
        {
            Ok(()) => {
                stream.consume(consumed);
                Progress::More
            }
            Err(in_l1) => self.get_otherwise(form, in_l1, consumed, visit),
        }
    }

    #[inline(never)]
    fn get_otherwise<S: Stream, E: Engine>(
        &mut self,
        form: Form,
        in_l1: InL1,
        consumed: usize,
        visit: &mut Visit<'_, S, E>,
    ) -> Progress {
        let scratch = &mut *visit.scratch;
        let request = Request { key: &scratch.key, action: Action::Get, form };
        let parsed = if in_l1 == InL1::Unasked {
            let command = Command::Operation { request, skip_bytes: 0 };
            Parsed::new(command, b"", &mut scratch.head, visit.engine, visit.now)
        } else {
            Parsed::owned(&request, in_l1, 0)
        };
        self.execute(parsed, consumed, visit)
    }
}
