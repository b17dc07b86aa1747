//! Backups of a real cluster: complete, exactly what was asked for, and honest about what is missing.
//!
//! The judge is an independent listing of the cluster (`snapshot`) and an independent reading of the tarball.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result};
use backup_tests::applications;
use backup_tests::cluster::Cluster;
use backup_tests::compare::{AT_REST, compare};
use backup_tests::plugin::Plugin;
use backup_tests::snapshot::{self, ObjectKey, Snapshot};
use backup_tests::store::Store;
use flate2::read::MultiGzDecoder;
use serde_json::{Value, json};

/// What the tarball of a backup in a folder holds.
fn contents(store: &Store, name: &str) -> Result<Snapshot> {
    let path = store.path().join(format!("backups/{name}/{name}.tar.gz"));
    snapshot::of_tarball(File::open(&path).with_context(|| path.display().to_string())?)
}

fn outcome(store: &Store, name: &str) -> Result<Value> {
    let path = store
        .path()
        .join(format!("backups/{name}/{name}-outcome.json.gz"));
    let mut json = String::new();
    MultiGzDecoder::new(File::open(path)?).read_to_string(&mut json)?;
    Ok(serde_json::from_str(&json)?)
}

fn marker(store: &Store, name: &str) -> Result<Value> {
    let path = store.path().join(format!("backups/{name}/velero-backup.json"));
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

fn config_map(namespace: &str, name: &str, labels: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name, "namespace": namespace, "labels": labels }, "data": { "a": "1" }
    })
}

/// Names of the objects of one kind, as `namespace/name` or `name`.
fn names(contents: &Snapshot, resource: &str) -> BTreeSet<String> {
    contents
        .keys()
        .filter(|key| key.resource == resource)
        .map(|key| match &key.namespace {
            Some(namespace) => format!("{namespace}/{}", key.name),
            None => key.name.clone(),
        })
        .collect()
}

#[test]
fn a_backup_of_everything_equals_the_cluster() -> Result<()> {
    let cluster = Cluster::start()?;
    applications::install_all(&cluster)?;
    applications::ballast(&cluster, 1_500, 5)?;
    let store = Store::folder()?;
    let plugin = Plugin::new(&cluster, &store)?;
    plugin.run(["create", "whole"])?.ok();
    let cluster_holds = snapshot::of_cluster(&cluster)?;
    let compared = compare(&cluster_holds, &contents(&store, "whole")?, AT_REST);
    assert!(compared.compared > 1_500);
    compared.assert_same();
    let outcome = outcome(&store, "whole")?;
    for kind in outcome["kinds"].as_array().context("kinds")? {
        assert_eq!(kind["seen"], kind["stored"], "{kind}");
    }
    let marker = marker(&store, "whole")?;
    assert_eq!(marker["status"]["phase"], "Completed");
    assert_eq!(marker["status"]["formatVersion"], "1");
    assert!(!store.path().join("backups/whole/whole-claim.json").exists());
    Ok(())
}

