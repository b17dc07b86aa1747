//! Velero's storage format and ours on top of it.
//!
//! Everything a backup consists of is described here once: where it lies ([`layout`]), what the files hold, and how the
//! archive and its index are written and read. In come bytes and values, out go bytes and values: no clock, no network,
//! no async runtime, so that every reader can be fuzzed and every writer compared with a stored file. Later crates may
//! rely on each parser refusing hostile input with an error that names what was wrong, never with a panic.
#![deny(missing_docs)]

pub mod api;
pub mod api_object;
pub mod archive;
pub mod backup;
pub mod claim;
pub mod digests;
pub mod duration;
pub mod index;
pub mod item;
pub mod keep;
pub mod layout;
pub mod member;
pub mod mover;
pub mod name;
pub mod note;
pub mod outcome;
pub mod phase;
pub mod recovery;
pub mod resource;
pub mod resource_list;
pub mod restore_record;
pub mod results;
pub mod source;
pub mod time;
pub mod volume;
