//! Random commands beside a map: a store may forget, and nothing else.

use std::collections::{HashMap, VecDeque};

use super::super::{MadeRecord, OpenedRecord, PieceCursor, SegmentStore};
use super::commands::{self, Item, Set, append, at, delete, find, get, make, open, publish, read};
use super::commands::{set, touch};
use super::{NOW, key};
use crate::base::clock::{Expiry, Now};
use crate::base::random::Random;

struct Draft {
    made: MadeRecord,
    key: Vec<u8>,
    item: Item,
    is_counter: bool,
}

struct Run {
    store: SegmentStore,
    random: Random,
    now: Now,
    /// What each key should have. An item that was forgotten stays here until it is missed.
    model: HashMap<Vec<u8>, Item>,
    /// The value that each cas ever named.
    named: HashMap<u64, (Vec<u8>, Vec<u8>)>,
    readers: Vec<(OpenedRecord, Vec<u8>)>,
    drafts: Vec<Draft>,
    /// Keys that were prefetched, the last ones.
    foreseen: VecDeque<Vec<u8>>,
    value_bytes_max: u64,
    hits: usize,
}

/// Keys that are remembered after they were prefetched.
const FORESEEN: usize = 8;

impl Run {
    fn below(&mut self, n: usize) -> usize {
        self.random.below(n as u64) as usize
    }

    /// Prefetches a key, as for a request that will follow.
    fn foresee(&mut self) {
        let key = self.any_key();
        let hash = self.store.hash(&key);
        self.store.prefetch_index(hash);
        self.store.prefetch_record(hash);
        self.foreseen.truncate(FORESEEN - 1);
        self.foreseen.push_front(key);
    }

    fn any_key(&mut self) -> Vec<u8> {
        if !self.foreseen.is_empty() && self.below(2) == 0 {
            let n = self.below(self.foreseen.len());
            return self.foreseen[n].clone();
        }
        let i = self.below(400);
        let mut key = key(i);
        // Some have the longest key.
        if i.is_multiple_of(50) {
            key.resize(250, b'k');
        }
        key
    }

    fn any_item(&mut self) -> Item {
        let n = match self.below(40) {
            0 => self.random.below(self.value_bytes_max) as usize,
            1..5 => 0,
            _ => self.below(300),
        };
        let byte = self.random.draw() as u8;
        let value = (0..n).map(|i| byte.wrapping_add((i % 97) as u8)).collect();
        let flags = if self.below(3) == 0 { self.random.draw() as u32 } else { 0 };
        Item { value, flags, expiry: self.any_expiry(), cas: 0 }
    }

    fn any_expiry(&mut self) -> Expiry {
        match self.below(4) {
            0 => Expiry::from_unix_s(self.now.unix_s + 1 + self.random.below(2000) as u32),
            _ => Expiry::NEVER,
        }
    }

    /// A cas names one value for ever.
    fn note_cas(&mut self, key: &[u8], item: &Item) {
        let value = (key.to_vec(), item.value.clone());
        let named = self.named.entry(item.cas).or_insert_with(|| value.clone());
        assert!(*named == value, "cas {} has two values", item.cas);
    }

    fn remember(&mut self, key: Vec<u8>, item: Item) {
        self.note_cas(&key, &item);
        self.model.insert(key, item);
    }

    /// What the model has, without what has expired.
    fn expected(&mut self, key: &[u8]) -> Option<Item> {
        let item = self.model.get(key)?;
        if item.expiry.is_past(self.now) {
            self.model.remove(key);
            return None;
        }
        Some(item.clone())
    }

    fn get(&mut self, key: &[u8]) {
        let expected = self.expected(key);
        let address = self.store.index.address(self.store.hash(key));
        let is_there = self.store.lookup(key, address).is_some();
        let found = get(&mut self.store, key, self.now);
        let Some(mut found) = found else {
            assert!(!is_there || expected.is_none(), "what is there is found");
            self.model.remove(key);
            return;
        };
        self.note_cas(key, &found);
        let expected = expected.expect("what is found was stored");
        // A move changes the cas, and nothing else.
        let cas = std::mem::replace(&mut found.cas, expected.cas);
        assert!(found == expected, "{:?} is not what was stored", key.escape_ascii());
        self.model.get_mut(key).unwrap().cas = cas;
        self.hits += 1;
    }

    fn set(&mut self, key: Vec<u8>) {
        let mut item = self.any_item();
        let is_counter = self.below(8) == 0;
        let request =
            Set { value: &item.value, flags: item.flags, expiry: item.expiry, is_counter };
        match set(&mut self.store, &key, &request, self.now) {
            Some(cas) => {
                item.cas = cas;
                self.remember(key, item);
            }
            None => {
                self.model.remove(&key);
            }
        }
    }

    fn set_if_unchanged(&mut self, key: Vec<u8>) {
        let Some(found) = find(&mut self.store, &key, self.now) else { return };
        let cas = self.store.cas(&found);
        // If no cas changed it is the model's; if one did, it is one that the item has had.
        let Some(expected) = self.expected(&key) else { panic!("what is found was stored") };
        let item = Item { cas, ..expected };
        self.note_cas(&key, &item);
        self.set(key);
    }

    fn append(&mut self, key: Vec<u8>) {
        let tail = self.any_item().value;
        let Some(expected) = self.expected(&key) else { return };
        let Some((value, cas)) = append(&mut self.store, &key, &tail, self.now) else { return };
        assert!(value == [&expected.value[..], &tail].concat());
        self.remember(key, Item { value, cas, ..expected });
    }

