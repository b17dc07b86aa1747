//! Who may decide, and what is put back.

use velero_model::api::{
    ACCEPTED, AT_STAKE, BREAK_GLASS, BREAK_GLASS_BY, BREAK_GLASS_FOR, BackupStorage, DECIDED_BY, DECIDED_FOR,
    DELETE_FOR_MOVE, DISPOSITION, FINALIZER, PROTECTED, SOURCE, StorageDisposition,
};

use super::super::{
    Change, ChangeOfDisposition, Cluster, Guarded, NAMESPACE_CONTROLLER, Right, Settings, guard_cluster,
    guard_disposition,
};
use super::fixture::{OLD_UID, UID, annotate, at, chosen, cluster, disposition, now};

fn update(old: &Cluster, new: &Cluster) -> Guarded {
    guard_cluster(&Change {
        old: Some(old),
        new,
        caller: "jane",
        is_ours: false,
        now: now(),
    })
}

fn with(cluster: &Cluster, key: &str, value: &str) -> Cluster {
    let mut changed = cluster.clone();
    annotate(&mut changed, key, value);
    changed
}

fn without(cluster: &Cluster, key: &str) -> Cluster {
    let mut changed = cluster.clone();
    let _ = changed.annotations.remove(key);
    changed
}

fn rights(guarded: &Guarded) -> Vec<Right> {
    guarded
        .needs
        .iter()
        .flat_map(|need| need.any_of.clone())
        .collect()
}

/// `None`: not touched; `Some(None)`: removed.
#[allow(clippy::option_option)]
fn patched<'g>(guarded: &'g Guarded, key: &str) -> Option<Option<&'g str>> {
    guarded.patch.annotations.get(key).map(Option::as_deref)
}

#[test]
fn the_author_is_whoever_asks_whatever_they_write() {
    let forged = with(&with(&cluster(), DISPOSITION, "Retain"), DECIDED_BY, "ann");
    let guarded = update(&cluster(), &forged);
    assert_eq!(rights(&guarded), [Right::Decide]);
    assert_eq!(patched(&guarded, DECIDED_BY), Some(Some("jane")));
    let stamp = format!("{UID} 2026-11-25T12:00:00Z");
    assert_eq!(patched(&guarded, DECIDED_FOR), Some(Some(stamp.as_str())));
}

#[test]
fn an_author_stays_while_the_choice_stands() {
    let old = chosen(cluster(), "Retain", "ann");
    for new in [with(&old, DECIDED_BY, "jane"), without(&old, DECIDED_BY)] {
        let guarded = update(&old, &new);
        assert_eq!(patched(&guarded, DECIDED_BY), Some(Some("ann")));
        assert!(guarded.needs.is_empty() && guarded.refusal.is_none() && guarded.warnings.len() == 1);
    }
    let untouched = update(&old, &with(&old, "team", "a"));
    assert_eq!(untouched, Guarded::default());
}

#[test]
fn a_change_has_a_new_author_and_a_withdrawal_none() {
    let old = chosen(cluster(), "Retain", "ann");
    let changed = update(&old, &with(&old, DISPOSITION, "Delete"));
    assert_eq!(patched(&changed, DECIDED_BY), Some(Some("jane")));
    let withdrawn = update(&old, &without(&old, DISPOSITION));
    assert_eq!(patched(&withdrawn, DECIDED_BY), Some(None));
    for guarded in [changed, withdrawn] {
        assert_eq!(rights(&guarded), [Right::Decide]);
    }
}

#[test]
fn an_unknown_word_is_refused_with_the_two() {
    let guarded = update(&cluster(), &with(&cluster(), DISPOSITION, "keep"));
    let refusal = guarded.refusal.unwrap();
    assert!(
        refusal.ends_with("\"keep\"; the words are Retain and Delete"),
        "{refusal}"
    );
}

