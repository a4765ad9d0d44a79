//! Commands mean what they mean in memcached, whether the item is in memory or on the disk.

use super::*;
use crate::base::work;

fn store_of(mode: StoreMode, cas: u64) -> Store {
    Store { mode, flags: 9, expiry: Expiry::NEVER, cas }
}

fn cas_of(bench: &mut Bench, k: &[u8]) -> u64 {
    match bench.run(k, Action::Get, b"") {
        Outcome::Hit(hit) => hit.cas,
        other => panic!("{other:?}"),
    }
}

/// Everything twice: with the items in memory, and on the disk only.
fn both(test: impl Fn(&mut Bench, &dyn Fn(&mut Bench))) {
    test(&mut Bench::new(), &|_| ());
    test(&mut Bench::new(), &Bench::restart);
}

#[test]
fn what_is_set_is_found_with_flags_expiry_and_cas() {
    both(|bench, pause| {
        let expiry = Expiry::from_unix_s(NOW.unix_s + 100);
        bench.set("k", b"value", expiry);
        bench.set("empty", b"", Expiry::NEVER);
        let cas = cas_of(bench, b"k");
        pause(bench);
        let Outcome::Hit(hit) = bench.run(b"k", Action::GetWithExpiry, b"") else { panic!() };
        assert_eq!((hit.flags, hit.expiry, hit.cas), (7, expiry, cas));
        assert_eq!(hit.value.to_vec(), b"value");
        assert_eq!(bench.get("empty"), Some(Vec::new()));
        assert_eq!(bench.get("other"), None);
    });
}

/// What a short request does to a long value counts as the work that it is.
#[test]
fn what_is_written_again_is_noted_as_work() {
    both(|bench, pause| {
        let value = vec![b'0'; 3_000];
        let count = Arithmetic { decrement: false, delta: 1, initial: None, cas: 0 };
        for action in [
            Action::Touch { expiry: Expiry::NEVER },
            Action::GetAndTouch { expiry: Expiry::NEVER },
            Action::Store(store_of(StoreMode::Append, 0)),
            Action::Store(store_of(StoreMode::Prepend, 0)),
            Action::Arithmetic(count),
        ] {
            bench.set("k", &value, Expiry::NEVER);
            pause(bench);
            let before = work::bytes();
            bench.run(b"k", action, b"");
            assert!(work::since(before) >= value.len(), "{action:?}");
        }
    });
}

#[test]
fn an_item_expires_in_its_second() {
    both(|bench, pause| {
        bench.set("k", b"v", Expiry::from_unix_s(NOW.unix_s + 2));
        bench.set("past", b"v", Expiry::PAST);
        pause(bench);
        assert_eq!(bench.get("past"), None);
        bench.now.unix_s += 1;
        assert!(bench.get("k").is_some());
        bench.now.unix_s += 1;
        assert_eq!(bench.get("k"), None);
        assert_eq!(bench.ssd.items(), 0);
    });
}

