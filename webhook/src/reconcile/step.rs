//! From what is seen to what must be written. No clock, no client.

use std::collections::BTreeMap;
use std::fmt;

use backup_plan::disposition::{Cluster, Settings, wanted_mirror};
use jiff::Timestamp;
use serde_json::Value;
use velero_model::api::storage_work::StorageOrder;
use velero_model::api::{ACCEPTED, DELETE_FOR_MOVE, FINALIZER, PROTECTED};

use super::condition::wanted_status;
use super::work::{Progress, Work, wanted};
use crate::decide::world::Known;

/// What is seen.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Clusters and choices.
    pub known: Known,
    /// Namespaces, with the value of our label. What is not here gets no label.
    pub labels: BTreeMap<String, Option<String>>,
    /// The work on storage; none where nobody looked, and then nothing is said or done about it.
    pub work: Option<Work>,
}

/// What must be written.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Metadata of a cluster.
    Cluster {
        /// Of its kind.
        group: String,
        /// Its kind.
        kind: String,
        /// Where.
        namespace: String,
        /// Which.
        name: String,
        /// Which of that name.
        uid: String,
        /// Which state of it.
        resource_version: String,
        /// The mirror's new value, or that it goes.
        accepted: Option<Option<String>>,
        /// All finalizers, if ours is added.
        finalizers: Option<Vec<String>>,
    },
    /// Status of a StorageDisposition.
    Status {
        /// Where.
        namespace: String,
        /// Which.
        name: String,
        /// Which state of it.
        resource_version: String,
        /// Fields that change.
        status: Value,
    },
    /// Our label on a namespace.
    Label {
        /// Which.
        namespace: String,
        /// Its value, or that it goes.
        value: Option<&'static str>,
    },
    /// The order of a cluster, in our namespace.
    Order {
        /// Name of the ConfigMap.
        name: String,
        /// Which state of it; none where it is made.
        resource_version: Option<String>,
        /// What is to be done.
        order: StorageOrder,
    },
    /// In the ConfigMap of a cluster: that it was let go without a choice.
    Record {
        /// Name of the ConfigMap.
        name: String,
        /// UID of the cluster.
        cluster: String,
        /// Which state of it; none where it is made.
        resource_version: Option<String>,
        /// What is said.
        text: String,
    },
    /// A Job for an order, in our namespace.
    Job {
        /// Its name.
        name: String,
        /// UID of the cluster.
        cluster: String,
        /// Mark of the order.
        order: String,
        /// Its image.
        image: String,
    },
    /// A Job goes, its pods first.
    StopJob {
        /// Its name.
        name: String,
        /// Which Job of that name.
        uid: String,
        /// Why.
        why: &'static str,
    },
    /// An event about a cluster; said once.
    Event {
        /// Its name, which is the same whenever the same is said.
        name: String,
        /// Group of the cluster's kind.
        group: String,
        /// The cluster's kind.
        kind: String,
        /// Where.
        namespace: String,
        /// The cluster's name.
        cluster: String,
        /// Which of that name.
        uid: String,
        /// Whether somebody has to do something.
        is_warning: bool,
        /// In the vocabulary of conditions.
        reason: String,
        /// What is said.
        note: String,
    },
    /// Our finalizer goes.
    Release {
        /// Of its kind.
        group: String,
        /// Its kind.
        kind: String,
        /// Where.
        namespace: String,
        /// Which.
        name: String,
        /// Which of that name.
        uid: String,
        /// Which state of it.
        resource_version: String,
        /// What stays.
        finalizers: Vec<String>,
    },
}

impl Write {
    /// Where it is about.
    pub fn namespace(&self) -> &str {
        match self {
            Self::Cluster { namespace, .. }
            | Self::Status { namespace, .. }
            | Self::Label { namespace, .. }
            | Self::Event { namespace, .. }
            | Self::Release { namespace, .. } => namespace,
            Self::Order { order, .. } => &order.cluster.namespace,
            // Of nobody's: they are decided from what was read about a namespace, and found by looking there.
            Self::Record { .. } | Self::Job { .. } | Self::StopJob { .. } => "",
        }
    }
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster {
                kind,
                namespace,
                name,
                accepted,
                finalizers,
                ..
            } => {
                write!(f, "{} {namespace}/{name}:", kind.to_lowercase())?;
                match accepted {
                    Some(Some(value)) => write!(f, " accepted {value}")?,
                    Some(None) => write!(f, " nothing accepted any more")?,
                    None => {}
                }
                match finalizers {
                    Some(_) => write!(f, " finalizer added"),
                    None => Ok(()),
                }
            }
            Self::Status { namespace, name, .. } => {
                write!(f, "status of storagedisposition {namespace}/{name}")
            }
            Self::Label { namespace, value } => write!(f, "label of namespace {namespace}: {value:?}"),
            Self::Order { name, order, .. } => write!(
                f,
                "order {name}: {} for {} {}/{}, revision {}",
                order.choice.word(),
                order.cluster.kind.to_lowercase(),
                order.cluster.namespace,
                order.cluster.name,
                order.revision
            ),
            Self::Record { name, .. } => write!(f, "record {name}: let go without a choice"),
            Self::Job { name, order, .. } => write!(f, "job {name} for order {order}"),
            Self::StopJob { name, why, .. } => write!(f, "job {name} goes: {why}"),
            Self::Event {
                namespace,
                cluster,
                reason,
                ..
            } => write!(f, "event about {namespace}/{cluster}: {reason}"),
            Self::Release {
                kind,
                namespace,
                name,
                ..
            } => write!(f, "{} {namespace}/{name}: let go", kind.to_lowercase()),
        }
    }
}

