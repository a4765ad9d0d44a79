//! What an operation's outcome adds to the statistics, as memcached counts.

use super::Action;
use crate::stats::{Counter, WorkerStats};
use crate::tier::Outcome;

/// What has to be remembered of an operation to count its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tally {
    /// A get of one key.
    Get,
    /// A get-and-touch of one key.
    GetAndTouch,
    /// A store.
    Store {
        /// With a condition on the cas.
        is_cas: bool,
    },
    /// A delete.
    Delete,
    /// A touch.
    Touch,
    /// An incr.
    Increment,
    /// A decr.
    Decrement,
    /// A set whose value is over the limit.
    TooLarge,
    /// Counted elsewhere.
    Other,
}

impl Tally {
    /// The tally of an action.
    #[inline(always)]
    pub fn of(action: Action) -> Tally {
        match action {
            Action::Get | Action::GetWithExpiry => Tally::Get,
            Action::GetAndTouch { .. } => Tally::GetAndTouch,
            Action::Store(store) => Tally::Store { is_cas: store.cas != 0 },
            Action::Delete { .. } => Tally::Delete,
            Action::Touch { .. } => Tally::Touch,
            Action::Arithmetic(a) if a.decrement => Tally::Decrement,
            Action::Arithmetic(_) => Tally::Increment,
            Action::StoreTooLarge => Tally::TooLarge,
            Action::FlushAll { .. } => Tally::Other,
        }
    }

    /// Counts one get.
    #[inline(always)]
    pub fn count_get(is_hit: bool, stats: &WorkerStats) {
        stats.add(Counter::CmdGet, 1);
        stats.add(if is_hit { Counter::GetHits } else { Counter::GetMisses }, 1);
    }

    /// Counts one outcome.
    #[inline(always)]
    pub fn count<V>(self, outcome: &Outcome<V>, stats: &WorkerStats) {
        let is_miss = matches!(outcome, Outcome::Miss);
        let hit_or_miss = |hits, misses| stats.add(if is_miss { misses } else { hits }, 1);
        match self {
            Tally::Get => Tally::count_get(!is_miss, stats),
            Tally::GetAndTouch => {
                stats.add(Counter::CmdGet, 1);
                stats.add(Counter::CmdTouch, 1);
                hit_or_miss(Counter::TouchHits, Counter::TouchMisses);
                hit_or_miss(Counter::GetHits, Counter::GetMisses);
            }
            Tally::Store { is_cas } => {
                stats.add(Counter::CmdSet, 1);
                if is_cas {
                    match outcome {
                        Outcome::Stored { .. } => stats.add(Counter::CasHits, 1),
                        Outcome::Exists => stats.add(Counter::CasBadval, 1),
                        Outcome::Miss => stats.add(Counter::CasMisses, 1),
                        _ => {}
                    }
                }
            }
            Tally::Delete => hit_or_miss(Counter::DeleteHits, Counter::DeleteMisses),
            Tally::Touch => {
                stats.add(Counter::CmdTouch, 1);
                hit_or_miss(Counter::TouchHits, Counter::TouchMisses);
            }
            Tally::Increment => hit_or_miss(Counter::IncrHits, Counter::IncrMisses),
            Tally::Decrement => hit_or_miss(Counter::DecrHits, Counter::DecrMisses),
            Tally::TooLarge => stats.add(Counter::StoreTooLarge, 1),
            Tally::Other => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Chain;

    #[test]
    fn a_get_counts_as_a_hit_or_a_miss() {
        let stats = WorkerStats::default();
        Tally::of(Action::Get).count::<Chain>(&Outcome::Miss, &stats);
        assert_eq!(stats.get(Counter::GetMisses), 1);
        assert_eq!(stats.get(Counter::GetHits), 0);
        assert_eq!(stats.get(Counter::CmdGet), 1);
    }
}
