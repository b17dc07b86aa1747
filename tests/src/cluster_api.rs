//! A management cluster as the gate meets it: the real Cluster API CRD, a stand-in for the TanzuKubernetesCluster, and
//! Velero's BackupStorageLocation.
//!
//! [`install`] takes one line and may be called by every case; the kinds are served when it returns. No controller of
//! Cluster API runs, so a cluster does nothing, and conversion webhooks are switched off: nobody would answer them.
//! [`Workload`] makes the objects, and [`clusterctl`] moves them.

pub mod clusterctl;

use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::servers::modules;

/// The CRD of clusters, in the Cluster API module that `tests/servers/cluster-api` pins.
const CLUSTERS: (&str, &str, &str) = (
    "cluster-api",
    "sigs.k8s.io/cluster-api",
    "core/config/crd/bases/cluster.x-k8s.io_clusters.yaml",
);

/// Velero's CRD of locations, in the module that its server is built from.
const BACKUP_STORAGE_LOCATIONS: (&str, &str, &str) = (
    "velero",
    "github.com/vmware-tanzu/velero",
    "config/crd/v1/bases/velero.io_backupstoragelocations.yaml",
);

/// Makes the kinds known to a cluster; those that are there stay as they are.
pub fn install(cluster: &Cluster) -> Result<()> {
    for (server, module, file) in [CLUSTERS, BACKUP_STORAGE_LOCATIONS] {
        define(cluster, modules::document(server, module, file)?)?;
    }
    define(cluster, tanzu_kubernetes_clusters())
}

/// Makes only the clusters of Cluster API known.
pub fn install_clusters(cluster: &Cluster) -> Result<()> {
    let (server, module, file) = CLUSTERS;
    define(cluster, modules::document(server, module, file)?)
}

/// Makes one CRD known and waits until its kind is served in every version. Its conversion webhook, if it has one, is
/// left out.
pub fn define(cluster: &Cluster, mut definition: Value) -> Result<()> {
    // Cases of one binary share a cluster: the second one finds everything installed.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let text = |pointer: &str| {
        definition
            .pointer(pointer)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let name = text("/metadata/name").context("a CRD without a name")?;
    let group = text("/spec/group").context("a CRD without a group")?;
    let plural = text("/spec/names/plural").context("a CRD without a plural")?;
    let versions: Vec<String> = definition["spec"]["versions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|version| version["served"] == true)
        .filter_map(|version| version["name"].as_str().map(str::to_owned))
        .collect();
    let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
    if cluster.get(&path)?.is_none() {
        definition["spec"]["conversion"] = json!({ "strategy": "None" });
        cluster.create(definition)?;
    }
    cluster.wait_until(&format!("{name} to be served"), |cluster| {
        for version in &versions {
            if cluster
                .get(&format!("/apis/{group}/{version}/{plural}?limit=1"))?
                .is_none()
            {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// What is needed of `tanzukubernetesclusters.run.tanzu.vmware.com`, written from its public documentation: the group,
/// the kind, the two versions that are still met, and a spec that keeps whatever is in it.
fn tanzu_kubernetes_clusters() -> Value {
    let version = |name: &str, is_stored: bool| {
        json!({
            "name": name, "served": true, "storage": is_stored, "subresources": { "status": {} },
            "schema": { "openAPIV3Schema": {
                "type": "object",
                "properties": {
                    "spec": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
                    "status": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
                },
            } },
        })
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "tanzukubernetesclusters.run.tanzu.vmware.com" },
        "spec": {
            "group": "run.tanzu.vmware.com", "scope": "Namespaced",
            "names": {
                "kind": "TanzuKubernetesCluster", "listKind": "TanzuKubernetesClusterList",
                "plural": "tanzukubernetesclusters", "singular": "tanzukubernetescluster", "shortNames": ["tkc"],
            },
            "versions": [version("v1alpha3", true), version("v1alpha2", false)],
        },
    })
}

/// A kind that the gate guards, in one of its versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// `clusters.cluster.x-k8s.io`, as new installations write it.
    Cluster,
    /// The same kind in the version before.
    OlderCluster,
    /// `tanzukubernetesclusters.run.tanzu.vmware.com`.
    TanzuKubernetesCluster,
}

impl Workload {
    /// The kinds of the gate, each once.
    pub const KINDS: [Self; 2] = [Self::Cluster, Self::TanzuKubernetesCluster];

    fn api_version(self) -> &'static str {
        match self {
            Self::Cluster => "cluster.x-k8s.io/v1beta2",
            Self::OlderCluster => "cluster.x-k8s.io/v1beta1",
            Self::TanzuKubernetesCluster => "run.tanzu.vmware.com/v1alpha3",
        }
    }

    /// Its kind.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Cluster | Self::OlderCluster => "Cluster",
            Self::TanzuKubernetesCluster => "TanzuKubernetesCluster",
        }
    }

    /// Its group.
    pub fn group(self) -> &'static str {
        match self {
            Self::Cluster | Self::OlderCluster => "cluster.x-k8s.io",
            Self::TanzuKubernetesCluster => "run.tanzu.vmware.com",
        }
    }

    /// Its plural name.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Cluster | Self::OlderCluster => "clusters",
            Self::TanzuKubernetesCluster => "tanzukubernetesclusters",
        }
    }

    /// Where all of them in a namespace are.
    pub fn collection(self, namespace: &str) -> String {
        let version = self.api_version();
        format!("/apis/{version}/namespaces/{namespace}/{}", self.plural())
    }

    /// Where one of them is.
    pub fn path(self, namespace: &str, name: &str) -> String {
        format!("{}/{name}", self.collection(namespace))
    }

    /// A new one that nobody protects.
    pub fn object(self, namespace: &str, name: &str) -> Value {
        json!({
            "apiVersion": self.api_version(), "kind": self.kind(),
            "metadata": { "name": name, "namespace": namespace },
            // Cluster API wants one field at least.
            "spec": { "paused": true },
        })
    }

    /// Creates a new one and gives its UID.
    pub fn create(self, cluster: &Cluster, namespace: &str, name: &str) -> Result<String> {
        uid(&cluster.create(self.object(namespace, name))?)
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.plural(), self.group())
    }
}

/// The UID of an object.
pub fn uid(object: &Value) -> Result<String> {
    let uid = object.pointer("/metadata/uid").and_then(Value::as_str);
    uid.map(str::to_owned).context("an object without a UID")
}
