//! Our parts in a cluster: put there, kept at one version, taken away.
//!
//! In come components; [`shipped`] makes their objects of the manifests that this program carries (pure), [`install`]
//! writes them stage by stage, [`removal`] takes them away in the order in which nothing gets stuck; [`velero`] is the same
//! for Velero. Later code may rely on:
//! everything may be repeated, and what was cut off is finished by the same call; the doors of the API server (webhook
//! configurations) come when somebody is there to answer, and go first.

pub mod in_use;
pub mod install;
pub mod removal;
pub mod shipped;
pub mod velero;

use crate::api::ApiError;

/// Annotation of our namespace, and of the namespace of a Velero of ours: version of the parts that are there, whole.
pub const VERSION: &str = "kubectl-backup.io/version";
/// Annotation of the same namespaces while a version is on its way in.
pub const COMING: &str = "kubectl-backup.io/version-coming";
/// Label of the CronJob that removes what has expired, with the name of its location.
pub const RETENTION_LABEL: &str = "kubectl-backup.io/retention";

/// Why parts could not be put there or taken away.
#[derive(Debug, thiserror::Error)]
pub enum LifecycleError {
    /// The API server did not do it.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Our own manifests cannot be read; only a defect does that.
    #[error("the manifest {name} in this program cannot be read: {reason}; please report this")]
    Manifest {
        /// Which.
        name: String,
        /// Why.
        reason: String,
    },
    /// Something did not get as far as it should.
    #[error(
        "{what} is not there after {seconds} s: {why}; `kubectl backup status` says more, and the same command goes on"
    )]
    Late {
        /// Which object, in which state.
        what: String,
        /// Why, in the server's words.
        why: String,
        /// How long was waited, in seconds.
        seconds: u64,
    },
}
