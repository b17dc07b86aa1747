//! Velero's API objects beside the Backup: what is submitted to a running Velero, and what it answers.
//!
//! Requests ([`Restore`], [`DeleteBackupRequest`], [`DownloadRequest`]) are written with the fields that this tool sets and
//! no others: what is absent is for the server to fill in. Answers ([`Run`], [`BackupStorageLocation`] and the two requests)
//! are read leniently, since their CRDs check little and versions differ. Field names are Velero's JSON names. Source:
//! velero.md section 5.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    backup::{API_VERSION, Metadata},
    duration::GoDuration,
    time,
};

/// Label of Restores and DeleteBackupRequests with the backup's name.
pub const BACKUP_NAME_LABEL: &str = "velero.io/backup-name";

/// Label of DeleteBackupRequests with the UID of the Backup object.
pub const BACKUP_UID_LABEL: &str = "velero.io/backup-uid";

/// Where a Velero keeps backups.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupStorageLocation {
    /// Name and namespace.
    pub metadata: Metadata,
    /// Where it is. The whole of it stays JSON as well, for whoever opens it.
    pub spec: BackupStorageLocationSpec,
    /// What Velero found there.
    pub status: BackupStorageLocationStatus,
}

/// `spec` of a BackupStorageLocation.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupStorageLocationSpec {
    /// Object store plugin: `aws` and others.
    pub provider: String,
    /// Bucket and prefix.
    pub object_storage: ObjectStorage,
    /// Settings of the plugin.
    pub config: Option<BTreeMap<String, String>>,
    /// `ReadWrite` (also when empty) or `ReadOnly`.
    pub access_mode: String,
    /// How often Velero looks whether it can be used.
    pub validation_frequency: Option<GoDuration>,
    /// How often Velero looks for backups that others wrote.
    pub backup_sync_period: Option<GoDuration>,
    /// Whether backups go there where nothing is said.
    pub default: bool,
    /// The Secret to log in with, where it is not the server's own.
    pub credential: Option<SecretKey>,
}

/// A key of a Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SecretKey {
    /// Name of the Secret.
    pub name: String,
    /// Key in it.
    pub key: String,
}

/// `spec.objectStorage`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectStorage {
    /// Bucket.
    pub bucket: String,
    /// Prefix in it.
    pub prefix: String,
    /// PEM of a CA in base64.
    pub ca_cert: Option<String>,
}

/// `status` of a BackupStorageLocation.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupStorageLocationStatus {
    /// `Available` or `Unavailable`; empty before the first look.
    pub phase: String,
    /// When Velero last looked.
    #[serde(with = "time::optional_seconds")]
    pub last_validation_time: Option<Timestamp>,
    /// Why it cannot be used.
    pub message: String,
}

impl BackupStorageLocation {
    /// A setting of the plugin; empty is not set.
    pub fn config(&self, key: &str) -> Option<&str> {
        let value = self.spec.config.as_ref()?.get(key)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether Velero writes nothing there.
    pub fn is_read_only(&self) -> bool {
        self.spec.access_mode == "ReadOnly"
    }

    /// Whether Velero could use it when it last looked.
    pub fn is_available(&self) -> bool {
        self.status.phase == "Available"
    }
}

/// A Backup or a Restore, as far as both tell how they are getting on.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Run {
    /// Name, UID, labels.
    pub metadata: Metadata,
    /// State.
    pub status: RunStatus,
}

/// `status` of a [`Run`].
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunStatus {
    /// Phase; empty until Velero has seen it.
    pub phase: String,
    /// Why Velero refused it.
    pub validation_errors: Option<Vec<String>>,
    /// Why it is `Failed`.
    pub failure_reason: String,
    /// Errors in its log.
    pub errors: u64,
    /// Warnings in its log.
    pub warnings: u64,
    /// Objects so far.
    pub progress: Option<RunProgress>,
    /// Place in the queue (1.18 and later).
    pub queue_position: Option<u64>,
    /// Begin.
    #[serde(with = "time::optional_seconds")]
    pub start_timestamp: Option<Timestamp>,
    /// End.
    #[serde(with = "time::optional_seconds")]
    pub completion_timestamp: Option<Timestamp>,
}

/// `status.progress` of a Backup or a Restore.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunProgress {
    /// Objects to go through; an estimate that grows.
    pub total_items: u64,
    /// Objects in the archive.
    pub items_backed_up: u64,
    /// Objects gone through by a restore.
    pub items_restored: u64,
}

impl RunStatus {
    /// Phase in words: Velero's own, `New` before there is one.
    pub fn phase_word(&self) -> &str {
        if self.phase.is_empty() { "New" } else { &self.phase }
    }

