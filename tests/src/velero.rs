//! A real Velero beside a cluster: its server as a plain process, its command line, its API objects.
//!
//! In come a cluster and a bucket; out comes a Velero whose location is Available. The server runs outside a pod, as a
//! developer runs it, with the S3 plugin beside it; nothing of it is tuned but how often it looks at things. Callers may
//! rely on its kinds being served, on the namespace [`NAMESPACE`], and on nothing of it outliving the process: Velero
//! runs its plugins as processes of their own, so its whole process group goes when this process does.

mod server;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use self::server::Process;
use crate::cluster::Cluster;
use crate::plugin::{Ran, Running};
use crate::process;
use crate::scratch::Scratch;
use crate::servers::{self, Program};
use crate::store::Store;

/// Where its objects live.
pub const NAMESPACE: &str = "velero";

/// The location that [`Velero::start`] makes, which is the default one.
pub const LOCATION: &str = "default";

/// How long one backup, restore or deletion may take.
const WITHIN: Duration = Duration::from_mins(30);

/// It looks for new backups at its start and once a minute; anything beyond two rounds is a fault.
const SYNCED_WITHIN: Duration = Duration::from_secs(150);

/// How Velero is started.
#[derive(Clone)]
pub struct VeleroBuilder<'c> {
    cluster: &'c Cluster,
    store: &'c Store,
    program: Program,
    flags: Vec<String>,
}

impl<'c> VeleroBuilder<'c> {
    /// An older release: [`Program::Velero116`] or [`Program::Velero117`]. Built on first use, four minutes each.
    pub fn release(mut self, program: Program) -> Self {
        self.program = program;
        self
    }

    /// One more flag for `velero server`; it comes last and so wins.
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// Installs what is not there yet, starts it and waits until its default location is Available.
    pub fn start(self) -> Result<Velero<'c>> {
        server::install(self.cluster, self.program)?;
        let folder = Scratch::new("velero-")?;
        fs::write(
            server::credentials(&folder),
            server::credentials_file(self.store)?,
        )?;
        let velero = Velero {
            process: Process::start(&self, &folder)?,
            builder: self,
            folder,
        };
        if velero.get("BackupStorageLocation", LOCATION)?.is_none() {
            velero.add_location(LOCATION, velero.builder.store, json!({}))?;
        }
        velero.wait_for("BackupStorageLocation", LOCATION, &["Available"])?;
        Ok(velero)
    }
}

/// A running Velero server.
pub struct Velero<'c> {
    // Dropped before the folder, in which lie the credentials that it reads and the sockets of its plugins.
    process: Process,
    builder: VeleroBuilder<'c>,
    folder: Scratch,
}

impl<'c> Velero<'c> {
    /// Velero 1.18.3 with `store` (a bucket) as its default location, which is Available.
    pub fn start(cluster: &'c Cluster, store: &'c Store) -> Result<Self> {
        Self::builder(cluster, store).start()
    }

