//! Whether a cluster may be deleted.
//!
//! The order of the rules is the order of the questions: is it going already, is it only moved, was the glass broken,
//! was it ever protected, is its storage decided (by itself or by the owner that takes it along), and can what was
//! decided still be done.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use velero_model::api::{BREAK_GLASS_BY, BREAK_GLASS_FOR, BackupStorage, StorageDisposition};

use super::choice::{Choice, Fault, Source, Standing, standing};
use super::cluster::{Cluster, Stamp};
use super::message;
use super::settings::{Settings, Unprotected};
use super::stake::at_stake;

/// The question.
#[derive(Debug, Clone, Copy)]
pub struct Deletion<'a> {
    /// What would go.
    pub cluster: &'a Cluster,
    /// The StorageDispositions of its namespace.
    pub dispositions: &'a [StorageDisposition],
    /// Other clusters of its namespace: owners and dependents are found among them by UID.
    pub neighbours: &'a [Cluster],
    /// Who deletes.
    pub caller: &'a str,
    /// Whether they may move clusters. Only looked at where clusterctl's mark is.
    pub may_move: &'a Permission,
    /// What time it is.
    pub now: Timestamp,
    /// What the administrator has set.
    pub settings: &'a Settings,
}

/// Whether somebody may do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    /// They may.
    Yes,
    /// They may not.
    No,
    /// Nobody knows, and why.
    Unknown(String),
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Yes or no.
    pub outcome: Outcome,
    /// For whoever deletes.
    pub warnings: Vec<String>,
    /// For the audit log.
    pub audit: BTreeMap<&'static str, String>,
}

/// Yes or no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It may go.
    Allowed(Reason),
    /// It stays.
    Denied(Refusal),
}

/// Why it may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is going already, or there is nothing to guard.
    NothingAtStake,
    /// clusterctl has moved it.
    Moved,
    /// Somebody broke the glass.
    BrokeGlass,
    /// It was never protected.
    NeverProtected,
    /// Its storage is decided.
    Decided(Choice),
    /// The storage of the owner that takes it along is decided.
    Inherited(Choice),
}

/// Why it stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// In a word, for metrics and audit.
    pub word: &'static str,
    /// For a person; the same every time.
    pub message: String,
}

impl Decision {
    pub(super) fn allow(reason: Reason) -> Self {
        let word = match &reason {
            Reason::NothingAtStake => "nothing-at-stake",
            Reason::Moved => "moved",
            Reason::BrokeGlass => "break-glass",
            Reason::NeverProtected => "never-protected",
            Reason::Decided(_) => "decided",
            Reason::Inherited(_) => "inherited",
        };
        Self::with(Outcome::Allowed(reason), word)
    }

    pub(super) fn deny(word: &'static str, message: String) -> Self {
        Self::with(Outcome::Denied(Refusal { word, message }), word)
    }

    fn with(outcome: Outcome, word: &'static str) -> Self {
        Self {
            outcome,
            warnings: Vec::new(),
            audit: BTreeMap::from([("reason", word.to_owned())]),
        }
    }

    pub(super) fn audited(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.audit.insert(key, value.into());
        self
    }

    pub(super) fn warned(mut self, warning: impl Into<String>) -> Self {
        self.warnings.push(warning.into());
        self
    }

    /// Whether it is a yes.
    pub fn is_allowed(&self) -> bool {
        matches!(self.outcome, Outcome::Allowed(_))
    }

    /// Whether nothing that could have been read would change it.
    pub fn stands_by_itself(&self) -> bool {
        matches!(
            self.outcome,
            Outcome::Allowed(Reason::NothingAtStake | Reason::Moved | Reason::BrokeGlass)
        ) || matches!(&self.outcome, Outcome::Denied(refusal) if refusal.word == "may-not-move")
    }

    /// Whether it would be given on the strength of objects that may have changed since they were read: then it is to be
    /// made again from what the API server says now. The annotations of the cluster itself come with the request.
    pub fn rests_on_what_was_read(&self) -> bool {
        match &self.outcome {
            Outcome::Denied(_) | Outcome::Allowed(Reason::Inherited(_)) => true,
            Outcome::Allowed(Reason::Decided(choice)) => {
                choice.sources.iter().any(|source| *source != Source::Annotation)
            }
            Outcome::Allowed(_) => false,
        }
    }
}

/// Whether the cluster may be deleted.
pub fn decide(deletion: &Deletion<'_>) -> Decision {
    let cluster = deletion.cluster;
    if cluster.is_dying() {
        return Decision::allow(Reason::NothingAtStake).audited("deletion", "has begun already");
    }
    if cluster.is_marked_as_moved() {
        return match deletion.may_move {
            Permission::Yes => Decision::allow(Reason::Moved).audited("moved-by", deletion.caller),
            Permission::No => Decision::deny("may-not-move", message::may_not_move(cluster, deletion.caller)),
            Permission::Unknown(why) => Decision::deny("unreachable", message::unreachable(cluster, why)),
        };
    }
    if let Some(decision) = broken_glass(deletion) {
        return decision;
    }
    let own = standing(cluster, deletion.dispositions, deletion.now);
    let undecided: Vec<&Cluster> = undecided_dependents(deletion);
    match own {
        Standing::Decided(choice) => conditions(deletion, choice, None),
        Standing::Undecided(faults) => match inherited(deletion, &faults) {
            Some((owner, choice)) => conditions(deletion, choice, Some(owner)),
            None if cluster.is_protected() || faults.iter().any(Fault::is_contested) => {
                Decision::deny("undecided", message::undecided(cluster, &faults))
            }
            None if !undecided.is_empty() => {
                Decision::deny("undecided-dependents", message::children(cluster, &undecided))
            }
            None => never_protected(deletion, &faults),
        },
    }
}

