//! A server that supports all of memcached's binary protocol, and GETE: each operation is one
//! request.
//!
//! Nothing here may answer anything that the server did not.

use super::binary::{Binary, BinaryRequest, Exptimes, number};
use super::{Answer, Rend, hit_or_miss, request_in};
use crate::base::buffer::{Body, Chain};
use crate::base::clock::{Expiry, Now};
use crate::tier::link::{Batch, Down, Head, One, Status};
use crate::tier::{Arithmetic, Hit, ItemState, Outcome, Store, StoreMode};

/// A batch for one answer.
type OneBatch<'l> = Batch<'l, Binary, One>;

/// How memcached, and so a server of this kind, interprets an exptime.
const EXPTIMES: Exptimes = Exptimes::Memcached;

/// The outcome for statuses with the same meaning for every request.
fn rest(status: Status) -> Outcome<Chain> {
    match status {
        Status::Miss => Outcome::Miss,
        Status::NotStored => Outcome::NotStored,
        Status::Exists => Outcome::Exists,
        Status::TooLarge => Outcome::TooLarge,
        Status::NoMemory => Outcome::OutOfMemory,
        Status::NonNumeric => Outcome::NonNumeric,
        Status::Value | Status::Done | Status::End | Status::Unsupported | Status::Refused => {
            Outcome::Failed
        }
    }
}

impl Rend {
    /// A batch for one answer, and the cas as the server knows it. None: no item has it any more.
    fn begin(&self, cas: u64) -> Result<Option<(OneBatch<'_>, u64)>, Down> {
        let batch = self.link.begin(One::default())?;
        Ok(match cas {
            0 => Some((batch, 0)),
            _ => batch.cas(cas).map(|cas| (batch, cas)),
        })
    }

    /// The outcome of an operation with a cas that no item has any more.
    async fn stale_cas(&self, key: &[u8], absent: Outcome<Chain>, now: Now) -> Answer {
        Ok(self.find(key, now).await?.map_or(absent, |_| Outcome::Exists))
    }

    pub(super) async fn get_and_touch_whole(&self, key: &[u8], expiry: Expiry, now: Now) -> Answer {
        let request = BinaryRequest::get_and_touch(key, EXPTIMES.exptime_of_touch(expiry, now));
        let (head, value) = self.request(request).await?;
        let Head { status, flags, cas, .. } = head;
        Ok(match status {
            Status::Value => {
                hit_or_miss(Some(Hit { flags, expiry, cas, state: ItemState::default(), value }))
            }
            status => rest(status),
        })
    }

    pub(super) async fn store_whole(
        &self,
        key: &[u8],
        store: Store,
        value: Body<'_>,
        now: Now,
    ) -> Answer {
        let Store { mode, flags, expiry, cas } = store;
        let is_extension = matches!(mode, StoreMode::Append | StoreMode::Prepend);
        let Some((batch, cas)) = self.begin(cas)? else {
            let absent = if is_extension { Outcome::NotStored } else { Outcome::Miss };
            return self.stale_cas(key, absent, now).await;
        };
        let exptime = EXPTIMES.exptime(expiry, now);
        let request = BinaryRequest::store(mode, key, flags, exptime, cas, value.len());
        let (head, _) = request_in(batch, request, value).await?;
        Ok(match (head.status, mode) {
            (Status::Done, _) => Outcome::Stored { cas: head.cas },
            // The binary protocol returns the reason, not that nothing was stored.
            (Status::Exists, StoreMode::Add) if cas == 0 => Outcome::NotStored,
            (Status::Miss, StoreMode::Replace) if cas == 0 => Outcome::NotStored,
            (status, _) => rest(status),
        })
    }

    pub(super) async fn delete_whole(&self, key: &[u8], cas: u64, now: Now) -> Answer {
        let Some((batch, cas)) = self.begin(cas)? else {
            return self.stale_cas(key, Outcome::Miss, now).await;
        };
        let (head, _) = request_in(batch, BinaryRequest::delete(key, cas), Body::EMPTY).await?;
        Ok(match head.status {
            Status::Done => Outcome::Deleted,
            status => rest(status),
        })
    }

    pub(super) async fn touch_whole(&self, key: &[u8], expiry: Expiry, now: Now) -> Answer {
        let request = BinaryRequest::touch(key, EXPTIMES.exptime_of_touch(expiry, now));
        let (head, _) = self.request(request).await?;
        Ok(match head.status {
            // The answer includes the item's flags.
            Status::Done | Status::Value => Outcome::Touched { cas: head.cas },
            status => rest(status),
        })
    }

    pub(super) async fn arithmetic_whole(
        &self,
        key: &[u8],
        arithmetic: Arithmetic,
        now: Now,
    ) -> Answer {
        let Some((batch, cas)) = self.begin(arithmetic.cas)? else {
            return self.stale_cas(key, Outcome::Miss, now).await;
        };
        let request = BinaryRequest::arithmetic(key, Arithmetic { cas, ..arithmetic }, now);
        let (head, value) = request_in(batch, request, Body::EMPTY).await?;
        if head.status != Status::Value {
            return Ok(rest(head.status));
        }
        let value = number(&value).ok_or(Down)?;
        Ok(Outcome::Number { value, cas: head.cas })
    }

    pub(super) async fn flush_whole(&self, at: Expiry, now: Now) -> Answer {
        // As in memcached, it takes effect a second before the requested time.
        let told = Expiry::from_unix_s(at.unix_s().saturating_add(1));
        let is_now = at == Expiry::NEVER || at.is_past(now);
        let exptime = if is_now { 0 } else { EXPTIMES.exptime(told, now) };
        let (head, _) = self.request(BinaryRequest::flush_all(exptime)).await?;
        Ok(if head.status == Status::Done { Outcome::Flushed } else { Outcome::Failed })
    }
}
