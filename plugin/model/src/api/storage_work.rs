//! The order to do a choice on storage, and the report of what was done: both JSON in one ConfigMap per cluster.
//!
//! The admission suite writes the order and starts a Job of the plugin's image; the Job writes the report. Neither writes
//! the other's key. A cluster may go only when [`StorageReport::is_proof_for`] says so of the order that stands now. The
//! ConfigMap outlives the cluster as its receipt.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{BackupStorage, FinalBackup, WhenLocked};
use crate::{digests::sha256, time};

/// The namespace of ConfigMap, Job and location Secrets.
pub const NAMESPACE: &str = "kubectl-backup";
/// Label of ConfigMap and Job; its value is the cluster's UID.
pub const WORK_LABEL: &str = "kubectl-backup.io/storage-work";
/// Key of the order in the ConfigMap.
pub const ORDER_KEY: &str = "order";
/// Key of the report in the ConfigMap.
pub const REPORT_KEY: &str = "report";
/// ServiceAccount of the Job.
pub const SERVICE_ACCOUNT: &str = "backup-storage";
/// The Secret of Cluster API with the kubeconfig of a cluster is called like the cluster with this behind it.
pub const KUBECONFIG_SUFFIX: &str = "-kubeconfig";
/// The key of the kubeconfig in that Secret.
pub const KUBECONFIG_KEY: &str = "value";
/// Version of both documents.
pub const FORMAT: u32 = 1;

/// Name of the ConfigMap and the Job for a cluster: `storage-` and 16 hexadecimal digits.
pub fn work_name(uid: &str) -> String {
    let digest = sha256(uid.as_bytes());
    format!("storage-{}", digest.get(..16).unwrap_or(&digest))
}

/// The words of the Job's container: `cluster carry-out NAME`.
pub fn work_arguments(name: &str) -> [&str; 3] {
    ["cluster", "carry-out", name]
}

/// Why an order or a report cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WorkError {
    /// It is no such document.
    #[error("{key} is no {expected}: {detail}")]
    Unreadable {
        /// `order` or `report`.
        key: &'static str,
        /// Its type.
        expected: &'static str,
        /// What the parser said.
        detail: String,
    },
    /// A later version wrote it.
    #[error(
        "{key} has format {found}, and {FORMAT} is known here; upgrade the image of the Job and the admission suite together"
    )]
    TooNew {
        /// `order` or `report`.
        key: &'static str,
        /// What it says.
        found: u32,
    },
}

/// What is to be done to the backup storage of one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageOrder {
    /// [`FORMAT`].
    pub format: u32,
    /// Goes up with every change of the order.
    pub revision: u64,
    /// The cluster.
    pub cluster: OrderedCluster,
    /// UID of the cluster's own `kube-system`, where it is known: the identity in its backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The location as `cluster protect` recorded it: the name of a labelled Secret or a BackupStorageLocation, or a URL.
    pub location: String,
    /// The folder of the cluster in it, as recorded.
    pub prefix: String,
    /// Kept or deleted. Changes from `Delete` to `Retain` at most.
    pub choice: BackupStorage,
    /// How long what is kept stays, as a Go duration; for ever where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain_for: Option<String>,
    /// Whether a last backup comes first.
    #[serde(default)]
    pub final_backup: FinalBackup,
    /// Whether the cluster waits for object locks.
    #[serde(default, skip_serializing_if = "WhenLocked::is_wait")]
    pub when_locked: WhenLocked,
    /// Who chose, as the server stamped it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decided_by: Vec<String>,
    /// When.
    #[serde(
        default,
        with = "time::optional_seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub decided_at: Option<Timestamp>,
}

/// The cluster that an order is about, as its management cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderedCluster {
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID of the object.
    pub uid: String,
}

/// How far the work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkPhase {
    /// Storage is being worked on.
    Working,
    /// The last backup is being taken or verified.
    FinalBackup,
    /// Nothing of the cluster is left, by a listing.
    Deleted,
    /// Kept, with a recovery ticket.
    Retained,
    /// Somebody has to do something first; repeating it alone changes nothing.
    Blocked,
    /// It failed; repeating it may help.
    Failed,
}

