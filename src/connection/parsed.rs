//! A parsed command that no longer borrows the input: either executed already, if that needs no
//! waiting, or owned.
//!
//! A parsed command borrows the bytes of its stream, which cannot be consumed in that time. Nothing
//! here accesses a stream or a queue; it must not copy data of commands that can be executed
//! without.

use super::Engine;
use super::stores::terminator_bytes;
use crate::base::buffer::{Body, Gather, Key};
use crate::base::clock::Now;
use crate::base::limits::COST_OF_EXTENDING;
use crate::orchestrator::{Action, InL1, Operation};
use crate::protocol::watch::Wanted;
use crate::protocol::{self, Command, Control, Fixed, Form, Head, Keys, Request, stats, text};
use crate::tier::{Outcome, Store, StoreMode, Value};

/// A command that no longer borrows the input.
pub(super) enum Parsed<V> {
    /// Executed; the head of its reply is in the scratch. `body_bytes` more are consumed.
    Done {
        value: Option<V>,
        tail: &'static [u8],
        body_bytes: usize,
        skip_bytes: usize,
    },
    Operation {
        operation: Operation,
        form: Form,
        skip_bytes: usize,
    },
    Store {
        operation: Operation,
        form: Form,
        value_bytes: usize,
        is_text: bool,
    },
    Keys(Keys),
    Dump(text::DumpKind),
    Watch(Wanted),
    /// The connections of all workers are to be listed; the reply begins with these lines.
    Connections(Gather),
    BadLine(Fixed),
    Reply(Gather),
    Bad {
        reply: Fixed,
        skip_bytes: usize,
        close: bool,
    },
}

impl<V: Value> Parsed<V> {
    /// Executes immediately an operation that needs no waiting. `rest` is the input after the
    /// command's head.
    #[inline(always)]
    pub(super) fn new<E: Engine<Value = V>>(
        command: Command<'_>,
        rest: &[u8],
        head: &mut Head,
        engine: &mut E,
        now: Now,
    ) -> Parsed<V> {
        // By far the most frequent case, and therefore inlined into the caller.
        let Command::Operation { request, skip_bytes } = command else {
            return Parsed::other(command, rest, head, engine, now);
        };
        match execute_now(&request, Body::EMPTY, head, engine, now) {
            Ok((value, tail)) => Parsed::Done { value, tail, body_bytes: 0, skip_bytes },
            Err(in_l1) => Parsed::owned(&request, in_l1, skip_bytes),
        }
    }

    /// A store that is not executed yet. Its value is still in the stream, or to come.
    #[inline(never)]
    pub(super) fn store(request: &Request<'_>, value_bytes: usize, is_text: bool) -> Parsed<V> {
        Parsed::Store { operation: own(request), form: request.form, value_bytes, is_text }
    }

    #[inline(never)]
    pub(super) fn owned(request: &Request<'_>, in_l1: InL1, skip_bytes: usize) -> Parsed<V> {
        let operation = Operation { in_l1, ..own(request) };
        Parsed::Operation { operation, form: request.form, skip_bytes }
    }

    #[inline(never)]
    fn other<E: Engine<Value = V>>(
        command: Command<'_>,
        rest: &[u8],
        head: &mut Head,
        engine: &mut E,
        now: Now,
    ) -> Parsed<V> {
        match command {
            Command::Operation { .. } | Command::Meta { .. } => unreachable!("the caller's"),
            Command::Store { request, value_bytes, is_text } => {
                let body_bytes = value_bytes + terminator_bytes(is_text);
                if let Some(value) = whole_value(rest, value_bytes, is_text) {
                    let value = Body::Slice(value);
                    if let Ok((value, tail)) = execute_now(&request, value, head, engine, now) {
                        return Parsed::Done { value, tail, body_bytes, skip_bytes: 0 };
                    }
                } else if rest.len() >= body_bytes {
                    let reply = Fixed::new(request.form.bad_data_chunk());
                    return Parsed::Bad { reply, skip_bytes: body_bytes, close: false };
                }
                Parsed::store(&request, value_bytes, is_text)
            }
            Command::Keys(keys) => Parsed::Keys(keys),
            Command::Dump { kind } => Parsed::Dump(kind),
            Command::Watch(wanted) => Parsed::Watch(wanted),
            Command::BadLine { reply } => Parsed::BadLine(reply),
            Command::Control { control, form } => {
                let mut reply = Gather::new();
                engine.control(control, form, now, &mut reply);
                match control {
                    Control::Stats(words) if stats::lists_connections(words, form) => {
                        Parsed::Connections(reply)
                    }
                    _ => Parsed::Reply(reply),
                }
            }
            Command::Bad { reply, skip_bytes, close } => Parsed::Bad { reply, skip_bytes, close },
            Command::Quit { reply } => Parsed::Bad { reply, skip_bytes: 0, close: true },
        }
    }
}

