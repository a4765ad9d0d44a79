//! Requests being asked together, and the wait for their answers.

use std::future::poll_fn;
use std::task::Poll;

use super::collect::Collector;
use super::slots::Progress;
use super::{Codec, Down, Link};
use crate::buffer::Body;

/// One request being written. Everything of it goes out as it is put here.
#[derive(Debug)]
pub struct Request<'a> {
    out: &'a mut Vec<u8>,
    opaque: u32,
}

impl<'a> Request<'a> {
    /// A request that is written to `out`, with this number.
    pub fn new(out: &'a mut Vec<u8>, opaque: u32) -> Request<'a> {
        Request { out, opaque }
    }

    /// The number that the answer has to repeat.
    pub fn opaque(&self) -> u32 {
        self.opaque
    }

    /// Appends bytes.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Appends a number in decimal digits.
    #[inline]
    pub fn number(&mut self, number: u64) {
        self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    /// Appends a value.
    #[inline]
    pub fn value(&mut self, value: Body<'_>) {
        self.out.reserve(value.len());
        value.for_each_piece(|piece| self.out.extend_from_slice(piece));
    }

    /// Appends `count` zero bytes.
    pub fn zeros(&mut self, count: usize) {
        self.out.resize(self.out.len() + count, 0);
    }
}

/// One or more requests whose answers belong together. Dropping it at any time is safe: what was
/// asked is asked, and the answers are thrown away.
#[derive(Debug)]
pub struct Batch<'l, C: Codec> {
    link: &'l Link<C>,
    slot: u32,
    is_over: bool,
}

impl<'l, C: Codec> Batch<'l, C> {
    pub(super) fn new(link: &'l Link<C>, slot: u32) -> Batch<'l, C> {
        Batch { link, slot, is_over: false }
    }

    /// Asks one more: waits until the output has room for `room_bytes` and has `write` write the
    /// request, which should not be longer. It goes out with the next [`Link::flush`]. Requests of
    /// one batch go out in this order, others possibly between them.
    ///
    /// # Errors
    /// The link was lost since the batch began; all of the batch has failed. What was asked may or
    /// may not be executed, but not after anything that is asked from here on.
    #[inline]
    pub async fn request(
        &mut self,
        room_bytes: usize,
        write: impl FnOnce(&mut Request<'_>),
    ) -> Result<(), Down> {
        if !self.has_room(room_bytes)? {
            self.room(room_bytes).await?;
        }
        self.link.inner.borrow_mut().ask(self.slot, write);
        Ok(())
    }

    /// Asks for the value of one more key, one that a line of text can carry, together with all
    /// others that are looked up in this turn, whoever asks: for the server they are one request.
    /// The answer has status, flags, cas and value.
    ///
    /// # Errors
    /// As [`Batch::request`].
    #[inline]
    pub async fn look_up(&mut self, key: &[u8]) -> Result<(), Down> {
        let room_bytes = C::LOOKUP.len() + 1 + key.len() + C::LOOKUP_END.len();
        if !self.has_room(room_bytes)? {
            self.room(room_bytes).await?;
        }
        self.link.inner.borrow_mut().look_up(self.slot, key);
        Ok(())
    }

    fn has_room(&self, bytes: usize) -> Result<bool, Down> {
        let inner = self.link.inner.borrow();
        if inner.slots.has_failed(self.slot) { Err(Down) } else { Ok(inner.has_room(bytes)) }
    }

    /// The cas by which this connection's server knows `cas`, which a [`super::Head`] had. None: it
    /// is another connection's, or no link's at all, and no item has it any more; whoever asks with
    /// it has to be told so. 0 stays 0. To be asked after [`Link::begin`].
    #[inline]
    pub fn cas(&self, cas: u64) -> Option<u64> {
        self.link.inner.borrow().cas_of_server(cas)
    }

    /// What the collector has when all answers are there.
    ///
    /// # Errors
    /// The link was lost or suspended before that.
    #[inline]
    pub async fn wait(mut self) -> Result<Collector, Down> {
        let collector = poll_fn(|context| {
            let mut inner = self.link.inner.borrow_mut();
            match inner.slots.poll(self.slot, context.waker()) {
                Progress::Waiting => Poll::Pending,
                Progress::Done(collector) => Poll::Ready(Ok(collector)),
                Progress::Failed => Poll::Ready(Err(Down)),
            }
        })
        .await;
        self.is_over = true;
        collector
    }

    /// Waits, behind all who waited before, until the output has room.
    async fn room(&self, bytes: usize) -> Result<(), Down> {
        let mut place = Place { link: self.link, ticket: self.link.inner.borrow_mut().ticket() };
        poll_fn(|context| {
            let mut inner = self.link.inner.borrow_mut();
            if inner.slots.has_failed(self.slot) {
                return Poll::Ready(Err(Down));
            }
            if inner.is_next(place.ticket) && inner.has_space(bytes) {
                return Poll::Ready(Ok(()));
            }
            inner.queue(&mut place.ticket, context.waker());
            Poll::Pending
        })
        .await
    }
}

impl<C: Codec> Drop for Batch<'_, C> {
    fn drop(&mut self) {
        if !self.is_over {
            self.link.inner.borrow_mut().abandon(self.slot);
        }
    }
}

/// A place in the line for room.
struct Place<'l, C: Codec> {
    link: &'l Link<C>,
    ticket: u64,
}

impl<C: Codec> Drop for Place<'_, C> {
    fn drop(&mut self) {
        self.link.inner.borrow_mut().leave_queue(self.ticket);
    }
}
