//! Makes `tests/golden/velero-1.18.3` again: backups that a real Velero wrote, for the tests that read them.
//!
//! In comes nothing; out come the files that Velero puts into its bucket for three small backups, copied as they are but
//! for one thing: in logs, the place of the binaries becomes the one they have in Velero's image. Velero and its plugin
//! for S3 are built first where they are not yet. The server runs as a plain process against a throwaway control plane
//! with the web shop in it.
//!
//! `cargo run -p backup-tests --bin make-golden [FOLDER]`

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use backup_tests::applications;
use backup_tests::cluster::{Cluster, free_port};
use backup_tests::process::{self, Server};
use backup_tests::runtime::progress;
use backup_tests::scratch::Scratch;
use backup_tests::servers::{self, Program};
use backup_tests::store::Store;
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use serde_json::{Value, json};

const NAMESPACE: &str = "velero";

/// How long one small backup may take.
const WITHIN: Duration = Duration::from_mins(5);

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/golden/velero-1.18.3")),
        PathBuf::from,
    );
    servers::binary(Program::Velero)?;
    servers::binary(Program::VeleroPluginForAws)?;
    let cluster = Cluster::start()?;
    applications::install_web_shop(&cluster)?;
    let bucket = Store::shared_versitygw()?;
    install(&cluster, &bucket)?;
    let velero = Velero::start(&cluster, &bucket)?;
    for (name, spec) in backups() {
        progress(&format!("Velero backs up {name}"));
        velero.backup(name, &spec)?;
    }
    drop(velero);
    let target = folder.join("backups");
    if target.exists() {
        fs::remove_dir_all(&target)?;
    }
    copy(&bucket.path().join("backups"), &target, &machine_paths()?)?;
    progress(&format!("stored under {}", target.display()));
    Ok(())
}

/// Names and specs. What a spec leaves out is filled in by Velero, as for `velero backup create`.
fn backups() -> [(&'static str, Value); 3] {
    [
        ("everything", json!({})),
        ("shop", json!({ "includedNamespaces": ["web-shop"] })),
        (
            "labelled",
            json!({
                "includedNamespaces": ["web-shop"],
                "labelSelector": { "matchLabels": { "app.kubernetes.io/part-of": "web-shop" } },
            }),
        ),
    ]
}

struct Velero<'c> {
    cluster: &'c Cluster,
    server: Server,
    // Dropped after the server that reads the credentials in it.
    _folder: Scratch,
}

impl<'c> Velero<'c> {
    fn start(cluster: &'c Cluster, bucket: &Store) -> Result<Self> {
        let folder = Scratch::new("velero-")?;
        let credentials = folder.join("credentials");
        fs::write(&credentials, credentials_file(bucket)?)?;
        let plugin = servers::binary(Program::VeleroPluginForAws)?;
        let mut command = servers::command(Program::Velero)?;
        command
            .args(["server", "--namespace", NAMESPACE, "--plugin-dir"])
            .arg(plugin.parent().context("the plugin lies in no folder")?)
            .args(["--metrics-address", &format!("127.0.0.1:{}", free_port()?)])
            .args(["--store-validation-frequency", "5s"])
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

    fn backup(&self, name: &str, spec: &Value) -> Result<()> {
        let begun = Instant::now();
        self.cluster.create(json!({
            "apiVersion": "velero.io/v1", "kind": "Backup",
            "metadata": { "name": name, "namespace": NAMESPACE }, "spec": spec,
        }))?;
        loop {
            let phase = phase(self.cluster, &path("backups", name))?;
            match phase.as_str() {
                "Completed" => return Ok(()),
                "PartiallyFailed" | "Failed" | "FailedValidation" => {
                    bail!(
                        "backup {name} is {phase}; Velero's log ends with:\n{}",
                        self.server.log_tail()
                    )
                }
                _ => ensure!(begun.elapsed() < WITHIN, "backup {name} is still {phase}"),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn install(cluster: &Cluster, bucket: &Store) -> Result<()> {
    let mut command = servers::command(Program::Velero)?;
    command
        .args(["install", "--crds-only", "--dry-run", "-o", "yaml"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
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
    for plural in ["backups", "backupstoragelocations"] {
        cluster.wait_until(&format!("Velero's {plural} to be served"), |cluster| {
            Ok(cluster.get(&path(plural, ""))?.is_some())
        })?;
    }
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
        let found = env.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.as_str())
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
        .trim_end_matches('/')
        .to_owned()
}

fn phase(cluster: &Cluster, path: &str) -> Result<String> {
    let object = cluster
        .get(path)?
        .with_context(|| format!("{path} is not there"))?;
    let phase = object.pointer("/status/phase").and_then(Value::as_str);
    Ok(phase.unwrap_or_default().to_owned())
}

/// Paths of this machine that Velero's logs quote, and what they are in its image.
fn machine_paths() -> Result<Vec<(String, &'static str)>> {
    let folder = |program| -> Result<String> {
        let binary = servers::binary(program)?;
        let folder = binary.parent().and_then(Path::to_str);
        Ok(folder.context("the path of a binary is not UTF-8")?.to_owned())
    };
    Ok(vec![
        (folder(Program::VeleroPluginForAws)?, "/plugins"),
        (folder(Program::Velero)?, ""),
    ])
}

fn copy(from: &Path, to: &Path, paths: &[(String, &str)]) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&source, &target, paths)?;
            continue;
        }
        // The bytes alone: the S3 server keeps facts of its own in attributes of the file.
        let mut bytes = fs::read(&source)?;
        if source.to_string_lossy().ends_with("-logs.gz") {
            bytes = with_neutral_paths(&bytes, paths)?;
        }
        fs::write(&target, bytes)?;
    }
    Ok(())
}

fn with_neutral_paths(log: &[u8], paths: &[(String, &str)]) -> Result<Vec<u8>> {
    let mut text = String::new();
    MultiGzDecoder::new(log).read_to_string(&mut text)?;
    for (path, neutral) in paths {
        text = text.replace(path, neutral);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes())?;
    Ok(encoder.finish()?)
}
