//! Everything of the cluster is deleted from its storage, and a listing proves it.
//!
//! A Velero of the cluster that still lives is asked first: only it deletes snapshots outside the storage. What belongs to
//! others stays and is counted. A lock is no failure of ours: what it keeps is listed with its date.

use velero_model::{
    api::storage_work::{Left, WorkPhase, WorkReceipt, reason},
    api::{SOURCE, WhenLocked},
    api_object::{BackupStorageLocation, Run},
    name::BackupName,
};

use super::{Place, Stop, Worker, account::Account, stop::words};
use crate::clusters::Workload;
use crate::{
    api::ApiClient,
    catalog::{Disposal, Ended, dispose},
    clock,
    velero::{Choice, Kind, Velero, VeleroError, Wanted, choice::choose},
};

pub(super) async fn everything(
    worker: &Worker<'_>,
    account: &mut Account<'_>,
    place: &Place,
    workload: &Workload,
) -> Result<(), Stop> {
    if place.location.read_only() {
        return Err(Stop::blocked(
            reason::LOCATION_READ_ONLY,
            format!(
                "{} is read-only; nothing can be deleted there",
                place.location.describe()
            ),
        ));
    }
    if let Some(api) = workload.api() {
        by_velero(worker, account, place, api).await?;
    }
    let source = account.report.source.clone();
    let (disposal, ended) = dispose(&place.bucket, source.as_deref(), async |so_far: &Disposal| {
        worker.still(account).await?;
        account.report.receipt = receipt(&account.before, so_far);
        account.working("the backups are being deleted").await?;
        Ok::<_, Stop>(true)
    })
    .await?;
    account.report.receipt = receipt(&account.before, &disposal);
    let where_it_is = place.location.describe();
    match ended {
        Ended::Empty => {
            account.report.receipt.empty_proven = true;
            let message = format!(
                "nothing of the cluster is left in {where_it_is}{}",
                others(&disposal)
            );
            account.end(WorkPhase::Deleted, reason::DELETED, message).await
        }
        Ended::Locked if account.order.when_locked == WhenLocked::Release => {
            let message = format!(
                "everything of the cluster in {where_it_is} is deleted but what object locks keep, which stays whole ({} locks \
                 were met){}; the cluster goes, as was chosen. The receipt lists them with their dates; nobody deletes it by itself",
                disposal.purged.locks.len(),
                others(&disposal)
            );
            account
                .end(WorkPhase::Deleted, reason::DELETED_BUT_LOCKED, message)
                .await
        }
        ended => Err(left(&ended, &where_it_is, &disposal)),
    }
}

/// The counts of this run on top of what earlier runs had done.
fn receipt(before: &WorkReceipt, disposal: &Disposal) -> WorkReceipt {
    let purged = &disposal.purged;
    let mut snapshots = before.left.snapshots.clone();
    snapshots.extend(disposal.snapshots.iter().cloned());
    WorkReceipt {
        backups: before.backups + disposal.backups,
        keys: before.keys + purged.keys,
        bytes: before.bytes + purged.bytes,
        versions: before.versions + purged.versions.saturating_sub(purged.delete_markers),
        delete_markers: before.delete_markers + purged.delete_markers,
        uploads: before.uploads + purged.uploads,
        left: Left {
            locked: purged.locks.iter().take(Left::LISTED).cloned().collect(),
            locked_total: purged.locks.len() as u64,
            foreign: disposal.foreign.clone(),
            snapshots,
        },
        empty_proven: false,
        ticket: None,
        retained_until: None,
    }
}

fn others(disposal: &Disposal) -> String {
    let keys: u64 = disposal.foreign.values().sum();
    match keys {
        0 => String::new(),
        keys => format!("; {keys} keys of others were left alone"),
    }
}

