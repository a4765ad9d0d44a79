//! A worker's side of its connections: executes their operations here or at the key's owner, keeps
//! the table of requests in flight, and answers commands about the server.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::held::{Budget, Copied, Held, Lent, Loans, Returns};
use super::logins::Door;
use super::measure::{carry, count, learn, level_of, note_wait, value_bytes};
use super::shared::owner_of;
use super::{Shared, control, listing};
use crate::base::buffer::{self, Body, Gather};
use crate::base::clock::Now;
use crate::base::latency::Level;
use crate::base::limits::{
    BLOCK_BYTES, BODY_BUDGET_BYTES, CONTENTION_US, EXPECTED_BYTES_AT_START, EXPECTED_BYTES_MAX,
    GATHER_BUDGET_BYTES, INTAKE_BUDGET_BYTES, INTAKE_BYTES_MAX, MAILBOX_BUDGET_BYTES,
    MAILBOX_BUDGET_MESSAGES, OPERATIONS_SHARE, SLOTS_PER_WORKER,
};
use crate::base::rights::Rights;
use crate::base::stats::{Counter, WorkerStats};
use crate::base::{random, spent, work};
use crate::connection::slots::{Content, INTAKE_WEIGHT_BYTES, Slots, may_add};
use crate::connection::watch::{Tap, Watch};
use crate::connection::{Engine, Share, Submitted, Verdict};
use crate::mailbox::{Answer, Carried, Job, Mailbox, RemoteRequest};
use crate::net::ConnectionId;
use crate::orchestrator::tally::{Tally, verb_of};
use crate::orchestrator::task::{Execution, Executor};
use crate::orchestrator::{Action, InL1, Operation, Orchestrator, PortRole};
use crate::protocol::watch::{Ended, Wanted};
use crate::protocol::{Binding, Control, Form, Limits};
use crate::report::{self, Event};
use crate::tier::{Draft, Fill, Hit, Outcome, Value};

/// The requester of an operation, and how the operation is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    /// The worker that sent the request, or None for this one.
    worker: Option<u8>,
    slot: u32,
    tally: Tally,
}

/// A worker without its transport.
pub struct WorkerEngine<'o, O: Orchestrator, F, M> {
    pub(super) orchestrator: &'o O,
    pub(super) shared: Arc<Shared>,
    stats: Arc<WorkerStats>,
    executor: Executor<F, M, Origin>,
    pub(super) mailbox: Mailbox,
    pub(super) slots: Slots<Held<O::Value>>,
    /// Connections to visit in this turn.
    pub(super) visits: Vec<ConnectionId>,
    /// Connections to visit in the next turn.
    revisits: Vec<ConnectionId>,
    /// Connections that wait for room held by others.
    waiting: Vec<ConnectionId>,
    /// For values that are arriving, and for fetched ones.
    budget: Budget,
    /// Input kept by connections whose output is blocked.
    intake_bytes: usize,
    /// Turns with connections to visit again.
    rounds: u64,
    /// Bytes that values of all workers may use before this one accepts only what it must.
    held_bytes_max: usize,
    /// Outcomes that our slots wait for.
    pub(super) awaited: usize,
    door: Door,
    /// About the length of the longest recent value, in bytes.
    expected_bytes: usize,
    /// The time until which the budget counts as contended.
    contended_until_us: u64,
    /// The count of [`Shared::starvations`] that was last handled.
    starvations_seen: u64,
    /// Hits that other workers' connections wait to read.
    loans: Loans<O::Value>,
    /// Loans of other workers that are no longer needed.
    returns: Returns,
    /// Requests that had to wait.
    waits: u32,
    /// Pieces of this worker's connections that somebody asked for.
    pub(super) listings: listing::Requests,
    pub(super) watch: Watch,
    /// One was asked for, or watchers need something.
    pub(super) has_errands: bool,
}

