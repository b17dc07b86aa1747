//! The last backup: taken while the cluster still lives, read back to the last byte, before anything else is done.
//!
//! Its name follows from the cluster, so that a run that was cut off finds what the one before it had made. One that is
//! incomplete or damaged stays where it is, and the next run makes another.

use std::{collections::BTreeMap, sync::Arc};

use backup_plan::{kinds, scope::Scope};
use velero_model::{
    api::storage_work::{FinalBackupReport, WorkPhase, reason, work_name},
    name::BackupName,
    phase::Phase,
};

use super::{Place, Stop, Worker, account::Account, stop::of_workload};
use crate::clusters::Workload;
use crate::{
    api::ApiClient,
    backup::{self, BackupRequest},
    catalog::{self, CatalogError, verify},
    volumes::{
        Within,
        moves::{self, OptIn},
    },
};

/// Backups that are tried under names of their own before somebody has to look.
const ATTEMPTS: u32 = 50;

/// Lists at the same time.
const LISTS_IN_FLIGHT: usize = 4;

/// Takes it, unless it was taken and verified before.
pub(super) async fn take(
    worker: &Worker<'_>,
    account: &mut Account<'_>,
    place: &Place,
    workload: &Workload,
) -> Result<(), Stop> {
    if account
        .report
        .final_backup
        .as_ref()
        .is_some_and(|taken| taken.verified)
    {
        return Ok(());
    }
    account
        .in_phase(WorkPhase::FinalBackup, "the last backup is being taken")
        .await?;
    let name = match made_before(worker, account, place).await? {
        Before::Whole(name) => return tell(account, &name, Phase::Completed).await,
        Before::Free(name) => name,
    };
    let api = match workload {
        Workload::Lives { api, .. } => api,
        Workload::Silent { reason, message } => {
            return Err(Stop::blocked(
                reason,
                format!(
                    "a last backup is asked for, and {message}. Mend that, or choose without a last backup"
                ),
            ));
        }
    };
    data_is_not_at_stake(api).await?;
    let request = BackupRequest {
        name: name.clone(),
        scope: Scope::default(),
        ttl: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::from([(
            "kubectl-backup.io/final-backup".to_owned(),
            account.order.cluster.uid.clone(),
        )]),
        schedule: None,
        lock_until: None,
        velero_namespace: worker.velero_namespace.to_owned(),
        storage_location: "default".to_owned(),
        tool_version: worker.tool_version.to_owned(),
        lists_in_flight: LISTS_IN_FLIGHT,
        // What pods opt in was looked for before.
        volumes: None,
        velero_spec: serde_json::Map::new(),
    };
    let bucket = Arc::clone(&place.bucket);
    let made = backup::create(api, bucket, &request, worker.progress, worker.cancel);
    let summary = Box::pin(made).await.map_err(Stop::of_backup)?;
    if summary.phase != Phase::Completed {
        let first = summary.errors.first().cloned().unwrap_or_default();
        account.report.final_backup = Some(FinalBackupReport {
            name: name.to_string(),
            phase: summary.phase.to_string(),
            verified: false,
        });
        return Err(Stop::blocked(
            reason::FINAL_BACKUP_FAILED,
            format!(
                "the last backup, {name}, lacks {} things: {first}. It stays where it is. Mend that, or choose without a last \
                 backup",
                summary.errors.len()
            ),
        ));
    }
    if sound(worker, place, &name).await? {
        tell(account, &name, summary.phase).await
    } else {
        Err(damaged(&name))
    }
}

/// A last backup has manifests alone: where pods opt in volumes, it would be called whole and be without their data.
async fn data_is_not_at_stake(api: &ApiClient) -> Result<(), Stop> {
    let discovery = api.discover().await.map_err(|error| of_workload(&error))?;
    let kinds = kinds::choose(&discovery.kinds).taken;
    let filter = Scope::default()
        .resolve(&kinds)
        .map_err(|error| Stop::failed(reason::FINAL_BACKUP_FAILED, error.to_string()))?;
    let wish = moves::Wish {
        opt_in: OptIn::Listed,
        hooks: None,
        policies: None,
    };
    let planned = moves::plan(api, &filter, &Within::Everywhere, wish)
        .await
        .map_err(|error| of_workload(&error))?;
    let Some(first) = planned.moves.first() else {
        return Ok(());
    };
    Err(Stop::blocked(
        reason::FINAL_BACKUP_FAILED,
        format!(
            "pods of the cluster opt in the data of {} claims, such as {}/{}, which a last backup from here does not read. Take one \
             with `kubectl backup create` in that cluster, into this location, and choose without a last backup",
            planned.moves.len(),
            first.namespace,
            first.claim
        ),
    ))
}

/// What earlier runs have left.
enum Before {
    /// A last backup, read back now.
    Whole(BackupName),
    /// None that is whole; this name is the first that is free.
    Free(BackupName),
}

/// Looks for what earlier runs have made.
async fn made_before(worker: &Worker<'_>, account: &Account<'_>, place: &Place) -> Result<Before, Stop> {
    let stem = work_name(&account.order.cluster.uid).replacen("storage", "final", 1);
    for attempt in 1..=ATTEMPTS {
        let text = match attempt {
            1 => stem.clone(),
            more => format!("{stem}-{more}"),
        };
        let Ok(name) = BackupName::parse(&text) else {
            continue;
        };
        match catalog::open(&place.bucket, &name).await {
            Ok(open) if open.backup().status.phase == Phase::Completed => {
                if sound(worker, place, &name).await? {
                    return Ok(Before::Whole(name));
                }
            }
            Ok(_) => {}
            Err(CatalogError::NotFound { .. }) => return Ok(Before::Free(name)),
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Stop::blocked(
        reason::FINAL_BACKUP_FAILED,
        format!(
            "{ATTEMPTS} last backups of the name {stem} are there and none is whole; delete them, or choose without one"
        ),
    ))
}

async fn sound(worker: &Worker<'_>, place: &Place, name: &BackupName) -> Result<bool, Stop> {
    let open = match catalog::open(&place.bucket, name).await {
        Err(error) if error.is_damage() => return Ok(false),
        other => other?,
    };
    let report = verify(&open, worker.progress, worker.cancel).await?;
    Ok(report.is_sound())
}

fn damaged(name: &BackupName) -> Stop {
    Stop::failed(
        reason::FINAL_BACKUP_FAILED,
        format!(
            "the last backup, {name}, was not read back as it was written; `kubectl backup verify {name}` says what is wrong"
        ),
    )
}

async fn tell(account: &mut Account<'_>, name: &BackupName, phase: Phase) -> Result<(), Stop> {
    account.report.final_backup = Some(FinalBackupReport {
        name: name.to_string(),
        phase: phase.to_string(),
        verified: true,
    });
    // At once: what was verified is not taken again.
    account
        .in_phase(WorkPhase::Working, "the last backup is taken and was read back")
        .await
}
