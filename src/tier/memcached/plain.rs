//! Items stored in a memcached unchanged: one item here is one item there.
//!
//! memcached's answer is the answer. Answers are never invented: if the link could not send a
//! request, or its answer did not arrive, the operation has failed.

use super::gate::{Gate, GateKind, Pass};
use super::key;
use super::meta::{self, Get};
use crate::base::buffer::{Body, Chain, Key};
use crate::base::clock::{Clock, Expiry, Now};
use crate::base::limits::LINK_REWRITES_MAX;
use crate::tier::link::{
    Batch, Down, Head, Link, LinkConfig, Marks, One, OpenError, RequestWriter, Status,
};
use crate::tier::meta::left_s;
use crate::tier::{Action, Arithmetic, Hit, ItemState, Meta, Outcome, Store, StoreMode, Tier};

/// A batch for one answer.
type OneBatch<'l> = Batch<'l, meta::Meta, One>;

/// Digits of 2^64 - 1, and the spaces that memcached may leave after a number that became shorter.
const NUMBER_BYTES_MAX: usize = 24;

/// Similar requests were in flight for too long.
struct TooLate;

/// One memcached behind one link.
#[derive(Debug)]
pub struct Plain {
    link: Link<meta::Meta, One>,
    /// Limits requests for which the server may copy or read an item of unknown, possibly large,
    /// size.
    rewrites: Gate,
}

impl Plain {
    /// Connects to the memcached; waits for its greeting.
    ///
    /// # Errors
    /// If no server listens there, or not a memcached with the meta commands.
    pub fn open(config: LinkConfig, now: Now) -> Result<Plain, OpenError> {
        let rewrites = Gate::new(LINK_REWRITES_MAX, config.timeout_us);
        Ok(Plain { link: Link::open(config, now)?, rewrites })
    }

    /// The link, for other requests to the same memcached.
    pub fn link(&self) -> &Link<meta::Meta, One> {
        &self.link
    }

