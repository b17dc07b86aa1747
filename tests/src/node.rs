//! A whole node beside the test: a control plane with scheduler, containerd, kubelet and kube-proxy, so that pods run.
//!
//! Everything lives in namespaces of its own (`room.rs`), touches no network but its own and leaves nothing behind.
//! A [`Node`] holds a [`Cluster`] that works as any other one does, with the same URL inside and outside: a relay listens
//! at the API server's port on our loopback. Callers may rely on a node that is Ready, on the images [`BUSYBOX`] and
//! whatever they import, on files below [`Node::folder`] having the same path for pods (`hostPath`) and for the test,
//! and on pods that reach a server of the test after [`Node::lets_pods_reach`]. There is no DNS in the cluster.

mod container_runtime;
mod kubelet;
mod room;

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result, anyhow, bail, ensure};

pub(crate) use self::room::Room;
use crate::cluster::{Cluster, ClusterBuilder};
use crate::image::Image;
use crate::process::Server;
use crate::scratch::Scratch;
use crate::servers::{self, Program};

/// The node's name.
pub const NAME: &str = "node";
/// The node's address, for pods and for the API server.
pub const NODE_ADDRESS: &str = "10.99.0.1";
/// An image with a shell and the usual small programs, and its registry nowhere: `imagePullPolicy` must not be `Always`.
pub const BUSYBOX: &str = "localhost/busybox:1";

/// A control plane with one node. Dropping it ends all its pods.
pub struct Node {
    // Dropped in this order: who starts containers, then the API server, then whatever still runs.
    machine: Mutex<Vec<Server>>,
    servers: Mutex<Vec<Server>>,
    cluster: Cluster,
    room: Arc<Room>,
    folder: Scratch,
}

impl Node {
    /// Whether a node can start here.
    ///
    /// # Errors
    /// What is missing, with the line that installs it.
    pub fn can_start() -> Result<()> {
        room::refuse_what_cannot_work()?;
        busybox().map(drop)
    }

    /// A node of its own, Ready.
    pub fn start() -> Result<Self> {
        Self::with(Cluster::builder())
    }

    /// A node with a control plane that is configured, for instance by flags of the API server.
    pub fn with(cluster: ClusterBuilder) -> Result<Self> {
        // Builds print their own progress and must not count as a slow start.
        for program in [Program::KubeScheduler, Program::Kubelet] {
            servers::binary(program)?;
        }
        let folder = Scratch::new("node-")?;
        let room = Arc::new(Room::new(folder.path())?);
        let containerd = container_runtime::start(&room, folder.path())?;
        container_runtime::import(&room, &busybox()?, folder.path())?;
        let cluster = cluster
            .apiserver_flag("--bind-address=0.0.0.0")
            .apiserver_flag(&format!("--advertise-address={NODE_ADDRESS}"))
            // Else exec and logs try to resolve the node's name.
            .apiserver_flag("--kubelet-preferred-address-types=InternalIP")
            .room(Arc::clone(&room))
            .start()?;
        let servers = vec![
            kubelet::start_scheduler(&room, cluster.kubeconfig())?,
            kubelet::start_proxy(&room, cluster.kubeconfig())?,
        ];
        let machine = vec![
            kubelet::start_kubelet(&room, folder.path(), cluster.kubeconfig())?,
            containerd,
        ];
        let node = Self {
            machine: Mutex::new(machine),
            servers: Mutex::new(servers),
            cluster,
            room,
            folder,
        };
        node.wait_until_ready()?;
        Ok(node)
    }

