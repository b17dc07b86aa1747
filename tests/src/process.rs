//! Servers as child processes that cannot outlive the test.
//!
//! A child is started through `setpriv --pdeathsig KILL`, so the kernel kills it when the process that started it goes,
//! also by a panic or by kill -9. The kernel means the *thread* that started it, therefore one thread starts all
//! children and stays parked for the life of the process. What a server prints goes to a file, whose end is shown when
//! the server does not become ready.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long anything may take to become ready on a slow machine.
pub const READY_WITHIN: Duration = Duration::from_mins(2);

type Started = std::io::Result<Child>;
type Starter = mpsc::Sender<(Command, mpsc::SyncSender<Started>)>;

static STARTER: LazyLock<Starter> = LazyLock::new(|| {
    let (sender, receiver) = mpsc::channel::<(Command, mpsc::SyncSender<Started>)>();
    std::thread::spawn(move || {
        for (mut command, reply) in receiver {
            let _ = reply.send(command.spawn());
        }
    });
    sender
});

/// A command for `program` that dies with this process once it is started by [`spawn`].
pub fn tied(program: &Path) -> Result<Command> {
    let Some(setpriv) = on_path("setpriv") else {
        bail!(
            "setpriv is not installed; without it servers would outlive the tests: apt-get install util-linux"
        );
    };
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    Ok(command)
}

/// Starts a command on the thread that lives as long as the process.
pub fn spawn(command: Command) -> Result<Child> {
    let program = format!("{command:?}");
    let (reply, started) = mpsc::sync_channel(1);
    STARTER
        .send((command, reply))
        .context("the thread that starts processes is gone")?;
    started
        .recv()
        .context("the thread that starts processes is gone")?
        .with_context(|| format!("{program} does not start"))
}

/// Sends a signal by name (`INT`, `TERM`, `KILL`, `STOP`, `CONT`) to one process.
pub fn signal(pid: u32, name: &str) -> Result<()> {
    let status = Command::new("/bin/sh")
        .args(["-c", "kill -\"$1\" \"$2\"", "kill", name, &pid.to_string()])
        .stderr(Stdio::null())
        .status()
        .context("/bin/sh does not start")?;
    if !status.success() {
        bail!("no process {pid} to send SIG{name} to");
    }
    Ok(())
}

/// Whether a process with this id exists and is not a zombie.
pub fn is_alive(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.trim_start().starts_with(['Z', 'X']))
}

/// The process ids of a process's children.
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let parent =
        |stat: &str| -> Option<u32> { stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok() };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|id| {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            parent(&stat) == Some(pid)
        })
        .collect()
}

/// The largest resident size of a process so far, in bytes; 0 when it is gone.
pub fn peak_memory(pid: u32) -> u64 {
    status(pid, "VmHWM:")
}

/// The resident size of a process now, in bytes; 0 when it is gone.
pub fn memory(pid: u32) -> u64 {
    status(pid, "VmRSS:")
}

fn status(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kilobytes = status.lines().find_map(|line| {
        line.strip_prefix(field)?
            .trim()
            .strip_suffix(" kB")?
            .parse::<u64>()
            .ok()
    });
    kilobytes.unwrap_or_default() * 1024
}

/// The first file of this name on the PATH or in the usual system folders.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// A server that runs until it is stopped, dropped, or this process ends.
#[derive(Debug)]
pub struct Server {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts `command` (made by [`tied`]) with its output appended to `log`.
    pub fn start(name: &str, command: Command, log: &Path) -> Result<Self> {
        Self::start_with_input(name, command, Stdio::null(), log)
    }

    /// As [`Server::start`], with something on its standard input, such as a socket to listen on.
    pub fn start_with_input(name: &str, mut command: Command, input: Stdio, log: &Path) -> Result<Self> {
        let open = || -> Result<File> {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(log)
                .with_context(|| format!("cannot write {}", log.display()))
        };
        command.stdin(input).stdout(open()?).stderr(open()?);
        let child = spawn(command)?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("cannot ask after {}", self.name))
    }

    /// Kills it and what it has started, and waits until they are gone.
    pub fn stop(&mut self) {
        // Who entered a namespace of processes is the parent of the server proper, not the server.
        let children = children(self.pid());
        let _ = self.child.kill();
        let _ = self.child.wait();
        for child in &children {
            let _ = signal(*child, "KILL");
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while children.iter().any(|child| is_alive(*child)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks it to end by SIGTERM and kills it if it has not after `grace`.
    pub fn terminate(&mut self, grace: Duration) -> Result<()> {
        if self.exited()?.is_none() {
            signal(self.pid(), "TERM")?;
            let deadline = Instant::now() + grace;
            while self.exited()?.is_none() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        self.stop();
        Ok(())
    }

    /// Waits until `ready` says so; an early exit or a passed deadline is an error that ends with the log's tail.
    pub fn wait_until(&mut self, mut ready: impl FnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if ready() {
                return Ok(());
            }
            if let Some(status) = self.exited()? {
                bail!(
                    "{} ended before it was ready ({status}); its log ends with:\n{}",
                    self.name,
                    self.log_tail()
                );
            }
            if Instant::now() > deadline {
                let seconds = READY_WITHIN.as_secs();
                bail!(
                    "{} is not ready after {seconds} s; its log ends with:\n{}",
                    self.name,
                    self.log_tail()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The last lines that it printed.
    pub fn log_tail(&self) -> String {
        tail(&self.log, 30)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The last `lines` lines of a file, or why it cannot be read.
pub fn tail(file: &Path, lines: usize) -> String {
    match std::fs::read(file) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("({} cannot be read: {error})", file.display()),
    }
}
