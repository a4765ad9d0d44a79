//! Meta commands: marks, chosen cas numbers and expiries, and what becomes of them.

use super::*;
use crate::tier::{ItemState, MetaFlags};

const STALE: MetaFlags = MetaFlags::INVALIDATE;

/// A meta command with these arguments.
fn with(verb: MetaVerb, flags: &[MetaFlags]) -> Meta {
    let with = flags.iter().fold(MetaFlags::NONE, |all, &flag| all.and(flag));
    Meta { with, ..Meta::new(verb) }
}

impl Bench {
    fn meta(&self, meta: Meta, value: &[u8]) -> Outcome<ItemValue> {
        now_or_never(self.memory.meta(&key("k"), meta, &Chain::from_slice(value), self.now))
    }

    /// State, cas and value of what an mg finds.
    fn mg(&self, meta: Meta) -> Option<(ItemState, u64, Vec<u8>)> {
        match self.meta(meta, b"") {
            Outcome::Hit(hit) => {
                let mut value = vec![0; hit.value.len()];
                assert_eq!(hit.value.copy_to(0, &mut value), value.len());
                Some((hit.state, hit.cas, value))
            }
            Outcome::Miss => None,
            other => panic!("{other:?}"),
        }
    }

    /// The same without arguments; stale, token sent, won.
    fn marks(&self) -> Option<(bool, bool, bool)> {
        let (state, ..) = self.mg(Meta::new(MetaVerb::Get))?;
        Some((state.is_stale, state.is_token_sent, state.is_won))
    }

    fn cas_now(&self) -> u64 {
        self.mg(with(MetaVerb::Get, &[MetaFlags::NO_USE])).expect("an item").1
    }

    fn ms(&self, meta: Meta, value: &[u8]) -> Outcome<ItemValue> {
        self.meta(Meta { verb: MetaVerb::Store(StoreMode::Set), ..meta }, value)
    }
}

fn store() -> Meta {
    Meta::new(MetaVerb::Store(StoreMode::Set))
}

/// Values in one record, and in pieces.
fn values() -> [Vec<u8>; 3] {
    [b"v".to_vec(), vec![b'x'; 5000], vec![b'y'; 300_000]]
}

#[test]
fn one_client_fetches_what_is_stale_and_the_others_are_told() {
    for value in values() {
        let bench = Bench::new(8 << 20);
        bench.ms(store(), &value);
        assert_eq!(bench.marks(), Some((false, false, false)));
        let before = bench.cas_now();
        let outcome = bench.meta(with(MetaVerb::Delete, &[STALE]), b"");
        assert!(matches!(outcome, Outcome::Changed(_)), "{outcome:?}");
        assert!(bench.cas_now() > before, "who read it before must not win with its cas");
        assert_eq!(bench.marks(), Some((true, true, false)), "the look for the cas won");
        bench.meta(with(MetaVerb::Delete, &[STALE]), b"");
        assert_eq!(bench.marks(), Some((true, false, true)), "a new race has a new winner");
        let (state, _, served) = bench.mg(Meta::new(MetaVerb::Get)).expect("it is served");
        assert!(state.is_stale && state.is_token_sent && served == value);
        // Other commands serve it and leave the marks.
        assert!(matches!(bench.get("k"), Seen::Hit { .. }));
        let touched =
            now_or_never(bench.memory.touch(&key("k"), Expiry::from_unix_s(NOW.unix_s + 9), NOW));
        assert!(matches!(touched, Outcome::Touched { .. }));
        assert_eq!(bench.marks(), Some((true, true, false)));
        let cas = bench.cas_now();
        let outcome = bench.ms(Meta { cas, ..with(store().verb, &[MetaFlags::CAS]) }, b"new");
        assert!(matches!(outcome, Outcome::Changed(_)), "{outcome:?}");
        assert_eq!(bench.marks(), Some((false, false, false)));
    }
}

#[test]
fn an_older_value_is_stored_as_stale_and_a_newer_one_refused() {
    let bench = Bench::new(1 << 20);
    let expiry = Expiry::from_unix_s(NOW.unix_s + 50);
    bench.ms(Meta { new_cas: 100, expiry, ..with(store().verb, &[MetaFlags::NEW_CAS]) }, b"one");
    let asked = |cas| Meta { cas, ..with(store().verb, &[MetaFlags::CAS, STALE]) };
    assert!(matches!(bench.ms(asked(101), b"two"), Outcome::Exists));
    assert!(matches!(bench.ms(asked(0), b"two"), Outcome::Exists));
    assert!(matches!(bench.ms(asked(99), b"two"), Outcome::Changed(_)));
    let (state, _, value) = bench.mg(Meta::new(MetaVerb::Get)).expect("stored");
    assert_eq!(
        (state.is_stale, state.is_won, state.left_s, &value[..]),
        (true, true, 50, &b"two"[..])
    );
}

