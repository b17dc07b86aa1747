//! The archive as we write it: a tar cut at object boundaries into gzip members of about 1 MiB.
//!
//! In come paths and JSON; out go whole gzip members with the place of each object inside. Members concatenated in any
//! order, the [`trailer`] last, are one legal `tar.gz` (measured with Velero 1.18.3 and GNU tar), and each can be
//! deflated on another core and read back alone by a range request.

use std::io::{self, Read, Write};

use flate2::{Compression, write::GzEncoder};
use thiserror::Error;

/// Bytes of tar after which a member is closed.
pub const MEMBER_TARGET: usize = 1 << 20;

/// Room for a member and the object that fills it, so that it is seldom moved while it grows.
const MEMBER_CAPACITY: usize = MEMBER_TARGET + (128 << 10);

/// Largest member that a reader inflates: a target plus the largest object that an API server can hold, generously.
pub const MEMBER_MAX: u64 = 64 << 20;

/// Velero's reader creates missing folders with the mode of the file; anything less than this cannot be extracted.
const ENTRY_MODE: u32 = 0o755;

/// What a tar consists of.
const BLOCK: usize = 512;

/// Longest path that fits the name field of every tar dialect.
const USTAR_NAME: usize = 100;

/// Tar content of one member that is being filled.
pub struct MemberBuilder {
    tar: tar::Builder<Vec<u8>>,
    /// What the headers of all entries have in common.
    header: Box<tar::Header>,
}

/// Where an object lies in the tar content of its member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// First byte of the JSON in the inflated member.
    pub offset: u64,
    /// Bytes of JSON.
    pub size: u64,
}

impl MemberBuilder {
    /// An empty member; `modified` (seconds since 1970) becomes the time of every entry.
    pub fn new(modified: u64) -> Self {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(ENTRY_MODE);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(modified);
        Self {
            tar: tar::Builder::new(Vec::new()),
            header: Box::new(header),
        }
    }

    /// Adds one file and says where its bytes lie. Paths over 100 bytes get a PAX header, as Go writes them.
    ///
    /// # Errors
    /// When the path is no legal tar path (empty, absolute, or with `..`).
    pub fn append(&mut self, path: &str, data: &[u8]) -> io::Result<Place> {
        self.append_with(path, |out| out.extend_from_slice(data))
    }

    /// Adds one file whose bytes `write` appends to what it is given, so that they are copied once.
    ///
    /// # Errors
    /// As [`MemberBuilder::append`]; nothing is written then.
    pub fn append_with(&mut self, path: &str, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<Place> {
        let mut header = tar::Header::clone(&self.header);
        if path.is_empty() || path.starts_with('/') || path.split('/').any(|part| part == "..") {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`{path}` is no archive path"),
            ));
        }
        if path.len() > USTAR_NAME {
            // The PAX record wins; the short name only serves readers that know no PAX.
            let cut = (0..=USTAR_NAME)
                .rev()
                .find(|end| path.is_char_boundary(*end))
                .unwrap_or(0);
            header.set_path(&path[..cut])?;
            self.tar.append_pax_extensions([("path", path.as_bytes())])?;
        } else {
            header.set_path(path)?;
        }
        let out = self.tar.get_mut();
        let place_of_header = out.len();
        out.extend_from_slice(header.as_bytes());
        let begin = out.len();
        write(out);
        let size = out.len().saturating_sub(begin);
        header.set_size(size as u64);
        header.set_cksum();
        if let Some(written) = out.get_mut(place_of_header..begin) {
            written.copy_from_slice(header.as_bytes());
        }
        out.resize(begin + size.next_multiple_of(BLOCK), 0);
        Ok(Place {
            offset: begin as u64,
            size: size as u64,
        })
    }

    /// Bytes of tar so far.
    pub fn len(&self) -> usize {
        self.tar.get_ref().len()
    }

    /// Whether nothing was added yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the member has reached its size and should be closed.
    pub fn is_full(&self) -> bool {
        self.len() >= MEMBER_TARGET
    }

    /// Takes the tar content out and leaves an empty member behind.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::replace(self.tar.get_mut(), Vec::with_capacity(MEMBER_CAPACITY))
    }
}

/// Deflates tar content into one gzip member.
///
/// # Errors
/// Never in practice: writing into memory does not fail.
pub fn deflate(tar: &[u8], level: u32) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(tar.len() / 6), Compression::new(level));
    encoder.write_all(tar)?;
    encoder.finish()
}

