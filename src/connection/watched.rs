//! A step while somebody watches: the same step, on an engine that notes what it is asked.
//!
//! The parser and everything behind it are compiled once more for this engine, so that a step that
//! nobody watches has no code for it at all. Nothing here may change what a client gets.

use std::io::IoSliceMut;
use std::net::IpAddr;

use super::slots::{Slots, Submitted};
use super::watch::{Watch, asked};
use super::{Connection, Engine, InputState, Progress, Share, Verdict, Visit};
use crate::base::buffer::{Body, Gather};
use crate::base::clock::Now;
use crate::base::latency::Level;
use crate::net::{ConnectionId, Stream};
use crate::orchestrator::{Action, InL1, Operation};
use crate::protocol::watch::{Asked, Ended, Spent, Wanted};
use crate::protocol::{Control, Form, Limits};
use crate::tier::{Draft, Fill, Hit, Outcome};

/// A worker's engine that notes the operation of one step.
struct Watched<'e, E> {
    engine: &'e mut E,
    /// The connection's number.
    connection: u64,
    /// Length of the value that has arrived piece by piece.
    arrived_bytes: usize,
    /// What has ended within the step.
    ended: Option<(Asked, Ended)>,
}

impl Connection {
    /// One step, of which watchers are told. Returns how long it took, and the operation that ended
    /// within it.
    pub(super) fn watched_step<S: Stream, E: Engine>(
        &mut self,
        visit: &mut Visit<'_, S, E>,
        read_ns: impl Fn() -> u64,
    ) -> (Progress, u64, Option<(Asked, Ended)>) {
        let arrived_bytes = match self.state {
            InputState::Body { value_bytes, .. } => value_bytes,
            _ => 0,
        };
        let begin_ns = read_ns();
        let Visit { id, port, now, .. } = *visit;
        let connection = visit.engine.watch().map_or(0, |watch| watch.number(id));
        let mut engine = Watched { engine: visit.engine, connection, arrived_bytes, ended: None };
        let progress = {
            let (mut stream, scratch) = (Through(&mut *visit.stream), &mut *visit.scratch);
            let stream = &mut stream;
            self.step(&mut Visit { id, port, stream, engine: &mut engine, scratch, now })
        };
        let ended = engine.ended.take();
        let took_ns = read_ns() - begin_ns;
        if let Some((asked, ended)) = &ended
            && let Some(watch) = visit.engine.watch()
        {
            watch.tell(asked, ended, &Spent { us: took_ns / 1_000, ..Spent::default() });
        }
        (progress, took_ns, ended)
    }
}

/// The connection's stream, as another type: what writes a reply is then compiled for each path,
/// too, and stays inlined in the one that nobody watches (41 instructions of a get).
struct Through<'s, S>(&'s mut S);

impl<S: Stream> Stream for Through<'_, S> {
    const SENDS_PIECES: bool = S::SENDS_PIECES;
    const RECEIVES_INTO: bool = S::RECEIVES_INTO;

    fn received(&mut self) -> &[u8] {
        self.0.received()
    }
    fn received_bytes(&self) -> usize {
        self.0.received_bytes()
    }
    fn receive_capacity_bytes(&self) -> usize {
        self.0.receive_capacity_bytes()
    }
    fn peek(&mut self, out: &mut [u8]) -> usize {
        self.0.peek(out)
    }
    fn consume(&mut self, bytes: usize) {
        self.0.consume(bytes);
    }
    fn is_peer_finished(&self) -> bool {
        self.0.is_peer_finished()
    }
    fn peer(&self) -> Option<IpAddr> {
        self.0.peer()
    }
    fn room_bytes(&self) -> usize {
        self.0.room_bytes()
    }
    fn write_with(&mut self, fill: impl FnOnce(&mut [u8]) -> usize) -> usize {
        self.0.write_with(|out| fill(out))
    }
    fn send_pieces<'p>(&mut self, pieces: impl Iterator<Item = &'p [u8]>) -> usize {
        self.0.send_pieces(pieces)
    }
    fn receive_into(&mut self, pieces: &mut [IoSliceMut<'_>]) -> usize {
        self.0.receive_into(pieces)
    }
    fn expect_into(&mut self) {
        self.0.expect_into();
    }
    fn close(&mut self) {
        self.0.close();
    }
    fn abort(&mut self) {
        self.0.abort();
    }
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.0.write(bytes)
    }
}

impl<E: Engine> Watched<'_, E> {
    fn note(&mut self, key: &[u8], action: Action, bytes: usize, ended: Ended) {
        self.ended = Some((asked(key, action, bytes, self.connection), ended));
    }
}

