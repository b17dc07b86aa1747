//! `StorageDisposition`: what becomes of a cluster's backup storage when the cluster is deleted.
//!
//! It lies beside the cluster, in its namespace, and names it with its UID, so that a cluster of the same name that is
//! built later inherits nothing. Who decided is stamped by the server. clusterctl takes the objects along when it moves
//! clusters: it looks at CRDs that carry its own label, and moves what nobody owns where the CRD has its move label too.

// The derive that writes the schema repeats the struct inside a function.
#![allow(unreachable_pub)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What becomes of a cluster's backup storage when the cluster is deleted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema, CustomResource)]
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
    label("clusterctl.cluster.x-k8s.io", ""),
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
#[x_kube(
    crates(kube_core = "::kube_core", schemars = "::schemars"),
    validation = Rule::new("!has(self.retainFor) || self.backupStorage == 'Retain'")
        .message("retainFor goes with backupStorage: Retain")
)]
#[serde(rename_all = "camelCase")]
pub struct StorageDispositionSpec {
    /// The cluster it is about; never another one.
    #[x_kube(
        validation = Rule::new("self == oldSelf")
            .message("clusterRef stays as it is; make another StorageDisposition for another cluster")
    )]
    pub cluster_ref: ClusterRef,
    /// Deleted or kept.
    pub backup_storage: BackupStorage,
    /// How long what is kept stays, as a Go duration (`2160h`); for ever unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$"))]
    pub retain_for: Option<String>,
    /// Whether a last backup must be taken before the cluster goes; `Skip` unless said otherwise.
    #[serde(default)]
    pub final_backup: FinalBackup,
    /// What becomes of the cluster where object locks keep something that is to be deleted; `Wait` unless said otherwise.
    #[serde(default, skip_serializing_if = "WhenLocked::is_wait")]
    pub when_locked: WhenLocked,
    /// How long the decision holds, as a Go duration from its creation; for ever unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$"))]
    pub expires_after: Option<String>,
}

/// A cluster, this very one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRef {
    /// API group, such as `cluster.x-k8s.io`.
    #[schemars(length(min = 1, max = 253))]
    pub group: String,
    /// Kind, such as `Cluster`.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Name; the namespace is the disposition's own.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// UID of the object that is meant.
    #[schemars(length(min = 1, max = 128))]
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

impl BackupStorage {
    /// All words, in the order in which they are shown.
    pub const ALL: [Self; 2] = [Self::Retain, Self::Delete];

    /// The word as it stands in objects and annotations.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Retain => "Retain",
            Self::Delete => "Delete",
        }
    }

    /// What a word means; nothing else, not even another case, is a choice.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|choice| choice.word() == word)
    }
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

/// Whether a cluster waits for object locks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WhenLocked {
    /// It waits until they have run out and everything is deleted.
    #[default]
    Wait,
    /// It goes once everything else is deleted; what is locked is listed with its dates, and stays.
    Release,
}

impl WhenLocked {
    /// Whether it is the default.
    // The signature is serde's.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub fn is_wait(&self) -> bool {
        *self == Self::Wait
    }
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
    /// Location and prefix of the storage when the decision was accepted, `NAME:PREFIX`; kept when the cluster is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
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

#[cfg(test)]
mod tests {
    use kube_core::CustomResourceExt;

    use super::{BackupStorage, StorageDisposition};

    #[test]
    fn words_are_exact() {
        for (word, choice) in [
            ("Retain", Some(BackupStorage::Retain)),
            ("Delete", Some(BackupStorage::Delete)),
            ("retain", None),
            ("Delete ", None),
            ("", None),
        ] {
            assert_eq!(BackupStorage::parse(word), choice, "{word:?}");
        }
    }

    #[test]
    fn clusterctl_finds_the_kind_and_moves_it() {
        let labels = StorageDisposition::crd().metadata.labels.unwrap();
        for key in ["clusterctl.cluster.x-k8s.io", "clusterctl.cluster.x-k8s.io/move"] {
            assert_eq!(labels.get(key).map(String::as_str), Some(""), "{key}");
        }
    }

    #[test]
    fn the_server_checks_what_the_types_cannot_say() {
        let crd = serde_json::to_value(StorageDisposition::crd()).unwrap();
        let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        assert_eq!(
            spec["x-kubernetes-validations"][0]["rule"],
            "!has(self.retainFor) || self.backupStorage == 'Retain'"
        );
        assert_eq!(
            spec["properties"]["clusterRef"]["x-kubernetes-validations"][0]["rule"],
            "self == oldSelf"
        );
        assert_eq!(
            spec["properties"]["clusterRef"]["properties"]["uid"]["minLength"],
            1
        );
        assert_eq!(
            spec["properties"]["backupStorage"]["enum"],
            serde_json::json!(["Retain", "Delete"])
        );
        assert!(spec["properties"]["expiresAfter"]["pattern"].is_string());
    }
}
