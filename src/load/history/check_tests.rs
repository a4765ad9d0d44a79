//! Histories made by hand: those that a right server may give pass, each wrong one is flagged.

use super::*;
use crate::load::history::operation::{expiring, lasting};
use crate::load::history::record::{Part, base_number, base_record, push_record};

const KEY: usize = 0;
const NUMBER: usize = 2;
const GET: Command = lasting(Verb::Get);
const SET: Command = lasting(Verb::Set);
const TOUCH_PAST: Command = expiring(Verb::Touch);

/// A checker and the operations in flight, by connection.
struct Story {
    checker: Checker,
    asked: Vec<Option<Operation>>,
}

impl Story {
    fn new() -> Story {
        Story::with(true)
    }

    fn without_loss() -> Story {
        Story::with(false)
    }

    fn with(may_lose: bool) -> Story {
        let rules = Rules {
            value_keys: 2,
            number_keys: 1,
            connections: 8,
            names: Names::numbered(3),
            may_lose,
        };
        Story { checker: Checker::new(rules), asked: vec![None; 8] }
    }

    fn begin_on(&mut self, connection: usize, command: Command, key: usize, version: u64) {
        let mut operation = Operation::on(command, key);
        operation.version = version;
        self.checker.begin(connection, &operation);
        self.asked[connection] = Some(operation);
    }

    fn begin(&mut self, connection: usize, command: Command, version: u64) {
        self.begin_on(connection, command, KEY, version);
    }

    fn end(&mut self, connection: usize, outcome: Outcome<'_>) {
        let operation = self.asked[connection].take().expect("begun");
        self.checker.end(connection, &operation, &outcome);
    }

    /// One operation, begun and ended before the next.
    fn whole(&mut self, command: Command, version: u64, outcome: Outcome<'_>) {
        self.begin(0, command, version);
        self.end(0, outcome);
    }

    fn set(&mut self, version: u64) {
        self.whole(SET, version, Outcome::Stored);
    }

    fn end_get(&mut self, connection: usize, value: &[u8], flags: u32) {
        let hit = Hit { key: KEY, flags, value, unique: 0 };
        self.end(connection, Outcome::Values(vec![hit]));
    }

    fn end_seen(&mut self, connection: usize, base: u64, prepends: &[u64], appends: &[u64]) {
        let value = value(prepends, base, appends);
        self.end_get(connection, &value, flags_of(KEY, base));
    }

    /// A get that sees this.
    fn sees(&mut self, base: u64, prepends: &[u64], appends: &[u64]) {
        self.begin(7, GET, 0);
        self.end_seen(7, base, prepends, appends);
    }

    fn misses(&mut self) {
        self.whole(GET, 0, Outcome::Values(vec![]));
    }

    fn cas(&mut self, expected: Seen, version: u64) {
        self.begin(0, lasting(Verb::Cas), version);
        self.asked[0].as_mut().expect("begun").expected = Some(expected);
        self.end(0, Outcome::Stored);
    }

    fn count(&mut self, command: Command, base: u64, count: i64) {
        self.begin_on(0, command, NUMBER, 0);
        self.end(0, Outcome::Number(base_number(base).wrapping_add_signed(count)));
    }

    fn sees_number(&mut self, base: u64, count: i64) {
        self.begin_on(0, GET, NUMBER, 0);
        let text = base_number(base).wrapping_add_signed(count).to_string();
        let flags = flags_of(NUMBER, base);
        let hit = Hit { key: NUMBER, flags, value: text.as_bytes(), unique: 0 };
        self.end(0, Outcome::Values(vec![hit]));
    }

    #[track_caller]
    fn is_right(&self) {
        let whats: Vec<&String> = self.checker.violations.iter().map(|v| &v.what).collect();
        assert!(whats.is_empty(), "{whats:?}");
    }

    /// Just the last operation was wrong, and this was said of it.
    #[track_caller]
    fn is_wrong(&self, word: &str) {
        let whats: Vec<&String> = self.checker.violations.iter().map(|v| &v.what).collect();
        assert!(whats.len() == 1 && whats[0].contains(word), "{word}: {whats:?}");
        assert!(self.checker.violations[0].context.len() > 1);
    }
}

/// A value; the lists' first is the first that was added.
fn value(prepends: &[u64], base: u64, appends: &[u64]) -> Vec<u8> {
    let mut value = vec![];
    for &version in prepends.iter().rev() {
        push_record(&mut value, Part::Prepend, KEY, version, 40);
    }
    push_record(&mut value, Part::Base, KEY, base, 100);
    for &version in appends {
        push_record(&mut value, Part::Append, KEY, version, 40);
    }
    value
}

fn seen(base: u64) -> Seen {
    Seen { base, ..Seen::default() }
}

