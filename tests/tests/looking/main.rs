//! Looking at backups, moving them, checking and deleting them: with the real plugin, on ours and on Velero's.
//!
//! Every case has a namespace and a store of its own. What the plugin says is held against what lies in the store, read
//! by the published gzip and tar readers, and against what the cluster holds.

mod deleting;
mod diff;
mod golden;
mod list;
mod locations;
mod moving;
mod objects;
mod policies;
mod retention;
mod shell;
mod site;
mod transcripts;
