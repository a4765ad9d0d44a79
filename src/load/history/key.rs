//! What is known of one key, and what that forbids.
//!
//! Every write has a version of its own, so each version that was put in place (a *base*) is there
//! during one stretch of time. An operation takes effect at one moment between its begin and its
//! end. So a base came into being no later than the end of its write and than the end of any read
//! that saw it (`born_by`), and was there at least until the begin of the last read that saw it
//! (`seen_at`). Between these two it was there, and nothing else was. A read is wrong if
//!
//! - something that replaced or removed the item (`replaced`) began and ended between the two;
//! - two bases were there at once, by these two moments of each;
//! - a record that was appended or prepended for certain after the base is missing, or one is there
//!   that was refused, in another order than real time allows, or in an order seen otherwise;
//! - a number's count is not within what increments and decrements on its base allow.
//!
//! An item may be lost at any time, so its absence is only wrong on demand (`absent`). Its presence
//! is wrong after a delete that no possible write came behind (`present`).
//!
//! An operation that failed may take effect until the end of the first acknowledged write or delete
//! that began after the failure was known; one that timed out may for ever: its request may still
//! lie in some queue. Nothing is ever concluded from what was forgotten, except that a write
//! forgotten was replaced before anything still in flight began.

use super::operation::{Operation, expiring};
use super::record::Seen;
use super::staircase::{NEVER, STEPS_MAX, Staircase, Step, Tick};
use crate::load::wire::Verb;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// How much is remembered of each key. Less makes what is concluded weaker, never wrong.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// Writes of each kind that are remembered after they can take effect no more.
    writes: usize,
    /// Steps of each staircase.
    steps: usize,
    /// Events for the reader.
    pub events: usize,
}

impl Kept {
    /// The more keys, the less of each: some 200 MB at most of all together.
    pub fn of(keys: usize) -> Kept {
        let share = |all: usize, least, most| (all / keys.max(1)).clamp(least, most);
        Kept {
            writes: share(1 << 18, 16, 1024),
            steps: share(1 << 20, 64, STEPS_MAX),
            events: share(1 << 16, 8, 64),
        }
    }
}

/// Bases that are asked whether they were there at the same time as another.
const ZONES_KEPT: usize = 64;

/// Increments of one base that are remembered; beyond, its count is believed.
const COUNTS_KEPT: usize = 256;

/// Increments of unknown fate that are remembered; beyond, counts are believed.
const LOOSE_COUNTS_KEPT: usize = 4096;

/// How a write stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WriteState {
    /// Under way.
    Pending,
    /// It took effect before this moment.
    Acknowledged(Tick),
    /// It did not take effect.
    Refused,
    /// It failed at this moment: see the module. [`NEVER`]: it timed out.
    Failed(Tick),
}

/// A version that was put in place.
#[derive(Debug)]
struct Base {
    begin: Tick,
    state: WriteState,
    /// It was stored expired: no get may ever see it.
    is_expired: bool,
    born_by: Tick,
    seen_at: Tick,
    /// The longest lists of records seen with it.
    appends: Vec<u64>,
    prepends: Vec<u64>,
    /// The version whose cas replaced it.
    successor: Option<u64>,
    counts: Vec<Count>,
    has_forgotten_counts: bool,
}

/// A record that was appended or prepended.
#[derive(Debug)]
struct Record {
    version: u64,
    is_prepend: bool,
    state: WriteState,
    /// It was there before this moment, for a read saw it.
    seen_by: Tick,
    /// The base it was seen with.
    base: Option<u64>,
}

/// An increment of a known base; `end` is [`NEVER`] if it may not have happened.
#[derive(Clone, Copy, Debug)]
struct Count {
    begin: Tick,
    end: Tick,
    delta: i64,
    /// When it failed, if it did.
    failed: Option<Tick>,
}

/// What is known of one key.
#[derive(Debug)]
pub struct Key {
    kept: Kept,
    bases: HashMap<u64, Base>,
    /// Their versions in the order of their begins.
    base_order: VecDeque<u64>,
    /// By their begin.
    records: BTreeMap<Tick, Record>,
    record_begins: HashMap<u64, Tick>,
    /// Something new was there, or nothing, at some moment in each of these.
    replaced: Staircase,
    /// Acknowledged writes and deletes: those after which a failed operation has no effect.
    acknowledged: Staircase,
    /// Nothing was there.
    deleted: Staircase,
    /// Something was there.
    existed: Staircase,
    /// Nothing was there, as a read says: kept where nothing may be lost.
    missed: Staircase,
    /// Bases that were there between two known moments.
    zones: VecDeque<u64>,
    pending_writes: usize,
    pending_deletes: usize,
    pending_counts: Vec<Count>,
    /// Of unknown base and fate.
    loose_counts: VecDeque<Count>,
    has_forgotten_loose: bool,
    last_write_end: Tick,
    last_delete_end: Tick,
    /// When the last write failed, and the last operation that may have removed the item.
    write_failed: Option<Tick>,
    delete_failed: Option<Tick>,
}

