//! The admission suite's server, run as in production but for the pod around it.
//!
//! [`Webhook::start`] runs the built binary against a cluster and registers it under a URL, since no pod network is
//! there; [`Webhook::shared`] gives the one that all cases of a test binary use on the shared cluster. Callers may rely
//! on the API server asking it: a started webhook has answered a review that came through the API server. It dies with
//! the test, its registration goes first.

mod client;
mod registration;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use backup_webhook::review::{API_VERSION, KIND};
use http::Method;
use kube::CustomResourceExt;
use serde_json::{Value, json};
use velero_model::api::{StorageDisposition, VolumeBackupPolicy};

pub use self::client::{Client, trust};
pub use self::registration::{Registration, annotator, gate, guard};
use crate::cluster::{Cluster, Requests, free_port};
use crate::plugin::webhook_binary;
use crate::process::{self, READY_WITHIN, Server};
use crate::runtime;
use crate::scratch::Scratch;

/// A running server.
pub struct Webhook {
    server: Server,
    address: SocketAddr,
    probes: SocketAddr,
    namespace: String,
    registration: Option<Registration>,
    requests: Requests,
    folder: Scratch,
}

/// How it is started.
pub struct WebhookBuilder<'a> {
    cluster: &'a Cluster,
    kubeconfig: PathBuf,
    namespace: Option<String>,
    registration: Option<Registration>,
    flags: Vec<String>,
    certificate: Option<PathBuf>,
    prefix: Vec<String>,
}

/// The Secret of certificates that the server makes itself.
pub const SECRET: &str = "backup-webhook-certificate";

impl WebhookBuilder<'_> {
    /// Other credentials than an administrator's.
    pub fn kubeconfig(mut self, kubeconfig: &Path) -> Self {
        kubeconfig.clone_into(&mut self.kubeconfig);
        self
    }

    /// An existing namespace for lease and Secret, to share them with another replica.
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Registered like this; all three webhooks under a name of their own unless said otherwise.
    pub fn registration(mut self, registration: Registration) -> Self {
        self.registration = Some(registration);
        self
    }

    /// One more flag, with its value after `=`.
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// With a certificate from this folder instead of one that it makes itself.
    pub fn certificate_folder(mut self, folder: &Path) -> Self {
        self.certificate = Some(folder.to_owned());
        self
    }

    /// Run by another program, such as `taskset -c 0`.
    pub fn run_by(mut self, words: &[&str]) -> Self {
        self.prefix = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Starts it, and waits until the API server asks it.
    pub fn start(self) -> Result<Webhook> {
        install_crds(self.cluster)?;
        let registration = self.registration.clone().unwrap_or_default();
        let mut webhook = self.launch(Some(registration))?;
        webhook.wait_until_ready()?;
        webhook.wait_until_asked()?;
        Ok(webhook)
    }

    /// Starts it and nothing more: no CRDs, no registration, not ready yet.
    pub fn start_alone(self) -> Result<Webhook> {
        let registration = self.registration.clone();
        self.launch(registration)
    }

    fn launch(self, registration: Option<Registration>) -> Result<Webhook> {
        let folder = Scratch::new("webhook-")?;
        let requests = self.cluster.requests();
        let namespace = match &self.namespace {
            Some(namespace) => namespace.clone(),
            None => {
                let unique = uuid::Uuid::new_v4().simple().to_string();
                let name = format!("kubectl-backup-{}", &unique[..8]);
                let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
                self.cluster.create(object)?;
                name
            }
        };
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (address, probes) = (local(free_port()?), local(free_port()?));
        if let Some(registration) = &registration {
            registration.register(self.cluster, &namespace, address)?;
        }
        let command = self.command(&namespace, address, probes, registration.as_ref())?;
        let server = Server::start("backup-webhook", command, &folder.join("backup-webhook.log"))?;
        Ok(Webhook {
            server,
            address,
            probes,
            namespace,
            registration,
            requests,
            folder,
        })
    }

    fn command(
        &self,
        namespace: &str,
        address: SocketAddr,
        probes: SocketAddr,
        registration: Option<&Registration>,
    ) -> Result<Command> {
        let binary = webhook_binary()?;
        let mut command = match self.prefix.split_first() {
            None => process::tied(&binary)?,
            Some((program, words)) => {
                let program =
                    process::on_path(program).with_context(|| format!("{program} is not installed"))?;
                let mut command = process::tied(&program)?;
                command.args(words).arg(&binary);
                command
            }
        };
        command.env_clear().args([
            "serve".to_owned(),
            format!("--bind={address}"),
            format!("--probes-bind={probes}"),
            format!("--kubeconfig={}", self.kubeconfig.display()),
            format!("--namespace={namespace}"),
        ]);
        match &self.certificate {
            Some(folder) => {
                command.arg(format!("--certificate-folder={}", folder.display()));
            }
            None => {
                command.args([
                    &format!("--certificate-secret={SECRET}"),
                    "--certificate-name=127.0.0.1",
                ]);
            }
        }
        if let Some(registration) = registration {
            command.args(registration.flags());
        }
        command.args(&self.flags);
        Ok(command)
    }
}

impl Webhook {
    /// All three webhooks on `cluster`.
    pub fn start(cluster: &Cluster) -> Result<Self> {
        Self::builder(cluster).start()
    }

