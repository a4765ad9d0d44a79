//! kill -9 in a storm of sets and deletes, over and over. Afterwards each key has what it had at
//! one moment since its operations were made durable last: never an older value, never one that was
//! deleted before, never anything that was not set.
//!
//! When something is durable the server itself says: what was acknowledged before the counter of
//! checkpoints was read is durable when it has grown by two. With two workers the counter is of
//! both together and says nothing of either: what is durable for certain is then what was there
//! after the last start.

use super::Place;
use super::client::{Client, value};
use std::collections::HashMap;
use std::io::Result;
use std::time::{Duration, Instant};
use sunder::base::random::mix;

/// Kills, half of them with one worker and half with two; `SUNDER_SSD_KILLS` is another number.
const KILLS: u64 = 20;
const KEYS: u64 = 500;
const BATCH: usize = 40;

/// Checkpoints of a storm before the kill.
const CHECKPOINTS: u64 = 5;

/// What was asked of a key; None: a delete.
type Version = Option<u64>;

/// What was asked since the last start, by key, with its batch.
#[derive(Default)]
struct Asked {
    versions: HashMap<u64, Vec<(usize, Version)>>,
    batches: usize,
    /// Checkpoints that were read, behind which batch.
    checkpoints: Vec<(u64, usize)>,
    /// Items that the server has not written, or has given up.
    lost: u64,
    /// The counter is of one worker alone.
    is_counted: bool,
}

impl Asked {
    /// The last batch that is durable for certain.
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

/// Sets and deletes, until the server is killed while it has some of them to do.
fn storm(client: &mut Client, seed: u64, asked: &mut Asked) -> Result<()> {
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
            asked.versions.entry(key).or_default().push((number, version));
        }
        client.send(&requests)?;
        let checkpoints = asked.checkpoints.first().zip(asked.checkpoints.last());
        if checkpoints.is_some_and(|(first, last)| last.0 - first.0 >= CHECKPOINTS) {
            std::thread::sleep(Duration::from_micros(mix(seed) % 8_000));
            client.server.kill();
            return Ok(());
        }
        for _ in 0..BATCH {
            let line = client.line()?;
            assert!(["STORED", "DELETED", "NOT_FOUND"].contains(&&*line), "{line}");
        }
        asked.batches = number;
        if number.is_multiple_of(4) {
            let checkpoints = client.stat("ssd_checkpoints")?;
            asked.checkpoints.push((checkpoints, number));
            asked.lost = client.stat("ssd_not_written")? + client.stat("ssd_reclaimed")?;
        }
    }
    Ok(())
}

/// Holds what is there against what was asked; `has` is what keys had before.
fn check(client: &mut Client, has: &mut HashMap<u64, Version>, asked: &Asked) -> u64 {
    let durable = asked.durable();
    let mut missing = 0;
    for key in 0..KEYS {
        let found = client.get(&format!("k{key}")).map(|(_, bytes)| bytes);
        let versions = asked.versions.get(&key).map_or(&[][..], |it| it);
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
            (None, None) if asked.lost > 0 => {
                missing += 1;
                None
            }
            _ => panic!(
                "k{key} has {:?}, after {versions:?} (durable: {durable} of {}), before {:?}",
                found.map(|found| found.len()),
                asked.batches,
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
        let place = Place::new();
        let tier = place.tier(",size=600M,flush=20");
        let flags = ["--workers", workers, "--poll", "adaptive", "--l1", &tier];
        let mut has = HashMap::new();
        let mut client = Client::start(&flags);
        for round in 0..kills {
            let mut asked = Asked { is_counted: workers == "1", ..Asked::default() };
            storm(&mut client, round + 1, &mut asked).expect("only the kill ends it");
            drop(client);
            let start = Instant::now();
            client = Client::start(&flags);
            let started = start.elapsed();
            let missing = check(&mut client, &mut has, &asked);
            let line = client.server.stderr();
            let (_, found) = line.rsplit_once("; ").unwrap_or_default();
            println!(
                "workers {workers}, kill {round}: {} batches, durable {}, {missing} missing; \
                 ready in {started:?}: {}",
                asked.batches,
                asked.durable(),
                found.lines().next().unwrap_or_default(),
            );
            assert_eq!(asked.durable() > 0, asked.is_counted, "something became durable");
        }
    }
}
