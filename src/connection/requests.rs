//! Requests: parsing the next bytes of the input, and executing them.
//!
//! One step takes one command, one key of a multi-get, or a piece of the bytes to discard; a value
//! is passed to `stores`. Nothing here decides whether there is room for a request: the caller
//! does.

use super::deadlines::deadline_us;
use super::listing::{Listing, Subject};
use super::parsed::{NextKey, Parsed, cost_of, store_now, whole_value};
use super::slots::{Content, Repeated};
use super::stores::terminator_bytes;
use super::{
    Connection, Engine, InputState, Progress, Protocol, SCRATCH_BYTES, Scratch, Visit, foreign,
    reply,
};
use crate::base::clock::Now;
use crate::net::Stream;
use crate::orchestrator::{Action, Operation};
use crate::protocol::{Command, Form, Keys, Limits, Request, Step, binary, rights, text};
use crate::tier::{Outcome, Value};

impl Connection {
    /// Processes the next received bytes by one step.
    #[inline(always)]
    pub(super) fn step<S: Stream, E: Engine>(&mut self, visit: &mut Visit<'_, S, E>) -> Progress {
        match self.state {
            InputState::Command => self.command(visit),
            _ => self.step_within(visit),
        }
    }

    /// The same within a command.
    #[inline(never)]
    fn step_within<S: Stream, E: Engine>(&mut self, visit: &mut Visit<'_, S, E>) -> Progress {
        match self.state {
            InputState::Command => unreachable!("a command has begun"),
            InputState::Login(value_bytes) => self.log_in(value_bytes, visit),
            InputState::Verify(_) => Progress::Wait,
            InputState::Keys(keys) => self.key(keys, visit),
            InputState::List(listing) => self.list(listing, visit),
            InputState::Watch => self.watch(visit),
            InputState::Line => {
                let input = visit.stream.received();
                match text::skip_line(input) {
                    Some(consumed) => {
                        visit.stream.consume(consumed);
                        self.state = InputState::Command;
                        Progress::More
                    }
                    None => {
                        // Another piece may follow.
                        let bytes = input.len();
                        visit.stream.consume(bytes);
                        if bytes == 0 { Progress::Wait } else { Progress::More }
                    }
                }
            }
            InputState::Skip { bytes, slot, close } => {
                let n = bytes.min(visit.stream.received_bytes());
                visit.stream.consume(n);
                if n < bytes {
                    self.state = InputState::Skip { bytes: bytes - n, slot, close };
                    return Progress::Wait;
                }
                self.state = InputState::Command;
                self.is_closing |= close;
                self.write_ready(visit.stream, visit.engine);
                Progress::More
            }
            InputState::Body { slot, value_bytes, is_text } => {
                self.body(slot, value_bytes, is_text, visit)
            }
        }
    }

