//! Output that waits for its device: a ring of fixed size, first in, first out.
//!
//! It never waits and never drops: what does not fit is returned to the caller, and what the device
//! does not accept stays.

/// A bounded queue of items that a device accepts in bursts.
pub(super) struct TxQueue<T> {
    slots: Box<[Option<T>]>,
    head: usize,
    len: usize,
}

/// The result of one offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// How many the device accepted.
    pub taken: usize,
    /// Whether it left some.
    pub is_partial: bool,
}

impl<T: Copy> TxQueue<T> {
    /// An empty queue with room for `capacity`, a power of two.
    pub(super) fn new(capacity: usize) -> TxQueue<T> {
        assert!(capacity.is_power_of_two());
        TxQueue { slots: vec![None; capacity].into_boxed_slice(), head: 0, len: 0 }
    }

    /// Number of queued items.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether the queue is full.
    pub(super) fn is_full(&self) -> bool {
        self.len == self.slots.len()
    }

    /// Appends one.
    ///
    /// # Panics
    /// If the queue is full.
    pub(super) fn push(&mut self, item: T) {
        assert!(!self.is_full());
        let at = (self.head + self.len) & (self.slots.len() - 1);
        self.slots[at] = Some(item);
        self.len += 1;
    }

    /// Takes the oldest.
    pub(super) fn pop(&mut self) -> Option<T> {
        if self.len == 0 {
            return None;
        }
        let item = self.slots[self.head].take();
        self.head = (self.head + 1) & (self.slots.len() - 1);
        self.len -= 1;
        item
    }

    /// Offers everything once, in order, in contiguous pieces. `take` gets a piece and returns how
    /// many of its first items it accepted; the others stay.
    pub(super) fn offer(&mut self, mut take: impl FnMut(&mut [Option<T>]) -> usize) -> Offer {
        let mut offer = Offer { taken: 0, is_partial: false };
        while self.len > 0 {
            let end = (self.head + self.len).min(self.slots.len());
            let piece = &mut self.slots[self.head..end];
            let offered = piece.len();
            let taken = take(piece);
            assert!(taken <= offered, "a device took {taken} of {offered} frames");
            piece[..taken].fill(None);
            self.head = (self.head + taken) & (self.slots.len() - 1);
            self.len -= taken;
            offer.taken += taken;
            if taken < offered {
                offer.is_partial = true;
                break;
            }
        }
        offer
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn items_that_a_device_leaves_stay_in_order() {
        let mut queue = TxQueue::new(8);
        (0..8).for_each(|n| queue.push(n));
        assert!(queue.is_full());
        let offer = queue.offer(|_| 3);
        assert_eq!(offer, Offer { taken: 3, is_partial: true });
        (8..11).for_each(|n| queue.push(n));
        let mut seen = Vec::new();
        let offer = queue.offer(|piece| {
            seen.extend(piece.iter().flatten().copied());
            piece.len()
        });
        assert_eq!(offer, Offer { taken: 8, is_partial: false });
        assert_eq!(seen, (3..11).collect::<Vec<_>>());
        assert_eq!(queue.pop(), None);
        assert_eq!(queue.offer(|_| 0), Offer { taken: 0, is_partial: false });
    }

    #[test]
    fn a_full_device_is_offered_frames_once() {
        let mut queue = TxQueue::new(4);
        queue.push(1);
        let mut asked = 0;
        let offer = queue.offer(|_| {
            asked += 1;
            0
        });
        assert_eq!((asked, offer), (1, Offer { taken: 0, is_partial: true }));
        assert_eq!(queue.len(), 1);
    }

    proptest! {
        /// Whatever a device accepts, everything is sent once and in order.
        #[test]
        fn behaves_as_an_unbounded_queue_that_refuses(
            steps in prop::collection::vec((0u8..3, 0usize..20), 1..200),
        ) {
            let mut queue = TxQueue::new(16);
            let mut model = VecDeque::new();
            let mut next = 0u32;
            for (what, n) in steps {
                match what {
                    0 => for _ in 0..n {
                        if !queue.is_full() {
                            queue.push(next);
                            model.push_back(next);
                            next += 1;
                        }
                    },
                    1 => prop_assert_eq!(queue.pop(), model.pop_front()),
                    _ => {
                        let mut budget = n;
                        let mut seen = Vec::new();
                        queue.offer(|piece| {
                            let taken = budget.min(piece.len());
                            seen.extend(piece[..taken].iter().flatten().copied());
                            budget -= taken;
                            taken
                        });
                        let expected: Vec<_> = model.drain(..n.min(model.len())).collect();
                        prop_assert_eq!(seen, expected);
                    }
                }
                prop_assert_eq!(queue.len(), model.len());
            }
        }
    }
}