impl Key {
    /// Nothing is known.
    pub fn new(kept: Kept) -> Key {
        let stairs = || Staircase::new(kept.steps);
        Key {
            kept,
            bases: HashMap::new(),
            base_order: VecDeque::new(),
            records: BTreeMap::new(),
            record_begins: HashMap::new(),
            replaced: stairs(),
            acknowledged: stairs(),
            deleted: stairs(),
            existed: stairs(),
            missed: stairs(),
            zones: VecDeque::new(),
            pending_writes: 0,
            pending_deletes: 0,
            pending_counts: vec![],
            loose_counts: VecDeque::new(),
            has_forgotten_loose: false,
            last_write_end: 0,
            last_delete_end: 0,
            write_failed: None,
            delete_failed: None,
        }
    }

    /// A base write, a record write, an increment or a delete begins.
    pub fn begin(&mut self, operation: &Operation, now: Tick) {
        let command = operation.command;
        if command.is_base_write() {
            self.pending_writes += 1;
            let base = Base {
                begin: now,
                state: WriteState::Pending,
                is_expired: command == expiring(Verb::Set),
                born_by: NEVER,
                seen_at: 0,
                appends: vec![],
                prepends: vec![],
                successor: None,
                counts: vec![],
                has_forgotten_counts: false,
            };
            self.bases.insert(operation.version, base);
            self.base_order.push_back(operation.version);
        }
        if command.is_record_write() {
            let record = Record {
                version: operation.version,
                is_prepend: command.verb == Verb::Prepend,
                state: WriteState::Pending,
                seen_by: NEVER,
                base: None,
            };
            self.records.insert(now, record);
            self.record_begins.insert(operation.version, now);
        }
        if command.is_delete() {
            self.pending_deletes += 1;
        }
        if command.count() != 0 {
            let delta = command.count();
            self.pending_counts.push(Count { begin: now, end: NEVER, delta, failed: None });
        }
    }

    /// The operation is no longer in flight. Call before recording its outcome.
    pub fn end(&mut self, operation: &Operation, begin: Tick) {
        let command = operation.command;
        self.pending_writes -= usize::from(command.is_base_write());
        self.pending_deletes -= usize::from(command.is_delete());
        if command.count() != 0 {
            self.pending_counts.retain(|count| count.begin != begin);
        }
    }

    /// Nobody knows what became of the operation. `moment`: of the failure, or [`NEVER`].
    pub fn fail(&mut self, operation: &Operation, begin: Tick, moment: Tick) {
        let command = operation.command;
        self.set_state(operation, WriteState::Failed(moment));
        let later = |before: Option<Tick>| Some(before.unwrap_or(0).max(moment));
        if command.is_base_write() {
            self.write_failed = later(self.write_failed);
        }
        // A write that fails may leave nothing behind: an old value is no longer true.
        if command.is_delete() || command.is_base_write() || command.is_record_write() {
            self.delete_failed = later(self.delete_failed);
        }
        let delta = command.count();
        if delta != 0 {
            self.delete_failed = later(self.delete_failed);
            let failed = Some(moment);
            self.loose_counts.push_back(Count { begin, end: NEVER, delta, failed });
            if self.loose_counts.len() > LOOSE_COUNTS_KEPT {
                self.loose_counts.pop_front();
                self.has_forgotten_loose = true;
            }
        }
    }

    /// The operation had no effect.
    ///
    /// # Errors
    /// What it wrote was seen.
    pub fn refuse(&mut self, operation: &Operation) -> Result<(), String> {
        self.set_state(operation, WriteState::Refused);
        let version = operation.version;
        let was_base_seen = self.bases.get(&version).is_some_and(|base| base.seen_at > 0);
        let was_record_seen = self.record(version).is_some_and(|record| record.seen_by < NEVER);
        if was_base_seen || was_record_seen {
            return Err(format!("version {version} was seen, and then its write was refused"));
        }
        Ok(())
    }

