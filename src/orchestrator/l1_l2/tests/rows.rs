//! Every row of the ports' tables: which tier is asked what in which order, and the answer to the
//! client.

use super::sim::Fault::{self, After, Before, None as Fine, OutOfMemory};
use super::*;
use crate::base::stats::Counter;

/// Which tiers have the item `k` = `5` before the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Had {
    Both,
    L1,
    L2,
    None,
}

const BOTH: &[PortRole] = &[PortRole::Main, PortRole::Batch];
const MAIN: &[PortRole] = &[PortRole::Main];
const BATCH: &[PortRole] = &[PortRole::Batch];

/// One operation: the ports, the items before, the faults of L1 and L2; the client's answer, the
/// requests to the tiers, and L1's item afterwards.
type Row<'a> = (&'a [PortRole], Had, &'a [Fault], &'a [Fault], &'a str, &'a str, Option<&'a str>);

fn later() -> Expiry {
    Expiry::from_unix_s(START.unix_s + 100)
}

fn set_up(had: Had) -> (Pair, Log) {
    let (pair, log) = pair(1, Odds::default(), Odds::default());
    // So that the tiers' numbers for cas differ.
    pair.l2().put(b"other", b"x", Expiry::NEVER);
    if matches!(had, Had::Both | Had::L1) {
        pair.l1().put(b"k", b"5", Expiry::NEVER);
    }
    if matches!(had, Had::Both | Had::L2) {
        pair.l2().put(b"k", b"5", Expiry::NEVER);
    }
    (pair, log)
}

fn value_in_l1(pair: &Pair) -> Option<String> {
    pair.l1().item(b"k").map(|item| String::from_utf8_lossy(&item.value).into_owned())
}

fn check(action: Action, value: &[u8], rows: &[Row]) {
    for &(ports, had, in_l1, in_l2, answer, calls, left) in rows {
        for &port in ports {
            let at = format!("{action:?} {port:?} {had:?} {in_l1:?} {in_l2:?}");
            let (pair, log) = set_up(had);
            pair.l1().script(in_l1);
            pair.l2().script(in_l2);
            assert_eq!(run_one(&pair, b"k", action, value, port), answer, "{at}");
            assert_eq!(log.borrow().join(", "), calls, "{at}");
            assert_eq!(value_in_l1(&pair).as_deref(), left, "{at}");
            assert_agreement(&pair, &at);
        }
    }
}

#[test]
fn set_goes_to_l2_first_and_l1_never_keeps_the_old_item() {
    use Had::{Both, L1, L2, None as Nothing};
    let refused = "L2 set, L1 invalidate";
    let main = "L2 set, L1 set";
    let batch = "L2 set, L1 replace";
    check(
        store(StoreMode::Set),
        b"new",
        &[
            (MAIN, Nothing, &[], &[], "stored L1", main, Some("new")),
            (MAIN, Both, &[], &[], "stored L1", main, Some("new")),
            (MAIN, L1, &[], &[], "stored L1", main, Some("new")),
            (BATCH, Nothing, &[], &[], "stored L2", batch, None),
            (BATCH, L2, &[], &[], "stored L2", batch, None),
            (BATCH, Both, &[], &[], "stored L1", batch, Some("new")),
            (BATCH, L1, &[], &[], "stored L1", batch, Some("new")),
            (BOTH, Both, &[], &[Before], "failed", refused, None),
            (BOTH, Both, &[], &[After], "failed", refused, None),
            (BOTH, Both, &[], &[OutOfMemory], "out of memory", refused, None),
            (MAIN, Both, &[Before], &[], "stored L2", "L2 set, L1 set, L1 invalidate", None),
            (MAIN, Both, &[After], &[], "stored L2", "L2 set, L1 set, L1 invalidate", None),
            (MAIN, Both, &[OutOfMemory], &[], "stored L2", "L2 set, L1 set, L1 invalidate", None),
            (BATCH, Both, &[Before], &[], "stored L2", "L2 set, L1 replace, L1 invalidate", None),
            (BATCH, Both, &[After], &[], "stored L2", "L2 set, L1 replace, L1 invalidate", None),
            (
                BATCH,
                Both,
                &[OutOfMemory],
                &[],
                "stored L2",
                "L2 set, L1 replace, L1 invalidate",
                None,
            ),
        ],
    );
}

