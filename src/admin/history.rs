//! The last ten minutes, a second each, for the page and `sunder top`.
//!
//! One row a second: what was requested, what was found where, how long it took. Nothing here is
//! kept for longer, and memory is bounded.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::view::View;
use crate::base::latency::{BUCKETS, Ending, Kind, Level, Times, Verb, upper_ns};
use crate::base::stats::Counter;
use crate::protocol::stats::Totals;

/// Rows that are kept.
const SECONDS: usize = 600;

/// Doublings of a heat map, from 256 ns to 8.6 s.
pub const HEAT: usize = 26;

/// The first of them ends at 2^8 ns.
const HEAT_FROM: u32 = 8;

/// One kind of command within a second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pace {
    /// Requests.
    pub count: u64,
    /// Times in microseconds that half, 99 and 99.9 of 100 of them did not exceed.
    pub p50: f64,
    /// See `p50`.
    pub p99: f64,
    /// See `p50`.
    pub p999: f64,
    /// Requests by time: up to 256 ns, 512 ns and so on.
    pub heat: Vec<u64>,
}

impl Pace {
    fn of(times: &Times) -> Pace {
        let us = |share| times.quantile_ns(share) as f64 / 1_000.0;
        let mut heat = vec![0; HEAT];
        for bucket in (0..BUCKETS).filter(|&bucket| times.buckets[bucket] > 0) {
            let power = (upper_ns(bucket) + 1).next_power_of_two().ilog2();
            heat[(power.saturating_sub(HEAT_FROM) as usize).min(HEAT - 1)] += times.buckets[bucket];
        }
        Pace { count: times.count(), p50: us(0.5), p99: us(0.99), p999: us(0.999), heat }
    }
}

/// A second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Second {
    /// Its number since the start; one more than the one before.
    pub seq: u64,
    /// Unix time at its end.
    pub at: u32,
    /// Its true length in seconds.
    pub length: f64,
    /// Keys requested by gets.
    pub gets: u64,
    /// Storage commands.
    pub sets: u64,
    /// Keys found in L1.
    pub l1_hits: u64,
    /// Keys found in L2.
    pub l2_hits: u64,
    /// Keys found nowhere.
    pub misses: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// Items evicted.
    pub evictions: u64,
    /// Open connections.
    pub connections: u64,
    /// The part of the time in which each worker was busy, from 0 to 1.
    pub busy: Vec<f64>,
    /// Gets.
    pub get: Pace,
    /// Storage commands.
    pub set: Pace,
    /// All others.
    pub other: Pace,
}

/// What is counted at one time.
#[derive(Clone, Debug, Default)]
struct Mark {
    totals: Totals,
    busy_us: Vec<u64>,
    at_ns: u64,
    get: Times,
    set: Times,
    other: Times,
}

impl Mark {
    fn new(view: &View) -> Mark {
        let stats = &view.shared().stats;
        let mut mark = Mark {
            totals: view.totals(),
            busy_us: stats.iter().map(|worker| worker.get(Counter::BusyUs)).collect(),
            at_ns: view.shared().clock.read_ns(),
            ..Mark::default()
        };
        for kind in Kind::all() {
            let to = match kind.verb {
                Verb::Get => &mut mark.get,
                Verb::Set
                | Verb::Add
                | Verb::Replace
                | Verb::Append
                | Verb::Prepend
                | Verb::Cas => &mut mark.set,
                _ => &mut mark.other,
            };
            stats.iter().for_each(|worker| to.add(worker.latencies().requests(kind)));
        }
        mark
    }
}

/// The last ten minutes.
#[derive(Debug)]
pub struct History {
    rows: VecDeque<Second>,
    last: Mark,
    next_seq: u64,
}

impl History {
    /// Nothing has happened yet.
    pub fn new(view: &View) -> History {
        History { rows: VecDeque::with_capacity(SECONDS), last: Mark::new(view), next_seq: 1 }
    }

    /// A second has passed.
    pub fn tick(&mut self, view: &View) {
        let now = Mark::new(view);
        let last = &self.last;
        let since = |counter| now.totals.get(counter).saturating_sub(last.totals.get(counter));
        let length_us = (now.at_ns.saturating_sub(last.at_ns) / 1_000).max(1);
        let l2_hits = since(Counter::GetHitsL2);
        let busy = now.busy_us.iter().zip(&last.busy_us);
        let row = Second {
            seq: self.next_seq,
            at: view.shared().clock.read().unix_s,
            length: length_us as f64 / 1e6,
            gets: since(Counter::CmdGet),
            sets: since(Counter::CmdSet),
            l1_hits: since(Counter::GetHits).saturating_sub(l2_hits),
            l2_hits,
            misses: since(Counter::GetMisses),
            bytes_in: since(Counter::BytesRead),
            bytes_out: since(Counter::BytesWritten),
            evictions: since(Counter::Evictions) + since(Counter::SsdEvicted),
            connections: now.totals.get(Counter::CurrConnections),
            busy: busy
                .map(|(now, last)| (now.saturating_sub(*last) as f64 / length_us as f64).min(1.0))
                .collect(),
            get: Pace::of(&now.get.since(&last.get)),
            set: Pace::of(&now.set.since(&last.set)),
            other: Pace::of(&now.other.since(&last.other)),
        };
        self.next_seq += 1;
        self.last = now;
        if self.rows.len() == SECONDS {
            self.rows.pop_front();
        }
        self.rows.push_back(row);
    }

    /// The seconds after number `seq`, the oldest first.
    pub fn after(&self, seq: u64) -> impl Iterator<Item = &Second> {
        self.rows.iter().filter(move |row| row.seq > seq)
    }
}

/// The parts of the times of one command by where it ended, for metrics.
pub fn times(view: &View) -> Vec<(Kind, Times)> {
    let of = |kind| {
        let mut times = Times::default();
        for worker in &view.shared().stats {
            times.add(worker.latencies().requests(kind));
        }
        (kind, times)
    };
    Kind::all().map(of).filter(|(_, times)| times.count() > 0).collect()
}

/// What a tier itself took.
pub fn tier_times(view: &View, level: Level) -> Times {
    let mut times = Times::default();
    view.shared().stats.iter().for_each(|worker| times.add(worker.latencies().tier(level)));
    times
}

/// The requests that ended so.
pub fn count_of(times: &[(Kind, Times)], is_it: impl Fn(Verb, Ending, Level) -> bool) -> u64 {
    let of = |(kind, times): &(Kind, Times)| {
        if is_it(kind.verb, kind.ending, kind.level) { times.count() } else { 0 }
    };
    times.iter().map(of).sum()
}
