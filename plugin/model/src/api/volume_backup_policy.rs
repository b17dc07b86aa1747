//! `VolumeBackupPolicy`: which volumes of which pods are opted in to file-system backup, by rule instead of by hand.
//!
//! Policies add up and know no order; one with action `Exclude` wins over all that include. An empty selector matches
//! everything, an absent list in [`VolumeRule`] too. What the API server can check by itself it checks: the schema of
//! `VolumeBackupPolicy::crd()` carries patterns and rules in CEL; the plan crate checks the same once more where it
//! compiles a policy.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube_derive::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
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
    #[schemars(schema_with = "selector")]
    pub namespace_selector: LabelSelector,
    /// Labels of the pods it holds for; all of them unless said otherwise.
    #[serde(default)]
    #[schemars(schema_with = "selector")]
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
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.minimumCapacity) || !has(self.maximumCapacity) || \
                 quantity(self.minimumCapacity).compareTo(quantity(self.maximumCapacity)) <= 0",
        "message": "minimumCapacity is larger than maximumCapacity: no volume can match",
    },
    {
        "rule": "!has(self.types) || size(self.types) == 0 || \
                 self.types.exists(t, t == 'PersistentVolumeClaim' || t == 'Ephemeral') || \
                 !(has(self.claimNames) && size(self.claimNames) > 0 || \
                 has(self.storageClasses) && size(self.storageClasses) > 0 || \
                 has(self.minimumCapacity) || has(self.maximumCapacity))",
        "message": "names, classes and capacities are those of claims: types must have PersistentVolumeClaim or Ephemeral",
    },
]))]
pub struct VolumeRule {
    /// Names of claims; `*` and `?` stand for any text and any character.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 128),
        inner(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9.*?-]+$"))
    )]
    pub claim_names: Vec<String>,
    /// Storage classes of claims.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), inner(length(min = 1, max = 253)))]
    pub storage_classes: Vec<String>,
    /// Types of volumes; claims (persistent and ephemeral) unless said otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub types: Vec<VolumeType>,
    /// The smallest capacity, itself included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "capacity")]
    pub minimum_capacity: Option<Quantity>,
    /// The largest capacity, itself included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "capacity")]
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
    /// Running pods of which it matches a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<i64>,
    /// Volumes of them that it matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<i64>,
    /// Volumes about which something else says the contrary: it includes what is excluded, or it excludes what a pod's own
    /// annotation lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflicts: Option<i64>,
    /// `Ready` (false for a policy that makes no sense, with the reason) and `Conflicting` (true where `conflicts` is not 0).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A LabelSelector whose parts the API server can check.
fn selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": {
                "description": "Each of these labels must have this value.",
                "type": "object",
                "additionalProperties": { "type": "string", "maxLength": 63 },
            },
            "matchExpressions": {
                "description": "Each of these requirements must hold.",
                "type": "array",
                "maxItems": 32,
                "x-kubernetes-list-type": "atomic",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": { "type": "string", "minLength": 1, "maxLength": 317 },
                        "operator": { "type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"] },
                        "values": {
                            "type": "array",
                            "maxItems": 128,
                            "x-kubernetes-list-type": "atomic",
                            "items": { "type": "string", "maxLength": 63 },
                        },
                    },
                    "x-kubernetes-validations": [{
                        "rule": "self.operator in ['In', 'NotIn'] == (has(self.values) && size(self.values) > 0)",
                        "message": "In and NotIn need values, Exists and DoesNotExist take none",
                    }],
                },
            },
        },
    })
}

/// A quantity that is not negative, as text.
fn capacity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 32,
        "pattern": r"^(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE][+-]?[0-9]+))?$",
    })
}

#[cfg(test)]
mod tests {
    use kube_core::CustomResourceExt;

    use super::*;

    #[test]
    fn the_schema_is_structural_and_carries_its_rules() {
        let crd = serde_json::to_value(VolumeBackupPolicy::crd()).unwrap();
        let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let volumes = &spec["properties"]["volumes"];
        assert_eq!(volumes["x-kubernetes-validations"].as_array().unwrap().len(), 2);
        assert_eq!(
            volumes["properties"]["claimNames"]["items"]["pattern"],
            "^[a-z0-9.*?-]+$"
        );
        assert_eq!(volumes["properties"]["minimumCapacity"]["maxLength"], 32);
        let expression = &spec["properties"]["podSelector"]["properties"]["matchExpressions"]["items"];
        assert_eq!(expression["properties"]["operator"]["enum"][3], "DoesNotExist");
        assert!(expression["x-kubernetes-validations"][0]["rule"].is_string());
        assert!(!crd.to_string().contains("$ref"));
    }
}
