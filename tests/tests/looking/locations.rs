//! `location`: names for places, and what a place can do.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use backup_tests::applications;
use backup_tests::cluster::Cluster;
use backup_tests::plugin::Plugin;
use backup_tests::scratch::Scratch;
use backup_tests::store::Store;
use serde_json::{Value, json};

use crate::site::{Site, claim, edit, fields, names, stores};

/// The plugin with credentials for a bucket and a home without any location.
fn unplaced(bucket: &Store) -> Result<Plugin> {
    let plugin = Plugin::bare()?.with_kubeconfig(Cluster::shared()?.kubeconfig())?;
    Ok(bucket
        .env()
        .into_iter()
        .fold(plugin, |plugin, (name, value)| plugin.with_env(&name, &value)))
}

#[test]
fn names_stand_for_locations() -> Result<()> {
    let (folder, bucket) = (Store::folder()?, Store::shared_versitygw()?);
    let plugin = unplaced(&bucket)?;
    plugin.run(["list"])?.exits(2).stderr_has("location add");
    plugin.run(["location", "list"])?.ok().stderr_has("no locations");
    plugin.run(["location", "default"])?.exits(5);
    plugin
        .run(["location", "add", "near", &folder.location_url()])?
        .ok()
        .stdout_has("location/near added")
        .stdout_has("the default");
    plugin
        .run(["location", "add", "far", &bucket.location_url()])?
        .ok();
    assert_eq!(plugin.run(["location", "default"])?.ok().stdout, "near\n");
    let listed = plugin.json(["location", "list"])?;
    assert_eq!(fields(&listed, "name"), ["far", "near"]);
    assert_eq!(
        fields(&listed, "url"),
        [bucket.location_url(), folder.location_url()]
    );
    let ran = plugin.run(["location", "list", "-o", "name"])?.ok();
    assert_eq!(names(&ran.stdout), ["far", "near"]);
    plugin
        .run(["location", "list"])?
        .ok()
        .stdout_has("NAME   DEFAULT   URL");

    plugin.run(["create", "b", "-n", "default"])?.ok();
    plugin
        .run(["create", "c", "-n", "default", "--location", "far"])?
        .ok();
    assert!(
        folder
            .keys()?
            .contains(&"backups/b/velero-backup.json".to_owned())
    );
    assert!(
        bucket
            .keys()?
            .contains(&"backups/c/velero-backup.json".to_owned())
    );
    plugin.run(["copy", "b", "--to", "far"])?.ok();
    let in_far = |plugin: &Plugin, words: &[&str]| -> Result<usize> {
        let ran = plugin.run(words.iter().copied())?.ok();
        Ok(names(&ran.stdout).len())
    };
    assert_eq!(in_far(&plugin, &["list", "-o", "name", "--location", "far"])?, 2);

    plugin.run(["location", "default", "far"])?.ok();
    assert_eq!(in_far(&plugin, &["list", "-o", "name"])?, 2);
    plugin
        .run(["location", "default", "nowhere"])?
        .exits(5)
        .stderr_has("nowhere");
    plugin.run(["location", "check", "near"])?.ok();
    plugin
        .run([
            "location",
            "add",
            "near",
            &folder.location_url_with_prefix("below"),
        ])?
        .ok()
        .stdout_has("location/near changed");
    plugin
        .run(["location", "remove", "far"])?
        .ok()
        .stdout_has("its backups stay");
    plugin
        .run(["location", "remove", "far"])?
        .exits(5)
        .stderr_has("far");
    plugin.run(["list"])?.exits(2);
    assert!(
        bucket
            .keys()?
            .contains(&"backups/c/velero-backup.json".to_owned())
    );
    Ok(())
}

#[test]
fn words_beat_the_environment_and_that_beats_the_default() -> Result<()> {
    let site = Site::with_backup(Store::folder()?, "in-environment")?;
    let (by_word, by_default) = (Store::folder()?, Store::folder()?);
    let default = by_default.location_url();
    for (store, name) in [(&by_word, "by-word"), (&by_default, "by-default")] {
        site.plugin
            .run([
                "create",
                name,
                "-n",
                site.namespace.name(),
                "--location",
                &store.location_url(),
            ])?
            .ok();
    }
    site.plugin.run(["location", "add", "main", &default])?.ok();
    let ran = site.plugin.run(["list", "-o", "name"])?.ok();
    assert_eq!(names(&ran.stdout), ["in-environment"]);
    let ran = site
        .plugin
        .run(["list", "-o", "name", "--location", &by_word.location_url()])?
        .ok();
    assert_eq!(names(&ran.stdout), ["by-word"]);
    let plugin = site.plugin.with_env("KUBECTL_BACKUP_LOCATION", "main");
    let ran = plugin.run(["list", "-o", "name"])?.ok();
    assert_eq!(names(&ran.stdout), ["by-default"]);
    let plugin = plugin.with_env("KUBECTL_BACKUP_LOCATION", "");
    let ran = plugin.run(["list", "-o", "name"])?.ok();
    assert_eq!(names(&ran.stdout), ["by-default"]);
    Ok(())
}

