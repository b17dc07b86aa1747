//! Namespaces of network, mounts and processes in which a node believes to have a machine for itself.
//!
//! In comes an empty folder, out comes a [`Room`]: programs started in it see their own network, `/run`, `/var/lib` and
//! `/var/log`, and the files of this machine otherwise. Everything in a room dies with its first process, which dies with
//! the process that made the room, however that ends; a sweeper then removes the cgroups, which the kernel keeps.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::NODE_ADDRESS;
use crate::process::{self, Server};
use crate::servers::{self, Program};

/// Files that a node cannot do without, and the Debian package of each.
const NEEDED: [(&str, &str); 9] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("/usr/lib/cni/ptp", "containernetworking-plugins"),
    ("/usr/lib/cni/portmap", "containernetworking-plugins"),
];

/// Removes the cgroups `$1` once its standard input ends; what dies at the same moment still holds them for a while.
const SWEEPER: &str = "trap '' INT TERM HUP; read -r _; for _ in $(seq 100); do left=; \
     for folder in /sys/fs/cgroup/\"$1\" /sys/fs/cgroup/*/\"$1\"; do [ -d \"$folder\" ] || continue; \
     find \"$folder\" -depth -type d -exec rmdir {} + 2>/dev/null || left=1; done; \
     [ -z \"$left\" ] && exit; sleep 0.1; done";

/// Namespaces with a first process.
#[derive(Debug)]
pub(crate) struct Room {
    first: u32,
    holder: Server,
    folder: PathBuf,
    cgroup: String,
    sweeper: Child,
}

