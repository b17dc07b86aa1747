//! What can be known before anything is submitted.
//!
//! Velero reports most mistakes minutes later as `FailedValidation`, and some never. Here they are found first: a location
//! that takes no writes, a name that is taken by an object or in the storage, namespaces that do not exist, a backup that
//! Velero has not found yet or that lies elsewhere. Each function asks and gives an error that names object and next step.

use std::{sync::Arc, time::Duration};

use backup_plan::{glob::has_wildcard, scope::Scope};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use velero_model::{
    api_object::{BackupStorageLocation, Run},
    backup::Backup,
    duration::GoDuration,
    name::BackupName,
    source::VELERO_SCHEDULE,
};

use super::{Kind, Velero, VeleroError};
use crate::{
    api::ApiError,
    catalog::{self, CatalogError},
    progress::Progress,
    storage::Bucket,
};

/// How often Velero looks for backups of others, unless a location says otherwise.
const DEFAULT_SYNC: Duration = Duration::from_mins(1);

/// Time beyond two of those periods: Velero does one thing after another.
const SYNC_SLACK: Duration = Duration::from_secs(20);

/// Between two looks for a Backup object.
const POLL: Duration = Duration::from_secs(1);

/// A location that Velero can write to now.
///
/// # Errors
/// [`VeleroError::Location`].
pub fn writable(velero: &Velero, location: &BackupStorageLocation) -> Result<(), VeleroError> {
    let refuse = |problem: String, next| {
        Err(VeleroError::Location {
            location: format!("{}/{}", velero.namespace(), location.metadata.name),
            problem,
            next,
        })
    };
    if location.is_read_only() {
        return refuse(
            "is read-only".to_owned(),
            "choose another location, or set its accessMode to ReadWrite",
        );
    }
    if !location.is_available() {
        let status = &location.status;
        return refuse(
            format!("is not Available ({} {})", status.phase, status.message),
            "look at `kubectl describe backupstoragelocation`, or choose another location",
        );
    }
    Ok(())
}

