//! The data of volumes, by movers on a node: backed up while the application runs, and judged by the real restic.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use backup_tests::cluster::Cluster;
use backup_tests::image;
use backup_tests::node::{BUSYBOX, Node};
use backup_tests::plugin::{self, Plugin, Ran};
use backup_tests::store::Store;
use backup_tests::velero::Velero;
use backup_tests::zoo;
use serde_json::{Value, json};

/// A claim whose volume is a folder of the node, and a pod that has it mounted and opted in.
pub(super) fn application(node: &Node, namespace: &str, name: &str) -> Result<()> {
    let cluster = node.cluster();
    let folder = node.folder().join(format!("{namespace}-{name}"));
    fs::create_dir_all(&folder)?;
    persistent_volume(cluster, namespace, name, folder.to_str().context("not UTF-8")?)?;
    claim(cluster, namespace, name)?;
    cluster.create(pod(namespace, name))?;
    cluster.kubectl_ok(&[
        "wait",
        "--for=condition=Ready",
        &format!("pod/{name}"),
        "-n",
        namespace,
        "--timeout=60s",
    ])?;
    Ok(())
}

pub(super) fn claim(cluster: &Cluster, namespace: &str, name: &str) -> Result<()> {
    cluster.create(json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": format!("{namespace}-{name}"),
            "resources": { "requests": { "storage": "1Gi" } },
        },
    }))?;
    Ok(())
}

pub(super) fn persistent_volume(cluster: &Cluster, namespace: &str, name: &str, folder: &str) -> Result<()> {
    cluster.create(json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": { "name": format!("{namespace}-{name}") },
        "spec": {
            "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": { "namespace": namespace, "name": name },
            "hostPath": { "path": folder, "type": "DirectoryOrCreate" },
        },
    }))?;
    Ok(())
}

pub(super) fn pod(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": namespace, "annotations": { "backup.velero.io/backup-volumes": "data" },
        },
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "shop", "image": BUSYBOX, "command": ["sh", "-c", "date >/data/begun; sleep 3600"],
                "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
            }],
            "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": name } }],
        },
    })
}

pub(super) fn no_mover_is_left(cluster: &Cluster) -> Result<()> {
    cluster.wait_until("movers to be gone", |cluster| {
        let left = cluster.kubectl_ok(&[
            "get",
            "jobs,pods",
            "-A",
            "-l",
            "kubectl-backup.io/mover",
            "-o",
            "name",
        ])?;
        Ok(left.trim().is_empty())
    })
}

pub(super) fn with_state(ran: Ran, node: &Node, namespace: &str) -> Result<Ran> {
    ensure!(ran.code == 0, "{ran}\n{}", node.state_of(namespace));
    Ok(ran)
}