    fn set_state(&mut self, operation: &Operation, state: WriteState) {
        if let Some(base) = self.bases.get_mut(&operation.version) {
            base.state = state;
        }
        if let Some(begin) = self.record_begins.get(&operation.version) {
            self.records.get_mut(begin).expect("indexed").state = state;
        }
    }

    /// A base write, a record write or a delete took effect.
    pub fn acknowledge(&mut self, operation: &Operation, begin: Tick, end: Tick) {
        let command = operation.command;
        self.set_state(operation, WriteState::Acknowledged(end));
        let step = Step { begin, end, version: operation.version };
        if command.is_delete() {
            self.deleted.push(step);
            self.last_delete_end = end;
        } else if command.is_base_write() {
            self.existed.push(step);
            self.last_write_end = end;
        }
        if command.is_delete() || command.is_base_write() {
            self.replaced.push(step);
            self.acknowledged.push(step);
        }
    }

    /// The last moment at which a failed operation may take effect.
    fn end_of_failed(&self, failed: Tick) -> Tick {
        self.acknowledged.first_after(failed).map_or(NEVER, |step| step.end)
    }

    fn end_of(&self, state: WriteState) -> Tick {
        match state {
            WriteState::Pending => NEVER,
            WriteState::Acknowledged(end) => end,
            WriteState::Refused => 0,
            WriteState::Failed(moment) => self.end_of_failed(moment),
        }
    }

    fn born_by(&self, base: &Base) -> Tick {
        base.born_by.min(self.end_of(base.state))
    }

    /// A read or a cas between `begin` and `end` found this value.
    ///
    /// # Errors
    /// Why it cannot have been there.
    pub fn observe(
        &mut self,
        seen: &Seen,
        begin: Tick,
        end: Tick,
        may_lose: bool,
    ) -> Result<(), String> {
        let (born_by, seen_at) = self.note_seen(seen, begin, end)?;
        if let Some(step) = self.replaced.last_before(seen_at)
            && step.begin > born_by
        {
            let by = if step.version == 0 {
                "deleted".into()
            } else {
                format!("replaced by version {}", step.version)
            };
            return Err(format!("stale: it was {by} between {} and {}", step.begin, step.end));
        }
        self.check_zones(seen.base, born_by, seen_at)?;
        if let Some(step) = self.missed.last_before(seen_at)
            && !may_lose
            && step.begin > born_by
        {
            let (from, to) = (step.begin, step.end);
            return Err(format!("it was gone between {from} and {to} and came back"));
        }
        self.check_records(seen, born_by, begin, end)?;
        self.check_count(seen, begin, end)?;
        let base = &self.bases[&seen.base];
        let step = Step { begin: begin.max(base.begin), end, version: seen.base };
        if step.begin <= born_by {
            self.replaced.push(step);
        }
        self.existed.push(step);
        let base = self.bases.get_mut(&seen.base).expect("looked up");
        for (known, now) in
            [(&mut base.appends, &seen.appends), (&mut base.prepends, &seen.prepends)]
        {
            if now.len() > known.len() {
                known.clone_from(now);
            }
        }
        Ok(())
    }

    /// Narrows when the base was there; both moments.
    fn note_seen(&mut self, seen: &Seen, begin: Tick, end: Tick) -> Result<(Tick, Tick), String> {
        let version = seen.base;
        let (mut born_by, mut seen_at) = (end, begin);
        for record in seen.appends.iter().chain(&seen.prepends) {
            let begin = self.record_begins.get(record).copied();
            let begin = begin.ok_or_else(|| unknown(*record))?;
            let record = &self.records[&begin];
            if record.state == WriteState::Refused {
                return Err(format!("the write of record {} was refused", record.version));
            }
            born_by = born_by.min(self.end_of(record.state).min(record.seen_by));
            seen_at = seen_at.max(begin);
        }
        let Some(base) = self.bases.get_mut(&version) else { return Err(unknown(version)) };
        if base.state == WriteState::Refused {
            return Err(format!("the write of version {version} was refused"));
        }
        if base.is_expired {
            return Err(format!("version {version} had expired when it was written"));
        }
        base.born_by = base.born_by.min(born_by);
        base.seen_at = base.seen_at.max(seen_at);
        let base = &self.bases[&version];
        Ok((self.born_by(base), base.seen_at))
    }

