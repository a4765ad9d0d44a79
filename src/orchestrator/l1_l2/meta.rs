//! Meta commands on two tiers.
//!
//! | operation | L2 | then L1 |
//! |---|---|---|
//! | mg, me that change nothing | asked if L1 has none | filled by mg, on the main port |
//! | mg that gives a new expiry | the same | touched, filled on the main port |
//! | ms | the same | the same, as a set does |
//! | md | the same | deleted, or invalidated if L2 keeps an item |
//! | ma | the same | the same |
//!
//! L2 decides who is to fetch an item again. L1 never has an item that L2 has marked as stale, or
//! that a client is fetching: such an item is read from L2 until a newer one is stored. So a hit in
//! L1 is an item without marks, and answers an mg unless R says that its time has come.
//!
//! A cas that a client chooses is the item's number as long as L1 has the item; otherwise the
//! client gets L2's number for it (see [`super`]). Nothing here may mark an item in L1.

use super::batch_port;
use super::main_port;
use super::pair::{Answer, L1L2, OF_L2, from_l2};
use super::value::PairValue;
use crate::base::buffer::{Body, Chain, Key};
use crate::base::clock::Now;
use crate::orchestrator::{Action, InL1, Operation, PortRole};
use crate::tier::{Hit, ItemInfo, Meta, MetaFlags, MetaVerb, Outcome, StoreMode, Tier, Value};

/// What L1 is asked of a request for an item.
const OF_L1: MetaFlags = MetaFlags::NO_USE
    .and(MetaFlags::VALUE)
    .and(MetaFlags::LEFT)
    .and(MetaFlags::TOUCH)
    .and(MetaFlags::EXPIRY_AFTER_TOUCH);

/// A cas that no item has.
const NO_CAS: u64 = u64::MAX;

/// A cas that is below that of nearly every item.
const OLD_CAS: u64 = 1;

/// Executes an mg that L1 can answer and that needs no waiting.
#[inline(never)]
pub(super) fn try_now<A: Tier, B: Tier>(
    tiers: &L1L2<A, B>,
    key: &[u8],
    action: Action,
    now: Now,
) -> Result<Answer<A, B>, InL1> {
    let Action::Meta(meta) = action else { return Err(InL1::Unclear) };
    if meta.verb != MetaVerb::Get || meta.has(MetaFlags::TOUCH) {
        return Err(InL1::Unclear);
    }
    match tiers.l1.try_now(key, Action::Meta(meta.only(OF_L1)), Body::EMPTY, now) {
        Some(Outcome::Hit(hit)) if is_answer(&meta, &hit) => {
            Ok(Outcome::Hit(hit).map_value(PairValue::L1))
        }
        Some(Outcome::Miss) => Err(InL1::No),
        _ => Err(InL1::Unclear),
    }
}

/// Whether a hit in L1 answers an mg.
fn is_answer<V: Value>(meta: &Meta, hit: &Hit<V>) -> bool {
    !hit.is_marked() && !meta.is_due(hit.expiry)
}

/// Executes a meta command.
pub(super) async fn execute<A: Tier, B: Tier>(
    tiers: &L1L2<A, B>,
    operation: &Operation,
    meta: Meta,
    now: Now,
) -> Answer<A, B> {
    match meta.verb {
        MetaVerb::Get => get(tiers, operation, meta, now).await,
        MetaVerb::Debug => debug(tiers, operation, meta, now).await,
        MetaVerb::Store(mode) => store(tiers, operation, (meta, mode), now).await,
        MetaVerb::Delete => delete(tiers, &operation.key, meta, now).await,
        MetaVerb::Count { .. } => count(tiers, operation, meta, now).await,
    }
}

