//! The transports of a worker as one: a stack for each device.
//!
//! Connections are numbered so that a number says which transport has it: its lowest bits do. With
//! one transport the numbers are its own. A turn polls all of them, each for its bounded pass, and
//! none waits for another: only one of them is asked to sleep, and of these none may miss a wake.

use std::io;

use super::{ConnectionId, EndAddress, Handler, Listed, Stream, Transport};
use crate::base::clock::Now;
use crate::base::readiness::Readiness;

/// In the place where a list continues: the transport above, the place in it below.
const LIST_BITS: u32 = 32;

/// Several transports of the same kind.
pub struct Several<T> {
    all: Vec<T>,
    bits: u32,
}

impl<T> Several<T> {
    /// These transports, which have at most 2^24 connections each.
    ///
    /// # Panics
    /// If there are none, or more than 256.
    pub fn new(all: Vec<T>) -> Several<T> {
        assert!((1..=256).contains(&all.len()), "transports");
        let bits = all.len().next_power_of_two().trailing_zeros();
        Several { all, bits }
    }
}

/// The handler as one of the transports sees it: it numbers connections by itself.
struct Numbered<'h, H> {
    inner: &'h mut H,
    transport: u32,
    bits: u32,
}

impl<H> Numbered<'_, H> {
    #[inline(always)]
    fn id(&self, id: ConnectionId) -> ConnectionId {
        ConnectionId { index: id.index << self.bits | self.transport, ..id }
    }
}

impl<H: Handler> Handler for Numbered<'_, H> {
    type Connection = H::Connection;

    #[inline(always)]
    fn opened(&mut self, id: ConnectionId, listener: usize, now: Now) -> Self::Connection {
        self.inner.opened(self.id(id), listener, now)
    }

    #[inline(always)]
    fn arrived(&mut self, id: ConnectionId, peer: &dyn Fn() -> EndAddress) {
        self.inner.arrived(self.id(id), peer);
    }

    #[inline(always)]
    fn departs(
        &mut self,
        id: ConnectionId,
        connection: &Self::Connection,
        peer: &dyn Fn() -> EndAddress,
        is_reset: bool,
    ) {
        self.inner.departs(self.id(id), connection, peer, is_reset);
    }

    #[inline(always)]
    fn ready<S: Stream>(
        &mut self,
        id: ConnectionId,
        connection: &mut Self::Connection,
        stream: &mut S,
        now: Now,
    ) {
        self.inner.ready(self.id(id), connection, stream, now);
    }

    #[inline(always)]
    fn foresees(&self) -> bool {
        self.inner.foresees()
    }

    #[inline(always)]
    fn foresee(&self, bytes: &[u8]) -> u64 {
        self.inner.foresee(bytes)
    }

    #[inline(always)]
    fn foresee_more(&self, foreseen: u64) {
        self.inner.foresee_more(foreseen);
    }

    #[inline(always)]
    fn is_overdue(&self, connection: &Self::Connection, now: Now) -> bool {
        self.inner.is_overdue(connection, now)
    }

    #[inline(always)]
    fn is_idle(&self, connection: &Self::Connection, now: Now) -> bool {
        self.inner.is_idle(connection, now)
    }

    #[inline(always)]
    fn closed(&mut self, id: ConnectionId, connection: Self::Connection) {
        self.inner.closed(self.id(id), connection);
    }
}

impl<T> Several<T> {
    /// Each transport, with the handler as it sees it.
    #[inline(always)]
    fn each<H>(&mut self, handler: &mut H, mut run: impl FnMut(&mut T, &mut Numbered<'_, H>)) {
        let bits = self.bits;
        for (transport, one) in (0..).zip(&mut self.all) {
            run(one, &mut Numbered { inner: &mut *handler, transport, bits });
        }
    }
}

impl<C, T: Transport<C>> Transport<C> for Several<T> {
    #[inline(always)]
    fn poll<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) -> usize {
        let mut done = 0;
        self.each(handler, |one, handler| done += one.poll(now, handler));
        done
    }

