//! `diff`: a backup against another one and against the live cluster.
//!
//! What is expected was changed by the case itself, or comes from an independent reading of both tarballs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;

use anyhow::{Context, Result};
use backup_tests::cluster::{Cluster, base64};
use backup_tests::plugin::Plugin;
use backup_tests::snapshot::{self, Snapshot};
use backup_tests::store::Store;
use serde_json::{Value, json};

use crate::site::{PASSWORD, Site, config_map, names, stores};

/// `resource namespace/name` of every object that differs, with how.
fn changes(document: &Value) -> Result<BTreeMap<String, String>> {
    let items = document["items"].as_array().context("items")?;
    Ok(items
        .iter()
        .map(|item| {
            let text = |field: &str| item[field].as_str().unwrap_or_default().to_owned();
            let place = item["namespace"]
                .as_str()
                .map(|namespace| format!("{namespace}/"));
            let object = format!(
                "{} {}{}",
                text("resource"),
                place.unwrap_or_default(),
                text("name")
            );
            (object, text("change"))
        })
        .collect())
}

fn expected<const N: usize>(namespace: &str, changes: [(&str, &str); N]) -> BTreeMap<String, String> {
    let of = |(object, change): (&str, &str)| {
        let (resource, name) = object.split_once(' ').unwrap_or((object, ""));
        (format!("{resource} {namespace}/{name}"), change.to_owned())
    };
    changes.into_iter().map(of).collect()
}

fn path(namespace: &str, rest: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/{rest}")
}

