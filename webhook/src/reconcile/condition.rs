//! What the status of a StorageDisposition says.
//!
//! `Accepted` while the choice counts. A cluster that is going is held by our finalizer until what was chosen is done:
//! `FinalBackupTaken`, `StorageDeleted` and `StorageRetained` say how far that is and what to do where it does not go on,
//! and the receipt what was done.

use backup_plan::disposition::{Cluster, Fault, Source, Standing, explain, name_of, standing};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};
use velero_model::api::{BackupStorage, FinalBackup, PROTECTED, Receipt, StorageDisposition};

use super::work::Progress;
use crate::decide::world::Known;

/// The changes of its status, if there are any. `progress` is that of the work for its cluster, where somebody looked.
pub(super) fn wanted_status(
    object: &StorageDisposition,
    known: &Known,
    progress: Option<&Progress>,
    now: Timestamp,
) -> Option<Value> {
    let reference = &object.spec.cluster_ref;
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let cluster = known.cluster(&reference.group, &reference.kind, namespace, &reference.name);
    let had = object.status.clone().unwrap_or_default();
    let was_accepted = had
        .conditions
        .iter()
        .any(|condition| condition.type_ == "Accepted" && condition.status == "True");
    let Some(cluster) = cluster.filter(|cluster| cluster.uid == reference.uid) else {
        // The record of a cluster that is gone stays as it was.
        if was_accepted {
            return None;
        }
        let (reason, message) = match cluster {
            Some(other) => (
                "ClusterReplaced",
                format!("{} is another one now, uid {}", name_of(other), other.uid),
            ),
            None => (
                "ClusterNotFound",
                format!(
                    "there is no {} {namespace}/{}",
                    reference.kind.to_lowercase(),
                    reference.name
                ),
            ),
        };
        return changes(
            object,
            &[condition("Accepted", false, reason, message)],
            None,
            None,
            now,
        );
    };
    let accepted = accepted(object, cluster, known, now);
    let mut wanted = vec![accepted];
    let is_accepted = wanted.iter().all(|condition| condition.status == "True");
    let progress = progress.filter(|_| is_accepted);
    if let Some(progress) = progress {
        wanted.extend(of_work(object, progress));
    }
    let location = cluster.annotation(PROTECTED).filter(|_| is_accepted);
    changes(object, &wanted, location, progress.and_then(receipt), now)
}

fn accepted(object: &StorageDisposition, cluster: &Cluster, known: &Known, now: Timestamp) -> Condition {
    let name = object.metadata.name.clone().unwrap_or_default();
    let source = Source::Object(name);
    let storage = object.spec.backup_storage.word();
    match standing(cluster, &known.dispositions, now) {
        Standing::Decided(choice) if choice.sources.contains(&source) => condition(
            "Accepted",
            true,
            "Accepted",
            format!("{storage} holds for {}, uid {}", name_of(cluster), cluster.uid),
        ),
        Standing::Decided(_) => {
            let now = cluster.moment(now);
            // It alone is none: what the others say is beside the point.
            let alone = standing(
                &Cluster {
                    annotations: [].into(),
                    ..cluster.clone()
                },
                std::slice::from_ref(object),
                now,
            );
            match alone {
                Standing::Undecided(faults) => refused(&faults),
                Standing::Decided(_) => refused(&[]),
            }
        }
        Standing::Undecided(faults) => refused(&faults),
    }
}

fn refused(faults: &[Fault]) -> Condition {
    let reason = match faults.first() {
        Some(Fault::Stale { .. }) => "ClusterReplaced",
        Some(Fault::Expired { .. }) => "Expired",
        Some(Fault::UnknownWord { .. }) => "UnknownWord",
        Some(Fault::Unstamped { .. }) | None => "NoAuthor",
        Some(Fault::Malformed { .. }) => "NoDuration",
        Some(Fault::Contradiction { .. }) => "Contradiction",
    };
    let message: Vec<String> = faults.iter().map(explain).collect();
    condition("Accepted", false, reason, message.join("; "))
}

