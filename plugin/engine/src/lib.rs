//! The world that a backup meets: API server, storage and locations.
//!
//! In come requests with checked names and scopes; out go summaries from which tables, JSON, phases and exit codes are
//! made. Everything that waits, fails or must be retried lives here; what is taken, in which order and in which format
//! is decided by the crates below. Later code may rely on nothing being half visible: each function either says what it
//! did or names what is missing.

pub mod api;
pub mod backup;
pub mod catalog;
pub mod claim;
pub mod clock;
pub mod clusters;
pub mod diff;
mod exec;
pub mod jobs;
pub mod lifecycle;
pub mod location;
pub mod mover;
pub mod overview;
pub mod parts;
mod process;
pub mod progress;
pub mod repository;
pub mod restore;
pub mod schedule;
pub mod spool;
pub mod storage;
pub mod support;
pub mod velero;
pub mod volumes;