/// The paths that differ in one object.
fn paths<'d>(document: &'d Value, name: &str) -> Vec<(&'d str, &'d Value, &'d Value)> {
    let items = document["items"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let item = items.iter().find(|item| item["name"] == name);
    let differences = item.and_then(|item| item["differences"].as_array());
    differences
        .into_iter()
        .flatten()
        .map(|one| {
            (
                one["path"].as_str().unwrap_or_default(),
                &one["left"],
                &one["right"],
            )
        })
        .collect()
}

/// Changes a ConfigMap and the Secret, deletes a ConfigMap, makes one and a Service.
fn change(site: &Site) -> Result<()> {
    let namespace = site.namespace.name();
    let cluster = site.cluster;
    cluster.patch(
        &path(namespace, "configmaps/prices"),
        json!({ "data": { "of": "bread", "new": "1" }, "metadata": { "labels": { "app": "other" } } }),
    )?;
    cluster.patch(
        &path(namespace, "secrets/login"),
        json!({ "data": { "password": base64(b"changed-battery") } }),
    )?;
    cluster.delete(&path(namespace, "configmaps/settings"))?;
    cluster.create(config_map(namespace, "fresh", "web"))?;
    cluster.patch(
        &path(namespace, "services/web"),
        json!({ "spec": { "ports": [{ "port": 80, "name": "http" }] } }),
    )?;
    Ok(())
}

#[test]
fn what_changed_in_the_cluster_since_is_shown_field_by_field() -> Result<()> {
    for store in stores()? {
        let site = Site::with_backup(store, "b")?;
        let namespace = site.namespace.name();
        let other = site.cluster.namespace()?;
        site.cluster
            .create(config_map(other.name(), "elsewhere", "web"))?;
        site.plugin
            .run(["diff", "b", "--exit-code"])?
            .ok()
            .stdout_has("no differences: ");
        change(&site)?;

        let document = site.plugin.json(["diff", "b"])?;
        let all = expected(
            namespace,
            [
                ("configmaps fresh", "only-right"),
                ("configmaps prices", "changed"),
                ("configmaps settings", "only-left"),
                ("secrets login", "changed"),
                ("services web", "changed"),
            ],
        );
        assert_eq!(
            changes(&document)?,
            all,
            "the other namespace is none of its business"
        );
        assert_eq!(
            paths(&document, "prices"),
            [
                ("data.of", &json!("web"), &json!("bread")),
                ("data.new", &Value::Null, &json!("1")),
                ("metadata.labels.app", &json!("web"), &json!("other")),
            ]
        );
        assert_eq!(
            paths(&document, "web"),
            [("spec.ports[0].name", &Value::Null, &json!("http"))]
        );
        let counts = &document["counts"];
        assert_eq!(
            [
                &counts["changed"],
                &counts["onlyLeft"],
                &counts["onlyRight"],
                &counts["notCompared"]
            ],
            [3, 1, 1, 0]
        );
        let yaml = site.plugin.run(["diff", "b", "-o", "yaml"])?.ok().stdout;
        assert_eq!(serde_saphyr::from_str::<Value>(&yaml)?, document);
        let ran = site.plugin.run(["diff", "b", "-o", "name"])?.ok();
        assert_eq!(
            names(&ran.stdout),
            ["fresh", "prices", "settings", "login", "web"]
        );
        site.plugin
            .run(["diff", "b", "--exit-code"])?
            .exits(1)
            .stdout_has(&format!("configmaps {namespace}/prices  changed\n"))
            .stdout_has("    data.of: \"web\" -> \"bread\"\n")
            .stdout_has(&format!("configmaps {namespace}/settings  only in backup b\n"))
            .stdout_has(&format!("configmaps {namespace}/fresh  only in the cluster\n"))
            .stdout_has("3 changed, 1 only in backup b, 1 only in the cluster; ");
        let everything = site.plugin.json(["diff", "b", "cm/prices", "--show-all"])?;
        let shown = paths(&everything, "prices");
        assert!(
            shown.iter().any(|(path, ..)| *path == "metadata.resourceVersion"),
            "{shown:?}"
        );
    }
    Ok(())
}

#[test]
fn values_of_secrets_are_shown_only_when_asked_for() -> Result<()> {
    let site = Site::with_backup(Store::folder()?, "b")?;
    change(&site)?;
    site.back_up("c")?;
    let (old, new) = (base64(PASSWORD.as_bytes()), base64(b"changed-battery"));
    for words in [
        &["diff", "b"][..],
        &["diff", "b", "c"],
        &["diff", "b", "-o", "json"],
    ] {
        let ran = site.plugin.run(words)?.ok().stdout_has("data.password");
        ran.nowhere_has(&old).nowhere_has(&new);
    }
    site.plugin
        .run(["diff", "b", "secret/login", "--show-secrets"])?
        .ok()
        .stdout_has(&format!("data.password: \"{old}\" -> \"{new}\""));
    Ok(())
}

#[test]
fn two_backups_are_compared_without_a_cluster() -> Result<()> {
    for store in stores()? {
        let site = Site::with_backup(store, "first")?;
        let namespace = site.namespace.name();
        change(&site)?;
        site.back_up("second")?;
        let nowhere = Plugin::bare()?.with_store(&site.store);
        let document = nowhere.json(["diff", "first", "second"])?;
        let all = expected(
            namespace,
            [
                ("configmaps fresh", "only-right"),
                ("configmaps prices", "changed"),
                ("configmaps settings", "only-left"),
                ("secrets login", "changed"),
                ("services web", "changed"),
            ],
        );
        assert_eq!(changes(&document)?, all);
        assert_eq!(document["right"], json!({ "backup": "second" }));
        let back = nowhere.json(["diff", "second", "first"])?;
        let turned = |(object, change): (String, String)| {
            let change = match change.as_str() {
                "only-left" => "only-right".to_owned(),
                "only-right" => "only-left".to_owned(),
                _ => change,
            };
            (object, change)
        };
        assert_eq!(changes(&back)?, all.into_iter().map(turned).collect());
        nowhere
            .run(["diff", "first", "first", "--exit-code"])?
            .ok()
            .stdout_has("no differences");
        nowhere
            .run(["diff", "first", "gone"])?
            .exits(5)
            .stderr_has("no backup `gone`");
        let second = Store::folder()?;
        nowhere
            .run(["copy", "second", "--to", &second.location_url()])?
            .ok();
        let moved = nowhere.json([
            "diff",
            "first",
            "second",
            "--other-location",
            &second.location_url(),
        ])?;
        assert_eq!(moved["items"], document["items"]);
    }
    Ok(())
}

#[test]
fn only_what_was_asked_for_is_compared() -> Result<()> {
    let site = Site::with_backup(Store::folder()?, "b")?;
    let namespace = site.namespace.name();
    change(&site)?;
    for (words, differing) in [
        (
            &["--include-resources", "configmaps"][..],
            &["fresh", "prices", "settings"][..],
        ),
        (&["--exclude-resources", "cm,secrets"], &["web"]),
        // Its label was another one in the backup.
        (&["-l", "app=other"], &["prices"]),
        (
            &["-l", "app=web", "--include-resources", "cm"],
            &["fresh", "prices"],
        ),
        (&["-n", namespace, "--include-resources", "secrets"], &["login"]),
        (&["cm/prices"], &["prices"]),
        (&["configmap/fresh"], &["fresh"]),
        (&["cm/banner"], &[]),
        (&["cm/settings", "svc/web", "-n", namespace], &["settings", "web"]),
    ] {
        let words = ["diff", "b", "-o", "name"].iter().chain(words).copied();
        let ran = site.plugin.run(words)?.ok();
        assert_eq!(names(&ran.stdout), differing, "{ran}");
    }
    let both = format!("{namespace},elsewhere");
    site.plugin
        .run(["diff", "b", "-n", &both, "--include-resources", "cm"])?
        .ok()
        .stderr_has("neither side holds anything in namespace elsewhere");
    for words in [
        &["cm/nothing"][..],
        &["cm/prices", "-n", "elsewhere"],
        &["-n", "elsewhere"],
    ] {
        site.plugin
            .run(["diff", "b"].iter().chain(words).copied())?
            .exits(5)
            .stderr_has("neither backup b nor the cluster");
    }
    for (words, said) in [
        (&["--include-resources", "configmpas"][..], "configmaps"),
        (&["prices/x/y"], "KIND/NAME"),
        (&["--other-location", "/srv"], "second backup"),
    ] {
        site.plugin
            .run(["diff", "b"].iter().chain(words).copied())?
            .exits(2)
            .stderr_has(said);
    }
    Ok(())
}

#[test]
fn a_selector_of_the_backup_holds_for_new_objects_only() -> Result<()> {
    let site = Site::on(Store::folder()?)?;
    let namespace = site.namespace.name();
    site.plugin
        .run(["create", "b", "-n", namespace, "-l", "app=web"])?
        .ok();
    change(&site)?;
    site.cluster.create(config_map(namespace, "unlabelled", "none"))?;
    let document = site.plugin.json(["diff", "b"])?;
    // `settings` was never in the backup, `prices` lost its label and is there all the same.
    let all = [
        ("configmaps fresh", "only-right"),
        ("configmaps prices", "changed"),
        ("secrets login", "changed"),
    ];
    assert_eq!(changes(&document)?, expected(namespace, all));
    Ok(())
}

#[test]
fn objects_that_were_made_anew_do_not_differ_by_what_the_cluster_gave_them() -> Result<()> {
    let site = Site::with_backup(Store::folder()?, "b")?;
    let namespace = site.namespace.name();
    for rest in ["configmaps/prices", "services/web", "secrets/login"] {
        site.cluster.delete(&path(namespace, rest))?;
        site.cluster.wait_until_gone(&path(namespace, rest))?;
    }
    // The endpoints of the service follow when their controller comes to them.
    let diff = ["diff", "b", "--include-resources", "configmaps,secrets,services"];
    assert_eq!(site.plugin.json(diff)?["counts"]["onlyLeft"], 3);
    site.plugin.run(["restore", "b"])?.ok();
    let document = site.plugin.json(diff)?;
    assert_eq!(document["items"], json!([]));
    assert_eq!(document["counts"]["recreated"], 3);
    site.cluster.patch(
        &path(namespace, "configmaps/prices"),
        json!({ "data": { "of": "x" } }),
    )?;
    site.plugin
        .run(diff)?
        .ok()
        .stdout_has("prices  changed, made anew\n")
        .stdout_has("3 objects made anew");
    Ok(())
}

#[test]
fn custom_resources_and_a_namespace_that_is_gone() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = cluster.namespace()?;
    let group = format!("{namespace}.example.com");
    let definition = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/pots.{group}");
    cluster.create(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("pots.{group}") },
        "spec": {
            "group": group, "scope": "Namespaced", "names": { "plural": "pots", "kind": "Pot" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "subresources": { "status": {} }, "schema": {
                "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }]
        }
    }))?;
    let pots = format!("/apis/{group}/v1/namespaces/{namespace}/pots");
    cluster.wait_until("pots to be served", |cluster| Ok(cluster.get(&pots)?.is_some()))?;
    let pot = |name: &str, size: u64| {
        json!({ "apiVersion": format!("{group}/v1"), "kind": "Pot",
            "metadata": { "name": name, "namespace": namespace.name() }, "spec": { "size": size } })
    };
    for name in ["a", "b"] {
        cluster.create(pot(name, 1))?;
    }
    let store = Store::folder()?;
    let plugin = Plugin::new(cluster, &store)?;
    plugin.run(["create", "b", "-n", namespace.name()])?.ok();
    cluster.patch(&format!("{pots}/a"), json!({ "spec": { "size": 2 } }))?;
    cluster.create(pot("c", 3))?;
    cluster.delete(&format!("{pots}/b"))?;
    let document = plugin.json(["diff", "b", "--include-resources", "pots"])?;
    let resource = format!("pots.{group}");
    let [a, b, c] = ["a", "b", "c"].map(|name| format!("{resource} {namespace}/{name}"));
    assert_eq!(
        changes(&document)?,
        BTreeMap::from([
            (a, "changed".into()),
            (b.clone(), "only-left".into()),
            (c, "only-right".into())
        ])
    );
    assert_eq!(paths(&document, "a"), [("spec.size", &json!(1), &json!(2))]);

    cluster.delete(&definition)?;
    cluster.wait_until_gone(&definition)?;
    let path = format!("/api/v1/namespaces/{namespace}");
    cluster.delete(&path)?;
    cluster.wait_until_gone(&path)?;
    let document = plugin.json(["diff", "b"])?;
    let changes = changes(&document)?;
    assert!(
        changes.values().all(|change| change == "only-left"),
        "{changes:?}"
    );
    for object in [
        b,
        format!("namespaces {namespace}"),
        format!("customresourcedefinitions.apiextensions.k8s.io pots.{group}"),
    ] {
        assert!(changes.contains_key(&object), "{object}: {changes:?}");
    }
    assert_eq!(document["counts"]["same"], 0);
    Ok(())
}

