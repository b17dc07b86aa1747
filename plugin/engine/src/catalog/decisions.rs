//! Decisions about a stored backup: hold, release, another expiry.
//!
//! In comes a name and what was decided; out goes a note beside the backup, put once and never changed. A decision is the
//! newest of its kind by its time, so a clock that runs behind must not lose one: a note is dated after all that are there.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use velero_model::{
    layout::BackupKeys,
    name::BackupName,
    note::{Decision, Effective, Note},
    time,
};

use super::{error::CatalogError, folder, open::open};
use crate::{
    clock,
    storage::{Bucket, Put},
};

/// What holds for a backup after a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// All decisions together.
    pub effective: Effective,
    /// When it expires, whatever a hold says.
    pub expiration: Option<Timestamp>,
    /// When it was begun.
    pub created: Option<Timestamp>,
}

/// Writes a decision about a backup down. `decide` sees what holds so far, and when the backup was begun.
///
/// # Errors
/// As [`open`]; a read-only location, storage faults.
pub async fn decide(
    bucket: &Arc<dyn Bucket>,
    name: &BackupName,
    author: Option<String>,
    decision: impl FnOnce(&Decided) -> Decision,
) -> Result<Decided, CatalogError> {
    let backup = open(bucket, name).await?;
    let keys = BackupKeys(name);
    let before = Decided {
        effective: backup.notes().clone(),
        expiration: backup
            .notes()
            .expiration
            .unwrap_or(backup.backup().status.expiration),
        created: backup.backup().created(),
    };
    let mut known: Vec<String> = backup
        .files()
        .iter()
        .filter(|file| keys.is_note(&file.key))
        .map(|file| file.key.clone())
        .collect();
    let newest = folder::newest_note(bucket, &known).await?;
    let at = newest
        .and_then(|newest| newest.checked_add(SignedDuration::from_secs(1)).ok())
        .map_or_else(clock::now, |after| after.max(clock::now()));
    let note = Note {
        version: 1,
        id: uuid::Uuid::new_v4().simple().to_string()[..12].to_owned(),
        time: time::to_seconds(at),
        author,
        decision: decision(&before),
    };
    let key = keys.note(note.time, &note.id);
    let body = serde_json::to_vec_pretty(&note).map_err(|error| CatalogError::File {
        key: key.clone(),
        detail: error.to_string(),
    })?;
    if !bucket.put(&key, body.into(), Put::if_absent()).await?.is_stored() {
        return Err(CatalogError::File {
            key,
            detail: "it is there already".to_owned(),
        });
    }
    known.push(key);
    let effective = folder::notes(bucket, &known).await?;
    Ok(Decided {
        expiration: effective.expiration.unwrap_or(backup.backup().status.expiration),
        effective,
        created: before.created,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::fixture::{Fixture, name};

    #[tokio::test]
    async fn decisions_add_up_and_the_newest_wins_even_within_a_second() {
        let fixture = Fixture::new();
        fixture.ours("b", 3).await;
        let make = async |decision: Decision| {
            decide(&fixture.bucket(), &name("b"), Some("me".into()), |_| decision)
                .await
                .unwrap()
        };
        let hold = |reason: &str| Decision::Hold {
            reason: Some(reason.to_owned()),
        };
        assert_eq!(
            make(hold("audit")).await.effective.hold,
            Some(Some("audit".into()))
        );
        assert_eq!(make(Decision::Release).await.effective.hold, None);
        assert_eq!(
            make(hold("again")).await.effective.hold,
            Some(Some("again".into()))
        );
        let at: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        let decided = make(Decision::Expire { expiration: Some(at) }).await;
        assert_eq!(
            (decided.expiration, decided.effective.hold.is_some()),
            (Some(at), true)
        );
        assert_eq!(make(Decision::Expire { expiration: None }).await.expiration, None);
        let notes = fixture.keys("backups/b/b-note-").await;
        assert_eq!(notes.len(), 5, "{notes:?}");
    }

    #[tokio::test]
    async fn there_is_nothing_to_decide_about_a_backup_that_is_not_there() {
        let fixture = Fixture::new();
        let decided = decide(&fixture.bucket(), &name("b"), None, |_| Decision::Release).await;
        assert!(matches!(decided, Err(CatalogError::NotFound { .. })));
        assert!(fixture.keys("").await.is_empty());
    }
}
