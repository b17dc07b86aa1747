//! What an administrator may set about the gate. Nothing here can turn it off.

use std::time::Duration;

use serde::Deserialize;
use velero_model::duration::GoDuration;

/// Settings of gate, guard and reconciler. What is not said keeps its default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Settings {
    /// Kinds of clusters.
    pub kinds: Vec<Kind>,
    /// Whether who has chosen `Delete` may not delete the cluster as well.
    pub four_eyes: bool,
    /// What happens to a cluster that was never protected.
    pub unprotected: Unprotected,
    /// What happens to a location that protected clusters use.
    pub location_in_use: LocationInUse,
    /// How old the newest backup of a cluster may be whose storage is kept.
    pub freshness: Option<GoDuration>,
    /// How long a broken glass lets a cluster go.
    pub break_glass_for: GoDuration,
}

/// A kind of clusters, as its CRD names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kind {
    /// Such as `cluster.x-k8s.io`.
    pub group: String,
    /// Such as `Cluster`.
    pub kind: String,
    /// Such as `clusters`.
    pub plural: String,
}

impl Kind {
    /// The name of its CRD.
    pub fn definition(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }
}

/// What happens to a cluster that was never protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Unprotected {
    /// It may go, with a warning.
    Warn,
    /// It needs a choice like any other.
    Deny,
}

/// What happens to a location that protected clusters use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum LocationInUse {
    /// It may go, with a warning.
    Warn,
    /// It stays.
    Deny,
}

impl Default for Settings {
    fn default() -> Self {
        let kind = |group: &str, kind: &str, plural: &str| Kind {
            group: group.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        };
        Self {
            kinds: vec![
                kind("cluster.x-k8s.io", "Cluster", "clusters"),
                kind(
                    "run.tanzu.vmware.com",
                    "TanzuKubernetesCluster",
                    "tanzukubernetesclusters",
                ),
            ],
            four_eyes: false,
            unprotected: Unprotected::Warn,
            location_in_use: LocationInUse::Deny,
            freshness: None,
            break_glass_for: GoDuration(Duration::from_hours(1)),
        }
    }
}

impl Settings {
    /// The kind with this CRD.
    pub fn kind_of_definition(&self, name: &str) -> Option<&Kind> {
        self.kinds.iter().find(|kind| kind.definition() == name)
    }

    /// The kind of this resource.
    pub fn kind_of_resource(&self, group: &str, plural: &str) -> Option<&Kind> {
        self.kinds
            .iter()
            .find(|kind| kind.group == group && kind.plural == plural)
    }

    /// Whether clusters may be of this kind.
    pub fn knows(&self, group: &str, kind: &str) -> bool {
        self.kinds
            .iter()
            .any(|known| known.group == group && known.kind == kind)
    }
}
