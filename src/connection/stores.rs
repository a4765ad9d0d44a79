//! Receives the bytes of a value and the terminator after them.
//!
//! A value too long to wait in its stream is received into its final place, or is gathered piece by
//! piece, each piece when the connection's share of the budget for such values has room for it.
//! Until then it stays in the stream, whose flow control stops the client. Nothing here may wait,
//! hold more of a value than its length, or reserve much of the budget for bytes that were only
//! announced. A tier may make room for those (`Tier::draft`), and limits itself how much.

use super::deadlines::{allowance_us, deadline_us};
use super::slots::{Arriving, Content, Repeated};
use super::{Connection, Engine, InputState, Progress, Submitted, Visit};
use crate::base::buffer::Gather;
use crate::base::clock::Now;
use crate::base::limits::{BLOCK_BYTES, BODY_AHEAD_BYTES};
use crate::net::{ConnectionId, Stream};
use crate::orchestrator::{Action, Operation, PortRole};
use crate::protocol::{Fixed, Form};
use crate::tier::{Draft, Outcome, Store, StoreMode};

/// A connection's reservations of the budget for arriving values.
#[derive(Debug, Default)]
pub struct Share {
    /// When its value began to arrive, as an uptime in microseconds.
    pub began_us: u64,
    /// Part of the budget that all connections share, in bytes.
    pub shared: usize,
    /// Part of the reserve for the rest of values that exceed their share.
    pub rest: Option<Rest>,
}

/// A part of the reserve for the rests of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// The connection that holds it.
    pub id: ConnectionId,
    /// Size in bytes.
    pub bytes: usize,
    /// It is of the part reserved for values that began recently.
    pub is_for_new: bool,
    /// Where the worker keeps who holds it.
    pub place: u32,
}

