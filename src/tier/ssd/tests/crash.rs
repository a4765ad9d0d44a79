//! After a crash the log is as it was at one moment, and that moment is not before what was
//! durable.

use super::super::disk::sim::{Discard, Faults};
use super::*;
use crate::base::random::Random;

const KEYS: usize = 60;

/// What an operation left a key with.
#[derive(Clone, Debug)]
struct Change {
    key: usize,
    value: Option<Vec<u8>>,
    expiry: Expiry,
    /// It is durable if everything up to this sequence is.
    sequence: u64,
}

/// What a key was found to have.
type Seen = Option<(Vec<u8>, Expiry)>;

/// Everything that was done, in order.
#[derive(Clone, Default)]
struct History {
    changes: Vec<Change>,
}

fn name(key: usize) -> String {
    format!("key{key}")
}

impl History {
    /// What a key has now.
    fn last(&self, key: usize) -> Option<&Change> {
        self.changes.iter().rev().find(|change| change.key == key)
    }

    /// Checks that `seen`, by key, is what there was at one moment at or after `floor`, but for
    /// what is missing. Returns the number of keys that have a value.
    fn check(&self, seen: &[Seen], floor: usize, now: Now, what: &str) -> usize {
        // By how many changes were made: how many keys had then what was found.
        let mut had = vec![0; self.changes.len() + 1];
        let mut hits = 0;
        for (key, value) in seen.iter().enumerate() {
            let Some((value, expiry)) = value else { continue };
            hits += 1;
            assert!(!expiry.is_past(now), "{what}: {key} has expired");
            let mut is_it = false;
            let mut ever = false;
            for (moment, had) in had.iter_mut().enumerate() {
                if let Some(change) = moment.checked_sub(1).map(|last| &self.changes[last])
                    && change.key == key
                {
                    is_it = change.value.as_ref() == Some(value) && change.expiry == *expiry;
                }
                *had += usize::from(is_it);
                ever |= is_it;
            }
            assert!(ever, "{what}: {key} has a value that it never had");
        }
        let moment = had.iter().skip(floor).position(|had| *had == hits);
        assert!(
            moment.is_some(),
            "{what}: {hits} were never there at once, after {floor} durable of {}",
            self.changes.len()
        );
        hits
    }
}

fn seen(bench: &mut Bench) -> Vec<Seen> {
    let mut get = |key| match bench.run(name(key).as_bytes(), Action::GetWithExpiry, b"") {
        Outcome::Hit(hit) => Some((hit.value.to_vec(), hit.expiry)),
        Outcome::Miss => None,
        other => panic!("{other:?}"),
    };
    (0..KEYS).map(&mut get).collect()
}

struct World {
    bench: Bench,
    random: Random,
    history: History,
    stamp: u64,
}

impl World {
    fn new(seed: u64, options: Options) -> World {
        let image = vec![0; part_bytes(SEGMENTS, SEGMENT_BYTES)];
        let mut bench = Bench::with(image, options, seed);
        bench.turn_us = 40;
        World { bench, random: Random::new(seed), history: History::default(), stamp: 0 }
    }

    fn value(&mut self) -> Vec<u8> {
        let len = match self.random.below(20) {
            0 => 5_000 + self.random.below(25_000),
            1..5 => 2_000 + self.random.below(2_000),
            _ => 20 + self.random.below(900),
        };
        self.stamp += 1;
        let stamp = self.stamp.to_le_bytes();
        (0..len as usize).map(|i| stamp[i % 8] ^ (i / 8) as u8).collect()
    }

    fn expiry(&mut self) -> Expiry {
        let now_s = self.bench.now.unix_s;
        match self.random.below(4) {
            0 => Expiry::from_unix_s(now_s + 1 + self.random.below(20) as u32),
            1 => Expiry::from_unix_s(now_s + 100_000),
            _ => Expiry::NEVER,
        }
    }

    /// One operation, and what it changed. Returns how many cuts were made meanwhile.
    fn step(&mut self) -> usize {
        let key = self.random.below(KEYS as u64) as usize;
        let k = name(key).into_bytes();
        let (value, expiry) = (self.value(), self.expiry());
        let before = self.history.last(key).cloned();
        let set = Store { mode: StoreMode::Set, flags: 0, expiry, cas: 0 };
        let changed = match self.random.below(100) {
            0..60 => {
                self.bench.store(&k, &value, set);
                Some((Some(value), expiry))
            }
            60..75 => {
                self.bench.run(&k, Action::Delete { cas: 0 }, b"");
                Some((None, expiry))
            }
            75..83 => match self.bench.run(&k, Action::Touch { expiry }, b"") {
                Outcome::Touched { .. } => Some((before.and_then(|it| it.value), expiry)),
                _ => None,
            },
            83..90 => {
                let append = Store { mode: StoreMode::Append, ..set };
                let value = &value[..value.len().min(500)];
                match self.bench.store(&k, value, append) {
                    Outcome::Stored { .. } => before.map(|it| {
                        let mut whole = it.value.unwrap_or_default();
                        whole.extend(value);
                        (Some(whole), it.expiry)
                    }),
                    _ => None,
                }
            }
            _ => {
                let found = self.bench.get(&k);
                if let Some(found) = found {
                    let expected = before.and_then(|it| it.value);
                    assert!(Some(found) == expected, "{key} at operation {}", self.stamp);
                }
                None
            }
        };
        // Whatever it did takes effect after all turns that it waited for.
        let cuts = self.recover_all("within an operation");
        if let Some((value, expiry)) = changed {
            let log = self.bench.ssd.log.borrow();
            let is_written = log.kills.is_empty();
            let sequence = if is_written { log.sequences.last() } else { u64::MAX };
            drop(log);
            self.history.changes.push(Change { key, value, expiry, sequence });
        }
        cuts
    }

