//! The objects of one backup: found by name, listed by filter, read one by one or member by member.
//!
//! In comes an open backup; out go index entries and JSON. With our index one object costs the index's tail, one block
//! and one member, each a ranged read, however large the backup. A backup without an index is gone through once, into an
//! unnamed temporary file in our own form ([`rebuild`]), and is then read the same way. Memory holds a few blocks and a
//! few members. Every object that is handed out was checked to be the one that its entry names.

mod members;
mod ranges;
mod reader;
mod rebuild;

use std::sync::Arc;

use backup_plan::selector::Selector;
use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use tokio_util::sync::CancellationToken;
use velero_model::{
    index::{self, Block, Directory, Entry, IndexError},
    name::BackupName,
};

pub use members::Member;
use ranges::Ranges;
use reader::{INDEX_PART_MAX, Reader};
pub(super) use reader::{mismatch, words};
pub(super) use rebuild::entry_of;

use super::{error::CatalogError, open::OpenBackup, stream::blocking};
use crate::progress::Progress;

/// Bytes at the end of an index that the first request fetches: footer, and nearly always the whole directory.
const TAIL: u64 = 64 << 10;

/// Batches of blocks on their way at once.
const BATCHES_IN_FLIGHT: usize = 4;

/// The objects of one backup. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Objects {
    reader: Arc<Reader>,
    /// Objects in other versions, see [`rebuild`].
    copies: Option<Arc<Objects>>,
}

/// Which entries are wanted; `None` everywhere means all.
#[derive(Debug, Clone, Default)]
pub struct EntryFilter {
    /// Only these kinds, as `deployments.apps`.
    pub resource_groups: Option<Vec<String>>,
    /// Only objects of this namespace.
    pub namespace: Option<String>,
    /// Only objects of this name.
    pub name: Option<String>,
    /// Only objects with these labels.
    pub selector: Option<Selector>,
}

impl EntryFilter {
    /// Whether an entry is wanted.
    pub fn matches(&self, entry: &Entry) -> bool {
        self.resource_groups
            .as_ref()
            .is_none_or(|groups| groups.contains(&entry.resource_group))
            && self
                .namespace
                .as_ref()
                .is_none_or(|namespace| entry.namespace.as_ref() == Some(namespace))
            && self.name.as_ref().is_none_or(|name| entry.name == *name)
            && self
                .selector
                .as_ref()
                .is_none_or(|selector| selector.matches_labels(&entry.labels))
    }

    /// Whether a block can hold wanted entries, as far as its first and last keys tell.
    fn may_match(&self, block: &Block) -> bool {
        let [first_group, first_namespace, first_name] = &block.first;
        let [last_group, last_namespace, last_name] = &block.last;
        if let Some(groups) = &self.resource_groups
            && !groups
                .iter()
                .any(|group| first_group <= group && group <= last_group)
        {
            return false;
        }
        if first_group != last_group {
            return true;
        }
        if let Some(namespace) = &self.namespace
            && !(first_namespace <= namespace && namespace <= last_namespace)
        {
            return false;
        }
        match &self.name {
            Some(name) if first_namespace == last_namespace => first_name <= name && name <= last_name,
            _ => true,
        }
    }
}

impl Objects {
    /// Through our index: one ranged read of its tail, a second when the directory is larger.
    pub(super) async fn indexed(open: &OpenBackup) -> Result<Self, CatalogError> {
        let key = open.keys().index();
        let file = open
            .file(&key)
            .ok_or_else(|| CatalogError::Vanished { key: key.clone() })?;
        let archive = open.archive()?;
        let damaged = |detail: &str| CatalogError::Index {
            key: key.clone(),
            source: IndexError::Damaged(detail.to_owned()),
        };
        let footer_length = index::FOOTER as u64;
        if file.size < footer_length {
            return Err(damaged("it is shorter than its footer"));
        }
        let index = Ranges::stored(open.bucket(), file);
        index.keep_tail(TAIL).await?;
        let footer = index.read(file.size - footer_length, footer_length).await?;
        let wrong = |source| CatalogError::Index {
            key: key.clone(),
            source,
        };
        let (offset, length) = index::parse_footer(&footer).map_err(wrong)?;
        if offset.checked_add(length) != Some(file.size - footer_length) || length > INDEX_PART_MAX {
            return Err(damaged("its footer points outside the file"));
        }
        let member = index.read(offset, length).await?;
        let named = key.clone();
        let directory = blocking(move || {
            Directory::parse(&member).map_err(|source| CatalogError::Index { key: named, source })
        })
        .await?;
        Ok(Self::new(
            open.name(),
            index,
            Ranges::stored(open.bucket(), archive),
            directory,
        ))
    }

