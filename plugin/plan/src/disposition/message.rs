//! The words of a refusal: what, why, what is at stake, and the two commands that unblock.

use velero_model::api::{BackupStorage, DISPOSITION, FINALIZER};
use velero_model::time;

use super::choice::{Choice, Fault, Source};
use super::cluster::Cluster;
use super::stake::stake;

/// `cluster team-a/prod`.
pub fn name_of(cluster: &Cluster) -> String {
    format!(
        "{} {}/{}",
        cluster.kind.to_lowercase(),
        cluster.namespace,
        cluster.name
    )
}

/// The two commands that choose, and the one that protects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commands {
    /// Keeps the storage.
    pub retain: String,
    /// Has it deleted.
    pub delete_storage: String,
    /// Protects, or repairs the protection.
    pub protect: String,
}

impl Commands {
    /// Of this cluster.
    pub fn of(cluster: &Cluster) -> Self {
        let command = |verb: &str| {
            format!(
                "kubectl backup cluster {verb} {} -n {}",
                cluster.name, cluster.namespace
            )
        };
        Self {
            retain: command("retain"),
            delete_storage: command("delete-storage"),
            protect: command("protect"),
        }
    }

    /// Both choices, with what each does.
    pub fn both(&self) -> String {
        format!(
            "`{}` keeps the storage, `{}` has it deleted",
            self.retain, self.delete_storage
        )
    }
}

/// Nobody has chosen.
pub(super) fn undecided(cluster: &Cluster, faults: &[Fault]) -> String {
    let found: Vec<String> = faults
        .iter()
        .map(|fault| format!("; {}", explain(fault)))
        .collect();
    format!(
        "{} has {} and nobody has chosen what becomes of it{}. Choose first: {}",
        name_of(cluster),
        stake(cluster),
        found.concat(),
        Commands::of(cluster).both()
    )
}

/// What looks like a choice and is none, in a clause.
pub fn explain(fault: &Fault) -> String {
    match fault {
        Fault::Stale { source, says, uid } => {
            format!("{source} says {says} for another cluster of this name (uid {uid}), not for this one")
        }
        Fault::Expired { source, says, at } => {
            format!("{source} said {says} and has expired at {}", time::format(*at))
        }
        Fault::UnknownWord { word } => format!("annotation {DISPOSITION} says {word:?}; {}", allowed_words()),
        Fault::Unstamped { source } => {
            format!("{source} bears no author stamped by the server: remove it and choose again")
        }
        Fault::Malformed { source, found } => {
            format!("{source} has expiresAfter {found:?}, which is no duration")
        }
        Fault::Contradiction { retain, delete } => format!(
            "{} says Retain and {} says Delete: remove one",
            list(retain),
            list(delete)
        ),
    }
}

/// The allowed words, as a clause.
pub(super) fn allowed_words() -> String {
    let words = BackupStorage::ALL.map(BackupStorage::word);
    format!("the words are {}", words.join(" and "))
}

fn list(sources: &[Source]) -> String {
    let shown: Vec<String> = sources.iter().map(ToString::to_string).collect();
    shown.join(", ")
}

/// Decided, and the finalizer is not there.
pub(super) fn unheld(cluster: &Cluster) -> String {
    format!(
        "{} is protected and lacks the finalizer {FINALIZER}, so it would be gone before anything is done about its {}. \
         Repair it first: `{}`",
        name_of(cluster),
        stake(cluster),
        Commands::of(cluster).protect
    )
}

/// A last backup is asked for and nothing would hold the cluster for it.
pub(super) fn no_final_backup(cluster: &Cluster, choice: &Choice) -> String {
    format!(
        "{} must be backed up once more before it goes ({} asks for it) and no backup is newer than the choice of {}; \
         without the finalizer {FINALIZER} nothing holds the cluster for it. Protect it first: `{}`",
        name_of(cluster),
        list(&choice.sources),
        time::format(choice.decided),
        Commands::of(cluster).protect
    )
}

/// The author of `Delete` deletes.
pub(super) fn same_person(cluster: &Cluster, caller: &str) -> String {
    format!(
        "{} has {}; {caller} has chosen Delete and may not delete the cluster as well: anybody else who may delete it must \
         do so, or somebody else who may decide must choose Delete too (`{}`)",
        name_of(cluster),
        stake(cluster),
        Commands::of(cluster).delete_storage
    )
}

/// What is kept would be too old.
pub(super) fn not_fresh(cluster: &Cluster, newest: Option<jiff::Timestamp>, freshness: &str) -> String {
    let newest = newest.map_or_else(
        || "no backup has been counted".to_owned(),
        |newest| format!("its newest backup is of {}", time::format(newest)),
    );
    format!(
        "{} is to be kept for recovery and {newest}; here the newest may be {freshness} old at most. Back the cluster up \
         first, or choose again with finalBackup: Required",
        name_of(cluster)
    )
}

/// The mark of clusterctl, by somebody who may not move.
pub(super) fn may_not_move(cluster: &Cluster, caller: &str) -> String {
    format!(
        "{} is marked as moved by clusterctl and {caller} may not move clusters here (verb move on \
         storagedispositions.kubectl-backup.io); if it was not moved, choose: {}",
        name_of(cluster),
        Commands::of(cluster).both()
    )
}

/// The API server could not be asked.
pub(super) fn unreachable(cluster: &Cluster, why: &str) -> String {
    format!(
        "{}: whether its backup storage is decided could not be read ({why}); nothing is deleted meanwhile. Try again",
        name_of(cluster)
    )
}

/// An owner whose dependents are undecided.
pub(super) fn children(cluster: &Cluster, undecided: &[&Cluster]) -> String {
    format!(
        "deleting {} deletes {}, and nobody has chosen what becomes of the backup storage. Choose first: {}",
        name_of(cluster),
        some(undecided),
        undecided.first().map_or_else(
            || Commands::of(cluster).both(),
            |first| Commands::of(first).both()
        )
    )
}

/// Up to three by name, the rest as a number.
pub(super) fn some(clusters: &[&Cluster]) -> String {
    const SHOWN: usize = 3;
    let names: Vec<String> = clusters
        .iter()
        .take(SHOWN)
        .map(|cluster| name_of(cluster))
        .collect();
    match clusters.len().saturating_sub(SHOWN) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}