/// A name that no backup has, neither as an object nor in the storage. Where the storage cannot be looked at, Velero does
/// that itself before it writes.
///
/// # Errors
/// [`VeleroError::Exists`], [`VeleroError::ExistsInStorage`].
pub async fn name_is_free(
    velero: &Velero,
    bucket: Option<&Arc<dyn Bucket>>,
    name: &BackupName,
) -> Result<(), VeleroError> {
    not_there(velero, Kind::Backup, name).await?;
    let Some(bucket) = bucket else {
        return Ok(());
    };
    let state = match catalog::open(bucket, name).await {
        Ok(_) => "exists already",
        Err(CatalogError::Running { .. }) => "is being written by another run",
        Err(CatalogError::NotFound { .. } | CatalogError::Storage(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    Err(VeleroError::ExistsInStorage {
        name: name.to_string(),
        state,
        location: bucket.describe(),
    })
}

/// A name that no object of the kind has.
///
/// # Errors
/// [`VeleroError::Exists`].
pub async fn not_there(velero: &Velero, kind: Kind, name: &BackupName) -> Result<(), VeleroError> {
    match velero.run(kind, name.as_str()).await? {
        None => Ok(()),
        Some(found) => Err(VeleroError::Exists {
            what: velero.what(kind, name.as_str()),
            phase: found.status.phase_word().to_owned(),
        }),
    }
}

/// The namespaces that a scope names exist: Velero fails over one that does not.
///
/// # Errors
/// [`VeleroError::NoSuchNamespace`].
pub async fn namespaces_exist(velero: &Velero, scope: &Scope) -> Result<(), VeleroError> {
    let mut missing = Vec::new();
    for name in scope
        .included_namespaces
        .iter()
        .filter(|name| !has_wildcard(name))
    {
        match velero.api().get(&format!("/api/v1/namespaces/{name}")).await {
            Ok(Some(_)) => {}
            Ok(None) => missing.push(name.clone()),
            // Velero may look where we may not.
            Err(error) if error.is_forbidden() => {}
            Err(error) => return Err(error.into()),
        }
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(VeleroError::NoSuchNamespace { names: missing })
    }
}

/// The Backup object of a backup in `location`. One that is in the storage only is waited for: Velero finds it with its
/// next sync.
///
/// # Errors
/// [`VeleroError::NoSuchBackup`], [`VeleroError::NotSynced`], [`VeleroError::OtherLocation`].
pub async fn backup_object(
    velero: &Velero,
    location: &BackupStorageLocation,
    bucket: Option<&Arc<dyn Bucket>>,
    name: &BackupName,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<Backup, VeleroError> {
    let begun = Instant::now();
    let patience = patience(location);
    let mut is_there = None;
    loop {
        if let Some(backup) = found(velero, location, name).await? {
            return Ok(backup);
        }
        if is_there.is_none() {
            is_there = Some(in_storage(bucket, name).await?);
            if is_there == Some(Some(false)) {
                return Err(VeleroError::NoSuchBackup {
                    name: name.to_string(),
                    namespace: velero.namespace().to_owned(),
                    location: location.metadata.name.clone(),
                });
            }
            if !patience.is_zero() {
                let most = patience.as_secs();
                progress.note(format!(
                    "waiting for Velero to find backup {name} in the bucket, {most} s at most"
                ));
            }
        }
        if begun.elapsed() >= patience {
            return Err(VeleroError::NotSynced {
                name: name.to_string(),
                location: format!("{}/{}", velero.namespace(), location.metadata.name),
                waited: patience,
                is_there: is_there.flatten() == Some(true),
            });
        }
        progress.set_step("waiting for Velero to find the backup");
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = cancel.cancelled() => return Err(VeleroError::Interrupted),
        }
    }
}

/// How long a backup of somebody else's may take to be found.
fn patience(location: &BackupStorageLocation) -> Duration {
    match location.spec.backup_sync_period {
        Some(GoDuration(period)) if period.is_zero() => Duration::ZERO,
        // A shorter period changes little: Velero thinks of it once a minute.
        Some(GoDuration(period)) => period.max(DEFAULT_SYNC).saturating_mul(2) + SYNC_SLACK,
        None => DEFAULT_SYNC * 2 + SYNC_SLACK,
    }
}

async fn found(
    velero: &Velero,
    location: &BackupStorageLocation,
    name: &BackupName,
) -> Result<Option<Backup>, VeleroError> {
    let Some(backup) = velero.get::<Backup>(Kind::Backup, name.as_str()).await? else {
        return Ok(None);
    };
    match &backup.spec.storage_location {
        Some(actual) if *actual != location.metadata.name => Err(VeleroError::OtherLocation {
            name: name.to_string(),
            namespace: velero.namespace().to_owned(),
            actual: actual.clone(),
            asked: location.metadata.name.clone(),
        }),
        _ => Ok(Some(backup)),
    }
}

/// Whether the backup is stored; `None` when that cannot be looked at.
async fn in_storage(
    bucket: Option<&Arc<dyn Bucket>>,
    name: &BackupName,
) -> Result<Option<bool>, VeleroError> {
    let Some(bucket) = bucket else {
        return Ok(None);
    };
    match catalog::open(bucket, name).await {
        Ok(_) => Ok(Some(true)),
        Err(CatalogError::NotFound { .. }) => Ok(Some(false)),
        Err(CatalogError::Storage(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The newest restorable Backup of a schedule in a location.
///
/// # Errors
/// [`VeleroError::NoBackupOfSchedule`].
pub async fn newest_of_schedule(
    velero: &Velero,
    location: &BackupStorageLocation,
    schedule: &str,
) -> Result<BackupName, VeleroError> {
    let backups: Vec<Backup> = velero.list(Kind::Backup).await?;
    let newest = backups
        .into_iter()
        .filter(|backup| {
            let here = backup.spec.storage_location.as_deref() == Some(location.metadata.name.as_str());
            let of_schedule = backup
                .source()
                .schedule
                .as_deref()
                .or(backup.label(VELERO_SCHEDULE))
                == Some(schedule);
            here && of_schedule && backup.status.phase.is_restorable()
        })
        .max_by_key(Backup::created)
        .and_then(|backup| BackupName::parse(&backup.metadata.name).ok());
    newest.ok_or_else(|| VeleroError::NoBackupOfSchedule {
        schedule: schedule.to_owned(),
        namespace: velero.namespace().to_owned(),
    })
}

/// A ConfigMap beside Velero's objects: a Restore that names a missing one only fails later.
///
/// # Errors
/// [`VeleroError::NoConfigMap`].
pub async fn config_map_exists(velero: &Velero, name: &str) -> Result<(), VeleroError> {
    let path = format!("/api/v1/namespaces/{}/configmaps/{name}", velero.namespace());
    match velero.api().get(&path).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(VeleroError::NoConfigMap {
            name: name.to_owned(),
            namespace: velero.namespace().to_owned(),
        }),
        Err(error) if error.is_forbidden() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// An answer after which asking again makes sense.
pub(super) fn is_passing(error: &ApiError) -> bool {
    match error {
        ApiError::Unreachable { .. } | ApiError::Cut { .. } | ApiError::Timeout { .. } => true,
        error => matches!(error.code(), Some(429 | 500..=599)),
    }
}

/// Runs that Velero is at work on are left alone.
///
/// # Errors
/// [`VeleroError::UnderWay`].
pub(super) fn at_rest(velero: &Velero, kind: Kind, run: &Run) -> Result<(), VeleroError> {
    if run.status.is_under_way() {
        return Err(VeleroError::UnderWay {
            what: velero.what(kind, &run.metadata.name),
            phase: run.status.phase_word().to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_is_waited_for_as_long_as_it_may_take() {
        let with = |period: Option<&str>| {
            let mut location = BackupStorageLocation::default();
            location.spec.backup_sync_period = period.map(|text| GoDuration::parse(text).unwrap());
            patience(&location).as_secs()
        };
        assert_eq!(with(None), 140);
        assert_eq!(with(Some("1s")), 140);
        assert_eq!(with(Some("5m")), 620);
        assert_eq!(with(Some("0s")), 0);
    }
}
