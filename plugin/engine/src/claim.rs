//! A claim on a backup's name for as long as somebody writes under it.
//!
//! The claim is put only if absent, so of two runs one wins. While it is held a task renews its heartbeat, each time only
//! over the very state that was written last: a claim that somebody took over is noticed and never taken back. Whoever
//! publishes a marker asks [`HeldClaim::is_lost`] first.

use std::{fs, sync::Arc, time::Duration};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use velero_model::{
    claim::{Claim, HEARTBEAT_SECONDS},
    layout::BackupKeys,
    name::BackupName,
};

use crate::{
    clock,
    storage::{At, Bucket, Etag, Put, PutOutcome, StorageError},
};

/// A claim of ours. Released by [`Self::release`]; when it is dropped instead, it goes stale by itself.
#[derive(Debug)]
pub struct HeldClaim {
    key: String,
    heartbeat: JoinHandle<()>,
    lost: CancellationToken,
}

impl Drop for HeldClaim {
    fn drop(&mut self) {
        self.heartbeat.abort();
    }
}

/// A claim of this process, beginning now.
pub fn new_claim() -> Claim {
    let now = clock::now();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Claim {
        version: 1,
        run_id: Uuid::new_v4().to_string(),
        host: if host.trim().is_empty() {
            "unknown".to_owned()
        } else {
            host.trim().to_owned()
        },
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        started: now,
        heartbeat: now,
    }
}

/// Puts a claim under a condition; `None` when the condition does not hold.
pub(crate) async fn put(
    bucket: &Arc<dyn Bucket>,
    key: &str,
    claim: &Claim,
    put: Put,
) -> Result<Option<Etag>, StorageError> {
    let body = serde_json::to_vec(claim).map_err(|error| StorageError::Other {
        at: At::new("write", key, &bucket.describe()),
        detail: error.to_string(),
    })?;
    match bucket.put(key, body.into(), put).await? {
        PutOutcome::Stored { etag } => Ok(Some(etag)),
        PutOutcome::AlreadyThere | PutOutcome::Changed => Ok(None),
    }
}

impl HeldClaim {
    /// Claims a name; `None` when somebody else has a claim on it, live or stale.
    ///
    /// # Errors
    /// When the location cannot be written.
    pub async fn acquire(bucket: &Arc<dyn Bucket>, name: &BackupName) -> Result<Option<Self>, StorageError> {
        let key = BackupKeys(name).claim();
        let claim = new_claim();
        let Some(etag) = put(bucket, &key, &claim, Put::if_absent()).await? else {
            return Ok(None);
        };
        Ok(Some(Self::hold(bucket, key, claim, etag)))
    }

    /// Keeps a claim alive that was just put.
    pub(crate) fn hold(bucket: &Arc<dyn Bucket>, key: String, claim: Claim, etag: Etag) -> Self {
        let lost = CancellationToken::new();
        let beat = beat(Arc::clone(bucket), key.clone(), claim, etag, lost.clone());
        Self {
            key,
            heartbeat: tokio::spawn(beat),
            lost,
        }
    }

    /// Cancelled when somebody takes the claim over.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Whether somebody took the claim over.
    pub fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Gives the name free, unless it is somebody else's by now.
    ///
    /// # Errors
    /// When the claim cannot be deleted.
    pub async fn release(self, bucket: &Arc<dyn Bucket>) -> Result<(), StorageError> {
        self.heartbeat.abort();
        if !self.is_lost() {
            bucket.delete(&self.key).await?;
        }
        Ok(())
    }
}

async fn beat(
    bucket: Arc<dyn Bucket>,
    key: String,
    mut claim: Claim,
    mut etag: Etag,
    lost: CancellationToken,
) {
    loop {
        tokio::time::sleep(Duration::from_secs(HEARTBEAT_SECONDS)).await;
        claim.heartbeat = clock::now();
        match put(&bucket, &key, &claim, Put::if_match(etag.clone())).await {
            Ok(Some(renewed)) => etag = renewed,
            Ok(None) => return lost.cancel(),
            // The store does not answer well; the claim stays good for several beats.
            Err(error) => tracing::debug!(%key, %error, "the claim could not be renewed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::fixture::{Fixture, name};

    #[tokio::test(start_paused = true)]
    async fn a_claim_has_one_holder_who_notices_when_it_is_taken_over() {
        let fixture = Fixture::new();
        let bucket = fixture.bucket();
        let held = HeldClaim::acquire(&bucket, &name("b")).await.unwrap().unwrap();
        assert!(HeldClaim::acquire(&bucket, &name("b")).await.unwrap().is_none());
        let before = fixture.bytes(&held.key).await;
        tokio::time::sleep(Duration::from_secs(HEARTBEAT_SECONDS + 1)).await;
        assert!(!held.is_lost());
        let state = bucket.head(&held.key).await.unwrap().unwrap().etag;
        assert!(
            bucket
                .put(&held.key, before.into(), Put::if_match(state))
                .await
                .unwrap()
                .is_stored()
        );
        tokio::time::sleep(Duration::from_secs(HEARTBEAT_SECONDS + 1)).await;
        assert!(held.is_lost());
        held.release(&bucket).await.unwrap();
        assert_eq!(
            fixture.keys("backups/b/").await.len(),
            1,
            "somebody else's claim is not removed"
        );
    }
}
