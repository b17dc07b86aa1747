//! A real control plane on loopback: etcd, kube-apiserver and kube-controller-manager.
//!
//! [`Cluster::start`] gives one of its own, [`Cluster::shared`] the one that all cases of a test binary use, each in
//! namespaces of its own ([`Cluster::namespace`]). Without kubelets nothing runs in pods; everything else behaves as in
//! production. Callers may rely on a ready API server, and on nothing being left when the process ends.

mod certificates;
mod control_plane;
mod etcd;
mod kubeconfig;
mod objects;
mod person;
mod ports;

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};

use self::control_plane::{Options, Processes, Site};
use self::kubeconfig::Credential;
pub(crate) use self::objects::Requests;
pub use self::person::{Answer, Person};
pub use self::{kubeconfig::base64, ports::free_port};
use crate::node::Room;
use crate::process;
use crate::runtime;
use crate::scratch::Scratch;
use crate::servers::{self, Program};

/// A running control plane.
pub struct Cluster {
    // Dropped in this order: servers before the folder they write to.
    processes: Mutex<Processes>,
    site: Site,
    options: Options,
    requests: Requests,
    folder: Scratch,
}

/// How a control plane is started.
#[derive(Debug, Clone)]
pub struct ClusterBuilder {
    options: Options,
}

impl ClusterBuilder {
    /// Whether kube-controller-manager runs too (default: yes). Without it the API server changes nothing by itself.
    pub fn controllers(mut self, controllers: bool) -> Self {
        self.options.controllers = controllers;
        self
    }

