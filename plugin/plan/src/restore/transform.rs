//! From an object of the backup to what is written.
//!
//! In comes one object as JSON with the options of the restore; out goes [`Transformed`]: the body to create, the owners it
//! had (the executor maps their UIDs and puts them back), the status if it is restored too, and notes on everything that a
//! person should hear about. The rules are Velero's item actions, one file per subject, then the mappings of storage classes
//! and images, then the user's resource modifiers, which see the namespace of the backup as Velero's do; namespace and
//! labels come last. Only a modifier can fail: [`Transformed::problem`] then says why the object must not be written. A
//! field of an unexpected type is left alone for the API server to judge. Transforming a body again changes nothing, as
//! long as no rule maps what another one made, except that explicit node ports which only `managedFields` prove are
//! forgotten with those.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use velero_model::resource::ApiKind;

mod account;
mod free_text;
mod mapping;
mod metadata;
mod registration;
mod service;
mod volume;
mod workload;

use super::modifier::Modifiers;
pub use account::merge_service_account;
pub use mapping::Applied;
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
    /// `--storage-class-mappings`, from backup to cluster.
    pub storage_class_mapping: BTreeMap<String, String>,
    /// `--image-mappings`, from prefix to prefix.
    pub image_mapping: BTreeMap<String, String>,
    /// `--preserve-nodeports`.
    pub preserve_node_ports: bool,
    /// `--preserve-cluster-ips`.
    pub preserve_cluster_ips: bool,
    /// `--status-include-resources`, as resource groups.
    pub status_kinds: BTreeSet<String>,
    /// `--resource-modifier-configmap` or `--resource-modifier-file`.
    pub modifiers: Option<Arc<Modifiers>>,
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
    /// A text names a namespace that is mapped.
    NamespaceInText {
        /// Paths, each with the name, the first few.
        places: Vec<String>,
        /// How many more there are.
        more: u64,
    },
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
            Self::NamespaceInText { .. } => "namespace-in-text",
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
            Self::NamespaceInText { places, more } => {
                write!(
                    f,
                    "text that still names a mapped namespace was left as it is: {}",
                    places.join(", ")
                )?;
                if *more > 0 {
                    write!(f, " and {more} more")?;
                }
                f.write_str("; check it, and change it by hand or with a resource modifier")
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
    /// The rules of the restore that changed it.
    pub applied: Vec<Applied>,
    /// Why it must not be written: a resource modifier that matches it cannot be applied to it.
    pub problem: Option<String>,
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
        ("", "services") => service::transform(fields, options),
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
    let mut applied = Vec::new();
    mapping::namespaces(kind, fields, options);
    mapping::storage_classes(kind, fields, options, &mut applied);
    mapping::images(kind, fields, options, &mut applied);
    metadata::strip(fields);
    let problem = modify(kind, fields, options, &mut applied);
    metadata::map_namespace(kind, fields, options);
    metadata::label(kind, fields, options);
    notes.extend(free_text::scan(kind, fields, options));
    Transformed {
        body: object,
        owners,
        notes,
        status,
        applied,
        problem,
    }
}

/// Applies the user's modifiers. Velero never applies them to namespaces.
fn modify(
    kind: &ApiKind,
    fields: &mut Map<String, Value>,
    options: &Options,
    applied: &mut Vec<Applied>,
) -> Option<String> {
    let modifiers = options.modifiers.as_ref()?;
    if kind.group.is_empty() && kind.plural == "namespaces" {
        return None;
    }
    let identity = |fields: &Map<String, Value>| {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let name = text(fields.get("metadata").and_then(|metadata| metadata.get("name")));
        [text(fields.get("apiVersion")), text(fields.get("kind")), name]
    };
    let before = identity(fields);
    let namespace = at(fields, &["metadata"]).and_then(|metadata| metadata.get("namespace").cloned());
    let modified = modifiers.apply(&kind.resource_group(), fields);
    let rules = modified
        .applied
        .into_iter()
        .map(|rule| Applied::Modifier { rule });
    applied.extend(rules);
    // Where an object goes is for the mapping to say, as in Velero.
    if let Some(metadata) = at(fields, &["metadata"]).filter(|_| kind.namespaced)
        && let Some(namespace) = namespace
    {
        metadata.insert("namespace".to_owned(), namespace);
    }
    if !modified.problems.is_empty() {
        return Some(modified.problems.join("; "));
    }
    let changed = before
        .iter()
        .zip(&identity(fields))
        .position(|(before, after)| before != after);
    // Paths and checks were made for the object as it was.
    changed.map(|part| {
        let part = ["apiVersion", "kind", "name"]
            .get(part)
            .copied()
            .unwrap_or_default();
        format!(
            "a resource modifier changes its {part}, which is not supported; take that patch out of the rule"
        )
    })
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
