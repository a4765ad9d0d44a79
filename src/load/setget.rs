//! setget: writes a key and reads it back, over and over, and knows what each answer must be.
//!
//! A key belongs to one connection. It is set and read, set otherwise and read, deleted and read,
//! set and read again: so a stale value, and one that comes back, show too.

use super::options::Options;
use super::threads::{Finding, Owned, Status, Worker, run};
use super::value::Values;
use super::wire::{ClientRequest, Verb};
use crate::base::random::mix;
use std::process::ExitCode;

/// Writes of a key in one round.
const STEPS: u64 = 4;

/// The step that deletes.
const DELETE: u64 = 2;

/// Runs the tool.
pub fn main(mut options: Options) -> ExitCode {
    let keys = keys(&options);
    options.workers = options.workers.min(keys as usize);
    let total = options.operations;
    run("setget", &options, total, |worker| work(worker, keys), String::new)
}

/// Different keys.
fn keys(options: &Options) -> u64 {
    let all = 26_u64.checked_pow(options.key_letters as u32).unwrap_or(u64::MAX);
    all.min(options.operations.div_ceil(STEPS))
}

/// The key of this number: letters that count up.
pub fn key_name(options: &Options, number: u64) -> Vec<u8> {
    let mut name = options.prefix.as_bytes().to_vec();
    let start = name.len();
    name.resize(start + options.key_letters, b'A');
    let mut rest = number;
    for letter in name[start..].iter_mut().rev() {
        *letter = b'A' + (rest % 26) as u8;
        rest /= 26;
    }
    name
}

/// The length of a version's value.
pub fn length(options: &Options, key: u64, version: u32) -> usize {
    let (least, most) = options.value_bytes;
    let drawn = mix(mix(options.seed ^ key) ^ u64::from(version));
    least + (drawn % (most - least + 1) as u64) as usize
}

fn work(worker: &mut Worker<'_>, keys: u64) -> Result<(), Finding> {
    let (workers, number) = (worker.options.workers as u64, worker.number as u64);
    let (all, options) = (worker.options.operations, worker.options);
    // As many as the others, and one of the rest.
    let mut left = all / workers + u64::from(number < all % workers);
    let values = Values::new(options.seed);
    let mut value = vec![];
    for round in 0_u64.. {
        for key in (number..keys).step_by(workers as usize) {
            let name = key_name(options, key);
            for step in 0..STEPS {
                if left == 0 || !worker.goes_on() {
                    return Ok(());
                }
                left -= 1;
                let version = (round * STEPS + step + 1) as u32;
                if step == DELETE {
                    delete(worker, &name)?;
                } else {
                    value.clear();
                    let bytes = length(options, key, version);
                    let flags = values.put(&name, version, bytes, &mut value);
                    set(worker, &name, flags, &value)?;
                }
                let expected = (step != DELETE).then_some(version);
                get(worker, &name, values, expected, keys)?;
                worker.count();
            }
            if worker.asks_for_marks() {
                worker.mark(&name, round * keys + key)?;
            }
        }
    }
    Ok(())
}

/// An answer of this key's that cannot be right.
pub fn wrong(key: &[u8], what: impl Into<String>) -> Finding {
    Finding::Wrong { key: key.escape_ascii().to_string(), what: what.into() }
}

/// Sets a key.
fn set(worker: &mut Worker<'_>, key: &[u8], flags: u32, value: &[u8]) -> Result<(), Finding> {
    let request = ClientRequest::store(Verb::Set, key, flags, value);
    match worker.send("set", &request)?.status {
        Status::Done => Ok(()),
        status => Err(worker.failed(&request, &status)),
    }
}

fn delete(worker: &mut Worker<'_>, key: &[u8]) -> Result<(), Finding> {
    let request = ClientRequest::new(Verb::Delete, key);
    match worker.send("delete", &request)?.status {
        Status::Done => Ok(()),
        Status::Not if worker.options.is_loss_wrong => {
            Err(wrong(key, "lost: it was set and is not there to be deleted"))
        }
        Status::Not => Ok(()),
        status => Err(worker.failed(&request, &status)),
    }
}

/// Reads a key whose version, if there is one, must be `expected`.
fn get(
    worker: &mut Worker<'_>,
    key: &[u8],
    values: Values,
    expected: Option<u32>,
    keys: u64,
) -> Result<(), Finding> {
    let request = ClientRequest::new(Verb::Get, key);
    let Owned { item, status } = worker.send("get", &request)?;
    if status != Status::End {
        return Err(worker.failed(&request, &status));
    }
    let options = worker.options;
    let Some((flags, value)) = item else {
        return match expected {
            Some(version) if options.is_loss_wrong => {
                Err(wrong(key, format!("lost: version {version} was set and is not there")))
            }
            _ => Ok(()),
        };
    };
    let names = (0..keys).map(|number| key_name(options, number));
    match (check(values, key, flags, &value, names)?, expected) {
        (found, Some(expected)) if found == expected => Ok(()),
        (found, Some(expected)) => {
            let what = format!("stale: version {found}, after {expected} was acknowledged");
            Err(wrong(key, what))
        }
        (found, None) => {
            Err(wrong(key, format!("version {found} is there, after a delete was acknowledged")))
        }
    }
}

/// The version of an item of this key.
///
/// # Errors
/// It is none; it may be one of the keys `names`.
pub fn check(
    values: Values,
    key: &[u8],
    flags: u32,
    value: &[u8],
    names: impl Iterator<Item = Vec<u8>>,
) -> Result<u32, Finding> {
    values.read(key, flags, value).map_err(|error| {
        let mut what = format!("{} bytes, flags {flags}: {error}", value.len());
        if let Some((owner, version)) = values.owner(names, value).filter(|(name, _)| name != key) {
            let owner = owner.escape_ascii();
            what = format!("swapped: the value begins as version {version} of {owner}");
        }
        wrong(key, what)
    })
}
