//! Backups that we wrote, in Velero's hands: synced, described, restored, expired and deleted.

use std::fs;
use std::sync::LazyLock;

use anyhow::{Context, Result};
use backup_tests::applications;
use backup_tests::cluster::Cluster;
use backup_tests::compare::{Ignored, RESTORED, compare_settled};
use backup_tests::plugin::Plugin;
use backup_tests::servers::Program;
use backup_tests::snapshot;
use backup_tests::store::Store;
use backup_tests::velero::{LOCATION, Velero};
use serde_json::json;

use crate::site::{applications_in, back_up_applications, keys_below};

const ORPHANED: &str = "Velero drops all owner references";
const ANOTHER_AUTHORITY: &str = "every cluster has a certificate authority of its own";

/// What is not the same after a restore by Velero into another cluster, beyond [`RESTORED`]. Controllers adopt their own
/// children again by selectors; what a custom resource owned is an orphan for good.
const LOST: [Ignored; 4] = [
    Ignored {
        resources: &["configmaps"],
        path: &["metadata", "ownerReferences"],
        why: ORPHANED,
    },
    Ignored {
        resources: &["secrets"],
        path: &["metadata", "ownerReferences"],
        why: ORPHANED,
    },
    Ignored {
        resources: &["configmaps"],
        path: &["data", "ca.crt"],
        why: ANOTHER_AUTHORITY,
    },
    Ignored {
        resources: &["secrets"],
        path: &["data", "ca.crt"],
        why: ANOTHER_AUTHORITY,
    },
];

static BY_VELERO: LazyLock<Vec<Ignored>> = LazyLock::new(|| RESTORED.iter().copied().chain(LOST).collect());

#[test]
fn velero_shows_restores_and_deletes_a_backup_of_ours() -> Result<()> {
    let store = Store::shared_versitygw()?;
    let before = back_up_applications(&store, "all")?;
    let target = Cluster::start()?;
    let mut velero = Velero::start(&target, &store)?;
    velero.restart()?;
    let synced = velero.wait_until_synced("all")?;
    assert_eq!(synced["status"]["phase"], "Completed");
    assert_eq!(
        synced["metadata"]["labels"]["velero.io/storage-location"],
        LOCATION
    );

    let described = velero.cli(["backup", "describe", "all", "--details"])?.ok();
    let described = described
        .stdout_has("Phase:  Completed")
        .stdout_has("Backup Format Version:  1\n")
        .stdout_has("  apps/v1/Deployment:\n    - web-shop/backend\n")
        .stdout_has("Velero-Native Snapshots: <none included>")
        .stdout_has("CSI Snapshots: <none included>")
        .stdout_has("Pod Volume Backups: <none included>")
        // What cannot be read from the bucket is printed so.
        .nowhere_has("<error");
    let counted = &synced["status"]["progress"]["itemsBackedUp"];
    described.stdout_has(&format!("Items backed up:              {counted}\n"));
    let ours = Plugin::new(&target, &store)?.run(["logs", "all"])?.ok();
    let theirs = velero.cli(["backup", "logs", "all"])?.ok();
    assert!(
        !ours.stdout.is_empty() && ours.stdout == theirs.stdout,
        "{theirs}"
    );
    let file = velero.folder().join("all.tar.gz");
    let words = [
        "backup",
        "download",
        "all",
        "--output",
        file.to_str().context("path")?,
    ];
    velero.cli(words)?.ok();
    assert_eq!(
        fs::read(&file)?,
        fs::read(store.path().join("backups/all/all.tar.gz"))?
    );

    let (restored, _) = velero.restore("r", json!({ "backupName": "all", "includedNamespaces": ["*"] }))?;
    assert_eq!(restored["status"]["phase"], "Completed");
    let compared = compare_settled(&before, || applications_in(&target), &BY_VELERO)?;
    compared.assert_same();
    let unused = compared.unused();
    assert!(!LOST.iter().any(|entry| unused.contains(&entry)), "{unused:?}");

    velero.delete_backup("all")?;
    assert_eq!(store.keys()?, [""; 0], "Velero deletes our files with its own");
    Ok(())
}

