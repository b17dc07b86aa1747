//! Why a restore does not begin, or breaks off.

use std::io;

use backup_plan::{
    resource_names::UnknownResource,
    restore::{never::Never, policy::PolicyError},
    scope::ScopeError,
};

use velero_model::{claim::Claim, time};

use crate::{api::ApiError, catalog::CatalogError, storage::StorageError};

/// What ends a restore as a whole. What the server says about single objects is part of the summary instead.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A restore of this name has been done, or is another one.
    #[error("a restore named {name} exists in {place} ({what}); choose another name with --name")]
    Exists {
        /// The name.
        name: String,
        /// Where its record lies.
        place: String,
        /// What kind of restore it is, and why it is not taken up.
        what: String,
    },
    /// A restore of this name broke off, and was asked for in another way.
    #[error(
        "restore {name} broke off and was begun with other options: {}; give it the same ones to go on, or choose another name          with --name",
        differences.join("; ")
    )]
    OtherRequest {
        /// The name.
        name: String,
        /// `option: now X, then Y`.
        differences: Vec<String>,
    },
    /// Another run does a restore of this name at this moment.
    #[error("{}", running(.name, .holder.as_deref()))]
    Running {
        /// The name.
        name: String,
        /// Who does it.
        holder: Option<Box<Claim>>,
    },
    /// Another run took the restore over.
    #[error(
        "restore {name} was taken over by another run, because this one gave no sign of life for too long; that run goes on"
    )]
    TakenOver {
        /// The name.
        name: String,
    },
    /// The filter makes no sense.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// A word names no kind.
    #[error(transparent)]
    Resource(#[from] UnknownResource),
    /// The policies for existing objects make no sense.
    #[error("--existing-resource-policy: {0}")]
    Policy(#[from] PolicyError),
    /// A namespace mapping cannot be used.
    #[error("--namespace-mappings {from}:{to}: {problem}")]
    Mapping {
        /// The namespace in the backup.
        from: String,
        /// The namespace in the cluster.
        to: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A kind was asked for that is never restored.
    #[error("{kind} are never restored: {rule}; drop the word")]
    NeverRestored {
        /// The kind.
        kind: String,
        /// Why.
        rule: Never,
    },
    /// An object was asked for that the backup does not hold.
    #[error(
        "{object} is not in backup {backup}; `kubectl backup contents {backup} {kind}` lists what is, `kubectl backup \
         find {word}` looks through the other backups"
    )]
    NotInBackup {
        /// The object, with its namespace.
        object: String,
        /// Its kind.
        kind: String,
        /// KIND/NAME.
        word: String,
        /// The backup.
        backup: String,
    },
    /// An object was asked for without a namespace, and several have its name.
    #[error("{object} is in several namespaces of backup {backup}: {}; say which one with -n", namespaces.join(", "))]
    SeveralInBackup {
        /// The object as asked for.
        object: String,
        /// The backup.
        backup: String,
        /// The namespaces that hold one.
        namespaces: Vec<String>,
    },
    /// The filter leaves nothing.
    #[error(
        "nothing in backup {backup} matches{}; `kubectl backup contents {backup}` lists what it holds",
        not_there(missing)
    )]
    NothingToRestore {
        /// The backup.
        backup: String,
        /// Namespaces that were named and that the backup does not hold.
        missing: Vec<String>,
    },
    /// The backup cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The API server is not there, or does not let us in.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The record cannot be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A temporary file cannot be written.
    #[error("a temporary file of the restore: {0}; free space in TMPDIR or set it to another folder")]
    Temporary(#[source] io::Error),
    /// Stopped by the user.
    #[error(
        "interrupted; what was restored so far stays, and the same restore under the same --name goes on with the rest"
    )]
    Interrupted,
    /// A claim could not be filled.
    #[error(
        "the data of claim {claim} could not be brought back: {reason}; nothing that would use it was restored after that. The \
         same restore under the same --name goes on; --restore-volumes=false restores without data"
    )]
    Volume {
        /// Namespace and name.
        claim: String,
        /// Why.
        reason: String,
    },
    /// A task of ours ended without an answer.
    #[error("the restore broke off by a fault of its own: {0}; please report it")]
    Task(String),
}

fn running(name: &str, holder: Option<&Claim>) -> String {
    match holder {
        Some(holder) => format!(
            "restore {name} is being done by host {} (run {}, last sign of life {}); wait for it to end: a run that is dead \
             elsewhere counts so after two minutes",
            holder.host,
            holder.run_id,
            time::format(holder.heartbeat)
        ),
        None => format!("restore {name} is being done by another run at this moment; wait for it to end"),
    }
}

fn not_there(missing: &[String]) -> String {
    if missing.is_empty() {
        String::new()
    } else {
        format!(" (it holds no namespace {})", missing.join(", "))
    }
}
