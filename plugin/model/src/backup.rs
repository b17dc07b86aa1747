//! Velero's Backup object as it stands in `velero-backup.json`.
//!
//! Fields that this tool uses are typed; every other field is kept as it came and written back, so that a backup of a
//! later Velero passes through us unharmed. Field names are Velero's JSON names. Source: velero.md sections 5 and 11.1.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::{duration::GoDuration, name::BackupName, phase::Phase, source::Source, time};

/// `apiVersion` of all of Velero's objects that we read.
pub const API_VERSION: &str = "velero.io/v1";

/// Format version that we write: each object once, no version folders (restored by Velero 1.16 to 1.18).
pub const FORMAT_VERSION: &str = "1";

/// Label with the storage location's name.
pub const STORAGE_LOCATION_LABEL: &str = "velero.io/storage-location";

/// A backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// `velero.io/v1`.
    pub api_version: String,
    /// `Backup`.
    pub kind: String,
    /// Name, labels, annotations.
    pub metadata: Metadata,
    /// What was asked for.
    #[serde(default)]
    pub spec: BackupSpec,
    /// What came of it.
    #[serde(default)]
    pub status: BackupStatus,
    /// Fields that this tool does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The part of object metadata that we use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// `name`.
    pub name: String,
    /// `namespace` of the Velero that the backup belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// `uid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// `creationTimestamp`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "time::optional_seconds"
    )]
    pub creation_timestamp: Option<Timestamp>,
    /// `labels`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// `annotations`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Fields that this tool does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// `spec` of a backup. Lists that are absent and lists that are empty mean the same: no such filter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupSpec {
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
    /// `includedClusterScopedResources`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub included_cluster_scoped_resources: Option<Vec<String>>,
    /// `excludedClusterScopedResources`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excluded_cluster_scoped_resources: Option<Vec<String>>,
    /// `includedNamespaceScopedResources`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub included_namespace_scoped_resources: Option<Vec<String>>,
    /// `excludedNamespaceScopedResources`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excluded_namespace_scoped_resources: Option<Vec<String>>,
    /// `includeClusterResources`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_cluster_resources: Option<bool>,
    /// `labelSelector`, a Kubernetes LabelSelector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<Value>,
    /// `orLabelSelectors`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub or_label_selectors: Option<Vec<Value>>,
    /// `orderedResources`: plural to comma-separated `namespace/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordered_resources: Option<BTreeMap<String, String>>,
    /// `ttl`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<GoDuration>,
    /// `storageLocation`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_location: Option<String>,
    /// Fields that this tool only passes on (hooks, volume settings, timeouts).
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// `status` of a backup.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupStatus {
    /// Legacy number, 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Version of the archive's format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format_version: Option<String>,
    /// State.
    pub phase: Phase,
    /// Begin.
    #[serde(skip_serializing_if = "Option::is_none", with = "time::optional_seconds")]
    pub start_timestamp: Option<Timestamp>,
    /// End.
    #[serde(skip_serializing_if = "Option::is_none", with = "time::optional_seconds")]
    pub completion_timestamp: Option<Timestamp>,
    /// When retention may remove it.
    #[serde(skip_serializing_if = "Option::is_none", with = "time::optional_seconds")]
    pub expiration: Option<Timestamp>,
    /// Objects seen and stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Number of errors.
    #[serde(skip_serializing_if = "is_zero")]
    pub errors: u64,
    /// Number of warnings.
    #[serde(skip_serializing_if = "is_zero")]
    pub warnings: u64,
    /// Fields that this tool only passes on.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// `status.progress`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// Objects that were to be stored.
    pub total_items: u64,
    /// Objects that were stored.
    pub items_backed_up: u64,
}

/// Why a `velero-backup.json` is not believed.
#[derive(Debug, Error)]
pub enum BackupError {
    /// No Backup object.
    #[error("{key} is no Backup object")]
    Parse {
        /// Where it was read.
        key: String,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// A Backup of another API version or another kind.
    #[error("{key} holds {kind} of {api_version} and no Backup of {API_VERSION}")]
    Kind {
        /// Where it was read.
        key: String,
        /// `kind` found.
        kind: String,
        /// `apiVersion` found.
        api_version: String,
    },
    /// Its name is not that of its folder.
    #[error("{key} calls itself `{name}`; the folder was renamed or its contents were mixed up")]
    Name {
        /// Where it was read.
        key: String,
        /// `metadata.name` found.
        name: String,
    },
    /// An archive format of another major version.
    #[error(
        "{key} has format version {version}; this tool reads versions 1 to 1.x, use a newer kubectl-backup"
    )]
    FormatVersion {
        /// Where it was read.
        key: String,
        /// `status.formatVersion` found.
        version: String,
    },
}

