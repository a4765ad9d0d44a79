//! How operations that waited are measured, and the outcomes that cross workers.

use super::held::Loans;
use crate::base::buffer::{Chain, Gather};
use crate::base::clock::Now;
use crate::base::latency::{Kind, Level};
use crate::base::limits::{EXPECTED_BYTES_DECAY, REMOTE_COPY_BYTES_MAX};
use crate::base::stats::{Counter, WorkerStats};
use crate::connection::slots::Wait;
use crate::mailbox::{Answer, Carried};
use crate::orchestrator::tally::Tally;
use crate::tier::{Hit, Outcome, Value};

/// The tier that an outcome is from; `last`: the last that is asked if none has the item.
#[inline]
pub fn level_of<V: Value>(outcome: &Outcome<V>, last: Level) -> Level {
    if let Outcome::Hit(hit) = outcome { hit.value.level() } else { last }
}

/// Counts an outcome that may be from any tier.
#[inline]
pub fn count<V: Value>(tally: Tally, outcome: &Outcome<V>, stats: &WorkerStats) {
    tally.count(outcome, stats);
    if let (Tally::Get, Outcome::Hit(hit)) = (tally, outcome)
        && hit.value.level() == Level::L2
    {
        stats.add(Counter::GetHitsL2, 1);
    }
}

/// Notes how long a request waited that is answered now, in microseconds.
#[inline]
pub fn note_wait<V: Value>(
    waited: Option<Wait>,
    outcome: &Outcome<V>,
    level: impl FnOnce() -> Level,
    stats: &WorkerStats,
) {
    if let Some(Wait { verb, us, weight }) = waited {
        let kind = Kind { verb, ending: outcome.ending(), level: level() };
        stats.latencies().requests(kind).record(us * 1_000, weight);
    }
}

/// Length of the value in an outcome.
#[inline]
pub fn value_bytes<V: Value>(outcome: &Outcome<V>) -> usize {
    if let Outcome::Hit(hit) = outcome { hit.value.len() } else { 0 }
}

/// Adapts the expected size of values to what an operation returned or moved.
#[inline]
pub fn learn(expected_bytes: &mut usize, bytes: usize) {
    let decayed = *expected_bytes - expected_bytes.div_ceil(EXPECTED_BYTES_DECAY);
    *expected_bytes = decayed.max(bytes);
}

/// Prepares an outcome for another worker: a short value is copied, a long one lent.
#[inline]
pub fn carry<V: Value>(
    loans: &mut Loans<V>,
    slot: u32,
    outcome: Outcome<V>,
    last: Level,
    now: Now,
) -> Answer {
    let level = level_of(&outcome, last);
    let outcome = match outcome {
        Outcome::Hit(hit) if hit.value.len() > REMOTE_COPY_BYTES_MAX => {
            let (flags, expiry, cas, state) = (hit.flags, hit.expiry, hit.cas, hit.state);
            let bytes = hit.value.len();
            let loan = Some(loans.lend(hit, now));
            let value = Carried::Lent { loan, bytes, offset: 0, piece: Chain::new() };
            Outcome::Hit(Hit { flags, expiry, cas, state, value })
        }
        outcome => outcome.map_value(|value| Carried::Copied(copy(&value))),
    };
    Answer { slot, outcome, level, spent: None }
}

/// Copies a value into blocks that another worker may hold.
fn copy<V: Value>(value: &V) -> Chain {
    let mut gather = Gather::new();
    gather.fill(value.len(), |offset, out| value.copy_to(offset, out));
    gather.finish()
}
