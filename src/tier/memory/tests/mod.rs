//! Commands on a [`Memory`], checked against memcached's answers.

mod large;
mod meta;
mod model;
mod readers;

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::tier::{ItemInfo, Value};

const NOW: Now = Now { uptime_us: 0, unix_s: 1_000_000 };

fn after_s(seconds: u32) -> Now {
    Now { uptime_us: u64::from(seconds) * 1_000_000, unix_s: NOW.unix_s + seconds }
}

/// The tier never waits.
fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the memory tier never waits"),
    }
}

fn key(bytes: impl AsRef<[u8]>) -> Key {
    Key::new(bytes.as_ref()).unwrap()
}

/// What tests look at in an outcome: values as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Hit { flags: u32, expiry: Expiry, cas: u64, value: Vec<u8> },
    Other(String),
}

fn said(words: &str) -> Seen {
    Seen::Other(words.to_owned())
}

fn stored(cas: u64) -> Seen {
    said(&format!("Stored {{ cas: {cas} }}"))
}

fn number(value: u64, cas: u64) -> Seen {
    said(&format!("Number {{ value: {value}, cas: {cas} }}"))
}

/// A memory and the clock of its test.
struct Bench {
    memory: Memory,
    stats: Arc<WorkerStats>,
    now: Now,
    /// The cas numbers in the order in which they were seen: tests name them from 1 on. None: they
    /// are shown as they are.
    names: Option<RefCell<Vec<u64>>>,
}

impl Bench {
    fn new(bytes: usize) -> Bench {
        Bench::with_item_max(bytes, 1024 * 1024)
    }

    fn with_item_max(bytes: usize, item_bytes_max: usize) -> Bench {
        let stats = Arc::new(WorkerStats::default());
        let config = MemoryConfig {
            bytes,
            item_bytes_max,
            worker: 0,
            workers: 1,
            stats: Arc::clone(&stats),
        };
        let names = Some(RefCell::default());
        Bench { memory: Memory::new(config).unwrap(), stats, now: NOW, names }
    }

    /// The name of a cas.
    fn name(&self, cas: u64) -> u64 {
        let Some(names) = &self.names else { return cas };
        let mut names = names.borrow_mut();
        let at = names.iter().position(|&name| name == cas).unwrap_or_else(|| {
            names.push(cas);
            names.len() - 1
        });
        at as u64 + 1
    }

    /// The cas that has a name; any other is itself.
    fn named(&self, name: u64) -> u64 {
        let names = self.names.as_ref().map(RefCell::borrow);
        let cas = names.and_then(|names| names.get(name.wrapping_sub(1) as usize).copied());
        cas.unwrap_or(name)
    }

    fn seen(&self, outcome: Outcome<ItemValue>) -> Seen {
        match outcome {
            Outcome::Hit(hit) => {
                let mut value = vec![0; hit.value.len()];
                assert_eq!(hit.value.copy_to(0, &mut value), hit.value.len());
                let cas = self.name(hit.cas);
                Seen::Hit { flags: hit.flags, expiry: hit.expiry, cas, value }
            }
            Outcome::Stored { cas } => stored(self.name(cas)),
            Outcome::Touched { cas } => said(&format!("Touched {{ cas: {} }}", self.name(cas))),
            Outcome::Number { value, cas } => number(value, self.name(cas)),
            other => Seen::Other(format!("{other:?}")),
        }
    }

    fn raw_get(&self, k: impl AsRef<[u8]>) -> Outcome<ItemValue> {
        now_or_never(self.memory.get(&key(k), self.now))
    }

    fn hold(&self, k: impl AsRef<[u8]>) -> ItemValue {
        match self.raw_get(k) {
            Outcome::Hit(hit) => hit.value,
            other => panic!("{other:?}"),
        }
    }

    /// What a get finds. Looking at it where it lies and not taking it must be no get, and must
    /// have found the same.
    fn get(&self, k: impl AsRef<[u8]>) -> Seen {
        let mut looked = None;
        assert!(!self.read(&k, |seen| {
            looked = Some(seen);
            false
        }));
        let seen = self.seen(self.raw_get(k));
        // Where so many hold the item that nobody more can, it can still be looked at.
        let is_full = seen == said("OutOfMemory");
        assert!(is_full || looked.is_none_or(|looked| looked == seen));
        seen
    }

