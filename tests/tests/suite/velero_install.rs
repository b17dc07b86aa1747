//! Velero put there, moved and taken away by this program, against an API server alone: the objects are those of `velero
//! install`, and what was cut off is finished. On a node it is in
//! `velero_node`, beside one of somebody else's in `velero_owned`.
//!
//! `UPDATE_MANIFESTS=1 cargo test -p backup-tests --test suite velero_install` writes manifests/velero/crds.yaml.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use backup_tests::cluster::Cluster;
use backup_tests::plugin::Plugin;
use backup_tests::servers::{self, Program};
use backup_tests::store::Store;
use serde_json::{Value, json};

pub(super) const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/velero/deployments/velero";
pub(super) const AGENT: &str = "/apis/apps/v1/namespaces/velero/daemonsets/node-agent";
pub(super) const LOCATION: &str = "/apis/velero.io/v1/namespaces/velero/backupstoragelocations/main";
pub(super) const ENABLE: [&str; 5] = ["enable", "--engine=velero", "--location", "main", "--wait=false"];
const KEYS: &str = "[default]\naws_access_key_id=AK\naws_secret_access_key=SK\n";

/// The plugin with a place in the store under the name `main`.
pub(super) fn with_main(cluster: &Cluster, store: &Store) -> Result<Plugin> {
    let plugin = Plugin::new(cluster, store)?;
    plugin
        .run(["location", "add", "main", &store.location_url()])?
        .ok();
    Ok(plugin)
}

/// What `velero install` would write.
fn installer(kubeconfig: &Path, words: &[&str]) -> Result<Vec<Value>> {
    let mut command: Command = servers::command(Program::Velero)?;
    command
        .args(["install", "--dry-run", "-o", "json"])
        .args(words)
        .env("KUBECONFIG", kubeconfig);
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "velero install: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    let list: Value = serde_json::from_str(&text)?;
    Ok(list["items"].as_array().context("no items")?.clone())
}

/// Without what says nothing: nulls, empty things, and the order of lists whose entries have names.
fn bare(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map
                .iter()
                .map(|(key, value)| (key.clone(), bare(value)))
                .filter(|(_, value)| {
                    !matches!(value, Value::Null) && *value != json!({}) && *value != json!([])
                });
            Value::Object(kept.collect())
        }
        Value::Array(list) => {
            let mut list: Vec<Value> = list.iter().map(bare).collect();
            if list.iter().all(|entry| entry["name"].is_string()) {
                list.sort_by_key(|entry| entry["name"].to_string());
            }
            Value::Array(list)
        }
        other => other.clone(),
    }
}

/// An object as somebody would write it.
fn written(object: &Value) -> Value {
    let mut object = object.clone();
    object["status"] = Value::Null;
    bare(&object)
}

fn by_name(objects: &[Value]) -> BTreeMap<String, Value> {
    let of = |object: &Value| {
        let metadata = &object["metadata"];
        format!(
            "{} {} {}",
            object["kind"], metadata["namespace"], metadata["name"]
        )
    };
    objects
        .iter()
        .map(|object| (of(object), written(object)))
        .collect()
}

pub(super) fn manifest() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/velero/crds.yaml")
}

#[test]
fn definitions_are_veleros_own() -> Result<()> {
    let cluster = Cluster::shared()?;
    let mut text = String::from(
        "# Velero's own definitions, of the version that this program installs (Apache-2.0, the Velero contributors).\n\
         # UPDATE_MANIFESTS=1 cargo test -p backup-tests --test suite velero_install\n",
    );
    for definition in installer(cluster.kubeconfig(), &["--crds-only"])? {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&written(&definition))?);
    }
    if std::env::var_os("UPDATE_MANIFESTS").is_some_and(|value| !value.is_empty()) {
        std::fs::write(manifest(), &text)?;
    }
    ensure!(
        std::fs::read_to_string(manifest())? == text,
        "manifests/velero/crds.yaml is not what velero says; UPDATE_MANIFESTS=1 writes it again"
    );
    Ok(())
}