    /// Sends one request in a batch that was begun for one answer.
    #[inline]
    pub(super) async fn request(
        mut batch: OneBatch<'_>,
        room_bytes: usize,
        write: impl FnOnce(&mut RequestWriter<'_>),
    ) -> Result<(Head, Chain), Down> {
        batch.request(room_bytes, write).await?;
        Ok(batch.wait().await?.into_parts())
    }

    /// Sends a request about a key, without a value.
    #[inline]
    async fn request_about(
        &self,
        key: &Key,
        write: impl FnOnce(&mut RequestWriter<'_>, &[u8]),
    ) -> Result<(Head, Chain), Down> {
        let key = key.as_bytes();
        if !key::can_carry(key) {
            return Err(Down);
        }
        let batch = self.link.begin(One::default())?;
        Plain::request(batch, meta::room(key, 0), |request| write(request, key)).await
    }

    /// Waits until a store of this mode may be in flight beside similar ones, if it has to. An
    /// error: that took too long.
    async fn enter(&self, mode: StoreMode) -> Result<Option<Pass<'_>>, TooLate> {
        match mode {
            StoreMode::Append | StoreMode::Prepend => {
                match self.rewrites.enter(GateKind::Extend).await {
                    Some(pass) => Ok(Some(pass)),
                    None => Err(TooLate),
                }
            }
            StoreMode::Set | StoreMode::Add | StoreMode::Replace => Ok(None),
        }
    }

    /// The outcome of an operation with a cas that no item has any more.
    async fn stale_cas(&self, key: &Key, absent: Outcome<Chain>) -> Outcome<Chain> {
        match self.request_about(key, |request, key| meta::get(request, key, Get::Existence)).await
        {
            Ok((head, _)) if head.status == Status::Done => Outcome::Exists,
            Ok((head, _)) if head.status == Status::Miss => absent,
            _ => Outcome::Failed,
        }
    }

    /// The outcome of a request with a value in its answer.
    async fn hit(
        &self,
        key: &Key,
        answer: Result<(Head, Chain), Down>,
        now: Now,
    ) -> Outcome<Chain> {
        let Ok((head, value)) = answer else { return Outcome::Failed };
        if head.status != Status::Value {
            return rest(head.status);
        }
        self.give_back(key, &head).await;
        Outcome::Hit(hit_of(&head, value, now))
    }

    /// Marks an item again that an mg of ours found stale: whoever asked did not ask for the right
    /// to fetch it, and the next client that does must get it.
    #[inline]
    async fn give_back(&self, key: &Key, head: &Head) {
        if head.marks.has(Marks::WON) {
            // Rare, and it would make every get's future larger.
            Box::pin(self.mark_again(key, head.cas)).await;
        }
    }

    #[cold]
    async fn mark_again(&self, key: &Key, cas: u64) {
        let Ok(Some((batch, cas))) = self.cas(cas) else { return };
        let bytes = key.as_bytes();
        let write = |request: &mut RequestWriter<'_>| meta::invalidate(request, bytes, cas);
        // If it fails the next client that asks has to wait for the item to expire.
        let _ = Plain::request(batch, meta::room(bytes, 0), write).await;
    }

    /// Limits requests that may copy or read an item.
    pub(super) fn rewrites(&self) -> &Gate {
        &self.rewrites
    }

    /// The cas as the server knows it, for an operation that has not begun otherwise. None: no item
    /// has it.
    fn cas(&self, cas: u64) -> Result<Option<(OneBatch<'_>, u64)>, Down> {
        let batch = self.link.begin(One::default())?;
        Ok(batch.cas(cas).map(|cas| (batch, cas)))
    }
}

/// What an answer says of an item.
fn state_of(head: &Head, now: Now) -> ItemState {
    ItemState {
        is_stale: head.marks.has(Marks::STALE),
        is_token_sent: head.marks.has(Marks::TOKEN_SENT),
        is_won: head.marks.has(Marks::WON),
        is_fetched: head.marks.has(Marks::FETCHED),
        idle_s: head.idle_s,
        left_s: left_s(head.expiry, now),
    }
}

/// What a head with flags and cas says.
pub(super) fn hit_of(head: &Head, value: Chain, now: Now) -> Hit<Chain> {
    let Head { flags, expiry, cas, .. } = *head;
    Hit { flags, expiry, cas, state: state_of(head, now), value }
}

/// The outcome for statuses with the same meaning for every request.
pub(super) fn rest(status: Status) -> Outcome<Chain> {
    match status {
        Status::Miss => Outcome::Miss,
        Status::NotStored => Outcome::NotStored,
        Status::Exists => Outcome::Exists,
        Status::TooLarge => Outcome::TooLarge,
        Status::NoMemory => Outcome::OutOfMemory,
        Status::NonNumeric => Outcome::NonNumeric,
        Status::Unsupported => Outcome::Unsupported,
        Status::Value | Status::Done | Status::End | Status::Refused => Outcome::Failed,
    }
}

/// The number in the answer to an incr or decr.
pub(super) fn number(value: &Chain) -> Option<u64> {
    let mut digits = [0; NUMBER_BYTES_MAX];
    if value.len() > digits.len() {
        return None;
    }
    let n = value.copy_to(0, &mut digits);
    std::str::from_utf8(&digits[..n]).ok()?.trim_ascii_end().parse().ok()
}

impl Tier for Plain {
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
        let answer = self.request_about(key, |request, key| meta::get(request, key, Get::Value));
        self.hit(key, answer.await, now).await
    }

    async fn get_with_expiry(&self, key: &Key, now: Now) -> Outcome<Chain> {
        let what = Get::ValueAndExpiry;
        let answer = self.request_about(key, |request, key| meta::get(request, key, what));
        self.hit(key, answer.await, now).await
    }

    async fn get_and_touch(&self, key: &Key, expiry: Expiry, now: Now) -> Outcome<Chain> {
        let answer =
            self.request_about(key, |request, key| meta::get_and_touch(request, key, expiry, now));
        match self.hit(key, answer.await, now).await {
            Outcome::Hit(hit) => Outcome::Hit(Hit { expiry, ..hit }),
            other => other,
        }
    }

