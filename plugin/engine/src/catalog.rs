//! Stored backups: looking at them, checking them, moving them, deleting them.
//!
//! In comes a location's [`Bucket`](crate::storage::Bucket) and the name of a backup; out come values that tables, JSON
//! and exit codes are made of. Everything here reads backups that Velero wrote as well: those have no index, no digests
//! and no outcome, their side files may be missing or `null`, and their archive is one gzip member. Later code may rely
//! on bounded memory whatever a backup's size, on a single object costing a few ranged reads where our index is there,
//! and on nothing becoming visible or invisible by halves: the marker is put last and deleted first.

mod census;
mod claim_snapshots;
mod decisions;
mod delete;
mod dispose;
mod error;
mod find;
#[cfg(test)]
pub(crate) mod fixture;
mod folder;
mod kinds;
mod listing;
mod litter;
mod objects;
mod open;
mod portable;
mod purge;
mod restores;
mod stream;
mod tickets;
mod transfer;
mod verify;
mod volume_data;

pub use claim_snapshots::{ClaimSnapshots, claim_snapshots};
pub use decisions::{Decided, decide};
pub use delete::{DeleteOptions, DeleteSummary, delete, resume_deletion};
pub use dispose::{Belongings, Disposal, Ended, belongings, dispose};
pub use error::CatalogError;
pub use find::{Finds, Found, find};
pub use kinds::kinds_from_directory;
pub use listing::{HalfDeleted, Listed, Listing, Running, Unreadable, list};
pub use litter::{Litter, RepairSummary, clear_dead_run, litter, repair};
pub use objects::{EntryFilter, Member, Objects};
pub use open::{InflatedStream, OpenBackup, open};
pub use portable::{download, import};
pub use purge::{Purged, purge};
pub use restores::{
    ListedRestore, delete_restore, restore_logs, restore_resource_list, restore_results, restores,
};
pub use tickets::{FoundTicket, tickets};
pub use transfer::{CopySummary, copy};
pub use verify::{Finding, Level, VerifyReport, read_volumes, verify, volumes_are_there};
pub use volume_data::{volume_data, volume_data_beside_restic};
