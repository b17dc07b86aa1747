//! The facts of a cluster that decisions rest on: metadata alone, so that every version of every kind reads the same.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use velero_model::api::storage_work::OrderedCluster;
use velero_model::api::{BREAK_GLASS, DELETE_FOR_MOVE, FINALIZER, PROTECTED};

/// A cluster, of whatever kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cluster {
    /// API group of its kind.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Where it lies.
    pub namespace: String,
    /// Its name; in a collection delete the request has none, the object always has.
    pub name: String,
    /// Which one of that name.
    pub uid: String,
    /// Of this state of it.
    pub resource_version: String,
    /// When its deletion began.
    pub deletion: Option<Timestamp>,
    /// All of them.
    pub annotations: BTreeMap<String, String>,
    /// What holds it.
    pub finalizers: Vec<String>,
    /// Who owns it.
    pub owners: Vec<Owner>,
}

/// An owner reference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    /// Which one.
    pub uid: String,
    /// Whether this one, of several, is in charge.
    pub is_controller: bool,
}

#[derive(Deserialize)]
struct Object {
    metadata: ObjectMeta,
}

impl Cluster {
    /// The facts in an object's JSON. Kind and group are those of the request, which knows them for certain.
    ///
    /// # Errors
    /// The JSON has no metadata, or fields of it have other types than Kubernetes gives them.
    pub fn read(group: &str, kind: &str, json: &str) -> Result<Self, serde_json::Error> {
        let Object { metadata } = serde_json::from_str(json)?;
        Ok(Self::of(group, kind, metadata))
    }

    /// The facts in an object's metadata.
    pub fn of(group: &str, kind: &str, metadata: ObjectMeta) -> Self {
        let owners = metadata.owner_references.unwrap_or_default().into_iter();
        Self {
            group: group.to_owned(),
            kind: kind.to_owned(),
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            resource_version: metadata.resource_version.unwrap_or_default(),
            deletion: metadata.deletion_timestamp.map(|time| time.0),
            annotations: metadata.annotations.unwrap_or_default(),
            finalizers: metadata.finalizers.unwrap_or_default(),
            owners: owners
                .map(|owner| Owner {
                    uid: owner.uid,
                    is_controller: owner.controller == Some(true),
                })
                .collect(),
        }
    }

    /// An annotation's value.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }

    /// Whether its backup storage is protected: what protection leaves on it is there, in part at least.
    pub fn is_protected(&self) -> bool {
        self.annotations.contains_key(PROTECTED) || self.has_finalizer()
    }

    /// Whether our finalizer is on it.
    pub fn has_finalizer(&self) -> bool {
        self.finalizers.iter().any(|finalizer| finalizer == FINALIZER)
    }

    /// Whether its deletion has begun.
    pub fn is_dying(&self) -> bool {
        self.deletion.is_some()
    }

    /// Whether clusterctl deletes it because it has moved it.
    pub fn is_marked_as_moved(&self) -> bool {
        self.annotations.contains_key(DELETE_FOR_MOVE)
    }

    /// The reason for which it may go without a choice, if one is given.
    pub fn break_glass(&self) -> Option<&str> {
        self.annotation(BREAK_GLASS).map(str::trim)
    }

    /// Whether `other` is the owner in charge of it.
    pub fn is_controlled_by(&self, other: &Self) -> bool {
        let controllers = self.owners.iter().filter(|owner| owner.is_controller);
        // A cluster object that TKG's controller adopts has one owner and no controller flag in some versions.
        let only = self.owners.first().filter(|_| self.owners.len() == 1);
        controllers
            .chain(only)
            .any(|owner| !owner.uid.is_empty() && owner.uid == other.uid)
            && self.namespace == other.namespace
    }

    /// Which cluster it is, as orders, tickets and documents name it.
    pub fn identity(&self) -> OrderedCluster {
        OrderedCluster {
            group: self.group.clone(),
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
        }
    }

    /// Location and prefix of its storage, as protection recorded them.
    pub fn storage(&self) -> Option<(&str, &str)> {
        self.annotation(PROTECTED)?.rsplit_once(':')
    }

    /// The latest moment that counts for it: what stood when its deletion began stands until it is gone.
    pub fn moment(&self, now: Timestamp) -> Timestamp {
        self.deletion.map_or(now, |deletion| deletion.min(now))
    }
}

/// What the server stamps beside a name: which cluster was meant, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// UID of the cluster.
    pub uid: String,
    /// Time of the change.
    pub at: Timestamp,
}

impl Stamp {
    /// `UID TIME`.
    pub fn write(uid: &str, at: Timestamp) -> String {
        format!("{uid} {}", velero_model::time::format(at))
    }

    /// Reads what [`Stamp::write`] wrote, and nothing else.
    pub fn read(text: &str) -> Option<Self> {
        let (uid, at) = text.split_once(' ')?;
        Some(Self {
            uid: uid.to_owned(),
            at: at.parse().ok()?,
        })
    }
}
