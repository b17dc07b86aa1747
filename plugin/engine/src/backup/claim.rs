//! Holding a backup's name while it is written.
//!
//! The claim is the first key put and the last removed. Its heartbeat is renewed in the background; a run that finds its
//! claim taken over stops, because somebody else cleans up its files.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use velero_model::{
    claim::{Claim, HEARTBEAT_SECONDS},
    layout::BackupKeys,
    name::BackupName,
};

use super::BackupError;
use crate::{
    clock,
    storage::{Bucket, Etag, Put, PutOutcome, StorageError, delete_all},
};

/// Largest claim that is read.
const CLAIM_MAX: u64 = 64 << 10;

/// A claim that is ours. Give it back with [`Held::release`]; when dropped it stays behind and becomes stale.
pub(super) struct Held {
    bucket: Arc<dyn Bucket>,
    key: String,
    heartbeat: JoinHandle<()>,
    /// Cancelled when the claim was taken over.
    pub(super) lost: CancellationToken,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.heartbeat.abort();
    }
}

/// Claims the name, or says who has it.
pub(super) async fn take(bucket: &Arc<dyn Bucket>, name: &BackupName, claim: Claim) -> Result<Held, BackupError> {
    let keys = BackupKeys(name);
    if bucket.head(&keys.marker()).await?.is_some() {
        return Err(BackupError::Exists { name: name.clone(), location: bucket.describe() });
    }
    let etag = match bucket.put(&keys.claim(), document(&claim)?, Put::if_absent()).await? {
        PutOutcome::Stored { etag } => etag,
        PutOutcome::AlreadyThere | PutOutcome::Changed => take_over(bucket, name, &claim).await?,
    };
    clean(bucket, &keys).await?;
    let lost = CancellationToken::new();
    let heartbeat = tokio::spawn(beat(Arc::clone(bucket), keys.claim(), claim, etag, lost.clone()));
    Ok(Held { bucket: Arc::clone(bucket), key: keys.claim(), heartbeat, lost })
}

/// Takes a dead run's claim; of several that try, one wins.
async fn take_over(bucket: &Arc<dyn Bucket>, name: &BackupName, claim: &Claim) -> Result<Etag, BackupError> {
    let key = BackupKeys(name).claim();
    let claimed = |holder: Option<Claim>| BackupError::Claimed { name: name.clone(), holder: holder.map(Box::new) };
    let Some((bytes, etag)) = bucket.get(&key, CLAIM_MAX).await? else {
        // Its holder has just finished or given up.
        return Err(claimed(None));
    };
    let holder: Option<Claim> = serde_json::from_slice(&bytes).ok();
    if holder.as_ref().is_some_and(|holder| !holder.is_stale(clock::now())) {
        return Err(claimed(holder));
    }
    match bucket.put(&key, document(claim)?, Put::if_match(etag)).await? {
        PutOutcome::Stored { etag } => Ok(etag),
        PutOutcome::AlreadyThere | PutOutcome::Changed => Err(claimed(holder)),
    }
}

/// Removes what a dead run under the same name has left: only the holder of the claim may.
async fn clean(bucket: &Arc<dyn Bucket>, keys: &BackupKeys<'_>) -> Result<(), BackupError> {
    let claim = keys.claim();
    let litter: Vec<String> =
        bucket.list_all(&keys.folder()).await?.into_iter().map(|info| info.key).filter(|key| *key != claim).collect();
    if let Some(error) = delete_all(&**bucket, litter).await.into_iter().next() {
        return Err(error.into());
    }
    for upload in bucket.list_uploads(&keys.folder()).await? {
        bucket.abort_upload(&upload).await?;
    }
    Ok(())
}

fn document(claim: &Claim) -> Result<Bytes, BackupError> {
    serde_json::to_vec(claim).map(Bytes::from).map_err(BackupError::Document)
}

async fn beat(bucket: Arc<dyn Bucket>, key: String, mut claim: Claim, mut etag: Etag, lost: CancellationToken) {
    loop {
        tokio::time::sleep(Duration::from_secs(HEARTBEAT_SECONDS)).await;
        claim.heartbeat = clock::now();
        let Ok(body) = document(&claim) else { return };
        match bucket.put(&key, body, Put::if_match(etag.clone())).await {
            Ok(PutOutcome::Stored { etag: next }) => etag = next,
            Ok(PutOutcome::AlreadyThere | PutOutcome::Changed) => return lost.cancel(),
            // Storage that is away for a while is met again at the next put; the claim only grows older.
            Err(error) => tracing::debug!(%error, "the claim's heartbeat could not be renewed"),
        }
    }
}

impl Held {
    /// Gives the name back.
    pub(super) async fn release(self) -> Result<(), StorageError> {
        self.heartbeat.abort();
        self.bucket.delete(&self.key).await
    }

    /// Removes everything that this run has put under the name, the claim last.
    pub(super) async fn undo(self, name: &BackupName) -> Result<(), BackupError> {
        self.heartbeat.abort();
        if self.lost.is_cancelled() {
            // The files belong to whoever took the claim over.
            return Ok(());
        }
        clean(&self.bucket, &BackupKeys(name)).await?;
        Ok(self.bucket.delete(&self.key).await?)
    }
}
