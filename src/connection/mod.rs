//! One client's byte stream: requests in, replies out, in the order of the requests.
//!
//! A connection parses what its stream has received, gathers values, submits operations to the
//! [`Engine`] and writes their replies. It must never block, never lose or reorder a reply, and
//! never exceed its bounds: input of a client that does not read its replies is not read, and a
//! request or reply that is incomplete for too long makes the connection overdue.
//!
//! ```text
//! stream.received ─ parse ─┬─ done at once, nothing before it ──────────────> stream.write_with
//!                          └─ slot in the queue ─ outcome ─ front of the queue ─┘
//! ```

mod deadlines;
mod foreign;
mod get;
mod intake;
mod listing;
mod login;
mod meta;
mod parsed;
mod reply;
mod requests;
mod room;
pub mod sample;
mod scratch;
pub mod slots;
mod stores;
pub mod watch;
mod watched;

use std::net::IpAddr;

use crate::base::buffer::{Body, Fifo, Gather};
use crate::base::clock::Now;
use crate::base::limits::COST_OF_EXTENDING;
use crate::base::rights::Rights;
use crate::net::{ConnectionId, Stream};
use crate::orchestrator::{Action, InL1, Operation, PortRole};
use crate::protocol::watch::Wanted;
use crate::protocol::{Binding, Control, Form, Keys, Limits, LoginForm};
use crate::tier::{Draft, Fill, Hit, Outcome, Value};
use deadlines::{Moved, Stall, allowance_us, deadline_us};
use listing::Listing;
use room::NoRoom;
pub use scratch::{SCRATCH_BYTES, Scratch};
pub use slots::Submitted;
use slots::{Arriving, Content, Queue, Slots};
pub use stores::{Rest, Share};
use watch::Watch;

/// What becomes of an attempt to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is this user.
    Admitted,
    /// The name or the password is wrong.
    Refused,
    /// Nothing was compared: its address has failed too often, or too many are being verified.
    Limited,
    /// It is being verified.
    Pending,
}

/// The interface of a connection to its worker.
pub trait Engine {
    /// What holds the bytes of a hit.
    type Value: Value;

    /// The table of requests in flight.
    fn slots(&mut self) -> &mut Slots<Self::Value>;

    /// Limits and switches of the protocols.
    fn limits(&self) -> &Limits;

    /// Whether an operation can be submitted now for a connection with `own` requests in flight. A
    /// connection with more of them finds less room, so that all find some.
    fn has_room(&self, own: usize) -> bool;

    /// Executes an operation that needs neither waiting nor another worker, and copies only what is
    /// stored. An error: nothing was done, and the operation must be submitted, with the result of
    /// the lookup in L1.
    fn try_now(
        &mut self,
        key: &[u8],
        action: Action,
        value: Body<'_>,
        now: Now,
    ) -> Result<Outcome<Self::Value>, InL1>;

    /// Executes a get that needs neither waiting nor another worker: passes the value, without
    /// copying, to `read`, or None for a miss. An error: `read` did not accept it, and the get must
    /// be submitted, with the result of the lookup in L1.
    fn read_now(
        &mut self,
        key: &[u8],
        with_state: bool,
        now: Now,
        read: impl FnOnce(Option<Hit<&[u8]>>) -> bool,
    ) -> Result<(), InL1>;

    /// What becomes of an attempt to log in by a client with this address; counted. The verdict on
    /// one that is pending is the outcome of `slot`, the next free one: [`Verdict::outcome`].
    fn log_in(
        &mut self,
        _peer: Option<IpAddr>,
        _user: &[u8],
        _password: &[u8],
        _slot: u32,
        _now: Now,
    ) -> Verdict {
        Verdict::Admitted
    }

    /// The client of a pending attempt is gone, or has ended its stream. True: there will be no
    /// verdict for `slot`.
    fn cancel_login(&mut self, _slot: u32, _is_gone: bool) -> bool {
        false
    }

    /// Tells the operator that a client at `peer`, which is not known as a load balancer, has sent
    /// the header of one.
    fn report_unnamed_proxy(&mut self, _peer: IpAddr, _now: Now) {}