    /// The name of context and cluster in kubeconfigs (default: `test`).
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.options.name);
        self
    }

    /// One more flag for kube-apiserver.
    pub fn apiserver_flag(mut self, flag: &str) -> Self {
        self.options.apiserver_flags.push(flag.to_owned());
        self
    }

    /// Inside the namespaces of a node.
    pub(crate) fn room(mut self, room: Arc<Room>) -> Self {
        self.options.room = Some(room);
        self
    }

    /// Starts it and waits until it is ready.
    pub fn start(self) -> Result<Cluster> {
        // Builds print their own progress and must not count as a slow start.
        for program in [
            Program::Etcd,
            Program::KubeApiserver,
            Program::KubeControllerManager,
        ] {
            servers::binary(program)?;
        }
        let mut last = anyhow!("not tried");
        for _ in 0..3 {
            match Cluster::try_start(self.options.clone()) {
                Ok(cluster) => return Ok(cluster),
                Err(error) if format!("{error:#}").contains("address already in use") => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }
}

impl Cluster {
    /// A control plane with controllers and nothing special.
    pub fn start() -> Result<Self> {
        Self::builder().start()
    }

    /// A control plane to be configured.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder {
            options: Options {
                name: "test".to_owned(),
                controllers: true,
                apiserver_flags: Vec::new(),
                room: None,
            },
        }
    }

    /// The control plane that all cases of this test binary share.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<Cluster, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| Self::start().map_err(|error| format!("{error:#}")));
        shared
            .as_ref()
            .map_err(|error| anyhow!("the shared cluster did not start: {error}"))
    }

    fn try_start(options: Options) -> Result<Self> {
        let folder = Scratch::new("cluster-")?;
        let site = Site::prepare(folder.path(), &options)?;
        let client = client_from(&site.kubeconfig)?;
        let processes = site.start(&options, &client)?;
        let requests = Requests::new(client);
        let cluster = Self {
            processes: Mutex::new(processes),
            site,
            options,
            requests,
            folder,
        };
        cluster.wait_for_default_namespace()?;
        Ok(cluster)
    }

    /// The API server is ready a moment before its start-up hooks have made the namespaces that every case relies on.
    fn wait_for_default_namespace(&self) -> Result<()> {
        let path = if self.options.controllers {
            "/api/v1/namespaces/default/serviceaccounts/default"
        } else {
            "/api/v1/namespaces/default"
        };
        self.wait_until(&format!("{path} to be there"), |cluster| {
            Ok(cluster.get(path)?.is_some())
        })
    }

    /// The API server's address.
    pub fn api_url(&self) -> String {
        self.site.url()
    }

    /// The name of context and cluster in its kubeconfigs.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// A kubeconfig file for an administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.site.kubeconfig
    }

    /// A kubeconfig file for any user, who may do nothing until roles are bound to that name.
    pub fn kubeconfig_as(&self, user: &str) -> Result<PathBuf> {
        let identity = self.site.authority.client(user)?;
        let credential = Credential::Certificate(identity);
        let authority = self.site.authority.pem();
        let text = kubeconfig::kubeconfig(&self.options.name, &self.site.url(), &authority, user, credential);
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let file = self.folder.join(&format!("kubeconfig-{}", &unique[..8]));
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }

    /// A client for an administrator. Each call gives a new one, since connections belong to a runtime.
    pub fn client(&self) -> Result<kube::Client> {
        client_from(&self.site.kubeconfig)
    }

    pub(crate) fn requests(&self) -> Requests {
        self.requests.clone()
    }

    /// A folder of this cluster for files of the caller.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The process ids of its servers.
    pub fn pids(&self) -> Vec<u32> {
        let processes = self.processes();
        let controllers = processes.controller_manager.as_ref().map(process::Server::pid);
        [processes.etcd.pid(), processes.apiserver.pid()]
            .into_iter()
            .chain(controllers)
            .collect()
    }

    /// Runs kubectl as administrator.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<Output> {
        self.kubectl_with_input(arguments, None)
    }

    /// Runs kubectl as administrator and gives what it printed; a refusal is an error.
    pub fn kubectl_ok(&self, arguments: &[&str]) -> Result<String> {
        printed(arguments, &self.kubectl(arguments)?)
    }

    fn kubectl_with_input(&self, arguments: &[&str], input: Option<&Path>) -> Result<Output> {
        let mut command = servers::command(Program::Kubectl)?;
        command
            .arg("--kubeconfig")
            .arg(&self.site.kubeconfig)
            // Discovery caches of different clusters on one port must not meet.
            .arg("--cache-dir")
            .arg(self.folder.join("kubectl-cache"))
            .args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        match input {
            Some(file) => command.stdin(std::fs::File::open(file)?),
            None => command.stdin(Stdio::null()),
        };
        Ok(process::spawn(command)?.wait_with_output()?)
    }

    /// Applies YAML documents with kubectl.
    pub fn apply(&self, yaml: &str) -> Result<()> {
        let file = tempfile::NamedTempFile::new_in(self.folder.path())?;
        std::fs::write(file.path(), yaml)?;
        let arguments = ["apply", "-f", "-"];
        printed(
            &arguments,
            &self.kubectl_with_input(&arguments, Some(file.path()))?,
        )
        .map(drop)
    }

    /// Stops the API server by kill -9 and starts it again at the same address.
    pub fn restart_apiserver(&self) -> Result<()> {
        let mut processes = self.processes();
        processes.apiserver.stop();
        processes.apiserver = self
            .site
            .start_apiserver(&self.options, &client_from(&self.site.kubeconfig)?)?;
        Ok(())
    }

    /// Starts the controllers of a cluster that was started without.
    pub fn start_controllers(&self) -> Result<()> {
        let mut processes = self.processes();
        if processes.controller_manager.is_none() {
            processes.controller_manager = Some(self.site.start_controller_manager()?);
        }
        Ok(())
    }

    /// Stops all its servers; what was stored is lost with it.
    pub fn stop(self) {
        drop(self);
    }

    /// A fresh namespace that goes away in the background when the value is dropped.
    pub fn namespace(&self) -> Result<Namespace> {
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("case-{}", &unique[..8]);
        self.create(
            serde_json::json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }),
        )?;
        Ok(Namespace {
            name,
            requests: self.requests.clone(),
        })
    }

    /// The ends of the servers' logs.
    pub fn log_tails(&self) -> String {
        let logs = ["etcd.log", "kube-apiserver.log", "kube-controller-manager.log"];
        let tail = |log: &&str| format!("{log}:\n{}\n", process::tail(&self.folder.join(log), 10));
        logs.iter().map(tail).collect()
    }

    fn processes(&self) -> MutexGuard<'_, Processes> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A namespace of one case.
pub struct Namespace {
    name: String,
    requests: Requests,
}

impl Namespace {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl std::fmt::Display for Namespace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let (requests, path) = (self.requests.clone(), format!("/api/v1/namespaces/{}", self.name));
        if let Ok(runtime) = runtime::runtime() {
            runtime.spawn(async move {
                let _ = requests.value(http::Method::DELETE, &path, None).await;
            });
        }
    }
}

/// A client for the current context of a kubeconfig file. It repeats nothing by itself: a repeated POST would hide what
/// the server did.
pub fn client_from(kubeconfig: &Path) -> Result<kube::Client> {
    let config = Kubeconfig::read_from(kubeconfig)?;
    runtime::run(async move {
        let mut config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
        config.default_retry = false;
        config.read_timeout = Some(Duration::from_mins(2));
        config.proxy_url = None;
        Ok(kube::Client::try_from(config)?)
    })
}

fn printed(arguments: &[&str], output: &Output) -> Result<String> {
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "kubectl {} ended with {}:\n{said}",
            arguments.join(" "),
            output.status
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
