//! Velero's resource policies, as far as they are about volumes.
//!
//! In comes the YAML of a ConfigMap that Velero's `--resource-policies-configmap` takes; out go checked policies, and for the
//! facts of a volume what the first one that matches says. All conditions of a policy have to hold. Read as Velero reads it
//! (`internal/resourcepolicies`), but a word that it would pass over is an error. Lists of kinds (`includeExcludePolicy`) are
//! refused: a backup has flags for those.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::quantity::Quantity;
use crate::yaml;

/// Kinds of volume sources whose key says what they are, wherever it stands: in a pod or in a PersistentVolume.
const NOT_SOURCES: [&str; 8] = [
    "name",
    "capacity",
    "accessModes",
    "claimRef",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "mountOptions",
    "volumeMode",
];

/// Why a text is no resource policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResourcePolicyError {
    /// It is no YAML, or has another shape.
    #[error("it is no resource policy: {0}")]
    Shape(String),
    /// One policy means nothing.
    #[error("volume policy number {number}: {reason}")]
    Policy {
        /// From one.
        number: usize,
        /// Why.
        reason: String,
    },
}

/// What is to be done with a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Not backed up.
    Skip,
    /// Its files are read.
    FsBackup,
    /// A snapshot is taken, or somebody else's program does it.
    Other,
}

/// Policies in their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResourcePolicies {
    policies: Vec<(Conditions, Action)>,
}

