//! Where everything lies under a location's prefix.
//!
//! Source: Velero's `object_store_layout.go`. Velero calls a location invalid when it meets another first-level folder
//! than these, so nothing of ours ever makes one; our own files lie inside `backups/<name>/` and `restores/<name>/`, and
//! recovery tickets of whole clusters, which outlive every backup, in `metadata/`, which Velero tolerates and does not use.

use jiff::Timestamp;

use crate::{name::BackupName, time};

/// First-level folders that Velero tolerates.
pub const FIRST_LEVEL: [&str; 6] = ["backups", "restores", "restic", "metadata", "plugins", "kopia"];

/// Prefix of all backups.
pub const BACKUPS: &str = "backups/";

/// Prefix of all restore records.
pub const RESTORES: &str = "restores/";

/// Beginning of the keys of recovery tickets.
pub const RECOVERY: &str = "metadata/recovery-";

/// File name of the marker that makes a backup visible, put last and deleted first.
pub const MARKER: &str = "velero-backup.json";

/// Keys of one backup.
#[derive(Debug, Clone, Copy)]
pub struct BackupKeys<'a>(pub &'a BackupName);

impl BackupKeys<'_> {
    /// `backups/<name>/`.
    pub fn folder(&self) -> String {
        format!("{BACKUPS}{}/", self.0)
    }

    fn file(self, suffix: &str) -> String {
        format!("{BACKUPS}{0}/{0}{suffix}", self.0)
    }

    /// The Backup object; what makes the backup visible.
    pub fn marker(&self) -> String {
        format!("{BACKUPS}{}/{MARKER}", self.0)
    }

    /// The archive of all objects.
    pub fn tarball(&self) -> String {
        self.file(".tar.gz")
    }

    /// Velero's log file.
    pub fn logs(&self) -> String {
        self.file("-logs.gz")
    }

    /// Velero's errors and warnings.
    pub fn results(&self) -> String {
        self.file("-results.gz")
    }

    /// Velero's list of names by kind.
    pub fn resource_list(&self) -> String {
        self.file("-resource-list.json.gz")
    }

    /// Velero's PodVolumeBackups.
    pub fn pod_volume_backups(&self) -> String {
        self.file("-podvolumebackups.json.gz")
    }

    /// Velero's native volume snapshots.
    pub fn volume_snapshots(&self) -> String {
        self.file("-volumesnapshots.json.gz")
    }

    /// Velero's asynchronous operations.
    pub fn item_operations(&self) -> String {
        self.file("-itemoperations.json.gz")
    }

    /// Velero's record of what became of each volume.
    pub fn volume_info(&self) -> String {
        self.file("-volumeinfo.json.gz")
    }

    /// Our index of objects.
    pub fn index(&self) -> String {
        self.file("-index.gz")
    }

    /// Our digests.
    pub fn digests(&self) -> String {
        self.file("-digests.json")
    }

    /// Our account of what was seen, stored and skipped.
    pub fn outcome(&self) -> String {
        self.file("-outcome.json.gz")
    }

    /// The claim of the run that is writing this backup.
    pub fn claim(&self) -> String {
        self.file("-claim.json")
    }

    /// A later decision about this backup.
    pub fn note(&self, at: Timestamp, id: &str) -> String {
        self.file(&format!("-note-{}-{id}.json", time::compact(at)))
    }

    /// Whether a key of this backup's folder is a note.
    pub fn is_note(&self, key: &str) -> bool {
        key.strip_prefix(&self.file("-note-"))
            .is_some_and(|rest| rest.strip_suffix(".json").is_some() && !rest.contains('/'))
    }
}

/// Keys of one restore.
#[derive(Debug, Clone, Copy)]
pub struct RestoreKeys<'a>(pub &'a BackupName);

impl RestoreKeys<'_> {
    /// `restores/<name>/`.
    pub fn folder(&self) -> String {
        format!("{RESTORES}{}/", self.0)
    }

    fn file(self, suffix: &str) -> String {
        format!("{RESTORES}{0}/restore-{0}{suffix}", self.0)
    }

    /// Our record.
    pub fn record(&self) -> String {
        self.file(".json")
    }

    /// The claim of the run that is doing this restore.
    pub fn claim(&self) -> String {
        self.file("-claim.json")
    }

    /// Velero's log file.
    pub fn logs(&self) -> String {
        self.file("-logs.gz")
    }

    /// Velero's errors and warnings.
    pub fn results(&self) -> String {
        self.file("-results.gz")
    }

    /// Velero's list of names with what was done to each.
    pub fn resource_list(&self) -> String {
        self.file("-resource-list.json.gz")
    }
}

/// Name of the backup or restore that a folder below `backups/` or `restores/` belongs to; `None` for names that no
/// backup can have, such as those of editors and probes.
pub fn name_of_folder(folder: &str) -> Option<BackupName> {
    let name = folder.trim_end_matches('/').rsplit('/').next()?;
    BackupName::parse(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_veleros() {
        let name = BackupName::parse("nightly").unwrap();
        let keys = BackupKeys(&name);
        assert_eq!(keys.marker(), "backups/nightly/velero-backup.json");
        assert_eq!(keys.tarball(), "backups/nightly/nightly.tar.gz");
        assert_eq!(
            keys.resource_list(),
            "backups/nightly/nightly-resource-list.json.gz"
        );
        assert_eq!(
            RestoreKeys(&name).logs(),
            "restores/nightly/restore-nightly-logs.gz"
        );
        let note = keys.note("2026-11-22T01:00:00Z".parse().unwrap(), "ab12");
        assert_eq!(note, "backups/nightly/nightly-note-20261122010000-ab12.json");
        assert!(keys.is_note(&note));
        assert!(!keys.is_note(&keys.index()));
        assert_eq!(name_of_folder("backups/nightly/"), Some(name));
        assert_eq!(name_of_folder("backups/.tmp/"), None);
    }
}
