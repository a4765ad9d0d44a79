//! What the admin thread sees of a server: counters, tiers, and which of them are degraded. It only
//! reads.

use std::sync::Arc;

use crate::base::stats::Counter;
use crate::protocol::stats::Totals;
use crate::worker::Shared;

/// What a server is, for who looks at it from the admin thread.
#[derive(Clone, Debug)]
pub struct View {
    shared: Arc<Shared>,
    /// L1 in the words of `--l1`.
    l1: String,
    /// L2, or none.
    l2: String,
}

impl View {
    /// A server with these tiers.
    pub fn new(shared: Arc<Shared>, l1: String, l2: String) -> View {
        View { shared, l1, l2 }
    }

    /// What all of its threads share.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// L1 in the words of `--l1`.
    pub fn l1(&self) -> &str {
        &self.l1
    }

    /// L2 in the words of `--l2`.
    pub fn l2(&self) -> &str {
        &self.l2
    }

    /// All counters since the start.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.shared.stats.iter().for_each(|worker| totals.add(worker));
        totals
    }

    /// What is wrong now, in sentences with what to do.
    pub fn degraded(&self) -> Vec<String> {
        let totals = self.totals();
        let mut all = Vec::new();
        for (counter, tier, words) in
            [(Counter::LinksDownL1, "L1", &self.l1), (Counter::LinksDownL2, "L2", &self.l2)]
        {
            match totals.get(counter) {
                0 => (),
                down => all.push(format!(
                    "{tier} ({words}) does not answer: {down} of {} workers have suspended it; \
                     look at its server",
                    self.shared.stats.len()
                )),
            }
        }
        if totals.get(Counter::SsdDegraded) > 0 {
            all.push(
                "the SSD takes no writes: it serves what it has; look at the log of this server \
                 and of the kernel"
                    .to_owned(),
            );
        }
        all
    }

    /// Seconds since the least recently used item was used, of any worker.
    pub fn oldest_s(&self) -> u64 {
        let ages = self.shared.stats.iter().map(|worker| worker.get(Counter::OldestItemAge));
        ages.max().unwrap_or(0)
    }
}