impl Room {
    /// Makes one whose files lie in `folder`.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        refuse_what_cannot_work()?;
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let cgroup = format!("kubectl-backup-tests-{}", &unique[..8]);
        let sweeper = Command::new("/bin/sh")
            .args(["-c", SWEEPER, "sweeper", &cgroup])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("/bin/sh does not start")?;
        let script = folder.join("room.sh");
        std::fs::write(&script, include_str!("room.sh"))?;
        let mut command = process::tied(&process::on_path("unshare").context("unshare is not installed")?)?;
        command
            .args([
                "--net",
                "--mount",
                "--pid",
                "--fork",
                "--mount-proc",
                "--kill-child",
                "/bin/sh",
            ])
            .arg(&script)
            .arg(folder)
            .arg(&cgroup)
            .current_dir("/");
        let mut holder = Server::start("the namespaces of a node", command, &folder.join("room.log"))?;
        let ready = folder.join("ready");
        holder.wait_until(|| ready.is_file())?;
        let first = process::children(holder.pid());
        Ok(Self {
            first: *first
                .first()
                .context("the namespaces of a node have no first process")?,
            holder,
            folder: folder.to_owned(),
            cgroup,
            sweeper,
        })
    }

    /// The cgroup of all its pods, as a path that begins at the root of a hierarchy.
    pub(super) fn cgroup(&self) -> String {
        format!("/{}", self.cgroup)
    }

    /// Whether layers of images are overlaid or copied: `overlayfs` or `native`.
    pub(super) fn snapshotter(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.folder.join("snapshotter"))?
            .trim()
            .to_owned())
    }

    /// A command for a program in the room, to be started by [`process::spawn`]; it dies with whoever starts it.
    pub(crate) fn command(&self, program: &Path) -> Result<Command> {
        let nsenter = process::on_path("nsenter").context("nsenter is not installed")?;
        let setpriv = process::on_path("setpriv").context("setpriv is not installed")?;
        let mut command = process::tied(&nsenter)?;
        command
            .args([
                "--target",
                &self.first.to_string(),
                "--net",
                "--mount",
                "--pid",
                "--wd",
                "--",
            ])
            .arg(setpriv)
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            // /tmp is the machine's and read-only in here.
            .env("TMPDIR", "/run");
        Ok(command)
    }

    /// Runs a program of the PATH in the room to its end.
    pub(super) fn run(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        let file = process::on_path(program).with_context(|| format!("{program} is not installed"))?;
        let mut command = self.command(&file)?;
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(process::spawn(command)?.wait_with_output()?)
    }

    /// Kills all pods and whoever watches over them.
    pub(super) fn kill_pods(&self) -> Result<()> {
        // Whoever watches first, since they would tell; and again until none is left, since they fork.
        const SCRIPT: &str = "for _ in $(seq 200); do left=; for process in /proc/[0-9]*; do \
             if grep -q containerd-shim \"$process/comm\" 2>/dev/null || grep -q \"$1\" \"$process/cgroup\" 2>/dev/null; then \
             kill -KILL \"${process#/proc/}\" 2>/dev/null && left=1; fi; done; [ -z \"$left\" ] && exit; sleep 0.05; done; exit 1";
        let output = self.run("sh", &["-c", SCRIPT, "sh", &self.cgroup])?;
        ensure!(
            output.status.success(),
            "pods of the node cannot be killed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Starts a server in the room; `log` is its name.
    pub(super) fn start(&self, name: &str, command: Command) -> Result<Server> {
        Server::start(name, command, &self.folder.join(format!("{name}.log")))
    }

    /// Leads connections to a port of our loopback to the same port of the room's loopback.
    pub(crate) fn relay_in(&self, port: u16) -> Result<Server> {
        // The socket stays in the network where it was made, whoever accepts from it.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .with_context(|| format!("127.0.0.1:{port}: address already in use"))?;
        let mut command = self.command(&servers::binary(Program::Relay)?)?;
        command.args(["stdin".to_owned(), format!("tcp:127.0.0.1:{port}")]);
        let log = self.folder.join(format!("relay-in-{port}.log"));
        Server::start_with_input("relay", command, OwnedFd::from(listener).into(), &log)
    }

    /// Leads connections to a port of the node's address to the same port of our loopback, by two relays that meet at a
    /// socket in the file system.
    pub(super) fn relay_out(&self, port: u16) -> Result<[Server; 2]> {
        let socket = self.folder.join(format!("out-{port}"));
        let between = format!("unix:{}", socket.display());
        let mut near = servers::command(Program::Relay)?;
        near.args([between.clone(), format!("tcp:127.0.0.1:{port}")]);
        let mut far = self.command(&servers::binary(Program::Relay)?)?;
        far.args([format!("tcp:{NODE_ADDRESS}:{port}"), between]);
        let mut near = self.start(&format!("relay-near-{port}"), near)?;
        near.wait_until(|| socket.exists())?;
        let mut far = self.start(&format!("relay-far-{port}"), far)?;
        let port_in_hex = format!(":{port:04X}");
        far.wait_until(|| self.listens_at(&port_in_hex))?;
        Ok([near, far])
    }

    fn listens_at(&self, port_in_hex: &str) -> bool {
        let sockets = std::fs::read_to_string(format!("/proc/{}/net/tcp", self.first)).unwrap_or_default();
        sockets.lines().any(|line| {
            let mut words = line.split_whitespace().skip(1);
            let is_there = words.next().is_some_and(|local| local.ends_with(port_in_hex));
            // 0A is the state of a socket that listens.
            is_there && words.nth(1) == Some("0A")
        })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.holder.stop();
        // The first process is gone only after all others are.
        let deadline = Instant::now() + Duration::from_secs(20);
        while process::is_alive(self.first) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(self.sweeper.stdin.take());
        let _ = self.sweeper.wait();
    }
}

/// The two things that a machine may lack, each with what to do about it.
pub(super) fn refuse_what_cannot_work() -> Result<()> {
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(file, _)| {
            let is_there = if file.starts_with('/') {
                Path::new(file).is_file()
            } else {
                process::on_path(file).is_some()
            };
            !is_there
        })
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty() {
        bail!("a node cannot start here: apt-get install {}", missing.join(" "));
    }
    ensure!(
        std::fs::metadata("/proc/self")?.uid() == 0,
        "a node cannot start here: it makes namespaces, mounts and cgroups, which takes root"
    );
    Ok(())
}
