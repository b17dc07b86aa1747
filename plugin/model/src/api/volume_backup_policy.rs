//! `VolumeBackupPolicy`: which volumes of which pods are opted in to file-system backup, by rule instead of by hand.
//!
//! Policies add up and know no order; one with action `Exclude` wins over all that include. An empty selector matches
//! everything, an absent list in [`VolumeRule`] too.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Opts volumes of pods in to file-system backup, or out of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "kubectl-backup.io",
    version = "v1alpha1",
    kind = "VolumeBackupPolicy",
    plural = "volumebackuppolicies",
    shortname = "vbp",
    category = "backup",
    status = "VolumeBackupPolicyStatus",
    derive = "PartialEq",
    crates(
        kube_core = "::kube_core",
        k8s_openapi = "::k8s_openapi",
        schemars = "::schemars"
    ),
    printcolumn(name = "Action", type_ = "string", json_path = ".spec.action"),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.pods"),
    printcolumn(name = "Volumes", type_ = "integer", json_path = ".status.volumes"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct VolumeBackupPolicySpec {
    /// What becomes of the volumes that match; `Include` unless said otherwise.
    #[serde(default)]
    pub action: PolicyAction,
    /// Labels of the namespaces it holds for; all of them unless said otherwise.
    #[serde(default)]
    pub namespace_selector: LabelSelector,
    /// Labels of the pods it holds for; all of them unless said otherwise.
    #[serde(default)]
    pub pod_selector: LabelSelector,
    /// Which of their volumes.
    #[serde(default)]
    pub volumes: VolumeRule,
}

/// What a policy does with a volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PolicyAction {
    /// Its files are backed up.
    #[default]
    Include,
    /// They are not, whatever other policies say.
    Exclude,
}

/// Facts of a volume that must all hold. What is not said holds for every volume.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeRule {
    /// Names of claims; `*` and `?` stand for any text and any character.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claim_names: Vec<String>,
    /// Storage classes of claims.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub storage_classes: Vec<String>,
    /// Types of volumes; claims (persistent and ephemeral) unless said otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<VolumeType>,
    /// The smallest capacity, itself included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_capacity: Option<Quantity>,
    /// The largest capacity, itself included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_capacity: Option<Quantity>,
}

/// Where a volume's data comes from, as far as Velero can back its files up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum VolumeType {
    /// A PersistentVolumeClaim.
    PersistentVolumeClaim,
    /// A claim that comes and goes with the pod.
    Ephemeral,
    /// A folder that comes and goes with the pod.
    EmptyDir,
    /// A CSI volume without a claim.
    Csi,
    /// NFS without a claim.
    Nfs,
}

/// What the policy amounts to in the cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeBackupPolicyStatus {
    /// The generation of the spec that the rest was counted for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Running pods that it matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<i64>,
    /// Volumes of them that it matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<i64>,
    /// Volumes that it includes and something else excludes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflicts: Option<i64>,
    /// `Ready`, and `Conflicting` where `conflicts` is not 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
