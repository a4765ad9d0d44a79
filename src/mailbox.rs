//! How workers send operations to the owner of a key and receive the outcomes.
//!
//! Between any two workers there is one ring for operations and one for outcomes in each direction,
//! single producer and single consumer, of fixed size. A worker never has more operations
//! outstanding at another than the rings hold, so a push cannot fail and no worker waits for room.

use std::sync::{Arc, OnceLock};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::base::buffer::Chain;
use crate::base::latency::Level;
use crate::base::limits::{MAILBOX_BUDGET_MESSAGES, REMOTE_OPERATIONS_MAX};
use crate::base::lines::LineWriter;
use crate::base::spent::Spent;
use crate::orchestrator::Operation;
use crate::protocol::watch::Wanted;
use crate::tier::Outcome;

/// A request to another worker.
#[derive(Debug)]
pub struct RemoteRequest {
    /// The sender's slot for it; the answer contains it.
    pub slot: u32,
    /// The work.
    pub job: Job,
}

/// The work requested of another worker.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "rings hold them in place; a box would allocate")]
pub enum Job {
    /// Execute an operation on a key that it owns.
    Execute {
        /// The hash that made it the owner.
        key_hash: u64,
        /// The operation.
        operation: Operation,
    },
    /// Copy a piece of a lent hit; the last piece ends the loan.
    Fetch {
        /// The owner's number for the hit.
        loan: u32,
        /// Where in the value the piece begins.
        offset: usize,
        /// Length of the piece, at most the rest of the value.
        bytes: usize,
    },
    /// End a loan; the hit is no longer needed.
    Return(u32),
    /// Tell a watcher of what it wants to see.
    Watch {
        /// That.
        wanted: Wanted,
        /// Where the lines go.
        lines: LineWriter,
    },
    /// List a piece of its connections.
    List {
        /// Where the piece begins.
        from: u64,
    },
}

/// The bytes of a hit that crosses workers.
#[derive(Debug)]
pub enum Carried {
    /// Copied.
    Copied(Chain),
    /// Too long to be copied before its reply is next, or in one piece: lent.
    Lent {
        /// The owner's number for it; None with the last piece.
        loan: Option<u32>,
        /// Its length.
        bytes: usize,
        /// Where `piece` begins.
        offset: usize,
        /// The bytes requested with [`Job::Fetch`]; else empty.
        piece: Chain,
    },
    /// Lost by its owner: its reader paused when memory ran out.
    Lost {
        /// Its length.
        bytes: usize,
        /// Length of the piece that was requested.
        requested_bytes: usize,
    },
}

/// The answer to a [`RemoteRequest`].
#[derive(Debug)]
pub struct Answer {
    /// The slot of the request.
    pub slot: u32,
    /// The outcome. A lent value stays with its owner.
    pub outcome: Outcome<Carried>,
    /// The last tier that was asked.
    pub level: Level,
    /// Where the time went, if somebody watches slow requests and it waited.
    pub spent: Option<Box<Spent>>,
}

/// Wakes one worker if it sleeps. A wake-up just before the sleep is not lost, as with a thread's
/// park token, and one costs no system call while the worker is awake.
pub type Wakeup = Box<dyn Fn() + Send + Sync>;

/// The doorbell of one worker. A worker that never sleeps connects none.
#[derive(Default)]
pub struct Doorbell {
    wakeup: OnceLock<Wakeup>,
}

impl Doorbell {
    /// Sets what wakes the worker. At most once.
    pub fn connect(&self, wakeup: Wakeup) {
        let is_first = self.wakeup.set(wakeup).is_ok();
        assert!(is_first, "a worker connects its doorbell once");
    }

    /// Wakes the worker if it sleeps.
    pub fn ring(&self) {
        if let Some(wakeup) = self.wakeup.get() {
            wakeup();
        }
    }
}

/// The rings between one worker and another.
struct Peer {
    requests_out: Producer<RemoteRequest>,
    answers_in: Consumer<Answer>,
    requests_in: Consumer<RemoteRequest>,
    answers_out: Producer<Answer>,
    /// Operations outstanding at that worker.
    outstanding: usize,
    doorbell: Arc<Doorbell>,
    /// Something was pushed since the doorbell was last rung.
    is_owed_ring: bool,
}

/// One worker's end of all its rings.
pub struct Mailbox {
    worker: usize,
    /// By worker number; None for the worker itself.
    peers: Vec<Option<Peer>>,
    doorbell: Arc<Doorbell>,
}

impl Mailbox {
    /// The mailboxes of `workers` workers, connected to one another.
    pub fn mesh(workers: usize) -> Vec<Mailbox> {
        let doorbells: Vec<_> = (0..workers).map(|_| Arc::new(Doorbell::default())).collect();
        let mut boxes: Vec<Mailbox> = doorbells
            .iter()
            .enumerate()
            .map(|(worker, doorbell)| Mailbox {
                worker,
                peers: (0..workers).map(|_| None).collect(),
                doorbell: Arc::clone(doorbell),
            })
            .collect();
        for a in 0..workers {
            for b in a + 1..workers {
                let (requests_ab, requests_at_b) = RingBuffer::new(REMOTE_OPERATIONS_MAX);
                let (requests_ba, requests_at_a) = RingBuffer::new(REMOTE_OPERATIONS_MAX);
                let (answers_ab, answers_at_b) = RingBuffer::new(REMOTE_OPERATIONS_MAX);
                let (answers_ba, answers_at_a) = RingBuffer::new(REMOTE_OPERATIONS_MAX);
                boxes[a].peers[b] = Some(Peer {
                    requests_out: requests_ab,
                    answers_in: answers_at_a,
                    requests_in: requests_at_a,
                    answers_out: answers_ab,
                    outstanding: 0,
                    doorbell: Arc::clone(&doorbells[b]),
                    is_owed_ring: false,
                });
                boxes[b].peers[a] = Some(Peer {
                    requests_out: requests_ba,
                    answers_in: answers_at_b,
                    requests_in: requests_at_b,
                    answers_out: answers_ba,
                    outstanding: 0,
                    doorbell: Arc::clone(&doorbells[a]),
                    is_owed_ring: false,
                });
            }
        }
        boxes
    }

