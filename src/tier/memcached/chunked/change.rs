//! The commands that store or change an item.

use std::ops::Range;

use super::assembly::Broken;
use super::collect::Collector;
use super::layout::{Metadata, Shape};
use super::name::Name;
use super::token::may_be_bare;
use super::{Answer, Chunked, Condition, Existing, Lookup, Stored, Written};
use crate::base::buffer::{Chain, Gather, Key};
use crate::base::clock::{Expiry, Now};
use crate::base::limits::{CHUNK_CONFLICTS_MAX, NUMBER_ITEM_BYTES_MAX, item_bytes};
use crate::base::work;
use crate::tier::link::{Down, Status};
use crate::tier::memcached::meta;
use crate::tier::memory::number;
use crate::tier::{Arithmetic, Outcome, Store, StoreMode};

impl Chunked {
    pub(super) async fn set(&self, key: &Key, store: &Store, value: &Chain, now: Now) -> Answer {
        let mut name = Name::of(key.as_bytes());
        let old = self.request_metadata(&mut name, Lookup::Plain, now).await?;
        let metadata = self.describe(&name, value.len(), store.flags, store.expiry, now);
        let value = (value, &Chain::new());
        let written = self.put(&mut name, key, &metadata, value, Condition::Always, now).await?;
        let old = match self.receive_metadata(old, &name, key).await? {
            Existing::Stored(old) => Some(old.metadata),
            Existing::Nothing | Existing::Foreign(_) | Existing::Invalid(_) => None,
        };
        self.tidy(&mut name, &written, metadata.shape.chunks, old.as_ref()).await?;
        match written {
            Written::Done(cas) => Ok(Outcome::Stored { cas }),
            Written::Lost(outcome) => Ok(outcome),
            Written::Unmet(_) => Err(Down),
        }
    }

    /// Add, replace and cas: decided before anything is overwritten.
    pub(super) async fn store_if(
        &self,
        key: &Key,
        store: &Store,
        value: &Chain,
        now: Now,
    ) -> Answer {
        let mut name = Name::of(key.as_bytes());
        let look = self.look_up(&mut name, key, Lookup::Plain, now).await?;
        let (old, condition) = match &look {
            Existing::Stored(old) if store.cas != 0 && old.cas != store.cas => {
                return Ok(Outcome::Exists);
            }
            Existing::Stored(_) if store.cas == 0 && store.mode == StoreMode::Add => {
                return Ok(Outcome::NotStored);
            }
            Existing::Stored(old) if store.cas != 0 => {
                (Some(&old.metadata), Condition::Cas(old.cas))
            }
            Existing::Stored(old) => (Some(&old.metadata), Condition::Present),
            _ if store.cas != 0 => return Ok(Outcome::Miss),
            _ if store.mode == StoreMode::Replace => return Ok(Outcome::NotStored),
            Existing::Nothing => (None, Condition::Absent),
            Existing::Foreign(cas) | Existing::Invalid(cas) => (None, Condition::Cas(*cas)),
        };
        let metadata = self.describe(&name, value.len(), store.flags, store.expiry, now);
        let (value, replaced) = ((value, &Chain::new()), (old, condition));
        match self.replace(&mut name, key, &metadata, value, replaced, now).await? {
            Written::Done(cas) => Ok(Outcome::Stored { cas }),
            Written::Lost(outcome) => Ok(outcome),
            Written::Unmet(Status::Exists) if store.cas != 0 => Ok(Outcome::Exists),
            Written::Unmet(_) if store.cas != 0 => Ok(Outcome::Miss),
            Written::Unmet(_) => Ok(Outcome::NotStored),
        }
    }

    /// Append and prepend.
    pub(super) async fn extend(&self, key: &Key, store: &Store, value: &Chain, now: Now) -> Answer {
        let mut name = Name::of(key.as_bytes());
        let stored = self.readable(&mut name, key, Lookup::WithExpiry, now).await?;
        let Some(old) = stored else { return Ok(Outcome::NotStored) };
        if store.cas != 0 && store.cas != old.cas {
            return Ok(Outcome::Exists);
        }
        let length = old.metadata.shape.length as usize + value.len();
        if item_bytes(key.as_bytes().len(), old.metadata.flags, length) > self.item_bytes_max {
            return Ok(Outcome::NotStored);
        }
        work::note(length);
        let extended = old.metadata.shape.extended(&name, length as u32);
        let written = match extended {
            Some(shape) if store.mode == StoreMode::Append => {
                self.append(&mut name, key, &old, shape, value, now).await?
            }
            _ => {
                let is_append = store.mode == StoreMode::Append;
                self.rewrite(&mut name, key, &old, value, is_append, now).await?
            }
        };
        Ok(match written {
            Some(Written::Done(cas)) => Outcome::Stored { cas },
            Some(Written::Unmet(Status::Exists)) if store.cas != 0 => Outcome::Exists,
            Some(Written::Lost(Outcome::Failed)) => Outcome::Failed,
            _ => Outcome::NotStored,
        })
    }

