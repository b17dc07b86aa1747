//! What a support bundle holds, and that it holds no secret.
//!
//! In comes a connection; out go files by name ([`gather`]) and an archive of them ([`pack`]). Two things keep secrets out. Objects
//! are not copied: of each only the fields in [`KEPT`] are taken, so that environment, arguments, annotations and data never get in.
//! And every text is passed through a [`Veil`], which knows the values of the Secrets of our namespace as far as the user may
//! read them, and the usual shapes of keys and tokens.

mod veil;

use std::{collections::BTreeMap, io};

use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

pub use self::veil::Veil;
use crate::{
    api::{ApiClient, ApiError},
    jobs::list,
    schedule::NAMESPACE,
};

/// Bytes of a pod's log that are taken, from its end.
const LOG_BYTES: u32 = 1 << 20;

/// What is taken of an object.
const KEPT: [&str; 24] = [
    "/kind",
    "/metadata/name",
    "/metadata/namespace",
    "/metadata/uid",
    "/metadata/generation",
    "/metadata/creationTimestamp",
    "/metadata/deletionTimestamp",
    "/metadata/ownerReferences",
    "/metadata/finalizers",
    "/spec/schedule",
    "/spec/timeZone",
    "/spec/suspend",
    "/spec/replicas",
    "/spec/nodeName",
    "/spec/holderIdentity",
    "/spec/renewTime",
    "/spec/leaseDurationSeconds",
    "/status",
    "/type",
    "/reason",
    "/message",
    "/count",
    "/lastTimestamp",
    "/involvedObject",
];

/// Kinds that are looked at, in a namespace.
const KINDS: [(&str, &str, &str); 8] = [
    ("apps", "deployments", "Deployment"),
    ("apps", "daemonsets", "DaemonSet"),
    ("batch", "cronjobs", "CronJob"),
    ("batch", "jobs", "Job"),
    ("", "pods", "Pod"),
    ("", "events", "Event"),
    ("", "persistentvolumeclaims", "PersistentVolumeClaim"),
    ("coordination.k8s.io", "leases", "Lease"),
];

/// The files of a bundle, by name.
pub type Files = BTreeMap<String, String>;

/// Gathers what a cluster says of our namespace, and gives the veil for what the caller adds. What may not be read is named in `missing.txt`.
///
/// # Errors
/// When the server does not answer.
pub async fn gather(api: &ApiClient) -> Result<(Files, Veil), ApiError> {
    let mut files = Files::new();
    let mut missing: Vec<String> = Vec::new();
    let mut pods = Vec::new();
    let mut veil = Veil::default();
    match list(api, "", "secrets", "Secret", Some(NAMESPACE), "").await {
        Ok(secrets) => secrets.iter().for_each(|secret| veil.learn(secret)),
        Err(error) if error.is_forbidden() => {
            missing.push("Secrets may not be read; values are hidden by their shape alone".to_owned());
        }
        Err(error) => return Err(error),
    }
    for (group, plural, kind) in KINDS {
        let found = match list(api, group, plural, kind, Some(NAMESPACE), "").await {
            Ok(found) => found,
            Err(error) if error.is_forbidden() || error.is_not_found() => {
                missing.push(format!("{plural}: {}", error.server_message()));
                continue;
            }
            Err(error) => return Err(error),
        };
        if plural == "pods" {
            pods = found
                .iter()
                .filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned))
                .collect();
        }
        let kept: Vec<Value> = found.iter().map(excerpt).collect();
        files.insert(
            format!("objects/{plural}.json"),
            format!("{:#}\n", Value::from(kept)),
        );
    }
    for pod in pods {
        for (suffix, query) in [("", ""), ("-previous", "&previous=true")] {
            let path = format!(
                "/api/v1/namespaces/{NAMESPACE}/pods/{pod}/log?limitBytes={LOG_BYTES}&tailLines=5000{query}"
            );
            match api.get(&path).await {
                Ok(Some(log)) => {
                    files.insert(
                        format!("logs/{pod}{suffix}.log"),
                        String::from_utf8_lossy(&log).into_owned(),
                    );
                }
                // Most pods have no container before this one.
                Ok(None) => {}
                Err(_) if !query.is_empty() => {}
                Err(error) => missing.push(format!("log of pod {pod}: {error}")),
            }
        }
    }
    let discovery = api.discover().await?;
    let kinds: Vec<Value> = discovery
        .kinds
        .iter()
        .map(|kind| {
            json!(format!(
                "{}/{} {}",
                kind.api.group, kind.api.version, kind.api.plural
            ))
        })
        .collect();
    let failed: Vec<Value> = discovery
        .failed_groups
        .iter()
        .map(|group| json!({ "group": group.group_version, "reason": group.reason }))
        .collect();
    let resources = json!({ "kinds": kinds, "failed": failed });
    files.insert("api-resources.json".into(), format!("{resources:#}\n"));
    files.insert("missing.txt".into(), missing.join("\n"));
    for text in files.values_mut() {
        *text = veil.over(text);
    }
    Ok((files, veil))
}

/// The fields of an object that are taken.
fn excerpt(object: &Value) -> Value {
    let mut kept = Value::Object(Map::new());
    for pointer in KEPT {
        if let Some(value) = object.pointer(pointer) {
            put(&mut kept, pointer, value.clone());
        }
    }
    let containers = object
        .pointer("/spec/containers")
        .or_else(|| object.pointer("/spec/template/spec/containers"))
        .or_else(|| object.pointer("/spec/jobTemplate/spec/template/spec/containers"));
    if let Some(containers) = containers.and_then(Value::as_array) {
        kept["images"] = containers
            .iter()
            .map(|container| container["image"].clone())
            .collect();
    }
    kept
}

fn put(into: &mut Value, pointer: &str, value: Value) {
    let mut place = into;
    for key in pointer.split('/').skip(1) {
        place = &mut place[key];
    }
    *place = value;
}

/// A tar archive with gzip of these files, below a folder of that name.
///
/// # Errors
/// Never in practice: it is written to memory.
pub fn pack(folder: &str, files: &Files, at: Timestamp) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(at.as_second().unsigned_abs());
        archive.append_data(&mut header, format!("{folder}/{name}"), text.as_bytes())?;
    }
    archive.into_inner()?.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_object_only_harmless_fields_are_taken() {
        let pod = json!({
            "kind": "Pod",
            "metadata": { "name": "p", "annotations": { "token": "planted-1" }, "labels": { "x": "planted-2" } },
            "spec": { "nodeName": "n", "containers": [
                { "image": "i", "args": ["--password=planted-3"], "env": [{ "name": "K", "value": "planted-4" }] },
            ] },
            "status": { "phase": "Running" },
        });
        let kept = excerpt(&pod).to_string();
        assert!(!kept.contains("planted"), "{kept}");
        assert!(
            kept.contains("Running") && kept.contains("\"images\":[\"i\"]"),
            "{kept}"
        );
    }
}
