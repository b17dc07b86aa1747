//! What becomes of a volume, and the rule that decides, in words for a person.
//!
//! [`Skip`] is what Velero passes over without being asked; [`Chooser`] and [`Excluder`] are who speaks for and against a
//! volume; [`Fate`] is the outcome. Each has a stable id for machines.

use std::fmt;

use velero_model::api::{BACKUP_VOLUMES, BACKUP_VOLUMES_EXCLUDES, VOLUMES_LABEL};

use super::policy::Policy;

/// Why Velero skips a volume, whoever chose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Skip {
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
    /// A name that begins with `default-token`.
    DefaultToken,
    /// Its PersistentVolume is a folder of the node.
    HostPathVolume,
    /// A container uses it as a block device.
    BlockDevice,
    /// Only init containers mount it; native sidecars are such.
    InitContainersOnly,
    /// Nothing mounts it.
    NotMounted,
}

impl Skip {
    /// The stable id.
    pub fn id(self) -> &'static str {
        match self {
            Self::HostPath => "host-path",
            Self::Secret => "secret",
            Self::ConfigMap => "config-map",
            Self::Projected => "projected",
            Self::DownwardApi => "downward-api",
            Self::DefaultToken => "default-token",
            Self::HostPathVolume => "host-path-volume",
            Self::BlockDevice => "block-device",
            Self::InitContainersOnly => "init-containers-only",
            Self::NotMounted => "not-mounted",
        }
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HostPath => "it is a folder of the node (hostPath)",
            Self::Secret => "its files come from a Secret",
            Self::ConfigMap => "its files come from a ConfigMap",
            Self::Projected => "its files come from other objects (projected)",
            Self::DownwardApi => "its files come from the pod itself (downwardAPI)",
            Self::DefaultToken => "its name begins with default-token",
            Self::HostPathVolume => "its PersistentVolume is a folder of the node",
            Self::BlockDevice => "it is used as a block device",
            Self::InitContainersOnly => "only init containers or sidecars mount it",
            Self::NotMounted => "no container mounts it",
        })
    }
}

/// Who speaks for a volume, beside the pod's own list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chooser<'d> {
    /// The label of the pod.
    PodLabel,
    /// The label of its namespace.
    NamespaceLabel,
    /// A policy.
    Policy(&'d Policy),
}

impl fmt::Display for Chooser<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PodLabel => write!(f, "the pod's label {VOLUMES_LABEL}=include"),
            Self::NamespaceLabel => write!(f, "the namespace's label {VOLUMES_LABEL}=include"),
            Self::Policy(policy) => write!(f, "policy \"{}\"", policy.name()),
        }
    }
}

/// Who speaks against a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excluder<'d> {
    /// The pod's annotation `backup-volumes-excludes`.
    Annotation,
    /// The label of the pod.
    PodLabel,
    /// The label of its namespace.
    NamespaceLabel,
    /// A policy.
    Policy(&'d Policy),
}

impl fmt::Display for Excluder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Annotation => write!(f, "the pod's annotation {BACKUP_VOLUMES_EXCLUDES}"),
            Self::PodLabel => write!(f, "the pod's label {VOLUMES_LABEL}=exclude"),
            Self::NamespaceLabel => write!(f, "the namespace's label {VOLUMES_LABEL}=exclude"),
            Self::Policy(policy) => write!(f, "policy \"{}\"", policy.name()),
        }
    }
}

/// What becomes of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate<'d> {
    /// Backed up: the pod's own annotation lists it.
    Listed,
    /// Listed there, and still skipped.
    ListedInVain(Skip),
    /// Backed up: these chose it. Never empty.
    Chosen(&'d [Chooser<'d>]),
    /// Not backed up: this is the first that excludes it.
    Excluded(Excluder<'d>),
    /// Not backed up: Velero would skip it, whoever chose it.
    Skipped(Skip),
    /// Not backed up: nobody chose it.
    NotChosen,
}

impl Fate<'_> {
    /// The stable id.
    pub fn id(&self) -> &'static str {
        match self {
            Self::Listed => "listed",
            Self::ListedInVain(_) => "listed-in-vain",
            Self::Chosen(_) => "chosen",
            Self::Excluded(_) => "excluded",
            Self::Skipped(_) => "skipped",
            Self::NotChosen => "not-chosen",
        }
    }

    /// Whether its files are backed up.
    pub fn is_backed_up(&self) -> bool {
        matches!(self, Self::Listed | Self::Chosen(_))
    }
}

impl fmt::Display for Fate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listed => write!(f, "the pod's annotation {BACKUP_VOLUMES} lists it"),
            Self::ListedInVain(skip) => {
                write!(
                    f,
                    "the pod's annotation {BACKUP_VOLUMES} lists it, but Velero skips it: {skip}"
                )
            }
            Self::Chosen(choosers) => {
                for (position, chooser) in choosers.iter().enumerate() {
                    if position > 0 {
                        f.write_str(" and ")?;
                    }
                    write!(f, "{chooser}")?;
                }
                f.write_str(if choosers.len() == 1 {
                    " includes it"
                } else {
                    " include it"
                })
            }
            Self::Excluded(excluder) => write!(f, "{excluder} excludes it"),
            Self::Skipped(skip) => write!(f, "Velero skips it: {skip}"),
            Self::NotChosen => f.write_str("no policy, label or annotation chooses it"),
        }
    }
}

/// Facts that a rule asked about and that were not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnknownFacts {
    /// Labels of the namespace.
    pub namespace_labels: bool,
    /// Name of the claim, of a pod that has no name yet.
    pub claim_name: bool,
    /// Class of the claim.
    pub storage_class: bool,
    /// Size of the claim.
    pub capacity: bool,
}

impl UnknownFacts {
    /// Whether everything was known.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Joins the facts of another.
    pub fn add(&mut self, other: Self) {
        self.namespace_labels |= other.namespace_labels;
        self.claim_name |= other.claim_name;
        self.storage_class |= other.storage_class;
        self.capacity |= other.capacity;
    }
}

impl fmt::Display for UnknownFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (is_unknown, name) in [
            (self.namespace_labels, "namespace labels"),
            (self.claim_name, "claim name"),
            (self.storage_class, "storage class"),
            (self.capacity, "capacity"),
        ] {
            if is_unknown {
                write!(f, "{separator}{name}")?;
                separator = ", ";
            }
        }
        Ok(())
    }
}
