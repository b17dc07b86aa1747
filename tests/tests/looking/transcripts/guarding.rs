//! The `cluster` commands in a management cluster whose admission suite is installed and not running.

use anyhow::Result;
use backup_tests::cluster::Cluster;
use backup_tests::cluster_api::{self, Workload};
use backup_tests::plugin::Plugin;
use backup_tests::store::Store;
use kube::CustomResourceExt;
use serde_json::json;
use velero_model::api::StorageDisposition;

use super::{Redaction, Script};

const NAMESPACE: &str = "team-a";

#[test]
fn guarding_commands_print_what_is_stored() -> Result<()> {
    let cluster = Cluster::builder().controllers(false).start()?;
    cluster_api::install(&cluster)?;
    cluster_api::define(&cluster, serde_json::to_value(StorageDisposition::crd())?)?;
    cluster.create(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } }))?;
    Workload::Cluster.create(&cluster, NAMESPACE, "prod")?;
    Workload::TanzuKubernetesCluster.create(&cluster, NAMESPACE, "dev")?;
    let (store, second) = (Store::folder()?, Store::folder()?);
    let plugin = Plugin::new(&cluster, &store)?;
    let redaction = Redaction {
        texts: vec![
            (store.path().display().to_string(), "/<location>"),
            (second.path().display().to_string(), "/<second>"),
        ],
    };
    let below = store.location_url_with_prefix(&format!("{NAMESPACE}/prod"));
    std::fs::create_dir_all(store.path().join(NAMESPACE).join("prod"))?;
    plugin
        .run(["create", "nightly", "-n", NAMESPACE, "--location", &below])?
        .ok();
    let second = second.location_url();
    let script = Script {
        plugin: &plugin,
        redaction: &redaction,
    };
    let commands: [&[&str]; 9] = [
        &["cluster", "status", "-n", NAMESPACE],
        &["cluster", "protect", "prod", "-n", NAMESPACE],
        &[
            "cluster",
            "protect",
            "prod",
            "-n",
            NAMESPACE,
            "--location",
            &second,
        ],
        &["cluster", "status", "prod", "-n", NAMESPACE],
        &[
            "cluster",
            "retain",
            "prod",
            "-n",
            NAMESPACE,
            "--for",
            "90d",
            "--wait=false",
        ],
        &["cluster", "delete-storage", "prod", "-n", NAMESPACE],
        &["cluster", "retain", "dev", "-n", NAMESPACE, "--for", "soon"],
        &["cluster", "unprotect", "prod", "-n", NAMESPACE, "--yes"],
        &["cluster", "status", "gone", "-n", NAMESPACE],
    ];
    script.transcript("cluster", &commands)
}
