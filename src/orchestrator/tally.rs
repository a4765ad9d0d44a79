//! How an operation's outcome is counted in the statistics, as memcached counts.

use super::Action;
use crate::base::latency::Verb;
use crate::base::stats::{Counter, WorkerStats};
use crate::tier::{Arithmetic, Meta, MetaFlags, MetaVerb, Outcome, Store, StoreMode};

/// The part of an operation that is needed to count its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tally {
    /// A get of one key.
    Get,
    /// A touch or a get-and-touch of one key: not a get in memcached's statistics.
    Touch,
    /// A store.
    Store {
        /// With a cas condition; an append or a prepend is never counted as such.
        is_cas: bool,
    },
    /// The same of an mg. A miss is that of a get.
    MetaTouch,
    /// A delete.
    Delete,
    /// The same by md. One that finds another cas is a miss.
    MetaDelete,
    /// An incr or decr.
    Count {
        /// It is a decr.
        is_down: bool,
        /// The value it would store if the key had no item, which is neither hit nor miss.
        initial: Option<u64>,
    },
    /// An me.
    Debug,
    /// A set whose value exceeds the limit.
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
            Action::GetAndTouch { .. } | Action::Touch { .. } => Tally::Touch,
            Action::Store(store) if store.cas == 0 => Tally::Store { is_cas: false },
            Action::Store(store) => {
                let is_extension = matches!(store.mode, StoreMode::Append | StoreMode::Prepend);
                Tally::Store { is_cas: !is_extension }
            }
            Action::Delete { .. } => Tally::Delete,
            Action::Arithmetic(Arithmetic { decrement: is_down, initial, .. }) => {
                Tally::Count { is_down, initial: initial.map(|(value, _)| value) }
            }
            Action::StoreTooLarge => Tally::TooLarge,
            Action::Meta(meta) => Tally::of_meta(&meta),
            Action::StoreNoRoom | Action::FlushAll { .. } | Action::Dump { .. } => Tally::Other,
        }
    }

    fn of_meta(meta: &Meta) -> Tally {
        match meta.verb {
            MetaVerb::Get if meta.has(MetaFlags::TOUCH) => Tally::MetaTouch,
            MetaVerb::Get => Tally::Get,
            MetaVerb::Store(StoreMode::Set | StoreMode::Replace) => {
                Tally::Store { is_cas: meta.has(MetaFlags::CAS) }
            }
            MetaVerb::Store(_) => Tally::Store { is_cas: false },
            MetaVerb::Delete => Tally::MetaDelete,
            MetaVerb::Count { decrement: is_down } => Tally::Count { is_down, initial: None },
            MetaVerb::Debug => Tally::Debug,
        }
    }

    /// Counts one get.
    #[inline(always)]
    pub fn count_get(is_hit: bool, stats: &WorkerStats) {
        stats.add(Counter::CmdGet, 1);
        stats.add(if is_hit { Counter::GetHits } else { Counter::GetMisses }, 1);
    }

    /// Counts one outcome. Failures and refusals are neither hits nor misses.
    #[inline(always)]
    pub fn count<V>(self, outcome: &Outcome<V>, stats: &WorkerStats) {
        // By far the most common, and therefore inlined into the caller.
        match (self, outcome) {
            (Tally::Get, Outcome::Hit(_)) => Tally::count_get(true, stats),
            (Tally::Get, Outcome::Miss) => Tally::count_get(false, stats),
            (Tally::Store { is_cas: false }, Outcome::Stored { .. }) => {
                stats.add(Counter::CmdSet, 1);
            }
            _ => self.count_other(outcome, stats),
        }
    }

    #[inline(never)]
    fn count_other<V>(self, outcome: &Outcome<V>, stats: &WorkerStats) {
        stats.note_ending(outcome.ending());
        let requested = match self {
            Tally::Get => Some(Counter::CmdGet),
            Tally::Touch => Some(Counter::CmdTouch),
            Tally::MetaTouch if matches!(outcome, Outcome::Hit(_)) => Some(Counter::CmdTouch),
            Tally::MetaTouch => Some(Counter::CmdGet),
            Tally::Debug => Some(Counter::CmdMeta),
            // memcached refuses it before counting it.
            Tally::Store { .. } if matches!(outcome, Outcome::TooLarge) => None,
            Tally::Store { .. } => Some(Counter::CmdSet),
            _ => None,
        };
        let result = match (self, outcome) {
            (Tally::Get, Outcome::Hit(_)) => Some(Counter::GetHits),
            (Tally::Get, Outcome::Miss) => Some(Counter::GetMisses),
            (Tally::Touch, Outcome::Hit(_) | Outcome::Touched { .. }) => Some(Counter::TouchHits),
            (Tally::MetaTouch, Outcome::Hit(_)) => Some(Counter::TouchHits),
            (Tally::MetaTouch, Outcome::Miss) => Some(Counter::GetMisses),
            (Tally::Touch, Outcome::Miss) => Some(Counter::TouchMisses),
            (Tally::Store { is_cas: true }, Outcome::Stored { .. } | Outcome::Changed(_)) => {
                Some(Counter::CasHits)
            }
            (Tally::Store { is_cas: true }, Outcome::Exists) => Some(Counter::CasBadval),
            (Tally::Store { is_cas: true }, Outcome::Miss) => Some(Counter::CasMisses),
            (Tally::Delete | Tally::MetaDelete, Outcome::Deleted) => Some(Counter::DeleteHits),
            (Tally::Delete | Tally::MetaDelete, Outcome::Miss)
            | (Tally::MetaDelete, Outcome::Exists) => Some(Counter::DeleteMisses),
            // An item that is counted to exactly that value is taken for a new one.
            (Tally::Count { initial, .. }, Outcome::Number { value, .. })
                if initial == Some(*value) =>
            {
                None
            }
            (Tally::Count { .. }, Outcome::Changed(info)) if info.is_new => None,
            (Tally::Count { is_down: true, .. }, Outcome::Number { .. } | Outcome::Changed(_)) => {
                Some(Counter::DecrHits)
            }
            (Tally::Count { is_down: true, .. }, Outcome::Miss) => Some(Counter::DecrMisses),
            (Tally::Count { is_down: false, .. }, Outcome::Number { .. } | Outcome::Changed(_)) => {
                Some(Counter::IncrHits)
            }
            (Tally::Count { is_down: false, .. }, Outcome::Miss) => Some(Counter::IncrMisses),
            (Tally::TooLarge, _) => Some(Counter::StoreTooLarge),
            _ => None,
        };
        for counter in [requested, result].into_iter().flatten() {
            stats.add(counter, 1);
        }
    }
}

