//! Where backups lie: one contract, [`Bucket`], and what fulfils it.
//!
//! A location (see [`crate::location`]) is opened once and gives an `Arc<dyn Bucket>`; everything above speaks in
//! keys relative to the location's prefix and never learns whether an S3 server, a folder or memory is behind
//! them. Later code may rely on what the trait's documentation says each method owes, because one suite of cases
//! (`tests/tests/storage`) runs over all of them.

pub mod bandwidth;
pub mod bucket;
pub mod error;
pub mod folder;
pub mod memory;
pub mod probe;
pub mod s3;

pub use bucket::{
    Bucket, Etag, ObjectInfo, ObjectStream, ObjectVersion, OpenUpload, Put, PutOutcome, Upload, delete_all,
};
pub use error::{At, StorageError};
