//! Backing up: from what was asked for to a backup that is visible all at once, or not at all.
//!
//! `inventory -> collect -> follow -> publish`: look at the cluster, list everything in scope into the archive, fetch
//! what the objects need, put the files that describe it, the marker last. The claim is held all the way. In memory are
//! a page a list, the members being filled, and the parts in flight; everything that grows with the cluster is spooled.

mod claim;
mod collect;
pub(crate) mod describe;
mod follow;
mod hooks;
mod inventory;
mod pack;
pub(crate) mod publish;
mod volumes;

use std::{collections::BTreeMap, sync::Arc};

use backup_plan::scope::{Scope, ScopeError};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use velero_model::{
    claim::Claim, duration::GoDuration, index::IndexError, layout::BackupKeys, name::BackupName,
    outcome::Outcome, phase::Phase, source::Source, time,
};

pub use self::volumes::Volumes;
use self::{
    collect::{Collector, Findings, Sink, Stopped},
    inventory::Inventory,
    pack::{PackError, Written},
    publish::{Account, Publisher},
};
use crate::{
    api::{ApiClient, ApiError},
    claim::new_claim,
    clock,
    progress::Progress,
    storage::{Bucket, Put, StorageError},
};

/// What to back up, and how. Everything in it was checked.
#[derive(Debug, Clone)]
pub struct BackupRequest {
    /// Name of the backup.
    pub name: BackupName,
    /// What is in it.
    pub scope: Scope,
    /// How long it is kept; for ever if not given.
    pub ttl: Option<GoDuration>,
    /// Labels of the Backup object.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the Backup object.
    pub annotations: BTreeMap<String, String>,
    /// Schedule that it belongs to.
    pub schedule: Option<String>,
    /// Object lock on every file until then.
    pub lock_until: Option<Timestamp>,
    /// Namespace of the Velero that may read it.
    pub velero_namespace: String,
    /// Name of the location, as it goes into the Backup object.
    pub storage_location: String,
    /// Version of the tool.
    pub tool_version: String,
    /// Lists at the same time.
    pub lists_in_flight: usize,
    /// Volumes whose data is stored too; none where only manifests are.
    pub volumes: Option<Volumes>,
    /// More fields of `spec`, for Velero alone.
    pub velero_spec: Map<String, Value>,
}

/// What a backup came to: the one source of table, JSON, phase and exit code.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Name of the backup.
    pub name: BackupName,
    /// Completed or PartiallyFailed.
    pub phase: Phase,
    /// Where it lies.
    pub location: String,
    /// The full account.
    pub outcome: Outcome,
    /// Objects in it.
    pub objects: u64,
    /// Bytes of all its files.
    pub stored_bytes: u64,
    /// Begin.
    pub started: Timestamp,
    /// End.
    pub completed: Timestamp,
    /// When it expires.
    pub expiration: Option<Timestamp>,
    /// What is missing, and why.
    pub errors: Vec<String>,
    /// What else a reader should know.
    pub warnings: Vec<String>,
}

/// What a backup would hold.
#[derive(Debug, Clone)]
pub struct Preview {
    /// The account that it would have.
    pub outcome: Outcome,
    /// Objects by namespace (empty: cluster-scoped) and resource.
    pub by_namespace: BTreeMap<String, BTreeMap<String, u64>>,
}

