//! A Rend-based server, such as rend-lmdb or another sunder, as a tier.
//!
//! It is used through memcached's binary protocol, pipelined, but never with a run of quiet gets,
//! which makes a Rend confuse its answers. Rend's GETE returns a hit's expiry. [`probe`] determines
//! at start what the server supports:
//!
//! - All commands of memcached, as another sunder: each operation is one request (`whole.rs`).
//! - Only what Rend supports (`partial.rs`). It closes the connection on all other commands, gives
//!   items no cas, treats every exptime as relative, and lets some commands act on expired items.
//!   So operations that Rend lacks are composed of those it has, and most look up the item first.
//!   The owner of a key runs one operation on it at a time, so no other operation of this server
//!   comes between.
//!
//! A Rend differs from memcached in two ways. An operation with a cas is never executed: it is
//! answered as if the item had been changed meanwhile. And `flush_all` fails, because a Rend does
//! not report when an item was stored; for the same reason it stays out of service if more items
//! had to be invalidated than a link remembers. [`Rend::lacks`] returns a line for the operator.
//!
//! Nothing here may send a Rend an unknown command, or report an operation as done that may not be.

pub mod binary;
mod partial;
pub mod probe;
mod whole;

use std::cell::Cell;

use self::binary::{Binary, BinaryRequest, Exptimes};
use self::probe::{ProbeError, Server};
use super::link::{Address, Batch, Down, Head, Link, LinkConfig, One, OpenError, Status};
use super::{Action, Arithmetic, Hit, ItemState, Outcome, Store, Tier};
use crate::base::buffer::{Body, Chain, Key};
use crate::base::clock::{Clock, Expiry, Now};
use crate::base::limits::item_bytes;

/// A Rend-based server behind one link.
#[derive(Debug)]
pub struct Rend {
    link: Link<Binary, One>,
    server: Server,
    /// Largest item, as memcached counts it; the limit for appends.
    item_bytes_max: usize,
    /// The last cas generated for a server whose items have none.
    made_cas: Cell<u64>,
}

/// The outcome of an operation, unless the server is unreachable.
type Answer = Result<Outcome<Chain>, Down>;

/// A generated cas has this many bits: those that a link leaves to its server.
const MADE_CAS_MASK: u64 = (1 << 48) - 1;

impl Rend {
    /// Determines what the server at `address` supports; once, before links to it are opened.
    /// Waits.
    ///
    /// # Errors
    /// It is unreachable, or not a server for this tier.
    pub fn probe(address: &Address, now: Now) -> Result<Server, ProbeError> {
        probe::probe(|| probe::connect(address), now)
    }

    /// Connects to a `server` of a known kind; waits for its greeting. `item_bytes_max` is
    /// `--max-item-size`.
    ///
    /// # Errors
    /// If no server listens there, or one that does not speak the binary protocol.
    pub fn open(
        config: LinkConfig,
        server: Server,
        item_bytes_max: usize,
        now: Now,
    ) -> Result<Rend, OpenError> {
        let link = Link::open(config, now)?;
        Ok(Rend { link, server, item_bytes_max, made_cas: Cell::new(0) })
    }

    /// The features that clients will miss, as one line at start; None if there are none.
    pub fn lacks(server: Server) -> Option<&'static str> {
        match server {
            Server::Whole => None,
            Server::Rend(_) => Some(
                "the server is a Rend: flush_all will fail, and a store with a cas will find the \
                 item changed",
            ),
        }
    }

    /// The link.
    pub fn link(&self) -> &Link<Binary, One> {
        &self.link
    }

    fn exptimes(&self) -> Exptimes {
        match self.server {
            Server::Whole => Exptimes::Memcached,
            Server::Rend(exptimes) => exptimes,
        }
    }

    /// A number that no item has, and that no other answer had.
    fn make_cas(&self) -> u64 {
        let cas = self.made_cas.get() % MADE_CAS_MASK + 1;
        self.made_cas.set(cas);
        cas
    }

    /// The cas of an item whose server returned `cas`.
    fn cas(&self, cas: u64) -> u64 {
        match self.server {
            Server::Whole => cas,
            Server::Rend(_) => self.make_cas(),
        }
    }

    async fn request(&self, request: BinaryRequest<'_>) -> Result<(Head, Chain), Down> {
        request_in(self.link.begin(One::default())?, request, Body::EMPTY).await
    }

    async fn request_store(
        &self,
        request: BinaryRequest<'_>,
        value: Body<'_>,
    ) -> Result<(Head, Chain), Down> {
        request_in(self.link.begin(One::default())?, request, value).await
    }

    /// The item with its expiry; a Rend returns it for a second longer than its lifetime.
    async fn find(&self, key: &[u8], now: Now) -> Result<Option<Hit<Chain>>, Down> {
        let (head, value) = self.request(BinaryRequest::get_with_expiry(key)).await?;
        let expiry = self.exptimes().expiry(head.expiry);
        match head.status {
            Status::Value if expiry.is_past(now) => Ok(None),
            Status::Value => {
                let (flags, cas) = (head.flags, self.cas(head.cas));
                Ok(Some(Hit { flags, expiry, cas, state: ItemState::default(), value }))
            }
            Status::Miss => Ok(None),
            _ => Err(Down),
        }
    }

    fn is_too_large(&self, key: &[u8], flags: u32, value_bytes: usize) -> bool {
        item_bytes(key.len(), flags, value_bytes) > self.item_bytes_max
    }
}

