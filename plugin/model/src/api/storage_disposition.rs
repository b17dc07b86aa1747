//! `StorageDisposition`: what becomes of a cluster's backup storage when the cluster is deleted.
//!
//! It lies beside the cluster, in its namespace, and names it with its UID, so that a cluster of the same name that is
//! built later inherits nothing. Who decided is stamped by the server.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What becomes of a cluster's backup storage when the cluster is deleted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "kubectl-backup.io",
    version = "v1alpha1",
    kind = "StorageDisposition",
    plural = "storagedispositions",
    shortname = "sd",
    category = "backup",
    namespaced,
    status = "StorageDispositionStatus",
    derive = "PartialEq",
    crates(
        kube_core = "::kube_core",
        k8s_openapi = "::k8s_openapi",
        schemars = "::schemars"
    ),
    label("clusterctl.cluster.x-k8s.io/move", ""),
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterRef.name"),
    printcolumn(name = "Storage", type_ = "string", json_path = ".spec.backupStorage"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status"
    ),
    printcolumn(
        name = "By",
        type_ = "string",
        json_path = ".metadata.annotations.kubectl-backup\\.io/storage-disposition-by"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct StorageDispositionSpec {
    /// The cluster it is about.
    pub cluster_ref: ClusterRef,
    /// Deleted or kept.
    pub backup_storage: BackupStorage,
    /// How long what is kept stays, as a Go duration (`2160h`); for ever unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain_for: Option<String>,
    /// Whether a last backup must be taken before the cluster goes; `Skip` unless said otherwise.
    #[serde(default)]
    pub final_backup: FinalBackup,
    /// How long the decision holds, as a Go duration from its creation; for ever unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_after: Option<String>,
}

/// A cluster, this very one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRef {
    /// API group, such as `cluster.x-k8s.io`.
    pub group: String,
    /// Kind, such as `Cluster`.
    pub kind: String,
    /// Name; the namespace is the disposition's own.
    pub name: String,
    /// UID of the object that is meant.
    pub uid: String,
}

/// What becomes of the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BackupStorage {
    /// Kept for recovery into a new cluster.
    Retain,
    /// Deleted, with proof.
    Delete,
}

/// Whether a last backup is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FinalBackup {
    /// Before anything else happens.
    Required,
    /// None.
    #[default]
    Skip,
}

/// What has come of the decision.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageDispositionStatus {
    /// The generation that the conditions are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `FinalBackupTaken`, `StorageDeleted` or `StorageRetained`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// What was done to the storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
}

/// What was done, with counts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// Backups that were deleted or kept.
    pub backups: u64,
    /// Keys in storage, versions and delete markers included.
    pub keys: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Who decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// When the work began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Time>,
    /// When it was proven done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed: Option<Time>,
}

/// What a cluster's backup storage held when a Job last looked: the value of the annotation `at-stake`, and what the
/// gate's message shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageFacts {
    /// Location and prefix as a user would type them.
    pub location: String,
    /// Number of backups.
    pub backups: u64,
    /// Bytes of all their files.
    pub bytes: u64,
    /// Begin of the oldest, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<jiff::Timestamp>,
    /// Begin of the newest, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<jiff::Timestamp>,
    /// When this was counted.
    pub observed: jiff::Timestamp,
}
