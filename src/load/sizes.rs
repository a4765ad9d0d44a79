//! sizes: sets and reads back a value of every length, and says which ones the server takes.
//!
//! Each connection writes all its lengths to one key, so that an old value shows.

use super::options::Options;
use super::setget::{check, key_name};
use super::threads::{Finding, Status, Worker, run};
use super::value::Values;
use super::wire::{ClientRequest, Verb};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What the server takes.
#[derive(Debug)]
struct Taken {
    longest_bytes: AtomicU64,
    stored: AtomicU64,
    shortest_refused_bytes: AtomicU64,
    refused: AtomicU64,
}

/// Runs the tool.
pub fn main(mut options: Options) -> ExitCode {
    let (least, most) = options.value_bytes;
    let total = ((most - least) / options.step_bytes + 1) as u64;
    let all = 26_u64.checked_pow(options.key_letters as u32).unwrap_or(u64::MAX);
    options.workers = options.workers.min(total.min(all) as usize);
    let taken = Taken {
        longest_bytes: AtomicU64::new(0),
        stored: AtomicU64::new(0),
        shortest_refused_bytes: AtomicU64::new(u64::MAX),
        refused: AtomicU64::new(0),
    };
    let sum_up = || {
        let Taken { longest_bytes, stored, shortest_refused_bytes, refused } = &taken;
        let (stored, longest) = (stored.load(Relaxed), longest_bytes.load(Relaxed));
        let mut text = format!("\n{stored} lengths are taken, up to {longest} bytes");
        if refused.load(Relaxed) > 0 {
            let (refused, from) = (refused.load(Relaxed), shortest_refused_bytes.load(Relaxed));
            text.push_str(&format!("; {refused} are too large, from {from} bytes on"));
        }
        text
    };
    run("sizes", &options, total, |worker| work(worker, total, &taken), sum_up)
}

fn work(worker: &mut Worker<'_>, total: u64, taken: &Taken) -> Result<(), Finding> {
    let options = worker.options;
    let values = Values::new(options.seed);
    let key = key_name(options, worker.number as u64);
    let mut value = vec![];
    for index in (worker.number as u64..total).step_by(options.workers) {
        if !worker.goes_on() {
            return Ok(());
        }
        let bytes = options.value_bytes.0 + index as usize * options.step_bytes;
        let version = index as u32 + 1;
        value.clear();
        let flags = values.put(&key, version, bytes, &mut value);
        let request = ClientRequest::store(Verb::Set, &key, flags, &value);
        let is_stored = match worker.send("set", &request)?.status {
            Status::Done => true,
            Status::TooLarge => false,
            status => return Err(worker.failed(&request, &status)),
        };
        if is_stored {
            taken.stored.fetch_add(1, Relaxed);
            taken.longest_bytes.fetch_max(bytes as u64, Relaxed);
        } else {
            taken.refused.fetch_add(1, Relaxed);
            taken.shortest_refused_bytes.fetch_min(bytes as u64, Relaxed);
        }
        read_back(worker, &key, values, version, bytes, is_stored)?;
        worker.count();
    }
    Ok(())
}

fn read_back(
    worker: &mut Worker<'_>,
    key: &[u8],
    values: Values,
    version: u32,
    bytes: usize,
    is_stored: bool,
) -> Result<(), Finding> {
    let options = worker.options;
    let request = ClientRequest::new(Verb::Get, key);
    let answer = worker.send("get", &request)?;
    let wrong = |what: String| {
        let what = format!("{bytes} bytes: {what}");
        Err(Finding::Wrong { key: key.escape_ascii().to_string(), what })
    };
    if answer.status != Status::End {
        return Err(worker.failed(&request, &answer.status));
    }
    let Some((flags, value)) = answer.item else {
        return match is_stored && options.is_loss_wrong {
            true => wrong("lost: it was stored and is not there".into()),
            false => Ok(()),
        };
    };
    let names = (0..options.workers as u64).map(|number| key_name(options, number));
    let found = check(values, key, flags, &value, names)?;
    match is_stored {
        true if found == version => Ok(()),
        true => wrong(format!("stale: version {found}, after {version} was acknowledged")),
        false => wrong(format!("version {found} is there, after {version} was refused")),
    }
}
