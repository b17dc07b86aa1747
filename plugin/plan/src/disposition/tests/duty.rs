//! What is owed to a cluster that is going.

use velero_model::api::storage_work::StorageOrder;
use velero_model::api::{
    ACCEPTED, BREAK_GLASS, BREAK_GLASS_BY, BREAK_GLASS_FOR, BackupStorage, DELETE_FOR_MOVE, FINALIZER,
    FinalBackup, PROTECTED, StorageDisposition,
};

use super::super::{Cluster, Duty, Settings, Stamp, duty, revised};
use super::fixture::{OLD_UID, UID, annotate, at, chosen, cluster, disposition, now};

fn going(mut cluster: Cluster, mirror: &str) -> Cluster {
    cluster.deletion = Some(at("2026-11-25T11:30:00Z"));
    if !mirror.is_empty() {
        annotate(&mut cluster, ACCEPTED, &format!("{mirror}/{UID}"));
    }
    cluster
}

fn owed(cluster: &Cluster, objects: &[StorageDisposition], known: Option<&StorageOrder>) -> Duty {
    duty(cluster, &[], objects, known, &Settings::default(), now())
}

fn order(duty: Duty) -> StorageOrder {
    match duty {
        Duty::Work(order) => *order,
        other => panic!("{other:?}"),
    }
}

fn reason(duty: Duty) -> String {
    match duty {
        Duty::Held { reason, message } => {
            assert!(
                message.contains("kubectl backup cluster retain prod -n team-a"),
                "{message}"
            );
            reason.to_owned()
        }
        other => format!("{other:?}")
            .split('(')
            .next()
            .unwrap_or_default()
            .to_owned(),
    }
}

#[test]
fn what_is_owed_by_state_and_choice() {
    use BackupStorage::{Delete, Retain};
    let ann = |word, mirror| going(chosen(cluster(), word, "ann"), mirror);
    let object = |storage| disposition("d", storage, UID, "eve");
    let stale = disposition("d", Delete, OLD_UID, "eve");
    let mut released = ann("Delete", "Delete");
    released.finalizers.clear();
    let mut moved = ann("Delete", "Delete");
    annotate(&mut moved, DELETE_FOR_MOVE, "");
    let mut nowhere = ann("Delete", "Delete");
    nowhere.annotations.remove(PROTECTED);
    let mut elsewhere = ann("Delete", "Delete");
    annotate(&mut elsewhere, PROTECTED, "prod:");
    let mut other_mirror = going(cluster(), "");
    annotate(&mut other_mirror, ACCEPTED, &format!("Delete/{OLD_UID}"));
    let table: Vec<(&str, Cluster, Vec<StorageDisposition>, &str)> = vec![
        ("alive", chosen(cluster(), "Delete", "ann"), vec![], "Nothing"),
        ("not held", released, vec![], "Nothing"),
        ("mirror first", ann("Delete", ""), vec![], "Nothing"),
        (
            "softened, mirror first",
            ann("Retain", "Delete"),
            vec![],
            "Nothing",
        ),
        ("moved", moved, vec![], "Moved"),
        ("deleted", ann("Delete", "Delete"), vec![], "Work"),
        ("kept", ann("Retain", "Retain"), vec![], "Work"),
        (
            "by an object",
            going(cluster(), "Delete"),
            vec![object(Delete)],
            "Work",
        ),
        ("hardened", ann("Delete", "Retain"), vec![], "TooLate"),
        (
            "contradiction",
            ann("Delete", "Delete"),
            vec![object(Retain)],
            "Contradiction",
        ),
        ("unknown word", ann("delete", "Delete"), vec![], "UnknownWord"),
        ("undecided", going(cluster(), ""), vec![], "Undecided"),
        (
            "another one's choice",
            going(cluster(), ""),
            vec![stale.clone()],
            "Undecided",
        ),
        ("another one's mirror", other_mirror, vec![stale], "Undecided"),
        (
            "choice is gone, Delete",
            going(cluster(), "Delete"),
            vec![],
            "DecisionMissing",
        ),
        (
            "choice is gone, Retain",
            going(cluster(), "Retain"),
            vec![],
            "Work",
        ),
        ("no location", nowhere, vec![], "LocationUnknown"),
        ("no prefix", elsewhere, vec![], "LocationUnknown"),
    ];
    for (what, cluster, objects, expected) in table {
        assert_eq!(reason(owed(&cluster, &objects, None)), expected, "{what}");
    }
}

