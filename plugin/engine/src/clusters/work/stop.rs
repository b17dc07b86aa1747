//! What ends the work early, and which reason of a report that is.
//!
//! In come errors of the storage, of backups and of API servers; out goes a [`Stop`]: somebody has to do something first, or
//! trying again may help, or it was none of the work's own faults.

use std::error::Error;

use velero_model::api::storage_work::{WorkError, reason};

use crate::{
    api::ApiError, backup::BackupError, catalog::CatalogError, clusters::ClustersError, storage::StorageError,
};

/// Why it ended early.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// Somebody has to do something first.
    #[error("{message}")]
    Blocked {
        /// One of [`reason`].
        reason: &'static str,
        /// What, and what to do.
        message: String,
    },
    /// Repeating it may help.
    #[error("{message}")]
    Failed {
        /// One of [`reason`].
        reason: &'static str,
        /// What happened.
        message: String,
    },
    /// Another order stands now.
    #[error("the order has changed")]
    OrderChanged,
    /// There is no order of this name.
    #[error(
        "there is no ConfigMap {name} with an order in namespace kubectl-backup; only the admission suite writes one"
    )]
    NoOrder {
        /// The name.
        name: String,
    },
    /// The order or the report beside it is none.
    #[error("ConfigMap {name}: {source}")]
    Unusable {
        /// The name.
        name: String,
        /// What is wrong.
        #[source]
        source: WorkError,
    },
    /// The management cluster cannot be asked or told.
    #[error(transparent)]
    Management(ApiError),
    /// The user, or the end of the pod.
    #[error("interrupted")]
    Interrupted,
}

impl Stop {
    /// Somebody has to do something.
    pub fn blocked(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Blocked {
            reason,
            message: message.into(),
        }
    }

    /// It may go better next time.
    pub fn failed(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Failed {
            reason,
            message: message.into(),
        }
    }

    pub(super) fn of_clusters(error: ClustersError) -> Self {
        match error {
            ClustersError::Api(error) => Self::Management(error),
            other => Self::failed(reason::UNAVAILABLE, other.to_string()),
        }
    }

    pub(super) fn of_backup(error: BackupError) -> Self {
        match error {
            BackupError::Storage(error) => error.into(),
            BackupError::Interrupted => Self::Interrupted,
            BackupError::Api(error) => of_workload(&error),
            other => Self::blocked(
                reason::FINAL_BACKUP_FAILED,
                format!("the last backup failed: {}", words(&other)),
            ),
        }
    }
}

/// An API server of the cluster itself that does not do what is needed.
pub(super) fn of_workload(error: &ApiError) -> Stop {
    Stop::blocked(
        reason::CLUSTER_UNREACHABLE,
        format!(
            "the cluster's own API server does not answer well: {}",
            words(error)
        ),
    )
}

/// An error with its causes, each said once.
pub(super) fn words(error: &(dyn Error + 'static)) -> String {
    crate::storage::error::chain(error)
}

impl From<StorageError> for Stop {
    fn from(error: StorageError) -> Self {
        let message = words(&error);
        match error {
            StorageError::NoSuchBucket { .. } => Self::Blocked {
                reason: reason::STORAGE_MISSING,
                message,
            },
            StorageError::AccessDenied { .. } => Self::Blocked {
                reason: reason::ACCESS_DENIED,
                message,
            },
            StorageError::WrongCredentials { .. } | StorageError::NoCredentials { .. } => Self::Blocked {
                reason: reason::CREDENTIALS,
                message,
            },
            StorageError::ReadOnly { .. } => Self::Blocked {
                reason: reason::LOCATION_READ_ONLY,
                message,
            },
            StorageError::Locked { .. } => Self::Blocked {
                reason: reason::OBJECT_LOCK,
                message,
            },
            StorageError::Setting { .. } | StorageError::WrongRegion { .. } => Self::Blocked {
                reason: reason::LOCATION_UNKNOWN,
                message,
            },
            _ => Self::Failed {
                reason: reason::UNAVAILABLE,
                message,
            },
        }
    }
}

impl From<CatalogError> for Stop {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Storage(error) => error.into(),
            CatalogError::Interrupted => Self::Interrupted,
            other if other.is_damage() => Self::blocked(reason::UNREADABLE_BACKUPS, words(&other)),
            other => Self::failed(reason::UNAVAILABLE, words(&other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::At;

    #[test]
    fn what_a_person_must_mend_is_told_from_what_time_mends() {
        let at = || At::new("list", "", "s3://b");
        let detail = || "x".to_owned();
        let table = [
            (
                StorageError::NoSuchBucket { at: at() },
                Some(reason::STORAGE_MISSING),
            ),
            (
                StorageError::AccessDenied {
                    at: at(),
                    needs: "s3:DeleteObject".into(),
                    detail: detail(),
                },
                Some(reason::ACCESS_DENIED),
            ),
            (
                StorageError::WrongCredentials {
                    at: at(),
                    detail: detail(),
                },
                Some(reason::CREDENTIALS),
            ),
            (
                StorageError::ReadOnly { at: at() },
                Some(reason::LOCATION_READ_ONLY),
            ),
            (
                StorageError::Locked {
                    at: at(),
                    until: None,
                },
                Some(reason::OBJECT_LOCK),
            ),
            (
                StorageError::Unreachable {
                    at: at(),
                    detail: detail(),
                },
                None,
            ),
            (
                StorageError::Busy {
                    at: at(),
                    detail: detail(),
                },
                None,
            ),
        ];
        for (error, blocks) in table {
            let said = error.to_string();
            match (Stop::from(error), blocks) {
                (Stop::Blocked { reason, message }, Some(expected)) => {
                    assert_eq!((reason, message), (expected, said));
                }
                (Stop::Failed { reason, .. }, None) => assert_eq!(reason, super::reason::UNAVAILABLE),
                (other, _) => panic!("{said}: {other:?}"),
            }
        }
    }
}
