//! Races between operations on two tiers, each by name, at many timings.

use super::sim::Fault;
use super::*;
use crate::base::limits::FLUSH_SKEW_S;

const PORTS: [PortRole; 2] = [PortRole::Main, PortRole::Batch];

fn later(seconds: u32) -> Expiry {
    Expiry::from_unix_s(START.unix_s + seconds)
}

/// Two tiers with delays, with `k` = `old` in both.
fn at_many_timings(mut race: impl FnMut(&Pair, PortRole, &str)) {
    for seed in 0..200 {
        for port in PORTS {
            let odds = Odds { delay_turns: 5, ..Odds::default() };
            let (pair, _) = pair(seed, odds, odds);
            pair.l1().put(b"k", b"old", Expiry::NEVER);
            pair.l2().put(b"k", b"old", Expiry::NEVER);
            race(&pair, port, &format!("seed {seed}, {port:?}"));
            assert_agreement(&pair, &format!("seed {seed}, {port:?}"));
            for key in pair.l1().keys() {
                assert!(pair.l2().item(&key).is_some(), "seed {seed}, {port:?}: only in L1");
            }
        }
    }
}

fn set(key: &[u8], value: &[u8], port: PortRole) -> Operation {
    operation(key, store(StoreMode::Set), value, port)
}

fn get(port: PortRole) -> Operation {
    operation(b"k", Action::Get, b"", port)
}

fn delete(port: PortRole) -> Operation {
    operation(b"k", Action::Delete { cas: 0 }, b"", port)
}

#[test]
fn race_1_sets_of_one_key_never_overlap_and_those_of_two_keys_do() {
    let mut is_mixed = false;
    for seed in 0..50 {
        let odds = Odds { delay_turns: 5, ..Odds::default() };
        let (one, log) = pair(seed, odds, odds);
        run(&one, vec![set(b"k", b"1", PortRole::Main), set(b"k", b"2", PortRole::Main)]);
        assert_eq!(*log.borrow(), ["L2 set", "L1 set", "L2 set", "L1 set"], "seed {seed}");
        assert_eq!(one.l1().item(b"k").expect("stored").value, b"2");
        let (two, log) = pair(seed, odds, odds);
        run(&two, vec![set(b"k", b"1", PortRole::Main), set(b"j", b"2", PortRole::Main)]);
        is_mixed |= *log.borrow() == ["L2 set", "L2 set", "L1 set", "L1 set"];
    }
    assert!(is_mixed);
}

#[test]
fn race_2_an_item_that_is_added_and_deleted_does_not_stay_in_l1() {
    at_many_timings(|pair, port, at| {
        let add = || operation(b"k", store(StoreMode::Add), b"new", port);
        let touch = Action::GetAndTouch { expiry: later(9) };
        let gat = operation(b"k", touch, b"", PortRole::Main);
        let rest =
            [get(PortRole::Main), add(), delete(port), get(PortRole::Main), gat, delete(port)];
        let mut operations = vec![delete(port), add(), delete(port)];
        operations.extend(rest);
        let outcomes = run(pair, operations);
        assert_eq!(words(outcomes.last().expect("nine")), "miss", "{at}");
        assert_eq!(pair.l1().item(b"k"), None, "{at}");
        assert_eq!(pair.l2().item(b"k"), None, "{at}");
    });
}

#[test]
fn race_3_replaces_and_sets_leave_the_same_item_in_both() {
    at_many_timings(|pair, port, at| {
        let replace = |value| operation(b"k", store(StoreMode::Replace), value, port);
        run(pair, vec![replace(b"a"), replace(b"b"), set(b"k", b"c", port), replace(b"d")]);
        assert_eq!(pair.l1().item(b"k").expect("it was there").value, b"d", "{at}");
    });
}

#[test]
fn race_4_a_set_does_not_run_between_the_steps_of_an_append() {
    at_many_timings(|pair, port, at| {
        let append = operation(b"k", store(StoreMode::Append), b"+", port);
        let prepend = operation(b"k", store(StoreMode::Prepend), b"-", port);
        run(pair, vec![append, set(b"k", b"new", PortRole::Main), prepend]);
        assert_eq!(pair.l1().item(b"k").expect("it was there").value, b"-new", "{at}");
    });
}

#[test]
fn race_5_l1_does_not_outlive_l2_whichever_touch_is_last() {
    at_many_timings(|pair, port, at| {
        let touch = |s| operation(b"k", Action::Touch { expiry: later(s) }, b"", port);
        let gat = |s| operation(b"k", Action::GetAndTouch { expiry: later(s) }, b"", port);
        run(pair, vec![touch(1000), gat(10), touch(2000), touch(20), gat(30)]);
        assert_eq!(pair.l1().item(b"k").expect("it was there").expiry, later(30), "{at}");
    });
}

