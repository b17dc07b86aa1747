//! What a real Velero does not do on demand: refuse, stand still, fall silent.
//!
//! Each case has a namespace where nobody works and plays Velero there by writing the status of its objects, which are
//! plain fields. The location seems to be what the case says.

use anyhow::{Context, Result};
use backup_tests::cluster::{Cluster, Namespace};
use backup_tests::plugin::{Plugin, Running};
use backup_tests::store::Store;
use backup_tests::velero::LOCATION;
use serde_json::{Value, json};

use super::{Site, site};

impl Site {
    /// A namespace in which a Velero seems to live: nobody works there, and the location is as `status` says. Its prefix
    /// lies below `metadata/`: other folders at the top of the bucket would make the real location unavailable.
    pub(super) fn puppet(&self, prefix: &str, status: &Value) -> Result<Namespace> {
        let namespace = self.cluster.namespace()?;
        self.cluster.create(json!({
            "apiVersion": "velero.io/v1", "kind": "BackupStorageLocation",
            "metadata": { "name": LOCATION, "namespace": namespace.name() },
            "spec": {
                "provider": "aws", "objectStorage": { "bucket": self.store.bucket(), "prefix": prefix },
                "config": { "region": "us-east-1", "s3Url": self.store.endpoint() },
            },
            "status": status,
        }))?;
        Ok(namespace)
    }
}

pub(super) fn path(namespace: &str, plural: &str, name: &str) -> String {
    format!("/apis/velero.io/v1/namespaces/{namespace}/{plural}/{name}")
}

/// Validated a moment ago.
pub(super) fn fresh() -> Value {
    json!({ "phase": "Available", "lastValidationTime": jiff::Timestamp::now().to_string() })
}

/// Waits for an object and gives it a status, as Velero would.
fn play(cluster: &Cluster, path: &str, status: &Value) -> Result<()> {
    cluster.wait_until(&format!("{path} to be there"), |cluster| {
        Ok(cluster.get(path)?.is_some())
    })?;
    cluster.patch(path, json!({ "status": status })).map(drop)
}

