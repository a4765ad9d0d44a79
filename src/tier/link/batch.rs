//! Requests being asked together, and the wait for their answers.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::Poll;

use super::collect::Collect;
use super::config::Down;
use super::inner::Inner;
use super::protocol::Codec;
use super::request::Request;
use super::slots::{Progress, Taker};

/// One or more requests whose answers belong together. Dropping it at any time is safe: what was
/// asked is asked, and the answers are thrown away.
#[derive(Debug)]
pub struct Batch<'l, C: Codec, K: Collect> {
    inner: &'l RefCell<Inner<C, K>>,
    slot: u32,
    is_over: bool,
}

impl<'l, C: Codec, K: Collect> Batch<'l, C, K> {
    pub(super) fn new(inner: &'l RefCell<Inner<C, K>>, slot: u32) -> Batch<'l, C, K> {
        Batch { inner, slot, is_over: false }
    }

    /// Asks one more: waits until the output has room for `room_bytes` and has `write` write the
    /// request, which should not be longer. It goes out with the next [`super::Link::flush`].
    /// Requests of one batch go out in this order, others possibly between them.
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
        self.inner.borrow_mut().ask(self.slot, write);
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
        self.inner.borrow_mut().look_up(self.slot, key);
        Ok(())
    }

    fn has_room(&self, bytes: usize) -> Result<bool, Down> {
        let inner = self.inner.borrow();
        if inner.slots.has_failed(self.slot) { Err(Down) } else { Ok(inner.has_room(bytes)) }
    }

    /// The cas by which this connection's server knows `cas`, which a [`super::Head`] had. None: it
    /// is another connection's, or no link's at all, and no item has it any more; whoever asks with
    /// it has to be told so. 0 stays 0. To be asked after [`super::Link::begin`].
    #[inline]
    pub fn cas(&self, cas: u64) -> Option<u64> {
        self.inner.borrow().cas_of_server(cas)
    }

    /// What the collector has when all answers are there.
    ///
    /// # Errors
    /// The link was lost or suspended before that.
    #[inline]
    pub async fn wait(self) -> Result<K, Down> {
        match self.wait_for_taker().await? {
            Taker::Caller(collector) => Ok(collector),
            Taker::Invalidation(_) => unreachable!("only a link itself begins these"),
        }
    }

    /// The same, of a batch that the link may have begun for itself.
    #[inline]
    pub(super) async fn wait_for_taker(mut self) -> Result<Taker<K>, Down> {
        let taker = poll_fn(|context| {
            let mut inner = self.inner.borrow_mut();
            match inner.slots.poll(self.slot, context.waker()) {
                Progress::Waiting => Poll::Pending,
                Progress::Done(taker) => Poll::Ready(Ok(taker)),
                Progress::Failed => Poll::Ready(Err(Down)),
            }
        })
        .await;
        self.is_over = true;
        taker
    }

    /// Waits, behind all who waited before, until the output has room.
    async fn room(&self, bytes: usize) -> Result<(), Down> {
        let mut place = Place { inner: self.inner, ticket: self.inner.borrow_mut().ticket() };
        poll_fn(|context| {
            let mut inner = self.inner.borrow_mut();
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

impl<C: Codec, K: Collect> Drop for Batch<'_, C, K> {
    fn drop(&mut self) {
        if !self.is_over {
            self.inner.borrow_mut().abandon(self.slot);
        }
    }
}

/// A place in the line for room.
struct Place<'l, C: Codec, K: Collect> {
    inner: &'l RefCell<Inner<C, K>>,
    ticket: u64,
}

impl<C: Codec, K: Collect> Drop for Place<'_, C, K> {
    fn drop(&mut self) {
        self.inner.borrow_mut().leave_queue(self.ticket);
    }
}