    /// Writes the last chunk again and the following ones. None: the item is broken.
    pub(super) async fn append(
        &self,
        name: &mut Name,
        key: &Key,
        old: &Stored,
        shape: Shape,
        value: &Chain,
        now: Now,
    ) -> Result<Option<Written>, Down> {
        let full = old.metadata.shape.length / shape.chunk_data_bytes;
        let token = &old.metadata.token;
        if full > 0 && may_be_bare(token) && self.find_bare_first(name, token).await?.is_some() {
            // Clients that know only Rend's names would not find it: the bare name is abandoned.
            return self.rewrite(name, key, old, value, true, now).await;
        }
        let tail = match self.gather(name, &old.metadata, full, None, now).await? {
            Ok(tail) => tail,
            Err(broken) => {
                self.discard(name, old, broken).await?;
                return Ok(None);
            }
        };
        if full == 0 && name.is_first_bare() {
            // The first chunk moves. The one left behind has the same token, and would be taken for
            // it if the new one were lost.
            return Ok(Some(self.rejoin(name, key, old, (&tail, value), now).await?));
        }
        let (token, flags) = (old.metadata.token, old.metadata.flags);
        let metadata =
            Metadata { shape, flags, stored_at_s: now.unix_s, expiry: old.expiry(), token };
        let chunks = self.put_chunks(name, &metadata, full, (&tail, value), now).await?;
        // Only after the chunks are known to be written: they have the old ones' token.
        let written = match self.chunks_lost(chunks).await? {
            Some(outcome) => Written::Lost(outcome),
            None => {
                let condition = Condition::Cas(old.cas);
                let last = self.put_metadata(name, key, &metadata, condition, now).await?;
                self.metadata_written(last).await?
            }
        };
        self.tidy(name, &written, shape.chunks, None).await?;
        Ok(Some(written))
    }

    /// Writes the whole value again with `value` before or after it. None: the item is broken.
    pub(super) async fn rewrite(
        &self,
        name: &mut Name,
        key: &Key,
        old: &Stored,
        value: &Chain,
        is_append: bool,
        now: Now,
    ) -> Result<Option<Written>, Down> {
        let before = match self.gather(name, &old.metadata, 0, None, now).await? {
            Ok(before) => before,
            Err(broken) => {
                self.discard(name, old, broken).await?;
                return Ok(None);
            }
        };
        let pieces = if is_append { (&before, value) } else { (value, &before) };
        Ok(Some(self.rejoin(name, key, old, pieces, now).await?))
    }

    /// Writes the two pieces as the item's value, with a new token.
    async fn rejoin(
        &self,
        name: &mut Name,
        key: &Key,
        old: &Stored,
        pieces: (&Chain, &Chain),
        now: Now,
    ) -> Result<Written, Down> {
        let length = pieces.0.len() + pieces.1.len();
        let metadata = self.describe(name, length, old.metadata.flags, old.expiry(), now);
        let replaced = (Some(&old.metadata), Condition::Cas(old.cas));
        self.replace(name, key, &metadata, pieces, replaced, now).await
    }

    pub(super) async fn try_store(
        &self,
        key: &Key,
        store: &Store,
        value: &Chain,
        now: Now,
    ) -> Answer {
        match store.mode {
            StoreMode::Append | StoreMode::Prepend => self.extend(key, store, value, now).await,
            StoreMode::Set if store.cas == 0 => self.set(key, store, value, now).await,
            StoreMode::Set | StoreMode::Add | StoreMode::Replace => {
                self.store_if(key, store, value, now).await
            }
        }
    }

    pub(super) async fn try_touch(&self, key: &Key, expiry: Expiry, now: Now) -> Answer {
        let mut name = Name::of(key.as_bytes());
        let touched = self.readable(&mut name, key, Lookup::Touch(expiry), now).await?;
        let Some(stored) = touched else { return Ok(Outcome::Miss) };
        // The server does as much work as for a get of them.
        work::note(stored.metadata.shape.length as usize);
        let chunks = stored.metadata.shape.chunks;
        let mut missing = chunks - self.touch_chunks(&mut name, 0..chunks, expiry, now).await?;
        let token = &stored.metadata.token;
        if missing == 1 && self.find_bare_first(&mut name, token).await?.is_some() {
            name.set_first_bare(true);
            missing -= self.touch_chunks(&mut name, 0..1, expiry, now).await?;
        }
        if missing > 0 {
            self.discard(&mut name, &stored, Broken::Missing).await?;
            return Ok(Outcome::Miss);
        }
        Ok(Outcome::Touched { cas: stored.cas })
    }

