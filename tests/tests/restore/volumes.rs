//! Claims and their volumes: data that outlives the claim is given back to it, and the loss of other data is said.

use anyhow::Result;
use backup_engine::restore::RestoreRequest;
use backup_plan::scope::Scope;
use backup_tests::cluster::Cluster;
use serde_json::json;

use crate::site::{Site, assert_completed, delete_namespace, object, of_namespaces, path, request, uid};

#[test]
fn claims_keep_volumes_that_outlive_them_and_hear_of_those_that_do_not() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    for (policy, claim) in [("Retain", "kept"), ("Delete", "lost")] {
        let volume = format!("{namespace}-{claim}");
        cluster.create(json!({ "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": volume },
            "spec": { "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
                "persistentVolumeReclaimPolicy": policy, "hostPath": { "path": "/tmp/none" },
                "claimRef": { "namespace": namespace.name(), "name": claim } } }))?;
        cluster.create(json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": { "name": claim, "namespace": namespace.name() },
            "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": volume,
                "resources": { "requests": { "storage": "1Gi" } } } }))?;
    }
    let claim = |name: &str| path(namespace.name(), "persistentvolumeclaims", name);
    let volume = |name: &str| format!("/api/v1/persistentvolumes/{namespace}-{name}");
    let is_bound = |cluster: &Cluster, name: &str| -> Result<bool> {
        Ok(cluster
            .get(&claim(name))?
            .is_some_and(|claim| claim["status"]["phase"] == "Bound"))
    };
    cluster.wait_until("both claims to be bound", |cluster| {
        Ok(is_bound(cluster, "kept")? && is_bound(cluster, "lost")?)
    })?;
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;

    // The namespace is gone, its volume with data is still there.
    delete_namespace(cluster, namespace.name())?;
    cluster.wait_until("the volume to be released", |cluster| {
        Ok(object(cluster, &volume("kept"))?["status"]["phase"] == "Released")
    })?;
    cluster.delete(&volume("lost"))?;
    let old = uid(&object(cluster, &volume("kept"))?);
    let summary = site.restore(cluster, "b", request("released"))?;
    assert_completed(&summary);
    let said = summary.warnings.join("\n");
    assert!(said.contains("given back to it"), "{said}");
    assert!(said.contains("gets a new, empty volume"), "{said}");
    assert!(said.contains("claims: manifests only, no data"), "{said}");
    cluster.wait_until("the claim to be bound again", |cluster| is_bound(cluster, "kept"))?;
    assert_eq!(uid(&object(cluster, &volume("kept"))?), old);
    assert_eq!(object(cluster, &claim("lost"))?["spec"].get("volumeName"), None);

    // Both are gone: the volume's manifest comes along.
    delete_namespace(cluster, namespace.name())?;
    cluster.delete(&volume("kept"))?;
    cluster.wait_until_gone(&volume("kept"))?;
    let only_namespaced = Scope {
        included_namespaces: vec![namespace.name().to_owned()],
        ..Scope::default()
    };
    let summary = site.restore(
        cluster,
        "b",
        RestoreRequest {
            scope: only_namespaced,
            ..request("gone")
        },
    )?;
    assert_completed(&summary);
    cluster.wait_until("the claim to be bound to the restored volume", |cluster| {
        is_bound(cluster, "kept")
    })?;
    assert!(cluster.get(&volume("lost"))?.is_none());
    cluster.delete(&volume("kept"))
}
