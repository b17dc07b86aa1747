//! The archive member by member, for whoever wants most of it: each member is fetched and inflated once.
//!
//! A first pass over the index notes which members hold wanted objects and in which blocks their entries stand: some 100
//! bytes a member of 1 MiB, whatever the number of objects. The second pass takes the members in archive order and finds
//! their entries through the few blocks that are kept, since objects lie in the archive much as the index sorts them.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use velero_model::index::Entry;

use super::{super::error::CatalogError, EntryFilter, Objects, reader::Reader};

/// Members on their way at once.
const AHEAD: usize = 3;

/// An index up to this size is fetched whole before the passes: two passes over it cost one request.
const WHOLE_INDEX: u64 = 8 << 20;

/// One archive member with the wanted objects in it.
#[derive(Debug, Clone)]
pub struct Member {
    objects: Objects,
    tar: Bytes,
    entries: Vec<Entry>,
}

impl Member {
    /// Entries of the wanted objects, by place.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The inflated member.
    pub fn tar(&self) -> &Bytes {
        &self.tar
    }

    /// The JSON of one of the entries.
    ///
    /// # Errors
    /// When it is not the object that the entry names.
    pub fn object(&self, entry: &Entry) -> Result<&[u8], CatalogError> {
        self.objects.reader.object(&self.tar, entry)
    }
}

struct Wanted {
    length: u64,
    blocks: Vec<usize>,
}

pub(super) fn in_order(
    objects: Objects,
    resource_groups: Vec<String>,
) -> BoxStream<'static, Result<Member, CatalogError>> {
    stream::once(async move {
        let filter = EntryFilter {
            resource_groups: Some(resource_groups),
            ..EntryFilter::default()
        };
        let wanted = survey(&objects, &filter).await?;
        Ok::<_, CatalogError>(
            stream::iter(wanted)
                .map(move |(offset, wanted)| {
                    let (objects, filter) = (objects.clone(), filter.clone());
                    async move { fetch(objects, offset, wanted, &filter).await }
                })
                .buffered(AHEAD),
        )
    })
    .try_flatten()
    .boxed()
}

/// Which members hold wanted objects, and the blocks with their entries.
async fn survey(objects: &Objects, filter: &EntryFilter) -> Result<BTreeMap<u64, Wanted>, CatalogError> {
    let index = &objects.reader.index;
    if index.size() <= WHOLE_INDEX {
        index.keep_tail(index.size()).await?;
    }
    let mut members: BTreeMap<u64, Wanted> = BTreeMap::new();
    let mut blocks = objects.blocks(filter);
    while let Some((position, entries)) = blocks.try_next().await? {
        for entry in entries.iter().filter(|entry| filter.matches(entry)) {
            let wanted = members.entry(entry.member).or_insert_with(|| Wanted {
                length: entry.member_length,
                blocks: Vec::new(),
            });
            if wanted.blocks.last() != Some(&position) {
                wanted.blocks.push(position);
            }
        }
    }
    Ok(members)
}

async fn fetch(
    objects: Objects,
    offset: u64,
    wanted: Wanted,
    filter: &EntryFilter,
) -> Result<Member, CatalogError> {
    let reader = &objects.reader;
    let (tar, entries) = futures::try_join!(
        reader.inflated_member(offset, wanted.length),
        entries_of(reader, offset, &wanted.blocks, filter)
    )?;
    Ok(Member {
        objects,
        tar,
        entries,
    })
}

async fn entries_of(
    reader: &Reader,
    offset: u64,
    blocks: &[usize],
    filter: &EntryFilter,
) -> Result<Vec<Entry>, CatalogError> {
    let mut found = Vec::new();
    for block in blocks
        .iter()
        .filter_map(|position| reader.directory.blocks.get(*position))
    {
        let entries = reader.block(block).await?;
        found.extend(
            entries
                .iter()
                .filter(|entry| entry.member == offset && filter.matches(entry))
                .cloned(),
        );
    }
    found.sort_unstable_by_key(|entry| entry.offset);
    Ok(found)
}
