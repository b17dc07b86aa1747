//! Deleting everything of one cluster below its prefix, and proving it by a listing.
//!
//! In comes a bucket whose prefix is the cluster's, and its identity; out goes what was removed and how it ended. Whose
//! is what is decided by the rules of [`backup_plan::ownership`]; where they cannot tell, nothing at all is deleted. What an
//! object lock keeps is left whole, so that it can still be kept instead. Nothing needs to be remembered between two runs:
//! each begins with a new listing, and the last thing that goes of a backup is what says whose it was.

use std::{collections::BTreeMap, sync::Arc};

use backup_plan::ownership::{Owner, Ownership};
use velero_model::{layout::BackupKeys, name::BackupName};

use super::{
    census::{Census, Held, Unit},
    error::CatalogError,
    purge::{Purged, clear},
    volume_data,
};
use crate::storage::{Bucket, StorageError};

/// Rounds in which something new may come to light before it is left to the next run.
const ROUNDS: u32 = 3;

/// Things that are named in a refusal.
const NAMED: usize = 5;

/// What was done so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disposal {
    /// Backups that are gone.
    pub backups: u64,
    /// Keys, versions and uploads, and what was refused in the last round.
    pub purged: Purged,
    /// Snapshots outside the storage that backups spoke of, as phrases.
    pub snapshots: Vec<String>,
    /// Keys of others, by identity; the empty one for what lies outside the layout.
    pub foreign: BTreeMap<String, u64>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// A listing held nothing of the cluster.
    Empty,
    /// Object locks keep something; nothing else is left.
    Locked,
    /// Something was refused; a right is missing where `is_denied`.
    Refused {
        /// The first refusal.
        first: String,
        /// Whether a right is missing.
        is_denied: bool,
    },
    /// The identity of the cluster is not known, and there are backups that have one. Nothing was deleted.
    SourceUnknown(Vec<String>),
    /// The prefix is shared and for these things nobody can tell whose they are. Nothing was deleted.
    Shared {
        /// The first of them.
        named: Vec<String>,
        /// How many there are.
        total: u64,
    },
    /// Somebody is writing these now. Nothing was deleted.
    AtWork(Vec<String>),
    /// The caller wanted no more.
    Stopped,
}

/// What is below a prefix, as far as deletion or keeping needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Belongings {
    /// Names of the cluster's own visible backups.
    pub backups: Vec<BackupName>,
    /// The cluster's keys.
    pub keys: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Keys of others.
    pub foreign: BTreeMap<String, u64>,
    /// Whether there are volume repositories of the cluster.
    pub has_repositories: bool,
}

/// Looks at what belongs to the cluster.
///
/// # Errors
/// When the location cannot be listed or read.
pub async fn belongings(
    bucket: &Arc<dyn Bucket>,
    own: Option<&str>,
) -> Result<Result<Belongings, Ended>, CatalogError> {
    let census = Census::take(bucket).await?;
    let at_work = at_work(&census);
    if !at_work.is_empty() {
        return Ok(Err(Ended::AtWork(at_work)));
    }
    let sorted = match sort(&census, own) {
        Ok(sorted) => sorted,
        Err(ended) => return Ok(Err(ended)),
    };
    Ok(Ok(Belongings {
        backups: sorted
            .ours
            .iter()
            .filter_map(|(unit, held)| match unit {
                Unit::Backup(name) if held.is_backup => BackupName::parse(name).ok(),
                _ => None,
            })
            .collect(),
        keys: sorted.ours.iter().map(|(_, held)| held.keys).sum(),
        bytes: sorted.ours.iter().map(|(_, held)| held.bytes).sum(),
        has_repositories: sorted
            .ours
            .iter()
            .any(|(unit, held)| matches!(unit, Unit::Folder("kopia" | "restic")) && held.keys > 0),
        foreign: sorted.foreign,
    }))
}

/// Deletes everything of the cluster. `go_on` is asked before each thing, with what was done so far.
///
/// # Errors
/// When the location is read-only, cannot be listed or read; what `go_on` fails with. Refused deletions are no error.
pub async fn dispose<E: From<CatalogError>>(
    bucket: &Arc<dyn Bucket>,
    own: Option<&str>,
    mut go_on: impl AsyncFnMut(&Disposal) -> Result<bool, E>,
) -> Result<(Disposal, Ended), E> {
    let mut disposal = Disposal::default();
    let mut round = 0;
    loop {
        let census = Census::take(bucket).await?;
        let at_work = at_work(&census);
        let sorted = match sort(&census, own) {
            Ok(sorted) => sorted,
            Err(ended) => return Ok((disposal, ended)),
        };
        disposal.foreign = sorted.foreign;
        if !at_work.is_empty() {
            return Ok((disposal, Ended::AtWork(at_work)));
        }
        if sorted.unknown > 0 {
            let ended = Ended::Shared {
                named: sorted.named,
                total: sorted.unknown,
            };
            return Ok((disposal, ended));
        }
        if sorted.ours.is_empty() {
            return Ok((disposal, Ended::Empty));
        }
        if round == ROUNDS || !disposal.purged.is_complete() {
            let ended = refused(&disposal.purged);
            return Ok((disposal, ended));
        }
        for (unit, held) in sorted.ours {
            // What backups need is not taken away below one that stays.
            let is_needed = matches!(unit, Unit::Folder(_) | Unit::Metadata(_));
            if is_needed && !disposal.purged.is_complete() {
                continue;
            }
            if !go_on(&disposal).await? {
                return Ok((disposal, Ended::Stopped));
            }
            remove(bucket, unit, held, &mut disposal).await?;
        }
        round += 1;
    }
}

