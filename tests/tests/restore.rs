//! Restores into a real cluster: everything comes back, nothing that is there is harmed, and every loss is named.
//!
//! Cases drive the engine itself; a location in memory stands for the bucket. Each case works in namespaces and with
//! cluster-scoped names of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use backup_engine::{
    api::{ApiClient, ConnectOptions},
    backup::{self, BackupRequest},
    catalog,
    progress::Progress,
    restore::{self, ExistingPolicy, ObjectRef, RestoreError, RestoreRequest, RestoreSummary},
    storage::{Bucket, Put, memory::Memory},
};
use backup_plan::{resource_names::ResourceNames, scope::Scope};
use backup_tests::applications;
use backup_tests::cluster::{Cluster, Namespace};
use backup_tests::compare::{RESTORED, compare};
use backup_tests::runtime;
use backup_tests::snapshot;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use velero_model::{
    name::BackupName, phase::Phase, resource_list::ResourceList, restore_record::RestoreRecord,
};

/// A bucket and the clusters around it.
struct Site {
    bucket: Arc<dyn Bucket>,
}

fn name(text: &str) -> BackupName {
    BackupName::parse(text).expect("names in tests are good")
}

async fn client(kubeconfig: std::path::PathBuf) -> Result<ApiClient> {
    let options = ConnectOptions {
        kubeconfig: Some(kubeconfig),
        ..ConnectOptions::default()
    };
    Ok(ApiClient::connect(&options).await?)
}

fn of_namespaces(namespaces: &[&str]) -> Scope {
    Scope {
        included_namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
        ..Scope::default()
    }
}

impl Site {
    fn new() -> Self {
        Self {
            bucket: Arc::new(Memory::new()),
        }
    }

    fn back_up(&self, cluster: &Cluster, backup: &str, scope: Scope) -> Result<()> {
        let request = BackupRequest {
            name: name(backup),
            scope,
            ttl: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            schedule: None,
            lock_until: None,
            velero_namespace: "velero".into(),
            storage_location: "default".into(),
            tool_version: "test".into(),
            lists_in_flight: 4,
        };
        let (bucket, kubeconfig) = (Arc::clone(&self.bucket), cluster.kubeconfig().to_owned());
        runtime::run(async move {
            let api = client(kubeconfig).await?;
            let (progress, cancel) = (Arc::default(), CancellationToken::new());
            let summary = backup::create(&api, bucket, &request, &progress, &cancel).await?;
            anyhow::ensure!(summary.phase == Phase::Completed, "{:?}", summary.errors);
            Ok(())
        })
    }

    /// Restores, or gives the restore's own error.
    fn try_restore(
        &self,
        cluster: &Cluster,
        backup: &str,
        request: RestoreRequest,
        cancel: CancellationToken,
    ) -> Result<Result<RestoreSummary, RestoreError>> {
        let (bucket, kubeconfig) = (Arc::clone(&self.bucket), cluster.kubeconfig().to_owned());
        let backup = name(backup);
        runtime::run(async move {
            let api = client(kubeconfig).await?;
            let open = catalog::open(&bucket, &backup).await?;
            let progress: Arc<Progress> = Arc::default();
            Ok(restore::run(&api, &bucket, &open, &request, &progress, &cancel).await)
        })
    }

    fn restore(&self, cluster: &Cluster, backup: &str, request: RestoreRequest) -> Result<RestoreSummary> {
        Ok(self.try_restore(cluster, backup, request, CancellationToken::new())??)
    }

    fn stored(&self, key: &str) -> Result<Vec<u8>> {
        let (bucket, key) = (Arc::clone(&self.bucket), key.to_owned());
        runtime::run(async move {
            let (bytes, _) = bucket.get(&key, 1 << 30).await?.context(key)?;
            Ok(bytes.to_vec())
        })
    }
}

fn request(restore: &str) -> RestoreRequest {
    RestoreRequest::new(name(restore))
}

#[track_caller]
fn assert_completed(summary: &RestoreSummary) {
    assert_eq!(
        (&summary.record.phase, summary.record.errors),
        (&Phase::Completed, 0),
        "{:?}",
        summary.failures
    );
}

fn delete_namespace(cluster: &Cluster, namespace: &str) -> Result<()> {
    let path = format!("/api/v1/namespaces/{namespace}");
    cluster.delete(&path)?;
    cluster.wait_until_gone(&path)
}

fn config_map(namespace: &Namespace, name: &str, value: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "namespace": namespace.name() },
        "data": { "a": value } })
}

fn path(namespace: &str, resource: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/{resource}/{name}")
}

fn object(cluster: &Cluster, path: &str) -> Result<Value> {
    cluster.get(path)?.with_context(|| format!("{path} is not there"))
}

fn uid(object: &Value) -> Value {
    object["metadata"]["uid"].clone()
}

/// A definition `things.<namespace>.example.com`, with a status that is a subresource, and its path.
fn define_things(cluster: &Cluster, namespace: &Namespace) -> Result<String> {
    let group = format!("{namespace}.example.com");
    cluster.create(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("things.{group}") },
        "spec": { "group": group, "scope": "Namespaced",
            "names": { "plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }] }
    }))?;
    let things = format!("/apis/{group}/v1/namespaces/{namespace}/things");
    cluster.wait_until("the things to be served", |cluster| {
        Ok(cluster.list(&things).is_ok())
    })?;
    Ok(things)
}