#[test]
fn a_namespace_brings_what_its_objects_need_and_nothing_else() -> Result<()> {
    let cluster = Cluster::start()?;
    applications::install_all(&cluster)?;
    let store = Store::folder()?;
    let plugin = Plugin::new(&cluster, &store)?;
    plugin
        .run(["create", "shop", "--include-namespaces", "database"])?
        .ok();
    let holds = contents(&store, "shop")?;
    let elsewhere: Vec<&ObjectKey> = holds
        .keys()
        .filter(|key| {
            key.namespace
                .as_ref()
                .is_some_and(|namespace| namespace != "database")
        })
        .collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    assert_eq!(
        names(&holds, "namespaces"),
        BTreeSet::from(["database".to_owned()])
    );
    // Bound claims bring their volumes, pods their priority class.
    let claims: Vec<Value> = cluster.list("/api/v1/namespaces/database/persistentvolumeclaims")?;
    let bound: BTreeSet<String> = claims
        .iter()
        .filter_map(|claim| claim["spec"]["volumeName"].as_str())
        .map(str::to_owned)
        .collect();
    assert!(!bound.is_empty(), "the fixture has bound claims");
    assert_eq!(names(&holds, "persistentvolumes"), bound);
    let outcome = outcome(&store, "shop")?;
    assert_eq!(
        outcome["related"]["claim-bound-to-volume"],
        json!(bound.len()),
        "{}",
        outcome["related"]
    );
    assert!(names(&holds, "clusterroles.rbac.authorization.k8s.io").len() < 10);

    plugin.run(["create", "operator", "-n", "operator"])?.ok();
    let operator = contents(&store, "operator")?;
    let definitions = names(&operator, "customresourcedefinitions.apiextensions.k8s.io");
    let custom = operator
        .keys()
        .filter(|key| key.resource.contains("example"))
        .count();
    assert!(
        custom == 0 || !definitions.is_empty(),
        "custom resources come with their definitions: {definitions:?}"
    );

    plugin
        .run([
            "create",
            "with-cluster",
            "-n",
            "database",
            "--include-cluster-resources",
        ])?
        .ok();
    assert!(
        names(
            &contents(&store, "with-cluster")?,
            "clusterroles.rbac.authorization.k8s.io"
        )
        .len()
            > 30
    );
    Ok(())
}

#[test]
fn labels_globs_and_the_exclude_label_decide() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (first, second) = (cluster.namespace()?, cluster.namespace()?);
    let hidden = cluster.namespace()?;
    for namespace in [&first, &second, &hidden] {
        cluster.create(config_map(namespace.name(), "web", &json!({ "app": "web" })))?;
        cluster.create(config_map(namespace.name(), "db", &json!({ "app": "db" })))?;
        cluster.create(config_map(namespace.name(), "cache", &json!({ "app": "cache" })))?;
        let secret = json!({ "app": "web", "velero.io/exclude-from-backup": "true" });
        cluster.create(config_map(namespace.name(), "left-out", &secret))?;
    }
    cluster.patch(
        &format!("/api/v1/namespaces/{hidden}"),
        json!({ "metadata": { "labels": { "velero.io/exclude-from-backup": "true" } } }),
    )?;
    let store = Store::folder()?;
    let plugin = Plugin::new(cluster, &store)?;
    let included = format!("{first},{second},{hidden}");
    let only = |names: &[&str]| -> BTreeSet<String> {
        [&first, &second]
            .iter()
            .flat_map(|ns| names.iter().map(move |name| format!("{ns}/{name}")))
            .collect()
    };
    let kept = |backup: &str| -> Result<BTreeSet<String>> {
        let all = names(&contents(&store, backup)?, "configmaps");
        Ok(all
            .into_iter()
            .filter(|name| !name.ends_with("/kube-root-ca.crt"))
            .collect())
    };

    plugin
        .run(["create", "plain", "--include-namespaces", &included])?
        .ok();
    assert_eq!(kept("plain")?, only(&["web", "db", "cache"]));
    plugin
        .run([
            "create",
            "labelled",
            "--include-namespaces",
            &included,
            "-l",
            "app in (web,db),app!=db",
        ])?
        .ok();
    assert_eq!(kept("labelled")?, only(&["web"]));
    plugin
        .run([
            "create",
            "either",
            "--include-namespaces",
            &included,
            "--or-selector",
            "app=db or app=cache",
        ])?
        .ok();
    assert_eq!(kept("either")?, only(&["db", "cache"]));
    let glob = format!("{}*", first.name());
    plugin
        .run([
            "create",
            "glob",
            "--include-namespaces",
            &glob,
            "--include-resources",
            "cm",
        ])?
        .ok();
    let selected = outcome(&store, "labelled")?;
    let kinds = selected["kinds"].as_array().context("kinds")?;
    let config_maps = kinds
        .iter()
        .find(|kind| kind["plural"] == "configmaps")
        .context("configmaps")?;
    // In each of two namespaces: db, cache and kube-root-ca.crt by their labels, left-out by its own label.
    assert_eq!(config_maps["stored"], 2, "{config_maps}");
    assert_eq!(config_maps["seen"], 10, "{config_maps}");
    let globbed = contents(&store, "glob")?;
    let kinds: BTreeSet<&str> = globbed.keys().map(|key| key.resource.as_str()).collect();
    assert_eq!(kinds, BTreeSet::from(["configmaps", "namespaces"]));
    let skipped = outcome(&store, "plain")?;
    let config_maps = skipped["kinds"]
        .as_array()
        .and_then(|kinds| kinds.iter().find(|kind| kind["plural"] == "configmaps"));
    assert_eq!(
        config_maps.context("configmaps")?["skipped"][0]["rule"],
        "exclude-label"
    );
    Ok(())
}

