//! What is kept of each object. Everything else is dropped the moment it arrives.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::DynamicObject;
use kube::core::PartialObjectMeta;
use velero_model::api::VolumeBackupPolicy;

use super::Unreadable;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A PersistentVolumeClaim.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Claim {
    /// Its storage class; none where it has none yet.
    pub class: Option<String>,
    /// What it has, and before it is bound what it asks for.
    pub capacity: Option<Quantity>,
    /// Whether it is used as a raw device.
    pub is_block: bool,
    /// The volume it is bound to.
    pub volume: Option<String>,
}

/// A PersistentVolume.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Volume {
    /// Its storage class.
    pub class: Option<String>,
    /// What it has.
    pub capacity: Option<Quantity>,
    /// Whether it is a folder of a node, which Velero leaves out.
    pub is_host_path: bool,
    /// Whether it is used as a raw device.
    pub is_block: bool,
}

/// A StorageClass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Class {
    /// Whether claims without a class get this one.
    pub is_default: bool,
}

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// Policies come undecoded, so that one that cannot be read does not take the others with it.
pub(super) fn policy(object: DynamicObject) -> Result<VolumeBackupPolicy, Unreadable> {
    let mut policy: VolumeBackupPolicy = object
        .try_parse()
        .map_err(|error| Unreadable(error.to_string()))?;
    policy.status = None;
    policy.metadata.managed_fields = None;
    policy.metadata.annotations = None;
    Ok(policy)
}

pub(super) fn labels(namespace: PartialObjectMeta<Namespace>) -> Labels {
    namespace.metadata.labels.unwrap_or_default()
}

pub(super) fn claim(claim: PersistentVolumeClaim) -> Claim {
    let spec = claim.spec.unwrap_or_default();
    let has = claim.status.and_then(|status| status.capacity);
    let asks = spec.resources.and_then(|resources| resources.requests);
    Claim {
        class: spec.storage_class_name,
        capacity: storage(has).or_else(|| storage(asks)),
        is_block: is_block(spec.volume_mode.as_deref()),
        volume: spec.volume_name.filter(|name| !name.is_empty()),
    }
}

pub(super) fn volume(volume: PersistentVolume) -> Volume {
    let spec = volume.spec.unwrap_or_default();
    Volume {
        class: spec.storage_class_name,
        capacity: storage(spec.capacity),
        is_host_path: spec.host_path.is_some(),
        is_block: is_block(spec.volume_mode.as_deref()),
    }
}

pub(super) fn class(class: StorageClass) -> Class {
    let annotations = class.metadata.annotations.unwrap_or_default();
    Class {
        is_default: annotations
            .get(DEFAULT_CLASS)
            .is_some_and(|value| value == "true"),
    }
}

fn storage(quantities: Option<BTreeMap<String, Quantity>>) -> Option<Quantity> {
    quantities?.remove("storage")
}

fn is_block(mode: Option<&str>) -> bool {
    mode == Some("Block")
}
