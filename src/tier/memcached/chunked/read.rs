//! Looking up an item, and gathering its value.

use std::ops::Range;

use super::assembly::{Assembly, Broken};
use super::collect::Collector;
use super::item::{Item, Taken};
use super::layout::{METADATA_ITEM_BYTES_MAX, Metadata, MetadataRead, Shape};
use super::name::Name;
use super::token::{TOKEN_BYTES, Token};
use super::{Answer, Chunked, Existing, Lookup, Stored, window};
use crate::base::buffer::{Chain, Key};
use crate::base::clock::{Expiry, Now};
use crate::base::stats::Counter;
use crate::tier::link::{Batch, Down, Head, Status};
use crate::tier::memcached::meta::{self, Get, Meta};
use crate::tier::{Hit, ItemState, Outcome};

impl Chunked {
    /// Requests the metadata; [`Chunked::receive_metadata`] takes the answer.
    pub(super) async fn request_metadata(
        &self,
        name: &mut Name,
        lookup: Lookup,
        now: Now,
    ) -> Result<Batch<'_, Meta, Collector>, Down> {
        let mut batch = self.link.begin(Collector::one())?;
        let key = name.metadata();
        batch
            .request(meta::room(key, 0), |request| match lookup {
                Lookup::Plain => meta::get(request, key, Get::Value),
                Lookup::WithExpiry => meta::get(request, key, Get::ValueAndExpiry),
                Lookup::Touch(expiry) => meta::get_and_touch(request, key, expiry, now),
            })
            .await?;
        Ok(batch)
    }

    pub(super) async fn receive_metadata(
        &self,
        batch: Batch<'_, Meta, Collector>,
        name: &Name,
        key: &Key,
    ) -> Result<Existing, Down> {
        let (head, value) = batch.wait().await?.into_one().into_parts();
        match head.status {
            Status::Value => {}
            Status::Miss => return Ok(Existing::Nothing),
            _ => return Err(Down),
        }
        let mut bytes = [0; METADATA_ITEM_BYTES_MAX + 1];
        let n = value.copy_to(0, &mut bytes);
        match Metadata::decode(name, key.as_bytes(), &bytes[..n]) {
            MetadataRead::Metadata(metadata) => {
                Ok(Existing::Stored(Stored { metadata, cas: head.cas, expiry: head.expiry }))
            }
            MetadataRead::Foreign => Ok(Existing::Foreign(head.cas)),
            MetadataRead::Invalid => {
                self.stats.add(Counter::ChunkMetadataBad, 1);
                Ok(Existing::Invalid(head.cas))
            }
        }
    }

    pub(super) async fn look_up(
        &self,
        name: &mut Name,
        key: &Key,
        lookup: Lookup,
        now: Now,
    ) -> Result<Existing, Down> {
        let batch = self.request_metadata(name, lookup, now).await?;
        self.receive_metadata(batch, name, key).await
    }

    /// Reads the value from chunk `first` on; the chunks get a new expiry if one is given. `name`
    /// shows afterwards whether the very first one has its bare name.
    pub(super) async fn gather(
        &self,
        name: &mut Name,
        metadata: &Metadata,
        first: u32,
        touch: Option<Expiry>,
        now: Now,
    ) -> Result<Result<Chain, Broken>, Down> {
        name.set_first_bare(false);
        if touch.is_none() && name.is_text() {
            let assembly = Assembly::new(metadata, first);
            if let Some(assembly) = self.gather_at_once(name, metadata, assembly).await? {
                return Ok(assembly.finish());
            }
        }
        self.gather_singly(name, metadata, first, touch, now).await
    }

    /// The same for the rest of `assembly`, by lookups of many. None: not all chunks are intact,
    /// and which, and why, must be determined one by one.
    async fn gather_at_once(
        &self,
        name: &mut Name,
        metadata: &Metadata,
        mut assembly: Assembly,
    ) -> Result<Option<Assembly>, Down> {
        let mut is_whole = self.look_rest_up(name, &metadata.shape, &mut assembly).await?;
        if assembly.has_lost_first() {
            name.set_first_bare(true);
            assembly = Assembly::new(metadata, 0);
            is_whole = self.look_rest_up(name, &metadata.shape, &mut assembly).await?;
            name.set_first_bare(is_whole);
        }
        Ok(is_whole.then_some(assembly))
    }

    /// The cas of the item under the first chunk's bare name, if it has this token.
    pub(super) async fn find_bare_first(
        &self,
        name: &mut Name,
        token: &Token,
    ) -> Result<Option<u64>, Down> {
        let mut batch = self.link.begin(Collector::one())?;
        name.set_first_bare(true);
        let key = name.chunk(0);
        batch.request(meta::room(key, 0), |request| meta::get(request, key, Get::Value)).await?;
        name.set_first_bare(false);
        let (head, value) = batch.wait().await?.into_one().into_parts();
        let mut found = [0; TOKEN_BYTES];
        match head.status {
            Status::Value => {
                let bytes = value.copy_to(0, &mut found);
                Ok((found[..bytes] == token[..]).then_some(head.cas))
            }
            Status::Miss => Ok(None),
            _ => Err(Down),
        }
    }

    /// Like [`Chunked::gather`], with one request per chunk.
    async fn gather_singly(
        &self,
        name: &mut Name,
        metadata: &Metadata,
        first: u32,
        touch: Option<Expiry>,
        now: Now,
    ) -> Result<Result<Chain, Broken>, Down> {
        let mut assembly = Assembly::new(metadata, first);
        self.assemble(name, &metadata.shape, &mut assembly, touch, now).await?;
        if assembly.has_lost_first() && self.find_bare_first(name, &metadata.token).await?.is_some()
        {
            name.set_first_bare(true);
            assembly = Assembly::new(metadata, first);
            self.assemble(name, &metadata.shape, &mut assembly, touch, now).await?;
        }
        Ok(assembly.finish())
    }

    /// Looks up the missing chunks. False: not all are intact.
    async fn look_rest_up(
        &self,
        name: &mut Name,
        shape: &Shape,
        assembly: &mut Assembly,
    ) -> Result<bool, Down> {
        while assembly.broken().is_none() && assembly.next() < shape.chunks {
            let start = assembly.next();
            let end = shape.chunks.min(start + window(shape));
            let mut batch = self.link.begin(Collector::Chunks(std::mem::take(assembly)))?;
            look_up(&mut batch, name, start..end).await?;
            *assembly = batch.wait().await?.into_chunks();
        }
        Ok(assembly.broken().is_none())
    }

    /// Looks up metadata and chunks together, as many chunks as recent items had.
    async fn read_at_once(&self, name: &mut Name, now: Now) -> Answer {
        let mut batch = self.link.begin(Collector::Item(Item::new(name)))?;
        batch.look_up(name.metadata()).await?;
        let foreseen = self.foresight.chunks().min(name.chunks_max());
        look_up(&mut batch, name, 0..foreseen).await?;
        let Taken { head, found, chunks } = batch.wait().await?.into_item().finish();
        let metadata = match found {
            Some(MetadataRead::Metadata(metadata)) => metadata,
            other => {
                self.foresight.learn(0);
                return self.read_nothing(name, &head, other.as_ref()).await;
            }
        };
        let shape = metadata.shape;
        self.foresight.learn(shape.chunks.min(window(&shape)));
        let value = match self.gather_at_once(name, &metadata, chunks).await? {
            Some(chunks) => chunks.finish(),
            None => self.gather_singly(name, &metadata, 0, None, now).await?,
        };
        let stored = Stored { metadata, cas: head.cas, expiry: Expiry::NEVER };
        self.read_whole(name, &stored, value, stored.expiry).await
    }

    /// The outcome of a read that found no item of the key.
    async fn read_nothing(
        &self,
        name: &mut Name,
        head: &Head,
        found: Option<&MetadataRead>,
    ) -> Answer {
        match (head.status, found) {
            (Status::Miss, _) | (Status::Value, Some(MetadataRead::Foreign)) => Ok(Outcome::Miss),
            (Status::Value, Some(MetadataRead::Invalid)) => {
                self.stats.add(Counter::ChunkMetadataBad, 1);
                self.delete_metadata(name, head.cas).await?;
                Ok(Outcome::Miss)
            }
            _ => Err(Down),
        }
    }

    /// The outcome of a read that found an item.
    async fn read_whole(
        &self,
        name: &mut Name,
        stored: &Stored,
        value: Result<Chain, Broken>,
        expiry: Expiry,
    ) -> Answer {
        match value {
            Ok(value) => {
                let (flags, cas) = (stored.metadata.flags, stored.cas);
                Ok(Outcome::Hit(Hit { flags, expiry, cas, state: ItemState::default(), value }))
            }
            Err(broken) => {
                self.discard(name, stored, broken).await?;
                Ok(Outcome::Miss)
            }
        }
    }

    async fn assemble(
        &self,
        name: &mut Name,
        shape: &Shape,
        assembly: &mut Assembly,
        touch: Option<Expiry>,
        now: Now,
    ) -> Result<(), Down> {
        while assembly.broken().is_none() && assembly.next() < shape.chunks {
            let start = assembly.next();
            let end = shape.chunks.min(start + window(shape));
            let mut batch = self.link.begin(Collector::Chunks(std::mem::take(assembly)))?;
            for index in start..end {
                let key = name.chunk(index);
                batch
                    .request(meta::room(key, 0), |request| match touch {
                        None => meta::get(request, key, Get::ValueAlone),
                        Some(expiry) => meta::get_and_touch(request, key, expiry, now),
                    })
                    .await?;
            }
            *assembly = batch.wait().await?.into_chunks();
        }
        Ok(())
    }

    pub(super) async fn read(&self, key: &Key, lookup: Lookup, now: Now) -> Answer {
        let mut name = Name::of(key.as_bytes());
        if matches!(lookup, Lookup::Plain) && name.is_text() && !name.is_hashed() {
            return self.read_at_once(&mut name, now).await;
        }
        let Some(stored) = self.readable(&mut name, key, lookup, now).await? else {
            return Ok(Outcome::Miss);
        };
        let touch = if let Lookup::Touch(expiry) = lookup { Some(expiry) } else { None };
        let value = self.gather(&mut name, &stored.metadata, 0, touch, now).await?;
        self.read_whole(&mut name, &stored, value, touch.unwrap_or(stored.expiry)).await
    }

    /// The key's item. Invalid metadata is deleted.
    pub(super) async fn readable(
        &self,
        name: &mut Name,
        key: &Key,
        lookup: Lookup,
        now: Now,
    ) -> Result<Option<Stored>, Down> {
        match self.look_up(name, key, lookup, now).await? {
            Existing::Stored(stored) => Ok(Some(stored)),
            Existing::Nothing | Existing::Foreign(_) => Ok(None),
            Existing::Invalid(cas) => {
                self.delete_metadata(name, cas).await?;
                Ok(None)
            }
        }
    }
}

/// Looks chunks up.
async fn look_up(
    batch: &mut Batch<'_, Meta, Collector>,
    name: &mut Name,
    chunks: Range<u32>,
) -> Result<(), Down> {
    for index in chunks {
        let key = name.chunk(index);
        let room_bytes = Batch::<Meta, Collector>::lookup_bytes(key);
        if !batch.has_room(room_bytes)? {
            batch.room(room_bytes).await?;
        }
        batch.look_up_now(key);
    }
    Ok(())
}
