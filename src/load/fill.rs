//! fill: sets keys drawn at random, to fill a cache.
//!
//! Opens a connection that ends again, as Rend's does, but not for ever. It reads nothing, for a
//! cache that is full evicts, unless losses are wrong: then each key is read as soon as it is set.

use super::options::Options;
use super::setget::{check, key_name, length, wrong};
use super::threads::{Finding, Owned, Status, Worker, run};
use super::value::Values;
use super::wire::{ClientRequest, Verb};
use crate::base::random::mix;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Failures in a row that end the run.
const FAILURES_MAX: u32 = 10;

/// Time before a connection is opened again.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct Filled {
    bytes: AtomicU64,
    reconnects: AtomicU64,
}

/// Runs the tool.
pub fn main(options: &Options) -> ExitCode {
    let filled = Filled::default();
    let sum_up = || {
        let mb = filled.bytes.load(Relaxed) as f64 / 1e6;
        let reconnects = filled.reconnects.load(Relaxed);
        format!("\n{mb:.1} MB of values, {reconnects} connections opened again")
    };
    run("fill", options, options.operations, |worker| work(worker, &filled), sum_up)
}

/// Sets of all connections: which key each is of, and with which version.
struct Sets {
    seed: u64,
    workers: u64,
    /// Different keys.
    keys: u64,
}

impl Sets {
    /// The key that is set number `set` of a connection.
    fn key(&self, number: u64, set: u64) -> u64 {
        mix(mix(self.seed ^ number) ^ set) % self.keys
    }

    /// The version that it writes: no two connections write one version of a key.
    fn version(&self, number: u64, set: u64) -> u32 {
        (set * self.workers + number) as u32
    }

    /// Whether a key may have version `found` once `written` was acknowledged: some connection
    /// writes it, and if it is the same one, not earlier. Holds for the first 2^32 sets.
    fn may_follow(&self, key: u64, written: u32, found: u32) -> bool {
        let [written, found] = [written, found].map(u64::from);
        let number = found % self.workers;
        let is_old = number == written % self.workers && found < written;
        !is_old && self.key(number, found / self.workers) == key
    }
}

fn work(worker: &mut Worker<'_>, filled: &Filled) -> Result<(), Finding> {
    let options = worker.options;
    let (workers, number) = (options.workers as u64, worker.number as u64);
    let all = options.operations;
    let count = all / workers + u64::from(number < all % workers);
    let keys = 26_u64.checked_pow(options.key_letters as u32).unwrap_or(u64::MAX);
    let sets = Sets { seed: options.seed, workers, keys };
    let values = Values::new(options.seed);
    let mut value = vec![];
    for set in 0..count {
        let (key, version) = (sets.key(number, set), sets.version(number, set));
        let name = key_name(options, key);
        value.clear();
        let flags = values.put(&name, version, length(options, key, version), &mut value);
        let request = ClientRequest::store(Verb::Set, &name, flags, &value);
        match send(worker, "set", &request, filled)?.map(|answer| answer.status) {
            None => return Ok(()),
            Some(Status::Done) => {}
            Some(status) => return Err(worker.failed(&request, &status)),
        }
        if options.is_loss_wrong {
            let is_known =
                |found| all > u64::from(u32::MAX) || sets.may_follow(key, version, found);
            read_back(worker, &name, values, is_known, filled)?;
        }
        filled.bytes.fetch_add(value.len() as u64, Relaxed);
        worker.count();
    }
    Ok(())
}

/// Reads a key that was set, by this connection or meanwhile by another.
fn read_back(
    worker: &mut Worker<'_>,
    name: &[u8],
    values: Values,
    is_known: impl Fn(u32) -> bool,
    filled: &Filled,
) -> Result<(), Finding> {
    let request = ClientRequest::new(Verb::Get, name);
    let Some(Owned { item, status }) = send(worker, "get", &request, filled)? else {
        return Ok(());
    };
    match (status, item) {
        (Status::End, Some((flags, value))) => {
            let version = check(values, name, flags, &value, std::iter::empty())?;
            let what = || format!("stale: version {version}, after another was acknowledged");
            if is_known(version) { Ok(()) } else { Err(wrong(name, what())) }
        }
        (Status::End, None) => Err(wrong(name, "lost: it was set and is not there")),
        (status, _) => Err(worker.failed(&request, &status)),
    }
}

/// Sends a request, on a connection that is opened again if it ends. None: the run is over.
fn send(
    worker: &mut Worker<'_>,
    name: &'static str,
    request: &ClientRequest<'_>,
    filled: &Filled,
) -> Result<Option<Owned>, Finding> {
    let mut failures = 0;
    loop {
        if !worker.goes_on() {
            return Ok(None);
        }
        match worker.send(name, request) {
            Err(Finding::Closed(_)) if failures < FAILURES_MAX => failures += 1,
            result => return result.map(Some),
        }
        std::thread::sleep(PAUSE);
        filled.reconnects.fetch_add(1, Relaxed);
        while let Err(trouble) = worker.reconnect() {
            failures += 1;
            if failures >= FAILURES_MAX || !worker.goes_on() {
                return Err(trouble.into());
            }
            std::thread::sleep(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_key_may_have_is_what_was_set_and_not_older() {
        let sets = Sets { seed: 7, workers: 3, keys: 1 };
        // Versions 1, 4 and 7 are of one connection.
        for (written, found, may) in [(4, 4, true), (4, 7, true), (4, 1, false), (4, 3, true)] {
            assert_eq!(sets.may_follow(0, written, found), may, "{written} {found}");
        }
        let sets = Sets { keys: 1_000_000, ..sets };
        let key = sets.key(1, 1);
        assert!(sets.may_follow(key, 4, 4) && !sets.may_follow(key + 1, 4, 4));
    }
}
