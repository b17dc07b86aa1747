//! The two programs that are measured: our mover, as a pod runs it, and restic.
//!
//! In come a store, a folder and what is to be done; out come the time from start to end and the largest memory of the
//! process. A mover is given its request as a frame on its standard input, with the location to be used directly.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::plugin;
use crate::process;
use crate::store::Store;

/// Namespace whose repository it is.
const NAMESPACE: &str = "bench";

const PASSWORD: &str = "correct horse battery staple";

/// The file by which a mover says in its pod that it works; here it is litter.
const AT_WORK: &str = "/tmp/at-work";

/// What a run took.
#[derive(Debug, Clone)]
pub(super) struct Took {
    /// From start to end.
    pub(super) time: Duration,
    /// VmHWM in bytes.
    pub(super) peak: u64,
    /// What was said at its end.
    pub(super) report: Value,
}

/// A place for repositories below a prefix of a store.
pub(super) struct Place<'a> {
    store: &'a Store,
    prefix: String,
}

impl<'a> Place<'a> {
    pub(super) fn new(store: &'a Store, prefix: &str) -> Result<Self> {
        if store.endpoint().is_none() {
            std::fs::create_dir(store.path().join(prefix))?;
        }
        Ok(Self {
            store,
            prefix: prefix.to_owned(),
        })
    }

    /// Removes what lies there.
    pub(super) fn clear(self) -> Result<()> {
        Ok(std::fs::remove_dir_all(self.store.path().join(&self.prefix))?)
    }

    fn credentials(&self) -> Option<String> {
        let env = self.store.env();
        let value = |name: &str| {
            env.iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value)
        };
        Some(format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            value("AWS_ACCESS_KEY_ID")?,
            value("AWS_SECRET_ACCESS_KEY")?
        ))
    }

    /// Backs a folder up with a mover.
    pub(super) fn back_up(&self, folder: &Path, volume: &str) -> Result<Took> {
        let tags = json!({ "ns": NAMESPACE, "volume": volume, "pvc-uid": volume, "backup": "bench" });
        self.mover(json!({ "work": "backUp", "folder": folder, "tags": tags }))
    }

    /// Restores a snapshot with a mover.
    pub(super) fn restore(&self, snapshot: &str, folder: &Path) -> Result<Took> {
        self.mover(json!({ "work": "restore", "folder": folder, "snapshot": snapshot, "delete": false }))
    }

    fn mover(&self, mut request: Value) -> Result<Took> {
        request["frame"] = "request".into();
        request["repository"] = NAMESPACE.into();
        request["password"] = PASSWORD.into();
        request["location"] = self.store.location_url_with_prefix(&self.prefix).into();
        if let Some(text) = self.credentials() {
            request["credentials"] = text.into();
        }
        let mut command = process::tied(&plugin::binary()?)?;
        command
            .args(["mover", "run"])
            .env_clear()
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let began = Instant::now();
        let mut child = process::spawn(command)?;
        let mut to = child.stdin.take().context("no standard input")?;
        let head = request.to_string();
        to.write_all(&u32::try_from(head.len())?.to_be_bytes())?;
        to.write_all(head.as_bytes())?;
        to.write_all(&[0; 4])?;
        to.flush()?;
        let from = child.stdout.take().context("no standard output")?;
        let reports = std::thread::spawn(move || last_report(from));
        let (time, peak, is_ok) = watch(child, began)?;
        // It ends when nobody is at the other end any more.
        drop(to);
        let _ = std::fs::remove_file(AT_WORK);
        let report = reports
            .join()
            .map_err(|_| anyhow::anyhow!("the reader of reports panicked"))??;
        ensure!(is_ok, "the mover failed: {report}");
        Ok(Took { time, peak, report })
    }

    fn restic_repository(&self) -> String {
        match (self.store.endpoint(), self.store.bucket()) {
            (Some(endpoint), Some(bucket)) => format!("s3:{endpoint}/{bucket}/{}", self.prefix),
            _ => self.store.path().join(&self.prefix).display().to_string(),
        }
    }

    /// Runs restic, with a cache of its own as it has by default.
    pub(super) fn restic(&self, cache: &Path, arguments: &[&str]) -> Result<Took> {
        let restic: PathBuf = process::on_path("restic").context("apt-get install restic")?;
        let mut command: Command = process::tied(&restic)?;
        command
            .arg("--cache-dir")
            .arg(cache)
            .arg("--repo")
            .arg(self.restic_repository())
            .args(arguments)
            .env("RESTIC_PASSWORD", PASSWORD)
            .envs(self.store.env())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit());
        let began = Instant::now();
        let (time, peak, is_ok) = watch(process::spawn(command)?, began)?;
        ensure!(is_ok, "restic {arguments:?} failed");
        Ok(Took {
            time,
            peak,
            report: Value::Null,
        })
    }
}

/// Looks at a process until it ends.
fn watch(mut child: Child, began: Instant) -> Result<(Duration, u64, bool)> {
    let mut peak = 0;
    loop {
        peak = process::peak_memory(child.id()).max(peak);
        if let Some(status) = child.try_wait()? {
            return Ok((began.elapsed(), peak, status.success()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The last frame that is no progress.
fn last_report(mut from: impl Read) -> Result<Value> {
    loop {
        let head: Value = serde_json::from_slice(&part(&mut from)?)?;
        part(&mut from)?;
        match head["report"].as_str() {
            Some("progress") => {}
            Some(_) => return Ok(head),
            None => bail!("a mover that may use the location asked for something: {head}"),
        }
    }
}

fn part(from: &mut impl Read) -> Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)
        .context("the mover ended without a report")?;
    let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}
