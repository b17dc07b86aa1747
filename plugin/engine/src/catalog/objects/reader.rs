//! Blocks of the index and members of the archive, read, parsed and inflated.
//!
//! The last few of each are kept, so that neighbours cost nothing. Every range is checked against the file before it is
//! asked for: an index is foreign input like everything else that is stored.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use velero_model::{
    index::{self, Block, Directory, Entry, IndexError},
    item::Head,
    layout::BackupKeys,
    member::{self, MEMBER_MAX},
    name::BackupName,
};

use super::{
    super::{error::CatalogError, stream::blocking},
    EntryFilter,
    ranges::{Ranges, Recent},
};

/// Largest directory or block, compressed.
pub(super) const INDEX_PART_MAX: u64 = 64 << 20;

/// Compressed bytes of neighbouring blocks that one request fetches.
const BATCH: u64 = 32 << 10;

/// Parsed blocks that are kept.
const RECENT_BLOCKS: usize = 8;

/// Inflated members that are kept.
const RECENT_MEMBERS: usize = 3;

#[derive(Debug)]
pub(super) struct Reader {
    pub(super) name: BackupName,
    pub(super) index: Ranges,
    pub(super) archive: Ranges,
    pub(super) directory: Directory,
    blocks: Mutex<Recent<Arc<Vec<Entry>>>>,
    members: Mutex<Recent<Bytes>>,
}

impl Reader {
    pub(super) fn new(name: &BackupName, index: Ranges, archive: Ranges, directory: Directory) -> Self {
        let blocks = Mutex::new(Recent::new(RECENT_BLOCKS));
        let members = Mutex::new(Recent::new(RECENT_MEMBERS));
        Self {
            name: name.clone(),
            index,
            archive,
            directory,
            blocks,
            members,
        }
    }

    fn index_error(&self, source: IndexError) -> CatalogError {
        CatalogError::Index {
            key: BackupKeys(&self.name).index(),
            source,
        }
    }

    /// Positions of the blocks that a filter needs, neighbours together.
    pub(super) fn batches(&self, filter: &EntryFilter) -> Vec<Range<usize>> {
        let mut batches: Vec<Range<usize>> = Vec::new();
        let mut bytes = 0;
        let mut end_of_last = 0;
        for (position, block) in self.directory.blocks.iter().enumerate() {
            if !filter.may_match(block) {
                continue;
            }
            match batches.last_mut() {
                Some(batch)
                    if batch.end == position
                        && end_of_last == block.offset
                        && block.length.saturating_add(bytes) <= BATCH =>
                {
                    batch.end += 1;
                    bytes += block.length;
                }
                _ => {
                    batches.push(position..position + 1);
                    bytes = block.length;
                }
            }
            end_of_last = block.offset.saturating_add(block.length);
        }
        batches
    }

    pub(super) async fn batch(&self, batch: Range<usize>) -> Result<Vec<(usize, Vec<Entry>)>, CatalogError> {
        let first = batch.start;
        let blocks = self.directory.blocks.get(batch).unwrap_or_default();
        let begin = blocks.first().map_or(0, |block| block.offset);
        let mut lengths = Vec::with_capacity(blocks.len());
        let mut total: u64 = 0;
        for block in blocks {
            total = total.saturating_add(block.length);
            lengths.push(usize::try_from(block.length).unwrap_or(usize::MAX));
        }
        let mut bytes = self.index_part(begin, total).await?;
        let key = BackupKeys(&self.name).index();
        blocking(move || {
            let mut parsed = Vec::with_capacity(lengths.len());
            for (position, length) in lengths.into_iter().enumerate() {
                let block = bytes.split_to(length.min(bytes.len()));
                let entries = index::parse_block(&block).map_err(|source| CatalogError::Index {
                    key: key.clone(),
                    source,
                })?;
                parsed.push((first + position, entries));
            }
            Ok(parsed)
        })
        .await
    }

    async fn index_part(&self, offset: u64, length: u64) -> Result<Bytes, CatalogError> {
        if length > INDEX_PART_MAX
            || offset
                .checked_add(length)
                .is_none_or(|end| end > self.index.size())
        {
            return Err(self.index_error(IndexError::Damaged("a block lies outside the file".into())));
        }
        self.index.read(offset, length).await
    }

    /// One block, parsed; the last few are kept.
    pub(super) async fn block(&self, block: &Block) -> Result<Arc<Vec<Entry>>, CatalogError> {
        if let Some(entries) = self
            .blocks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(block.offset)
        {
            return Ok(entries);
        }
        let bytes = self.index_part(block.offset, block.length).await?;
        let parsed = blocking(move || Ok(index::parse_block(&bytes))).await?;
        let entries = Arc::new(parsed.map_err(|source| self.index_error(source))?);
        let mut recent = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        recent.put(block.offset, Arc::clone(&entries));
        Ok(entries)
    }

    /// One member, inflated; the last few are kept.
    pub(super) async fn member(&self, offset: u64, length: u64) -> Result<Bytes, CatalogError> {
        if let Some(tar) = self
            .members
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(offset)
        {
            return Ok(tar);
        }
        let tar = self.inflated_member(offset, length).await?;
        let mut recent = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        recent.put(offset, tar.clone());
        Ok(tar)
    }

    pub(super) async fn inflated_member(&self, offset: u64, length: u64) -> Result<Bytes, CatalogError> {
        if length > MEMBER_MAX
            || offset
                .checked_add(length)
                .is_none_or(|end| end > self.archive.size())
        {
            let detail = format!(
                "it names bytes {offset}+{length} of an archive of {}",
                self.archive.size()
            );
            return Err(self.index_error(IndexError::Damaged(detail)));
        }
        let compressed = self.archive.read(offset, length).await?;
        let key = BackupKeys(&self.name).tarball();
        blocking(move || {
            let tar = member::inflate(&compressed).map_err(|source| CatalogError::Member {
                key,
                offset,
                source,
            })?;
            Ok(tar.into())
        })
        .await
    }

    /// The bytes of an entry in its member, checked to be the object that the entry names.
    pub(super) fn object<'a>(&self, tar: &'a [u8], entry: &Entry) -> Result<&'a [u8], CatalogError> {
        let json = member::object_at(tar, entry.place()).map_err(|source| CatalogError::Member {
            key: BackupKeys(&self.name).tarball(),
            offset: entry.member,
            source,
        })?;
        let problem = match Head::parse(json) {
            Err(error) => Some(format!("the archive holds no object there ({error})")),
            Ok(head) => mismatch(&head, entry),
        };
        match problem {
            None => Ok(json),
            Some(problem) => Err(CatalogError::Object {
                name: self.name.clone(),
                object: words(entry),
                problem,
            }),
        }
    }
}

/// `pods shop/web`.
pub(in super::super) fn words(entry: &Entry) -> String {
    match &entry.namespace {
        Some(namespace) => format!("{} {namespace}/{}", entry.resource_group, entry.name),
        None => format!("{} {}", entry.resource_group, entry.name),
    }
}

/// In which way an object is not the one that an entry names.
pub(in super::super) fn mismatch(head: &Head<'_>, entry: &Entry) -> Option<String> {
    let namespace = head
        .metadata
        .namespace
        .as_deref()
        .filter(|namespace| !namespace.is_empty());
    (head.metadata.name != entry.name || namespace != entry.namespace.as_deref()).then(|| {
        format!(
            "the archive holds `{}/{}` there",
            namespace.unwrap_or_default(),
            head.metadata.name
        )
    })
}
