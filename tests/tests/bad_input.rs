//! What goes wrong, and how it ends: a clear error, the right exit code, nothing lost, nothing half visible.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backup_tests::applications;
use backup_tests::cluster::Cluster;
use backup_tests::plugin::{Plugin, Running};
use backup_tests::scratch::Scratch;
use backup_tests::store::Store;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

/// A folder with one small backup, and the plugin for it.
fn one_backup(name: &str) -> Result<(Store, Plugin)> {
    let cluster = Cluster::shared()?;
    let store = Store::folder()?;
    let plugin = Plugin::new(cluster, &store)?;
    plugin.run(["create", name, "-n", "default"])?.ok();
    Ok((store, plugin))
}

fn folder(store: &Store, name: &str) -> PathBuf {
    store.path().join("backups").join(name)
}

/// The backups that `list` shows.
fn visible(plugin: &Plugin) -> Result<Vec<String>> {
    let names = plugin.run(["list", "-o", "name"])?.ok().stdout;
    Ok(names
        .lines()
        .map(|line| line.rsplit('/').next().unwrap_or(line).to_owned())
        .collect())
}

/// A backup as Velero would have written it, around a tarball of our making.
fn foreign_backup(store: &Store, name: &str, tarball: &[u8]) -> Result<()> {
    let folder = folder(store, name);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("{name}.tar.gz")), tarball)?;
    let marker = json!({
        "apiVersion": "velero.io/v1", "kind": "Backup", "metadata": { "name": name, "namespace": "velero" },
        "spec": { "ttl": "720h0m0s", "storageLocation": "default" },
        "status": { "version": 1, "formatVersion": "1.1.0", "phase": "Completed", "startTimestamp": "2026-11-01T10:00:00Z" }
    });
    Ok(fs::write(folder.join("velero-backup.json"), marker.to_string())?)
}

/// A tarball of entries whose paths are written as they are, however hostile.
fn tarball(entries: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, data) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mode(0o755);
        header.set_entry_type(tar::EntryType::Regular);
        let bytes = path.as_bytes();
        let name = header
            .as_old_mut()
            .name
            .get_mut(..bytes.len())
            .context("a short path")?;
        name.copy_from_slice(bytes);
        header.set_cksum();
        builder.append(&header, *data)?;
    }
    gzip(&builder.into_inner()?)
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

const OBJECT: &[u8] =
    br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"default"}}"#;

#[test]
fn words_that_mean_nothing_are_usage_errors() -> Result<()> {
    let (_store, plugin) = one_backup("b")?;
    plugin
        .run(["create", "No_Such-Name"])?
        .exits(2)
        .stderr_has("is no valid name");
    plugin.run(["create", "x", "-l", "a in (b"])?.exits(2);
    plugin
        .run(["create", "x", "--ttl", "3 days"])?
        .exits(2)
        .stderr_has("is no duration");
    plugin
        .run(["create", "x", "-l", "a=b", "--or-selector", "c=d"])?
        .exits(2);
    let both = [
        "create",
        "x",
        "--include-resources",
        "pods",
        "--include-cluster-scoped-resources",
        "nodes",
    ];
    plugin.run(both)?.exits(2);
    plugin
        .run(["create", "x", "--include-resources", "deploymnets"])?
        .exits(2)
        .stderr_has("deployments");
    plugin.run(["frobnicate"])?.exits(2);
    plugin
        .run(["list", "--location", "s3://bucket?regoin=x"])?
        .exits(2)
        .stderr_has("region");
    plugin
        .run(["list", "--location", "/not/a/url"])?
        .exits(2)
        .stderr_has("file:///not/a/url");
    assert_eq!(visible(&plugin)?, ["b"]);
    Ok(())
}

#[test]
fn things_that_do_not_exist_are_not_found() -> Result<()> {
    let (_store, plugin) = one_backup("b")?;
    plugin.run(["describe", "c"])?.exits(5).stderr_has("c");
    plugin.run(["cat", "b", "configmap/nothing"])?.exits(5);
    plugin.run(["restore", "c"])?.exits(5);
    plugin
        .run(["create", "x", "-n", "no-such-namespace"])?
        .exits(5)
        .stderr_has("no-such-namespace");
    plugin
        .run(["list", "--location", "no-such-name"])?
        .exits(5)
        .stderr_has("no-such-name");
    plugin.run(["delete", "c", "--yes"])?.exits(5);
    assert_eq!(visible(&plugin)?, ["b"]);
    Ok(())
}