async fn get<A: Tier, B: Tier>(
    tiers: &L1L2<A, B>,
    operation: &Operation,
    meta: Meta,
    now: Now,
) -> Answer<A, B> {
    let &Operation { ref key, in_l1, port, .. } = operation;
    let is_touch = meta.has(MetaFlags::TOUCH);
    let (mut is_in_l1, mut is_missing) = (is_touch, in_l1 == InL1::No);
    // R may have to see the expiry before T.
    let is_asked = !(is_missing || is_touch && meta.has(MetaFlags::RECACHE));
    if is_asked {
        match tiers.l1.meta(key, meta.only(OF_L1), &Chain::new(), now).await {
            Outcome::Hit(hit) if is_answer(&meta, &hit) && is_touch => {
                return main_port::touch_behind(tiers, key, hit, meta.expiry, now).await;
            }
            Outcome::Hit(hit) if is_answer(&meta, &hit) => {
                return Outcome::Hit(hit).map_value(PairValue::L1);
            }
            outcome => {
                is_missing = matches!(outcome, Outcome::Miss);
                is_in_l1 = matches!(outcome, Outcome::Hit(_));
            }
        }
    }
    let is_filling = port == PortRole::Main && (is_touch || is_missing);
    let request = match is_filling {
        true => Meta { with: meta.with.and(MetaFlags::VALUE), ..meta },
        false => meta,
    };
    let mut hit = match tiers.l2.meta(key, request, &Chain::new(), now).await {
        Outcome::Hit(hit) if hit.expiry.is_past(now) && !is_touch => return Outcome::Miss,
        Outcome::Hit(hit) => hit,
        outcome => {
            if !is_missing {
                tiers.l1.invalidate(key, now).await;
            }
            return from_l2(outcome);
        }
    };
    if hit.is_marked() {
        if !is_missing {
            tiers.l1.invalidate(key, now).await;
        }
        return from_l2(Outcome::Hit(hit));
    }
    if is_touch {
        hit.expiry = meta.expiry;
        let in_l1 = tiers.l1.touch(key, meta.expiry, now).await;
        is_missing = matches!(in_l1, Outcome::Miss) && !meta.expiry.is_past(now);
        if !is_missing {
            hit.cas = tiers.reconcile(key, in_l1, hit.cas, now).await;
            return Outcome::Hit(hit).map_value(PairValue::L2);
        }
    } else if is_in_l1 {
        // It has another expiry there.
        tiers.l1.invalidate(key, now).await;
    }
    match is_missing && port == PortRole::Main {
        true => tiers.fill(key, hit, now).await,
        false => from_l2(Outcome::Hit(hit)),
    }
}

async fn debug<A: Tier, B: Tier>(
    tiers: &L1L2<A, B>,
    operation: &Operation,
    meta: Meta,
    now: Now,
) -> Answer<A, B> {
    let key = &operation.key;
    match tiers.l1.meta(key, meta, &Chain::new(), now).await {
        Outcome::Hit(hit) if !hit.is_marked() => Outcome::Hit(hit).map_value(PairValue::L1),
        _ => from_l2(tiers.l2.meta(key, meta, &Chain::new(), now).await),
    }
}

/// Whether a store with an older cas stores an item that is stale.
fn may_store_stale(meta: &Meta) -> bool {
    meta.is_store() && meta.has(MetaFlags::CAS) && meta.has(MetaFlags::INVALIDATE)
}

/// The same command with a condition that L2 can check; without one if L1 has the item with that
/// number.
async fn for_l2<A: Tier, B: Tier>(tiers: &L1L2<A, B>, key: &Key, meta: Meta, now: Now) -> Meta {
    if !meta.has(MetaFlags::CAS) || meta.cas == 0 {
        return meta;
    }
    if meta.cas & OF_L2 != 0 && meta.cas != OF_L2 {
        return Meta { cas: meta.cas & !OF_L2, ..meta };
    }
    let is_older = match tiers.l1.get(key, now).await {
        Outcome::Hit(hit) if hit.cas == meta.cas => {
            let verb = match meta.verb {
                MetaVerb::Store(StoreMode::Set) => MetaVerb::Store(StoreMode::Replace),
                verb => verb,
            };
            let condition = match meta.is_store() {
                true => MetaFlags::CAS.and(MetaFlags::INVALIDATE),
                false => MetaFlags::CAS,
            };
            return Meta { verb, with: meta.with.without(condition), ..meta };
        }
        Outcome::Hit(hit) => meta.cas < hit.cas,
        // The client's number is that of an item that L1 had.
        _ => true,
    };
    let cas = if is_older && may_store_stale(&meta) { OLD_CAS } else { NO_CAS };
    Meta { cas, ..meta }
}

