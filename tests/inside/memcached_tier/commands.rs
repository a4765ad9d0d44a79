//! Every command's outcome with a real memcached behind the tier.

use sunder::base::buffer::Chain;
use sunder::base::clock::Expiry;
use sunder::tier::{Arithmetic, Hit, Outcome, Store, StoreMode, Tier};

use super::fixture::{Fixture, Folder, Memcached, key, words};

struct Bench {
    fixture: Fixture,
    memcached: Memcached,
    _folder: Folder,
}

fn bench() -> Bench {
    let folder = Folder::new();
    let memcached = Memcached::start(&folder.socket(), &["-I", "2m"]);
    Bench { fixture: Fixture::open(&folder.socket()), memcached, _folder: folder }
}

impl Bench {
    fn store(&self, mode: StoreMode, name: &str, value: &str, cas: u64) -> String {
        let outcome =
            self.fixture.store(mode, name.as_bytes(), value.as_bytes(), 7, cas, Expiry::NEVER);
        words(&outcome, self.fixture.now())
    }

    fn get(&self, name: &str) -> String {
        words(&self.fixture.get(name.as_bytes()), self.fixture.now())
    }

    fn cas_of(&self, name: &str) -> u64 {
        let Outcome::Hit(Hit { cas, .. }) = self.fixture.get(name.as_bytes()) else { return 0 };
        cas
    }

    fn delete(&self, name: &str, cas: u64) -> String {
        let Bench { fixture, .. } = self;
        let key = key(name.as_bytes());
        words(&fixture.run(fixture.tier.delete(&key, cas, fixture.now())), fixture.now())
    }

    fn count(&self, name: &str, arithmetic: Arithmetic) -> String {
        let Bench { fixture, .. } = self;
        let key = key(name.as_bytes());
        words(&fixture.run(fixture.tier.arithmetic(&key, arithmetic, fixture.now())), fixture.now())
    }

    fn touch(&self, name: &str, seconds: i64) -> String {
        let Bench { fixture, .. } = self;
        let (key, now) = (key(name.as_bytes()), fixture.now());
        let expiry = Expiry::from_exptime(seconds, now);
        words(&fixture.run(fixture.tier.touch(&key, expiry, now)), now)
    }

    fn get_and_touch(&self, name: &str, seconds: i64) -> String {
        let Bench { fixture, .. } = self;
        let (key, now) = (key(name.as_bytes()), fixture.now());
        let expiry = Expiry::from_exptime(seconds, now);
        words(&fixture.run(fixture.tier.get_and_touch(&key, expiry, now)), now)
    }
}

fn add(delta: u64) -> Arithmetic {
    Arithmetic { decrement: false, delta, initial: None, cas: 0 }
}

#[test]
fn stores_check_their_conditions() {
    use StoreMode::{Add, Append, Prepend, Replace, Set};
    let bench = bench();
    assert_eq!(bench.get("k"), "Miss");
    for mode in [Replace, Append, Prepend] {
        assert_eq!(bench.store(mode, "k", "x", 0), "NotStored");
    }
    assert_eq!(bench.store(Add, "k", "one", 0), "stored");
    assert_eq!(bench.store(Add, "k", "two", 0), "NotStored");
    assert_eq!(bench.store(Append, "k", "-two", 0), "stored");
    assert_eq!(bench.store(Prepend, "k", "zero-", 0), "stored");
    assert_eq!(bench.get("k"), "hit 7 -1 zero-one-two");
    assert_eq!(bench.store(Replace, "k", "", 0), "stored");
    assert_eq!(bench.get("k"), "hit 7 -1 ");
    assert_eq!(bench.store(Set, "k", "end\r\nVA 3", 0), "stored");
    assert_eq!(bench.get("k"), "hit 7 -1 end\\r\\nVA 3");
    assert_eq!(bench.delete("k", 0), "Deleted");
    assert_eq!(bench.delete("k", 0), "Miss");
    assert_eq!(bench.get("k"), "Miss");
}