// serde calls it with a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Backup {
    /// Reads `velero-backup.json` of the backup `name`; `key` is where it lies, for messages.
    ///
    /// # Errors
    /// [`BackupError`] when it is no Backup, of another name, or of a format that cannot be read.
    pub fn parse(bytes: &[u8], name: &BackupName, key: &str) -> Result<Self, BackupError> {
        let key = key.to_owned();
        let backup: Self = serde_json::from_slice(bytes).map_err(|source| BackupError::Parse {
            key: key.clone(),
            source,
        })?;
        if backup.kind != "Backup" || backup.api_version != API_VERSION {
            return Err(BackupError::Kind {
                key,
                kind: backup.kind,
                api_version: backup.api_version,
            });
        }
        if backup.metadata.name != name.as_str() {
            return Err(BackupError::Name {
                key,
                name: backup.metadata.name,
            });
        }
        match &backup.status.format_version {
            Some(version) if version.split('.').next() != Some("1") => Err(BackupError::FormatVersion {
                key,
                version: version.clone(),
            }),
            _ => Ok(backup),
        }
    }

    /// The bytes to store: pretty-printed, as Velero writes them.
    ///
    /// # Errors
    /// Never in practice: all keys are strings.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec_pretty(self)
    }

    /// Identity of the source cluster and run.
    pub fn source(&self) -> Source {
        self.metadata
            .annotations
            .as_ref()
            .map(Source::from_annotations)
            .unwrap_or_default()
    }

    /// Value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// When it was begun, as far as known.
    pub fn created(&self) -> Option<Timestamp> {
        self.status.start_timestamp.or(self.metadata.creation_timestamp)
    }
}

impl BackupSpec {
    /// The fields that Velero fills in by itself and that its readers expect to find.
    pub fn velero_defaults() -> Map<String, Value> {
        let mut defaults = Map::new();
        defaults.insert("csiSnapshotTimeout".into(), "10m0s".into());
        defaults.insert("itemOperationTimeout".into(), "4h0m0s".into());
        defaults.insert("hooks".into(), Value::Object(Map::new()));
        defaults.insert("metadata".into(), Value::Object(Map::new()));
        defaults.insert("snapshotMoveData".into(), false.into());
        defaults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BY_VELERO: &str = r#"{
      "apiVersion": "velero.io/v1", "kind": "Backup",
      "metadata": {"name": "b1", "namespace": "velero", "uid": "u", "generation": 6,
        "creationTimestamp": "2026-11-01T10:00:00Z", "labels": {"velero.io/storage-location": "default"}},
      "spec": {"ttl": "720h0m0s", "storageLocation": "default", "hooks": {}, "futureField": [1, 2]},
      "status": {"version": 1, "formatVersion": "1.1.0", "phase": "Completed", "warnings": 2,
        "progress": {"totalItems": 7, "itemsBackedUp": 7}, "hookStatus": {}}}"#;

    #[test]
    fn unknown_fields_pass_through() {
        let name = BackupName::parse("b1").unwrap();
        let backup = Backup::parse(BY_VELERO.as_bytes(), &name, "k").unwrap();
        assert_eq!(backup.status.progress.unwrap().total_items, 7);
        let again: Value = serde_json::from_slice(&backup.to_bytes().unwrap()).unwrap();
        assert_eq!(again, serde_json::from_str::<Value>(BY_VELERO).unwrap());
    }

    #[test]
    fn foreign_documents_are_refused() {
        let name = BackupName::parse("b1").unwrap();
        let parse = |text: &str| Backup::parse(text.as_bytes(), &name, "k");
        assert!(matches!(parse("{"), Err(BackupError::Parse { .. })));
        assert!(matches!(
            parse(&BY_VELERO.replace("\"Backup\"", "\"Restore\"")),
            Err(BackupError::Kind { .. })
        ));
        assert!(matches!(
            parse(&BY_VELERO.replace("\"b1\"", "\"b2\"")),
            Err(BackupError::Name { .. })
        ));
        assert!(matches!(
            parse(&BY_VELERO.replace("1.1.0", "2.0")),
            Err(BackupError::FormatVersion { .. })
        ));
    }
}
