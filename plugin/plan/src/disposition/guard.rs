//! Who may decide, and whose name stands under the decision.
//!
//! In comes a change of a cluster or of a StorageDisposition; out goes what it needs the right to, what is put back or
//! stamped, and a refusal where the change makes no sense whoever asks. Stamps and our own notes are put back silently
//! (many tools write whole objects that they read earlier); what somebody must have meant is refused instead.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use velero_model::api::{
    BREAK_GLASS_VERB, BackupStorage, DECIDE_VERB, DECIDED_FOR, DISPOSITION, FINALIZER, MOVE_VERB,
    StorageDisposition,
};

use super::cluster::{Cluster, Stamp};
use super::message::name_of;
use super::mirror::{Accepted, accepted};
use super::settings::Settings;

mod cluster;
mod object;

pub use cluster::guard_cluster;
pub use object::guard_disposition;

/// Who empties namespaces.
pub const NAMESPACE_CONTROLLER: &str = "system:serviceaccount:kube-system:namespace-controller";

/// A change of a cluster.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// As it is; none when it is made.
    pub old: Option<&'a Cluster>,
    /// As it would be.
    pub new: &'a Cluster,
    /// Who asks.
    pub caller: &'a str,
    /// Whether it is one of our own ServiceAccounts.
    pub is_ours: bool,
    /// What time it is.
    pub now: Timestamp,
}

/// A change of a StorageDisposition.
#[derive(Debug, Clone, Copy)]
pub struct ChangeOfDisposition<'a> {
    /// As it is; none when it is made.
    pub old: Option<&'a StorageDisposition>,
    /// As it would be; none when it is deleted.
    pub new: Option<&'a StorageDisposition>,
    /// The cluster of the name that it gives, whatever its UID.
    pub cluster: Option<&'a Cluster>,
    /// Who asks.
    pub caller: &'a str,
    /// What time it is.
    pub now: Timestamp,
    /// What the administrator has set.
    pub settings: &'a Settings,
}

/// Rights, each a verb on `storagedispositions` with the cluster's name as resource name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// To choose.
    Decide,
    /// To let go without a choice.
    BreakGlass,
    /// To move.
    Move,
}

impl Right {
    /// Its verb.
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Decide => DECIDE_VERB,
            Self::BreakGlass => BREAK_GLASS_VERB,
            Self::Move => MOVE_VERB,
        }
    }
}

/// One of these rights is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// Any of them will do.
    pub any_of: Vec<Right>,
    /// For what, as it stands behind "may not".
    pub what: String,
    /// What becomes of it instead, for some who lack the right.
    pub or_put_back: Option<PutBack>,
}

/// An annotation that is put back as it was, instead of a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutBack {
    /// For those who have this right.
    pub right: Right,
    /// Which.
    pub key: &'static str,
    /// What it was; none removes it.
    pub value: Option<String>,
}

/// What becomes of a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guarded {
    /// It makes no sense, whoever asks.
    pub refusal: Option<String>,
    /// What it needs; all of them.
    pub needs: Vec<Needs>,
    /// What is put back or stamped.
    pub patch: MetadataPatch,
    /// For whoever asks.
    pub warnings: Vec<String>,
    /// For the audit log.
    pub audit: BTreeMap<&'static str, String>,
}

/// Changes of an object's metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetadataPatch {
    /// Values by key; none removes.
    pub annotations: BTreeMap<&'static str, Option<String>>,
    /// Whether our finalizer is added.
    pub adds_finalizer: bool,
}

impl MetadataPatch {
    /// As a JSON patch of an object that has these annotations and finalizers.
    pub fn operations(&self, annotations: &BTreeMap<String, String>, finalizers: &[String]) -> Vec<Value> {
        let mut operations = Vec::new();
        let added = self.annotations.values().any(Option::is_some);
        if added && annotations.is_empty() {
            operations.push(json!({ "op": "add", "path": "/metadata/annotations", "value": {} }));
        }
        for (key, value) in &self.annotations {
            let path = format!(
                "/metadata/annotations/{}",
                key.replace('~', "~0").replace('/', "~1")
            );
            match value {
                Some(value) => operations.push(json!({ "op": "add", "path": path, "value": value })),
                None if annotations.contains_key(*key) => {
                    operations.push(json!({ "op": "remove", "path": path }));
                }
                None => {}
            }
        }
        match (self.adds_finalizer, finalizers.is_empty()) {
            (false, _) => {}
            (true, true) => {
                operations.push(json!({ "op": "add", "path": "/metadata/finalizers", "value": [FINALIZER] }));
            }
            (true, false) => {
                operations.push(json!({ "op": "add", "path": "/metadata/finalizers/-", "value": FINALIZER }));
            }
        }
        operations
    }
}

impl Guarded {
    fn refuse(&mut self, why: String) {
        // The first reason is the one to repair first.
        self.refusal.get_or_insert(why);
    }

    fn need(&mut self, any_of: &[Right], what: impl Into<String>) {
        self.needs.push(Needs {
            any_of: any_of.to_vec(),
            what: what.into(),
            or_put_back: None,
        });
    }

    fn set(&mut self, key: &'static str, found: Option<&str>, wanted: Option<&str>) -> bool {
        let differs = found != wanted;
        if differs {
            self.patch.annotations.insert(key, wanted.map(str::to_owned));
        }
        differs
    }
}

/// What was chosen when the deletion began may be softened from `Delete` to `Retain`, and nothing else. `before` is what
/// the changed object said, for a cluster whose mirror was not written yet.
fn too_late(cluster: &Cluster, before: Option<BackupStorage>, wanted: BackupStorage) -> Option<String> {
    if !cluster.is_dying() || !cluster.has_finalizer() {
        return None;
    }
    let annotated = || {
        let stamp = Stamp::read(cluster.annotation(DECIDED_FOR)?)?;
        (stamp.uid == cluster.uid).then(|| BackupStorage::parse(cluster.annotation(DISPOSITION)?))?
    };
    let chosen = match accepted(cluster) {
        Some(Accepted::Storage(storage)) => storage,
        Some(Accepted::BreakGlass) | None => annotated().or(before)?,
    };
    (chosen == BackupStorage::Retain && wanted == BackupStorage::Delete).then(|| {
        format!(
            "the deletion of {} has begun with Retain; it is too late to choose Delete",
            name_of(cluster)
        )
    })
}
