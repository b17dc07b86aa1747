//! Which cluster a backup came from, and which run made it: annotations on the Backup object.
//!
//! Retention and deletion act only on backups whose identity equals the one they were asked for, so that several
//! clusters may share a prefix. Velero's own three annotations about the server version are written beside ours.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Annotation with the UID of the source cluster's `kube-system` namespace.
pub const CLUSTER_UID: &str = "kubectl-backup.io/source-cluster-uid";
/// Annotation with the source cluster's name: kubeconfig context or Cluster API name.
pub const CLUSTER_NAME: &str = "kubectl-backup.io/source-cluster-name";
/// Annotation with the version of the tool that wrote the backup.
pub const TOOL_VERSION: &str = "kubectl-backup.io/tool-version";
/// Annotation with the id of the run that wrote the backup.
pub const RUN_ID: &str = "kubectl-backup.io/run-id";
/// Annotation with the schedule that the backup belongs to.
pub const SCHEDULE: &str = "kubectl-backup.io/schedule";
/// Annotation with the time until which every file of the backup was locked when it was written, RFC 3339.
pub const LOCKED_UNTIL: &str = "kubectl-backup.io/locked-until";
/// Velero's label for the schedule.
pub const VELERO_SCHEDULE: &str = "velero.io/schedule-name";
/// Velero's annotation with the server's git version.
pub const VELERO_GIT_VERSION: &str = "velero.io/source-cluster-k8s-gitversion";
/// Velero's annotation with the server's major version.
pub const VELERO_MAJOR: &str = "velero.io/source-cluster-k8s-major-version";
/// Velero's annotation with the server's minor version.
pub const VELERO_MINOR: &str = "velero.io/source-cluster-k8s-minor-version";

/// Identity of the cluster and the run behind a backup. Empty strings stand for what is not known (a backup by Velero).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Source {
    /// UID of `kube-system`.
    pub cluster_uid: String,
    /// Context or Cluster API name.
    pub cluster_name: String,
    /// `gitVersion` of the API server.
    pub kubernetes_version: String,
    /// Version of this tool.
    pub tool_version: String,
    /// Id of the run.
    pub run_id: String,
    /// Schedule, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
}

impl Source {
    /// The annotations that carry this identity.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let (major, minor) = major_minor(&self.kubernetes_version);
        let mut annotations: BTreeMap<String, String> = [
            (CLUSTER_UID, self.cluster_uid.clone()),
            (CLUSTER_NAME, self.cluster_name.clone()),
            (TOOL_VERSION, self.tool_version.clone()),
            (RUN_ID, self.run_id.clone()),
            (VELERO_GIT_VERSION, self.kubernetes_version.clone()),
            (VELERO_MAJOR, major.to_owned()),
            (VELERO_MINOR, minor.to_owned()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
        if let Some(schedule) = &self.schedule {
            annotations.insert(SCHEDULE.to_owned(), schedule.clone());
        }
        annotations
    }

    /// Reads the identity back; fields that are not annotated stay empty.
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Self {
        let get = |key: &str| annotations.get(key).cloned().unwrap_or_default();
        Self {
            cluster_uid: get(CLUSTER_UID),
            cluster_name: get(CLUSTER_NAME),
            kubernetes_version: get(VELERO_GIT_VERSION),
            tool_version: get(TOOL_VERSION),
            run_id: get(RUN_ID),
            schedule: annotations.get(SCHEDULE).cloned(),
        }
    }
}

fn major_minor(git_version: &str) -> (&str, &str) {
    let mut parts = git_version.trim_start_matches('v').split('.');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_survives_the_annotations() {
        let source = Source {
            cluster_uid: "6e0c".into(),
            cluster_name: "prod".into(),
            kubernetes_version: "v1.34.4".into(),
            tool_version: "0.1.0".into(),
            run_id: "r".into(),
            schedule: Some("nightly".into()),
        };
        let annotations = source.annotations();
        assert_eq!(annotations[VELERO_MINOR], "34");
        assert_eq!(Source::from_annotations(&annotations), source);
    }
}
