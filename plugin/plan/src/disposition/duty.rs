//! What the admission suite owes a cluster whose deletion has begun: an order for the work on its storage, or nothing.
//!
//! In come the cluster with its mirror, the choices beside it and the order that stands so far; out goes one [`Duty`]. The
//! mirror is what let the cluster go, so nothing is owed before it says what stands; while a cluster is going a choice
//! gets softer, from `Delete` to `Retain`, and never harder, whatever the objects say.

use jiff::Timestamp;
use velero_model::api::storage_work::{FORMAT, StorageOrder};
use velero_model::api::{BackupStorage, FinalBackup, SOURCE, StorageDisposition, WhenLocked};
use velero_model::duration::GoDuration;

use super::choice::{Choice, Fault, Source, Standing, standing};
use super::cluster::Cluster;
use super::deletion::owner_choice;
use super::message::{Commands, explain, name_of};
use super::mirror::{Accepted, accepted, wanted_mirror};
use super::settings::Settings;

/// What is owed.
#[derive(Debug, Clone, PartialEq)]
pub enum Duty {
    /// Nothing yet: it is not going, or not held by us, or its mirror has to be written first.
    Nothing,
    /// The finalizer goes, and nothing is done to the storage: clusterctl has moved the cluster.
    Moved,
    /// The finalizer goes, and nothing is done to the storage: the glass was broken.
    Unchosen,
    /// This is to be done. The revision is for [`revised`] to give.
    Work(Box<StorageOrder>),
    /// It is held, and somebody has to do something first.
    Held {
        /// In the vocabulary of conditions.
        reason: &'static str,
        /// What to do.
        message: String,
    },
}

/// What is owed to `cluster`. `known` is the order that stands for this very cluster.
pub fn duty(
    cluster: &Cluster,
    neighbours: &[Cluster],
    dispositions: &[StorageDisposition],
    known: Option<&StorageOrder>,
    settings: &Settings,
    now: Timestamp,
) -> Duty {
    if !cluster.is_dying() || !cluster.has_finalizer() {
        return Duty::Nothing;
    }
    if cluster.is_marked_as_moved() {
        return Duty::Moved;
    }
    let wanted = wanted_mirror(cluster, neighbours, dispositions, settings, now);
    let mirror = accepted(cluster);
    if mirror.map(|accepted| format!("{accepted}/{}", cluster.uid)) != wanted {
        return Duty::Nothing;
    }
    let storage = match mirror {
        None => return undecided(cluster, dispositions, now),
        Some(Accepted::BreakGlass) => return Duty::Unchosen,
        Some(Accepted::Storage(storage)) => storage,
    };
    let choice = match standing(cluster, dispositions, now) {
        Standing::Decided(choice) => Some(choice),
        Standing::Undecided(faults) if faults.iter().any(Fault::is_contested) => {
            return undecided(cluster, dispositions, now);
        }
        Standing::Undecided(_) => {
            owner_choice(cluster, neighbours, dispositions, now).map(|(_, choice)| choice)
        }
    };
    // The guard refuses what would make it harder, and so does this.
    let retained = BackupStorage::Retain;
    if storage == retained && choice.as_ref().is_some_and(|choice| choice.storage != retained) {
        let why = "its deletion began with Retain, and the choice says otherwise now";
        return held("TooLate", cluster, why);
    }
    if storage != retained && known.is_some_and(|known| known.choice == retained) {
        let why = "its backups are being kept already, and the choice says Delete now";
        return held("TooLate", cluster, why);
    }
    let Some((location, prefix)) = cluster
        .storage()
        .filter(|(location, prefix)| !location.is_empty() && !prefix.is_empty())
    else {
        return held(
            "LocationUnknown",
            cluster,
            "nothing on it says where its backups are",
        );
    };
    let order = match (choice, known) {
        (Some(choice), _) => ordered(cluster, &choice, dispositions),
        // The choice was in an object that is gone, or an owner's; what was ordered goes on.
        (None, Some(known)) => known.clone(),
        // To keep needs no more than the word that let it go. To delete does.
        (None, None) if storage == BackupStorage::Retain => plain(cluster, BackupStorage::Retain),
        (None, None) => {
            let why = "it was let go with Delete, and nobody's choice says so any more";
            return held("DecisionMissing", cluster, why);
        }
    };
    Duty::Work(Box::new(StorageOrder {
        choice: storage,
        source: cluster.annotation(SOURCE).map(str::to_owned).or(order.source),
        location: location.to_owned(),
        prefix: prefix.to_owned(),
        ..order
    }))
}

