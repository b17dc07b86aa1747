//! What is there already is harmed by no restore that was not asked to, and what is on its way out is waited for.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use backup_engine::api::PatchKind;
use backup_engine::restore::RestoreRequest;
use backup_plan::restore::policy::Policy;
use backup_tests::cluster::Cluster;
use backup_tests::runtime;
use serde_json::json;

use crate::site::{Site, assert_completed, client, config_map, object, of_namespaces, path, request};

#[test]
fn what_exists_is_told_apart_and_changed_only_when_asked() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    for object in ["same", "changed"] {
        cluster.create(config_map(&namespace, object, "1"))?;
    }
    cluster.create(json!({ "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": { "name": "worker", "namespace": namespace.name() }, "imagePullSecrets": [{ "name": "pull" }] }))?;
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    let changed = path(namespace.name(), "configmaps", "changed");
    cluster.patch(&changed, json!({ "data": { "a": "2", "b": "new" } }))?;
    let account = path(namespace.name(), "serviceaccounts", "worker");
    cluster.patch(
        &account,
        json!({ "imagePullSecrets": null, "metadata": { "labels": { "kept": "yes" } } }),
    )?;

    let summary = site.restore(cluster, "b", request("none"))?;
    assert_completed(&summary);
    let maps = &summary.record.kinds["configmaps"];
    assert_eq!((maps.created, maps.unchanged, maps.differs), (0, 1, 1));
    assert_eq!(summary.differs.len(), 1);
    assert_eq!(
        summary.differs[0].object,
        format!("configmaps {namespace}/changed")
    );
    assert_eq!(summary.differs[0].paths, ["data.a", "data.b"]);
    assert_eq!(object(cluster, &changed)?["data"]["a"], "2");
    let account = object(cluster, &account)?;
    assert_eq!(account["imagePullSecrets"], json!([{ "name": "pull" }]));
    assert_eq!(account["metadata"]["labels"], json!({ "kept": "yes" }));

    let summary = site.restore(
        cluster,
        "b",
        RestoreRequest {
            existing: Policy::Update.into(),
            ..request("update")
        },
    )?;
    assert_completed(&summary);
    assert_eq!(summary.record.kinds["configmaps"].updated, 1);
    let live = object(cluster, &changed)?;
    assert_eq!(live["data"], json!({ "a": "1", "b": "new" }));
    let said = summary.warnings.join("\n");
    assert!(
        said.contains("fields of others were set") && said.contains(".data.a"),
        "{said}"
    );
    assert!(
        said.contains("it still has what the backup does not hold: data.b"),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_namespace_that_is_being_deleted_is_waited_for() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    let mut held = config_map(&namespace, "held", "1");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    cluster.create(held)?;
    cluster.create(config_map(&namespace, "x", "1"))?;
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    cluster.delete(&format!("/api/v1/namespaces/{namespace}"))?;
    let held = path(namespace.name(), "configmaps", "held");
    let (kubeconfig, free) = (cluster.kubeconfig().to_owned(), held.clone());
    let releasing = std::thread::spawn(move || {
        runtime::run(async move {
            let api = client(kubeconfig).await?;
            tokio::time::sleep(Duration::from_secs(3)).await;
            let patch = json!({ "metadata": { "finalizers": null } }).to_string();
            api.patch(&free, &PatchKind::Merge, patch.into()).await?;
            Ok(())
        })
    });
    let begun = Instant::now();
    let summary = site.restore(cluster, "b", request("r"))?;
    releasing.join().ok().context("the releaser panicked")??;
    assert!(begun.elapsed() >= Duration::from_secs(3));
    assert_completed(&summary);
    assert_eq!(summary.record.kinds["namespaces"].created, 1);
    assert_eq!(
        object(cluster, &held)?["metadata"]["finalizers"],
        json!(["example.com/hold"])
    );
    cluster.patch(&held, json!({ "metadata": { "finalizers": null } }))?;
    Ok(())
}
