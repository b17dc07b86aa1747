//! What the program that moves the files of a volume is told and what it says, as JSON.
//!
//! In come and out go the same types on both sides of the connection into a pod; two versions of this program may sit there,
//! so that fields are only ever added. [`Request`] is the first thing that a mover reads, [`Report`] the last that it writes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Things of one kind that went wrong: how many, and the first of them by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Named {
    /// How many.
    pub count: u64,
    /// The first.
    pub first: Vec<String>,
}

/// What was not read as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Trouble {
    /// Could not be read; missing in the snapshot.
    pub unread: Named,
    /// Were gone when they were to be read; missing in the snapshot.
    pub vanished: Named,
    /// Had another length at their end than at their beginning; in the snapshot as they were read.
    pub changed: Named,
}

/// What a snapshot of a volume came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stored {
    /// Id of the snapshot.
    pub snapshot: String,
    /// Files and folders in it.
    pub files: u64,
    /// Folders in it.
    pub folders: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Bytes that were read, because they were new or changed.
    pub read: u64,
    /// Bytes that the repository has grown by.
    pub added: u64,
    /// Files that were as in the snapshot before.
    pub unchanged: u64,
    /// What was not read as it was.
    pub trouble: Trouble,
}

/// What a restored volume came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Written {
    /// Files that were written.
    pub files: u64,
    /// Bytes that were written.
    pub bytes: u64,
    /// Files that were there already as they should be.
    pub unchanged: u64,
    /// Files whose bytes were read again and compared with the snapshot.
    pub verified: u64,
}

/// The job of a mover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "work")]
pub enum Work {
    /// Read a folder into a snapshot.
    BackUp {
        /// The folder.
        folder: String,
        /// Tags of the snapshot.
        tags: BTreeMap<String, String>,
    },
    /// Write a snapshot into a folder.
    Restore {
        /// The folder.
        folder: String,
        /// Id of the snapshot.
        snapshot: String,
        /// Whether what is there and not in the snapshot goes.
        delete: bool,
    },
}

/// What a mover is asked for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// What to do.
    #[serde(flatten)]
    pub work: Work,
    /// Namespace whose repository it is.
    pub repository: String,
    /// Its password.
    pub password: String,
    /// URL of the location, to be used directly; without it files go through the connection.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub location: Option<String>,
    /// Text of an AWS credentials file for it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub credentials: Option<String>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("work", &self.work)
            .field("repository", &self.repository)
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

/// What a mover says, a line or a frame each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "report")]
pub enum Report {
    /// Bytes that are done, of how many, as far as it is known.
    Progress {
        /// Done.
        done: u64,
        /// In all; 0 while it is not known.
        total: u64,
    },
    /// A snapshot is stored.
    Stored(Stored),
    /// A snapshot is written.
    Written(Written),
    /// It did not succeed.
    Failed {
        /// Why.
        reason: String,
        /// Whether the location could not be reached from where the mover is.
        is_unreachable: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_hide_their_secrets_and_travel() {
        let request = Request {
            work: Work::Restore {
                folder: "/data".into(),
                snapshot: "ab".into(),
                delete: false,
            },
            repository: "shop".into(),
            password: "hunter2".into(),
            location: Some("s3://b".into()),
            credentials: Some("[default]\nhunter3".into()),
        };
        assert!(!format!("{request:?}").contains("hunter"));
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
        assert!(text.contains(r#""work":"restore""#), "{text}");
    }

    #[test]
    fn an_older_report_is_read() {
        let report: Report = serde_json::from_str(r#"{"report":"stored","snapshot":"ab","new":1}"#).unwrap();
        assert!(matches!(report, Report::Stored(stored) if stored.snapshot == "ab"));
    }
}
