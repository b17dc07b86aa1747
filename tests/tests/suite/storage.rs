//! Both choices carried out on a node, by Jobs whose pods run: one cluster's backups are deleted, another's are kept after a
//! last backup, and both clusters go. Called from the case that installs the suite.

use anyhow::{Context, Result, ensure};
use backup_tests::cluster::{Cluster, base64};
use backup_tests::cluster_api::Workload;
use backup_tests::node::Node;
use backup_tests::plugin::Plugin;
use backup_tests::store::Store;
use serde_json::{Value, json};
use velero_model::api::{PROTECTED, SOURCE};

use super::schedules::url_for_pods;

const NAMESPACE: &str = "kubectl-backup";
/// Where the clusters are.
const TEAM: &str = "team-a";

pub(super) fn choices_are_carried_out(node: &Node) -> Result<()> {
    let cluster = node.cluster();
    let store = Store::shared_versitygw_with_object_lock()?;
    let keys = "[default]\naws_access_key_id = tester\naws_secret_access_key = tester-secret-key\n";
    cluster.create(json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {
            "name": "location-main", "namespace": NAMESPACE, "labels": { "kubectl-backup.io/location": "main" },
        },
        "stringData": { "url": url_for_pods(node, &store)?, "credentials": keys },
    }))?;
    cluster.create(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": TEAM } }))?;
    // A last backup is refused where pods opt in data, which it does not read.
    let opted_in = "backup.velero.io/backup-volumes-";
    cluster.kubectl_ok(&["annotate", "pod", "--all", "-n", "shop", opted_in])?;
    let user = Plugin::bare()?.with_kubeconfig(cluster.kubeconfig())?;
    for (name, words) in [
        ("gone", &["delete-storage", "gone", "--yes"][..]),
        ("kept", &["retain", "kept", "--for", "90d", "--final-backup"]),
    ] {
        protect(cluster, &store, name)?;
        user.run([&["cluster"], words, &["-n", TEAM]].concat())?.ok();
        let deleted = cluster.kubectl(&[
            "delete",
            "clusters.cluster.x-k8s.io",
            name,
            "-n",
            TEAM,
            "--wait=false",
        ])?;
        ensure!(deleted.status.success(), "{deleted:?}");
    }
    for name in ["gone", "kept"] {
        cluster
            .wait_until_gone(&Workload::Cluster.path(TEAM, name))
            .with_context(|| node.state_of(NAMESPACE))?;
    }
    let status = user.run(["cluster", "status", "-n", TEAM])?.ok();
    ensure!(
        status.stdout.contains("Deleted") && status.stdout.contains("Retained"),
        "{status}"
    );
    let stored = store.keys()?;
    let of = |name: &str| {
        let prefix = format!("{TEAM}/{name}/");
        stored.iter().filter(|key| key.starts_with(&prefix)).count()
    };
    ensure!(of("gone") == 0 && of("kept") > 0, "{stored:?}");
    let kept = user.json(["cluster", "status", "kept", "-n", TEAM])?;
    assert_eq!(
        kept["work"]["report"]["finalBackup"]["verified"], true,
        "{kept:#}"
    );
    let below = store.location_url_with_prefix(&format!("{TEAM}/kept"));
    Plugin::new(cluster, &store)?
        .run(["cluster", "recover", &below, "--plan"])?
        .ok()
        .stdout_has("final-");
    // Who removes the suite looks at every location, and this one is known by an address for pods.
    cluster.delete(&format!("/api/v1/namespaces/{NAMESPACE}/secrets/location-main"))?;
    cluster
        .kubectl_ok(&["delete", "namespace", TEAM, "--timeout=60s"])
        .map(drop)
}

/// A cluster with backups and the marks of protection. The node's own cluster plays the part of the workload cluster.
fn protect(cluster: &Cluster, store: &Store, name: &str) -> Result<()> {
    let below = store.location_url_with_prefix(&format!("{TEAM}/{name}"));
    let inside = Plugin::new(cluster, store)?.with_env("KUBECTL_BACKUP_LOCATION", &below);
    inside
        .run(["create", "nightly", "-n", "default", "--ttl", "1s"])?
        .ok();
    let service = cluster
        .get("/api/v1/namespaces/default/services/kubernetes")?
        .context("no service kubernetes")?;
    let address = service["spec"]["clusterIP"].as_str().context("no address")?;
    let text = std::fs::read_to_string(cluster.kubeconfig())?;
    let mut kubeconfig: Value = serde_json::from_str(&text)?;
    kubeconfig["clusters"][0]["cluster"]["server"] = format!("https://{address}").into();
    cluster.create(json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": format!("{name}-kubeconfig"), "namespace": TEAM },
        "data": { "value": base64(kubeconfig.to_string().as_bytes()) },
    }))?;
    let system = cluster
        .get("/api/v1/namespaces/kube-system")?
        .context("kube-system")?;
    let mut object = Workload::Cluster.object(TEAM, name);
    object["metadata"]["annotations"] = json!({ PROTECTED: format!("main:{TEAM}/{name}") });
    cluster.create(object)?;
    let source = json!({ "metadata": { "annotations": { SOURCE: system["metadata"]["uid"] } } });
    cluster
        .patch(&Workload::Cluster.path(TEAM, name), source)
        .map(drop)
}