#[test]
fn ordered_objects_go_first() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = cluster.namespace()?;
    for name in ["a", "b", "c", "d"] {
        cluster.create(config_map(namespace.name(), name, &json!({})))?;
    }
    let store = Store::folder()?;
    let order = format!("configmaps={namespace}/d,{namespace}/c");
    Plugin::new(cluster, &store)?
        .run([
            "create",
            "ordered",
            "-n",
            namespace.name(),
            "--ordered-resources",
            &order,
        ])?
        .ok();
    let file = File::open(store.path().join("backups/ordered/ordered.tar.gz"))?;
    let mut archive = tar::Archive::new(MultiGzDecoder::new(file));
    let mut first = Vec::new();
    for entry in archive.entries()? {
        let path = entry?.path()?.to_string_lossy().into_owned();
        if path.starts_with("resources/configmaps/") {
            first.push(path.rsplit('/').next().unwrap_or_default().to_owned());
        }
    }
    assert_eq!(first[..4], ["d.json", "c.json", "a.json", "b.json"]);
    Ok(())
}

#[test]
fn a_dead_api_group_is_named_and_the_rest_goes_on() -> Result<()> {
    let cluster = Cluster::start()?;
    cluster.create(json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": { "name": "v1beta1.metrics.example.org" },
        "spec": {
            "group": "metrics.example.org", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "service": { "name": "gone", "namespace": "kube-system" }
        }
    }))?;
    let store = Store::folder()?;
    let plugin = Plugin::new(&cluster, &store)?;
    cluster.wait_until("the dead group to be discovered", |_| {
        Ok(plugin
            .run(["create", "--dry-run", "-o", "json"])?
            .stdout
            .contains("metrics.example.org/v1beta1"))
    })?;
    plugin
        .run(["create", "b"])?
        .exits(3)
        .stderr_has("metrics.example.org/v1beta1");
    assert_eq!(marker(&store, "b")?["status"]["phase"], "PartiallyFailed");
    let holds = contents(&store, "b")?;
    assert!(names(&holds, "apiservices.apiregistration.k8s.io").contains("v1beta1.metrics.example.org"));
    compare(
        &snapshot::of_cluster_without(&cluster, &["metrics.example.org"])?,
        &holds,
        AT_REST,
    )
    .assert_same();
    Ok(())
}

#[test]
fn a_kind_that_may_not_be_listed_is_named_and_the_rest_goes_on() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = cluster.namespace()?;
    cluster.create(config_map(namespace.name(), "prices", &json!({})))?;
    cluster.create(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": { "name": "reader", "namespace": namespace.name() },
        "rules": [{ "apiGroups": [""], "resources": ["configmaps", "services"], "verbs": ["get", "list"] }]
    }))?;
    cluster.create(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": { "name": "reader", "namespace": namespace.name() },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader" },
        "subjects": [{ "kind": "User", "name": "tenant", "apiGroup": "rbac.authorization.k8s.io" }]
    }))?;
    let store = Store::folder()?;
    let stranger = Plugin::new(cluster, &store)?.with_kubeconfig(&cluster.kubeconfig_as("stranger")?)?;
    stranger
        .run(["create", "none", "-n", namespace.name()])?
        .exits(4)
        .stderr_has("may not be listed");
    let tenant = Plugin::new(cluster, &store)?.with_kubeconfig(&cluster.kubeconfig_as("tenant")?)?;
    tenant
        .run([
            "create",
            "own",
            "-n",
            namespace.name(),
            "--include-resources",
            "configmaps,secrets",
        ])?
        .exits(3)
        .stderr_has("secrets")
        .stderr_has("may not be listed");
    assert!(names(&contents(&store, "own")?, "configmaps").contains(&format!("{namespace}/prices")));
    Ok(())
}

