//! Meta commands: parsed apart from the others, so that those stay small.
//!
//! A plain mg of an item in memory is answered as a get is: from where the item lies, with nothing
//! held. Nothing here knows what a flag means.

use super::parsed::{Parsed, hit_bytes, own_key, whole_value};
use super::stores::terminator_bytes;
use super::{Connection, Engine, Progress, Scratch, Visit, reply};
use crate::base::buffer::Body;
use crate::base::clock::Now;
use crate::base::limits::{COST_OF_EXTENDING, KEY_BYTES_MAX};
use crate::net::Stream;
use crate::orchestrator::{Action, InL1, Operation};
use crate::protocol::text::{self, MetaRefusal, MetaReply};
use crate::protocol::{Fixed, Form, Head};
use crate::tier::{MetaVerb, Outcome, StoreMode, Value};

impl Connection {
    /// Answers a plain mg whose key and flags are in the scratch, before which no reply is pending.
    /// Its `consumed` bytes are still in the stream.
    #[inline(never)]
    pub(super) fn meta_get<S: Stream, E: Engine>(
        &mut self,
        consumed: usize,
        visit: &mut Visit<'_, S, E>,
    ) -> Progress {
        let Visit { stream, engine, scratch, now, .. } = visit;
        let (key, MetaReply { form, opaque }) = (&scratch.key, &scratch.meta);
        let is_answered = engine.read_now(key, true, *now, |hit| {
            reply::write_meta_at_once(*stream, *form, (key, opaque), hit)
        });
        if is_answered.is_ok() {
            stream.consume(consumed);
            return Progress::More;
        }
        let (line, rest) = stream.received().split_at(consumed);
        let Scratch { head, meta, cost, .. } = &mut **scratch;
        let parsed = Parsed::meta(line, rest, (head, meta, cost), *engine, *now);
        self.execute(parsed, consumed, visit)
    }
}

impl<V: Value> Parsed<V> {
    /// A meta command, executed immediately if it needs no waiting. `rest` is the input after its
    /// line.
    #[inline(never)]
    pub(super) fn meta<E: Engine<Value = V>>(
        line: &[u8],
        rest: &[u8],
        (head, kept, cost): (&mut Head, &mut MetaReply, &mut usize),
        engine: &mut E,
        now: Now,
    ) -> Parsed<V> {
        *cost = 1;
        let command = match text::parse_meta(line, engine.limits(), now) {
            Ok(command) => command,
            Err(MetaRefusal { reply, skip_bytes }) => {
                return Parsed::Bad { reply, skip_bytes, close: false };
            }
        };
        let mut room = [0; KEY_BYTES_MAX];
        let key = command.key_in(&mut room);
        let text::MetaCommand { opaque, meta, form, value_bytes, is_too_large, .. } = command;
        if matches!(meta.verb, MetaVerb::Store(StoreMode::Append | StoreMode::Prepend)) {
            *cost = COST_OF_EXTENDING;
        }
        let (is_store, terminator) = (meta.is_store(), terminator_bytes(true));
        let body = match is_store && !is_too_large {
            true => whole_value(rest, value_bytes, true),
            false => Some(&b""[..]),
        };
        let action = if is_too_large { Action::StoreTooLarge } else { Action::Meta(meta) };
        let skip_bytes = if is_too_large { value_bytes + terminator } else { 0 };
        let body_bytes = if is_store && !is_too_large { value_bytes + terminator } else { 0 };
        let mut in_l1 = InL1::Unasked;
        if let Some(body) = body {
            match engine.try_now(key, action, Body::Slice(body), now) {
                Ok(outcome) => {
                    head.clear();
                    let length = hit_bytes(&outcome);
                    let encoded = text::encode_meta(form, key, opaque, &outcome, length, head);
                    let value = match outcome {
                        Outcome::Hit(hit) if encoded.with_value => Some(hit.value),
                        _ => None,
                    };
                    return Parsed::Done { value, tail: encoded.tail, body_bytes, skip_bytes };
                }
                Err(found) => in_l1 = found,
            }
        } else if rest.len() >= body_bytes {
            let reply = Fixed::new(text::BAD_DATA_CHUNK);
            return Parsed::Bad { reply, skip_bytes: body_bytes, close: false };
        }
        kept.set(form, opaque);
        let operation = Operation { in_l1, ..Operation::new(own_key(key), action) };
        let form = Form::Text(text::Form::Meta);
        match body_bytes {
            0 => Parsed::Operation { operation, form, skip_bytes },
            _ => Parsed::Store { operation, form, value_bytes, is_text: true },
        }
    }
}