impl WorkPhase {
    /// Whether nothing more will happen for this revision unless the Job is started again.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Working | Self::FinalBackup)
    }
}

/// Reasons of a report, in the vocabulary of conditions.
pub mod reason {
    /// Going on.
    pub const WORKING: &str = "Working";
    /// Nothing is left.
    pub const DELETED: &str = "StorageDeleted";
    /// Nothing is left but what object locks keep, and the cluster was not to wait for that.
    pub const DELETED_BUT_LOCKED: &str = "DeletedButLocked";
    /// Kept, with a ticket.
    pub const RETAINED: &str = "StorageRetained";
    /// A last backup is asked for and the cluster's API cannot be reached.
    pub const CLUSTER_UNREACHABLE: &str = "ClusterUnreachable";
    /// A last backup is asked for and there is no usable kubeconfig Secret.
    pub const KUBECONFIG_MISSING: &str = "KubeconfigMissing";
    /// The last backup is incomplete, or `verify` found something in it.
    pub const FINAL_BACKUP_FAILED: &str = "FinalBackupFailed";
    /// Object locks keep something; the report lists it with dates.
    pub const OBJECT_LOCK: &str = "ObjectLocked";
    /// The credentials lack a right.
    pub const ACCESS_DENIED: &str = "AccessDenied";
    /// The credentials are wrong, missing or have run out.
    pub const CREDENTIALS: &str = "CredentialsRefused";
    /// The bucket or folder is not there.
    pub const STORAGE_MISSING: &str = "StorageMissing";
    /// Nobody here knows the location by its name.
    pub const LOCATION_UNKNOWN: &str = "LocationUnknown";
    /// The location is marked read-only.
    pub const LOCATION_READ_ONLY: &str = "LocationReadOnly";
    /// It is not known which of several clusters' backups are those of this one.
    pub const SOURCE_UNKNOWN: &str = "SourceUnknown";
    /// The prefix is shared, and for something in it nobody can tell whose it is.
    pub const SHARED_PREFIX: &str = "SharedPrefix";
    /// Backups are being written by a live run.
    pub const BACKUP_RUNNING: &str = "BackupRunning";
    /// A live Velero of the cluster did not carry out its deletion requests.
    pub const VELERO_FAILED: &str = "VeleroDeletionFailed";
    /// Backups that cannot be read cannot be guarded against expiry.
    pub const UNREADABLE_BACKUPS: &str = "UnreadableBackups";
    /// The order cannot be carried out as it is written.
    pub const INVALID_ORDER: &str = "InvalidOrder";
    /// The store or an API server did not answer well.
    pub const UNAVAILABLE: &str = "StorageUnavailable";
    /// The order changed while it was carried out; the Job goes on with the new one.
    pub const ORDER_CHANGED: &str = "OrderChanged";
}

/// What has come of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageReport {
    /// [`FORMAT`].
    pub format: u32,
    /// The revision of the order that this is about.
    pub revision: u64,
    /// How far it is.
    pub phase: WorkPhase,
    /// One of [`reason`].
    pub reason: String,
    /// What happened and what to do, one or two sentences.
    pub message: String,
    /// When the first Job of this cluster began.
    #[serde(with = "time::seconds")]
    pub started_at: Timestamp,
    /// When it came to an end for this revision.
    #[serde(
        default,
        with = "time::optional_seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub finished_at: Option<Timestamp>,
    /// Identity of the cluster in its backups, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The last backup, once it has been begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_backup: Option<FinalBackupReport>,
    /// What was done so far, over all Jobs of this cluster.
    #[serde(default)]
    pub receipt: WorkReceipt,
}

/// The last backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FinalBackupReport {
    /// Its name.
    pub name: String,
    /// Velero's word for its phase.
    pub phase: String,
    /// Whether every byte of it was read back and compared.
    #[serde(default)]
    pub verified: bool,
}

