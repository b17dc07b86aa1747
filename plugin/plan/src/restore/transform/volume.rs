//! Volumes and claims: which claim keeps its volume, and which gets a new one.
//!
//! A volume with reclaim policy Retain outlives its claim, so it is restored as it is and bound to its claim again. One with
//! Delete is gone with its claim: the claim is provisioned anew, empty, and that is said. A claim whose data is in the
//! backup gets a new volume in any case, which is filled.

use serde_json::{Map, Value};

use super::{Note, Options, at, remove};

/// What becomes of the volume that a claim is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeFate {
    /// It is restored, or exists in the cluster: the claim stays bound to it.
    Kept,
    /// It is in the backup but not restored: the claim gets a new one.
    ProvisionedAnew,
    /// It is neither in the backup nor in the cluster: the claim gets a new one.
    Missing,
    /// Its data is in the backup: the claim gets a new one, which is filled before anybody uses it.
    Filled,
}

/// The fate of a PersistentVolume of the backup.
pub fn volume_fate(volume: &Value) -> VolumeFate {
    match volume
        .pointer("/spec/persistentVolumeReclaimPolicy")
        .and_then(Value::as_str)
    {
        Some("Delete") => VolumeFate::ProvisionedAnew,
        _ => VolumeFate::Kept,
    }
}

const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

pub(super) fn claim(
    fields: &mut Map<String, Value>,
    fate: &dyn Fn(&str) -> VolumeFate,
    notes: &mut Vec<Note>,
) {
    remove(
        fields,
        &["metadata", "annotations"],
        &[
            BIND_COMPLETED,
            BOUND_BY_CONTROLLER,
            "volume.kubernetes.io/storage-provisioner",
            "volume.beta.kubernetes.io/storage-provisioner",
            "volume.kubernetes.io/selected-node",
            "velero.io/volume-snapshot-name",
            "velero.io/data-upload-name",
        ],
    );
    let Some(spec) = at(fields, &["spec"]) else { return };
    let volume = spec
        .get("volumeName")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    if volume.is_empty() {
        return;
    }
    // The source had its say when the volume was filled; now it may not even exist.
    let sources = [spec.remove("dataSource"), spec.remove("dataSourceRef")];
    if sources.into_iter().flatten().any(|source| !source.is_null()) {
        notes.push(Note::DataSourceDropped);
    }
    let note = match fate(&volume) {
        VolumeFate::Kept => return,
        VolumeFate::ProvisionedAnew => Some(Note::EmptyVolume { volume }),
        VolumeFate::Missing => Some(Note::VolumeMissing { volume }),
        VolumeFate::Filled => None,
    };
    // Without a class the selector is all that finds a volume; with one it would keep the claim from a new volume.
    if spec.get("storageClassName").and_then(Value::as_str) != Some("") {
        spec.remove("selector");
    }
    spec.remove("volumeName");
    notes.extend(note);
}

pub(super) fn persistent_volume(fields: &mut Map<String, Value>, options: &Options) {
    remove(fields, &["spec", "claimRef"], &["uid", "resourceVersion"]);
    remove(
        fields,
        &["metadata", "annotations"],
        &[BIND_COMPLETED, BOUND_BY_CONTROLLER],
    );
    options.map_at(fields, &["spec", "claimRef"], "namespace");
}