#[test]
fn objects_of_a_mebibyte_are_kept_in_bounded_memory() -> Result<()> {
    let cluster = Cluster::start()?;
    let blob = "x".repeat(1_000_000);
    cluster.create_many(120, move |number| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": format!("big-{number}"), "namespace": "default" },
            "data": { "blob": format!("{number}{blob}") }
        })
    })?;
    let store = Store::folder()?;
    let ran = Plugin::new(&cluster, &store)?
        .run(["create", "big", "-n", "default"])?
        .ok();
    let holds = contents(&store, "big")?;
    assert_eq!(names(&holds, "configmaps").len(), 121);
    let limit = 160 << 20;
    assert!(
        ran.peak_memory < limit,
        "{} MiB for 120 MiB of objects",
        ran.peak_memory >> 20
    );
    Ok(())
}

#[test]
fn a_changing_cluster_is_backed_up_without_errors() -> Result<()> {
    let cluster = Cluster::start()?;
    let namespaces = 20;
    applications::ballast(&cluster, 2_000, namespaces)?;
    let store = Store::folder()?;
    let plugin = Plugin::new(&cluster, &store)?;
    let stop = &std::sync::atomic::AtomicBool::new(false);
    let (cluster, store, plugin) = (&cluster, &store, &plugin);
    std::thread::scope(|scope| -> Result<()> {
        let changing = scope.spawn(move || -> Result<usize> {
            let mut round = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let name = format!("fleeting-{round}");
                cluster_create_and_delete(cluster, &name)?;
                round += 1;
            }
            Ok(round)
        });
        for round in 0..3 {
            plugin.run(["create", &format!("b{round}")])?.ok();
            assert!(names(&contents(store, &format!("b{round}"))?, "configmaps").len() >= 500);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let rounds = changing
            .join()
            .map_err(|_| anyhow::anyhow!("the changing thread failed"))??;
        assert!(rounds > 0);
        Ok(())
    })
}

fn cluster_create_and_delete(cluster: &Cluster, name: &str) -> Result<()> {
    cluster.create(config_map("default", name, &json!({})))?;
    cluster.delete(&format!("/api/v1/namespaces/default/configmaps/{name}"))
}

#[test]
fn a_list_whose_token_expires_loses_and_doubles_nothing() -> Result<()> {
    // Without the cache of list snapshots, an old token is answered from etcd, which forgets at a compaction.
    let cluster = Cluster::builder()
        .apiserver_flag("--feature-gates=ListFromCacheSnapshot=false")
        .start()?;
    cluster.create_many(900, |number| {
        config_map("default", &format!("c-{number:04}"), &json!({}))
    })?;
    let seen = backup_tests::runtime::run({
        let kubeconfig = cluster.kubeconfig().to_owned();
        async move {
            let options = backup_engine::api::ConnectOptions {
                kubeconfig: Some(kubeconfig),
                ..Default::default()
            };
            let api = backup_engine::api::ApiClient::connect(&options).await?;
            let mut pager = api.list(backup_engine::api::ListRequest {
                kind: serde_json::from_value(json!({
                    "group": "", "version": "v1", "plural": "configmaps", "kind": "ConfigMap", "namespaced": true
                }))?,
                namespace: Some("default".into()),
                selector: String::new(),
                metadata_only: false,
            });
            let first = pager.next().await?.context("a first page")?;
            anyhow::Ok((pager, first))
        }
    })?;
    let (mut pager, first) = seen;
    cluster.create(config_map("default", "after", &json!({})))?;
    cluster.compact()?;
    let (pager, rest) = backup_tests::runtime::run(async move {
        let mut pages = vec![first];
        while let Some(page) = pager.next().await? {
            pages.push(page);
        }
        anyhow::Ok((pager, pages))
    })?;
    assert!(!pager.is_point_in_time(), "the token was to expire");
    let names: Vec<String> = rest
        .iter()
        .flat_map(|page| {
            page.objects()
                .filter_map(|(_, head)| Some(head.ok()?.metadata.name.into_owned()))
        })
        .filter(|name| name.starts_with("c-"))
        .collect();
    let unique: BTreeSet<&String> = names.iter().collect();
    assert_eq!((names.len(), unique.len()), (900, 900));
    Ok(())
}

