//! Backups that Velero 1.16.2, 1.17.2 and 1.18.3 wrote (`tests/golden`): listed, described, verified, read and restored by
//! us. No Velero runs here.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use backup_tests::cluster::Cluster;
use backup_tests::compare::{RESTORED, compare};
use backup_tests::plugin::Plugin;
use backup_tests::snapshot::{self, Snapshot};
use backup_tests::store::Store;
use flate2::read::MultiGzDecoder;
use serde_json::{Value, json};

const RELEASES: [&str; 3] = ["1.16.2", "1.17.2", "1.18.3"];

/// The backups of the kiosk, which each release has.
const NAMES: [&str; 7] = [
    "default", "excluded", "partial", "scoped", "selected", "versions", "volumes",
];

struct Golden {
    release: &'static str,
    store: Store,
    plugin: Plugin,
}

impl Golden {
    /// A folder with the kiosk's backups of one release, and the plugin for it.
    fn of(release: &'static str) -> Result<Self> {
        let store = Store::folder()?;
        for name in NAMES {
            let (from, to) = (folder(release, name), store.path().join("backups").join(name));
            fs::create_dir_all(&to)?;
            for entry in fs::read_dir(&from).with_context(|| from.display().to_string())? {
                let entry = entry?;
                fs::copy(entry.path(), to.join(entry.file_name()))?;
            }
        }
        let plugin = Plugin::bare()?.with_store(&store);
        Ok(Self {
            release,
            store,
            plugin,
        })
    }

    fn archive(&self, name: &str) -> Result<Snapshot> {
        snapshot::of_tarball(File::open(
            folder(self.release, name).join(format!("{name}.tar.gz")),
        )?)
    }

    fn marker(&self, name: &str) -> Result<Value> {
        let file = self
            .store
            .path()
            .join(format!("backups/{name}/velero-backup.json"));
        Ok(serde_json::from_slice(&fs::read(file)?)?)
    }
}

fn folder(release: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("golden/velero-{release}/backups/{name}"))
}

#[test]
fn backups_of_three_releases_are_listed_described_and_verified() -> Result<()> {
    for release in RELEASES {
        let golden = Golden::of(release)?;
        let listed = golden.plugin.json(["list", "--sort-by", "name"])?;
        for (row, name) in listed["items"].as_array().context("items")?.iter().zip(NAMES) {
            let marker = golden.marker(name)?;
            let phase = if name == "partial" {
                "PartiallyFailed"
            } else {
                "Completed"
            };
            assert_eq!(
                (&row["name"], &row["status"]),
                (&json!(name), &json!(phase)),
                "{release}"
            );
            assert_eq!(
                row["objects"], marker["status"]["progress"]["itemsBackedUp"],
                "{release} {name}"
            );
            let described = golden.plugin.json(["describe", name, "--details"])?;
            assert_eq!(
                described["backup"], marker,
                "no field is lost or changed: {release} {name}"
            );
            let report = golden.plugin.json(["verify", name])?;
            assert_eq!(report["sound"], json!(true), "{release} {name}: {report}");
            assert_eq!(
                report["checkedObjects"],
                json!(golden.archive(name)?.len()),
                "{release} {name}"
            );
        }
        assert_eq!(listed["items"].as_array().map(Vec::len), Some(NAMES.len()));
    }
    Ok(())
}

#[test]
fn their_contents_and_logs_are_read() -> Result<()> {
    for release in RELEASES {
        let golden = Golden::of(release)?;
        for name in NAMES {
            let contents = golden.plugin.json(["contents", name])?;
            let items = contents["items"].as_array().context("items")?;
            let key =
                |resource: &Value, namespace: &Value, name: &Value| format!("{resource} {namespace} {name}");
            let said: BTreeSet<String> = items
                .iter()
                .map(|item| key(&item["resource"], &item["namespace"], &item["name"]))
                .collect();
            let held = golden.archive(name)?;
            let held: BTreeSet<String> = held
                .keys()
                .map(|held| key(&json!(held.resource), &json!(held.namespace), &json!(held.name)))
                .collect();
            assert_eq!(said, held, "{release} {name}");
            assert_eq!(
                items.len(),
                held.len(),
                "each object once, however many copies there are: {release} {name}"
            );
            let log = golden.plugin.run(["logs", name])?.ok().stdout;
            let file = File::open(folder(release, name).join(format!("{name}-logs.gz")))?;
            assert_eq!(log, std::io::read_to_string(MultiGzDecoder::new(file))?);
        }
    }
    Ok(())
}

#[test]
fn what_failed_and_what_lies_elsewhere_is_said() -> Result<()> {
    for release in RELEASES {
        let golden = Golden::of(release)?;
        let described = golden.plugin.run(["describe", "partial"])?.ok();
        described.stdout_has("PartiallyFailed").stdout_has("seller-0");
        // Pod volume backups and CSI snapshots are no files of the backup; whoever deletes only those leaves the data.
        let words = ["delete", "volumes", "--yes"];
        golden
            .plugin
            .run(words)?
            .exits(4)
            .stderr_has("volume ledger of pod kiosk/seller-0 in a kopia repository");
        let deleted = golden
            .plugin
            .json(words.into_iter().chain(["--leave-volume-data"]))?;
        let left = deleted["items"][0]["volumeDataLeft"].to_string();
        for data in [
            "volume ledger of pod kiosk/seller-0 in a kopia repository",
            "volume cache of pod kiosk/seller-0 in a kopia repository",
            "CSI snapshot of claim kiosk/stock, on the storage system",
        ] {
            assert!(left.contains(data), "{release}: {deleted}");
        }
        assert!(!left.contains("archive"), "that volume was skipped: {deleted}");
    }
    Ok(())
}