#[test]
fn a_cas_stores_and_deletes_only_its_item() {
    use StoreMode::{Add, Append, Prepend, Replace, Set};
    let bench = bench();
    for mode in [Set, Add, Replace] {
        assert_eq!(bench.store(mode, "k", "x", 99), "Miss", "{mode:?}");
    }
    for mode in [Append, Prepend] {
        assert_eq!(bench.store(mode, "k", "x", 99), "NotStored", "{mode:?}");
    }
    assert_eq!(bench.delete("k", 99), "Miss");
    bench.store(Set, "k", "1", 0);
    for mode in [Set, Add, Replace, Append, Prepend] {
        let cas = bench.cas_of("k");
        assert_ne!(cas, 0);
        assert_eq!(bench.store(mode, "k", "2", cas + 1), "Exists", "{mode:?}");
        assert_eq!(bench.store(mode, "k", "2", cas), "stored", "{mode:?}");
        assert_eq!(bench.store(mode, "k", "2", cas), "Exists", "{mode:?}");
    }
    let Outcome::Stored { cas } = bench.fixture.set(b"k", b"5") else { panic!("stored") };
    assert_eq!(bench.cas_of("k"), cas);
    assert_eq!(bench.count("k", Arithmetic { cas: cas + 1, ..add(1) }), "Exists");
    assert_eq!(bench.count("k", Arithmetic { cas, ..add(1) }), "number 6");
    assert_eq!(bench.delete("k", cas), "Exists");
    assert_eq!(bench.delete("k", bench.cas_of("k")), "Deleted");
}

#[test]
fn numbers_count_up_and_down_as_in_memcached() {
    let bench = bench();
    let expiry = Expiry::from_exptime(100, bench.fixture.now());
    assert_eq!(bench.count("n", add(1)), "Miss");
    let create = Arithmetic { initial: Some((u64::MAX, expiry)), ..add(2) };
    assert_eq!(bench.count("n", create), format!("number {}", u64::MAX));
    let created = bench.get("n");
    assert!(
        matches!(&created[..], "hit 0 100 18446744073709551615" | "hit 0 99 18446744073709551615"),
        "{created}"
    );
    assert_eq!(bench.count("n", create), "number 1");
    assert_eq!(bench.count("n", add(u64::MAX)), "number 0");
    bench.fixture.set(b"n", b"100");
    assert_eq!(bench.count("n", Arithmetic { decrement: true, ..add(99) }), "number 1");
    assert_eq!(bench.get("n"), "hit 0 -1 1  ");
    assert_eq!(bench.count("n", Arithmetic { decrement: true, ..add(99) }), "number 0");
    for text in ["", "x", "1x", "-1", "184467440737095516150"] {
        bench.store(StoreMode::Set, "n", text, 0);
        assert_eq!(bench.count("n", add(1)), "NonNumeric", "{text}");
        assert_eq!(bench.count("n", create), "NonNumeric", "{text}");
    }
}

