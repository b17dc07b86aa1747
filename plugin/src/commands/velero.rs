//! Commands that a running Velero carries out: the same requests as for engine `direct`, the same tables and exit codes.
//!
//! In come a request and the Velero that was chosen for it; out go what Velero made of it, read from the bucket where
//! that can be reached and through Velero's API elsewhere. Whoever stops waiting is told that the work goes on.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod list;
pub(crate) mod read;
pub(crate) mod restore;

use std::sync::Arc;

use backup_engine::{
    api::ApiClient,
    storage::Bucket,
    velero::{Kind, VeleroError},
};
use backup_plan::kinds::{self, DiscoveredKind};
use velero_model::{api_object::Run, results::Results};

use crate::{engine::Driven, exit::Failure, request::Place, session::Session, view};

/// Errors and warnings that a summary prints; all of them are in the files that Velero wrote.
const SHOWN: usize = 20;

/// The bucket, where it can be opened. Velero works without us having any right there.
async fn bucket(session: &Session, place: &Place) -> Result<Option<Arc<dyn Bucket>>, Failure> {
    match session.open(place).await {
        Ok(opened) => Ok(Some(opened.bucket)),
        Err(Failure::Interrupted) => Err(Failure::Interrupted),
        Err(_) => Ok(None),
    }
}

/// The kinds that words can mean.
pub(crate) async fn served(session: &Session, api: &ApiClient) -> Result<Vec<DiscoveredKind>, Failure> {
    let discovery = session.unless_interrupted(api.discover()).await?;
    Ok(kinds::choose(&discovery.kinds).taken)
}

/// Waits for a Backup or Restore; who stops waiting is told that it goes on.
async fn follow(session: &Session, driven: &Driven, kind: Kind, name: &str) -> Result<Run, Failure> {
    let watch = session.watch();
    let followed = driven
        .velero
        .follow(kind, name, &session.progress, &session.cancel)
        .await;
    watch.end().await;
    if let Err(VeleroError::Interrupted) = &followed {
        let (what, look) = match kind {
            Kind::Restore => ("restore", "restores describe"),
            _ => ("backup", "describe"),
        };
        view::say(&format!(
            "{what} {name} goes on in Velero; `kubectl backup {look} {name}` shows how it is getting on"
        ));
    }
    Ok(followed?)
}

/// Why Velero refused or failed a run, a line each.
pub(crate) fn reasons(run: &Run) -> Vec<String> {
    let status = &run.status;
    let mut reasons = status.validation_errors.clone().unwrap_or_default();
    if !status.failure_reason.is_empty() {
        reasons.push(status.failure_reason.clone());
    }
    reasons
}

/// What went wrong, first reasons, then errors and warnings, as far as they fit.
fn messages(reasons: &[String], results: &Results, more: &str) {
    for reason in reasons {
        view::say(&format!("Velero says: {reason}"));
    }
    for warning in results.warnings.iter().take(SHOWN) {
        view::warn(warning);
    }
    for error in results.errors.iter().take(SHOWN) {
        view::say(&format!("error in Velero's log: {error}"));
    }
    let hidden = results.warnings.len().saturating_sub(SHOWN) + results.errors.len().saturating_sub(SHOWN);
    if hidden > 0 {
        view::say(&format!("{hidden} more; `{more}` shows all"));
    }
}
