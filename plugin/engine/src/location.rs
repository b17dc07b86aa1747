//! Locations: where backups are kept, as a person names it and as it is meant.
//!
//! In comes a word: a URL (`url`), a name from the user's file (`config`), or what a Velero
//! BackupStorageLocation says (`backup_storage_location`). Out comes a [`Location`], in which every setting is
//! checked and nothing is spelled any more, and from it with [`open`] a [`Bucket`]. Credentials never stand in a
//! URL or in the file; where a Secret brings them along they stay in [`redacted::Redacted`].

pub mod backup_storage_location;
pub mod config;
pub mod in_cluster;
pub mod nearest;
pub mod password;
pub mod redacted;
pub mod s3;
pub mod url;

use std::path::PathBuf;
use std::sync::Arc;

use crate::storage::folder::Folder;
use crate::storage::s3::{S3, Tuning};
use crate::storage::{Bucket, StorageError};
pub use backup_storage_location::{from_backup_storage_location, to_backup_storage_location};
pub use config::{LocationsFile, resolve};
pub use s3::S3Location;

/// A place for backups, as meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A bucket of an S3 server, or a prefix in it.
    S3(Box<S3Location>),
    /// A folder with a bucket's layout.
    Folder(FolderLocation),
}

/// A folder as a location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderLocation {
    /// Absolute path.
    pub path: PathBuf,
    /// Whether writes are refused.
    pub read_only: bool,
}

impl Location {
    /// The location for messages, without its settings.
    pub fn describe(&self) -> String {
        match self {
            Self::S3(location) => location.describe(),
            Self::Folder(folder) => format!("file://{}", folder.path.display()),
        }
    }

    /// The same store, some folders further down: where the backups of one cluster are.
    #[must_use]
    pub fn below(&self, prefix: &str) -> Self {
        match self {
            Self::S3(location) => {
                let slash = if location.prefix.is_empty() { "" } else { "/" };
                let mut location = location.clone();
                location.prefix = format!("{}{slash}{prefix}", location.prefix);
                Self::S3(location)
            }
            Self::Folder(folder) => Self::Folder(FolderLocation {
                path: folder.path.join(prefix),
                read_only: folder.read_only,
            }),
        }
    }

    /// The same, never written to.
    #[must_use]
    pub fn as_read_only(mut self) -> Self {
        match &mut self {
            Self::S3(location) => location.read_only = true,
            Self::Folder(folder) => folder.read_only = true,
        }
        self
    }

    /// Whether writes are refused.
    pub fn read_only(&self) -> bool {
        match self {
            Self::S3(location) => location.read_only,
            Self::Folder(folder) => folder.read_only,
        }
    }
}

/// A location that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// A URL that is none of ours, or that says something impossible.
    #[error("location {url:?}: {reason}")]
    Url {
        /// As typed, without what may be a credential.
        url: String,
        /// What is wrong and what to write instead.
        reason: String,
    },
    /// A name that nobody knows.
    #[error("location {name:?} is unknown; {known}")]
    UnknownName {
        /// As typed.
        name: String,
        /// The known names, or how to add one.
        known: String,
    },
    /// No location was named and there is no default.
    #[error(
        "no location: give --location, set KUBECTL_BACKUP_LOCATION, or name one with `kubectl backup location add NAME URL` \
         and choose it with `kubectl backup location default NAME`"
    )]
    Nothing,
    /// The user's file of locations cannot be used.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A Secret in the cluster that should be a location.
    #[error("Secret {name}, key {key}: {reason}; make the schedule again, or correct the Secret")]
    Secret {
        /// The Secret.
        name: String,
        /// The key in it.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// A BackupStorageLocation that this engine cannot use.
    #[error("BackupStorageLocation: {field}: {reason}")]
    BackupStorageLocation {
        /// The field in it.
        field: String,
        /// What is wrong and what to do.
        reason: String,
    },
}

/// Opens a location. Settings are checked, the store itself is not asked yet.
pub async fn open(location: &Location) -> Result<Arc<dyn Bucket>, StorageError> {
    open_tuned(location, Tuning::default()).await
}

/// The location as [`open`] would use it: the AWS configuration may name another server. Nothing is asked of the store.
pub async fn effective(location: &Location) -> Location {
    match location {
        Location::S3(location) => Location::S3(Box::new(S3::effective(location).await)),
        Location::Folder(_) => location.clone(),
    }
}

/// The same with another patience, for tests and slow lines.
pub async fn open_tuned(location: &Location, tuning: Tuning) -> Result<Arc<dyn Bucket>, StorageError> {
    match location {
        Location::S3(location) => Ok(Arc::new(S3::open(location, tuning).await?)),
        Location::Folder(folder) => Ok(Arc::new(Folder::new(&folder.path, folder.read_only))),
    }
}
