//! Requests that belong together, and the wait for their answers.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::Poll;

use super::collect::Collect;
use super::config::Down;
use super::inner::Inner;
use super::protocol::Codec;
use super::request::RequestWriter;
use super::slots::{Progress, Taker};
use crate::base::spent;

/// One or more requests whose answers are collected together. Dropping it at any time is safe:
/// requests that were sent are not withdrawn, and their answers are discarded.
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

    /// Adds a request: waits until the output has room for `room_bytes`, the longest that the
    /// request may be, and calls `write` to write it. It is sent with the next
    /// [`super::Link::flush`]. Requests of one batch are sent in this order, possibly with others
    /// between them.
    ///
    /// # Errors
    /// The link was lost since the batch began; the whole batch has failed. Its requests may or may
    /// not be executed, but not after any request that is made from now on.
    #[inline]
    pub async fn request(
        &mut self,
        room_bytes: usize,
        write: impl FnOnce(&mut RequestWriter<'_>),
    ) -> Result<(), Down> {
        if !self.has_room(room_bytes)? {
            self.room(room_bytes).await?;
        }
        self.request_now(write);
        Ok(())
    }

    /// As [`Batch::request`], without a future: one that carries `write` is moved several times,
    /// which matters where there are many requests. There must be room: between
    /// [`Batch::has_room`], or [`Batch::room`], and this nothing may be awaited.
    #[inline]
    pub fn request_now(&mut self, write: impl FnOnce(&mut RequestWriter<'_>)) {
        self.inner.borrow_mut().write_request(self.slot, write);
    }

    /// Requests the value of another key, which must be valid in a text line, together with all
    /// other keys that are looked up in this turn, by any task: for the server they are one
    /// request. The answer has status, flags, cas and value.
    ///
    /// # Errors
    /// See [`Batch::request`].
    #[inline]
    pub async fn look_up(&mut self, key: &[u8]) -> Result<(), Down> {
        let room_bytes = Self::lookup_bytes(key);
        if !self.has_room(room_bytes)? {
            self.room(room_bytes).await?;
        }
        self.look_up_now(key);
        Ok(())
    }

    /// As [`Batch::look_up`], without a future: see [`Batch::request_now`]. It needs room for
    /// [`Batch::lookup_bytes`].
    #[inline]
    pub fn look_up_now(&mut self, key: &[u8]) {
        self.inner.borrow_mut().look_up(self.slot, key);
    }

    /// Length of a lookup of `key` in the output, in bytes.
    #[inline]
    pub fn lookup_bytes(key: &[u8]) -> usize {
        C::LOOKUP.len() + 1 + key.len() + C::LOOKUP_END.len()
    }

    /// Whether the output has room for `bytes` bytes, and no task waits for room.
    ///
    /// # Errors
    /// See [`Batch::request`].
    #[inline]
    pub fn has_room(&self, bytes: usize) -> Result<bool, Down> {
        let inner = self.inner.borrow();
        if inner.slots.has_failed(self.slot) { Err(Down) } else { Ok(inner.has_room(bytes)) }
    }

    /// The cas by which this connection's server knows `cas`, which a [`super::Head`] had. None: it
    /// is from another connection, or from no link, and no item has it any more; the operation must
    /// fail. 0 stays 0. Call it after [`super::Link::begin`].
    #[inline]
    pub fn cas(&self, cas: u64) -> Option<u64> {
        self.inner.borrow().cas_of_server(cas)
    }

    /// The collector when all answers have arrived.
    ///
    /// # Errors
    /// The link was lost or suspended before.
    #[inline]
    pub async fn wait(self) -> Result<K, Down> {
        match self.wait_for_taker().await? {
            Taker::Caller(collector) => Ok(collector),
            Taker::Invalidation(_) => unreachable!("only a link itself begins these"),
        }
    }

    /// The same, for a batch that the link itself may have begun.
    #[inline]
    pub(super) async fn wait_for_taker(mut self) -> Result<Taker<K>, Down> {
        let taker = poll_fn(|context| {
            let mut inner = self.inner.borrow_mut();
            match inner.slots.poll(self.slot, context.waker()) {
                Progress::Waiting => {
                    spent::awaits(inner.level());
                    Poll::Pending
                }
                Progress::Done(taker) => Poll::Ready(Ok(taker)),
                Progress::Failed => Poll::Ready(Err(Down)),
            }
        })
        .await;
        self.is_over = true;
        taker
    }

    /// Waits, after all earlier waiters, until the output has room for `bytes` bytes.
    ///
    /// # Errors
    /// See [`Batch::request`].
    pub async fn room(&self, bytes: usize) -> Result<(), Down> {
        let ticket = self.inner.borrow_mut().line.join();
        let place = RoomPlace { inner: self.inner, ticket };
        poll_fn(|context| {
            let mut inner = self.inner.borrow_mut();
            if inner.slots.has_failed(self.slot) {
                return Poll::Ready(Err(Down));
            }
            if inner.line.is_first(place.ticket) && inner.has_space(bytes) {
                return Poll::Ready(Ok(()));
            }
            inner.line.wait(place.ticket, context.waker());
            spent::awaits(inner.level());
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

/// A waiter for room in the output.
struct RoomPlace<'l, C: Codec, K: Collect> {
    inner: &'l RefCell<Inner<C, K>>,
    ticket: u64,
}

impl<C: Codec, K: Collect> Drop for RoomPlace<'_, C, K> {
    fn drop(&mut self) {
        self.inner.borrow_mut().line.leave(self.ticket);
    }
}
