//! Where the record of a restore lies, that a name is used once, and that a restore which broke off can be taken up.
//!
//! In comes the record as it is at the beginning, later as it is at the end with Velero's three files; out goes where it was
//! stored. It lies under `restores/` beside its backup; where that may not be written it lies in a folder on this machine,
//! laid out alike, and the caller says so. A claim beside it keeps two runs of one name apart. Later code may rely on the
//! record being there before the first write to the cluster, so that a run that was killed can be told from one that never
//! began: whatever carries the label of a restore whose record is taken up was written by that restore.

use std::{
    ffi::OsStr,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use velero_model::{
    layout::RestoreKeys, name::BackupName, phase::Phase, restore_record::RestoreRecord, time,
};

use super::{RestoreError, RestoreRequest, report::Collected};
use crate::{
    api::ClusterIdentity,
    claim::{self, Claiming, HeldClaim},
    clock,
    storage::{Bucket, Put, StorageError, folder::Folder},
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
    backup_started: Option<Timestamp>,
    request: &RestoreRequest,
    target: &ClusterIdentity,
) -> RestoreRecord {
    RestoreRecord {
        version: VERSION,
        name: request.name.to_string(),
        backup: backup.to_string(),
        backup_started: backup_started.map(time::to_seconds),
        target_cluster_uid: target.uid.clone(),
        target_cluster_name: target.name.clone(),
        tool_version: request.tool_version.clone(),
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
    /// The claim on the name; none where the record lies nowhere.
    held: Option<HeldClaim>,
    resumes: bool,
}

impl Records {
    /// Claims the name and puts the record of the beginning. A record of a restore that did not end well, of the same backup
    /// into the same cluster with the same options, is taken up, with its time of beginning.
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
            held: None,
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
            records.check(bucket, &record).await?;
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
        self.check(place, record).await?;
        let keys = RestoreKeys(&self.name);
        let claim = claim::new_claim();
        record.run_id.clone_from(&claim.run_id);
        let held = match claim::take(place, &keys.claim(), &claim).await? {
            Claiming::Ours(etag) => HeldClaim::hold(place, keys.claim(), claim, etag),
            Claiming::Theirs(holder) => {
                return Err(RestoreError::Running {
                    name: self.name.to_string(),
                    holder,
                });
            }
        };
        // Another run may have ended between the two looks.
        match self.check(place, record).await {
            Ok(found) => {
                self.resumes = found.is_some();
                if let Some(found) = found {
                    record.started = found.started.or(record.started);
                }
            }
            Err(error) => {
                held.release(place).await?;
                return Err(error);
            }
        }
        // Without a condition a put has one outcome.
        place
            .put(&keys.record(), to_bytes(record), Put::default())
            .await
            .map(drop)?;
        self.held = Some(held);
        Ok(())
    }

    /// Whether the name may be used: gives the record that is taken up, if there is one.
    async fn check(
        &self,
        place: &Arc<dyn Bucket>,
        record: &RestoreRecord,
    ) -> Result<Option<RestoreRecord>, RestoreError> {
        let keys = RestoreKeys(&self.name);
        let Some(found) = self.read(place).await? else {
            // Velero keeps no record of ours, but its files have the same names.
            if place.head(&keys.logs()).await?.is_some() || place.head(&keys.results()).await?.is_some() {
                return Err(self.exists(place, "made by Velero"));
            }
            return Ok(None);
        };
        let other = |what: &str| {
            let (backup, phase) = (&found.backup, &found.phase);
            Err(self.exists(place, &format!("of backup {backup}, {phase}{what}")))
        };
        if found.phase == Phase::Completed || found.backup != record.backup {
            return other("");
        }
        if found.backup_started != record.backup_started {
            return other(", which has been taken anew since");
        }
        if found.target_cluster_uid != record.target_cluster_uid {
            return other(&format!(", into cluster {}", found.target_cluster_name));
        }
        let differences = differences(&record.request, &found.request);
        if !differences.is_empty() {
            return Err(RestoreError::OtherRequest {
                name: self.name.to_string(),
                differences,
            });
        }
        Ok(Some(found))
    }

    async fn read(&self, place: &Arc<dyn Bucket>) -> Result<Option<RestoreRecord>, RestoreError> {
        let key = RestoreKeys(&self.name).record();
        let Some((bytes, _)) = place.get(&key, RECORD_MAX).await? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|_| self.exists(place, "its record is damaged"))
    }

    fn exists(&self, place: &Arc<dyn Bucket>, what: &str) -> RestoreError {
        RestoreError::Exists {
            name: self.name.to_string(),
            place: place.describe(),
            what: what.to_owned(),
        }
    }

    /// Whether this run goes on with what an earlier one began.
    pub(super) fn resumes(&self) -> bool {
        self.resumes
    }

    /// Comes back when another run has taken the name over; never otherwise.
    pub(super) async fn taken_over(&self) -> RestoreError {
        match &self.held {
            Some(held) => held.lost().cancelled().await,
            None => std::future::pending().await,
        }
        RestoreError::TakenOver {
            name: self.name.to_string(),
        }
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

    /// Stores the record of the end with its files and gives the name free. What cannot be stored beside the backup is stored
    /// on this machine. Of a restore that was taken over nothing is stored: its record is that of another run.
    pub(super) async fn end(
        &mut self,
        record: &RestoreRecord,
        files: &Collected,
    ) -> Result<(), StorageError> {
        let Some(place) = self.place.clone() else {
            return Ok(());
        };
        let held = self.held.take();
        if held.as_ref().is_some_and(HeldClaim::is_lost) {
            return Ok(());
        }
        let stored = match self.store(&place, record, files).await {
            Err(error) if !self.is_local => {
                self.go_local(error.to_string());
                match self.place.clone() {
                    Some(place) => self.store(&place, record, files).await,
                    None => Err(error),
                }
            }
            stored => stored,
        };
        if let Some(held) = held
            && let Err(error) = held.release(&place).await
        {
            // It goes stale by itself, and belongs to a process that ends now.
            tracing::debug!(%error, "the claim on the restore's name stays");
        }
        stored
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

/// What two requests differ in, for a person.
fn differences(now: &Value, then: &Value) -> Vec<String> {
    let empty = serde_json::Map::new();
    let [now, then] = [now, then].map(|request| request.as_object().unwrap_or(&empty));
    let mut keys: Vec<&String> = now.keys().chain(then.keys()).collect();
    keys.sort();
    keys.dedup();
    let text = |value: Option<&Value>| value.map_or_else(|| "not given".to_owned(), Value::to_string);
    keys.into_iter()
        .filter(|key| now.get(*key) != then.get(*key))
        .map(|key| {
            format!(
                "{key} is {} now and was {}",
                text(now.get(key)),
                text(then.get(key))
            )
        })
        .collect()
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
        Records::begin(bucket, request, begun(&name("b"), None, request, &target(uid))).await
    }

    /// As a process leaves its claim that was killed.
    async fn kill(bucket: &Arc<dyn Bucket>, records: Records) {
        let key = RestoreKeys(&records.name).claim();
        let (bytes, _) = bucket.get(&key, 1 << 20).await.unwrap().unwrap();
        let mut claim: Value = serde_json::from_slice(&bytes).unwrap();
        claim["process"]["startedTicks"] = 1.into();
        let body = serde_json::to_vec(&claim).unwrap();
        drop(records);
        assert!(
            bucket
                .put(&key, body.into(), Put::default())
                .await
                .unwrap()
                .is_stored()
        );
    }

    #[tokio::test]
    async fn a_name_is_used_once_and_a_killed_run_is_taken_up() {
        let bucket: Arc<dyn Bucket> = Arc::new(Memory::new());
        let request = RestoreRequest::new(name("r"));
        let (records, first) = begin(&bucket, &request, "u").await.unwrap();
        assert!(!records.resumes());
        assert!(matches!(
            begin(&bucket, &request, "u").await,
            Err(RestoreError::Running { holder: Some(holder), .. }) if holder.run_id == first.run_id
        ));
        kill(&bucket, records).await;
        let (mut records, mut again) = begin(&bucket, &request, "u").await.unwrap();
        assert!(records.resumes());
        assert_eq!(
            again.started.map(Timestamp::as_second),
            first.started.map(Timestamp::as_second)
        );
        assert_ne!(again.run_id, first.run_id);

        again.phase = Phase::PartiallyFailed;
        end(&mut records, &again).await;
        let (mut records, mut again) = begin(&bucket, &request, "u").await.unwrap();
        assert!(records.resumes(), "what failed may be tried again");

        again.phase = Phase::Completed;
        end(&mut records, &again).await;
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
            Err(RestoreError::Exists { what, .. }) => assert_eq!(what, "of backup b, Completed"),
            other => panic!("{:?}", other.map(|_| ())),
        }
    }

    async fn end(records: &mut Records, record: &RestoreRecord) {
        let files = Report::new().unwrap().finish().unwrap();
        records.end(record, &files).await.unwrap();
    }

    #[tokio::test]
    async fn a_restore_that_is_another_one_is_not_taken_up() {
        let bucket: Arc<dyn Bucket> = Arc::new(Memory::new());
        let mut request = RestoreRequest::new(name("r"));
        let (mut records, mut record) = begin(&bucket, &request, "u").await.unwrap();
        record.phase = Phase::Failed;
        end(&mut records, &record).await;
        match begin(&bucket, &request, "other").await {
            Err(RestoreError::Exists { what, .. }) => {
                assert_eq!(what, "of backup b, Failed, into cluster ctx");
            }
            other => panic!("{:?}", other.map(|_| ())),
        }
        let anew = begun(&name("b"), Some(Timestamp::UNIX_EPOCH), &request, &target("u"));
        assert!(matches!(
            Records::begin(&bucket, &request, anew).await,
            Err(RestoreError::Exists { .. })
        ));
        request.namespace_mappings = [("a".to_owned(), "b".to_owned())].into();
        match begin(&bucket, &request, "u").await {
            Err(RestoreError::OtherRequest { differences, .. }) => {
                assert_eq!(differences, [r#"namespaceMapping is {"a":"b"} now and was {}"#]);
            }
            other => panic!("{:?}", other.map(|_| ())),
        }
        let keys = bucket.list_all("").await.unwrap();
        assert!(
            keys.iter().all(|info| !info.key.ends_with("claim.json")),
            "{keys:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_was_taken_over_leaves_the_record_to_the_other() {
        let bucket: Arc<dyn Bucket> = Arc::new(Memory::new());
        let request = RestoreRequest::new(name("r"));
        let (mut records, mut record) = begin(&bucket, &request, "u").await.unwrap();
        let theirs = serde_json::to_vec(&claim::new_claim()).unwrap();
        let key = RestoreKeys(&request.name).claim();
        assert!(
            bucket
                .put(&key, theirs.into(), Put::default())
                .await
                .unwrap()
                .is_stored()
        );
        assert!(matches!(
            records.taken_over().await,
            RestoreError::TakenOver { .. }
        ));
        let before = records.read(&bucket).await.unwrap();
        record.phase = Phase::Failed;
        end(&mut records, &record).await;
        assert_eq!(records.read(&bucket).await.unwrap(), before);
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
