//! The paths that a comparison does not count, each with its kinds and its reason.
//!
//! A path covers everything below it; `[*]` stands for any position in a list.

use std::{fmt, sync::LazyLock};

use serde_json::Value;
use velero_model::resource::ApiKind;

use crate::kinds::is_built_in_group;

/// The kinds for which an entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinds {
    /// Every kind.
    All,
    /// Kinds that the API server defines.
    BuiltIn,
    /// These, as `plural.group`.
    These(&'static [&'static str]),
    /// Secrets that hold the token of a service account; a field of the same name in another Secret counts.
    TokenSecrets,
}

impl Kinds {
    /// Whether this object of the kind is meant.
    pub fn contains(self, kind: &ApiKind, object: &Value) -> bool {
        match self {
            Self::All => true,
            Self::TokenSecrets => {
                kind.group.is_empty()
                    && kind.plural == "secrets"
                    && object["type"] == "kubernetes.io/service-account-token"
            }
            Self::BuiltIn => is_built_in_group(&kind.group),
            Self::These(names) => names.contains(&kind.resource_group().as_str()),
        }
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::BuiltIn => f.write_str("built-in"),
            Self::These(names) => f.write_str(&names.join(", ")),
            Self::TokenSecrets => f.write_str("secrets of type kubernetes.io/service-account-token"),
        }
    }
}

/// One path that does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IgnoredPath {
    /// For which kinds.
    pub kinds: Kinds,
    /// The path, with everything below it.
    pub path: &'static str,
    /// Why.
    pub reason: &'static str,
}

const fn ignored(kinds: Kinds, path: &'static str, reason: &'static str) -> IgnoredPath {
    IgnoredPath { kinds, path, reason }
}

const SERVICES: Kinds = Kinds::These(&["services"]);
const CLAIMS: Kinds = Kinds::These(&["persistentvolumeclaims"]);
const VOLUMES: Kinds = Kinds::These(&["persistentvolumes"]);
const JOBS: Kinds = Kinds::These(&["jobs.batch"]);
const ROLLED_OUT: Kinds = Kinds::These(&["deployments.apps", "replicasets.apps"]);

/// An object of a backup against the object restored from it, or against the one found in its place.
pub const RESTORED: &[IgnoredPath] = &[
    ignored(Kinds::All, "metadata.uid", "set by the API server"),
    ignored(Kinds::All, "metadata.resourceVersion", "set by the API server"),
    ignored(Kinds::All, "metadata.creationTimestamp", "set by the API server"),
    ignored(Kinds::All, "metadata.generation", "counted by the API server"),
    ignored(Kinds::All, "metadata.managedFields", "kept by the API server"),
    ignored(
        Kinds::All,
        "metadata.generateName",
        "the name was given when the object was first made",
    ),
    ignored(
        Kinds::All,
        "metadata.ownerReferences[*].uid",
        "the owner has a new UID",
    ),
    ignored(
        Kinds::All,
        r#"metadata.labels["velero.io/backup-name"]"#,
        "set by the restore",
    ),
    ignored(
        Kinds::All,
        r#"metadata.labels["velero.io/restore-name"]"#,
        "set by the restore",
    ),
    ignored(
        CLAIMS,
        r#"metadata.annotations["kubectl-backup.io/filled-with-snapshot"]"#,
        "set by the restore",
    ),
    ignored(
        CLAIMS,
        r#"metadata.annotations["kubectl-backup.io/filled-by-restore"]"#,
        "set by the restore",
    ),
    ignored(Kinds::BuiltIn, "status", "written by the cluster's controllers"),
    ignored(SERVICES, "spec.clusterIP", "assigned by the cluster"),
    ignored(SERVICES, "spec.clusterIPs", "assigned by the cluster"),
    ignored(
        SERVICES,
        "spec.ports[*].nodePort",
        "assigned by the cluster unless chosen",
    ),
    ignored(
        SERVICES,
        "spec.healthCheckNodePort",
        "assigned by the cluster unless chosen",
    ),
    ignored(
        ROLLED_OUT,
        r#"metadata.annotations["deployment.kubernetes.io/revision"]"#,
        "counted by the deployment controller",
    ),
    ignored(
        JOBS,
        "metadata.labels.controller-uid",
        "the job's UID, taken over from its template",
    ),
    ignored(
        JOBS,
        r#"metadata.labels["batch.kubernetes.io/controller-uid"]"#,
        "the job's UID, taken over from its template",
    ),
    ignored(JOBS, "spec.selector.matchLabels.controller-uid", "the job's UID"),
    ignored(
        JOBS,
        r#"spec.selector.matchLabels["batch.kubernetes.io/controller-uid"]"#,
        "the job's UID",
    ),
    ignored(
        JOBS,
        "spec.template.metadata.labels.controller-uid",
        "the job's UID",
    ),
    ignored(
        JOBS,
        r#"spec.template.metadata.labels["batch.kubernetes.io/controller-uid"]"#,
        "the job's UID",
    ),
    ignored(
        CLAIMS,
        "spec.volumeName",
        "a claim without data gets a new volume",
    ),
    ignored(CLAIMS, "spec.dataSource", "dropped: it was filled long ago"),
    ignored(CLAIMS, "spec.dataSourceRef", "dropped: it was filled long ago"),
    ignored(
        CLAIMS,
        r#"metadata.annotations["pv.kubernetes.io/bind-completed"]"#,
        "written when a claim is bound",
    ),
    ignored(
        CLAIMS,
        r#"metadata.annotations["pv.kubernetes.io/bound-by-controller"]"#,
        "written when a claim is bound",
    ),
    ignored(
        CLAIMS,
        r#"metadata.annotations["volume.kubernetes.io/storage-provisioner"]"#,
        "written when a claim is provisioned",
    ),
    ignored(
        CLAIMS,
        r#"metadata.annotations["volume.beta.kubernetes.io/storage-provisioner"]"#,
        "written when a claim is provisioned",
    ),
    ignored(
        CLAIMS,
        r#"metadata.annotations["volume.kubernetes.io/selected-node"]"#,
        "written when a pod is scheduled",
    ),
    ignored(VOLUMES, "spec.claimRef.uid", "the claim has a new UID"),
    ignored(
        VOLUMES,
        "spec.claimRef.resourceVersion",
        "the claim is a new object",
    ),
    ignored(
        VOLUMES,
        r#"metadata.annotations["pv.kubernetes.io/bound-by-controller"]"#,
        "written when a claim is bound",
    ),
    ignored(
        Kinds::These(&["pods"]),
        "spec.nodeName",
        "chosen by the scheduler",
    ),
    ignored(
        Kinds::These(&["serviceaccounts"]),
        "secrets",
        "tokens are issued anew",
    ),
    ignored(
        Kinds::TokenSecrets,
        r#"metadata.annotations["kubernetes.io/service-account.uid"]"#,
        "the account has a new UID",
    ),
    ignored(
        Kinds::TokenSecrets,
        "data.token",
        "issued anew for service accounts",
    ),
    ignored(
        Kinds::TokenSecrets,
        r#"data["ca.crt"]"#,
        "the new cluster's certificate, for service accounts",
    ),
];

