//! The recovery ticket: what somebody must have who brings a cluster back from backups that outlived it.
//!
//! It lies beside the backups, at [`ticket_key`], and says all of what only the vanished cluster knew: where the backups
//! are, whose they are, what they hold, which schedules made them, how the key of volume data is come by. It holds no
//! credentials and no key in clear.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    api::storage_work::{OrderedCluster, work_name},
    layout::RECOVERY,
    phase::Phase,
    time,
};

/// Version of the document.
pub const VERSION: u32 = 1;

/// What every document says that it is, so that a file can be told from others.
pub const KIND: &str = "RecoveryTicket";

/// Where the ticket of a cluster lies below its prefix, from the UID of its object.
pub fn ticket_key(uid: &str) -> String {
    let name = work_name(uid);
    format!("{RECOVERY}{}.json", name.trim_start_matches("storage-"))
}

/// The ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryTicket {
    /// `cli.kubectl-backup.io/v1`.
    pub api_version: String,
    /// [`KIND`].
    pub kind: String,
    /// [`VERSION`].
    pub version: u32,
    /// The cluster, as its management cluster knew it.
    pub cluster: OrderedCluster,
    /// The cluster, as its backups know it.
    pub source: TicketSource,
    /// URL of the location with the cluster's prefix, read-only, without credentials.
    pub location: String,
    /// Version of the tool that wrote this.
    pub tool_version: String,
    /// Who chose to keep the backups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decided_by: Vec<String>,
    /// When this was written.
    #[serde(with = "time::seconds")]
    pub written: Timestamp,
    /// Until when the backups are guarded; for ever where it is absent.
    #[serde(
        default,
        with = "time::optional_seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub retained_until: Option<Timestamp>,
    /// The backups, the newest first.
    pub backups: Vec<TicketBackup>,
    /// Backups that could not be read, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
    /// Keys of the cluster below the prefix.
    pub keys: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What made backups again and again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedules: Vec<TicketSchedule>,
    /// How volume data can be read.
    pub repository_key: RepositoryKey,
    /// What somebody must know before anything is done with the storage.
    pub must_know: Vec<String>,
}

/// Identity of the cluster in its backups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TicketSource {
    /// UID of `kube-system`; empty where it was never known.
    pub cluster_uid: String,
    /// Its name in the newest backup.
    pub cluster_name: String,
    /// Version of Kubernetes in the newest backup.
    pub kubernetes_version: String,
}

/// One backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TicketBackup {
    /// Its name.
    pub name: String,
    /// Its state.
    pub phase: Phase,
    /// When it was begun.
    #[serde(
        default,
        with = "time::optional_seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub started: Option<Timestamp>,
    /// What a Velero that knows no notes reads as its expiry.
    #[serde(
        default,
        with = "time::optional_seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub veleros_expiry: Option<Timestamp>,
    /// Its schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// Bytes of its files.
    pub bytes: u64,
}

/// One schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TicketSchedule {
    /// Its name.
    pub name: String,
    /// Its cron expression; absent where the cluster could not be asked any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// `velero` or `direct`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// How many of its backups are there.
    pub backups: u64,
}

/// How volume data can be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum RepositoryKey {
    /// There is no volume data in these backups.
    NoVolumeData,
    /// The password that every Velero has unless it was given another.
    VelerosDefault,
    /// Wrapped; whoever has the key of one of the recipients opens it.
    Wrapped {
        /// Form of the wrapping.
        form: String,
        /// For whom.
        recipients: Vec<String>,
        /// The wrapped key, in text.
        wrapped: String,
    },
    /// Not here.
    Elsewhere {
        /// Where to look, in words.
        hint: String,
    },
}

impl RecoveryTicket {
    /// Reads a ticket; what is something else gives `None`.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let ticket: Self = serde_json::from_slice(bytes).ok()?;
        (ticket.kind == KIND).then_some(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_fixed() {
        let golden = r#"{"apiVersion":"cli.kubectl-backup.io/v1","kind":"RecoveryTicket","version":1,"cluster":{"group":"cluster.x-k8s.io","kind":"Cluster","namespace":"team-a","name":"prod","uid":"0b7e"},"source":{"clusterUid":"6e0c","clusterName":"prod","kubernetesVersion":"v1.34.4"},"location":"s3://b/team-a/prod?read-only=true","toolVersion":"0.1.0","decidedBy":["eve"],"written":"2026-11-25T01:00:00Z","retainedUntil":"2027-02-23T01:00:00Z","backups":[{"name":"b","phase":"Completed","started":"2026-11-24T01:00:00Z","velerosExpiry":"2026-12-24T01:00:00Z","schedule":"nightly","bytes":9}],"keys":8,"bytes":9,"schedules":[{"name":"nightly","expression":"0 1 * * *","engine":"direct","backups":1}],"repositoryKey":{"state":"wrapped","form":"age","recipients":["ops"],"wrapped":"xyz"},"mustKnow":["read-only"]}"#;
        let ticket = RecoveryTicket::parse(golden.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&ticket).unwrap(), golden);
        assert_eq!(RecoveryTicket::parse(b"{}"), None);
        let other = golden.replacen("RecoveryTicket", "Ticket", 1);
        assert_eq!(RecoveryTicket::parse(other.as_bytes()), None);
        for (key, json) in [
            (RepositoryKey::NoVolumeData, r#"{"state":"noVolumeData"}"#),
            (RepositoryKey::VelerosDefault, r#"{"state":"velerosDefault"}"#),
            (
                RepositoryKey::Elsewhere {
                    hint: "a safe".into(),
                },
                r#"{"state":"elsewhere","hint":"a safe"}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&key).unwrap(), json);
        }
    }

    #[test]
    fn a_ticket_lies_where_velero_tolerates_it() {
        assert_eq!(ticket_key("abc"), "metadata/recovery-ba7816bf8f01cfea.json");
    }
}
