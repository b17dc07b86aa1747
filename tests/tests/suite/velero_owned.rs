//! A Velero that somebody else looks after: it gets a location and nothing more, until it is taken over on purpose.

use anyhow::{Context, Result, ensure};
use backup_tests::cluster::Cluster;
use backup_tests::store::Store;
use serde_json::{Value, json};

use super::velero_install::{
    AGENT, DEPLOYMENT, ENABLE, LOCATION, annotations, gone, image, manifest, with_main,
};

/// A server as somebody else has put it there.
fn foreign(
    cluster: &Cluster,
    namespace: &str,
    image: &str,
    labels: Value,
    annotations: &Value,
) -> Result<()> {
    if cluster.get(&format!("/api/v1/namespaces/{namespace}"))?.is_none() {
        cluster
            .create(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }))?;
    }
    let mut labels = labels;
    labels["component"] = "velero".into();
    cluster.create(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "velero", "namespace": namespace, "labels": labels, "annotations": annotations },
        "spec": {
            "replicas": 0,
            "selector": { "matchLabels": { "deploy": "velero" } },
            "template": {
                "metadata": { "labels": { "deploy": "velero" } },
                "spec": { "containers": [{ "name": "velero", "image": image, "command": ["/velero"], "args": ["server"] }] },
            },
        },
    }))?;
    Ok(())
}

#[test]
fn what_somebody_else_looks_after_gets_a_location_and_nothing_more() -> Result<()> {
    let cluster = Cluster::start()?;
    let store = Store::shared_versitygw()?;
    let plugin = with_main(&cluster, &store)?;
    cluster.apply(&std::fs::read_to_string(manifest())?)?;
    let replace = |image: &str, labels: Value, annotations: Value| -> Result<()> {
        if cluster.get(DEPLOYMENT)?.is_some() {
            cluster.kubectl_ok(&["delete", "deployment", "velero", "-n", "velero", "--wait"])?;
        }
        foreign(&cluster, "velero", image, labels, &annotations)
    };
    let helm = || json!({ "app.kubernetes.io/managed-by": "Helm" });
    let release =
        || json!({ "meta.helm.sh/release-name": "vault", "meta.helm.sh/release-namespace": "velero" });

    replace("velero/velero:v1.15.2", helm(), release())?;
    plugin
        .run(ENABLE)?
        .exits(4)
        .stderr_has("1.16 is the oldest")
        .stderr_has("Helm (vault) has to move it");
    replace("velero/velero:v1.17.1", helm(), release())?;
    plugin
        .run([&ENABLE[..], &["--take-over"]].concat())?
        .exits(4)
        .stderr_has("would undo what is changed here");
    plugin
        .run([&ENABLE[..], &["--velero-image=r/velero:v1.18.3"]].concat())?
        .exits(4)
        .stderr_has("leave --velero-image out");
    gone(&cluster, LOCATION)?;
    let before = cluster.get(DEPLOYMENT)?.context("no server")?;
    plugin
        .run(ENABLE)?
        .ok()
        .stderr_has("looked after by Helm (vault) and stays as it is")
        .stdout_has("namespace/velero: its version is its owner's, 2 created");
    let after = cluster.get(DEPLOYMENT)?.context("no server")?;
    assert_eq!(before["metadata"]["generation"], after["metadata"]["generation"]);
    assert_eq!(
        before["metadata"]["managedFields"],
        after["metadata"]["managedFields"]
    );
    let location = cluster.get(LOCATION)?.context("no location")?;
    assert_eq!(location["spec"]["credential"]["name"], "location-main");
    gone(&cluster, AGENT)?;
    plugin
        .run(ENABLE)?
        .ok()
        .stderr_has("BackupStorageLocation velero/main is this place already");
    plugin
        .run(["upgrade", "--wait=false"])?
        .ok()
        .stderr_has("looked after by Helm (vault), which upgrades it");
    plugin
        .run(["status"])?
        .exits(1)
        .stdout_has("Velero v1.17.1 (looked after by Helm (vault))");
    plugin
        .run(["disable", "--backup-storage=Retain"])?
        .ok()
        .stderr_has("looked after by Helm (vault) and stays");
    ensure!(cluster.get(DEPLOYMENT)?.is_some(), "it went");
    ensure!(cluster.get(LOCATION)?.is_some(), "its location went");

    // One that nobody looks after is used as it is, and taken over where that is asked for.
    replace("velero/velero:v1.17.1", json!({}), json!({}))?;
    plugin
        .run(ENABLE)?
        .ok()
        .stderr_has("looked after by nobody (`velero install`)");
    assert_eq!(
        image(&cluster, DEPLOYMENT, "containers")?,
        "velero/velero:v1.17.1"
    );
    plugin
        .run([&ENABLE[..], &["--take-over"]].concat())?
        .ok()
        .stderr_has("is taken over");
    assert_eq!(
        image(&cluster, DEPLOYMENT, "containers")?,
        "velero/velero:v1.18.3"
    );
    assert_eq!(annotations(&cluster)?["kubectl-backup.io/version"], "v1.18.3");

    // Another one elsewhere keeps its definitions.
    foreign(
        &cluster,
        "openshift-adp",
        "velero/velero:v1.16.1",
        json!({}),
        &json!({}),
    )?;
    plugin
        .run(["disable", "--backup-storage=Retain"])?
        .ok()
        .stderr_has("Velero's definitions stay, since Velero runs in namespace openshift-adp too");
    ensure!(
        cluster
            .kubectl_ok(&["get", "crds", "-o", "name"])?
            .contains("backups.velero.io")
    );
    plugin
        .run(ENABLE)?
        .exits(4)
        .stderr_has("--velero-namespace openshift-adp");
    Ok(())
}