#[test]
fn expiries_are_stored_changed_and_returned() {
    let bench = bench();
    let Bench { fixture, .. } = &bench;
    let near = |words: String, seconds: i64| {
        let hit = (-1..=1).any(|off| words == format!("hit 7 {} v", seconds + off));
        assert!(hit, "{seconds}: {words}");
    };
    for seconds in [5, 100, 30 * 86_400, 30 * 86_400 + 5, 400 * 86_400] {
        let expiry = Expiry::from_unix_s((i64::from(fixture.now().unix_s) + seconds) as u32);
        fixture.store(StoreMode::Set, b"k", b"v", 7, 0, expiry);
        near(bench.get("k"), seconds);
    }
    fixture.store(StoreMode::Set, b"k", b"v", 7, 0, Expiry::PAST);
    assert_eq!(bench.get("k"), "Miss");
    assert_eq!(bench.touch("k", 10), "Miss");
    assert_eq!(bench.get_and_touch("k", 10), "Miss");
    bench.store(StoreMode::Set, "k", "v", 0);
    assert_eq!(bench.get("k"), "hit 7 -1 v");
    assert_eq!(bench.touch("k", 10), "touched");
    near(bench.get("k"), 10);
    near(bench.get_and_touch("k", 20), 20);
    near(bench.get("k"), 20);
    assert_eq!(bench.get_and_touch("k", 0), "hit 7 -1 v");
    assert_eq!(bench.get("k"), "hit 7 -1 v");
    assert_eq!(bench.touch("k", -1), "touched");
    assert_eq!(bench.get("k"), "Miss");
    bench.store(StoreMode::Set, "k", "v", 0);
    let last = bench.get_and_touch("k", -1);
    assert!(
        last.starts_with("hit 7 ") && last.ends_with(" v"),
        "memcached serves it again: {last}"
    );
    assert_eq!(bench.get("k"), "Miss");
}

#[test]
fn flags_are_thirty_two_bits() {
    let bench = bench();
    for flags in [0, 1, u32::MAX] {
        bench.fixture.store(StoreMode::Set, b"k", b"v", flags, 0, Expiry::NEVER);
        assert_eq!(bench.get("k"), format!("hit {flags} -1 v"));
    }
}

#[test]
fn keys_may_have_any_bytes() {
    let bench = bench();
    let mut keys: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    keys.extend((0..=255).map(|byte| vec![b'a', byte, b'b']));
    for bytes in [1, 2, 3, 4, 185, 186] {
        keys.push(vec![0; bytes]);
    }
    keys.push(vec![b'k'; 250]);
    keys.push(vec![0xff; 250]);
    for (i, name) in keys.iter().enumerate() {
        let stored = bench.fixture.set(name, format!("value {i}").as_bytes());
        assert!(matches!(stored, Outcome::Stored { .. }), "{}: {stored:?}", name.escape_ascii());
    }
    for (i, name) in keys.iter().enumerate() {
        let got = words(&bench.fixture.get(name), bench.fixture.now());
        let last = keys.iter().rposition(|other| other == name).unwrap_or(i);
        assert_eq!(got, format!("hit 0 -1 value {last}"), "{}", name.escape_ascii());
    }
    // The encoded form is used only between sunder and memcached: other clients find the same item.
    assert_eq!(bench.memcached.request("get a\x7fb\r\n", "END\r\n").matches("value").count(), 1);
    assert_eq!(bench.memcached.request("mg AA== b v\r\n", "\r\n").matches("VA").count(), 1);
}

