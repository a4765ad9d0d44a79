//! Looking an item up, and gathering its value.

use super::{Answer, Ask, Chunked, Look, Stored, window};
use crate::buffer::{Chain, Key};
use crate::clock::{Expiry, Now};
use crate::limits::{CHUNK_LINE_BYTES, CHUNKS_PER_LINE};
use crate::stats::Counter;
use crate::tier::memcached::layout::{
    Assembly, Broken, Found, METADATA_ITEM_BYTES_MAX, Metadata, Name, Shape,
};
use crate::tier::memcached::link::{Batch, Collector, Down, Status};
use crate::tier::memcached::meta::{self, Get, Meta};
use crate::tier::{Hit, Outcome};

impl Chunked {
    /// Asks for the metadata; [`Chunked::hear`] takes the answer.
    pub(super) async fn ask(
        &self,
        name: &mut Name,
        ask: Ask,
        now: Now,
    ) -> Result<Batch<'_, Meta>, Down> {
        let mut batch = self.link.begin(Collector::one())?;
        let key = name.metadata();
        batch
            .request(meta::room(key, 0), |request| match ask {
                Ask::Plain => meta::get(request, key, Get::Value),
                Ask::WithExpiry => meta::get(request, key, Get::ValueAndExpiry),
                Ask::Touch(expiry) => meta::get_and_touch(request, key, expiry, now),
            })
            .await?;
        Ok(batch)
    }

    pub(super) async fn hear(
        &self,
        batch: Batch<'_, Meta>,
        name: &Name,
        key: &Key,
    ) -> Result<Look, Down> {
        let (head, value) = batch.wait().await?.into_one().into_parts();
        match head.status {
            Status::Value => {}
            Status::Miss => return Ok(Look::Nothing),
            _ => return Err(Down),
        }
        let mut bytes = [0; METADATA_ITEM_BYTES_MAX + 1];
        let n = value.copy_to(0, &mut bytes);
        match Metadata::decode(name, key.as_bytes(), &bytes[..n]) {
            Found::Metadata(metadata) => {
                Ok(Look::Stored(Stored { metadata, cas: head.cas, expiry: head.expiry }))
            }
            Found::Foreign => Ok(Look::Foreign(head.cas)),
            Found::Lie => {
                self.stats.add(Counter::ChunkMetadataBad, 1);
                Ok(Look::Lie(head.cas))
            }
        }
    }

    pub(super) async fn look(
        &self,
        name: &mut Name,
        key: &Key,
        ask: Ask,
        now: Now,
    ) -> Result<Look, Down> {
        let batch = self.ask(name, ask, now).await?;
        self.hear(batch, name, key).await
    }

    /// Reads the value from chunk `first` on; the chunks get a new expiry if there is one.
    pub(super) async fn gather(
        &self,
        name: &mut Name,
        metadata: &Metadata,
        first: u32,
        touch: Option<Expiry>,
        now: Now,
    ) -> Result<Result<Chain, Broken>, Down> {
        if touch.is_none() && name.is_text() {
            let mut assembly = Assembly::new(metadata, first);
            if self.assemble_in_lines(name, &metadata.shape, &mut assembly).await? {
                return Ok(assembly.finish());
            }
            // Which chunk is not there, and why, is found out one by one.
        }
        let mut assembly = Assembly::new(metadata, first);
        self.assemble(name, &metadata.shape, &mut assembly, touch, now).await?;
        if assembly.has_lost_first() && !name.is_first_bare() {
            name.set_first_bare(true);
            assembly = Assembly::new(metadata, first);
            self.assemble(name, &metadata.shape, &mut assembly, touch, now).await?;
        }
        Ok(assembly.finish())
    }

    /// Asks for many chunks in one request each. False: not all are there as they should be.
    async fn assemble_in_lines(
        &self,
        name: &mut Name,
        shape: &Shape,
        assembly: &mut Assembly,
    ) -> Result<bool, Down> {
        while assembly.next() < shape.chunks {
            let mut index = assembly.next();
            let end = shape.chunks.min(index + window(shape));
            let mut batch = self.link.begin(Collector::Chunks(std::mem::take(assembly)))?;
            while index < end {
                batch
                    .request(CHUNK_LINE_BYTES, |request| {
                        let line_end = end.min(index + CHUNKS_PER_LINE);
                        meta::get_many(request);
                        (index..line_end).for_each(|i| meta::key_of_many(request, name.chunk(i)));
                        meta::end_of_many(request);
                        index = line_end;
                    })
                    .await?;
            }
            *assembly = batch.wait().await?.into_chunks();
            if assembly.broken().is_some() || assembly.next() != end {
                return Ok(false);
            }
        }
        Ok(true)
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

    pub(super) async fn read(&self, key: &Key, ask: Ask, now: Now) -> Answer {
        let mut name = Name::of(key.as_bytes());
        let Some(stored) = self.readable(&mut name, key, ask, now).await? else {
            return Ok(Outcome::Miss);
        };
        let touch = if let Ask::Touch(expiry) = ask { Some(expiry) } else { None };
        match self.gather(&mut name, &stored.metadata, 0, touch, now).await? {
            Ok(value) => Ok(Outcome::Hit(Hit {
                flags: stored.metadata.flags,
                expiry: touch.unwrap_or(stored.expiry),
                cas: stored.cas,
                value,
            })),
            Err(broken) => {
                self.discard(&mut name, &stored, broken).await?;
                Ok(Outcome::Miss)
            }
        }
    }

    /// The key's item. Metadata that cannot be true is deleted.
    pub(super) async fn readable(
        &self,
        name: &mut Name,
        key: &Key,
        ask: Ask,
        now: Now,
    ) -> Result<Option<Stored>, Down> {
        match self.look(name, key, ask, now).await? {
            Look::Stored(stored) => Ok(Some(stored)),
            Look::Nothing | Look::Foreign(_) => Ok(None),
            Look::Lie(cas) => {
                self.delete_metadata(name, cas).await?;
                Ok(None)
            }
        }
    }
}
