//! The built plugin, run as a user runs it.
//!
//! In come a cluster, a store and the words of a command line; out come exit code and output. Every run has a home of
//! its own and an environment with nothing in it but what is named here, so that a developer's own kubeconfig,
//! credentials and settings can neither help nor hurt a case.

mod binary;
mod run;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

pub use self::binary::{binary, binary_for, target_folder, webhook_binary};
pub use self::run::{Ran, Running};
use crate::cluster::Cluster;
use crate::process;
use crate::scratch::Scratch;
use crate::servers::{self, Program};
use crate::store::Store;

/// The plugin with a kubeconfig, a location and an empty home.
#[derive(Debug)]
pub struct Plugin {
    binary: PathBuf,
    home: Scratch,
    env: Vec<(String, String)>,
}

impl Plugin {
    /// The plugin as an administrator of `cluster`, with `store` as its location.
    pub fn new(cluster: &Cluster, store: &Store) -> Result<Self> {
        Self::bare()?
            .with_kubeconfig(cluster.kubeconfig())
            .map(|plugin| plugin.with_store(store))
    }

    /// The plugin with neither kubeconfig nor location.
    pub fn bare() -> Result<Self> {
        Self::of_binary(&binary()?)
    }

    /// Another build of the plugin, for instance an older one whose backups must stay readable.
    pub fn of_binary(binary: &Path) -> Result<Self> {
        Ok(Self {
            binary: binary.to_owned(),
            home: Scratch::new("home-")?,
            env: Vec::new(),
        })
    }

    /// With another kubeconfig.
    pub fn with_kubeconfig(self, kubeconfig: &Path) -> Result<Self> {
        let path = kubeconfig
            .to_str()
            .context("the kubeconfig's path is not UTF-8")?;
        Ok(self.with_env("KUBECONFIG", path))
    }

    /// With another store as its location.
    pub fn with_store(self, store: &Store) -> Self {
        let plugin = self.with_env("KUBECTL_BACKUP_LOCATION", &store.location_url());
        store
            .env()
            .into_iter()
            .fold(plugin, |plugin, (name, value)| plugin.with_env(&name, &value))
    }

    /// With one more environment variable, or another value for one.
    pub fn with_env(mut self, name: &str, value: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Its home folder.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Runs it to the end.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<Ran> {
        self.spawn(arguments)?.wait()
    }

    /// Runs it with `-o json` and gives the document; any exit code but 0 is an error.
    pub fn json<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<Value> {
        let arguments: Vec<_> = arguments
            .into_iter()
            .map(|argument| argument.as_ref().to_owned())
            .collect();
        let ran = self.run(
            arguments
                .iter()
                .map(AsRef::as_ref)
                .chain([OsStr::new("-o"), OsStr::new("json")]),
        )?;
        if ran.code != 0 {
            bail!("{ran}");
        }
        serde_json::from_str(&ran.stdout).with_context(|| format!("stdout is not one JSON document: {ran}"))
    }

    /// Starts it, for cases that interrupt or kill it.
    pub fn spawn<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<Running> {
        self.start(&self.binary, &[], arguments)
    }

    /// Starts it on a terminal of its own, as a person does. What it prints, on either stream, is the run's stdout.
    pub fn at_terminal<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<Running> {
        let script = process::on_path("script")
            .context("script is not installed, which gives a run its terminal: apt-get install bsdutils")?;
        let quoted = |word: &OsStr| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"));
        let words: Vec<String> = std::iter::once(quoted(self.binary.as_os_str()))
            .chain(arguments.into_iter().map(|word| quoted(word.as_ref())))
            .collect();
        let mut command = process::tied(&script)?;
        command
            .args(["--quiet", "--return", "--command"])
            .arg(words.join(" "))
            .arg("/dev/null");
        let said = format!("{command:?}");
        self.furnish(&mut command)?;
        command.stdin(Stdio::piped());
        Running::start(command, said)
    }

    /// Runs it as `kubectl backup ...` through the real kubectl, which finds it on the PATH.
    pub fn via_kubectl<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<Ran> {
        self.start(&servers::binary(Program::Kubectl)?, &["backup"], arguments)?
            .wait()
    }

    fn start<A: AsRef<OsStr>>(
        &self,
        program: &Path,
        first: &[&str],
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Running> {
        let mut command = process::tied(program)?;
        command.args(first).args(arguments);
        let said = format!("{command:?}");
        self.furnish(&mut command)?;
        Running::start(command, said)
    }

    fn furnish(&self, command: &mut Command) -> Result<()> {
        let own: PathBuf = self
            .binary
            .parent()
            .context("the plugin's binary lies in no folder")?
            .to_owned();
        let path = std::env::join_paths([own, "/usr/local/bin".into(), "/usr/bin".into(), "/bin".into()])?;
        command
            .env_clear()
            .current_dir(self.home.path())
            .env("PATH", path)
            .env("HOME", self.home.path())
            .env("NO_COLOR", "1")
            .env("LANG", "C.UTF-8")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(backtrace) = std::env::var_os("RUST_BACKTRACE") {
            command.env("RUST_BACKTRACE", backtrace);
        }
        Ok(())
    }
}