#[test]
fn what_velero_refuses_is_printed_and_ends_with_1() -> Result<()> {
    let site = site()?;
    let (plugin, puppet) = (site.plugin()?, site.puppet("metadata/refused", &fresh())?);
    let url = site.store.location_url_with_prefix("metadata/refused");
    let words = |rest: &[&str]| {
        let place = ["--location", &url, "--velero-namespace", puppet.name()];
        rest.iter()
            .chain(&place)
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    let running = plugin.spawn(words(&["create", "b", "-n", "default"]))?;
    let refused = json!({ "phase": "FailedValidation", "validationErrors": ["the moon is full"] });
    play(site.cluster, &path(puppet.name(), "backups", "b"), &refused)?;
    running
        .wait()?
        .exits(1)
        .stdout_has("FailedValidation")
        .stderr_has("Velero says: the moon is full")
        .stderr_has("next: correct the request");
    // It is nowhere but in the cluster, and shown all the same.
    plugin.run(words(&["list"]))?.ok().stdout_has("FailedValidation");
    plugin
        .run(words(&["describe", "b"]))?
        .ok()
        .stdout_has("the moon is full");
    plugin
        .run(words(&["restore", "b"]))?
        .exits(4)
        .stderr_has("FailedValidation and cannot be restored");

    let running = plugin.spawn(words(&["create", "c", "-n", "default"]))?;
    let failed = json!({ "phase": "Failed", "failureReason": "no bucket" });
    play(site.cluster, &path(puppet.name(), "backups", "c"), &failed)?;
    running.wait()?.exits(1).stderr_has("Velero says: no bucket");
    Ok(())
}

#[test]
fn a_restore_that_only_velero_knows_is_in_the_list() -> Result<()> {
    let site = site()?;
    let (plugin, puppet) = (site.plugin()?, site.puppet("metadata/listed", &fresh())?);
    let url = site.store.location_url_with_prefix("metadata/listed");
    let object = |kind: &str, name: &str, spec: Value, status: Value| {
        json!({ "apiVersion": "velero.io/v1", "kind": kind, "metadata": { "name": name, "namespace": puppet.name() },
            "spec": spec, "status": status })
    };
    for (backup, location) in [("here", LOCATION), ("elsewhere", "another")] {
        let spec = json!({ "storageLocation": location });
        site.cluster
            .create(object("Backup", backup, spec, json!({ "phase": "Completed" })))?;
    }
    for (name, backup, phase) in [
        ("refused", "here", "FailedValidation"),
        ("busy", "here", "InProgress"),
        ("other", "elsewhere", "InProgress"),
    ] {
        let status = json!({ "phase": phase, "startTimestamp": "2026-11-25T01:00:00Z", "warnings": 3 });
        site.cluster
            .create(object("Restore", name, json!({ "backupName": backup }), status))?;
    }
    let list = [
        "restores",
        "list",
        "--location",
        &url,
        "--velero-namespace",
        puppet.name(),
    ];
    plugin
        .run(list)?
        .ok()
        .stdout_has("refused   here     FailedValidation")
        .stdout_has("busy      here     InProgress")
        .nowhere_has("other");
    let json = plugin.json(list)?;
    assert_eq!(json["items"][0]["velero"]["backup"], "here", "{json}");
    assert_eq!(json["items"][0]["velero"]["warnings"], 3, "{json}");
    Ok(())
}

/// A run that waits for a Velero that does not come.
fn waiting(plugin: &Plugin, words: &[String]) -> Result<Running> {
    let mut running: Running = plugin.spawn(words)?;
    running.wait_until("it to wait", |running| running.stderr_so_far().contains("; to "))?;
    Ok(running)
}

#[test]
fn who_stops_waiting_stops_nothing() -> Result<()> {
    let site = site()?;
    let (plugin, puppet) = (site.plugin()?, site.puppet("metadata/waiting", &fresh())?);
    let url = site.store.location_url_with_prefix("metadata/waiting");
    let words = |rest: &[&str]| {
        let place = ["--location", &url, "--velero-namespace", puppet.name()];
        rest.iter()
            .chain(&place)
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    let backup = |name: &str| path(puppet.name(), "backups", name);
    let running = waiting(&plugin, &words(&["create", "stopped", "-n", "default"]))?;
    site.cluster.wait_until("the object to be there", |cluster| {
        Ok(cluster.get(&backup("stopped"))?.is_some())
    })?;
    running.interrupt()?;
    running
        .wait()?
        .exits(130)
        .stderr_has("backup stopped goes on in Velero; `kubectl backup describe stopped`");
    assert!(site.cluster.get(&backup("stopped"))?.is_some());
    plugin
        .run(words(&["create", "late", "-n", "default", "--timeout", "2s"]))?
        .exits(6)
        .stderr_has("backup late goes on in Velero")
        .stderr_has("not done within 2 s");
    plugin
        .run(words(&["create", "left", "-n", "default", "--wait=false"]))?
        .ok()
        .stdout_has("backup/left submitted");
    for name in ["late", "left"] {
        assert!(site.cluster.get(&backup(name))?.is_some(), "{name}");
    }
    // Velero would only refuse it.
    plugin
        .run(words(&["delete", "left", "--yes"]))?
        .exits(4)
        .stderr_has("is New: Velero is at work on it");
    plugin
        .run(words(&["list"]))?
        .ok()
        .stdout_has("left")
        .stdout_has("New");

    // Velero's errors of a deletion are the command's.
    play(site.cluster, &backup("left"), &json!({ "phase": "Completed" }))?;
    let running = plugin.spawn(words(&["delete", "left", "--yes"]))?;
    let requests = path(puppet.name(), "deletebackuprequests", "");
    let requests = requests.trim_end_matches('/').to_owned();
    site.cluster.wait_until("the request to be there", |cluster| {
        Ok(cluster.list(&requests)?.len() == 1)
    })?;
    let request = site.cluster.list(&requests)?.remove(0);
    let name = request["metadata"]["name"].as_str().context("it has a name")?;
    assert_eq!(request["spec"]["backupName"], "left");
    let status = json!({ "phase": "Processed", "errors": ["the snapshot clings to life"] });
    play(site.cluster, &format!("{requests}/{name}"), &status)?;
    running
        .wait()?
        .exits(1)
        .stderr_has("Velero could not delete backup `left`: the snapshot clings to life");
    Ok(())
}

#[test]
fn auto_takes_velero_only_where_it_lives_and_has_the_place() -> Result<()> {
    let site = site()?;
    let (plugin, shop) = (site.plugin()?, site.shop()?);
    let create = |name: &str, rest: &[&str]| {
        let words = ["create", name, "-n", shop.name()];
        plugin.run(words.iter().chain(rest).copied())
    };
    // Another prefix is another place.
    let url = site.store.location_url_with_prefix("metadata/other");
    create("elsewhere", &["--location", &url])?
        .ok()
        .stderr_has("engine direct (auto: no BackupStorageLocation in namespace velero is s3://");
    create("elsewhere-2", &["--location", &url, "--engine", "velero"])?
        .exits(4)
        .stderr_has("engine velero cannot be used for s3://")
        .stderr_has("default is s3://");
    create("asked", &["--engine", "direct", "--location", &url])?
        .ok()
        .stderr_has("engine direct (asked for)");
    let folder = Store::folder()?;
    create("folder", &["--location", &folder.location_url()])?
        .ok()
        .stderr_has("engine direct (auto: Velero keeps no backups in folders)");

    // A Velero that was seen long ago.
    let stale = site.puppet(
        "metadata/stale",
        &json!({ "phase": "Available", "lastValidationTime": "2026-01-01T00:00:00Z" }),
    )?;
    let url = site.store.location_url_with_prefix("metadata/stale");
    let place = ["--location", &url, "--velero-namespace", stale.name()];
    create("stale", &place)?
        .ok()
        .stderr_has("was last validated")
        .stderr_has("engine direct (auto: BackupStorageLocation");
    let asked = [&place[..], &["--engine", "velero", "--wait=false"]].concat();
    create("stale-2", &asked)?
        .ok()
        .stderr_has("Velero may not be running")
        .stdout_has("submitted");

    // One that cannot use it, or may not write.
    let broken = site.puppet(
        "metadata/broken",
        &json!({ "phase": "Unavailable", "message": "no such bucket" }),
    )?;
    let url = site.store.location_url_with_prefix("metadata/broken");
    let place = ["--location", &url, "--velero-namespace", broken.name()];
    create("broken", &place)?
        .ok()
        .stderr_has("is Unavailable (no such bucket)");
    let asked = [&place[..], &["--engine", "velero"]].concat();
    create("broken-2", &asked)?
        .exits(4)
        .stderr_has("is Unavailable (no such bucket)");
    let read_only = site.puppet("metadata/read-only", &fresh())?;
    site.cluster.patch(
        &path(read_only.name(), "backupstoragelocations", LOCATION),
        json!({ "spec": { "accessMode": "ReadOnly" } }),
    )?;
    let url = site.store.location_url_with_prefix("metadata/read-only");
    let place = ["--location", &url, "--velero-namespace", read_only.name()];
    create("read-only", &place)?
        .exits(4)
        .stderr_has("is read-only; choose another location");

    // Whoever may not read Velero's objects works without it.
    let user = site.cluster.kubeconfig_as("shopkeeper")?;
    site.cluster.kubectl_ok(&[
        "create",
        "clusterrolebinding",
        "shopkeeper",
        "--clusterrole=view",
        "--user=shopkeeper",
    ])?;
    let limited = Plugin::bare()?.with_kubeconfig(&user)?.with_store(site.store);
    limited
        .run([
            "create",
            "limited",
            "-n",
            shop.name(),
            "--include-resources",
            "configmaps",
        ])?
        .ok()
        .stderr_has("engine direct (auto: BackupStorageLocations in namespace velero may not be read)");
    limited
        .run(["create", "limited-2", "-n", shop.name(), "--engine", "velero"])?
        .exits(4)
        .stderr_has("forbidden");
    Ok(())
}

#[test]
fn a_backup_that_velero_does_not_look_for_is_said_to_be_that() -> Result<()> {
    let site = site()?;
    let (plugin, shop) = (site.plugin()?, site.shop()?);
    let puppet = site.puppet("metadata/unsynced", &fresh())?;
    let location = path(puppet.name(), "backupstoragelocations", LOCATION);
    site.cluster
        .patch(&location, json!({ "spec": { "backupSyncPeriod": "0s" } }))?;
    let url = site.store.location_url_with_prefix("metadata/unsynced");
    let place = ["--location", &url, "--velero-namespace", puppet.name()];
    plugin
        .run(
            ["create", "ours", "-n", shop.name(), "--engine", "direct"]
                .iter()
                .chain(&place)
                .copied(),
        )?
        .ok();
    for command in [&["restore", "ours"][..], &["delete", "ours", "--yes"]] {
        plugin
            .run(command.iter().chain(&place).copied())?
            .exits(6)
            .stderr_has("is in the bucket, but BackupStorageLocation")
            .stderr_has("use --engine direct");
    }
    plugin
        .run(["restore", "nobodys"].iter().chain(&place).copied())?
        .exits(5)
        .stderr_has("nor a backup of that name in default");
    Ok(())
}