#[test]
fn objects_are_those_of_veleros_own_installer() -> Result<()> {
    let cluster = Cluster::shared()?;
    let store = Store::shared_versitygw()?;
    let plugin = Plugin::new(cluster, &store)?;
    let keys = plugin.home().join("keys");
    std::fs::write(&keys, KEYS)?;
    let keys = keys.to_str().context("not UTF-8")?;
    plugin
        .run([
            "location",
            "add",
            "default",
            "s3://b/p?endpoint=http://127.0.0.1:1&region=us-east-1",
        ])?
        .ok();
    plugin.run(["location", "add", "aws", "s3://b"])?.ok();
    let plugins = "--plugins=velero/velero-plugin-for-aws:v1.14.3";
    let common = ["--provider=aws", "--bucket=b", "--use-volume-snapshots=false"];
    let rows: [(&[&str], &[&str]); 3] = [
        (
            &["--location=default", "--credentials-file", keys],
            &[
                plugins,
                "--prefix=p",
                "--secret-file",
                keys,
                "--use-node-agent",
                "--backup-location-config=region=us-east-1,s3Url=http://127.0.0.1:1,s3ForcePathStyle=true,checksumAlgorithm=",
            ],
        ),
        (
            &[
                "--location=default",
                "--credentials-file",
                keys,
                "--components=admission",
            ],
            &[
                plugins,
                "--prefix=p",
                "--secret-file",
                keys,
                "--backup-location-config=region=us-east-1,s3Url=http://127.0.0.1:1,s3ForcePathStyle=true,checksumAlgorithm=",
            ],
        ),
        (
            &[
                "--location=aws",
                "--no-credentials",
                "--velero-namespace=elsewhere",
                "--kubelet-root-dir=/var/lib/k0s/kubelet",
                "--sa-annotations=eks.amazonaws.com/role-arn=arn",
                "--velero-image=registry.local/velero:v1.18.3",
            ],
            &[
                plugins,
                "--no-secret",
                "--namespace=elsewhere",
                "--use-node-agent",
                "--kubelet-root-dir=/var/lib/k0s/kubelet",
                "--sa-annotations=eks.amazonaws.com/role-arn=arn",
                "--image=registry.local/velero:v1.18.3",
            ],
        ),
    ];
    for (ours, theirs) in rows {
        let words = [
            &["enable", "--engine=velero", "--dry-run=client", "-o", "json"][..],
            ours,
        ]
        .concat();
        let printed = plugin.run(&words)?.ok();
        let list: Value = serde_json::from_str(&printed.stdout)?;
        let mut mine = by_name(list["items"].as_array().context("no items")?);
        mine.retain(|name, object| {
            object["metadata"]["labels"]["component"] == "velero" || name.contains("velero.io")
        });
        let mut expected = by_name(&installer(cluster.kubeconfig(), &[&common[..], theirs].concat())?);
        // Looked at in the cluster; here it is only said.
        let secrets = expected.len();
        expected.retain(|name, _| !name.contains("Secret"));
        if expected.len() < secrets {
            printed.stderr_has("Secret velero/cloud-credentials is left out");
        }
        if ours.contains(&"--location=aws") {
            // Velero's command always calls its location default.
            let location = expected
                .remove("\"BackupStorageLocation\" \"elsewhere\" \"default\"")
                .context("no location")?;
            let mut location = location.clone();
            location["metadata"]["name"] = "aws".into();
            expected.insert(
                "\"BackupStorageLocation\" \"elsewhere\" \"aws\"".to_owned(),
                location,
            );
        }
        assert_eq!(
            mine.keys().collect::<Vec<_>>(),
            expected.keys().collect::<Vec<_>>(),
            "{ours:?}"
        );
        for (name, object) in &mine {
            assert_eq!(object, &expected[name], "{ours:?}: {name}");
        }
    }
    Ok(())
}

pub(super) fn annotations(cluster: &Cluster) -> Result<Value> {
    let namespace = cluster
        .get("/api/v1/namespaces/velero")?
        .context("no namespace")?;
    Ok(namespace["metadata"]["annotations"].clone())
}

pub(super) fn image(cluster: &Cluster, path: &str, pointer: &str) -> Result<String> {
    let workload = cluster.get(path)?.with_context(|| format!("no {path}"))?;
    let image = workload.pointer(&format!("/spec/template/spec/{pointer}/0/image"));
    Ok(image.and_then(Value::as_str).context("no image")?.to_owned())
}

pub(super) fn gone(cluster: &Cluster, path: &str) -> Result<()> {
    ensure!(cluster.get(path)?.is_none(), "{path} is there");
    Ok(())
}

