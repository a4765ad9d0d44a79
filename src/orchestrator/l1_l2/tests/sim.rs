//! A simulated tier: items in a map, delayed answers, and faults by script or by seed.
//!
//! It keeps the contract of a link to a server: an operation that fails after it was sent may still
//! be executed, but only before the tier serves again; and keys to be invalidated are deleted
//! before that.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::base::buffer::{Body, Chain, Key};
use crate::base::clock::{Clock, Expiry, Now};
use crate::tier::{Action, Arithmetic, Hit, ItemState, Outcome, Store, StoreMode, Tier};

/// Random numbers from a seed.
#[derive(Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }
}

/// The fault of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It fails and is never executed.
    Before,
    /// It fails and is executed later; until then the tier is unreachable.
    After,
    /// There is no memory.
    OutOfMemory,
    /// The item was evicted just before.
    Evicted,
}

/// How often faults happen, per 1,000 calls each; the longest delay of an answer, in turns; and how
/// far the tier's clock is behind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Odds {
    pub before: u64,
    pub after: u64,
    pub out_of_memory: u64,
    pub evict: u64,
    pub delay_turns: u64,
    pub behind_s: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub flags: u32,
    pub expiry: Expiry,
    pub cas: u64,
    pub value: Vec<u8>,
}

/// The requests to all tiers of a test, in order.
pub type Log = Rc<RefCell<Vec<String>>>;

struct State {
    items: BTreeMap<Vec<u8>, Item>,
    flush_at: Option<Expiry>,
    cas: u64,
    rng: Rng,
    odds: Odds,
    script: VecDeque<Fault>,
    turn: u64,
    sleepers: Vec<(u64, Waker)>,
    /// Unreachable until this turn; 0 = reachable.
    lost_until: u64,
    /// Operations that an unreachable server still has to execute.
    late: Vec<(Vec<u8>, Action, Vec<u8>)>,
    /// Keys to be invalidated before it serves again.
    invalid: Vec<Vec<u8>>,
}

pub struct Sim {
    name: &'static str,
    log: Log,
    answers_now: bool,
    state: RefCell<State>,
}

/// Turns for which a tier that timed out is unreachable.
const LOST_TURNS: u64 = 12;

impl Sim {
    /// A tier whose numbers for cas begin at 1, as those of every memcached do.
    pub fn new(name: &'static str, log: &Log, seed: u64, odds: Odds) -> Sim {
        let state = State {
            items: BTreeMap::new(),
            flush_at: None,
            cas: 0,
            rng: Rng::new(seed),
            odds,
            script: VecDeque::new(),
            turn: 0,
            sleepers: Vec::new(),
            lost_until: 0,
            late: Vec::new(),
            invalid: Vec::new(),
        };
        Sim { name, log: Rc::clone(log), answers_now: false, state: RefCell::new(state) }
    }

    /// The same, answering gets immediately if it can.
    pub fn answering_now(self) -> Sim {
        Sim { answers_now: true, ..self }
    }

    /// The faults of the next calls.
    pub fn script(&self, faults: &[Fault]) {
        self.state.borrow_mut().script = faults.iter().copied().collect();
    }

    pub fn set_odds(&self, odds: Odds) {
        self.state.borrow_mut().odds = odds;
    }

    /// Unreachable for this many turns from now on.
    pub fn lose(&self, turns: u64) {
        let mut state = self.state.borrow_mut();
        state.lost_until = state.turn + turns;
    }

    pub fn put(&self, key: &[u8], value: &[u8], expiry: Expiry) -> u64 {
        let mut state = self.state.borrow_mut();
        state.put(key, 7, expiry, value.to_vec())
    }

    pub fn item(&self, key: &[u8]) -> Option<Item> {
        self.state.borrow().items.get(key).cloned()
    }

    pub fn keys(&self) -> Vec<Vec<u8>> {
        self.state.borrow().items.keys().cloned().collect()
    }

