//! Guards the annotations and the finalizer of a cluster.
//!
//! A cluster that is marked as moved by somebody who may move loses what is ours without being asked further: clusterctl
//! replaces the whole map of annotations.

use velero_model::api::{
    ACCEPTED, AT_STAKE, BREAK_GLASS, BREAK_GLASS_BY, BREAK_GLASS_FOR, BackupStorage, DECIDED_BY, DECIDED_FOR,
    DISPOSITION, FINALIZER, PROTECTED, SOURCE,
};

use super::super::choice::cut;
use super::super::cluster::{Cluster, Stamp};
use super::super::message::{allowed_words, name_of};
use super::super::mirror::accepted;
use super::{Change, Guarded, Needs, PutBack, Right, too_late};

/// Guards a cluster that is made or changed.
pub fn guard_cluster(change: &Change<'_>) -> Guarded {
    match change.old {
        None => made(change),
        Some(old) => changed(change, old),
    }
}

/// A cluster that is made has no history: what was said about another one, here or elsewhere, is not taken over.
fn made(change: &Change<'_>) -> Guarded {
    let new = change.new;
    let mut guarded = Guarded::default();
    let keys = [
        DISPOSITION,
        DECIDED_BY,
        DECIDED_FOR,
        BREAK_GLASS,
        BREAK_GLASS_BY,
        BREAK_GLASS_FOR,
        ACCEPTED,
        AT_STAKE,
        SOURCE,
    ];
    for key in keys {
        let _ = guarded.set(key, new.annotation(key), None);
    }
    if guarded.patch.annotations.contains_key(DISPOSITION) {
        guarded.warnings.push(format!(
            "{DISPOSITION} is left out: a choice is made for a cluster that is there; choose again now"
        ));
    }
    if new.is_marked_as_moved() {
        guarded.need(&[Right::Move], "mark a cluster as moved");
    }
    protect(new, &mut guarded);
    guarded
}

fn protect(new: &Cluster, guarded: &mut Guarded) {
    let Some(place) = new.annotation(PROTECTED) else {
        return;
    };
    if !matches!(place.rsplit_once(':'), Some((location, prefix)) if !location.is_empty() && !prefix.is_empty())
    {
        guarded.refuse(format!(
            "annotation {PROTECTED} says {:?}; it has the form LOCATION:PREFIX. `kubectl backup cluster protect {} -n {}` \
             writes it",
            cut(place),
            new.name,
            new.namespace
        ));
    }
    guarded.patch.adds_finalizer = !new.has_finalizer() && !new.is_dying();
}

fn changed(change: &Change<'_>, old: &Cluster) -> Guarded {
    let new = change.new;
    let mut guarded = Guarded::default();
    let is_moved = new.is_marked_as_moved();
    let ours = |cluster: &Cluster| {
        let annotations = cluster.annotations.iter();
        let of_ours = annotations.filter(|(key, _)| key.starts_with("kubectl-backup.io/"));
        (
            of_ours
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect::<Vec<_>>(),
            cluster.has_finalizer(),
        )
    };
    if is_moved && (!old.is_marked_as_moved() || ours(old) != ours(new)) {
        guarded.need(&[Right::Move], format!("mark {} as moved", name_of(new)));
        let _ = guarded.audit.insert("moved-by", change.caller.to_owned());
    }
    chosen(change, old, &mut guarded);
    glass(change, old, &mut guarded);
    for key in [ACCEPTED, AT_STAKE] {
        let (before, after) = (old.annotation(key), new.annotation(key));
        let is_gone_with_the_move = is_moved && after.is_none();
        if !change.is_ours && !is_gone_with_the_move && guarded.set(key, after, before) {
            guarded
                .warnings
                .push(format!("{key} is written by the gate itself and stays as it was"));
        }
    }
    if change.is_ours && new.annotation(ACCEPTED).is_some() && accepted(new).is_none() {
        guarded.refuse(format!(
            "{ACCEPTED} must say Retain, Delete or BreakGlass for uid {}",
            new.uid
        ));
    }
    protection(change, old, &mut guarded);
    source(old, new, &mut guarded);
    guarded
}