#[test]
fn one_after_another() {
    let mut story = Story::without_loss();
    story.misses();
    story.set(1);
    story.sees(1, &[], &[]);
    story.whole(lasting(Verb::Append), 2, Outcome::Stored);
    story.whole(lasting(Verb::Prepend), 3, Outcome::Stored);
    story.whole(lasting(Verb::Prepend), 4, Outcome::Stored);
    story.sees(1, &[3, 4], &[2]);
    story.whole(lasting(Verb::Add), 5, Outcome::NotStored);
    story.whole(lasting(Verb::Delete), 0, Outcome::Deleted);
    story.misses();
    story.whole(lasting(Verb::Replace), 6, Outcome::NotStored);
    story.whole(lasting(Verb::Append), 7, Outcome::NotStored);
    story.whole(lasting(Verb::Add), 8, Outcome::Stored);
    story.cas(seen(8), 9);
    story.whole(lasting(Verb::Cas), 10, Outcome::Exists);
    story.sees(9, &[], &[]);
    story.whole(TOUCH_PAST, 0, Outcome::Touched);
    story.whole(lasting(Verb::Delete), 0, Outcome::NotFound);
    story.whole(lasting(Verb::Cas), 11, Outcome::NotFound);
    story.is_right();
}

#[test]
fn whatever_is_simultaneous_may_come_in_any_order() {
    for first in [1, 2] {
        let mut story = Story::without_loss();
        story.begin(1, SET, 1);
        story.begin(2, SET, 2);
        story.begin(3, GET, 0);
        story.end_seen(3, first, &[], &[]);
        story.end(1, Outcome::Stored);
        story.end(2, Outcome::Stored);
        story.sees(3 - first, &[], &[]);
        story.is_right();
        // But it comes in one order only.
        story.sees(first, &[], &[]);
        story.is_wrong("");
    }
}

#[test]
fn a_read_may_see_what_was_replaced_since_it_began() {
    let mut story = Story::new();
    story.set(1);
    story.begin(3, GET, 0);
    story.set(2);
    story.sees(2, &[], &[]);
    story.end_seen(3, 1, &[], &[]);
    story.is_right();
}

#[test]
fn an_item_may_be_lost_unless_it_may_not() {
    let mut story = Story::new();
    story.set(1);
    story.misses();
    story.whole(lasting(Verb::Add), 2, Outcome::Stored);
    story.whole(lasting(Verb::Append), 3, Outcome::NotStored);
    story.is_right();
    for command in [GET, lasting(Verb::Delete), lasting(Verb::Append), lasting(Verb::Add)] {
        let mut story = Story::without_loss();
        story.set(1);
        story.begin(0, command, u64::from(command.is_base_write()) * 2);
        story.end(
            0,
            match command.verb {
                Verb::Get => Outcome::Values(vec![]),
                Verb::Delete => Outcome::NotFound,
                Verb::Append => Outcome::NotStored,
                _ => Outcome::Stored,
            },
        );
        story.is_wrong("lost");
    }
}

#[test]
fn what_is_lost_stays_lost() {
    let mut story = Story::without_loss();
    story.set(1);
    story.begin(1, lasting(Verb::Delete), 0);
    story.misses();
    story.sees(1, &[], &[]);
    story.is_wrong("came back");
}

#[test]
fn stale_after_an_acknowledged_write() {
    for command in [SET, lasting(Verb::Add), lasting(Verb::Replace), lasting(Verb::Cas)] {
        let mut story = Story::new();
        story.set(1);
        story.whole(command, 2, Outcome::Stored);
        story.sees(1, &[], &[]);
        story.is_wrong("stale: it was replaced by version 2");
    }
}

#[test]
fn stale_after_an_acknowledged_delete() {
    for command in [lasting(Verb::Delete), TOUCH_PAST, expiring(Verb::Set), lasting(Verb::Flush)] {
        let mut story = Story::new();
        story.set(1);
        story.begin(0, command, u64::from(command.is_base_write()) * 2);
        if command == lasting(Verb::Flush) {
            let flush = story.asked[0].as_mut().expect("begun");
            flush.keys.clear();
        }
        story.end(
            0,
            match command.verb {
                Verb::Delete => Outcome::Deleted,
                Verb::Touch => Outcome::Touched,
                Verb::Flush => Outcome::Ok,
                _ => Outcome::Stored,
            },
        );
        story.sees(1, &[], &[]);
        story.is_wrong("stale");
    }
}

#[test]
fn a_gat_that_expires_deletes() {
    let mut story = Story::new();
    story.set(1);
    story.begin(1, expiring(Verb::Gat), 0);
    story.end_seen(1, 1, &[], &[]);
    story.sees(1, &[], &[]);
    story.is_wrong("stale");
}

