//! A tier outside this process's memory, whose kind is known only when the server starts.
//!
//! One branch per operation, which is negligible beside a round trip to the tier. It must not
//! change what the tiers do.

use super::dump::DumpedItem;
use super::memcached::chunked::Chunked;
use super::memcached::plain::Plain;
use super::rend::Rend;
use super::ssd::Ssd;
use super::ssd::disk::ring::RingDisk;
use super::{Action, Arithmetic, Meta, Outcome, Store, Tier};
use crate::base::buffer::{Body, Chain, Key};
use crate::base::clock::{Clock, Expiry, Now};

/// A tier outside this process's memory.
#[derive(Debug)]
pub enum Remote {
    /// A memcached that stores values unchanged.
    Plain(Plain),
    /// A memcached that stores values in chunks.
    Chunked(Chunked),
    /// A server that speaks Rend's GETE.
    Rend(Rend),
    /// An SSD.
    Ssd(Box<Ssd<RingDisk>>),
}

/// Calls the same function of each variant.
macro_rules! of {
    ($remote:expr, $tier:ident => $what:expr) => {
        match $remote {
            Remote::Plain($tier) => $what,
            Remote::Chunked($tier) => $what,
            Remote::Rend($tier) => $what,
            Remote::Ssd($tier) => $what,
        }
    };
}

impl Tier for Remote {
    type Value = Chain;

    fn try_now(
        &self,
        key: &[u8],
        action: Action,
        value: Body<'_>,
        now: Now,
    ) -> Option<Outcome<Chain>> {
        of!(self, tier => tier.try_now(key, action, value, now))
    }

    async fn get(&self, key: &Key, now: Now) -> Outcome<Chain> {
        of!(self, tier => tier.get(key, now).await)
    }

    async fn get_with_expiry(&self, key: &Key, now: Now) -> Outcome<Chain> {
        of!(self, tier => tier.get_with_expiry(key, now).await)
    }

    async fn get_and_touch(&self, key: &Key, expiry: Expiry, now: Now) -> Outcome<Chain> {
        of!(self, tier => tier.get_and_touch(key, expiry, now).await)
    }

    async fn store(&self, key: &Key, store: Store, value: &Chain, now: Now) -> Outcome<Chain> {
        of!(self, tier => tier.store(key, store, value, now).await)
    }

    async fn delete(&self, key: &Key, cas: u64, now: Now) -> Outcome<Chain> {
        of!(self, tier => tier.delete(key, cas, now).await)
    }

    async fn touch(&self, key: &Key, expiry: Expiry, now: Now) -> Outcome<Chain> {
        of!(self, tier => tier.touch(key, expiry, now).await)
    }

    async fn arithmetic(&self, key: &Key, arithmetic: Arithmetic, now: Now) -> Outcome<Chain> {
        of!(self, tier => tier.arithmetic(key, arithmetic, now).await)
    }

    async fn meta(&self, key: &Key, meta: Meta, value: &Chain, now: Now) -> Outcome<Chain> {
        of!(self, tier => tier.meta(key, meta, value, now).await)
    }

    async fn flush_all(&self, at: Expiry, now: Now) -> Outcome<Chain> {
        of!(self, tier => tier.flush_all(at, now).await)
    }

    async fn dump(&self, from: u64, now: Now) -> Outcome<Chain> {
        of!(self, tier => tier.dump(from, now).await)
    }

    async fn invalidate(&self, key: &Key, now: Now) {
        of!(self, tier => tier.invalidate(key, now).await)
    }

    fn is_far(&self) -> bool {
        of!(self, tier => tier.is_far())
    }

    fn prefetch(&self, key: &[u8]) -> u64 {
        of!(self, tier => tier.prefetch(key))
    }

    fn prefetch_more(&self, foreseen: u64) {
        of!(self, tier => tier.prefetch_more(foreseen))
    }

    fn turn(&self, now: Now) -> usize {
        of!(self, tier => tier.turn(now))
    }

    fn flush(&self, now: Now) {
        of!(self, tier => tier.flush(now))
    }

    fn note_evicted(&self, is_wanted: bool) {
        of!(self, tier => tier.note_evicted(is_wanted))
    }

    fn take_evicted(&self, each: &mut dyn FnMut(DumpedItem)) -> u64 {
        of!(self, tier => tier.take_evicted(each))
    }

    fn wake_at_us(&self) -> u64 {
        of!(self, tier => tier.wake_at_us())
    }

    fn finish(&self, clock: &Clock) -> bool {
        of!(self, tier => tier.finish(clock))
    }
}
