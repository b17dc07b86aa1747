//! `volumes` and `policy`: on a cluster of their own, whose API server knows MutatingAdmissionPolicies.
//!
//! Pods do not run there: nothing but the API server changes them, and phases are written by the case. Policies belong to
//! the whole cluster, so each case makes policies for its own namespace only.

mod apply;
mod cel;
mod corpus;
mod explain;
mod transcript;

use std::sync::OnceLock;

use anyhow::{Result, anyhow};
use backup_tests::cluster::{Cluster, ClusterBuilder, Namespace};
use backup_tests::plugin::Plugin;
use kube::core::crd::CustomResourceExt;
use serde_json::{Value, json};
use velero_model::api::VolumeBackupPolicy;

/// A control plane without controllers, so that pods need no service account and nobody touches them.
pub(crate) fn start(with_policies: bool) -> Result<Cluster> {
    let builder = builder("v1beta1");
    let cluster = builder
        .apiserver_flag("--feature-gates=MutatingAdmissionPolicy=true")
        .start()?;
    if with_policies {
        define(&cluster)?;
    }
    Ok(cluster)
}

/// As [`start`], with our kind, and MutatingAdmissionPolicies that are stored in one version more than always; before
/// Kubernetes 1.36, where v1 is always there, they have no effect.
pub(crate) fn start_without_effect(version: &str) -> Result<Cluster> {
    let cluster = builder(version).start()?;
    define(&cluster)?;
    Ok(cluster)
}

fn builder(version: &str) -> ClusterBuilder {
    Cluster::builder()
        .controllers(false)
        .apiserver_flag("--disable-admission-plugins=ServiceAccount")
        .apiserver_flag(&format!(
            "--runtime-config=admissionregistration.k8s.io/{version}=true"
        ))
}

fn define(cluster: &Cluster) -> Result<()> {
    cluster.create(serde_json::to_value(VolumeBackupPolicy::crd())?)?;
    wait_until_served(cluster)
}

/// Waits until policies can be listed and are known to discovery, which comes a moment later.
fn wait_until_served(cluster: &Cluster) -> Result<()> {
    cluster.wait_until("the policies to be served", |cluster| {
        let version = cluster
            .get("/apis/kubectl-backup.io/v1alpha1")?
            .unwrap_or_default();
        let resources = version["resources"].as_array().map(Vec::len).unwrap_or_default();
        Ok(resources > 0 && cluster.list(POLICIES).is_ok())
    })
}

/// The collection of policies.
pub(crate) const POLICIES: &str = "/apis/kubectl-backup.io/v1alpha1/volumebackuppolicies";

/// The one that the cases share.
pub(crate) fn cluster() -> Result<&'static Cluster> {
    static CLUSTER: OnceLock<Result<Cluster, String>> = OnceLock::new();
    let started = CLUSTER.get_or_init(|| start(true).map_err(|error| format!("{error:#}")));
    started
        .as_ref()
        .map_err(|error| anyhow!("the cluster did not start: {error}"))
}

/// A namespace on it, and the plugin as administrator, without a location.
pub(crate) struct Bench {
    pub(crate) cluster: &'static Cluster,
    pub(crate) namespace: Namespace,
    pub(crate) plugin: Plugin,
}

impl Bench {
    pub(crate) fn new() -> Result<Self> {
        let cluster = cluster()?;
        Ok(Self {
            namespace: cluster.namespace()?,
            plugin: Plugin::bare()?.with_kubeconfig(cluster.kubeconfig())?,
            cluster,
        })
    }

    /// A policy for this namespace alone; gives its name.
    pub(crate) fn policy(&self, name: &str, mut spec: Value) -> Result<String> {
        let name = format!("{name}-{}", self.namespace);
        spec["namespaceSelector"] =
            json!({ "matchLabels": { "kubernetes.io/metadata.name": self.namespace.name() } });
        self.cluster.create(json!({
            "apiVersion": "kubectl-backup.io/v1alpha1", "kind": "VolumeBackupPolicy",
            "metadata": { "name": name }, "spec": spec
        }))?;
        Ok(name)
    }

    /// A pod of a StatefulSet `db` that mounts claims `data-NAME` and `wal-NAME` and a scratch folder, and runs.
    pub(crate) fn database(&self, name: &str, annotations: &Value) -> Result<()> {
        let pod = database(self.namespace.name(), name, annotations);
        self.cluster.create(pod)?;
        self.phase(name, "Running")
    }

    /// Writes a pod's phase, as a kubelet would.
    pub(crate) fn phase(&self, name: &str, phase: &str) -> Result<()> {
        let path = format!("{}/status", self.path(name));
        self.cluster
            .patch(&path, json!({ "status": { "phase": phase } }))?;
        Ok(())
    }

    pub(crate) fn claim(&self, name: &str, class: &str, size: &str) -> Result<()> {
        self.cluster
            .create(claim(self.namespace.name(), name, class, size))?;
        Ok(())
    }

    pub(crate) fn path(&self, pod: &str) -> String {
        format!("/api/v1/namespaces/{}/pods/{pod}", self.namespace)
    }

    /// What a pod's annotation lists.
    pub(crate) fn listed(&self, pod: &str) -> Result<Option<String>> {
        let pod = self.cluster.get(&self.path(pod))?.unwrap_or_default();
        Ok(annotation(&pod).map(str::to_owned))
    }
}

pub(crate) fn annotation(pod: &Value) -> Option<&str> {
    pod["metadata"]["annotations"]["backup.velero.io/backup-volumes"].as_str()
}

pub(crate) fn database(namespace: &str, name: &str, annotations: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": namespace, "labels": { "app": "db" }, "annotations": annotations,
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "controller": true,
                "uid": "2f1c0b5e-0000-4000-8000-000000000000"
            }]
        },
        "spec": {
            "containers": [{ "name": "db", "image": "registry.example.org/db:1", "volumeMounts": [
                { "name": "data", "mountPath": "/data" },
                { "name": "wal", "mountPath": "/wal" },
                { "name": "scratch", "mountPath": "/scratch" }
            ] }],
            "volumes": [
                { "name": "data", "persistentVolumeClaim": { "claimName": format!("data-{name}") } },
                { "name": "wal", "persistentVolumeClaim": { "claimName": format!("wal-{name}") } },
                { "name": "scratch", "emptyDir": {} },
                { "name": "settings", "configMap": { "name": "settings" } }
            ]
        }
    })
}

pub(crate) fn claim(namespace: &str, name: &str, class: &str, size: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": class, "resources": { "requests": { "storage": size } }
        }
    })
}