    /// Whether nothing more will happen by itself.
    pub fn is_over(&self) -> bool {
        matches!(
            self.phase.as_str(),
            "Completed" | "PartiallyFailed" | "Failed" | "FailedValidation"
        )
    }

    /// Whether Velero's server is at work on it, or will be.
    pub fn is_under_way(&self) -> bool {
        !self.is_over() && self.phase != "Deleting"
    }
}

/// A restore to submit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restore {
    /// `velero.io/v1`.
    pub api_version: String,
    /// `Restore`.
    pub kind: String,
    /// Name and namespace.
    pub metadata: Metadata,
    /// What to restore and how.
    pub spec: RestoreSpec,
}

/// `spec` of a Restore.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RestoreSpec {
    /// `backupName`.
    pub backup_name: String,
    /// `includedNamespaces`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub included_namespaces: Option<Vec<String>>,
    /// `excludedNamespaces`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excluded_namespaces: Option<Vec<String>>,
    /// `includedResources`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub included_resources: Option<Vec<String>>,
    /// `excludedResources`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excluded_resources: Option<Vec<String>>,
    /// `includeClusterResources`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_cluster_resources: Option<bool>,
    /// `labelSelector`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<Value>,
    /// `orLabelSelectors`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub or_label_selectors: Option<Vec<Value>>,
    /// `namespaceMapping`: old name to new name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub namespace_mapping: BTreeMap<String, String>,
    /// `restorePVs`. Velero writes the abbreviation in capitals.
    #[serde(rename = "restorePVs", skip_serializing_if = "Option::is_none")]
    pub restore_volumes: Option<bool>,
    /// `preserveNodePorts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preserve_node_ports: Option<bool>,
    /// `restoreStatus`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_status: Option<RestoreStatusSpec>,
    /// `existingResourcePolicy`: `none` or `update`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub existing_resource_policy: Option<String>,
    /// `resourceModifier`: the ConfigMap with the rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_modifier: Option<ConfigMapReference>,
    /// Commands and containers for pods that come back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Value>,
}

/// `spec.restoreStatus`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RestoreStatusSpec {
    /// Kinds whose status comes back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub included_resources: Vec<String>,
    /// Kinds whose status does not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub excluded_resources: Vec<String>,
}

/// A ConfigMap beside Velero's objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigMapReference {
    /// `configmap`.
    pub kind: String,
    /// Name.
    pub name: String,
}

impl ConfigMapReference {
    /// A reference by name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            kind: "configmap".to_owned(),
            name: name.into(),
        }
    }
}

impl Restore {
    /// A restore of this name in Velero's namespace.
    pub fn new(name: &str, namespace: &str, spec: RestoreSpec) -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: "Restore".to_owned(),
            metadata: metadata(name, namespace),
            spec,
        }
    }
}

fn metadata(name: &str, namespace: &str) -> Metadata {
    Metadata {
        name: name.to_owned(),
        namespace: Some(namespace.to_owned()),
        ..Metadata::default()
    }
}

/// What makes Velero delete a backup with everything that belongs to it. Deleting the Backup object does not: it comes
/// back with the next sync.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteBackupRequest {
    /// `velero.io/v1`.
    pub api_version: String,
    /// `DeleteBackupRequest`.
    pub kind: String,
    /// Name, namespace, labels.
    pub metadata: Metadata,
    /// Which backup.
    pub spec: DeleteBackupRequestSpec,
    /// What came of it.
    #[serde(default, skip_serializing)]
    pub status: DeleteBackupRequestStatus,
}

/// `spec` of a DeleteBackupRequest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteBackupRequestSpec {
    /// Name of the Backup object.
    pub backup_name: String,
}

/// `status` of a DeleteBackupRequest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteBackupRequestStatus {
    /// `New`, `InProgress` or `Processed`.
    pub phase: String,
    /// What could not be deleted.
    pub errors: Option<Vec<String>>,
}

impl DeleteBackupRequest {
    /// Asks for the deletion of the Backup object with this name and UID.
    pub fn new(name: &str, namespace: &str, backup: &str, uid: &str) -> Self {
        let labels = [
            (BACKUP_NAME_LABEL.to_owned(), crate::name::label_value(backup)),
            (BACKUP_UID_LABEL.to_owned(), uid.to_owned()),
        ];
        Self {
            api_version: API_VERSION.to_owned(),
            kind: "DeleteBackupRequest".to_owned(),
            metadata: Metadata {
                labels: Some(labels.into_iter().collect()),
                ..metadata(name, namespace)
            },
            spec: DeleteBackupRequestSpec {
                backup_name: backup.to_owned(),
            },
            status: DeleteBackupRequestStatus::default(),
        }
    }
}