    /// Executes an operation, here or elsewhere; `slot` identifies it until then.
    fn submit(&mut self, operation: Operation, slot: u32, now: Now) -> Submitted<Self::Value>;

    /// How many workers there are.
    fn workers(&self) -> usize {
        1
    }

    /// Whether a dump may begin: if so, nobody else begins one before [`Engine::end_dump`].
    fn begin_dump(&mut self) -> bool {
        false
    }

    /// A dump has ended.
    fn end_dump(&mut self) {}

    /// Lists a piece of the items of a worker; see [`crate::tier::Tier::dump`].
    fn dump(
        &mut self,
        _worker: usize,
        _from: u64,
        _slot: u32,
        _now: Now,
    ) -> Submitted<Self::Value> {
        Submitted::Done(Outcome::Unsupported)
    }

    /// Lists a piece of a worker's connections: a hit, whose value is the lines for text clients,
    /// and whose cas is where the next piece begins, 0 after the last.
    fn list_connections(
        &mut self,
        _worker: usize,
        _from: u64,
        _slot: u32,
    ) -> Submitted<Self::Value> {
        Submitted::Done(Outcome::Unsupported)
    }

    /// Makes connection `id` a watcher. Its outcome is that of `slot`, the next free one; None:
    /// there are as many as there may be.
    fn begin_watch(
        &mut self,
        _id: ConnectionId,
        _wanted: Wanted,
        _slot: u32,
    ) -> Option<Submitted<Self::Value>> {
        None
    }

    /// What it has of watchers.
    fn watch(&mut self) -> Option<&mut Watch> {
        None
    }

