//! Every row of the gate's truth table, and the words of its refusals.

use velero_model::api::{
    ACCEPTED, BREAK_GLASS, BREAK_GLASS_BY, BREAK_GLASS_FOR, BackupStorage, DELETE_FOR_MOVE, DISPOSITION,
    FinalBackup, PROTECTED,
};
use velero_model::duration::GoDuration;

use super::super::{
    Cluster, Decision, Outcome, Owner, Permission, Stamp, Unprotected, accepted, decide, floor, wanted_mirror,
};
use super::fixture::{Case, OLD_UID, UID, annotate, at, chosen, cluster, disposition, now};

fn word(decision: &Decision) -> &str {
    decision.audit.get("reason").map_or("", String::as_str)
}

fn message(decision: &Decision) -> &str {
    match &decision.outcome {
        Outcome::Denied(refusal) => &refusal.message,
        Outcome::Allowed(_) => "",
    }
}

fn dying(mut cluster: Cluster) -> Cluster {
    cluster.deletion = Some(at("2026-11-25T11:30:00Z"));
    cluster
}

fn moved(mut cluster: Cluster) -> Cluster {
    cluster.annotations.clear();
    annotate(&mut cluster, DELETE_FOR_MOVE, "");
    cluster
}

fn never_protected() -> Cluster {
    Cluster {
        annotations: [].into(),
        finalizers: Vec::new(),
        ..cluster()
    }
}

fn without_finalizer() -> Cluster {
    Cluster {
        finalizers: Vec::new(),
        ..cluster()
    }
}

fn broken(reason: &str, uid: &str, when: &str) -> Cluster {
    let mut broken = cluster();
    annotate(&mut broken, BREAK_GLASS, reason);
    annotate(&mut broken, BREAK_GLASS_BY, "root");
    annotate(&mut broken, BREAK_GLASS_FOR, &Stamp::write(uid, at(when)));
    broken
}

/// Protected, and owned by the TanzuKubernetesCluster of [`owner`].
fn child() -> Cluster {
    let mut child = cluster();
    child.owners.push(Owner {
        uid: "owner".to_owned(),
        is_controller: true,
    });
    child
}

fn owner() -> Cluster {
    Cluster {
        group: "run.tanzu.vmware.com".to_owned(),
        kind: "TanzuKubernetesCluster".to_owned(),
        uid: "owner".to_owned(),
        ..never_protected()
    }
}

fn expiring(after: &str) -> velero_model::api::StorageDisposition {
    let mut object = disposition("d", BackupStorage::Retain, UID, "ann");
    object.spec.expires_after = Some(after.to_owned());
    object
}

fn with_final_backup() -> velero_model::api::StorageDisposition {
    let mut object = disposition("d", BackupStorage::Delete, UID, "ann");
    object.spec.final_backup = FinalBackup::Required;
    object
}

fn four_eyes(mut case: Case) -> Case {
    case.settings.four_eyes = true;
    case
}

fn strict(mut case: Case) -> Case {
    case.settings.unprotected = Unprotected::Deny;
    case
}

fn fresh(mut case: Case, hours: u64) -> Case {
    case.settings.freshness = Some(GoDuration::from_hours(hours));
    case
}

fn permitted(mut case: Case, may_move: Permission) -> Case {
    case.may_move = may_move;
    case
}

