//! fill: sets keys drawn at random, to fill a cache.
//!
//! Opens a connection that ends again, as Rend's does, but not for ever.

use super::options::Options;
use super::setget::{key_name, length};
use super::threads::{Finding, Status, Worker, run};
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

fn work(worker: &mut Worker<'_>, filled: &Filled) -> Result<(), Finding> {
    let options = worker.options;
    let (workers, number) = (options.workers as u64, worker.number as u64);
    let all = options.operations;
    let sets = all / workers + u64::from(number < all % workers);
    let keys = 26_u64.checked_pow(options.key_letters as u32).unwrap_or(u64::MAX);
    let values = Values::new(options.seed);
    let mut value = vec![];
    for set in 0..sets {
        let drawn = mix(mix(options.seed ^ number) ^ set);
        let key = drawn % keys;
        let name = key_name(options, key);
        // No two connections write one version of a key.
        let version = (set * workers + number) as u32;
        value.clear();
        let flags = values.put(&name, version, length(options, key, version), &mut value);
        let mut failures = 0;
        let answer = loop {
            if !worker.goes_on() {
                return Ok(());
            }
            match worker.send("set", &ClientRequest::store(Verb::Set, &name, flags, &value)) {
                Err(Finding::Closed(_)) if failures < FAILURES_MAX => failures += 1,
                result => break result?,
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
        };
        match answer.status {
            Status::Done => {}
            Status::Other(text) => {
                let name = name.escape_ascii();
                return Err(Finding::Trouble(format!("key {name}: set was answered '{text}'")));
            }
            status => return Err(Finding::Trouble(format!("a set was answered {status:?}"))),
        }
        filled.bytes.fetch_add(value.len() as u64, Relaxed);
        worker.count();
    }
    Ok(())
}
