//! The processes of one control plane: etcd, the API server and, if asked for, the controllers.
//!
//! In come a folder and options, out come running servers that are ready. A port that somebody else took in the moment
//! between looking and starting shows as an early exit; the caller then tries again with other ports. In the room of a
//! node the same servers listen at the same port of another network, and a relay at that port of ours leads there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::certificates::{Authority, service_account_key};
use super::kubeconfig::{Credential, kubeconfig};
use super::ports::free_port;
use crate::node::Room;
use crate::process::Server;
use crate::runtime;
use crate::servers::{self, Program};

/// What a control plane is started with beyond the defaults.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) name: String,
    pub(super) controllers: bool,
    pub(super) apiserver_flags: Vec<String>,
    pub(super) room: Option<Arc<Room>>,
}

/// Files and addresses that stay the same over restarts of the processes.
pub(super) struct Site {
    folder: PathBuf,
    pub(super) authority: Authority,
    pub(super) port: u16,
    pub(super) etcd_port: u16,
    etcd_peer_port: u16,
    pub(super) kubeconfig: PathBuf,
    room: Option<Arc<Room>>,
}

/// The running processes.
pub(super) struct Processes {
    pub(super) etcd: Server,
    pub(super) apiserver: Server,
    pub(super) controller_manager: Option<Server>,
    /// The way into the room where they run, if they run in one.
    pub(super) _relay: Option<Server>,
}

impl Site {
    /// Writes certificates, tokens and the administrator's kubeconfig into `folder`.
    pub(super) fn prepare(folder: &Path, options: &Options) -> Result<Self> {
        let authority = Authority::new()?;
        let serving = authority.server()?;
        let (signing, checking) = service_account_key()?;
        let token = uuid::Uuid::new_v4().simple().to_string();
        let site = Self {
            folder: folder.to_owned(),
            port: free_port()?,
            etcd_port: free_port()?,
            etcd_peer_port: free_port()?,
            kubeconfig: folder.join("kubeconfig"),
            authority,
            room: options.room.clone(),
        };
        site.write("ca.crt", &site.authority.pem())?;
        site.write("apiserver.crt", &serving.certificate)?;
        site.write("apiserver.key", &serving.key)?;
        site.write("service-account.key", &signing)?;
        site.write("service-account.pub", &checking)?;
        site.write("tokens.csv", &format!("{token},admin,admin,system:masters\n"))?;
        let admin = Credential::Token(token);
        site.write(
            "kubeconfig",
            &kubeconfig(&options.name, &site.url(), &site.authority.pem(), "admin", admin),
        )?;
        Ok(site)
    }

    pub(super) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let file = self.folder.join(name);
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    fn command(&self, program: Program) -> Result<Command> {
        match &self.room {
            Some(room) => room.command(&servers::binary(program)?),
            None => servers::command(program),
        }
    }

    fn flag(&self, name: &str, file: &str) -> String {
        format!("--{name}={}", self.folder.join(file).display())
    }

    /// Starts everything and waits until the API server says that it is ready.
    pub(super) fn start(&self, options: &Options, client: &kube::Client) -> Result<Processes> {
        let relay = match &self.room {
            Some(room) => Some(room.relay_in(self.port)?),
            None => None,
        };
        let etcd = self.start_etcd()?;
        let apiserver = self.start_apiserver(options, client)?;
        let controller_manager = options
            .controllers
            .then(|| self.start_controller_manager())
            .transpose()?;
        Ok(Processes {
            etcd,
            apiserver,
            controller_manager,
            _relay: relay,
        })
    }

    fn start_etcd(&self) -> Result<Server> {
        let client = format!("http://127.0.0.1:{}", self.etcd_port);
        let peer = format!("http://127.0.0.1:{}", self.etcd_peer_port);
        let mut command = self.command(Program::Etcd)?;
        command.args([
            self.flag("data-dir", "etcd"),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            // Throwaway data need not survive a power cut, and 280,000 objects need more than the default 2 GiB.
            "--unsafe-no-fsync".to_owned(),
            "--quota-backend-bytes=8589934592".to_owned(),
            "--log-level=error".to_owned(),
        ]);
        Server::start("etcd", command, &self.folder.join("etcd.log"))
    }

    pub(super) fn start_apiserver(&self, options: &Options, client: &kube::Client) -> Result<Server> {
        let mut command = self.command(Program::KubeApiserver)?;
        command.args([
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.port),
            self.flag("tls-cert-file", "apiserver.crt"),
            self.flag("tls-private-key-file", "apiserver.key"),
            self.flag("client-ca-file", "ca.crt"),
            self.flag("token-auth-file", "tokens.csv"),
            self.flag("cert-dir", "generated"),
            "--authorization-mode=RBAC".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            self.flag("service-account-key-file", "service-account.pub"),
            self.flag("service-account-signing-key-file", "service-account.key"),
            "--service-cluster-ip-range=10.0.0.0/16".to_owned(),
            "--allow-privileged=true".to_owned(),
        ]);
        command.args(&options.apiserver_flags);
        let mut server = Server::start("kube-apiserver", command, &self.folder.join("kube-apiserver.log"))?;
        server.wait_until(|| is_ready(client))?;
        Ok(server)
    }

    pub(super) fn start_controller_manager(&self) -> Result<Server> {
        let mut command = self.command(Program::KubeControllerManager)?;
        command.args([
            self.flag("kubeconfig", "kubeconfig"),
            self.flag("service-account-private-key-file", "service-account.key"),
            self.flag("root-ca-file", "ca.crt"),
            "--use-service-account-credentials=true".to_owned(),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
            // Namespaces vanish and children are collected at the speed of the tests, not of a shared production server.
            "--kube-api-qps=1000".to_owned(),
            "--kube-api-burst=2000".to_owned(),
            "--concurrent-namespace-syncs=20".to_owned(),
            // Without metrics autoscalers only complain, and their events would never let a cluster come to rest.
            "--horizontal-pod-autoscaler-sync-period=24h".to_owned(),
        ]);
        Server::start(
            "kube-controller-manager",
            command,
            &self.folder.join("kube-controller-manager.log"),
        )
    }
}

/// Whether the API server behind this client calls itself ready.
fn is_ready(client: &kube::Client) -> bool {
    let client = client.clone();
    runtime::run(async move {
        let request = http::Request::get("/readyz").body(kube::client::Body::empty())?;
        let answer = tokio::time::timeout(Duration::from_secs(5), client.send(request)).await??;
        Ok(answer.status().is_success())
    })
    .unwrap_or(false)
}
