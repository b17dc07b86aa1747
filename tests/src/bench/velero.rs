//! Velero 1.18.3 as the peer: its server as a plain process against the same API server, its backups in versitygw.
//!
//! In comes a cluster with objects, out come Velero's time and memory for what we did before it. The server runs outside
//! a pod, as a developer runs it; nothing of it is tuned. Its restore is measured on 2,000 objects, since more of them
//! only take longer.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::limits::Limits;
use super::report::{Bar, Row};
use super::size::Measured;
use super::{NAMESPACES, mebibytes, say, start};
use crate::applications;
use crate::cluster::{Cluster, free_port};
use crate::process::{self, Server};
use crate::scratch::Scratch;
use crate::servers::{self, Program};
use crate::store::Store;

/// Objects of its restore.
const RESTORED: usize = 2_000;

/// The size that the bars are meant for.
const JUDGED: usize = 28_000;

/// How long one of its backups or restores may take.
const WITHIN: Duration = Duration::from_mins(30);

const NAMESPACE: &str = "velero";

/// Measures its backup of `source`, and its restore beside ours.
pub(super) fn measure(source: &Cluster, count: usize, ours: &Measured, rows: &mut Vec<Row>) -> Result<()> {
    say(&format!("{count} objects: Velero's backup"));
    let bucket = Store::shared_versitygw()?;
    let velero = Velero::start(source, &bucket)?;
    let took = velero.backup("peer")?;
    let backup = Row::new(
        count,
        "Velero 1.18.3: backup, against ours to a folder",
        "s",
        vec![took.as_secs_f64()],
    )
    .against(&ours.backup)
    .bar_at(JUDGED, Bar::AtLeast(12.0));
    let memory = Row::new(
        count,
        "Velero 1.18.3: memory of its server",
        "MiB",
        vec![velero.peak_memory()],
    );
    drop(velero);

    say(&format!("{RESTORED} objects: Velero's restore"));
    let rate = restore_rate()?;
    let restore = Row::new(RESTORED, "Velero 1.18.3: restore", "objects/s", vec![rate]);
    let ratio = Row::new(
        count,
        "restore, against Velero's",
        "objects/s",
        vec![ours.restore.median()],
    )
    .against(&restore)
    .bar_at(JUDGED, Bar::AtLeast(25.0));
    rows.extend([backup, memory, restore, ratio]);
    Ok(())
}

fn restore_rate() -> Result<f64> {
    let bucket = Store::shared_versitygw()?;
    let source = start("velero-source")?;
    applications::ballast(&source, RESTORED, NAMESPACES)?;
    Velero::start(&source, &bucket)?.backup("peer")?;
    source.stop();
    let target = start("velero-target")?;
    let velero = Velero::start(&target, &bucket)?;
    let took = velero.restore("peer")?;
    Limits::connect(target.kubeconfig())?.ensure_objects(RESTORED)?;
    // Precise enough for a few thousand objects.
    #[allow(clippy::cast_precision_loss)]
    let rate = RESTORED as f64 / took.as_secs_f64();
    Ok(rate)
}

/// Its server beside a cluster.
struct Velero<'c> {
    cluster: &'c Cluster,
    server: Server,
    // Dropped after the server that reads the credentials in it.
    _folder: Scratch,
}

impl<'c> Velero<'c> {
    fn start(cluster: &'c Cluster, bucket: &Store) -> Result<Self> {
        install(cluster, bucket)?;
        let folder = Scratch::new("velero-")?;
        let credentials = folder.join("credentials");
        std::fs::write(&credentials, credentials_file(bucket)?)?;
        let plugins = servers::binary(Program::VeleroPluginForAws)?;
        let plugins: PathBuf = plugins
            .parent()
            .context("the plugin lies in no folder")?
            .to_owned();
        let mut command = servers::command(Program::Velero)?;
        command
            .args(["server", "--namespace", NAMESPACE, "--plugin-dir"])
            .arg(plugins)
            .args(["--metrics-address", &format!("127.0.0.1:{}", free_port()?)])
            // How often it looks for new backups in the bucket; the waiting for that is not measured.
            .args(["--backup-sync-period", "2s", "--store-validation-frequency", "5s"])
            .env("KUBECONFIG", cluster.kubeconfig())
            .env("AWS_SHARED_CREDENTIALS_FILE", &credentials)
            .env("AWS_EC2_METADATA_DISABLED", "true");
        let mut server = Server::start("velero", command, &folder.join("velero.log"))?;
        let location = path("backupstoragelocations", "default");
        server.wait_until(|| phase(cluster, &location).is_ok_and(|phase| phase == "Available"))?;
        Ok(Self {
            cluster,
            server,
            _folder: folder,
        })
    }

