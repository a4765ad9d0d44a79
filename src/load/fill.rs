//! fill: sets keys drawn at random, to fill a cache.
//!
//! Opens a connection that ends again, as Rend's does, but not for ever.

use super::options::{Asked, Spec, parse};
use super::setget::{key_name, length};
use super::threads::{Finding, Said, Worker, run};
use super::value::Values;
use super::wire::{Request, Verb};
use crate::random::mix;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

pub(crate) const SPEC: Spec = Spec {
    name: "fill",
    help: "\
sunder fill: set keys drawn at random

Usage: sunder fill [FLAGS]

A connection that ends is opened again; ten failures in a row end the run.

  -n, --num-ops N     sets [1000000]; values have 5K-20K bytes
",
    flags: &["num-ops"],
    operations: 1_000_000,
    value_bytes: (5 * 1024, 20 * 1024),
    has_records: false,
};

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
pub fn main(words: Vec<OsString>) -> ExitCode {
    let options = match parse(&SPEC, words) {
        Ok(Asked::Run(options)) => options,
        other => return super::answer_words(SPEC.name, other),
    };
    let filled = Filled::default();
    let sum_up = || {
        let mb = filled.bytes.load(Relaxed) as f64 / 1e6;
        let reconnects = filled.reconnects.load(Relaxed);
        format!("\n{mb:.1} MB of values, {reconnects} connections opened again")
    };
    run(SPEC.name, &options, options.operations, |worker| work(worker, &filled), sum_up)
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
            match worker.ask("set", &Request::store(Verb::Set, &name, flags, &value)) {
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
        match answer.said {
            Said::Done => {}
            Said::Other(text) => {
                let name = name.escape_ascii();
                return Err(Finding::Trouble(format!("key {name}: set was answered '{text}'")));
            }
            said => return Err(Finding::Trouble(format!("a set was answered {said:?}"))),
        }
        filled.bytes.fetch_add(value.len() as u64, Relaxed);
        worker.count();
    }
    Ok(())
}