/// What policies ask about a volume. All of it borrowed from JSON of the cluster.
#[derive(Debug, Clone, Copy, Default)]
pub struct VolumeView<'a> {
    /// The volume as the pod has it.
    pub of_pod: Option<&'a Value>,
    /// Its claim.
    pub claim: Option<&'a Value>,
    /// Its PersistentVolume.
    pub persistent_volume: Option<&'a Value>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    version: Value,
    #[serde(default)]
    volume_policies: Vec<Value>,
    #[serde(default)]
    include_exclude_policy: Value,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    #[serde(default)]
    conditions: Conditions,
    action: WrittenAction,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenAction {
    r#type: String,
    #[serde(default)]
    #[allow(dead_code)] // For snapshots, which are not taken here.
    parameters: Value,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Conditions {
    #[serde(deserialize_with = "range")]
    capacity: Option<Range>,
    storage_class: Vec<String>,
    nfs: Option<Nfs>,
    csi: Option<Csi>,
    volume_types: Vec<String>,
    pvc_labels: BTreeMap<String, String>,
    pvc_phase: Vec<String>,
    pvc_volume_mode: String,
    pvc_access_modes: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Range {
    from: Option<Quantity>,
    to: Option<Quantity>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Nfs {
    server: String,
    path: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Csi {
    driver: String,
    volume_attributes: BTreeMap<String, String>,
}

fn range<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Range>, D::Error> {
    use serde::de::Error;
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let odd = || {
        D::Error::custom(format!(
            "capacity {text:?} is no range; write for example \"10Gi,100Gi\""
        ))
    };
    let (from, to) = text.split_once(',').ok_or_else(odd)?;
    let bound = |text: &str| -> Result<Option<Quantity>, D::Error> {
        match text.trim() {
            "" => Ok(None),
            text => Quantity::parse(text).map(Some).map_err(|_| odd()),
        }
    };
    let range = Range {
        from: bound(from)?,
        to: bound(to)?,
    };
    match range {
        Range { from: None, to: None } => Err(odd()),
        Range {
            from: Some(from),
            to: Some(to),
        } if from > to => Err(odd()),
        range => Ok(Some(range)),
    }
}

impl ResourcePolicies {
    /// Reads them.
    ///
    /// # Errors
    /// [`ResourcePolicyError`].
    pub fn parse(text: &str) -> Result<Self, ResourcePolicyError> {
        let shape = |reason: String| ResourcePolicyError::Shape(reason);
        let document = yaml::parse(text, true).map_err(shape)?;
        let document = Document::deserialize(&document).map_err(|error| shape(error.to_string()))?;
        if document.version != "v1" {
            return Err(shape(format!("version {} is not v1", document.version)));
        }
        if !document.include_exclude_policy.is_null() {
            return Err(shape(
                "includeExcludePolicy is not read here; give --include-resources and --exclude-resources and their like \
                 instead"
                    .to_owned(),
            ));
        }
        let policies = document
            .volume_policies
            .iter()
            .enumerate()
            .map(|(number, policy)| {
                read(policy).map_err(|reason| ResourcePolicyError::Policy {
                    number: number + 1,
                    reason,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { policies })
    }

    /// What the first policy that matches says; `None` where none does.
    pub fn action(&self, volume: &VolumeView<'_>) -> Option<Action> {
        let (_, action) = self
            .policies
            .iter()
            .find(|(conditions, _)| conditions.match_volume(volume))?;
        Some(*action)
    }
}

fn read(policy: &Value) -> Result<(Conditions, Action), String> {
    let written = Written::deserialize(policy).map_err(|error| error.to_string())?;
    let action = match written.action.r#type.as_str() {
        "skip" => Action::Skip,
        "fs-backup" => Action::FsBackup,
        "snapshot" | "custom" => Action::Other,
        other => {
            return Err(format!(
                "action {other:?} is none of skip, fs-backup, snapshot and custom"
            ));
        }
    };
    Ok((written.conditions, action))
}

impl Conditions {
    fn match_volume(&self, volume: &VolumeView<'_>) -> bool {
        let at = |object: Option<&Value>, pointer: &str| -> String {
            let found = object
                .and_then(|object| object.pointer(pointer))
                .and_then(Value::as_str);
            found.unwrap_or_default().to_owned()
        };
        let source = match volume.persistent_volume {
            Some(found) => found.get("spec"),
            None => volume.of_pod,
        };
        let words = |list: &[String], word: &str| list.is_empty() || list.iter().any(|one| one == word);
        let capacity = Quantity::parse(&at(volume.persistent_volume, "/spec/capacity/storage"))
            .or_else(|_| Quantity::parse("0"))
            .ok();
        let is_within = |range: &Range| {
            range.from.is_none_or(|from| capacity >= Some(from))
                && range.to.is_none_or(|to| capacity <= Some(to))
        };
        let is_nfs = |nfs: &Nfs| {
            let is =
                |wanted: &str, key: &str| wanted.is_empty() || at(source, &format!("/nfs/{key}")) == wanted;
            source.is_some_and(|source| source["nfs"].is_object())
                && is(&nfs.server, "server")
                && is(&nfs.path, "path")
        };
        let is_csi = |csi: &Csi| {
            let attributes = csi.volume_attributes.iter();
            source.is_some_and(|source| source["csi"].is_object())
                && (csi.driver.is_empty() || at(source, "/csi/driver") == csi.driver)
                && attributes.clone().all(|(key, value)| {
                    source.is_some_and(|source| source["csi"]["volumeAttributes"][key] == value.as_str())
                })
        };
        let types: BTreeSet<&str> = source
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter(|(key, value)| value.is_object() && !NOT_SOURCES.contains(&key.as_str()))
            .map(|(key, _)| key.as_str())
            .collect();
        let modes: BTreeSet<&str> = volume
            .claim
            .and_then(|claim| claim.pointer("/spec/accessModes")?.as_array())
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let wanted_modes: BTreeSet<&str> = self.pvc_access_modes.iter().map(String::as_str).collect();
        let mode = at(volume.claim, "/spec/volumeMode");
        self.capacity.as_ref().is_none_or(is_within)
            && words(
                &self.storage_class,
                &at(volume.persistent_volume, "/spec/storageClassName"),
            )
            && self.nfs.as_ref().is_none_or(is_nfs)
            && self.csi.as_ref().is_none_or(is_csi)
            && (self.volume_types.is_empty()
                || self.volume_types.iter().any(|kind| types.contains(kind.as_str())))
            && self.pvc_labels.iter().all(|(key, value)| {
                volume
                    .claim
                    .is_some_and(|claim| claim["metadata"]["labels"][key] == value.as_str())
            })
            && (self.pvc_phase.is_empty() || words(&self.pvc_phase, &at(volume.claim, "/status/phase")))
            && (self.pvc_volume_mode.is_empty() || self.pvc_volume_mode == mode)
            && (wanted_modes.is_empty() || wanted_modes == modes)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn action(policies: &str, volume: &VolumeView<'_>) -> Option<Action> {
        ResourcePolicies::parse(policies).unwrap().action(volume)
    }

    #[test]
    fn the_first_policy_whose_conditions_all_hold_decides() {
        let claim = json!({
            "metadata": { "labels": { "tier": "gold" } }, "status": { "phase": "Bound" },
            "spec": { "accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem" },
        });
        let volume = json!({ "spec": {
            "capacity": { "storage": "10Gi" }, "storageClassName": "gp2",
            "csi": { "driver": "ebs.csi.aws.com", "volumeAttributes": { "a": "b" } },
        } });
        let of_pod = json!({ "name": "data", "persistentVolumeClaim": { "claimName": "data" } });
        let claimed = VolumeView {
            of_pod: Some(&of_pod),
            claim: Some(&claim),
            persistent_volume: Some(&volume),
        };
        let empty = json!({ "name": "tmp", "emptyDir": {} });
        let scratch = VolumeView {
            of_pod: Some(&empty),
            ..VolumeView::default()
        };
        let nfs = json!({ "name": "n", "nfs": { "server": "10.0.0.1", "path": "/x" } });
        let mounted = VolumeView {
            of_pod: Some(&nfs),
            ..VolumeView::default()
        };
        for (conditions, view, matches) in [
            ("{}", &claimed, true),
            ("{capacity: '10Gi,'}", &claimed, true),
            ("{capacity: '0,5Gi'}", &claimed, false),
            ("{capacity: '0,5Gi'}", &scratch, true),
            ("{storageClass: [gp2, gp3]}", &claimed, true),
            ("{storageClass: [gp3]}", &claimed, false),
            ("{storageClass: [gp2]}", &scratch, false),
            ("{csi: {}}", &claimed, true),
            (
                "{csi: {driver: ebs.csi.aws.com, volumeAttributes: {a: b}}}",
                &claimed,
                true,
            ),
            (
                "{csi: {driver: ebs.csi.aws.com, volumeAttributes: {a: c}}}",
                &claimed,
                false,
            ),
            ("{csi: {}}", &scratch, false),
            ("{nfs: {}}", &mounted, true),
            ("{nfs: {server: 10.0.0.1, path: /y}}", &mounted, false),
            ("{volumeTypes: [emptyDir, csi]}", &scratch, true),
            ("{volumeTypes: [emptyDir, csi]}", &claimed, true),
            ("{volumeTypes: [capacity]}", &claimed, false),
            ("{pvcLabels: {tier: gold}}", &claimed, true),
            ("{pvcLabels: {tier: iron}}", &claimed, false),
            ("{pvcLabels: {tier: gold}}", &scratch, false),
            ("{pvcPhase: [Bound, Lost]}", &claimed, true),
            ("{pvcPhase: [Pending]}", &claimed, false),
            ("{pvcVolumeMode: Block}", &claimed, false),
            ("{pvcAccessModes: [ReadWriteOnce]}", &claimed, true),
            ("{pvcAccessModes: [ReadWriteOnce, ReadOnlyMany]}", &claimed, false),
            ("{storageClass: [gp2], pvcPhase: [Pending]}", &claimed, false),
        ] {
            let text =
                format!("version: v1\nvolumePolicies:\n- conditions: {conditions}\n  action: {{type: skip}}");
            let found = action(&text, view);
            assert_eq!(found == Some(Action::Skip), matches, "{conditions}");
        }
        let ordered = "version: v1\nvolumePolicies: [{conditions: {csi: {}}, action: {type: snapshot, parameters: {a: b}}}, \
                       {action: {type: fs-backup}}]";
        assert_eq!(action(ordered, &claimed), Some(Action::Other));
        assert_eq!(action(ordered, &scratch), Some(Action::FsBackup));
        assert_eq!(action("version: v1", &claimed), None);
    }

    #[test]
    fn what_velero_would_pass_over_is_refused() {
        for (text, expected) in [
            ("version: v2", "not v1"),
            ("{}", "version"),
            ("version: v1\nvolumePolicy: []", "unknown field"),
            (
                "version: v1\nincludeExcludePolicy: {includedNamespaceScopedResources: [pods]}",
                "--include-resources",
            ),
            (
                "version: v1\nvolumePolicies: [{conditions: {capacity: 10Gi}, action: {type: skip}}]",
                "number 1: capacity",
            ),
            (
                "version: v1\nvolumePolicies: [{conditions: {capacity: '9,8'}, action: {type: skip}}]",
                "no range",
            ),
            (
                "version: v1\nvolumePolicies: [{conditions: {size: 1}, action: {type: skip}}]",
                "unknown field",
            ),
            (
                "version: v1\nvolumePolicies: [{action: {type: ignore}}]",
                "none of skip",
            ),
            ("version: v1\nvolumePolicies: [{conditions: {}}]", "action"),
        ] {
            let error = ResourcePolicies::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