    fn backup(&self, name: &str) -> Result<Duration> {
        let spec = json!({ "storageLocation": "default", "includedNamespaces": ["*"], "includeClusterResources": true, "ttl": "24h0m0s" });
        self.run("Backup", "backups", name, &spec)
    }

    fn restore(&self, backup: &str) -> Result<Duration> {
        let found = path("backups", backup);
        self.cluster
            .wait_until("Velero to find the backup in the bucket", |cluster| {
                Ok(cluster.get(&found)?.is_some())
            })?;
        self.run(
            "Restore",
            "restores",
            backup,
            &json!({ "backupName": backup, "includedNamespaces": ["*"] }),
        )
    }

    /// Asks for a piece of work and waits for its end.
    fn run(&self, kind: &str, plural: &str, name: &str, spec: &Value) -> Result<Duration> {
        let begun = Instant::now();
        self.cluster.create(json!({
            "apiVersion": "velero.io/v1", "kind": kind, "metadata": { "name": name, "namespace": NAMESPACE }, "spec": spec,
        }))?;
        loop {
            let phase = phase(self.cluster, &path(plural, name))?;
            match phase.as_str() {
                // A restore into a cluster of the same make skips what is there and counts that as a warning or an error.
                "Completed" | "PartiallyFailed" => return Ok(begun.elapsed()),
                "Failed" | "FailedValidation" => {
                    bail!(
                        "Velero's {kind} {name} is {phase}; its log ends with:\n{}",
                        self.server.log_tail()
                    )
                }
                _ => {}
            }
            ensure!(
                begun.elapsed() < WITHIN,
                "Velero's {kind} {name} is still {phase}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn peak_memory(&self) -> f64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.server.pid())).unwrap_or_default();
        let kilobytes = status.lines().find_map(|line| {
            line.strip_prefix("VmHWM:")?
                .trim()
                .strip_suffix(" kB")?
                .parse::<u64>()
                .ok()
        });
        mebibytes(kilobytes.unwrap_or_default() * 1024)
    }
}

/// Its definitions, its namespace, the Deployment without which restores fail, and where its backups are.
fn install(cluster: &Cluster, bucket: &Store) -> Result<()> {
    let mut command = servers::command(Program::Velero)?;
    command
        .args(["install", "--crds-only", "--dry-run", "-o", "yaml"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let output = process::spawn(command)?.wait_with_output()?;
    ensure!(
        output.status.success(),
        "velero install: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    cluster.apply(&String::from_utf8_lossy(&output.stdout))?;
    cluster.kubectl_ok(&[
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        "crd",
        "--all",
    ])?;
    cluster.wait_until("Velero's kinds to be served", |cluster| {
        Ok(cluster
            .get("/apis/velero.io/v1/namespaces/velero/restores")?
            .is_some())
    })?;
    cluster.create(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } }))?;
    let labels = json!({ "app": "velero" });
    cluster.create(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "velero", "namespace": NAMESPACE },
        "spec": { "replicas": 0, "selector": { "matchLabels": labels }, "template": {
            "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "velero", "image": "velero" }] } } },
    }))?;
    cluster.create(json!({
        "apiVersion": "velero.io/v1", "kind": "BackupStorageLocation",
        "metadata": { "name": "default", "namespace": NAMESPACE },
        "spec": {
            "provider": "aws", "default": true,
            "objectStorage": { "bucket": bucket.bucket() },
            "config": { "region": "us-east-1", "s3ForcePathStyle": "true", "s3Url": bucket.endpoint(), "checksumAlgorithm": "" },
        },
    }))?;
    Ok(())
}

fn credentials_file(bucket: &Store) -> Result<String> {
    let env = bucket.env();
    let value = |name: &str| {
        env.iter()
            .find_map(|(known, value)| (known == name).then_some(value.as_str()))
            .with_context(|| format!("the store gives no {name}"))
    };
    Ok(format!(
        "[default]\naws_access_key_id={}\naws_secret_access_key={}\n",
        value("AWS_ACCESS_KEY_ID")?,
        value("AWS_SECRET_ACCESS_KEY")?
    ))
}

fn path(plural: &str, name: &str) -> String {
    format!("/apis/velero.io/v1/namespaces/{NAMESPACE}/{plural}/{name}")
}

fn phase(cluster: &Cluster, path: &str) -> Result<String> {
    let object = cluster
        .get(path)?
        .with_context(|| format!("{path} is not there"))?;
    Ok(object
        .pointer("/status/phase")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned())
}