    /// This worker's number.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.peers.len()
    }

    /// This worker's doorbell.
    pub fn doorbell(&self) -> &Arc<Doorbell> {
        &self.doorbell
    }

    /// Whether each other worker can take `more` more operations.
    pub fn has_room(&self, more: usize) -> bool {
        self.peers.iter().flatten().all(|peer| peer.outstanding + more <= REMOTE_OPERATIONS_MAX)
    }

    /// Sends a request to `worker`.
    ///
    /// # Panics
    /// If there is no room: check [`Mailbox::has_room`] first.
    pub fn send_request(&mut self, worker: usize, request: RemoteRequest) {
        let peer = self.peers[worker].as_mut().expect("not this worker itself");
        let is_pushed = peer.requests_out.push(request).is_ok();
        assert!(is_pushed, "outstanding operations are bounded by the ring");
        peer.outstanding += 1;
        peer.is_owed_ring = true;
    }

    /// Sends an outcome back to `worker`, which requested it.
    pub fn send_answer(&mut self, worker: usize, answer: Answer) {
        let peer = self.peers[worker].as_mut().expect("not this worker itself");
        let is_pushed = peer.answers_out.push(answer).is_ok();
        assert!(is_pushed, "answers are bounded by the requests outstanding");
        peer.is_owed_ring = true;
    }

    /// The next request from `worker`.
    pub fn take_request(&mut self, worker: usize) -> Option<RemoteRequest> {
        self.peers[worker].as_mut()?.requests_in.pop().ok()
    }

    /// The next outcome from `worker`.
    pub fn take_answer(&mut self, worker: usize) -> Option<Answer> {
        let peer = self.peers[worker].as_mut()?;
        let answer = peer.answers_in.pop().ok()?;
        peer.outstanding -= 1;
        Some(answer)
    }

    /// Whether all rings are empty.
    pub fn is_empty(&self) -> bool {
        self.peers
            .iter()
            .flatten()
            .all(|peer| peer.requests_in.is_empty() && peer.answers_in.is_empty())
    }

    /// Rings the doorbells of the workers to which something was sent, once per turn.
    pub fn ring(&mut self) {
        for peer in self.peers.iter_mut().flatten() {
            if std::mem::take(&mut peer.is_owed_ring) {
                peer.doorbell.ring();
            }
        }
    }
}

const _: () = assert!(MAILBOX_BUDGET_MESSAGES <= REMOTE_OPERATIONS_MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::buffer::Key;
    use crate::orchestrator::Action;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn request(slot: u32) -> RemoteRequest {
        let operation = Operation::new(Key::EMPTY, Action::Get);
        RemoteRequest { slot, job: Job::Execute { key_hash: 0, operation } }
    }

    fn miss(slot: u32) -> Answer {
        Answer { slot, outcome: Outcome::Miss, level: Level::L1, spent: None }
    }

    #[test]
    fn operations_and_outcomes_arrive_in_order_at_the_right_worker() {
        let mut boxes = Mailbox::mesh(3);
        for slot in 0..10 {
            boxes[0].send_request(2, request(slot));
        }
        assert!(boxes[1].is_empty());
        for slot in 0..10 {
            let request = boxes[2].take_request(0).expect("sent");
            assert_eq!(request.slot, slot);
            boxes[2].send_answer(0, miss(slot));
        }
        assert!(boxes[2].take_request(0).is_none());
        for slot in 0..10 {
            assert_eq!(boxes[0].take_answer(2).expect("sent").slot, slot);
        }
        assert!(boxes[0].is_empty());
    }

    #[test]
    fn room_counts_requests_until_their_answers_are_taken() {
        let mut boxes = Mailbox::mesh(2);
        for slot in 0..REMOTE_OPERATIONS_MAX as u32 {
            assert!(boxes[0].has_room(1));
            boxes[0].send_request(1, request(slot));
        }
        assert!(!boxes[0].has_room(1));
        let taken = boxes[1].take_request(0).expect("sent");
        assert!(!boxes[0].has_room(1), "taken, but not answered");
        boxes[1].send_answer(0, miss(taken.slot));
        boxes[0].take_answer(1).expect("sent");
        assert!(boxes[0].has_room(1));
    }

    #[test]
    fn the_doorbell_rings_once_a_turn_for_workers_with_messages() {
        let rings = Arc::new(AtomicUsize::new(0));
        let mut boxes = Mailbox::mesh(2);
        let counter = Arc::clone(&rings);
        boxes[1].doorbell().connect(Box::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        boxes[0].ring();
        assert_eq!(rings.load(Ordering::Relaxed), 0, "nothing was sent");
        boxes[0].send_request(1, request(0));
        boxes[0].send_request(1, request(1));
        boxes[0].ring();
        boxes[0].ring();
        assert_eq!(rings.load(Ordering::Relaxed), 1);
    }
}