    /// By one pass over the archive.
    pub(super) async fn rebuilt(
        open: &OpenBackup,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Result<Self, CatalogError> {
        let of = |rebuilt: rebuild::Rebuilt| {
            Self::new(open.name(), rebuilt.index, rebuilt.archive, rebuilt.directory)
        };
        let mut rebuilt = rebuild::rebuild(open, progress, cancel).await?;
        let copies = rebuilt.copies.take().map(|copies| Arc::new(of(*copies)));
        Ok(Self {
            copies,
            ..of(rebuilt)
        })
    }

    fn new(name: &BackupName, index: Ranges, archive: Ranges, directory: Directory) -> Self {
        Self {
            reader: Arc::new(Reader::new(name, index, archive, directory)),
            copies: None,
        }
    }

    /// The versions besides the stored one in which the backup holds objects of a kind (`deployments.apps`).
    pub fn copied_versions(&self, resource_group: &str) -> Vec<String> {
        let kinds = self.copies.iter().flat_map(|copies| &copies.directory().kinds);
        kinds
            .filter_map(|counted| {
                let name = counted.kind.resource_group();
                let version = name.strip_prefix(resource_group)?.strip_prefix('/')?;
                Some(version.to_owned())
            })
            .collect()
    }

    /// The JSON of an object in another version, `None` where the backup holds no such copy of it.
    ///
    /// # Errors
    /// As [`Objects::read`].
    pub async fn copy(&self, entry: &Entry, version: &str) -> Result<Option<Bytes>, CatalogError> {
        let Some(copies) = &self.copies else {
            return Ok(None);
        };
        let kind = rebuild::copy_name(&entry.resource_group, version);
        match copies.get(&kind, entry.namespace.as_deref(), &entry.name).await? {
            Some(copy) => copies.read(&copy).await.map(Some),
            None => Ok(None),
        }
    }

    /// Kinds, counts and blocks.
    pub fn directory(&self) -> &Directory {
        &self.reader.directory
    }

    /// One object's entry.
    ///
    /// # Errors
    /// When the index cannot be read; an object that is not there is `None`.
    pub async fn get(
        &self,
        resource_group: &str,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Entry>, CatalogError> {
        let key = (resource_group, namespace.unwrap_or_default(), name);
        let Some(block) = self.reader.directory.block_of(key) else {
            return Ok(None);
        };
        let entries = self.reader.block(block).await?;
        let found = entries.binary_search_by(|entry| entry.key().cmp(&key)).ok();
        Ok(found.and_then(|at| entries.get(at)).cloned())
    }

    /// Every object of a kind and name, whatever its namespace.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn candidates(&self, resource_group: &str, name: &str) -> Result<Vec<Entry>, CatalogError> {
        let filter = EntryFilter {
            resource_groups: Some(vec![resource_group.to_owned()]),
            name: Some(name.to_owned()),
            ..EntryFilter::default()
        };
        self.entries(filter).try_collect().await
    }

    /// The entries that a filter wants, in index order, block by block.
    pub fn entries(&self, filter: EntryFilter) -> BoxStream<'static, Result<Entry, CatalogError>> {
        let blocks = self.blocks(&filter);
        blocks
            .map_ok(move |(_, mut entries)| {
                entries.retain(|entry| filter.matches(entry));
                stream::iter(entries.into_iter().map(Ok))
            })
            .try_flatten()
            .boxed()
    }

    /// Blocks that may hold wanted entries, with their positions in the directory.
    fn blocks(&self, filter: &EntryFilter) -> BoxStream<'static, Result<(usize, Vec<Entry>), CatalogError>> {
        let reader = Arc::clone(&self.reader);
        stream::iter(reader.batches(filter))
            .map(move |batch| {
                let reader = Arc::clone(&reader);
                async move { reader.batch(batch).await }
            })
            .buffered(BATCHES_IN_FLIGHT)
            .map_ok(|blocks| stream::iter(blocks.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    /// The JSON of one object.
    ///
    /// # Errors
    /// When the member is damaged, or holds another object than the entry says.
    pub async fn read(&self, entry: &Entry) -> Result<Bytes, CatalogError> {
        let tar = self.reader.member(entry.member, entry.member_length).await?;
        self.reader.object(&tar, entry).map(Bytes::copy_from_slice)
    }

    /// Every archive member that holds objects of these kinds, each inflated once, in archive order, with their entries
    /// by place. A few members are fetched ahead.
    pub fn members_in_order(
        &self,
        resource_groups: &[String],
    ) -> BoxStream<'static, Result<Member, CatalogError>> {
        members::in_order(self.clone(), resource_groups.to_vec())
    }
}

#[cfg(test)]
mod tests;