#[test]
fn a_name_that_exists_is_refused_and_left_alone() -> Result<()> {
    let (store, plugin) = one_backup("b")?;
    let before = fs::read(folder(&store, "b").join("velero-backup.json"))?;
    plugin
        .run(["create", "b"])?
        .exits(4)
        .stderr_has("exists")
        .stderr_has("choose another name");
    assert_eq!(fs::read(folder(&store, "b").join("velero-backup.json"))?, before);
    plugin.run(["verify", "b"])?.ok();
    plugin.run(["delete", "b"])?.exits(4).stderr_has("--yes");
    assert_eq!(visible(&plugin)?, ["b"]);
    Ok(())
}

#[test]
fn an_api_server_that_is_not_there_is_named() -> Result<()> {
    let cluster = Cluster::shared()?;
    let store = Store::folder()?;
    let scratch = Scratch::new("nowhere")?;
    let nowhere = scratch.path().join("config");
    let real = fs::read_to_string(cluster.kubeconfig())?;
    fs::write(&nowhere, real.replace(&cluster.api_url(), "https://127.0.0.1:1"))?;
    let plugin = Plugin::new(cluster, &store)?.with_kubeconfig(&nowhere)?;
    plugin
        .run(["create", "b"])?
        .exits(1)
        .stderr_has("127.0.0.1:1")
        .stderr_has("cannot be reached");
    let missing = scratch.path().join("missing");
    let plugin = Plugin::bare()?.with_store(&store);
    plugin
        .run(["create", "b", "--kubeconfig", &missing.display().to_string()])?
        .exits(1)
        .stderr_has("kubeconfig");
    let kubeconfig = cluster.kubeconfig().display().to_string();
    plugin
        .run([
            "create",
            "b",
            "--kubeconfig",
            &kubeconfig,
            "--context",
            "no-such-context",
        ])?
        .exits(1)
        .stderr_has("no-such-context");
    assert!(store.keys()?.is_empty(), "{:?}", store.keys()?);
    Ok(())
}

#[test]
fn storage_that_cannot_be_used_is_named() -> Result<()> {
    let cluster = Cluster::shared()?;
    let store = Store::shared_versitygw()?;
    let plugin = Plugin::new(cluster, &store)?;
    let endpoint = store.endpoint().context("an endpoint")?;
    let missing = format!("s3://no-such-bucket-here?endpoint={endpoint}&region=us-east-1&path-style=true");
    plugin
        .run(["create", "b", "-n", "default", "--location", &missing])?
        .exits(5)
        .stderr_has("no-such-bucket-here");
    let strange = Plugin::new(cluster, &store)?.with_env("AWS_SECRET_ACCESS_KEY", "wrong-secret-key-wrong");
    strange
        .run(["create", "b", "-n", "default"])?
        .exits(4)
        .stderr_has("credentials")
        .nowhere_has("wrong-secret-key-wrong");
    let silent = "s3://bucket?endpoint=http://127.0.0.1:1&region=us-east-1&path-style=true";
    plugin
        .run(["list", "--location", silent])?
        .exits(1)
        .stderr_has("127.0.0.1:1");
    plugin.run(["create", "b", "-n", "default"])?.ok();
    plugin.run(["verify", "b"])?.ok();
    Ok(())
}

#[test]
fn damage_is_found_and_never_restored_silently() -> Result<()> {
    let (store, plugin) = one_backup("b")?;
    let tarball = folder(&store, "b").join("b.tar.gz");
    let sound = fs::read(&tarball)?;

    fs::write(&tarball, &sound[..sound.len() / 2])?;
    plugin.run(["verify", "b"])?.exits(1).stdout_has("b.tar.gz");
    let ran = plugin.run(["restore", "b", "--name", "cut"])?;
    ensure!(
        ran.code == 1 || ran.code == 3,
        "a cut archive was restored: {ran}"
    );

    // A bit in each member, behind its header: some of a header's bits mean nothing, and of some members nothing is restored.
    let mut flipped = sound.clone();
    for at in 0..sound.len().saturating_sub(16) {
        if sound[at..].starts_with(&[0x1f, 0x8b, 8]) {
            flipped[at + 16] ^= 0x10;
        }
    }
    ensure!(flipped != sound, "no member was found");
    fs::write(&tarball, &flipped)?;
    plugin.run(["verify", "b"])?.exits(1).stdout_has("b.tar.gz");
    let ran = plugin.run(["restore", "b", "--name", "flipped"])?;
    ensure!(
        ran.code == 1 || ran.code == 3,
        "a damaged archive was restored: {ran}"
    );
    fs::write(&tarball, &sound)?;
    plugin.run(["verify", "b"])?.ok();

    fs::remove_file(folder(&store, "b").join("b-index.gz"))?;
    plugin.run(["verify", "b"])?.exits(1).stdout_has("b-index.gz");

    fs::remove_file(&tarball)?;
    plugin.run(["verify", "b"])?.exits(1);
    let ran = plugin.run(["restore", "b", "--name", "gone"])?;
    ensure!(
        ran.code == 1 || ran.code == 5,
        "a backup without an archive was restored: {ran}"
    );
    Ok(())
}