const DELETED: &str = "StorageDeleted";
const RETAINED: &str = "StorageRetained";

/// What is said of the work.
fn of_work(object: &StorageDisposition, progress: &Progress) -> Vec<Condition> {
    let (kind, other) = match progress.choice.unwrap_or(object.spec.backup_storage) {
        BackupStorage::Delete => (DELETED, RETAINED),
        BackupStorage::Retain => (RETAINED, DELETED),
    };
    let mut all = vec![condition(
        kind,
        progress.is_done,
        &progress.reason,
        progress.message.clone(),
    )];
    let had = object.status.as_ref().map(|status| status.conditions.as_slice());
    if had.unwrap_or_default().iter().any(|had| had.type_ == other) {
        let message = "something else has been chosen since".to_owned();
        all.push(condition(other, false, "ChoiceChanged", message));
    }
    let wants_backup =
        |order: &velero_model::api::storage_work::StorageOrder| order.final_backup == FinalBackup::Required;
    if progress.order.as_ref().is_some_and(wants_backup) {
        let taken = progress
            .report
            .as_ref()
            .and_then(|report| report.final_backup.as_ref());
        all.push(match taken {
            Some(backup) if backup.verified => condition(
                "FinalBackupTaken",
                true,
                "Verified",
                format!(
                    "backup {} was taken ({}) and read back",
                    backup.name, backup.phase
                ),
            ),
            _ => condition(
                "FinalBackupTaken",
                false,
                &progress.reason,
                format!(
                    "{} Without a last backup it goes on with finalBackup: Skip",
                    sentence(&progress.message)
                ),
            ),
        });
    }
    all
}

fn sentence(text: &str) -> String {
    let text = text.trim_end();
    if text.ends_with('.') {
        text.to_owned()
    } else {
        format!("{text}.")
    }
}

/// What was done so far, if anything was.
fn receipt(progress: &Progress) -> Option<Receipt> {
    let (order, report) = (progress.order.as_ref()?, progress.report.as_ref()?);
    let done = &report.receipt;
    let authors = order.decided_by.join(", ");
    let completed = report.finished_at.filter(|_| progress.is_done);
    Some(Receipt {
        backups: done.backups,
        // The report counts older versions and delete markers beside the keys.
        keys: done
            .keys
            .saturating_add(done.versions)
            .saturating_add(done.delete_markers),
        bytes: done.bytes,
        author: (!authors.is_empty()).then_some(authors),
        started: Some(Time(report.started_at)),
        completed: completed.map(Time),
    })
}

fn condition(kind: &str, holds: bool, reason: &str, message: String) -> Condition {
    Condition {
        type_: kind.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
        observed_generation: None,
    }
}

/// The status with `wanted` in it, if that differs; conditions of others stay, and so does the time of what stays.
fn changes(
    object: &StorageDisposition,
    wanted: &[Condition],
    location: Option<&str>,
    receipt: Option<Receipt>,
    now: Timestamp,
) -> Option<Value> {
    let had = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    let mut conditions = had.conditions.clone();
    for one in wanted {
        let before = had
            .conditions
            .iter()
            .find(|condition| condition.type_ == one.type_);
        let since = before
            .filter(|before| before.status == one.status)
            .map_or(Time(velero_model::time::to_seconds(now)), |before| {
                before.last_transition_time.clone()
            });
        conditions.retain(|condition| condition.type_ != one.type_);
        conditions.push(Condition {
            last_transition_time: since,
            observed_generation: generation,
            ..one.clone()
        });
    }
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    let location = location.map(str::to_owned).or_else(|| had.location.clone());
    let receipt = receipt.or_else(|| had.receipt.clone());
    let is_same = conditions == had.conditions
        && had.observed_generation == generation
        && had.location == location
        && had.receipt == receipt;
    (!is_same).then(|| {
        json!({
            "observedGeneration": generation,
            "conditions": conditions,
            "location": location,
            "receipt": receipt,
        })
    })
}