#[test]
fn our_own_notes_are_put_back() {
    for key in [ACCEPTED, AT_STAKE] {
        let noted = with(&cluster(), key, "ours");
        let forged = update(&noted, &with(&noted, key, "theirs"));
        assert_eq!(patched(&forged, key), Some(Some("ours")), "{key}");
        let taken = update(&noted, &without(&noted, key));
        assert_eq!(patched(&taken, key), Some(Some("ours")), "{key}");
    }
    let ours = |value: &str| {
        guard_cluster(&Change {
            old: Some(&cluster()),
            new: &with(&cluster(), ACCEPTED, value),
            caller: "system:serviceaccount:kubectl-backup:backup-webhook",
            is_ours: true,
            now: now(),
        })
    };
    assert_eq!(ours(&format!("Retain/{UID}")), Guarded::default());
    assert!(ours(&format!("Retain/{OLD_UID}")).refusal.is_some());
}

#[test]
fn protection_is_not_taken_off_behind_the_gate_s_back() {
    let mut bare = cluster();
    bare.finalizers.clear();
    let put_back = update(&cluster(), &bare);
    assert!(put_back.patch.adds_finalizer && put_back.needs.is_empty());
    let unprotected = update(&cluster(), &without(&bare, PROTECTED));
    assert_eq!(rights(&unprotected), [Right::Decide, Right::Decide]);
    let elsewhere = update(
        &chosen(cluster(), "Delete", "ann"),
        &with(
            &chosen(cluster(), "Delete", "ann"),
            PROTECTED,
            "prod:other/cluster",
        ),
    );
    assert!(elsewhere.refusal.is_some());
    let protects = update(&without(&bare, PROTECTED), &bare);
    assert!(protects.patch.adds_finalizer && protects.needs.is_empty());
    let malformed = update(&without(&bare, PROTECTED), &with(&bare, PROTECTED, "prod"));
    assert!(malformed.refusal.is_some());
}

#[test]
fn a_move_takes_everything_by_its_own_right() {
    let mut moved = chosen(cluster(), "Retain", "ann");
    moved.annotations = [(DELETE_FOR_MOVE.to_owned(), String::new())].into();
    let marked = update(&chosen(cluster(), "Retain", "ann"), &moved);
    assert_eq!(rights(&marked), [Right::Move]);
    assert!(marked.patch.annotations.is_empty() && marked.refusal.is_none());
    let mut released = moved.clone();
    released.finalizers.clear();
    assert_eq!(rights(&update(&moved, &released)), [Right::Move]);
    let forged = update(&cluster(), &with(&moved, ACCEPTED, &format!("Delete/{UID}")));
    assert_eq!(patched(&forged, ACCEPTED), Some(None));
    // A bug that the model test found: a mover could put a name under nothing.
    let signed = update(&moved, &with(&moved, DECIDED_BY, "ann"));
    assert_eq!(patched(&signed, DECIDED_BY), Some(None));
}

#[test]
fn a_cluster_that_is_made_brings_no_history() {
    let mut new = chosen(cluster(), "Delete", "ann");
    annotate(&mut new, ACCEPTED, &format!("Delete/{UID}"));
    new.finalizers.clear();
    let guarded = guard_cluster(&Change {
        old: None,
        new: &new,
        caller: "jane",
        is_ours: false,
        now: now(),
    });
    for key in [DISPOSITION, DECIDED_BY, DECIDED_FOR, ACCEPTED, AT_STAKE] {
        assert_eq!(patched(&guarded, key), Some(None), "{key}");
    }
    assert!(guarded.patch.adds_finalizer && guarded.needs.is_empty());
}

