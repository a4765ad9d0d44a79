//! A worker's pipelined connection to a server of items on this host.
//!
//! The requests of all clients are sent in one stream, and their answers arrive in the same order,
//! exactly one each. A link must never pass an answer to another request, nor let a failed request
//! be executed after a later one that was acknowledged. Therefore:
//!
//! - Each request contains a number which its answer repeats, or requests values by keys which
//!   their answers repeat. An answer with another number or key, or an invalid one, ends the
//!   connection; all outstanding requests fail.
//! - A server that does not answer in time is *suspended*: all outstanding requests fail
//!   immediately, and so do new ones until every late answer has arrived. Their order then proves
//!   that the late requests were executed before any newer one. A new connection would not prove
//!   that: the old requests would still be in the frozen server's socket.
//! - If a server is suspended for too long, an answer was lost. Its connection is shut down for
//!   output and read to its end before there is another, for the same reason. `inner/loss.rs`
//!   handles the case that this end never arrives.
//! - [`Link::invalidate`] remembers keys that could not be deleted, and the link serves again only
//!   after they were deleted.
//! - cas numbers of different connections differ, because a restarted server counts from 1 again:
//!   see [`Batch::cas`].
//!
//! A link knows no protocol and no layout of values. A [`Codec`] writes and parses for it, and a
//! [`Collect`] takes the answers to a [`Batch`]; the user of the link provides both.

mod batch;
mod collect;
mod config;
mod inner;
mod input;
mod keys;
mod line;
mod open;
mod output;
mod protocol;
mod remembered;
mod request;
mod slots;
mod stream;

use std::cell::RefCell;
use std::fmt;

pub use batch::Batch;
pub use collect::{Collect, One, Statuses};
pub use config::{Down, LinkConfig, Role};
pub use open::OpenError;
pub use protocol::{Codec, Garbage, Head, Marks, Refusal, Status};
pub use request::RequestWriter;
pub use stream::Address;

use crate::base::buffer::Key;
use crate::base::clock::Now;
use crate::base::limits::LINK_BATCHES_MAX;
use inner::Inner;
use slots::Taker;

/// A connection that is re-established when it is lost: it speaks `C`, and a `K` takes its answers.
pub struct Link<C, K> {
    inner: RefCell<Inner<C, K>>,
}

impl<C, K> fmt::Debug for Link<C, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.inner.try_borrow() {
            Ok(inner) => inner.fmt(f),
            Err(_) => f.write_str("Link"),
        }
    }
}

impl<C: Codec, K: Collect> Link<C, K> {
    /// Connects and greets; waits for that, up to a second or two. `now` is the next turn.
    ///
    /// # Errors
    /// If no server listens there, or not the expected one.
    pub fn open(config: LinkConfig, now: Now) -> Result<Link<C, K>, OpenError> {
        let stream = open::open::<C>(&config)?;
        let starts_empty = config.starts_empty;
        let mut inner = Inner::new(config, stream, now);
        if starts_empty {
            inner.begin_empty();
        }
        Ok(Link { inner: RefCell::new(inner) })
    }

    /// Whether requests are served now.
    pub fn is_up(&self) -> bool {
        self.inner.borrow().is_serving()
    }

    /// The time by which answers were read.
    pub fn now(&self) -> Now {
        self.inner.borrow().now()
    }

    /// Begins a batch whose answers go to `collector`.
    ///
    /// # Errors
    /// The server is unreachable.
    #[inline]
    pub fn begin(&self, collector: K) -> Result<Batch<'_, C, K>, Down> {
        self.begin_for(Taker::Caller(collector))
    }

    #[inline]
    fn begin_for(&self, taker: Taker<K>) -> Result<Batch<'_, C, K>, Down> {
        let mut inner = self.inner.borrow_mut();
        if !inner.is_serving() || inner.slots.len() >= LINK_BATCHES_MAX {
            inner.count_failure();
            return Err(Down);
        }
        let slot = inner.slots.take(taker);
        drop(inner);
        Ok(Batch::new(&self.inner, slot))
    }

    /// Ensures that the current item of `key` is never served again: deletes it, or remembers to
    /// delete it before any other request. Returns when that is certain.
    pub async fn invalidate(&self, key: &Key) {
        let taker = {
            let mut inner = self.inner.borrow_mut();
            if !inner.is_serving() {
                inner.remember(key.clone());
                return;
            }
            Taker::Invalidation(inner.boxed_key(key))
        };
        // If the answer does not arrive for any reason, the link itself remembers the key.
        let Ok(mut batch) = self.begin_for(taker) else {
            self.inner.borrow_mut().remember(key.clone());
            return;
        };
        let bytes = key.as_bytes();
        let asked = batch.request(2 * bytes.len() + 64, |request| C::delete(request, bytes)).await;
        if asked.is_ok()
            && let Ok(Taker::Invalidation(key)) = batch.wait_for_taker().await
        {
            self.inner.borrow_mut().unbox_key(key);
        }
    }

    /// Processes input, wakes the tasks that waited for it, and reconnects if that is due. Returns
    /// how many answers arrived.
    pub fn turn(&self, now: Now) -> usize {
        self.inner.borrow_mut().turn(now)
    }

    /// Sends queued requests.
    pub fn flush(&self, now: Now) {
        self.inner.borrow_mut().flush(now);
    }

    /// When [`Link::turn`] must be called even if nothing arrives, as an uptime in microseconds.
    /// Called before the worker sleeps.
    pub fn wake_at_us(&self) -> u64 {
        self.inner.borrow_mut().wake_at_us()
    }
}