/// What makes Velero hand out a signed URL of one file in its bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DownloadRequest {
    /// `velero.io/v1`.
    pub api_version: String,
    /// `DownloadRequest`.
    pub kind: String,
    /// Name and namespace.
    pub metadata: Metadata,
    /// Which file.
    pub spec: DownloadRequestSpec,
    /// The URL.
    #[serde(default, skip_serializing)]
    pub status: DownloadRequestStatus,
}

/// `spec` of a DownloadRequest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownloadRequestSpec {
    /// The file.
    pub target: DownloadTarget,
}

/// One file of a backup or restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownloadTarget {
    /// Which file.
    pub kind: DownloadTargetKind,
    /// Name of the backup or restore.
    pub name: String,
}

/// Files that Velero hands out. Only those that this tool reads; 1.16 knows all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DownloadTargetKind {
    /// The log of a backup.
    BackupLog,
    /// The archive.
    BackupContents,
    /// Errors and warnings of a backup.
    BackupResults,
    /// Names by kind.
    BackupResourceList,
    /// What became of the volumes.
    BackupVolumeInfos,
    /// The log of a restore.
    RestoreLog,
    /// Errors and warnings of a restore.
    RestoreResults,
    /// Names by kind, with what was done to each.
    RestoreResourceList,
}

/// `status` of a DownloadRequest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DownloadRequestStatus {
    /// `New`, `Processed` or, later than 1.18, `Failed`.
    pub phase: String,
    /// The URL; it is as good as the file and is never printed.
    #[serde(rename = "downloadURL")]
    pub download_url: String,
    /// Why there is none (later than 1.18).
    pub message: String,
}

impl DownloadRequest {
    /// Asks for one file.
    pub fn new(name: &str, namespace: &str, target: DownloadTarget) -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: "DownloadRequest".to_owned(),
            metadata: metadata(name, namespace),
            spec: DownloadRequestSpec { target },
            status: DownloadRequestStatus::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn requests_have_veleros_field_names_and_nothing_unset() {
        let spec = RestoreSpec {
            backup_name: "b".into(),
            restore_volumes: Some(false),
            resource_modifier: Some(ConfigMapReference::new("rules")),
            ..RestoreSpec::default()
        };
        assert_eq!(
            serde_json::to_value(Restore::new("r", "velero", spec)).unwrap(),
            json!({
                "apiVersion": "velero.io/v1", "kind": "Restore", "metadata": {"name": "r", "namespace": "velero"},
                "spec": {"backupName": "b", "restorePVs": false, "resourceModifier": {"kind": "configmap", "name": "rules"}}
            })
        );
        let long = "b".repeat(70);
        let request = DeleteBackupRequest::new("d", "velero", &long, "u");
        let value = serde_json::to_value(request).unwrap();
        assert_eq!(value["spec"], json!({ "backupName": long }));
        assert_eq!(value["metadata"]["labels"][BACKUP_UID_LABEL], "u");
        assert_eq!(
            value["metadata"]["labels"][BACKUP_NAME_LABEL]
                .as_str()
                .unwrap()
                .len(),
            63
        );
        let target = DownloadTarget {
            kind: DownloadTargetKind::BackupVolumeInfos,
            name: "b".into(),
        };
        assert_eq!(
            serde_json::to_value(DownloadRequest::new("d", "velero", target)).unwrap()["spec"],
            json!({ "target": { "kind": "BackupVolumeInfos", "name": "b" } })
        );
    }

    #[test]
    fn answers_are_read_with_gos_nulls_and_without_a_status() {
        let new: Run = serde_json::from_value(json!({ "metadata": { "name": "b" }, "spec": {} })).unwrap();
        assert_eq!(new.status.phase_word(), "New");
        assert!(new.status.is_under_way() && !new.status.is_over());
        let refused: Run = serde_json::from_value(json!({
            "metadata": { "name": "b", "managedFields": [] },
            "status": { "phase": "FailedValidation", "validationErrors": ["no"], "progress": null, "future": 1 }
        }))
        .unwrap();
        assert!(refused.status.is_over());
        assert_eq!(refused.status.validation_errors.unwrap(), ["no"]);
        let location: BackupStorageLocation = serde_json::from_value(json!({
            "metadata": { "name": "default" },
            "spec": { "provider": "aws", "config": null, "validationFrequency": "1m0s", "backupSyncPeriod": null,
                "objectStorage": { "bucket": "b" } },
            "status": { "phase": "Available", "lastValidationTime": "2026-11-22T01:00:00Z" }
        }))
        .unwrap();
        assert!(location.is_available() && !location.is_read_only());
        assert_eq!(location.spec.validation_frequency.unwrap().to_string(), "1m0s");
    }
}
