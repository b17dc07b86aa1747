//! From an archive without an index to one of our own form, in temporary files.
//!
//! The archive is read once, from its first byte to its last; hostile content ends the pass with an error before
//! anything is used. Out come members and an index as we write them, in unnamed files that vanish with the process, so
//! that everything later is the same for Velero's backups and ours. Copies in other versions (Velero makes them with
//! `EnableAPIGroupVersions`) go into files of their own, where a kind's name ends with the version: `deployments.apps/v1`.
//! Second copies in the same version are left out.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Write},
    sync::Arc,
};

use tokio_util::sync::CancellationToken;
use velero_model::{
    archive::ItemPath,
    index::{self, Directory, Entry, IndexError},
    item::Head,
    member::{self, MemberBuilder, Place},
    resource::ApiKind,
};

use super::{
    super::{
        error::CatalogError,
        kinds::kind_of,
        open::OpenBackup,
        stream::{ChannelReader, chunks, walk_archive, with_reader},
    },
    ranges::Ranges,
};
use crate::{progress::Progress, spool::SortedSpool};

/// Fast: the file is local and read once or twice.
const LEVEL: u32 = 1;

/// What a pass yields.
pub(super) struct Rebuilt {
    pub(super) index: Ranges,
    pub(super) archive: Ranges,
    pub(super) directory: Directory,
    /// Objects in other versions, if the archive holds any.
    pub(super) copies: Option<Box<Rebuilt>>,
}

/// Ends the name of a folder that holds the same version again.
const PREFERRED: &str = "-preferredversion";

/// Goes through the archive of a backup.
pub(super) async fn rebuild(
    open: &OpenBackup,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<Rebuilt, CatalogError> {
    let key = open.archive()?.key.clone();
    let (size, chunks) = chunks(open.bucket(), &key).await?;
    progress.set_step("reading the archive");
    progress.set_total_bytes(size);
    let counted = Arc::clone(progress);
    with_reader(size, chunks, progress, cancel, move |reader| {
        let mut pass = Pass::new().map_err(CatalogError::Spool)?;
        let mut copies = None;
        read(reader, &key, &mut pass, &mut copies, &counted)?;
        let copies = copies.map(Pass::finish).transpose()?;
        Ok(Rebuilt {
            copies: copies.map(Box::new),
            ..pass.finish()?
        })
    })
    .await
}

fn read(
    reader: ChannelReader,
    key: &str,
    pass: &mut Pass,
    copies: &mut Option<Pass>,
    progress: &Progress,
) -> Result<(), CatalogError> {
    walk_archive(reader, key, true, |mut item, data| {
        match item.version_folder.take() {
            None => {
                pass.push(item, data)?;
                progress.add_objects(1);
            }
            Some(version) if version.ends_with(PREFERRED) => {}
            Some(version) => {
                let pass = match copies {
                    Some(pass) => pass,
                    None => copies.insert(Pass::new().map_err(CatalogError::Spool)?),
                };
                item.resource_group = copy_name(&item.resource_group, &version);
                pass.push(item, data)?;
            }
        }
        Ok(true)
    })?;
    Ok(())
}

/// The name of a kind in another version.
pub(super) fn copy_name(resource_group: &str, version: &str) -> String {
    format!("{resource_group}/{version}")
}

/// The index entry of an object, except for the place of its member.
pub(in super::super) fn entry_of(item: ItemPath, head: Option<&Head<'_>>, place: Place) -> Entry {
    let owners = head.and_then(|head| head.metadata.owner_references.as_ref());
    Entry {
        resource_group: item.resource_group,
        namespace: item.namespace,
        name: item.name,
        member: 0,
        member_length: 0,
        offset: place.offset,
        size: place.size,
        uid: head
            .map(|head| head.metadata.uid.clone().into_owned())
            .unwrap_or_default(),
        owners: owners
            .into_iter()
            .flatten()
            .map(|owner| owner.uid.clone().into_owned())
            .collect(),
        labels: head.map(Head::owned_labels).unwrap_or_default(),
    }
}

struct Pass {
    spool: SortedSpool,
    archive: BufWriter<File>,
    written: u64,
    builder: MemberBuilder,
    /// Entries of the member that is being filled.
    pending: Vec<Entry>,
    kinds: BTreeMap<String, ApiKind>,
}

impl Pass {
    fn new() -> io::Result<Self> {
        Ok(Self {
            spool: SortedSpool::new(),
            archive: BufWriter::new(tempfile::tempfile()?),
            written: 0,
            builder: MemberBuilder::new(0),
            pending: Vec::new(),
            kinds: BTreeMap::new(),
        })
    }

    fn push(&mut self, item: ItemPath, data: &[u8]) -> Result<(), CatalogError> {
        // An object that does not parse stays in: whoever reads it is told, and the others are not lost.
        let head = Head::parse(data).ok();
        self.learn(&item, head.as_ref());
        let path = ItemPath::format(&item.resource_group, item.namespace.as_deref(), &item.name);
        let place = self.builder.append(&path, data).map_err(CatalogError::Spool)?;
        self.pending.push(entry_of(item, head.as_ref(), place));
        if self.builder.is_full() {
            self.close_member().map_err(CatalogError::Spool)
        } else {
            Ok(())
        }
    }

    /// Takes version and kind from the first object of each resource.
    fn learn(&mut self, item: &ItemPath, head: Option<&Head<'_>>) {
        let known = self
            .kinds
            .get(&item.resource_group)
            .is_some_and(|kind| !kind.kind.is_empty());
        if known {
            return;
        }
        let kind = kind_of(&item.resource_group, item.namespace.is_some(), head);
        self.kinds.insert(item.resource_group.clone(), kind);
    }

    fn close_member(&mut self) -> io::Result<()> {
        if self.builder.is_empty() {
            return Ok(());
        }
        let member = member::deflate(&self.builder.take(), LEVEL)?;
        self.archive.write_all(&member)?;
        for mut entry in self.pending.drain(..) {
            entry.member = self.written;
            entry.member_length = member.len() as u64;
            self.spool.push(&entry)?;
        }
        self.written += member.len() as u64;
        Ok(())
    }

    fn finish(mut self) -> Result<Rebuilt, CatalogError> {
        self.close_member().map_err(CatalogError::Spool)?;
        let archive = into_file(self.archive).map_err(CatalogError::Spool)?;
        let file = BufWriter::new(tempfile::tempfile().map_err(CatalogError::Spool)?);
        let mut writer = index::Writer::new(file, self.kinds.into_values().collect());
        let wrong = |error: IndexError| match error {
            IndexError::Write(error) => CatalogError::Spool(error),
            // A walk refuses doubled paths, and the spool sorts: nothing else can be out of order.
            other => CatalogError::Spool(io::Error::other(other.to_string())),
        };
        for entry in self.spool.finish().map_err(CatalogError::Spool)? {
            writer.push(&entry.map_err(CatalogError::Spool)?).map_err(wrong)?;
        }
        let (file, directory) = writer.finish().map_err(wrong)?;
        let index = into_file(file).map_err(CatalogError::Spool)?;
        let size = index.metadata().map_err(CatalogError::Spool)?.len();
        Ok(Rebuilt {
            index: Ranges::spooled(index, size),
            archive: Ranges::spooled(archive, self.written),
            directory,
            copies: None,
        })
    }
}

fn into_file(file: BufWriter<File>) -> io::Result<File> {
    file.into_inner().map_err(io::IntoInnerError::into_error)
}