async fn store<A: Tier, B: Tier>(
    tiers: &L1L2<A, B>,
    operation: &Operation,
    (meta, mode): (Meta, StoreMode),
    now: Now,
) -> Answer<A, B> {
    let Operation { key, value, port, .. } = operation;
    let is_extension = matches!(mode, StoreMode::Append | StoreMode::Prepend);
    let request = for_l2(tiers, key, meta, now).await;
    let is_met = meta.has(MetaFlags::CAS) && !request.has(MetaFlags::CAS);
    let info = match tiers.l2.meta(key, request, value, now).await {
        Outcome::Changed(info) => info,
        Outcome::Exists => return Outcome::Exists,
        Outcome::NotStored if mode == StoreMode::Add => return Outcome::NotStored,
        outcome => {
            tiers.l1.invalidate(key, now).await;
            return match outcome {
                Outcome::NotStored if is_met && !is_extension => Outcome::Miss,
                outcome => from_l2(outcome),
            };
        }
    };
    let may_be_new = is_extension && meta.has(MetaFlags::VIVIFY);
    if may_be_new || may_store_stale(&request) {
        tiers.l1.invalidate(key, now).await;
        return from_l2(Outcome::Changed(info));
    }
    let mode = match port {
        PortRole::Main => main_port::mode_in_l1(mode),
        PortRole::Batch => batch_port::mode_in_l1(mode),
    };
    let request = Meta { verb: MetaVerb::Store(mode), ..meta.only(MetaFlags::NEW_CAS) };
    let in_l1 = match tiers.l1.meta(key, request, value, now).await {
        Outcome::Changed(ItemInfo { cas, .. }) => Outcome::Stored { cas },
        Outcome::NotStored if mode == StoreMode::Replace => Outcome::Miss,
        outcome => outcome,
    };
    let cas = tiers.reconcile(key, in_l1, info.cas, now).await;
    Outcome::Changed(ItemInfo { cas, ..info })
}

async fn delete<A: Tier, B: Tier>(
    tiers: &L1L2<A, B>,
    key: &Key,
    meta: Meta,
    now: Now,
) -> Answer<A, B> {
    let request = for_l2(tiers, key, meta, now).await;
    let in_l2 = tiers.l2.meta(key, request, &Chain::new(), now).await;
    match in_l2 {
        Outcome::Exists => return Outcome::Exists,
        // L1's item cannot be compared with a number of L2's.
        Outcome::Miss if !request.has(MetaFlags::CAS) => {
            if let Outcome::Deleted = tiers.l1.delete(key, 0, now).await {
                return Outcome::Deleted;
            }
        }
        _ => {}
    }
    tiers.l1.invalidate(key, now).await;
    from_l2(in_l2)
}

async fn count<A: Tier, B: Tier>(
    tiers: &L1L2<A, B>,
    operation: &Operation,
    meta: Meta,
    now: Now,
) -> Answer<A, B> {
    let &Operation { ref key, port, .. } = operation;
    let request = for_l2(tiers, key, meta, now).await;
    let info = match tiers.l2.meta(key, request, &Chain::new(), now).await {
        Outcome::Changed(info) => info,
        // The item exists, unchanged.
        Outcome::NonNumeric => return Outcome::NonNumeric,
        Outcome::Exists => return Outcome::Exists,
        outcome => {
            tiers.l1.invalidate(key, now).await;
            return from_l2(outcome);
        }
    };
    let mut with = meta.with.without(MetaFlags::CAS);
    if info.is_new {
        // What L1 has may have other flags and another expiry.
        tiers.l1.invalidate(key, now).await;
        if port == PortRole::Batch {
            return from_l2(Outcome::Changed(info));
        }
    } else {
        with = with.without(MetaFlags::VIVIFY);
    }
    let cas = match tiers.l1.meta(key, Meta { with, ..meta }, &Chain::new(), now).await {
        Outcome::Changed(in_l1) if in_l1.number == info.number => in_l1.cas,
        Outcome::Miss => info.cas | OF_L2,
        _ => {
            tiers.l1.invalidate(key, now).await;
            info.cas | OF_L2
        }
    };
    Outcome::Changed(ItemInfo { cas, ..info })
}