impl<'o, O, F, M> WorkerEngine<'o, O, F, M>
where
    O: Orchestrator,
    F: Future<Output = Outcome<O::Value>>,
    M: FnMut(Operation, Now) -> F,
{
    pub(super) fn new(
        shared: Arc<Shared>,
        mailbox: Mailbox,
        orchestrator: &'o O,
        executor: Executor<F, M, Origin>,
    ) -> WorkerEngine<'o, O, F, M> {
        let two_items = 2 * shared.limits.item_bytes_max;
        let body_bytes = BODY_BUDGET_BYTES.max(two_items);
        let gather_bytes = GATHER_BUDGET_BYTES.max(two_items);
        let workers = mailbox.workers();
        buffer::limit_gathering(workers * (body_bytes + 2 * gather_bytes));
        WorkerEngine {
            orchestrator,
            stats: Arc::clone(&shared.stats[mailbox.worker()]),
            budget: Budget::new(body_bytes),
            intake_bytes: 0,
            rounds: 0,
            held_bytes_max: workers * (body_bytes + gather_bytes),
            awaited: 0,
            door: Door::new(shared.logins.clone(), &mailbox, &shared.stats),
            // Nothing is known yet, so assume the worst.
            expected_bytes: EXPECTED_BYTES_AT_START.min(shared.limits.item_bytes_max),
            contended_until_us: 0,
            starvations_seen: 0,
            loans: Loans::new(),
            returns: Returns::default(),
            waits: 0,
            listings: listing::Requests::default(),
            watch: Self::watch_of(&shared, &mailbox),
            has_errands: false,
            shared,
            executor,
            mailbox,
            slots: Slots::new(SLOTS_PER_WORKER),
            visits: Vec::with_capacity(SLOTS_PER_WORKER),
            revisits: Vec::with_capacity(SLOTS_PER_WORKER),
            waiting: Vec::with_capacity(SLOTS_PER_WORKER),
        }
    }

    /// Executes the requests of other workers, takes their answers, and polls woken tasks.
    pub(super) fn exchange(&mut self, now: Now) -> usize {
        let mut done = self.run_woken(now);
        if self.mailbox.workers() > 1 {
            for worker in 0..self.mailbox.workers() {
                done += self.serve(worker, now);
                done += self.collect(worker, now);
            }
        }
        if self.door.is_waiting() {
            done += self.door.take_verdicts(&mut self.slots, &mut self.visits);
        }
        if self.orchestrator.is_starved() {
            self.shared.starvations.fetch_add(1, Ordering::Relaxed);
        }
        let starvations = self.shared.starvations.load(Ordering::Relaxed);
        if self.starvations_seen != starvations {
            self.starvations_seen = starvations;
            self.contended_until_us = now.uptime_us + CONTENTION_US;
        }
        self.revisits.append(&mut self.waiting);
        // A connection may have asked in several visits of one turn; each time it would ask again,
        // and a client that sends bytes one by one could increase its share of the turns.
        self.revisits.sort_unstable_by_key(|id| (id.index, id.generation));
        self.revisits.dedup();
        // The first one is drawn, so that no connection always finds the room used up by the same
        // others. If it rotated, room that comes in step with that would always find the same one.
        if self.revisits.len() > 1 {
            self.rounds = self.rounds.wrapping_add(1);
            let first = random::mix(self.rounds) % self.revisits.len() as u64;
            self.revisits.rotate_left(first as usize);
        }
        self.visits.append(&mut self.revisits);
        done
    }

    /// The number of the connection in place `index`, as `stats conns` shows it: those of all
    /// workers follow those of the listeners.
    pub fn number(&self, index: usize) -> u64 {
        self.watch.number_at(index)
    }

    /// What a listener's clients may do, in which protocol, and whether they have to log in.
    pub(super) fn port(&self, listener: usize) -> (Rights, Binding, bool) {
        let port = PortRole::of_listener(listener).listener();
        (self.shared.rights[port].get(), self.shared.bindings[port], self.door.needs_login())
    }

    /// Whether this worker holds so many items that prefetching pays off. With several workers half
    /// of the keys or more belong to others, and it does not.
    pub(super) fn foresees(&self) -> bool {
        self.mailbox.workers() == 1 && self.orchestrator.is_far()
    }

    #[inline]
    pub(super) fn prefetch(&self, key: &[u8]) -> u64 {
        self.orchestrator.prefetch(key)
    }

    #[inline(always)]
    pub(super) fn prefetch_more(&self, foreseen: u64) {
        self.orchestrator.prefetch_more(foreseen);
    }

    /// Whether a value waited for its budget recently, or would have to wait now, or an item found
    /// no memory because readers, of any worker, hold all of it.
    pub(super) fn is_contended(&self, now: Now) -> bool {
        now.uptime_us < self.contended_until_us || self.is_full()
    }

    /// Microseconds after which an idle connection is closed; 0: never.
    pub(super) fn idle_us(&self) -> u64 {
        self.shared.idle_timeout_s.load(Ordering::Relaxed) * 1_000_000
    }

    /// The next connection that can continue.
    pub(super) fn next_visit(&mut self) -> Option<ConnectionId> {
        self.visits.pop()
    }

    pub(super) fn end_turn(&mut self) {
        self.return_loans();
        self.stats.set(Counter::RequestsQueued, self.slots.in_use() as u64);
        self.mailbox.ring();
    }

    /// Whether connections wait for room held by others, or for the verifier: neither wakes us.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty() || self.door.is_waiting()
    }

    pub(super) fn owes_work(&self) -> bool {
        !self.returns.borrow().is_empty()
            || !self.revisits.is_empty()
            || !self.mailbox.is_empty()
            || self.executor.has_woken()
            || !self.listings.is_empty()
            || self.has_news()
    }

    fn run_woken(&mut self, now: Now) -> usize {
        let WorkerEngine { executor, mailbox, slots, visits, stats, loans, awaited, watch, .. } =
            self;
        let expected_bytes = &mut self.expected_bytes;
        let mut work_before = work::bytes();
        executor.run_woken(now, Outcome::share, |origin, outcome| {
            count(origin.tally, &outcome, stats);
            match origin.worker {
                Some(worker) => {
                    let mut answer = carry(loans, origin.slot, outcome, O::LAST, now);
                    answer.spent = spent::last().map(Box::new);
                    mailbox.send_answer(usize::from(worker), answer);
                }
                None => {
                    *awaited -= 1;
                    learn(expected_bytes, work::since(work_before).max(value_bytes(&outcome)));
                    work_before = work::bytes();
                    let level = || level_of(&outcome, O::LAST);
                    note_wait(slots.take_wait(origin.slot, now), &outcome, level, stats);
                    if watch.has_waiting() {
                        let ended = Ended::of(&outcome, O::LAST);
                        let is_open = slots.connection(origin.slot).is_some();
                        watch.tell_waited(origin.slot, ended, spent::last(), is_open, now);
                    }
                    let outcome = outcome.map_value(|value| {
                        value.note_progress(now);
                        Held::Local(value)
                    });
                    visits.extend(slots.complete(origin.slot, outcome));
                }
            }
        })
    }

    /// Returns the loans of other workers that are no longer needed.
    fn return_loans(&mut self) {
        let mut returns = self.returns.borrow_mut();
        while self.mailbox.has_room(1)
            && let Some((owner, loan)) = returns.pop()
        {
            let request = RemoteRequest { slot: NO_SLOT, job: Job::Return(loan) };
            self.mailbox.send_request(usize::from(owner), request);
        }
    }

    /// Executes the requests of `worker`.
    fn serve(&mut self, worker: usize, now: Now) -> usize {
        let mut copied_bytes = 0;
        let work_before = work::bytes();
        for n in 0..MAILBOX_BUDGET_MESSAGES {
            let is_spent = copied_bytes + work::since(work_before) > MAILBOX_BUDGET_BYTES;
            if !self.executor.has_room(1) || is_spent {
                return n;
            }
            let Some(RemoteRequest { slot, job }) = self.mailbox.take_request(worker) else {
                return n;
            };
            let answer = match job {
                Job::Execute { key_hash, operation } => {
                    let asker = Some(worker as u8);
                    match self.execute(operation, key_hash, asker, slot, now) {
                        Execution::Done(outcome) => {
                            carry(&mut self.loans, slot, outcome, O::LAST, now)
                        }
                        Execution::Waiting => continue,
                    }
                }
                Job::Fetch { loan, offset, bytes } => {
                    let piece = self.loans.piece(loan, offset, bytes, now);
                    Answer { slot, outcome: Outcome::Hit(piece), level: Level::L1, spent: None }
                }
                Job::List { from } => {
                    let worker = Some(worker as u8);
                    self.listings.push_back(listing::Request { worker, slot, from });
                    self.has_errands = true;
                    continue;
                }
                Job::Watch { wanted, lines } => {
                    self.watch.add(Tap { wanted, lines });
                    self.has_errands = true;
                    Answer { slot, outcome: Outcome::Flushed, level: Level::L1, spent: None }
                }
                Job::Return(loan) => {
                    drop(self.loans.end(loan));
                    Answer { slot, outcome: Outcome::Miss, level: Level::L1, spent: None }
                }
            };
            if let Outcome::Hit(hit) = &answer.outcome {
                copied_bytes += match &hit.value {
                    Carried::Copied(chain) | Carried::Lent { piece: chain, .. } => chain.len(),
                    Carried::Lost { .. } => 0,
                };
            }
            self.mailbox.send_answer(worker, answer);
        }
        MAILBOX_BUDGET_MESSAGES
    }

    /// Takes the answers that `worker` sends back.
    fn collect(&mut self, worker: usize, now: Now) -> usize {
        for n in 0..MAILBOX_BUDGET_MESSAGES {
            let Some(answer) = self.mailbox.take_answer(worker) else { return n };
            let Answer { slot, outcome, level, spent } = answer;
            if slot == NO_SLOT {
                continue;
            }
            self.awaited -= 1;
            let outcome = outcome.map_value(|carried| match carried {
                Carried::Copied(chain) => Held::Remote(Copied::new(0, chain)),
                Carried::Lent { loan, bytes, offset, piece } => {
                    let reserved = self.budget.guard(piece.len());
                    let piece = Copied::new(offset, piece);
                    let loan = (worker as u8, loan);
                    Held::Lent(Lent::new(loan, bytes, piece, reserved, &self.returns))
                }
                Carried::Lost { bytes, requested_bytes } => {
                    drop(self.budget.guard(requested_bytes));
                    Held::Lost(bytes)
                }
            });
            learn(&mut self.expected_bytes, value_bytes(&outcome));
            let waited = self.slots.take_wait(slot, now);
            note_wait(waited, &outcome, || level, &self.stats);
            if self.watch.has_waiting() {
                let ended = Ended { level, ..Ended::of(&outcome, level) };
                let is_open = self.slots.connection(slot).is_some();
                self.watch.tell_waited(slot, ended, spent.map(|spent| *spent), is_open, now);
            }
            self.visits.extend(self.slots.complete(slot, outcome));
        }
        MAILBOX_BUDGET_MESSAGES
    }

    /// Whether values use so much memory that a new one has to wait.
    fn is_full(&self) -> bool {
        buffer::bytes_in_use() > self.held_bytes_max
    }

    /// Sends an operation to the worker that owns its key, or to all for a flush.
    #[inline]
    fn dispatch(&mut self, operation: Operation, slot: u32, now: Now) -> Submitted<Held<O::Value>> {
        if matches!(operation.action, Action::FlushAll { .. }) {
            return self.flush_everywhere(operation, slot, now);
        }
        let key_hash = self.hash(operation.key.as_bytes());
        let owner = owner_of(key_hash, self.mailbox.workers());
        if owner == self.mailbox.worker() {
            return self.execute_own(operation, key_hash, slot, now);
        }
        self.stats.add(Counter::RemoteOperations, 1);
        let job = Job::Execute { key_hash, operation };
        self.mailbox.send_request(owner, RemoteRequest { slot, job });
        Submitted::Waiting(1)
    }

    /// Executes an operation of this worker for `slot` of `worker`, or of this one if None.
    #[inline]
    fn execute(
        &mut self,
        mut operation: Operation,
        key_hash: u64,
        worker: Option<u8>,
        slot: u32,
        now: Now,
    ) -> Execution<Outcome<O::Value>> {
        let tally = Tally::of(operation.action);
        if operation.in_l1 == InL1::Unasked && !self.executor.is_busy(key_hash) {
            let key = operation.key.as_bytes();
            let value = Body::Chain(&operation.value);
            match self.orchestrator.try_now(key, operation.action, value, now) {
                Ok(outcome) => {
                    tally.count(&outcome, &self.stats);
                    return Execution::Done(outcome);
                }
                Err(in_l1) => operation.in_l1 = in_l1,
            }
        }
        let origin = Origin { worker, slot, tally };
        let execution = self.executor.execute(operation, key_hash, origin, now);
        if let Execution::Done(outcome) = &execution {
            count(tally, outcome, &self.stats);
        }
        execution
    }

    #[inline]
    fn execute_own(
        &mut self,
        operation: Operation,
        key_hash: u64,
        slot: u32,
        now: Now,
    ) -> Submitted<Held<O::Value>> {
        match self.execute(operation, key_hash, None, slot, now) {
            Execution::Done(outcome) => Submitted::Done(outcome.map_value(Held::Local)),
            Execution::Waiting => Submitted::Waiting(1),
        }
    }

    /// Whether this worker owns `key` and no operation on it is in flight.
    #[inline(always)]
    fn is_ready(&self, key: &[u8]) -> bool {
        let is_alone = self.mailbox.workers() == 1;
        if is_alone && !self.executor.is_busy_at_all() {
            return true;
        }
        let key_hash = self.hash(key);
        owner_of(key_hash, self.mailbox.workers()) == self.mailbox.worker()
            && !self.executor.is_busy(key_hash)
    }

    fn hash(&self, key: &[u8]) -> u64 {
        rapidhash::v3::rapidhash_v3_seeded(key, &self.shared.key_secrets)
    }

    /// Makes every worker invalidate its items.
    fn flush_everywhere(
        &mut self,
        operation: Operation,
        slot: u32,
        now: Now,
    ) -> Submitted<Held<O::Value>> {
        let Action::FlushAll { at } = operation.action else {
            unreachable!("only a flush concerns every worker");
        };
        self.stats.add(Counter::CmdFlush, 1);
        report::tell_at(report::COMMANDS, || Event::Command.line("a client flushes all items"));
        let workers = self.mailbox.workers();
        let own = self.mailbox.worker();
        for worker in (0..workers).filter(|&worker| worker != own) {
            let key = operation.key.clone();
            let operation = Operation::new(key, Action::FlushAll { at });
            let job = Job::Execute { key_hash: FLUSH_HASH, operation };
            self.mailbox.send_request(worker, RemoteRequest { slot, job });
        }
        match self.execute_own(operation, FLUSH_HASH, slot, now) {
            Submitted::Done(outcome) if workers == 1 => Submitted::Done(outcome),
            Submitted::Done(_) => Submitted::Waiting(workers as u8 - 1),
            Submitted::Waiting(_) => Submitted::Waiting(workers as u8),
        }
    }
}