    /// Answers a command about the server.
    fn control(&mut self, control: Control<'_>, form: Form, now: Now, reply: &mut Gather);

    /// Makes room for the value of a store in its final place; see [`crate::tier::Tier::draft`].
    fn draft(&mut self, _operation: &Operation, _value_bytes: usize, _now: Now) -> Option<Draft> {
        None
    }

    /// See [`crate::tier::Tier::fill_draft`].
    fn fill_draft(&mut self, _draft: Draft, _offset: usize, _fill: &mut Fill<'_>) -> usize {
        unreachable!("there are no drafts")
    }

    /// Executes the store that a draft was made for; its value is complete.
    fn store_draft(
        &mut self,
        _operation: &Operation,
        _draft: Draft,
        _now: Now,
    ) -> Outcome<Self::Value> {
        unreachable!("there are no drafts")
    }

    /// Frees a draft's room.
    fn drop_draft(&mut self, _draft: Draft) {
        unreachable!("there are no drafts")
    }

    /// Extends the share of connection `id` to the first `bytes` bytes of an arriving value of
    /// `value_bytes` bytes. False: there is no room now.
    fn reserve_body(
        &mut self,
        id: ConnectionId,
        share: &mut Share,
        bytes: usize,
        value_bytes: usize,
        now: Now,
    ) -> bool;

    /// The value that `share` is for made progress: see [`Connection::is_overdue`] for
    /// `progress_us`. If that is recent, the share is not revoked any more. `is_whole`: only what
    /// ends the value is missing.
    fn note_progress(&mut self, share: &Share, progress_us: u64, is_whole: bool, now: Now);

    /// Whether others need the rest of this share more than its connection, which must then drop
    /// its value.
    fn is_revoked(&self, share: &Share) -> bool;

    /// The same for bytes that have not arrived yet, if there is plenty of room.
    fn reserve_ahead(&mut self, share: &mut Share, bytes: usize, value_bytes: usize) -> bool;

    /// Releases a share.
    fn release_body(&mut self, share: Share);

    /// Releases a share whose value is dropped for want of room.
    fn refuse_body(&mut self, share: Share);

    /// How many more bytes of input a connection may keep that keeps `held` bytes.
    fn intake_room(&self, held: usize) -> usize;

    /// Notes that a connection that kept `before` bytes of input keeps `held` now.
    fn keep_intake(&mut self, before: usize, held: usize);

    /// Whether so much memory is used or expected to be used that a connection should wait for its
    /// replies before it submits more.
    fn is_strained(&self) -> bool {
        false
    }

    /// A reply of one more connection waits for its client to read, or of one less.
    fn note_unread(&mut self, _is_unread: bool) {}

    /// Makes some of the value of the reply in `slot`, a connection's next, available for writing.
    /// A reply that has not begun and whose value is lost becomes that to a miss. False: the value
    /// was requested; the connection will be visited again.
    fn fetch(&mut self, slot: u32, is_begun: bool) -> bool;

    /// Visits this connection again when the room that it waits for may be free: soon, and without
    /// keeping the worker awake for it.
    fn await_room(&mut self, id: ConnectionId);

    /// Visits this connection again when there is room, or time, for more of its requests.
    fn revisit(&mut self, id: ConnectionId);
}

#[derive(Clone, Copy, Debug)]
enum Protocol {
    Text,
    Binary,
}

/// The meaning of the next bytes.
#[derive(Clone, Copy, Debug)]
enum InputState {
    /// The start of a command.
    Command,
    /// Bytes to drop: the client watches.
    Watch,
    /// The start of a command of a client that has not logged in, or the value of this length of
    /// a text client that does.
    Login(Option<usize>),
    /// A login is being verified; nothing more is parsed.
    Verify(LoginForm),
    /// Keys of a multi-get.
    Keys(Keys),
    /// The rest of a line to discard.
    Line,
    /// A piece of what the client lists is next; nothing more is parsed.
    List(Listing),
    /// Bytes to discard. The reply to their request, in this slot, the connection's newest, is sent
    /// after the last of them, as in memcached; then, if `close`, the connection is closed.
    Skip { bytes: usize, slot: u32, close: bool },
    /// A value, gathered in this slot, the connection's newest.
    Body { slot: u32, value_bytes: usize, is_text: bool },
}

/// One step of parsing.
enum Progress {
    /// There may be more to do.
    More,
    /// Nothing more can be done now.
    Wait,
}

/// The state of one connection beside its stream.
#[derive(Debug)]
pub struct Connection {
    protocol: Option<Protocol>,
    state: InputState,
    queue: Queue,
    /// Bytes of the front reply that are out.
    written: usize,
    /// Nothing more is read; the stream is closed once the queue is empty.
    is_closing: bool,
    /// Part of a command has arrived.
    is_partial: bool,
    /// A flush_all is in flight. It concerns all keys, so it waits for all earlier requests, and
    /// all later ones wait for it.
    is_flushing: bool,
    stall: Stall,
    deadline_us: u64,
    /// When it was last driven.
    driven_us: u64,
    /// The time up to which the arriving value, or the next reply, has progressed at the slowest
    /// accepted rate.
    progress_us: u64,
    /// The share of the value that is arriving.
    share: Share,
    /// Input removed from the stream because the output is blocked.
    intake: Option<Box<Fifo>>,
    listener: u8,
    /// What its port allows.
    rights: Rights,
}

impl Connection {
    /// A connection that was accepted on listener number `listener`. `needs_login`: it may do
    /// nothing before its client has logged in.
    pub fn new(listener: usize, needs_login: bool, now: Now) -> Connection {
        // Who has not logged in is not idle: it keeps others from a connection.
        let (state, stall, deadline_us) = match needs_login {
            true => (InputState::Login(None), Stall::Input, deadline_us(0, now)),
            false => (InputState::Command, Stall::None, u64::MAX),
        };
        Connection {
            protocol: None,
            state,
            queue: Queue::new(),
            written: 0,
            is_closing: false,
            is_partial: false,
            is_flushing: false,
            stall,
            deadline_us,
            driven_us: now.uptime_us,
            progress_us: 0,
            share: Share::default(),
            intake: None,
            listener: listener as u8,
            rights: Rights::ALL,
        }
    }

    /// The same with the rights of its port.
    pub fn with_rights(self, rights: Rights) -> Connection {
        Connection { rights, ..self }
    }

    /// The same with the protocol that its port speaks.
    pub fn with_binding(self, binding: Binding) -> Connection {
        let protocol = match binding {
            Binding::Auto => None,
            Binding::Ascii => Some(Protocol::Text),
            Binding::Binary => Some(Protocol::Binary),
        };
        Connection { protocol, ..self }
    }

    /// The number of its listener.
    pub fn listener(&self) -> usize {
        usize::from(self.listener)
    }