#[test]
fn what_a_pod_opts_in_is_backed_up_with_its_bytes() -> Result<()> {
    let _alone = super::alone();
    let node = Node::start()?;
    let cluster = node.cluster();
    let binaries = std::collections::BTreeMap::from([
        ("kubectl-backup", plugin::binary()?),
        ("backup-webhook", plugin::webhook_binary()?),
    ]);
    let suite = image::suite(&binaries)?;
    node.import(&suite)?;
    let image = format!("--image={}", image::suite_name()?);
    let shop = cluster.namespace()?;
    application(&node, shop.name(), "data")?;
    let folder = node.folder().join(format!("{shop}-data"));
    zoo::fill(&folder)?;
    let before = zoo::look(&folder)?;

    // A folder of this machine, which no pod can see: everything goes through the connection.
    let store = Store::folder()?;
    let plugin = Plugin::new(cluster, &store)?;
    let begun = std::time::Instant::now();
    let ran = plugin.run(["create", "b1", "-n", shop.name(), &image])?;
    let ran = with_state(ran, &node, shop.name())?
        .stderr_has("volumes: 1 claim to read by movers")
        .stderr_has("get this password");
    eprintln!("backup with one volume took {:?}", begun.elapsed());
    no_mover_is_left(cluster)?;
    let password = ran
        .stderr
        .split_whitespace()
        .find(|word| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .with_context(|| format!("the password was not printed: {ran}"))?
        .to_owned();
    let place = store.path();
    let repository = place.join(format!("restic/{shop}"));
    let restic = |arguments: &[&str]| -> Result<String> {
        let output = Command::new("restic")
            .args(["--no-cache", "--repo"])
            .arg(&repository)
            .args(arguments)
            .env("RESTIC_PASSWORD", &password)
            .output()
            .context("restic does not start; apt-get install restic")?;
        ensure!(
            output.status.success(),
            "restic {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    };
    restic(&["check", "--read-data"])?;
    let target = plugin.home().join("restored");
    restic(&[
        "restore",
        "latest",
        "--target",
        target.to_str().context("not UTF-8")?,
    ])?;
    let mut after = zoo::look(&target)?;
    for name in ["", "begun"] {
        after.remove(std::path::Path::new(name));
    }
    let mut expected = before.clone();
    for name in ["", "begun"] {
        expected.remove(std::path::Path::new(name));
    }
    assert_eq!(after, expected);

    // Again, and nothing is read but what has changed; the password is known.
    fs::write(folder.join("new"), "one more")?;
    let ran = plugin.run(["create", "b2", "-n", shop.name(), &image, "-o", "json"])?;
    let ran = with_state(ran, &node, shop.name())?;
    ensure!(!ran.stderr.contains("get this password"), "{ran}");
    let summary: Value = serde_json::from_str(&ran.stdout)?;
    let volume = &summary["outcome"]["volumes"]["items"][0];
    assert_eq!(volume["error"], Value::Null, "{volume:#}");
    assert!(
        volume["newBytes"].as_u64().context("no bytes")? < 100_000,
        "{volume:#}"
    );
    no_mover_is_left(cluster)?;

    // All of it is lost, and comes back into an empty volume before the pod that uses it.
    cluster.kubectl_ok(&["delete", "namespace", shop.name(), "--timeout=60s"])?;
    cluster.kubectl_ok(&["delete", "pv", &format!("{shop}-data")])?;
    let plan = plugin.run(["restore", "b1", "--plan", &image])?.ok();
    ensure!(
        plan.stdout.contains("which is filled with the data")
            && !plan.stdout.contains("kubectl-backup-mover"),
        "{plan}"
    );
    let fresh = node.folder().join("fresh");
    fs::create_dir_all(&fresh)?;
    // Somebody else's litter goes.
    fs::write(fresh.join("litter"), "x")?;
    persistent_volume(cluster, shop.name(), "data", fresh.to_str().context("not UTF-8")?)?;
    let begun = std::time::Instant::now();
    let restored = plugin.run(["restore", "b1", &image])?;
    with_state(restored, &node, shop.name())?.nowhere_has("manifests only");
    eprintln!("restore with one volume took {:?}", begun.elapsed());
    no_mover_is_left(cluster)?;
    cluster.kubectl_ok(&[
        "wait",
        "--for=condition=Ready",
        "pod/data",
        "-n",
        shop.name(),
        "--timeout=60s",
    ])?;
    let mut after = zoo::look(&fresh)?;
    let mut expected = before;
    // The application has begun again, and written.
    for name in ["", "begun"] {
        after.remove(std::path::Path::new(name));
        expected.remove(std::path::Path::new(name));
    }
    assert_eq!(after, expected);
    let claim = cluster
        .get(&format!("/api/v1/namespaces/{shop}/persistentvolumeclaims/data"))?
        .context("no claim")?;
    ensure!(
        claim["metadata"]["annotations"]["kubectl-backup.io/filled-with-snapshot"].is_string(),
        "{claim:#}"
    );
    super::volume_care::looked_after(&plugin, &repository, &restic)?;
    nothing_is_left_of_a_run_that_dies(&node, &plugin, &image)?;
    a_journal_is_whole_and_hooks_are_recorded(&node, &plugin, &image)?;
    super::volume_hooks::hooks_of_spec_and_restore(&node, &plugin, &image)?;
    super::volume_hooks::data_of_an_old_velero(&node, &plugin, &place, &image)?;
    pods_use_the_location_that_the_cluster_holds(&node, &image)?;
    where_root_is_forbidden_movers_are_the_application(&node, &plugin, &image)?;
    drop(node);
    super::volume_hooks::into_another_cluster(&store, &password, &suite)
}

/// A namespace that Pod Security restricts: the mover runs as the application's user, and as nobody for a restore.
fn where_root_is_forbidden_movers_are_the_application(
    node: &Node,
    plugin: &Plugin,
    image: &str,
) -> Result<()> {
    use std::os::unix::fs::{PermissionsExt, chown};
    let cluster = node.cluster();
    let vault = cluster.namespace()?;
    let path = format!("/api/v1/namespaces/{vault}");
    let restricted =
        json!({ "metadata": { "labels": { "pod-security.kubernetes.io/enforce": "restricted" } } });
    cluster.patch(&path, restricted)?;
    let folder = node.folder().join(format!("{vault}-data"));
    fs::create_dir_all(&folder)?;
    chown(&folder, Some(1234), Some(1234))?;
    persistent_volume(
        cluster,
        vault.name(),
        "data",
        folder.to_str().context("not UTF-8")?,
    )?;
    claim(cluster, vault.name(), "data")?;
    let mut app = pod(vault.name(), "data");
    app["spec"]["securityContext"] = json!({
        "runAsUser": 1234, "runAsGroup": 1234, "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" },
    });
    app["spec"]["containers"][0]["securityContext"] =
        json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } });
    app["spec"]["containers"][0]["command"][2] =
        "umask 077; mkdir /data/deep; echo secret >/data/deep/file; touch /data/ready; sleep 3600".into();
    cluster.create(app)?;
    cluster.wait_until("the application to have written", |_| {
        Ok(folder.join("ready").exists())
    })?;
    let ran = plugin.run(["create", "vault", "-n", vault.name(), image])?;
    ensure!(
        !with_state(ran, node, vault.name())?
            .stderr
            .contains("names no runAsUser")
    );
    cluster.kubectl_ok(&["delete", "namespace", vault.name(), "--timeout=60s"])?;
    cluster.kubectl_ok(&["delete", "pv", &format!("{vault}-data")])?;
    let fresh = node.folder().join("fresh-vault");
    fs::create_dir_all(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o777))?;
    persistent_volume(
        cluster,
        vault.name(),
        "data",
        fresh.to_str().context("not UTF-8")?,
    )?;
    let ran = plugin.run(["restore", "vault", "pvc/data", "-n", vault.name(), image])?;
    with_state(ran, node, vault.name())?;
    assert_eq!(fs::read_to_string(fresh.join("deep/file"))?, "secret\n");
    no_mover_is_left(cluster)
}