const ENDPOINTS: Kinds = Kinds::These(&["endpoints", "endpointslices.discovery.k8s.io"]);

/// One object at two times: what its server and its controllers keep count of.
pub const SAME_OBJECT: &[IgnoredPath] = &[
    ignored(Kinds::All, "metadata.resourceVersion", "set by the API server"),
    ignored(Kinds::All, "metadata.generation", "counted by the API server"),
    ignored(Kinds::All, "metadata.managedFields", "kept by the API server"),
    ignored(Kinds::All, "status", "written by controllers"),
    ignored(
        Kinds::All,
        r#"metadata.labels["velero.io/backup-name"]"#,
        "set by a restore",
    ),
    ignored(
        Kinds::All,
        r#"metadata.labels["velero.io/restore-name"]"#,
        "set by a restore",
    ),
    ignored(
        CLAIMS,
        r#"metadata.annotations["kubectl-backup.io/filled-with-snapshot"]"#,
        "set by a restore",
    ),
    ignored(
        CLAIMS,
        r#"metadata.annotations["kubectl-backup.io/filled-by-restore"]"#,
        "set by a restore",
    ),
    ignored(
        ROLLED_OUT,
        r#"metadata.annotations["deployment.kubernetes.io/revision"]"#,
        "counted by the deployment controller",
    ),
    ignored(
        ENDPOINTS,
        r#"metadata.annotations["endpoints.kubernetes.io/last-change-trigger-time"]"#,
        "written by the endpoints controllers",
    ),
];

/// An object against another one of its name: what does not count between two times, and what a cluster gives to an object
/// that is made anew.
pub static MADE_ANEW: LazyLock<Vec<IgnoredPath>> = LazyLock::new(|| {
    let names_path = |path| {
        RESTORED
            .iter()
            .any(|known| known.kinds == Kinds::All && known.path == path)
    };
    let more = SAME_OBJECT.iter().filter(|entry| !names_path(entry.path));
    RESTORED.iter().chain(more).copied().collect()
});

/// An object of a backup against the same object in the cluster it came from: identical.
pub const LIVE_VS_BACKUP: &[IgnoredPath] = &[];
