//! Everything below a cluster's prefix, thing by thing, and what each says about whose it is.
//!
//! In comes a bucket whose prefix is the cluster's; out goes a [`Census`]: backups, restores, volume repositories, other
//! files of Velero's layout, each with its keys, versions and unfinished uploads counted, and the number of keys outside
//! that layout. A thing of which only hidden versions are left is there too. Memory grows with the things and with the
//! versions of a bucket that has them, not with the keys.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt, TryStreamExt, stream};
use velero_model::{
    layout::{BACKUPS, BackupKeys, FIRST_LEVEL, RECOVERY, RESTORES, RestoreKeys},
    name::BackupName,
    outcome::Outcome,
    recovery::RecoveryTicket,
    restore_record::RestoreRecord,
};

use super::{
    error::CatalogError,
    folder::{self, Folder, State},
    open::{inflate_file, read_marker},
};
use crate::{
    clock,
    storage::{Bucket, ObjectInfo, StorageError},
};

/// Things that are read at once.
const IN_FLIGHT: usize = 16;

/// Largest ticket or record that is read.
const SMALL: u64 = 16 << 20;

/// Something that is deleted or left as a whole. In the order in which things go: a restore is known by its backup.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Unit {
    /// `restores/<name>/`.
    Restore(String),
    /// `backups/<name>/`.
    Backup(String),
    /// A key directly in one of Velero's folders.
    Loose(String),
    /// A whole folder of volume repositories, or of plugins.
    Folder(&'static str),
    /// A key below `metadata/`.
    Metadata(String),
}

/// One thing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    /// Visible keys.
    pub(crate) keys: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Versions and delete markers.
    pub(crate) versions: u64,
    /// Unfinished uploads.
    pub(crate) uploads: u64,
    /// What it says about whose it is.
    pub(crate) identity: Option<String>,
    /// Whether a run is writing it now.
    pub(crate) at_work: bool,
    /// Whether it is a visible backup.
    pub(crate) is_backup: bool,
    /// What must go last of it.
    pub(crate) last: Option<String>,
    folder: Folder,
}

/// Everything.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// Things in Velero's layout.
    pub(crate) units: BTreeMap<Unit, Held>,
    /// Keys, versions and uploads outside it.
    pub(crate) outside: u64,
}

impl Unit {
    /// What a key belongs to; `None` outside Velero's layout.
    pub(crate) fn of(key: &str) -> Option<Self> {
        let (top, rest) = key.split_once('/')?;
        let top = *FIRST_LEVEL.iter().find(|known| **known == top)?;
        Some(match (top, rest.split_once('/')) {
            ("backups", Some((name, _))) if !name.is_empty() => Self::Backup(name.to_owned()),
            ("restores", Some((name, _))) if !name.is_empty() => Self::Restore(name.to_owned()),
            ("backups" | "restores", _) => Self::Loose(key.to_owned()),
            ("metadata", _) => Self::Metadata(key.to_owned()),
            _ => Self::Folder(top),
        })
    }

    /// Where its keys are.
    pub(crate) fn prefix(&self) -> String {
        match self {
            Self::Backup(name) => format!("{BACKUPS}{name}/"),
            Self::Restore(name) => format!("{RESTORES}{name}/"),
            Self::Folder(top) => format!("{top}/"),
            Self::Loose(key) | Self::Metadata(key) => key.clone(),
        }
    }

    /// The thing in words.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Backup(name) => format!("backup {name}"),
            Self::Restore(name) => format!("restore {name}"),
            other => other.prefix(),
        }
    }
}

impl Census {
    /// Looks at everything.
    ///
    /// # Errors
    /// When anything cannot be listed, versions and uploads included, or not read.
    pub(crate) async fn take(bucket: &Arc<dyn Bucket>) -> Result<Self, CatalogError> {
        let mut census = Self::default();
        let mut keys = bucket.list("");
        while let Some(info) = keys.try_next().await? {
            census.add(&info);
        }
        for version in unless_unsupported(bucket.list_versions("").await)? {
            match census.held(&version.key) {
                Some(held) => held.versions += 1,
                // The visible one is counted already.
                None if version.is_latest && !version.is_delete_marker => {}
                None => census.outside += 1,
            }
        }
        for upload in unless_unsupported(bucket.list_uploads("").await)? {
            match census.held(&upload.key) {
                Some(held) => held.uploads += 1,
                None => census.outside += 1,
            }
        }
        let units = std::mem::take(&mut census.units);
        let mut read = stream::iter(units)
            .map(|(unit, held)| async move { identify(bucket, unit, held).await })
            .buffered(IN_FLIGHT);
        let mut restores = Vec::new();
        while let Some(identified) = read.next().await {
            let (unit, held, backup) = identified?;
            if let Some(backup) = backup {
                restores.push((unit.clone(), backup));
            }
            census.units.insert(unit, held);
        }
        drop(read);
        for (restore, backup) in restores {
            let of_backup = census.units.get(&Unit::Backup(backup));
            let identity = of_backup.and_then(|held| held.identity.clone());
            if let Some(held) = census.units.get_mut(&restore) {
                held.identity = identity;
            }
        }
        Ok(census)
    }

