//! A worker's pipelined connection to a server of items on this host.
//!
//! Requests of all clients go out in one stream, and their answers come back in the same order,
//! exactly one each. A link must never give an answer to a request that it does not answer, nor let
//! a request that failed be executed after one that was asked for later and acknowledged. Hence:
//!
//! - Each request carries a number which its answer repeats, or asks for values by keys which
//!   their answers repeat. An answer with another number or key, or one that cannot be read, ends
//!   the connection; all that is outstanding fails.
//! - A server that does not answer in time is *suspended*: all that is outstanding fails at once,
//!   and so does what is asked for until every late answer has arrived. Their order then proves
//!   that the late requests were executed before any newer one. Another connection would not prove
//!   that: the old requests would still lie in the frozen server's socket.
//! - A server that is suspended for too long has lost an answer, or somebody between has. Its
//!   connection is ended: shut for output and read to its end before there is another, for the same
//!   reason. What happens where that end does not come either is in `inner/loss.rs`.
//! - [`Link::invalidate`] remembers keys that could not be deleted, and the link serves again only
//!   when that was made good.
//! - cas numbers of different connections differ, since a server that starts again counts from 1
//!   again: see [`Batch::cas`].
//!
//! A link knows no protocol and no layout of values. A [`Codec`] writes and reads for it, and a
//! [`Collect`] takes the answers to a [`Batch`]; who uses it brings both.

mod batch;
mod collect;
mod config;
mod inner;
mod keys;
mod open;
mod protocol;
mod remembered;
mod request;
mod slots;
mod stream;

use std::cell::RefCell;
use std::fmt;

pub use batch::Batch;
pub use collect::{Collect, One, Statuses};
pub use config::{Config, Down, Role};
pub use open::OpenError;
pub use protocol::{Codec, Garbage, Head, Refusal, Status};
pub use request::Request;
pub use stream::Address;

use crate::base::buffer::Key;
use crate::base::clock::Now;
use crate::base::limits::LINK_BATCHES_MAX;
use inner::Inner;
use slots::Taker;

/// A connection that is made again when it is lost: it speaks `C`, and a `K` takes its answers.
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
    /// Connects and greets; waits for that, up to a second or two. `now` is the turn that comes.
    ///
    /// # Errors
    /// Nobody listens there, or somebody else.
    pub fn open(config: Config, now: Now) -> Result<Link<C, K>, OpenError> {
        let stream = open::open::<C>(&config)?;
        Ok(Link { inner: RefCell::new(Inner::new(config, stream, now)) })
    }

    /// Whether requests are served now.
    pub fn is_up(&self) -> bool {
        self.inner.borrow().is_serving()
    }

    /// Begins requests whose answers go to `collector`.
    ///
    /// # Errors
    /// The server is out of reach.
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

    /// Sees to it that the item which `key` has now is never served again: deletes it, or remembers
    /// to before anything else is asked for. Returns when that is certain.
    pub async fn invalidate(&self, key: &Key) {
        let taker = {
            let mut inner = self.inner.borrow_mut();
            if !inner.is_serving() {
                inner.remember(key.clone());
                return;
            }
            Taker::Invalidation(inner.boxed_key(key))
        };
        // Whatever keeps the answer from coming makes the link remember the key by itself.
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

    /// Reads what came, wakes who waited for it, and connects again if that is due. Returns how
    /// many answers came.
    pub fn turn(&self, now: Now) -> usize {
        self.inner.borrow_mut().turn(now)
    }

    /// Sends what was asked for.
    pub fn flush(&self, now: Now) {
        self.inner.borrow_mut().flush(now);
    }

    /// By when [`Link::turn`] is to be called even if nothing arrives, as an uptime in
    /// microseconds.
    pub fn wake_at_us(&self) -> u64 {
        self.inner.borrow().wake_at_us()
    }
}
