//! The webhook configurations that lead the API server to a server on loopback.
//!
//! The settings are those of the manifests; only `clientConfig` is a URL. Each configuration ends with a webhook on the
//! ConfigMaps of the server's own namespace, by which the driver learns that the API server has taken it up.

use std::net::SocketAddr;

use anyhow::Result;
use http::Method;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Requests};
use crate::runtime;

/// Which webhooks are registered, and as what.
#[derive(Debug, Clone)]
pub struct Registration {
    name: String,
    mutating: Vec<Value>,
    validating: Vec<Value>,
}

impl Default for Registration {
    /// All three.
    fn default() -> Self {
        Self::none()
            .mutating("/annotate", annotator())
            .validating("/gate", gate())
            .mutating("/guard", guard())
    }
}

impl Registration {
    /// None yet.
    pub fn none() -> Self {
        let unique = uuid::Uuid::new_v4().simple().to_string();
        Self {
            name: format!("kubectl-backup-{}", &unique[..8]),
            mutating: Vec::new(),
            validating: Vec::new(),
        }
    }

    /// One more mutating webhook: `webhook` without `clientConfig`, called at `path`.
    pub fn mutating(mut self, path: &str, webhook: Value) -> Self {
        self.mutating.push(at(path, webhook));
        self
    }

    /// One more validating webhook.
    pub fn validating(mut self, path: &str, webhook: Value) -> Self {
        self.validating.push(at(path, webhook));
        self
    }

    /// The name of its configurations.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the API server was asked for, as the server's metrics name it.
    pub(super) fn probed(&self) -> Vec<&'static str> {
        let mut probed = Vec::new();
        if !self.mutating.is_empty() {
            probed.push("annotate");
        }
        if !self.validating.is_empty() {
            probed.push("gate");
        }
        probed
    }

    pub(super) fn flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        if !self.mutating.is_empty() {
            flags.push(format!("--mutating-webhook-configuration={}", self.name));
        }
        if !self.validating.is_empty() {
            flags.push(format!("--validating-webhook-configuration={}", self.name));
        }
        flags
    }

    /// Creates the configurations, unless another replica's driver has.
    pub(super) fn register(&self, cluster: &Cluster, namespace: &str, address: SocketAddr) -> Result<()> {
        for (kind, webhooks, probe) in [
            ("MutatingWebhookConfiguration", &self.mutating, "/annotate"),
            ("ValidatingWebhookConfiguration", &self.validating, "/gate"),
        ] {
            if webhooks.is_empty() || cluster.get(&self.path(kind))?.is_some() {
                continue;
            }
            let webhooks: Vec<Value> = webhooks
                .iter()
                .cloned()
                .chain([at(probe, asked(namespace))])
                .map(|mut webhook| {
                    let path = webhook["clientConfig"]["url"].as_str().unwrap_or_default();
                    webhook["clientConfig"]["url"] = json!(format!("https://{address}{path}"));
                    webhook
                })
                .collect();
            cluster.create(json!({
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": kind,
                "metadata": { "name": self.name },
                "webhooks": webhooks,
            }))?;
        }
        Ok(())
    }

    /// The path of one of its configurations.
    pub fn path(&self, kind: &str) -> String {
        let plural = format!("{}s", kind.to_lowercase());
        format!("/apis/admissionregistration.k8s.io/v1/{plural}/{}", self.name)
    }

    pub(super) fn remove(&self, requests: &Requests) {
        for kind in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] {
            let (requests, path) = (requests.clone(), self.path(kind));
            let _ = runtime::run(async move { requests.value(Method::DELETE, &path, None).await });
        }
    }
}

fn at(path: &str, mut webhook: Value) -> Value {
    webhook["clientConfig"] = json!({ "url": path });
    webhook["admissionReviewVersions"] = json!(["v1"]);
    webhook["sideEffects"] = json!("None");
    webhook
}

/// The annotator as in the manifests.
pub fn annotator() -> Value {
    json!({
        "name": "annotate.kubectl-backup.io",
        "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] }],
        "failurePolicy": "Ignore",
        "timeoutSeconds": 2,
        "reinvocationPolicy": "IfNeeded",
        "namespaceSelector": { "matchExpressions": [
            { "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", "kube-node-lease", "velero"] },
        ] },
    })
}

/// The gate as in the manifests.
pub fn gate() -> Value {
    json!({
        "name": "gate.kubectl-backup.io",
        "rules": [
            { "apiGroups": ["cluster.x-k8s.io"], "apiVersions": ["*"], "operations": ["DELETE"], "resources": ["clusters"] },
            { "apiGroups": ["run.tanzu.vmware.com"], "apiVersions": ["*"], "operations": ["DELETE"], "resources": ["tanzukubernetesclusters"] },
        ],
        "failurePolicy": "Fail",
        "timeoutSeconds": 5,
    })
}

/// The guard as in the manifests.
pub fn guard() -> Value {
    json!({
        "name": "guard.kubectl-backup.io",
        "rules": [
            { "apiGroups": ["kubectl-backup.io"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE", "DELETE"], "resources": ["storagedispositions"] },
            { "apiGroups": ["cluster.x-k8s.io"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": ["clusters"] },
            { "apiGroups": ["run.tanzu.vmware.com"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": ["tanzukubernetesclusters"] },
        ],
        "failurePolicy": "Fail",
        "timeoutSeconds": 5,
    })
}

fn asked(namespace: &str) -> Value {
    json!({
        "name": "asked.kubectl-backup.io",
        "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"] }],
        "failurePolicy": "Ignore",
        "timeoutSeconds": 2,
        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } },
    })
}