#[test]
fn add_is_decided_by_l2_and_corrects_l1() {
    use Had::{Both, L1, None as Nothing};
    let refused = "L2 add, L1 invalidate";
    check(
        store(StoreMode::Add),
        b"new",
        &[
            (MAIN, Nothing, &[], &[], "stored L1", "L2 add, L1 set", Some("new")),
            (MAIN, L1, &[], &[], "stored L1", "L2 add, L1 set", Some("new")),
            (BATCH, Nothing, &[], &[], "stored L2", "L2 add, L1 replace", None),
            (BATCH, L1, &[], &[], "stored L1", "L2 add, L1 replace", Some("new")),
            (BOTH, Both, &[], &[], "not stored", "L2 add", Some("5")),
            (BOTH, L1, &[], &[After], "failed", refused, None),
            (BOTH, L1, &[], &[OutOfMemory], "out of memory", refused, None),
            (MAIN, L1, &[Before], &[], "stored L2", "L2 add, L1 set, L1 invalidate", None),
            (BATCH, L1, &[After], &[], "stored L2", "L2 add, L1 replace, L1 invalidate", None),
        ],
    );
}

#[test]
fn replace_leaves_nothing_in_l1_that_l2_does_not_have() {
    use Had::{Both, L1, L2, None as Nothing};
    let refused = "L2 replace, L1 invalidate";
    let undone = "L2 replace, L1 replace, L1 invalidate";
    check(
        store(StoreMode::Replace),
        b"new",
        &[
            (BOTH, Both, &[], &[], "stored L1", "L2 replace, L1 replace", Some("new")),
            (BOTH, L2, &[], &[], "stored L2", "L2 replace, L1 replace", None),
            (BOTH, L1, &[], &[], "not stored", refused, None),
            (BOTH, Nothing, &[], &[], "not stored", refused, None),
            (BOTH, Both, &[], &[Before], "failed", refused, None),
            (BOTH, Both, &[], &[After], "failed", refused, None),
            (BOTH, Both, &[Before], &[], "stored L2", undone, None),
            (BOTH, Both, &[After], &[], "stored L2", undone, None),
            (BOTH, Both, &[OutOfMemory], &[], "stored L2", undone, None),
        ],
    );
}

#[test]
fn append_and_prepend_change_l1_only_as_l2_did() {
    use Had::{Both, L1, L2};
    for (mode, name, longer) in
        [(StoreMode::Append, "append", "56"), (StoreMode::Prepend, "prepend", "65")]
    {
        let done = format!("L2 {name}, L1 {name}");
        let refused = format!("L2 {name}, L1 invalidate");
        let undone = format!("L2 {name}, L1 {name}, L1 invalidate");
        check(
            store(mode),
            b"6",
            &[
                (BOTH, Both, &[], &[], "stored L1", &done, Some(longer)),
                // "Not stored" may mean that there is no room for a longer one.
                (BOTH, L2, &[], &[], "stored L2", &undone, None),
                (BOTH, Both, &[OutOfMemory], &[], "stored L2", &undone, None),
                (BOTH, Both, &[Before], &[], "stored L2", &undone, None),
                (BOTH, Both, &[After], &[], "stored L2", &undone, None),
                (BOTH, L1, &[], &[], "not stored", &refused, None),
                (BOTH, Both, &[], &[Before], "failed", &refused, None),
                (BOTH, Both, &[], &[After], "failed", &refused, None),
            ],
        );
    }
}