    #[inline(always)]
    fn resume<H: Handler<Connection = C>>(&mut self, id: ConnectionId, now: Now, handler: &mut H) {
        let (bits, transport) = (self.bits, id.index & ((1 << self.bits) - 1));
        let Some(one) = self.all.get_mut(transport as usize) else { return };
        let own = ConnectionId { index: id.index >> bits, ..id };
        one.resume(own, now, &mut Numbered { inner: handler, transport, bits });
    }

    #[inline(always)]
    fn flush(&mut self, now: Now) {
        self.all.iter_mut().for_each(|one| one.flush(now));
    }

    fn readiness(&self) -> io::Result<Readiness> {
        self.all[0].readiness()
    }

    fn leave_out(&mut self, us: u64) {
        self.all.iter_mut().for_each(|one| one.leave_out(us));
    }

    fn wait(&mut self, timeout_us: u64) {
        self.all[0].wait(timeout_us);
    }

    fn stop_listening(&mut self) {
        self.all.iter_mut().for_each(Transport::stop_listening);
    }

    fn drain<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) -> usize {
        let mut left = 0;
        self.each(handler, |one, handler| left += one.drain(now, handler));
        left
    }

    fn close_all<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) {
        self.each(handler, |one, handler| one.close_all(now, handler));
    }

    fn connections(&self) -> usize {
        self.all.iter().map(Transport::connections).sum()
    }

    fn list(&self, from: usize, places: usize, each: &mut dyn FnMut(Listed<'_, C>)) -> usize {
        let (number, place) = (from >> LIST_BITS, from & ((1 << LIST_BITS) - 1));
        let Some(one) = self.all.get(number) else { return 0 };
        let next = one.list(place, places, &mut |listed| {
            each(Listed { index: listed.index << self.bits | number, ..listed });
        });
        match next {
            0 if number + 1 < self.all.len() => (number + 1) << LIST_BITS,
            0 => 0,
            place => number << LIST_BITS | place,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A transport whose connections are in the places that it has.
    #[derive(Default)]
    struct Places {
        taken: Vec<u32>,
        resumed: Vec<u32>,
        waits: usize,
        is_listening: bool,
    }

    /// Notes who was called with what.
    #[derive(Default)]
    struct Seen {
        opened: Vec<u32>,
        arrived: Vec<u32>,
        closed: Vec<u32>,
    }

    impl Handler for Seen {
        type Connection = u32;

        fn opened(&mut self, id: ConnectionId, _: usize, _: Now) -> u32 {
            self.opened.push(id.index);
            id.index
        }
        fn arrived(&mut self, id: ConnectionId, _: &dyn Fn() -> EndAddress) {
            self.arrived.push(id.index);
        }
        fn ready<S: Stream>(&mut self, _: ConnectionId, _: &mut u32, _: &mut S, _: Now) {}
        fn is_overdue(&self, _: &u32, _: Now) -> bool {
            false
        }
        fn closed(&mut self, id: ConnectionId, connection: u32) {
            assert_eq!(id.index, connection, "the number it was opened with");
            self.closed.push(id.index);
        }
    }

    fn id(index: u32) -> ConnectionId {
        ConnectionId { index, generation: 7 }
    }

    impl Transport<u32> for Places {
        fn poll<H: Handler<Connection = u32>>(&mut self, now: Now, handler: &mut H) -> usize {
            for &place in &self.taken {
                handler.opened(id(place), 0, now);
            }
            self.taken.len()
        }
        // Not with `ready`, which needs a stream; the numbers are the same.
        fn resume<H: Handler<Connection = u32>>(
            &mut self,
            id: ConnectionId,
            _: Now,
            handler: &mut H,
        ) {
            assert_eq!(id.generation, 7);
            self.resumed.push(id.index);
            handler.arrived(id, &|| EndAddress::Unknown);
        }
        fn flush(&mut self, _: Now) {}
        fn leave_out(&mut self, _: u64) {}
        fn wait(&mut self, _: u64) {
            self.waits += 1;
        }
        fn stop_listening(&mut self) {
            self.is_listening = false;
        }
        fn drain<H: Handler<Connection = u32>>(&mut self, _: Now, _: &mut H) -> usize {
            self.taken.len()
        }
        fn close_all<H: Handler<Connection = u32>>(&mut self, _: Now, handler: &mut H) {
            // A transport keeps what `opened` returned: here, what it must have been.
            let number = self.resumed.len() as u32;
            for place in std::mem::take(&mut self.taken) {
                handler.closed(id(place), place << 2 | number);
            }
        }
        fn connections(&self) -> usize {
            self.taken.len()
        }
        fn list(&self, from: usize, places: usize, each: &mut dyn FnMut(Listed<'_, u32>)) -> usize {
            let to = self.taken.len().min(from + places);
            for place in &self.taken[from..to] {
                let (peer, local) = (EndAddress::Unknown, EndAddress::Unknown);
                let index = *place as usize;
                each(Listed { index, peer, local, is_closing: false, state: place });
            }
            if to < self.taken.len() { to } else { 0 }
        }
    }

    const NOW: Now = Now { uptime_us: 0, unix_s: 0 };

    fn three() -> Several<Places> {
        let places = |taken: &[u32]| Places {
            taken: taken.to_vec(),
            is_listening: true,
            ..Places::default()
        };
        Several::new(vec![places(&[0, 1, 5]), places(&[]), places(&[0, 9])])
    }

    #[test]
    fn a_connection_has_one_number_and_is_found_by_it() {
        let (mut several, mut seen) = (three(), Seen::default());
        assert_eq!(several.poll(NOW, &mut seen), 5);
        assert_eq!(seen.opened, [0, 4, 20, 2, 38]);
        for &index in &seen.opened.clone() {
            several.resume(id(index), NOW, &mut seen);
        }
        assert_eq!(seen.arrived, seen.opened);
        let resumed: Vec<_> = several.all.iter().map(|one| one.resumed.clone()).collect();
        assert_eq!(resumed, [vec![0, 1, 5], vec![], vec![0, 9]]);
        // The place beyond the last transport belongs to none.
        several.resume(id(3), NOW, &mut seen);
        assert_eq!(seen.arrived.len(), 5);
    }

    #[test]
    fn a_list_goes_through_all_of_them() {
        let several = three();
        assert_eq!(several.connections(), 5);
        let (mut from, mut listed, mut pieces) = (0, Vec::new(), 0);
        loop {
            from = several.list(from, 2, &mut |one| listed.push(one.index));
            pieces += 1;
            if from == 0 {
                break;
            }
        }
        assert_eq!((listed, pieces), (vec![0, 4, 20, 2, 38], 4));
        assert_eq!(several.list(9 << LIST_BITS, 2, &mut |_| panic!("there is none")), 0);
    }

    #[test]
    fn all_of_them_stop_and_one_sleeps() {
        let (mut several, mut seen) = (three(), Seen::default());
        several.wait(1);
        assert_eq!(several.all.iter().map(|one| one.waits).sum::<usize>(), 1);
        several.stop_listening();
        assert!(several.all.iter().all(|one| !one.is_listening));
        assert_eq!(several.drain(NOW, &mut seen), 5);
        for (n, one) in several.all.iter_mut().enumerate() {
            one.resumed = vec![0; n];
        }
        several.close_all(NOW, &mut seen);
        assert_eq!(seen.closed, [0, 4, 20, 2, 38]);
        assert_eq!(several.connections(), 0);
    }

    #[test]
    fn the_numbers_of_a_single_one_are_its_own() {
        let mut several = Several::new(vec![Places { taken: vec![3, 4], ..Places::default() }]);
        let mut seen = Seen::default();
        several.poll(NOW, &mut seen);
        assert_eq!(seen.opened, [3, 4]);
        several.resume(id(4), NOW, &mut seen);
        assert_eq!(several.all[0].resumed, [4]);
    }
}