    /// How many changes are durable if everything up to this sequence is.
    fn floor(&self, durable: u64) -> usize {
        let is_durable = |change: &Change| change.sequence <= durable;
        self.history.changes.iter().rposition(is_durable).map_or(0, |at| at + 1)
    }

    /// The log after a crash at this moment, which must be right.
    fn crash(&self, cut: Cut, what: &str) -> (Bench, Vec<Seen>) {
        let settled = self.bench.ssd.log.borrow().checkpoint.settled();
        self.recover(Left { image: self.bench.medium.image(cut), cut, settled }, what)
    }

    fn recover(&self, left: Left, what: &str) -> (Bench, Vec<Seen>) {
        let Left { image, cut, settled } = left;
        let what = &format!("{what}, {cut:?}");
        let options = Options { stats: Arc::default(), ..options() };
        let now = self.bench.now;
        let mut again = Bench::try_with(image, options, 5, now).expect("opens");
        assert_eq!(again.counter(Counter::SsdDrops), 0, "{what}: nothing is damaged");
        let seen = seen(&mut again);
        self.history.check(&seen, self.floor(settled), now, what);
        assert_eq!(again.counter(Counter::SsdCorrupt), 0, "{what}");
        (again, seen)
    }

    /// Looks at what the cuts left that were made since the last change. Returns how many.
    fn recover_all(&mut self, what: &str) -> usize {
        let cuts = self.bench.cuts.as_mut().map(std::mem::take).unwrap_or_default();
        let count = cuts.len();
        cuts.into_iter().for_each(|left| drop(self.recover(left, what)));
        count
    }

    /// Goes on with what a crash left.
    fn go_on_with(&mut self, bench: Bench, seen: Vec<Seen>) {
        let changes = seen.into_iter().enumerate().map(|(key, seen)| {
            let (value, expiry) = seen.map_or((None, Expiry::NEVER), |(v, e)| (Some(v), e));
            Change { key, value, expiry, sequence: 0 }
        });
        self.history = History { changes: changes.collect() };
        self.bench = bench;
        self.bench.turn_us = 40;
    }
}

#[test]
fn a_cut_at_every_boundary_leaves_what_was_there_at_one_moment() {
    let mut world = World::new(1, Options { flush_ms: 2, ..options() });
    world.bench.cuts = Some(Vec::new());
    // One I/O a turn: there is nothing between two cuts.
    world.bench.medium.set_done_per_turn(1);
    let mut cuts = 0;
    for operation in 0..wanted("SUNDER_SSD_CUTS", 1_000) {
        cuts += world.step();
        for _ in 0..1 + world.random.below(3) {
            world.bench.turn();
            cuts += world.recover_all(&format!("after operation {operation}"));
        }
        if world.random.below(50) == 0 {
            world.bench.now.unix_s += 10;
        }
    }
    println!("{cuts} cuts");
    assert!(cuts > 1_500 && world.bench.counter(Counter::SsdReclaimed) > 5, "{cuts}");
}

#[test]
fn crash_after_crash_brings_nothing_back() {
    crash_again_and_again(|_| Faults { delay_us: 0..=400, ..Faults::default() });
}

#[test]
fn crashes_of_a_disk_that_fails_bring_nothing_back() {
    let faults = Faults { read_error: 20_000, no_space: 5_000, short: 50_000, ..Faults::default() };
    let faults = Faults { write_error: 30_000, flush_error: 10_000, ..faults };
    let faults = Faults { delay_us: 0..=200, discard: Discard::Either, ..faults };
    crash_again_and_again(|_| faults.clone());
}

#[test]
fn crashes_of_a_disk_that_hardly_ever_works_bring_nothing_back() {
    let rates = [300_000, 700_000, 990_000];
    crash_again_and_again(|round| match rates.get(round % 5) {
        Some(rate) => Faults { delay_us: 0..=200, ..Faults::failing(*rate) },
        None => Faults::default(),
    });
}

