//! A value's bytes in a stream, and what stands behind them.
//!
//! Nothing here may wait, or hold more of a value than it has bytes.

use std::io::IoSliceMut;

use super::slots::Content;
use super::{Connection, Engine, Progress, State, Submitted, Visit, deadline_us};
use crate::buffer::Gather;
use crate::net::Stream;
use crate::orchestrator::Operation;
use crate::protocol::{Fixed, Form};
use crate::tier::Draft;

/// Where the bytes of a value go that is too long to wait in its stream.
#[derive(Debug)]
pub enum Arriving {
    /// Into blocks, which the store is given when it is whole.
    Chain(Gather),
    /// To where they will stay.
    Draft {
        /// The item that is being made.
        draft: Draft,
        /// How many are there.
        filled: usize,
    },
}

impl Connection {
    /// Begins a store: at once if its value is all there, else when it is, or piece by piece if it
    /// is longer than may wait in the stream.
    pub(super) fn store<S: Stream, E: Engine>(
        &mut self,
        operation: Operation,
        form: Form,
        value_bytes: usize,
        is_text: bool,
        consumed: usize,
        visit: &mut Visit<'_, S, E>,
    ) -> Progress {
        let body_bytes = value_bytes + terminator_bytes(is_text);
        if visit.stream.received_bytes() - consumed >= body_bytes {
            visit.stream.consume(consumed);
            let mut gather = Gather::new();
            take_into(&mut gather, value_bytes, visit.stream);
            if is_text && !take_terminator(visit.stream) {
                self.reply(Content::Fixed(Fixed::new(form.bad_data_chunk())), visit);
            } else {
                let operation = Operation { value: gather.finish(), ..operation };
                self.perform(operation, form, visit);
            }
            return Progress::More;
        }
        if consumed + body_bytes <= visit.stream.receive_capacity_bytes() / 2 {
            self.is_partial = true;
            return Progress::Wait;
        }
        if !visit.engine.reserve_body(value_bytes, visit.now) {
            visit.engine.revisit(visit.id);
            return Progress::Wait;
        }
        visit.stream.consume(consumed);
        let draft = visit.engine.draft(&operation, value_bytes, visit.now);
        let value = match draft {
            Some(draft) => Arriving::Draft { draft, filled: 0 },
            None => Arriving::Chain(Gather::new()),
        };
        let gathering = Content::Gathering { operation, form, value };
        let slot = visit.engine.slots().push(&mut self.queue, visit.id, gathering);
        self.state = State::Body { slot, value_bytes, is_text };
        self.progress_us = visit.now.uptime_us;
        self.deadline_us = deadline_us(value_bytes, visit.now);
        Progress::More
    }

    /// Gathers what has arrived of a long value, and begins its store when it is whole.
    pub(super) fn body<S: Stream, E: Engine>(
        &mut self,
        slot: u32,
        value_bytes: usize,
        is_text: bool,
        visit: &mut Visit<'_, S, E>,
    ) -> Progress {
        let arrived = gather_more(slot, value_bytes, visit.stream, visit.engine);
        if arrived.has_more {
            self.progress_us = visit.now.uptime_us;
        }
        if arrived.bytes < value_bytes {
            visit.stream.expect_into();
            return Progress::Wait;
        }
        if visit.stream.received_bytes() < terminator_bytes(is_text) {
            return Progress::Wait;
        }
        let content = visit.engine.slots().content_mut(slot);
        let Content::Gathering { operation, form, value } =
            std::mem::replace(content, Content::Free)
        else {
            unreachable!("the slot of a body is gathering");
        };
        self.state = State::Command;
        visit.engine.release_body(value_bytes);
        let is_bad = is_text && !take_terminator(visit.stream);
        let next = Self::store_whole(operation, form, value, is_bad, slot, visit);
        *visit.engine.slots().content_mut(slot) = next;
        self.write_ready(visit.stream, visit.engine);
        Progress::More
    }

