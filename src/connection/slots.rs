//! Requests in flight: one slot each, in one table per worker, linked into one queue per
//! connection.
//!
//! A queue is in the order of the requests; replies are written from its front. The table is
//! allocated at start and never grows, and a slot whose connection has closed is kept until its
//! outcome arrives, so that no late outcome is taken for another request's.

use crate::base::buffer::{Chain, Gather, Key};
use crate::base::clock::Now;
use crate::base::latency::{THINNED, Verb};
use crate::base::limits::SLOTS_RESERVED;
use crate::net::ConnectionId;
use crate::orchestrator::Operation;
use crate::protocol::text::MetaReply;
use crate::protocol::{Fixed, Form, Head};
use crate::tier::{Draft, Outcome};

/// What became of a submitted operation.
#[derive(Debug)]
pub enum Submitted<V> {
    /// Its outcome.
    Done(Outcome<V>),
    /// This many outcomes will be given to [`Slots::complete`].
    Waiting(u8),
}

/// Weight of the room for arriving values in [`may_add`]: a fraction (1/n) of it.
pub const BODY_WEIGHT_SHARE: usize = 96;

/// Weight of the input kept while the output is blocked in [`may_add`], in bytes.
pub const INTAKE_WEIGHT_BYTES: usize = 1024 * 1024;

/// Weight of slots in [`may_add`]: one connection alone may have 850, 200 greedy ones leave a
/// third.
pub const SLOTS_WEIGHT: usize = 64;

/// Evenly shares a scarce resource. A connection that holds `own` of it, of which `used` is taken
/// and `free` is left, may take more while `own * used < weight * free`. While plenty is free, each
/// may take much. The less is free, the less may a holder add, until only connections that hold
/// nothing can take some. So the free part shrinks by one part in `total / weight` with each greedy
/// connection, and a late one still finds some.
pub const fn may_add(own: usize, used: usize, free: usize, weight: usize) -> bool {
    own * used < weight * free
}

/// The destination of the bytes of a value that is too long to wait in its stream.
#[derive(Debug)]
pub enum Arriving {
    /// Blocks, which are passed to the store when the value is complete.
    Chain(Gather),
    /// Their final place.
    Draft {
        /// The item that is being created.
        draft: Draft,
        /// Bytes received so far.
        filled: usize,
    },
}

/// What a reply repeats of its request.
#[derive(Debug)]
pub struct Repeated {
    /// The key.
    pub key: Key,
    /// Of a meta command.
    pub meta: Option<MetaReply>,
}

impl Repeated {
    /// What `form` needs of a request with this key; `meta` is that of a meta command.
    #[inline]
    pub fn of(form: Form, key: &Key, meta: Option<&MetaReply>) -> Option<Repeated> {
        form.needs_key().then(|| Repeated { key: key.clone(), meta: meta.cloned() })
    }
}

/// The content of a slot.
#[derive(Debug)]
pub enum Content<V> {
    /// The slot is free.
    Free,
    /// A store whose value is still arriving.
    Gathering {
        /// The store, its value still empty.
        operation: Operation,
        /// How its outcome goes out.
        form: Form,
        /// The same of a meta command.
        meta: Option<MetaReply>,
        /// The received part of the value.
        value: Arriving,
    },
    /// The operation is in flight.
    Waiting {
        /// How its outcome goes out.
        form: Form,
        /// What the form needs of the request.
        repeated: Option<Repeated>,
        /// Outstanding outcomes: more than one if every worker was asked.
        outcomes: u8,
        /// What is left to be written of a value whose next piece is on its way, in bytes.
        left_bytes: usize,
    },
    /// The outcome is known and not completely written.
    Ready {
        /// How it is encoded.
        form: Form,
        /// What the form needs of the request.
        repeated: Option<Repeated>,
        /// The outcome.
        outcome: Outcome<V>,
    },
    /// The reply was encoded when the request was parsed, and is not completely written.
    Encoded {
        /// The part before the value.
        head: Head,
        /// The value of a hit.
        value: Option<V>,
        /// The part after it.
        tail: &'static [u8],
    },
    /// A reply that needs no tier.
    Fixed(Fixed),
    /// A long reply that needs no tier.
    Bytes(Chain),
}

impl<V> Content<V> {
    /// What is known of an operation's reply.
    #[inline]
    pub fn submitted(
        form: Form,
        repeated: Option<Repeated>,
        submitted: Submitted<V>,
    ) -> Content<V> {
        match submitted {
            Submitted::Done(outcome) => Content::Ready { form, repeated, outcome },
            Submitted::Waiting(outcomes) => {
                Content::Waiting { form, repeated, outcomes, left_bytes: 0 }
            }
        }
    }
}

