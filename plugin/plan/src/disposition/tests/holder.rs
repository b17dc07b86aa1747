//! Namespaces, CRDs and locations that clusters depend on.

use velero_model::api::{BackupStorage, StorageDispositionStatus};

use super::super::{
    Cluster, HolderDeletion, LocationInUse, Outcome, Settings, definition, location, namespace,
};
use super::fixture::{UID, chosen, cluster, disposition, now};

fn named(name: &str) -> Cluster {
    Cluster {
        name: name.to_owned(),
        uid: format!("uid-of-{name}"),
        ..cluster()
    }
}

fn question<'a>(name: &'a str, clusters: &'a [Cluster], settings: &'a Settings) -> HolderDeletion<'a> {
    HolderDeletion {
        name,
        is_dying: false,
        clusters,
        dispositions: &[],
        caller: "jane",
        now: now(),
        settings,
    }
}

fn refusal(decision: &super::super::Decision) -> &str {
    match &decision.outcome {
        Outcome::Denied(refusal) => &refusal.message,
        Outcome::Allowed(_) => "",
    }
}

#[test]
fn a_namespace_names_three_and_counts_the_rest() {
    let settings = Settings::default();
    let clusters = ["a", "b", "c", "d", "e"].map(named);
    let decision = namespace(&question("team-a", &clusters, &settings));
    assert_eq!(
        refusal(&decision),
        "namespace team-a holds 5 clusters whose backup storage is not decided: cluster team-a/a, cluster team-a/b, cluster \
         team-a/c and 2 more. Choose for each first: `kubectl backup cluster retain a -n team-a` keeps the storage, \
         `kubectl backup cluster delete-storage a -n team-a` has it deleted"
    );
}

#[test]
fn a_namespace_goes_when_all_may_go() {
    let settings = Settings::default();
    let decided = ["a", "b"].map(|name| chosen(named(name), "Retain", "ann"));
    assert!(namespace(&question("team-a", &decided, &settings)).is_allowed());
    assert!(namespace(&question("team-a", &[], &settings)).is_allowed());
    let undecided = [cluster()];
    let mut dying = question("team-a", &undecided, &settings);
    dying.is_dying = true;
    assert!(namespace(&dying).is_allowed());
}

#[test]
fn a_crd_stays_while_objects_of_its_kind_are_undecided() {
    let settings = Settings::default();
    let clusters = [cluster()];
    for (name, allowed) in [
        ("clusters.cluster.x-k8s.io", false),
        ("tanzukubernetesclusters.run.tanzu.vmware.com", true),
        ("widgets.example.com", true),
        ("storagedispositions.kubectl-backup.io", true),
    ] {
        assert_eq!(
            definition(&question(name, &clusters, &settings)).is_allowed(),
            allowed,
            "{name}"
        );
    }
    let choices = [disposition("d", BackupStorage::Retain, UID, "ann")];
    for (name, allowed) in [
        ("clusters.cluster.x-k8s.io", true),
        ("storagedispositions.kubectl-backup.io", false),
    ] {
        let mut asked = question(name, &clusters, &settings);
        asked.dispositions = &choices;
        assert_eq!(definition(&asked).is_allowed(), allowed, "{name}, decided");
    }
}

#[test]
fn a_location_is_held_by_clusters_and_by_what_was_kept() {
    let mut settings = Settings::default();
    let clusters = [cluster()];
    assert_eq!(
        refusal(&location(&question("prod", &clusters, &settings))),
        "backupstoragelocation prod holds the backups of cluster team-a/prod (undecided). Without it nobody finds them \
         again; see `kubectl backup cluster status -A`"
    );
    assert!(location(&question("other", &clusters, &settings)).is_allowed());
    let mut kept = disposition("d", BackupStorage::Retain, "gone", "ann");
    kept.status = Some(StorageDispositionStatus {
        location: Some("prod:team-a/prod".to_owned()),
        ..StorageDispositionStatus::default()
    });
    let choices = [kept];
    let mut asked = question("prod", &[], &settings);
    asked.dispositions = &choices;
    assert!(!location(&asked).is_allowed());
    settings.location_in_use = LocationInUse::Warn;
    let decision = location(&question("prod", &clusters, &settings));
    assert!(decision.is_allowed() && decision.warnings.len() == 1);
}