#[test]
fn present_after_an_acknowledged_delete() {
    for command in [lasting(Verb::Add), lasting(Verb::Append), lasting(Verb::Touch)] {
        let mut story = Story::new();
        story.set(1);
        story.whole(lasting(Verb::Delete), 0, Outcome::Deleted);
        story.begin(0, command, u64::from(command != lasting(Verb::Touch)) * 2);
        story.end(
            0,
            match command.verb {
                Verb::Add => Outcome::NotStored,
                Verb::Append => Outcome::Stored,
                _ => Outcome::Touched,
            },
        );
        story.is_wrong("something is there");
    }
}

#[test]
fn reads_do_not_go_back() {
    let mut story = Story::new();
    story.set(1);
    // Never acknowledged before it is read.
    story.begin(1, SET, 2);
    story.sees(2, &[], &[]);
    story.sees(1, &[], &[]);
    story.is_wrong("stale");
}

#[test]
fn two_values_in_turns() {
    let mut story = Story::new();
    story.begin(1, SET, 1);
    story.begin(2, SET, 2);
    story.sees(1, &[], &[]);
    story.begin(3, GET, 0);
    story.sees(2, &[], &[]);
    story.is_right();
    story.end_seen(3, 1, &[], &[]);
    story.is_right();
    story.sees(1, &[], &[]);
    story.is_wrong("");
}

#[test]
fn a_value_of_nobody() {
    let mut story = Story::new();
    story.set(1);
    story.sees(2, &[], &[]);
    story.is_wrong("never written");
}

#[test]
fn a_value_of_a_refused_write() {
    let mut story = Story::new();
    story.set(1);
    story.whole(lasting(Verb::Add), 2, Outcome::NotStored);
    story.sees(2, &[], &[]);
    story.is_wrong("refused");
    let mut story = Story::new();
    story.begin(1, lasting(Verb::Add), 2);
    story.sees(2, &[], &[]);
    story.end(1, Outcome::NotStored);
    story.is_wrong("refused");
    let mut story = Story::new();
    story.set(1);
    story.whole(lasting(Verb::Append), 2, Outcome::NotStored);
    story.sees(1, &[], &[2]);
    story.is_wrong("refused");
    let mut story = Story::new();
    story.whole(expiring(Verb::Set), 2, Outcome::Stored);
    story.sees(2, &[], &[]);
    story.is_wrong("expired");
}

#[test]
fn a_value_that_is_not_whole() {
    let whole = base_record(KEY, 1, 5000);
    let mixed = [&whole[..2500], &base_record(KEY, 2, 5000)[2500..]].concat();
    let mut zero_tailed = whole.clone();
    zero_tailed[4000..].fill(0);
    let foreign = base_record(1, 1, 5000);
    for value in [&whole[..4999], &mixed, &zero_tailed, &foreign, b""] {
        let mut story = Story::new();
        story.set(1);
        story.set(2);
        story.begin(1, GET, 0);
        story.end_get(1, value, flags_of(KEY, 2));
        story.is_wrong("");
    }
}

#[test]
fn wrong_flags() {
    let mut story = Story::new();
    story.set(1);
    story.begin(1, GET, 0);
    story.end_get(1, &value(&[], 1, &[]), 0);
    story.is_wrong("flags 0");
}

#[test]
fn an_answer_for_another_key_or_of_another_command() {
    let mut story = Story::new();
    story.begin_on(1, GET, 1, 0);
    story.end_get(1, &value(&[], 1, &[]), 0);
    story.is_wrong("not requested");
    let mut story = Story::new();
    story.whole(lasting(Verb::Delete), 0, Outcome::Stored);
    story.is_wrong("delete was answered STORED");
    let mut story = Story::new();
    story.whole(GET, 0, Outcome::Nonsense("what".into()));
    story.is_wrong("what");
}

#[test]
fn a_failed_write_may_come_until_a_later_one_is_acknowledged() {
    for outcome in [Outcome::Failed("busy".into()), Outcome::Closed, Outcome::TimedOut] {
        let is_over = !matches!(outcome, Outcome::TimedOut);
        let mut story = Story::new();
        story.set(1);
        story.whole(SET, 2, outcome);
        story.sees(1, &[], &[]);
        story.begin(1, SET, 3);
        story.sees(3, &[], &[]);
        story.sees(2, &[], &[]);
        story.end(1, Outcome::Stored);
        story.sees(2, &[], &[]);
        story.set(4);
        story.is_right();
        story.sees(2, &[], &[]);
        story.is_wrong("stale");
        // One that was never seen, after two acknowledged writes.
        let mut story = Story::new();
        story.whole(SET, 2, if is_over { Outcome::Closed } else { Outcome::TimedOut });
        story.set(3);
        story.set(4);
        story.sees(2, &[], &[]);
        if is_over { story.is_wrong("stale") } else { story.is_right() }
    }
}

