//! The overlay for cert-manager as it is shipped, on a node: the kubelet mounts the Secret and brings the renewed one.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use backup_tests::cert_manager::{CertManager, issued, renew};
use backup_tests::image;
use backup_tests::node::Node;
use backup_tests::plugin;
use serde_json::json;
use velero_model::api::BACKUP_VOLUMES;

use super::running::{NAMESPACE, annotation, is_trusted, pod, replicas};

#[test]
fn the_overlay_for_cert_manager_runs_on_a_node_and_survives_a_renewal() -> Result<()> {
    let _alone = super::alone();
    let node = Node::start()?;
    let cluster = node.cluster();
    let binaries = BTreeMap::from([
        ("kubectl-backup", plugin::binary()?),
        ("backup-webhook", plugin::webhook_binary()?),
    ]);
    node.import(&image::suite(&binaries)?)?;
    let cert_manager = CertManager::start(cluster)?;
    let overlay = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/webhook-cert-manager");
    cluster.kubectl_ok(&["apply", "-k", overlay.to_str().context("not UTF-8")?])?;
    node.wait_for_deployment(NAMESPACE, "backup-webhook")
        .with_context(|| cert_manager.log_tails())?;
    cluster
        .wait_until("the configurations to trust the server", |_| is_trusted(&node))
        .with_context(|| cert_manager.log_tails())?;
    cluster.create(json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": "shop", "labels": { "kubectl-backup.io/volumes": "include" } },
    }))?;
    let is_annotated = || -> Result<bool> {
        let answered = cluster.create_dry(pod("shop", "till"))?;
        Ok(annotation(&answered, BACKUP_VOLUMES) == Some("data"))
    };
    cluster
        .wait_until("a pod of a labelled namespace to be annotated", |_| {
            is_annotated()
        })
        .with_context(|| node.state_of(NAMESPACE))?;

    let secret = "backup-webhook-certificate";
    let before = issued(cluster, NAMESPACE, secret)?.context("nothing is issued")?;
    renew(cluster, NAMESPACE, "backup-webhook")?;
    let loaded = |replica: &String| -> Result<usize> {
        let log = cluster.kubectl_ok(&["logs", "-n", NAMESPACE, replica])?;
        Ok(log.matches("certificate loaded").count())
    };
    let replicas = replicas(&node)?;
    ensure!(replicas.len() == 2, "{replicas:?}");
    let mut asked = 0;
    cluster.wait_until("the kubelet to bring the renewed certificate", |_| {
        ensure!(is_annotated()?, "pod {asked} was let through unseen");
        asked += 1;
        let counts = replicas.iter().map(loaded).collect::<Result<Vec<_>>>()?;
        Ok(counts.iter().all(|count| *count >= 2))
    })?;
    let after = issued(cluster, NAMESPACE, secret)?.context("nothing is issued")?;
    ensure!(after.key != before.key && after.authority == before.authority);
    for number in 0..20 {
        ensure!(is_annotated()?, "pod {number} was let through unseen");
    }
    Ok(())
}