/// Counts of what was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkReceipt {
    /// Backups deleted or kept.
    pub backups: u64,
    /// Keys deleted or kept.
    pub keys: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Older versions deleted.
    pub versions: u64,
    /// Delete markers deleted.
    pub delete_markers: u64,
    /// Unfinished uploads deleted.
    pub uploads: u64,
    /// What is still there.
    #[serde(skip_serializing_if = "Left::is_empty")]
    pub left: Left,
    /// Whether a listing after the last deletion, versions and uploads included, held nothing of this cluster.
    pub empty_proven: bool,
    /// Key of the recovery ticket below the cluster's prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// Until when what is kept is guarded against expiry; for ever where it is absent.
    #[serde(with = "time::optional_seconds", skip_serializing_if = "Option::is_none")]
    pub retained_until: Option<Timestamp>,
}

/// What was left, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Left {
    /// Versions that a lock keeps, at most [`Left::LISTED`] of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub locked: Vec<Locked>,
    /// How many there are.
    #[serde(skip_serializing_if = "is_zero")]
    pub locked_total: u64,
    /// Keys of others by the identity of their cluster; the empty identity stands for what nobody of us wrote.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub foreign: BTreeMap<String, u64>,
    /// Snapshots outside the storage, which only their provider or a Velero of the cluster can delete.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<String>,
}

impl Left {
    /// How many locked versions a report lists.
    pub const LISTED: usize = 50;

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

/// One version that cannot be deleted yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Locked {
    /// Key below the cluster's prefix.
    pub key: String,
    /// When the lock ends, where the store tells.
    #[serde(
        default,
        with = "time::optional_seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub until: Option<Timestamp>,
}

// The signature is serde's.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl StorageOrder {
    /// Reads an order.
    ///
    /// # Errors
    /// [`WorkError`].
    pub fn parse(text: &str) -> Result<Self, WorkError> {
        parse(text, ORDER_KEY, "StorageOrder")
    }
}

impl StorageReport {
    /// Reads a report.
    ///
    /// # Errors
    /// [`WorkError`].
    pub fn parse(text: &str) -> Result<Self, WorkError> {
        parse(text, REPORT_KEY, "StorageReport")
    }

    /// Whether this report lets the cluster of the order go: it is about this revision, and either nothing is left (but what
    /// locks keep, where the order says that the cluster does not wait for that), or what is kept has a recovery ticket. A last backup that was asked for must have been verified.
    pub fn is_proof_for(&self, order: &StorageOrder) -> bool {
        let is_backed_up = order.final_backup == FinalBackup::Skip
            || self.final_backup.as_ref().is_some_and(|backup| backup.verified);
        self.revision == order.revision
            && is_backed_up
            && match order.choice {
                BackupStorage::Delete => {
                    let is_locked =
                        order.when_locked == WhenLocked::Release && self.receipt.left.locked_total > 0;
                    self.phase == WorkPhase::Deleted && (self.receipt.empty_proven || is_locked)
                }
                BackupStorage::Retain => self.phase == WorkPhase::Retained && self.receipt.ticket.is_some(),
            }
    }
}

