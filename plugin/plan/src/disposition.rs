//! What becomes of a cluster's backup storage: who has chosen it, and what may happen before it is chosen.
//!
//! In come facts (a cluster's metadata, the StorageDispositions beside it, who asks, what time it is); out go decisions:
//! whether a cluster, a namespace, a CRD or a location may be deleted, whether a choice may be made or changed and whose
//! name stands under it, and what the annotation that the floor policy reads has to say. The webhook and the plugin share
//! them; neither a clock nor a server is asked here. Messages carry recorded times only, so that a request that is
//! repeated is refused in the same words.

mod choice;
mod cluster;
mod deletion;
mod duty;
mod guard;
mod holder;
mod hook;
mod message;
mod mirror;
mod settings;
mod stake;

#[cfg(test)]
mod tests;

pub use choice::{Choice, Fault, Source, Standing, standing};
pub use cluster::{Cluster, Owner, Stamp};
pub use deletion::{Decision, Deletion, Outcome, Permission, Reason, Refusal, decide, unreadable};
pub use duty::{Duty, duty, revised};
pub use guard::{
    Change, ChangeOfDisposition, Guarded, MetadataPatch, NAMESPACE_CONTROLLER, Needs, PutBack, Right,
    guard_cluster, guard_disposition,
};
pub use holder::{HolderDeletion, definition, location, namespace};
pub use hook::{BeforeDelete, before_delete};
pub use message::{Commands, explain, name_of};
pub use mirror::{Accepted, accepted, floor, wanted_mirror};
pub use settings::{Kind, LocationInUse, Settings, Unprotected};
pub use stake::{at_stake, stake};
