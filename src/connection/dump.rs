//! A client lists all items: one worker after another, a piece at a time.
//!
//! Nothing is kept between two pieces but where the next begins, and none is asked for before the
//! last one is written: however many items there are, and however slowly the client reads, a dump
//! holds the bytes of one piece. It must never take more than one piece from a turn.

use super::slots::Content;
use super::{Connection, Engine, InputState, Progress, Visit};
use crate::base::buffer::Gather;
use crate::base::limits::REQUESTS_PER_VISIT;
use crate::net::Stream;
use crate::protocol::text::{self, DumpKind};
use crate::protocol::{Fixed, Form};
use crate::tier::Outcome;

/// A dump under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dump {
    kind: DumpKind,
    /// The worker whose items are listed.
    worker: u8,
    /// Where the next piece begins.
    from: u64,
}

const FORM: Form = Form::Text(text::Form::Dump);

impl Connection {
    /// Begins to list the items, unless another connection does: what a dump costs other clients
    /// is bounded.
    pub(super) fn begin_dump<S: Stream, E: Engine>(
        &mut self,
        kind: DumpKind,
        visit: &mut Visit<'_, S, E>,
    ) {
        if visit.engine.begin_dump() {
            self.state = InputState::Dump(Dump { kind, worker: 0, from: 0 });
        } else {
            self.reply(Content::Fixed(text::DUMP_BUSY), visit);
        }
    }

    /// Asks for the next piece, if the client has read the last one.
    pub(super) fn dump<S: Stream, E: Engine>(
        &mut self,
        dump: Dump,
        visit: &mut Visit<'_, S, E>,
    ) -> Progress {
        if !self.queue.is_empty() {
            return Progress::Wait;
        }
        // Other connections are next.
        visit.scratch.cost = REQUESTS_PER_VISIT;
        if usize::from(dump.worker) == visit.engine.workers() {
            self.end_dump(visit.engine);
            self.reply(Content::Fixed(dump.kind.end()), visit);
            return Progress::More;
        }
        let slot = visit.engine.slots().next_free().expect("may_start was checked");
        let submitted = visit.engine.dump(usize::from(dump.worker), dump.from, slot, visit.now);
        let content = Content::submitted(FORM, None, submitted);
        visit.engine.slots().push(&mut self.queue, visit.id, content);
        self.write_ready(visit.stream, visit.engine);
        Progress::More
    }

    /// Whether items are being listed.
    #[inline(always)]
    pub(super) fn is_dumping(&self) -> bool {
        matches!(self.state, InputState::Dump(_))
    }

    fn end_dump<E: Engine>(&mut self, engine: &mut E) {
        self.state = InputState::Command;
        engine.end_dump();
    }

    /// Makes text of the piece in `slot`, the next reply, if it is there.
    #[cold]
    pub(super) fn encode_piece<E: Engine>(&mut self, slot: u32, engine: &mut E) {
        let InputState::Dump(mut dump) = self.state else { return };
        let Content::Ready { form: FORM, outcome, .. } = engine.slots().content(slot) else {
            return;
        };
        let mut is_over = false;
        let encoded = match outcome {
            Outcome::Dumped(piece) => {
                dump.from = piece.next;
                dump.worker += u8::from(piece.next == 0);
                let mut lines = Gather::new();
                piece.items.iter().for_each(|item| dump.kind.write(item, &mut lines));
                Content::Bytes(lines.finish())
            }
            // The same piece once more, in a later turn.
            Outcome::Throttled => Content::Fixed(Fixed::NONE),
            outcome => {
                is_over = true;
                Content::Fixed(text::dump_failure(outcome))
            }
        };
        *engine.slots().content_mut(slot) = encoded;
        self.state = InputState::Dump(dump);
        if is_over {
            self.end_dump(engine);
        }
    }
}