#[test]
fn values_of_every_size_are_complete_and_too_large_ones_are_refused() {
    let bench = bench();
    let bytes: Vec<u8> =
        (0..2_097_152_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for size in (0..300).chain([4079, 4080, 4081, 65_535, 65_536, 500_000, 1 << 20]) {
        let value = &bytes[..size];
        assert!(matches!(bench.fixture.set(b"k", value), Outcome::Stored { .. }), "{size}");
        let Outcome::Hit(hit) = bench.fixture.get(b"k") else { panic!("{size}: no hit") };
        assert!(hit.value.to_vec() == value, "{size}");
    }
    assert!(matches!(bench.fixture.set(b"k", &bytes), Outcome::TooLarge));
    assert_eq!(bench.get("k"), "Miss", "an item that a set could not replace is deleted");
    let large = vec![b'1'; 1_500_000];
    bench.fixture.set(b"k", &large);
    let appended = bench.fixture.store(StoreMode::Append, b"k", &large, 0, 0, Expiry::NEVER);
    assert!(!matches!(appended, Outcome::Stored { .. }), "{appended:?}");
    let Outcome::Hit(hit) = bench.fixture.get(b"k") else { panic!("an append removes nothing") };
    assert_eq!(hit.value.len(), large.len());
}

#[test]
fn each_request_of_a_turn_gets_its_own_answer() {
    let bench = bench();
    let Bench { fixture, .. } = &bench;
    let now = fixture.now();
    let store = Store { mode: StoreMode::Set, flags: 0, expiry: Expiry::NEVER, cas: 0 };
    let names: Vec<String> = (0..500).map(|i| format!("key{i}")).collect();
    let value = |i: usize| format!("value{i}").repeat(i % 40);
    let stored = fixture.run_all(names.iter().enumerate().map(|(i, name)| async move {
        let value = Chain::from_slice(value(i).as_bytes());
        fixture.tier.store(&key(name.as_bytes()), store, &value, now).await
    }));
    assert!(stored.iter().all(|outcome| matches!(outcome, Outcome::Stored { .. })));
    let got = fixture.run_all(
        names.iter().map(|name| async move { fixture.tier.get(&key(name.as_bytes()), now).await }),
    );
    for (i, outcome) in got.iter().enumerate() {
        assert_eq!(words(outcome, now), format!("hit 0 -1 {}", value(i)));
    }
}

#[test]
fn output_beyond_the_room_waits_and_none_is_lost() {
    let bench = bench();
    let Bench { fixture, .. } = &bench;
    let now = fixture.now();
    let store = Store { mode: StoreMode::Set, flags: 0, expiry: Expiry::NEVER, cas: 0 };
    let large: Vec<u8> = (0..400_000_u32).map(|i| (i % 253) as u8).collect();
    let value = &Chain::from_slice(&large);
    let stored = fixture.run_all(
        (0..40_u8)
            .map(|i| async move { fixture.tier.store(&key(&[b'k', i]), store, value, now).await }),
    );
    assert!(stored.iter().all(|outcome| matches!(outcome, Outcome::Stored { .. })), "{stored:?}");
    let got = fixture
        .run_all((0..40_u8).map(|i| async move { fixture.tier.get(&key(&[b'k', i]), now).await }));
    for outcome in &got {
        let Outcome::Hit(hit) = outcome else { panic!("{outcome:?}") };
        assert!(hit.value.to_vec() == large);
    }
}

#[test]
fn a_flush_removes_everything_immediately_or_later() {
    let bench = bench();
    let Bench { fixture, .. } = &bench;
    let flush = |at| fixture.run(fixture.tier.flush_all(at, fixture.now()));
    fixture.set(b"k", b"v");
    let later = Expiry::from_exptime(50, fixture.now());
    assert!(matches!(flush(later), Outcome::Flushed));
    assert_eq!(bench.get("k"), "hit 0 -1 v");
    for at in [Expiry::NEVER, Expiry::PAST] {
        fixture.set(b"k", b"v");
        assert!(matches!(flush(at), Outcome::Flushed));
        assert_eq!(bench.get("k"), "Miss");
        fixture.set(b"k", b"w");
        assert_eq!(bench.get("k"), "hit 0 -1 w", "an item stored in the same second stays");
    }
}

#[test]
fn an_invalidation_deletes() {
    let bench = bench();
    bench.fixture.set(b"k", b"v");
    bench.fixture.run(bench.fixture.tier.invalidate(&key(b"k"), bench.fixture.now()));
    assert_eq!(bench.get("k"), "Miss");
}

#[test]
fn a_refused_flush_affects_nothing_else() {
    let folder = Folder::new();
    let _memcached = Memcached::start(&folder.socket(), &["-F"]);
    let fixture = Fixture::open(&folder.socket());
    fixture.set(b"k", b"v");
    let flushed = fixture.run(fixture.tier.flush_all(Expiry::NEVER, fixture.now()));
    assert!(matches!(flushed, Outcome::Failed));
    assert!(matches!(fixture.get(b"k"), Outcome::Hit(_)));
}
