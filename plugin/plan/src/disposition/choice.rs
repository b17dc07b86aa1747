//! What has been chosen for a cluster, and by whom.
//!
//! A choice lies in the annotation of the cluster or in StorageDispositions beside it. It counts if it was made for this
//! UID, bears the author that the server stamped, and has not expired. Several that say the same are one; two that
//! differ are none: nobody can tell which was meant.

use std::collections::BTreeSet;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use velero_model::api::{
    BackupStorage, DECIDED_BY, DECIDED_FOR, DISPOSITION, FinalBackup, StorageDisposition,
};
use velero_model::duration::GoDuration;

use super::cluster::{Cluster, Stamp};

/// What has been chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The word.
    pub storage: BackupStorage,
    /// Everybody who has chosen it.
    pub authors: BTreeSet<String>,
    /// When it was chosen last.
    pub decided: Timestamp,
    /// Whether a last backup must be taken.
    pub final_backup: bool,
    /// When the last of it expires.
    pub expires: Option<Timestamp>,
    /// Where it stands.
    pub sources: Vec<Source>,
}

/// Where a choice stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// In the annotation of the cluster.
    Annotation,
    /// In the StorageDisposition of this name.
    Object(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Annotation => write!(f, "annotation {DISPOSITION}"),
            Self::Object(name) => write!(f, "storagedisposition {name:?}"),
        }
    }
}

/// Whether something has been chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Yes.
    Decided(Choice),
    /// No, and what looks like a choice without being one.
    Undecided(Vec<Fault>),
}

/// Why something that looks like a choice is none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Made for another cluster of the same name.
    Stale {
        /// Where.
        source: Source,
        /// The word.
        says: &'static str,
        /// The other one.
        uid: String,
    },
    /// It has expired.
    Expired {
        /// Where.
        source: Source,
        /// The word.
        says: &'static str,
        /// When.
        at: Timestamp,
    },
    /// A word that means nothing.
    UnknownWord {
        /// The word, cut.
        word: String,
    },
    /// The server has not stamped it: the guard was not there.
    Unstamped {
        /// Where.
        source: Source,
    },
    /// A duration that is none.
    Malformed {
        /// Where.
        source: Source,
        /// What was found, cut.
        found: String,
    },
    /// Two that count and differ.
    Contradiction {
        /// Those that say `Retain`.
        retain: Vec<Source>,
        /// Those that say `Delete`.
        delete: Vec<Source>,
    },
}

impl Fault {
    /// Whether it must be cleared before an owner's choice can stand in: somebody said something about this very
    /// cluster, and it cannot be understood.
    pub fn is_contested(&self) -> bool {
        matches!(self, Self::UnknownWord { .. } | Self::Contradiction { .. })
    }
}

/// What has been chosen for `cluster`, by its annotation and by those of `dispositions` that name it.
pub fn standing(cluster: &Cluster, dispositions: &[StorageDisposition], now: Timestamp) -> Standing {
    let now = cluster.moment(now);
    let mut choices = Vec::new();
    let mut faults = Vec::new();
    let mut note = |found| match found {
        Ok(choice) => choices.push(choice),
        Err(fault) => faults.push(fault),
    };
    if let Some(word) = cluster.annotation(DISPOSITION) {
        note(annotated(cluster, word));
    }
    let mut named: Vec<_> = dispositions
        .iter()
        .filter(|object| names(object, cluster))
        .collect();
    named.sort_by_key(|object| object.metadata.name.clone());
    for object in named {
        note(written(cluster, object, now));
    }
    faults.sort();
    if faults.iter().any(Fault::is_contested) {
        return Standing::Undecided(faults);
    }
    match merge(choices) {
        Ok(Some(choice)) => Standing::Decided(choice),
        Ok(None) => Standing::Undecided(faults),
        Err(contradiction) => Standing::Undecided(vec![contradiction]),
    }
}

