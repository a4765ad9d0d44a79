//! Meta commands: marks and chosen cas numbers are kept on the disk, and through everything that
//! happens to a record there.

use super::*;
use crate::tier::ItemState;

/// A meta command with these arguments.
fn with(verb: MetaVerb, flags: &[MetaFlags]) -> Meta {
    let with = flags.iter().fold(MetaFlags::NONE, |all, &flag| all.and(flag));
    Meta { with, ..Meta::new(verb) }
}

fn set(flags: &[MetaFlags]) -> Meta {
    with(MetaVerb::Store(StoreMode::Set), flags)
}

impl Bench {
    fn meta(&mut self, meta: Meta, value: &[u8]) -> Outcome<Chain> {
        self.run(b"k", Action::Meta(meta), value)
    }

    /// State, cas and value of what an mg finds.
    fn mg(&mut self, flags: &[MetaFlags]) -> Option<(ItemState, u64, Vec<u8>)> {
        self.mg_with(with(MetaVerb::Get, flags))
    }

    fn mg_with(&mut self, meta: Meta) -> Option<(ItemState, u64, Vec<u8>)> {
        match self.meta(meta, b"") {
            Outcome::Hit(hit) => Some((hit.state, hit.cas, hit.value.to_vec())),
            Outcome::Miss => None,
            other => panic!("{other:?}"),
        }
    }

    /// Stale, token sent, won; and the value.
    fn marks(&mut self) -> Option<(bool, bool, bool, Vec<u8>)> {
        let (state, _, value) = self.mg(&[])?;
        Some((state.is_stale, state.is_token_sent, state.is_won, value))
    }

    fn changed(&mut self, meta: Meta, value: &[u8]) -> u64 {
        match self.meta(meta, value) {
            Outcome::Changed(info) => info.cas,
            other => panic!("{other:?}"),
        }
    }
}

/// Everything twice: with the items in memory, and on the disk only.
fn both(test: impl Fn(&mut Bench, &dyn Fn(&mut Bench))) {
    test(&mut Bench::new(), &|_| ());
    test(&mut Bench::new(), &Bench::restart);
}

#[test]
fn one_client_fetches_what_is_stale_and_the_others_are_told() {
    both(|bench, pause| {
        let first = bench.changed(set(&[]), b"v");
        pause(bench);
        let stale = bench.changed(with(MetaVerb::Delete, &[MetaFlags::INVALIDATE]), b"");
        assert!(stale > first, "so that a late client is recognized");
        pause(bench);
        assert_eq!(bench.marks(), Some((true, false, true, b"v".to_vec())));
        pause(bench);
        assert_eq!(bench.marks(), Some((true, true, false, b"v".to_vec())));
        let late = Meta { cas: first, ..set(&[MetaFlags::CAS, MetaFlags::INVALIDATE]) };
        bench.changed(late, b"late");
        pause(bench);
        assert_eq!(bench.marks(), Some((true, true, false, b"late".to_vec())));
        let (.., cas, _) = bench.mg(&[]).expect("an item");
        bench.changed(Meta { cas, ..set(&[MetaFlags::CAS]) }, b"new");
        pause(bench);
        assert_eq!(bench.marks(), Some((false, false, false, b"new".to_vec())));
    });
}

#[test]
fn one_client_makes_what_is_missing_and_the_others_are_told() {
    both(|bench, pause| {
        let vivify = Meta {
            vivify: Expiry::from_unix_s(NOW.unix_s + 60),
            ..with(MetaVerb::Get, &[MetaFlags::VIVIFY, MetaFlags::EXPIRY_AFTER_VIVIFY])
        };
        let (state, cas, value) = bench.mg_with(vivify).expect("it is made");
        assert!(state.is_won && !state.is_token_sent && value.is_empty());
        assert_eq!(state.left_s, 60);
        pause(bench);
        let (state, found, value) = bench.mg_with(vivify).expect("it is there");
        assert!(!state.is_won && state.is_token_sent && value.is_empty());
        assert_eq!(found, cas);
        bench.changed(Meta { cas, ..set(&[MetaFlags::CAS]) }, b"v");
        assert_eq!(bench.marks(), Some((false, false, false, b"v".to_vec())));
    });
}

#[test]
fn an_item_about_to_expire_is_fetched_by_one_client() {
    both(|bench, pause| {
        let expiry = Expiry::from_unix_s(NOW.unix_s + 20);
        bench.changed(Meta { expiry, ..set(&[MetaFlags::TOUCH]) }, b"v");
        let recache = |s| Meta {
            recache: Expiry::from_unix_s(NOW.unix_s + s),
            ..with(MetaVerb::Get, &[MetaFlags::RECACHE])
        };
        let is_won = |bench: &mut Bench, s| bench.mg_with(recache(s)).expect("an item").0.is_won;
        assert!(!is_won(bench, 20));
        pause(bench);
        assert!(is_won(bench, 30));
        pause(bench);
        assert!(!is_won(bench, 30));
        // A touch and a count leave marks as they are, an append does not.
        bench.run(b"k", Action::Touch { expiry: Expiry::NEVER }, b"");
        assert!(bench.mg(&[]).expect("an item").0.is_token_sent);
        bench.changed(with(MetaVerb::Store(StoreMode::Append), &[]), b"w");
        pause(bench);
        assert_eq!(bench.marks(), Some((false, false, false, b"vw".to_vec())));
    });
}

#[test]
fn a_chosen_cas_is_the_cas() {
    both(|bench, pause| {
        let chosen = |verb, new_cas| Meta { new_cas, ..with(verb, &[MetaFlags::NEW_CAS]) };
        let count = MetaVerb::Count { decrement: false };
        for (at, (verb, value)) in [
            (MetaVerb::Store(StoreMode::Set), b"12"),
            (MetaVerb::Store(StoreMode::Append), b"34"),
            (count, b"  "),
        ]
        .into_iter()
        .enumerate()
        {
            let asked = 77 + at as u64;
            assert_eq!(bench.changed(chosen(verb, asked), value), asked, "{verb:?}");
            pause(bench);
            assert_eq!(bench.mg(&[]).expect("an item").1, asked, "{verb:?}");
        }
        assert_eq!(bench.get("k"), Some(b"1235".to_vec()));
        let stale = with(MetaVerb::Delete, &[MetaFlags::INVALIDATE, MetaFlags::NEW_CAS]);
        bench.changed(Meta { new_cas: 99, ..stale }, b"");
        assert_eq!(bench.mg(&[]).expect("an item").1, 99);
    });
}

#[test]
fn marks_stay_where_a_record_is_moved() {
    let mut bench = Bench::new();
    bench.changed(set(&[]), b"v");
    bench.changed(with(MetaVerb::Delete, &[MetaFlags::INVALIDATE]), b"");
    assert!(bench.mg(&[]).expect("an item").0.is_won);
    let before = bench.counter(Counter::SsdMoved);
    for round in 0..1_000_u32 {
        bench.set((round % 7).to_string(), &[1; 4_000], Expiry::NEVER);
        bench.settle();
        // Its use keeps it.
        assert_eq!(bench.marks(), Some((true, true, false, b"v".to_vec())), "round {round}");
        if bench.counter(Counter::SsdMoved) > before {
            break;
        }
    }
    assert!(bench.counter(Counter::SsdMoved) > before, "nothing was moved");
    bench.restart();
    assert_eq!(bench.marks(), Some((true, true, false, b"v".to_vec())));
}
