//! Guards StorageDispositions: who may write them, and that their author is the one who did.

use velero_model::api::{DECIDED_BY, DECIDED_FOR, DELETE_FOR_MOVE, StorageDisposition};

use super::super::choice::cut;
use super::super::cluster::{Cluster, Stamp};
use super::super::message::name_of;
use super::super::settings::Settings;
use super::{ChangeOfDisposition, Guarded, NAMESPACE_CONTROLLER, Right, too_late};

/// Guards a StorageDisposition that is made, changed or deleted.
pub fn guard_disposition(change: &ChangeOfDisposition<'_>) -> Guarded {
    match (change.old, change.new) {
        (None, Some(new)) => written(change, new),
        (Some(old), Some(new)) => rewritten(change, old, new),
        (Some(old), None) => removed(change, old),
        (None, None) => Guarded::default(),
    }
}

impl<'a> ChangeOfDisposition<'a> {
    /// The cluster that is meant, if it is there.
    fn meant(&self, object: &StorageDisposition) -> Option<&'a Cluster> {
        self.cluster
            .filter(|cluster| cluster.uid == object.spec.cluster_ref.uid)
    }

    fn stamp(&self, object: &StorageDisposition, guarded: &mut Guarded) {
        let stamp = Stamp::write(&object.spec.cluster_ref.uid, self.now);
        let by = noted(object, DECIDED_BY);
        if by.is_some_and(|by| by != self.caller) {
            guarded
                .warnings
                .push("who has decided is stamped by the server".to_owned());
        }
        let _ = guarded.set(DECIDED_BY, by, Some(self.caller));
        let _ = guarded.set(DECIDED_FOR, noted(object, DECIDED_FOR), Some(&stamp));
        let _ = guarded.audit.insert("author", self.caller.to_owned());
        let _ = guarded
            .audit
            .insert("decision", object.spec.backup_storage.word().to_owned());
    }
}

fn noted<'o>(object: &'o StorageDisposition, key: &str) -> Option<&'o str> {
    object.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

fn choosing_for(object: &StorageDisposition) -> String {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let reference = &object.spec.cluster_ref;
    format!(
        "choose what becomes of the backup storage of {} {namespace}/{}",
        reference.kind.to_lowercase(),
        reference.name
    )
}

fn written(change: &ChangeOfDisposition<'_>, new: &StorageDisposition) -> Guarded {
    let mut guarded = Guarded::default();
    let reference = &new.spec.cluster_ref;
    if !change.settings.knows(&reference.group, &reference.kind) {
        guarded.refuse(format!(
            "{} of {} is no kind of clusters here; the gate knows {}",
            cut(&reference.kind),
            cut(&reference.group),
            kinds(change.settings)
        ));
    }
    match change.meant(new) {
        Some(cluster) => {
            guarded.need(&[Right::Decide], choosing_for(new));
            if let Some(why) = too_late(cluster, None, new.spec.backup_storage) {
                guarded.refuse(why);
            }
        }
        None => {
            // clusterctl brings the objects along; made for another UID they decide nothing here.
            guarded.need(&[Right::Decide, Right::Move], choosing_for(new));
            let there = change.cluster.map_or_else(
                || "there is no such cluster".to_owned(),
                |cluster| format!("the cluster of this name has uid {}", cluster.uid),
            );
            guarded.warnings.push(format!(
                "it names uid {}, and {there}: it decides nothing",
                cut(&reference.uid)
            ));
        }
    }
    change.stamp(new, &mut guarded);
    guarded
}

fn kinds(settings: &Settings) -> String {
    let kinds: Vec<String> = settings
        .kinds
        .iter()
        .map(|kind| format!("{} of {}", kind.kind, kind.group))
        .collect();
    kinds.join(", ")
}

fn rewritten(
    change: &ChangeOfDisposition<'_>,
    old: &StorageDisposition,
    new: &StorageDisposition,
) -> Guarded {
    let mut guarded = Guarded::default();
    let is_moved = noted(new, DELETE_FOR_MOVE).is_some();
    if is_moved && noted(old, DELETE_FOR_MOVE).is_none() {
        guarded.need(&[Right::Move], "mark a storagedisposition as moved");
    }
    if old.spec != new.spec {
        guarded.need(&[Right::Decide], choosing_for(new));
        let cluster = change.meant(new);
        if let Some(why) = cluster
            .and_then(|cluster| too_late(cluster, Some(old.spec.backup_storage), new.spec.backup_storage))
        {
            guarded.refuse(why);
        }
        change.stamp(new, &mut guarded);
        return guarded;
    }
    let mut differs = false;
    for key in [DECIDED_BY, DECIDED_FOR] {
        let (before, after) = (noted(old, key), noted(new, key));
        if !(is_moved && after.is_none()) {
            differs |= guarded.set(key, after, before);
        }
    }
    if differs {
        guarded
            .warnings
            .push("who has decided is stamped by the server and stays as it was".to_owned());
    }
    guarded
}

fn removed(change: &ChangeOfDisposition<'_>, old: &StorageDisposition) -> Guarded {
    let mut guarded = Guarded::default();
    if old.metadata.deletion_timestamp.is_some() {
        return guarded;
    }
    if noted(old, DELETE_FOR_MOVE).is_some() {
        guarded.need(&[Right::Move], "delete a storagedisposition that was moved");
        return guarded;
    }
    let empties = change.caller == NAMESPACE_CONTROLLER;
    match change.meant(old) {
        Some(cluster) if empties => guarded.refuse(format!(
            "the choice about {} stays until the cluster is gone",
            name_of(cluster)
        )),
        Some(cluster) if cluster.is_dying() && cluster.has_finalizer() => guarded.refuse(format!(
            "{} is going and is held for what was chosen; the choice stays until it is gone",
            name_of(cluster)
        )),
        None if empties => {}
        Some(_) => guarded.need(&[Right::Decide], choosing_for(old)),
        None => guarded.need(&[Right::Decide, Right::Move], choosing_for(old)),
    }
    let _ = guarded.audit.insert("decision", "withdrawn".to_owned());
    guarded
}
