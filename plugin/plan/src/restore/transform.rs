//! From an object of the backup to what is written.
//!
//! In comes one object as JSON with the options of the restore; out goes [`Transformed`]: the body to create, the owners it
//! had (the executor maps their UIDs and puts them back), the status if it is restored too, and notes on everything that a
//! person should hear about. The rules are Velero's item actions, one file per subject. Nothing fails: a field of an
//! unexpected type is left alone for the API server to judge. Transforming a body again changes nothing, except that
//! explicit node ports which only `managedFields` prove are forgotten with those.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use velero_model::resource::ApiKind;

mod account;
mod metadata;
mod registration;
mod service;
mod volume;
mod workload;

pub use account::merge_service_account;
pub use metadata::owners_of;
pub use velero_model::name::label_value;
pub use volume::{VolumeFate, volume_fate};

/// Label that names the backup an object came from.
pub const BACKUP_LABEL: &str = "velero.io/backup-name";
/// Label that names the restore that wrote an object.
pub const RESTORE_LABEL: &str = "velero.io/restore-name";
/// Annotation by which an object asks for its status to be restored or not.
pub const RESTORE_STATUS: &str = "velero.io/restore-status";

/// What was asked of the restore.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Name of the backup, for the label; empty sets none.
    pub backup_name: String,
    /// Name of the restore, for the label; empty sets none.
    pub restore_name: String,
    /// `--namespace-mappings`, from backup to cluster.
    pub namespace_mapping: BTreeMap<String, String>,
    /// `--preserve-nodeports`.
    pub preserve_node_ports: bool,
    /// `--status-include-resources`, as resource groups.
    pub status_kinds: BTreeSet<String>,
}

impl Options {
    /// The namespace into which objects of this one go.
    pub fn map_namespace<'a>(&'a self, namespace: &'a str) -> &'a str {
        self.namespace_mapping
            .get(namespace)
            .map_or(namespace, String::as_str)
    }

    /// Maps the namespace that stands under a key below a path, if one does.
    fn map_at(&self, fields: &mut Map<String, Value>, path: &[&str], key: &str) {
        if let Some(Value::String(name)) = at(fields, path).and_then(|fields| fields.get_mut(key))
            && let Some(mapped) = self.namespace_mapping.get(name.as_str())
        {
            name.clone_from(mapped);
        }
    }
}

/// An owner that an object had in the backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Owner {
    /// `apiVersion`.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
    /// `name`.
    pub name: String,
    /// `uid` in the cluster that was backed up.
    pub uid: String,
    /// `controller`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
    /// `blockOwnerDeletion`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_owner_deletion: Option<bool>,
}

/// Something done to an object that a person should hear about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "kebab-case")]
pub enum Note {
    /// The claim gets a new volume without data.
    EmptyVolume {
        /// The volume that the claim had.
        volume: String,
    },
    /// The claim's volume is neither in the backup nor in the cluster.
    VolumeMissing {
        /// The volume that the claim had.
        volume: String,
    },
    /// The claim does not point to its data source any more.
    DataSourceDropped,
    /// Debug containers cannot be created with a pod.
    EphemeralContainersDropped,
    /// The webhook's `sideEffects` had a value that the API refuses.
    SideEffectsReset,
    /// `preserveUnknownFields: true` became a field of each schema.
    PreserveUnknownFieldsMoved,
}

impl Note {
    /// The stable id, as in JSON.
    pub fn id(&self) -> &'static str {
        match self {
            Self::EmptyVolume { .. } => "empty-volume",
            Self::VolumeMissing { .. } => "volume-missing",
            Self::DataSourceDropped => "data-source-dropped",
            Self::EphemeralContainersDropped => "ephemeral-containers-dropped",
            Self::SideEffectsReset => "side-effects-reset",
            Self::PreserveUnknownFieldsMoved => "preserve-unknown-fields-moved",
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyVolume { volume } => write!(
                f,
                "empty volume: the data of {volume} is not in the backup and its reclaim policy is Delete, so the claim \
                 gets a new, empty volume"
            ),
            Self::VolumeMissing { volume } => write!(
                f,
                "empty volume: {volume} is neither in the backup nor in the cluster, so the claim gets a new, empty volume"
            ),
            Self::DataSourceDropped => {
                f.write_str("the claim's data source was dropped: it was filled long ago")
            }
            Self::EphemeralContainersDropped => {
                f.write_str("debug containers were dropped: a pod cannot start with them")
            }
            Self::SideEffectsReset => {
                f.write_str("a webhook's sideEffects was set to None: the API refuses the old value")
            }
            Self::PreserveUnknownFieldsMoved => {
                f.write_str("preserveUnknownFields was moved into the schemas: the API refuses it as it was")
            }
        }
    }
}

/// An object ready to be written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transformed {
    /// What is created, without owners and status.
    pub body: Value,
    /// The owners it had.
    pub owners: Vec<Owner>,
    /// What a person should hear about.
    pub notes: Vec<Note>,
    /// The status to write after the object was created.
    pub status: Option<Value>,
}

/// Turns an object of the backup into what is written. `volume` tells what becomes of the volume that a claim is bound to
/// ([`volume_fate`] answers for a volume of the backup).
pub fn transform(
    kind: &ApiKind,
    mut object: Value,
    options: &Options,
    volume: &dyn Fn(&str) -> VolumeFate,
) -> Transformed {
    let Some(fields) = object.as_object_mut() else {
        return Transformed {
            body: object,
            ..Transformed::default()
        };
    };
    let owners = metadata::owners(fields);
    let status = metadata::restored_status(kind, fields, options);
    let mut notes = Vec::new();
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "services") => service::transform(fields, options.preserve_node_ports),
        ("", "pods") => workload::pod(fields, &mut notes),
        ("batch", "jobs") => workload::job(fields),
        ("", "persistentvolumeclaims") => volume::claim(fields, volume, &mut notes),
        ("", "persistentvolumes") => volume::persistent_volume(fields, options),
        ("", "secrets") => account::secret(fields),
        ("", "serviceaccounts") => account::service_account(fields),
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => {
            account::binding(fields, options);
        }
        ("apiextensions.k8s.io", "customresourcedefinitions") => {
            registration::definition(fields, options, &mut notes);
        }
        (
            "admissionregistration.k8s.io",
            "mutatingwebhookconfigurations" | "validatingwebhookconfigurations",
        ) => registration::webhooks(fields, options, &mut notes),
        ("apiregistration.k8s.io", "apiservices") => registration::api_service(fields, options),
        _ => {}
    }
    metadata::strip(fields);
    metadata::map_namespace(kind, fields, options);
    metadata::label(kind, fields, options);
    Transformed {
        body: object,
        owners,
        notes,
        status,
    }
}

/// The object at a path of keys, if all of them are objects.
fn at<'a>(fields: &'a mut Map<String, Value>, path: &[&str]) -> Option<&'a mut Map<String, Value>> {
    path.iter()
        .try_fold(fields, |fields, key| fields.get_mut(*key)?.as_object_mut())
}

/// The list at the end of a path of keys, or an empty one.
fn list<'a>(fields: &'a mut Map<String, Value>, path: &[&str], key: &str) -> &'a mut [Value] {
    at(fields, path)
        .and_then(|fields| fields.get_mut(key)?.as_array_mut())
        .map_or(&mut [], |values| values.as_mut_slice())
}

/// Removes keys below a path.
fn remove(fields: &mut Map<String, Value>, path: &[&str], keys: &[&str]) {
    if let Some(fields) = at(fields, path) {
        for key in keys {
            fields.remove(*key);
        }
    }
}

#[cfg(test)]
mod tests;