/// What must be written so that everything says what is so.
pub fn step(observed: &Observed, settings: &Settings, now: Timestamp) -> Vec<Write> {
    let mut neighbours: BTreeMap<&str, Vec<Cluster>> = BTreeMap::new();
    for cluster in &observed.known.clusters {
        let here = neighbours.entry(cluster.namespace.as_str()).or_default();
        here.push(cluster.clone());
    }
    let mut writes = Vec::new();
    let mut releases = Vec::new();
    let mut made: BTreeMap<&str, Progress> = BTreeMap::new();
    let mut held: BTreeMap<&str, bool> = BTreeMap::new();
    for cluster in &observed.known.clusters {
        let here = neighbours
            .get(cluster.namespace.as_str())
            .map_or(&[][..], Vec::as_slice);
        if let Some(work) = &observed.work {
            let wanted = wanted(cluster, &observed.known, here, work, settings, now);
            writes.extend(wanted.writes);
            releases.extend(wanted.release);
            if let Some(progress) = wanted.progress {
                made.insert(cluster.uid.as_str(), progress);
            }
        }
        // Nothing else is done under a move: the cluster is somebody else's already.
        if cluster.is_marked_as_moved() {
            continue;
        }
        let wanted = wanted_mirror(cluster, here, &observed.known.dispositions, settings, now);
        if cluster.is_protected() {
            let all_decided = held.entry(cluster.namespace.as_str()).or_insert(true);
            *all_decided &= wanted.is_some() || cluster.is_dying();
        }
        writes.extend(of_cluster(cluster, wanted));
    }
    for (namespace, label) in &observed.labels {
        let value = held.get(namespace.as_str()).map(|all_decided| match all_decided {
            true => "decided",
            false => "undecided",
        });
        if label.as_deref() != value {
            writes.push(Write::Label {
                namespace: namespace.clone(),
                value,
            });
        }
    }
    for object in &observed.known.dispositions {
        let annotations = object.metadata.annotations.as_ref();
        if annotations.is_some_and(|annotations| annotations.contains_key(DELETE_FOR_MOVE)) {
            continue;
        }
        let progress = made.get(object.spec.cluster_ref.uid.as_str());
        let Some(status) = wanted_status(object, &observed.known, progress, now) else {
            continue;
        };
        // What is said of a cluster must be said before it is gone.
        releases.retain(|write| match write {
            Write::Release { uid, .. } => *uid != object.spec.cluster_ref.uid,
            _ => true,
        });
        writes.push(Write::Status {
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.metadata.name.clone().unwrap_or_default(),
            resource_version: object.metadata.resource_version.clone().unwrap_or_default(),
            status,
        });
    }
    writes.append(&mut releases);
    writes
}

fn of_cluster(cluster: &Cluster, wanted: Option<String>) -> Option<Write> {
    let lacks_finalizer =
        cluster.annotation(PROTECTED).is_some() && !cluster.has_finalizer() && !cluster.is_dying();
    let finalizers = lacks_finalizer.then(|| {
        let ours = FINALIZER.to_owned();
        cluster.finalizers.iter().cloned().chain([ours]).collect()
    });
    let accepted = (cluster.annotation(ACCEPTED) != wanted.as_deref()).then_some(wanted);
    (accepted.is_some() || finalizers.is_some()).then(|| Write::Cluster {
        group: cluster.group.clone(),
        kind: cluster.kind.clone(),
        namespace: cluster.namespace.clone(),
        name: cluster.name.clone(),
        uid: cluster.uid.clone(),
        resource_version: cluster.resource_version.clone(),
        accepted,
        finalizers,
    })
}