impl Connection {
    /// Starts a store: immediately if its value is complete, else when it is, or piece by piece if
    /// it is too long to wait in the stream.
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
                self.submit_and_reply(operation, form, visit);
            }
            return Progress::More;
        }
        if consumed + body_bytes <= visit.stream.receive_capacity_bytes() / 2 {
            self.is_partial = true;
            return Progress::Wait;
        }
        visit.stream.consume(consumed);
        let draft = visit.engine.draft(&operation, value_bytes, visit.now);
        let value = match draft {
            Some(draft) => Arriving::Draft { draft, filled: 0 },
            None => Arriving::Chain(Gather::new()),
        };
        let meta = form.is_meta().then(|| visit.scratch.meta.clone());
        let gathering = Content::Gathering { operation, form, meta, value };
        let slot = visit.engine.slots().push(&mut self.queue, visit.id, gathering);
        self.state = InputState::Body { slot, value_bytes, is_text };
        self.share.began_us = visit.now.uptime_us;
        self.progress_us = visit.now.uptime_us;
        self.deadline_us = deadline_us(value_bytes, visit.now);
        Progress::More
    }

    /// Gathers the received part of a long value, and starts its store when it is complete.
    pub(super) fn body<S: Stream, E: Engine>(
        &mut self,
        slot: u32,
        value_bytes: usize,
        is_text: bool,
        visit: &mut Visit<'_, S, E>,
    ) -> Progress {
        loop {
            let before = value_bytes - self.bytes_left(visit.engine);
            let Some(until) = self.make_room(slot, before, value_bytes, visit) else {
                if visit.engine.is_revoked(&self.share) {
                    self.give_up_body(visit.engine, visit.now);
                    return Progress::More;
                }
                visit.engine.await_room(visit.id);
                // The delay is ours, not the client's.
                self.progress_us = visit.now.uptime_us;
                self.deadline_us = deadline_us(value_bytes - before, visit.now);
                return Progress::Wait;
            };
            let arrived = gather_more(slot, until, visit.stream, visit.engine);
            self.earn_us(allowance_us(arrived - before), visit.now);
            let is_whole = arrived == value_bytes;
            visit.engine.note_progress(&self.share, self.progress_us, is_whole, visit.now);
            if is_whole {
                break;
            }
            if arrived < until || arrived == before {
                // Only after the received part was taken: the sender may have been waiting for us.
                if visit.engine.is_revoked(&self.share) {
                    self.give_up_body(visit.engine, visit.now);
                    return Progress::More;
                }
                visit.stream.expect_into();
                return Progress::Wait;
            }
        }
        if visit.stream.received_bytes() < terminator_bytes(is_text) {
            if visit.engine.is_revoked(&self.share) {
                self.give_up_body(visit.engine, visit.now);
                return Progress::More;
            }
            // Half a terminator is not a request that waits for its turn.
            self.is_partial = true;
            return Progress::Wait;
        }
        let content = visit.engine.slots().content_mut(slot);
        let Content::Gathering { operation, form, meta, value } =
            std::mem::replace(content, Content::Free)
        else {
            unreachable!("the slot of a body is gathering");
        };
        self.state = InputState::Command;
        visit.engine.release_body(std::mem::take(&mut self.share));
        let is_bad = is_text && !take_terminator(visit.stream);
        let repeated = Repeated::of(form, &operation.key, meta.as_ref());
        let next = Self::store_whole(operation, (form, repeated), value, is_bad, slot, visit);
        *visit.engine.slots().content_mut(slot) = next;
        self.write_ready(visit.stream, visit.engine);
        Progress::More
    }

    /// Reserves room for more of the value in `slot` than its first `before` bytes, which have
    /// arrived. Returns up to which byte it may be received; None if there is no room now.
    fn make_room<S: Stream, E: Engine>(
        &mut self,
        slot: u32,
        before: usize,
        value_bytes: usize,
        visit: &mut Visit<'_, S, E>,
    ) -> Option<usize> {
        let content = visit.engine.slots().content(slot);
        if matches!(content, Content::Gathering { value: Arriving::Draft { .. }, .. }) {
            return Some(value_bytes);
        }
        let mut more = visit.stream.received_bytes();
        if S::RECEIVES_INTO {
            // How much has arrived is not known, and what does not fit here is copied once more.
            let ahead = value_bytes.min(before + more.max(BODY_AHEAD_BYTES));
            if visit.engine.reserve_ahead(&mut self.share, ahead, value_bytes) {
                return Some(ahead);
            }
            more = more.max(before.clamp(BLOCK_BYTES, BODY_AHEAD_BYTES));
        }
        let until = value_bytes.min(before + more);
        let Visit { id, engine, now, .. } = visit;
        let has_room = engine.reserve_body(*id, &mut self.share, until, value_bytes, *now);
        has_room.then_some(until)
    }

    /// Releases what has arrived of the current value. The rest of it is discarded, and its store
    /// fails. The caller knows that an operation can be submitted.
    #[cold]
    pub(super) fn give_up_body<E: Engine>(&mut self, engine: &mut E, now: Now) {
        let InputState::Body { slot, is_text, .. } = self.state else {
            unreachable!("only an arriving value has a share");
        };
        let bytes = self.bytes_left(engine) + terminator_bytes(is_text);
        let content = engine.slots().content_mut(slot);
        let Content::Gathering { operation, form, meta, .. } =
            std::mem::replace(content, Content::Free)
        else {
            unreachable!("the slot of a body is gathering");
        };
        engine.refuse_body(std::mem::take(&mut self.share));
        self.state = InputState::Skip { bytes, slot, close: false };
        let repeated = Repeated::of(form, &operation.key, meta.as_ref());
        let outcome = match operation.action {
            // Of these two, no room reads as `NOT_STORED`, which would say that there is no item.
            Action::Store(Store { mode: StoreMode::Append | StoreMode::Prepend, .. }) => {
                Submitted::Done(Outcome::Throttled)
            }
            // Of a meta command memcached removes the item whatever the mode.
            Action::Store(Store { mode: StoreMode::Set, cas: 0, .. }) | Action::Meta(_) => {
                let port = PortRole::of_listener(self.listener());
                let action = Action::StoreNoRoom;
                engine.submit(Operation { action, port, ..operation }, slot, now)
            }
            _ => Submitted::Done(Outcome::OutOfMemory),
        };
        let content = Content::submitted(form, repeated, outcome);
        *engine.slots().content_mut(slot) = content;
    }

    /// Missing bytes of a long value, to be stored or discarded.
    pub(super) fn bytes_left<E: Engine>(&self, engine: &mut E) -> usize {
        match self.state {
            InputState::Skip { bytes, .. } => bytes,
            InputState::Body { slot, value_bytes, .. } => match engine.slots().content(slot) {
                Content::Gathering { value: Arriving::Chain(gather), .. } => {
                    value_bytes - gather.len()
                }
                Content::Gathering { value: Arriving::Draft { filled, .. }, .. } => {
                    value_bytes - filled
                }
                _ => unreachable!("the slot of a body is gathering"),
            },
            InputState::Command
            | InputState::Watch
            | InputState::Login(_)
            | InputState::Verify(_)
            | InputState::Keys(_)
            | InputState::List(_)
            | InputState::Line => 0,
        }
    }

    /// Executes the store in `slot`, whose value is complete.
    fn store_whole<S: Stream, E: Engine>(
        operation: Operation,
        (form, repeated): (Form, Option<Repeated>),
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
        let gather = match value {
            Arriving::Draft { draft, .. } => {
                let outcome = visit.engine.store_draft(&operation, draft, visit.now);
                return Content::Ready { form, repeated, outcome };
            }
            Arriving::Chain(gather) => gather,
        };
        let operation = Operation { value: gather.finish(), port: visit.port, ..operation };
        Content::submitted(form, repeated, visit.engine.submit(operation, slot, visit.now))
    }
}

