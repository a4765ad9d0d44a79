//! The batches in flight on a link.

use std::task::Waker;

use super::collect::Collect;
use super::protocol::Head;
use crate::base::buffer::Key;

/// The destination of the answers to a batch.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a collector lives in its slot, without a box")]
pub(super) enum Taker<K> {
    /// The task that began it.
    Caller(K),
    /// The link: this is the delete of a key that must not be served any more. If the answer never
    /// arrives, the key is remembered.
    Invalidation(Box<Key>),
}

impl<K: Collect> Taker<K> {
    /// An answer begins.
    #[inline]
    pub(super) fn begin(&mut self, head: &Head) {
        if let Taker::Caller(collector) = self {
            collector.begin(head);
        }
    }

    /// The next bytes of its value.
    #[inline]
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        if let Taker::Caller(collector) = self {
            collector.bytes(bytes);
        }
    }

    /// The value is complete.
    #[inline]
    pub(super) fn end(&mut self) {
        if let Taker::Caller(collector) = self {
            collector.end();
        }
    }
}

/// A batch and its waiter.
#[derive(Debug)]
struct Slot<K> {
    taker: Option<Taker<K>>,
    waker: Option<Waker>,
    /// Outstanding answers.
    outstanding: u32,
    /// All requests were made.
    is_waited_for: bool,
    state: SlotState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotState {
    Free,
    /// It has an owner.
    Held,
    /// Its owner is gone; its answers are still outstanding.
    Abandoned,
    /// It has an owner, and its link was lost.
    Failed,
}

/// The collected answers of a batch, or why there are none.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "taken apart immediately; a box would be an allocation"
)]
pub(super) enum Progress<K> {
    /// Answers are outstanding.
    Waiting,
    /// All arrived.
    Done(Taker<K>),
    /// Some will never arrive.
    Failed,
}

/// Batches by number; a number is reused when its batch is done. Grows with the number of
/// concurrent batches, and never shrinks.
#[derive(Debug)]
pub(super) struct Slots<K> {
    slots: Vec<Slot<K>>,
    free: Vec<u32>,
}

impl<K> Slots<K> {
    pub(super) fn with_capacity(capacity: usize) -> Slots<K> {
        Slots { slots: Vec::with_capacity(capacity), free: Vec::with_capacity(capacity) }
    }

    /// Number of batches in flight.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// A slot for a batch.
    #[inline]
    pub(super) fn take(&mut self, taker: Taker<K>) -> u32 {
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.taker = Some(taker);
            slot.outstanding = 0;
            slot.is_waited_for = false;
            slot.state = SlotState::Held;
            return index;
        }
        self.slots.push(Slot {
            taker: Some(taker),
            waker: None,
            outstanding: 0,
            is_waited_for: false,
            state: SlotState::Held,
        });
        self.slots.len() as u32 - 1
    }

    fn free(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.taker = None;
        slot.waker = None;
        slot.is_waited_for = false;
        slot.state = SlotState::Free;
        self.free.push(index);
    }

    pub(super) fn has_failed(&self, index: u32) -> bool {
        self.slots[index as usize].state == SlotState::Failed
    }

    /// Counts a further request.
    #[inline]
    pub(super) fn expect_answer(&mut self, index: u32) {
        self.slots[index as usize].outstanding += 1;
    }

    /// The destination of answers, or None if they are no longer needed.
    #[inline]
    pub(super) fn taker(&mut self, index: u32) -> Option<&mut Taker<K>> {
        self.slots[index as usize].taker.as_mut()
    }

    /// An answer is complete.
    #[inline]
    pub(super) fn answered(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.outstanding -= 1;
        if slot.outstanding == 0 {
            if slot.state == SlotState::Abandoned {
                self.free(index);
            } else if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }

    /// The progress of a batch. If it is not done, `waker` is called when it is. A batch that is
    /// done or has failed is removed.
    #[inline]
    pub(super) fn poll(&mut self, index: u32, waker: &Waker) -> Progress<K> {
        let slot = &mut self.slots[index as usize];
        match slot.state {
            SlotState::Failed => {
                self.free(index);
                return Progress::Failed;
            }
            SlotState::Held => {}
            SlotState::Free | SlotState::Abandoned => unreachable!("a batch with an owner"),
        }
        slot.is_waited_for = true;
        if slot.outstanding > 0 {
            if !slot.waker.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
                slot.waker = Some(waker.clone());
            }
            return Progress::Waiting;
        }
        let taker = slot.taker.take();
        self.free(index);
        taker.map_or(Progress::Failed, Progress::Done)
    }

    /// The owner of the batch is gone.
    pub(super) fn abandon(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if slot.outstanding == 0 || slot.state == SlotState::Failed {
            self.free(index);
        } else {
            slot.state = SlotState::Abandoned;
            slot.waker = None;
        }
    }

    /// Fails all batches that do not have all their answers, wakes their waiters, and calls
    /// `failed` with the collector of each. Returns how many had an owner.
    pub(super) fn fail_all(&mut self, mut failed: impl FnMut(Taker<K>)) -> u64 {
        let mut held = 0;
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            if slot.is_waited_for && slot.outstanding == 0 {
                continue;
            }
            if let Some(taker) = slot.taker.take() {
                failed(taker);
            }
            slot.outstanding = 0;
            match slot.state {
                SlotState::Free | SlotState::Failed => {}
                SlotState::Abandoned => self.free(index as u32),
                SlotState::Held => {
                    held += 1;
                    slot.state = SlotState::Failed;
                    if let Some(waker) = slot.waker.take() {
                        waker.wake();
                    }
                }
            }
        }
        held
    }
}
