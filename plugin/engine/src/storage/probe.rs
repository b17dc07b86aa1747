//! What a location can really do, found out with real calls.
//!
//! [`check`] writes, reads, lists and deletes small objects in a folder of its own and says of each ability whether
//! it is there, and why not. The folder lies under `metadata/`, which Velero allows at the first level and never
//! reads; anything else there would make a shared BackupStorageLocation unavailable. It is removed at the end,
//! all versions included. [`conditional_writes_work`] is the part that a backup needs before it relies on a claim.

use bytes::Bytes;
use futures::TryStreamExt;
use uuid::Uuid;

use super::bucket::{Bucket, Put, PutOutcome, delete_all};
use super::error::StorageError;

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The location can do it.
    Passed,
    /// It cannot, for this reason.
    Failed(String),
    /// It was not tried, for this reason.
    Skipped(String),
}

/// One ability and whether it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// `write`, `read`, `list` ...
    pub name: &'static str,
    /// Whether the location can do it.
    pub outcome: Outcome,
    /// What was done.
    pub detail: &'static str,
}

/// Larger than a part, so that an S3 location has to do a multipart upload.
const LARGE: usize = 8 * 1024 * 1024 + 1024;

const BODY: &[u8] = b"kubectl backup location check";

/// The names and descriptions of all checks, in order.
const CHECKS: [(&str, &str); 8] = [
    ("list", "list the keys of a folder"),
    ("write", "put a small object"),
    ("read", "get it back, the same bytes"),
    ("ranged read", "get a part of it"),
    (
        "put if absent",
        "put it again only if absent; the store must refuse",
    ),
    (
        "put if unchanged",
        "replace one state of it once; the second time the store must refuse",
    ),
    ("multipart", "upload 8 MiB in parts and read them back"),
    ("delete", "delete it; it must be gone"),
];

/// A folder for one check, legal at Velero's first level.
fn folder() -> String {
    format!("metadata/kubectl-backup-check-{}/", Uuid::new_v4().simple())
}

/// Proves each ability with real calls and leaves nothing behind.
pub async fn check(bucket: &dyn Bucket) -> Vec<Check> {
    let folder = folder();
    let key = format!("{folder}object");
    let mut checks = Vec::new();
    let mut skipped = None;
    for (name, detail) in CHECKS {
        if bucket.read_only() && name != "list" {
            skipped = Some("the location is read-only");
        }
        let outcome = match skipped {
            Some(reason) => Outcome::Skipped(reason.to_owned()),
            None => match run(bucket, name, &folder, &key).await {
                Ok(()) => Outcome::Passed,
                Err(reason) => Outcome::Failed(reason),
            },
        };
        if name == "write" && outcome != Outcome::Passed {
            skipped = skipped.or(Some("nothing could be written"));
        }
        checks.push(Check {
            name,
            outcome,
            detail,
        });
    }
    if !bucket.read_only() {
        clean(bucket, &folder, &key).await;
    }
    checks
}