#[test]
fn bad_names_and_urls_are_not_stored() -> Result<()> {
    let plugin = Plugin::bare()?;
    for (name, url) in [
        ("main", "ftp://host/folder"),
        ("main", "s3://"),
        ("main", "file://relative"),
        ("Not A Name", "file:///srv/backups"),
        ("", "file:///srv/backups"),
    ] {
        plugin.run(["location", "add", name, url])?.exits(2);
    }
    plugin
        .run(["location", "add", "main", "s3://bucket?secret-key=abc123"])?
        .exits(2)
        .nowhere_has("abc123");
    plugin.run(["location", "list"])?.ok().stderr_has("no locations");
    Ok(())
}

#[test]
fn the_file_of_locations_lies_where_users_expect_it() -> Result<()> {
    let plugin = Plugin::bare()?;
    plugin
        .run(["location", "add", "main", "file:///srv/backups"])?
        .ok();
    let file = plugin.home().join(".config/kubectl-backup/locations.yaml");
    let text = fs::read_to_string(&file)?;
    assert!(text.contains("file:///srv/backups"), "{text}");
    fs::write(&file, "locations: [")?;
    plugin
        .run(["location", "list"])?
        .exits(1)
        .stderr_has("locations.yaml");
    let elsewhere = plugin.home().join("xdg");
    let plugin = plugin.with_env("XDG_CONFIG_HOME", elsewhere.to_str().context("UTF-8")?);
    plugin
        .run(["location", "add", "main", "file:///srv/backups"])?
        .ok();
    assert!(elsewhere.join("kubectl-backup/locations.yaml").is_file());
    Ok(())
}

fn results(check: &Value) -> Vec<&str> {
    fields_of(&check["checks"], "result")
}

fn fields_of<'d>(list: &'d Value, field: &str) -> Vec<&'d str> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|item| item[field].as_str()).collect()
}

#[test]
fn a_check_proves_what_a_location_can_do() -> Result<()> {
    for store in stores()? {
        let plugin = Plugin::bare()?.with_store(&store);
        let checked = plugin.json(["location", "check"])?;
        assert_eq!(results(&checked), ["passed"; 8], "{checked:#}");
        assert!(store.keys()?.is_empty(), "it leaves nothing: {:?}", store.keys()?);
        plugin
            .run(["location", "check", &store.location_url()])?
            .ok()
            .stdout_has("put if absent");
    }
    Ok(())
}

#[test]
fn a_folder_that_cannot_be_written_is_told() -> Result<()> {
    let scratch = Scratch::new("read-only-")?;
    let disk = scratch.join("disk");
    fs::create_dir(&disk)?;
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "ro,size=64k", "tmpfs"])
        .arg(&disk)
        .status()?;
    ensure!(
        mounted.success(),
        "mounting a small tmpfs needs root: run the tests as root, or in a user namespace"
    );
    let location = format!("file://{}", disk.display());
    let ran = Plugin::bare()?.run(["location", "check", &location, "-o", "json"]);
    let unmounted = Command::new("umount").arg(&disk).status()?;
    let ran = ran?.exits(1);
    ensure!(unmounted.success(), "umount");
    let checked: Value = serde_json::from_str(&ran.stdout)?;
    let results = results(&checked);
    assert_eq!((results[0], results[1]), ("passed", "failed"), "{checked:#}");
    assert!(
        results[2..].iter().all(|result| *result == "skipped"),
        "{checked:#}"
    );
    Ok(())
}

#[test]
fn a_place_that_is_not_there_is_told() -> Result<()> {
    let bucket = Store::shared_versitygw()?;
    let plugin = Plugin::bare()?.with_store(&bucket);
    let missing = bucket
        .location_url()
        .replace(bucket.bucket().context("a bucket")?, "no-such-bucket");
    let ran = plugin.run(["location", "check", &missing])?.exits(1);
    ran.stdout_has("failed").stdout_has("no such bucket");
    let folder = Scratch::new("gone-")?;
    let url = format!("file://{}/not/there", folder.path().display());
    plugin
        .run(["location", "check", &url])?
        .exits(1)
        .stdout_has("create it, mount it");
    let wrong = Plugin::bare()?
        .with_store(&bucket)
        .with_env("AWS_SECRET_ACCESS_KEY", "another-secret-key");
    wrong
        .run(["location", "check"])?
        .exits(1)
        .stdout_has("credentials")
        .nowhere_has("another-secret-key");
    Ok(())
}

