//! A client's meta command as a request to a memcached: the same flags, in the order in which they
//! take effect, and those that report what a reply may return.

use super::{begin, put_expiry, put_number};
use crate::base::clock::{Expiry, Now};
use crate::tier::link::RequestWriter;
use crate::tier::{Meta, MetaFlags, MetaVerb, StoreMode};

/// Writes the command, for a store without its value and the end of that. `cas` is the condition's
/// as the server knows it.
pub fn command(
    request: &mut RequestWriter<'_>,
    key: &[u8],
    meta: &Meta,
    cas: u64,
    value_bytes: usize,
    now: Now,
) {
    match meta.verb {
        MetaVerb::Get | MetaVerb::Debug => get(request, key, meta, now),
        MetaVerb::Store(mode) => store(request, key, (meta, mode), (cas, value_bytes), now),
        MetaVerb::Delete => delete(request, key, meta, cas, now),
        MetaVerb::Count { decrement } => count(request, key, (meta, decrement), cas, now),
    }
    request.put(b"\r\n");
}

/// Writes T, N and t. memcached executes them in their order.
fn expiries(request: &mut RequestWriter<'_>, meta: &Meta, now: Now) {
    let after_touch = meta.has(MetaFlags::EXPIRY_AFTER_TOUCH);
    let after_vivify = meta.has(MetaFlags::EXPIRY_AFTER_VIVIFY);
    let touch = (MetaFlags::TOUCH, b" T", meta.expiry, after_touch);
    let vivify = (MetaFlags::VIVIFY, b" N", meta.vivify, after_vivify);
    let is_touch_first = meta.has(MetaFlags::VIVIFY_AFTER_TOUCH);
    let in_order = if is_touch_first { [touch, vivify] } else { [vivify, touch] };
    let mut waits_for = usize::from(after_touch) + usize::from(after_vivify);
    if waits_for == 0 {
        request.put(b" t");
    }
    for (flag, name, expiry, is_reported) in in_order {
        if meta.has(flag) {
            put_expiry(request, name, expiry, now);
        }
        if is_reported {
            waits_for -= 1;
            if waits_for == 0 {
                request.put(b" t");
            }
        }
    }
}

fn get(request: &mut RequestWriter<'_>, key: &[u8], meta: &Meta, now: Now) {
    begin(request, b"mg ", key, None);
    request.put(b" f c h l");
    let is_after_touch = meta.has(MetaFlags::RECACHE_AFTER_TOUCH);
    if meta.has(MetaFlags::RECACHE) && !is_after_touch {
        put_expiry(request, b" R", meta.recache, now);
    }
    expiries(request, meta, now);
    if is_after_touch {
        put_expiry(request, b" R", meta.recache, now);
    }
    // Otherwise it has no effect, and older servers do not know it.
    if meta.has(MetaFlags::VIVIFY) {
        chosen(request, meta);
    }
    if meta.has(MetaFlags::NO_USE) || meta.verb == MetaVerb::Debug {
        request.put(b" u");
    }
    if meta.has(MetaFlags::VALUE) || meta.verb == MetaVerb::Debug {
        request.put(b" v");
    }
}

/// E, if there is one.
fn chosen(request: &mut RequestWriter<'_>, meta: &Meta) {
    if let Some(cas) = meta.chosen_cas() {
        put_number(request, b" E", cas);
    }
}

fn condition(request: &mut RequestWriter<'_>, meta: &Meta, cas: u64) {
    if meta.has(MetaFlags::CAS) {
        put_number(request, b" C", cas);
    }
}

/// What a new item gets.
fn fields(request: &mut RequestWriter<'_>, meta: &Meta, now: Now) {
    if meta.flags != 0 {
        put_number(request, b" F", meta.flags.into());
    }
    if meta.expiry != Expiry::NEVER {
        put_expiry(request, b" T", meta.expiry, now);
    }
}

fn store(
    request: &mut RequestWriter<'_>,
    key: &[u8],
    (meta, mode): (&Meta, StoreMode),
    (cas, value_bytes): (u64, usize),
    now: Now,
) {
    begin(request, b"ms ", key, Some(value_bytes));
    fields(request, meta, now);
    condition(request, meta, cas);
    chosen(request, meta);
    if meta.has(MetaFlags::INVALIDATE) {
        request.put(b" I");
    }
    if meta.has(MetaFlags::VIVIFY) {
        put_expiry(request, b" N", meta.vivify, now);
    }
    request.put(match mode {
        StoreMode::Set => b" c",
        StoreMode::Add => b" ME c",
        StoreMode::Replace => b" MR c",
        StoreMode::Append => b" MA c",
        StoreMode::Prepend => b" MP c",
    });
}

fn delete(request: &mut RequestWriter<'_>, key: &[u8], meta: &Meta, cas: u64, now: Now) {
    begin(request, b"md ", key, None);
    condition(request, meta, cas);
    let is_empty = meta.has(MetaFlags::EMPTY);
    if is_empty {
        request.put(b" x");
        fields(request, meta, now);
    }
    if meta.has(MetaFlags::INVALIDATE) {
        request.put(b" I");
        if meta.has(MetaFlags::TOUCH) && !is_empty {
            put_expiry(request, b" T", meta.expiry, now);
        }
    }
    if is_empty || meta.has(MetaFlags::INVALIDATE) {
        chosen(request, meta);
    }
}

fn count(
    request: &mut RequestWriter<'_>,
    key: &[u8],
    (meta, decrement): (&Meta, bool),
    cas: u64,
    now: Now,
) {
    begin(request, b"ma ", key, None);
    put_number(request, if decrement { b" MD D" } else { b" MI D" }, meta.delta);
    if meta.has(MetaFlags::VIVIFY) {
        put_number(request, b" J", meta.initial);
    }
    condition(request, meta, cas);
    chosen(request, meta);
    expiries(request, meta, now);
    request.put(b" c v");
}