#[test]
fn delete_is_executed_in_l1_whatever_l2_has() {
    use Had::{Both, L1, L2, None as Nothing};
    let both = "L2 delete, L1 delete";
    let undone = "L2 delete, L1 delete, L1 invalidate";
    check(
        Action::Delete { cas: 0 },
        b"",
        &[
            (BOTH, Both, &[], &[], "deleted", both, None),
            (BOTH, L1, &[], &[], "deleted", both, None),
            (BOTH, L2, &[], &[], "deleted", both, None),
            (BOTH, Nothing, &[], &[], "miss", both, None),
            (BOTH, Both, &[Before], &[], "deleted", undone, None),
            (BOTH, Both, &[After], &[], "deleted", undone, None),
            (BOTH, Both, &[], &[Before], "failed", "L2 delete, L1 invalidate", None),
            (BOTH, Both, &[], &[After], "failed", "L2 delete, L1 invalidate", None),
        ],
    );
}

#[test]
fn a_set_that_is_refused_removes_the_item_from_both() {
    use Had::{Both, None as Nothing};
    let calls = "L2 delete, L1 invalidate";
    for (action, refused) in
        [(Action::StoreTooLarge, "too large"), (Action::StoreNoRoom, "out of memory")]
    {
        check(
            action,
            b"",
            &[
                (BOTH, Both, &[], &[], refused, calls, None),
                (BOTH, Nothing, &[], &[], refused, calls, None),
                (BOTH, Both, &[], &[Before], "failed", calls, None),
            ],
        );
    }
}

#[test]
fn touch_gives_both_the_same_expiry_or_invalidates_l1() {
    use Had::{Both, L1, L2};
    let both = "L2 touch, L1 touch";
    let undone = "L2 touch, L1 touch, L1 invalidate";
    let refused = "L2 touch, L1 invalidate";
    check(
        Action::Touch { expiry: later() },
        b"",
        &[
            (BOTH, Both, &[], &[], "touched L1", both, Some("5")),
            (BOTH, L2, &[], &[], "touched L2", both, None),
            (BOTH, L1, &[], &[], "miss", refused, None),
            (BOTH, Both, &[Before], &[], "touched L2", undone, None),
            (BOTH, Both, &[After], &[], "touched L2", undone, None),
            (BOTH, Both, &[], &[After], "failed", refused, None),
        ],
    );
}

#[test]
fn get_fills_l1_on_the_main_port_only() {
    use Had::{Both, L1, L2, None as Nothing};
    for (action, get, l2_get) in
        [(Action::Get, "get", "get"), (Action::GetWithExpiry, "gete", "gete")]
    {
        let near = format!("L1 {get}");
        let far = format!("L1 {get}, L2 gete");
        let filled = format!("L1 {get}, L2 gete, L1 set");
        let undone = format!("L1 {get}, L2 gete, L1 set, L1 invalidate");
        let batch = format!("L1 {get}, L2 {l2_get}");
        check(
            action,
            b"",
            &[
                (BOTH, Both, &[], &[], "hit 5 L1", &near, Some("5")),
                (BOTH, L1, &[], &[], "hit 5 L1", &near, Some("5")),
                (MAIN, L2, &[], &[], "hit 5 L1", &filled, Some("5")),
                (MAIN, L2, &[Fine, Before], &[], "hit 5 L2", &undone, None),
                (MAIN, L2, &[Fine, After], &[], "hit 5 L2", &undone, None),
                (MAIN, L2, &[Fine, OutOfMemory], &[], "hit 5 L2", &undone, None),
                // A failed get does not show what L1 has: the item stays.
                (MAIN, Both, &[Before], &[], "hit 5 L2", &far, Some("5")),
                (MAIN, Nothing, &[], &[], "miss", &far, None),
                (MAIN, L2, &[], &[Before], "failed", &far, None),
                (BATCH, L2, &[], &[], "hit 5 L2", &batch, None),
                (BATCH, Both, &[Before], &[], "hit 5 L2", &batch, Some("5")),
                (BATCH, Nothing, &[], &[], "miss", &batch, None),
                (BATCH, L2, &[], &[Before], "failed", &batch, None),
            ],
        );
    }
}

