//! The annotation that the floor policy reads: what lets a cluster go, in a form that needs no other object.
//!
//! It is written by our ServiceAccount alone. The floor knows less than the gate (neither rights but one, nor second
//! persons, nor other objects), so it lets through a little more, and never a protected cluster without a choice.

use std::fmt;

use jiff::Timestamp;
use velero_model::api::{ACCEPTED, BREAK_GLASS_BY, BREAK_GLASS_FOR, BackupStorage, StorageDisposition};

use super::choice::{Standing, standing};
use super::cluster::{Cluster, Stamp};
use super::deletion::{holds, owner_choice};
use super::settings::Settings;

/// What lets a cluster go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// A choice.
    Storage(BackupStorage),
    /// The broken glass.
    BreakGlass,
}

impl fmt::Display for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Storage(storage) => storage.word(),
            Self::BreakGlass => "BreakGlass",
        })
    }
}

/// What the annotation says about this very cluster; what it says about another one is nothing.
pub fn accepted(cluster: &Cluster) -> Option<Accepted> {
    let (word, uid) = cluster.annotation(ACCEPTED)?.split_once('/')?;
    if uid != cluster.uid || uid.is_empty() {
        return None;
    }
    match word {
        "BreakGlass" => Some(Accepted::BreakGlass),
        word => BackupStorage::parse(word).map(Accepted::Storage),
    }
}

/// What the annotation should say.
///
/// A cluster that is going keeps what let it go: it is too late to withdraw, and whoever does the work must find it.
pub fn wanted_mirror(
    cluster: &Cluster,
    neighbours: &[Cluster],
    dispositions: &[StorageDisposition],
    settings: &Settings,
    now: Timestamp,
) -> Option<String> {
    let says = |accepted: Accepted| Some(format!("{accepted}/{}", cluster.uid));
    // Softer at most: the guard refuses the rest, and what it missed changes nothing.
    let began = accepted(cluster).filter(|_| cluster.is_dying() && cluster.has_finalizer());
    if began == Some(Accepted::Storage(BackupStorage::Retain)) {
        return began.and_then(says);
    }
    match standing(cluster, dispositions, now) {
        Standing::Decided(choice) => return says(Accepted::Storage(choice.storage)),
        Standing::Undecided(faults) if !faults.iter().any(super::choice::Fault::is_contested) => {
            if let Some((_, choice)) = owner_choice(cluster, neighbours, dispositions, now) {
                return says(Accepted::Storage(choice.storage));
            }
        }
        Standing::Undecided(_) => {}
    }
    let glass = cluster
        .annotation(BREAK_GLASS_FOR)
        .and_then(Stamp::read)
        .filter(|stamp| stamp.uid == cluster.uid && holds(stamp.at, settings, cluster.moment(now)))
        .filter(|_| {
            cluster
                .annotation(BREAK_GLASS_BY)
                .is_some_and(|by| !by.is_empty())
        })
        .and_then(|_| cluster.break_glass())
        .filter(|reason| !reason.is_empty());
    if glass.is_some() {
        return says(Accepted::BreakGlass);
    }
    accepted(cluster).filter(|_| cluster.is_dying()).and_then(says)
}

/// Whether the floor lets a deletion through: the rule of the ValidatingAdmissionPolicy for clusters, in Rust, so that the
/// model test evaluates it too. The rights are those of whoever deletes.
pub fn floor(cluster: &Cluster, may_move: bool, may_break_glass: bool) -> bool {
    let breaks_glass = cluster.break_glass().is_some_and(|reason| !reason.is_empty()) && may_break_glass;
    let may_go = if cluster.is_marked_as_moved() {
        may_move
    } else {
        !cluster.is_protected()
    };
    cluster.is_dying() || accepted(cluster).is_some() || breaks_glass || may_go
}