    /// Parses the command at the start of the input and starts it. Not inlined into the loop of its
    /// caller, which would otherwise prepare for every kind of command.
    #[inline(never)]
    fn command<S: Stream, E: Engine>(&mut self, visit: &mut Visit<'_, S, E>) -> Progress {
        let input = visit.stream.received();
        let Some(&first) = input.first() else { return Progress::Wait };
        let is_binary = match self.protocol {
            Some(Protocol::Text) => false,
            Some(Protocol::Binary) => true,
            None => {
                let is_binary = first == binary::MAGIC_REQUEST;
                self.protocol = Some(if is_binary { Protocol::Binary } else { Protocol::Text });
                is_binary
            }
        };
        if !is_binary
            && self.queue.is_empty()
            && let Some(text::Single { key, form, consumed }) = text::parse_single(input)
        {
            visit.scratch.set_key(key);
            return self.get(Form::Text(form), consumed, visit);
        }
        let limits = *visit.engine.limits();
        if !is_binary
            && limits.meta
            && self.queue.is_empty()
            && let Some(text::PlainMeta { key, opaque, form, consumed }) =
                text::parse_plain_meta(input)
        {
            visit.scratch.set_key(key);
            visit.scratch.meta.set(form, opaque);
            return self.meta_get(consumed, visit);
        }
        let now = visit.now;
        let available = input.len();
        if let Step::Done { command, consumed } = parse(is_binary, input, &limits, now) {
            let command = self.allowed(command, &limits, now);
            if let Command::Operation { request, skip_bytes: 0 } = &command
                && matches!(request.action, Action::Get)
                && self.queue.is_empty()
            {
                let form = request.form;
                visit.scratch.set_key(request.key);
                return self.get(form, consumed, visit);
            }
            let Scratch { head, meta, cost, .. } = &mut *visit.scratch;
            let rest = &input[consumed..];
            if let Command::Meta { line } = command {
                let parsed = Parsed::meta(line, rest, (head, meta, cost), visit.engine, now);
                return self.execute(parsed, consumed, visit);
            }
            *cost = cost_of(&command);
            if let &Command::Store { ref request, value_bytes, is_text } = &command
                && let Action::Store(store) = request.action
                && let Some(value) = whole_value(rest, value_bytes, is_text)
            {
                let &Request { key, form, .. } = request;
                let Ok(outcome) = store_now(key, store, value, visit.engine, now) else {
                    let parsed = Parsed::store(request, value_bytes, is_text);
                    return self.execute(parsed, consumed, visit);
                };
                visit.stream.consume(consumed + value_bytes + terminator_bytes(is_text));
                self.finish_store(form, outcome, visit);
                return Progress::More;
            }
            let parsed = Parsed::new(command, rest, head, visit.engine, now);
            return self.execute(parsed, consumed, visit);
        }
        self.command_across(is_binary, available, visit)
    }