/// Sends a request in a batch that was begun for one answer.
async fn request_in(
    mut batch: Batch<'_, Binary, One>,
    request: BinaryRequest<'_>,
    value: Body<'_>,
) -> Result<(Head, Chain), Down> {
    let asked = batch.request(binary::REQUEST_HEAD_BYTES_MAX + value.len(), |out| {
        request.put(out);
        out.value(value);
    });
    asked.await?;
    Ok(batch.wait().await?.into_parts())
}

fn hit_or_miss(found: Option<Hit<Chain>>) -> Outcome<Chain> {
    found.map_or(Outcome::Miss, Outcome::Hit)
}

fn outcome_of(answer: Answer) -> Outcome<Chain> {
    answer.unwrap_or(Outcome::Failed)
}

impl Tier for Rend {
    type Value = Chain;

    fn try_now(
        &self,
        _key: &[u8],
        _action: Action,
        _value: Body<'_>,
        _now: Now,
    ) -> Option<Outcome<Chain>> {
        None
    }

    async fn get(&self, key: &Key, now: Now) -> Outcome<Chain> {
        outcome_of(self.find(key.as_bytes(), now).await.map(hit_or_miss))
    }

    async fn get_and_touch(&self, key: &Key, expiry: Expiry, now: Now) -> Outcome<Chain> {
        let key = key.as_bytes();
        outcome_of(match self.server {
            Server::Whole => self.get_and_touch_whole(key, expiry, now).await,
            Server::Rend(_) => self.touch_partly(key, expiry, now).await.map(hit_or_miss),
        })
    }

    async fn store(&self, key: &Key, store: Store, value: &Chain, now: Now) -> Outcome<Chain> {
        let (key, value) = (key.as_bytes(), Body::Chain(value));
        outcome_of(match self.server {
            Server::Whole => self.store_whole(key, store, value, now).await,
            Server::Rend(_) => self.store_partly(key, store, value, now).await,
        })
    }

    async fn delete(&self, key: &Key, cas: u64, now: Now) -> Outcome<Chain> {
        let key = key.as_bytes();
        outcome_of(match self.server {
            Server::Whole => self.delete_whole(key, cas, now).await,
            Server::Rend(_) => self.delete_partly(key, cas, now).await,
        })
    }

    async fn touch(&self, key: &Key, expiry: Expiry, now: Now) -> Outcome<Chain> {
        let key = key.as_bytes();
        outcome_of(match self.server {
            Server::Whole => self.touch_whole(key, expiry, now).await,
            Server::Rend(_) => self.touch_partly(key, expiry, now).await.map(|found| match found {
                Some(hit) => Outcome::Touched { cas: hit.cas },
                None => Outcome::Miss,
            }),
        })
    }

    async fn arithmetic(&self, key: &Key, arithmetic: Arithmetic, now: Now) -> Outcome<Chain> {
        let key = key.as_bytes();
        outcome_of(match self.server {
            Server::Whole => self.arithmetic_whole(key, arithmetic, now).await,
            Server::Rend(_) => self.arithmetic_partly(key, arithmetic, now).await,
        })
    }

    async fn flush_all(&self, at: Expiry, now: Now) -> Outcome<Chain> {
        match self.server {
            Server::Whole => outcome_of(self.flush_whole(at, now).await),
            Server::Rend(_) => Outcome::Failed,
        }
    }

    async fn invalidate(&self, key: &Key, _now: Now) {
        self.link.invalidate(key).await;
    }

    fn turn(&self, now: Now) -> usize {
        self.link.turn(now)
    }

    fn flush(&self, now: Now) {
        self.link.flush(now);
    }

    fn wake_at_us(&self) -> u64 {
        self.link.wake_at_us()
    }

    fn finish(&self, _clock: &Clock) -> bool {
        true
    }
}