/// Velero's resource policies decide before pods do; what they want of Velero alone is said, and nothing needs a node for it.
#[test]
fn resource_policies_decide_about_volumes() -> Result<()> {
    let (cluster, store) = (Cluster::shared()?, Store::folder()?);
    let shop = cluster.namespace()?;
    cluster.create(json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": { "name": "data", "namespace": shop.name(), "labels": { "tier": "gold" } },
        "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": { "requests": { "storage": "1Gi" } } },
    }))?;
    cluster.create(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "db", "namespace": shop.name(), "annotations": { "backup.velero.io/backup-volumes": "data,tmp" } },
        "spec": {
            "containers": [{ "name": "c", "image": "busybox", "volumeMounts": [
                { "name": "data", "mountPath": "/data" }, { "name": "tmp", "mountPath": "/tmp" },
            ] }],
            "volumes": [
                { "name": "data", "persistentVolumeClaim": { "claimName": "data" } }, { "name": "tmp", "emptyDir": {} },
            ],
        },
    }))?;
    let plugin = Plugin::new(cluster, &store)?;
    let policies = plugin.home().join("policies.yaml");
    let create = |name: &str, text: &str| {
        std::fs::write(&policies, text)?;
        let file = format!("--resource-policies-file={}", policies.display());
        plugin.run(["create", name, "-n", shop.name(), &file])
    };
    let rules = |name: &str| -> Result<Vec<String>> {
        let outcome = outcome(&store, name)?;
        let items = outcome["volumes"]["items"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        Ok(items
            .iter()
            .map(|item| format!("{}: {}", item["volume"], item["rule"]).replace('"', ""))
            .collect())
    };
    let skip = "version: v1\nvolumePolicies:\n- {conditions: {pvcLabels: {tier: gold}}, action: {type: skip}}\n\
                - {conditions: {volumeTypes: [emptyDir]}, action: {type: skip}}\n";
    create("skipped", skip)?.ok();
    assert_eq!(rules("skipped")?, ["tmp: volume-policy", "data: volume-policy"]);
    create(
        "wanted",
        "version: v1\nvolumePolicies: [{action: {type: snapshot}}]",
    )?
    .exits(3)
    .stderr_has("a policy wants a snapshot of it");
    assert_eq!(rules("wanted")?, ["tmp: volume-policy", "data: volume-policy"]);
    create("odd", "version: v1\nvolumePolicies: [{action: {type: ignore}}]")?
        .exits(2)
        .stderr_has("volume policy number 1: action \"ignore\" is none of skip");
    plugin
        .run(["create", "nowhere", "--resource-policies-configmap", "nobody"])?
        .exits(5)
        .stderr_has("no ConfigMap nobody in namespace velero")
        .stderr_has("--resource-policies-file");
    plugin
        .run([
            "create",
            "odd",
            "--volume-method",
            "none",
            "--hooks-file",
            "/nowhere",
        ])?
        .exits(2)
        .stderr_has("leaves out");
    Ok(())
}