fn thing(namespace: &Namespace, name: &str) -> Value {
    json!({ "apiVersion": format!("{namespace}.example.com/v1"), "kind": "Thing",
        "metadata": { "name": name, "namespace": namespace.name() }, "spec": { "size": 3 } })
}

fn delete_definition(cluster: &Cluster, namespace: &Namespace) -> Result<()> {
    let path =
        format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.{namespace}.example.com");
    cluster.delete(&path)?;
    cluster.wait_until_gone(&path)
}

#[test]
fn applications_come_back_as_they_were() -> Result<()> {
    let cluster = Cluster::start()?;
    applications::install_all(&cluster)?;
    let before = snapshot::of_cluster(&cluster)?;
    let site = Site::new();
    site.back_up(&cluster, "all", Scope::default())?;
    applications::delete_all(&cluster)?;
    let summary = site.restore(&cluster, "all", request("r"))?;
    assert_completed(&summary);

    cluster.wait_until("the claims to be bound again", |cluster| {
        let claims = cluster.list("/api/v1/namespaces/database/persistentvolumeclaims")?;
        Ok(claims.iter().all(|claim| claim["status"]["phase"] == "Bound"))
    })?;
    let after = snapshot::of_cluster(&cluster)?;
    // What controllers name by chance is made anew by them.
    let made_anew = ["pods", "events", "endpoints", "endpointslices.discovery.k8s.io"];
    for namespace in applications::NAMESPACES {
        let of = |whole| {
            let mut part = snapshot::in_namespace(whole, namespace);
            part.retain(|key, _| !made_anew.contains(&key.resource.as_str()));
            for (_, claim) in part
                .iter_mut()
                .filter(|(key, _)| key.resource == "persistentvolumeclaims")
            {
                // The volume was chosen by the restore and not by the controller.
                if let Some(annotations) = claim
                    .pointer_mut("/metadata/annotations")
                    .and_then(Value::as_object_mut)
                {
                    annotations.remove("pv.kubernetes.io/bound-by-controller");
                }
            }
            part
        };
        let compared = compare(&of(&before), &of(&after), RESTORED);
        assert!(compared.compared > 0, "{namespace}");
        compared.assert_same();
    }
    // Everything of the backup is accounted for.
    let index = site.stored("restores/r/restore-r-resource-list.json.gz")?;
    let mut names = String::new();
    std::io::Read::read_to_string(&mut flate2::read::MultiGzDecoder::new(&index[..]), &mut names)?;
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
fn owners_have_their_new_uids_and_the_garbage_collector_agrees() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    let things = define_things(cluster, &namespace)?;
    let owner = cluster.create(thing(&namespace, "owner"))?;
    let reference = |owner: &Value| {
        json!([{ "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true }])
    };
    // Comes before its owner, after its owner, and with an owner that is not there.
    let mut early = config_map(&namespace, "early", "1");
    early["metadata"]["ownerReferences"] = reference(&owner);
    let early = cluster.create(early)?;
    let mut late = thing(&namespace, "late");
    late["metadata"]["ownerReferences"] = reference(&early);
    cluster.create(late)?;
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    delete_namespace(cluster, namespace.name())?;
    delete_definition(cluster, &namespace)?;

    let summary = site.restore(cluster, "b", request("r"))?;
    assert_completed(&summary);
    let owner = object(cluster, &format!("{things}/owner"))?;
    let check = |cluster: &Cluster| -> Result<()> {
        let early = object(cluster, &path(namespace.name(), "configmaps", "early"))?;
        let late = object(cluster, &format!("{things}/late"))?;
        for (child, owner) in [(&early, &owner), (&late, &early)] {
            let reference = &child["metadata"]["ownerReferences"][0];
            assert_eq!(reference["uid"], uid(owner));
            assert_eq!(reference["controller"], true);
            assert_eq!(reference["blockOwnerDeletion"], true);
        }
        Ok(())
    };
    check(cluster)?;
    std::thread::sleep(Duration::from_secs(3));
    check(cluster)?;

    // An owner that still lives keeps its child; one that is gone lets go of it.
    cluster.delete(&format!("{things}/late"))?;
    let only = |restore: &str, name: &str| RestoreRequest {
        only: vec![ObjectRef {
            resource: "configmaps".into(),
            namespace: None,
            name: name.into(),
        }],
        ..request(restore)
    };
    site.back_up(cluster, "again", of_namespaces(&[namespace.name()]))?;
    let early = path(namespace.name(), "configmaps", "early");
    cluster.delete(&early)?;
    assert_completed(&site.restore(cluster, "again", only("living", "early"))?);
    assert_eq!(
        object(cluster, &early)?["metadata"]["ownerReferences"][0]["uid"],
        uid(&owner)
    );
    cluster.delete(&early)?;
    cluster.delete(&format!("{things}/owner"))?;
    assert_completed(&site.restore(cluster, "again", only("gone", "early"))?);
    assert_eq!(object(cluster, &early)?["metadata"].get("ownerReferences"), None);
    delete_definition(cluster, &namespace)
}

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
    let only = |restore: &str, resource: &str, name: &str| RestoreRequest {
        only: vec![ObjectRef {
            resource: resource.into(),
            namespace: None,
            name: name.into(),
        }],
        ..request(restore)
    };
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
            existing: ExistingPolicy::Update,
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
            api.patch(&free, &backup_engine::api::PatchKind::Merge, patch.into())
                .await?;
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
        ("with", vec!["things"], json!(3)),
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