    pub fn evict(&self, key: &[u8]) {
        self.state.borrow_mut().items.remove(key);
    }

    fn note(&self, what: &str) {
        self.log.borrow_mut().push(format!("{} {what}", self.name));
    }

    async fn pause(&self) {
        let due = {
            let mut state = self.state.borrow_mut();
            let delay_turns = state.odds.delay_turns;
            state.turn + state.rng.below(delay_turns + 1)
        };
        poll_fn(|context| {
            let mut state = self.state.borrow_mut();
            if state.turn >= due {
                return Poll::Ready(());
            }
            state.sleepers.push((due, context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    async fn call(&self, key: &[u8], action: Action, value: &[u8], now: Now) -> Outcome<Chain> {
        self.note(&name_of(action));
        if self.state.borrow().is_lost() {
            return Outcome::Failed;
        }
        self.pause().await;
        let outcome = {
            let mut state = self.state.borrow_mut();
            if state.is_lost() {
                // It is in a queue, or it was never sent.
                if state.rng.below(2) == 0 {
                    state.late.push((key.to_vec(), action, value.to_vec()));
                }
                return Outcome::Failed;
            }
            state.carry_out(key, action, value, now)
        };
        self.pause().await;
        if self.state.borrow().is_lost() { Outcome::Failed } else { outcome }
    }
}

impl State {
    fn is_lost(&self) -> bool {
        self.lost_until > self.turn
    }

    fn put(&mut self, key: &[u8], flags: u32, expiry: Expiry, value: Vec<u8>) -> u64 {
        self.cas += 1;
        self.items.insert(key.to_vec(), Item { flags, expiry, cas: self.cas, value });
        self.cas
    }

    fn next_fault(&mut self) -> Fault {
        if let Some(fault) = self.script.pop_front() {
            return fault;
        }
        let Odds { before, after, out_of_memory, evict, .. } = self.odds;
        let drawn = self.rng.below(1000);
        [
            (before, Fault::Before),
            (after, Fault::After),
            (out_of_memory, Fault::OutOfMemory),
            (evict, Fault::Evicted),
        ]
        .into_iter()
        .scan(0, |sum, (odds, fault)| {
            *sum += odds;
            Some((*sum, fault))
        })
        .find(|(sum, _)| drawn < *sum)
        .map_or(Fault::None, |(_, fault)| fault)
    }

    fn carry_out(&mut self, key: &[u8], action: Action, value: &[u8], now: Now) -> Outcome<Chain> {
        let fault = self.next_fault();
        match fault {
            Fault::Before => Outcome::Failed,
            Fault::After => {
                self.lost_until = self.turn + LOST_TURNS;
                self.late.push((key.to_vec(), action, value.to_vec()));
                Outcome::Failed
            }
            Fault::OutOfMemory => match action {
                Action::Store(store) if store.cas == 0 && store.mode == StoreMode::Set => {
                    self.items.remove(key);
                    Outcome::OutOfMemory
                }
                Action::Store(Store { mode: StoreMode::Append | StoreMode::Prepend, .. }) => {
                    Outcome::NotStored
                }
                Action::Store(_) | Action::Arithmetic(_) => Outcome::OutOfMemory,
                _ => self.execute(key, action, value, now),
            },
            Fault::Evicted => {
                self.items.remove(key);
                self.execute(key, action, value, now)
            }
            Fault::None => self.execute(key, action, value, now),
        }
    }

    fn execute(&mut self, key: &[u8], action: Action, value: &[u8], now: Now) -> Outcome<Chain> {
        let now = Now { unix_s: now.unix_s - self.odds.behind_s, ..now };
        if self.flush_at.is_some_and(|at| at.is_past(now)) {
            self.flush_at = None;
            self.items.clear();
        }
        if self.items.get(key).is_some_and(|item| item.expiry.is_past(now)) {
            self.items.remove(key);
        }
        match action {
            Action::Store(store) => return self.store(key, store, value),
            Action::StoreTooLarge | Action::StoreNoRoom => {
                unreachable!("tiers do not get this action")
            }
            Action::FlushAll { at } => {
                if at == Expiry::NEVER || at.is_past(now) {
                    self.items.clear();
                } else {
                    self.flush_at = Some(at);
                }
                return Outcome::Flushed;
            }
            Action::Arithmetic(arithmetic) => return self.arithmetic(key, arithmetic),
            _ => {}
        }
        let Some(item) = self.items.get_mut(key) else { return Outcome::Miss };
        match action {
            Action::GetAndTouch { expiry } | Action::Touch { expiry } => item.expiry = expiry,
            Action::Delete { cas } if cas == 0 || cas == item.cas => {
                self.items.remove(key);
                return Outcome::Deleted;
            }
            Action::Delete { .. } => return Outcome::Exists,
            _ => {}
        }
        let Item { flags, expiry, cas, ref value } = *item;
        if let Action::Touch { .. } = action {
            return Outcome::Touched { cas };
        }
        Outcome::Hit(Hit {
            flags,
            expiry,
            cas,
            state: ItemState::default(),
            value: Chain::from_slice(value),
        })
    }

    fn store(&mut self, key: &[u8], store: Store, value: &[u8]) -> Outcome<Chain> {
        let old = self.items.get(key).cloned();
        let is_extension = matches!(store.mode, StoreMode::Append | StoreMode::Prepend);
        let Some(old) = old else {
            return match store.mode {
                _ if is_extension => Outcome::NotStored,
                _ if store.cas != 0 => Outcome::Miss,
                StoreMode::Replace => Outcome::NotStored,
                _ => Outcome::Stored {
                    cas: self.put(key, store.flags, store.expiry, value.to_vec()),
                },
            };
        };
        if store.cas != 0 && store.cas != old.cas {
            return Outcome::Exists;
        }
        let cas = match store.mode {
            StoreMode::Add if store.cas == 0 => return Outcome::NotStored,
            StoreMode::Append => self.put(key, old.flags, old.expiry, [&old.value, value].concat()),
            StoreMode::Prepend => {
                self.put(key, old.flags, old.expiry, [value, &old.value].concat())
            }
            _ => self.put(key, store.flags, store.expiry, value.to_vec()),
        };
        Outcome::Stored { cas }
    }

    fn arithmetic(&mut self, key: &[u8], arithmetic: Arithmetic) -> Outcome<Chain> {
        let Some(old) = self.items.get(key).cloned() else {
            let Some((value, expiry)) = arithmetic.initial else { return Outcome::Miss };
            let cas = self.put(key, 0, expiry, value.to_string().into_bytes());
            return Outcome::Number { value, cas };
        };
        if arithmetic.cas != 0 && arithmetic.cas != old.cas {
            return Outcome::Exists;
        }
        let text = String::from_utf8_lossy(&old.value).trim_end().to_string();
        let Ok(before) = text.parse::<u64>() else { return Outcome::NonNumeric };
        let value = if arithmetic.decrement {
            before.saturating_sub(arithmetic.delta)
        } else {
            before.wrapping_add(arithmetic.delta)
        };
        let digits = format!("{value:<width$}", width = old.value.len());
        let cas = self.put(key, old.flags, old.expiry, digits.into_bytes());
        Outcome::Number { value, cas }
    }

    /// Executes late operations, then invalidates keys.
    fn come_back(&mut self, now: Now) {
        self.lost_until = 0;
        for (key, action, value) in std::mem::take(&mut self.late) {
            self.execute(&key, action, &value, now);
        }
        for key in std::mem::take(&mut self.invalid) {
            self.items.remove(&key);
        }
    }
}

fn name_of(action: Action) -> String {
    match action {
        Action::Get => "get".into(),
        Action::GetWithExpiry => "gete".into(),
        Action::GetAndTouch { .. } => "gat".into(),
        Action::Store(store) => {
            let conditional = if store.cas == 0 { "" } else { "-cas" };
            format!("{:?}{conditional}", store.mode).to_lowercase()
        }
        Action::Meta(_) => "meta".into(),
        Action::StoreTooLarge => "too-large".into(),
        Action::StoreNoRoom => "no-room".into(),
        Action::Delete { cas: 0 } => "delete".into(),
        Action::Delete { .. } => "delete-cas".into(),
        Action::Touch { .. } => "touch".into(),
        Action::Arithmetic(arithmetic) if arithmetic.cas == 0 => "arithmetic".into(),
        Action::Arithmetic(_) => "arithmetic-cas".into(),
        Action::FlushAll { .. } => "flush".into(),
        Action::Dump { .. } => "dump".into(),
    }
}

impl Tier for Sim {
    type Value = Chain;

    fn try_now(
        &self,
        key: &[u8],
        action: Action,
        _value: Body<'_>,
        now: Now,
    ) -> Option<Outcome<Chain>> {
        let mut state = self.state.borrow_mut();
        let is_now = self.answers_now && !state.is_lost();
        is_now.then(|| state.execute(key, action, b"", now))
    }

    async fn get(&self, key: &Key, now: Now) -> Outcome<Chain> {
        self.call(key.as_bytes(), Action::Get, b"", now).await
    }

    async fn get_with_expiry(&self, key: &Key, now: Now) -> Outcome<Chain> {
        self.call(key.as_bytes(), Action::GetWithExpiry, b"", now).await
    }

    async fn get_and_touch(&self, key: &Key, expiry: Expiry, now: Now) -> Outcome<Chain> {
        self.call(key.as_bytes(), Action::GetAndTouch { expiry }, b"", now).await
    }

    async fn store(&self, key: &Key, store: Store, value: &Chain, now: Now) -> Outcome<Chain> {
        self.call(key.as_bytes(), Action::Store(store), &value.to_vec(), now).await
    }

    async fn delete(&self, key: &Key, cas: u64, now: Now) -> Outcome<Chain> {
        self.call(key.as_bytes(), Action::Delete { cas }, b"", now).await
    }

    async fn touch(&self, key: &Key, expiry: Expiry, now: Now) -> Outcome<Chain> {
        self.call(key.as_bytes(), Action::Touch { expiry }, b"", now).await
    }

    async fn arithmetic(&self, key: &Key, arithmetic: Arithmetic, now: Now) -> Outcome<Chain> {
        self.call(key.as_bytes(), Action::Arithmetic(arithmetic), b"", now).await
    }

    async fn flush_all(&self, at: Expiry, now: Now) -> Outcome<Chain> {
        self.call(b"", Action::FlushAll { at }, b"", now).await
    }

    async fn invalidate(&self, key: &Key, _now: Now) {
        self.note("invalidate");
        if !self.state.borrow().is_lost() {
            self.pause().await;
        }
        let mut state = self.state.borrow_mut();
        if state.is_lost() {
            state.invalid.push(key.as_bytes().to_vec());
        } else {
            state.items.remove(key.as_bytes());
        }
    }

    fn turn(&self, now: Now) -> usize {
        let mut state = self.state.borrow_mut();
        state.turn += 1;
        if state.lost_until != 0 && !state.is_lost() {
            state.come_back(now);
        }
        let turn = state.turn;
        let woken: Vec<_> = state.sleepers.extract_if(.., |(due, _)| *due <= turn).collect();
        drop(state);
        let count = woken.len();
        woken.into_iter().for_each(|(_, waker)| waker.wake());
        count
    }

    fn flush(&self, _now: Now) {}

    fn wake_at_us(&self) -> u64 {
        u64::MAX
    }

    fn finish(&self, _clock: &Clock) -> bool {
        true
    }
}