#[test]
fn store_modes_do_what_memcached_does() {
    both(|bench, pause| {
        let is = |outcome: &Outcome<Chain>, words: &str| {
            assert!(format!("{outcome:?}").starts_with(words), "{outcome:?}, not {words}");
        };
        let missing = [
            (StoreMode::Add, "Stored", "Miss"),
            (StoreMode::Replace, "NotStored", "Miss"),
            (StoreMode::Append, "NotStored", "NotStored"),
            (StoreMode::Prepend, "NotStored", "NotStored"),
            (StoreMode::Set, "Stored", "Miss"),
        ];
        for (mode, plain, with_cas) in missing {
            is(&bench.store(b"none", b"x", store_of(mode, 5)), with_cas);
            is(&bench.store(b"none", b"x", store_of(mode, 0)), plain);
            bench.delete("none");
        }
        bench.set("k", b"mid", Expiry::NEVER);
        pause(bench);
        is(&bench.store(b"k", b"x", store_of(StoreMode::Add, 0)), "NotStored");
        is(&bench.store(b"k", b">", store_of(StoreMode::Append, 0)), "Stored");
        pause(bench);
        is(&bench.store(b"k", b"<", store_of(StoreMode::Prepend, 0)), "Stored");
        pause(bench);
        let Outcome::Hit(hit) = bench.run(b"k", Action::Get, b"") else { panic!() };
        assert_eq!((hit.value.to_vec(), hit.flags), (b"<mid>".to_vec(), 7), "flags are kept");
        for mode in [StoreMode::Set, StoreMode::Add, StoreMode::Replace, StoreMode::Append] {
            let cas = cas_of(bench, b"k");
            pause(bench);
            is(&bench.store(b"k", b"no", store_of(mode, cas + 1)), "Exists");
            is(&bench.store(b"k", b"yes", store_of(mode, cas)), "Stored");
            pause(bench);
            assert_ne!(cas_of(bench, b"k"), cas);
        }
        assert_eq!(bench.get("k"), Some(b"yesyes".to_vec()));
    });
}

#[test]
fn touch_and_delete_and_gat() {
    both(|bench, pause| {
        let late = Expiry::from_unix_s(NOW.unix_s + 1_000);
        bench.set("k", b"v", Expiry::from_unix_s(NOW.unix_s + 10));
        let cas = cas_of(bench, b"k");
        pause(bench);
        let touched = bench.run(b"k", Action::Touch { expiry: late }, b"");
        assert!(matches!(touched, Outcome::Touched { cas: c } if c == cas), "{touched:?}");
        pause(bench);
        let later = Expiry::from_unix_s(NOW.unix_s + 2_000);
        let Outcome::Hit(hit) = bench.run(b"k", Action::GetAndTouch { expiry: later }, b"") else {
            panic!()
        };
        assert_eq!((hit.expiry, hit.cas, hit.value.to_vec()), (later, cas, b"v".to_vec()));
        pause(bench);
        bench.now.unix_s += 1_500;
        assert!(bench.get("k").is_some());
        let exists = bench.run(b"k", Action::Delete { cas: cas + 1 }, b"");
        assert!(matches!(exists, Outcome::Exists));
        assert!(matches!(bench.run(b"k", Action::Delete { cas }, b""), Outcome::Deleted));
        assert!(matches!(bench.run(b"k", Action::Delete { cas }, b""), Outcome::Miss));
        let miss = bench.run(b"k", Action::Touch { expiry: late }, b"");
        assert!(matches!(miss, Outcome::Miss));
        pause(bench);
        assert_eq!(bench.get("k"), None);
    });
}

#[test]
fn numbers_count_as_in_memcached() {
    both(|bench, pause| {
        let by = |decrement, delta, initial| {
            Action::Arithmetic(Arithmetic { decrement, delta, initial, cas: 0 })
        };
        assert!(matches!(bench.run(b"n", by(false, 1, None), b""), Outcome::Miss));
        let made = bench.run(b"n", by(false, 1, Some((10, Expiry::NEVER))), b"");
        assert!(matches!(made, Outcome::Number { value: 10, .. }), "{made:?}");
        pause(bench);
        let down = bench.run(b"n", by(true, 1, None), b"");
        assert!(matches!(down, Outcome::Number { value: 9, .. }), "{down:?}");
        pause(bench);
        assert_eq!(bench.get("n"), Some(b"9 ".to_vec()), "as long as before");
        bench.set("word", b"x1", Expiry::NEVER);
        pause(bench);
        assert!(matches!(bench.run(b"word", by(false, 1, None), b""), Outcome::NonNumeric));
    });
}