async fn run(bucket: &dyn Bucket, name: &str, folder: &str, key: &str) -> Result<(), String> {
    match name {
        "list" => list(bucket, folder).await,
        "write" => write(bucket, key).await,
        "read" => read(bucket, key).await,
        "ranged read" => read_range(bucket, key).await,
        "put if absent" => if_absent(bucket, key).await,
        "put if unchanged" => if_unchanged(bucket, key).await,
        "multipart" => multipart(bucket, &format!("{folder}large")).await,
        _ => delete(bucket, folder, key).await,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn text(error: StorageError) -> String {
    error.to_string()
}

async fn list(bucket: &dyn Bucket, folder: &str) -> Result<(), String> {
    bucket.list_all(folder).await.map(drop).map_err(text)
}

async fn write(bucket: &dyn Bucket, key: &str) -> Result<(), String> {
    bucket
        .put(key, Bytes::from_static(BODY), Put::default())
        .await
        .map(drop)
        .map_err(text)
}

async fn read(bucket: &dyn Bucket, key: &str) -> Result<(), String> {
    match bucket.get(key, BODY.len() as u64).await.map_err(text)? {
        Some((body, _)) if body == BODY => Ok(()),
        Some(_) => Err("other bytes came back than were written".into()),
        None => Err("the object just written is not there".into()),
    }
}

async fn read_range(bucket: &dyn Bucket, key: &str) -> Result<(), String> {
    let part = bucket.get_range(key, 8, 6).await.map_err(text)?;
    if BODY.get(8..14) == Some(&part[..]) {
        Ok(())
    } else {
        Err("another part came back than was asked for".into())
    }
}

async fn if_absent(bucket: &dyn Bucket, key: &str) -> Result<(), String> {
    match bucket
        .put(key, Bytes::from_static(b"a second writer"), Put::if_absent())
        .await
        .map_err(text)?
    {
        PutOutcome::AlreadyThere => read(bucket, key).await,
        _ => Err(
            "the store overwrites instead of refusing: two backups under one name can destroy each other"
                .into(),
        ),
    }
}

async fn if_unchanged(bucket: &dyn Bucket, key: &str) -> Result<(), String> {
    let Some((_, etag)) = bucket.get(key, BODY.len() as u64).await.map_err(text)? else {
        return Err("the object just written is not there".into());
    };
    let first = bucket
        .put(key, Bytes::from_static(b"first"), Put::if_match(etag.clone()))
        .await
        .map_err(text)?;
    if !first.is_stored() {
        return Err("the store refuses a replacement of what is there".into());
    }
    match bucket
        .put(key, Bytes::from_static(b"second"), Put::if_match(etag))
        .await
        .map_err(text)?
    {
        PutOutcome::Changed => Ok(()),
        _ => Err("the store overwrites what has changed meanwhile".into()),
    }
}

async fn multipart(bucket: &dyn Bucket, key: &str) -> Result<(), String> {
    let block = Bytes::from(
        (0..LARGE)
            .map(|place| u8::try_from(place % 251).unwrap_or_default())
            .collect::<Vec<_>>(),
    );
    let mut upload = bucket.upload(key, Put::if_absent()).await.map_err(text)?;
    upload.write(block.clone()).await.map_err(text)?;
    if !upload.complete().await.map_err(text)?.is_stored() {
        return Err("the store refuses a new key as if it were there already".into());
    }
    let Some(stream) = bucket.stream(key).await.map_err(text)? else {
        return Err("the object just uploaded is not there".into());
    };
    let mut rest = block;
    let mut chunks = stream.bytes;
    while let Some(chunk) = chunks.try_next().await.map_err(text)? {
        if chunk.len() > rest.len() || rest.split_to(chunk.len()) != chunk {
            return Err("other bytes came back than were uploaded".into());
        }
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err("fewer bytes came back than were uploaded".into())
    }
}

async fn delete(bucket: &dyn Bucket, folder: &str, key: &str) -> Result<(), String> {
    bucket.delete(key).await.map_err(text)?;
    if bucket.head(key).await.map_err(text)?.is_some() {
        return Err("the deleted object is still there".into());
    }
    let left = bucket.list_all(folder).await.map_err(text)?;
    if left.iter().any(|object| object.key == key) {
        Err("the deleted object is still listed".into())
    } else {
        Ok(())
    }
}

/// Removes what the check wrote. What cannot be removed was reported by the check of deletion already.
async fn clean(bucket: &dyn Bucket, folder: &str, key: &str) {
    let listed = bucket
        .list_all(folder)
        .await
        .unwrap_or_default()
        .into_iter()
        .map(|object| object.key);
    // Where listing is forbidden the known names are left.
    let known = [key.to_owned(), format!("{folder}large")];
    let keys = listed.chain(known).collect::<std::collections::BTreeSet<_>>();
    for error in delete_all(bucket, keys.into_iter().collect()).await {
        tracing::debug!(%error, "could not clean up after a check");
    }
    for upload in bucket.list_uploads(folder).await.unwrap_or_default() {
        if let Err(error) = bucket.abort_upload(&upload).await {
            tracing::debug!(%error, "could not clean up after a check");
        }
    }
    for version in bucket.list_versions(folder).await.unwrap_or_default() {
        if let Err(error) = bucket.delete_version(&version.key, &version.version).await {
            tracing::debug!(%error, "could not clean up after a check");
        }
    }
}

/// Whether the store honours put-if-absent, found out by writing one key twice.
pub async fn conditional_writes_work(bucket: &dyn Bucket) -> Result<bool, StorageError> {
    let folder = folder();
    let key = format!("{folder}object");
    let first = bucket
        .put(&key, Bytes::from_static(b"first"), Put::if_absent())
        .await;
    let second = match first {
        Ok(_) => {
            bucket
                .put(&key, Bytes::from_static(b"second"), Put::if_absent())
                .await
        }
        Err(error) => Err(error),
    };
    clean(bucket, &folder, &key).await;
    match second {
        Ok(outcome) => Ok(outcome == PutOutcome::AlreadyThere),
        Err(StorageError::Unsupported { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::*;

    #[tokio::test]
    async fn a_sound_location_passes_and_stays_empty() {
        let memory = Memory::new();
        let checks = check(&memory).await;
        assert!(
            checks.iter().all(|check| check.outcome == Outcome::Passed),
            "{checks:?}"
        );
        assert!(conditional_writes_work(&memory).await.unwrap());
        assert!(memory.list_all("").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_read_only_location_is_listed_and_the_rest_skipped() {
        let memory = Memory::new();
        memory.set_read_only();
        let checks = check(&memory).await;
        assert_eq!(checks[0].outcome, Outcome::Passed);
        assert!(
            checks[1..]
                .iter()
                .all(|check| matches!(check.outcome, Outcome::Skipped(_))),
            "{checks:?}"
        );
    }
}
