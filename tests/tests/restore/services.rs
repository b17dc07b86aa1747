//! Addresses and ports of Services: what a person chose stays, what the cluster assigned is assigned anew.

use anyhow::Result;
use backup_tests::cluster::Cluster;
use serde_json::{Value, json};

use crate::site::{Site, assert_completed, delete_namespace, object, of_namespaces, path, request};

#[test]
fn ports_that_were_chosen_stay_and_assigned_ones_are_given_up() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    let service = |name: &str, port: Value| {
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": namespace.name() },
            "spec": { "type": "NodePort", "selector": { "app": name }, "ports": [port] } })
    };
    cluster.create(service("chosen", json!({ "port": 80, "nodePort": 31_987 })))?;
    cluster.create(service("assigned", json!({ "port": 80 })))?;
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;

    // A port that the very same Service holds is no conflict.
    let summary = site.restore(cluster, "b", request("there"))?;
    assert_completed(&summary);
    assert_eq!(summary.record.kinds["services"].unchanged, 2);

    delete_namespace(cluster, namespace.name())?;
    assert_completed(&site.restore(cluster, "b", request("r"))?);
    let chosen = object(cluster, &path(namespace.name(), "services", "chosen"))?;
    assert_eq!(chosen["spec"]["ports"][0]["nodePort"], 31_987);
    assert!(
        object(cluster, &path(namespace.name(), "services", "assigned"))?["spec"]["clusterIP"].is_string()
    );
    Ok(())
}
