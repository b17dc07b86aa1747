//! Small backups in memory for the tests of this folder: ours, Velero's, and runs that never finished.
//!
//! What the fixture writes is put together with the model's writers, in the order and form in which the engine and
//! Velero write. Its bucket counts the bytes and calls of reads, gives every key an age, and can keep locked versions.

mod bucket;
mod versioned;
mod write;

pub(crate) use versioned::Versioned;
pub(crate) use write::{Fixture, gz_json, json, kind, name};
