//! Whole applications: deleted, restored, and the same as before in every field that the printed table does not name.

use std::io::Read;

use anyhow::Result;
use backup_engine::restore::RestoreSummary;
use backup_plan::scope::Scope;
use backup_tests::applications;
use backup_tests::cluster::Cluster;
use backup_tests::compare::{Ignored, RESTORED, compare_settled};
use backup_tests::snapshot::{self, ObjectKey, Snapshot};
use flate2::read::MultiGzDecoder;
use serde_json::json;
use velero_model::{resource_list::ResourceList, restore_record::RestoreRecord};

use crate::site::{Site, assert_completed, request};

/// What the fixtures leave out, so that every entry of the table has something to pass over: an object that was changed
/// after it was made. A lease needs no entry, and stays as it was.
fn change_some(cluster: &Cluster) -> Result<()> {
    let frontend = "/apis/apps/v1/namespaces/web-shop/deployments/frontend";
    let changed = cluster.patch(frontend, json!({ "spec": { "revisionHistoryLimit": 6 } }))?;
    assert_eq!(changed["metadata"]["generation"], 2);
    cluster.create(
        json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "operator", "namespace": "operator" },
        "spec": { "holderIdentity": "operator-0", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z" } }),
    )?;
    Ok(())
}

/// Somebody else gets the port that the load balancer asked about health, so that it cannot come back by chance.
fn take_health_check_port(cluster: &Cluster, before: &Snapshot) -> Result<()> {
    let public = &before[&ObjectKey::namespaced("services", "web-shop", "shop-public")];
    cluster.create(json!({ "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "squatter", "namespace": "default" },
        "spec": { "type": "NodePort", "ports": [{ "port": 80, "nodePort": public["spec"]["healthCheckNodePort"] }] } }))?;
    Ok(())
}

/// All that is cluster-scoped and all in the applications' namespaces. The cluster's own namespaces never rest.
fn applications_in(cluster: &Cluster) -> Result<Snapshot> {
    let mut snapshot = snapshot::of_cluster(cluster)?;
    snapshot.retain(|key, _| {
        let namespace = key.namespace.as_deref();
        namespace.is_none_or(|namespace| applications::NAMESPACES.contains(&namespace))
    });
    Ok(snapshot)
}

/// Every object of the backup is accounted for.
fn assert_accounted_for(site: &Site, summary: &RestoreSummary) -> Result<()> {
    let index = site.stored("restores/r/restore-r-resource-list.json.gz")?;
    let mut names = String::new();
    MultiGzDecoder::new(&index[..]).read_to_string(&mut names)?;
    let names: ResourceList = serde_json::from_str(&names)?;
    assert!(
        names["apps/v1/Deployment"]
            .iter()
            .any(|name| name.ends_with("(created)")),
        "{names:?}"
    );
    let record: RestoreRecord = serde_json::from_slice(&site.stored("restores/r/restore-r.json")?)?;
    assert_eq!(record, summary.record);
    assert!(record.kinds["pods"].skipped["made-by-controller"] > 0);
    Ok(())
}

#[test]
fn applications_come_back_as_they_were() -> Result<()> {
    let cluster = Cluster::start()?;
    applications::install_all(&cluster)?;
    change_some(&cluster)?;
    let before = applications_in(&cluster)?;
    let site = Site::new();
    site.back_up(&cluster, "all", Scope::default())?;
    applications::delete_all(&cluster)?;
    take_health_check_port(&cluster, &before)?;
    let summary = site.restore(&cluster, "all", request("r"))?;
    assert_completed(&summary);

    cluster.wait_until("the claims to be bound again", |cluster| {
        let claims = cluster.list("/api/v1/namespaces/database/persistentvolumeclaims")?;
        Ok(claims.iter().all(|claim| claim["status"]["phase"] == "Bound"))
    })?;
    let compared = compare_settled(&before, || applications_in(&cluster), RESTORED)?;
    compared.assert_same();
    for namespace in applications::NAMESPACES {
        let there = |key: &ObjectKey| key.namespace.as_deref() == Some(namespace);
        assert!(before.keys().any(there), "{namespace}");
    }
    // An entry that nothing needs any more would hide a fault one day.
    assert_eq!(compared.unused(), Vec::<&Ignored>::new());
    assert_accounted_for(&site, &summary)
}
