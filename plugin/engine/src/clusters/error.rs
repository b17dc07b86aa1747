//! What can go wrong with protected clusters.

use thiserror::Error;

use crate::{api::ApiError, catalog::CatalogError};

/// Why nothing came of it.
#[derive(Debug, Error)]
pub enum ClustersError {
    /// The API server.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The backups of a cluster.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Our CRDs are not there.
    #[error(
        "the cluster does not know StorageDispositions (kubectl-backup.io/v1alpha1), so nobody would guard or release a \
         protected cluster; install the admission suite first: kubectl apply -k manifests"
    )]
    NotInstalled,
    /// It is protected already, elsewhere.
    #[error(
        "{what} is protected in {recorded} already; end that first with `kubectl backup cluster unprotect {name} -n {namespace}`"
    )]
    Elsewhere {
        /// The cluster.
        what: String,
        /// Where.
        recorded: String,
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// Its deletion has begun.
    #[error("{what} is being deleted already; finalizers cannot be added any more")]
    Dying {
        /// The cluster.
        what: String,
    },
    /// The server refused a write, with its words.
    #[error("{what}: {message}")]
    Refused {
        /// What was to be done.
        what: String,
        /// What the server said.
        message: String,
    },
    /// It changed again and again while it was written.
    #[error("{what} is changed all the time by somebody else; try again")]
    Busy {
        /// The cluster.
        what: String,
    },
    /// It is not there any more.
    #[error("{what} is not there any more")]
    Gone {
        /// The cluster.
        what: String,
    },
}

impl ClustersError {
    /// A refusal in the server's words; other errors as they are.
    pub(super) fn of_write(what: impl Into<String>, error: ApiError) -> Self {
        if error.is_forbidden() || error.is_invalid() {
            Self::Refused {
                what: what.into(),
                message: error.server_message(),
            }
        } else {
            Self::Api(error)
        }
    }
}