    /// The stream has ended: releases what the connection holds.
    pub fn release<E: Engine>(mut self, id: ConnectionId, engine: &mut E) {
        self.end_list(engine);
        self.end_watch(id, engine);
        self.give_up_login(true, engine);
        if self.stall == Stall::Output {
            engine.note_unread(false);
        }
        engine.release_body(self.share);
        if let InputState::Body { slot, .. } = self.state
            && let &Content::Gathering { value: Arriving::Draft { draft, .. }, .. } =
                engine.slots().content(slot)
        {
            engine.drop_draft(draft);
        }
        if let Some(intake) = self.intake {
            engine.keep_intake(intake.held_bytes(), 0);
        }
        if let Some(watch) = engine.watch()
            && watch.is_sending()
        {
            watch.tell_unsent(id);
        }
        engine.slots().abandon(self.queue);
    }

    /// Does what can be done now: writes replies that are ready, parses and starts requests.
    /// Bounded by its [`scratch::Budget`].
    pub fn drive<S: Stream, E: Engine>(
        &mut self,
        id: ConnectionId,
        stream: &mut S,
        engine: &mut E,
        scratch: &mut Scratch,
        now: Now,
    ) {
        if self.intake.is_some() {
            self.drive_behind(id, stream, engine, scratch, now);
        } else {
            self.go_on(id, stream, engine, scratch, now);
        }
        if self.stall == Stall::Output {
            self.take_in(stream, engine, scratch, now);
        }
    }

    #[inline(always)]
    fn go_on<S: Stream, E: Engine>(
        &mut self,
        id: ConnectionId,
        stream: &mut S,
        engine: &mut E,
        scratch: &mut Scratch,
        now: Now,
    ) {
        self.driven_us = now.uptime_us;
        let front = self.queue.first();
        let written = self.written;
        if front.is_some() {
            self.write_ready(stream, engine);
            if self.written > 0 && (self.written, self.queue.first()) != (written, front) {
                self.note_reader(engine, now);
            }
        }
        let has_moved = self.queue.first() != front;
        if has_moved {
            self.progress_us = now.uptime_us;
        } else if self.written != written {
            self.earn_us(allowance_us(self.written - written), now);
        }
        let port = PortRole::of_listener(self.listener());
        let mut visit = Visit { id, port, stream, engine, scratch, now };
        self.is_partial = false;
        let mut budget = scratch::Budget::new();
        let mut has_begun = false;
        while !self.is_closing && !self.is_output_blocked(visit.engine) {
            if self.is_flushing {
                if !self.queue.is_empty() {
                    break;
                }
                self.is_flushing = false;
            }
            // No visit is requested: an outcome will arrive for a request in the queue.
            if self.is_pipelining() && visit.engine.is_strained() {
                break;
            }
            if budget.is_spent() {
                visit.engine.revisit(id);
                break;
            }
            if !self.may_start(visit.engine) {
                match self.without_room(&mut visit) {
                    NoRoom::Step => (),
                    NoRoom::Answered => {
                        budget.spend(COST_OF_EXTENDING);
                        has_begun = true;
                        continue;
                    }
                    NoRoom::Wait => break,
                }
            }
            visit.scratch.cost = 1;
            let progress = self.maybe_sampled_step(&mut visit);
            budget.spend(visit.scratch.cost);
            match progress {
                Progress::More => has_begun = true,
                Progress::Wait => break,
            }
            // The next step would find the same.
            if matches!(self.state, InputState::Command) && visit.stream.received_bytes() == 0 {
                break;
            }
        }
        self.finish(id, stream, engine, Moved { input: has_begun, output: has_moved }, now);
    }

    /// Whether a request is next, and earlier ones are in flight.
    fn is_pipelining(&self) -> bool {
        !self.queue.is_empty() && matches!(self.state, InputState::Command | InputState::Keys(_))
    }

    /// Whether the front reply has been partly written, or waits for the client to read.
    fn is_output_blocked<E: Engine>(&self, engine: &mut E) -> bool {
        self.queue.first().is_some_and(|slot| {
            let is_held = self.unfinished() == Some(slot);
            // The next piece of a partly written one may be in flight from another worker.
            let is_awaited = self.written == 0
                && matches!(engine.slots().content(slot), Content::Waiting { .. });
            !is_held && !is_awaited
        })
    }