#[test]
fn hostile_archives_are_refused() -> Result<()> {
    let (store, plugin) = one_backup("sound")?;
    let target = "resources/configmaps/namespaces/default/a.json";
    foreign_backup(
        &store,
        "climbs",
        &tarball(&[(target, OBJECT), ("resources/../../etc/evil.json", OBJECT)])?,
    )?;
    foreign_backup(&store, "absolute", &tarball(&[("/etc/evil.json", OBJECT)])?)?;
    foreign_backup(
        &store,
        "doubled",
        &tarball(&[(target, OBJECT), (target, OBJECT)])?,
    )?;
    foreign_backup(&store, "no-json", &tarball(&[(target, b"{\"kind\":")])?)?;
    let bomb = gzip(&vec![0; 200 << 20])?;
    let inner = tarball(&[(target, OBJECT)])?;
    foreign_backup(&store, "bomb", &[inner, bomb].concat())?;
    for (name, word) in [
        ("climbs", "evil"),
        ("absolute", "evil"),
        ("doubled", "twice"),
        ("no-json", "default"),
    ] {
        let ran = plugin.run(["verify", name])?.exits(1);
        ensure!(
            ran.stdout.contains(word) || ran.stderr.contains(word),
            "{name}: {ran}"
        );
        let ran = plugin.run(["restore", name, "--name", &format!("r-{name}")])?;
        ensure!(ran.code == 1 || ran.code == 3, "{name} was restored: {ran}");
    }
    let ran = plugin.run(["verify", "bomb"])?;
    ensure!(
        ran.peak_memory < 100 << 20,
        "a bomb took {} MiB",
        ran.peak_memory >> 20
    );
    Ok(())
}

#[test]
fn of_two_runs_under_one_name_one_wins() -> Result<()> {
    let cluster = Cluster::start()?;
    applications::ballast(&cluster, 2_000, 4)?;
    for store in [Store::folder()?, Store::shared_versitygw()?] {
        let plugin = Plugin::new(&cluster, &store)?;
        let runs: Vec<_> = (0..3)
            .map(|_| plugin.spawn(["create", "same"]))
            .collect::<Result<_>>()?;
        let ran: Vec<_> = runs.into_iter().map(Running::wait).collect::<Result<_>>()?;
        let mut codes: Vec<i32> = ran.iter().map(|ran| ran.code).collect();
        codes.sort_unstable();
        let said: Vec<&String> = ran.iter().map(|ran| &ran.stderr).collect();
        assert_eq!(codes, [0, 4, 4], "{said:#?}");
        plugin.run(["verify", "same"])?.ok();
        assert_eq!(visible(&plugin)?, ["same"]);
    }
    Ok(())
}

#[test]
fn a_run_that_is_interrupted_leaves_nothing() -> Result<()> {
    let cluster = Cluster::start()?;
    applications::ballast(&cluster, 3_000, 4)?;
    for store in [Store::folder()?, Store::shared_versitygw()?] {
        let plugin = Plugin::new(&cluster, &store)?;
        let slow = ["create", "b", "--requests-per-second", "10"];
        let mut run = plugin.spawn(slow)?;
        run.wait_until("the claim", |_| {
            store
                .keys()
                .is_ok_and(|keys| keys.iter().any(|key| key.ends_with("-claim.json")))
        })?;
        run.interrupt()?;
        run.wait()?.exits(130).stderr_has("interrupted");
        assert!(store.keys()?.is_empty(), "{:?}", store.keys()?);
    }
    Ok(())
}