#[test]
fn what_may_not_be_listed_is_named_and_never_taken_for_gone() -> Result<()> {
    let site = Site::with_backup(Store::folder()?, "b")?;
    let namespace = site.namespace.name();
    change(&site)?;
    let user = format!("tenant-{namespace}");
    site.cluster.create(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": { "name": "reader", "namespace": namespace },
        "rules": [{ "apiGroups": [""], "resources": ["configmaps", "services"], "verbs": ["get", "list"] }]
    }))?;
    site.cluster.create(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": { "name": "reader", "namespace": namespace },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader" },
        "subjects": [{ "kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io" }]
    }))?;
    let tenant =
        Plugin::new(site.cluster, &site.store)?.with_kubeconfig(&site.cluster.kubeconfig_as(&user)?)?;
    let ran = tenant
        .run(["diff", "b", "--include-resources", "configmaps,secrets,services"])?
        .exits(3)
        .stderr_has("not compared: secrets: namespace")
        .stderr_has("may not be listed")
        .stdout_has("2 changed, 1 only in backup b, 1 only in the cluster; ");
    assert!(!ran.stdout.contains("login"), "{ran}");
    tenant
        .run(["diff", "b", "--include-resources", "configmaps,services"])?
        .ok();
    let ran = tenant.run(["diff", "b", "--exit-code"])?.exits(1);
    assert!(!ran.stdout.contains("login"), "{ran}");
    Ok(())
}