#[test]
fn every_row_of_the_table_is_answered() {
    use BackupStorage::{Delete, Retain};
    let row =
        |storage, uid: &str, author: &str| Case::of(cluster()).with(disposition("d", storage, uid, author));
    let unknown = Permission::Unknown("timeout".to_owned());
    for (name, case, allowed, expected) in [
        ("no choice", Case::of(cluster()), false, "undecided"),
        ("Retain", row(Retain, UID, "ann"), true, "decided"),
        ("Delete", row(Delete, UID, "ann"), true, "decided"),
        ("Delete by the deleter", row(Delete, UID, "jane"), true, "decided"),
        (
            "four eyes",
            four_eyes(row(Delete, UID, "jane")),
            false,
            "four-eyes",
        ),
        (
            "four eyes, another",
            four_eyes(row(Delete, UID, "ann")),
            true,
            "decided",
        ),
        (
            "four eyes, Retain",
            four_eyes(row(Retain, UID, "jane")),
            true,
            "decided",
        ),
        (
            "four eyes, two authors",
            four_eyes(row(Delete, UID, "jane").with(disposition("e", Delete, UID, "ann"))),
            true,
            "decided",
        ),
        ("older cluster", row(Retain, OLD_UID, "ann"), false, "undecided"),
        (
            "annotated",
            Case::of(chosen(cluster(), "Retain", "ann")),
            true,
            "decided",
        ),
        (
            "unknown word",
            Case::of(chosen(cluster(), "keep", "ann")),
            false,
            "undecided",
        ),
        (
            "unknown word beside an object",
            Case::of(chosen(cluster(), "keep", "ann")).with(disposition("d", Retain, UID, "ann")),
            false,
            "undecided",
        ),
        (
            "contradiction",
            Case::of(chosen(cluster(), "Retain", "ann")).with(disposition("d", Delete, UID, "ann")),
            false,
            "undecided",
        ),
        ("no author", row(Retain, UID, ""), false, "undecided"),
        (
            "not yet expired",
            Case::of(cluster()).with(expiring("2h")),
            true,
            "decided",
        ),
        (
            "expired",
            Case::of(cluster()).with(expiring("1h")),
            false,
            "undecided",
        ),
        (
            "no duration",
            Case::of(cluster()).with(expiring("soon")),
            false,
            "undecided",
        ),
        (
            "final backup, held",
            Case::of(cluster()).with(with_final_backup()),
            true,
            "decided",
        ),
        (
            "final backup, not held",
            Case::of(never_protected()).with(with_final_backup()),
            false,
            "no-final-backup",
        ),
        (
            "no finalizer",
            Case::of(chosen(without_finalizer(), "Retain", "ann")),
            false,
            "no-finalizer",
        ),
        ("fresh", fresh(row(Retain, UID, "ann"), 12), true, "decided"),
        (
            "not fresh",
            fresh(row(Retain, UID, "ann"), 10),
            false,
            "not-fresh",
        ),
        (
            "not fresh, Delete",
            fresh(row(Delete, UID, "ann"), 10),
            true,
            "decided",
        ),
        ("going", Case::of(dying(cluster())), true, "nothing-at-stake"),
        (
            "moved",
            permitted(Case::of(moved(cluster())), Permission::Yes),
            true,
            "moved",
        ),
        (
            "moved by anybody",
            Case::of(moved(cluster())),
            false,
            "may-not-move",
        ),
        (
            "moved, nobody knows",
            permitted(Case::of(moved(cluster())), unknown),
            false,
            "unreachable",
        ),
        (
            "never protected",
            Case::of(never_protected()),
            true,
            "never-protected",
        ),
        (
            "never protected, strict",
            strict(Case::of(never_protected())),
            false,
            "never-protected",
        ),
        (
            "glass",
            Case::of(broken("bucket is lost", UID, "2026-11-25T11:30:00Z")),
            true,
            "break-glass",
        ),
        (
            "glass of an older cluster",
            Case::of(broken("bucket is lost", OLD_UID, "2026-11-25T11:30:00Z")),
            false,
            "undecided",
        ),
        (
            "glass too long ago",
            Case::of(broken("bucket is lost", UID, "2026-11-25T11:00:00Z")),
            false,
            "undecided",
        ),
        (
            "glass without reason",
            Case::of(broken(" ", UID, "2026-11-25T11:30:00Z")),
            false,
            "undecided",
        ),
        (
            "owner decided",
            Case::of(child()).beside(chosen(owner(), "Retain", "ann")),
            true,
            "inherited",
        ),
        (
            "owner going with a choice",
            Case::of(child()).beside(dying(chosen(owner(), "Retain", "ann"))),
            true,
            "inherited",
        ),
        (
            "owner going without one",
            Case::of(child()).beside(dying(owner())),
            false,
            "undecided",
        ),
        (
            "owner of another uid",
            Case::of(child()).beside(Cluster {
                uid: "another".to_owned(),
                ..chosen(owner(), "Retain", "ann")
            }),
            false,
            "undecided",
        ),
        (
            "owner of an undecided cluster",
            Case::of(owner()).beside(child()),
            false,
            "undecided-dependents",
        ),
        (
            "owner of a decided cluster",
            Case::of(owner()).beside(chosen(child(), "Retain", "ann")),
            true,
            "never-protected",
        ),
    ] {
        let decision = decide(&case.deletion());
        assert_eq!(
            (decision.is_allowed(), word(&decision)),
            (allowed, expected),
            "{name}"
        );
    }
}

#[test]
fn a_refusal_says_what_why_what_is_at_stake_and_the_two_commands() {
    let decision = decide(&Case::of(cluster()).deletion());
    assert_eq!(
        message(&decision),
        "cluster team-a/prod has 214 backups (310GiB) of 2026-08-01T01:00:00Z to 2026-11-25T01:00:00Z in \
         prod:team-a/prod, counted 2026-11-25T06:00:00Z and nobody has chosen what becomes of it. Choose first: `kubectl \
         backup cluster retain prod -n team-a` keeps the storage, `kubectl backup cluster delete-storage prod -n team-a` \
         has it deleted"
    );
}

