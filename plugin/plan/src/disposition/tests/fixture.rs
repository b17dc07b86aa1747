//! A cluster, choices about it, and times.

use jiff::Timestamp;
use velero_model::api::{
    AT_STAKE, BackupStorage, ClusterRef, DECIDED_BY, DECIDED_FOR, DISPOSITION, FINALIZER, FinalBackup,
    PROTECTED, StorageDisposition, StorageDispositionSpec,
};

use super::super::{Cluster, Deletion, Permission, Settings, Stamp};

pub(super) const UID: &str = "11111111-aaaa";
pub(super) const OLD_UID: &str = "00000000-aaaa";

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Noon.
pub(super) fn now() -> Timestamp {
    at("2026-11-25T12:00:00Z")
}

/// `team-a/prod`, protected, with 214 backups.
pub(super) fn cluster() -> Cluster {
    let stake = r#"{"location":"prod:team-a/prod","backups":214,"bytes":332859965440,"oldest":"2026-08-01T01:00:00Z",
        "newest":"2026-11-25T01:00:00Z","observed":"2026-11-25T06:00:00Z"}"#;
    Cluster {
        group: "cluster.x-k8s.io".to_owned(),
        kind: "Cluster".to_owned(),
        namespace: "team-a".to_owned(),
        name: "prod".to_owned(),
        uid: UID.to_owned(),
        resource_version: "7".to_owned(),
        deletion: None,
        annotations: [(PROTECTED, "prod:team-a/prod"), (AT_STAKE, stake)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        finalizers: vec![FINALIZER.to_owned()],
        owners: Vec::new(),
    }
}

pub(super) fn annotate(cluster: &mut Cluster, key: &str, value: &str) {
    cluster.annotations.insert(key.to_owned(), value.to_owned());
}

/// The short form, by `author` at 11 o'clock.
pub(super) fn chosen(mut cluster: Cluster, word: &str, author: &str) -> Cluster {
    annotate(&mut cluster, DISPOSITION, word);
    annotate(&mut cluster, DECIDED_BY, author);
    let stamp = Stamp::write(&cluster.uid, at("2026-11-25T11:00:00Z"));
    annotate(&mut cluster, DECIDED_FOR, &stamp);
    cluster
}

/// A StorageDisposition about `team-a/prod` with this UID, by `author` at 11 o'clock.
pub(super) fn disposition(name: &str, storage: BackupStorage, uid: &str, author: &str) -> StorageDisposition {
    let spec = StorageDispositionSpec {
        cluster_ref: ClusterRef {
            group: "cluster.x-k8s.io".to_owned(),
            kind: "Cluster".to_owned(),
            name: "prod".to_owned(),
            uid: uid.to_owned(),
        },
        backup_storage: storage,
        retain_for: None,
        final_backup: FinalBackup::Skip,
        when_locked: velero_model::api::WhenLocked::Wait,
        expires_after: None,
    };
    let mut object = StorageDisposition::new(name, spec);
    object.metadata.namespace = Some("team-a".to_owned());
    object.metadata.annotations = Some(
        [
            (DECIDED_BY, author.to_owned()),
            (DECIDED_FOR, Stamp::write(uid, at("2026-11-25T11:00:00Z"))),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into(),
    );
    object
}

/// What `jane` is told about the deletion.
pub(super) struct Case {
    pub(super) cluster: Cluster,
    pub(super) dispositions: Vec<StorageDisposition>,
    pub(super) neighbours: Vec<Cluster>,
    pub(super) may_move: Permission,
    pub(super) settings: Settings,
}

impl Case {
    pub(super) fn of(cluster: Cluster) -> Self {
        Self {
            cluster,
            dispositions: Vec::new(),
            neighbours: Vec::new(),
            may_move: Permission::No,
            settings: Settings::default(),
        }
    }

    pub(super) fn with(mut self, disposition: StorageDisposition) -> Self {
        self.dispositions.push(disposition);
        self
    }

    pub(super) fn beside(mut self, neighbour: Cluster) -> Self {
        self.neighbours.push(neighbour);
        self
    }

    pub(super) fn deletion(&self) -> Deletion<'_> {
        Deletion {
            cluster: &self.cluster,
            dispositions: &self.dispositions,
            neighbours: &self.neighbours,
            caller: "jane",
            may_move: &self.may_move,
            now: now(),
            settings: &self.settings,
        }
    }
}
