//! `delete` and `restores delete`: what is asked before, and that nothing stays.

use std::path::Path;

use anyhow::{Context, Result};
use backup_tests::store::Store;
use serde_json::json;

use crate::site::{Site, fields, names, stores};

/// Everything below a folder, but for empty folders.
fn left_below(folder: &Path) -> Result<Vec<String>> {
    let mut left = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        if !folder.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                left.push(path.display().to_string());
            }
        }
    }
    Ok(left)
}

/// Where versitygw keeps the versions of a bucket's objects.
fn versions(store: &Store) -> Result<std::path::PathBuf> {
    let path = store.path();
    let server = path
        .parent()
        .and_then(Path::parent)
        .context("the server's folder")?;
    Ok(server.join("versions").join(store.bucket().context("a bucket")?))
}

#[test]
fn a_deletion_needs_a_yes_and_leaves_nothing() -> Result<()> {
    for store in [
        Store::folder()?,
        Store::shared_versitygw()?,
        Store::shared_versitygw_with_object_lock()?,
    ] {
        let site = Site::with_backup(store, "b")?;
        site.back_up("kept")?;
        let before = site.store.keys()?;
        site.plugin.run(["delete", "b"])?.exits(4).stderr_has("--yes");
        site.plugin
            .run(["delete", "b", "--dry-run"])?
            .ok()
            .stdout_has("would be deleted");
        assert_eq!(site.store.keys()?, before);
        site.plugin
            .run(["delete", "b", "--yes"])?
            .ok()
            .stdout_has("backup/b deleted from");
        let kept = site.store.keys()?;
        assert!(
            kept.iter().all(|key| key.starts_with("backups/kept/")),
            "{kept:?}"
        );
        site.plugin.run(["verify", "kept"])?.ok();
        site.plugin
            .run(["delete", "b", "--yes"])?
            .exits(5)
            .stderr_has("there is no backup `b`");
        let deleted = site.plugin.json(["delete", "kept", "--yes"])?;
        assert_eq!(
            (fields(&deleted, "name"), &deleted["items"][0]["complete"]),
            (vec!["kept"], &json!(true))
        );
        assert!(site.store.keys()?.is_empty(), "{:?}", site.store.keys()?);
        if site.store.bucket().is_some() {
            assert_eq!(left_below(&versions(&site.store)?)?, Vec::<String>::new());
        }
    }
    Ok(())
}

#[test]
fn records_of_restores_go_with_their_backup() -> Result<()> {
    for store in stores()? {
        let site = Site::with_backup(store, "b")?;
        site.back_up("other")?;
        let (source, target) = (site.namespace.name(), format!("{}-copy", site.namespace));
        let mapping = format!("{source}:{target}");
        for (backup, restore) in [("b", "r1"), ("other", "r2")] {
            let words = [
                "restore",
                backup,
                "--name",
                restore,
                "--namespace-mappings",
                &mapping,
            ];
            site.plugin.run(words)?.ok();
        }
        let listed = site.plugin.json(["restores", "list"])?;
        assert_eq!(fields(&listed, "name").len(), 2);
        site.plugin
            .run(["restores", "describe", "r1"])?
            .ok()
            .stdout_has("Backup:");
        site.plugin.run(["restores", "logs", "r1"])?.ok();
        site.plugin.run(["delete", "b", "--yes"])?.ok();
        let ran = site.plugin.run(["restores", "list", "-o", "name"])?.ok();
        assert_eq!(names(&ran.stdout), ["r2"]);
        site.plugin
            .run(["restores", "describe", "r1"])?
            .exits(5)
            .stderr_has("there is no restore r1");
        site.plugin
            .run(["restores", "delete", "r2"])?
            .exits(4)
            .stderr_has("--yes");
        site.plugin.run(["restores", "delete", "r2", "--yes"])?.ok();
        site.plugin.run(["delete", "other", "--yes"])?.ok();
        assert!(site.store.keys()?.is_empty(), "{:?}", site.store.keys()?);
        site.cluster.delete(&format!("/api/v1/namespaces/{target}"))?;
        site.cluster
            .wait_until_gone(&format!("/api/v1/namespaces/{target}"))?;
    }
    Ok(())
}

#[test]
fn one_that_cannot_be_deleted_does_not_protect_the_others() -> Result<()> {
    let site = Site::with_backup(Store::folder()?, "a")?;
    site.back_up("c")?;
    site.plugin
        .run(["delete", "a", "b", "c", "--yes"])?
        .exits(5)
        .stdout_has("backup/a deleted")
        .stdout_has("backup/c deleted")
        .stderr_has("there is no backup `b`");
    assert!(site.store.keys()?.is_empty());
    Ok(())
}

#[test]
fn what_a_lock_keeps_is_refused_and_left_whole() -> Result<()> {
    let site = Site::on(Store::shared_versitygw_with_object_lock()?)?;
    let namespace = site.namespace.name();
    let locked = [
        "create",
        "b",
        "-n",
        namespace,
        "--lock-until",
        "2099-01-01T00:00:00Z",
    ];
    site.plugin.run(locked)?.ok();
    site.plugin
        .run(["delete", "b", "--yes"])?
        .exits(4)
        .stderr_has("kept by an object lock")
        .stderr_has("nothing of it was deleted");
    site.plugin.run(["verify", "b"])?.ok();
    Ok(())
}
