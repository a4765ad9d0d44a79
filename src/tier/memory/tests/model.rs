//! Random commands on a [`Memory`], checked against a model of memcached on a map.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

/// What the model says an item is.
#[derive(Clone, Debug)]
struct ModelItem {
    flags: u32,
    expiry: Expiry,
    cas: u64,
    value: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Step {
    Get,
    Hold,
    Release,
    Store {
        mode: StoreMode,
        value: Vec<u8>,
        flags: u32,
        exptime: i64,
        with_cas: u8,
    },
    /// Begins to receive a value where it will stay.
    Draft {
        mode: StoreMode,
        value: Vec<u8>,
        flags: u32,
        exptime: i64,
        with_cas: u8,
    },
    /// One of those that were begun is stored, or its client has gone.
    EndDraft {
        is_whole: bool,
    },
    Delete {
        with_cas: u8,
    },
    Touch {
        exptime: i64,
        and_get: bool,
    },
    Count {
        decrement: bool,
        delta: u64,
        with_initial: bool,
    },
    Flush {
        exptime: i64,
    },
    Wait {
        seconds: u32,
    },
    Turn,
}

fn values(long: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => (0_u64..200_000).prop_map(|n| n.to_string().into_bytes()),
        2 => (any::<u8>(), 0_usize..120).prop_map(|(byte, n)| vec![byte; n]),
        2 => (any::<u8>(), 0..long).prop_map(|(byte, n)| {
            (0..n).map(|i| byte.wrapping_add((i % 251) as u8)).collect()
        }),
    ]
}

fn steps(long: usize) -> impl Strategy<Value = Step> {
    let mode = prop::sample::select(vec![
        StoreMode::Set,
        StoreMode::Set,
        StoreMode::Add,
        StoreMode::Replace,
        StoreMode::Append,
        StoreMode::Prepend,
    ]);
    let drafted = prop::sample::select(vec![StoreMode::Set, StoreMode::Add, StoreMode::Replace]);
    let exptime = || prop_oneof![4 => Just(0_i64), 1 => -1_i64..6];
    prop_oneof![
        6 => Just(Step::Get),
        2 => Just(Step::Hold),
        2 => Just(Step::Release),
        8 => (mode, values(long), 0_u32..3, exptime(), 0_u8..6).prop_map(
            |(mode, value, flags, exptime, with_cas)| {
                Step::Store { mode, value, flags, exptime, with_cas }
            }
        ),
        4 => (drafted, values(long), 0_u32..3, exptime(), 0_u8..6).prop_map(
            |(mode, value, flags, exptime, with_cas)| {
                Step::Draft { mode, value, flags, exptime, with_cas }
            }
        ),
        3 => prop::bool::weighted(0.8).prop_map(|is_whole| Step::EndDraft { is_whole }),
        2 => (0_u8..6).prop_map(|with_cas| Step::Delete { with_cas }),
        1 => (exptime(), any::<bool>())
            .prop_map(|(exptime, and_get)| Step::Touch { exptime, and_get }),
        3 => (any::<bool>(), prop_oneof![0_u64..1000, any::<u64>()], any::<bool>()).prop_map(
            |(decrement, delta, with_initial)| Step::Count { decrement, delta, with_initial }
        ),
        1 => (-1_i64..5).prop_map(|exptime| Step::Flush { exptime }),
        2 => (1_u32..3).prop_map(|seconds| Step::Wait { seconds }),
        2 => Just(Step::Turn),
    ]
}

/// memcached's semantics on a map, without limits on memory.
struct Model {
    items: HashMap<u8, ModelItem>,
    /// The cas of the last outcome, and all that there were.
    cas: u64,
    given: HashSet<u64>,
    flush_at_s: Option<u32>,
    now: Now,
}

impl Model {
    /// The outcome of a change has a cas that there never was.
    fn learn(&mut self, outcome: &Outcome<ItemValue>) {
        if let &(Outcome::Stored { cas } | Outcome::Number { cas, .. }) = outcome {
            assert!(self.given.insert(cas), "{cas} is new");
            self.cas = cas;
        }
    }

    fn get(&self, k: u8) -> Seen {
        match self.items.get(&k).cloned() {
            Some(ModelItem { flags, expiry, cas, value }) => {
                Seen::Hit { flags, expiry, cas, value }
            }
            None => said("Miss"),
        }
    }

