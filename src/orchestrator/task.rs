//! The task executor of one worker, and the queues that serialize the operations on each key.
//!
//! An operation's future is created in a slot allocated at start, and polled there once
//! immediately: an operation that needs no waiting finishes there and never becomes a task. One
//! that waits stays in its slot and is polled again when it is woken. There is no allocation per
//! operation, no runtime, and the order depends on nothing but the inputs.
//!
//! Gets that are queued directly behind a get of the same key when that one starts share its
//! outcome: it reads the tier after they arrived, and no other operation lies between them. Many
//! concurrent gets of one key therefore do not each cost a round trip to the tier.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crossbeam_queue::ArrayQueue;

use super::{Action, InL1, Operation};
use crate::base::clock::Now;
use crate::base::limits::{SHARERS_MAX, WORK_BYTES_PER_TURN};
use crate::base::spent::{self, Times};
use crate::base::work;

/// The state of an operation after it was passed to the executor.
#[derive(Debug)]
pub enum Execution<T> {
    /// It has finished.
    Done(T),
    /// It waits; [`Executor::run_woken`] passes on its outcome.
    Waiting,
}

struct SlotWaker {
    index: u32,
    is_woken: AtomicBool,
    woken: Arc<ArrayQueue<u32>>,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<SlotWaker>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<SlotWaker>) {
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            let is_queued = self.woken.push(self.index).is_ok();
            assert!(is_queued, "one place a task, and each is queued at most once");
        }
    }
}

struct Slot<F, T> {
    future: Pin<Box<Option<F>>>,
    waker: Waker,
    state: Arc<SlotWaker>,
    key_hash: u64,
    origin: Option<T>,
    /// How many of the operations queued behind it share its outcome.
    sharers: usize,
    /// Where its time goes, while somebody watches.
    times: Times,
}

impl<F: Future, T> Slot<F, T> {
    /// Polls its operation; None: it has none.
    #[inline(always)]
    fn poll(&mut self) -> Option<Poll<F::Output>> {
        let future = self.future.as_mut().as_pin_mut()?;
        let mut context = Context::from_waker(&self.waker);
        if !spent::is_watched() {
            return Some(future.poll(&mut context));
        }
        self.times.begin();
        let polled = future.poll(&mut context);
        self.times.end(polled.is_ready());
        Some(polled)
    }
}

/// An operation behind another one on the same key.
struct Queued<T> {
    operation: Operation,
    origin: T,
    next: u32,
}

/// First and last of the operations queued behind the running one.
#[derive(Clone, Copy)]
struct Line {
    first: u32,
    last: u32,
}

const NONE: u32 = u32::MAX;

/// Executes the operations on the keys that one worker owns: those on one key in order of arrival,
/// those on different keys concurrently. `T` identifies the destination of an outcome.
pub struct Executor<F, M, T> {
    make: M,
    slots: Vec<Slot<F, T>>,
    free: Vec<u32>,
    woken: Arc<ArrayQueue<u32>>,
    busy: HashMap<u64, Line>,
    queued: Vec<Option<Queued<T>>>,
    queued_free: Vec<u32>,
}

/// Whether the two are the same get. Keys are compared too: a queue is by hash.
fn are_alike(one: &Operation, other: &Operation) -> bool {
    matches!((one.action, other.action), (Action::Get, Action::Get))
        && one.port == other.port
        && one.key == other.key
}