    /// Carries out the store in `slot`, whose value is there.
    fn store_whole<S: Stream, E: Engine>(
        operation: Operation,
        form: Form,
        value: Arriving,
        is_bad: bool,
        slot: u32,
        visit: &mut Visit<'_, S, E>,
    ) -> Content<E::Value> {
        if is_bad {
            if let Arriving::Draft { draft, .. } = value {
                visit.engine.drop_draft(draft);
            }
            return Content::Fixed(Fixed::new(form.bad_data_chunk()));
        }
        let key = form.needs_key().then(|| operation.key.clone());
        let gather = match value {
            Arriving::Draft { draft, .. } => {
                let outcome = visit.engine.store_draft(&operation, draft, visit.now);
                return Content::Ready { form, key, outcome };
            }
            Arriving::Chain(gather) => gather,
        };
        let operation = Operation { value: gather.finish(), port: visit.port, ..operation };
        match visit.engine.submit(operation, slot, visit.now) {
            Submitted::Done(outcome) => Content::Ready { form, key, outcome },
            Submitted::Waiting(outcomes) => Content::Waiting { form, key, outcomes },
        }
    }
}

/// What was done for a value that arrives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived {
    /// Bytes that are there now.
    pub bytes: usize,
    /// Whether some of them came just now.
    pub has_more: bool,
}

/// Moves what has come of the value in `slot`, of `value_bytes` bytes, to where it goes, and has
/// the rest received right there, as far as it has come.
pub(super) fn gather_more<S: Stream, E: Engine>(
    slot: u32,
    value_bytes: usize,
    stream: &mut S,
    engine: &mut E,
) -> Arrived {
    let Content::Gathering { value, .. } = engine.slots().content_mut(slot) else {
        unreachable!("the slot of a body is gathering");
    };
    let (before, bytes) = match value {
        Arriving::Chain(gather) => {
            let before = gather.len();
            let waiting = stream.received_bytes().min(value_bytes - before);
            take_into(gather, waiting, stream);
            while S::RECEIVES_INTO && gather.len() < value_bytes {
                let left = value_bytes - gather.len();
                if gather.receive(left, |pieces| stream.receive_into(pieces)) == 0 {
                    break;
                }
                let behind = stream.received_bytes().min(value_bytes - gather.len());
                take_into(gather, behind, stream);
            }
            (before, gather.len())
        }
        &mut Arriving::Draft { draft, filled: before } => {
            let filled = fill_draft(draft, before, value_bytes, stream, engine);
            let content = engine.slots().content_mut(slot);
            if let Content::Gathering { value: Arriving::Draft { filled: at, .. }, .. } = content {
                *at = filled;
            }
            (before, filled)
        }
    };
    Arrived { bytes, has_more: bytes > before }
}

/// As [`gather_more`]: of `value_bytes` bytes `filled` are there. Returns how many then are.
fn fill_draft<S: Stream, E: Engine>(
    draft: Draft,
    mut filled: usize,
    value_bytes: usize,
    stream: &mut S,
    engine: &mut E,
) -> usize {
    while filled < value_bytes {
        let n = if stream.received_bytes() > 0 {
            engine.fill_draft(draft, filled, &mut |room| {
                let piece = stream.received();
                let n = piece.len().min(room.len());
                room[..n].copy_from_slice(&piece[..n]);
                stream.consume(n);
                n
            })
        } else if S::RECEIVES_INTO {
            engine.fill_draft(draft, filled, &mut |room| {
                stream.receive_into(&mut [IoSliceMut::new(room)])
            })
        } else {
            0
        };
        if n == 0 {
            break;
        }
        filled += n;
    }
    filled
}

/// How many bytes stand behind a value.
pub(super) fn terminator_bytes(is_text: bool) -> usize {
    if is_text { 2 } else { 0 }
}

/// Moves `bytes` received bytes, which are there, into `gather`.
pub(super) fn take_into<S: Stream>(gather: &mut Gather, bytes: usize, stream: &mut S) {
    let mut left = bytes;
    while left > 0 {
        let piece = stream.received();
        let n = piece.len().min(left);
        gather.extend(&piece[..n]);
        stream.consume(n);
        left -= n;
    }
}

/// Takes the two bytes behind a value, which are there; whether they are `\r\n`.
pub(super) fn take_terminator<S: Stream>(stream: &mut S) -> bool {
    let mut terminator = [0; 2];
    stream.peek(&mut terminator);
    stream.consume(2);
    terminator == *b"\r\n"
}