    /// The command, or its refusal where the port does not allow it.
    #[inline(always)]
    pub(super) fn allowed<'a>(
        &self,
        command: Command<'a>,
        limits: &Limits,
        now: Now,
    ) -> Command<'a> {
        if self.rights.is_limited() {
            return rights::checked(command, self.rights, limits, now);
        }
        command
    }

    /// The same for a command that is not whole in the first `available` bytes: it may be in two
    /// pieces, or has not arrived.
    #[inline(never)]
    fn command_across<S: Stream, E: Engine>(
        &mut self,
        is_binary: bool,
        available: usize,
        visit: &mut Visit<'_, S, E>,
    ) -> Progress {
        let (limits, now) = (*visit.engine.limits(), visit.now);
        if visit.stream.received_bytes() > available {
            let Scratch { stitched, head, meta, cost, .. } = &mut *visit.scratch;
            let bytes = visit.stream.peek(&mut stitched[..]);
            let input = &stitched[..bytes];
            if let Step::Done { command, consumed } = parse(is_binary, input, &limits, now) {
                let command = self.allowed(command, &limits, now);
                let rest = &input[consumed..];
                let parsed = if let Command::Meta { line } = command {
                    Parsed::meta(line, rest, (head, meta, cost), visit.engine, now)
                } else {
                    *cost = cost_of(&command);
                    Parsed::new(command, rest, head, visit.engine, now)
                };
                return self.execute(parsed, consumed, visit);
            }
        }
        self.is_partial = true;
        if visit.stream.received_bytes() >= SCRATCH_BYTES {
            // No command is this long; the parsers refuse such ones by their start.
            self.is_closing = true;
        }
        Progress::Wait
    }

    /// Executes a parsed command. Its head is still in the stream.
    #[inline(always)]
    pub(super) fn execute<S: Stream, E: Engine>(
        &mut self,
        parsed: Parsed<E::Value>,
        consumed: usize,
        visit: &mut Visit<'_, S, E>,
    ) -> Progress {
        if let Parsed::Done { value, tail, body_bytes, skip_bytes: 0 } = parsed {
            visit.stream.consume(consumed + body_bytes);
            self.finish_now(value, tail, visit);
            return Progress::More;
        }
        self.execute_other(parsed, consumed, visit)
    }

    /// Like [`Connection::execute`], for commands that are not executed yet.
    #[inline(never)]
    fn execute_other<S: Stream, E: Engine>(
        &mut self,
        parsed: Parsed<E::Value>,
        consumed: usize,
        visit: &mut Visit<'_, S, E>,
    ) -> Progress {
        match parsed {
            Parsed::Done { value, tail, body_bytes, skip_bytes } => {
                visit.stream.consume(consumed + body_bytes);
                let head = visit.scratch.head.clone();
                let content = Content::Encoded { head, value, tail };
                self.skip(skip_bytes, false, content, visit);
            }
            Parsed::Operation { operation, form, skip_bytes } => {
                let is_flush = matches!(operation.action, Action::FlushAll { .. });
                if is_flush && !self.queue.is_empty() {
                    return Progress::Wait;
                }
                self.is_flushing = is_flush;
                visit.stream.consume(consumed);
                if skip_bytes > 0 {
                    let content = Self::submit(operation, form, visit);
                    self.skip(skip_bytes, false, content, visit);
                } else {
                    self.submit_and_reply(operation, form, visit);
                }
            }
            Parsed::Store { operation, form, value_bytes, is_text } => {
                return self.store(operation, form, value_bytes, is_text, consumed, visit);
            }
            Parsed::Keys(keys) => {
                visit.stream.consume(consumed);
                self.state = InputState::Keys(keys);
            }
            Parsed::Dump(kind) => {
                visit.stream.consume(consumed);
                self.begin_dump(kind, visit);
            }
            Parsed::Watch(wanted) => {
                visit.stream.consume(consumed);
                self.begin_watch(wanted, visit);
            }
            Parsed::Connections(listeners) => {
                visit.stream.consume(consumed);
                self.state = InputState::List(Listing::new(Subject::Connections));
                self.reply(Content::Bytes(listeners.finish()), visit);
            }
            Parsed::BadLine(reply) => {
                visit.stream.consume(consumed);
                self.state = InputState::Line;
                self.reply(Content::Fixed(reply), visit);
            }
            Parsed::Reply(reply) => {
                visit.stream.consume(consumed);
                self.reply(Content::Bytes(reply.finish()), visit);
            }
            Parsed::Bad { reply, skip_bytes, close } => {
                foreign::note_proxy_header(visit.stream, visit.engine, visit.now);
                visit.stream.consume(consumed);
                if skip_bytes > 0 {
                    self.skip(skip_bytes, close, Content::Fixed(reply), visit);
                } else {
                    self.is_closing |= close;
                    self.reply(Content::Fixed(reply), visit);
                }
            }
        }
        Progress::More
    }

    /// Discards the next `bytes` bytes, then sends the reply, then closes if `close`.
    fn skip<S: Stream, E: Engine>(
        &mut self,
        bytes: usize,
        close: bool,
        reply: Content<E::Value>,
        visit: &mut Visit<'_, S, E>,
    ) {
        let slot = visit.engine.slots().push(&mut self.queue, visit.id, reply);
        self.state = InputState::Skip { bytes, slot, close };
        self.deadline_us = deadline_us(bytes, visit.now);
    }

    /// The next key of a multi-get.
    fn key<S: Stream, E: Engine>(&mut self, keys: Keys, visit: &mut Visit<'_, S, E>) -> Progress {
        let Visit { stream, engine, scratch, now, .. } = &mut *visit;
        let Scratch { stitched, head, .. } = &mut **scratch;
        let input = stream.received();
        let available = input.len();
        let mut next = NextKey::new(text::next_key(input), keys, head, *engine, *now);
        if matches!(next, NextKey::NeedMore) && stream.received_bytes() > available {
            let bytes = stream.peek(&mut stitched[..]);
            let step = text::next_key(&stitched[..bytes]);
            next = NextKey::new(step, keys, head, *engine, *now);
        }
        match next {
            NextKey::NeedMore => {
                self.is_partial = true;
                self.is_closing |= visit.stream.received_bytes() >= SCRATCH_BYTES;
                return Progress::Wait;
            }
            NextKey::Done { value, tail, consumed } => {
                visit.stream.consume(consumed);
                self.finish_now(value, tail, visit);
            }
            NextKey::Key { key, in_l1, consumed } => {
                visit.stream.consume(consumed);
                let operation = Operation { in_l1, ..Operation::new(key, keys.action()) };
                self.submit_and_reply(operation, keys.form(), visit);
            }
            NextKey::End(consumed) => {
                visit.stream.consume(consumed);
                self.state = InputState::Command;
                self.reply(Content::Fixed(keys.end()), visit);
            }
            NextKey::Bad(reply, consumed) => {
                visit.stream.consume(consumed);
                self.state = InputState::Line;
                self.reply(Content::Fixed(reply), visit);
            }
        }
        Progress::More
    }

    /// Writes a reply whose head was just encoded, or keeps it at its place in the order.
    #[inline(always)]
    fn finish_now<S: Stream, E: Engine>(
        &mut self,
        value: Option<E::Value>,
        tail: &'static [u8],
        visit: &mut Visit<'_, S, E>,
    ) {
        let head = &visit.scratch.head;
        if self.queue.is_empty() {
            let written = &mut self.written;
            if reply::write_parts(visit.stream, head, value.as_ref(), tail, written) {
                self.written = 0;
                return;
            }
        }
        self.queue_encoded(value, tail, visit);
    }

    /// Writes the reply of a store that is done, or keeps it in its place in the order.
    #[inline(always)]
    fn finish_store<S: Stream, E: Engine>(
        &mut self,
        form: Form,
        outcome: Outcome<E::Value>,
        visit: &mut Visit<'_, S, E>,
    ) {
        let is_next = self.queue.is_empty();
        if !is_next || !reply::write_whole(visit.stream, form, b"", &outcome, b"") {
            self.write_or_keep(Content::Ready { form, repeated: None, outcome }, visit);
        }
    }

    /// Keeps a reply, whose head is in the scratch, in its place in the order.
    #[inline(never)]
    fn queue_encoded<S: Stream, E: Engine>(
        &mut self,
        value: Option<E::Value>,
        tail: &'static [u8],
        visit: &mut Visit<'_, S, E>,
    ) {
        if let Some(value) = &value {
            value.note_progress(visit.now);
        }
        let content = Content::Encoded { head: visit.scratch.head.clone(), value, tail };
        visit.engine.slots().push(&mut self.queue, visit.id, content);
    }

    /// Submits an operation and writes its reply, or keeps its place in the order.
    pub(super) fn submit_and_reply<S: Stream, E: Engine>(
        &mut self,
        operation: Operation,
        form: Form,
        visit: &mut Visit<'_, S, E>,
    ) {
        let content = Self::submit(operation, form, visit);
        self.write_or_keep(content, visit);
    }

    /// Writes a reply if it is ready and next, or keeps it in its place in the order.
    #[inline(never)]
    fn write_or_keep<S: Stream, E: Engine>(
        &mut self,
        content: Content<E::Value>,
        visit: &mut Visit<'_, S, E>,
    ) {
        if let Content::Ready { form, repeated, outcome } = &content {
            let (repeated, written) = (repeated.as_ref(), &mut self.written);
            if self.queue.is_empty()
                && reply::write_outcome(visit.stream, *form, repeated, outcome, written)
            {
                self.written = 0;
                return;
            }
            if let Outcome::Hit(hit) = outcome {
                hit.value.note_progress(visit.now);
            }
        }
        visit.engine.slots().push(&mut self.queue, visit.id, content);
    }

    /// Submits an operation for the next free slot. Returns the state of its reply.
    fn submit<S: Stream, E: Engine>(
        operation: Operation,
        form: Form,
        visit: &mut Visit<'_, S, E>,
    ) -> Content<E::Value> {
        let meta = form.is_meta().then_some(&visit.scratch.meta);
        let repeated = Repeated::of(form, &operation.key, meta);
        let slot = visit.engine.slots().next_free().expect("may_start was checked");
        let operation = Operation { port: visit.port, ..operation };
        Content::submitted(form, repeated, visit.engine.submit(operation, slot, visit.now))
    }

    /// Sends a reply that needs no tier, in its order.
    pub(super) fn reply<S: Stream, E: Engine>(
        &mut self,
        content: Content<E::Value>,
        visit: &mut Visit<'_, S, E>,
    ) {
        visit.engine.slots().push(&mut self.queue, visit.id, content);
        self.write_ready(visit.stream, visit.engine);
    }
}

/// Parses the command at the start of `input`.
#[inline]
pub(super) fn parse<'a>(is_binary: bool, input: &'a [u8], limits: &Limits, now: Now) -> Step<'a> {
    if is_binary { binary::parse(input, limits, now) } else { text::parse(input, limits, now) }
}
