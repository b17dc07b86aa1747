//! What Velero wrote about volumes, read as far as people want to see it.
//!
//! Only what `describe` shows is typed; everything else stays JSON. Lists may be `null`, as Go writes empty ones.

use serde::{Deserialize, Serialize};

/// One entry of `volumeinfo.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeInfo {
    /// Claim.
    pub pvc_name: String,
    /// Namespace of the claim.
    pub pvc_namespace: String,
    /// Volume.
    pub pv_name: String,
    /// `NativeSnapshot`, `PodVolumeBackup` or `CSISnapshot`; empty when skipped.
    pub backup_method: String,
    /// Whether the snapshot's data was moved to the storage.
    pub snapshot_data_moved: bool,
    /// Whether the volume was left out.
    pub skipped: bool,
    /// Why it was left out.
    pub skipped_reason: String,
    /// `succeeded` or `failed`.
    pub result: String,
}

/// Reads a JSON list that may be `null`.
///
/// # Errors
/// When it is no list of `T`.
pub fn parse_list<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<Vec<T>, serde_json::Error> {
    Ok(serde_json::from_slice::<Option<Vec<T>>>(json)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_writes_null_for_an_empty_list() {
        assert_eq!(parse_list::<VolumeInfo>(b"null").unwrap(), []);
        let list = parse_list::<VolumeInfo>(br#"[{"pvcName":"data","skipped":true,"future":1}]"#).unwrap();
        assert!(list[0].skipped);
    }
}
