//! A client lists all items, or all connections: one worker after another, a piece at a time.
//!
//! Nothing is kept between two pieces but where the next begins, and none is asked for before the
//! last one is written: however much there is to list, and however slowly the client reads, a list
//! holds the bytes of one piece. It must never take more than one piece from a turn, nor most of a
//! worker's time: other clients' requests wait behind a piece.

use super::deadlines::Stall;
use super::slots::Content;
use super::{Connection, Engine, InputState, Progress, Visit};
use crate::base::buffer::Gather;
use crate::base::clock::Now;
use crate::base::limits::{LIST_INTERVAL_US, REQUESTS_PER_VISIT};
use crate::net::Stream;
use crate::protocol::text::{self, DumpKind};
use crate::protocol::{Fixed, Form, stats};
use crate::tier::{Outcome, Value};

/// What is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Items(DumpKind),
    Connections,
}

/// A list under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listing {
    subject: Subject,
    /// The worker that is asked.
    worker: u8,
    /// Where the next piece begins.
    from: u64,
    /// When the next piece may be asked for, in microseconds of uptime.
    due_us: u64,
}

const FORM: Form = Form::Text(text::Form::Dump);

impl Listing {
    /// From the start.
    pub(super) fn new(subject: Subject) -> Listing {
        Listing { subject, worker: 0, from: 0, due_us: 0 }
    }

    /// The next piece begins there; 0: at the start of the next worker's part.
    fn go_on(&mut self, next: u64) {
        self.from = next;
        self.worker += u8::from(next == 0);
    }

    fn end(self) -> Fixed {
        match self.subject {
            Subject::Items(kind) => kind.end(),
            Subject::Connections => stats::END,
        }
    }
}

impl Connection {
    /// Begins to list the items, unless another connection does: what a dump costs other clients
    /// is bounded.
    pub(super) fn begin_dump<S: Stream, E: Engine>(
        &mut self,
        kind: DumpKind,
        visit: &mut Visit<'_, S, E>,
    ) {
        if visit.engine.begin_dump() {
            self.state = InputState::List(Listing::new(Subject::Items(kind)));
        } else {
            self.reply(Content::Fixed(text::DUMP_BUSY), visit);
        }
    }

    /// Asks for the next piece, if the client has read the last one.
    pub(super) fn list<S: Stream, E: Engine>(
        &mut self,
        listing: Listing,
        visit: &mut Visit<'_, S, E>,
    ) -> Progress {
        if !self.queue.is_empty() {
            return Progress::Wait;
        }
        // Other connections are next.
        visit.scratch.cost = REQUESTS_PER_VISIT;
        let Listing { subject, worker, from, due_us } = listing;
        if visit.now.uptime_us < due_us {
            visit.engine.revisit(visit.id);
            return Progress::Wait;
        }
        let due_us = visit.now.uptime_us + LIST_INTERVAL_US;
        self.state = InputState::List(Listing { due_us, ..listing });
        let worker = usize::from(worker);
        if worker == visit.engine.workers() {
            self.end_list(visit.engine);
            self.reply(Content::Fixed(listing.end()), visit);
            return Progress::More;
        }
        let slot = visit.engine.slots().next_free().expect("may_start was checked");
        let submitted = match subject {
            Subject::Items(_) => visit.engine.dump(worker, from, slot, visit.now),
            Subject::Connections => visit.engine.list_connections(worker, from, slot),
        };
        let content = Content::submitted(FORM, None, submitted);
        visit.engine.slots().push(&mut self.queue, visit.id, content);
        self.write_ready(visit.stream, visit.engine);
        Progress::More
    }

    /// Whether something is being listed.
    #[inline(always)]
    pub(super) fn is_listing(&self) -> bool {
        matches!(self.state, InputState::List(_))
    }

    /// What it does, by memcached's name for `stats conns`.
    pub fn activity(&self) -> &'static str {
        match self.state {
            _ if self.is_closing => "conn_closing",
            _ if self.stall == Stall::Output => "conn_mwrite",
            InputState::Body { .. } => "conn_nread",
            InputState::Line | InputState::Skip { .. } => "conn_swallow",
            InputState::Keys(_) => "conn_parse_cmd",
            InputState::List(Listing { subject: Subject::Items(_), .. }) => "conn_watch",
            InputState::Watch => "conn_watch",
            InputState::List(_) => "conn_parse_cmd",
            InputState::Verify(_) => "conn_io_queue",
            InputState::Command | InputState::Login(_) if !self.queue.is_empty() => "conn_io_queue",
            InputState::Command | InputState::Login(_) => "conn_read",
        }
    }

    /// Whole seconds since it was last driven.
    pub fn idle_s(&self, now: Now) -> u64 {
        now.uptime_us.saturating_sub(self.driven_us) / 1_000_000
    }

    /// Ends the list, if there is one.
    pub(super) fn end_list<E: Engine>(&mut self, engine: &mut E) {
        let InputState::List(listing) = self.state else { return };
        self.state = InputState::Command;
        if let Subject::Items(_) = listing.subject {
            engine.end_dump();
        }
    }

    /// Makes text of the piece in `slot`, the next reply, if it is there.
    #[cold]
    pub(super) fn encode_piece<E: Engine>(&mut self, slot: u32, engine: &mut E) {
        let InputState::List(mut listing) = self.state else { return };
        let Content::Ready { form: FORM, outcome, .. } = engine.slots().content(slot) else {
            return;
        };
        let mut is_over = false;
        let mut lines = Gather::new();
        let encoded = match (listing.subject, outcome) {
            (Subject::Items(kind), Outcome::Dumped(piece)) => {
                listing.go_on(piece.next);
                piece.items.iter().for_each(|item| kind.write(item, &mut lines));
                Content::Bytes(lines.finish())
            }
            // Its lines, and where the next piece begins.
            (Subject::Connections, Outcome::Hit(piece)) => {
                listing.go_on(piece.cas);
                lines.fill(piece.value.len(), |offset, out| piece.value.copy_to(offset, out));
                Content::Bytes(lines.finish())
            }
            // The same piece once more, in a later turn.
            (_, Outcome::Throttled) => Content::Fixed(Fixed::NONE),
            (_, outcome) => {
                is_over = true;
                Content::Fixed(text::dump_failure(outcome))
            }
        };
        *engine.slots().content_mut(slot) = encoded;
        self.state = InputState::List(listing);
        if is_over {
            self.end_list(engine);
        }
    }
}
