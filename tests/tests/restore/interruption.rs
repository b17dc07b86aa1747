//! Restores that are stopped, killed, or lose their API server: what they did is on record, and nothing is done twice.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use backup_engine::restore::{RestoreError, RestoreRequest};
use backup_engine::storage::Put;
use backup_tests::cluster::Cluster;
use backup_tests::runtime;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use velero_model::{phase::Phase, restore_record::RestoreRecord};

use crate::site::{
    Site, assert_completed, client, config_map, delete_namespace, object, of_namespaces, path, request, uid,
};

#[test]
fn a_name_of_a_restore_is_used_once() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    cluster.create(config_map(&namespace, "x", "1"))?;
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    let summary = site.restore(cluster, "b", request("r"))?;
    assert_eq!(
        summary.record_stored_at.rsplit('/').next(),
        Some("restore-r.json")
    );
    let again = site.try_restore(cluster, "b", request("r"), CancellationToken::new())?;
    assert!(matches!(again, Err(RestoreError::Exists { .. })), "{again:?}");
    Ok(())
}

#[test]
fn an_interrupted_restore_ends_its_record() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    let owner = namespace.name().to_owned();
    cluster.create_many(1_500, move |number| {
        json!({ "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": format!("m-{number}"), "namespace": owner }, "data": { "a": "1" } })
    })?;
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    delete_namespace(cluster, namespace.name())?;
    let cancel = CancellationToken::new();
    let (token, kubeconfig) = (cancel.clone(), cluster.kubeconfig().to_owned());
    let first = path(namespace.name(), "configmaps", "m-1");
    let watching = std::thread::spawn(move || {
        runtime::run(async move {
            let api = client(kubeconfig).await?;
            while api.get(&first).await?.is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            token.cancel();
            Ok(())
        })
    });
    let ended = site.try_restore(cluster, "b", request("r"), cancel)?;
    watching.join().ok().context("the watcher panicked")??;
    assert!(matches!(ended, Err(RestoreError::Interrupted)), "{ended:?}");
    let record: RestoreRecord = serde_json::from_slice(&site.stored("restores/r/restore-r.json")?)?;
    assert_eq!(record.phase, Phase::Failed);
    let done = record.kinds["configmaps"].created;
    assert!((1..1_500).contains(&done), "{done}");
    // What the record counts is what is there.
    let there = cluster.list(&format!("/api/v1/namespaces/{namespace}/configmaps"))?;
    let restored = there.iter().filter(|map| {
        map["metadata"]["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("m-"))
    });
    assert_eq!(restored.count() as u64, done);
    // The same restore goes on, and counts what the first run made.
    let summary = site.restore(cluster, "b", request("r"))?;
    assert_completed(&summary);
    assert_eq!(summary.record.kinds["configmaps"].created, 1_500);
    Ok(())
}

#[test]
fn a_run_that_was_killed_is_taken_up_under_its_name() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    let owner = cluster.create(config_map(&namespace, "owner", "1"))?;
    for object in ["there", "lost"] {
        let mut map = config_map(&namespace, object, "1");
        map["metadata"]["ownerReferences"] =
            json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid(&owner) }]);
        cluster.create(map)?;
    }
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    delete_namespace(cluster, namespace.name())?;
    assert_completed(&site.restore(cluster, "b", request("r"))?);
    // As a run leaves it that is killed after it made `there` and before it set its owner.
    let map = |name: &str| path(namespace.name(), "configmaps", name);
    cluster.delete(&map("lost"))?;
    cluster.patch(&map("there"), json!({ "metadata": { "ownerReferences": null } }))?;
    let key = "restores/r/restore-r.json";
    let mut record: RestoreRecord = serde_json::from_slice(&site.stored(key)?)?;
    record.phase = Phase::InProgress;
    let (bucket, body) = (Arc::clone(&site.bucket), serde_json::to_vec(&record)?);
    runtime::run(async move {
        anyhow::ensure!(bucket.put(key, body.into(), Put::default()).await?.is_stored());
        Ok(())
    })?;

    let summary = site.restore(cluster, "b", request("r"))?;
    assert_completed(&summary);
    assert_eq!(summary.record.kinds["configmaps"].created, 3);
    let owner = object(cluster, &map("owner"))?;
    for name in ["there", "lost"] {
        assert_eq!(
            object(cluster, &map(name))?["metadata"]["ownerReferences"][0]["uid"],
            uid(&owner),
            "{name}"
        );
    }
    Ok(())
}

#[test]
fn an_api_server_that_restarts_loses_and_doubles_nothing() -> Result<()> {
    let cluster = Cluster::builder().controllers(false).start()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    let count = 3_000;
    let owner = namespace.name().to_owned();
    cluster.create_many(count, move |number| {
        json!({ "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": format!("m-{number}"), "namespace": owner }, "data": { "a": "1" } })
    })?;
    site.back_up(&cluster, "b", of_namespaces(&[namespace.name()]))?;
    let target = format!("{namespace}-copy");
    let mapped = RestoreRequest {
        namespace_mappings: [(namespace.name().to_owned(), target.clone())].into(),
        ..request("r")
    };
    let maps = format!("/api/v1/namespaces/{target}/configmaps");
    let summary = std::thread::scope(|scope| {
        let restoring = scope.spawn(|| site.restore(&cluster, "b", mapped));
        cluster.wait_until("the restore to be under way", |cluster| {
            Ok(cluster.list(&maps)?.len() > 100)
        })?;
        cluster.restart_apiserver()?;
        restoring.join().ok().context("the restore panicked")?
    })?;
    assert_completed(&summary);
    assert_eq!(summary.record.kinds["configmaps"].created, count as u64);
    assert_eq!(cluster.list(&maps)?.len(), count);
    Ok(())
}
