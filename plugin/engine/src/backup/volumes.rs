//! The data of volumes: movers are started, several at a time, and what they stored is recorded.
//!
//! In comes what is to be read; out go the account, and the records by which Velero and others know the snapshots:
//! PodVolumeBackups and volume infos. A volume that could not be read is an entry of the account with its error, and no
//! reason for anything else to stop.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use backup_plan::hooks::Phase;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use velero_model::{
    mover::{Stored, Work},
    outcome::{HookOutcome, Hooks, VolumeOutcome, Volumes as Account},
    time,
};

use super::hooks;
use crate::{
    api::ApiClient,
    clock,
    mover::{
        MoverError,
        crew::{Crew, Listener, Task},
        objects::FOLDER,
    },
    progress::Progress,
    storage::Bucket,
    volumes::moves::{Move, PodHooks},
};

/// Name of what moved the data, as records have it.
pub(crate) const UPLOADER: &str = "restic";

/// Files that are named in an error.
const NAMED: usize = 3;

/// Volumes to be read, and with what.
#[derive(Debug, Clone)]
pub struct Volumes {
    /// The volumes.
    pub moves: Vec<Move>,
    /// What was asked for and is not read.
    pub left: Vec<VolumeOutcome>,
    /// Hooks of pods in scope.
    pub hooks: Vec<PodHooks>,
    /// What somebody should know of them.
    pub warnings: Vec<String>,
    /// The movers.
    pub crew: Crew,
}

/// What came of them.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) account: Account,
    pub(super) hooks: Hooks,
    pub(super) warnings: Vec<String>,
    /// PodVolumeBackups, for Velero's side file.
    pub(super) pod_volume_backups: Vec<Value>,
    /// Volume infos, for the other one.
    pub(super) volume_infos: Vec<Value>,
}

/// What all movers of a backup share.
pub(super) struct Stage<'a> {
    pub(super) api: &'a ApiClient,
    pub(super) bucket: &'a Arc<dyn Bucket>,
    pub(super) backup: &'a str,
    pub(super) velero_namespace: &'a str,
    pub(super) storage_location: &'a str,
    pub(super) progress: &'a Progress,
    pub(super) cancel: &'a CancellationToken,
}

/// Reads all of them.
pub(super) async fn run(stage: &Stage<'_>, volumes: &Volumes) -> Moved {
    let mut moved = Moved {
        account: Account {
            data: !volumes.moves.is_empty() || !volumes.left.is_empty(),
            items: volumes.left.clone(),
        },
        warnings: volumes.warnings.clone(),
        ..Moved::default()
    };
    let total = volumes.moves.len();
    let under_way: Mutex<BTreeMap<String, (u64, u64)>> = Mutex::default();
    let show = |name: &str, done: u64, of: u64| {
        let mut under_way = under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.insert(name.to_owned(), (done, of));
        let bytes: u64 = under_way.values().map(|(done, _)| done).sum();
        stage.progress.set_step(&format!(
            "volumes: {} of {total}, {} read",
            under_way.len(),
            backup_plan::human::bytes(bytes)
        ));
    };
    // Boxed, since the compiler cannot see through futures that borrow in a stream that is sent to another thread.
    let work: Vec<BoxFuture<'_, Pod<'_>>> = by_pod(volumes)
        .into_iter()
        .map(|(hooks, moves)| pod(stage, volumes, hooks, moves, &show).boxed())
        .collect();
    let mut all = futures::stream::iter(work).buffer_unordered(volumes.crew.in_flight.max(1));
    while let Some(Pod {
        hooks,
        warnings,
        reads,
    }) = all.next().await
    {
        moved.hooks.attempted += hooks.len() as u64;
        moved.hooks.failed += hooks.iter().filter(|hook| hook.error.is_some()).count() as u64;
        moved.hooks.items.extend(hooks);
        moved.warnings.extend(warnings);
        for Reading {
            found,
            started,
            ended,
            done,
        } in reads
        {
            moved.account.items.push(outcome(found, &done));
            if let Ok(stored) = &done {
                moved
                    .pod_volume_backups
                    .push(pod_volume_backup(stage, found, stored, started, ended));
            }
            moved.volume_infos.push(volume_info(found, &done, started, ended));
        }
    }
    drop(all);
    moved
        .hooks
        .items
        .sort_by(|a, b| (&a.namespace, &a.pod, &b.phase).cmp(&(&b.namespace, &b.pod, &a.phase)));
    moved.account.items.sort_by(|a, b| {
        (&a.namespace, &a.claim, &a.pod, &a.volume).cmp(&(&b.namespace, &b.claim, &b.pod, &b.volume))
    });
    moved
}