#[test]
fn a_fill_of_l1_keeps_flags_and_expiry() {
    let (pair, _) = set_up(Had::None);
    pair.l2().put(b"k", b"v", later());
    assert_eq!(run_one(&pair, b"k", Action::Get, b"", PortRole::Main), "hit v L1");
    let (in_l1, in_l2) = (pair.l1().item(b"k").unwrap(), pair.l2().item(b"k").unwrap());
    assert_eq!((in_l1.flags, in_l1.expiry), (7, later()));
    assert_eq!((in_l2.flags, in_l2.expiry), (7, later()));
}

#[test]
fn get_and_touch_asks_l1_first_on_the_main_port_and_l2_first_on_the_batch_port() {
    use Had::{Both, L1, L2, None as Nothing};
    let near = "L1 gat, L2 touch";
    let denied = "L1 gat, L2 touch, L1 invalidate";
    let filled = "L1 gat, L2 gat, L1 set";
    let unsure = "L1 gat, L2 gat, L1 invalidate";
    let batch = "L2 gat, L1 touch";
    let refused = "L2 gat, L1 invalidate";
    check(
        Action::GetAndTouch { expiry: later() },
        b"",
        &[
            (MAIN, Both, &[], &[], "hit 5 L1", near, Some("5")),
            (MAIN, L1, &[], &[], "miss", denied, None),
            (MAIN, Both, &[], &[After], "failed", denied, None),
            (MAIN, L2, &[], &[], "hit 5 L1", filled, Some("5")),
            (MAIN, Nothing, &[], &[], "miss", "L1 gat, L2 gat", None),
            (MAIN, L2, &[], &[Before], "failed", "L1 gat, L2 gat", None),
            (MAIN, Both, &[Before], &[], "hit 5 L2", unsure, None),
            (MAIN, Both, &[After], &[], "hit 5 L2", unsure, None),
            (MAIN, L1, &[After], &[], "miss", unsure, None),
            (BATCH, Both, &[], &[], "hit 5 L1", batch, Some("5")),
            (BATCH, L2, &[], &[], "hit 5 L2", batch, None),
            (BATCH, L1, &[], &[], "miss", refused, None),
            (BATCH, Both, &[], &[Before], "failed", refused, None),
            (BATCH, Both, &[After], &[], "hit 5 L2", "L2 gat, L1 touch, L1 invalidate", None),
        ],
    );
    for port in [PortRole::Main, PortRole::Batch] {
        let (pair, _) = set_up(Had::Both);
        run_one(&pair, b"k", Action::GetAndTouch { expiry: later() }, b"", port);
        assert_eq!(pair.l1().item(b"k").unwrap().expiry, later(), "{port:?}: not never");
        assert_eq!(pair.l2().item(b"k").unwrap().expiry, later(), "{port:?}");
    }
}

#[test]
fn an_item_that_only_l1_had_is_counted() {
    let (pair, _) = set_up(Had::L1);
    run_one(&pair, b"k", Action::GetAndTouch { expiry: later() }, b"", PortRole::Main);
    assert_eq!(pair.stats.get(Counter::InconsistencyDetected), 1);
    run_one(&pair, b"k", Action::GetAndTouch { expiry: later() }, b"", PortRole::Main);
    assert_eq!(pair.stats.get(Counter::InconsistencyDetected), 1);
}

