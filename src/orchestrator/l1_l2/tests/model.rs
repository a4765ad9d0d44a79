//! Random histories with faults in either tier, against the answers that a client may get.
//!
//! For each key the model knows which items it may have: after an acknowledged operation exactly
//! one, after a failed one also the previous ones. Every answer must be possible, and reduces them.

use super::sim::Rng;
use super::*;

/// A possible item of a key.
#[derive(Clone, Debug)]
struct Entry {
    version: u64,
    value: Vec<u8>,
    expiry: Expiry,
    /// When its operation finished, in turns.
    settled: u64,
    /// When a flush that removed it was acknowledged.
    flushed: Option<u64>,
    /// A flush may have removed it from L2.
    may_vanish: bool,
}

#[derive(Debug)]
struct KeyModel {
    possible: Vec<Entry>,
    may_be_absent: bool,
}

/// A request, and when it was made.
#[derive(Clone, Debug)]
struct Op {
    key: usize,
    action: Action,
    value: Vec<u8>,
    version: u64,
    /// Of the item that the cas condition names; 0 = none.
    cas_version: u64,
    turn: u64,
    now: Now,
}

/// The faults of a history.
#[derive(Clone, Copy, Debug)]
struct Setting {
    l1: Odds,
    l2: Odds,
}

struct Model {
    keys: Vec<KeyModel>,
    /// Start and end of the flushes, in turns.
    flushes: Vec<(u64, Option<u64>)>,
    /// Numbers for cas that clients know: key, number, version.
    tokens: Vec<(usize, u64, u64)>,
    versions: u64,
    is_l2_evicting: bool,
    is_l2_failing: bool,
    has_l2_memory: bool,
    told: [u64; 4],
}

const TEXT_KEYS: usize = 4;
const KEYS: usize = 6;

/// Length of a history.
const TURNS: u64 = 3000;

/// Operations in flight at the same time: some are queued behind others on their key.
const PENDING_MAX: usize = 10;

fn name(key: usize) -> Vec<u8> {
    format!("key{key}").into_bytes()
}

fn number(value: &[u8]) -> u64 {
    String::from_utf8_lossy(value).trim_end().parse().expect("a number")
}

impl Model {
    fn new(setting: Setting) -> Model {
        let absent = || KeyModel { possible: Vec::new(), may_be_absent: true };
        Model {
            keys: std::iter::repeat_with(absent).take(KEYS).collect(),
            flushes: Vec::new(),
            tokens: Vec::new(),
            versions: 0,
            is_l2_evicting: setting.l2.evict > 0,
            is_l2_failing: setting.l2.before + setting.l2.after + setting.l2.out_of_memory > 0,
            has_l2_memory: setting.l2.out_of_memory == 0,
            told: [0; 4],
        }
    }

    fn version(&mut self) -> u64 {
        self.versions += 1;
        self.versions
    }

    fn overlaps_flush(&self, op: &Op, turn: u64) -> bool {
        let ends_later = |end: Option<u64>| end.is_none_or(|end| end >= op.turn);
        self.flushes.iter().any(|(begin, end)| *begin <= turn && ends_later(*end))
    }

    /// Applies an answer to the client. An impossible one is an error.
    fn take(
        &mut self,
        op: &Op,
        told: &Outcome<PairValue<Chain, Chain>>,
        turn: u64,
        now: Now,
    ) -> Result<(), String> {
        if matches!(op.action, Action::FlushAll { .. }) {
            self.take_flush(op, matches!(told, Outcome::Flushed), turn);
            return Ok(());
        }
        let overlaps = self.overlaps_flush(op, turn);
        let model = &self.keys[op.key];
        let mut live: Vec<Entry> = model.possible.clone();
        live.retain(|entry| {
            entry.flushed.is_none_or(|end| end >= op.turn) && !entry.expiry.is_past(op.now)
        });
        let has_expired = model.possible.iter().any(|entry| entry.expiry.is_past(now));
        let may_vanish = model.possible.iter().any(|entry| entry.may_vanish);
        let may_be_absent =
            model.may_be_absent || has_expired || may_vanish || overlaps || self.is_l2_evicting;
        let is_failure = matches!(told, Outcome::Failed | Outcome::OutOfMemory);
        self.told[usize::from(is_failure)] += 1;
        if is_failure {
            if !self.is_l2_failing {
                return Err("failed although L2 did not".into());
            }
            let mut possible = self.changed(op, &live, turn, overlaps);
            possible.extend(self.keys[op.key].possible.iter().cloned());
            let is_read = matches!(op.action, Action::Get | Action::GetWithExpiry);
            let may_be_absent = self.keys[op.key].may_be_absent || !is_read;
            self.keys[op.key] = KeyModel { possible, may_be_absent };
            return Ok(());
        }
        let is_denial = match told {
            Outcome::Miss | Outcome::NotStored => true,
            Outcome::Exists => return Ok(()),
            _ => false,
        };
        if is_denial {
            return self.take_denial(op, &live, may_be_absent, overlaps);
        }
        self.take_success(op, told, &live, may_be_absent, (turn, overlaps))
    }

