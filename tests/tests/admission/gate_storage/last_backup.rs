//! The last backup: before anything else, whole, and nothing happens without it.

use anyhow::{Result, ensure};
use backup_tests::cluster::{Cluster, base64};
use backup_tests::store::Store;
use serde_json::json;

use super::{Story, workload};

#[test]
fn a_last_backup_is_not_called_whole_without_the_data_that_pods_opt_in() -> Result<()> {
    let story = Story::begin(Store::shared_versitygw()?)?;
    let ours = Cluster::start()?;
    story.kubeconfig(&std::fs::read_to_string(ours.kubeconfig())?)?;
    let shop = ours.namespace()?;
    ours.create(json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "data", "namespace": shop.name() },
        "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": { "requests": { "storage": "1Gi" } } },
    }))?;
    ours.create(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "db", "namespace": shop.name(), "annotations": { "backup.velero.io/backup-volumes": "data" } },
        "spec": {
            "containers": [{ "name": "c", "image": "x", "volumeMounts": [{ "name": "data", "mountPath": "/data" }] }],
            "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }],
        },
    }))?;
    story.back_up(&ours, "one", &[])?;
    story.protect()?.ok();
    story
        .cluster_command(&["retain", "prod", "--for", "90d", "--final-backup"])?
        .ok();
    let work = story.delete()?;
    story
        .job(&work)?
        .ok()
        .stderr_has("Blocked (FinalBackupFailed)")
        .stderr_has(&format!("opt in the data of 1 claims, such as {shop}/data"));
    ensure!(story.is_there()?);
    ours.kubectl_ok(&[
        "delete",
        "pod",
        "db",
        "-n",
        shop.name(),
        "--force",
        "--grace-period=0",
    ])?;
    story.again(&work)?.ok().stderr_has("Retained (StorageRetained)");
    story.site.cluster.wait_until_gone(&story.path)
}

#[test]
fn a_last_backup_comes_first_or_nothing_happens() -> Result<()> {
    let story = Story::begin(Store::shared_versitygw()?)?;
    story.kubeconfig(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster: {server: 'https://127.0.0.1:1'}\nusers:\n- name: u\n  user: \
         {token: t}\ncontexts:\n- name: c\n  context: {cluster: c, user: u}\ncurrent-context: c\n",
    )?;
    let ours = workload()?;
    story.back_up(ours, "one", &[])?;
    story.protect()?.ok().stderr_has("is not recorded");
    story
        .cluster_command(&["delete-storage", "prod", "--final-backup", "--yes"])?
        .ok();
    let work = story.delete()?;
    let before = story.store.keys()?;
    story.job(&work)?.ok().stderr_has("Blocked (ClusterUnreachable)");
    assert_eq!(story.store.keys()?, before);
    ensure!(story.is_there()?);
    // It can be reached after all: the last backup is made, verified, and then everything goes.
    let secret = format!(
        "/api/v1/namespaces/{}/secrets/prod-kubeconfig",
        story.namespace.name()
    );
    let real = std::fs::read_to_string(ours.kubeconfig())?;
    story
        .site
        .cluster
        .patch(&secret, json!({ "data": { "value": base64(real.as_bytes()) } }))?;
    story.again(&work)?.ok().stderr_has("Deleted (StorageDeleted)");
    let report = story.report(&work)?;
    assert_eq!(report["finalBackup"]["verified"], true, "{report}");
    assert_eq!(report["receipt"]["backups"], 2, "{report}");
    story.site.cluster.wait_until_gone(&story.path)?;
    ensure!(story.store.keys()?.is_empty());
    Ok(())
}