#[test]
fn a_damaged_member_costs_its_own_objects_and_is_named() -> Result<()> {
    let site = Site::with_backup(Store::folder()?, "b")?;
    site.back_up("c")?;
    let tarball = site.file("b", "b.tar.gz");
    let mut bytes = fs::read(&tarball)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&tarball, bytes)?;
    let ran = site
        .plugin
        .run(["diff", "b", "c"])?
        .exits(3)
        .stderr_has("not compared: ")
        .stderr_has("kubectl backup verify");
    ran.nowhere_has("only in");
    Ok(())
}

#[test]
fn it_stops_when_it_is_interrupted_or_out_of_time() -> Result<()> {
    let site = Site::with_backup(Store::folder()?, "b")?;
    // It takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let kubeconfig = site.plugin.home().join("silent.yaml");
    let server = format!("http://{}", silent.local_addr()?);
    fs::write(
        &kubeconfig,
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "silent",
            "clusters": [{ "name": "silent", "cluster": { "server": server } }],
            "users": [{ "name": "silent", "user": {} }],
            "contexts": [{ "name": "silent", "context": { "cluster": "silent", "user": "silent" } }]
        })
        .to_string(),
    )?;
    let plugin = Plugin::bare()?
        .with_kubeconfig(&kubeconfig)?
        .with_store(&site.store);
    let mut running = plugin.spawn(["diff", "b"])?;
    running.wait_until("it to begin", |running| {
        running.stderr_so_far().contains("diff of backup b")
    })?;
    running.interrupt()?;
    running.wait()?.exits(130);
    plugin.run(["diff", "b", "--timeout", "1s"])?.exits(6);
    Ok(())
}

