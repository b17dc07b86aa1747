//! Where the record of a restore lies, and that a name is used once.
//!
//! In comes the record as it is at the beginning, later as it is at the end with Velero's three files; out goes where it was
//! stored. It lies under `restores/` beside its backup; where that may not be written it lies in a folder on this machine,
//! laid out alike, and the caller says so. Later code may rely on the record being there before the first write to the
//! cluster, so that a run that was killed can be told from one that never began.

use std::{
    ffi::OsStr,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use uuid::Uuid;
use velero_model::{
    layout::RestoreKeys, name::BackupName, phase::Phase, restore_record::RestoreRecord, time,
};

use super::{RestoreError, RestoreRequest, report::Collected};
use crate::{
    api::ClusterIdentity,
    clock,
    storage::{Bucket, Put, PutOutcome, StorageError, folder::Folder},
};

/// Version of the record's form.
const VERSION: u32 = 1;

/// Largest record that is read.
const RECORD_MAX: u64 = 16 << 20;

/// Bytes of a file that are handed on at once.
const CHUNK: usize = 256 << 10;

/// The folder for records on this machine: `kubectl-backup` below `XDG_STATE_HOME` if that is absolute, else below
/// `~/.local/state`.
pub fn default_records_folder(xdg_state_home: Option<&OsStr>, home: Option<&OsStr>) -> Option<PathBuf> {
    let xdg = xdg_state_home
        .map(Path::new)
        .filter(|path| path.is_absolute())
        .map(Path::to_owned);
    let folder = xdg.or_else(|| Some(Path::new(home?).join(".local").join("state")))?;
    Some(folder.join("kubectl-backup"))
}

/// The record of a restore that begins now.
pub(super) fn begun(
    backup: &BackupName,
    request: &RestoreRequest,
    target: &ClusterIdentity,
) -> RestoreRecord {
    RestoreRecord {
        version: VERSION,
        name: request.name.to_string(),
        backup: backup.to_string(),
        target_cluster_uid: target.uid.clone(),
        target_cluster_name: target.name.clone(),
        tool_version: request.tool_version.clone(),
        run_id: Uuid::new_v4().to_string(),
        request: request.to_json(),
        phase: Phase::InProgress,
        started: Some(time::to_seconds(clock::now())),
        ..RestoreRecord::default()
    }
}

/// The place of one restore's record.
pub(super) struct Records {
    place: Option<Arc<dyn Bucket>>,
    name: BackupName,
    folder: Option<PathBuf>,
    is_local: bool,
    /// Why it is not beside the backup.
    why_elsewhere: Option<String>,
    /// Whether an earlier run had begun it.
    resumes: bool,
}

impl Records {
    /// Claims the name and puts the record of the beginning. A record that says it is in progress, of the same backup into
    /// the same cluster, is one whose run was killed: it is taken up, with its time of beginning.
    pub(super) async fn begin(
        bucket: &Arc<dyn Bucket>,
        request: &RestoreRequest,
        mut record: RestoreRecord,
    ) -> Result<(Self, RestoreRecord), RestoreError> {
        let mut records = Self {
            place: Some(Arc::clone(bucket)),
            name: request.name.clone(),
            folder: request.records_folder.clone(),
            is_local: false,
            why_elsewhere: None,
            resumes: false,
        };
        let tried = if bucket.read_only() {
            Err("the location is read-only".to_owned())
        } else {
            match records.claim(bucket, &mut record).await {
                Err(RestoreError::Storage(error)) if is_refusal(&error) => Err(error.to_string()),
                Err(error) => return Err(error),
                Ok(()) => Ok(()),
            }
        };
        if let Err(why) = tried {
            // Somebody who may write may have used the name.
            records.check_unused(bucket, &record).await?;
            records.go_local(why);
            if let Some(place) = records.place.clone() {
                records.claim(&place, &mut record).await?;
            }
        }
        Ok((records, record))
    }

    fn go_local(&mut self, why: String) {
        self.is_local = true;
        self.why_elsewhere = Some(why);
        self.place = self.folder.as_ref().and_then(|folder| {
            std::fs::create_dir_all(folder).ok()?;
            Some(Arc::new(Folder::new(folder, false)) as Arc<dyn Bucket>)
        });
    }

    async fn claim(
        &mut self,
        place: &Arc<dyn Bucket>,
        record: &mut RestoreRecord,
    ) -> Result<(), RestoreError> {
        let keys = RestoreKeys(&self.name);
        let stored = place
            .put(&keys.record(), to_bytes(record), Put::if_absent())
            .await?;
        if stored != PutOutcome::AlreadyThere {
            // Velero keeps no record of ours, but its files have the same names.
            if place.head(&keys.logs()).await?.is_some() || place.head(&keys.results()).await?.is_some() {
                place.delete(&keys.record()).await?;
                return Err(self.exists(place, "unknown", "made by Velero"));
            }
            return Ok(());
        }
        if let Some(found) = self.read(place).await? {
            self.take_up(place, &found, record)?;
            self.resumes = true;
        }
        // Without a condition a put has one outcome.
        place
            .put(&keys.record(), to_bytes(record), Put::default())
            .await
            .map(drop)?;
        Ok(())
    }

    fn take_up(
        &self,
        place: &Arc<dyn Bucket>,
        found: &RestoreRecord,
        record: &mut RestoreRecord,
    ) -> Result<(), RestoreError> {
        let same = found.phase == Phase::InProgress
            && found.backup == record.backup
            && found.target_cluster_uid == record.target_cluster_uid;
        if !same {
            return Err(self.exists(place, &found.backup, found.phase.as_str()));
        }
        record.started = found.started.or(record.started);
        Ok(())
    }

    async fn check_unused(
        &self,
        place: &Arc<dyn Bucket>,
        record: &RestoreRecord,
    ) -> Result<(), RestoreError> {
        match self.read(place).await? {
            Some(found) => self.take_up(place, &found, &mut record.clone()),
            None => Ok(()),
        }
    }

    async fn read(&self, place: &Arc<dyn Bucket>) -> Result<Option<RestoreRecord>, RestoreError> {
        let key = RestoreKeys(&self.name).record();
        let Some((bytes, _)) = place.get(&key, RECORD_MAX).await? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|_| self.exists(place, "unknown", "its record is damaged"))
    }

    fn exists(&self, place: &Arc<dyn Bucket>, backup: &str, phase: &str) -> RestoreError {
        RestoreError::Exists {
            name: self.name.to_string(),
            place: place.describe(),
            backup: backup.to_owned(),
            phase: phase.to_owned(),
        }
    }

    /// Whether an earlier run of this very restore may have written objects.
    pub(super) fn resumes(&self) -> bool {
        self.resumes
    }

    /// Why the record does not lie beside the backup, if so.
    pub(super) fn why_elsewhere(&self) -> Option<&str> {
        self.why_elsewhere.as_deref()
    }

    /// Where the record is, for a person.
    pub(super) fn place(&self) -> String {
        match &self.place {
            Some(place) => format!(
                "{}/{}",
                place.describe().trim_end_matches('/'),
                RestoreKeys(&self.name).record()
            ),
            None => "nowhere".to_owned(),
        }
    }

    /// Stores the record of the end with its files. What cannot be stored beside the backup is stored on this machine.
    pub(super) async fn end(
        &mut self,
        record: &RestoreRecord,
        files: &Collected,
    ) -> Result<(), StorageError> {
        let Some(place) = self.place.clone() else {
            return Ok(());
        };
        let stored = self.store(&place, record, files).await;
        match stored {
            Err(error) if !self.is_local => {
                self.go_local(error.to_string());
                match self.place.clone() {
                    Some(place) => self.store(&place, record, files).await,
                    None => Err(error),
                }
            }
            stored => stored,
        }
    }

    async fn store(
        &self,
        place: &Arc<dyn Bucket>,
        record: &RestoreRecord,
        files: &Collected,
    ) -> Result<(), StorageError> {
        let keys = RestoreKeys(&self.name);
        upload(place, &keys.logs(), &files.log).await?;
        upload(place, &keys.resource_list(), &files.names).await?;
        let results = Bytes::copy_from_slice(&files.results);
        place
            .put(&keys.results(), results, Put::default())
            .await
            .map(drop)?;
        place
            .put(&keys.record(), to_bytes(record), Put::default())
            .await
            .map(drop)
    }
}

