//! Kinds that a definition brings: restored where they are served, refused by name where not, with their status if asked.

use anyhow::Result;
use backup_engine::restore::RestoreRequest;
use backup_plan::{resource_names::ResourceNames, scope::Scope};
use backup_tests::cluster::{Cluster, Namespace};
use serde_json::{Value, json};
use velero_model::phase::Phase;

use crate::site::{
    Site, assert_completed, config_map, delete_namespace, object, of_namespaces, path, request,
};

/// A definition `things.<namespace>.example.com`, with a status that is a subresource, and its path.
pub(crate) fn define_things(cluster: &Cluster, namespace: &Namespace) -> Result<String> {
    let group = format!("{namespace}.example.com");
    cluster.create(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("things.{group}") },
        "spec": { "group": &group, "scope": "Namespaced",
            "names": { "plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }] }
    }))?;
    let things = format!("/apis/{group}/v1/namespaces/{namespace}/things");
    // Discovery lists a group later than its objects are served, and a backup asks discovery; on 1.37 that is some seconds
    // under load.
    cluster.wait_until("the things to be served", |cluster| {
        let groups = cluster.get("/apis")?.unwrap_or_default();
        let named = |found: &Value| found["name"] == group.as_str();
        let is_listed = groups["groups"]
            .as_array()
            .is_some_and(|groups| groups.iter().any(named));
        Ok(
            is_listed
                && cluster.get(&format!("/apis/{group}/v1"))?.is_some()
                && cluster.list(&things).is_ok(),
        )
    })?;
    Ok(things)
}

pub(crate) fn thing(namespace: &Namespace, name: &str) -> Value {
    json!({ "apiVersion": format!("{namespace}.example.com/v1"), "kind": "Thing",
        "metadata": { "name": name, "namespace": namespace.name() }, "spec": { "size": 3 } })
}

pub(crate) fn delete_definition(cluster: &Cluster, namespace: &Namespace) -> Result<()> {
    let path =
        format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.{namespace}.example.com");
    cluster.delete(&path)?;
    cluster.wait_until_gone(&path)
}

#[test]
fn kinds_that_the_cluster_does_not_serve_are_refused_by_name() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    define_things(cluster, &namespace)?;
    cluster.create(thing(&namespace, "one"))?;
    cluster.create(config_map(&namespace, "x", "1"))?;
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    delete_namespace(cluster, namespace.name())?;
    delete_definition(cluster, &namespace)?;
    let without = Scope {
        excluded_resources: ResourceNames::new(["customresourcedefinitions"]),
        ..Scope::default()
    };
    let summary = site.restore(
        cluster,
        "b",
        RestoreRequest {
            scope: without,
            ..request("r")
        },
    )?;
    assert_eq!(summary.record.phase, Phase::PartiallyFailed);
    assert_eq!(summary.failures.len(), 1, "{:?}", summary.failures);
    assert_eq!(
        summary.failures[0].object,
        format!("things.{namespace}.example.com {namespace}/one")
    );
    assert!(
        summary.failures[0].reason.contains("does not serve things of"),
        "{:?}",
        summary.failures
    );
    assert!(cluster.get(&path(namespace.name(), "configmaps", "x"))?.is_some());
    Ok(())
}

#[test]
fn status_is_restored_where_it_was_asked_for() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    let things = define_things(cluster, &namespace)?;
    cluster.create(thing(&namespace, "one"))?;
    cluster.patch(
        &format!("{things}/one/status"),
        json!({ "status": { "ready": 3 } }),
    )?;
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    for (restore, words, expected) in [
        ("without", vec![], Value::Null),
        ("with", vec![format!("things.{namespace}.example.com")], json!(3)),
    ] {
        cluster.delete(&format!("{things}/one"))?;
        let asked = RestoreRequest {
            status_include: ResourceNames::new(words),
            ..request(restore)
        };
        assert_completed(&site.restore(cluster, "b", asked)?);
        assert_eq!(
            object(cluster, &format!("{things}/one"))?["status"]["ready"],
            expected,
            "{restore}"
        );
    }
    delete_definition(cluster, &namespace)
}
