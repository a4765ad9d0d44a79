//! Random commands to the chunked tier and to the memory tier: equal outcomes and values.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sunder::base::buffer::Chain;
use sunder::base::clock::{Expiry, Now};
use sunder::base::stats::WorkerStats;
use sunder::tier::memory::{Memory, MemoryConfig};
use sunder::tier::{Arithmetic, Outcome, Store, StoreMode, Tier, Value};

use super::rig::{REND, Rig, Server, value};
use crate::memcached_tier::fixture::{PATIENCE, key, words};

/// A small generator; the seed reproduces a run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

#[derive(Clone, Debug)]
enum Command {
    Get,
    GetAndTouch(u32),
    Store { mode: StoreMode, flags: u32, after_s: u32, with_cas: u64, value: Vec<u8> },
    Delete { with_cas: u64 },
    Touch(u32),
    Arithmetic { decrement: bool, delta: u64, initial: Option<u64>, with_cas: u64 },
    Flush,
}

/// The cas of a command: 0 none, 1 the item's, 2 another.
fn with_cas(random: &mut Random) -> u64 {
    random.below(6).saturating_sub(3)
}

fn command(random: &mut Random) -> Command {
    let after_s = [0, 1_000, 100_000][random.below(3) as usize];
    match random.below(30) {
        0..7 => Command::Get,
        7..9 => Command::GetAndTouch(after_s),
        9..20 => {
            let modes = [
                StoreMode::Set,
                StoreMode::Add,
                StoreMode::Replace,
                StoreMode::Append,
                StoreMode::Prepend,
            ];
            let mode = modes[random.below(5) as usize];
            let len = match random.below(6) {
                0 => 0,
                1 => random.below(30),
                2 => (random.below(4) * 1096).saturating_sub(random.below(3)),
                3 => random.below(100_000),
                _ => random.below(5_000),
            } as usize;
            let value = match random.below(3) {
                0 => random.below(1 << 40).to_string().into_bytes(),
                1 => [random.below(1000).to_string().into_bytes(), vec![b' '; len]].concat(),
                _ => value(random.below(256) as u8, len),
            };
            let flags = random.below(3) as u32;
            Command::Store { mode, flags, after_s, with_cas: with_cas(random), value }
        }
        20..23 => Command::Delete { with_cas: with_cas(random) },
        23..25 => Command::Touch(after_s),
        25..29 => Command::Arithmetic {
            decrement: random.below(2) == 0,
            delta: [1, 7, 1 << 40, u64::MAX][random.below(4) as usize],
            initial: (random.below(2) == 0).then(|| random.below(100)),
            with_cas: with_cas(random),
        },
        _ => Command::Flush,
    }
}

fn expiry(after_s: u32, now: Now) -> Expiry {
    if after_s == 0 { Expiry::NEVER } else { Expiry::from_unix_s(now.unix_s + after_s) }
}

/// The cas to send: the item's own in this tier, or one that it cannot have.
fn cas(with_cas: u64, own: u64) -> u64 {
    match with_cas {
        0 => 0,
        1 => own.max(1),
        _ => own + (1 << 40),
    }
}

async fn execute<T: Tier>(tier: &T, name: &[u8], command: &Command, now: Now) -> Outcome<T::Value> {
    let name = key(name);
    let own = match tier.get(&name, now).await {
        Outcome::Hit(hit) => hit.cas,
        _ => 0,
    };
    match command {
        Command::Get => tier.get_with_expiry(&name, now).await,
        Command::GetAndTouch(after_s) => {
            tier.get_and_touch(&name, expiry(*after_s, now), now).await
        }
        Command::Store { mode, flags, after_s, with_cas, value } => {
            let cas = cas(*with_cas, own);
            let store = Store { mode: *mode, flags: *flags, expiry: expiry(*after_s, now), cas };
            tier.store(&name, store, &Chain::from_slice(value), now).await
        }
        Command::Delete { with_cas } => tier.delete(&name, cas(*with_cas, own), now).await,
        Command::Touch(after_s) => tier.touch(&name, expiry(*after_s, now), now).await,
        Command::Arithmetic { decrement, delta, initial, with_cas } => {
            let arithmetic = Arithmetic {
                decrement: *decrement,
                delta: *delta,
                initial: initial.map(|initial| (initial, Expiry::NEVER)),
                cas: cas(*with_cas, own),
            };
            tier.arithmetic(&name, arithmetic, now).await
        }
        Command::Flush => tier.flush_all(Expiry::NEVER, now).await,
    }
}

/// The parts of an outcome that must be equal. Expiries may be a tick apart.
fn comparable<V: Value>(outcome: Outcome<V>, now: Now) -> (String, u32) {
    let outcome = outcome.map_value(|value| {
        let mut bytes = vec![0; value.len()];
        value.copy_to(0, &mut bytes);
        Chain::from_slice(&bytes)
    });
    match outcome {
        Outcome::Hit(mut hit) => {
            let expiry_s = hit.expiry.unix_s();
            if hit.expiry != Expiry::NEVER {
                hit.expiry = Expiry::from_unix_s(now.unix_s);
            }
            (words(&Outcome::Hit(hit), now), expiry_s)
        }
        other => (words(&other, now), 0),
    }
}

fn run(seed: u64, chunk_sizes: &[usize], commands: usize) {
    let server = Server::start(&[]);
    let rigs: Vec<Rig> = chunk_sizes.iter().map(|&bytes| server.tier(bytes)).collect();
    let memory = Memory::new(MemoryConfig {
        bytes: 64 << 20,
        item_bytes_max: 64 << 20,
        worker: 0,
        workers: 1,
        stats: Arc::new(WorkerStats::default()),
    })
    .expect("memory");
    let long = [b'k'; 250];
    let names: [&[u8]; 5] = [b"a", b"b", b"not fit\0for text", &long, &[b' '; 200]];
    let mut random = Random(seed | 1);
    for number in 0..commands {
        let name = names[random.below(names.len() as u64) as usize];
        let command = command(&mut random);
        let rig = &rigs[random.below(rigs.len() as u64) as usize];
        let now = rig.now();
        let found = comparable(rig.run(execute(&rig.tier, name, &command, now)), now);
        let expected = comparable(rig.run(execute(&memory, name, &command, now)), now);
        let show = |text: &str| text.chars().take(200).collect::<String>();
        assert!(
            found.0 == expected.0 && found.1.abs_diff(expected.1) <= 2,
            "seed {seed}, command {number}: {}\non {}\nchunked: {} {}\nmemory:  {} {}",
            show(&format!("{command:?}")),
            show(&name.escape_ascii().to_string()),
            show(&found.0),
            found.1,
            show(&expected.0),
            expected.1,
        );
    }
    // Deleting everything leaves nothing: no chunk was orphaned.
    for name in names {
        rigs[0].run(rigs[0].tier.delete(&key(name), 0, rigs[0].now()));
    }
    // Items removed by flush_all count until memcached itself reclaims them.
    let start = Instant::now();
    while server.raw().items() > 0 {
        assert!(start.elapsed() < PATIENCE, "seed {seed}: {} items stay", server.raw().items());
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn random_commands_give_the_same_results_as_in_memory() {
    for seed in 1..=6 {
        run(seed, &[REND], 1_500);
    }
}

#[test]
fn random_commands_give_the_same_results_while_the_chunk_size_changes() {
    for seed in 11..=14 {
        run(seed, &[REND, 512, 16 * 1024], 1_500);
    }
}
