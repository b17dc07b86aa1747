//! Locks as restic has them: a file in `locks/`, encrypted, that says who works and whether alone.
//!
//! In comes a repository and a [`Mode`]; out goes a [`Lock`], renewed every five minutes until it is released or dropped.
//! Format and times are restic's (its design document and `internal/restic/lock.go`): others are looked at before and after
//! the own file is written, one older than half an hour is stale and removed, and so is one of a process of this host that
//! is no more; one that cannot be read counts as held.
//! rustic_core has no locks.

use std::{fmt::Write as _, path::Path, sync::Arc, time::Duration};

use aes256ctr_poly1305aes::{
    Aes256CtrPoly1305Aes,
    aead::{Aead, Nonce},
};
use bytes::Bytes;
use jiff::Timestamp;
use rustic_core::repofile::MasterKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use super::{Repository, RepositoryError, files::Files};
use crate::clock;

/// A lock is renewed so often.
const RENEWED: Duration = Duration::from_mins(5);

/// A lock that old is of nobody any more.
const STALE: jiff::SignedDuration = jiff::SignedDuration::from_mins(30);

/// Where Linux shows its processes.
const PROCESSES: &str = "/proc";

/// Host of a lock where this one's name is not known.
const NAMELESS: &str = "kubectl-backup";

/// Whether others may work at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Writers of snapshots and readers beside each other.
    Shared,
    /// Nobody else: what is removed may be what another needs.
    Exclusive,
}

/// The file's content, with restic's names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    time: Timestamp,
    exclusive: bool,
    hostname: String,
    username: String,
    pid: i64,
}

/// A lock that is held.
pub struct Lock {
    keeper: Arc<Keeper>,
    renewal: JoinHandle<()>,
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
    }
}

struct Keeper {
    files: Arc<dyn Files>,
    key: [u8; 64],
    mode: Mode,
    name: tokio::sync::Mutex<String>,
}

impl Lock {
    /// Takes a lock.
    ///
    /// # Errors
    /// [`RepositoryError::Locked`] with who holds it, what the place says.
    pub async fn take(repository: &Repository, mode: Mode) -> Result<Self, RepositoryError> {
        let keeper = Arc::new(Keeper {
            files: Arc::clone(repository.files()),
            key: key(&repository.master_key()),
            mode,
            name: tokio::sync::Mutex::default(),
        });
        keeper.look("").await?;
        let name = keeper.write().await?;
        // Two who began at once see each other now.
        if let Err(error) = keeper.look(&name).await {
            keeper.remove(&name).await?;
            return Err(error);
        }
        *keeper.name.lock().await = name;
        let renewed = Arc::clone(&keeper);
        let renewal = tokio::spawn(async move {
            loop {
                tokio::time::sleep(RENEWED).await;
                if let Err(error) = renewed.renew().await {
                    tracing::warn!(%error, "the lock of a repository is not renewed");
                }
            }
        });
        Ok(Self { keeper, renewal })
    }