#[test]
fn a_refusal_names_what_looks_like_a_choice() {
    let cases = [
        (
            Case::of(cluster()).with(disposition("old", BackupStorage::Delete, OLD_UID, "ann")),
            "storagedisposition \"old\" says Delete for another cluster of this name (uid 00000000-aaaa), not for this one",
        ),
        (
            Case::of(cluster()).with(expiring("30m")),
            "storagedisposition \"d\" said Retain and has expired at 2026-11-25T11:30:00Z",
        ),
        (
            Case::of(chosen(cluster(), "keep", "ann")),
            "annotation kubectl-backup.io/storage-disposition says \"keep\"; the words are Retain and Delete",
        ),
    ];
    for (case, expected) in cases {
        let decision = decide(&case.deletion());
        assert!(message(&decision).contains(expected), "{}", message(&decision));
    }
}

#[test]
fn only_what_comes_with_the_request_needs_no_second_look() {
    for (case, rests) in [
        (Case::of(chosen(cluster(), "Retain", "ann")), false),
        (Case::of(dying(cluster())), false),
        (
            Case::of(cluster()).with(disposition("d", BackupStorage::Retain, UID, "ann")),
            true,
        ),
        (Case::of(child()).beside(chosen(owner(), "Retain", "ann")), true),
        (Case::of(cluster()), true),
    ] {
        assert_eq!(decide(&case.deletion()).rests_on_what_was_read(), rests);
    }
}

#[test]
fn the_mirror_says_what_was_chosen_for_this_uid() {
    let retain = || disposition("d", BackupStorage::Retain, UID, "ann");
    let mut accepted_dying = dying(cluster());
    annotate(&mut accepted_dying, ACCEPTED, &format!("Delete/{UID}"));
    let mut accepted_for_another = dying(cluster());
    annotate(&mut accepted_for_another, ACCEPTED, &format!("Delete/{OLD_UID}"));
    for (case, expected) in [
        (Case::of(cluster()), None),
        (Case::of(cluster()).with(retain()), Some("Retain/11111111-aaaa")),
        (
            Case::of(chosen(cluster(), "Delete", "ann")),
            Some("Delete/11111111-aaaa"),
        ),
        (
            Case::of(cluster()).with(disposition("d", BackupStorage::Retain, OLD_UID, "ann")),
            None,
        ),
        (Case::of(cluster()).with(expiring("1h")), None),
        // What stood when the deletion began stands until the end.
        (
            Case::of(dying(cluster())).with(expiring("45m")),
            Some("Retain/11111111-aaaa"),
        ),
        (Case::of(accepted_dying), Some("Delete/11111111-aaaa")),
        (Case::of(accepted_for_another), None),
        (
            Case::of(child()).beside(chosen(owner(), "Delete", "ann")),
            Some("Delete/11111111-aaaa"),
        ),
        (
            Case::of(broken("lost", UID, "2026-11-25T11:30:00Z")),
            Some("BreakGlass/11111111-aaaa"),
        ),
    ] {
        let wanted = wanted_mirror(
            &case.cluster,
            &case.neighbours,
            &case.dispositions,
            &case.settings,
            now(),
        );
        assert_eq!(wanted.as_deref(), expected);
    }
}

#[test]
fn the_floor_reads_the_mirror_alone() {
    let mirrored = |says: &str| {
        let mut mirrored = cluster();
        annotate(&mut mirrored, ACCEPTED, says);
        mirrored
    };
    for (cluster, may_move, may_break, passes) in [
        (cluster(), true, true, false),
        (chosen(cluster(), "Retain", "ann"), false, false, false),
        (mirrored("Retain/11111111-aaaa"), false, false, true),
        (mirrored("Retain/00000000-aaaa"), false, false, false),
        (mirrored("Keep/11111111-aaaa"), false, false, false),
        (dying(cluster()), false, false, true),
        (moved(cluster()), true, false, true),
        (moved(cluster()), false, false, false),
        (broken("lost", UID, "2026-11-25T11:30:00Z"), false, true, true),
        (broken("lost", UID, "2026-11-25T11:30:00Z"), false, false, false),
        (never_protected(), false, false, true),
    ] {
        assert_eq!(floor(&cluster, may_move, may_break), passes, "{cluster:?}");
    }
    assert_eq!(accepted(&mirrored("/")), None);
    assert!(cluster().annotation(PROTECTED).is_some() && cluster().annotation(DISPOSITION).is_none());
}
