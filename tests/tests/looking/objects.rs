//! `contents`, `cat`, `find` and `logs`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;

use anyhow::{Context, Result};
use backup_tests::cluster::Cluster;
use backup_tests::snapshot::{self, ObjectKey};
use backup_tests::store::Store;
use flate2::read::MultiGzDecoder;
use serde_json::{Value, json};

use crate::site::{PASSWORD, Site, config_map, fields, names, stores};

fn key(item: &Value) -> ObjectKey {
    let text = |field: &str| item[field].as_str().map(str::to_owned);
    ObjectKey {
        resource: text("resource").unwrap_or_default(),
        namespace: text("namespace"),
        name: text("name").unwrap_or_default(),
    }
}

#[test]
fn contents_are_what_the_tarball_holds() -> Result<()> {
    for store in stores()? {
        let site = Site::with_backup(store, "b")?;
        let archive = snapshot::of_tarball(File::open(site.file("b", "b.tar.gz"))?)?;
        let contents = site.plugin.json(["contents", "b"])?;
        let items = contents["items"].as_array().context("items")?;
        let keys: BTreeSet<ObjectKey> = items.iter().map(key).collect();
        assert_eq!(keys, archive.keys().cloned().collect());
        assert_eq!(items.len(), keys.len());
        for item in items {
            let object = &archive[&key(item)];
            assert_eq!(item["uid"], object["metadata"]["uid"]);
            let labels = object["metadata"]
                .get("labels")
                .cloned()
                .unwrap_or_else(|| json!({}));
            assert_eq!(item["labels"], labels);
        }
        let yaml = site.plugin.run(["contents", "b", "-o", "yaml"])?.ok().stdout;
        assert_eq!(serde_saphyr::from_str::<Value>(&yaml)?, contents);
        let kinds = site.plugin.json(["contents", "b", "--kinds"])?;
        let counted: u64 = kinds["items"]
            .as_array()
            .context("kinds")?
            .iter()
            .filter_map(|kind| kind["count"].as_u64())
            .sum();
        assert_eq!(counted, items.len() as u64);
    }
    Ok(())
}

#[test]
fn contents_are_filtered_by_kind_name_namespace_and_label() -> Result<()> {
    for store in stores()? {
        let site = Site::with_backup(store, "b")?;
        let namespace = site.namespace.name();
        let all = ["banner", "kube-root-ca.crt", "prices", "settings"];
        let in_namespace = |kind| vec![kind, "-n", namespace];
        for (words, expected) in [
            (vec!["configmaps"], &all[..]),
            (vec!["cm"], &all[..]),
            (vec!["ConfigMap"], &all[..]),
            (in_namespace("cm"), &all[..]),
            (vec!["cm/prices"], &["prices"]),
            (vec!["cm", "-l", "app=web"], &["banner", "prices"]),
            (vec!["-l", "app in (web)"], &["banner", "prices", "login"]),
            (vec!["cm", "-l", "!app"], &["kube-root-ca.crt"]),
            (vec!["cm", "-n", "elsewhere"], &[]),
            (vec!["cm/nothing"], &[]),
        ] {
            let words = ["contents", "b"].into_iter().chain(words.iter().copied());
            let listed = site.plugin.json(words.clone())?;
            assert_eq!(
                fields(&listed, "name"),
                expected,
                "{:?}",
                words.collect::<Vec<_>>()
            );
        }
        let wide = site
            .plugin
            .run(["contents", "b", "cm/prices", "-o", "wide"])?
            .ok();
        let wide = wide.stdout_has("app=web").stdout_has("UID");
        assert_eq!(wide.stdout.lines().count(), 2);
        site.plugin
            .run(["contents", "b", "cm", "-o", "name"])?
            .ok()
            .stdout_has("prices");
        site.plugin
            .run(["contents", "b", "cm/nothing"])?
            .ok()
            .stderr_has("nothing in backup b matches");
        site.plugin.run(["contents", "b", "cm", "--kinds"])?.exits(2);
    }
    Ok(())
}