    /// A Velero to be configured.
    pub fn builder(cluster: &'c Cluster, store: &'c Store) -> VeleroBuilder<'c> {
        VeleroBuilder {
            cluster,
            store,
            program: Program::Velero,
            flags: Vec::new(),
        }
    }

    /// Makes a BackupStorageLocation for a bucket and waits until Velero calls it Available. `spec` is merged into its
    /// spec (`{"objectStorage": {"prefix": "p"}, "accessMode": "ReadOnly"}`). All buckets of one Velero share credentials.
    pub fn add_location(&self, name: &str, store: &Store, spec: Value) -> Result<()> {
        let mut location = json!({
            "apiVersion": "velero.io/v1", "kind": "BackupStorageLocation",
            "metadata": { "name": name, "namespace": NAMESPACE },
            "spec": {
                "provider": "aws", "default": name == LOCATION,
                "objectStorage": { "bucket": store.bucket() },
                "config": { "region": "us-east-1", "s3ForcePathStyle": "true", "s3Url": store.endpoint(), "checksumAlgorithm": "" },
            },
        });
        merge(&mut location["spec"], spec);
        self.cluster().create(location)?;
        self.wait_for("BackupStorageLocation", name, &["Available"])
            .map(drop)
    }

    /// The cluster that it works on.
    pub fn cluster(&self) -> &'c Cluster {
        self.builder.cluster
    }

    /// Creates an object of Velero's and does not wait.
    pub fn create(&self, kind: &str, name: &str, spec: Value) -> Result<Value> {
        let mut object = json!({
            "apiVersion": "velero.io/v1", "kind": kind, "metadata": { "name": name, "namespace": NAMESPACE },
        });
        object["spec"] = spec;
        self.cluster().create(object)
    }

    /// An object of Velero's, if it is there.
    pub fn get(&self, kind: &str, name: &str) -> Result<Option<Value>> {
        self.cluster().get(&path(kind, name))
    }

    /// All objects of one of Velero's kinds.
    pub fn list(&self, kind: &str) -> Result<Vec<Value>> {
        self.cluster().list(&path(kind, ""))
    }

    /// Waits until the object has one of these phases and gives it. Another phase that can only be an end is an error
    /// with Velero's own words.
    pub fn wait_for(&self, kind: &str, name: &str, phases: &[&str]) -> Result<Value> {
        let begun = Instant::now();
        loop {
            let found = self.get(kind, name)?;
            let found = found.with_context(|| format!("Velero's {kind} {name} is not there"))?;
            let phase = phase_of(&found);
            if phases.contains(&phase) {
                return Ok(found);
            }
            if [
                "Completed",
                "PartiallyFailed",
                "Failed",
                "FailedValidation",
                "Processed",
            ]
            .contains(&phase)
            {
                bail!(
                    "Velero's {kind} {name} is {phase}: {}\nits log ends with:\n{}",
                    found["status"],
                    self.log_tail()
                );
            }
            self.ensure_running()?;
            ensure!(
                begun.elapsed() < WITHIN,
                "Velero's {kind} {name} is still {phase:?}; its log ends with:\n{}",
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Makes a backup that must be Completed; gives the object, and how long it took.
    pub fn backup(&self, name: &str, spec: Value) -> Result<(Value, Duration)> {
        self.run("Backup", name, spec, &["Completed"])
    }

    /// Restores; the end may be Completed or PartiallyFailed. Gives the object, and how long it took.
    pub fn restore(&self, name: &str, spec: Value) -> Result<(Value, Duration)> {
        self.run("Restore", name, spec, &["Completed", "PartiallyFailed"])
    }

    /// Asks for a piece of work and waits for its end, which must be one of `phases`.
    pub fn run(&self, kind: &str, name: &str, spec: Value, phases: &[&str]) -> Result<(Value, Duration)> {
        let begun = Instant::now();
        self.create(kind, name, spec)?;
        let object = self.wait_for(kind, name, phases)?;
        Ok((object, begun.elapsed()))
    }

    /// Deletes a backup as `velero backup delete` does; errors that Velero wrote down are errors.
    pub fn delete_backup(&self, name: &str) -> Result<()> {
        let backup = self
            .get("Backup", name)?
            .with_context(|| format!("Velero has no backup {name}"))?;
        let request = format!("{name}-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let labels = BTreeMap::from([
            ("velero.io/backup-name", json!(name)),
            ("velero.io/backup-uid", backup["metadata"]["uid"].clone()),
        ]);
        self.cluster().create(json!({
            "apiVersion": "velero.io/v1", "kind": "DeleteBackupRequest",
            "metadata": { "name": request, "namespace": NAMESPACE, "labels": labels }, "spec": { "backupName": name },
        }))?;
        // A request that went well is deleted with its backup.
        let begun = Instant::now();
        while self.get("Backup", name)?.is_some() {
            self.ensure_running()?;
            let request = self.get("DeleteBackupRequest", &request)?.unwrap_or_default();
            let errors = &request["status"]["errors"];
            ensure!(errors.is_null(), "Velero did not delete backup {name}: {errors}");
            ensure!(
                begun.elapsed() < WITHIN,
                "Velero is still deleting backup {name}: {request}\n{}",
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Waits until Velero has found a backup in the bucket and gives its object. That is up to a minute, since the bucket
    /// is looked at once a minute; [`Velero::restart`] makes it look at once.
    pub fn wait_until_synced(&self, backup: &str) -> Result<Value> {
        let begun = Instant::now();
        loop {
            if let Some(backup) = self.get("Backup", backup)? {
                return Ok(backup);
            }
            self.ensure_running()?;
            ensure!(
                begun.elapsed() < SYNCED_WITHIN,
                "Velero has not found backup {backup} in the bucket; its log ends with:\n{}",
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Kills it and starts it again, which makes it look for new backups at once. A backup or restore that is running then
    /// is Failed for good.
    pub fn restart(&mut self) -> Result<()> {
        self.process.stop();
        self.process = Process::start(&self.builder, &self.folder)?;
        Ok(())
    }

    /// Runs its command line (`["backup", "describe", "b", "--details"]`) against the cluster.
    pub fn cli<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<Ran> {
        let mut command = servers::command(self.builder.program)?;
        command
            .args(["--namespace", NAMESPACE, "--colorized=false"])
            .args(arguments)
            .env("KUBECONFIG", self.cluster().kubeconfig())
            .env("HOME", self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let said = format!("{command:?}");
        Running::start(command, said)?.wait()
    }

    fn ensure_running(&self) -> Result<()> {
        ensure!(
            process::is_alive(self.pid()),
            "Velero has ended; its log ends with:\n{}",
            self.log_tail()
        );
        Ok(())
    }

    /// A folder that goes away with it, for files of the caller.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.server.pid()
    }

    /// The last lines that the server printed.
    pub fn log_tail(&self) -> String {
        self.process.server.log_tail()
    }

    /// All that the server printed.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(server::log(&self.folder))?)
    }
}

/// Where the API server keeps an object of Velero's, or with an empty name all of the kind.
pub fn path(kind: &str, name: &str) -> String {
    let plural = kind.to_lowercase();
    format!("/apis/velero.io/v1/namespaces/{NAMESPACE}/{plural}s/{name}")
        .trim_end_matches('/')
        .to_owned()
}

fn phase_of(object: &Value) -> &str {
    object
        .pointer("/status/phase")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// The folder of a program's binary, which Velero's logs quote.
pub fn binary_folder(program: Program) -> Result<String> {
    let binary = servers::binary(program)?;
    let folder = binary.parent().and_then(Path::to_str);
    Ok(folder.context("the path of a binary is not UTF-8")?.to_owned())
}