#[test]
fn a_run_that_is_killed_is_invisible_and_its_name_can_be_taken_over() -> Result<()> {
    let cluster = Cluster::start()?;
    applications::ballast(&cluster, 3_000, 4)?;
    let store = Store::folder()?;
    let plugin = Plugin::new(&cluster, &store)?;
    // From before the claim to after the marker.
    let whole = plugin.run(["create", "whole"])?.ok().took;
    let mut left_litter = 0;
    for step in 0..12u32 {
        let name = format!("k{step}");
        let run = plugin.spawn(["create", &name])?;
        std::thread::sleep(whole * step / 11);
        run.kill()?;
        let code = run.wait()?.code;
        let is_visible = visible(&plugin)?.contains(&name);
        if is_visible {
            plugin.run(["verify", &name])?.ok();
        } else {
            assert_ne!(code, 0, "{name} ended well and is not visible");
        }
        let claim = folder(&store, &name).join(format!("{name}-claim.json"));
        if !is_visible && claim.exists() {
            left_litter += 1;
            // Here it is known to be dead. Elsewhere it is not, before it has been silent for long.
            if step % 2 == 0 {
                edit(&claim, |claim| claim["process"]["bootId"] = json!("another"))?;
                plugin
                    .run(["create", &name])?
                    .exits(4)
                    .stderr_has("is being written");
                edit(&claim, |claim| claim["heartbeat"] = json!("2026-01-01T00:00:00Z"))?;
            }
            plugin.run(["create", &name])?.ok();
            plugin.run(["verify", &name])?.ok();
            assert!(!claim.exists());
        }
    }
    assert!(left_litter > 0, "no kill met a run at work");
    Ok(())
}

fn edit(claim: &Path, change: impl FnOnce(&mut Value)) -> Result<()> {
    let mut document: Value = serde_json::from_slice(&fs::read(claim)?)?;
    change(&mut document);
    Ok(fs::write(claim, document.to_string())?)
}

#[test]
fn a_full_disk_is_named_and_nothing_is_visible() -> Result<()> {
    let cluster = Cluster::start()?;
    applications::ballast(&cluster, 4_000, 4)?;
    let scratch = Scratch::new("full-disk")?;
    let disk = scratch.path().join("disk");
    fs::create_dir_all(&disk)?;
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=128k", "tmpfs"])
        .arg(&disk)
        .status()?;
    ensure!(
        mounted.success(),
        "mounting a small tmpfs needs root: run the tests as root, or in a user namespace"
    );
    let location = format!("file://{}", disk.display());
    let plugin = Plugin::new(&cluster, &Store::folder()?)?;
    let ran = plugin.run(["create", "b", "--location", &location]);
    let left: Vec<_> = walk(&disk)?;
    let unmounted = Command::new("umount").arg(&disk).status()?;
    ran?.exits(1).stderr_has("full");
    assert!(
        left.iter().all(|path| !path.ends_with("velero-backup.json")),
        "{left:?}"
    );
    ensure!(unmounted.success(), "umount");
    Ok(())
}

fn walk(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(walk(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

#[test]
fn a_server_that_restarts_is_waited_for() -> Result<()> {
    let cluster = Cluster::start()?;
    applications::ballast(&cluster, 2_000, 4)?;
    let store = Store::folder()?;
    let plugin = Plugin::new(&cluster, &store)?;
    let mut run = plugin.spawn(["create", "b", "--requests-per-second", "20"])?;
    run.wait_until("the claim", |_| store.keys().is_ok_and(|keys| !keys.is_empty()))?;
    std::thread::sleep(Duration::from_millis(300));
    cluster.restart_apiserver()?;
    run.wait()?.ok();
    plugin.run(["verify", "b"])?.ok();
    Ok(())
}

#[test]
fn secrets_never_reach_an_output() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = cluster.namespace()?;
    cluster.create(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "login", "namespace": namespace.name() },
        "stringData": { "password": "correct-horse-battery" }
    }))?;
    let encoded = "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5";
    let store = Store::folder()?;
    let plugin = Plugin::new(cluster, &store)?;
    plugin
        .run(["create", "b", "-n", namespace.name(), "-v"])?
        .ok()
        .nowhere_has(encoded);
    for arguments in [
        vec!["cat", "b", "secret/login"],
        vec!["cat", "b", "secret/login", "-o", "json"],
        vec!["describe", "b"],
        vec!["contents", "b", "secrets"],
        vec!["logs", "b"],
        vec!["restore", "b", "secret/login", "--name", "again"],
    ] {
        plugin
            .run(arguments)?
            .ok()
            .nowhere_has(encoded)
            .nowhere_has("correct-horse");
    }
    plugin
        .run(["cat", "b", "secret/login", "--show-secrets"])?
        .ok()
        .stdout_has(encoded);
    Ok(())
}
