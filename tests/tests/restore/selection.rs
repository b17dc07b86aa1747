//! What is asked for and nothing else: one object of many, or a namespace under another name.

use anyhow::Result;
use backup_engine::restore::RestoreRequest;
use backup_tests::cluster::Cluster;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::site::{
    Site, assert_completed, config_map, delete_namespace, object, of_namespaces, only, path, request,
};

#[test]
fn a_namespace_goes_into_another_with_its_metadata() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    cluster.patch(
        &format!("/api/v1/namespaces/{namespace}"),
        json!({ "metadata": { "labels": { "team": "shop" } } }),
    )?;
    cluster.create(config_map(&namespace, "prices", "1"))?;
    cluster.create(
        json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": { "name": "readers", "namespace": namespace.name() },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view" },
        "subjects": [{ "kind": "ServiceAccount", "name": "default", "namespace": namespace.name() }] }),
    )?;
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    let target = format!("{namespace}-copy");
    let mapped = RestoreRequest {
        namespace_mappings: [(namespace.name().to_owned(), target.clone())].into(),
        ..request("r")
    };
    assert_completed(&site.restore(cluster, "b", mapped)?);
    let made = object(cluster, &format!("/api/v1/namespaces/{target}"))?;
    assert_eq!(made["metadata"]["labels"]["team"], "shop");
    assert_eq!(made["metadata"]["labels"].get("velero.io/restore-name"), None);
    let copied = object(cluster, &path(&target, "configmaps", "prices"))?;
    assert_eq!(copied["data"]["a"], "1");
    assert_eq!(copied["metadata"]["labels"]["velero.io/restore-name"], "r");
    assert_eq!(copied["metadata"]["labels"]["velero.io/backup-name"], "b");
    let binding = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{target}/rolebindings/readers");
    assert_eq!(
        object(cluster, &binding)?["subjects"][0]["namespace"],
        target.as_str()
    );
    cluster.delete(&format!("/api/v1/namespaces/{target}"))
}

#[test]
fn one_object_comes_back_alone_and_brings_its_namespace() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    for object in ["one", "two"] {
        cluster.create(config_map(&namespace, object, "1"))?;
    }
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    delete_namespace(cluster, namespace.name())?;
    let summary = site.restore(cluster, "b", only("r", "cm", "one"))?;
    assert_completed(&summary);
    let created: Vec<_> = summary
        .record
        .kinds
        .iter()
        .map(|(kind, result)| (kind.as_str(), result.created))
        .collect();
    assert_eq!(created, [("configmaps", 1), ("namespaces", 1)]);
    assert!(
        cluster
            .get(&path(namespace.name(), "configmaps", "one"))?
            .is_some()
    );
    assert!(
        cluster
            .get(&path(namespace.name(), "configmaps", "two"))?
            .is_none()
    );

    let refused = |request| -> Result<String> {
        match site.try_restore(cluster, "b", request, CancellationToken::new())? {
            Ok(_) => anyhow::bail!("it was restored"),
            Err(error) => Ok(error.to_string()),
        }
    };
    let error = refused(only("r2", "configmap", "three"))?;
    assert!(error.contains("configmap/three is not in backup b"), "{error}");
    let error = refused(only("r2", "nonsense", "one"))?;
    assert!(error.contains("no kind is called \"nonsense\""), "{error}");
    let error = refused(only("r2", "nodes", "one"))?;
    assert!(error.contains("nodes are never restored"), "{error}");
    Ok(())
}