    /// Shows `take` what a get finds, if it lies in one piece.
    fn read(&self, k: impl AsRef<[u8]>, take: impl FnOnce(Seen) -> bool) -> bool {
        self.memory.read_now(k.as_ref(), false, self.now, |hit| {
            take(hit.map_or(said("Miss"), |hit| {
                let Hit { flags, expiry, cas, value, .. } = hit;
                Seen::Hit { flags, expiry, cas: self.name(cas), value: value.to_vec() }
            }))
        })
    }

    fn value(&self, k: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        match self.get(k) {
            Seen::Hit { value, .. } => Some(value),
            Seen::Other(words) if words == "Miss" => None,
            other => panic!("{other:?}"),
        }
    }

    fn cas_of(&self, k: impl AsRef<[u8]>) -> u64 {
        match self.get(k) {
            Seen::Hit { cas, .. } => cas,
            other => panic!("{other:?}"),
        }
    }

    fn store(
        &self,
        mode: StoreMode,
        k: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        flags: u32,
        expiry: Expiry,
        cas: u64,
    ) -> Seen {
        let value = Chain::from_slice(value.as_ref());
        let request = StoreRequest { mode, flags, expiry, cas: self.named(cas) };
        self.seen(now_or_never(self.memory.store(&key(k), request, &value, self.now)))
    }

