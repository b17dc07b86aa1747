//! Volume data when things break in the middle: a mover is killed, the network is cut, a disk is full, the node restarts.
//!
//! Movers write to the storage by way of a proxy that lets so many bytes through and no more, so that whatever happens
//! happens in the middle of a backup and not by the clock. Every case ends with a backup that is whole.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use backup_tests::image;
use backup_tests::meter::Meter;
use backup_tests::node::Node;
use backup_tests::plugin::{self, Plugin, Ran, Running};
use backup_tests::process::{self, Server};
use backup_tests::proxy::{Fault, FaultProxy};
use backup_tests::runtime;
use backup_tests::scratch::Scratch;
use backup_tests::store::Store;
use serde_json::{Value, json};

use super::volumes::{application, no_mover_is_left, persistent_volume, with_state};

const PASSWORD: &str = "correct horse";

/// Bytes that a mover has written when something happens to it.
const MIDDLE: u64 = 24 << 20;

/// MiB of a volume's file that does not compress.
const SIZE: usize = 72;

/// One application whose volume is backed up again and again.
struct Site<'a> {
    node: &'a Node,
    plugin: Plugin,
    image: String,
    /// Its namespace.
    shop: &'a str,
    /// Where its volume is.
    folder: PathBuf,
    repository: PathBuf,
    /// Snapshots that there must be.
    whole: usize,
}

impl Site<'_> {
    /// Other bytes in its volume, so that there is something to write.
    fn change(&self) -> Result<()> {
        noise(&self.folder.join("noise"), SIZE)
    }

    fn spawn(&self, name: &str) -> Result<Running> {
        self.change()?;
        self.plugin.spawn([
            "create",
            name,
            "-n",
            self.shop,
            "--location",
            "main",
            &self.image,
            "-o",
            "json",
        ])
    }

    /// A backup that ended without the data of its claim: that is said, and there is no snapshot and no mover.
    fn lacks_its_data(&self, running: Running, name: &str, reasons: &[&str]) -> Result<()> {
        let ran = running.wait()?;
        ensure!(ran.code == 3, "{ran}\n{}", self.node.state_of(self.shop));
        says_why(&ran, reasons)?;
        no_mover_is_left(self.node.cluster())?;
        assert_eq!(snapshots(&self.repository)?, self.whole, "a snapshot of {name}");
        let listed = self.plugin.json(["list", "--location", "main"])?;
        let items = listed["items"].as_array().context("no items")?;
        let found = items
            .iter()
            .find(|item| item["name"] == name)
            .context("not listed")?;
        ensure!(found.to_string().contains("PartiallyFailed"), "{found:#}");
        Ok(())
    }

    /// The next one is whole, and so is the repository.
    fn is_whole_again(&mut self, name: &str) -> Result<()> {
        let ran = self.spawn(name)?.wait()?;
        with_state(ran, self.node, self.shop)?;
        self.whole += 1;
        assert_eq!(snapshots(&self.repository)?, self.whole);
        is_sound(&self.repository)?;
        let verified = self
            .plugin
            .run(["verify", name, "--read-data", "--location", "main"])?;
        ensure!(verified.code == 0, "{verified}");
        no_mover_is_left(self.node.cluster())
    }
}

/// The account of a volume names its claim and one of the reasons, and no snapshot.
fn says_why(ran: &Ran, reasons: &[&str]) -> Result<()> {
    let summary: Value = serde_json::from_str(&ran.stdout).with_context(|| ran.to_string())?;
    let volume = &summary["outcome"]["volumes"]["items"][0];
    assert_eq!(volume["claim"], "data", "{summary:#}");
    ensure!(volume["snapshot"].is_null(), "{volume:#}");
    let error = volume["error"].as_str().context("no error")?;
    ensure!(
        reasons.iter().any(|reason| error.contains(reason)),
        "{error:?} has none of {reasons:?}"
    );
    Ok(())
}

fn noise(file: &Path, mebibytes: usize) -> Result<()> {
    let status = Command::new("dd")
        .args(["if=/dev/urandom", "bs=1M", "status=none"])
        .arg(format!("count={mebibytes}"))
        .arg(format!("of={}", file.display()))
        .status()?;
    ensure!(status.success(), "dd");
    Ok(())
}

