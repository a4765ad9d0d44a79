//! Meta commands of clients, passed through to a memcached.
//!
//! The request has this link's opaque in place of the client's; key and opaque of the reply are the
//! client's, since whoever writes it knows them. What the server answers is the answer, also if it
//! is older and does not know a flag.

use super::gate::GateKind;
use super::key;
use super::meta::{self, requests};
use super::plain::{Plain, hit_of, number, rest};
use crate::base::buffer::{Body, Chain, Key};
use crate::base::clock::Now;
use crate::tier::link::{Down, Head, One, Status};
use crate::tier::meta::left_s;
use crate::tier::{Hit, ItemInfo, Meta, MetaFlags, MetaVerb, Outcome, StoreMode};

/// A cas that no item has.
const NO_CAS: u64 = u64::MAX;

/// A cas that is below that of nearly every item.
const OLD_CAS: u64 = 1;

impl Plain {
    /// Passes a meta command through; `value` is that of a store.
    pub(super) async fn pass(
        &self,
        key: &Key,
        meta: &Meta,
        value: &Chain,
        now: Now,
    ) -> Outcome<Chain> {
        let bytes = key.as_bytes();
        if !key::can_carry(bytes) {
            return Outcome::Failed;
        }
        let gate = match meta.verb {
            MetaVerb::Store(StoreMode::Append | StoreMode::Prepend) => Some(GateKind::Extend),
            MetaVerb::Count { .. } => Some(GateKind::Count),
            _ => None,
        };
        let _pass = match gate {
            None => None,
            Some(kind) => match self.rewrites().enter(kind).await {
                Some(pass) => Some(pass),
                None => return Outcome::Throttled,
            },
        };
        let Ok(batch) = self.link().begin(One::default()) else { return Outcome::Failed };
        let is_lenient = meta.is_store() && meta.has(MetaFlags::INVALIDATE);
        // Of another connection, or of nobody: no item has it.
        let lost = if is_lenient { OLD_CAS } else { NO_CAS };
        let cas = batch.cas(meta.cas).unwrap_or(lost);
        let answer = Plain::request(batch, meta::room(bytes, value.len()), |request| {
            requests::command(request, bytes, meta, cas, value.len(), now);
            if meta.is_store() {
                request.value(Body::Chain(value));
                meta::end_of_value(request);
            }
        });
        match answer.await {
            Ok((head, found)) => outcome_of(meta, &head, found, value.len(), self.link().now()),
            Err(Down) => Outcome::Failed,
        }
    }
}

fn outcome_of(
    meta: &Meta,
    head: &Head,
    found: Chain,
    value_bytes: usize,
    now: Now,
) -> Outcome<Chain> {
    let left_s = left_s(head.expiry, now);
    let info = |number, is_new| {
        let value_bytes = value_bytes as u32;
        Outcome::Changed(ItemInfo { cas: head.cas, number, value_bytes, left_s, is_new })
    };
    match (meta.verb, head.status) {
        (MetaVerb::Get | MetaVerb::Debug, Status::Value | Status::Done) => {
            let hit = hit_of(head, found, now);
            let expiry = if meta.has(MetaFlags::TOUCH) { meta.expiry } else { hit.expiry };
            Outcome::Hit(Hit { expiry, ..hit })
        }
        (MetaVerb::Store(_), Status::Done) => info(0, false),
        (MetaVerb::Delete, Status::Done) if meta.has(MetaFlags::INVALIDATE) => info(0, false),
        (MetaVerb::Delete, Status::Done) => Outcome::Deleted,
        (MetaVerb::Count { .. }, Status::Value) => match number(&found) {
            // A number that is counted to exactly that value is taken for a new one.
            Some(number) => info(number, meta.has(MetaFlags::VIVIFY) && number == meta.initial),
            None => Outcome::Failed,
        },
        (_, status) => rest(status),
    }
}
