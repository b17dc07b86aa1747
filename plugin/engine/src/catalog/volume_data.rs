//! Volume data of a backup that lies outside its folder, and what of it only Velero can delete.
//!
//! In come the side files in which Velero records volumes; out goes one phrase a volume: snapshots in a kopia or restic
//! repository, CSI snapshots, snapshots of a cloud provider. A side file that is there and cannot be read counts as
//! data: what cannot be ruled out must not be orphaned silently.

use std::sync::Arc;

use serde_json::Value;
use velero_model::{
    layout::BackupKeys,
    name::BackupName,
    volume::{self, VolumeInfo},
};

use super::{
    claim_snapshots::{key_of, restic_snapshot},
    error::CatalogError,
    open::{OpenBackup, inflate_file},
};
use crate::storage::{Bucket, ObjectInfo};

/// What there is; empty when there is none.
///
/// # Errors
/// Storage faults only.
pub async fn volume_data(open: &OpenBackup) -> Result<Vec<String>, CatalogError> {
    gather(open.bucket(), open.name(), open.files(), pod_volume_backup).await
}

/// What of it is in no restic repository, so that only Velero reads it.
///
/// # Errors
/// As [`volume_data`].
pub async fn volume_data_beside_restic(open: &OpenBackup) -> Result<Vec<String>, CatalogError> {
    let beside = |value: &Value| match restic_snapshot(value) {
        Some(_) => None,
        None => pod_volume_backup(value),
    };
    gather(open.bucket(), open.name(), open.files(), beside).await
}

/// What only Velero can delete, of a folder whose marker may be damaged.
pub(super) async fn veleros(
    bucket: &Arc<dyn Bucket>,
    name: &BackupName,
    files: &[ObjectInfo],
) -> Result<Vec<String>, CatalogError> {
    gather(bucket, name, files, others_pod_volume_backup).await
}

async fn gather(
    bucket: &Arc<dyn Bucket>,
    name: &BackupName,
    files: &[ObjectInfo],
    pod_volume_backup: fn(&Value) -> Option<String>,
) -> Result<Vec<String>, CatalogError> {
    let keys = BackupKeys(name);
    let folder = keys.folder();
    let file = |suffix: &str| format!("{folder}{name}-{suffix}.json.gz");
    let mut found = Vec::new();
    for (key, phrase) in [
        (keys.pod_volume_backups(), pod_volume_backup),
        (keys.volume_snapshots(), native_snapshot),
        (file("csi-volumesnapshotcontents"), csi_content),
        (keys.volume_info(), volume_info),
    ] {
        let Some(info) = files.iter().find(|info| info.key == key) else {
            continue;
        };
        let list = match inflate_file(bucket, info).await {
            Ok(json) => volume::parse_list::<Value>(&json).map_err(|error| error.to_string()),
            Err(error) if error.is_damage() => Err(error.to_string()),
            Err(error) => return Err(error),
        };
        match list {
            Ok(list) => found.extend(list.iter().filter_map(phrase)),
            Err(problem) => found.push(format!(
                "unknown volumes, because {key} cannot be read: {problem}"
            )),
        }
    }
    Ok(found)
}

pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// All but snapshots of ours, which are forgotten with their backup.
fn others_pod_volume_backup(value: &Value) -> Option<String> {
    match key_of(value) {
        Some(_) => None,
        None => pod_volume_backup(value),
    }
}

fn pod_volume_backup(value: &Value) -> Option<String> {
    let snapshot = text(value, "/status/snapshotID");
    let uploader = Some(text(value, "/spec/uploaderType")).filter(|uploader| !uploader.is_empty());
    (!snapshot.is_empty()).then(|| {
        let (namespace, pod) = (text(value, "/spec/pod/namespace"), text(value, "/spec/pod/name"));
        let volume = text(value, "/spec/volume");
        format!(
            "volume {volume} of pod {namespace}/{pod} in a {} repository",
            uploader.unwrap_or("restic")
        )
    })
}

fn native_snapshot(value: &Value) -> Option<String> {
    let snapshot = text(value, "/status/providerSnapshotID");
    (!snapshot.is_empty()).then(|| {
        format!(
            "snapshot {snapshot} of volume {}",
            text(value, "/spec/persistentVolumeName")
        )
    })
}

fn csi_content(value: &Value) -> Option<String> {
    let name = text(value, "/metadata/name");
    (!name.is_empty()).then(|| format!("CSI snapshot content {name}"))
}

/// Volumes whose method has a side file of its own are named by that.
fn volume_info(value: &Value) -> Option<String> {
    let info: VolumeInfo = serde_json::from_value(value.clone()).unwrap_or_default();
    let kept = if info.snapshot_data_moved {
        "moved into a repository"
    } else {
        "on the storage system"
    };
    (info.backup_method == "CSISnapshot" && !info.skipped && info.result != "failed").then(|| {
        format!(
            "CSI snapshot of claim {}/{}, {kept}",
            info.pvc_namespace, info.pvc_name
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalog::{
        fixture::{Fixture, gz_json, name},
        open,
    };

    #[tokio::test]
    async fn data_outside_the_folder_is_named() {
        let pod_volume = json!([{"spec": {"pod": {"namespace": "shop", "name": "db"}, "volume": "data", "uploaderType": "kopia"},
            "status": {"snapshotID": "s1"}}, {"spec": {"volume": "lost"}, "status": {"phase": "Failed"}}]);
        let native =
            json!([{"spec": {"persistentVolumeName": "pv1"}, "status": {"providerSnapshotID": "snap-1"}}]);
        let info = json!([{"backupMethod": "CSISnapshot", "pvcNamespace": "shop", "pvcName": "data", "result": "succeeded"},
            {"backupMethod": "PodVolumeBackup"}, {"skipped": true}]);
        let legacy = json!([{"metadata": {"name": "content-1"}}]);
        for (file, body, expected) in [
            (
                "podvolumebackups",
                pod_volume,
                &["volume data of pod shop/db in a kopia repository"][..],
            ),
            ("volumesnapshots", native, &["snapshot snap-1 of volume pv1"]),
            (
                "volumeinfo",
                info,
                &["CSI snapshot of claim shop/data, on the storage system"],
            ),
            (
                "csi-volumesnapshotcontents",
                legacy,
                &["CSI snapshot content content-1"],
            ),
            ("volumeinfo", json!(null), &[]),
        ] {
            let fixture = Fixture::new();
            fixture.velero("b", 2).await;
            fixture
                .put(&format!("backups/b/b-{file}.json.gz"), gz_json(&body))
                .await;
            let open = open(&fixture.bucket(), &name("b")).await.unwrap();
            assert_eq!(volume_data(&open).await.unwrap(), expected, "{file}");
        }
    }

    #[tokio::test]
    async fn an_unreadable_record_counts_as_data() {
        let fixture = Fixture::new();
        fixture.velero("b", 2).await;
        fixture
            .put("backups/b/b-podvolumebackups.json.gz", "no gzip")
            .await;
        let open = open(&fixture.bucket(), &name("b")).await.unwrap();
        assert_eq!(volume_data(&open).await.unwrap().len(), 1);
    }
}