/// A location that lies in the cluster is used by the pods themselves; where they do not reach it, they go through us.
fn pods_use_the_location_that_the_cluster_holds(node: &Node, image: &str) -> Result<()> {
    let cluster = node.cluster();
    let shop = cluster.namespace()?;
    application(node, shop.name(), "data")?;
    let store = Store::shared_versitygw()?;
    let plugin = Plugin::new(cluster, &store)?;
    plugin
        .run(["location", "add", "main", &store.location_url()])?
        .ok();
    cluster.create(
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "kubectl-backup" } }),
    )?;
    let inside = super::schedules::url_for_pods(node, &store)?;
    let endpoint = store.endpoint().context("no server")?;
    let nowhere = store.location_url().replace(&endpoint, "http://10.99.0.1:1");
    let keys = "[default]\naws_access_key_id = tester\naws_secret_access_key = tester-secret-key\n";
    let secret = |url: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {
                "name": "location-main", "namespace": "kubectl-backup", "labels": { "kubectl-backup.io/location": "main" },
            },
            "stringData": { "url": url, "credentials": keys },
        })
    };
    cluster.create(secret(&nowhere))?;
    let create = |name: &str| plugin.run(["create", name, "-n", shop.name(), "--location", "main", image]);
    with_state(create("through-us")?, node, shop.name())?
        .stderr_has("do not reach the location")
        .stderr_has("and in the cluster")
        .nowhere_has("tester-secret-key");
    cluster.patch(
        "/api/v1/namespaces/kubectl-backup/secrets/location-main",
        json!({ "stringData": { "url": inside } }),
    )?;
    let ran = with_state(create("by-themselves")?, node, shop.name())?;
    ensure!(!ran.stderr.contains("do not reach"), "{ran}");
    plugin
        .run(["verify", "by-themselves", "--read-data", "--location", "main"])?
        .ok();
    no_mover_is_left(cluster)?;
    // Velero's own command shows our volumes as its own.
    let velero = Velero::start(cluster, &store)?;
    velero.wait_until_synced("by-themselves")?;
    velero
        .cli(["backup", "describe", "by-themselves", "--details"])?
        .ok()
        .stdout_has("Pod Volume Backups")
        .stdout_has(&format!("{shop}/data: data"));
    drop(velero);
    cluster
        .kubectl_ok(&["delete", "namespace", "kubectl-backup", "--timeout=60s"])
        .map(drop)
}

