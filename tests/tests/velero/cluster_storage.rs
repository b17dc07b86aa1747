//! A cluster goes with `Delete` while its Velero still lives: Velero deletes what it has, by its own requests, and the rest
//! goes after it.

use anyhow::{Context, Result, ensure};
use backup_tests::cluster::{Cluster, base64};
use backup_tests::cluster_api::{self, Workload};
use backup_tests::plugin::Plugin;
use backup_tests::store::Store;
use backup_tests::velero::Velero;
use serde_json::{Value, json};
use velero_model::api::storage_work::work_name;
use velero_model::api::{ACCEPTED, FINALIZER};

const TEAM: &str = "team-a";

/// The object of a cluster that is going and was let go with `Delete`. No admission suite runs here.
fn going(cluster: &Cluster) -> Result<String> {
    cluster_api::install_clusters(cluster)?;
    for name in ["kubectl-backup", TEAM] {
        cluster.create(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }))?;
    }
    let kubeconfig = std::fs::read_to_string(cluster.kubeconfig())?;
    cluster.create(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "prod-kubeconfig", "namespace": TEAM },
        "data": { "value": base64(kubeconfig.as_bytes()) },
    }))?;
    let mut object = Workload::Cluster.object(TEAM, "prod");
    object["metadata"]["finalizers"] = json!([FINALIZER]);
    let made = cluster.create(object)?;
    let uid = made["metadata"]["uid"].as_str().context("uid")?.to_owned();
    let path = Workload::Cluster.path(TEAM, "prod");
    let accepted = json!({ "metadata": { "annotations": { ACCEPTED: format!("Delete/{uid}") } } });
    cluster.patch(&path, accepted)?;
    cluster.delete(&path)?;
    Ok(uid)
}

#[test]
fn a_velero_that_lives_deletes_its_own_first() -> Result<()> {
    let (cluster, own) = (Cluster::start()?, Store::shared_versitygw()?);
    let store = Store::shared_versitygw_with_object_lock()?;
    let velero = Velero::start(&cluster, &own)?;
    let prefix = format!("{TEAM}/prod");
    let spec = json!({ "objectStorage": { "prefix": prefix } });
    velero.add_location("prod", &store, spec)?;
    let wanted = json!({ "storageLocation": "prod", "includedNamespaces": ["default"] });
    velero.backup("theirs", wanted)?;
    let below = store.location_url_with_prefix(&prefix);
    let plugin = Plugin::new(&cluster, &store)?.with_env("KUBECTL_BACKUP_LOCATION", &below);
    plugin
        .run(["create", "ours", "-n", "default", "--engine", "direct"])?
        .ok();
    let uid = going(&cluster)?;
    let system = cluster
        .get("/api/v1/namespaces/kube-system")?
        .context("kube-system")?;
    let name = work_name(&uid);
    let order = json!({
        "format": 1, "revision": 1, "choice": "Delete", "location": store.location_url(), "prefix": prefix,
        "source": system["metadata"]["uid"],
        "cluster": { "group": "cluster.x-k8s.io", "kind": "Cluster", "namespace": TEAM, "name": "prod", "uid": uid },
    });
    cluster.create(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "namespace": "kubectl-backup" },
        "data": { "order": order.to_string() },
    }))?;
    plugin
        .run(["cluster", "carry-out", &name])?
        .ok()
        .stderr_has("Deleted (StorageDeleted)")
        .stderr_has("2 backups");
    // A Backup whose files were merely taken away would be there until the next sync.
    ensure!(velero.get("Backup", "theirs")?.is_none(), "{}", velero.log_tail());
    ensure!(velero.log()?.contains("theirs"), "Velero was not asked");
    ensure!(store.keys()?.is_empty(), "{:?}", store.keys()?);
    let map = cluster
        .get(&format!("/api/v1/namespaces/kubectl-backup/configmaps/{name}"))?
        .context("no ConfigMap")?;
    let report: Value = serde_json::from_str(map["data"]["report"].as_str().context("no report")?)?;
    assert_eq!(report["receipt"]["emptyProven"], true, "{report:#}");
    Ok(())
}