/// What died has left a lock, which only excludes those who want to be alone.
fn restic(repository: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("restic")
        .args(["--no-cache", "--no-lock", "--repo"])
        .arg(repository)
        .args(arguments)
        .env("RESTIC_PASSWORD", PASSWORD)
        .output()
        .context("restic does not start; apt-get install restic")?;
    ensure!(
        output.status.success(),
        "restic {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

fn snapshots(repository: &Path) -> Result<usize> {
    let listed: Value = serde_json::from_str(&restic(repository, &["snapshots", "--json"])?)?;
    Ok(listed.as_array().map_or(0, Vec::len))
}

fn is_sound(repository: &Path) -> Result<()> {
    restic(repository, &["check", "--read-data"]).map(drop)
}

#[test]
fn whatever_breaks_is_named_and_the_next_backup_is_whole() -> Result<()> {
    let _alone = super::alone();
    let node = Node::start()?;
    let cluster = node.cluster();
    let binaries = std::collections::BTreeMap::from([
        ("kubectl-backup", plugin::binary()?),
        ("backup-webhook", plugin::webhook_binary()?),
    ]);
    node.import(&image::suite(&binaries)?)?;
    let shop = cluster.namespace()?;
    application(&node, shop.name(), "data")?;
    let store = Store::shared_versitygw()?;
    let endpoint = store.endpoint().context("no server")?;
    // Pods reach the storage through both; this program goes there itself.
    let meter = Meter::start(endpoint.trim_start_matches("http://").parse()?)?;
    let network = runtime::run(FaultProxy::start(meter.address()))?;
    let inside = node.lets_pods_reach(network.address().port())?;
    let plugin = Plugin::new(cluster, &store)?.with_env("KUBECTL_BACKUP_REPOSITORY_PASSWORD", PASSWORD);
    plugin
        .run(["location", "add", "main", &store.location_url()])?
        .ok();
    cluster.create(
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "kubectl-backup" } }),
    )?;
    cluster.create(json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {
            "name": "location-main", "namespace": "kubectl-backup", "labels": { "kubectl-backup.io/location": "main" },
        },
        "stringData": {
            "url": store.location_url().replace(&endpoint, &format!("http://{inside}")),
            "credentials": "[default]\naws_access_key_id = tester\naws_secret_access_key = tester-secret-key\n",
        },
    }))?;
    let mut site = Site {
        node: &node,
        plugin,
        image: format!("--image={}", image::suite_name()?),
        shop: shop.name(),
        folder: node.folder().join(format!("{shop}-data")),
        repository: store.path().join(format!("restic/{shop}")),
        whole: 0,
    };
    step("a killed mover");
    a_mover_is_killed(&mut site, &meter)?;
    step("a cut network");
    the_network_is_cut(&mut site, &meter, &network)?;
    step("a cut network at this program's side");
    the_network_of_this_program_is_cut(&mut site, &store)?;
    step("a node that restarts");
    the_node_restarts(&mut site, &meter)?;
    step("a full disk of the location");
    the_locations_disk_is_full(&site)?;
    step("a full disk of the volume");
    the_volumes_disk_is_full(&mut site)
}

fn step(what: &str) {
    runtime::progress(&format!(
        "{}: {what}",
        backup_engine::clock::now().strftime("%H:%M:%S")
    ));
}

fn a_mover_is_killed(site: &mut Site<'_>, meter: &Meter) -> Result<()> {
    for (name, is_pod) in [("its-process", false), ("its-pod", true)] {
        meter.limit(MIDDLE);
        let mut running = site.spawn(name)?;
        running.wait_until("the mover to be in the middle", |_| meter.is_shut())?;
        if is_pod {
            let selector = "kubectl-backup.io/mover";
            site.node.cluster().kubectl_ok(&[
                "delete",
                "pod",
                "-n",
                site.shop,
                "-l",
                selector,
                "--grace-period=0",
                "--force",
            ])?;
        } else {
            let script = "for process in /proc/[0-9]*; do \
                if [ \"$(tr '\\0' ' ' <$process/cmdline 2>/dev/null)\" = '/usr/local/bin/kubectl-backup mover run ' ]; then \
                kill -KILL ${process#/proc/} && found=1; fi; done; [ -n \"$found\" ]";
            let output = site.node.run("sh", &["-c", script])?;
            ensure!(output.status.success(), "no mover was found: {output:?}");
        }
        site.lacks_its_data(running, name, &["broke before it was done", "has ended"])?;
    }
    meter.limit(u64::MAX);
    site.is_whole_again("after-kills")
}

