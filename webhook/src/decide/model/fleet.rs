//! The simulated API server: objects with versions, and what each replica has seen of them.

use std::collections::BTreeMap;

use backup_plan::disposition::Cluster;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use velero_model::api::storage_work::StorageOrder;
use velero_model::api::{BackupStorage, StorageDisposition};

use crate::decide::world::Known;
use crate::reconcile::Work;

/// The one namespace.
pub(super) const NAMESPACE: &str = "team-a";
/// Names and kinds of clusters; the second may own the first.
pub(super) const CLUSTERS: [(&str, &str, &str); 3] = [
    ("cluster.x-k8s.io", "Cluster", "prod"),
    ("run.tanzu.vmware.com", "TanzuKubernetesCluster", "prod"),
    ("cluster.x-k8s.io", "Cluster", "dev"),
];

/// Numbers from a seed: splitmix64.
#[derive(Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or(0)
    }

    pub(super) fn one<'o, T>(&mut self, of: &'o [T]) -> &'o T {
        &of[self.below(of.len())]
    }

    /// One time in `times`.
    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// What a replica has of the world.
#[derive(Debug, Default)]
pub(super) struct Replica {
    /// How much of the history its watches have brought; none while cold.
    pub(super) seen: Option<usize>,
    /// Whether it reaches the API server.
    pub(super) is_cut: bool,
}

/// Everything.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) now: Timestamp,
    pub(super) clusters: BTreeMap<usize, Cluster>,
    pub(super) dispositions: BTreeMap<String, StorageDisposition>,
    pub(super) history: Vec<Known>,
    pub(super) replicas: [Replica; 2],
    pub(super) last_uid: Option<String>,
    /// Orders and Jobs.
    pub(super) work: Work,
    /// What it was like after each change.
    pub(super) worked: Vec<Work>,
    /// What has become of storage, by the cluster's UID; what is not here is as it was.
    pub(super) storage: BTreeMap<String, BackupStorage>,
    /// The order that a Job works on, by the Job's UID.
    pub(super) taken: BTreeMap<String, StorageOrder>,
    versions: u64,
    uids: u64,
}

impl Fleet {
    pub(super) fn new() -> Self {
        Self {
            now: "2026-11-25T12:00:00Z".parse().unwrap(),
            clusters: BTreeMap::new(),
            dispositions: BTreeMap::new(),
            history: vec![Known::default()],
            replicas: [
                Replica {
                    seen: Some(0),
                    is_cut: false,
                },
                Replica::default(),
            ],
            last_uid: None,
            work: images(),
            worked: vec![images()],
            storage: BTreeMap::new(),
            taken: BTreeMap::new(),
            versions: 0,
            uids: 0,
        }
    }

    pub(super) fn version(&mut self) -> String {
        self.versions += 1;
        self.versions.to_string()
    }

    pub(super) fn uid(&mut self) -> String {
        self.uids += 1;
        format!("uid-{}", self.uids)
    }

    /// What is stored now becomes what watches will bring.
    pub(super) fn committed(&mut self) {
        self.history.push(Known {
            clusters: self.clusters.values().cloned().collect(),
            dispositions: self.dispositions.values().cloned().collect(),
        });
    }

    pub(super) fn latest(&self) -> &Known {
        self.history.last().unwrap()
    }

    pub(super) fn wait(&mut self, minutes: i64) {
        self.now = self.now.checked_add(SignedDuration::from_mins(minutes)).unwrap();
    }
}

fn images() -> Work {
    Work {
        image: Some("suite:1".to_owned()),
        ..Work::default()
    }
}

/// A cluster as the API server would send it.
pub(super) fn json_of(cluster: &Cluster) -> Value {
    let mut metadata = json!({
        "name": cluster.name,
        "namespace": cluster.namespace,
        "uid": cluster.uid,
        "resourceVersion": cluster.resource_version,
    });
    if !cluster.annotations.is_empty() {
        metadata["annotations"] = json!(cluster.annotations);
    }
    if !cluster.finalizers.is_empty() {
        metadata["finalizers"] = json!(cluster.finalizers);
    }
    if let Some(deletion) = cluster.deletion {
        metadata["deletionTimestamp"] = json!(deletion);
    }
    if let Some(owner) = cluster.owners.first() {
        metadata["ownerReferences"] = json!([{
            "apiVersion": "run.tanzu.vmware.com/v1alpha3", "kind": "TanzuKubernetesCluster", "name": "prod",
            "uid": owner.uid, "controller": owner.is_controller,
        }]);
    }
    json!({ "metadata": metadata })
}
