//! From what is seen to what must be written. No clock, no client.

use std::collections::BTreeMap;
use std::fmt;

use backup_plan::disposition::{Cluster, Settings, wanted_mirror};
use jiff::Timestamp;
use serde_json::Value;
use velero_model::api::{ACCEPTED, DELETE_FOR_MOVE, FINALIZER, PROTECTED};

use super::condition::wanted_status;
use crate::decide::world::Known;

/// What is seen.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Clusters and choices.
    pub known: Known,
    /// Namespaces, with the value of our label. What is not here gets no label.
    pub labels: BTreeMap<String, Option<String>>,
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
}

impl Write {
    /// Where it is about.
    pub fn namespace(&self) -> &str {
        match self {
            Self::Cluster { namespace, .. }
            | Self::Status { namespace, .. }
            | Self::Label { namespace, .. } => namespace,
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
    let mut held: BTreeMap<&str, bool> = BTreeMap::new();
    for cluster in &observed.known.clusters {
        let here = neighbours
            .get(cluster.namespace.as_str())
            .map_or(&[][..], Vec::as_slice);
        // Nothing is done under a move: the cluster is somebody else's already.
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
        let Some(status) = wanted_status(object, &observed.known, now) else {
            continue;
        };
        writes.push(Write::Status {
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.metadata.name.clone().unwrap_or_default(),
            resource_version: object.metadata.resource_version.clone().unwrap_or_default(),
            status,
        });
    }
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
