//! Replies to meta commands: a status of two letters, and the flags that the request asked for, in
//! its order.
//!
//! In quiet mode what a client expects is not answered: `EN` of a get, `HD` of everything else. A
//! failure always is.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::meta::{MetaForm, MetaKind, Returned};
use super::{NO_VALUE, TOO_LARGE, push_number};
use crate::base::limits::{KEY_BYTES_MAX, item_bytes};
use crate::protocol::{Encoded, Sink};
use crate::tier::meta::LEFT_FOR_EVER;
use crate::tier::{Hit, ItemInfo, ItemState, Outcome};

/// What a reply may return.
struct Facts<'a> {
    key: &'a [u8],
    opaque: &'a [u8],
    cas: u64,
    flags: u32,
    value_bytes: u64,
    state: ItemState,
}

/// Writes the head of the reply to a meta command, or nothing if there is none. `key` is the item's
/// key and `opaque` what the client sent with it; `value_bytes` is the length of a hit's value.
#[inline(never)]
pub fn encode<V>(
    form: MetaForm,
    key: &[u8],
    opaque: &[u8],
    outcome: &Outcome<V>,
    value_bytes: usize,
    head: &mut impl Sink,
) -> Encoded {
    if let Outcome::Hit(Hit { flags, cas, state, .. }) = outcome
        && form.kind == MetaKind::Get
    {
        let value_bytes = value_bytes as u64;
        let facts = Facts { key, opaque, cas: *cas, flags: *flags, value_bytes, state: *state };
        return put_hit(form, &facts, head);
    }
    encode_other(form, key, opaque, outcome, value_bytes, head);
    NO_VALUE
}

/// The same for all but a hit of mg, which no value follows.
#[inline(never)]
fn encode_other<V>(
    form: MetaForm,
    key: &[u8],
    opaque: &[u8],
    outcome: &Outcome<V>,
    value_bytes: usize,
    head: &mut impl Sink,
) {
    let nothing = Facts {
        key,
        opaque,
        cas: 0,
        flags: 0,
        value_bytes: u64::from(form.sent_bytes),
        state: ItemState::default(),
    };
    let status = match outcome {
        Outcome::Hit(hit) => return put_debug(form, key, hit, value_bytes, head),
        Outcome::Changed(info) => return put_changed(form, info, nothing, head),
        Outcome::Deleted if form.is_quiet => return,
        Outcome::Deleted => b"HD",
        Outcome::Miss if form.kind == MetaKind::Get && form.is_quiet => return,
        Outcome::Miss if matches!(form.kind, MetaKind::Get | MetaKind::Debug) => b"EN",
        Outcome::Miss => b"NF",
        Outcome::NotStored => b"NS",
        Outcome::Exists => b"EX",
        failure => {
            head.put(line_for(form.kind, failure));
            return;
        }
    };
    head.put(status);
    for returned in form.returned() {
        let is_known = match form.kind {
            // memcached answers these even of an item that it did not store.
            MetaKind::Store => true,
            _ => matches!(returned, Returned::Key | Returned::Opaque),
        };
        if is_known && form.kind != MetaKind::Debug {
            put_returned(form, returned, &nothing, head);
        }
    }
    head.put(b"\r\n");
}

/// A hit of mg.
#[inline]
fn put_hit(form: MetaForm, facts: &Facts<'_>, head: &mut impl Sink) -> Encoded {
    if form.with_value {
        head.put(b"VA ");
        push_number(head, facts.value_bytes);
    } else {
        head.put(b"HD");
    }
    form.returned().for_each(|returned| put_returned(form, returned, facts, head));
    let ItemState { is_stale, is_token_sent, is_won, .. } = facts.state;
    for (is_marked, mark) in [(is_token_sent, b" Z"), (is_stale, b" X"), (is_won, b" W")] {
        if is_marked {
            head.put(mark);
        }
    }
    head.put(b"\r\n");
    match form.with_value {
        true => Encoded { with_value: true, tail: b"\r\n" },
        false => NO_VALUE,
    }
}

