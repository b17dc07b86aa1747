//! Snapshots are forgotten, and what none needs any more is removed.
//!
//! Snapshots of ours whose backup never came to be, or is no more, are found by their tag. Forgetting removes the snapshot's
//! own file alone. Pruning is in two steps, a run apart: packs that nothing needs are marked, and go with the first run a day
//! later, so that a writer who has begun before the mark loses nothing.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Span};
use rustic_core::{PruneOptions, repofile::SnapshotId};

use super::{Repository, RepositoryError, Snapshot};

/// A pack stays marked so long before it goes: longer than any backup takes that may still want it.
const MARKED_FOR: SignedDuration = SignedDuration::from_hours(23);

/// What a prune came to, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Held by packs that were removed now.
    pub removed: u64,
    /// Of packs that were marked and go later.
    pub marked: u64,
    /// Written again, to get at what lay beside it.
    pub repacked: u64,
    /// Snapshots whose backup is not there.
    pub orphans: u64,
}

impl Repository {
    /// Removes snapshots; one that is not there is no error.
    ///
    /// # Errors
    /// What the place says.
    pub fn forget(&self, ids: &[String]) -> Result<(), RepositoryError> {
        let there = self.snapshots()?;
        let ids: Vec<SnapshotId> = ids
            .iter()
            .filter(|id| there.iter().any(|snapshot| snapshot.id == **id))
            .filter_map(|id| id.parse().ok())
            .collect();
        if ids.is_empty() {
            return Ok(());
        }
        self.rustic
            .delete_snapshots(&ids)
            .map_err(|error| self.fail(&error))
    }

    /// Snapshots of ours that say they belong to a backup which is not `known`. Others' are left alone: who wrote them may know
    /// why.
    ///
    /// # Errors
    /// As [`Self::snapshots`].
    pub fn orphans(&self, known: &BTreeSet<String>) -> Result<Vec<String>, RepositoryError> {
        let is_orphan = |snapshot: &Snapshot| {
            let backup = snapshot.tags.get("backup");
            snapshot.root.is_some() && backup.is_some_and(|backup| !known.contains(backup))
        };
        let all = self.snapshots()?;
        Ok(all
            .into_iter()
            .filter(is_orphan)
            .map(|snapshot| snapshot.id)
            .collect())
    }

    /// Removes what no snapshot needs, or with `dry_run` only counts it. Whoever calls holds the exclusive lock.
    ///
    /// # Errors
    /// What the place says; then nothing that a snapshot needs is gone.
    pub fn prune(&self, dry_run: bool) -> Result<Pruned, RepositoryError> {
        self.prune_marked_for(MARKED_FOR, dry_run)
    }

    /// As [`Self::prune`], with another time for which a pack stays marked before it goes.
    ///
    /// # Errors
    /// As [`Self::prune`].
    pub fn prune_marked_for(&self, time: SignedDuration, dry_run: bool) -> Result<Pruned, RepositoryError> {
        let options = PruneOptions::default().keep_delete(Span::new().seconds(time.as_secs()));
        let plan = self
            .rustic
            .prune_plan(&options)
            .map_err(|error| self.fail(&error))?;
        let sizes = plan.stats.size_sum();
        let pruned = Pruned {
            removed: plan.stats.size_to_delete.remove,
            marked: sizes.remove,
            repacked: sizes.repack,
            orphans: 0,
        };
        if dry_run {
            return Ok(pruned);
        }
        self.rustic
            .prune(&options, plan)
            .map_err(|error| self.fail(&error))?;
        // Writers on other threads log what they could not do.
        match self.faults.first() {
            Some(reason) => Err(RepositoryError::Files {
                place: self.place(),
                reason,
            }),
            None => Ok(pruned),
        }
    }
}