/// The last member: the two zero blocks that end a tar.
///
/// # Errors
/// As [`deflate`].
pub fn trailer() -> io::Result<Vec<u8>> {
    deflate(&[0; 1024], 9)
}

/// Why a member cannot be read.
#[derive(Debug, Error)]
pub enum MemberError {
    /// Not a gzip member, or a damaged one.
    #[error("the gzip member is damaged or cut")]
    Inflate(#[source] io::Error),
    /// Inflates to more than any member of ours can.
    #[error("the gzip member inflates to more than {MEMBER_MAX} bytes")]
    TooLarge,
    /// The place lies outside the member.
    #[error("the index names bytes {offset}..{end} of a member that inflates to {length}")]
    Place {
        /// First byte asked for.
        offset: u64,
        /// End of the range.
        end: u64,
        /// Bytes that are there.
        length: usize,
    },
}

/// Inflates one whole gzip member.
///
/// # Errors
/// [`MemberError`] when it is damaged, too large, or does not fill the given bytes.
pub fn inflate(compressed: &[u8]) -> Result<Vec<u8>, MemberError> {
    let mut decoder = flate2::bufread::MultiGzDecoder::new(compressed);
    let mut tar = Vec::with_capacity(compressed.len().saturating_mul(4).min(MEMBER_TARGET * 2));
    decoder
        .by_ref()
        .take(MEMBER_MAX + 1)
        .read_to_end(&mut tar)
        .map_err(MemberError::Inflate)?;
    if tar.len() as u64 > MEMBER_MAX {
        return Err(MemberError::TooLarge);
    }
    Ok(tar)
}

/// The bytes of one object in an inflated member.
///
/// # Errors
/// [`MemberError::Place`] when the place lies outside.
pub fn object_at(tar: &[u8], place: Place) -> Result<&[u8], MemberError> {
    let end = place.offset.saturating_add(place.size);
    let range = usize::try_from(place.offset).ok().zip(usize::try_from(end).ok());
    range
        .and_then(|(start, end)| tar.get(start..end))
        .ok_or(MemberError::Place {
            offset: place.offset,
            end,
            length: tar.len(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_at_their_places() {
        let mut builder = MemberBuilder::new(1_700_000_000);
        let long = format!(
            "resources/configmaps/namespaces/{}/{}.json",
            "n".repeat(63),
            "x".repeat(200)
        );
        let first = builder
            .append("resources/pods/namespaces/a/b.json", b"{\"a\":1}")
            .unwrap();
        let second = builder.append(&long, b"{\"b\":2}").unwrap();
        let tar = builder.take();
        assert!(builder.is_empty());
        let read = inflate(&deflate(&tar, 3).unwrap()).unwrap();
        assert_eq!(object_at(&read, first).unwrap(), b"{\"a\":1}");
        // The second place must point at the data behind the PAX header.
        assert!(
            object_at(
                &read,
                Place {
                    offset: 1 << 30,
                    size: 1
                }
            )
            .is_err()
        );
        assert!(
            object_at(
                &read,
                Place {
                    offset: u64::MAX,
                    size: 9
                }
            )
            .is_err()
        );
        assert_eq!(object_at(&read, second).unwrap(), b"{\"b\":2}");
    }

    #[test]
    fn a_member_is_what_the_tar_crate_would_write() {
        let mut builder = MemberBuilder::new(1_700_000_000);
        let mut expected = tar::Builder::new(Vec::new());
        for (path, length) in [
            ("resources/pods/cluster/a.json", 0),
            ("x.json", 511),
            ("y", 512),
            ("z", 513),
        ] {
            let data = vec![b'd'; length];
            builder.append(path, &data).unwrap();
            let mut header = tar::Header::new_ustar();
            header.set_path(path).unwrap();
            header.set_entry_type(tar::EntryType::Regular);
            header.set_mode(ENTRY_MODE);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(1_700_000_000);
            header.set_size(length as u64);
            header.set_cksum();
            expected.append(&header, data.as_slice()).unwrap();
        }
        assert_eq!(builder.take(), *expected.get_ref());
    }

    #[test]
    fn damaged_and_cut_members_are_refused() {
        let whole = deflate(&[7; 5000], 3).unwrap();
        for cut in 0..whole.len() {
            assert!(inflate(&whole[..cut]).is_err() || cut == 0, "cut at {cut}");
        }
    }

    #[test]
    fn paths_out_of_the_archive_are_refused() {
        let mut builder = MemberBuilder::new(0);
        for path in ["", "/etc/passwd", "resources/../x"] {
            assert!(builder.append(path, b"").is_err(), "{path}");
        }
    }
}
