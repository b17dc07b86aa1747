//! The rules of backup and restore, without a cluster, a bucket or a clock.
//!
//! In come words that a user typed, kinds that discovery found and objects as JSON; out go decisions: what is taken and
//! which rule leaves the rest out, what else an object pulls in, in which order a restore writes, what each object looks
//! like when it is written, and where two objects differ. Everything is synchronous and deterministic, so that a plan can
//! be printed, compared as text and tested without a server.

pub mod compare;
pub mod cron;
pub mod disposition;
pub mod glob;
pub mod hash;
pub mod hooks;
pub mod human;
pub mod kinds;
pub mod ownership;
pub mod related;
pub mod resource_names;
pub mod restore;
pub mod retention;
pub mod rule;
pub mod scope;
pub mod selector;
pub mod tally;
pub mod velero_release;
pub mod versions;
pub mod volumes;
mod yaml;