#[test]
fn race_6_a_delete_whose_answer_from_l2_is_lost_is_done_in_l1() {
    for fault in [Fault::Before, Fault::After] {
        at_many_timings(|pair, port, at| {
            pair.l2().script(&[fault]);
            assert_eq!(words(&run(pair, vec![delete(port)])[0]), "failed", "{at}");
            assert_eq!(pair.l1().item(b"k"), None, "{at}");
            let found = words(&run(pair, vec![get(port)])[0]);
            let is_kept = fault == Fault::Before;
            assert_eq!(found.starts_with("hit old"), is_kept, "{at}: {found}");
        });
    }
}

#[test]
fn race_7_a_set_that_l1_cannot_execute_leaves_nothing_stale_there() {
    at_many_timings(|pair, port, at| {
        // L1 is unreachable before the set, or from the middle of it on.
        pair.l1().lose(2);
        let outcomes = run(pair, vec![set(b"k", b"new", port), get(port), get(PortRole::Main)]);
        assert!(words(&outcomes[0]).starts_with("stored"), "{at}");
        assert!(words(&outcomes[1]).starts_with("hit new"), "{at}");
        assert!(words(&outcomes[2]).starts_with("hit new"), "{at}");
        let in_l1 = pair.l1().item(b"k");
        assert!(in_l1.is_none_or(|item| item.value == b"new"), "{at}");
    });
    at_many_timings(|pair, port, at| {
        pair.l1().script(&[Fault::After]);
        let outcomes = run(pair, vec![set(b"k", b"new", port), get(port)]);
        assert!(words(&outcomes[0]).starts_with("stored L2"), "{at}");
        assert_eq!(pair.l1().item(b"k"), None, "{at}: invalidated before L1 serves again");
        assert!(words(&outcomes[1]).starts_with("hit new"), "{at}");
    });
}

#[test]
fn race_8_a_write_that_fails_in_l1_is_undone_and_the_next_remains() {
    for fault in [Fault::Before, Fault::After, Fault::OutOfMemory] {
        at_many_timings(|pair, port, at| {
            pair.l1().script(&[fault]);
            run(pair, vec![set(b"k", b"one", port)]);
            assert_eq!(pair.l1().item(b"k"), None, "{at}");
            run(pair, vec![set(b"k", b"two", PortRole::Main), get(port)]);
            assert_eq!(pair.l1().item(b"k").expect("L1 is well").value, b"two", "{at}");
        });
    }
}

#[test]
fn operations_that_overlap_a_flush_do_not_restore_flushed_items() {
    let touch = Action::GetAndTouch { expiry: later(9) };
    let actions = [Action::Get, touch, store(StoreMode::Set), store(StoreMode::Append), incr(1)];
    for action in actions {
        at_many_timings(|pair, port, at| {
            pair.l1().evict(b"k");
            let flush = operation(b"", Action::FlushAll { at: Expiry::NEVER }, b"", port);
            run(pair, vec![operation(b"k", action, b"1", port), flush]);
            let is_in_l2 = pair.l2().item(b"k").is_some();
            assert!(is_in_l2 || pair.l1().item(b"k").is_none(), "{action:?} {at}");
        });
    }
}

#[test]
fn a_get_between_delayed_flushes_of_two_tiers_does_not_restore_items() {
    for behind_s in 0..=FLUSH_SKEW_S {
        for is_l1_behind in [false, true] {
            let (pair, _) = pair(1, Odds::default(), Odds::default());
            let behind = if is_l1_behind { pair.l1() } else { pair.l2() };
            behind.set_odds(Odds { behind_s, ..Odds::default() });
            pair.l2().put(b"k", b"old", Expiry::NEVER);
            run(
                &pair,
                vec![operation(b"", Action::FlushAll { at: later(10) }, b"", PortRole::Main)],
            );
            let mut last = String::new();
            for second in 0..20 {
                let now = Now { unix_s: START.unix_s + second, ..START };
                last = words(&run_at(&pair, vec![get(PortRole::Main)], now)[0]);
                if second < 10 {
                    assert!(last.starts_with("hit old"), "second {second}: {last}");
                }
            }
            assert_eq!(last, "miss", "{behind_s} s behind");
            // And from then on L1 is filled again.
            let now = Now { unix_s: START.unix_s + 20, ..START };
            run_at(&pair, vec![set(b"k", b"new", PortRole::Main)], now);
            assert!(pair.l1().item(b"k").is_some());
        }
    }
}