/// A plugin that is killed, and one that is told to stop: no backup, and no mover after a while.
fn nothing_is_left_of_a_run_that_dies(node: &Node, plugin: &Plugin, image: &str) -> Result<()> {
    let cluster = node.cluster();
    let shop = cluster.namespace()?;
    application(node, shop.name(), "data")?;
    let folder = node.folder().join(format!("{shop}-data"));
    // Enough to be in the middle of it for a while.
    let status = Command::new("dd")
        .args(["if=/dev/urandom", "bs=1M", "count=600", "status=none"])
        .arg(format!("of={}", folder.join("noise").display()))
        .status()?;
    ensure!(status.success(), "dd");
    for (name, signal) in [("interrupted", "INT"), ("killed", "KILL")] {
        let running = plugin.spawn(["create", name, "-n", shop.name(), image])?;
        cluster.wait_until("a mover that runs", |cluster| {
            let pods = cluster.kubectl_ok(&[
                "get",
                "pods",
                "-n",
                shop.name(),
                "-l",
                "kubectl-backup.io/mover",
                "-o",
                "jsonpath={.items[*].status.phase}",
            ])?;
            Ok(pods.contains("Running"))
        })?;
        std::thread::sleep(std::time::Duration::from_millis(700));
        backup_tests::process::signal(running.pid(), signal)?;
        let ran = running.wait()?;
        ensure!(ran.code != 0, "it ended before it was told to: {ran}");
        // Of one that nobody can clean up after, the Job goes a minute after its end.
        for _ in 0..3 {
            if no_mover_is_left(cluster).is_ok() {
                break;
            }
        }
        no_mover_is_left(cluster)?;
        let listed = plugin.run(["list", "-o", "name"])?.ok();
        ensure!(!listed.stdout.contains(name), "{listed}");
    }
    // What died holds a lock that no writer minds, and the next backup is whole.
    let ran = plugin.run(["create", "after", "-n", shop.name(), image])?;
    with_state(ran, node, shop.name())?;
    plugin.run(["verify", "after", "--read-data"])?.ok();
    Ok(())
}

