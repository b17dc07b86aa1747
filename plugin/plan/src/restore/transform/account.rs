//! Service accounts, their tokens and the bindings that name them.

use serde_json::{Map, Value, json};

use super::{Options, at, list, remove};

/// Token, certificate and UID are filled in anew by the token controller; with the old ones it would refuse the secret.
pub(super) fn secret(fields: &mut Map<String, Value>) {
    if fields.get("type").and_then(Value::as_str) == Some("kubernetes.io/service-account-token") {
        remove(
            fields,
            &["metadata", "annotations"],
            &["kubernetes.io/service-account.uid"],
        );
        remove(fields, &["data"], &["token", "ca.crt"]);
    }
}

pub(super) fn service_account(fields: &mut Map<String, Value>) {
    let name = at(fields, &["metadata"]).and_then(|metadata| metadata.get("name")?.as_str());
    let Some(prefix) = name.map(|name| format!("{name}-token-")) else {
        return;
    };
    if let Some(Value::Array(secrets)) = fields.get_mut("secrets") {
        secrets.retain(|secret| {
            !secret["name"]
                .as_str()
                .is_some_and(|name| name.starts_with(&prefix))
        });
    }
}

pub(super) fn binding(fields: &mut Map<String, Value>, options: &Options) {
    for subject in list(fields, &[], "subjects")
        .iter_mut()
        .filter_map(Value::as_object_mut)
    {
        options.map_at(subject, &[], "namespace");
        if let Some(Value::String(name)) = subject.get_mut("name") {
            map_account_name(name, options);
        }
    }
}

/// Service accounts under the names by which they authenticate: `system:serviceaccount:shop:worker`, and all of a
/// namespace as the group `system:serviceaccounts:shop`.
fn map_account_name(name: &mut String, options: &Options) {
    for prefix in ["system:serviceaccount:", "system:serviceaccounts:"] {
        let Some(rest) = name.strip_prefix(prefix) else {
            continue;
        };
        let (namespace, account) = rest.find(':').map_or((rest, ""), |at| rest.split_at(at));
        if let Some(mapped) = options.namespace_mapping.get(namespace) {
            *name = format!("{prefix}{mapped}{account}");
            return;
        }
    }
}

/// What is missing in an existing service account, as a JSON merge patch: labels, annotations, secrets and pull secrets of
/// the backup that it lacks. What it has wins. `None` when nothing is missing. `restored` is the transformed body.
pub fn merge_service_account(live: &Value, restored: &Value) -> Option<Value> {
    let mut patch = Map::new();
    let mut metadata = Map::new();
    for key in ["labels", "annotations"] {
        let has = |name: &str| live["metadata"][key].get(name).is_some();
        let missing: Map<_, _> = restored["metadata"][key]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| !has(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !missing.is_empty() {
            metadata.insert(key.to_owned(), Value::Object(missing));
        }
    }
    if !metadata.is_empty() {
        patch.insert("metadata".to_owned(), Value::Object(metadata));
    }
    for key in ["secrets", "imagePullSecrets"] {
        let mut merged = live[key].as_array().cloned().unwrap_or_default();
        let before = merged.len();
        for reference in restored[key].as_array().into_iter().flatten() {
            if !merged
                .iter()
                .any(|existing| existing["name"] == reference["name"])
            {
                merged.push(reference.clone());
            }
        }
        if merged.len() > before {
            patch.insert(key.to_owned(), json!(merged));
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}
