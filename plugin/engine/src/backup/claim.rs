//! Taking a backup's name for a run, and cleaning up under it.
//!
//! The claim is the first key put and the last removed ([`crate::claim`] keeps it alive). Files of a dead run are removed
//! only by whoever holds the claim, and only while no marker is there.

use std::sync::Arc;

use velero_model::{claim::Claim, layout::BackupKeys, name::BackupName};

use super::BackupError;
use crate::{
    claim::{self, Claiming, HeldClaim},
    storage::{Bucket, Put, delete_all},
};

/// A name that is ours.
pub(super) struct Taken {
    pub(super) held: HeldClaim,
    /// Whether the store refuses a second writer. Where it does not, nothing keeps two runs apart that begin at the same
    /// moment; a person must know.
    pub(super) is_exclusive: bool,
}

/// Claims the name, or says who has it. Files of a dead run are gone afterwards.
pub(super) async fn take(
    bucket: &Arc<dyn Bucket>,
    name: &BackupName,
    claim: Claim,
) -> Result<Taken, BackupError> {
    let keys = BackupKeys(name);
    let exists = || BackupError::Exists {
        name: name.clone(),
        location: bucket.describe(),
    };
    if bucket.head(&keys.marker()).await?.is_some() {
        return Err(exists());
    }
    let etag = match claim::take(bucket, &keys.claim(), &claim).await? {
        Claiming::Ours(etag) => etag,
        Claiming::Theirs(holder) => {
            return Err(BackupError::Claimed {
                name: name.clone(),
                holder,
            });
        }
    };
    // The claim is there now: a store that takes it once more does not honour the condition.
    let again = claim::put(bucket, &keys.claim(), &claim, Put::if_absent()).await?;
    let is_exclusive = again.is_none();
    let etag = again.unwrap_or(etag);
    let held = HeldClaim::hold(bucket, keys.claim(), claim, etag);
    // A run may have ended well between the two looks; its claim is gone then and its backup is there.
    if bucket.head(&keys.marker()).await?.is_some() {
        held.release(bucket).await?;
        return Err(exists());
    }
    clean(bucket, &keys).await?;
    Ok(Taken { held, is_exclusive })
}

/// Removes everything under the name but the claim. Only its holder may, and only while there is no marker.
async fn clean(bucket: &Arc<dyn Bucket>, keys: &BackupKeys<'_>) -> Result<(), BackupError> {
    let claim = keys.claim();
    let litter: Vec<String> = bucket
        .list_all(&keys.folder())
        .await?
        .into_iter()
        .map(|info| info.key)
        .filter(|key| *key != claim)
        .collect();
    if let Some(error) = delete_all(&**bucket, litter).await.into_iter().next() {
        return Err(error.into());
    }
    // Claims on their way are those of others who are about to be refused.
    for upload in bucket
        .list_uploads(&keys.folder())
        .await?
        .into_iter()
        .filter(|upload| upload.key != claim)
    {
        bucket.abort_upload(&upload).await?;
    }
    Ok(())
}

/// Removes everything that this run has put under the name, the claim last.
pub(super) async fn undo(
    bucket: &Arc<dyn Bucket>,
    name: &BackupName,
    held: HeldClaim,
) -> Result<(), BackupError> {
    let keys = BackupKeys(name);
    // What a run that took the claim over, or one that has published, has put is not ours to remove.
    if !held.is_lost() && bucket.head(&keys.marker()).await?.is_none() {
        clean(bucket, &keys).await?;
    }
    Ok(held.release(bucket).await?)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use jiff::SignedDuration;

    use super::*;
    use crate::{claim::new_claim, storage::memory::Memory};

    fn bucket() -> Arc<dyn Bucket> {
        Arc::new(Memory::new())
    }

    fn name() -> BackupName {
        BackupName::parse("b").unwrap()
    }

    async fn keys(bucket: &Arc<dyn Bucket>) -> Vec<String> {
        bucket
            .list_all("")
            .await
            .unwrap()
            .into_iter()
            .map(|info| info.key)
            .collect()
    }

    #[tokio::test]
    async fn a_name_has_one_holder() {
        let bucket = bucket();
        let taken = take(&bucket, &name(), new_claim()).await.unwrap();
        assert!(taken.is_exclusive);
        assert!(matches!(
            take(&bucket, &name(), new_claim()).await,
            Err(BackupError::Claimed { .. })
        ));
        undo(&bucket, &name(), taken.held).await.unwrap();
        assert!(keys(&bucket).await.is_empty());
    }

    #[tokio::test]
    async fn a_dead_run_is_taken_over_and_cleaned_up() {
        let bucket = bucket();
        let mut dead = new_claim();
        dead.heartbeat -= SignedDuration::from_mins(10);
        let claim = serde_json::to_vec(&dead).unwrap();
        for (key, body) in [
            (BackupKeys(&name()).claim(), claim),
            (BackupKeys(&name()).tarball(), b"half".to_vec()),
        ] {
            assert!(
                bucket
                    .put(&key, Bytes::from(body), Put::default())
                    .await
                    .unwrap()
                    .is_stored()
            );
        }
        let taken = take(&bucket, &name(), new_claim()).await.unwrap();
        assert_eq!(keys(&bucket).await, [BackupKeys(&name()).claim()]);
        taken.held.release(&bucket).await.unwrap();
    }

    #[tokio::test]
    async fn a_backup_that_is_there_is_never_cleaned_up() {
        let bucket = bucket();
        let marker = BackupKeys(&name()).marker();
        assert!(
            bucket
                .put(&marker, Bytes::from_static(b"{}"), Put::default())
                .await
                .unwrap()
                .is_stored()
        );
        assert!(matches!(
            take(&bucket, &name(), new_claim()).await,
            Err(BackupError::Exists { .. })
        ));
        let held = HeldClaim::acquire(&bucket, BackupKeys(&name()).claim())
            .await
            .unwrap()
            .unwrap();
        undo(&bucket, &name(), held).await.unwrap();
        assert_eq!(keys(&bucket).await, [marker]);
    }
}