impl<E: Engine> Engine for Watched<'_, E> {
    type Value = E::Value;

    fn try_now(
        &mut self,
        key: &[u8],
        action: Action,
        value: Body<'_>,
        now: Now,
    ) -> Result<Outcome<E::Value>, InL1> {
        let bytes = value.len();
        let outcome = self.engine.try_now(key, action, value, now)?;
        self.note(key, action, bytes, Ended::of(&outcome, Level::L1));
        Ok(outcome)
    }

    fn read_now(
        &mut self,
        key: &[u8],
        with_state: bool,
        now: Now,
        read: impl FnOnce(Option<Hit<&[u8]>>) -> bool,
    ) -> Result<(), InL1> {
        let mut bytes = None;
        self.engine.read_now(key, with_state, now, |hit| {
            bytes = hit.as_ref().map(|hit| hit.value.len());
            read(hit)
        })?;
        self.note(key, Action::Get, 0, Ended::of_get(bytes));
        Ok(())
    }

    fn submit(&mut self, operation: Operation, slot: u32, now: Now) -> Submitted<E::Value> {
        let (key, action, bytes) = (operation.key.clone(), operation.action, operation.value.len());
        let submitted = self.engine.submit(operation, slot, now);
        let key = key.as_bytes();
        match &submitted {
            Submitted::Done(outcome) => {
                self.note(key, action, bytes, Ended::of(outcome, Level::L1));
            }
            Submitted::Waiting(_) if key.is_empty() => {}
            Submitted::Waiting(_) => {
                let asked = asked(key, action, bytes, self.connection);
                if let Some(watch) = self.engine.watch() {
                    watch.wait(slot, asked, now);
                }
            }
        }
        submitted
    }

    fn store_draft(&mut self, operation: &Operation, draft: Draft, now: Now) -> Outcome<E::Value> {
        let outcome = self.engine.store_draft(operation, draft, now);
        let ended = Ended::of(&outcome, Level::L1);
        self.note(operation.key.as_bytes(), operation.action, self.arrived_bytes, ended);
        outcome
    }

    // The rest is the engine's.

    fn slots(&mut self) -> &mut Slots<E::Value> {
        self.engine.slots()
    }
    fn limits(&self) -> &Limits {
        self.engine.limits()
    }
    fn has_room(&self, own: usize) -> bool {
        self.engine.has_room(own)
    }
    fn watch(&mut self) -> Option<&mut Watch> {
        self.engine.watch()
    }
    fn begin_watch(
        &mut self,
        id: ConnectionId,
        wanted: Wanted,
        slot: u32,
    ) -> Option<Submitted<E::Value>> {
        self.engine.begin_watch(id, wanted, slot)
    }
    fn log_in(
        &mut self,
        peer: Option<IpAddr>,
        user: &[u8],
        password: &[u8],
        slot: u32,
        now: Now,
    ) -> Verdict {
        self.engine.log_in(peer, user, password, slot, now)
    }
    fn cancel_login(&mut self, slot: u32, is_gone: bool) -> bool {
        self.engine.cancel_login(slot, is_gone)
    }
    fn report_unnamed_proxy(&mut self, peer: IpAddr, now: Now) {
        self.engine.report_unnamed_proxy(peer, now);
    }
    fn workers(&self) -> usize {
        self.engine.workers()
    }
    fn begin_dump(&mut self) -> bool {
        self.engine.begin_dump()
    }
    fn end_dump(&mut self) {
        self.engine.end_dump();
    }
    fn dump(&mut self, worker: usize, from: u64, slot: u32, now: Now) -> Submitted<E::Value> {
        self.engine.dump(worker, from, slot, now)
    }
    fn list_connections(&mut self, worker: usize, from: u64, slot: u32) -> Submitted<E::Value> {
        self.engine.list_connections(worker, from, slot)
    }
    fn control(&mut self, control: Control<'_>, form: Form, now: Now, reply: &mut Gather) {
        self.engine.control(control, form, now, reply);
    }
    fn draft(&mut self, operation: &Operation, value_bytes: usize, now: Now) -> Option<Draft> {
        self.engine.draft(operation, value_bytes, now)
    }
    fn fill_draft(&mut self, draft: Draft, offset: usize, fill: &mut Fill<'_>) -> usize {
        self.engine.fill_draft(draft, offset, fill)
    }
    fn drop_draft(&mut self, draft: Draft) {
        self.engine.drop_draft(draft);
    }
    fn reserve_body(
        &mut self,
        id: ConnectionId,
        share: &mut Share,
        bytes: usize,
        value_bytes: usize,
        now: Now,
    ) -> bool {
        self.engine.reserve_body(id, share, bytes, value_bytes, now)
    }
    fn note_progress(&mut self, share: &Share, progress_us: u64, is_whole: bool, now: Now) {
        self.engine.note_progress(share, progress_us, is_whole, now);
    }
    fn is_revoked(&self, share: &Share) -> bool {
        self.engine.is_revoked(share)
    }
    fn reserve_ahead(&mut self, share: &mut Share, bytes: usize, value_bytes: usize) -> bool {
        self.engine.reserve_ahead(share, bytes, value_bytes)
    }
    fn release_body(&mut self, share: Share) {
        self.engine.release_body(share);
    }
    fn refuse_body(&mut self, share: Share) {
        self.engine.refuse_body(share);
    }
    fn intake_room(&self, held: usize) -> usize {
        self.engine.intake_room(held)
    }
    fn keep_intake(&mut self, before: usize, held: usize) {
        self.engine.keep_intake(before, held);
    }
    fn is_strained(&self) -> bool {
        self.engine.is_strained()
    }
    fn note_unread(&mut self, is_unread: bool) {
        self.engine.note_unread(is_unread);
    }
    fn fetch(&mut self, slot: u32, is_begun: bool) -> bool {
        self.engine.fetch(slot, is_begun)
    }
    fn await_room(&mut self, id: ConnectionId) {
        self.engine.await_room(id);
    }
    fn revisit(&mut self, id: ConnectionId) {
        self.engine.revisit(id);
    }
}
