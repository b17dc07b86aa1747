//! The archive from its first byte to its last, object by object.
//!
//! With digests it is taken apart at the member borders that they name: each member's digest, its inflated length, the
//! objects in it, and that the members lie one behind the other and fill the file. Without them it is walked as Velero
//! would read it. Both ways yield the same [`Archive`]: entries as they should stand in an index, and a tally.

use std::{io::Read, sync::Arc};

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use velero_model::{
    archive::ItemPath,
    digests::{Digests, FileDigest, MemberDigest, hex, sha256},
    item::Head,
    member::{self, MEMBER_MAX, Place},
};

use super::{
    super::{
        error::CatalogError,
        objects::{entry_of, mismatch, words},
        open::OpenBackup,
        stream::{ChannelReader, chunks, walk_archive, with_reader},
    },
    Findings,
    tally::Tally,
};
use crate::{progress::Progress, spool::SortedSpool};

/// Bytes of a tar block.
const TAR_BLOCK: u64 = 512;

/// What the archive holds.
pub(super) struct Archive {
    pub(super) spool: SortedSpool,
    pub(super) tally: Tally,
    pub(super) members: u64,
    /// Whether the entries say in which member they lie.
    pub(super) has_places: bool,
}

/// Reads the whole archive. `None` when there is none.
pub(super) async fn check(
    open: &OpenBackup,
    digests: Option<Digests>,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<(Option<Archive>, Findings), CatalogError> {
    let mut findings = Findings::default();
    let Some(file) = findings.catch(&open.keys().tarball(), open.archive())? else {
        return Ok((None, findings));
    };
    let key = file.key.clone();
    let (size, chunks) = chunks(open.bucket(), &key).await?;
    let mut check = Check {
        key,
        findings,
        archive: Archive::new(digests.is_some()),
        progress: Arc::clone(progress),
    };
    let check = with_reader(size, chunks, progress, cancel, move |reader| {
        match digests {
            Some(digests) => check.members(reader, size, &digests)?,
            None => check.walk(reader)?,
        }
        Ok(check)
    })
    .await?;
    Ok((Some(check.archive), check.findings))
}

impl Archive {
    fn new(has_places: bool) -> Self {
        Self {
            spool: SortedSpool::new(),
            tally: Tally::default(),
            members: 0,
            has_places,
        }
    }
}

struct Check {
    key: String,
    findings: Findings,
    archive: Archive,
    progress: Arc<Progress>,
}

impl Check {
    /// As Velero reads it: gzip members and tar in one, second copies in version folders included.
    fn walk(&mut self, reader: ChannelReader) -> Result<(), CatalogError> {
        let key = self.key.clone();
        let result = walk_archive(reader, &key, true, |item, data| {
            self.object(
                item,
                data,
                Place {
                    offset: 0,
                    size: data.len() as u64,
                },
                (0, 0),
            )?;
            Ok(true)
        });
        self.findings.catch(&key, result)?;
        Ok(())
    }

    /// Member by member, as the digests name them.
    fn members(
        &mut self,
        mut reader: ChannelReader,
        size: u64,
        digests: &Digests,
    ) -> Result<(), CatalogError> {
        let expected = file_digest(&self.key, digests);
        let mut hasher = Sha256::new();
        let mut position = 0;
        let last = digests.members.len().saturating_sub(1);
        for (number, member) in digests.members.iter().enumerate() {
            let fits = member
                .offset
                .checked_add(member.length)
                .is_some_and(|end| end <= size);
            if member.offset != position || member.length > MEMBER_MAX || !fits {
                self.findings.damage(
                    &self.key,
                    format!("the member at byte {} does not fit into the file", member.offset),
                );
                break;
            }
            let mut bytes = vec![0; usize::try_from(member.length).unwrap_or_default()];
            reader
                .read_exact(&mut bytes)
                .map_err(|error| self.unreadable(&error))?;
            hasher.update(&bytes);
            position += member.length;
            self.member(member, &bytes, number == last)?;
        }
        let rest = hash_rest(&mut reader, &mut hasher).map_err(|error| self.unreadable(&error))?;
        if rest > 0 {
            self.findings.damage(
                &self.key,
                format!("{rest} bytes after byte {position} belong to no member"),
            );
        }
        if !expected
            .is_some_and(|expected| expected.size == size && expected.sha256 == hex(&hasher.finalize()))
        {
            self.findings.damage(
                &self.key,
                "its size or SHA-256 is not the one in the digests file",
            );
        }
        Ok(())
    }

    /// Faults of the stream come through its pump; this only stands in for them.
    fn unreadable(&self, error: &std::io::Error) -> CatalogError {
        CatalogError::File {
            key: self.key.clone(),
            detail: error.to_string(),
        }
    }

    fn member(
        &mut self,
        expected: &MemberDigest,
        compressed: &[u8],
        is_last: bool,
    ) -> Result<(), CatalogError> {
        let what = format!("{}, member at byte {}", self.key, expected.offset);
        self.archive.members += 1;
        if sha256(compressed) != expected.sha256 {
            self.findings
                .damage(&what, "its SHA-256 is not the one in the digests file");
        }
        let tar = match member::inflate(compressed) {
            Ok(tar) => tar,
            Err(error) => {
                self.findings.damage(what, error.to_string());
                return Ok(());
            }
        };
        if tar.len() as u64 != expected.inflated {
            self.findings.damage(
                &what,
                format!("it inflates to {} bytes, not {}", tar.len(), expected.inflated),
            );
        }
        match self.fragment(&tar, (expected.offset, expected.length)) {
            Ok(end) if is_last || end == tar.len() as u64 => {}
            Ok(end) => self
                .findings
                .damage(what, format!("the tar ends at byte {end} of it")),
            Err(FragmentError::Catalog(error)) => return Err(error),
            Err(FragmentError::Tar(problem)) => self.findings.damage(what, problem),
        }
        Ok(())
    }

    /// Goes through the piece of tar in one member and says where its last object ends.
    fn fragment(&mut self, tar: &[u8], member: (u64, u64)) -> Result<u64, FragmentError> {
        let damaged =
            |error: std::io::Error| FragmentError::Tar(format!("the tar in it is damaged: {error}"));
        let mut end = 0;
        for entry in tar::Archive::new(tar).entries().map_err(damaged)? {
            let entry = entry.map_err(damaged)?;
            let place = Place {
                offset: entry.raw_file_position(),
                size: entry.size(),
            };
            end = place
                .offset
                .saturating_add(place.size)
                .next_multiple_of(TAR_BLOCK);
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let item = ItemPath::parse(&path).map_err(|error| FragmentError::Tar(error.to_string()))?;
            let Some(item) = item else { continue };
            if !entry.header().entry_type().is_file() {
                return Err(FragmentError::Tar(format!(
                    "`{path}` in it is a link or device and not a file"
                )));
            }
            let json =
                member::object_at(tar, place).map_err(|error| FragmentError::Tar(error.to_string()))?;
            self.object(item, json, place, member)?;
        }
        Ok(end)
    }

    /// One object: it parses, is the one that its path names, and goes into spool and tally.
    fn object(
        &mut self,
        item: ItemPath,
        json: &[u8],
        place: Place,
        member: (u64, u64),
    ) -> Result<(), CatalogError> {
        let is_second_copy = item.version_folder.is_some();
        let head = match Head::parse(json) {
            Ok(head) => head,
            Err(error) => {
                let what = words(&entry_of(item, None, place));
                self.findings.damage(what, format!("it is no object: {error}"));
                return Ok(());
            }
        };
        let mut entry = entry_of(item, Some(&head), place);
        (entry.member, entry.member_length) = member;
        if let Some(problem) = mismatch(&head, &entry) {
            self.findings.damage(words(&entry), problem);
        }
        if is_second_copy {
            return Ok(());
        }
        self.archive.tally.count(&entry, &head);
        self.progress.add_objects(1);
        self.archive.spool.push(&entry).map_err(CatalogError::Spool)
    }
}

enum FragmentError {
    Tar(String),
    Catalog(CatalogError),
}

impl From<CatalogError> for FragmentError {
    fn from(error: CatalogError) -> Self {
        Self::Catalog(error)
    }
}

fn file_digest<'a>(key: &str, digests: &'a Digests) -> Option<&'a FileDigest> {
    digests.files.get(key.rsplit('/').next()?)
}

fn hash_rest(reader: &mut ChannelReader, hasher: &mut Sha256) -> std::io::Result<u64> {
    let mut buffer = vec![0; 64 << 10];
    let mut rest = 0;
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            return Ok(rest);
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
        rest += read as u64;
    }
}