#[test]
fn what_was_said_about_another_cluster_is_left_out_when_its_object_is_written_over_this_one() {
    let elsewhere = |cluster: &Cluster, key: &str, by: &str, made_for: &str, value: &str| {
        let stamp = format!("{OLD_UID} 2026-11-20T12:00:00Z");
        with(&with(&with(cluster, key, value), by, "ann"), made_for, &stamp)
    };
    for (key, by, made_for, value) in [
        (DISPOSITION, DECIDED_BY, DECIDED_FOR, "Delete"),
        (BREAK_GLASS, BREAK_GLASS_BY, BREAK_GLASS_FOR, "site lost"),
    ] {
        let over = elsewhere(&cluster(), key, by, made_for, value);
        let guarded = update(&cluster(), &over);
        assert!(
            guarded.needs.is_empty() && guarded.refusal.is_none(),
            "{guarded:?}"
        );
        assert_eq!(guarded.warnings.len(), 1);
        for left_out in [key, by, made_for] {
            assert_eq!(patched(&guarded, left_out), Some(None), "{left_out}");
        }
    }
    // A choice that stands here stays.
    let here = chosen(cluster(), "Retain", "jane");
    let over = elsewhere(&here, DISPOSITION, DECIDED_BY, DECIDED_FOR, "Delete");
    let guarded = update(&here, &over);
    assert_eq!(rights(&guarded), []);
    assert_eq!(patched(&guarded, DISPOSITION), Some(Some("Retain")));
    assert_eq!(patched(&guarded, DECIDED_BY), Some(Some("jane")));
    // A stamp for another cluster that is here already keeps nobody from choosing.
    let stale = elsewhere(&cluster(), DISPOSITION, DECIDED_BY, DECIDED_FOR, "Retain");
    let guarded = update(&stale, &with(&stale, DISPOSITION, "Delete"));
    assert_eq!(rights(&guarded), [Right::Decide]);
    assert_eq!(patched(&guarded, DECIDED_BY), Some(Some("jane")));
}

#[test]
fn the_glass_needs_a_reason_and_a_right() {
    let broken = update(&cluster(), &with(&cluster(), BREAK_GLASS, "bucket is lost"));
    assert_eq!(rights(&broken), [Right::BreakGlass]);
    assert_eq!(patched(&broken, BREAK_GLASS_BY), Some(Some("jane")));
    assert!(
        update(&cluster(), &with(&cluster(), BREAK_GLASS, " "))
            .refusal
            .is_some()
    );
}

#[test]
fn a_cluster_that_is_going_keeps_its_choice() {
    let mut going = chosen(cluster(), "Retain", "ann");
    going.deletion = Some(at("2026-11-25T11:30:00Z"));
    assert!(
        update(&going, &with(&going, DISPOSITION, "Delete"))
            .refusal
            .is_some()
    );
    assert!(update(&going, &without(&going, DISPOSITION)).refusal.is_some());
    let mut softened = chosen(cluster(), "Delete", "ann");
    softened.deletion = going.deletion;
    assert!(
        update(&softened, &with(&softened, DISPOSITION, "Retain"))
            .refusal
            .is_none()
    );
    // The way out while nobody carries the choice out.
    let mut released = going.clone();
    released.finalizers.clear();
    let guarded = update(&going, &released);
    assert_eq!(
        (rights(&guarded), guarded.patch.adds_finalizer),
        (vec![Right::Decide], false)
    );
}

#[test]
fn a_patch_makes_the_map_where_there_is_none() {
    let mut bare = cluster();
    bare.annotations.clear();
    bare.finalizers.clear();
    let mut guarded = update(&bare, &with(&bare, PROTECTED, "prod:team-a/prod"));
    let _ = guarded
        .patch
        .annotations
        .insert(DECIDED_BY, Some("jane".to_owned()));
    let operations = guarded.patch.operations(&bare.annotations, &bare.finalizers);
    assert_eq!(
        serde_json::to_value(operations).unwrap(),
        serde_json::json!([
            { "op": "add", "path": "/metadata/annotations", "value": {} },
            { "op": "add", "path": "/metadata/annotations/kubectl-backup.io~1storage-disposition-by", "value": "jane" },
            { "op": "add", "path": "/metadata/finalizers", "value": [FINALIZER] },
        ])
    );
}

fn change(
    old: Option<&StorageDisposition>,
    new: Option<&StorageDisposition>,
    cluster: Option<&Cluster>,
    caller: &str,
) -> Guarded {
    guard_disposition(&ChangeOfDisposition {
        old,
        new,
        cluster,
        caller,
        now: now(),
        settings: &Settings::default(),
    })
}