/// Whether a disposition is about a cluster of this kind, namespace and name, whatever its UID.
fn names(object: &StorageDisposition, cluster: &Cluster) -> bool {
    let reference = &object.spec.cluster_ref;
    object.metadata.namespace.as_deref() == Some(&cluster.namespace)
        && object.metadata.deletion_timestamp.is_none()
        && reference.group == cluster.group
        && reference.kind == cluster.kind
        && reference.name == cluster.name
}

fn annotated(cluster: &Cluster, word: &str) -> Result<Choice, Fault> {
    let source = Source::Annotation;
    let storage = BackupStorage::parse(word).ok_or_else(|| Fault::UnknownWord { word: cut(word) })?;
    let author = cluster.annotation(DECIDED_BY).filter(|author| !author.is_empty());
    let stamp = cluster.annotation(DECIDED_FOR).and_then(Stamp::read);
    let (Some(author), Some(stamp)) = (author, stamp) else {
        return Err(Fault::Unstamped { source });
    };
    if stamp.uid != cluster.uid {
        return Err(Fault::Stale {
            source,
            says: storage.word(),
            uid: stamp.uid,
        });
    }
    Ok(Choice {
        storage,
        authors: BTreeSet::from([author.to_owned()]),
        decided: stamp.at,
        final_backup: false,
        expires: None,
        sources: vec![source],
    })
}

fn written(cluster: &Cluster, object: &StorageDisposition, now: Timestamp) -> Result<Choice, Fault> {
    let source = Source::Object(object.metadata.name.clone().unwrap_or_default());
    let spec = &object.spec;
    let storage = spec.backup_storage;
    if spec.cluster_ref.uid != cluster.uid {
        return Err(Fault::Stale {
            source,
            says: storage.word(),
            uid: spec.cluster_ref.uid.clone(),
        });
    }
    let annotation = |key| object.metadata.annotations.as_ref()?.get(key);
    let author = annotation(DECIDED_BY).filter(|author| !author.is_empty());
    let stamp = annotation(DECIDED_FOR).and_then(|text| Stamp::read(text));
    let (Some(author), Some(stamp)) = (author, stamp.filter(|stamp| stamp.uid == cluster.uid)) else {
        return Err(Fault::Unstamped { source });
    };
    let expires = match spec.expires_after.as_deref() {
        None => None,
        Some(text) => {
            let begin = object
                .metadata
                .creation_timestamp
                .as_ref()
                .map_or(stamp.at, |time| time.0);
            let after = GoDuration::parse(text).ok().and_then(|after| {
                let after = SignedDuration::try_from(after.0).ok()?;
                begin.checked_add(after).ok()
            });
            let Some(at) = after else {
                return Err(Fault::Malformed {
                    source,
                    found: cut(text),
                });
            };
            Some(at)
        }
    };
    if let Some(at) = expires.filter(|at| *at <= now) {
        return Err(Fault::Expired {
            source,
            says: storage.word(),
            at,
        });
    }
    Ok(Choice {
        storage,
        authors: BTreeSet::from([author.clone()]),
        decided: stamp.at,
        final_backup: spec.final_backup == FinalBackup::Required,
        expires,
        sources: vec![source],
    })
}

/// One choice of several that say the same.
fn merge(choices: Vec<Choice>) -> Result<Option<Choice>, Fault> {
    let says = |storage| {
        let of = choices.iter().filter(move |choice| choice.storage == storage);
        of.flat_map(|choice| choice.sources.clone()).collect::<Vec<_>>()
    };
    let (retain, delete) = (says(BackupStorage::Retain), says(BackupStorage::Delete));
    if !retain.is_empty() && !delete.is_empty() {
        return Err(Fault::Contradiction { retain, delete });
    }
    Ok(choices.into_iter().reduce(|mut all, one| {
        all.authors.extend(one.authors);
        all.decided = all.decided.max(one.decided);
        all.final_backup |= one.final_backup;
        // While one of them holds, the choice holds.
        all.expires = all.expires.zip(one.expires).map(|(a, b)| a.max(b));
        all.sources.extend(one.sources);
        all
    }))
}

/// Text of users, short enough for a message.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(60).collect()
}
