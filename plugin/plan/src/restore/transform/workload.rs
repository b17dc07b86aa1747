//! Pods and jobs: what the scheduler, the service account controller and the job controller had filled in goes.

use serde_json::{Map, Value};

use super::{Note, at, list, remove};

pub(super) fn pod(fields: &mut Map<String, Value>, notes: &mut Vec<Note>) {
    remove(fields, &["spec"], &["nodeName", "priority"]);
    let Some(spec) = at(fields, &["spec"]) else { return };
    let containers = spec.remove("ephemeralContainers");
    if containers
        .as_ref()
        .and_then(Value::as_array)
        .is_some_and(|containers| !containers.is_empty())
    {
        notes.push(Note::EphemeralContainersDropped);
    }
    let account = spec
        .get("serviceAccountName")
        .and_then(Value::as_str)
        .unwrap_or("default");
    let prefix = format!("{account}-token-");
    let is_token = |value: &Value| {
        value["name"]
            .as_str()
            .is_some_and(|name| name.starts_with(&prefix))
    };
    drop_where(spec, "volumes", is_token);
    for key in ["containers", "initContainers"] {
        for container in list(spec, &[], key) {
            if let Some(container) = container.as_object_mut() {
                drop_where(container, "volumeMounts", is_token);
            }
        }
    }
}

fn drop_where(fields: &mut Map<String, Value>, key: &str, unwanted: impl Fn(&Value) -> bool) {
    if let Some(Value::Array(values)) = fields.get_mut(key) {
        values.retain(|value| !unwanted(value));
    }
}

const CONTROLLER_UID: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];

pub(super) fn job(fields: &mut Map<String, Value>) {
    remove(fields, &["spec", "selector", "matchLabels"], &CONTROLLER_UID);
    remove(
        fields,
        &["spec", "template", "metadata", "labels"],
        &CONTROLLER_UID,
    );
    let Some(spec) = at(fields, &["spec"]) else { return };
    // An empty selector left behind would be read as one that a person wrote.
    let is_empty = spec.get("selector").is_some_and(|selector| {
        selector.as_object().is_some_and(|selector| {
            selector
                .values()
                .all(|value| value.as_object().is_some_and(Map::is_empty))
        })
    });
    if is_empty && spec.get("manualSelector") != Some(&Value::Bool(true)) {
        spec.remove("selector");
    }
}