    /// Lets go of it.
    ///
    /// # Errors
    /// What the place says; then the lock is stale after half an hour.
    pub async fn release(self) -> Result<(), RepositoryError> {
        self.renewal.abort();
        let name = std::mem::take(&mut *self.keeper.name.lock().await);
        self.keeper.remove(&name).await
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

impl Keeper {
    fn fail(&self, reason: impl std::fmt::Display) -> RepositoryError {
        RepositoryError::Files {
            place: self.files.describe(),
            reason: reason.to_string(),
        }
    }

    async fn write(&self) -> Result<String, RepositoryError> {
        let content = Content {
            time: clock::now(),
            exclusive: self.mode == Mode::Exclusive,
            hostname: host(),
            username: "kubectl-backup".to_owned(),
            pid: i64::from(std::process::id()),
        };
        let text = serde_json::to_vec(&content).map_err(|error| self.fail(error))?;
        let body = encrypt(&self.key, &text).ok_or_else(|| self.fail("a lock cannot be encrypted"))?;
        let name = format!("locks/{}", hex(&Sha256::digest(&body)));
        self.files
            .write(&name, Bytes::from(body), false)
            .await
            .map_err(|error| self.fail(error))?;
        Ok(name)
    }

    async fn remove(&self, name: &str) -> Result<(), RepositoryError> {
        if name.is_empty() {
            return Ok(());
        }
        self.files.remove(name).await.map_err(|error| self.fail(error))
    }

    /// Writes the new one before it removes the old.
    async fn renew(&self) -> Result<(), RepositoryError> {
        let mut name = self.name.lock().await;
        let old = std::mem::replace(&mut *name, self.write().await?);
        self.remove(&old).await
    }

    /// Looks for others that exclude this.
    async fn look(&self, own: &str) -> Result<(), RepositoryError> {
        let now = clock::now();
        let found = self
            .files
            .list("locks/")
            .await
            .map_err(|error| self.fail(error))?;
        for file in found.iter().filter(|file| file.name != own) {
            let Some(body) = self
                .files
                .read(&file.name)
                .await
                .map_err(|error| self.fail(error))?
            else {
                continue;
            };
            let content = decrypt(&self.key, &body).and_then(|text| parse(&text));
            let since = content.as_ref().map(|content| content.time).or(file.modified);
            let is_old = since.is_some_and(|since| now.duration_since(since) > STALE);
            if is_old
                || content
                    .as_ref()
                    .is_some_and(|other| is_dead(other, Path::new(PROCESSES)))
            {
                self.remove(&file.name).await?;
                continue;
            }
            let excludes =
                self.mode == Mode::Exclusive || content.as_ref().is_none_or(|other| other.exclusive);
            if excludes {
                return Err(RepositoryError::Locked {
                    place: self.files.describe(),
                    holder: content.as_ref().map_or_else(
                        || format!("somebody whose lock ({}) cannot be read", file.name),
                        |other| format!("{} (process {})", other.hostname, other.pid),
                    ),
                    since: since.map_or_else(|| "some time".to_owned(), velero_model::time::format),
                });
            }
        }
        Ok(())
    }
}

/// The name of this host; a pod's is the pod's name.
fn host() -> String {
    std::fs::read_to_string(Path::new(PROCESSES).join("sys/kernel/hostname"))
        .ok()
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_else(|| NAMELESS.to_owned())
}

/// Whether a lock is of a process that this host had and has no more. Where processes cannot be looked at, none is dead; and
/// names that many hosts have say nothing.
fn is_dead(other: &Content, processes: &Path) -> bool {
    let is_own_name = !matches!(other.hostname.as_str(), NAMELESS | "localhost") && other.hostname == host();
    is_own_name && processes.join("self").exists() && !processes.join(other.pid.to_string()).exists()
}

/// Key of the cipher: 32 bytes for AES, twice 16 for Poly1305.
fn key(master: &MasterKey) -> [u8; 64] {
    let mut key = [0; 64];
    let parts = [&master.encrypt, &master.mac.k, &master.mac.r];
    for (to, from) in key.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    key
}

fn encrypt(key: &[u8; 64], text: &[u8]) -> Option<Vec<u8>> {
    // 122 of its bits are random, which is plenty for as many locks as there will ever be.
    let nonce: [u8; 16] = uuid::Uuid::new_v4().into_bytes();
    let mut body = nonce.to_vec();
    let nonce = Nonce::<Aes256CtrPoly1305Aes>::from_slice(&nonce);
    body.extend(Aes256CtrPoly1305Aes::new(key.into()).encrypt(nonce, text).ok()?);
    Some(body)
}

fn decrypt(key: &[u8; 64], body: &[u8]) -> Option<Vec<u8>> {
    let (nonce, rest) = body.split_at_checked(16)?;
    let nonce = Nonce::<Aes256CtrPoly1305Aes>::from_slice(nonce);
    Aes256CtrPoly1305Aes::new(key.into()).decrypt(nonce, rest).ok()
}

/// Since its repositories compress, restic writes a 2 and zstd instead of plain JSON.
fn parse(text: &[u8]) -> Option<Content> {
    match text.split_first()? {
        (2, packed) => serde_json::from_reader(zstd::Decoder::new(packed).ok()?).ok(),
        _ => serde_json::from_slice(text).ok(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_dead_only_where_that_is_certain() {
        let lock = |hostname: &str, pid: i64| Content {
            time: Timestamp::UNIX_EPOCH,
            exclusive: true,
            hostname: hostname.to_owned(),
            username: String::new(),
            pid,
        };
        let processes = Path::new(PROCESSES);
        let (here, nobody) = (host(), 1 << 40);
        assert!(!is_dead(&lock(&here, std::process::id().into()), processes));
        assert!(!is_dead(&lock("elsewhere", nobody), processes));
        assert!(!is_dead(&lock(NAMELESS, nobody), processes));
        assert!(!is_dead(&lock(&here, nobody), Path::new("/nowhere")));
        assert!(is_dead(&lock(&here, nobody), processes) || here == "localhost");
    }
}
