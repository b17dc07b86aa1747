//! Whether something may be deleted that clusters or their storage depend on: a namespace, a CRD, a location.
//!
//! A refusal here keeps what would otherwise be left half deleted: the namespace's own contents would be gone before its
//! cluster is refused, and a CRD takes its objects along without asking anybody.

use jiff::Timestamp;
use velero_model::api::{BackupStorage, DISPOSITIONS, GROUP, StorageDisposition};

use super::choice::{Standing, standing};
use super::cluster::Cluster;
use super::deletion::{Decision, Deletion, Outcome, Permission, Reason, decide};
use super::message::{self, Commands};
use super::settings::{LocationInUse, Settings};

/// The question, for a namespace, a CRD or a location.
#[derive(Debug, Clone, Copy)]
pub struct HolderDeletion<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether its deletion has begun.
    pub is_dying: bool,
    /// The clusters that may be concerned: those of the namespace, or all.
    pub clusters: &'a [Cluster],
    /// The StorageDispositions of the same namespaces.
    pub dispositions: &'a [StorageDisposition],
    /// Who deletes.
    pub caller: &'a str,
    /// What time it is.
    pub now: Timestamp,
    /// What the administrator has set.
    pub settings: &'a Settings,
}

/// A cluster that would be refused, and why in a word.
struct Refused<'a> {
    cluster: &'a Cluster,
    word: &'static str,
}

impl<'a> HolderDeletion<'a> {
    /// Those of `clusters` that would not be let go.
    fn refused(&self, clusters: impl Iterator<Item = &'a Cluster>) -> Vec<Refused<'a>> {
        // Whoever moves clusters deletes them one by one; a namespace is never moved.
        let may_move = Permission::No;
        let mut refused: Vec<Refused<'a>> = clusters
            .filter_map(|cluster| {
                let decision = decide(&Deletion {
                    cluster,
                    dispositions: self.dispositions,
                    neighbours: self.clusters,
                    caller: self.caller,
                    may_move: &may_move,
                    now: self.now,
                    settings: self.settings,
                });
                match decision.outcome {
                    Outcome::Allowed(_) => None,
                    Outcome::Denied(refusal) => Some(Refused {
                        cluster,
                        word: refusal.word,
                    }),
                }
            })
            .collect();
        refused.sort_by_key(|one| (&one.cluster.namespace, &one.cluster.kind, &one.cluster.name));
        refused
    }

    fn nothing_at_stake() -> Decision {
        Decision::allow(Reason::NothingAtStake)
    }

    fn deny(&self, what: &str, refused: &[Refused<'_>]) -> Decision {
        let clusters: Vec<&Cluster> = refused.iter().map(|one| one.cluster).collect();
        let all_undecided = refused.iter().all(|one| one.word == "undecided");
        let why = if all_undecided {
            "whose backup storage is not decided"
        } else {
            "that may not be deleted yet"
        };
        let count = match clusters.len() {
            1 => "1 cluster".to_owned(),
            count => format!("{count} clusters"),
        };
        let commands = clusters
            .first()
            .map_or_else(String::new, |first| Commands::of(first).both());
        Decision::deny(
            "holds-clusters",
            format!(
                "{what} {} holds {count} {why}: {}. Choose for each first: {commands}",
                self.name,
                message::some(&clusters)
            ),
        )
    }
}

/// A namespace, with its clusters and dispositions.
pub fn namespace(deletion: &HolderDeletion<'_>) -> Decision {
    if deletion.is_dying {
        return HolderDeletion::nothing_at_stake();
    }
    let refused = deletion.refused(deletion.clusters.iter());
    if refused.is_empty() {
        return HolderDeletion::nothing_at_stake();
    }
    deletion.deny("namespace", &refused)
}

/// A CRD: that of a kind of clusters, or of the dispositions themselves. Its objects go without being asked about, so
/// all of them are asked about here.
pub fn definition(deletion: &HolderDeletion<'_>) -> Decision {
    if deletion.is_dying {
        return HolderDeletion::nothing_at_stake();
    }
    if deletion.name == format!("{DISPOSITIONS}.{GROUP}") {
        return dispositions(deletion);
    }
    let Some(kind) = deletion.settings.kind_of_definition(deletion.name) else {
        return HolderDeletion::nothing_at_stake();
    };
    let of_kind = deletion
        .clusters
        .iter()
        .filter(|cluster| cluster.group == kind.group && cluster.kind == kind.kind);
    let refused = deletion.refused(of_kind);
    if refused.is_empty() {
        return HolderDeletion::nothing_at_stake();
    }
    deletion.deny("customresourcedefinition", &refused)
}

/// With their CRD every choice that is an object would be lost.
fn dispositions(deletion: &HolderDeletion<'_>) -> Decision {
    let held: Vec<&Cluster> = deletion
        .clusters
        .iter()
        .filter(|cluster| {
            let objects = deletion.dispositions.iter();
            let mut of_it = objects.filter(|object| object.spec.cluster_ref.uid == cluster.uid);
            of_it.next().is_some()
        })
        .collect();
    if held.is_empty() {
        return HolderDeletion::nothing_at_stake();
    }
    Decision::deny(
        "holds-choices",
        format!(
            "customresourcedefinition {} holds the choice about {}, which would be lost. Delete the clusters first, or \
                 withdraw the choices",
            deletion.name,
            message::some(&held)
        ),
    )
}

/// A BackupStorageLocation: in use by clusters that are there, and by storage that was kept of clusters that are gone.
pub fn location(deletion: &HolderDeletion<'_>) -> Decision {
    let lies_here = |place: Option<&str>| {
        place
            .and_then(|place| place.rsplit_once(':'))
            .is_some_and(|(location, _)| location == deletion.name)
    };
    let mut users: Vec<String> = deletion
        .clusters
        .iter()
        .filter(|cluster| lies_here(cluster.annotation(velero_model::api::PROTECTED)))
        .map(|cluster| {
            let says = match standing(cluster, deletion.dispositions, deletion.now) {
                Standing::Decided(choice) => choice.storage.word(),
                Standing::Undecided(_) => "undecided",
            };
            format!("{} ({says})", message::name_of(cluster))
        })
        .collect();
    let is_there = |uid: &str| deletion.clusters.iter().any(|cluster| cluster.uid == uid);
    users.extend(deletion.dispositions.iter().filter_map(|object| {
        let kept = object.spec.backup_storage == BackupStorage::Retain;
        let place = object
            .status
            .as_ref()
            .and_then(|status| status.location.as_deref());
        (kept && lies_here(place) && !is_there(&object.spec.cluster_ref.uid)).then(|| {
            format!(
                "storagedisposition {}/{} (kept of {}, which is gone)",
                object.metadata.namespace.as_deref().unwrap_or_default(),
                object.metadata.name.as_deref().unwrap_or_default(),
                object.spec.cluster_ref.name
            )
        })
    }));
    users.sort();
    if users.is_empty() || deletion.is_dying {
        return HolderDeletion::nothing_at_stake();
    }
    let more = match users.len().saturating_sub(3) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    users.truncate(3);
    let text = format!(
        "backupstoragelocation {} holds the backups of {}{more}",
        deletion.name,
        users.join(", ")
    );
    match deletion.settings.location_in_use {
        LocationInUse::Warn => HolderDeletion::nothing_at_stake().warned(text),
        LocationInUse::Deny => Decision::deny(
            "location-in-use",
            format!("{text}. Without it nobody finds them again; see `kubectl backup cluster status -A`"),
        ),
    }
}