    /// Closes the stream if everything is done, and sets the deadline of what is not.
    fn finish<S: Stream, E: Engine>(
        &mut self,
        id: ConnectionId,
        stream: &mut S,
        engine: &mut E,
        moved: Moved,
        now: Now,
    ) {
        let is_blocked = self.is_output_blocked(engine);
        if is_blocked && engine.is_revoked(&self.share) {
            if engine.has_room(0) {
                self.give_up_body(engine, now);
            } else {
                engine.await_room(id);
            }
        }
        if stream.is_peer_finished() && !is_blocked && !self.is_listing() {
            let is_starved = stream.received_bytes() > 0 && !self.is_partial;
            self.is_closing |= !is_starved;
            if self.give_up_login(false, engine) {
                self.is_closing = true;
                self.write_ready(stream, engine);
            }
        }
        if self.is_closing && self.has_nothing_under_way() {
            stream.close();
        }
        self.set_deadline(is_blocked, moved, engine, now);
    }

    /// Whether no reply is outstanding; a request that will never be complete does not count.
    fn has_nothing_under_way(&self) -> bool {
        self.queue.first() == self.unfinished()
    }

    /// Writes the ready replies at the front of the queue.
    fn write_ready<S: Stream, E: Engine>(&mut self, stream: &mut S, engine: &mut E) {
        while let Some(slot) = self.queue.first() {
            if matches!(self.state, InputState::List(_) | InputState::Verify(_)) {
                self.take_outcome(slot, engine);
            }
            if !engine.fetch(slot, self.written > 0) {
                return;
            }
            if self.unfinished() == Some(slot) {
                return;
            }
            let written = &mut self.written;
            let is_out = match engine.slots().content(slot) {
                Content::Ready { form, repeated, outcome } => {
                    reply::write_outcome(stream, *form, repeated.as_ref(), outcome, written)
                }
                Content::Encoded { head, value, tail } => {
                    reply::write_parts(stream, head, value.as_ref(), tail, written)
                }
                Content::Fixed(fixed) => reply::write_bytes(stream, fixed.as_bytes(), written),
                Content::Bytes(chain) => reply::write_chain(stream, chain, written),
                Content::Waiting { .. } | Content::Gathering { .. } => return,
                Content::Free => unreachable!("a queue has no free slots"),
            };
            if !is_out {
                // The fetched part of another worker's value may have been written.
                engine.fetch(slot, self.written > 0);
                if self.written > 0
                    && value_of(engine.slots().content(slot)).is_some_and(Value::is_lost)
                {
                    // It cannot be completed, and what follows would be taken for its bytes.
                    stream.abort();
                    self.is_closing = true;
                }
                return;
            }
            self.written = 0;
            engine.slots().pop(&mut self.queue);
            if let Some(watch) = engine.watch()
                && watch.is_sending()
            {
                watch.tell_sent(slot);
            }
        }
    }

    /// Takes the outcome of what is neither a reply nor a request of its own, if it is there.
    #[cold]
    fn take_outcome<E: Engine>(&mut self, slot: u32, engine: &mut E) {
        match self.state {
            InputState::Verify(form) => self.take_verdict(form, slot, engine),
            _ => self.encode_piece(slot, engine),
        }
    }

    /// The client has read some of the next reply.
    #[inline(never)]
    fn note_reader<E: Engine>(&self, engine: &mut E, now: Now) {
        let content = self.queue.first().map(|slot| engine.slots().content(slot));
        if let Some(value) = content.and_then(value_of) {
            value.note_progress(now);
        }
    }
}

/// What holds the value of a reply.
fn value_of<V>(content: &Content<V>) -> Option<&V> {
    match content {
        Content::Ready { outcome: Outcome::Hit(hit), .. } => Some(&hit.value),
        Content::Encoded { value, .. } => value.as_ref(),
        _ => None,
    }
}

/// What one visit to a connection works with.
struct Visit<'v, S, E> {
    id: ConnectionId,
    port: PortRole,
    stream: &'v mut S,
    engine: &'v mut E,
    scratch: &'v mut Scratch,
    now: Now,
}
