//! Writing chunks and metadata, and deleting them.
//!
//! Metadata is always written last and deleted first, so that it never refers to missing chunks.

use std::ops::Range;

use super::assembly::{Broken, Cutter};
use super::collect::Collector;
use super::layout::{METADATA_BYTES, Metadata, Shape};
use super::name::Name;
use super::token::{TOKEN_BYTES, Token, may_be_bare};
use super::{Answer, Chunked, Condition, Lookup, Stored, Written};
use crate::base::buffer::{Chain, Key};
use crate::base::clock::{Expiry, Now};
use crate::base::stats::Counter;
use crate::tier::link::{Batch, Down, Status};
use crate::tier::memcached::meta::{self, Meta};
use crate::tier::{Outcome, StoreMode};

impl Chunked {
    /// Metadata of a value to be written, with a new token.
    pub(super) fn describe(
        &self,
        name: &Name,
        length: usize,
        flags: u32,
        expiry: Expiry,
        now: Now,
    ) -> Metadata {
        Metadata {
            shape: Shape::new(name, self.chunk_bytes, length),
            flags,
            stored_at_s: now.unix_s,
            expiry,
            token: self.tokens.next(),
        }
    }

    /// Sends chunks from `first` on: the bytes of `front` and then `back`.
    pub(super) async fn put_chunks(
        &self,
        name: &mut Name,
        metadata: &Metadata,
        first: u32,
        (front, back): (&Chain, &Chain),
        now: Now,
    ) -> Result<Batch<'_, Meta, Collector>, Down> {
        let Metadata { shape, flags, expiry, token, .. } = *metadata;
        let how = meta::Store { mode: StoreMode::Set, flags, expiry, cas: 0 };
        let item_bytes = shape.chunk_item_bytes();
        name.set_first_bare(false);
        let mut cutter = Cutter::new(front.pieces().chain(back.pieces()));
        let mut batch = self.link.begin(Collector::statuses())?;
        for index in first..shape.chunks {
            let data_bytes = shape.bytes_in(index);
            let key = name.chunk(index);
            let room_bytes = meta::room(key, item_bytes);
            if !batch.has_room(room_bytes)? {
                batch.room(room_bytes).await?;
            }
            batch.request_now(|request| {
                meta::store(request, key, &how, item_bytes, now);
                request.put(&token);
                cutter.cut(data_bytes, |piece| request.put(piece));
                request.zeros(item_bytes - TOKEN_BYTES - data_bytes);
                meta::end_of_value(request);
            });
        }
        Ok(batch)
    }

    /// Sends the metadata.
    pub(super) async fn put_metadata(
        &self,
        name: &mut Name,
        key: &Key,
        metadata: &Metadata,
        condition: Condition,
        now: Now,
    ) -> Result<Option<Batch<'_, Meta, Collector>>, Down> {
        let mut batch = self.link.begin(Collector::one())?;
        let (mode, cas) = match condition {
            Condition::Always => (StoreMode::Set, Some(0)),
            Condition::Absent => (StoreMode::Add, Some(0)),
            Condition::Present => (StoreMode::Replace, Some(0)),
            Condition::Cas(cas) => (StoreMode::Set, batch.cas(cas)),
        };
        let Some(cas) = cas else { return Ok(None) };
        let how = meta::Store { mode, flags: metadata.flags, expiry: metadata.expiry, cas };
        let behind = if name.is_hashed() { key.as_bytes() } else { b"" };
        let bytes = METADATA_BYTES + behind.len();
        let key = name.metadata();
        batch
            .request(meta::room(key, bytes), |request| {
                meta::store(request, key, &how, bytes, now);
                request.put(&metadata.encode());
                request.put(behind);
                meta::end_of_value(request);
            })
            .await?;
        Ok(Some(batch))
    }

    /// Waits for the answers to all chunks. None: they were written.
    pub(super) async fn chunks_lost(
        &self,
        chunks: Batch<'_, Meta, Collector>,
    ) -> Result<Option<Outcome<Chain>>, Down> {
        let statuses = chunks.wait().await?.into_statuses();
        Ok(if statuses.of(Status::NoMemory) > 0 {
            self.stats.add(Counter::StoreNoMemory, 1);
            Some(Outcome::OutOfMemory)
        } else if statuses.of(Status::TooLarge) > 0 {
            Some(Outcome::TooLarge)
        } else if statuses.total() > statuses.of(Status::Done) {
            Some(Outcome::Failed)
        } else {
            None
        })
    }

    /// Waits for the answer to the metadata.
    pub(super) async fn metadata_written(
        &self,
        metadata: Option<Batch<'_, Meta, Collector>>,
    ) -> Result<Written, Down> {
        let Some(metadata) = metadata else { return Ok(Written::Unmet(Status::Exists)) };
        let head = metadata.wait().await?.into_one().head;
        Ok(match head.status {
            Status::Done => Written::Done(head.cas),
            status @ (Status::NotStored | Status::Exists | Status::Miss) => Written::Unmet(status),
            Status::NoMemory => Written::Lost(Outcome::OutOfMemory),
            Status::TooLarge => Written::Lost(Outcome::TooLarge),
            _ => Written::Lost(Outcome::Failed),
        })
    }

    /// Writes a whole value: chunks first, and metadata last, without waiting in between.
    pub(super) async fn put(
        &self,
        name: &mut Name,
        key: &Key,
        metadata: &Metadata,
        value: (&Chain, &Chain),
        condition: Condition,
        now: Now,
    ) -> Result<Written, Down> {
        let chunks = self.put_chunks(name, metadata, 0, value, now).await?;
        let last = self.put_metadata(name, key, metadata, condition, now).await?;
        let lost = self.chunks_lost(chunks).await?;
        let written = self.metadata_written(last).await?;
        Ok(lost.map_or(written, Written::Lost))
    }

    /// Writes a whole value in place of `old`, and deletes surplus chunks.
    pub(super) async fn replace(
        &self,
        name: &mut Name,
        key: &Key,
        metadata: &Metadata,
        value: (&Chain, &Chain),
        old: (Option<&Metadata>, Condition),
        now: Now,
    ) -> Result<Written, Down> {
        let (old, condition) = old;
        let written = self.put(name, key, metadata, value, condition, now).await?;
        self.tidy(name, &written, metadata.shape.chunks, old).await?;
        Ok(written)
    }

    /// Deletes chunks that no longer belong to a value: after the `chunks` that were written, and
    /// those of the previous value.
    pub(super) async fn tidy(
        &self,
        name: &mut Name,
        written: &Written,
        chunks: u32,
        old: Option<&Metadata>,
    ) -> Result<(), Down> {
        let old_chunks = old.map_or(0, |old| old.shape.chunks);
        match written {
            Written::Done(_) => {
                self.delete_chunks(name, chunks..old_chunks).await?;
            }
            Written::Lost(_) => {
                self.delete_metadata(name, 0).await?;
                self.delete_chunks(name, 0..chunks.max(old_chunks)).await?;
            }
            // Another client writes the same key; the chunks may be its by now.
            Written::Unmet(_) => return Ok(()),
        }
        match old {
            Some(old) if old_chunks > 0 && may_be_bare(&old.token) => {
                self.delete_bare_first(name, &old.token).await
            }
            _ => Ok(()),
        }
    }

    /// Deletes the metadata item if it has this cas; 0: any.
    pub(super) async fn delete_metadata(&self, name: &mut Name, cas: u64) -> Result<Status, Down> {
        let mut batch = self.link.begin(Collector::one())?;
        // Another connection's: the item was lost with its server.
        let Some(cas) = batch.cas(cas) else { return Ok(Status::Miss) };
        let key = name.metadata();
        batch.request(meta::room(key, 0), |request| meta::delete(request, key, cas)).await?;
        Ok(batch.wait().await?.into_one().head.status)
    }

    /// Deletes a value's chunks, the first one by either of its names.
    async fn delete_value(&self, name: &mut Name, metadata: &Metadata) -> Result<(), Down> {
        let Metadata { shape, token, .. } = metadata;
        let missing = self.delete_chunks(name, 0..shape.chunks).await?;
        if missing > 0 || shape.chunks > 0 && may_be_bare(token) {
            self.delete_bare_first(name, token).await?;
        }
        Ok(())
    }

    /// Deletes chunks; returns how many do not exist.
    async fn delete_chunks(&self, name: &mut Name, chunks: Range<u32>) -> Result<u32, Down> {
        if chunks.is_empty() {
            return Ok(0);
        }
        name.set_first_bare(false);
        let mut batch = self.link.begin(Collector::statuses())?;
        for index in chunks {
            let key = name.chunk(index);
            batch.request(meta::room(key, 0), |request| meta::delete(request, key, 0)).await?;
        }
        Ok(batch.wait().await?.into_statuses().of(Status::Miss))
    }

    /// Deletes the item under the first chunk's bare name; if that may be another key's chunk, only
    /// if it has this token.
    async fn delete_bare_first(&self, name: &mut Name, token: &Token) -> Result<(), Down> {
        let cas = if !name.shares_bare_first() {
            0
        } else if let Some(cas) = self.find_bare_first(name, token).await? {
            cas
        } else {
            return Ok(());
        };
        let mut batch = self.link.begin(Collector::one())?;
        let Some(cas) = batch.cas(cas) else { return Ok(()) };
        name.set_first_bare(true);
        let key = name.chunk(0);
        batch.request(meta::room(key, 0), |request| meta::delete(request, key, cas)).await?;
        name.set_first_bare(false);
        batch.wait().await?;
        Ok(())
    }

    /// Deletes what is left of an item that has lost a chunk, unless it has been written again.
    pub(super) async fn discard(
        &self,
        name: &mut Name,
        stored: &Stored,
        broken: Broken,
    ) -> Result<(), Down> {
        let counter = match broken {
            Broken::Missing => Counter::ChunkMissing,
            Broken::Foreign => Counter::ChunkForeign,
            Broken::NoRoom => return Err(Down),
        };
        self.stats.add(counter, 1);
        if self.delete_metadata(name, stored.cas).await? == Status::Done {
            self.delete_value(name, &stored.metadata).await?;
        }
        Ok(())
    }

    pub(super) async fn try_delete(&self, key: &Key, cas: u64, now: Now) -> Answer {
        let mut name = Name::of(key.as_bytes());
        let Some(stored) = self.readable(&mut name, key, Lookup::Plain, now).await? else {
            return Ok(Outcome::Miss);
        };
        if cas != 0 && cas != stored.cas {
            return Ok(Outcome::Exists);
        }
        match self.delete_metadata(&mut name, cas).await? {
            Status::Done => {
                self.delete_value(&mut name, &stored.metadata).await?;
                Ok(Outcome::Deleted)
            }
            Status::Miss => Ok(Outcome::Miss),
            Status::Exists => Ok(Outcome::Exists),
            _ => Err(Down),
        }
    }
}