    fn take_flush(&mut self, op: &Op, is_done: bool, turn: u64) {
        let flush = self.flushes.iter_mut().find(|flush| flush.0 == op.turn && flush.1.is_none());
        flush.expect("begun").1 = Some(turn);
        for key in &mut self.keys {
            key.may_be_absent = true;
            for entry in &mut key.possible {
                if is_done && entry.settled < op.turn {
                    entry.flushed.get_or_insert(turn);
                } else {
                    entry.may_vanish = true;
                }
            }
        }
    }

    /// The client was told that there is no item (or, by an add, that there is one).
    fn take_denial(
        &mut self,
        op: &Op,
        live: &[Entry],
        may_be_absent: bool,
        overlaps: bool,
    ) -> Result<(), String> {
        let mut keeps = matches!(op.action, Action::Get | Action::GetWithExpiry) || overlaps;
        if let Action::Store(store) = op.action {
            match store.mode {
                StoreMode::Add => {
                    if live.is_empty() {
                        return Err("not added although there is no item".into());
                    }
                    if !overlaps {
                        self.keys[op.key].may_be_absent = false;
                    }
                    return Ok(());
                }
                // L2 also gives this answer if it has no memory for a longer item.
                StoreMode::Append | StoreMode::Prepend => keeps |= !self.has_l2_memory,
                _ => {}
            }
            if !self.has_l2_memory && keeps {
                self.keys[op.key].may_be_absent = true;
                return Ok(());
            }
        }
        if !may_be_absent {
            return Err(format!("an acknowledged item is lost: {live:?}"));
        }
        self.told[2] += 1;
        self.keys[op.key].may_be_absent = true;
        if !keeps {
            self.keys[op.key].possible.clear();
        }
        Ok(())
    }

    fn take_success(
        &mut self,
        op: &Op,
        told: &Outcome<PairValue<Chain, Chain>>,
        live: &[Entry],
        may_be_absent: bool,
        (turn, overlaps): (u64, bool),
    ) -> Result<(), String> {
        let is_new = |mode| matches!(mode, StoreMode::Set | StoreMode::Add);
        let mut base = live.to_vec();
        match (op.action, told) {
            (_, Outcome::Hit(hit)) => {
                let value = bytes(&hit.value);
                base.retain(|entry| entry.value == value);
                let Some(entry) = base.first() else {
                    let value = String::from_utf8_lossy(&value);
                    return Err(format!("a hit of {value}, which is none of {live:?}"));
                };
                if op.key < TEXT_KEYS && hit.cas != 0 {
                    self.tokens.push((op.key, hit.cas, entry.version));
                }
                self.told[3] += 1;
            }
            (Action::Store(store), _) if op.cas_version != 0 => {
                let version = op.cas_version;
                base.retain(|entry| entry.version == version);
                if base.is_empty() {
                    return Err(format!("a cas of version {version} held: {live:?} {store:?}"));
                }
            }
            (Action::Store(store), _) if store.mode == StoreMode::Add && !may_be_absent => {
                return Err("added although there is an item".into());
            }
            (Action::Store(store), _) if is_new(store.mode) => {}
            (Action::Delete { .. }, _) => {}
            (Action::Arithmetic(a), Outcome::Number { value, .. }) => {
                base.retain(|entry| number(&entry.value).wrapping_add(a.delta) == *value);
                if base.is_empty() {
                    return Err(format!("counted to {value}: {live:?}"));
                }
            }
            _ if live.is_empty() => return Err("done to an item that is not there".into()),
            _ => {}
        }
        let is_read = matches!(op.action, Action::Get | Action::GetWithExpiry);
        if is_read && overlaps {
            return Ok(());
        }
        let possible = if is_read { base } else { self.changed(op, &base, turn, overlaps) };
        let may_be_absent = matches!(op.action, Action::Delete { .. });
        self.keys[op.key] = KeyModel { possible, may_be_absent };
        Ok(())
    }