fn the_network_is_cut(site: &mut Site<'_>, meter: &Meter, network: &FaultProxy) -> Result<()> {
    meter.limit(u64::MAX);
    let mut running = site.spawn("cut-off")?;
    running.wait_until("the mover to be in the middle", |_| meter.passed() > MIDDLE)?;
    network.arm(u32::MAX, Fault::Cut { after: 0 });
    site.lacks_its_data(running, "cut-off", &["restic/", "connection"])?;
    network.arm(0, Fault::Unavailable);
    site.is_whole_again("after-the-cut")
}

/// Nothing reaches the storage any more, the record of the backup neither.
fn the_network_of_this_program_is_cut(site: &mut Site<'_>, store: &Store) -> Result<()> {
    let endpoint = store.endpoint().context("no server")?;
    let meter = Meter::start(endpoint.trim_start_matches("http://").parse()?)?;
    let network = runtime::run(FaultProxy::start(meter.address()))?;
    let place = store
        .location_url()
        .replace(&endpoint, &format!("http://{}", network.address()));
    site.change()?;
    let words = [
        "create",
        "lost",
        "-n",
        site.shop,
        "--location",
        &place,
        &site.image,
    ];
    let mut running = site.plugin.spawn(words)?;
    running.wait_until("the mover to be in the middle", |_| meter.passed() > MIDDLE)?;
    network.arm(u32::MAX, Fault::Cut { after: 0 });
    let ran = running.wait()?;
    ensure!(ran.code == 1, "{ran}");
    no_mover_is_left(site.node.cluster())?;
    assert_eq!(snapshots(&site.repository)?, site.whole);
    let listed = site
        .plugin
        .run(["list", "--location", "main", "-o", "name"])?
        .ok();
    ensure!(!listed.stdout.contains("lost"), "{listed}");
    site.is_whole_again("after-this-programs-cut")
}

fn the_node_restarts(site: &mut Site<'_>, meter: &Meter) -> Result<()> {
    meter.limit(MIDDLE);
    let mut running = site.spawn("restarted")?;
    running.wait_until("the mover to be in the middle", |_| meter.is_shut())?;
    site.node.restart()?;
    meter.limit(u64::MAX);
    site.lacks_its_data(running, "restarted", &["broke before it was done", "has ended"])?;
    // The application is started again by the node's kubelet.
    site.node
        .cluster()
        .wait_until("the application to run again", |cluster| {
            let restarts = cluster.kubectl_ok(&[
                "get",
                "pod",
                "data",
                "-n",
                site.shop,
                "-o",
                "jsonpath={.status.containerStatuses[0].ready} {.status.containerStatuses[0].restartCount}",
            ])?;
            Ok(restarts.starts_with("true ") && !restarts.ends_with(" 0"))
        })?;
    site.is_whole_again("after-the-restart")
}

/// A disk of a few megabytes that nobody sees but whom [`SmallDisk::plugin`] starts; it goes with its keeper.
struct SmallDisk {
    keeper: Server,
    scratch: Scratch,
}

impl SmallDisk {
    fn new(mebibytes: usize) -> Result<Self> {
        let scratch = Scratch::new("disk-")?;
        let (place, ready) = (scratch.join("place"), scratch.join("ready"));
        fs::create_dir(&place)?;
        let mut command = process::tied(&process::on_path("unshare").context("unshare is not installed")?)?;
        let script = "mount -t tmpfs -o size=\"$2m\" tmpfs \"$1\" && touch \"$3\" && exec sleep infinity";
        command
            .args([
                "--mount",
                "--propagation",
                "private",
                "/bin/sh",
                "-c",
                script,
                "keeper",
            ])
            .arg(&place)
            .arg(mebibytes.to_string())
            .arg(&ready);
        let mut keeper = Server::start("the keeper of a disk", command, &scratch.join("keeper.log"))?;
        keeper.wait_until(|| ready.exists())?;
        Ok(Self { keeper, scratch })
    }

    /// The disk as it is seen from here.
    fn path(&self) -> PathBuf {
        let place = self.scratch.join("place");
        Path::new(&format!("/proc/{}/root", self.keeper.pid()))
            .join(place.strip_prefix("/").unwrap_or(&place))
    }