fn refused(purged: &Purged) -> Ended {
    match purged.failures.first() {
        Some(first) => Ended::Refused {
            first: first.clone(),
            is_denied: purged.is_denied,
        },
        None if !purged.locked.is_empty() => Ended::Locked,
        None => Ended::Refused {
            first: "something new is written all the time".to_owned(),
            is_denied: false,
        },
    }
}

async fn remove(
    bucket: &Arc<dyn Bucket>,
    unit: &Unit,
    held: &Held,
    disposal: &mut Disposal,
) -> Result<(), CatalogError> {
    let prefix = unit.prefix();
    let mut last = held.last.clone();
    if let Unit::Backup(name) = unit
        && let Ok(name) = BackupName::parse(name)
        && held.is_backup
    {
        let files = bucket.list_all(&prefix).await?;
        // What lies in a repository below the prefix goes with that.
        let snapshots = volume_data::veleros(bucket, &name, &files).await?;
        let snapshots = snapshots
            .into_iter()
            .filter(|phrase| !phrase.contains("repository"));
        if !remove_marker(bucket, &name, &mut disposal.purged).await? {
            return Ok(());
        }
        disposal.backups += 1;
        disposal.purged.keys += 1;
        let marker = BackupKeys(&name).marker();
        disposal.purged.bytes += files
            .iter()
            .filter(|file| file.key == marker)
            .map(|file| file.size)
            .sum::<u64>();
        disposal
            .snapshots
            .extend(snapshots.map(|phrase| format!("{phrase} (backup {name})")));
    }
    let is_exact = matches!(unit, Unit::Loose(_) | Unit::Metadata(_));
    if is_exact {
        // Hidden, it would not say any more whose it is.
        last = Some(prefix.clone());
    }
    let belongs = |key: &str| !is_exact || key == prefix;
    let purged = clear(bucket, &prefix, &belongs, last.as_deref()).await?;
    disposal.purged.append(purged);
    Ok(())
}

/// Removes what makes a backup visible, all versions of it. One that a lock keeps is left as it is; `false` then, and
/// when it was refused.
async fn remove_marker(
    bucket: &Arc<dyn Bucket>,
    name: &BackupName,
    purged: &mut Purged,
) -> Result<bool, CatalogError> {
    let marker = BackupKeys(name).marker();
    let versions = match bucket.list_versions(&marker).await {
        Ok(versions) => versions,
        Err(StorageError::Unsupported { .. }) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let current = versions
        .iter()
        .find(|version| version.is_latest && version.key == marker && !version.is_delete_marker);
    let removed = match current {
        Some(current) => bucket.delete_version(&marker, &current.version).await,
        None => Ok(()),
    };
    let removed = match removed {
        // A version that lies below the one that is gone now must not come to light.
        Ok(()) => bucket.delete(&marker).await,
        Err(error) => Err(error),
    };
    match removed {
        Ok(()) => {
            // A bucket that keeps no versions calls the only one `null`.
            purged.versions += u64::from(current.is_some_and(|current| current.version != "null"));
            Ok(true)
        }
        Err(error) => {
            purged.refuse(&error);
            Ok(false)
        }
    }
}

fn at_work(census: &Census) -> Vec<String> {
    let busy = census.units.iter().filter(|(_, held)| held.at_work);
    busy.map(|(unit, _)| unit.words()).collect()
}

struct Sorted<'a> {
    ours: Vec<(&'a Unit, &'a Held)>,
    foreign: BTreeMap<String, u64>,
    named: Vec<String>,
    unknown: u64,
}

fn sort<'a>(census: &'a Census, own: Option<&str>) -> Result<Sorted<'a>, Ended> {
    let ownership = Ownership::judge(own, census.identities())
        .map_err(|unknown| Ended::SourceUnknown(unknown.found.into_iter().collect()))?;
    let mut sorted = Sorted {
        ours: Vec::new(),
        foreign: BTreeMap::new(),
        named: Vec::new(),
        unknown: 0,
    };
    if census.outside > 0 {
        sorted.foreign.insert(String::new(), census.outside);
    }
    for (unit, held) in &census.units {
        match ownership.of(held.identity.as_deref()) {
            Owner::Ours => sorted.ours.push((unit, held)),
            Owner::Foreign(identity) => {
                *sorted.foreign.entry(identity).or_default() += held.keys.max(1);
            }
            Owner::Unknown => {
                sorted.unknown += 1;
                if sorted.named.len() < NAMED {
                    sorted.named.push(unit.words());
                }
            }
        }
    }
    Ok(sorted)
}

#[cfg(test)]
mod tests;
