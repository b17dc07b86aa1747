//! Why two sides could not be compared at all.

use std::io;

use backup_plan::{resource_names::UnknownResource, scope::ScopeError};

use crate::{api::ApiError, catalog::CatalogError};

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// Nothing of what was asked for is anywhere.
    #[error(
        "neither {left} nor {right} holds anything of what was asked for ({what}); `kubectl backup contents` shows what a \
         backup holds"
    )]
    Nothing {
        /// What was asked for.
        what: String,
        /// One side.
        left: String,
        /// The other.
        right: String,
    },
    /// The scope does not fit the kinds of both sides.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// A word names no kind of either side.
    #[error(transparent)]
    Resource(#[from] UnknownResource),
    /// A backup.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The API server.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The temporary files.
    #[error("the temporary file cannot be used ({0}); free space there, or set TMPDIR to a larger disk")]
    Spool(#[from] io::Error),
}