    /// The node that all cases of this test binary share, each in namespaces of its own.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<Node, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| Self::start().map_err(|error| format!("{error:#}")));
        shared
            .as_ref()
            .map_err(|error| anyhow!("the shared node did not start: {error}"))
    }

    /// Its control plane.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// A folder for volumes and other files that pods and the test see under the same path.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The kubelet's folder as seen from outside: below it lie the files of `emptyDir` volumes, for instance, but nothing
    /// that the kubelet has mounted. Pods see it as `/var/lib/kubelet`.
    pub fn kubelet_folder(&self) -> PathBuf {
        self.folder.join("kubelet")
    }

    /// The name of the cgroup that holds all its pods.
    pub fn cgroup(&self) -> String {
        self.room.cgroup()
    }

    /// Makes an image known to the node, under the names that it has.
    pub fn import(&self, image: &Image) -> Result<()> {
        container_runtime::import(&self.room, image, self.folder.path())
    }

    /// Makes the images of an archive (`docker save`, OCI) known to the node.
    pub fn import_archive(&self, archive: &Path) -> Result<()> {
        container_runtime::import_archive(&self.room, archive)
    }

    /// Lets pods reach a server that listens on our loopback, and gives its address for them.
    pub fn lets_pods_reach(&self, port: u16) -> Result<String> {
        let relays = self.room.relay_out(port)?;
        self.servers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(relays);
        Ok(format!("{NODE_ADDRESS}:{port}"))
    }

    /// The machine goes down as in a power cut, with all its pods, and comes up again; the control plane stays.
    pub fn restart(&self) -> Result<()> {
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        machine.clear();
        self.room.kill_pods()?;
        let folder = self.folder.path();
        let containerd = container_runtime::start(&self.room, folder)?;
        *machine = vec![
            kubelet::start_kubelet(&self.room, folder, self.cluster.kubeconfig())?,
            containerd,
        ];
        drop(machine);
        self.wait_until_ready()
    }

    /// Runs a program of this machine where the node is, with its network, mounts and processes.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        self.room.run(program, arguments)
    }

    /// Waits until a Deployment is rolled out; its pods' states and events are in the error.
    pub fn wait_for_deployment(&self, namespace: &str, name: &str) -> Result<()> {
        let rollout = format!("deployment/{name}");
        let waited =
            self.cluster
                .kubectl_ok(&["rollout", "status", &rollout, "-n", namespace, "--timeout=120s"]);
        waited.map(drop).with_context(|| self.state_of(namespace))
    }

    /// Pods, their logs and the events of a namespace, for error messages.
    pub fn state_of(&self, namespace: &str) -> String {
        let pods = self
            .cluster
            .kubectl_ok(&["get", "pods", "-n", namespace, "-o", "wide"]);
        let events = self.cluster.kubectl_ok(&["get", "events", "-n", namespace]);
        let names = self
            .cluster
            .kubectl_ok(&["get", "pods", "-n", namespace, "-o", "name"]);
        let mut logs = String::new();
        for pod in names.unwrap_or_default().lines() {
            let log = self
                .cluster
                .kubectl(&["logs", "-n", namespace, pod, "--tail=30", "--all-containers"]);
            let log = log.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            logs.extend([pod, ":\n", &log.unwrap_or_default()]);
        }
        let said = [pods, events].map(|said| said.unwrap_or_else(|error| format!("{error:#}\n")));
        format!("{}{logs}", said.concat())
    }

    fn wait_until_ready(&self) -> Result<()> {
        let path = format!("/api/v1/nodes/{NAME}");
        let ready = self.cluster.wait_until("the node to be Ready", |cluster| {
            let node = cluster.get(&path)?.unwrap_or_default();
            let conditions = node
                .pointer("/status/conditions")
                .and_then(|value| value.as_array());
            Ok(conditions.into_iter().flatten().any(|condition| {
                condition.get("type").is_some_and(|kind| kind == "Ready")
                    && condition.get("status").is_some_and(|status| status == "True")
            }))
        });
        if let Err(error) = ready {
            let locked = [&self.machine, &self.servers]
                .map(|servers| servers.lock().unwrap_or_else(PoisonError::into_inner));
            let tails: Vec<String> = locked
                .iter()
                .flat_map(|servers| servers.iter().map(Server::log_tail))
                .collect();
            bail!("{error:#}\n{}", tails.join("\n"));
        }
        Ok(())
    }
}

/// Debian's static busybox as an image that also serves as the pause container of every pod.
fn busybox() -> Result<Image> {
    // As first process of a pod it must end when it is told to.
    Ok(with_busybox(&[BUSYBOX, container_runtime::PAUSE])?.command(&[
        "/bin/sh",
        "-c",
        "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done",
    ]))
}

/// An image with Debian's static busybox and nothing else yet.
pub fn with_busybox(names: &[&str]) -> Result<Image> {
    const COMMANDS: [&str; 22] = [
        "cat",
        "chmod",
        "cp",
        "cut",
        "date",
        "dd",
        "echo",
        "env",
        "find",
        "grep",
        "head",
        "httpd",
        "id",
        "ln",
        "ls",
        "mkdir",
        "nc",
        "sh",
        "sha256sum",
        "sleep",
        "tar",
        "wget",
    ];
    let file = Path::new("/bin/busybox");
    let program = std::fs::read(file).with_context(|| {
        format!(
            "{}: a node cannot start here: apt-get install busybox-static",
            file.display()
        )
    })?;
    // Debian's package busybox has a file of that name too, which wants libraries: its head names their loader.
    let (head, loader) = (program.get(..4096).unwrap_or_default(), b"ld-linux");
    ensure!(
        !head.windows(loader.len()).any(|bytes| bytes == loader),
        "{} is linked dynamically; a node cannot start here: apt-get install busybox-static",
        file.display()
    );
    let image = Image::new(names)
        .file("bin/busybox", 0o755, program)
        .directory("tmp", 0o1777)
        .environment("PATH", "/bin");
    Ok(COMMANDS
        .iter()
        .fold(image, |image, name| image.link(&format!("bin/{name}"), "busybox")))
}
