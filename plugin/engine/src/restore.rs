//! From a stored backup back into a cluster.
//!
//! In come an opened backup and a [`RestoreRequest`]; out goes a [`RestoreSummary`], from which the table, the record, the
//! phase and the exit code are made. What is written, in which order and in which form is decided by
//! [`backup_plan::restore`]; here it is carried out: waves one after another, writes inside a wave in parallel, every
//! object reported once. [`plan`] is the same run with every write a dry run, and gives a [`RestorePlan`] out. Later code may rely on: an object that exists is never overwritten unless that was asked for, a
//! write whose answer was lost is looked up before it is repeated, no owner reference with a dead UID is ever written, and
//! memory holds one window of objects whatever the size of the backup.

mod apply;
mod checks;
mod create;
mod data;
mod definitions;
mod early;
mod error;
mod existing;
mod form;
mod hooks;
mod namespaces;
mod notes;
mod owners;
mod patience;
mod pending;
mod plan;
mod record;
mod report;
mod request;
mod run;
mod selection;
mod served;
mod volumes;
mod window;
mod writes;

use std::sync::Arc;

use backup_plan::compare::Secrets;
use tokio_util::sync::CancellationToken;
use velero_model::time;

pub use data::VolumeData;
pub use error::RestoreError;
pub use plan::{PlannedKind, RestorePlan};
pub use record::default_records_folder;
pub use report::{Difference, Failure, RestoreSummary};
pub use request::{ObjectRef, RestoreRequest};

use crate::{api::ApiClient, catalog::OpenBackup, progress::Progress, storage::Bucket};
use plan::Planner;
use record::Records;
use run::Run;
use selection::Selection;

/// Restores a backup, or a part of it, into the cluster behind `api`.
///
/// # Errors
/// [`RestoreError`] when nothing was begun (the request makes no sense, the name is taken, the cluster or the backup cannot
/// be read) or the run was broken off (interrupted, the API server gone); in the second case the record tells how far it
/// came. Objects that the server refused are no error here, they stand in the summary.
pub async fn run(
    api: &ApiClient,
    bucket: &Arc<dyn Bucket>,
    backup: &OpenBackup,
    request: &RestoreRequest,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<RestoreSummary, RestoreError> {
    request.check()?;
    progress.set_step("reading the backup's index");
    let objects = Arc::new(backup.objects(progress, cancel).await?);
    let discovery = api.discover().await?;
    let identity = api.identity().await?;
    let selection = Selection::make(&objects, backup.name(), request, &discovery, cancel).await?;
    let mut run = Run::new(
        api,
        objects,
        backup.name(),
        request,
        &discovery,
        selection,
        None,
        Secrets::Masked,
        progress,
        cancel,
    )?;
    run.say_what_the_backup_lacks(backup).await?;
    let begun = record::begun(backup.name(), backup.backup().created(), request, &identity);
    let (records, record) = Records::begin(bucket, request, begun).await?;
    run.resumes = record.started.filter(|_| records.resumes()).map(time::format);
    let run = Arc::new(run);
    run.say_where_records_are(&records);
    let ended = tokio::select! {
        ended = Box::pin(run.execute()) => ended,
        error = records.taken_over() => {
            run.stop.cancel();
            Err(error)
        }
    };
    Box::pin(run.finish(records, record, ended)).await
}

/// Decides about a restore without writing anything: neither to the cluster, where every write is a dry run, nor to the
/// backup's location. The very same run as that of [`run`] walks the same waves.
///
/// # Errors
/// As [`run`]; what the server refuses stands in the plan.
pub async fn plan(
    api: &ApiClient,
    backup: &OpenBackup,
    request: &RestoreRequest,
    secrets: Secrets,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<RestorePlan, RestoreError> {
    request.check()?;
    progress.set_step("reading the backup's index");
    let objects = Arc::new(backup.objects(progress, cancel).await?);
    let discovery = api.discover().await?;
    let identity = api.identity().await?;
    let selection = Selection::make(&objects, backup.name(), request, &discovery, cancel).await?;
    let planner = Planner::new().map_err(RestoreError::Temporary)?;
    let run = Run::new(
        api,
        objects,
        backup.name(),
        request,
        &discovery,
        selection,
        Some(planner),
        secrets,
        progress,
        cancel,
    )?;
    let run = Arc::new(run);
    run.say_what_the_backup_lacks(backup).await?;
    Box::pin(run.execute()).await?;
    run.finish_plan(backup.name(), identity)
}