    fn set(&self, k: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Seen {
        self.store(StoreMode::Set, k, value, 0, Expiry::NEVER, 0)
    }

    fn mode(&self, mode: StoreMode, k: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Seen {
        self.store(mode, k, value, 9, Expiry::NEVER, 0)
    }

    fn cas(&self, mode: StoreMode, k: impl AsRef<[u8]>, v: impl AsRef<[u8]>, cas: u64) -> Seen {
        self.store(mode, k, v, 0, Expiry::NEVER, cas)
    }

    fn delete(&self, k: impl AsRef<[u8]>) -> Seen {
        self.delete_with(k, 0)
    }

    fn delete_with(&self, k: impl AsRef<[u8]>, cas: u64) -> Seen {
        self.seen(now_or_never(self.memory.delete(&key(k), self.named(cas), self.now)))
    }

    fn count(&self, k: impl AsRef<[u8]>, arithmetic: Arithmetic) -> Seen {
        let arithmetic = Arithmetic { cas: self.named(arithmetic.cas), ..arithmetic };
        self.seen(now_or_never(self.memory.arithmetic(&key(k), arithmetic, self.now)))
    }

    fn incr(&self, k: impl AsRef<[u8]>, delta: u64) -> Seen {
        self.count(k, Arithmetic { decrement: false, delta, initial: None, cas: 0 })
    }

    fn decr(&self, k: impl AsRef<[u8]>, delta: u64) -> Seen {
        self.count(k, Arithmetic { decrement: true, delta, initial: None, cas: 0 })
    }

    fn touch(&self, k: impl AsRef<[u8]>, expiry: Expiry) -> Seen {
        self.seen(now_or_never(self.memory.touch(&key(k), expiry, self.now)))
    }

    fn get_and_touch(&self, k: impl AsRef<[u8]>, expiry: Expiry) -> Seen {
        self.seen(now_or_never(self.memory.get_and_touch(&key(k), expiry, self.now)))
    }

    fn flush(&self, exptime: i64) {
        let at = Expiry::from_exptime(exptime, self.now);
        let outcome = now_or_never(self.memory.flush_all(at, self.now));
        assert_eq!(self.seen(outcome), said("Flushed"));
    }

    fn counter(&self, counter: Counter) -> u64 {
        self.stats.get(counter)
    }

    /// Checks that the store's figures, the pins of `held`, and the counters agree.
    fn check(&self, held: &[&ItemValue]) {
        self.check_all(held, 0);
    }

    fn check_all(&self, held: &[&ItemValue], drafts: usize) {
        let store = self.memory.store.borrow();
        let checked = store.segments.check();
        store.segments.check_readers(held.iter().map(|value| &value.opened));
        assert_eq!(store.drafts.len(), drafts);
        assert_eq!(self.counter(Counter::CurrItems), checked.items as u64);
        assert_eq!(self.counter(Counter::Bytes), checked.bytes);
    }
}

/// Every line was sent to memcached 1.6.18, started afresh, which counts its cas numbers from 1 on,
/// but for the one that a flush takes.
#[test]
fn cas_numbers_change_when_those_of_memcached_do() {
    let mut b = Bench::new(1 << 20);
    assert_eq!(b.set("a", "1"), stored(1));
    assert_eq!(b.set("b", "1"), stored(2));
    assert_eq!(b.cas_of("a"), 1);
    assert_eq!(b.incr("a", 1), number(2, 3));
    assert_eq!(b.incr("a", 100), number(102, 4));
    assert_eq!(b.touch("a", Expiry::from_unix_s(NOW.unix_s + 100)), said("Touched { cas: 4 }"));
    assert_eq!(b.mode(StoreMode::Append, "a", "7"), stored(5));
    assert_eq!(b.mode(StoreMode::Add, "a", "7"), said("NotStored"));
    assert_eq!(b.cas(StoreMode::Set, "a", "7", 999), said("Exists"));
    assert_eq!(b.cas(StoreMode::Set, "nosuch", "7", 999), said("Miss"));
    assert_eq!(b.cas_of("a"), 5);
    assert_eq!(b.set("c", "1"), stored(6));
    assert_eq!(b.delete("c"), said("Deleted"));
    assert_eq!(b.set("c", "1"), stored(7));
    assert_eq!(b.store(StoreMode::Set, "c", "1", 0, Expiry::PAST, 0), stored(8));
    assert_eq!(b.value("c"), None);
    assert_eq!(b.set("c", "1"), stored(9));
    b.flush(0);
    assert_eq!(b.set("c", "1"), stored(10));
    b.flush(100);
    assert_eq!(b.set("c", "1"), stored(11));
    b.flush(1);
    assert_eq!(b.set("c", "1"), stored(12));
    assert_eq!(b.cas_of("c"), 12);
    b.now = after_s(1);
    assert_eq!(b.value("c"), None);
    assert_eq!(b.set("c", "1"), stored(13));
    assert_eq!(b.cas_of("c"), 13);
    b.check(&[]);
}

#[test]
fn cas_numbers_of_two_workers_are_different() {
    let mut all = Vec::new();
    for worker in 0..2 {
        let stats = Arc::new(WorkerStats::default());
        let config =
            MemoryConfig { bytes: BYTES_MIN, item_bytes_max: 1024, worker, workers: 2, stats };
        let memory = Memory::new(config).unwrap();
        for i in 0..10 {
            let request =
                StoreRequest { mode: StoreMode::Set, flags: 0, expiry: Expiry::NEVER, cas: 0 };
            let outcome =
                now_or_never(memory.store(&key(format!("{i}")), request, &Chain::new(), NOW));
            let Outcome::Stored { cas } = outcome else { panic!("{outcome:?}") };
            all.push(cas);
        }
    }
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 20);
}

#[test]
fn a_config_out_of_range_is_refused() {
    let good = MemoryConfig {
        bytes: BYTES_MIN,
        item_bytes_max: 1024,
        worker: 0,
        workers: 1,
        stats: Arc::default(),
    };
    assert!(Memory::new(good.clone()).is_ok());
    for bad in [
        MemoryConfig { bytes: BYTES_MIN - 1, ..good.clone() },
        MemoryConfig { bytes: BYTES_MAX + 1, ..good.clone() },
        MemoryConfig { worker: 1, ..good.clone() },
        MemoryConfig { item_bytes_max: 0, ..good.clone() },
        MemoryConfig { item_bytes_max: usize::MAX, ..good },
    ] {
        assert_eq!(Memory::new(bad).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn a_value_comes_back_with_flags_and_expiry() {
    let b = Bench::new(1 << 20);
    let expiry = Expiry::from_unix_s(NOW.unix_s + 10);
    b.store(StoreMode::Set, "k", "value", 0xdead_beef, expiry, 0);
    let hit = Seen::Hit { flags: 0xdead_beef, expiry, cas: 1, value: b"value".to_vec() };
    assert_eq!(b.get("k"), hit);
    assert_eq!(b.value("other"), None);
    b.set("empty", "");
    assert_eq!(b.value("empty"), Some(vec![]));
    let long = [b'k'; 250];
    b.set(long, "long");
    assert_eq!(b.value(long), Some(b"long".to_vec()));
    assert_eq!(b.value(&long[..249]), None);
}

#[test]
fn each_mode_stores_only_where_it_may() {
    let b = Bench::new(1 << 20);
    for mode in [StoreMode::Replace, StoreMode::Append, StoreMode::Prepend] {
        assert_eq!(b.mode(mode, "k", "x"), said("NotStored"));
    }
    assert_eq!(b.mode(StoreMode::Add, "k", "b"), stored(1));
    assert_eq!(b.mode(StoreMode::Add, "k", "x"), said("NotStored"));
    assert_eq!(b.mode(StoreMode::Append, "k", "c"), stored(2));
    assert_eq!(b.mode(StoreMode::Prepend, "k", "a"), stored(3));
    assert_eq!(b.value("k"), Some(b"abc".to_vec()));
    assert_eq!(b.mode(StoreMode::Replace, "k", "new"), stored(4));
    assert_eq!(b.value("k"), Some(b"new".to_vec()));
    b.check(&[]);
}

#[test]
fn append_keeps_flags_and_expiry() {
    let b = Bench::new(1 << 20);
    let expiry = Expiry::from_unix_s(NOW.unix_s + 10);
    b.store(StoreMode::Set, "k", "v", 5, expiry, 0);
    b.store(StoreMode::Append, "k", "w", 7, Expiry::NEVER, 0);
    assert_eq!(b.get("k"), Seen::Hit { flags: 5, expiry, cas: 2, value: b"vw".to_vec() });
}

/// memcached's binary protocol lets every storage command name a cas.
#[test]
fn any_mode_with_a_cas_is_a_cas() {
    let b = Bench::new(1 << 20);
    for mode in [StoreMode::Set, StoreMode::Add, StoreMode::Replace] {
        assert_eq!(b.cas(mode, "none", "x", 77), said("Miss"));
    }
    for mode in [StoreMode::Append, StoreMode::Prepend] {
        assert_eq!(b.cas(mode, "none", "x", 77), said("NotStored"));
    }
    b.set("k", "v");
    let modes =
        [StoreMode::Set, StoreMode::Add, StoreMode::Replace, StoreMode::Append, StoreMode::Prepend];
    for (i, mode) in modes.into_iter().enumerate() {
        let cas = i as u64 + 1;
        assert_eq!(b.cas(mode, "k", "x", 77), said("Exists"));
        assert_eq!(b.cas(mode, "k", "x", cas), stored(cas + 1));
    }
    assert_eq!(b.value("k"), Some(b"xxx".to_vec()));
    assert_eq!(b.delete_with("k", 77), said("Exists"));
    assert_eq!(b.delete_with("none", 77), said("Miss"));
    assert_eq!(b.delete_with("k", 6), said("Deleted"));
    b.check(&[]);
}

#[test]
fn an_item_is_gone_when_its_time_has_come() {
    let mut b = Bench::new(1 << 20);
    b.store(StoreMode::Set, "k", "v", 0, Expiry::from_exptime(2, NOW), 0);
    b.now = after_s(1);
    assert!(b.value("k").is_some());
    b.now = after_s(2);
    assert_eq!(b.value("k"), None);
    assert_eq!(b.counter(Counter::GetExpired), 1);
    assert_eq!(b.counter(Counter::ExpiredUnfetched), 0);
    assert_eq!(b.counter(Counter::CurrItems), 0);
    assert_eq!(b.counter(Counter::Bytes), 0);
    for mode in [StoreMode::Append, StoreMode::Replace] {
        b.store(StoreMode::Set, "k", "v", 0, Expiry::PAST, 0);
        assert_eq!(b.mode(mode, "k", "w"), said("NotStored"));
    }
    b.store(StoreMode::Set, "k", "1", 0, Expiry::PAST, 0);
    assert_eq!(b.incr("k", 1), said("Miss"));
    assert_eq!(b.counter(Counter::GetExpired), 4);
    // memcached counts those only whose memory is taken back unasked.
    assert_eq!(b.counter(Counter::ExpiredUnfetched), 0);
    b.store(StoreMode::Set, "k", "1", 0, Expiry::PAST, 0);
    assert_eq!(b.delete("k"), said("Miss"));
    b.store(StoreMode::Set, "k", "1", 0, Expiry::PAST, 0);
    assert!(
        matches!(b.mode(StoreMode::Add, "k", "2"), Seen::Other(said) if said.contains("Stored {"))
    );
}

#[test]
fn touch_and_get_and_touch_change_the_expiry() {
    let mut b = Bench::new(1 << 20);
    assert_eq!(b.touch("k", Expiry::NEVER), said("Miss"));
    b.store(StoreMode::Set, "k", "v", 0, Expiry::from_exptime(2, NOW), 0);
    b.touch("k", Expiry::from_exptime(10, NOW));
    b.now = after_s(5);
    let expiry = Expiry::from_exptime(10, b.now);
    let hit = b.get_and_touch("k", expiry);
    assert_eq!(hit, Seen::Hit { flags: 0, expiry, cas: 1, value: b"v".to_vec() });
    b.now = after_s(14);
    assert!(b.value("k").is_some());
    b.now = after_s(15);
    assert_eq!(b.value("k"), None);
    assert_eq!(b.get_and_touch("k", Expiry::NEVER), said("Miss"));
}

#[test]
fn a_flush_takes_what_was_there_and_nothing_else() {
    let mut b = Bench::new(1 << 20);
    b.set("old", "v");
    b.flush(0);
    b.set("new", "v");
    assert_eq!(b.value("old"), None);
    assert_eq!(b.counter(Counter::GetFlushed), 1);
    assert!(b.value("new").is_some());
    b.now = after_s(1);
    assert!(b.value("new").is_some());
}

#[test]
fn a_delayed_flush_takes_what_is_stored_before_it() {
    let mut b = Bench::new(1 << 20);
    b.set("before", "v");
    b.flush(10);
    b.set("meanwhile", "v");
    b.now = after_s(9);
    assert!(b.value("before").is_some() && b.value("meanwhile").is_some());
    b.now = after_s(10);
    b.set("after", "v");
    assert_eq!((b.value("before"), b.value("meanwhile")), (None, None));
    assert!(b.value("after").is_some());
    b.now = after_s(11);
    assert!(b.value("after").is_some());
}

#[test]
fn a_later_flush_replaces_one_that_is_to_come() {
    let mut b = Bench::new(1 << 20);
    b.set("k", "v");
    b.flush(10);
    b.flush(100);
    b.now = after_s(50);
    assert!(b.value("k").is_some());
    b.flush(0);
    b.set("k", "v");
    b.now = after_s(200);
    assert!(b.value("k").is_some());
}

#[test]
fn a_delayed_flush_does_not_bring_back_what_an_earlier_one_took() {
    let b = Bench::new(1 << 20);
    b.set("k", "v");
    b.flush(0);
    b.flush(100);
    assert_eq!(b.value("k"), None);
}

#[test]
fn numbers_go_up_and_down_as_in_memcached() {
    let b = Bench::new(1 << 20);
    assert_eq!(b.incr("n", 1), said("Miss"));
    b.store(StoreMode::Set, "n", "10000", 3, Expiry::NEVER, 0);
    assert_eq!(b.decr("n", 1), number(9999, 2));
    assert_eq!(b.value("n"), Some(b"9999 ".to_vec()));
    assert_eq!(b.incr("n", 1), number(10000, 3));
    assert_eq!(b.decr("n", 99_999_999), number(0, 4));
    assert_eq!(b.value("n"), Some(b"0    ".to_vec()));
    assert_eq!(b.incr("n", u64::MAX), number(u64::MAX, 5));
    assert_eq!(b.incr("n", 2), number(1, 6));
    let value = b"1                   ".to_vec();
    assert_eq!(b.get("n"), Seen::Hit { flags: 3, expiry: Expiry::NEVER, cas: 6, value });
    b.set("word", "abc");
    assert_eq!(b.incr("word", 1), said("NonNumeric"));
    b.set("long", format!("{:0>100}", 41));
    assert_eq!(b.incr("long", 1), number(42, 9));
    assert_eq!(b.value("long"), Some(format!("{:<100}", 42).into_bytes()));
    b.check(&[]);
}

#[test]
fn arithmetic_heeds_cas_and_initial() {
    let b = Bench::new(1 << 20);
    let up = Arithmetic { decrement: false, delta: 1, initial: None, cas: 0 };
    let expiry = Expiry::from_unix_s(NOW.unix_s + 10);
    let first = Arithmetic { initial: Some((9, expiry)), cas: 77, ..up };
    assert_eq!(b.count("n", first), number(9, 1));
    assert_eq!(b.get("n"), Seen::Hit { flags: 0, expiry, cas: 1, value: b"9".to_vec() });
    assert_eq!(b.count("n", first), said("Exists"));
    assert_eq!(b.count("n", Arithmetic { cas: 1, ..first }), number(10, 2));
    b.set("word", "abc");
    assert_eq!(b.count("word", Arithmetic { cas: 77, ..up }), said("Exists"));
    b.set("empty", "");
    assert_eq!(b.count("empty", Arithmetic { cas: 77, ..up }), said("NonNumeric"));
}

/// The largest value that memcached 1.6.18 stores, found by bisection at the wire.
#[test]
fn the_largest_value_is_memcacheds() {
    let b = Bench::new(16 << 20);
    let rows = [
        (1, 0, 1_048_516),
        (1, 5, 1_048_512),
        (5, 0, 1_048_512),
        (20, 0, 1_048_497),
        (250, 0, 1_048_267),
        (250, 7, 1_048_263),
    ];
    for (key_bytes, flags, value_bytes) in rows {
        let k = vec![b'k'; key_bytes];
        let value = vec![b'v'; value_bytes + 1];
        let store = |value: &[u8]| b.store(StoreMode::Set, &k, value, flags, Expiry::NEVER, 0);
        assert!(matches!(store(&value[1..]), Seen::Other(said) if said.starts_with("Stored")));
        assert_eq!(b.value(&k), Some(value[1..].to_vec()));
        assert_eq!(store(&value), said("TooLarge"));
        assert_eq!(b.value(&k), None);
    }
    assert_eq!(b.counter(Counter::StoreTooLarge), rows.len() as u64);
    b.check(&[]);
}

#[test]
fn only_a_set_that_is_too_large_removes_what_was_there() {
    let b = Bench::with_item_max(1 << 20, 1024);
    let large = [b'x'; 1024];
    b.set("k", "v");
    let modes = [StoreMode::Add, StoreMode::Replace, StoreMode::Append, StoreMode::Prepend];
    for mode in modes {
        assert_eq!(b.mode(mode, "k", large), said("TooLarge"));
        assert_eq!(b.value("k"), Some(b"v".to_vec()));
    }
    assert_eq!(b.set("k", large), said("TooLarge"));
    assert_eq!(b.value("k"), None);
    b.set("k", &large[..600]);
    assert_eq!(b.mode(StoreMode::Append, "k", &large[..600]), said("NotStored"));
    assert_eq!(b.value("k"), Some(large[..600].to_vec()));
}

#[test]
fn what_is_used_outlives_what_is_not() {
    let b = Bench::new(BYTES_MIN);
    let value = [b'v'; 1000];
    b.set("a", value);
    b.set("b", value);
    for n in 0..200 {
        b.set(format!("filler {n}"), value);
        assert!(b.value("a").is_some());
    }
    assert_eq!(b.value("b"), None);
    let evicted = (b.counter(Counter::Evictions), b.counter(Counter::EvictedUnfetched));
    assert!(evicted.0 > 100 && evicted.0 == evicted.1, "{evicted:?}");
    assert!(b.value("filler 199").is_some());
    assert!(b.counter(Counter::Bytes) <= BYTES_MIN as u64);
    b.check(&[]);
}

/// The item that a command works on is the next to be evicted, and its successor needs room.
#[test]
fn a_command_does_not_lose_the_item_it_works_on() {
    for round in 0..20 {
        let b = Bench::new(BYTES_MIN);
        let mut n = 0;
        while b.counter(Counter::Evictions) <= round * 13 {
            b.set(format!("{n}"), "9".repeat(19));
            n += 1;
        }
        let is_there = |n: &i32| {
            b.memory.read_now(format!("{n}").as_bytes(), false, b.now, |hit| hit.is_some())
        };
        let oldest = (0..n).find(is_there).expect("the last one").to_string();
        let more = [b'x'; 400];
        b.mode(StoreMode::Append, &oldest, more);
        assert_eq!(b.value(&oldest), Some([&b"9".repeat(19)[..], &more].concat()));
        b.check(&[]);
    }
}

#[test]
fn what_has_expired_is_reclaimed_and_not_evicted() {
    let mut b = Bench::new(BYTES_MIN);
    let value = [b'v'; 1000];
    b.store(StoreMode::Set, "expiring", value, 0, Expiry::from_exptime(1, NOW), 0);
    b.now = after_s(1);
    let mut n = 0;
    while b.counter(Counter::Reclaimed) == 0 {
        n += 1;
        b.set(format!("{n}"), value);
        assert!(b.counter(Counter::Evictions) <= 3, "no more than lay beside it");
    }
    assert_eq!(b.counter(Counter::ExpiredUnfetched), 1);
    b.check(&[]);
}

/// The value arrives before the flush, and after it.
#[test]
fn what_is_stored_after_a_flush_is_there_whenever_it_began_to_arrive() {
    for value_bytes in [100, 30_000] {
        for is_later in [false, true] {
            let mut b = Bench::new(32 << 20);
            let request =
                StoreRequest { mode: StoreMode::Set, flags: 3, expiry: Expiry::NEVER, cas: 0 };
            b.set("k", "old");
            let draft = b.memory.draft(b"k", request, value_bytes, b.now).expect("there is room");
            let mut filled = 0;
            while filled < value_bytes {
                filled += b.memory.fill_draft(draft, filled, &mut |rooms| {
                    rooms.iter_mut().for_each(|room| room.fill(b'n'));
                    rooms.iter().map(|room| room.len()).sum()
                });
            }
            b.flush(i64::from(is_later));
            b.now = after_s(1);
            assert!(matches!(
                b.seen(b.memory.store_draft(b"k", draft, request, b.now)),
                Seen::Other(said) if said.starts_with("Stored")
            ));
            assert_eq!(b.value("k"), Some(vec![b'n'; value_bytes]));
            b.check(&[]);
        }
    }
}

#[test]
fn a_held_value_outlives_delete_overwrite_and_eviction() {
    let b = Bench::new(BYTES_MIN);
    let mut values = Vec::new();
    for name in ["deleted", "overwritten", "flushed", "appended", "evicted"] {
        b.set(name, name.repeat(50));
        values.push((b.hold(name), name.repeat(50)));
        values.push((b.hold(name), name.repeat(50)));
    }
    let mut number = Vec::new();
    b.set("number", "41");
    number.push(b.hold("number"));
    assert!(matches!(b.incr("number", 1), Seen::Other(said) if said.contains("42")));
    assert_eq!(b.value("number"), Some(b"42".to_vec()));
    values.push((number.remove(0), "41".to_owned()));
    b.delete("deleted");
    b.set("overwritten", "other".repeat(50));
    b.mode(StoreMode::Append, "appended", "more");
    b.flush(0);
    assert_eq!(b.value("flushed"), None);
    for i in 0..1000 {
        b.set(format!("filler {i}"), vec![i as u8; i % 700]);
    }
    for (value, expected) in &values {
        let mut bytes = vec![0; value.len()];
        value.copy_to(0, &mut bytes);
        assert_eq!(bytes, expected.as_bytes());
    }
    b.check(&values.iter().map(|(value, _)| value).collect::<Vec<_>>());
    drop(values);
    b.check(&[]);
}

#[test]
fn when_readers_hold_everything_a_store_fails_and_nothing_else_does() {
    let b = Bench::new(BYTES_MIN);
    let mut held = Vec::new();
    let mut i = 0;
    while b.counter(Counter::Evictions) == 0 && i < 10_000 {
        let name = format!("{i}");
        if !matches!(b.set(&name, [b'v'; 500]), Seen::Other(said) if said.starts_with("Stored")) {
            break;
        }
        held.push(b.hold(&name));
        i += 1;
    }
    assert_eq!(b.counter(Counter::Evictions), 0);
    assert!(b.counter(Counter::StoreNoMemory) > 0);
    assert_eq!(b.mode(StoreMode::Replace, "0", [b'w'; 900]), said("OutOfMemory"));
    assert_eq!(b.value("0"), Some(vec![b'v'; 500]));
    assert_eq!(b.mode(StoreMode::Append, "0", [b'w'; 900]), said("NotStored"));
    assert_eq!(b.set("0", [b'w'; 900]), said("OutOfMemory"));
    assert_eq!(b.value("0"), None);
    b.check(&held.iter().collect::<Vec<_>>());
    drop(held);
    b.check(&[]);
    assert!(matches!(b.set("0", [b'w'; 900]), Seen::Other(said) if said.starts_with("Stored")));
}

#[test]
fn a_number_that_is_being_read_stays_as_long_as_one_that_is_not() {
    let b = Bench::new(BYTES_MIN);
    for is_held in [false, true] {
        b.set("n", "100");
        let held = is_held.then(|| b.hold("n"));
        b.decr("n", 1);
        assert_eq!(b.value("n"), Some(b"99 ".to_vec()), "held: {is_held}");
        drop(held);
    }
}

/// CVE-2018-1000127: a count of readers that wraps gives the item away while they read it.
#[test]
fn a_count_of_readers_that_is_full_refuses_one_more() {
    let b = Bench::new(BYTES_MIN);
    b.set("k", "1");
    let value = b.hold("k");
    b.memory.store.borrow_mut().segments.set_pins(&value.opened, u32::MAX);
    assert_eq!(b.get("k"), said("OutOfMemory"));
    b.set("k", "2");
    assert!(b.read("k", |seen| matches!(seen, Seen::Hit { value, .. } if value == b"2")));
    let mut byte = [0];
    value.copy_to(0, &mut byte);
    assert_eq!(&byte, b"1");
    b.memory.store.borrow_mut().segments.set_pins(&value.opened, 1);
}

#[test]
fn what_is_read_where_it_lies_was_read_if_it_was_taken() {
    let mut b = Bench::new(1 << 20);
    let hit =
        |cas| Seen::Hit { flags: 0, expiry: Expiry::from_exptime(2, NOW), cas, value: b"v".into() };
    for k in ["taken", "left"] {
        b.store(StoreMode::Set, k, "v", 0, Expiry::from_exptime(2, NOW), 0);
    }
    assert!(b.read("taken", |seen| seen == hit(1)));
    assert!(!b.read("left", |seen| seen != hit(2)));
    assert!(b.read("none", |seen| seen == said("Miss")));
    b.check(&[]);
    b.now = after_s(2);
    assert!(b.read("taken", |seen| seen == said("Miss")));
    assert_eq!(b.counter(Counter::ExpiredUnfetched), 0);
    assert!(b.read("left", |seen| seen == said("Miss")));
    assert_eq!(b.counter(Counter::GetExpired), 2);
    assert_eq!(b.counter(Counter::ExpiredUnfetched), 0);
    b.check(&[]);
}

#[test]
fn the_sweep_takes_back_what_expired_or_was_flushed() {
    let mut b = Bench::new(1 << 20);
    for i in 0..1000 {
        let expiry = if i % 2 == 0 { Expiry::from_exptime(10, NOW) } else { Expiry::NEVER };
        b.store(StoreMode::Set, format!("{i}"), "v", 0, expiry, 0);
    }
    let turns = |b: &mut Bench, to_s: u32| {
        while b.now.unix_s < NOW.unix_s + to_s {
            let uptime_us = b.now.uptime_us + 10_000;
            b.now = Now { uptime_us, unix_s: NOW.unix_s + (uptime_us / 1_000_000) as u32 };
            b.memory.turn(b.now);
        }
    };
    turns(&mut b, 9);
    assert_eq!(b.counter(Counter::CurrItems), 1000);
    turns(&mut b, 80);
    assert_eq!((b.counter(Counter::CurrItems), b.counter(Counter::Reclaimed)), (500, 500));
    b.check(&[]);
    b.flush(0);
    turns(&mut b, 150);
    assert_eq!((b.counter(Counter::CurrItems), b.counter(Counter::Bytes)), (0, 0));
    b.check(&[]);
}

#[test]
fn figures_are_about_what_is_there() {
    let mut b = Bench::new(1 << 20);
    assert_eq!(b.memory.overview(NOW).oldest_age_s, 0);
    b.set("a", "v");
    b.now = after_s(5);
    b.set("b", [b'v'; 100]);
    b.now = after_s(7);
    let overview = b.memory.overview(b.now);
    assert_eq!((overview.items, overview.oldest_age_s), (2, 7));
    assert!(overview.bytes_used < overview.bytes_total && overview.bytes_total <= 1 << 20);
    let mut sizes = Vec::new();
    b.memory.sizes(|bytes, items| sizes.push((bytes, items)));
    // 56 + 1 + 1 + 1 + 2 = 61 and 160 bytes.
    assert_eq!(sizes, [(64, 1), (160, 1)]);
}