#[test]
fn a_kind_that_the_backup_does_not_hold_is_not_found() -> Result<()> {
    let site = Site::with_backup(Store::folder()?, "b")?;
    site.plugin
        .run(["contents", "b", "ingresses"])?
        .exits(5)
        .stderr_has("backup b holds no");
    site.plugin
        .run(["cat", "b", "ingress/web"])?
        .exits(5)
        .stderr_has("backup b holds no");
    site.plugin
        .run(["cat", "b", "configmpa/prices"])?
        .exits(5)
        .stderr_has("did you mean \"configmaps\"");
    site.plugin
        .run(["find", "ingress/web"])?
        .exits(5)
        .stderr_has("holds any ingress");
    Ok(())
}

/// Path in the API server of each object of a site.
fn paths(namespace: &str) -> [(&'static str, String); 5] {
    let path = |rest: &str| format!("/api/v1/namespaces/{namespace}/{rest}");
    [
        ("configmap/prices", path("configmaps/prices")),
        ("cm/kube-root-ca.crt", path("configmaps/kube-root-ca.crt")),
        ("secrets/login", path("secrets/login")),
        ("svc/web", path("services/web")),
        ("namespace/", format!("/api/v1/namespaces/{namespace}")),
    ]
}

#[test]
fn cat_gives_what_the_cluster_had() -> Result<()> {
    for store in stores()? {
        let site = Site::with_backup(store, "b")?;
        let namespace = site.namespace.name();
        for (word, path) in paths(namespace) {
            let word = if word.ends_with('/') {
                format!("{word}{namespace}")
            } else {
                word.to_owned()
            };
            let had = site.cluster.get(&path)?.with_context(|| path.clone())?;
            let json = site.plugin.json(["cat", "b", &word, "--show-secrets"])?;
            assert_eq!(json, had);
            let yaml = site
                .plugin
                .run(["cat", "b", &word, "--show-secrets"])?
                .ok()
                .stdout;
            assert_eq!(serde_saphyr::from_str::<Value>(&yaml)?, had);
        }
        let masked = site.plugin.json(["cat", "b", "secret/login", "-n", namespace])?;
        let length = PASSWORD.len();
        assert_eq!(masked["data"]["password"], format!("*** ({length} bytes)"));
        site.plugin
            .run(["cat", "b", "cm/prices", "-n", "elsewhere"])?
            .exits(5)
            .stderr_has("in namespace elsewhere");
        site.plugin
            .run(["cat", "b", "prices"])?
            .exits(2)
            .stderr_has("KIND/NAME");
    }
    Ok(())
}

#[test]
fn a_name_in_two_namespaces_is_never_guessed() -> Result<()> {
    let site = Site::on(Store::folder()?)?;
    let second = site.cluster.namespace()?;
    site.cluster
        .create(config_map(second.name(), "prices", "second"))?;
    let both = format!("{},{second}", site.namespace);
    site.plugin
        .run(["create", "b", "--include-namespaces", &both])?
        .ok();
    site.plugin
        .run(["cat", "b", "cm/prices"])?
        .exits(2)
        .stderr_has(site.namespace.name())
        .stderr_has(second.name())
        .stderr_has("choose one with -n");
    let found = site.plugin.json(["cat", "b", "cm/prices", "-n", second.name()])?;
    assert_eq!(found["data"]["of"], "second");
    Ok(())
}

#[test]
fn what_was_applied_comes_back_as_yaml_that_kubectl_takes() -> Result<()> {
    let cluster = Cluster::shared()?;
    let site = Site::on(Store::folder()?)?;
    let odd = json!({
        "yes": "no", "number": "0x1F", "float": "1e3", "time": "2026-01-01", "null": "null", "tilde": "~", "empty": "",
        "lines": "a\n  b\n\nc\n", "trailing": "blank \n", "colon": "a: b", "hash": "a #b", "quote": "it's \"so\"", "tab": "\tx",
        "unicode": "straße 日本 \u{1F600}", "dash": "- a", "percent": "%a", "at": "@a", "long": "x ".repeat(200)
    });
    cluster.create(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "odd", "namespace": site.namespace.name() }, "data": odd
    }))?;
    site.back_up("b")?;
    let yaml = site.plugin.run(["cat", "b", "cm/odd"])?.ok().stdout;
    let path = format!("/api/v1/namespaces/{}/configmaps/odd", site.namespace);
    cluster.delete(&path)?;
    let object: Value = serde_saphyr::from_str(&yaml)?;
    assert_eq!(object["data"], odd);
    // What only the server may set is in the way of a create.
    let is_set_by_server = |line: &&str| line.starts_with("  resourceVersion:") || line.starts_with("  uid:");
    let kept = yaml.lines().filter(|line| !is_set_by_server(line));
    let kept = kept.collect::<Vec<_>>().join("\n");
    cluster.apply(&kept)?;
    assert_eq!(cluster.get(&path)?.context("odd")?["data"], odd);
    Ok(())
}

