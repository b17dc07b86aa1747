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

pub(crate) fn pods() -> ApiKind {
    core("pods", "Pod", true)
}

pub(crate) fn namespaces() -> ApiKind {
    core("namespaces", "Namespace", false)
}

pub(crate) fn claims() -> ApiKind {
    core("persistentvolumeclaims", "PersistentVolumeClaim", true)
}

pub(crate) fn volumes() -> ApiKind {
    core("persistentvolumes", "PersistentVolume", false)
}

pub(crate) fn policies() -> ApiKind {
    ApiKind {
        group: GROUP.to_owned(),
        version: VERSION.to_owned(),
        plural: "volumebackuppolicies".to_owned(),
        kind: "VolumeBackupPolicy".to_owned(),
        namespaced: false,
    }
}