/// A writer that is frozen by its hooks: what is stored ends on a whole line, and nothing was written meanwhile.
fn a_journal_is_whole_and_hooks_are_recorded(node: &Node, plugin: &Plugin, image: &str) -> Result<()> {
    let cluster = node.cluster();
    let bank = cluster.namespace()?;
    let folder = node.folder().join(format!("{bank}-journal"));
    fs::create_dir_all(&folder)?;
    persistent_volume(
        cluster,
        bank.name(),
        "journal",
        folder.to_str().context("not UTF-8")?,
    )?;
    claim(cluster, bank.name(), "journal")?;
    let mut writer = pod(bank.name(), "journal");
    // Two halves of a line, so that whoever looks in between sees it.
    writer["spec"]["containers"][0]["command"][2] = "i=0; while :; do \
        if [ -e /data/freeze ]; then touch /data/frozen; else rm -f /data/frozen; \
        i=$((i+1)); echo -n \"$i \" >>/data/log; echo \"$i\" >>/data/log; fi; done"
        .into();
    let freeze = r#"["sh", "-c", "touch /data/freeze; while [ ! -e /data/frozen ]; do :; done; wc -l </data/log >/data/at-freeze"]"#;
    let thaw = r#"["sh", "-c", "wc -l </data/log >/data/at-thaw; rm /data/freeze"]"#;
    for (key, value) in [
        ("pre.hook.backup.velero.io/command", freeze),
        ("pre.hook.backup.velero.io/timeout", "20s"),
        ("post.hook.backup.velero.io/command", thaw),
    ] {
        writer["metadata"]["annotations"][key] = value.into();
    }
    // One whose hooks fail: what it has is stored, or not, as it wishes.
    let idle = |name: &str, annotations: &[(&str, &str)]| -> Result<()> {
        let folder = node.folder().join(format!("{bank}-{name}"));
        fs::create_dir_all(&folder)?;
        persistent_volume(cluster, bank.name(), name, folder.to_str().context("not UTF-8")?)?;
        claim(cluster, bank.name(), name)?;
        let mut pod = pod(bank.name(), name);
        for (key, value) in annotations {
            pod["metadata"]["annotations"][key] = (*value).into();
        }
        cluster.create(pod)?;
        Ok(())
    };
    let (command, on_error) = (
        "pre.hook.backup.velero.io/command",
        "pre.hook.backup.velero.io/on-error",
    );
    let post = "post.hook.backup.velero.io/command";
    cluster.create(writer)?;
    idle(
        "fails",
        &[
            (command, r#"["sh", "-c", "echo no room >&2; exit 3"]"#),
            (post, "true"),
        ],
    )?;
    idle("goes-on", &[(command, "no-such-program"), (on_error, "Continue")])?;
    idle(
        "late",
        &[
            (command, r#"["sleep", "60"]"#),
            ("pre.hook.backup.velero.io/timeout", "1s"),
            (on_error, "Continue"),
        ],
    )?;
    idle(
        "nobody",
        &[
            (command, "true"),
            ("pre.hook.backup.velero.io/container", "nobody"),
        ],
    )?;
    cluster.kubectl_ok(&[
        "wait",
        "--for=condition=Ready",
        "pod",
        "--all",
        "-n",
        bank.name(),
        "--timeout=60s",
    ])?;
    let ran = plugin
        .run(["create", "journal", "-n", bank.name(), image, "-o", "json"])?
        .exits(3);
    let summary: Value = serde_json::from_str(&ran.stdout)?;
    let hooks = &summary["outcome"]["hooks"];
    assert_eq!(
        (&hooks["attempted"], &hooks["failed"]),
        (&json!(6), &json!(4)),
        "{hooks:#}"
    );
    let error_of = |pod: &str| -> String {
        let items = hooks["items"].as_array().cloned().unwrap_or_default();
        let found = items
            .iter()
            .find(|item| item["pod"] == pod && !item["error"].is_null());
        found.map(|item| item["error"].to_string()).unwrap_or_default()
    };
    for (pod, said) in [
        ("fails", "exit code 3 (no room)"),
        ("goes-on", "could not be run"),
        ("late", "within 1 s"),
        ("nobody", "no container nobody"),
    ] {
        ensure!(error_of(pod).contains(said), "{pod}: {hooks:#}");
    }
    let volumes = summary["outcome"]["volumes"]["items"]
        .as_array()
        .context("no volumes")?;
    let stored = |claim: &str| {
        let found = volumes.iter().find(|volume| volume["claim"] == claim);
        found.is_some_and(|volume| volume["snapshot"].is_string())
    };
    for (claim, expected) in [
        ("journal", true),
        ("fails", false),
        ("goes-on", true),
        ("late", true),
        ("nobody", false),
    ] {
        assert_eq!(stored(claim), expected, "{claim}: {volumes:#?}");
    }
    let contents = plugin.run(["contents", "journal", "pods"])?.ok();
    ensure!(
        contents.stdout.contains("fails"),
        "its manifest is lost: {contents}"
    );
    let read = |name: &str| fs::read_to_string(folder.join(name));
    let (at_freeze, at_thaw) = (read("at-freeze")?, read("at-thaw")?);
    assert_eq!(at_freeze, at_thaw, "it was written to while it was frozen");
    ensure!(!folder.join("freeze").exists(), "it was not thawed");
    let marker = plugin.run(["cat", "journal", "pod/journal", "-n", bank.name()])?;
    ensure!(marker.code == 0, "{marker}");

    // Destroyed and brought back: what is there is what was there when it was frozen.
    cluster.kubectl_ok(&["delete", "namespace", bank.name(), "--timeout=60s"])?;
    cluster.kubectl_ok(&["delete", "pv", &format!("{bank}-journal")])?;
    let fresh = node.folder().join("fresh-journal");
    fs::create_dir_all(&fresh)?;
    persistent_volume(
        cluster,
        bank.name(),
        "journal",
        fresh.to_str().context("not UTF-8")?,
    )?;
    plugin
        .run(["restore", "journal", "pvc/journal", "-n", bank.name(), image])?
        .ok();
    let log = fs::read_to_string(fresh.join("log"))?;
    assert_eq!(log.lines().count().to_string(), at_freeze.trim());
    for (number, line) in log.lines().enumerate() {
        assert_eq!(line, format!("{0} {0}", number + 1), "a torn line");
    }
    no_mover_is_left(cluster)
}
