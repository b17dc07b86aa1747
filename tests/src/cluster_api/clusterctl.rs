//! clusterctl itself, and what it wants of a management cluster before it moves anything.
//!
//! clusterctl asks neither for controllers nor for machines: it asks for its inventory, for the label by which it knows the
//! CRDs that it looks at, and for clusters whose status says that they have come up. All of that is written here.

use std::path::Path;
use std::process::{Output, Stdio};

use anyhow::Result;
use serde_json::{Value, json};

use super::{CLUSTERS, Workload, define};
use crate::cluster::Cluster;
use crate::process;
use crate::scratch::Scratch;
use crate::servers::{self, Program, modules};

/// The CRD of its inventory, in the module that it is built from.
const PROVIDERS: &str = "cmd/clusterctl/config/crd/bases/clusterctl.cluster.x-k8s.io_providers.yaml";

/// Makes a cluster with the kinds of [`super::install`] one that clusterctl moves from and to, as `clusterctl init` does.
pub fn manage(cluster: &Cluster) -> Result<()> {
    let (server, module, _) = CLUSTERS;
    define(cluster, modules::document(server, module, PROVIDERS)?)?;
    let labels = json!({ "clusterctl.cluster.x-k8s.io": "", "cluster.x-k8s.io/provider": "cluster-api" });
    cluster.patch(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/clusters.cluster.x-k8s.io",
        json!({ "metadata": { "labels": labels } }),
    )?;
    cluster
        .create(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "capi-system" } }))?;
    cluster.create(json!({
        "apiVersion": "clusterctl.cluster.x-k8s.io/v1alpha3", "kind": "Provider",
        "metadata": { "name": "cluster-api", "namespace": "capi-system", "labels": labels },
        "providerName": "cluster-api", "type": "CoreProvider", "version": "v1.14.2",
    }))?;
    Ok(())
}

/// A cluster that clusterctl would move: not paused, and come up. Gives its path.
pub fn create_movable(cluster: &Cluster, namespace: &str, name: &str) -> Result<String> {
    let kind = Workload::Cluster;
    let mut object = kind.object(namespace, name);
    object["spec"] = json!({ "clusterNetwork": { "serviceDomain": "cluster.local" } });
    cluster.create(object)?;
    let path = kind.path(namespace, name);
    let since = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let up: Value = json!({ "status": {
        "initialization": { "infrastructureProvisioned": true, "controlPlaneInitialized": true },
        "conditions": [{
            "type": "ControlPlaneInitialized", "status": "True", "reason": "Initialized", "message": "",
            "lastTransitionTime": since,
        }],
    } });
    cluster.patch(&format!("{path}/status"), up)?;
    Ok(path)
}

/// `clusterctl move` of all clusters in a namespace, with the rights of two kubeconfigs.
pub fn move_namespace(from: &Path, to: &Path, namespace: &str) -> Result<Output> {
    let home = Scratch::new("clusterctl-")?;
    let mut command = servers::command(Program::Clusterctl)?;
    command
        .env_clear()
        .env("HOME", home.path())
        // It would ask GitHub whether there is a newer one.
        .env("CLUSTERCTL_DISABLE_VERSIONCHECK", "true")
        .args(["move", "--v=2", "--namespace", namespace, "--kubeconfig"])
        .arg(from)
        .arg("--to-kubeconfig")
        .arg(to)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(process::spawn(command)?.wait_with_output()?)
}