#[test]
fn a_failed_delete_or_write_explains_an_absence() {
    for (command, version) in [(lasting(Verb::Delete), 0), (SET, 2), (lasting(Verb::Append), 2)] {
        let mut story = Story::without_loss();
        story.set(1);
        story.whole(command, version, Outcome::Closed);
        story.misses();
        story.is_right();
    }
}

#[test]
fn appends_stay_in_order_and_are_not_lost() {
    let appended = || {
        let mut story = Story::new();
        story.set(1);
        story.whole(lasting(Verb::Append), 2, Outcome::Stored);
        story.begin(1, lasting(Verb::Append), 3);
        story.begin(2, lasting(Verb::Append), 4);
        story
    };
    let mut story = appended();
    story.sees(1, &[], &[2]);
    story.sees(1, &[], &[2, 4]);
    story.sees(1, &[], &[2, 4, 3]);
    story.is_right();
    story.sees(1, &[], &[2, 4]);
    story.is_wrong("is lost");
    for (appends, word) in [
        (&[][..], "missing"),
        (&[3, 2], "came after it"),
        (&[2, 3, 3], "twice"),
        (&[2, 5], "never written"),
    ] {
        let mut story = appended();
        story.sees(1, &[], appends);
        story.is_wrong(word);
    }
    let mut story = appended();
    story.sees(1, &[], &[2, 3]);
    story.sees(1, &[], &[2, 4]);
    story.is_wrong("stood where");
    let mut story = appended();
    story.sees(1, &[3], &[2]);
    story.is_wrong("wrong end");
    let mut story = appended();
    story.sees(1, &[], &[2]);
    story.set(6);
    story.sees(6, &[], &[2]);
    story.is_wrong("");
    let mut story = appended();
    story.sees(1, &[], &[2, 3]);
    story.begin(4, SET, 6);
    story.sees(6, &[], &[3]);
    story.is_wrong("another base");
}

#[test]
fn a_cas_replaces_what_was_read() {
    let mut story = Story::new();
    story.set(1);
    story.set(2);
    story.cas(seen(1), 3);
    story.is_wrong("cas replaced what it cannot have found");
    let mut story = Story::new();
    story.set(1);
    story.whole(lasting(Verb::Append), 2, Outcome::Stored);
    story.cas(seen(1), 3);
    story.is_wrong("cas replaced what it cannot have found");
    // At the same time, where neither shows by itself.
    let mut story = Story::new();
    story.set(1);
    for connection in [1, 2] {
        story.begin(connection, lasting(Verb::Cas), 10 + connection as u64);
        story.asked[connection].as_mut().expect("begun").expected = Some(seen(1));
    }
    story.end(1, Outcome::Stored);
    story.is_right();
    story.end(2, Outcome::Stored);
    story.is_wrong("two cas");
}

#[test]
fn numbers_count_what_was_added() {
    let counted = || {
        let mut story = Story::without_loss();
        story.begin_on(0, SET, NUMBER, 1);
        story.end(0, Outcome::Stored);
        story.count(lasting(Verb::Incr), 1, 1);
        story.count(lasting(Verb::Incr), 1, 2);
        story.count(lasting(Verb::Decr), 1, 1);
        story.sees_number(1, 1);
        story
    };
    counted().is_right();
    let mut story = counted();
    story.count(lasting(Verb::Incr), 1, 1);
    story.is_wrong("counts +1");
    let mut story = counted();
    story.sees_number(1, 2);
    story.is_wrong("counts +2");
    // One in flight and one that failed may be in it or not.
    for count in [1, 2, 3] {
        let mut story = counted();
        story.begin_on(1, lasting(Verb::Incr), NUMBER, 0);
        story.begin_on(2, lasting(Verb::Incr), NUMBER, 0);
        story.end(2, Outcome::Closed);
        story.sees_number(1, count);
        story.is_right();
    }
    let mut story = counted();
    story.begin_on(0, SET, NUMBER, 2);
    story.end(0, Outcome::Stored);
    story.count(lasting(Verb::Incr), 1, 2);
    story.is_wrong("stale");
}

#[test]
fn long_histories_are_forgotten_and_stay_right() {
    let mut story = Story::without_loss();
    for round in 0..20_000 {
        let version = 1 + 3 * round;
        story.set(version);
        story.whole(lasting(Verb::Append), version + 1, Outcome::Stored);
        story.whole(SET, version + 2, Outcome::Failed("full".into()));
        story.begin(1, GET, 0);
        story.end_seen(1, version, &[], &[version + 1]);
    }
    story.is_right();
    story.sees(1, &[], &[2]);
    story.is_wrong("long ago");
}