impl<F, M, T> Executor<F, M, T>
where
    F: Future,
    M: FnMut(Operation, Now) -> F,
{
    /// An executor that runs up to `tasks_max` operations concurrently, and queues as many behind
    /// them. `make` turns an operation into its future.
    pub fn new(tasks_max: usize, make: M) -> Executor<F, M, T> {
        let count = u32::try_from(tasks_max).expect("a limit from base/limits");
        let woken = Arc::new(ArrayQueue::new(tasks_max));
        let slots = (0..count)
            .map(|index| {
                let state = Arc::new(SlotWaker {
                    index,
                    is_woken: AtomicBool::new(false),
                    woken: Arc::clone(&woken),
                });
                Slot {
                    future: Box::pin(None),
                    waker: Waker::from(Arc::clone(&state)),
                    state,
                    key_hash: 0,
                    origin: None,
                    sharers: 0,
                    times: Times::default(),
                }
            })
            .collect();
        Executor {
            make,
            slots,
            free: (0..count).rev().collect(),
            woken,
            busy: HashMap::with_capacity(tasks_max),
            queued: std::iter::repeat_with(|| None).take(tasks_max).collect(),
            queued_free: (0..count).rev().collect(),
        }
    }

    /// Whether any operation is in flight.
    pub fn is_busy_at_all(&self) -> bool {
        !self.busy.is_empty()
    }

    /// Whether an operation on a key with this hash is in flight, so that others queue behind it.
    pub fn is_busy(&self, key_hash: u64) -> bool {
        !self.busy.is_empty() && self.busy.contains_key(&key_hash)
    }

    /// Whether `more` more operations can be accepted.
    #[inline]
    pub fn has_room(&self, more: usize) -> bool {
        self.free.len() >= more && self.queued_free.len() >= more
    }

    /// Whether [`Executor::run_woken`] has something to do.
    pub fn has_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    /// Operations that wait or are queued.
    #[cfg(feature = "internals")]
    pub fn pending(&self) -> usize {
        (self.slots.len() - self.free.len()) + (self.queued.len() - self.queued_free.len())
    }

    /// Executes `operation`, or queues it behind the one that runs on the same key.
    ///
    /// # Panics
    /// If there is no room: check [`Executor::has_room`] first.
    #[inline]
    pub fn execute(
        &mut self,
        operation: Operation,
        key_hash: u64,
        origin: T,
        now: Now,
    ) -> Execution<F::Output> {
        if !self.busy.is_empty()
            && let Some(&line) = self.busy.get(&key_hash)
        {
            self.enqueue(operation, key_hash, origin, line);
            return Execution::Waiting;
        }
        match self.poll_first(operation, now) {
            Ok(output) => Execution::Done(output),
            Err(index) => {
                self.park(index, key_hash, origin);
                Execution::Waiting
            }
        }
    }

    /// Polls the woken tasks, and the operations queued behind those that finish. Each outcome is
    /// passed to `done`. Returns how many finished. Bounded by the tasks woken on entry and those
    /// queued behind them, and by [`WORK_BYTES_PER_TURN`]: the rest stays woken.
    ///
    /// `share` copies the outcome of a get for another get of the key; None: it cannot be copied.
    pub fn run_woken(
        &mut self,
        now: Now,
        share: impl Fn(&F::Output) -> Option<F::Output>,
        mut done: impl FnMut(T, F::Output),
    ) -> usize {
        let mut finished = 0;
        let work_before = work::bytes();
        for _ in 0..self.woken.len() {
            if work::since(work_before) > WORK_BYTES_PER_TURN {
                break;
            }
            let Some(index) = self.woken.pop() else { break };
            let slot = &mut self.slots[index as usize];
            slot.state.is_woken.store(false, Ordering::Release);
            // None: woken after it had finished.
            let Some(Poll::Ready(output)) = slot.poll() else { continue };
            slot.future.as_mut().set(None);
            let key_hash = slot.key_hash;
            let origin = slot.origin.take().expect("a parked task has an origin");
            let sharers = std::mem::take(&mut slot.sharers);
            self.free.push(index);
            for _ in 0..sharers {
                let Some(shared) = share(&output) else { break };
                let sharer = self.take_next(key_hash).expect("they are first in line");
                done(sharer.origin, shared);
                finished += 1;
            }
            done(origin, output);
            finished += 1 + self.advance(key_hash, now, work_before, &mut done);
        }
        finished
    }

    /// Takes the first operation queued on a key.
    fn take_next(&mut self, key_hash: u64) -> Option<Queued<T>> {
        let line = self.busy.get_mut(&key_hash).expect("a parked task's key is busy");
        let place = line.first;
        if place == NONE {
            return None;
        }
        let queued = self.queued[place as usize].take().expect("linked");
        line.first = queued.next;
        self.queued_free.push(place);
        Some(queued)
    }

    /// How many operations queued from `place` on are the same get as `operation`.
    fn sharers(&self, operation: &Operation, mut place: u32) -> usize {
        for sharers in 0..SHARERS_MAX {
            let queued = self.queued.get(place as usize).and_then(Option::as_ref);
            match queued.filter(|queued| are_alike(&queued.operation, operation)) {
                Some(queued) => place = queued.next,
                None => return sharers,
            }
        }
        SHARERS_MAX
    }

    /// Runs operations queued on a key until one waits, none is left, or the turn's budget is used
    /// up.
    fn advance(
        &mut self,
        key_hash: u64,
        now: Now,
        work_before: u64,
        done: &mut impl FnMut(T, F::Output),
    ) -> usize {
        let mut finished = 0;
        loop {
            let Some(queued) = self.take_next(key_hash) else {
                self.busy.remove(&key_hash);
                return finished;
            };
            let sharers = self.sharers(&queued.operation, queued.next);
            let polled = if work::since(work_before) > WORK_BYTES_PER_TURN {
                Err(self.begin_later(queued.operation, now))
            } else {
                self.poll_first(queued.operation, now)
            };
            match polled {
                Ok(output) => {
                    done(queued.origin, output);
                    finished += 1;
                }
                Err(index) => {
                    let slot = &mut self.slots[index as usize];
                    slot.key_hash = key_hash;
                    slot.origin = Some(queued.origin);
                    slot.sharers = sharers;
                    return finished;
                }
            }
        }
    }

    /// Creates the future in the next free slot and polls it. On Err it stays in that slot, which
    /// is then in use.
    #[inline]
    fn poll_first(&mut self, operation: Operation, now: Now) -> Result<F::Output, u32> {
        let index = *self.free.last().expect("the caller checked has_room");
        let slot = &mut self.slots[index as usize];
        slot.future.as_mut().set(Some((self.make)(operation, now)));
        slot.times.forget();
        match slot.poll().expect("set above") {
            Poll::Ready(output) => {
                slot.future.as_mut().set(None);
                Ok(output)
            }
            Poll::Pending => {
                self.free.pop();
                Err(index)
            }
        }
    }

    /// Creates the future in the next free slot, which is then in use, and wakes it for the next
    /// turn.
    fn begin_later(&mut self, operation: Operation, now: Now) -> u32 {
        let index = self.free.pop().expect("what ran before has left its slot");
        let slot = &mut self.slots[index as usize];
        slot.future.as_mut().set(Some((self.make)(operation, now)));
        slot.times.forget();
        slot.waker.wake_by_ref();
        index
    }

    fn park(&mut self, index: u32, key_hash: u64, origin: T) {
        let slot = &mut self.slots[index as usize];
        slot.key_hash = key_hash;
        slot.origin = Some(origin);
        self.busy.insert(key_hash, Line { first: NONE, last: NONE });
    }

    fn enqueue(&mut self, operation: Operation, key_hash: u64, origin: T, line: Line) {
        let place = self.queued_free.pop().expect("the caller checked has_room");
        // Operations before it may change the result.
        let operation = Operation { in_l1: InL1::Unasked, ..operation };
        self.queued[place as usize] = Some(Queued { operation, origin, next: NONE });
        let first = if line.first == NONE {
            place
        } else {
            self.queued[line.last as usize].as_mut().expect("linked").next = place;
            line.first
        };
        self.busy.insert(key_hash, Line { first, last: place });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::buffer::Key;
    use crate::orchestrator::PortRole;
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::rc::Rc;

    /// Futures that finish when told to, in any order.
    #[derive(Default)]
    struct Gates {
        open: RefCell<HashMap<usize, bool>>,
        wakers: RefCell<HashMap<usize, Waker>>,
        log: RefCell<Vec<usize>>,
    }

    impl Gates {
        async fn pass(self: Rc<Gates>, id: usize) -> usize {
            std::future::poll_fn(|context| {
                if self.open.borrow().get(&id).copied().unwrap_or(false) {
                    Poll::Ready(())
                } else {
                    self.wakers.borrow_mut().insert(id, context.waker().clone());
                    Poll::Pending
                }
            })
            .await;
            self.log.borrow_mut().push(id);
            id
        }

        fn open(&self, id: usize) {
            self.open.borrow_mut().insert(id, true);
            if let Some(waker) = self.wakers.borrow_mut().remove(&id) {
                waker.wake();
            }
        }
    }

    fn operation() -> Operation {
        Operation::new(Key::EMPTY, Action::Get)
    }

    #[test]
    fn an_operation_that_needs_no_waiting_finishes_immediately() {
        let mut executor = Executor::<_, _, ()>::new(4, |_, _| async { 7 });
        for _ in 0..100 {
            assert!(matches!(
                executor.execute(operation(), 1, (), Now::default()),
                Execution::Done(7)
            ));
        }
        assert_eq!(executor.pending(), 0);
    }

    #[test]
    fn operations_on_one_key_run_in_order_and_others_concurrently() {
        let gates = Rc::new(Gates::default());
        let ids = RefCell::new(VecDeque::from([0, 10, 1, 2]));
        let mut executor = Executor::<_, _, usize>::new(4, |_, _| {
            let id = ids.borrow_mut().pop_front().expect("one a start");
            Rc::clone(&gates).pass(id)
        });
        let now = Now::default();
        // Futures are created when first polled: key 5 gets 0, then 1 and 2; key 6 gets 10.
        assert!(matches!(executor.execute(operation(), 5, 0, now), Execution::Waiting));
        assert!(matches!(executor.execute(operation(), 5, 1, now), Execution::Waiting));
        assert!(matches!(executor.execute(operation(), 5, 2, now), Execution::Waiting));
        assert!(matches!(executor.execute(operation(), 6, 10, now), Execution::Waiting));
        assert_eq!(executor.pending(), 4);
        gates.open(2);
        gates.open(1);
        gates.open(10);
        let mut out = Vec::new();
        executor.run_woken(now, |_| None, |origin, id| out.push((origin, id)));
        assert_eq!(out, [(10, 10)]);
        gates.open(0);
        executor.run_woken(now, |_| None, |origin, id| out.push((origin, id)));
        assert_eq!(out, [(10, 10), (0, 0), (1, 1), (2, 2)]);
        assert_eq!(executor.pending(), 0);
        assert!(executor.has_room(1));
    }

    #[test]
    fn a_turn_ends_when_its_budget_is_used_up_and_the_rest_follows_in_order() {
        let gates = Rc::new(Gates::default());
        let ids = RefCell::new(0..100);
        let mut executor = Executor::<_, _, usize>::new(16, |_, _| {
            let id = ids.borrow_mut().next().expect("one a start");
            let passed = Rc::clone(&gates).pass(id);
            async {
                let id = passed.await;
                work::note(WORK_BYTES_PER_TURN * 2 / 3);
                id
            }
        });
        (1..100).for_each(|id| gates.open(id));
        let now = Now::default();
        for origin in 0..10 {
            assert!(matches!(executor.execute(operation(), 5, origin, now), Execution::Waiting));
        }
        gates.open(0);
        let mut out = Vec::new();
        for turn in 1..=5 {
            assert!(executor.has_woken());
            executor.run_woken(now, |_| None, |origin, id| out.push((origin, id)));
            // The one that exceeds the budget is the last of its turn.
            assert_eq!(out.len(), 2 * turn, "after turn {turn}");
        }
        assert_eq!(out, (0..10).map(|n| (n, n)).collect::<Vec<_>>());
        assert_eq!((executor.pending(), executor.has_woken()), (0, false));
    }

    #[test]
    fn gets_queued_behind_another_when_it_starts_share_its_outcome() {
        let gates = Rc::new(Gates::default());
        let made = RefCell::new(0);
        let mut executor = Executor::<_, _, &str>::new(16, |_, _| {
            *made.borrow_mut() += 1;
            Rc::clone(&gates).pass(*made.borrow())
        });
        let now = Now::default();
        let of = |action, key: &[u8]| Operation::new(Key::new(key).expect("short"), action);
        let get = |key: &[u8]| of(Action::Get, key);
        let batch = Operation { port: PortRole::Batch, ..get(b"k") };
        let set = of(Action::Delete { cas: 0 }, b"k");
        // All have one hash; `other` is a different key nevertheless.
        let asked = [
            ("a", get(b"k")),
            ("b", get(b"k")),
            ("c", get(b"k")),
            ("d", get(b"k")),
            ("e", get(b"other")),
            ("f", get(b"k")),
            ("g", batch),
            ("h", set),
            ("i", get(b"k")),
            ("j", get(b"k")),
        ];
        for (origin, operation) in asked {
            assert!(matches!(executor.execute(operation, 5, origin, now), Execution::Waiting));
        }
        let mut told = Vec::new();
        for id in 1..=7 {
            assert_eq!(*made.borrow(), id, "one after another");
            gates.open(id);
            executor.run_woken(now, |id| Some(*id), |origin, id| told.push((origin, id)));
            if id == 2 {
                // Too late for the running one: it may have read already.
                assert!(matches!(executor.execute(get(b"k"), 5, "k", now), Execution::Waiting));
            }
        }
        told.sort_unstable();
        let numbers = [1, 2, 2, 2, 3, 4, 5, 6, 7, 7, 7];
        let origins = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];
        let expected: Vec<_> = origins.into_iter().zip(numbers).collect();
        assert_eq!(told, expected);
        assert_eq!((executor.pending(), *made.borrow()), (0, 7));
    }

    #[test]
    fn an_outcome_that_cannot_be_shared_is_requested_again() {
        let gates = Rc::new(Gates::default());
        let made = RefCell::new(0);
        let mut executor = Executor::<_, _, usize>::new(16, |_, _| {
            *made.borrow_mut() += 1;
            Rc::clone(&gates).pass(*made.borrow())
        });
        let now = Now::default();
        for origin in 0..4 {
            assert!(matches!(executor.execute(operation(), 5, origin, now), Execution::Waiting));
        }
        let mut told = Vec::new();
        for id in 1..=4 {
            gates.open(id);
            executor.run_woken(now, |_| None, |origin, id| told.push((origin, id)));
        }
        assert_eq!(told, [(0, 1), (1, 2), (2, 3), (3, 4)]);
    }

    #[test]
    fn a_full_executor_has_no_room() {
        let gates = Rc::new(Gates::default());
        let mut executor = Executor::<_, _, u64>::new(2, |_, _| Rc::clone(&gates).pass(99));
        assert!(executor.has_room(1));
        for hash in 0..2 {
            assert!(matches!(
                executor.execute(operation(), hash, hash, Now::default()),
                Execution::Waiting
            ));
        }
        assert!(!executor.has_room(1));
        gates.open(99);
    }
}