#[test]
fn an_object_bears_the_author_who_wrote_it() {
    let forged = disposition("d", BackupStorage::Retain, UID, "ann");
    let there = cluster();
    let made = change(None, Some(&forged), Some(&there), "jane");
    assert_eq!(rights(&made), [Right::Decide]);
    assert_eq!(patched(&made, DECIDED_BY), Some(Some("jane")));
    let mut edited = forged.clone();
    edited
        .metadata
        .annotations
        .as_mut()
        .unwrap()
        .insert(DECIDED_BY.to_owned(), "jane".to_owned());
    let put_back = change(Some(&forged), Some(&edited), Some(&there), "jane");
    assert_eq!(patched(&put_back, DECIDED_BY), Some(Some("ann")));
    let mut changed = forged.clone();
    changed.spec.backup_storage = BackupStorage::Delete;
    let restamped = change(Some(&forged), Some(&changed), Some(&there), "jane");
    assert_eq!(
        (rights(&restamped), patched(&restamped, DECIDED_BY)),
        (vec![Right::Decide], Some(Some("jane")))
    );
}

#[test]
fn an_object_for_another_uid_may_come_with_a_move() {
    let stale = disposition("d", BackupStorage::Retain, OLD_UID, "ann");
    let made = change(None, Some(&stale), Some(&cluster()), "mover");
    assert_eq!(rights(&made), [Right::Decide, Right::Move]);
    assert_eq!((made.needs.len(), made.warnings.len()), (1, 2));
}

#[test]
fn an_object_stays_until_its_cluster_is_gone() {
    let object = disposition("d", BackupStorage::Retain, UID, "ann");
    let there = cluster();
    assert!(
        change(Some(&object), None, Some(&there), NAMESPACE_CONTROLLER)
            .refusal
            .is_some()
    );
    assert_eq!(change(Some(&object), None, None, NAMESPACE_CONTROLLER).needs, []);
    assert_eq!(
        rights(&change(Some(&object), None, Some(&there), "jane")),
        [Right::Decide]
    );
    let mut going = cluster();
    going.deletion = Some(at("2026-11-25T11:30:00Z"));
    assert!(
        change(Some(&object), None, Some(&going), "jane")
            .refusal
            .is_some()
    );
    let mut harder = object.clone();
    harder.spec.backup_storage = BackupStorage::Delete;
    assert!(
        change(Some(&object), Some(&harder), Some(&going), "jane")
            .refusal
            .is_some()
    );
}

#[test]
fn whose_backups_they_are_is_said_with_the_protection_or_by_whoever_decides() {
    let bare = without(&without(&cluster(), PROTECTED), SOURCE);
    let mut bare = bare;
    bare.finalizers.clear();
    let protected = with(&with(&bare, PROTECTED, "main:team-a/prod"), SOURCE, "6e0c");
    assert!(update(&bare, &protected).needs.is_empty());
    let mut held = cluster();
    held.deletion = Some(at("2026-11-25T11:00:00Z"));
    for old in [cluster(), held] {
        let told = with(&old, SOURCE, "6e0c");
        for (before, after) in [
            (&old, &told),
            (&told, &with(&told, SOURCE, "other")),
            (&told, &old),
        ] {
            let guarded = update(before, after);
            assert_eq!(rights(&guarded), [Right::Decide]);
            assert!(guarded.refusal.is_none());
            // Who moves clusters brings it along without meaning it.
            let put_back = guarded.needs[0].or_put_back.clone().unwrap();
            assert_eq!((put_back.right, put_back.key), (Right::Move, SOURCE));
            assert_eq!(put_back.value.as_deref(), before.annotation(SOURCE));
        }
    }
    let made = guard_cluster(&Change {
        old: None,
        new: &protected,
        caller: "jane",
        is_ours: false,
        now: now(),
    });
    assert_eq!(patched(&made, SOURCE), Some(None));
}
