//! Hooks of a spec and of restores, and data that is written over claims that are there, on the node of [`super::volumes`].

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use backup_tests::cluster::Cluster;
use backup_tests::image::{self, Image};
use backup_tests::node::{BUSYBOX, Node};
use backup_tests::plugin::Plugin;
use backup_tests::store::Store;
use serde_json::{Value, json};

use super::volumes::{claim, no_mover_is_left, persistent_volume, pod, with_state};

const SPEC: &str = "
resources:
- name: note
  labelSelector: {matchLabels: {app: db}}
  pre:
  - exec: {command: [sh, -c, 'date >/data/by-spec']}
";

/// A claim and its folder on the node.
fn volume(node: &Node, namespace: &str, name: &str, folder: &str) -> Result<PathBuf> {
    let folder = node.folder().join(folder);
    fs::create_dir_all(&folder)?;
    persistent_volume(
        node.cluster(),
        namespace,
        name,
        folder.to_str().context("not UTF-8")?,
    )?;
    Ok(folder)
}

fn all_ready(cluster: &Cluster, namespace: &str) -> Result<()> {
    cluster
        .kubectl_ok(&[
            "wait",
            "--for=condition=Ready",
            "pod",
            "--all",
            "-n",
            namespace,
            "--timeout=60s",
        ])
        .map(drop)
}

/// A pod with hooks of every kind, one that a Deployment makes, and a command that fails.
fn applications(node: &Node, namespace: &str) -> Result<()> {
    let cluster = node.cluster();
    claim(cluster, namespace, "data")?;
    let mut db = pod(namespace, "data");
    db["metadata"]["labels"] = json!({ "app": "db" });
    for (key, value) in [
        (
            "post.hook.restore.velero.io/command",
            r#"["sh", "-c", "echo up >/data/after-restore"]"#,
        ),
        ("init.hook.restore.velero.io/container-image", BUSYBOX),
        ("init.hook.restore.velero.io/command", r#"["sh", "-c", "true"]"#),
    ] {
        db["metadata"]["annotations"][key] = value.into();
    }
    cluster.create(db)?;
    cluster.create(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": namespace },
        "spec": {
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" }, "annotations": {
                    "post.hook.restore.velero.io/command": r#"["sh", "-c", "echo no room >&2; exit 4"]"#,
                } },
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{ "name": "web", "image": BUSYBOX, "command": ["sleep", "3600"] }],
                },
            },
        },
    }))?;
    cluster.wait_until("two pods", |cluster| {
        Ok(cluster
            .list(&format!("/api/v1/namespaces/{namespace}/pods"))?
            .len()
            == 2)
    })?;
    all_ready(cluster, namespace)
}

/// Hooks of a spec before a backup; containers and commands after a restore, also in pods that controllers make.
pub(super) fn hooks_of_spec_and_restore(node: &Node, plugin: &Plugin, image: &str) -> Result<()> {
    let cluster = node.cluster();
    let shop = cluster.namespace()?;
    let folder = volume(node, shop.name(), "data", &format!("{shop}-hooked"))?;
    applications(node, shop.name())?;
    let spec = plugin.home().join("hooks.yaml");
    fs::write(&spec, SPEC)?;
    let spec = format!("--hooks-file={}", spec.display());
    let ran = plugin.run(["create", "hooked", "-n", shop.name(), image, &spec, "-o", "json"])?;
    let ran = with_state(ran, node, shop.name())?;
    let summary: Value = serde_json::from_str(&ran.stdout)?;
    let hooks = &summary["outcome"]["hooks"];
    assert_eq!(
        (&hooks["attempted"], &hooks["failed"]),
        (&json!(1), &json!(0)),
        "{hooks:#}"
    );
    ensure!(folder.join("by-spec").exists(), "the hook was not run");

    cluster.kubectl_ok(&["delete", "namespace", shop.name(), "--timeout=60s"])?;
    cluster.kubectl_ok(&["delete", "pv", &format!("{shop}-data")])?;
    let fresh = volume(node, shop.name(), "data", &format!("{shop}-fresh"))?;
    plugin
        .run(["restore", "hooked", "--plan", image])?
        .ok()
        .stdout_has("once it is up, ")
        .stdout_has("of its hooks runs before its own");
    let ran = plugin.run(["restore", "hooked", "--name", "back", image, "-o", "json"])?;
    let ran = with_state(ran, node, shop.name())?;
    let summary: Value = serde_json::from_str(&ran.stdout)?;
    let hooks = &summary["record"]["hooks"];
    assert_eq!(
        (&hooks["attempted"], &hooks["failed"]),
        (&json!(2), &json!(1)),
        "{summary:#}"
    );
    assert_eq!(fs::read_to_string(fresh.join("after-restore"))?, "up\n");
    let warnings = summary["warnings"].to_string();
    ensure!(warnings.contains("exit code 4 (no room)"), "{summary:#}");
    let live = cluster
        .get(&format!("/api/v1/namespaces/{shop}/pods/data"))?
        .context("no pod")?;
    assert_eq!(
        live["spec"]["initContainers"][0]["name"], "restore-hook",
        "{live:#}"
    );
    overwriting(node, plugin, image, shop.name(), &fresh)
}

