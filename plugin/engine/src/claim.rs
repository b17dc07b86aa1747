//! A claim on the name of a backup or of a restore for as long as somebody works under it.
//!
//! The claim is put only if absent, so of two runs one wins. While it is held a task renews its heartbeat, each time only
//! over the very state that was written last: a claim that somebody took over is noticed and never taken back. Whoever
//! publishes a marker asks [`HeldClaim::is_lost`] first. The claim of a run that has certainly ended is taken over at once,
//! that of a run elsewhere when it has been silent for long ([`is_dead`]).

use std::{fs, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use velero_model::claim::{Claim, HEARTBEAT_SECONDS};

use crate::{
    clock, process,
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
        process: process::own(),
    }
}

/// Whether the run behind a claim counts as dead: its process has ended, or nothing was heard of it for long.
pub fn is_dead(claim: &Claim, now: Timestamp) -> bool {
    claim.is_stale(now) || claim.process.as_ref().is_some_and(process::is_gone)
}

/// Largest claim that is read.
const CLAIM_MAX: u64 = 64 << 10;

/// The claim under a key; `None` when there is none or it cannot be read, which makes its run neither live nor dead.
pub(crate) async fn read(bucket: &Arc<dyn Bucket>, key: &str) -> Result<Option<Claim>, StorageError> {
    match bucket.get(key, CLAIM_MAX).await {
        Ok(found) => Ok(found.and_then(|(bytes, _)| serde_json::from_slice(&bytes).ok())),
        Err(StorageError::TooLarge { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a try to claim a name came to.
#[derive(Debug)]
pub(crate) enum Claiming {
    /// The claim is put, in this state.
    Ours(Etag),
    /// Somebody else has it, or was quicker; who, if that could be read.
    Theirs(Option<Box<Claim>>),
}

/// Puts a claim where none is, or over that of a dead run; of several that try, one wins.
///
/// # Errors
/// When the location cannot be read or written.
pub(crate) async fn take(
    bucket: &Arc<dyn Bucket>,
    key: &str,
    claim: &Claim,
) -> Result<Claiming, StorageError> {
    if let Some(etag) = put(bucket, key, claim, Put::if_absent()).await? {
        return Ok(Claiming::Ours(etag));
    }
    let Some((bytes, etag)) = bucket.get(key, CLAIM_MAX).await? else {
        // Its holder has just finished or given up.
        return Ok(Claiming::Theirs(None));
    };
    let holder: Option<Claim> = serde_json::from_slice(&bytes).ok();
    if holder
        .as_ref()
        .is_some_and(|holder| !is_dead(holder, clock::now()))
    {
        return Ok(Claiming::Theirs(holder.map(Box::new)));
    }
    Ok(match put(bucket, key, claim, Put::if_match(etag)).await? {
        Some(etag) => Claiming::Ours(etag),
        None => Claiming::Theirs(holder.map(Box::new)),
    })
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
    /// Puts a claim under its key; `None` when somebody else has one there, live or stale.
    ///
    /// # Errors
    /// When the location cannot be written.
    pub async fn acquire(bucket: &Arc<dyn Bucket>, key: String) -> Result<Option<Self>, StorageError> {
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
    use crate::catalog::fixture::Fixture;

    const KEY: &str = "backups/b/b-claim.json";

    #[tokio::test(start_paused = true)]
    async fn a_claim_has_one_holder_who_notices_when_it_is_taken_over() {
        let fixture = Fixture::new();
        let bucket = fixture.bucket();
        let held = HeldClaim::acquire(&bucket, KEY.into()).await.unwrap().unwrap();
        assert!(HeldClaim::acquire(&bucket, KEY.into()).await.unwrap().is_none());
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

    #[tokio::test]
    async fn the_claim_of_a_process_that_has_ended_is_taken_over_at_once() {
        let fixture = Fixture::new();
        let bucket = fixture.bucket();
        let mine = new_claim();
        assert!(matches!(
            take(&bucket, KEY, &mine).await.unwrap(),
            Claiming::Ours(_)
        ));
        match take(&bucket, KEY, &new_claim()).await.unwrap() {
            Claiming::Theirs(Some(holder)) => assert_eq!(holder.run_id, mine.run_id),
            other => panic!("{other:?}"),
        }
        let mut ended = mine;
        if let Some(process) = &mut ended.process {
            process.started_ticks += 1;
        }
        assert!(put(&bucket, KEY, &ended, Put::default()).await.unwrap().is_some());
        assert!(matches!(
            take(&bucket, KEY, &new_claim()).await.unwrap(),
            Claiming::Ours(_)
        ));
    }
}