/// Why there is no backup. Nothing of it is visible then.
#[derive(Debug, Error)]
pub enum BackupError {
    /// The name is taken.
    #[error("a backup `{name}` exists in {location} already; choose another name, or delete it first")]
    Exists {
        /// The name.
        name: BackupName,
        /// The location.
        location: String,
    },
    /// Another run is writing it.
    #[error("{}", claimed_by(.name, .holder.as_deref()))]
    Claimed {
        /// The name.
        name: BackupName,
        /// Who is writing it.
        holder: Option<Box<Claim>>,
    },
    /// Another run took the claim over.
    #[error(
        "the claim on `{name}` was taken over by another run, because this one gave no sign of life for too long"
    )]
    ClaimLost {
        /// The name.
        name: BackupName,
    },
    /// A file is there that nobody may have put.
    #[error(
        "{key} is there already although no backup owns it; run `kubectl backup location check --repair`"
    )]
    InTheWay {
        /// The key.
        key: String,
    },
    /// Namespaces that do not exist.
    #[error("there is no namespace {}; see `kubectl get namespaces`", .names.join(", "))]
    NoSuchNamespace {
        /// The names.
        names: Vec<String>,
    },
    /// Nothing matched.
    #[error(
        "nothing in the cluster matches what was asked for; `--dry-run` shows which rule leaves what out"
    )]
    NothingToBackUp,
    /// Nothing could be read.
    #[error("nothing of what was asked for may be read by this user, so there is no backup: {}", .reasons.join("; "))]
    NothingReadable {
        /// Why, per kind.
        reasons: Vec<String>,
    },
    /// The user stopped it.
    #[error("interrupted; nothing of the backup is left in the location")]
    Interrupted,
    /// The scope does not fit the cluster.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// The API server.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The location.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The temporary folder.
    #[error("the temporary folder cannot be used; see TMPDIR")]
    Spool(#[source] std::io::Error),
    /// Objects under one name twice.
    #[error("the index cannot be written")]
    Index(#[source] IndexError),
    /// Never in practice.
    #[error("a document cannot be written")]
    Document(#[source] serde_json::Error),
}

impl From<PackError> for BackupError {
    fn from(error: PackError) -> Self {
        match error {
            PackError::Storage(error) => Self::Storage(error),
            PackError::Spool(error) => Self::Spool(error),
        }
    }
}

fn claimed_by(name: &BackupName, holder: Option<&Claim>) -> String {
    match holder {
        Some(holder) => format!(
            "a backup `{name}` is being written by host {} (run {}, last sign of life {}); choose another name, or \
             wait: a run that is dead is cleaned up after two minutes",
            holder.host,
            holder.run_id,
            time::format(holder.heartbeat)
        ),
        None => {
            format!("a backup `{name}` is being written by another run at this moment; choose another name")
        }
    }
}

/// Lists what a backup would hold. Nothing is stored. Touches the API server.
///
/// # Errors
/// [`BackupError`] as for [`create`].
pub async fn preview(
    api: &ApiClient,
    request: &BackupRequest,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<Preview, BackupError> {
    let started = clock::now();
    let inventory = inventory::take(api, &request.scope).await?;
    let collector = collector(api, request, &inventory, progress, cancel, true);
    let sinks = (0..request.lists_in_flight.max(1)).map(|_| Sink::Count).collect();
    let (findings, reasons) = gather(&collector, &inventory, sinks)
        .await
        .map_err(|_| BackupError::Interrupted)?;
    let by_namespace = findings.by_namespace.clone();
    let source = source(request, &inventory, "");
    let outcome = describe::outcome(inventory, findings, reasons, source, started, clock::now());
    Ok(Preview {
        outcome,
        by_namespace,
    })
}

/// Makes a backup. Touches the API server and the location.
///
/// # Errors
/// [`BackupError`] when there is none; what was put is removed again. Objects or kinds that could not be stored are no
/// error but make the summary's phase `PartiallyFailed`.
pub async fn create(
    api: &ApiClient,
    bucket: Arc<dyn Bucket>,
    request: &BackupRequest,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<Summary, BackupError> {
    let started = time::to_seconds(clock::now());
    progress.set_step("looking at the cluster");
    let mut inventory = inventory::take(api, &request.scope).await?;
    let claim = new_claim();
    let run_id = claim.run_id.clone();
    let claim::Taken { held, is_exclusive } = claim::take(&bucket, &request.name, claim).await?;
    if !is_exclusive {
        inventory.warnings.push(
            "the location does not honour conditional writes: nothing keeps two runs apart that use one name at the same \
             moment"
                .into(),
        );
    }
    let stop = either(cancel, held.lost());
    match write(
        api, &bucket, request, inventory, &run_id, started, progress, &stop,
    )
    .await
    {
        Ok(summary) => {
            if let Err(error) = held.release(&bucket).await {
                progress.note(format!(
                    "the claim could not be removed and becomes stale by itself: {error}"
                ));
            }
            Ok(summary)
        }
        Err(error) => {
            let lost = held.is_lost();
            if let Err(left) = claim::undo(&bucket, &request.name, held).await {
                progress.note(format!(
                    "files of the unfinished backup are left behind (none is visible); `kubectl backup location check \
                     --repair` removes them: {left}"
                ));
            }
            Err(if lost {
                BackupError::ClaimLost {
                    name: request.name.clone(),
                }
            } else {
                error
            })
        }
    }
}

#[allow(clippy::too_many_arguments)] // The parts of one journey; a struct would only rename them.
async fn write(
    api: &ApiClient,
    bucket: &Arc<dyn Bucket>,
    request: &BackupRequest,
    inventory: Inventory,
    run_id: &str,
    started: Timestamp,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<Summary, BackupError> {
    let moved = match &request.volumes {
        Some(volumes) => {
            let stage = volumes::Stage {
                api,
                bucket,
                backup: request.name.as_str(),
                velero_namespace: &request.velero_namespace,
                storage_location: &request.storage_location,
                progress,
                cancel,
            };
            volumes::run(&stage, volumes).await
        }
        None => volumes::Moved::default(),
    };
    if cancel.is_cancelled() {
        return Err(BackupError::Interrupted);
    }
    let keys = BackupKeys(&request.name);
    let put = Put::if_absent().locked_until(request.lock_until).deferred();
    let upload = bucket.upload(&keys.tarball(), put.clone()).await?;
    let modified = u64::try_from(started.as_second()).unwrap_or_default();
    let (archive, writer) = pack::archive(modified, upload, Arc::clone(progress));
    let collector = collector(api, request, &inventory, progress, cancel, false);
    let sinks = (0..request.lists_in_flight.max(1))
        .map(|_| Sink::Archive(archive.packer()))
        .collect();
    drop(archive);
    let gathered = gather(&collector, &inventory, sinks).await;
    let (findings, reasons) = match gathered {
        Ok(gathered) => gathered,
        Err(Stopped::Cancelled) => {
            writer.abort();
            return Err(BackupError::Interrupted);
        }
        // The writer ended first and knows why.
        Err(Stopped::Archive) => {
            joined(writer.await)?;
            return Err(BackupError::Spool(std::io::Error::other(
                "a worker stopped unexpectedly",
            )));
        }
    };
    let written = joined(writer.await)?;
    if written.spool.is_empty() {
        return Err(describe::nothing(&findings));
    }
    progress.set_step("writing the index");
    let completed = time::to_seconds(clock::now());
    let kinds = findings
        .kinds
        .iter()
        .map(|outcome| outcome.kind.clone())
        .collect();
    let source = source(request, &inventory, run_id);
    let mut outcome = describe::outcome(inventory, findings, reasons, source, started, completed);
    describe::with_volumes(&mut outcome, moved.account);
    outcome.hooks = moved.hooks;
    outcome.warnings.extend(moved.warnings);
    let mut publisher = Publisher::new(bucket, keys, put);
    let account = Account {
        log: &describe::log(request, &outcome),
        results: &describe::results(&outcome),
        outcome: &outcome,
        pod_volume_backups: &moved.pod_volume_backups,
        volume_infos: &moved.volume_infos,
    };
    publisher.side_files(written, kinds, account).await?;
    let backup = describe::backup(request, &outcome, started, completed);
    if cancel.is_cancelled() {
        return Err(BackupError::Interrupted);
    }
    let stored_bytes = publisher.finish(&backup).await?;
    Ok(Summary {
        name: request.name.clone(),
        phase: backup.status.phase,
        location: bucket.describe(),
        objects: outcome.stored(),
        stored_bytes,
        started,
        completed,
        expiration: backup.status.expiration,
        errors: outcome.errors(),
        warnings: outcome.warnings.clone(),
        outcome,
    })
}

fn joined(
    result: Result<Result<Written, PackError>, tokio::task::JoinError>,
) -> Result<Written, BackupError> {
    Ok(result.map_err(|stopped| BackupError::Spool(std::io::Error::other(stopped)))??)
}

fn collector(
    api: &ApiClient,
    request: &BackupRequest,
    inventory: &Inventory,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
    is_preview: bool,
) -> Arc<Collector> {
    Arc::new(Collector {
        api: api.clone(),
        filter: inventory.filter.clone(),
        follows: !request.scope.is_everything(),
        is_preview,
        progress: Arc::clone(progress),
        cancel: cancel.clone(),
    })
}

/// Lists everything, then what it needs, then the namespaces.
async fn gather(
    collector: &Arc<Collector>,
    inventory: &Inventory,
    sinks: Vec<Sink>,
) -> Result<(Findings, BTreeMap<String, u64>), Stopped> {
    let (mut findings, mut sinks) = collect::run(collector, inventory.tasks.clone(), sinks).await?;
    let mut last = sinks.pop().unwrap_or(Sink::Count);
    let mut reasons = BTreeMap::new();
    if collector.follows {
        (findings, last, reasons) = follow::related(collector, inventory, findings, last).await?;
    }
    (findings, last) = follow::namespaces(collector, inventory, findings, last).await?;
    for sink in sinks.into_iter().chain([last]) {
        if let Sink::Archive(mut packer) = sink {
            packer.flush().await.map_err(|_| Stopped::Archive)?;
        }
    }
    Ok((findings, reasons))
}

fn source(request: &BackupRequest, inventory: &Inventory, run_id: &str) -> Source {
    Source {
        cluster_uid: inventory.identity.uid.clone(),
        cluster_name: inventory.identity.name.clone(),
        kubernetes_version: inventory.identity.version.clone(),
        tool_version: request.tool_version.clone(),
        run_id: run_id.to_owned(),
        schedule: request.schedule.clone(),
    }
}

/// A token that is cancelled when either is.
fn either(a: &CancellationToken, b: &CancellationToken) -> CancellationToken {
    let either = a.child_token();
    let (from, to) = (b.clone(), either.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = from.cancelled() => to.cancel(),
            () = to.cancelled() => {}
        }
    });
    either
}

/// When a backup that began then and is kept that long expires.
fn expiration(started: Timestamp, ttl: Option<GoDuration>) -> Option<Timestamp> {
    let ttl = SignedDuration::try_from(ttl?.0).ok()?;
    started.checked_add(ttl).ok()
}
