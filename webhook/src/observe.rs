//! What is watched: the few facts about the cluster that answers depend on, in memory.
//!
//! Each kind has a [`Table`] of facts that are trimmed as they arrive; [`feed`] keeps it in step with the API server. A
//! table says whether it is in step, since when not, and whether its kind exists at all: our own CRDs may be installed
//! later, and the rest must work meanwhile.

pub mod clusters;
mod facts;
mod feed;
mod pod_claims;
mod rules;
mod table;

use std::sync::Arc;
use std::time::Duration;

use backup_plan::disposition::{Kind, Settings};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{ApiResource, DynamicObject};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use kube_runtime::watcher;
use velero_model::api::VolumeBackupPolicy;

pub use backup_plan::volumes::Claim;
pub use facts::{Class, Labels, Volume};
pub use feed::{Unreadable, feed};
pub use pod_claims::PodClaims;
pub use rules::Compiled;
pub use table::{Health, Table};

/// The API server ends every watch after this long and we start the next one, so that a connection that died silently
/// is found out. A fact in a table that is in step is older by this much at most.
pub const MAX_AGE: Duration = Duration::from_mins(1);

/// Everything that is watched.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Policies, by name.
    pub policies: Arc<Table<VolumeBackupPolicy>>,
    /// The policies, ready to be asked about pods.
    pub rules: Compiled,
    /// Labels of namespaces, by name.
    pub namespaces: Arc<Table<Labels>>,
    /// Claims, by namespace and name.
    pub claims: Arc<Table<Claim>>,
    /// Persistent volumes, by name.
    pub volumes: Arc<Table<Volume>>,
    /// Storage classes, by name.
    pub classes: Arc<Table<Class>>,
    /// Clusters and decisions.
    pub clusters: clusters::Clusters,
}

impl Snapshot {
    /// Starts to watch, with the kinds of clusters that are protected unless said otherwise; the tasks end with the
    /// runtime.
    pub fn start(client: &Client) -> Arc<Self> {
        Self::start_with(client, &Settings::default().kinds)
    }

    /// Starts to watch, with these kinds of clusters.
    pub fn start_with(client: &Client, kinds: &[Kind]) -> Arc<Self> {
        let snapshot = Arc::new(Self::default());
        let policies: Api<DynamicObject> =
            Api::all_with(client.clone(), &ApiResource::erase::<VolumeBackupPolicy>(&()));
        feed(
            &snapshot.policies,
            move || watcher(policies.clone(), config()),
            facts::policy,
        );
        let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
        feed(
            &snapshot.namespaces,
            move || watcher(namespaces.clone(), config()),
            |object| Ok(facts::labels(object)),
        );
        let claims: Api<PersistentVolumeClaim> = Api::all(client.clone());
        feed(
            &snapshot.claims,
            move || watcher(claims.clone(), config()),
            |object| Ok(facts::claim(object)),
        );
        let volumes: Api<PersistentVolume> = Api::all(client.clone());
        feed(
            &snapshot.volumes,
            move || watcher(volumes.clone(), config()),
            |object| Ok(facts::volume(object)),
        );
        let classes: Api<StorageClass> = Api::all(client.clone());
        feed(
            &snapshot.classes,
            move || watcher(classes.clone(), config()),
            |object| Ok(facts::class(object)),
        );
        snapshot.clusters.start(client, kinds);
        snapshot
    }

    /// Each kind and how its table stands, in a fixed order.
    pub fn health(&self) -> Vec<(&'static str, Health)> {
        let mut all = vec![
            ("volumebackuppolicies", self.policies.health()),
            ("namespaces", self.namespaces.health()),
            ("persistentvolumeclaims", self.claims.health()),
            ("persistentvolumes", self.volumes.health()),
            ("storageclasses", self.classes.health()),
        ];
        all.extend(self.clusters.health());
        all
    }

    /// Whether every kind that exists has been read once.
    pub fn is_synced(&self) -> bool {
        self.health().iter().all(|(_, health)| health.has_answer())
    }
}

/// How everything here is watched.
pub fn config() -> watcher::Config {
    // A page is the most that is in memory untrimmed.
    watcher::Config::default()
        .timeout(u32::try_from(MAX_AGE.as_secs()).unwrap_or(60))
        .page_size(100)
}
