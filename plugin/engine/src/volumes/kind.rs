//! The kinds that are read, as the API server serves them.

use velero_model::{
    api::{GROUP, VERSION},
    resource::ApiKind,
};

fn core(plural: &str, kind: &str, namespaced: bool) -> ApiKind {
    ApiKind {
        group: String::new(),
        version: "v1".to_owned(),
        plural: plural.to_owned(),
        kind: kind.to_owned(),
        namespaced,
    }
}

pub(super) fn pods() -> ApiKind {
    core("pods", "Pod", true)
}

pub(super) fn namespaces() -> ApiKind {
    core("namespaces", "Namespace", false)
}

pub(super) fn claims() -> ApiKind {
    core("persistentvolumeclaims", "PersistentVolumeClaim", true)
}

pub(super) fn volumes() -> ApiKind {
    core("persistentvolumes", "PersistentVolume", false)
}

pub(super) fn policies() -> ApiKind {
    ApiKind {
        group: GROUP.to_owned(),
        version: VERSION.to_owned(),
        plural: "volumebackuppolicies".to_owned(),
        kind: "VolumeBackupPolicy".to_owned(),
        namespaced: false,
    }
}