    /// The item's cas, one that no item has, or none.
    fn some_cas(&self, k: u8, with_cas: u8) -> u64 {
        match with_cas {
            0 => self.items.get(&k).map_or(77, |item| item.cas),
            1 => u64::MAX,
            _ => 0,
        }
    }

    fn delete(&mut self, k: u8, cas: u64) -> Seen {
        match self.items.get(&k) {
            None => said("Miss"),
            Some(item) if cas != 0 && cas != item.cas => said("Exists"),
            Some(_) => {
                self.items.remove(&k);
                said("Deleted")
            }
        }
    }

    fn flush(&mut self, exptime: i64) {
        self.flush_at_s = None;
        if exptime <= 0 {
            self.items.clear();
        } else {
            self.flush_at_s = Some(self.now.unix_s + exptime as u32);
        }
        self.settle();
    }

    /// Removes what is gone by now.
    fn settle(&mut self) {
        let now = self.now;
        if self.flush_at_s.is_some_and(|at_s| now.unix_s >= at_s) {
            self.items.clear();
            self.flush_at_s = None;
        }
        self.items.retain(|_, item| !item.expiry.is_past(now));
    }

    fn put(&mut self, k: u8, flags: u32, expiry: Expiry, value: Vec<u8>) -> u64 {
        let cas = self.cas;
        self.items.insert(k, ModelItem { flags, expiry, cas, value });
        cas
    }

    fn store(
        &mut self,
        k: u8,
        mode: StoreMode,
        value: &[u8],
        flags: u32,
        expiry: Expiry,
        cas: u64,
    ) -> Seen {
        let old = self.items.get(&k).cloned();
        let is_extension = matches!(mode, StoreMode::Append | StoreMode::Prepend);
        match old {
            None if is_extension => said("NotStored"),
            None if cas != 0 => said("Miss"),
            None if mode == StoreMode::Replace => said("NotStored"),
            Some(ref item) if cas != 0 && item.cas != cas => said("Exists"),
            Some(_) if mode == StoreMode::Add && cas == 0 => said("NotStored"),
            Some(item) if is_extension => {
                let parts: [&[u8]; 2] = match mode {
                    StoreMode::Append => [&item.value, value],
                    _ => [value, &item.value],
                };
                stored(self.put(k, item.flags, item.expiry, parts.concat()))
            }
            _ => stored(self.put(k, flags, expiry, value.to_vec())),
        }
    }

    fn count(&mut self, k: u8, arithmetic: Arithmetic) -> Seen {
        let Some(item) = self.items.get(&k).cloned() else {
            let Some((value, expiry)) = arithmetic.initial else { return said("Miss") };
            let cas = self.put(k, 0, expiry, value.to_string().into_bytes());
            return number(value, cas);
        };
        let Some(before) = number::parse(item.value.chunks(item.value.len().max(1))) else {
            return said("NonNumeric");
        };
        let value = match arithmetic.decrement {
            true => before.saturating_sub(arithmetic.delta),
            false => before.wrapping_add(arithmetic.delta),
        };
        let mut digits = value.to_string();
        while digits.len() < item.value.len() {
            digits.push(' ');
        }
        number(value, self.put(k, item.flags, item.expiry, digits.into_bytes()))
    }
}

/// A memory, its model, and what readers hold.
struct Trial {
    bench: Bench,
    model: Model,
    held: Vec<(ItemValue, u8, Vec<u8>)>,
    drafts: Vec<(Draft, u8, StoreRequest, Vec<u8>)>,
    /// Whether the memory may forget what the model keeps.
    evicts: bool,
}

impl Trial {
    fn new(bytes: usize, evicts: bool) -> Trial {
        let (items, given) = (HashMap::new(), HashSet::new());
        let model = Model { items, cas: 0, given, flush_at_s: None, now: NOW };
        let bench = Bench { names: None, ..Bench::new(bytes) };
        Trial { bench, model, held: Vec::new(), drafts: Vec::new(), evicts }
    }