/// The hash of the queue of flushes: they run one after another.
const FLUSH_HASH: u64 = 0;

/// The same of the pieces of dumps.
const DUMP_HASH: u64 = 1;

/// The slot of operations that no request waits for.
const NO_SLOT: u32 = u32::MAX;

impl<O, F, M> Engine for WorkerEngine<'_, O, F, M>
where
    O: Orchestrator,
    F: Future<Output = Outcome<O::Value>>,
    M: FnMut(Operation, Now) -> F,
{
    type Value = Held<O::Value>;

    fn slots(&mut self) -> &mut Slots<Held<O::Value>> {
        &mut self.slots
    }

    fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    #[inline]
    fn has_room(&self, own: usize) -> bool {
        let more = 1 + own * OPERATIONS_SHARE;
        self.executor.has_room(more) && self.mailbox.has_room(more)
    }

    #[inline(always)]
    fn try_now(
        &mut self,
        key: &[u8],
        action: Action,
        value: Body<'_>,
        now: Now,
    ) -> Result<Outcome<Held<O::Value>>, InL1> {
        let has_no_key = matches!(action, Action::FlushAll { .. } | Action::Dump { .. });
        if has_no_key || !self.is_ready(key) {
            return Err(InL1::Unasked);
        }
        let outcome = self.orchestrator.try_now(key, action, value, now)?;
        Tally::of(action).count(&outcome, &self.stats);
        Ok(outcome.map_value(Held::Local))
    }

    #[inline(always)]
    fn read_now(
        &mut self,
        key: &[u8],
        with_state: bool,
        now: Now,
        read: impl FnOnce(Option<Hit<&[u8]>>) -> bool,
    ) -> Result<(), InL1> {
        if !self.is_ready(key) {
            return Err(InL1::Unasked);
        }
        let stats = &self.stats;
        self.orchestrator.read_now(key, with_state, now, |hit| {
            let is_hit = hit.is_some();
            let is_read = read(hit);
            if is_read {
                Tally::count_get(is_hit, stats);
            }
            is_read
        })
    }

    fn log_in(
        &mut self,
        peer: Option<IpAddr>,
        user: &[u8],
        password: &[u8],
        slot: u32,
        now: Now,
    ) -> Verdict {
        self.door.log_in(peer, (user, password), slot, now)
    }

    fn report_unnamed_proxy(&mut self, peer: IpAddr, now: Now) {
        self.shared.admission.report_unnamed_proxy(peer, now);
    }

    fn cancel_login(&mut self, slot: u32, is_gone: bool) -> bool {
        self.door.cancel(slot, is_gone)
    }

    #[inline]
    fn submit(&mut self, operation: Operation, slot: u32, now: Now) -> Submitted<Held<O::Value>> {
        let action = operation.action;
        let submitted = self.dispatch(operation, slot, now);
        if let Submitted::Waiting(outcomes) = &submitted {
            self.waits = self.waits.wrapping_add(1);
            match self.stats.latencies().weight(self.waits) {
                0 => self.slots.ask_unmeasured(slot),
                weight => self.slots.ask(slot, verb_of(action), weight, now),
            }
            self.awaited += usize::from(*outcomes);
        }
        submitted
    }

    fn workers(&self) -> usize {
        self.mailbox.workers()
    }

    fn begin_dump(&mut self) -> bool {
        report::tell_at(report::COMMANDS, || Event::Command.line("a client lists all keys"));
        !self.shared.is_dumping.swap(true, Ordering::Relaxed)
    }

    fn end_dump(&mut self) {
        self.shared.is_dumping.store(false, Ordering::Relaxed);
    }

    fn dump(&mut self, worker: usize, from: u64, slot: u32, now: Now) -> Submitted<Held<O::Value>> {
        let operation = Operation::new(buffer::Key::EMPTY, Action::Dump { from });
        let submitted = if worker == self.mailbox.worker() {
            self.execute_own(operation, DUMP_HASH, slot, now)
        } else {
            let job = Job::Execute { key_hash: DUMP_HASH, operation };
            self.mailbox.send_request(worker, RemoteRequest { slot, job });
            Submitted::Waiting(1)
        };
        if let Submitted::Waiting(outcomes) = &submitted {
            self.awaited += usize::from(*outcomes);
        }
        submitted
    }

    fn list_connections(
        &mut self,
        worker: usize,
        from: u64,
        slot: u32,
    ) -> Submitted<Held<O::Value>> {
        self.awaited += 1;
        if worker == self.mailbox.worker() {
            self.listings.push_back(listing::Request { worker: None, slot, from });
            self.has_errands = true;
        } else {
            self.mailbox.send_request(worker, RemoteRequest { slot, job: Job::List { from } });
        }
        Submitted::Waiting(1)
    }

    fn begin_watch(
        &mut self,
        id: ConnectionId,
        wanted: Wanted,
        slot: u32,
    ) -> Option<Submitted<Held<O::Value>>> {
        self.begin_watch_of(id, wanted, slot)
    }

    fn watch(&mut self) -> Option<&mut Watch> {
        Some(&mut self.watch)
    }

    fn control(&mut self, control: Control<'_>, form: Form, now: Now, reply: &mut Gather) {
        control::answer(&self.shared, control, form, now, reply);
    }

    fn draft(&mut self, operation: &Operation, value_bytes: usize, now: Now) -> Option<Draft> {
        let Action::Store(store) = operation.action else { return None };
        let key = operation.key.as_bytes();
        self.is_ready(key).then(|| self.orchestrator.draft(key, store, value_bytes, now))?
    }

    fn fill_draft(&mut self, draft: Draft, offset: usize, fill: &mut Fill<'_>) -> usize {
        self.orchestrator.fill_draft(draft, offset, fill)
    }

    fn store_draft(
        &mut self,
        operation: &Operation,
        draft: Draft,
        now: Now,
    ) -> Outcome<Held<O::Value>> {
        let Action::Store(store) = operation.action else {
            unreachable!("only stores are drafted");
        };
        let outcome = self.orchestrator.store_draft(operation.key.as_bytes(), draft, store, now);
        Tally::of(operation.action).count(&outcome, &self.stats);
        outcome.map_value(Held::Local)
    }

    fn drop_draft(&mut self, draft: Draft) {
        self.orchestrator.drop_draft(draft);
    }

    fn reserve_body(
        &mut self,
        id: ConnectionId,
        share: &mut Share,
        bytes: usize,
        value_bytes: usize,
        now: Now,
    ) -> bool {
        // A value that has begun to arrive continues: it must end before there is room again.
        let is_shared = share.shared > 0 || !self.is_full();
        let fits = self.budget.grow(id, share, (bytes, value_bytes), is_shared, now);
        if !fits {
            self.contended_until_us = now.uptime_us + CONTENTION_US;
            if let Some(id) = self.budget.revoke(share, now) {
                self.revisits.push(id);
            }
        }
        fits
    }

    #[inline]
    fn note_progress(&mut self, share: &Share, progress_us: u64, is_whole: bool, now: Now) {
        if let Some(rest) = share.rest {
            self.budget.note_progress(rest, progress_us, is_whole, now);
        }
    }

    #[inline]
    fn is_revoked(&self, share: &Share) -> bool {
        share.rest.is_some_and(|rest| self.budget.is_revoked(rest.id))
    }

    fn reserve_ahead(&mut self, share: &mut Share, bytes: usize, value_bytes: usize) -> bool {
        !self.is_full() && self.budget.grow_ahead(share, bytes, value_bytes)
    }

    fn release_body(&mut self, share: Share) {
        self.budget.give(share);
    }

    fn refuse_body(&mut self, share: Share) {
        self.stats.add(Counter::StoreNoMemory, 1);
        self.budget.give(share);
    }

    fn intake_room(&self, held: usize) -> usize {
        // If there is none, slow readers are not closed early, unlike when values find no room: a
        // client that would profit has unread replies itself, and would be closed next. A newly
        // blocked connection still finds its share, and all that keep input have the time-out of an
        // unread reply.
        let free = INTAKE_BUDGET_BYTES - self.intake_bytes;
        if !may_add(held, self.intake_bytes, free, INTAKE_WEIGHT_BYTES) {
            return 0;
        }
        // The input may begin another block.
        INTAKE_BYTES_MAX.saturating_sub(held).min(free).saturating_sub(BLOCK_BYTES)
    }

    fn keep_intake(&mut self, before: usize, held: usize) {
        self.intake_bytes = self.intake_bytes + held - before;
    }

    fn is_strained(&self) -> bool {
        let is_much_to_come =
            O::Value::IS_GATHERED && self.awaited * self.expected_bytes > EXPECTED_BYTES_MAX;
        is_much_to_come || self.is_full()
    }

    fn fetch(&mut self, slot: u32, is_begun: bool) -> bool {
        let Content::Ready { outcome: Outcome::Hit(hit), .. } = self.slots.content(slot) else {
            return true;
        };
        let Held::Lent(lent) = &hit.value else {
            if !is_begun && hit.value.is_lost() {
                self.slots.make_miss(slot);
            }
            return true;
        };
        if !lent.is_wanted() {
            return true;
        }
        if !self.mailbox.has_room(1) {
            if let Some(id) = self.slots.connection(slot) {
                self.await_room(id);
            }
            return false;
        }
        let content = std::mem::replace(self.slots.content_mut(slot), Content::Free);
        let Content::Ready {
            form,
            repeated,
            outcome: Outcome::Hit(Hit { value: Held::Lent(lent), .. }),
        } = content
        else {
            unreachable!("checked above");
        };
        self.awaited += 1;
        let (owner, loan, offset, left) = lent.take();
        *self.slots.content_mut(slot) =
            Content::Waiting { form, repeated, outcomes: 1, left_bytes: left };
        let job = Job::Fetch { loan, offset, bytes: self.budget.fetch(left) };
        self.mailbox.send_request(usize::from(owner), RemoteRequest { slot, job });
        false
    }

    #[inline(never)]
    fn note_unread(&mut self, is_unread: bool) {
        match is_unread {
            true => self.stats.add(Counter::UnreadConnections, 1),
            false => self.stats.sub(Counter::UnreadConnections, 1),
        }
    }

    #[inline(never)]
    fn await_room(&mut self, id: ConnectionId) {
        self.stats.add(Counter::ConnYields, 1);
        self.waiting.push(id);
    }

    #[inline(never)]
    fn revisit(&mut self, id: ConnectionId) {
        self.stats.add(Counter::ConnYields, 1);
        self.revisits.push(id);
    }
}
