//! The data of volumes: new claims are filled by movers before anything is restored that would use them.
//!
//! In come the snapshots that the backup names ([`VolumeData`]); the claims are there already, made by this restore or by an
//! earlier try of it. What was there before is written to only where that was asked for and no pod uses it. A claim that is filled says so in an annotation, so that a
//! restore that is taken up again fills no claim twice. One that cannot be filled ends the run: nothing may start on half of
//! its data.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use backup_plan::human;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use serde_json::{Value, json};
use velero_model::{
    mover::{Work, Written},
    name::label_value,
    phase::Phase,
};

use super::{RestoreError, report::Subject, run::Run};
use crate::{
    api::{PatchKind, object_path},
    catalog::{self, OpenBackup},
    mover::{
        MoverError,
        crew::{Crew, Listener, Task},
        objects::FOLDER,
    },
    storage::Bucket,
    volumes::kind,
};

/// Annotation of a claim: the snapshot that it was filled with.
const FILLED: &str = "kubectl-backup.io/filled-with-snapshot";

/// Annotation of a claim: the restore that has filled it.
const FILLED_BY: &str = "kubectl-backup.io/filled-by-restore";

/// The label by which a restore knows what it has made.
const RESTORE_NAME: &str = "velero.io/restore-name";

/// Data of volumes in a backup, and how it is brought back.
#[derive(Clone)]
pub struct VolumeData {
    /// Where the repositories are.
    pub bucket: Arc<dyn Bucket>,
    /// Snapshots by namespace and claim, as the backup has them.
    pub snapshots: BTreeMap<(String, String), String>,
    /// The movers.
    pub crew: Crew,
}

impl std::fmt::Debug for VolumeData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VolumeData")
            .field("snapshots", &self.snapshots)
            .field("crew", &self.crew)
            .finish_non_exhaustive()
    }
}

/// A claim with data in the backup.
pub(super) struct Claim<'a> {
    /// Namespace in the backup: whose repository it is.
    repository: &'a str,
    namespace: String,
    name: &'a str,
    snapshot: &'a str,
}

/// What a claim with data in the backup is in the cluster.
pub(super) enum ClaimState {
    /// Not there, or not yet.
    Missing,
    /// Made by this restore or to be overwritten, and without its data.
    ToBeFilled,
    /// Done, by an earlier try of this restore.
    Filled,
    /// There before, and not to be overwritten.
    LeftAlone,
    /// To be overwritten, and used by this pod.
    InUse(String),
}

fn in_use(user: &str) -> String {
    format!(
        "pod {user} uses it, so that its data is left alone; stop the pod (kubectl scale) and restore again"
    )
}

impl Run {
    /// The snapshot of a claim, by its names in the backup.
    pub(super) fn snapshot_of(&self, namespace: &str, claim: &str) -> Option<&str> {
        let volumes = self.request.volumes.as_ref()?;
        let key = (namespace.to_owned(), claim.to_owned());
        volumes.snapshots.get(&key).map(String::as_str)
    }

    /// What cannot come back whatever the restore does.
    pub(super) async fn say_what_the_backup_lacks(&self, backup: &OpenBackup) -> Result<(), RestoreError> {
        let phase = &backup.backup().status.phase;
        if *phase == Phase::PartiallyFailed {
            let message = format!(
                "backup {0} is {phase}: what it could not take is not in it; `kubectl backup describe {0}` tells what",
                backup.name()
            );
            self.report.warn(None, &message);
        }
        let kinds = &self.selection.kinds;
        if !["persistentvolumeclaims", "pods"]
            .iter()
            .any(|kind| kinds.contains_key(*kind))
        {
            return Ok(());
        }
        let volumes = if self.request.volumes.is_some() {
            catalog::volume_data_beside_restic(backup).await?
        } else {
            catalog::volume_data(backup).await?
        };
        if let Some(first) = volumes.first() {
            let more = match volumes.len() {
                1 => String::new(),
                count => format!(" and {} more", count - 1),
            };
            let message = format!(
                "the backup has data of volumes ({first}{more}) that is not restored: only Velero reads it; use --engine velero \
                 for it"
            );
            self.report.warn(None, &message);
        }
        Ok(())
    }

    /// Fills the claims that this restore has made.
    pub(super) async fn fill_claims(self: &Arc<Self>) -> Result<(), RestoreError> {
        let Some(volumes) = self.request.volumes.as_ref().filter(|_| self.plan.is_none()) else {
            return Ok(());
        };
        let mut claims = Vec::new();
        let selected = volumes
            .snapshots
            .iter()
            .filter(|((namespace, name), _)| self.has_claim(namespace, name));
        for ((namespace, name), snapshot) in selected {
            let claim = self.claim(namespace, name, snapshot);
            match self.claim_state(&claim).await? {
                ClaimState::ToBeFilled => claims.push(claim),
                ClaimState::InUse(user) => {
                    let object = format!("persistentvolumeclaims/{}", claim.name);
                    self.report.error(&object, Some(&claim.namespace), &in_use(&user));
                }
                ClaimState::Missing | ClaimState::Filled | ClaimState::LeftAlone => {}
            }
        }
        if claims.is_empty() {
            return Ok(());
        }
        let (total, filled, bytes) = (claims.len(), AtomicU64::new(0), AtomicU64::new(0));
        let say = || {
            self.progress.set_step(&format!(
                "filling claims: {} of {total}, {} written",
                filled.load(Ordering::Relaxed),
                human::bytes(bytes.load(Ordering::Relaxed))
            ));
        };
        say();
        // Boxed, since the compiler cannot see through futures that borrow in a stream that is sent to another thread.
        let work: Vec<BoxFuture<'_, Result<(), RestoreError>>> = claims
            .iter()
            .map(|claim| {
                let (filled, bytes, say) = (&filled, &bytes, &say);
                async move {
                    let written = self.fill(volumes, claim).await?;
                    filled.fetch_add(1, Ordering::Relaxed);
                    bytes.fetch_add(written.bytes, Ordering::Relaxed);
                    say();
                    self.report.log(&format!(
                        "claim {}/{} is filled with snapshot {}: {} files written, {} verified, {}",
                        claim.namespace,
                        claim.name,
                        claim.snapshot,
                        written.files,
                        written.verified,
                        human::bytes(written.bytes)
                    ));
                    Ok(())
                }
                .boxed()
            })
            .collect();
        let mut all = futures::stream::iter(work).buffer_unordered(volumes.crew.in_flight.max(1));
        while let Some(done) = all.next().await {
            done?;
        }
        Ok(())
    }