#[test]
fn backups_of_1_16_are_restored() -> Result<()> {
    restores_of("1.16.2")
}

#[test]
fn backups_of_1_17_are_restored() -> Result<()> {
    restores_of("1.17.2")
}

#[test]
fn backups_of_1_18_are_restored() -> Result<()> {
    restores_of("1.18.3")
}

/// Restores one after the other into a cluster without controllers, so that what stands there is what was restored.
fn restores_of(release: &'static str) -> Result<()> {
    let golden = Golden::of(release)?;
    let cluster = Cluster::builder().controllers(false).start()?;
    let plugin = Plugin::new(&cluster, &golden.store)?;
    for name in NAMES {
        if name == "selected" {
            // Its pod was selected, and the account that the pod runs as was not.
            let metadata = json!({ "name": "seller", "namespace": "kiosk" });
            cluster.create(
                json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "kiosk" } }),
            )?;
            cluster.create(json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata }))?;
        }
        let ran = plugin.run(["restore", name, "--name", name])?;
        let ran = ran.exits(if name == "excluded" { 3 } else { 0 });
        // What does not come back is said.
        let ran = match name {
            "partial" => {
                ran.stderr_has("backup partial is PartiallyFailed: what it could not take is not in it")
            }
            "volumes" => ran
                .stderr_has("data of volumes (volume ledger of pod kiosk/seller-0 in a kopia repository and"),
            _ => ran.nowhere_has("data of volumes"),
        };
        let wanted = of_kiosk(golden.archive(name)?);
        assert!(wanted.len() > 5, "{wanted:?}");
        let compared = compare(&wanted, &of_kiosk(snapshot::of_cluster(&cluster)?), RESTORED);
        let mut differences: Vec<String> = compared
            .differences
            .iter()
            .filter(|difference| difference.left.is_some())
            .map(|difference| format!("{} {}", difference.key, difference.path.join(".")))
            .collect();
        differences.sort();
        assert_eq!(differences, lost(name), "{release} {name}: {ran}");
        empty(&cluster)?;
    }
    Ok(())
}

/// What is not as in the backup. One lacks what its objects need: the definition of vouchers, and volumes. The namespace
/// of the other is there already and stays as it is.
fn lost(name: &str) -> &'static [&'static str] {
    match name {
        "excluded" => &[
            "configmaps kiosk/birthday-code metadata.ownerReferences",
            "persistentvolumeclaims kiosk/ledger spec.volumeName",
            "persistentvolumeclaims kiosk/stock spec.volumeName",
            "vouchers.kiosk.example.com kiosk/birthday ",
        ],
        "selected" => &[
            "namespaces kiosk metadata.annotations.kubectl.kubernetes.io/last-applied-configuration",
            "namespaces kiosk metadata.labels.team",
        ],
        _ => &[],
    }
}

/// What is the kiosk's, and not the API server's own.
fn of_kiosk(mut snapshot: Snapshot) -> Snapshot {
    snapshot.retain(|key, _| match &key.namespace {
        Some(namespace) => namespace == "kiosk",
        None => key.name.contains("kiosk"),
    });
    snapshot
}

/// Takes away what was restored, as a cluster without controllers has nobody who empties namespaces and minds finalizers.
fn empty(cluster: &Cluster) -> Result<()> {
    let there = of_kiosk(snapshot::of_cluster(cluster)?);
    for (key, object) in &there {
        let (plural, _) = key.resource.split_once('.').unwrap_or((&key.resource, ""));
        let version = object["apiVersion"].as_str().context("apiVersion")?;
        let base = if version == "v1" {
            "/api/v1".to_owned()
        } else {
            format!("/apis/{version}")
        };
        let path = match &key.namespace {
            Some(namespace) => format!("{base}/namespaces/{namespace}/{plural}/{}", key.name),
            None => format!("{base}/{plural}/{}", key.name),
        };
        if cluster.get(&path)?.is_some() {
            cluster.delete(&path)?;
            // The server itself adds one to Jobs that are deleted.
            if cluster
                .get(&path)?
                .is_some_and(|left| left["metadata"]["finalizers"].is_array())
            {
                // It may have gone meanwhile.
                if let Err(error) = cluster.patch(&path, json!({ "metadata": { "finalizers": null } }))
                    && cluster.get(&path)?.is_some()
                {
                    return Err(error);
                }
            }
        }
    }
    let file = cluster.folder().join("finalized.json");
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "kiosk" }, "spec": { "finalizers": [] } });
    fs::write(&file, namespace.to_string())?;
    let file = file.to_str().context("the path is not UTF-8")?;
    cluster.kubectl_ok(&[
        "replace",
        "--raw",
        "/api/v1/namespaces/kiosk/finalize",
        "-f",
        file,
    ])?;
    let left = of_kiosk(snapshot::of_cluster(cluster)?);
    anyhow::ensure!(left.is_empty(), "still there: {:?}", left.keys());
    Ok(())
}