#[test]
fn it_comes_is_moved_and_goes_and_backups_stay() -> Result<()> {
    let cluster = Cluster::start()?;
    let store = Store::shared_versitygw()?;
    let plugin = with_main(&cluster, &store)?;
    plugin
        .run([
            "create",
            "ours",
            "-n",
            "default",
            "--engine=direct",
            "--location=main",
        ])?
        .ok();
    plugin
        .run(
            [
                &ENABLE[..],
                &[
                    "--image-registry=registry.local:5000/t",
                    "--image-pull-secret=pull",
                ],
            ]
            .concat(),
        )?
        .ok()
        .stdout_has("namespace/velero: version v1.18.3, ")
        .stdout_has("0 configured, 0 unchanged");
    assert_eq!(annotations(&cluster)?["kubectl-backup.io/version"], "v1.18.3");
    assert_eq!(
        image(&cluster, DEPLOYMENT, "initContainers")?,
        "registry.local:5000/t/velero-plugin-for-aws:v1.14.3"
    );
    let secret = cluster
        .get("/api/v1/namespaces/velero/secrets/cloud-credentials")?
        .context("no credentials")?;
    ensure!(secret["data"]["cloud"].is_string(), "{secret:#}");
    let location = cluster.get(LOCATION)?.context("no location")?;
    assert_eq!(location["spec"]["default"], true);
    assert_eq!(
        location["spec"]["objectStorage"]["bucket"].as_str(),
        store.bucket()
    );

    // Again, and nothing changes; a second place comes beside the first with credentials of its own.
    let again = plugin.json(ENABLE)?;
    assert_eq!(again["velero"]["version"], "v1.18.3");
    for line in again["items"].as_array().context("no items")? {
        let is_namespace = line["object"]
            .as_str()
            .is_some_and(|name| name.starts_with("Namespace "));
        ensure!(is_namespace || line["outcome"] == "unchanged", "{line}");
    }
    assert_eq!(
        image(&cluster, AGENT, "containers")?,
        "registry.local:5000/t/velero:v1.18.3"
    );
    let other = store.location_url().replacen('?', "/beside?", 1);
    plugin.run(["location", "add", "beside", &other])?.ok();
    let beside = [
        "enable",
        "--engine=velero",
        "--location",
        "beside",
        "--wait=false",
    ];
    plugin.run(beside)?.ok();
    let spec = &cluster
        .get(&LOCATION.replace("/main", "/beside"))?
        .context("no location")?["spec"];
    assert_eq!(spec["credential"]["name"], "location-beside");
    ensure!(spec["default"].is_null(), "two defaults: {spec:#}");
    plugin
        .run(["status"])?
        .exits(1)
        .stdout_has("Velero v1.18.3 (looked after by kubectl backup)");

    // As a version before left it, cut off in the middle; what was chosen then stays.
    for (path, list, old) in [
        (DEPLOYMENT, "containers", "registry.local:5000/t/velero:v1.17.2"),
        (AGENT, "containers", "registry.local:5000/t/velero:v1.17.2"),
        (
            DEPLOYMENT,
            "initContainers",
            "registry.local:5000/t/velero-plugin-for-aws:v1.13.2",
        ),
    ] {
        let patch =
            json!([{ "op": "replace", "path": format!("/spec/template/spec/{list}/0/image"), "value": old }]);
        cluster.kubectl_ok(&[
            "patch",
            path.rsplit('/').nth(1).context("kind")?,
            path.rsplit('/').next().context("name")?,
            "-n",
            "velero",
            "--type=json",
            "-p",
            &patch.to_string(),
        ])?;
    }
    cluster.patch(
        "/api/v1/namespaces/velero",
        json!({ "metadata": { "annotations": { "kubectl-backup.io/version-coming": "v1.18.3" } } }),
    )?;
    plugin
        .run(["status"])?
        .exits(1)
        .stderr_has("on its way to v1.18.3 and has not arrived; `kubectl backup upgrade`");
    plugin
        .run(["upgrade", "--wait=false"])?
        .ok()
        .stdout_has("namespace/velero: version v1.18.3");
    assert_eq!(
        image(&cluster, DEPLOYMENT, "containers")?,
        "registry.local:5000/t/velero:v1.18.3"
    );
    assert_eq!(
        image(&cluster, DEPLOYMENT, "initContainers")?,
        "registry.local:5000/t/velero-plugin-for-aws:v1.14.3"
    );
    assert_eq!(
        image(&cluster, AGENT, "containers")?,
        "registry.local:5000/t/velero:v1.18.3"
    );
    let pod = &cluster.get(DEPLOYMENT)?.context("no server")?["spec"]["template"]["spec"];
    assert_eq!(pod["imagePullSecrets"][0]["name"], "pull");
    assert_eq!(
        annotations(&cluster)?["kubectl-backup.io/version-coming"],
        Value::Null
    );

    // Over a minor version there is no way but the one that is said, and none back.
    for (version, said) in [
        ("v1.16.2", "velero=velero/velero:v1.17.P"),
        ("v1.19.0", "never moved back"),
    ] {
        let image = format!("velero=registry.local:5000/t/velero:{version}");
        cluster.kubectl_ok(&["set", "image", "-n", "velero", "deployment/velero", &image])?;
        for command in [&["upgrade", "--wait=false"][..], &ENABLE] {
            plugin.run(command)?.exits(4).stderr_has(said);
        }
    }
    let before = store.keys()?;
    // With nobody there to let it go.
    cluster.create(json!({
        "apiVersion": "velero.io/v1", "kind": "Restore",
        "metadata": {
            "name": "held", "namespace": "velero", "finalizers": ["restores.velero.io/external-resources-finalizer"],
        },
        "spec": { "backupName": "ours" },
    }))?;
    plugin
        .run(["disable", "--backup-storage=Retain"])?
        .ok()
        .stderr_has("Deployment velero/velero deleted");
    for path in ["/api/v1/namespaces/velero", "/api/v1/namespaces/kubectl-backup"] {
        gone(&cluster, path)?;
    }
    for kind in ["crds", "clusterrolebindings"] {
        let left = cluster.kubectl_ok(&["get", kind, "-o", "name"])?;
        ensure!(!left.contains("velero"), "{left}");
    }
    assert_eq!(store.keys()?, before, "backups were touched");
    plugin
        .run(["disable"])?
        .ok()
        .stdout_has("nothing of kubectl backup was in the cluster");
    Ok(())
}