#[test]
fn a_set_that_is_refused_removes_what_was_there() {
    both(|bench, pause| {
        bench.set("k", b"v", Expiry::NEVER);
        bench.set("other", b"v", Expiry::NEVER);
        bench.set("third", b"v", Expiry::NEVER);
        pause(bench);
        let value = vec![1; 50_000];
        let outcome = bench.store(b"k", &value, store_of(StoreMode::Set, 0));
        assert!(matches!(outcome, Outcome::TooLarge));
        assert!(matches!(bench.run(b"other", Action::StoreTooLarge, b""), Outcome::TooLarge));
        assert!(matches!(bench.run(b"third", Action::StoreNoRoom, b""), Outcome::OutOfMemory));
        pause(bench);
        assert_eq!((bench.get("k"), bench.get("other"), bench.get("third")), (None, None, None));
    });
}

#[test]
fn long_values_lie_in_one_piece_whatever_surrounds_them() {
    both(|bench, pause| {
        let mut lengths: Vec<usize> = vec![1, 3_900, 4_050, 4_096, 8_192, 20_000, 39_000];
        lengths.extend([64, 39_500, 12_345]);
        for (i, &len) in lengths.iter().enumerate() {
            let value: Vec<u8> = (0..len).map(|j| (i + j * 7) as u8).collect();
            bench.set(format!("key{i}"), &value, Expiry::NEVER);
        }
        pause(bench);
        for (i, &len) in lengths.iter().enumerate() {
            let value: Vec<u8> = (0..len).map(|j| (i + j * 7) as u8).collect();
            assert!(bench.get(format!("key{i}")) == Some(value), "{len}");
        }
        assert_eq!(bench.counter(Counter::SsdCorrupt), 0);
    });
}

#[test]
fn flush_all_holds_now_later_and_through_a_crash() {
    let mut bench = Bench::new();
    bench.set("old", b"v", Expiry::NEVER);
    let flushed = bench.run(b"", Action::FlushAll { at: Expiry::NEVER }, b"");
    assert!(matches!(flushed, Outcome::Flushed));
    assert_eq!(bench.get("old"), None);
    bench.set("new", b"v", Expiry::NEVER);
    assert!(bench.get("new").is_some());
    let at = Expiry::from_unix_s(NOW.unix_s + 50);
    bench.run(b"", Action::FlushAll { at }, b"");
    for cut in [Cut::Lost, Cut::Kept] {
        let image = bench.medium.image(cut);
        let mut again = Bench::with(image.clone(), options(), 3);
        assert_eq!(again.get("old"), None);
        again.set("more", b"v", Expiry::NEVER);
        again.now.unix_s += 49;
        assert!(again.get("new").is_some() && again.get("more").is_some());
        again.now.unix_s += 1;
        assert_eq!((again.get("new"), again.get("more")), (None, None));
        again.set("new", b"w", Expiry::NEVER);
        assert!(again.get("new").is_some());
        // The moment passes while nobody is there.
        let late = Now { unix_s: NOW.unix_s + 60, ..NOW };
        let mut late = Bench::try_with(image, options(), 3, late).expect("opens");
        assert_eq!(late.get("new"), None);
    }
}

#[test]
fn a_log_is_continued_only_as_it_was_made() {
    let mut bench = Bench::new();
    bench.set("k", b"v", Expiry::NEVER);
    bench.stop();
    let image = bench.medium.image(Cut::Lost);
    let asked = Options { workers: 2, ..options() };
    let error = Bench::try_with(image.clone(), asked, 1, NOW).err().expect("another geometry");
    assert!(error.to_string().contains("in 1 parts, one for each worker"), "{error}");
    assert!(error.is_of_request());
    let larger = [&image[..], &[0; SEGMENT_BYTES]].concat();
    let error = Bench::try_with(larger, options(), 1, NOW).err().expect("another size");
    assert!(matches!(error, OpenError::Size { .. }) && error.is_of_request(), "{error}");
    let asked = Options { hash_key: Some([1, 2]), ..options() };
    let error = Bench::try_with(image.clone(), asked, 1, NOW).err().expect("other parts");
    assert!(matches!(error, OpenError::OtherParts) && !error.is_of_request(), "{error}");
    let afresh = Options { workers: 2, format: true, ..options() };
    let mut fresh = Bench::with(image.clone(), afresh, 1);
    assert_eq!(fresh.get("k"), None);
    let mut foreign = image.clone();
    foreign[..8192].fill(0x55);
    let error = Bench::try_with(foreign, options(), 1, NOW).err().expect("something else");
    assert!(matches!(error, OpenError::Foreign) && !error.is_of_request(), "{error}");
    let error = Bench::try_with(vec![0; 100_000], options(), 1, NOW).err().expect("too small");
    assert!(matches!(error, OpenError::TooSmall { .. }) && error.is_of_request(), "{error}");
    assert_eq!(Bench::with(image, options(), 1).get("k"), Some(b"v".to_vec()));
}

