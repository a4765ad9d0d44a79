//! kill -9 during a storm of sets and deletes, repeatedly. Afterwards each key has its value from
//! one moment after its operations were last made durable: never an older value, never one that was
//! deleted before, never anything that was not set.
//!
//! The server itself reports what is durable: everything acknowledged before the counter of
//! checkpoints was read is durable when the counter has increased by two. With two workers the
//! counter is the sum of both and shows nothing about either: then only the items after the last
//! start are certainly durable.

use super::LogFile;
use super::client::{Client, value};
use std::collections::HashMap;
use std::io::Result;
use std::time::{Duration, Instant};
use sunder::base::random::mix;

/// Kills, half of them with one worker and half with two; `SUNDER_SSD_KILLS` sets another number.
const KILLS: u64 = 20;
const KEYS: u64 = 500;
const BATCH: usize = 40;

/// Checkpoints of a storm before the kill.
const CHECKPOINTS: u64 = 5;

/// The operation on a key; None: a delete.
type Version = Option<u64>;

/// The operations since the last start, by key, with their batch.
#[derive(Default)]
struct Issued {
    versions: HashMap<u64, Vec<(usize, Version)>>,
    batches: usize,
    /// Checkpoint counts read, and after which batch.
    checkpoints: Vec<(u64, usize)>,
    /// Items that the server has not written, or has discarded.
    lost: u64,
    /// The counter is that of a single worker.
    is_counted: bool,
}

impl Issued {
    /// The last batch that is certainly durable.
    fn durable(&self) -> usize {
        let last = self.checkpoints.last().filter(|_| self.is_counted);
        let Some(&(last, _)) = last else { return 0 };
        let covered = self.checkpoints.iter().filter(|(count, _)| count + 2 <= last);
        covered.map(|&(_, batch)| batch).max().unwrap_or(0)
    }
}

fn bytes(key: u64, version: u64) -> Vec<u8> {
    let len = mix(key ^ version << 20) % 3000;
    [&key.to_le_bytes()[..], &version.to_le_bytes(), &value(version, len as usize)].concat()
}

/// Sets and deletes, until the server is killed with some of them outstanding.
fn storm(client: &mut Client, seed: u64, issued: &mut Issued) -> Result<()> {
    for number in 1.. {
        let mut requests = Vec::new();
        for i in 0..BATCH {
            let drawn = mix(seed << 40 | (number * BATCH + i) as u64);
            let (key, version) = (drawn % KEYS, drawn | 1);
            let is_delete = drawn >> 60 == 0;
            let version = (!is_delete).then_some(version);
            match version {
                None => requests.extend(format!("delete k{key}\r\n").as_bytes()),
                Some(version) => {
                    let bytes = bytes(key, version);
                    requests.extend(format!("set k{key} 0 0 {}\r\n", bytes.len()).as_bytes());
                    requests.extend([&bytes[..], b"\r\n"].concat());
                }
            }
            issued.versions.entry(key).or_default().push((number, version));
        }
        client.send(&requests)?;
        let checkpoints = issued.checkpoints.first().zip(issued.checkpoints.last());
        if checkpoints.is_some_and(|(first, last)| last.0 - first.0 >= CHECKPOINTS) {
            std::thread::sleep(Duration::from_micros(mix(seed) % 8_000));
            client.server.kill();
            return Ok(());
        }
        for _ in 0..BATCH {
            let line = client.line()?;
            assert!(["STORED", "DELETED", "NOT_FOUND"].contains(&&*line), "{line}");
        }
        issued.batches = number;
        if number.is_multiple_of(4) {
            let checkpoints = client.stat("ssd_checkpoints")?;
            issued.checkpoints.push((checkpoints, number));
            issued.lost = client.stat("ssd_not_written")? + client.stat("ssd_reclaimed")?;
        }
    }
    Ok(())
}

/// Compares the stored values with the operations; `has` is what keys had before.
fn check(client: &mut Client, has: &mut HashMap<u64, Version>, issued: &Issued) -> u64 {
    let durable = issued.durable();
    let mut missing = 0;
    for key in 0..KEYS {
        let found = client.get(&format!("k{key}")).map(|(_, bytes)| bytes);
        let versions = issued.versions.get(&key).map_or(&[][..], |it| it);
        let last = versions.iter().rposition(|(batch, _)| *batch <= durable);
        let before = match last {
            Some(last) => versions[last].1,
            None => has.get(&key).copied().flatten(),
        };
        let later = versions[last.map_or(0, |last| last + 1)..].iter().map(|(_, version)| *version);
        let mut may = std::iter::once(before).chain(later);
        let is = may.find(|version| version.map(|version| bytes(key, version)) == found);
        let is = match (is, &found) {
            (Some(is), _) => is,
            (None, None) if issued.lost > 0 => {
                missing += 1;
                None
            }
            _ => panic!(
                "k{key} has {:?}, after {versions:?} (durable: {durable} of {}), before {:?}",
                found.map(|found| found.len()),
                issued.batches,
                has.get(&key),
            ),
        };
        has.insert(key, is);
    }
    missing
}

#[test]
fn killed_in_a_storm() {
    let number = |text: String| text.parse().expect("a number");
    let kills = std::env::var("SUNDER_SSD_KILLS").map_or(KILLS, number);
    for (workers, kills) in [("1", kills - kills / 2), ("2", kills / 2)] {
        let place = LogFile::new();
        let tier = place.tier(",size=600M,flush=20");
        let flags = ["--workers", workers, "--poll", "adaptive", "--l1", &tier];
        let mut has = HashMap::new();
        let mut client = Client::start(&flags);
        for round in 0..kills {
            let mut issued = Issued { is_counted: workers == "1", ..Issued::default() };
            storm(&mut client, round + 1, &mut issued).expect("only the kill ends it");
            drop(client);
            let start = Instant::now();
            client = Client::start(&flags);
            let started = start.elapsed();
            let missing = check(&mut client, &mut has, &issued);
            let line = client.server.stderr();
            let (_, found) = line.rsplit_once("; ").unwrap_or_default();
            println!(
                "workers {workers}, kill {round}: {} batches, durable {}, {missing} missing; \
                 ready in {started:?}: {}",
                issued.batches,
                issued.durable(),
                found.lines().next().unwrap_or_default(),
            );
            assert_eq!(issued.durable() > 0, issued.is_counted, "something became durable");
        }
    }
}