/// Data is written over a claim only where that is asked for, agreed to, and no pod uses it.
fn overwriting(
    node: &Node,
    plugin: &Plugin,
    image: &str,
    shop: &str,
    folder: &std::path::Path,
) -> Result<()> {
    let cluster = node.cluster();
    let restore = |more: &[&str]| {
        let words = ["restore", "hooked", "pvc/data", "-n", shop, image];
        plugin.run(words.iter().chain(more).copied())
    };
    restore(&["--yes"])?.ok().stderr_has("--overwrite-volumes writes");
    restore(&["--overwrite-volumes"])?
        .exits(4)
        .stderr_has("would be replaced");
    restore(&["--overwrite-volumes", "--yes"])?
        .exits(3)
        .stderr_has("pod data uses it");
    cluster.kubectl_ok(&["delete", "pod", "data", "-n", shop, "--timeout=60s"])?;
    fs::write(folder.join("begun"), "spoilt")?;
    fs::write(folder.join("litter"), "x")?;
    restore(&["--overwrite-volumes", "--plan"])?
        .ok()
        .stdout_has("is overwritten with snapshot");
    assert_eq!(fs::read_to_string(folder.join("begun"))?, "spoilt");
    let ran = restore(&["--overwrite-volumes", "--yes"])?;
    with_state(ran, node, shop)?;
    ensure!(
        fs::read_to_string(folder.join("begun"))? != "spoilt" && !folder.join("litter").exists(),
        "it is as it was"
    );
    no_mover_is_left(cluster)
}

/// Data that a Velero up to 1.16 wrote with restic: its constant for a password, the first digits of a snapshot in its record.
pub(super) fn data_of_an_old_velero(
    node: &Node,
    plugin: &Plugin,
    place: &std::path::Path,
    image: &str,
) -> Result<()> {
    let cluster = node.cluster();
    let shop = cluster.namespace()?;
    let folder = volume(node, shop.name(), "data", &format!("{shop}-old"))?;
    claim(cluster, shop.name(), "data")?;
    cluster.create(pod(shop.name(), "data"))?;
    all_ready(cluster, shop.name())?;
    fs::write(folder.join("orders"), "1\n2\n")?;
    plugin
        .run(["create", "old", "-n", shop.name(), "--volume-method=none"])?
        .ok();
    // What ours has and Velero's has not.
    let backup = place.join("backups/old");
    for entry in fs::read_dir(&backup)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if [
            "index.gz",
            "digests.json",
            "outcome.json.gz",
            "podvolumebackups.json.gz",
        ]
        .iter()
        .any(|end| name.ends_with(end))
        {
            fs::remove_file(path)?;
        }
    }
    let repository = place.join(format!("restic/{shop}"));
    let restic = |arguments: &[&str]| -> Result<String> {
        let output = std::process::Command::new("restic")
            .args(["--no-cache", "--repo"])
            .arg(&repository)
            .args(arguments)
            .env("RESTIC_PASSWORD", "static-passw0rd")
            .current_dir(&folder)
            .output()
            .context("restic does not start; apt-get install restic")?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    };
    restic(&["init"])?;
    restic(&["backup", "--host", "velero", "--tag", "backup=old", "."])?;
    let snapshots: Value = serde_json::from_str(&restic(&["snapshots", "--json"])?)?;
    let id = snapshots[0]["short_id"].as_str().context("no snapshot")?;
    let record = json!([{
        "apiVersion": "velero.io/v1", "kind": "PodVolumeBackup",
        "metadata": { "name": "old-x", "namespace": "velero", "annotations": { "velero.io/pvc-name": "data" } },
        "spec": {
            "node": "node", "pod": { "kind": "Pod", "namespace": shop.name(), "name": "data" }, "volume": "data",
            "backupStorageLocation": "default", "uploaderType": "restic",
            "repoIdentifier": format!("s3:s3-eu-west-1.amazonaws.com/bucket/restic/{shop}"),
        },
        "status": { "phase": "Completed", "path": "/host_pods/x", "snapshotID": id },
    }]);
    let mut file = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut file, record.to_string().as_bytes())?;
    fs::write(backup.join("old-podvolumebackups.json.gz"), file.finish()?)?;

    cluster.kubectl_ok(&["delete", "namespace", shop.name(), "--timeout=60s"])?;
    cluster.kubectl_ok(&["delete", "pv", &format!("{shop}-data")])?;
    let fresh = volume(node, shop.name(), "data", &format!("{shop}-again"))?;
    let ran = plugin.run(["restore", "old", image])?;
    with_state(ran, node, shop.name())?;
    assert_eq!(fs::read_to_string(fresh.join("orders"))?, "1\n2\n");
    no_mover_is_left(cluster)
}

/// Another cluster, whose user knows nothing but where the backups are and the password.
pub(super) fn into_another_cluster(store: &Store, password: &str, suite: &Image) -> Result<()> {
    let node = Node::start()?;
    node.import(suite)?;
    let cluster = node.cluster();
    let plugin = Plugin::new(cluster, store)?;
    let image = format!("--image={}", image::suite_name()?);
    let restore = ["restore", "hooked", "--namespace-mappings"];
    let listed = plugin.json(["describe", "hooked"])?;
    let shop = listed["outcome"]["volumes"]["items"][0]["namespace"]
        .as_str()
        .with_context(|| format!("{listed:#}"))?;
    let mapping = format!("{shop}:moved");
    let folder = volume(&node, "moved", "data", "moved")?;
    let words = || restore.into_iter().chain([mapping.as_str(), image.as_str()]);
    plugin
        .run(words())?
        .exits(4)
        .stderr_has("is not known here; give it with --repository-password-file");
    let plugin = plugin.with_env("KUBECTL_BACKUP_REPOSITORY_PASSWORD", password);
    let ran = plugin.run(words())?;
    with_state(ran, &node, "moved")?;
    ensure!(folder.join("by-spec").exists(), "it is not filled");
    all_ready(cluster, "moved")?;
    no_mover_is_left(cluster)
}