fn parse<T: for<'de> Deserialize<'de>>(
    text: &str,
    key: &'static str,
    expected: &'static str,
) -> Result<T, WorkError> {
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    let unreadable = |error: serde_json::Error| WorkError::Unreadable {
        key,
        expected,
        detail: error.to_string(),
    };
    let head: Head = serde_json::from_str(text).map_err(unreadable)?;
    if head.format > FORMAT {
        return Err(WorkError::TooNew {
            key,
            found: head.format,
        });
    }
    serde_json::from_str(text).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = r#"{"format":1,"revision":2,"cluster":{"group":"cluster.x-k8s.io","kind":"Cluster","namespace":"team-a","name":"prod","uid":"0b7e"},"source":"6e0c","location":"main","prefix":"team-a/prod","choice":"Retain","retainFor":"2160h0m0s","finalBackup":"Required","decidedBy":["eve"],"decidedAt":"2026-11-25T01:00:00Z"}"#;
    const REPORT: &str = r#"{"format":1,"revision":2,"phase":"Blocked","reason":"ObjectLocked","message":"wait","startedAt":"2026-11-25T01:00:00Z","finishedAt":"2026-11-25T01:01:00Z","source":"6e0c","finalBackup":{"name":"final-1","phase":"Completed","verified":true},"receipt":{"backups":2,"keys":14,"bytes":99,"versions":3,"deleteMarkers":4,"uploads":1,"left":{"locked":[{"key":"backups/b/b.tar.gz","until":"2027-01-01T00:00:00Z"}],"lockedTotal":1,"foreign":{"other":3},"snapshots":["snapshot s of volume v"]},"emptyProven":false,"ticket":"metadata/t.json","retainedUntil":"2027-02-23T01:00:00Z"}}"#;

    fn report() -> StorageReport {
        StorageReport::parse(REPORT).unwrap()
    }

    #[test]
    fn the_forms_are_fixed() {
        let order = StorageOrder::parse(ORDER).unwrap();
        assert_eq!(serde_json::to_string(&order).unwrap(), ORDER);
        assert_eq!(serde_json::to_string(&report()).unwrap(), REPORT);
        let least = r#"{"format":1,"revision":1,"phase":"Working","reason":"Working","message":"","startedAt":"2026-11-25T01:00:00Z"}"#;
        assert!(StorageReport::parse(least).unwrap().receipt.left.is_empty());
    }

    #[test]
    fn one_name_for_each_cluster() {
        assert_eq!(work_name("abc"), "storage-ba7816bf8f01cfea");
        assert_eq!(work_arguments("storage-1"), ["cluster", "carry-out", "storage-1"]);
    }

    #[test]
    fn a_later_format_is_refused_and_says_so() {
        let later = ORDER.replacen("\"format\":1", "\"format\":2", 1);
        assert_eq!(
            StorageOrder::parse(&later),
            Err(WorkError::TooNew {
                key: "order",
                found: 2
            })
        );
        let error = StorageReport::parse("{}").unwrap_err().to_string();
        assert!(error.starts_with("report is no StorageReport"), "{error}");
    }

    #[test]
    fn only_proof_of_what_is_ordered_now_lets_a_cluster_go() {
        let retain = StorageOrder::parse(ORDER).unwrap();
        let delete = StorageOrder {
            choice: BackupStorage::Delete,
            retain_for: None,
            ..retain.clone()
        };
        let skip = StorageOrder {
            final_backup: FinalBackup::Skip,
            ..delete.clone()
        };
        let in_phase = |phase| StorageReport { phase, ..report() };
        let mut proven = in_phase(WorkPhase::Deleted);
        proven.receipt.empty_proven = true;
        let mut unticketed = in_phase(WorkPhase::Retained);
        unticketed.receipt.ticket = None;
        let releasing = StorageOrder {
            when_locked: WhenLocked::Release,
            ..delete.clone()
        };
        let mut nothing_locked = in_phase(WorkPhase::Deleted);
        nothing_locked.receipt.left = Left::default();
        let table = [
            (&releasing, in_phase(WorkPhase::Deleted), true),
            (&releasing, in_phase(WorkPhase::Blocked), false),
            (&releasing, nothing_locked, false),
            (&retain, in_phase(WorkPhase::Retained), true),
            (&retain, unticketed, false),
            (&retain, proven.clone(), false),
            (&retain, in_phase(WorkPhase::Blocked), false),
            (&delete, proven.clone(), true),
            (&delete, in_phase(WorkPhase::Deleted), false),
            (&delete, in_phase(WorkPhase::Retained), false),
            (
                &delete,
                StorageReport {
                    revision: 1,
                    ..proven.clone()
                },
                false,
            ),
            (
                &delete,
                StorageReport {
                    final_backup: None,
                    ..proven.clone()
                },
                false,
            ),
            (
                &skip,
                StorageReport {
                    final_backup: None,
                    ..proven
                },
                true,
            ),
        ];
        for (number, (order, report, expected)) in table.into_iter().enumerate() {
            assert_eq!(report.is_proof_for(order), expected, "row {number}");
        }
        assert!(WorkPhase::Blocked.is_final() && !WorkPhase::FinalBackup.is_final());
    }
}
