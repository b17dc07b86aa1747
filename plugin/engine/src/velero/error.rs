//! What can go wrong between us and a Velero.
//!
//! Each variant names the object, the cause and the next step. Errors of the API server and of the storage keep their own
//! words.

use std::time::Duration;

use backup_plan::{resource_names::UnknownResource, scope::ScopeError};
use thiserror::Error;

use crate::{api::ApiError, catalog::CatalogError, storage::StorageError};

/// Why Velero did not do what it was asked to, or was not asked.
#[derive(Debug, Error)]
pub enum VeleroError {
    /// `--engine velero`, and no location of Velero's is the one that was asked for.
    #[error(
        "engine velero cannot be used for {wanted}: {looked_at}; correct --location or --velero-namespace, or use --engine direct"
    )]
    NoLocation {
        /// The location that was asked for.
        wanted: String,
        /// What was looked at, and what was found.
        looked_at: String,
    },
    /// Something that Velero cannot do or would do otherwise.
    #[error("engine velero cannot take {what}: {reason}; {next}")]
    Unsupported {
        /// The flag or argument.
        what: String,
        /// Why.
        reason: &'static str,
        /// What to do.
        next: &'static str,
    },
    /// Velero would refuse the location.
    #[error("BackupStorageLocation {location} {problem}; {next}")]
    Location {
        /// Namespace and name.
        location: String,
        /// What is the matter.
        problem: String,
        /// What to do.
        next: &'static str,
    },
    /// An object of this name is there.
    #[error("{what} exists already ({phase}); choose another name, or delete it first")]
    Exists {
        /// The object.
        what: String,
        /// Its phase.
        phase: String,
    },
    /// A backup of this name is in the storage without an object, or is being written there.
    #[error("backup `{name}` {state} in {location}; choose another name, or delete it first")]
    ExistsInStorage {
        /// The name.
        name: String,
        /// `exists already` or `is being written by another run`.
        state: &'static str,
        /// The location.
        location: String,
    },
    /// Velero has no such backup.
    #[error(
        "there is no Backup {namespace}/{name}, nor a backup of that name in {location}; `kubectl backup list` shows what is there"
    )]
    NoSuchBackup {
        /// The name.
        name: String,
        /// Velero's namespace.
        namespace: String,
        /// The location.
        location: String,
    },
    /// The backup is in the bucket, and Velero has not found it.
    #[error("{}", not_synced(.name, .location, *.waited, *.is_there))]
    NotSynced {
        /// The name.
        name: String,
        /// The BackupStorageLocation.
        location: String,
        /// How long was waited; zero where Velero does not look by itself.
        waited: Duration,
        /// Whether the backup was seen in the bucket; where that could not be looked at, it is not known.
        is_there: bool,
    },
    /// The Backup object of that name lies elsewhere.
    #[error(
        "Backup {namespace}/{name} lies in BackupStorageLocation {actual} and not in {asked}; give --location {actual}"
    )]
    OtherLocation {
        /// The name.
        name: String,
        /// Velero's namespace.
        namespace: String,
        /// Where it lies.
        actual: String,
        /// What was asked for.
        asked: String,
    },
    /// Nothing can be restored from it.
    #[error("Backup {what} is {phase} and cannot be restored; `kubectl backup list` shows the others")]
    NotRestorable {
        /// Namespace and name.
        what: String,
        /// Its phase.
        phase: String,
    },
    /// No backup of a schedule.
    #[error(
        "there is no restorable Backup of schedule {schedule} in namespace {namespace}; `kubectl backup list -o wide` shows schedules"
    )]
    NoBackupOfSchedule {
        /// The schedule.
        schedule: String,
        /// Velero's namespace.
        namespace: String,
    },
    /// Velero is at work on it.
    #[error("{what} is {phase}: Velero is at work on it; wait for its end, then repeat the command")]
    UnderWay {
        /// The object.
        what: String,
        /// Its phase.
        phase: String,
    },
    /// A hold protects it.
    #[error("backup `{name}` is on hold{reason}; release it, or give --force")]
    Held {
        /// The name.
        name: String,
        /// Why, if that was said.
        reason: String,
    },
    /// Somebody removed the object while it was waited for.
    #[error("{what} was deleted while Velero was at work on it; `kubectl backup list` shows what is left")]
    Vanished {
        /// The object.
        what: String,
    },
    /// Velero reports errors of a deletion.
    #[error("Velero could not delete backup `{name}`: {}; remove the cause and delete it again", .errors.join("; "))]
    DeleteFailed {
        /// The name.
        name: String,
        /// Velero's words.
        errors: Vec<String>,
    },
    /// The API server does not answer any more.
    #[error("{what}: nothing was heard of it for {} s; it goes on in the cluster, look at it later", .after.as_secs())]
    Lost {
        /// The object.
        what: String,
        /// For how long.
        after: Duration,
        /// The last answer.
        #[source]
        source: Box<ApiError>,
    },
    /// A file that Velero should hand out.
    #[error("{what}: {problem}; {next}")]
    Download {
        /// The file.
        what: String,
        /// What went wrong.
        problem: String,
        /// What to do.
        next: String,
    },
    /// No object of the kind that it should be.
    #[error("{what} cannot be read; is it Velero's?")]
    Object {
        /// The object.
        what: String,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// No ConfigMap with resource modifiers.
    #[error("there is no ConfigMap {namespace}/{name}; create it, or correct --resource-modifier-configmap")]
    NoConfigMap {
        /// The name.
        name: String,
        /// Velero's namespace.
        namespace: String,
    },
    /// Namespaces that do not exist.
    #[error("there is no namespace {}; see `kubectl get namespaces`", .names.join(", "))]
    NoSuchNamespace {
        /// The names.
        names: Vec<String>,
    },
    /// The scope does not fit the cluster.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// A word names no kind.
    #[error(transparent)]
    Resource(#[from] UnknownResource),
    /// The API server.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// What is stored.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The location.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The temporary folder.
    #[error("the temporary folder cannot be used; see TMPDIR")]
    Temporary(#[source] std::io::Error),
    /// The user stopped waiting.
    #[error("interrupted")]
    Interrupted,
}

fn not_synced(name: &str, location: &str, waited: Duration, is_there: bool) -> String {
    let seen = if is_there {
        "is in the bucket, but"
    } else {
        "is no Backup object of Velero's, and"
    };
    if waited.is_zero() {
        format!(
            "backup `{name}` {seen} BackupStorageLocation {location} has backupSyncPeriod 0, so Velero does not look for \
             backups of others; set a period, or use --engine direct"
        )
    } else {
        format!(
            "backup `{name}` {seen} Velero has not found it in BackupStorageLocation {location} within {} s; look at \
             Velero's log (`kubectl logs deployment/velero`), or use --engine direct",
            waited.as_secs()
        )
    }
}
