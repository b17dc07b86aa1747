//! What every object goes through: owners and status taken out, server-set metadata stripped, namespace mapped, labels set.

use serde::Deserialize;
use serde_json::{Map, Value, map::Entry};
use velero_model::resource::ApiKind;

use super::{BACKUP_LABEL, Options, Owner, RESTORE_LABEL, RESTORE_STATUS, at, label_value, remove};

/// Set by the server, or meaningful only in the cluster that was backed up.
const STRIPPED: [&str; 10] = [
    "generateName",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "ownerReferences",
    "managedFields",
];

/// The owners of an object, without those that cannot be read.
pub fn owners_of(object: &Value) -> Vec<Owner> {
    object.as_object().map(owners).unwrap_or_default()
}

pub(super) fn owners(fields: &Map<String, Value>) -> Vec<Owner> {
    let references = fields
        .get("metadata")
        .and_then(|metadata| metadata.get("ownerReferences"));
    references
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|reference| Owner::deserialize(reference).ok())
        .collect()
}

/// Takes the status out; gives it back if it is to be restored.
pub(super) fn restored_status(
    kind: &ApiKind,
    fields: &mut Map<String, Value>,
    options: &Options,
) -> Option<Value> {
    let status = fields.remove("status");
    let annotation = at(fields, &["metadata", "annotations"])
        .and_then(|annotations| annotations.get(RESTORE_STATUS)?.as_str())
        .map(str::to_owned);
    let wanted = match annotation.as_deref() {
        Some("true") => true,
        Some("false") => false,
        _ => !options.status_kinds.is_empty() && options.status_kinds.contains(&kind.resource_group()),
    };
    status.filter(|_| wanted)
}

pub(super) fn strip(fields: &mut Map<String, Value>) {
    let Some(metadata) = at(fields, &["metadata"]) else {
        return;
    };
    // These two only say how a deletion that had begun was to go on.
    if metadata.contains_key("deletionTimestamp")
        && let Some(Value::Array(finalizers)) = metadata.get_mut("finalizers")
    {
        finalizers.retain(|finalizer| finalizer != "foregroundDeletion" && finalizer != "orphan");
    }
    for key in STRIPPED {
        metadata.remove(key);
    }
}

pub(super) fn map_namespace(kind: &ApiKind, fields: &mut Map<String, Value>, options: &Options) {
    if options.namespace_mapping.is_empty() {
        return;
    }
    if kind.group.is_empty() && kind.plural == "namespaces" {
        options.map_at(fields, &["metadata"], "name");
        options.map_at(fields, &["metadata", "labels"], "kubernetes.io/metadata.name");
    } else if kind.namespaced {
        options.map_at(fields, &["metadata"], "namespace");
    }
}

/// As in Velero, namespaces get no labels: their labels select them for policies and webhooks.
pub(super) fn label(kind: &ApiKind, fields: &mut Map<String, Value>, options: &Options) {
    if kind.group.is_empty() && kind.plural == "namespaces" {
        remove(fields, &["metadata", "labels"], &[BACKUP_LABEL, RESTORE_LABEL]);
        return;
    }
    let Some(metadata) = at(fields, &["metadata"]) else {
        return;
    };
    for (key, name) in [
        (BACKUP_LABEL, &options.backup_name),
        (RESTORE_LABEL, &options.restore_name),
    ] {
        if name.is_empty() {
            continue;
        }
        let labels = match metadata.entry("labels") {
            Entry::Vacant(entry) => entry.insert(Value::Object(Map::new())),
            Entry::Occupied(entry) => entry.into_mut(),
        };
        if labels.is_null() {
            *labels = Value::Object(Map::new());
        }
        if let Some(labels) = labels.as_object_mut() {
            labels.insert(key.to_owned(), label_value(name).into());
        }
    }
}