/// A pod's hooks, and the volumes that are read through it.
type OfPod<'a> = (Option<&'a PodHooks>, Vec<&'a Move>);

/// Pods with their hooks and the volumes that are read through them.
fn by_pod(volumes: &Volumes) -> Vec<OfPod<'_>> {
    let mut pods: BTreeMap<(&str, &str), OfPod<'_>> = BTreeMap::new();
    for hooks in &volumes.hooks {
        pods.entry((&hooks.namespace, &hooks.pod)).or_default().0 = Some(hooks);
    }
    for found in &volumes.moves {
        let pod = pods.entry((&found.namespace, &found.pod)).or_default();
        pod.1.push(found);
    }
    pods.into_values().collect()
}

/// What became of one pod.
struct Pod<'a> {
    hooks: Vec<HookOutcome>,
    warnings: Vec<String>,
    reads: Vec<Reading<'a>>,
}

/// What became of one volume.
struct Reading<'a> {
    found: &'a Move,
    started: Timestamp,
    ended: Timestamp,
    done: Result<Stored, MoverError>,
}

/// The hook before, the volumes, the hook after.
async fn pod<'a>(
    stage: &'a Stage<'a>,
    volumes: &'a Volumes,
    hooks: Option<&'a PodHooks>,
    moves: Vec<&'a Move>,
    show: &'a (dyn Fn(&str, u64, u64) + Send + Sync),
) -> Pod<'a> {
    let mut pod = Pod {
        hooks: Vec::new(),
        warnings: Vec::new(),
        reads: Vec::new(),
    };
    let mut may_go_on = true;
    if let Some(hooks) = hooks {
        let said = hooks.pre.iter().chain(&hooks.post);
        pod.warnings.extend(
            said.flat_map(|read| &read.warnings)
                .map(|warning| format!("hooks of {}/{}: {warning}", hooks.namespace, hooks.pod)),
        );
        let (outcomes, ended_well) = hooks::run(stage.api, hooks, Phase::Pre).await;
        pod.hooks.extend(outcomes);
        may_go_on = ended_well;
    }
    let read = moves.into_iter().map(|found| async move {
        let started = clock::now();
        let done = if may_go_on {
            let name = format!("{}/{}", found.namespace, found.claim);
            let progress = |done: u64, of: u64| show(&name, done, of);
            one(stage, volumes, found, &progress).await
        } else {
            Err(MoverError::Failed {
                reason: "it was not read, since its pod's hook before that has failed".to_owned(),
                is_unreachable: false,
            })
        };
        Reading {
            found,
            started,
            ended: clock::now(),
            done,
        }
    });
    pod.reads = futures::future::join_all(read).await;
    let is_touched = may_go_on || pod.hooks.iter().any(|hook| hook.error.is_none());
    if let Some(hooks) = hooks.filter(|_| is_touched) {
        pod.hooks
            .extend(hooks::run(stage.api, hooks, Phase::Post).await.0);
    }
    pod
}