/// What stands in the way, and what to do.
fn left(ended: &Ended, place: &str, disposal: &Disposal) -> Stop {
    match ended {
        Ended::Empty | Ended::Stopped => Stop::Interrupted,
        Ended::Locked => {
            let locks = &disposal.purged.locks;
            let last = locks.iter().filter_map(|lock| lock.until).max();
            let until = last.map_or_else(
                || "the store does not say until when".to_owned(),
                |last| format!("the last of them until {}", velero_model::time::format(last)),
            );
            Stop::blocked(
                reason::OBJECT_LOCK,
                format!(
                    "object locks keep {} versions in {place}, {until}; everything else is deleted. Wait for that, choose again with --release-when-locked, choose Retain \
                     to let the cluster go now and keep them, or take the finalizer off, which whoever may decide may do",
                    locks.len()
                ),
            )
        }
        Ended::Refused {
            first,
            is_denied: true,
        } => Stop::blocked(
            reason::ACCESS_DENIED,
            format!("{first}. Give the credentials of the location the right to delete, or choose Retain"),
        ),
        Ended::Refused { first, .. } => Stop::failed(reason::UNAVAILABLE, first.clone()),
        Ended::SourceUnknown(found) => Stop::blocked(
            reason::SOURCE_UNKNOWN,
            format!(
                "it is not known which backups in {place} are the cluster's: they came from the clusters {}, and nobody has \
                 recorded which one this is. Nothing was deleted. Whoever may decide says so with annotation {SOURCE}=IDENTITY on \
                 the cluster, or chooses Retain",
                found.join(", ")
            ),
        ),
        Ended::Shared { named, total } => Stop::blocked(
            reason::SHARED_PREFIX,
            format!(
                "{place} is shared with other clusters, and for {total} things in it nobody can tell whose they are: {}. Nothing \
                 was deleted. Move what is others' away, or choose Retain",
                named.join(", ")
            ),
        ),
        Ended::AtWork(runs) => Stop::failed(
            reason::BACKUP_RUNNING,
            format!("{} in {place}: being written at this moment", runs.join(", ")),
        ),
    }
}

/// What a living Velero of the cluster has in this place is deleted by it, snapshots included.
async fn by_velero(
    worker: &Worker<'_>,
    account: &mut Account<'_>,
    place: &Place,
    api: &ApiClient,
) -> Result<(), Stop> {
    let velero = Velero::new(api.clone(), worker.velero_namespace);
    let refuse = |why: String| {
        Stop::blocked(
            reason::VELERO_FAILED,
            format!(
                "the Velero of the cluster has not deleted its backups: {why}. Look at it, or stop it (then the storage is \
                 emptied here and what lies outside stays)"
            ),
        )
    };
    let locations: Vec<BackupStorageLocation> = match velero.list(Kind::BackupStorageLocation).await {
        Ok(locations) => locations,
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(refuse(words(&error))),
    };
    let chosen = choose(
        Wanted::Place(&place.location),
        worker.velero_namespace,
        &locations,
        false,
        clock::now(),
    );
    let Choice::Velero { location, .. } = chosen else {
        return Ok(());
    };
    let backups: Vec<Run> = velero
        .list(Kind::Backup)
        .await
        .map_err(|error| refuse(words(&error)))?;
    for backup in backups {
        if !lies_in(&backup, &location.metadata.name) {
            continue;
        }
        let Ok(name) = BackupName::parse(&backup.metadata.name) else {
            continue;
        };
        worker.still(account).await?;
        account.working(&format!("Velero deletes backup {name}")).await?;
        let request = match velero.request_deletion(&name).await {
            Ok(request) => request,
            Err(VeleroError::Vanished { .. }) => continue,
            Err(error) => return Err(refuse(words(&error))),
        };
        velero
            .wait_for_deletion(&name, &request, worker.progress, worker.cancel)
            .await
            .map_err(|error| match error {
                VeleroError::Interrupted => Stop::Interrupted,
                error => refuse(words(&error)),
            })?;
        account.before.backups += 1;
    }
    Ok(())
}

/// Velero labels every Backup with its location.
fn lies_in(backup: &Run, location: &str) -> bool {
    let labels = backup.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get("velero.io/storage-location"))
        .map(String::as_str)
        == Some(location)
}