#[test]
fn half_of_it_goes_on_or_goes_away() -> Result<()> {
    let cluster = Cluster::start()?;
    let store = Store::shared_versitygw()?;
    let plugin = with_main(&cluster, &store)?;
    let somebody = cluster.person("somebody")?.may(
        &cluster,
        &json!([
            { "apiGroups": [""], "resources": ["*"], "verbs": ["*"] },
            { "apiGroups": ["apiextensions.k8s.io"], "resources": ["*"], "verbs": ["*"] },
            { "apiGroups": ["apps"], "resources": ["*"], "verbs": ["*"] },
        ]),
    )?;
    with_main(&cluster, &store)?
        .with_kubeconfig(somebody.kubeconfig())?
        .run(ENABLE)?
        .exits(4)
        .stderr_has("clusterrolebindings")
        .stderr_has("the same command goes on from there");
    let said = annotations(&cluster)?;
    assert_eq!(said["kubectl-backup.io/version-coming"], "v1.18.3");
    gone(&cluster, DEPLOYMENT)?;
    plugin
        .run(["status"])?
        .exits(1)
        .stderr_has("on its way to v1.18.3 and has not arrived");
    plugin.run(ENABLE)?.ok();
    assert_eq!(annotations(&cluster)?["kubectl-backup.io/version"], "v1.18.3");
    let location = cluster.get(LOCATION)?.context("no location")?;
    ensure!(location["spec"]["credential"].is_null(), "{location:#}");

    // Its definitions are taken away by hand, and with them its location.
    cluster.kubectl_ok(&["delete", "crd", "-l", "component=velero"])?;
    cluster.kubectl_ok(&["delete", "daemonset", "node-agent", "-n", "velero"])?;
    plugin.run(["disable", "--backup-storage=Retain"])?.ok();
    gone(&cluster, "/api/v1/namespaces/velero")?;

    for (words, said) in [
        (&["enable", "--take-over"][..], "--engine velero"),
        (&["enable", "--components=node-agent"], "--engine velero"),
        (
            &["enable", "--engine=velero", "--kubelet-root-dir=kubelet"],
            "absolute path",
        ),
        (&["enable", "--engine=velero", "--sa-annotations=x"], "KEY=VALUE"),
    ] {
        plugin.run(words)?.exits(2).stderr_has(said);
    }
    Ok(())
}