/// How long a request waited.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// What was asked for.
    pub verb: Verb,
    /// In microseconds.
    pub us: u64,
    /// The number of requests that it stands for.
    pub weight: u64,
}

/// One request.
#[derive(Debug)]
struct Slot<V> {
    content: Content<V>,
    /// None after the connection has closed.
    connection: Option<ConnectionId>,
    /// When a request began to wait that is measured, as an uptime in microseconds, above its verb;
    /// 0: there is none.
    asked: u64,
    next: u32,
}

const NONE: u32 = u32::MAX;

/// Low bits of [`Slot::asked`], which hold the verb.
const VERB_BITS: u32 = 4;
const VERB_MASK: u64 = (1 << VERB_BITS) - 1;
/// The bit above: it counts as [`THINNED`].
const THINNED_BIT: u64 = 1 << VERB_BITS;
const TIME_SHIFT: u32 = VERB_BITS + 1;
const _: () = assert!(Verb::ALL.len() <= 1 << VERB_BITS);

/// The slots of one connection, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    first: u32,
    last: u32,
    len: u32,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue::new()
    }
}

impl Queue {
    /// An empty queue.
    pub const fn new() -> Queue {
        Queue { first: NONE, last: NONE, len: 0 }
    }

    /// The oldest slot.
    pub fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    /// The newest slot.
    pub fn last(&self) -> Option<u32> {
        (self.last != NONE).then_some(self.last)
    }

    /// Whether no request is in flight.
    pub fn is_empty(&self) -> bool {
        self.first == NONE
    }

    /// Requests in flight.
    pub fn len(&self) -> usize {
        self.len as usize
    }
}

/// All slots of a worker.
#[derive(Debug)]
pub struct Slots<V> {
    slots: Vec<Slot<V>>,
    free: Vec<u32>,
}

impl<V> Slots<V> {
    /// A table of `count` free slots.
    pub fn new(count: usize) -> Slots<V> {
        let count = u32::try_from(count).expect("a limit from base/limits");
        Slots {
            slots: (0..count)
                .map(|_| Slot { content: Content::Free, connection: None, asked: 0, next: NONE })
                .collect(),
            free: (0..count).rev().collect(),
        }
    }

    /// The slot that [`Slots::push`] takes next; None if all are in use.
    pub fn next_free(&self) -> Option<u32> {
        self.free.last().copied()
    }

    /// Whether a connection that has `own` slots may take another: at most its share of the free
    /// ones, so that others find some.
    #[inline]
    pub fn has_room(&self, own: usize) -> bool {
        let free = self.free.len();
        let used = self.slots.len() - free;
        let spare = free.saturating_sub(SLOTS_RESERVED);
        may_add(own, used, spare, SLOTS_WEIGHT) || (own == 0 && free > 0)
    }

    /// Slots in use.
    #[inline]
    pub fn in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Takes the next free slot for the newest request of `connection`.
    ///
    /// # Panics
    /// If there is none: check [`Slots::next_free`] first.
    pub fn push(
        &mut self,
        queue: &mut Queue,
        connection: ConnectionId,
        content: Content<V>,
    ) -> u32 {
        let index = self.free.pop().expect("the caller checked next_free");
        let slot = &mut self.slots[index as usize];
        slot.content = content;
        slot.connection = Some(connection);
        slot.next = NONE;
        if queue.last == NONE {
            queue.first = index;
        } else {
            self.slots[queue.last as usize].next = index;
        }
        queue.last = index;
        queue.len += 1;
        index
    }

    /// Frees the oldest slot of a queue, whose reply was written.
    pub fn pop(&mut self, queue: &mut Queue) {
        let index = queue.first;
        let slot = &mut self.slots[index as usize];
        slot.content = Content::Free;
        slot.connection = None;
        queue.first = slot.next;
        if queue.first == NONE {
            queue.last = NONE;
        }
        queue.len -= 1;
        self.free.push(index);
    }

    /// The content of a slot.
    pub fn content(&self, index: u32) -> &Content<V> {
        &self.slots[index as usize].content
    }

    /// The connection of a slot, if it is open.
    pub fn connection(&self, index: u32) -> Option<ConnectionId> {
        self.slots[index as usize].connection
    }

    /// The content of a slot.
    pub fn content_mut(&mut self, index: u32) -> &mut Content<V> {
        &mut self.slots[index as usize].content
    }

    /// Notes that the request that takes the next free slot, or has this one, begins to wait.
    #[inline]
    pub fn ask(&mut self, index: u32, verb: Verb, weight: u32, now: Now) {
        let thinned = u64::from(weight > 1) << VERB_BITS;
        let asked = now.uptime_us << TIME_SHIFT | thinned | verb as u64;
        self.slots[index as usize].asked = asked;
    }