    fn touch(&mut self, key: Vec<u8>) {
        let expiry = self.any_expiry();
        let expected = self.expected(&key);
        if let Some(cas) = touch(&mut self.store, &key, expiry, self.now) {
            let expected = expected.expect("what is found was stored");
            self.remember(key, Item { expiry, cas, ..expected });
        }
    }

    fn count(&mut self, key: Vec<u8>) {
        let expected = self.expected(&key);
        let Some(found) = find(&mut self.store, &key, self.now) else { return };
        let Some(value) = self.store.whole(&found) else { return };
        let value: Vec<u8> = value.iter().map(|byte| byte.wrapping_add(1)).collect();
        let Some(cas) = self.store.set_counter(&found, &value) else { return };
        let mut item = expected.expect("what is found was stored");
        item.value = value;
        item.cas = cas;
        self.remember(key, item);
    }

    fn draft(&mut self, key: Vec<u8>) {
        if self.drafts.len() == 4 || !self.store.may_hold() {
            return self.end_draft();
        }
        let item = self.any_item();
        let is_counter = self.below(8) == 0;
        let request =
            Set { value: &item.value, flags: item.flags, expiry: item.expiry, is_counter };
        if let Some(made) = make(&mut self.store, &key, &request, self.now) {
            let made = self.store.hold(made);
            self.drafts.push(Draft { made, key, item, is_counter });
        }
    }

    fn end_draft(&mut self) {
        if self.drafts.is_empty() {
            return;
        }
        let n = self.below(self.drafts.len());
        let Draft { made, key, mut item, .. } = self.drafts.swap_remove(n);
        if self.below(4) == 0 {
            return self.store.abandon(made);
        }
        self.store.write_value(made, PieceCursor::default(), 0, &item.value);
        item.cas = publish(&mut self.store, &key, made, self.now);
        self.remember(key, item);
    }

    fn hold(&mut self, key: &[u8]) {
        if self.readers.len() == 6 {
            return self.let_go();
        }
        let expected = self.expected(key);
        if let Some(opened) = open(&mut self.store, key, self.now) {
            let expected = expected.expect("what is found was stored");
            self.readers.push((opened, expected.value));
        }
    }

    fn let_go(&mut self) {
        let n = self.below(self.readers.len().max(1));
        if n < self.readers.len() {
            let (opened, value) = self.readers.swap_remove(n);
            assert!(read(&self.store, &opened) == value, "what is held has changed");
            self.store.close(&opened);
        }
    }

    fn flush(&mut self) {
        // A draft that began before may be lost with it.
        while !self.drafts.is_empty() {
            self.end_draft();
        }
        self.store.flush(Expiry::NEVER, self.now);
        self.model.clear();
    }

    fn step(&mut self) {
        if self.below(3) == 0 {
            self.foresee();
        }
        let key = self.any_key();
        match self.below(100) {
            0..35 => self.get(&key),
            35..65 => self.set(key),
            65..68 => self.set_if_unchanged(key),
            68..72 => self.append(key),
            72..77 => self.touch(key),
            77..80 => self.count(key),
            80..84 => self.draft(key),
            84..87 => self.end_draft(),
            87..90 => self.hold(&key),
            90..93 => self.let_go(),
            93..96 => {
                let is_found = delete(&mut self.store, &key, self.now);
                assert!(!is_found || self.expected(&key).is_some());
                self.model.remove(&key);
            }
            96 if self.below(200) == 0 => self.flush(),
            97 => self.now = at(self.now.unix_s + self.random.below(30) as u32),
            _ => self.store.turn(self.now),
        }
    }
}

fn run(seed: u64, bytes: usize, value_bytes_max: u64, steps: usize) {
    let mut run = Run {
        store: commands::store(bytes),
        random: Random::of(seed),
        now: NOW,
        model: HashMap::new(),
        named: HashMap::new(),
        readers: Vec::new(),
        drafts: Vec::new(),
        foreseen: VecDeque::new(),
        value_bytes_max,
        hits: 0,
    };
    for step in 0..steps {
        run.step();
        if step % 500 == 0 {
            run.store.check();
        }
    }
    run.readers.iter().for_each(|(opened, _)| run.store.close(opened));
    run.drafts.drain(..).for_each(|draft| {
        assert_eq!(draft.is_counter, draft.made.head.has_cas());
        run.store.abandon(draft.made);
    });
    for key in run.model.keys().cloned().collect::<Vec<_>>() {
        run.get(&key);
    }
    run.store.check();
    assert!(run.hits > steps / 20, "{} hits of {steps} steps", run.hits);
    let counts = run.store.counts;
    assert!(counts.evictions > 0 && counts.moved > 0 && counts.reclaimed > 0, "{counts:?}");
}

#[test]
fn the_smallest_store_never_gives_a_wrong_value() {
    (0..12).for_each(|seed| run(seed, 64 * 1024, 12_000, 20_000));
}

#[test]
fn a_store_with_long_values_never_gives_a_wrong_value() {
    (100..106).for_each(|seed| run(seed, 1 << 20, 300_000, 20_000));
}

#[test]
fn a_store_of_many_segments_never_gives_a_wrong_value() {
    run(200, 6 << 20, 2_000_000, 60_000);
}
