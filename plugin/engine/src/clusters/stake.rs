//! What a cluster's backup storage holds, counted from the storage itself.

use std::sync::Arc;

use jiff::Timestamp;
use velero_model::{api::StorageFacts, time};

use super::ClustersError;
use crate::{catalog, storage::Bucket};

/// What was found.
#[derive(Debug, Clone)]
pub struct Stake {
    /// Counts, bytes and times.
    pub facts: StorageFacts,
    /// Backups that are there and cannot be read; they count as backups, without time.
    pub unreadable: Vec<String>,
}

/// Counts the backups below a location; `words` is the location as a user would type it.
///
/// # Errors
/// When it cannot be listed or read.
pub async fn stake(bucket: &Arc<dyn Bucket>, words: &str, now: Timestamp) -> Result<Stake, ClustersError> {
    let listing = catalog::list(bucket).await?;
    let begins = || {
        listing
            .backups
            .iter()
            .filter_map(|listed| listed.backup.created())
    };
    let unreadable: Vec<String> = listing
        .unreadable
        .iter()
        .map(|unreadable| format!("backup {}: {}", unreadable.name, unreadable.reason))
        .collect();
    Ok(Stake {
        facts: StorageFacts {
            location: words.to_owned(),
            backups: (listing.backups.len() + unreadable.len()) as u64,
            bytes: listing.backups.iter().map(|listed| listed.size).sum(),
            oldest: begins().min(),
            newest: begins().max(),
            observed: time::to_seconds(now),
        },
        unreadable,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::fixture::Fixture;

    #[tokio::test]
    async fn what_cannot_be_read_is_at_stake_too() {
        let fixture = Fixture::new();
        fixture.ours("a", 5).await;
        fixture.ours("b", 5).await;
        fixture.put("backups/damaged/velero-backup.json", "{").await;
        let now = "2026-11-25T01:00:00.5Z".parse().unwrap();
        let stake = stake(&fixture.bucket(), "s3://b/team-a/prod", now).await.unwrap();
        assert_eq!((stake.facts.backups, stake.unreadable.len()), (3, 1));
        assert!(stake.facts.bytes > 0 && stake.facts.oldest.is_some());
        assert_eq!(stake.facts.observed.to_string(), "2026-11-25T01:00:00Z");
        let empty = super::stake(&Fixture::new().bucket(), "s3://b/x", now)
            .await
            .unwrap();
        assert_eq!((empty.facts.backups, empty.facts.newest), (0, None));
    }
}