/// Whose backups are this cluster's: recorded with its protection by whoever protects, later by whoever may decide. What is
/// wrong here deletes the backups of another cluster.
fn source(old: &Cluster, new: &Cluster, guarded: &mut Guarded) {
    let (before, after) = (old.annotation(SOURCE), new.annotation(SOURCE));
    let comes_with_protection = before.is_none() && !old.is_protected();
    let goes_with_it = after.is_none() && (new.is_marked_as_moved() || new.annotation(PROTECTED).is_none());
    if before != after && !comes_with_protection && !goes_with_it {
        guarded.needs.push(Needs {
            any_of: vec![Right::Decide],
            what: format!("say which backups are those of {}", name_of(new)),
            // clusterctl writes the whole object again where an earlier attempt has made it.
            or_put_back: Some(PutBack {
                right: Right::Move,
                key: SOURCE,
                value: before.map(str::to_owned),
            }),
        });
        let _ = guarded
            .audit
            .insert("source", after.unwrap_or("nobody").to_owned());
    }
}

/// Whether a stamp comes with this change that was made for another cluster: somebody has written the object of that one
/// over this one, as clusterctl does when it goes on with a move. What bears it was said about the other one.
fn is_brought_from_elsewhere(old: &Cluster, new: &Cluster, made_for: &str) -> bool {
    let stamp = new.annotation(made_for);
    stamp != old.annotation(made_for)
        && stamp
            .and_then(Stamp::read)
            .is_some_and(|stamp| stamp.uid != old.uid)
}

