//! What of a pod decides about its volumes: a narrow reading of its JSON that borrows from it.
//!
//! Everything else of the pod is passed over without being stored, so a pod of three megabytes costs one walk over its
//! bytes. How the JSON is read stands in `pod_json`.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::Deserialize;
use velero_model::api::VolumeType;

use super::claim::ClaimFacts;
use super::quantity::Quantity;

/// A text of the JSON: borrowed unless it has escapes.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

/// Labels in the order of the JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels<'a>(pub(super) Vec<(Text<'a>, Text<'a>)>);

impl<'a> Labels<'a> {
    /// From pairs.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        )
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(name, _)| &**name == key)
            .map(|(_, value)| &**value)
    }
}

/// The controller that made the pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner<'a> {
    /// `apps/v1`.
    pub api_version: Text<'a>,
    /// `ReplicaSet`.
    pub kind: Text<'a>,
    /// Its name.
    pub name: Text<'a>,
}

/// A pod, as far as its volumes are concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodFacts<'a> {
    /// Empty while the server has not made one of [`PodFacts::generate_name`] yet.
    pub name: Text<'a>,
    /// What the name will begin with.
    pub generate_name: Text<'a>,
    /// Empty where the object does not say it (it may be missing in an admission request).
    pub namespace: Text<'a>,
    /// Its labels.
    pub labels: Labels<'a>,
    /// Whether it has a map of annotations at all.
    pub has_annotations: bool,
    /// `backup.velero.io/backup-volumes`.
    pub backup_volumes: Option<Text<'a>>,
    /// `backup.velero.io/backup-volumes-excludes`.
    pub backup_volumes_excludes: Option<Text<'a>>,
    /// `kubectl-backup.io/volumes-chosen-by`.
    pub chosen_by: Option<Text<'a>>,
    /// Whether it is the image of a static pod on a node.
    pub is_mirror: bool,
    /// The controller that made it.
    pub owner: Option<Owner<'a>>,
    /// `status.phase`; none while it is being created.
    pub phase: Option<Text<'a>>,
    /// Its volumes in their order.
    pub volumes: Vec<VolumeFacts<'a>>,
}

impl<'a> PodFacts<'a> {
    /// Reads a pod's JSON.
    ///
    /// # Errors
    /// When it is no object with metadata, or a field that is looked at has another type than in a pod.
    pub fn parse(json: &'a [u8]) -> Result<Self, serde_json::Error> {
        super::pod_json::parse(json)
    }

    /// Whether Velero would look into its volumes at all.
    pub fn is_running(&self) -> bool {
        self.phase.as_deref() == Some("Running")
    }

    /// What a person calls it.
    pub fn display_name(&self) -> &str {
        if self.name.is_empty() {
            &self.generate_name
        } else {
            &self.name
        }
    }

    /// The name of the claim behind a volume. None for a volume without claim, and for an ephemeral one while the pod has
    /// no name yet.
    pub fn claim_name(&self, volume: &'a VolumeFacts<'a>) -> Option<Cow<'a, str>> {
        match &volume.source {
            Source::PersistentVolumeClaim { claim_name } => Some(Cow::Borrowed(claim_name)),
            Source::Ephemeral { .. } if !self.name.is_empty() => {
                Some(Cow::Owned(format!("{}-{}", &*self.name, &*volume.name)))
            }
            _ => None,
        }
    }
}

/// A volume of a pod and what its containers do with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeFacts<'a> {
    /// Its name in the pod.
    pub name: Text<'a>,
    /// Where its data comes from.
    pub source: Source<'a>,
    /// Whether a regular container mounts it. Init containers and native sidecars do not count, as with Velero.
    pub is_mounted: bool,
    /// Whether a regular container uses it as a block device.
    pub is_device: bool,
    /// Whether an init container (a native sidecar is one) mounts it.
    pub is_mounted_by_init: bool,
}

/// Where a volume's data comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source<'a> {
    /// A claim by name.
    PersistentVolumeClaim {
        /// Its name.
        claim_name: Text<'a>,
    },
    /// A claim that is made from a template together with the pod.
    Ephemeral {
        /// Class of the template.
        storage_class: Option<Text<'a>>,
        /// Requested size of the template.
        capacity: Option<Quantity>,
    },
    /// A folder that comes and goes with the pod.
    EmptyDir,
    /// A CSI volume without a claim.
    Csi,
    /// NFS without a claim.
    Nfs,
    /// A folder of the node.
    HostPath,
    /// Files from a Secret.
    Secret,
    /// Files from a ConfigMap.
    ConfigMap,
    /// Files from several objects.
    Projected,
    /// Files from fields of the pod.
    DownwardApi,
    /// Anything else, by its name in the JSON.
    Other(Text<'a>),
}

impl<'a> Source<'a> {
    /// The type that policies call it by; none for what no policy can choose.
    pub fn volume_type(&self) -> Option<VolumeType> {
        match self {
            Self::PersistentVolumeClaim { .. } => Some(VolumeType::PersistentVolumeClaim),
            Self::Ephemeral { .. } => Some(VolumeType::Ephemeral),
            Self::EmptyDir => Some(VolumeType::EmptyDir),
            Self::Csi => Some(VolumeType::Csi),
            Self::Nfs => Some(VolumeType::Nfs),
            _ => None,
        }
    }

    /// Whether there is a claim behind it.
    pub fn has_claim(&self) -> bool {
        matches!(self, Self::PersistentVolumeClaim { .. } | Self::Ephemeral { .. })
    }

    /// Its name in the JSON of a pod.
    pub fn name(&self) -> &str {
        match self {
            Self::PersistentVolumeClaim { .. } => "persistentVolumeClaim",
            Self::Ephemeral { .. } => "ephemeral",
            Self::EmptyDir => "emptyDir",
            Self::Csi => "csi",
            Self::Nfs => "nfs",
            Self::HostPath => "hostPath",
            Self::Secret => "secret",
            Self::ConfigMap => "configMap",
            Self::Projected => "projected",
            Self::DownwardApi => "downwardAPI",
            Self::Other(name) => name,
        }
    }

    /// What the template of an ephemeral volume says about the claim to come.
    pub fn template_facts(&'a self) -> ClaimFacts<'a> {
        match self {
            Self::Ephemeral {
                storage_class,
                capacity,
            } => ClaimFacts {
                storage_class: storage_class.as_deref(),
                capacity: *capacity,
                is_host_path: None,
            },
            _ => ClaimFacts::default(),
        }
    }
}
