//! A pod's namespace: its labels, as far as they are known, and the label by which its owner decides.

use std::collections::BTreeMap;

use velero_model::api::VOLUMES_LABEL;

use super::pod::Labels;

/// The label that every namespace carries with its own name.
pub(super) const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The namespace of a pod.
#[derive(Debug, Clone, Copy)]
pub struct NamespaceFacts<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its labels; none when they are not known (a namespace that was made a moment ago).
    pub labels: Option<&'a BTreeMap<String, String>>,
}

impl<'a> NamespaceFacts<'a> {
    /// The value of a label, if labels are known.
    pub(super) fn label(&self, key: &str) -> Option<&'a str> {
        match self.labels?.get(key) {
            Some(value) => Some(value),
            None if key == NAME_LABEL => Some(self.name),
            None => None,
        }
    }

    /// What its own label says about the volumes of its pods.
    pub fn volumes_label(&self) -> VolumesLabel<'a> {
        VolumesLabel::read(self.label(VOLUMES_LABEL))
    }
}

/// The label `kubectl-backup.io/volumes` of a namespace or pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumesLabel<'a> {
    /// Not there.
    Absent,
    /// `include`.
    Include,
    /// `exclude`.
    Exclude,
    /// Something else: named to the user and otherwise treated as absent.
    Unknown(&'a str),
}

impl<'a> VolumesLabel<'a> {
    fn read(value: Option<&'a str>) -> Self {
        match value {
            None => Self::Absent,
            Some("include") => Self::Include,
            Some("exclude") => Self::Exclude,
            Some(other) => Self::Unknown(other),
        }
    }

    /// That of a pod.
    pub fn of_pod(labels: &'a Labels<'a>) -> Self {
        Self::read(labels.get(VOLUMES_LABEL))
    }
}