/// Length of a hit's value; 0 if it is none.
#[inline(always)]
pub(super) fn hit_bytes<V: Value>(outcome: &Outcome<V>) -> usize {
    match outcome {
        Outcome::Hit(hit) => hit.value.len(),
        _ => 0,
    }
}

/// A step through a multi-get that no longer borrows the input.
#[allow(clippy::large_enum_variant, reason = "one at a time, and never kept")]
pub(super) enum NextKey<V> {
    NeedMore,
    /// The key was looked up, and the head of its reply is in the scratch.
    Done {
        value: Option<V>,
        tail: &'static [u8],
        consumed: usize,
    },
    Key {
        key: Key,
        in_l1: InL1,
        consumed: usize,
    },
    End(usize),
    Bad(Fixed, usize),
}

impl<V: Value> NextKey<V> {
    #[inline]
    pub(super) fn new<E: Engine<Value = V>>(
        step: text::KeyStep<'_>,
        keys: Keys,
        head: &mut Head,
        engine: &mut E,
        now: Now,
    ) -> NextKey<V> {
        match step {
            text::KeyStep::NeedMore => NextKey::NeedMore,
            text::KeyStep::Key { key, consumed } => {
                let request = Request { key, action: keys.action(), form: keys.form() };
                match execute_now(&request, Body::EMPTY, head, engine, now) {
                    Ok((value, tail)) => NextKey::Done { value, tail, consumed },
                    Err(in_l1) => NextKey::Key { key: own_key(key), in_l1, consumed },
                }
            }
            text::KeyStep::End { consumed } => NextKey::End(consumed),
            text::KeyStep::Bad { reply, consumed } => NextKey::Bad(reply, consumed),
        }
    }
}

/// Executes a request where that takes no waiting, and encodes the head of its reply while its key
/// is still there. Returns the value and what follows it.
#[inline(always)]
fn execute_now<E: Engine>(
    request: &Request<'_>,
    value: Body<'_>,
    head: &mut Head,
    engine: &mut E,
    now: Now,
) -> Result<(Option<E::Value>, &'static [u8]), InL1> {
    let outcome = engine.try_now(request.key, request.action, value, now)?;
    let value_bytes = hit_bytes(&outcome);
    head.clear();
    let encoded = protocol::encode(request.form, request.key, &outcome, value_bytes, head);
    let value = match outcome {
        Outcome::Hit(hit) if encoded.with_value => Some(hit.value),
        _ => None,
    };
    Ok((value, encoded.tail))
}

/// The value at the start of `input`, if all of it is there and ends as it has to.
#[inline(always)]
pub(super) fn whole_value(input: &[u8], value_bytes: usize, is_text: bool) -> Option<&[u8]> {
    let (value, behind) = input.split_at_checked(value_bytes)?;
    (!is_text || behind.starts_with(b"\r\n")).then_some(value)
}

/// Executes a store where that takes no waiting. Apart from its caller, which all commands pass.
#[inline(never)]
pub(super) fn store_now<E: Engine>(
    key: &[u8],
    store: Store,
    value: &[u8],
    engine: &mut E,
    now: Now,
) -> Result<Outcome<E::Value>, InL1> {
    engine.try_now(key, Action::Store(store), Body::Slice(value), now)
}

fn own(request: &Request<'_>) -> Operation {
    Operation::new(own_key(request.key), request.action)
}

pub(super) fn own_key(key: &[u8]) -> Key {
    Key::new(key).expect("the parsers refuse longer keys")
}

/// What a command counts for among [`REQUESTS_PER_VISIT`].
#[inline]
pub(super) fn cost_of(command: &Command<'_>) -> usize {
    match command {
        Command::Store { request: Request { action: Action::Store(store), .. }, .. }
            if matches!(store.mode, StoreMode::Append | StoreMode::Prepend) =>
        {
            COST_OF_EXTENDING
        }
        Command::Control { control: Control::Stats(_), .. } => COST_OF_EXTENDING,
        _ => 1,
    }
}