#[test]
fn the_second_touch_admits_and_the_first_leaves_nothing() {
    let options = Options { admit: Admit::SecondTouch, ..options() };
    let image = vec![0; part_bytes(SEGMENTS, SEGMENT_BYTES)];
    let mut bench = Bench::with(image, options, 1);
    bench.set("k", b"1", Expiry::NEVER);
    assert_eq!(bench.get("k"), None);
    bench.set("k", b"2", Expiry::NEVER);
    assert_eq!(bench.get("k"), Some(b"2".to_vec()));
    assert_eq!(bench.counter(Counter::SsdNotAdmitted), 1);
}

#[test]
fn check_says_what_a_log_holds() {
    let mut bench = Bench::new();
    for i in 0..100 {
        bench.set(format!("key{i}"), &[1; 500], Expiry::NEVER);
    }
    (0..10).for_each(|i| assert!(bench.delete(format!("key{i}"))));
    bench.set("short", b"v", Expiry::from_unix_s(NOW.unix_s + 5));
    bench.stop();
    let mut disk = SimDisk::from_image(bench.medium.image(Cut::Lost), pool(), 1);
    let late = Now { unix_s: NOW.unix_s + 10, ..NOW };
    let report = check(&mut disk, None, late).expect("a log").expect("a log");
    assert_eq!((report.items, report.tombstones, report.dead), (90, 10, 10));
    assert_eq!((report.expired, report.records, report.cut_off), (1, 111, 0));
    assert!(report.segments_damaged.is_empty() && !report.is_lost);
    let mut disk = SimDisk::new(part_bytes(SEGMENTS, SEGMENT_BYTES), pool(), 1);
    assert!(check(&mut disk, None, NOW).expect("nothing").is_none());
}

#[test]
fn what_is_set_after_a_crash_in_a_flush_all_is_there() {
    for sets in 60..120_u64 {
        let mut bench = Bench::with(
            vec![0; part_bytes(SEGMENTS, SEGMENT_BYTES)],
            Options { flush_ms: 1, ..options() },
            sets,
        );
        bench.medium.set_done_per_turn(1);
        for i in 0..sets {
            bench.set(format!("key{}", i % 40), &[i as u8; 700], Expiry::NEVER);
            bench.turn();
        }
        let (ssd, now) = (Rc::clone(&bench.ssd), bench.now);
        let mut flush = pin!(async move { ssd.flush_all(Expiry::NEVER, now).await });
        let mut context = Context::from_waker(Waker::noop());
        let mut turn = 0;
        while flush.as_mut().poll(&mut context).is_pending() {
            let options = Options { stats: Arc::default(), ..options() };
            let mut again = Bench::with(bench.medium.image(Cut::Kept), options, 5);
            again.set("after", b"v", Expiry::NEVER);
            let found = again.get("after");
            assert_eq!(found, Some(b"v".to_vec()), "{sets} sets, {turn} turns after the flush");
            bench.turn();
            turn += 1;
        }
        assert!((4..50).contains(&turn), "it is answered after {turn} turns");
    }
}