    fn resize(&self, mebibytes: usize) -> Result<()> {
        let status = Command::new("nsenter")
            .args([
                "--mount",
                "--target",
                &self.keeper.pid().to_string(),
                "mount",
                "-o",
            ])
            .arg(format!("remount,size={mebibytes}m"))
            .arg(self.scratch.join("place"))
            .status()?;
        ensure!(status.success(), "the disk does not grow");
        Ok(())
    }

    /// The plugin where the disk is seen, with it as its location.
    fn plugin(&self, kubeconfig: &Path) -> Result<Plugin> {
        let program = self.scratch.join("kubectl-backup");
        let script = format!(
            "#!/bin/sh\nexec nsenter --mount --target {} --wd=\"$PWD\" -- {} \"$@\"\n",
            self.keeper.pid(),
            plugin::binary()?.display()
        );
        fs::write(&program, script)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        let place = format!("file://{}", self.scratch.join("place").display());
        Ok(Plugin::of_binary(&program)?
            .with_kubeconfig(kubeconfig)?
            .with_env("KUBECTL_BACKUP_LOCATION", &place)
            .with_env("KUBECTL_BACKUP_REPOSITORY_PASSWORD", PASSWORD))
    }
}

fn the_locations_disk_is_full(site: &Site<'_>) -> Result<()> {
    let cluster = site.node.cluster();
    let disk = SmallDisk::new(SIZE / 2)?;
    let plugin = disk.plugin(cluster.kubeconfig())?;
    let create = |name: &str| plugin.run(["create", name, "-n", site.shop, &site.image, "-o", "json"]);
    let ran = create("too-much")?;
    ensure!(ran.code == 3, "{ran}");
    says_why(&ran, &["No space left", "full"])?;
    no_mover_is_left(cluster)?;
    let repository = disk.path().join(format!("restic/{}", site.shop));
    assert_eq!(snapshots(&repository)?, 0);
    disk.resize(4 * SIZE)?;
    with_state(create("with-room")?, site.node, site.shop)?;
    assert_eq!(snapshots(&repository)?, 1);
    is_sound(&repository)?;
    plugin.run(["verify", "with-room", "--read-data"])?.ok();
    no_mover_is_left(cluster)
}

fn the_volumes_disk_is_full(site: &mut Site<'_>) -> Result<()> {
    let (node, cluster) = (site.node, site.node.cluster());
    let sum = |file: &Path| -> Result<String> {
        let output = node.run("sha256sum", &[file.to_str().context("not UTF-8")?])?;
        let said = String::from_utf8(output.stdout)?;
        Ok(said.split(' ').next().unwrap_or_default().to_owned())
    };
    site.is_whole_again("to-be-restored")?;
    let before = sum(&site.folder.join("noise"))?;
    let other = cluster.namespace()?;
    let place = node.folder().join("small");
    fs::create_dir(&place)?;
    let text = place.to_str().context("not UTF-8")?;
    // Nobody but the node sees it, and it goes with the node.
    let mount = |options: &str| -> Result<()> {
        let output = node.run("mount", &["-t", "tmpfs", "-o", options, "tmpfs", text])?;
        ensure!(output.status.success(), "{output:?}");
        Ok(())
    };
    mount(&format!("size={}m", SIZE / 2))?;
    persistent_volume(cluster, other.name(), "data", text)?;
    let mapping = format!("--namespace-mappings={}:{other}", site.shop);
    let restore = || {
        let words = [
            "restore",
            "to-be-restored",
            "pvc/data",
            "-n",
            site.shop,
            &mapping,
            "--name",
            "r1",
        ];
        site.plugin
            .run(words.into_iter().chain(["--location", "main", &site.image]))
    };
    let ran = restore()?;
    ensure!(ran.code == 1, "{ran}\n{}", node.state_of(other.name()));
    let ran = ran.stderr_has("data").stderr_has("No space left");
    ensure!(!ran.stderr.contains("panicked"), "{ran}");
    no_mover_is_left(cluster)?;
    let half = cluster
        .get(&format!("/api/v1/namespaces/{other}/persistentvolumeclaims/data"))?
        .context("no claim")?;
    let filled = "kubectl-backup.io/filled-with-snapshot";
    ensure!(half["metadata"]["annotations"][filled].is_null(), "{half:#}");
    mount(&format!("remount,size={}m", 2 * SIZE))?;
    with_state(restore()?, node, other.name())?;
    assert_eq!(sum(&place.join("noise"))?, before);
    no_mover_is_left(cluster)
}
