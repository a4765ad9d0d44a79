//! Lookups: the keys of many batches in one request, and the assignment of values to them.
//!
//! The server answers with the existing values, in order, each with its key, and an end. A value
//! goes to the next batch that requested that key, never to another: the requested keys are kept
//! until they are answered, and a key that this lookup did not request is an invalid answer.

use super::{ABANDONED, InFlight, Inner, Kind};
use crate::tier::link::collect::Collect;
use crate::tier::link::protocol::{Codec, Garbage, Head, Status};

impl<C: Codec, K: Collect> Inner<C, K> {
    /// Adds a key to the lookup at the end of the output.
    #[inline]
    pub(in super::super) fn look_up(&mut self, slot: u32, key: &[u8]) {
        if self.output.is_lookup_full(key) {
            self.end_lookup();
        }
        self.output.look_up(C::LOOKUP, key);
        self.keys.push(key);
        self.slots.expect_answer(slot);
        self.expect(slot, 0, Kind::Key);
    }

    /// Adds no more keys to the lookup at the end of the output.
    #[inline]
    pub(super) fn end_lookup(&mut self) {
        if self.output.end_lookup(C::LOOKUP_END) {
            self.expect(ABANDONED, 0, Kind::End);
        }
    }

    /// A value of a lookup begins, whose key is at `start` of the input. The keys before it have no
    /// items. Returns its batch.
    pub(super) fn found(
        &mut self,
        start: usize,
        head: &Head,
        answers: &mut usize,
    ) -> Result<u32, Garbage> {
        let key = self.input.at(start, head.key_bytes);
        // After the last key of this lookup are those of the next.
        if self.in_flight.front().is_none_or(|requests| requests.kind != Kind::Key) {
            return Err(Garbage);
        }
        let mut skipped = self.keys.before(key, 1);
        if skipped.is_none() {
            let is_key = |requests: &&InFlight| requests.kind == Kind::Key;
            let keys = self
                .in_flight
                .iter()
                .take_while(is_key)
                .map(|requests| requests.count as usize)
                .sum();
            skipped = self.keys.before(key, keys);
        }
        // This lookup did not request it.
        let Some(skipped) = skipped.filter(|_| head.key_bytes > 0) else { return Err(Garbage) };
        let miss = Head { status: Status::Miss, ..Head::default() };
        for _ in 0..skipped {
            self.answer_key(&miss, answers)?;
        }
        Ok(self.in_flight[0].slot)
    }

    /// A lookup has ended: its unanswered keys have no items or, if another answer ended it, that
    /// answer.
    pub(super) fn looked_up(&mut self, head: &Head, answers: &mut usize) -> Result<(), Garbage> {
        let status = match head.status {
            Status::End => Status::Miss,
            Status::TooLarge | Status::NoMemory | Status::Refused => head.status,
            _ => return Err(Garbage),
        };
        let rest = Head { status, ..Head::default() };
        while self.in_flight.front().is_some_and(|requests| requests.kind == Kind::Key) {
            self.answer_key(&rest, answers)?;
        }
        if self.in_flight.front().is_none_or(|requests| requests.kind != Kind::End) {
            return Err(Garbage);
        }
        self.answered(ABANDONED);
        *answers += 1;
        Ok(())
    }

    /// Answers the oldest key of a lookup without a value.
    fn answer_key(&mut self, head: &Head, answers: &mut usize) -> Result<(), Garbage> {
        let slot = self.in_flight[0].slot;
        self.hand_over(slot, *head)?;
        self.answered(slot);
        *answers += 1;
        Ok(())
    }
}