/// No, because what it depends on could not be read.
pub fn unreadable(cluster: &Cluster, why: &str) -> Decision {
    Decision::deny("unreachable", message::unreachable(cluster, why))
}

fn never_protected(deletion: &Deletion<'_>, faults: &[Fault]) -> Decision {
    let cluster = deletion.cluster;
    match deletion.settings.unprotected {
        Unprotected::Deny => Decision::deny("never-protected", message::undecided(cluster, faults)),
        Unprotected::Warn => Decision::allow(Reason::NeverProtected).warned(format!(
            "{} was never protected: nobody here knows whether it has backups",
            message::name_of(cluster)
        )),
    }
}

/// The glass counts if the server has stamped who broke it, for this cluster, not too long ago.
fn broken_glass(deletion: &Deletion<'_>) -> Option<Decision> {
    let cluster = deletion.cluster;
    let reason = cluster.break_glass().filter(|reason| !reason.is_empty())?;
    let by = cluster.annotation(BREAK_GLASS_BY).filter(|by| !by.is_empty())?;
    let stamp = Stamp::read(cluster.annotation(BREAK_GLASS_FOR)?)?;
    if stamp.uid != cluster.uid || !holds(stamp.at, deletion.settings, deletion.now) {
        return None;
    }
    let decision = Decision::allow(Reason::BrokeGlass)
        .audited("break-glass", reason)
        .audited("break-glass-by", by)
        .warned(format!(
            "{} goes without a choice, on the word of {by}: {reason}",
            message::name_of(cluster)
        ));
    if cluster.has_finalizer() {
        let still = "the finalizer of its backup storage still holds it; see kubectl backup cluster status";
        return Some(decision.warned(still));
    }
    Some(decision)
}

pub(super) fn holds(broken: Timestamp, settings: &Settings, now: Timestamp) -> bool {
    SignedDuration::try_from(settings.break_glass_for.0)
        .ok()
        .and_then(|lasts| broken.checked_add(lasts).ok())
        .is_some_and(|until| now < until)
}

/// The choice for the owner that takes the cluster along.
fn inherited<'a>(deletion: &Deletion<'a>, faults: &[Fault]) -> Option<(&'a Cluster, Choice)> {
    if faults.iter().any(Fault::is_contested) {
        return None;
    }
    owner_choice(
        deletion.cluster,
        deletion.neighbours,
        deletion.dispositions,
        deletion.now,
    )
}

pub(super) fn owner_choice<'a>(
    cluster: &Cluster,
    neighbours: &'a [Cluster],
    dispositions: &[StorageDisposition],
    now: Timestamp,
) -> Option<(&'a Cluster, Choice)> {
    let owner = neighbours.iter().find(|other| cluster.is_controlled_by(other))?;
    match standing(owner, dispositions, now) {
        Standing::Decided(choice) => Some((owner, choice)),
        Standing::Undecided(_) => None,
    }
}

/// Protected clusters that would be deleted along and would be refused.
fn undecided_dependents<'a>(deletion: &Deletion<'a>) -> Vec<&'a Cluster> {
    let dependents = deletion.neighbours.iter().filter(|other| {
        other.is_controlled_by(deletion.cluster)
            && other.is_protected()
            && !other.is_dying()
            && matches!(
                standing(other, deletion.dispositions, deletion.now),
                Standing::Undecided(_)
            )
    });
    let mut dependents: Vec<_> = dependents.collect();
    dependents.sort_by_key(|cluster| (&cluster.kind, &cluster.name));
    dependents
}

/// Whether what was chosen can still be done, and may be asked for by this caller.
fn conditions(deletion: &Deletion<'_>, choice: Choice, owner: Option<&Cluster>) -> Decision {
    let Deletion {
        cluster,
        caller,
        settings,
        now,
        ..
    } = *deletion;
    let newest = at_stake(cluster).and_then(|facts| facts.newest);
    if cluster.is_protected() && !cluster.has_finalizer() {
        return Decision::deny("no-finalizer", message::unheld(cluster));
    }
    let is_delete = choice.storage == BackupStorage::Delete;
    if settings.four_eyes && is_delete && choice.authors.iter().all(|author| author == caller) {
        return Decision::deny("four-eyes", message::same_person(cluster, caller));
    }
    let has_final = newest.is_some_and(|newest| newest > choice.decided);
    if choice.final_backup && !has_final && !cluster.has_finalizer() {
        return Decision::deny("no-final-backup", message::no_final_backup(cluster, &choice));
    }
    if let Some(freshness) = settings.freshness.filter(|_| !is_delete && !choice.final_backup) {
        let oldest = SignedDuration::try_from(freshness.0)
            .ok()
            .and_then(|age| now.checked_sub(age).ok());
        let is_fresh = newest.is_some_and(|newest| oldest.is_none_or(|oldest| newest >= oldest));
        if !is_fresh {
            let message = message::not_fresh(cluster, newest, &freshness.to_string());
            return Decision::deny("not-fresh", message);
        }
    }
    let authors: Vec<String> = choice.authors.iter().cloned().collect();
    let sources: Vec<String> = choice.sources.iter().map(ToString::to_string).collect();
    let storage = choice.storage.word();
    let decision = match owner {
        None => Decision::allow(Reason::Decided(choice)),
        Some(owner) => Decision::allow(Reason::Inherited(choice)).audited("owner", message::name_of(owner)),
    };
    decision
        .audited("decision", storage)
        .audited("author", authors.join(", "))
        .audited("source", sources.join(", "))
}