    /// The same for one that is not measured.
    #[inline]
    pub fn ask_unmeasured(&mut self, index: u32) {
        self.slots[index as usize].asked = 0;
    }

    /// What waited in a slot, for how many microseconds, and what that counts as, if it is to be
    /// measured: once.
    #[inline]
    pub fn take_wait(&mut self, index: u32, now: Now) -> Option<Wait> {
        match std::mem::take(&mut self.slots[index as usize].asked) {
            0 => None,
            asked => {
                let verb = Verb::ALL[(asked & VERB_MASK) as usize];
                let us = now.uptime_us.saturating_sub(asked >> TIME_SHIFT);
                let weight = if asked & THINNED_BIT == 0 { 1 } else { u64::from(THINNED) };
                Some(Wait { verb, us, weight })
            }
        }
    }

    /// Notes an outcome of a waiting slot. Returns the connection that can continue, if it is open
    /// and waits for no further outcome.
    pub fn complete(&mut self, index: u32, outcome: Outcome<V>) -> Option<ConnectionId> {
        let slot = &mut self.slots[index as usize];
        let Content::Waiting { form, repeated, outcomes, .. } = &mut slot.content else {
            unreachable!("an outcome arrives only for a waiting slot");
        };
        *outcomes -= 1;
        if *outcomes > 0 {
            return None;
        }
        let Some(connection) = slot.connection else {
            slot.content = Content::Free;
            self.free.push(index);
            return None;
        };
        slot.content = Content::Ready { form: *form, repeated: repeated.take(), outcome };
        Some(connection)
    }

    /// The hit of a reply that has not begun was lost: a cache may always miss.
    #[cold]
    pub fn make_miss(&mut self, index: u32) {
        if let Content::Ready { outcome, .. } = self.content_mut(index) {
            *outcome = Outcome::Miss;
        }
    }

    /// The connection has closed: frees its slots, waiting ones when their outcome arrives.
    pub fn abandon(&mut self, queue: Queue) {
        let mut index = queue.first;
        while index != NONE {
            let slot = &mut self.slots[index as usize];
            let next = slot.next;
            slot.connection = None;
            if !matches!(slot.content, Content::Waiting { .. }) {
                slot.content = Content::Free;
                self.free.push(index);
            }
            index = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::text;

    const ID: ConnectionId = ConnectionId { index: 1, generation: 2 };

    fn waiting(outcomes: u8) -> Content<Chain> {
        let form = Form::Text(text::Form::Line);
        Content::Waiting { form, repeated: None, outcomes, left_bytes: 0 }
    }

    #[test]
    fn slots_are_freed_in_order() {
        let mut slots = Slots::<Chain>::new(3);
        let mut queue = Queue::new();
        let a = slots.push(&mut queue, ID, waiting(1));
        let b = slots.push(&mut queue, ID, Content::Fixed(Fixed::NONE));
        assert_eq!(queue.len(), 2);
        assert_eq!(queue.first(), Some(a));
        assert_eq!(slots.complete(a, Outcome::Miss), Some(ID));
        slots.pop(&mut queue);
        assert_eq!(queue.first(), Some(b));
        slots.pop(&mut queue);
        assert!(queue.is_empty());
        assert_eq!(slots.in_use(), 0);
    }

    #[test]
    fn a_greedy_connection_leaves_slots_to_the_next() {
        // (connections that take all they can one after the other, slots that another finds at
        // least)
        for (greedy, least) in [(0, 800), (1, 500), (10, 150), (110, 20), (300, 5), (4_000, 1)] {
            let mut slots = Slots::<Chain>::new(16_384);
            for nth in 0..=greedy {
                let mut queue = Queue::new();
                while slots.has_room(queue.len()) && queue.len() < 1024 {
                    slots.push(&mut queue, ID, Content::Fixed(Fixed::NONE));
                }
                let found = queue.len();
                assert!(nth < greedy || found >= least, "{greedy}: {found} for another");
            }
        }
    }

    #[test]
    fn an_abandoned_slot_is_freed_when_its_outcome_arrives() {
        let mut slots = Slots::<Chain>::new(3);
        let mut queue = Queue::new();
        let a = slots.push(&mut queue, ID, waiting(2));
        slots.push(&mut queue, ID, Content::Fixed(Fixed::NONE));
        slots.abandon(queue);
        assert_eq!(slots.in_use(), 1);
        assert_eq!(slots.complete(a, Outcome::Flushed), None);
        assert_eq!(slots.in_use(), 1, "another outcome is outstanding");
        assert_eq!(slots.complete(a, Outcome::Flushed), None);
        assert_eq!(slots.in_use(), 0);
    }
}
