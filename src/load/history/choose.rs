//! What a connection asks next, drawn from its seed.
//!
//! All commands in a mixture that keeps most keys filled most of the time, so that there is much to
//! be wrong about, and often deletes, replaces and expires.

use super::operation::{Command, Operation, expiring, lasting};
use super::plan::{Mix, Plan};
use super::record::{
    Part, RECORD_HEAD_BYTES, Seen, base_number, base_record, flags_of, push_record,
};
use crate::base::random::mix;
use crate::load::wire::{Dialect, Verb};

/// One operation in this many is a flush_all.
const FLUSH_EVERY: u64 = 1500;

/// One set in this many is stored expired.
const EXPIRED_SET_EVERY: u64 = 30;

/// A value that was seen longer than this many of the longest records is set, not added to.
const RECORDS_GROWN: usize = 4;

/// A value that was seen longer than this, in bytes, is set, not added to.
const GROWN_BYTES: usize = 512 * 1024;

/// An exptime that no run lives to see, in seconds.
const LATER_S: i32 = 3600;

/// Weights of the commands on keys with values.
const VALUE_COMMANDS: &[(u64, Command)] = &[
    (28, lasting(Verb::Get)),
    (10, lasting(Verb::Gets)),
    (5, lasting(Verb::Gat)),
    (1, expiring(Verb::Gat)),
    (4, lasting(Verb::Gats)),
    (1, expiring(Verb::Gats)),
    (15, lasting(Verb::Set)),
    (6, lasting(Verb::Add)),
    (6, lasting(Verb::Replace)),
    (6, lasting(Verb::Append)),
    (5, lasting(Verb::Prepend)),
    (6, lasting(Verb::Delete)),
    (4, lasting(Verb::Touch)),
    (1, expiring(Verb::Touch)),
];

/// Those of Rend's blast, evenly; half the gets ask for several keys.
const BLAST_COMMANDS: &[(u64, Command)] = &[
    (2, lasting(Verb::Get)),
    (1, lasting(Verb::Gat)),
    (1, lasting(Verb::Set)),
    (1, lasting(Verb::Add)),
    (1, lasting(Verb::Replace)),
    (1, lasting(Verb::Append)),
    (1, lasting(Verb::Prepend)),
    (1, lasting(Verb::Delete)),
    (1, lasting(Verb::Touch)),
];

/// Those of Rend's setops, evenly.
const STORE_COMMANDS: &[(u64, Command)] = &[
    (1, lasting(Verb::Set)),
    (1, lasting(Verb::Add)),
    (1, lasting(Verb::Replace)),
    (1, lasting(Verb::Append)),
    (1, lasting(Verb::Prepend)),
];

/// Weights of the commands on keys with numbers.
const NUMBER_COMMANDS: &[(u64, Command)] = &[
    (15, lasting(Verb::Get)),
    (4, lasting(Verb::Gets)),
    (1, lasting(Verb::Gat)),
    (30, lasting(Verb::Incr)),
    (15, lasting(Verb::Decr)),
    (8, lasting(Verb::Set)),
    (10, lasting(Verb::Add)),
    (4, lasting(Verb::Replace)),
    (4, lasting(Verb::Delete)),
    (2, lasting(Verb::Touch)),
    (1, expiring(Verb::Touch)),
];

/// Numbers from a seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Of this seed.
    pub fn new(seed: u64) -> Random {
        Random(mix(seed))
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0)
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    /// Between the two, each magnitude as often as the next.
    fn length(&mut self, least: usize, most: usize) -> usize {
        let exact = (self.draw() >> 11) as f64 / (1_u64 << 53) as f64;
        let ratio = (most as f64 + 1.0) / least as f64;
        ((least as f64 * ratio.powf(exact)) as usize).clamp(least, most)
    }
}

/// What a gets told, for a cas.
#[derive(Clone, Debug)]
pub struct Token {
    /// Whose it is.
    pub key: usize,
    /// The item's unique number.
    pub unique: u64,
    /// The value that had it.
    pub seen: Seen,
}

/// Draws operations for one connection.
pub struct Chooser {
    random: Random,
    connection: u64,
    connections: u64,
    versions: u64,
    /// Whether an exptime below 0 is past.
    has_sign: bool,
    /// The last gets of this connection, until it is used or the connection ends.
    pub token: Option<Token>,
}

impl Chooser {
    /// For this connection of the plan.
    pub fn new(plan: &Plan, connection: usize, dialect: Dialect) -> Chooser {
        Chooser {
            random: Random::new(mix(plan.seed) ^ connection as u64),
            connection: connection as u64,
            connections: plan.connections as u64,
            versions: 0,
            has_sign: dialect != Dialect::Binary,
            token: None,
        }
    }