#[test]
fn find_names_the_backups_that_hold_it_newest_first() -> Result<()> {
    for store in stores()? {
        let site = Site::with_backup(store, "first")?;
        let namespace = site.namespace.name();
        site.plugin
            .run([
                "create",
                "without",
                "-n",
                namespace,
                "--include-resources",
                "services",
            ])?
            .ok();
        site.cluster.patch(
            &format!("/api/v1/namespaces/{namespace}/configmaps/prices"),
            json!({ "data": { "of": "another price" } }),
        )?;
        // Times of backups have seconds.
        std::thread::sleep(std::time::Duration::from_millis(1_100));
        site.back_up("later")?;
        let ran = site.plugin.run(["find", "cm/prices", "-o", "name"])?.ok();
        assert_eq!(names(&ran.stdout), ["later", "first"]);
        let found = site.plugin.json(["find", "configmap/prices", "-n", namespace])?;
        assert_eq!(fields(&found, "backup"), ["later", "first"]);
        let sums = fields(&found, "sha256");
        assert_eq!(
            (sums[0].len(), sums[0] == sums[1]),
            (64, false),
            "its price changed"
        );
        let found = site.plugin.json(["find", "cm/settings"])?;
        let sums = fields(&found, "sha256");
        assert_eq!(sums[0], sums[1], "it did not change");
        let table = site.plugin.run(["find", "svc/web"])?.ok();
        assert_eq!(table.stdout.lines().count(), 4, "{table}");
        site.plugin
            .run(["find", "cm/nothing"])?
            .exits(5)
            .stderr_has("none of 3 backups");
        site.plugin
            .run(["find", "cm/prices", "-n", "elsewhere"])?
            .exits(5);
        // One that cannot be searched may hold it too.
        fs::write(site.file("first", "velero-backup.json"), "{")?;
        site.plugin
            .run(["find", "cm/prices"])?
            .exits(3)
            .stdout_has("later")
            .stderr_has("first");
    }
    Ok(())
}

#[test]
fn logs_are_printed_as_they_were_written() -> Result<()> {
    for store in stores()? {
        let site = Site::with_backup(store, "b")?;
        let mut written = String::new();
        MultiGzDecoder::new(File::open(site.file("b", "b-logs.gz"))?).read_to_string(&mut written)?;
        let ran = site.plugin.run(["logs", "b"])?.ok();
        assert_eq!(ran.stdout, written);
        assert!(written.lines().count() > 1, "{written}");
        fs::remove_file(site.file("b", "b-logs.gz"))?;
        site.plugin
            .run(["logs", "b"])?
            .exits(5)
            .stderr_has("backup b has no log");
    }
    Ok(())
}