    fn step(&mut self, k: u8, step: Step) {
        self.model.settle();
        if self.evicts {
            self.forget_what_was_evicted();
        }
        let name = [b"key-".as_slice(), &[k]].concat();
        let now = self.bench.now;
        match step {
            Step::Get => assert_eq!(self.bench.get(name), self.model.get(k)),
            Step::Hold => {
                if let Outcome::Hit(hit) = self.bench.raw_get(name) {
                    if k % 2 == 1 {
                        hit.value.note_progress(now);
                    }
                    self.held.push((hit.value, k, self.model.items[&k].value.clone()));
                }
            }
            Step::Release => {
                if !self.held.is_empty() {
                    let at = usize::from(k) % self.held.len();
                    self.check_held(&self.held[at]);
                    self.held.swap_remove(at);
                }
            }
            Step::Store { mode, value, flags, exptime, with_cas } => {
                let expiry = Expiry::from_exptime(exptime, now);
                let cas = self.model.some_cas(k, with_cas);
                let request = StoreRequest { mode, flags, expiry, cas };
                self.store(k, &name, request, &value);
            }
            Step::Draft { mode, value, flags, exptime, with_cas } => {
                let expiry = Expiry::from_exptime(exptime, now);
                let cas = self.model.some_cas(k, with_cas);
                let request = StoreRequest { mode, flags, expiry, cas };
                let draft = self.bench.memory.draft(&name, request, value.len(), now);
                self.drafts.extend(draft.map(|draft| (draft, k, request, value)));
            }
            Step::EndDraft { is_whole } => self.end_draft(k, is_whole),
            Step::Delete { with_cas } => {
                let cas = self.model.some_cas(k, with_cas);
                let seen = self.bench.delete_with(name, cas);
                assert_eq!(seen, self.model.delete(k, cas));
            }
            Step::Touch { exptime, and_get } => self.touch(k, &name, exptime, and_get),
            Step::Count { decrement, delta, with_initial } => {
                let initial = with_initial.then_some((delta / 2, Expiry::NEVER));
                let arithmetic = Arithmetic { decrement, delta, initial, cas: 0 };
                let count =
                    now_or_never(self.bench.memory.arithmetic(&key(&name), arithmetic, now));
                let seen = self.seen(count);
                if !self.evicts || seen != said("OutOfMemory") {
                    assert_eq!(seen, self.model.count(k, arithmetic));
                }
            }
            Step::Flush { exptime } => {
                self.bench.flush(exptime);
                self.model.flush(exptime);
            }
            Step::Wait { seconds } => {
                let uptime_us = now.uptime_us + u64::from(seconds) * 1_000_000;
                self.bench.now = Now { uptime_us, unix_s: now.unix_s + seconds };
                self.model.now = self.bench.now;
            }
            Step::Turn => self.bench.memory.turn(now),
        }
    }

    fn store(&mut self, k: u8, name: &[u8], request: StoreRequest, value: &[u8]) {
        let StoreRequest { mode, flags, expiry, cas } = request;
        let (memory, chain) = (&self.bench.memory, Chain::from_slice(value));
        let outcome = now_or_never(memory.store(&key(name), request, &chain, self.bench.now));
        let seen = self.seen(outcome);
        if self.evicts && (seen == said("OutOfMemory") || self.lost_by_extension(&seen)) {
            if mode == StoreMode::Set && cas == 0 {
                self.model.items.remove(&k);
            }
            return;
        }
        assert_eq!(seen, self.model.store(k, mode, value, flags, expiry, cas));
    }

    fn seen(&mut self, outcome: Outcome<ItemValue>) -> Seen {
        self.model.learn(&outcome);
        self.bench.seen(outcome)
    }

    fn end_draft(&mut self, chosen: u8, is_whole: bool) {
        if self.drafts.is_empty() {
            return;
        }
        let at = usize::from(chosen) % self.drafts.len();
        let (draft, k, request, value) = self.drafts.swap_remove(at);
        let memory = &self.bench.memory;
        if !is_whole {
            return memory.drop_draft(draft);
        }
        let mut filled = 0;
        while filled < value.len() {
            filled += memory.fill_draft(draft, filled, &mut |rooms| {
                let room = &mut rooms[0];
                let n = room.len().min(1 + usize::from(chosen) * 7);
                room[..n].copy_from_slice(&value[filled..filled + n]);
                n
            });
        }
        let name = [b"key-".as_slice(), &[k]].concat();
        let outcome = memory.store_draft(&name, draft, request, self.bench.now);
        let seen = self.seen(outcome);
        let StoreRequest { mode, flags, expiry, cas } = request;
        if !self.evicts || seen != said("OutOfMemory") {
            assert_eq!(seen, self.model.store(k, mode, &value, flags, expiry, cas));
        } else if mode == StoreMode::Set && cas == 0 {
            self.model.items.remove(&k);
        }
    }