/// What a client asks for by an action.
pub fn verb_of(action: Action) -> Verb {
    let count = |is_down: bool| if is_down { Verb::Decr } else { Verb::Incr };
    let store = |mode: StoreMode, has_cas: bool| match mode {
        StoreMode::Append => Verb::Append,
        StoreMode::Prepend => Verb::Prepend,
        _ if has_cas => Verb::Cas,
        StoreMode::Set => Verb::Set,
        StoreMode::Add => Verb::Add,
        StoreMode::Replace => Verb::Replace,
    };
    match action {
        Action::Get | Action::GetWithExpiry => Verb::Get,
        Action::GetAndTouch { .. } => Verb::GetAndTouch,
        Action::Touch { .. } => Verb::Touch,
        Action::Store(Store { mode, cas, .. }) => store(mode, cas != 0),
        Action::StoreTooLarge | Action::StoreNoRoom => Verb::Set,
        Action::Delete { .. } => Verb::Delete,
        Action::Arithmetic(arithmetic) => count(arithmetic.decrement),
        Action::Meta(meta) => match meta.verb {
            MetaVerb::Get if meta.has(MetaFlags::TOUCH) => Verb::GetAndTouch,
            MetaVerb::Get => Verb::Get,
            MetaVerb::Store(mode) => store(mode, meta.has(MetaFlags::CAS)),
            MetaVerb::Delete => Verb::Delete,
            MetaVerb::Count { decrement } => count(decrement),
            MetaVerb::Debug => Verb::Other,
        },
        Action::FlushAll { .. } | Action::Dump { .. } => Verb::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::buffer::Chain;
    use crate::base::clock::Expiry;

    #[test]
    fn a_failure_is_a_request_and_neither_hit_nor_miss() {
        let store = Store { mode: StoreMode::Set, flags: 0, expiry: Expiry::NEVER, cas: 1 };
        let count = Arithmetic { decrement: false, delta: 1, initial: None, cas: 0 };
        for (action, requested) in [
            (Action::Get, Some(Counter::CmdGet)),
            (Action::GetAndTouch { expiry: Expiry::NEVER }, Some(Counter::CmdTouch)),
            (Action::Touch { expiry: Expiry::NEVER }, Some(Counter::CmdTouch)),
            (Action::Store(store), Some(Counter::CmdSet)),
            (Action::Delete { cas: 0 }, None),
            (Action::Arithmetic(count), None),
            (Action::Arithmetic(Arithmetic { decrement: true, ..count }), None),
        ] {
            for outcome in [Outcome::Failed, Outcome::Throttled, Outcome::OutOfMemory] {
                let stats = WorkerStats::default();
                Tally::of(action).count::<Chain>(&outcome, &stats);
                for &counter in Counter::ALL {
                    let expected = u64::from(requested == Some(counter));
                    assert_eq!(stats.get(counter), expected, "{action:?} {}", counter.name());
                }
            }
        }
    }
}
