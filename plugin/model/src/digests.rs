//! SHA-256 of every file of a backup and of every gzip member of its archive: what `verify` reads.
//!
//! The document is written before the marker and contains the marker's digest too; it protects itself by a seal, the
//! digest of its own canonical form with an empty seal. So one flipped bit anywhere in the backup is found.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Version of this document that we write.
const VERSION: u32 = 1;

/// Digests of one backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Digests {
    /// Version of the document, 1.
    pub version: u32,
    /// Every file but this one and the notes, by file name without the folder.
    pub files: BTreeMap<String, FileDigest>,
    /// Every gzip member of the archive, in file order.
    pub members: Vec<MemberDigest>,
    /// SHA-256 of the canonical form of this document with an empty seal.
    #[serde(default)]
    pub seal: String,
}

/// Size and digest of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigest {
    /// Bytes.
    pub size: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
}

/// Place and digest of one gzip member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberDigest {
    /// First byte in the archive.
    pub offset: u64,
    /// Compressed bytes.
    pub length: u64,
    /// Bytes of tar inside.
    pub inflated: u64,
    /// SHA-256 of the compressed bytes, lower-case hex.
    pub sha256: String,
}

/// Why a digests file is not believed.
#[derive(Debug, Error)]
pub enum DigestsError {
    /// Not the document at all.
    #[error("the digests file is no valid JSON document of this kind")]
    Parse(#[source] serde_json::Error),
    /// A later format.
    #[error("the digests file has format version {0}, this tool knows {VERSION}; use a newer kubectl-backup")]
    Version(u32),
    /// Changed after it was written.
    #[error("the digests file does not match its own seal: it was damaged or changed")]
    Seal,
}

impl FileDigest {
    /// Digest of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            size: bytes.len() as u64,
            sha256: sha256(bytes),
        }
    }
}

impl Digests {
    /// Seals the document and returns its bytes.
    ///
    /// # Errors
    /// Never in practice: the document holds only strings and numbers.
    pub fn seal(mut self) -> Result<Vec<u8>, serde_json::Error> {
        self.version = VERSION;
        self.seal = String::new();
        self.seal = sha256(&serde_json::to_vec(&self)?);
        serde_json::to_vec(&self)
    }

    /// Reads a sealed document, byte for byte as it was written.
    ///
    /// # Errors
    /// [`DigestsError`] when it is not one, of a later version, or does not match its seal.
    pub fn parse(bytes: &[u8]) -> Result<Self, DigestsError> {
        let document: Self = serde_json::from_slice(bytes).map_err(DigestsError::Parse)?;
        if document.version != VERSION {
            return Err(DigestsError::Version(document.version));
        }
        let again = document.clone().seal().map_err(DigestsError::Parse)?;
        if again == bytes {
            Ok(document)
        } else {
            Err(DigestsError::Seal)
        }
    }
}

/// SHA-256 in lower-case hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing into a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> Vec<u8> {
        Digests {
            files: [("a.tar.gz".to_owned(), FileDigest::of(b"abc"))].into(),
            members: vec![MemberDigest {
                offset: 0,
                length: 3,
                inflated: 9,
                sha256: sha256(b"abc"),
            }],
            ..Digests::default()
        }
        .seal()
        .unwrap()
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let bytes = sealed();
        assert!(Digests::parse(&bytes).is_ok());
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[position] ^= 1 << bit;
                assert!(Digests::parse(&damaged).is_err(), "bit {bit} of byte {position}");
            }
        }
    }
}