/// What ms, md and ma made of an item.
fn put_changed(form: MetaForm, info: &ItemInfo, facts: Facts<'_>, head: &mut impl Sink) {
    if form.is_quiet {
        return;
    }
    let state = ItemState { left_s: info.left_s, ..facts.state };
    let value_bytes = u64::from(info.value_bytes);
    let facts = Facts { cas: info.cas, value_bytes, state, ..facts };
    let mut buffer = itoa::Buffer::new();
    let number = match form.kind {
        MetaKind::Count if form.with_value => Some(buffer.format(info.number).as_bytes()),
        _ => None,
    };
    if let Some(digits) = number {
        head.put(b"VA ");
        push_number(head, digits.len() as u64);
    } else {
        head.put(b"HD");
    }
    form.returned().for_each(|returned| put_returned(form, returned, &facts, head));
    head.put(b"\r\n");
    if let Some(digits) = number {
        head.put(digits);
        head.put(b"\r\n");
    }
}

fn put_returned(form: MetaForm, returned: Returned, facts: &Facts<'_>, head: &mut impl Sink) {
    let mut number = |flag: &[u8], number: u64| {
        head.put(flag);
        push_number(head, number);
    };
    match returned {
        Returned::Cas => number(b" c", facts.cas),
        Returned::Flags => number(b" f", facts.flags.into()),
        Returned::Fetched => number(b" h", facts.state.is_fetched.into()),
        Returned::Idle => number(b" l", facts.state.idle_s.into()),
        Returned::Size => number(b" s", facts.value_bytes),
        Returned::Left if facts.state.left_s == LEFT_FOR_EVER => head.put(b" t-1"),
        Returned::Left => number(b" t", facts.state.left_s.into()),
        Returned::Opaque => {
            head.put(b" O");
            head.put(facts.opaque);
        }
        Returned::Key => {
            head.put(b" k");
            put_key(form, facts.key, head);
            if form.is_base64 {
                head.put(b" b");
            }
        }
    }
}

/// A key as the client sent it.
fn put_key(form: MetaForm, key: &[u8], head: &mut impl Sink) {
    if !form.is_base64 {
        return head.put(key);
    }
    let mut encoded = [0; KEY_BYTES_MAX.div_ceil(3) * 4];
    match STANDARD.encode_slice(key, &mut encoded) {
        Ok(bytes) => head.put(&encoded[..bytes]),
        Err(_) => unreachable!("room for the longest key"),
    }
}

/// The line of me.
fn put_debug<V>(
    form: MetaForm,
    key: &[u8],
    hit: &Hit<V>,
    value_bytes: usize,
    head: &mut impl Sink,
) {
    head.put(b"ME ");
    put_key(form, key, head);
    head.put(b" exp=");
    match hit.state.left_s {
        LEFT_FOR_EVER => head.put(b"-1"),
        left_s => push_number(head, left_s.into()),
    }
    head.put(b" la=");
    push_number(head, hit.state.idle_s.into());
    head.put(b" cas=");
    push_number(head, hit.cas);
    head.put(if hit.state.is_fetched { b" fetch=yes" } else { b" fetch=no" });
    // There are no slab classes. The size is that which memcached counts.
    head.put(b" cls=1 size=");
    push_number(head, item_bytes(key.len(), hit.flags, value_bytes) as u64);
    head.put(b"\r\n");
}

fn line_for<V>(kind: MetaKind, outcome: &Outcome<V>) -> &'static [u8] {
    match (outcome, kind) {
        (Outcome::NonNumeric, _) => {
            b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"
        }
        (Outcome::TooLarge, _) => TOO_LARGE,
        (Outcome::Unsupported, MetaKind::Get | MetaKind::Store) => b"CLIENT_ERROR invalid flag\r\n",
        (Outcome::Unsupported, _) => b"CLIENT_ERROR invalid or duplicate flag\r\n",
        (Outcome::OutOfMemory, MetaKind::Get) => {
            b"SERVER_ERROR out of memory writing get response\r\n"
        }
        (Outcome::OutOfMemory, MetaKind::Store) => b"SERVER_ERROR out of memory storing object\r\n",
        (Outcome::OutOfMemory, _) => b"SERVER_ERROR out of memory\r\n",
        (Outcome::Throttled, _) => b"SERVER_ERROR temporarily overloaded\r\n",
        _ => b"SERVER_ERROR backend failure\r\n",
    }
}