/// One volume.
async fn one(
    stage: &Stage<'_>,
    volumes: &Volumes,
    found: &Move,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<Stored, MoverError> {
    let task = Task {
        namespace: &found.namespace,
        claim: &found.claim,
        node: Some(found.node.clone()).filter(|node| !node.is_empty()),
        repository: &found.namespace,
        work: Work::BackUp {
            folder: FOLDER.to_owned(),
            tags: tags(stage, found),
        },
        belongs_to: stage.backup,
        as_application: found.security_context.clone(),
    };
    let note = |text: String| stage.progress.note(text);
    let listener = Listener {
        progress,
        note: &note,
    };
    volumes
        .crew
        .send(stage.api, stage.bucket, &task, listener, stage.cancel)
        .await?
        .stored()
}

/// As Velero tags snapshots.
fn tags(stage: &Stage<'_>, found: &Move) -> BTreeMap<String, String> {
    [
        ("backup", stage.backup),
        ("ns", &found.namespace),
        ("pod", &found.pod),
        ("pod-uid", &found.pod_uid),
        ("pvc-uid", &found.claim_uid),
        ("volume", &found.volume),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

fn outcome(found: &Move, done: &Result<Stored, MoverError>) -> VolumeOutcome {
    let mut outcome = found.outcome(UPLOADER);
    match done {
        Ok(stored) => {
            let unread = &stored.trouble.unread;
            outcome.snapshot = Some(stored.snapshot.clone());
            outcome.bytes = stored.bytes;
            outcome.new_bytes = stored.added;
            outcome.failed_files = unread.count;
            outcome.error = (unread.count > 0).then(|| {
                let named: Vec<&str> = unread.first.iter().take(NAMED).map(String::as_str).collect();
                format!(
                    "{} files could not be read and are missing ({})",
                    unread.count,
                    named.join("; ")
                )
            });
        }
        Err(error) => outcome.error = Some(error.to_string()),
    }
    outcome
}

fn pod_volume_backup(
    stage: &Stage<'_>,
    found: &Move,
    stored: &Stored,
    started: Timestamp,
    ended: Timestamp,
) -> Value {
    let id = stored.snapshot.get(..8).unwrap_or_default();
    json!({
        "apiVersion": "velero.io/v1", "kind": "PodVolumeBackup",
        "metadata": {
            "name": format!("{}-{id}", stage.backup), "namespace": stage.velero_namespace,
            "labels": {
                "velero.io/backup-name": velero_model::name::label_value(stage.backup), "velero.io/backup-uid": "",
                "velero.io/pvc-uid": found.claim_uid,
            },
            "annotations": { "velero.io/pvc-name": found.claim },
        },
        "spec": {
            "node": found.node,
            "pod": { "kind": "Pod", "namespace": found.namespace, "name": found.pod, "uid": found.pod_uid },
            "volume": found.volume,
            "backupStorageLocation": stage.storage_location,
            "repoIdentifier": format!("restic/{}", found.namespace),
            "uploaderType": UPLOADER,
            "tags": tags(stage, found),
        },
        "status": {
            "phase": "Completed", "path": FOLDER, "snapshotID": stored.snapshot,
            "startTimestamp": time::format(started), "completionTimestamp": time::format(ended),
            "progress": { "totalBytes": stored.bytes, "bytesDone": stored.bytes },
        },
    })
}

fn volume_info(
    found: &Move,
    done: &Result<Stored, MoverError>,
    started: Timestamp,
    ended: Timestamp,
) -> Value {
    let stored = done.as_ref().ok();
    json!({
        "pvcName": found.claim, "pvcNamespace": found.namespace, "pvName": found.persistent_volume,
        "backupMethod": "PodVolumeBackup", "snapshotDataMoved": false, "skipped": false,
        "result": if stored.is_some() { "succeeded" } else { "failed" },
        "startTimestamp": time::format(started), "completionTimestamp": time::format(ended),
        "pvbInfo": {
            "snapshotHandle": stored.map(|stored| stored.snapshot.as_str()).unwrap_or_default(),
            "size": stored.map_or(0, |stored| stored.bytes),
            "uploaderType": UPLOADER, "volumeName": found.volume, "podName": found.pod,
            "podNamespace": found.namespace, "nodeName": found.node,
            "Phase": if stored.is_some() { "Completed" } else { "Failed" },
        },
    })
}
