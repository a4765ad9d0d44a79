//! Operations of the main port on two tiers: L1 is filled with the items that clients read and
//! write.
//!
//! | operation | L2 | then L1 |
//! |---|---|---|
//! | get | asked if L1 has none | filled with L2's item, flags and expiry kept |
//! | get-and-touch | touched if L1 had a hit, else the same | first; filled from L2's hit |
//! | set, add | the same | set |
//! | replace, append, prepend | the same | the same |
//! | delete, touch, incr, decr | the same | the same |
//!
//! Other outcomes are handled the same way for all operations, see [`super`]. Nothing here may fill
//! L1 with an item that L2 has not just confirmed.

use super::pair::{Answer, L1L2, from_l2};
use super::value::PairValue;
use crate::base::buffer::Key;
use crate::base::clock::{Expiry, Now};
use crate::base::stats::Counter;
use crate::orchestrator::InL1;
use crate::tier::{Hit, Outcome, StoreMode, Tier};

/// How a value that L2 has stored in `mode` is stored in L1.
pub(super) fn mode_in_l1(mode: StoreMode) -> StoreMode {
    match mode {
        // L2 had none: an item in L1 is older.
        StoreMode::Add => StoreMode::Set,
        mode => mode,
    }
}

/// Hit or miss. A get that fails in L1 leaves L1 unchanged: its item is still equal to L2's, and a
/// fill would fail as well and have to be undone.
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
    let is_missing = match in_l1 {
        Outcome::Hit(hit) => return Outcome::Hit(hit).map_value(PairValue::L1),
        outcome => matches!(outcome, Outcome::Miss),
    };
    match tiers.l2.get_with_expiry(key, now).await {
        Outcome::Hit(hit) if hit.expiry.is_past(now) => Outcome::Miss,
        // L1 has no marks.
        Outcome::Hit(hit) if is_missing && !hit.is_marked() => tiers.fill(key, hit, now).await,
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
    let is_missing = match tiers.l1.get_and_touch(key, expiry, now).await {
        Outcome::Hit(hit) => return touch_behind(tiers, key, hit, expiry, now).await,
        outcome => matches!(outcome, Outcome::Miss),
    };
    let in_l2 = tiers.l2.get_and_touch(key, expiry, now).await;
    if !is_missing {
        // L1 may have the item, with the old or the new expiry.
        tiers.l1.invalidate(key, now).await;
        return from_l2(in_l2);
    }
    match in_l2 {
        Outcome::Hit(hit) if !expiry.is_past(now) && !hit.is_marked() => {
            tiers.fill(key, Hit { expiry, ..hit }, now).await
        }
        outcome => from_l2(outcome),
    }
}

/// Applies to L2 a get-and-touch that was a hit in L1.
#[allow(clippy::manual_async_fn, reason = "it would hold the hit twice")]
pub(super) fn touch_behind<A: Tier, B: Tier>(
    tiers: &L1L2<A, B>,
    key: &Key,
    hit: Hit<A::Value>,
    expiry: Expiry,
    now: Now,
) -> impl Future<Output = Answer<A, B>> {
    async move {
        let in_l2 = tiers.l2.touch(key, expiry, now).await;
        if let Outcome::Touched { .. } = in_l2 {
            return Outcome::Hit(hit).map_value(PairValue::L1);
        }
        if let Outcome::Miss = in_l2 {
            tiers.stats.add(Counter::InconsistencyDetected, 1);
        }
        tiers.l1.invalidate(key, now).await;
        from_l2(in_l2)
    }
}