#[test]
fn a_broken_glass_owes_nothing_and_a_choice_beside_it_does() {
    let mut glass = going(cluster(), "BreakGlass");
    annotate(&mut glass, BREAK_GLASS, "the store burned");
    annotate(&mut glass, BREAK_GLASS_BY, "root");
    annotate(
        &mut glass,
        BREAK_GLASS_FOR,
        &Stamp::write(UID, at("2026-11-25T11:20:00Z")),
    );
    assert_eq!(owed(&glass, &[], None), Duty::Unchosen);
    let choice = [disposition("d", BackupStorage::Retain, UID, "eve")];
    assert_eq!(owed(&glass, &choice, None), Duty::Nothing, "the mirror first");
}

#[test]
fn an_order_says_all_that_was_chosen() {
    let mut object = disposition("d", BackupStorage::Retain, UID, "eve");
    object.spec.retain_for = Some("2160h".to_owned());
    object.spec.final_backup = FinalBackup::Required;
    let mut longer = disposition("e", BackupStorage::Retain, UID, "bob");
    longer.spec.retain_for = Some("100000m".to_owned());
    let cluster = going(chosen(cluster(), "Retain", "ann"), "Retain");
    let both = order(owed(&cluster, &[object.clone(), longer.clone()], None));
    assert_eq!(both.retain_for.as_deref(), Some("2160h"), "the longer one");
    assert_eq!(both.final_backup, FinalBackup::Required);
    assert_eq!(both.decided_by, ["ann", "bob", "eve"]);
    assert_eq!(both.decided_at, Some(at("2026-11-25T11:00:00Z")));
    assert_eq!(
        (both.location.as_str(), both.prefix.as_str()),
        ("prod", "team-a/prod")
    );
    assert_eq!(both.cluster.uid, UID);
    longer.spec.retain_for = None;
    let forever = order(owed(&cluster, &[object, longer], None));
    assert_eq!(forever.retain_for, None, "for ever is longer");
}

#[test]
fn revisions_go_up_with_what_is_asked_and_with_nothing_else() {
    let delete = order(owed(
        &going(chosen(cluster(), "Delete", "ann"), "Delete"),
        &[],
        None,
    ));
    let first = revised(None, delete.clone(), 0).unwrap();
    assert_eq!(first.revision, 1);
    assert_eq!(revised(Some(&first), delete.clone(), 0), None);
    assert_eq!(
        revised(None, delete.clone(), 6).unwrap().revision,
        7,
        "a Job of revision 6 is there"
    );
    let seconded = StorageOrder {
        decided_by: vec!["ann".to_owned(), "eve".to_owned()],
        ..delete.clone()
    };
    assert_eq!(revised(Some(&first), seconded, 0), None);
    let softer = order(owed(
        &going(chosen(cluster(), "Retain", "ann"), "Retain"),
        &[],
        Some(&first),
    ));
    let second = revised(Some(&first), softer, 0).unwrap();
    assert_eq!((second.revision, second.choice), (2, BackupStorage::Retain));
    // Written over by hand.
    let bent = StorageOrder {
        prefix: "team-b/other".to_owned(),
        ..first.clone()
    };
    let mended = revised(Some(&bent), delete.clone(), 0).unwrap();
    assert_eq!((mended.revision, mended.prefix.as_str()), (2, "team-a/prod"));
    // Nothing makes it harder again.
    let hard = going(chosen(cluster(), "Delete", "ann"), "Delete");
    assert_eq!(reason(owed(&hard, &[], Some(&second))), "TooLate");
    // The object that said so is gone: what was ordered goes on.
    let went_on = order(owed(&going(cluster(), "Delete"), &[], Some(&first)));
    assert_eq!(revised(Some(&first), went_on, 0), None);
}

#[test]
fn an_owners_choice_is_carried_out_for_what_it_owns() {
    let mut owner = chosen(cluster(), "Delete", "ann");
    owner.kind = "TanzuKubernetesCluster".to_owned();
    owner.uid = "22222222-bbbb".to_owned();
    annotate(
        &mut owner,
        velero_model::api::DECIDED_FOR,
        &Stamp::write("22222222-bbbb", at("2026-11-25T11:00:00Z")),
    );
    let mut owned = going(cluster(), "Delete");
    owned.owners.push(super::super::Owner {
        uid: owner.uid.clone(),
        is_controller: true,
    });
    assert!(owned.finalizers.iter().any(|finalizer| finalizer == FINALIZER));
    let neighbours = [owner, owned.clone()];
    let owed = duty(&owned, &neighbours, &[], None, &Settings::default(), now());
    let order = order(owed);
    assert_eq!(
        (order.choice, order.cluster.uid.as_str()),
        (BackupStorage::Delete, UID)
    );
    assert_eq!(order.decided_by, ["ann"]);
}