    /// No other base may have been there between these two moments.
    fn check_zones(&mut self, version: u64, born_by: Tick, seen_at: Tick) -> Result<(), String> {
        if born_by >= seen_at {
            return Ok(());
        }
        let mut is_known = false;
        for other in &self.zones {
            is_known |= *other == version;
            let Some(base) = self.bases.get(other).filter(|_| *other != version) else { continue };
            let (other_born_by, other_seen_at) = (self.born_by(base), base.seen_at);
            if other_born_by < other_seen_at && other_born_by < seen_at && born_by < other_seen_at {
                return Err(format!(
                    "version {version} was there from {born_by} to {seen_at} and version {other} \
                     from {other_born_by} to {other_seen_at}: one came back"
                ));
            }
        }
        if !is_known {
            self.zones.push_front(version);
            self.zones.truncate(ZONES_KEPT);
        }
        Ok(())
    }

    /// The records of a value: possible, in a possible order, all that must be there.
    fn check_records(
        &mut self,
        seen: &Seen,
        born_by: Tick,
        begin: Tick,
        end: Tick,
    ) -> Result<(), String> {
        let base = &self.bases[&seen.base];
        for (known, now) in [(&base.appends, &seen.appends), (&base.prepends, &seen.prepends)] {
            if let Some(i) = (0..known.len().min(now.len())).find(|&i| known[i] != now[i]) {
                return Err(format!("record {} stood where now is record {}", known[i], now[i]));
            }
            let lost = known.get(now.len()).and_then(|version| self.record(*version));
            if let Some(record) = lost.filter(|record| record.seen_by < begin) {
                return Err(format!("record {} was there before and is lost", record.version));
            }
        }
        for (versions, is_prepend) in [(&seen.appends, false), (&seen.prepends, true)] {
            let mut latest_begin = self.bases[&seen.base].begin;
            for (i, &version) in versions.iter().enumerate() {
                if versions[..i].contains(&version) {
                    return Err(format!("record {version} is there twice"));
                }
                let record_begin = self.record_begins[&version];
                let record_end = self.end_of(self.records[&record_begin].state);
                let record = self.records.get_mut(&record_begin).expect("indexed");
                if record.is_prepend != is_prepend {
                    return Err(format!("record {version} is at the wrong end"));
                }
                if record.base.is_some_and(|base| base != seen.base) {
                    return Err(format!("record {version} was there with another base"));
                }
                if record_end < latest_begin {
                    return Err(format!("record {version} is behind one that came after it"));
                }
                record.base = Some(seen.base);
                record.seen_by = record.seen_by.min(end);
                latest_begin = latest_begin.max(record_begin);
            }
        }
        for record in self.records.range(born_by.saturating_add(1)..).map(|(_, record)| record) {
            let list = if record.is_prepend { &seen.prepends } else { &seen.appends };
            if matches!(record.state, WriteState::Acknowledged(end) if end < begin)
                && !list.contains(&record.version)
            {
                return Err(format!("record {} was added and is missing", record.version));
            }
        }
        Ok(())
    }

    fn record(&self, version: u64) -> Option<&Record> {
        self.records.get(self.record_begins.get(&version)?)
    }

    /// An increment between `begin` and `end` gave this number.
    ///
    /// # Errors
    /// Why it cannot have.
    pub fn counted(
        &mut self,
        seen: &Seen,
        delta: i64,
        begin: Tick,
        end: Tick,
        may_lose: bool,
    ) -> Result<(), String> {
        if let Some(base) = self.bases.get_mut(&seen.base) {
            if base.counts.len() < COUNTS_KEPT {
                base.counts.push(Count { begin, end, delta, failed: None });
            } else {
                base.has_forgotten_counts = true;
            }
        }
        self.observe(seen, begin, end, may_lose)
    }

    /// Whether increments and decrements explain the count.
    fn check_count(&self, seen: &Seen, begin: Tick, end: Tick) -> Result<(), String> {
        let base = &self.bases[&seen.base];
        if base.has_forgotten_counts || self.has_forgotten_loose {
            return Ok(());
        }
        let (mut least, mut most) = (0, 0);
        let is_possible = |count: &&Count| {
            let last = count.failed.map_or(NEVER, |failed| self.end_of_failed(failed));
            count.begin < end && last >= base.begin
        };
        let all = base.counts.iter().chain(&self.pending_counts).chain(&self.loose_counts);
        for count in all.filter(is_possible) {
            // What ended before the read began, or is what gave the number, is in it.
            let is_certain = count.end < begin || (count.begin == begin && count.end == end);
            if is_certain || count.delta > 0 {
                most += count.delta;
            }
            if is_certain || count.delta < 0 {
                least += count.delta;
            }
        }
        if (least..=most).contains(&seen.count) {
            return Ok(());
        }
        let count = seen.count;
        Err(format!("counts {count:+} from its base, between {least:+} and {most:+} is possible"))
    }