/// A folder with golden backups of one Velero.
fn golden(release: &str, names: &[&str]) -> Result<Store> {
    let store = Store::folder()?;
    for name in names {
        let from = golden_folder(release, name);
        let to = store.path().join("backups").join(name);
        fs::create_dir_all(&to)?;
        for entry in fs::read_dir(&from).with_context(|| from.display().to_string())? {
            let entry = entry?;
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(store)
}

fn golden_folder(release: &str, name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("golden/velero-{release}/backups/{name}"))
}

fn archive(release: &str, name: &str) -> Result<Snapshot> {
    snapshot::of_tarball(File::open(
        golden_folder(release, name).join(format!("{name}.tar.gz")),
    )?)
}

/// What two tarballs hold, compared by equality.
fn judged(left: &Snapshot, right: &Snapshot) -> BTreeMap<String, String> {
    let keys = left.keys().chain(right.keys());
    keys.filter_map(|key| {
        let change = match (left.get(key), right.get(key)) {
            (Some(left), Some(right)) if left == right => return None,
            (Some(_), Some(_)) => "changed",
            (Some(_), None) => "only-left",
            _ => "only-right",
        };
        let place = key.namespace.as_ref().map(|namespace| format!("{namespace}/"));
        let object = format!("{} {}{}", key.resource, place.unwrap_or_default(), key.name);
        Some((object, change.to_owned()))
    })
    .collect()
}

#[test]
fn backups_of_velero_are_compared_like_ours() -> Result<()> {
    let (store, old) = (
        golden("1.18.3", &["everything", "shop", "default"])?,
        golden("1.16.2", &["default"])?,
    );
    let plugin = Plugin::bare()?.with_store(&store);
    let document = plugin.json(["diff", "everything", "shop", "--show-all"])?;
    let said = changes(&document)?;
    assert_eq!(
        said,
        judged(&archive("1.18.3", "everything")?, &archive("1.18.3", "shop")?)
    );
    assert!(said.len() > 100, "{}", said.len());
    plugin
        .run(["diff", "everything", "shop"])?
        .ok()
        .stderr_has("different scopes");

    let words = ["diff", "default", "default", "--show-all", "--other-location"];
    let document = plugin.json(words.into_iter().chain([&*old.location_url()]))?;
    let said = changes(&document)?;
    assert_eq!(
        said,
        judged(&archive("1.18.3", "default")?, &archive("1.16.2", "default")?)
    );
    assert!(said.values().any(|change| change == "changed"), "{said:?}");
    Ok(())
}

#[test]
fn a_backup_of_velero_is_compared_with_another_cluster() -> Result<()> {
    let cluster = Cluster::shared()?;
    let store = golden("1.18.3", &["labelled"])?;
    let plugin = Plugin::new(cluster, &store)?;
    let document = plugin.json(["diff", "labelled", "-n", "web-shop"])?;
    let held = archive("1.18.3", "labelled")?;
    let of_shop = snapshot::in_namespace(&held, "web-shop");
    let looked_at = document["counts"]["onlyLeft"].as_u64().unwrap_or_default()
        + document["counts"]["changed"].as_u64().unwrap_or_default()
        + document["counts"]["same"].as_u64().unwrap_or_default();
    assert_eq!(looked_at, of_shop.len() as u64, "{document}");
    assert_eq!(document["counts"]["onlyRight"], 0);
    Ok(())
}
