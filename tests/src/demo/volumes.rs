//! The chapter about data: a ledger that never stops writing is frozen by its hooks, backed up, lost and brought back.
//!
//! It runs on a whole node, which takes root and a few packages; where those are missing the chapter is left out and says
//! which. Every line of the ledger has a checksum and a number, so that a torn or a missing one is seen.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use velero_model::digests::sha256;

use super::Stage;
use crate::cluster::Cluster;
use crate::image;
use crate::node::{BUSYBOX, Node};
use crate::plugin::{self, Plugin};

const BANK: &str = "bank";

/// Writes lines until somebody asks it to hold, then says that it does.
const WRITER: &str = "i=0; while :; do if [ -e /data/freeze ]; then touch /data/frozen; else rm -f /data/frozen; \
    i=$((i+1)); echo -n \"$i \" >>/data/ledger; echo -n \"$i\" | sha256sum >>/data/ledger; fi; done";

const FREEZE: &str = r#"["sh", "-c", "touch /data/freeze; while [ ! -e /data/frozen ]; do :; done"]"#;
const THAW: &str = r#"["sh", "-c", "rm /data/freeze"]"#;

impl Stage {
    pub(super) fn data_of_volumes(&mut self) -> Result<()> {
        self.screen
            .step("Data: a ledger on a node whose pods run, which never stops writing");
        if let Err(missing) = Node::can_start() {
            self.screen.line(&format!("left out: {missing:#}"));
            return Ok(());
        }
        let node = Node::start()?;
        let binaries = BTreeMap::from([
            ("kubectl-backup", plugin::binary()?),
            ("backup-webhook", plugin::webhook_binary()?),
        ]);
        node.import(&image::suite(&binaries)?)?;
        let cluster = node.cluster();
        let plugin = Plugin::bare()?.with_kubeconfig(cluster.kubeconfig())?;
        ledger(&node)?;
        let screen = &self.screen;
        screen.kubectl(cluster, &["get", "pods,persistentvolumeclaims", "-n", BANK])?;
        screen.backup(&plugin, &["location", "add", "main", &self.store.location_url()])?;
        let image = format!("--image={}", image::suite_name()?);
        screen.backup(&plugin, &["create", "ledger", "-n", BANK, &image])?;
        screen.backup(&plugin, &["verify", "ledger", "--read-data"])?;
        screen.step(
            "The bank is lost, its volume too, and comes back into an empty one before the writer starts",
        );
        screen.kubectl(cluster, &["delete", "namespace", BANK, "--timeout=90s"])?;
        screen.kubectl(cluster, &["delete", "persistentvolume", "ledger"])?;
        let written = lines(&node.folder().join("ledger"))?;
        volume(&node, "fresh")?;
        screen.backup(&plugin, &["restore", "ledger", &image])?;
        ready(cluster)?;
        let restored = lines(&node.folder().join("fresh"))?;
        screen.line(&format!(
            "{} lines came back, each whole; {} had been written when the volume was lost",
            restored.0, written.0
        ));
        ensure!(restored.0 > 0, "nothing came back");
        self.judge.count(
            &format!("{} lines of a ledger", restored.0),
            restored.1 + written.1,
        );
        Ok(())
    }
}

/// Lines of a ledger, and how many are not what they should be. The last one may be in the middle of being written.
fn lines(folder: &Path) -> Result<(usize, usize)> {
    let text = fs::read_to_string(folder.join("ledger")).context("no ledger")?;
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let is_wrong = |(position, line): &(usize, &str)| {
        let number = (position + 1).to_string();
        *line != format!("{number} {}  -", sha256(number.as_bytes()))
    };
    let wrong = whole.lines().enumerate().filter(is_wrong).count();
    Ok((whole.lines().count(), wrong))
}

fn volume(node: &Node, folder: &str) -> Result<()> {
    let folder = node.folder().join(folder);
    fs::create_dir_all(&folder)?;
    node.cluster()
        .create(json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": "ledger" },
            "spec": {
                "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": { "namespace": BANK, "name": "data-ledger-0" },
                "hostPath": { "path": folder, "type": "DirectoryOrCreate" },
            },
        }))
        .map(drop)
}

fn ready(cluster: &Cluster) -> Result<()> {
    let wait = [
        "wait",
        "--for=condition=Ready",
        "pod/ledger-0",
        "-n",
        BANK,
        "--timeout=60s",
    ];
    cluster.wait_until("the ledger's pod", |cluster| {
        Ok(cluster
            .get(&format!("/api/v1/namespaces/{BANK}/pods/ledger-0"))?
            .is_some())
    })?;
    cluster.kubectl_ok(&wait).map(drop)
}

fn ledger(node: &Node) -> Result<()> {
    let cluster = node.cluster();
    cluster.create(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": BANK } }))?;
    volume(node, "ledger")?;
    cluster.create(json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "ledger", "namespace": BANK },
        "spec": {
            "serviceName": "ledger", "selector": { "matchLabels": { "app": "ledger" } },
            "template": {
                "metadata": { "labels": { "app": "ledger" }, "annotations": {
                    "backup.velero.io/backup-volumes": "data",
                    "pre.hook.backup.velero.io/command": FREEZE,
                    "post.hook.backup.velero.io/command": THAW,
                } },
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "ledger", "image": BUSYBOX,
                        // One that comes back goes on behind what is there.
                        "command": ["sh", "-c", format!("[ -e /data/ledger ] && exec sleep 3600; {WRITER}")],
                        "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
                    }],
                },
            },
            "volumeClaimTemplates": [{
                "metadata": { "name": "data" },
                "spec": {
                    "accessModes": ["ReadWriteOnce"], "storageClassName": "",
                    "resources": { "requests": { "storage": "1Gi" } },
                },
            }],
        },
    }))?;
    ready(cluster)?;
    cluster.wait_until("a ledger of some length", |_| {
        Ok(fs::read_to_string(node.folder().join("ledger/ledger"))
            .is_ok_and(|text| text.lines().count() > 200))
    })
}
