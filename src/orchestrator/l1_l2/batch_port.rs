//! Operations of the batch port on two tiers: jobs that read and write many items. L1 keeps only
//! items that it already has.
//!
//! | operation | L2 | then L1 |
//! |---|---|---|
//! | get | asked if L1 has none | left as it is |
//! | get-and-touch | the same | touched |
//! | set, add, replace | the same | replace |
//! | append, prepend | the same | the same |
//! | delete, touch, incr, decr | the same | the same |
//!
//! Other outcomes are handled the same way for all operations, see [`super`]. Nothing here may add
//! an item to L1.

use super::pair::{Answer, L1L2, from_l2};
use super::value::PairValue;
use crate::base::buffer::Key;
use crate::base::clock::{Expiry, Now};
use crate::orchestrator::InL1;
use crate::tier::{Hit, Outcome, StoreMode, Tier};

/// How a value that L2 has stored in `mode` is stored in L1.
pub(super) fn mode_in_l1(mode: StoreMode) -> StoreMode {
    match mode {
        StoreMode::Set | StoreMode::Add => StoreMode::Replace,
        mode => mode,
    }
}

/// Hit or miss.
pub(super) async fn get<A: Tier, B: Tier>(
    tiers: &L1L2<A, B>,
    key: &Key,
    with_expiry: bool,
    in_l1: InL1,
    now: Now,
) -> Answer<A, B> {
    let in_l1 = match in_l1 {
        InL1::No => Outcome::Miss,
        _ if with_expiry => tiers.l1.get_with_expiry(key, now).await,
        _ => tiers.l1.get(key, now).await,
    };
    if let Outcome::Hit(hit) = in_l1 {
        return Outcome::Hit(hit).map_value(PairValue::L1);
    }
    let in_l2 = if with_expiry {
        tiers.l2.get_with_expiry(key, now).await
    } else {
        tiers.l2.get(key, now).await
    };
    match in_l2 {
        Outcome::Hit(hit) if hit.expiry.is_past(now) => Outcome::Miss,
        outcome => from_l2(outcome),
    }
}

/// Hit or miss.
pub(super) async fn get_and_touch<A: Tier, B: Tier>(
    tiers: &L1L2<A, B>,
    key: &Key,
    expiry: Expiry,
    now: Now,
) -> Answer<A, B> {
    match tiers.l2.get_and_touch(key, expiry, now).await {
        Outcome::Hit(hit) => {
            let in_l1 = tiers.l1.touch(key, expiry, now).await;
            let cas = tiers.reconcile(key, in_l1, hit.cas, now).await;
            Outcome::Hit(Hit { cas, expiry, ..hit }).map_value(PairValue::L2)
        }
        outcome => {
            tiers.l1.invalidate(key, now).await;
            from_l2(outcome)
        }
    }
}
