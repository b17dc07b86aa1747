//! What conditions say of the work on storage, step by step.

use super::*;

fn disposition(word: &str) -> StorageDisposition {
    let mut object = StorageDisposition::new(
        "d",
        StorageDispositionSpec {
            cluster_ref: ClusterRef {
                group: "cluster.x-k8s.io".to_owned(),
                kind: "Cluster".to_owned(),
                name: "prod".to_owned(),
                uid: UID.to_owned(),
            },
            backup_storage: BackupStorage::parse(word).unwrap(),
            retain_for: None,
            final_backup: FinalBackup::Skip,
            when_locked: velero_model::api::WhenLocked::Wait,
            expires_after: None,
        },
    );
    object.metadata.namespace = Some("team-a".to_owned());
    object.metadata.annotations = Some(
        [
            (DECIDED_BY, "eve".to_owned()),
            (DECIDED_FOR, Stamp::write(UID, minutes_ago(60))),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into(),
    );
    object
}

/// The status that is written, as it would be stored, and what else is written.
fn stored(object: &mut StorageDisposition, cluster: &Cluster, work: &Work) -> String {
    let writes = written(cluster, work, vec![object.clone()]);
    for write in &writes {
        if let Write::Status { status, .. } = write {
            object.status = Some(serde_json::from_value(status.clone()).unwrap());
        }
    }
    short(&writes)
}

fn said(object: &StorageDisposition, kind: &str) -> (String, String, String) {
    let status = object.status.as_ref().unwrap();
    let found = status.conditions.iter().find(|condition| condition.type_ == kind);
    let found = found.unwrap_or_else(|| panic!("no {kind} in {status:?}"));
    (found.status.clone(), found.reason.clone(), found.message.clone())
}

#[test]
fn the_status_says_what_is_so_before_the_cluster_goes() {
    let mut object = disposition("Delete");
    let mut cluster = cluster("Delete");
    let delete = {
        let mut order = order("Delete");
        order.decided_by = vec!["ann".to_owned(), "eve".to_owned()];
        order
    };
    let table = |report: Option<StorageReport>, job| Table {
        order: Some(delete.clone()),
        report,
        job: Some(job),
    };
    let blocked = report(&delete, WorkPhase::Blocked, "ObjectLocked");
    stored(
        &mut object,
        &cluster,
        &table(Some(blocked), ended(&delete, 1)).work(),
    );
    let (is, reason, message) = said(&object, "StorageDeleted");
    assert_eq!((is.as_str(), reason.as_str()), ("False", "ObjectLocked"));
    assert!(
        message.starts_with("Ask the owner of the bucket. It is tried again at 2026-11-25T12:29:00Z"),
        "{message}"
    );
    assert!(
        message.contains(&format!("kubectl delete job {}", work_name(UID))),
        "{message}"
    );
    let proven = table(
        Some(report(&delete, WorkPhase::Deleted, "StorageDeleted")),
        ended(&delete, 1),
    )
    .work();
    assert_eq!(
        stored(&mut object, &cluster, &proven),
        "says StorageDeleted, status"
    );
    assert_eq!(said(&object, "StorageDeleted").0, "True");
    let receipt = object.status.as_ref().unwrap().receipt.clone().unwrap();
    assert_eq!((receipt.backups, receipt.keys, receipt.bytes), (2, 18, 2048));
    assert_eq!(receipt.author.as_deref(), Some("ann, eve"));
    assert_eq!(receipt.completed.unwrap().0, minutes_ago(10));
    // Now that it says so.
    assert_eq!(
        stored(&mut object, &cluster, &proven),
        "says StorageDeleted, release"
    );
    // A round in which nobody looks at the work says nothing about it and lets nothing go.
    let unseen = Observed {
        known: Known {
            clusters: vec![cluster.clone()],
            dispositions: vec![object.clone()],
        },
        labels: BTreeMap::new(),
        work: None,
    };
    assert_eq!(short(&step(&unseen, &Settings::default(), now())), "");
    // What is not carried out says so, as before.
    cluster.resource_version = "8".to_owned();
    let mut fresh = disposition("Delete");
    stored(&mut fresh, &cluster, &Work::default());
    let (is, reason, message) = said(&fresh, "StorageDeleted");
    assert_eq!((is.as_str(), reason.as_str()), ("False", "NotCarriedOut"));
    assert!(
        message.contains("--storage-image") && message.contains("take the finalizer"),
        "{message}"
    );
}

#[test]
fn a_last_backup_and_a_changed_choice_have_conditions_of_their_own() {
    let mut object = disposition("Retain");
    object.spec.final_backup = FinalBackup::Required;
    let cluster = cluster("Retain");
    let Some(Write::Order { order, .. }) = written(
        &cluster,
        &Table {
            order: None,
            report: None,
            job: None,
        }
        .work(),
        vec![object.clone()],
    )
    .into_iter()
    .next() else {
        panic!("no order");
    };
    assert_eq!(order.final_backup, FinalBackup::Required);
    let with = |report: StorageReport| Table {
        order: Some(order.clone()),
        report: Some(report),
        job: Some(ended(&order, 1)),
    };
    let unreachable = report(&order, WorkPhase::Blocked, "ClusterUnreachable");
    stored(&mut object, &cluster, &with(unreachable).work());
    let (is, reason, message) = said(&object, "FinalBackupTaken");
    assert_eq!((is.as_str(), reason.as_str()), ("False", "ClusterUnreachable"));
    assert!(message.contains("finalBackup: Skip"), "{message}");
    let mut kept = report(&order, WorkPhase::Retained, "StorageRetained");
    let writes = stored(&mut object, &cluster, &with(kept.clone()).work());
    assert!(!writes.contains("release"), "no last backup, no proof: {writes}");
    kept.final_backup = Some(velero_model::api::storage_work::FinalBackupReport {
        name: "final-1".to_owned(),
        phase: "Completed".to_owned(),
        verified: true,
    });
    stored(&mut object, &cluster, &with(kept.clone()).work());
    assert_eq!(said(&object, "FinalBackupTaken").1, "Verified");
    assert_eq!(said(&object, "StorageRetained").0, "True");
    assert_eq!(
        stored(&mut object, &cluster, &with(kept).work()),
        "says StorageRetained, release"
    );
    // Delete was said before.
    let status = object.status.as_mut().unwrap();
    let mut before = status.conditions[0].clone();
    before.type_ = "StorageDeleted".to_owned();
    before.reason = "Working".to_owned();
    status.conditions.push(before);
    let again = report(&order, WorkPhase::Working, "Working");
    stored(&mut object, &cluster, &with(again).work());
    assert_eq!(said(&object, "StorageDeleted").1, "ChoiceChanged");
}
