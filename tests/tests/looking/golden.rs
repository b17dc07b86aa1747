//! Backups of the web shop that a real Velero 1.18.3 wrote (`tests/golden`), without any of our files: everything works on
//! them but what needs digests. Other releases and kinds of backups: `tests/tests/velero/golden.rs`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use backup_tests::cluster::Cluster;
use backup_tests::compare::{Difference, RESTORED, compare};
use backup_tests::plugin::Plugin;
use backup_tests::snapshot::{self, Snapshot};
use backup_tests::store::Store;
use flate2::read::MultiGzDecoder;
use serde_json::{Value, json};

use crate::site::{fields, files, names, stores};

const NAMES: [&str; 3] = ["everything", "labelled", "shop"];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/velero-1.18.3")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// A folder with the golden backups, and the plugin for it. Restores are the only thing that needs a cluster.
fn place() -> Result<(Store, Plugin)> {
    let store = Store::folder()?;
    for name in NAMES {
        let folder = Path::new("backups").join(name);
        copy(&golden().join(&folder), &store.path().join(&folder))?;
    }
    let plugin = Plugin::bare()?.with_store(&store);
    Ok((store, plugin))
}

fn archive(name: &str) -> Result<Snapshot> {
    snapshot::of_tarball(File::open(
        golden().join(format!("backups/{name}/{name}.tar.gz")),
    )?)
}

