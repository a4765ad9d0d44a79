//! What a connection does before its client has logged in: nothing else.
//!
//! No byte reaches a parser of commands before that, and nothing is kept of what was sent. While a
//! login is verified, what follows it waits in the stream.

use super::slots::Content;
use super::{Connection, Engine, InputState, Progress, Protocol, SCRATCH_BYTES, Submitted};
use super::{Verdict, Visit, foreign};
use crate::net::Stream;
use crate::protocol::login::{self, LOGIN_BYTES_MAX, Login};
use crate::protocol::{Fixed, Form, LoginForm, text};
use crate::tier::Outcome;

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
            None => login::parse(self.is_binary(input), input),
        };
        let (content, consumed) = match parsed {
            Login::NeedMore => {
                self.is_partial = bytes > 0;
                return Progress::Wait;
            }
            Login::Value { value_bytes, consumed } => {
                visit.stream.consume(consumed);
                self.state = InputState::Login(Some(value_bytes));
                return Progress::More;
            }
            Login::Attempt { user, password, form, consumed } => {
                let peer = visit.stream.peer();
                let slot = visit.engine.slots().next_free().expect("may_start was checked");
                let verdict = visit.engine.log_in(peer, user, password, slot, visit.now);
                let content = match verdict {
                    Verdict::Pending => {
                        self.state = InputState::Verify(form);
                        Content::submitted(FORM, None, Submitted::Waiting(1))
                    }
                    verdict => self.judged(form, verdict),
                };
                (content, consumed)
            }
            Login::Refused { reply, consumed, close } => {
                foreign::note_proxy_header(visit.stream, visit.engine, visit.now);
                self.state = InputState::Login(None);
                self.is_closing |= close;
                (Content::Fixed(reply), consumed)
            }
        };
        visit.scratch.stitched[..bytes].fill(0);
        visit.stream.consume(consumed);
        self.reply(content, visit);
        Progress::More
    }

    /// What a client may do after a verdict, and the reply to its login.
    fn judged<V>(&mut self, form: LoginForm, verdict: Verdict) -> Content<V> {
        if verdict == Verdict::Admitted {
            let is_text = form == LoginForm::Text;
            self.protocol = Some(if is_text { Protocol::Text } else { Protocol::Binary });
            self.state = InputState::Command;
            return Content::Fixed(form.admitted());
        }
        self.state = InputState::Login(None);
        self.is_closing |= verdict == Verdict::Limited;
        Content::Fixed(form.refused())
    }

    /// The client is gone, or has ended its stream: a login of its own that waits behind others is
    /// not verified, and has no reply. Whether that is so.
    #[inline(always)]
    pub(super) fn give_up_login<E: Engine>(&mut self, is_gone: bool, engine: &mut E) -> bool {
        matches!(self.state, InputState::Verify(_)) && self.cancel_login(is_gone, engine)
    }

    #[cold]
    fn cancel_login<E: Engine>(&mut self, is_gone: bool, engine: &mut E) -> bool {
        let slot = self.queue.last().expect("that of the login");
        let is_cancelled = matches!(engine.slots().content(slot), Content::Waiting { .. })
            && engine.cancel_login(slot, is_gone);
        if is_cancelled {
            *engine.slots().content_mut(slot) = Content::Fixed(Fixed::NONE);
            self.state = InputState::Login(None);
        }
        is_cancelled
    }

    /// Takes the verdict on a login from `slot`, the only one, if it is there.
    pub(super) fn take_verdict<E: Engine>(&mut self, form: LoginForm, slot: u32, engine: &mut E) {
        let Content::Ready { outcome, .. } = engine.slots().content(slot) else { return };
        let reply = self.judged(form, Verdict::of(outcome));
        *engine.slots().content_mut(slot) = reply;
    }
}

/// That of a slot that waits for a verdict; nothing is encoded with it.
const FORM: Form = Form::Text(text::Form::Line);

impl Verdict {
    /// The outcome that brings it to a slot.
    pub fn outcome<V>(self) -> Outcome<V> {
        match self {
            Verdict::Admitted => Outcome::Stored { cas: 0 },
            Verdict::Refused => Outcome::NotStored,
            Verdict::Limited | Verdict::Pending => Outcome::Throttled,
        }
    }

    fn of<V>(outcome: &Outcome<V>) -> Verdict {
        match outcome {
            Outcome::Stored { .. } => Verdict::Admitted,
            Outcome::NotStored => Verdict::Refused,
            _ => Verdict::Limited,
        }
    }
}