    fn touch(&mut self, k: u8, name: &[u8], exptime: i64, and_get: bool) {
        let now = self.bench.now;
        let expiry = Expiry::from_exptime(exptime, now);
        let seen = if and_get {
            self.bench.get_and_touch(name, expiry)
        } else {
            self.bench.touch(name, expiry)
        };
        if self.evicts && seen == said("Miss") {
            // There was no room for it.
            self.model.items.remove(&k);
        }
        if let Some(item) = self.model.items.get_mut(&k) {
            item.expiry = expiry;
        }
        let expected = match self.model.items.get(&k) {
            Some(item) if !and_get => said(&format!("Touched {{ cas: {} }}", item.cas)),
            _ => self.model.get(k),
        };
        assert_eq!(seen, expected);
    }

    /// An append or prepend for which there is no room says so as one for which there is no item.
    fn lost_by_extension(&self, outcome: &Seen) -> bool {
        *outcome == said("NotStored") && self.bench.counter(Counter::StoreNoMemory) > 0
    }

    /// Another cas is allowed where the store may have moved the item.
    fn forget_what_was_evicted(&mut self) {
        let now = self.bench.now;
        let segments = &mut self.bench.memory.store.borrow_mut().segments;
        self.model.items.retain(|&k, item| {
            let name = [b"key-".as_slice(), &[k]].concat();
            let found = segments.find(&name, segments.hash(&name), now);
            found.is_some_and(|found| {
                let cas = segments.cas(&found);
                assert!(item.cas == cas || self.model.given.insert(cas), "{cas} is new");
                item.cas = cas;
                true
            })
        });
    }

    fn check_held(&self, (value, _, expected): &(ItemValue, u8, Vec<u8>)) {
        let mut bytes = vec![0; value.len()];
        if value.is_lost() {
            assert!(self.evicts);
            assert_eq!(value.copy_to(0, &mut bytes), 0);
            assert_eq!(value.show(0, &mut |_| 1), 0);
            return;
        }
        assert_eq!(value.copy_to(0, &mut bytes), expected.len());
        assert_eq!(&bytes, expected);
    }

    fn check(&self) {
        let held: Vec<_> = self.held.iter().map(|(value, _, _)| value).collect();
        self.bench.check_all(&held, self.drafts.len());
    }

    /// Lets go of everything, and finds the memory free.
    fn end(mut self) {
        for held in &self.held {
            self.check_held(held);
        }
        self.held.clear();
        self.check();
        while !self.drafts.is_empty() {
            self.end_draft(0, false);
        }
        self.check();
        self.bench.flush(0);
        for k in 0..=255 {
            assert_eq!(self.bench.value([b"key-".as_slice(), &[k]].concat()), None);
        }
        self.check();
        assert_eq!(self.bench.counter(Counter::Bytes), 0);
        for _ in 0..200 {
            self.bench.now.uptime_us += 1_000_000;
            self.bench.memory.turn(self.bench.now);
        }
        let overview = self.bench.memory.store.borrow().segments.overview(self.bench.now);
        assert_eq!(overview.free, overview.segments);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn random_commands_answer_as_the_model_does(
        steps in prop::collection::vec((0_u8..8, steps(3000)), 1..150),
    ) {
        let mut trial = Trial::new(8 << 20, false);
        for (k, step) in steps {
            trial.step(k, step);
        }
        trial.check();
        prop_assert_eq!(trial.bench.counter(Counter::Evictions), 0);
        trial.end();
    }

    #[test]
    fn under_eviction_a_value_is_right_or_missing(
        steps in prop::collection::vec((any::<u8>(), steps(9000)), 1..400),
    ) {
        let mut trial = Trial::new(BYTES_MIN, true);
        for (i, (k, step)) in steps.into_iter().enumerate() {
            trial.step(k, step);
            prop_assert!(trial.bench.counter(Counter::Bytes) <= BYTES_MIN as u64);
            if i % 16 == 0 {
                trial.check();
            }
        }
        trial.check();
        trial.end();
    }
}