#[test]
fn arithmetic_is_executed_in_l2_and_l1_follows_or_is_invalidated() {
    use Had::{Both, L1, L2, None as Nothing};
    let both = "L2 arithmetic, L1 arithmetic";
    let undone = "L2 arithmetic, L1 arithmetic, L1 invalidate";
    let refused = "L2 arithmetic, L1 invalidate";
    check(
        incr(3),
        b"",
        &[
            (BOTH, Both, &[], &[], "number 8 L1", both, Some("8")),
            (BOTH, L2, &[], &[], "number 8 L2", both, None),
            (BOTH, L1, &[], &[], "miss", refused, None),
            (BOTH, Both, &[Before], &[], "number 8 L2", undone, None),
            (BOTH, Both, &[OutOfMemory], &[], "number 8 L2", undone, None),
            (BOTH, Both, &[], &[After], "failed", refused, None),
        ],
    );
    let initial = Some((9, later()));
    let counter = Arithmetic { decrement: false, delta: 4, initial, cas: 0 };
    // If L1 counted to the same number it would have another expiry, so it is read from L2.
    let read_back = "L2 arithmetic, L1 invalidate, L1 get, L2 gete, L1 set";
    for had in [Nothing, L1, Both] {
        let main = (MAIN, had, &[][..], &[][..], "number 9 L1", read_back, Some("9"));
        let batch = (BATCH, had, &[][..], &[][..], "number 9 L2", refused, None);
        check(Action::Arithmetic(counter), b"", &[main, batch]);
    }
    let (pair, _) = set_up(Had::None);
    pair.l1().put(b"k", b"7", Expiry::NEVER);
    pair.l2().put(b"k", b"5", Expiry::NEVER);
    assert_eq!(run_one(&pair, b"k", incr(1), b"", PortRole::Main), "number 6 L2");
    assert_eq!(value_in_l1(&pair), None, "it had another number");
    let (pair, log) = set_up(Had::None);
    pair.l1().put(b"k", b"x", Expiry::NEVER);
    pair.l2().put(b"k", b"x", Expiry::NEVER);
    assert_eq!(run_one(&pair, b"k", incr(1), b"", PortRole::Main), "non-numeric");
    assert_eq!(*log.borrow(), ["L2 arithmetic"]);
}

#[test]
fn flush_all_flushes_both_tiers_and_fails_if_one_fails() {
    for at in [Expiry::NEVER, later()] {
        for (in_l1, in_l2, answer) in [
            (Fine, Fine, "flushed"),
            (Before, Fine, "failed"),
            (Fine, Before, "failed"),
            (Fine, After, "failed"),
        ] {
            let (pair, log) = set_up(Had::Both);
            pair.l1().script(&[in_l1]);
            pair.l2().script(&[in_l2]);
            let told = run_one(&pair, b"", Action::FlushAll { at }, b"", PortRole::Main);
            assert_eq!(told, answer, "{in_l1:?} {in_l2:?}");
            assert_eq!(log.borrow().join(", "), "L2 flush, L1 flush");
        }
    }
}

/// The cas that a client gets for `k`.
fn cas_of(pair: &Pair, port: PortRole) -> u64 {
    match &run(pair, vec![operation(b"k", Action::Get, b"", port)])[0] {
        Outcome::Hit(hit) => hit.cas,
        outcome => panic!("{outcome:?}"),
    }
}