/// Moves the received part of the value in `slot`, up to its byte `until`, to its destination, and
/// receives the rest directly there, as far as it has arrived. Returns how many bytes are there
/// now.
fn gather_more<S: Stream, E: Engine>(
    slot: u32,
    until: usize,
    stream: &mut S,
    engine: &mut E,
) -> usize {
    let Content::Gathering { value, .. } = engine.slots().content_mut(slot) else {
        unreachable!("the slot of a body is gathering");
    };
    match value {
        Arriving::Chain(gather) => {
            let waiting = stream.received_bytes().min(until - gather.len());
            take_into(gather, waiting, stream);
            while S::RECEIVES_INTO && gather.len() < until {
                let left = until - gather.len();
                if gather.receive(left, |pieces| stream.receive_into(pieces)) == 0 {
                    break;
                }
                let behind = stream.received_bytes().min(until - gather.len());
                take_into(gather, behind, stream);
            }
            gather.len()
        }
        &mut Arriving::Draft { draft, filled: before } => {
            let filled = fill_draft(draft, before, until, stream, engine);
            let content = engine.slots().content_mut(slot);
            if let Content::Gathering { value: Arriving::Draft { filled: at, .. }, .. } = content {
                *at = filled;
            }
            filled
        }
    }
}

/// Like [`gather_more`]: of `value_bytes` bytes `filled` are there. Returns how many then are.
fn fill_draft<S: Stream, E: Engine>(
    draft: Draft,
    mut filled: usize,
    value_bytes: usize,
    stream: &mut S,
    engine: &mut E,
) -> usize {
    while filled < value_bytes {
        let n = if stream.received_bytes() > 0 {
            engine.fill_draft(draft, filled, &mut |rooms| {
                let Some(room) = rooms.first_mut() else { return 0 };
                let piece = stream.received();
                let n = piece.len().min(room.len());
                room[..n].copy_from_slice(&piece[..n]);
                stream.consume(n);
                n
            })
        } else if S::RECEIVES_INTO {
            engine.fill_draft(draft, filled, &mut |rooms| stream.receive_into(rooms))
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

/// Number of bytes after a value.
pub(super) fn terminator_bytes(is_text: bool) -> usize {
    if is_text { 2 } else { 0 }
}

/// Moves `bytes` received bytes, which must exist, into `gather`.
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

/// Takes the two bytes after a value, which must exist; returns whether they are `\\r\
/// `.
pub(super) fn take_terminator<S: Stream>(stream: &mut S) -> bool {
    let mut terminator = [0; 2];
    stream.peek(&mut terminator);
    stream.consume(2);
    terminator == *b"\r\n"
}