#[test]
fn what_a_killed_run_left_is_found_and_removed() -> Result<()> {
    let cluster = Cluster::start()?;
    applications::ballast(&cluster, 2_000, 4)?;
    for store in [
        Store::folder()?,
        Store::shared_versitygw()?,
        Store::shared_versitygw_with_object_lock()?,
    ] {
        let plugin = Plugin::new(&cluster, &store)?;
        plugin.run(["create", "sound", "-n", "default"])?.ok();
        let sound = store.keys()?;
        let mut run = plugin.spawn(["create", "killed", "--requests-per-second", "10"])?;
        // Its own: where versions are kept, the claim of the backup before may still lie there.
        run.wait_until("the claim", |_| {
            store
                .keys()
                .is_ok_and(|keys| keys.iter().any(|key| key.ends_with("/killed-claim.json")))
        })?;
        std::thread::sleep(std::time::Duration::from_millis(500));
        run.kill()?;
        run.wait()?;
        // From another machine nobody knows yet that it is dead.
        let claim_file = store.path().join("backups/killed/killed-claim.json");
        edit(&claim_file, |claim| claim["process"]["bootId"] = json!("another"))?;
        let checked = plugin.json(["location", "check", "--repair"])?;
        assert_eq!(
            (&checked["leftovers"], &checked["repair"]),
            (&json!([]), &Value::Null)
        );
        edit(&claim_file, |claim| {
            claim["heartbeat"] = json!("2026-01-01T00:00:00Z");
        })?;
        let checked = plugin.json(["location", "check"])?;
        assert_eq!(fields_of(&checked["leftovers"], "name"), ["killed"]);
        plugin
            .run(["location", "check"])?
            .ok()
            .stdout_has("left over: killed")
            .stderr_has("--repair");
        plugin
            .run(["location", "check", "--repair"])?
            .ok()
            .stdout_has("removed: killed");
        assert_eq!(store.keys()?, sound);
        plugin.run(["verify", "sound"])?.ok();
        plugin.run(["create", "killed", "-n", "default"])?.ok();
    }
    Ok(())
}

#[test]
fn a_name_is_free_at_once_when_its_run_was_killed_on_this_machine() -> Result<()> {
    let (cluster, store) = (Cluster::shared()?, Store::folder()?);
    let plugin = Plugin::new(cluster, &store)?;
    let mut run = plugin.spawn(["create", "killed", "--requests-per-second", "2"])?;
    run.wait_until("the claim", |_| {
        store
            .keys()
            .is_ok_and(|keys| keys.iter().any(|key| key.ends_with("-claim.json")))
    })?;
    plugin
        .run(["create", "killed"])?
        .exits(4)
        .stderr_has("is being written by host");
    run.kill()?;
    run.wait()?;
    plugin.run(["create", "killed", "-n", "default"])?.ok();
    plugin.run(["verify", "killed"])?.ok();
    Ok(())
}

#[test]
fn a_run_at_work_is_left_alone() -> Result<()> {
    for store in stores()? {
        let site = Site::with_backup(store, "sound")?;
        let folder = site.file("running", "");
        fs::create_dir_all(&folder)?;
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        fs::write(folder.join("running-claim.json"), claim(&now))?;
        fs::write(folder.join("running.tar.gz"), "half an archive")?;
        // Without a claim, but young: perhaps Velero's.
        let young = site.file("young", "");
        fs::create_dir_all(&young)?;
        fs::write(young.join("young.tar.gz"), "half an archive")?;
        let before = site.store.keys()?;
        site.plugin.run(["location", "check", "--repair"])?.ok();
        assert_eq!(site.store.keys()?, before);
    }
    Ok(())
}

#[test]
fn an_unreadable_backup_makes_a_check_fail() -> Result<()> {
    let site = Site::with_backup(Store::folder()?, "b")?;
    fs::write(site.file("b", "velero-backup.json"), "{")?;
    site.plugin
        .run(["location", "check", "--repair"])?
        .exits(1)
        .stderr_has("backup b");
    assert!(site.file("b", "b.tar.gz").is_file(), "a repair never touches it");
    Ok(())
}