fn crash_again_and_again(faults: impl Fn(usize) -> Faults) {
    let (mut reclaimed, mut tombstones) = (0, 0);
    let seeds = wanted("SUNDER_SSD_SEEDS", 16);
    for seed in 0..seeds {
        let mut world = World::new(seed, options());
        for round in 0..25 {
            world.bench.medium.set_faults(faults(round));
            for _ in 0..40 + world.random.below(400) {
                world.step();
                world.bench.turn();
                if world.random.below(200) == 0 {
                    world.bench.now.unix_s += 5;
                }
            }
            reclaimed += world.bench.counter(Counter::SsdReclaimed);
            tombstones += world.bench.counter(Counter::SsdTombstones);
            let cut = CUTS[world.random.below(3) as usize];
            let (bench, seen) = world.crash(cut, &format!("seed {seed}, round {round}"));
            world.go_on_with(bench, seen);
        }
    }
    println!("{seeds} seeds: {reclaimed} segments reclaimed, {tombstones} tombstones");
    assert!(reclaimed > 20 * seeds && tombstones > 150 * seeds, "{reclaimed} {tombstones}");
}

/// A log with a history that is wholly durable, and its image.
fn stopped(seed: u64) -> (World, Vec<u8>) {
    let mut world = World::new(seed, options());
    for _ in 0..1_500 {
        world.step();
        world.bench.turn();
    }
    world.bench.stop();
    let image = world.bench.medium.image(Cut::Lost);
    (world, image)
}

#[test]
fn after_a_clean_stop_everything_is_there() {
    let (mut world, image) = stopped(2);
    let expected = seen(&mut world.bench);
    let mut again = Bench::try_with(image, options(), 5, world.bench.now).expect("opens");
    let hits = expected.iter().flatten().count();
    assert!(hits > KEYS / 2, "{hits}");
    assert!(seen(&mut again) == expected);
    assert_eq!(again.ssd.items(), world.bench.ssd.items());
}

/// Flips bits of an image, in `places`, opens it and looks at everything.
fn flipped(
    world: &World,
    image: &[u8],
    (flips, places): (usize, &[std::ops::Range<usize>]),
    floor: usize,
    random: &mut Random,
) -> (u64, usize) {
    let mut image = image.to_vec();
    for _ in 0..flips {
        let place = &places[random.below(places.len() as u64) as usize];
        let bit = random.below(place.len() as u64 * 8) as usize;
        image[place.start + bit / 8] ^= 1 << (bit % 8);
    }
    let options = Options { stats: Arc::default(), ..options() };
    let now = world.bench.now;
    let mut again = match Bench::try_with(image, options, 5, now) {
        Ok(again) => again,
        // Both superblocks.
        Err(OpenError::Foreign) if flips > 1 => return (1, 0),
        Err(error) => panic!("{error}"),
    };
    let seen = seen(&mut again);
    let hits = world.history.check(&seen, floor, now, "a flipped bit");
    (again.counter(Counter::SsdDrops), hits)
}

#[test]
fn one_flipped_bit_loses_one_item_and_many_flipped_bits_bring_nothing_wrong() {
    let (mut world, image) = stopped(3);
    let hits = seen(&mut world.bench).iter().flatten().count();
    let floor = world.history.changes.len();
    let everywhere: Vec<_> = std::iter::once(0..image.len()).collect();
    let mut random = Random::new(9);
    for _ in 0..2_000 {
        let (drops, left) = flipped(&world, &image, (1, &everywhere), floor, &mut random);
        assert!(drops == 0 && left + 1 >= hits, "{left} of {hits} are left");
    }
    let (mut left, mut logs, mut whole) = (wanted("SUNDER_SSD_FLIPS", 100_000), 0, 0);
    while left > 0 {
        let flips = [2, 10, 100, 288][random.below(4) as usize].min(left);
        left -= flips;
        logs += 1;
        let what = (flips as usize, &everywhere[..]);
        whole += u64::from(flipped(&world, &image, what, floor, &mut random).0 == 0);
    }
    println!("{whole} of {logs} logs were not given up");
    assert!(whole * 5 > logs, "{whole} of {logs} logs were not given up");
}

#[test]
fn a_flipped_bit_in_what_a_crash_left_open_brings_nothing_wrong() {
    let (mut logs, mut drops) = (0, 0);
    for seed in 20..24 {
        let mut world = World::new(seed, options());
        for _ in 0..600 {
            world.step();
            world.bench.turn();
        }
        // A record is lost to the flip, and those behind it only where none of them is durable.
        let log = world.bench.ssd.log.borrow();
        let start = |segment: u32| log.segments.start_bytes(segment) as usize;
        let places: Vec<_> = log
            .writer
            .opens()
            .iter()
            .filter(|open| open.completed() > 0)
            .map(|open| start(open.segment)..start(open.segment) + open.completed() as usize)
            .collect();
        let floor = world.floor(log.checkpoint.settled());
        drop(log);
        let image = world.bench.medium.image(Cut::Kept);
        let mut random = Random::new(seed);
        for _ in 0..wanted("SUNDER_SSD_FLIPS", 100_000) / 400 {
            drops += flipped(&world, &image, (1, &places), floor, &mut random).0;
            logs += 1;
        }
    }
    println!("{drops} of {logs} logs were given up");
    assert!(drops < logs, "{drops} of {logs} logs were given up");
}
