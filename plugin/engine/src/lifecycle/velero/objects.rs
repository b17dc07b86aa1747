//! The objects of Velero, from the manifests that this program carries.
//!
//! Pure. In comes what is wanted, out go objects in stages, as `velero install` of the same version makes them; a test
//! compares the two. What differs from `kubectl apply -k manifests/velero` is said here: namespace, images, the Secret to
//! pull them with, credentials, the kubelet's folder, and the BackupStorageLocation.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{COMPONENT, KUBELET_ROOT};
use crate::{
    lifecycle::{
        LifecycleError,
        shipped::{Shipped, in_stages, manifest, read},
    },
    schedule::Credentials,
};

const PARTS: [(&str, &str); 4] = [
    manifest!("velero/crds.yaml"),
    manifest!("velero/namespace.yaml"),
    manifest!("velero/rbac.yaml"),
    manifest!("velero/deployment.yaml"),
];
const NODE_AGENT: (&str, &str) = manifest!("velero/node-agent.yaml");

/// The Secret that server and agents mount, and its key.
pub const CLOUD_CREDENTIALS: (&str, &str) = ("cloud-credentials", "cloud");

/// A Velero to be written.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its namespace.
    pub namespace: String,
    /// Image of server and agents.
    pub image: String,
    /// Image that puts the AWS plugin beside the server.
    pub plugin_image: String,
    /// Secret to pull both with.
    pub image_pull_secret: Option<String>,
    /// Whether there are agents on the nodes.
    pub node_agent: bool,
    /// The kubelet's folder on the nodes.
    pub kubelet_root: String,
    /// Annotations of its ServiceAccount, by which some clouds give it a role.
    pub account_annotations: BTreeMap<String, String>,
    /// What it logs in with where a location says nothing else. `AsTheyAre`: its Secret is there, `None`: it has a role.
    pub credentials: Credentials,
}

/// A BackupStorageLocation to be written.
#[derive(Debug, Clone)]
pub struct Location {
    /// Its name.
    pub name: String,
    /// Its spec, without `default` and `credential`.
    pub spec: Value,
    /// Whether backups go there where nothing is said.
    pub is_default: bool,
    /// What Velero logs in with there; `AsTheyAre` leaves that to the server's own Secret.
    pub credentials: Credentials,
}

/// All of Velero, in the order in which it is written.
///
/// # Errors
/// [`LifecycleError::Manifest`], which only a defect of this program can be.
pub fn objects(wanted: &Wanted) -> Result<Vec<Shipped>, LifecycleError> {
    let mut objects = Vec::new();
    for file in PARTS.into_iter().chain(wanted.node_agent.then_some(NODE_AGENT)) {
        objects.extend(read(file)?);
    }
    if let Credentials::Text(text) = &wanted.credentials {
        let (name, key) = CLOUD_CREDENTIALS;
        objects.push(secret(&wanted.namespace, name, key, text));
    }
    for object in &mut objects {
        place(object, &wanted.namespace);
        if object["kind"] == "ServiceAccount" && !wanted.account_annotations.is_empty() {
            object["metadata"]["annotations"] = json!(wanted.account_annotations);
        }
        if let Some(pod) = object.pointer_mut("/spec/template/spec") {
            shape(pod, wanted);
        }
    }
    Ok(in_stages(objects))
}

/// A location of Velero's, and its Secret where it has one of its own.
pub fn location(namespace: &str, location: &Location) -> Vec<Shipped> {
    let name = format!("location-{}", location.name);
    let mut spec = location.spec.clone();
    if location.is_default {
        spec["default"] = true.into();
    }
    let mut objects = Vec::new();
    if let Credentials::Text(text) = &location.credentials {
        let key = CLOUD_CREDENTIALS.1;
        objects.push(secret(namespace, &name, key, text));
        spec["credential"] = json!({ "name": name, "key": key });
    }
    objects.push(json!({
        "apiVersion": "velero.io/v1", "kind": "BackupStorageLocation",
        "metadata": { "name": location.name, "namespace": namespace, "labels": { COMPONENT.0: COMPONENT.1 } },
        "spec": spec,
    }));
    in_stages(objects)
}

fn secret(namespace: &str, name: &str, key: &str, text: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": { "name": name, "namespace": namespace, "labels": { COMPONENT.0: COMPONENT.1 } },
        "stringData": { key: text },
    })
}

/// Puts an object of the manifests into another namespace than `velero`, as `velero install --namespace` does.
fn place(object: &mut Value, namespace: &str) {
    const AS_SHIPPED: &str = "velero";
    if namespace == AS_SHIPPED {
        return;
    }
    match object["kind"].as_str() {
        Some("Namespace") => object["metadata"]["name"] = namespace.into(),
        Some("ClusterRoleBinding") => {
            object["metadata"]["name"] = format!("{AS_SHIPPED}-{namespace}").into();
            object["subjects"][0]["namespace"] = namespace.into();
        }
        Some("CustomResourceDefinition") => {}
        _ => object["metadata"]["namespace"] = namespace.into(),
    }
}

fn shape(pod: &mut Value, wanted: &Wanted) {
    let has_secret = wanted.credentials != Credentials::None;
    for container in pod["containers"].as_array_mut().into_iter().flatten() {
        container["image"] = wanted.image.as_str().into();
        if !has_secret {
            without(&mut container["env"], |variable| {
                variable["value"] == "/credentials/cloud"
            });
            without(&mut container["volumeMounts"], |mount| {
                mount["name"] == CLOUD_CREDENTIALS.0
            });
        }
    }
    for container in pod["initContainers"].as_array_mut().into_iter().flatten() {
        container["image"] = wanted.plugin_image.as_str().into();
    }
    if !has_secret {
        without(&mut pod["volumes"], |volume| {
            volume["name"] == CLOUD_CREDENTIALS.0
        });
    }
    for volume in pod["volumes"].as_array_mut().into_iter().flatten() {
        let inside = volume
            .pointer("/hostPath/path")
            .and_then(Value::as_str)
            .and_then(|path| path.strip_prefix(KUBELET_ROOT))
            .map(str::to_owned);
        if let Some(inside) = inside {
            volume["hostPath"]["path"] = format!("{}{inside}", wanted.kubelet_root).into();
        }
    }
    if let Some(secret) = &wanted.image_pull_secret {
        pod["imagePullSecrets"] = json!([{ "name": secret }]);
    }
}

fn without(list: &mut Value, is_unwanted: impl Fn(&Value) -> bool) {
    if let Some(list) = list.as_array_mut() {
        list.retain(|entry| !is_unwanted(entry));
    }
}