/// Whether the location lets nobody write, or not us.
fn is_refusal(error: &StorageError) -> bool {
    matches!(
        error,
        StorageError::ReadOnly { .. } | StorageError::AccessDenied { .. }
    )
}

fn to_bytes(record: &RestoreRecord) -> Bytes {
    // A record has string keys only, so it always can be written.
    serde_json::to_vec_pretty(record).unwrap_or_default().into()
}

async fn upload(place: &Arc<dyn Bucket>, key: &str, file: &File) -> Result<(), StorageError> {
    let cannot = |error: std::io::Error| StorageError::Other {
        at: crate::storage::At::new("write", key, &place.describe()),
        detail: format!("the temporary file cannot be read: {error}"),
    };
    let mut file = tokio::fs::File::from_std(file.try_clone().map_err(cannot)?);
    tokio::io::AsyncSeekExt::rewind(&mut file).await.map_err(cannot)?;
    let size = file.metadata().await.map_err(cannot)?.len();
    let mut upload = place.upload(key, Put::default().expecting(size)).await?;
    loop {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        if file.read_buf(&mut chunk).await.map_err(cannot)? == 0 {
            break;
        }
        upload.write(chunk.freeze()).await?;
    }
    upload.complete().await.map(drop)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{restore::report::Report, storage::memory::Memory};

    fn name(text: &str) -> BackupName {
        BackupName::parse(text).unwrap()
    }

    fn target(uid: &str) -> ClusterIdentity {
        ClusterIdentity {
            uid: uid.into(),
            name: "ctx".into(),
            version: "v1.34.0".into(),
        }
    }

    async fn begin(
        bucket: &Arc<dyn Bucket>,
        request: &RestoreRequest,
        uid: &str,
    ) -> Result<(Records, RestoreRecord), RestoreError> {
        Records::begin(bucket, request, begun(&name("b"), request, &target(uid))).await
    }

    #[tokio::test]
    async fn a_name_is_used_once_and_a_killed_run_is_taken_up() {
        let bucket: Arc<dyn Bucket> = Arc::new(Memory::new());
        let request = RestoreRequest::new(name("r"));
        let (_, first) = begin(&bucket, &request, "u").await.unwrap();
        // Killed here: the record says InProgress.
        let (mut records, mut again) = begin(&bucket, &request, "u").await.unwrap();
        assert_eq!(
            again.started.map(Timestamp::as_second),
            first.started.map(Timestamp::as_second)
        );
        assert_ne!(again.run_id, first.run_id);
        assert!(matches!(
            begin(&bucket, &request, "other").await,
            Err(RestoreError::Exists { .. })
        ));

        again.phase = Phase::Completed;
        records
            .end(&again, &Report::new().unwrap().finish().unwrap())
            .await
            .unwrap();
        let keys: Vec<String> = bucket
            .list_all("")
            .await
            .unwrap()
            .into_iter()
            .map(|info| info.key)
            .collect();
        assert_eq!(
            keys,
            [
                "restores/r/restore-r-logs.gz",
                "restores/r/restore-r-resource-list.json.gz",
                "restores/r/restore-r-results.gz",
                "restores/r/restore-r.json"
            ]
        );
        match begin(&bucket, &request, "u").await {
            Err(RestoreError::Exists { phase, backup, .. }) => {
                assert_eq!((phase.as_str(), backup.as_str()), ("Completed", "b"));
            }
            other => panic!("{:?}", other.map(|_| ())),
        }
    }

    #[tokio::test]
    async fn a_name_that_velero_used_is_refused_and_left_as_it_is() {
        let bucket: Arc<dyn Bucket> = Arc::new(Memory::new());
        let put = bucket
            .put("restores/r/restore-r-logs.gz", Bytes::new(), Put::default())
            .await;
        assert!(put.unwrap().is_stored());
        let request = RestoreRequest::new(name("r"));
        assert!(matches!(
            begin(&bucket, &request, "u").await,
            Err(RestoreError::Exists { .. })
        ));
        assert_eq!(bucket.list_all("").await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_read_only_location_leaves_the_record_on_this_machine() {
        let memory = Memory::new();
        memory.set_read_only();
        let bucket: Arc<dyn Bucket> = Arc::new(memory);
        let folder = tempfile::tempdir().unwrap();
        let mut request = RestoreRequest::new(name("r"));
        request.records_folder = Some(folder.path().join("state"));
        let (records, _) = begin(&bucket, &request, "u").await.unwrap();
        assert!(records.why_elsewhere().is_some());
        assert!(folder.path().join("state/restores/r/restore-r.json").is_file());
        assert!(
            records.place().ends_with("state/restores/r/restore-r.json"),
            "{}",
            records.place()
        );

        request.records_folder = None;
        let (records, _) = begin(&bucket, &request, "u").await.unwrap();
        assert_eq!(records.place(), "nowhere");
    }

    #[test]
    fn the_folder_follows_the_user() {
        let at = |xdg: Option<&str>, home: Option<&str>| {
            default_records_folder(xdg.map(OsStr::new), home.map(OsStr::new))
        };
        assert_eq!(at(Some("/s"), Some("/h")), Some("/s/kubectl-backup".into()));
        assert_eq!(
            at(Some("s"), Some("/h")),
            Some("/h/.local/state/kubectl-backup".into())
        );
        assert_eq!(at(None, None), None);
    }
}