fn leave_out(old: &Cluster, new: &Cluster, guarded: &mut Guarded, keys: [&'static str; 3]) {
    for key in keys {
        let _ = guarded.set(key, new.annotation(key), old.annotation(key));
    }
    guarded.warnings.push(format!(
        "{} is left out: it was written for another cluster than {}",
        keys[0],
        name_of(old)
    ));
}

/// The annotation that chooses, and its stamps.
fn chosen(change: &Change<'_>, old: &Cluster, guarded: &mut Guarded) {
    let new = change.new;
    let is_moved = new.is_marked_as_moved();
    match (old.annotation(DISPOSITION), new.annotation(DISPOSITION)) {
        (before, Some(word)) if before != Some(word) && is_brought_from_elsewhere(old, new, DECIDED_FOR) => {
            leave_out(old, new, guarded, [DISPOSITION, DECIDED_BY, DECIDED_FOR]);
        }
        (before, Some(word)) if before != Some(word) => {
            let Some(storage) = BackupStorage::parse(word) else {
                let what = format!(
                    "annotation {DISPOSITION} says {:?}; {}",
                    cut(word),
                    allowed_words()
                );
                return guarded.refuse(what);
            };
            if let Some(why) = too_late(old, None, storage) {
                guarded.refuse(why);
            }
            guarded.need(&[Right::Decide], choosing(new));
            stamp(change, guarded, (DECIDED_BY, DECIDED_FOR));
            let _ = guarded.audit.insert("decision", storage.word().to_owned());
        }
        (Some(_), None) if !is_moved => {
            guarded.need(&[Right::Decide], choosing(new));
            if old.is_dying() && old.has_finalizer() {
                guarded.refuse(format!(
                    "{} is going and is held for what was chosen; {DISPOSITION} stays until it is gone",
                    name_of(old)
                ));
            }
            for key in [DECIDED_BY, DECIDED_FOR] {
                let _ = guarded.set(key, new.annotation(key), None);
            }
            let _ = guarded.audit.insert("decision", "withdrawn".to_owned());
        }
        (Some(_), None) => {
            for key in [DECIDED_BY, DECIDED_FOR] {
                let _ = guarded.set(key, new.annotation(key), None);
            }
        }
        _ => {
            if restore(old, new, guarded, [DECIDED_BY, DECIDED_FOR]) {
                guarded
                    .warnings
                    .push("who has decided is stamped by the server and stays as it was".to_owned());
            }
        }
    }
}

fn choosing(cluster: &Cluster) -> String {
    format!(
        "choose what becomes of the backup storage of {}",
        name_of(cluster)
    )
}

fn glass(change: &Change<'_>, old: &Cluster, guarded: &mut Guarded) {
    let new = change.new;
    match (old.annotation(BREAK_GLASS), new.annotation(BREAK_GLASS)) {
        (before, Some(reason))
            if before != Some(reason) && is_brought_from_elsewhere(old, new, BREAK_GLASS_FOR) =>
        {
            leave_out(old, new, guarded, [BREAK_GLASS, BREAK_GLASS_BY, BREAK_GLASS_FOR]);
        }
        (before, Some(reason)) if before != Some(reason) => {
            if reason.trim().is_empty() {
                guarded.refuse(format!(
                    "annotation {BREAK_GLASS} is the reason, in words, and must not be empty"
                ));
            }
            guarded.need(
                &[Right::BreakGlass],
                format!("let {} go without a choice", name_of(new)),
            );
            stamp(change, guarded, (BREAK_GLASS_BY, BREAK_GLASS_FOR));
            let _ = guarded.audit.insert("break-glass", reason.to_owned());
        }
        (Some(_), None) => {
            for key in [BREAK_GLASS_BY, BREAK_GLASS_FOR] {
                let _ = guarded.set(key, new.annotation(key), None);
            }
        }
        _ => {
            let _ = restore(old, new, guarded, [BREAK_GLASS_BY, BREAK_GLASS_FOR]);
        }
    }
}

/// Puts stamps back as they were. A move may take them away, and may not bring any.
fn restore(old: &Cluster, new: &Cluster, guarded: &mut Guarded, keys: [&'static str; 2]) -> bool {
    let mut differs = false;
    for key in keys {
        let is_gone_with_the_move = new.is_marked_as_moved() && new.annotation(key).is_none();
        if !is_gone_with_the_move {
            differs |= guarded.set(key, new.annotation(key), old.annotation(key));
        }
    }
    differs
}

fn stamp(change: &Change<'_>, guarded: &mut Guarded, (by, made_for): (&'static str, &'static str)) {
    // The UID of the stored object: nobody can change it in an update.
    let uid = change.old.map_or(change.new.uid.as_str(), |old| old.uid.as_str());
    let now = Stamp::write(uid, change.now);
    let _ = guarded.set(by, change.new.annotation(by), Some(change.caller));
    let _ = guarded.set(made_for, change.new.annotation(made_for), Some(&now));
    let _ = guarded.audit.insert("author", change.caller.to_owned());
}

/// Where the storage is, and the finalizer.
fn protection(change: &Change<'_>, old: &Cluster, guarded: &mut Guarded) {
    let new = change.new;
    let is_moved = new.is_marked_as_moved();
    match (old.annotation(PROTECTED), new.annotation(PROTECTED)) {
        (None, Some(_)) => protect(new, guarded),
        (Some(_), None) if is_moved => return,
        (Some(before), after) if after != Some(before) => {
            guarded.need(
                &[Right::Decide],
                format!("end or change the protection of {}", name_of(new)),
            );
            let is_decided = accepted(old).is_some() || old.annotation(DISPOSITION).is_some();
            if old.is_dying() || after.is_some() && is_decided {
                guarded.refuse(format!(
                    "{} has its backups in {before}, and what becomes of them is decided; withdraw the choice before the \
                     protection is changed",
                    name_of(old)
                ));
            }
            if after.is_some() {
                protect(new, guarded);
            }
        }
        _ => {}
    }
    if !old.has_finalizer() || new.has_finalizer() || change.is_ours || is_moved {
        return;
    }
    if new.annotation(PROTECTED).is_some() && !new.is_dying() {
        guarded.patch.adds_finalizer = true;
        guarded.warnings.push(format!(
            "finalizer {FINALIZER} is put back: the cluster is protected"
        ));
        return;
    }
    guarded.need(
        &[Right::Decide],
        format!("let {} go from its backup storage", name_of(new)),
    );
    let _ = guarded.audit.insert("released-by", change.caller.to_owned());
    if new.is_dying() {
        guarded.warnings.push(format!(
            "{} goes now; its backup storage is left as it is",
            name_of(new)
        ));
    }
}