/// The order to be written, with its revision, if `wanted` is not what stands. `above` is the highest revision that was
/// seen anywhere, so that no number is given twice.
pub fn revised(known: Option<&StorageOrder>, wanted: StorageOrder, above: u64) -> Option<StorageOrder> {
    let Some(known) = known else {
        return Some(StorageOrder {
            revision: above + 1,
            ..wanted
        });
    };
    let wanted = StorageOrder {
        source: wanted.source.clone().or_else(|| known.source.clone()),
        ..wanted
    };
    // Who says so and when is told, and changes nothing about the work.
    let asks = |order: &StorageOrder| StorageOrder {
        format: 0,
        revision: 0,
        decided_by: Vec::new(),
        decided_at: None,
        ..order.clone()
    };
    (asks(known) != asks(&wanted)).then(|| StorageOrder {
        revision: known.revision.max(above) + 1,
        ..wanted
    })
}

fn held(reason: &'static str, cluster: &Cluster, why: &str) -> Duty {
    Duty::Held {
        reason,
        message: format!(
            "{} is going and is held: {why}. Choose: {}; whoever may decide may also take the finalizer off, and its \
             storage stays as it is",
            name_of(cluster),
            Commands::of(cluster).both()
        ),
    }
}

fn undecided(cluster: &Cluster, dispositions: &[StorageDisposition], now: Timestamp) -> Duty {
    let faults = match standing(cluster, dispositions, now) {
        Standing::Undecided(faults) => faults,
        Standing::Decided(_) => Vec::new(),
    };
    let reason = match faults.first() {
        Some(Fault::Contradiction { .. }) => "Contradiction",
        Some(Fault::UnknownWord { .. }) => "UnknownWord",
        _ => "Undecided",
    };
    let said: Vec<String> = faults.iter().map(explain).collect();
    let why = if said.is_empty() {
        "nobody has chosen what becomes of its backups".to_owned()
    } else {
        said.join("; ")
    };
    held(reason, cluster, &why)
}

fn plain(cluster: &Cluster, choice: BackupStorage) -> StorageOrder {
    StorageOrder {
        format: FORMAT,
        revision: 0,
        cluster: cluster.identity(),
        source: None,
        location: String::new(),
        prefix: String::new(),
        choice,
        retain_for: None,
        final_backup: FinalBackup::Skip,
        when_locked: WhenLocked::Wait,
        decided_by: Vec::new(),
        decided_at: None,
    }
}

fn ordered(cluster: &Cluster, choice: &Choice, dispositions: &[StorageDisposition]) -> StorageOrder {
    StorageOrder {
        retain_for: retain_for(cluster, choice, dispositions),
        when_locked: when_locked(cluster, choice, dispositions),
        final_backup: if choice.final_backup {
            FinalBackup::Required
        } else {
            FinalBackup::Skip
        },
        decided_by: choice.authors.iter().cloned().collect(),
        decided_at: Some(velero_model::time::to_seconds(choice.decided)),
        ..plain(cluster, choice.storage)
    }
}

/// The cluster goes before its locks only where everybody says so; the annotation has no words for it.
fn when_locked(cluster: &Cluster, choice: &Choice, dispositions: &[StorageDisposition]) -> WhenLocked {
    let says_so = |source: &Source| {
        let Source::Object(name) = source else {
            return false;
        };
        dispositions.iter().any(|object| {
            object.metadata.name.as_ref() == Some(name)
                && object.metadata.namespace.as_deref() == Some(&cluster.namespace)
                && object.spec.when_locked == WhenLocked::Release
        })
    };
    if choice.storage == BackupStorage::Delete && choice.sources.iter().all(says_so) {
        WhenLocked::Release
    } else {
        WhenLocked::Wait
    }
}

/// The longest of those who say how long; for ever where one object says nothing, or something that cannot be read. The
/// annotation has no words for it and leaves it to the objects.
fn retain_for(cluster: &Cluster, choice: &Choice, dispositions: &[StorageDisposition]) -> Option<String> {
    if choice.storage != BackupStorage::Retain {
        return None;
    }
    let mut longest: Option<(GoDuration, &str)> = None;
    for source in &choice.sources {
        let Source::Object(name) = source else {
            continue;
        };
        let object = dispositions.iter().find(|object| {
            object.metadata.name.as_ref() == Some(name)
                && object.metadata.namespace.as_deref() == Some(&cluster.namespace)
        })?;
        let text = object.spec.retain_for.as_deref()?;
        let length = GoDuration::parse(text).ok()?;
        if longest.is_none_or(|(known, _)| known < length) {
            longest = Some((length, text));
        }
    }
    longest.map(|(_, text)| text.to_owned())
}