    /// A cas between `begin` and `end` replaced this very value by `version`.
    ///
    /// # Errors
    /// Why it cannot have.
    pub fn swapped(
        &mut self,
        expected: &Seen,
        version: u64,
        begin: Tick,
        end: Tick,
        may_lose: bool,
    ) -> Result<(), String> {
        let result = self.observe(expected, begin, end, may_lose);
        result.map_err(|error| format!("cas replaced what it cannot have found: {error}"))?;
        let base = self.bases.get_mut(&expected.base).expect("observed");
        let successor = *base.successor.get_or_insert(version);
        if successor == version {
            return Ok(());
        }
        Err(format!("version {} was replaced by two cas: {successor} too", expected.base))
    }

    /// An answer between `begin` and `end` says that something is there.
    ///
    /// # Errors
    /// It was deleted and nothing was written after that.
    pub fn present(&mut self, begin: Tick, end: Tick) -> Result<(), String> {
        self.existed.push(Step { begin, end, version: 0 });
        let Some(step) = self.deleted.last_before(begin) else { return Ok(()) };
        let failed_end = self.write_failed.map_or(0, |failed| self.end_of_failed(failed));
        let last_write_end = self.last_write_end.max(failed_end);
        if self.pending_writes > 0 || last_write_end >= step.begin {
            return Ok(());
        }
        let (from, to) = (step.begin, step.end);
        Err(format!("something is there, but it was deleted between {from} and {to}"))
    }

    /// An answer between `begin` and `end` says that nothing is there. Only for a server that may
    /// lose nothing.
    ///
    /// # Errors
    /// Something was there and nothing deleted it.
    pub fn absent(&mut self, begin: Tick, end: Tick) -> Result<(), String> {
        self.missed.push(Step { begin, end, version: 0 });
        let Some(step) = self.existed.last_before(begin) else { return Ok(()) };
        let failed_end = self.delete_failed.map_or(0, |failed| self.end_of_failed(failed));
        let last_delete_end = self.last_delete_end.max(failed_end);
        if self.pending_deletes > 0 || last_delete_end >= step.begin {
            return Ok(());
        }
        let (from, to) = (step.begin, step.end);
        Err(format!("lost: something was there between {from} and {to}, nothing deleted it"))
    }

    /// Forgets old writes that can take effect no more. All that is in flight began at
    /// `oldest_begin` or later.
    pub fn prune(&mut self, oldest_begin: Tick) {
        let is_over = |key: &Key, state, seen_by: Tick| {
            let there_by = seen_by.min(key.end_of(state));
            let replaced = key.replaced.first_after(there_by);
            state == WriteState::Refused || replaced.is_some_and(|step| step.end < oldest_begin)
        };
        // Each call looks at a few more than begin meanwhile: the oldest ones may have to stay.
        for _ in 0..4 {
            if self.base_order.len() <= self.kept.writes {
                break;
            }
            let version = self.base_order.pop_front().expect("more than none");
            let base = &self.bases[&version];
            if is_over(self, base.state, base.born_by) {
                self.bases.remove(&version);
            } else {
                self.base_order.push_back(version);
            }
        }
        if self.records.len() > self.kept.writes {
            let is_over = |record: &Record| is_over(self, record.state, record.seen_by);
            let old = self.records.iter().take(self.kept.writes / 2);
            let old = old.filter(|(_, record)| is_over(record));
            let old: Vec<(Tick, u64)> = old.map(|(begin, old)| (*begin, old.version)).collect();
            for (begin, version) in old {
                self.records.remove(&begin);
                self.record_begins.remove(&version);
            }
        }
        if self.loose_counts.len() > COUNTS_KEPT {
            let oldest = self.loose_counts[0];
            let last = self.end_of_failed(oldest.failed.unwrap_or(NEVER));
            // A base that it counts on began before its end, and was replaced since.
            if self.replaced.first_after(last).is_some_and(|step| step.end < oldest_begin) {
                self.loose_counts.pop_front();
            }
        }
    }

    /// Whether this key has the version.
    pub fn has(&self, version: u64) -> bool {
        self.bases.contains_key(&version) || self.record_begins.contains_key(&version)
    }
}

fn unknown(version: u64) -> String {
    format!("version {version} was never written here, or was replaced long ago")
}