    /// Touches chunks; returns how many exist.
    async fn touch_chunks(
        &self,
        name: &mut Name,
        chunks: Range<u32>,
        expiry: Expiry,
        now: Now,
    ) -> Result<u32, Down> {
        if chunks.is_empty() {
            return Ok(0);
        }
        let mut batch = self.link.begin(Collector::statuses())?;
        for index in chunks {
            let key = name.chunk(index);
            let room = meta::room(key, 0);
            batch.request(room, |request| meta::touch(request, key, expiry, now)).await?;
        }
        Ok(batch.wait().await?.into_statuses().of(Status::Done))
    }

    pub(super) async fn try_arithmetic(
        &self,
        key: &Key,
        arithmetic: &Arithmetic,
        now: Now,
    ) -> Answer {
        let mut name = Name::of(key.as_bytes());
        for _ in 0..CHUNK_CONFLICTS_MAX {
            let counted = match self.look_up(&mut name, key, Lookup::WithExpiry, now).await? {
                Existing::Stored(old) => self.count(&mut name, key, &old, arithmetic, now).await?,
                Existing::Nothing => {
                    self.begin_count(&mut name, key, Condition::Absent, arithmetic, now).await?
                }
                Existing::Foreign(cas) | Existing::Invalid(cas) => {
                    let condition = Condition::Cas(cas);
                    self.begin_count(&mut name, key, condition, arithmetic, now).await?
                }
            };
            if let Some(outcome) = counted {
                return Ok(outcome);
            }
        }
        // Another client writes this key all the time.
        Ok(Outcome::Failed)
    }

    /// Increments an item. None: it is a different one by now, or none.
    pub(super) async fn count(
        &self,
        name: &mut Name,
        key: &Key,
        old: &Stored,
        arithmetic: &Arithmetic,
        now: Now,
    ) -> Result<Option<Outcome<Chain>>, Down> {
        let length = old.metadata.shape.length as usize;
        if !(1..=NUMBER_ITEM_BYTES_MAX).contains(&length) {
            return Ok(Some(Outcome::NonNumeric));
        }
        if arithmetic.cas != 0 && arithmetic.cas != old.cas {
            return Ok(Some(Outcome::Exists));
        }
        work::note(length);
        let before = match self.gather(name, &old.metadata, 0, None, now).await? {
            Ok(before) => before,
            Err(broken) => {
                self.discard(name, old, broken).await?;
                return Ok(None);
            }
        };
        let Some(number) = number::parse(before.pieces()) else {
            return Ok(Some(Outcome::NonNumeric));
        };
        let number = if arithmetic.decrement {
            number.saturating_sub(arithmetic.delta)
        } else {
            number.wrapping_add(arithmetic.delta)
        };
        let value = digits(number, length);
        let metadata = self.describe(name, value.len(), old.metadata.flags, old.expiry(), now);
        let (value, replaced) =
            ((&value, &Chain::new()), (Some(&old.metadata), Condition::Cas(old.cas)));
        Ok(match self.replace(name, key, &metadata, value, replaced, now).await? {
            Written::Done(cas) => Some(Outcome::Number { value: number, cas }),
            Written::Lost(outcome) => Some(outcome),
            Written::Unmet(Status::Exists) if arithmetic.cas != 0 => Some(Outcome::Exists),
            Written::Unmet(_) => None,
        })
    }

    /// Creates an item for an incr or decr. None: there is one by now.
    pub(super) async fn begin_count(
        &self,
        name: &mut Name,
        key: &Key,
        condition: Condition,
        arithmetic: &Arithmetic,
        now: Now,
    ) -> Result<Option<Outcome<Chain>>, Down> {
        let Some((initial, expiry)) = arithmetic.initial else { return Ok(Some(Outcome::Miss)) };
        let value = digits(initial, 0);
        let metadata = self.describe(name, value.len(), 0, expiry, now);
        let value = (&value, &Chain::new());
        Ok(match self.replace(name, key, &metadata, value, (None, condition), now).await? {
            Written::Done(cas) => Some(Outcome::Number { value: initial, cas }),
            Written::Lost(outcome) => Some(outcome),
            Written::Unmet(_) => None,
        })
    }

    pub(super) async fn try_flush_all(&self, at: Expiry, now: Now) -> Answer {
        let mut batch = self.link.begin(Collector::one())?;
        let room = meta::room(b"", 0);
        batch.request(room, |request| meta::flush_all(request, at, now)).await?;
        match batch.wait().await?.into_one().head.status {
            Status::Done => Ok(Outcome::Flushed),
            _ => Err(Down),
        }
    }
}

/// A number's digits, padded with spaces to `length_min` bytes, as in memcached.
fn digits(number: u64, length_min: usize) -> Chain {
    let mut buffer = itoa::Buffer::new();
    let mut value = Gather::new();
    value.extend(buffer.format(number).as_bytes());
    let padding = length_min.saturating_sub(value.len());
    value.fill(padding, |_, out| {
        out.fill(b' ');
        out.len()
    });
    value.finish()
}
