//! A server that supports only what Rend does: other operations are composed of that.
//!
//! Most operations look up the item first: Rend's stores let add, replace, append, touch and delete
//! act on expired items, and Rend's own memory deletes an item that is added again. Nothing here
//! may restore an expired item, or execute an operation with a cas.

use super::binary::BinaryRequest;
use super::{Answer, Rend};
use crate::base::buffer::{Body, Chain, Gather};
use crate::base::clock::{Expiry, Now};
use crate::tier::link::{Down, Status};
use crate::tier::memory::number;
use crate::tier::{Arithmetic, Hit, Outcome, Store, StoreMode};

impl Rend {
    pub(super) async fn store_partly(
        &self,
        key: &[u8],
        store: Store,
        value: Body<'_>,
        now: Now,
    ) -> Answer {
        let is_extension = matches!(store.mode, StoreMode::Append | StoreMode::Prepend);
        if store.cas != 0 {
            return Ok(match self.find(key, now).await? {
                Some(_) => Outcome::Exists,
                None if is_extension => Outcome::NotStored,
                None => Outcome::Miss,
            });
        }
        match store.mode {
            StoreMode::Set => self.put(key, store, value, now).await,
            StoreMode::Add => self.add_partly(key, store, value, now).await,
            StoreMode::Replace => match self.find(key, now).await? {
                Some(_) => self.put(key, store, value, now).await,
                None => Ok(Outcome::NotStored),
            },
            StoreMode::Append | StoreMode::Prepend => match self.find(key, now).await? {
                Some(hit) => self.extend_partly(key, store, value, hit).await,
                None => Ok(Outcome::NotStored),
            },
        }
    }

    /// Stores when it is known whether there is an item. As in memcached, no item is left if there
    /// is no room for a set.
    async fn put(&self, key: &[u8], store: Store, value: Body<'_>, now: Now) -> Answer {
        let Store { mode, flags, expiry, .. } = store;
        if expiry.is_past(now) {
            // Expires as soon as it is stored; only a future moment can be expressed.
            self.remove(key).await?;
            return Ok(Outcome::Stored { cas: self.make_cas() });
        }
        let exptime = self.exptimes().exptime(expiry, now);
        let request = BinaryRequest::store(mode, key, flags, exptime, 0, value.len());
        let (head, _) = self.request_store(request, value).await?;
        let refused = match head.status {
            Status::Done => return Ok(Outcome::Stored { cas: self.make_cas() }),
            Status::TooLarge => Outcome::TooLarge,
            Status::NoMemory => Outcome::OutOfMemory,
            Status::Miss | Status::Exists | Status::NotStored => return Ok(Outcome::NotStored),
            Status::Value
            | Status::NonNumeric
            | Status::End
            | Status::Unsupported
            | Status::Refused => {
                return Err(Down);
            }
        };
        if mode == StoreMode::Set {
            self.remove(key).await?;
        }
        Ok(refused)
    }

    /// An item that an add finds has expired, unless another client of the server was faster.
    async fn add_partly(&self, key: &[u8], store: Store, value: Body<'_>, now: Now) -> Answer {
        if self.find(key, now).await?.is_some() {
            return Ok(Outcome::NotStored);
        }
        match self.put(key, store, value, now).await? {
            Outcome::NotStored => {}
            other => return Ok(other),
        }
        if self.find(key, now).await?.is_some() {
            return Ok(Outcome::NotStored);
        }
        self.remove(key).await?;
        self.put(key, store, value, now).await
    }

    async fn extend_partly(
        &self,
        key: &[u8],
        store: Store,
        value: Body<'_>,
        old: Hit<Chain>,
    ) -> Answer {
        // Not `TooLarge`: memcached returns that only for the value in the request.
        if self.is_too_large(key, old.flags, old.value.len() + value.len()) {
            return Ok(Outcome::NotStored);
        }
        let request = BinaryRequest::store(store.mode, key, 0, 0, 0, value.len());
        let (head, _) = self.request_store(request, value).await?;
        match head.status {
            Status::Done => Ok(Outcome::Stored { cas: self.make_cas() }),
            Status::Value | Status::NonNumeric | Status::End | Status::Refused => Err(Down),
            _ => Ok(Outcome::NotStored),
        }
    }

    pub(super) async fn delete_partly(&self, key: &[u8], cas: u64, now: Now) -> Answer {
        match self.find(key, now).await? {
            Some(_) if cas != 0 => Ok(Outcome::Exists),
            Some(_) => {
                self.remove(key).await?;
                Ok(Outcome::Deleted)
            }
            None => Ok(Outcome::Miss),
        }
    }

    /// Touches an item that has not expired, and returns it with its new expiry.
    pub(super) async fn touch_partly(
        &self,
        key: &[u8],
        expiry: Expiry,
        now: Now,
    ) -> Result<Option<Hit<Chain>>, Down> {
        let Some(hit) = self.find(key, now).await? else { return Ok(None) };
        if expiry.is_past(now) {
            self.remove(key).await?;
            return Ok(Some(Hit { expiry, ..hit }));
        }
        let exptime = self.exptimes().exptime_of_touch(expiry, now);
        let (head, _) = self.request(BinaryRequest::touch(key, exptime)).await?;
        match head.status {
            Status::Done | Status::Value => Ok(Some(Hit { expiry, ..hit })),
            Status::Miss => Ok(None),
            _ => Err(Down),
        }
    }

    pub(super) async fn arithmetic_partly(
        &self,
        key: &[u8],
        arithmetic: Arithmetic,
        now: Now,
    ) -> Answer {
        let Some(old) = self.find(key, now).await? else {
            let Some((number, expiry)) = arithmetic.initial else { return Ok(Outcome::Miss) };
            return self.put_number(key, number, 0, 0, expiry, now).await;
        };
        // In this order: an empty value is not a number, whatever its cas.
        if old.value.is_empty() {
            return Ok(Outcome::NonNumeric);
        }
        if arithmetic.cas != 0 {
            return Ok(Outcome::Exists);
        }
        let Some(before) = number::parse(old.value.pieces()) else {
            return Ok(Outcome::NonNumeric);
        };
        let number = if arithmetic.decrement {
            before.saturating_sub(arithmetic.delta)
        } else {
            before.wrapping_add(arithmetic.delta)
        };
        self.put_number(key, number, old.value.len(), old.flags, old.expiry, now).await
    }

    /// Stores a number in place of a value of `bytes_min` bytes, and does not make it shorter.
    async fn put_number(
        &self,
        key: &[u8],
        number: u64,
        bytes_min: usize,
        flags: u32,
        expiry: Expiry,
        now: Now,
    ) -> Answer {
        let mut value = Gather::new();
        value.extend(itoa::Buffer::new().format(number).as_bytes());
        let spaces = bytes_min.saturating_sub(value.len());
        value.fill(spaces, |_, out| {
            out.fill(b' ');
            out.len()
        });
        let value = value.finish();
        let store = Store { mode: StoreMode::Set, flags, expiry, cas: 0 };
        Ok(match self.put(key, store, Body::Chain(&value), now).await? {
            Outcome::Stored { cas } => Outcome::Number { value: number, cas },
            Outcome::TooLarge | Outcome::OutOfMemory => Outcome::OutOfMemory,
            _ => return Err(Down),
        })
    }

    /// Ensures that there is no item.
    async fn remove(&self, key: &[u8]) -> Result<(), Down> {
        let (head, _) = self.request(BinaryRequest::delete(key, 0)).await?;
        match head.status {
            Status::Done | Status::Miss => Ok(()),
            _ => Err(Down),
        }
    }
}
