//! The server process of Velero, what it needs in a cluster before it starts, and the files that it reads.
//!
//! In come a cluster and a release; out comes a process that takes all it started with it when it goes: plugins are
//! processes of their own, and a killed Velero does not end them.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{NAMESPACE, VeleroBuilder, path};
use crate::cluster::{Cluster, free_port};
use crate::process::{self, Server};
use crate::scratch::Scratch;
use crate::servers::{self, Program};
use crate::store::Store;

/// The server and all that it started.
pub(super) struct Process {
    pub(super) server: Server,
    sweeper: Child,
}

impl Process {
    pub(super) fn start(builder: &VeleroBuilder<'_>, folder: &Scratch) -> Result<Self> {
        let plugin = servers::binary(Program::VeleroPluginForAws)?;
        let mut command = servers::command(builder.program)?;
        command
            .args(["server", "--namespace", NAMESPACE, "--plugin-dir"])
            .arg(plugin.parent().context("the plugin lies in no folder")?)
            .args(["--metrics-address", &format!("127.0.0.1:{}", free_port()?)])
            .args(["--profiler-address", &format!("127.0.0.1:{}", free_port()?)])
            .args(["--backup-sync-period", "1s", "--store-validation-frequency", "5s"])
            .args(&builder.flags)
            .env("KUBECONFIG", builder.cluster.kubeconfig())
            .env("AWS_SHARED_CREDENTIALS_FILE", credentials(folder))
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("HOME", folder.path())
            .env("TMPDIR", folder.path())
            .process_group(0);
        let server = Server::start("velero", command, &log(folder))?;
        let sweeper = sweeper(server.pid())?;
        Ok(Self { server, sweeper })
    }

    pub(super) fn stop(&mut self) {
        self.server.stop();
        // The end of its input is what it waits for.
        drop(self.sweeper.stdin.take());
        let _ = self.sweeper.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A shell that kills a process group when this process lets go of it or ends, however it ends.
fn sweeper(group: u32) -> Result<Child> {
    Command::new("/bin/sh")
        .args([
            "-c",
            "trap '' INT TERM HUP; read -r _; kill -s KILL -- \"-$1\" 2>/dev/null",
            "sweeper",
            &group.to_string(),
        ])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("/bin/sh does not start")
}

pub(super) fn log(folder: &Scratch) -> PathBuf {
    folder.join("velero.log")
}

pub(super) fn credentials(folder: &Scratch) -> PathBuf {
    folder.join("aws-credentials")
}

/// Its definitions, its namespace, and the Deployment without which its restores fail. A second time changes nothing.
pub(super) fn install(cluster: &Cluster, program: Program) -> Result<()> {
    let mut command = servers::command(program)?;
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
        "-l",
        "component=velero",
    ])?;
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
    cluster.apply(&namespace.to_string())?;
    let labels = json!({ "app": "velero" });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "velero", "namespace": NAMESPACE },
        "spec": { "replicas": 0, "selector": { "matchLabels": labels }, "template": {
            "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "velero", "image": "velero" }] } } },
    });
    cluster.apply(&deployment.to_string())?;
    for kind in [
        "Backup",
        "Restore",
        "BackupStorageLocation",
        "DeleteBackupRequest",
        "DownloadRequest",
        "Schedule",
    ] {
        cluster.wait_until(&format!("Velero's kind {kind} to be served"), |cluster| {
            Ok(cluster.get(&path(kind, ""))?.is_some())
        })?;
    }
    Ok(())
}

pub(super) fn credentials_file(store: &Store) -> Result<String> {
    let env: BTreeMap<String, String> = store.env().into_iter().collect();
    let value = |name: &str| {
        env.get(name)
            .with_context(|| format!("the store gives no {name}; Velero needs a bucket"))
    };
    Ok(format!(
        "[default]\naws_access_key_id={}\naws_secret_access_key={}\n",
        value("AWS_ACCESS_KEY_ID")?,
        value("AWS_SECRET_ACCESS_KEY")?
    ))
}