#[test]
fn a_chosen_cas_is_the_items_until_it_changes() {
    for value in values() {
        let bench = Bench::new(8 << 20);
        let chosen = |verb, new_cas| Meta { new_cas, ..with(verb, &[MetaFlags::NEW_CAS]) };
        bench.ms(chosen(store().verb, 7), &value);
        assert_eq!(bench.cas_now(), 7);
        bench.meta(chosen(MetaVerb::Store(StoreMode::Append), (1 << 62) - 1), b"!");
        assert_eq!(bench.cas_now(), (1 << 62) - 1);
        assert_eq!(bench.mg(Meta::new(MetaVerb::Get)).unwrap().2, [&value[..], b"!"].concat());
        bench.ms(store(), &value);
        assert_ne!(bench.cas_now(), (1 << 62) - 1);
        let verb = MetaVerb::Delete;
        bench.meta(Meta { new_cas: 3, ..with(verb, &[MetaFlags::NEW_CAS, STALE]) }, b"");
        assert_eq!(bench.cas_now(), 3);
    }
}

#[test]
fn a_miss_makes_one_client_fetch() {
    let bench = Bench::new(1 << 20);
    let vivify = Expiry::from_unix_s(NOW.unix_s + 30);
    let meta = Meta {
        vivify,
        ..with(MetaVerb::Get, &[MetaFlags::VIVIFY, MetaFlags::EXPIRY_AFTER_VIVIFY])
    };
    let (first, _, value) = bench.mg(meta).expect("made");
    assert!(first.is_won && !first.is_token_sent && value.is_empty() && first.left_s == 30);
    let (second, ..) = bench.mg(meta).expect("there");
    assert!(!second.is_won && second.is_token_sent && second.left_s == 30);
    let late = Bench { now: after_s(30), ..bench };
    assert!(late.mg(meta).expect("made again").0.is_won);
}

#[test]
fn who_comes_shortly_before_the_end_fetches() {
    let bench = Bench::new(1 << 20);
    let at = |seconds| Expiry::from_unix_s(NOW.unix_s + seconds);
    bench.ms(Meta { expiry: at(20), ..with(store().verb, &[MetaFlags::TOUCH]) }, b"v");
    let recache =
        |seconds| Meta { recache: at(seconds), ..with(MetaVerb::Get, &[MetaFlags::RECACHE]) };
    assert!(!bench.mg(recache(20)).expect("there").0.is_won);
    assert!(bench.mg(recache(21)).expect("there").0.is_won);
    let (state, ..) = bench.mg(recache(21)).expect("there");
    assert!(!state.is_won && state.is_token_sent && !state.is_stale);
    bench.ms(store(), b"for ever");
    assert!(!bench.mg(recache(21)).expect("there").0.is_won, "it does not expire");
}

#[test]
fn a_removed_value_leaves_an_item() {
    let bench = Bench::new(1 << 20);
    bench.ms(Meta { flags: 5, ..store() }, b"value");
    let cas = bench.cas_now();
    let outcome = bench.meta(with(MetaVerb::Delete, &[MetaFlags::EMPTY]), b"");
    assert!(matches!(outcome, Outcome::Deleted));
    let (state, after, value) = bench.mg(Meta::new(MetaVerb::Get)).expect("it stays");
    assert_eq!((state.is_stale, after, value.is_empty()), (false, cas, true));
    let outcome = bench.meta(Meta { cas: 0, ..with(MetaVerb::Delete, &[MetaFlags::CAS]) }, b"");
    assert!(matches!(outcome, Outcome::Exists), "no item has cas 0");
    assert!(matches!(bench.meta(Meta::new(MetaVerb::Delete), b""), Outcome::Deleted));
    assert!(bench.mg(Meta::new(MetaVerb::Get)).is_none());
}

#[test]
fn a_look_is_no_use_and_a_count_keeps_the_marks() {
    let bench = Bench::new(1 << 20);
    bench.ms(store(), b"10");
    for _ in 0..2 {
        let Outcome::Hit(hit) = bench.meta(Meta::new(MetaVerb::Debug), b"") else {
            panic!("a hit")
        };
        assert!(!hit.state.is_fetched);
        assert!(!bench.mg(with(MetaVerb::Get, &[MetaFlags::NO_USE])).unwrap().0.is_fetched);
    }
    let count = Meta { delta: 5, ..Meta::new(MetaVerb::Count { decrement: false }) };
    assert!(matches!(bench.meta(count, b""), Outcome::Changed(ItemInfo { number: 15, .. })));
    bench.meta(with(MetaVerb::Delete, &[STALE]), b"");
    assert!(matches!(bench.meta(count, b""), Outcome::Changed(ItemInfo { number: 20, .. })));
    assert_eq!(bench.marks(), Some((true, false, true)), "counted in place");
}
