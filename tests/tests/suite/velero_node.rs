//! Velero on a node, installed by this program: its server and its agents are pods, a volume is backed up by an agent, and
//! all of it goes again, what only Velero can delete included.

use anyhow::{Context, Result, ensure};
use backup_tests::image::Image;
use backup_tests::node::{BUSYBOX, Node, with_busybox};
use backup_tests::plugin::Plugin;
use backup_tests::servers::{self, Program};
use backup_tests::store::Store;
use serde_json::json;

use super::schedules::url_for_pods;

const REGISTRY: &str = "registry.local/t";

/// The two images of Velero, made of its binaries as its own Dockerfiles make them.
fn images() -> Result<[Image; 2]> {
    let server = std::fs::read(servers::binary(Program::Velero)?)?;
    let plugin = std::fs::read(servers::binary(Program::VeleroPluginForAws)?)?;
    Ok([
        Image::new(&[&format!("{REGISTRY}/velero:v1.18.3")])
            .file("velero", 0o755, server)
            .directory("tmp", 0o1777)
            .directory("home/cnb", 0o1777)
            .environment("HOME", "/home/cnb")
            .setting("User", json!("65532:65532"))
            .setting("Entrypoint", json!(["/velero"])),
        with_busybox(&[&format!("{REGISTRY}/velero-plugin-for-aws:v1.14.3")])?
            .file("plugins/velero-plugin-for-aws", 0o755, plugin)
            .setting("User", json!("65532:65532"))
            .setting(
                "Entrypoint",
                json!(["/bin/cp", "/plugins/velero-plugin-for-aws", "/target/."]),
            ),
    ])
}

#[test]
fn velero_is_installed_backs_up_a_volume_and_goes_with_all_it_has_stored() -> Result<()> {
    let _alone = super::alone();
    let node = Node::start()?;
    let cluster = node.cluster();
    for image in images()? {
        node.import(&image)?;
    }
    let store = Store::shared_versitygw()?;
    let inside = url_for_pods(&node, &store)?;
    let plugin = Plugin::new(cluster, &store)?;
    plugin.run(["location", "add", "main", &inside])?.ok();
    let begun = std::time::Instant::now();
    plugin
        .run([
            "enable",
            "--engine=velero",
            "--location=main",
            "--components=node-agent",
            "--image-registry",
            REGISTRY,
        ])?
        .context_of(&node)?
        .stdout_has("namespace/velero: version v1.18.3")
        .stderr_has("BackupStorageLocation velero/main created");
    eprintln!("Velero with agents is there after {:?}", begun.elapsed());

    let shop = cluster.namespace()?;
    cluster.create(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "shop", "namespace": shop.name(), "annotations": { "backup.velero.io/backup-volumes": "data" },
        },
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "shop", "image": BUSYBOX,
                "command": ["sh", "-c", "echo orders >/data/journal; sleep 3600"],
                "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
            }],
            "volumes": [{ "name": "data", "emptyDir": {} }],
        },
    }))?;
    cluster.kubectl_ok(&[
        "wait",
        "--for=condition=Ready",
        "pod/shop",
        "-n",
        shop.name(),
        "--timeout=60s",
    ])?;
    // The same server has another address here than pods have for it.
    let endpoint = store.endpoint().context("no server")?;
    cluster.patch(
        "/apis/velero.io/v1/namespaces/velero/backupstoragelocations/main",
        json!({ "spec": { "config": { "publicUrl": endpoint } } }),
    )?;
    let here = ["--location", &store.location_url()];
    plugin
        .run([&["create", "b1", "-n", shop.name(), "--engine=velero"][..], &here].concat())?
        .context_of(&node)?;
    plugin
        .run([&["describe", "b1"][..], &here].concat())?
        .ok()
        .stdout_has("b1-podvolumebackups.json.gz");
    let volumes = cluster.list("/apis/velero.io/v1/namespaces/velero/podvolumebackups")?;
    ensure!(
        volumes.len() == 1 && volumes[0]["status"]["phase"] == "Completed",
        "{volumes:#?}"
    );
    let stored = store.keys()?;
    ensure!(stored.iter().any(|key| key.starts_with("kopia/")), "{stored:?}");
    plugin
        .run(["status"])?
        .stdout_has("Velero v1.18.3 (looked after by kubectl backup)")
        .stdout_has("velero/node-agent");

    let secret = "/api/v1/namespaces/kubectl-backup/secrets/location-main";
    cluster.patch(secret, json!({ "stringData": { "url": store.location_url() } }))?;
    plugin
        .run(["disable", "--backup-storage=Delete", "--yes"])?
        .context_of(&node)?
        .stderr_has("backup b1 deleted")
        .stderr_has("DaemonSet velero/node-agent deleted");
    ensure!(store.keys()?.is_empty(), "left behind: {:?}", store.keys()?);
    ensure!(
        cluster.get("/api/v1/namespaces/velero")?.is_none(),
        "Velero is there"
    );
    let left = cluster.kubectl_ok(&["get", "crds,clusterrolebindings", "-o", "name"])?;
    ensure!(!left.contains("velero"), "{left}");
    Ok(())
}

/// What pods say where a command fails.
trait ContextOf: Sized {
    fn context_of(self, node: &Node) -> Result<Self>;
}

impl ContextOf for backup_tests::plugin::Ran {
    fn context_of(self, node: &Node) -> Result<Self> {
        ensure!(self.code == 0, "{self}\n{}", node.state_of("velero"));
        Ok(self)
    }
}