    fn held(&mut self, key: &str) -> Option<&mut Held> {
        Some(self.units.entry(Unit::of(key)?).or_default())
    }

    fn add(&mut self, info: &ObjectInfo) {
        let Some(unit) = Unit::of(&info.key) else {
            self.outside += 1;
            return;
        };
        let name = match &unit {
            Unit::Backup(name) => BackupName::parse(name).ok(),
            _ => None,
        };
        let held = self.units.entry(unit).or_default();
        held.keys += 1;
        held.bytes += info.size;
        if let Some(name) = name {
            held.folder.add(BackupKeys(&name), info);
        }
    }

    /// Every identity that something below the prefix has.
    pub(crate) fn identities(&self) -> impl Iterator<Item = &str> {
        self.units.values().filter_map(|held| held.identity.as_deref())
    }
}

/// A store that does not know the question has nothing of the kind.
fn unless_unsupported<T>(answer: Result<Vec<T>, StorageError>) -> Result<Vec<T>, CatalogError> {
    match answer {
        Ok(found) => Ok(found),
        Err(StorageError::Unsupported { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// What a thing says about itself; of a restore, its backup.
async fn identify(
    bucket: &Arc<dyn Bucket>,
    unit: Unit,
    mut held: Held,
) -> Result<(Unit, Held, Option<String>), CatalogError> {
    let mut backup = None;
    match &unit {
        Unit::Backup(name) => {
            if let Ok(name) = BackupName::parse(name) {
                of_backup(bucket, &name, &mut held).await?;
            }
        }
        Unit::Restore(name) => {
            if let Ok(name) = BackupName::parse(name) {
                let key = RestoreKeys(&name).record();
                let record: Option<RestoreRecord> = small(bucket, &key).await?;
                backup = record.map(|record| record.backup);
                held.last = Some(key);
            }
        }
        Unit::Metadata(key) if key.starts_with(RECOVERY) => {
            let ticket: Option<RecoveryTicket> = small(bucket, key).await?;
            held.identity = ticket.map(|ticket| ticket.source.cluster_uid);
        }
        _ => {}
    }
    held.identity = held.identity.filter(|identity| !identity.is_empty());
    Ok((unit, held, backup))
}

/// The marker says it, or where that is gone or damaged, the account of the run.
async fn of_backup(bucket: &Arc<dyn Bucket>, name: &BackupName, held: &mut Held) -> Result<(), CatalogError> {
    let keys = BackupKeys(name);
    held.is_backup = held.folder.marker;
    held.last = Some(if held.folder.outcome {
        keys.outcome()
    } else {
        keys.tarball()
    });
    if held.folder.marker {
        match read_marker(bucket, name).await {
            Ok(Some((backup, _))) => held.identity = Some(backup.source().cluster_uid),
            Ok(None) => {}
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
    } else {
        held.at_work = match folder::state(bucket, name, &held.folder, clock::now()).await? {
            State::Running(_) => true,
            // Velero puts its log first, then the marker: whatever else lies there without one is left over.
            State::Young => {
                held.folder.claim || (held.folder.keys == 1 && bucket.head(&keys.logs()).await?.is_some())
            }
            State::Absent | State::Complete | State::Dead(_) => false,
        };
    }
    if held.folder.outcome
        && held.identity.as_ref().is_none_or(String::is_empty)
        && let Some(file) = bucket.head(&keys.outcome()).await?
    {
        match inflate_file(bucket, &file).await {
            Ok(json) => {
                let outcome: Outcome = serde_json::from_slice(&json).unwrap_or_default();
                held.identity = Some(outcome.source.cluster_uid);
            }
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn small<T: serde::de::DeserializeOwned>(
    bucket: &Arc<dyn Bucket>,
    key: &str,
) -> Result<Option<T>, CatalogError> {
    match bucket.get(key, SMALL).await {
        Ok(found) => Ok(found.and_then(|(bytes, _)| serde_json::from_slice(&bytes).ok())),
        Err(StorageError::TooLarge { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_veleros_six_folders_are_looked_at() {
        let backup = |name: &str| Some(Unit::Backup(name.to_owned()));
        let table = [
            ("backups/b/b.tar.gz", backup("b")),
            ("backups/b/deep/er", backup("b")),
            ("backups/", Some(Unit::Loose("backups/".into()))),
            ("backups//x", Some(Unit::Loose("backups//x".into()))),
            ("restores/r/x", Some(Unit::Restore("r".into()))),
            ("kopia/shop/p0/x", Some(Unit::Folder("kopia"))),
            ("metadata/x", Some(Unit::Metadata("metadata/x".into()))),
            ("eu/backups/b/velero-backup.json", None),
            ("backups", None),
            ("loose.txt", None),
            ("", None),
        ];
        for (key, expected) in table {
            let unit = Unit::of(key);
            assert_eq!(unit, expected, "{key}");
            if let Some(unit) = unit {
                assert!(key.starts_with(&unit.prefix()), "{key}");
            }
        }
    }
}