    /// The next operation. `grown`: bytes that each key was last seen with.
    pub fn next(&mut self, plan: &Plan, grown: &[usize]) -> Operation {
        if plan.mix == Mix::Everything && plan.has_flush && self.random.below(FLUSH_EVERY) == 0 {
            let mut flush = Operation::on(lasting(Verb::Flush), 0);
            flush.keys.clear();
            flush.exptime = 0;
            return flush;
        }
        if self.random.below(2) == 0
            && let Some(token) = self.token.take()
        {
            let mut cas = Operation::on(lasting(Verb::Cas), token.key);
            cas.unique = token.unique;
            cas.expected = (!plan.may_cas_repeat).then_some(token.seen);
            return self.filled(plan, cas);
        }
        let is_number = plan.number_keys() > 0 && self.random.below(6) == 0;
        let key = if is_number {
            plan.keys as u64 + self.random.below(plan.number_keys() as u64)
        } else {
            self.random.below(plan.keys as u64)
        };
        let command = self.command(plan.mix, is_number);
        let mut operation = Operation::on(command, key as usize);
        let limit = (RECORDS_GROWN * plan.value_bytes.1).min(GROWN_BYTES);
        if command.is_record_write() && grown[operation.keys[0]] > limit {
            operation = Operation::on(lasting(Verb::Set), key as usize);
        }
        if matches!(command.verb, Verb::Get | Verb::Gets) {
            self.add_keys(plan, &mut operation);
        }
        self.filled(plan, operation)
    }

    fn command(&mut self, mix: Mix, is_number: bool) -> Command {
        let table = match mix {
            Mix::Everything if is_number => NUMBER_COMMANDS,
            Mix::Everything => VALUE_COMMANDS,
            Mix::Blast => BLAST_COMMANDS,
            Mix::Stores => STORE_COMMANDS,
        };
        let mut at = self.random.below(table.iter().map(|(weight, _)| weight).sum());
        let mut drawn = table[0].1;
        for (weight, command) in table {
            if at < *weight {
                drawn = *command;
                break;
            }
            at -= weight;
        }
        let may_expire = mix == Mix::Everything && drawn == lasting(Verb::Set);
        if may_expire && self.random.below(EXPIRED_SET_EVERY) == 0 {
            return expiring(Verb::Set);
        }
        drawn
    }

    /// Makes some of the gets multi-gets, of keys of both kinds.
    fn add_keys(&mut self, plan: &Plan, operation: &mut Operation) {
        let every = if plan.mix == Mix::Blast { 2 } else { 4 };
        if self.random.below(every) > 0 {
            return;
        }
        let keys = (plan.keys + plan.number_keys()) as u64;
        let (least, most) = plan.multi_get;
        let wanted = least as u64 + self.random.below((most - least + 1) as u64);
        for _ in 1..wanted {
            let key = self.random.below(keys) as usize;
            if !operation.keys.contains(&key) {
                operation.keys.push(key);
            }
        }
    }

    /// Gives the operation its version, flags, exptime and value.
    fn filled(&mut self, plan: &Plan, mut operation: Operation) -> Operation {
        let command = operation.command;
        let key = operation.keys[0];
        if self.random.below(4) == 0 {
            match command.is_delete() {
                false => operation.exptime = LATER_S,
                true if self.has_sign => operation.exptime = -1,
                true => {}
            }
        }
        let (least, most) = plan.value_bytes;
        if command.is_record_write() {
            operation.version = self.next_version();
            let part = if command == lasting(Verb::Append) { Part::Append } else { Part::Prepend };
            let bytes = self.random.length(least, (most / 4).max(least));
            push_record(&mut operation.value, part, key, operation.version, bytes);
        } else if command.is_base_write() {
            operation.version = self.next_version();
            operation.flags = flags_of(key, operation.version);
            operation.value = if key >= plan.keys {
                base_number(operation.version).to_string().into_bytes()
            } else {
                let bytes = self.random.length(least.max(RECORD_HEAD_BYTES), most);
                base_record(key, operation.version, bytes)
            };
        }
        operation
    }

    /// Versions of one connection are its own: the remainder names it.
    fn next_version(&mut self) -> u64 {
        self.versions += 1;
        self.versions * self.connections + self.connection
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_repeats_and_every_command_comes() {
        let plan = Plan { connections: 2, keys: 4, ..Plan::default() };
        let (mut one, mut same) =
            (Chooser::new(&plan, 1, Dialect::Text), Chooser::new(&plan, 1, Dialect::Text));
        let grown = [0; 5];
        let mut commands = BTreeSet::new();
        let mut lengths = BTreeSet::new();
        for _ in 0..30_000 {
            let token = Token { key: 0, unique: 1, seen: Seen::default() };
            (one.token, same.token) = (Some(token.clone()), Some(token));
            one.token = one.token.filter(|_| one.versions.is_multiple_of(9));
            same.token = same.token.filter(|_| same.versions.is_multiple_of(9));
            let (drawn, again) = (one.next(&plan, &grown), same.next(&plan, &grown));
            assert_eq!(format!("{drawn:?}"), format!("{again:?}"));
            commands.insert(drawn.command);
            lengths.insert(drawn.value.len().ilog2_or_zero());
            assert!(drawn.version == 0 || drawn.version % 2 == 1, "{}", drawn.version);
        }
        let all = VALUE_COMMANDS.iter().chain(NUMBER_COMMANDS).map(|(_, command)| *command);
        let rare = [lasting(Verb::Cas), lasting(Verb::Flush), expiring(Verb::Set)];
        assert_eq!(commands, all.chain(rare).collect());
        assert!(lengths.len() >= 10, "{lengths:?}");
    }

    trait Magnitude {
        fn ilog2_or_zero(self) -> u32;
    }

    impl Magnitude for usize {
        fn ilog2_or_zero(self) -> u32 {
            self.checked_ilog2().unwrap_or(0)
        }
    }
}
