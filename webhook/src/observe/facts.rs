//! What is kept of each object. Everything else is dropped the moment it arrives.

use std::collections::BTreeMap;

use backup_plan::volumes::{Claim, Quantity};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource;
use kube::api::DynamicObject;
use kube::core::PartialObjectMeta;
use velero_model::api::VolumeBackupPolicy;

use super::Unreadable;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A PersistentVolume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Volume {
    /// Whether it is a folder of a node, which Velero leaves out.
    pub is_host_path: bool,
}

/// A StorageClass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Class {
    /// Whether claims without a class get this one.
    pub is_default: bool,
}

/// How classes were named before there was a field; the server still lets it win.
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
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
    let annotations = claim.metadata.annotations.unwrap_or_default();
    let class = annotations.get(OLD_CLASS).cloned().or(spec.storage_class_name);
    let capacity = storage(has).or_else(|| storage(asks));
    Claim::new(class.as_deref(), capacity, spec.volume_name.as_deref())
}

pub(super) fn volume(volume: PersistentVolume) -> Volume {
    Volume {
        is_host_path: volume.spec.is_some_and(|spec| spec.host_path.is_some()),
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

fn storage(quantities: Option<BTreeMap<String, resource::Quantity>>) -> Option<Quantity> {
    Quantity::parse(&quantities?.remove("storage")?.0).ok()
}
