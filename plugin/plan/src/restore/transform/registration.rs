//! What registers itself with the API server: definitions, webhooks, aggregated APIs.
//!
//! Their references to a Service follow the namespace mapping, unlike in Velero: a webhook that calls the old namespace
//! refuses everything.

use serde_json::{Map, Value};

use super::{Note, Options, at, list};

pub(super) fn definition(fields: &mut Map<String, Value>, options: &Options, notes: &mut Vec<Note>) {
    options.map_at(
        fields,
        &["spec", "conversion", "webhook", "clientConfig", "service"],
        "namespace",
    );
    let is_v1 = fields.get("apiVersion").and_then(Value::as_str) == Some("apiextensions.k8s.io/v1");
    let Some(spec) = at(fields, &["spec"]) else { return };
    if !is_v1 || spec.get("preserveUnknownFields") != Some(&Value::Bool(true)) {
        return;
    }
    spec.insert("preserveUnknownFields".to_owned(), Value::Bool(false));
    for version in list(spec, &[], "versions") {
        if let Some(schema) = version
            .pointer_mut("/schema/openAPIV3Schema")
            .and_then(Value::as_object_mut)
        {
            schema.insert(
                "x-kubernetes-preserve-unknown-fields".to_owned(),
                Value::Bool(true),
            );
        }
    }
    notes.push(Note::PreserveUnknownFieldsMoved);
}

pub(super) fn webhooks(fields: &mut Map<String, Value>, options: &Options, notes: &mut Vec<Note>) {
    let is_v1 = fields.get("apiVersion").and_then(Value::as_str) == Some("admissionregistration.k8s.io/v1");
    for webhook in list(fields, &[], "webhooks")
        .iter_mut()
        .filter_map(Value::as_object_mut)
    {
        options.map_at(webhook, &["clientConfig", "service"], "namespace");
        let side_effects = webhook.get("sideEffects").and_then(Value::as_str);
        if is_v1 && !matches!(side_effects, Some("None" | "NoneOnDryRun")) {
            webhook.insert("sideEffects".to_owned(), "None".into());
            notes.push(Note::SideEffectsReset);
        }
    }
}

pub(super) fn api_service(fields: &mut Map<String, Value>, options: &Options) {
    options.map_at(fields, &["spec", "service"], "namespace");
}