fn marker(name: &str) -> Result<Value> {
    let path = golden().join(format!("backups/{name}/velero-backup.json"));
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

#[test]
fn they_are_listed_and_described() -> Result<()> {
    let (_store, plugin) = place()?;
    let listed = plugin.json(["list", "--sort-by", "name"])?;
    assert_eq!(fields(&listed, "name"), NAMES);
    assert_eq!(fields(&listed, "status"), ["Completed"; 3]);
    for (row, name) in listed["items"].as_array().context("items")?.iter().zip(NAMES) {
        let marker = marker(name)?;
        assert_eq!(row["created"], marker["status"]["startTimestamp"]);
        assert_eq!(row["expires"], marker["status"]["expiration"]);
        assert_eq!(row["objects"], marker["status"]["progress"]["itemsBackedUp"]);
        let described = plugin.json(["describe", name, "--details"])?;
        assert_eq!(described["backup"], marker, "no field is lost or changed");
        assert_eq!(described["outcome"], Value::Null);
        assert!(described["resources"].is_object());
    }
    let ran = plugin.run(["describe", "labelled"])?.ok();
    let ran = ran
        .stdout_has("Written by:  Velero")
        .stdout_has("Included:                   web-shop");
    ran.stdout_has("app.kubernetes.io/part-of=web-shop")
        .stdout_has("Backup Format Version:  1.1.0");
    Ok(())
}

#[test]
fn their_objects_stand_in_the_contents_once() -> Result<()> {
    let (_store, plugin) = place()?;
    for name in NAMES {
        let archive = archive(name)?;
        let contents = plugin.json(["contents", name])?;
        let items = contents["items"].as_array().context("items")?;
        let said: BTreeSet<String> = items
            .iter()
            .map(|item| format!("{} {} {}", item["resource"], item["namespace"], item["name"]))
            .collect();
        let held: BTreeSet<String> = archive
            .keys()
            .map(|key| {
                format!(
                    "{} {} {}",
                    json!(key.resource),
                    json!(key.namespace),
                    json!(key.name)
                )
            })
            .collect();
        assert_eq!(said, held);
        assert_eq!(items.len(), held.len(), "Velero stores each object twice");
        let counted = marker(name)?["status"]["progress"]["itemsBackedUp"].as_u64();
        assert_eq!(Some(items.len() as u64), counted);
    }
    let pods = plugin.json([
        "contents",
        "everything",
        "pods",
        "-n",
        "web-shop",
        "-l",
        "app.kubernetes.io/name=frontend",
    ])?;
    assert_eq!(fields(&pods, "name").len(), 3);
    let ran = plugin
        .run(["contents", "shop", "deploy/backend", "-o", "wide"])?
        .ok();
    ran.stdout_has("deployments.apps")
        .stdout_has("app.kubernetes.io/name=backend");
    Ok(())
}

#[test]
fn every_object_is_printed_as_it_was_stored() -> Result<()> {
    let (_store, plugin) = place()?;
    let archive = archive("shop")?;
    // Running the plugin fifty times takes long; one object of each kind will do.
    let mut kinds = BTreeSet::new();
    for (key, object) in archive
        .iter()
        .filter(|(key, _)| kinds.insert(key.resource.clone()))
    {
        let word = format!("{}/{}", key.resource, key.name);
        let printed = plugin.json(["cat", "shop", &word, "-n", "web-shop", "--show-secrets"]);
        let printed = match &key.namespace {
            Some(_) => printed?,
            None => plugin.json(["cat", "shop", &word])?,
        };
        assert_eq!(&printed, object, "{key}");
    }
    assert!(kinds.len() > 15, "{kinds:?}");
    plugin
        .run(["cat", "shop", "secret/payment-provider"])?
        .ok()
        .stdout_has("*** (16 bytes)")
        .nowhere_has("pk_live");
    Ok(())
}

#[test]
fn they_are_found_and_their_logs_read() -> Result<()> {
    let (_store, plugin) = place()?;
    let mut newest_first = Vec::from(NAMES);
    let started = |name: &&str| {
        marker(name)
            .map(|marker| marker["status"]["startTimestamp"].to_string())
            .ok()
    };
    newest_first.sort_by_key(|name| std::cmp::Reverse(started(name)));
    let ran = plugin.run(["find", "deployment/frontend", "-o", "name"])?.ok();
    let found = names(&ran.stdout);
    let times: Vec<_> = found.iter().map(started).collect();
    assert!(found.len() == 3 && times.is_sorted_by(|a, b| a >= b), "{found:?}");
    let ran = plugin
        .run(["find", "cm/branding", "-n", "web-shop", "-o", "name"])?
        .ok();
    assert_eq!(names(&ran.stdout).len(), 2, "it has no label");
    let log = plugin.run(["logs", "labelled"])?.ok().stdout;
    let file = File::open(golden().join("backups/labelled/labelled-logs.gz"))?;
    assert_eq!(log, std::io::read_to_string(MultiGzDecoder::new(file))?);
    assert!(log.contains("level=info"), "{log}");
    Ok(())
}

#[test]
fn damage_that_can_be_told_is_told() -> Result<()> {
    let (store, plugin) = place()?;
    let report = plugin.json(["verify", "shop"])?;
    assert_eq!(
        (&report["sound"], &report["writtenByVelero"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(report["checkedObjects"], json!(archive("shop")?.len()));
    plugin
        .run(["verify", "everything", "labelled"])?
        .ok()
        .stdout_has("Velero stores no digests");
    let tarball = store.path().join("backups/shop/shop.tar.gz");
    let sound = fs::read(&tarball)?;
    let mut flipped = sound.clone();
    flipped[sound.len() / 2] ^= 0x20;
    for bytes in [&sound[..sound.len() - 100], &flipped] {
        fs::write(&tarball, bytes)?;
        plugin.run(["verify", "shop"])?.exits(1).stdout_has("shop.tar.gz");
    }
    fs::remove_file(&tarball)?;
    plugin.run(["verify", "shop"])?.exits(1).stdout_has("shop.tar.gz");
    plugin
        .run(["cat", "shop", "cm/branding"])?
        .exits(1)
        .stderr_has("shop");
    Ok(())
}

#[test]
fn they_are_moved_byte_by_byte_and_deleted() -> Result<()> {
    for target in stores()? {
        let (store, plugin) = place()?;
        let env = target.env();
        let plugin = env
            .iter()
            .fold(plugin, |plugin, (name, value)| plugin.with_env(name, value));
        let to = target.location_url();
        plugin
            .run(["copy", "shop", "everything", "--to", &to])?
            .ok()
            .stdout_has("Velero stores no digests");
        plugin.run(["download", "labelled"])?.ok();
        plugin.run(["import", "labelled.tar", "--location", &to])?.ok();
        for name in NAMES {
            assert_eq!(files(&store, name)?, files(&target, name)?);
        }
        plugin
            .run(["verify", "shop", "everything", "labelled", "--location", &to])?
            .ok();
        plugin
            .run(["cat", "everything", "ns/web-shop", "--location", &to])?
            .ok()
            .stdout_has("team: commerce");
        plugin
            .run([
                "delete",
                "shop",
                "everything",
                "labelled",
                "--yes",
                "--location",
                &to,
            ])?
            .ok();
        assert!(target.keys()?.is_empty(), "{:?}", target.keys()?);
    }
    Ok(())
}

#[test]
fn a_namespace_of_veleros_comes_back() -> Result<()> {
    let cluster = Cluster::start()?;
    let (_store, plugin) = place()?;
    let plugin = plugin.with_kubeconfig(cluster.kubeconfig())?;
    let summary = plugin.run(["restore", "shop", "--name", "r", "-o", "json"])?.ok();
    let summary: Value = serde_json::from_str(&summary.stdout)?;
    assert_eq!(summary["failures"], json!([]));
    let pods = "/api/v1/namespaces/web-shop/pods";
    let wanted = archive("shop")?;
    let differences = |cluster: &Cluster| -> Result<Vec<String>> {
        let there = snapshot::in_namespace(&snapshot::of_cluster(cluster)?, "web-shop");
        let compared = compare(&wanted, &there, RESTORED);
        assert!(compared.compared > 25, "{}", compared.compared);
        // Certificates of the API server are the new cluster's own.
        let other = |difference: &&Difference| difference.path != ["data", "ca.crt"];
        let others = compared.differences.iter().filter(other);
        Ok(others.map(ToString::to_string).collect())
    };
    cluster
        .wait_until("controllers to have nothing left to do", |cluster| {
            Ok(cluster.list(pods)?.len() >= 7 && differences(cluster)?.is_empty())
        })
        .with_context(|| format!("{:#?}", differences(&cluster)))?;

    // What is there and is the same stays; one object comes back alone.
    cluster.delete("/api/v1/namespaces/web-shop/secrets/payment-provider")?;
    plugin
        .run([
            "restore",
            "everything",
            "secret/payment-provider",
            "--name",
            "one",
        ])?
        .ok();
    let back = cluster
        .get("/api/v1/namespaces/web-shop/secrets/payment-provider")?
        .context("the Secret")?;
    let key = snapshot::ObjectKey::namespaced("secrets", "web-shop", "payment-provider");
    assert_eq!(back["data"], wanted[&key]["data"]);
    plugin
        .run(["restores", "list", "-o", "name"])?
        .ok()
        .stdout_has("restore/one");
    Ok(())
}

#[test]
fn all_of_veleros_is_restored_into_another_cluster() -> Result<()> {
    let cluster = Cluster::start()?;
    let (_store, plugin) = place()?;
    let plugin = plugin.with_kubeconfig(cluster.kubeconfig())?;
    let ran = plugin.run(["restore", "everything", "--name", "r", "-o", "json"])?;
    assert!(ran.code == 0, "{ran}");
    let definitions = cluster.list("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")?;
    assert!(definitions.len() >= 2, "{}", definitions.len());
    assert!(
        cluster
            .get("/apis/apps/v1/namespaces/web-shop/deployments/frontend")?
            .is_some()
    );
    Ok(())
}