    /// A server to be configured.
    pub fn builder(cluster: &Cluster) -> WebhookBuilder<'_> {
        WebhookBuilder {
            cluster,
            kubeconfig: cluster.kubeconfig().to_owned(),
            namespace: None,
            registration: None,
            flags: Vec::new(),
            certificate: None,
            prefix: Vec::new(),
        }
    }

    /// The one that all cases of this test binary share, on the cluster that they share.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<Webhook, String>> = OnceLock::new();
        let start = || Self::start(Cluster::shared()?);
        let shared = SHARED.get_or_init(|| start().map_err(|error| format!("{error:#}")));
        shared
            .as_ref()
            .map_err(|error| anyhow!("the shared webhook did not start: {error}"))
    }

    /// Where the API server reaches it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its lease and its Secret lie.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("backup-webhook.log")).unwrap_or_default()
    }

    /// The authorities that its Secret says are to be trusted, PEM.
    pub fn authorities(&self) -> Result<Vec<u8>> {
        let path = format!("/api/v1/namespaces/{}/secrets/{SECRET}", self.namespace);
        let secret = self.get(&path)?.context("there is no certificate yet")?;
        let secret: k8s_openapi::api::core::v1::Secret = serde_json::from_value(secret)?;
        let data = secret.data.unwrap_or_default();
        Ok(data.get("ca.crt").context("no ca.crt")?.0.clone())
    }

    /// A new connection, trusting what the Secret says.
    pub fn connect(&self) -> Result<Client> {
        Client::connect(self.address, &trust(&self.authorities()?)?)
    }

    /// One review over a connection of its own: the status and the answer.
    pub fn review(&self, path: &str, request: &Value) -> Result<(u16, Value)> {
        let review = json!({ "apiVersion": API_VERSION, "kind": KIND, "request": request });
        let (status, body) = self.connect()?.post(path, review.to_string().as_bytes())?;
        let answer = serde_json::from_slice(&body)
            .with_context(|| format!("{status}: {}", String::from_utf8_lossy(&body)))?;
        Ok((status, answer))
    }

    /// `/livez`, `/readyz` or `/metrics`: status and text.
    pub fn probe(&self, path: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.probes, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.0\r\nhost: probe\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
        let status = head.split(' ').nth(1).context("no status")?;
        Ok((status.parse()?, body.to_owned()))
    }

    /// The sum of a metric over all label sets that contain `label`, such as `webhook="gate"`.
    pub fn metric(&self, name: &str, label: &str) -> Result<f64> {
        let (_, text) = self.probe("/metrics")?;
        let lines = text
            .lines()
            .filter(|line| line.starts_with(name) && line.contains(label));
        Ok(lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }

    /// Waits until `/readyz` says yes.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let probes = self.probes;
        let ready = || {
            let Ok(mut stream) = TcpStream::connect(probes) else {
                return false;
            };
            let mut answer = String::new();
            let _ = write!(stream, "GET /readyz HTTP/1.0\r\n\r\n");
            stream.read_to_string(&mut answer).is_ok() && answer.contains(" 200 ")
        };
        let waited = self.server.wait_until(ready);
        waited.with_context(|| format!("/readyz: {:?}", self.probe("/readyz")))
    }

    /// Waits until each registered configuration has led the API server here. A ConfigMap in our own namespace does it,
    /// and is never stored.
    fn wait_until_asked(&self) -> Result<()> {
        let Some(registration) = &self.registration else {
            return Ok(());
        };
        let begun = Instant::now();
        let path = format!("/api/v1/namespaces/{}/configmaps?dryRun=All", self.namespace);
        let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "asked" } });
        loop {
            let (requests, path, object) = (self.requests.clone(), path.clone(), object.clone());
            runtime::run(async move { requests.exchange(Method::POST, &path, Some(&object)).await })?;
            let asked = |webhook: &&str| {
                let label = format!("webhook=\"{webhook}\"");
                self.metric("kubectl_backup_admission_duration_seconds_count", &label)
                    .is_ok_and(|count| count > 0.0)
            };
            if registration.probed().iter().all(asked) {
                return Ok(());
            }
            if begun.elapsed() > READY_WITHIN {
                bail!(
                    "the API server does not ask; the log ends with:\n{}",
                    self.server.log_tail()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// SIGTERM, without waiting.
    pub fn terminate(&self) -> Result<()> {
        process::signal(self.pid(), "TERM")
    }

    /// How it ended, if it did.
    pub fn exited(&mut self) -> Result<Option<std::process::ExitStatus>> {
        self.server.exited()
    }

    /// Kill -9.
    pub fn kill(&mut self) {
        self.server.stop();
    }

    fn get(&self, path: &str) -> Result<Option<Value>> {
        let (requests, path) = (self.requests.clone(), path.to_owned());
        runtime::run(async move { requests.value(Method::GET, &path, None).await })
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        // Before the server: an API server that asks nobody under `Fail` refuses everything.
        if let Some(registration) = &self.registration {
            registration.remove(&self.requests);
        }
    }
}

/// Our API objects' definitions, served when this returns.
pub fn install_crds(cluster: &Cluster) -> Result<()> {
    for (definition, path) in [
        (VolumeBackupPolicy::crd(), "volumebackuppolicies"),
        (StorageDisposition::crd(), "storagedispositions"),
    ] {
        cluster.apply(&serde_json::to_string(&definition)?)?;
        let path = format!("/apis/kubectl-backup.io/v1alpha1/{path}");
        cluster.wait_until(&format!("{path} to be served"), |cluster| {
            Ok(cluster.get(&path)?.is_some())
        })?;
    }
    Ok(())
}
