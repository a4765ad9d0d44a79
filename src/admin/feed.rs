//! What the page and `sunder top` are fed with: one object of JSON.

use std::sync::atomic::Ordering::Relaxed;

use serde::{Deserialize, Serialize};

use super::history::Second;
use super::hot::HotKey;
use super::view::View;
use crate::base::console::version;
use crate::base::stats::Counter;

/// A key, as text that may be shown anywhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShownKey {
    /// The key; bytes that are no printable ASCII as \xNN.
    pub key: String,
    /// Its part of all requests, from 0 to 1.
    pub share: f64,
    /// By how much that may be too large.
    pub error: f64,
    /// Requests a second.
    pub rate: f64,
    /// Its part of the requests of the last whole second, from 0 to 1.
    pub now: f64,
}

impl ShownKey {
    /// As text.
    pub fn new(hot: &HotKey) -> ShownKey {
        let HotKey { share, error, rate, now, .. } = *hot;
        ShownKey { key: hot.key.escape_ascii().to_string(), share, error, rate, now }
    }
}

/// What `/feed` answers. A reader of another version does without what it does not find, except
/// for what makes it a feed: version, process, counters and seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Feed {
    /// Of sunder.
    pub version: String,
    /// Of the process.
    pub pid: u32,
    /// Seconds since the start.
    #[serde(default)]
    pub uptime: u64,
    /// All workers run.
    #[serde(default)]
    pub ready: bool,
    /// In the words of `--l1`.
    #[serde(default)]
    pub l1: String,
    /// In the words of `--l2`.
    #[serde(default)]
    pub l2: String,
    /// Most connections.
    #[serde(default)]
    pub connections_max: u64,
    /// Bytes that L1 in memory may use.
    #[serde(default)]
    pub memory_max: u64,
    /// All counters by their names in `stats`, since the start.
    pub counters: serde_json::Map<String, serde_json::Value>,
    /// What is wrong with tiers and the device, a sentence each.
    #[serde(default)]
    pub degraded: Vec<String>,
    /// The hottest keys.
    #[serde(default)]
    pub hot: Vec<ShownKey>,
    /// The seconds that were asked for.
    pub seconds: Vec<Second>,
}

impl Feed {
    /// A counter by its name in `stats`; 0 if the server has none.
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0)
    }

    /// The server as it is now.
    pub fn new(view: &View, hot: &[HotKey], seconds: Vec<Second>) -> Feed {
        let totals = view.totals();
        let counters = Counter::ALL.iter().map(|&counter| {
            let value = match counter {
                Counter::OldestItemAge => view.oldest_s(),
                counter => totals.get(counter),
            };
            (counter.name().to_owned(), value.into())
        });
        let shared = view.shared();
        Feed {
            version: version().to_owned(),
            pid: std::process::id(),
            uptime: shared.clock.seconds_up(shared.clock.read()),
            ready: shared.is_ready.load(Relaxed),
            l1: view.l1().to_owned(),
            l2: view.l2().to_owned(),
            connections_max: shared.admission.max() as u64,
            memory_max: shared.memory_bytes.load(Relaxed),
            counters: counters.collect(),
            degraded: view.degraded(),
            hot: hot.iter().map(ShownKey::new).collect(),
            seconds,
        }
    }
}