#[test]
fn velero_expires_backups_of_ours_and_is_not_disturbed_by_our_litter() -> Result<()> {
    let (store, other) = (Store::shared_versitygw()?, Store::shared_versitygw()?);
    let cluster = Cluster::builder().controllers(false).start()?;
    applications::install_kiosk(&cluster)?;
    let plugin = Plugin::new(&cluster, &store)?;
    let plugin = plugin.with_env(
        "KUBECTL_BACKUP_LOCATION",
        &store.location_url_with_prefix("team/one"),
    );
    plugin.run(["create", "kept", "-n", "kiosk"])?.ok();
    plugin
        .run(["create", "short", "-n", "kiosk", "--ttl", "1s"])?
        .ok();
    plugin
        .run(["restore", "kept", "--name", "ours", "-n", "kiosk"])?
        .ok();
    // A run that goes on, one that was killed, and what nobody knows.
    let litter = [
        "backups/killed/killed.tar.gz",
        "backups/running/running-claim.json",
        "notes.txt",
    ]
    .map(|key| format!("team/one/{key}"));
    for key in &litter {
        let file = store.path().join(key);
        fs::create_dir_all(file.parent().context("a folder")?)?;
        fs::write(file, "{}")?;
    }

    let builder = Velero::builder(&cluster, &other).flag("--garbage-collection-frequency=1s");
    let mut velero = builder.start()?;
    velero.add_location(
        "one",
        &store,
        json!({ "objectStorage": { "prefix": "team/one" } }),
    )?;
    velero.restart()?;
    let synced = velero.wait_until_synced("kept")?;
    assert_eq!(synced["spec"]["storageLocation"], "one");
    cluster.wait_until("Velero to delete the expired backup", |_| {
        let left = keys_below(&store, "team/one/backups/short/")?;
        Ok(left.is_empty() && velero.get("Backup", "short")?.is_none())
    })?;
    let backups = velero.list("Backup")?;
    let known: Vec<_> = backups.iter().map(|backup| &backup["metadata"]["name"]).collect();
    assert_eq!(known, ["kept"], "neither claims nor killed runs are backups");
    // Validated anew since the restart, with the litter in it.
    velero.wait_for("BackupStorageLocation", "one", &["Available"])?;
    assert!(
        !velero.log()?.contains("invalid top-level"),
        "{}",
        velero.log_tail()
    );

    velero.delete_backup("kept")?;
    let mut left = store.keys()?;
    left.retain(|key| !litter.contains(key));
    // Velero deletes the restores that it has objects for; our own record of a restore outlives its backup.
    assert_eq!(left, keys_below(&store, "team/one/restores/ours/")?);
    assert!(!left.is_empty());
    Ok(())
}

/// Our smallest backup through an older Velero: `cargo test -p backup-tests --test velero -- --ignored`.
fn restored_by(program: Program) -> Result<()> {
    let store = Store::shared_versitygw()?;
    let source = Cluster::builder().controllers(false).start()?;
    applications::install_kiosk(&source)?;
    let before = snapshot::in_namespace(&snapshot::of_cluster(&source)?, "kiosk");
    Plugin::new(&source, &store)?
        .run(["create", "kiosk", "-n", "kiosk"])?
        .ok();
    let target = Cluster::builder().controllers(false).start()?;
    let mut velero = Velero::builder(&target, &store).release(program).start()?;
    velero.restart()?;
    velero.wait_until_synced("kiosk")?;
    velero
        .cli(["backup", "describe", "kiosk", "--details"])?
        .ok()
        .stdout_has("- kiosk/menu\n")
        .nowhere_has("<error");
    let (restored, _) = velero.restore("r", json!({ "backupName": "kiosk" }))?;
    assert_eq!(restored["status"]["phase"], "Completed");
    let there = snapshot::in_namespace(&snapshot::of_cluster(&target)?, "kiosk");
    assert!(
        before.len() > 10 && before.keys().eq(there.keys()),
        "{:?}\n{:?}",
        before.keys(),
        there.keys()
    );
    velero.delete_backup("kiosk")?;
    assert_eq!(store.keys()?, [""; 0]);
    Ok(())
}

#[test]
#[ignore = "builds Velero 1.17 (four minutes)"]
fn velero_1_17_restores_and_deletes_a_backup_of_ours() -> Result<()> {
    restored_by(Program::Velero117)
}

#[test]
#[ignore = "builds Velero 1.16 (four minutes)"]
fn velero_1_16_restores_and_deletes_a_backup_of_ours() -> Result<()> {
    restored_by(Program::Velero116)
}