    /// The item after the operation is applied to `base`.
    fn changed(&mut self, op: &Op, base: &[Entry], turn: u64, overlaps: bool) -> Vec<Entry> {
        let entry = |version, value, expiry| Entry {
            version,
            value,
            expiry,
            settled: turn,
            flushed: None,
            may_vanish: overlaps,
        };
        match op.action {
            Action::Store(store) => match store.mode {
                StoreMode::Append | StoreMode::Prepend => {
                    let is_append = store.mode == StoreMode::Append;
                    let longer = |old: &Entry| match is_append {
                        true => [&old.value[..], &op.value].concat(),
                        false => [&op.value[..], &old.value].concat(),
                    };
                    base.iter().map(|old| entry(self.version(), longer(old), old.expiry)).collect()
                }
                _ => vec![entry(op.version, op.value.clone(), store.expiry)],
            },
            Action::Arithmetic(a) => base
                .iter()
                .map(|old| {
                    let count = number(&old.value).wrapping_add(a.delta);
                    let digits = format!("{count:<width$}", width = old.value.len());
                    entry(self.version(), digits.into_bytes(), old.expiry)
                })
                .collect(),
            Action::Touch { expiry } | Action::GetAndTouch { expiry } => base
                .iter()
                .map(|old| Entry { expiry, may_vanish: old.may_vanish || overlaps, ..old.clone() })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// A random request.
    fn draw(&mut self, rng: &mut Rng, turn: u64, now: Now) -> Op {
        let key = rng.below(KEYS as u64) as usize;
        let version = self.version();
        let is_text = key < TEXT_KEYS;
        let mut value = format!("value{version}").into_bytes();
        if !is_text {
            value = format!("{}", version * 1000 + 999).into_bytes();
        }
        let expiry = match rng.below(3) {
            0 => Expiry::from_unix_s(now.unix_s + 1 + rng.below(20) as u32),
            _ => Expiry::NEVER,
        };
        let store = |mode, cas| Action::Store(Store { mode, flags: 7, expiry, cas });
        let mut cas_version = 0;
        let action = match rng.below(25) {
            0..=2 => store(StoreMode::Set, 0),
            3 => store(StoreMode::Add, 0),
            4 | 5 => store(StoreMode::Replace, 0),
            6 if is_text => store(StoreMode::Append, 0),
            7 if is_text => store(StoreMode::Prepend, 0),
            8 | 9 => Action::Delete { cas: 0 },
            10 | 11 => Action::Touch { expiry },
            12 | 13 => Action::GetAndTouch { expiry },
            14 => Action::GetWithExpiry,
            15 if turn.is_multiple_of(4) => {
                self.flushes.push((turn, None));
                Action::FlushAll { at: Expiry::NEVER }
            }
            6 | 7 | 16 if !is_text => incr(1),
            16..=18 => {
                let mut recent = self.tokens.iter().rev().take(12).rev();
                match recent.find(|known| known.0 == key) {
                    Some(&(_, cas, version)) => {
                        cas_version = version;
                        store(StoreMode::Set, cas)
                    }
                    None => Action::Get,
                }
            }
            _ => Action::Get,
        };
        let value = if matches!(action, Action::Store(_)) { value } else { Vec::new() };
        Op { key, action, value, version, cas_version, turn, now }
    }
}

fn history(seed: u64, setting: Setting) -> [u64; 4] {
    let log = Log::default();
    let stats = Arc::new(WorkerStats::default());
    let l1 = Sim::new("L1", &log, seed, setting.l1).answering_now();
    let l2 = Sim::new("L2", &log, seed + 77, setting.l2);
    let pair = L1L2::new(l1, l2, stats);
    let mut executor = Executor::new(64, |operation, now| pair.execute(operation, now));
    let mut rng = Rng::new(seed + 7);
    let mut model = Model::new(setting);
    let mut history: Vec<Op> = Vec::new();
    let mut now = START;
    for turn in 0..TURNS {
        if turn == TURNS - 100 {
            pair.l1().set_odds(Odds::default());
            pair.l2().set_odds(Odds::default());
        }
        now.unix_s += u32::from(rng.below(5) == 0);
        pair.turn(now);
        let mut through = Vec::new();
        executor.run_woken(now, Outcome::share, |index, told| through.push((index, told)));
        pair.flush(now);
        while turn < TURNS - 100 && executor.pending() < PENDING_MAX && rng.below(3) > 0 {
            let op = model.draw(&mut rng, turn, now);
            let is_flush = matches!(op.action, Action::FlushAll { .. });
            let key = if is_flush { Vec::new() } else { name(op.key) };
            let index = history.len();
            history.push(op.clone());
            let port = [PortRole::Main, PortRole::Batch][rng.below(2) as usize];
            let key_hash = hash(&key);
            let mut operation = operation(&key, op.action, &op.value, port);
            if !executor.is_busy(key_hash) {
                match pair.try_now(&key, op.action, Body::EMPTY, now) {
                    Ok(told) => {
                        through.push((index, told));
                        continue;
                    }
                    Err(in_l1) => operation.in_l1 = in_l1,
                }
            }
            if let Execution::Done(told) = executor.execute(operation, key_hash, index, now) {
                through.push((index, told));
            }
        }
        for (index, told) in through {
            if let Err(complaint) = model.take(&history[index], &told, turn, now) {
                let op = &history[index];
                let before: Vec<_> =
                    history[..=index].iter().rev().filter(|a| a.key == op.key).take(8).collect();
                panic!("seed {seed}, turn {turn}: {complaint}\n{told:?}\n{before:#?}");
            }
        }
        log.borrow_mut().clear();
    }
    assert_eq!(executor.pending(), 0, "all operations have finished");
    assert_agreement(&pair, &format!("seed {seed}, {setting:?}"));
    for port in [PortRole::Main, PortRole::Batch] {
        for key in 0..KEYS {
            let told = &run_at(&pair, vec![operation(&name(key), Action::Get, b"", port)], now)[0];
            let action = Action::Get;
            let value = Vec::new();
            let op = Op { key, action, value, version: 0, cas_version: 0, turn: TURNS, now };
            model.take(&op, told, TURNS, now).expect("the acknowledged item");
        }
    }
    model.told
}

const SLOW: Odds =
    Odds { before: 0, after: 0, out_of_memory: 0, evict: 0, delay_turns: 4, behind_s: 0 };
const BAD: Odds = Odds { before: 30, after: 15, out_of_memory: 30, evict: 0, ..SLOW };
const BAD_AND_FULL: Odds = Odds { evict: 40, ..BAD };

fn histories(setting: Setting) -> [u64; 4] {
    let mut told = [0; 4];
    for seed in 0..40 {
        let of_one = history(seed, setting);
        told.iter_mut().zip(of_one).for_each(|(sum, n)| *sum += n);
    }
    println!("answers, failures, denials, hits: {told:?}");
    assert!(told[0] > 20_000 && told[3] > 5_000, "{told:?}");
    told
}

#[test]
fn without_faults_nothing_is_stale_lost_or_refused() {
    let told = histories(Setting { l1: SLOW, l2: SLOW });
    assert_eq!(told[1], 0);
}

#[test]
fn whatever_l1_does_nothing_is_stale_lost_or_refused() {
    let told = histories(Setting { l1: BAD_AND_FULL, l2: SLOW });
    assert_eq!(told[1], 0, "failures of L1 are not visible to clients");
}

#[test]
fn when_l2_fails_acknowledged_items_stay_and_nothing_stale_returns() {
    let told = histories(Setting { l1: SLOW, l2: BAD });
    assert!(told[1] > 500, "{told:?}");
}

#[test]
fn when_both_fail_and_evict_nothing_stale_returns() {
    let told = histories(Setting { l1: BAD_AND_FULL, l2: BAD_AND_FULL });
    assert!(told[1] > 500, "{told:?}");
}