    /// What a claim with data in the backup is in the cluster.
    pub(super) async fn claim_state(&self, claim: &Claim<'_>) -> Result<ClaimState, RestoreError> {
        let path = object_path(&kind::claims(), Some(&claim.namespace), claim.name);
        let Some(body) = self.look(&path).await? else {
            return Ok(ClaimState::Missing);
        };
        let live: Value = serde_json::from_slice(&body).unwrap_or_default();
        let metadata = &live["metadata"];
        let restore = label_value(self.request.name.as_str());
        let is_ours = metadata["labels"][RESTORE_NAME] == restore.as_str();
        let is_filled = metadata["annotations"][FILLED] == claim.snapshot
            && (is_ours || metadata["annotations"][FILLED_BY] == self.request.name.as_str());
        Ok(if is_filled {
            ClaimState::Filled
        } else if is_ours {
            ClaimState::ToBeFilled
        } else if !self.request.overwrite_volumes {
            ClaimState::LeftAlone
        } else {
            match self.user_of(claim).await? {
                Some(user) => ClaimState::InUse(user),
                None => ClaimState::ToBeFilled,
            }
        })
    }

    /// Says beforehand what becomes of the data of a claim, by its names in the backup.
    pub(super) async fn announce_data(
        &self,
        subject: &Subject,
        namespace: &str,
        name: &str,
        snapshot: &str,
    ) -> Result<(), RestoreError> {
        let claim = self.claim(namespace, name, snapshot);
        match self.claim_state(&claim).await? {
            ClaimState::Missing => self.remark(
                subject,
                &format!("it gets a new volume, filled with snapshot {snapshot} before anything uses it"),
            ),
            ClaimState::LeftAlone => self.note(
                subject,
                "it is there already, and its data is left alone; --overwrite-volumes writes the data of the backup over it",
            ),
            ClaimState::ToBeFilled => self.remark(
                subject,
                &format!("its data is overwritten with snapshot {snapshot}; what is not in that is removed"),
            ),
            ClaimState::InUse(user) if self.plan.is_some() => self.note(subject, &in_use(&user)),
            ClaimState::InUse(_) | ClaimState::Filled => {}
        }
        Ok(())
    }

    fn claim<'a>(&self, namespace: &'a str, name: &'a str, snapshot: &'a str) -> Claim<'a> {
        Claim {
            repository: namespace,
            namespace: self.options.map_namespace(namespace).to_owned(),
            name,
            snapshot,
        }
    }

    /// A pod that has a claim mounted, or is about to.
    async fn user_of(&self, claim: &Claim<'_>) -> Result<Option<String>, RestoreError> {
        let pods = self.api.objects(kind::pods(), Some(&claim.namespace), "").await?;
        let uses = |pod: &&Value| {
            let has_ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
            let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
            let mut volumes = volumes.into_iter().flatten();
            !has_ended && volumes.any(|volume| volume["persistentVolumeClaim"]["claimName"] == claim.name)
        };
        let user = pods.iter().find(uses);
        Ok(user.and_then(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)))
    }

    async fn fill(&self, volumes: &VolumeData, claim: &Claim<'_>) -> Result<Written, RestoreError> {
        let fail = |reason: String| RestoreError::Volume {
            claim: format!("{}/{}", claim.namespace, claim.name),
            reason,
        };
        let written = self
            .write_volume(volumes, claim)
            .await
            .map_err(|error| match error {
                MoverError::Interrupted => RestoreError::Interrupted,
                error => fail(error.to_string()),
            })?;
        let done = json!({ "metadata": { "annotations": { FILLED: claim.snapshot, FILLED_BY: self.request.name.as_str() } } }).to_string();
        let path = object_path(&kind::claims(), Some(&claim.namespace), claim.name);
        self.api
            .patch(&path, &PatchKind::Merge, done.into())
            .await
            .map_err(|error| fail(error.to_string()))?;
        Ok(written)
    }

    async fn write_volume(&self, volumes: &VolumeData, claim: &Claim<'_>) -> Result<Written, MoverError> {
        let task = Task {
            namespace: &claim.namespace,
            claim: claim.name,
            node: None,
            repository: claim.repository,
            work: Work::Restore {
                folder: FOLDER.to_owned(),
                snapshot: claim.snapshot.to_owned(),
                delete: true,
            },
            belongs_to: self.request.name.as_str(),
            // Owners cannot be set there; the kubelet gives the files to the application's group when it mounts them.
            as_application: json!({ "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532 }),
        };
        let note = |text: String| self.report.log(&text);
        let listener = Listener {
            progress: &|_, _| {},
            note: &note,
        };
        volumes
            .crew
            .send(&self.api, &volumes.bucket, &task, listener, &self.cancel)
            .await?
            .written()
    }
}
