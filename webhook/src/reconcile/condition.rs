//! What the status of a StorageDisposition says.
//!
//! `Accepted` while the choice counts. A cluster that is going is held by our finalizer until what was chosen is done;
//! this version records and guards the choice and does not carry it out, and the condition `StorageDeleted` or
//! `StorageRetained` says so, with the way out.

use backup_plan::disposition::{Cluster, Fault, Source, Standing, explain, name_of, standing};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};
use velero_model::api::{BackupStorage, FINALIZER, PROTECTED, StorageDisposition};

use crate::decide::world::Known;

/// The changes of its status, if there are any.
pub(super) fn wanted_status(object: &StorageDisposition, known: &Known, now: Timestamp) -> Option<Value> {
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
            now,
        );
    };
    let accepted = accepted(object, cluster, known, now);
    let mut wanted = vec![accepted];
    let is_accepted = wanted.iter().all(|condition| condition.status == "True");
    if is_accepted && cluster.is_dying() && cluster.has_finalizer() {
        wanted.push(not_carried_out(object.spec.backup_storage, cluster));
    }
    let location = cluster.annotation(PROTECTED).filter(|_| is_accepted);
    changes(object, &wanted, location, now)
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

fn not_carried_out(storage: BackupStorage, cluster: &Cluster) -> Condition {
    let (kind, undone, by_hand) = match storage {
        BackupStorage::Delete => (
            "StorageDeleted",
            "deleted",
            "delete the backups (kubectl backup delete)",
        ),
        BackupStorage::Retain => (
            "StorageRetained",
            "prepared for recovery",
            "see that nothing expires them (kubectl backup hold)",
        ),
    };
    let place = cluster.annotation(PROTECTED).unwrap_or("its location");
    condition(
        kind,
        false,
        "NotCarriedOut",
        format!(
            "{} is going and is held by finalizer {FINALIZER}: its backups in {place} have not been {undone}, and this \
             version does not do it by itself. By hand: {by_hand}, then take the finalizer off the cluster, which whoever \
             may decide may do",
            name_of(cluster)
        ),
    )
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
    let is_same =
        conditions == had.conditions && had.observed_generation == generation && had.location == location;
    (!is_same).then(|| {
        json!({
            "observedGeneration": generation,
            "conditions": conditions,
            "location": location,
        })
    })
}
