//! The batches under way on a link.

use std::task::Waker;

use super::collect::Collector;

/// A batch and who waits for it.
#[derive(Debug)]
struct Slot {
    collector: Option<Collector>,
    waker: Option<Waker>,
    /// Answers to come.
    outstanding: u32,
    /// Everything was asked.
    is_waited_for: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// Somebody has it.
    Held,
    /// Whoever had it is gone; its answers are still to come.
    Abandoned,
    /// Somebody has it, and its link was lost.
    Failed,
}

/// A batch's own answers, or why there are none.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "taken apart at once; a box would be an allocation")]
pub(super) enum Progress {
    /// Answers are to come.
    Waiting,
    /// All came.
    Done(Collector),
    /// Some will never come.
    Failed,
}

/// Batches by number; a number is used again when its batch is done. Grows with the number of
/// batches that are under way at once, and never shrinks.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Slots {
    pub(super) fn with_capacity(capacity: usize) -> Slots {
        Slots { slots: Vec::with_capacity(capacity), free: Vec::with_capacity(capacity) }
    }

    /// Batches under way.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// A place for a batch.
    #[inline]
    pub(super) fn take(&mut self, collector: Collector) -> u32 {
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.collector = Some(collector);
            slot.outstanding = 0;
            slot.is_waited_for = false;
            slot.state = State::Held;
            return index;
        }
        self.slots.push(Slot {
            collector: Some(collector),
            waker: None,
            outstanding: 0,
            is_waited_for: false,
            state: State::Held,
        });
        self.slots.len() as u32 - 1
    }

    fn free(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.collector = None;
        slot.waker = None;
        slot.is_waited_for = false;
        slot.state = State::Free;
        self.free.push(index);
    }

    pub(super) fn has_failed(&self, index: u32) -> bool {
        self.slots[index as usize].state == State::Failed
    }

    /// One more answer is to come.
    #[inline]
    pub(super) fn asked(&mut self, index: u32) {
        self.slots[index as usize].outstanding += 1;
    }

    /// Where answers go, or None if nobody wants them.
    #[inline]
    pub(super) fn collector(&mut self, index: u32) -> Option<&mut Collector> {
        self.slots[index as usize].collector.as_mut()
    }

    /// An answer was whole.
    #[inline]
    pub(super) fn answered(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.outstanding -= 1;
        if slot.outstanding == 0 {
            if slot.state == State::Abandoned {
                self.free(index);
            } else if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }

    /// How far a batch is. If it is not done, `waker` is called when it is. A batch that is done or
    /// has failed is forgotten.
    #[inline]
    pub(super) fn poll(&mut self, index: u32, waker: &Waker) -> Progress {
        let slot = &mut self.slots[index as usize];
        match slot.state {
            State::Failed => {
                self.free(index);
                return Progress::Failed;
            }
            State::Held => {}
            State::Free | State::Abandoned => unreachable!("a batch that somebody has"),
        }
        slot.is_waited_for = true;
        if slot.outstanding > 0 {
            if !slot.waker.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
                slot.waker = Some(waker.clone());
            }
            return Progress::Waiting;
        }
        let collector = slot.collector.take();
        self.free(index);
        collector.map_or(Progress::Failed, Progress::Done)
    }

    /// Whoever had the batch is gone.
    pub(super) fn abandon(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if slot.outstanding == 0 || slot.state == State::Failed {
            self.free(index);
        } else {
            slot.state = State::Abandoned;
            slot.waker = None;
        }
    }

    /// Makes all batches fail that do not have all their answers, wakes who waits for them, and
    /// calls `failed` with what each had collected. Returns how many somebody had.
    pub(super) fn fail_all(&mut self, mut failed: impl FnMut(Collector)) -> u64 {
        let mut held = 0;
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            if slot.is_waited_for && slot.outstanding == 0 {
                continue;
            }
            if let Some(collector) = slot.collector.take() {
                failed(collector);
            }
            slot.outstanding = 0;
            match slot.state {
                State::Free | State::Failed => {}
                State::Abandoned => self.free(index as u32),
                State::Held => {
                    held += 1;
                    slot.state = State::Failed;
                    if let Some(waker) = slot.waker.take() {
                        waker.wake();
                    }
                }
            }
        }
        held
    }
}