    async fn store(&self, key: &Key, store: Store, value: &Chain, now: Now) -> Outcome<Chain> {
        let bytes = key.as_bytes();
        if !key::can_carry(bytes) {
            return Outcome::Failed;
        }
        let Ok(_pass) = self.enter(store.mode).await else { return Outcome::Throttled };
        let (batch, cas) = match self.cas(store.cas) {
            Ok(Some(begun)) => begun,
            Ok(None) => {
                let absent = match store.mode {
                    StoreMode::Append | StoreMode::Prepend => Outcome::NotStored,
                    _ => Outcome::Miss,
                };
                return self.stale_cas(key, absent).await;
            }
            Err(Down) => return Outcome::Failed,
        };
        let Store { mode, flags, expiry, .. } = store;
        let how = meta::Store { mode, flags, expiry, cas };
        let answer = Plain::request(batch, meta::room(bytes, value.len()), |request| {
            meta::store(request, bytes, &how, value.len(), now);
            request.value(Body::Chain(value));
            meta::end_of_value(request);
        });
        match answer.await {
            Ok((Head { status: Status::Done, cas, .. }, _)) => Outcome::Stored { cas },
            Ok((head, _)) => rest(head.status),
            Err(Down) => Outcome::Failed,
        }
    }

    async fn delete(&self, key: &Key, cas: u64, _now: Now) -> Outcome<Chain> {
        let bytes = key.as_bytes();
        if !key::can_carry(bytes) {
            return Outcome::Failed;
        }
        let (batch, cas) = match self.cas(cas) {
            Ok(Some(begun)) => begun,
            Ok(None) => return self.stale_cas(key, Outcome::Miss).await,
            Err(Down) => return Outcome::Failed,
        };
        let room = meta::room(bytes, 0);
        match Plain::request(batch, room, |request| meta::delete(request, bytes, cas)).await {
            Ok((Head { status: Status::Done, .. }, _)) => Outcome::Deleted,
            Ok((head, _)) => rest(head.status),
            Err(Down) => Outcome::Failed,
        }
    }

    async fn touch(&self, key: &Key, expiry: Expiry, now: Now) -> Outcome<Chain> {
        match self.request_about(key, |request, key| meta::touch(request, key, expiry, now)).await {
            Ok((head, _)) if head.status == Status::Done => {
                self.give_back(key, &head).await;
                Outcome::Touched { cas: head.cas }
            }
            Ok((head, _)) => rest(head.status),
            Err(Down) => Outcome::Failed,
        }
    }

    async fn arithmetic(&self, key: &Key, arithmetic: Arithmetic, now: Now) -> Outcome<Chain> {
        let bytes = key.as_bytes();
        if !key::can_carry(bytes) {
            return Outcome::Failed;
        }
        let Some(_pass) = self.rewrites.enter(GateKind::Count).await else {
            return Outcome::Throttled;
        };
        let (batch, cas) = match self.cas(arithmetic.cas) {
            Ok(Some(begun)) => begun,
            Ok(None) => return self.stale_cas(key, Outcome::Miss).await,
            Err(Down) => return Outcome::Failed,
        };
        let arithmetic = Arithmetic { cas, ..arithmetic };
        let answer = Plain::request(batch, meta::room(bytes, 0), |request| {
            meta::arithmetic(request, bytes, &arithmetic, now);
        });
        match answer.await {
            Ok((Head { status: Status::Value, cas, .. }, value)) => match number(&value) {
                Some(value) => Outcome::Number { value, cas },
                None => Outcome::Failed,
            },
            Ok((head, _)) => rest(head.status),
            Err(Down) => Outcome::Failed,
        }
    }

    async fn meta(&self, key: &Key, meta: Meta, value: &Chain, now: Now) -> Outcome<Chain> {
        self.pass(key, &meta, value, now).await
    }

    async fn flush_all(&self, at: Expiry, now: Now) -> Outcome<Chain> {
        let Ok(batch) = self.link.begin(One::default()) else { return Outcome::Failed };
        let room = meta::room(b"", 0);
        match Plain::request(batch, room, |request| meta::flush_all(request, at, now)).await {
            Ok((Head { status: Status::Done, .. }, _)) => Outcome::Flushed,
            _ => Outcome::Failed,
        }
    }

    async fn invalidate(&self, key: &Key, _now: Now) {
        if key::can_carry(key.as_bytes()) {
            self.link.invalidate(key).await;
        }
    }

    fn turn(&self, now: Now) -> usize {
        self.rewrites.turn(now);
        self.link.turn(now)
    }

    fn flush(&self, now: Now) {
        self.link.flush(now);
    }

    fn wake_at_us(&self) -> u64 {
        self.link.wake_at_us().min(self.rewrites.wake_at_us())
    }

    fn finish(&self, _clock: &Clock) -> bool {
        true
    }
}