fn with_cas(cas: u64) -> [(Action, &'static str); 4] {
    let store = |mode| Action::Store(Store { mode, flags: 7, expiry: Expiry::NEVER, cas });
    let arithmetic = Arithmetic { decrement: false, delta: 1, initial: None, cas };
    [
        (store(StoreMode::Set), "stored"),
        (store(StoreMode::Append), "stored"),
        (Action::Arithmetic(arithmetic), "number 6"),
        (Action::Delete { cas }, "deleted"),
    ]
}

#[test]
fn a_cas_of_either_tier_is_a_condition_that_holds_once() {
    for (had, whose) in [(Had::Both, "L1"), (Had::L2, "L2")] {
        for port in [PortRole::Main, PortRole::Batch] {
            for choice in 0..4 {
                let (pair, _) = set_up(had);
                let cas = cas_of(&pair, PortRole::Batch);
                assert_eq!(cas & OF_L2 == 0, whose == "L1");
                let (action, done) = with_cas(cas)[choice];
                let told = run_one(&pair, b"k", action, b"1", port);
                assert!(told.starts_with(done), "{had:?} {port:?} {action:?}: {told}");
                assert_agreement(&pair, "after a cas");
                // Any change gives it another cas.
                let told = run_one(&pair, b"k", action, b"1", port);
                let is_gone = matches!(action, Action::Delete { .. });
                assert_eq!(told, if is_gone { "miss" } else { "exists" }, "{action:?}");
            }
        }
    }
}

#[test]
fn a_cas_of_l1_never_holds_after_l1_has_lost_the_item() {
    for choice in 0..4 {
        let (pair, _) = set_up(Had::Both);
        let cas = cas_of(&pair, PortRole::Main);
        pair.l1().evict(b"k");
        let (action, _) = with_cas(cas)[choice];
        assert_eq!(run_one(&pair, b"k", action, b"1", PortRole::Main), "exists");
        // L1 fails, and L2 has the item or not.
        pair.l1().script(&[Before]);
        assert_eq!(run_one(&pair, b"k", action, b"1", PortRole::Main), "exists");
        pair.l2().evict(b"k");
        let none = if choice == 1 { "not stored" } else { "miss" };
        assert_eq!(run_one(&pair, b"k", action, b"1", PortRole::Main), none);
        pair.l1().put(b"k", b"5", Expiry::NEVER);
        pair.l1().script(&[Before]);
        assert_eq!(run_one(&pair, b"k", action, b"1", PortRole::Main), none);
        assert_eq!(value_in_l1(&pair), None, "the client was told that there is none");
        pair.l2().script(&[Before]);
        assert_eq!(run_one(&pair, b"k", action, b"1", PortRole::Main), "failed");
    }
}

#[test]
fn a_condition_on_an_item_that_l2_lost_is_not_met() {
    for (had, lost) in [(Had::Both, "L1's number"), (Had::L2, "L2's number")] {
        for choice in 0..3 {
            let (pair, _) = set_up(had);
            let cas = cas_of(&pair, PortRole::Batch);
            pair.l2().evict(b"k");
            let (action, _) = with_cas(cas)[choice];
            let told = run_one(&pair, b"k", action, b"1", PortRole::Main);
            assert_eq!(told, if choice == 1 { "not stored" } else { "miss" }, "{lost}");
            assert_eq!(value_in_l1(&pair), None, "{lost}");
        }
    }
}

#[test]
fn a_cas_is_never_taken_for_the_other_tier_s_or_for_none() {
    let (pair, _) = set_up(Had::Both);
    let in_l1 = pair.l1().item(b"k").unwrap().cas;
    let in_l2 = pair.l2().item(b"k").unwrap().cas;
    assert_ne!(in_l1, in_l2);
    for cas in [in_l2, in_l1 | OF_L2, OF_L2, u64::MAX] {
        for (action, _) in with_cas(cas) {
            assert_eq!(run_one(&pair, b"k", action, b"1", PortRole::Main), "exists", "{cas:#x}");
            assert_agreement(&pair, "nothing was done");
        }
    }
    pair.l2().evict(b"k");
    pair.l1().evict(b"k");
    assert_eq!(run_one(&pair, b"k", with_cas(OF_L2)[0].0, b"1", PortRole::Main), "miss");
    let initial = Some((3, Expiry::NEVER));
    for cas in [in_l1, in_l2 | OF_L2] {
        let counter = Arithmetic { decrement: false, delta: 1, initial, cas };
        let told = run_one(&pair, b"k", Action::Arithmetic(counter), b"", PortRole::Main);
        assert_eq!(told, "number 3 L1", "memcached creates one whatever the condition");
        run_one(&pair, b"k", Action::Delete { cas: 0 }, b"", PortRole::Main);
    }
}

#[test]
fn an_item_that_has_expired_in_l2_is_a_miss() {
    for port in [PortRole::Main, PortRole::Batch] {
        // A tier whose clock is behind still has it.
        let (pair, log) = set_up(Had::None);
        pair.l2().set_odds(Odds { behind_s: 1, ..Odds::default() });
        pair.l2().put(b"k", b"v", Expiry::from_unix_s(START.unix_s));
        assert_eq!(run_one(&pair, b"k", Action::GetWithExpiry, b"", port), "miss");
        assert_eq!(*log.borrow(), ["L1 gete", "L2 gete"]);
        assert!(pair.l2().item(b"k").is_some());
    }
}
