//! The command line as typed: clap structs and nothing else.
//!
//! In comes `argv`, out goes [`Arguments`] with words still as words. The doc comment of a flag is its help text. What
//! the words mean, and whether they mean anything, is decided in [`crate::request`]; nothing here opens a file or asks
//! a server.

pub(crate) mod cat;
pub(crate) mod cluster;
pub(crate) mod completion;
pub(crate) mod contents;
pub(crate) mod copy;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod describe;
pub(crate) mod diff;
pub(crate) mod download;
pub(crate) mod environment;
pub(crate) mod find;
pub(crate) mod global;
pub(crate) mod help;
pub(crate) mod hold;
pub(crate) mod import;
pub(crate) mod lifecycle;
pub(crate) mod list;
pub(crate) mod location;
pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod mover;
pub(crate) mod pods;
pub(crate) mod policy;
pub(crate) mod restore;
pub(crate) mod restores;
pub(crate) mod retention;
pub(crate) mod schedule;
pub(crate) mod scope;
pub(crate) mod status;
pub(crate) mod verify;
pub(crate) mod version;
pub(crate) mod volumes;

use clap::{Parser, Subcommand};

use self::global::Global;

/// Back up and restore Kubernetes applications
///
/// Backs up a cluster, namespaces or labelled objects to S3 or a folder, in Velero's storage format, and brings them
/// back. Nothing needs to be installed in the cluster.
#[derive(Debug, Clone, Parser)]
#[command(name = "kubectl-backup", version, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands, in the order of a user's day.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    Create(Box<create::Create>),
    List(list::List),
    Describe(describe::Describe),
    Contents(contents::Contents),
    Cat(cat::Cat),
    Diff(Box<diff::Diff>),
    Find(find::Find),
    Logs(logs::Logs),
    Verify(verify::Verify),
    Download(download::Download),
    Import(import::Import),
    Copy(copy::Copy),
    Delete(delete::Delete),
    Hold(hold::Hold),
    Release(hold::Release),
    Retention(retention::Retention),
    Schedule(schedule::Schedule),
    Restore(Box<restore::Restore>),
    Restores(restores::Restores),
    Volumes(volumes::Volumes),
    Policy(policy::Policy),
    Location(location::Location),
    Cluster(cluster::Cluster),
    Enable(lifecycle::Enable),
    Upgrade(lifecycle::Upgrade),
    Disable(lifecycle::Disable),
    Status(status::Status),
    Doctor(status::Doctor),
    Metrics(metrics::Metrics),
    Mover(mover::Mover),
    Version(version::Version),
    Completion(completion::Completion),
}
