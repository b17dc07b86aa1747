//! Which restic snapshots hold the data of which claims, as a backup records it.
//!
//! In comes an opened backup; out goes a snapshot for each claim that has one, from the PodVolumeBackups beside the archive.
//! Ours carry the whole id of a snapshot, Velero's (up to 1.16) its first eight digits. Kopia's are not here.

use std::collections::BTreeMap;

use serde_json::Value;
use velero_model::{layout::BackupKeys, volume};

use super::{
    error::CatalogError,
    open::{OpenBackup, inflate_file},
    volume_data::text,
};

/// Digits of a whole id.
const WHOLE: usize = 64;

/// Namespace and id of the restic snapshot of a record; `None` for other uploaders.
pub(super) fn restic_snapshot(record: &Value) -> Option<(&str, &str)> {
    let snapshot = text(record, "/status/snapshotID");
    let is_restic = matches!(text(record, "/spec/uploaderType"), "" | "restic");
    let is_id = !snapshot.is_empty() && snapshot.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_restic && is_id).then(|| (text(record, "/spec/pod/namespace"), snapshot))
}

/// Key of the snapshot of one of our records, which needs no password to be forgotten; `None` for Velero's.
pub(super) fn key_of(record: &Value) -> Option<String> {
    let (namespace, snapshot) = restic_snapshot(record)?;
    let is_ours = text(record, "/spec/uploaderType") == "restic" && snapshot.len() == WHOLE;
    // Namespaces are labels: nothing in them leads to another folder.
    let is_label = namespace
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !namespace.is_empty();
    (is_ours && is_label).then(|| key_of_snapshot(namespace, snapshot))
}

/// Key of a snapshot.
pub(crate) fn key_of_snapshot(namespace: &str, snapshot: &str) -> String {
    format!("restic/{namespace}/snapshots/{snapshot}")
}

/// Snapshots by namespace and claim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClaimSnapshots {
    /// The snapshots.
    pub of_claims: BTreeMap<(String, String), String>,
    /// Whether Velero has written them.
    pub are_veleros: bool,
}

/// Reads them.
///
/// # Errors
/// Storage faults, and damage of the file.
pub async fn claim_snapshots(open: &OpenBackup) -> Result<ClaimSnapshots, CatalogError> {
    let key = BackupKeys(open.name()).pod_volume_backups();
    let Some(info) = open.file(&key) else {
        return Ok(ClaimSnapshots::default());
    };
    let json = inflate_file(open.bucket(), info).await?;
    let list: Vec<Value> = volume::parse_list(&json).unwrap_or_default();
    Ok(read(&list))
}

fn read(list: &[Value]) -> ClaimSnapshots {
    let mut found = ClaimSnapshots::default();
    for record in list {
        let claim = record["metadata"]["annotations"]["velero.io/pvc-name"]
            .as_str()
            .unwrap_or_default();
        if let Some((namespace, snapshot)) = restic_snapshot(record).filter(|_| !claim.is_empty()) {
            found.are_veleros |= snapshot.len() != WHOLE;
            found
                .of_claims
                .insert((namespace.to_owned(), claim.to_owned()), snapshot.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn snapshots_of_restic_are_found_by_claim() {
        let record = |uploader: &str, claim: &str, snapshot: &str| {
            json!({
                "metadata": { "annotations": { "velero.io/pvc-name": claim } },
                "spec": { "pod": { "namespace": "shop" }, "uploaderType": uploader },
                "status": { "snapshotID": snapshot },
            })
        };
        let whole = "ab".repeat(32);
        let found = read(&[
            record("restic", "data", &whole),
            record("kopia", "logs", "k123"),
            record("restic", "", &whole),
            record("restic", "odd", "../x"),
        ]);
        assert_eq!(found.of_claims.len(), 1);
        assert_eq!(found.of_claims[&("shop".to_owned(), "data".to_owned())], whole);
        assert!(!found.are_veleros);
        assert!(read(&[record("", "data", "0123abcd")]).are_veleros);
        assert_eq!(
            key_of(&record("restic", "data", &whole)),
            Some(format!("restic/shop/snapshots/{whole}"))
        );
        let mut outside = record("restic", "data", &whole);
        outside["spec"]["pod"]["namespace"] = "../kopia".into();
        for not_ours in [
            record("restic", "d", "0123abcd"),
            record("kopia", "d", &whole),
            outside,
        ] {
            assert_eq!(key_of(&not_ours), None, "{not_ours}");
        }
    }
}
